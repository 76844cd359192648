//! The columns and cells of lists (admin protocol, "The command line").

use std::net::IpAddr;

use super::answers::{DirectorColumn, DirectorRow, HostRow, UserRow};
use super::format::Column;
use crate::hash::IpText;

/// Prints Unix time in the operator's zone, as `2026-11-22 01:02:33`: only the runtime knows the zone.
pub type LocalTime<'a> = &'a dyn Fn(u64) -> String;

/// `status`
pub const HOST_COLUMNS: &[Column] = &[
    Column::new("mail server ip"),
    Column::new("tag"),
    Column::new("vhosts"),
    Column::new("state"),
    Column::new("state changed").with_key("state-changed"),
    Column::new("users").expanding(),
];

/// The cells of a backend.
pub fn host_cells(host: &HostRow, time: LocalTime<'_>) -> Vec<String> {
    vec![
        IpText(host.ip).to_string(),
        lossy(&host.tag),
        host.vhosts.to_string(),
        if host.down { "down" } else { "up" }.to_owned(),
        if host.changed_secs == 0 { "-".to_owned() } else { time(host.changed_secs) },
        host.users.to_string(),
    ]
}

/// `ring status`
pub const DIRECTOR_COLUMNS: &[Column] = &[
    Column::new("director ip"),
    Column::new("port"),
    Column::new("type"),
    Column::new("last failed"),
    Column::new("status"),
    Column::new("ping ms"),
    Column::new("input"),
    Column::new("output"),
    Column::new("buffered"),
    Column::new("buffered peak"),
    Column::new("last read"),
    Column::new("last write"),
];

/// The cells of a member, or of one of its connections. `-` stands for what is not there.
pub fn director_cells(director: &DirectorRow, time: LocalTime<'_>) -> Vec<String> {
    use DirectorColumn as C;
    const TIMES: [C; 3] = [C::LastFailed, C::LastRead, C::LastWrite];
    let unnamed = director.field(C::Ip).is_some_and(<[u8]>::is_empty);
    (0..DIRECTOR_COLUMNS.len())
        .map(|index| match director.fields.get(index) {
            None => "-".to_owned(),
            Some(_) if unnamed && index < C::Status as usize => "-".to_owned(),
            Some(field) => {
                let text = lossy(field);
                match text.parse() {
                    Ok(0) if TIMES.iter().any(|&column| column as usize == index) => "never".to_owned(),
                    Ok(secs) if TIMES.iter().any(|&column| column as usize == index) => time(secs),
                    _ => text,
                }
            }
        })
        .collect()
}

/// `map`
pub const USER_COLUMNS: &[Column] =
    &[Column::new("user").expanding(), Column::new("hash"), Column::new("mail server ip"), Column::new("expire time")];

/// The cells of a user, by one of the names with his hash, if any is known.
pub fn user_cells(user: &UserRow, name: Option<&[u8]>, time: LocalTime<'_>) -> Vec<String> {
    vec![
        name.map_or_else(|| "<unknown>".to_owned(), lossy),
        user.hash.to_string(),
        IpText(user.ip).to_string(),
        time(user.expires_secs),
    ]
}

/// `map -u`
pub const HASH_COLUMNS: &[Column] = &[Column::new("hash").untitled().expanding()];

/// `map -h`
pub const NAME_COLUMNS: &[Column] = &[Column::new("user").untitled().expanding()];

/// `dump` in a format
pub const DUMP_COLUMNS: &[Column] =
    &[Column::new("command"), Column::new("socket-path"), Column::new("host"), Column::new("vhost_count").expanding()];

/// One command of a dump, which rebuilds a ring's backends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DumpEntry {
    /// `add` or `remove`.
    command: &'static str,
    /// `ip` or `ip@tag`.
    host: String,
    /// The weight; empty for `remove`.
    vhosts: String,
}

impl DumpEntry {
    /// Adds a backend as it is.
    pub fn add(host: &HostRow) -> Self {
        let ip = IpText(host.ip);
        let tag = lossy(&host.tag);
        let name = if tag.is_empty() { ip.to_string() } else { format!("{ip}@{tag}") };
        Self { command: "add", host: name, vhosts: host.vhosts.to_string() }
    }

    /// Removes a backend that only the configuration has.
    pub fn remove(ip: IpAddr) -> Self {
        Self { command: "remove", host: IpText(ip).to_string(), vhosts: String::new() }
    }

    /// The cells in a format. `socket` is where the director was found.
    pub fn cells(self, socket: &str) -> Vec<String> {
        vec![self.command.to_owned(), socket.to_owned(), self.host, self.vhosts]
    }

    /// The command for a shell, with its LF: `program` is what runs it, `socket` the one that was named on the command
    /// line.
    pub fn shell_line(&self, program: &str, socket: Option<&str>) -> String {
        let mut words = vec![program, self.command];
        let quoted_socket = socket.map(shell_word);
        if let Some(socket) = &quoted_socket {
            words.extend(["-a", socket]);
        }
        let host = shell_word(&self.host);
        words.push(&host);
        if !self.vhosts.is_empty() {
            words.push(&self.vhosts);
        }
        let mut line = words.join(" ");
        line.push('\n');
        line
    }
}

/// A word that a shell takes as it is. A tag may hold anything, and a dump is made to be run.
fn shell_word(word: &str) -> String {
    let plain = |character: char| character.is_ascii_alphanumeric() || "-_./:@%+=,[]".contains(character);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', "'\\''"))
    }
}

fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
