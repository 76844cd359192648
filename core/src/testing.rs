//! A few directors on a network that delivers at once, with a clock that the test moves: for tests of the core.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use crate::contract::{Action, ConnectionId, Event, Role, Target};
use crate::director::Director;
use crate::settings::{Configuration, ConfiguredHost, Tuning};
use crate::time::{Instant, Now};

/// Unix time at which tests begin.
pub(crate) const START_SECS: u64 = 1_700_000_000;

/// The settings that tests begin with: those of the recorded rings.
pub(crate) fn tuning() -> Tuning {
    Tuning { user_expire_secs: 60, ..Tuning::default() }
}

/// The ring address of a node.
pub(crate) fn address(node: usize) -> SocketAddr {
    SocketAddr::from(([127, 0, 1, u8::try_from(node).unwrap()], 9090))
}

pub(crate) fn configuration(node: usize, nodes: usize) -> Configuration {
    let host = |n| ConfiguredHost { ip: IpAddr::from([127, 0, 2, n]), hostname: None, tag: Box::default() };
    Configuration {
        self_address: address(node),
        members: (1..=nodes).map(address).collect(),
        hosts: (1..=5).map(host).collect(),
        tuning: tuning(),
    }
}

/// One end of a connection: a node and its id there.
type End = (usize, ConnectionId);

/// The directors, by number from 1, and what connects them.
pub(crate) struct Net {
    pub(crate) nodes: BTreeMap<usize, Director>,
    pub(crate) now: Now,
    /// By how many seconds a node's clock is ahead; negative: behind.
    pub(crate) skews: BTreeMap<usize, i64>,
    peers: BTreeMap<End, End>,
    /// What test clients have received.
    received: BTreeMap<End, Vec<u8>>,
    /// What went from one director to another, with the node that said it: `1>2 LINE`.
    pub(crate) lines: Vec<String>,
    /// Pairs of nodes that can't reach each other.
    pub(crate) cut: BTreeSet<(usize, usize)>,
    /// Pairs of nodes of which the second hears nothing from the first.
    pub(crate) mute: BTreeSet<(usize, usize)>,
    /// Ends that take no output.
    pub(crate) stuck: BTreeSet<End>,
    /// What ipc answers to a kick, and nothing if `None`.
    pub(crate) ipc_answer: Option<&'static [u8]>,
    ipc: BTreeSet<End>,
    /// What anvil greets with; there is none if `None`.
    pub(crate) anvil_greeting: Option<&'static [u8]>,
    /// The connections to anvil, in the order in which they were made, and what was said on each and not yet heard.
    anvils: Vec<(End, Vec<u8>)>,
    /// Whether auth servers can be connected to.
    pub(crate) auth: bool,
    auths: Vec<End>,
    /// Whether there is a flush script to be reached.
    pub(crate) flush_script: bool,
    /// Its runs that have not ended, and what each was told.
    flushes: BTreeMap<End, Vec<u8>>,
}

impl Net {
    /// Directors 1 to `count`, started at once.
    pub(crate) fn start(count: usize) -> Self {
        let mut net = Self {
            nodes: BTreeMap::new(),
            now: Now { instant: Instant::from_micros(1), unix_secs: START_SECS },
            skews: BTreeMap::new(),
            peers: BTreeMap::new(),
            received: BTreeMap::new(),
            lines: Vec::new(),
            cut: BTreeSet::new(),
            mute: BTreeSet::new(),
            stuck: BTreeSet::new(),
            ipc_answer: None,
            ipc: BTreeSet::new(),
            anvil_greeting: None,
            anvils: Vec::new(),
            auth: false,
            auths: Vec::new(),
            flush_script: false,
            flushes: BTreeMap::new(),
        };
        for node in 1..=count {
            net.start_node(node, configuration(node, count));
        }
        net.run();
        net
    }

    /// A ring that has synced.
    pub(crate) fn synced(count: usize) -> Self {
        let mut net = Self::start(count);
        net.pass(Duration::from_secs(25));
        for node in 1..=count {
            net.assert_synced(node);
        }
        net.lines.clear();
        net
    }

    pub(crate) fn start_node(&mut self, node: usize, configuration: Configuration) {
        let director = Director::new(configuration, node as u64, self.clock(node));
        self.nodes.insert(node, director);
    }

    /// What time it is for a node.
    fn clock(&self, node: usize) -> Now {
        let skew = self.skews.get(&node).copied().unwrap_or(0);
        Now { unix_secs: self.now.unix_secs.saturating_add_signed(skew), ..self.now }
    }

    /// A node vanishes.
    pub(crate) fn kill(&mut self, node: usize) {
        self.nodes.remove(&node);
        self.ipc.retain(|end| end.0 != node);
        let ends: Vec<End> = self.peers.iter().filter(|(a, b)| a.0 == node && b.0 != node).map(|(_, &b)| b).collect();
        self.peers.retain(|a, b| a.0 != node && b.0 != node);
        for end in ends {
            self.handle(end.0, Event::Closed { connection: end.1, error: None });
        }
        self.run();
    }

    /// All connections between two nodes break, and none can be made until they are joined again.
    pub(crate) fn cut(&mut self, a: usize, b: usize) {
        self.cut.insert((a.min(b), a.max(b)));
        self.break_links(a, b);
    }

    /// All connections between two nodes break.
    pub(crate) fn break_links(&mut self, a: usize, b: usize) {
        let between = |x: &End, y: &End| (x.0, y.0) == (a, b) || (x.0, y.0) == (b, a);
        let ends: Vec<End> = self.peers.iter().filter(|(x, y)| between(x, y)).map(|(&x, _)| x).collect();
        self.peers.retain(|x, y| !between(x, y));
        for end in ends {
            self.handle(end.0, Event::Closed { connection: end.1, error: Some("Connection reset by peer") });
        }
        self.run();
    }

    pub(crate) fn handle(&mut self, node: usize, event: Event<'_>) {
        let now = self.clock(node);
        if let Some(director) = self.nodes.get_mut(&node) {
            director.handle(event, now);
        }
    }

    /// A client connects.
    pub(crate) fn connect(&mut self, node: usize, role: Role) -> End {
        self.connect_from(node, role, None)
    }

    /// A client connects from an address.
    pub(crate) fn connect_from(&mut self, node: usize, role: Role, from: Option<SocketAddr>) -> End {
        let now = self.clock(node);
        let id = self.nodes.get_mut(&node).unwrap().accept(role, from, now);
        self.received.insert((node, id), Vec::new());
        self.run();
        (node, id)
    }

    /// A client says something.
    pub(crate) fn say(&mut self, end: End, text: &str) {
        self.handle(end.0, Event::Received { connection: end.1, bytes: text.as_bytes() });
        self.run();
    }

    /// What a client has received since the last call.
    pub(crate) fn hear(&mut self, end: End) -> String {
        String::from_utf8(std::mem::take(self.received.get_mut(&end).unwrap())).unwrap()
    }

    /// Runs administrator's lines and returns what they were answered so far.
    pub(crate) fn admin(&mut self, node: usize, lines: &str) -> String {
        let end = self.connect(node, Role::Admin);
        self.say(end, &format!("VERSION\tdirector-doveadm\t1\t0\n{lines}"));
        let text = self.hear(end);
        text.strip_prefix("VERSION\tdirector-doveadm\t1\t0\n").unwrap().to_owned()
    }

    /// An authreply client, greeted.
    pub(crate) fn authreply(&mut self, node: usize) -> End {
        let end = self.connect(node, Role::AuthReply);
        self.say(end, "VERSION\tdirector-authreply-client\t1\t0\n");
        assert_eq!(self.hear(end), "VERSION\tdirector-authreply-server\t1\t0\n");
        end
    }

    /// The host that a lookup gives, or an empty text while it waits.
    pub(crate) fn lookup(&mut self, node: usize, user: &str) -> String {
        let end = self.authreply(node);
        self.say(end, &format!("OK\t1\tuser={user}\tproxy\n"));
        let text = self.hear(end);
        let host = text.trim_end().split("\thost=").nth(1).unwrap_or_default();
        host.split('\t').next().unwrap_or_default().to_owned()
    }

    pub(crate) fn assert_synced(&mut self, node: usize) {
        let status = self.admin(node, "DIRECTOR-LIST\n");
        assert!(status.contains("\tself\t") && status.contains("\tring synced\t"), "node {node}:\n{status}");
    }

    /// The nodes that a node has links to.
    pub(crate) fn peers_of(&self, node: usize) -> BTreeSet<usize> {
        self.peers.iter().filter(|(end, _)| end.0 == node).map(|(_, peer)| peer.0).collect()
    }

    /// From now on a node takes another for one that speaks this minor version.
    pub(crate) fn speak_minor(&mut self, node: usize, other: usize, minor: u32) {
        let director = self.nodes.get_mut(&node).unwrap();
        for id in director.ring.links.clone() {
            let link = director.link_mut(id).unwrap();
            if link.member == Some(address(other)) {
                link.minor = Some(minor);
            }
        }
    }

    /// What a node says on its present links to another reaches nobody.
    pub(crate) fn lose_output(&mut self, of: usize, to: usize) {
        let director = &self.nodes[&of];
        let links = director.ring.links.iter().copied();
        let lost = links.filter(|&id| director.link(id).is_some_and(|link| link.member == Some(address(to))));
        self.stuck.extend(lost.map(|id| (of, id)));
    }

    /// An end that took no output takes it again.
    pub(crate) fn pull_again(&mut self, node: usize, connection: ConnectionId) {
        self.pull((node, connection));
    }

    /// ipc answers every kick that it was asked for and has not answered, on all nodes.
    pub(crate) fn answer_all_ipc(&mut self, answer: &[u8]) {
        for end in self.ipc.iter().copied().collect::<Vec<_>>() {
            let unanswered = self.nodes.get(&end.0).map_or(0, |director| director.kicks.unanswered_by_ipc());
            for _ in 0..unanswered {
                self.handle(end.0, Event::Received { connection: end.1, bytes: answer });
                self.run();
            }
        }
    }

    /// ipc says something to a node.
    pub(crate) fn answer_ipc(&mut self, node: usize, answer: &[u8]) {
        let end = *self.ipc.iter().find(|end| end.0 == node).unwrap();
        self.handle(node, Event::Received { connection: end.1, bytes: answer });
        self.run();
    }

    /// The auth server of a node's newest client says something.
    pub(crate) fn say_as_auth(&mut self, node: usize, text: &str) {
        let end = *self.auths.iter().rfind(|end| end.0 == node).unwrap();
        self.say(end, text);
    }

    /// How many connections a node has to anvil.
    pub(crate) fn anvils(&self, node: usize) -> usize {
        self.anvils.iter().filter(|(end, _)| end.0 == node).count()
    }

    /// Which they are.
    pub(crate) fn anvil_ids(&self, node: usize) -> Vec<ConnectionId> {
        self.anvils.iter().map(|(end, _)| *end).filter(|end| end.0 == node).map(|end| end.1).collect()
    }

    /// One of them, by the order in which they were made.
    fn anvil(&mut self, node: usize, index: usize) -> &mut (End, Vec<u8>) {
        self.anvils.iter_mut().filter(|(end, _)| end.0 == node).nth(index).expect("a connection to anvil")
    }

    /// What anvil was asked since the last call; its greeting is not shown.
    pub(crate) fn hear_anvil(&mut self, node: usize, index: usize) -> String {
        let text = String::from_utf8(std::mem::take(&mut self.anvil(node, index).1)).unwrap();
        text.strip_prefix("VERSION\tanvil-client\t2\t0\n\n").unwrap_or(&text).to_owned()
    }

    /// anvil says something.
    pub(crate) fn answer_anvil(&mut self, node: usize, index: usize, answer: &str) {
        let end = self.anvil(node, index).0;
        self.handle(node, Event::Received { connection: end.1, bytes: answer.as_bytes() });
        self.run();
    }

    /// anvil closes a connection.
    pub(crate) fn close_anvil(&mut self, node: usize, index: usize) {
        let end = self.anvil(node, index).0;
        self.anvils.retain(|(other, _)| *other != end);
        self.handle(node, Event::Closed { connection: end.1, error: None });
        self.run();
    }

    /// The runs of the flush script that have not ended, each with the hash and the two backends that it was told.
    pub(crate) fn flushes(&self) -> Vec<(End, String)> {
        let told = |bytes: &[u8]| {
            let text = String::from_utf8_lossy(bytes).into_owned();
            let text = text.strip_prefix("VERSION\tscript\t4\t0\n-\nFLUSH\n").expect("the script protocol");
            text.lines().take(3).collect::<Vec<_>>().join(" ")
        };
        self.flushes.iter().map(|(&end, bytes)| (end, told(bytes))).collect()
    }

    /// A run of the flush script prints this and ends.
    pub(crate) fn end_flush(&mut self, end: End, output: &str) {
        self.flushes.remove(&end).expect("a run");
        self.handle(end.0, Event::Received { connection: end.1, bytes: output.as_bytes() });
        self.handle(end.0, Event::Closed { connection: end.1, error: None });
        self.run();
    }

    /// Lets everything happen that can happen now.
    pub(crate) fn run(&mut self) {
        for _ in 0..1_000_000 {
            if !self.step() {
                return;
            }
        }
        let tail = self.lines.len().saturating_sub(40);
        panic!("it never ends; the last lines were:\n{}", self.lines[tail..].join("\n"));
    }

    fn step(&mut self) -> bool {
        let mut moved = false;
        for node in self.nodes.keys().copied().collect::<Vec<_>>() {
            while let Some(action) = self.nodes.get_mut(&node).and_then(Director::poll_action) {
                moved = true;
                self.act(node, &action);
            }
        }
        moved
    }

    fn act(&mut self, node: usize, action: &Action) {
        match *action {
            Action::Connect { connection, target: Target::Ring { to, from } } => {
                let other = (1..=99).find(|&other| address(other) == to).unwrap_or(0);
                let is_cut = self.cut.contains(&(node.min(other), node.max(other)));
                if is_cut || !self.nodes.contains_key(&other) {
                    self.handle(node, Event::ConnectFailed { connection, error: "Connection refused" });
                    return;
                }
                let peer = SocketAddr::new(from, 40000);
                let now = self.clock(other);
                let accepted = self.nodes.get_mut(&other).unwrap().accept(Role::Ring, Some(peer), now);
                self.peers.insert((node, connection), (other, accepted));
                self.peers.insert((other, accepted), (node, connection));
                self.handle(node, Event::Connected { connection });
            }
            Action::Connect { connection, target: Target::Ipc } if self.ipc_answer.is_some() => {
                self.ipc.insert((node, connection));
                self.handle(node, Event::Connected { connection });
            }
            Action::Connect { connection, target: Target::AuthLogin } if self.auth => {
                self.auths.push((node, connection));
                self.handle(node, Event::Connected { connection });
            }
            Action::Connect { connection, target: Target::Anvil } if self.anvil_greeting.is_some() => {
                self.anvils.push(((node, connection), Vec::new()));
                self.handle(node, Event::Connected { connection });
                let bytes = self.anvil_greeting.unwrap_or_default();
                self.handle(node, Event::Received { connection, bytes });
            }
            Action::Connect { connection, target: Target::Flush(_) } if self.flush_script => {
                self.flushes.insert((node, connection), Vec::new());
                self.handle(node, Event::Connected { connection });
            }
            Action::Connect { connection, .. } => {
                self.handle(node, Event::ConnectFailed { connection, error: "No such file or directory" });
            }
            Action::Write { connection } => self.pull((node, connection)),
            Action::Read { connection, enabled: true } => {
                if let Some(&peer) = self.peers.get(&(node, connection)) {
                    self.pull(peer);
                }
            }
            Action::Read { .. } | Action::Finish { .. } => {}
            Action::Close { connection } | Action::Abort { connection } => {
                if matches!(action, Action::Close { .. }) {
                    self.pull((node, connection));
                }
                let end = (node, connection);
                self.flushes.remove(&end);
                self.anvils.retain(|(other, _)| *other != end);
                if let Some(peer) = self.peers.remove(&end) {
                    self.peers.remove(&peer);
                    self.handle(peer.0, Event::Closed { connection: peer.1, error: None });
                }
                self.handle(node, Event::Closed { connection, error: None });
            }
        }
    }

    fn pull(&mut self, end: End) {
        if self.stuck.contains(&end) || self.peers.get(&end).is_some_and(|peer| self.mute.contains(&(end.0, peer.0))) {
            return;
        }
        loop {
            let reads = |peer: &End| self.nodes.get(&peer.0).is_none_or(|node| node.connections.is_reading(peer.1));
            if !self.peers.get(&end).is_none_or(reads) {
                return;
            }
            let Some(director) = self.nodes.get_mut(&end.0) else { return };
            let bytes = director.poll_output(end.1, self.now).to_vec();
            if bytes.is_empty() {
                return;
            }
            self.handle(end.0, Event::Written { connection: end.1, bytes: bytes.len() });
            if let Some(&peer) = self.peers.get(&end) {
                for line in String::from_utf8_lossy(&bytes).lines() {
                    self.lines.push(format!("{}>{} {line}", end.0, peer.0));
                }
                self.handle(peer.0, Event::Received { connection: peer.1, bytes: &bytes });
            } else if self.ipc.contains(&end) {
                if let Some(answer) = self.ipc_answer.filter(|answer| !answer.is_empty()) {
                    for _ in bytes.split(|&byte| byte == b'\n').skip(1) {
                        self.handle(end.0, Event::Received { connection: end.1, bytes: answer });
                    }
                }
            } else if let Some((_, heard)) = self.anvils.iter_mut().find(|(other, _)| *other == end) {
                heard.extend_from_slice(&bytes);
            } else if let Some(told) = self.flushes.get_mut(&end) {
                told.extend_from_slice(&bytes);
            } else if let Some(received) = self.received.get_mut(&end) {
                received.extend_from_slice(&bytes);
            }
        }
    }

    /// Lets time pass, with everything that is due in it.
    pub(crate) fn pass(&mut self, time: Duration) {
        let end = self.now.instant + time;
        let start = self.now;
        loop {
            let next = self.nodes.values().filter_map(Director::next_timeout).map(|(at, _)| at).min();
            let at = next.unwrap_or(end).min(end).max(self.now.instant);
            self.now.instant = at;
            self.now.unix_secs = start.unix_secs + at.saturating_since(start.instant).as_secs();
            for node in self.nodes.keys().copied().collect::<Vec<_>>() {
                let due = self.nodes[&node].next_timeout().is_some_and(|(due, _)| due <= at);
                if due {
                    self.handle(node, Event::Tick);
                    self.run();
                    if let Some((again, reason)) = self.nodes.get(&node).and_then(Director::next_timeout) {
                        assert!(again > at, "node {node} does not let time pass: {reason:?}");
                    }
                }
            }
            if at >= end {
                return;
            }
        }
    }

    /// Waits until a node's ring is synced, for a minute at most; returns how long that took.
    pub(crate) fn wait_synced(&mut self, node: usize) -> Duration {
        let start = self.now.instant;
        for _ in 0..600 {
            if self.admin(node, "DIRECTOR-LIST\n").contains("\tring synced\t") {
                return self.now.instant.saturating_since(start);
            }
            self.pass(Duration::from_millis(100));
        }
        panic!("node {node} is not synced after a minute:\n{}", self.admin(node, "DIRECTOR-LIST\n"));
    }
}
