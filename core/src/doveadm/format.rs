//! `table`, `tab`, `pager`, `flow` and `json`: rows of cells as text, as doveadm prints them.

use std::fmt::Write as _;
use std::str::FromStr;

/// A way to print rows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// Columns side by side, fitted into the width of the terminal.
    #[default]
    Table,
    /// A line of headers, then a line a row, with TABs between cells.
    Tab,
    /// A line a cell, `header: cell`, with a form feed between rows.
    Pager,
    /// A line a row, `header=cell header=cell`.
    Flow,
    /// A list of objects with string values.
    Json,
}

impl Format {
    /// All, by the names that [`FromStr`] takes.
    pub const NAMES: [&'static str; 5] = ["table", "tab", "pager", "flow", "json"];
}

impl FromStr for Format {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Ok(match text {
            "table" => Self::Table,
            "tab" => Self::Tab,
            "pager" => Self::Pager,
            "flow" => Self::Flow,
            "json" => Self::Json,
            _ => return Err(format!("Unknown print formatter: {text} (there are {})", Self::NAMES.join(", "))),
        })
    }
}

/// The head of a column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Column {
    /// Its name in JSON.
    pub key: &'static str,
    /// Its name elsewhere.
    pub title: &'static str,
    /// Takes half of the width that a table leaves over.
    pub expand: bool,
    /// Tables, flow and pager do not show the title.
    pub hide_title: bool,
}

impl Column {
    /// A column whose key is its title.
    pub const fn new(title: &'static str) -> Self {
        Self { key: title, title, expand: false, hide_title: false }
    }

    /// With another key.
    pub const fn with_key(mut self, key: &'static str) -> Self {
        self.key = key;
        self
    }

    /// As the one that takes up width.
    pub const fn expanding(mut self) -> Self {
        self.expand = true;
        self
    }

    /// Without a visible title.
    pub const fn untitled(mut self) -> Self {
        self.hide_title = true;
        self
    }
}

/// A table's widths are found from its first rows; later ones are not kept, so that a list of millions of users
/// can be printed as it comes.
const ROWS_MEASURED: usize = 100;

/// The width of a table where there is no terminal.
pub const DEFAULT_WIDTH: usize = 80;

/// Prints rows as they come.
#[derive(Clone, Debug)]
pub struct Printer {
    format: Format,
    columns: &'static [Column],
    /// How wide a table may be, in characters.
    width: usize,
    rows: usize,
    /// A table's first rows, until its widths are known.
    kept: Vec<Vec<String>>,
    widths: Option<Vec<usize>>,
}

impl Printer {
    /// A printer that has printed nothing yet.
    pub fn new(format: Format, columns: &'static [Column], width: usize) -> Self {
        Self { format, columns, width, rows: 0, kept: Vec::new(), widths: None }
    }

    /// One more row, with a cell for each column.
    pub fn row(&mut self, cells: Vec<String>, out: &mut String) {
        debug_assert_eq!(cells.len(), self.columns.len());
        let first = self.rows == 0;
        self.rows += 1;
        match self.format {
            Format::Table => match &self.widths {
                Some(widths) => write_table_row(cells.iter().map(String::as_str), widths, out),
                None => {
                    self.kept.push(cells);
                    if self.kept.len() == ROWS_MEASURED {
                        self.begin_table(out);
                    }
                }
            },
            Format::Tab => {
                if first {
                    self.write_tab_header(out);
                }
                write_line(cells.iter().map(|cell| line_safe(cell)), "\t", out);
            }
            Format::Pager => {
                if !first {
                    out.push_str("\u{c}\n");
                }
                for (column, cell) in self.columns.iter().zip(&cells) {
                    let (title, colon) = if column.hide_title { ("", "") } else { (column.title, ": ") };
                    let _ = writeln!(out, "{title}{colon}{}", line_safe(cell));
                }
            }
            Format::Flow => {
                let cells = self.columns.iter().zip(&cells).map(|(column, cell)| {
                    let cell = line_safe(cell);
                    if column.hide_title { cell } else { format!("{}={cell}", column.title) }
                });
                write_line(cells, " ", out);
            }
            Format::Json => {
                out.push(if first { '[' } else { ',' });
                for (index, (column, cell)) in self.columns.iter().zip(&cells).enumerate() {
                    out.push(if index == 0 { '{' } else { ',' });
                    write_json_string(column.key, out);
                    out.push(':');
                    write_json_string(cell, out);
                }
                out.push('}');
            }
        }
    }

    /// What is left to print after the last row.
    pub fn finish(mut self, out: &mut String) {
        match self.format {
            Format::Table if self.widths.is_none() => self.begin_table(out),
            Format::Tab if self.rows == 0 => self.write_tab_header(out),
            Format::Json => out.push_str(if self.rows == 0 { "[]\n" } else { "]\n" }),
            Format::Table | Format::Tab | Format::Pager | Format::Flow => {}
        }
    }

    fn write_tab_header(&self, out: &mut String) {
        write_line(self.columns.iter().map(|column| column.title.to_owned()), "\t", out);
    }

    /// Fixes the widths, and prints the header and the rows kept so far.
    fn begin_table(&mut self, out: &mut String) {
        let widths = widths(self.columns, &self.kept, self.width);
        if self.columns.iter().any(|column| !column.hide_title) {
            write_table_row(self.columns.iter().map(|column| column.title), &widths, out);
        }
        for row in std::mem::take(&mut self.kept) {
            write_table_row(row.iter().map(String::as_str), &widths, out);
        }
        self.widths = Some(widths);
    }
}

/// How wide each column of a table becomes.
///
/// A column wants to be as wide as its widest cell. If all of them leave something over, the column that expands gets
/// half of it. If they need too much, columns give way from the right: one whose narrowest cell allows it gives all
/// that is missing, any other half of the difference between its widest and narrowest cell. Cells that do not fit
/// then push the rest of their line to the right. This is how doveadm's tables turn out, found by trying.
fn widths(columns: &[Column], rows: &[Vec<String>], available: usize) -> Vec<usize> {
    let mut widest = Vec::with_capacity(columns.len());
    let mut narrowest = Vec::with_capacity(columns.len());
    for (index, column) in columns.iter().enumerate() {
        let title = (!column.hide_title).then(|| length(column.title));
        let lengths = || rows.iter().map(|row| length(&row[index])).chain(title);
        widest.push(lengths().max().unwrap_or(0));
        narrowest.push(lengths().min().unwrap_or(0));
    }
    let needed: usize = widest.iter().sum::<usize>() + columns.len().saturating_sub(1);
    if needed <= available {
        for (width, column) in widest.iter_mut().zip(columns) {
            if column.expand {
                *width += (available - needed) / 2;
            }
        }
        return widest;
    }
    let missing = needed - available;
    for (width, narrowest) in widest.iter_mut().zip(narrowest).rev() {
        let slack = *width - narrowest;
        if slack >= missing {
            *width -= missing;
            break;
        }
        *width -= (slack / 2).max(slack.min(1));
    }
    widest
}

fn write_table_row<'a>(cells: impl Iterator<Item = &'a str>, widths: &[usize], out: &mut String) {
    for (index, (cell, &width)) in cells.zip(widths).enumerate() {
        if index > 0 {
            out.push(' ');
        }
        let _ = write!(out, "{:width$}", line_safe(cell));
    }
    out.push('\n');
}

fn length(cell: &str) -> usize {
    line_safe(cell).chars().count()
}

fn write_line(cells: impl Iterator<Item = String>, between: &str, out: &mut String) {
    for (index, cell) in cells.enumerate() {
        if index > 0 {
            out.push_str(between);
        }
        out.push_str(&cell);
    }
    out.push('\n');
}

/// A cell that stays in its line and its column, and can't steer a terminal.
fn line_safe(cell: &str) -> String {
    if cell.chars().any(char::is_control) { cell.escape_debug().to_string() } else { cell.to_owned() }
}

fn write_json_string(text: &str, out: &mut String) {
    out.push('"');
    for character in text.chars() {
        match character {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            character if character.is_control() => {
                let _ = write!(out, "\\u{:04x}", u32::from(character));
            }
            character => out.push(character),
        }
    }
    out.push('"');
}
