//! What remains of a failure when all is taken away that it can do without.

use crate::plan::{Faults, Fixed, Plan, SECOND};
use crate::report::Outcome;
use crate::trace::Keep;
use crate::world::run;

/// The smallest failure that was found, and how.
#[derive(Clone, Debug)]
pub struct Shrunk {
    /// What has to be fixed for it.
    pub fixed: Fixed,
    /// What comes of that.
    pub outcome: Outcome,
    /// How many runs it took.
    pub runs: u64,
}

/// Finds the smallest set of faults, strikes, directors, users and minutes with which the seed still breaks the
/// invariant that it breaks first. `None`: it breaks none. `progress` is told of each smaller one.
///
/// Each attempt is a run of its own, and keeps what it has taken away if that invariant is broken still, in whatever
/// way. It goes on until nothing more can be taken away.
pub fn shrink(seed: u64, fixed: &Fixed, progress: impl FnMut(&Fixed, &Outcome)) -> Option<Shrunk> {
    search(seed, fixed, |fixed| run(&Plan::draw(seed, fixed), Keep::Nothing), progress)
}

fn search(
    seed: u64,
    fixed: &Fixed,
    mut run: impl FnMut(&Fixed) -> Outcome,
    progress: impl FnMut(&Fixed, &Outcome),
) -> Option<Shrunk> {
    let outcome = run(fixed);
    let invariant = outcome.violations.first()?.invariant;
    let mut search = Search { invariant, fixed: fixed.clone(), outcome, runs: 1, run, progress };
    // What was drawn is written down, or taking one thing away could bring another back.
    let plan = Plan::draw(seed, fixed);
    search.fixed.directors = Some(plan.directors);
    search.fixed.users = Some(plan.users);
    search.fixed.minutes = Some(plan.safety_micros.div_ceil(60 * SECOND));
    search.fixed.faults = Some(plan.faults);
    loop {
        let before = search.fixed.clone();
        search.minutes();
        search.faults();
        search.operators();
        search.directors();
        search.users();
        search.strikes();
        if search.fixed == before {
            break;
        }
    }
    Some(Shrunk { fixed: search.fixed, outcome: search.outcome, runs: search.runs })
}

struct Search<R, P> {
    invariant: &'static str,
    fixed: Fixed,
    outcome: Outcome,
    runs: u64,
    run: R,
    progress: P,
}

impl<R: FnMut(&Fixed) -> Outcome, P: FnMut(&Fixed, &Outcome)> Search<R, P> {
    /// Whether it still breaks with this; then it is kept.
    fn attempt(&mut self, fixed: Fixed) -> bool {
        if fixed == self.fixed {
            return false;
        }
        let outcome = (self.run)(&fixed);
        self.runs += 1;
        let broken = outcome.violations.iter().any(|violation| violation.invariant == self.invariant);
        if broken {
            (self.progress)(&fixed, &outcome);
            (self.fixed, self.outcome) = (fixed, outcome);
        }
        broken
    }

    fn minutes(&mut self) {
        let most = self.fixed.minutes.unwrap_or(1);
        let doubled = std::iter::successors(Some(1), |minutes| Some(minutes * 2));
        for minutes in doubled.take_while(|&minutes| minutes < most) {
            if self.attempt(Fixed { minutes: Some(minutes), ..self.fixed.clone() }) {
                return;
            }
        }
    }

    fn faults(&mut self) {
        let all: Vec<_> = self.fixed.faults.iter().flat_map(Faults::iter).collect();
        for fault in all {
            let others: Vec<_> =
                self.fixed.faults.iter().flat_map(Faults::iter).filter(|&other| other != fault).collect();
            self.attempt(Fixed { faults: Some(Faults::new(&others)), ..self.fixed.clone() });
        }
    }

    fn operators(&mut self) {
        self.attempt(Fixed { no_operators: true, ..self.fixed.clone() });
    }

    fn directors(&mut self) {
        for directors in 2..self.fixed.directors.unwrap_or(2) {
            if self.attempt(Fixed { directors: Some(directors), ..self.fixed.clone() }) {
                return;
            }
        }
    }

    fn users(&mut self) {
        let most = self.fixed.users.unwrap_or(1);
        let doubled = std::iter::successors(Some(1), |users| Some(users * 2));
        for users in doubled.take_while(|&users| users < most) {
            if self.attempt(Fixed { users: Some(users), ..self.fixed.clone() }) {
                return;
            }
        }
    }

    /// Takes strikes away: halves of them, then quarters, and so on down to single ones (delta debugging).
    fn strikes(&mut self) {
        let last = self.outcome.statistics.last_strike;
        let mut kept: Vec<u32> = match &self.fixed.strikes {
            Some(kept) => (1..=last).filter(|&strike| kept.has(strike)).collect(),
            None => (1..=last).collect(),
        };
        let mut size = kept.len().div_ceil(2);
        while size > 0 {
            let mut start = 0;
            while start < kept.len() {
                let end = (start + size).min(kept.len());
                let fewer: Vec<u32> = kept[..start].iter().chain(&kept[end..]).copied().collect();
                let strikes = Some(fewer.iter().copied().collect());
                if self.attempt(Fixed { strikes, ..self.fixed.clone() }) {
                    kept = fewer;
                } else {
                    start = end;
                }
            }
            size = if size == 1 { 0 } else { size.div_ceil(2) };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::invariants::Violation;
    use crate::plan::Fault;
    use crate::report::Statistics;

    /// A run that breaks "one ring" if it has all of what it takes, and something else whenever there are crashes.
    fn outcome(fixed: &Fixed) -> Outcome {
        let plan = Plan::draw(1, fixed);
        let happens = |strike| plan.strikes.as_ref().is_none_or(|strikes| strikes.has(strike));
        let broken = plan.faults.has(Fault::Crashes)
            && plan.faults.has(Fault::Pauses)
            && plan.directors >= 3
            && plan.users >= 7
            && plan.safety_micros >= 120 * SECOND
            && happens(3)
            && happens(11);
        let violation =
            |invariant| Violation { at_micros: 0, invariant, detail: format!("{} directors", plan.directors) };
        let mut violations = Vec::new();
        violations.extend(broken.then(|| violation("one ring")));
        violations.extend(plan.faults.has(Fault::Crashes).then(|| violation("answers")));
        let statistics = Statistics { last_strike: 20, ..Statistics::default() };
        Outcome { seed: 1, faults: plan.faults, violations, statistics, timeline: Vec::new() }
    }

    #[test]
    fn what_a_failure_can_do_without_is_taken_away() {
        let all = Fixed {
            directors: Some(5),
            users: Some(100),
            minutes: Some(30),
            faults: Some(Faults::new(&Fault::ALL)),
            ..Fixed::default()
        };
        let mut steps = 0;
        let shrunk = search(1, &all, outcome, |_, _| steps += 1).unwrap();
        let smallest = Fixed {
            directors: Some(3),
            users: Some(8),
            minutes: Some(2),
            faults: Some(Faults::new(&[Fault::Crashes, Fault::Pauses])),
            strikes: Some([3, 11].into_iter().collect()),
            no_operators: true,
        };
        assert_eq!(shrunk.fixed, smallest);
        assert!(steps > 0 && shrunk.runs > steps && shrunk.outcome.violations[0].invariant == "one ring");
    }

    #[test]
    fn a_seed_that_breaks_nothing_has_nothing_to_shrink() {
        assert!(search(1, &Fixed { faults: Some(Faults::NONE), ..Fixed::default() }, outcome, |_, _| ()).is_none());
    }
}
