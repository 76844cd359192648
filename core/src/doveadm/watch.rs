//! Backends and ring on one screen, with marks at what has changed.

use std::collections::BTreeMap;

use super::answers::{DirectorColumn, DirectorRow, HostRow};
use super::lists::LocalTime;
use super::printable;
use crate::hash::IpText;

/// A change stays marked for so many frames, so that it is seen by somebody who looks up now and then.
const MARKED_FRAMES: u64 = 5;

/// A tag may be cut to this.
const TAG_MIN_CHARS: usize = 4;
/// The status of a link may be cut to this.
const STATUS_MIN_CHARS: usize = 12;

/// What a director said at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// HOST-LIST
    pub hosts: Vec<HostRow>,
    /// DIRECTOR-LIST
    pub directors: Vec<DirectorRow>,
}

/// The screen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Screen {
    /// Characters in a line.
    pub columns: usize,
    /// Lines; `None` = as many as there are.
    pub rows: Option<usize>,
    /// Changes are bold, besides their mark.
    pub bold: bool,
}

/// Remembers what was shown, to mark what is new.
#[derive(Clone, Debug, Default)]
pub struct Watch {
    frames: u64,
    /// What was in each cell, by row and column.
    cells: BTreeMap<(String, usize), Shown>,
}

#[derive(Clone, Debug)]
struct Shown {
    text: String,
    /// The frame in which it became that; 0 = it is no news.
    since: u64,
    /// The last frame that it was in.
    seen: u64,
}

impl Watch {
    /// The next frame: lines with LF, none longer than the screen is wide.
    pub fn frame(&mut self, snapshot: &Snapshot, screen: Screen, time: LocalTime<'_>, unix_secs: u64) -> String {
        self.frames += 1;
        let mut lines = vec![headline(snapshot, screen.columns, &time(unix_secs))];
        lines.push(String::new());
        lines.extend(self.directors(snapshot, screen));
        lines.push(String::new());
        lines.extend(self.hosts(snapshot, screen, time));
        lines.extend(self.gone(screen));
        if let Some(rows) = screen.rows.filter(|&rows| rows > 0 && lines.len() > rows) {
            let hidden = lines.len() - (rows - 1);
            lines.truncate(rows - 1);
            lines.push(cut(&format!("… {hidden} more lines: make the window higher"), screen.columns));
        }
        let mut frame = lines.join("\n");
        frame.push('\n');
        frame
    }

    fn directors(&mut self, snapshot: &Snapshot, screen: Screen) -> Vec<String> {
        use DirectorColumn as C;
        let mut grid = Grid::new(&[("director", Left), ("type", Left), ("status", Left), ("ping ms", Right)]);
        for row in &snapshot.directors {
            let field = |column| row.field(column).map(printable).unwrap_or_default();
            let ip = field(C::Ip);
            let address = match (ip.is_empty(), ip.contains(':')) {
                (true, _) => "(not yet known)".to_owned(),
                (false, true) => format!("[{ip}]:{}", field(C::Port)),
                (false, false) => format!("{ip}:{}", field(C::Port)),
            };
            let status = match field(C::Status) {
                empty if empty.is_empty() => "not connected".to_owned(),
                status => status,
            };
            let key = format!("director {address} {}", field(C::Type));
            let cells = [address, field(C::Type), status, field(C::Ping)];
            // Pings vary all the time; that is no news.
            grid.rows.push(self.marked(&key, cells, &[0, 1, 2]));
        }
        grid.shorten(2, STATUS_MIN_CHARS, screen.columns);
        grid.lines(screen)
    }

    fn hosts(&mut self, snapshot: &Snapshot, screen: Screen, time: LocalTime<'_>) -> Vec<String> {
        let mut grid = Grid::new(&[
            ("mail server ip", Left),
            ("tag", Left),
            ("vhosts", Right),
            ("state", Left),
            ("state changed", Left),
            ("users", Right),
        ]);
        for host in &snapshot.hosts {
            let changed = if host.changed_secs == 0 { "-".to_owned() } else { time(host.changed_secs) };
            let ip = IpText(host.ip).to_string();
            let cells = [
                ip.clone(),
                printable(&host.tag),
                host.vhosts.to_string(),
                if host.down { "down" } else { "up" }.to_owned(),
                changed,
                host.users.to_string(),
            ];
            grid.rows.push(self.marked(&format!("host {ip}"), cells, &[0, 1, 2, 3, 4, 5]));
        }
        if grid.width() > screen.columns {
            grid.remove_column(4);
        }
        grid.shorten(1, TAG_MIN_CHARS, screen.columns);
        grid.lines(screen)
    }

    /// Rows that were there lately.
    fn gone(&mut self, screen: Screen) -> Vec<String> {
        let frame = self.frames;
        self.cells.retain(|_, shown| frame - shown.seen < MARKED_FRAMES);
        let gone = self.cells.iter().filter(|((_, column), shown)| *column == 0 && shown.seen < frame);
        let gone: Vec<_> = gone.map(|((row, _), _)| row.trim_end()).collect();
        if gone.is_empty() {
            return Vec::new();
        }
        vec![String::new(), cut(&format!("gone: {}", gone.join(", ")), screen.columns)]
    }

    /// Marks the cells that have changed lately, of those in `watched`. A row that is new has its first cell marked.
    fn marked<const N: usize>(&mut self, key: &str, cells: [String; N], watched: &[usize]) -> Vec<Cell> {
        let frame = self.frames;
        let is_new = !self.cells.contains_key(&(key.to_owned(), 0));
        cells
            .into_iter()
            .enumerate()
            .map(|(column, text)| {
                if !watched.contains(&column) {
                    return Cell { text, marked: false };
                }
                // What the first frame shows, and the other cells of a new row, count as old.
                let born = if frame == 1 || is_new && column > 0 { 0 } else { frame };
                let shown = self.cells.entry((key.to_owned(), column)).or_insert_with(|| Shown {
                    text: text.clone(),
                    since: born,
                    seen: frame,
                });
                shown.seen = frame;
                if shown.text != text {
                    shown.text.clone_from(&text);
                    shown.since = frame;
                }
                Cell { marked: shown.since > 0 && frame - shown.since < MARKED_FRAMES, text }
            })
            .collect()
    }
}

fn headline(snapshot: &Snapshot, columns: usize, time: &str) -> String {
    use DirectorColumn as C;
    let own = snapshot.directors.iter().find(|row| row.field(C::Type) == Some(b"self"));
    let ring = own.and_then(|row| row.field(C::Status)).map_or_else(|| "no ring".to_owned(), printable);
    let users: u64 = snapshot.hosts.iter().fold(0, |sum, host| sum.saturating_add(host.users));
    let usable = snapshot.hosts.iter().filter(|host| host.takes_users()).count();
    let left = format!("{ring}, {users} users, {usable} of {} backends in use", snapshot.hosts.len());
    let gap = columns.saturating_sub(left.chars().count() + time.chars().count()).max(1);
    cut(&format!("{left}{}{time}", " ".repeat(gap)), columns)
}

#[derive(Clone, Debug)]
struct Cell {
    text: String,
    marked: bool,
}

#[derive(Clone, Copy, Debug)]
enum Align {
    Left,
    Right,
}
use Align::{Left, Right};

/// Cells in columns, each with a place for a mark behind it.
struct Grid {
    columns: Vec<(&'static str, Align)>,
    rows: Vec<Vec<Cell>>,
}

impl Grid {
    fn new(columns: &[(&'static str, Align)]) -> Self {
        Self { columns: columns.to_vec(), rows: Vec::new() }
    }

    fn widths(&self) -> Vec<usize> {
        let width = |index: usize| {
            let cells = self.rows.iter().map(|row| length(&row[index].text));
            cells.chain([length(self.columns[index].0)]).max().unwrap_or(0)
        };
        (0..self.columns.len()).map(width).collect()
    }

    /// With a mark after each column, and a space before the next.
    fn width(&self) -> usize {
        self.widths().iter().map(|width| width + 2).sum::<usize>().saturating_sub(1)
    }

    fn remove_column(&mut self, index: usize) {
        self.columns.remove(index);
        for row in &mut self.rows {
            row.remove(index);
        }
    }

    /// Cuts one column's cells, so that the lines fit, but not below `min`.
    fn shorten(&mut self, index: usize, min: usize, available: usize) {
        let excess = self.width().saturating_sub(available);
        let width = self.widths()[index].saturating_sub(excess).max(min);
        if excess > 0 {
            for row in &mut self.rows {
                row[index].text = cut(&row[index].text, width);
            }
        }
    }

    fn lines(&self, screen: Screen) -> Vec<String> {
        let widths = self.widths();
        let header: Vec<_> =
            self.columns.iter().map(|&(title, _)| Cell { text: title.to_owned(), marked: false }).collect();
        std::iter::once(&header).chain(&self.rows).map(|row| self.line(row, &widths, screen)).collect()
    }

    fn line(&self, row: &[Cell], widths: &[usize], screen: Screen) -> String {
        let mut line = String::new();
        // Escape sequences take no room on the screen.
        let mut room = screen.columns;
        for ((cell, &width), &(_, align)) in row.iter().zip(widths).zip(&self.columns) {
            let padding = " ".repeat(width.saturating_sub(length(&cell.text)));
            let mark = if cell.marked { "*" } else { " " };
            let text = match align {
                Left => format!("{}{mark}{padding} ", cell.text),
                Right => format!("{padding}{}{mark} ", cell.text),
            };
            let text = cut_hard(&text, room);
            room -= length(&text);
            if cell.marked && screen.bold {
                line.push_str(&format!("\u{1b}[1m{text}\u{1b}[0m"));
            } else {
                line.push_str(&text);
            }
        }
        line.truncate(line.trim_end_matches(' ').len());
        line
    }
}

fn length(text: &str) -> usize {
    text.chars().count()
}

/// At most `width` characters; an ellipsis stands for what is missing.
fn cut(text: &str, width: usize) -> String {
    if length(text) <= width {
        return text.to_owned();
    }
    let mut shorter = cut_hard(text, width.saturating_sub(1));
    if width > 0 {
        shorter.push('…');
    }
    shorter
}

fn cut_hard(text: &str, width: usize) -> String {
    text.chars().take(width).collect()
}
