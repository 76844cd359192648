//! What comes of runs, for people.

use std::fmt::Write as _;

use crate::invariants::Violation;
use crate::plan::{Faults, Fixed, SECOND};

/// What came of one run.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The seed.
    pub seed: u64,
    /// The faults that it had.
    pub faults: Faults,
    /// What did not hold, in the order in which it was seen.
    pub violations: Vec<Violation>,
    /// Numbers.
    pub statistics: Statistics,
    /// As much of the timeline as was to be kept.
    pub timeline: Vec<String>,
}

impl Outcome {
    /// Whether everything held.
    pub fn is_clean(&self) -> bool {
        self.violations.is_empty()
    }

    /// One line for a failed run, with its first violation.
    pub fn failure(&self) -> String {
        match self.violations.split_first() {
            None => format!("seed {}: clean", self.seed),
            Some((first, [])) => format!("seed {}: {first}", self.seed),
            Some((first, rest)) => format!("seed {}: {first} (and {} more)", self.seed, rest.len()),
        }
    }
}

/// Numbers of one run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Statistics {
    /// Virtual time, in microseconds.
    pub virtual_micros: u64,
    /// Things that happened.
    pub happenings: u64,
    /// Starts of directors.
    pub starts: u64,
    /// Faults that struck.
    pub strikes: u64,
    /// Lookups.
    pub lookups: u64,
    /// Lookups that ended with a temporary failure.
    pub temporary_failures: u64,
    /// The longest time that a lookup took.
    pub slowest_lookup_micros: u64,
    /// Commands of operators.
    pub commands: u64,
    /// Lines between directors.
    pub ring_lines: u64,
    /// How long after the last fault the ring was whole for good.
    pub settle_micros: u64,
    /// Users on the first director at the end.
    pub users_at_end: usize,
    /// xxh3 of everything that happened: the same seed has the same.
    pub digest: u64,
}

/// The command that shows one run again.
pub fn replay_command(seed: u64, fixed: &Fixed) -> String {
    let mut command = format!("director-sim replay --seed {seed}");
    let mut option = |name: &str, value: Option<String>| {
        if let Some(value) = value {
            // Writing to a String cannot fail.
            let _ = write!(command, " --{name} {value}");
        }
    };
    option("directors", fixed.directors.map(|n| n.to_string()));
    option("users", fixed.users.map(|n| n.to_string()));
    option("minutes", fixed.minutes.map(|n| n.to_string()));
    option("faults", fixed.faults.as_ref().map(Faults::to_string));
    command
}

/// A table of all runs together.
pub fn summary(outcomes: &[Outcome]) -> String {
    let sum = |number: fn(&Statistics) -> u64| outcomes.iter().map(|run| number(&run.statistics)).sum::<u64>();
    let max = |number: fn(&Statistics) -> u64| outcomes.iter().map(|run| number(&run.statistics)).max().unwrap_or(0);
    let seconds = |micros: u64| format!("{}.{} s", micros / SECOND, micros % SECOND / (SECOND / 10));
    let rows = [
        ("runs", outcomes.len().to_string()),
        ("broken", outcomes.iter().filter(|run| !run.is_clean()).count().to_string()),
        ("virtual time", format!("{} min", sum(|run| run.virtual_micros) / SECOND / 60)),
        ("starts of directors", sum(|run| run.starts).to_string()),
        ("faults", sum(|run| run.strikes).to_string()),
        ("lookups", sum(|run| run.lookups).to_string()),
        ("  failed for a time", sum(|run| run.temporary_failures).to_string()),
        ("  slowest", seconds(max(|run| run.slowest_lookup_micros))),
        ("commands", sum(|run| run.commands).to_string()),
        ("ring lines", sum(|run| run.ring_lines).to_string()),
        ("slowest to settle", seconds(max(|run| run.settle_micros))),
    ];
    let mut table = String::new();
    for (name, value) in rows {
        let _ = writeln!(table, "{name:<20} {value:>12}");
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(seed: u64, violations: &[&str]) -> Outcome {
        let violation =
            |detail: &&str| Violation { at_micros: 1_500_000, invariant: "one ring", detail: (*detail).to_owned() };
        Outcome {
            seed,
            faults: Faults::NONE,
            violations: violations.iter().map(violation).collect(),
            statistics: Statistics { lookups: 7, settle_micros: 12_340_000, ..Statistics::default() },
            timeline: Vec::new(),
        }
    }

    #[test]
    fn a_failure_names_the_seed_and_the_first_violation() {
        assert_eq!(outcome(3, &["a", "b"]).failure(), "seed 3: one ring at    1.500000 s: a (and 1 more)");
        assert_eq!(outcome(3, &["a"]).failure(), "seed 3: one ring at    1.500000 s: a");
    }

    #[test]
    fn a_replay_fixes_what_the_run_fixed() {
        let fixed = Fixed { directors: Some(3), faults: Some(Faults::NONE), ..Fixed::default() };
        assert_eq!(replay_command(9, &fixed), "director-sim replay --seed 9 --directors 3 --faults none");
        assert_eq!(replay_command(9, &Fixed::default()), "director-sim replay --seed 9");
    }

    #[test]
    fn a_summary_adds_up() {
        let table = summary(&[outcome(1, &[]), outcome(2, &["a"])]);
        let cells: Vec<Vec<&str>> = table.lines().map(|line| line.split_whitespace().collect()).collect();
        assert!(cells.contains(&vec!["runs", "2"]) && cells.contains(&vec!["broken", "1"]));
        assert!(cells.contains(&vec!["lookups", "14"]));
        assert!(table.contains("12.3 s"));
    }
}
