//! What must hold, one file for each.
//!
//! Some are watched all along ([`answers`], [`backends`], [`flood`]); the others compare what the directors say of
//! themselves once faults have stopped ([`ring`], [`state`]). That the core keeps its contract with a runtime is
//! checked where the simulation plays the runtime; it is reported under the name [`CONTRACT`].

pub mod answers;
pub mod backends;
pub mod changes;
pub mod flood;
pub mod ring;
pub mod state;

use std::fmt;

use crate::trace::Time;

/// The name under which a breach of the contract between core and runtime is reported.
pub const CONTRACT: &str = "contract";

/// Something that must not be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// When it was seen, in microseconds since the start.
    pub at_micros: u64,
    /// What does not hold.
    pub invariant: &'static str,
    /// In what way.
    pub detail: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} at {} s: {}", self.invariant, Time(self.at_micros), self.detail)
    }
}
