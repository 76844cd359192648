//! Who is our right, and what to do while nobody is (ring protocol, "Finding a right; being alone").

use std::net::SocketAddr;
use std::time::Duration;

use log::{debug, info, warn};

use crate::contract::ConnectionId;
use crate::director::Director;
use crate::time::{Instant, Now};
use crate::timers::Timer;
use crate::wire::ring::minor;

/// At least this long between tries: reconnects never spin.
const RETRY_PAUSE: Duration = Duration::from_secs(1);
/// For this long without a right, everybody is tried every [`RETRY_PAUSE`] before we accept to be alone.
const ALONE_PATIENCE: Duration = Duration::from_secs(20);
/// And for this long while others say who they are on links that break again: they are there, and serve as we would. But
/// those whose links never last are no neighbours.
const BROKEN_LINKS_PATIENCE: Duration = Duration::from_secs(120);
/// Alone, somebody is tried this often at least: being split is the worst state, and a try costs nothing.
const ALONE_PAUSE_MAX: Duration = Duration::from_secs(5);
/// A right that is not the preferred one is given this long before the preferred one is tried again.
const PREFERRED_PAUSE: Duration = Duration::from_secs(30);

impl Director {
    /// Whether a link to the right exists or is being made.
    pub(crate) fn has_outgoing(&self) -> bool {
        self.ring.links.iter().any(|&id| self.link(id).is_some_and(|link| link.outgoing))
    }

    /// Connects to the first member rightwards that may be tried, unless a link is there or under way.
    pub(crate) fn connect_right(&mut self, why: &str, now: Now) {
        if self.finishing || self.ring.right.is_some() || self.has_outgoing() {
            return;
        }
        let others: Vec<_> = self.ring.members.rightwards().collect();
        if others.is_empty() {
            self.become_alone(now);
            return;
        }
        let alone_since = *self.ring.alone_since.get_or_insert(now.instant);
        let may_try = |director: &Self, address: SocketAddr| {
            director.ring.members.get(address).is_some_and(|member| member.may_be_tried(now.instant))
        };
        if let Some(&address) = others.iter().find(|&&address| may_try(self, address)) {
            self.start_link(address, why, now);
            return;
        }
        let waited = now.instant.saturating_since(alone_since);
        let speaks = |address: &SocketAddr| {
            let member = self.ring.members.get(*address).filter(|member| !member.is_banned(now.instant));
            let spoke_at = member.and_then(|member| member.spoke_at);
            spoke_at.is_some_and(|at| now.instant.saturating_since(at) < ALONE_PATIENCE)
        };
        let patient = waited < ALONE_PATIENCE || (waited < BROKEN_LINKS_PATIENCE && others.iter().any(speaks));
        // A member whose last failure lies before we lost our right may be well: it is asked first.
        let untried = others.iter().any(|&address| {
            let failure = self.ring.members.get(address).and_then(|member| member.network_failure);
            failure.is_none_or(|failure| failure.at < alone_since)
        });
        if !patient && !untried && !self.ring.alone {
            self.become_alone(now);
        }
        let pause = if patient || untried {
            RETRY_PAUSE
        } else {
            let next = others.iter().filter_map(|&address| self.ring.members.get(address)?.retry_at).min();
            next.map_or(ALONE_PAUSE_MAX, |at| at.saturating_since(now.instant)).clamp(RETRY_PAUSE, ALONE_PAUSE_MAX)
        };
        self.timers.set(Timer::Reconnect, now.instant + pause);
    }

    /// The time of the reconnect timer has come.
    pub(crate) fn reconnect(&mut self, now: Now) {
        if self.ring.right.is_some() || self.has_outgoing() {
            return;
        }
        // Nobody was left to be tried: pauses no longer count, and while we still hope, neither do protocol failures.
        let patient = self.ring.alone_since.is_none_or(|since| now.instant.saturating_since(since) < ALONE_PATIENCE);
        for (_, member) in self.ring.members.iter_mut() {
            member.retry_at = None;
            if patient {
                member.protocol_failure = None;
            }
        }
        // Whoever was tried longest ago comes first, so that everybody gets a turn.
        let last_tried = |address: &SocketAddr| {
            let failure = self.ring.members.get(*address).and_then(|member| member.network_failure);
            failure.map_or(Instant::default(), |failure| failure.at)
        };
        let banned = |address: &SocketAddr| self.ring.members.get(*address).is_some_and(|m| m.is_banned(now.instant));
        let others = self.ring.members.rightwards().filter(|address| !banned(address));
        match others.min_by_key(last_tried) {
            Some(address) => {
                self.ring.alone_since.get_or_insert(now.instant);
                self.start_link(address, "Reconnecting", now);
            }
            None if self.ring.members.rightwards().next().is_none() => self.become_alone(now),
            None => self.timers.set(Timer::Reconnect, now.instant + RETRY_PAUSE),
        }
    }

    /// An outgoing link has finished its handshake and is our right now.
    pub(crate) fn right_found(&mut self, now: Now) {
        if self.ring.alone {
            info!("A director can be reached: we are no longer alone");
        }
        self.ring.alone = false;
        self.ring.alone_since = None;
        self.timers.clear(Timer::Reconnect);
        self.neighbours_changed(now);
        self.send_held_syncs();
        self.send_held_kills(now);
    }

    /// Nobody can be reached, after honest tries: we serve alone.
    fn become_alone(&mut self, now: Now) {
        if self.ring.alone && self.ring.synced {
            return;
        }
        if self.ring.members.rightwards().next().is_some() {
            warn!("No other director can be reached: going on alone");
        }
        self.ring.alone = true;
        if let Some(left) = self.ring.left {
            self.quit_link(left, "We can't connect to you", now);
        }
        // quit_link may have found a reason to connect again.
        if self.ring.right.is_some() {
            return;
        }
        self.ring.alone = true;
        self.ring.min_minor = self.tuning.ring_minor;
        self.end_kills_alone(now);
        self.ring_synced(now);
    }

    /// Our SYNC came round: if our right is not the one next to us, try that one in a while.
    pub(crate) fn check_preferred_right(&mut self, now: Now) {
        let Some(right) = self.ring.right.and_then(|right| self.link(right)).map(|link| link.peer) else { return };
        let preferred = self.ring.members.rightwards().next();
        if self.ring.wanted_right.is_some() {
            return;
        }
        if preferred.is_some_and(|preferred| preferred != right) {
            self.timers.set_earlier(Timer::PreferredRight, now.instant + PREFERRED_PAUSE);
        } else {
            self.timers.clear(Timer::PreferredRight);
        }
    }

    /// The time of the preferred-right timer has come.
    pub(crate) fn connect_preferred(&mut self, now: Now) {
        let wanted = self.ring.wanted_right.take().filter(|&address| self.ring.members.is_listed(address));
        let Some(preferred) = wanted.or_else(|| self.ring.members.rightwards().next()) else { return };
        let connecting = self
            .ring
            .links
            .iter()
            .any(|&id| self.link(id).is_some_and(|link| link.outgoing && (link.peer == preferred || !link.done)));
        let too_early = self.ring.members.get(preferred).is_none_or(|member| !member.may_be_tried(now.instant));
        if connecting || too_early || self.ring.right.is_none() {
            self.check_preferred_right(now);
            return;
        }
        self.start_link(preferred, "It is our preferred right", now);
    }

    /// CONNECT: somebody sits between us and our right.
    pub(crate) fn connect_requested(&mut self, from: ConnectionId, address: SocketAddr, now: Now) {
        let label = super::link::Label(self, from).to_string();
        if address == self.ring.members.self_address() {
            debug!("{label}: CONNECT to ourselves ignored");
            return;
        }
        let known = self.ring.members.get(address);
        let removed = known.is_some_and(|member| member.removed);
        let too_early_until = known.and_then(|member| member.too_early_until(now.instant));
        let right = self.ring.right.and_then(|right| self.link(right)).map(|link| link.peer);
        let has_better =
            right.is_some_and(|right| right == address || self.ring.members.is_better_right(right, address));
        if removed || has_better {
            debug!("{label}: CONNECT {address} ignored");
            if right.is_none() {
                self.timers.set_earlier(Timer::Reconnect, now.instant + RETRY_PAUSE);
            }
            return;
        }
        self.ring.members.add(address);
        if let (Some(until), Some(_)) = (too_early_until, right) {
            // To leave a right that works for a member that could not be reached a moment ago may lead back here at
            // once, and so on for ever: the new one is tried first.
            self.ring.wanted_right = Some(address);
            self.timers.set_earlier(Timer::PreferredRight, until);
            return;
        }
        let outgoing: Vec<_> =
            self.ring.links.iter().copied().filter(|&id| self.link(id).is_some_and(|link| link.outgoing)).collect();
        if outgoing.iter().any(|&id| self.link(id).is_some_and(|link| link.peer == address)) {
            return;
        }
        // Our right goes on being that until the newcomer has all users; but one of the original reads no more.
        let reads_on = |right: &ConnectionId| {
            let peer_minor = self.link(*right).and_then(|link| link.minor);
            peer_minor.is_some_and(|peer_minor| peer_minor >= minor::READS_AFTER_CONNECT)
        };
        let kept = self.ring.right.filter(reads_on);
        let id = self.start_link(address, &format!("Received CONNECT request from {label}"), now);
        self.link_mut(id).expect("just started").replaces = kept;
        // Links that were to become our right are not needed: one is enough.
        for id in outgoing.into_iter().filter(|&id| kept != Some(id)) {
            if let Some(link) = self.link_mut(id) {
                link.replaces = None;
            }
            self.quit_link(id, "CONNECT requested", now);
        }
    }
}
