//! `director-sim`: runs simulated rings, and shows one again.

use std::io::{self, BufWriter, Write};
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use director_sim::report::{replay_command, summary};
use director_sim::{Faults, Fixed, Keep, Plan, run};

/// Whole rings of mail directors on a virtual network, from one seed.
///
/// Exits with 0 if everything held, 1 if something did not, 2 if the command line is wrong.
#[derive(Debug, Parser)]
#[command(name = "director-sim", version)]
struct CommandLine {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run many seeds; print those that fail, and a summary
    Run {
        /// The first seed
        #[arg(long, default_value_t = 1)]
        seed: u64,
        /// How many seeds, counted up from the first
        #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u64).range(1..))]
        seeds: u64,
        #[command(flatten)]
        ring: RingArgs,
    },
    /// Run one seed and print everything that happens
    Replay {
        /// The seed
        #[arg(long)]
        seed: u64,
        #[command(flatten)]
        ring: RingArgs,
    },
}

/// What the seed would draw otherwise.
#[derive(Args, Debug)]
struct RingArgs {
    /// How many directors
    #[arg(long, value_parser = clap::value_parser!(u8).range(1..=60))]
    directors: Option<u8>,
    /// How many users
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    users: Option<u32>,
    /// How long things go wrong, in virtual minutes [default: 2]
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..=10_000))]
    minutes: Option<u64>,
    /// What goes wrong: none, all, or some of resets, crashes, blackouts, partitions, delays, pauses, clocks, with
    /// commas between
    #[arg(long)]
    faults: Option<Faults>,
}

impl RingArgs {
    fn fixed(&self) -> Fixed {
        Fixed {
            directors: self.directors.map(usize::from),
            users: self.users.map(|users| users as usize),
            minutes: self.minutes,
            faults: self.faults.clone(),
        }
    }
}

fn main() -> ExitCode {
    let result = match CommandLine::parse().command {
        Command::Run { seed, seeds, ring } => run_many(seed, seeds, &ring.fixed()),
        Command::Replay { seed, ring } => replay(seed, &ring.fixed()),
    };
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        // Whoever read our output has had enough.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("director-sim: cannot write: {error}");
            ExitCode::from(1)
        }
    }
}

fn run_many(first: u64, count: u64, fixed: &Fixed) -> io::Result<bool> {
    let mut out = io::stdout().lock();
    let mut outcomes = Vec::new();
    for seed in (0..count).map(|n| first.wrapping_add(n)) {
        let outcome = run(&Plan::draw(seed, fixed), Keep::Nothing);
        if !outcome.is_clean() {
            writeln!(out, "{}\n    {}", outcome.failure(), replay_command(seed, fixed))?;
        }
        outcomes.push(outcome);
    }
    write!(out, "{}", summary(&outcomes))?;
    Ok(outcomes.iter().all(director_sim::Outcome::is_clean))
}

fn replay(seed: u64, fixed: &Fixed) -> io::Result<bool> {
    let plan = Plan::draw(seed, fixed);
    let mut out = BufWriter::new(io::stdout().lock());
    writeln!(
        out,
        "seed {seed}: {} directors, {} users, expire {} s, faults {}",
        plan.directors, plan.users, plan.expire_secs, plan.faults
    )?;
    let outcome = run(&plan, Keep::Everything);
    for line in &outcome.timeline {
        writeln!(out, "{line}")?;
    }
    for violation in &outcome.violations {
        writeln!(out, "{violation}")?;
    }
    writeln!(out, "digest {:016x}", outcome.statistics.digest)?;
    write!(out, "{}", summary(std::slice::from_ref(&outcome)))?;
    out.flush()?;
    Ok(outcome.is_clean())
}
