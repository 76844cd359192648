//! The switchboard with the real core, on socket pairs, with the smallest runtime there can be.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::{UnixListener, UnixStream};

use director_core::settings::{ConfiguredHost, KickVia, Tuning};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::*;

/// Watches descriptors as told, and notes what it is to dial.
struct Runtime {
    switchboard: Switchboard,
    /// With the interest that it has been told of.
    watched: Vec<(ConnectionId, Rc<OwnedFd>, Interest)>,
    dials: Vec<(ConnectionId, Target)>,
}

impl Runtime {
    fn new() -> Self {
        Self::with_members(Vec::new())
    }

    fn with_members(members: Vec<SocketAddr>) -> Self {
        let hosts = vec![ConfiguredHost { ip: "10.0.0.1".parse().unwrap(), hostname: None, tag: Box::default() }];
        let configuration = Configuration {
            self_address: members.first().copied().unwrap_or_else(|| "127.0.0.1:0".parse().unwrap()),
            members,
            hosts,
            // With auto it would look for ipc whenever a client comes: one dial too many for these tests.
            tuning: Tuning { kick_via: KickVia::Ipc, ..crate::configuration::tests::settings().tuning },
        };
        Self { switchboard: Switchboard::new(configuration, 1), watched: Vec::new(), dials: Vec::new() }
    }

    fn carry_out_notices(&mut self) {
        while let Some(notice) = self.switchboard.next_notice() {
            match notice {
                Notice::Watch { connection, descriptor } => {
                    assert!(self.watched.iter().all(|(watched, ..)| *watched != connection));
                    // A dial that is under way is watched now.
                    self.dials.retain(|(dialed, _)| *dialed != connection);
                    self.watched.push((connection, descriptor, self.switchboard.interest(connection)));
                }
                Notice::Dial { connection, target } => self.dials.push((connection, target)),
                Notice::Interest { connection } => {
                    let interest = self.switchboard.interest(connection);
                    for watched in self.watched.iter_mut().filter(|(watched, ..)| *watched == connection) {
                        watched.2 = interest;
                    }
                }
                Notice::Gone { connection } => {
                    let before = self.watched.len() + self.dials.len();
                    self.watched.retain(|(watched, ..)| *watched != connection);
                    self.dials.retain(|(dialed, _)| *dialed != connection);
                    assert_eq!(self.watched.len() + self.dials.len(), before - 1, "told once of each end");
                }
            }
        }
    }

    /// Serves whatever is ready until nothing is.
    fn run(&mut self) {
        loop {
            self.switchboard.tell_ring();
            self.carry_out_notices();
            let mut ready = Vec::new();
            for (connection, descriptor, interest) in &self.watched {
                assert_eq!(*interest, self.switchboard.interest(*connection), "told of each change");
                for (wanted, flag) in [(interest.read, PollFlags::IN), (interest.write, PollFlags::OUT)] {
                    let mut fds = [PollFd::new(&**descriptor, flag)];
                    if wanted && poll(&mut fds, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })).unwrap() > 0 {
                        ready.push((*connection, flag));
                    }
                }
            }
            if ready.is_empty() {
                return;
            }
            for (connection, flag) in ready {
                if flag == PollFlags::IN {
                    self.switchboard.readable(connection);
                } else {
                    self.switchboard.writable(connection);
                }
            }
        }
    }

    fn accept(&mut self, stream: UnixStream, role: Role) -> ConnectionId {
        stream.set_nonblocking(true).unwrap();
        let connection = self.switchboard.accepted(stream.into(), role, None);
        self.run();
        connection
    }

    /// A client of a role; it waits for no answer longer than a second.
    fn client(&mut self, role: Role) -> (UnixStream, ConnectionId) {
        let (client, server) = UnixStream::pair().unwrap();
        client.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
        let connection = self.accept(server, role);
        (client, connection)
    }

    /// Answers the last dial with a connection, and gives its far end.
    fn answer_dial(&mut self, expected: &Target) -> (UnixStream, ConnectionId) {
        let (connection, target) = self.dials.pop().expect("a dial");
        assert_eq!(&target, expected);
        let (far, near) = UnixStream::pair().unwrap();
        near.set_nonblocking(true).unwrap();
        self.switchboard.connected(connection, near.into());
        self.run();
        (far, connection)
    }
}

fn read(stream: &mut impl Read) -> String {
    let mut buffer = [0; 4096];
    let count = stream.read(&mut buffer).unwrap();
    String::from_utf8(buffer[..count].to_vec()).unwrap()
}

const VERSION: &str = "VERSION\tdirector-doveadm\t1\t0\n";

#[test]
fn an_answer_is_written_with_the_input_that_caused_it() {
    let mut runtime = Runtime::new();
    let (mut client, connection) = runtime.client(Role::Admin);
    assert_eq!(read(&mut client), VERSION);
    write!(client, "{VERSION}HOST-SET\t10.0.0.2\nHOST-LIST\n").unwrap();
    assert!(!runtime.switchboard.readable(connection), "that was all");
    let answer = read(&mut client);
    assert!(answer.starts_with("OK\n10.0.0.1\t100\t0\t") && answer.ends_with("\n\n"), "{answer}");
    let nothing_to_write = Interest { read: true, write: false };
    assert_eq!(runtime.switchboard.interest(connection), nothing_to_write);
}

#[test]
fn the_ring_is_told_after_all_that_was_ready_and_in_one_piece() {
    let members = [1, 2].map(|last| SocketAddr::from(([127, 0, 0, last], 9090)));
    let mut runtime = Runtime::with_members(members.to_vec());
    runtime.carry_out_notices();
    let (connection, target) = runtime.dials.pop().expect("a dial");
    assert_eq!(target, Target::Ring { to: members[1], from: members[0].ip() });
    let (mut far, near) = UnixStream::pair().unwrap();
    far.set_nonblocking(true).unwrap();
    near.set_nonblocking(true).unwrap();
    runtime.switchboard.connected(connection, near.into());
    runtime.run();
    assert!(read(&mut far).starts_with("VERSION\tdirector\t"));
    far.write_all(b"VERSION\tdirector\t1\t9\nME\t127.0.0.2\t9090\t0\n").unwrap();
    runtime.run();
    assert!(read(&mut far).ends_with("DONE\n"), "a handshake");
    let (mut client, client_id) = runtime.client(Role::Admin);
    assert_eq!(read(&mut client), VERSION);
    writeln!(client, "{VERSION}HOST-LIST").unwrap();
    for _ in 0..2 {
        far.write_all(b"PING\n").unwrap();
        runtime.switchboard.readable(connection);
    }
    runtime.switchboard.readable(client_id);
    assert!(read(&mut client).starts_with("10.0.0.1\t"), "who asks need not wait for the ring");
    assert_eq!(far.read(&mut [0]).unwrap_err().kind(), io::ErrorKind::WouldBlock);
    assert!(runtime.switchboard.has_news_for_ring());
    runtime.switchboard.tell_ring();
    assert!(!runtime.switchboard.has_news_for_ring());
    assert_eq!(read(&mut far).matches("PONG").count(), 2);
}

#[test]
fn commands_of_a_client_who_has_left_are_carried_out() {
    let mut runtime = Runtime::new();
    let (mut client, server) = UnixStream::pair().unwrap();
    writeln!(client, "{VERSION}HOST-SET\t10.0.0.7").unwrap();
    drop(client);
    runtime.accept(server, Role::Admin);
    assert!(runtime.watched.is_empty(), "its end was found");
    let (mut client, _) = runtime.client(Role::Admin);
    writeln!(client, "{VERSION}HOST-LIST").unwrap();
    runtime.run();
    let answer = read(&mut client);
    assert!(answer.contains("\n10.0.0.7\t"), "{answer}");
}

#[test]
fn a_login_is_relayed_both_ways_and_ends_on_both_sides() {
    for auth_ends_first in [false, true] {
        let mut runtime = Runtime::new();
        let (mut login, _) = runtime.client(Role::Login);
        login.write_all(b"VERSION\t1\t2\nCPID\t1\n").unwrap();
        let (mut auth, _) = runtime.answer_dial(&Target::AuthLogin);
        assert_eq!(read(&mut auth), "VERSION\t1\t2\nCPID\t1\n");
        auth.write_all(b"OK\t1\tuser=a\tproxy\n").unwrap();
        runtime.run();
        assert_eq!(read(&mut login), "OK\t1\tuser=a\tproxy\tproxy_refresh=450\thost=10.0.0.1\n");
        let mut other = if auth_ends_first {
            drop(auth);
            login
        } else {
            drop(login);
            auth
        };
        runtime.run();
        assert_eq!(read(&mut other), "", "closed");
        assert!(runtime.watched.is_empty());
    }
}

/// A TCP connection that is under way is asked for its result when it can be written, and not before.
#[test]
fn a_connection_under_way_is_made_or_fails() {
    for listens in [true, false] {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let to = listener.local_addr().unwrap();
        let listener = listens.then_some(listener);
        let mut runtime = Runtime::new();
        let (mut login, _) = runtime.client(Role::Login);
        // Any connection will do.
        let (connection, _) = runtime.dials.pop().unwrap();
        assert!(runtime.switchboard.is_dialed(connection));
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let family = rustix::net::AddressFamily::INET;
        let socket = rustix::net::socket_with(family, rustix::net::SocketType::STREAM, flags, None).unwrap();
        let _ = rustix::net::connect(&socket, &to);
        runtime.switchboard.connecting(connection, socket);
        assert!(!runtime.switchboard.is_dialed(connection));
        assert_eq!(runtime.switchboard.interest(connection), Interest { read: false, write: true });
        let waiting = |runtime: &Runtime| runtime.switchboard.interest(connection).write;
        while waiting(&runtime) {
            runtime.run();
        }
        if let Some(listener) = &listener {
            let (mut auth, _) = listener.accept().unwrap();
            auth.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
            login.write_all(b"VERSION\t1\t2\nCPID\t7\n").unwrap();
            runtime.run();
            assert!(read(&mut auth).contains("CPID\t7\n"));
        } else {
            assert_eq!(read(&mut login), "");
            assert!(runtime.watched.is_empty() && runtime.dials.is_empty());
        }
    }
}

#[test]
fn a_failed_dial_ends_the_login() {
    let mut runtime = Runtime::new();
    let (mut login, _) = runtime.client(Role::Login);
    let (connection, _) = runtime.dials[0];
    runtime.switchboard.connect_failed(connection, &io::Error::from(io::ErrorKind::ConnectionRefused));
    runtime.run();
    assert_eq!(read(&mut login), "");
    assert!(runtime.watched.is_empty() && runtime.dials.is_empty());
}

#[test]
fn a_client_that_goes_while_its_dial_waits_takes_that_with_it() {
    let mut runtime = Runtime::new();
    let (login, _) = runtime.client(Role::Login);
    let (connection, _) = runtime.dials[0];
    drop(login);
    runtime.run();
    assert!(runtime.watched.is_empty() && runtime.dials.is_empty());
    // The runtime may not have heard of that yet.
    let (_far, near) = UnixStream::pair().unwrap();
    runtime.switchboard.connected(connection, near.into());
    runtime.run();
    assert!(runtime.watched.is_empty());
}

#[test]
fn who_does_not_read_is_not_read_for() {
    let mut runtime = Runtime::new();
    let (login, _) = runtime.client(Role::Login);
    let (mut auth, auth_connection) = runtime.answer_dial(&Target::AuthLogin);
    auth.set_nonblocking(true).unwrap();
    let line = [&[b'x'; 1000][..], b"\n"].concat();
    let mut sent = 0;
    // Until the director takes no more of it.
    loop {
        match auth.write(&line) {
            Ok(count) => sent += count,
            Err(_) => {
                let stopped = !runtime.switchboard.interest(auth_connection).read;
                runtime.run();
                if stopped {
                    break;
                }
            }
        }
        assert!(sent < 64 << 20, "it is read for ever");
    }
    assert!(sent < 4 << 20, "the kernel's buffers and the core's, but {sent} bytes are more");
    // Somebody else is served meanwhile.
    let (mut client, _) = runtime.client(Role::Admin);
    assert_eq!(read(&mut client), VERSION);
    // And it goes on where it stopped.
    let mut received = 0;
    let mut buffer = vec![0; 1 << 20];
    login.set_nonblocking(true).unwrap();
    while let Ok(count) = (&login).read(&mut buffer) {
        received += count;
        runtime.run();
    }
    assert!(sent - received < line.len(), "but for a broken line: {sent} {received}");
    assert!(runtime.switchboard.interest(auth_connection).read);
}

#[test]
fn listeners_are_emptied_in_turns() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("admin");
    let listener = UnixListener::bind(&path).unwrap();
    listener.set_nonblocking(true).unwrap();
    let clients: Vec<_> = (0..ACCEPT_TURN_MAX + 1).map(|_| UnixStream::connect(&path).unwrap()).collect();
    let mut runtime = Runtime::new();
    assert!(matches!(runtime.switchboard.accept(&listener, Role::Admin), Ok(Accepted::More)));
    assert!(matches!(runtime.switchboard.accept(&listener, Role::Admin), Ok(Accepted::All)));
    runtime.run();
    assert_eq!(runtime.watched.len(), clients.len());
    assert!(runtime.switchboard.accept(&clients[0], Role::Admin).is_err(), "that is no listener");
}

#[test]
fn a_tcp_client_hears_the_last_words_although_it_goes_on_talking() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    client.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    let (server, peer) = listener.accept().unwrap();
    server.set_nonblocking(true).unwrap();
    let mut runtime = Runtime::new();
    let connection = runtime.switchboard.accepted(server.into(), Role::Admin, Some(peer));
    client.write_all(b"NONSENSE\n").unwrap();
    while runtime.switchboard.director.is_finished() || runtime.switchboard.interest(connection).write {
        runtime.run();
    }
    // Unread input must not make the end a reset.
    while runtime.switchboard.connection(connection).is_some_and(|entry| entry.closing == Closing::No) {
        runtime.run();
    }
    client.write_all(&[b'x'; 100_000]).unwrap();
    runtime.run();
    let mut heard = String::new();
    client.read_to_string(&mut heard).unwrap();
    assert!(heard.starts_with(VERSION) && heard.lines().count() == 2, "{heard}");
    drop(client);
    while !runtime.watched.is_empty() {
        runtime.run();
    }
}

#[test]
fn a_fifo_that_is_given_up_is_read_to_its_end() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("fifo");
    rustix::fs::mknodat(rustix::fs::CWD, &path, rustix::fs::FileType::Fifo, rustix::fs::Mode::from_raw_mode(0o600), 0)
        .unwrap();
    let flags = rustix::fs::OFlags::RDWR | rustix::fs::OFlags::NONBLOCK;
    let fifo = rustix::fs::open(&path, flags, rustix::fs::Mode::empty()).unwrap();
    let writer = fifo.try_clone().unwrap();
    let mut runtime = Runtime::new();
    let connection = runtime.switchboard.accepted(fifo, Role::Notify, None);
    rustix::io::write(&writer, b"user\n").unwrap();
    runtime.switchboard.hang_up(connection);
    runtime.run();
    assert!(runtime.watched.is_empty());
    assert_eq!(rustix::io::read(&writer, &mut [0; 16]), Err(Errno::AGAIN), "nothing is left in it");
}

#[test]
fn shutdown_ends_every_connection() {
    let mut runtime = Runtime::new();
    let mut clients: Vec<_> =
        [Role::Login, Role::Admin, Role::Notify].into_iter().map(|role| runtime.client(role).0).collect();
    assert!(!runtime.switchboard.is_finished());
    runtime.switchboard.shutdown();
    runtime.run();
    assert!(runtime.switchboard.is_finished());
    assert!(runtime.watched.is_empty() && runtime.dials.is_empty());
    let mut last = Vec::new();
    for client in &mut clients {
        client.read_to_end(&mut last).unwrap();
    }
}

#[test]
fn input_does_not_stay_in_memory() {
    let mut runtime = Runtime::new();
    let (mut login, _) = runtime.client(Role::Login);
    login.write_all(b"AUTH\t1\tPLAIN\tresp=secret\n").unwrap();
    runtime.run();
    assert!(runtime.switchboard.buffer.iter().all(|&byte| byte == 0));
}
