//! The core and its connections, on non-blocking descriptors.
//!
//! The switchboard owns the [`Director`] and every connection. It never waits: a runtime tells it which descriptor is
//! ready, it reads or writes once, tells the core, and does what the core wants done until there is nothing left. What
//! needs the runtime itself (watching descriptors, connecting, a timer) comes out as [`Notice`]s. Only what goes to other
//! directors waits until all that was ready has had its turn ([`Switchboard::tell_ring`]): who asked has his answer first,
//! and what many have asked is told in one piece.
//!
//! ```text
//! runtime                         switchboard                     core
//! descriptor ready  ──────────▶   read()            ──────────▶   handle(Received)
//!                                 write()           ◀──────────   poll_action, poll_output
//! watch, dial       ◀──────────   Notice
//! timer             ──────────▶   tick()            ──────────▶   handle(Tick)
//! ```

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::rc::Rc;
use std::time::{Duration, Instant};

use director_core::{
    Action, Configuration, ConnectionId, Director, Event, FlushTarget, RECEIVE_MAX_BYTES, Role, Target,
};
use rustix::io::Errno;
use rustix::net::{Shutdown, SocketFlags};

use crate::dialer;
use crate::process::Clock;

/// The most bytes that one connection may write before others have their turn: a hand-over of millions of users must not
/// hold up a login. To find and print so much of it takes less than a millisecond.
const WRITE_TURN_MAX_BYTES: usize = 64 * 1024;

/// The most bytes of one connection that are read before others have their turn: about 500 users of a hand-over, which
/// take less than a millisecond, or 300 lookups.
const READ_TURN_MAX_BYTES: usize = 16 * 1024;
const _: () = assert!(READ_TURN_MAX_BYTES <= RECEIVE_MAX_BYTES, "the core takes no more");

/// The most connections that one listener may accept before others have their turn.
pub const ACCEPT_TURN_MAX: usize = 64;

/// The pause in accepting when there are no descriptors left: only connections that end can help.
pub const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How long [`Switchboard::is_finished`] may stay false after [`Switchboard::shutdown`] before a runtime ends anyway.
pub const SHUTDOWN_PATIENCE: Duration = Duration::from_secs(5);

/// What the runtime has to do.
#[derive(Debug)]
pub enum Notice {
    /// Connect, and report with [`Switchboard::connected`], [`Switchboard::connecting`] or
    /// [`Switchboard::connect_failed`].
    Dial {
        /// For which connection.
        connection: ConnectionId,
        /// Where to.
        target: Target,
    },
    /// A new connection, be it still under way: watch its descriptor as [`Switchboard::interest`] says. Drop the
    /// descriptor on [`Notice::Gone`].
    Watch {
        /// Which.
        connection: ConnectionId,
        /// Its descriptor, shared with the switchboard.
        descriptor: Rc<OwnedFd>,
    },
    /// [`Switchboard::interest`] of a connection may be another now. It never is without this being told.
    Interest {
        /// Which.
        connection: ConnectionId,
    },
    /// Forget the connection, or give up dialing for it.
    Gone {
        /// Which.
        connection: ConnectionId,
    },
}

/// What to wait for on a connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Interest {
    /// Call [`Switchboard::readable`] when it can be read.
    pub read: bool,
    /// Call [`Switchboard::writable`] when it can be written.
    pub write: bool,
}

/// What came of an attempt to accept connections.
#[derive(Debug)]
pub enum Accepted {
    /// All that there were.
    All,
    /// There may be more: others first.
    More,
    /// No descriptors are left: try again after [`ACCEPT_PAUSE`].
    Pause,
}

/// The core, its connections, and what waits to be done for them.
#[derive(Debug)]
pub struct Switchboard {
    director: Director,
    clock: Clock,
    /// By the slots of their ids.
    connections: Vec<Option<Connection>>,
    /// Connections with output that has not been tried yet.
    unwritten: VecDeque<ConnectionId>,
    /// The same, of connections to other directors.
    ring_unwritten: VecDeque<ConnectionId>,
    notices: VecDeque<Notice>,
    /// For reading; wiped after each use, since passwords come through it.
    buffer: Box<[u8]>,
    /// "No descriptors left" has been said.
    starving: bool,
    shut_down: bool,
    /// Counts calls of `settle`.
    round: u64,
}

#[derive(Debug)]
struct Connection {
    id: ConnectionId,
    /// `None` while it is being dialed, unless it is under way.
    descriptor: Option<Rc<OwnedFd>>,
    /// The descriptor is not connected yet.
    under_way: bool,
    /// A TCP socket.
    tcp: bool,
    /// To another director.
    ring: bool,
    reading: bool,
    /// It takes no output any more, but there may be input: output is thrown away until the end is read.
    mute: bool,
    writing: Writing,
    /// When all output is written, the writing side is to be closed.
    finish: bool,
    /// When it had its last turn to write.
    round: u64,
    closing: Closing,
}

impl Connection {
    fn new(id: ConnectionId, descriptor: Option<Rc<OwnedFd>>, tcp: bool, ring: bool) -> Self {
        Self {
            id,
            descriptor,
            under_way: false,
            tcp,
            ring,
            reading: true,
            mute: false,
            writing: Writing::Nothing,
            finish: false,
            round: 0,
            closing: Closing::No,
        }
    }
}

/// Whether there is output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Writing {
    Nothing,
    /// It is in `unwritten` or `ring_unwritten`.
    Queued,
    /// It waits for the socket.
    Blocked,
}

/// How far the core's [`Action::Close`] has come. If a peer makes it last too long, the core aborts it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Closing {
    No,
    /// What is waiting is written first.
    Flushing,
    /// All is written, and the peer has been told that it is the end. It is read on, and thrown away: to close a TCP
    /// socket that has unread input resets the connection, and what we said last might never arrive.
    Draining,
}

impl Switchboard {
    /// Starts a director. Carry out its first notices.
    pub fn new(configuration: Configuration, seed: u64) -> Self {
        let clock = Clock::start();
        let mut this = Self {
            director: Director::new(configuration, seed, clock.now()),
            clock,
            connections: Vec::new(),
            unwritten: VecDeque::new(),
            ring_unwritten: VecDeque::new(),
            notices: VecDeque::new(),
            buffer: vec![0; READ_TURN_MAX_BYTES].into(),
            starving: false,
            shut_down: false,
            round: 0,
        };
        this.settle();
        this
    }

    /// The next thing for the runtime to do. To be asked until `None` after every other call.
    pub fn next_notice(&mut self) -> Option<Notice> {
        self.notices.pop_front()
    }

    /// What to wait for on a connection; nothing, if it has gone.
    pub fn interest(&self, connection: ConnectionId) -> Interest {
        let Some(connection) = self.connection(connection) else { return Interest::default() };
        if connection.under_way {
            return Interest { read: false, write: true };
        }
        let read = match connection.closing {
            Closing::No => connection.reading,
            Closing::Flushing => false,
            Closing::Draining => true,
        };
        Interest { read, write: connection.writing == Writing::Blocked }
    }

    /// When to call [`Switchboard::tick`].
    pub fn next_timeout(&self) -> Option<Instant> {
        self.director.next_timeout().and_then(|(instant, _)| self.clock.when(instant))
    }

    /// A timeout has come (or not: harmless).
    pub fn tick(&mut self) {
        self.handle(Event::Tick);
        self.settle();
    }

    /// A listening socket is readable: accepts what came.
    ///
    /// # Errors
    /// The listener is broken.
    pub fn accept(&mut self, listener: impl AsFd, role: Role) -> io::Result<Accepted> {
        for _ in 0..ACCEPT_TURN_MAX {
            let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
            match rustix::net::acceptfrom_with(&listener, flags) {
                Ok((descriptor, peer)) => {
                    self.starving = false;
                    let peer = peer.and_then(|peer| SocketAddr::try_from(peer).ok());
                    self.accepted(descriptor, role, peer);
                }
                Err(Errno::AGAIN) => return Ok(Accepted::All),
                Err(Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM) => {
                    if !self.starving {
                        self.starving = true;
                        log::error!(
                            "no descriptors left: new connections wait until others end (raise the limit of open \
                             files; systemd: LimitNOFILE=)"
                        );
                    }
                    return Ok(Accepted::Pause);
                }
                Err(error @ (Errno::BADF | Errno::INVAL | Errno::NOTSOCK | Errno::OPNOTSUPP)) => {
                    return Err(error.into());
                }
                // The rest is about that one connection, which has gone already, or an interruption. (Linux reports the
                // network's errors for a waiting connection here.) One that comes each time must not keep us busy.
                Err(error) => {
                    log::debug!("accept: {error}");
                    return Ok(Accepted::Pause);
                }
            }
        }
        Ok(Accepted::More)
    }

    /// A connection came in, or a FIFO was opened. The descriptor is non-blocking.
    pub fn accepted(&mut self, descriptor: OwnedFd, role: Role, peer: Option<SocketAddr>) -> ConnectionId {
        if peer.is_some() {
            // Lines are short and somebody waits for each.
            let _ = rustix::net::sockopt::set_tcp_nodelay(&descriptor, true);
            // An administrator's host may vanish without a word; in the ring the core has its own pings.
            let _ = rustix::net::sockopt::set_socket_keepalive(&descriptor, true);
        }
        let id = self.director.accept(role, peer, self.clock.now());
        let descriptor = Rc::new(descriptor);
        self.insert(Connection::new(id, Some(Rc::clone(&descriptor)), peer.is_some(), role == Role::Ring));
        self.notices.push_back(Notice::Watch { connection: id, descriptor });
        self.settle();
        id
    }

    /// Whether a [`Notice::Dial`] waits for what comes of it.
    pub fn is_dialed(&self, connection: ConnectionId) -> bool {
        self.connection(connection).is_some_and(|entry| entry.descriptor.is_none())
    }

    /// A [`Notice::Dial`] has succeeded. The descriptor is non-blocking.
    pub fn connected(&mut self, connection: ConnectionId, descriptor: OwnedFd) {
        self.connecting(connection, descriptor);
        self.made(connection);
        self.settle();
    }

    /// A [`Notice::Dial`] is under way: when the descriptor, which is non-blocking, can be written, it is connected or
    /// has failed.
    pub fn connecting(&mut self, connection: ConnectionId, descriptor: OwnedFd) {
        let Some(entry) = self.connection_mut(connection) else { return };
        let descriptor = Rc::new(descriptor);
        entry.descriptor = Some(Rc::clone(&descriptor));
        entry.under_way = true;
        self.notices.push_back(Notice::Watch { connection, descriptor });
    }

    /// A connection that was under way is made.
    fn made(&mut self, connection: ConnectionId) {
        let Some(entry) = self.connection_mut(connection) else { return };
        entry.under_way = false;
        self.notices.push_back(Notice::Interest { connection });
        self.handle(Event::Connected { connection });
        // The core may have put output there before.
        self.queue(connection);
    }

    /// A [`Notice::Dial`] has failed.
    pub fn connect_failed(&mut self, connection: ConnectionId, error: &io::Error) {
        let Some(entry) = self.connection_mut(connection) else { return };
        debug_assert!(entry.descriptor.is_none() || entry.under_way, "it was connected");
        self.connections[connection.slot()] = None;
        self.notices.push_back(Notice::Gone { connection });
        self.handle(Event::ConnectFailed { connection, error: &error.to_string() });
        self.settle();
    }

    /// A descriptor is readable: reads once. Whether there is probably more to read at once.
    pub fn readable(&mut self, connection: ConnectionId) -> bool {
        if !self.interest(connection).read {
            return false;
        }
        let Some(entry) = self.connection(connection) else { return false };
        let Some(descriptor) = entry.descriptor.clone() else { return false };
        let draining = entry.closing == Closing::Draining;
        let more = match rustix::io::read(&*descriptor, &mut *self.buffer) {
            Ok(0) => {
                self.gone(connection, None);
                false
            }
            Ok(count) => {
                if !draining {
                    let now = self.clock.now();
                    self.director.handle(Event::Received { connection, bytes: &self.buffer[..count] }, now);
                }
                self.buffer[..count].fill(0);
                count == self.buffer.len()
            }
            Err(Errno::AGAIN) => false,
            Err(Errno::INTR) => true,
            Err(error) => {
                self.gone(connection, Some(&error.to_string()));
                false
            }
        };
        self.settle();
        more
    }

    /// A descriptor is writable: writes what waits.
    pub fn writable(&mut self, connection: ConnectionId) {
        let Some(entry) = self.connection_mut(connection) else { return };
        if entry.under_way
            && let Some(descriptor) = &entry.descriptor
        {
            match dialer::finish(descriptor) {
                Ok(()) => self.made(connection),
                Err(error) => return self.connect_failed(connection, &error),
            }
        } else if entry.writing == Writing::Blocked {
            self.enqueue(connection);
            self.notices.push_back(Notice::Interest { connection });
            // It has waited for its socket long enough.
            self.tell_ring();
        }
        self.settle();
    }

    /// Whether there is something to say to other directors.
    pub fn has_news_for_ring(&self) -> bool {
        !self.ring_unwritten.is_empty()
    }

    /// Says to other directors what has been left for later. To be called when all that was ready has had its turn, and
    /// before waiting for more.
    pub fn tell_ring(&mut self) {
        if self.has_news_for_ring() {
            self.unwritten.append(&mut self.ring_unwritten);
            self.settle();
        }
    }

    /// The settings were read again.
    pub fn reload(&mut self, configuration: Configuration) {
        self.handle(Event::Reload(Box::new(configuration)));
        self.settle();
    }

    /// The process is to end.
    pub fn shutdown(&mut self) {
        self.shut_down = true;
        self.handle(Event::Shutdown);
        self.settle();
    }

    /// After [`Switchboard::shutdown`]: whether all that had to go out has gone out.
    pub fn is_finished(&self) -> bool {
        self.shut_down && self.director.is_finished()
    }

    /// A runtime cannot watch a connection: drops it.
    pub fn broken(&mut self, connection: ConnectionId, error: &io::Error) {
        self.gone(connection, Some(&error.to_string()));
        self.settle();
    }

    /// A FIFO has lost its place: reads what its writers left in it, and drops it.
    pub fn hang_up(&mut self, connection: ConnectionId) {
        // No more than a pipe holds by default, else writers who go on could keep us here.
        let mut rest = 64 * 1024 / READ_TURN_MAX_BYTES + 1;
        while rest > 0 && self.readable(connection) {
            rest -= 1;
        }
        self.gone(connection, None);
        self.settle();
    }

    /// A connection's descriptor, if it has one.
    pub fn descriptor(&self, connection: ConnectionId) -> Option<&Rc<OwnedFd>> {
        self.connection(connection)?.descriptor.as_ref()
    }

    fn handle(&mut self, event: Event<'_>) {
        self.director.handle(event, self.clock.now());
    }

    /// Does what the core wants until it wants nothing: actions first, so that all output which one input causes is
    /// written together; then the output, which may cause more actions. What is for the ring is for `tell_ring`.
    fn settle(&mut self) {
        self.round += 1;
        loop {
            while let Some(action) = self.director.poll_action() {
                self.carry_out(action);
            }
            let Some(connection) = self.unwritten.pop_front() else { break };
            self.write(connection);
        }
    }

    fn carry_out(&mut self, action: Action) {
        match action {
            Action::Connect { connection, target } => {
                let ring = matches!(target, Target::Ring { .. });
                let tcp = ring || matches!(target, Target::Flush(FlushTarget::Tcp { .. }));
                self.insert(Connection::new(connection, None, tcp, ring));
                self.notices.push_back(Notice::Dial { connection, target });
            }
            Action::Write { connection } => self.queue(connection),
            Action::Read { connection, enabled } => {
                if let Some(entry) = self.connection_mut(connection)
                    && entry.reading != enabled
                {
                    entry.reading = enabled;
                    if entry.mute && !enabled {
                        self.gone(connection, None);
                    } else {
                        self.notices.push_back(Notice::Interest { connection });
                    }
                }
            }
            Action::Finish { connection } => {
                if let Some(entry) = self.connection_mut(connection) {
                    entry.finish = true;
                    self.queue(connection);
                }
            }
            Action::Close { connection } => self.close(connection),
            Action::Abort { connection } => self.gone(connection, None),
        }
    }

    /// Begins to close a connection: its output first.
    fn close(&mut self, connection: ConnectionId) {
        let Some(entry) = self.connection_mut(connection) else { return };
        if entry.descriptor.is_none() || entry.under_way {
            // Nothing can have been said yet.
            self.gone(connection, None);
            return;
        }
        if entry.closing != Closing::No {
            return;
        }
        entry.closing = Closing::Flushing;
        // If there is no output, that is found there.
        self.queue(connection);
        self.notices.push_back(Notice::Interest { connection });
    }

    /// Puts a connection among those whose output is to be tried, unless it waits for its socket. If it has had its turn
    /// already, the core is producing a long answer piece by piece: then others come first.
    fn queue(&mut self, connection: ConnectionId) {
        let round = self.round;
        let Some(entry) = self.connection_mut(connection) else { return };
        if entry.writing != Writing::Nothing {
            return;
        }
        if entry.round == round {
            self.blocked(connection);
        } else {
            self.enqueue(connection);
        }
    }

    /// Puts a connection among those whose output is to be tried.
    fn enqueue(&mut self, connection: ConnectionId) {
        let Some(entry) = self.connection_mut(connection) else { return };
        entry.writing = Writing::Queued;
        if entry.ring {
            self.ring_unwritten.push_back(connection);
        } else {
            self.unwritten.push_back(connection);
        }
    }

    /// Writes as much of a connection's output as its socket takes, within one turn.
    fn write(&mut self, connection: ConnectionId) {
        let mut turn = 0;
        let round = self.round;
        loop {
            let Some(entry) = self.connections.get_mut(connection.slot()).and_then(Option::as_mut) else { return };
            if entry.id != connection {
                return;
            }
            entry.round = round;
            let Some(descriptor) = entry.descriptor.as_ref().filter(|_| !entry.under_way) else {
                // Output for a connection that is not there yet: it is asked for again when it is.
                entry.writing = Writing::Nothing;
                return;
            };
            let now = self.clock.now();
            let bytes = self.director.poll_output(connection, now);
            if bytes.is_empty() {
                entry.writing = Writing::Nothing;
                if std::mem::take(&mut entry.finish) {
                    // If it is gone, reading finds that.
                    let _ = rustix::net::shutdown(&**descriptor, Shutdown::Write);
                }
                if entry.closing == Closing::Flushing {
                    self.flushed(connection);
                }
                return;
            }
            if entry.mute {
                let bytes = bytes.len();
                self.director.handle(Event::Written { connection, bytes }, now);
                continue;
            }
            if turn >= WRITE_TURN_MAX_BYTES {
                // It can probably be written at once; but by way of the runtime, so that others come first.
                self.blocked(connection);
                return;
            }
            match rustix::io::write(&**descriptor, bytes) {
                Ok(count) => {
                    let all = count == bytes.len();
                    turn += count;
                    self.director.handle(Event::Written { connection, bytes: count }, now);
                    if !all {
                        self.blocked(connection);
                        return;
                    }
                }
                Err(Errno::AGAIN) => {
                    self.blocked(connection);
                    return;
                }
                Err(Errno::INTR) => {}
                Err(error) if entry.closing != Closing::No || !entry.reading => {
                    self.gone(connection, Some(&error.to_string()));
                    return;
                }
                // What it said before it left may still be there to read, such as the command of an administrator who
                // does not wait for the answer. Reading will find the end.
                Err(_) => entry.mute = true,
            }
        }
    }

    fn blocked(&mut self, connection: ConnectionId) {
        let Some(entry) = self.connection_mut(connection) else { return };
        if entry.writing != Writing::Blocked {
            entry.writing = Writing::Blocked;
            self.notices.push_back(Notice::Interest { connection });
        }
    }

    /// All output of a closing connection is written.
    fn flushed(&mut self, connection: ConnectionId) {
        let Some(entry) = self.connection_mut(connection) else { return };
        let told = entry.tcp
            && entry
                .descriptor
                .as_ref()
                .is_some_and(|descriptor| rustix::net::shutdown(&**descriptor, Shutdown::Write).is_ok());
        if told {
            entry.closing = Closing::Draining;
            self.notices.push_back(Notice::Interest { connection });
        } else {
            self.gone(connection, None);
        }
    }

    /// A connection has ended, for whatever reason: forgets it and tells the core.
    fn gone(&mut self, connection: ConnectionId, error: Option<&str>) {
        if self.connection(connection).is_none() {
            return;
        }
        self.connections[connection.slot()] = None;
        self.notices.push_back(Notice::Gone { connection });
        self.handle(Event::Closed { connection, error });
    }

    fn insert(&mut self, connection: Connection) {
        let slot = connection.id.slot();
        if self.connections.len() <= slot {
            self.connections.resize_with(slot + 1, || None);
        }
        debug_assert!(self.connections[slot].is_none(), "the core gave one slot to two connections");
        self.connections[slot] = Some(connection);
    }

    fn connection(&self, id: ConnectionId) -> Option<&Connection> {
        self.connections.get(id.slot())?.as_ref().filter(|connection| connection.id == id)
    }

    fn connection_mut(&mut self, id: ConnectionId) -> Option<&mut Connection> {
        self.connections.get_mut(id.slot())?.as_mut().filter(|connection| connection.id == id)
    }
}

#[cfg(test)]
mod tests;
