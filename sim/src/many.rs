//! Many seeds at once.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;
use std::thread;

use crate::plan::{Fixed, Plan};
use crate::report::Outcome;
use crate::trace::Keep;
use crate::world::run;

/// Runs `count` seeds from `first` on, on so many threads (at least one), and passes what came of each to `done`, in
/// the order of the seeds, which says whether to go on. A run does not notice those beside it.
pub fn run_seeds(first: u64, count: u64, fixed: &Fixed, jobs: usize, mut done: impl FnMut(Outcome) -> bool) {
    let next = AtomicU64::new(0);
    thread::scope(|scope| {
        let (sender, receiver) = mpsc::channel();
        for _ in 0..jobs.max(1) {
            let (sender, next) = (sender.clone(), &next);
            scope.spawn(move || {
                loop {
                    let n = next.fetch_add(1, Ordering::Relaxed);
                    if n >= count {
                        return;
                    }
                    let outcome = run(&Plan::draw(first.wrapping_add(n), fixed), Keep::Nothing);
                    if sender.send((n, outcome)).is_err() {
                        return;
                    }
                }
            });
        }
        drop(sender);
        let mut early = BTreeMap::new();
        let mut expected = 0;
        for (n, outcome) in receiver {
            early.insert(n, outcome);
            while let Some(outcome) = early.remove(&expected) {
                expected += 1;
                if !done(outcome) {
                    // The threads end with their present runs: nobody takes what they send.
                    next.store(count, Ordering::Relaxed);
                    return;
                }
            }
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::Faults;

    #[test]
    fn what_comes_of_seeds_does_not_depend_on_the_number_of_threads() {
        let fixed = Fixed { directors: Some(2), users: Some(5), faults: Some(Faults::NONE), ..Fixed::default() };
        let digests = |jobs| {
            let mut digests = Vec::new();
            run_seeds(7, 5, &fixed, jobs, |outcome| {
                digests.push((outcome.seed, outcome.statistics.digest));
                true
            });
            digests
        };
        let one = digests(1);
        assert_eq!(one.iter().map(|(seed, _)| *seed).collect::<Vec<_>>(), [7, 8, 9, 10, 11]);
        assert_eq!(one, digests(3));
    }

    #[test]
    fn it_stops_when_nobody_wants_more() {
        let fixed = Fixed { directors: Some(1), users: Some(1), minutes: Some(1), ..Fixed::default() };
        let mut seen = 0;
        run_seeds(1, 1000, &fixed, 2, |_| {
            seen += 1;
            seen < 3
        });
        assert_eq!(seen, 3);
    }
}
