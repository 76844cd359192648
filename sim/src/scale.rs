//! How a ring behaves as it grows: what a login costs, and how long the ring takes to agree, against its size and the
//! latency between its members.
//!
//! Here nothing goes wrong and time is only that of the network: directors answer at once, lines of any length take one
//! latency. So the figures are those of the protocol, and the same on every machine.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::fmt;
use std::net::{IpAddr, SocketAddr};

use director_core::settings::{Configuration, ConfiguredHost, Tuning};
use director_core::{Action, ConnectionId, Director, Event, Instant, Now, RECEIVE_MAX_BYTES, Role, Target};

use crate::network::{Arrival, Conditions, Content, LinkId, Network, Side};
use crate::random::Random;

/// Unix time at the start.
const START_SECS: u64 = 1_700_000_000;
/// A ring that has not got there by then never will, in microseconds.
const LIMIT_MICROS: u64 = 3_600_000_000;
/// How many users log in.
const LOGINS: u64 = 100;

/// What was found of a ring.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Scale {
    /// How many directors it has.
    pub directors: usize,
    /// The time that anything takes from one to another, in milliseconds.
    pub latency_millis: u64,
    /// From the start of all to when the last one serves, in milliseconds.
    pub form_millis: u64,
    /// From an operator's change of a backend to his OK: everybody has it then. In milliseconds.
    pub sync_millis: u64,
    /// From a new user's login to when the last director has heard of him, in milliseconds.
    pub heard_millis: u64,
    /// Lines between directors for each login of a new user.
    pub lines_per_login: f64,
    /// Their bytes.
    pub bytes_per_login: f64,
}

impl Scale {
    /// The names of the columns.
    pub const HEAD: &'static str =
        "directors  latency, ms  formed, s  change synced, s  login heard, s  lines/login  bytes/login";
}

impl fmt::Display for Scale {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let secs = |millis: u64| millis as f64 / 1000.0;
        write!(
            formatter,
            "{:>9}  {:>11}  {:>9.3}  {:>16.3}  {:>14.3}  {:>11.1}  {:>11.0}",
            self.directors,
            self.latency_millis,
            secs(self.form_millis),
            secs(self.sync_millis),
            secs(self.heard_millis),
            self.lines_per_login,
            self.bytes_per_login
        )
    }
}

/// Starts a ring, changes a backend and logs users in.
///
/// # Panics
/// If the ring never forms, or an operator's change does not come through: a bug.
pub fn measure(directors: usize, latency_millis: u64) -> Scale {
    let mut ring = Ring::start(directors, latency_millis * 1000);
    let clients: Vec<End> = (0..directors).map(|node| ring.client(node, Role::AuthReply, CLIENT)).collect();
    for (node, client) in clients.iter().enumerate() {
        ring.say(*client, &format!("OK\t1\tuser=first{node}\tproxy\n"));
    }
    let served = |ring: &Ring| clients.iter().all(|client| ring.heard(*client).contains("\nOK\t1\t"));
    let formed = ring.run_until("a lookup on every director", served);
    // What forming the ring has left under way is not what a change costs.
    ring.run_for(60_000_000);

    let admin = ring.client(0, Role::Admin, ADMIN);
    let changed = ring.now;
    ring.say(admin, "HOST-UPDATE\t10.1.2.1\t50\n");
    let synced = ring.run_until("OK", |ring| ring.heard(admin).ends_with("OK\n")) - changed;
    ring.run_for(60_000_000);

    let before = ring.traffic;
    let first = ring.now;
    for number in 0..LOGINS {
        ring.say(clients[0], &format!("OK\t{number}\tuser=user{number}\tproxy\n"));
    }
    let users = ring.nodes[0].director.user_count();
    let heard = |ring: &Ring| ring.nodes.iter().all(|node| node.director.user_count() == users);
    let heard = ring.run_until("all users everywhere", heard) - first;
    // Until nothing of them is on its way.
    ring.run_for(2 * latency_millis * 1000 * directors as u64);
    let lines = (ring.traffic.user_lines - before.user_lines) as f64;
    let bytes = (ring.traffic.user_bytes - before.user_bytes) as f64;
    Scale {
        directors,
        latency_millis,
        form_millis: formed / 1000,
        sync_millis: synced / 1000,
        heard_millis: heard / 1000,
        lines_per_login: lines / LOGINS as f64,
        bytes_per_login: bytes / LOGINS as f64,
    }
}

const CLIENT: &str = "VERSION\tdirector-authreply-client\t1\t0\n";
const ADMIN: &str = "VERSION\tdirector-doveadm\t1\t0\n";

/// A connection at a director.
type End = (usize, ConnectionId);

struct Ring {
    nodes: Vec<Node>,
    network: Network<ConnectionId>,
    /// When to look at which end, or to let a director know the time.
    due: BinaryHeap<Reverse<(u64, Due)>>,
    /// Virtual time, in microseconds.
    now: u64,
    /// What clients have been told.
    heard: BTreeMap<End, String>,
    traffic: Traffic,
}

struct Node {
    director: Director,
    links: BTreeMap<ConnectionId, (LinkId, Side)>,
    ticking: Option<u64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Due {
    Look(LinkId, Side),
    Tick(usize),
}

/// What directors have said of users to each other.
#[derive(Clone, Copy, Debug, Default)]
struct Traffic {
    user_lines: u64,
    user_bytes: u64,
}

fn member(node: usize) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, u8::try_from(node + 1).expect("at most 254 directors")], 9090))
}

impl Ring {
    fn start(directors: usize, latency_micros: u64) -> Self {
        let conditions = Conditions {
            latency_min_micros: latency_micros,
            latency_max_micros: latency_micros,
            delay_percent: 0,
            delay_max_micros: 0,
            window_bytes: usize::MAX,
        };
        let mut ring = Self {
            nodes: Vec::new(),
            network: Network::new(conditions, Random::new(1)),
            due: BinaryHeap::new(),
            now: 1,
            heard: BTreeMap::new(),
            traffic: Traffic::default(),
        };
        let now = ring.time();
        for node in 0..directors {
            let host =
                |last| ConfiguredHost { ip: IpAddr::from([10, 1, 2, last]), hostname: None, tag: Box::default() };
            let configuration = Configuration {
                self_address: member(node),
                members: (0..directors).map(member).collect(),
                hosts: (1..=5).map(host).collect(),
                tuning: Tuning { user_expire_secs: 3600, ..Tuning::default() },
            };
            let director = Director::new(configuration, node as u64, now);
            ring.nodes.push(Node { director, links: BTreeMap::new(), ticking: None });
        }
        // All listen before the first one connects.
        (0..directors).for_each(|node| ring.settle(node));
        ring
    }

    fn time(&self) -> Now {
        Now { instant: Instant::from_micros(self.now), unix_secs: START_SECS + self.now / 1_000_000 }
    }

    /// A client beside a director.
    fn client(&mut self, node: usize, role: Role, greeting: &str) -> End {
        let now = self.time();
        let connection = self.nodes[node].director.accept(role, None, now);
        self.heard.insert((node, connection), String::new());
        self.say((node, connection), greeting);
        (node, connection)
    }

    fn say(&mut self, (node, connection): End, text: &str) {
        let now = self.time();
        self.nodes[node].director.handle(Event::Received { connection, bytes: text.as_bytes() }, now);
        self.settle(node);
    }

    fn heard(&self, client: End) -> &str {
        &self.heard[&client]
    }

    /// Goes on until that is so; the time when it was.
    fn run_until(&mut self, what: &str, done: impl Fn(&Self) -> bool) -> u64 {
        let end = self.now + LIMIT_MICROS;
        while !done(self) {
            assert!(self.now < end && self.step(end), "waited in vain for {what}, {} directors", self.nodes.len());
        }
        self.now
    }

    fn run_for(&mut self, micros: u64) {
        let end = self.now + micros;
        while self.step(end) {}
        self.now = end;
    }

    /// Does what is due next, if it is due until then.
    fn step(&mut self, end: u64) -> bool {
        let Some(&Reverse((at, due))) = self.due.peek() else { return false };
        if at > end {
            return false;
        }
        self.due.pop();
        self.now = self.now.max(at);
        match due {
            Due::Look(link, side) => self.look(link, side),
            Due::Tick(node) if self.nodes[node].ticking == Some(at) => {
                self.nodes[node].ticking = None;
                let now = self.time();
                self.nodes[node].director.handle(Event::Tick, now);
                self.settle(node);
            }
            // It has been armed anew since.
            Due::Tick(_) => {}
        }
        true
    }

    /// Something may have arrived at one end of a link.
    fn look(&mut self, link: LinkId, side: Side) {
        let (Some(connection), Some(node)) = (self.network.party(link, side), self.network.host(link, side)) else {
            return;
        };
        match self.network.take(self.now, link, side, RECEIVE_MAX_BYTES) {
            Arrival::Nothing => return,
            Arrival::At(at) => return self.due.push(Reverse((at, Due::Look(link, side)))),
            Arrival::Now(content) => {
                let now = self.time();
                let director = &mut self.nodes[node].director;
                match content {
                    Content::Established => director.handle(Event::Connected { connection }, now),
                    Content::Bytes(bytes) => {
                        self.traffic.count(&bytes);
                        director.handle(Event::Received { connection, bytes: &bytes }, now);
                    }
                    Content::Finish | Content::Reset => self.end(node, connection),
                }
                self.settle(node);
            }
        }
        if let Some(at) = self.network.next(link, side) {
            self.due.push(Reverse((at.max(self.now), Due::Look(link, side))));
        }
    }

    /// A director's end of a connection is no more.
    fn end(&mut self, node: usize, connection: ConnectionId) {
        if let Some((link, side)) = self.nodes[node].links.remove(&connection) {
            self.send(link, side, Content::Finish);
            self.network.abandon(link, side);
        }
        let now = self.time();
        self.nodes[node].director.handle(Event::Closed { connection, error: None }, now);
    }

    fn send(&mut self, link: LinkId, from: Side, content: Content) {
        if let Some(at) = self.network.send(self.now, link, from, content) {
            self.due.push(Reverse((at, Due::Look(link, from.other()))));
        }
    }

    /// Does what a director wants.
    fn settle(&mut self, node: usize) {
        let now = self.time();
        while let Some(action) = self.nodes[node].director.poll_action() {
            match action {
                Action::Connect { connection, target: Target::Ring { to, from } } => {
                    let acceptor = self.nodes.iter().enumerate().position(|(other, _)| member(other) == to);
                    let acceptor = acceptor.expect("a member");
                    let port = 40_000;
                    let from = SocketAddr::new(from, port);
                    let accepted = self.nodes[acceptor].director.accept(Role::Ring, Some(from), now);
                    let (link, at) = self.network.open(self.now, (node, connection), (acceptor, accepted));
                    self.nodes[node].links.insert(connection, (link, Side::Opener));
                    self.nodes[acceptor].links.insert(accepted, (link, Side::Acceptor));
                    self.due.push(Reverse((at, Due::Look(link, Side::Opener))));
                    self.settle(acceptor);
                }
                Action::Connect { connection, .. } => {
                    let event = Event::ConnectFailed { connection, error: "there is only the ring" };
                    self.nodes[node].director.handle(event, now);
                }
                Action::Write { connection } => self.write(node, connection),
                Action::Close { connection } | Action::Abort { connection } => {
                    self.write(node, connection);
                    self.end(node, connection);
                }
                // Everything is taken at once here, so nobody has to be slowed down.
                Action::Read { .. } | Action::Finish { .. } => {}
            }
        }
        let timeout = self.nodes[node].director.next_timeout().map(|(at, _)| at.as_micros().max(self.now));
        if let Some(at) = timeout
            && self.nodes[node].ticking.is_none_or(|ticking| at != ticking)
        {
            self.nodes[node].ticking = Some(at);
            self.due.push(Reverse((at, Due::Tick(node))));
        }
    }

    /// All output of one connection, in one piece.
    fn write(&mut self, node: usize, connection: ConnectionId) {
        let now = self.time();
        let mut text = Vec::new();
        loop {
            let director = &mut self.nodes[node].director;
            let output = director.poll_output(connection, now);
            let bytes = output.len();
            if bytes == 0 {
                break;
            }
            text.extend_from_slice(output);
            director.handle(Event::Written { connection, bytes }, now);
        }
        if text.is_empty() {
            return;
        }
        if let Some(heard) = self.heard.get_mut(&(node, connection)) {
            heard.push_str(&String::from_utf8_lossy(&text));
        } else if let Some(&(link, side)) = self.nodes[node].links.get(&connection) {
            self.send(link, side, Content::Bytes(text));
        }
    }
}

impl Traffic {
    fn count(&mut self, bytes: &[u8]) {
        for line in bytes.split_inclusive(|&byte| byte == b'\n').filter(|line| line.starts_with(b"USER\t")) {
            self.user_lines += 1;
            self.user_bytes += line.len() as u64;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_login_reaches_everybody_and_a_change_goes_round_once() {
        let five = measure(5, 10);
        assert_eq!(five.sync_millis, 50, "a SYNC travels once round");
        assert_eq!(five.heard_millis, 20, "a USER travels both ways");
        assert!(five.lines_per_login >= 5.0 && five.lines_per_login <= 6.0, "{five}");
        assert_eq!(five, measure(5, 10), "the same again");
    }
}
