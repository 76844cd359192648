//! A core in the place of one director of a recording: hears what that one read, and what it says is kept.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

use director_core::settings::{Configuration, ConfiguredHost, Tuning};
use director_core::{Action, ConnectionId, Director, Event, Instant, Now, Role, Target};

use crate::recording::{Entry, Peer, What};

/// What the directors of the recordings said in VERSION: ours, when limited to it, leaves out what is later.
const RECORDED_MINOR: u32 = 9;
const DIRECTORS: u8 = 3;
/// Time within which everything is set up; the recording begins after it.
const SETUP_MICROS: u64 = SECOND_MICROS;
/// Lines that come within this time come together.
const TOGETHER_MICROS: u64 = 1000;
const SECOND_MICROS: u64 = 1_000_000;

/// What somebody beside a director did.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Local<'a> {
    /// A program with an auth reply: the line, and what it was answered.
    Lookup(&'a str, &'a str),
    /// An administrator: the command, and what it was answered.
    Admin(&'a str, &'a str),
    /// "This user is still here."
    Notify(&'a str),
}

/// The ring before the recording began.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Before<'a> {
    /// Unix time.
    pub(crate) start_secs: u64,
    /// director_user_expire.
    pub(crate) expire_secs: u32,
    /// The backends, as a handshake tells them.
    pub(crate) hosts: &'a [&'a str],
    /// The users, as a handshake tells them.
    pub(crate) users: &'a [&'a str],
}

/// What a core said and did.
#[derive(Debug, Default)]
pub(crate) struct Conduct {
    /// What it said, by connection.
    pub(crate) said: BTreeMap<Peer, Vec<String>>,
    /// To whom it connected.
    pub(crate) connected_to: Vec<u8>,
}

enum End {
    Ring(Peer),
    Ipc,
    Client,
}

/// Plays one director.
pub(crate) struct Player {
    director: u8,
    configuration: Configuration,
    core: Option<Director>,
    now: Now,
    ends: BTreeMap<ConnectionId, End>,
    /// Links that are being made.
    connecting: BTreeSet<u8>,
    /// What is to be read next: from ipc, and the answers to our PINGs.
    replies: Vec<(ConnectionId, Vec<u8>)>,
    /// Output that is no whole line yet.
    partial: BTreeMap<ConnectionId, Vec<u8>>,
    heard_by_clients: BTreeMap<ConnectionId, Vec<u8>>,
    conduct: Conduct,
    /// The last SYNC of its own that the recorded director has said.
    recorded_sync: String,
}

impl Player {
    /// A director that has not started.
    pub(crate) fn new(director: u8, before: &Before<'_>) -> Self {
        let host = |n| ConfiguredHost { ip: IpAddr::from([127, 0, 2, n]), hostname: None, tag: Box::default() };
        Self {
            director,
            configuration: Configuration {
                self_address: address(director),
                members: (1..=DIRECTORS).map(address).collect(),
                hosts: (1..=5).map(host).collect(),
                tuning: Tuning {
                    user_expire_secs: before.expire_secs,
                    ring_minor: RECORDED_MINOR,
                    ..Tuning::default()
                },
            },
            core: None,
            now: Now {
                instant: Instant::from_micros(SECOND_MICROS),
                unix_secs: before.start_secs - SETUP_MICROS / SECOND_MICROS,
            },
            ends: BTreeMap::new(),
            connecting: BTreeSet::new(),
            replies: Vec::new(),
            partial: BTreeMap::new(),
            heard_by_clients: BTreeMap::new(),
            conduct: Conduct::default(),
            recorded_sync: String::new(),
        }
    }

    /// Starts it, and makes it a member of a ring that has been synced for long.
    pub(crate) fn join(&mut self, before: &Before<'_>) {
        let right = self.director % DIRECTORS + 1;
        let left = (self.director + DIRECTORS - 2) % DIRECTORS + 1;
        let [to_right, from_left] =
            [(right, true), (left, false)].map(|(director, outgoing)| Peer { director, outgoing });
        let members: String = (1..=DIRECTORS).map(|n| format!("DIRECTOR\t127.0.1.{n}\t9090\n")).collect();
        let hello =
            |n: u8| format!("VERSION\tdirector\t1\t{RECORDED_MINOR}\nME\t127.0.1.{n}\t9090\t{}\n", before.start_secs);
        let lines = |lines: &[&str]| lines.iter().map(|line| format!("{line}\n")).collect::<String>();
        self.start();
        self.connected(right);
        self.hear(to_right, &hello(right));
        self.hear(to_right, "DONE\n");
        self.accept(left);
        self.hear(from_left, &format!("{}{members}HOST-HAND-START\t1\n", hello(left)));
        self.hear(from_left, &lines(before.hosts));
        self.hear(from_left, "HOST-HAND-END\t1\n");
        self.hear(from_left, &lines(before.users));
        self.hear(from_left, "OPTIONS\tconsistent-hashing\nDONE\n");
        let last_sync = self.conduct.said[&to_right].iter().rev().find(|line| line.starts_with("SYNC\t"));
        let last_sync = last_sync.expect("a SYNC once both neighbours are there").clone();
        self.hear(from_left, &format!("{last_sync}\n"));
        let end = self.client(Role::Admin, "VERSION\tdirector-doveadm\t1\t0\nDIRECTOR-LIST\n");
        let status = self.heard(end);
        assert!(status.contains("\tself\t0\tring synced\t"), "director {} is not synced:\n{status}", self.director);
        self.pass(SETUP_MICROS);
        self.conduct = Conduct::default();
    }

    /// Plays the events of this director, and what happened beside it (with the time, in milliseconds), and lets time
    /// pass until the end. Returns what it said and did, and what else was answered than should have been.
    pub(crate) fn play(
        mut self,
        entries: &[Entry],
        locals: &[(f64, Local<'_>)],
        end_millis: u64,
    ) -> (Conduct, Vec<String>) {
        let start = self.now.instant.as_micros();
        let mut clients = Vec::new();
        let mut locals = locals.iter().peekable();
        let director = self.director;
        let mut entries = entries.iter().filter(|entry| entry.director == director).peekable();
        loop {
            let entry_at = entries.peek().map(|entry| entry.micros);
            let local_at = locals.peek().map(|(millis, _)| (millis * 1000.0) as u64);
            match (entry_at, local_at) {
                (entry, Some(local)) if entry.is_none_or(|entry| local <= entry) => {
                    self.pass_until(start + local);
                    self.tell_time(entries.peek().map(|entry| &entry.what));
                    let (_, local) = locals.next().expect("just seen");
                    clients.push((*local, self.local(local)));
                }
                (Some(at), _) => {
                    self.pass_until(start + at);
                    let entry = entries.next().expect("just seen");
                    self.tell_time(Some(&entry.what));
                    self.meet(&entry.what);
                    if let What::Heard(peer, line) = &entry.what {
                        // What came together was mostly read together, and is then acted on together.
                        let mut text = format!("{line}\n");
                        while let Some(Entry { micros, what: What::Heard(next, line), .. }) = entries.peek()
                            && next == peer
                            && *micros < entry.micros + TOGETHER_MICROS
                        {
                            text.push_str(&format!("{line}\n"));
                            entries.next();
                        }
                        self.hear(*peer, &text);
                    }
                }
                (None, None) => break,
                (None, Some(_)) => unreachable!("covered above"),
            }
        }
        self.pass_until(start + end_millis * 1000);
        let mut wrong = Vec::new();
        for (local, client) in clients {
            let (asked, expected) = match local {
                Local::Lookup(line, answer) | Local::Admin(line, answer) => (line, answer),
                Local::Notify(_) => continue,
            };
            let answer = self.heard(client);
            let answer = answer.split_once('\n').map_or("", |(_, rest)| rest);
            if answer != format!("{expected}\n") {
                wrong.push(format!("{asked:?} was answered {answer:?} instead of {expected:?}"));
            }
        }
        (self.conduct, wrong)
    }

    /// The clock of the recording: lines with a time tell it.
    fn tell_time(&mut self, what: Option<&What>) {
        if let Some(What::Said(_, line) | What::Heard(_, line)) = what
            && let Some(secs) = crate::compare::time_of(line)
        {
            self.now.unix_secs = self.now.unix_secs.max(secs);
        }
    }

    fn meet(&mut self, what: &What) {
        match what {
            What::Connecting(_) if self.core.is_none() => self.start(),
            What::Connecting(_) => {}
            What::ConnectFailed(to) => {
                let Some(id) = self.find(Peer { director: *to, outgoing: true }) else { return };
                self.ends.remove(&id);
                self.connecting.remove(to);
                self.handle(&Event::ConnectFailed { connection: id, error: "Connection refused" });
            }
            What::Accepted(from) => self.accept(*from),
            What::Closed(peer) => {
                let Some(id) = self.find(*peer) else { return };
                self.ends.remove(&id);
                self.handle(&Event::Closed { connection: id, error: None });
            }
            What::Said(peer, line) | What::Heard(peer, line) => {
                if matches!(what, What::Said(..)) && line.starts_with(&self.own_sync()) {
                    self.recorded_sync = line.clone();
                }
                if peer.outgoing && self.connecting.contains(&peer.director) {
                    self.connected(peer.director);
                }
            }
        }
    }

    fn local(&mut self, local: &Local<'_>) -> ConnectionId {
        match local {
            Local::Lookup(line, _) => {
                self.client(Role::AuthReply, &format!("VERSION\tdirector-authreply-client\t1\t0\n{line}\n"))
            }
            Local::Admin(line, _) => self.client(Role::Admin, &format!("VERSION\tdirector-doveadm\t1\t0\n{line}\n")),
            Local::Notify(name) => self.client(Role::Notify, &format!("{name}\n")),
        }
    }

    fn client(&mut self, role: Role, text: &str) -> ConnectionId {
        let id = self.core.as_mut().expect("it runs").accept(role, None, self.now);
        self.ends.insert(id, End::Client);
        self.handle(&Event::Received { connection: id, bytes: text.as_bytes() });
        id
    }

    fn heard(&mut self, client: ConnectionId) -> String {
        String::from_utf8(self.heard_by_clients.remove(&client).unwrap_or_default()).expect("text")
    }

    fn start(&mut self) {
        self.core = Some(Director::new(self.configuration.clone(), 1, self.now));
        self.drive();
    }

    fn connected(&mut self, to: u8) {
        let id = self.find(Peer { director: to, outgoing: true }).expect("it has connected there");
        self.connecting.remove(&to);
        self.handle(&Event::Connected { connection: id });
    }

    fn accept(&mut self, from: u8) {
        let peer = SocketAddr::new(address(from).ip(), 40000);
        let id = self.core.as_mut().expect("it runs").accept(Role::Ring, Some(peer), self.now);
        self.ends.insert(id, End::Ring(Peer { director: from, outgoing: false }));
        self.drive();
    }

    fn find(&self, peer: Peer) -> Option<ConnectionId> {
        // The newest: an older one may still be on its way out.
        self.ends.iter().rev().find(|(_, end)| matches!(end, End::Ring(other) if *other == peer)).map(|(id, _)| *id)
    }

    /// How SYNCs of its own begin.
    fn own_sync(&self) -> String {
        format!("SYNC\t127.0.1.{}\t9090\t", self.director)
    }

    fn hear(&mut self, peer: Peer, text: &str) {
        // Answers to PINGs are those to our own PINGs: see `pull`.
        let lines = text.lines().filter(|line| !line.starts_with("PONG"));
        let text: String = lines.map(|line| format!("{}\n", self.translated(line))).collect();
        if let Some(id) = self.find(peer)
            && !text.is_empty()
        {
            self.handle(&Event::Received { connection: id, bytes: text.as_bytes() });
        }
    }

    /// A SYNC of the recorded director that comes back to it has that one's number: here it gets the number that the core
    /// gave its last SYNC, if it was the last of the recorded director as well. One that was not is stale, and so here.
    fn translated(&self, line: &str) -> String {
        let own = self.own_sync();
        let Some(rest) = line.strip_prefix(&own).filter(|_| !self.recorded_sync.is_empty()) else {
            return line.to_owned();
        };
        let all_said = self.conduct.said.values().flatten();
        let number = |text: &str| text.split('\t').next().and_then(|number| number.parse::<u32>().ok()).unwrap_or(0);
        let last = all_said.filter_map(|line| line.strip_prefix(&own)).map(number).max().unwrap_or(0);
        let is_last = self.recorded_sync.strip_prefix(&own).map(number) == Some(number(rest));
        let number = if is_last { last } else { 0 };
        let tail = rest.split_once('\t').map_or("", |(_, tail)| tail);
        format!("{own}{number}\t{tail}")
    }

    fn handle(&mut self, event: &Event<'_>) {
        let now = self.now;
        let Some(core) = &mut self.core else { return };
        match *event {
            Event::Received { connection, bytes } => core.handle(Event::Received { connection, bytes }, now),
            Event::Connected { connection } => core.handle(Event::Connected { connection }, now),
            Event::ConnectFailed { connection, error } => core.handle(Event::ConnectFailed { connection, error }, now),
            Event::Closed { connection, error } => core.handle(Event::Closed { connection, error }, now),
            Event::Tick => core.handle(Event::Tick, now),
            _ => unreachable!("nothing else happens here"),
        }
        self.drive();
    }

    fn pass(&mut self, micros: u64) {
        self.pass_until(self.now.instant.as_micros() + micros);
    }

    fn pass_until(&mut self, until: u64) {
        loop {
            let from = self.now.instant.as_micros();
            let due = self.core.as_ref().and_then(Director::next_timeout).map(|(at, _)| at.as_micros());
            let at = due.unwrap_or(until).min(until).max(from);
            // Whole seconds pass; what the recording says of the time comes on top.
            self.now.unix_secs += at / SECOND_MICROS - from / SECOND_MICROS;
            self.now.instant = Instant::from_micros(at);
            if due.is_none_or(|due| due > until) {
                return;
            }
            self.handle(&Event::Tick);
        }
    }

    /// Does what the core wants done, until it wants no more.
    fn drive(&mut self) {
        loop {
            while let Some(action) = self.core.as_mut().and_then(Director::poll_action) {
                self.act(&action);
            }
            if self.replies.is_empty() {
                return;
            }
            for (connection, bytes) in std::mem::take(&mut self.replies) {
                let now = self.now;
                if let Some(core) = &mut self.core
                    && self.ends.contains_key(&connection)
                {
                    core.handle(Event::Received { connection, bytes: &bytes }, now);
                }
            }
        }
    }

    fn act(&mut self, action: &Action) {
        match *action {
            Action::Connect { connection, target: Target::Ring { to, .. } } => {
                let IpAddr::V4(ip) = to.ip() else { panic!("it connects to {to}") };
                let director = ip.octets()[3];
                self.conduct.connected_to.push(director);
                self.connecting.insert(director);
                self.ends.insert(connection, End::Ring(Peer { director, outgoing: true }));
            }
            Action::Connect { connection, target: Target::Ipc } => {
                self.ends.insert(connection, End::Ipc);
                let now = self.now;
                self.core.as_mut().expect("it runs").handle(Event::Connected { connection }, now);
            }
            Action::Connect { connection, ref target } => panic!("it connects {connection} to {target:?}"),
            Action::Write { connection } => self.pull(connection),
            Action::Read { .. } | Action::Finish { .. } => {}
            Action::Close { connection } | Action::Abort { connection } => {
                self.pull(connection);
                self.ends.remove(&connection);
                let now = self.now;
                self.core.as_mut().expect("it runs").handle(Event::Closed { connection, error: None }, now);
            }
        }
    }

    fn pull(&mut self, connection: ConnectionId) {
        loop {
            let core = self.core.as_mut().expect("it runs");
            let bytes = core.poll_output(connection, self.now).to_vec();
            if bytes.is_empty() {
                return;
            }
            core.handle(Event::Written { connection, bytes: bytes.len() }, self.now);
            let partial = self.partial.entry(connection).or_default();
            partial.extend_from_slice(&bytes);
            let whole = partial.iter().rposition(|&byte| byte == b'\n').map_or(0, |at| at + 1);
            let text: Vec<u8> = partial.drain(..whole).collect();
            let text = String::from_utf8(text).expect("text");
            match self.ends.get(&connection) {
                Some(End::Ring(peer)) => {
                    for line in text.lines() {
                        if line.starts_with("PING") {
                            self.replies.push((connection, b"PONG\n".to_vec()));
                        }
                        self.conduct.said.entry(*peer).or_default().push(line.to_owned());
                    }
                }
                // Nobody has a session, as in the recordings.
                Some(End::Ipc) => {
                    let kicks = text.lines().filter(|line| line.starts_with("proxy\t")).count();
                    self.replies.extend((0..kicks).map(|_| (connection, b"+0\n".to_vec())));
                }
                _ => self.heard_by_clients.entry(connection).or_default().extend_from_slice(text.as_bytes()),
            }
        }
    }
}

fn address(director: u8) -> SocketAddr {
    SocketAddr::from(([127, 0, 1, director], 9090))
}
