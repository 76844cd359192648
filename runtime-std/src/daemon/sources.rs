//! What a runtime waits for, and what is done when it is ready or due: the whole of a daemon but the waiting itself.
//!
//! ```text
//! runtime                          daemon
//! a descriptor is ready  ─────▶    readable(source), writable(source)
//! next_timeout() is past ─────▶    tick()
//! watch, watch otherwise ◀─────    next_notice(), until there is none
//! end                    ◀─────    ended()
//! ```

use std::os::fd::OwnedFd;

use director_core::Role;

use super::*;
use sd_notify::NotifyState;

use crate::dialer::{Attempt, Dial, resolve};
use crate::listeners::ListenerKey;
use crate::memory;
use crate::process;
use crate::signals::Request;
use crate::switchboard::{self, ACCEPT_PAUSE, Accepted, Interest, SHUTDOWN_PATIENCE};

/// How long after something that is done seldom its memory is given back: what it leads to, such as whoever has waited for a
/// socket, mostly comes right behind it.
const GIVE_BACK_PAUSE: Duration = Duration::from_secs(1);

/// Names a descriptor to wait for, until its [`Notice::Gone`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Source {
    /// SIGTERM and others.
    Signals,
    /// Folders of Dovecot's that appear.
    Folders,
    /// Work on a thread of its own.
    Work(u32),
    /// A listening socket.
    Listener(ListenerKey),
    /// Anything else.
    Connection(ConnectionId),
}

impl Source {
    /// Names that are not of connections have a slot that no connection ever has: this and those below.
    const LAST_SLOT: u32 = u32::MAX;

    /// The name as a number, as which the system can keep it.
    pub fn to_bits(self) -> u64 {
        let (kind, number) = match self {
            Self::Connection(connection) => return connection.to_bits(),
            Self::Signals => (0, 0),
            Self::Folders => (1, 0),
            Self::Work(number) => (2, number),
            Self::Listener(ListenerKey(number)) => (3, number),
        };
        u64::from(number) << 32 | u64::from(Self::LAST_SLOT - kind)
    }

    /// What [`to_bits`](Self::to_bits) gave.
    pub fn from_bits(bits: u64) -> Self {
        let (number, slot) = ((bits >> 32) as u32, bits as u32);
        match Self::LAST_SLOT - slot {
            0 => Self::Signals,
            1 => Self::Folders,
            2 => Self::Work(number),
            3 => Self::Listener(ListenerKey(number)),
            _ => Self::Connection(ConnectionId::from_bits(bits)),
        }
    }
}

/// What the runtime has to do.
#[derive(Debug)]
pub enum Notice {
    /// Wait for a descriptor as [`Daemon::interest`] says.
    Watch {
        /// Its name.
        source: Source,
        /// It, shared with the daemon.
        descriptor: Rc<OwnedFd>,
    },
    /// [`Daemon::interest`] in it may be another now. It never is without this being told.
    Interest {
        /// In which.
        source: Source,
    },
    /// Forget it. The daemon has dropped the descriptor.
    Gone {
        /// Which.
        source: Source,
    },
}

/// A listener that is open.
#[derive(Debug)]
pub(super) enum Listening {
    Socket {
        descriptor: Rc<OwnedFd>,
        role: Role,
        /// There are no descriptors left: not to be looked at before.
        paused_until: Option<Instant>,
    },
    /// A FIFO is one connection.
    Fifo(ConnectionId),
}

/// Work under way.
#[derive(Debug)]
pub(super) enum Working {
    Reload(Work<Result<Loaded, SettingsError>>),
    Resolve { connection: ConnectionId, dial: Dial, address: Work<io::Result<SocketAddr>> },
}

impl Working {
    fn descriptor(&self) -> &Rc<OwnedFd> {
        match self {
            Self::Reload(work) => work.descriptor(),
            Self::Resolve { address, .. } => address.descriptor(),
        }
    }
}

/// Connections that are tried again later.
#[derive(Debug, Default)]
pub(super) struct Redials {
    dials: BTreeMap<ConnectionId, (Instant, Dial)>,
    by_time: BTreeSet<(Instant, ConnectionId)>,
}

impl Redials {
    fn insert(&mut self, connection: ConnectionId, at: Instant, dial: Dial) {
        self.by_time.insert((at, connection));
        self.dials.insert(connection, (at, dial));
    }

    fn remove(&mut self, connection: ConnectionId) {
        if let Some((at, _)) = self.dials.remove(&connection) {
            self.by_time.remove(&(at, connection));
        }
    }

    fn next(&self) -> Option<Instant> {
        self.by_time.first().map(|(at, _)| *at)
    }

    /// Takes one out that is due.
    fn pop(&mut self, now: Instant) -> Option<(ConnectionId, Dial)> {
        let (at, connection) = *self.by_time.first()?;
        if at > now {
            return None;
        }
        self.by_time.pop_first();
        self.dials.remove(&connection).map(|(_, dial)| (connection, dial))
    }
}

impl Daemon {
    /// The next thing for the runtime to do. To be asked until `None` at the start and after every other call.
    pub fn next_notice(&mut self) -> Option<Notice> {
        self.notices.pop_front()
    }

    /// What to wait for on a descriptor; nothing, if it has gone.
    pub fn interest(&self, source: Source) -> Interest {
        let read = match source {
            Source::Connection(connection) => return self.switchboard.interest(connection),
            Source::Signals | Source::Work(_) => true,
            Source::Folders => self.end.is_none(),
            Source::Listener(key) => {
                matches!(self.listening.get(&key), Some(Listening::Socket { paused_until: None, .. }))
            }
        };
        Interest { read, write: false }
    }

    /// The descriptor behind a name, while it is there.
    pub fn descriptor(&self, source: Source) -> Option<&Rc<OwnedFd>> {
        match source {
            Source::Signals => Some(self.signals.descriptor()),
            Source::Folders => self.listeners.wake_descriptor(),
            Source::Work(number) => self.works.get(&number).map(Working::descriptor),
            Source::Listener(key) => match self.listening.get(&key) {
                Some(Listening::Socket { descriptor, .. }) => Some(descriptor),
                Some(Listening::Fifo(_)) | None => None,
            },
            Source::Connection(connection) => self.switchboard.descriptor(connection),
        }
    }

    /// When to call [`Daemon::tick`].
    pub fn next_timeout(&self) -> Option<Instant> {
        let inspection = self.end.is_none().then_some(self.next_inspection);
        let paused = self.listening.values().filter_map(|listening| match listening {
            Listening::Socket { paused_until, .. } => *paused_until,
            Listening::Fifo(_) => None,
        });
        let others = [self.switchboard.next_timeout(), inspection, self.redials.next(), self.give_back, self.end];
        paused.chain(others.into_iter().flatten()).min()
    }

    /// A descriptor is readable, or has ended or failed: takes one turn of what is there. If there is more, the descriptor
    /// is readable still; others first.
    pub fn readable(&mut self, source: Source) {
        match source {
            Source::Connection(connection) => {
                self.switchboard.readable(connection);
            }
            Source::Listener(key) => self.accept(key),
            Source::Signals => self.obey(),
            Source::Folders => self.inspect(),
            Source::Work(number) => self.worked(number),
        }
        self.settle();
    }

    /// A descriptor is writable, or has failed.
    pub fn writable(&mut self, source: Source) {
        if let Source::Connection(connection) = source {
            self.switchboard.writable(connection);
            self.settle();
        }
    }

    /// Whether there is something to say to other directors: then [`Daemon::tell_ring`] must be called before waiting.
    pub fn has_news_for_ring(&self) -> bool {
        self.switchboard.has_news_for_ring()
    }

    /// All that was ready has had its turn: tells other directors what came of it, in one piece.
    pub fn tell_ring(&mut self) {
        if self.has_news_for_ring() {
            self.switchboard.tell_ring();
            self.settle();
        }
    }

    /// A timeout has come (or not: harmless).
    pub fn tick(&mut self) {
        let now = Instant::now();
        if self.give_back.take_if(|due| *due <= now).is_some() {
            memory::give_back_files();
        }
        if self.switchboard.next_timeout().is_some_and(|due| due <= now) {
            self.switchboard.tick();
        }
        if self.end.is_none() && now >= self.next_inspection {
            self.inspect();
        }
        while let Some((connection, dial)) = self.redials.pop(now) {
            self.dial(connection, dial, now);
        }
        for (key, listening) in &mut self.listening {
            if let Listening::Socket { paused_until, .. } = listening
                && paused_until.is_some_and(|until| until <= now)
            {
                *paused_until = None;
                self.notices.push_back(Notice::Interest { source: Source::Listener(*key) });
            }
        }
        self.settle();
    }

    /// The runtime cannot wait for a descriptor.
    pub fn broken(&mut self, source: Source, error: &io::Error) {
        match source {
            Source::Connection(connection) => self.switchboard.broken(connection, error),
            Source::Listener(key) => self.lose(key, error),
            Source::Signals | Source::Folders | Source::Work(_) => {
                self.failure = Some(Failure::new(Exit::System, format!("cannot wait for {source:?}: {error}")));
            }
        }
        self.settle();
    }

    /// Whether the daemon has ended, and how.
    pub fn ended(&mut self) -> Option<Result<(), Failure>> {
        if let Some(failure) = self.failure.take() {
            return Some(Err(failure));
        }
        let over = |end: Instant| self.switchboard.is_finished() || end <= Instant::now();
        self.end.is_some_and(over).then_some(Ok(()))
    }

    /// Removes the files of sockets. To drop the daemon does it as well.
    pub fn remove_files(&mut self) {
        self.listeners.remove_files();
    }

    /// Watches what is there from the start.
    pub(super) fn watch_fixed(&mut self, changes: Vec<Change>) {
        for source in [Source::Signals, Source::Folders] {
            if let Some(descriptor) = self.descriptor(source).cloned() {
                self.notices.push_back(Notice::Watch { source, descriptor });
            }
        }
        self.apply(changes);
        self.settle();
    }

    /// Something has been done that is done seldom.
    pub(super) fn give_back_soon(&mut self) {
        self.give_back = Some(Instant::now() + GIVE_BACK_PAUSE);
    }

    /// Carries out what signals ask for.
    fn obey(&mut self) {
        while let Some(request) = self.signals.next() {
            match request {
                Request::Shutdown if self.end.is_some() => {
                    log::warn!("asked again: ending at once");
                    self.end = Some(Instant::now());
                }
                Request::Shutdown => self.shut_down(),
                Request::Reload if self.end.is_some() => {}
                // One that comes while another is at work is answered by that one's result.
                Request::Reload if self.works.values().any(|work| matches!(work, Working::Reload(_))) => {}
                Request::Reload => {
                    let work = self.begin_reload();
                    match Work::start("reload", work) {
                        Ok(work) => self.work(Working::Reload(work)),
                        Err(error) => log::error!("cannot read the settings again: {error}"),
                    }
                }
            }
        }
    }

    /// Tells everybody, and waits until all is said.
    ///
    /// The files of the sockets stay until the listeners are dropped, at the very end: a login process that is refused
    /// tries again for a second, but one that finds no file leaves its client waiting for ten.
    fn shut_down(&mut self) {
        self.end = Some(Instant::now() + SHUTDOWN_PATIENCE);
        // The core ends FIFOs, as it does other connections.
        let notices = &mut self.notices;
        self.listening.retain(|key, listening| {
            let fifo = matches!(listening, Listening::Fifo(_));
            if !fifo {
                notices.push_back(Notice::Gone { source: Source::Listener(*key) });
            }
            fifo
        });
        self.notices.push_back(Notice::Interest { source: Source::Folders });
        process::tell_supervisor(&[NotifyState::Stopping]);
        self.switchboard.shutdown();
    }

    /// Looks after the files of sockets, ours and those we need.
    fn inspect(&mut self) {
        let now = Instant::now();
        self.dialer.inspect(now);
        let changes = self.listeners.inspect(now);
        self.apply(changes);
        self.next_inspection = now + self.listeners.inspection_interval();
    }

    fn apply(&mut self, changes: Vec<Change>) {
        if !changes.is_empty() {
            self.give_back_soon();
        }
        for change in changes {
            match change {
                Change::Open { key, role, descriptor, fifo: true } => {
                    let connection = self.switchboard.accepted(descriptor, role, None);
                    self.listening.insert(key, Listening::Fifo(connection));
                }
                Change::Open { key, role, descriptor, fifo: false } => {
                    let descriptor = Rc::new(descriptor);
                    let socket = Listening::Socket { descriptor: Rc::clone(&descriptor), role, paused_until: None };
                    self.listening.insert(key, socket);
                    self.notices.push_back(Notice::Watch { source: Source::Listener(key), descriptor });
                }
                Change::Close { key } => match self.listening.remove(&key) {
                    Some(Listening::Fifo(connection)) => self.switchboard.hang_up(connection),
                    Some(Listening::Socket { .. }) => {
                        self.notices.push_back(Notice::Gone { source: Source::Listener(key) });
                    }
                    None => {}
                },
            }
        }
    }

    fn accept(&mut self, key: ListenerKey) {
        let Some(Listening::Socket { descriptor, role, paused_until }) = self.listening.get_mut(&key) else { return };
        match self.switchboard.accept(&*descriptor, *role) {
            Ok(Accepted::All | Accepted::More) => {}
            Ok(Accepted::Pause) => {
                *paused_until = Some(Instant::now() + ACCEPT_PAUSE);
                self.notices.push_back(Notice::Interest { source: Source::Listener(key) });
            }
            Err(error) => self.lose(key, &error),
        }
    }

    fn lose(&mut self, key: ListenerKey, error: &io::Error) {
        log::error!("a listener broke: {error}; making it again");
        self.listening.remove(&key);
        self.notices.push_back(Notice::Gone { source: Source::Listener(key) });
        self.listeners.lost(key);
    }

    fn dial(&mut self, connection: ConnectionId, mut dial: Dial, now: Instant) {
        match self.dialer.attempt(&mut dial, now) {
            Attempt::Connected(descriptor) => self.switchboard.connected(connection, descriptor),
            Attempt::UnderWay(descriptor) => self.switchboard.connecting(connection, descriptor),
            Attempt::Failed(error) => self.switchboard.connect_failed(connection, &error),
            // Not in the same moment, or there would be no end to it.
            Attempt::Again(pause) => self.redials.insert(connection, now + pause.max(Duration::from_millis(1)), dial),
            Attempt::Resolve(host, port) => match Work::start("resolver", move || resolve(&host, port)) {
                Ok(address) => self.work(Working::Resolve { connection, dial, address }),
                Err(error) => self.switchboard.connect_failed(connection, &error),
            },
        }
    }

    fn work(&mut self, working: Working) {
        self.last_work = self.last_work.wrapping_add(1);
        let descriptor = Rc::clone(working.descriptor());
        self.works.insert(self.last_work, working);
        self.give_back_soon();
        self.notices.push_back(Notice::Watch { source: Source::Work(self.last_work), descriptor });
    }

    fn worked(&mut self, number: u32) {
        let Some(working) = self.works.remove(&number) else { return };
        self.notices.push_back(Notice::Gone { source: Source::Work(number) });
        match working {
            Working::Reload(work) => {
                if let Some(loaded) = work.finish()
                    && self.end.is_none()
                {
                    let changes = self.reload(loaded);
                    self.apply(changes);
                }
            }
            Working::Resolve { connection, mut dial, address } => {
                // The core may have given up meanwhile.
                if self.switchboard.is_dialed(connection) {
                    dial.resolved(address.finish().unwrap_or_else(|| Err(io::ErrorKind::Other.into())));
                    self.dial(connection, dial, Instant::now());
                }
            }
        }
    }

    /// Does what the switchboard wants, and passes on what it wants of the runtime.
    fn settle(&mut self) {
        while let Some(notice) = self.switchboard.next_notice() {
            match notice {
                switchboard::Notice::Dial { connection, target } => {
                    let now = Instant::now();
                    self.dial(connection, Dial::new(target, now), now);
                }
                switchboard::Notice::Watch { connection, descriptor } => {
                    self.notices.push_back(Notice::Watch { source: Source::Connection(connection), descriptor });
                }
                switchboard::Notice::Interest { connection } => {
                    self.notices.push_back(Notice::Interest { source: Source::Connection(connection) });
                }
                switchboard::Notice::Gone { connection } => {
                    self.redials.remove(connection);
                    self.notices.push_back(Notice::Gone { source: Source::Connection(connection) });
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_come_back_from_their_numbers() {
        let connection = |bits| Source::Connection(ConnectionId::from_bits(bits));
        for source in [
            Source::Signals,
            Source::Folders,
            Source::Work(0),
            Source::Work(u32::MAX),
            Source::Listener(ListenerKey(9)),
            connection(0),
            connection(0xffff_ffff_0000_0000),
            connection(0x0000_0007_0001_0002),
        ] {
            assert_eq!(Source::from_bits(source.to_bits()), source);
        }
    }
}
