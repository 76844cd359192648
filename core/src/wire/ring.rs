//! The lines that directors say to each other (ring protocol, version 1.9, and our extension 1.10).

use std::borrow::Cow;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use nom::Parser;
use nom::combinator::opt;
use nom::multi::many0;

use super::arguments::{
    Complaint, Flaw, LineWriter, Parsed, address, hash, ip, optional, plain_ipv4, plain_number, raw, read_u32,
    read_u64, split_command, text, typed, u32, u64,
};
use super::line::unescape;
use crate::users::Generation;

/// The protocol's name in VERSION.
pub const NAME: &str = "director";
/// The major version: another one is refused.
pub const MAJOR: u32 = 1;
/// Our minor version.
pub const MINOR: u32 = 10;
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
    /// USER-KILLED and USER-KILLED-EVERYWHERE name their move, backends of users have a generation: our own extension.
    pub const KILL_NAMES: u32 = 10;
    /// DIRECTOR has a name: our own extension.
    pub const DIRECTOR_NAMES: u32 = 10;
    /// The numbers of a life begin above those of the one before: our own extension.
    pub const FIRST_NUMBERS: u32 = 10;
    /// HOST goes everywhere, also from where it is no news: our own extension.
    pub const HOST_EVERYWHERE: u32 = 10;
    /// Who has said CONNECT reads on until the other leaves: our own extension.
    pub const READS_AFTER_CONNECT: u32 = 10;
    /// KNOWN-TO: our own extension.
    pub const KNOWN_TO: u32 = 10;
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

/// What USER-KILLED says of its move and of its way round the ring (version 1.10).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KillToken {
    /// How many sessions were ended by the starter and by everybody whom it has passed; `None`: not known.
    pub kicked: Option<u32>,
    /// The USER-MOVE that it belongs to.
    pub of_move: Origin,
    /// The backend that the user moves to.
    pub host: IpAddr,
    /// Of that backend.
    pub generation: Option<Generation>,
    /// Who has sent it on its way, and its number there: back at this director it has been all round.
    pub starter: Origin,
}

/// What USER-KILLED-EVERYWHERE says of its move (version 1.10).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KilledMove {
    /// How many sessions were ended in the whole ring; `None`: not known.
    pub kicked: Option<u32>,
    /// The USER-MOVE that it belongs to.
    pub of_move: Origin,
}

/// What USER and `U` say of how a user came to his backend (version 1.10).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moved {
    /// Of that backend; `None`: the sender is in a ring that does not know generations.
    pub generation: Option<Generation>,
    /// He is being moved there: the USER-MOVE.
    pub of_move: Option<Origin>,
}

impl Moved {
    /// What a member before 1.10 says.
    pub const UNKNOWN: Self = Self { generation: None, of_move: None };
    /// What need not be said.
    pub const NEVER: Self = Self { generation: Some(Generation::NEVER), of_move: None };
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
    /// `DIRECTOR ip port [o-ip o-port seq]`
    Director { address: SocketAddr, name: Option<Origin> },
    /// `DIRECTOR-REMOVE ip port`
    DirectorRemove { address: SocketAddr },
    /// `HOST-HAND-START r`
    HandshakeHostsStart { handshaked: bool },
    /// `HOST ip vhosts [tag [U/Dts [hostname]]]`, in a handshake
    HandshakeHost { host: HostLine<'a> },
    /// `HOST-HAND-END r`
    HandshakeHostsEnd { handshaked: bool },
    /// `U hash ip timestamp [w|- [generation|- [m-ip m-port m-seq]]]`: what follows `w` to minor 10 only; or `USER` with
    /// more than two arguments from a peer below minor 9
    HandshakeUser { hash: u32, host: IpAddr, timestamp_secs: u64, weak: bool, moved: Moved },
    /// `KNOWN-TO ip port`
    KnownTo { address: SocketAddr },
    /// `OPTIONS option…`
    Options { options: Vec<Cow<'a, [u8]>> },
    /// `DONE`
    Done,
    /// `USER hash ip [timestamp [generation|- [m-ip m-port m-seq]]]`
    User { hash: u32, host: IpAddr, timestamp_secs: Option<u64>, moved: Moved },
    /// `USER-WEAK o-ip o-port seq hash ip`
    UserWeak { origin: Origin, hash: u32, host: IpAddr },
    /// `HOST o-ip o-port seq ip vhosts [tag [U/Dts [hostname]]]`
    Host { origin: Origin, host: HostLine<'a> },
    /// `HOST-REMOVE o-ip o-port seq ip`
    HostRemove { origin: Origin, ip: IpAddr },
    /// `HOST-FLUSH o-ip o-port seq ip`
    HostFlush { origin: Origin, ip: IpAddr },
    /// `USER-MOVE o-ip o-port seq hash ip [generation|-]`
    UserMove { origin: Origin, hash: u32, host: IpAddr, generation: Option<Generation> },
    /// `USER-KILLED hash [kicked|- m-ip m-port m-seq host s-ip s-port s-seq [generation|-]]`: only the hash to a peer below minor 10
    UserKilled { hash: u32, token: Option<KillToken> },
    /// `USER-KILLED-EVERYWHERE o-ip o-port seq hash [kicked|- m-ip m-port m-seq]`: only the hash to a peer below minor
    /// 10, and if the move is not known
    UserKilledEverywhere { origin: Origin, hash: u32, of: Option<KilledMove> },
    /// `USER-KICK o-ip o-port seq username`
    UserKick { origin: Origin, username: Cow<'a, [u8]> },
    /// `USER-KICK-ALT o-ip o-port seq field value`
    UserKickAlt { origin: Origin, field: Cow<'a, [u8]>, value: Cow<'a, [u8]> },
    /// `USER-KICK-HASH o-ip o-port seq hash except-ip`
    UserKickHash { origin: Origin, hash: u32, except: IpAddr },
    /// `SYNC o-ip o-port seq [minor [timestamp [hosts-hash]]]`; the last two read as 0 if they are absent
    Sync { origin: Origin, info: Option<SyncInfo> },
    /// `PING [unix-time bytes-in-send-buffer]`; anything else after PING reads as nothing
    Ping { info: Option<PingInfo> },
    /// `PONG [unix-time bytes-in-send-buffer]`; anything else after PONG reads as nothing
    Pong { info: Option<PingInfo> },
    /// `CONNECT ip port`
    Connect { address: SocketAddr },
    /// `QUIT [reason]`
    Quit { reason: Cow<'a, [u8]> },
}

/// Why a line is not one of this protocol: the peer's fault. `Display` is the text for QUIT and the log; it never
/// holds raw control bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LineError {
    complaint: Complaint,
}

impl fmt::Display for LineError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.complaint.fmt(formatter)
    }
}

impl std::error::Error for LineError {}

impl<'a> Line<'a> {
    /// Reads one line, without its LF, as that minor version means it: the lower one of ours and the peer's. A command
    /// that it does not know is unknown, and arguments after the last one that it knows are ignored.
    ///
    /// # Errors
    /// [`LineError`] for an unknown command, a missing or unparsable argument.
    pub fn parse(line: &'a [u8], peer_minor: u32) -> Result<Self, LineError> {
        let (command, input) = split_command(line);
        let parsed = match command {
            // Nearly all lines are one of these. They mean the same to all who know them.
            b"USER" => {
                return user(input, peer_minor).map_or_else(|error| Err(about(command, &error)), |(_, line)| Ok(line));
            }
            b"U" if peer_minor >= minor::KILL_NAMES => {
                return handshake_user(input).map_or_else(|error| Err(about(command, &error)), |(_, line)| Ok(line));
            }
            b"U" if peer_minor >= minor::USER_TIMESTAMP => older_handshake_user(input),
            b"SYNC" => (origin, optional(sync_info)).map(|(origin, info)| Self::Sync { origin, info }).parse(input),
            b"PING" => ping_info.map(|info| Self::Ping { info }).parse(input),
            b"PONG" => ping_info.map(|info| Self::Pong { info }).parse(input),
            b"HOST" if is_live_host(input) => {
                (origin, host).map(|(origin, host)| Self::Host { origin, host }).parse(input)
            }
            b"HOST" => host.map(|host| Self::HandshakeHost { host }).parse(input),
            b"USER-WEAK" => (origin, hash, ip("host"))
                .map(|(origin, hash, host)| Self::UserWeak { origin, hash, host })
                .parse(input),
            b"USER-MOVE" => (origin, hash, ip("host"), generation)
                .map(|(origin, hash, host, generation)| Self::UserMove { origin, hash, host, generation })
                .parse(input),
            b"USER-KILLED" => {
                (hash, optional(kill_token)).map(|(hash, token)| Self::UserKilled { hash, token }).parse(input)
            }
            b"USER-KILLED-EVERYWHERE" => (origin, hash, optional(killed_move))
                .map(|(origin, hash, of)| Self::UserKilledEverywhere { origin, hash, of })
                .parse(input),
            b"USER-KICK" => {
                (origin, text("username")).map(|(origin, username)| Self::UserKick { origin, username }).parse(input)
            }
            b"USER-KICK-ALT" => (origin, text("field"), text("value"))
                .map(|(origin, field, value)| Self::UserKickAlt { origin, field, value })
                .parse(input),
            b"USER-KICK-HASH" => (origin, hash, ip("except-ip"))
                .map(|(origin, hash, except)| Self::UserKickHash { origin, hash, except })
                .parse(input),
            b"HOST-REMOVE" => (origin, ip("host")).map(|(origin, ip)| Self::HostRemove { origin, ip }).parse(input),
            b"HOST-FLUSH" => (origin, ip("host")).map(|(origin, ip)| Self::HostFlush { origin, ip }).parse(input),
            b"DIRECTOR" if peer_minor < minor::DIRECTOR_NAMES => {
                address.map(|address| Self::Director { address, name: None }).parse(input)
            }
            b"DIRECTOR" => {
                (address, optional(origin)).map(|(address, name)| Self::Director { address, name }).parse(input)
            }
            b"KNOWN-TO" => address.map(|address| Self::KnownTo { address }).parse(input),
            b"DIRECTOR-REMOVE" => address.map(|address| Self::DirectorRemove { address }).parse(input),
            b"CONNECT" => address.map(|address| Self::Connect { address }).parse(input),
            b"VERSION" => (text("name"), u32("major"), u32("minor"))
                .map(|(name, major, minor)| Self::Version { name, major, minor })
                .parse(input),
            b"ME" => (me_address, u64("time")).map(|(address, unix_secs)| Self::Me { address, unix_secs }).parse(input),
            b"HOST-HAND-START" => {
                flag("handshaked").map(|handshaked| Self::HandshakeHostsStart { handshaked }).parse(input)
            }
            b"HOST-HAND-END" => {
                flag("handshaked").map(|handshaked| Self::HandshakeHostsEnd { handshaked }).parse(input)
            }
            b"OPTIONS" => many0(text("option")).map(|options| Self::Options { options }).parse(input),
            b"DONE" => Ok((input, Self::Done)),
            b"QUIT" => {
                optional(text("reason")).map(|reason| Self::Quit { reason: reason.unwrap_or_default() }).parse(input)
            }
            _ => return Err(LineError { complaint: Complaint::unknown_command(command) }),
        };
        match parsed {
            Ok((_, line)) if line.since_minor() > peer_minor => {
                Err(LineError { complaint: Complaint::unknown_command(command) })
            }
            Ok((_, line)) => Ok(line.meant_by(peer_minor)),
            Err(error) => Err(about(command, &error)),
        }
    }

    /// Appends the line with its LF, as a peer of that minor version understands it. Nothing is appended for a
    /// command that the peer's version does not know.
    pub fn write(&self, peer_minor: u32, out: &mut Vec<u8>) {
        if peer_minor < self.since_minor() {
            return;
        }
        let line = LineWriter::new(self.command(peer_minor), out);
        match self {
            Self::Version { name, major, minor } => line.text(name).number(*major).number(*minor),
            Self::Me { address, unix_secs } => line.address(*address).number(*unix_secs),
            Self::Director { address, name } => {
                let line = line.address(*address);
                match name {
                    Some(name) if peer_minor >= minor::DIRECTOR_NAMES => name.write(line),
                    _ => line,
                }
            }
            Self::DirectorRemove { address } | Self::Connect { address } | Self::KnownTo { address } => {
                line.address(*address)
            }
            Self::HandshakeHostsStart { handshaked } | Self::HandshakeHostsEnd { handshaked } => {
                line.number(u32::from(*handshaked))
            }
            Self::HandshakeHost { host } => host.write(peer_minor, line),
            Self::Host { origin, host } => host.write(peer_minor, origin.write(line)),
            Self::HandshakeUser { hash, host, timestamp_secs, weak, moved } => {
                let line = line.user(*hash, *host, Some(*timestamp_secs));
                let says_more = peer_minor >= minor::KILL_NAMES && *moved != Moved::NEVER;
                let line = if *weak {
                    line.raw(WEAK)
                } else if says_more {
                    line.raw(UNKNOWN)
                } else {
                    line
                };
                if says_more { moved.write(line) } else { line }
            }
            Self::Options { options } => options.iter().fold(line, |line, option| line.text(option)),
            Self::Done => line,
            Self::User { hash, host, timestamp_secs, moved } => {
                let line = line.user(*hash, *host, timestamp_secs.filter(|_| peer_minor >= minor::USER_TIMESTAMP));
                let says_more = timestamp_secs.is_some() && peer_minor >= minor::KILL_NAMES && *moved != Moved::NEVER;
                if says_more { moved.write(line) } else { line }
            }
            Self::UserWeak { origin, hash, host } => origin.write(line).number(*hash).ip(*host),
            Self::UserMove { origin, hash, host, generation } => {
                let line = origin.write(line).number(*hash).ip(*host);
                if peer_minor >= minor::KILL_NAMES { write_last_generation(*generation, line) } else { line }
            }
            Self::HostRemove { origin, ip } | Self::HostFlush { origin, ip } => origin.write(line).ip(*ip),
            Self::UserKilled { hash, token } => {
                let line = line.number(*hash);
                match token {
                    Some(token) if peer_minor >= minor::KILL_NAMES => {
                        let line = token.of_move.write(write_kicked(token.kicked, line)).ip(token.host);
                        write_last_generation(token.generation, token.starter.write(line))
                    }
                    _ => line,
                }
            }
            Self::UserKilledEverywhere { origin, hash, of } => {
                let line = origin.write(line).number(*hash);
                match of {
                    Some(of) if peer_minor >= minor::KILL_NAMES => of.of_move.write(write_kicked(of.kicked, line)),
                    _ => line,
                }
            }
            Self::UserKick { origin, username } => origin.write(line).text(username),
            Self::UserKickAlt { origin, field, value } => origin.write(line).text(field).text(value),
            Self::UserKickHash { origin, hash, except } => origin.write(line).number(*hash).ip(*except),
            Self::Sync { origin, info } => {
                let line = origin.write(line);
                match info {
                    Some(info) if peer_minor >= minor::UPDOWN => {
                        line.number(info.minor).number(info.timestamp_secs).number(info.hosts_hash)
                    }
                    _ => line,
                }
            }
            Self::Ping { info } | Self::Pong { info } => match info {
                Some(info) => line.number(info.timestamp_secs).number(info.buffered_bytes),
                None => line,
            },
            Self::Quit { reason } if peer_minor >= minor::QUIT => line.text(reason),
            Self::Quit { .. } => line,
        };
    }

    /// Without what the line has from later versions than that one.
    fn meant_by(mut self, minor: u32) -> Self {
        match &mut self {
            Self::HandshakeHost { host } | Self::Host { host, .. } if minor < minor::UPDOWN => {
                (host.updown, host.hostname) = (None, None);
            }
            Self::Sync { info, .. } if minor < minor::UPDOWN => *info = None,
            Self::UserKilled { token, .. } if minor < minor::KILL_NAMES => *token = None,
            Self::UserMove { generation, .. } if minor < minor::KILL_NAMES => *generation = None,
            Self::User { moved, .. } | Self::HandshakeUser { moved, .. } if minor < minor::KILL_NAMES => {
                *moved = Moved::UNKNOWN;
            }
            // Without a timestamp it is not of that version.
            Self::User { timestamp_secs: None, moved, .. } => *moved = Moved::UNKNOWN,
            Self::UserKilledEverywhere { of, .. } if minor < minor::KILL_NAMES => *of = None,
            _ => {}
        }
        self
    }

    /// The first minor version that knows the command.
    fn since_minor(&self) -> u32 {
        match self {
            Self::UserWeak { .. } => minor::WEAK,
            Self::DirectorRemove { .. } => minor::DIRECTOR_REMOVE,
            Self::UserKick { .. } | Self::UserKickHash { .. } => minor::USER_KICK,
            Self::Options { .. } => minor::OPTIONS,
            Self::KnownTo { .. } => minor::KNOWN_TO,
            Self::UserKickAlt { .. } => minor::USER_KICK_ALT,
            _ => 0,
        }
    }

    fn command(&self, peer_minor: u32) -> &'static [u8] {
        match self {
            Self::Version { .. } => b"VERSION",
            Self::Me { .. } => b"ME",
            Self::Director { .. } => b"DIRECTOR",
            Self::DirectorRemove { .. } => b"DIRECTOR-REMOVE",
            Self::HandshakeHostsStart { .. } => b"HOST-HAND-START",
            Self::HandshakeHost { .. } | Self::Host { .. } => b"HOST",
            Self::HandshakeHostsEnd { .. } => b"HOST-HAND-END",
            Self::HandshakeUser { .. } if peer_minor >= minor::USER_TIMESTAMP => b"U",
            Self::HandshakeUser { .. } | Self::User { .. } => b"USER",
            Self::KnownTo { .. } => b"KNOWN-TO",
            Self::Options { .. } => b"OPTIONS",
            Self::Done => b"DONE",
            Self::UserWeak { .. } => b"USER-WEAK",
            Self::HostRemove { .. } => b"HOST-REMOVE",
            Self::HostFlush { .. } => b"HOST-FLUSH",
            Self::UserMove { .. } => b"USER-MOVE",
            Self::UserKilled { .. } => b"USER-KILLED",
            Self::UserKilledEverywhere { .. } => b"USER-KILLED-EVERYWHERE",
            Self::UserKick { .. } => b"USER-KICK",
            Self::UserKickAlt { .. } => b"USER-KICK-ALT",
            Self::UserKickHash { .. } => b"USER-KICK-HASH",
            Self::Sync { .. } => b"SYNC",
            Self::Ping { .. } => b"PING",
            Self::Pong { .. } => b"PONG",
            Self::Connect { .. } => b"CONNECT",
            Self::Quit { .. } => b"QUIT",
        }
    }
}

/// What nearly all lines are: USER, or a user of a handshake, with an IPv4 address and a timestamp and nothing behind it.
/// Millions of them come when a director joins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PlainUser {
    /// `U`, not `USER`.
    pub(crate) handshake: bool,
    pub(crate) hash: u32,
    pub(crate) host: Ipv4Addr,
    pub(crate) timestamp_secs: u64,
}

impl PlainUser {
    /// Reads a line, without its LF, of a peer that knows [`minor::USER_TIMESTAMP`]. `None` says nothing: then it is for
    /// [`Line::parse`].
    pub(crate) fn read(line: &[u8]) -> Option<Self> {
        let rest = line.strip_prefix(b"U")?;
        let (handshake, rest) = match rest.strip_prefix(b"SER") {
            Some(rest) => (false, rest),
            None => (true, rest),
        };
        let (rest, hash) = plain_number(rest)?;
        let hash = u32::try_from(hash).ok().filter(|&hash| hash != 0)?;
        let (rest, host) = plain_ipv4(rest)?;
        let (rest, timestamp_secs) = plain_number(rest)?;
        rest.is_empty().then_some(Self { handshake, hash, host, timestamp_secs })
    }

    /// What it says of how the user came to his backend.
    pub(crate) fn moved(peer_minor: u32) -> Moved {
        if peer_minor >= minor::KILL_NAMES { Moved::NEVER } else { Moved::UNKNOWN }
    }
}

#[cold]
fn about(command: &[u8], error: &nom::Err<Flaw<'_>>) -> LineError {
    LineError { complaint: Complaint::about(command, error) }
}

/// The last argument of a handshake's user who is weak.
const WEAK: &[u8] = b"w";
/// A count or a generation that is not known, and a user of a handshake who is not weak.
const UNKNOWN: &[u8] = b"-";

impl Origin {
    fn write<'o>(&self, line: LineWriter<'o>) -> LineWriter<'o> {
        line.address(self.address).number(self.seq)
    }
}

impl Moved {
    fn write<'o>(&self, line: LineWriter<'o>) -> LineWriter<'o> {
        let line = match self.generation {
            Some(generation) => line.number(generation.number()),
            None => line.raw(UNKNOWN),
        };
        match &self.of_move {
            Some(of_move) => of_move.write(line),
            None => line,
        }
    }
}

impl HostLine<'_> {
    fn write<'o>(&self, peer_minor: u32, line: LineWriter<'o>) -> LineWriter<'o> {
        let line = line.ip(self.ip).number(self.vhosts);
        if peer_minor >= minor::UPDOWN {
            let UpDown { down, changed_secs } = self.updown.unwrap_or(UpDown { down: false, changed_secs: 0 });
            line.text(&self.tag)
                .raw(if down { b"D" } else { b"U" })
                .and_number(changed_secs)
                .text(self.hostname.as_deref().unwrap_or_default())
        } else if self.tag.is_empty() {
            line
        } else {
            line.text(&self.tag)
        }
    }
}

/// `o-ip o-port seq`
fn origin(input: &[u8]) -> Parsed<'_, Origin> {
    (address, u32("seq")).map(|(address, seq)| Origin { address, seq }).parse(input)
}

/// `kicked|- m-ip m-port m-seq host s-ip s-port s-seq [generation|-]`
fn kill_token(input: &[u8]) -> Parsed<'_, KillToken> {
    (kicked, origin, ip("host"), origin, generation)
        .map(|(kicked, of_move, host, starter, generation)| KillToken { kicked, of_move, host, generation, starter })
        .parse(input)
}

/// `[generation|-]`: nothing is 0.
fn generation(input: &[u8]) -> Parsed<'_, Option<Generation>> {
    let read = |argument: &[u8]| match argument {
        UNKNOWN => Some(None),
        argument => read_u32(argument).and_then(Generation::new).map(Some),
    };
    optional(typed("generation", read)).map(|generation| generation.unwrap_or(Some(Generation::NEVER))).parse(input)
}

/// `[generation|- [m-ip m-port m-seq]]`
fn moved(input: &[u8]) -> Parsed<'_, Moved> {
    (generation, optional(origin)).map(|(generation, of_move)| Moved { generation, of_move }).parse(input)
}

/// 0 is left out, where it would be the last argument.
fn write_last_generation(generation: Option<Generation>, line: LineWriter<'_>) -> LineWriter<'_> {
    match generation {
        Some(Generation::NEVER) => line,
        Some(generation) => line.number(generation.number()),
        None => line.raw(UNKNOWN),
    }
}

/// `kicked|- m-ip m-port m-seq`
fn killed_move(input: &[u8]) -> Parsed<'_, KilledMove> {
    (kicked, origin).map(|(kicked, of_move)| KilledMove { kicked, of_move }).parse(input)
}

/// A number, or `-` if it is not known.
fn kicked(input: &[u8]) -> Parsed<'_, Option<u32>> {
    typed("kicked", |argument| if argument == UNKNOWN { Some(None) } else { read_u32(argument).map(Some) })(input)
}

fn write_kicked<'o>(kicked: Option<u32>, line: LineWriter<'o>) -> LineWriter<'o> {
    match kicked {
        Some(kicked) => line.number(kicked),
        None => line.raw(UNKNOWN),
    }
}

/// `ip port`, where the port may be 0: a standalone director has none.
fn me_address(input: &[u8]) -> Parsed<'_, SocketAddr> {
    let port = typed("port", |argument| read_u32(argument).and_then(|port| u16::try_from(port).ok()));
    (ip("ip"), port).map(SocketAddr::from).parse(input)
}

/// `0` or `1`
fn flag<'a>(name: &'static str) -> impl FnMut(&'a [u8]) -> Parsed<'a, bool> {
    typed(name, |argument| match argument {
        b"0" => Some(false),
        b"1" => Some(true),
        _ => None,
    })
}

/// Whether the arguments of HOST begin with an origin. The two forms of HOST share a name and differ in their fourth
/// argument, which is an address here and `U…` or `D…` in a handshake.
fn is_live_host(input: &[u8]) -> bool {
    (raw("o-ip"), raw("o-port"), raw("seq"), ip("ip")).parse(input).is_ok()
}

/// `ip vhosts [tag [U/Dts [hostname]]]`
fn host(input: &[u8]) -> Parsed<'_, HostLine<'_>> {
    (ip("ip"), u32("vhosts"), optional(text("tag")), optional(typed("state", read_updown)), optional(raw("hostname")))
        .map(|(ip, vhosts, tag, updown, hostname)| HostLine {
            ip,
            vhosts,
            tag: tag.unwrap_or_default(),
            updown,
            hostname: hostname.map(unescape).filter(|name| !name.is_empty()),
        })
        .parse(input)
}

/// `Uts` or `Dts`
fn read_updown(argument: &[u8]) -> Option<UpDown> {
    let (&letter, time) = argument.split_first()?;
    let down = match letter {
        b'U' => false,
        b'D' => true,
        _ => return None,
    };
    Some(UpDown { down, changed_secs: read_u64(time)? })
}

/// The arguments of USER: `hash ip [timestamp [generation|- [m-ip m-port m-seq]]]`, or those of [`handshake_user`] from a peer that does not know `U`.
fn user(input: &[u8], peer_minor: u32) -> Parsed<'_, Line<'_>> {
    let (rest, (hash, host, timestamp_secs)) = (hash, ip("host"), optional(u64("timestamp"))).parse(input)?;
    match timestamp_secs {
        Some(timestamp_secs) if peer_minor < minor::USER_TIMESTAMP => {
            weak.map(|weak| Line::HandshakeUser { hash, host, timestamp_secs, weak, moved: Moved::UNKNOWN }).parse(rest)
        }
        Some(_) if peer_minor >= minor::KILL_NAMES => {
            moved.map(|moved| Line::User { hash, host, timestamp_secs, moved }).parse(rest)
        }
        _ => Ok((rest, Line::User { hash, host, timestamp_secs, moved: Moved::UNKNOWN })),
    }
}

/// `hash ip timestamp [w]`
fn older_handshake_user(input: &[u8]) -> Parsed<'_, Line<'_>> {
    (hash, ip("host"), u64("timestamp"), weak)
        .map(|(hash, host, timestamp_secs, weak)| {
            let moved = Moved::UNKNOWN;
            Line::HandshakeUser { hash, host, timestamp_secs, weak, moved }
        })
        .parse(input)
}

/// `hash ip timestamp [w|- [generation|- [m-ip m-port m-seq]]]`
fn handshake_user(input: &[u8]) -> Parsed<'_, Line<'_>> {
    let is_weak = |argument: &[u8]| match argument {
        WEAK => Some(true),
        UNKNOWN => Some(false),
        _ => None,
    };
    (hash, ip("host"), u64("timestamp"), optional(typed("weak flag", is_weak)), moved)
        .map(|(hash, host, timestamp_secs, weak, moved)| {
            let weak = weak.unwrap_or(false);
            Line::HandshakeUser { hash, host, timestamp_secs, weak, moved }
        })
        .parse(input)
}

/// `[w]`
fn weak(input: &[u8]) -> Parsed<'_, bool> {
    optional(typed("weak flag", |argument| (argument == WEAK).then_some(()))).map(|weak| weak.is_some()).parse(input)
}

/// `minor [timestamp [hosts-hash]]`: they came one by one in the course of the versions, and the original still takes
/// them so. 0 is "not known" for a hosts-hash, and older than everything for a timestamp.
fn sync_info(input: &[u8]) -> Parsed<'_, SyncInfo> {
    (u32("minor"), optional(u64("timestamp")), optional(u32("hosts-hash")))
        .map(|(minor, timestamp, hosts_hash)| SyncInfo {
            minor,
            timestamp_secs: timestamp.unwrap_or(0),
            hosts_hash: hosts_hash.unwrap_or(0),
        })
        .parse(input)
}

/// `[unix-time bytes-in-send-buffer]`. They serve for messages only, and the original answers a PING whatever stands
/// here; to drop a neighbour for it would be out of proportion.
fn ping_info(input: &[u8]) -> Parsed<'_, Option<PingInfo>> {
    opt((u64("time"), u64("buffered bytes")))
        .map(|info| info.map(|(timestamp_secs, buffered_bytes)| PingInfo { timestamp_secs, buffered_bytes }))
        .parse(input)
}

#[cfg(test)]
mod tests;
