//! What the demonstration prints: short lines with a time, small tables, at most 80 columns.

use std::io::{self, IsTerminal, Write};
use std::time::{Duration, Instant};

use super::{Act, Trouble};

/// The narrowest terminal that anybody uses.
pub(super) const WIDTH: usize = 80;

/// Text stands to the right of the times.
const INDENT: usize = 9;

/// Standard output, with the time since the start.
pub(super) struct Screen {
    start: Instant,
    colour: bool,
}

impl Screen {
    pub(super) fn new() -> Self {
        // https://no-color.org: set and not empty.
        let unwanted = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty())
            || std::env::var_os("TERM").is_some_and(|terminal| terminal == "dumb");
        Self { start: Instant::now(), colour: io::stdout().is_terminal() && !unwanted }
    }

    pub(super) fn elapsed(&self) -> Duration {
        self.start.elapsed()
    }

    /// The title of a step.
    pub(super) fn title(&self, text: &str) -> Act<()> {
        let text = if self.colour { format!("\x1b[1m{text}\x1b[0m") } else { text.to_owned() };
        self.print(&format!("\n{text}\n"))
    }

    /// Something that happened now.
    pub(super) fn say(&self, text: &str) -> Act<()> {
        let time = format!("{:5.1} s", self.elapsed().as_secs_f64());
        self.print(&hang(&time, text))
    }

    /// Something to know.
    pub(super) fn note(&self, text: &str) -> Act<()> {
        self.print(&hang("", text))
    }

    /// The outcome of a check. A false one ends the demonstration.
    pub(super) fn check(&self, good: bool, text: &str) -> Act<()> {
        let (word, code) = if good { ("ok", 32) } else { ("FAILED", 31) };
        let lines = hang(&format!("{word:>7}"), text);
        let lines = if self.colour { lines.replacen(word, &format!("\x1b[{code}m{word}\x1b[0m"), 1) } else { lines };
        self.print(&lines)?;
        if good { Ok(()) } else { Err(Trouble::failed(format!("this check failed: {text}"))) }
    }

    /// A table, with an empty line before and after.
    pub(super) fn table(&self, columns: &[&str], rows: &[Vec<String>]) -> Act<()> {
        self.print(&format!("\n{}\n", table(columns, rows)))
    }

    /// Lines as they are.
    pub(super) fn print(&self, lines: &str) -> Act<()> {
        let mut out = io::stdout().lock();
        // Somebody may look at a few lines only (`| head`): then there is nobody left to show it to.
        out.write_all(lines.as_bytes()).and_then(|()| out.flush()).map_err(|_| Trouble::Interrupted)
    }
}

/// Breaks text into lines, to the right of a margin; the first line has `label` in it.
fn hang(label: &str, text: &str) -> String {
    let mut lines = String::new();
    let mut line = format!("{label:<INDENT$}");
    let mut empty = true;
    for word in text.split_whitespace() {
        if !empty && line.chars().count() + 1 + word.chars().count() > WIDTH {
            lines.push_str(&line);
            lines.push('\n');
            line = " ".repeat(INDENT);
            empty = true;
        }
        if !empty {
            line.push(' ');
        }
        line.push_str(word);
        empty = false;
    }
    lines.push_str(&line);
    lines.push('\n');
    lines
}

/// The first column begins at the left, numbers end at the right.
fn table(columns: &[&str], rows: &[Vec<String>]) -> String {
    let width_of = |index: usize, title: &str| {
        let cells = rows.iter().filter_map(|row| row.get(index)).map(|cell| cell.chars().count());
        cells.chain([title.chars().count()]).max().unwrap_or(0)
    };
    let widths: Vec<_> = columns.iter().enumerate().map(|(index, title)| width_of(index, title)).collect();
    let mut text = String::new();
    let mut add = |cells: &[&str]| {
        let mut line = " ".repeat(INDENT);
        for (index, (cell, &width)) in cells.iter().zip(&widths).enumerate() {
            match index {
                0 => line.push_str(&format!("{cell:<width$}")),
                _ => line.push_str(&format!("   {cell:>width$}")),
            }
        }
        text.push_str(line.trim_end());
        text.push('\n');
    };
    add(columns);
    for row in rows {
        add(&row.iter().map(String::as_str).collect::<Vec<_>>());
    }
    text
}

/// A number with commas between the thousands.
pub(super) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A duration as people say it; never "0".
pub(super) fn spoken(time: Duration) -> String {
    let micros = time.as_micros();
    match micros {
        0..1_000 => format!("{} µs", micros.max(1)),
        1_000..10_000 => format!("{:.1} ms", time.as_secs_f64() * 1e3),
        10_000..1_000_000 => format!("{} ms", time.as_millis()),
        _ => format!("{:.1} s", time.as_secs_f64()),
    }
}

/// How many a second, to two or three digits: more would say more than was measured.
pub(super) fn rate(count: u64, time: Duration) -> String {
    let rate = (count as f64 / time.as_secs_f64().max(1e-6)).round() as u64;
    let step = 10_u64.pow(rate.max(1).ilog10().saturating_sub(2));
    grouped(rate / step * step)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(rows: &[&[&str]]) -> Vec<Vec<String>> {
        rows.iter().map(|row| row.iter().map(|&cell| cell.to_owned()).collect()).collect()
    }

    #[test]
    fn tables_have_names_left_and_numbers_right() {
        let text =
            table(&["backend", "weight", "users"], &rows(&[&["192.0.2.11", "20", "1"], &["a", "100", "12,345"]]));
        let expected = [
            "         backend      weight    users",
            "         192.0.2.11       20        1",
            "         a               100   12,345",
        ];
        assert_eq!(text.lines().collect::<Vec<_>>(), expected);
    }

    #[test]
    fn text_is_broken_at_the_edge() {
        let text = hang("  1.0 s", &"word ".repeat(40));
        assert!(text.starts_with("  1.0 s  word word"), "{text}");
        assert!(text.lines().skip(1).all(|line| line.starts_with("         word")), "{text}");
        assert_eq!(text.split_whitespace().filter(|&word| word == "word").count(), 40);
        assert!(text.lines().all(|line| line.len() <= WIDTH), "{text}");
        // 14 words of 4 and 13 spaces fit into 71 columns.
        assert_eq!(text.lines().count(), 3);
        assert_eq!(hang("", &"x".repeat(100)).lines().count(), 1, "a path is never broken");
    }

    #[test]
    fn numbers_are_readable() {
        let numbers = [0, 7, 999, 1_000, 12_345, 1_234_567].map(grouped);
        assert_eq!(numbers, ["0", "7", "999", "1,000", "12,345", "1,234,567"]);
        let times = [0, 80, 1_500, 42_600, 999_999, 1_000_000].map(|micros| spoken(Duration::from_micros(micros)));
        assert_eq!(times, ["1 µs", "80 µs", "1.5 ms", "42 ms", "999 ms", "1.0 s"]);
    }

    #[test]
    fn rates_promise_no_more_digits_than_were_measured() {
        assert_eq!(rate(123_456, Duration::from_secs(1)), "123,000");
        assert_eq!(rate(9_000, Duration::from_millis(61)), "147,000");
        assert_eq!(rate(7, Duration::from_secs(1)), "7");
        assert_eq!(rate(0, Duration::ZERO), "0");
    }
}
