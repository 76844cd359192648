//! One run: directors, their login processes and operators, the network between, and the time.
//!
//! Everything happens at a point of virtual time, in the order of (time, sequence number); so one seed gives one run.
//! First comes the *safety* phase, in which things go wrong; then the *liveness* phase, in which nothing does any more
//! and everything must come right.

mod faults;
mod ipc;
mod links;
mod machines;
mod members;
mod operate;
mod programs;
mod relays;
pub mod scenario;
mod scripts;
mod witness;

use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;
use std::fmt;
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};

use director_core::ConnectionId;
use director_core::wire::ring::{MINOR, minor};

use crate::clients::Clients;
use crate::invariants::answers::{self, Pools};
use crate::invariants::backends::{self, Backends};
use crate::invariants::changes::Changes;
use crate::invariants::flood::Pace;
use crate::invariants::{self, Violation};
use crate::ipc::Ipc;
use crate::messages::Messages;
use crate::network::{LinkId, Network, Side};
use crate::operators::Operators;
use crate::plan::{Fault, Plan, SECOND};
use crate::random::Random;
use crate::relays::{Protocol, Relays};
use crate::report::{Outcome, Statistics};
use crate::scripts::Scripts;
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
    /// The flush script.
    Script,
    /// A client that reaches auth through the director.
    Relay(Protocol),
    /// An auth server.
    Auth,
    /// An operator.
    Operator,
    /// Somebody who looks how the ring is.
    Probe,
    /// Somebody whom a script plays.
    Guest,
}

impl Program {
    fn name(self) -> &'static str {
        match self {
            Self::Login => "login",
            Self::Notify => "notify",
            Self::Ipc => "ipc",
            Self::Script => "script",
            Self::Relay(Protocol::Login) => "login-relay",
            Self::Relay(Protocol::Userdb) => "userdb-relay",
            Self::Auth => "auth",
            Self::Operator => "admin",
            Self::Probe => "probe",
            Self::Guest => "guest",
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
    /// An ipc service has something to do.
    Ipc { link: LinkId },
    /// A flush script ends.
    ScriptEnds { link: LinkId },
    /// Auth has something to do.
    Auth { link: LinkId },
    /// A client connects again.
    Relay { director: usize, incarnation: u32, protocol: Protocol },
    /// Operators take a director out of the ring, or bring one back.
    Reorganize,
    /// They ask for it again, if nobody has said OK to that.
    AddAgain { director: usize },
    /// They stop one that is out of it.
    Stop { director: usize },
    /// They make sure that all members are known.
    Restore,
    /// An operator does something.
    Operate,
    /// Something goes wrong.
    Strike,
    /// A flapping link breaks once more.
    Flap(Box<faults::Flapping>),
    /// The network is fast again.
    Hasten { stretch: u64 },
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

/// What happens at a time; what was scheduled first comes first.
#[derive(Debug)]
struct Scheduled {
    at: u64,
    serial: u64,
    happening: Happening,
}

impl PartialEq for Scheduled {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Scheduled {}

impl PartialOrd for Scheduled {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Scheduled {
    fn cmp(&self, other: &Self) -> Ordering {
        (self.at, self.serial).cmp(&(other.at, other.serial))
    }
}

/// A run.
pub struct World {
    plan: Plan,
    now: u64,
    queue: BinaryHeap<Reverse<Scheduled>>,
    serial: u64,
    network: Network<Party>,
    machines: Vec<Machine>,
    removals: members::Removals,
    clients: Clients,
    operators: Operators,
    ipc: Ipc,
    scripts: Scripts,
    relays: Relays,
    probes: Probes,
    guests: scenario::Guests,
    backends: Backends,
    pools: Pools,
    changes: Changes,
    /// Chance in what the world does: chunks, which director is asked.
    random: Random,
    /// Chance in when something goes wrong.
    fault_random: Random,
    /// How many times something went wrong.
    strikes: u32,
    trace: Trace,
    violations: Vec<Violation>,
    messages: Messages,
    pace: Pace,
    statistics: Statistics,
    calm: bool,
    /// Since when every poll has found the ring whole, and what was wrong with it when the last one did not.
    whole_since: Option<u64>,
    not_whole: String,
    /// When logins stop, and when everything is compared.
    quiet_at: u64,
    partition: u64,
    stretch: u64,
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
        let ipc = Ipc::new(&plan, random.fork());
        let scripts = Scripts::new(&plan, random.fork());
        let relays = Relays::new(&plan, random.fork());
        let fault_random = random.fork();
        let machines = (0..plan.directors).map(|n| Machine::new(&plan, n, random.next_u64())).collect();
        let quiet_at =
            plan.safety_micros + invariants::ring::SETTLE_MAX_MICROS + (u64::from(plan.expire_secs) + 35) * SECOND;
        Self {
            backends: Backends::new(&plan, clients.hashes()),
            pools: Pools::new(&plan),
            changes: Changes::new(backends::on_its_way_micros(&plan)),
            now: 0,
            queue: BinaryHeap::new(),
            serial: 0,
            network,
            machines,
            removals: members::Removals::default(),
            clients,
            operators,
            ipc,
            scripts,
            relays,
            probes: Probes::default(),
            guests: scenario::Guests::default(),
            random,
            fault_random,
            strikes: 0,
            trace: Trace::new(keep),
            violations: Vec::new(),
            messages: Messages::default(),
            pace: Pace::default(),
            statistics: Statistics::default(),
            calm: false,
            whole_since: None,
            not_whole: String::new(),
            quiet_at,
            partition: 0,
            stretch: 0,
            finished: false,
            plan,
        }
    }

    fn run(&mut self) {
        if self.plan.reorganizes && self.plan.operators {
            self.leave_out_newcomer();
            let at = self.random.between(5 * SECOND, 30 * SECOND);
            self.schedule(at, Happening::Reorganize);
        }
        for director in 0..self.machines.len() {
            let at = self.random.below(2 * SECOND);
            self.schedule(at, Happening::Start { director });
        }
        self.schedule(SECOND, Happening::Sweep);
        self.schedule(SECOND, Happening::Login);
        if self.plan.operators {
            self.schedule(SECOND, Happening::Operate);
        }
        self.schedule(self.plan.safety_micros, Happening::Calm);
        if !self.plan.faults.striking().is_empty() {
            self.schedule(5 * SECOND, Happening::Strike);
        }
        while !self.finished && self.violations.len() < VIOLATIONS_MAX {
            let Some(Reverse(Scheduled { at, happening, .. })) = self.queue.pop() else { break };
            self.now = at;
            self.statistics.happenings += 1;
            if let Err(error) = self.pace.happened(at) {
                self.violate(invariants::flood::NAME, error);
                break;
            }
            self.happen(happening);
        }
    }

    fn into_outcome(mut self) -> Outcome {
        self.statistics.virtual_micros = self.now;
        self.statistics.digest = self.trace.digest();
        self.statistics.last_strike = self.strikes;
        self.statistics.worst_messages = self.messages.worst();
        let kinds = &mut self.statistics.strikes;
        kinds[Fault::Delays as usize] = self.network.delayed();
        kinds[Fault::Clocks as usize] = self.plan.clock_skews_secs.iter().filter(|&&secs| secs != 0).count() as u64;
        kinds[Fault::Minors as usize] = self.plan.minors.iter().filter(|&&minor| minor < MINOR).count() as u64;
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
        self.queue.push(Reverse(Scheduled { at: at.max(self.now), serial: self.serial, happening }));
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
            Happening::Ipc { link } => self.ipc_works(link),
            Happening::ScriptEnds { link } => self.script_ends(link),
            Happening::Auth { link } => self.auth_works(link),
            Happening::Relay { director, incarnation, protocol } => {
                if self.machines[director].incarnation == incarnation {
                    self.open_relay(director, protocol);
                }
            }
            Happening::Reorganize => self.reorganize(),
            Happening::AddAgain { director } => self.add_again(director),
            Happening::Stop { director } => self.stop(director),
            Happening::Restore => self.restore(),
            Happening::Operate => self.operate(),
            Happening::Strike => self.strike(),
            Happening::Flap(flapping) => self.flap(flapping),
            Happening::Hasten { stretch } => self.hasten(stretch),
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
            | Happening::Relay { director, .. }
            | Happening::Closed { director, .. }
            | Happening::Wake { director, .. } => Some(*director),
            _ => None,
        }
    }

    /// Faults stop: everybody runs, everybody reaches everybody, clocks are right.
    fn calm_down(&mut self) {
        self.trace.line(self.now, "world", "faults stop");
        self.calm = true;
        self.restore_members();
        self.end_faults();
        self.ipc.calm_down();
        self.scripts.calm_down();
        self.relays.calm_down();
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
        self.take_tags_away(&views);
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
                if self.now > since + answers::RECOVER_MAX_MICROS {
                    for (director, view) in views.iter().flatten().enumerate() {
                        self.pools.listed(director, &view.hosts);
                    }
                }
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
        if let Err(error) = invariants::state::check(views, self.unix_secs(), &self.plan.minors) {
            self.violate(invariants::state::NAME, error);
        }
        if self.plan.minors.iter().all(|&minor| minor >= minor::UPDOWN)
            && let Some(Ok(view)) = views.first()
        {
            match self.changes.check(&view.hosts) {
                Ok(count) => self.statistics.changes_judged = count,
                Err(error) => self.violate(invariants::changes::NAME, error),
            }
        }
        self.statistics.users_at_end = views.first().and_then(|view| view.as_ref().ok()).map_or(0, |v| v.users.len());
    }
}
