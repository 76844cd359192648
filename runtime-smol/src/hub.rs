//! Where everything meets: the daemon in one `RefCell`, and the tasks that wait on its behalf.
//!
//! All tasks run on one thread. A task waits for one thing (a connection, a listener, a time), then calls into the daemon
//! through [`Hub::with`], and never holds the daemon across an `await`. There is one task for each connection, so that a
//! slow one delays nobody; and each gives way after one batch, so that a busy one does not either.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::future::{Future, poll_fn};
use std::io;
use std::os::fd::OwnedFd;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use async_io::{Async, Timer};
use director_core::{ConnectionId, Role, Target};
use director_std::daemon::Daemon;
use director_std::dialer::{self, Attempt, Dial};
use director_std::exit::{Exit, Failure};
use director_std::listeners::{Change, ListenerKey};
use director_std::signals::{Request, Signals};
use director_std::switchboard::{ACCEPT_PAUSE, Accepted, Interest, Notice, SHUTDOWN_PATIENCE};
use futures_lite::future::{self, FutureExt};
use smol::{LocalExecutor, Task};

/// How often a daemon that is shutting down looks whether all is said.
const SHUTDOWN_GLANCE: Duration = Duration::from_millis(10);

/// Runs a daemon until it is asked to end.
///
/// # Errors
/// The system refuses something without which it cannot run, or a bug has shown itself.
pub(crate) fn serve(daemon: Daemon, changes: Vec<Change>) -> Result<(), Failure> {
    let hub = Rc::new(Hub {
        daemon: RefCell::new(daemon),
        executor: LocalExecutor::new(),
        posts: RefCell::default(),
        listeners: RefCell::default(),
        timer: TimerPost::default(),
        bug: Cell::new(false),
        bug_waker: RefCell::default(),
    });
    let _files = Files(Rc::clone(&hub));
    smol::block_on(hub.executor.run(Rc::clone(&hub).main(changes)))
}

/// Removes the files of sockets at the end, be it a panic. The tasks hold the hub, and the hub the tasks, so that it would
/// not be dropped by itself.
struct Files(Rc<Hub>);

impl Drop for Files {
    fn drop(&mut self) {
        if let Ok(mut daemon) = self.0.daemon.try_borrow_mut() {
            daemon.listeners.remove_files();
        }
    }
}

struct Hub {
    daemon: RefCell<Daemon>,
    executor: LocalExecutor<'static>,
    /// By the slots of the connections' ids.
    posts: RefCell<Vec<Option<Post>>>,
    listeners: RefCell<BTreeMap<ListenerKey, Listening>>,
    timer: TimerPost,
    /// A task has had a panic.
    bug: Cell<bool>,
    bug_waker: RefCell<Option<Waker>>,
}

/// A connection's task, and what it has to know.
struct Post {
    connection: ConnectionId,
    /// Ends when dropped.
    _task: Task<()>,
    /// The descriptor of a dialed connection, for its task to fetch.
    descriptor: Option<Rc<OwnedFd>>,
    /// To wake the task when its interest has changed.
    waker: Option<Waker>,
}

/// What stands behind a listener.
enum Listening {
    /// Ends when dropped.
    Socket { _task: Task<()> },
    /// A FIFO is one connection.
    Fifo(ConnectionId),
}

/// The one timer, for the core's next timeout.
#[derive(Default)]
struct TimerPost {
    armed: Cell<Option<Instant>>,
    waker: RefCell<Option<Waker>>,
}

/// What a connection is ready for.
enum Ready {
    Read,
    Write,
}

impl Hub {
    async fn main(self: Rc<Self>, changes: Vec<Change>) -> Result<(), Failure> {
        let signals = Signals::new()
            .and_then(Async::new_nonblocking)
            .map_err(|error| Failure::new(Exit::System, format!("cannot listen to signals: {error}")))?;
        // What the core wants since it began.
        self.with(|_| ());
        self.apply(changes);
        let background = [self.spawn(Rc::clone(&self).keep_time()), self.spawn(Rc::clone(&self).inspect())];
        let bug = || Failure::new(Exit::Software, "ending after a bug");
        let work = async {
            self.obey(&signals).await.map_err(|error| Failure::new(Exit::System, format!("signals: {error}")))
        };
        work.or(async {
            self.wait_for_bug().await;
            Err(bug())
        })
        .await?;
        drop(background);
        Ok(())
    }

    /// Calls into the daemon, then does what it wants done outside.
    fn with<T>(self: &Rc<Self>, call: impl FnOnce(&mut Daemon) -> T) -> T {
        let result = call(&mut self.daemon.borrow_mut());
        loop {
            let Some(notice) = self.daemon.borrow_mut().switchboard.next_notice() else { break };
            self.carry_out(notice);
        }
        let due = self.daemon.borrow().switchboard.next_timeout();
        // A later one needs no waking: the timer looks again when it fires.
        if let Some(due) = due
            && self.timer.armed.get().is_none_or(|armed| due < armed)
            && let Some(waker) = self.timer.waker.take()
        {
            waker.wake();
        }
        result
    }

    fn carry_out(self: &Rc<Self>, notice: Notice) {
        match notice {
            Notice::Dial { connection, target } => {
                self.post(connection, |hub| hub.dial(connection, target));
            }
            Notice::Watch { connection, descriptor } => {
                // A dialed connection has its task already, which is waiting for this.
                if let Some(post) = self.find(&mut self.posts.borrow_mut(), connection) {
                    post.descriptor = Some(descriptor);
                    return;
                }
                self.post(connection, |hub| hub.attend(connection, descriptor));
            }
            Notice::Interest { connection } => {
                let waker = self.find(&mut self.posts.borrow_mut(), connection).and_then(|post| post.waker.take());
                if let Some(waker) = waker {
                    waker.wake();
                }
            }
            Notice::Gone { connection } => {
                let mut posts = self.posts.borrow_mut();
                if self.find(&mut posts, connection).is_some() {
                    posts[connection.slot()] = None;
                }
            }
        }
    }

    /// Starts the task of a connection.
    fn post<F>(self: &Rc<Self>, connection: ConnectionId, task: impl FnOnce(Rc<Self>) -> F)
    where
        F: Future<Output = ()> + 'static,
    {
        let slot = connection.slot();
        let mut posts = self.posts.borrow_mut();
        if posts.len() <= slot {
            posts.resize_with(slot + 1, || None);
        }
        let task = self.spawn(task(Rc::clone(self)));
        posts[slot] = Some(Post { connection, _task: task, descriptor: None, waker: None });
    }

    fn find<'a>(&self, posts: &'a mut [Option<Post>], connection: ConnectionId) -> Option<&'a mut Post> {
        posts.get_mut(connection.slot())?.as_mut().filter(|post| post.connection == connection)
    }

    /// Spawns a task whose panic ends the daemon: the executor itself would keep it for whoever awaits the task, and
    /// nobody does.
    fn spawn(self: &Rc<Self>, task: impl Future<Output = ()> + 'static) -> Task<()> {
        let hub = Rc::clone(self);
        self.executor.spawn(async move {
            if AssertUnwindSafe(task).catch_unwind().await.is_err() {
                hub.bug.set(true);
                if let Some(waker) = hub.bug_waker.take() {
                    waker.wake();
                }
            }
        })
    }

    async fn wait_for_bug(&self) {
        poll_fn(|context| {
            *self.bug_waker.borrow_mut() = Some(context.waker().clone());
            if self.bug.get() { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }

    /// The task of a connection that we make.
    async fn dial(self: Rc<Self>, connection: ConnectionId, target: Target) {
        let mut dial = Dial::new(target, Instant::now());
        let result = loop {
            let attempt = self.daemon.borrow_mut().dialer.attempt(&mut dial, Instant::now());
            match attempt {
                Attempt::Connected(descriptor) => break Ok(descriptor),
                Attempt::UnderWay(descriptor) => break finish(descriptor).await,
                Attempt::Again(pause) => sleep(pause).await,
                Attempt::Failed(error) => break Err(error),
            }
        };
        match result {
            Ok(descriptor) => {
                self.with(|daemon| daemon.switchboard.connected(connection, descriptor));
                let descriptor =
                    self.find(&mut self.posts.borrow_mut(), connection).and_then(|post| post.descriptor.take());
                // None: the core has ended it at once.
                if let Some(descriptor) = descriptor {
                    self.attend(connection, descriptor).await;
                }
            }
            Err(error) => self.with(|daemon| daemon.switchboard.connect_failed(connection, &error)),
        }
    }

    /// The task of a connection: until it is dropped.
    async fn attend(self: Rc<Self>, connection: ConnectionId, descriptor: Rc<OwnedFd>) {
        let source = match Async::new_nonblocking(descriptor) {
            Ok(source) => source,
            Err(error) => return self.with(|daemon| daemon.switchboard.broken(connection, &error)),
        };
        // Who connects mostly has something to say already: reading costs less than asking first.
        let mut more = true;
        loop {
            let ready = if more {
                future::yield_now().await;
                Ok(Ready::Read)
            } else {
                self.ready(connection, &source).await
            };
            match ready {
                Ok(Ready::Read) => more = self.with(|daemon| daemon.switchboard.readable(connection)),
                Ok(Ready::Write) => {
                    self.with(|daemon| daemon.switchboard.writable(connection));
                    future::yield_now().await;
                }
                Err(error) => return self.with(|daemon| daemon.switchboard.broken(connection, &error)),
            }
        }
    }

    /// Waits until a connection is ready for something that is wanted of it. What is not wanted is not waited for: then
    /// the reactor is not even asked about it.
    async fn ready(&self, connection: ConnectionId, source: &Async<Rc<OwnedFd>>) -> io::Result<Ready> {
        poll_fn(|context| {
            if let Some(post) = self.find(&mut self.posts.borrow_mut(), connection) {
                match &mut post.waker {
                    Some(waker) => waker.clone_from(context.waker()),
                    none => *none = Some(context.waker().clone()),
                }
            }
            let Interest { read, write } = self.daemon.borrow().switchboard.interest(connection);
            if write && let Poll::Ready(result) = source.poll_writable(context) {
                return Poll::Ready(result.map(|()| Ready::Write));
            }
            if read && let Poll::Ready(result) = source.poll_readable(context) {
                return Poll::Ready(result.map(|()| Ready::Read));
            }
            Poll::Pending
        })
        .await
    }

    /// The task of a listening socket.
    async fn listen(self: Rc<Self>, key: ListenerKey, role: Role, descriptor: OwnedFd) {
        let broken = match Async::new_nonblocking(descriptor) {
            Err(error) => error,
            Ok(source) => loop {
                match self.with(|daemon| daemon.switchboard.accept(&source, role)) {
                    Ok(Accepted::All) => {
                        if let Err(error) = source.readable().await {
                            break error;
                        }
                    }
                    Ok(Accepted::More) => future::yield_now().await,
                    Ok(Accepted::Pause) => sleep(ACCEPT_PAUSE).await,
                    Err(error) => break error,
                }
            },
        };
        log::error!("a listener broke: {broken}; making it again");
        self.daemon.borrow_mut().listeners.lost(key);
    }

    fn apply(self: &Rc<Self>, changes: Vec<Change>) {
        for change in changes {
            match change {
                Change::Open { key, role, descriptor, fifo: true } => {
                    let connection = self.with(|daemon| daemon.switchboard.accepted(descriptor, role, None));
                    self.listeners.borrow_mut().insert(key, Listening::Fifo(connection));
                }
                Change::Open { key, role, descriptor, fifo: false } => {
                    let task = self.spawn(Rc::clone(self).listen(key, role, descriptor));
                    self.listeners.borrow_mut().insert(key, Listening::Socket { _task: task });
                }
                Change::Close { key } => {
                    let listening = self.listeners.borrow_mut().remove(&key);
                    if let Some(Listening::Fifo(connection)) = listening {
                        self.with(|daemon| daemon.switchboard.hang_up(connection));
                    }
                }
            }
        }
    }

    /// The task that looks after the files of sockets.
    async fn inspect(self: Rc<Self>) {
        let wake = self.daemon.borrow().listeners.wake_descriptor();
        let wake = wake.and_then(|descriptor| Async::new_nonblocking(descriptor).ok());
        loop {
            let changes = self.with(Daemon::inspect);
            self.apply(changes);
            let interval = self.daemon.borrow().listeners.inspection_interval();
            let woken = async {
                match &wake {
                    Some(wake) if wake.readable().await.is_ok() => {}
                    _ => future::pending().await,
                }
            };
            woken.or(sleep(interval)).await;
        }
    }

    /// The task that tells the core the time when it wants to know.
    async fn keep_time(self: Rc<Self>) {
        let mut timer = Timer::never();
        loop {
            poll_fn(|context| self.poll_time(&mut timer, context)).await;
            self.with(|daemon| daemon.switchboard.tick());
            future::yield_now().await;
        }
    }

    fn poll_time(&self, timer: &mut Timer, context: &mut Context<'_>) -> Poll<()> {
        *self.timer.waker.borrow_mut() = Some(context.waker().clone());
        loop {
            let due = self.daemon.borrow().switchboard.next_timeout();
            if due.is_some_and(|due| due <= Instant::now()) {
                self.timer.armed.set(None);
                return Poll::Ready(());
            }
            if due != self.timer.armed.replace(due) {
                match due {
                    Some(due) => timer.set_at(due),
                    None => *timer = Timer::never(),
                }
            }
            if Pin::new(&mut *timer).poll(context).is_pending() {
                return Poll::Pending;
            }
            // It was set for an earlier time than is due now: set it again.
            self.timer.armed.set(None);
        }
    }

    /// Carries out what signals ask for, until the daemon has ended.
    async fn obey(self: &Rc<Self>, signals: &Async<Signals>) -> io::Result<()> {
        let mut reload = None;
        loop {
            signals.readable().await?;
            while let Some(request) = signals.get_ref().next() {
                match request {
                    // One that comes while another is at work is answered by that one's result.
                    Request::Reload if reload.as_ref().is_some_and(|task: &Task<()>| !task.is_finished()) => {}
                    Request::Reload => reload = Some(self.spawn(Rc::clone(self).reload())),
                    Request::Shutdown => {
                        drop(reload);
                        return self.shut_down(signals).await;
                    }
                }
            }
        }
    }

    async fn reload(self: Rc<Self>) {
        let work = self.daemon.borrow().begin_reload();
        let loaded = smol::unblock(work).await;
        let changes = self.with(|daemon| daemon.reload(loaded));
        self.apply(changes);
    }

    async fn shut_down(self: &Rc<Self>, signals: &Async<Signals>) -> io::Result<()> {
        // FIFOs are connections, which the core ends.
        self.listeners.borrow_mut().clear();
        self.with(Daemon::shutdown);
        let end = Instant::now() + SHUTDOWN_PATIENCE;
        while !self.daemon.borrow().switchboard.is_finished() && Instant::now() < end {
            if signals.get_ref().next() == Some(Request::Shutdown) {
                log::warn!("asked again: ending at once");
                break;
            }
            sleep(SHUTDOWN_GLANCE).await;
        }
        log::info!("ended");
        Ok(())
    }
}

/// Waits until a connection that is under way is made, or is not.
async fn finish(descriptor: OwnedFd) -> io::Result<OwnedFd> {
    let source = Async::new_nonblocking(descriptor)?;
    source.writable().await?;
    dialer::finish(source.get_ref())?;
    source.into_inner()
}

async fn sleep(duration: Duration) {
    Timer::after(duration).await;
}
