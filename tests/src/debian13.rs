//! Debian 13 in a folder, for the real Dovecot 2.4, which Debian 12 does not have.
//!
//! debootstrap makes it, once; all tests share it and none writes to it. What runs in it has a mount namespace of its
//! own, in which /proc, /dev and a folder of the test are there as well: so no mount is left, whatever becomes of a
//! test, because the system ends a namespace with its last process. The network is the machine's, and so are the
//! numbers of users, so that files have the same owners inside and outside.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::Instant;

use rustix::fs::{FlockOperation, flock};

use crate::requirements::say;

/// What is installed in it.
const PACKAGES: &str =
    "dovecot-core,dovecot-imapd,dovecot-lmtpd,dovecot-managesieved,dovecot-pop3d,dovecot-submissiond";

/// Where a test's folder is, seen from inside.
pub const MOUNTED: &str = "/mnt";

/// Makes the mounts, and becomes the program. Arguments: the root folder, the test's folder, the program and its own.
const ENTER: &str = r#"
root=$1 folder=$2
shift 2
mount --rbind /proc "$root/proc"
mount --rbind /dev "$root/dev"
mount --bind "$folder" "$root/mnt"
mount --bind /etc/passwd "$root/etc/passwd"
mount --bind /etc/group "$root/etc/group"
exec chroot "$root" "$@"
"#;

/// A program of Debian 13, which sees this folder at [`MOUNTED`].
///
/// # Panics
/// If there is no Debian 13: that is a [`Need`](crate::Need) of the test.
pub fn command(folder: &Path, program: &str) -> Command {
    let root = root().as_ref().expect("Debian 13");
    let mut command = Command::new("unshare");
    command.args(["--mount", "--propagation", "private", "sh", "-e", "-c", ENTER, "sh"]);
    command.arg(root).arg(folder).arg(program);
    command
}

/// Its root folder: `DIRECTOR_TESTS_DEBIAN13`, or one beside the target folder's profiles. It is made if it is not
/// there, which takes a minute or two.
pub fn root() -> &'static Result<PathBuf, String> {
    static ROOT: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    ROOT.get_or_init(|| {
        if !rustix::process::geteuid().is_root() {
            return Err("a chroot needs root".into());
        }
        let root = match std::env::var_os("DIRECTOR_TESTS_DEBIAN13") {
            Some(path) => PathBuf::from(path),
            None => crate::requirements::target_folder()?.join("debian13"),
        };
        let works = || root.join("usr/sbin/dovecot").exists();
        // Another process of tests may be making it.
        let lock = File::create(root.with_extension("lock")).map_err(|error| format!("{}: {error}", root.display()))?;
        flock(&lock, FlockOperation::LockExclusive).map_err(|error| error.to_string())?;
        if !works() {
            make(&root)?;
        }
        Ok(root)
    })
}

fn make(root: &Path) -> Result<(), String> {
    let start = Instant::now();
    let mirror = mirror()?;
    // Under another name until it is complete.
    let unfinished = root.with_extension("unfinished");
    match fs::remove_dir_all(&unfinished) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error.to_string()),
        _ => {}
    }
    let output = Command::new("debootstrap")
        .arg("--variant=minbase")
        .arg(format!("--include={PACKAGES}"))
        .arg("trixie")
        .arg(&unfinished)
        .arg(mirror)
        .output()
        .map_err(|error| format!("no debootstrap: {error} (Debian package debootstrap)"))?;
    if !output.status.success() {
        let text = String::from_utf8_lossy(&output.stdout);
        let end = text.lines().rev().take(3).collect::<Vec<_>>().join(" < ");
        return Err(format!("debootstrap: {end}"));
    }
    fs::rename(&unfinished, root).map_err(|error| error.to_string())?;
    say(&format!("Debian 13 with Dovecot 2.4 was made in {:.0} s", start.elapsed().as_secs_f64()));
    Ok(())
}

/// Where this machine gets its own packages from.
fn mirror() -> Result<String, String> {
    let output = Command::new("apt-get")
        .args(["indextargets", "--format", "$(CODENAME) $(REPO_URI)"])
        .output()
        .map_err(|error| format!("no apt-get: {error}"))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let main = text.lines().filter_map(|line| line.split_once(' ')).find(|(codename, _)| !codename.contains('-'));
    main.map(|(_, uri)| uri.to_owned()).ok_or_else(|| "apt knows no mirror of Debian".into())
}
