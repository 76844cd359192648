//! A stand-in for the rest of a ring: the left and the right neighbour of one director.
//!
//! It costs next to nothing, so what it makes the director do can be measured by itself: taking millions of users from a
//! handshake, and taking USER from the left and sending it on to the right.

use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use director_core::hash::UsernameHash;
use socket2::{Domain, Socket, Type};

use super::load::{write_number, write_user};
use crate::clients::ring::unix_now;
use crate::director::{Director, RING_PORT};
use crate::lab::Lab;
use crate::wait::{LIMIT, wait_for};

/// The director is `.1`; the circle goes on to the right, and comes back by the left.
const RIGHT: u8 = 2;
const LEFT: u8 = 3;

/// How many users are written at a time.
const BATCH: u64 = 4096;

/// The neighbour that waits for a director to come.
#[derive(Debug)]
pub struct Waiting {
    listener: TcpListener,
    left: IpAddr,
}

/// Both neighbours, connected; threads of their own answer what has to be answered.
#[derive(Debug)]
pub struct Neighbours {
    left: Arc<Mutex<TcpStream>>,
    right: TcpStream,
    seen: Arc<Seen>,
    threads: Vec<JoinHandle<io::Result<()>>>,
}

/// What the neighbours have been told.
#[derive(Debug, Default)]
struct Seen {
    /// USER lines that came to the right one.
    users: AtomicU64,
    /// PONG lines that came to the left one.
    pongs: AtomicU64,
    /// PONG lines that came to the right one.
    right_pongs: AtomicU64,
    /// SYNCs that went through.
    syncs: AtomicU64,
}

impl Waiting {
    /// Listens in the place of the right neighbour. To be called before the director starts, so that it finds it at once.
    ///
    /// # Panics
    /// If the address is taken.
    pub fn listen(lab: &Lab) -> Self {
        let listener = TcpListener::bind((lab.ip(RIGHT), RING_PORT)).expect("the right neighbour's address");
        Self { listener, left: lab.ip(LEFT).into() }
    }

    /// Becomes both neighbours of a director; the left one has `users` users for it, with this timestamp. Comes back when
    /// the ring is synced.
    ///
    /// # Panics
    /// If it never is.
    pub fn join(self, director: &Director, users: u64, hosts: &[IpAddr], timestamp_secs: u64) -> Neighbours {
        let seen = Arc::new(Seen::default());
        let left = connect(self.left, director).expect("the left neighbour's connection");
        let left_reader = left.try_clone().expect("a second handle");
        let left = Arc::new(Mutex::new(left));
        let (right, _) = self.listener.accept().expect("the director to connect");
        right.set_nodelay(true).expect("an option");
        let right_ip = self.listener.local_addr().expect("an address").ip();

        let mut threads = Vec::new();
        let (writer, counted) = (Arc::clone(&left), Arc::clone(&seen));
        threads.push(std::thread::spawn(move || {
            read_lines(left_reader, |line| match word(line) {
                b"PING" => writer.lock().expect("no panic").write_all(b"PONG\n"),
                b"PONG" => {
                    counted.pongs.fetch_add(1, Ordering::Relaxed);
                    Ok(())
                }
                _ => Ok(()),
            })
        }));
        introduce(&mut &right, right_ip).expect("introduction");
        let right_reader = right.try_clone().expect("a second handle");
        let (to_left, to_right) = (Arc::clone(&left), right.try_clone().expect("a second handle"));
        let counted = Arc::clone(&seen);
        threads.push(std::thread::spawn(move || {
            read_lines(right_reader, |line| match word(line) {
                b"USER" => {
                    counted.users.fetch_add(1, Ordering::Relaxed);
                    Ok(())
                }
                b"PING" => (&to_right).write_all(b"PONG\n"),
                b"PONG" => {
                    counted.right_pongs.fetch_add(1, Ordering::Relaxed);
                    Ok(())
                }
                b"DONE" => (&to_right).write_all(b"DONE\n"),
                // It comes to the right one, and has been all round when the left one says it.
                b"SYNC" => {
                    counted.syncs.fetch_add(1, Ordering::Relaxed);
                    to_left.lock().expect("no panic").write_all(&[line, b"\n"].concat())
                }
                _ => Ok(()),
            })
        }));

        let neighbours = Neighbours { left, right, seen, threads };
        {
            let mut left = neighbours.left.lock().expect("no panic");
            introduce(&mut *left, self.left).expect("introduction");
            let start = format!("DIRECTOR\t{}\t{RING_PORT}\nHOST-HAND-START\t0\nHOST-HAND-END\t0\n", self.left);
            left.write_all(start.as_bytes()).expect("handshake");
        }
        neighbours.send_users(b"U", users, hosts, timestamp_secs);
        neighbours.send(b"OPTIONS\tconsistent-hashing\nDONE\n");
        // A SYNC goes round as soon as the director has its right one: before it has read what its left one says.
        neighbours.wait_read();
        wait_for("a SYNC of the director", LIMIT, || match neighbours.seen.syncs.load(Ordering::Relaxed) {
            0 => Err("none yet"),
            _ => Ok(()),
        });
        neighbours
    }
}

impl Neighbours {
    /// Says something from the left.
    ///
    /// # Panics
    /// If the director has closed.
    pub fn send(&self, bytes: &[u8]) {
        self.left.lock().expect("no panic").write_all(bytes).expect("the director's connection");
    }

    /// Says of the first `users` users from the left where they are, since when: with `USER`, or in a handshake with `U`.
    /// Whose names share a hash are on one backend, since they are one user to a director.
    ///
    /// # Panics
    /// If the director has closed.
    pub fn send_users(&self, command: &[u8], users: u64, hosts: &[IpAddr], timestamp_secs: u64) {
        let hosts: Vec<String> = hosts.iter().map(|host| format!("\t{host}\t{timestamp_secs}\n")).collect();
        let username_hash = UsernameHash::default();
        let (mut name, mut lines) = (Vec::new(), Vec::new());
        for first in (0..users).step_by(BATCH as usize) {
            lines.clear();
            for number in first..users.min(first + BATCH) {
                name.clear();
                write_user(number, &mut name);
                lines.extend_from_slice(command);
                lines.push(b'\t');
                let hash = username_hash.hash(&name);
                write_number(hash.into(), &mut lines);
                lines.extend_from_slice(hosts[hash as usize % hosts.len()].as_bytes());
            }
            self.send(&lines);
        }
    }

    /// Waits until the director has read all that the left one has said.
    ///
    /// # Panics
    /// If it never has.
    pub fn wait_read(&self) {
        let before = self.seen.pongs.load(Ordering::Relaxed);
        self.send(b"PING\n");
        self.wait_until("a PONG", || self.seen.pongs.load(Ordering::Relaxed) > before);
    }

    /// Waits until the right one has been told all that the director has said so far.
    ///
    /// # Panics
    /// If it never is.
    pub fn wait_told(&self) {
        let before = self.seen.right_pongs.load(Ordering::Relaxed);
        (&self.right).write_all(b"PING\n").expect("the director's connection");
        self.wait_until("a PONG to the right", || self.seen.right_pongs.load(Ordering::Relaxed) > before);
    }

    /// How many USER lines have come to the right one.
    pub fn users_seen(&self) -> u64 {
        self.seen.users.load(Ordering::Relaxed)
    }

    /// Waits until so many USER lines have come to the right one.
    ///
    /// # Panics
    /// If they never have.
    pub fn wait_users_seen(&self, count: u64) {
        self.wait_until("all USER lines", || self.users_seen() >= count);
    }

    /// A look every 100 µs: what is waited for is timed.
    fn wait_until(&self, what: &str, done: impl Fn() -> bool) {
        let start = std::time::Instant::now();
        while !done() {
            assert!(start.elapsed() < LIMIT, "waited for {what}: {:?}", self.seen);
            std::thread::sleep(std::time::Duration::from_micros(100));
        }
    }

    /// Both leave in an orderly way.
    ///
    /// # Panics
    /// If a link has failed before.
    pub fn leave(self) {
        self.send(b"QUIT\tThe bench goes on without\n");
        let _ = (&self.right).write_all(b"QUIT\tThe bench goes on without\n");
        for stream in [&*self.left.lock().expect("no panic"), &self.right] {
            let _ = stream.shutdown(std::net::Shutdown::Both);
        }
        for thread in self.threads {
            // That the link is gone is what they end with.
            let _ = thread.join().expect("no panic");
        }
    }
}

/// How many users the first `users` users are to a director: names that share a hash are one.
pub fn distinct(users: u64) -> u64 {
    let username_hash = UsernameHash::default();
    let mut name = Vec::new();
    let mut hashes: Vec<u32> = (0..users)
        .map(|number| {
            name.clear();
            write_user(number, &mut name);
            username_hash.hash(&name)
        })
        .collect();
    hashes.sort_unstable();
    hashes.dedup();
    hashes.len() as u64
}

fn connect(from: IpAddr, director: &Director) -> io::Result<TcpStream> {
    let to = director.ring_address();
    let socket = Socket::new(Domain::for_address(to), Type::STREAM, None)?;
    socket.bind(&SocketAddr::new(from, 0).into())?;
    wait_for("the director's ring port", LIMIT, || socket.connect(&to.into()));
    socket.set_tcp_nodelay(true)?;
    Ok(socket.into())
}

fn introduce(link: &mut impl Write, ip: IpAddr) -> io::Result<()> {
    link.write_all(format!("VERSION\tdirector\t1\t9\nME\t{ip}\t{RING_PORT}\t{}\n", unix_now()).as_bytes())
}

fn word(line: &[u8]) -> &[u8] {
    &line[..memchr::memchr(b'\t', line).unwrap_or(line.len())]
}

/// Calls `each` with every line until the other side closes.
fn read_lines(mut stream: TcpStream, mut each: impl FnMut(&[u8]) -> io::Result<()>) -> io::Result<()> {
    let mut buffer = vec![0; 256 * 1024];
    let mut rest = 0;
    loop {
        let size = stream.read(&mut buffer[rest..])?;
        if size == 0 {
            return Ok(());
        }
        let end = rest + size;
        let mut start = 0;
        for line_end in memchr::memchr_iter(b'\n', &buffer[..end]) {
            each(&buffer[start..line_end])?;
            start = line_end + 1;
        }
        buffer.copy_within(start..end, 0);
        rest = end - start;
    }
}
