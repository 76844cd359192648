//! Where the nodes of the map of users lie: a growing array in chunks, so that growth never copies much at once, and
//! memory goes back when many users have left.

use std::collections::BTreeSet;

use crate::hosts::HostNumber;
use crate::users::Generation;

/// A node of the list in which users expire, 20 bytes. Most are users.
#[derive(Clone, Copy, Debug)]
pub(super) struct Node {
    pub(super) prev: u32,
    pub(super) next: u32,
    /// A user's hash.
    pub(super) hash: u32,
    /// A user's timestamp; the second of a sentinel.
    pub(super) timestamp_secs: u32,
    pub(super) host: HostNumber,
    pub(super) kind: Kind,
}

/// Millions of them are kept: nothing may creep in.
const _: () = assert!(size_of::<Node>() == 20);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// In no list but the free one.
    Free,
    /// A user and his marks, which are here because two bytes are left.
    User(Marks),
    /// The end of the users of one second.
    Sentinel,
    /// The place or the end of a walk.
    Marker,
}

/// What is the case of a user, in one byte.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Marks(u8);

impl Marks {
    pub(super) const WEAK: Self = Self(1);
    pub(super) const KILLING: Self = Self(2);
    pub(super) const TOLD: Self = Self(4);

    pub(super) fn has(self, mark: Self) -> bool {
        self.0 & mark.0 != 0
    }

    pub(super) fn set(&mut self, mark: Self, on: bool) {
        if on {
            self.0 |= mark.0;
        } else {
            self.0 &= !mark.0;
        }
    }

    /// The generation has the bits that are left.
    const GENERATION_SHIFT: u32 = 3;

    pub(super) fn generation(self) -> Generation {
        Generation::cut(self.0 >> Self::GENERATION_SHIFT)
    }

    pub(super) fn set_generation(&mut self, generation: Generation) {
        self.0 = (self.0 & ((1 << Self::GENERATION_SHIFT) - 1)) | (generation.number() << Self::GENERATION_SHIFT);
    }
}

impl Node {
    pub(super) fn new(kind: Kind) -> Self {
        Self { prev: 0, next: 0, hash: 0, timestamp_secs: 0, host: HostNumber(0), kind }
    }

    pub(super) fn is_user(&self) -> bool {
        matches!(self.kind, Kind::User(_))
    }
}

/// 20 kB a chunk.
const CHUNK_NODES: usize = 1024;
const CHUNK_BITS: u32 = CHUNK_NODES.trailing_zeros();

/// The end of a chunk's free list.
const NONE: u16 = u16::MAX;

#[derive(Default)]
pub(super) struct Slab {
    chunks: Vec<Chunk>,
    /// The chunks that are not full. The lowest is filled first, so that chunks at the end become empty.
    roomy: BTreeSet<u32>,
}

struct Chunk {
    nodes: Vec<Node>,
    used: u16,
    /// The first free node; each has its next one in `next`.
    free: u16,
}

impl Chunk {
    const EMPTY: Self = Self { nodes: Vec::new(), used: 0, free: NONE };
}

fn split(slot: u32) -> (usize, usize) {
    ((slot >> CHUNK_BITS) as usize, slot as usize % CHUNK_NODES)
}

impl Slab {
    pub(super) fn insert(&mut self, node: Node) -> u32 {
        let number = self.roomy.first().copied().unwrap_or_else(|| {
            let number = self.chunks.len() as u32;
            self.chunks.push(Chunk::EMPTY);
            self.roomy.insert(number);
            number
        });
        let chunk = &mut self.chunks[number as usize];
        // The first grows with a small map. Where there are more they fill, and would be copied ten times.
        if number > 0 && chunk.nodes.capacity() == 0 {
            chunk.nodes.reserve_exact(CHUNK_NODES);
        }
        let index = match chunk.free {
            NONE => {
                chunk.nodes.push(node);
                chunk.nodes.len() - 1
            }
            index => {
                let index = usize::from(index);
                chunk.free = chunk.nodes[index].next as u16;
                chunk.nodes[index] = node;
                index
            }
        };
        chunk.used += 1;
        if usize::from(chunk.used) == CHUNK_NODES {
            self.roomy.remove(&number);
        }
        (number << CHUNK_BITS) | index as u32
    }

    pub(super) fn remove(&mut self, slot: u32) {
        let (number, index) = split(slot);
        let chunk = &mut self.chunks[number];
        debug_assert_ne!(chunk.nodes[index].kind, Kind::Free);
        chunk.nodes[index] = Node { next: u32::from(chunk.free), ..Node::new(Kind::Free) };
        chunk.free = index as u16;
        chunk.used -= 1;
        if usize::from(chunk.used) == CHUNK_NODES - 1 {
            self.roomy.insert(number as u32);
        }
        if chunk.used == 0 {
            *chunk = Chunk::EMPTY;
        }
        while self.chunks.last().is_some_and(|chunk| chunk.used == 0) {
            self.chunks.pop();
            self.roomy.remove(&(self.chunks.len() as u32));
        }
        if self.chunks.len() < self.chunks.capacity() / 8 {
            self.chunks.shrink_to(self.chunks.len() * 2);
        }
    }

    /// Where to look for the first node at or after a slot, free or not; `None` after the last. A call passes over a
    /// whole empty chunk at most, and may then return an empty place.
    pub(super) fn at_or_after(&self, slot: u32) -> Option<(u32, Option<&Node>)> {
        let (number, index) = split(slot);
        let chunk = self.chunks.get(number)?;
        match chunk.nodes.get(index) {
            Some(node) => Some((slot, Some(node))),
            None => Some((((number as u32 + 1) << CHUNK_BITS) - 1, None)),
        }
    }

    /// How many bytes are allocated.
    pub(super) fn allocated_bytes(&self) -> usize {
        let nodes: usize = self.chunks.iter().map(|chunk| chunk.nodes.capacity()).sum();
        nodes * size_of::<Node>()
            + self.chunks.capacity() * size_of::<Chunk>()
            + super::btree_bytes(self.roomy.len(), size_of::<u32>())
    }

    /// How many nodes there are that are not free.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.chunks.iter().map(|chunk| usize::from(chunk.used)).sum()
    }
}

impl std::ops::Index<u32> for Slab {
    type Output = Node;

    fn index(&self, slot: u32) -> &Node {
        let (number, index) = split(slot);
        &self.chunks[number].nodes[index]
    }
}

impl std::ops::IndexMut<u32> for Slab {
    fn index_mut(&mut self, slot: u32) -> &mut Node {
        let (number, index) = split(slot);
        &mut self.chunks[number].nodes[index]
    }
}
