//! The director: owns hosts, users, ring and connections, and is the only type that a runtime meets.

use std::net::SocketAddr;

use crate::contract::{Action, ConnectionId, Event, Role};
use crate::settings::Configuration;
use crate::time::{Instant, Now};

/// Why the core wants to be called at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Reason {
    /// Users may expire.
    UserExpiry,
}

/// A director.
#[derive(Debug)]
pub struct Director {}

impl Director {
    /// A director that has just started. It connects to its ring at once: poll its actions.
    pub fn new(configuration: Configuration, seed: u64, now: Now) -> Self {
        let _ = (configuration, seed, now);
        unimplemented!()
    }

    /// A connection came in on a listening socket of that role (for a FIFO: it was opened). `peer` is its address if
    /// it has one.
    pub fn accept(&mut self, role: Role, peer: Option<SocketAddr>, now: Now) -> ConnectionId {
        let _ = (role, peer, now);
        unimplemented!()
    }

    /// Something happened.
    pub fn handle(&mut self, event: Event<'_>, now: Now) {
        let _ = (event, now);
        unimplemented!()
    }

    /// The next thing to do, until `None`.
    pub fn poll_action(&mut self) -> Option<Action> {
        unimplemented!()
    }

    /// The bytes that wait to be written to a connection, or the first part of them; empty: none now. Tell with
    /// [`Event::Written`] how many of them the socket took, and ask again.
    pub fn poll_output(&mut self, connection: ConnectionId, now: Now) -> &[u8] {
        let _ = (connection, now);
        unimplemented!()
    }

    /// When to call `handle(Tick)`, and why. `None`: only when something happens.
    pub fn next_timeout(&self) -> Option<(Instant, Reason)> {
        unimplemented!()
    }

    /// After [`Event::Shutdown`]: whether everything has been said and closed.
    pub fn is_finished(&self) -> bool {
        unimplemented!()
    }
}
