//! Rings whose story is written down instead of drawn from a seed.
//!
//! A scenario is quiet: nobody logs in, no operator does anything and nothing goes wrong unless the script says so; the
//! network takes a millisecond. What the script does not look at is watched as in every run: the contract between core
//! and runtime, floods, panics. Directors are counted from 1, as their names in the timeline.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::fmt;

use director_core::Role;
use director_core::wire::admin::VERSION_LINE;
use director_core::wire::auth::AUTHREPLY_CLIENT_VERSION_LINE;

use super::machines::Place;
use super::{Program, Scheduled, World};
use crate::invariants;
use crate::network::{Conditions, Content, LinkId, Side};
use crate::plan::{Faults, Fixed, FlushScript, Plan, SECOND};
use crate::trace::Keep;
use crate::views::View;

const MILLISECOND: u64 = SECOND / 1000;
/// How often a condition that is waited for is looked at.
const LOOK_MICROS: u64 = 100 * MILLISECOND;
/// How much of the timeline a failure shows.
const TIMELINE_LINES: usize = 300;

/// What the programs have heard that a script plays itself.
#[derive(Debug, Default)]
pub(super) struct Guests {
    heard: BTreeMap<LinkId, Vec<u8>>,
}

impl Guests {
    pub(super) fn received(&mut self, link: LinkId, bytes: &[u8]) {
        self.heard.entry(link).or_default().extend_from_slice(bytes);
    }
}

/// A connection of a program that the script plays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Guest(LinkId);

/// A ring and its story.
pub struct Scenario {
    world: World,
}

impl fmt::Debug for Scenario {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.world.fmt(formatter)
    }
}

impl Scenario {
    /// So many directors, none of which has started. Five backends, 10.2.0.1 to 10.2.0.5; users expire after 60 s.
    pub fn new(directors: usize) -> Self {
        Self::with(directors, |_| {})
    }

    /// The same, with something changed in the plan.
    pub fn with(directors: usize, change: impl FnOnce(&mut Plan)) -> Self {
        let fixed = Fixed {
            directors: Some(directors),
            users: Some(1),
            minutes: Some(600),
            faults: Some(Faults::NONE),
            ..Fixed::default()
        };
        let mut plan = Plan::draw(1, &fixed);
        plan.backends = 5;
        plan.tags = false;
        plan.expire_secs = 60;
        plan.kick_delay_millis = 2000;
        plan.flush_script = FlushScript::None;
        plan.conditions = Conditions {
            latency_min_micros: MILLISECOND,
            latency_max_micros: MILLISECOND,
            delay_percent: 0,
            delay_max_micros: 0,
            window_bytes: 65536,
        };
        change(&mut plan);
        Self { world: World::new(plan, Keep::Last(TIMELINE_LINES)) }
    }

    /// So many directors in one synced ring.
    pub fn synced(directors: usize) -> Self {
        let mut scenario = Self::new(directors);
        scenario.start_all();
        scenario.wait_whole(60);
        scenario
    }

    /// All directors start, at once.
    pub fn start_all(&mut self) {
        for director in 1..=self.world.machines.len() {
            self.start(director);
        }
    }

    /// A director's process starts.
    pub fn start(&mut self, director: usize) {
        self.world.start(director - 1);
    }

    /// A director's process dies, and its machine tells everybody.
    pub fn kill(&mut self, director: usize) {
        self.world.kill(director - 1, true);
    }

    /// A director's machine loses power: nobody is told.
    pub fn lose_power(&mut self, director: usize) {
        self.world.machines[director - 1].powered = false;
        self.world.kill(director - 1, false);
    }

    /// A director's process stands still for so long.
    pub fn pause(&mut self, director: usize, secs: u64) {
        let now = self.world.now;
        self.world.machines[director - 1].pause(now, now + secs * SECOND);
    }

    /// A director's clock is that far ahead from now on; negative: behind.
    pub fn set_clock(&mut self, director: usize, ahead_secs: i64) {
        self.world.machines[director - 1].skew_secs = ahead_secs;
    }

    /// Two directors do not reach each other any more; connections between them stand, but nothing passes.
    pub fn cut(&mut self, one: usize, other: usize) {
        self.world.network.cut(one - 1, other - 1);
        self.world.network.cut(other - 1, one - 1);
    }

    /// Everybody reaches everybody.
    pub fn heal(&mut self) {
        self.world.network.heal();
    }

    /// The connections between two directors break, and both are told; what is on its way is lost.
    pub fn break_links(&mut self, one: usize, other: usize) {
        for (link, hosts) in self.world.network.between_hosts() {
            if hosts == [one - 1, other - 1] || hosts == [other - 1, one - 1] {
                self.world.network.lose(link);
                self.world.send(link, Side::Opener, Content::Reset);
                self.world.send(link, Side::Acceptor, Content::Reset);
            }
        }
    }

    /// Time passes, with all that happens in it.
    pub fn pass_millis(&mut self, millis: u64) {
        let until = self.world.now + millis * MILLISECOND;
        while self.world.queue.peek().is_some_and(|Reverse(next)| next.at <= until) {
            let Some(Reverse(Scheduled { at, happening, .. })) = self.world.queue.pop() else { break };
            self.world.now = at;
            self.world.happen(happening);
            self.check();
        }
        self.world.now = until;
    }

    /// So many seconds pass.
    pub fn pass(&mut self, secs: u64) {
        self.pass_millis(secs * 1000);
    }

    /// Lets time pass until something is so, for so many seconds at most. Returns how many milliseconds it took.
    pub fn wait(&mut self, what: &str, limit_secs: u64, mut is_so: impl FnMut(&mut Self) -> bool) -> u64 {
        let start = self.world.now;
        while !is_so(self) {
            if self.world.now > start + limit_secs * SECOND {
                self.fail(&format!("{what}: not within {limit_secs} s"));
            }
            self.pass_millis(LOOK_MICROS / MILLISECOND);
        }
        (self.world.now - start) / MILLISECOND
    }

    /// Waits until all directors are one synced ring. Returns how many milliseconds it took.
    pub fn wait_whole(&mut self, limit_secs: u64) -> u64 {
        self.wait("one ring", limit_secs, |scenario| scenario.ring_fault().is_none())
    }

    /// What is wrong with the ring; `None`: all are in it, and it is synced.
    pub fn ring_fault(&mut self) -> Option<String> {
        let addresses: Vec<_> = self.world.machines.iter().map(|machine| machine.address).collect();
        let views = self.views();
        invariants::ring::check(&addresses, &views).err()
    }

    /// How each director sees the ring, in their order. Asking takes `LOOK_MICROS`.
    pub fn views(&mut self) -> Vec<Result<View, String>> {
        for director in 0..self.world.machines.len() {
            self.world.probe(director);
        }
        self.pass_millis(LOOK_MICROS / MILLISECOND);
        self.world.probes.take(self.world.machines.len())
    }

    /// How one director sees the ring.
    pub fn view(&mut self, director: usize) -> View {
        let mut views = self.views();
        match views.remove(director - 1) {
            Ok(view) => view,
            Err(error) => self.fail(&format!("{}: {error}", Place(director - 1))),
        }
    }

    /// All directors have the same backends and users.
    pub fn assert_equal(&mut self) {
        let views = self.views();
        if let Err(error) = invariants::state::check(&views, self.world.unix_secs(), &self.world.plan.minors) {
            self.fail(&error);
        }
    }

    /// Somebody asks a director as an administrator. What is said may be several lines, with an LF after each.
    pub fn admin(&mut self, director: usize, lines: &str) -> Guest {
        let mut text = VERSION_LINE.to_vec();
        text.extend_from_slice(lines.as_bytes());
        self.guest(director, Role::Admin, text)
    }

    /// Gives a command, and waits for its answer.
    pub fn command(&mut self, director: usize, command: &str) -> String {
        let guest = self.admin(director, &format!("{command}\n"));
        self.wait(command, 70, |scenario| !scenario.heard(guest).is_empty());
        self.heard(guest)
    }

    /// Somebody looks a user up.
    pub fn lookup(&mut self, director: usize, user: &str) -> Guest {
        self.lookup_tagged(director, user, "")
    }

    /// Somebody looks a user up in a pool.
    pub fn lookup_tagged(&mut self, director: usize, user: &str, tag: &str) -> Guest {
        let tag = if tag.is_empty() { String::new() } else { format!("\tdirector_tag={tag}") };
        let mut text = AUTHREPLY_CLIENT_VERSION_LINE.to_vec();
        text.extend_from_slice(format!("OK\t1\tuser={user}\tproxy{tag}\n").as_bytes());
        self.guest(director, Role::AuthReply, text)
    }

    /// The backend that a lookup was answered with; empty: a temporary failure; `None`: it waits.
    pub fn backend(&self, lookup: Guest) -> Option<String> {
        let text = self.heard(lookup);
        let line = text.strip_suffix('\n')?;
        Some(line.rsplit_once("\thost=").map_or(String::new(), |(_, host)| host.to_owned()))
    }

    /// Looks a user up, and waits for the backend.
    pub fn backend_of(&mut self, director: usize, user: &str) -> String {
        let lookup = self.lookup(director, user);
        self.wait(&format!("a backend for {user}"), 31, |scenario| scenario.backend(lookup).is_some());
        self.backend(lookup).unwrap_or_default()
    }

    /// What a program was told, after the greeting.
    pub fn heard(&self, guest: Guest) -> String {
        let bytes = self.world.guests.heard.get(&guest.0).map_or(&[][..], Vec::as_slice);
        let text = String::from_utf8_lossy(bytes);
        text.split_once('\n').map_or("", |(_, rest)| rest).to_owned()
    }

    /// A program closes its connection.
    pub fn leave(&mut self, guest: Guest) {
        self.world.hang_up(guest.0);
    }

    /// How many lines directors have said to each other so far.
    pub fn ring_lines(&self) -> u64 {
        self.world.statistics.ring_lines
    }

    fn guest(&mut self, director: usize, role: Role, text: Vec<u8>) -> Guest {
        let Some(link) = self.world.open(director - 1, Program::Guest, role) else {
            self.fail(&format!("{} does not run", Place(director - 1)));
        };
        self.world.say(link, text);
        Guest(link)
    }

    fn check(&self) {
        if let Some(violation) = self.world.violations.first() {
            self.fail(&violation.to_string());
        }
    }

    /// Ends the test, with what happened last.
    fn fail(&self, what: &str) -> ! {
        panic!("{}\n\n{what}, at {} ms", self.world.trace.text(), self.world.now / MILLISECOND);
    }
}
