//! What an administrator's client decides: which lines to send, what the answers mean, and how they are shown (admin
//! protocol).
//!
//! Cells, headers, messages and exit codes are those of `doveadm director` of Dovecot 2.3, so that scripts can't tell
//! the difference. A client adds sockets, a terminal and a clock; `directoradm` is one.
//!
//! | module | what it holds |
//! |---|---|
//! | [`answers`] | lines of lists and lookups, read |
//! | [`change`] | commands that change something, and what their one-line answers mean |
//! | [`drain`] | taking a backend out of use and putting it back |
//! | [`format`](mod@format) | `table`, `tab`, `pager`, `flow`, `json` |
//! | [`lists`] | the columns and cells of `status`, `ring status`, `map` and `dump` |
//! | [`lookup`] | `status USER` |
//! | [`names`] | which names a hash stands for |
//! | [`progress`] | how a flush is getting on |
//! | [`target`] | sockets and hosts as they are written on a command line |
//! | [`watch`] | backends and ring on one screen |

pub mod answers;
pub mod change;
pub mod drain;
pub mod format;
pub mod lists;
pub mod lookup;
pub mod names;
pub mod progress;
pub mod target;
#[cfg(test)]
mod tests;
mod text;
pub mod watch;

pub use text::printable;

/// How a client ends (admin protocol, "The command line").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// All was done.
    Success = 0,
    /// Wrong command line.
    Usage = 64,
    /// The backend or director that was named is not there.
    NotFound = 68,
    /// Not done, for any other reason: no connection, a refusal, the ring not synced. It may work later.
    TemporaryFailure = 75,
    /// The other side does not speak as it should.
    Protocol = 76,
    /// The client's configuration is wrong.
    Configuration = 78,
}

/// How a message begins, and whether it is shown at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// `Info: `, only with `-v`.
    Info,
    /// `Warning: `
    Warning,
    /// `Error: `
    Error,
    /// `Fatal: `: nothing more is tried.
    Fatal,
}

impl Severity {
    /// The word before the colon.
    pub fn word(self) -> &'static str {
        match self {
            Self::Info => "Info",
            Self::Warning => "Warning",
            Self::Error => "Error",
            Self::Fatal => "Fatal",
        }
    }
}

/// What came of something: a message for standard error, and how the client ends if nothing worse follows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// The exit code.
    pub exit: Exit,
    /// How the message begins.
    pub severity: Severity,
    /// The message; empty = nothing to say.
    pub text: String,
}

impl Verdict {
    /// Success, with a message for those who want to hear of it.
    pub fn success(text: impl Into<String>) -> Self {
        Self { exit: Exit::Success, severity: Severity::Info, text: text.into() }
    }

    /// A failure after which the rest of the work goes on.
    pub fn error(exit: Exit, text: impl Into<String>) -> Self {
        Self { exit, severity: Severity::Error, text: text.into() }
    }

    /// A failure that ends all.
    pub fn fatal(exit: Exit, text: impl Into<String>) -> Self {
        Self { exit, severity: Severity::Fatal, text: text.into() }
    }

    /// Success, with something that has to be said.
    pub fn warning(text: impl Into<String>) -> Self {
        Self { exit: Exit::Success, severity: Severity::Warning, text: text.into() }
    }

    /// Whether all went well.
    pub fn is_success(&self) -> bool {
        self.exit == Exit::Success
    }
}
