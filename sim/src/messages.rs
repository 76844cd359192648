//! How often the ring repeats itself: the lines between directors that one event causes.
//!
//! Lines that name their originator and its number, or a user and the time at which he was seen, can be told to belong
//! to one event. Each member says such a line to each neighbour but the one that it has it from, so the number of them
//! grows with the ring and with nothing else.

use xxhash_rust::xxh3::xxh3_64;

use crate::plan::SECOND;

/// The commands that are counted.
pub const KINDS: [&str; 9] = [
    "USER",
    "USER-WEAK",
    "HOST",
    "HOST-REMOVE",
    "HOST-FLUSH",
    "USER-MOVE",
    "USER-KILLED-EVERYWHERE",
    "USER-KICK-HASH",
    "SYNC",
];

/// How many of the latest events are remembered, as a power of two: one with the same place pushes another out, which
/// only makes the count of that one too low.
const PLACES: usize = 1 << 12;
/// An event is over after so much time: what comes later is another that looks the same.
const EVENT_MICROS: u64 = 10 * SECOND;

/// Counts them.
#[derive(Clone, Debug)]
pub struct Messages {
    places: Vec<Event>,
    worst: [u32; KINDS.len()],
}

#[derive(Clone, Copy, Debug, Default)]
struct Event {
    key: u64,
    since_micros: u64,
    count: u32,
}

impl Default for Messages {
    fn default() -> Self {
        Self { places: vec![Event::default(); PLACES], worst: [0; KINDS.len()] }
    }
}

impl Messages {
    /// A director says a line to another.
    pub fn sent(&mut self, line: &[u8], now: u64) {
        let mut words = line.split(|&byte| byte == b'\t');
        let command = words.next().unwrap_or_default();
        // HOST of a handshake has no originator: its third argument is a tag, and its fourth no address.
        let is_address = |word: &[u8]| word.contains(&b'.') || word.contains(&b':');
        if command == b"HOST" && !words.nth(3).is_some_and(is_address) {
            return;
        }
        let Some(kind) = KINDS.iter().position(|kind| kind.as_bytes() == command) else { return };
        // A SYNC changes on its way; its originator and number do not. (USER has no more than three arguments.)
        let tab = line.iter().enumerate().filter(|(_, byte)| **byte == b'\t').nth(4);
        let key = xxh3_64(&line[..tab.map_or(line.len(), |(at, _)| at)]);
        let place = &mut self.places[key as usize % PLACES];
        if place.key != key || place.since_micros + EVENT_MICROS < now {
            *place = Event { key, since_micros: now, count: 0 };
        }
        place.count += 1;
        self.worst[kind] = self.worst[kind].max(place.count);
    }

    /// The most lines that one event has caused, in the order of [`KINDS`].
    pub fn worst(&self) -> [u32; KINDS.len()] {
        self.worst
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lines_of_one_event_are_counted_together() {
        let mut messages = Messages::default();
        for line in ["USER\t5\t10.2.0.1\t77", "USER\t5\t10.2.0.1\t77", "USER\t5\t10.2.0.1\t78", "PING\t1\t2"] {
            messages.sent(line.as_bytes(), 0);
        }
        messages.sent(b"USER\t5\t10.2.0.1\t77", EVENT_MICROS + 1);
        for minor in [9, 10, 9] {
            messages.sent(format!("SYNC\t10.1.0.1\t9090\t1\t{minor}\t77\t5").as_bytes(), 0);
        }
        messages.sent(b"SYNC\t10.1.0.1\t9090\t2\t9\t77\t5", 0);
        messages.sent(b"HOST\t10.1.0.1\t9090\t1\t10.2.0.1\t100\t\tU0\t", 0);
        (0..5).for_each(|_| messages.sent(b"HOST\t10.2.0.1\t100\t\tU0\t", 0));
        assert_eq!(messages.worst(), [2, 0, 1, 0, 0, 0, 0, 0, 2]);
    }
}
