//! Opens what only root may open, for a daemon that is root no more.
//!
//! A director's sockets lie in folders that belong to root and to Dovecot's master, which makes these folders again when it
//! pleases; FIFOs belong to another user; logs are rotated and settings read again. So the right to open cannot be given up
//! at the start once and for all, and no capability less than nearly root's would do. As Dovecot has its master, a daemon
//! that root started has a second process that stays root: it reads nothing from the network, and does five things, only
//! with what its own reading of the settings names (open a listener, give it mode and owner, identify and remove its file,
//! open a log, read the settings). The daemon itself then becomes `user` of `service director`, without any capability.
//!
//! A daemon that was not started by root does all this in its own process, as far as it may.

mod server;
mod wire;

#[cfg(test)]
mod tests;

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use director_core::settings::{Files, Place, SettingsError};

use crate::configuration::{Access, DiskFiles};
use crate::exit::{Exit, Failure};
use crate::listeners::open::{FileId, Problem};
use crate::listeners::{Endpoint, open};
use rustix::fs::OFlags;
pub use server::serve;
use wire::Message;

/// How long an answer may take. What is asked for takes no time; a disk that hangs must not hang the daemon for ever.
const ANSWER_PATIENCE: Duration = Duration::from_secs(10);

/// Opens, changes and removes files: in this process, or in one that stayed root.
#[derive(Clone, Debug, Default)]
pub struct Opener {
    root: Option<Arc<Mutex<Line>>>,
}

/// The line to the process that stayed root. `None`: it has ended.
#[derive(Debug)]
struct Line(Option<UnixStream>);

impl Opener {
    /// Starts a process that stays what this one is, and opens for it what the settings in `file` name.
    ///
    /// # Errors
    /// The system's.
    pub fn start(file: &Path) -> io::Result<Self> {
        let (ours, theirs) = UnixStream::pair()?;
        ours.set_read_timeout(Some(ANSWER_PATIENCE))?;
        ours.set_write_timeout(Some(ANSWER_PATIENCE))?;
        let name = std::env::args_os().next().unwrap_or_else(|| "director".into());
        // By the second name it is the same program even if another has been installed by now, but lists of processes call
        // it "exe". It ends with our end of the line, and init waits for it then.
        let program = std::env::current_exe().ok().filter(|path| path.exists());
        Command::new(program.unwrap_or_else(|| "/proc/self/exe".into()))
            .arg0(name)
            .arg("--opener")
            .arg("-c")
            .arg(file)
            .stdin(OwnedFd::from(theirs))
            .stdout(Stdio::null())
            .spawn()?;
        Ok(Self { root: Some(Arc::new(Mutex::new(Line(Some(ours))))) })
    }

    /// One that talks over this.
    #[cfg(test)]
    fn over(line: UnixStream) -> Self {
        Self { root: Some(Arc::new(Mutex::new(Line(Some(line))))) }
    }

    /// Opens a listener: of files, its id comes with it.
    pub(crate) fn open(
        &self,
        base_dir: &Path,
        endpoint: &Endpoint,
        access: Access,
    ) -> Result<(OwnedFd, Option<FileId>), Problem> {
        let Some(root) = &self.root else { return open::endpoint(base_dir, endpoint, access) };
        let (kind, name) = wire::endpoint(endpoint);
        let (answer, descriptor) =
            ask(root, &Message::new(["open", kind]).with(&name)).map_err(|error| lost(&error))?;
        match (answer.word(0), descriptor) {
            ("opened", Some(descriptor)) => Ok((descriptor, answer.file_id(1))),
            ("wait", _) => Err(Problem::Wait { missing: answer.path(1), reason: answer.text(2) }),
            ("taken", _) => Err(Problem::Taken(answer.text(1))),
            ("no address", _) => Err(Problem::NoAddress(answer.text(1))),
            ("refused", _) => Err(Problem::Refused(exit(answer.word(1)), answer.text(2))),
            _ => Err(lost(&io::ErrorKind::InvalidData.into())),
        }
    }

    /// Gives a listener's file its mode and owner again.
    pub(crate) fn set_access(&self, endpoint: &Endpoint, access: Access) -> Result<(), String> {
        let Some(path) = endpoint.path() else { return Ok(()) };
        let Some(root) = &self.root else {
            return open::set_access(path, access).map_err(|error| error.to_string());
        };
        let (kind, name) = wire::endpoint(endpoint);
        self.done(root, &Message::new(["access", kind]).with(&name))
    }

    /// Removes the file of a listener, if it is still this one.
    pub(crate) fn remove(&self, endpoint: &Endpoint, file: FileId) -> Result<(), String> {
        let Some(path) = endpoint.path() else { return Ok(()) };
        let Some(root) = &self.root else {
            return open::remove(path, file).map_err(|error| error.to_string());
        };
        let (kind, name) = wire::endpoint(endpoint);
        self.done(root, &Message::new(["remove", kind]).with(&name).with_file_id(Some(file)))
    }

    fn done(&self, root: &Mutex<Line>, request: &Message) -> Result<(), String> {
        let (answer, _) = ask(root, request).map_err(|error| gone(&error))?;
        if answer.word(0) == "done" { Ok(()) } else { Err(answer.text(1)) }
    }

    /// Which file is at a listener's path, if any.
    pub(crate) fn identify(&self, endpoint: &Endpoint) -> Option<FileId> {
        let path = endpoint.path()?;
        match (FileId::look(path), &self.root) {
            // The folder of login processes is not for everybody to look into.
            (Err(error), Some(root)) if error.kind() == io::ErrorKind::PermissionDenied => {
                let (kind, name) = wire::endpoint(endpoint);
                let (answer, _) = ask(root, &Message::new(["identify", kind]).with(&name)).ok()?;
                answer.file_id(1)
            }
            (file, _) => file.ok(),
        }
    }

    /// Opens a log file to append to.
    pub(crate) fn open_log(&self, path: &Path) -> Result<File, Failure> {
        let Some(root) = &self.root else { return own_log(path, OFlags::empty()) };
        let request = Message::new(["log"]).with_path(path);
        match ask(root, &request).map_err(|error| Failure::new(Exit::System, gone(&error)))? {
            (_, Some(descriptor)) => Ok(descriptor.into()),
            (answer, None) => Err(Failure::new(exit(answer.word(1)), answer.text(2))),
        }
    }

    /// The files behind the settings in `file`.
    pub(crate) fn files(&self, file: &Path) -> Result<Box<dyn Files>, SettingsError> {
        let Some(root) = &self.root else { return Ok(Box::new(DiskFiles)) };
        let (answer, _) = ask(root, &Message::new(["settings"])).map_err(|error| SettingsError {
            place: Place { file: file.to_owned(), line: 0 },
            message: gone(&error),
            remedy: "restart the director".into(),
        })?;
        Ok(Box::new(wire::Recording::from(answer)))
    }
}

/// Asks, and waits for the answer.
fn ask(root: &Mutex<Line>, request: &Message) -> io::Result<(Message, Option<OwnedFd>)> {
    let mut line = root.lock().unwrap_or_else(PoisonError::into_inner);
    let Some(stream) = &line.0 else { return Err(io::ErrorKind::NotConnected.into()) };
    let result = request.send(stream, None).and_then(|()| Message::receive(stream));
    match result {
        Ok(Some(answer)) => Ok(answer),
        // A late answer would be taken for that to the next question.
        Ok(None) => {
            line.0 = None;
            Err(io::ErrorKind::UnexpectedEof.into())
        }
        Err(error) => {
            line.0 = None;
            Err(error)
        }
    }
}

fn gone(error: &io::Error) -> String {
    format!("the process that opens files for the director does not answer: {error}")
}

fn lost(error: &io::Error) -> Problem {
    Problem::Refused(Exit::System, format!("{}; restart the director", gone(error)))
}

fn exit(code: &str) -> Exit {
    code.parse().ok().and_then(Exit::from_code).unwrap_or(Exit::System)
}

/// Opens a log file in this process.
fn own_log(path: &Path, flags: OFlags) -> Result<File, Failure> {
    // Not for everybody to read: at debug it has user names.
    let mut options = File::options();
    options.append(true).create(true).mode(0o600).custom_flags(flags.bits().cast_signed());
    options.open(path).map_err(|error| {
        let exit = match error.kind() {
            io::ErrorKind::PermissionDenied => Exit::NoPermission,
            _ => Exit::CannotCreate,
        };
        Failure::new(exit, format!("cannot open log file {}: {error} (log_path)", path.display()))
    })
}

/// The log files that settings name.
fn log_files(settings: &director_core::settings::Settings) -> impl Iterator<Item = PathBuf> {
    let paths = [&settings.log_path, &settings.info_log_path, &settings.debug_log_path];
    paths.into_iter().flatten().cloned().collect::<Vec<_>>().into_iter()
}
