//! Moving users to another backend: nobody gets in at the new one before all his sessions at the old one are gone,
//! everywhere (ring protocol, "Moves and kills").

use std::cmp::Ordering;
use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use log::{debug, error, info, warn};

use crate::contract::ConnectionId;
use crate::director::Director;
use crate::flush::Request;
use crate::hosts::{HostNumber, TagNumber};
use crate::kick::{Command as Kick, ForKill, Purpose};
use crate::resets::ResetNumber;
use crate::ring::commands::Except;
use crate::ring::link::Label;
use crate::ring::users::clamp_secs;
use crate::time::{Instant, Now};
use crate::timers::Timer;
use crate::users::{Generation, User};
use crate::wire::ring::{KillToken, Line, Moved, Origin, minor};

/// A move may take this long; then it is given up.
const KILL_TIMEOUT: Duration = Duration::from_secs(30);
/// A user who was looked up so recently, beyond the kick delay, may be on his way to his backend, where no kick finds
/// him yet: he counts as having a session.
const LOGIN_MARGIN_SECS: u64 = 1;

/// A move that has ended here is remembered for so long: it has ended or was given up everywhere by then.
const ENDED_KEPT: Duration = Duration::from_secs(60);

/// How far a kill has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// His local sessions are being kicked.
    Killing,
    /// The same, and USER-KILLED has come meanwhile.
    NotifyReceived,
    /// His local sessions are gone; the originator has not said so of its own yet.
    WaitingForNotify,
    /// We have said that ours are gone, and wait to hear that all are.
    WaitingForEveryone,
    /// All are gone; the flush script is told.
    Flushing,
    /// All are gone; the backend gets time to notice.
    Delay,
}

impl fmt::Display for State {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Killing => "killing",
            Self::NotifyReceived => "notify-received",
            Self::WaitingForNotify => "waiting-for-notify",
            Self::WaitingForEveryone => "waiting-for-everyone",
            Self::Flushing => "flushing",
            Self::Delay => "delay",
        })
    }
}

/// The backend that a user leaves, as it was then.
#[derive(Clone, Copy, Debug)]
struct OldHost {
    ip: IpAddr,
    down: bool,
    vhosts: u32,
}

/// Whose move it is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Mover {
    /// Its USER-MOVE. `None`: it is over elsewhere, and we have not heard of it.
    pub(crate) of_move: Option<Origin>,
    /// That was ours.
    pub(crate) is_ours: bool,
    /// The drain that it is part of.
    pub(crate) reset: Option<ResetNumber>,
}

impl Mover {
    /// Another director's.
    pub(crate) fn other(of_move: Option<Origin>) -> Self {
        Self { of_move, is_ours: false, reset: None }
    }
}

/// Where a user is, or is said to be, by which of his moves, and when he was last seen.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    pub(crate) host: HostNumber,
    pub(crate) generation: Generation,
    pub(crate) timestamp_secs: u32,
}

/// Where others have a user while he moves.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Elsewhere {
    pub(crate) ip: IpAddr,
    pub(crate) generation: Generation,
    pub(crate) timestamp_secs: u32,
}

/// What comes of a move, next to what we have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    /// Another stands, or we have heard of it otherwise.
    Nothing,
    /// The kill that is running goes on for the new backend.
    Redirect(Generation),
    /// A kill begins, in the place of one that is running.
    Begin(Generation),
}

/// A user's kill.
#[derive(Debug)]
pub(crate) struct Kill {
    pub(crate) state: State,
    /// The USER-MOVE that it belongs to. `None`: others have ended the move already, and nobody waits for us.
    pub(crate) of_move: Option<Origin>,
    /// That was ours.
    pub(crate) is_ours: bool,
    /// Earlier moves whose kills have not ended when this one took their place.
    earlier: Vec<Origin>,
    /// Tells this kill from an earlier one of the same user.
    number: u64,
    started: Instant,
    old_host: Option<OldHost>,
    /// How many sessions were kicked here. `None`: we can't tell.
    pub(crate) kicked: Option<u32>,
    /// USER-KILLED that came while we were not ready to send it on, or had no right to send it to; without what
    /// version 1.10 says in it, if it came so.
    pub(crate) held: Option<Option<KillToken>>,
    /// The last USER-KILLED of each starter that was here.
    pub(crate) passed: Vec<Origin>,
    /// On which link we have said USER-KILLED with a name, and how many bytes that link has taken when that is sent.
    pub(crate) said: Option<(ConnectionId, u64)>,
    /// His sessions are gone on all others.
    pub(crate) everywhere_else: bool,
    /// He had no session anywhere.
    pub(crate) idle: bool,
    /// Somebody has said that the user is elsewhere, and could not be told of the move: no such line is known to him.
    pub(crate) contradicted: bool,
    /// Where somebody has said last that he is.
    pub(crate) elsewhere: Option<Elsewhere>,
    /// The drain that it is part of.
    reset: Option<ResetNumber>,
}

/// The kills under way.
#[derive(Debug, Default)]
pub(crate) struct Kills {
    pub(crate) by_user: BTreeMap<(u32, TagNumber), Kill>,
    /// Each user's last move that has ended here after his local sessions: USER-KILLED of it may still come.
    ended: BTreeMap<(u32, TagNumber), Ended>,
    /// When they ended, in that order.
    ended_at: VecDeque<(Instant, u32, TagNumber)>,
    next_number: u64,
}

/// A move that has ended here.
#[derive(Debug)]
struct Ended {
    /// And the earlier ones whose place it has taken.
    moves: Vec<Origin>,
    passed: Vec<Origin>,
    at: Instant,
}

impl Kills {
    /// The tags in which a kill of this hash is under way.
    pub(crate) fn tags_of(&self, hash: u32) -> Vec<TagNumber> {
        self.by_user.range((hash, TagNumber(0))..=(hash, TagNumber(u16::MAX))).map(|(&(_, tag), _)| tag).collect()
    }

    /// What there is to say of how a user came to his backend, in a ring whose lowest minor version is that.
    pub(crate) fn moved(&self, user: User, lowest_minor: u32) -> Moved {
        if lowest_minor < minor::KILL_NAMES {
            return Moved::UNKNOWN;
        }
        let kill = self.by_user.get(&(user.hash, user.tag)).filter(|_| user.killing);
        Moved { generation: Some(user.generation), of_move: kill.and_then(|kill| kill.of_move) }
    }

    /// If that move of the user has ended here: the last USER-KILLED of each starter that was here.
    pub(crate) fn passed_of_ended(&mut self, hash: u32, tag: TagNumber, of_move: Origin) -> Option<&mut Vec<Origin>> {
        self.ended.get_mut(&(hash, tag)).filter(|ended| ended.moves.contains(&of_move)).map(|ended| &mut ended.passed)
    }

    /// Whether that move of the user has ended here, a short while ago.
    pub(crate) fn has_ended(&self, hash: u32, tag: TagNumber, of_move: Option<Origin>) -> bool {
        let ended = self.ended.get(&(hash, tag));
        of_move.zip(ended).is_some_and(|(of_move, ended)| ended.moves.contains(&of_move))
    }

    /// A move ends here, and his local sessions have ended.
    fn remember_end(&mut self, hash: u32, tag: TagNumber, now: Now) {
        while let Some(&(at, hash, tag)) = self.ended_at.front()
            && at + ENDED_KEPT <= now.instant
        {
            self.ended_at.pop_front();
            if self.ended.get(&(hash, tag)).is_some_and(|ended| ended.at == at) {
                self.ended.remove(&(hash, tag));
            }
        }
        if let Some(kill) = self.by_user.get_mut(&(hash, tag)) {
            let passed = std::mem::take(&mut kill.passed);
            let mut moves = std::mem::take(&mut kill.earlier);
            moves.extend(kill.of_move);
            if moves.is_empty() {
                return;
            }
            self.ended.insert((hash, tag), Ended { moves, passed, at: now.instant });
            self.ended_at.push_back((now.instant, hash, tag));
        }
    }
}

impl Director {
    /// USER-MOVE of the ring.
    pub(crate) fn user_move_received(
        &mut self,
        id: ConnectionId,
        origin: Origin,
        hash: u32,
        ip: IpAddr,
        generation: Option<Generation>,
        now: Now,
    ) {
        let source = self.link(id).and_then(|link| link.member);
        let Some(host) = self.hosts.find(ip) else {
            warn!("{}: USER-MOVE of user hash {hash} to {ip}, which is not there: ignored", Label(self, id));
            return;
        };
        // The move goes on before anything that is said of its kill.
        self.broadcast(&Line::UserMove { origin, hash, host: ip, generation }, Except::Member(source));
        self.move_user(hash, host, self.believed(generation), Mover::other(Some(origin)), now);
    }

    /// Moves a user for an administrator.
    pub(crate) fn originate_move(&mut self, hash: u32, host: HostNumber, reset: Option<ResetNumber>, now: Now) {
        let Some((tag, ip)) = self.hosts.get(host).map(|host| (host.tag, host.ip)) else { return };
        let origin = self.new_origin();
        let known = self.users.find(hash, tag).map(|slot| self.users.get(slot).generation);
        let generation = self.believed(Some(known.unwrap_or_default().next()));
        self.broadcast(&Line::UserMove { origin, hash, host: ip, generation }, Except::Nobody);
        self.move_user(hash, host, generation, Mover { of_move: Some(origin), is_ours: true, reset }, now);
    }

    /// A generation, if all of the ring know them. In a mixed ring the others decide without, and we as they do.
    pub(crate) fn believed(&self, generation: Option<Generation>) -> Option<Generation> {
        generation.filter(|_| self.lowest_minor() >= minor::KILL_NAMES)
    }

    /// The lowest minor version in the ring, as far as we know: that of our last SYNC, which may have come round before an
    /// older member was there, or of a neighbour.
    pub(crate) fn lowest_minor(&self) -> u32 {
        let neighbours = [self.ring.left, self.ring.right].into_iter().flatten();
        let minors = neighbours.filter_map(|id| self.link(id).and_then(|link| link.minor));
        minors.fold(self.ring.min_minor, u32::min)
    }

    /// Somebody has decided about a user without generations. Who decides with them would not end where he does, and the two
    /// would tell each other so for ever. So we do without, too, until our SYNC has found out who is there.
    pub(crate) fn disbelieve_generations(&mut self) {
        if self.ring.min_minor >= minor::KILL_NAMES {
            self.ring.min_minor = minor::KILL_NAMES - 1;
            self.want_sync();
        }
    }

    /// Which of two backends of a user stands, that one (`Greater`) or what we have: that of the later move, and of two
    /// that were made at once the lower one, as in other conflicts.
    pub(crate) fn compare_places(&self, host: HostNumber, generation: Generation, user: &User) -> Ordering {
        let address = |number| self.hosts.get(number).map(|host| host.ip);
        generation.compare(user.generation).then_with(|| address(user.host).cmp(&address(host)))
    }

    /// Gives a user another backend, and starts his kill.
    pub(crate) fn move_user(
        &mut self,
        hash: u32,
        host: HostNumber,
        generation: Option<Generation>,
        mover: Mover,
        now: Now,
    ) {
        let Some(tag) = self.hosts.get(host).map(|host| host.tag) else { return };
        let timestamp_secs = clamp_secs(now.unix_secs);
        match self.judge_move(hash, tag, host, generation, mover.of_move) {
            Verdict::Begin(generation) => {
                self.begin_kill(hash, tag, Place { host, generation, timestamp_secs }, mover, now);
                return;
            }
            Verdict::Redirect(generation) => {
                self.place_user(hash, tag, Place { host, generation, timestamp_secs }, now);
            }
            Verdict::Nothing => {}
        }
        if let Some(reset) = mover.reset {
            self.reset_move_ended(reset);
        }
    }

    /// What comes of a move. Members hear two of them in different orders, and all must end on the same backend.
    fn judge_move(
        &mut self,
        hash: u32,
        tag: TagNumber,
        host: HostNumber,
        generation: Option<Generation>,
        of_move: Option<Origin>,
    ) -> Verdict {
        let known = self.users.find(hash, tag).map(|slot| self.users.get(slot));
        let Some(user) = known else {
            return Verdict::Begin(generation.unwrap_or(Generation::NEVER.next()));
        };
        let next = user.generation.next();
        let Some(generation) = generation else {
            return if user.killing { Verdict::Redirect(next) } else { Verdict::Begin(next) };
        };
        let order = self.compare_places(host, generation, &user);
        let has_ended = self.kills.has_ended(hash, tag, of_move);
        match (self.kill(hash, tag), order) {
            (_, Ordering::Greater) => Verdict::Begin(generation),
            (Some(kill), Ordering::Equal) => {
                // It is over elsewhere, we had heard; but not for who has sent this.
                kill.of_move = kill.of_move.or(of_move);
                Verdict::Nothing
            }
            // The first one has been everywhere, so the second was meant, and its director knew less than we do.
            (Some(kill), Ordering::Less) if matches!(kill.state, State::Flushing | State::Delay) => {
                Verdict::Begin(next)
            }
            (Some(_), Ordering::Less) => Verdict::Nothing,
            (None, _) if has_ended => Verdict::Nothing,
            (None, _) if user.host == host => Verdict::Begin(user.generation),
            (None, _) => Verdict::Begin(next),
        }
    }

    /// Puts a user on a backend. Returns what was known of him.
    fn place_user(&mut self, hash: u32, tag: TagNumber, place: Place, now: Now) -> Option<User> {
        let Place { host, generation, timestamp_secs } = place;
        let Some(slot) = self.users.find(hash, tag) else {
            let user = User { hash, tag, host, timestamp_secs, weak: false, killing: false, generation };
            self.add_user(user, now);
            return None;
        };
        let user = self.users.get(slot);
        self.users.set_host(slot, host);
        self.users.set_generation(slot, generation);
        self.users.set_weak(slot, false);
        self.users.touch(slot, user.timestamp_secs.max(timestamp_secs), now);
        Some(user)
    }

    /// A user's sessions are to be ended before he is let in at a backend: nobody is until then. A kill of his that is
    /// running ends unfinished, for this one has to end what began since, and has its own time.
    pub(crate) fn begin_kill(&mut self, hash: u32, tag: TagNumber, place: Place, mover: Mover, now: Now) {
        let Mover { of_move, is_ours, reset } = mover;
        let Some(ip) = self.hosts.get(place.host).map(|host| host.ip) else { return };
        let mut old_host = None;
        let mut recent = false;
        if let Some(user) = self.place_user(hash, tag, place, now) {
            if user.host != place.host {
                old_host =
                    self.hosts.get(user.host).map(|host| OldHost { ip: host.ip, down: host.down, vhosts: host.vhosts });
            }
            let margin = self.tuning.user_kick_delay.as_secs() + LOGIN_MARGIN_SECS;
            recent = u64::from(user.timestamp_secs) + margin >= now.unix_secs;
        }
        debug!("User hash {hash} is moved to {ip}");
        if let Some(slot) = self.users.find(hash, tag) {
            self.users.set_killing(slot, true);
        }
        let number = self.kills.next_number;
        self.kills.next_number += 1;
        let mut kill = Kill {
            state: State::Killing,
            of_move,
            is_ours,
            earlier: Vec::new(),
            number,
            started: now.instant,
            old_host,
            kicked: if recent { None } else { Some(0) },
            held: None,
            passed: Vec::new(),
            said: None,
            everywhere_else: false,
            idle: false,
            contradicted: false,
            elsewhere: None,
            reset,
        };
        let replaced = self.drop_kill(hash, tag);
        if let Some(earlier) = replaced {
            // Who has said that his sessions are gone did not mean those on the backend between.
            kill.old_host = earlier.old_host.or(old_host);
            kill.kicked = None;
            kill.held = earlier.held.filter(Option::is_some);
            kill.passed = earlier.passed;
            kill.contradicted = earlier.contradicted;
            kill.earlier = earlier.earlier;
            kill.earlier.extend(earlier.of_move.filter(|earlier| Some(*earlier) != of_move));
            if let Some(reset) = earlier.reset {
                self.reset_move_ended(reset);
            }
        }
        let old_host = kill.old_host;
        self.kills.by_user.insert((hash, tag), kill);
        self.timers.set(Timer::KillTimeout(hash, tag), now.instant + KILL_TIMEOUT);
        let for_kill = ForKill { hash, tag, number };
        // If he is not known here, or to be there already: sessions outlive what is known of users, after a restart, or
        // when somebody had them forgotten.
        let except = if old_host.is_some() { None } else { Some(ip) };
        self.kick(&Kick::Hash { hash, except }, Purpose::Kill(for_kill), now);
        if cfg!(feature = "canary-user-killed-too-early") {
            self.kill_kicked(for_kill, None, now);
        }
    }

    pub(crate) fn kill(&mut self, hash: u32, tag: TagNumber) -> Option<&mut Kill> {
        self.kills.by_user.get_mut(&(hash, tag))
    }

    /// Whether a kill is still under way, and not done with the sessions here.
    pub(crate) fn kill_waits_for_kick(&mut self, ForKill { hash, tag, number }: ForKill) -> bool {
        let waits = |kill: &Kill| matches!(kill.state, State::Killing | State::NotifyReceived);
        self.kill(hash, tag).is_some_and(|kill| kill.number == number && waits(kill))
    }

    /// A user's local sessions have been kicked: so many, or it is not known.
    pub(crate) fn kill_kicked(&mut self, for_kill: ForKill, kicked: Option<u32>, now: Now) {
        let ForKill { hash, tag, number } = for_kill;
        let alone = self.ring.is_alone();
        let Some(kill) = self.kill(hash, tag) else { return };
        if kill.number != number {
            // Another kill's late answer.
            return;
        }
        match kill.state {
            State::Killing | State::NotifyReceived => {
                kill.kicked = kill.kicked.and(kicked);
            }
            state => {
                debug!("User hash {hash}: a kick ended in state {state}: ignored");
                return;
            }
        }
        if alone || kill.of_move.is_none() {
            kill.idle = kill.kicked == Some(0);
            let held = kill.held.take();
            self.kill_everywhere(hash, tag, now);
            match held {
                Some(Some(token)) if !alone => self.send_killed_on(hash, tag, token),
                Some(None) if !alone => self.originate_killed_everywhere(hash, None),
                _ => {}
            }
        } else if kill.everywhere_else {
            self.kill_everywhere(hash, tag, now);
        } else if let Some(token) = kill.held.take() {
            self.pass_killed(hash, tag, token, now);
        } else if kill.is_ours {
            self.start_token(hash, tag, now);
        } else {
            kill.state = State::WaitingForNotify;
            self.arm_kill_retry(hash, tag, now);
        }
    }

    /// His sessions are gone everywhere: the flush script is told, or the old backend gets time to notice.
    pub(crate) fn kill_everywhere(&mut self, hash: u32, tag: TagNumber, now: Now) {
        let Some(kill) = self.kills.by_user.get(&(hash, tag)) else { return };
        let for_kill = ForKill { hash, tag, number: kill.number };
        self.timers.clear(Timer::KillRetry(hash, tag));
        if kill.is_ours
            && let Some(old) = kill.old_host
            && let Some(slot) = self.users.find(hash, tag)
            && let Some(new) = self.hosts.get(self.users.get(slot).host)
        {
            let request = Request {
                hash,
                old_ip: old.ip,
                old_down: old.down,
                old_vhosts: old.vhosts,
                new_ip: new.ip,
                new_hostname: new.hostname.clone(),
            };
            if self.start_flush(for_kill, &request) {
                if let Some(kill) = self.kill(hash, tag) {
                    kill.state = State::Flushing;
                }
                return;
            }
        }
        self.start_delay(hash, tag, now);
    }

    /// The flush script has ended.
    pub(crate) fn flush_finished(&mut self, for_kill: ForKill, succeeded: bool, now: Now) {
        let ForKill { hash, tag, number } = for_kill;
        let Some(kill) = self.kill(hash, tag) else { return };
        if kill.number != number || kill.state != State::Flushing {
            return;
        }
        // There is no script to end any more.
        kill.state = State::Delay;
        if succeeded {
            self.kill_done(hash, tag, now);
        } else {
            self.start_delay(hash, tag, now);
        }
    }

    fn start_delay(&mut self, hash: u32, tag: TagNumber, now: Now) {
        let delay = self.tuning.user_kick_delay;
        let Some(kill) = self.kill(hash, tag) else { return };
        if kill.idle {
            // Nobody had a session of his: there is nothing that a backend could have to notice.
            self.kill_done(hash, tag, now);
            return;
        }
        kill.state = State::Delay;
        self.timers.set(Timer::KillDelay(hash, tag), now.instant + delay);
    }

    /// A kill has come to its end.
    pub(crate) fn kill_done(&mut self, hash: u32, tag: TagNumber, now: Now) {
        if let Some(kill) = self.kills.by_user.get(&(hash, tag)) {
            let took = now.instant.saturating_since(kill.started).as_secs_f64();
            debug!("User hash {hash} has moved, after {took:.3} secs");
        }
        self.kills.remember_end(hash, tag, now);
        self.finish_kill(hash, tag, now);
    }

    /// A kill has taken too long.
    pub(crate) fn kill_timed_out(&mut self, hash: u32, tag: TagNumber, now: Now) {
        if let Some(kill) = self.kills.by_user.get(&(hash, tag)) {
            error!(
                "Finishing the move of user hash {hash} timed out in state {} - its state may now be inconsistent",
                kill.state
            );
            if !matches!(kill.state, State::Killing | State::NotifyReceived) {
                self.kills.remember_end(hash, tag, now);
            }
        }
        self.finish_kill(hash, tag, now);
    }

    fn finish_kill(&mut self, hash: u32, tag: TagNumber, now: Now) {
        let kill = self.drop_kill(hash, tag);
        if let Some(slot) = self.users.find(hash, tag) {
            self.users.set_killing(slot, false);
            if let Some(elsewhere) = kill.as_ref().and_then(|kill| kill.elsewhere) {
                self.place_elsewhere(slot, elsewhere, now);
            }
            if kill.as_ref().is_some_and(|kill| kill.contradicted) {
                self.send_user(self.users.get(slot), Except::Nobody);
            }
        }
        self.retry_lookups_of(hash, now);
        if let Some(reset) = kill.and_then(|kill| kill.reset) {
            self.reset_move_ended(reset);
        }
    }

    /// Forgets a kill. Returns it.
    fn drop_kill(&mut self, hash: u32, tag: TagNumber) -> Option<Kill> {
        let kill = self.kills.by_user.remove(&(hash, tag))?;
        if kill.state == State::Flushing {
            // Nothing else bounds how long it runs.
            self.abort_flush(ForKill { hash, tag, number: kill.number });
        }
        self.timers.clear(Timer::KillDelay(hash, tag));
        self.timers.clear(Timer::KillRetry(hash, tag));
        self.timers.clear(Timer::KillTimeout(hash, tag));
        Some(kill)
    }

    /// A host's users are about to be forgotten, and their kills with them.
    pub(crate) fn forget_kills_of(&mut self, host: HostNumber) {
        let of_host = |&(hash, tag): &(u32, TagNumber)| {
            self.users.find(hash, tag).is_none_or(|slot| self.users.get(slot).host == host)
        };
        let gone: Vec<_> = self.kills.by_user.keys().copied().filter(of_host).collect();
        if !gone.is_empty() {
            info!("{} moves under way are forgotten with their users", gone.len());
        }
        for (hash, tag) in gone {
            if let Some(reset) = self.drop_kill(hash, tag).and_then(|kill| kill.reset) {
                self.reset_move_ended(reset);
            }
        }
    }
}
