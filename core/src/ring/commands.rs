//! What the other directors say, and what we say to them (ring protocol, "Live commands").

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use log::{Level, debug, error, info, log_enabled, warn};

use crate::connections::Kind;
use crate::contract::ConnectionId;
use crate::director::Director;
use crate::hosts::{Host, HostNumber};
use crate::kick::{Command as Kick, Purpose};
use crate::ring::link::{HostMode, Label, Link, Refusal};
use crate::ring::users::Told;
use crate::time::Now;
use crate::timers::Timer;
use crate::wire::ring::{HostLine, Line, MAJOR, Origin, UpDown, minor};

/// A removed member is forgotten after this time, if the ring is not synced before.
const FORGET_MEMBER: Duration = Duration::from_secs(30);
/// The weight of a host that nobody gave one.
pub(crate) const VHOSTS_DEFAULT: u32 = 100;
/// So many backends that were removed since the ring was last synced are remembered: more than operators have.
const REMOVED_HOSTS_MAX: usize = 4096;

/// To whom a line does not go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Except {
    /// It goes to everybody.
    Nobody,
    /// Not to the member that it came from.
    Member(Option<SocketAddr>),
    /// Not to the link that it came from.
    Link(ConnectionId),
    /// Not to the member that it came from, nor on a link whose other end knows it.
    MemberAndLink(Option<SocketAddr>, Option<ConnectionId>),
}

impl Except {
    /// Whether a line does not go to this link.
    fn spares(self, id: ConnectionId, link: &Link) -> bool {
        let is_source = |member: Option<SocketAddr>| member.is_some() && link.member == member;
        match self {
            Self::Nobody => false,
            Self::Member(member) => is_source(member),
            Self::Link(source) => id == source,
            Self::MemberAndLink(member, known_to) => is_source(member) || Some(id) == known_to,
        }
    }
}

/// Whether a numbered command is news.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Seen {
    /// It is; goes on with this origin.
    First(Origin),
    /// It was here before.
    Again,
    /// It is ours, back from its way round.
    Own,
}

impl Director {
    /// Writes a line to one link.
    pub(crate) fn send(&mut self, id: ConnectionId, line: &Line<'_>) {
        let Some(link) = self.link(id) else { return };
        if link.detached {
            return;
        }
        let peer_minor = link.minor.unwrap_or(self.tuning.ring_minor);
        let mut bytes = std::mem::take(&mut self.scratch);
        bytes.clear();
        line.write(peer_minor, &mut bytes);
        self.write_link(id, &bytes);
        self.scratch = bytes;
    }

    /// Whether there is a link that a line should go to.
    pub(crate) fn has_audience(&self, except: Except) -> bool {
        self.ring.links.iter().any(|&id| self.link(id).is_some_and(|link| !except.spares(id, link)))
    }

    /// Writes a line to all links but those it should not go to.
    pub(crate) fn broadcast(&mut self, line: &Line<'_>, except: Except) {
        let mut bytes = std::mem::take(&mut self.scratch);
        let mut written_for = None;
        for index in 0..self.ring.links.len() {
            let id = self.ring.links[index];
            let Some(link) = self.link(id) else { continue };
            if except.spares(id, link) || !self.connections.is_established(id) {
                continue;
            }
            let peer_minor = match link.minor {
                Some(minor) => minor,
                // How they are written depends on the peer's version, and the handshake will tell it the same.
                None if matches!(line, Line::User { .. } | Line::Host { .. } | Line::UserKickAlt { .. }) => continue,
                None => self.tuning.ring_minor,
            };
            if written_for != Some(peer_minor) {
                bytes.clear();
                line.write(peer_minor, &mut bytes);
                written_for = Some(peer_minor);
            }
            self.write_link(id, &bytes);
        }
        self.scratch = bytes;
    }

    /// Adds bytes to a link's output; one that is full is dropped at the end of the batch.
    fn write_link(&mut self, id: ConnectionId, bytes: &[u8]) {
        if log_enabled!(Level::Debug) && !bytes.is_empty() {
            debug!("{}: output: {}", Label(self, id), bytes.trim_ascii_end().escape_ascii());
        }
        // A link that is still being connected has not said VERSION: its lines wait behind that.
        self.connections.write(id, bytes);
        let Some(connection) = self.connections.get_mut(id) else { return };
        let buffered = connection.buffered();
        let Kind::Ring(link) = &mut connection.kind else { return };
        link.peak_buffered = link.peak_buffered.max(buffered);
        if buffered > self.tuning.output_buffer_bytes {
            self.overflowed.push(id);
        }
    }

    /// Our address and our next number.
    pub(crate) fn new_origin(&mut self) -> Origin {
        Origin { address: self.ring.members.self_address(), seq: self.ring.next_seq() }
    }

    /// Whether a command has been here before (ring protocol, "Sequence numbers").
    fn see(&mut self, origin: Origin) -> Seen {
        if origin.address == self.ring.members.self_address() {
            return Seen::Own;
        }
        match self.ring.members.get_mut(origin.address) {
            // Also of one that was removed: two that have removed each other, and not left the ring yet, would make the same
            // line theirs in turn, for ever.
            Some(member) => {
                if origin.seq <= member.seq_seen {
                    return Seen::Again;
                }
                member.seq_seen = origin.seq;
                Seen::First(origin)
            }
            // Nobody else can tell whether it has been everywhere: from here on it is ours.
            None => Seen::First(self.new_origin()),
        }
    }

    /// A line that may come at any time after ME.
    pub(crate) fn live_command(&mut self, id: ConnectionId, line: Line<'_>, now: Now) -> Result<(), Refusal> {
        let source = self.link(id).and_then(|link| link.member);
        let except = Except::Member(source);
        match line {
            Line::User { hash, host, timestamp_secs, moved } => {
                let told = Told::Live { timestamp_secs };
                self.user_told(id, (hash, host, moved), told, now);
            }
            Line::UserWeak { origin, hash, host } => {
                let seen = self.see(origin);
                self.user_weak_received(id, seen, origin, hash, host, now);
            }
            Line::Host { origin, host } => {
                if let Seen::First(origin) = self.see(origin) {
                    self.host_received(id, origin, &host, now);
                }
            }
            Line::HostRemove { origin, ip } => {
                if let Seen::First(origin) = self.see(origin) {
                    // Lookups that go on with it tell of users who are elsewhere now: after this.
                    self.broadcast(&Line::HostRemove { origin, ip }, except);
                    self.remove_host(ip, now);
                }
            }
            Line::HostFlush { origin, ip } => {
                if let Seen::First(origin) = self.see(origin) {
                    self.broadcast(&Line::HostFlush { origin, ip }, except);
                    self.flush_host(ip, now);
                }
            }
            Line::UserMove { origin, hash, host, generation } => {
                if let Seen::First(origin) = self.see(origin) {
                    self.user_move_received(id, origin, hash, host, generation, now);
                }
            }
            Line::UserKilled { hash, token: Some(token) } => self.kill_token_received(hash, token, now),
            Line::UserKilled { hash, token: None } => self.user_killed_received(hash, now),
            Line::UserKilledEverywhere { origin, hash, of } => {
                if let Seen::First(origin) = self.see(origin) {
                    self.broadcast(&Line::UserKilledEverywhere { origin, hash, of }, except);
                    self.user_killed_everywhere(hash, of, now);
                }
            }
            Line::UserKick { origin, username } => {
                if let Seen::First(origin) = self.see(origin) {
                    self.kick(&Kick::User { username: username.to_vec().into() }, Purpose::Other, now);
                    self.broadcast(&Line::UserKick { origin, username }, except);
                }
            }
            Line::UserKickAlt { origin, field, value } => {
                if let Seen::First(origin) = self.see(origin) {
                    let kick = Kick::Alt { field: field.to_vec().into(), value: value.to_vec().into() };
                    self.kick(&kick, Purpose::Other, now);
                    self.broadcast(&Line::UserKickAlt { origin, field, value }, except);
                }
            }
            Line::UserKickHash { origin, hash, except: spared } => {
                if let Seen::First(origin) = self.see(origin) {
                    self.kick(&Kick::Hash { hash, except: Some(spared) }, Purpose::Other, now);
                    self.broadcast(&Line::UserKickHash { origin, hash, except: spared }, except);
                }
            }
            Line::Director { address, name } => self.director_received(id, address, name, now),
            Line::DirectorRemove { address } => self.director_remove_received(source, address, now),
            Line::Sync { origin, info } => self.sync_received(id, origin, info, now),
            Line::Ping { .. } => self.ping_received(id, now),
            Line::Pong { .. } => self.pong_received(id, now),
            Line::Connect { address } => {
                if self.link(id).is_some_and(|link| link.outgoing) {
                    self.connect_requested(id, address, now);
                } else {
                    return Err(Refusal::protocol("CONNECT came from the side that had connected"));
                }
            }
            Line::Version { .. }
            | Line::Me { .. }
            | Line::HandshakeHostsStart { .. }
            | Line::HandshakeHost { .. }
            | Line::HandshakeHostsEnd { .. }
            | Line::HandshakeUser { .. }
            | Line::KnownTo { .. }
            | Line::Options { .. }
            | Line::Done
            | Line::Quit { .. } => unreachable!("link_command handles what belongs to the handshake"),
        }
        Ok(())
    }

    // Members

    fn director_remove_received(&mut self, source: Option<SocketAddr>, address: SocketAddr, now: Now) {
        if address == self.ring.members.self_address() {
            warn!("Another director removed us from the ring");
            return;
        }
        self.remove_member(address, source, now);
    }

    /// Removes a member from the ring; false if it is not in it.
    pub(crate) fn remove_member(&mut self, address: SocketAddr, source: Option<SocketAddr>, now: Now) -> bool {
        let Some(member) = self.ring.members.get_mut(address) else { return false };
        if member.removed {
            return false;
        }
        info!("Removing director {address} from the ring");
        member.removed = true;
        self.ring.held_syncs.remove(&address);
        self.timers.set(Timer::ForgetMember(address), now.instant + FORGET_MEMBER);
        self.broadcast(&Line::DirectorRemove { address }, Except::Member(source));
        let links: Vec<_> = self.ring.links.clone();
        for id in links {
            if self.link(id).is_some_and(|link| link.member == Some(address)) {
                self.quit_link(id, "Removing from ring", now);
            }
        }
        self.want_sync();
        true
    }

    // Hosts

    pub(crate) fn host_line(&self, number: HostNumber) -> Option<HostLine<'static>> {
        let host = self.hosts.get(number)?;
        Some(HostLine {
            ip: host.ip,
            vhosts: host.vhosts,
            tag: self.hosts.tag_name(host.tag).to_vec().into(),
            updown: Some(UpDown { down: host.down, changed_secs: host.updown_changed_secs }),
            hostname: host.hostname.as_deref().map(|name| name.to_vec().into()),
        })
    }

    /// Tells everybody of a host, as a change of our own.
    pub(crate) fn originate_host(&mut self, number: HostNumber) {
        let Some(host) = self.host_line(number) else { return };
        let origin = self.new_origin();
        self.broadcast(&Line::Host { origin, host }, Except::Nobody);
    }

    /// Adds a host that another director names. If it has a tag, links to directors that know no tags end, before any of them
    /// hears of it: they would take it for one without.
    fn add_told_host(&mut self, line: &HostLine<'_>, now: Now) -> Option<HostNumber> {
        if !line.tag.is_empty() && self.tuning.ring_minor < minor::TAGS {
            tell_of_refused_tag(line.ip);
            return None;
        }
        let number = self.add_host(line)?;
        self.part_from_tagless(number, now);
        Some(number)
    }

    /// A host has come, or is another: if it has a tag, directors that know none can't be our neighbours any more.
    fn part_from_tagless(&mut self, number: HostNumber, now: Now) {
        if !self.hosts.get(number).is_some_and(|host| self.is_tagged(host)) {
            return;
        }
        for id in self.ring.links.clone() {
            if let Some(peer_minor) = self.link(id).and_then(|link| link.minor)
                && peer_minor < minor::TAGS
            {
                self.refuse_link(id, &Self::refusal_of_tagless(peer_minor), now);
            }
        }
    }

    /// Whether directors that know no tags would have another host in its place: they would send the wrong users to it, and,
    /// as it counts in the hosts-hash, never be in one state with us.
    pub(crate) fn is_tagged(&self, host: &Host) -> bool {
        !self.hosts.tag_name(host.tag).is_empty()
    }

    pub(crate) fn refusal_of_tagless(peer_minor: u32) -> Refusal {
        Refusal::plain(format!(
            "It speaks version {MAJOR}.{peer_minor}, which knows no tags, and some of our mail servers have tags"
        ))
    }

    /// Whether a host with a tag may come into the ring: not while there is a director that knows none, as far as we know.
    /// If it has gone meanwhile, our SYNC finds that out, and the next one may.
    pub(crate) fn may_have_tags(&mut self) -> bool {
        let may = self.lowest_minor() >= minor::TAGS;
        if !may {
            self.want_sync();
        }
        may
    }

    /// Adds a host that a line or an administrator names.
    pub(crate) fn add_host(&mut self, line: &HostLine<'_>) -> Option<HostNumber> {
        let tag = self.hosts.intern_tag(&line.tag);
        let updown = line.updown.unwrap_or(UpDown { down: false, changed_secs: 0 });
        let number = self.hosts.add(Host {
            ip: line.ip,
            hostname: line.hostname.as_deref().map(Into::into),
            vhosts: line.vhosts,
            tag,
            down: updown.down,
            updown_changed_secs: updown.changed_secs,
            desynced: false,
        });
        if number.is_none() {
            error!("Host {} can't be added: there are too many", line.ip);
        }
        number
    }

    /// Marks a host as changed since the last sync, and asks for one.
    pub(crate) fn host_changed(&mut self, number: HostNumber, now: Now) {
        let alone = self.ring.has_no_neighbours();
        self.hosts.update(number, |host| host.desynced = !alone);
        self.want_sync();
        self.retry_all_lookups(now);
    }

    /// HOST of the ring.
    fn host_received(&mut self, id: ConnectionId, origin: Origin, line: &HostLine<'_>, now: Now) {
        let source = self.link(id).and_then(|link| link.member);
        let Some(number) = self.hosts.find(line.ip) else {
            if let Some(number) = self.add_told_host(line, now) {
                info!("{}: Host {} added with {} vhosts", Label(self, id), line.ip, line.vhosts);
                if self.ring.removed_hosts.remove(&line.ip) {
                    // It was removed and changed at the same moment. Others may have heard of it the other way round, and
                    // have it no more; and an older member may hide that from the hosts-hash. Whoever hears this has heard
                    // of the removal from us before, or from others before that.
                    self.originate_host(number);
                } else {
                    self.broadcast(&Line::Host { origin, host: line.clone() }, Except::Member(source));
                }
                self.host_changed(number, now);
            }
            return;
        };
        let Some((number, forward)) = self.merge_host(id, number, line, None, now) else {
            self.pass_known_host(&Line::Host { origin, host: line.clone() }, source);
            return;
        };
        match forward {
            MergedHost::Theirs => {
                let host = HostLine { updown: self.host_line(number).and_then(|host| host.updown), ..line.clone() };
                self.broadcast(&Line::Host { origin, host }, Except::Member(source));
            }
            MergedHost::Ours => self.originate_host(number),
        }
        self.host_changed(number, now);
    }

    /// Sends a HOST on although it is no news here. It has a number: what comes after it would overtake it where it ends, and
    /// those behind us would take it for seen when it comes to them another way.
    fn pass_known_host(&mut self, line: &Line<'_>, source: Option<SocketAddr>) {
        for id in self.ring.links.clone() {
            if source.is_none() || self.link(id).is_some_and(|link| link.member != source) {
                self.tell_known_host(id, line);
            }
        }
    }

    /// Sends a HOST to one link for the sake of its number.
    fn tell_known_host(&mut self, id: ConnectionId, line: &Line<'_>) {
        let takes = self.link(id).and_then(|link| link.minor).is_some_and(|peer| peer >= minor::HOST_EVERYWHERE);
        if takes && self.connections.is_established(id) {
            self.send(id, line);
        }
    }

    /// Takes what a line says of a known host, live or in a handshake. `None`: nothing new. Else the host's number, which
    /// may be another one now, and whose state it has.
    fn merge_host(
        &mut self,
        id: ConnectionId,
        number: HostNumber,
        line: &HostLine<'_>,
        handshake: Option<HostMode>,
        now: Now,
    ) -> Option<(HostNumber, MergedHost)> {
        let replace = handshake == Some(HostMode::Replace);
        let host = self.hosts.get(number)?;
        let theirs = line.updown.unwrap_or(UpDown { down: host.down, changed_secs: host.updown_changed_secs });
        let same_tag = self.hosts.tag_name(host.tag) == &*line.tag;
        let hostname_new = line.hostname.is_some() && line.hostname.as_deref() != host.hostname.as_deref();
        if host.vhosts == line.vhosts && host.down == theirs.down && same_tag {
            if hostname_new || replace {
                let hostname = line.hostname.as_deref().map(Into::into);
                self.hosts.update(number, |host| {
                    host.hostname = hostname;
                    if replace {
                        host.updown_changed_secs = theirs.changed_secs;
                    }
                });
            }
            return None;
        }
        let (ip, vhosts_before) = (host.ip, host.vhosts);
        let (mut vhosts, mut down) = (line.vhosts, theirs.down);
        let mut changed_secs = host.updown_changed_secs.max(theirs.changed_secs);
        let mut merged = MergedHost::Theirs;
        let mut takes_tag = !same_tag;
        if replace {
            changed_secs = theirs.changed_secs;
        } else if host.desynced || handshake.is_some() {
            // Two changes at once: everybody must end with the same, whichever came first. Two that meet have been changed
            // apart, and each may have told the other already.
            merged = MergedHost::Ours;
            takes_tag = *line.tag < *self.hosts.tag_name(host.tag);
            vhosts = vhosts.min(host.vhosts);
            if host.down != theirs.down {
                if cfg!(feature = "canary-host-conflict-by-arrival") {
                    down = theirs.down;
                } else if host.updown_changed_secs == theirs.changed_secs {
                    down = true;
                    // Members of the original take the newer time: so they end with this as well.
                    changed_secs = changed_secs.saturating_add(1);
                } else if host.updown_changed_secs > theirs.changed_secs {
                    down = host.down;
                }
            }
            warn!(
                "{}: Host {ip} is being changed by two directors at once: going on with {vhosts} vhosts, {}",
                Label(self, id),
                if down { "down" } else { "up" }
            );
        }
        if vhosts_before != vhosts {
            info!("{}: Host {ip} vhost count changed from {vhosts_before} to {vhosts}", Label(self, id));
        }
        let host = self.hosts.get(number)?;
        if host.down != down {
            info!("{}: Host {ip} is {}", Label(self, id), if down { "down" } else { "up" });
        }
        let mut number = number;
        if takes_tag {
            error!(
                "{}: Host {ip} changed its tag from '{}' to '{}': its users are forgotten",
                Label(self, id),
                self.hosts.tag_name(host.tag).escape_ascii(),
                line.tag.escape_ascii()
            );
            number = self.forget_users_of(number);
        }
        let new_tag = takes_tag.then(|| self.hosts.intern_tag(&line.tag));
        let hostname: Option<Box<[u8]>> = line.hostname.as_deref().map(Into::into);
        self.hosts.update(number, |host| {
            host.vhosts = vhosts;
            host.down = down;
            host.updown_changed_secs = changed_secs;
            host.tag = new_tag.unwrap_or(host.tag);
            if hostname.is_some() {
                host.hostname = hostname;
            }
        });
        self.part_from_tagless(number, now);
        Some((number, merged))
    }

    /// Forgets all users of a host. Returns the host's number from now on.
    pub(crate) fn forget_users_of(&mut self, number: HostNumber) -> HostNumber {
        self.forget_kills_of(number);
        let new = self.hosts.renumber(number).or_else(|| {
            // No number is free: finish the sweep of those that are on their way out.
            self.sweep_all();
            self.hosts.renumber(number)
        });
        let Some(new) = new else {
            error!("A host's users can't be forgotten: there are too many hosts");
            return number;
        };
        self.users.retire(number);
        self.want_sweep();
        new
    }

    /// Forgets a host's users.
    pub(crate) fn flush_host(&mut self, ip: IpAddr, now: Now) -> bool {
        let Some(number) = self.hosts.find(ip) else { return false };
        info!("Host {ip}: its {} users are forgotten", self.users.count(number));
        self.forget_users_of(number);
        self.want_sync();
        self.retry_all_lookups(now);
        true
    }

    /// Removes a host and forgets its users.
    pub(crate) fn remove_host(&mut self, ip: IpAddr, now: Now) -> bool {
        let Some(number) = self.hosts.find(ip) else { return false };
        info!("Host {ip} is removed, with {} users", self.users.count(number));
        self.forget_kills_of(number);
        self.hosts.remove(number);
        if !self.ring.has_no_neighbours() && self.ring.removed_hosts.len() < REMOVED_HOSTS_MAX {
            self.ring.removed_hosts.insert(ip);
        }
        if !cfg!(feature = "canary-users-kept-after-host-remove") {
            self.users.retire(number);
        }
        self.want_sweep();
        self.want_sync();
        self.retry_all_lookups(now);
        true
    }

    // Hosts in a handshake

    /// Whether our backends are those of a living ring: it was synced once with us in it, or we have taken over its own by a
    /// link that still lives. A second ring that we meet then is another one, that has served as well.
    pub(crate) fn speaks_for_a_ring(&self) -> bool {
        let has_taken_over = |&id: &ConnectionId| self.link(id).is_some_and(|link| link.hosts_taken_over);
        self.ring.handshaked || self.ring.links.iter().any(has_taken_over)
    }

    pub(crate) fn handshake_hosts_start(&mut self, id: ConnectionId, handshaked: bool) {
        let mode = match (handshaked, self.speaks_for_a_ring()) {
            (true, false) => HostMode::Replace,
            (false, true) => HostMode::Ignore,
            _ => HostMode::Merge,
        };
        let unmentioned = match mode {
            HostMode::Replace => self.hosts.iter().map(|(_, host)| host.ip).collect(),
            _ => std::collections::BTreeSet::new(),
        };
        if let Some(link) = self.link_mut(id) {
            link.host_mode = Some(mode);
            link.unmentioned = unmentioned;
        }
    }

    pub(crate) fn handshake_host(&mut self, id: ConnectionId, line: &HostLine<'_>, now: Now) -> Result<(), Refusal> {
        let link = self.link_mut(id).expect("the link is there");
        let Some(mode) = link.host_mode else {
            return Err(Refusal::protocol("HOST of a handshake came before HOST-HAND-START"));
        };
        link.unmentioned.remove(&line.ip);
        if mode == HostMode::Ignore {
            self.correct_joiner(id, line);
            return Ok(());
        }
        let source = link.member;
        let taken = match self.hosts.find(line.ip) {
            None => self.add_told_host(line, now).map(|number| (number, MergedHost::Theirs)),
            Some(number) => self.merge_host(id, number, line, Some(mode), now),
        };
        let Some((number, merged)) = taken else { return Ok(()) };
        if let Some(host) = self.host_line(number) {
            let line = Line::Host { origin: self.new_origin(), host };
            match merged {
                MergedHost::Theirs => {
                    self.broadcast(&line, Except::Member(source));
                    self.tell_known_host(id, &line);
                }
                MergedHost::Ours => self.broadcast(&line, Except::Nobody),
            }
        }
        self.host_changed(number, now);
        Ok(())
    }

    /// Somebody joins us with a backend that is not as we have it. He takes over the ring's from his left, unless that one
    /// joins as well; what he still has then the hosts-hash shows, and all get it. A member below 1.6 hides that: so where
    /// there may be one the joiner is told at once.
    fn correct_joiner(&mut self, id: ConnectionId, line: &HostLine<'_>) {
        let link_minor = self.link(id).and_then(|link| link.minor).unwrap_or(self.tuning.ring_minor);
        if link_minor.min(self.ring.min_minor) >= minor::UPDOWN {
            return;
        }
        let Some(number) = self.hosts.find(line.ip) else {
            let origin = self.new_origin();
            self.send(id, &Line::HostRemove { origin, ip: line.ip });
            return;
        };
        let same = |host: &Host| host.vhosts == line.vhosts && self.hosts.tag_name(host.tag) == &*line.tag;
        if !self.hosts.get(number).is_some_and(same)
            && let Some(host) = self.host_line(number)
        {
            let origin = self.new_origin();
            self.send(id, &Line::Host { origin, host });
        }
    }

    pub(crate) fn handshake_hosts_end(&mut self, id: ConnectionId, now: Now) {
        let Some(link) = self.link_mut(id) else { return };
        if link.host_mode.take() == Some(HostMode::Replace) {
            link.hosts_taken_over = true;
            for ip in std::mem::take(&mut link.unmentioned) {
                info!("{}: Host {ip} is not in the ring: removed", Label(self, id));
                self.remove_host(ip, now);
            }
        }
    }
}

/// A host can't come into the ring.
pub(crate) fn tell_of_refused_tag(ip: IpAddr) {
    error!("Host {ip} can't be added: it has a tag, and there are directors in the ring that know none");
}

/// Whose state a merged host has, and so in whose name it goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum MergedHost {
    Theirs,
    Ours,
}
