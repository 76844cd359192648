//! One connection between two directors, from VERSION to QUIT (ring protocol, "Handshake").

use std::collections::BTreeSet;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use log::{Level, debug, error, info, log_enabled, warn};

use crate::connections::{Connection, Kind, Phase};
use crate::contract::{ConnectionId, Target};
use crate::director::Director;
use crate::time::{Instant, Now};
use crate::timers::Timer;
use crate::users::Cursor;
use crate::wire::ring::{HostLine, LINE_MAX_BYTES, Line, MAJOR, MINOR, NAME, UpDown, minor};

/// Connecting may take this long.
pub(crate) const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// ME must come within this time of the connection.
const ME_TIMEOUT: Duration = Duration::from_secs(10);
/// The side that connected waits this long for DONE after it last could send something.
const DONE_TIMEOUT_OUTGOING: Duration = Duration::from_secs(30);
/// The side that was connected to waits this long for the next line of the handshake: longer, so that the other side,
/// which knows more, gives up first.
const DONE_TIMEOUT_INCOMING: Duration = Duration::from_secs(40);
/// A connection that ends before this counts as a network failure.
pub(crate) const SHORT_LIFE: Duration = Duration::from_secs(40);
/// A link that is nobody's neighbour is told where it belongs this often.
const STRAY_PAUSE: Duration = Duration::from_secs(3);
/// A newcomer that was told to go elsewhere has this long.
const NEWCOMER_LEAVE_TIMEOUT: Duration = Duration::from_secs(10);
/// A handshake's users are produced when less than this waits to be written…
const PRODUCE_BELOW_BYTES: usize = 16 * 1024;
/// … and until this much waits: enough for one write, little enough to hold nobody up.
const PRODUCE_UNTIL_BYTES: usize = 32 * 1024;
/// Clocks that differ by more than this are worth a warning.
const CLOCK_DIFFERENCE_MAX_SECS: u64 = 1;

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
    pub(crate) me_received: bool,
    /// The handshake is finished.
    pub(crate) done: bool,
    /// No longer part of the ring: only its last bytes go out.
    pub(crate) detached: bool,
    pub(crate) host_mode: Option<HostMode>,
    /// In [`HostMode::Replace`]: our hosts that the handshake has not named yet.
    pub(crate) unmentioned: BTreeSet<IpAddr>,
    pub(crate) consistent_hashing: bool,
    /// Incoming, and better placed than our left: the left that was told of it.
    pub(crate) announced_to: Option<ConnectionId>,
    /// How far our users have been sent.
    pub(crate) users: Option<Cursor>,
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
    /// When the PING was sent that has not been answered yet.
    pub(crate) ping_sent: Option<Instant>,
    pub(crate) ping_millis: u64,
}

impl Link {
    fn new(outgoing: bool, peer: SocketAddr, now: Now) -> Self {
        Self {
            outgoing,
            peer,
            member: outgoing.then_some(peer),
            minor: None,
            me_received: false,
            done: false,
            detached: false,
            host_mode: None,
            unmentioned: BTreeSet::new(),
            consistent_hashing: false,
            announced_to: None,
            users: None,
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
            ping_sent: None,
            ping_millis: 0,
        }
    }

    /// By when the handshake's next step must have come.
    fn handshake_deadline(&self) -> Instant {
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
    pub(crate) fn start_link(&mut self, to: SocketAddr, why: &str, now: Now) {
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
            self.send(id, &Line::Director { address });
        }
    }

    /// VERSION and ME.
    fn greet(&mut self, id: ConnectionId, now: Now) {
        self.send(id, &Line::Version { name: NAME.as_bytes().into(), major: MAJOR, minor: MINOR });
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
    fn blame_short_life(&mut self, id: ConnectionId, now: Now) {
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
    fn detach(&mut self, id: ConnectionId, now: Now) {
        let Some(link) = self.link_mut(id) else { return };
        link.detached = true;
        let cursor = link.users.take();
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
        let result = match Line::parse(line, link.minor.unwrap_or(MINOR)) {
            Ok(parsed) => self.link_command(id, parsed, now),
            Err(error) => Err(Refusal::protocol(error.to_string())),
        };
        match result {
            Ok(()) => self.link(id).is_some_and(|link| !link.detached),
            Err(refusal) => {
                self.refuse_link(id, &refusal, now);
                false
            }
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

    /// What a line means at this point of the handshake; live commands are for [`Director::live_command`].
    fn link_command(&mut self, id: ConnectionId, line: Line<'_>, now: Now) -> Result<(), Refusal> {
        let link = self.link(id).expect("the link was there a moment ago");
        let (outgoing, versioned, me_received, done) =
            (link.outgoing, link.minor.is_some(), link.me_received, link.done);
        match line {
            Line::Quit { reason } => {
                let reason = String::from_utf8_lossy(&reason).escape_debug().to_string();
                warn!("{}: Director disconnected us with reason: {reason}", Label(self, id));
                self.blame_short_life(id, now);
                self.detach(id, now);
                self.close_connection(id, now);
                Ok(())
            }
            Line::Version { name, major, minor } if !versioned => self.link_version(id, &name, major, minor),
            _ if !versioned => Err(Refusal::protocol("The first line was not VERSION")),
            Line::Me { address, unix_secs } if !me_received => self.link_me(id, address, unix_secs, now),
            Line::Version { .. } | Line::Me { .. } => Err(Refusal::protocol("VERSION or ME was sent twice")),
            _ if !me_received => Err(Refusal::protocol("The line after VERSION was not ME")),
            Line::Done if done => Err(Refusal::protocol("DONE was sent twice")),
            Line::Done if outgoing => self.outgoing_done(id, now),
            Line::Done => self.incoming_done(id, now),
            Line::HandshakeHostsStart { .. }
            | Line::HandshakeHost { .. }
            | Line::HandshakeHostsEnd { .. }
            | Line::HandshakeUser { .. }
            | Line::Options { .. }
                if outgoing || done =>
            {
                Err(Refusal::protocol("A line of the handshake came outside of it"))
            }
            Line::HandshakeHostsStart { handshaked } => {
                self.handshake_hosts_start(id, handshaked);
                Ok(())
            }
            Line::HandshakeHost { host } => self.handshake_host(id, &host, now),
            Line::HandshakeHostsEnd { .. } => {
                self.handshake_hosts_end(id, now);
                Ok(())
            }
            Line::HandshakeUser { hash, host, timestamp_secs, weak } => {
                self.handshake_user(id, hash, host, timestamp_secs, weak, now);
                Ok(())
            }
            Line::Options { options } => {
                let link = self.link_mut(id).expect("the link is there");
                link.consistent_hashing |= options.iter().any(|option| &**option == b"consistent-hashing");
                Ok(())
            }
            line => self.live_command(id, line, now),
        }
    }

    fn link_version(&mut self, id: ConnectionId, name: &[u8], major: u32, peer_minor: u32) -> Result<(), Refusal> {
        if name != NAME.as_bytes() {
            let name = String::from_utf8_lossy(name).escape_debug().to_string();
            return Err(Refusal::protocol(format!("Wrong protocol: {name} instead of {NAME}")));
        }
        if major != MAJOR {
            return Err(Refusal::protocol(format!("Incompatible protocol version: {major} instead of {MAJOR}")));
        }
        let tagged = |host: &crate::hosts::Host| host.vhosts > 0 && !self.hosts.tag_name(host.tag).is_empty();
        if peer_minor < minor::TAGS && self.hosts.iter().any(|(_, host)| tagged(host)) {
            return Err(Refusal::plain(format!(
                "It speaks version {MAJOR}.{peer_minor}, which knows no tags, and some of our mail servers have tags"
            )));
        }
        let link = self.link_mut(id).expect("the link is there");
        link.minor = Some(peer_minor.min(MINOR));
        if link.outgoing {
            self.send_handshake(id);
        }
        Ok(())
    }

    /// Our hosts at once, our users as the socket drains.
    fn send_handshake(&mut self, id: ConnectionId) {
        let handshaked = self.ring.handshaked;
        self.send(id, &Line::HandshakeHostsStart { handshaked });
        let numbers: Vec<_> = self.hosts.iter().map(|(number, _)| number).collect();
        for number in numbers {
            let Some(host) = self.hosts.get(number) else { continue };
            let line = Line::HandshakeHost {
                host: HostLine {
                    ip: host.ip,
                    vhosts: host.vhosts,
                    tag: self.hosts.tag_name(host.tag).to_vec().into(),
                    updown: Some(UpDown { down: host.down, changed_secs: host.updown_changed_secs }),
                    hostname: host.hostname.as_deref().map(|name| name.to_vec().into()),
                },
            };
            self.send(id, &line);
        }
        self.send(id, &Line::HandshakeHostsEnd { handshaked });
        let cursor = self.users.cursor();
        self.link_mut(id).expect("the link is there").users = Some(cursor);
        self.connections.announce(id);
    }

    /// Adds users to the output of a handshake when little of it is left, and its end when there are no more.
    /// Returns false when it has looked at enough for one call without finding anybody.
    pub(crate) fn produce_users(&mut self, id: ConnectionId) -> bool {
        let Some(connection) = self.connections.get_mut(id) else { return true };
        let buffered = connection.buffered();
        let Kind::Ring(link) = &mut connection.kind else { return true };
        if buffered >= PRODUCE_BELOW_BYTES {
            return true;
        }
        let Some(mut cursor) = link.users.take() else { return true };
        let peer_minor = link.minor.unwrap_or(MINOR);
        let mut count = 0;
        let mut empty_looks = 0;
        let out = connection.output_mut();
        let limit = out.len() + PRODUCE_UNTIL_BYTES - buffered;
        let finished = loop {
            if out.len() >= limit {
                break false;
            }
            match self.users.next(&mut cursor) {
                None => break true,
                Some(None) => {
                    // Only retired users in sight: come back soon rather than look through millions now.
                    empty_looks += 1;
                    if empty_looks >= 16 {
                        break false;
                    }
                }
                Some(Some(user)) => {
                    let Some(host) = self.hosts.get(user.host) else { continue };
                    let line = Line::HandshakeUser {
                        hash: user.hash,
                        host: host.ip,
                        timestamp_secs: u64::from(user.timestamp_secs),
                        weak: user.weak,
                    };
                    line.write(peer_minor, out);
                    count += 1;
                }
            }
        };
        let before = out.len();
        if finished {
            Line::Options { options: vec![b"consistent-hashing"[..].into()] }.write(peer_minor, out);
            Line::Done.write(peer_minor, out);
        }
        let produced = count > 0 || out.len() > before;
        let Kind::Ring(link) = &mut connection.kind else { return true };
        link.users_sent += count;
        if finished {
            self.users.end(cursor);
            debug!("{}: output: {count} users, OPTIONS, DONE", Label(self, id));
        } else {
            link.users = Some(cursor);
        }
        produced || buffered > 0
    }

    fn link_me(&mut self, id: ConnectionId, address: SocketAddr, unix_secs: u64, now: Now) -> Result<(), Refusal> {
        let difference = now.unix_secs.abs_diff(unix_secs);
        if difference > CLOCK_DIFFERENCE_MAX_SECS {
            warn!("{}: Its clock differs from ours by {difference} seconds", Label(self, id));
        }
        let link = self.link_mut(id).expect("the link is there");
        let peer = link.peer;
        if link.outgoing {
            if address != peer {
                return Err(Refusal::protocol(format!("It says that it is {address}, but we connected to {peer}")));
            }
            link.me_received = true;
            self.timers.set(Timer::Handshake(id), now.instant + DONE_TIMEOUT_OUTGOING);
            return Ok(());
        }
        if address == self.ring.members.self_address() {
            return Err(Refusal::protocol(format!("It says that it is {address}, but that is ourselves")));
        }
        if address.ip() != peer.ip() {
            return Err(Refusal::protocol(format!("It says that it is {address}, but it connects from {}", peer.ip())));
        }
        let link = self.link_mut(id).expect("the link is there");
        link.me_received = true;
        link.member = Some(address);
        self.timers.set(Timer::Handshake(id), now.instant + DONE_TIMEOUT_INCOMING);
        if !self.ring.members.is_listed(address) {
            info!("{}: It is now a member of the ring", Label(self, id));
        }
        let member = self.ring.members.add(address);
        self.timers.clear(Timer::ForgetMember(address));
        member.forget_numbers();
        if member.is_banned(now.instant) {
            return Err(Refusal::plain("Its last protocol failure was a short while ago"));
        }
        match self.ring.left {
            None => {
                let member = self.ring.members.get_mut(address).expect("just added");
                member.reset_network_failure();
                if !self.has_outgoing() {
                    self.connect_right("A director has connected to us", now);
                }
            }
            Some(left) => {
                let left_address = self.link(left).and_then(|link| link.member).expect("a left is a member");
                if left_address == address {
                    self.quit_link(left, "Replaced by a newer connection", now);
                } else if self.ring.members.is_better_left(address, left_address) {
                    self.announce_left(left, id, address);
                } else {
                    self.ring.misplaced.push(id);
                    self.send_ping(left, now);
                }
            }
        }
        Ok(())
    }

    /// Tells our left of a newcomer that sits between us: it will connect there.
    fn announce_left(&mut self, left: ConnectionId, newcomer: ConnectionId, address: SocketAddr) {
        self.send(left, &Line::Connect { address });
        if let Some(link) = self.link_mut(newcomer) {
            link.announced_to = Some(left);
        }
    }

    /// There is a new left. Those who said ME before it was that have to hear now where they belong: when all members
    /// of a ring start at once, several say ME while there is no left to compare them with.
    fn place_earlier_newcomers(&mut self, left: ConnectionId, left_address: SocketAddr) {
        let links = self.ring.links.iter().copied().filter(|&id| id != left);
        let newcomers: Vec<_> = links
            .filter_map(|id| {
                let link = self.link(id)?;
                let told = link.announced_to == Some(left);
                link.member
                    .filter(|&member| !link.outgoing && !told && member != left_address)
                    .map(|member| (id, member))
            })
            .collect();
        for (id, address) in newcomers {
            if self.ring.members.is_better_left(address, left_address) {
                self.announce_left(left, id, address);
            } else if !self.ring.misplaced.contains(&id) {
                self.ring.misplaced.push(id);
            }
        }
    }

    /// Our left lives: newcomers that belong to its left are sent there.
    pub(crate) fn send_misplaced_away(&mut self, now: Now) {
        let Some(left) = self.ring.left.and_then(|left| self.link(left)).and_then(|link| link.member) else { return };
        for id in std::mem::take(&mut self.ring.misplaced) {
            let newcomer = self.link(id).and_then(|link| link.member);
            if newcomer.is_none_or(|newcomer| !self.ring.members.is_better_left(left, newcomer)) {
                continue;
            }
            self.send(id, &Line::Connect { address: left });
            self.timers.set(Timer::NewcomerLeave(id), now.instant + NEWCOMER_LEAVE_TIMEOUT);
        }
    }

    /// Incoming links that are finished and not our left: their members belong elsewhere, or our left does.
    pub(crate) fn strays(&self) -> impl Iterator<Item = (ConnectionId, SocketAddr)> {
        let others = self.ring.links.iter().copied().filter(|&id| self.ring.left != Some(id));
        others.filter_map(|id| {
            let link = self.link(id)?;
            if link.outgoing || !link.done { None } else { Some((id, link.member?)) }
        })
    }

    /// Our left lives. Links that should have gone, or taken its place, and did neither are told again: what was said
    /// the first time may have been lost with another link.
    pub(crate) fn settle_strays(&mut self, now: Now) {
        let Some(left) = self.ring.left else { return };
        let Some(left_address) = self.link(left).and_then(|link| link.member) else { return };
        if now.instant < self.ring.strays_told + STRAY_PAUSE {
            return;
        }
        let strays: Vec<_> = self.strays().filter(|&(id, _)| self.link_age(id, now) >= STRAY_PAUSE).collect();
        for (id, address) in strays {
            self.ring.strays_told = now.instant;
            if self.ring.members.is_better_left(address, left_address) {
                self.send(left, &Line::Connect { address });
            } else {
                self.send(id, &Line::Connect { address: left_address });
            }
        }
    }

    fn link_age(&self, id: ConnectionId, now: Now) -> Duration {
        self.link(id).map_or(Duration::ZERO, |link| now.instant.saturating_since(link.started))
    }

    /// Whether a handshake's DONE comes from one of our kind.
    fn check_done(&self, id: ConnectionId) -> Result<(), Refusal> {
        if self.link(id).is_some_and(|link| link.consistent_hashing) {
            return Ok(());
        }
        Err(Refusal::plain(
            "It does not use consistent hashing: director_consistent_hashing must be yes on all directors",
        ))
    }

    fn incoming_done(&mut self, id: ConnectionId, now: Now) -> Result<(), Refusal> {
        self.check_done(id)?;
        self.link_is_done(id, now);
        self.send(id, &Line::Done);
        let address = self.link(id).and_then(|link| link.member).expect("ME comes before DONE");
        self.forward_director(address, Some(address));
        let replaces = match self.ring.left {
            None => true,
            Some(left) => self.link(left).and_then(|link| link.member) == Some(address),
        };
        if replaces {
            let old = self.ring.left.replace(id);
            if let Some(old) = old {
                self.quit_link(old, "Replaced by a newer connection", now);
            }
            self.ring.misplaced.retain(|&other| other != id);
            self.timers.clear(Timer::NewcomerLeave(id));
            self.neighbours_changed(now);
            self.place_earlier_newcomers(id, address);
            // Its handshake has just proved that it lives.
            self.send_misplaced_away(now);
        } else if let Some(left) = self.ring.left
            && self.link(id).is_some_and(|link| link.announced_to.is_some_and(|told| told != left))
            && let Some(left_address) = self.link(left).and_then(|link| link.member)
            && self.ring.members.is_better_left(address, left_address)
        {
            // Another was our left when it came, and that one was told.
            self.announce_left(left, id, address);
        }
        Ok(())
    }

    /// Our left is gone: the best of those that wait takes its place.
    fn promote_left(&mut self, now: Now) {
        let mut best: Option<(SocketAddr, ConnectionId)> = None;
        for &id in &self.ring.links {
            let Some(link) = self.link(id) else { continue };
            let (false, true, Some(member)) = (link.outgoing, link.done, link.member) else { continue };
            if best.is_none_or(|(other, _)| self.ring.members.is_better_left(member, other)) {
                best = Some((member, id));
            }
        }
        if let Some((_, id)) = best {
            self.ring.left = Some(id);
            self.ring.misplaced.retain(|&other| other != id);
            self.timers.clear(Timer::NewcomerLeave(id));
            self.timers.set(Timer::Ping(id), now.instant);
        }
    }

    fn outgoing_done(&mut self, id: ConnectionId, now: Now) -> Result<(), Refusal> {
        if self.link(id).is_some_and(|link| link.users.is_some()) {
            return Err(Refusal::protocol("DONE came before we had sent ours"));
        }
        self.link_is_done(id, now);
        let address = self.link(id).expect("the link is there").peer;
        if let Some(right) = self.ring.right {
            let right_address = self.link(right).map(|link| link.peer).expect("a right is a link");
            if right_address != address && !self.ring.members.is_better_right(address, right_address) {
                self.quit_link(id, "Our right is nearer", now);
                return Ok(());
            }
            self.ring.right = Some(id);
            self.quit_link(right, "A nearer director was found", now);
        }
        self.ring.right = Some(id);
        self.right_found(now);
        Ok(())
    }

    fn link_is_done(&mut self, id: ConnectionId, now: Now) {
        let link = self.link_mut(id).expect("the link is there");
        link.done = true;
        info!(
            "{}: Handshake finished in {:.3} secs ({})",
            Label(self, id),
            now.instant.saturating_since(self.link(id).map_or(now.instant, |link| link.started)).as_secs_f64(),
            self.link_statistics(id, now)
        );
        self.timers.clear(Timer::Handshake(id));
        self.arm_ping(id, now);
    }

    /// The time of a link's handshake timer has come; its deadline may have moved meanwhile.
    pub(crate) fn handshake_timeout(&mut self, id: ConnectionId, now: Now) {
        let connecting = self.connections.get(id).is_some_and(|connection| connection.phase == Phase::Connecting);
        if connecting {
            self.link_failed(id, "Timed out", now);
            self.connections.abort(id);
            return;
        }
        let Some(link) = self.link(id) else { return };
        let deadline = link.handshake_deadline();
        if now.instant < deadline {
            self.timers.set(Timer::Handshake(id), deadline);
            return;
        }
        let what = if link.me_received { "DONE" } else { "ME" };
        let unread = link.outgoing && self.connections.get(id).is_some_and(|connection| connection.buffered() > 0);
        let reason = format!("Handshake timed out: no {what}");
        if unread {
            self.abort_link(id, &format!("{reason}, and it reads nothing"), now);
        } else {
            self.refuse_link(id, &Refusal::plain(reason), now);
        }
    }

    /// Figures of a link for the log.
    fn link_statistics(&self, id: ConnectionId, now: Now) -> String {
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
