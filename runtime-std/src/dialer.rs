//! Outgoing connections, and how long a missing peer is waited for.
//!
//! To connect to another director is one try: the ring has its own ideas of when to try again. Dovecot's auth sockets are
//! another matter. They are not there yet when the director starts first, are root's alone for a moment when Dovecot makes
//! them, and are away for a moment whenever Dovecot is restarted; a login process whose connection were dropped for that
//! would tell its users "temporary failure". So those are tried again for [`AUTH_PATIENCE`] before the core hears of it,
//! and the log has one warning for the whole time, and one line when it is over.

use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use director_core::{FlushTarget, Role, Target};
use rustix::fs::Access;
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};

use crate::script;

/// How long a connection waits for Dovecot's auth: as long as a lookup waits for a backend, so that a login process sees
/// one limit, whatever is late.
pub const AUTH_PATIENCE: Duration = Duration::from_secs(30);

/// How long a connection to `ipc` or `anvil` waits when its queue is full. A kick that waits for it must not
/// eat up the time of the move it belongs to (30 s).
pub const BUSY_PATIENCE: Duration = Duration::from_secs(5);

/// While a peer is away, one connection in this time tries whether it is back; the others wait for that one.
const PROBE_INTERVAL: Duration = Duration::from_millis(100);

/// The pause of a connection that finds a full queue doubles from this …
const BUSY_PAUSE_MIN: Duration = Duration::from_millis(5);

/// … to this, so that thousands of waiting connections are not a load of their own.
const BUSY_PAUSE_MAX: Duration = Duration::from_millis(320);

/// Makes connections for one director.
#[derive(Debug)]
pub struct Dialer {
    base_dir: PathBuf,
    auth_login: Peer,
    auth_userdb: Peer,
}

/// What is known about one of Dovecot's auth sockets.
#[derive(Debug, Default)]
struct Peer {
    /// The director has listeners that need it.
    needed: bool,
    away: Option<Away>,
}

#[derive(Debug)]
struct Away {
    /// `NOENT` and `ACCESS` are the file's own, so that its return can be seen without connecting.
    why: Errno,
    next_probe: Instant,
}

/// One connection that is being made.
#[derive(Debug)]
pub struct Dial {
    target: Target,
    start: Instant,
    tries: u32,
    /// What [`Attempt::Resolve`] came to.
    address: Option<io::Result<SocketAddr>>,
}

impl Dial {
    /// A connection to make from now on.
    pub fn new(target: Target, now: Instant) -> Self {
        Self { target, start: now, tries: 0, address: None }
    }

    /// What [`Attempt::Resolve`] came to, for the next try.
    pub fn resolved(&mut self, address: io::Result<SocketAddr>) {
        self.address = Some(address);
    }
}

/// What came of a try.
#[derive(Debug)]
pub enum Attempt {
    /// Connected. The descriptor is non-blocking.
    Connected(OwnedFd),
    /// Under way: when the descriptor is writable, ask [`finish`].
    UnderWay(OwnedFd),
    /// Try again after this pause.
    Again(Duration),
    /// A name: [`resolve`] it where it may block, tell the [`Dial`], and try again.
    Resolve(String, u16),
    /// It cannot be made.
    Failed(io::Error),
}

/// Resolves a name for [`Attempt::Resolve`]. It blocks.
///
/// # Errors
/// The name is unknown, or could not be asked for.
pub fn resolve(host: &str, port: u16) -> io::Result<SocketAddr> {
    let unknown = || io::Error::new(io::ErrorKind::NotFound, format!("{host} has no address"));
    (host, port).to_socket_addrs()?.next().ok_or_else(unknown)
}

/// Whether a connection that was under way, and whose descriptor is now writable, is made.
///
/// # Errors
/// Why it is not.
pub fn finish(descriptor: &OwnedFd) -> io::Result<()> {
    Ok(rustix::net::sockopt::socket_error(descriptor)??)
}

impl Dialer {
    /// A dialer for the sockets in a base_dir; it looks after auth's for listeners of the given roles.
    pub fn new(base_dir: &Path, has: impl Fn(Role) -> bool) -> Self {
        let mut this =
            Self { base_dir: base_dir.to_owned(), auth_login: Peer::default(), auth_userdb: Peer::default() };
        this.watch(has);
        this
    }

    /// The listeners changed: look after the auth sockets that those need.
    pub fn watch(&mut self, has: impl Fn(Role) -> bool) {
        self.auth_login.needed = has(Role::Login);
        self.auth_userdb.needed = has(Role::Userdb);
    }

    /// Says, once, if a socket that will be needed is out of reach, and that it is back. To be called at the start and
    /// every second or so.
    pub fn inspect(&mut self, now: Instant) {
        for target in [Target::AuthLogin, Target::AuthUserdb] {
            let path = self.path(&target);
            let Some(peer) = self.peer(&target).filter(|peer| peer.needed) else { continue };
            match (rustix::fs::access(&path, Access::WRITE_OK), &peer.away) {
                (Err(error @ (Errno::NOENT | Errno::ACCESS)), None) => peer.leaves(&path, error, now),
                (Ok(()), Some(Away { why: Errno::NOENT | Errno::ACCESS, .. })) => peer.returns(&path),
                _ => {}
            }
        }
    }

    /// Tries to connect.
    pub fn attempt(&mut self, dial: &mut Dial, now: Instant) -> Attempt {
        match &dial.target {
            Target::Ring { to, from } => match connect_tcp(*to, (*from, 0).into()) {
                Ok(attempt) => attempt,
                Err(error) => Attempt::Failed(error.into()),
            },
            Target::Flush(FlushTarget::Tcp { host, port }) => match host.parse::<IpAddr>() {
                Ok(ip) => attempt_flush_tcp((ip, *port).into()),
                Err(_) => match dial.address.take() {
                    None => Attempt::Resolve(host.clone(), *port),
                    Some(Ok(address)) => attempt_flush_tcp(address),
                    Some(Err(error)) => Attempt::Failed(error),
                },
            },
            Target::Flush(FlushTarget::Program { path, arguments }) => match script::start(path, arguments) {
                Ok(descriptor) => Attempt::Connected(descriptor),
                Err(error) => Attempt::Failed(error),
            },
            Target::AuthLogin
            | Target::AuthUserdb
            | Target::Ipc
            | Target::Anvil
            | Target::Flush(FlushTarget::Unix { .. }) => self.attempt_unix(dial, now),
        }
    }

    fn attempt_unix(&mut self, dial: &mut Dial, now: Instant) -> Attempt {
        let path = self.path(&dial.target);
        let waited = now.saturating_duration_since(dial.start);
        let peer = self.peer(&dial.target);
        if let Some(away) = peer.as_ref().and_then(|peer| peer.away.as_ref()) {
            if waited >= AUTH_PATIENCE {
                return Attempt::Failed(io::Error::new(
                    io::ErrorKind::TimedOut,
                    format!("{}: not there", path.display()),
                ));
            }
            if now < away.next_probe {
                return Attempt::Again(away.next_probe - now);
            }
        }
        let error = match connect_unix(&path) {
            Ok(descriptor) => {
                if let Some(peer) = peer.filter(|peer| peer.away.is_some()) {
                    peer.returns(&path);
                }
                return Attempt::Connected(descriptor);
            }
            Err(error) => error,
        };
        match (error, peer) {
            (Errno::AGAIN, peer) if waited < if peer.is_some() { AUTH_PATIENCE } else { BUSY_PATIENCE } => {
                let pause = BUSY_PAUSE_MIN.saturating_mul(1 << dial.tries.min(16)).min(BUSY_PAUSE_MAX);
                dial.tries += 1;
                Attempt::Again(pause)
            }
            (Errno::NOENT | Errno::ACCESS | Errno::CONNREFUSED, Some(peer)) if waited < AUTH_PATIENCE => {
                peer.leaves(&path, error, now);
                Attempt::Again(PROBE_INTERVAL)
            }
            _ => Attempt::Failed(io::Error::new(io::Error::from(error).kind(), format!("{}: {error}", path.display()))),
        }
    }

    fn path(&self, target: &Target) -> PathBuf {
        self.base_dir.join(match target {
            Target::AuthLogin => "auth-login",
            Target::AuthUserdb => "auth-userdb",
            Target::Ipc => "ipc",
            Target::Anvil => "anvil",
            Target::Flush(FlushTarget::Unix { path }) => path,
            Target::Ring { .. } | Target::Flush(_) => "",
        })
    }

    /// The state of a socket that is waited for.
    fn peer(&mut self, target: &Target) -> Option<&mut Peer> {
        match target {
            Target::AuthLogin => Some(&mut self.auth_login),
            Target::AuthUserdb => Some(&mut self.auth_userdb),
            // Without ipc and anvil a kick fails, which is logged, and the move goes on: waiting would only delay it.
            Target::Ipc | Target::Anvil | Target::Ring { .. } | Target::Flush(_) => None,
        }
    }
}

impl Peer {
    fn leaves(&mut self, path: &Path, why: Errno, now: Instant) {
        if self.away.is_none() {
            log::warn!("waiting for {}: {why} (is Dovecot running? its auth service makes it)", path.display());
        }
        self.away = Some(Away { why, next_probe: now + PROBE_INTERVAL });
    }

    fn returns(&mut self, path: &Path) {
        log::info!("{} is there", path.display());
        self.away = None;
    }
}

fn connect_unix(path: &Path) -> Result<OwnedFd, Errno> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    // A unix socket connects at once or not at all.
    rustix::net::connect(&socket, &SocketAddrUnix::new(path)?)?;
    Ok(socket)
}

fn attempt_flush_tcp(to: SocketAddr) -> Attempt {
    let from = if to.is_ipv4() { IpAddr::from([0, 0, 0, 0]) } else { IpAddr::from([0; 16]) };
    connect_tcp(to, (from, 0).into()).unwrap_or_else(|error| Attempt::Failed(error.into()))
}

fn connect_tcp(to: SocketAddr, from: SocketAddr) -> Result<Attempt, Errno> {
    let family = if to.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(family, SocketType::STREAM, flags, None)?;
    // The other side knows us by this address.
    rustix::net::bind(&socket, &from)?;
    rustix::net::sockopt::set_tcp_nodelay(&socket, true)?;
    match rustix::net::connect(&socket, &to) {
        Ok(()) => Ok(Attempt::Connected(socket)),
        Err(Errno::INPROGRESS) => Ok(Attempt::UnderWay(socket)),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::event::{PollFd, PollFlags, poll};
    use std::fs::{self, Permissions};
    use std::net::TcpListener;
    use std::os::unix::fs::PermissionsExt;
    use std::os::unix::net::UnixListener;

    fn dialer(folder: &Path) -> Dialer {
        Dialer::new(folder, |role| role == Role::Login)
    }

    fn is_again(attempt: &Attempt) -> bool {
        matches!(attempt, Attempt::Again(_))
    }

    #[test]
    fn auth_is_waited_for_and_told_of_once() {
        let folder = tempfile::tempdir().unwrap();
        let mut dialer = dialer(folder.path());
        let mut now = Instant::now();
        let mut dial = Dial::new(Target::AuthLogin, now);
        let Attempt::Again(pause) = dialer.attempt(&mut dial, now) else { panic!() };
        assert!(dialer.auth_login.away.as_ref().is_some_and(|away| away.why == Errno::NOENT));
        let _listener = UnixListener::bind(folder.path().join("auth-login")).unwrap();
        assert!(is_again(&dialer.attempt(&mut dial, now)), "no try before its time");
        now += pause;
        assert!(matches!(dialer.attempt(&mut dial, now), Attempt::Connected(_)));
        assert!(dialer.auth_login.away.is_none());
    }

    #[test]
    fn auth_is_waited_for_when_it_refuses_but_not_for_ever() {
        let folder = tempfile::tempdir().unwrap();
        drop(UnixListener::bind(folder.path().join("auth-userdb")).unwrap());
        let mut dialer = dialer(folder.path());
        let start = Instant::now();
        let mut dial = Dial::new(Target::AuthUserdb, start);
        assert!(is_again(&dialer.attempt(&mut dial, start)));
        assert!(is_again(&dialer.attempt(&mut dial, start + AUTH_PATIENCE - Duration::from_secs(1))));
        let Attempt::Failed(error) = dialer.attempt(&mut dial, start + AUTH_PATIENCE) else { panic!() };
        assert!(error.to_string().contains("auth-userdb"), "{error}");
        // A later connection has its own patience.
        assert!(is_again(
            &dialer.attempt(&mut Dial::new(Target::AuthUserdb, start + AUTH_PATIENCE), start + AUTH_PATIENCE)
        ));
    }

    /// Dovecot makes its sockets as root, and then gives them their owners.
    #[test]
    fn auth_is_waited_for_while_it_is_another_users() {
        let folder = tempfile::tempdir().unwrap();
        fs::set_permissions(folder.path(), Permissions::from_mode(0o755)).unwrap();
        let path = folder.path().join("auth-login");
        let _listener = UnixListener::bind(&path).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o000)).unwrap();
        let start = Instant::now();
        let mut dialer = dialer(folder.path());
        let mut dial = Dial::new(Target::AuthLogin, start);
        let attempt = as_nobody(|| {
            dialer.inspect(start);
            dialer.attempt(&mut dial, start + PROBE_INTERVAL)
        });
        assert!(is_again(&attempt), "{attempt:?}");
        fs::set_permissions(&path, Permissions::from_mode(0o666)).unwrap();
        let attempt = as_nobody(|| {
            dialer.inspect(start + PROBE_INTERVAL);
            assert!(dialer.auth_login.away.is_none());
            dialer.attempt(&mut dial, start + PROBE_INTERVAL * 2)
        });
        assert!(matches!(attempt, Attempt::Connected(_)), "{attempt:?}");
    }

    /// Does something as a user for whom modes count, in a thread of its own if this one is root's.
    fn as_nobody<T: Send>(what: impl FnOnce() -> T + Send) -> T {
        let become_nobody = || {
            if rustix::process::geteuid().is_root() {
                let nobody = rustix::process::Uid::from_raw(65534);
                rustix::thread::set_thread_res_uid(nobody, nobody, nobody).unwrap();
            }
        };
        std::thread::scope(|scope| {
            let done = scope.spawn(move || {
                become_nobody();
                what()
            });
            done.join().unwrap()
        })
    }

    #[test]
    fn while_auth_is_away_only_one_connection_tries() {
        let folder = tempfile::tempdir().unwrap();
        let mut dialer = dialer(folder.path());
        let now = Instant::now();
        let mut dials: Vec<_> = (0..100).map(|_| Dial::new(Target::AuthLogin, now)).collect();
        assert!(is_again(&dialer.attempt(&mut dials[0], now)));
        // The others do not even notice that it is back, until the time of the next try.
        let _listener = UnixListener::bind(folder.path().join("auth-login")).unwrap();
        assert!(dials.iter_mut().all(|dial| is_again(&dialer.attempt(dial, now))));
        let later = now + PROBE_INTERVAL;
        assert!(matches!(dialer.attempt(&mut dials[7], later), Attempt::Connected(_)));
        assert!(matches!(dialer.attempt(&mut dials[8], later), Attempt::Connected(_)));
    }

    #[test]
    fn missing_auth_is_noticed_without_connections() {
        let folder = tempfile::tempdir().unwrap();
        let mut dialer = dialer(folder.path());
        let now = Instant::now();
        dialer.inspect(now);
        assert!(dialer.auth_login.away.is_some());
        assert!(dialer.auth_userdb.away.is_none(), "nobody needs it");
        let _listener = UnixListener::bind(folder.path().join("auth-login")).unwrap();
        dialer.inspect(now);
        assert!(dialer.auth_login.away.is_none());
    }

    #[test]
    fn ipc_is_not_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let now = Instant::now();
        let Attempt::Failed(error) = dialer(folder.path()).attempt(&mut Dial::new(Target::Ipc, now), now) else {
            panic!()
        };
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn full_queue_is_waited_for_with_growing_pauses() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("auth-login");
        let listener =
            rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None).unwrap();
        rustix::net::bind(&listener, &SocketAddrUnix::new(&path).unwrap()).unwrap();
        rustix::net::listen(&listener, 0).unwrap();
        let _first = connect_unix(&path).unwrap();
        let mut dialer = dialer(folder.path());
        let start = Instant::now();
        let mut dial = Dial::new(Target::AuthLogin, start);
        let pauses: Vec<_> = (0..9)
            .map(|_| match dialer.attempt(&mut dial, start) {
                Attempt::Again(pause) => pause.as_millis(),
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(pauses, [5, 10, 20, 40, 80, 160, 320, 320, 320]);
        assert!(dialer.auth_login.away.is_none(), "it is there, only busy");
        assert!(matches!(dialer.attempt(&mut dial, start + AUTH_PATIENCE), Attempt::Failed(_)));
        drop(rustix::net::accept(&listener).unwrap());
        assert!(matches!(dialer.attempt(&mut dial, start), Attempt::Connected(_)));
    }

    #[test]
    fn ring_connections_come_from_our_address() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let folder = tempfile::tempdir().unwrap();
        let now = Instant::now();
        let to = listener.local_addr().unwrap();
        let target = Target::Ring { to, from: "127.0.0.77".parse().unwrap() };
        let descriptor = match dialer(folder.path()).attempt(&mut Dial::new(target, now), now) {
            Attempt::Connected(descriptor) | Attempt::UnderWay(descriptor) => descriptor,
            other => panic!("{other:?}"),
        };
        let (_stream, peer) = listener.accept().unwrap();
        assert_eq!(peer.ip(), "127.0.0.77".parse::<IpAddr>().unwrap());
        finish(&descriptor).unwrap();
    }

    #[test]
    fn refused_ring_connection_fails() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let to = listener.local_addr().unwrap();
        drop(listener);
        let folder = tempfile::tempdir().unwrap();
        let now = Instant::now();
        let mut dialer = dialer(folder.path());
        let from = "127.0.0.1".parse().unwrap();
        match dialer.attempt(&mut Dial::new(Target::Ring { to, from }, now), now) {
            Attempt::UnderWay(descriptor) => {
                poll(&mut [PollFd::new(&descriptor, PollFlags::OUT)], None).unwrap();
                assert_eq!(finish(&descriptor).unwrap_err().kind(), io::ErrorKind::ConnectionRefused);
            }
            Attempt::Failed(error) => assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused),
            other => panic!("{other:?}"),
        }
        let from = "192.0.2.1".parse().unwrap();
        let attempt = dialer.attempt(&mut Dial::new(Target::Ring { to, from }, now), now);
        assert!(matches!(attempt, Attempt::Failed(_)), "not an address of ours");
    }
}
