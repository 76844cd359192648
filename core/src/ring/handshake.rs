//! What two directors tell each other first, from VERSION to DONE (ring protocol, "Handshake").

use std::net::SocketAddr;
use std::time::Duration;

use log::{debug, info, warn};

use crate::connections::{Kind, Phase};
use crate::contract::ConnectionId;
use crate::director::Director;
use crate::ring::link::{Label, Refusal};
use crate::ring::users::Told;
use crate::time::Now;
use crate::timers::Timer;
use crate::wire::ring::{Line, MAJOR, NAME, minor};

/// The side that connected waits this long for DONE after it last could send something.
pub(crate) const DONE_TIMEOUT_OUTGOING: Duration = Duration::from_secs(30);
/// The side that was connected to waits this long for the next line of the handshake: longer, so that the other side,
/// which knows more, gives up first.
pub(crate) const DONE_TIMEOUT_INCOMING: Duration = Duration::from_secs(40);
/// A handshake's users are produced when less than this waits to be written…
const PRODUCE_BELOW_BYTES: usize = 16 * 1024;
/// … and until this much waits: enough for one write, little enough to hold nobody up.
const PRODUCE_UNTIL_BYTES: usize = 32 * 1024;
/// Clocks that differ by more than this are worth a warning.
const CLOCK_DIFFERENCE_MAX_SECS: u64 = 1;

impl Director {
    /// What a line means at this point of the handshake; live commands are for [`Director::live_command`].
    pub(crate) fn link_command(&mut self, id: ConnectionId, line: Line<'_>, now: Now) -> Result<(), Refusal> {
        if !matches!(line, Line::HandshakeUser { .. } | Line::User { .. }) {
            self.merge_told_users(id, now);
        }
        let link = self.link(id).expect("the link was there a moment ago");
        if link.detached {
            return Ok(());
        }
        let (outgoing, versioned, me_received, done) =
            (link.outgoing, link.minor.is_some(), link.me_received, link.done);
        match line {
            Line::Quit { reason } => {
                let reason = String::from_utf8_lossy(&reason).escape_debug().to_string();
                warn!("{}: Director disconnected us with reason: {reason}", Label(self, id));
                self.blame_short_life(id, now);
                self.detach(id, now);
                self.close_connection(id, now);
                Ok(())
            }
            Line::Version { name, major, minor } if !versioned => self.link_version(id, &name, major, minor, now),
            _ if !versioned => Err(Refusal::protocol("The first line was not VERSION")),
            Line::Me { address, unix_secs } if !me_received => self.link_me(id, address, unix_secs, now),
            Line::Version { .. } | Line::Me { .. } => Err(Refusal::protocol("VERSION or ME was sent twice")),
            _ if !me_received => Err(Refusal::protocol("The line after VERSION was not ME")),
            Line::Done if done => Err(Refusal::protocol("DONE was sent twice")),
            Line::Done if outgoing => self.outgoing_done(id, now),
            Line::Done => self.incoming_done(id, now),
            Line::HandshakeHostsStart { .. }
            | Line::HandshakeHost { .. }
            | Line::HandshakeHostsEnd { .. }
            | Line::HandshakeUser { .. }
            | Line::KnownTo { .. }
            | Line::Options { .. }
                if outgoing || done =>
            {
                Err(Refusal::protocol("A line of the handshake came outside of it"))
            }
            Line::HandshakeHostsStart { handshaked } => {
                self.handshake_hosts_start(id, handshaked);
                Ok(())
            }
            Line::HandshakeHost { host } => self.handshake_host(id, &host, now),
            Line::HandshakeHostsEnd { .. } => {
                self.handshake_hosts_end(id, now);
                Ok(())
            }
            Line::HandshakeUser { hash, host, timestamp_secs, weak, moved } => {
                let told = Told::Handshake { timestamp_secs, weak };
                self.user_told(id, (hash, host, moved), told, now);
                Ok(())
            }
            Line::KnownTo { address } => {
                self.known_to(id, address);
                Ok(())
            }
            Line::Options { options } => {
                let link = self.link_mut(id).expect("the link is there");
                link.consistent_hashing |= options.iter().any(|option| &**option == b"consistent-hashing");
                Ok(())
            }
            line => self.live_command(id, line, now),
        }
    }

    pub(crate) fn link_version(
        &mut self,
        id: ConnectionId,
        name: &[u8],
        major: u32,
        peer_minor: u32,
        now: Now,
    ) -> Result<(), Refusal> {
        if name != NAME.as_bytes() {
            let name = String::from_utf8_lossy(name).escape_debug().to_string();
            return Err(Refusal::protocol(format!("Wrong protocol: {name} instead of {NAME}")));
        }
        if major != MAJOR {
            return Err(Refusal::protocol(format!("Incompatible protocol version: {major} instead of {MAJOR}")));
        }
        if peer_minor < minor::TAGS && self.hosts.iter().any(|(_, host)| self.is_tagged(host)) {
            return Err(Self::refusal_of_tagless(peer_minor));
        }
        let own_minor = self.tuning.ring_minor;
        let link = self.link_mut(id).expect("the link is there");
        link.minor = Some(peer_minor.min(own_minor));
        link.members_told.clear();
        if link.outgoing {
            self.send_handshake(id, now);
        }
        Ok(())
    }

    /// Our hosts at once, our users as the socket drains.
    pub(crate) fn send_handshake(&mut self, id: ConnectionId, now: Now) {
        let handshaked = self.speaks_for_a_ring();
        self.send(id, &Line::HandshakeHostsStart { handshaked });
        let numbers: Vec<_> = self.hosts.iter().map(|(number, _)| number).collect();
        for number in numbers {
            if let Some(host) = self.host_line(number) {
                self.send(id, &Line::HandshakeHost { host });
            }
        }
        self.send(id, &Line::HandshakeHostsEnd { handshaked });
        let cursor = self.users.cursor();
        self.link_mut(id).expect("the link is there").users = Some(cursor);
        self.ask_right(id, now);
        self.connections.announce(id);
    }

    /// What our right has been told so far comprises all users of this handshake. Its answer to a PING tells that it has read
    /// that.
    fn ask_right(&mut self, id: ConnectionId, now: Now) {
        let Some(right) = self.ring.right else { return };
        if self.link(id).and_then(|link| link.minor).is_none_or(|peer_minor| peer_minor < minor::KNOWN_TO) {
            return;
        }
        self.send_further_ping(right, now);
        let pings_sent = self.link(right).map_or(0, |link| link.pings_sent);
        self.link_mut(id).expect("the link is there").right_asked = Some((right, pings_sent));
    }

    /// A PONG has come from somebody who may be our right: tells those to whom we hand over our users that they need not tell
    /// him of them.
    pub(crate) fn tell_known_to(&mut self, from: ConnectionId) {
        let Some((member, pongs)) = self.link(from).and_then(|link| Some((link.member?, link.pongs_received))) else {
            return;
        };
        for index in 0..self.ring.links.len() {
            let id = self.ring.links[index];
            let Some(link) = self.link_mut(id) else { continue };
            if link.right_asked.take_if(|asked| asked.0 == from && asked.1 <= pongs).is_some() && link.users.is_some() {
                self.send(id, &Line::KnownTo { address: member });
            }
        }
    }

    /// KNOWN-TO: the users that are handed over to us are known to a member. Its present life began before we said that we are
    /// here, or it may be an earlier one that knew them.
    fn known_to(&mut self, id: ConnectionId, address: SocketAddr) {
        let started = self.link(id).expect("the link is there").started;
        let known_to = self.ring.links.iter().copied().find(|&other| {
            self.link(other).is_some_and(|link| {
                link.outgoing && link.minor.is_some() && link.peer == address && link.started <= started
            })
        });
        self.link_mut(id).expect("the link is there").known_to = known_to;
    }

    /// Adds users to the output of a handshake when little of it is left, and its end when there are no more.
    /// Returns false when it has looked at enough for one call without finding anybody.
    pub(crate) fn produce_users(&mut self, id: ConnectionId) -> bool {
        self.connections.lend_buffer(id);
        let lowest_minor = self.lowest_minor();
        let Some(connection) = self.connections.get_mut(id) else { return true };
        let buffered = connection.buffered();
        let Kind::Ring(link) = &mut connection.kind else { return true };
        if buffered >= PRODUCE_BELOW_BYTES {
            return true;
        }
        let Some(mut cursor) = link.users.take() else { return true };
        let peer_minor = link.minor.unwrap_or(self.tuning.ring_minor);
        let mut count = 0;
        let mut empty_looks = 0;
        let out = connection.output_mut();
        let limit = out.len() + PRODUCE_UNTIL_BYTES - buffered;
        let finished = loop {
            if out.len() >= limit {
                break false;
            }
            match self.users.next(&mut cursor) {
                None => break true,
                Some(None) => {
                    // Only retired users in sight: come back soon rather than look through millions now.
                    empty_looks += 1;
                    if empty_looks >= 16 {
                        break false;
                    }
                }
                Some(Some(user)) => {
                    let Some(host) = self.hosts.get(user.host) else { continue };
                    let line = Line::HandshakeUser {
                        hash: user.hash,
                        host: host.ip,
                        timestamp_secs: u64::from(user.timestamp_secs),
                        weak: user.weak,
                        moved: self.kills.moved(user, lowest_minor),
                    };
                    line.write(peer_minor, out);
                    count += 1;
                }
            }
        };
        let before = out.len();
        if finished {
            Line::Options { options: vec![b"consistent-hashing"[..].into()] }.write(peer_minor, out);
            Line::Done.write(peer_minor, out);
        }
        let produced = count > 0 || out.len() > before;
        let Kind::Ring(link) = &mut connection.kind else { return true };
        link.users_sent += count;
        if finished {
            self.users.end(cursor);
            debug!("{}: output: {count} users, OPTIONS, DONE", Label(self, id));
        } else {
            link.users = Some(cursor);
        }
        produced || buffered > 0
    }

    pub(crate) fn link_me(
        &mut self,
        id: ConnectionId,
        address: SocketAddr,
        unix_secs: u64,
        now: Now,
    ) -> Result<(), Refusal> {
        let difference = now.unix_secs.abs_diff(unix_secs);
        if difference > CLOCK_DIFFERENCE_MAX_SECS {
            warn!("{}: Its clock differs from ours by {difference} seconds", Label(self, id));
        }
        let link = self.link_mut(id).expect("the link is there");
        let peer = link.peer;
        if link.outgoing {
            if address != peer {
                return Err(Refusal::protocol(format!("It says that it is {address}, but we connected to {peer}")));
            }
            link.me_received = true;
            self.timers.set(Timer::Handshake(id), now.instant + DONE_TIMEOUT_OUTGOING);
            if let Some(member) = self.ring.members.get_mut(address) {
                member.spoke_at = Some(now.instant);
            }
            return Ok(());
        }
        if address == self.ring.members.self_address() {
            return Err(Refusal::protocol(format!("It says that it is {address}, but that is ourselves")));
        }
        if address.ip() != peer.ip() {
            return Err(Refusal::protocol(format!("It says that it is {address}, but it connects from {}", peer.ip())));
        }
        let link = self.link_mut(id).expect("the link is there");
        link.me_received = true;
        link.member = Some(address);
        self.timers.set(Timer::Handshake(id), now.instant + DONE_TIMEOUT_INCOMING);
        if !self.ring.members.is_listed(address) {
            info!("{}: It is now a member of the ring", Label(self, id));
        }
        let member = self.ring.members.add(address);
        self.timers.clear(Timer::ForgetMember(address));
        member.forget_numbers();
        if member.is_banned(now.instant) {
            return Err(Refusal::plain("Its last protocol failure was a short while ago"));
        }
        member.spoke_at = Some(now.instant);
        match self.ring.left {
            None => {
                let member = self.ring.members.get_mut(address).expect("just added");
                member.reset_network_failure();
                if !self.has_outgoing() {
                    self.connect_right("A director has connected to us", now);
                }
            }
            Some(left) if self.link(left).is_some_and(|link| link.member == Some(address)) => {
                self.quit_link(left, "Replaced by a newer connection", now);
                // One that waited for the place has it now.
                if let Some(left) = self.ring.left {
                    self.place_newcomer(left, id, address, now);
                }
            }
            Some(left) => self.place_newcomer(left, id, address, now),
        }
        Ok(())
    }

    /// Whether a handshake's DONE comes from one of our kind.
    pub(crate) fn check_done(&self, id: ConnectionId) -> Result<(), Refusal> {
        if self.link(id).is_some_and(|link| link.consistent_hashing) {
            return Ok(());
        }
        Err(Refusal::plain(
            "It does not use consistent hashing: director_consistent_hashing must be yes on all directors",
        ))
    }

    pub(crate) fn incoming_done(&mut self, id: ConnectionId, now: Now) -> Result<(), Refusal> {
        self.check_done(id)?;
        self.link_is_done(id, now);
        self.send(id, &Line::Done);
        let address = self.link(id).and_then(|link| link.member).expect("ME comes before DONE");
        self.forward_director(address, None, Some(address), now);
        let replaces = match self.ring.left {
            None => true,
            Some(left) => self.link(left).and_then(|link| link.member) == Some(address),
        };
        if replaces {
            let old = self.ring.left.replace(id);
            if let Some(old) = old {
                self.quit_link(old, "Replaced by a newer connection", now);
            }
            self.ring.misplaced.retain(|&other| other != id);
            self.timers.clear(Timer::NewcomerLeave(id));
            self.neighbours_changed(now);
            self.place_earlier_newcomers(id, address);
            // Its handshake has just proved that it lives.
            self.send_misplaced_away(now);
        } else if let Some(left) = self.ring.left
            && self.link(id).is_some_and(|link| link.announced_to != Some(left))
            && let Some(left_address) = self.link(left).and_then(|link| link.member)
            && self.ring.members.is_better_left(address, left_address)
        {
            // Another was our left when it came, and that one was told.
            self.announce_left(left, id, address);
        }
        Ok(())
    }

    pub(crate) fn outgoing_done(&mut self, id: ConnectionId, now: Now) -> Result<(), Refusal> {
        if self.link(id).is_some_and(|link| link.users.is_some()) {
            return Err(Refusal::protocol("DONE came before we had sent ours"));
        }
        self.link_is_done(id, now);
        let address = self.link(id).expect("the link is there").peer;
        if let Some(right) = self.ring.right {
            let right_address = self.link(right).map(|link| link.peer).expect("a right is a link");
            if right_address != address && !self.ring.members.is_better_right(address, right_address) {
                self.quit_link(id, "Our right is nearer", now);
                return Ok(());
            }
            self.ring.right = Some(id);
            self.quit_link(right, "A nearer director was found", now);
        }
        self.ring.right = Some(id);
        // Its right tells the others that it is here, and so do we, its left: what an earlier life of its has said went both ways,
        // and only a line behind that, on each way, makes all forget its numbers for good.
        if self.lowest_minor() >= minor::DIRECTOR_NAMES {
            self.forward_director(address, None, Some(address), now);
        }
        self.right_found(now);
        Ok(())
    }

    pub(crate) fn link_is_done(&mut self, id: ConnectionId, now: Now) {
        let link = self.link_mut(id).expect("the link is there");
        link.done = true;
        info!(
            "{}: Handshake finished in {:.3} secs ({})",
            Label(self, id),
            now.instant.saturating_since(self.link(id).map_or(now.instant, |link| link.started)).as_secs_f64(),
            self.link_statistics(id, now)
        );
        self.timers.clear(Timer::Handshake(id));
        self.arm_ping(id, now);
    }

    /// The time of a link's handshake timer has come; its deadline may have moved meanwhile.
    pub(crate) fn handshake_timeout(&mut self, id: ConnectionId, now: Now) {
        let connecting = self.connections.get(id).is_some_and(|connection| connection.phase == Phase::Connecting);
        if connecting {
            self.link_failed(id, "Timed out", now);
            self.connections.abort(id);
            return;
        }
        let Some(link) = self.link(id) else { return };
        let deadline = link.handshake_deadline();
        if now.instant < deadline {
            self.timers.set(Timer::Handshake(id), deadline);
            return;
        }
        let what = if link.me_received { "DONE" } else { "ME" };
        let unread = link.outgoing && self.connections.get(id).is_some_and(|connection| connection.buffered() > 0);
        let reason = format!("Handshake timed out: no {what}");
        if unread {
            self.abort_link(id, &format!("{reason}, and it reads nothing"), now);
        } else {
            self.refuse_link(id, &Refusal::plain(reason), now);
        }
    }
}
