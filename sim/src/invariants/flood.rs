//! No change makes the ring talk without end.
//!
//! Lines that chase each other come in two ways. A storm at one moment breaks a bound for each second. One that a slow
//! network, or a program beside the directors, slows down may stay below that for ever, and a run with it takes as long as
//! one pleases: it breaks a bound for ten seconds, which is less than ten times as much. What nobody counts as lines (kicks
//! that pile up beside a director, pieces of lines) is bounded for the run as a whole, by [`Pace`]. So every run ends after
//! a bounded amount of work, whatever the core does.
//!
//! Each bound is several times what rings without bugs need. The most that one director said, in a second and in ten:
//! about the ring 173 and 3,093 in 600 rings of 2 to 6, 1,009 and 1,840 in 12 of 20, 3,848 and 11,382 in 30 of 40; about
//! users 1,673 and 2,387; of kicks and moves 281 and 540. All things that happened in the largest: 290,249 in a second.

use crate::plan::SECOND;

/// The name in reports.
pub const NAME: &str = "flood";

/// What a line between directors is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// Backends, members, and whether the ring is in one state.
    Ring,
    /// Where a user is.
    Users,
    /// Moves, and sessions that are to end.
    Kicks,
}

impl Kind {
    /// `None`: such lines are bounded by what else there is, as those of a handshake.
    fn of(line: &[u8]) -> Option<Self> {
        let of_ring = [&b"HOST"[..], b"SYNC", b"DIRECTOR", b"CONNECT", b"PING", b"PONG", b"USER-WEAK"];
        if of_ring.iter().any(|command| line.starts_with(command)) {
            return Some(Self::Ring);
        }
        if line.starts_with(b"USER\t") {
            return Some(Self::Users);
        }
        line.starts_with(b"USER-").then_some(Self::Kicks)
    }
}

/// The most lines that one director may send in a second.
#[derive(Clone, Copy, Debug)]
struct Limits {
    second: [u32; 3],
    ten_seconds: [u32; 3],
}

impl Limits {
    fn new(directors: usize) -> Self {
        // A change costs every member a few lines for each member. So where all start at the same moment, the number of lines
        // grows with the square of theirs.
        let members = u32::try_from(directors).unwrap_or(u32::MAX);
        let ring = members.saturating_mul(members).saturating_mul(5).max(1000);
        // Each login and each refresh costs every director two lines, on either side one, and logins come by the dozen in a
        // second; two halves of a ring that meet tell each other of all users. A user on two backends costs a kick, and an
        // order of an operator one for each user of a backend.
        Self { second: [ring, 5000, 2000], ten_seconds: [ring.saturating_mul(5), 10_000, 5000] }
    }
}

/// Counts the lines of one director.
#[derive(Clone, Copy, Debug)]
pub struct Flood {
    limits: Limits,
    second: u64,
    in_second: [u32; 3],
    in_ten_seconds: [u32; 3],
}

impl Flood {
    /// For a director of a ring of so many.
    pub fn new(directors: usize) -> Self {
        Self { limits: Limits::new(directors), second: 0, in_second: [0; 3], in_ten_seconds: [0; 3] }
    }

    /// A director sent a line to another.
    ///
    /// # Errors
    /// When they become too many: once for each bound and each time for which it is.
    pub fn sent(&mut self, line: &[u8], now: u64) -> Result<(), String> {
        let Some(kind) = Kind::of(line) else { return Ok(()) };
        let second = now / SECOND;
        if self.second != second {
            self.in_second = [0; 3];
            if self.second / 10 != second / 10 {
                self.in_ten_seconds = [0; 3];
            }
            self.second = second;
        }
        let (kind, limits) = (kind as usize, self.limits);
        let counts = [
            (&mut self.in_second[kind], limits.second[kind], "a second"),
            (&mut self.in_ten_seconds[kind], limits.ten_seconds[kind], "ten seconds"),
        ];
        let mut result = Ok(());
        for (count, max, time) in counts {
            *count += 1;
            if *count == max {
                let last = crate::trace::Shown(line);
                result = Err(format!("sent {max} lines within {time}, of which the last is {last}"));
            }
        }
        result
    }
}

/// The most things that may happen in a run within a virtual second…
const HAPPENINGS_MAX_PER_SECOND: u64 = 1_000_000;
/// … and within ten: a second or two of work.
const HAPPENINGS_MAX_PER_TEN_SECONDS: u64 = 2_000_000;

/// Counts all that happens in a run.
#[derive(Clone, Copy, Debug, Default)]
pub struct Pace {
    second: u64,
    in_second: u64,
    in_ten_seconds: u64,
}

impl Pace {
    /// Something happened.
    ///
    /// # Errors
    /// When it becomes too much.
    pub fn happened(&mut self, now: u64) -> Result<(), String> {
        let second = now / SECOND;
        if self.second != second {
            self.in_second = 0;
            if self.second / 10 != second / 10 {
                self.in_ten_seconds = 0;
            }
            self.second = second;
        }
        self.in_second += 1;
        self.in_ten_seconds += 1;
        if self.in_second == HAPPENINGS_MAX_PER_SECOND {
            return Err(format!("{HAPPENINGS_MAX_PER_SECOND} things happened within a second"));
        }
        if self.in_ten_seconds == HAPPENINGS_MAX_PER_TEN_SECONDS {
            return Err(format!("{HAPPENINGS_MAX_PER_TEN_SECONDS} things happened within ten seconds"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many of so many lines, with that time between, are said to be too many.
    fn noticed(flood: &mut Flood, line: &[u8], from: u64, count: u64, pause: u64) -> usize {
        (0..count).filter(|n| flood.sent(line, from + n * pause).is_err()).count()
    }

    #[test]
    fn a_thousand_lines_in_a_second_are_too_many() {
        let mut flood = Flood::new(6);
        assert_eq!(noticed(&mut flood, b"HOST\t1", 0, 1500, 1), 1);
        assert_eq!(noticed(&mut flood, b"USER\t1", 0, 1500, 1), 0, "other lines are counted by themselves");
        assert_eq!(noticed(&mut flood, b"USER\t1", SECOND, 6000, 1), 1);
        assert_eq!(noticed(&mut flood, b"USER-KICK-HASH\t1", SECOND, 2500, 1), 1);
        assert_eq!(noticed(&mut flood, b"U\t1", SECOND, 100_000, 1), 0, "a handshake ends");
        assert_eq!(noticed(&mut flood, b"SYNC\t1", 10 * SECOND, 4000, 2200), 0);
    }

    #[test]
    fn a_storm_that_never_reaches_the_bound_of_a_second_is_noticed_all_the_same() {
        for (line, per_second) in [(&b"SYNC\t1"[..], 900), (b"USER\t1", 4900), (b"USER-KICK-HASH\t1", 1900)] {
            let mut flood = Flood::new(2);
            let count = noticed(&mut flood, line, 0, 10 * per_second, SECOND / per_second);
            assert_eq!(count, 1, "{}", crate::trace::Shown(line));
        }
    }

    #[test]
    fn a_larger_ring_may_say_more_of_itself() {
        assert_eq!(noticed(&mut Flood::new(40), b"SYNC\t1", 0, 7000, 1), 0);
        assert_eq!(noticed(&mut Flood::new(40), b"SYNC\t1", 0, 9000, 1), 1);
    }

    #[test]
    fn a_run_without_end_is_noticed() {
        let noticed = |count: u64, pause: u64| {
            let mut pace = Pace::default();
            (0..count).filter(|n| pace.happened(n * pause).is_err()).count()
        };
        assert_eq!(noticed(1_500_000, 0), 1, "at one moment");
        assert_eq!(noticed(2_500_000, 4), 1, "in ten seconds");
        assert_eq!(noticed(4_000_000, 10), 0);
    }
}
