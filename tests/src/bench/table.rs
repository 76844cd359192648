//! What a bench prints.

use std::fmt;

use super::figures::{Figures, short};

/// What a round of a load has measured: one figure.
#[derive(Clone, Debug, PartialEq)]
pub struct Measure {
    /// What was measured: rounds of the same load use the same words.
    pub load: String,
    /// In which unit.
    pub unit: Unit,
    /// How much.
    pub figure: f64,
}

impl Measure {
    /// A figure.
    pub fn new(load: impl Into<String>, unit: Unit, figure: f64) -> Self {
        Self { load: load.into(), unit, figure }
    }
}

/// The unit of a figure, and with it what is good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// So many a second: more is better.
    PerSecond,
    /// Less is better.
    Seconds,
    /// Less is better.
    Milliseconds,
    /// Less is better.
    Microseconds,
    /// Less is better.
    Bytes,
    /// Megabytes of 1,000,000 bytes: less is better.
    Megabytes,
    /// Lines of a protocol: less is better.
    Lines,
    /// A share of one core: says how a figure came about, and is neither good nor bad.
    Percent,
}

impl Unit {
    fn symbol(self) -> &'static str {
        match self {
            Self::PerSecond => "1/s",
            Self::Seconds => "s",
            Self::Milliseconds => "ms",
            Self::Microseconds => "µs",
            Self::Bytes => "B",
            Self::Megabytes => "MB",
            Self::Lines => "lines",
            Self::Percent => "%",
        }
    }

    /// How many times better ours is.
    fn ratio(self, original: f64, ours: f64) -> f64 {
        match self {
            Self::Percent => f64::NAN,
            Self::PerSecond => ours / original,
            _ => original / ours,
        }
    }
}

/// A plain table: the load, the original, and each of ours with how many times better than the original it is.
#[derive(Clone, Debug)]
pub struct Table {
    rows: Vec<Vec<String>>,
    notes: Vec<String>,
}

impl Table {
    /// An empty table for these programs, the original first.
    pub fn of(programs: &[&str]) -> Self {
        let mut head = vec!["load".to_owned()];
        for (number, program) in programs.iter().enumerate() {
            head.push((*program).into());
            if number > 0 {
                head.push("ratio".into());
            }
        }
        Self { rows: vec![head], notes: Vec::new() }
    }

    /// A load of which less is better, such as seconds. A program that has not run has no figures.
    pub fn less(&mut self, load: &str, figures: &[Option<&Figures>]) {
        self.row(load, figures, |original, ours| original / ours);
    }

    /// A load of which more is better, such as a rate.
    pub fn more(&mut self, load: &str, figures: &[Option<&Figures>]) {
        self.row(load, figures, |original, ours| ours / original);
    }

    /// What the rounds on each program have measured, the original's first: a row for each load that the last program has
    /// run, in the order of its first round.
    pub fn measures(&mut self, programs: &[Vec<Vec<Measure>>]) {
        let figures = |rounds: &Vec<Vec<Measure>>, load: &str| {
            let of_load = rounds.iter().flatten().filter(|measure| measure.load == load);
            let found: Vec<f64> = of_load.map(|measure| measure.figure).collect();
            (!found.is_empty()).then(|| Figures::of(found))
        };
        for Measure { load, unit, .. } in programs.last().and_then(|rounds| rounds.first()).into_iter().flatten() {
            let figures: Vec<_> = programs.iter().map(|rounds| figures(rounds, load)).collect();
            let figures: Vec<_> = figures.iter().map(Option::as_ref).collect();
            self.row(&format!("{load}, {}", unit.symbol()), &figures, |original, ours| unit.ratio(original, ours));
        }
    }

    /// Puts the rows and notes of another table of the same programs behind those of this one.
    pub fn append(&mut self, other: Self) {
        self.rows.extend(other.rows.into_iter().skip(1));
        let new: Vec<String> = other.notes.into_iter().filter(|note| !self.notes.contains(note)).collect();
        self.notes.extend(new);
    }

    fn row(&mut self, load: &str, figures: &[Option<&Figures>], ratio: impl Fn(f64, f64) -> f64) {
        let mut row = vec![load.to_owned()];
        let original = figures.first().copied().flatten();
        for (number, figures) in figures.iter().enumerate() {
            row.push(figures.map_or_else(|| "not run".into(), ToString::to_string));
            if number > 0 {
                let both = original.zip(*figures);
                let ratio = both.map(|(original, ours)| ratio(original.median(), ours.median()));
                // Nothing divided by nothing says nothing.
                row.push(ratio.filter(|ratio| ratio.is_finite()).map_or_else(String::new, short));
            }
        }
        self.rows.push(row);
    }

    /// Something that the reader of the table must know.
    pub fn note(&mut self, text: impl Into<String>) {
        self.notes.push(text.into());
    }
}

impl fmt::Display for Table {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width =
            |column: usize| self.rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max();
        for row in &self.rows {
            for (column, cell) in row.iter().enumerate() {
                let width = width(column).unwrap_or_default();
                match column {
                    0 => write!(formatter, "{cell:width$}")?,
                    _ => write!(formatter, "  {cell:>width$}")?,
                }
            }
            writeln!(formatter)?;
        }
        writeln!(formatter)?;
        for note in &self.notes {
            writeln!(formatter, "{note}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_and_a_ratio_above_one_is_good_for_ours() {
        let (slow, fast) = (Figures::of([20.0]), Figures::of([0.5]));
        let mut table = Table::of(&["original", "ours"]);
        table.less("drain, s", &[Some(&slow), Some(&fast)]);
        table.more("lookups, 1/s", &[Some(&fast), Some(&slow)]);
        table.less("alone, s", &[None, Some(&fast)]);
        table.note("Measured here.");
        let expected = [
            "load                     original                 ours  ratio",
            "drain, s         20.0 (20.0-20.0)  0.500 (0.500-0.500)   40.0",
            "lookups, 1/s  0.500 (0.500-0.500)     20.0 (20.0-20.0)   40.0",
            "alone, s                  not run  0.500 (0.500-0.500)       ",
            "",
            "Measured here.",
            "",
        ];
        assert_eq!(table.to_string().split('\n').collect::<Vec<_>>(), expected);
    }

    #[test]
    fn rounds_become_rows() {
        let round = |rate: f64, micros: f64| {
            vec![
                Measure::new("lookups", Unit::PerSecond, rate),
                Measure::new("latency", Unit::Microseconds, micros),
                Measure::new("generator", Unit::Percent, 50.0),
            ]
        };
        let mut table = Table::of(&["original", "ours"]);
        table.measures(&[vec![round(10.0, 8.0), round(30.0, 8.0)], vec![round(40.0, 2.0), round(60.0, 4.0)]]);
        let mut only_ours = Table::of(&["original", "ours"]);
        only_ours.measures(&[Vec::new(), vec![vec![Measure::new("idle", Unit::Megabytes, 2.0)]]]);
        table.append(only_ours);
        let expected = [
            "load                  original              ours  ratio",
            "lookups, 1/s  20.0 (10.0-30.0)  50.0 (40.0-60.0)   2.50",
            "latency, µs   8.00 (8.00-8.00)  3.00 (2.00-4.00)   2.67",
            "generator, %  50.0 (50.0-50.0)  50.0 (50.0-50.0)       ",
            "idle, MB               not run  2.00 (2.00-2.00)       ",
            "",
        ];
        assert_eq!(table.to_string().split('\n').take(6).collect::<Vec<_>>(), expected);
    }

    #[test]
    fn each_of_ours_has_its_ratio() {
        let figures = [1.0, 2.0, 4.0].map(|figure| Figures::of([figure]));
        let mut table = Table::of(&["original", "one", "other"]);
        table.more("rate", &figures.each_ref().map(Some));
        assert_eq!(table.to_string().lines().nth(1).unwrap().split_whitespace().nth(6), Some("4.00"));
    }
}
