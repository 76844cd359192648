//! Reading and printing the arguments of a line, for all protocols whose lines are `COMMAND TAB argument TAB …`.
//!
//! The parsers are nom's. What is left to parse is always empty or begins with the TAB before an argument. Arguments
//! after the last one that a command knows are ignored, because commands have grown arguments over time.

use std::borrow::Cow;
use std::fmt;
use std::io::Write as _;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use nom::bytes::complete::{tag, take_till};
use nom::combinator::{all_consuming, verify};
use nom::error::{ErrorKind, ParseError};
use nom::sequence::preceded;
use nom::{IResult, Parser};

use super::line::{Printable, escape, unescape};

/// How much of a peer's bytes an error may quote: enough to recognise them, and far less than a line of the ring, since
/// the text goes back to the peer in a QUIT.
const QUOTE_MAX_BYTES: usize = 100;

pub(super) type Parsed<'a, T> = IResult<&'a [u8], T, Flaw<'a>>;

/// What is wrong with an argument.
#[derive(Clone, Copy, Debug)]
pub(super) struct Flaw<'a> {
    /// The argument's name in the command's grammar.
    name: &'static str,
    /// What stands there; `None` when nothing does.
    text: Option<&'a [u8]>,
}

/// Sequences of nom's parsers ask for it; no parser that makes its error this way is used here.
impl<'a> ParseError<&'a [u8]> for Flaw<'a> {
    fn from_error_kind(input: &'a [u8], _: ErrorKind) -> Self {
        Self { name: "argument", text: Some(input) }
    }

    fn append(_: &'a [u8], _: ErrorKind, other: Self) -> Self {
        other
    }
}

/// Why a line is not a command. It is safe to print.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Complaint {
    command: String,
    kind: ComplaintKind,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum ComplaintKind {
    UnknownCommand,
    Missing { name: &'static str },
    Invalid { name: &'static str, text: String },
}

impl Complaint {
    pub(super) fn unknown_command(command: &[u8]) -> Self {
        Self { command: quote(command), kind: ComplaintKind::UnknownCommand }
    }

    /// Takes the place of nom's error for `command`.
    pub(super) fn about(command: &[u8], error: &nom::Err<Flaw<'_>>) -> Self {
        let kind = match error {
            nom::Err::Error(flaw) | nom::Err::Failure(flaw) => match flaw.text {
                Some(text) => ComplaintKind::Invalid { name: flaw.name, text: quote(text) },
                None => ComplaintKind::Missing { name: flaw.name },
            },
            nom::Err::Incomplete(_) => ComplaintKind::Missing { name: "argument" },
        };
        Self { command: quote(command), kind }
    }
}

impl fmt::Display for Complaint {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let command = &self.command;
        match &self.kind {
            ComplaintKind::UnknownCommand => write!(formatter, "unknown command \"{command}\""),
            ComplaintKind::Missing { name } => write!(formatter, "{command}: missing {name}"),
            ComplaintKind::Invalid { name, text } => write!(formatter, "{command}: invalid {name} \"{text}\""),
        }
    }
}

fn quote(bytes: &[u8]) -> String {
    Printable { bytes, max_bytes: QUOTE_MAX_BYTES }.to_string()
}

/// The command, and its arguments as the parsers here take them.
pub(super) fn split_command(line: &[u8]) -> (&[u8], &[u8]) {
    line.split_at(line.iter().position(|&byte| byte == b'\t').unwrap_or(line.len()))
}

/// Any argument, as it stands in the line.
pub(super) fn raw<'a>(name: &'static str) -> impl FnMut(&'a [u8]) -> Parsed<'a, &'a [u8]> {
    move |input| {
        preceded(tag("\t"), take_till(|byte| byte == b'\t'))
            .parse(input)
            .map_err(|_: nom::Err<()>| nom::Err::Error(Flaw { name, text: None }))
    }
}

/// An argument that `read` understands.
pub(super) fn typed<'a, T>(
    name: &'static str,
    read: impl Fn(&'a [u8]) -> Option<T>,
) -> impl FnMut(&'a [u8]) -> Parsed<'a, T> {
    move |input| {
        let (rest, text) = raw(name)(input)?;
        match read(text) {
            Some(value) => Ok((rest, value)),
            None => Err(nom::Err::Error(Flaw { name, text: Some(text) })),
        }
    }
}

/// `None` when no argument is left; an argument that is there has to be right.
pub(super) fn optional<'a, T>(
    mut parser: impl FnMut(&'a [u8]) -> Parsed<'a, T>,
) -> impl FnMut(&'a [u8]) -> Parsed<'a, Option<T>> {
    move |input| {
        if input.is_empty() { Ok((input, None)) } else { parser(input).map(|(rest, value)| (rest, Some(value))) }
    }
}

/// Text, unescaped.
pub(super) fn text<'a>(name: &'static str) -> impl FnMut(&'a [u8]) -> Parsed<'a, Cow<'a, [u8]>> {
    typed(name, |argument| Some(unescape(argument)))
}

pub(super) fn u32<'a>(name: &'static str) -> impl FnMut(&'a [u8]) -> Parsed<'a, u32> {
    typed(name, read_u32)
}

pub(super) fn u64<'a>(name: &'static str) -> impl FnMut(&'a [u8]) -> Parsed<'a, u64> {
    typed(name, read_u64)
}

/// `hash`: a user's hash, which is never 0.
pub(super) fn hash(input: &[u8]) -> Parsed<'_, u32> {
    typed("hash", |argument| read_u32(argument).filter(|&hash| hash != 0))(input)
}

pub(super) fn ip<'a>(name: &'static str) -> impl FnMut(&'a [u8]) -> Parsed<'a, IpAddr> {
    typed(name, read_ip)
}

/// `port`, not 0.
pub(super) fn port(input: &[u8]) -> Parsed<'_, u16> {
    typed("port", read_port)(input)
}

/// `ip port`, the port not 0.
pub(super) fn address(input: &[u8]) -> Parsed<'_, SocketAddr> {
    (ip("ip"), port).map(SocketAddr::from).parse(input)
}

/// A decimal number that fits.
pub(super) fn read_u32(argument: &[u8]) -> Option<u32> {
    finish(all_consuming(nom::character::complete::u32).parse(argument))
}

/// A decimal number that fits.
pub(super) fn read_u64(argument: &[u8]) -> Option<u64> {
    finish(all_consuming(nom::character::complete::u64).parse(argument))
}

/// A port that one can connect to.
pub(super) fn read_port(argument: &[u8]) -> Option<u16> {
    finish(all_consuming(verify(nom::character::complete::u16, |&port| port != 0)).parse(argument))
}

/// An address without brackets or scope.
pub(super) fn read_ip(argument: &[u8]) -> Option<IpAddr> {
    std::str::from_utf8(argument).ok()?.parse().ok()
}

fn finish<T>(result: IResult<&[u8], T, ()>) -> Option<T> {
    result.ok().map(|(_, value)| value)
}

/// Whether `line` is `VERSION name 1 minor`, of whichever minor version.
pub(super) fn is_version_line(line: &[u8], name: &[u8]) -> bool {
    let (command, arguments) = split_command(line);
    let parsed = (raw("name"), u32("major"), u32("minor")).parse(arguments);
    command == b"VERSION" && matches!(parsed, Ok((_, (its_name, 1, _))) if its_name == name)
}

/// Prints one line; its end is written when this is dropped.
pub(super) struct LineWriter<'o> {
    out: &'o mut Vec<u8>,
}

impl<'o> LineWriter<'o> {
    pub(super) fn new(command: &[u8], out: &'o mut Vec<u8>) -> Self {
        out.extend_from_slice(command);
        Self { out }
    }

    /// An argument that needs no escapes.
    pub(super) fn raw(self, argument: &[u8]) -> Self {
        self.out.push(b'\t');
        self.out.extend_from_slice(argument);
        self
    }

    pub(super) fn text(self, argument: &[u8]) -> Self {
        self.out.push(b'\t');
        escape(argument, self.out);
        self
    }

    pub(super) fn number(self, number: impl Into<u64>) -> Self {
        self.out.push(b'\t');
        write_number(number.into(), self.out);
        self
    }

    pub(super) fn ip(self, ip: IpAddr) -> Self {
        self.out.push(b'\t');
        write_ip(ip, self.out);
        self
    }

    pub(super) fn address(self, address: SocketAddr) -> Self {
        self.ip(address.ip()).number(address.port())
    }

    /// More of the argument that was printed last.
    pub(super) fn and_number(self, number: u64) -> Self {
        write_number(number, self.out);
        self
    }

    /// More of the argument that was printed last.
    pub(super) fn and_text(self, text: &[u8]) -> Self {
        escape(text, self.out);
        self
    }
}

impl Drop for LineWriter<'_> {
    fn drop(&mut self) {
        self.out.push(b'\n');
    }
}

/// Decimal, without the machinery of `format!`: every line of the ring has several numbers.
pub(super) fn write_number(number: u64, out: &mut Vec<u8>) {
    // u64::MAX has 20 digits.
    let mut digits = [0; 20];
    let mut start = digits.len();
    let mut rest = number;
    loop {
        start -= 1;
        // The remainder is a single digit.
        digits[start] = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[start..]);
}

/// An address as inet_ntop prints it.
pub(super) fn write_ip(ip: IpAddr, out: &mut Vec<u8>) {
    match ip {
        IpAddr::V4(ip) => write_ipv4(ip, out),
        IpAddr::V6(ip) => write!(out, "{ip}").expect("a Vec takes all that is written"),
    }
}

fn write_ipv4(ip: Ipv4Addr, out: &mut Vec<u8>) {
    let [first, others @ ..] = ip.octets();
    write_number(first.into(), out);
    for octet in others {
        out.push(b'.');
        write_number(octet.into(), out);
    }
}

#[cfg(test)]
mod tests;
