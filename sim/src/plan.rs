//! What a seed stands for: the size of a ring, its load, and what goes wrong.
//!
//! Each seed draws its own mix of faults ("swarm"): runs in which everything fails at once find other things than runs
//! in which only one kind of thing does, again and again.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::str::FromStr;

use director_core::Configuration;
use director_core::hash::UsernameHash;
use director_core::settings::{ConfiguredHost, Tuning};

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
}

impl Fault {
    /// All of them.
    pub const ALL: [Self; 7] =
        [Self::Resets, Self::Crashes, Self::Blackouts, Self::Partitions, Self::Delays, Self::Pauses, Self::Clocks];

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

    /// Those that strike now and then. (The others are there all the time.)
    pub fn striking(&self) -> Vec<Fault> {
        self.0.iter().copied().filter(|fault| !matches!(fault, Fault::Delays | Fault::Clocks)).collect()
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
        let drawn_faults: Vec<Fault> = Fault::ALL.into_iter().filter(|_| random.percent(40)).collect();
        let latency_max_micros = random.between(200, 20_000);
        let delay_max_micros = random.between(1, 5) * SECOND;
        let window_bytes = 1 << random.between(10, 17);
        let skews: Vec<i64> = (0..64).map(|_| random.between(0, 6) as i64 - 3).collect();

        let directors = fixed.directors.unwrap_or(drawn_directors);
        let faults = fixed.faults.clone().unwrap_or_else(|| Faults::new(&drawn_faults));
        let delays = faults.has(Fault::Delays);
        let clocks = faults.has(Fault::Clocks);
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
            faults,
        }
    }

    /// The network once nothing goes wrong any more.
    pub fn calm_conditions(&self) -> Conditions {
        Conditions { delay_percent: 0, delay_max_micros: 0, ..self.conditions.clone() }
    }

    /// The address of a director, from 0.
    pub fn director_address(&self, director: usize) -> SocketAddr {
        SocketAddr::from(([10, 1, (director / 250) as u8, (director % 250) as u8 + 1], 9090))
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
        tags.iter().flat_map(|&(n, tag)| (0..count).map(move |host| (backend_ip(n, host), tag))).collect()
    }

    /// The configuration of a director.
    pub fn configuration(&self, director: usize) -> Configuration {
        let count = self.backends + SPARE_BACKENDS;
        let hosts = self.known_backends().into_iter().enumerate().filter(|(n, _)| n % count < self.backends);
        Configuration {
            self_address: self.director_address(director),
            members: (0..self.directors).map(|n| self.director_address(n)).collect(),
            hosts: hosts
                .map(|(_, (ip, tag))| ConfiguredHost { ip, hostname: None, tag: tag.as_bytes().into() })
                .collect(),
            tuning: Tuning { user_expire_secs: self.expire_secs, ..Tuning::default() },
        }
    }
}

/// The hash that all directors use, and the model login processes.
pub fn username_hash() -> UsernameHash {
    UsernameHash::parse("%Lu").expect("the default template is one")
}

fn backend_ip(pool: u8, host: usize) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(10, 2, pool, host as u8 + 1))
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
    fn what_is_fixed_changes_nothing_else() {
        let drawn = Plan::draw(5, &Fixed::default());
        let fixed = Fixed { directors: Some(9), users: Some(7), minutes: Some(1), faults: Some(Faults::NONE) };
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
        let configuration = plan.configuration(1);
        assert_eq!(configuration.members.len(), 3);
        assert_eq!(configuration.self_address, configuration.members[1]);
        assert_eq!(configuration.hosts.len(), 2 * plan.backends);
        let mut ips: Vec<_> = plan.known_backends().iter().map(|(ip, _)| *ip).collect();
        ips.dedup();
        assert_eq!(ips.len(), 2 * (plan.backends + SPARE_BACKENDS));
    }
}
