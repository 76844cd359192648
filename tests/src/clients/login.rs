//! Login processes, as a director sees them: the auth client protocol, with the director between them and auth.

use std::io;
use std::path::Path;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::lines::Lines;
use crate::wait::{LIMIT, wait_for};

/// The connections of `count` login processes on a director's login socket, each of them through the handshake, with
/// auth's half of it.
///
/// # Panics
/// If one does not come through.
pub fn login_processes(socket: &Path, count: usize) -> Vec<Lines> {
    let mut connections: Vec<Lines> = (0..count)
        .map(|number| {
            // The queue of the socket may be full for a moment.
            let mut lines = wait_for("a place in the queue", LIMIT, || Lines::unix(socket));
            lines.set_read_timeout(LIMIT * 2).expect("timeout");
            lines.send(&format!("VERSION\t1\t2\nCPID\t{}", 100_000 + number)).expect("sending");
            lines
        })
        .collect();
    for (number, lines) in connections.iter_mut().enumerate() {
        let done = (|| -> io::Result<()> {
            while lines.expect()? != "DONE" {}
            Ok(())
        })();
        done.unwrap_or_else(|error| panic!("connection {number}: {error}"));
    }
    connections
}

/// Lets this process and those it starts open as many files as that many login connections need, if the system allows
/// it; gives back for how many it is enough. Each takes two in the director.
///
/// # Panics
/// If not even what the system says it allows is allowed.
pub fn raise_open_files(connections: usize) -> usize {
    const OTHERS: u64 = 200;
    let wanted = 2 * connections as u64 + OTHERS;
    let limit = getrlimit(Resource::Nofile);
    let maximum = limit.maximum.map(|maximum| maximum.max(wanted));
    // Whether the upper limit may be raised is the system's to say.
    if setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).is_err() {
        setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum }).expect("open files");
    }
    let allowed = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX).min(wanted);
    usize::try_from((allowed - OTHERS) / 2).expect("a small number")
}
