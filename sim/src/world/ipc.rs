//! The ipc services, at work: they end sessions, and say so.

use director_core::wire::ipc::Command;

use super::machines::Place;
use super::{Happening, World};
use crate::invariants::CONTRACT;
use crate::ipc::Step;
use crate::network::{Content, LinkId, Side};
use crate::trace::Shown;

impl World {
    /// A director asks for kicks.
    pub(super) fn ipc_received(&mut self, director: usize, link: LinkId, bytes: &[u8]) {
        let (commands, times) = self.ipc.received(link, bytes, self.now);
        for command in commands {
            self.clients.mark_kick(director, Some(&command), false);
            if let Some(Command::Hash { hash, except }) = Command::parse(&command)
                && let Some(user) = self.clients.hashes().iter().position(|known| *known == hash)
            {
                let clock_secs = self.machines[director].clock(self.now).unix_secs;
                self.backends.kicked_by(director, user, except, clock_secs, self.now);
            }
        }
        for at in times {
            self.schedule(at, Happening::Ipc { link });
        }
    }

    /// The time has come for an ipc service to do something.
    pub(super) fn ipc_works(&mut self, link: LinkId) {
        while let Some(step) = self.ipc.step(link, self.now) {
            match step {
                Step::Kick { director, line, number } => match self.clients.kick(director, &line) {
                    Some(count) => {
                        let shown = Shown(&line);
                        self.trace.line(self.now, "ipc", format_args!("{}: {count} by {shown}", Place(director)));
                        self.statistics.kicks += 1;
                        self.statistics.kicked_sessions += u64::from(count);
                        self.ipc.kicked(link, number, count);
                    }
                    None => {
                        let detail = format!("{} said to ipc: {}", Place(director), Shown(&line));
                        self.violate(CONTRACT, detail);
                    }
                },
                Step::Say { answer, failed } => {
                    if let Some((director, line)) = failed {
                        self.clients.mark_kick(director, Some(&line), true);
                    }
                    self.statistics.failed_kicks += u64::from(answer.starts_with(b"-"));
                    self.send(link, Side::Acceptor, Content::Bytes(answer));
                }
                Step::Break { director } => {
                    // What had been asked and was not done yet will not be, nor what is on its way here.
                    self.clients.mark_kick(director, None, true);
                    self.statistics.failed_kicks += 1;
                    self.trace.line(self.now, "ipc", format_args!("connection #{link} breaks"));
                    self.send(link, Side::Acceptor, Content::Reset);
                    self.network.abandon(link, Side::Acceptor);
                }
            }
        }
    }
}
