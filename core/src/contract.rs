//! The words between the core and a runtime: events in, actions and bytes out.
//!
//! See the crate's front page for the loop that uses them.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use crate::settings::Configuration;

/// Names one connection, incoming or outgoing, for as long as it lives.
///
/// The core hands them out. `slot` is small and reused, so that a runtime can index a table with it; the generation
/// keeps an event for a dead connection from reaching the next one in its slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnectionId {
    pub(crate) slot: u32,
    pub(crate) generation: u32,
}

impl ConnectionId {
    /// A small number that no other living connection has.
    pub fn slot(self) -> usize {
        self.slot as usize
    }

    /// The id as a number, for systems that let one name a descriptor by a number (`epoll`).
    pub fn to_bits(self) -> u64 {
        u64::from(self.generation) << 32 | u64::from(self.slot)
    }

    /// What [`to_bits`](Self::to_bits) gave.
    pub fn from_bits(bits: u64) -> Self {
        Self { slot: bits as u32, generation: (bits >> 32) as u32 }
    }
}

impl fmt::Display for ConnectionId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}.{}", self.slot, self.generation)
    }
}

/// What a listening socket is for (overview, "The sockets").
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// Other directors.
    Ring,
    /// Login processes: the auth client protocol, relayed to auth-login.
    Login,
    /// LMTP and doveadm: the auth master protocol, relayed to auth-userdb.
    Userdb,
    /// Programs that have an auth reply and want the host added.
    AuthReply,
    /// Administrators.
    Admin,
    /// "This user is still here."
    Notify,
}

impl Role {
    /// The word for it, in messages.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ring => "ring",
            Self::Login => "login",
            Self::Userdb => "userdb",
            Self::AuthReply => "authreply",
            Self::Admin => "admin",
            Self::Notify => "notify",
        }
    }
}

/// Where an outgoing connection goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// Another director, from our own address in the ring.
    Ring {
        /// The member's address.
        to: SocketAddr,
        /// The source address to bind before connecting.
        from: IpAddr,
    },
    /// The unix socket `auth-login` in base_dir.
    AuthLogin,
    /// The unix socket `auth-userdb` in base_dir.
    AuthUserdb,
    /// The unix socket `ipc` in base_dir (Dovecot 2.3).
    Ipc,
    /// The unix socket `anvil` in base_dir (Dovecot 2.4).
    Anvil,
    /// The flush script (kick protocol, "The flush socket").
    Flush(FlushTarget),
}

/// How the flush script is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FlushTarget {
    /// A unix socket; relative to base_dir.
    Unix {
        /// Its path.
        path: String,
    },
    /// A TCP socket.
    Tcp {
        /// A name or an address.
        host: String,
        /// Its port.
        port: u16,
    },
    /// A program to run, with nothing on its standard input. What it prints is the connection's input, and after that
    /// a line `+` if its exit status was 0, else `-`, as Dovecot's script service says it. If the connection ends before
    /// the program does, it is killed.
    Program {
        /// Its path.
        path: String,
        /// What it is called with.
        arguments: Vec<String>,
    },
}

/// What happened outside.
#[derive(Debug)]
pub enum Event<'a> {
    /// A connection asked for by [`Action::Connect`] is there.
    Connected {
        /// Which.
        connection: ConnectionId,
    },
    /// A connection asked for by [`Action::Connect`] could not be made. Its id is dead.
    ConnectFailed {
        /// Which.
        connection: ConnectionId,
        /// The reason, for the log.
        error: &'a str,
    },
    /// Bytes came in, at most [`RECEIVE_MAX_BYTES`] of them.
    Received {
        /// On which connection.
        connection: ConnectionId,
        /// The bytes as they came; the core finds the lines.
        bytes: &'a [u8],
    },
    /// The socket took the first `bytes` bytes of what `poll_output` showed.
    Written {
        /// Which connection.
        connection: ConnectionId,
        /// How many bytes.
        bytes: usize,
    },
    /// The connection is gone: the peer closed it, it broke, or [`Action::Close`] or [`Action::Abort`] is done.
    /// Every connection that was accepted or connected ends with exactly one of these; the id is dead after it.
    Closed {
        /// Which.
        connection: ConnectionId,
        /// The socket's error, if there was one.
        error: Option<&'a str>,
    },
    /// The time of [`Director::next_timeout`](crate::Director::next_timeout) has come (or any other time: harmless).
    Tick,
    /// The settings were read again.
    Reload(Box<Configuration>),
    /// The process was asked to end: say goodbye everywhere. [`Director::is_finished`](crate::Director::is_finished)
    /// tells when all that has to go out has gone out.
    Shutdown,
}

/// What to do outside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Connect; answer with `Connected` or `ConnectFailed`.
    Connect {
        /// The id that the connection will have.
        connection: ConnectionId,
        /// Where to.
        target: Target,
    },
    /// Output waits: pull it with `poll_output` whenever the socket can take it, until it is empty.
    Write {
        /// For which connection.
        connection: ConnectionId,
    },
    /// Start (`true`, as every connection begins) or stop (`false`) reading, so that a peer which does not take its
    /// answers cannot make us buffer more of them.
    Read {
        /// From which connection.
        connection: ConnectionId,
        /// Whether to read.
        enabled: bool,
    },
    /// Write what is waiting, then close the writing side only: the peer sees an end and goes on answering. May come
    /// before the connection has been made.
    Finish {
        /// Which connection.
        connection: ConnectionId,
    },
    /// Read no more, write what is waiting, close, and report `Closed`.
    Close {
        /// Which connection.
        connection: ConnectionId,
    },
    /// Close at once, whatever is waiting (or give up connecting), and report `Closed`.
    Abort {
        /// Which connection.
        connection: ConnectionId,
    },
}

/// The most bytes that one [`Event::Received`] may carry: it bounds the work of one call.
pub const RECEIVE_MAX_BYTES: usize = 65536;
