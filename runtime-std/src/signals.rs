//! Signals, as a descriptor that becomes readable.
//!
//! signal-hook does the dangerous part (what may happen inside a signal handler); a socket pair makes a signal
//! something that `poll(2)` and async-io can wait for like for everything else, so that both runtimes share this.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

/// What a signal asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request {
    /// SIGTERM, SIGINT: say goodbye and end.
    Shutdown,
    /// SIGHUP: read the settings again and reopen the log.
    Reload,
}

/// The signals that a daemon listens to.
#[derive(Debug)]
pub struct Signals {
    pipe: Rc<OwnedFd>,
    shutdown: Arc<AtomicBool>,
    reload: Arc<AtomicBool>,
}

impl Signals {
    /// Takes over the signals of this process.
    ///
    /// # Errors
    /// The system refused it.
    pub fn new() -> io::Result<Self> {
        let (pipe, writer) = UnixStream::pair()?;
        pipe.set_nonblocking(true)?;
        let this = Self { pipe: Rc::new(pipe.into()), shutdown: Arc::default(), reload: Arc::default() };
        for (signal, flag) in [(SIGTERM, &this.shutdown), (SIGINT, &this.shutdown), (SIGHUP, &this.reload)] {
            // The flag first: whoever is woken by the pipe must find it set.
            signal_hook::flag::register(signal, Arc::clone(flag))?;
            signal_hook::low_level::pipe::register(signal, writer.try_clone()?)?;
        }
        Ok(this)
    }

    /// What is readable when there is something to ask [`Signals::next`] for.
    pub fn descriptor(&self) -> &Rc<OwnedFd> {
        &self.pipe
    }

    /// What was asked for since the last call; to end comes before all else. Call until `None` when readable.
    pub fn next(&self) -> Option<Request> {
        let mut drain = [0; 64];
        while rustix::io::read(&*self.pipe, &mut drain).is_ok_and(|count| count > 0) {}
        if self.shutdown.swap(false, Ordering::SeqCst) {
            return Some(Request::Shutdown);
        }
        self.reload.swap(false, Ordering::SeqCst).then_some(Request::Reload)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::event::{PollFd, PollFlags, Timespec, poll};

    /// One test for all: signals belong to the whole process.
    #[test]
    fn signals_become_readable_and_are_told_once() {
        let signals = Signals::new().unwrap();
        let readable = || {
            let mut fds = [PollFd::new(&**signals.descriptor(), PollFlags::IN)];
            poll(&mut fds, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })).unwrap() > 0
        };
        assert!(!readable());
        assert_eq!(signals.next(), None);
        for signal in [SIGHUP, SIGHUP, SIGTERM] {
            signal_hook::low_level::raise(signal).unwrap();
        }
        assert!(readable());
        assert_eq!(signals.next(), Some(Request::Shutdown));
        assert_eq!(signals.next(), Some(Request::Reload));
        assert_eq!(signals.next(), None);
        assert!(!readable());
    }
}
