//! How a flush is getting on. The director answers HOST-RESET-USERS at the end only, so the client asks for the number
//! of users on the backend meanwhile, and this makes a line of it.

use std::collections::VecDeque;
use std::fmt::Write as _;
use std::time::Duration;

use crate::time::Instant;

/// The speed is that of the last so many seconds: users are moved in batches, seconds apart.
const WINDOW: Duration = Duration::from_secs(10);

/// Bounds the samples if somebody observes more often than once a second.
const SAMPLES_MAX: usize = 64;

/// A bar shorter than this says nothing.
const BAR_MIN_CHARS: usize = 5;
/// A longer one says no more.
const BAR_MAX_CHARS: usize = 40;

/// The users of one backend while they move away.
#[derive(Clone, Debug)]
pub struct Progress {
    /// What moves, for the beginning of the line.
    name: String,
    /// Whether all users should go: not if the backend still has a weight, since those whose hash leads there stay.
    to_zero: bool,
    started: Instant,
    /// The most users there ever were: a login in the last moment comes on top.
    total: u64,
    left: u64,
    samples: VecDeque<(Instant, u64)>,
}

impl Progress {
    /// Starts with so many users.
    pub fn new(name: impl Into<String>, users: u64, to_zero: bool, now: Instant) -> Self {
        let samples = VecDeque::from([(now, users)]);
        Self { name: name.into(), to_zero, started: now, total: users, left: users, samples }
    }

    /// So many users are left now.
    pub fn observe(&mut self, users: u64, now: Instant) {
        self.left = users;
        self.total = self.total.max(users);
        while self.samples.len() >= SAMPLES_MAX
            || self.samples.len() > 1 && now.saturating_since(self.samples[1].0) >= WINDOW
        {
            self.samples.pop_front();
        }
        self.samples.push_back((now, users));
    }

    /// The users who are left.
    pub fn left(&self) -> u64 {
        self.left
    }

    /// Users moved a second, lately; `None` = too early to say.
    pub fn per_second(&self) -> Option<f64> {
        let (first, last) = (self.samples.front()?, self.samples.back()?);
        let secs = last.0.saturating_since(first.0).as_secs_f64();
        // More users than before is no progress.
        (secs >= 0.5).then(|| first.1.saturating_sub(last.1) as f64 / secs)
    }

    /// How long it will take at this speed; `None` = it can't be said.
    pub fn time_left(&self) -> Option<Duration> {
        if !self.to_zero {
            return None;
        }
        if self.left == 0 {
            return Some(Duration::ZERO);
        }
        let secs = self.left as f64 / self.per_second().filter(|&speed| speed > 0.0)?;
        Duration::try_from_secs_f64(secs.ceil()).ok()
    }

    /// A line for a log.
    pub fn line(&self, now: Instant) -> String {
        let Self { name, left, total, .. } = self;
        let mut line = match self.to_zero {
            true => format!("{name}: {left} of {total} users left"),
            false => format!("{name}: {left} users, {total} at first"),
        };
        if let Some(speed) = self.per_second() {
            let _ = write!(line, ", {speed:.0} moved a second");
        }
        match self.time_left() {
            Some(time) if self.left > 0 => {
                let _ = write!(line, ", about {} to go", duration(time));
            }
            _ => {
                let _ = write!(line, ", {} so far", duration(now.saturating_since(self.started)));
            }
        }
        line
    }

    /// A line for a terminal, at most `width` characters, with a bar if there is room.
    pub fn bar(&self, now: Instant, width: usize) -> String {
        let Self { name, left, total, .. } = self;
        let mut right = match self.to_zero {
            true => format!(" {left}/{total} left"),
            false => format!(": {left} users, {total} at first"),
        };
        if let Some(speed) = self.per_second() {
            let _ = write!(right, ", {speed:.0}/s");
        }
        match self.time_left() {
            Some(time) if self.left > 0 => {
                let _ = write!(right, ", {} to go", duration(time));
            }
            _ => {
                let _ = write!(right, ", {}", duration(now.saturating_since(self.started)));
            }
        }
        let room = width.saturating_sub(name.chars().count() + right.len() + " []".len()).min(BAR_MAX_CHARS);
        let line = if self.to_zero && room >= BAR_MIN_CHARS {
            let gone = total.saturating_sub(*left);
            let full = match total {
                0 => room,
                // Not more than room, which is small.
                _ => (u128::from(gone) * room as u128 / u128::from(*total)) as usize,
            };
            format!("{name} [{}{}]{right}", "#".repeat(full), ".".repeat(room - full))
        } else {
            format!("{name}{right}")
        };
        line.chars().take(width).collect()
    }

    /// Said when it is over.
    pub fn summary(&self, now: Instant) -> String {
        let Self { name, left, total, .. } = self;
        let moved = total.saturating_sub(*left);
        let time = duration(now.saturating_since(self.started));
        match left {
            0 => format!("{name}: no user left, {moved} moved in {time}"),
            _ => format!("{name}: {moved} users moved in {time}, {left} there"),
        }
    }
}

/// A duration for people: `32 s`, `4:05 min`, `3:20 h`.
pub fn duration(duration: Duration) -> String {
    let secs = duration.as_secs();
    match secs {
        0..60 => format!("{secs} s"),
        60..3600 => format!("{}:{:02} min", secs / 60, secs % 60),
        _ => format!("{}:{:02} h", secs / 3600, secs % 3600 / 60),
    }
}
