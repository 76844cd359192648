//! Kicking sessions over Dovecot 2.3's ipc socket (kick protocol).

use std::borrow::Cow;
use std::net::IpAddr;

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
        let _ = out;
        unimplemented!()
    }

    /// Reads a command (the model login processes of a simulator need it); `None` if it is none.
    pub fn parse(line: &'a [u8]) -> Option<Self> {
        let _ = line;
        unimplemented!()
    }
}

/// An answer line.
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
        let _ = line;
        unimplemented!()
    }

    /// Appends the answer with its LF.
    pub fn write(&self, out: &mut Vec<u8>) {
        let _ = out;
        unimplemented!()
    }
}
