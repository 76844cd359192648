//! What a test needs of the machine, and what happens where it is missing.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use crate::debian13;
use crate::director::Kind;

/// Something that a test cannot do without.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// Dovecot 2.3 (with doveadm, IMAP, POP3 and LMTP), and root to start it.
    Dovecot,
    /// A director of ours, for which a real one can stand in when the tests are calibrated.
    Director,
    /// A director of ours: the original does not do this.
    OurDirector,
    /// Both our daemons.
    BothOurDirectors,
    /// Dovecot 2.4, in a Debian 13 that can be made here.
    Dovecot24,
    /// Dovecot 2.3's Submission and ManageSieve.
    SubmissionAndSieve,
    /// `ss -K`, which cuts TCP connections of other processes.
    CutLinks,
}

impl Need {
    /// What a ring of these kinds needs.
    pub fn of(kinds: &[Kind]) -> Vec<Self> {
        let need = |kind: &Kind| match kind {
            Kind::Dovecot => &[Self::Dovecot][..],
            Kind::Ours => &[Self::Director],
            Kind::Ours24 => &[Self::OurDirector, Self::Dovecot24],
            Kind::Smol | Kind::Std => &[Self::BothOurDirectors],
        };
        kinds.iter().flat_map(need).copied().collect()
    }
}

/// Whether real directors take the place of ours.
pub fn calibrating() -> bool {
    std::env::var_os("DIRECTOR_TESTS_CALIBRATE").is_some_and(|value| !value.is_empty())
}

/// What keeps a test with these needs from running here.
pub fn missing(needs: &[Need]) -> Option<String> {
    needs.iter().find_map(|need| match need {
        Need::Dovecot => missing_dovecot(),
        Need::OurDirector | Need::BothOurDirectors if calibrating() => Some("the original does not do this".into()),
        Need::Director if calibrating() => missing_dovecot(),
        Need::Director | Need::OurDirector => daemon_binary(Kind::Ours).err(),
        Need::BothOurDirectors => [Kind::Smol, Kind::Std].into_iter().find_map(|kind| daemon_binary(kind).err()),
        Need::Dovecot24 => debian13::root().as_ref().err().cloned(),
        Need::SubmissionAndSieve => missing_services(&["submission", "managesieve"]),
        Need::CutLinks => missing_cut_links(),
    })
}

/// Reports a test as skipped: loudly, since the test runner counts it as passed.
///
/// # Panics
/// With `CI=true`: there, what is missing is a mistake of whoever set it up.
pub fn skip(test: &str, reason: &str) {
    assert!(
        calibrating() || std::env::var("CI").as_deref() != Ok("true"),
        "{test} cannot run: {reason}; with CI=true that is a failure"
    );
    say(&format!("SKIPPED {test}: {reason}"));
    if let Some(path) = std::env::var_os("DIRECTOR_TESTS_SKIPPED") {
        let file = OpenOptions::new().create(true).append(true).open(path);
        let _ = file.and_then(|mut file| file.write_all(format!("{test}\t{reason}\n").as_bytes()));
    }
}

/// Says something that whoever runs the tests should know even if all pass.
pub fn say(text: &str) {
    // Each in one write, since tests run beside each other. Not eprintln!: the test runner swallows that of a test that
    // passes.
    let _ = std::io::stderr().write_all(format!("{text}\n").as_bytes());
}

/// A daemon of ours: what cargo builds in the profile of the tests. Which one is to be tested, and where it is if cargo
/// does not build it, is in the environment (see the front page of this crate).
///
/// # Errors
/// Why there is none.
///
/// # Panics
/// For the original.
pub fn daemon_binary(kind: Kind) -> Result<PathBuf, String> {
    match kind {
        Kind::Dovecot => panic!("the original has no binary of its own"),
        Kind::Smol => built("director"),
        Kind::Std => built("director-std"),
        Kind::Ours | Kind::Ours24 => {
            if let Some(path) = std::env::var_os("DIRECTOR_BINARY") {
                let path = PathBuf::from(path);
                return path.canonicalize().map_err(|error| format!("DIRECTOR_BINARY {}: {error}", path.display()));
            }
            match std::env::var("DIRECTOR_TESTS_DAEMON").as_deref() {
                Err(_) | Ok("" | "director") => daemon_binary(Kind::Smol),
                Ok("director-std") => daemon_binary(Kind::Std),
                Ok(other) => Err(format!("DIRECTOR_TESTS_DAEMON is director or director-std, not {other}")),
            }
        }
    }
}

/// A program of ours, which cargo builds in the profile of the tests.
///
/// # Errors
/// It does not build.
pub fn built(program: &str) -> Result<PathBuf, String> {
    static FOLDER: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    FOLDER.get_or_init(build).clone().map(|folder| folder.join(program))
}

/// `target/PROFILE`: a test's own executable lies in its folder `deps`, a bench's right in it.
fn profile_folder() -> Result<PathBuf, String> {
    let executable = std::env::current_exe().map_err(|error| error.to_string())?;
    let own_folder = executable.parent().ok_or("no target folder")?;
    let profile_folder = own_folder.parent().filter(|_| own_folder.ends_with("deps")).unwrap_or(own_folder);
    Ok(profile_folder.to_owned())
}

/// The folder of what cargo has built.
///
/// # Errors
/// This program does not lie in it.
pub fn target_folder() -> Result<PathBuf, String> {
    Ok(profile_folder()?.parent().ok_or("no target folder")?.to_owned())
}

/// Builds all programs, and gives back the folder they are in.
fn build() -> Result<PathBuf, String> {
    let (profile_folder, target_folder) = (profile_folder()?, target_folder()?);
    let mut build = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| env!("CARGO").into()));
    build.args(["build", "--quiet", "-p", "director-smol", "-p", "director-std"]);
    build.args(["--bin", "director", "--bin", "director-std", "--bin", "directoradm"]);
    build.arg("--manifest-path").arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("../Cargo.toml"));
    build.arg("--target-dir").arg(target_folder);
    if profile_folder.ends_with("release") {
        build.arg("--release");
    }
    let output = build.output().map_err(|error| format!("cargo build: {error}"))?;
    if !output.status.success() {
        return Err(format!("our programs do not build: {}", String::from_utf8_lossy(&output.stderr)));
    }
    Ok(profile_folder)
}

fn missing_dovecot() -> Option<String> {
    static MISSING: OnceLock<Option<String>> = OnceLock::new();
    MISSING
        .get_or_init(|| {
            if !rustix::process::geteuid().is_root() {
                return Some("Dovecot has to be started by root".into());
            }
            let version = match Command::new("dovecot").arg("--version").output() {
                Ok(output) => String::from_utf8_lossy(&output.stdout).into_owned(),
                Err(error) => return Some(format!("no dovecot: {error} (Debian package dovecot-core)")),
            };
            if !version.starts_with("2.3.") {
                return Some(format!("Dovecot 2.3 is needed, this is {}", version.trim()));
            }
            missing_services(&["imap", "pop3", "lmtp"])
        })
        .clone()
}

fn missing_services(programs: &[&str]) -> Option<String> {
    programs.iter().find_map(|program| {
        let path = Path::new("/usr/lib/dovecot").join(program);
        (!path.exists()).then(|| format!("no {} (Debian package dovecot-{program}d)", path.display()))
    })
}

fn missing_cut_links() -> Option<String> {
    static MISSING: OnceLock<Option<String>> = OnceLock::new();
    MISSING.get_or_init(|| try_to_cut_a_link().err()).clone()
}

/// `ss -K` says nothing when the system refuses, so only trying it tells.
fn try_to_cut_a_link() -> Result<(), String> {
    use std::io::Read;
    use std::net::{TcpListener, TcpStream};
    let describe = |error: std::io::Error| error.to_string();
    let listener = TcpListener::bind(("127.0.0.1", 0)).map_err(describe)?;
    let address = listener.local_addr().map_err(describe)?;
    let mut client = TcpStream::connect(address).map_err(describe)?;
    client.set_read_timeout(Some(std::time::Duration::from_millis(200))).map_err(describe)?;
    let port = address.port().to_string();
    Command::new("ss")
        .args(["-K", "-tn", "dst", "127.0.0.1", "dport", "=", &port])
        .output()
        .map_err(|error| format!("no ss: {error} (Debian package iproute2)"))?;
    match client.read(&mut [0]) {
        Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
            Err("ss -K may not cut connections here (CAP_NET_ADMIN, CONFIG_INET_DIAG_DESTROY)".into())
        }
        _ => Ok(()),
    }
}
