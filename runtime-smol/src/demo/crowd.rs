//! Users who log in again all the time, while things happen to the ring.

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::clients::{Proxy, Stop, user_name};
use super::{Act, Trouble};

/// Each proxy lets its next user in after this pause.
const PAUSE: Duration = Duration::from_millis(5);

/// What the whole crowd does at most in a second.
pub(super) const LOGINS_PER_SEC: u64 = 3 * (1000 / PAUSE.as_millis() as u64);

/// With directors dead or busy, a login still has to find one that answers, within this time.
const LOGIN_PATIENCE: Duration = Duration::from_secs(40);

/// One model proxy for each director. When its own director is away, a proxy asks the next one, as a load balancer
/// would have it.
pub(super) struct Crowd {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    /// The backend of each user that may log in.
    known: RwLock<Vec<IpAddr>>,
    tally: Mutex<Tally>,
    stop: Stop,
}

/// What became of the logins.
#[derive(Clone, Debug, Default)]
pub(super) struct Tally {
    pub(super) lookups: u64,
    /// Answers that were not the user's backend.
    pub(super) disagreements: u64,
    /// Logins that began at a director which died before it answered, and ended at another.
    pub(super) retried: u64,
    /// The longest login since the last [`Crowd::watch`].
    pub(super) longest: Duration,
    /// What went wrong first.
    trouble: Option<String>,
}

impl Crowd {
    /// Lets users log in from now on, at directors with these base_dirs.
    pub(super) fn start(directors: &[PathBuf], known: Vec<IpAddr>) -> Self {
        let shared = Arc::new(Shared { known: RwLock::new(known), ..Shared::default() });
        let threads = (0..directors.len()).map(|home| {
            let (shared, directors) = (Arc::clone(&shared), directors.to_vec());
            thread::spawn(move || {
                let result = shared.log_in_again_and_again(home, &directors);
                if let Err(Trouble::Failed(trouble) | Trouble::Lost(trouble)) = result {
                    shared.tally().trouble.get_or_insert(trouble);
                }
            })
        });
        Self { threads: threads.collect(), shared }
    }

    /// More users that may log in.
    pub(super) fn add(&self, users: &[IpAddr]) {
        self.shared.known.write().unwrap_or_else(PoisonError::into_inner).extend_from_slice(users);
    }

    /// Measures the longest login from now on.
    pub(super) fn watch(&self) {
        self.shared.tally().longest = Duration::ZERO;
    }

    /// What became of the logins so far.
    pub(super) fn tally(&self) -> Act<Tally> {
        let tally = self.shared.tally().clone();
        match tally.trouble {
            Some(trouble) => Err(Trouble::Failed(trouble)),
            None => Ok(tally),
        }
    }

    /// Nobody logs in any more.
    pub(super) fn end(mut self) -> Act<Tally> {
        self.join();
        self.tally()
    }

    fn join(&mut self) {
        self.shared.stop.0.store(true, Ordering::SeqCst);
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                self.shared.tally().trouble.get_or_insert("this is a bug in the demonstration".to_owned());
            }
        }
    }
}

impl Drop for Crowd {
    fn drop(&mut self) {
        self.join();
    }
}

impl Shared {
    fn tally(&self) -> MutexGuard<'_, Tally> {
        self.tally.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn log_in_again_and_again(&self, home: usize, directors: &[PathBuf]) -> Act<()> {
        let mut proxies: Vec<Option<Proxy>> = directors.iter().map(|_| None).collect();
        let mut turn = home;
        while self.stop.check().is_ok() {
            let (user, expected) = {
                let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
                // A step that is prime, so that all users have their turn, in another order than by number.
                turn = turn.wrapping_add(7919);
                (turn % known.len(), known[turn % known.len()])
            };
            let start = Instant::now();
            let backend = self.log_in(user, home, directors, &mut proxies)?;
            let mut tally = self.tally();
            tally.lookups += 1;
            tally.longest = tally.longest.max(start.elapsed());
            if backend != expected {
                tally.disagreements += 1;
                let name = user_name(user);
                tally.trouble.get_or_insert(format!("{name} was on {expected} and was then sent to {backend}"));
            }
            drop(tally);
            thread::sleep(PAUSE);
        }
        Ok(())
    }

    /// Asks for a user at the proxy's own director, or at the next one that is there.
    fn log_in(&self, user: usize, home: usize, all: &[PathBuf], proxies: &mut [Option<Proxy>]) -> Act<IpAddr> {
        let start = Instant::now();
        loop {
            for place in (home..all.len()).chain(0..home) {
                let proxy = match &mut proxies[place] {
                    Some(proxy) => proxy,
                    none => match Proxy::connect(&all[place], &self.stop) {
                        Ok(proxy) => none.insert(proxy),
                        Err(Trouble::Lost(_)) => continue,
                        Err(trouble) => return Err(trouble),
                    },
                };
                match proxy.look_up_one(user) {
                    Err(Trouble::Lost(_)) => {
                        proxies[place] = None;
                        self.tally().retried += 1;
                    }
                    result => return result,
                }
            }
            self.stop.check()?;
            if start.elapsed() >= LOGIN_PATIENCE {
                let (name, waited) = (user_name(user), LOGIN_PATIENCE.as_secs());
                return Err(Trouble::Failed(format!("{name} found no director to log in at for {waited} s")));
            }
            thread::sleep(PAUSE);
        }
    }
}
