//! What the core waits for: a table from timer to time, and its order.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use crate::contract::ConnectionId;
use crate::director::Reason;
use crate::hosts::TagNumber;
use crate::resets::ResetNumber;
use crate::time::Instant;

/// One thing that is waited for. Each is armed at most once; arming it again moves it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Timer {
    /// Users may expire.
    UserExpiry,
    /// Slots of retired users are to be freed, a batch at a time.
    Sweep,
    /// Waiting lookups are to be tried again, a batch at a time.
    LookupRetry,
    /// The oldest waiting lookup fails.
    LookupTimeout,
    /// Lookups have waited for the ring long enough to say so.
    LookupWarning,
    /// No right: try to connect.
    Reconnect,
    /// Our right is not the one it should be: try that one.
    PreferredRight,
    /// Our SYNC has not come back: send it again.
    SyncResend,
    /// A member removed from the ring is forgotten.
    ForgetMember(SocketAddr),
    /// A ring link's connect, ME or handshake takes too long.
    Handshake(ConnectionId),
    /// A ring link is to be pinged, or its ping has not been answered.
    Ping(ConnectionId),
    /// A newcomer that was told to connect elsewhere has not left.
    NewcomerLeave(ConnectionId),
    /// A closing connection does not take its last bytes.
    Linger(ConnectionId),
    /// An administrator's command has waited for the ring.
    AdminSync(ConnectionId),
    /// A user's kill: its delay is over.
    KillDelay(u32, TagNumber),
    /// A user's kill waits for the others: what was said of it may be lost.
    KillRetry(u32, TagNumber),
    /// A user's kill has taken too long.
    KillTimeout(u32, TagNumber),
    /// There was nothing to kick sessions through: look again.
    KickSocket,
    /// Kicks that were answered may not have been obeyed: ask again.
    KickCheck,
    /// anvil has not greeted or answered.
    Anvil(ConnectionId),
    /// More users of a HOST-RESET-USERS are to be moved.
    Reset(ResetNumber),
}

impl Timer {
    fn reason(self) -> Reason {
        match self {
            Self::UserExpiry => Reason::UserExpiry,
            Self::Sweep => Reason::UserSweep,
            Self::LookupRetry | Self::LookupTimeout | Self::LookupWarning => Reason::Lookup,
            Self::Reconnect | Self::PreferredRight => Reason::RingConnect,
            Self::SyncResend => Reason::RingSync,
            Self::ForgetMember(_) => Reason::RingMember,
            Self::Handshake(_) | Self::NewcomerLeave(_) => Reason::RingHandshake,
            Self::Ping(_) => Reason::RingPing,
            Self::Linger(_) => Reason::Close,
            Self::AdminSync(_) => Reason::Admin,
            Self::KickSocket | Self::KickCheck | Self::Anvil(_) => Reason::Kick,
            Self::KillDelay(..) | Self::KillRetry(..) | Self::KillTimeout(..) | Self::Reset(_) => Reason::Kill,
        }
    }
}

/// The armed timers.
#[derive(Debug, Default)]
pub(crate) struct Timers {
    order: BTreeSet<(Instant, Timer)>,
    armed: BTreeMap<Timer, Instant>,
}

impl Timers {
    /// Arms a timer, or moves it.
    pub(crate) fn set(&mut self, timer: Timer, at: Instant) {
        if let Some(old) = self.armed.insert(timer, at) {
            if old == at {
                return;
            }
            self.order.remove(&(old, timer));
        }
        self.order.insert((at, timer));
    }

    /// Arms a timer unless it is armed for an earlier time already.
    pub(crate) fn set_earlier(&mut self, timer: Timer, at: Instant) {
        if self.armed.get(&timer).is_none_or(|&old| at < old) {
            self.set(timer, at);
        }
    }

    /// Disarms a timer. Returns the time for which it was armed.
    pub(crate) fn clear(&mut self, timer: Timer) -> Option<Instant> {
        let at = self.armed.remove(&timer)?;
        self.order.remove(&(at, timer));
        Some(at)
    }

    /// Takes out the first timer whose time has come: it is disarmed before it fires.
    pub(crate) fn pop_due(&mut self, now: Instant) -> Option<Timer> {
        let &(at, timer) = self.order.first()?;
        if at > now {
            return None;
        }
        self.order.pop_first();
        self.armed.remove(&timer);
        Some(timer)
    }

    /// The next time and what for.
    pub(crate) fn next(&self) -> Option<(Instant, Reason)> {
        self.order.first().map(|&(at, timer)| (at, timer.reason()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moved_timer_fires_once_at_its_new_time() {
        let mut timers = Timers::default();
        timers.set(Timer::Reconnect, Instant::from_micros(10));
        timers.set(Timer::Reconnect, Instant::from_micros(20));
        timers.set(Timer::SyncResend, Instant::from_micros(15));
        assert_eq!(timers.pop_due(Instant::from_micros(14)), None);
        assert_eq!(timers.pop_due(Instant::from_micros(30)), Some(Timer::SyncResend));
        assert_eq!(timers.pop_due(Instant::from_micros(30)), Some(Timer::Reconnect));
        assert_eq!(timers.pop_due(Instant::from_micros(30)), None);
        assert_eq!(timers.next(), None);
    }

    #[test]
    fn set_earlier_never_delays() {
        let mut timers = Timers::default();
        timers.set(Timer::Sweep, Instant::from_micros(10));
        timers.set_earlier(Timer::Sweep, Instant::from_micros(20));
        assert_eq!(timers.next(), Some((Instant::from_micros(10), Reason::UserSweep)));
        timers.clear(Timer::Sweep);
        assert_eq!(timers.next(), None);
    }
}
