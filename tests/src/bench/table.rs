//! What a bench prints.

use std::fmt;

use super::figures::{Figures, short};

/// A plain table: load, original, ours, ratio.
#[derive(Clone, Debug, Default)]
pub struct Table {
    rows: Vec<[String; 4]>,
    notes: Vec<String>,
}

impl Table {
    /// A load in seconds. The ratio says how many times faster ours is; there is none where only ours has run.
    pub fn seconds(&mut self, load: &str, original: Option<&Figures>, ours: &Figures) {
        let ratio = original.map(|original| original.median() / ours.median());
        self.row(&format!("{load}, s"), original, ours, ratio);
    }

    /// A load in so many a second. The ratio says how many times faster ours is.
    pub fn rate(&mut self, load: &str, original: &Figures, ours: &Figures) {
        self.row(&format!("{load}, 1/s"), Some(original), ours, Some(ours.median() / original.median()));
    }

    fn row(&mut self, load: &str, original: Option<&Figures>, ours: &Figures, ratio: Option<f64>) {
        let original = original.map_or_else(|| "not run".into(), ToString::to_string);
        let ratio = ratio.map_or_else(String::new, short);
        self.rows.push([load.into(), original, ours.to_string(), ratio]);
    }

    /// Something that the reader of the table must know.
    pub fn note(&mut self, text: impl Into<String>) {
        self.notes.push(text.into());
    }
}

impl fmt::Display for Table {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let head = ["load", "original", "ours", "ratio"].map(String::from);
        let rows: Vec<_> = std::iter::once(&head).chain(&self.rows).collect();
        let width = |column: usize| rows.iter().map(|row| row[column].len()).max().unwrap_or(0);
        let widths: [usize; 4] = std::array::from_fn(width);
        for [load, original, ours, ratio] in rows {
            let [a, b, c, d] = widths;
            writeln!(formatter, "{load:a$}  {original:>b$}  {ours:>c$}  {ratio:>d$}")?;
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
        let mut table = Table::default();
        table.seconds("drain", Some(&slow), &fast);
        table.rate("lookups", &fast, &slow);
        table.seconds("alone", None, &fast);
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
}
