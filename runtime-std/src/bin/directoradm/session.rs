//! One run of the tool: options, settings, connections, and what is said to the operator.

use std::cell::OnceCell;
use std::fs;
use std::io::{self, IsTerminal, Write};
use std::net::{IpAddr, ToSocketAddrs};
use std::path::{Path, PathBuf};

use director_core::doveadm::format::{Column, DEFAULT_WIDTH, Format, Printer};
use director_core::doveadm::target::{Host, Target};
use director_core::doveadm::{Exit, Severity, Verdict};
use director_core::hash::UsernameHash;
use director_core::settings::{Files, Settings, Socket};
use director_core::time::{Instant, Now};
use director_core::{Role, wire};
use director_std::configuration::{DEFAULT_FILES, DiskFiles};
use jiff::Timestamp;
use jiff::tz::TimeZone;

use crate::command_line::Options;
use crate::connection::{Connection, reason};

/// Where Dovecot's own director has its socket.
const DEFAULT_SOCKET: &str = "/run/dovecot/director-admin";

pub(crate) struct Session {
    pub(crate) options: Options,
    /// The word `director` was there: what is printed should also begin with `doveadm director`.
    pub(crate) as_doveadm: bool,
    settings: OnceCell<Option<Settings>>,
    zone: TimeZone,
    started: std::time::Instant,
    exit: Exit,
}

impl Session {
    pub(crate) fn new(options: Options, as_doveadm: bool) -> Self {
        Self {
            options,
            as_doveadm,
            settings: OnceCell::new(),
            zone: TimeZone::system(),
            started: std::time::Instant::now(),
            exit: Exit::Success,
        }
    }

    /// The exit code so far.
    pub(crate) fn exit(&self) -> Exit {
        self.exit
    }

    /// Says what came of something, and ends with its code if it is no success.
    pub(crate) fn report(&mut self, verdict: &Verdict) {
        if !verdict.is_success() {
            self.exit = verdict.exit;
        }
        self.say(verdict.severity, &verdict.text);
    }

    /// A line on standard error.
    pub(crate) fn say(&self, severity: Severity, text: &str) {
        if text.is_empty() || severity == Severity::Info && !self.is_verbose() {
            return;
        }
        // Nothing can be done if standard error is gone.
        let _ = writeln!(io::stderr(), "{}: {text}", severity.word());
    }

    pub(crate) fn is_verbose(&self) -> bool {
        self.options.verbose || self.options.debug
    }

    /// The configuration; `None` if none was named and none is there.
    fn settings(&self) -> Result<Option<&Settings>, Verdict> {
        if self.settings.get().is_none() {
            let settings = self.load_settings()?;
            return Ok(self.settings.get_or_init(|| settings).as_ref());
        }
        Ok(self.settings.get().and_then(Option::as_ref))
    }

    fn load_settings(&self) -> Result<Option<Settings>, Verdict> {
        let named = self.options.config.clone();
        // One that is there and can't be read is an error, not a reason to guess.
        let present = |path: &PathBuf| fs::symlink_metadata(path).is_ok();
        let found = named.or_else(|| DEFAULT_FILES.iter().map(PathBuf::from).find(present));
        let overrides = &self.options.overrides;
        let (path, top) = match &found {
            Some(path) => (path.as_path(), Some(path.as_path())),
            None if overrides.is_empty() => return Ok(None),
            None => (Path::new("-o"), None),
        };
        let mut files = WithOverrides { disk: DiskFiles, top, overrides };
        Settings::load(path, &mut files)
            .map(Some)
            .map_err(|error| Verdict::fatal(Exit::Configuration, error.to_string()))
    }

    /// How the ring hashes names.
    pub(crate) fn username_hash(&self) -> Result<UsernameHash, Verdict> {
        Ok(self.settings()?.map(|settings| settings.tuning.username_hash.clone()).unwrap_or_default())
    }

    /// A socket of Dovecot's own in base_dir.
    pub(crate) fn in_base_dir(&self, name: &str) -> Result<Target, Verdict> {
        let base_dir = self.settings()?.map_or(Path::new("/run/dovecot"), |settings| &settings.base_dir);
        Ok(Target::Path(base_dir.join(name)))
    }

    /// Where the director is, and where that was said.
    pub(crate) fn target(&self) -> Result<(Target, String), Verdict> {
        if let Some(target) = &self.options.socket {
            return Ok((target.clone(), "named by -a".to_owned()));
        }
        let Some(settings) = self.settings()? else {
            let origin = format!("the usual place; {} is not there to name another", DEFAULT_FILES.join(" or "));
            return Ok((Target::Path(DEFAULT_SOCKET.into()), origin));
        };
        let admins = || settings.listeners.iter().filter(|listener| listener.role == Role::Admin);
        let file = admins().find_map(|listener| match &listener.socket {
            Socket::File { path, fifo: false, .. } => {
                Some((Target::Path(settings.base_dir.join(path)), listener.place.to_string()))
            }
            _ => None,
        });
        let tcp = || {
            admins().find_map(|listener| match &listener.socket {
                Socket::Inet { addresses, port, .. } => {
                    let ip = addresses.iter().find(|ip| !ip.is_unspecified());
                    let host = ip.map_or_else(|| "localhost".to_owned(), IpAddr::to_string);
                    Some((Target::Tcp { host, port: *port }, listener.place.to_string()))
                }
                _ => None,
            })
        };
        Ok(file
            .or_else(tcp)
            .unwrap_or_else(|| (Target::Path(settings.base_dir.join("director-admin")), "in base_dir".to_owned())))
    }

    /// A connection to the director.
    pub(crate) fn connect(&self) -> Result<Connection, Verdict> {
        let (target, origin) = self.target()?;
        Connection::admin(&target, &origin, self.options.debug)
    }

    /// Unix time in the operator's zone, as `2026-11-22 01:02:33`.
    pub(crate) fn time(&self, unix_secs: u64) -> String {
        let time = i64::try_from(unix_secs).ok().and_then(|secs| Timestamp::from_second(secs).ok());
        match time {
            Some(time) => time.to_zoned(self.zone.clone()).strftime("%Y-%m-%d %H:%M:%S").to_string(),
            // Beyond the year 9999.
            None => unix_secs.to_string(),
        }
    }

    /// Both clocks.
    pub(crate) fn now(&self) -> Now {
        let micros = u64::try_from(self.started.elapsed().as_micros()).unwrap_or(u64::MAX);
        let unix = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        Now { instant: Instant::from_micros(micros), unix_secs: unix.map_or(0, |time| time.as_secs()) }
    }

    /// All addresses of a host, each once.
    pub(crate) fn addresses(&self, host: &str) -> Result<Vec<IpAddr>, Verdict> {
        let name = match host.parse() {
            Ok(Host::Ip(ip)) => return Ok(vec![ip]),
            Ok(Host::Name(name)) => name,
            Err(text) => return Err(Verdict::error(Exit::Usage, text)),
        };
        let found = (&*name, 0).to_socket_addrs().map_err(|error| {
            let text = format!("gethostname({name}) failed: {}", reason(&error));
            Verdict::error(Exit::TemporaryFailure, text)
        })?;
        let mut ips = Vec::new();
        for ip in found.map(|address| address.ip()) {
            if !ips.contains(&ip) {
                ips.push(ip);
            }
        }
        Ok(ips)
    }

    /// Prints rows as they come, in the format that was asked for.
    pub(crate) fn list(&self, columns: &'static [Column]) -> List {
        let format = self.options.format.unwrap_or_default();
        List { printer: Printer::new(format, columns, stdout_width()), text: String::new() }
    }

    /// The format, if one was asked for.
    pub(crate) fn format(&self) -> Option<Format> {
        self.options.format
    }

    /// A command with several lines as its answer: each but the empty one at the end goes to `each`.
    pub(crate) fn ask_list(
        connection: &mut Connection,
        command: &wire::admin::Command<'_>,
        mut each: impl FnMut(&[u8]) -> Result<(), Verdict>,
    ) -> Result<(), Verdict> {
        connection.send(&director_core::doveadm::change::line_of(command)?)?;
        loop {
            let line = connection.answer()?;
            if line.is_empty() {
                return Ok(());
            }
            each(&line)?;
        }
    }
}

/// A list on standard output.
pub(crate) struct List {
    printer: Printer,
    text: String,
}

/// So much is put together before it is written.
const WRITE_BYTES: usize = 16 * 1024;

impl List {
    pub(crate) fn row(&mut self, cells: Vec<String>) -> Result<(), Verdict> {
        self.printer.row(cells, &mut self.text);
        if self.text.len() < WRITE_BYTES {
            return Ok(());
        }
        let result = print(&self.text);
        self.text.clear();
        result
    }

    pub(crate) fn finish(mut self) -> Result<(), Verdict> {
        self.printer.finish(&mut self.text);
        print(&self.text)
    }
}

/// Writes to standard output.
///
/// # Errors
/// Nobody reads any more (that ends the program, and is no failure), or the disk is full.
pub(crate) fn print(text: &str) -> Result<(), Verdict> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Err(Verdict::success("")),
        Err(error) => Err(Verdict::fatal(Exit::TemporaryFailure, format!("standard output: {error}"))),
    }
}

/// The columns of the terminal on standard output.
pub(crate) fn stdout_width() -> usize {
    let stdout = io::stdout();
    if stdout.is_terminal() { terminal_size(&stdout).0 } else { DEFAULT_WIDTH }
}

/// Columns and lines of a terminal.
pub(crate) fn terminal_size(terminal: impl std::os::fd::AsFd) -> (usize, Option<usize>) {
    match rustix::termios::tcgetwinsize(terminal) {
        Ok(size) if size.ws_col > 0 => (size.ws_col.into(), Some(usize::from(size.ws_row)).filter(|&rows| rows > 0)),
        _ => (DEFAULT_WIDTH, None),
    }
}

/// The machine's files, with the settings of `-o` at the end of the first one, where they have the last word.
struct WithOverrides<'a> {
    disk: DiskFiles,
    /// `None` = there is no file but the overrides.
    top: Option<&'a Path>,
    overrides: &'a [String],
}

impl Files for WithOverrides<'_> {
    fn read(&mut self, path: &Path) -> Result<Vec<u8>, String> {
        let mut content = match self.top {
            Some(_) => self.disk.read(path)?,
            None => Vec::new(),
        };
        if self.top.is_none_or(|top| top == path) {
            for setting in self.overrides {
                content.extend_from_slice(format!("\n{setting}").as_bytes());
            }
        }
        Ok(content)
    }

    fn glob(&mut self, pattern: &Path) -> Vec<PathBuf> {
        self.disk.glob(pattern)
    }
}
