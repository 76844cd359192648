//! The map of users: who is on which backend, since when (ring protocol, "Users").
//!
//! A user takes 20 bytes in the order of expiry and about 8 in the index by hash, so ten million fit into 300 MB. To
//! find, add, touch or drop one costs the same however many there are and whatever his timestamp is; to forget all
//! users of a host costs nothing at once and is paid off by [`Users::sweep`] in small steps.

mod generation;
mod index;
mod order;
mod slab;
#[cfg(test)]
mod tests;

use std::fmt;
use std::time::Duration;

use crate::hosts::{HostNumber, TagNumber};
use crate::time::{Instant, Now};
pub use generation::Generation;
use index::Index;
use order::Order;
use slab::{Kind, Marks, Node};

/// A user as the map knows him.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct User {
    /// The hash of his name: never 0.
    pub hash: u32,
    /// His pool.
    pub tag: TagNumber,
    /// His backend.
    pub host: HostNumber,
    /// Unix time of the last refresh.
    pub timestamp_secs: u32,
    /// Near expiry somewhere, on its way round the ring.
    pub weak: bool,
    /// A kill is in progress (its state is kept elsewhere).
    pub killing: bool,
    /// Of his backend.
    pub generation: Generation,
}

/// The slot of a user in the map: good until the map changes otherwise than by `set_*` and `touch`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UserSlot(u32);

/// What becomes of an expired user.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expired {
    /// Drop him.
    Drop,
    /// Keep him, and ask again after this many seconds (at least 1).
    Keep {
        /// Seconds.
        secs: u32,
    },
}

/// A place in the walk over all users, oldest first, that survives changes of the map in between.
#[derive(Debug)]
pub struct Cursor {
    at: u32,
    end: u32,
}

/// The most slots that one call of [`Users::next`] looks at: about 100 µs if none of them is in the cache.
const NEXT_SLOTS_MAX: usize = 4096;

/// The map.
pub struct Users {
    expire_secs: u32,
    /// The most by which a kept user may be placed after now, because he is to be kept for longer than expiry takes.
    keep_ahead_secs: u32,
    /// The clocks as last seen.
    seen: Now,
    order: Order,
    index: Index,
    /// By number.
    hosts: Vec<HostUsers>,
    len: usize,
    /// How many hosts are retired and still held.
    retiring: usize,
    /// Retired hosts that nobody holds any more, for the next `sweep` to tell.
    released: Vec<HostNumber>,
    /// The slot at which the next `sweep` begins.
    sweep_slot: u32,
}

/// What the map knows of a host's number.
#[derive(Clone, Copy, Default)]
struct HostUsers {
    /// How many nodes hold it, retired ones too.
    held: u32,
    /// The tag of them all.
    tag: u16,
    retired: bool,
}

impl Users {
    /// An empty map whose users expire after `expire_secs` (at least 1). `seed` keys the index against chosen
    /// collisions.
    pub fn new(expire_secs: u32, seed: u64, now: Now) -> Self {
        Self {
            expire_secs: expire_secs.max(1),
            keep_ahead_secs: 0,
            seen: now,
            order: Order::new(),
            index: Index::new(seed),
            hosts: Vec::new(),
            len: 0,
            retiring: 0,
            released: Vec::new(),
            sweep_slot: 0,
        }
    }

    /// After how many seconds without a refresh a user expires.
    pub fn expire_secs(&self) -> u32 {
        self.expire_secs
    }

    /// Changes the expiry (at least 1). Costs nothing: the order stays the same. Users kept by [`Expired::Keep`] are
    /// asked about again as much earlier or later as others are.
    pub fn set_expire_secs(&mut self, expire_secs: u32, now: Now) {
        self.look_at_clocks(now);
        self.expire_secs = expire_secs.max(1);
    }

    /// Finds a user, be he expired or not.
    pub fn find(&self, hash: u32, tag: TagNumber) -> Option<UserSlot> {
        let slot = self.find_node(hash, tag)?;
        (!self.is_retired(slot)).then_some(UserSlot(slot))
    }

    /// Has the processor fetch what it takes to find these users, or to add them: with many at a time it waits for memory once
    /// rather than for each.
    pub(crate) fn fetch(&self, users: &[(u32, TagNumber)]) {
        let mut slots = [None; 64];
        for users in users.chunks(slots.len()) {
            for (slot, &(hash, tag)) in slots.iter_mut().zip(users) {
                *slot = self.index.guess(hash, tag);
            }
            let nodes = slots.iter().take(users.len()).flatten().map(|&slot| self.order.nodes[slot].next);
            std::hint::black_box(nodes.fold(0, u32::wrapping_add));
        }
    }

    /// The user in a slot.
    pub fn get(&self, slot: UserSlot) -> User {
        let Node { hash, timestamp_secs, host, kind, .. } = self.order.nodes[slot.0];
        let Kind::User(marks) = kind else { unreachable!("slot {} has no user", slot.0) };
        let tag = TagNumber(self.hosts[usize::from(host.0)].tag);
        User {
            hash,
            tag,
            host,
            timestamp_secs,
            weak: marks.has(Marks::WEAK),
            killing: marks.has(Marks::KILLING),
            generation: marks.generation(),
        }
    }

    /// Adds a user who is not there yet. All users of a host number have the same tag, until it is retired and
    /// `sweep` has said that nobody holds it.
    pub fn add(&mut self, user: User, now: Now) -> UserSlot {
        self.look_at_clocks(now);
        debug_assert!(self.find(user.hash, user.tag).is_none(), "hash {} is there already", user.hash);
        // One of a retired host may still have the place. The caller has just looked for the user: not once more for nothing.
        if self.retiring > 0
            && let Some(slot) = self.find_node(user.hash, user.tag)
        {
            self.forget(slot);
        }
        self.hold(user.host, user.tag);
        let mut marks = Marks::default();
        marks.set(Marks::WEAK, user.weak);
        marks.set(Marks::KILLING, user.killing);
        marks.set_generation(user.generation);
        let slot = self.order.nodes.insert(Node {
            hash: user.hash,
            timestamp_secs: user.timestamp_secs,
            host: user.host,
            ..Node::new(Kind::User(marks))
        });
        let (nodes, hosts) = (&self.order.nodes, &self.hosts);
        self.index.insert(user.hash, user.tag, slot, |slot| key(&nodes[slot], hosts), |slot| nodes[slot].hash);
        self.order.place(slot, user.timestamp_secs.min(unix_secs(now)));
        self.len += 1;
        UserSlot(slot)
    }

    /// Gives the user another timestamp, and his new place in expiry order.
    pub fn touch(&mut self, slot: UserSlot, timestamp_secs: u32, now: Now) {
        self.look_at_clocks(now);
        if self.order.nodes[slot.0].timestamp_secs != timestamp_secs {
            self.order.nodes[slot.0].timestamp_secs = timestamp_secs;
            self.set_mark(slot, Marks::TOLD, false);
            self.order.unlink(slot.0);
            self.order.place(slot.0, timestamp_secs.min(unix_secs(now)));
        }
    }

    /// Gives the user another host (of the same tag).
    pub fn set_host(&mut self, slot: UserSlot, host: HostNumber) {
        self.set_mark(slot, Marks::TOLD, false);
        let old = std::mem::replace(&mut self.order.nodes[slot.0].host, host);
        let tag = TagNumber(self.hosts[usize::from(old.0)].tag);
        self.hold(host, tag);
        self.let_go(old);
    }

    /// Gives the user's backend another generation.
    pub fn set_generation(&mut self, slot: UserSlot, generation: Generation) {
        if let Kind::User(marks) = &mut self.order.nodes[slot.0].kind {
            marks.set_generation(generation);
            marks.set(Marks::TOLD, false);
        }
    }

    /// Sets or clears the weak mark.
    pub fn set_weak(&mut self, slot: UserSlot, weak: bool) {
        self.set_mark(slot, Marks::TOLD, false);
        self.set_mark(slot, Marks::WEAK, weak);
    }

    /// Sets or clears the killing mark.
    pub fn set_killing(&mut self, slot: UserSlot, killing: bool) {
        self.set_mark(slot, Marks::TOLD, false);
        self.set_mark(slot, Marks::KILLING, killing);
    }

    /// Notes that everybody has been told of the user as he is now.
    pub fn set_told(&mut self, slot: UserSlot) {
        self.set_mark(slot, Marks::TOLD, true);
    }

    /// Whether nothing about the user has changed since [`Users::set_told`].
    pub fn is_told(&self, slot: UserSlot) -> bool {
        matches!(self.order.nodes[slot.0].kind, Kind::User(marks) if marks.has(Marks::TOLD))
    }

    fn set_mark(&mut self, slot: UserSlot, mark: Marks, on: bool) {
        if let Kind::User(marks) = &mut self.order.nodes[slot.0].kind {
            marks.set(mark, on);
        }
    }

    /// Removes a user.
    pub fn remove(&mut self, slot: UserSlot) {
        debug_assert!(!self.is_retired(slot.0));
        self.forget(slot.0);
    }

    /// All users of this host number are gone from now on: `find`, walks and counts do not see them. Their slots are
    /// freed by [`Users::sweep`]. No user may get this number again until `sweep` has told that nobody holds it.
    pub fn retire(&mut self, host: HostNumber) {
        let users = self.host_users(host);
        if users.retired {
            return;
        }
        let held = users.held;
        if held == 0 {
            self.released.push(host);
        } else {
            users.retired = true;
            self.retiring += 1;
            self.len -= held as usize;
        }
    }

    /// Whether a sweep is needed.
    pub fn needs_sweep(&self) -> bool {
        self.retiring > 0 || !self.released.is_empty()
    }

    /// Looks at up to `max_slots` slots and frees those of retired hosts. Appends to `done` the host numbers that
    /// nobody holds any more.
    pub fn sweep(&mut self, max_slots: usize, done: &mut Vec<HostNumber>) {
        for _ in 0..max_slots {
            if self.retiring == 0 {
                break;
            }
            let Some((slot, node)) = self.order.nodes.at_or_after(self.sweep_slot) else {
                self.sweep_slot = 0;
                continue;
            };
            self.sweep_slot = slot + 1;
            if node.is_some_and(|node| node.is_user() && self.hosts[usize::from(node.host.0)].retired) {
                self.forget(slot);
            }
        }
        done.append(&mut self.released);
    }

    /// How many users there are (retired ones not counted).
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many users a host has.
    pub fn count(&self, host: HostNumber) -> usize {
        self.hosts.get(usize::from(host.0)).map_or(0, |host| if host.retired { 0 } else { host.held as usize })
    }

    /// The time at which [`Users::expire`] may next have something to do.
    ///
    /// Unix time comes in whole seconds, so this may be up to a second late; it is never too early, and after `expire`
    /// has returned false it lies after the `now` that was given there.
    pub fn next_expiry(&self) -> Option<Instant> {
        let due = u64::from(self.order.first_second()?) + u64::from(self.expire_secs);
        Some(self.seen.instant + Duration::from_secs(due.saturating_sub(u64::from(unix_secs(self.seen)))))
    }

    /// Looks at up to `max` users whose time may have come and calls `each` with every one that has expired
    /// (timestamp + expire ≤ now); `each` says what becomes of him. Returns whether more are due now.
    ///
    /// When Unix time went backwards, users have timestamps in the future. One who still has when he is looked at
    /// (one expiry time after the step at the latest) gets that of now instead, so that he does not stay for as long as
    /// the step was wide.
    pub fn expire(&mut self, now: Now, max: usize, mut each: impl FnMut(User) -> Expired) -> bool {
        self.look_at_clocks(now);
        let now_secs = unix_secs(now);
        let Some(until) = now_secs.checked_sub(self.expire_secs) else { return false };
        let mut looked_at = 0;
        while let Some(slot) = self.order.first_until(until) {
            if looked_at == max {
                return true;
            }
            looked_at += 1;
            if self.is_retired(slot) {
                self.forget(slot);
                continue;
            }
            let user = self.get(UserSlot(slot));
            // Wherever he is placed, it is after `until`: he is not looked at again in this loop.
            let second = if user.timestamp_secs > until {
                let timestamp_secs = user.timestamp_secs.min(now_secs);
                self.order.nodes[slot].timestamp_secs = timestamp_secs;
                self.set_mark(UserSlot(slot), Marks::TOLD, false);
                timestamp_secs
            } else {
                match each(user) {
                    Expired::Drop => {
                        self.forget(slot);
                        continue;
                    }
                    Expired::Keep { secs } => {
                        let secs = secs.max(1);
                        self.keep_ahead_secs = self.keep_ahead_secs.max(secs.saturating_sub(self.expire_secs));
                        until.saturating_add(secs)
                    }
                }
            };
            self.order.unlink(slot);
            self.order.place(slot, second);
        }
        false
    }

    /// A place before the oldest user. Who stays as he is, is seen once. Users who are added, or touched to the present
    /// second, after this call are not part of the walk. Users who otherwise change their place in between (touched to
    /// an older timestamp, or kept by [`Users::expire`]) are seen or not as it happens.
    pub fn cursor(&mut self) -> Cursor {
        let (at, end) = self.order.mark();
        Cursor { at, end }
    }

    /// The next user of a walk, or `None` at its end. Looks at no more than 4096 slots; `Some(None)` means: not at the
    /// end yet, ask again.
    pub fn next(&mut self, cursor: &mut Cursor) -> Option<Option<User>> {
        let mut last = cursor.at;
        for _ in 0..NEXT_SLOTS_MAX {
            let slot = self.order.nodes[last].next;
            if slot == cursor.end {
                return None;
            }
            last = slot;
            if self.order.nodes[slot].is_user() && !self.is_retired(slot) {
                self.order.move_behind(cursor.at, slot);
                return Some(Some(self.get(UserSlot(slot))));
            }
        }
        self.order.move_behind(cursor.at, last);
        Some(None)
    }

    /// Ends a walk: must be called for every cursor.
    #[expect(clippy::needless_pass_by_value, reason = "a cursor is of no use after its end")]
    pub fn end(&mut self, cursor: Cursor) {
        self.order.unmark(cursor.at);
        self.order.unmark(cursor.end);
    }

    /// How many bytes the map has allocated: exact for all that grows with users, estimated (upwards) for the trees
    /// that grow with the number of different seconds. Looks at every chunk: for tests and benches.
    pub fn allocated_bytes(&self) -> usize {
        self.order.allocated_bytes() + self.index.allocated_bytes() + self.hosts.capacity() * size_of::<HostUsers>()
    }

    /// The node with this hash and tag, retired or not: there is never more than one.
    fn find_node(&self, hash: u32, tag: TagNumber) -> Option<u32> {
        self.index.find(hash, tag, |&slot| key(&self.order.nodes[slot], &self.hosts) == (hash, tag))
    }

    fn is_retired(&self, slot: u32) -> bool {
        self.hosts[usize::from(self.order.nodes[slot].host.0)].retired
    }

    /// Frees a user's node.
    fn forget(&mut self, slot: u32) {
        let Node { host, hash, .. } = self.order.nodes[slot];
        let HostUsers { tag, retired, .. } = self.hosts[usize::from(host.0)];
        let (nodes, hosts) = (&self.order.nodes, &self.hosts);
        self.index.remove(hash, TagNumber(tag), slot, |slot| key(&nodes[slot], hosts));
        self.order.unlink(slot);
        self.order.nodes.remove(slot);
        self.let_go(host);
        if !retired {
            self.len -= 1;
        }
    }

    /// Counts one more node that holds the host.
    fn hold(&mut self, host: HostNumber, tag: TagNumber) {
        let users = self.host_users(host);
        debug_assert!(!users.retired, "host number {} is retired", host.0);
        debug_assert!(users.held == 0 || users.tag == tag.0, "host number {} has another tag", host.0);
        users.tag = tag.0;
        users.held += 1;
    }

    /// Counts one less.
    fn let_go(&mut self, host: HostNumber) {
        let users = self.host_users(host);
        users.held -= 1;
        if users.held == 0 && users.retired {
            users.retired = false;
            self.retiring -= 1;
            self.released.push(host);
        }
    }

    fn host_users(&mut self, host: HostNumber) -> &mut HostUsers {
        let index = usize::from(host.0);
        if index >= self.hosts.len() {
            self.hosts.resize(index + 1, HostUsers::default());
        }
        &mut self.hosts[index]
    }

    fn look_at_clocks(&mut self, now: Now) {
        if now.unix_secs < self.seen.unix_secs {
            self.order.pull_back(unix_secs(now).saturating_add(self.keep_ahead_secs));
        }
        self.seen = now;
    }
}

impl fmt::Debug for Users {
    /// Says how many there are, not who.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Users")
            .field("expire_secs", &self.expire_secs)
            .field("len", &self.len)
            .field("retiring", &self.retiring)
            .finish_non_exhaustive()
    }
}

/// What the index finds a node by.
fn key(node: &Node, hosts: &[HostUsers]) -> (u32, TagNumber) {
    (node.hash, TagNumber(hosts[usize::from(node.host.0)].tag))
}

/// Unix time as users have it: until 2106.
fn unix_secs(now: Now) -> u32 {
    u32::try_from(now.unix_secs).unwrap_or(u32::MAX)
}

/// About how much a tree of that many entries takes: a leaf has room for 11 and is at least 5/11 full, and there is
/// an inner node, with 12 pointers more, for six leaves or more.
fn btree_bytes(entries: usize, entry_bytes: usize) -> usize {
    entries.div_ceil(5) * (11 * entry_bytes + 16 + 12 * 8 / 6)
}
