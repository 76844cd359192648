//! The director on `poll(2)`: one thread, no async package.
//!
//! It does what the production daemon does, through the same library. `poll` looks at every descriptor each time, which
//! is cheap for some hundred connections; a big site wants the other one.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::ExitCode;
use std::rc::Rc;
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use clap::Parser;
use director_core::settings::SettingsError;
use director_core::{ConnectionId, Role};
use director_std::command_line::{self, Options};
use director_std::configuration::Loaded;
use director_std::daemon::{self, Daemon};
use director_std::dialer::{self, Attempt, Dial};
use director_std::exit::{self, Exit, Failure};
use director_std::listeners::{Change, ListenerKey};
use director_std::signals::{Request, Signals};
use director_std::switchboard::{ACCEPT_PAUSE, Accepted, Interest, Notice, SHUTDOWN_PATIENCE};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// A mail director for Dovecot proxies: keeps each user on one backend.
#[derive(Parser)]
#[command(name = "director-std", version, after_help = exit::HELP)]
struct CommandLine {
    #[command(flatten)]
    options: Options,
}

fn main() -> ExitCode {
    match command_line::parse::<CommandLine>() {
        Ok(line) => daemon::run(&line.options, |daemon, changes| Runtime::new(daemon)?.run(changes)),
        Err(code) => code,
    }
}

/// The daemon and all that it waits for.
struct Runtime {
    daemon: Daemon,
    signals: Signals,
    listeners: BTreeMap<ListenerKey, Listener>,
    connections: BTreeMap<ConnectionId, Rc<OwnedFd>>,
    dials: BTreeMap<ConnectionId, Dialing>,
    next_inspection: Instant,
    reload: Option<Reload>,
    /// When to end, whatever is unsaid.
    end: Option<Instant>,
}

enum Listener {
    Socket {
        descriptor: OwnedFd,
        role: Role,
        /// Not to be looked at before.
        paused_until: Option<Instant>,
    },
    /// A FIFO is one connection.
    Fifo(ConnectionId),
}

struct Dialing {
    dial: Dial,
    state: DialState,
}

enum DialState {
    At(Instant),
    UnderWay(OwnedFd),
}

/// The settings are being read in another thread, which closes its end of the pair when it is done.
struct Reload {
    done: UnixStream,
    result: Receiver<Result<Loaded, SettingsError>>,
}

/// What a polled descriptor belongs to.
#[derive(Clone, Copy)]
enum Token {
    Signals,
    Reload,
    Folders,
    Listener(ListenerKey),
    Connection(ConnectionId),
    Dial(ConnectionId),
}

impl Runtime {
    fn new(daemon: Daemon) -> Result<Self, Failure> {
        let signals =
            Signals::new().map_err(|error| Failure::new(Exit::System, format!("cannot listen to signals: {error}")))?;
        Ok(Self {
            daemon,
            signals,
            listeners: BTreeMap::new(),
            connections: BTreeMap::new(),
            dials: BTreeMap::new(),
            next_inspection: Instant::now(),
            reload: None,
            end: None,
        })
    }

    fn run(mut self, changes: Vec<Change>) -> Result<(), Failure> {
        self.apply(changes);
        loop {
            self.carry_out_notices();
            if self.end.is_some_and(|end| self.daemon.switchboard.is_finished() || Instant::now() >= end) {
                log::info!("ended");
                return Ok(());
            }
            for (token, flags) in self.wait()? {
                self.ready(token, flags);
                self.carry_out_notices();
            }
            self.timeouts();
        }
    }

    /// Waits until something is ready or due.
    fn wait(&self) -> Result<Vec<(Token, PollFlags)>, Failure> {
        let now = Instant::now();
        let mut due = vec![self.next_inspection];
        due.extend(self.daemon.switchboard.next_timeout());
        due.extend(self.end);
        let mut tokens = vec![Token::Signals];
        let mut fds = vec![PollFd::new(&self.signals, PollFlags::IN)];
        if let Some(reload) = &self.reload {
            tokens.push(Token::Reload);
            fds.push(PollFd::new(&reload.done, PollFlags::IN));
        }
        let folders = self.daemon.listeners.wake_descriptor();
        if let Some(descriptor) = &folders {
            tokens.push(Token::Folders);
            fds.push(PollFd::new(&**descriptor, PollFlags::IN));
        }
        for (&key, listener) in &self.listeners {
            match listener {
                Listener::Socket { paused_until: Some(until), .. } if *until > now => due.push(*until),
                Listener::Socket { descriptor, .. } => {
                    tokens.push(Token::Listener(key));
                    fds.push(PollFd::new(descriptor, PollFlags::IN));
                }
                Listener::Fifo(_) => {}
            }
        }
        for (&connection, descriptor) in &self.connections {
            let Interest { read, write } = self.daemon.switchboard.interest(connection);
            let mut flags = PollFlags::empty();
            flags.set(PollFlags::IN, read);
            flags.set(PollFlags::OUT, write);
            // Even without flags, poll would tell of a peer that has gone, again and again.
            if !flags.is_empty() {
                tokens.push(Token::Connection(connection));
                fds.push(PollFd::new(&**descriptor, flags));
            }
        }
        for (&connection, dialing) in &self.dials {
            match &dialing.state {
                DialState::At(time) => due.push(*time),
                DialState::UnderWay(descriptor) => {
                    tokens.push(Token::Dial(connection));
                    fds.push(PollFd::new(descriptor, PollFlags::OUT));
                }
            }
        }
        let due = due.into_iter().min().unwrap_or(now);
        let timeout = Timespec::try_from(due.saturating_duration_since(now)).ok();
        match poll(&mut fds, timeout.as_ref()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(Failure::new(Exit::System, format!("poll: {error}"))),
        }
        let ready = tokens.into_iter().zip(fds.iter().map(PollFd::revents));
        Ok(ready.filter(|(_, flags)| !flags.is_empty()).collect())
    }

    fn ready(&mut self, token: Token, flags: PollFlags) {
        match token {
            Token::Signals => self.signaled(),
            Token::Reload => self.reloaded(),
            Token::Folders => self.next_inspection = Instant::now(),
            Token::Listener(key) => self.accept(key),
            Token::Connection(connection) => {
                // Errors and hang-ups show in whichever is tried.
                let trouble = PollFlags::ERR | PollFlags::HUP | PollFlags::NVAL;
                let interest = self.daemon.switchboard.interest(connection);
                if interest.write && flags.intersects(PollFlags::OUT | trouble) {
                    self.daemon.switchboard.writable(connection);
                }
                if interest.read && flags.intersects(PollFlags::IN | trouble) {
                    self.daemon.switchboard.readable(connection);
                }
            }
            Token::Dial(connection) => {
                let Some(Dialing { state: DialState::UnderWay(descriptor), .. }) = self.dials.remove(&connection)
                else {
                    return;
                };
                match dialer::finish(&descriptor) {
                    Ok(()) => self.daemon.switchboard.connected(connection, descriptor),
                    Err(error) => self.daemon.switchboard.connect_failed(connection, &error),
                }
            }
        }
    }

    fn signaled(&mut self) {
        while let Some(request) = self.signals.next() {
            match request {
                Request::Shutdown if self.end.is_some() => {
                    log::warn!("asked again: ending at once");
                    self.end = Some(Instant::now());
                }
                Request::Shutdown => {
                    self.end = Some(Instant::now() + SHUTDOWN_PATIENCE);
                    self.listeners.retain(|_, listener| matches!(listener, Listener::Fifo(_)));
                    self.daemon.shutdown();
                }
                // One that comes while another is at work is answered by that one's result.
                Request::Reload if self.end.is_some() || self.reload.is_some() => {}
                Request::Reload => self.begin_reload(),
            }
        }
    }

    fn begin_reload(&mut self) {
        let work = self.daemon.begin_reload();
        let (sender, result) = channel();
        let started = UnixStream::pair().and_then(|(done, mut other)| {
            thread::Builder::new().name("reload".into()).spawn(move || {
                // Nobody waits for it if the daemon has ended meanwhile.
                let _ = sender.send(work());
                let _ = other.write_all(&[0]);
            })?;
            Ok(done)
        });
        match started {
            Ok(done) => self.reload = Some(Reload { done, result }),
            Err(error) => log::error!("cannot read the settings again: {error}"),
        }
    }

    fn reloaded(&mut self) {
        let Some(mut reload) = self.reload.take() else { return };
        let _ = reload.done.read(&mut [0]);
        // Nothing was sent: the thread has had a panic, which is in the log.
        if let Ok(loaded) = reload.result.recv() {
            let changes = self.daemon.reload(loaded);
            self.apply(changes);
        }
    }

    fn accept(&mut self, key: ListenerKey) {
        let Some(Listener::Socket { descriptor, role, paused_until }) = self.listeners.get_mut(&key) else { return };
        match self.daemon.switchboard.accept(descriptor, *role) {
            Ok(Accepted::All | Accepted::More) => *paused_until = None,
            Ok(Accepted::Pause) => *paused_until = Some(Instant::now() + ACCEPT_PAUSE),
            Err(error) => {
                log::error!("a listener broke: {error}; making it again");
                self.listeners.remove(&key);
                self.daemon.listeners.lost(key);
            }
        }
    }

    /// Does what is due.
    fn timeouts(&mut self) {
        let now = Instant::now();
        if self.daemon.switchboard.next_timeout().is_some_and(|due| due <= now) {
            self.daemon.switchboard.tick();
        }
        if now >= self.next_inspection && self.end.is_none() {
            let changes = self.daemon.inspect();
            self.apply(changes);
            self.next_inspection = now + self.daemon.listeners.inspection_interval();
        }
        let due = self.dials.iter().filter(|(_, dialing)| matches!(dialing.state, DialState::At(at) if at <= now));
        let due: Vec<_> = due.map(|(&connection, _)| connection).collect();
        for connection in due {
            if let Some(Dialing { dial, .. }) = self.dials.remove(&connection) {
                self.dial(connection, dial);
            }
        }
    }

    fn dial(&mut self, connection: ConnectionId, mut dial: Dial) {
        let now = Instant::now();
        let state = match self.daemon.dialer.attempt(&mut dial, now) {
            Attempt::Connected(descriptor) => return self.daemon.switchboard.connected(connection, descriptor),
            Attempt::Failed(error) => return self.daemon.switchboard.connect_failed(connection, &error),
            Attempt::UnderWay(descriptor) => DialState::UnderWay(descriptor),
            Attempt::Again(pause) => DialState::At(now + pause.max(Duration::from_millis(1))),
        };
        self.dials.insert(connection, Dialing { dial, state });
    }

    fn carry_out_notices(&mut self) {
        while let Some(notice) = self.daemon.switchboard.next_notice() {
            match notice {
                Notice::Dial { connection, target } => self.dial(connection, Dial::new(target, Instant::now())),
                Notice::Watch { connection, descriptor } => {
                    self.connections.insert(connection, descriptor);
                }
                // It is asked before each wait.
                Notice::Interest { .. } => {}
                Notice::Gone { connection } => {
                    self.connections.remove(&connection);
                    self.dials.remove(&connection);
                }
            }
        }
    }

    fn apply(&mut self, changes: Vec<Change>) {
        for change in changes {
            match change {
                Change::Open { key, role, descriptor, fifo: true } => {
                    let connection = self.daemon.switchboard.accepted(descriptor, role, None);
                    self.listeners.insert(key, Listener::Fifo(connection));
                }
                Change::Open { key, role, descriptor, fifo: false } => {
                    self.listeners.insert(key, Listener::Socket { descriptor, role, paused_until: None });
                }
                Change::Close { key } => {
                    if let Some(Listener::Fifo(connection)) = self.listeners.remove(&key) {
                        self.daemon.switchboard.hang_up(connection);
                    }
                }
            }
        }
    }
}
