//! Clients that reach auth through a director, and auth, at work.

use director_core::Role;

use super::machines::Place;
use super::{Happening, Program, World};
use crate::invariants::answers;
use crate::network::{Content, LinkId, Side};
use crate::plan::SECOND;
use crate::relays::{Got, Protocol, Work};
use crate::trace::Shown;

impl World {
    /// A client connects to the director beside it, for relaying.
    pub(super) fn open_relay(&mut self, director: usize, protocol: Protocol) {
        let role = match protocol {
            Protocol::Login => Role::Login,
            Protocol::Userdb => Role::Userdb,
        };
        let Some(link) = self.open(director, Program::Relay(protocol), role) else { return };
        let paused = self.machines[director].paused_total_micros(self.now);
        match self.relays.connected(director, protocol, link, self.now, paused) {
            Some(greeting) => self.say(link, greeting),
            None => {
                let detail = format!("{} does not connect to auth for a client", Place(director));
                self.violate(answers::NAME, detail);
            }
        }
    }

    /// A user comes by way of auth.
    pub(super) fn ask_auth(&mut self, director: usize, protocol: Protocol) {
        if let Some((link, line)) = self.relays.ask(director, protocol) {
            self.statistics.lookups += 1;
            self.statistics.relayed += 1;
            self.say(link, line);
        }
    }

    /// A client gets something.
    pub(super) fn relay_received(&mut self, director: usize, link: LinkId, bytes: &[u8]) {
        for got in self.relays.received(link, bytes) {
            match got {
                Got::Backend { user, backend, stays, since_micros, paused_micros } => {
                    self.measure_lookup(director, since_micros, paused_micros);
                    self.user_sent(director, user, backend, stays);
                }
                Got::TemporaryFailure => self.statistics.temporary_failures += 1,
                Got::Nonsense(line) => {
                    let detail = format!("{} told a client of auth: {}", Place(director), Shown(line.as_bytes()));
                    self.violate(answers::NAME, detail);
                }
            }
        }
    }

    /// A client's connection has ended: it comes again.
    pub(super) fn relay_ended(&mut self, director: usize, protocol: Protocol, link: LinkId) {
        if self.relays.client_ended(link) == Some(false) && self.machines[director].core.is_some() {
            let detail = format!("{} closed the connection of a client whose auth server lives", Place(director));
            self.violate(answers::NAME, detail);
        }
        let at = self.now + self.random.between(SECOND / 10, 3 * SECOND);
        let incarnation = self.machines[director].incarnation;
        self.schedule(at, Happening::Relay { director, incarnation, protocol });
    }

    /// Auth gets something.
    pub(super) fn auth_received(&mut self, link: LinkId, bytes: &[u8]) {
        match self.relays.auth_received(link, bytes, self.now) {
            Ok(times) => {
                for at in times {
                    self.schedule(at, Happening::Auth { link });
                }
            }
            Err(line) => {
                let detail = format!("auth was told what no client has said: {}", Shown(line.as_bytes()));
                self.violate(answers::NAME, detail);
            }
        }
    }

    /// Auth has something to do.
    pub(super) fn auth_works(&mut self, link: LinkId) {
        let Some(director) = self.relays.director_of(link) else { return };
        let paused = self.machines[director].paused_total_micros(self.now);
        while let Some(work) = self.relays.auth_works(link, self.now, paused) {
            match work {
                Work::Say(line) => self.send(link, Side::Acceptor, Content::Bytes(line.into_bytes())),
                Work::Die => {
                    self.trace.line(self.now, "auth", format_args!("#{link} dies"));
                    let content = if self.random.percent(50) { Content::Finish } else { Content::Reset };
                    self.send(link, Side::Acceptor, content);
                    self.network.abandon(link, Side::Acceptor);
                    self.auth_ended(link);
                }
            }
        }
    }

    /// Auth has gone, or its connection.
    pub(super) fn auth_ended(&mut self, link: LinkId) {
        let machines = &self.machines;
        let now = self.now;
        self.relays.auth_ended(link, now, |director| machines[director].paused_total_micros(now));
    }

    /// Looks for replies that were not passed on.
    pub(super) fn sweep_relays(&mut self) {
        let machines = &self.machines;
        let now = self.now;
        let late = self.relays.late(now, |director| machines[director].paused_total_micros(now));
        for (director, what) in late {
            self.violate(answers::NAME, format!("{} {what}", Place(director)));
        }
    }
}
