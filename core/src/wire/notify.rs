//! "This user is still here" (login protocol, "notify"): a line is an escaped user name and nothing else.

use std::borrow::Cow;

use super::line::{escape, unescape};

/// The longest line, in bytes.
pub const LINE_MAX_BYTES: usize = 1024;

/// The user name of a line (without its LF); `None` if it is empty.
pub fn parse(line: &[u8]) -> Option<Cow<'_, [u8]>> {
    if line.is_empty() { None } else { Some(unescape(line)) }
}

/// Appends the line for a user name, with its LF.
pub fn write(username: &[u8], out: &mut Vec<u8>) {
    escape(username, out);
    out.push(b'\n');
}

#[cfg(test)]
mod tests;
