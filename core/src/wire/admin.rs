//! The admin protocol, "director-doveadm" 1.0 (admin protocol).

use std::borrow::Cow;
use std::fmt;
use std::net::IpAddr;

use nom::Parser;

use super::arguments::{
    self, Complaint, LineWriter, Parsed, ip, optional, port, read_ip, split_command, text, typed, u32,
};
use super::line::unescape;

/// The protocol's name in VERSION.
const NAME: &[u8] = b"director-doveadm";

/// The line that both sides send first, with its LF.
pub const VERSION_LINE: &[u8] = b"VERSION\tdirector-doveadm\t1\t0\n";
/// The longest line a client may send, in bytes. The original takes 1024.
pub const LINE_MAX_BYTES: usize = 1024;

/// What an administrator may ask.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the fields are the arguments in the variant's grammar")]
pub enum Command<'a> {
    /// `HOST-LIST`
    HostList,
    /// `HOST-LIST-REMOVED`
    HostListRemoved,
    /// `DIRECTOR-LIST`
    DirectorList,
    /// `DIRECTOR-ADD ip [port]`
    DirectorAdd { ip: IpAddr, port: Option<u16> },
    /// `DIRECTOR-REMOVE ip [port]`
    DirectorRemove { ip: IpAddr, port: Option<u16> },
    /// `HOST-SET ip[@tag] [vhosts]`
    HostSet { ip: IpAddr, tag: Option<Cow<'a, [u8]>>, vhosts: Option<u32> },
    /// `HOST-UPDATE ip vhosts`
    HostUpdate { ip: IpAddr, vhosts: u32 },
    /// `HOST-UP ip`
    HostUp { ip: IpAddr },
    /// `HOST-DOWN ip`
    HostDown { ip: IpAddr },
    /// `HOST-REMOVE ip`
    HostRemove { ip: IpAddr },
    /// `HOST-FLUSH [ip]`
    HostFlush { ip: Option<IpAddr> },
    /// `HOST-RESET-USERS [ip [max-parallel]]`; an empty ip is none, so that max-parallel can follow
    HostResetUsers { ip: Option<IpAddr>, max_parallel: Option<u32> },
    /// `USER-LOOKUP name-or-hash [tag]`; no argument reads as the empty name
    UserLookup { user: Cow<'a, [u8]>, tag: Cow<'a, [u8]> },
    /// `USER-LIST [ip]`; an empty ip is none
    UserList { ip: Option<IpAddr> },
    /// `USER-MOVE name-or-hash ip`
    UserMove { user: Cow<'a, [u8]>, ip: IpAddr },
    /// `USER-KICK name [nowait]`
    UserKick { username: Cow<'a, [u8]>, nowait: bool },
    /// `USER-KICK-ALT field value [nowait]`
    UserKickAlt { field: Cow<'a, [u8]>, value: Cow<'a, [u8]>, nowait: bool },
}

/// Why a line is not a command. `Display` is for the log and the client; it never holds raw control bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommandError {
    complaint: Complaint,
}

impl fmt::Display for CommandError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.complaint.fmt(formatter)
    }
}

impl std::error::Error for CommandError {}

impl<'a> Command<'a> {
    /// Reads one command line, without its LF. Arguments after the last one that a command knows are ignored.
    ///
    /// # Errors
    /// [`CommandError`] for an unknown command or invalid parameters.
    pub fn parse(line: &'a [u8]) -> Result<Self, CommandError> {
        let (command, input) = split_command(line);
        let parsed = match command {
            b"HOST-LIST" => Ok((input, Self::HostList)),
            b"HOST-LIST-REMOVED" => Ok((input, Self::HostListRemoved)),
            b"DIRECTOR-LIST" => Ok((input, Self::DirectorList)),
            b"DIRECTOR-ADD" => (ip("ip"), optional(port)).map(|(ip, port)| Self::DirectorAdd { ip, port }).parse(input),
            b"DIRECTOR-REMOVE" => {
                (ip("ip"), optional(port)).map(|(ip, port)| Self::DirectorRemove { ip, port }).parse(input)
            }
            b"HOST-SET" => (typed("ip", read_ip_and_tag), optional(u32("vhosts")))
                .map(|((ip, tag), vhosts)| Self::HostSet { ip, tag, vhosts })
                .parse(input),
            b"HOST-UPDATE" => {
                (ip("ip"), u32("vhosts")).map(|(ip, vhosts)| Self::HostUpdate { ip, vhosts }).parse(input)
            }
            b"HOST-UP" => ip("ip").map(|ip| Self::HostUp { ip }).parse(input),
            b"HOST-DOWN" => ip("ip").map(|ip| Self::HostDown { ip }).parse(input),
            b"HOST-REMOVE" => ip("ip").map(|ip| Self::HostRemove { ip }).parse(input),
            b"HOST-FLUSH" => optional(ip("ip")).map(|ip| Self::HostFlush { ip }).parse(input),
            b"HOST-RESET-USERS" => (ip_or_all, optional(u32("max-parallel")))
                .map(|(ip, max_parallel)| Self::HostResetUsers { ip, max_parallel })
                .parse(input),
            b"USER-LOOKUP" => (optional(text("name")), optional(text("tag")))
                .map(|(user, tag)| Self::UserLookup { user: user.unwrap_or_default(), tag: tag.unwrap_or_default() })
                .parse(input),
            b"USER-LIST" => ip_or_all.map(|ip| Self::UserList { ip }).parse(input),
            b"USER-MOVE" => (text("name"), ip("ip")).map(|(user, ip)| Self::UserMove { user, ip }).parse(input),
            b"USER-KICK" => {
                (text("name"), nowait).map(|(username, nowait)| Self::UserKick { username, nowait }).parse(input)
            }
            b"USER-KICK-ALT" => (text("field"), text("value"), nowait)
                .map(|(field, value, nowait)| Self::UserKickAlt { field, value, nowait })
                .parse(input),
            _ => return Err(CommandError { complaint: Complaint::unknown_command(command) }),
        };
        match parsed {
            Ok((_, command)) => Ok(command),
            Err(error) => Err(CommandError { complaint: Complaint::about(command, &error) }),
        }
    }

    /// Appends the command with its LF, as a client sends it.
    pub fn write(&self, out: &mut Vec<u8>) {
        let line = LineWriter::new(self.name(), out);
        match self {
            Self::HostList | Self::HostListRemoved | Self::DirectorList => line,
            Self::DirectorAdd { ip, port } | Self::DirectorRemove { ip, port } => {
                with_number(line.ip(*ip), port.map(u32::from))
            }
            Self::HostSet { ip, tag: None, vhosts } => with_number(line.ip(*ip), *vhosts),
            Self::HostSet { ip, tag: Some(tag), vhosts } => {
                with_number(line.ip(*ip).and_text(b"@").and_text(tag), *vhosts)
            }
            Self::HostUpdate { ip, vhosts } => line.ip(*ip).number(*vhosts),
            Self::HostUp { ip } | Self::HostDown { ip } | Self::HostRemove { ip } => line.ip(*ip),
            Self::HostFlush { ip } | Self::UserList { ip } => with_ip(line, *ip),
            // The number needs something to stand behind.
            Self::HostResetUsers { ip: None, max_parallel: Some(max_parallel) } => line.raw(b"").number(*max_parallel),
            Self::HostResetUsers { ip, max_parallel } => with_number(with_ip(line, *ip), *max_parallel),
            Self::UserLookup { user, tag } if tag.is_empty() => line.text(user),
            Self::UserLookup { user, tag } => line.text(user).text(tag),
            Self::UserMove { user, ip } => line.text(user).ip(*ip),
            Self::UserKick { username, nowait } => with_nowait(line.text(username), *nowait),
            Self::UserKickAlt { field, value, nowait } => with_nowait(line.text(field).text(value), *nowait),
        };
    }

    fn name(&self) -> &'static [u8] {
        match self {
            Self::HostList => b"HOST-LIST",
            Self::HostListRemoved => b"HOST-LIST-REMOVED",
            Self::DirectorList => b"DIRECTOR-LIST",
            Self::DirectorAdd { .. } => b"DIRECTOR-ADD",
            Self::DirectorRemove { .. } => b"DIRECTOR-REMOVE",
            Self::HostSet { .. } => b"HOST-SET",
            Self::HostUpdate { .. } => b"HOST-UPDATE",
            Self::HostUp { .. } => b"HOST-UP",
            Self::HostDown { .. } => b"HOST-DOWN",
            Self::HostRemove { .. } => b"HOST-REMOVE",
            Self::HostFlush { .. } => b"HOST-FLUSH",
            Self::HostResetUsers { .. } => b"HOST-RESET-USERS",
            Self::UserLookup { .. } => b"USER-LOOKUP",
            Self::UserList { .. } => b"USER-LIST",
            Self::UserMove { .. } => b"USER-MOVE",
            Self::UserKick { .. } => b"USER-KICK",
            Self::UserKickAlt { .. } => b"USER-KICK-ALT",
        }
    }
}

/// Whether `line` (without LF) is an acceptable first line: this name and major version 1.
pub fn is_version_line(line: &[u8]) -> bool {
    arguments::is_version_line(line, NAME, 1)
}

/// `ip[@tag]`
fn read_ip_and_tag(argument: &[u8]) -> Option<(IpAddr, Option<Cow<'_, [u8]>>)> {
    match argument.iter().position(|&byte| byte == b'@') {
        Some(at) => Some((read_ip(&argument[..at])?, Some(unescape(&argument[at + 1..])))),
        None => Some((read_ip(argument)?, None)),
    }
}

/// `[ip]`, which may be empty. HOST-FLUSH does not take it so: there, a script that lost its variable would have all
/// users of all hosts forgotten.
fn ip_or_all(input: &[u8]) -> Parsed<'_, Option<IpAddr>> {
    let ip = typed("ip", |argument| if argument.is_empty() { Some(None) } else { read_ip(argument).map(Some) });
    optional(ip).map(Option::flatten).parse(input)
}

/// `[nowait]`. Any other word is refused, not ignored: it is most likely the rest of a name that holds a TAB and was
/// not escaped, as the original doveadm sends it, and then the wrong user would be kicked.
fn nowait(input: &[u8]) -> Parsed<'_, bool> {
    optional(typed("nowait", |argument| (argument == b"nowait").then_some(())))
        .map(|nowait| nowait.is_some())
        .parse(input)
}

fn with_number(line: LineWriter<'_>, number: Option<u32>) -> LineWriter<'_> {
    match number {
        Some(number) => line.number(number),
        None => line,
    }
}

fn with_ip(line: LineWriter<'_>, ip: Option<IpAddr>) -> LineWriter<'_> {
    match ip {
        Some(ip) => line.ip(ip),
        None => line,
    }
}

fn with_nowait(line: LineWriter<'_>, nowait: bool) -> LineWriter<'_> {
    if nowait { line.raw(b"nowait") } else { line }
}

#[cfg(test)]
mod tests;
