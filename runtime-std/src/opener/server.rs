//! The process that stays root.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use director_core::settings::Settings;
use rustix::fs::OFlags;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use super::wire::{self, Message, Recorder};
use super::{log_files, own_log};
use crate::configuration::Access;
use crate::exit::Exit;
use crate::listeners::open::Problem;
use crate::listeners::{Endpoint, open, owners};

/// Serves the daemon at the other end of standard input until that has gone.
pub fn serve(file: &Path) -> ExitCode {
    // Signals to a whole group of processes are for the daemon: this one removes the files after it.
    let unheard = Arc::new(AtomicBool::new(false));
    let ignored = [SIGTERM, SIGINT, SIGHUP]
        .iter()
        .try_for_each(|signal| signal_hook::flag::register(*signal, Arc::clone(&unheard)).map(drop));
    let result = ignored.and_then(|()| {
        let line = UnixStream::from(io::stdin().as_fd().try_clone_to_owned()?);
        Server::new(file).run(&line)
    });
    // What is wrong with the line shows on the daemon's side, which has the log.
    if result.is_ok() { Exit::Success.into() } else { Exit::System.into() }
}

pub(super) struct Server {
    file: PathBuf,
    /// That of the first settings: to change it needs a restart.
    base_dir: Option<PathBuf>,
    /// All listeners that any settings named so far, as the latest said.
    listeners: Vec<(Endpoint, Access)>,
    logs: Vec<PathBuf>,
}

impl Server {
    pub(super) fn new(file: &Path) -> Self {
        let mut this = Self { file: file.to_owned(), base_dir: None, listeners: Vec::new(), logs: Vec::new() };
        // If they can't be read by now, nothing is allowed, and the daemon hears of that.
        this.read();
        this
    }

    pub(super) fn run(mut self, line: &UnixStream) -> io::Result<()> {
        while let Some((request, _)) = Message::receive(line)? {
            let (answer, descriptor) = self.answer(&request);
            answer.send(line, descriptor.as_ref().map(AsFd::as_fd))?;
        }
        Ok(())
    }

    fn answer(&mut self, request: &Message) -> (Message, Option<OwnedFd>) {
        match request.word(0) {
            "settings" => return (self.read(), None),
            "log" => return self.log(&request.path(1)),
            _ => {}
        }
        let wanted = (request.word(1), request.word(2));
        let found = self.listeners.iter().find(|(endpoint, _)| {
            let (kind, name) = wire::endpoint(endpoint);
            (kind, name.as_str()) == wanted
        });
        let (Some((endpoint, access)), Some(base_dir)) = (found, &self.base_dir) else {
            let reason = format!("the settings name no {} socket {}", wanted.0, wanted.1);
            let code = (Exit::NoPermission as u8).to_string();
            return match request.word(0) {
                "open" => (Message::new(["refused", &code, &reason]), None),
                _ => (Message::new(["failed", &reason]), None),
            };
        };
        let done = |result: Result<(), io::Error>| match result {
            Ok(()) => (Message::new(["done"]), None),
            Err(error) => (Message::new(["failed", &error.to_string()]), None),
        };
        match request.word(0) {
            "open" => opened(open::endpoint(base_dir, endpoint, *access)),
            "access" => done(endpoint.path().map_or(Ok(()), |path| open::set_access(path, *access))),
            "remove" => done(match (endpoint.path(), request.file_id(3)) {
                (Some(path), Some(file)) => open::remove(path, file),
                _ => Ok(()),
            }),
            "identify" => {
                let file = endpoint.path().and_then(|path| open::FileId::look(path).ok());
                (Message::new(["file"]).with_file_id(file), None)
            }
            _ => (Message::new(["failed", "no such request"]), None),
        }
    }

    /// Reads the settings, takes over what they name, and tells all that was read.
    fn read(&mut self) -> Message {
        let mut recorder = Recorder::default();
        if let Ok(settings) = Settings::load(&self.file, &mut recorder) {
            self.take_over(&settings);
        }
        recorder.finish()
    }

    fn take_over(&mut self, settings: &Settings) {
        let base_dir = self.base_dir.get_or_insert_with(|| settings.base_dir.clone());
        // A socket of an owner that does not exist is an error on the daemon's side.
        for (endpoint, access) in owners(settings, base_dir).unwrap_or_default() {
            self.listeners.retain(|(known, _)| *known != endpoint);
            self.listeners.push((endpoint, access));
        }
        for path in log_files(settings) {
            if !self.logs.contains(&path) {
                self.logs.push(path);
            }
        }
    }

    fn log(&self, path: &Path) -> (Message, Option<OwnedFd>) {
        let (exit, reason) = if self.logs.iter().any(|known| known == path) {
            // What the daemon's user may have put there is not for root to follow.
            match own_log(path, OFlags::NOFOLLOW) {
                Ok(file) => return (Message::new(["opened"]), Some(file.into())),
                Err(failure) => (failure.exit, failure.message),
            }
        } else {
            (Exit::NoPermission, format!("the settings name no log file {}", path.display()))
        };
        (Message::new(["refused", &(exit as u8).to_string(), &reason]), None)
    }
}

fn opened(result: Result<(OwnedFd, Option<open::FileId>), Problem>) -> (Message, Option<OwnedFd>) {
    let answer = match result {
        Ok((descriptor, file)) => return (Message::new(["opened"]).with_file_id(file), Some(descriptor)),
        Err(Problem::Wait { missing, reason }) => Message::new(["wait"]).with_path(&missing).with(&reason),
        Err(Problem::Taken(reason)) => Message::new(["taken", &reason]),
        Err(Problem::NoAddress(reason)) => Message::new(["no address", &reason]),
        Err(Problem::Refused(exit, reason)) => Message::new(["refused", &(exit as u8).to_string(), &reason]),
    };
    (answer, None)
}
