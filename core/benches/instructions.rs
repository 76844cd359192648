//! How many instructions the core takes for what it does most, counted by valgrind: exact, whatever else the machine has
//! to do, so that a change of a few percent is seen.
//!
//! `cargo bench -p director-core` runs every case in a valgrind of its own and prints a table. Only what [`measured`]
//! calls is counted. (Instructions are not time: what waits for memory, such as the index of a large map, takes longer
//! than its instructions say. `director-bench` measures time.)
#![allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "this is a program around the core")]

use std::hint::black_box;
use std::net::{IpAddr, SocketAddr};
use std::process::{Command, ExitCode};

use director_core::hash::{UsernameHash, vhost_point};
use director_core::hosts::{Host, HostNumber, Hosts, TagNumber};
use director_core::settings::{Configuration, ConfiguredHost, Tuning};
use director_core::users::{Expired, Generation, User, Users};
use director_core::wire::ring::{Line, Moved};
use director_core::{Action, ConnectionId, Director, Event, Instant, Now, Role, Target};

/// A case: what its figure is called, for one of what it counts, and what runs it and says how many there were.
type Case = (&'static str, &'static str, fn() -> usize);

const CASES: [Case; 15] = [
    ("hash", "user name", hash),
    ("vhost-point", "point", point),
    ("parse-user", "line", parse_user),
    ("print-user", "line", print_user),
    ("lookup-new", "lookup of a new user, alone", lookup_new),
    ("lookup-known", "lookup of a known user, alone", lookup_known),
    ("lookup-ring", "lookup of a known user, told to both neighbours", lookup_ring),
    ("lookup-repeated", "lookup of a user known since this second, in a ring", lookup_repeated),
    ("user-forward", "USER that is news, forwarded", user_forward),
    ("user-repeated", "USER that is no news", user_repeated),
    ("handover-receive", "user of a handshake, received", handover_receive),
    ("handover-send", "user of a handshake, sent", handover_send),
    ("expire", "user expired", expire),
    ("vhosts-first", "1,000 backends × 100, first circle", vhosts_first),
    ("vhosts-change", "1,000 backends × 100, one changed", vhosts_change),
];

/// Users that a case is about.
const USERS: usize = 20_000;
/// What a connection brings in one read.
const BATCH: usize = 256;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [flag, name] = &arguments[..]
        && flag == "--case"
    {
        let Some((_, _, case)) = CASES.iter().find(|(known, _, _)| known == name) else { return ExitCode::FAILURE };
        println!("{}", case());
        return ExitCode::SUCCESS;
    }
    if Command::new("valgrind").arg("--version").output().is_err() {
        println!("Instructions are not counted: there is no valgrind (Debian package valgrind).");
        return ExitCode::SUCCESS;
    }
    // cargo itself passes `--bench`.
    let chosen = |name: &str| {
        let mut words = arguments.iter().filter(|argument| !argument.starts_with("--")).peekable();
        words.peek().is_none() || words.any(|word| name.contains(word.as_str()))
    };
    println!("{:>12}  for one", "instructions");
    for (name, what, _) in CASES.iter().filter(|(name, ..)| chosen(name)) {
        match count(name) {
            Ok(instructions) => println!("{instructions:>12}  {what} ({name})"),
            Err(error) => {
                eprintln!("{name}: {error}");
                return ExitCode::FAILURE;
            }
        }
    }
    ExitCode::SUCCESS
}

/// Runs a case under valgrind; the instructions for one of what it counts.
fn count(name: &str) -> Result<u64, String> {
    let program = std::env::current_exe().map_err(|error| error.to_string())?;
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null", "--toggle-collect=*instructions::measured*"])
        .arg(program)
        .args(["--case", name])
        .output()
        .map_err(|error| error.to_string())?;
    let said = String::from_utf8_lossy(&output.stderr);
    let collected = said.lines().find_map(|line| line.split_once("Collected :"));
    let collected = collected.and_then(|(_, number)| number.trim().parse::<u64>().ok());
    let ones = String::from_utf8_lossy(&output.stdout).trim().parse::<u64>().ok();
    match (collected, ones) {
        (Some(collected), Some(ones)) if ones > 0 && collected > 0 => Ok(collected.div_ceil(ones)),
        _ => Err(format!("valgrind says: {said}")),
    }
}

/// Instructions are counted only in here.
#[inline(never)]
fn measured<T>(work: impl FnOnce() -> T) -> T {
    black_box(work())
}

fn now(secs: u64) -> Now {
    Now { instant: Instant::from_micros(secs * 1_000_000), unix_secs: 1_795_309_353 + secs }
}

fn name(number: usize) -> String {
    format!("user{number}@example.org")
}

fn hash() -> usize {
    let template = UsernameHash::default();
    let names: Vec<String> = (0..1000).map(name).collect();
    measured(|| names.iter().fold(0, |sum, name| sum ^ template.hash(name.as_bytes())));
    names.len()
}

fn point() -> usize {
    let ip = IpAddr::from([10, 1, 2, 3]);
    measured(|| (0..1000).fold(0, |sum, n| sum ^ vhost_point(ip, n)));
    1000
}

fn user_line(number: usize, secs: u64) -> String {
    // Any hash will do; this spreads them as MD5 does.
    let hash = (number as u32 + 1).wrapping_mul(0x9e37_79b1);
    format!("USER\t{hash}\t10.1.2.{}\t{}", number % 5 + 1, 1_795_309_353 + secs)
}

fn parse_user() -> usize {
    let lines: Vec<String> = (0..1000).map(|number| user_line(number, 0)).collect();
    measured(|| lines.iter().filter(|line| Line::parse(line.as_bytes(), 9).is_ok()).count())
}

fn print_user() -> usize {
    let host = IpAddr::from([10, 1, 2, 3]);
    let mut out = Vec::with_capacity(100_000);
    measured(|| {
        for hash in 0..1000_u32 {
            let hash = hash.wrapping_mul(0x9e37_79b1);
            Line::User { hash, host, timestamp_secs: Some(1_795_309_353), moved: Moved::NEVER }.write(9, &mut out);
        }
    });
    1000
}

/// A director, and what a runtime would do around it.
struct Driven {
    director: Director,
    /// The link to the right neighbour, which it asks for when it starts.
    right: Option<ConnectionId>,
}

impl Driven {
    fn start(members: Vec<SocketAddr>) -> Self {
        let host = |last| ConfiguredHost { ip: IpAddr::from([10, 1, 2, last]), hostname: None, tag: Box::default() };
        let self_address = members.get(1).copied().unwrap_or_else(|| SocketAddr::from(([127, 0, 0, 1], 0)));
        let configuration = Configuration {
            self_address,
            members,
            hosts: (1..=5).map(host).collect(),
            tuning: Tuning { user_expire_secs: 3600, ..Tuning::default() },
        };
        let mut director = Director::new(configuration, 1, now(0));
        let right = std::iter::from_fn(|| director.poll_action()).find_map(|action| match action {
            Action::Connect { connection, target: Target::Ring { .. } } => Some(connection),
            _ => None,
        });
        Self { director, right }
    }

    fn alone() -> Self {
        Self::start(Vec::new())
    }

    /// The second of three, handshaked and synced, and the link to its left.
    fn in_ring() -> (Self, ConnectionId) {
        let member = |last| SocketAddr::from(([10, 0, 0, last], 9090));
        let mut driven = Self::start((1..=3).map(member).collect());
        let right = driven.right.expect("it connects to its right");
        driven.director.handle(Event::Connected { connection: right }, now(0));
        let left = driven.director.accept(Role::Ring, Some(member(1)), now(0));
        let me = |last| format!("VERSION\tdirector\t1\t9\nME\t10.0.0.{last}\t9090\t1795309353\n");
        driven.receive(left, me(1).as_bytes(), 0);
        let rest = "HOST-HAND-START\t0\nHOST-HAND-END\t0\nOPTIONS\tconsistent-hashing\nDONE\n";
        driven.receive(left, rest.as_bytes(), 0);
        driven.receive(right, me(3).as_bytes(), 0);
        driven.pull(0);
        driven.receive(right, b"DONE\n", 0);
        // What we say to the right comes back from the left: so a SYNC goes round.
        let said = driven.take(right, 0);
        let said = String::from_utf8(said).expect("text");
        let sync = said.lines().rfind(|line| line.starts_with("SYNC\t")).expect("a SYNC");
        driven.receive(left, format!("{sync}\n").as_bytes(), 0);
        driven.pull(0);
        (driven, left)
    }

    fn receive(&mut self, connection: ConnectionId, bytes: &[u8], secs: u64) {
        self.director.handle(Event::Received { connection, bytes }, now(secs));
    }

    /// All output of a connection.
    fn take(&mut self, connection: ConnectionId, secs: u64) -> Vec<u8> {
        let mut taken = Vec::new();
        loop {
            let output = self.director.poll_output(connection, now(secs));
            let bytes = output.len();
            if bytes == 0 {
                return taken;
            }
            taken.extend_from_slice(output);
            self.director.handle(Event::Written { connection, bytes }, now(secs));
        }
    }

    /// Does as a runtime whose sockets take everything; how many bytes that was.
    fn pull(&mut self, secs: u64) -> usize {
        let mut count = 0;
        while let Some(action) = self.director.poll_action() {
            let Action::Write { connection } = action else { continue };
            loop {
                let bytes = black_box(self.director.poll_output(connection, now(secs))).len();
                if bytes == 0 {
                    break;
                }
                count += bytes;
                self.director.handle(Event::Written { connection, bytes }, now(secs));
            }
        }
        count
    }

    fn client(&mut self) -> ConnectionId {
        let client = self.director.accept(Role::AuthReply, None, now(0));
        self.receive(client, b"VERSION\tdirector-authreply-client\t1\t0\n", 0);
        self.pull(0);
        client
    }

    /// Looks all users up.
    fn look_up(&mut self, client: ConnectionId, batches: &[Vec<u8>], secs: u64) {
        for batch in batches {
            self.receive(client, batch, secs);
            self.pull(secs);
        }
    }
}

/// The lines, in batches as they come from a socket.
fn batches(lines: impl Iterator<Item = String>) -> Vec<Vec<u8>> {
    let lines: Vec<String> = lines.map(|line| line + "\n").collect();
    lines.chunks(BATCH).map(|chunk| chunk.concat().into_bytes()).collect()
}

fn requests() -> Vec<Vec<u8>> {
    batches((0..USERS).map(|number| format!("OK\t{number}\tuser={}\tproxy", name(number))))
}

fn lookup_new() -> usize {
    let mut driven = Driven::alone();
    let client = driven.client();
    let requests = requests();
    measured(|| driven.look_up(client, &requests, 1));
    assert!(driven.director.user_count() > USERS - 10, "all but the few who share a hash");
    USERS
}

fn lookup_known() -> usize {
    look_up_again(Driven::alone(), 2)
}

fn lookup_ring() -> usize {
    look_up_again(Driven::in_ring().0, 2)
}

fn lookup_repeated() -> usize {
    look_up_again(Driven::in_ring().0, 1)
}

fn look_up_again(mut driven: Driven, secs: u64) -> usize {
    let client = driven.client();
    let requests = requests();
    driven.look_up(client, &requests, 1);
    measured(|| driven.look_up(client, &requests, secs));
    USERS
}

fn user_forward() -> usize {
    updates(2)
}

fn user_repeated() -> usize {
    updates(1)
}

fn updates(secs: u64) -> usize {
    let (mut driven, left) = Driven::in_ring();
    let run = |driven: &mut Driven, batches: &[Vec<u8>], secs| {
        let mut bytes = 0;
        for batch in batches {
            driven.receive(left, batch, secs);
            bytes += driven.pull(secs);
        }
        bytes
    };
    let first = batches((0..USERS).map(|number| user_line(number, 1)));
    assert!(run(&mut driven, &first, 1) > USERS * 20, "all are forwarded");
    let again = batches((0..USERS).map(|number| user_line(number, secs)));
    let bytes = measured(|| run(&mut driven, &again, secs));
    assert_eq!(bytes > USERS * 20, secs > 1, "news is forwarded, and nothing else");
    USERS
}

fn handover_lines() -> Vec<Vec<u8>> {
    batches((0..USERS).map(|number| user_line(number, 0).replace("USER", "U")))
}

/// The second of two, before the users of its left.
fn joining() -> (Driven, ConnectionId) {
    let member = |last| SocketAddr::from(([10, 0, 0, last], 9090));
    let mut driven = Driven::start((1..=2).map(member).collect());
    let left = driven.director.accept(Role::Ring, Some(member(1)), now(0));
    driven.receive(left, b"VERSION\tdirector\t1\t9\nME\t10.0.0.1\t9090\t1795309353\n", 0);
    let hosts: String = (1..=5).map(|last| format!("HOST\t10.1.2.{last}\t100\t\tU0\t\n")).collect();
    driven.receive(left, format!("HOST-HAND-START\t1\n{hosts}HOST-HAND-END\t1\n").as_bytes(), 0);
    driven.pull(0);
    (driven, left)
}

fn handover_receive() -> usize {
    let (mut driven, left) = joining();
    let lines = handover_lines();
    measured(|| {
        for batch in &lines {
            driven.receive(left, batch, 1);
            driven.pull(1);
        }
    });
    assert_eq!(driven.director.user_count(), USERS);
    USERS
}

fn handover_send() -> usize {
    let (mut driven, left) = joining();
    for batch in handover_lines() {
        driven.receive(left, &batch, 1);
    }
    driven.receive(left, b"OPTIONS\tconsistent-hashing\nDONE\n", 1);
    driven.pull(1);
    let right = driven.right.expect("it connects to its right");
    driven.director.handle(Event::Connected { connection: right }, now(1));
    driven.receive(right, b"VERSION\tdirector\t1\t9\nME\t10.0.0.1\t9090\t1795309353\n", 1);
    let bytes = measured(|| driven.pull(1));
    assert!(bytes > USERS * 20, "all are sent");
    USERS
}

fn expire() -> usize {
    let mut users = Users::new(60, 1, now(0));
    for number in 0..USERS {
        let hash = (number as u32 + 1).wrapping_mul(0x9e37_79b1);
        let timestamp_secs = 1_795_309_353 + (number / 2000) as u32;
        let user = User {
            hash,
            tag: TagNumber(0),
            host: HostNumber(0),
            timestamp_secs,
            weak: false,
            killing: false,
            generation: Generation::NEVER,
        };
        users.add(user, now(100));
    }
    measured(|| while users.expire(now(200), 4096, |_| Expired::Drop) {});
    assert!(users.is_empty());
    USERS
}

fn many_hosts() -> Hosts {
    let mut hosts = Hosts::new();
    for number in 0..1000_u32 {
        let ip = IpAddr::from([10, 1, (number / 250) as u8, (number % 250 + 1) as u8]);
        let host = Host {
            ip,
            hostname: None,
            vhosts: 100,
            tag: TagNumber(0),
            down: false,
            updown_changed_secs: 0,
            desynced: false,
        };
        hosts.add(host).expect("there is room");
    }
    hosts
}

fn vhosts_first() -> usize {
    let mut hosts = many_hosts();
    measured(|| hosts.by_hash(1, TagNumber(0)));
    1
}

fn vhosts_change() -> usize {
    let mut hosts = many_hosts();
    hosts.by_hash(1, TagNumber(0));
    let number = hosts.find(IpAddr::from([10, 1, 2, 3])).expect("it is there");
    measured(|| {
        hosts.update(number, |host| host.vhosts = 50);
        hosts.by_hash(1, TagNumber(0))
    });
    1
}
