//! The weights of drained backends, kept for `undrain`: a small file for each, in the operator's state folder.
//!
//! It is `$XDG_STATE_HOME/directoradm/drained`, else `/var/lib/directoradm/drained` for root and
//! `~/.local/state/directoradm/drained` for others. It survives a restart of the machine, as the ring does.

use std::fs;
use std::io::{self, Write};
use std::net::IpAddr;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use director_core::doveadm::drain::{read_record, write_record};
use director_core::hash::IpText;

/// Keeps a backend's weight.
pub(crate) fn remember(ip: IpAddr, vhosts: u32) -> io::Result<()> {
    let folder = folder().ok_or_else(|| io::Error::other("there is no home folder"))?;
    remember_in(&folder, ip, vhosts)
}

/// The weight that was kept.
pub(crate) fn recall(ip: IpAddr) -> Option<u32> {
    recall_from(&folder()?, ip)
}

/// The backend has its weight again.
pub(crate) fn forget(ip: IpAddr) {
    if let Some(folder) = folder() {
        // One that stays is overwritten by the next drain.
        let _ = fs::remove_file(file(&folder, ip));
    }
}

fn folder() -> Option<PathBuf> {
    let variable = |name| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let state = match variable("XDG_STATE_HOME") {
        Some(state) => state,
        None if rustix::process::geteuid().is_root() => "/var/lib".into(),
        None => variable("HOME")?.join(".local/state"),
    };
    Some(state.join("directoradm/drained"))
}

fn file(folder: &Path, ip: IpAddr) -> PathBuf {
    folder.join(IpText(ip).to_string())
}

fn remember_in(folder: &Path, ip: IpAddr, vhosts: u32) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    // Renamed into place, so that a crash can't leave half a number, which would be another weight.
    let unfinished = folder.join(format!(".{}.{}", IpText(ip), std::process::id()));
    let mut handle = fs::File::create(&unfinished)?;
    handle.write_all(write_record(vhosts).as_bytes())?;
    handle.sync_all()?;
    fs::rename(&unfinished, file(folder, ip))
}

fn recall_from(folder: &Path, ip: IpAddr) -> Option<u32> {
    read_record(&fs::read(file(folder, ip)).ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_are_kept_by_backend() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("a/drained");
        let (first, second): (IpAddr, IpAddr) = ("10.0.0.1".parse().unwrap(), "2001:db8::1".parse().unwrap());
        assert_eq!(recall_from(&folder, first), None);
        remember_in(&folder, first, 150).unwrap();
        remember_in(&folder, second, 7).unwrap();
        remember_in(&folder, first, 70).unwrap();
        assert_eq!((recall_from(&folder, first), recall_from(&folder, second)), (Some(70), Some(7)));
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 2, "nothing unfinished is left");
        fs::write(file(&folder, first), "not a number").unwrap();
        assert_eq!(recall_from(&folder, first), None);
    }
}
