//! Our director beside the original: the same loads on both, in the same run.

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use director_tests::bench::{Table, drain, place};
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
        /// How often each drain is done
        #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
        rounds: u32,
    },
}

impl Load {
    fn needs(&self) -> &'static [Need] {
        match self {
            Self::Drain { .. } => &drain::NEEDS,
        }
    }

    fn run(&self) -> Table {
        match *self {
            Self::Drain { users, original_users, full, with_sessions, rounds } => drain::run(&drain::Load {
                users,
                original_users: if full { users } else { original_users },
                with_sessions,
                rounds,
            }),
        }
    }
}

fn batches(argument: &str) -> Result<usize, String> {
    let users: usize = argument.parse().map_err(|error| format!("{error}"))?;
    let whole = users.is_multiple_of(drain::IDLE_PARALLEL);
    whole.then_some(users).ok_or_else(|| format!("not a multiple of {}", drain::IDLE_PARALLEL))
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
    let table = load.run();
    println!("\n{table}Measured on {place}.");
    ExitCode::SUCCESS
}
