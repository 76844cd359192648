//! The programs beside each director, and the checks of what they are told.

use director_core::Role;

use super::machines::Place;
use super::{Happening, Party, Program, World};
use crate::clients::Answered;
use crate::invariants::{self, answers};
use crate::network::{Content, LinkId, Side};
use crate::plan::SECOND;
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
    }

    /// A director's process is gone.
    pub(super) fn stop_programs(&mut self, director: usize) {
        self.clients.disconnected(director);
    }

    /// A program connects to the director beside it.
    fn open(&mut self, director: usize, program: Program, role: Role) -> Option<LinkId> {
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
    fn say(&mut self, link: LinkId, bytes: Vec<u8>) {
        self.send(link, Side::Opener, Content::Bytes(bytes));
    }

    /// A program has enough of a connection.
    fn hang_up(&mut self, link: LinkId) {
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
            Program::Ipc => {
                let answer = self.clients.kick(director, link, &bytes);
                if !answer.is_empty() {
                    self.send(link, side, Content::Bytes(answer));
                }
            }
            Program::Operator => self.operator_answered(link, &bytes),
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
            Program::Operator => {
                if let Some(errand) = self.operators.give_up(link) {
                    self.excuse_if(errand.forgets_users());
                    let crashed = self.machines[director].core.is_none() || !self.plan.faults.is_empty();
                    if !crashed {
                        let command = errand.command;
                        let detail =
                            format!("{} closed the connection instead of answering {command}", Place(director));
                        self.violate(answers::NAME, detail);
                    }
                }
            }
            Program::Probe => self.probes.closed(link),
            Program::Login | Program::Notify | Program::Ipc => {}
        }
    }

    pub(super) fn log_in(&mut self) {
        if !self.is_busy() {
            return;
        }
        let pause = self.random.pause(self.plan.login_pause_micros);
        self.schedule(self.now + pause, Happening::Login);
        let director = self.random.index(self.machines.len());
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
            let stood = self.machines[director].paused_total_micros(self.now) - lookup.paused_micros;
            let waited = (self.now - lookup.asked_micros).saturating_sub(stood);
            self.statistics.slowest_lookup_micros = self.statistics.slowest_lookup_micros.max(waited);
            match answer {
                Answered::Backend(backend) => {
                    let (session, at) = self.clients.open_session(director, lookup.user, backend, self.now);
                    self.schedule(at, Happening::Refresh { session });
                    if self.plan.faults.is_empty()
                        && !self.operators.forgetting()
                        && let Err(error) = self.backends.answered(lookup.user, backend, self.now)
                    {
                        self.violate(invariants::backends::NAME, format!("by {}: {error}", Place(director)));
                    }
                }
                Answered::TemporaryFailure => self.statistics.temporary_failures += 1,
                Answered::Nonsense => {
                    self.violate(answers::NAME, format!("{} said {}", Place(director), Shown(bytes)));
                }
            }
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

    pub(super) fn operate(&mut self) {
        if self.calm {
            return;
        }
        let pause = self.random.pause(self.plan.operator_pause_micros);
        self.schedule(self.now + pause, Happening::Operate);
        let director = self.random.index(self.machines.len());
        if let Some(link) = self.open(director, Program::Operator, Role::Admin) {
            let paused = self.machines[director].paused_total_micros(self.now);
            let line = self.operators.ask(director, link, self.now, paused);
            self.statistics.commands += 1;
            self.say(link, line);
        }
    }

    fn operator_answered(&mut self, link: LinkId, bytes: &[u8]) {
        let Some((errand, wrong)) = self.operators.received(link, bytes) else { return };
        self.hang_up(link);
        self.excuse_if(errand.forgets_users());
        if let Some(wrong) = wrong {
            let detail = format!("{} answered {} with '{wrong}'", Place(errand.director), errand.command);
            self.violate(answers::NAME, detail);
        }
    }

    fn excuse_if(&mut self, forgotten: bool) {
        if forgotten {
            self.backends.excuse(self.now);
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
        let machines = &self.machines;
        let late: Vec<LinkId> = self
            .operators
            .waiting()
            .filter(|(_, errand)| {
                let stood = machines[errand.director].paused_total_micros(self.now) - errand.paused_micros;
                answers::is_late(errand.asked_micros, self.now, stood, answers::COMMAND_MAX_MICROS)
            })
            .map(|(link, _)| link)
            .collect();
        for link in late {
            if let Some(errand) = self.operators.give_up(link) {
                self.hang_up(link);
                let detail = format!("{} did not answer {}", Place(errand.director), errand.command);
                self.violate(answers::NAME, detail);
            }
        }
    }
}
