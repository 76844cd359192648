//! The sockets of `service director`: opened, watched, changed by a reload, and removed at the end.
//!
//! The director starts in any order with Dovecot, and lives in folders that Dovecot's master makes and tidies up. So a
//! file that cannot be made yet is waited for, and each second [`Listeners::inspect`] looks whether every file is still
//! the one that was made here: by device and inode, since a name alone could be another process's.

pub(crate) mod open;
mod watch;

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::{Duration, Instant};

use director_core::Role;
use director_core::settings::{Listener, Place, Settings, SettingsError, Socket};
use rustix::fs::Uid;

use crate::configuration::{Access, access_of};
use crate::exit::{Exit, Failure};
use crate::opener::Opener;
use open::{FileId, Problem};
use watch::FolderWatch;

/// How often the files are looked at: a vanished one must be there again within a second.
const INSPECTION_INTERVAL: Duration = Duration::from_millis(500);

/// How often, while a folder of Dovecot's is missing and the system does not tell when it comes.
const WAITING_INSPECTION_INTERVAL: Duration = Duration::from_millis(20);

/// How long a path that somebody else listens on is left alone before it is looked at again: to look means to connect
/// to it, which shows in the other's log, and if it is Dovecot's master starts a process each time.
const TAKEN_PAUSE: Duration = Duration::from_secs(60);

/// Names a listener for as long as it is open.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ListenerKey(pub(crate) u32);

/// What a runtime has to do about a listener.
#[derive(Debug)]
pub enum Change {
    /// A new one: accept connections from it; or, if it is a FIFO, hand it to the core as one connection.
    Open {
        /// Its name until [`Change::Close`].
        key: ListenerKey,
        /// What it is for.
        role: Role,
        /// The listening socket, or the FIFO opened for reading and writing. Non-blocking.
        descriptor: OwnedFd,
        /// Whether it is a FIFO.
        fifo: bool,
    },
    /// Stop, and close the descriptor. Connections that came from it live on.
    Close {
        /// Which.
        key: ListenerKey,
    },
}

/// All listeners of a director. Dropping it removes the files.
#[derive(Debug)]
pub struct Listeners {
    base_dir: PathBuf,
    opener: Opener,
    entries: Vec<Entry>,
    last_key: u32,
    watch: FolderWatch,
}

#[derive(Debug)]
struct Entry {
    role: Role,
    endpoint: Endpoint,
    access: Access,
    place: Place,
    /// While it is open.
    key: Option<ListenerKey>,
    /// The file that was made here, while it is.
    file: Option<FileId>,
    /// What was said last about it, so that it is said once.
    complaint: Option<String>,
    /// Its folder is not there yet.
    waiting: bool,
    /// Not to be tried before.
    quiet_until: Option<Instant>,
}

/// Where a listener is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Endpoint {
    Unix(PathBuf),
    Fifo(PathBuf),
    /// `required: false` = not worth a word if this machine has no such address family.
    Tcp {
        address: std::net::SocketAddr,
        required: bool,
    },
}

impl std::fmt::Display for Endpoint {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Unix(path) | Self::Fifo(path) => path.display().fmt(formatter),
            Self::Tcp { address, .. } => address.fmt(formatter),
        }
    }
}

impl Endpoint {
    pub(crate) fn path(&self) -> Option<&Path> {
        match self {
            Self::Unix(path) | Self::Fifo(path) => Some(path),
            Self::Tcp { .. } => None,
        }
    }
}

impl Listeners {
    /// Opens the sockets of a starting director, as far as their folders are there.
    ///
    /// # Errors
    /// Another process has one of them, or this one cannot be opened for a reason that waiting does not cure.
    pub fn open(settings: &Settings, opener: Opener) -> Result<(Self, Vec<Change>), Failure> {
        let entries = expand(settings, &settings.base_dir)?;
        let base_dir = settings.base_dir.clone();
        let mut this = Self { base_dir, opener, entries, last_key: 0, watch: FolderWatch::new() };
        let mut changes = Vec::new();
        for index in 0..this.entries.len() {
            match this.try_open(index, &mut changes) {
                Ok(()) => {}
                Err(Problem::Wait { reason, .. }) => this.wait(index, &reason),
                Err(Problem::Taken(reason) | Problem::NoAddress(reason)) => {
                    return Err(this.failure(index, Exit::Unavailable, &reason));
                }
                Err(Problem::Refused(exit, reason)) => return Err(this.failure(index, exit, &reason)),
            }
        }
        Ok((this, changes))
    }

    /// How long a runtime may wait before the next [`Listeners::inspect`].
    pub fn inspection_interval(&self) -> Duration {
        let waiting = self.entries.iter().any(|entry| entry.waiting);
        if waiting && self.watch.descriptor().is_none() { WAITING_INSPECTION_INTERVAL } else { INSPECTION_INTERVAL }
    }

    /// If there is one: when this descriptor is readable, [`Listeners::inspect`] at once.
    pub fn wake_descriptor(&self) -> Option<&Rc<OwnedFd>> {
        self.watch.descriptor()
    }

    /// Looks after the files: makes those again that vanished, and those at last whose folder was missing.
    pub fn inspect(&mut self, now: Instant) -> Vec<Change> {
        let mut changes = Vec::new();
        self.watch.drain();
        for index in 0..self.entries.len() {
            let entry = &mut self.entries[index];
            if entry.is_in_place(&self.opener) || entry.quiet_until.is_some_and(|until| now < until) {
                continue;
            }
            let vanished = entry.file.take().is_some();
            entry.quiet_until = None;
            let mut result = self.try_open(index, &mut changes);
            while let Err(Problem::Wait { missing, .. }) = &result
                && self.watch.wait_for(missing)
            {
                result = self.try_open(index, &mut changes);
            }
            match result {
                Ok(()) if vanished => {
                    let entry = &self.entries[index];
                    log::warn!("{} had vanished: made again", entry.endpoint);
                }
                Ok(()) => log::info!("{} is open", self.entries[index].endpoint),
                Err(Problem::Wait { reason, .. }) => self.wait(index, &reason),
                Err(Problem::Taken(reason) | Problem::NoAddress(reason) | Problem::Refused(_, reason)) => {
                    self.complain(index, log::Level::Error, &reason);
                    self.entries[index].waiting = false;
                    self.entries[index].quiet_until = Some(now + TAKEN_PAUSE);
                }
            }
        }
        changes
    }

    /// Makes the listeners those of settings that were read again, as far as that can be done while running, and logs
    /// what cannot.
    pub fn reload(&mut self, settings: &Settings) -> Vec<Change> {
        let mut changes = Vec::new();
        if settings.base_dir != self.base_dir {
            log::warn!("base_dir = {} needs a restart; still {}", settings.base_dir.display(), self.base_dir.display());
        }
        let wanted = match expand(settings, &self.base_dir) {
            Ok(wanted) => wanted,
            Err(error) => {
                log::error!("{error}; the sockets stay as they are");
                return changes;
            }
        };
        let same = |one: &Entry, other: &Entry| one.role == other.role && one.endpoint == other.endpoint;
        for index in (0..self.entries.len()).rev() {
            let entry = &self.entries[index];
            if wanted.iter().any(|new| same(new, entry)) {
                continue;
            }
            if entry.role == Role::Ring {
                // Our address in the ring comes from it, and the other members know us by that.
                log::warn!("to close the ring socket {} needs a restart", entry.endpoint);
                continue;
            }
            log::info!("{} is not configured any more: closed", entry.endpoint);
            self.entries.remove(index).close(&self.opener, &mut changes);
        }
        for new in wanted {
            if let Some(old) = self.entries.iter_mut().find(|entry| same(entry, &new)) {
                old.place = new.place;
                if old.access != new.access {
                    old.access = new.access;
                    old.apply_access(&self.opener);
                }
            } else if new.role == Role::Ring {
                log::warn!("{}: to open the ring socket {} needs a restart", new.place, new.endpoint);
            } else {
                self.entries.push(new);
            }
        }
        changes.extend(self.inspect(Instant::now()));
        changes
    }

    /// Removes the files that are still ours, so that nobody connects to a director that has gone.
    pub fn remove_files(&mut self) {
        for entry in &mut self.entries {
            entry.remove_file(&self.opener);
        }
    }

    /// A listener does not work any more: it is to be made anew at the next [`Listeners::inspect`].
    pub fn lost(&mut self, key: ListenerKey) {
        for entry in self.entries.iter_mut().filter(|entry| entry.key == Some(key)) {
            entry.remove_file(&self.opener);
            entry.key = None;
        }
    }

    /// Whether any listener has this role.
    pub fn has(&self, role: Role) -> bool {
        self.entries.iter().any(|entry| entry.role == role)
    }

    fn try_open(&mut self, index: usize, changes: &mut Vec<Change>) -> Result<(), Problem> {
        let entry = &mut self.entries[index];
        let (descriptor, file) = match self.opener.open(&self.base_dir, &entry.endpoint, entry.access) {
            Ok(opened) => opened,
            Err(Problem::NoAddress(_)) if matches!(entry.endpoint, Endpoint::Tcp { required: false, .. }) => {
                log::debug!("{}: not on this machine", entry.endpoint);
                // Nothing to watch; it stays closed.
                entry.quiet_until = Instant::now().checked_add(Duration::from_secs(u64::from(u32::MAX)));
                return Ok(());
            }
            Err(problem) => return Err(problem),
        };
        // An old descriptor whose file has gone is kept until now: a FIFO's writers may still have it open.
        changes.extend(entry.key.take().map(|key| Change::Close { key }));
        self.last_key += 1;
        let key = ListenerKey(self.last_key);
        let fifo = matches!(entry.endpoint, Endpoint::Fifo(_));
        entry.key = Some(key);
        entry.file = file;
        entry.complaint = None;
        entry.waiting = false;
        changes.push(Change::Open { key, role: entry.role, descriptor, fifo });
        Ok(())
    }

    fn wait(&mut self, index: usize, reason: &str) {
        // Once base_dir is there, login follows: that is still the same waiting.
        let level = if self.entries[index].waiting { log::Level::Debug } else { log::Level::Warn };
        self.complain(index, level, reason);
        self.entries[index].waiting = true;
    }

    /// Logs a reason, but not a second time.
    fn complain(&mut self, index: usize, level: log::Level, reason: &str) {
        // Several sockets often wait for one folder: one warning says it all.
        let known = self.entries.iter().any(|entry| entry.complaint.as_deref() == Some(reason));
        if !known {
            log::log!(level, "{reason}");
        }
        self.entries[index].complaint = Some(reason.to_owned());
    }

    fn failure(&self, index: usize, exit: Exit, reason: &str) -> Failure {
        let entry = &self.entries[index];
        Failure::new(exit, format!("{}: {} socket: {reason}", entry.place, entry.role.name()))
    }
}

impl Drop for Listeners {
    fn drop(&mut self) {
        self.remove_files();
    }
}

impl Entry {
    /// Whether there is nothing to do about it.
    fn is_in_place(&self, opener: &Opener) -> bool {
        match (&self.file, self.endpoint.path()) {
            (Some(file), Some(_)) => opener.identify(&self.endpoint).is_some_and(|there| there == *file),
            (None, Some(_)) => false,
            (_, None) => self.key.is_some(),
        }
    }

    fn apply_access(&self, opener: &Opener) {
        if self.endpoint.path().is_none() || !self.is_in_place(opener) {
            // It gets them when it is made.
            return;
        }
        match opener.set_access(&self.endpoint, self.access) {
            Ok(()) => log::info!("{} has its new mode and owner", self.endpoint),
            Err(error) => log::error!("{}: cannot set mode and owner of {}: {error}", self.place, self.endpoint),
        }
    }

    fn remove_file(&mut self, opener: &Opener) {
        let Some(file) = self.file.take() else { return };
        if let Err(error) = opener.remove(&self.endpoint, file) {
            log::warn!("cannot remove {}: {error}", self.endpoint);
        }
    }

    fn close(mut self, opener: &Opener, changes: &mut Vec<Change>) {
        self.remove_file(opener);
        changes.extend(self.key.take().map(|key| Change::Close { key }));
    }
}

/// The listeners of the settings, one entry for each descriptor.
fn expand(settings: &Settings, base_dir: &Path) -> Result<Vec<Entry>, SettingsError> {
    let mut entries = Vec::new();
    for listener in &settings.listeners {
        let access = access_of(listener)?;
        for endpoint in endpoints(listener, base_dir) {
            entries.push(Entry {
                role: listener.role,
                endpoint,
                access,
                place: listener.place.clone(),
                key: None,
                file: None,
                complaint: None,
                waiting: false,
                quiet_until: None,
            });
        }
    }
    Ok(entries)
}

fn endpoints(listener: &Listener, base_dir: &Path) -> Vec<Endpoint> {
    match &listener.socket {
        Socket::File { path, fifo: false, .. } => vec![Endpoint::Unix(base_dir.join(path))],
        Socket::File { path, fifo: true, .. } => vec![Endpoint::Fifo(base_dir.join(path))],
        Socket::Inet { addresses, port, .. } if addresses.is_empty() => vec![
            Endpoint::Tcp { address: (std::net::Ipv4Addr::UNSPECIFIED, *port).into(), required: true },
            // Two sockets, so that IPv4 peers have IPv4 addresses: members are known by those.
            Endpoint::Tcp { address: (std::net::Ipv6Addr::UNSPECIFIED, *port).into(), required: false },
        ],
        Socket::Inet { addresses, port, .. } => {
            addresses.iter().map(|ip| Endpoint::Tcp { address: (*ip, *port).into(), required: true }).collect()
        }
    }
}

/// Where the listeners of the settings are, and who may use them.
pub(crate) fn owners(settings: &Settings, base_dir: &Path) -> Result<Vec<(Endpoint, Access)>, SettingsError> {
    Ok(expand(settings, base_dir)?.into_iter().map(|entry| (entry.endpoint, entry.access)).collect())
}

/// Who runs this process.
fn own_user() -> Uid {
    rustix::process::geteuid()
}

#[cfg(test)]
mod tests;
