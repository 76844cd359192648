//! Reading and printing the arguments of a line, for all protocols whose lines are `COMMAND TAB argument TAB …`.
//!
//! The parsers are nom's. What is left to parse is always empty or begins with the TAB before an argument. Arguments
//! after the last one that a command knows are ignored, because commands have grown arguments over time.

use std::borrow::Cow;
use std::fmt;
use std::io::Write as _;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use memchr::memchr;
use nom::combinator::all_consuming;
use nom::error::{ErrorKind, ParseError};
use nom::{IResult, Parser};

use super::line::{Printable, escape, unescape};
use crate::hash::IpText;

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
    line.split_at(memchr(b'\t', line).unwrap_or(line.len()))
}

/// Any argument, as it stands in the line.
pub(super) fn raw<'a>(name: &'static str) -> impl FnMut(&'a [u8]) -> Parsed<'a, &'a [u8]> {
    move |input| {
        let Some((b'\t', rest)) = input.split_first() else {
            return Err(nom::Err::Error(Flaw { name, text: None }));
        };
        let (argument, rest) = split_command(rest);
        Ok((rest, argument))
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
    move |input| match plain_number(input).and_then(|(rest, number)| Some((rest, u32::try_from(number).ok()?))) {
        Some(parsed) => Ok(parsed),
        None => typed(name, read_u32)(input),
    }
}

pub(super) fn u64<'a>(name: &'static str) -> impl FnMut(&'a [u8]) -> Parsed<'a, u64> {
    move |input| match plain_number(input) {
        Some(parsed) => Ok(parsed),
        None => typed(name, read_u64)(input),
    }
}

/// `hash`: a user's hash, which is never 0.
pub(super) fn hash(input: &[u8]) -> Parsed<'_, u32> {
    match u32("hash")(input)? {
        (_, 0) => typed("hash", |_| None)(input),
        parsed => Ok(parsed),
    }
}

pub(super) fn ip<'a>(name: &'static str) -> impl FnMut(&'a [u8]) -> Parsed<'a, IpAddr> {
    move |input| match plain_ipv4(input) {
        Some((rest, ip)) => Ok((rest, ip.into())),
        None => typed(name, read_ip)(input),
    }
}

/// The next argument and what follows it, if it is a number of at most 19 digits: read while its end is looked for. Every
/// line of the ring has several. `None` says nothing: then it is for [`typed`] to say what is wrong.
pub(super) fn plain_number(input: &[u8]) -> Option<(&[u8], u64)> {
    let (b'\t', argument) = input.split_first()? else { return None };
    let mut number = 0;
    for (place, &byte) in argument.iter().enumerate() {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            return (byte == b'\t' && place > 0).then(|| (&argument[place..], number));
        }
        if place == 19 {
            return None;
        }
        number = number * 10 + u64::from(digit);
    }
    (!argument.is_empty()).then_some((&[], number))
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
    read_u64(argument).and_then(|number| u32::try_from(number).ok())
}

/// A decimal number that fits.
pub(super) fn read_u64(argument: &[u8]) -> Option<u64> {
    // Every line of the ring has several, and so many digits always fit.
    if (1..=19).contains(&argument.len()) {
        return argument.iter().try_fold(0, |number: u64, byte| {
            let digit = byte.wrapping_sub(b'0');
            (digit <= 9).then(|| number * 10 + u64::from(digit))
        });
    }
    finish(all_consuming(nom::character::complete::u64).parse(argument))
}

/// A port that one can connect to.
pub(super) fn read_port(argument: &[u8]) -> Option<u16> {
    read_u64(argument).and_then(|port| u16::try_from(port).ok()).filter(|&port| port != 0)
}

/// An address without brackets or scope.
pub(super) fn read_ip(argument: &[u8]) -> Option<IpAddr> {
    match read_ipv4(argument) {
        Some(ip) => Some(ip.into()),
        None => std::str::from_utf8(argument).ok()?.parse().ok(),
    }
}

/// The next argument and what follows it, if it is four numbers as the standard library takes them: without leading zeros.
/// It stands in every line about a user, and this costs a fourth of what that takes.
pub(super) fn plain_ipv4(input: &[u8]) -> Option<(&[u8], Ipv4Addr)> {
    let (b'\t', argument) = input.split_first()? else { return None };
    let (length, ip) = read_ipv4_until_tab(argument)?;
    Some((&argument[length..], ip))
}

/// The address before the first TAB, and its length.
fn read_ipv4_until_tab(argument: &[u8]) -> Option<(usize, Ipv4Addr)> {
    let (first, at) = octet(argument, 0)?;
    let (second, at) = octet(argument, dot(argument, at)?)?;
    let (third, at) = octet(argument, dot(argument, at)?)?;
    let (fourth, at) = octet(argument, dot(argument, at)?)?;
    let ends = argument.get(at).is_none_or(|&byte| byte == b'\t');
    ends.then(|| (at, Ipv4Addr::new(first, second, third, fourth)))
}

/// What is behind the dot here.
fn dot(argument: &[u8], at: usize) -> Option<usize> {
    (argument.get(at) == Some(&b'.')).then_some(at + 1)
}

/// The number here, of at most three digits and without leading zeros, and what is behind it.
fn octet(argument: &[u8], start: usize) -> Option<(u8, usize)> {
    let digit = |at: usize| argument.get(at).map(|byte| byte.wrapping_sub(b'0')).filter(|&digit| digit <= 9);
    let first = digit(start)?;
    let Some(second) = digit(start + 1).filter(|_| first != 0) else { return Some((first, start + 1)) };
    let two = first * 10 + second;
    let Some(third) = digit(start + 2) else { return Some((two, start + 2)) };
    let three = u16::from(two) * 10 + u16::from(third);
    Some((u8::try_from(three).ok()?, start + 3))
}

fn read_ipv4(argument: &[u8]) -> Option<Ipv4Addr> {
    let (length, ip) = read_ipv4_until_tab(argument)?;
    (length == argument.len()).then_some(ip)
}

fn finish<T>(result: IResult<&[u8], T, ()>) -> Option<T> {
    result.ok().map(|(_, value)| value)
}

/// Whether `line` is `VERSION name major minor`, of whichever minor version.
pub(super) fn is_version_line(line: &[u8], name: &[u8], major: u32) -> bool {
    let (command, arguments) = split_command(line);
    let parsed = (raw("name"), u32("major"), u32("minor")).parse(arguments);
    command == b"VERSION"
        && matches!(parsed, Ok((_, (its_name, its_major, _))) if its_name == name && its_major == major)
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
        let mut text = Text::default();
        text.push(b'\t');
        text.push_number(number.into());
        self.out.extend_from_slice(text.bytes());
        self
    }

    pub(super) fn ip(self, ip: IpAddr) -> Self {
        let IpAddr::V4(ip) = ip else {
            self.out.push(b'\t');
            write_ip(ip, self.out);
            return self;
        };
        let mut text = Text::default();
        text.push(b'\t');
        text.push_ipv4(ip);
        self.out.extend_from_slice(text.bytes());
        self
    }

    /// A number, an address and, perhaps, another number: all that millions of lines consist of, put together before it is
    /// copied once.
    pub(super) fn user(self, hash: u32, host: IpAddr, timestamp_secs: Option<u64>) -> Self {
        let IpAddr::V4(ip) = host else {
            let line = self.number(hash).ip(host);
            return match timestamp_secs {
                Some(secs) => line.number(secs),
                None => line,
            };
        };
        let mut text = Text::default();
        text.push(b'\t');
        text.push_number(hash.into());
        text.push(b'\t');
        text.push_ipv4(ip);
        if let Some(secs) = timestamp_secs {
            text.push(b'\t');
            text.push_number(secs);
        }
        self.out.extend_from_slice(text.bytes());
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
    let mut text = Text::default();
    text.push_number(number);
    out.extend_from_slice(text.bytes());
}

/// An address as inet_ntop prints it.
pub(crate) fn write_ip(ip: IpAddr, out: &mut Vec<u8>) {
    match ip {
        IpAddr::V4(ip) => {
            let mut text = Text::default();
            text.push_ipv4(ip);
            out.extend_from_slice(text.bytes());
        }
        IpAddr::V6(_) => write!(out, "{}", IpText(ip)).expect("a Vec takes all that is written"),
    }
}

/// A short text on the stack: two numbers and an IPv4 address, and the bytes between them.
pub(crate) struct Text {
    bytes: [u8; 64],
    length: usize,
}

impl Default for Text {
    fn default() -> Self {
        Self { bytes: [0; 64], length: 0 }
    }
}

/// `00` to `99`.
const PAIRS: [[u8; 2]; 100] = {
    let mut pairs = [[0; 2]; 100];
    let mut number = 0;
    while number < 100 {
        pairs[number] = [b'0' + (number / 10) as u8, b'0' + (number % 10) as u8];
        number += 1;
    }
    pairs
};

impl Text {
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes[..self.length]
    }

    pub(crate) fn push(&mut self, byte: u8) {
        self.bytes[self.length] = byte;
        self.length += 1;
    }

    pub(crate) fn push_number(&mut self, number: u64) {
        // Right where it belongs, from the last digit to the first: u64::MAX has 20.
        let length = number.checked_ilog10().unwrap_or(0) as usize + 1;
        let digits = &mut self.bytes[self.length..self.length + length];
        let (mut rest, mut end) = (number, length);
        while rest >= 100 {
            digits[end - 2..end].copy_from_slice(&PAIRS[(rest % 100) as usize]);
            (rest, end) = (rest / 100, end - 2);
        }
        let pair = PAIRS[rest as usize];
        digits[end - 1] = pair[1];
        if end == 2 {
            digits[0] = pair[0];
        }
        self.length += length;
    }

    pub(crate) fn push_ipv4(&mut self, ip: Ipv4Addr) {
        for (place, octet) in ip.octets().into_iter().enumerate() {
            if place > 0 {
                self.push(b'.');
            }
            if octet >= 100 {
                self.push(b'0' + octet / 100);
            }
            let pair = PAIRS[usize::from(octet % 100)];
            if octet >= 10 {
                self.push(pair[0]);
            }
            self.push(pair[1]);
        }
    }
}

#[cfg(test)]
mod tests;
