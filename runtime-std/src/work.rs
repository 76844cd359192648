//! Work that blocks, on a thread of its own: to resolve names, to read the settings.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::rc::Rc;
use std::sync::mpsc::{Receiver, channel};
use std::thread;

/// A piece of work under way.
#[derive(Debug)]
pub struct Work<T> {
    done: Rc<OwnedFd>,
    result: Receiver<T>,
}

impl<T: Send + 'static> Work<T> {
    /// Begins it.
    ///
    /// # Errors
    /// There is no thread or no descriptor left.
    pub fn start(name: &str, work: impl FnOnce() -> T + Send + 'static) -> io::Result<Self> {
        let (done, far_end) = UnixStream::pair()?;
        let (sender, result) = channel();
        thread::Builder::new().name(name.into()).spawn(move || {
            // Closed when the thread ends, be it by a panic: that is what makes the other end readable.
            let _far_end = far_end;
            // Nobody may wait for it any more.
            let _ = sender.send(work());
        })?;
        Ok(Self { done: Rc::new(done.into()), result })
    }

    /// What is readable when the work is done.
    pub fn descriptor(&self) -> &Rc<OwnedFd> {
        &self.done
    }

    /// Its result, waiting for it if it is not there yet. `None`: the thread has had a panic, which is in the log.
    pub fn finish(self) -> Option<T> {
        self.result.recv().ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::event::{PollFd, PollFlags, poll};

    #[test]
    fn the_end_of_work_can_be_waited_for() {
        let work = Work::start("test", || 6 * 7).unwrap();
        poll(&mut [PollFd::new(&**work.descriptor(), PollFlags::IN)], None).unwrap();
        assert_eq!(work.finish(), Some(42));
    }

    #[test]
    fn a_panic_ends_work_too() {
        let work = Work::<()>::start("test", || panic!("as the test wants")).unwrap();
        poll(&mut [PollFd::new(&**work.descriptor(), PollFlags::IN)], None).unwrap();
        assert_eq!(work.finish(), None);
    }
}
