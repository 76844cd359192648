//! `director-sim`: runs simulated rings, shows one again, and finds the smallest one that fails.

use std::io::{self, BufWriter, IsTerminal, Write};
use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

use clap::{Args, Parser, Subcommand};
use director_sim::many::run_seeds;
use director_sim::report::{Totals, replay_command};
use director_sim::scale::Scale;
use director_sim::shrink::shrink;
use director_sim::timeline::Filter;
use director_sim::{Faults, Fixed, Keep, Plan, Strikes, run};

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
    /// Run many seeds; print a line for each that fails, and a summary
    Run {
        /// The first seed
        #[arg(long, default_value_t = 1)]
        seed: u64,
        /// How many seeds, counted up from the first
        #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u64).range(1..))]
        seeds: u64,
        /// How many seeds at a time [default: as many as there are processors]
        #[arg(long, value_parser = clap::value_parser!(u16).range(1..=1024))]
        jobs: Option<u16>,
        /// Print the digest of each seed too: the same seed has the same, on every machine
        #[arg(long)]
        digests: bool,
        /// Stop at the first seed that fails
        #[arg(long)]
        fail_fast: bool,
        #[command(flatten)]
        ring: RingArgs,
    },
    /// Run one seed and print everything that happens
    Replay {
        /// The seed
        #[arg(long)]
        seed: u64,
        /// Print what happens until then, in virtual seconds
        #[arg(long, value_name = "T")]
        until: Option<u64>,
        /// Print what has to do with this director, counted from 1
        #[arg(long, value_name = "I", value_parser = clap::value_parser!(u8).range(1..))]
        director: Option<u8>,
        /// Print what names this user: a hash or a name
        #[arg(long, value_name = "H")]
        user: Option<String>,
        #[command(flatten)]
        ring: RingArgs,
    },
    /// Find the fewest directors, users, minutes and faults with which a seed still fails in the same way
    Shrink {
        /// The seed
        #[arg(long)]
        seed: u64,
        #[command(flatten)]
        ring: RingArgs,
    },
    /// What logins and changes cost in rings of different sizes, without faults
    Scale {
        /// How many directors the rings have
        #[arg(long, value_delimiter = ',', default_values_t = [2, 3, 5, 10, 20, 50, 100],
              value_parser = clap::value_parser!(u8).range(2..=250))]
        directors: Vec<u8>,
        /// The times from one to another, in milliseconds
        #[arg(long, value_delimiter = ',', default_values_t = [1, 10, 100],
              value_parser = clap::value_parser!(u64).range(1..=1000))]
        latencies: Vec<u64>,
    },
}

/// What the seed would draw otherwise.
#[derive(Args, Debug)]
struct RingArgs {
    /// How many directors
    #[arg(long, value_parser = clap::value_parser!(u8).range(2..=40))]
    directors: Option<u8>,
    /// How many users
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    users: Option<u32>,
    /// How long things go wrong, in virtual minutes [default: 2]
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..=10_000))]
    minutes: Option<u64>,
    /// What goes wrong: none, all, or some of resets, crashes, blackouts, partitions, delays, pauses, clocks, steps,
    /// flapping, latency, slowness, minors, configurations, kicks, scripts, auth, stops, with commas between
    #[arg(long)]
    faults: Option<Faults>,
    /// Which strikes of faults happen: none, or their numbers in the timeline, with commas between [default: all]
    #[arg(long)]
    strikes: Option<Strikes>,
    /// No operator changes anything
    #[arg(long)]
    no_operators: bool,
}

impl RingArgs {
    fn fixed(self) -> Fixed {
        Fixed {
            directors: self.directors.map(usize::from),
            users: self.users.map(|users| users as usize),
            minutes: self.minutes,
            faults: self.faults,
            strikes: self.strikes,
            no_operators: self.no_operators,
        }
    }
}

fn main() -> ExitCode {
    let command = CommandLine::parse().command;
    // A panic in a core is part of what a run finds, and reported with it.
    if !matches!(command, Command::Scale { .. }) {
        std::panic::set_hook(Box::new(|_| {}));
    }
    let result = match command {
        Command::Run { seed, seeds, jobs, digests, fail_fast, ring } => {
            let jobs = jobs.map(usize::from).or_else(|| thread::available_parallelism().ok().map(usize::from));
            run_many(seed, seeds, jobs.unwrap_or(1), Showing { digests, fail_fast }, &ring.fixed())
        }
        Command::Replay { seed, until, director, user, ring } => {
            let filter = Filter {
                until_micros: until.map(|secs| secs.saturating_mul(1_000_000)),
                director: director.map(usize::from),
                ..Filter::default()
            };
            replay(seed, &ring.fixed(), filter, user.as_deref())
        }
        Command::Shrink { seed, ring } => shrink_one(seed, &ring.fixed()),
        Command::Scale { directors, latencies } => scale(&directors, &latencies),
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

fn scale(directors: &[u8], latencies: &[u64]) -> io::Result<bool> {
    let mut out = io::stdout().lock();
    writeln!(out, "{}", Scale::HEAD)?;
    for &latency in latencies {
        for &count in directors {
            writeln!(out, "{}", director_sim::scale::measure(count.into(), latency))?;
        }
    }
    Ok(true)
}

/// What to do about each seed.
#[derive(Clone, Copy, Debug)]
struct Showing {
    digests: bool,
    fail_fast: bool,
}

fn run_many(first: u64, count: u64, jobs: usize, showing: Showing, fixed: &Fixed) -> io::Result<bool> {
    let started = Instant::now();
    let mut out = io::stdout().lock();
    let mut bar = Bar::new(count);
    let mut totals = Totals::default();
    let mut result = Ok(());
    run_seeds(first, count, fixed, jobs, |outcome| {
        totals.add(&outcome);
        let line = if outcome.is_clean() {
            showing.digests.then(|| format!("seed {}: digest {:016x}", outcome.seed, outcome.statistics.digest))
        } else {
            Some(format!("{}: {}", outcome.failure(), replay_command(outcome.seed, fixed)))
        };
        if let Some(line) = line {
            bar.clear();
            result = writeln!(out, "{line}").and_then(|()| out.flush());
        }
        bar.show(totals.runs());
        result.is_ok() && (outcome.is_clean() || !showing.fail_fast)
    });
    bar.clear();
    result?;
    write!(out, "{}", totals.table(started.elapsed()))?;
    Ok(totals.is_clean())
}

fn replay(seed: u64, fixed: &Fixed, filter: Filter, user: Option<&str>) -> io::Result<bool> {
    let started = Instant::now();
    let plan = Plan::draw(seed, fixed);
    let filter = match user {
        Some(user) => filter.with_user(&plan, user),
        None => filter,
    };
    let mut out = BufWriter::new(io::stdout().lock());
    writeln!(
        out,
        "seed {seed}: {} directors, {} users, expire {} s, faults {}",
        plan.directors, plan.users, plan.expire_secs, plan.faults
    )?;
    let outcome = run(&plan, Keep::Everything);
    for line in outcome.timeline.iter().filter(|line| filter.shows(line)) {
        writeln!(out, "{line}")?;
    }
    for violation in &outcome.violations {
        writeln!(out, "{violation}")?;
    }
    writeln!(out, "digest {:016x}", outcome.statistics.digest)?;
    let mut totals = Totals::default();
    totals.add(&outcome);
    write!(out, "{}", totals.table(started.elapsed()))?;
    out.flush()?;
    Ok(outcome.is_clean())
}

fn shrink_one(seed: u64, fixed: &Fixed) -> io::Result<bool> {
    let mut out = io::stdout().lock();
    let mut result = Ok(());
    let shrunk = shrink(seed, fixed, |fixed, outcome| {
        if result.is_ok() {
            result = writeln!(out, "{}: {}", outcome.failure(), replay_command(seed, fixed)).and_then(|()| out.flush());
        }
    });
    result?;
    let Some(shrunk) = shrunk else {
        writeln!(out, "seed {seed}: everything holds: there is nothing to shrink")?;
        return Ok(true);
    };
    writeln!(out, "smallest of {} runs: {}", shrunk.runs, shrunk.outcome.failure())?;
    writeln!(out, "{}", replay_command(seed, &shrunk.fixed))?;
    Ok(false)
}

/// One line on a terminal, written again and again, that says how far it is.
struct Bar {
    count: u64,
    /// When it was last written; `None`: there is no terminal.
    shown: Option<Instant>,
    is_there: bool,
}

impl Bar {
    const WIDTH: u64 = 40;
    const PAUSE: Duration = Duration::from_millis(100);

    fn new(count: u64) -> Self {
        Self { count, shown: io::stderr().is_terminal().then(Instant::now), is_there: false }
    }

    fn show(&mut self, (done, broken): (u64, u64)) {
        let Some(shown) = &mut self.shown else { return };
        if shown.elapsed() < Self::PAUSE {
            return;
        }
        *shown = Instant::now();
        let full = "#".repeat((done * Self::WIDTH / self.count) as usize);
        // Nobody is worse off if the terminal is gone.
        let _ = write!(io::stderr(), "\r[{full:<40}] {done} of {} seeds, {broken} broken ", self.count);
        self.is_there = true;
    }

    fn clear(&mut self) {
        if std::mem::take(&mut self.is_there) {
            let _ = write!(io::stderr(), "\r\x1b[K");
        }
    }
}
