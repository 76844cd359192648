//! Model login processes: a stand-in for Dovecot's ipc service.

use std::fs::{self, Permissions};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};

use director_core::wire::ipc::Command;

/// Answers on `base_dir/ipc` as if behind it were login processes that have one session of every user (kick protocol).
#[derive(Debug)]
pub struct ModelLogins {
    path: PathBuf,
    shared: Arc<Shared>,
    acceptor: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    ended: AtomicBool,
    kicked: AtomicU64,
}

impl ModelLogins {
    /// Listens in a director's base_dir, which must be there.
    ///
    /// # Panics
    /// If it can't.
    pub fn listen(base_dir: &Path) -> Self {
        let path = base_dir.join("ipc");
        let listener = UnixListener::bind(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        // The original's director is not root.
        fs::set_permissions(&path, Permissions::from_mode(0o666)).expect("permissions");
        let shared = Arc::new(Shared::default());
        let for_acceptor = Arc::clone(&shared);
        let acceptor = thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                if for_acceptor.ended.load(Ordering::Acquire) {
                    break;
                }
                let shared = Arc::clone(&for_acceptor);
                // Ends when the director closes, which it does at its own end at the latest.
                thread::spawn(move || serve(stream, &shared));
            }
        });
        Self { path, shared, acceptor: Some(acceptor) }
    }

    /// How many sessions have been kicked.
    pub fn kicked(&self) -> u64 {
        self.shared.kicked.load(Ordering::Acquire)
    }
}

impl Drop for ModelLogins {
    fn drop(&mut self) {
        self.shared.ended.store(true, Ordering::Release);
        let woken = UnixStream::connect(&self.path).is_ok();
        if let Some(acceptor) = self.acceptor.take()
            && woken
        {
            let _ = acceptor.join();
        }
        let _ = fs::remove_file(&self.path);
    }
}

fn serve(stream: UnixStream, shared: &Shared) {
    let Ok(reading) = stream.try_clone() else { return };
    let (mut reader, mut writer) = (BufReader::with_capacity(65536, reading), stream);
    let (mut line, mut answers) = (Vec::new(), Vec::new());
    loop {
        line.clear();
        if reader.read_until(b'\n', &mut line).unwrap_or(0) == 0 {
            return;
        }
        let command = line.strip_suffix(b"\n").unwrap_or(&line);
        if let Some(Command::Hash { .. }) = Command::parse(command) {
            shared.kicked.fetch_add(1, Ordering::AcqRel);
            answers.extend_from_slice(b"+1\n");
        } else {
            answers.extend_from_slice(b"-Model login processes are kicked by hash only\n");
        }
        // As many answers in one write as there were commands in one read.
        if reader.buffer().is_empty() {
            if writer.write_all(&answers).is_err() {
                return;
            }
            answers.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clients::Lines;

    #[test]
    fn each_kick_by_hash_finds_one_session() {
        let folder = std::env::temp_dir().join(format!("director-ipc-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let logins = ModelLogins::listen(&folder);
        let mut director = Lines::unix(&folder.join("ipc")).unwrap();
        let kicks =
            b"proxy\t*\tKICK-DIRECTOR-HASH\t7\nproxy\t*\tKICK-DIRECTOR-HASH\t8\t10.1.2.3\nproxy\t*\tKICK\tjane\n";
        director.send_bytes(kicks).unwrap();
        assert_eq!((director.expect().unwrap(), director.expect().unwrap()), ("+1".into(), "+1".into()));
        assert!(director.expect().unwrap().starts_with('-'));
        assert_eq!(logins.kicked(), 2);
        drop(logins);
        assert!(!folder.join("ipc").exists());
        fs::remove_dir(&folder).unwrap();
    }
}
