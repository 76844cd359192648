//! The director: owns hosts, users, ring and connections, and is the only type that a runtime meets.

use std::collections::{BTreeMap, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use log::{Level, debug, error, info, log_enabled, warn};

use crate::connections::{Connection, Connections, Kind, Phase};
use crate::contract::{Action, ConnectionId, Event, Role};
use crate::hosts::{Host, Hosts};
use crate::kick::Kicks;
use crate::login::Protocol;
use crate::lookup::Lookups;
use crate::moves::Kills;
use crate::resets::Resets;
use crate::ring::Ring;
use crate::ring::commands::VHOSTS_DEFAULT;
use crate::ring::link::Refusal;
use crate::ring::users::ToldUser;
use crate::settings::{Configuration, ConfiguredHost, Tuning};
use crate::time::{Instant, Now};
use crate::timers::{Timer, Timers};
use crate::users::Users;
use crate::wire::auth;
use crate::wire::line::LineBuffer;
use crate::wire::notify;

/// Why the core wants to be called at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Reason {
    /// Users may expire.
    UserExpiry,
    /// What users of a removed host occupied is to be freed, a batch at a time.
    UserSweep,
    /// Lookups wait: the oldest fails, or a batch is tried again.
    Lookup,
    /// Another director is to be connected to.
    RingConnect,
    /// A link's handshake takes too long.
    RingHandshake,
    /// A link is to be pinged, or has not answered.
    RingPing,
    /// Our SYNC has not come back.
    RingSync,
    /// A removed member is to be forgotten.
    RingMember,
    /// An administrator's command has waited for the ring for long enough.
    Admin,
    /// A user is being moved.
    Kill,
    /// A connection does not take its last bytes.
    Close,
    /// anvil has not greeted or answered.
    Kick,
}

/// A closing connection has this long to take its last bytes.
const LINGER: Duration = Duration::from_secs(2);
/// A tick that comes so late means that the process stood still. Others act on silence after 30 s, but on a link that
/// broke at once; and to ask costs one round of the ring.
const STOOD_STILL: Duration = Duration::from_secs(2);
/// At most so many timers fire in one tick: the rest come at the next, a millisecond later.
const TIMERS_PER_TICK: usize = 1024;

/// A director.
#[derive(Debug)]
pub struct Director {
    pub(crate) tuning: Tuning,
    /// The hosts of the configuration, to compare with.
    pub(crate) initial: Hosts,
    pub(crate) hosts: Hosts,
    pub(crate) users: Users,
    pub(crate) ring: Ring,
    pub(crate) lookups: Lookups,
    pub(crate) kills: Kills,
    pub(crate) resets: Resets,
    pub(crate) kicks: Kicks,
    pub(crate) connections: Connections,
    pub(crate) timers: Timers,
    /// How many commands administrators have given so far.
    pub(crate) admin_commands: u64,
    /// Administrators whose commands wait for the ring, by the number of the command: the order in which they came.
    pub(crate) admins_waiting: BTreeMap<u64, ConnectionId>,
    /// They may go on, at the end of this batch.
    pub(crate) admins_wake: bool,
    /// Administrators' kicks may go on, at the end of this batch.
    pub(crate) kicks_wake: bool,
    /// Those that wait, in the order in which they came.
    pub(crate) kicks_waiting: VecDeque<ConnectionId>,
    /// Links whose output has grown too large in this batch.
    pub(crate) overflowed: Vec<ConnectionId>,
    pub(crate) sweep_wanted: bool,
    /// When we last went on after standing still.
    awake_since: Instant,
    /// The process ends.
    pub(crate) finishing: bool,
    /// Reused for lines being written.
    pub(crate) scratch: Vec<u8>,
    /// What the link that is being read has said of users since they were last merged.
    pub(crate) told_users: Vec<ToldUser>,
    configured: (SocketAddr, Vec<SocketAddr>, Vec<ConfiguredHost>),
}

impl Director {
    /// A director that has just started. It connects to its ring at once: poll its actions.
    ///
    /// `seed` keys the index of users against chosen collisions, and begins the numbers that a director of an earlier life
    /// must not have used: so it should differ from life to life. The same seed and the same calls give the same bytes.
    pub fn new(configuration: Configuration, seed: u64, now: Now) -> Self {
        let Configuration { self_address, members, hosts, tuning } = configuration;
        // A seed may differ from another in any of its bits.
        let life = (seed ^ now.unix_secs.rotate_left(32)).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
        let life = u32::try_from(life).expect("what is left are 32 bits");
        let mut director = Self {
            initial: configured_hosts(&hosts),
            hosts: configured_hosts(&hosts),
            users: Users::new(tuning.user_expire_secs, seed, now),
            ring: Ring::new(self_address, &members, tuning.ring_minor, life, now),
            lookups: Lookups::default(),
            kills: Kills::default(),
            resets: Resets::default(),
            kicks: Kicks::default(),
            connections: Connections::default(),
            timers: Timers::default(),
            admin_commands: 0,
            admins_waiting: BTreeMap::new(),
            admins_wake: false,
            kicks_wake: false,
            kicks_waiting: VecDeque::new(),
            overflowed: Vec::new(),
            sweep_wanted: false,
            awake_since: now.instant,
            finishing: false,
            scratch: Vec::new(),
            told_users: Vec::new(),
            configured: (self_address, members, hosts),
            tuning,
        };
        director.connect_right("Initial connection", now);
        director.end_batch(now);
        director
    }

    /// A connection came in on a listening socket of that role (for a FIFO: it was opened). `peer` is its address if
    /// it has one.
    pub fn accept(&mut self, role: Role, peer: Option<SocketAddr>, now: Now) -> ConnectionId {
        self.look_at_clock(now);
        let id = match role {
            Role::Ring => {
                let peer = peer.map_or_else(|| SocketAddr::from(([0, 0, 0, 0], 0)), canonical);
                self.accept_link(peer, now)
            }
            Role::Login => self.accept_client(Protocol::Login),
            Role::Userdb => self.accept_client(Protocol::Userdb),
            Role::AuthReply => {
                let kind = Kind::AuthReply { greeted: false, waiting: 0 };
                let id = self.connections.add(kind, Phase::Open, auth::LINE_MAX_BYTES);
                self.connections.write(id, auth::AUTHREPLY_SERVER_VERSION_LINE);
                id
            }
            Role::Admin => self.accept_admin(),
            Role::Notify => self.connections.add(Kind::Notify, Phase::Open, notify::LINE_MAX_BYTES),
        };
        if self.finishing {
            self.connections.abort(id);
        } else if matches!(role, Role::Login | Role::Userdb | Role::AuthReply) {
            self.look_for_kick_socket(now);
        }
        self.end_batch(now);
        id
    }

    /// Something happened.
    pub fn handle(&mut self, event: Event<'_>, now: Now) {
        self.look_at_clock(now);
        match event {
            Event::Connected { connection } => self.connected(connection, now),
            Event::ConnectFailed { connection, error } => self.connect_failed(connection, error, now),
            Event::Received { connection, bytes } => self.received(connection, bytes, now),
            Event::Written { connection, bytes } => self.written(connection, bytes, now),
            Event::Closed { connection, error } => self.closed(connection, error, now),
            Event::Tick => self.tick(now),
            Event::Reload(configuration) => self.reload(*configuration, now),
            Event::Shutdown => self.shut_down(now),
        }
        self.end_batch(now);
    }

    /// The next thing to do, until `None`.
    pub fn poll_action(&mut self) -> Option<Action> {
        self.connections.poll_action()
    }

    /// The bytes that wait to be written to a connection, or the first part of them; empty: none now. Tell with
    /// [`Event::Written`] how many of them the socket took, and ask again.
    pub fn poll_output(&mut self, connection: ConnectionId, now: Now) -> &[u8] {
        let produced = match self.connections.get(connection).map(|connection| &connection.kind) {
            Some(Kind::Ring(link)) if link.users.is_some() => self.produce_users(connection),
            Some(Kind::Admin(_)) => self.produce_user_list(connection, now),
            _ => true,
        };
        let empty = self.connections.get(connection).is_none_or(|connection| connection.buffered() == 0);
        if empty {
            self.connections.drained(connection);
            if !produced {
                // There is more, but finding it takes longer than one call should.
                self.connections.announce(connection);
            }
        }
        self.connections.get(connection).map_or(&[], Connection::output)
    }

    /// When to call `handle(Tick)`, and why. `None`: only when something happens.
    pub fn next_timeout(&self) -> Option<(Instant, Reason)> {
        self.timers.next()
    }

    /// After [`Event::Shutdown`]: whether everything has been said and closed.
    pub fn is_finished(&self) -> bool {
        self.finishing && self.connections.len() == 0
    }

    /// How many users the map holds.
    pub fn user_count(&self) -> usize {
        self.users.len()
    }

    /// Whether we stood still: then the others may have gone on without us, and what we know of users is old.
    fn look_at_clock(&mut self, now: Now) {
        let Some((due, _)) = self.timers.next() else { return };
        // A timer may stay due for a few more events: they come after the same standstill.
        let late = now.instant.saturating_since(due.max(self.awake_since));
        if late < STOOD_STILL {
            return;
        }
        self.awake_since = now.instant;
        if self.ring.has_no_neighbours() {
            return;
        }
        warn!("We stood still for {:.3} secs: asking the ring before serving logins", late.as_secs_f64());
        self.ring.doubtful = true;
        self.want_sync();
    }

    /// What follows from a batch of input as a whole.
    fn end_batch(&mut self, now: Now) {
        for id in std::mem::take(&mut self.ring.held_links) {
            self.update_link_reading(id);
        }
        for id in std::mem::take(&mut self.overflowed) {
            self.abort_link(id, "Output buffer full", now);
        }
        if !self.finishing {
            self.sync_if_wanted(now);
            self.wake_admins(now);
            self.wake_kicks(now);
            self.wake_resets(now);
        }
        if std::mem::take(&mut self.sweep_wanted) {
            self.sweep(now);
        }
        debug_assert!(self.overflowed.is_empty() || self.finishing, "a batch's last words do not overflow");
    }

    fn connected(&mut self, id: ConnectionId, now: Now) {
        let Some(connection) = self.connections.get(id) else { return };
        if connection.phase != Phase::Connecting {
            return;
        }
        self.connections.opened(id);
        self.link_connected(id, now);
        self.kick_connected(id, now);
    }

    fn connect_failed(&mut self, id: ConnectionId, error: &str, now: Now) {
        match self.connections.get(id).map(|connection| (&connection.kind, connection.phase)) {
            Some((Kind::Ring(_), Phase::Connecting)) => self.link_failed(id, error, now),
            Some((Kind::Auth(relay), _)) => {
                let relay = *relay;
                self.auth_failed(relay, error, now);
            }
            Some((Kind::Ipc | Kind::Anvil, _)) => self.kick_connection_closed(id, error, now),
            Some((Kind::Flush(_), _)) => self.flush_ended(id, Some(error), now),
            _ => {}
        }
        self.connections.remove(id);
    }

    /// Bytes came in: they are cut into lines, and each goes to whom it concerns.
    fn received(&mut self, id: ConnectionId, bytes: &[u8], now: Now) {
        let Some(connection) = self.connections.get_mut(id) else { return };
        if connection.phase != Phase::Open {
            return;
        }
        if let Kind::Client(relay) = connection.kind {
            if log_enabled!(Level::Debug) {
                // They pass as they are; only the log wants lines.
                let result = connection.lines.feed(bytes, |line| {
                    debug!("auth({id}): input: {}", auth::printable(line));
                    true
                });
                if result.is_err() {
                    // The rest of a line that is too long may be the second half of a secret: nothing more is logged.
                    connection.lines = LineBuffer::new(0);
                }
            }
            self.client_input(relay, bytes);
            self.update_reading(relay.other);
            return;
        }
        // What an auth server says is output for its client.
        let grows = if let Kind::Auth(relay) = connection.kind { relay.other } else { id };
        let max_bytes = connection.lines.max_bytes();
        let mut lines = std::mem::replace(&mut connection.lines, LineBuffer::new(max_bytes));
        self.link_input(id, bytes.len(), now);
        let result = lines.feed(bytes, |line| self.line(id, line, now));
        self.merge_told_users(id, now);
        if let Err(too_long) = result {
            self.line_too_long(id, too_long.max_bytes, now);
        } else if let Some(connection) = self.connections.get_mut(id) {
            connection.lines = lines;
        }
        self.update_reading(grows);
        self.update_link_reading(id);
    }

    /// One line. Returns whether to go on with what came with it.
    fn line(&mut self, id: ConnectionId, line: &[u8], now: Now) -> bool {
        let Some(connection) = self.connections.get(id) else { return false };
        if connection.phase != Phase::Open {
            return false;
        }
        match connection.kind {
            Kind::Ring(_) => self.link_line(id, line, now),
            Kind::Auth(relay) => {
                self.auth_line(relay, line, now);
                true
            }
            Kind::AuthReply { .. } => self.authreply_line(id, line, now),
            Kind::Admin(_) => self.admin_line(id, line, now),
            Kind::Notify => {
                self.notify_line(line, now);
                true
            }
            Kind::Ipc => self.ipc_line(id, line, now),
            Kind::Anvil => self.anvil_line(id, line, now),
            Kind::Flush(_) => self.flush_line(id, line),
            Kind::Client(_) => unreachable!("what a client says is not cut into lines"),
        }
    }

    fn line_too_long(&mut self, id: ConnectionId, max_bytes: usize, now: Now) {
        let reason = format!("A line was longer than {max_bytes} bytes");
        let Some(connection) = self.connections.get(id) else { return };
        match connection.kind {
            Kind::Ring(_) => self.refuse_link(id, &Refusal::protocol(reason), now),
            Kind::Auth(relay) => {
                error!("auth({id}): {reason} - disconnecting");
                self.connections.abort(id);
                self.connections.abort(relay.other);
            }
            Kind::Admin(_) => {
                error!("admin({id}): {reason} - disconnecting");
                self.connections.write(id, format!("{reason}\n").as_bytes());
                self.close_connection(id, now);
            }
            Kind::AuthReply { .. } => {
                error!("authreply({id}): {reason} - disconnecting");
                self.close_connection(id, now);
            }
            Kind::Ipc | Kind::Anvil => {
                let socket = if matches!(connection.kind, Kind::Ipc) { "ipc" } else { "anvil" };
                error!("{socket}: {reason} - disconnecting");
                self.connections.abort(id);
                self.kick_connection_closed(id, &reason, now);
            }
            Kind::Flush(_) => {
                self.flush_ended(id, Some(&reason), now);
                self.connections.abort(id);
            }
            // A FIFO has no end to close, and the next line may be a good one.
            Kind::Notify => error!("notify: {reason}: ignored"),
            Kind::Client(_) => {}
        }
    }

    fn written(&mut self, id: ConnectionId, bytes: usize, now: Now) {
        self.connections.written(id, bytes);
        self.link_output(id, bytes, now);
        self.update_reading(id);
    }

    fn closed(&mut self, id: ConnectionId, error: Option<&str>, now: Now) {
        self.timers.clear(Timer::Linger(id));
        let Some(connection) = self.connections.get(id) else { return };
        let reason = error.unwrap_or("Connection closed");
        match connection.kind {
            Kind::Ring(_) => self.link_closed(id, reason, now),
            Kind::Client(relay) | Kind::Auth(relay) => self.relay_closed(relay.other, now),
            Kind::Ipc | Kind::Anvil => self.kick_connection_closed(id, reason, now),
            Kind::Flush(_) => self.flush_ended(id, error, now),
            Kind::Admin(_) => {
                if !self.admin_closed(id) && !self.finishing {
                    if let Some(connection) = self.connections.get_mut(id) {
                        connection.phase = Phase::Aborted;
                    }
                    return;
                }
                self.admin_waits_no_more(id);
            }
            Kind::AuthReply { .. } | Kind::Notify => {}
        }
        self.connections.remove(id);
    }

    fn tick(&mut self, now: Now) {
        for _ in 0..TIMERS_PER_TICK {
            let Some(timer) = self.timers.pop_due(now.instant) else { return };
            match timer {
                Timer::UserExpiry => self.expire_users(now),
                Timer::Sweep => self.sweep(now),
                Timer::LookupRetry => self.retry_lookups(now),
                Timer::LookupTimeout => self.time_out_lookups(now),
                Timer::LookupWarning => self.warn_of_waiting_lookups(now),
                Timer::Reconnect => self.reconnect(now),
                Timer::PreferredRight => self.connect_preferred(now),
                Timer::SyncResend => self.resend_sync(now),
                Timer::ForgetMember(address) => self.forget_member(address),
                Timer::Handshake(id) => self.handshake_timeout(id, now),
                Timer::Ping(id) => self.ping_timeout(id, now),
                Timer::NewcomerLeave(id) => {
                    self.refuse_link(id, &Refusal::plain("It was told to connect elsewhere"), now);
                }
                Timer::Linger(id) => {
                    self.connections.abort(id);
                }
                Timer::AdminSync(id) => self.admin_sync_timed_out(id, now),
                Timer::KickSocket => self.look_again_for_kick_socket(now),
                Timer::KickCheck => self.check_kicks(now),
                Timer::Anvil(id) => self.anvil_timed_out(id, now),
                Timer::KillDelay(hash, tag) => self.kill_done(hash, tag, now),
                Timer::KillRetry(hash, tag) => self.retry_kill(hash, tag, now),
                Timer::KillTimeout(hash, tag) => self.kill_timed_out(hash, tag, now),
                Timer::Reset(number) => self.step_reset(number, now),
            }
        }
    }

    /// Closes a connection after its last output, within [`LINGER`].
    pub(crate) fn close_connection(&mut self, id: ConnectionId, now: Now) {
        if self.connections.close(id) {
            self.timers.set(Timer::Linger(id), now.instant + LINGER);
        }
    }

    /// The settings were read again: what can change live does, what can't is named.
    fn reload(&mut self, configuration: Configuration, now: Now) {
        let Configuration { self_address, members, hosts, tuning } = configuration;
        if (self_address, &members) != (self.configured.0, &self.configured.1) {
            warn!(
                "director_servers has changed: the ring stays as it is until a restart \
                 (or use doveadm director ring add and ring remove)"
            );
        }
        if hosts != self.configured.2 {
            warn!(
                "director_mail_servers has changed: the ring's hosts stay as they are \
                 (use doveadm director add, update and remove)"
            );
            self.initial = configured_hosts(&hosts);
            self.configured.2 = hosts;
        }
        let mut tuning = tuning;
        if tuning.username_hash != self.tuning.username_hash {
            warn!(
                "director_username_hash has changed: it stays {} until a restart, \
                 because the users in the map are known by it",
                self.tuning.username_hash.template()
            );
            tuning.username_hash = self.tuning.username_hash.clone();
        }
        if tuning.user_expire_secs != self.tuning.user_expire_secs {
            info!(
                "director_user_expire changed from {} to {} secs: it should be the same on all directors",
                self.tuning.user_expire_secs, tuning.user_expire_secs
            );
            self.users.set_expire_secs(tuning.user_expire_secs, now);
            if let Some(at) = self.users.next_expiry() {
                self.timers.set(Timer::UserExpiry, at);
            }
        }
        let kick_via = std::mem::replace(&mut self.tuning, tuning).kick_via;
        if kick_via != self.tuning.kick_via {
            info!("director_kick_via changed from {} to {}", kick_via.name(), self.tuning.kick_via.name());
            self.kick_via_changed(now);
        }
        for id in self.ring.links.clone() {
            self.arm_ping(id, now);
        }
        info!("Settings were read again");
    }

    /// The process ends: everybody is told.
    fn shut_down(&mut self, now: Now) {
        if self.finishing {
            return;
        }
        info!("Shutting down, with {} users in the map", self.users.len());
        // From now on no link that ends makes us look for another.
        self.finishing = true;
        for id in self.ring.links.clone() {
            self.quit_link(id, "Shutting down", now);
        }
        self.fail_all_lookups();
        for id in self.connections.ids() {
            if self.connections.get(id).is_some_and(|connection| connection.phase == Phase::Aborted) {
                // An administrator who has left is the only one whose end was already told.
                if matches!(self.connections.get(id).map(|c| &c.kind), Some(Kind::Admin(session)) if session.gone) {
                    self.connections.remove(id);
                }
                continue;
            }
            self.close_connection(id, now);
        }
    }
}

/// A table of the configuration's hosts.
fn configured_hosts(configured: &[ConfiguredHost]) -> Hosts {
    let mut hosts = Hosts::new();
    hosts.intern_tag(b"");
    for host in configured {
        let tag = hosts.intern_tag(&host.tag);
        let added = hosts.add(Host {
            ip: host.ip,
            hostname: host.hostname.clone(),
            vhosts: VHOSTS_DEFAULT,
            tag,
            down: false,
            updown_changed_secs: 0,
            desynced: false,
        });
        if added.is_none() {
            error!("Host {} is left out: there are too many", host.ip);
        }
    }
    hosts
}

/// An IPv4 address that came in on an IPv6 socket is an IPv4 address.
fn canonical(address: SocketAddr) -> SocketAddr {
    let ip: IpAddr = address.ip().to_canonical();
    SocketAddr::new(ip, address.port())
}
