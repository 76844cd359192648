//! The map of users: who is on which backend, since when (ring protocol, "Users").

use crate::hosts::{HostNumber, TagNumber};
use crate::time::Now;

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
}

/// The slot of a user in the map: good until the map changes otherwise than by `set_*` and `touch`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UserSlot(u32);

/// The map.
#[derive(Debug)]
pub struct Users {/* H3 */}

/// A place in the walk over all users, oldest first, that survives changes of the map in between.
#[derive(Debug)]
pub struct Cursor {/* H3 */}

impl Users {
    /// An empty map whose users expire after `expire_secs`. `seed` keys the index against chosen collisions.
    pub fn new(expire_secs: u32, seed: u64, now: Now) -> Self {
        let _ = (expire_secs, seed, now);
        unimplemented!()
    }

    /// Changes the expiry; a walk over all users.
    pub fn set_expire_secs(&mut self, expire_secs: u32, now: Now) {
        let _ = (expire_secs, now);
        unimplemented!()
    }

    /// Finds a user.
    pub fn find(&self, hash: u32, tag: TagNumber) -> Option<UserSlot> {
        let _ = (hash, tag);
        unimplemented!()
    }

    /// The user in a slot.
    pub fn get(&self, slot: UserSlot) -> User {
        let _ = slot;
        unimplemented!()
    }

    /// Adds a user who is not there yet.
    pub fn add(&mut self, user: User, now: Now) -> UserSlot {
        let _ = (user, now);
        unimplemented!()
    }

    /// Gives the user another timestamp, and his new place in expiry order.
    pub fn touch(&mut self, slot: UserSlot, timestamp_secs: u32, now: Now) {
        let _ = (slot, timestamp_secs, now);
        unimplemented!()
    }

    /// Gives the user another host (of the same tag).
    pub fn set_host(&mut self, slot: UserSlot, host: HostNumber) {
        let _ = (slot, host);
        unimplemented!()
    }

    /// Sets or clears the weak mark.
    pub fn set_weak(&mut self, slot: UserSlot, weak: bool) {
        let _ = (slot, weak);
        unimplemented!()
    }

    /// Sets or clears the killing mark.
    pub fn set_killing(&mut self, slot: UserSlot, killing: bool) {
        let _ = (slot, killing);
        unimplemented!()
    }

    /// Removes a user.
    pub fn remove(&mut self, slot: UserSlot) {
        let _ = slot;
        unimplemented!()
    }

    /// All users of this host number are gone from now on: `find`, walks and counts do not see them. Their slots are
    /// freed by [`Users::sweep`].
    pub fn retire(&mut self, host: HostNumber) {
        let _ = host;
        unimplemented!()
    }

    /// Whether a sweep is needed.
    pub fn needs_sweep(&self) -> bool {
        unimplemented!()
    }

    /// Looks at up to `max_slots` slots and frees those of retired hosts. Appends to `done` the host numbers that
    /// nobody holds any more.
    pub fn sweep(&mut self, max_slots: usize, done: &mut Vec<HostNumber>) {
        let _ = (max_slots, done);
        unimplemented!()
    }

    /// How many users there are (retired ones not counted).
    pub fn len(&self) -> usize {
        unimplemented!()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many users a host has.
    pub fn count(&self, host: HostNumber) -> usize {
        let _ = host;
        unimplemented!()
    }

    /// The time at which [`Users::expire`] may next have something to do.
    pub fn next_expiry(&self) -> Option<crate::time::Instant> {
        unimplemented!()
    }

    /// Looks at up to `max` users whose time may have come and calls `each` with every one that has expired
    /// (timestamp + expire ≤ now); `each` says what becomes of him. Returns whether more are due now.
    pub fn expire(&mut self, now: Now, max: usize, each: impl FnMut(User) -> Expired) -> bool {
        let _ = (now, max, each);
        unimplemented!()
    }

    /// A place before the oldest user; users added or touched after this call are not part of the walk.
    pub fn cursor(&mut self) -> Cursor {
        unimplemented!()
    }

    /// The next user of a walk, or `None` at its end. Looks at no more than 4096 slots; `Some(None)` means: not at the
    /// end yet, ask again.
    pub fn next(&mut self, cursor: &mut Cursor) -> Option<Option<User>> {
        let _ = cursor;
        unimplemented!()
    }

    /// Ends a walk: must be called for every cursor.
    pub fn end(&mut self, cursor: Cursor) {
        let _ = cursor;
    }
}

/// What becomes of an expired user.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expired {
    /// Drop him.
    Drop,
    /// Keep him, and ask again after this many seconds.
    Keep {
        /// Seconds.
        secs: u32,
    },
}
