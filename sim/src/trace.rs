//! What happened, as text: hashed always, kept on request.
//!
//! Everything goes into the digest, so two runs with the same digest did the same things in the same order. Log lines
//! of the cores are kept beside it but not hashed: how much is logged may depend on who looks. What the directors and
//! programs say, which is most of a run, is hashed as it is and becomes text only if somebody keeps it.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::fmt::{self, Write as _};
use std::sync::Once;

use xxhash_rust::xxh3::Xxh3Default;

/// How much of a timeline to keep.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keep {
    /// The digest only.
    Nothing,
    /// The last so many lines.
    Last(usize),
    /// Every line.
    Everything,
}

/// Which way a line went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// It was sent.
    Sent,
    /// It was received.
    Received,
}

/// The record of a run.
pub struct Trace {
    digest: Xxh3Default,
    keep: Keep,
    lines: VecDeque<String>,
    /// Reused for the text of what is hashed as text.
    scratch: String,
}

impl fmt::Debug for Trace {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Trace").field("keep", &self.keep).field("lines", &self.lines.len()).finish()
    }
}

impl Trace {
    /// An empty record. Unless it keeps nothing, the logs of the cores that run on this thread are collected too.
    pub fn new(keep: Keep) -> Self {
        if keep != Keep::Nothing {
            collect_logs();
        }
        take_logs();
        Self { digest: Xxh3Default::new(), keep, lines: VecDeque::new(), scratch: String::new() }
    }

    /// Writes down one line: when (microseconds), where, and what.
    pub fn line(&mut self, at_micros: u64, place: impl fmt::Display, what: impl fmt::Display) {
        let mut line = std::mem::take(&mut self.scratch);
        line.clear();
        let _ = write!(line, "{} {place:<18} {what}", Time(at_micros));
        self.digest.update(line.as_bytes());
        self.digest.update(b"\n");
        if self.keep == Keep::Nothing {
            self.scratch = line;
        } else {
            self.store(line);
        }
    }

    /// Writes down that a line of a protocol, without its LF, was sent or received by `who` on a connection.
    pub fn said(&mut self, at_micros: u64, connection: &str, who: impl fmt::Display, way: Way, line: &[u8]) {
        // The name of a connection and the way tell who it was; the lengths, where one part ends.
        let mut head = [0; 13];
        head[..8].copy_from_slice(&at_micros.to_le_bytes());
        head[8..12].copy_from_slice(&((line.len() as u32) << 8 | connection.len() as u32 & 0xff).to_le_bytes());
        head[12] = way as u8;
        self.digest.update(&head);
        self.digest.update(connection.as_bytes());
        self.digest.update(line);
        if self.keep != Keep::Nothing {
            let arrow = match way {
                Way::Sent => "->",
                Way::Received => "<-",
            };
            self.store(format!("{} {connection:<18} {who} {arrow} {}", Time(at_micros), Shown(line)));
        }
    }

    /// Takes what the core has logged since the last call; it ran at that time and place.
    pub fn logs(&mut self, at_micros: u64, place: impl fmt::Display) {
        if self.keep == Keep::Nothing {
            return;
        }
        for text in take_logs() {
            let line = format!("{} {place:<18} {text}", Time(at_micros));
            self.store(line);
        }
    }

    /// The digest of everything so far.
    pub fn digest(&self) -> u64 {
        self.digest.digest()
    }

    /// The kept lines, as one text.
    pub fn text(&self) -> String {
        self.lines.iter().map(String::as_str).collect::<Vec<_>>().join("\n")
    }

    /// The kept lines.
    pub fn into_lines(self) -> Vec<String> {
        self.lines.into()
    }

    fn store(&mut self, line: String) {
        match self.keep {
            Keep::Nothing => {}
            Keep::Everything => self.lines.push_back(line),
            Keep::Last(count) => {
                if self.lines.len() >= count {
                    self.lines.pop_front();
                }
                self.lines.push_back(line);
            }
        }
    }
}

/// Microseconds since the start, shown as seconds.
#[derive(Clone, Copy, Debug)]
pub struct Time(pub u64);

impl fmt::Display for Time {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:>4}.{:06}", self.0 / 1_000_000, self.0 % 1_000_000)
    }
}

/// Bytes as a timeline shows them: a TAB as `\t`, what is not printable ASCII as `\xNN`.
#[derive(Clone, Copy, Debug)]
pub struct Shown<'a>(pub &'a [u8]);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}", self.0.escape_ascii())
    }
}

/// Puts lines together again from what a stream brings, for the timeline.
#[derive(Debug, Default)]
pub struct Assembler {
    rest: Vec<u8>,
}

impl Assembler {
    /// The lines that end in `bytes`, without their LF.
    pub fn feed(&mut self, bytes: &[u8]) -> Vec<Vec<u8>> {
        let mut lines = Vec::new();
        self.each(bytes, |line| lines.push(line.to_vec()));
        lines
    }

    /// Passes on the lines that end in `bytes`, without their LF.
    pub fn each(&mut self, bytes: &[u8], mut line: impl FnMut(&[u8])) {
        for piece in bytes.split_inclusive(|&byte| byte == b'\n') {
            match piece.strip_suffix(b"\n") {
                Some(whole) if self.rest.is_empty() => line(whole),
                Some(end) => {
                    self.rest.extend_from_slice(end);
                    line(&self.rest);
                    self.rest.clear();
                }
                None => self.rest.extend_from_slice(piece),
            }
        }
    }
}

thread_local! {
    static LOGS: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
}

/// Takes the place of the process's logger. A run lives on one thread, so its lines are those of this thread.
struct Collector;

impl log::Log for Collector {
    fn enabled(&self, metadata: &log::Metadata<'_>) -> bool {
        metadata.level() <= log::Level::Info
    }

    fn log(&self, record: &log::Record<'_>) {
        if self.enabled(record.metadata()) {
            let line = format!("log {}: {}", record.level().as_str().to_ascii_lowercase(), record.args());
            LOGS.with_borrow_mut(|logs| logs.push(line));
        }
    }

    fn flush(&self) {}
}

fn collect_logs() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // A program that has a logger of its own keeps it; then timelines go without logs.
        if log::set_logger(&Collector).is_ok() {
            log::set_max_level(log::LevelFilter::Info);
        }
    });
}

fn take_logs() -> Vec<String> {
    LOGS.take()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_digest_depends_on_every_line_and_their_order() {
        let digest = |lines: &[&str]| {
            let mut trace = Trace::new(Keep::Nothing);
            for line in lines {
                trace.line(7, "d1", line);
            }
            trace.digest()
        };
        assert_eq!(digest(&["a", "b"]), digest(&["a", "b"]));
        assert_ne!(digest(&["a", "b"]), digest(&["b", "a"]));
        assert_ne!(digest(&["a"]), digest(&["a", ""]));
    }

    #[test]
    fn what_is_said_is_hashed_the_same_whether_it_is_kept_or_not() {
        let digest = |keep, connection: &str, way, line: &[u8]| {
            let mut trace = Trace::new(keep);
            trace.said(7, connection, "d1", way, line);
            trace.digest()
        };
        let reference = digest(Keep::Nothing, "d1>d2#1", Way::Sent, b"PING");
        assert_eq!(reference, digest(Keep::Everything, "d1>d2#1", Way::Sent, b"PING"));
        assert_ne!(reference, digest(Keep::Nothing, "d1>d2#1", Way::Received, b"PING"));
        assert_ne!(reference, digest(Keep::Nothing, "d1>d2#2", Way::Sent, b"PING"));
        assert_ne!(reference, digest(Keep::Nothing, "d1>d2#", Way::Sent, b"1PING"));
    }

    #[test]
    fn only_the_last_lines_are_kept() {
        let mut trace = Trace::new(Keep::Last(2));
        for line in ["a", "b", "c"] {
            trace.line(1_500_000, "d1", line);
        }
        let lines = trace.into_lines();
        assert_eq!(lines.len(), 2);
        assert!(lines[1].ends_with(" c") && lines[1].starts_with("   1.500000 d1 "), "{:?}", lines[1]);
    }

    #[test]
    fn lines_are_put_together_across_chunks() {
        let mut assembler = Assembler::default();
        assert!(assembler.feed(b"PI").is_empty());
        assert_eq!(assembler.feed(b"NG\n\nPONG\nSY"), [b"PING".to_vec(), vec![], b"PONG".to_vec()]);
        assert_eq!(assembler.feed(b"NC\n"), [b"SYNC".to_vec()]);
        assert_eq!(Shown(b"A\tB\x01").to_string(), "A\\tB\\x01");
    }
}
