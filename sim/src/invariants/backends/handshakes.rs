//! What directors make of the backends that others tell of in handshakes: not all of them take all of that over (ring
//! protocol, "Handshake").

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use director_core::ConnectionId;

/// The handshakes that are being read.
#[derive(Debug)]
pub struct Handshakes {
    /// Whether each director has said of its backends that they are a living ring's, or has let somebody in, since it
    /// started.
    speaks_for_a_ring: Vec<bool>,
    lists: BTreeMap<(usize, ConnectionId), List>,
}

/// A list of backends in a handshake.
#[derive(Debug)]
enum List {
    /// They are added to those of the director.
    Added,
    /// The sender joins the director's ring, so they are ignored.
    Ignored,
    /// The director joins the sender's ring, so it has these and no others then.
    Replacing(BTreeSet<IpAddr>),
}

/// What becomes of a line for the director that it reaches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Heard {
    /// What it says.
    AsSaid,
    /// Nothing.
    Ignored,
    /// The director has no more than these backends from now on.
    Only(BTreeSet<IpAddr>),
}

impl Handshakes {
    /// So many directors, none of which has started.
    pub fn new(directors: usize) -> Self {
        Self { speaks_for_a_ring: vec![false; directors], lists: BTreeMap::new() }
    }

    /// A director starts.
    pub fn starts(&mut self, director: usize) {
        self.speaks_for_a_ring[director] = false;
        self.lists.retain(|(reader, _), _| *reader != director);
    }

    /// A director lets somebody in: its ring lives.
    pub fn serves(&mut self, director: usize) {
        self.speaks_for_a_ring[director] = true;
    }

    /// A director says a line to another.
    pub fn say(&mut self, director: usize, line: &[u8]) {
        self.speaks_for_a_ring[director] |= line == b"HOST-HAND-START\t1";
    }

    /// A line of another director reaches one, by that connection.
    pub fn hear(&mut self, director: usize, connection: ConnectionId, line: &[u8]) -> Heard {
        let place = (director, connection);
        if let Some(is_of_ring) = line.strip_prefix(b"HOST-HAND-START\t") {
            let list = match (is_of_ring == b"1", self.speaks_for_a_ring[director]) {
                (true, false) => List::Replacing(BTreeSet::new()),
                (false, true) => List::Ignored,
                _ => List::Added,
            };
            self.lists.insert(place, list);
        } else if line.starts_with(b"HOST-HAND-END\t") {
            if let Some(List::Replacing(backends)) = self.lists.remove(&place) {
                return Heard::Only(backends);
            }
        } else if let Some(host) = line.strip_prefix(b"HOST\t")
            && let Some(list) = self.lists.get_mut(&place)
            && let Some(backend) = listed(host)
        {
            match list {
                List::Ignored => return Heard::Ignored,
                List::Replacing(backends) => drop(backends.insert(backend)),
                List::Added => {}
            }
        }
        Heard::AsSaid
    }
}

/// The backend that a HOST of a handshake names, if it is not a live one, which begins with whose it is.
fn listed(host: &[u8]) -> Option<IpAddr> {
    let words: Vec<&str> = std::str::from_utf8(host).ok()?.split('\t').collect();
    let is_live = words.get(3).is_some_and(|word| word.parse::<IpAddr>().is_ok());
    if is_live { None } else { words.first()?.parse().ok() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_speaks_for_a_ring_ignores_those_that_join_it_and_who_joins_one_has_its_backends_only() {
        let [one, other] = [1, 2].map(ConnectionId::from_bits);
        let host: &[u8] = b"HOST\t10.2.0.1\t100\t\tU0\t";
        let live: &[u8] = b"HOST\t10.1.0.1\t9090\t7\t10.2.0.9\t100\t\tU0\t";
        let only = |backends: &[&str]| Heard::Only(backends.iter().map(|backend| backend.parse().unwrap()).collect());
        for (said, start, in_list, end) in [
            (None, "HOST-HAND-START\t1", Heard::AsSaid, only(&["10.2.0.1"])),
            (None, "HOST-HAND-START\t0", Heard::AsSaid, Heard::AsSaid),
            (Some("HOST-HAND-START\t0"), "HOST-HAND-START\t1", Heard::AsSaid, only(&["10.2.0.1"])),
            (Some("HOST-HAND-START\t1"), "HOST-HAND-START\t1", Heard::AsSaid, Heard::AsSaid),
            (Some("HOST-HAND-START\t1"), "HOST-HAND-START\t0", Heard::Ignored, Heard::AsSaid),
        ] {
            let mut handshakes = Handshakes::new(2);
            handshakes.say(1, said.unwrap_or_default().as_bytes());
            handshakes.hear(1, one, start.as_bytes());
            assert_eq!(handshakes.hear(1, one, host), in_list, "{said:?} {start}");
            assert_eq!(handshakes.hear(1, one, live), Heard::AsSaid, "a live line counts");
            assert_eq!(handshakes.hear(1, other, host), Heard::AsSaid, "another list");
            assert_eq!(handshakes.hear(1, one, b"HOST-HAND-END\t1"), end, "{said:?} {start}");
            handshakes.serves(1);
            handshakes.hear(1, one, b"HOST-HAND-START\t0");
            assert_eq!(handshakes.hear(1, one, host), Heard::Ignored, "it serves");
            handshakes.starts(1);
            handshakes.hear(1, one, b"HOST-HAND-START\t1");
            assert_eq!(handshakes.hear(1, one, b"HOST-HAND-END\t1"), only(&[]), "it has started again");
        }
    }
}
