//! What several rounds have measured.

use std::fmt;

use crate::director::Kind;

/// The figures of one load on one kind, a figure a round.
#[derive(Clone, Debug)]
pub struct Figures {
    sorted: Vec<f64>,
}

impl Figures {
    /// The figures of these rounds.
    ///
    /// # Panics
    /// If there are none, or one is not a number.
    pub fn of(rounds: impl IntoIterator<Item = f64>) -> Self {
        let mut sorted: Vec<f64> = rounds.into_iter().collect();
        assert!(!sorted.is_empty() && sorted.iter().all(|figure| figure.is_finite()), "{sorted:?}");
        sorted.sort_by(f64::total_cmp);
        Self { sorted }
    }

    /// The middle one; of an even number, the mean of the two in the middle.
    pub fn median(&self) -> f64 {
        let middle = self.sorted.len() / 2;
        if self.sorted.len() % 2 == 1 {
            self.sorted[middle]
        } else {
            f64::midpoint(self.sorted[middle - 1], self.sorted[middle])
        }
    }

    /// The smallest and the largest.
    pub fn spread(&self) -> (f64, f64) {
        (self.sorted[0], self.sorted[self.sorted.len() - 1])
    }
}

/// The median, and the spread in brackets.
impl fmt::Display for Figures {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (least, most) = self.spread();
        write!(formatter, "{} ({}-{})", short(self.median()), short(least), short(most))
    }
}

/// Three digits that count, and no more decimals than that takes.
pub fn short(figure: f64) -> String {
    let decimals = match figure.abs() {
        size if size >= 100.0 => 0,
        size if size >= 10.0 => 1,
        size if size >= 1.0 => 2,
        _ => 3,
    };
    format!("{figure:.decimals$}")
}

/// Runs a load on each of these kinds, in turns, so that a change of the machine's mood meets all. Gives back what the
/// rounds on each gave.
pub fn rounds<T, const N: usize>(kinds: [Kind; N], count: u32, mut load: impl FnMut(Kind) -> T) -> [Vec<T>; N] {
    let mut results = kinds.map(|_| Vec::new());
    for _ in 0..count {
        for (kind, results) in kinds.into_iter().zip(&mut results) {
            results.push(load(kind));
        }
    }
    results
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_in_the_middle_and_the_spread_at_the_ends() {
        let odd = Figures::of([3.0, 1.0, 2.5]);
        assert_eq!((odd.median(), odd.spread()), (2.5, (1.0, 3.0)));
        let even = Figures::of([4.0, 1.0, 2.0, 3.0]);
        assert_eq!((even.median(), even.spread()), (2.5, (1.0, 4.0)));
    }

    #[test]
    fn figures_are_short() {
        assert_eq!(Figures::of([190.4, 0.123_45, 2.0]).to_string(), "2.00 (0.123-190)");
        assert_eq!(short(52.37), "52.4");
    }

    #[test]
    fn the_kinds_take_turns() {
        let mut order = Vec::new();
        rounds([Kind::Dovecot, Kind::Ours], 2, |kind| order.push(kind));
        assert_eq!(order, [Kind::Dovecot, Kind::Ours, Kind::Dovecot, Kind::Ours]);
    }
}
