//! Lines, and the escaping of their arguments (ring protocol, "Lines").

use std::borrow::Cow;
use std::fmt::{self, Write as _};

use memchr::memchr;
use zeroize::optimization_barrier;

/// Finds lines in a stream of bytes, with a bound on their length.
///
/// A complete line that lies within one read is never copied; only what is left of a read is kept. Kept bytes are
/// wiped when dropped or consumed, because lines of some protocols hold passwords.
///
/// Every byte is searched for a line end once, however many pieces a line comes in.
#[derive(Default)]
pub struct LineBuffer {
    /// The unfinished line: never holds a LF.
    kept: Vec<u8>,
    max_bytes: usize,
}

/// A line grew past its limit before its end came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LineTooLong {
    /// The limit, in bytes, without the line end.
    pub max_bytes: usize,
}

impl fmt::Display for LineTooLong {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "line is longer than {} bytes", self.max_bytes)
    }
}

impl std::error::Error for LineTooLong {}

/// Not derived: kept bytes may be half a password.
impl fmt::Debug for LineBuffer {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("LineBuffer")
            .field("pending", &self.kept.len())
            .field("max_bytes", &self.max_bytes)
            .finish()
    }
}

impl Drop for LineBuffer {
    fn drop(&mut self) {
        wipe(&mut self.kept);
    }
}

/// Overwrites bytes that may be secret, also when nobody can read them afterwards.
pub(crate) fn wipe(bytes: &mut [u8]) {
    // As `zeroize` does it for other types: that for slices writes byte by byte.
    bytes.fill(0);
    optimization_barrier(bytes);
}

impl LineBuffer {
    /// A buffer for lines of at most `max_bytes` bytes, line end not counted.
    pub fn new(max_bytes: usize) -> Self {
        Self { kept: Vec::new(), max_bytes }
    }

    /// The longest line, in bytes, line end not counted.
    pub fn max_bytes(&self) -> usize {
        self.max_bytes
    }

    /// Calls `each` with every complete line of what was kept plus `bytes`, without its LF, and keeps the rest. Stops
    /// early, forgetting the rest, when `each` returns false.
    ///
    /// # Errors
    /// [`LineTooLong`] when a line, finished or not, exceeds the limit; lines before it have been given, and nothing
    /// is kept.
    pub fn feed(&mut self, bytes: &[u8], mut each: impl FnMut(&[u8]) -> bool) -> Result<(), LineTooLong> {
        let mut rest = bytes;
        if !self.kept.is_empty() {
            let Some((end_of_line, after)) = split_line(rest) else { return self.keep(rest) };
            self.keep(end_of_line)?;
            rest = after;
            let go_on = each(&self.kept);
            wipe(&mut self.kept);
            self.kept.clear();
            if !go_on {
                return Ok(());
            }
        }
        while let Some((line, after)) = split_line(rest) {
            if line.len() > self.max_bytes {
                return Err(LineTooLong { max_bytes: self.max_bytes });
            }
            rest = after;
            if !each(line) {
                return Ok(());
            }
        }
        self.keep(rest)
    }

    /// Bytes of an unfinished line.
    pub fn pending(&self) -> usize {
        self.kept.len()
    }

    fn keep(&mut self, bytes: &[u8]) -> Result<(), LineTooLong> {
        let length = self.kept.len() + bytes.len();
        if length > self.max_bytes {
            wipe(&mut self.kept);
            self.kept.clear();
            return Err(LineTooLong { max_bytes: self.max_bytes });
        }
        if length > self.kept.capacity() {
            // Not left to Vec, which would free the old bytes without wiping them.
            let mut larger = Vec::with_capacity(length.next_power_of_two());
            larger.extend_from_slice(&self.kept);
            wipe(&mut self.kept);
            self.kept = larger;
        }
        self.kept.extend_from_slice(bytes);
        Ok(())
    }
}

/// The bytes before the first LF and those after it.
fn split_line(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = memchr(b'\n', bytes)?;
    Some((&bytes[..end], &bytes[end + 1..]))
}

/// Begins an escape sequence.
const ESCAPE: u8 = 0x01;

/// Writes `argument` with 0x01, TAB, CR, LF and NUL escaped.
pub fn escape(argument: &[u8], out: &mut Vec<u8>) {
    let mut rest = argument;
    while let Some(position) = rest.iter().position(|&byte| escape_code(byte).is_some()) {
        let (plain, from) = rest.split_at(position);
        out.extend_from_slice(plain);
        out.extend(escape_code(from[0]).map(|code| [ESCAPE, code]).into_iter().flatten());
        rest = &from[1..];
    }
    out.extend_from_slice(rest);
}

/// Undoes [`escape`]; borrows when nothing was escaped. 0x01 followed by anything else stands for that byte itself; at
/// the very end it stands for nothing.
pub fn unescape(argument: &[u8]) -> Cow<'_, [u8]> {
    let Some(first) = memchr(ESCAPE, argument) else { return Cow::Borrowed(argument) };
    let (plain, escaped) = argument.split_at(first);
    let mut out = Vec::with_capacity(argument.len());
    out.extend_from_slice(plain);
    let mut bytes = escaped.iter();
    while let Some(&byte) = bytes.next() {
        if byte == ESCAPE {
            out.extend(bytes.next().map(|&code| unescaped(code)));
        } else {
            out.push(byte);
        }
    }
    Cow::Owned(out)
}

/// What follows 0x01 to stand for `byte`, if that cannot stand for itself.
fn escape_code(byte: u8) -> Option<u8> {
    match byte {
        0 => Some(b'0'),
        ESCAPE => Some(b'1'),
        b'\t' => Some(b't'),
        b'\r' => Some(b'r'),
        b'\n' => Some(b'n'),
        _ => None,
    }
}

fn unescaped(code: u8) -> u8 {
    match code {
        b'0' => 0,
        b'1' => ESCAPE,
        b't' => b'\t',
        b'r' => b'\r',
        b'n' => b'\n',
        other => other,
    }
}

/// Shows bytes from outside so that they can stand in a log or a QUIT: control characters, invisible ones and
/// what is not UTF-8 are escaped in Rust's way (TAB is `\t`), and all after the first `max_bytes` is left out (`…`).
///
/// It hides nothing: for lines of the auth protocols there is [`auth::printable`](super::auth::printable).
#[derive(Clone, Copy)]
pub struct Printable<'a> {
    /// What to show.
    pub bytes: &'a [u8],
    /// How much of it.
    pub max_bytes: usize,
}

impl fmt::Display for Printable<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = &self.bytes[..floor_char_boundary(self.bytes, self.max_bytes)];
        for chunk in shown.utf8_chunks() {
            for character in chunk.valid().chars() {
                match character {
                    // Rust would escape quotes; names and reasons read better without.
                    '"' | '\'' => formatter.write_char(character)?,
                    _ => write!(formatter, "{}", character.escape_debug())?,
                }
            }
            for byte in chunk.invalid() {
                write!(formatter, "\\x{byte:02x}")?;
            }
        }
        if shown.len() < self.bytes.len() { formatter.write_char('…') } else { Ok(()) }
    }
}

/// At most `max_bytes`, less if that would cut a UTF-8 character in two.
fn floor_char_boundary(bytes: &[u8], max_bytes: usize) -> usize {
    if bytes.len() <= max_bytes {
        return bytes.len();
    }
    // A character has at most three bytes that are not its first.
    (max_bytes.saturating_sub(3)..=max_bytes).rev().find(|&at| bytes[at] & 0xc0 != 0x80).unwrap_or(max_bytes)
}

#[cfg(test)]
mod tests;
