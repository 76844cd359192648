//! The exit codes of both daemons, after `sysexits.h`. Those of `directoradm` are doveadm's: `director_core::doveadm`.

use std::fmt;
use std::process::ExitCode;

/// How a program ends. [`HELP`] says the same to the operator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// Ended as asked.
    Success = 0,
    /// Wrong command line.
    Usage = 64,
    /// Something outside is in the way: most of all another director on the same sockets.
    Unavailable = 69,
    /// A bug in the director.
    Software = 70,
    /// The system refused something that it normally gives.
    System = 71,
    /// A socket or log file cannot be made.
    CannotCreate = 73,
    /// The daemon's user may not do what the settings ask for.
    NoPermission = 77,
    /// The configuration is wrong, or there is none.
    Configuration = 78,
}

impl Exit {
    /// All there are.
    const ALL: [Self; 8] = [
        Self::Success,
        Self::Usage,
        Self::Unavailable,
        Self::Software,
        Self::System,
        Self::CannotCreate,
        Self::NoPermission,
        Self::Configuration,
    ];

    /// The one with this code.
    pub fn from_code(code: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|exit| *exit as u8 == code)
    }
}

/// The table of exit codes, for `--help`.
pub const HELP: &str = "\
Exit codes:
   0  ended as asked (SIGTERM, SIGINT), or --check found nothing wrong
  64  wrong command line
  69  another process listens on one of the sockets: a second instance
  70  a bug in the director
  71  the system refused something (descriptors, signals)
  73  a socket or a log file cannot be made
  77  permission denied
  78  configuration error: the message names file, line and remedy";

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// Why a program cannot start or go on: a message for the operator, and the exit code.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The exit code.
    pub exit: Exit,
    /// What is wrong and what to do.
    pub message: String,
}

impl Failure {
    /// A failure with a message.
    pub fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self { exit, message: message.into() }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.message)
    }
}

impl std::error::Error for Failure {}

impl From<director_core::settings::SettingsError> for Failure {
    fn from(error: director_core::settings::SettingsError) -> Self {
        Self::new(Exit::Configuration, error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn help_names_every_code() {
        for exit in Exit::ALL {
            assert_eq!(Exit::from_code(exit as u8), Some(exit));
            assert!(HELP.contains(&format!("\n{:4}  ", exit as u8)), "{exit:?}");
        }
        assert_eq!(HELP.lines().count(), 9, "and no other");
    }
}
