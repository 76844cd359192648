//! DIRECTOR: members are told of a member that was added or has come back (ring protocol, "Sequence numbers", and among our own
//! directors "Version 1.10: what is our own").

use std::collections::{BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::time::Duration;

use log::info;

use crate::contract::ConnectionId;
use crate::director::Director;
use crate::time::{Instant, Now};
use crate::wire::ring::{Line, Origin};

/// A name is remembered for so long: by far longer than a line needs to go everywhere.
const NAMES_KEPT: Duration = Duration::from_secs(60);
/// So many names at most are remembered. Where all members of a ring start at once there are about as many as the square of
/// their number. If one is forgotten too early, its line goes round once more.
const NAMES_MAX: usize = 16_384;
/// A line without a name that tells nothing new is passed on so often within [`NAMELESS_TIME`], for each member that it may
/// name: several handshakes may name one at the same moment, and a line that circles through older members comes by the
/// thousand.
const NAMELESS_MAX: u32 = 8;
const NAMELESS_TIME: Duration = Duration::from_secs(1);

/// Names of DIRECTOR lines that were here.
#[derive(Debug, Default)]
pub(crate) struct Names {
    known: BTreeSet<(SocketAddr, u32)>,
    /// The same, the oldest first, with the time at which each came.
    order: VecDeque<(Instant, (SocketAddr, u32))>,
}

impl Names {
    /// Remembers a name; false if it is known.
    fn insert(&mut self, Origin { address, seq }: Origin, now: Instant) -> bool {
        while self.order.len() >= NAMES_MAX || self.order.front().is_some_and(|(at, _)| *at + NAMES_KEPT < now) {
            let Some((_, name)) = self.order.pop_front() else { break };
            self.known.remove(&name);
        }
        let new = self.known.insert((address, seq));
        if new {
            self.order.push_back((now, (address, seq)));
        }
        new
    }
}

/// How often lines without a name were passed on that named a member and told nothing new.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Nameless {
    since: Instant,
    passed: u32,
}

impl Nameless {
    /// Counts one more; false if it is too many.
    fn may_pass(&mut self, now: Instant) -> bool {
        if now.saturating_since(self.since) >= NAMELESS_TIME {
            *self = Self { since: now, passed: 0 };
        }
        self.passed = self.passed.saturating_add(1);
        self.passed <= NAMELESS_MAX
    }
}

impl Director {
    /// DIRECTOR.
    pub(crate) fn director_received(&mut self, id: ConnectionId, address: SocketAddr, name: Option<Origin>, now: Now) {
        if address == self.ring.members.self_address() {
            return;
        }
        let always = cfg!(feature = "canary-director-always-forwarded");
        let seen = name.is_some_and(|name| !self.ring.director_names.insert(name, now.instant)) && !always;
        let done = self.link(id).is_some_and(|link| link.done);
        match self.ring.members.get_mut(address) {
            Some(member) if member.removed => return,
            Some(member) => {
                let mut new = false;
                if done && member.network_failure.is_some() {
                    member.reset_network_failure();
                    new = true;
                }
                new |= member.has_numbers();
                // Also when it comes the other way round: what its earlier life had said may have come before it on that way.
                member.forget_numbers();
                if seen {
                    return;
                }
                if name.is_none() && !new && !member.nameless.may_pass(now.instant) && !always {
                    return;
                }
            }
            None => {
                info!("{}: Adding director {address} to the ring", super::link::Label(self, id));
                self.ring.members.add(address);
            }
        }
        // We ought to be connected to a member that is nearer than our right, so it is probably dead: this is what keeps
        // DIRECTOR from going round for ever where it has no name. It circles through a link in its handshake as well, so
        // the one that may become our right counts like one.
        let outgoing = |id: &ConnectionId| {
            self.connections.is_established(*id) && self.link(*id).is_some_and(|link| link.outgoing)
        };
        let right = self.ring.right.or_else(|| self.ring.links.iter().copied().find(outgoing));
        let right = right.and_then(|right| self.link(right)).map(|link| link.peer);
        if !always && right.is_some_and(|right| self.ring.members.is_better_right(address, right)) {
            return;
        }
        let source = self.link(id).and_then(|link| link.member);
        self.forward_director(address, name, source, now);
    }

    /// Tells the others of a member; without a name it gets one of ours.
    pub(crate) fn forward_director(
        &mut self,
        address: SocketAddr,
        name: Option<Origin>,
        source: Option<SocketAddr>,
        now: Now,
    ) {
        self.ring.change_counter = self.ring.change_counter.wrapping_add(1);
        let origin = name.unwrap_or_else(|| {
            self.ring.director_seq = self.ring.director_seq.wrapping_add(1);
            let origin = Origin { address: self.ring.members.self_address(), seq: self.ring.director_seq };
            self.ring.director_names.insert(origin, now.instant);
            origin
        });
        for index in 0..self.ring.links.len() {
            let id = self.ring.links[index];
            if !self.connections.is_established(id) {
                continue;
            }
            let Some(link) = self.link_mut(id) else { continue };
            if source.is_some() && link.member == source {
                continue;
            }
            // Before the peer's VERSION nobody knows whether it understands names. A line without one may be on its way round
            // again, and there is nothing to be said twice before the peer has said a word. (All members that we know were
            // said on an outgoing link already, as its first lines; but not that one has come back since.)
            let name = link.minor.map(|_| origin);
            if name.is_some() || link.members_told.insert(address) {
                self.send(id, &Line::Director { address, name });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_known_for_a_while_and_never_too_many() {
        let mut names = Names::default();
        let name = |seq| Origin { address: SocketAddr::from(([127, 0, 1, 1], 9090)), seq };
        let at = Instant::from_micros;
        assert!(names.insert(name(7), at(0)));
        assert!(!names.insert(name(7), at(60_000_000)));
        assert!(names.insert(name(7), at(60_000_001)), "forgotten");
        for seq in 0..100_000 {
            assert!(names.insert(name(100 + seq), at(70_000_000)));
        }
        assert_eq!((names.known.len(), names.order.len()), (NAMES_MAX, NAMES_MAX));
        assert!(!names.insert(name(100_099), at(70_000_000)));
    }
}
