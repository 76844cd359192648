//! When is the ring in one state? SYNC goes round and tells; PING shows that a neighbour lives (ring protocol, "SYNC"
//! and "PING").

use std::net::SocketAddr;
use std::time::Duration;

use log::{error, info, warn};

use crate::contract::ConnectionId;
use crate::director::Director;
use crate::hosts::HostNumber;
use crate::ring::link::SHORT_LIFE;
use crate::ring::members::SyncSeen;
use crate::time::{Instant, Now};
use crate::timers::Timer;
use crate::wire::ring::{Line, Origin, PingInfo, SyncInfo, minor};

/// A SYNC that has not come back is sent again after this time.
const RESEND_PAUSE: Duration = Duration::from_secs(5);
/// The same SYNC of somebody else is sent on so often: resends must pass, orphans must end.
const FORWARD_MAX: u32 = 4;
/// A SYNC with a lower number and a newer time comes from a director whose restart we missed. That is believed so often
/// at most: two orphans of a director that is gone must not keep each other alive.
const RESTART_BELIEVED_PAUSE: Duration = Duration::from_secs(2);
/// A link that says nothing for this long is pinged…
const PING_IDLE: Duration = Duration::from_secs(15);
/// … and sooner while everybody waits for a SYNC.
const PING_IDLE_UNSYNCED: Duration = Duration::from_secs(1);
/// A PONG that took longer is worth a warning.
const PONG_SLOW: Duration = Duration::from_secs(5);

/// After so many times that our SYNC was sent again, its number rises by so much: a few, in case that a life was short;
/// then more than the changes of years.
const SKIPS: [(u32, u32); 3] = [(2, 1 << 8), (4, 1 << 14), (8, 1 << 20)];
/// Beside a member whose SYNC says no time, which sends [`FORWARD_MAX`] of one number on, it rises by one after so many: that
/// member may have sent as many into a link that lost them.
const UNTIMED_RESENDS: u32 = 16;
/// A SYNC of ours with a number that is further ahead is nothing that an earlier life has said.
const ORPHAN_AHEAD_MAX: u32 = 1 << 22;

impl Director {
    /// Hosts or members have changed: everybody must have it before we are synced again.
    pub(crate) fn want_sync(&mut self) {
        self.ring.sync_wanted = true;
    }

    /// At the end of a batch of input: one SYNC for all the changes in it.
    pub(crate) fn sync_if_wanted(&mut self, now: Now) {
        if std::mem::take(&mut self.ring.sync_wanted) {
            self.sync(now);
        }
    }

    fn sync(&mut self, now: Now) {
        self.ring.sync_seq = self.ring.sync_seq.wrapping_add(1).max(1);
        if self.ring.has_no_neighbours() {
            if self.ring.synced {
                // Alone there is nobody to tell: what was changed is everywhere.
                self.clear_desynced();
                self.retry_all_lookups(now);
                self.admin_ring_synced();
            }
            return;
        }
        self.unsynced(now);
        self.send_sync(now);
    }

    /// Left or right is new: if both are there, find out whether the ring is one.
    pub(crate) fn neighbours_changed(&mut self, now: Now) {
        if self.ring.left.is_some() && self.ring.right.is_some() {
            self.ring.sync_seq = self.ring.sync_seq.wrapping_add(1).max(1);
            self.unsynced(now);
            self.send_sync(now);
        }
    }

    /// Left or right is gone.
    pub(crate) fn neighbour_lost(&mut self, now: Now) {
        self.ring.sync_seq = self.ring.sync_seq.wrapping_add(1).max(1);
        self.unsynced(now);
        if self.ring.left.is_some() && self.ring.right.is_some() {
            self.send_sync(now);
        }
    }

    fn unsynced(&mut self, now: Now) {
        if self.ring.synced {
            self.ring.synced = false;
            self.ring.synced_changed = now.instant;
            let links = self.ring.links.clone();
            for id in links {
                self.arm_ping(id, now);
            }
        }
        self.timers.set_earlier(Timer::SyncResend, now.instant + RESEND_PAUSE);
    }

    /// Sends our SYNC with its present number.
    fn send_sync(&mut self, now: Now) {
        let Some(right) = self.ring.right else { return };
        let origin = Origin { address: self.ring.members.self_address(), seq: self.ring.sync_seq };
        let info = SyncInfo {
            minor: self.tuning.ring_minor,
            timestamp_secs: now.unix_secs,
            hosts_hash: self.hosts.hosts_hash(),
        };
        self.send(right, &Line::Sync { origin, info: Some(info) });
        self.ring.sync_change_counter = self.ring.change_counter;
        self.ring.sync_sent_unix_secs = now.unix_secs;
        self.timers.set(Timer::SyncResend, now.instant + RESEND_PAUSE);
        for neighbour in [self.ring.left, self.ring.right].into_iter().flatten() {
            self.send_ping(neighbour, now);
        }
    }

    /// The time of the resend timer has come.
    pub(crate) fn resend_sync(&mut self, now: Now) {
        if self.ring.synced {
            return;
        }
        if self.ring.right.is_none() {
            self.connect_right("The ring is not synced", now);
        } else {
            if self.ring.left.is_some() {
                self.ring.sync_resends = self.ring.sync_resends.saturating_add(1);
                self.skip_remembered_numbers();
                self.tell_hidden_hosts();
                self.send_sync(now);
            }
            // A ring that is not whole has to find itself: the member next to us is asked sooner than in a whole one.
            self.connect_preferred(now);
        }
        self.timers.set_earlier(Timer::SyncResend, now.instant + RESEND_PAUSE);
    }

    /// Our SYNC does not come back although it was sent several times. Somebody may remember a higher number of ours,
    /// from an earlier life whose clock was ahead of the present one, and take ours for stale: so we go beyond. Or a member
    /// whose SYNC says no time has sent on as many of this number as it does.
    fn skip_remembered_numbers(&mut self) {
        let resends = self.ring.sync_resends;
        let untimed = self.ring.hosts_hash_hidden || self.lowest_minor() < minor::UPDOWN;
        let skipped = match SKIPS.iter().find(|(after, _)| *after == resends) {
            Some((_, skipped)) => *skipped,
            None if untimed && resends.is_multiple_of(UNTIMED_RESENDS) => 1,
            None => return,
        };
        self.ring.sync_seq = self.ring.sync_seq.saturating_add(skipped);
    }

    /// Our SYNC does not come back although it was sent several times. Somebody may have dropped it because he has other
    /// hosts; if his own SYNC comes without a hosts-hash, only this tells that he may lack some of ours.
    fn tell_hidden_hosts(&mut self) {
        let resends = self.ring.sync_resends;
        if self.ring.hosts_hash_hidden && resends > 1 && resends.is_power_of_two() {
            self.resend_hosts();
        }
    }

    /// The ring is in one state.
    pub(crate) fn ring_synced(&mut self, now: Now) {
        let millis = now.instant.saturating_since(self.ring.synced_changed).as_millis();
        self.timers.clear(Timer::SyncResend);
        self.ring.sync_resends = 0;
        self.ring.hosts_hash_hidden = false;
        self.ring.last_synced_unix_secs = now.unix_secs;
        self.ring.doubtful = false;
        if !self.ring.synced {
            self.ring.synced = true;
            self.ring.last_sync_millis = u64::try_from(millis).unwrap_or(u64::MAX);
            self.ring.synced_changed = now.instant;
            self.hasten_kills(now);
        }
        if !self.ring.handshaked {
            self.ring.handshaked = true;
            info!("Ring handshaked: serving logins");
        }
        self.clear_desynced();
        let removed: Vec<_> =
            self.ring.members.iter().filter(|(_, member)| member.removed).map(|(address, _)| address).collect();
        for address in removed {
            self.ring.members.forget(address);
            self.timers.clear(Timer::ForgetMember(address));
        }
        self.retry_all_lookups(now);
        self.admin_ring_synced();
        self.check_preferred_right(now);
    }

    fn clear_desynced(&mut self) {
        self.ring.removed_hosts.clear();
        let desynced: Vec<HostNumber> =
            self.hosts.iter().filter(|(_, host)| host.desynced).map(|(number, _)| number).collect();
        for number in desynced {
            self.hosts.update(number, |host| host.desynced = false);
        }
    }

    /// SYNC came.
    pub(crate) fn sync_received(&mut self, id: ConnectionId, origin: Origin, info: Option<SyncInfo>, now: Now) {
        self.ring.hosts_hash_hidden |= info.is_none_or(|info| info.hosts_hash == 0);
        if origin.address == self.ring.members.self_address() {
            self.own_sync_received(origin.seq, info, now);
            return;
        }
        if !self.pass_sync(id, origin, info, now) {
            return;
        }
        if self.ring.change_counter != self.ring.sync_change_counter
            && !self.ring.synced
            && self.ring.sync_sent_unix_secs != now.unix_secs
            && self.ring.left.is_some()
        {
            self.send_sync(now);
        }
    }

    fn own_sync_received(&mut self, seq: u32, info: Option<SyncInfo>, now: Now) {
        if seq > self.ring.sync_seq && seq - self.ring.sync_seq <= ORPHAN_AHEAD_MAX {
            // It is of an earlier life, and whoever it has passed takes what has a lower number for stale.
            self.ring.sync_seq = seq;
            self.sync(now);
            return;
        }
        if seq != self.ring.sync_seq || self.ring.synced || self.ring.has_no_neighbours() {
            return;
        }
        if let Some(info) = info {
            if info.hosts_hash != 0 && info.hosts_hash != self.hosts.hosts_hash() {
                // Our hosts changed while it was on its way.
                self.sync(now);
                return;
            }
            self.ring.min_minor = info.minor.min(self.tuning.ring_minor);
        } else {
            self.ring.min_minor = minor::UPDOWN - 1;
        }
        self.ring_synced(now);
    }

    /// Another's SYNC: sends it on if it should go on. Returns false if it was stale.
    fn pass_sync(&mut self, id: ConnectionId, origin: Origin, info: Option<SyncInfo>, now: Now) -> bool {
        let own_hash = self.hosts.hosts_hash();
        let Some(member) = self.ring.members.get_mut(origin.address) else { return false };
        if member.removed {
            return false;
        }
        let timestamp_secs = info.map_or(0, |info| info.timestamp_secs);
        match &mut member.sync_seen {
            Some(seen) if origin.seq < seen.seq => {
                let believed = member.restart_believed.is_none_or(|at| at + RESTART_BELIEVED_PAUSE <= now.instant);
                if timestamp_secs <= seen.timestamp_secs || !believed {
                    return false;
                }
                member.restart_believed = Some(now.instant);
                *seen = SyncSeen { seq: origin.seq, timestamp_secs, forwarded: 0 };
            }
            // Copies that were sent at different times may be on their way at once: each an older one than the last that was
            // here, they would count as new in turn, for ever.
            Some(seen) if origin.seq == seen.seq && timestamp_secs <= seen.timestamp_secs => {
                if seen.forwarded >= FORWARD_MAX {
                    return false;
                }
                seen.forwarded += 1;
            }
            seen => *seen = Some(SyncSeen { seq: origin.seq, timestamp_secs, forwarded: 0 }),
        }
        if let Some(info) = info
            && info.hosts_hash != 0
            && info.hosts_hash != own_hash
        {
            if member.differing_hosts_hash == Some(info.hosts_hash) {
                member.differing_hosts_hash = None;
                error!(
                    "{}: {} still has other hosts than we have (hosts hash {} instead of {own_hash}): sending it ours",
                    super::link::Label(self, id),
                    origin.address,
                    info.hosts_hash
                );
                self.resend_hosts();
                // If they have it all already, nothing that they do makes us ask them again.
                self.want_sync();
            } else {
                member.differing_hosts_hash = Some(info.hosts_hash);
            }
            return true;
        }
        member.differing_hosts_hash = None;
        let own_minor = self.tuning.ring_minor;
        let info = info.map(|info| SyncInfo { minor: info.minor.min(own_minor), ..info });
        self.forward_sync(origin, info);
        true
    }

    fn forward_sync(&mut self, origin: Origin, info: Option<SyncInfo>) {
        if cfg!(feature = "canary-sync-not-forwarded") {
            return;
        }
        match self.ring.right {
            Some(right) => self.send(right, &Line::Sync { origin, info }),
            None => {
                self.ring.held_syncs.insert(origin.address, (origin.seq, info));
            }
        }
    }

    /// There is a right again: what was held back for it goes out.
    pub(crate) fn send_held_syncs(&mut self) {
        for (address, (seq, info)) in std::mem::take(&mut self.ring.held_syncs) {
            if self.ring.members.is_listed(address) {
                self.forward_sync(Origin { address, seq }, info);
            }
        }
    }

    /// All our hosts, as changes of our own.
    fn resend_hosts(&mut self) {
        let numbers: Vec<_> = self.hosts.iter().map(|(number, _)| number).collect();
        for number in numbers {
            self.originate_host(number);
        }
    }

    /// A member counts as removed for so long at most.
    pub(crate) fn forget_member(&mut self, address: SocketAddr) {
        if self.ring.members.get(address).is_some_and(|member| member.removed) {
            self.ring.members.forget(address);
        }
    }

    // PING

    /// Sends PING, unless one has not been answered yet.
    pub(crate) fn send_ping(&mut self, id: ConnectionId, now: Now) {
        if self.link(id).is_some_and(|link| link.ping_sent.is_none()) {
            self.send_further_ping(id, now);
        }
    }

    /// Sends PING, whatever has been answered: the answer tells that all has been read that went before.
    pub(crate) fn send_further_ping(&mut self, id: ConnectionId, now: Now) {
        let Some(connection) = self.connections.get(id) else { return };
        let buffered_bytes = connection.buffered() as u64;
        let Some(link) = self.link_mut(id) else { return };
        if link.detached {
            return;
        }
        link.ping_sent.get_or_insert(now.instant);
        link.last_ping = now.instant;
        link.pings_sent += 1;
        self.send(id, &Line::Ping { info: Some(PingInfo { timestamp_secs: now.unix_secs, buffered_bytes }) });
        self.arm_ping(id, now);
    }

    pub(crate) fn ping_received(&mut self, id: ConnectionId, now: Now) {
        let Some(connection) = self.connections.get(id) else { return };
        let buffered_bytes = connection.buffered() as u64;
        self.send(id, &Line::Pong { info: Some(PingInfo { timestamp_secs: now.unix_secs, buffered_bytes }) });
    }

    pub(crate) fn pong_received(&mut self, id: ConnectionId, now: Now) {
        let Some(link) = self.link_mut(id) else { return };
        link.pongs_received += 1;
        if let Some(sent) = link.ping_sent.take() {
            let took = now.instant.saturating_since(sent);
            link.ping_millis = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
            if took > PONG_SLOW {
                warn!("{}: PONG took {:.3} secs", super::link::Label(self, id), took.as_secs_f64());
            }
        }
        let held =
            self.link(id).filter(|link| link.outgoing && now.instant.saturating_since(link.started) >= SHORT_LIFE);
        if let Some(member) = held.map(|link| link.peer).and_then(|peer| self.ring.members.get_mut(peer)) {
            member.link_held();
        }
        self.arm_ping(id, now);
        self.tell_known_to(id);
        if self.ring.left == Some(id) {
            self.send_misplaced_away(now);
            self.settle_strays(now);
        }
    }

    /// When a link is next to be looked at.
    fn ping_deadline(&self, id: ConnectionId) -> Option<Instant> {
        let link = self.link(id)?;
        if link.detached || !link.done {
            return None;
        }
        Some(match link.ping_sent {
            Some(sent) => {
                let silent = link.last_input.max(sent) + self.tuning.ping_idle_timeout;
                silent.min(sent + self.tuning.ping_max_timeout)
            }
            // Strays wait for its PONG, and whatever else it says is none.
            None if self.ring.left == Some(id) && self.strays().next().is_some() => link.last_ping + PING_IDLE_UNSYNCED,
            None => link.last_input + if self.ring.synced { PING_IDLE } else { PING_IDLE_UNSYNCED },
        })
    }

    pub(crate) fn arm_ping(&mut self, id: ConnectionId, now: Now) {
        if let Some(deadline) = self.ping_deadline(id) {
            // Never at once: an overdue link gets its turn at the next tick.
            let soonest = now.instant + Duration::from_millis(1);
            self.timers.set(Timer::Ping(id), deadline.max(soonest));
        }
    }

    /// The time of a link's ping timer has come; its deadline may have moved meanwhile.
    pub(crate) fn ping_timeout(&mut self, id: ConnectionId, now: Now) {
        let Some(deadline) = self.ping_deadline(id) else { return };
        if now.instant < deadline {
            self.timers.set(Timer::Ping(id), deadline);
            return;
        }
        if self.link(id).is_some_and(|link| link.ping_sent.is_some()) {
            self.abort_link(id, "Ping timeout", now);
        } else {
            self.send_ping(id, now);
        }
    }
}
