//! The production director: the core on smol and async-io, one thread.
#![forbid(unsafe_code)]

mod demo;
mod hub;

use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};
use director_std::command_line::{self, Options};
use director_std::convert::{self, Convert};
use director_std::generate::{self, Generate};
use director_std::{daemon, exit};

/// A mail director for Dovecot proxies: keeps each user on one backend.
///
/// Runs in the foreground until SIGTERM or SIGINT; SIGHUP reads the settings and opens the log again.
#[derive(Parser)]
#[command(name = "director", version, after_help = exit::HELP, args_conflicts_with_subcommands = true)]
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
    /// Show a ring of directors on this machine, with model users and backends
    Demo {
        /// Leave its files and processes for a look around, until Ctrl-C
        #[arg(long)]
        keep: bool,
    },
}

fn main() -> ExitCode {
    match command_line::parse::<CommandLine>() {
        Ok(CommandLine { command: Some(Command::Convert(options)), .. }) => convert::run(&options),
        Ok(CommandLine { command: Some(Command::Generate(options)), .. }) => {
            generate::run(&options, CommandLine::command())
        }
        Ok(CommandLine { command: Some(Command::Demo { keep }), .. }) => demo::run(keep),
        Ok(CommandLine { options, command: None }) => daemon::run(&options, hub::serve),
        Err(code) => code,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn command_line_is_sound() {
        CommandLine::command().debug_assert();
        let line = CommandLine::try_parse_from(["director", "demo", "--keep"]).unwrap();
        assert!(matches!(line.command, Some(Command::Demo { keep: true })));
        assert!(CommandLine::try_parse_from(["director", "-D", "demo"]).is_err());
    }
}
