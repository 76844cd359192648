//! The backends of a ring and their vhost points (ring protocol, "Hosts").

use std::net::IpAddr;

/// The number of a host in the table: what a user's entry holds. A number is given out again only after
/// [`Hosts::release`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HostNumber(pub u16);

/// The number of a tag; tags are never forgotten. The empty tag is number 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TagNumber(pub u16);

/// A backend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Host {
    /// Its address: the key.
    pub ip: IpAddr,
    /// Its name, if it was configured by name.
    pub hostname: Option<Box<[u8]>>,
    /// Its weight.
    pub vhosts: u32,
    /// Its pool.
    pub tag: TagNumber,
    /// Down: gets no new users.
    pub down: bool,
    /// Unix time of the last change of up or down; 0 = never.
    pub updown_changed_secs: u64,
    /// Changed since the ring was last synced.
    pub desynced: bool,
}

/// The table of backends.
#[derive(Clone, Debug, Default)]
pub struct Hosts {/* H3 */}

impl Hosts {
    /// An empty table.
    pub fn new() -> Self {
        Self::default()
    }

    /// The tag's number, made if it is new.
    pub fn intern_tag(&mut self, tag: &[u8]) -> TagNumber {
        let _ = tag;
        unimplemented!()
    }

    /// The tag's number, if any host ever had it.
    pub fn tag_number(&self, tag: &[u8]) -> Option<TagNumber> {
        let _ = tag;
        unimplemented!()
    }

    /// The tag's text.
    pub fn tag_name(&self, tag: TagNumber) -> &[u8] {
        let _ = tag;
        unimplemented!()
    }

    /// How many tags there are: their numbers are below it.
    pub fn tag_count(&self) -> usize {
        unimplemented!()
    }

    /// Adds a host (its IP must be new). `None` when the table is full (65,535 numbers).
    pub fn add(&mut self, host: Host) -> Option<HostNumber> {
        let _ = host;
        unimplemented!()
    }

    /// Takes a host out of the table. Its number stays taken, because users may still hold it, until `release`.
    pub fn remove(&mut self, number: HostNumber) {
        let _ = number;
        unimplemented!()
    }

    /// Gives the host a new number, so that nobody refers to it any more; the old number stays taken until `release`.
    /// `None`, with nothing changed, when there is no free number.
    pub fn renumber(&mut self, number: HostNumber) -> Option<HostNumber> {
        let _ = number;
        unimplemented!()
    }

    /// Nobody holds this removed or renumbered number any more: it may be given out again.
    pub fn release(&mut self, number: HostNumber) {
        let _ = number;
        unimplemented!()
    }

    /// The host of a number; `None` if it was removed or renumbered.
    pub fn get(&self, number: HostNumber) -> Option<&Host> {
        let _ = number;
        unimplemented!()
    }

    /// The number of the host with that IP.
    pub fn find(&self, ip: IpAddr) -> Option<HostNumber> {
        let _ = ip;
        unimplemented!()
    }

    /// Changes a host in place; vhost points and the hosts-hash are made anew when next needed if vhosts, tag or down
    /// changed. The IP must not change.
    pub fn update(&mut self, number: HostNumber, change: impl FnOnce(&mut Host)) {
        let _ = (number, change);
        unimplemented!()
    }

    /// All hosts, by IP (IPv4 first).
    pub fn iter(&self) -> impl Iterator<Item = (HostNumber, &Host)> {
        std::iter::empty()
    }

    /// How many hosts there are.
    pub fn len(&self) -> usize {
        unimplemented!()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The backend of a hash in a tag, by consistent hashing; `None` if the tag has no host that is up with vhosts > 0.
    pub fn by_hash(&mut self, hash: u32, tag: TagNumber) -> Option<HostNumber> {
        let _ = (hash, tag);
        unimplemented!()
    }

    /// SYNC's hosts-hash of the table. Kept until the table changes.
    pub fn hosts_hash(&mut self) -> u32 {
        unimplemented!()
    }
}
