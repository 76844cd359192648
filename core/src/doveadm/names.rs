//! Which names a hash stands for: the ring's map has hashes only, names come from a file or from auth.

use hashbrown::HashMap;
use xxhash_rust::xxh3::Xxh3Builder;

use crate::hash::UsernameHash;

/// Names by the hash of each.
#[derive(Clone, Debug)]
pub struct Names {
    template: UsernameHash,
    by_hash: HashMap<u32, Vec<Box<[u8]>>, Xxh3Builder>,
}

impl Names {
    /// No names yet.
    pub fn new(template: UsernameHash) -> Self {
        Self { template, by_hash: HashMap::with_hasher(Xxh3Builder::new()) }
    }

    /// Adds a name.
    pub fn add(&mut self, name: &[u8]) {
        self.by_hash.entry(self.template.hash(name)).or_default().push(name.into());
    }

    /// Adds each line of a file; empty ones are not names.
    pub fn add_lines(&mut self, content: &[u8]) {
        for line in content.split(|&byte| byte == b'\n') {
            let name = line.strip_suffix(b"\r").unwrap_or(line);
            if !name.is_empty() {
                self.add(name);
            }
        }
    }

    /// The names with this hash; the last added comes first, as in doveadm.
    pub fn of(&self, hash: u32) -> impl DoubleEndedIterator<Item = &[u8]> {
        self.by_hash.get(&hash).into_iter().flatten().rev().map(|name| &**name)
    }
}

/// The lines that ask auth for all user names (login protocol, "Userdb").
pub const LIST_REQUEST: &[u8] = b"VERSION\t1\t0\nLIST\t1\n";

/// What a line of auth says in answer to [`LIST_REQUEST`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ListLine {
    /// A name.
    Name(Vec<u8>),
    /// That was the last one.
    Done,
    /// The user database cannot list its users, or failed to.
    Failed,
    /// Another protocol, or another major version of it.
    Incompatible,
    /// Something else that comes before the list.
    Other,
}

impl ListLine {
    /// Reads a line without its LF.
    pub fn parse(line: &[u8]) -> Self {
        let mut fields = line.split(|&byte| byte == b'\t');
        match (fields.next(), fields.next(), fields.next()) {
            (Some(b"VERSION"), Some(b"1"), _) => Self::Other,
            (Some(b"VERSION"), _, _) => Self::Incompatible,
            (Some(b"LIST"), Some(b"1"), Some(name)) => Self::Name(crate::wire::line::unescape(name).into_owned()),
            (Some(b"DONE"), Some(b"1"), Some(b"fail")) | (Some(b"FAIL"), ..) => Self::Failed,
            // Auth ends a list that went well with an empty field.
            (Some(b"DONE"), Some(b"1"), _) => Self::Done,
            _ => Self::Other,
        }
    }
}
