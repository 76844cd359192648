//! Which directors could have told each other something, as the world knows it.

use std::collections::BTreeMap;

use super::REJOIN_MICROS;
use crate::network::{LinkId, Passage};
use crate::plan::SECOND;

/// A director notices that a link swallows everything when it has heard nothing for 15 s, has asked, and has had no answer
/// for director_ping_idle_timeout, which is 30 s, or, while it still hears the other, for director_ping_max_timeout, 60 s.
pub const NOTICE_MICROS: u64 = 80 * SECOND;

/// A way on which something has always waited for so long, because the reader or the network takes little, is a late one:
/// until then it is one like others.
pub const LATE_MICROS: u64 = 5 * SECOND;

/// Who is how.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Condition {
    /// Its process exists.
    pub alive: bool,
    /// It does not stand still.
    pub moves: bool,
    /// Operators have taken it out of the ring.
    pub removed: bool,
}

/// What has kept two directors apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gap {
    /// The network.
    Network,
    /// One of them stood still.
    Pause,
    /// One of them was taken out of the ring.
    Removal,
}

/// Of each pair of directors, whether something keeps them apart, and until when it last did.
#[derive(Debug)]
pub struct Reach {
    count: usize,
    now_apart: Vec<Option<Gap>>,
    /// When it last ended, and what it was.
    ended: Vec<Option<(u64, Gap)>>,
    /// Who lived when something last changed.
    alive: Vec<bool>,
    /// Since when links swallow what is sent on them, because of the network or because one of their ends stands still.
    swallowing: BTreeMap<LinkId, u64>,
    /// When there last was no way from one to the other but late ones.
    late: Vec<Option<u64>>,
}

impl Reach {
    /// So many directors, that all reach each other.
    pub fn new(count: usize) -> Self {
        Self {
            count,
            now_apart: vec![None; count * count],
            ended: vec![None; count * count],
            alive: vec![true; count],
            swallowing: BTreeMap::new(),
            late: vec![None; count * count],
        }
    }

    /// Something has changed. A director that is dead keeps no news from coming to those who live, but passes none on
    /// either. One that starts knows nothing, and joins those who reach it first. If that could be either of two who were
    /// apart a while ago ([`REJOIN_MICROS`]), or operators let one of them in nowhere, then it may be in one ring with the one
    /// only, as long as those two may be in two rings: it has been apart from each as long as they from each other.
    ///
    /// Two who could reach each other do not while one of them is linked by something that swallows what it sends, or with
    /// one that stands still, and nothing else links it with the other: it can't know yet. It has [`NOTICE_MICROS`] to find out.
    pub fn update(
        &mut self,
        now: u64,
        conditions: &[Condition],
        is_cut: impl Fn(usize, usize) -> bool,
        passages: &[Passage],
    ) {
        // The groups of those who reach each other, if need be by way of others.
        let works = |n: usize| conditions[n].alive && conditions[n].moves && !conditions[n].removed;
        let joined = |a: usize, b: usize| works(a) && works(b) && !is_cut(a, b) && !is_cut(b, a);
        let pairs = (0..self.count).flat_map(|a| (a + 1..self.count).map(move |b| [a, b]));
        let group = groups(self.count, pairs.filter(|&[a, b]| joined(a, b)));
        // And of those who are linked.
        let stands_still = |n: usize| conditions[n].alive && !conditions[n].moves;
        self.note_swallowing(now, passages, stands_still);
        let open = passages.iter().filter(|passage| !passage.swallows).map(|passage| passage.ends);
        let linked = groups(self.count, open.filter(|ends| ends.iter().all(|&n| works(n))));
        let waits = |group: usize| {
            passages.iter().any(|passage| {
                let since = self.swallowing.get(&passage.link);
                since.is_some_and(|since| now < since + NOTICE_MICROS)
                    && passage.ends.iter().any(|&n| works(n) && linked[n] == group)
            })
        };
        let waiting: Vec<bool> = (0..self.count).map(|n| !self.swallowing.is_empty() && waits(linked[n])).collect();
        let is_dark = |a: usize, b: usize| linked[a] != linked[b] && (waiting[a] || waiting[b]);
        for a in 0..self.count {
            for b in 0..self.count {
                let gap = match (conditions[a], conditions[b]) {
                    _ if a == b => None,
                    (Condition { alive: false, .. }, _) | (_, Condition { alive: false, .. }) => None,
                    (Condition { removed: true, .. }, _) | (_, Condition { removed: true, .. }) => Some(Gap::Removal),
                    _ if !works(a) || !works(b) => Some(Gap::Pause),
                    _ => (group[a] != group[b] || is_dark(a, b)).then_some(Gap::Network),
                };
                let place = a * self.count + b;
                if let Some(before) = std::mem::replace(&mut self.now_apart[place], gap) {
                    self.ended[place] = Some((now, before));
                }
            }
        }
        self.note_late(now, works, passages);
        let alive: Vec<bool> = conditions.iter().map(|condition| condition.alive).collect();
        let before = std::mem::replace(&mut self.alive, alive);
        for started in (0..self.count).filter(|&n| self.alive[n] && !before[n]) {
            for other in (0..self.count).filter(|&n| n != started && self.alive[n]) {
                let apart = (0..self.count)
                    .filter(|&n| n != started && n != other && conditions[n].moves)
                    .filter_map(|n| {
                        let place = other * self.count + n;
                        let let_in_nowhere = self.now_apart[place].filter(|gap| *gap == Gap::Removal && self.alive[n]);
                        let lately =
                            self.ended[place].filter(|(at, gap)| now < at + REJOIN_MICROS && *gap != Gap::Pause);
                        let_in_nowhere.map(|gap| (now, gap)).or(lately)
                    })
                    .max_by_key(|(at, _)| *at);
                for place in [started * self.count + other, other * self.count + started] {
                    let later = self.ended[place].is_none_or(|(ended, _)| apart.is_some_and(|(at, _)| ended < at));
                    if later && apart.is_some() {
                        self.ended[place] = apart;
                    }
                }
            }
        }
    }

    /// Lines go both ways round, and who has read one passes it on.
    fn note_late(&mut self, now: u64, works: impl Fn(usize) -> bool, passages: &[Passage]) {
        let is_late = |since: Option<u64>| since.is_some_and(|since| since + LATE_MICROS <= now);
        if !passages.iter().any(|passage| passage.waiting_since_micros.into_iter().any(is_late)) {
            return;
        }
        let ways = |late_too: bool| {
            let mut ways = vec![false; self.count * self.count];
            for passage in passages.iter().filter(|passage| !passage.swallows) {
                let [a, b] = passage.ends;
                for (from, to, since) in
                    [(b, a, passage.waiting_since_micros[0]), (a, b, passage.waiting_since_micros[1])]
                {
                    if works(from) && works(to) && (late_too || !is_late(since)) {
                        ways[from * self.count + to] = true;
                    }
                }
            }
            for by in 0..self.count {
                for from in 0..self.count {
                    if ways[from * self.count + by] {
                        for to in 0..self.count {
                            ways[from * self.count + to] |= ways[by * self.count + to];
                        }
                    }
                }
            }
            ways
        };
        let (all, swift) = (ways(true), ways(false));
        for (late, _) in self.late.iter_mut().zip(all.into_iter().zip(swift)).filter(|(_, (all, swift))| *all && !swift)
        {
            *late = Some(now);
        }
    }

    /// When what one director said could last come to another by late ways only.
    pub fn late_micros(&self, from: usize, to: usize) -> Option<u64> {
        self.late[from * self.count + to]
    }

    fn note_swallowing(&mut self, now: u64, passages: &[Passage], stands_still: impl Fn(usize) -> bool) {
        let swallows = |passage: &&Passage| passage.swallows || passage.ends.iter().any(|&n| stands_still(n));
        let swallowing: Vec<LinkId> = passages.iter().filter(swallows).map(|passage| passage.link).collect();
        self.swallowing.retain(|link, _| swallowing.contains(link));
        for link in swallowing {
            self.swallowing.entry(link).or_insert(now);
        }
    }

    /// What keeps two directors apart, or has done so until that time or later.
    pub fn gap_since(&self, a: usize, b: usize, since: u64) -> Option<Gap> {
        let place = a * self.count + b;
        self.now_apart[place].or_else(|| self.ended[place].filter(|(at, _)| *at >= since).map(|(_, gap)| gap))
    }

    /// The same, between one director and any other.
    pub fn gap_of_since(&self, a: usize, since: u64) -> Option<Gap> {
        (0..self.count).find_map(|b| self.gap_since(a, b, since))
    }
}

/// The group of each of so many, if these pairs are in one.
fn groups(count: usize, pairs: impl Iterator<Item = [usize; 2]>) -> Vec<usize> {
    let mut group: Vec<usize> = (0..count).collect();
    for [a, b] in pairs {
        let (from, to) = (group[b], group[a]);
        if from != to {
            group.iter_mut().filter(|group| **group == from).for_each(|group| *group = to);
        }
    }
    group
}

#[cfg(test)]
mod tests {
    use super::*;

    const WELL: Condition = Condition { alive: true, moves: true, removed: false };

    #[test]
    fn a_way_by_others_is_a_way_unless_they_are_dead_or_stand_still() {
        let cut = |a: usize, b: usize| (a, b) == (0, 2);
        for (middle, gap) in [
            (WELL, None),
            (Condition { alive: false, ..WELL }, Some(Gap::Network)),
            (Condition { moves: false, ..WELL }, Some(Gap::Network)),
        ] {
            let mut reach = Reach::new(3);
            reach.update(5, &[WELL, middle, WELL], cut, &[]);
            assert_eq!((reach.gap_since(0, 2, 0), reach.gap_since(2, 0, 0)), (gap, gap), "{middle:?}");
        }
    }

    #[test]
    fn who_starts_between_two_that_are_apart_may_be_with_one_of_them_only() {
        let dead = Condition { alive: false, ..WELL };
        let removed = Condition { removed: true, ..WELL };
        let paused = Condition { moves: false, ..WELL };
        let cut = |a: usize, b: usize| (a, b) == (0, 2);
        for (third, is_cut, gap) in [
            (WELL, true, Some(Gap::Network)),
            (removed, false, Some(Gap::Removal)),
            (paused, false, None),
            (WELL, false, None),
        ] {
            let mut reach = Reach::new(3);
            reach.update(5, &[WELL, dead, third], |a, b| is_cut && cut(a, b), &[]);
            reach.update(9, &[WELL, WELL, third], |a, b| is_cut && cut(a, b), &[]);
            assert_eq!((reach.gap_since(0, 1, 9), reach.gap_since(1, 0, 9)), (gap, gap), "{third:?}");
            assert_eq!(reach.gap_since(0, 1, 10), None);
            // Who was let in before, or could be reached, may not be in one ring yet.
            let long_ago = REJOIN_MICROS + 8;
            for (starts, lately) in [(8, gap), (long_ago - 1, gap), (long_ago, None)] {
                let mut reach = Reach::new(3);
                reach.update(5, &[WELL, dead, third], |a, b| is_cut && cut(a, b), &[]);
                reach.update(8, &[WELL, dead, WELL], |_, _| false, &[]);
                reach.update(starts, &[WELL; 3], |_, _| false, &[]);
                assert_eq!((reach.gap_since(0, 1, 8), reach.gap_since(0, 1, 9)), (lately, None), "{third:?} {starts}");
            }
        }
    }

    #[test]
    fn a_gap_is_remembered_until_it_is_asked_for_later_times_only() {
        let mut reach = Reach::new(2);
        reach.update(5, &[WELL; 2], |_, _| true, &[]);
        reach.update(9, &[WELL, Condition { moves: false, ..WELL }], |_, _| false, &[]);
        reach.update(12, &[WELL; 2], |_, _| false, &[]);
        assert_eq!(reach.gap_since(0, 1, 12), Some(Gap::Pause));
        assert_eq!(reach.gap_since(0, 1, 13), None);
        assert_eq!(reach.gap_of_since(1, 12), Some(Gap::Pause));
    }

    /// A ring of three in which the first is linked with the others by these, whether they swallow what it sends or not,
    /// and the others with each other.
    fn ring(now: u64, reach: &mut Reach, first: &[(usize, bool)], middle: Condition) {
        let passage = |id: u32, ends, swallows| Passage {
            link: LinkId::numbered(id),
            ends,
            swallows,
            waiting_since_micros: [None; 2],
        };
        let mut passages = vec![passage(9, [1, 2], false)];
        passages.extend(first.iter().zip(1..).map(|(&(to, swallows), id)| passage(id, [0, to], swallows)));
        reach.update(now, &[WELL, middle, WELL], |_, _| false, &passages);
    }

    #[test]
    fn who_waits_for_a_link_that_swallows_everything_is_apart_until_it_ought_to_have_noticed() {
        let dead = Condition { alive: false, ..WELL };
        for (first, middle, gap) in [
            (&[(1, true), (2, true)][..], WELL, Some(Gap::Network)),
            (&[(1, true)], WELL, Some(Gap::Network)),
            (&[(1, true)], dead, Some(Gap::Network)),
            (&[(1, true), (2, false)], WELL, None),
            (&[(1, false)], WELL, None),
            (&[], WELL, None),
        ] {
            let mut reach = Reach::new(3);
            ring(5, &mut reach, first, middle);
            assert_eq!(reach.gap_since(0, 2, 0), gap, "{first:?} {middle:?}");
            assert_eq!(reach.gap_since(1, 2, 0), None);
            ring(5 + NOTICE_MICROS - 1, &mut reach, first, middle);
            assert_eq!(reach.gap_since(0, 2, 6), gap, "{first:?} {middle:?}");
            ring(5 + NOTICE_MICROS, &mut reach, first, middle);
            assert_eq!(reach.gap_since(0, 2, 6 + NOTICE_MICROS), None, "{first:?} {middle:?}");
        }
    }

    #[test]
    fn who_waits_for_one_that_stands_still_and_has_no_other_link_is_apart_until_it_ought_to_have_noticed() {
        let paused = Condition { moves: false, ..WELL };
        for (first, gap) in [(&[(1, false)][..], Some(Gap::Network)), (&[(1, false), (2, false)], None)] {
            let mut reach = Reach::new(3);
            ring(5, &mut reach, first, paused);
            assert_eq!(reach.gap_since(0, 2, 0), gap, "{first:?}");
            assert_eq!(reach.gap_since(0, 1, 0), Some(Gap::Pause), "{first:?}");
            ring(5 + NOTICE_MICROS - 1, &mut reach, first, paused);
            assert_eq!(reach.gap_since(0, 2, 6), gap, "{first:?}");
            ring(5 + NOTICE_MICROS, &mut reach, first, paused);
            assert_eq!(reach.gap_since(0, 2, 6 + NOTICE_MICROS), None, "{first:?}");
        }
    }

    #[test]
    fn who_can_be_told_by_late_ways_only_is_told_late() {
        let passage = |id: u32, ends, waiting_since_micros| Passage {
            link: LinkId::numbered(id),
            ends,
            swallows: false,
            waiting_since_micros,
        };
        let now = 3 * LATE_MICROS;
        let late = Some(2 * LATE_MICROS);
        // By since when something waits for each end: between 0 and 1, 1 and 2, and perhaps 2 and 0. Then whether 0 is late for 2, and 2 for 0.
        for (unread, there, back) in [
            (&[[None, late], [None, None]][..], true, false),
            (&[[None, None], [None, late]], true, false),
            (&[[late, None], [None, None]], false, true),
            (&[[None, Some(2 * LATE_MICROS + 1)], [None, None]], false, false),
            (&[[late, late], [late, late], [None, None]], false, false),
            (&[[None, late], [None, None], [late, None]], true, false),
        ] {
            let mut reach = Reach::new(3);
            let ends = [[0, 1], [1, 2], [2, 0]];
            let passages: Vec<_> =
                (1..).zip(unread.iter().zip(ends)).map(|(id, (unread, ends))| passage(id, ends, *unread)).collect();
            reach.update(now, &[WELL; 3], |_, _| false, &passages);
            let found = [(0, 2), (2, 0)].map(|(from, to)| reach.late_micros(from, to) == Some(now));
            assert_eq!(found, [there, back], "{unread:?}");
        }
    }
}
