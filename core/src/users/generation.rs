//! Which of two backends of a user is the later one.

use std::cmp::Ordering;

/// How often a user was moved, as far as five bits can tell: so many are left of a node. Each move gives the next one, from
/// 1 to 31 and then 1 again; 0 is a backend that was never the target of a move (ring protocol, "Version 1.10").
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Generation(u8);

impl Generation {
    /// That of a backend that was never the target of a move.
    pub const NEVER: Self = Self(0);
    /// The highest number.
    pub const MAX: u8 = 31;

    /// The one with this number, if there is one.
    pub fn new(number: u32) -> Option<Self> {
        u8::try_from(number).ok().filter(|number| *number <= Self::MAX).map(Self)
    }

    /// The one of these five bits.
    pub(super) fn cut(bits: u8) -> Self {
        Self(bits & Self::MAX)
    }

    /// Its number: at most [`Self::MAX`].
    pub fn number(self) -> u8 {
        self.0
    }

    /// That of the next move.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0 % Self::MAX + 1)
    }

    /// Which of two is the later one. They count in a circle, so a member that has missed more than 15 moves of a user
    /// is taken for the one that is ahead; 0 is before all others.
    pub fn compare(self, other: Self) -> Ordering {
        match (self.0, other.0) {
            (ours, theirs) if ours == theirs => Ordering::Equal,
            (0, _) => Ordering::Less,
            (_, 0) => Ordering::Greater,
            (ours, theirs) => {
                let ahead = (ours + Self::MAX - theirs) % Self::MAX;
                if ahead <= Self::MAX / 2 { Ordering::Greater } else { Ordering::Less }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_fifteen_are_later_and_those_before_are_not() {
        for number in 1..=u32::from(Generation::MAX) {
            let generation = Generation::new(number).unwrap();
            assert_eq!(generation.compare(generation), Ordering::Equal);
            assert_eq!(generation.compare(Generation::NEVER), Ordering::Greater);
            assert_eq!(Generation::NEVER.compare(generation), Ordering::Less);
            let mut later = generation;
            for _ in 0..15 {
                later = later.next();
                assert_eq!(later.compare(generation), Ordering::Greater, "{later:?} {generation:?}");
                assert_eq!(generation.compare(later), Ordering::Less);
            }
            assert_eq!(later.next().compare(generation), Ordering::Less, "{generation:?}");
        }
        assert_eq!(Generation::new(32), None);
        assert_eq!(Generation::NEVER.next().number(), 1);
    }
}
