//! The ring: its members, the links to them, and whether all of them are in one state.
//!
//! The state machine of the ring is spread over this folder by what happens: [`link`] (the life of one connection),
//! [`handshake`] (its beginning), [`connect`] (who is our right), [`placement`] (who is our left), [`commands`] (what the
//! others say), [`sync`] (SYNC and PING), [`users`] (merging what they say of users).

pub(crate) mod commands;
pub(crate) mod connect;
pub(crate) mod handshake;
pub(crate) mod link;
pub(crate) mod members;
pub(crate) mod placement;
pub(crate) mod sync;
pub(crate) mod users;

use std::collections::BTreeMap;
use std::net::SocketAddr;

use crate::contract::ConnectionId;
use crate::time::{Instant, Now};
use crate::wire::ring::{MINOR, SyncInfo};

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
    /// Our SYNC has come round: everybody has what we have.
    pub(crate) synced: bool,
    /// The ring was synced once: we know what the others know.
    pub(crate) handshaked: bool,
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
    /// Counts DIRECTOR lines that we sent on.
    pub(crate) change_counter: u32,
    /// What it was when our last SYNC was sent.
    pub(crate) sync_change_counter: u32,
    /// Unix time when our last SYNC was sent.
    pub(crate) sync_sent_unix_secs: u64,
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
}

impl Ring {
    pub(crate) fn new(self_address: SocketAddr, members: &[SocketAddr], now: Now) -> Self {
        Self {
            members: Members::new(self_address, members),
            left: None,
            right: None,
            links: Vec::new(),
            seq: 0,
            sync_seq: 0,
            synced: false,
            handshaked: false,
            min_minor: MINOR,
            synced_changed: now.instant,
            last_sync_millis: 0,
            last_synced_unix_secs: now.unix_secs,
            sync_wanted: false,
            change_counter: 0,
            sync_change_counter: 0,
            sync_sent_unix_secs: 0,
            held_syncs: BTreeMap::new(),
            alone_since: None,
            alone: false,
            wanted_right: None,
            strays_told: now.instant,
            misplaced: Vec::new(),
        }
    }

    /// Neither left nor right: there is nobody to wait for.
    pub(crate) fn has_no_neighbours(&self) -> bool {
        self.left.is_none() && self.right.is_none()
    }

    /// The number for the next command that we originate.
    pub(crate) fn next_seq(&mut self) -> u32 {
        self.seq = self.seq.wrapping_add(1).max(1);
        self.seq
    }
}
