//! Bytes from a server, made fit for a terminal.

use crate::wire::line::Printable;

/// The bytes as text in which nothing can steer a terminal or begin a new line: control characters and what is not
/// UTF-8 are shown escaped (`\t`, `\u{1b}`, `\xff`).
pub fn printable(bytes: &[u8]) -> String {
    Printable { bytes, max_bytes: usize::MAX }.to_string()
}
