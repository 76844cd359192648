//! Who is our left, and what becomes of those who connect to us and are not (ring protocol, "Handshake").

use std::net::SocketAddr;
use std::time::Duration;

use crate::contract::ConnectionId;
use crate::director::Director;
use crate::time::Now;
use crate::timers::Timer;
use crate::wire::ring::Line;

/// A link that is nobody's neighbour is told where it belongs this often.
const STRAY_PAUSE: Duration = Duration::from_secs(3);
/// A newcomer that was told to go elsewhere has this long.
const NEWCOMER_LEAVE_TIMEOUT: Duration = Duration::from_secs(10);

impl Director {
    /// Tells our left of a newcomer that sits between us: it will connect there.
    pub(crate) fn announce_left(&mut self, left: ConnectionId, newcomer: ConnectionId, address: SocketAddr) {
        self.send(left, &Line::Connect { address });
        if let Some(link) = self.link_mut(newcomer) {
            link.announced_to = Some(left);
        }
    }

    /// Somebody has said who it is while another is our left.
    pub(crate) fn place_newcomer(&mut self, left: ConnectionId, newcomer: ConnectionId, address: SocketAddr, now: Now) {
        let left_address = self.link(left).and_then(|link| link.member).expect("a left is a member");
        if self.ring.members.is_better_left(address, left_address) {
            self.announce_left(left, newcomer, address);
        } else {
            self.ring.misplaced.push(newcomer);
            self.send_ping(left, now);
        }
    }

    /// There is a new left. Those who said ME before it was that have to hear now where they belong: when all members
    /// of a ring start at once, several say ME while there is no left to compare them with.
    pub(crate) fn place_earlier_newcomers(&mut self, left: ConnectionId, left_address: SocketAddr) {
        let links = self.ring.links.iter().copied().filter(|&id| id != left);
        let newcomers: Vec<_> = links
            .filter_map(|id| {
                let link = self.link(id)?;
                let told = link.announced_to == Some(left);
                link.member
                    .filter(|&member| !link.outgoing && !told && member != left_address)
                    .map(|member| (id, member))
            })
            .collect();
        for (id, address) in newcomers {
            if self.ring.members.is_better_left(address, left_address) {
                self.announce_left(left, id, address);
            } else if !self.ring.misplaced.contains(&id) {
                self.ring.misplaced.push(id);
            }
        }
    }

    /// Our left lives: newcomers that belong to its left are sent there.
    pub(crate) fn send_misplaced_away(&mut self, now: Now) {
        let Some(left) = self.ring.left.and_then(|left| self.link(left)).and_then(|link| link.member) else { return };
        for id in std::mem::take(&mut self.ring.misplaced) {
            let newcomer = self.link(id).and_then(|link| link.member);
            if newcomer.is_none_or(|newcomer| !self.ring.members.is_better_left(left, newcomer)) {
                continue;
            }
            self.send(id, &Line::Connect { address: left });
            self.timers.set(Timer::NewcomerLeave(id), now.instant + NEWCOMER_LEAVE_TIMEOUT);
        }
    }

    /// Incoming links that are finished and not our left: their members belong elsewhere, or our left does.
    pub(crate) fn strays(&self) -> impl Iterator<Item = (ConnectionId, SocketAddr)> {
        let others = self.ring.links.iter().copied().filter(|&id| self.ring.left != Some(id));
        others.filter_map(|id| {
            let link = self.link(id)?;
            if link.outgoing || !link.done { None } else { Some((id, link.member?)) }
        })
    }

    /// Our left lives. Links that should have gone, or taken its place, and did neither are told again: what was said
    /// the first time may have been lost with another link.
    pub(crate) fn settle_strays(&mut self, now: Now) {
        let Some(left) = self.ring.left else { return };
        let Some(left_address) = self.link(left).and_then(|link| link.member) else { return };
        if now.instant < self.ring.strays_told + STRAY_PAUSE {
            return;
        }
        let strays: Vec<_> = self.strays().filter(|&(id, _)| self.link_age(id, now) >= STRAY_PAUSE).collect();
        for (id, address) in strays {
            self.ring.strays_told = now.instant;
            if self.ring.members.is_better_left(address, left_address) {
                self.send(left, &Line::Connect { address });
            } else {
                self.send(id, &Line::Connect { address: left_address });
            }
        }
    }

    pub(crate) fn link_age(&self, id: ConnectionId, now: Now) -> Duration {
        self.link(id).map_or(Duration::ZERO, |link| now.instant.saturating_since(link.started))
    }

    /// Our left is gone: the best of those that wait takes its place.
    pub(crate) fn promote_left(&mut self, now: Now) {
        let mut best: Option<(SocketAddr, ConnectionId)> = None;
        for &id in &self.ring.links {
            let Some(link) = self.link(id) else { continue };
            let (false, true, Some(member)) = (link.outgoing, link.done, link.member) else { continue };
            if best.is_none_or(|(other, _)| self.ring.members.is_better_left(member, other)) {
                best = Some((member, id));
            }
        }
        if let Some((_, id)) = best {
            self.ring.left = Some(id);
            self.ring.misplaced.retain(|&other| other != id);
            self.timers.clear(Timer::NewcomerLeave(id));
            self.timers.set(Timer::Ping(id), now.instant);
        }
    }
}
