//! Kicking sessions over Dovecot 2.3's ipc socket (kick protocol).

use std::borrow::Cow;
use std::net::IpAddr;

use nom::Parser;

use super::arguments::{LineWriter, hash, ip, optional, raw, read_u32, split_command, text, write_number};

/// What to kick. A command is one line, `proxy TAB * TAB …`.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the fields are the arguments in the variant's grammar")]
pub enum Command<'a> {
    /// `KICK name`: the sessions of a user name.
    User { username: Cow<'a, [u8]> },
    /// `KICK-ALT field value`: by another passdb field.
    Alt { field: Cow<'a, [u8]>, value: Cow<'a, [u8]> },
    /// `KICK-DIRECTOR-HASH hash [except-ip]`: by user hash, sparing those proxied to `except`.
    Hash { hash: u32, except: Option<IpAddr> },
}

impl<'a> Command<'a> {
    /// Appends the command with its LF.
    pub fn write(&self, out: &mut Vec<u8>) {
        let line = LineWriter::new(b"proxy", out).raw(b"*");
        match self {
            Self::User { username } => line.raw(b"KICK").text(username),
            Self::Alt { field, value } => line.raw(b"KICK-ALT").text(field).text(value),
            Self::Hash { hash, except: None } => line.raw(b"KICK-DIRECTOR-HASH").number(*hash),
            Self::Hash { hash, except: Some(ip) } => line.raw(b"KICK-DIRECTOR-HASH").number(*hash).ip(*ip),
        };
    }

    /// Reads a command (the model login processes of a simulator need it); `None` if it is none of these, or has more
    /// arguments: `KICK` takes several names, and to heed only the first would be wrong.
    pub fn parse(line: &'a [u8]) -> Option<Self> {
        let (service, arguments) = split_command(line);
        let (arguments, (to, command)) = (raw("to"), raw("command")).parse(arguments).ok()?;
        if service != b"proxy" || to != b"*" {
            return None;
        }
        let parsed = match command {
            b"KICK" => text("name").map(|username| Self::User { username }).parse(arguments),
            b"KICK-ALT" => {
                (text("field"), text("value")).map(|(field, value)| Self::Alt { field, value }).parse(arguments)
            }
            b"KICK-DIRECTOR-HASH" => {
                (hash, optional(ip("except-ip"))).map(|(hash, except)| Self::Hash { hash, except }).parse(arguments)
            }
            _ => return None,
        };
        parsed.ok().filter(|(rest, _)| rest.is_empty()).map(|(_, command)| command)
    }
}

/// An answer line. Texts stand here as they do in the line: escaped, if they hold anything that needs it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer<'a> {
    /// `:text`: an intermediate line.
    Intermediate(&'a [u8]),
    /// `+text`: done; how many sessions were kicked, if the text is a number.
    Done(Option<u32>),
    /// `-text`: an error.
    Failed(&'a [u8]),
}

impl<'a> Answer<'a> {
    /// Reads an answer, without its LF; `None` if it is none.
    pub fn parse(line: &'a [u8]) -> Option<Self> {
        let (kind, text) = line.split_first()?;
        match kind {
            b':' => Some(Self::Intermediate(text)),
            b'+' => Some(Self::Done(read_u32(text))),
            b'-' => Some(Self::Failed(text)),
            _ => None,
        }
    }

    /// Appends the answer with its LF.
    pub fn write(&self, out: &mut Vec<u8>) {
        match self {
            Self::Intermediate(text) => {
                out.push(b':');
                out.extend_from_slice(text);
            }
            Self::Done(kicked) => {
                out.push(b'+');
                if let Some(count) = kicked {
                    write_number((*count).into(), out);
                }
            }
            Self::Failed(text) => {
                out.push(b'-');
                out.extend_from_slice(text);
            }
        }
        out.push(b'\n');
    }
}

#[cfg(test)]
mod tests;
