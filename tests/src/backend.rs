//! A real Dovecot that keeps the mail, on several addresses, so that it is several backends.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use crate::debian13;
use crate::dovecot24;
use crate::lab::Lab;
use crate::process::Process;
use crate::wait::{LIMIT, wait_for};

/// Where backends answer IMAP.
pub const IMAP_PORT: u16 = 14300;
/// Where backends answer POP3.
pub const POP3_PORT: u16 = 11000;
/// Where backends answer LMTP.
pub const LMTP_PORT: u16 = 12400;
/// Where backends answer Submission, in a test that makes them.
pub const SUBMISSION_PORT: u16 = 15870;
/// Where backends answer ManageSieve, in a test that makes them.
pub const SIEVE_PORT: u16 = 14190;
/// Where backends answer doveadm.
pub const DOVEADM_PORT: u16 = 12425;
/// The password of doveadm servers.
pub const DOVEADM_PASSWORD: &str = "secret";

/// Backends of a lab: one Dovecot that listens on several addresses.
///
/// Each address keeps its mail in a folder of its own below the user's, so the file system tells afterwards which
/// backends a user's sessions and mails have been on, by whatever protocol.
#[derive(Debug)]
pub struct Backend {
    mail: PathBuf,
    log: PathBuf,
    addresses: Vec<IpAddr>,
    _process: Process,
}

impl Backend {
    /// Starts Dovecot 2.3 on `.11`, `.12`, …, so many, and waits until it answers.
    ///
    /// # Panics
    /// If it does not.
    pub fn start(lab: &Arc<Lab>, count: u8) -> Self {
        Self::start_also(lab, count, "")
    }

    /// The same with more settings.
    ///
    /// # Panics
    /// If it does not answer.
    pub fn start_also(lab: &Arc<Lab>, count: u8, settings: &str) -> Self {
        let addresses = addresses(lab, 11, count);
        let folder = lab.folder().join("backend");
        let text = configuration(&addresses, &folder) + settings;
        Self::start_with(&folder, addresses, &text, |conf| {
            let mut command = Command::new("dovecot");
            command.arg("-c").arg(conf);
            command
        })
    }

    /// Starts Dovecot 2.4 on `.21`, `.22`, …, so many, and waits until it answers.
    ///
    /// # Panics
    /// If it does not.
    pub fn start_24(lab: &Arc<Lab>, count: u8) -> Self {
        Self::start_24_also(lab, count, "")
    }

    /// The same with more settings.
    ///
    /// # Panics
    /// If it does not answer.
    pub fn start_24_also(lab: &Arc<Lab>, count: u8, settings: &str) -> Self {
        let addresses = addresses(lab, 21, count);
        let folder = lab.folder().join("backend24");
        let text = dovecot24::backends(&addresses) + settings;
        Self::start_with(&folder, addresses, &text, |_| {
            let mut command = debian13::command(&folder, "dovecot");
            command.arg("-c").arg(Path::new(debian13::MOUNTED).join("dovecot.conf"));
            command
        })
    }

    fn start_with(folder: &Path, addresses: Vec<IpAddr>, text: &str, dovecot: impl FnOnce(&Path) -> Command) -> Self {
        let mail = folder.join("mail");
        fs::create_dir_all(&mail).expect("mail folder");
        let owner = run_id("dovecot");
        std::os::unix::fs::chown(&mail, Some(owner.0), Some(owner.1)).expect("mail folder's owner");
        let configuration = folder.join("dovecot.conf");
        fs::write(&configuration, text).expect("configuration");
        let mut command = dovecot(&configuration);
        let process = Process::start("the backends' Dovecot", command.arg("-F"), &folder.join("output.log"));
        wait_for("the backends to answer", LIMIT, || {
            TcpStream::connect(SocketAddr::new(addresses[0], IMAP_PORT)).map(drop)
        });
        Self { mail, log: folder.join("dovecot.log"), addresses, _process: process }
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

    /// All IMAP sessions so far, in the order in which they began.
    pub fn sessions(&self) -> Vec<Session> {
        let bytes = fs::read(&self.log).unwrap_or_default();
        read_sessions(&String::from_utf8_lossy(&bytes))
    }

    /// The addresses on which this user has logged in by a service, such as `submission`.
    ///
    /// # Panics
    /// If the log is not as Dovecot writes it.
    pub fn logins(&self, service: &str, user: &str) -> BTreeSet<IpAddr> {
        let bytes = fs::read(&self.log).unwrap_or_default();
        let log = String::from_utf8_lossy(&bytes);
        let user = format!("user=<{user}>");
        // 2.3 and 2.4.
        let begins = [format!(" {service}-login: Info: Login: "), format!(" {service}-login: Info: Logged in: ")];
        let lines = log.lines().filter(|line| begins.iter().any(|begin| line.contains(begin)) && line.contains(&user));
        let ip = |line: &str| line.split(" lip=").nth(1)?.split(',').next()?.parse().ok();
        lines.map(|line| ip(line).unwrap_or_else(|| panic!("a login without an address: {line}"))).collect()
    }

    /// How many mails this user has on a backend.
    pub fn mails(&self, user: &str, ip: IpAddr) -> usize {
        let folder = self.mail.join(user).join(ip.to_string());
        ["new", "cur"].iter().map(|part| fs::read_dir(folder.join(part)).into_iter().flatten().count()).sum()
    }
}

fn addresses(lab: &Lab, first: u8, count: u8) -> Vec<IpAddr> {
    (0..count).map(|index| lab.ip(first + index).into()).collect()
}

/// Of a Dovecot 2.3.
fn configuration(addresses: &[IpAddr], folder: &Path) -> String {
    let listen = addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
    let folder_text = folder.display();
    let mail_text = folder.join("mail");
    let mail_text = mail_text.display();
    format!(
        r#"listen = {listen}
base_dir = {folder_text}/run
state_dir = {folder_text}/state
log_path = {folder_text}/dovecot.log
log_timestamp = "%Y-%m-%d %H:%M:%S.%{{usecs}} "
imap_logout_format = in=%i out=%o session=<%{{session}}>
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
service doveadm {{
  inet_listener {{
    port = {DOVEADM_PORT}
  }}
}}
doveadm_password = {DOVEADM_PASSWORD}
passdb {{
  driver = static
  args = nopassword=y
}}
userdb {{
  driver = static
  args = uid=dovecot gid=dovecot home={mail_text}/%u
}}
"#
    )
}

/// An IMAP session, as the backends' log tells of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Session {
    /// Whose.
    pub user: String,
    /// On which backend.
    pub ip: IpAddr,
    /// When he was logged in, in microseconds. Texts of one length, so they compare as times do.
    pub begin: String,
    /// When it ended, if it has.
    pub end: Option<String>,
}

impl Session {
    /// Whether there was a moment in which both were there.
    pub fn overlaps(&self, other: &Self) -> bool {
        let begins_before_end = |a: &Self, b: &Self| b.end.as_ref().is_none_or(|end| a.begin < *end);
        begins_before_end(self, other) && begins_before_end(other, self)
    }
}

/// The pairs of sessions in which a user was on two backends at once.
pub fn on_two_backends(sessions: &[Session]) -> Vec<(&Session, &Session)> {
    let mut by_user: BTreeMap<&str, Vec<&Session>> = BTreeMap::new();
    for session in sessions {
        by_user.entry(&session.user).or_default().push(session);
    }
    let mut pairs = Vec::new();
    for sessions in by_user.values() {
        for (place, first) in sessions.iter().enumerate() {
            let others = sessions[place + 1..].iter().filter(|other| other.ip != first.ip && other.overlaps(first));
            pairs.extend(others.map(|other| (*first, *other)));
        }
    }
    pairs
}

/// The log says `TIME imap-login: Info: Login: user=<NAME>, …, lip=IP, …, session=<ID>` when one begins, and
/// `TIME imap…: Info: … in=N out=N session=<ID>` when it ends. What is before the `Info:` is no help: Dovecot's log
/// service loses it at times. The two lines are of two processes, so the second may be written first.
fn read_sessions(log: &str) -> Vec<Session> {
    let mut sessions: Vec<Session> = Vec::new();
    let mut by_id: BTreeMap<&str, usize> = BTreeMap::new();
    let mut ended_first: BTreeMap<&str, &str> = BTreeMap::new();
    let between = |text: &'_ str, before: &str, after: &str| -> Option<(usize, usize)> {
        let start = text.find(before)? + before.len();
        Some((start, start + text[start..].find(after)?))
    };
    for line in log.lines() {
        let Some((time, text)) = line.split_at_checked(TIME_BYTES) else { continue };
        let part = |before, after| between(text, before, after).map(|(start, end)| &text[start..end]);
        // 2.3 and 2.4.
        if [" imap-login: Info: Login: ", " imap-login: Info: Logged in: "].iter().any(|words| text.starts_with(words))
        {
            let (Some(user), Some(ip), Some(id)) = (part("user=<", ">"), part(" lip=", ","), part(" session=<", ">"))
            else {
                panic!("a login without a user, an address or a session: {line}");
            };
            let ip = ip.parse().expect("lip");
            by_id.insert(id, sessions.len());
            let end = ended_first.remove(id).map(Into::into);
            sessions.push(Session { user: user.into(), ip, begin: time.into(), end });
        } else if text.starts_with(" imap") && text.contains(" in=") {
            let id = part(" session=<", ">").unwrap_or_else(|| panic!("an end without a session: {line}"));
            match by_id.get(id) {
                Some(&number) => sessions[number].end = Some(time.into()),
                None => drop(ended_first.insert(id, time)),
            }
        }
    }
    assert!(ended_first.is_empty(), "the ends of unknown sessions: {ended_first:?}");
    sessions
}

/// `2026-11-22 04:17:41.123456`
const TIME_BYTES: usize = 26;

/// The user and group number of a user of the system.
fn run_id(name: &str) -> (u32, u32) {
    let users = fs::read_to_string("/etc/passwd").expect("/etc/passwd");
    let fields = users.lines().map(|line| line.split(':').collect::<Vec<_>>()).find(|fields| fields[0] == name);
    let fields = fields.unwrap_or_else(|| panic!("no user {name}"));
    (fields[2].parse().expect("uid"), fields[3].parse().expect("gid"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOG: &str = "\
2026-11-22 04:17:41.000001 imap-login: Info: Login: user=<jane>, method=PLAIN, rip=127.0.0.1, lip=127.0.0.11, mpid=7, session=<a>
2026-11-22 04:17:42.000000 imap-login: Info: Login: user=<joe>, method=PLAIN, rip=127.0.0.1, lip=127.0.0.12, mpid=8, session=<b>
2026-11-22 04:17:43.000000 imap: Info: Disconnected: Connection closed (NOOP finished 0.1 secs ago) in=9 out=9 session=<a>
2026-11-22 04:17:43.000001 imap-login: Info: Login: user=<jane>, method=PLAIN, rip=127.0.0.1, lip=127.0.0.12, mpid=9, session=<c>
";

    #[test]
    fn sessions_are_read_from_the_log() {
        let sessions = read_sessions(LOG);
        let ends: Vec<_> = sessions.iter().map(|session| (session.user.as_str(), session.end.is_some())).collect();
        assert_eq!(ends, [("jane", true), ("joe", false), ("jane", false)]);
        assert_eq!(on_two_backends(&sessions), []);
        // A microsecond earlier, and they meet; what has not ended lasts.
        let early = LOG.replace("43.000001", "42.999999");
        assert_eq!(on_two_backends(&read_sessions(&early)).len(), 1);
        // The processes' lines may change places.
        let mut lines: Vec<&str> = LOG.lines().collect();
        lines.swap(0, 2);
        assert_eq!(read_sessions(&lines.join("\n"))[1].end.as_deref(), Some("2026-11-22 04:17:43.000000"));
        let open = LOG.replace(" imap: ", " pop3: ");
        assert_eq!(on_two_backends(&read_sessions(&open)).len(), 1);
    }
}
