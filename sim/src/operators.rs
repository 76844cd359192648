//! Model operators: they change backends, move and kick users, and look at the result, as `doveadm director` does.
//!
//! Each errand is a connection of its own, with one command or two in one write. At times a second operator wants the
//! same, or the opposite, from another director at the same moment; at times one leaves without waiting for answers.

use std::borrow::Cow;
use std::collections::{BTreeMap, VecDeque};
use std::net::IpAddr;

use director_core::wire::admin::{Command, VERSION_LINE};

use crate::invariants::answers;
use crate::network::LinkId;
use crate::plan::{Plan, SECOND, TAG, username_hash};
use crate::random::Random;
use crate::trace::Assembler;

/// The kinds of commands, in the order of [`crate::report::Statistics::commands_by_kind`].
pub const KINDS: [&str; 14] = [
    "HOST-SET",
    "HOST-UPDATE",
    "HOST-UP",
    "HOST-DOWN",
    "HOST-REMOVE",
    "HOST-FLUSH",
    "HOST-RESET-USERS",
    "USER-MOVE",
    "USER-KICK",
    "USER-KICK-ALT",
    "USER-LOOKUP",
    "USER-LIST",
    "DIRECTOR-ADD",
    "DIRECTOR-REMOVE",
];

/// How many users there are whom nobody ever looks up.
const STRANGERS: u64 = 20;
/// The field that model login processes know users by, besides their names.
pub const ALT_FIELD: &str = "user_number";

/// What one operator wants of one director.
#[derive(Debug)]
pub struct Errand {
    /// Which director was asked.
    pub director: usize,
    /// What it was asked.
    pub commands: Vec<Command<'static>>,
    /// When it was asked, in microseconds.
    pub asked_micros: u64,
    /// How long the director's process had stood still until then: such time does not count.
    pub paused_micros: u64,
    /// How long all answers may take.
    pub limit_micros: u64,
    /// Whether one was not done because the ring did not sync in time.
    pub timed_out: bool,
    /// The answers so far, or the last lines of them.
    pub answers: Vec<String>,
    lines: Assembler,
    greeted: bool,
}

impl Errand {
    /// Whether its commands may send a user elsewhere although his time has not run out.
    pub fn forgets_users(&self) -> bool {
        self.commands.iter().any(forgets_users)
    }

    /// Its commands as text, for people.
    pub fn shown(&self) -> String {
        let lines: Vec<String> = self.commands.iter().map(shown).collect();
        lines.join(", then ")
    }
}

/// Whether a command may send a user elsewhere although his time has not run out.
pub fn forgets_users(command: &Command<'_>) -> bool {
    match command {
        Command::HostFlush { .. }
        | Command::HostRemove { .. }
        | Command::HostResetUsers { .. }
        | Command::UserMove { .. } => true,
        // A host that gets another tag loses its users.
        Command::HostSet { tag, .. } => tag.is_some(),
        _ => false,
    }
}

/// What came of an errand.
#[derive(Debug)]
pub struct Report {
    /// The errand; all of it has been answered, or an answer was wrong.
    pub errand: Errand,
    /// The command that was answered wrongly, and the answer.
    pub wrong: Option<(String, String)>,
}

/// All operators.
#[derive(Debug)]
pub struct Operators {
    /// Backends with their tags.
    backends: Vec<(IpAddr, &'static str)>,
    /// Backends that are never taken away.
    kept: Vec<IpAddr>,
    names: Vec<String>,
    tags: Vec<&'static str>,
    max_parallel_moves: u32,
    /// Nothing can go wrong and nobody leaves, so the ring is always synced in time.
    faultless: bool,
    /// Members may be too old for tags.
    old_members: bool,
    slow_kicks: bool,
    errands: BTreeMap<LinkId, Errand>,
    random: Random,
}

impl Operators {
    /// Operators who know these backends and users.
    pub fn new(plan: &Plan, random: Random) -> Self {
        let backends = plan.known_backends();
        // One backend of each pool is never taken away, or most of a run may be spent waiting for another.
        let first = |n: usize| n == 0 || backends[n - 1].1 != backends[n].1;
        let kept = if plan.no_backend_is_safe {
            Vec::new()
        } else {
            (0..backends.len()).filter(|&n| first(n)).map(|n| backends[n].0).collect()
        };
        Self {
            kept,
            backends,
            names: (0..plan.users).map(|user| plan.user_name(user)).collect(),
            tags: (0..plan.users).map(|user| plan.user_tag(user)).collect(),
            max_parallel_moves: plan.max_parallel_moves,
            faultless: plan.faults.is_empty() && !plan.reorganizes,
            old_members: plan.faults.has(crate::plan::Fault::Minors),
            slow_kicks: plan.faults.has(crate::plan::Fault::Kicks),
            errands: BTreeMap::new(),
            random,
        }
    }

    /// What somebody wants now: one command, or two at once.
    pub fn draw(&mut self) -> Vec<Command<'static>> {
        let mut commands = vec![self.draw_command()];
        if self.random.percent(20) {
            // As health monitors do: the host is down, and its users go elsewhere.
            let next = match commands[0] {
                Command::HostDown { ip } if self.random.percent(50) => Command::HostFlush { ip: Some(ip) },
                Command::HostDown { ip } => Command::HostResetUsers { ip: Some(ip), max_parallel: None },
                _ => self.draw_command(),
            };
            commands.push(next);
        }
        commands
    }

    /// What a second operator wants at the same moment, if there is one: the same, or something else of the same
    /// backend or user.
    pub fn draw_rival(&mut self, commands: &[Command<'static>]) -> Option<Vec<Command<'static>>> {
        if !self.random.percent(15) {
            return None;
        }
        let same = self.random.percent(40);
        let rival = match &commands[0] {
            command if same => command.clone(),
            Command::HostSet { ip, .. }
            | Command::HostUpdate { ip, .. }
            | Command::HostUp { ip }
            | Command::HostDown { ip }
            | Command::HostRemove { ip } => self.draw_change(*ip),
            Command::UserMove { user, .. } => Command::UserMove { user: user.clone(), ip: self.draw_backend() },
            command => command.clone(),
        };
        Some(vec![rival])
    }

    /// Whether an operator leaves at once, without waiting for answers.
    pub fn draw_leaves(&mut self) -> bool {
        self.random.percent(8)
    }

    fn draw_command(&mut self) -> Command<'static> {
        let draw = self.random.below(100);
        let ip = self.draw_backend();
        match draw {
            0..45 => self.draw_change(ip),
            45..48 => Command::HostFlush { ip: Some(ip) },
            48 => Command::HostFlush { ip: None },
            49..57 => {
                let ip = if self.random.percent(85) { Some(ip) } else { None };
                let max_parallel = self.random.percent(50).then(|| self.random.between(1, 20) as u32);
                Command::HostResetUsers { ip, max_parallel }
            }
            57..77 => {
                let (user, tag) = self.draw_user();
                let ip = self.backends[self.random.index(self.backends.len())];
                // Mostly a backend of his own pool.
                let ip = if ip.1 == tag || self.random.percent(15) { ip.0 } else { self.draw_backend_of(tag) };
                Command::UserMove { user: self.name_or_hash(&user).into(), ip }
            }
            77..83 => {
                let nowait = self.random.percent(30);
                Command::UserKick { username: self.draw_user().0.into_bytes().into(), nowait }
            }
            83..86 => {
                let value = self.random.index(self.names.len()).to_string().into_bytes().into();
                Command::UserKickAlt { field: ALT_FIELD.as_bytes().into(), value, nowait: self.random.percent(30) }
            }
            86..95 => {
                let (user, tag) = self.draw_user();
                Command::UserLookup { user: self.name_or_hash(&user).into(), tag: tag.as_bytes().into() }
            }
            _ => Command::UserList { ip: self.random.percent(70).then_some(ip) },
        }
    }

    /// A change of a backend.
    fn draw_change(&mut self, ip: IpAddr) -> Command<'static> {
        let kept = self.kept.contains(&ip);
        let vhosts = [1, 50, 100, 200][self.random.index(4)];
        match self.random.below(if kept { 60 } else { 100 }) {
            0..15 => Command::HostUpdate { ip, vhosts },
            15..40 => Command::HostSet { ip, tag: self.draw_tag(ip, kept), vhosts: Some(vhosts) },
            // More than anybody may have.
            40 => Command::HostUpdate { ip, vhosts: 1001 },
            41..60 => Command::HostUp { ip },
            60..85 => Command::HostDown { ip },
            85..90 => Command::HostUpdate { ip, vhosts: 0 },
            _ => Command::HostRemove { ip },
        }
    }

    fn draw_tag(&mut self, ip: IpAddr, kept: bool) -> Option<Cow<'static, [u8]>> {
        let tag = self.backends.iter().find(|backend| backend.0 == ip).map_or("", |backend| backend.1);
        let tag = match self.random.below(100) {
            // Somebody is mistaken; where the backend is unknown just then, it gets that tag.
            0..3 if !kept => {
                if tag.is_empty() {
                    TAG
                } else {
                    ""
                }
            }
            // A host that is there keeps its tag, and an untagged one needs none.
            3..40 if tag.is_empty() => return None,
            _ => tag,
        };
        Some(tag.as_bytes().into())
    }

    fn draw_backend(&mut self) -> IpAddr {
        self.backends[self.random.index(self.backends.len())].0
    }

    fn draw_backend_of(&mut self, tag: &str) -> IpAddr {
        let pool: Vec<IpAddr> =
            self.backends.iter().filter(|backend| backend.1 == tag).map(|backend| backend.0).collect();
        pool[self.random.index(pool.len())]
    }

    /// A user's name and tag; now and then a user who never logs in.
    fn draw_user(&mut self) -> (String, &'static str) {
        if self.random.percent(15) {
            (format!("stranger{}@example.com", self.random.below(STRANGERS)), "")
        } else {
            let user = self.random.index(self.names.len());
            (self.names[user].clone(), self.tags[user])
        }
    }

    fn name_or_hash(&mut self, name: &str) -> Vec<u8> {
        if self.random.percent(50) {
            username_hash().hash(name.as_bytes()).to_string().into_bytes()
        } else {
            name.as_bytes().to_vec()
        }
    }

    /// Somebody wants that of a director. Returns what to say.
    pub fn ask(
        &mut self,
        director: usize,
        link: LinkId,
        commands: Vec<Command<'static>>,
        now: u64,
        paused_micros: u64,
    ) -> Vec<u8> {
        let mut lines = VERSION_LINE.to_vec();
        for command in &commands {
            command.write(&mut lines);
        }
        let limit_micros = commands.iter().map(|command| self.limit_micros(command)).sum();
        let errand = Errand {
            director,
            commands,
            asked_micros: now,
            paused_micros,
            limit_micros,
            answers: Vec::new(),
            timed_out: false,
            lines: Assembler::default(),
            greeted: false,
        };
        self.errands.insert(link, errand);
        lines
    }

    /// How long the answer may take.
    fn limit_micros(&self, command: &Command<'_>) -> u64 {
        match command {
            Command::HostResetUsers { max_parallel, .. } => {
                let at_once = u64::from(max_parallel.unwrap_or(self.max_parallel_moves).max(1));
                let users = (self.names.len() as u64 + STRANGERS) * 2;
                (users / at_once + 2) * answers::MOVE_MAX_MICROS
            }
            // It may have to wait for others' kicks.
            Command::UserKick { nowait: false, .. } | Command::UserKickAlt { nowait: false, .. } if self.slow_kicks => {
                600 * SECOND
            }
            _ => answers::COMMAND_MAX_MICROS,
        }
    }

    /// Bytes came from the director. Once all answers are there, or one is wrong: what came of it.
    pub fn received(&mut self, link: LinkId, bytes: &[u8]) -> Option<Report> {
        let errand = self.errands.get_mut(&link)?;
        let mut wrong = None;
        let mut lines: VecDeque<Vec<u8>> = errand.lines.feed(bytes).into();
        while let Some(line) = lines.pop_front() {
            if !errand.greeted && line == VERSION_LINE.trim_ascii_end() {
                errand.greeted = true;
                continue;
            }
            let line = String::from_utf8_lossy(&line).into_owned();
            let command = errand.commands.get(errand.answers.len());
            errand.timed_out |= line == TIMED_OUT;
            // A pool of its own is refused while a member is too old for it.
            let refused = self.old_members && line == "host can't be added - see the director's log";
            match command.map(|command| judge(command, &line, &self.kept, self.faultless)) {
                Some(_) if refused && matches!(command, Some(Command::HostSet { tag: Some(_), .. })) => {
                    errand.answers.push(line);
                }
                Some(Judgement::Answer) if errand.greeted => errand.answers.push(line),
                Some(Judgement::More) if errand.greeted => {}
                _ => {
                    let command = command.map_or_else(|| "nothing".to_owned(), shown);
                    wrong = Some((command, line));
                    break;
                }
            }
        }
        if wrong.is_none() && errand.answers.len() < errand.commands.len() {
            return None;
        }
        let errand = self.errands.remove(&link)?;
        Some(Report { errand, wrong })
    }

    /// The connection is gone, or nobody waits for the answer any more.
    pub fn give_up(&mut self, link: LinkId) -> Option<Errand> {
        self.errands.remove(&link)
    }

    /// Errands without all answers.
    pub fn waiting(&self) -> impl Iterator<Item = (LinkId, &Errand)> {
        self.errands.iter().map(|(link, errand)| (*link, errand))
    }

    /// Whether a command may be at work that can send a user elsewhere although his time has not run out.
    pub fn forgetting(&self) -> bool {
        self.errands.values().any(Errand::forgets_users)
    }
}

/// A command as people read it.
pub fn shown(command: &Command<'_>) -> String {
    let mut line = Vec::new();
    command.write(&mut line);
    line.trim_ascii_end().escape_ascii().to_string()
}

/// The place of a command in [`KINDS`].
pub fn kind(command: &Command<'_>) -> usize {
    let mut line = Vec::new();
    command.write(&mut line);
    let name = line.split(|byte| b"\t\n".contains(byte)).next().unwrap_or_default();
    KINDS.iter().position(|kind| kind.as_bytes() == name).unwrap_or_default()
}

/// What a line of an answer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Judgement {
    /// The answer, or its end.
    Answer,
    /// A line of a list.
    More,
    /// Nothing that may be said.
    Wrong,
}

/// The answer to a command that waited for the ring in vain.
pub const TIMED_OUT: &str = "Ring sync timed out";
/// The answer to a DIRECTOR-ADD of a director that somebody removes at the same time.
const BEING_REMOVED: &str = "director is being removed - try again later";
const DESYNCED: &str = "host is already being updated - try again later";

/// Whether that may be said to a command (admin protocol, "Commands").
fn judge(command: &Command<'_>, line: &str, kept: &[IpAddr], faultless: bool) -> Judgement {
    // Without faults the ring is whole, and syncs in time.
    let timed_out = line == TIMED_OUT && !faultless;
    // What nobody takes away is always found.
    let not_found = |ip: &IpAddr| line == "NOTFOUND" && !kept.contains(ip);
    let right = match command {
        Command::HostUpdate { vhosts: 1001.., .. } => line == "vhost count too large" || timed_out,
        Command::HostSet { ip, .. } => {
            line == "OK"
                || line == DESYNCED
                || timed_out
                // Who adds a backend anew may be late, and another's tag stand.
                || line == "host tag can't be changed" && !kept.contains(ip)
        }
        Command::HostUpdate { ip, .. } | Command::HostUp { ip } | Command::HostDown { ip } => {
            line == "OK" || line == DESYNCED || not_found(ip) || timed_out
        }
        Command::HostRemove { ip } | Command::HostFlush { ip: Some(ip) } => line == "OK" || not_found(ip) || timed_out,
        Command::HostFlush { ip: None } | Command::HostResetUsers { ip: None, .. } => line == "OK",
        Command::HostResetUsers { ip: Some(ip), .. } => line == "OK" || not_found(ip),
        Command::DirectorAdd { .. } => line == "OK" || line == BEING_REMOVED || timed_out,
        Command::DirectorRemove { .. } => line == "OK" || line == "NOTFOUND" || timed_out,
        Command::UserMove { ip, .. } => line == "OK" || line == "TRYAGAIN" || not_found(ip),
        Command::UserKick { nowait, .. } | Command::UserKickAlt { nowait, .. } => {
            line == "OK" || line == "TRYAGAIN" && *nowait
        }
        Command::UserLookup { .. } => is_lookup(line),
        Command::UserList { .. } => match line.split('\t').collect::<Vec<_>>()[..] {
            [""] => true,
            [hash, expires, ip]
                if hash.parse::<u32>().is_ok() && expires.parse::<u64>().is_ok() && ip.parse::<IpAddr>().is_ok() =>
            {
                return Judgement::More;
            }
            _ => false,
        },
        Command::HostList | Command::HostListRemoved | Command::DirectorList => false,
    };
    if right { Judgement::Answer } else { Judgement::Wrong }
}

/// `current expire-time hashed initial`
fn is_lookup(line: &str) -> bool {
    let words: Vec<&str> = line.split('\t').collect();
    let is_ip = |word: &str| word.is_empty() || word.parse::<IpAddr>().is_ok();
    matches!(words[..], [current, expires, hashed, initial]
        if is_ip(current) && is_ip(hashed) && is_ip(initial)
            && expires.parse::<u64>().is_ok_and(|secs| (secs == 0) == current.is_empty()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::Fixed;

    fn operators() -> Operators {
        let mut plan = Plan::draw(1, &Fixed::default());
        plan.tags = true;
        plan.no_backend_is_safe = false;
        Operators::new(&plan, Random::new(1))
    }

    #[test]
    fn no_command_takes_away_the_first_backend_of_a_pool() {
        let mut operators = operators();
        let firsts: Vec<IpAddr> = ["10.2.0.1", "10.2.1.1"].map(|ip| ip.parse().unwrap()).to_vec();
        assert_eq!(operators.kept, firsts);
        let mut kinds = [0; KINDS.len()];
        for _ in 0..5000 {
            let commands = operators.draw();
            let rival = operators.draw_rival(&commands).unwrap_or_default();
            for command in commands.into_iter().chain(rival) {
                kinds[kind(&command)] += 1;
                let took = match &command {
                    Command::HostDown { ip } | Command::HostRemove { ip } | Command::HostUpdate { ip, vhosts: 0 } => {
                        firsts.contains(ip) && !operators.kept.is_empty()
                    }
                    Command::HostSet { ip, tag: Some(tag), .. } if firsts.contains(ip) => {
                        (tag.is_empty()) != (*ip == firsts[0])
                    }
                    _ => false,
                };
                assert!(!took, "{command:?}");
                let mut line = Vec::new();
                command.write(&mut line);
                assert_eq!(Command::parse(line.trim_ascii_end()).unwrap(), command);
            }
        }
        assert!(kinds[..12].iter().all(|&count| count > 0), "{kinds:?}");
    }

    #[test]
    fn answers_are_judged_by_their_commands() {
        let kept: [IpAddr; 1] = ["10.2.0.1".parse().unwrap()];
        let judge = |line: &str, answer: &str| {
            let command = Command::parse(line.as_bytes()).unwrap();
            judge(&command, answer, &kept, true)
        };
        assert_eq!(judge("HOST-UP\t10.2.0.1", "OK"), Judgement::Answer);
        assert_eq!(judge("HOST-UP\t10.2.0.1", "NOTFOUND"), Judgement::Wrong);
        assert_eq!(judge("HOST-UP\t10.2.0.2", "NOTFOUND"), Judgement::Answer);
        assert_eq!(judge("HOST-UP\t10.2.0.2", TIMED_OUT), Judgement::Wrong, "nothing can have kept the ring");
        assert_eq!(judge("HOST-UPDATE\t10.2.0.2\t1001", "OK"), Judgement::Wrong);
        assert_eq!(judge("USER-KICK\tx", "TRYAGAIN"), Judgement::Wrong, "it ought to wait");
        assert_eq!(judge("USER-KICK\tx\tnowait", "TRYAGAIN"), Judgement::Answer);
        assert_eq!(judge("USER-LOOKUP\tx", "\t0\t10.2.0.1\t"), Judgement::Answer);
        assert_eq!(judge("USER-LOOKUP\tx", "10.2.0.1\t0\t\t"), Judgement::Wrong);
        assert_eq!(judge("USER-LIST", "1\t2\t10.2.0.1"), Judgement::More);
        assert_eq!(judge("USER-LIST", ""), Judgement::Answer);
        assert_eq!(judge("USER-LIST", "1\t2"), Judgement::Wrong);
    }

    #[test]
    fn two_commands_need_two_answers() {
        let mut operators = operators();
        let mut network = crate::network::Network::new(Plan::draw(1, &Fixed::default()).conditions, Random::new(1));
        let (link, _) = network.open(0, (0, ()), (0, ()));
        let commands = vec![Command::HostUp { ip: "10.2.0.1".parse().unwrap() }, Command::UserList { ip: None }];
        let lines = operators.ask(0, link, commands, 0, 0);
        assert_eq!(lines, b"VERSION\tdirector-doveadm\t1\t0\nHOST-UP\t10.2.0.1\nUSER-LIST\n");
        assert!(operators.received(link, b"VERSION\tdirector-doveadm\t1\t0\nOK\n1\t2\t10.2.0.1\n").is_none());
        let report = operators.received(link, b"\n").unwrap();
        assert!(report.wrong.is_none());
        assert_eq!(operators.waiting().count(), 0);
    }
}
