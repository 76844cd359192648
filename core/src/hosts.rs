//! The backends of a ring and their vhost points (ring protocol, "Hosts").

use std::collections::BTreeSet;
use std::net::IpAddr;

use hashbrown::HashTable;

use crate::hash::{HostsHash, vhost_point};

/// The number of a host in the table: what a user's entry holds. A number is given out again only after
/// [`Hosts::release`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HostNumber(pub u16);

/// The number of a tag; tags are never forgotten. The empty tag is number 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TagNumber(pub u16);

/// The highest weight that an administrator can give a host ("vhost count too large" above it), and the most points
/// that a host gets: a mad number from a peer must not take all memory.
pub const VHOSTS_MAX: u32 = 1000;

/// How many hosts and how many tags there can be: `u16::MAX` stays free, to stand for "none".
const NUMBERS_MAX: usize = u16::MAX as usize;

/// The number that stands for every tag that found no room in the table.
const TAG_OVERFLOW: TagNumber = TagNumber(u16::MAX);

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

impl Host {
    /// How many points the host has in the circle of its tag.
    fn point_count(&self) -> usize {
        if self.down { 0 } else { self.vhosts.min(VHOSTS_MAX) as usize }
    }
}

/// The table of backends.
#[derive(Clone, Debug)]
pub struct Hosts {
    /// By number.
    slots: Vec<Slot>,
    /// The numbers in `slots` that are `Free`.
    free: Vec<u16>,
    /// The numbers of the hosts, in order of their IPs.
    by_ip: Vec<u16>,
    /// The same: every line about a user names a host, and to search in order takes longer than all the rest of it.
    ips: HashTable<u16>,
    /// By number.
    tags: Vec<Tag>,
    /// The numbers of the tags, in order of their texts.
    tags_by_name: Vec<u16>,
    hosts_hash: Option<u32>,
}

/// What a number stands for.
#[derive(Clone, Debug)]
enum Slot {
    Free,
    /// Nothing, but users may still hold it.
    Taken,
    Live(Box<Live>),
}

#[derive(Clone, Debug)]
struct Live {
    host: Host,
    /// The first points of the host, by n: kept over changes of weight and of state, for a point costs an MD5.
    points: Vec<u32>,
}

#[derive(Clone, Debug)]
struct Tag {
    name: Box<[u8]>,
    /// The points of the hosts that are up, sorted by point, then by IP, each with its host's number.
    circle: Vec<(u32, u16)>,
    /// The numbers whose points in the circle are not what they should be: to be put right before use.
    changed: BTreeSet<u16>,
}

impl Tag {
    fn new(name: &[u8]) -> Self {
        Self { name: name.into(), circle: Vec::new(), changed: BTreeSet::new() }
    }
}

impl Default for Hosts {
    fn default() -> Self {
        Self {
            slots: Vec::new(),
            free: Vec::new(),
            by_ip: Vec::new(),
            ips: HashTable::new(),
            tags: vec![Tag::new(b"")],
            tags_by_name: vec![0],
            hosts_hash: None,
        }
    }
}

impl Hosts {
    /// An empty table.
    pub fn new() -> Self {
        Self::default()
    }

    /// The tag's number, made if it is new. When there are 65,535 tags, all further ones share number 65,535, and no
    /// host can have that.
    pub fn intern_tag(&mut self, tag: &[u8]) -> TagNumber {
        match self.tag_place(tag) {
            Ok(place) => TagNumber(self.tags_by_name[place]),
            Err(_) if self.tags.len() == NUMBERS_MAX => TAG_OVERFLOW,
            Err(place) => {
                let number = self.tags.len() as u16;
                self.tags.push(Tag::new(tag));
                self.tags_by_name.insert(place, number);
                TagNumber(number)
            }
        }
    }

    /// The tag's number, if any host ever had it.
    pub fn tag_number(&self, tag: &[u8]) -> Option<TagNumber> {
        if tag.is_empty() {
            // Nearly every lookup's. (To compare two empty texts takes some processors longer than all the rest of it.)
            return Some(TagNumber(0));
        }
        self.tag_place(tag).ok().map(|place| TagNumber(self.tags_by_name[place]))
    }

    /// The tag's text; empty for a number that [`Hosts::intern_tag`] did not make.
    pub fn tag_name(&self, tag: TagNumber) -> &[u8] {
        self.tags.get(usize::from(tag.0)).map_or(b"", |tag| &tag.name)
    }

    /// How many tags there are: their numbers are below it.
    pub fn tag_count(&self) -> usize {
        self.tags.len()
    }

    /// Adds a host (its IP must be new). `None` when the table is full (65,535 numbers) or its tag found no room.
    pub fn add(&mut self, host: Host) -> Option<HostNumber> {
        if usize::from(host.tag.0) >= self.tags.len() {
            return None;
        }
        let Err(place) = self.place(host.ip) else {
            debug_assert!(false, "{} is there already", host.ip);
            return None;
        };
        let number = self.allocate()?;
        self.by_ip.insert(place, number);
        let ip = host.ip;
        self.invalidate(host.tag, number);
        self.slots[usize::from(number)] = Slot::Live(Box::new(Live { host, points: Vec::new() }));
        self.note_ip(ip, number);
        Some(HostNumber(number))
    }

    /// Takes a host out of the table. Its number stays taken, because users may still hold it, until `release`.
    pub fn remove(&mut self, number: HostNumber) {
        let Some(host) = self.get(number) else { return };
        let tag = host.tag;
        let ip = host.ip;
        if let Ok(place) = self.place(ip) {
            self.by_ip.remove(place);
        }
        self.forget_ip(ip, number.0);
        self.slots[usize::from(number.0)] = Slot::Taken;
        self.invalidate(tag, number.0);
    }

    /// Gives the host a new number, so that nobody refers to it any more; the old number stays taken until `release`.
    /// `None`, with nothing changed, when there is no free number.
    pub fn renumber(&mut self, number: HostNumber) -> Option<HostNumber> {
        let host = self.get(number)?;
        let (ip, tag) = (host.ip, host.tag);
        let place = self.place(ip).ok()?;
        let new = self.allocate()?;
        self.slots[usize::from(new)] = std::mem::replace(&mut self.slots[usize::from(number.0)], Slot::Taken);
        self.by_ip[place] = new;
        self.forget_ip(ip, number.0);
        self.note_ip(ip, new);
        // Only numbers changed in the circle, not its order. The hosts-hash knows no numbers.
        let Tag { circle, changed, .. } = &mut self.tags[usize::from(tag.0)];
        for (_, holder) in circle {
            if *holder == number.0 {
                *holder = new;
            }
        }
        if changed.remove(&number.0) {
            changed.insert(new);
        }
        Some(HostNumber(new))
    }

    /// Nobody holds this removed or renumbered number any more: it may be given out again.
    pub fn release(&mut self, number: HostNumber) {
        match self.slots.get_mut(usize::from(number.0)) {
            Some(slot @ Slot::Taken) => {
                *slot = Slot::Free;
                self.free.push(number.0);
            }
            _ => debug_assert!(false, "host number {} is not waiting for its release", number.0),
        }
    }

    /// The host of a number; `None` if it was removed or renumbered.
    pub fn get(&self, number: HostNumber) -> Option<&Host> {
        match self.slots.get(usize::from(number.0))? {
            Slot::Live(live) => Some(&live.host),
            Slot::Free | Slot::Taken => None,
        }
    }

    /// The number of the host with that IP.
    pub fn find(&self, ip: IpAddr) -> Option<HostNumber> {
        let is = |&number: &u16| self.get(HostNumber(number)).is_some_and(|host| host.ip == ip);
        self.ips.find(ip_key(ip), is).map(|&number| HostNumber(number))
    }

    /// Changes a host in place; vhost points and the hosts-hash are made anew when next needed if vhosts, tag or down
    /// changed. The IP must not change, nor the tag to one that found no room: such a change is undone.
    pub fn update(&mut self, number: HostNumber, change: impl FnOnce(&mut Host)) {
        let tag_count = self.tags.len();
        let Some(Slot::Live(live)) = self.slots.get_mut(usize::from(number.0)) else { return };
        let host = &mut live.host;
        let (ip, old) = (host.ip, (host.vhosts, host.tag, host.down));
        change(host);
        debug_assert_eq!(host.ip, ip, "a host's IP must not change");
        host.ip = ip;
        if usize::from(host.tag.0) >= tag_count {
            host.tag = old.1;
        }
        let new = (host.vhosts, host.tag, host.down);
        if old != new {
            self.invalidate(old.1, number.0);
            self.invalidate(new.1, number.0);
        }
    }

    /// All hosts, by IP (IPv4 first).
    pub fn iter(&self) -> impl Iterator<Item = (HostNumber, &Host)> {
        self.by_ip.iter().filter_map(|&number| Some((HostNumber(number), self.get(HostNumber(number))?)))
    }

    /// How many hosts there are.
    pub fn len(&self) -> usize {
        self.by_ip.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The backend of a hash in a tag, by consistent hashing; `None` if the tag has no host that is up with vhosts > 0.
    pub fn by_hash(&mut self, hash: u32, tag: TagNumber) -> Option<HostNumber> {
        if !self.tags.get(usize::from(tag.0))?.changed.is_empty() {
            self.rebuild(tag);
        }
        let circle = &self.tags[usize::from(tag.0)].circle;
        let first = circle.partition_point(|&(point, _)| point < hash);
        circle.get(first).or(circle.first()).map(|&(_, number)| HostNumber(number))
    }

    /// SYNC's hosts-hash of the table. Kept until the table changes.
    pub fn hosts_hash(&mut self) -> u32 {
        if let Some(hash) = self.hosts_hash {
            return hash;
        }
        let mut hash = HostsHash::default();
        for (_, host) in self.iter() {
            hash.add(host.ip, host.vhosts, host.down, self.tag_name(host.tag));
        }
        *self.hosts_hash.insert(hash.finish())
    }

    fn tag_place(&self, name: &[u8]) -> Result<usize, usize> {
        self.tags_by_name.binary_search_by(|&tag| (*self.tags[usize::from(tag)].name).cmp(name))
    }

    /// A number, which stands for a host now, is that of an IP.
    fn note_ip(&mut self, ip: IpAddr, number: u16) {
        let slots = &self.slots;
        self.ips.insert_unique(ip_key(ip), number, |&number| match &slots[usize::from(number)] {
            Slot::Live(live) => ip_key(live.host.ip),
            Slot::Free | Slot::Taken => unreachable!("only hosts have an IP"),
        });
    }

    /// And is not any more.
    fn forget_ip(&mut self, ip: IpAddr, number: u16) {
        if let Ok(entry) = self.ips.find_entry(ip_key(ip), |&other| other == number) {
            entry.remove();
        }
    }

    /// Where the host with this IP is, or would be, in `by_ip`.
    fn place(&self, ip: IpAddr) -> Result<usize, usize> {
        self.by_ip.binary_search_by_key(&Some(ip), |&number| self.get(HostNumber(number)).map(|host| host.ip))
    }

    /// A free number, to be put to use at once.
    fn allocate(&mut self) -> Option<u16> {
        if let Some(number) = self.free.pop() {
            return Some(number);
        }
        if self.slots.len() == NUMBERS_MAX {
            return None;
        }
        self.slots.push(Slot::Taken);
        Some((self.slots.len() - 1) as u16)
    }

    fn invalidate(&mut self, tag: TagNumber, number: u16) {
        self.tags[usize::from(tag.0)].changed.insert(number);
        self.hosts_hash = None;
    }

    /// Puts the circle of a tag right: what it has of changed hosts is taken out, and what they have now put in.
    fn rebuild(&mut self, tag: TagNumber) {
        let slot = &mut self.tags[usize::from(tag.0)];
        let mut circle = std::mem::take(&mut slot.circle);
        let changed = std::mem::take(&mut slot.changed);
        let mut is_changed = vec![false; self.slots.len()];
        for &number in &changed {
            is_changed[usize::from(number)] = true;
        }
        circle.retain(|&(_, number)| !is_changed[usize::from(number)]);
        for &number in &changed {
            let Slot::Live(live) = &mut self.slots[usize::from(number)] else { continue };
            if live.host.tag == tag {
                let count = live.host.point_count();
                let known = live.points.len();
                live.points.extend((known..count).map(|n| vhost_point(live.host.ip, n as u32)));
                circle.extend(live.points[..count].iter().map(|&point| (point, number)));
            }
        }
        let ip = |number| self.get(HostNumber(number)).map(|host| host.ip);
        // This sort knows what is sorted already: after a change that is nearly all.
        circle.sort_by(|a, b| a.0.cmp(&b.0).then_with(|| ip(a.1).cmp(&ip(b.1))));
        self.tags[usize::from(tag.0)].circle = circle;
    }
}

/// Spreads addresses that differ in their last bits only. Nobody but an administrator chooses them.
fn ip_key(ip: IpAddr) -> u64 {
    let bits = match ip {
        IpAddr::V4(ip) => u64::from(ip.to_bits()),
        IpAddr::V6(ip) => {
            let bits = ip.to_bits();
            (bits >> 64) as u64 ^ bits as u64
        }
    };
    let product = u128::from(bits) * 0x9e37_79b9_7f4a_7c15;
    (product >> 64) as u64 ^ product as u64
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use quickcheck::{Arbitrary, Gen, quickcheck};

    use super::*;

    fn host(ip: &str, vhosts: u32, tag: TagNumber, down: bool) -> Host {
        let ip = ip.parse().unwrap();
        Host { ip, hostname: None, vhosts, tag, down, updown_changed_secs: 0, desynced: false }
    }

    /// Reads hosts as the vectors write them: `ip|vhosts|tag|U` or `D`, separated by spaces.
    fn table(text: &str) -> Hosts {
        let mut hosts = Hosts::new();
        // From last to first: the order of adding must not matter.
        for text in text.split(' ').rev() {
            let [ip, vhosts, tag, updown] = text.split('|').collect::<Vec<_>>()[..] else { panic!("{text}") };
            let tag = hosts.intern_tag(tag.as_bytes());
            hosts.add(host(ip, vhosts.parse().unwrap(), tag, updown == "D")).unwrap();
        }
        hosts
    }

    fn ip_by_hash(hosts: &mut Hosts, hash: u32, tag: &str) -> String {
        let Some(tag) = hosts.tag_number(tag.as_bytes()) else { return String::new() };
        let Some(number) = hosts.by_hash(hash, tag) else { return String::new() };
        hosts.get(number).unwrap().ip.to_string()
    }

    #[test]
    fn hosts_hash_is_as_in_dovecot() {
        for line in include_str!("testdata/hosts-hash.tsv").lines().filter(|line| !line.starts_with('#')) {
            let (expected, hosts) = line.split_once('\t').unwrap();
            assert_eq!(table(hosts).hosts_hash().to_string(), expected);
        }
    }

    #[test]
    fn users_go_where_dovecot_sends_them() {
        let text = include_str!("testdata/users.tsv");
        let now = text.lines().find_map(|line| line.strip_prefix("# hosts now: ")).unwrap();
        let initial = "127.0.2.1|100||U 127.0.2.2|100||U 127.0.2.3|100||U 127.0.2.4|100||U 127.0.2.5|100||U \
                       2001:db8::1|100|v6|U 10.1.2.3|100|blue|U 10.1.2.4|100|blue|U";
        let (mut now, mut initial) = (table(now), table(initial));
        let mut count = 0;
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            let fields: Vec<&str> = line.split('\t').collect();
            let hash = fields[1].parse().unwrap();
            for (index, tag) in ["", "v6", "blue", "green"].into_iter().enumerate() {
                assert_eq!(ip_by_hash(&mut now, hash, tag), fields[2 + 2 * index], "{line}");
                assert_eq!(ip_by_hash(&mut initial, hash, tag), fields[3 + 2 * index], "{line}");
                count += 1;
            }
        }
        assert_eq!(count, 29 * 4);
    }

    #[test]
    fn equal_points_belong_to_the_lower_address() {
        // Some of 200,000 points of 32 bits are equal.
        let mut seen = BTreeMap::new();
        let mut pairs = 0;
        for last in 0..200_u8 {
            for n in 0..VHOSTS_MAX {
                let point = vhost_point([10, 0, 0, last].into(), n);
                let Some(lower) = seen.insert(point, last) else { continue };
                let (lower, higher) = (format!("10.0.0.{lower}"), format!("10.0.0.{last}"));
                for order in [[&lower, &higher], [&higher, &lower]] {
                    let mut hosts = Hosts::new();
                    for ip in order {
                        hosts.add(host(ip, VHOSTS_MAX, TagNumber(0), false)).unwrap();
                    }
                    assert_eq!(ip_by_hash(&mut hosts, point, ""), lower);
                }
                pairs += 1;
            }
        }
        assert!(pairs > 0);
    }

    #[test]
    fn a_number_is_given_out_again_only_after_its_release() {
        let mut hosts = Hosts::new();
        let first = hosts.add(host("10.0.0.1", 1, TagNumber(0), false)).unwrap();
        hosts.remove(first);
        assert_eq!((hosts.get(first), hosts.len()), (None, 0));
        let second = hosts.add(host("10.0.0.1", 1, TagNumber(0), false)).unwrap();
        assert_ne!(first, second);
        hosts.release(first);
        let third = hosts.renumber(second).unwrap();
        assert_eq!(third, first);
        assert_eq!(hosts.get(second), None);
        assert_eq!(hosts.by_hash(1, TagNumber(0)), Some(third));
        assert_eq!(hosts.find([10, 0, 0, 1].into()), Some(third));
        hosts.remove(second);
        assert_eq!(hosts.len(), 1, "removing a number that stands for nothing changes nothing");
    }

    #[test]
    fn a_full_table_refuses_hosts_and_tags() {
        let mut hosts = Hosts::new();
        for index in 0..u32::from(u16::MAX) {
            let ip = IpAddr::V4((0x0a00_0000 + index).into());
            assert!(hosts.add(Host { ip, ..host("10.0.0.0", 1, TagNumber(0), false) }).is_some());
        }
        assert_eq!(hosts.add(host("::1", 1, TagNumber(0), false)), None);
        assert_eq!((hosts.renumber(HostNumber(7)), hosts.len()), (None, 65_535));
        hosts.remove(HostNumber(7));
        assert_eq!(hosts.add(host("::1", 1, TagNumber(0), false)), None);
        hosts.release(HostNumber(7));
        for index in 1..u16::MAX {
            assert_eq!(hosts.intern_tag(&index.to_be_bytes()), TagNumber(index));
        }
        let overflow = hosts.intern_tag(b"one too many");
        assert_eq!((overflow, hosts.tag_count()), (TAG_OVERFLOW, 65_535));
        assert_eq!(hosts.add(host("::1", 1, overflow, false)), None);
        hosts.update(HostNumber(1), |host| host.tag = overflow);
        assert_eq!(hosts.get(HostNumber(1)).unwrap().tag, TagNumber(0));
        assert_eq!(hosts.by_hash(1, overflow), None);
        assert_eq!(hosts.tag_number(b""), Some(TagNumber(0)));
    }

    #[test]
    fn mad_weights_take_no_memory() {
        let mut hosts = Hosts::new();
        hosts.add(host("10.0.0.1", u32::MAX, TagNumber(0), false)).unwrap();
        assert!(hosts.by_hash(7, TagNumber(0)).is_some());
        assert_eq!(hosts.tags[0].circle.len(), VHOSTS_MAX as usize);
    }

    /// Something done to a table of few addresses.
    #[derive(Clone, Debug)]
    enum Step {
        Add { ip: u8, vhosts: u32, tag: u8, down: bool },
        Remove { ip: u8 },
        Renumber { ip: u8 },
        Update { ip: u8, vhosts: u32, tag: u8, down: bool },
        ByHash { hash: u32, tag: u8 },
    }

    impl Arbitrary for Step {
        fn arbitrary(source: &mut Gen) -> Self {
            let (ip, tag, down) =
                (u8::arbitrary(source) % 8, u8::arbitrary(source) % 3, u8::arbitrary(source) % 4 == 0);
            let vhosts = u32::arbitrary(source) % 20;
            match u8::arbitrary(source) % 8 {
                0 | 1 => Self::Add { ip, vhosts, tag, down },
                2 => Self::Remove { ip },
                3 => Self::Renumber { ip },
                4 => Self::Update { ip, vhosts, tag, down },
                _ => Self::ByHash { hash: u32::arbitrary(source), tag },
            }
        }
    }

    fn address(ip: u8) -> IpAddr {
        if ip < 4 { [10, 0, 0, ip].into() } else { [0x2001, 0xdb8, 0, 0, 0, 0, 0, u16::from(ip)].into() }
    }

    quickcheck! {
        fn a_table_behaves_like_a_simple_map(steps: Vec<Step>) -> bool {
            let mut hosts = Hosts::new();
            let tags: Vec<TagNumber> = ["", "a", "b"].iter().map(|tag| hosts.intern_tag(tag.as_bytes())).collect();
            let mut model: BTreeMap<IpAddr, (u32, u8, bool)> = BTreeMap::new();
            for step in steps {
                match step {
                    Step::Add { ip, vhosts, tag, down } if !model.contains_key(&address(ip)) => {
                        let new = host(&address(ip).to_string(), vhosts, tags[usize::from(tag)], down);
                        hosts.add(new).unwrap();
                        model.insert(address(ip), (vhosts, tag, down));
                    }
                    Step::Remove { ip } => {
                        if let Some(number) = hosts.find(address(ip)) {
                            hosts.remove(number);
                            hosts.release(number);
                        }
                        model.remove(&address(ip));
                    }
                    Step::Renumber { ip } => {
                        if let Some(number) = hosts.find(address(ip)) {
                            let new = hosts.renumber(number).unwrap();
                            assert_ne!(new, number);
                            hosts.release(number);
                        }
                    }
                    Step::Add { ip, vhosts, tag, down } | Step::Update { ip, vhosts, tag, down } => {
                        if let Some(number) = hosts.find(address(ip)) {
                            hosts.update(number, |host| {
                                (host.vhosts, host.tag, host.down) = (vhosts, tags[usize::from(tag)], down);
                            });
                            model.insert(address(ip), (vhosts, tag, down));
                        }
                    }
                    Step::ByHash { hash, tag } => {
                        let points = model.iter().filter(|(_, host)| host.1 == tag && !host.2).flat_map(|(&ip, host)| {
                            (0..host.0).map(move |n| (vhost_point(ip, n), ip))
                        });
                        let expected = points.min_by_key(|&(point, ip)| (point < hash, point, ip)).map(|(_, ip)| ip);
                        let found = hosts.by_hash(hash, tags[usize::from(tag)]);
                        if found.map(|number| hosts.get(number).unwrap().ip) != expected {
                            return false;
                        }
                    }
                }
                let mut crc = HostsHash::default();
                for (ip, host) in &model {
                    crc.add(*ip, host.0, host.2, ["", "a", "b"][usize::from(host.1)].as_bytes());
                }
                if hosts.hosts_hash() != crc.finish() || !hosts.iter().map(|(_, host)| host.ip).eq(model.keys().copied()) {
                    return false;
                }
            }
            true
        }
    }
}
