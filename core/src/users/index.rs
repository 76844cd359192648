//! Finds the node of a user.

use hashbrown::HashTable;
use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::hosts::TagNumber;

/// Growing a table moves all that is in it, so there are many small ones: with ten million users the longest pause
/// is that of about 50,000.
const SHARDS: u64 = 256;

/// A table is made smaller when less than one in this many of its places is in use. It grows at 7/8 and doubles, so
/// that a few users who come and go never make it do both in turn.
const SHRINK_FACTOR: usize = 8;

/// What this small stays as it is.
const SHRINK_MIN: usize = 16;

/// Slots by hash and tag. The key of a slot is in its node, so those who call bring that knowledge with them.
pub(super) struct Index {
    seed: u64,
    shards: Box<[HashTable<u32>]>,
}

impl Index {
    pub(super) fn new(seed: u64) -> Self {
        Self { seed, shards: (0..SHARDS).map(|_| HashTable::new()).collect() }
    }

    pub(super) fn find(&self, hash: u32, tag: TagNumber, is: impl FnMut(&u32) -> bool) -> Option<u32> {
        let key = key(self.seed, hash, tag);
        self.shards[shard(key)].find(key, is).copied()
    }

    /// A slot that may be that of a key, found without looking at its node; `None`: there is none.
    pub(super) fn guess(&self, hash: u32, tag: TagNumber) -> Option<u32> {
        let key = key(self.seed, hash, tag);
        self.shards[shard(key)].iter_hash(key).next().copied()
    }

    /// Adds a slot whose key is not there yet; `key_of` tells the keys of others.
    ///
    /// `fetch` makes the processor fetch the node of a slot, and returns anything of it.
    pub(super) fn insert(
        &mut self,
        hash: u32,
        tag: TagNumber,
        slot: u32,
        key_of: impl Fn(u32) -> (u32, TagNumber),
        fetch: impl Fn(u32) -> u32,
    ) {
        let seed = self.seed;
        let key_of = |&slot: &u32| {
            let (hash, tag) = key_of(slot);
            key(seed, hash, tag)
        };
        let key = key(seed, hash, tag);
        let shard = &mut self.shards[shard(key)];
        if shard.len() == shard.capacity() {
            // It is about to ask for all keys, one by one: beforehand the processor can fetch many nodes at a time.
            std::hint::black_box(shard.iter().map(|&slot| fetch(slot)).fold(0, u32::wrapping_add));
        }
        shard.insert_unique(key, slot, key_of);
    }

    pub(super) fn remove(&mut self, hash: u32, tag: TagNumber, slot: u32, key_of: impl Fn(u32) -> (u32, TagNumber)) {
        let seed = self.seed;
        let key_of = |&slot: &u32| {
            let (hash, tag) = key_of(slot);
            key(seed, hash, tag)
        };
        let key = key(seed, hash, tag);
        let shard = &mut self.shards[shard(key)];
        match shard.find_entry(key, |&other| other == slot) {
            Ok(entry) => drop(entry.remove()),
            Err(_) => debug_assert!(false, "slot {slot} is not in the index"),
        }
        if shard.capacity() > SHRINK_MIN && shard.len() * SHRINK_FACTOR < shard.capacity() {
            shard.shrink_to(shard.len() * 2, key_of);
        }
    }

    /// How many bytes are allocated.
    pub(super) fn allocated_bytes(&self) -> usize {
        size_of_val(&*self.shards) + self.shards.iter().map(HashTable::allocation_size).sum::<usize>()
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.shards.iter().map(HashTable::len).sum()
    }
}

fn key(seed: u64, hash: u32, tag: TagNumber) -> u64 {
    xxh3_64_with_seed(&((u64::from(hash) << 16) | u64::from(tag.0)).to_le_bytes(), seed)
}

/// The number of a key's table.
///
/// Taken from the middle of the key, as the tables themselves use its lowest bits and its highest seven. The curve
/// (nearly log2(1 + x)) makes the last table twice as full as the first, so that they do not all grow at the same
/// time, and memory per user is about the same for any number of users.
fn shard(key: u64) -> usize {
    let place = (key >> 25) & 0xffff_ffff;
    let curved = place + ((place * ((1 << 32) - place)) >> 32) * 11 / 32;
    ((curved * SHARDS) >> 32) as usize
}
