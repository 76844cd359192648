//! No change makes the ring talk without end.

use crate::plan::SECOND;

/// The name in reports.
pub const NAME: &str = "flood";

/// The most lines about backends and the ring's state that one director may send in a second. A change costs a few
/// for each member and each change under way at the same time; lines that chase each other come by the thousand.
const LINES_MAX_PER_SECOND: u32 = 1000;

/// Counts the lines of one director.
#[derive(Clone, Copy, Debug, Default)]
pub struct Flood {
    second: u64,
    lines: u32,
}

impl Flood {
    /// A director sent a line to another.
    ///
    /// # Errors
    /// Once a second at most, if they are too many.
    pub fn sent(&mut self, line: &[u8], now: u64) -> Result<(), String> {
        let counted = [&b"HOST"[..], b"SYNC", b"DIRECTOR", b"CONNECT", b"PING", b"PONG", b"USER-WEAK"];
        if !counted.iter().any(|command| line.starts_with(command)) {
            return Ok(());
        }
        if self.second != now / SECOND {
            *self = Self { second: now / SECOND, lines: 0 };
        }
        self.lines += 1;
        if self.lines == LINES_MAX_PER_SECOND {
            return Err(format!("sent {LINES_MAX_PER_SECOND} lines within a second, of which the last is {}", {
                crate::trace::Shown(line)
            }));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thousand_lines_in_a_second_are_too_many() {
        let mut flood = Flood::default();
        let mut noticed = 0;
        for n in 0..1500 {
            noticed += u32::from(flood.sent(b"HOST\t1", n).is_err());
            assert!(flood.sent(b"USER\t1", n).is_ok());
        }
        assert_eq!(noticed, 1);
        for n in 0..5000 {
            assert!(flood.sent(b"SYNC\t1", 10 * SECOND + n * 2000).is_ok());
        }
    }
}
