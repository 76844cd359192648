//! One connection between two directors, from VERSION to QUIT (ring protocol, "Handshake").

use std::collections::BTreeSet;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use log::{Level, debug, error, info, log_enabled, warn};

use crate::connections::{Connection, Kind, Phase};
use crate::contract::{ConnectionId, Target};
use crate::director::Director;
use crate::ring::handshake::{DONE_TIMEOUT_INCOMING, DONE_TIMEOUT_OUTGOING};
use crate::time::{Instant, Now};
use crate::timers::Timer;
use crate::users::Cursor;
use crate::wire::ring::{LINE_MAX_BYTES, Line, MAJOR, NAME};

/// Connecting may take this long.
pub(crate) const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// ME must come within this time of the connection.
const ME_TIMEOUT: Duration = Duration::from_secs(10);
/// A connection that ends before this counts as a network failure.
pub(crate) const SHORT_LIFE: Duration = Duration::from_secs(40);

/// What to do with the HOST lines of an incoming handshake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HostMode {
    /// They know more than we do: take theirs, forget the others.
    Replace,
    /// They join us: ours stand.
    Ignore,
    /// Both know something.
    Merge,
}

/// A link to or from another director.
#[derive(Debug)]
pub(crate) struct Link {
    /// We connected.
    pub(crate) outgoing: bool,
    /// The address the connection came from, or that we connected to.
    pub(crate) peer: SocketAddr,
    /// The member at the other end; of an incoming link it is known once ME was read.
    pub(crate) member: Option<SocketAddr>,
    /// The peer's minor version, at most ours, once VERSION was read.
    pub(crate) minor: Option<u32>,
    /// The members of which the peer was told that they have come back, before its VERSION came.
    pub(crate) members_told: BTreeSet<SocketAddr>,
    pub(crate) me_received: bool,
    /// The handshake is finished.
    pub(crate) done: bool,
    /// No longer part of the ring: only its last bytes go out.
    pub(crate) detached: bool,
    pub(crate) host_mode: Option<HostMode>,
    /// In [`HostMode::Replace`]: our hosts that the handshake has not named yet.
    pub(crate) unmentioned: BTreeSet<IpAddr>,
    /// The handshake's backends were taken over, instead of ours.
    pub(crate) hosts_taken_over: bool,
    pub(crate) consistent_hashing: bool,
    /// Incoming, and better placed than our left: the left that was told of it.
    pub(crate) announced_to: Option<ConnectionId>,
    /// We were told to connect, and this is our right until the handshake is finished, or has failed.
    pub(crate) replaces: Option<ConnectionId>,
    /// How far our users have been sent.
    pub(crate) users: Option<Cursor>,
    /// We hand over our users, and our right will know all of them when it has answered so many PINGs on that link.
    pub(crate) right_asked: Option<(ConnectionId, u64)>,
    /// The other end hands over its users, and has said that who is at the end of that link knows them.
    pub(crate) known_to: Option<ConnectionId>,
    pub(crate) users_sent: u64,
    pub(crate) users_received: u64,
    pub(crate) updates_received: u64,
    pub(crate) unknown_host_users: u64,
    pub(crate) started: Instant,
    pub(crate) last_input: Instant,
    pub(crate) last_output: Instant,
    pub(crate) last_input_unix_secs: u64,
    pub(crate) last_output_unix_secs: u64,
    pub(crate) bytes_in: u64,
    pub(crate) bytes_out: u64,
    pub(crate) peak_buffered: usize,
    pub(crate) pings_sent: u64,
    pub(crate) pongs_received: u64,
    /// When the PING was sent that has not been answered yet.
    pub(crate) ping_sent: Option<Instant>,
    pub(crate) ping_millis: u64,
    /// When the last PING was sent, or the link began.
    pub(crate) last_ping: Instant,
}

impl Link {
    fn new(outgoing: bool, peer: SocketAddr, now: Now) -> Self {
        Self {
            outgoing,
            peer,
            member: outgoing.then_some(peer),
            minor: None,
            members_told: BTreeSet::new(),
            me_received: false,
            done: false,
            detached: false,
            host_mode: None,
            unmentioned: BTreeSet::new(),
            hosts_taken_over: false,
            consistent_hashing: false,
            announced_to: None,
            replaces: None,
            users: None,
            right_asked: None,
            known_to: None,
            users_sent: 0,
            users_received: 0,
            updates_received: 0,
            unknown_host_users: 0,
            started: now.instant,
            last_input: now.instant,
            last_output: now.instant,
            last_input_unix_secs: now.unix_secs,
            last_output_unix_secs: now.unix_secs,
            bytes_in: 0,
            bytes_out: 0,
            peak_buffered: 0,
            pings_sent: 0,
            pongs_received: 0,
            ping_sent: None,
            last_ping: now.instant,
            ping_millis: 0,
        }
    }

    /// By when the handshake's next step must have come.
    pub(crate) fn handshake_deadline(&self) -> Instant {
        if !self.me_received {
            self.started + ME_TIMEOUT
        } else if self.outgoing {
            self.last_output.max(self.last_input) + DONE_TIMEOUT_OUTGOING
        } else {
            self.last_input + DONE_TIMEOUT_INCOMING
        }
    }
}

/// Why a link is closed: the peer's fault.
#[derive(Debug)]
pub(crate) struct Refusal {
    /// For QUIT and the log.
    pub(crate) reason: String,
    /// It broke the protocol: nothing is tried with this member for a while.
    pub(crate) protocol_failure: bool,
}

impl Refusal {
    pub(crate) fn protocol(reason: impl Into<String>) -> Self {
        Self { reason: reason.into(), protocol_failure: true }
    }

    pub(crate) fn plain(reason: impl Into<String>) -> Self {
        Self { reason: reason.into(), protocol_failure: false }
    }
}

/// A link's name in the log, such as `director(127.0.1.2:9090/right)`.
pub(crate) struct Label<'a>(pub(crate) &'a Director, pub(crate) ConnectionId);

impl fmt::Display for Label<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(director, id) = *self;
        let Some(link) = director.link(id) else { return formatter.write_str("director(closed)") };
        match link.member {
            Some(member) => write!(formatter, "director({member}/{})", director.link_type(id)),
            None => write!(formatter, "director({}/in)", link.peer.ip()),
        }
    }
}

impl Director {
    pub(crate) fn link(&self, id: ConnectionId) -> Option<&Link> {
        match self.connections.get(id) {
            Some(Connection { kind: Kind::Ring(link), .. }) => Some(link),
            _ => None,
        }
    }

    pub(crate) fn link_mut(&mut self, id: ConnectionId) -> Option<&mut Link> {
        match self.connections.get_mut(id) {
            Some(Connection { kind: Kind::Ring(link), .. }) => Some(link),
            _ => None,
        }
    }

    /// What a link is to us, in the words of DIRECTOR-LIST.
    pub(crate) fn link_type(&self, id: ConnectionId) -> &'static str {
        if self.ring.left == Some(id) {
            "left"
        } else if self.ring.right == Some(id) {
            "right"
        } else if self.link(id).is_some_and(|link| link.outgoing) {
            "out"
        } else {
            "in"
        }
    }

    /// Another director has connected.
    pub(crate) fn accept_link(&mut self, peer: SocketAddr, now: Now) -> ConnectionId {
        let link = Link::new(false, peer, now);
        let id = self.connections.add(Kind::Ring(Box::new(link)), Phase::Open, LINE_MAX_BYTES);
        if self.finishing || !self.ring.members.is_listed_ip(peer.ip()) {
            if !self.finishing {
                warn!(
                    "director({}/in): Connection from an address that is not in director_servers: dropped",
                    peer.ip()
                );
            }
            self.link_mut(id).expect("just added").detached = true;
            self.connections.abort(id);
            return id;
        }
        info!("director({}/in): Incoming connection from director {}/in", peer.ip(), peer.ip());
        self.ring.links.push(id);
        self.greet(id, now);
        id
    }

    /// Connects to a member. The link becomes our right when its handshake is finished.
    pub(crate) fn start_link(&mut self, to: SocketAddr, why: &str, now: Now) -> ConnectionId {
        let from = self.ring.members.self_address();
        info!("Connecting to {to} (as {}): {why}", from.ip());
        if let Some(member) = self.ring.members.get_mut(to) {
            member.forget_numbers();
            member.connect_begins(now);
        }
        let link = Link::new(true, to, now);
        let id = self.connections.add(Kind::Ring(Box::new(link)), Phase::Connecting, LINE_MAX_BYTES);
        self.ring.links.push(id);
        self.timers.set(Timer::Handshake(id), now.instant + CONNECT_TIMEOUT);
        self.connections
            .act(crate::contract::Action::Connect { connection: id, target: Target::Ring { to, from: from.ip() } });
        id
    }

    /// A link that we asked for is there.
    pub(crate) fn link_connected(&mut self, id: ConnectionId, now: Now) {
        let Some(link) = self.link_mut(id) else { return };
        if link.detached {
            return;
        }
        link.started = now.instant;
        link.last_input = now.instant;
        let to = link.peer;
        if let Some(member) = self.ring.members.get_mut(to) {
            member.link_made();
        }
        self.greet(id, now);
        let members: Vec<_> =
            self.ring.members.iter().filter(|(_, member)| !member.removed).map(|(address, _)| address).collect();
        for address in members {
            self.send(id, &Line::Director { address, name: None });
        }
    }

    /// VERSION and ME.
    fn greet(&mut self, id: ConnectionId, now: Now) {
        self.send(id, &Line::Version { name: NAME.as_bytes().into(), major: MAJOR, minor: self.tuning.ring_minor });
        let address = self.ring.members.self_address();
        self.send(id, &Line::Me { address, unix_secs: now.unix_secs });
        self.timers.set(Timer::Handshake(id), now.instant + ME_TIMEOUT);
    }

    /// A link could not be made.
    pub(crate) fn link_failed(&mut self, id: ConnectionId, reason: &str, now: Now) {
        let Some(link) = self.link(id) else { return };
        if link.detached {
            return;
        }
        let to = link.peer;
        // A member that has been down for long would fill the log: its failures are told until it is set aside.
        let known = self.ring.members.get(to).is_some_and(|member| member.network_failure.is_some());
        if known {
            debug!("director({to}/out): connect() failed: {reason}");
        } else {
            warn!("director({to}/out): connect() failed: {reason}");
        }
        if let Some(member) = self.ring.members.get_mut(to) {
            member.connect_failed(now);
        }
        self.detach(id, now);
    }

    /// A link has ended by itself.
    pub(crate) fn link_closed(&mut self, id: ConnectionId, reason: &str, now: Now) {
        let Some(link) = self.link(id) else { return };
        if link.detached {
            return;
        }
        error!("{}: Director disconnected: {reason} ({})", Label(self, id), self.link_statistics(id, now));
        self.blame_short_life(id, now);
        self.detach(id, now);
    }

    /// A link ends by the peer's fault, or the network's: if it was short, the next try has to wait.
    pub(crate) fn blame_short_life(&mut self, id: ConnectionId, now: Now) {
        let Some(link) = self.link(id) else { return };
        if !link.outgoing || now.instant.saturating_since(link.started) >= SHORT_LIFE {
            return;
        }
        let to = link.peer;
        if let Some(member) = self.ring.members.get_mut(to) {
            member.link_flapped(now);
        }
    }

    /// Closes a link: QUIT with the reason, if there is one, then the rest of its output, then the end.
    pub(crate) fn quit_link(&mut self, id: ConnectionId, reason: &str, now: Now) {
        if self.link(id).is_none_or(|link| link.detached) {
            return;
        }
        self.send(id, &Line::Quit { reason: reason.as_bytes().into() });
        self.detach(id, now);
        self.close_connection(id, now);
    }

    /// Closes a link by the peer's fault.
    pub(crate) fn refuse_link(&mut self, id: ConnectionId, refusal: &Refusal, now: Now) {
        let Some(link) = self.link(id) else { return };
        if link.detached {
            return;
        }
        let member = link.member;
        error!("{}: {} - disconnecting ({})", Label(self, id), refusal.reason, self.link_statistics(id, now));
        if refusal.protocol_failure {
            if let Some(member) = member.and_then(|address| self.ring.members.get_mut(address)) {
                member.protocol_failure = Some(super::members::Failure { at: now.instant, unix_secs: now.unix_secs });
            }
        } else {
            self.blame_short_life(id, now);
        }
        self.quit_link(id, &refusal.reason, now);
    }

    /// Drops a link at once: it takes no output, or answers nothing.
    pub(crate) fn abort_link(&mut self, id: ConnectionId, reason: &str, now: Now) {
        if self.link(id).is_none_or(|link| link.detached) {
            return;
        }
        error!("{}: {reason} - disconnecting ({})", Label(self, id), self.link_statistics(id, now));
        self.blame_short_life(id, now);
        self.detach(id, now);
        self.connections.abort(id);
    }

    /// Takes a link out of the ring; what it was is found anew.
    pub(crate) fn detach(&mut self, id: ConnectionId, now: Now) {
        let Some(link) = self.link_mut(id) else { return };
        link.detached = true;
        let cursor = link.users.take();
        let replaces = link.replaces.take().filter(|_| !link.done);
        if let Some(cursor) = cursor {
            self.users.end(cursor);
        }
        for timer in [Timer::Handshake(id), Timer::Ping(id), Timer::NewcomerLeave(id)] {
            self.timers.clear(timer);
        }
        self.ring.links.retain(|&other| other != id);
        self.ring.misplaced.retain(|&other| other != id);
        let was_left = self.ring.left == Some(id);
        let was_right = self.ring.right == Some(id);
        if was_left {
            self.ring.left = None;
        }
        if was_right {
            self.ring.right = None;
        }
        if self.finishing {
            return;
        }
        if was_left {
            self.promote_left(now);
        }
        if was_left || was_right {
            self.neighbour_lost(now);
        }
        if self.ring.right.is_none() {
            self.connect_right("Reconnecting after disconnection", now);
        } else {
            // It may have been a try to reach the preferred one: there will be another.
            self.check_preferred_right(now);
        }
        if let Some(right) = replaces.filter(|&right| self.ring.right == Some(right)) {
            // Who has said CONNECT does not want to be our right, be it that the ring finds itself in another order.
            self.quit_link(right, "CONNECT requested", now);
        }
    }

    /// One line from another director. Returns whether to go on reading.
    pub(crate) fn link_line(&mut self, id: ConnectionId, line: &[u8], now: Now) -> bool {
        if log_enabled!(Level::Debug) {
            debug!("{}: input: {}", Label(self, id), line.escape_ascii());
        }
        let Some(link) = self.link(id) else { return false };
        if link.detached {
            return false;
        }
        if self.plain_user_told(id, line, now) {
            return true;
        }
        let Some(link) = self.link(id) else { return false };
        let result = match Line::parse(line, link.minor.unwrap_or(self.tuning.ring_minor)) {
            Ok(parsed) => self.link_command(id, parsed, now),
            Err(error) => {
                let refusal = Refusal::protocol(error.to_string());
                self.merge_told_users(id, now);
                Err(refusal)
            }
        };
        match result {
            Ok(()) => self.link(id).is_some_and(|link| !link.detached),
            Err(refusal) => {
                self.refuse_link(id, &refusal, now);
                false
            }
        }
    }

    /// The users of a handshake that are news go on to others: while those take them slowly, no more are read. Links
    /// that are finished are always read, so no circle of directors can wait for each other.
    pub(crate) fn update_link_reading(&mut self, id: ConnectionId) {
        let Some(link) = self.link(id) else { return };
        if link.detached || (link.done && self.connections.is_reading(id)) {
            return;
        }
        let finished = self.ring.links.iter().filter(|&&other| self.link(other).is_some_and(|link| link.done));
        let buffered = finished.filter_map(|&other| self.connections.get(other)).map(Connection::buffered).max();
        let wanted = link.done || buffered.unwrap_or(0) < self.tuning.output_buffer_bytes / 4;
        self.connections.set_reading(id, wanted);
        if !wanted && !self.ring.held_links.contains(&id) {
            self.ring.held_links.push(id);
        }
    }

    /// Bytes have come in on a link.
    pub(crate) fn link_input(&mut self, id: ConnectionId, bytes: usize, now: Now) {
        if let Some(link) = self.link_mut(id) {
            link.last_input = now.instant;
            link.last_input_unix_secs = now.unix_secs;
            link.bytes_in += bytes as u64;
        }
    }

    /// The socket took output of a link.
    pub(crate) fn link_output(&mut self, id: ConnectionId, bytes: usize, now: Now) {
        if let Some(link) = self.link_mut(id) {
            link.last_output = now.instant;
            link.last_output_unix_secs = now.unix_secs;
            link.bytes_out += bytes as u64;
        }
    }

    /// How many bytes the socket will have taken of a link when all that waits now has gone out.
    pub(crate) fn output_end(&self, id: ConnectionId) -> Option<u64> {
        let connection = self.connections.get(id)?;
        Some(self.link(id)?.bytes_out + connection.buffered() as u64)
    }

    /// Figures of a link for the log.
    pub(crate) fn link_statistics(&self, id: ConnectionId, now: Now) -> String {
        let Some(link) = self.link(id) else { return String::new() };
        format!(
            "bytes in={}, bytes out={}, {}+{} USERs received, {} USERs sent in handshake, last input {:.3} s ago, \
             last output {:.3} s ago, connected {:.3} s ago, {} peak output buffer size",
            link.bytes_in,
            link.bytes_out,
            link.users_received,
            link.updates_received,
            link.users_sent,
            now.instant.saturating_since(link.last_input).as_secs_f64(),
            now.instant.saturating_since(link.last_output).as_secs_f64(),
            now.instant.saturating_since(link.started).as_secs_f64(),
            link.peak_buffered
        )
    }
}
