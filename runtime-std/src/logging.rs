//! The log: one line a record, on standard error, in files, or to the system's log.
//!
//! A line reads `2026-01-31T12:00:00.123Z director: Warning: text`. The time is UTC and says so, because the machines of
//! a ring are compared by it. The words of the levels are Dovecot's, so that whatever watches Dovecot's log finds them.

use std::fmt::{self, Write as _};
use std::fs::File;
use std::io::{self, Write};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use director_core::settings::Settings;
use log::{Level, LevelFilter, Metadata, Record};

use crate::exit::Failure;
use crate::opener::Opener;

/// The installed log of this process. It writes to standard error until [`Log::point`] says otherwise.
#[derive(Debug)]
pub struct Log {
    outputs: Arc<Mutex<Outputs>>,
}

/// Where the lines go, by level. Dovecot's settings tell three kinds apart: errors and warnings, info, debug.
#[derive(Debug, Default)]
struct Outputs {
    errors: Arc<Output>,
    infos: Arc<Output>,
    debugs: Arc<Output>,
}

/// One open end of the log.
#[derive(Debug, Default)]
enum Output {
    #[default]
    StandardError,
    File(File),
    Syslog(UnixDatagram),
}

/// The socket that `syslog(3)` writes to.
const SYSLOG_SOCKET: &str = "/dev/log";

/// "mail", the facility that Dovecot uses.
const SYSLOG_FACILITY: u8 = 2 << 3;

impl Log {
    /// Installs the log: info and above, with `debug` everything.
    ///
    /// # Panics
    /// If a log is installed already.
    pub fn install(debug: bool) -> Self {
        let (log, logger) = Self::new(if debug { LevelFilter::Debug } else { LevelFilter::Info });
        log::set_max_level(logger.max_level());
        log::set_boxed_logger(Box::new(logger)).expect("a process has one log");
        log
    }

    fn new(most: LevelFilter) -> (Self, Logger) {
        let outputs = Arc::<Mutex<Outputs>>::default();
        (Self { outputs: Arc::clone(&outputs) }, Logger::new(most, &outputs))
    }

    /// Opens (or opens again) what log_path, info_log_path and debug_log_path name, and writes there from now on.
    ///
    /// # Errors
    /// A file cannot be opened; the log stays where it was.
    pub fn point(&self, settings: &Settings, opener: &Opener) -> Result<(), Failure> {
        let errors = Arc::new(Output::open(settings.log_path.as_deref(), opener)?);
        let other = |path: &Option<PathBuf>, same: &Option<PathBuf>, output: &Arc<Output>| match path {
            Some(_) if path != same => Output::open(path.as_deref(), opener).map(Arc::new),
            _ => Ok(Arc::clone(output)),
        };
        let infos = other(&settings.info_log_path, &settings.log_path, &errors)?;
        let info_path = settings.info_log_path.as_ref().or(settings.log_path.as_ref()).cloned();
        let debugs = other(&settings.debug_log_path, &info_path, &infos)?;
        *lock(&self.outputs) = Outputs { errors, infos, debugs };
        Ok(())
    }
}

/// A panic in another thread while it held the lock leaves nothing half-done that matters to a log.
fn lock(outputs: &Mutex<Outputs>) -> MutexGuard<'_, Outputs> {
    outputs.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Output {
    fn open(path: Option<&Path>, opener: &Opener) -> Result<Self, Failure> {
        let Some(path) = path else { return Ok(Self::StandardError) };
        if path == Path::new("syslog") {
            return Ok(match connect_syslog() {
                Ok(socket) => Self::Syslog(socket),
                Err(error) => {
                    log::warn!("log_path = syslog, but {SYSLOG_SOCKET}: {error}; logging to standard error");
                    Self::StandardError
                }
            });
        }
        opener.open_log(path).map(Self::File)
    }

    /// Writes one whole line.
    fn write_line(&self, level: Level, line: &[u8]) -> io::Result<()> {
        match self {
            Self::StandardError => io::stderr().write_all(line),
            Self::File(file) => (&mut &*file).write_all(line),
            Self::Syslog(socket) => {
                // The system's log has its own time.
                let text = line.splitn(2, |&byte| byte == b' ').last().unwrap_or(line);
                let text = String::from_utf8_lossy(text.trim_ascii_end());
                let text = text.replacen("director:", &format!("director[{}]:", std::process::id()), 1);
                let severity = match level {
                    Level::Error => 3,
                    Level::Warn => 4,
                    Level::Info => 6,
                    Level::Debug | Level::Trace => 7,
                };
                let record = format!("<{}>{text}", SYSLOG_FACILITY | severity);
                // It may have been restarted since.
                let sent = socket.send(record.as_bytes()).or_else(|_| {
                    socket.connect(SYSLOG_SOCKET)?;
                    socket.send(record.as_bytes())
                });
                sent.map(drop).or_else(|_| io::stderr().write_all(line))
            }
        }
    }
}

fn connect_syslog() -> io::Result<UnixDatagram> {
    let socket = UnixDatagram::unbound()?;
    socket.connect(SYSLOG_SOCKET)?;
    // A stuck log must not stop the director.
    socket.set_nonblocking(true)?;
    Ok(socket)
}

/// env_logger formats and filters, but does not tell its target the level; so there is one for each level.
struct Logger {
    levels: [(Level, env_logger::Logger); 5],
}

impl Logger {
    fn new(most: LevelFilter, outputs: &Arc<Mutex<Outputs>>) -> Self {
        let levels = [Level::Error, Level::Warn, Level::Info, Level::Debug, Level::Trace].map(|level| {
            let pipe = LevelPipe { level, outputs: Arc::clone(outputs) };
            let logger = env_logger::Builder::new()
                .filter_level(most)
                .target(env_logger::Target::Pipe(Box::new(pipe)))
                .format(|buffer, record| {
                    let time = buffer.timestamp_millis();
                    writeln!(buffer, "{time} director: {}: {}", word(record.level()), OneLine(record.args()))
                })
                .build();
            (level, logger)
        });
        Self { levels }
    }

    fn max_level(&self) -> LevelFilter {
        self.levels[0].1.filter()
    }

    fn of(&self, level: Level) -> &env_logger::Logger {
        // A level's number starts at 1.
        &self.levels[level as usize - 1].1
    }
}

impl log::Log for Logger {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        // Packages that we use log their own affairs, at debug by the hundred lines; their warnings do matter.
        let ours = metadata.target().starts_with("director");
        (ours || metadata.level() <= Level::Warn) && self.of(metadata.level()).enabled(metadata)
    }

    fn log(&self, record: &Record<'_>) {
        if self.enabled(record.metadata()) {
            self.of(record.level()).log(record);
        }
    }

    fn flush(&self) {}
}

/// The end of one level's env_logger.
struct LevelPipe {
    level: Level,
    outputs: Arc<Mutex<Outputs>>,
}

impl Write for LevelPipe {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let output = {
            let outputs = lock(&self.outputs);
            Arc::clone(match self.level {
                Level::Error | Level::Warn => &outputs.errors,
                Level::Info => &outputs.infos,
                Level::Debug | Level::Trace => &outputs.debugs,
            })
        };
        output.write_line(self.level, line)?;
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn word(level: Level) -> &'static str {
    match level {
        Level::Error => "Error",
        Level::Warn => "Warning",
        Level::Info => "Info",
        Level::Debug => "Debug",
        Level::Trace => "Trace",
    }
}

/// Prints a message so that whatever a peer puts into it cannot look like a line of its own.
struct OneLine<'a>(&'a fmt::Arguments<'a>);

impl fmt::Display for OneLine<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(Escape(formatter), "{}", self.0)
    }
}

struct Escape<'a, 'b>(&'a mut fmt::Formatter<'b>);

impl fmt::Write for Escape<'_, '_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let mut rest = text;
        while let Some(at) = rest.find(char::is_control) {
            let control = rest[at..].chars().next().unwrap_or_default();
            write!(self.0, "{}{}", &rest[..at], control.escape_default())?;
            rest = &rest[at + control.len_utf8()..];
        }
        self.0.write_str(rest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exit::Exit;
    use log::Log as _;
    use std::fs;

    /// Settings of which only the log paths matter.
    fn settings(log: Option<&Path>, info: Option<&Path>, debug: Option<&Path>) -> Settings {
        let mut settings = crate::configuration::tests::settings();
        settings.log_path = log.map(Into::into);
        settings.info_log_path = info.map(Into::into);
        settings.debug_log_path = debug.map(Into::into);
        settings
    }

    fn say(logger: &Logger, level: Level, text: &str) {
        logger.log(&Record::builder().level(level).target("director_core").args(format_args!("{text}")).build());
    }

    fn texts(path: &Path) -> Vec<String> {
        let lines = fs::read_to_string(path).unwrap();
        lines.lines().map(|line| line.split_once(' ').unwrap().1.to_owned()).collect()
    }

    #[test]
    fn levels_go_where_their_setting_says() {
        let folder = tempfile::tempdir().unwrap();
        let [main, info, debug] = ["main", "info", "debug"].map(|name| folder.path().join(name));
        let (log, logger) = Log::new(LevelFilter::Debug);
        log.point(&settings(Some(&main), Some(&info), Some(&debug)), &Opener::default()).unwrap();
        for level in [Level::Error, Level::Warn, Level::Info, Level::Debug, Level::Trace] {
            say(&logger, level, "x");
        }
        assert_eq!(texts(&main), ["director: Error: x", "director: Warning: x"]);
        assert_eq!(texts(&info), ["director: Info: x"]);
        assert_eq!(texts(&debug), ["director: Debug: x"]);
        // debug_log_path follows info_log_path, and that follows log_path.
        log.point(&settings(Some(&main), Some(&info), None), &Opener::default()).unwrap();
        say(&logger, Level::Debug, "y");
        assert_eq!(texts(&info)[1..], ["director: Debug: y"]);
        log.point(&settings(Some(&main), None, None), &Opener::default()).unwrap();
        say(&logger, Level::Debug, "z");
        assert_eq!(texts(&main)[2..], ["director: Debug: z"]);
    }

    #[test]
    fn a_line_has_a_utc_time_in_front() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let (log, logger) = Log::new(LevelFilter::Info);
        log.point(&settings(Some(&path), None, None), &Opener::default()).unwrap();
        say(&logger, Level::Info, "x");
        say(&logger, Level::Debug, "not without -D");
        let text = fs::read_to_string(&path).unwrap();
        let (time, rest) = text.split_once(' ').unwrap();
        assert_eq!(rest, "director: Info: x\n");
        let shape: String = time.chars().map(|c| if c.is_ascii_digit() { '0' } else { c }).collect();
        assert_eq!(shape, "0000-00-00T00:00:00.000Z");
    }

    #[test]
    fn a_rotated_file_is_left_at_the_next_point() {
        let folder = tempfile::tempdir().unwrap();
        let [path, old] = ["log", "log.1"].map(|name| folder.path().join(name));
        let (log, logger) = Log::new(LevelFilter::Info);
        let settings = settings(Some(&path), None, None);
        log.point(&settings, &Opener::default()).unwrap();
        fs::rename(&path, &old).unwrap();
        say(&logger, Level::Info, "before");
        log.point(&settings, &Opener::default()).unwrap();
        say(&logger, Level::Info, "after");
        assert_eq!(texts(&old), ["director: Info: before"]);
        assert_eq!(texts(&path), ["director: Info: after"]);
    }

    #[test]
    fn a_log_that_cannot_be_opened_leaves_the_old_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let (log, logger) = Log::new(LevelFilter::Info);
        log.point(&settings(Some(&path), None, None), &Opener::default()).unwrap();
        let error =
            log.point(&settings(Some(&folder.path().join("no/log")), None, None), &Opener::default()).unwrap_err();
        assert_eq!(error.exit, Exit::CannotCreate);
        assert!(error.message.contains("no/log"), "{error}");
        say(&logger, Level::Info, "still");
        assert_eq!(texts(&path), ["director: Info: still"]);
    }

    #[test]
    fn control_characters_do_not_make_lines() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let (log, logger) = Log::new(LevelFilter::Info);
        log.point(&settings(Some(&path), None, None), &Opener::default()).unwrap();
        say(&logger, Level::Info, "a\tb\nfake director: Error: é\x1b[2J\u{85}");
        let expected = r"director: Info: a\tb\nfake director: Error: é\u{1b}[2J\u{85}";
        assert_eq!(texts(&path), [expected]);
    }

    #[test]
    fn other_packages_are_heard_only_when_it_matters() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let (log, logger) = Log::new(LevelFilter::Debug);
        log.point(&settings(Some(&path), None, None), &Opener::default()).unwrap();
        for level in [Level::Warn, Level::Debug] {
            logger.log(&Record::builder().level(level).target("polling").args(format_args!("x")).build());
        }
        assert_eq!(texts(&path), ["director: Warning: x"]);
    }
}
