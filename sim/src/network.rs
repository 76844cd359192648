//! A virtual network: connections that deliver in order, after some time, or not at all.
//!
//! It knows hosts, connections and bytes, and neither directors nor lines. It has no events of its own: whoever uses
//! it asks when the next piece of a direction arrives, and comes back at that time.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;

use crate::random::Random;

/// How long a sender waits until it tries again what a partition or a dead host swallowed, in microseconds.
pub const RETRANSMIT_MICROS: u64 = 500_000;

/// Names a connection. Never used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct LinkId(u32);

#[cfg(test)]
impl LinkId {
    /// That of no connection that there is.
    pub fn numbered(number: u32) -> Self {
        Self(number)
    }
}

impl fmt::Display for LinkId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}", self.0)
    }
}

/// One of the two ends of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Side {
    /// The one that asked for it.
    Opener,
    /// The one that listened.
    Acceptor,
}

impl Side {
    /// The other end.
    pub fn other(self) -> Self {
        match self {
            Self::Opener => Self::Acceptor,
            Self::Acceptor => Self::Opener,
        }
    }
}

/// What arrives at one end of a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    /// The connection is there: the first thing that reaches the opener.
    Established,
    /// Bytes.
    Bytes(Vec<u8>),
    /// The other end has closed.
    Finish,
    /// The connection is broken.
    Reset,
}

/// What [`Network::take`] found.
#[derive(Debug, PartialEq, Eq)]
pub enum Arrival {
    /// This has arrived.
    Now(Content),
    /// Ask again at that time (microseconds).
    At(u64),
    /// Nothing is on its way.
    Nothing,
}

/// How the network behaves; times in microseconds.
#[derive(Clone, Debug)]
pub struct Conditions {
    /// The shortest time between two hosts.
    pub latency_min_micros: u64,
    /// The longest time between two hosts that nothing holds up.
    pub latency_max_micros: u64,
    /// In so many of 100 cases a piece is held up,
    pub delay_percent: u64,
    /// by up to so much.
    pub delay_max_micros: u64,
    /// How many bytes a connection holds that the receiver has not taken.
    pub window_bytes: usize,
}

/// One direction of a connection.
#[derive(Debug, Default)]
struct Pipe {
    pieces: VecDeque<(u64, Content)>,
    /// Nothing overtakes: the next piece arrives no earlier than this.
    last_arrival_micros: u64,
    queued_bytes: usize,
    /// Since when the receiver has not taken all that is there.
    unread_since_micros: Option<u64>,
    /// Since when the sender has always had more than there was room for.
    held_since_micros: Option<u64>,
    /// Somebody has been told to look at it, and will.
    watched: bool,
}

impl Pipe {
    fn waiting_since_micros(&self) -> Option<u64> {
        // What waits on both sides has waited since the earlier of the two.
        [self.unread_since_micros, self.held_since_micros].into_iter().flatten().min()
    }
}

/// A connection between two hosts, as the world knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Passage {
    /// Which.
    pub link: LinkId,
    /// The hosts.
    pub ends: [usize; 2],
    /// Nothing that is sent on it arrives, and nobody is told so.
    pub swallows: bool,
    /// By end, since when something has always waited to be taken by that host, or for room to be sent to it.
    pub waiting_since_micros: [Option<u64>; 2],
}

#[derive(Debug)]
struct Link<P> {
    parties: [P; 2],
    hosts: [usize; 2],
    alive: [bool; 2],
    /// Something was lost: nothing that comes behind it can be delivered to an end that lives.
    broken: bool,
    /// By the side that receives.
    pipes: [Pipe; 2],
}

/// All connections, and the state of the paths between hosts.
#[derive(Debug)]
pub struct Network<P> {
    /// By their ids; those that are no more are empty places.
    links: Vec<Option<Box<Link<P>>>>,
    cut: BTreeSet<(usize, usize)>,
    /// How much longer than usual it takes from one host to another.
    far: BTreeMap<(usize, usize), u64>,
    conditions: Conditions,
    random: Random,
    delayed: u64,
}

impl<P: Copy> Network<P> {
    /// A network without connections.
    pub fn new(conditions: Conditions, random: Random) -> Self {
        Self { links: Vec::new(), cut: BTreeSet::new(), far: BTreeMap::new(), conditions, random, delayed: 0 }
    }

    /// From now on the network behaves like this.
    pub fn set_conditions(&mut self, conditions: Conditions) {
        self.conditions = conditions;
    }

    /// The time that one piece takes between two hosts; within a host next to none.
    pub fn latency_micros(&mut self, from: usize, to: usize) -> u64 {
        if from == to {
            return self.random.between(10, 100);
        }
        let conditions = &self.conditions;
        let mut latency = self.random.between(conditions.latency_min_micros, conditions.latency_max_micros);
        if conditions.delay_max_micros > 0 && self.random.percent(conditions.delay_percent) {
            latency += self.random.below(conditions.delay_max_micros);
            self.delayed += 1;
        }
        latency + self.far.get(&(from, to)).copied().unwrap_or(0)
    }

    /// How many pieces were held up so far.
    pub fn delayed(&self) -> u64 {
        self.delayed
    }

    /// From now on everything from one host to the other takes so much longer.
    pub fn stretch(&mut self, from: usize, to: usize, micros: u64) {
        self.far.insert((from, to), micros);
    }

    /// Everything takes as long as usual again.
    pub fn unstretch(&mut self) {
        self.far.clear();
    }

    /// Nothing goes from one host to the other any more (the way back is another matter).
    pub fn cut(&mut self, from: usize, to: usize) {
        self.cut.insert((from, to));
    }

    /// Everything goes everywhere again.
    pub fn heal(&mut self) {
        self.cut.clear();
    }

    /// Whether what `from` sends does not reach `to`.
    pub fn is_cut(&self, from: usize, to: usize) -> bool {
        self.cut.contains(&(from, to))
    }

    /// A new connection, which the acceptor has at once. [`Content::Established`] is on its way to the opener, and
    /// arrives at the time returned.
    pub fn open(&mut self, now: u64, opener: (usize, P), acceptor: (usize, P)) -> (LinkId, u64) {
        let link = Link {
            parties: [opener.1, acceptor.1],
            hosts: [opener.0, acceptor.0],
            alive: [true, true],
            broken: false,
            pipes: [Pipe::default(), Pipe::default()],
        };
        self.links.push(Some(Box::new(link)));
        let id = LinkId(self.links.len() as u32);
        let arrival = self.send(now, id, Side::Acceptor, Content::Established);
        (id, arrival.unwrap_or(now))
    }

    /// Who is at that end, if the connection and the end still live.
    pub fn party(&self, link: LinkId, side: Side) -> Option<P> {
        let link = self.link(link)?;
        link.alive[side as usize].then(|| link.parties[side as usize])
    }

    /// The host of that end, if the connection lives.
    pub fn host(&self, link: LinkId, side: Side) -> Option<usize> {
        Some(self.link(link)?.hosts[side as usize])
    }

    /// How many bytes that end may send now.
    pub fn room_bytes(&self, link: LinkId, from: Side) -> usize {
        self.link(link).map_or(0, |link| {
            self.conditions.window_bytes.saturating_sub(link.pipes[from.other() as usize].queued_bytes)
        })
    }

    /// That end has more to send than there is room for, or no more.
    pub fn hold(&mut self, now: u64, link: LinkId, from: Side, has_more: bool) {
        if let Some(link) = self.link_mut(link) {
            let pipe = &mut link.pipes[from.other() as usize];
            pipe.held_since_micros = has_more.then(|| pipe.held_since_micros.unwrap_or(now));
        }
    }

    /// Sends something from that end. Returns when to look at the other end, if nobody is about to; what is sent on a
    /// connection that no longer lives is lost.
    pub fn send(&mut self, now: u64, link: LinkId, from: Side, content: Content) -> Option<u64> {
        let hosts = self.link(link)?.hosts;
        let to = from.other();
        let latency = self.latency_micros(hosts[from as usize], hosts[to as usize]);
        let link = self.link_mut(link)?;
        let pipe = &mut link.pipes[to as usize];
        let arrival = (now + latency).max(pipe.last_arrival_micros);
        pipe.last_arrival_micros = arrival;
        if let Content::Bytes(bytes) = &content {
            pipe.queued_bytes += bytes.len();
        }
        pipe.pieces.push_back((arrival, content));
        if std::mem::replace(&mut pipe.watched, true) { None } else { Some(arrival) }
    }

    /// When to look at that end again; `None` if nothing is on its way: then nobody has to.
    pub fn next(&mut self, link: LinkId, side: Side) -> Option<u64> {
        let pipe = &mut self.link_mut(link)?.pipes[side as usize];
        let next = pipe.pieces.front().map(|(arrival, _)| *arrival);
        pipe.watched = next.is_some();
        next
    }

    /// Takes what has arrived at that end, at most `max_bytes` of it. Unless it finds nothing, whoever asks must look
    /// again, when [`Network::next`] says.
    pub fn take(&mut self, now: u64, link: LinkId, side: Side, max_bytes: usize) -> Arrival {
        let Some(link) = place(&mut self.links, link) else { return Arrival::Nothing };
        let pipe = &mut link.pipes[side as usize];
        if link.broken && link.alive[side as usize] {
            while let Some((_, Content::Bytes(_) | Content::Finish)) = pipe.pieces.front().filter(|(at, _)| *at <= now)
            {
                if let Some((_, Content::Bytes(bytes))) = pipe.pieces.pop_front() {
                    pipe.queued_bytes -= bytes.len();
                }
            }
        }
        let Some((arrival, content)) = pipe.pieces.front_mut() else {
            pipe.watched = false;
            return Arrival::Nothing;
        };
        if *arrival > now {
            return Arrival::At(*arrival);
        }
        if !self.cut.is_empty() && self.cut.contains(&(link.hosts[side.other() as usize], link.hosts[side as usize])) {
            return Arrival::At(now + RETRANSMIT_MICROS);
        }
        if let Content::Bytes(bytes) = content {
            let taken = if bytes.len() > max_bytes {
                let rest = bytes.split_off(max_bytes);
                std::mem::replace(bytes, rest)
            } else {
                let all = std::mem::take(bytes);
                pipe.pieces.pop_front();
                all
            };
            pipe.queued_bytes -= taken.len();
            let is_behind = pipe.pieces.front().is_some_and(|(arrival, _)| *arrival <= now);
            pipe.unread_since_micros = is_behind.then(|| pipe.unread_since_micros.unwrap_or(now));
            return Arrival::Now(Content::Bytes(taken));
        }
        pipe.pieces.pop_front().map_or(Arrival::Nothing, |(_, content)| Arrival::Now(content))
    }

    /// Nobody looks at that end until [`Network::watch`].
    pub fn unwatch(&mut self, link: LinkId, side: Side) {
        if let Some(link) = self.link_mut(link) {
            link.pipes[side as usize].watched = false;
        }
    }

    /// Somebody will look at that end now, unless it is watched already or nothing comes: then false.
    pub fn watch(&mut self, link: LinkId, side: Side) -> bool {
        let Some(link) = self.link_mut(link) else { return false };
        let pipe = &mut link.pipes[side as usize];
        !pipe.pieces.is_empty() && !std::mem::replace(&mut pipe.watched, true)
    }

    /// That end is no more: nobody reads there, nobody writes. What it has sent still arrives.
    pub fn abandon(&mut self, link: LinkId, side: Side) {
        let Some(entry) = self.link_mut(link) else { return };
        entry.alive[side as usize] = false;
        entry.pipes[side as usize] = Pipe::default();
        if entry.alive == [false, false] {
            self.links[link.0 as usize - 1] = None;
        }
    }

    /// What is on its way to both ends is lost, and with it all that comes behind: a stream has no holes. What an end
    /// still sends reaches the other only once that is no more, which can then say so. What tells an end already that the
    /// connection is broken still arrives: it can't break once more.
    pub fn lose(&mut self, link: LinkId) {
        if let Some(link) = self.link_mut(link) {
            link.broken = true;
            for pipe in &mut link.pipes {
                // Without Established there would be no connection to break.
                pipe.pieces.retain(|(_, content)| matches!(content, Content::Established | Content::Reset));
                pipe.queued_bytes = 0;
            }
        }
    }

    /// The connections between different hosts that still pass something, or that swallow what is sent on them without an
    /// end being told so: their path is cut, or the other machine has lost power. What a fault has broken is neither.
    pub fn passages(&self) -> Vec<Passage> {
        let mut passages = Vec::new();
        for (link, id) in self.links.iter().zip(1..) {
            let Some(link) = link.as_deref().filter(|link| link.hosts[0] != link.hosts[1] && !link.broken) else {
                continue;
            };
            let [from, to] = link.hosts;
            let is_cut = self.is_cut(from, to) || self.is_cut(to, from);
            let is_told = link
                .pipes
                .iter()
                .any(|pipe| pipe.pieces.iter().any(|(_, content)| matches!(content, Content::Finish | Content::Reset)));
            let is_whole = link.alive == [true, true];
            if is_cut || is_whole || !is_told {
                let swallows = is_cut || !is_whole;
                let waiting_since_micros = [&link.pipes[0], &link.pipes[1]].map(Pipe::waiting_since_micros);
                passages.push(Passage { link: LinkId(id), ends: link.hosts, swallows, waiting_since_micros });
            }
        }
        passages
    }

    /// The living connections between different hosts, with these.
    pub fn between_hosts(&self) -> Vec<(LinkId, [usize; 2])> {
        let all = self.links.iter().zip(1..).filter_map(|(link, id)| Some((LinkId(id), link.as_ref()?.hosts)));
        all.filter(|(_, hosts)| hosts[0] != hosts[1]).collect()
    }

    fn link(&self, id: LinkId) -> Option<&Link<P>> {
        self.links.get(id.0 as usize - 1)?.as_deref()
    }

    fn link_mut(&mut self, id: LinkId) -> Option<&mut Link<P>> {
        place(&mut self.links, id)
    }
}

/// Links are numbered from 1.
fn place<P>(links: &mut [Option<Box<Link<P>>>], id: LinkId) -> Option<&mut Link<P>> {
    links.get_mut(id.0 as usize - 1)?.as_deref_mut()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn network() -> Network<char> {
        let conditions = Conditions {
            latency_min_micros: 100,
            latency_max_micros: 2000,
            delay_percent: 20,
            delay_max_micros: 50_000,
            window_bytes: 1000,
        };
        Network::new(conditions, Random::new(1))
    }

    /// Everything that arrives at one end, with its times, until nothing is on its way or `until`.
    fn drain(network: &mut Network<char>, link: LinkId, side: Side, until: u64) -> Vec<(u64, Content)> {
        let (mut now, mut all) = (0, Vec::new());
        loop {
            match network.take(now, link, side, 7) {
                Arrival::Now(content) => all.push((now, content)),
                Arrival::At(time) if time <= until => now = time,
                Arrival::At(_) | Arrival::Nothing => return all,
            }
        }
    }

    #[test]
    fn bytes_arrive_in_order_and_whole_whatever_the_latency() {
        let mut network = network();
        let (link, _) = network.open(0, (0, 'a'), (1, 'b'));
        let sent: Vec<u8> = (0..200).collect();
        for (n, bytes) in sent.chunks(9).enumerate() {
            network.send(n as u64 * 10, link, Side::Acceptor, Content::Bytes(bytes.to_vec()));
        }
        network.send(500, link, Side::Acceptor, Content::Finish);
        let arrived = drain(&mut network, link, Side::Opener, u64::MAX);
        assert!(arrived.is_sorted_by_key(|(at, _)| *at));
        assert_eq!(arrived[0].1, Content::Established);
        assert_eq!(arrived.last().unwrap().1, Content::Finish);
        let received: Vec<u8> = arrived
            .iter()
            .filter_map(|(_, content)| match content {
                Content::Bytes(bytes) => Some(bytes.clone()),
                _ => None,
            })
            .flatten()
            .collect();
        assert_eq!(received, sent);
    }

    #[test]
    fn a_window_fills_and_empties() {
        let mut network = network();
        let (link, _) = network.open(0, (0, 'a'), (1, 'b'));
        assert_eq!(network.room_bytes(link, Side::Opener), 1000);
        network.send(0, link, Side::Opener, Content::Bytes(vec![0; 990]));
        assert_eq!(network.room_bytes(link, Side::Opener), 10);
        assert_eq!(network.take(1_000_000, link, Side::Acceptor, 100), Arrival::Now(Content::Bytes(vec![0; 100])));
        assert_eq!(network.room_bytes(link, Side::Opener), 110);
        assert_eq!(network.room_bytes(link, Side::Acceptor), 1000);
    }

    #[test]
    fn a_direction_is_watched_once() {
        let mut network = network();
        let (link, arrival) = network.open(0, (0, 'a'), (1, 'b'));
        assert_eq!(network.send(0, link, Side::Acceptor, Content::Finish), None, "somebody watches already");
        assert_eq!(network.take(0, link, Side::Opener, 9), Arrival::At(arrival));
        network.unwatch(link, Side::Opener);
        assert!(network.watch(link, Side::Opener));
        assert!(!network.watch(link, Side::Opener));
        drain(&mut network, link, Side::Opener, u64::MAX);
        assert!(!network.watch(link, Side::Opener), "nothing comes");
        assert!(network.send(0, link, Side::Acceptor, Content::Finish).is_some());
    }

    #[test]
    fn a_cut_holds_one_direction_until_it_heals() {
        let mut network = network();
        let (link, _) = network.open(0, (0, 'a'), (1, 'b'));
        network.cut(0, 1);
        network.send(0, link, Side::Opener, Content::Bytes(b"x".to_vec()));
        assert!(drain(&mut network, link, Side::Acceptor, 10_000_000).is_empty());
        assert_eq!(drain(&mut network, link, Side::Opener, 10_000_000)[0].1, Content::Established);
        network.heal();
        assert_eq!(drain(&mut network, link, Side::Acceptor, 10_000_000)[0].1, Content::Bytes(b"x".to_vec()));
    }

    #[test]
    fn a_stretched_path_is_slower_one_way_until_it_is_not() {
        let mut network = network();
        network.stretch(0, 1, 3_000_000);
        assert!(network.latency_micros(0, 1) > 3_000_000 && network.latency_micros(1, 0) < 1_000_000);
        network.unstretch();
        assert!(network.latency_micros(0, 1) < 1_000_000);
    }

    #[test]
    fn what_a_dead_end_has_sent_still_arrives() {
        let mut network = network();
        let (link, _) = network.open(0, (0, 'a'), (1, 'b'));
        network.send(0, link, Side::Opener, Content::Bytes(b"x".to_vec()));
        network.abandon(link, Side::Opener);
        assert_eq!(network.party(link, Side::Opener), None);
        assert_eq!(network.party(link, Side::Acceptor), Some('b'));
        assert_eq!(drain(&mut network, link, Side::Acceptor, u64::MAX).len(), 1);
        network.abandon(link, Side::Acceptor);
        assert_eq!(network.host(link, Side::Acceptor), None);
        assert_eq!(network.send(0, link, Side::Opener, Content::Finish), None);
    }

    #[test]
    fn a_broken_connection_loses_what_was_on_its_way() {
        let mut network = network();
        let (link, _) = network.open(0, (0, 'a'), (1, 'b'));
        network.send(0, link, Side::Opener, Content::Bytes(b"x".to_vec()));
        network.lose(link);
        network.send(0, link, Side::Opener, Content::Bytes(b"y".to_vec()));
        network.send(0, link, Side::Opener, Content::Finish);
        network.send(0, link, Side::Opener, Content::Reset);
        let reset = drain(&mut network, link, Side::Acceptor, u64::MAX);
        assert_eq!(reset.iter().map(|(_, content)| content).collect::<Vec<_>>(), [&Content::Reset]);
        assert_eq!(drain(&mut network, link, Side::Opener, u64::MAX)[0].1, Content::Established);
        assert_eq!(network.room_bytes(link, Side::Opener), 1000);
        assert_eq!(network.between_hosts(), [(link, [0, 1])]);
        // A sender who does not know is heard where nobody is any more, or nobody could tell him.
        network.abandon(link, Side::Acceptor);
        network.send(0, link, Side::Opener, Content::Bytes(b"z".to_vec()));
        assert_eq!(drain(&mut network, link, Side::Acceptor, u64::MAX)[0].1, Content::Bytes(b"z".to_vec()));
    }

    #[test]
    fn a_broken_connection_that_breaks_again_tells_its_ends_no_later() {
        let mut network = network();
        let (link, _) = network.open(0, (0, 'a'), (1, 'b'));
        network.stretch(0, 1, 3_000_000);
        network.send(0, link, Side::Opener, Content::Bytes(b"x".to_vec()));
        network.lose(link);
        let told = network.send(0, link, Side::Opener, Content::Reset);
        assert_eq!(told, None, "somebody watches already");
        let first = network.next(link, Side::Acceptor);
        network.send(1_000_000, link, Side::Opener, Content::Bytes(b"y".to_vec()));
        network.lose(link);
        network.send(2_000_000, link, Side::Opener, Content::Reset);
        let arrived = drain(&mut network, link, Side::Acceptor, u64::MAX);
        assert_eq!(arrived.first(), Some(&(first.unwrap(), Content::Reset)));
        assert!(arrived.iter().all(|(_, content)| *content == Content::Reset), "{arrived:?}");
    }
}
