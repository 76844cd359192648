//! What the invariant "one backend" is told of the world, and when it is asked.

use director_core::wire::admin::Command;

use super::World;
use super::machines::Place;
use crate::clients::Session;
use crate::invariants::backends::reach::Condition;
use crate::invariants::backends::{self, Moment};

impl World {
    /// Who lives, who moves, or who reaches whom may have changed.
    pub(super) fn reach_changed(&mut self) {
        let conditions: Vec<Condition> = self
            .machines
            .iter()
            .map(|machine| Condition {
                alive: machine.core.is_some(),
                moves: machine.paused_until <= self.now,
                removed: !machine.listed || machine.awaited_since.is_some(),
            })
            .collect();
        let network = &self.network;
        let is_cut = |from, to| network.is_cut(from, to);
        self.backends.reach_changed(self.now, &conditions, is_cut, &network.passages());
    }

    /// A director's process has died, or its machine.
    pub(super) fn director_died(&mut self, director: usize) {
        let powered = self.machines[director].powered;
        self.clients.director_died(director, powered);
        self.reach_changed();
    }

    /// An operator asks for something, or has been answered.
    pub(super) fn witness_orders(&mut self, commands: &[Command<'_>], until: u64) {
        for command in commands {
            match command {
                Command::HostFlush { ip } => self.backends.ordered(*ip, until),
                Command::HostRemove { ip } | Command::HostSet { ip, tag: Some(_), .. } => {
                    self.backends.ordered(Some(*ip), until);
                }
                _ => {}
            }
        }
    }

    /// Somebody is let in.
    pub(super) fn witness_login(&mut self, new: &Session) {
        let sessions = self.clients.sessions_of(new.user, self.now);
        let others: Vec<Session> = sessions.map(|(_, other)| other.clone()).collect();
        if others.iter().any(|other| other.backend != new.backend) {
            // Links come and go.
            self.reach_changed();
        }
        let clocks = self.clocks_secs();
        let alive = self.alive();
        let moment = Moment { now: self.now, clocks_secs: &clocks, alive: &alive };
        match self.backends.let_in(&moment, new, &others) {
            Ok(None) => {}
            Ok(Some(cause)) => {
                self.statistics.second_backends[cause as usize] += 1;
                let place = Place(new.director);
                let name = cause.name();
                self.trace.line(self.now, place, format_args!("user {} has a second backend: {name}", new.user));
            }
            Err(error) => {
                self.statistics.unexplained_second_backends += 1;
                self.violate(backends::NAME, error);
            }
        }
    }

    /// Looks for users on two backends.
    pub(super) fn witness_second(&mut self) {
        self.reach_changed();
        let clocks = self.clocks_secs();
        let alive = self.alive();
        let moment = Moment { now: self.now, clocks_secs: &clocks, alive: &alive };
        let mut errors = Vec::new();
        for user in 0..self.plan.users {
            let sessions: Vec<(u64, &Session)> = self.clients.sessions_of(user, self.now).collect();
            for (place, &one) in sessions.iter().enumerate() {
                for &other in &sessions[..place] {
                    if one.1.backend != other.1.backend
                        && let Err(error) = self.backends.look_at(&moment, one, other)
                    {
                        errors.push(error);
                    }
                }
            }
        }
        for error in errors {
            self.violate(backends::NAME, error);
        }
    }

    fn clocks_secs(&self) -> Vec<u64> {
        self.machines.iter().map(|machine| machine.clock(self.now).unix_secs).collect()
    }

    fn alive(&self) -> Vec<bool> {
        self.machines.iter().map(|machine| machine.core.is_some()).collect()
    }
}
