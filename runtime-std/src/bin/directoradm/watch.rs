//! `watch`: backends and ring on one screen, once a second.

use std::io::{self, IsTerminal};
use std::thread;
use std::time::{Duration, Instant};

use director_core::doveadm::Verdict;
use director_core::doveadm::watch::{Screen, Snapshot, Watch};

use crate::connection::Connection;
use crate::session::{Session, print, terminal_size};
use crate::show::{directors, hosts};
use director_core::doveadm::format::DEFAULT_WIDTH;

const INTERVAL: Duration = Duration::from_secs(1);

/// Runs until Ctrl-C, or `count` times. Nothing is changed in the terminal that would have to be put back.
pub(crate) fn watch(session: &mut Session, count: Option<u64>) -> Result<(), Verdict> {
    let mut watch = Watch::default();
    let mut connection = Some(session.connect()?);
    let mut next = Instant::now();
    for round in 0_u64.. {
        if count.is_some_and(|count| round >= count) {
            break;
        }
        thread::sleep(next.saturating_duration_since(Instant::now()));
        next = Instant::now() + INTERVAL;
        let stdout = io::stdout();
        let terminal = stdout.is_terminal() && std::env::var_os("TERM").is_none_or(|name| name != "dumb");
        let (columns, rows) = if terminal { terminal_size(&stdout) } else { (DEFAULT_WIDTH, None) };
        // The cursor stands in the line after the last.
        let screen = Screen { columns, rows: rows.map(|rows| rows.saturating_sub(1).max(1)), bold: terminal };
        let result = match connection.take() {
            Some(connection) => Ok(connection),
            None => session.connect(),
        };
        let frame = match result.and_then(|connection| snapshot(session, connection)) {
            Ok((alive, snapshot)) => {
                connection = Some(alive);
                watch.frame(&snapshot, screen, &|secs| session.time(secs), session.now().unix_secs)
            }
            // A director that is restarted comes back.
            Err(verdict) => format!("{}: {}\n", session.time(session.now().unix_secs), verdict.text),
        };
        if terminal {
            print(&format!("{}{}\x1b[J", if round == 0 { "\x1b[2J\x1b[H" } else { "\x1b[H" }, clear_lines(&frame)))?;
        } else {
            print(&format!("{}{frame}", if round == 0 { "" } else { "\n" }))?;
        }
    }
    Ok(())
}

fn snapshot(session: &mut Session, mut connection: Connection) -> Result<(Connection, Snapshot), Verdict> {
    let hosts = hosts(session, &mut connection)?;
    let directors = directors(&mut connection)?;
    Ok((connection, Snapshot { hosts, directors }))
}

/// Overwrites line by line, which flickers less than an empty screen in between.
fn clear_lines(frame: &str) -> String {
    frame.replace('\n', "\x1b[K\n")
}
