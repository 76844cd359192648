//! Settings: Dovecot 2.3's names and syntax (settings and hashes, "Settings" and "Syntax").
//!
//! [`Settings::load`] reads a file (a whole dovecot.conf, or one with nothing but a director's settings),
//! [`Configuration::new`] puts addresses for names and finds out which member of the ring we are. Whatever is wrong
//! comes back as a [`SettingsError`] with file, line and what to do about it.

mod configuration;
mod convert;
mod describe;
mod draft;
mod print;
mod reader;
mod surroundings;
mod syntax;
mod values;

#[cfg(test)]
mod configuration_tests;
#[cfg(test)]
mod convert_tests;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::contract::Role;
use crate::hash::UsernameHash;
use crate::wire::ring::MINOR;

pub use convert::Conversion;

/// Everything that the configuration says, with names not yet resolved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// director_servers: the members of the ring; empty = standalone.
    pub servers: Vec<ServerSetting>,
    /// director_mail_servers: the backends that a ring starts with.
    pub mail_servers: Vec<MailServerSetting>,
    /// All that the running core needs as it is.
    pub tuning: Tuning,
    /// base_dir: relative socket paths start here.
    pub base_dir: PathBuf,
    /// log_path: `None` = standard error (also for `/dev/stderr`). `syslog` is `Some("syslog")`.
    pub log_path: Option<PathBuf>,
    /// info_log_path; `None` = as log_path. `/dev/stderr` = standard error.
    pub info_log_path: Option<PathBuf>,
    /// debug_log_path; `None` = as info_log_path. `/dev/stderr` = standard error.
    pub debug_log_path: Option<PathBuf>,
    /// instance_name.
    pub instance_name: String,
    /// default_internal_user: owns what Dovecot's own processes share.
    pub internal_user: String,
    /// default_login_user.
    pub login_user: String,
    /// Who a daemon is once it has opened what only root can.
    pub run_as: RunAs,
    /// The sockets of `service director` that are on, in the order of the file; then Dovecot's default ones.
    pub listeners: Vec<Listener>,
    /// What is odd but harmless, such as settings that begin with `director_` or stand in `service director` and mean
    /// nothing to us: worth a warning each.
    pub warnings: Vec<SettingsError>,
}

/// `user`, `group` and `extra_groups` of `service director`: who a daemon is that was started by root.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunAs {
    /// A name or a number; by default default_internal_user. Empty = root, as in Dovecot.
    pub user: String,
    /// A name or a number; empty = the user's.
    pub group: String,
    /// Names or numbers.
    pub extra_groups: Vec<String>,
}

impl RunAs {
    /// Whether a daemon that was started by root is to stay root.
    pub fn is_root(&self) -> bool {
        matches!(self.user.as_str(), "" | "root" | "0")
    }
}

/// What the core needs to know from the settings while it runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tuning {
    /// director_user_expire in seconds, at least 10.
    pub user_expire_secs: u32,
    /// director_user_kick_delay.
    pub user_kick_delay: Duration,
    /// director_username_hash.
    pub username_hash: UsernameHash,
    /// director_max_parallel_moves.
    pub max_parallel_moves: u32,
    /// director_max_parallel_kicks.
    pub max_parallel_kicks: u32,
    /// director_ping_idle_timeout.
    pub ping_idle_timeout: Duration,
    /// director_ping_max_timeout.
    pub ping_max_timeout: Duration,
    /// director_output_buffer_size in bytes.
    pub output_buffer_bytes: usize,
    /// director_flush_socket; empty = none.
    pub flush_socket: String,
    /// auth_master_user_separator.
    pub master_user_separator: Option<u8>,
    /// director_kick_via.
    pub kick_via: KickVia,
    /// The highest minor version of the ring protocol to speak, from 5 to [`MINOR`]. No setting changes it: with a lower
    /// one a director says, understands and does what a member of that version would, so that tests and simulations can
    /// have older members in their rings (ring protocol, "Older members").
    pub ring_minor: u32,
}

/// What the sessions of local login processes are ended through (kick protocol).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum KickVia {
    /// ipc if it can be connected to, else anvil.
    #[default]
    Auto,
    /// Dovecot 2.3's ipc.
    Ipc,
    /// Dovecot 2.4's anvil.
    Anvil,
}

impl KickVia {
    /// The word for it in the settings.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Ipc => "ipc",
            Self::Anvil => "anvil",
        }
    }
}

impl Default for Tuning {
    /// Dovecot 2.3's defaults.
    fn default() -> Self {
        Self {
            user_expire_secs: 15 * 60,
            user_kick_delay: Duration::from_secs(2),
            username_hash: UsernameHash::default(),
            max_parallel_moves: 100,
            max_parallel_kicks: 100,
            ping_idle_timeout: Duration::from_secs(30),
            ping_max_timeout: Duration::from_secs(60),
            output_buffer_bytes: 10 << 20,
            flush_socket: String::new(),
            master_user_separator: None,
            kick_via: KickVia::Auto,
            ring_minor: MINOR,
        }
    }
}

/// One entry of director_servers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerSetting {
    /// An address, or a name whose every address is a member.
    pub host: HostSetting,
    /// Its port; `None` = our ring listener's.
    pub port: Option<u16>,
    /// Where it was written.
    pub place: Place,
}

/// One backend, or several with consecutive addresses written as a range.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MailServerSetting {
    /// Ranges are already spread out: one entry each.
    pub host: HostSetting,
    /// The part after `@`, or empty.
    pub tag: Vec<u8>,
    /// Where it was written.
    pub place: Place,
}

/// An address or a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HostSetting {
    /// An address.
    Ip(IpAddr),
    /// A name to resolve.
    Name(String),
}

/// A socket of `service director`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listener {
    /// What it is for, by the last `-`-separated word of its file name.
    pub role: Role,
    /// Where it is.
    pub socket: Socket,
    /// Where it was written.
    pub place: Place,
}

/// The kinds of listening sockets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Socket {
    /// A unix socket or FIFO.
    File {
        /// Absolute, or relative to base_dir.
        path: PathBuf,
        /// A FIFO instead of a socket.
        fifo: bool,
        /// Permission bits (default 0600).
        mode: u32,
        /// Owner's name; empty = whoever runs the daemon.
        user: String,
        /// Group's name; empty = as the daemon.
        group: String,
    },
    /// A TCP socket.
    Inet {
        /// The listener's name; may be empty.
        name: String,
        /// Addresses to bind (of the listener, else of `listen`); empty = all.
        addresses: Vec<IpAddr>,
        /// The port; listeners with port 0 are left out.
        port: u16,
    },
}

/// A file and a line in it.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Place {
    /// The file.
    pub file: PathBuf,
    /// The line, from 1; 0 = the file as a whole.
    pub line: u32,
}

impl fmt::Display for Place {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}", self.file.display())?;
        if self.line > 0 {
            write!(formatter, ":{}", self.line)?;
        }
        Ok(())
    }
}

/// The operator's error: where it is, what is wrong, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SettingsError {
    /// Where.
    pub place: Place,
    /// What is wrong.
    pub message: String,
    /// What to do.
    pub remedy: String,
}

impl fmt::Display for SettingsError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}: {}", self.place, self.message)?;
        if !self.remedy.is_empty() {
            write!(formatter, " ({})", self.remedy)?;
        }
        Ok(())
    }
}

impl std::error::Error for SettingsError {}

/// The files behind a configuration: how the core, which opens none, gets at them.
pub trait Files {
    /// The content of a file, or what the system said.
    fn read(&mut self, path: &Path) -> Result<Vec<u8>, String>;
    /// The files that match a pattern, sorted; no folders. A pattern without wildcards is a path, which matches itself
    /// if it is there. Braces are already spread out.
    fn glob(&mut self, pattern: &Path) -> Vec<PathBuf>;
}

impl Settings {
    /// Reads a configuration file and all that it includes.
    ///
    /// # Errors
    /// The first thing in it that concerns a director and is wrong.
    pub fn load(path: &Path, files: &mut dyn Files) -> Result<Self, SettingsError> {
        reader::read(path, files).map(|(settings, _)| settings)
    }

    /// The names that must be resolved before [`Configuration::new`], each once.
    pub fn names(&self) -> Vec<&str> {
        let servers = self.servers.iter().map(|server| &server.host);
        let mail_servers = self.mail_servers.iter().map(|server| &server.host);
        let mut seen = BTreeSet::new();
        servers
            .chain(mail_servers)
            .filter_map(|host| match host {
                HostSetting::Name(name) => Some(name.as_str()),
                HostSetting::Ip(_) => None,
            })
            .filter(|name| seen.insert(*name))
            .collect()
    }
}

/// The names of the settings that a director reads outside of all sections, sorted; without those that mean something
/// to doveadm alone, and old ones.
pub fn setting_names() -> impl Iterator<Item = &'static str> {
    draft::setting_names()
}

/// The default of a setting, as it would be written. `None`: there is no such setting.
pub fn setting_default(name: &str) -> Option<&'static str> {
    draft::Draft::default_of(name.as_bytes())
}

/// A configuration that a director can run with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Configuration {
    /// Our own address in the ring; 127.0.0.1 port 0 = standalone.
    pub self_address: SocketAddr,
    /// The members of the ring with ourselves, each once; empty = standalone.
    pub members: Vec<SocketAddr>,
    /// The backends, each IP once, in the order written.
    pub hosts: Vec<ConfiguredHost>,
    /// The rest.
    pub tuning: Tuning,
}

/// A backend of the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfiguredHost {
    /// Its address.
    pub ip: IpAddr,
    /// Its name, if it was configured by name.
    pub hostname: Option<Box<[u8]>>,
    /// Its tag; may be empty.
    pub tag: Box<[u8]>,
}
