//! Login, userdb, authreply and notify connections (login protocol).

use log::{Level, debug, error, log_enabled, warn};

use crate::connections::{Connection, Kind, Phase};
use crate::contract::{Action, ConnectionId, Target};
use crate::director::Director;
use crate::hosts::HostNumber;
use crate::lookup::Waiting;
use crate::time::Now;
use crate::wire::auth::{self, Decision, Reply};
use crate::wire::notify;

/// At most so many lookups of one connection wait: beyond, its lines are left unread.
const WAITING_MAX: u32 = 1000;

/// Which of the auth server's protocols is relayed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Protocol {
    /// The auth client protocol: replies begin with OK.
    Login,
    /// The auth master protocol: replies begin with PASS.
    Userdb,
}

impl Protocol {
    fn reply_command(self) -> &'static [u8] {
        match self {
            Self::Login => b"OK",
            Self::Userdb => b"PASS",
        }
    }

    fn target(self) -> Target {
        match self {
            Self::Login => Target::AuthLogin,
            Self::Userdb => Target::AuthUserdb,
        }
    }
}

/// One side of a relay.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Relay {
    pub(crate) protocol: Protocol,
    /// The other side.
    pub(crate) other: ConnectionId,
    /// Lookups of this client that wait.
    pub(crate) waiting: u32,
}

impl Director {
    /// A login process, LMTP or doveadm has connected: it gets an auth connection of its own.
    pub(crate) fn accept_client(&mut self, protocol: Protocol) -> ConnectionId {
        let nobody = ConnectionId { slot: u32::MAX, generation: 0 };
        let relay = |other| Relay { protocol, other, waiting: 0 };
        let client = self.connections.add(Kind::Client(relay(nobody)), Phase::Open, auth::LINE_MAX_BYTES);
        let server = self.connections.add(Kind::Auth(relay(client)), Phase::Connecting, auth::LINE_MAX_BYTES);
        if let Some(Connection { kind: Kind::Client(relay), .. }) = self.connections.get_mut(client) {
            relay.other = server;
        }
        self.connections.act(Action::Connect { connection: server, target: protocol.target() });
        client
    }

    /// What a client says goes to the auth server as it is.
    pub(crate) fn client_input(&mut self, relay: Relay, bytes: &[u8]) {
        self.connections.write(relay.other, bytes);
    }

    /// One side of a relay is gone: the other gets the rest, and ends.
    pub(crate) fn relay_closed(&mut self, other: ConnectionId, now: Now) {
        self.close_connection(other, now);
    }

    /// A line from an auth server, for its client.
    pub(crate) fn auth_line(&mut self, relay: Relay, line: &[u8], now: Now) {
        self.reply_line(relay.other, relay.protocol.reply_command(), line, now);
    }

    /// A line from an authreply client. Returns whether to go on reading.
    pub(crate) fn authreply_line(&mut self, id: ConnectionId, line: &[u8], now: Now) -> bool {
        let Some(Connection { kind: Kind::AuthReply { greeted, .. }, .. }) = self.connections.get_mut(id) else {
            return false;
        };
        if !*greeted {
            if !auth::is_authreply_client_version_line(line) {
                error!("authreply: the client does not speak director-authreply-client 1: {}", auth::printable(line));
                self.close_connection(id, now);
                return false;
            }
            *greeted = true;
            return true;
        }
        self.reply_line(id, b"OK", line, now);
        self.connections.is_open(id)
    }

    /// A line on its way to `client`: if it is the reply that we are here for, the host is added.
    fn reply_line(&mut self, client: ConnectionId, command: &[u8], line: &[u8], now: Now) {
        if log_enabled!(Level::Debug) {
            debug!("auth({client}): from auth: {}", auth::printable(line));
        }
        let reply = Reply::parse(command, line);
        let wanted = |reply: &&Reply<'_>| (reply.proxy || reply.proxy_maybe) && !reply.has_host;
        let reply = reply.as_ref().filter(wanted);
        let Some((reply, username)) = reply.and_then(|reply| Some((reply, reply.username.as_deref()?))) else {
            self.connections.write_with(client, line.len() + 1, |out| {
                out.extend_from_slice(line);
                out.push(b'\n');
            });
            return;
        };
        let name = match self.tuning.master_user_separator {
            // `master*user`: in this field the user to log in as comes first.
            Some(separator) => username.split(|&byte| byte == separator).next().unwrap_or(username),
            None => username,
        };
        let hash = self.tuning.username_hash.hash(name);
        if log_enabled!(Level::Debug) {
            debug!("auth({client}): user {} has hash {hash}", name.escape_ascii());
        }
        // Dovecot may have made its socket for kicks only after this client came.
        self.look_for_kick_socket(now);
        match self.lookup(hash, &reply.tag, now) {
            Ok(host) => self.answer(client, reply, line, hash, host),
            Err(wait) => {
                debug!("auth({client}): the lookup of user hash {hash} waits: {wait}");
                self.count_waiting(client, true);
                self.wait_for_lookup(client, hash, &reply.tag, line, wait, now);
            }
        }
    }

    /// Sends a reply with its host.
    fn answer(&mut self, client: ConnectionId, reply: &Reply<'_>, line: &[u8], hash: u32, host: HostNumber) {
        let Some(host) = self.hosts.get(host) else { return };
        let (ip, hostname) = (host.ip, host.hostname.as_deref());
        let refresh_secs = self.tuning.user_expire_secs / 2;
        let relayed = matches!(self.connections.get(client), Some(Connection { kind: Kind::Client(_), .. }));
        let hash = Some(hash).filter(|_| self.replies_need_hash(relayed));
        let decision = Decision { refresh_secs, ip, hostname, hash };
        self.connections.write_with(client, line.len() + decision.max_bytes(), |out| {
            let start = out.len();
            if is_local(reply, ip) {
                out.extend_from_slice(line);
                out.push(b'\n');
            } else {
                decision.write(line, out);
            }
            if log_enabled!(Level::Debug) {
                debug!("auth({client}): output: {}", auth::printable(out[start..].trim_ascii_end()));
            }
        });
    }

    /// A lookup that waited has found a host, or has failed.
    pub(crate) fn lookup_ends(&mut self, waiting: &Waiting, host: Option<HostNumber>) {
        let client = waiting.connection;
        if !self.connections.is_open(client) {
            return;
        }
        self.count_waiting(client, false);
        let command: &[u8] = match self.connections.get(client) {
            Some(Connection { kind: Kind::Client(relay), .. }) => relay.protocol.reply_command(),
            _ => b"OK",
        };
        let Some(reply) = Reply::parse(command, &waiting.line) else { return };
        match host {
            Some(host) => self.answer(client, &reply, &waiting.line, waiting.hash, host),
            None => {
                let mut bytes = Vec::new();
                auth::write_temporary_failure(reply.id, &mut bytes);
                self.connections.write(client, &bytes);
            }
        }
    }

    fn count_waiting(&mut self, client: ConnectionId, more: bool) {
        let Some(connection) = self.connections.get_mut(client) else { return };
        if let Kind::Client(Relay { waiting, .. }) | Kind::AuthReply { waiting, .. } = &mut connection.kind {
            *waiting = if more { waiting.saturating_add(1) } else { waiting.saturating_sub(1) };
        }
        self.update_reading(client);
    }

    /// Stops reading what would only pile up, and starts again when it has gone.
    pub(crate) fn update_reading(&mut self, id: ConnectionId) {
        let Some(connection) = self.connections.get(id) else { return };
        let buffered = connection.buffered();
        match connection.kind {
            // Its output comes from the auth server.
            Kind::Client(Relay { other, waiting, .. }) => {
                let wanted = waiting < WAITING_MAX && self.connections.wants_reading(other, buffered);
                self.connections.set_reading(other, wanted);
            }
            // Its output comes from the client.
            Kind::Auth(Relay { other, .. }) => {
                let wanted = self.connections.wants_reading(other, buffered);
                self.connections.set_reading(other, wanted);
            }
            Kind::AuthReply { waiting, .. } => {
                let wanted = waiting < WAITING_MAX && self.connections.wants_reading(id, buffered);
                self.connections.set_reading(id, wanted);
            }
            Kind::Admin(ref session) => {
                let wanted = session.takes_more() && self.connections.wants_reading(id, buffered);
                self.connections.set_reading(id, wanted);
            }
            Kind::Ring(_) | Kind::Notify | Kind::Ipc | Kind::Anvil | Kind::Flush(_) => {}
        }
    }

    /// A line of the notify FIFO.
    pub(crate) fn notify_line(&mut self, line: &[u8], now: Now) {
        let Some(username) = notify::parse(line) else { return };
        debug!("notify: {}", username.escape_ascii());
        self.notify_user(&username, now);
    }

    /// An auth server can't be reached: its client is told by closing.
    pub(crate) fn auth_failed(&mut self, relay: Relay, reason: &str, now: Now) {
        let socket = match relay.protocol {
            Protocol::Login => "auth-login",
            Protocol::Userdb => "auth-userdb",
        };
        warn!("Connecting to {socket} failed: {reason}");
        self.relay_closed(relay.other, now);
    }
}

/// `director_proxy_maybe`: whether the chosen backend is the login process's own machine.
fn is_local(reply: &Reply<'_>, ip: std::net::IpAddr) -> bool {
    let local_ip = match &reply.local_ip {
        Some(Ok(local_ip)) => Some(*local_ip),
        Some(Err(text)) => {
            error!("auth sent invalid lip field: {text}");
            None
        }
        None => None,
    };
    let port = |field: &Option<Result<u16, String>>, name| match field {
        Some(Ok(port)) => Some(*port),
        Some(Err(text)) => {
            error!("auth sent invalid {name} field: {text}");
            None
        }
        None => None,
    };
    let same_port = match (port(&reply.port, "port"), port(&reply.local_port, "lport")) {
        (Some(port), Some(local_port)) => port == local_port,
        _ => true,
    };
    reply.proxy_maybe && local_ip == Some(ip) && same_port
}
