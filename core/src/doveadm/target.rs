//! Sockets and hosts as they are written on a command line (admin protocol, "The command line").

use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use std::str::FromStr;

/// Where a director's admin socket is: what `-a` says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// A unix socket.
    Path(PathBuf),
    /// TCP.
    Tcp {
        /// An address or a name.
        host: String,
        /// The port.
        port: u16,
    },
}

impl FromStr for Target {
    type Err = String;

    /// A path has a `/` in it; all else is `host:port` or `[ipv6]:port`.
    fn from_str(text: &str) -> Result<Self, String> {
        if text.contains('/') {
            return Ok(Self::Path(text.into()));
        }
        let wrong = || format!("'{text}' is neither a path (with a '/'), nor host:port, nor [ipv6]:port");
        let (host, port) = text.rsplit_once(':').ok_or_else(wrong)?;
        let bracketed = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        let host = match bracketed {
            Some(ip) => ip,
            // An IPv6 address without brackets: which colon is before the port?
            None if host.contains(':') => return Err(wrong()),
            None => host,
        };
        match port.parse() {
            Ok(port) if port > 0 && !host.is_empty() => Ok(Self::Tcp { host: host.to_owned(), port }),
            _ => Err(wrong()),
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Path(path) => write!(formatter, "{}", path.display()),
            Self::Tcp { host, port } if host.contains(':') => write!(formatter, "[{host}]:{port}"),
            Self::Tcp { host, port } => write!(formatter, "{host}:{port}"),
        }
    }
}

/// A backend or a director as an operator writes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Host {
    /// An address.
    Ip(IpAddr),
    /// A name, which stands for all of its addresses.
    Name(String),
}

impl FromStr for Host {
    type Err = String;

    /// A bare number is refused: the C library would take it for an address (5 for 0.0.0.5), and it is most likely a
    /// weight in the wrong place.
    fn from_str(text: &str) -> Result<Self, String> {
        let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
        if let Ok(ip) = bare.parse() {
            return Ok(Self::Ip(ip));
        }
        if text.is_empty() || text.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(format!("Invalid host '{text}'"));
        }
        Ok(Self::Name(text.to_owned()))
    }
}

/// `host` or `host@tag`, as `add` takes it. A name has no `@`.
pub fn split_tag(text: &str) -> (&str, Option<&str>) {
    match text.split_once('@') {
        Some((host, tag)) => (host, Some(tag)),
        None => (text, None),
    }
}
