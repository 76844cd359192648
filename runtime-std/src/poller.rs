//! Waiting for many descriptors at once, by `epoll(7)`.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Instant;

use crate::daemon::{Interest, Source};
use rustix::event::Timespec;
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};

/// The descriptors that are watched, named by their [`Source`]s. It can be read when one of them is ready.
pub(crate) struct Poller {
    epoll: OwnedFd,
    events: Vec<Event>,
}

/// A descriptor that is ready. What failed or has been hung up is ready for whatever is tried, which then shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ready {
    /// Which.
    pub(crate) source: Source,
    pub(crate) readable: bool,
    pub(crate) writable: bool,
}

impl Poller {
    /// Watches nothing yet, and will tell of at most `events` at a time.
    ///
    /// # Errors
    /// The system's.
    pub(crate) fn new(events: usize) -> io::Result<Self> {
        Ok(Self { epoll: epoll::create(CreateFlags::CLOEXEC)?, events: Vec::with_capacity(events) })
    }

    /// Watches a descriptor until it is closed.
    ///
    /// # Errors
    /// The system's: there is no memory left, or no watch.
    pub(crate) fn add(&self, descriptor: impl AsFd, source: Source, interest: Interest) -> io::Result<()> {
        Ok(epoll::add(&self.epoll, descriptor, EventData::new_u64(source.to_bits()), flags(interest))?)
    }

    /// Watches a descriptor for something else from now on.
    ///
    /// # Errors
    /// The system's: it is not watched.
    pub(crate) fn modify(&self, descriptor: impl AsFd, source: Source, interest: Interest) -> io::Result<()> {
        Ok(epoll::modify(&self.epoll, descriptor, EventData::new_u64(source.to_bits()), flags(interest))?)
    }

    /// Waits until something is ready, or for the deadline. The end of it is rounded up to what the system can do, so
    /// that whoever comes back by the clock does not come too early, again and again. How much is ready: the rest is for
    /// [`Poller::ready`].
    ///
    /// # Errors
    /// The system's.
    pub(crate) fn wait(&mut self, deadline: Option<Instant>) -> io::Result<usize> {
        let timeout = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        // One that is too long for the system is as good as none.
        let timeout = timeout.and_then(|timeout| Timespec::try_from(timeout).ok());
        self.events.clear();
        match epoll::wait(&self.epoll, rustix::buffer::spare_capacity(&mut self.events), timeout.as_ref()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        Ok(self.events.len())
    }

    /// One of those that the last wait has told of.
    pub(crate) fn ready(&self, index: usize) -> Ready {
        let Event { data, flags, .. } = self.events[index];
        let trouble = EventFlags::ERR | EventFlags::HUP;
        Ready {
            source: Source::from_bits(data.u64()),
            readable: flags.intersects(EventFlags::IN | trouble),
            writable: flags.intersects(EventFlags::OUT | trouble),
        }
    }
}

impl AsFd for Poller {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.epoll.as_fd()
    }
}

fn flags(interest: Interest) -> EventFlags {
    let mut flags = EventFlags::empty();
    flags.set(EventFlags::IN, interest.read);
    flags.set(EventFlags::OUT, interest.write);
    if flags.is_empty() {
        // The system tells of trouble even if nobody asked; but so only once.
        flags = EventFlags::ET;
    }
    flags
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::os::unix::net::UnixStream;
    use std::time::Duration;

    const READ: Interest = Interest { read: true, write: false };
    const BOTH: Interest = Interest { read: true, write: true };
    const NOTHING: Interest = Interest { read: false, write: false };
    const SOURCE: Source = Source::Work(7);

    fn now(poller: &mut Poller) -> Vec<Ready> {
        (0..poller.wait(Some(Instant::now())).unwrap()).map(|index| poller.ready(index)).collect()
    }

    fn ready(readable: bool, writable: bool) -> Vec<Ready> {
        vec![Ready { source: SOURCE, readable, writable }]
    }

    #[test]
    fn what_is_left_is_told_again() {
        let mut poller = Poller::new(4).unwrap();
        let (near, mut far) = UnixStream::pair().unwrap();
        poller.add(&near, SOURCE, READ).unwrap();
        assert_eq!(now(&mut poller), []);
        far.write_all(b"x").unwrap();
        assert_eq!(now(&mut poller), ready(true, false));
        assert_eq!(now(&mut poller), ready(true, false));
        poller.modify(&near, SOURCE, BOTH).unwrap();
        assert_eq!(now(&mut poller), ready(true, true));
        drop(near);
        assert_eq!(now(&mut poller), []);
    }

    /// A peer that goes while nothing of it is wanted must not keep the daemon busy.
    #[test]
    fn unwanted_trouble_is_told_once_at_most() {
        let mut poller = Poller::new(4).unwrap();
        let (near, far) = UnixStream::pair().unwrap();
        poller.add(&near, SOURCE, NOTHING).unwrap();
        drop(far);
        now(&mut poller);
        assert_eq!(now(&mut poller), []);
        poller.modify(&near, SOURCE, READ).unwrap();
        assert_eq!(now(&mut poller), ready(true, true), "when it is wanted it is told");
    }

    #[test]
    fn a_wait_does_not_end_before_its_deadline() {
        let mut poller = Poller::new(1).unwrap();
        for micros in [1, 300, 1700] {
            let deadline = Instant::now() + Duration::from_micros(micros);
            assert_eq!(poller.wait(Some(deadline)).unwrap(), 0);
            assert!(Instant::now() >= deadline);
        }
    }
}
