//! The table of connections, their output and their reading.

use std::collections::VecDeque;

use crate::admin::Session;
use crate::contract::{Action, ConnectionId};
use crate::flush::Run;
use crate::login::Relay;
use crate::ring::link::Link;
use crate::wire::line::{LineBuffer, wipe};

/// Above this much unread output its causes are no longer read: a peer costs no more than this and one batch.
pub(crate) const OUTPUT_HIGH_BYTES: usize = 128 * 1024;
/// Below this much unread output they are read again.
pub(crate) const OUTPUT_LOW_BYTES: usize = 32 * 1024;
/// Output mostly goes out at once, so a few buffers serve all connections in turn, and idle ones hold none: one for who
/// asked, two for the neighbours in the ring, and one more.
const SPARE_BUFFERS_MAX: usize = 4;
/// A buffer that has grown past this is not kept: what one read asks for needs less.
const BUFFER_KEEP_BYTES: usize = 64 * 1024;

/// What a connection is.
#[derive(Debug)]
pub(crate) enum Kind {
    /// To or from another director.
    Ring(Box<Link>),
    /// From a login process, LMTP or doveadm: relayed.
    Client(Relay),
    /// To an auth server, for one client.
    Auth(Relay),
    /// From a program that has auth replies. `waiting` counts its lookups that wait.
    AuthReply { greeted: bool, waiting: u32 },
    /// From an administrator.
    Admin(Box<Session>),
    /// "This user is still here."
    Notify,
    /// To Dovecot 2.3's ipc.
    Ipc,
    /// To Dovecot 2.4's anvil.
    Anvil,
    /// To the flush script.
    Flush(Box<Run>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    Connecting,
    Open,
    /// Told to close: the last output goes out, nothing is read.
    Closing,
    /// Told to close at once.
    Aborted,
}

/// One connection.
#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) kind: Kind,
    pub(crate) phase: Phase,
    pub(crate) lines: LineBuffer,
    output: Output,
    /// `Action::Write` is out and `poll_output` has not yet come up empty.
    announced: bool,
    reading: bool,
}

impl Connection {
    /// Bytes that wait to be written.
    pub(crate) fn buffered(&self) -> usize {
        self.output.len()
    }

    /// The first part of what waits to be written.
    pub(crate) fn output(&self) -> &[u8] {
        self.output.front()
    }

    /// Adds output without announcing it: only for what `poll_output` is about to show, and after
    /// [`Connections::lend_buffer`].
    pub(crate) fn output_mut(&mut self) -> &mut Vec<u8> {
        self.output.make_room(0);
        &mut self.output.bytes
    }
}

/// Bytes on their way out. What has been taken is wiped at once where it may hold passwords.
#[derive(Debug, Default)]
struct Output {
    bytes: Vec<u8>,
    start: usize,
    secret: bool,
}

impl Output {
    fn len(&self) -> usize {
        self.bytes.len() - self.start
    }

    fn front(&self) -> &[u8] {
        &self.bytes[self.start..]
    }

    fn push(&mut self, bytes: &[u8]) {
        self.make_room(bytes.len());
        self.bytes.extend_from_slice(bytes);
    }

    /// Makes sure that `more` bytes fit without a reallocation that would leave a copy of secrets behind.
    fn make_room(&mut self, more: usize) {
        if self.start > 0 && (self.start == self.bytes.len() || self.start >= self.bytes.capacity() / 2) {
            let rest = self.bytes.len() - self.start;
            self.bytes.copy_within(self.start.., 0);
            if self.secret {
                wipe(&mut self.bytes[rest..]);
            }
            self.bytes.truncate(rest);
            self.start = 0;
        }
        if self.secret && self.bytes.capacity() - self.bytes.len() < more {
            let mut larger = Vec::with_capacity((self.len() + more).next_power_of_two().max(512));
            larger.extend_from_slice(self.front());
            wipe(&mut self.bytes);
            self.bytes = larger;
            self.start = 0;
        }
    }

    fn take(&mut self, bytes: usize) {
        let end = (self.start + bytes).min(self.bytes.len());
        if self.secret {
            wipe(&mut self.bytes[self.start..end]);
        }
        self.start = end;
        if self.start == self.bytes.len() {
            self.start = 0;
            self.bytes.clear();
        }
    }

    /// The buffer, if nothing is in it: what had to be wiped is wiped.
    fn give_back(&mut self) -> Option<Vec<u8>> {
        (self.bytes.is_empty() && self.bytes.capacity() > 0).then(|| std::mem::take(&mut self.bytes))
    }
}

impl Drop for Output {
    fn drop(&mut self) {
        if self.secret {
            wipe(&mut self.bytes);
        }
    }
}

#[derive(Debug, Default)]
struct Slot {
    generation: u32,
    connection: Option<Connection>,
}

/// All connections, and the actions that concern them.
#[derive(Debug, Default)]
pub(crate) struct Connections {
    slots: Vec<Slot>,
    free: Vec<u32>,
    count: usize,
    actions: VecDeque<Action>,
    /// Empty buffers for output.
    spares: Vec<Vec<u8>>,
}

impl Connections {
    /// Adds a connection; its kind decides the longest line, and whether its buffers are wiped.
    pub(crate) fn add(&mut self, kind: Kind, phase: Phase, line_max_bytes: usize) -> ConnectionId {
        let secret = matches!(kind, Kind::Client(_) | Kind::Auth(_) | Kind::AuthReply { .. });
        let connection = Connection {
            kind,
            phase,
            lines: LineBuffer::new(line_max_bytes),
            output: Output { bytes: Vec::new(), start: 0, secret },
            announced: false,
            reading: true,
        };
        self.count += 1;
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot::default());
            u32::try_from(self.slots.len() - 1).expect("fewer than 2^32 connections")
        });
        let place = &mut self.slots[slot as usize];
        place.connection = Some(connection);
        ConnectionId { slot, generation: place.generation }
    }

    /// Forgets a connection whose end the runtime has reported.
    pub(crate) fn remove(&mut self, id: ConnectionId) -> Option<Connection> {
        let place = self.slots.get_mut(id.slot())?;
        if place.generation != id.generation {
            return None;
        }
        let connection = place.connection.take()?;
        place.generation = place.generation.wrapping_add(1);
        self.free.push(id.slot);
        self.count -= 1;
        Some(connection)
    }

    pub(crate) fn get(&self, id: ConnectionId) -> Option<&Connection> {
        let place = self.slots.get(id.slot())?;
        if place.generation == id.generation { place.connection.as_ref() } else { None }
    }

    pub(crate) fn get_mut(&mut self, id: ConnectionId) -> Option<&mut Connection> {
        let place = self.slots.get_mut(id.slot())?;
        if place.generation == id.generation { place.connection.as_mut() } else { None }
    }

    /// Whether the connection is there and may be read from and written to.
    pub(crate) fn is_open(&self, id: ConnectionId) -> bool {
        self.get(id).is_some_and(|connection| matches!(connection.phase, Phase::Open | Phase::Connecting))
    }

    /// Whether the connection has been made and may be written to.
    pub(crate) fn is_established(&self, id: ConnectionId) -> bool {
        self.get(id).is_some_and(|connection| connection.phase == Phase::Open)
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.count
    }

    /// All living connections, in order of their slots.
    pub(crate) fn ids(&self) -> Vec<ConnectionId> {
        let ids = self.slots.iter().enumerate().filter(|(_, place)| place.connection.is_some());
        ids.map(|(slot, place)| ConnectionId { slot: slot as u32, generation: place.generation }).collect()
    }

    /// Adds output to a connection that is not closing.
    pub(crate) fn write(&mut self, id: ConnectionId, bytes: &[u8]) {
        self.lend_buffer(id);
        let Some(connection) = self.get_mut(id) else { return };
        if bytes.is_empty() || !matches!(connection.phase, Phase::Open | Phase::Connecting) {
            return;
        }
        connection.output.push(bytes);
        self.announce(id);
    }

    /// Adds output to a connection that is not closing: what `write` appends, at most `max_bytes`.
    pub(crate) fn write_with(&mut self, id: ConnectionId, max_bytes: usize, write: impl FnOnce(&mut Vec<u8>)) {
        self.lend_buffer(id);
        let Some(connection) = self.get_mut(id) else { return };
        if !matches!(connection.phase, Phase::Open | Phase::Connecting) {
            return;
        }
        connection.output.make_room(max_bytes);
        let room = connection.output.bytes.capacity();
        write(&mut connection.output.bytes);
        debug_assert!(
            !connection.output.secret || connection.output.bytes.capacity() == room,
            "a reallocation has left a copy of secrets behind"
        );
        if connection.buffered() > 0 {
            self.announce(id);
        }
    }

    /// Sees to it that a connection without a buffer for its output need not allocate one, if there is one to spare.
    pub(crate) fn lend_buffer(&mut self, id: ConnectionId) {
        let Some(place) = self.slots.get_mut(id.slot()).filter(|place| place.generation == id.generation) else {
            return;
        };
        let Some(connection) = &mut place.connection else { return };
        if connection.output.bytes.capacity() == 0
            && let Some(spare) = self.spares.pop()
        {
            connection.output.bytes = spare;
        }
    }

    /// Tells the runtime that there is something to pull.
    pub(crate) fn announce(&mut self, id: ConnectionId) {
        let Some(connection) = self.get_mut(id) else { return };
        if connection.phase == Phase::Open && !connection.announced {
            connection.announced = true;
            self.actions.push_back(Action::Write { connection: id });
        }
    }

    /// `poll_output` came up empty: the next output must be announced.
    pub(crate) fn drained(&mut self, id: ConnectionId) {
        if let Some(connection) = self.get_mut(id) {
            connection.announced = false;
        }
    }

    /// The socket took this many bytes.
    pub(crate) fn written(&mut self, id: ConnectionId, bytes: usize) {
        let Some(connection) = self.get_mut(id) else { return };
        connection.output.take(bytes);
        if let Some(buffer) = connection.output.give_back()
            && buffer.capacity() <= BUFFER_KEEP_BYTES
            && self.spares.len() < SPARE_BUFFERS_MAX
        {
            self.spares.push(buffer);
        }
    }

    /// A connection asked for has been made.
    pub(crate) fn opened(&mut self, id: ConnectionId) {
        let Some(connection) = self.get_mut(id) else { return };
        if connection.phase != Phase::Connecting {
            return;
        }
        connection.phase = Phase::Open;
        if connection.output.len() > 0 {
            self.announce(id);
        }
    }

    /// Starts or stops reading, if that is a change.
    pub(crate) fn set_reading(&mut self, id: ConnectionId, enabled: bool) {
        let Some(connection) = self.get_mut(id) else { return };
        if connection.reading != enabled && matches!(connection.phase, Phase::Open | Phase::Connecting) {
            connection.reading = enabled;
            self.actions.push_back(Action::Read { connection: id, enabled });
        }
    }

    /// Whether the connection is there and read from.
    pub(crate) fn is_reading(&self, id: ConnectionId) -> bool {
        self.get(id).is_some_and(|connection| connection.reading)
    }

    /// Whether output of this size should keep its causes from being read, given what is the case now.
    pub(crate) fn wants_reading(&self, id: ConnectionId, output_bytes: usize) -> bool {
        let reading = self.get(id).is_some_and(|connection| connection.reading);
        output_bytes < if reading { OUTPUT_HIGH_BYTES } else { OUTPUT_LOW_BYTES }
    }

    /// Asks for a connection to be closed after its output has gone out. Returns whether it was open.
    pub(crate) fn close(&mut self, id: ConnectionId) -> bool {
        let Some(connection) = self.get_mut(id) else { return false };
        match connection.phase {
            Phase::Open => {
                connection.phase = Phase::Closing;
                self.actions.push_back(Action::Close { connection: id });
                true
            }
            Phase::Connecting => self.abort(id),
            Phase::Closing | Phase::Aborted => false,
        }
    }

    /// Asks for a connection to be closed at once. Returns whether that was news.
    pub(crate) fn abort(&mut self, id: ConnectionId) -> bool {
        let Some(connection) = self.get_mut(id) else { return false };
        if connection.phase == Phase::Aborted {
            return false;
        }
        connection.phase = Phase::Aborted;
        self.actions.push_back(Action::Abort { connection: id });
        true
    }

    /// Asks the runtime for something.
    pub(crate) fn act(&mut self, action: Action) {
        self.actions.push_back(action);
    }

    /// The next action, if any.
    pub(crate) fn poll_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_of_a_dead_connection_reaches_nobody() {
        let mut connections = Connections::default();
        let first = connections.add(Kind::Notify, Phase::Open, 100);
        connections.remove(first);
        let second = connections.add(Kind::Notify, Phase::Open, 100);
        assert_eq!(first.slot(), second.slot());
        assert!(connections.get(first).is_none());
        connections.write(first, b"lost");
        assert_eq!(connections.get(second).map(Connection::buffered), Some(0));
    }

    #[test]
    fn output_is_announced_once_until_it_was_drained() {
        let mut connections = Connections::default();
        let id = connections.add(Kind::Notify, Phase::Open, 100);
        connections.write(id, b"one");
        connections.write(id, b"two");
        assert_eq!(connections.poll_action(), Some(Action::Write { connection: id }));
        assert_eq!(connections.poll_action(), None);
        assert_eq!(connections.get(id).map(Connection::output), Some(&b"onetwo"[..]));
        connections.written(id, 4);
        assert_eq!(connections.get(id).map(Connection::output), Some(&b"wo"[..]));
        connections.written(id, 2);
        connections.drained(id);
        connections.write(id, b"three");
        assert_eq!(connections.poll_action(), Some(Action::Write { connection: id }));
    }

    #[test]
    fn empty_buffers_go_from_connection_to_connection() {
        let mut connections = Connections::default();
        let kind = || Kind::AuthReply { greeted: true, waiting: 0 };
        let ids: Vec<_> = (0..10).map(|_| connections.add(kind(), Phase::Open, 100)).collect();
        for &id in &ids {
            connections.write(id, b"secret");
        }
        for &id in &ids {
            connections.written(id, 6);
            assert_eq!(connections.get(id).map(|connection| connection.output.bytes.capacity()), Some(0));
        }
        assert_eq!(connections.spares.len(), SPARE_BUFFERS_MAX);
        connections.write(ids[0], b"x");
        assert_eq!(connections.spares.len(), SPARE_BUFFERS_MAX - 1);
        let mut large = Vec::with_capacity(BUFFER_KEEP_BYTES + 1);
        large.push(b'x');
        connections.get_mut(ids[1]).expect("there").output.bytes = large;
        connections.written(ids[1], 1);
        assert_eq!(connections.spares.len(), SPARE_BUFFERS_MAX - 1, "what is too large is given back");
    }

    #[test]
    fn secret_output_survives_growth_in_order() {
        let mut output = Output { bytes: Vec::new(), start: 0, secret: true };
        let mut expected = Vec::new();
        for n in 0..2000_u32 {
            let bytes = n.to_le_bytes();
            output.push(&bytes);
            expected.extend_from_slice(&bytes);
            if n % 3 == 0 {
                assert!(expected.starts_with(&output.front()[..5.min(output.len())]));
                output.take(5);
                expected.drain(..5.min(expected.len()));
            }
        }
        assert_eq!(output.front(), expected);
    }
}
