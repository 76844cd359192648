//! Merging what other directors say of users (ring protocol, "Users").

use std::cmp::Ordering;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use log::{debug, error, warn};

use crate::contract::ConnectionId;
use crate::director::Director;
use crate::hosts::{HostNumber, TagNumber};
use crate::kick::{Command as Kick, Purpose};
use crate::moves::{Elsewhere, Mover, Place};
use crate::ring::commands::{Except, Seen};
use crate::ring::link::Label;
use crate::time::Now;
use crate::timers::Timer;
use crate::users::{Expired, Generation, User, UserSlot};
use crate::wire::ring::{Line, Moved, Origin, PlainUser, minor};

/// At most so many users are looked at for expiry in one call.
const EXPIRE_BATCH: usize = 4096;
/// At most so many slots are looked at in one call to free those of retired users: about a millisecond.
const SWEEP_BATCH: usize = 65536;
/// The pause between batches: others get their turn.
const BATCH_PAUSE: Duration = Duration::from_millis(1);
/// A weak user is kept for so long after his time.
const WEAK_KEEP_SECS: u32 = 30;

/// What an incoming USER says, next to what we have.
#[derive(Clone, Copy, Debug)]
struct Incoming<'a> {
    hash: u32,
    host: HostNumber,
    tag: TagNumber,
    timestamp_secs: u32,
    weak: bool,
    moved: &'a Moved,
}

/// What a line says of a user.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ToldUser {
    hash: u32,
    host: IpAddr,
    /// Which host that is, and its tag; no line about users changes that. `None`: we do not know it.
    place: Option<(HostNumber, TagNumber)>,
    told: Told,
    moved: Moved,
}

/// What else it says.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Told {
    /// In a handshake.
    Handshake { timestamp_secs: u64, weak: bool },
    /// At any other time.
    Live { timestamp_secs: Option<u64> },
}

/// So many lines about users are merged at once.
const TOLD_BATCH: usize = 64;

/// What came of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Merged {
    /// Nothing is new.
    Unchanged,
    /// We did not know him: it goes on, not back.
    Added,
    /// Something is: it goes on, not back.
    Changed,
    /// What we have stands: everybody hears it, the sender too.
    OursStands,
    /// What we have comes of a later move: the sender hears it.
    OursIsLater,
    /// There was a later move, of which we have not heard: others may not either.
    TheirsIsLater,
    /// There were two: the lower address has won, everybody hears it, and the other's sessions are kicked.
    Conflict,
}

impl Director {
    /// Whether a user with this timestamp has expired.
    pub(crate) fn is_expired(&self, timestamp_secs: u32, now: Now) -> bool {
        u64::from(timestamp_secs) + u64::from(self.tuning.user_expire_secs) <= now.unix_secs
    }

    fn is_weak(&self, hash: u32, tag: TagNumber) -> bool {
        self.users.find(hash, tag).is_some_and(|slot| self.users.get(slot).weak)
    }

    /// Whether somebody who names a move keeps its user although his time has run out, and we ought to, too: not if the move
    /// has ended here.
    fn is_kept_by_move(&self, hash: u32, host: HostNumber, moved: &Moved) -> bool {
        let Some(tag) = self.hosts.get(host).map(|host| host.tag) else { return false };
        let has_ended = self.kills.has_ended(hash, tag, moved.of_move);
        self.believed(moved.generation).is_some() && moved.of_move.is_some() && !has_ended
    }

    /// Whether another director may have dropped a user already, or will soon.
    pub(crate) fn is_near_expiry(&self, timestamp_secs: u32, now: Now) -> bool {
        let expire = self.tuning.user_expire_secs;
        let margin = (expire / 10).clamp(3, 30);
        u64::from(timestamp_secs) + u64::from(expire.saturating_sub(margin)) < now.unix_secs
    }

    fn is_recently_updated(&self, timestamp_secs: u32, now: Now) -> bool {
        u64::from(timestamp_secs) + u64::from(self.tuning.user_expire_secs / 2) >= now.unix_secs
    }

    /// Tells the others who is where.
    pub(crate) fn send_user(&mut self, user: User, except: Except) {
        if let Some(line) = self.user_line(user) {
            self.broadcast(&line, except);
        }
    }

    /// Tells one director who is where.
    fn answer_user(&mut self, id: ConnectionId, slot: Option<UserSlot>) {
        if let Some(line) = slot.and_then(|slot| self.user_line(self.users.get(slot))) {
            self.send(id, &line);
        }
    }

    fn user_line(&self, user: User) -> Option<Line<'static>> {
        let host = self.hosts.get(user.host)?.ip;
        let timestamp_secs = Some(u64::from(user.timestamp_secs));
        Some(Line::User { hash: user.hash, host, timestamp_secs, moved: self.kills.moved(user, self.lowest_minor()) })
    }

    /// Tells the others of a user who was refreshed here, unless we have told them just that in this same second.
    ///
    /// Who has heard it knows nothing more by hearing it again: the timestamp is the same, so nobody takes the second one
    /// for a refresh or sends it on, Dovecot's directors no more than ours; and a link that was made in between begins
    /// with all users. Whatever changes about the user here clears the mark, be it only that a move has ended.
    pub(crate) fn tell_user(&mut self, slot: UserSlot, user: User, now: Now) {
        // Older directors take every USER for a refresh; so after a step of our clock it is not the mark alone that counts.
        let this_second = user.timestamp_secs == clamp_secs(now.unix_secs);
        if !this_second || !self.users.is_told(slot) {
            if !self.ring.links.is_empty() {
                self.send_user(user, Except::Nobody);
            }
            self.users.set_told(slot);
        }
    }

    /// Takes a line if it is one of those that most are, and may come now.
    pub(crate) fn plain_user_told(&mut self, id: ConnectionId, line: &[u8], now: Now) -> bool {
        let Some(user) = PlainUser::read(line) else { return false };
        let Some(link) = self.link(id) else { return false };
        let peer_minor = link.minor.unwrap_or_default();
        let expected = !user.handshake || (!link.outgoing && !link.done);
        if peer_minor < minor::USER_TIMESTAMP || !link.me_received || !expected {
            return false;
        }
        let PlainUser { handshake, hash, host, timestamp_secs } = user;
        let told = if handshake {
            Told::Handshake { timestamp_secs, weak: false }
        } else {
            Told::Live { timestamp_secs: Some(timestamp_secs) }
        };
        self.user_told(id, (hash, host.into(), PlainUser::moved(peer_minor)), told, now);
        true
    }

    /// USER, or a user of a handshake. It is merged with those that come with it, before any other line.
    pub(crate) fn user_told(
        &mut self,
        id: ConnectionId,
        (hash, host, moved): (u32, IpAddr, Moved),
        told: Told,
        now: Now,
    ) {
        let number = self.hosts.find(host);
        let place = number.and_then(|number| Some((number, self.hosts.get(number)?.tag)));
        self.told_users.push(ToldUser { hash, host, place, told, moved });
        if self.told_users.len() >= TOLD_BATCH {
            self.merge_told_users(id, now);
        }
    }

    /// Merges what a link's last lines have said of users.
    ///
    /// Of millions of users none is in the processor's cache. So all are looked for first: these accesses to memory do not
    /// depend on each other, and the processor waits for many of them at a time.
    pub(crate) fn merge_told_users(&mut self, id: ConnectionId, now: Now) {
        if self.told_users.is_empty() {
            return;
        }
        let mut users = std::mem::take(&mut self.told_users);
        let mut keys = [(0, TagNumber(0)); TOLD_BATCH];
        for (key, user) in keys.iter_mut().zip(&users) {
            // To fetch in vain does no harm.
            *key = (user.hash, user.place.map_or(TagNumber(0), |(_, tag)| tag));
        }
        self.users.fetch(&keys[..users.len()]);
        let heard = self.others_hear_of_added_users(id);
        let known = self.users.len();
        for user in &users {
            if self.link(id).is_none_or(|link| link.detached) {
                break;
            }
            match user.told {
                Told::Handshake { timestamp_secs, weak } => {
                    self.handshake_user(id, user, timestamp_secs, weak, heard, now);
                }
                Told::Live { timestamp_secs } => self.user_received(id, user, timestamp_secs, now),
            }
        }
        users.clear();
        self.told_users = users;
        if self.users.len() > known {
            self.arm_expiry();
        }
    }

    /// USER.
    fn user_received(&mut self, id: ConnectionId, user: &ToldUser, timestamp_secs: Option<u64>, now: Now) {
        let ToldUser { hash, host, place, ref moved, .. } = *user;
        let source = match self.link_mut(id) {
            Some(link) => {
                link.updates_received += 1;
                link.member
            }
            None => None,
        };
        let Some((host, tag)) = place else {
            debug!("{}: USER {hash} names host {host}, which was removed: ignored", Label(self, id));
            return;
        };
        let refresh = match timestamp_secs {
            Some(secs) => clamp_secs(secs.min(now.unix_secs)),
            None => {
                // Without a timestamp it would go round for ever if every hop counted as a refresh.
                let pause = (self.tuning.user_expire_secs / 4).min(15);
                let known = self.users.find(hash, tag).map(|slot| self.users.get(slot));
                match known {
                    Some(user) if u64::from(user.timestamp_secs) + u64::from(pause) > now.unix_secs => {
                        user.timestamp_secs
                    }
                    _ => clamp_secs(now.unix_secs),
                }
            }
        };
        let refresh = if !self.is_expired(refresh, now) {
            refresh
        } else if self.is_weak(hash, tag) {
            // Who says so has heard the question, and his clock is behind. Whoever asked hears it come round, but for us there
            // may be no other answer.
            clamp_secs(now.unix_secs)
        } else if self.is_kept_by_move(hash, host, moved) {
            refresh
        } else {
            return;
        };
        let incoming = Incoming { hash, host, tag, timestamp_secs: refresh, weak: false, moved };
        let (merged, slot) = self.merge_user(incoming, now);
        match merged {
            Merged::OursIsLater => self.answer_user(id, slot),
            Merged::TheirsIsLater => self.take_later_move(incoming, source, now),
            _ => self.tell_merged(merged, slot, Except::Member(source), now),
        }
    }

    /// A user was moved while we were elsewhere: he is not let in there before his old sessions here are gone. If the move
    /// is under way, then not before all are.
    fn take_later_move(&mut self, incoming: Incoming<'_>, source: Option<SocketAddr>, now: Now) {
        let Incoming { hash, host, tag, timestamp_secs, moved, .. } = incoming;
        let Some(ip) = self.hosts.get(host).map(|host| host.ip) else { return };
        let known = self.users.find(hash, tag).map_or(0, |slot| self.users.get(slot).timestamp_secs);
        let timestamp_secs = timestamp_secs.max(known);
        let line = Line::User { hash, host: ip, timestamp_secs: Some(u64::from(timestamp_secs)), moved: *moved };
        // It goes on before anything that is said of its kill.
        self.broadcast(&line, Except::Member(source));
        let generation = moved.generation.unwrap_or_default();
        self.begin_kill(hash, tag, Place { host, generation, timestamp_secs }, Mover::other(moved.of_move), now);
    }

    fn tell_merged(&mut self, merged: Merged, slot: Option<UserSlot>, except: Except, now: Now) {
        let user = |director: &Self| slot.map(|slot| director.users.get(slot));
        match merged {
            Merged::Unchanged | Merged::OursIsLater | Merged::TheirsIsLater => {}
            Merged::Added | Merged::Changed => {
                if let Some(user) = user(self) {
                    self.send_user(user, except);
                }
            }
            Merged::OursStands => {
                if let Some(user) = user(self) {
                    self.send_user(user, Except::Nobody);
                }
            }
            Merged::Conflict => {
                let Some(user) = user(self) else { return };
                let Some(winner) = self.hosts.get(user.host).map(|host| host.ip) else { return };
                let origin = self.new_origin();
                let line = Line::UserKickHash { origin, hash: user.hash, except: winner };
                self.broadcast(&line, Except::Nobody);
                self.kick(&Kick::Hash { hash: user.hash, except: Some(winner) }, Purpose::Other, now);
                self.send_user(user, Except::Nobody);
            }
        }
    }

    /// USER-WEAK.
    pub(crate) fn user_weak_received(
        &mut self,
        id: ConnectionId,
        seen: Seen,
        origin: Origin,
        hash: u32,
        host: IpAddr,
        now: Now,
    ) {
        let Some(number) = self.hosts.find(host) else { return };
        let Some(tag) = self.hosts.get(number).map(|host| host.tag) else { return };
        match seen {
            Seen::First(origin) => {
                let timestamp_secs = clamp_secs(now.unix_secs);
                let incoming = Incoming { hash, host: number, tag, timestamp_secs, weak: true, moved: &Moved::UNKNOWN };
                let (merged, slot) = self.merge_user(incoming, now);
                if merged == Merged::Added {
                    self.arm_expiry();
                }
                if slot.is_some_and(|slot| self.users.get(slot).weak) {
                    self.broadcast(&Line::UserWeak { origin, hash, host }, Except::Link(id));
                } else {
                    self.tell_merged(merged, slot, Except::Nobody, now);
                }
            }
            Seen::Again => {
                // It has to reach its originator; if that is gone, it ends here after a few rounds.
                let member = self.ring.members.get_mut(origin.address);
                if member.is_some_and(|member| member.may_repeat_weak(origin.seq)) {
                    self.broadcast(&Line::UserWeak { origin, hash, host }, Except::Link(id));
                }
            }
            Seen::Own => {
                // The whole ring has seen it: he is as good as refreshed everywhere.
                let Some(slot) = self.users.find(hash, tag) else { return };
                if !self.users.get(slot).weak || cfg!(feature = "canary-weak-not-cleared") {
                    return;
                }
                self.users.set_weak(slot, false);
                self.users.touch(slot, clamp_secs(now.unix_secs), now);
                let user = self.users.get(slot);
                self.send_user(user, Except::Nobody);
                self.retry_lookups_of(hash, now);
            }
        }
    }

    /// A user of a handshake.
    ///
    /// `heard`: whether others have to hear of him if he is added.
    fn handshake_user(
        &mut self,
        id: ConnectionId,
        user: &ToldUser,
        timestamp_secs: u64,
        weak: bool,
        heard: bool,
        now: Now,
    ) {
        let ToldUser { hash, host, place, ref moved, .. } = *user;
        if let Some(link) = self.link_mut(id) {
            link.users_received += 1;
        }
        let Some((number, tag)) = place else {
            // The host was removed while the list was on its way, or it joins us with hosts that we do not take over.
            if let Some(link) = self.link_mut(id) {
                link.unknown_host_users += 1;
                if link.unknown_host_users == 1 {
                    warn!(
                        "{}: A user of the handshake is on host {host}, which we do not know: ignored",
                        Label(self, id)
                    );
                }
            }
            return;
        };
        let timestamp_secs = clamp_secs(timestamp_secs.min(now.unix_secs));
        if self.is_expired(timestamp_secs, now) && !self.is_kept_by_move(hash, number, moved) {
            return;
        }
        let incoming = Incoming { hash, host: number, tag, timestamp_secs, weak, moved };
        let (merged, slot) = self.merge_user(incoming, now);
        if merged == Merged::Added && !heard && !weak {
            return;
        }
        let (source, known_to) = self.link(id).map_or((None, None), |link| (link.member, link.known_to));
        match merged {
            Merged::Added if !weak => {
                self.tell_merged(merged, slot, Except::MemberAndLink(source, known_to), now);
            }
            // What is news to us may be news to those behind us: two rings become one, or they have just started as we have.
            Merged::Added | Merged::Changed | Merged::Conflict => {
                self.tell_merged(merged, slot, Except::Member(source), now);
            }
            Merged::TheirsIsLater => self.take_later_move(incoming, source, now),
            // And what is not may be the other way round.
            Merged::OursIsLater => self.answer_user(id, slot),
            Merged::Unchanged | Merged::OursStands => {}
        }
    }

    /// Whether there is a link on which users that a handshake adds have to be told.
    fn others_hear_of_added_users(&self, id: ConnectionId) -> bool {
        let (source, known_to) = self.link(id).map_or((None, None), |link| (link.member, link.known_to));
        self.has_audience(Except::MemberAndLink(source, known_to))
    }

    /// Puts what somebody says of a user and what we have together. Returns what came of it and where the user is; nowhere, if he
    /// is not known and is not to be added yet. Who calls arms the timer of his expiry, once for all that come together.
    fn merge_user(&mut self, incoming: Incoming<'_>, now: Now) -> (Merged, Option<UserSlot>) {
        let Incoming { hash, host, tag, timestamp_secs, weak, moved } = incoming;
        let known = self.users.find(hash, tag).map(|slot| (slot, self.users.get(slot)));
        let Some((slot, user)) = known else {
            return self.add_merged_user(incoming, now);
        };
        if moved.generation.is_none() && !weak && user.host != host {
            self.disbelieve_generations();
        }
        let generation = self.believed(moved.generation);
        if !user.killing && !user.weak && self.is_expired(user.timestamp_secs, now) {
            self.users.remove(slot);
            return self.add_merged_user(incoming, now);
        }
        let mut merged = Merged::Unchanged;
        if weak {
            if user.weak {
                if user.host != host {
                    self.put_user(slot, host, generation);
                    merged = Merged::Changed;
                }
            } else if user.killing || self.is_recently_updated(user.timestamp_secs, now) {
                return (Merged::OursStands, Some(slot));
            } else {
                self.put_user(slot, host, generation.or(Some(user.generation).filter(|_| user.host == host)));
                self.users.set_weak(slot, true);
                merged = Merged::Changed;
            }
            return (merged, Some(slot));
        }
        if user.weak {
            self.put_user(slot, host, generation.or(Some(user.generation).filter(|_| user.host == host)));
            self.users.set_weak(slot, false);
            merged = Merged::Changed;
        } else if let Some(later) = generation.and_then(|generation| self.merge_later(incoming, generation, &user)) {
            match later {
                // Nobody is moved by it.
                Merged::Changed => self.users.set_generation(slot, generation.unwrap_or_default()),
                Merged::TheirsIsLater if !user.killing && self.kills.has_ended(hash, tag, moved.of_move) => {
                    // That move has ended here, and he was given his backend since.
                    self.users.set_generation(slot, generation.unwrap_or_default().next());
                    return (Merged::OursIsLater, Some(slot));
                }
                later => {
                    if later == Merged::OursIsLater {
                        self.note_contradiction(incoming, generation.unwrap_or_default());
                    }
                    return (later, Some(slot));
                }
            }
            merged = Merged::Changed;
        } else if user.host != host {
            if let Some(kill) = self.kill(hash, tag) {
                // They have not heard of the move yet, and what would tell them of it can't be said in this ring.
                kill.contradicted = true;
                return (Merged::Unchanged, Some(slot));
            }
            if self.is_near_expiry(user.timestamp_secs, now) {
                self.put_user(slot, host, generation);
                merged = Merged::Changed;
            } else {
                let address = |number| self.hosts.get(number).map(|host| host.ip);
                let (ours, theirs) = (address(user.host), address(host));
                error!(
                    "User hash {hash} is being redirected to two hosts: {} and {}",
                    ours.map_or(String::new(), |ip| ip.to_string()),
                    theirs.map_or(String::new(), |ip| ip.to_string())
                );
                if theirs < ours || cfg!(feature = "canary-lower-ip-not-preferred") {
                    self.put_user(slot, host, generation);
                }
                merged = Merged::Conflict;
            }
        }
        // Whoever waits for the answer about a weak user refreshes him by going on. If its time did not count for
        // that, he would be near expiry still, and the ring would be asked again, for ever.
        let refresh_secs =
            if user.weak && self.has_lookups_of(hash, tag) { clamp_secs(now.unix_secs) } else { timestamp_secs };
        if refresh_secs > user.timestamp_secs || cfg!(feature = "canary-user-timestamp-not-compared") {
            self.users.touch(slot, refresh_secs, now);
            if merged == Merged::Unchanged {
                merged = Merged::Changed;
            }
        }
        if user.weak {
            self.retry_lookups_of(hash, now);
            return (merged, self.users.find(hash, tag));
        }
        (merged, Some(slot))
    }

    /// Somebody has a user elsewhere than where he moves to. The move stands; but it may take longer than users are kept, and
    /// may have ended where that was said: then nothing else tells where he is when it ends here.
    fn note_contradiction(&mut self, incoming: Incoming<'_>, generation: Generation) {
        let Incoming { hash, host, timestamp_secs, .. } = incoming;
        let Some((tag, ip)) = self.hosts.get(host).map(|host| (host.tag, host.ip)) else { return };
        if let Some(kill) = self.kill(hash, tag) {
            kill.elsewhere = Some(Elsewhere { ip, generation, timestamp_secs });
        }
    }

    /// A user's kill is over. If his time has run out during it, then what others have said of him meanwhile counts.
    pub(crate) fn place_elsewhere(&mut self, slot: UserSlot, elsewhere: Elsewhere, now: Now) {
        let Elsewhere { ip, generation, timestamp_secs } = elsewhere;
        let user = self.users.get(slot);
        let number =
            self.hosts.find(ip).filter(|&number| self.hosts.get(number).is_some_and(|host| host.tag == user.tag));
        if let Some(number) = number
            && self.is_expired(user.timestamp_secs, now)
            && !self.is_expired(timestamp_secs, now)
        {
            self.put_user(slot, number, Some(generation));
            self.users.touch(slot, timestamp_secs, now);
        }
    }

    /// What comes of it if one of the two backends stands because of a move.
    fn merge_later(&self, incoming: Incoming<'_>, generation: Generation, user: &User) -> Option<Merged> {
        let Incoming { host, moved, .. } = incoming;
        let order = self.compare_places(host, generation, user);
        // Without a move, a conflict has another end: who has a session there keeps it.
        let same_move = generation == user.generation && !user.killing;
        match order {
            Ordering::Greater
                if user.host == host
                    && (moved.of_move.is_none()
                        || !user.killing && self.kills.has_ended(user.hash, user.tag, moved.of_move)) =>
            {
                Some(Merged::Changed)
            }
            Ordering::Greater if !same_move => Some(Merged::TheirsIsLater),
            Ordering::Less if user.host != host && !same_move => Some(Merged::OursIsLater),
            _ => None,
        }
    }

    /// Gives a user the backend that another director says.
    fn put_user(&mut self, slot: UserSlot, host: HostNumber, generation: Option<Generation>) {
        self.users.set_host(slot, host);
        self.users.set_generation(slot, generation.unwrap_or_default());
    }

    /// The backend that a user is on is that of another generation.
    pub(crate) fn take_generation(&mut self, hash: u32, tag: TagNumber, generation: Generation) {
        if let Some(slot) = self.users.find(hash, tag) {
            self.users.set_generation(slot, generation);
        }
    }

    fn add_merged_user(&mut self, incoming: Incoming<'_>, now: Now) -> (Merged, Option<UserSlot>) {
        let Incoming { hash, host, tag, timestamp_secs, weak, moved } = incoming;
        let generation = self.believed(moved.generation);
        let user =
            User { hash, tag, host, timestamp_secs, weak, killing: false, generation: generation.unwrap_or_default() };
        // A move that has ended here is not begun anew.
        if generation.is_some() && moved.of_move.is_some() && !self.kills.has_ended(hash, tag, moved.of_move) {
            return (Merged::TheirsIsLater, None);
        }
        (Merged::Added, Some(self.users.add(user, now)))
    }

    /// Adds a user who is not in the map.
    pub(crate) fn add_user(&mut self, user: User, now: Now) -> UserSlot {
        let slot = self.users.add(user, now);
        self.arm_expiry();
        slot
    }

    /// Users were added, who may expire before all others: in a handshake they come with old timestamps.
    fn arm_expiry(&mut self) {
        if let Some(at) = self.users.next_expiry() {
            self.timers.set_earlier(Timer::UserExpiry, at);
        }
    }

    /// Drops the users whose time has come, a batch at a time.
    pub(crate) fn expire_users(&mut self, now: Now) {
        let expire_secs = self.tuning.user_expire_secs;
        let more = self.users.expire(now, EXPIRE_BATCH, |user| {
            let expired_for = now.unix_secs.saturating_sub(u64::from(user.timestamp_secs) + u64::from(expire_secs));
            if user.killing {
                return Expired::Keep { secs: 1 };
            }
            if user.weak {
                if expired_for < u64::from(WEAK_KEEP_SECS) {
                    return Expired::Keep { secs: WEAK_KEEP_SECS };
                }
                warn!("User hash {} was weak for too long: dropped", user.hash);
            }
            Expired::Drop
        });
        if more {
            self.timers.set(Timer::UserExpiry, now.instant + BATCH_PAUSE);
        } else if let Some(at) = self.users.next_expiry() {
            self.timers.set(Timer::UserExpiry, at.max(now.instant + BATCH_PAUSE));
        }
    }

    /// Slots of retired users are to be freed.
    pub(crate) fn want_sweep(&mut self) {
        self.sweep_wanted = true;
    }

    /// Frees slots of retired users, a batch at a time.
    pub(crate) fn sweep(&mut self, now: Now) {
        let mut done = Vec::new();
        self.users.sweep(SWEEP_BATCH, &mut done);
        for number in done {
            self.hosts.release(number);
        }
        if self.users.needs_sweep() {
            self.timers.set(Timer::Sweep, now.instant + BATCH_PAUSE);
        }
    }

    /// Frees all slots of retired users at once.
    pub(crate) fn sweep_all(&mut self) {
        let mut done = Vec::new();
        while self.users.needs_sweep() {
            self.users.sweep(SWEEP_BATCH, &mut done);
        }
        for number in done {
            self.hosts.release(number);
        }
    }

    /// "This user is still here": refreshes him wherever he is known.
    pub(crate) fn notify_user(&mut self, username: &[u8], now: Now) {
        let hash = self.tuning.username_hash.hash(username);
        for tag in 0..self.hosts.tag_count() {
            let tag = TagNumber(u16::try_from(tag).unwrap_or(u16::MAX));
            let Some(slot) = self.users.find(hash, tag) else { continue };
            let user = self.users.get(slot);
            if self.is_expired(user.timestamp_secs, now) {
                warn!("User hash {hash} was notified after he had expired: is proxy_refresh too long?");
            }
            self.users.touch(slot, user.timestamp_secs.max(clamp_secs(now.unix_secs)), now);
            let user = self.users.get(slot);
            if !user.weak {
                self.tell_user(slot, user, now);
            }
        }
    }
}

/// Unix seconds as the map keeps them: enough until the year 2106, saturating there.
pub(crate) fn clamp_secs(secs: u64) -> u32 {
    u32::try_from(secs).unwrap_or(u32::MAX)
}
