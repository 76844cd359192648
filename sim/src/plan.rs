//! What a seed stands for: the size of a ring, its load, and what goes wrong.
//!
//! Each seed draws its own mix of faults ("swarm"): runs in which everything fails at once find other things than runs
//! in which only one kind of thing does, again and again.

use std::collections::BTreeSet;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;
use std::time::Duration;

use director_core::Configuration;
use director_core::hash::UsernameHash;
use director_core::settings::{ConfiguredHost, Tuning};
use director_core::wire::ring::{MINOR, minor};

use crate::network::Conditions;
use crate::random::Random;

/// A second, in the simulation's unit of time.
pub const SECOND: u64 = 1_000_000;
/// The second tag, where there is one.
pub const TAG: &str = "blue";
/// How many backends beyond the configured ones operators may add, for each tag.
pub const SPARE_BACKENDS: usize = 2;

/// A kind of thing that goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// Connections between directors break; sometimes only one end learns of it.
    Resets,
    /// A director's process dies and starts again, knowing nothing.
    Crashes,
    /// A director's machine loses power: nobody tells the others.
    Blackouts,
    /// Directors cannot reach each other, in one direction or both.
    Partitions,
    /// What is sent is held up, for seconds.
    Delays,
    /// A director's process stands still for a while.
    Pauses,
    /// The directors' clocks differ by seconds.
    Clocks,
    /// A director's clock is set forward or back, by seconds, minutes or hours.
    Steps,
    /// A link breaks again and again, or any link does, every few seconds for up to a minute.
    Flapping,
    /// What directors say to each other takes seconds to arrive, all of it.
    Latency,
    /// A director takes what the others say little by little only.
    Slowness,
    /// One or two directors speak an older minor version of the ring protocol.
    Minors,
    /// A director that starts again has other backends in its configuration than the ring has.
    Configurations,
    /// Kicks take longer than a move may, fail, or are never answered.
    Kicks,
    /// Flush scripts take longer than a move may, or break off.
    Scripts,
    /// Auth servers answer late, die, or are not there.
    Auth,
    /// A director is stopped by its administrator, says so, and starts again, knowing nothing.
    Stops,
}

impl Fault {
    /// All of them.
    pub const ALL: [Self; 17] = [
        Self::Resets,
        Self::Crashes,
        Self::Blackouts,
        Self::Partitions,
        Self::Delays,
        Self::Pauses,
        Self::Clocks,
        Self::Steps,
        Self::Flapping,
        Self::Latency,
        Self::Slowness,
        Self::Minors,
        Self::Configurations,
        Self::Kicks,
        Self::Scripts,
        Self::Auth,
        Self::Stops,
    ];

    /// Whether it strikes now and then, rather than being there all the time.
    pub fn strikes(self) -> bool {
        !matches!(self, Self::Delays | Self::Clocks | Self::Minors | Self::Configurations | Self::Kicks | Self::Scripts)
    }

    /// The name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Resets => "resets",
            Self::Crashes => "crashes",
            Self::Blackouts => "blackouts",
            Self::Partitions => "partitions",
            Self::Delays => "delays",
            Self::Pauses => "pauses",
            Self::Clocks => "clocks",
            Self::Steps => "steps",
            Self::Flapping => "flapping",
            Self::Latency => "latency",
            Self::Slowness => "slowness",
            Self::Minors => "minors",
            Self::Configurations => "configurations",
            Self::Kicks => "kicks",
            Self::Scripts => "scripts",
            Self::Auth => "auth",
            Self::Stops => "stops",
        }
    }
}

/// Kinds of faults, each once, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Faults(Vec<Fault>);

impl Faults {
    /// None.
    pub const NONE: Self = Self(Vec::new());

    /// These.
    pub fn new(faults: &[Fault]) -> Self {
        let mut faults = faults.to_vec();
        faults.sort_unstable();
        faults.dedup();
        Self(faults)
    }

    /// Whether this kind is among them.
    pub fn has(&self, fault: Fault) -> bool {
        self.0.contains(&fault)
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Each of them, in order.
    pub fn iter(&self) -> impl Iterator<Item = Fault> {
        self.0.iter().copied()
    }

    /// Those that strike now and then. (The others are there all the time.)
    pub fn striking(&self) -> Vec<Fault> {
        self.iter().filter(|fault| fault.strikes()).collect()
    }
}

impl fmt::Display for Faults {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return formatter.write_str("none");
        }
        let names: Vec<&str> = self.0.iter().map(|fault| fault.name()).collect();
        formatter.write_str(&names.join(","))
    }
}

impl FromStr for Faults {
    type Err = String;

    /// `none`, `all`, or names with commas between.
    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "none" => return Ok(Self::NONE),
            "all" => return Ok(Self::new(&Fault::ALL)),
            _ => {}
        }
        let find = |name: &str| {
            Fault::ALL.into_iter().find(|fault| fault.name() == name).ok_or_else(|| {
                let names = Fault::ALL.map(Fault::name).join(", ");
                format!("there is no fault '{name}'; there are {names}; or say none or all")
            })
        };
        Ok(Self::new(&text.split(',').map(find).collect::<Result<Vec<_>, _>>()?))
    }
}

/// Numbers of strikes, counted from 1.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Strikes(BTreeSet<u32>);

impl Strikes {
    /// Whether this one is among them.
    pub fn has(&self, strike: u32) -> bool {
        self.0.contains(&strike)
    }
}

impl FromIterator<u32> for Strikes {
    fn from_iter<I: IntoIterator<Item = u32>>(strikes: I) -> Self {
        Self(strikes.into_iter().collect())
    }
}

impl fmt::Display for Strikes {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return formatter.write_str("none");
        }
        let numbers: Vec<String> = self.0.iter().map(u32::to_string).collect();
        formatter.write_str(&numbers.join(","))
    }
}

impl FromStr for Strikes {
    type Err = String;

    /// `none`, or numbers with commas between.
    fn from_str(text: &str) -> Result<Self, String> {
        if text == "none" {
            return Ok(Self::default());
        }
        let number = |word: &str| word.parse().map_err(|_| format!("'{word}' is no number of a strike"));
        text.split(',').map(number).collect()
    }
}

/// What the command line fixes; the seed draws the rest.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fixed {
    /// How many directors.
    pub directors: Option<usize>,
    /// How many users.
    pub users: Option<usize>,
    /// How long the phase with faults lasts, in minutes.
    pub minutes: Option<u64>,
    /// Which faults.
    pub faults: Option<Faults>,
    /// Which strikes of faults happen, by their numbers in the run, counted from 1; otherwise all.
    pub strikes: Option<Strikes>,
    /// No operator does anything.
    pub no_operators: bool,
}

/// What director_flush_socket points to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FlushScript {
    /// Nothing.
    None,
    /// A unix socket of the script service.
    Socket,
    /// A program.
    Program,
}

impl FlushScript {
    /// The setting.
    pub fn setting(self) -> &'static str {
        match self {
            Self::None => "",
            Self::Socket => "unix:flush",
            Self::Program => "exec:/usr/bin/flush %i",
        }
    }
}

/// All that is decided before a run starts.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The seed.
    pub seed: u64,
    /// How many directors.
    pub directors: usize,
    /// How many backends the configuration has for each tag.
    pub backends: usize,
    /// Whether a third of the users have a tag of their own.
    pub tags: bool,
    /// How many users.
    pub users: usize,
    /// director_user_expire.
    pub expire_secs: u32,
    /// How long things go wrong.
    pub safety_micros: u64,
    /// What goes wrong.
    pub faults: Faults,
    /// The mean time between two logins.
    pub login_pause_micros: u64,
    /// The mean time between two commands of operators.
    pub operator_pause_micros: u64,
    /// The mean time between two faults.
    pub fault_pause_micros: u64,
    /// The network while things go wrong.
    pub conditions: Conditions,
    /// How far each director's clock is ahead while things go wrong; negative: behind.
    pub clock_skews_secs: Vec<i64>,
    /// The highest minor version of the ring protocol that each director speaks.
    pub minors: Vec<u32>,
    /// Which strikes of faults happen; `None`: all.
    pub strikes: Option<Strikes>,
    /// Whether operators do anything.
    pub operators: bool,
    /// director_flush_socket.
    pub flush_script: FlushScript,
    /// director_user_kick_delay.
    pub kick_delay_millis: u64,
    /// director_max_parallel_moves.
    pub max_parallel_moves: u32,
    /// director_max_parallel_kicks.
    pub max_parallel_kicks: u32,
    /// Operators may take away every backend of a pool.
    pub no_backend_is_safe: bool,
    /// Operators take directors out of the ring and bring them back.
    pub reorganizes: bool,
    /// The last director is new: it joins a running ring.
    pub has_newcomer: bool,
    /// The directors have IPv6 addresses, and every second backend of a pool.
    pub ipv6: bool,
}

impl Plan {
    /// What the seed stands for. Every draw is made whatever is fixed, so that fixing one thing changes no other.
    pub fn draw(seed: u64, fixed: &Fixed) -> Self {
        let mut random = Random::new(seed);
        let drawn_directors = random.between(2, 6) as usize;
        let backends = random.between(2, 6) as usize;
        let tags = random.percent(25);
        let drawn_users = random.between(20, 300) as usize;
        let expire_secs = random.between(20, 90) as u32;
        let login_pause_micros = random.between(20_000, 500_000);
        let operator_pause_micros = random.between(1, 20) * SECOND;
        let fault_pause_micros = random.between(1, 30) * SECOND;
        let earlier = Fault::ALL.into_iter().filter(|fault| *fault != Fault::Stops);
        let mut drawn_faults: Vec<Fault> = earlier.filter(|_| random.percent(35)).collect();
        let latency_max_micros = random.between(200, 20_000);
        let delay_max_micros = random.between(1, 5) * SECOND;
        let window_bytes = 1 << random.between(10, 17);
        let skews: Vec<i64> = (0..64).map(|_| random.between(0, 6) as i64 - 3).collect();
        let flush_script =
            [FlushScript::None, FlushScript::None, FlushScript::Socket, FlushScript::Program][random.index(4)];
        let kick_delay_millis = random.below(5000);
        let max_parallel_moves = [3, 10, 100, 100][random.index(4)];
        let max_parallel_kicks = [1, 3, 100, 100][random.index(4)];
        let no_backend_is_safe = random.percent(5);
        let reorganizes = random.percent(30);
        let has_newcomer = random.percent(40);

        let older: [(u64, u32); 2] = std::array::from_fn(|_| (random.next_u64(), random.between(5, 9) as u32));
        let one_older = random.percent(60);
        // What came later is drawn last, so that everything else about a seed stays what it was.
        drawn_faults.extend(random.percent(35).then_some(Fault::Stops));
        let ipv6 = random.percent(20);

        let directors = fixed.directors.unwrap_or(drawn_directors);
        let faults = fixed.faults.clone().unwrap_or_else(|| Faults::new(&drawn_faults));
        let delays = faults.has(Fault::Delays);
        let clocks = faults.has(Fault::Clocks);
        let mut minors = vec![MINOR; directors];
        if faults.has(Fault::Minors) {
            for (at, minor) in &older[usize::from(one_older)..] {
                // A member that knows no tags is refused by a ring that has some.
                minors[*at as usize % directors] = if tags { (*minor).max(minor::TAGS) } else { *minor };
            }
        }
        Self {
            seed,
            directors,
            backends,
            tags,
            users: fixed.users.unwrap_or(drawn_users),
            expire_secs,
            safety_micros: fixed.minutes.unwrap_or(2) * 60 * SECOND,
            login_pause_micros,
            operator_pause_micros,
            fault_pause_micros,
            conditions: Conditions {
                latency_min_micros: 50,
                latency_max_micros,
                delay_percent: if delays { 2 } else { 0 },
                delay_max_micros: if delays { delay_max_micros } else { 0 },
                window_bytes,
            },
            clock_skews_secs: (0..directors).map(|n| if clocks { skews[n % skews.len()] } else { 0 }).collect(),
            minors,
            strikes: fixed.strikes.clone(),
            operators: !fixed.no_operators,
            faults,
            flush_script,
            kick_delay_millis,
            max_parallel_moves,
            max_parallel_kicks,
            no_backend_is_safe,
            reorganizes,
            has_newcomer,
            ipv6,
        }
    }

    /// The director that is not in the ring at first.
    pub fn newcomer(&self) -> Option<usize> {
        (self.has_newcomer && self.directors > 2).then(|| self.directors - 1)
    }

    /// The network once nothing goes wrong any more.
    pub fn calm_conditions(&self) -> Conditions {
        Conditions { delay_percent: 0, delay_max_micros: 0, ..self.conditions.clone() }
    }

    /// The address of a director, from 0.
    pub fn director_address(&self, director: usize) -> SocketAddr {
        let place = [(director / 250) as u8, (director % 250) as u8 + 1];
        (ip(self.ipv6, 1, place), 9090).into()
    }

    /// The tag of a user, from 0.
    pub fn user_tag(&self, user: usize) -> &'static str {
        if self.tags && user.is_multiple_of(3) { TAG } else { "" }
    }

    /// The name of a user, from 0.
    pub fn user_name(&self, user: usize) -> String {
        format!("User{user}@example.com")
    }

    /// Backends that operators know, configured or not, by tag.
    pub fn known_backends(&self) -> Vec<(IpAddr, &'static str)> {
        let tags: &[(u8, &str)] = if self.tags { &[(0, ""), (1, TAG)] } else { &[(0, "")] };
        let count = self.backends + SPARE_BACKENDS;
        let backend = |n, host: usize| ip(self.ipv6 && host % 2 == 1, 2, [n, host as u8 + 1]);
        tags.iter().flat_map(|&(n, tag)| (0..count).map(move |host| (backend(n, host), tag))).collect()
    }

    /// The lowest minor version in the ring.
    pub fn lowest_minor(&self) -> u32 {
        self.minors.iter().copied().min().unwrap_or(MINOR)
    }

    /// Whether a director that starts for that time (the first is 1) finds another configuration than the others had.
    pub fn differs(&self, start: u32) -> bool {
        self.faults.has(Fault::Configurations) && start > 1
    }

    /// The configuration with which a director starts for that time.
    pub fn configuration(&self, director: usize, start: u32) -> Configuration {
        let count = self.backends + SPARE_BACKENDS;
        // Which backends an old configuration has belongs to the plan, so it follows from what names the start.
        let mut random = Random::new(self.seed ^ (director as u64) << 32 ^ u64::from(start) << 48);
        let differs = self.differs(start);
        let hosts = self.known_backends().into_iter().enumerate().filter(|(n, _)| {
            let configured = n % count < self.backends;
            configured != (differs && n % count > 0 && random.percent(30))
        });
        Configuration {
            self_address: self.director_address(director),
            members: (0..self.directors).map(|n| self.director_address(n)).collect(),
            hosts: hosts
                .map(|(_, (ip, tag))| ConfiguredHost { ip, hostname: None, tag: tag.as_bytes().into() })
                .collect(),
            tuning: Tuning {
                user_expire_secs: self.expire_secs,
                ring_minor: self.minors[director],
                user_kick_delay: Duration::from_millis(self.kick_delay_millis),
                max_parallel_moves: self.max_parallel_moves,
                max_parallel_kicks: self.max_parallel_kicks,
                flush_socket: self.flush_script.setting().to_owned(),
                ..Tuning::default()
            },
        }
    }
}

/// The hash that all directors use, and the model login processes.
pub fn username_hash() -> UsernameHash {
    UsernameHash::parse("%Lu").expect("the default template is one")
}

fn ip(v6: bool, net: u8, [group, host]: [u8; 2]) -> IpAddr {
    if v6 {
        Ipv6Addr::new(0xfd00, 0, 0, net.into(), 0, 0, group.into(), host.into()).into()
    } else {
        Ipv4Addr::new(10, net, group, host).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_are_read_as_they_are_printed() {
        for text in ["none", "resets", "crashes,pauses"] {
            assert_eq!(text.parse::<Faults>().unwrap().to_string(), text);
        }
        assert_eq!("pauses,resets,pauses".parse::<Faults>().unwrap().to_string(), "resets,pauses");
        assert_eq!("all".parse::<Faults>().unwrap(), Faults::new(&Fault::ALL));
        assert!("rain".parse::<Faults>().unwrap_err().contains("resets"));
        assert!("".parse::<Faults>().is_err());
    }

    #[test]
    fn strikes_are_read_as_they_are_printed() {
        for text in ["none", "3", "1,7,20"] {
            assert_eq!(text.parse::<Strikes>().unwrap().to_string(), text);
        }
        assert!("1,x".parse::<Strikes>().is_err() && "".parse::<Strikes>().is_err());
        let strikes: Strikes = [4, 2].into_iter().collect();
        assert!(strikes.has(2) && !strikes.has(3));
    }

    #[test]
    fn what_is_fixed_changes_nothing_else() {
        let drawn = Plan::draw(5, &Fixed::default());
        let fixed = Fixed {
            directors: Some(9),
            users: Some(7),
            minutes: Some(1),
            faults: Some(Faults::NONE),
            ..Fixed::default()
        };
        let plan = Plan::draw(5, &fixed);
        assert_eq!((plan.directors, plan.users, plan.safety_micros), (9, 7, 60 * SECOND));
        assert!(plan.faults.is_empty());
        assert_eq!((plan.expire_secs, plan.login_pause_micros), (drawn.expire_secs, drawn.login_pause_micros));
        assert_eq!(plan.conditions.window_bytes, drawn.conditions.window_bytes);
    }

    #[test]
    fn a_configuration_holds_each_director_and_backend_once() {
        let mut plan = Plan::draw(1, &Fixed { directors: Some(3), ..Fixed::default() });
        plan.tags = true;
        let configuration = plan.configuration(1, 1);
        assert_eq!(configuration.members.len(), 3);
        assert_eq!(configuration.self_address, configuration.members[1]);
        assert_eq!(configuration.hosts.len(), 2 * plan.backends);
        let mut ips: Vec<_> = plan.known_backends().iter().map(|(ip, _)| *ip).collect();
        ips.dedup();
        assert_eq!(ips.len(), 2 * (plan.backends + SPARE_BACKENDS));
    }

    #[test]
    fn older_members_are_one_or_two_and_know_tags_where_there_are_some() {
        let fixed = Fixed { faults: Some(Faults::new(&[Fault::Minors])), ..Fixed::default() };
        let mut seen = [0; 3];
        for seed in 0..200 {
            let plan = Plan::draw(seed, &fixed);
            let older: Vec<u32> = plan.minors.iter().copied().filter(|&minor| minor < MINOR).collect();
            seen[older.len()] += 1;
            assert!(older.iter().all(|&older| older >= 5 && (!plan.tags || older >= minor::TAGS)));
            assert_eq!(plan.lowest_minor(), *older.iter().min().unwrap());
            assert_eq!(plan.configuration(0, 1).tuning.ring_minor, plan.minors[0]);
        }
        assert!(seen[0] == 0 && seen[1] > 0 && seen[2] > 0, "{seen:?}");
        assert_eq!(Plan::draw(1, &Fixed { faults: Some(Faults::NONE), ..fixed }).lowest_minor(), MINOR);
    }

    #[test]
    fn an_old_configuration_has_other_backends_but_the_first_of_each_pool() {
        let fixed = Fixed { faults: Some(Faults::new(&[Fault::Configurations])), ..Fixed::default() };
        let plan = Plan::draw(1, &fixed);
        let first = plan.configuration(0, 1).hosts;
        assert_eq!(first, plan.configuration(1, 1).hosts);
        let later: Vec<_> = (2..10).map(|start| plan.configuration(0, start).hosts).collect();
        assert!(later.iter().any(|hosts| *hosts != first) && later.iter().all(|hosts| hosts[0] == first[0]));
        assert_eq!(later[0], plan.configuration(0, 2).hosts);
        let none = Plan::draw(1, &Fixed { faults: Some(Faults::NONE), ..fixed });
        assert_eq!(none.configuration(0, 2).hosts, first);
    }
}
