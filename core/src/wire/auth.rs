//! Auth replies, as far as a director looks into them (login protocol).

use std::borrow::Cow;
use std::fmt::Write as _;
use std::net::IpAddr;

use memchr::memchr;

use super::anvil::{self, Placed};
use super::arguments::{self, read_ip, read_port, split_command, write_ip, write_number};
use super::line::{Printable, escape, unescape};

/// The protocol's name in an authreply client's VERSION.
const AUTHREPLY_CLIENT_NAME: &[u8] = b"director-authreply-client";

/// The longest line from an auth server, in bytes.
pub const LINE_MAX_BYTES: usize = 16384;
/// The first line of an authreply client, with its LF.
pub const AUTHREPLY_CLIENT_VERSION_LINE: &[u8] = b"VERSION\tdirector-authreply-client\t1\t0\n";
/// The first line of an authreply server, with its LF.
pub const AUTHREPLY_SERVER_VERSION_LINE: &[u8] = b"VERSION\tdirector-authreply-server\t1\t0\n";

/// What a director needs to know of a positive auth reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply<'a> {
    /// The request's id as it stands in the line.
    pub id: &'a [u8],
    /// `destuser`, else `user`: whom to look up, before the master separator is taken off. Unescaped.
    pub username: Option<Cow<'a, [u8]>>,
    /// `proxy` or `proxy=…` is there.
    pub proxy: bool,
    /// `host=…` is there: somebody has decided already.
    pub has_host: bool,
    /// `director_tag=…`, empty if absent. Unescaped.
    pub tag: Cow<'a, [u8]>,
    /// `director_proxy_maybe` or `director_proxy_maybe=…` is there.
    pub proxy_maybe: bool,
    /// `lip=…`, the login process's own address. `Some(Err(text))` when it is no address (logged, then ignored).
    pub local_ip: Option<Result<IpAddr, String>>,
    /// `lport=…`
    pub local_port: Option<Result<u16, String>>,
    /// `port=…`
    pub port: Option<Result<u16, String>>,
}

impl<'a> Reply<'a> {
    /// Reads `COMMAND TAB id [TAB field]…` (without LF), where `command` is `OK` or `PASS`; `None` for any other line.
    /// Of a field that is there several times the last one counts, but of `user` the first.
    pub fn parse(command: &[u8], line: &'a [u8]) -> Option<Self> {
        let mut rest = Some(line.strip_prefix(command)?.strip_prefix(b"\t")?);
        let mut reply = Self {
            id: next_field(&mut rest)?,
            username: None,
            proxy: false,
            has_host: false,
            tag: Cow::Borrowed(b""),
            proxy_maybe: false,
            local_ip: None,
            local_port: None,
            port: None,
        };
        let (mut user, mut destuser) = (None, None);
        while let Some(field) = next_field(&mut rest) {
            let (name, value) = split_field(field);
            match (name, value) {
                // Of several, the original takes the first `user`, but the last of all else. It matters: the same
                // reply must mean the same user on every member of the ring.
                (b"user", Some(value)) => user = user.or(Some(value)),
                (b"destuser", Some(value)) => destuser = Some(value),
                (b"proxy", _) => reply.proxy = true,
                (b"host", Some(_)) => reply.has_host = true,
                (b"director_tag", Some(value)) => reply.tag = unescape(value),
                (b"director_proxy_maybe", _) => reply.proxy_maybe = true,
                (b"lip", Some(value)) => reply.local_ip = Some(read_ip(value).ok_or_else(|| quote(value))),
                (b"lport", Some(value)) => reply.local_port = Some(read_port(value).ok_or_else(|| quote(value))),
                (b"port", Some(value)) => reply.port = Some(read_port(value).ok_or_else(|| quote(value))),
                _ => {}
            }
        }
        reply.username = destuser.or(user).map(unescape);
        Some(reply)
    }
}

/// What a director adds to a reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decision<'a> {
    /// How often the login process is to say that the user is still here, in seconds.
    pub refresh_secs: u32,
    /// The backend.
    pub ip: IpAddr,
    /// Its name, if it has one.
    pub hostname: Option<&'a [u8]>,
    /// The user's hash, where his sessions are to be found by it (kick protocol, "The anvil socket").
    pub hash: Option<u32>,
}

impl Decision<'_> {
    /// The most that [`Decision::write`] adds to a line.
    pub fn max_bytes(&self) -> usize {
        // The names of all fields take 90 bytes, three numbers 30 at most, two addresses 45 each; and each byte of the name
        // may need an escape.
        self.hostname.map_or(0, |name| 2 * name.len()) + 256
    }

    /// Appends the reply `line` (without LF) with the decision added, and LF:
    /// `… TAB proxy_refresh=<secs> TAB host=<ip>`, or for a host with a name `… TAB host=<name> TAB hostip=<ip>`. With a
    /// hash, `TAB user_director_backend=<hash>/<ip>` stands before that and `TAB user_director_hash=<hash>` after it.
    pub fn write(&self, line: &[u8], out: &mut Vec<u8>) {
        out.extend_from_slice(line);
        if let Some(hash) = self.hash {
            write_field(anvil::BACKEND_FIELD, out);
            Placed { hash, ip: self.ip }.write(out);
        }
        write_field(b"proxy_refresh", out);
        write_number(self.refresh_secs.into(), out);
        write_field(b"host", out);
        if let Some(name) = self.hostname {
            escape(name, out);
            write_field(b"hostip", out);
        }
        write_ip(self.ip, out);
        if let Some(hash) = self.hash {
            write_field(anvil::HASH_FIELD, out);
            write_number(hash.into(), out);
        }
        out.push(b'\n');
    }
}

/// The beginning of a field.
fn write_field(name: &[u8], out: &mut Vec<u8>) {
    out.push(b'\t');
    out.extend_from_slice(name);
    out.push(b'=');
}

/// Appends `FAIL TAB id TAB code=temp_fail` and LF.
pub fn write_temporary_failure(id: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(b"FAIL\t");
    out.extend_from_slice(id);
    out.extend_from_slice(b"\tcode=temp_fail\n");
}

/// Whether `line` (without LF) is an acceptable first line of an authreply client: this name and major version 1.
pub fn is_authreply_client_version_line(line: &[u8]) -> bool {
    arguments::is_version_line(line, AUTHREPLY_CLIENT_NAME, 1)
}

/// The line for a log: every field that can hold a password or another secret (`pass`, `resp`, `final-resp-ok`, any
/// name that contains `pass`, `secret` or `token`, the base64 data of CONT, the COOKIE) has its value replaced by
/// `<hidden>`; control and non-UTF-8 bytes are escaped.
pub fn printable(line: &[u8]) -> String {
    let command = split_command(line).0;
    // How many words stand before those that are secret as a whole.
    let public_words = match command {
        b"CONT" => 2,
        b"COOKIE" => 1,
        b"REQUEST" => 4,
        _ => usize::MAX,
    };
    let mut shown = String::with_capacity(line.len());
    for (index, field) in line.split(|&byte| byte == b'\t').enumerate() {
        if index > 0 {
            shown.push_str("\\t");
        }
        let (name, value) = split_field(field);
        if index >= public_words {
            shown.push_str("<hidden>");
        } else if value.is_some() && is_secret(name) {
            push_printable(name, &mut shown);
            shown.push_str("=<hidden>");
        } else {
            push_printable(field, &mut shown);
        }
    }
    shown
}

/// Takes the bytes before the next TAB, or the last ones.
fn next_field<'a>(rest: &mut Option<&'a [u8]>) -> Option<&'a [u8]> {
    let line = (*rest)?;
    let (field, after) = match memchr(b'\t', line) {
        Some(at) => (&line[..at], Some(&line[at + 1..])),
        None => (line, None),
    };
    *rest = after;
    Some(field)
}

/// `name=value` or `name`
fn split_field(field: &[u8]) -> (&[u8], Option<&[u8]>) {
    match memchr(b'=', field) {
        Some(at) => (&field[..at], Some(&field[at + 1..])),
        None => (field, None),
    }
}

fn is_secret(name: &[u8]) -> bool {
    // A reader of the line may unescape the name, so it counts unescaped.
    let name = unescape(name).to_ascii_lowercase();
    let contains = |word: &[u8]| name.windows(word.len()).any(|part| part == word);
    name == b"resp" || name == b"final-resp-ok" || contains(b"pass") || contains(b"secret") || contains(b"token")
}

fn quote(value: &[u8]) -> String {
    Printable { bytes: value, max_bytes: 100 }.to_string()
}

fn push_printable(bytes: &[u8], shown: &mut String) {
    write!(shown, "{}", Printable { bytes, max_bytes: usize::MAX }).expect("a String takes all that is written");
}

#[cfg(test)]
mod tests;
