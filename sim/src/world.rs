//! One run: directors, their login processes and operators, the network between, and the time.
//!
//! Everything happens at a point of virtual time, in the order of (time, sequence number); so one seed gives one run.
//! First comes the *safety* phase, in which things go wrong; then the *liveness* phase, in which nothing does any more
//! and everything must come right.

mod faults;
mod links;
mod machines;
mod programs;

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};

use director_core::ConnectionId;

use crate::clients::Clients;
use crate::invariants::backends::Backends;
use crate::invariants::{self, Violation};
use crate::network::{LinkId, Network, Side};
use crate::operators::Operators;
use crate::plan::{Plan, SECOND};
use crate::random::Random;
use crate::report::{Outcome, Statistics};
use crate::trace::{Keep, Trace};
use crate::views::{Probes, View};
use machines::Machine;

/// Unix time at which runs start.
const UNIX_START_SECS: u64 = 1_700_000_000;
/// How often directors are asked for their view of the ring while it settles.
const POLL_MICROS: u64 = 5 * SECOND;
/// How long they may take to answer that: it needs no ring.
const PROBE_MICROS: u64 = 2 * SECOND;
/// How long after the last login and refresh users must be the same everywhere.
const QUIET_MICROS: u64 = 3 * SECOND;
/// A run with so many violations has shown what there is to see.
const VIOLATIONS_MAX: usize = 20;

/// Who is at an end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Party {
    /// A director's process: which, in which of its lives, and its name for the connection.
    Director { director: usize, incarnation: u32, connection: ConnectionId },
    /// A program beside a director.
    Program { director: usize, program: Program },
}

/// The programs beside a director.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Program {
    /// The login process, asking.
    Login,
    /// The login process, saying who is still here.
    Notify,
    /// The login process, being told to end sessions.
    Ipc,
    /// An operator.
    Operator,
    /// Somebody who looks how the ring is.
    Probe,
}

impl Program {
    fn name(self) -> &'static str {
        match self {
            Self::Login => "login",
            Self::Notify => "notify",
            Self::Ipc => "ipc",
            Self::Operator => "admin",
            Self::Probe => "probe",
        }
    }
}

/// What happens next.
#[derive(Debug)]
enum Happening {
    /// Something may have arrived.
    Arrive { link: LinkId, side: Side },
    /// A request to connect reaches, or does not reach, its target.
    Knock { director: usize, incarnation: u32, connection: ConnectionId, to: SocketAddr, attempt: u32 },
    /// A request to connect has failed.
    Refuse { director: usize, incarnation: u32, connection: ConnectionId, error: &'static str },
    /// A connection has ended, as the director that ended it must be told.
    Closed { director: usize, incarnation: u32, connection: ConnectionId, error: Option<&'static str> },
    /// A director wants to be called.
    Wake { director: usize, serial: u64 },
    /// A director's process starts.
    Start { director: usize },
    /// Somebody logs in.
    Login,
    /// A session's user is mentioned.
    Refresh { session: u64 },
    /// An operator does something.
    Operate,
    /// Something goes wrong.
    Strike,
    /// A partition ends.
    Heal { partition: u64 },
    /// Look for questions without answers.
    Sweep,
    /// Faults stop.
    Calm,
    /// Directors are asked how they see the ring.
    Poll,
    /// Their answers are judged.
    Judge,
}

/// A run.
pub struct World {
    plan: Plan,
    now: u64,
    queue: BTreeMap<(u64, u64), Happening>,
    serial: u64,
    network: Network<Party>,
    machines: Vec<Machine>,
    clients: Clients,
    operators: Operators,
    probes: Probes,
    backends: Backends,
    /// Chance in what the world does: chunks, which director is asked.
    random: Random,
    /// Chance in what goes wrong.
    fault_random: Random,
    trace: Trace,
    violations: Vec<Violation>,
    statistics: Statistics,
    calm: bool,
    /// Since when every poll has found the ring whole, and what was wrong with it when the last one did not.
    whole_since: Option<u64>,
    not_whole: String,
    /// When logins stop, and when everything is compared.
    quiet_at: u64,
    partition: u64,
    finished: bool,
}

impl fmt::Debug for World {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("World").field("plan", &self.plan).field("now", &self.now).finish_non_exhaustive()
    }
}

/// Runs a plan from its start to its end.
pub fn run(plan: &Plan, keep: Keep) -> Outcome {
    let mut world = World::new(plan.clone(), keep);
    // A panic in a core is what a run is there to find: it must not take the timeline with it.
    let result = catch_unwind(AssertUnwindSafe(|| world.run()));
    if let Err(panic) = result {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
        let now = world.now;
        world.trace.logs(now, "panicking core");
        world.violate("no panic", text.unwrap_or_else(|| "a panic without a text".to_owned()));
    }
    world.into_outcome()
}

impl World {
    fn new(plan: Plan, keep: Keep) -> Self {
        // Not the plan's own numbers once more.
        let mut random = Random::new(plan.seed ^ 0x5eed_5eed_5eed_5eed);
        let network = Network::new(plan.conditions.clone(), random.fork());
        let clients = Clients::new(&plan, random.fork());
        let operators = Operators::new(&plan, random.fork());
        let fault_random = random.fork();
        let machines = (0..plan.directors).map(|n| Machine::new(&plan, n, random.next_u64())).collect();
        let quiet_at =
            plan.safety_micros + invariants::ring::SETTLE_MAX_MICROS + (u64::from(plan.expire_secs) + 35) * SECOND;
        Self {
            backends: Backends::new(plan.expire_secs),
            now: 0,
            queue: BTreeMap::new(),
            serial: 0,
            network,
            machines,
            clients,
            operators,
            probes: Probes::default(),
            random,
            fault_random,
            trace: Trace::new(keep),
            violations: Vec::new(),
            statistics: Statistics::default(),
            calm: false,
            whole_since: None,
            not_whole: String::new(),
            quiet_at,
            partition: 0,
            finished: false,
            plan,
        }
    }

    fn run(&mut self) {
        for director in 0..self.machines.len() {
            let at = self.random.below(2 * SECOND);
            self.schedule(at, Happening::Start { director });
        }
        self.schedule(SECOND, Happening::Sweep);
        self.schedule(SECOND, Happening::Login);
        self.schedule(SECOND, Happening::Operate);
        self.schedule(self.plan.safety_micros, Happening::Calm);
        if !self.plan.faults.striking().is_empty() {
            self.schedule(5 * SECOND, Happening::Strike);
        }
        while !self.finished && self.violations.len() < VIOLATIONS_MAX {
            let Some(((at, _), happening)) = self.queue.pop_first() else { break };
            self.now = at;
            self.statistics.happenings += 1;
            self.happen(happening);
        }
    }

    fn into_outcome(mut self) -> Outcome {
        self.statistics.virtual_micros = self.now;
        self.statistics.digest = self.trace.digest();
        Outcome {
            seed: self.plan.seed,
            faults: self.plan.faults,
            violations: self.violations,
            statistics: self.statistics,
            timeline: self.trace.into_lines(),
        }
    }

    fn schedule(&mut self, at: u64, happening: Happening) {
        self.serial += 1;
        self.queue.insert((at.max(self.now), self.serial), happening);
    }

    /// Writes down that something does not hold.
    fn violate(&mut self, invariant: &'static str, detail: String) {
        self.trace.line(self.now, "!", format_args!("{invariant}: {detail}"));
        self.violations.push(Violation { at_micros: self.now, invariant, detail });
    }

    fn unix_secs(&self) -> u64 {
        UNIX_START_SECS + self.now / SECOND
    }

    /// Whether users still log in and out.
    fn is_busy(&self) -> bool {
        self.now < self.quiet_at
    }

    fn happen(&mut self, happening: Happening) {
        // What concerns a process that stands still happens when it goes on, in the same order.
        if let Some(director) = self.concerns(&happening)
            && self.machines[director].paused_until > self.now
        {
            let at = self.machines[director].paused_until;
            self.schedule(at, happening);
            return;
        }
        match happening {
            Happening::Arrive { link, side } => self.arrive(link, side),
            Happening::Knock { director, incarnation, connection, to, attempt } => {
                self.knock(director, incarnation, connection, to, attempt);
            }
            Happening::Refuse { director, incarnation, connection, error } => {
                self.refused(director, incarnation, connection, error);
            }
            Happening::Closed { director, incarnation, connection, error } => {
                self.tell_closed(director, incarnation, connection, error);
            }
            Happening::Wake { director, serial } => self.wake(director, serial),
            Happening::Start { director } => self.start(director),
            Happening::Login => self.log_in(),
            Happening::Refresh { session } => self.refresh(session),
            Happening::Operate => self.operate(),
            Happening::Strike => self.strike(),
            Happening::Heal { partition } => self.heal(partition),
            Happening::Sweep => self.sweep(),
            Happening::Calm => self.calm_down(),
            Happening::Poll => self.poll(),
            Happening::Judge => self.judge(),
        }
    }

    /// The director whose process must run for this to happen.
    fn concerns(&self, happening: &Happening) -> Option<usize> {
        match happening {
            Happening::Arrive { link, side } => match self.network.party(*link, *side)? {
                Party::Director { director, .. } => Some(director),
                Party::Program { .. } => None,
            },
            Happening::Knock { to, .. } => self.machines.iter().position(|machine| machine.address == *to),
            Happening::Refuse { director, .. }
            | Happening::Closed { director, .. }
            | Happening::Wake { director, .. } => Some(*director),
            _ => None,
        }
    }

    /// Faults stop: everybody runs, everybody reaches everybody, clocks are right.
    fn calm_down(&mut self) {
        self.trace.line(self.now, "world", "faults stop");
        self.calm = true;
        self.end_faults();
        self.schedule(self.now + POLL_MICROS, Happening::Poll);
    }

    fn poll(&mut self) {
        for director in 0..self.machines.len() {
            self.probe(director);
        }
        self.schedule(self.now + PROBE_MICROS, Happening::Judge);
    }

    fn judge(&mut self) {
        let views = self.probes.take(self.machines.len());
        self.judge_ring(&views);
        if self.now < self.quiet_at + QUIET_MICROS {
            self.schedule((self.now + POLL_MICROS).min(self.quiet_at + QUIET_MICROS), Happening::Poll);
            return;
        }
        self.judge_end(&views);
        self.finished = true;
    }

    fn judge_ring(&mut self, views: &[Result<View, String>]) {
        let addresses: Vec<SocketAddr> = self.machines.iter().map(|machine| machine.address).collect();
        match invariants::ring::check(&addresses, views) {
            Ok(()) => {
                let since = *self.whole_since.get_or_insert(self.now);
                self.statistics.settle_micros = since.saturating_sub(self.plan.safety_micros);
            }
            Err(error) => {
                self.trace.line(self.now, "world", format_args!("the ring is not whole: {error}"));
                self.whole_since = None;
                self.not_whole = error;
            }
        }
    }

    fn judge_end(&mut self, views: &[Result<View, String>]) {
        let limit = invariants::ring::SETTLE_MAX_MICROS;
        match self.whole_since {
            None => {
                let detail = format!("still not whole at the end: {}", self.not_whole);
                self.violate(invariants::ring::NAME, detail);
                return;
            }
            Some(since) if since > self.plan.safety_micros + limit => {
                let after = (since - self.plan.safety_micros) / SECOND;
                let detail = format!("whole only {after} s after the last fault; before: {}", self.not_whole);
                self.violate(invariants::ring::NAME, detail);
            }
            Some(_) => {}
        }
        if let Err(error) = invariants::state::check(views, self.unix_secs()) {
            self.violate(invariants::state::NAME, error);
        }
        self.statistics.users_at_end = views.first().and_then(|view| view.as_ref().ok()).map_or(0, |v| v.users.len());
    }
}
