//! Lines of lists and lookups, read (admin protocol, "Commands" and "DIRECTOR-LIST").

use std::borrow::Cow;
use std::net::IpAddr;

use crate::wire::line::unescape;

/// A line of HOST-LIST.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostRow {
    /// The backend.
    pub ip: IpAddr,
    /// Its weight.
    pub vhosts: u32,
    /// How many users it has.
    pub users: u64,
    /// Its tag; may be empty.
    pub tag: Vec<u8>,
    /// Set down.
    pub down: bool,
    /// When it was last set up or down, in Unix time; 0 = never.
    pub changed_secs: u64,
}

impl HostRow {
    /// Reads a line without its LF. More fields than we know are ignored, so that a newer server may add some.
    pub fn parse(line: &[u8]) -> Option<Self> {
        let mut fields = fields(line);
        Some(Self {
            ip: ip(&fields.next()?)?,
            vhosts: number(&fields.next()?)?,
            users: number(&fields.next()?)?,
            tag: fields.next()?.into_owned(),
            down: fields.next()?.starts_with(b"D"),
            changed_secs: number(&fields.next()?)?,
        })
    }

    /// Whether the hash of some user can lead here.
    pub fn takes_users(&self) -> bool {
        !self.down && self.vhosts > 0
    }
}

/// A line of DIRECTOR-LIST: of a member, or of one of its connections.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DirectorRow {
    /// The fields as they came, unescaped, in the order of the protocol; those that are missing are not there. A
    /// connection that has not said who it is has four empty ones in front.
    pub fields: Vec<Vec<u8>>,
}

/// How many fields a line of DIRECTOR-LIST has at most.
const DIRECTOR_FIELDS: usize = 12;

impl DirectorRow {
    /// Reads a line without its LF. Any line is one: what is not there is shown as missing.
    pub fn parse(line: &[u8]) -> Self {
        let mut fields: Vec<Vec<u8>> = fields(line).map(Cow::into_owned).take(DIRECTOR_FIELDS).collect();
        // Connections that have not said ME are listed without ip, port, type and last-failed.
        if fields[0].starts_with(b"handshaking") {
            fields.splice(0..0, vec![Vec::new(); 4]);
            fields.truncate(DIRECTOR_FIELDS);
        }
        Self { fields }
    }

    /// A field, if it is there.
    pub fn field(&self, column: DirectorColumn) -> Option<&[u8]> {
        self.fields.get(column as usize).map(Vec::as_slice)
    }
}

/// The fields of DIRECTOR-LIST.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub enum DirectorColumn {
    /// The member's address.
    Ip,
    /// Its port.
    Port,
    /// `self`, `left`, `right`, …
    Type,
    /// Unix time; 0 = never.
    LastFailed,
    /// `ring synced`, `synced`, `handshaking …`
    Status,
    /// Milliseconds.
    Ping,
    /// Bytes received.
    Input,
    /// Bytes sent.
    Output,
    /// Bytes waiting to be sent.
    Buffered,
    /// The most bytes that have waited.
    BufferedPeak,
    /// Unix time.
    LastRead,
    /// Unix time.
    LastWrite,
}

/// A line of USER-LIST.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UserRow {
    /// The hash of his name.
    pub hash: u32,
    /// When he will be forgotten if nobody refreshes him, in Unix time.
    pub expires_secs: u64,
    /// His backend.
    pub ip: IpAddr,
}

impl UserRow {
    /// Reads a line without its LF.
    pub fn parse(line: &[u8]) -> Option<Self> {
        let mut fields = fields(line);
        Some(Self { hash: number(&fields.next()?)?, expires_secs: number(&fields.next()?)?, ip: ip(&fields.next()?)? })
    }
}

/// The answer to USER-LOOKUP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LookupAnswer {
    /// His backend now, and when he will be forgotten if nobody refreshes him (Unix time).
    pub current: Option<(IpAddr, u64)>,
    /// The backend of his hash among the ring's backends.
    pub hashed: Option<IpAddr>,
    /// The backend of his hash among the configuration's.
    pub initial: Option<IpAddr>,
}

impl LookupAnswer {
    /// Reads the line without its LF.
    pub fn parse(line: &[u8]) -> Option<Self> {
        let mut fields = fields(line);
        let current = optional_ip(&fields.next()?)?;
        let expires_secs = number(&fields.next()?)?;
        let hashed = optional_ip(&fields.next()?)?;
        let initial = optional_ip(&fields.next()?)?;
        // A fifth field would mean that this is the answer to something else.
        fields.next().is_none().then_some(Self { current: current.map(|ip| (ip, expires_secs)), hashed, initial })
    }
}

/// The fields of a line, unescaped.
fn fields(line: &[u8]) -> impl Iterator<Item = Cow<'_, [u8]>> {
    line.split(|&byte| byte == b'\t').map(unescape)
}

fn ip(field: &[u8]) -> Option<IpAddr> {
    std::str::from_utf8(field).ok()?.parse().ok()
}

/// Empty = none; the outer `None` = neither.
fn optional_ip(field: &[u8]) -> Option<Option<IpAddr>> {
    if field.is_empty() { Some(None) } else { ip(field).map(Some) }
}

fn number<N: std::str::FromStr>(field: &[u8]) -> Option<N> {
    // FromStr would also take a sign.
    if field.is_empty() || !field.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(field).ok()?.parse().ok()
}
