//! How a daemon starts, reloads, and stops: all but the waiting.

use std::backtrace::{Backtrace, BacktraceStatus};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use director_core::settings::{Settings, SettingsError};

use crate::command_line::Options;
use crate::configuration::{self, Loaded, RESOLVE_PATIENCE};
use crate::dialer::Dialer;
use crate::exit::{Exit, Failure};
use crate::listeners::{Change, Listeners};
use crate::logging::Log;
use crate::process;
use crate::switchboard::Switchboard;

/// A director that has started, with everything that a runtime waits for.
#[derive(Debug)]
pub struct Daemon {
    /// The core and its connections.
    pub switchboard: Switchboard,
    /// The listening sockets and their files.
    pub listeners: Listeners,
    /// For [`Notice::Dial`](crate::switchboard::Notice::Dial).
    pub dialer: Dialer,
    file: PathBuf,
    settings: Settings,
    log: Log,
}

/// Runs a daemon: `--check`, or the preparations and then `serve`, which is to go on until the daemon is to end. What
/// goes wrong is logged, bugs too, and becomes the exit code.
pub fn run(options: &Options, serve: impl FnOnce(Daemon, Vec<Change>) -> Result<(), Failure>) -> ExitCode {
    if options.check {
        return check(options);
    }
    let log = Log::install(options.debug);
    log_panics();
    // On a panic the listeners are dropped, and with them their files.
    let result = catch_unwind(AssertUnwindSafe(|| {
        let (daemon, changes) = Daemon::start(options, log)?;
        serve(daemon, changes)
    }));
    match result {
        Ok(Ok(())) => Exit::Success.into(),
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
    fn start(options: &Options, log: Log) -> Result<(Self, Vec<Change>), Failure> {
        let file = configuration::find(options.config.as_deref())?;
        let Loaded { settings, configuration, .. } = configuration::load(&file, RESOLVE_PATIENCE)?;
        log.point(&settings)?;
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
        let started = Listeners::open(&settings).inspect_err(|failure| {
            // Who starts a second instance by hand looks at the terminal, not at a log file.
            if settings.log_path.is_some() {
                eprintln!("director: {failure}");
            }
        });
        let (listeners, changes) = started?;
        let mut dialer = Dialer::new(&settings.base_dir, |role| listeners.has(role));
        dialer.inspect(Instant::now());
        let switchboard = Switchboard::new(configuration, process::random_seed());
        Ok((Self { switchboard, listeners, dialer, file, settings, log }, changes))
    }

    /// Looks after the files of sockets, ours and those we need. To be called after each
    /// [`Listeners::inspection_interval`].
    pub fn inspect(&mut self) -> Vec<Change> {
        let now = Instant::now();
        self.dialer.inspect(now);
        self.listeners.inspect(now)
    }

    /// SIGHUP, first half: opens the log again, and gives the work to do in another thread, since names may take their
    /// time to resolve. Its result is for [`Daemon::reload`].
    pub fn begin_reload(&self) -> impl FnOnce() -> Result<Loaded, SettingsError> + Send + 'static {
        if let Err(failure) = self.log.point(&self.settings) {
            log::error!("{failure}; logging goes on where it was");
        }
        log::info!("reading {} again", self.file.display());
        let file = self.file.clone();
        // Without patience: the old settings are good, and the operator is waiting.
        move || configuration::load(&file, Duration::ZERO)
    }

    /// SIGHUP, second half: takes over the settings that were read. With an error in them, the old ones stay.
    pub fn reload(&mut self, loaded: Result<Loaded, SettingsError>) -> Vec<Change> {
        let Loaded { settings, configuration, .. } = match loaded {
            Ok(loaded) => loaded,
            Err(error) => {
                log::error!("{error}; the settings stay as they were");
                return Vec::new();
            }
        };
        if let Err(failure) = self.log.point(&settings) {
            log::error!("{failure}; logging goes on where it was");
        }
        warn(&settings);
        let changes = self.listeners.reload(&settings);
        self.dialer.watch(|role| self.listeners.has(role));
        self.switchboard.reload(configuration);
        self.settings = settings;
        changes
    }

    /// SIGTERM: everybody is told. Close the listening descriptors before, and then wait for
    /// [`Switchboard::is_finished`], for [`SHUTDOWN_PATIENCE`](crate::switchboard::SHUTDOWN_PATIENCE) at most.
    ///
    /// The files of the sockets stay until the listeners are dropped, at the very end: a login process that is refused
    /// tries again for a second, but one that finds no file leaves its client waiting for ten.
    pub fn shutdown(&mut self) {
        self.switchboard.shutdown();
    }
}

fn warn(settings: &Settings) {
    for warning in &settings.warnings {
        log::warn!("{warning}");
    }
}
