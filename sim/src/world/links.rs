//! Connections: how they begin, what arrives on them, and how they end.

use std::net::SocketAddr;

use director_core::{ConnectionId, Event, RECEIVE_MAX_BYTES, Role};

use super::machines::{Place, Socket, SocketState};
use super::{Happening, Party, World};
use crate::network::{Arrival, Content, LinkId, RETRANSMIT_MICROS, Side};
use crate::plan::SECOND;

/// How often a request to connect is sent before it fails: after 1, 2, 4, 8 and 16 s more.
const KNOCKS_MAX: u32 = 6;
/// How long a slow reader waits until it reads again.
const SLOW_MICROS: u64 = 50_000;
const RESET: &str = "Connection reset by peer";

impl World {
    /// Sends something on a connection.
    pub(super) fn send(&mut self, link: LinkId, from: Side, content: Content) {
        if let Some(at) = self.network.send(self.now, link, from, content) {
            self.schedule(at, Happening::Arrive { link, side: from.other() });
        }
    }

    /// A request to connect reaches its target, or does not.
    pub(super) fn knock(
        &mut self,
        director: usize,
        incarnation: u32,
        connection: ConnectionId,
        to: SocketAddr,
        attempt: u32,
    ) {
        if self.state(director, incarnation, connection) != Some(SocketState::Connecting) {
            return;
        }
        let target = self.machines.iter().position(|machine| machine.address == to);
        let unreachable = target.is_none_or(|target| {
            !self.machines[target].powered
                || self.network.is_cut(director, target)
                || self.network.is_cut(target, director)
        });
        if unreachable {
            if attempt + 1 < KNOCKS_MAX {
                let at = self.now + (SECOND << attempt);
                let attempt = attempt + 1;
                self.schedule(at, Happening::Knock { director, incarnation, connection, to, attempt });
            } else {
                let error = "Connection timed out";
                self.schedule(self.now, Happening::Refuse { director, incarnation, connection, error });
            }
            return;
        }
        let Some(target) = target else { return };
        let Some(accepted) = self.accept(target, Role::Ring, Some(self.peer_address(director))) else {
            let at = self.now + self.network.latency_micros(target, director);
            let error = "Connection refused";
            self.schedule(at, Happening::Refuse { director, incarnation, connection, error });
            return;
        };
        let opener = (director, Party::Director { director, incarnation, connection });
        let acceptor =
            Party::Director { director: target, incarnation: self.machines[target].incarnation, connection: accepted };
        let (link, at) = self.network.open(self.now, opener, (target, acceptor));
        self.changes.joined(self.now);
        if let Some(socket) = self.machines[director].sockets.get_mut(&connection) {
            socket.state = SocketState::Accepted(link);
            socket.name = format!("{}>{}#{link}", Place(director), Place(target)).into();
        }
        self.schedule(at, Happening::Arrive { link, side: Side::Opener });
        self.accepted(target, accepted, link, format!("{}>{}#{link}", Place(director), Place(target)), true);
    }

    /// A director whose process runs accepts a connection.
    pub(super) fn accept(&mut self, director: usize, role: Role, peer: Option<SocketAddr>) -> Option<ConnectionId> {
        let machine = &mut self.machines[director];
        let now = machine.clock(self.now);
        Some(machine.core.as_mut()?.accept(role, peer, now))
    }

    /// The connection that a director has just accepted is this one; now it may be used.
    pub(super) fn accepted(
        &mut self,
        director: usize,
        connection: ConnectionId,
        link: LinkId,
        name: String,
        is_ring: bool,
    ) {
        let socket = Socket::new(SocketState::Open(link, Side::Acceptor), name, is_ring);
        if self.machines[director].sockets.insert(connection, socket).is_some() {
            let detail = format!("{} accepts as {connection}, which is another connection's id", Place(director));
            self.violate(crate::invariants::CONTRACT, detail);
        }
        self.drive(director);
    }

    /// A request to connect has failed.
    pub(super) fn refused(&mut self, director: usize, incarnation: u32, connection: ConnectionId, error: &'static str) {
        if self.state(director, incarnation, connection) != Some(SocketState::Connecting) {
            return;
        }
        if let Some(socket) = self.machines[director].sockets.remove(&connection) {
            self.trace.line(self.now, socket.name, format_args!("{} cannot connect: {error}", Place(director)));
        }
        self.handle(director, Event::ConnectFailed { connection, error });
    }

    /// Looks at what has arrived at one end of a connection.
    pub(super) fn arrive(&mut self, link: LinkId, side: Side) {
        let party = self.network.party(link, side);
        if let Some(Party::Director { director, connection, .. }) = party
            && let Some(socket) = self.machines[director].sockets.get(&connection)
            && matches!(socket.state, SocketState::Open(..))
            && !socket.reads()
        {
            self.network.unwatch(link, side);
            return;
        }
        let slow = self.is_slow(link, side);
        // Any part of what is there, now and then: a reader must not rely on anything but the order.
        let whole = !slow && self.random.percent(80);
        let most = if whole { RECEIVE_MAX_BYTES } else { self.random.between(1, 200) as usize };
        match self.network.take(self.now, link, side, most) {
            Arrival::Nothing => return,
            Arrival::At(at) => {
                self.schedule(at, Happening::Arrive { link, side });
                return;
            }
            Arrival::Now(content) => match party {
                Some(Party::Director { director, connection, .. }) => {
                    self.arrived(director, connection, link, side, content);
                }
                Some(Party::Program { director, program }) => {
                    self.program_received(director, program, link, side, content);
                }
                None => {
                    self.arrived_nowhere(link, side, &content);
                }
            },
        }
        if let Some(Party::Director { director, connection, .. }) = self.network.party(link, side.other()) {
            self.drained(director, connection);
        }
        if let Some(at) = self.network.next(link, side) {
            let at = if slow { at.max(self.now + SLOW_MICROS) } else { at };
            self.schedule(at, Happening::Arrive { link, side });
        }
    }

    /// Whether a director is there that takes little at a time, and another director at the other end.
    fn is_slow(&self, link: LinkId, side: Side) -> bool {
        match (self.network.host(link, side), self.network.host(link, side.other())) {
            (Some(host), Some(other)) if host != other => self.machines[host].slow_until > self.now,
            _ => false,
        }
    }

    fn arrived(&mut self, director: usize, connection: ConnectionId, link: LinkId, side: Side, content: Content) {
        match content {
            Content::Established => {
                let Some(socket) = self.machines[director].sockets.get_mut(&connection) else { return };
                socket.state = SocketState::Open(link, side);
                let name = socket.name.clone();
                self.trace.line(self.now, name, format_args!("{} connected", Place(director)));
                self.handle(director, Event::Connected { connection });
            }
            Content::Bytes(bytes) => self.deliver(director, connection, &bytes),
            // Who closes does not look whether the other side does so too, and goes on writing.
            Content::Finish if self.machines[director].is_closing(connection) => {}
            Content::Finish => {
                self.send(link, side, Content::Finish);
                self.gone(director, connection, link, side, None);
            }
            Content::Reset => self.gone(director, connection, link, side, Some(RESET)),
        }
    }

    /// Something has come for an end that is no more: its machine says so, once it can.
    fn arrived_nowhere(&mut self, link: LinkId, side: Side, content: &Content) {
        if !matches!(content, Content::Established | Content::Bytes(_)) {
            return;
        }
        let powered = self.network.host(link, side).is_some_and(|host| self.machines[host].powered);
        if powered {
            self.send(link, side, Content::Reset);
        } else if let Some(Party::Director { .. }) = self.network.party(link, side.other()) {
            // The sender keeps trying; one more piece stands for that.
            if let Content::Bytes(bytes) = content {
                self.network.send(self.now + RETRANSMIT_MICROS, link, side.other(), Content::Bytes(bytes.clone()));
            }
        }
    }

    /// The other side has ended a connection.
    fn gone(
        &mut self,
        director: usize,
        connection: ConnectionId,
        link: LinkId,
        side: Side,
        error: Option<&'static str>,
    ) {
        self.network.abandon(link, side);
        let incarnation = self.machines[director].incarnation;
        if let Some(socket) = self.machines[director].sockets.get_mut(&connection) {
            socket.state = SocketState::Gone;
        }
        self.tell_closed(director, incarnation, connection, error);
    }

    /// All is written: a director closes a connection.
    pub(super) fn finish(&mut self, director: usize, connection: ConnectionId, link: LinkId, side: Side) {
        self.send(link, side, Content::Finish);
        self.end(director, connection, link, side);
    }

    /// A director ends a connection at once.
    pub(super) fn abort(&mut self, director: usize, connection: ConnectionId) {
        let Some(socket) = self.machines[director].sockets.get_mut(&connection) else { return };
        match socket.state {
            SocketState::Open(link, side) => {
                self.send(link, side, Content::Reset);
                self.end(director, connection, link, side);
            }
            SocketState::Accepted(link) => {
                self.send(link, Side::Opener, Content::Reset);
                self.end(director, connection, link, Side::Opener);
            }
            SocketState::Connecting => {
                socket.state = SocketState::Gone;
                let incarnation = self.machines[director].incarnation;
                self.schedule(self.now, Happening::Closed { director, incarnation, connection, error: None });
            }
            SocketState::Gone => {}
        }
    }

    fn end(&mut self, director: usize, connection: ConnectionId, link: LinkId, side: Side) {
        self.network.abandon(link, side);
        let machine = &mut self.machines[director];
        let incarnation = machine.incarnation;
        if let Some(socket) = machine.sockets.get_mut(&connection) {
            socket.state = SocketState::Gone;
        }
        self.schedule(self.now, Happening::Closed { director, incarnation, connection, error: None });
    }

    /// A director learns that a connection is no more.
    pub(super) fn tell_closed(
        &mut self,
        director: usize,
        incarnation: u32,
        connection: ConnectionId,
        error: Option<&'static str>,
    ) {
        if self.state(director, incarnation, connection).is_none() {
            return;
        }
        if let Some(socket) = self.machines[director].sockets.remove(&connection) {
            let why = error.unwrap_or("closed");
            self.trace.line(self.now, socket.name, format_args!("{} closed: {why}", Place(director)));
        }
        self.handle(director, Event::Closed { connection, error });
    }

    fn state(&self, director: usize, incarnation: u32, connection: ConnectionId) -> Option<SocketState> {
        let machine = &self.machines[director];
        (machine.core.is_some() && machine.incarnation == incarnation)
            .then(|| machine.sockets.get(&connection).map(|socket| socket.state))
            .flatten()
    }

    /// The address that a director's outgoing connections come from.
    fn peer_address(&self, director: usize) -> SocketAddr {
        SocketAddr::new(self.machines[director].address.ip(), 40_000 + (self.serial % 20_000) as u16)
    }
}
