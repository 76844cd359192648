//! From a configuration of Dovecot 2.3 to a director.conf, and to what Dovecot 2.4 must be told in its own file.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use super::print::quoted_if_needed;
use super::surroundings::Surroundings;
use super::{Files, Settings, SettingsError, Socket, reader, values};
use crate::contract::Role;

/// What becomes of a configuration of Dovecot 2.3.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conversion {
    /// The director.conf.
    pub director_conf: String,
    /// What a dovecot.conf of 2.4 needs to ask this director: to be put at its end.
    pub dovecot_conf: String,
    /// What was odd in the file that was read, and what was changed.
    pub warnings: Vec<SettingsError>,
}

impl Conversion {
    /// Reads a configuration of Dovecot 2.3 and all that it includes, and converts it.
    ///
    /// The settings of the director.conf are those of the configuration, but for sockets directly in `login/`, which
    /// move to `login/ext/`: Dovecot removes what is not its own from that folder (overview, "Living beside a Dovecot
    /// master").
    ///
    /// # Errors
    /// The first thing in it that concerns a director and is wrong.
    pub fn of(path: &Path, files: &mut dyn Files) -> Result<Self, SettingsError> {
        let (mut settings, around) = reader::read(path, files)?;
        let mut warnings = std::mem::take(&mut settings.warnings);
        let dovecot_conf = dovecot_conf(&settings, &around);
        for listener in &mut settings.listeners {
            if let Socket::File { path, fifo: false, .. } = &mut listener.socket
                && let Some(moved) = out_of_dovecots_way(&settings.base_dir, path)
            {
                warnings.push(SettingsError {
                    place: listener.place.clone(),
                    message: format!("{} becomes {}", path.display(), moved.display()),
                    remedy: "Dovecot removes sockets of others from login/, but leaves folders in it alone".into(),
                });
                *path = moved;
            }
        }
        let mut director_conf = String::from("# The director, in Dovecot 2.3's settings.\n\n");
        director_conf.push_str(&settings.to_text());
        Ok(Self { director_conf, dovecot_conf, warnings })
    }
}

/// Where a socket goes that is directly in `login/`.
fn out_of_dovecots_way(base_dir: &Path, path: &Path) -> Option<PathBuf> {
    let name = path.file_name()?;
    let login = base_dir.join("login");
    (base_dir.join(path).parent() == Some(&login)).then(|| path.with_file_name("ext").join(name))
}

/// What login processes, whose root is `login/`, call a socket of the director: now, and after the conversion.
fn login_sockets(settings: &Settings) -> Vec<(String, String)> {
    let login = settings.base_dir.join("login");
    let of_login = settings.listeners.iter().filter(|listener| listener.role == Role::Login);
    let sockets = of_login.filter_map(|listener| {
        let Socket::File { path, .. } = &listener.socket else { return None };
        let name = |path: &Path| Some(settings.base_dir.join(path).strip_prefix(&login).ok()?.to_str()?.to_owned());
        let now = name(path)?;
        let then = match out_of_dovecots_way(&settings.base_dir, path) {
            Some(moved) => name(&moved)?,
            None => now.clone(),
        };
        Some((now, then))
    });
    sockets.collect()
}

/// The userdb sockets, as `auth_socket_path` names them.
fn userdb_sockets(settings: &Settings) -> Vec<&str> {
    let of_userdb = settings.listeners.iter().filter(|listener| listener.role == Role::Userdb);
    let sockets = of_userdb.filter_map(|listener| match &listener.socket {
        Socket::File { path, .. } => path.to_str(),
        Socket::Inet { .. } => None,
    });
    sockets.collect()
}

fn dovecot_conf(settings: &Settings, around: &Surroundings) -> String {
    let mut text = String::from(
        "# Dovecot 2.4 and the director: put these lines at the end of dovecot.conf. All director_* settings and\n\
         # 'service director' go; passdbs are yours to convert, and still need the field proxy=yes.\n",
    );
    // Writing to a String cannot fail.
    let _ = logins(&mut text, settings, around);
    let _ = others(&mut text, settings, around);
    text
}

fn logins(text: &mut String, settings: &Settings, around: &Surroundings) -> std::fmt::Result {
    let sockets = login_sockets(settings);
    let mut found = false;
    for (service, command) in around.executables() {
        let mut words = command.split_whitespace();
        let (Some(program), arguments) = (words.next(), words.collect::<Vec<_>>()) else { continue };
        let asks_us = |word: &&str| sockets.iter().find(|(now, _)| now == word).map(|(_, then)| then.as_str());
        if !arguments.iter().any(|word| asks_us(word).is_some()) {
            continue;
        }
        let arguments: Vec<_> = arguments.iter().map(|word| asks_us(word).unwrap_or(word)).collect();
        login(text, service, program, &arguments.join(" "))?;
        found = true;
    }
    if let (false, [(_, then), ..]) = (found, sockets.as_slice()) {
        writeln!(
            text,
            "# The same for the other login services, such as pop3-login and submission-login, if they are used."
        )?;
        login(text, "imap-login", "imap-login", then)?;
    }
    Ok(())
}

fn login(text: &mut String, service: &str, program: &str, arguments: &str) -> std::fmt::Result {
    let command = format!("{program} {arguments}");
    // Those that have served their one client do not hear of kicks any more.
    writeln!(
        text,
        "service {service} {{\n  executable = {}\n  restart_request_count = unlimited\n}}",
        quoted_if_needed(&command)
    )
}

fn others(text: &mut String, settings: &Settings, around: &Surroundings) -> std::fmt::Result {
    if around.top("lmtp_proxy").is_some_and(|value| values::boolean(value) == Ok(true)) {
        writeln!(text, "lmtp_proxy = yes")?;
    }
    let sockets = userdb_sockets(settings);
    for protocol in ["lmtp", "doveadm"] {
        let socket = match around.auth_socket(protocol) {
            Some(path) => sockets.iter().find(|socket| settings.base_dir.join(socket) == settings.base_dir.join(path)),
            None if around.is_empty() => sockets.first(),
            None => None,
        };
        if let Some(socket) = socket {
            let socket = quoted_if_needed(socket);
            writeln!(text, "protocol {protocol} {{\n  auth_socket_path = {socket}\n}}")?;
        }
    }
    let number = |key| around.top(key).and_then(|value| values::port(value).ok()).filter(|port| *port > 0);
    if let Some(port) = number("doveadm_port").or_else(|| number("doveadm_proxy_port")) {
        writeln!(text, "# 2.4's name of doveadm_proxy_port.\ndoveadm_port = {port}")?;
    }
    if !settings.run_as.is_root() {
        writeln!(text, "# The director ends sessions through this one.")?;
        let user = quoted_if_needed(&settings.run_as.user);
        writeln!(text, "service anvil {{\n  unix_listener anvil {{\n    mode = 0600\n    user = {user}\n  }}\n}}")?;
    }
    Ok(())
}
