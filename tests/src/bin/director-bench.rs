//! Our director beside the original: the same loads on both, in the same run.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::{Args, Parser, Subcommand};
use director_tests::bench::{NEEDS, Table, backends, drain, footprint, join, logins, lookups, place, updates};
use director_tests::{Need, requirements};

/// Runs the same loads on Dovecot's director and on ours, and prints what both took.
///
/// Needs root, Dovecot 2.3 and a quiet machine; run it with `cargo run --release`.
#[derive(Parser)]
#[command(name = "director-bench")]
struct Arguments {
    #[command(subcommand)]
    load: Load,
}

#[derive(Subcommand)]
enum Load {
    /// A little of everything, in about four minutes
    Quick,
    /// Everything, in about an hour and a half
    Full,
    /// Look users up, alone and in a ring
    Lookups {
        /// For how many seconds each rate is measured
        #[arg(long, default_value_t = 3.0)]
        seconds: f64,
        /// How many users are looked up in turn
        #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u64).range(1..))]
        users: u64,
        /// How many users are looked up for the first time, and again; 0: leave that out
        #[arg(long, default_value_t = 1_000_000)]
        distinct: u64,
        /// How many directors the ring has; 1: leave the ring out
        #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u8).range(1..=100))]
        ring: u8,
        #[command(flatten)]
        rounds: Rounds,
    },
    /// Log users in through the relay to a stand-in auth server
    Logins {
        /// For how many seconds each rate is measured
        #[arg(long, default_value_t = 3.0)]
        seconds: f64,
        /// How many users log in, in turn
        #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u64).range(1..))]
        users: u64,
        #[command(flatten)]
        rounds: Rounds,
    },
    /// Take USER updates from the ring, and send them on
    Updates {
        /// How many users are updated
        #[arg(long, default_value_t = 1_000_000, value_parser = clap::value_parser!(u64).range(1..=50_000_000))]
        users: u64,
        #[command(flatten)]
        rounds: Rounds,
    },
    /// Fill a director with users, and let another join: memory, time, and what the others notice
    Join {
        /// How many users there are
        #[arg(long, default_value_t = 1_000_000, value_parser = clap::value_parser!(u64).range(2..=50_000_000))]
        users: u64,
        #[command(flatten)]
        rounds: Rounds,
    },
    /// Change one of very many backends
    Backends {
        /// How many there are, in blocks of 250
        #[arg(long, default_value_t = 1000, value_parser = blocks)]
        backends: u32,
        /// How many directors the rings have
        #[arg(long, value_delimiter = ',', default_values_t = [3, 10])]
        rings: Vec<u8>,
        /// How many changes are made in each
        #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=900))]
        changes: u32,
        #[command(flatten)]
        rounds: Rounds,
    },
    /// Move all users of a backend away, in a ring of three
    Drain {
        /// Users without sessions on ours, in hundreds; 0: leave these drains out
        #[arg(long, default_value_t = 10_000, value_parser = batches)]
        users: usize,
        /// Users without sessions on the original, in hundreds (it moves about 50 users a second); if this is another
        /// number than on ours, only the rates are compared
        #[arg(long, default_value_t = 1_000, value_parser = batches)]
        original_users: usize,
        /// As many users without sessions on the original as on ours
        #[arg(long)]
        full: bool,
        /// Users with a session each; 0: leave these drains out
        #[arg(long, default_value_t = 1_000)]
        with_sessions: usize,
        #[command(flatten)]
        rounds: Rounds,
    },
    /// What a director alone costs the machine, both of ours beside the original: memory, threads, lookups
    Footprint {
        /// The most idle login connections; each takes two files in the director
        #[arg(long, default_value_t = FOOTPRINT.connections)]
        connections: usize,
        /// Lookups of which one is under way at a time, for each figure
        #[arg(long, default_value_t = FOOTPRINT.lookups_alone)]
        lookups_alone: u64,
        /// Lookups of which many are under way at a time, for each figure
        #[arg(long, default_value_t = FOOTPRINT.lookups_together)]
        lookups_together: u64,
        /// How many at a time
        #[arg(long, default_value_t = FOOTPRINT.in_flight, value_parser = clap::value_parser!(u64).range(2..=1000))]
        in_flight: u64,
        /// How often each is measured
        #[arg(long, default_value_t = FOOTPRINT.rounds, value_parser = clap::value_parser!(u32).range(1..))]
        rounds: u32,
    },
}

#[derive(Args, Clone, Copy)]
struct Rounds {
    /// How often each is done, on both in turns
    #[arg(long = "rounds", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    count: u32,
}

impl Load {
    fn run(&self) -> Vec<Table> {
        vec![match *self {
            Self::Quick => all(&QUICK),
            Self::Full => {
                let mut table = all(&FULL);
                table.append(join::run(&join::Load { users: 10_000_000, rounds: 1 }));
                // It has another column, so it stands for itself.
                return vec![table, footprint::run(&FOOTPRINT)];
            }
            Self::Lookups { seconds, users, distinct, ring, rounds } => {
                let time = Duration::from_secs_f64(seconds);
                lookups::run(&lookups::Load { time, users, distinct, ring, rounds: rounds.count })
            }
            Self::Logins { seconds, users, rounds } => {
                logins::run(&logins::Load { time: Duration::from_secs_f64(seconds), users, rounds: rounds.count })
            }
            Self::Updates { users, rounds } => updates::run(&updates::Load { users, rounds: rounds.count }),
            Self::Join { users, rounds } => join::run(&join::Load { users, rounds: rounds.count }),
            Self::Backends { backends, ref rings, changes, rounds } => {
                backends::run(&backends::Load { backends, members: rings.clone(), changes, rounds: rounds.count })
            }
            Self::Drain { users, original_users, full, with_sessions, rounds } => drain::run(&drain::Load {
                users,
                original_users: if full { users } else { original_users },
                with_sessions,
                rounds: rounds.count,
            }),
            Self::Footprint { connections, lookups_alone, lookups_together, in_flight, rounds } => {
                footprint::run(&footprint::Load { connections, lookups_alone, lookups_together, in_flight, rounds })
            }
        }]
    }

    fn needs(&self) -> &'static [Need] {
        match self {
            Self::Footprint { .. } | Self::Full => &footprint::NEEDS,
            _ => &NEEDS,
        }
    }
}

/// How much of everything.
struct Amount {
    seconds: u64,
    rounds: u32,
    distinct: u64,
    updates: u64,
    rings: &'static [u8],
    drain: drain::Load,
}

const QUICK: Amount = Amount {
    seconds: 1,
    rounds: 2,
    distinct: 200_000,
    updates: 500_000,
    rings: &[3],
    drain: drain::Load { users: 1_000, original_users: 500, with_sessions: 500, rounds: 1 },
};

const FULL: Amount = Amount {
    seconds: 3,
    rounds: 5,
    distinct: 1_000_000,
    updates: 1_000_000,
    rings: &[3, 10],
    drain: drain::Load { users: 10_000, original_users: 10_000, with_sessions: 1_000, rounds: 3 },
};

const FOOTPRINT: footprint::Load = footprint::Load {
    connections: 10_000,
    lookups_alone: 20_000,
    lookups_together: 200_000,
    in_flight: 256,
    rounds: 5,
};

fn all(amount: &Amount) -> Table {
    let Amount { rounds, .. } = *amount;
    let time = Duration::from_secs(amount.seconds);
    let users = 100_000;
    let distinct = amount.distinct;
    let mut table = lookups::run(&lookups::Load { time, users, distinct, ring: 3, rounds });
    table.append(logins::run(&logins::Load { time, users, rounds }));
    table.append(updates::run(&updates::Load { users: amount.updates, rounds }));
    table.append(join::run(&join::Load { users: 1_000_000, rounds }));
    let members = amount.rings.to_vec();
    table.append(backends::run(&backends::Load { backends: 1000, members, changes: 20, rounds }));
    table.append(drain::run(&amount.drain));
    table
}

fn batches(argument: &str) -> Result<usize, String> {
    multiple(argument, drain::IDLE_PARALLEL as u64).map(|users| users as usize)
}

fn blocks(argument: &str) -> Result<u32, String> {
    multiple(argument, 250).and_then(|backends| u32::try_from(backends).map_err(|error| error.to_string()))
}

fn multiple(argument: &str, of: u64) -> Result<u64, String> {
    let number: u64 = argument.parse().map_err(|error| format!("{error}"))?;
    number.is_multiple_of(of).then_some(number).ok_or_else(|| format!("not a multiple of {of}"))
}

fn main() -> ExitCode {
    let load = Arguments::parse().load;
    if cfg!(debug_assertions) && std::env::var_os("DIRECTOR_BINARY").is_none() {
        eprintln!("director-bench: the figures of an unoptimized daemon say nothing; use cargo run --release");
        return ExitCode::FAILURE;
    }
    if let Some(reason) = requirements::missing(load.needs()) {
        eprintln!("director-bench cannot run here: {reason}");
        return ExitCode::FAILURE;
    }
    // Before, since a bench keeps the machine busy by itself.
    let place = place::describe();
    let start = Instant::now();
    for table in load.run() {
        println!("\n{table}");
    }
    println!("Measured in {:.0} s on {place}.", start.elapsed().as_secs_f64());
    ExitCode::SUCCESS
}
