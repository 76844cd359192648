//! Every question gets an answer in time.

use crate::plan::SECOND;

/// The name in reports.
pub const NAME: &str = "answers";

/// A lookup waits 30 s at most (ring protocol, "Lookups"); then there is the way to it and back.
pub const LOOKUP_MAX_MICROS: u64 = 31 * SECOND;

/// A command waits for the ring before and after it does its work, 30 s each time (admin protocol, "Waiting for the
/// ring").
pub const COMMAND_MAX_MICROS: u64 = 62 * SECOND;

/// Whether something that was asked then has waited for too long by now, given how long the director's process has
/// stood still since.
pub fn is_late(asked_micros: u64, now: u64, paused_micros: u64, max_micros: u64) -> bool {
    now.saturating_sub(asked_micros).saturating_sub(paused_micros) > max_micros
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_in_which_the_director_stood_still_does_not_count() {
        assert!(!is_late(0, LOOKUP_MAX_MICROS, 0, LOOKUP_MAX_MICROS));
        assert!(is_late(0, LOOKUP_MAX_MICROS + 1, 0, LOOKUP_MAX_MICROS));
        assert!(!is_late(0, LOOKUP_MAX_MICROS + 1, 1, LOOKUP_MAX_MICROS));
    }
}
