//! Operators who take directors out of the ring and back into it, at work.
//!
//! They do what the documentation says: the ring is told, the machine is stopped (before or after), and the configuration
//! of the others is changed for their next start. Once faults stop, all members are wanted again.

use std::net::SocketAddr;

use director_core::wire::admin::Command;
use director_core::wire::ring::minor;

use super::machines::Place;
use super::{Happening, World};
use crate::invariants::answers::is_late;
use crate::operators::Errand;
use crate::plan::SECOND;
use crate::views::View;

/// When, after faults have stopped, operators make sure that every director knows all.
const RESTORE_SECS: [u64; 4] = [0, START_SECS, 15, 40];
/// When they start those that are stopped: not before the others know them, or two of these would be a ring of their own.
const START_SECS: u64 = 3;
/// An operator whose DIRECTOR-ADD was not answered with OK goes to another director after so long.
const ADD_AGAIN_MICROS: u64 = 10 * SECOND;
/// A director that was asked for a DIRECTOR-REMOVE has done it after so long, or never does: a command waits for the ring
/// for 30 s (admin protocol, "Waiting for the ring").
const REMOVAL_MAX_MICROS: u64 = 31 * SECOND;

/// DIRECTOR-REMOVEs that directors were asked for and that may not be done yet.
#[derive(Debug, Default)]
pub(super) struct Removals {
    waiting: Vec<Removal>,
}

#[derive(Debug)]
struct Removal {
    asked: usize,
    named: SocketAddr,
    asked_micros: u64,
    /// How long the asked director's process had stood still until then: such time does not count.
    paused_micros: u64,
}

impl Removals {
    /// A director is asked to remove another.
    pub(super) fn ask(&mut self, asked: usize, named: SocketAddr, asked_micros: u64, paused_micros: u64) {
        self.waiting.retain(|removal| (removal.asked, removal.named) != (asked, named));
        self.waiting.push(Removal { asked, named, asked_micros, paused_micros });
    }

    /// A director has told others that another is removed. Returns whether it had been asked for that, not too long ago,
    /// and has not done so before.
    fn is_done(&mut self, asked: usize, named: SocketAddr, now: u64, paused_micros: u64) -> bool {
        let place = self.waiting.iter().position(|removal| (removal.asked, removal.named) == (asked, named));
        let removal = place.map(|place| self.waiting.swap_remove(place));
        removal.is_some_and(|removal| {
            !is_late(removal.asked_micros, now, paused_micros - removal.paused_micros, REMOVAL_MAX_MICROS)
        })
    }

    /// A director says OK to adding another, as it was asked then: it has done all that it was asked for before.
    fn added(&mut self, asked: usize, named: SocketAddr, asked_micros: u64) {
        self.waiting
            .retain(|removal| (removal.asked, removal.named) != (asked, named) || removal.asked_micros > asked_micros);
    }

    /// A director's process has died, and with it what waited there.
    pub(super) fn died(&mut self, asked: usize) {
        self.waiting.retain(|removal| removal.asked != asked);
    }
}

impl World {
    /// The last director is not in the ring at first, if the plan has it so.
    pub(super) fn leave_out_newcomer(&mut self) {
        if let Some(newcomer) = self.plan.newcomer() {
            self.take_out(newcomer);
        }
    }

    /// A director is taken out of the ring, or brought back.
    pub(super) fn reorganize(&mut self) {
        if self.calm {
            return;
        }
        let out: Vec<usize> = (0..self.machines.len()).filter(|&n| !self.machines[n].listed).collect();
        let back = if out.is_empty() { false } else { self.random.percent(80) };
        let pause = if back {
            let director = out[self.random.index(out.len())];
            self.bring_back(director);
            self.random.between(5 * SECOND, 40 * SECOND)
        } else {
            self.remove_one();
            // A removed member is remembered for 30 s.
            if self.random.percent(60) {
                self.random.between(SECOND, 25 * SECOND)
            } else {
                self.random.between(31 * SECOND, 60 * SECOND)
            }
        };
        self.schedule(self.now + pause, Happening::Reorganize);
    }

    /// Operators see to it that every director knows all members.
    pub(super) fn restore_members(&mut self) {
        for machine in &mut self.machines {
            machine.listed = true;
            machine.awaited_since = None;
        }
        self.reach_changed();
        for secs in RESTORE_SECS {
            self.schedule(self.now + secs * SECOND, Happening::Restore);
        }
    }

    pub(super) fn restore(&mut self) {
        let count = self.machines.len();
        if self.now >= self.plan.safety_micros + START_SECS * SECOND {
            for director in 0..count {
                self.machines[director].stopped = false;
                self.schedule(self.now, Happening::Start { director });
            }
        }
        for (asked, named) in (0..count).flat_map(|asked| (0..count).map(move |named| (asked, named))) {
            if self.machines[named].was_out {
                let address = self.machines[named].address;
                self.ask(asked, vec![Command::DirectorAdd { ip: address.ip(), port: Some(address.port()) }]);
            }
        }
    }

    /// Somebody has given a backend a tag by mistake, while a member that knows none was away: it is refused from then on, and
    /// says so. Operators want the member, so they remove the backend, at one of those who have it.
    pub(super) fn take_tags_away(&mut self, views: &[Result<View, String>]) {
        if self.plan.lowest_minor() >= minor::TAGS {
            return;
        }
        let tagged = |view: &View| view.hosts.iter().find(|host| !host.tag.is_empty()).map(|host| host.ip);
        let found = views.iter().enumerate().find_map(|(n, view)| Some((n, tagged(view.as_ref().ok()?)?)));
        if let Some((director, ip)) = found {
            self.ask(director, vec![Command::HostRemove { ip }]);
        }
    }

    /// The members that a director's configuration has when it starts now.
    pub(super) fn configured_members(&self, director: usize) -> Vec<SocketAddr> {
        let machines = self.machines.iter().enumerate();
        machines.filter(|(n, machine)| machine.listed || *n == director).map(|(_, machine)| machine.address).collect()
    }

    fn remove_one(&mut self) {
        let listed: Vec<usize> = (0..self.machines.len()).filter(|&n| self.machines[n].listed).collect();
        if listed.len() < 2 {
            return;
        }
        let director = listed[self.random.index(listed.len())];
        let others: Vec<usize> = listed.into_iter().filter(|&n| n != director).collect();
        let asked = others[self.random.index(others.len())];
        let address = self.machines[director].address;
        let port = self.random.percent(50).then_some(address.port());
        let command = Command::DirectorRemove { ip: address.ip(), port };
        self.statistics.removals += 1;
        match self.random.below(4) {
            0 => {
                self.take_out(director);
                self.ask(asked, vec![command]);
            }
            1 => {
                self.ask(asked, vec![command]);
                self.mark_out(director);
                let at = self.now + self.random.below(2 * SECOND);
                self.schedule(at, Happening::Stop { director });
            }
            2 => {
                // It says so itself.
                self.ask(director, vec![command]);
                self.mark_out(director);
                let at = self.now + self.random.between(SECOND / 2, 2 * SECOND);
                self.schedule(at, Happening::Stop { director });
            }
            _ if self.plan.faults.is_empty() => {
                self.take_out(director);
                self.ask(asked, vec![command]);
            }
            // Somebody forgets to stop it: until it is back it looks for its ring, and may serve alone.
            _ => {
                self.ask(asked, vec![command]);
                self.mark_out(director);
            }
        }
    }

    fn bring_back(&mut self, director: usize) {
        let has_others = (0..self.machines.len()).any(|n| self.machines[n].listed);
        let address = self.machines[director].address;
        self.machines[director].listed = true;
        self.machines[director].stopped = false;
        self.trace.line(self.now, "operator", format_args!("brings {} back", Place(director)));
        // Its own ring may have forgotten it, and drops its connections until it is told.
        self.machines[director].awaited_since = has_others.then_some(self.now);
        self.schedule(self.now + ADD_AGAIN_MICROS, Happening::AddAgain { director });
        self.reach_changed();
        let command = Command::DirectorAdd { ip: address.ip(), port: Some(address.port()) };
        let (start_at, add_at) = if self.random.percent(50) { (0, 1) } else { (1, 0) };
        for step in 0..2 {
            if step == start_at {
                self.schedule(self.now, Happening::Start { director });
            }
            if step == add_at
                && let Some(asked) = self.draw_introducer(director)
            {
                self.ask(asked, vec![command.clone()]);
            }
        }
    }

    /// Whom operators ask to let a director in: one that is in the ring itself, for all that they know, if there is any.
    fn draw_introducer(&mut self, director: usize) -> Option<usize> {
        let others: Vec<usize> =
            (0..self.machines.len()).filter(|&n| n != director && self.machines[n].listed).collect();
        if others.is_empty() {
            return None;
        }
        let drawn = self.random.index(others.len());
        let is_in = |n: &usize| self.machines[*n].awaited_since.is_none();
        others[drawn..].iter().chain(&others[..drawn]).copied().find(is_in).or(Some(others[drawn]))
    }

    /// Operators have asked for a director to be added, and were answered with OK or not. An answer to what was asked before
    /// it was taken out does not count.
    pub(super) fn added(&mut self, errand: &Errand) {
        for (command, answer) in errand.commands.iter().zip(&errand.answers) {
            if let Command::DirectorAdd { ip, .. } = command
                && answer == "OK"
                && let Some(machine) = self.machines.iter_mut().find(|machine| machine.address.ip() == *ip)
            {
                self.removals.added(errand.director, machine.address, errand.asked_micros);
                machine.awaited_since.take_if(|since| errand.asked_micros >= *since);
            }
        }
        self.reach_changed();
    }

    /// Nobody may have said OK to a director that was brought back: operators ask somebody else.
    pub(super) fn add_again(&mut self, director: usize) {
        let machine = &self.machines[director];
        if self.calm || machine.awaited_since.is_none() || !machine.listed {
            return;
        }
        let address = machine.address;
        if let Some(asked) = self.draw_introducer(director) {
            self.ask(asked, vec![Command::DirectorAdd { ip: address.ip(), port: Some(address.port()) }]);
        }
        self.schedule(self.now + ADD_AGAIN_MICROS, Happening::AddAgain { director });
    }

    /// A director has told others that another is removed. If it was asked for that, has waited for the ring, and operators
    /// have brought the other back meanwhile, that one is out again. They see it on their list, and ask once more.
    pub(super) fn removal_told(&mut self, asked: usize, named: SocketAddr) {
        let paused_micros = self.machines[asked].paused_total_micros(self.now);
        if !self.removals.is_done(asked, named, self.now, paused_micros) || self.calm {
            return;
        }
        let Some(director) = self.machines.iter().position(|machine| machine.address == named) else { return };
        if !self.machines[director].listed {
            return;
        }
        self.trace.line(self.now, "operator", format_args!("sees that {} is out again", Place(director)));
        if self.machines[director].awaited_since.replace(self.now).is_none() {
            self.schedule(self.now + ADD_AGAIN_MICROS, Happening::AddAgain { director });
        }
        self.reach_changed();
    }

    fn mark_out(&mut self, director: usize) {
        self.trace.line(self.now, "operator", format_args!("takes {} out of the ring", Place(director)));
        self.machines[director].listed = false;
        self.machines[director].awaited_since = None;
        self.machines[director].was_out = true;
        self.reach_changed();
    }

    fn take_out(&mut self, director: usize) {
        self.mark_out(director);
        self.stop(director);
    }

    /// A machine that is out of the ring is stopped, and its proxies with it.
    pub(super) fn stop(&mut self, director: usize) {
        if self.calm || self.machines[director].listed {
            return;
        }
        self.trace.line(self.now, "operator", format_args!("stops {}", Place(director)));
        self.machines[director].stopped = true;
        self.clients.close_all_of(director);
        self.shut_down(director);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_removal_is_done_once_and_within_the_time_that_a_command_waits() {
        let [named, other] = ["10.1.0.5:9090", "10.1.0.4:9090"].map(|address| address.parse().unwrap());
        for (asked, told, after_micros, paused_micros, is_done) in [
            (1, named, REMOVAL_MAX_MICROS, 0, true),
            (1, named, REMOVAL_MAX_MICROS + 1, 0, false),
            (1, named, REMOVAL_MAX_MICROS + 1, 1, true),
            (2, named, 1, 0, false),
            (1, other, 1, 0, false),
        ] {
            let mut removals = Removals::default();
            removals.ask(1, named, 7, 3);
            let mut tell = || removals.is_done(asked, told, 7 + after_micros, 3 + paused_micros);
            assert_eq!((tell(), tell()), (is_done, false), "{asked} {told} {after_micros} {paused_micros}");
        }
        type End = fn(&mut Removals);
        let ended_by: [(&str, End, bool); 5] = [
            ("nothing", |_| (), true),
            ("its death", |removals| removals.died(1), false),
            ("another's death", |removals| removals.died(2), true),
            ("a later DIRECTOR-ADD", |removals| removals.added(1, removals.waiting[0].named, 8), false),
            ("an earlier DIRECTOR-ADD", |removals| removals.added(1, removals.waiting[0].named, 6), true),
        ];
        for (what, end, is_done) in ended_by {
            let mut removals = Removals::default();
            removals.ask(1, named, 7, 0);
            end(&mut removals);
            assert_eq!(removals.is_done(1, named, 9, 0), is_done, "{what}");
        }
    }
}
