//! Commands that change something: what is sent, and what the one line that comes back means (admin protocol,
//! "Commands" and "The command line").

use std::net::IpAddr;

use super::text::printable;
use super::{Exit, Severity, Verdict};
use crate::hash::IpText;
use crate::wire::admin::{Command, LINE_MAX_BYTES};

/// Something that an administrator wants changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change<'a> {
    /// `add`
    Add {
        /// The backend.
        ip: IpAddr,
        /// Its tag; `None` = say nothing of one.
        tag: Option<&'a [u8]>,
        /// Its weight; `None` = the server's default, or what it has.
        vhosts: Option<u32>,
    },
    /// `update`
    Update {
        /// The backend.
        ip: IpAddr,
        /// Its weight.
        vhosts: u32,
    },
    /// `up`
    Up {
        /// The backend.
        ip: IpAddr,
    },
    /// `down`
    Down {
        /// The backend.
        ip: IpAddr,
    },
    /// `remove`
    Remove {
        /// The backend.
        ip: IpAddr,
    },
    /// `flush`: move users to the backends of their hashes.
    Flush {
        /// The backend; `None` = all.
        ip: Option<IpAddr>,
        /// So many at a time; `None` = the server's setting.
        max_parallel: Option<u32>,
    },
    /// `flush -F`: forget users, and let their sessions be.
    Forget {
        /// The backend; `None` = all.
        ip: Option<IpAddr>,
    },
    /// `move`
    Move {
        /// The hash of the user's name: hashed here, since a name of digits only would be taken for a hash.
        hash: u32,
        /// The backend.
        ip: IpAddr,
    },
    /// `kick`
    Kick {
        /// Which field of the session `user` is compared with; `None` = the user name.
        field: Option<&'a [u8]>,
        /// Whom.
        user: &'a [u8],
    },
    /// `ring add`
    RingAdd {
        /// The member.
        ip: IpAddr,
        /// Its port; `None` = the server's own.
        port: Option<u16>,
    },
    /// `ring remove`
    RingRemove {
        /// The member.
        ip: IpAddr,
        /// Its port; `None` = the first member with this address.
        port: Option<u16>,
    },
}

impl<'a> Change<'a> {
    fn command(&self) -> Command<'a> {
        match *self {
            Self::Add { ip, tag, vhosts } => Command::HostSet { ip, tag: tag.map(Into::into), vhosts },
            Self::Update { ip, vhosts } => Command::HostUpdate { ip, vhosts },
            Self::Up { ip } => Command::HostUp { ip },
            Self::Down { ip } => Command::HostDown { ip },
            Self::Remove { ip } => Command::HostRemove { ip },
            Self::Flush { ip, max_parallel } => Command::HostResetUsers { ip, max_parallel },
            Self::Forget { ip } => Command::HostFlush { ip },
            Self::Move { hash, ip } => Command::UserMove { user: hash.to_string().into_bytes().into(), ip },
            Self::Kick { field: None, user } => Command::UserKick { username: user.into(), nowait: false },
            Self::Kick { field: Some(field), user } => {
                Command::UserKickAlt { field: field.into(), value: user.into(), nowait: false }
            }
            Self::RingAdd { ip, port } => Command::DirectorAdd { ip, port },
            Self::RingRemove { ip, port } => Command::DirectorRemove { ip, port },
        }
    }

    /// The line to send, with its LF.
    ///
    /// # Errors
    /// It is longer than a server takes.
    pub fn line(&self) -> Result<Vec<u8>, Verdict> {
        line_of(&self.command())
    }

    /// What the answer (without its LF) means.
    pub fn verdict(&self, answer: &[u8]) -> Verdict {
        match *self {
            Self::Add { ip, .. } => of_host(ip, answer, "OK", Exit::TemporaryFailure),
            // Not 68: scripts know it so.
            Self::Update { ip, .. } => of_host(ip, answer, "OK", Exit::TemporaryFailure),
            Self::Up { ip } => of_host(ip, answer, "up", Exit::NotFound),
            Self::Down { ip } => of_host(ip, answer, "down", Exit::NotFound),
            Self::Remove { ip } => of_host(ip, answer, "removed", Exit::NotFound),
            Self::Flush { ip: Some(ip), .. } | Self::Forget { ip: Some(ip) } => {
                let verdict = of_host(ip, answer, "flushed", Exit::NotFound);
                if verdict.is_success() { verdict } else { Verdict { severity: Severity::Warning, ..verdict } }
            }
            Self::Flush { ip: None, .. } | Self::Forget { ip: None } => match answer {
                b"OK" => Verdict::success("flushed"),
                _ => refused("failed: ", answer),
            },
            Self::Move { hash, ip } => match answer {
                b"OK" => Verdict::success(format!("User hash {hash} moved to {}", IpText(ip))),
                b"NOTFOUND" => Verdict::error(Exit::NotFound, format!("Host '{}' doesn't exist", IpText(ip))),
                b"TRYAGAIN" => {
                    let text = "User is already being moved, wait a while for it to be finished";
                    Verdict::error(Exit::TemporaryFailure, text)
                }
                _ => refused("failed: ", answer),
            },
            Self::Kick { user, .. } => match answer {
                b"OK" => Verdict::success(format!("User {} kicked", printable(user))),
                _ => refused("failed: ", answer),
            },
            Self::RingAdd { .. } | Self::RingRemove { .. } => match answer {
                b"OK" => Verdict::success(""),
                b"NOTFOUND" => Verdict::error(Exit::NotFound, "Not found"),
                _ => refused("Failed: ", answer),
            },
        }
    }
}

/// The line of any command, with its LF.
///
/// # Errors
/// It is longer than a server takes: a name on the command line is too long.
pub fn line_of(command: &Command<'_>) -> Result<Vec<u8>, Verdict> {
    let mut line = Vec::new();
    command.write(&mut line);
    if line.len() > LINE_MAX_BYTES {
        let text = format!("the name is too long: a director takes commands of at most {LINE_MAX_BYTES} bytes");
        return Err(Verdict::error(Exit::Usage, text));
    }
    Ok(line)
}

fn of_host(ip: IpAddr, answer: &[u8], done: &str, not_found: Exit) -> Verdict {
    let ip = IpText(ip);
    match answer {
        b"OK" => Verdict::success(format!("{ip}: {done}")),
        b"NOTFOUND" => Verdict::error(not_found, format!("{ip}: doesn't exist")),
        _ => refused(&format!("{ip}: "), answer),
    }
}

fn refused(before: &str, answer: &[u8]) -> Verdict {
    let mut text = format!("{before}{}", printable(answer));
    if let Some(remedy) = remedy(answer) {
        text = format!("{text} ({remedy})");
    }
    Verdict::error(Exit::TemporaryFailure, text)
}

/// What to do about an answer of the director.
fn remedy(answer: &[u8]) -> Option<&'static str> {
    Some(match answer {
        b"Ring sync timed out" => {
            "it may have been done, but not everywhere: 'ring status' shows which director does not answer"
        }
        b"vhost count too large" => "a backend's weight is at most 1000",
        b"host tag can't be changed" => "remove the backend, then add it with the new tag",
        _ => return None,
    })
}
