//! The ring: its members, the links to them, and whether all of them are in one state.
//!
//! The state machine of the ring is spread over this folder by what happens: [`link`] (the life of one connection),
//! [`handshake`] (its beginning), [`connect`] (who is our right), [`placement`] (who is our left), [`commands`] (what the
//! others say), [`announce`] (DIRECTOR), [`sync`] (SYNC and PING), [`users`] (merging what they say of users).

pub(crate) mod announce;
pub(crate) mod commands;
pub(crate) mod connect;
pub(crate) mod handshake;
pub(crate) mod link;
pub(crate) mod members;
pub(crate) mod placement;
pub(crate) mod sync;
pub(crate) mod users;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

use crate::contract::ConnectionId;
use crate::time::{Instant, Now};
use crate::wire::ring::{SyncInfo, minor};

use members::Members;

/// What we know of the ring.
#[derive(Debug)]
pub(crate) struct Ring {
    pub(crate) members: Members,
    /// The link from the member before us in the circle.
    pub(crate) left: Option<ConnectionId>,
    /// The link to the member after us in the circle.
    pub(crate) right: Option<ConnectionId>,
    /// All links, in the order in which they were made.
    pub(crate) links: Vec<ConnectionId>,
    /// The number of the last command that we originated.
    pub(crate) seq: u32,
    /// The number of our last SYNC.
    pub(crate) sync_seq: u32,
    /// How often our SYNC was sent again since the ring was last synced.
    pub(crate) sync_resends: u32,
    /// A SYNC came without a hosts-hash since the ring was last synced: an older member hides who has which hosts.
    pub(crate) hosts_hash_hidden: bool,
    /// Our SYNC has come round: everybody has what we have.
    pub(crate) synced: bool,
    /// The ring was synced once: we know what the others know.
    pub(crate) handshaked: bool,
    /// We stood still, and our SYNC has not come round since: what we know may be old.
    pub(crate) doubtful: bool,
    /// The lowest minor version in the ring, as our last SYNC found it.
    pub(crate) min_minor: u32,
    /// When the ring last became synced or unsynced.
    pub(crate) synced_changed: Instant,
    /// How long the last sync took, in milliseconds.
    pub(crate) last_sync_millis: u64,
    /// Unix time at which the ring was last synced, for the status line.
    pub(crate) last_synced_unix_secs: u64,
    /// A change was made in this batch of input: SYNC when it has been read.
    pub(crate) sync_wanted: bool,
    /// The number of the last DIRECTOR line that we named.
    pub(crate) director_seq: u32,
    /// Which DIRECTOR lines were here.
    pub(crate) director_names: announce::Names,
    /// Counts DIRECTOR lines that we sent on.
    pub(crate) change_counter: u32,
    /// What it was when our last SYNC was sent.
    pub(crate) sync_change_counter: u32,
    /// Unix time when our last SYNC was sent.
    pub(crate) sync_sent_unix_secs: u64,
    /// Backends that were removed since the ring was last synced.
    pub(crate) removed_hosts: BTreeSet<IpAddr>,
    /// SYNCs of others that wait for a right, by originator.
    pub(crate) held_syncs: BTreeMap<SocketAddr, (u32, Option<SyncInfo>)>,
    /// Since when we have had no right.
    pub(crate) alone_since: Option<Instant>,
    /// We have accepted that nobody else can be reached.
    pub(crate) alone: bool,
    /// A member that we were told to connect to, and could not a moment before.
    pub(crate) wanted_right: Option<SocketAddr>,
    /// When links that are nobody's neighbour were last told where they belong.
    pub(crate) strays_told: Instant,
    /// Newcomers that belong elsewhere if our left proves to be alive.
    pub(crate) misplaced: Vec<ConnectionId>,
    /// Links whose handshake is not read while its news fills the output of others.
    pub(crate) held_links: Vec<ConnectionId>,
}

impl Ring {
    /// `life` is a number that differs from that of the director's earlier lives, most likely.
    pub(crate) fn new(self_address: SocketAddr, members: &[SocketAddr], minor: u32, life: u32, now: Now) -> Self {
        Self {
            members: Members::new(self_address, members),
            left: None,
            right: None,
            links: Vec::new(),
            // The lives of older members all begin with 1.
            seq: if minor >= minor::FIRST_NUMBERS { first_seq(now.unix_secs) } else { 0 },
            sync_seq: 0,
            sync_resends: 0,
            hosts_hash_hidden: false,
            synced: false,
            handshaked: false,
            doubtful: false,
            min_minor: minor,
            synced_changed: now.instant,
            last_sync_millis: 0,
            last_synced_unix_secs: now.unix_secs,
            sync_wanted: false,
            // The others may remember names of an earlier life.
            director_seq: life,
            director_names: announce::Names::default(),
            change_counter: 0,
            sync_change_counter: 0,
            sync_sent_unix_secs: 0,
            removed_hosts: BTreeSet::new(),
            held_syncs: BTreeMap::new(),
            alone_since: None,
            alone: false,
            wanted_right: None,
            strays_told: now.instant,
            misplaced: Vec::new(),
            held_links: Vec::new(),
        }
    }

    /// Neither left nor right: there is nobody to wait for.
    pub(crate) fn has_no_neighbours(&self) -> bool {
        self.left.is_none() && self.right.is_none()
    }

    /// We have accepted that there is nobody but us. To have lost one's right a moment ago is not that.
    pub(crate) fn is_alone(&self) -> bool {
        self.alone && self.right.is_none()
    }

    /// The number for the next command that we originate.
    pub(crate) fn next_seq(&mut self) -> u32 {
        self.seq = self.seq.wrapping_add(1).max(1);
        self.seq
    }
}

/// From when the first numbers of lives are counted: 14 November 2023.
const NUMBERS_EPOCH_SECS: u64 = 1_700_000_000;
/// A life's first number is so much higher than that of one that began a second earlier: more than a director says in one.
const NUMBERS_PER_SEC: u64 = 64;
/// First numbers are lower than this, so that no life runs out of numbers. They begin anew after more than a year.
const FIRST_NUMBER_MAX: u64 = 1 << 31;

/// The number before the first of a life: higher than those of the life before. What that one had said may still be on its way
/// when others have forgotten its numbers, because we are back; ours must not be taken for seen then.
fn first_seq(unix_secs: u64) -> u32 {
    let number = unix_secs.saturating_sub(NUMBERS_EPOCH_SECS).wrapping_mul(NUMBERS_PER_SEC) % FIRST_NUMBER_MAX;
    number as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_a_later_life_are_higher_and_there_are_always_enough() {
        let start = NUMBERS_EPOCH_SECS + 80_000_000;
        assert_eq!(first_seq(start + 1) - first_seq(start), 64);
        assert_eq!(first_seq(0), 0, "a clock that was never set");
        let cycle_secs = FIRST_NUMBER_MAX / NUMBERS_PER_SEC;
        assert!(cycle_secs > 365 * 24 * 3600);
        assert_eq!(first_seq(NUMBERS_EPOCH_SECS + cycle_secs), 0);
        assert!(first_seq(NUMBERS_EPOCH_SECS + cycle_secs - 1) < 1 << 31);
        assert!(first_seq(u64::MAX) < 1 << 31);
    }
}
