//! The low-footprint director: the core on std threads, without an async runtime.
//!
//! # Which threads
//!
//! One thread owns the core and does all that does not block: it waits for every descriptor at once with `epoll(7)`,
//! reads, tells the core, and writes what that says. What blocks has a thread of its own for as long as it lasts: names
//! to resolve, settings to read, flush scripts.
//!
//! A thread for each connection would be the plainest program, but ten thousand logins are twenty thousand connections.
//! Each thread takes about 10 KiB of the process and 16 KiB of the kernel before it has done anything, so they alone
//! would be half a gigabyte. And since there is one core with one owner, each line would go from one thread to another
//! and back, which takes more than twice as long as to read and to write it; the core itself needs half a microsecond for
//! a lookup. A few reading threads save the stacks, but not that. `poll(2)` saves both, but is given all descriptors each
//! time: with eighteen thousand of them, 9 ms for an event. `epoll` is told once of each, and an event costs the same
//! however many there are.
//!
//! # A round
//!
//! One wait, until the next event or the core's next deadline; then a [round](director_std::rounds).
//!
//! # Memory
//!
//! Idle, more than half of a small program's memory is code and constants that were needed once: the
//! [daemon](director_std::daemon) gives that back when the start is over.
#![forbid(unsafe_code)]

use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};
use director_std::command_line::{self, Options};
use director_std::convert::{self, Convert};
use director_std::daemon::{self, Daemon};
use director_std::exit::{self, Failure};
use director_std::generate::{self, Generate};
use director_std::rounds::Rounds;

/// Runs the director on std threads, with little memory.
///
/// It keeps each user of a mail cluster on one backend, as `director` does. Runs in the foreground until SIGTERM or
/// SIGINT; SIGHUP reads the settings and opens the log again.
#[derive(Parser)]
#[command(name = "director-std", version, after_help = exit::HELP, args_conflicts_with_subcommands = true)]
struct CommandLine {
    #[command(flatten)]
    options: Options,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
enum Command {
    /// Make a director.conf of a configuration of Dovecot 2.3, and print what Dovecot 2.4 needs in its own
    Convert(Convert),
    /// Write completions (bash, zsh, fish) and manual pages
    Generate(Generate),
}

fn main() -> ExitCode {
    match command_line::parse::<CommandLine>() {
        Ok(CommandLine { command: Some(Command::Convert(options)), .. }) => convert::run(&options),
        Ok(CommandLine { command: Some(Command::Generate(options)), .. }) => {
            generate::run(&options, CommandLine::command())
        }
        Ok(CommandLine { options, command: None }) => daemon::run(&options, serve),
        Err(code) => code,
    }
}

/// Runs a daemon until it has ended.
fn serve(daemon: Daemon) -> Result<(), Failure> {
    let mut rounds = Rounds::new(daemon)?;
    while rounds.wait()?.is_some() {}
    Ok(())
}
