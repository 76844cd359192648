//! What goes wrong, and how it ends.
//!
//! Strikes are numbered, and each draws from a generator of its own that follows from the seed and its number: so one
//! can be left out without changing what the others are ([`Plan::strikes`](crate::Plan)).

use super::machines::Place;
use super::{Happening, World};
use crate::network::{Content, LinkId, Side};
use crate::plan::{Fault, SECOND};
use crate::random::Random;

const MINUTE: u64 = 60 * SECOND;

/// A link that breaks again and again.
#[derive(Debug)]
pub(super) struct Flapping {
    /// Between these two; `None`: another one each time.
    pair: Option<(usize, usize)>,
    until: u64,
    random: Random,
}

impl World {
    /// Something goes wrong.
    pub(super) fn strike(&mut self) {
        if self.calm {
            return;
        }
        let pause = self.fault_random.pause(self.plan.fault_pause_micros);
        self.schedule(self.now + pause, Happening::Strike);
        self.strikes += 1;
        if self.plan.strikes.as_ref().is_some_and(|kept| !kept.has(self.strikes)) {
            return;
        }
        let mut random = Random::new(self.plan.seed ^ 0xfa17_fa17_0000_0000 ^ u64::from(self.strikes) << 40);
        let kinds = self.plan.faults.striking();
        let kind = kinds[random.index(kinds.len())];
        let director = random.index(self.machines.len());
        self.statistics.strikes[kind as usize] += 1;
        self.trace.line(self.now, "fault", format_args!("strike {}: {}", self.strikes, kind.name()));
        match kind {
            Fault::Resets => self.reset(None, &mut random),
            Fault::Crashes | Fault::Blackouts => self.crash(director, kind == Fault::Crashes, &mut random),
            Fault::Stops => self.restart(director, &mut random),
            Fault::Partitions => self.part(&mut random),
            Fault::Pauses => self.pause(director, &mut random),
            Fault::Steps => self.step(director, &mut random),
            Fault::Flapping => self.start_flapping(random),
            Fault::Latency => self.stretch(&mut random),
            Fault::Slowness => self.slow_down(director, &mut random),
            Fault::Delays
            | Fault::Clocks
            | Fault::Minors
            | Fault::Configurations
            | Fault::Kicks
            | Fault::Scripts
            | Fault::Auth => {}
        }
    }

    /// A connection between two directors breaks, and what is on its way is lost. With a pair: all of theirs do.
    fn reset(&mut self, pair: Option<(usize, usize)>, random: &mut Random) {
        let links = self.network.between_hosts();
        let Some((a, b)) = pair else {
            if !links.is_empty() {
                let (link, _) = links[random.index(links.len())];
                self.break_link(link, random);
            }
            return;
        };
        for (link, hosts) in links {
            if hosts == [a, b] || hosts == [b, a] {
                self.break_link(link, random);
            }
        }
    }

    fn break_link(&mut self, link: LinkId, random: &mut Random) {
        // At times only one of the two learns of it; the other when it next sends something.
        let (opener, acceptor) = match random.below(4) {
            0 => (true, false),
            1 => (false, true),
            _ => (true, true),
        };
        let told = match (opener, acceptor) {
            (true, true) => "both ends are told",
            (true, false) => "its opener is told",
            _ => "its acceptor is told",
        };
        let ends = [Side::Opener, Side::Acceptor].map(|side| self.network.host(link, side).unwrap_or_default());
        let [from, to] = ends.map(Place);
        self.trace.line(self.now, "fault", format_args!("{from}>{to}#{link} breaks: {told}"));
        self.backends.link_broke(ends, self.now);
        self.network.lose(link);
        if opener {
            self.send(link, Side::Acceptor, Content::Reset);
        }
        if acceptor {
            self.send(link, Side::Opener, Content::Reset);
        }
    }

    /// A link, or any link, begins to break every few seconds.
    fn start_flapping(&mut self, mut random: Random) {
        let count = self.machines.len();
        if count < 2 {
            return;
        }
        let until = self.now + random.between(5 * SECOND, MINUTE);
        let a = random.index(count);
        // Mostly neighbours: others have links now and then only.
        let b = if random.percent(80) { (a + 1) % count } else { random.index(count) };
        let pair = random.percent(70).then_some((a, b));
        let lasts = (until - self.now) / SECOND;
        match pair {
            Some((a, b)) => {
                self.trace.line(self.now, "fault", format_args!("{} and {} flap for {lasts} s", Place(a), Place(b)));
            }
            None => self.trace.line(self.now, "fault", format_args!("all links flap for {lasts} s")),
        }
        self.flap(Box::new(Flapping { pair, until, random }));
    }

    /// A flapping link breaks once more.
    pub(super) fn flap(&mut self, mut flapping: Box<Flapping>) {
        if self.calm || self.now > flapping.until {
            return;
        }
        self.reset(flapping.pair, &mut flapping.random);
        let at = self.now + flapping.random.between(SECOND, 5 * SECOND);
        self.schedule(at, Happening::Flap(flapping));
    }

    /// A process dies, and with it perhaps its machine; it will start again.
    fn crash(&mut self, director: usize, told: bool, random: &mut Random) {
        if self.machines[director].core.is_none() {
            return;
        }
        let what = if told { "the process dies" } else { "the machine loses power" };
        self.trace.line(self.now, "fault", format_args!("{}: {what}", Place(director)));
        self.machines[director].powered = told;
        self.kill(director, told);
        self.start_again(director, random);
    }

    /// An administrator restarts a director.
    fn restart(&mut self, director: usize, random: &mut Random) {
        if self.machines[director].core.is_none() {
            return;
        }
        self.trace.line(self.now, "fault", format_args!("{}: the process is stopped", Place(director)));
        self.shut_down(director);
        self.start_again(director, random);
    }

    fn start_again(&mut self, director: usize, random: &mut Random) {
        let down = if random.percent(50) { random.below(2 * SECOND) } else { random.below(90 * SECOND) };
        self.schedule(self.now + down, Happening::Start { director });
    }

    /// Some directors cannot reach some others.
    fn part(&mut self, random: &mut Random) {
        let count = self.machines.len();
        self.network.heal();
        self.partition += 1;
        let one_way = random.percent(25);
        let one = random.index(count);
        let other = random.index(count);
        let sides: Vec<bool> = (0..count).map(|_| random.percent(50)).collect();
        let step = random.between(1, 2) as usize;
        let (shape, parted): (&str, &dyn Fn(usize, usize) -> bool) = match random.below(4) {
            0 => ("a pair", &|a, b| (a, b) == (one, other)),
            1 => ("one and the rest", &|a, b| a == one && b != one),
            2 => ("two sides", &|a, b| sides[a] && !sides[b]),
            // Everybody reaches those next to him only: nobody sees who is lost behind them.
            _ => ("a chain", &|a, b| a.abs_diff(b) > step),
        };
        let cuts: Vec<(usize, usize)> =
            (0..count).flat_map(|a| (0..count).map(move |b| (a, b))).filter(|&(a, b)| a != b && parted(a, b)).collect();
        self.trace.line(self.now, "fault", format_args!("the network parts: {shape}"));
        for (a, b) in cuts {
            let ways = if one_way { "does not reach" } else { "is cut from" };
            self.trace.line(self.now, "fault", format_args!("{} {ways} {}", Place(a), Place(b)));
            self.network.cut(a, b);
            if !one_way {
                self.network.cut(b, a);
            }
        }
        self.reach_changed();
        let lasts = if random.percent(50) { random.below(10 * SECOND) } else { random.below(90 * SECOND) };
        let partition = self.partition;
        self.schedule(self.now + lasts, Happening::Heal { partition });
    }

    pub(super) fn heal(&mut self, partition: u64) {
        if partition == self.partition {
            self.trace.line(self.now, "fault", "the network is whole again");
            self.network.heal();
            self.reach_changed();
        }
    }

    /// What one director says to another, or all say to all, takes seconds to arrive.
    fn stretch(&mut self, random: &mut Random) {
        let count = self.machines.len();
        self.network.unstretch();
        self.stretch += 1;
        let micros = random.between(SECOND / 2, 4 * SECOND);
        let all = random.percent(50);
        let (one, other) = (random.index(count), random.index(count));
        for (a, b) in (0..count).flat_map(|a| (0..count).map(move |b| (a, b))) {
            if a != b && (all || (a, b) == (one, other)) {
                self.network.stretch(a, b, micros);
            }
        }
        let lasts = random.between(5 * SECOND, MINUTE);
        let (from, to) = (Place(one), Place(other));
        let millis = micros / 1000;
        if all {
            self.trace.line(self.now, "fault", format_args!("everything takes {millis} ms"));
        } else {
            self.trace.line(self.now, "fault", format_args!("from {from} to {to} everything takes {millis} ms"));
        }
        let stretch = self.stretch;
        self.schedule(self.now + lasts, Happening::Hasten { stretch });
    }

    pub(super) fn hasten(&mut self, stretch: u64) {
        if stretch == self.stretch {
            self.trace.line(self.now, "fault", "the network is fast again");
            self.network.unstretch();
        }
    }

    /// A process stands still for a while.
    fn pause(&mut self, director: usize, random: &mut Random) {
        let until = (self.now + random.between(SECOND, 45 * SECOND)).min(self.plan.safety_micros);
        let machine = &mut self.machines[director];
        if !machine.is_active(self.now) {
            return;
        }
        machine.pause(self.now, until);
        let lasts = (until - self.now) / 1000;
        self.trace.line(self.now, "fault", format_args!("{} stands still for {lasts} ms", Place(director)));
        self.reach_changed();
    }

    /// A director takes little at a time of what the others say.
    fn slow_down(&mut self, director: usize, random: &mut Random) {
        let until = (self.now + random.between(5 * SECOND, MINUTE)).min(self.plan.safety_micros);
        self.machines[director].slow_until = until;
        let lasts = (until - self.now) / 1000;
        self.trace.line(self.now, "fault", format_args!("{} reads slowly for {lasts} ms", Place(director)));
    }

    /// A clock is set, forward or back.
    fn step(&mut self, director: usize, random: &mut Random) {
        let secs = match random.below(4) {
            0 | 1 => random.between(1, 59),
            2 => random.between(60, 3599),
            _ => random.between(3600, 12 * 3600),
        } as i64;
        let secs = if random.percent(50) { secs } else { -secs };
        self.machines[director].skew_secs += secs;
        self.trace.line(self.now, "fault", format_args!("{}'s clock steps by {secs} s", Place(director)));
    }

    /// Nothing goes wrong from now on.
    pub(super) fn end_faults(&mut self) {
        self.network.heal();
        self.reach_changed();
        self.network.unstretch();
        self.network.set_conditions(self.plan.calm_conditions());
        for director in 0..self.machines.len() {
            self.machines[director].skew_secs = 0;
            self.schedule(self.now, Happening::Start { director });
        }
    }
}
