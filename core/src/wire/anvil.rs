//! Listing and kicking sessions over Dovecot 2.4's anvil socket (kick protocol, "The anvil socket").

use std::borrow::Cow;
use std::net::IpAddr;

use nom::Parser;

use super::arguments::{
    self, LineWriter, optional, raw, read_ip, read_u32, split_command, text, write_ip, write_number,
};
use super::line::{escape, unescape};

/// The first lines of a client, each with its LF; the empty one says that it does not want to be asked anything itself.
pub const CLIENT_VERSION_LINES: &[u8] = b"VERSION\tanvil-client\t2\t0\n\n";
/// The first line of a server, with its LF.
pub const SERVER_VERSION_LINE: &[u8] = b"VERSION\tanvil-server\t2\t0\n";
/// The longest line that anvil may send, in bytes: a session carries the alternative fields of its auth reply, all of
/// which fit into a line of [`auth::LINE_MAX_BYTES`](super::auth::LINE_MAX_BYTES).
pub const LINE_MAX_BYTES: usize = 32768;
/// The alternative field that holds a user's hash: a director adds it to auth replies.
pub const HASH_FIELD: &[u8] = b"user_director_hash";
/// The alternative field that holds a user's hash and his backend ([`Placed`]).
pub const BACKEND_FIELD: &[u8] = b"user_director_backend";

/// Whether `line` (without LF) is an acceptable first line of a server: anvil's, of major version 2.
pub fn is_server_version_line(line: &[u8]) -> bool {
    arguments::is_version_line(line, b"anvil-server", 2)
}

/// What anvil is asked for. A command is one line.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the fields are the arguments in the variant's grammar")]
pub enum Command<'a> {
    /// `KICK-USER username`: the sessions of a user name.
    KickUser { username: Cow<'a, [u8]> },
    /// `KICK-ALT-USER field value`: by an alternative field.
    KickAltUser { field: Cow<'a, [u8]>, value: Cow<'a, [u8]> },
    /// `CONNECT-DUMP`: all sessions are to be listed.
    ConnectDump,
}

impl<'a> Command<'a> {
    /// The command that kicks the sessions of a user hash.
    pub fn kick_hash(hash: u32) -> Self {
        let mut value = Vec::new();
        write_number(hash.into(), &mut value);
        Self::KickAltUser { field: HASH_FIELD.into(), value: value.into() }
    }

    /// The command that kicks the sessions of a user hash on one backend.
    pub fn kick_placed(placed: Placed) -> Self {
        let mut value = Vec::new();
        placed.write(&mut value);
        Self::KickAltUser { field: BACKEND_FIELD.into(), value: value.into() }
    }

    /// Appends the command with its LF.
    pub fn write(&self, out: &mut Vec<u8>) {
        match self {
            Self::KickUser { username } => LineWriter::new(b"KICK-USER", out).text(username),
            Self::KickAltUser { field, value } => LineWriter::new(b"KICK-ALT-USER", out).text(field).text(value),
            Self::ConnectDump => LineWriter::new(b"CONNECT-DUMP", out),
        };
    }

    /// Reads a command (a model of anvil needs it); `None` if it is none of these, or has more arguments.
    pub fn parse(line: &'a [u8]) -> Option<Self> {
        let (command, arguments) = split_command(line);
        let parsed = match command {
            b"KICK-USER" => text("username").map(|username| Self::KickUser { username }).parse(arguments),
            b"KICK-ALT-USER" => {
                (text("field"), text("value")).map(|(field, value)| Self::KickAltUser { field, value }).parse(arguments)
            }
            b"CONNECT-DUMP" => Ok((arguments, Self::ConnectDump)),
            _ => return None,
        };
        parsed.ok().filter(|(rest, _)| rest.is_empty()).map(|(_, command)| command)
    }
}

/// A user on a backend, `hash/ip`: the value of [`BACKEND_FIELD`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Placed {
    /// His hash.
    pub hash: u32,
    /// The backend.
    pub ip: IpAddr,
}

impl Placed {
    /// Reads it; `None` if it is none.
    pub fn parse(value: &[u8]) -> Option<Self> {
        let slash = value.iter().position(|&byte| byte == b'/')?;
        let hash = read_u32(&value[..slash]).filter(|&hash| hash != 0)?;
        Some(Self { hash, ip: read_ip(&value[slash + 1..])? })
    }

    /// Appends it.
    pub fn write(self, out: &mut Vec<u8>) {
        write_number(self.hash.into(), out);
        out.push(b'/');
        write_ip(self.ip, out);
    }
}

/// The answer to a kick: how many sessions were kicked.
pub fn read_kicked(line: &[u8]) -> Option<u32> {
    read_u32(line)
}

/// Appends the answer to a kick, with its LF.
pub fn write_kicked(count: u32, out: &mut Vec<u8>) {
    write_number(count.into(), out);
    out.push(b'\n');
}

/// The first line of a list names the alternative fields that sessions have, none perhaps: which of them is `name`.
pub fn field_position(line: &[u8], name: &[u8]) -> Option<usize> {
    line.split(|&byte| byte == b'\t').position(|field| *unescape(field) == *name)
}

/// Appends the first line of a list, with its LF.
pub fn write_field_names(names: &[&[u8]], out: &mut Vec<u8>) {
    write_separated(names.iter().copied(), out);
    out.push(b'\n');
}

/// A session in a list: `pid username service client-ip conn-guid [dest-ip [alternative value]…]`. The list ends with an
/// empty line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Session<'a> {
    /// The login process, as it stands in the line.
    pub pid: &'a [u8],
    /// Whose it is.
    pub username: Cow<'a, [u8]>,
    /// The program: `imap-login`, …
    pub service: Cow<'a, [u8]>,
    /// Where he connects from.
    pub client: Option<IpAddr>,
    /// Which session it is.
    pub guid: Cow<'a, [u8]>,
    /// The backend that it is proxied to, if it is.
    pub backend: Option<IpAddr>,
    /// The values of the alternative fields, as they stand in the line: empty where it has none, and those at the end
    /// may be left out.
    values: &'a [u8],
}

impl<'a> Session<'a> {
    /// Reads a line without its LF; `None` if it is not one of these.
    pub fn parse(line: &'a [u8]) -> Option<Self> {
        let (pid, rest) = split_command(line);
        let mut fields = (text("username"), text("service"), raw("client-ip"), text("conn-guid"));
        let (rest, (username, service, client, guid)) = fields.parse(rest).ok()?;
        let (values, backend) = optional(raw("dest-ip")).parse(rest).ok()?;
        let client = read_ip(client);
        Some(Self { pid, username, service, client, guid, backend: backend.and_then(read_ip), values })
    }

    /// Its user and his backend, if the alternative value at a position says so.
    pub fn placed(&self, position: usize) -> Option<Placed> {
        // Before each value there is a TAB.
        Placed::parse(self.values.split(|&byte| byte == b'\t').nth(position + 1)?)
    }

    /// Appends the line of a session with these alternative values, and its LF.
    pub fn write(&self, values: &[&[u8]], out: &mut Vec<u8>) {
        let address = |ip: Option<IpAddr>| ip.map(|ip| ip.to_string()).unwrap_or_default();
        let mut line = LineWriter::new(self.pid, out)
            .text(&self.username)
            .text(&self.service)
            .raw(address(self.client).as_bytes())
            .text(&self.guid)
            .raw(address(self.backend).as_bytes());
        for value in values {
            line = line.text(value);
        }
    }
}

fn write_separated<'v>(values: impl Iterator<Item = &'v [u8]>, out: &mut Vec<u8>) {
    for (index, value) in values.enumerate() {
        if index > 0 {
            out.push(b'\t');
        }
        escape(value, out);
    }
}

#[cfg(test)]
mod tests;
