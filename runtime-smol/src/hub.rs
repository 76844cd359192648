//! The daemon in smol's hands: it waits, for whoever is ready and for the next timeout.
//!
//! smol's reactor watches one descriptor, that of the daemon's own `epoll(7)`, which has all others. A descriptor in the
//! reactor itself costs a call of the system each time that it was ready, to watch it again, and a task to wake. And the
//! reactor has five calls of its own around each wait, so it is only asked when nobody has been ready for a moment.

use std::future::poll_fn;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::task::Poll;
use std::time::{Duration, Instant};

use async_io::{Async, Timer};
use director_std::daemon::Daemon;
use director_std::exit::{Exit, Failure};
use director_std::rounds::Rounds;
use futures_lite::FutureExt;

/// Who has just been answered mostly asks again within this time. It is longer than the system's own tick: a timer that is to
/// fire before that has to be set in the hardware for each wait, which costs more than the rest of an answer.
const MOMENT: Duration = Duration::from_millis(100);

/// Runs a daemon until it has ended.
///
/// # Errors
/// The system refuses something without which it cannot run, or a bug has shown itself.
pub(crate) fn serve(daemon: Daemon) -> Result<(), Failure> {
    let mut rounds = Rounds::new(daemon)?;
    let system = |error: io::Error| Failure::new(Exit::System, format!("smol's reactor: {error}"));
    let mut pause = Pause::new(rounds.as_fd().try_clone_to_owned().map_err(system)?).map_err(system)?;
    smol::block_on(async {
        while let Some(count) = rounds.wait_for(MOMENT)? {
            if count == 0 {
                pause.wait(rounds.next_timeout()).await.map_err(system)?;
            }
        }
        Ok(())
    })
}

/// The pause between two rounds.
struct Pause {
    /// Can be read when somebody is ready.
    readiness: Async<OwnedFd>,
    timer: Timer,
    /// For when the timer is set.
    armed: Option<Instant>,
}

impl Pause {
    fn new(readiness: OwnedFd) -> io::Result<Self> {
        Ok(Self { readiness: Async::new_nonblocking(readiness)?, timer: Timer::never(), armed: None })
    }

    /// Waits until somebody is ready or something is due; it may end before.
    async fn wait(&mut self, due: Option<Instant>) -> io::Result<()> {
        // A later one is not worth setting the timer again: when it fires, the next pause does.
        if let Some(due) = due
            && self.armed.is_none_or(|armed| due < armed)
        {
            self.timer.set_at(due);
            self.armed = Some(due);
        }
        poll_fn(|context| {
            if let Poll::Ready(result) = self.readiness.poll_readable(context) {
                return Poll::Ready(result);
            }
            if self.timer.poll(context).is_ready() {
                self.armed = None;
                return Poll::Ready(Ok(()));
            }
            Poll::Pending
        })
        .await
    }
}
