//! Dovecot 2.3's ipc (kick protocol, "The ipc socket"): one connection, answers in order.

use std::collections::VecDeque;

use log::{debug, warn};

use super::{Purpose, Via};
use crate::contract::ConnectionId;
use crate::director::Director;
use crate::time::Now;
use crate::wire::ipc::Answer;

/// The longest line that ipc may answer with.
pub(super) const LINE_MAX_BYTES: usize = 8192;

/// The connection to ipc and what it has been asked.
#[derive(Debug)]
pub(super) struct Ipc {
    id: ConnectionId,
    /// In the order in which the answers will come.
    asked: VecDeque<Purpose>,
}

impl Ipc {
    pub(super) fn new(id: ConnectionId) -> Self {
        Self { id, asked: VecDeque::new() }
    }

    pub(super) fn id(&self) -> ConnectionId {
        self.id
    }

    pub(super) fn len(&self) -> usize {
        self.asked.len()
    }
}

impl Director {
    /// Asks for all kicks that wait.
    pub(super) fn ask_ipc(&mut self) {
        let Via::Ipc(ipc) = &mut self.kicks.via else { return };
        let mut lines = Vec::new();
        for (command, purpose) in self.kicks.waiting.drain(..) {
            command.write(&mut lines);
            ipc.asked.push_back(purpose);
        }
        self.connections.write(ipc.id, &lines);
    }

    /// A line from ipc. Returns whether to go on reading.
    pub(crate) fn ipc_line(&mut self, id: ConnectionId, line: &[u8], now: Now) -> bool {
        let Via::Ipc(ipc) = &mut self.kicks.via else { return false };
        if ipc.id != id {
            return false;
        }
        match Answer::parse(line) {
            Some(Answer::Intermediate(text)) => {
                warn!("ipc: unexpected intermediate answer: {}", text.escape_ascii());
                return true;
            }
            Some(Answer::Done(count)) => match ipc.asked.pop_front() {
                Some(purpose) => {
                    // No number: there is no login process, so there was no session.
                    let count = count.unwrap_or(0);
                    debug!("ipc: {count} sessions were kicked");
                    self.kick_ended(purpose, Some(count), now);
                    return true;
                }
                None => warn!("ipc: an answer came that nobody had asked for"),
            },
            Some(Answer::Failed(text)) => match ipc.asked.pop_front() {
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
        self.kick_connection_closed(id, "protocol error", now);
        false
    }

    /// The connection has ended: all that was asked has failed.
    pub(super) fn end_ipc(&mut self, ipc: Ipc, reason: &str, now: Now) {
        for purpose in ipc.asked {
            self.kick_failed(purpose, reason, now);
        }
    }
}
