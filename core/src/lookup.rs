//! Which backend serves this user? (ring protocol, "Lookups")

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use log::{debug, error, info, warn};
use zeroize::Zeroizing;

use crate::contract::ConnectionId;
use crate::director::Director;
use crate::hosts::{HostNumber, TagNumber};
use crate::ring::commands::Except;
use crate::ring::users::clamp_secs;
use crate::time::{Instant, Now};
use crate::timers::Timer;
use crate::users::{Generation, User};
use crate::wire::ring::{Line, minor};

/// A lookup fails after this time.
pub(crate) const LOOKUP_TIMEOUT: Duration = Duration::from_secs(30);
/// Lookups that have waited for the ring for so long are worth a warning.
const WARNING_AFTER: Duration = Duration::from_secs(2);
/// At most so many waiting lookups are tried again in one call: about a millisecond.
const RETRY_BATCH: usize = 2048;
/// The pause between batches.
const RETRY_PAUSE: Duration = Duration::from_millis(1);

/// Why a lookup has to wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wait {
    RingNotHandshaked,
    RingNotSynced,
    NoHosts,
    WeakUser,
    Kill,
}

impl Wait {
    fn is_for_ring(self) -> bool {
        matches!(self, Self::RingNotHandshaked | Self::RingNotSynced)
    }
}

impl std::fmt::Display for Wait {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(match self {
            Self::RingNotHandshaked => "ring not handshaked",
            Self::RingNotSynced => "ring not synced",
            Self::NoHosts => "no hosts",
            Self::WeakUser => "weak user",
            Self::Kill => "kill waiting",
        })
    }
}

/// A lookup that waits.
#[derive(Debug)]
pub(crate) struct Waiting {
    pub(crate) connection: ConnectionId,
    pub(crate) hash: u32,
    pub(crate) tag: Box<[u8]>,
    /// The line that asks, without its LF; it may hold a password.
    pub(crate) line: Zeroizing<Vec<u8>>,
    started: Instant,
    wait: Wait,
}

/// The lookups that wait.
#[derive(Debug, Default)]
pub(crate) struct Lookups {
    next_number: u64,
    /// In the order in which they came, which is that of their timeouts.
    waiting: BTreeMap<u64, Waiting>,
    by_hash: BTreeSet<(u32, u64)>,
    /// Numbers that are still to be tried again.
    retry: VecDeque<std::ops::Range<u64>>,
    warned: bool,
}

impl Lookups {
    pub(crate) fn len(&self) -> usize {
        self.waiting.len()
    }

    fn remove(&mut self, number: u64) -> Option<Waiting> {
        let waiting = self.waiting.remove(&number)?;
        self.by_hash.remove(&(waiting.hash, number));
        Some(waiting)
    }
}

impl Director {
    /// The backend of a user now, or why that can't be said yet. Refreshes him, and tells the others.
    pub(crate) fn lookup(&mut self, hash: u32, tag: &[u8], now: Now) -> Result<HostNumber, Wait> {
        if !self.ring.handshaked {
            return Err(Wait::RingNotHandshaked);
        }
        if self.ring.doubtful {
            return Err(Wait::RingNotSynced);
        }
        let Some(tag) = self.hosts.tag_number(tag) else {
            return Err(if self.ring.synced { Wait::NoHosts } else { Wait::RingNotSynced });
        };
        let timestamp_secs = clamp_secs(now.unix_secs);
        let mut known = self.users.find(hash, tag).map(|slot| (slot, self.users.get(slot)));
        if let Some((slot, user)) = known
            && !user.killing
            && !user.weak
            && self.is_expired(user.timestamp_secs, now)
        {
            self.users.remove(slot);
            known = None;
        }
        let (slot, user) = match known {
            Some((slot, user)) => {
                if user.killing && !cfg!(feature = "canary-lookup-during-move") {
                    return Err(Wait::Kill);
                }
                let alone = self.ring.synced && self.ring.right.is_none();
                if user.weak {
                    if !alone {
                        return Err(Wait::WeakUser);
                    }
                    self.users.set_weak(slot, false);
                } else if self.is_near_expiry(user.timestamp_secs, now) && !alone {
                    self.check_near_expiry(hash, user)?;
                }
                self.users.touch(slot, user.timestamp_secs.max(timestamp_secs), now);
                (slot, self.users.get(slot))
            }
            None => {
                if !self.ring.synced {
                    return Err(Wait::RingNotSynced);
                }
                let host = self.hosts.by_hash(hash, tag).ok_or(Wait::NoHosts)?;
                let user = User {
                    hash,
                    tag,
                    host,
                    timestamp_secs,
                    weak: false,
                    killing: false,
                    generation: Generation::NEVER,
                };
                (self.add_user(user, now), user)
            }
        };
        self.tell_user(slot, user, now);
        Ok(user.host)
    }

    /// A user near expiry may be gone elsewhere, and given another backend there: then the ring has to agree first.
    fn check_near_expiry(&mut self, hash: u32, user: User) -> Result<(), Wait> {
        if !self.ring.synced {
            return Err(Wait::RingNotSynced);
        }
        let hashed = self.hosts.by_hash(hash, user.tag);
        if hashed.is_none_or(|hashed| hashed == user.host) || self.ring.min_minor < minor::WEAK {
            return Ok(());
        }
        let Some(slot) = self.users.find(hash, user.tag) else { return Ok(()) };
        let Some(host) = self.hosts.get(user.host).map(|host| host.ip) else { return Ok(()) };
        self.users.set_weak(slot, true);
        debug!("User hash {hash} is near expiry on {host}: asking the ring");
        let origin = self.new_origin();
        self.broadcast(&Line::UserWeak { origin, hash, host }, Except::Nobody);
        Err(Wait::WeakUser)
    }

    /// Puts a lookup among those that wait.
    pub(crate) fn wait_for_lookup(
        &mut self,
        connection: ConnectionId,
        hash: u32,
        tag: &[u8],
        line: &[u8],
        wait: Wait,
        now: Now,
    ) {
        let number = self.lookups.next_number;
        self.lookups.next_number += 1;
        let line = Zeroizing::new(line.to_vec());
        self.lookups.by_hash.insert((hash, number));
        let waiting = Waiting { connection, hash, tag: tag.into(), line, started: now.instant, wait };
        self.lookups.waiting.insert(number, waiting);
        self.timers.set_earlier(Timer::LookupTimeout, now.instant + LOOKUP_TIMEOUT);
        if wait.is_for_ring() && !self.lookups.warned {
            self.timers.set_earlier(Timer::LookupWarning, now.instant + WARNING_AFTER);
        }
    }

    /// The ring is synced, or a backend has appeared: those that wait are tried again, a batch at a time.
    pub(crate) fn retry_all_lookups(&mut self, now: Now) {
        if self.lookups.warned && self.ring.synced {
            self.lookups.warned = false;
            info!("Ring is synced, lookups go on ({} were waiting)", self.lookups.len());
        }
        if self.ring.synced {
            self.timers.clear(Timer::LookupWarning);
        }
        if let (Some((&first, _)), Some((&last, _))) =
            (self.lookups.waiting.first_key_value(), self.lookups.waiting.last_key_value())
        {
            self.lookups.retry.clear();
            self.lookups.retry.push_back(first..last + 1);
            self.retry_lookups(now);
        }
    }

    /// Tries a batch of waiting lookups again.
    pub(crate) fn retry_lookups(&mut self, now: Now) {
        let Some(range) = self.lookups.retry.pop_front() else { return };
        let numbers: Vec<u64> =
            self.lookups.waiting.range(range.clone()).take(RETRY_BATCH).map(|(&number, _)| number).collect();
        for &number in &numbers {
            self.retry_lookup(number, now);
        }
        if let (RETRY_BATCH, Some(&last)) = (numbers.len(), numbers.last()) {
            self.lookups.retry.push_front(last + 1..range.end);
        }
        if !self.lookups.retry.is_empty() {
            self.timers.set(Timer::LookupRetry, now.instant + RETRY_PAUSE);
        }
    }

    /// Whether lookups wait for that user.
    pub(crate) fn has_lookups_of(&self, hash: u32, tag: TagNumber) -> bool {
        let mut numbers = self.lookups.by_hash.range((hash, 0)..=(hash, u64::MAX)).map(|(_, number)| number);
        numbers.any(|number| {
            self.lookups.waiting.get(number).is_some_and(|waiting| *waiting.tag == *self.hosts.tag_name(tag))
        })
    }

    /// Something has changed for one user: his waiting lookups are tried again.
    pub(crate) fn retry_lookups_of(&mut self, hash: u32, now: Now) {
        let numbers: Vec<u64> =
            self.lookups.by_hash.range((hash, 0)..=(hash, u64::MAX)).map(|&(_, number)| number).collect();
        for number in numbers {
            self.retry_lookup(number, now);
        }
    }

    fn retry_lookup(&mut self, number: u64, now: Now) {
        let Some(waiting) = self.lookups.waiting.get(&number) else { return };
        if !self.connections.is_open(waiting.connection) {
            // Who asked has gone: nobody needs to be added or refreshed for him.
            self.lookups.remove(number);
            return;
        }
        let (hash, tag) = (waiting.hash, waiting.tag.clone());
        match self.lookup(hash, &tag, now) {
            Ok(host) => {
                if let Some(waiting) = self.lookups.remove(number) {
                    self.lookup_ends(&waiting, Some(host));
                }
            }
            Err(wait) => {
                if let Some(waiting) = self.lookups.waiting.get_mut(&number) {
                    waiting.wait = wait;
                    if cfg!(feature = "canary-lookup-timeout-restarted") {
                        waiting.started = now.instant;
                    }
                }
            }
        }
    }

    /// The oldest waiting lookups have waited long enough.
    pub(crate) fn time_out_lookups(&mut self, now: Now) {
        while let Some((&number, waiting)) = self.lookups.waiting.first_key_value() {
            let deadline = waiting.started + LOOKUP_TIMEOUT;
            if deadline > now.instant {
                self.timers.set(Timer::LookupTimeout, deadline);
                return;
            }
            let Some(waiting) = self.lookups.remove(number) else { return };
            if self.connections.is_open(waiting.connection) {
                let since = now.instant.saturating_since(self.ring.synced_changed).as_secs();
                let state = if self.ring.synced { "synced" } else { "unsynced" };
                error!(
                    "Lookup of user hash {} failed after {} secs: {} (ring {state} for {since} secs)",
                    waiting.hash,
                    LOOKUP_TIMEOUT.as_secs(),
                    waiting.wait
                );
            }
            if waiting.wait == Wait::WeakUser {
                let tag = self.hosts.tag_number(&waiting.tag);
                if let Some(slot) = tag.and_then(|tag| self.users.find(waiting.hash, tag)) {
                    self.users.set_weak(slot, false);
                }
            }
            self.lookup_ends(&waiting, None);
        }
    }

    /// Lookups have waited for the ring for a while.
    pub(crate) fn warn_of_waiting_lookups(&mut self, now: Now) {
        if self.ring.synced || self.lookups.warned || self.lookups.waiting.is_empty() {
            return;
        }
        self.lookups.warned = true;
        let since = now.instant.saturating_since(self.ring.synced_changed).as_secs();
        let state = if self.ring.handshaked { "synced" } else { "handshaked" };
        warn!("{} lookups wait because the ring is not {state} (for {since} secs)", self.lookups.len());
    }

    /// All waiting lookups fail: the director ends.
    pub(crate) fn fail_all_lookups(&mut self) {
        while let Some((&number, _)) = self.lookups.waiting.first_key_value() {
            if let Some(waiting) = self.lookups.remove(number) {
                self.lookup_ends(&waiting, None);
            }
        }
    }
}
