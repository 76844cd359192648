//! A real Dovecot that keeps the mail, on several addresses, so that it is several backends.

use std::collections::BTreeSet;
use std::fs;
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;

use crate::lab::Lab;
use crate::process::Process;
use crate::wait::{LIMIT, wait_for};

/// Where backends answer IMAP.
pub const IMAP_PORT: u16 = 14300;
/// Where backends answer POP3.
pub const POP3_PORT: u16 = 11000;
/// Where backends answer LMTP.
pub const LMTP_PORT: u16 = 12400;

/// The backends of a lab: one Dovecot that listens on `.11`, `.12`, ….
///
/// Each address keeps its mail in a folder of its own below the user's, so the file system tells afterwards which
/// backends a user's sessions and mails have been on, by whatever protocol.
#[derive(Debug)]
pub struct Backend {
    mail: PathBuf,
    addresses: Vec<IpAddr>,
    _process: Process,
}

impl Backend {
    /// Starts Dovecot on that many addresses and waits until it answers.
    ///
    /// # Panics
    /// If it does not.
    pub fn start(lab: &Arc<Lab>, count: u8) -> Self {
        let addresses: Vec<IpAddr> = (0..count).map(|index| lab.ip(11 + index).into()).collect();
        let folder = lab.folder().join("backend");
        let mail = folder.join("mail");
        fs::create_dir_all(&mail).expect("mail folder");
        let owner = run_id("dovecot");
        std::os::unix::fs::chown(&mail, Some(owner.0), Some(owner.1)).expect("mail folder's owner");
        let configuration = folder.join("dovecot.conf");
        let listen = addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
        let folder_text = folder.display();
        let mail_text = mail.display();
        let text = format!(
            r#"listen = {listen}
base_dir = {folder_text}/run
state_dir = {folder_text}/state
log_path = {folder_text}/dovecot.log
log_timestamp = "%Y-%m-%d %H:%M:%S.%{{usecs}} "
instance_name = backend
protocols = imap pop3 lmtp
ssl = no
disable_plaintext_auth = no
mail_location = maildir:{mail_text}/%u/%{{lip}}
first_valid_uid = 1
mail_max_userip_connections = 0
service imap-login {{
  service_count = 0
  process_min_avail = 1
  inet_listener imap {{
    port = {IMAP_PORT}
  }}
  inet_listener imaps {{
    port = 0
  }}
}}
service imap {{
  process_limit = 2000
}}
service pop3-login {{
  service_count = 0
  inet_listener pop3 {{
    port = {POP3_PORT}
  }}
  inet_listener pop3s {{
    port = 0
  }}
}}
service pop3 {{
  process_limit = 2000
}}
service lmtp {{
  inet_listener lmtp {{
    port = {LMTP_PORT}
  }}
}}
passdb {{
  driver = static
  args = nopassword=y
}}
userdb {{
  driver = static
  args = uid=dovecot gid=dovecot home={mail_text}/%u
}}
"#
        );
        fs::write(&configuration, text).expect("configuration");
        let mut command = Command::new("dovecot");
        command.arg("-F").arg("-c").arg(&configuration);
        let process = Process::start("the backends' Dovecot", &mut command, &folder.join("output.log"));
        wait_for("the backends to answer", LIMIT, || {
            TcpStream::connect(SocketAddr::new(addresses[0], IMAP_PORT)).map(drop)
        });
        Self { mail, addresses, _process: process }
    }

    /// The addresses.
    pub fn addresses(&self) -> &[IpAddr] {
        &self.addresses
    }

    /// The addresses on which this user's mail has been touched.
    pub fn visited_by(&self, user: &str) -> BTreeSet<IpAddr> {
        let folders = fs::read_dir(self.mail.join(user)).into_iter().flatten().flatten();
        folders.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
    }

    /// How many mails this user has on a backend.
    pub fn mails(&self, user: &str, ip: IpAddr) -> usize {
        let folder = self.mail.join(user).join(ip.to_string());
        ["new", "cur"].iter().map(|part| fs::read_dir(folder.join(part)).into_iter().flatten().count()).sum()
    }
}

/// The user and group number of a user of the system.
fn run_id(name: &str) -> (u32, u32) {
    let users = fs::read_to_string("/etc/passwd").expect("/etc/passwd");
    let fields = users.lines().map(|line| line.split(':').collect::<Vec<_>>()).find(|fields| fields[0] == name);
    let fields = fields.unwrap_or_else(|| panic!("no user {name}"));
    (fields[2].parse().expect("uid"), fields[3].parse().expect("gid"))
}
