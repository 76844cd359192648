//! The options that every daemon of the director has.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{Args, Parser};

use crate::exit::Exit;

/// The options of a daemon; flatten them into its own command line.
#[derive(Args, Clone, Debug, Default)]
pub struct Options {
    /// Configuration file in Dovecot 2.3's syntax: a whole dovecot.conf or a file of its own
    /// [default: the first of /etc/dovecot/director.conf, /etc/director/director.conf, /etc/dovecot/dovecot.conf]
    #[arg(short = 'c', long = "config", value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Log every line in and out (never passwords)
    #[arg(short = 'D', long = "debug")]
    pub debug: bool,
    /// Check the configuration, print what was understood, and exit
    #[arg(long)]
    pub check: bool,
    /// What a daemon that root started calls itself with: see `opener`
    #[arg(long, hide = true)]
    pub opener: bool,
}

/// Reads the command line; on `--help`, `--version` or an error, says so and gives the code to exit with (clap itself
/// would exit with 2 where `sysexits.h` has 64).
///
/// # Errors
/// The code to exit with.
pub fn parse<P: Parser>() -> Result<P, ExitCode> {
    P::try_parse().map_err(|error| {
        // Nothing can be done if even the terminal is gone.
        let _ = error.print();
        match error.kind() {
            ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => Exit::Success.into(),
            _ => Exit::Usage.into(),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        options: Options,
    }

    #[test]
    fn options_are_those_of_the_manual() {
        let options = Line::try_parse_from(["director", "-c", "a.conf", "-D", "--check"]).unwrap().options;
        assert_eq!(options.config, Some("a.conf".into()));
        assert!(options.debug && options.check);
        let options = Line::try_parse_from(["director"]).unwrap().options;
        assert!(options.config.is_none() && !options.debug && !options.check);
        assert!(Line::try_parse_from(["director", "-x"]).is_err());
    }
}
