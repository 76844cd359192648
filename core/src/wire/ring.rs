//! The lines that directors say to each other (ring protocol, version 1.9).

use std::borrow::Cow;
use std::fmt;
use std::net::{IpAddr, SocketAddr};

/// The protocol's name in VERSION.
pub const NAME: &str = "director";
/// The major version: another one is refused.
pub const MAJOR: u32 = 1;
/// Our minor version.
pub const MINOR: u32 = 9;
/// The longest line, in bytes.
pub const LINE_MAX_BYTES: usize = 1024;

/// Minor versions that brought something.
pub mod minor {
    /// USER-WEAK.
    pub const WEAK: u32 = 1;
    /// DIRECTOR-REMOVE.
    pub const DIRECTOR_REMOVE: u32 = 2;
    /// QUIT has a reason.
    pub const QUIT: u32 = 3;
    /// USER-KICK and USER-KICK-HASH.
    pub const USER_KICK: u32 = 4;
    /// OPTIONS.
    pub const OPTIONS: u32 = 5;
    /// Up or down, with a time, in HOST.
    pub const UPDOWN: u32 = 6;
    /// Tags in HOST.
    pub const TAGS: u32 = 7;
    /// USER-KICK-ALT.
    pub const USER_KICK_ALT: u32 = 8;
    /// Timestamps in USER, and `U`.
    pub const USER_TIMESTAMP: u32 = 9;
}

/// Who originated a command, and its number there (ring protocol, "Sequence numbers").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Origin {
    /// The originating director.
    pub address: SocketAddr,
    /// Its sequence number.
    pub seq: u32,
}

/// A host as HOST carries it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostLine<'a> {
    /// The host's address.
    pub ip: IpAddr,
    /// Its weight.
    pub vhosts: u32,
    /// Its tag, may be empty. Absent on the wire reads as empty.
    pub tag: Cow<'a, [u8]>,
    /// Up or down and since when; `None` when the line does not say (peer's minor < 6).
    pub updown: Option<UpDown>,
    /// The host's name if it was configured by name; empty on the wire reads as `None`.
    pub hostname: Option<Cow<'a, [u8]>>,
}

/// Whether a host is up, and since when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UpDown {
    /// Down: gets no new users.
    pub down: bool,
    /// Unix time of the last change; 0 = never changed.
    pub changed_secs: u64,
}

/// What SYNC says of the originator's state (minor ≥ 6; older ones send none of it).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SyncInfo {
    /// The lowest minor version met on the way.
    pub minor: u32,
    /// Unix time when it was sent.
    pub timestamp_secs: u64,
    /// The originator's hosts-hash; 0 = not known.
    pub hosts_hash: u32,
}

/// What PING and PONG carry, since 2.2.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PingInfo {
    /// Unix time when it was sent.
    pub timestamp_secs: u64,
    /// Bytes that waited in the sender's buffer.
    pub buffered_bytes: u64,
}

/// One line.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the fields are the arguments in the variant's grammar")]
pub enum Line<'a> {
    /// `VERSION name major minor`
    Version { name: Cow<'a, [u8]>, major: u32, minor: u32 },
    /// `ME ip port unix-time`
    Me { address: SocketAddr, unix_secs: u64 },
    /// `DIRECTOR ip port`
    Director { address: SocketAddr },
    /// `DIRECTOR-REMOVE ip port`
    DirectorRemove { address: SocketAddr },
    /// `HOST-HAND-START r`
    HandshakeHostsStart { handshaked: bool },
    /// `HOST ip vhosts [tag [U/Dts [hostname]]]`, in a handshake
    HandshakeHost { host: HostLine<'a> },
    /// `HOST-HAND-END r`
    HandshakeHostsEnd { handshaked: bool },
    /// `U hash ip timestamp [w]`, or `USER` with more than two arguments from a peer below minor 9
    HandshakeUser { hash: u32, host: IpAddr, timestamp_secs: u64, weak: bool },
    /// `OPTIONS option…`
    Options { options: Vec<Cow<'a, [u8]>> },
    /// `DONE`
    Done,
    /// `USER hash ip [timestamp]`
    User { hash: u32, host: IpAddr, timestamp_secs: Option<u64> },
    /// `USER-WEAK o-ip o-port seq hash ip`
    UserWeak { origin: Origin, hash: u32, host: IpAddr },
    /// `HOST o-ip o-port seq ip vhosts [tag [U/Dts [hostname]]]`
    Host { origin: Origin, host: HostLine<'a> },
    /// `HOST-REMOVE o-ip o-port seq ip`
    HostRemove { origin: Origin, ip: IpAddr },
    /// `HOST-FLUSH o-ip o-port seq ip`
    HostFlush { origin: Origin, ip: IpAddr },
    /// `USER-MOVE o-ip o-port seq hash ip`
    UserMove { origin: Origin, hash: u32, host: IpAddr },
    /// `USER-KILLED hash`
    UserKilled { hash: u32 },
    /// `USER-KILLED-EVERYWHERE o-ip o-port seq hash`
    UserKilledEverywhere { origin: Origin, hash: u32 },
    /// `USER-KICK o-ip o-port seq username`
    UserKick { origin: Origin, username: Cow<'a, [u8]> },
    /// `USER-KICK-ALT o-ip o-port seq field value`
    UserKickAlt { origin: Origin, field: Cow<'a, [u8]>, value: Cow<'a, [u8]> },
    /// `USER-KICK-HASH o-ip o-port seq hash except-ip`
    UserKickHash { origin: Origin, hash: u32, except: IpAddr },
    /// `SYNC o-ip o-port seq [minor timestamp hosts-hash]`
    Sync { origin: Origin, info: Option<SyncInfo> },
    /// `PING [unix-time bytes-in-send-buffer]`
    Ping { info: Option<PingInfo> },
    /// `PONG [unix-time bytes-in-send-buffer]`
    Pong { info: Option<PingInfo> },
    /// `CONNECT ip port`
    Connect { address: SocketAddr },
    /// `QUIT [reason]`
    Quit { reason: Cow<'a, [u8]> },
}

/// Why a line is not one of this protocol: the peer's fault. `Display` is the text for QUIT and the log; it never
/// holds raw control bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LineError {/* H1 */}

impl fmt::Display for LineError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let _ = formatter;
        unimplemented!()
    }
}

impl std::error::Error for LineError {}

impl<'a> Line<'a> {
    /// Reads one line, without its LF, from a peer of that minor version (which decides what a `USER` with three
    /// arguments is).
    ///
    /// # Errors
    /// [`LineError`] for an unknown command, a missing or unparsable argument.
    pub fn parse(line: &'a [u8], peer_minor: u32) -> Result<Self, LineError> {
        let _ = (line, peer_minor);
        unimplemented!()
    }

    /// Appends the line with its LF, as a peer of that minor version understands it. Nothing is appended for a
    /// command that the peer's version does not know.
    pub fn write(&self, peer_minor: u32, out: &mut Vec<u8>) {
        let _ = (peer_minor, out);
        unimplemented!()
    }
}
