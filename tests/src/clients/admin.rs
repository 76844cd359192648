//! The admin protocol.

use std::io::{self, ErrorKind};
use std::net::{IpAddr, SocketAddr};
use std::path::Path;

use super::lines::Lines;

/// An administrator's connection.
#[derive(Debug)]
pub struct Admin {
    lines: Lines,
}

/// A line of HOST-LIST.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostLine {
    /// The backend.
    pub ip: IpAddr,
    /// Its weight.
    pub vhosts: u32,
    /// How many users are on it.
    pub users: u64,
    /// Its pool; may be empty.
    pub tag: String,
    /// `U` or `D`.
    pub state: String,
    /// When that changed, in Unix seconds; 0 = never.
    pub changed: u64,
}

/// A line of DIRECTOR-LIST.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberLine {
    /// The member, if it has said who it is.
    pub ip: Option<IpAddr>,
    /// `self`, `left`, `right`, `in`, `out`, `removed` or nothing.
    pub kind: String,
    /// `ring synced`, `synced`, …
    pub status: String,
}

/// A line of USER-LIST.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct UserLine {
    /// The user's hash.
    pub hash: u32,
    /// When he is forgotten, in Unix seconds.
    pub expires: u64,
    /// His backend.
    pub ip: IpAddr,
}

/// What USER-LOOKUP says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UserState {
    /// Where the user is, if he is known.
    pub current: Option<IpAddr>,
    /// When he is forgotten, in Unix seconds; 0 if he is not known.
    pub expires: u64,
    /// Where his hash would send him now.
    pub hashed: Option<IpAddr>,
}

impl Admin {
    /// Connects to an admin socket and shakes hands.
    ///
    /// # Errors
    /// The system's, or `InvalidData` for a wrong greeting.
    pub fn unix(path: &Path) -> io::Result<Self> {
        Self::over(Lines::unix(path)?)
    }

    /// Connects over TCP and shakes hands.
    ///
    /// # Errors
    /// As [`unix`](Self::unix).
    pub fn tcp(to: SocketAddr) -> io::Result<Self> {
        Self::over(Lines::tcp(to)?)
    }

    fn over(mut lines: Lines) -> io::Result<Self> {
        lines.send("VERSION\tdirector-doveadm\t1\t0")?;
        let greeting = lines.expect()?;
        if greeting != "VERSION\tdirector-doveadm\t1\t0" {
            return Err(invalid(format!("greeted with {greeting:?}")));
        }
        Ok(Self { lines })
    }

    /// The connection itself, for what must be sent or read in an unusual way.
    pub fn lines(&mut self) -> &mut Lines {
        &mut self.lines
    }

    /// Sends a command that has a one-line answer.
    ///
    /// # Errors
    /// The system's.
    pub fn command(&mut self, command: &str) -> io::Result<String> {
        self.lines.send(command)?;
        self.lines.expect()
    }

    /// Sends a command whose answer ends with an empty line.
    ///
    /// # Errors
    /// The system's.
    pub fn list(&mut self, command: &str) -> io::Result<Vec<String>> {
        self.lines.send(command)?;
        let mut answer = Vec::new();
        loop {
            let line = self.lines.expect()?;
            if line.is_empty() {
                return Ok(answer);
            }
            answer.push(line);
        }
    }

    /// HOST-LIST.
    ///
    /// # Errors
    /// The system's, or `InvalidData`.
    pub fn hosts(&mut self) -> io::Result<Vec<HostLine>> {
        self.list("HOST-LIST")?
            .iter()
            .map(|line| {
                let fields: Vec<_> = line.split('\t').collect();
                let [ip, vhosts, users, tag, state, changed] = fields[..] else { return Err(invalid(line)) };
                Ok(HostLine {
                    ip: parse(ip)?,
                    vhosts: parse(vhosts)?,
                    users: parse(users)?,
                    tag: tag.into(),
                    state: state.into(),
                    changed: parse(changed)?,
                })
            })
            .collect()
    }

    /// DIRECTOR-LIST.
    ///
    /// # Errors
    /// The system's, or `InvalidData`.
    pub fn members(&mut self) -> io::Result<Vec<MemberLine>> {
        self.list("DIRECTOR-LIST")?
            .iter()
            .map(|line| {
                let fields: Vec<_> = line.split('\t').collect();
                let [ip, _port, kind, _failed, status, ..] = fields[..] else { return Err(invalid(line)) };
                let ip = if ip.is_empty() { None } else { Some(parse(ip)?) };
                Ok(MemberLine { ip, kind: kind.into(), status: status.into() })
            })
            .collect()
    }

    /// USER-LIST, by hash.
    ///
    /// # Errors
    /// The system's, or `InvalidData`.
    pub fn users(&mut self) -> io::Result<Vec<UserLine>> {
        let mut users = self
            .list("USER-LIST")?
            .iter()
            .map(|line| {
                let fields: Vec<_> = line.split('\t').collect();
                let [hash, expires, ip] = fields[..] else { return Err(invalid(line)) };
                Ok(UserLine { hash: parse(hash)?, expires: parse(expires)?, ip: parse(ip)? })
            })
            .collect::<io::Result<Vec<_>>>()?;
        users.sort_unstable();
        Ok(users)
    }

    /// USER-LOOKUP in the pool of this tag.
    ///
    /// # Errors
    /// The system's, or `InvalidData`.
    pub fn user(&mut self, user: &str, tag: &str) -> io::Result<UserState> {
        let tag = if tag.is_empty() { String::new() } else { format!("\t{tag}") };
        let answer = self.command(&format!("USER-LOOKUP\t{user}{tag}"))?;
        let fields: Vec<_> = answer.split('\t').collect();
        let [current, expires, hashed, _initial] = fields[..] else { return Err(invalid(answer)) };
        let address = |field: &str| if field.is_empty() { Ok(None) } else { parse(field).map(Some) };
        Ok(UserState { current: address(current)?, expires: parse(expires)?, hashed: address(hashed)? })
    }
}

fn parse<T: std::str::FromStr>(field: &str) -> io::Result<T> {
    field.parse().map_err(|_| invalid(format!("the field {field:?}")))
}

fn invalid(what: impl std::fmt::Display) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, format!("not as expected: {what}"))
}
