//! The order in which users expire.
//!
//! One circular list of all nodes, cut into seconds: behind the users of a second stands its sentinel. A user's second
//! is that of his timestamp, except where the map wants to look at him earlier or later. A sorted map knows the
//! sentinels, so a user finds his place as fast with an old timestamp, as in a handshake, as with that of now; and
//! to leave it he needs to know nothing. Markers in the same list are the places of walks: whatever changes around
//! them, they stay between the same neighbours.

use std::collections::BTreeMap;

use super::slab::{Kind, Node, Slab};

/// The node before the first and behind the last.
pub(super) const HEAD: u32 = 0;

pub(super) struct Order {
    pub(super) nodes: Slab,
    /// The sentinel of each second that has users, and of some that have lost their last.
    seconds: BTreeMap<u32, u32>,
    /// The second that was used last and its sentinel: users mostly come with the second of the one before.
    recent: Option<(u32, u32)>,
}

impl Order {
    pub(super) fn new() -> Self {
        let mut nodes = Slab::default();
        let head = nodes.insert(Node::new(Kind::Sentinel));
        debug_assert_eq!(head, HEAD);
        Self { nodes, seconds: BTreeMap::new(), recent: None }
    }

    /// The earliest second.
    pub(super) fn first_second(&self) -> Option<u32> {
        self.seconds.first_key_value().map(|(&second, _)| second)
    }

    /// The node of the earliest user, if his second is not after `until`.
    pub(super) fn first_until(&mut self, until: u32) -> Option<u32> {
        loop {
            let (&second, &sentinel) = self.seconds.first_key_value()?;
            if second > until {
                return None;
            }
            let mut first = self.nodes[HEAD].next;
            // There are as many markers as walks under way: few.
            while self.nodes[first].kind == Kind::Marker {
                first = self.nodes[first].next;
            }
            if first != sentinel {
                debug_assert!(self.nodes[first].is_user());
                return Some(first);
            }
            self.cut(sentinel);
            self.drop_second(sentinel);
        }
    }

    /// Puts a node that is in no place behind those of its second.
    pub(super) fn place(&mut self, slot: u32, second: u32) {
        let sentinel = self.sentinel(second);
        self.link_before(slot, sentinel);
    }

    /// Takes a node out of its place.
    pub(super) fn unlink(&mut self, slot: u32) {
        let Node { prev, next, .. } = self.nodes[slot];
        self.cut(slot);
        if self.nodes[prev].kind == Kind::Sentinel && self.nodes[next].kind == Kind::Sentinel && next != HEAD {
            self.cut(next);
            self.drop_second(next);
        }
    }

    /// Moves all that is in a second after `last` to that, in the order in which it is.
    pub(super) fn pull_back(&mut self, last: u32) {
        let Some(entry) = self.seconds.last_entry().filter(|entry| *entry.key() > last) else { return };
        // The list's last sentinel becomes that of `last`: without those before it, it stands behind them all, and
        // still behind the end markers.
        let keep = entry.remove();
        while let Some(entry) = self.seconds.last_entry().filter(|entry| *entry.key() >= last) {
            let sentinel = entry.remove();
            self.cut(sentinel);
            self.nodes.remove(sentinel);
        }
        self.nodes[keep].timestamp_secs = last;
        self.seconds.insert(last, keep);
        self.recent = None;
    }

    /// Marks the start and the end of a walk over all that is there now.
    pub(super) fn mark(&mut self) -> (u32, u32) {
        let end = self.nodes.insert(Node::new(Kind::Marker));
        // Before the last sentinel, not behind it: who comes in the same second is not part of the walk.
        let last = self.seconds.last_key_value().map_or(HEAD, |(_, &sentinel)| sentinel);
        self.link_before(end, last);
        let start = self.nodes.insert(Node::new(Kind::Marker));
        self.link_before(start, self.nodes[HEAD].next);
        (start, end)
    }

    /// Moves a marker behind another node.
    pub(super) fn move_behind(&mut self, marker: u32, other: u32) {
        // The sentinel right behind the marker may go when the marker does, but this is no nearer than two behind.
        let target = self.nodes[other].next;
        debug_assert!(marker != other && target != self.nodes[marker].next);
        self.unlink(marker);
        self.link_before(marker, target);
    }

    pub(super) fn unmark(&mut self, marker: u32) {
        self.unlink(marker);
        self.nodes.remove(marker);
    }

    /// How many bytes are allocated.
    pub(super) fn allocated_bytes(&self) -> usize {
        self.nodes.allocated_bytes() + super::btree_bytes(self.seconds.len(), 2 * size_of::<u32>())
    }

    /// The sentinel of a second, made if there is none.
    fn sentinel(&mut self, second: u32) -> u32 {
        if let Some((recent, sentinel)) = self.recent
            && recent == second
        {
            return sentinel;
        }
        let sentinel = match self.seconds.get(&second) {
            Some(&sentinel) => sentinel,
            None => {
                let before = self.seconds.range(..second).next_back().map_or(HEAD, |(_, &sentinel)| sentinel);
                let sentinel = self.nodes.insert(Node { timestamp_secs: second, ..Node::new(Kind::Sentinel) });
                self.link_before(sentinel, self.nodes[before].next);
                self.seconds.insert(second, sentinel);
                sentinel
            }
        };
        self.recent = Some((second, sentinel));
        sentinel
    }

    /// Forgets a sentinel that is out of the list.
    fn drop_second(&mut self, sentinel: u32) {
        self.seconds.remove(&self.nodes[sentinel].timestamp_secs);
        self.nodes.remove(sentinel);
        self.recent = self.recent.filter(|&(_, recent)| recent != sentinel);
    }

    fn link_before(&mut self, slot: u32, next: u32) {
        let prev = std::mem::replace(&mut self.nodes[next].prev, slot);
        self.nodes[prev].next = slot;
        let node = &mut self.nodes[slot];
        (node.prev, node.next) = (prev, next);
    }

    fn cut(&mut self, slot: u32) {
        let Node { prev, next, .. } = self.nodes[slot];
        self.nodes[prev].next = next;
        self.nodes[next].prev = prev;
    }

    /// Panics unless the list and the sentinels fit together; returns the slots and seconds of all users, in order.
    #[cfg(test)]
    pub(super) fn check(&self) -> Vec<(u32, u32)> {
        let mut users = Vec::new();
        let mut sentinels = Vec::new();
        let mut bucket = Vec::new();
        let (mut prev, mut at) = (HEAD, self.nodes[HEAD].next);
        let mut steps = 0;
        while at != HEAD {
            let node = &self.nodes[at];
            assert_eq!(node.prev, prev);
            match node.kind {
                Kind::User(_) => bucket.push(at),
                Kind::Marker => {}
                Kind::Sentinel => {
                    sentinels.push((node.timestamp_secs, at));
                    users.extend(bucket.drain(..).map(|slot| (slot, node.timestamp_secs)));
                }
                Kind::Free => panic!("a free node in the list"),
            }
            steps += 1;
            (prev, at) = (at, node.next);
        }
        assert_eq!(self.nodes[HEAD].prev, prev);
        assert_eq!(bucket, [], "every user has a sentinel behind him");
        assert_eq!(steps + 1, self.nodes.len(), "nothing is lost");
        assert!(self.seconds.iter().map(|(&second, &sentinel)| (second, sentinel)).eq(sentinels));
        assert!(self.recent.is_none_or(|(second, sentinel)| self.seconds.get(&second) == Some(&sentinel)));
        users
    }
}
