//! What comes of runs, for people.

use std::fmt::Write as _;
use std::time::Duration;

use crate::invariants::Violation;
use crate::invariants::backends::Cause;
use crate::messages;
use crate::operators::KINDS;
use crate::plan::{Fault, Faults, Fixed, SECOND, Strikes};

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

    /// How many times a fault struck.
    pub fn strikes(&self) -> u64 {
        let striking = Fault::ALL.into_iter().filter(|fault| fault.strikes());
        striking.map(|fault| self.statistics.strikes[fault as usize]).sum()
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
    /// Faults that struck, by kind. Of those that are there all the time: what they did. (Delays: pieces held up;
    /// clocks: clocks that were wrong; minors: older members; configurations: starts with another one.)
    pub strikes: [u64; Fault::ALL.len()],
    /// Lookups.
    pub lookups: u64,
    /// Those of them that came by way of auth, some of which auth answered without a director's help.
    pub relayed: u64,
    /// Lookups that ended with a temporary failure.
    pub temporary_failures: u64,
    /// The longest time that a lookup took.
    pub slowest_lookup_micros: u64,
    /// Commands of operators.
    pub commands: u64,
    /// The same, by kind, in the order of [`crate::operators::KINDS`].
    pub commands_by_kind: [u64; KINDS.len()],
    /// Changes of backends that had to stand.
    pub changes_judged: u64,
    /// Directors that operators took out of the ring.
    pub removals: u64,
    /// Kicks that ended sessions, or found none.
    pub kicks: u64,
    /// Sessions that they ended.
    pub kicked_sessions: u64,
    /// Kicks that failed, or were never answered.
    pub failed_kicks: u64,
    /// Flush scripts that ran.
    pub scripts: u64,
    /// Those of them that failed.
    pub failed_scripts: u64,
    /// Logins that gave a user a second backend, by cause.
    pub second_backends: [u64; Cause::ALL.len()],
    /// Those that nothing explains.
    pub unexplained_second_backends: u64,
    /// Lines between directors.
    pub ring_lines: u64,
    /// The number of the last strike, counted from 1, whether it happened or was left out.
    pub last_strike: u32,
    /// The most lines between directors that one event has caused, in the order of [`messages::KINDS`].
    pub worst_messages: [u32; messages::KINDS.len()],
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
    option("strikes", fixed.strikes.as_ref().map(Strikes::to_string));
    if fixed.no_operators {
        command.push_str(" --no-operators");
    }
    command
}

/// All runs together.
#[derive(Clone, Debug, Default)]
pub struct Totals {
    seeds: u64,
    broken: u64,
    sums: Statistics,
}

impl Totals {
    /// One more run.
    pub fn add(&mut self, outcome: &Outcome) {
        let (sums, run) = (&mut self.sums, &outcome.statistics);
        self.seeds += 1;
        self.broken += u64::from(!outcome.is_clean());
        sums.virtual_micros += run.virtual_micros;
        sums.happenings += run.happenings;
        sums.starts += run.starts;
        sums.lookups += run.lookups;
        sums.temporary_failures += run.temporary_failures;
        sums.commands += run.commands;
        sums.commands_by_kind.iter_mut().zip(run.commands_by_kind).for_each(|(sum, count)| *sum += count);
        sums.changes_judged += run.changes_judged;
        sums.kicks += run.kicks;
        sums.kicked_sessions += run.kicked_sessions;
        sums.failed_kicks += run.failed_kicks;
        sums.scripts += run.scripts;
        sums.failed_scripts += run.failed_scripts;
        sums.second_backends.iter_mut().zip(run.second_backends).for_each(|(sum, count)| *sum += count);
        sums.unexplained_second_backends += run.unexplained_second_backends;
        sums.ring_lines += run.ring_lines;
        sums.strikes.iter_mut().zip(run.strikes).for_each(|(sum, count)| *sum += count);
        sums.worst_messages.iter_mut().zip(run.worst_messages).for_each(|(worst, count)| *worst = count.max(*worst));
        sums.slowest_lookup_micros = sums.slowest_lookup_micros.max(run.slowest_lookup_micros);
        sums.settle_micros = sums.settle_micros.max(run.settle_micros);
    }

    /// Whether everything held in all of them.
    pub fn is_clean(&self) -> bool {
        self.broken == 0
    }

    /// How many runs there were, and in how many something did not hold.
    pub fn runs(&self) -> (u64, u64) {
        (self.seeds, self.broken)
    }

    /// A table for people; `elapsed` is the time that it took them.
    pub fn table(&self, elapsed: Duration) -> String {
        let sums = &self.sums;
        let seconds = |micros: u64| format!("{}.{} s", micros / SECOND, micros % SECOND / (SECOND / 10));
        // In tenths.
        let hours = sums.virtual_micros / (360 * SECOND);
        let speed = hours * 1000 / (elapsed.as_millis() as u64).max(1);
        let mut table = String::new();
        let mut row = |name: &str, value: String| {
            let _ = writeln!(table, "{name:<28} {value:>12}");
        };
        row("seeds", self.seeds.to_string());
        row("broken", self.broken.to_string());
        row("virtual hours", format!("{}.{}", hours / 10, hours % 10));
        row("virtual hours per second", format!("{}.{}", speed / 10, speed % 10));
        row("events", sums.happenings.to_string());
        row("starts of directors", sums.starts.to_string());
        row("faults", String::new());
        for fault in Fault::ALL {
            row(&format!("  {}", fault.name()), sums.strikes[fault as usize].to_string());
        }
        row("lookups", sums.lookups.to_string());
        row("  temporary failures", sums.temporary_failures.to_string());
        row("  longest", seconds(sums.slowest_lookup_micros));
        row("commands", sums.commands.to_string());
        for (kind, count) in KINDS.iter().zip(sums.commands_by_kind) {
            row(&format!("  {kind}"), count.to_string());
        }
        row("changes that had to stand", sums.changes_judged.to_string());
        row("kicks", sums.kicks.to_string());
        row("  sessions ended", sums.kicked_sessions.to_string());
        row("  failed or unanswered", sums.failed_kicks.to_string());
        row("flush scripts", sums.scripts.to_string());
        row("  failed", sums.failed_scripts.to_string());
        row("logins on second backends", String::new());
        for cause in Cause::ALL {
            row(&format!("  {}", cause.name()), sums.second_backends[cause as usize].to_string());
        }
        row("  unexplained", sums.unexplained_second_backends.to_string());
        row("ring lines", sums.ring_lines.to_string());
        row("most for one event", String::new());
        for (kind, worst) in messages::KINDS.iter().zip(sums.worst_messages) {
            row(&format!("  {kind}"), worst.to_string());
        }
        row("longest time to sync", seconds(sums.settle_micros));
        table
    }
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
            statistics: Statistics {
                virtual_micros: 1800 * SECOND,
                lookups: 7,
                settle_micros: 12_340_000,
                worst_messages: [9; messages::KINDS.len()],
                ..Statistics::default()
            },
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
        let fixed = Fixed { strikes: Some("3,5".parse().unwrap()), no_operators: true, ..Fixed::default() };
        assert_eq!(replay_command(9, &fixed), "director-sim replay --seed 9 --strikes 3,5 --no-operators");
    }

    #[test]
    fn totals_add_up() {
        let mut totals = Totals::default();
        totals.add(&outcome(1, &[]));
        assert!(totals.is_clean());
        totals.add(&outcome(2, &["a"]));
        assert!(!totals.is_clean());
        assert_eq!(totals.runs(), (2, 1));
        let table = totals.table(Duration::from_millis(500));
        let cells: Vec<Vec<&str>> = table.lines().map(|line| line.split_whitespace().collect()).collect();
        for row in ["seeds 2", "broken 1", "lookups 14", "virtual hours 1.0", "virtual hours per second 2.0", "USER 9"]
        {
            assert!(cells.iter().any(|cells| cells.join(" ") == row), "{row}: {table}");
        }
        assert!(table.contains("12.3 s"));
    }
}
