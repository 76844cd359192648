//! A folder and a network for one test.

use std::fs;
use std::net::Ipv4Addr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::network::Network;
use crate::process::tail;
use crate::requirements::{Need, missing, say, skip};

/// The ground of one test. The last one who holds it removes the folder, or, when the test has failed, prints the logs
/// in it and says where it is.
#[derive(Debug)]
pub struct Lab {
    name: String,
    folder: PathBuf,
    network: Network,
}

impl Lab {
    /// A lab for the test of this name, or `None`, reported as skipped, where its needs are not met.
    ///
    /// # Panics
    /// If needs are not met and `CI=true`.
    pub fn new(name: &str, needs: &[Need]) -> Option<Arc<Self>> {
        if let Some(reason) = missing(needs) {
            skip(name, &reason);
            return None;
        }
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        // Short: a unix socket's whole path must stay below 108 bytes.
        let folder = std::env::temp_dir().join(format!("director-{}-{number}", std::process::id()));
        fs::create_dir_all(&folder).expect("a folder for the test");
        Some(Arc::new(Self { name: name.into(), folder, network: Network::claim() }))
    }

    /// The address of this lab that ends in `last`.
    pub fn ip(&self, last: u8) -> Ipv4Addr {
        self.network.ip(last)
    }

    /// Where the test's files are.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// A folder in which everybody may write: flush scripts are run by the director, which is not root.
    ///
    /// # Panics
    /// If it can't be made.
    pub fn shared_folder(&self) -> PathBuf {
        let folder = self.folder.join("shared");
        fs::create_dir_all(&folder).expect("a folder for everybody");
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o777)).expect("permissions");
        folder
    }

    /// Prints a line about the test: shown with `--nocapture`, and when it fails.
    pub fn say(&self, text: &str) {
        println!("{}: {text}", self.name);
    }

    /// Says something that whoever runs the tests should know even if all pass.
    pub fn warn(&self, text: &str) {
        say(&format!("WARNING {}: {text}", self.name));
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        if std::thread::panicking() {
            println!("---- {} failed; its files stay in {}", self.name, self.folder.display());
            let mut logs = Vec::new();
            collect_logs(&self.folder, &mut logs);
            for log in logs {
                println!("---- the end of {}\n{}", log.display(), tail(&log, 60));
            }
        } else if std::env::var_os("DIRECTOR_TESTS_KEEP").is_none() {
            let _ = fs::remove_dir_all(&self.folder);
        }
    }
}

/// Logs end in `.log`; two levels of folders are enough for all that tests make.
fn collect_logs(folder: &Path, logs: &mut Vec<PathBuf>) {
    let mut entries: Vec<_> = fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path()).collect();
    entries.sort();
    for path in entries {
        if path.extension().is_some_and(|extension| extension == "log") {
            if fs::metadata(&path).is_ok_and(|metadata| metadata.len() > 0) {
                logs.push(path);
            }
        } else if path.is_dir() && path.parent() == Some(folder) && !path.ends_with("run") && !path.ends_with("mail") {
            collect_logs(&path, logs);
        }
    }
}
