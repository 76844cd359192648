//! What a runtime takes from the process it runs in: the clocks, a seed, and the limit of open files.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::time::{Instant, SystemTime};

use director_core::Now;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use sd_notify::NotifyState;

/// The two clocks that the core is told with every call.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    start: Instant,
}

impl Clock {
    /// A clock that starts now.
    pub fn start() -> Self {
        Self { start: Instant::now() }
    }

    /// What time it is, for the core.
    pub fn now(&self) -> Now {
        let micros = u64::try_from(self.start.elapsed().as_micros()).unwrap_or(u64::MAX);
        // A system clock before 1970 is as good as none: the core survives any step.
        let unix_secs = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs());
        Now { instant: director_core::Instant::from_micros(micros), unix_secs }
    }

    /// The core's instant on the machine's clock. `None`: so far away that it never comes.
    pub fn when(&self, instant: director_core::Instant) -> Option<Instant> {
        self.start.checked_add(std::time::Duration::from_micros(instant.as_micros()))
    }
}

/// A number that nobody can guess, to seed the core with: the standard library takes its hash keys from the system.
pub fn random_seed() -> u64 {
    RandomState::new().build_hasher().finish()
}

/// Tells systemd, or whoever else has started us with NOTIFY_SOCKET, how we are (`sd_notify(3)`).
pub fn tell_supervisor(state: &[NotifyState<'_>]) {
    // Without one there is nobody to tell; and one that does not listen says so itself.
    if let Err(error) = sd_notify::notify(state) {
        log::debug!("NOTIFY_SOCKET: {error}");
    }
}

/// The open files that 10,000 login connections need: each has one descriptor to the login process and one to auth.
/// The rest is for the ring, administrators, LMTP and files.
pub const OPEN_FILES_WANTED: u64 = 2 * 10_000 + 4096;

/// Raises the limit of open files as far as the system lets us, and says so if that is not far enough.
pub fn raise_open_files_limit() {
    let limit = getrlimit(Resource::Nofile);
    let Some(hard) = limit.maximum else {
        // No hard limit.
        let _ = setrlimit(Resource::Nofile, Rlimit { current: None, maximum: None });
        return;
    };
    let enough = hard.max(OPEN_FILES_WANTED);
    // Only the system's administrator may raise the hard limit: try, then take what is there.
    if [enough, hard]
        .iter()
        .any(|&files| setrlimit(Resource::Nofile, Rlimit { current: Some(files), maximum: Some(files) }).is_ok())
    {
        let now = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
        log::debug!("up to {now} open files");
    }
    let now = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    if now < OPEN_FILES_WANTED {
        log::warn!(
            "only {now} open files are allowed, enough for about {} login connections: raise the limit to \
             {OPEN_FILES_WANTED} or more (systemd: LimitNOFILE=, shell: ulimit -n)",
            now.saturating_sub(64) / 2
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn clock_runs_and_converts_back() {
        let clock = Clock::start();
        let first = clock.now();
        std::thread::sleep(Duration::from_millis(2));
        let second = clock.now();
        assert!(second.instant.saturating_since(first.instant) >= Duration::from_millis(2));
        assert!(first.unix_secs > 1_600_000_000);
        let when = clock.when(second.instant).unwrap();
        assert!(when <= Instant::now() && when + Duration::from_secs(5) > Instant::now());
    }

    #[test]
    fn seeds_differ() {
        assert_ne!(random_seed(), random_seed());
    }

    #[test]
    fn open_files_are_raised() {
        let before = getrlimit(Resource::Nofile);
        raise_open_files_limit();
        let after = getrlimit(Resource::Nofile);
        let most = |limit: Option<u64>| limit.unwrap_or(u64::MAX);
        assert!(most(after.current) >= most(before.current));
        assert_eq!(most(after.current), most(after.maximum));
    }
}
