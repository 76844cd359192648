//! What a daemon does with all that is ready, a round at a time.
//!
//! A round asks once who is ready, and gives at most [`ROUND_MAX`] of them a turn, each one read or one turn to write; then
//! comes what is due, and what other directors have to hear of it all. Whatever is left over is still ready, so that the
//! next round tells it again (level-triggered), after those that have had no turn yet. Nobody waits for long behind a busy
//! connection, and nothing is asked more often than there is news: the system is told once of each descriptor, and
//! an event costs the same however many there are.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use crate::daemon::{Daemon, Notice};
use crate::exit::{Exit, Failure};
use crate::poller::{Poller, Ready};

/// The most events between two looks at the clock and the core's deadlines.
pub const ROUND_MAX: usize = 256;

/// A daemon and all that it waits for.
///
/// It can be read when the next round has something to do, be it not before [`Rounds::next_timeout`].
pub struct Rounds {
    daemon: Daemon,
    poller: Poller,
}

impl Rounds {
    /// Watches what a daemon that has just started wants watched.
    ///
    /// # Errors
    /// The system's.
    pub fn new(daemon: Daemon) -> Result<Self, Failure> {
        let mut this = Self { daemon, poller: Poller::new(ROUND_MAX).map_err(|error| failure(&error))? };
        this.settle();
        Ok(this)
    }

    /// Waits until somebody is ready or something is due, and does it. How many were ready; `None`: the daemon has ended.
    ///
    /// # Errors
    /// How the daemon has failed.
    pub fn wait(&mut self) -> Result<Option<usize>, Failure> {
        self.round(self.next_timeout())
    }

    /// The same, but waits no longer than this.
    ///
    /// # Errors
    /// How the daemon has failed.
    pub fn wait_for(&mut self, limit: Duration) -> Result<Option<usize>, Failure> {
        let limit = Instant::now() + limit;
        self.round(Some(self.next_timeout().map_or(limit, |due| due.min(limit))))
    }

    /// When the next round has something to do, though nobody may be ready.
    pub fn next_timeout(&self) -> Option<Instant> {
        self.daemon.next_timeout()
    }

    fn round(&mut self, deadline: Option<Instant>) -> Result<Option<usize>, Failure> {
        let count = self.poller.wait(deadline).map_err(|error| failure(&error))?;
        for index in 0..count {
            let Ready { source, readable, writable } = self.poller.ready(index);
            if writable {
                self.daemon.writable(source);
            }
            if readable {
                self.daemon.readable(source);
            }
            self.carry_out_notices();
        }
        if self.next_timeout().is_some_and(|due| due <= Instant::now()) {
            self.daemon.tick();
        }
        self.settle();
        self.daemon.ended().map_or(Ok(Some(count)), |result| result.map(|()| None))
    }

    /// Tells other directors what has come of it all, and sees to it that the right things are watched.
    fn settle(&mut self) {
        self.carry_out_notices();
        self.daemon.tell_ring();
        self.carry_out_notices();
    }

    fn carry_out_notices(&mut self) {
        while let Some(notice) = self.daemon.next_notice() {
            let (source, result) = match notice {
                Notice::Watch { source, descriptor } => {
                    (source, self.poller.add(&*descriptor, source, self.daemon.interest(source)))
                }
                Notice::Interest { source } => match self.daemon.descriptor(source) {
                    Some(descriptor) => {
                        (source, self.poller.modify(&**descriptor, source, self.daemon.interest(source)))
                    }
                    None => continue,
                },
                // The daemon has closed the descriptor, which was its only one: the system forgets it by itself.
                Notice::Gone { .. } => continue,
            };
            if let Err(error) = result {
                self.daemon.broken(source, &error);
            }
        }
    }
}

impl AsFd for Rounds {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.poller.as_fd()
    }
}

fn failure(error: &io::Error) -> Failure {
    Failure::new(Exit::System, format!("epoll: {error}"))
}
