//! The members of the ring, in the order of the circle (ring protocol, "Members and their order").

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use super::announce::Nameless;
use crate::time::{Instant, Now};

/// For this long after a protocol failure nothing is tried with a member.
pub(crate) const PROTOCOL_FAILURE_PAUSE: Duration = Duration::from_secs(60);
/// The shortest pause between tries to connect to a member.
const TRY_PAUSE: Duration = Duration::from_secs(1);
/// The longest pause between tries to connect to a member that can't be reached.
const CONNECT_PAUSE_MAX_SECS: u64 = 60;
/// The longest pause after links that were made and broke again. Such a member lives, so it is worth trying soon: when
/// the network holds again, the ring is whole within this and a handshake.
const FLAP_PAUSE_MAX_SECS: u64 = 4;
/// A USER-WEAK that was seen before is sent on so often.
const WEAK_REPEAT_MAX: u32 = 4;
/// Of so many of one director this is known; of older ones none is sent on again.
const WEAK_NUMBERS_MAX: usize = 4096;

/// When something failed, in both clocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    pub(crate) at: Instant,
    pub(crate) unix_secs: u64,
}

/// What we remember of the last SYNC of an originator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SyncSeen {
    pub(crate) seq: u32,
    pub(crate) timestamp_secs: u64,
    /// How often this one was forwarded.
    pub(crate) forwarded: u32,
}

/// A director of the ring, ourselves included.
#[derive(Clone, Debug)]
pub(crate) struct Member {
    /// Removed by an administrator; forgotten soon.
    pub(crate) removed: bool,
    /// The highest command number seen from it; 0 = none.
    pub(crate) seq_seen: u32,
    /// The numbers of its USER-WEAK that were sent on although seen before, and how often; the highest
    /// [`WEAK_NUMBERS_MAX`] of them.
    weak_repeated: BTreeMap<u32, u32>,
    pub(crate) sync_seen: Option<SyncSeen>,
    /// DIRECTOR lines about it that had no name.
    pub(crate) nameless: Nameless,
    /// When a SYNC of its told us last that it had restarted.
    pub(crate) restart_believed: Option<Instant>,
    /// The hosts-hash in its SYNC that differed from ours once.
    pub(crate) differing_hosts_hash: Option<u32>,
    pub(crate) network_failure: Option<Failure>,
    pub(crate) protocol_failure: Option<Failure>,
    /// When it last said who it is: then it was there.
    pub(crate) spoke_at: Option<Instant>,
    /// Failed tries in a row: the pause before the next grows with it.
    tries_failed: u32,
    /// Links in a row that were made and broke early.
    flaps: u32,
    /// When a connect last began.
    tried_at: Option<Instant>,
    /// Not before this is it tried again, unless there is nobody else.
    pub(crate) retry_at: Option<Instant>,
}

impl Member {
    fn new() -> Self {
        Self {
            removed: false,
            seq_seen: 0,
            weak_repeated: BTreeMap::new(),
            sync_seen: None,
            nameless: Nameless::default(),
            restart_believed: None,
            differing_hosts_hash: None,
            network_failure: None,
            protocol_failure: None,
            spoke_at: None,
            tries_failed: 0,
            flaps: 0,
            tried_at: None,
            retry_at: None,
        }
    }

    /// Whether there are numbers of its to forget.
    pub(crate) fn has_numbers(&self) -> bool {
        self.seq_seen != 0 || self.sync_seen.is_some()
    }

    /// It may have restarted: what it numbers begins anew.
    pub(crate) fn forget_numbers(&mut self) {
        if cfg!(feature = "canary-restarted-member-not-heard") {
            return;
        }
        self.seq_seen = 0;
        self.weak_repeated.clear();
        self.sync_seen = None;
    }

    /// Whether a USER-WEAK of its that was here before may go on once more. Several that it can't end, because it is gone, may
    /// be on their way at once: each has its own count.
    pub(crate) fn may_repeat_weak(&mut self, seq: u32) -> bool {
        let is_full = self.weak_repeated.len() >= WEAK_NUMBERS_MAX;
        if is_full && !self.weak_repeated.contains_key(&seq) {
            if self.weak_repeated.first_key_value().is_some_and(|(&lowest, _)| seq < lowest) {
                return false;
            }
            self.weak_repeated.pop_first();
        }
        let count = self.weak_repeated.entry(seq).or_default();
        *count += 1;
        *count <= WEAK_REPEAT_MAX
    }

    /// A connect failed.
    pub(crate) fn connect_failed(&mut self, now: Now) {
        self.network_failure = Some(Failure { at: now.instant, unix_secs: now.unix_secs });
        let secs = (1_u64 << self.tries_failed.min(6)).min(CONNECT_PAUSE_MAX_SECS);
        self.tries_failed += 1;
        self.retry_at = Some(now.instant + Duration::from_secs(secs));
    }

    /// A link was made and broke again before it had held for long.
    pub(crate) fn link_flapped(&mut self, now: Now) {
        self.network_failure = Some(Failure { at: now.instant, unix_secs: now.unix_secs });
        let secs = (1_u64 << self.flaps.min(6)).min(FLAP_PAUSE_MAX_SECS);
        self.flaps += 1;
        self.retry_at = Some(now.instant + Duration::from_secs(secs));
    }

    /// A connect begins: however it ends, the next one has to wait a little, so that nothing ever spins.
    pub(crate) fn connect_begins(&mut self, now: Now) {
        self.tried_at = Some(now.instant);
        self.retry_at = Some(now.instant + TRY_PAUSE);
    }

    /// A link to it was made: connecting works.
    pub(crate) fn link_made(&mut self) {
        self.tries_failed = 0;
    }

    /// Whether its pauses are over.
    pub(crate) fn may_be_tried(&self, now: Instant) -> bool {
        self.retry_at.is_none_or(|at| at <= now) && !self.is_banned(now)
    }

    /// When it may be tried again although its last try failed a moment ago; `None`: at once.
    pub(crate) fn too_early_until(&self, now: Instant) -> Option<Instant> {
        let until = self.tried_at? + TRY_PAUSE;
        (self.tries_failed > 0 && now < until).then_some(until)
    }

    /// A link to it has held.
    pub(crate) fn link_held(&mut self) {
        self.flaps = 0;
        self.reset_network_failure();
    }

    pub(crate) fn reset_network_failure(&mut self) {
        self.network_failure = None;
        self.tries_failed = 0;
        self.retry_at = None;
    }

    /// Whether it broke the protocol a short while ago.
    pub(crate) fn is_banned(&self, now: Instant) -> bool {
        self.protocol_failure.is_some_and(|failure| now < failure.at + PROTOCOL_FAILURE_PAUSE)
    }

    /// Unix time of the last failure of either kind; 0 = never.
    pub(crate) fn last_failed_secs(&self) -> u64 {
        let secs = |failure: Option<Failure>| failure.map_or(0, |failure| failure.unix_secs);
        secs(self.network_failure).max(secs(self.protocol_failure))
    }
}

/// All members, ourselves included, as a circle.
#[derive(Debug)]
pub(crate) struct Members {
    self_address: SocketAddr,
    by_address: BTreeMap<SocketAddr, Member>,
}

impl Members {
    pub(crate) fn new(self_address: SocketAddr, addresses: &[SocketAddr]) -> Self {
        let mut by_address: BTreeMap<_, _> = addresses.iter().map(|&address| (address, Member::new())).collect();
        by_address.entry(self_address).or_insert_with(Member::new);
        Self { self_address, by_address }
    }

    pub(crate) fn self_address(&self) -> SocketAddr {
        self.self_address
    }

    pub(crate) fn get(&self, address: SocketAddr) -> Option<&Member> {
        self.by_address.get(&address)
    }

    pub(crate) fn get_mut(&mut self, address: SocketAddr) -> Option<&mut Member> {
        self.by_address.get_mut(&address)
    }

    /// Whether it is a member and has not been removed.
    pub(crate) fn is_listed(&self, address: SocketAddr) -> bool {
        self.get(address).is_some_and(|member| !member.removed)
    }

    /// Whether a member that has not been removed has this IP.
    pub(crate) fn is_listed_ip(&self, ip: IpAddr) -> bool {
        self.by_address.iter().any(|(address, member)| address.ip() == ip && !member.removed)
    }

    /// The first member with this IP, in the order of addresses.
    pub(crate) fn find_ip(&self, ip: IpAddr) -> Option<SocketAddr> {
        self.by_address
            .iter()
            .find(|(address, member)| address.ip() == ip && !member.removed)
            .map(|(&address, _)| address)
    }

    /// The member, added if it is new, not removed from now on.
    pub(crate) fn add(&mut self, address: SocketAddr) -> &mut Member {
        let member = self.by_address.entry(address).or_insert_with(Member::new);
        member.removed = false;
        member
    }

    pub(crate) fn forget(&mut self, address: SocketAddr) {
        if address != self.self_address {
            self.by_address.remove(&address);
        }
    }

    /// All members by address, with the removed ones.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (SocketAddr, &Member)> {
        self.by_address.iter().map(|(&address, member)| (address, member))
    }

    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = (SocketAddr, &mut Member)> {
        self.by_address.iter_mut().map(|(&address, member)| (address, member))
    }

    /// All other members that have not been removed, rightwards from us.
    pub(crate) fn rightwards(&self) -> impl Iterator<Item = SocketAddr> {
        let after = self.by_address.range((std::ops::Bound::Excluded(self.self_address), std::ops::Bound::Unbounded));
        let before = self.by_address.range(..self.self_address);
        after.chain(before).filter(|(_, member)| !member.removed).map(|(&address, _)| address)
    }

    /// How far to the right from us a member comes: comparable with that of others.
    fn rank(&self, address: SocketAddr) -> (bool, SocketAddr) {
        (address <= self.self_address, address)
    }

    /// Whether `a` is met before `b` on the way to the right.
    pub(crate) fn is_better_right(&self, a: SocketAddr, b: SocketAddr) -> bool {
        self.rank(a) < self.rank(b)
    }

    /// Whether `a` is met before `b` on the way to the left.
    pub(crate) fn is_better_left(&self, a: SocketAddr, b: SocketAddr) -> bool {
        self.rank(a) > self.rank(b)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(last: u8) -> SocketAddr {
        SocketAddr::from(([127, 0, 1, last], 9090))
    }

    #[test]
    fn the_circle_goes_right_from_us_and_round() {
        let v6: SocketAddr = "[2001:db8::1]:9090".parse().unwrap();
        let members = Members::new(address(2), &[address(3), address(1), v6, address(2)]);
        assert_eq!(members.rightwards().collect::<Vec<_>>(), [address(3), v6, address(1)]);
        assert!(members.is_better_right(address(3), address(1)));
        assert!(members.is_better_right(v6, address(1)));
        assert!(members.is_better_left(address(1), address(3)));
        assert!(!members.is_better_left(address(1), address(1)));
    }

    #[test]
    fn pauses_grow_while_connecting_fails_and_start_anew_once_a_link_was_made() {
        let mut member = Member::new();
        let now = Now::default();
        let mut pauses = Vec::new();
        for _ in 0..8 {
            member.connect_failed(now);
            pauses.push(member.retry_at.unwrap().as_micros() / 1_000_000);
        }
        assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 60, 60]);
        member.link_made();
        member.connect_failed(now);
        assert_eq!(member.retry_at, Some(Instant::from_micros(1_000_000)));
    }
}
