//! How a daemon starts, reloads, and stops; `sources.rs` is what it does in between.

mod sources;

use std::backtrace::{Backtrace, BacktraceStatus};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::process::ExitCode;
use std::rc::Rc;
use std::time::{Duration, Instant};

use director_core::ConnectionId;
use director_core::settings::{Settings, SettingsError};
use sd_notify::NotifyState;

use crate::command_line::Options;
use crate::configuration::{self, Loaded, RESOLVE_PATIENCE};
use crate::dialer::Dialer;
use crate::exit::{Exit, Failure};
use crate::listeners::{Change, ListenerKey, Listeners};
use crate::logging::Log;
use crate::opener::{self, Opener};
use crate::privileges;
use crate::process;
use crate::signals::Signals;
pub use crate::switchboard::Interest;
use crate::switchboard::Switchboard;
use crate::work::Work;
use sources::{Listening, Redials, Working};
pub use sources::{Notice, Source};

/// A director that has started: everything but the waiting.
#[derive(Debug)]
pub struct Daemon {
    switchboard: Switchboard,
    signals: Signals,
    listeners: Listeners,
    listening: BTreeMap<ListenerKey, Listening>,
    dialer: Dialer,
    redials: Redials,
    works: BTreeMap<u32, Working>,
    last_work: u32,
    next_inspection: Instant,
    /// When to give back memory: something has been done that is done seldom (the start, sockets that were opened, a reload),
    /// whose code and constants are in memory.
    give_back: Option<Instant>,
    notices: VecDeque<Notice>,
    /// When to end, whatever is unsaid: SIGTERM has come.
    end: Option<Instant>,
    /// Why it cannot go on.
    failure: Option<Failure>,
    file: PathBuf,
    settings: Settings,
    opener: Opener,
    log: Log,
}

/// Runs a daemon: `--check`, or the preparations and then `serve`, which is to go on until [`Daemon::ended`]. What goes
/// wrong is logged, bugs too, and becomes the exit code.
pub fn run(options: &Options, serve: impl FnOnce(Daemon) -> Result<(), Failure>) -> ExitCode {
    if options.check {
        return check(options);
    }
    if options.opener {
        // It was started with a name.
        return options.config.as_deref().map_or(Exit::Usage.into(), opener::serve);
    }
    let log = Log::install(options.debug);
    log_panics();
    // On a panic the listeners are dropped, and with them their files.
    let result = catch_unwind(AssertUnwindSafe(|| {
        let daemon = Daemon::start(options, log)?;
        // All sockets that can be there are open: who connects from here on is served.
        process::tell_supervisor(&[NotifyState::Ready]);
        serve(daemon)
    }));
    match result {
        Ok(Ok(())) => {
            log::info!("ended");
            Exit::Success.into()
        }
        Ok(Err(failure)) => {
            log::error!("{failure}");
            failure.exit.into()
        }
        // The hook has logged it.
        Err(_) => Exit::Software.into(),
    }
}

/// Sees to it that a bug is in the log, with its place.
fn log_panics() {
    std::panic::set_hook(Box::new(|panic| {
        log::error!("this is a bug in the director, which ends now: {panic}");
        let backtrace = Backtrace::capture();
        if backtrace.status() == BacktraceStatus::Captured {
            for line in backtrace.to_string().lines() {
                log::error!("{line}");
            }
        }
    }));
}

fn check(options: &Options) -> ExitCode {
    let file = match configuration::find(options.config.as_deref()) {
        Ok(file) => file,
        Err(failure) => {
            eprintln!("director: {failure}");
            return failure.exit.into();
        }
    };
    let checked = configuration::check(&file);
    print!("{}", checked.text);
    for warning in checked.warnings {
        eprintln!("director: warning: {warning}");
    }
    match checked.error {
        None => {
            println!("{}: good", file.display());
            Exit::Success.into()
        }
        Some(error) => {
            eprintln!("director: {error}");
            Exit::Configuration.into()
        }
    }
}

impl Daemon {
    fn start(options: &Options, log: Log) -> Result<Self, Failure> {
        let file = configuration::find(options.config.as_deref())?;
        let Loaded { settings, configuration, .. } = configuration::load(&file, RESOLVE_PATIENCE, &Opener::default())?;
        log.point(&settings, &Opener::default())?;
        log::info!("director {} starts with {}", env!("CARGO_PKG_VERSION"), file.display());
        match configuration.members.len() {
            0 => log::info!("standalone, with {} backends", configuration.hosts.len()),
            members => log::info!(
                "{} in a ring of {members}, with {} backends",
                configuration.self_address,
                configuration.hosts.len()
            ),
        }
        warn(&settings);
        process::raise_open_files_limit();
        let opener = privileges::give_up(&settings, &file)?;
        let started = Listeners::open(&settings, opener.clone()).inspect_err(|failure| {
            // Who starts a second instance by hand looks at the terminal, not at a log file.
            if settings.log_path.is_some() {
                eprintln!("director: {failure}");
            }
        });
        let (listeners, changes) = started?;
        let signals =
            Signals::new().map_err(|error| Failure::new(Exit::System, format!("cannot listen to signals: {error}")))?;
        let mut this = Self {
            switchboard: Switchboard::new(configuration, process::random_seed()),
            signals,
            dialer: Dialer::new(&settings.base_dir, |role| listeners.has(role)),
            listeners,
            listening: BTreeMap::new(),
            redials: Redials::default(),
            works: BTreeMap::new(),
            last_work: 0,
            next_inspection: Instant::now(),
            give_back: None,
            notices: VecDeque::new(),
            end: None,
            failure: None,
            file,
            settings,
            opener,
            log,
        };
        this.watch_fixed(changes);
        this.give_back_soon();
        Ok(this)
    }

    /// SIGHUP, first half: opens the log again, and gives the work to do in another thread, since names may take their
    /// time to resolve. Its result is for [`Daemon::reload`].
    fn begin_reload(&self) -> impl FnOnce() -> Result<Loaded, SettingsError> + Send + 'static {
        if let Err(failure) = self.log.point(&self.settings, &self.opener) {
            log::error!("{failure}; logging goes on where it was");
        }
        process::tell_supervisor(&[NotifyState::Reloading]);
        log::info!("reading {} again", self.file.display());
        let (file, opener) = (self.file.clone(), self.opener.clone());
        // Without patience: the old settings are good, and the operator is waiting.
        move || configuration::load(&file, Duration::ZERO, &opener)
    }

    /// SIGHUP, second half: takes over the settings that were read. With an error in them, the old ones stay.
    fn reload(&mut self, loaded: Result<Loaded, SettingsError>) -> Vec<Change> {
        process::tell_supervisor(&[NotifyState::Ready]);
        let Loaded { settings, configuration, .. } = match loaded {
            Ok(loaded) => loaded,
            Err(error) => {
                log::error!("{error}; the settings stay as they were");
                return Vec::new();
            }
        };
        if let Err(failure) = self.log.point(&settings, &self.opener) {
            log::error!("{failure}; logging goes on where it was");
        }
        warn(&settings);
        if settings.run_as != self.settings.run_as {
            log::warn!("another user, group or extra_groups of service director needs a restart");
        }
        let changes = self.listeners.reload(&settings);
        self.dialer.watch(|role| self.listeners.has(role));
        self.switchboard.reload(configuration);
        self.settings = settings;
        changes
    }
}

fn warn(settings: &Settings) {
    for warning in &settings.warnings {
        log::warn!("{warning}");
    }
}
