//! What goes wrong, and how it ends.

use super::machines::Place;
use super::{Happening, World};
use crate::network::{Content, Side};
use crate::plan::{Fault, SECOND};

impl World {
    /// Something goes wrong.
    pub(super) fn strike(&mut self) {
        if self.calm {
            return;
        }
        let pause = self.fault_random.pause(self.plan.fault_pause_micros);
        self.schedule(self.now + pause, Happening::Strike);
        let kinds = self.plan.faults.striking();
        let kind = kinds[self.fault_random.index(kinds.len())];
        let director = self.fault_random.index(self.machines.len());
        self.statistics.strikes += 1;
        match kind {
            Fault::Resets => self.reset(),
            Fault::Crashes | Fault::Blackouts => self.crash(director, kind == Fault::Crashes),
            Fault::Partitions => self.part(),
            Fault::Pauses => self.pause(director),
            Fault::Delays | Fault::Clocks => {}
        }
    }

    /// A connection between two directors breaks, and what is on its way is lost.
    fn reset(&mut self) {
        let links = self.network.between_hosts();
        if links.is_empty() {
            return;
        }
        let link = links[self.fault_random.index(links.len())];
        // At times only one of the two learns of it; the other when it next sends something.
        let (opener, acceptor) = match self.fault_random.below(4) {
            0 => (true, false),
            1 => (false, true),
            _ => (true, true),
        };
        self.trace.line(self.now, "fault", format_args!("connection #{link} breaks ({opener}, {acceptor})"));
        self.network.lose(link);
        if opener {
            self.send(link, Side::Acceptor, Content::Reset);
        }
        if acceptor {
            self.send(link, Side::Opener, Content::Reset);
        }
    }

    /// A process dies, and with it perhaps its machine; it will start again.
    fn crash(&mut self, director: usize, told: bool) {
        if self.machines[director].core.is_none() {
            return;
        }
        let what = if told { "the process dies" } else { "the machine loses power" };
        self.trace.line(self.now, "fault", format_args!("{}: {what}", Place(director)));
        self.machines[director].powered = told;
        self.kill(director, told);
        let down = if self.fault_random.percent(50) {
            self.fault_random.below(2 * SECOND)
        } else {
            self.fault_random.below(90 * SECOND)
        };
        self.schedule(self.now + down, Happening::Start { director });
    }

    /// Some directors cannot reach some others.
    fn part(&mut self) {
        let count = self.machines.len();
        self.network.heal();
        self.partition += 1;
        let one_way = self.fault_random.percent(25);
        let mut cuts = Vec::new();
        if self.fault_random.percent(30) {
            // A single pair.
            let (a, b) = (self.fault_random.index(count), self.fault_random.index(count));
            cuts.push((a, b));
        } else {
            let sides: Vec<bool> = (0..count).map(|_| self.fault_random.percent(50)).collect();
            for a in 0..count {
                for b in 0..count {
                    if sides[a] && !sides[b] {
                        cuts.push((a, b));
                    }
                }
            }
        }
        for (a, b) in cuts {
            if a == b {
                continue;
            }
            let ways = if one_way { "does not reach" } else { "is cut from" };
            self.trace.line(self.now, "fault", format_args!("{} {ways} {}", Place(a), Place(b)));
            self.network.cut(a, b);
            if !one_way {
                self.network.cut(b, a);
            }
        }
        let lasts = if self.fault_random.percent(50) {
            self.fault_random.below(10 * SECOND)
        } else {
            self.fault_random.below(90 * SECOND)
        };
        let partition = self.partition;
        self.schedule(self.now + lasts, Happening::Heal { partition });
    }

    pub(super) fn heal(&mut self, partition: u64) {
        if partition == self.partition {
            self.trace.line(self.now, "fault", "the network is whole again");
            self.network.heal();
        }
    }

    /// A process stands still for a while.
    fn pause(&mut self, director: usize) {
        let until = (self.now + self.fault_random.between(SECOND, 45 * SECOND)).min(self.plan.safety_micros);
        let machine = &mut self.machines[director];
        if !machine.is_active(self.now) {
            return;
        }
        machine.pause(self.now, until);
        let lasts = (until - self.now) / 1000;
        self.trace.line(self.now, "fault", format_args!("{} stands still for {lasts} ms", Place(director)));
    }

    /// Nothing goes wrong from now on.
    pub(super) fn end_faults(&mut self) {
        self.network.heal();
        self.network.set_conditions(self.plan.calm_conditions());
        for director in 0..self.machines.len() {
            self.machines[director].skew_secs = 0;
            self.schedule(self.now, Happening::Start { director });
        }
    }
}
