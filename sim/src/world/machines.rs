//! Machines with a director on each: here the simulation plays the part of a runtime.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::rc::Rc;

use director_core::{Action, Configuration, ConnectionId, Director, Event, FlushTarget, Instant, Now, Target};

use super::{Happening, Party, Program, UNIX_START_SECS, World};
use crate::invariants::flood::Flood;
use crate::invariants::{self, CONTRACT};
use crate::network::{Content, LinkId, Side};
use crate::plan::{Fault, Plan, SECOND};
use crate::relays::{Protocol, Relays};
use crate::scripts::Scripts;
use crate::trace::{Assembler, Way};

/// A core that has so much to do at one moment will not come to an end.
const STEPS_MAX: u32 = 200_000;
/// A core that wants to be called so often within a second spins.
const WAKES_MAX_PER_SECOND: u32 = 2000;

/// A machine and the director on it.
#[derive(Debug)]
pub(super) struct Machine {
    /// The director's address in the ring.
    pub(super) address: SocketAddr,
    /// `None`: the process does not run.
    pub(super) core: Option<Director>,
    /// How often the process has started: what was meant for an earlier life must not reach this one.
    pub(super) incarnation: u32,
    /// Whether operators want it in the ring.
    pub(super) listed: bool,
    /// Since when it has been wanted back, if nobody in the ring has said OK to that yet: nobody lets it in.
    pub(super) awaited_since: Option<u64>,
    /// Whether it was ever out of it.
    pub(super) was_out: bool,
    /// Whether operators have stopped it.
    pub(super) stopped: bool,
    /// Whether the machine has power.
    pub(super) powered: bool,
    /// Until when the process stands still.
    pub(super) paused_until: u64,
    /// Until when it takes little at a time from the others.
    pub(super) slow_until: u64,
    paused_from: u64,
    /// For how long it stood still before that.
    paused_before_micros: u64,
    /// How far its clock is ahead.
    pub(super) skew_secs: i64,
    pub(super) sockets: BTreeMap<ConnectionId, Socket>,
    /// Connections that may have output and may have room for it.
    writable: BTreeSet<ConnectionId>,
    started_at: u64,
    /// A monotonic clock may start anywhere.
    instant_start: u64,
    seed: u64,
    wake_at: Option<u64>,
    wake_serial: u64,
    wakes: (u64, u32),
    flood: Flood,
}

impl Machine {
    pub(super) fn new(plan: &Plan, director: usize, seed: u64) -> Self {
        Self {
            address: plan.director_address(director),
            core: None,
            incarnation: 0,
            listed: true,
            awaited_since: None,
            was_out: false,
            stopped: false,
            powered: true,
            paused_until: 0,
            slow_until: 0,
            paused_from: 0,
            paused_before_micros: 0,
            skew_secs: plan.clock_skews_secs[director],
            sockets: BTreeMap::new(),
            writable: BTreeSet::new(),
            started_at: 0,
            instant_start: 0,
            seed,
            wake_at: None,
            wake_serial: 0,
            wakes: (0, 0),
            flood: Flood::new(plan.directors),
        }
    }

    /// What time this machine thinks it is.
    pub(super) fn clock(&self, now: u64) -> Now {
        Now {
            instant: Instant::from_micros(now - self.started_at + self.instant_start),
            unix_secs: (UNIX_START_SECS + now / SECOND).saturating_add_signed(self.skew_secs),
        }
    }

    /// The process stands still from now on.
    pub(super) fn pause(&mut self, now: u64, until: u64) {
        self.paused_before_micros = self.paused_total_micros(now);
        self.paused_from = now;
        self.paused_until = until;
    }

    /// For how long the machine's directors have stood still until now.
    pub(super) fn paused_total_micros(&self, now: u64) -> u64 {
        self.paused_before_micros + now.min(self.paused_until).saturating_sub(self.paused_from)
    }

    /// Whether the core has asked to close that connection.
    pub(super) fn is_closing(&self, connection: ConnectionId) -> bool {
        self.sockets.get(&connection).is_some_and(|socket| socket.closing)
    }

    /// When the core wants to be called.
    fn timeout_at(&self) -> Option<u64> {
        let (instant, _) = self.core.as_ref()?.next_timeout()?;
        Some(self.started_at.saturating_add(instant.as_micros().saturating_sub(self.instant_start)))
    }

    /// Whether the process runs and does not stand still.
    pub(super) fn is_active(&self, now: u64) -> bool {
        self.core.is_some() && self.paused_until <= now
    }
}

/// What a runtime knows of a connection.
#[derive(Debug)]
pub(super) struct Socket {
    pub(super) state: SocketState,
    /// What the timeline calls it.
    pub(super) name: Rc<str>,
    reading: bool,
    closing: bool,
    /// The writing side is to be closed.
    finishing: bool,
    output: bool,
    is_ring: bool,
    sent: Assembler,
    received: Assembler,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SocketState {
    /// Asked for.
    Connecting,
    /// The other side has accepted; the news is on its way.
    Accepted(LinkId),
    /// There.
    Open(LinkId, Side),
    /// Ended; the core is about to be told.
    Gone,
}

impl Socket {
    pub(super) fn new(state: SocketState, name: String, is_ring: bool) -> Self {
        Self {
            state,
            name: name.into(),
            reading: true,
            closing: false,
            finishing: false,
            output: false,
            is_ring,
            sent: Assembler::default(),
            received: Assembler::default(),
        }
    }

    /// Whether what has arrived may be taken.
    pub(super) fn reads(&self) -> bool {
        self.reading || self.closing
    }
}

impl World {
    /// A director's process starts.
    pub(super) fn start(&mut self, director: usize) {
        let members = self.configured_members(director);
        let machine = &mut self.machines[director];
        if machine.core.is_some() || machine.stopped {
            return;
        }
        machine.powered = true;
        machine.incarnation += 1;
        machine.started_at = self.now;
        machine.instant_start = self.random.below(1000 * SECOND);
        machine.wakes = (0, 0);
        let seed = machine.seed ^ u64::from(machine.incarnation);
        let now = machine.clock(self.now);
        let configuration = Configuration { members, ..self.plan.configuration(director, machine.incarnation) };
        let backends = configuration.hosts.iter().map(|host| host.ip).collect();
        machine.core = Some(Director::new(configuration, seed, now));
        self.statistics.starts += 1;
        if self.plan.differs(machine.incarnation) {
            self.statistics.strikes[Fault::Configurations as usize] += 1;
        }
        self.trace.line(self.now, Place(director), "starts");
        self.backends.starts(director, backends, self.now);
        self.changes.joined(self.now);
        self.reach_changed();
        self.drive(director);
        self.start_programs(director);
    }

    /// Passes an event to a director, and does what comes of it.
    pub(super) fn handle(&mut self, director: usize, event: Event<'_>) {
        let machine = &mut self.machines[director];
        let now = machine.clock(self.now);
        if let Some(core) = &mut machine.core {
            core.handle(event, now);
            self.drive(director);
        }
    }

    /// Does what a director wants done, until it wants no more.
    pub(super) fn drive(&mut self, director: usize) {
        for _ in 0..STEPS_MAX {
            let machine = &mut self.machines[director];
            let Some(core) = &mut machine.core else { return };
            if let Some(action) = core.poll_action() {
                self.act(director, action);
            } else if let Some(connection) = machine.writable.pop_first() {
                self.write(director, connection);
            } else {
                self.trace.logs(self.now, Place(director));
                self.schedule_wake(director);
                return;
            }
        }
        self.violate(CONTRACT, format!("{} does not come to an end of what it wants done", Place(director)));
        self.finished = true;
    }

    fn act(&mut self, director: usize, action: Action) {
        match action {
            Action::Connect { connection, target } => self.connect(director, connection, &target),
            Action::Write { connection } => {
                if let Some(socket) = self.socket(director, connection, "Write") {
                    socket.output = true;
                    self.machines[director].writable.insert(connection);
                }
            }
            Action::Read { connection, enabled } => {
                let Some(socket) = self.socket(director, connection, "Read") else { return };
                socket.reading = enabled;
                if let SocketState::Open(link, side) = socket.state
                    && enabled
                    && self.network.watch(link, side)
                {
                    self.schedule(self.now, Happening::Arrive { link, side });
                }
            }
            Action::Finish { connection } => {
                if let Some(socket) = self.socket(director, connection, "Finish") {
                    socket.finishing = true;
                    socket.output = true;
                    self.machines[director].writable.insert(connection);
                }
            }
            Action::Close { connection } => {
                let Some(socket) = self.socket(director, connection, "Close") else { return };
                socket.closing = true;
                socket.output = true;
                match socket.state {
                    SocketState::Connecting | SocketState::Accepted(_) => self.abort(director, connection),
                    SocketState::Open(..) => {
                        self.machines[director].writable.insert(connection);
                    }
                    SocketState::Gone => {}
                }
            }
            Action::Abort { connection } => {
                if self.socket(director, connection, "Abort").is_some() {
                    self.abort(director, connection);
                }
            }
        }
    }

    /// A connection that the core names; it must be one that lives.
    fn socket(&mut self, director: usize, connection: ConnectionId, action: &str) -> Option<&mut Socket> {
        if !self.machines[director].sockets.contains_key(&connection) {
            let place = Place(director);
            self.violate(CONTRACT, format!("{place} wants {action} for {connection}, which is dead or never was"));
        }
        self.machines[director].sockets.get_mut(&connection)
    }

    fn connect(&mut self, director: usize, connection: ConnectionId, target: &Target) {
        if self.machines[director].sockets.contains_key(&connection) {
            let detail = format!("{} connects as {connection}, which is another connection's id", Place(director));
            self.violate(CONTRACT, detail);
            return;
        }
        let incarnation = self.machines[director].incarnation;
        let (name, is_ring) = match target {
            Target::Ring { to, .. } => (format!("{}>{}", Place(director), self.place_of(*to)), true),
            Target::Ipc => (format!("{}>ipc", Place(director)), false),
            other => (format!("{}>{other:?}", Place(director)), false),
        };
        self.trace.line(self.now, &name, "connects");
        let socket = Socket::new(SocketState::Connecting, name, is_ring);
        self.machines[director].sockets.insert(connection, socket);
        match target {
            &Target::Ring { to, .. } => {
                let peer = self.machines.iter().position(|machine| machine.address == to).unwrap_or(director);
                let at = self.now + self.network.latency_micros(director, peer);
                self.schedule(at, Happening::Knock { director, incarnation, connection, to, attempt: 0 });
            }
            Target::Ipc => {
                let link = self.ipc.accepts().then(|| self.reach(director, connection, Program::Ipc));
                match link {
                    Some(link) => self.ipc.connected(director, link),
                    None => {
                        // Whatever it was that it wanted ended, it will not be.
                        self.clients.mark_kick(director, None, true);
                        self.refuse(director, connection, "Connection refused");
                    }
                }
            }
            Target::Flush(target) => {
                let link = self.scripts.accepts().then(|| self.reach(director, connection, Program::Script));
                match link {
                    Some(link) => {
                        let program = matches!(target, FlushTarget::Program { .. });
                        self.scripts.started(link, program);
                        if program {
                            self.script_told(director, link, Scripts::program_request(target));
                        }
                    }
                    None => {
                        self.statistics.failed_scripts += 1;
                        self.refuse(director, connection, "Connection refused");
                    }
                }
            }
            Target::AuthLogin => self.connect_auth(director, connection, Protocol::Login),
            Target::AuthUserdb => self.connect_auth(director, connection, Protocol::Userdb),
            // These directors kick through ipc.
            Target::Anvil => self.refuse(director, connection, "No such file or directory"),
        }
    }

    /// A director connects to auth for a client.
    fn connect_auth(&mut self, director: usize, connection: ConnectionId, protocol: Protocol) {
        let link = self.relays.accepts().then(|| self.reach(director, connection, Program::Auth));
        self.relays.auth_made(link);
        match link {
            Some(link) => self.send(link, Side::Acceptor, Content::Bytes(Relays::auth_greeting(protocol))),
            None => self.refuse(director, connection, "Connection refused"),
        }
    }

    /// A director's connection reaches a program beside it.
    fn reach(&mut self, director: usize, connection: ConnectionId, program: Program) -> LinkId {
        let incarnation = self.machines[director].incarnation;
        let opener = (director, Party::Director { director, incarnation, connection });
        let acceptor = (director, Party::Program { director, program });
        let (link, at) = self.network.open(self.now, opener, acceptor);
        if let Some(socket) = self.machines[director].sockets.get_mut(&connection) {
            socket.state = SocketState::Accepted(link);
            socket.name = format!("{}>{}#{link}", Place(director), program.name()).into();
        }
        self.schedule(at, Happening::Arrive { link, side: Side::Opener });
        link
    }

    /// Nobody listens where a director wants to connect to.
    fn refuse(&mut self, director: usize, connection: ConnectionId, error: &'static str) {
        let incarnation = self.machines[director].incarnation;
        self.schedule(self.now, Happening::Refuse { director, incarnation, connection, error });
    }

    /// Pulls output as far as there is room for it.
    fn write(&mut self, director: usize, connection: ConnectionId) {
        let machine = &mut self.machines[director];
        let clock = machine.clock(self.now);
        let (Some(core), Some(socket)) = (&mut machine.core, machine.sockets.get_mut(&connection)) else { return };
        let SocketState::Open(link, side) = socket.state else { return };
        if !socket.output {
            return;
        }
        let room = self.network.room_bytes(link, side);
        if room == 0 {
            // Again when the other side has taken something.
            self.network.hold(self.now, link, side, true);
            return;
        }
        let waiting = core.poll_output(connection, clock);
        if waiting.is_empty() {
            self.network.hold(self.now, link, side, false);
            socket.output = false;
            let finishing = std::mem::take(&mut socket.finishing);
            if socket.closing {
                self.finish(director, connection, link, side);
            } else if finishing {
                self.send(link, side, Content::Finish);
            }
            return;
        }
        let most = waiting.len().min(room);
        // Mostly all of it, as a kernel would; at times any part.
        let count = if self.random.percent(80) { most } else { self.random.between(1, most as u64) as usize };
        let bytes = waiting[..count].to_vec();
        machine.writable.insert(connection);
        core.handle(Event::Written { connection, bytes: count }, clock);
        let (now, trace, name, is_ring) = (self.now, &mut self.trace, &socket.name, socket.is_ring);
        let messages = &mut self.messages;
        let (mut lines, mut floods) = (0, Vec::new());
        let mut removed = Vec::new();
        let backends = &mut self.backends;
        socket.sent.each(&bytes, |line| {
            trace.said(now, name, Place(director), Way::Sent, line);
            if is_ring {
                backends.said(director, line, clock.unix_secs, now);
                lines += 1;
                messages.sent(line, now);
                floods.extend(machine.flood.sent(line, now).err());
                removed.extend(removed_member(line));
            }
        });
        self.statistics.ring_lines += lines;
        for member in removed {
            self.removal_told(director, member);
        }
        for error in floods {
            self.violate(invariants::flood::NAME, format!("{} {error}", Place(director)));
            // It would go on, and with it the run, for ever slower.
            self.finished = true;
        }
        self.send(link, side, Content::Bytes(bytes));
    }

    /// Bytes reach a director.
    pub(super) fn deliver(&mut self, director: usize, connection: ConnectionId, bytes: &[u8]) {
        let clock_secs = self.machines[director].clock(self.now).unix_secs;
        let Some(socket) = self.machines[director].sockets.get_mut(&connection) else { return };
        if socket.closing {
            // The core has asked to hear no more of it.
            return;
        }
        let (now, trace, name) = (self.now, &mut self.trace, &socket.name);
        let (is_ring, backends, clients) = (socket.is_ring, &mut self.backends, &self.clients);
        let changes = &mut self.changes;
        let notifies = match socket.state {
            SocketState::Open(link, side) => {
                let party = self.network.party(link, side.other());
                matches!(party, Some(Party::Program { program: Program::Notify, .. }))
            }
            _ => false,
        };
        socket.received.each(bytes, |line| {
            trace.said(now, name, Place(director), Way::Received, line);
            if is_ring {
                backends.heard_on(connection, director, line, clock_secs, now);
                if line == b"DONE" {
                    changes.joined(now);
                }
            } else if notifies && let Some(user) = clients.user_named(line) {
                backends.mentioned(director, user, clock_secs, now);
            }
        });
        self.handle(director, Event::Received { connection, bytes });
    }

    /// The other side has taken something: there may be room again.
    pub(super) fn drained(&mut self, director: usize, connection: ConnectionId) {
        let machine = &mut self.machines[director];
        if machine.sockets.get(&connection).is_some_and(|socket| socket.output) {
            machine.writable.insert(connection);
            // A process that stands still writes when it goes on, at the latest at its next tick.
            if machine.is_active(self.now) {
                self.drive(director);
            }
        }
    }

    fn schedule_wake(&mut self, director: usize) {
        let machine = &mut self.machines[director];
        let Some(at) = machine.timeout_at() else { return };
        // Deadlines mostly move on: a call that comes too early looks again, which is cheaper than one for each.
        if machine.wake_at.is_some_and(|planned| planned <= at) {
            return;
        }
        machine.wake_at = Some(at);
        machine.wake_serial += 1;
        let serial = machine.wake_serial;
        self.schedule(at, Happening::Wake { director, serial });
    }

    pub(super) fn wake(&mut self, director: usize, serial: u64) {
        let machine = &mut self.machines[director];
        if machine.wake_serial != serial || machine.core.is_none() {
            return;
        }
        machine.wake_at = None;
        if machine.timeout_at().is_none_or(|at| at > self.now) {
            self.schedule_wake(director);
            return;
        }
        let (second, count) = &mut machine.wakes;
        if *second != self.now / SECOND {
            (*second, *count) = (self.now / SECOND, 0);
        }
        *count += 1;
        if *count == WAKES_MAX_PER_SECOND {
            let reason = machine.core.as_ref().and_then(Director::next_timeout).map(|(_, reason)| reason);
            let detail = format!("{} spins: {WAKES_MAX_PER_SECOND} ticks in a second, for {reason:?}", Place(director));
            self.violate(CONTRACT, detail);
            self.finished = true;
            return;
        }
        self.handle(director, Event::Tick);
    }

    /// The process is told to end. What it still has to say goes out as far as there is room for it; one that stands still
    /// says nothing.
    pub(super) fn shut_down(&mut self, director: usize) {
        if self.machines[director].paused_until <= self.now {
            self.handle(director, Event::Shutdown);
        }
        self.kill(director, true);
    }

    /// The process dies. `told`: the machine lives and tells the peers.
    pub(super) fn kill(&mut self, director: usize, told: bool) {
        let machine = &mut self.machines[director];
        if machine.core.take().is_none() {
            return;
        }
        // A dead process does not stand still; the next one starts fresh.
        let paused = machine.paused_total_micros(self.now);
        (machine.paused_before_micros, machine.paused_from, machine.paused_until) = (paused, self.now, self.now);
        machine.wake_at = None;
        machine.wake_serial += 1;
        machine.writable.clear();
        let sockets = std::mem::take(&mut machine.sockets);
        for socket in sockets.into_values() {
            let (link, side) = match socket.state {
                SocketState::Accepted(link) => (link, Side::Opener),
                SocketState::Open(link, side) => (link, side),
                SocketState::Connecting | SocketState::Gone => continue,
            };
            // Programs on the same machine always notice.
            if told || !socket.is_ring {
                let content = if self.random.percent(50) { Content::Finish } else { Content::Reset };
                self.send(link, side, content);
            }
            self.network.abandon(link, side);
        }
        self.stop_programs(director);
        self.removals.died(director);
        self.director_died(director);
    }

    fn place_of(&self, address: SocketAddr) -> String {
        match self.machines.iter().position(|machine| machine.address == address) {
            Some(director) => Place(director).to_string(),
            None => address.to_string(),
        }
    }
}

/// A director as the timeline names it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place(pub(super) usize);

impl std::fmt::Display for Place {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "d{}", self.0 + 1)
    }
}

/// The member that a DIRECTOR-REMOVE names.
fn removed_member(line: &[u8]) -> Option<SocketAddr> {
    let (ip, port) = std::str::from_utf8(line.strip_prefix(b"DIRECTOR-REMOVE\t")?).ok()?.split_once('\t')?;
    Some(SocketAddr::new(ip.parse().ok()?, port.parse().ok()?))
}
