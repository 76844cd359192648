//! The values of settings: times, sizes, numbers, addresses, members and backends.
//!
//! What is taken and what is refused was observed on Dovecot 2.3.19.1 (`doveconf`, and the director itself for members
//! and backends). Where this is stricter, the comment says why.

use std::fmt::Display;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;
use std::str::FromStr;
use std::time::Duration;

use nom::character::complete::{alpha0, digit1, multispace0};
use nom::combinator::{all_consuming, map_res};
use nom::sequence::terminated;
use nom::{IResult, Parser};

use super::{HostSetting, Place, SettingsError};
use crate::contract::Role;

/// What is wrong with a value, before anybody knows where it stood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Wrong {
    pub(super) message: String,
    pub(super) remedy: String,
}

impl Wrong {
    pub(super) fn new(message: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { message: message.into(), remedy: remedy.into() }
    }

    pub(super) fn at(self, place: &Place) -> SettingsError {
        SettingsError { place: place.clone(), message: self.message, remedy: self.remedy }
    }
}

/// A time such as `15 min`. Units may be cut short (`1 h`, `2 week`), in any case; only 0 needs none.
///
/// Milliseconds are taken everywhere; Dovecot takes them here only if they make whole seconds.
pub(super) fn time(text: &str) -> Result<Duration, Wrong> {
    // The order matters: `m` and `mi` are minutes.
    const UNITS: &[(&[&str], u64)] = &[
        (&["secs", "seconds"], 1_000),
        (&["mins", "minutes"], 60_000),
        (&["msecs", "mseconds", "millisecs", "milliseconds"], 1),
        (&["hours"], 3_600_000),
        (&["days"], 86_400_000),
        (&["weeks"], 604_800_000),
    ];
    let units = "the units are secs, mins, hours, days, weeks and msecs";
    let (number, unit) =
        number_and_unit(text).ok_or_else(|| Wrong::new(not("a time", text), format!("{units}, as in '15 mins'")))?;
    if unit.is_empty() {
        if number == 0 {
            return Ok(Duration::ZERO);
        }
        return Err(Wrong::new(
            format!("the time '{number}' has no unit"),
            format!("for seconds write '{number} secs'; {units}"),
        ));
    }
    let scale =
        scale_of(unit, UNITS).ok_or_else(|| Wrong::new(format!("'{}' is no unit of time", printable(unit)), units))?;
    let msecs = number.checked_mul(scale).filter(|msecs| msecs / 1_000 <= u64::from(u32::MAX));
    msecs
        .map(Duration::from_millis)
        .ok_or_else(|| Wrong::new(format!("the time '{text}' is too large"), "write less than 7000 weeks"))
}

/// A size in bytes, such as `10 M` or `512 kB`; each unit is 1024 of the one before.
pub(super) fn size(text: &str) -> Result<u64, Wrong> {
    const UNITS: &[(&[&str], u64)] = &[
        (&["b"], 1),
        (&["kb", "kib"], 1 << 10),
        (&["mb", "mib"], 1 << 20),
        (&["gb", "gib"], 1 << 30),
        (&["tb", "tib"], 1 << 40),
    ];
    let units = "the units are B, k, M, G and T, as in '10 M'";
    let (number, unit) = number_and_unit(text).ok_or_else(|| Wrong::new(not("a size", text), units))?;
    let scale = match unit {
        "" => 1,
        _ => scale_of(unit, UNITS)
            .ok_or_else(|| Wrong::new(format!("'{}' is no unit of size", printable(unit)), units))?,
    };
    number.checked_mul(scale).ok_or_else(|| Wrong::new(format!("the size '{text}' is too large"), "write less"))
}

fn number_and_unit(text: &str) -> Option<(u64, &str)> {
    let number = terminated(map_res(digit1, u64::from_str), multispace0);
    let parsed: IResult<&str, (u64, &str)> = all_consuming((number, terminated(alpha0, multispace0))).parse(text);
    parsed.ok().map(|(_, found)| found)
}

/// The number for a unit that any of the names begins with.
fn scale_of(unit: &str, units: &[(&[&str], u64)]) -> Option<u64> {
    let unit = unit.to_ascii_lowercase();
    units.iter().find(|(names, _)| names.iter().any(|name| name.starts_with(&unit))).map(|&(_, scale)| scale)
}

/// A decimal number of 32 bits.
pub(super) fn number(text: &str) -> Result<u32, Wrong> {
    let parsed: IResult<&str, u32> = all_consuming(map_res(digit1, u32::from_str)).parse(text);
    parsed.map(|(_, number)| number).map_err(|_| Wrong::new(not("a number", text), format!("write 0 to {}", u32::MAX)))
}

/// `yes` or `no`; Dovecot also takes `y` and `1`, but neither `n` nor `0`.
pub(super) fn boolean(text: &str) -> Result<bool, Wrong> {
    if ["yes", "y", "1"].iter().any(|yes| text.eq_ignore_ascii_case(yes)) {
        Ok(true)
    } else if text.eq_ignore_ascii_case("no") {
        Ok(false)
    } else {
        Err(Wrong::new(format!("'{}' is neither yes nor no", printable(text)), "write yes or no"))
    }
}

/// A socket's permission bits: octal, with a leading 0.
///
/// Dovecot reads `666` as a decimal number, which gives 01232. Nobody means that, and a socket that the wrong people
/// can open is worse than a refusal.
pub(super) fn mode(text: &str) -> Result<u32, Wrong> {
    let octal = !text.is_empty() && text.bytes().all(|byte| matches!(byte, b'0'..=b'7'));
    if !octal {
        return Err(Wrong::new(not("a mode", text), "write an octal number, such as 0600 or 0666"));
    }
    if !text.starts_with('0') {
        return Err(Wrong::new(
            format!("the mode '{}' has no leading 0, so that Dovecot takes it for a decimal number", printable(text)),
            format!("write 0{}", printable(text)),
        ));
    }
    let mode = u32::from_str_radix(text, 8).ok().filter(|mode| *mode <= 0o7777);
    mode.ok_or_else(|| Wrong::new(format!("the mode '{}' is too large", printable(text)), "write at most 07777"))
}

/// A port of a listener; 0 = no listener.
pub(super) fn port(text: &str) -> Result<u16, Wrong> {
    let parsed: IResult<&str, u16> = all_consuming(map_res(digit1, u16::from_str)).parse(text);
    parsed
        .map(|(_, port)| port)
        .map_err(|_| Wrong::new(not("a port", text), "write a number from 1 to 65535, or 0 for no listener"))
}

/// The addresses of `listen` or of a listener, separated by spaces or commas; empty = all. `*` is all of IPv4 and
/// `::` all of IPv6, and what they include is left out.
///
/// Names are refused, which Dovecot would resolve: which member of the ring we are hangs on these.
pub(super) fn addresses(text: &str) -> Result<Vec<IpAddr>, Wrong> {
    let mut addresses = Vec::new();
    for word in text.split([' ', '\t', '\n', '\r', ',']).filter(|word| !word.is_empty()) {
        let address = match word {
            "*" => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            _ => ip(word).ok_or_else(|| {
                Wrong::new(
                    not("an IP address", word),
                    "write addresses, separated by spaces, or '*' for all of IPv4 and '::' for all of IPv6",
                )
            })?,
        };
        if !addresses.contains(&address) {
            addresses.push(address);
        }
        if addresses.len() > ADDRESSES_MAX {
            return Err(Wrong::new(format!("more than {ADDRESSES_MAX} addresses"), "use '*' or '::'"));
        }
    }
    let all_v4 = addresses.contains(&IpAddr::V4(Ipv4Addr::UNSPECIFIED));
    let all_v6 = addresses.contains(&IpAddr::V6(Ipv6Addr::UNSPECIFIED));
    if all_v4 && all_v6 {
        addresses.clear();
    }
    addresses.retain(|address| address.is_unspecified() || if address.is_ipv4() { !all_v4 } else { !all_v6 });
    Ok(addresses)
}

/// Each is a socket to open; the list is searched for duplicates.
const ADDRESSES_MAX: usize = 256;

/// One word of director_servers: an address or a name, with or without `:port`.
pub(super) fn server(word: &str) -> Result<(HostSetting, Option<u16>), Wrong> {
    // An IPv6 address without brackets has no port: `::1:9090` is an address.
    if let Some(ip) = ip(word) {
        return Ok((member_address(ip)?, None));
    }
    let (host, port) = match word.rsplit_once(':') {
        Some((host, text)) => {
            let port = port(text).ok().filter(|port| *port > 0).ok_or_else(|| {
                Wrong::new(
                    format!("'{}' has no port after its last ':'", printable(word)),
                    "write HOST:PORT, or [IPv6]:PORT, with a port from 1 to 65535",
                )
            })?;
            (host, Some(port))
        }
        None => (word, None),
    };
    let host = match ip(host) {
        Some(ip) if ip.is_ipv4() || host.starts_with('[') => member_address(ip)?,
        Some(_) => return Err(Wrong::new(not("an IP address", word), format!("write [{host}]:PORT"))),
        None => HostSetting::Name(name(host)?),
    };
    Ok((host, port))
}

/// One word of director_mail_servers: an address, two of them with a `-` between, or a name; then perhaps `@tag`.
pub(super) fn mail_server(word: &str) -> Result<(Vec<HostSetting>, &str), Wrong> {
    let (host, tag) = word.split_once('@').unwrap_or((word, ""));
    if let Some(ip) = ip(host) {
        return Ok((vec![member_address(ip)?], tag));
    }
    if let Some((first, last)) = host.split_once('-') {
        // A name may have a `-` too, but nothing that begins with an address is a name.
        if let Some(first) = ip(first) {
            let last = ip(last)
                .ok_or_else(|| Wrong::new(not("an IP address", last), "write FIRST-LAST, with two whole addresses"))?;
            return Ok((range(first, last)?, tag));
        }
    }
    if let Some((before, _)) = host.rsplit_once(':')
        && (ip(before).is_some() || name(before).is_ok())
    {
        return Err(Wrong::new(
            format!("'{}' has a port", printable(host)),
            format!("write '{before}': the port of a backend comes from the passdb (port=)"),
        ));
    }
    Ok((vec![HostSetting::Name(name(host)?)], tag))
}

/// All addresses from first to last; as in Dovecot, they may differ in their last 8 (IPv4) or 16 bits (IPv6).
fn range(first: IpAddr, last: IpAddr) -> Result<Vec<HostSetting>, Wrong> {
    let shown = format!("{first}-{last}");
    let backwards = || Wrong::new(format!("the range {shown} is backwards"), format!("write {last}-{first}"));
    let too_large = |bits| {
        let remedy = format!("both ends must have the same first {bits} bits; write several ranges");
        Wrong::new(format!("the range {shown} is too large"), remedy)
    };
    let addresses: Vec<IpAddr> = match (first, last) {
        (IpAddr::V4(first), IpAddr::V4(last)) => {
            let (first, last) = (first.to_bits(), last.to_bits());
            if first > last {
                return Err(backwards());
            }
            if first >> 8 != last >> 8 {
                return Err(too_large(24));
            }
            (first..=last).map(|bits| IpAddr::V4(Ipv4Addr::from_bits(bits))).collect()
        }
        (IpAddr::V6(first), IpAddr::V6(last)) => {
            let (first, last) = (first.to_bits(), last.to_bits());
            if first > last {
                return Err(backwards());
            }
            if first >> 16 != last >> 16 {
                return Err(too_large(112));
            }
            (first..=last).map(|bits| IpAddr::V6(Ipv6Addr::from_bits(bits))).collect()
        }
        _ => return Err(Wrong::new(format!("the range {shown} goes from IPv4 to IPv6"), "write one range of each")),
    };
    addresses.into_iter().map(member_address).collect()
}

/// An address that somebody can be at.
fn member_address(ip: IpAddr) -> Result<HostSetting, Wrong> {
    if ip.is_unspecified() || ip.is_multicast() {
        return Err(Wrong::new(format!("no server can have the address {ip}"), "write the server's own address"));
    }
    Ok(HostSetting::Ip(ip))
}

/// An address, IPv6 with or without brackets. Short forms of IPv4 (`10.1`) are refused: they are typing errors more
/// often than not.
fn ip(text: &str) -> Option<IpAddr> {
    match text.strip_prefix('[') {
        Some(inner) => inner.strip_suffix(']')?.parse().ok().map(IpAddr::V6),
        None => text.parse().ok(),
    }
}

/// A host name that could be resolved.
fn name(text: &str) -> Result<String, Wrong> {
    let wrong = || {
        Wrong::new(
            format!("'{}' is neither an IP address nor a host name", printable(text)),
            "servers are separated by spaces; write a server's address or its name",
        )
    };
    let letters = text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_'));
    let like_an_address = text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    if !letters || like_an_address || text.len() > NAME_MAX_BYTES || text.starts_with(['-', '.']) {
        return Err(wrong());
    }
    Ok(text.to_owned())
}

/// The longest name that the DNS has.
const NAME_MAX_BYTES: usize = 253;

/// director_flush_socket: `unix:PATH`, `tcp:HOST:PORT` or `exec:PATH ARGUMENTS` (kick protocol, "The flush socket").
pub(super) fn flush_socket(text: &str) -> Result<String, Wrong> {
    let good = match text.split_once(':') {
        None => text.is_empty(),
        Some(("unix" | "exec", path)) => !path.trim().is_empty(),
        Some(("tcp", target)) => target
            .rsplit_once(':')
            .is_some_and(|(host, text)| !host.is_empty() && port(text).is_ok_and(|port| port > 0)),
        Some(_) => false,
    };
    if good {
        return Ok(text.to_owned());
    }
    Err(Wrong::new(not("a flush socket", text), "write 'unix:PATH', 'tcp:HOST:PORT' or 'exec:PATH ARGUMENTS'"))
}

/// What a unix socket or FIFO is for (overview, "The sockets").
pub(super) fn file_role(path: &Path, fifo: bool) -> Role {
    // Nobody can answer through a FIFO, so all others are out of the question.
    if fifo {
        return Role::Notify;
    }
    let file_name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    role_word(file_name).unwrap_or(Role::Login)
}

/// What a TCP socket is for.
pub(super) fn inet_role(name: &str) -> Role {
    role_word(name).unwrap_or(Role::Ring)
}

fn role_word(name: &str) -> Option<Role> {
    match name.rsplit('-').next()? {
        "ring" => Some(Role::Ring),
        "auth" => Some(Role::Login),
        "userdb" => Some(Role::Userdb),
        "authreply" => Some(Role::AuthReply),
        "admin" | "doveadm" => Some(Role::Admin),
        "notify" => Some(Role::Notify),
        _ => None,
    }
}

fn not(what: impl Display, text: &str) -> String {
    format!("'{}' is not {what}", printable(text))
}

/// For messages: no control characters, and no more than a reader wants to see.
fn printable(text: &str) -> String {
    let mut short: String = text.chars().take(SHOWN_CHARS).flat_map(char::escape_debug).collect();
    if text.chars().nth(SHOWN_CHARS).is_some() {
        short.push('…');
    }
    short
}

/// Long enough for every value that could be right.
const SHOWN_CHARS: usize = 100;

#[cfg(test)]
mod tests {
    use quickcheck::quickcheck;

    use super::*;

    fn message<T: std::fmt::Debug>(result: Result<T, Wrong>) -> String {
        result.unwrap_err().message
    }

    #[test]
    fn times_read_as_in_dovecot() {
        let secs = |text| time(text).map(|time| time.as_secs_f64()).ok();
        let observed = [
            ("15 min", 900.0),
            ("15min", 900.0),
            ("60s", 60.0),
            ("60 s", 60.0),
            ("1 hour", 3_600.0),
            ("1h", 3_600.0),
            ("1 ho", 3_600.0),
            ("1 H", 3_600.0),
            ("2 hours", 7_200.0),
            ("1 days", 86_400.0),
            ("1d", 86_400.0),
            ("1 week", 604_800.0),
            ("2w", 1_209_600.0),
            ("1 m", 60.0),
            ("1 mi", 60.0),
            ("2 minute", 120.0),
            ("15 MIN", 900.0),
            ("100 secon", 100.0),
            ("12  min", 720.0),
            ("0", 0.0),
            ("20000 msecs", 20.0),
            ("20000ms", 20.0),
            ("100000 mse", 100.0),
            ("100000 mil", 100.0),
            ("100000 millisecs", 100.0),
            ("300 weeks", 181_440_000.0),
            // This one Dovecot refuses here, and takes elsewhere.
            ("1500 msecs", 1.5),
        ];
        for (text, expected) in observed {
            assert_eq!(secs(text), Some(expected), "{text}");
        }
        for text in [
            "",
            "abc",
            "1.5 min",
            "-1 min",
            "1 month",
            "10 sx",
            "1 min x",
            "15 min.",
            "100 mss",
            "1 mint",
            "1 us",
            "99999999999999999999",
        ] {
            assert!(time(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_wrong_time_is_explained() {
        let wrong = time("15").unwrap_err();
        assert_eq!(wrong.message, "the time '15' has no unit");
        assert!(wrong.remedy.starts_with("for seconds write '15 secs';"));
        assert_eq!(message(time("15 month")), "'month' is no unit of time");
        assert_eq!(message(time("8000 weeks")), "the time '8000 weeks' is too large");
        assert_eq!(message(time("soon")), "'soon' is not a time");
    }

    #[test]
    fn sizes_read_as_in_dovecot() {
        let observed = [
            ("10 M", 10 << 20),
            ("10M", 10 << 20),
            ("10 mb", 10 << 20),
            ("512k", 512 << 10),
            ("512 kB", 512 << 10),
            ("512 KiB", 512 << 10),
            ("1 ki", 1 << 10),
            ("1G", 1 << 30),
            ("20 T", 20 << 40),
            ("100", 100),
            ("100b", 100),
            ("0", 0),
        ];
        for (text, expected) in observed {
            assert_eq!(size(text), Ok(expected), "{text}");
        }
        for text in ["", "-1", "10 X", "10 MM", "1.5 M", "1 kbb", "1 bytes", "unlimited", "17179869184 G"] {
            assert!(size(text).is_err(), "{text}");
        }
    }

    #[test]
    fn numbers_booleans_modes_and_ports_read_as_in_dovecot() {
        assert_eq!(number("010"), Ok(10));
        assert_eq!(number("4294967295"), Ok(u32::MAX));
        for text in ["", "-1", "5x", "4294967296", "0x10"] {
            assert!(number(text).is_err(), "{text}");
        }
        for text in ["yes", "YES", "y", "1"] {
            assert_eq!(boolean(text), Ok(true));
        }
        for text in ["no", "nO"] {
            assert_eq!(boolean(text), Ok(false));
        }
        for text in ["", "n", "0", "true", "ye", "nope"] {
            assert!(boolean(text).is_err(), "{text}");
        }
        assert_eq!(mode("0600"), Ok(0o600));
        assert_eq!((mode("0"), mode("00")), (Ok(0), Ok(0)));
        assert_eq!(mode("07777"), Ok(0o7777));
        assert_eq!(mode("666").unwrap_err().remedy, "write 0666");
        for text in ["", "0o666", "0888", "rw", "010777", "077777777777777777777"] {
            assert!(mode(text).is_err(), "{text}");
        }
        assert_eq!((port("0"), port("65535")), (Ok(0), Ok(65535)));
        for text in ["", "65536", "-1", "9090x", "imap"] {
            assert!(port(text).is_err(), "{text}");
        }
    }

    #[test]
    fn addresses_are_separated_by_spaces_or_commas() {
        let v4: IpAddr = "10.0.0.1".parse().unwrap();
        let v6: IpAddr = "::1".parse().unwrap();
        assert_eq!(addresses("10.0.0.1, ::1"), Ok(vec![v4, v6]));
        assert_eq!(addresses("10.0.0.1 [::1],10.0.0.1"), Ok(vec![v4, v6]));
        assert_eq!(addresses("*, ::"), Ok(vec![]));
        assert_eq!(addresses("*,10.0.0.1 ::1"), Ok(vec![IpAddr::V4(Ipv4Addr::UNSPECIFIED), v6]));
        assert_eq!(addresses(":: ::1"), Ok(vec![IpAddr::V6(Ipv6Addr::UNSPECIFIED)]));
        assert_eq!(message(addresses("10.0.0.1 localhost")), "'localhost' is not an IP address");
    }

    #[test]
    fn members_have_an_address_or_a_name_and_perhaps_a_port() {
        let ip = |text: &str| HostSetting::Ip(text.parse().unwrap());
        let name = |text: &str| HostSetting::Name(text.into());
        assert_eq!(server("10.0.0.1"), Ok((ip("10.0.0.1"), None)));
        assert_eq!(server("10.0.0.1:99"), Ok((ip("10.0.0.1"), Some(99))));
        assert_eq!(server("::6"), Ok((ip("::6"), None)));
        assert_eq!(server("::8:9"), Ok((ip("::8:9"), None)));
        assert_eq!(server("[::7]"), Ok((ip("::7"), None)));
        assert_eq!(server("[::5]:99"), Ok((ip("::5"), Some(99))));
        assert_eq!(server("d-1.example.com"), Ok((name("d-1.example.com"), None)));
        assert_eq!(server("d1:99"), Ok((name("d1"), Some(99))));
        for text in ["10.0.0.1:", "10.0.0.1:0", "10.0.0.1:70000", "10.0.0.1:abc"] {
            assert_eq!(message(server(text)), format!("'{text}' has no port after its last ':'"));
        }
        for text in [
            "",
            ":99",
            "10.0.0.256",
            "10.1",
            "a,b",
            "[::1",
            "::1]",
            "10.0.0.9-10.0.0.10@x",
            "0.0.0.0",
            "224.0.0.1",
            "::",
            "-x",
            "2001:db8:1:2:3:4:5:6:9090",
        ] {
            assert!(server(text).is_err(), "{text}");
        }
    }

    #[test]
    fn backends_have_an_address_a_range_or_a_name_and_perhaps_a_tag() {
        let ip = |text: &str| HostSetting::Ip(text.parse().unwrap());
        assert_eq!(mail_server("10.0.0.1"), Ok((vec![ip("10.0.0.1")], "")));
        assert_eq!(mail_server("10.0.0.1@"), Ok((vec![ip("10.0.0.1")], "")));
        assert_eq!(mail_server("[::1]@a@b"), Ok((vec![ip("::1")], "a@b")));
        assert_eq!(mail_server("10.0.0.1-10.0.0.3@t"), Ok((vec![ip("10.0.0.1"), ip("10.0.0.2"), ip("10.0.0.3")], "t")));
        assert_eq!(mail_server("10.0.0.1-10.0.0.1"), Ok((vec![ip("10.0.0.1")], "")));
        assert_eq!(mail_server("fe80::1:1-fe80::1:2"), Ok((vec![ip("fe80::1:1"), ip("fe80::1:2")], "")));
        assert_eq!(
            mail_server("mail-1.example.com@t"),
            Ok((vec![HostSetting::Name("mail-1.example.com".into())], "t"))
        );
        assert_eq!(mail_server("255.255.255.255-255.255.255.255").map(|(hosts, _)| hosts.len()), Ok(1));
        assert_eq!(mail_server("2001:db8::-2001:db8::ffff").map(|(hosts, _)| hosts.len()), Ok(65536));
    }

    #[test]
    fn a_wrong_backend_is_explained() {
        assert_eq!(message(mail_server("10.0.0.5-10.0.0.3")), "the range 10.0.0.5-10.0.0.3 is backwards");
        assert_eq!(mail_server("10.0.0.5-10.0.0.3").unwrap_err().remedy, "write 10.0.0.3-10.0.0.5");
        assert_eq!(message(mail_server("10.0.0.1-10.0.1.4")), "the range 10.0.0.1-10.0.1.4 is too large");
        assert_eq!(message(mail_server("fe80::1:1-fe80::2:1")), "the range fe80::1:1-fe80::2:1 is too large");
        assert_eq!(message(mail_server("10.0.0.1-::1")), "the range 10.0.0.1-::1 goes from IPv4 to IPv6");
        assert_eq!(message(mail_server("10.0.0.1-5")), "'5' is not an IP address");
        assert_eq!(message(mail_server("10.0.0.1:99")), "'10.0.0.1:99' has a port");
        assert_eq!(message(mail_server("a,b")), "'a,b' is neither an IP address nor a host name");
        assert_eq!(message(mail_server("@t")), "'' is neither an IP address nor a host name");
        assert_eq!(message(mail_server("0.0.0.0")), "no server can have the address 0.0.0.0");
        assert_eq!(
            message(mail_server(&"\u{1}".repeat(300))).len(),
            "''… is neither an IP address nor a host name".len() + 500
        );
    }

    #[test]
    fn a_flush_socket_says_how_it_is_reached() {
        for text in ["", "unix:user-flush", "tcp:127.0.0.1:99", "tcp:[::1]:99", "exec:/bin/flush a b"] {
            assert_eq!(flush_socket(text), Ok(text.to_owned()));
        }
        for text in ["user-flush", "unix:", "tcp:127.0.0.1", "tcp::99", "tcp:a:0", "http://a"] {
            assert!(flush_socket(text).is_err(), "{text}");
        }
    }

    #[test]
    fn roles_hang_on_the_last_word_of_the_name() {
        // Each observed on a director of Dovecot 2.3.19.1.
        let file = |path: &str| file_role(Path::new(path), false);
        assert_eq!(file("login/director"), Role::Login);
        assert_eq!(file("director-admin"), Role::Admin);
        assert_eq!(file("admin"), Role::Admin);
        assert_eq!(file("foo-doveadm"), Role::Admin);
        assert_eq!(file("director-userdb"), Role::Userdb);
        assert_eq!(file("director-authreply"), Role::AuthReply);
        assert_eq!(file("foo-ring"), Role::Ring);
        assert_eq!(file("foo-auth"), Role::Login);
        assert_eq!(file("login/proxy-notify"), Role::Notify);
        assert_eq!(file("foo-bar"), Role::Login);
        assert_eq!(file("x.admin"), Role::Login);
        assert_eq!(file("foo-Admin"), Role::Login);
        assert_eq!(file("a-admin/foo"), Role::Login);
        assert_eq!(file_role(Path::new("x-admin"), true), Role::Notify);
        assert_eq!(inet_role(""), Role::Ring);
        assert_eq!(inet_role("foo"), Role::Ring);
        assert_eq!(inet_role("director-admin"), Role::Admin);
        assert_eq!(inet_role("foo-auth"), Role::Login);
    }

    quickcheck! {
        fn whole_seconds_survive_printing(secs: u32) -> bool {
            time(&format!("{secs} secs")) == Ok(Duration::from_secs(secs.into()))
        }

        fn backends_survive_printing(bits: u128, length: u8) -> bool {
            let first = Ipv6Addr::from_bits((bits | 1 << 96) & !0xffff & (u128::MAX >> 1));
            let last = Ipv6Addr::from_bits(first.to_bits() + u128::from(length));
            let word = format!("{first}-{last}@tag");
            mail_server(&word).is_ok_and(|(hosts, tag)| {
                tag == "tag" && hosts.len() == usize::from(length) + 1 && hosts[0] == HostSetting::Ip(first.into())
            })
        }

        fn any_text_is_read_or_refused(text: String) -> bool {
            let _ = (time(&text), size(&text), number(&text), boolean(&text), mode(&text), port(&text));
            let _ = (addresses(&text), server(&text), mail_server(&text), flush_socket(&text));
            let _ = (file_role(Path::new(&text), false), inet_role(&text));
            true
        }
    }
}
