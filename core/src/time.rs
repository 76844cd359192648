//! The two clocks that come in from outside.

use std::fmt;
use std::time::Duration;

/// A point on the runtime's monotonic clock, in microseconds since some start of the runtime's own choice.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Instant {
    micros: u64,
}

impl Instant {
    /// The instant that lies `micros` microseconds after the clock's start.
    pub const fn from_micros(micros: u64) -> Self {
        Self { micros }
    }

    /// Microseconds since the clock's start.
    pub const fn as_micros(self) -> u64 {
        self.micros
    }

    /// The time since `earlier`; zero if that lies in the future.
    pub const fn saturating_since(self, earlier: Self) -> Duration {
        Duration::from_micros(self.micros.saturating_sub(earlier.micros))
    }
}

impl std::ops::Add<Duration> for Instant {
    type Output = Self;

    /// Saturates at the end of the clock.
    fn add(self, duration: Duration) -> Self {
        let micros = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        Self { micros: self.micros.saturating_add(micros) }
    }
}

impl fmt::Display for Instant {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}.{:06}", self.micros / 1_000_000, self.micros % 1_000_000)
    }
}

/// What time it is: passed to every call that may depend on it.
///
/// Neither clock is trusted: differences saturate, and a clock that goes backwards is survived.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Now {
    /// The monotonic clock, for timeouts.
    pub instant: Instant,
    /// Unix time in seconds, for the wire and for the age of users.
    pub unix_secs: u64,
}
