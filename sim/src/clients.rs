//! Model login processes: they ask directors where users are, keep sessions open, and say that users are still here.
//!
//! There is one for each director, and it lives as long as that director's process does not die under it: then it
//! connects again. Like the real ones, they take kicks.

use std::collections::BTreeMap;
use std::net::IpAddr;

use director_core::wire::auth::AUTHREPLY_CLIENT_VERSION_LINE;
use director_core::wire::ipc::Command;

use crate::network::LinkId;
use crate::operators::ALT_FIELD;
use crate::plan::{Plan, SECOND, username_hash};
use crate::random::Random;
use crate::trace::Assembler;

/// A question that waits for its answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lookup {
    /// Who.
    pub user: usize,
    /// When it was asked, in microseconds.
    pub asked_micros: u64,
    /// How long the director's process had stood still until then: such time does not count.
    pub paused_micros: u64,
}

/// What an answer says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answered {
    /// To that backend.
    Backend(IpAddr),
    /// Try again later.
    TemporaryFailure,
    /// Nothing that a director may say.
    Nonsense,
}

/// A user who is logged in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Session {
    /// Who.
    pub user: usize,
    /// Through which director's login process.
    pub director: usize,
    /// Served by which backend.
    pub backend: IpAddr,
    /// When it began.
    pub start_micros: u64,
    /// When it ends.
    pub end_micros: u64,
    /// The director that let him in has died since: nobody has heard of the session who has not heard of it by then.
    pub orphan: bool,
    /// Login processes were asked to end it, and have not yet.
    pub kick_asked: bool,
    /// They were asked, and could not.
    pub unkicked: bool,
}

impl Session {
    /// One that ends as it begins.
    pub fn new(user: usize, director: usize, backend: IpAddr, now: u64) -> Self {
        Self {
            user,
            director,
            backend,
            start_micros: now,
            end_micros: now,
            orphan: false,
            kick_asked: false,
            unkicked: false,
        }
    }
}

/// The login process beside one director.
#[derive(Debug, Default)]
struct LoginProcess {
    lookups: Option<LinkId>,
    notify: Option<LinkId>,
    lines: Assembler,
    greeted: bool,
    waiting: BTreeMap<u64, Lookup>,
}

/// All login processes.
#[derive(Debug)]
pub struct Clients {
    processes: Vec<LoginProcess>,
    sessions: BTreeMap<u64, Session>,
    /// Their numbers, by user.
    by_user: Vec<Vec<u64>>,
    hashes: Vec<u32>,
    names: Vec<String>,
    users: BTreeMap<Vec<u8>, usize>,
    tags: Vec<&'static str>,
    next_id: u64,
    refresh_micros: u64,
    random: Random,
}

impl Clients {
    /// Login processes that have not connected yet.
    pub fn new(plan: &Plan, random: Random) -> Self {
        let hash = username_hash();
        let names: Vec<String> = (0..plan.users).map(|user| plan.user_name(user)).collect();
        Self {
            processes: (0..plan.directors).map(|_| LoginProcess::default()).collect(),
            sessions: BTreeMap::new(),
            by_user: vec![Vec::new(); names.len()],
            hashes: names.iter().map(|name| hash.hash(name.as_bytes())).collect(),
            tags: (0..plan.users).map(|user| plan.user_tag(user)).collect(),
            users: names.iter().enumerate().map(|(user, name)| (name.clone().into_bytes(), user)).collect(),
            names,
            next_id: 1,
            refresh_micros: u64::from(plan.expire_secs / 2) * SECOND,
            random,
        }
    }

    /// The director's process is there: these are the connections to it. Returns what to say first on `lookups`.
    pub fn connected(&mut self, director: usize, lookups: LinkId, notify: LinkId) -> &'static [u8] {
        let process = &mut self.processes[director];
        *process = LoginProcess { lookups: Some(lookups), notify: Some(notify), ..LoginProcess::default() };
        AUTHREPLY_CLIENT_VERSION_LINE
    }

    /// The director's process is gone, and its answers with it.
    pub fn disconnected(&mut self, director: usize) {
        self.processes[director] = LoginProcess::default();
    }

    /// The connection that lookups of that director use.
    pub fn lookup_link(&self, director: usize) -> Option<LinkId> {
        self.processes[director].lookups
    }

    /// The connection that notifications to that director use.
    pub fn notify_link(&self, director: usize) -> Option<LinkId> {
        self.processes[director].notify
    }

    /// Whether that connection is one that the director ought to keep.
    pub fn needs(&self, director: usize, link: LinkId) -> bool {
        let process = &self.processes[director];
        process.lookups == Some(link) || process.notify == Some(link)
    }

    /// Somebody logs in through that director: the link and what to say on it, if the process is there.
    pub fn log_in(&mut self, director: usize, now: u64, paused_micros: u64) -> Option<(LinkId, Vec<u8>)> {
        let user = self.random.index(self.names.len());
        let process = &mut self.processes[director];
        let link = process.lookups?;
        let id = self.next_id;
        self.next_id += 1;
        process.waiting.insert(id, Lookup { user, asked_micros: now, paused_micros });
        let name = &self.names[user];
        let tag = match self.tags[user] {
            "" => String::new(),
            tag => format!("\tdirector_tag={tag}"),
        };
        Some((link, format!("OK\t{id}\tuser={name}\tproxy{tag}\n").into_bytes()))
    }

    /// Bytes came from a director on its lookups link.
    pub fn received(&mut self, director: usize, bytes: &[u8]) -> Vec<(Option<Lookup>, Answered)> {
        let process = &mut self.processes[director];
        let mut answers = Vec::new();
        for line in process.lines.feed(bytes) {
            let line = String::from_utf8_lossy(&line).into_owned();
            if !process.greeted {
                process.greeted = true;
                if line != "VERSION\tdirector-authreply-server\t1\t0" {
                    answers.push((None, Answered::Nonsense));
                }
                continue;
            }
            let mut words = line.split('\t');
            let command = words.next().unwrap_or_default();
            let id = words.next().and_then(|id| id.parse::<u64>().ok());
            let lookup = id.and_then(|id| process.waiting.remove(&id));
            let host = words.find_map(|word| word.strip_prefix("host=")?.parse().ok());
            answers.push(match (command, host) {
                ("OK", Some(backend)) => (lookup, Answered::Backend(backend)),
                ("FAIL", None) if line.ends_with("\tcode=temp_fail") => (lookup, Answered::TemporaryFailure),
                _ => (lookup, Answered::Nonsense),
            });
        }
        answers
    }

    /// A user was let in. Returns the session's number and when he is to be mentioned next.
    pub fn open_session(&mut self, director: usize, user: usize, backend: IpAddr, now: u64) -> (u64, u64) {
        let id = self.next_id;
        self.next_id += 1;
        let end_micros = now + self.random.pause(40 * SECOND);
        let session = Session { end_micros, ..Session::new(user, director, backend, now) };
        self.sessions.insert(id, session);
        self.by_user[user].push(id);
        (id, now + self.refresh_micros)
    }

    /// The time has come to mention a session's user: the link, what to say, and when to do so again. `None`: the
    /// session is over.
    pub fn refresh(&mut self, session: u64, now: u64) -> Option<(Option<LinkId>, Vec<u8>, u64)> {
        let found = self.sessions.get(&session)?;
        if found.end_micros <= now {
            self.remove(session);
            return None;
        }
        let line = format!("{}\n", self.names[found.user]).into_bytes();
        Some((self.processes[found.director].notify, line, now + self.refresh_micros))
    }

    /// Everybody leaves.
    pub fn close_all(&mut self) {
        self.sessions.clear();
        self.by_user.iter_mut().for_each(Vec::clear);
    }

    /// The sessions of a user that live.
    pub fn sessions_of(&self, user: usize, now: u64) -> impl Iterator<Item = (u64, &Session)> {
        let sessions = self.by_user[user].iter().filter_map(|id| Some((*id, self.sessions.get(id)?)));
        sessions.filter(move |(_, session)| session.end_micros > now)
    }

    /// The hashes of all users.
    pub fn hashes(&self) -> &[u32] {
        &self.hashes
    }

    /// The user of that name.
    pub fn user_named(&self, name: &[u8]) -> Option<usize> {
        self.users.get(name).copied()
    }

    /// A director's process has died; with its machine, if that has lost power: then the sessions end.
    pub fn director_died(&mut self, director: usize, powered: bool) {
        let beside: Vec<u64> =
            self.sessions.iter().filter(|(_, session)| session.director == director).map(|(id, _)| *id).collect();
        for id in beside {
            if !powered {
                self.remove(id);
            } else if let Some(session) = self.sessions.get_mut(&id) {
                session.orphan = true;
            }
        }
    }

    /// A kick was asked for, or has failed; without a line: whatever it was.
    pub fn mark_kick(&mut self, director: usize, line: Option<&[u8]>, failed: bool) {
        let command = match line.map(Command::parse) {
            None => None,
            Some(None) => return,
            Some(command) => command,
        };
        let (names, hashes) = (&self.names, &self.hashes);
        for session in self.sessions.values_mut().filter(|session| session.director == director) {
            if command.as_ref().is_none_or(|command| concerns(command, names, hashes, session)) {
                session.kick_asked = true;
                session.unkicked |= failed;
            }
        }
    }

    fn remove(&mut self, id: u64) {
        if let Some(session) = self.sessions.remove(&id) {
            self.by_user[session.user].retain(|other| *other != id);
        }
    }

    /// Everybody leaves whose session goes through that director's login process.
    pub fn close_all_of(&mut self, director: usize) {
        self.director_died(director, false);
    }

    /// Ends sessions beside a director; how many. `None`: that is no command.
    pub fn kick(&mut self, director: usize, line: &[u8]) -> Option<u32> {
        let command = Command::parse(line)?;
        let (names, hashes) = (&self.names, &self.hashes);
        let ended: Vec<u64> = self
            .sessions
            .iter()
            .filter(|(_, session)| session.director == director && concerns(&command, names, hashes, session))
            .map(|(id, _)| *id)
            .collect();
        for id in &ended {
            self.remove(*id);
        }
        Some(ended.len() as u32)
    }

    /// Lookups of a director that wait for an answer.
    pub fn waiting(&self, director: usize) -> impl Iterator<Item = (u64, &Lookup)> {
        self.processes[director].waiting.iter().map(|(id, lookup)| (*id, lookup))
    }

    /// Nobody waits for that answer any more.
    pub fn give_up(&mut self, director: usize, id: u64) {
        self.processes[director].waiting.remove(&id);
    }
}

/// Whether a kick is for a session.
fn concerns(command: &Command<'_>, names: &[String], hashes: &[u32], session: &Session) -> bool {
    match command {
        Command::User { username } => names[session.user].as_bytes() == &**username,
        Command::Hash { hash, except } => hashes[session.user] == *hash && Some(session.backend) != *except,
        Command::Alt { field, value } => {
            **field == *ALT_FIELD.as_bytes() && **value == *session.user.to_string().as_bytes()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::{Conditions, Network};
    use crate::plan::Fixed;

    fn clients() -> (Clients, LinkId) {
        let plan = Plan::draw(1, &Fixed { directors: Some(2), users: Some(1), ..Fixed::default() });
        let mut network = Network::new(
            Conditions {
                latency_min_micros: 1,
                latency_max_micros: 1,
                delay_percent: 0,
                delay_max_micros: 0,
                window_bytes: 1,
            },
            Random::new(1),
        );
        let (link, _) = network.open(0, (0, ()), (1, ()));
        (Clients::new(&plan, Random::new(1)), link)
    }

    #[test]
    fn answers_find_their_questions() {
        let (mut clients, link) = clients();
        clients.connected(0, link, link);
        let (_, first) = clients.log_in(0, 5, 0).unwrap();
        assert!(first.starts_with(b"OK\t1\tuser=User0@example.com\tproxy"));
        clients.log_in(0, 6, 0).unwrap();
        assert!(clients.log_in(1, 6, 0).is_none(), "not connected");
        let answers = clients.received(
            0,
            b"VERSION\tdirector-authreply-server\t1\t0\nFAIL\t2\tcode=temp_fail\nOK\t1\tuser=x\thost=10.2.0.1\nOK\t9\n",
        );
        let lookup = |asked_micros| Some(Lookup { user: 0, asked_micros, paused_micros: 0 });
        assert_eq!(
            answers,
            [
                (lookup(6), Answered::TemporaryFailure),
                (lookup(5), Answered::Backend("10.2.0.1".parse().unwrap())),
                (None, Answered::Nonsense)
            ]
        );
        assert_eq!(clients.waiting(0).count(), 0);
    }

    #[test]
    fn a_kick_by_hash_spares_one_backend_and_other_login_processes() {
        let (mut clients, _) = clients();
        let [a, b] = ["10.2.0.1", "10.2.0.2"].map(|ip| ip.parse().unwrap());
        clients.open_session(0, 0, a, 0);
        clients.open_session(0, 0, b, 0);
        clients.open_session(1, 0, b, 0);
        let hash = username_hash().hash(b"user0@example.com");
        let line = format!("proxy\t*\tKICK-DIRECTOR-HASH\t{hash}\t10.2.0.1");
        assert_eq!(clients.kick(0, line.as_bytes()), Some(1));
        assert_eq!(clients.sessions.len(), 2);
        assert_eq!(clients.kick(0, b"nonsense"), None);
        assert_eq!(clients.kick(1, b"proxy\t*\tKICK-ALT\tuser_number\t7"), Some(0));
        assert_eq!(clients.kick(1, b"proxy\t*\tKICK-ALT\tuser_number\t0"), Some(1));
    }
}
