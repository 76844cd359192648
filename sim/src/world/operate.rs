//! Operators, at work.

use director_core::Role;
use director_core::wire::admin::Command;

use super::machines::Place;
use super::{Happening, Program, World};
use crate::invariants::answers;
use crate::network::LinkId;
use crate::operators::{self, Report};
use crate::plan::SECOND;

/// A move that nobody waits for may be under way for so long.
const UNSEEN_MICROS: u64 = 40 * SECOND;

impl World {
    /// Somebody wants something of a director, and somebody else perhaps of another.
    pub(super) fn operate(&mut self) {
        if self.calm {
            return;
        }
        let pause = self.random.pause(self.plan.operator_pause_micros);
        self.schedule(self.now + pause, Happening::Operate);
        let commands = self.operators.draw();
        let rival = self.operators.draw_rival(&commands);
        let director = self.random.index(self.machines.len());
        self.ask(director, commands);
        if let Some(commands) = rival {
            let director = self.random.index(self.machines.len());
            self.ask(director, commands);
        }
    }

    /// An operator asks a director.
    pub(super) fn ask(&mut self, director: usize, commands: Vec<Command<'static>>) -> Option<LinkId> {
        let link = self.open(director, Program::Operator, Role::Admin)?;
        for command in &commands {
            self.statistics.commands += 1;
            self.statistics.commands_by_kind[operators::kind(command)] += 1;
            self.pools.ordered(command);
        }
        self.witness_orders(&commands, self.now);
        let paused = self.machines[director].paused_total_micros(self.now);
        for command in &commands {
            if let Command::DirectorRemove { ip, .. } = command
                && let Some(named) =
                    self.machines.iter().map(|machine| machine.address).find(|address| address.ip() == *ip)
            {
                self.removals.ask(director, named, self.now, paused);
            }
        }
        self.changes.asked(link, &commands, self.now);
        let lines = self.operators.ask(director, link, commands, self.now, paused);
        self.say(link, lines);
        if self.operators.draw_leaves() {
            self.hang_up(link);
            if let Some(errand) = self.operators.give_up(link) {
                self.trace.line(self.now, "operator", format_args!("leaves #{link}: {}", errand.shown()));
                self.witness_orders(&errand.commands, self.now + UNSEEN_MICROS);
            }
        }
        Some(link)
    }

    /// A director has said something to an operator.
    pub(super) fn operator_answered(&mut self, link: LinkId, bytes: &[u8]) {
        let Some(Report { errand, wrong }) = self.operators.received(link, bytes) else { return };
        self.hang_up(link);
        self.witness_orders(&errand.commands, self.now);
        self.added(&errand);
        for (place, answer) in errand.answers.iter().enumerate() {
            self.changes.answered(link, place, answer, self.now);
        }
        for command in &errand.commands {
            // If it has nobody to tell, no line says so.
            match command {
                Command::HostRemove { ip } if !errand.timed_out => self.backends.removed(errand.director, *ip),
                Command::HostSet { ip, .. } if !errand.timed_out => self.backends.added(errand.director, *ip),
                _ => {}
            }
        }
        if let Some((command, line)) = wrong {
            let detail = format!("{} answered {command} with '{line}'", Place(errand.director));
            self.violate(answers::NAME, detail);
        }
    }

    /// The connection of an operator is gone.
    pub(super) fn operator_disconnected(&mut self, director: usize, link: LinkId) {
        let Some(errand) = self.operators.give_up(link) else { return };
        self.witness_orders(&errand.commands, self.now);
        let may_crash =
            self.machines[director].core.is_none() || self.machines[director].was_out || !self.plan.faults.is_empty();
        if !may_crash {
            let place = Place(director);
            let detail = format!("{place} closed the connection instead of answering {}", errand.shown());
            self.violate(answers::NAME, detail);
        }
    }

    /// Looks for operators who have waited for too long.
    pub(super) fn sweep_operators(&mut self) {
        let machines = &self.machines;
        let late: Vec<LinkId> = self
            .operators
            .waiting()
            .filter(|(_, errand)| {
                let stood = machines[errand.director].paused_total_micros(self.now) - errand.paused_micros;
                answers::is_late(errand.asked_micros, self.now, stood, errand.limit_micros)
            })
            .map(|(link, _)| link)
            .collect();
        for link in late {
            if let Some(errand) = self.operators.give_up(link) {
                self.hang_up(link);
                let detail = format!("{} did not answer {}", Place(errand.director), errand.shown());
                self.violate(answers::NAME, detail);
            }
        }
    }
}
