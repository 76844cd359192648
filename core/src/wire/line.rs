//! Lines, and the escaping of their arguments (ring protocol, "Lines").

use std::borrow::Cow;

/// Finds lines in a stream of bytes, with a bound on their length.
///
/// A complete line that lies within one read is never copied; only what is left of a read is kept. Kept bytes are
/// wiped when dropped or consumed, because lines of some protocols hold passwords.
#[derive(Debug, Default)]
pub struct LineBuffer {/* H1 */}

/// A line grew past its limit before its end came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LineTooLong {
    /// The limit, in bytes, without the line end.
    pub max_bytes: usize,
}

impl LineBuffer {
    /// A buffer for lines of at most `max_bytes` bytes, line end not counted.
    pub fn new(max_bytes: usize) -> Self {
        let _ = max_bytes;
        unimplemented!()
    }

    /// Calls `each` with every complete line of what was kept plus `bytes`, without its LF, and keeps the rest. Stops
    /// early, forgetting the rest, when `each` returns false.
    ///
    /// # Errors
    /// [`LineTooLong`] when a line, finished or not, exceeds the limit; lines before it have been given.
    pub fn feed(&mut self, bytes: &[u8], each: impl FnMut(&[u8]) -> bool) -> Result<(), LineTooLong> {
        let _ = (bytes, each);
        unimplemented!()
    }

    /// Bytes of an unfinished line.
    pub fn pending(&self) -> usize {
        unimplemented!()
    }
}

/// Writes `argument` with 0x01, TAB, CR, LF and NUL escaped.
pub fn escape(argument: &[u8], out: &mut Vec<u8>) {
    let _ = (argument, out);
    unimplemented!()
}

/// Undoes [`escape`]; borrows when nothing was escaped. 0x01 followed by anything else stands for that byte itself.
pub fn unescape(argument: &[u8]) -> Cow<'_, [u8]> {
    Cow::Borrowed(argument)
}
