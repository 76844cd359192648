//! Kicking the sessions of local login processes (kick protocol, Dovecot 2.3's ipc).

use std::borrow::Cow;
use std::collections::VecDeque;

use log::{debug, error, warn};

use crate::connections::{Kind, Phase};
use crate::contract::{Action, ConnectionId, Target};
use crate::director::Director;
use crate::hosts::TagNumber;
use crate::time::{Instant, Now};
use crate::wire::ipc::{Answer, Command as IpcCommand};

/// What to kick.
pub(crate) type Command = IpcCommand<'static>;

/// The longest line that ipc may answer with.
const LINE_MAX_BYTES: usize = 8192;
/// At most so many kicks wait for ipc; more fail at once, because an answer after minutes helps nobody.
const QUEUE_MAX: usize = 100_000;
/// Errors are logged so often at most.
const ERRORS_PER_SECOND: u32 = 100;

/// A user's kill that waits for the answer: its number keeps an old answer from ending a new kill.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ForKill {
    pub(crate) hash: u32,
    pub(crate) tag: TagNumber,
    pub(crate) number: u64,
}

/// What a kick is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// A move: it goes on when the kick is done or has failed.
    Kill(ForKill),
    /// An administrator's kick: so many at once, no more.
    Admin,
    /// The ring's, or a conflict's.
    Other,
}

/// The connection to ipc and what it has been asked.
#[derive(Debug, Default)]
pub(crate) struct Ipc {
    connection: Option<ConnectionId>,
    /// In the order in which the answers will come.
    asked: VecDeque<Purpose>,
    /// How many of those are an administrator's.
    admin_kicks: u32,
    errors_since: Instant,
    errors: u32,
}

impl Director {
    /// Whether an administrator's kick has to wait for others.
    pub(crate) fn kicks_are_full(&self) -> bool {
        self.ipc.admin_kicks >= self.tuning.max_parallel_kicks
    }

    /// Kicks local sessions; a kill goes on when that is done or has failed.
    pub(crate) fn kick(&mut self, command: &Command, purpose: Purpose, now: Now) {
        if self.ipc.asked.len() >= QUEUE_MAX {
            self.kick_failed(purpose, "too many kicks are waiting", now);
            return;
        }
        let id = match self.ipc.connection {
            Some(id) => id,
            None => {
                let id = self.connections.add(Kind::Ipc, Phase::Connecting, LINE_MAX_BYTES);
                self.connections.act(Action::Connect { connection: id, target: Target::Ipc });
                self.ipc.connection = Some(id);
                id
            }
        };
        let mut line = Vec::with_capacity(64);
        command.write(&mut line);
        match command {
            IpcCommand::Hash { hash, .. } => debug!("ipc: kicking sessions of user hash {hash}"),
            IpcCommand::User { username } => debug!("ipc: kicking sessions of {}", printable(username)),
            IpcCommand::Alt { field, .. } => debug!("ipc: kicking sessions by {}", printable(field)),
        }
        self.connections.write(id, &line);
        self.ipc.asked.push_back(purpose);
        self.ipc.admin_kicks += u32::from(purpose == Purpose::Admin);
    }

    /// A line from ipc. Returns whether to go on reading.
    pub(crate) fn ipc_line(&mut self, id: ConnectionId, line: &[u8], now: Now) -> bool {
        match Answer::parse(line) {
            Some(Answer::Intermediate(text)) => {
                warn!("ipc: unexpected intermediate answer: {}", text.escape_ascii());
                return true;
            }
            Some(Answer::Done(count)) => match self.ipc.asked.pop_front() {
                Some(purpose) => {
                    // No number: there is no login process, so there was no session.
                    let count = count.unwrap_or(0);
                    debug!("ipc: {count} sessions were kicked");
                    self.kick_ended(purpose, Some(count), now);
                    return true;
                }
                None => warn!("ipc: an answer came that nobody had asked for"),
            },
            Some(Answer::Failed(text)) => match self.ipc.asked.pop_front() {
                Some(purpose) => {
                    let text = text.escape_ascii().to_string();
                    self.kick_failed(purpose, &text, now);
                    return true;
                }
                None => warn!("ipc: an answer came that nobody had asked for"),
            },
            None => warn!("ipc: answered {}: not its protocol", line.escape_ascii()),
        }
        self.connections.abort(id);
        self.ipc_closed(id, "protocol error", now);
        false
    }

    /// The connection to ipc is gone, or could not be made: all that was asked has failed.
    pub(crate) fn ipc_closed(&mut self, id: ConnectionId, reason: &str, now: Now) {
        if self.ipc.connection != Some(id) {
            return;
        }
        self.ipc.connection = None;
        // A kill that goes on may ask again: that is for the next connection.
        for purpose in std::mem::take(&mut self.ipc.asked) {
            self.kick_failed(purpose, reason, now);
        }
    }

    fn kick_ended(&mut self, purpose: Purpose, kicked: Option<u32>, now: Now) {
        match purpose {
            Purpose::Kill(for_kill) => self.kill_kicked(for_kill, kicked, now),
            Purpose::Admin => {
                self.ipc.admin_kicks = self.ipc.admin_kicks.saturating_sub(1);
                self.kicks_wake = true;
            }
            Purpose::Other => {}
        }
    }

    fn kick_failed(&mut self, purpose: Purpose, reason: &str, now: Now) {
        if now.instant.saturating_since(self.ipc.errors_since).as_secs() >= 1 {
            self.ipc.errors_since = now.instant;
            self.ipc.errors = 0;
        }
        self.ipc.errors += 1;
        if self.ipc.errors <= ERRORS_PER_SECOND {
            match purpose {
                Purpose::Kill(ForKill { hash, .. }) => {
                    error!("Kicking the sessions of user hash {hash} failed: {reason}");
                }
                Purpose::Admin | Purpose::Other => error!("Kicking sessions failed: {reason}"),
            }
        }
        self.kick_ended(purpose, None, now);
    }
}

fn printable(bytes: &[u8]) -> Cow<'_, str> {
    Cow::Owned(bytes.escape_ascii().to_string())
}
