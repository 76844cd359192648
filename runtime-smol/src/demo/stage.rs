//! Three directors: their folder, addresses and processes.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use super::clients::{Backend, Member, Operator, Stop};
use super::{Act, Trouble};

/// How many directors there are.
pub(super) const DIRECTORS: usize = 3;

/// Ports to try for the ring: the usual one first.
const PORTS: [u16; 4] = [9090, 9091, 19090, 29090];

/// The longest path that a unix socket can have on Linux, in bytes.
const SOCKET_PATH_MAX_BYTES: usize = 107;

/// A director says goodbye within a second or two. Longer than that, and something is wrong with it.
const GOODBYE_PATIENCE: Duration = Duration::from_secs(5);

/// The backends: addresses set aside for documentation (RFC 5737), so that nobody can really be there.
pub(super) const BACKENDS: [Ipv4Addr; 5] = [
    Ipv4Addr::new(192, 0, 2, 11),
    Ipv4Addr::new(192, 0, 2, 12),
    Ipv4Addr::new(192, 0, 2, 13),
    Ipv4Addr::new(192, 0, 2, 14),
    Ipv4Addr::new(192, 0, 2, 15),
];

/// The folder and the directors in it. Whatever happens, the processes end with it.
pub(super) struct Stage {
    folder: TempDir,
    program: PathBuf,
    pub(super) directors: Vec<Director>,
    stop: Stop,
}

/// One director of the ring.
pub(super) struct Director {
    /// From 1.
    pub(super) number: usize,
    pub(super) address: SocketAddr,
    /// Its base_dir.
    pub(super) folder: PathBuf,
    child: Option<Child>,
    operator: Option<Operator>,
}

impl Stage {
    /// Makes the folder and the configurations; nothing runs yet.
    pub(super) fn build(stop: &Stop) -> Act<Self> {
        let program = std::env::current_exe()
            .map_err(|error| Trouble::failed(format!("cannot find this program's own file: {error}")))?;
        let place = std::env::temp_dir();
        let folder = tempfile::Builder::new()
            .prefix("director-demo-")
            .permissions(Permissions::from_mode(0o700))
            .tempdir_in(&place)
            .map_err(|error| {
                let place = place.display();
                Trouble::failed(format!(
                    "cannot make a folder in {place}: {error}; set TMPDIR to one that you can write"
                ))
            })?;
        let path = folder.path().to_owned();
        if path.join("1/director-authreply").as_os_str().len() > SOCKET_PATH_MAX_BYTES {
            let place = place.display();
            return Err(Trouble::failed(format!(
                "{place} is too long a path for sockets; set TMPDIR to a shorter one"
            )));
        }
        if path.to_str().is_none_or(|path| path.contains(|c: char| matches!(c, '"' | '\\' | '$') || c.is_control())) {
            let place = place.display();
            return Err(Trouble::failed(format!(
                "{place} cannot be written into a file; set TMPDIR to a simpler path"
            )));
        }
        let directors = addresses()?.into_iter().zip(1..).map(|(address, number)| Director {
            number,
            address,
            folder: path.join(number.to_string()),
            child: None,
            operator: None,
        });
        let this = Self { program, directors: directors.collect(), folder, stop: stop.clone() };
        for director in &this.directors {
            let text = configuration(&director.folder, director.address, &this.ring());
            director.write_files(&text).map_err(|error| {
                let folder = director.folder.display();
                Trouble::failed(format!("cannot write to {folder}: {error}; set TMPDIR to a folder with space"))
            })?;
        }
        Ok(this)
    }

    pub(super) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Leaves the folder where it is, for somebody to look at.
    pub(super) fn keep_folder(&mut self) {
        self.folder.disable_cleanup(true);
    }

    fn ring(&self) -> Vec<SocketAddr> {
        self.directors.iter().map(|director| director.address).collect()
    }

    /// The command that runs a director, for people to type.
    pub(super) fn command_line(&self, number: usize) -> String {
        format!("{} -c {}", self.program.display(), self.directors[number - 1].configuration_file().display())
    }

    /// Starts a director.
    pub(super) fn start(&mut self, number: usize) -> Act<()> {
        let director = &mut self.directors[number - 1];
        let program = self.program.display();
        let errors = File::create(director.folder.join("stderr"))
            .map_err(|error| Trouble::failed(format!("cannot write to {}: {error}", director.folder.display())))?;
        let child = Command::new(&self.program)
            .arg("-c")
            .arg(director.configuration_file())
            .current_dir(&director.folder)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(errors)
            // Ctrl-C is for the demonstration, which then ends its directors one by one.
            .process_group(0)
            .spawn()
            .map_err(|error| Trouble::failed(format!("cannot run {program}: {error}; build it again")))?;
        director.child = Some(child);
        Ok(())
    }

    /// Ends a director without a goodbye, as a power cut would.
    pub(super) fn kill(&mut self, number: usize) -> Act<()> {
        let director = &mut self.directors[number - 1];
        director.operator = None;
        if let Some(mut child) = director.child.take() {
            child.kill().and_then(|()| child.wait()).map_err(|error| {
                Trouble::failed(format!("cannot kill director {number} (process {}): {error}", child.id()))
            })?;
        }
        Ok(())
    }

    /// The directors that ought to run, by number.
    pub(super) fn running(&self) -> Vec<usize> {
        self.directors.iter().filter(|director| director.child.is_some()).map(|director| director.number).collect()
    }

    /// Sees to it that no director has ended by itself.
    pub(super) fn inspect(&mut self) -> Act<()> {
        for director in &mut self.directors {
            if let Some(status) = director.ended() {
                let (number, last) = (director.number, director.last_words());
                return Err(Trouble::failed(format!("director {number} has ended ({status}); its last words: {last}")));
            }
        }
        Ok(())
    }

    /// [`Stage::inspect`] for when a director does not answer: a process that has died takes a moment to show.
    pub(super) fn await_end(&mut self) -> Act<()> {
        for _ in 0..20 {
            self.inspect()?;
            thread::sleep(Duration::from_millis(10));
        }
        Ok(())
    }

    /// Asks all directors to end, and waits until they have.
    pub(super) fn end(&mut self) -> Act<()> {
        let deadline = Instant::now() + GOODBYE_PATIENCE;
        for director in &mut self.directors {
            if let Some(child) = &director.child {
                // It can only fail if the process has ended, which is what it is about.
                let _ = kill_process(Pid::from_child(child), Signal::TERM);
            }
        }
        let mut slow = Vec::new();
        for director in &mut self.directors {
            let Some(mut child) = director.child.take() else { continue };
            while matches!(child.try_wait(), Ok(None)) && Instant::now() < deadline {
                thread::sleep(Duration::from_millis(5));
            }
            if matches!(child.try_wait(), Ok(None)) {
                slow.push(director.number.to_string());
                end_now(&mut child);
            }
        }
        if slow.is_empty() {
            return Ok(());
        }
        let (slow, waited) = (slow.join(" and "), GOODBYE_PATIENCE.as_secs());
        Err(Trouble::failed(format!("director {slow} did not end within {waited} s of SIGTERM and was killed")))
    }

    /// What a director sees of its backends.
    pub(super) fn backends(&mut self, number: usize) -> Act<Vec<Backend>> {
        let stop = self.stop.clone();
        self.directors[number - 1].operator(&stop)?.backends()
    }

    /// Changes a backend's weight through one director.
    pub(super) fn set_weight(&mut self, number: usize, backend: Ipv4Addr, weight: u32) -> Act<()> {
        let stop = self.stop.clone();
        self.directors[number - 1].operator(&stop)?.set_weight(backend.into(), weight)
    }

    /// Waits until a director that was started listens.
    pub(super) fn await_sockets(&mut self, number: usize, patience: Duration) -> Act<Duration> {
        self.await_state(patience, &format!("director {number} does not listen"), |this| {
            let stop = this.stop.clone();
            match this.directors[number - 1].operator(&stop) {
                Ok(_) => Ok(true),
                Err(Trouble::Lost(_)) => Ok(false),
                Err(trouble) => Err(trouble),
            }
        })
    }

    /// Waits until the running directors are one ring: each is synced and linked with its two neighbours.
    pub(super) fn await_ring(&mut self, patience: Duration) -> Act<Duration> {
        let running = self.running();
        let ring: Vec<_> = running.iter().map(|&number| self.directors[number - 1].address).collect();
        self.await_state(patience, "the ring is not synced", |this| {
            for (place, &number) in running.iter().enumerate() {
                let stop = this.stop.clone();
                let members = this.directors[number - 1].operator(&stop).and_then(Operator::members);
                match members {
                    Ok(members) if is_in_ring(&ring, place, &members) => {}
                    Ok(_) => return Ok(false),
                    // Just started: it does not listen yet. Or it has ended: `inspect` says so then.
                    Err(Trouble::Lost(_)) => {
                        this.directors[number - 1].operator = None;
                        return Ok(false);
                    }
                    Err(trouble) => return Err(trouble),
                }
            }
            Ok(true)
        })
    }

    /// Waits until all running directors know so many users.
    pub(super) fn await_users(&mut self, count: u64, patience: Duration) -> Act<Duration> {
        self.await_state(patience, &format!("not every director knows {count} users"), |this| {
            for number in this.running() {
                if this.backends(number)?.iter().map(|backend| backend.users).sum::<u64>() != count {
                    return Ok(false);
                }
            }
            Ok(true)
        })
    }

    /// Waits for a state of the ring; returns how long that took.
    fn await_state(
        &mut self,
        patience: Duration,
        otherwise: &str,
        mut is_there: impl FnMut(&mut Self) -> Act<bool>,
    ) -> Act<Duration> {
        let start = Instant::now();
        loop {
            self.stop.check()?;
            self.inspect()?;
            if is_there(self)? {
                return Ok(start.elapsed());
            }
            if start.elapsed() >= patience {
                return Err(Trouble::failed(format!("{otherwise} after {} s", patience.as_secs())));
            }
            thread::sleep(Duration::from_millis(2));
        }
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        for director in &mut self.directors {
            if let Some(child) = &mut director.child {
                end_now(child);
            }
        }
    }
}

/// If it has ended already, so much the better.
fn end_now(child: &mut Child) {
    let _ = child.kill();
    let _ = child.wait();
}

impl Director {
    fn configuration_file(&self) -> PathBuf {
        self.folder.join("director.conf")
    }

    /// What it logs.
    pub(super) fn log_file(&self) -> PathBuf {
        self.folder.join("log")
    }

    /// Its sockets and its FIFO.
    pub(super) fn sockets(&self) -> [PathBuf; 3] {
        ["director-authreply", "director-admin", "login/proxy-notify"].map(|name| self.folder.join(name))
    }

    pub(super) fn process(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    /// How it ended, if it has, since the last call.
    pub(super) fn ended(&mut self) -> Option<ExitStatus> {
        let status = self.child.as_mut()?.try_wait().ok()??;
        self.child = None;
        self.operator = None;
        Some(status)
    }

    fn write_files(&self, configuration: &str) -> io::Result<()> {
        DirBuilder::new().recursive(true).mode(0o700).create(self.folder.join("login"))?;
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(self.configuration_file())?;
        file.write_all(configuration.as_bytes())
    }

    fn operator(&mut self, stop: &Stop) -> Act<&mut Operator> {
        match &mut self.operator {
            Some(operator) => Ok(operator),
            none => Ok(none.insert(Operator::connect(&self.folder, stop)?)),
        }
    }

    /// The last thing that it said, wherever it said it.
    fn last_words(&self) -> String {
        let last = |path: PathBuf| {
            let text = fs::read_to_string(path).ok()?;
            text.lines().last().map(str::to_owned)
        };
        last(self.folder.join("stderr")).or_else(|| last(self.log_file())).unwrap_or_else(|| "none".to_owned())
    }
}

/// Whether the member at a place of the ring says that it is synced, and linked with its neighbours and nobody else.
fn is_in_ring(ring: &[SocketAddr], place: usize, members: &[Member]) -> bool {
    let right = ring[(place + 1) % ring.len()];
    let left = ring[(place + ring.len() - 1) % ring.len()];
    let mut links: Vec<_> = members.iter().filter(|member| !member.status.is_empty()).collect();
    links.sort_by_key(|member| &member.link);
    let seen: Vec<_> = links.iter().map(|member| (member.address, &*member.link, &*member.status)).collect();
    seen == [(left, "left", "synced"), (right, "right", "synced"), (ring[place], "self", "ring synced")]
}

/// Addresses for the ring that nobody uses, all with one port.
fn addresses() -> Act<Vec<SocketAddr>> {
    // All of 127.0.0.0/8 is this machine. The third number is ours alone, most likely; binding is what tells.
    let first = std::process::id() % 256;
    let mut reason = String::new();
    for port in PORTS {
        for third in (first..first + 8).map(|third| (third % 256) as u8) {
            let address = |last| SocketAddr::from(([127, 77, third, last], port));
            let addresses: Vec<_> = (1..=DIRECTORS as u8).map(address).collect();
            let listeners: Result<Vec<_>, _> = addresses.iter().map(TcpListener::bind).collect();
            match listeners {
                Ok(_) => return Ok(addresses),
                Err(error) => reason = format!("{}: {error}", addresses[0]),
            }
        }
    }
    Err(Trouble::failed(format!(
        "no free addresses in 127.77.0.0/16 ({reason}); the demonstration needs a system where all of 127.0.0.0/8 is \
         the machine itself, such as Linux, with its loopback interface up (ip link set lo up)"
    )))
}

/// A whole director.conf, as small as an operator's own could be.
fn configuration(base_dir: &Path, address: SocketAddr, ring: &[SocketAddr]) -> String {
    let words = |addresses: &[String]| addresses.join(" ");
    let servers = words(&ring.iter().map(ToString::to_string).collect::<Vec<_>>());
    let mail_servers = words(&BACKENDS.iter().map(ToString::to_string).collect::<Vec<_>>());
    let (base_dir, ip, port) = (base_dir.display(), address.ip(), address.port());
    format!(
        "\
# One of three directors of the demonstration (director demo).
base_dir = \"{base_dir}\"
log_path = \"{base_dir}/log\"

director_servers = {servers}
director_mail_servers = {mail_servers}

service director {{
  # whoever shows it: the folder is that one's own
  user = root

  # the ring
  inet_listener {{
    address = {ip}
    port = {port}
  }}
  # logins
  unix_listener director-authreply {{
    mode = 0600
  }}
  # operators
  unix_listener director-admin {{
    mode = 0600
  }}
  # \"this user is still here\"
  fifo_listener login/proxy-notify {{
    mode = 0600
  }}
}}
"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ring() -> Vec<SocketAddr> {
        (1..=3).map(|last| SocketAddr::from(([127, 77, 0, last], 9090))).collect()
    }

    fn member(address: SocketAddr, link: &str, status: &str) -> Member {
        Member { address, link: link.to_owned(), status: status.to_owned() }
    }

    #[test]
    fn a_ring_is_whole_when_the_right_neighbours_are_linked() {
        let ring = ring();
        let whole = [
            member(ring[0], "self", "ring synced"),
            member(ring[1], "right", "synced"),
            member(ring[2], "left", "synced"),
        ];
        assert!(is_in_ring(&ring, 0, &whole));
        assert!(!is_in_ring(&ring, 1, &whole), "that is another member's view");
        let with = |index: usize, member: Member| {
            let mut members = whole.to_vec();
            members[index] = member;
            is_in_ring(&ring, 0, &members)
        };
        assert!(!with(0, member(ring[0], "self", "ring handshaking")));
        assert!(!with(1, member(ring[1], "right", "syncing")));
        assert!(!with(1, member(ring[1], "", "")), "no link");
        let mut more = whole.to_vec();
        more.push(member(ring[2], "in", "synced"));
        assert!(!is_in_ring(&ring, 0, &more), "it is still changing");
    }

    #[test]
    fn a_ring_of_two_has_two_links_between_the_same() {
        let ring = ring();
        let two = [ring[0], ring[2]];
        let members = [
            member(ring[0], "left", "synced"),
            member(ring[0], "right", "synced"),
            member(ring[1], "", ""),
            member(ring[2], "self", "ring synced"),
        ];
        assert!(is_in_ring(&two, 1, &members));
        assert!(!is_in_ring(&two, 1, &members[1..]));
    }

    #[test]
    fn a_configuration_is_one_that_the_director_reads_without_a_warning() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("director.conf");
        fs::write(&file, configuration(Path::new("/tmp/a # b"), ring()[1], &ring())).unwrap();
        let checked = director_std::configuration::check(&file);
        assert!(checked.warnings.is_empty(), "{:?}", checked.warnings);
        assert!(checked.text.contains("/tmp/a # b/director-admin"), "{}", checked.text);
    }
}
