//! The programs beside each director, and the checks of what they are told.

use std::net::IpAddr;

use director_core::Role;

use super::machines::Place;
use super::{Happening, Party, Program, World};
use crate::clients::{Answered, Session};
use crate::invariants::{self, answers};
use crate::network::{Content, LinkId, Side};
use crate::plan::SECOND;
use crate::relays::Protocol;
use crate::trace::Shown;

impl World {
    /// A director's process has started: its login process connects.
    pub(super) fn start_programs(&mut self, director: usize) {
        let lookups = self.open(director, Program::Login, Role::AuthReply);
        let notify = self.open(director, Program::Notify, Role::Notify);
        if let (Some(lookups), Some(notify)) = (lookups, notify) {
            let greeting = self.clients.connected(director, lookups, notify);
            self.say(lookups, greeting.to_vec());
        }
        for protocol in Protocol::ALL {
            self.open_relay(director, protocol);
        }
    }

    /// A director's process is gone.
    pub(super) fn stop_programs(&mut self, director: usize) {
        self.clients.disconnected(director);
        self.relays.disconnected(director);
    }

    /// A program connects to the director beside it.
    pub(super) fn open(&mut self, director: usize, program: Program, role: Role) -> Option<LinkId> {
        if !self.machines[director].is_active(self.now) {
            return None;
        }
        let connection = self.accept(director, role, None)?;
        let incarnation = self.machines[director].incarnation;
        let opener = (director, Party::Program { director, program });
        let acceptor = (director, Party::Director { director, incarnation, connection });
        let (link, at) = self.network.open(self.now, opener, acceptor);
        self.schedule(at, Happening::Arrive { link, side: Side::Opener });
        let name = format!("{}>{}#{link}", program.name(), Place(director));
        self.accepted(director, connection, link, name, false);
        Some(link)
    }

    /// A program says something on a connection that it opened.
    pub(super) fn say(&mut self, link: LinkId, bytes: Vec<u8>) {
        self.send(link, Side::Opener, Content::Bytes(bytes));
    }

    /// A program has enough of a connection.
    pub(super) fn hang_up(&mut self, link: LinkId) {
        self.send(link, Side::Opener, Content::Finish);
        self.network.abandon(link, Side::Opener);
    }

    pub(super) fn program_received(
        &mut self,
        director: usize,
        program: Program,
        link: LinkId,
        side: Side,
        content: Content,
    ) {
        let bytes = match content {
            Content::Established => return,
            Content::Bytes(bytes) => bytes,
            Content::Finish
                if program == Program::Script
                    && let Some(request) = self.scripts.input_ended(link) =>
            {
                // The director's side only: now it waits for the end of the script.
                self.script_told(director, link, request);
                return;
            }
            Content::Finish | Content::Reset => {
                self.send(link, side, Content::Finish);
                self.network.abandon(link, side);
                self.program_disconnected(director, program, link);
                return;
            }
        };
        match program {
            // What a dead director has still said reaches nobody: its login process has noticed.
            Program::Login if !self.clients.needs(director, link) => {}
            Program::Login => self.lookups_answered(director, &bytes),
            Program::Notify => {
                let detail = format!("{} wrote to a notify connection: {}", Place(director), Shown(&bytes));
                self.violate(invariants::CONTRACT, detail);
            }
            Program::Ipc => self.ipc_received(director, link, &bytes),
            Program::Script => self.scripts.received(link, &bytes),
            Program::Relay(_) => self.relay_received(director, link, &bytes),
            Program::Auth => self.auth_received(link, &bytes),
            Program::Operator => self.operator_answered(link, &bytes),
            Program::Guest => self.guests.received(link, &bytes),
            Program::Probe => {
                if self.probes.received(link, &bytes) {
                    self.hang_up(link);
                }
            }
        }
    }

    fn program_disconnected(&mut self, director: usize, program: Program, link: LinkId) {
        match program {
            Program::Login | Program::Notify if self.clients.needs(director, link) => {
                let detail = format!("{} closed the connection of its {} program", Place(director), program.name());
                self.violate(answers::NAME, detail);
                self.clients.disconnected(director);
            }
            Program::Operator => self.operator_disconnected(director, link),
            Program::Probe => self.probes.closed(link),
            Program::Script => {
                if self.scripts.abandoned(link) {
                    self.trace.line(self.now, "script", format_args!("#{link} is killed"));
                }
            }
            Program::Relay(protocol) => self.relay_ended(director, protocol, link),
            Program::Auth => self.auth_ended(link),
            Program::Login | Program::Notify | Program::Ipc | Program::Guest => {}
        }
    }

    pub(super) fn log_in(&mut self) {
        if !self.is_busy() {
            return;
        }
        let pause = self.random.pause(self.plan.login_pause_micros);
        self.schedule(self.now + pause, Happening::Login);
        let director = self.random.index(self.machines.len());
        match self.random.below(100) {
            0..12 => return self.ask_auth(director, Protocol::Login),
            12..18 => return self.ask_auth(director, Protocol::Userdb),
            _ => {}
        }
        let paused = self.machines[director].paused_total_micros(self.now);
        if let Some((link, line)) = self.clients.log_in(director, self.now, paused) {
            self.statistics.lookups += 1;
            self.say(link, line);
        }
    }

    fn lookups_answered(&mut self, director: usize, bytes: &[u8]) {
        for (lookup, answer) in self.clients.received(director, bytes) {
            let Some(lookup) = lookup else {
                self.violate(
                    answers::NAME,
                    format!("{} answered what nobody asked: {}", Place(director), Shown(bytes)),
                );
                continue;
            };
            self.measure_lookup(director, lookup.asked_micros, lookup.paused_micros);
            match answer {
                Answered::Backend(backend) => self.user_sent(director, lookup.user, backend, true),
                Answered::TemporaryFailure => {
                    self.statistics.temporary_failures += 1;
                    let faults = !self.plan.faults.is_empty();
                    if !answers::may_fail(lookup.asked_micros, faults, self.whole_since)
                        && !self.pools.may_be_empty(director, self.plan.user_tag(lookup.user))
                    {
                        let place = Place(director);
                        let detail = format!("{place} failed a lookup of user {} for no reason", lookup.user);
                        self.violate(answers::NAME, detail);
                    }
                }
                Answered::Nonsense => {
                    self.violate(answers::NAME, format!("{} said {}", Place(director), Shown(bytes)));
                }
            }
        }
    }

    /// A lookup that began then has its answer.
    pub(super) fn measure_lookup(&mut self, director: usize, since_micros: u64, paused_micros: u64) {
        let stood = self.machines[director].paused_total_micros(self.now) - paused_micros;
        let waited = (self.now - since_micros).saturating_sub(stood);
        self.statistics.slowest_lookup_micros = self.statistics.slowest_lookup_micros.max(waited);
    }

    /// A director has sent a user to a backend, where he stays for a while, or has done with it at once.
    pub(super) fn user_sent(&mut self, director: usize, user: usize, backend: IpAddr, stays: bool) {
        self.witness_login(&Session::new(user, director, backend, self.now));
        if stays {
            let (session, at) = self.clients.open_session(director, user, backend, self.now);
            self.schedule(at, Happening::Refresh { session });
        }
    }

    pub(super) fn refresh(&mut self, session: u64) {
        if !self.is_busy() {
            self.clients.close_all();
            return;
        }
        if let Some((link, line, at)) = self.clients.refresh(session, self.now) {
            if let Some(link) = link {
                self.say(link, line);
            }
            self.schedule(at, Happening::Refresh { session });
        }
    }

    /// Somebody looks how the ring is.
    pub(super) fn probe(&mut self, director: usize) {
        if let Some(link) = self.open(director, Program::Probe, Role::Admin) {
            let line = self.probes.ask(director, link);
            self.say(link, line);
        }
    }

    /// Looks for questions that have waited for too long.
    pub(super) fn sweep(&mut self) {
        self.schedule(self.now + SECOND, Happening::Sweep);
        self.witness_second();
        for director in 0..self.machines.len() {
            let paused = self.machines[director].paused_total_micros(self.now);
            let late: Vec<(u64, usize)> = self
                .clients
                .waiting(director)
                .filter(|(_, lookup)| {
                    let stood = paused - lookup.paused_micros;
                    answers::is_late(lookup.asked_micros, self.now, stood, answers::LOOKUP_MAX_MICROS)
                })
                .map(|(id, lookup)| (id, lookup.user))
                .collect();
            for (id, user) in late {
                self.clients.give_up(director, id);
                let detail = format!("{} did not answer lookup {id}, of user {user}", Place(director));
                self.violate(answers::NAME, detail);
            }
        }
        self.sweep_operators();
        self.sweep_relays();
    }
}
