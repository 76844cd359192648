//! Listeners on real files of a temporary folder.

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};

use super::*;
use crate::configuration::tests::settings;

/// A base_dir as Dovecot makes it, and settings for it.
struct Site {
    folder: tempfile::TempDir,
    settings: Settings,
}

impl Site {
    fn new(listeners: Vec<Listener>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("login")).unwrap();
        let settings = Settings { base_dir: folder.path().to_owned(), listeners, ..settings() };
        Self { folder, settings }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn open(&self) -> (Listeners, Vec<Change>) {
        Listeners::open(&self.settings, Opener::default()).unwrap()
    }

    /// The files in base_dir and below, without folders.
    fn files(&self) -> Vec<String> {
        let mut names = Vec::new();
        for folder in ["", "login", "login/ext"] {
            for entry in fs::read_dir(self.path(folder)).into_iter().flatten().flatten() {
                if !entry.file_type().unwrap().is_dir() {
                    names.push(Path::new(folder).join(entry.file_name()).display().to_string());
                }
            }
        }
        names.sort();
        names
    }
}

fn file(role: Role, path: &str, fifo: bool, mode: u32) -> Listener {
    let socket = Socket::File { path: path.into(), fifo, mode, user: String::new(), group: String::new() };
    Listener { role, socket, place: Place { file: "director.conf".into(), line: 3 } }
}

fn admin() -> Listener {
    file(Role::Admin, "director-admin", false, 0o600)
}

fn login() -> Listener {
    file(Role::Login, "login/ext/director", false, 0o666)
}

fn notify() -> Listener {
    file(Role::Notify, "login/proxy-notify", true, 0o622)
}

fn inet(role: Role, port: u16) -> Listener {
    let socket = Socket::Inet { name: String::new(), addresses: vec!["127.0.0.1".parse().unwrap()], port };
    Listener { role, socket, place: Place::default() }
}

fn opened(changes: &[Change]) -> usize {
    changes.iter().filter(|change| matches!(change, Change::Open { .. })).count()
}

fn closed(changes: &[Change]) -> usize {
    changes.len() - opened(changes)
}

#[test]
fn sockets_get_their_kinds_modes_and_folders() {
    let place = Site::new(vec![admin(), login(), notify()]);
    let (mut listeners, changes) = place.open();
    assert_eq!(opened(&changes), 3);
    assert!(changes.iter().any(|change| matches!(change, Change::Open { role: Role::Notify, fifo: true, .. })));
    assert_eq!(place.files(), ["director-admin", "login/ext/director", "login/proxy-notify"], "and nothing hidden");
    for (name, mode) in [("director-admin", 0o600), ("login/ext/director", 0o666), ("login/proxy-notify", 0o622)] {
        assert_eq!(fs::metadata(place.path(name)).unwrap().permissions().mode() & 0o7777, mode, "{name}");
    }
    assert_eq!(fs::metadata(place.path("login/ext")).unwrap().permissions().mode() & 0o7777, 0o755);
    assert!(fs::metadata(place.path("login/proxy-notify")).unwrap().file_type().is_fifo());
    UnixStream::connect(place.path("login/ext/director")).unwrap();
    listeners.remove_files();
    assert_eq!(place.files(), Vec::<String>::new());
}

#[test]
fn owner_is_set() {
    if !own_user().is_root() {
        return; // Only root may give files away.
    }
    let mut listener = admin();
    if let Socket::File { user, group, .. } = &mut listener.socket {
        (*user, *group) = ("nobody".into(), "12".into());
    }
    let place = Site::new(vec![listener]);
    let (_listeners, _changes) = place.open();
    let metadata = fs::metadata(place.path("director-admin")).unwrap();
    assert_eq!(metadata.uid(), nix::unistd::User::from_name("nobody").unwrap().unwrap().uid.as_raw());
    assert_eq!((metadata.gid(), metadata.mode() & 0o777), (12, 0o600));
}

#[test]
fn stale_socket_is_replaced_and_living_one_is_not() {
    let place = Site::new(vec![admin()]);
    let path = place.path("director-admin");
    let other = UnixListener::bind(&path).unwrap();
    let failure = Listeners::open(&place.settings, Opener::default()).unwrap_err();
    assert_eq!(failure.exit, Exit::Unavailable);
    assert!(failure.message.starts_with("director.conf:3: admin socket: another process listens on "), "{failure}");
    assert!(failure.message.contains("director-admin"), "{failure}");
    UnixStream::connect(&path).expect("the other one is left alone");
    drop(other);
    let (_listeners, changes) = place.open();
    assert_eq!(opened(&changes), 1);
    UnixStream::connect(&path).unwrap();
}

#[test]
fn second_instance_is_told_by_its_fifo_or_port_too() {
    for listener in [notify(), inet(Role::Admin, 0)] {
        let mut place = Site::new(vec![listener]);
        let (_first, changes) = place.open();
        if let (Change::Open { descriptor, fifo: false, .. }, Socket::Inet { port, .. }) =
            (&changes[0], &mut place.settings.listeners[0].socket)
        {
            let address = rustix::net::getsockname(descriptor).unwrap();
            *port = std::net::SocketAddr::try_from(address).unwrap().port();
        }
        let failure = Listeners::open(&place.settings, Opener::default()).unwrap_err();
        assert_eq!(failure.exit, Exit::Unavailable, "{failure}");
    }
}

#[test]
fn a_failed_start_leaves_no_files() {
    let place = Site::new(vec![admin(), notify(), login()]);
    fs::create_dir(place.path("login/ext")).unwrap();
    let _other = UnixListener::bind(place.path("login/ext/director")).unwrap();
    Listeners::open(&place.settings, Opener::default()).unwrap_err();
    assert_eq!(place.files(), ["login/ext/director"], "the other's");
}

#[test]
fn something_else_in_the_way_is_not_removed() {
    let place = Site::new(vec![admin()]);
    fs::write(place.path("director-admin"), "precious").unwrap();
    let failure = Listeners::open(&place.settings, Opener::default()).unwrap_err();
    assert_eq!(failure.exit, Exit::CannotCreate);
    assert!(failure.message.contains("move it away"), "{failure}");
    assert_eq!(fs::read_to_string(place.path("director-admin")).unwrap(), "precious");
}

#[test]
fn left_fifo_is_taken_over_with_its_writers() {
    let place = Site::new(vec![notify()]);
    let (listeners, changes) = place.open();
    let path = place.path("login/proxy-notify");
    let flags = rustix::fs::OFlags::WRONLY | rustix::fs::OFlags::NONBLOCK;
    let writer = rustix::fs::open(&path, flags, rustix::fs::Mode::empty()).unwrap();
    // As after a kill: the descriptor goes, the file stays.
    std::mem::forget(listeners);
    drop(changes);
    let (_listeners, changes) = place.open();
    assert_eq!(rustix::io::write(&writer, b"user\n"), Ok(5));
    let Change::Open { descriptor, .. } = &changes[0] else { panic!() };
    let mut buffer = [0; 16];
    assert_eq!(rustix::io::read(descriptor, &mut buffer), Ok(5));
    drop(writer);
    assert_eq!(rustix::io::read(descriptor, &mut buffer), Err(rustix::io::Errno::AGAIN), "no end of file");
}

#[test]
fn vanished_files_are_made_again() {
    let place = Site::new(vec![admin(), login(), notify()]);
    let (mut listeners, _changes) = place.open();
    let now = Instant::now();
    assert!(listeners.inspect(now).is_empty(), "all in place");
    for name in ["director-admin", "login/ext/director", "login/proxy-notify"] {
        fs::remove_file(place.path(name)).unwrap();
    }
    let changes = listeners.inspect(now);
    assert_eq!((opened(&changes), closed(&changes)), (3, 3));
    UnixStream::connect(place.path("login/ext/director")).unwrap();
    assert_eq!(fs::metadata(place.path("login/ext/director")).unwrap().mode() & 0o777, 0o666);
    assert!(listeners.inspect(now).is_empty());
    // With its folder.
    fs::remove_dir_all(place.path("login")).unwrap();
    assert!(listeners.inspect(now).is_empty(), "waits for Dovecot's folder");
    fs::create_dir(place.path("login")).unwrap();
    let changes = listeners.inspect(now);
    assert_eq!((opened(&changes), closed(&changes)), (2, 2));
    UnixStream::connect(place.path("login/ext/director")).unwrap();
}

#[test]
fn missing_folders_of_dovecot_are_waited_for() {
    let place = Site::new(vec![admin(), login()]);
    fs::remove_dir(place.path("login")).unwrap();
    let (mut listeners, changes) = place.open();
    assert_eq!(opened(&changes), 1, "the admin socket need not wait");
    assert_eq!(
        listeners.entries[1].complaint.as_deref().map(|text| text.contains("/login, which Dovecot")),
        Some(true)
    );
    assert!(listeners.inspect(Instant::now()).is_empty());
    let told = |listeners: &Listeners| {
        let descriptor = listeners.wake_descriptor().expect("inotify");
        let mut fds = [rustix::event::PollFd::new(descriptor, rustix::event::PollFlags::IN)];
        rustix::event::poll(&mut fds, Some(&rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 })).unwrap() > 0
    };
    assert!(!told(&listeners));
    assert!(!place.path("login").exists(), "it is not ours to make");
    fs::create_dir(place.path("login")).unwrap();
    assert!(told(&listeners));
    let changes = listeners.inspect(Instant::now());
    assert_eq!(opened(&changes), 1);
    assert!(!told(&listeners));
    UnixStream::connect(place.path("login/ext/director")).unwrap();
    assert_eq!(listeners.entries[1].complaint, None);
}

#[test]
fn missing_base_dir_is_waited_for() {
    let place = Site::new(vec![admin(), login(), notify()]);
    fs::remove_dir_all(place.folder.path()).unwrap();
    let (mut listeners, changes) = place.open();
    assert!(changes.is_empty());
    listeners.inspect(Instant::now());
    fs::create_dir_all(place.path("login")).unwrap();
    assert_eq!(opened(&listeners.inspect(Instant::now())), 3);
}

#[test]
fn path_taken_by_another_process_is_left_to_it_until_it_ends() {
    let place = Site::new(vec![admin()]);
    let path = place.path("director-admin");
    let (mut listeners, _changes) = place.open();
    fs::remove_file(&path).unwrap();
    let other = UnixListener::bind(&path).unwrap();
    let now = Instant::now();
    assert!(listeners.inspect(now).is_empty());
    drop(other);
    assert!(listeners.inspect(now).is_empty(), "not looked at every time");
    let changes = listeners.inspect(now + TAKEN_PAUSE);
    assert_eq!(opened(&changes), 1);
    UnixStream::connect(&path).unwrap();
}

#[test]
fn only_own_files_are_removed_at_the_end() {
    let place = Site::new(vec![admin(), login()]);
    let (listeners, _changes) = place.open();
    fs::remove_file(place.path("director-admin")).unwrap();
    let _other = UnixListener::bind(place.path("director-admin")).unwrap();
    drop(listeners);
    assert_eq!(place.files(), ["director-admin"]);
}

#[test]
fn reload_opens_closes_and_changes_modes() {
    let mut place = Site::new(vec![admin(), login(), inet(Role::Ring, 0)]);
    let (mut listeners, _changes) = place.open();
    assert!(listeners.reload(&place.settings).is_empty(), "the same settings change nothing");
    let login_file = FileId::of(&place.path("login/ext/director"));
    place.settings.listeners = vec![file(Role::Login, "login/ext/director", false, 0o660), notify()];
    let changes = listeners.reload(&place.settings);
    assert_eq!((opened(&changes), closed(&changes)), (1, 1), "the ring's stays, whatever the settings say");
    assert_eq!(place.files(), ["login/ext/director", "login/proxy-notify"]);
    assert_eq!(FileId::of(&place.path("login/ext/director")), login_file);
    assert_eq!(fs::metadata(place.path("login/ext/director")).unwrap().mode() & 0o777, 0o660);
    assert!(listeners.has(Role::Ring) && !listeners.has(Role::Admin));
}

#[test]
fn ipv4_and_ipv6_share_a_port() {
    let socket = Socket::Inet { name: String::new(), addresses: Vec::new(), port: 9090 };
    let listener = Listener { role: Role::Ring, socket, place: Place::default() };
    let endpoints: Vec<_> = endpoints(&listener, Path::new("/")).iter().map(ToString::to_string).collect();
    assert_eq!(endpoints, ["0.0.0.0:9090", "[::]:9090"]);
    let six = open::tcp("[::]:0".parse().unwrap());
    if let Ok(six) = six {
        let port = std::net::SocketAddr::try_from(rustix::net::getsockname(&six).unwrap()).unwrap().port();
        open::tcp((std::net::Ipv4Addr::UNSPECIFIED, port).into()).expect("the other family is free");
    }
    let missing = open::tcp("192.0.2.1:0".parse().unwrap()).unwrap_err();
    assert!(matches!(missing, Problem::NoAddress(_)), "{missing:?}");
}
