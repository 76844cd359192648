//! A user never has sessions on two backends, unless something explains it, and then only for as long as it does.
//!
//! It is looked at whenever somebody is let in, and every second. All that counts is what has happened in the world:
//! which lines reached whom ([`claims`]), who could reach whom ([`reach`]), who died, what operators and login processes
//! did. What a director thinks of its ring does not count.
//!
//! A login at a director Z gives a user a second backend, while he has a session S on a first one. Each director that
//! holds that he is on the first (that was told so, and by whose clock it has not expired) should have told Z before Z
//! spoke: a ring that is synced knows what each of its members knows, and a director without a synced ring gives
//! backends to nobody whom it does not know. So each holder needs an excuse:
//!
//! * **Partition**, **Pause**: the network kept it from Z, also by way of others, or one of them stood still; now, or at
//!   most [`REJOIN_MICROS`] ago. Halves of a broken ring must both serve, and whoever does not move is given up by the
//!   others, who must serve on. Lines go by links: where a path is cut or a machine has lost power, they swallow what is
//!   sent on them, and until that is noticed whoever has no other is kept from those, too, whom it could reach.
//! * **News on its way**: it was told itself so lately, or Z has started so lately, that the line may not have gone round yet:
//!   the network's longest delay for each director, and what a slow reader adds. Resets and flapping lengthen this by nothing.
//!   And what has reached Z in the moment of its answer only was not what it answered from: answers that come out
//!   together wait for each other on their way to the login process. A way on which
//!   something has always waited for [`reach::LATE_MICROS`], because its reader is slow or there is more than the network takes, is
//!   a **late** one, however long that lasts: if the holder could tell Z by such ways only, at some time since it was told, it
//!   counts from the last such time on.
//! * **Being resolved**: the holder is Z itself, which was told of both backends, or has moved the user itself and was
//!   told of the first later, less than [`RESOLVE_MICROS`] ago (or has forgotten the second, or a third that it
//!   had decided for, by order as lately); or S is not older. A move also settles what Z was told of both before. What brought the second one about has been
//!   judged when it was first given. Or Z has the user on the second one already, and the holder was told of both less than
//!   [`RESOLVE_MICROS`] ago: of two in conflict only the winner is passed on, so who has that hears nothing of the loser,
//!   while its kick is under way, by late ways perhaps. If Z has been apart from the director of S after it knew, now or at most
//!   [`REJOIN_MICROS`] ago (**Partition**, **Pause**), that one could not be told to end S, and may have forgotten the
//!   user when the two meet again. If Z could tell it by late ways only, the kick was **on its way**.
//! * **Kick**: the director of S has asked for its end, and that has not come yet. (A move waits for it: see below.)
//! * **Clocks**: Z was told, but by its clock that has expired, and clocks are wrong in this run.
//! * **Older member**: one speaks a version below 1.9, where USER has no timestamp, or (for moves) below 1.10.
//! * **Operator**: users of the first backend were forgotten by order (HOST-FLUSH, HOST-REMOVE, a tag, a drain with
//!   nowhere to go) after S began or the holder was told. Nobody is kicked then: it excuses S to its end. If a backend was
//!   given different tags, directors that meet settle on one, and forget its users where it was another: so that is like an
//!   order, for as long as the news may go round. And a member that was taken out of the ring is apart from the others until
//!   it is back.
//!
//! A director that is the only one of its half, for all that it knows, has nobody to tell of a move: no line does. But it
//! asks for the user's sessions on *all* backends to be ended, which only moves do, and drains with nowhere to go (or on all
//! but one, if it moves somebody of whom it knows nothing). If a
//! holder has done that since it was last told that he is on the first backend, it does not hold it any more; S must run
//! beside a director that has been apart from the holder since then, now or at most [`REJOIN_MICROS`] ago
//! (**Partition**, **Pause**), or whose process did not run then (**Death**): that one could not be told. Or S runs beside
//! the holder itself, whose kick has not come to it yet, and Z has joined meanwhile: a handshake says that he moves from
//! version 1.10 on only (**Older member**), so until the move is [`GIVE_UP_MICROS`] old Z does not wait for it.
//!
//! If no director holds it any more, something must have happened to the director beside which S runs, since S began: it
//! died (**Death**), stood still, or was apart, or others could be told by late ways only (**News on its way**), so that
//! nobody was told in time that the user is still here. Login processes name
//! users and not backends, so nothing can bring such a session back to the ring's mind: it excuses S to its end.
//!
//! A **move** is stricter: from USER-MOVE on nobody is let in at the new backend while a session on the old one lives,
//! except where its kick failed (**Kick**), its director has died or was apart since the move, or the move is older than
//! [`GIVE_UP_MICROS`] (**Move given up**). That is so between directors that have heard of it: lines that were on their
//! way are lost when a link breaks, and a handshake tells where users are and not that they move. So if neither
//! USER-MOVE nor a USER-KILLED of it has reached Z or the director of S, or a link of that one has broken, or something
//! kept it from another, at most [`REJOIN_MICROS`] ago, be it before the move, so that the ring may have closed without
//! it and not have waited for it, they are judged like others;
//! and so is an S that began after its director had heard. An order to forget the users of the new backend ends the
//! move (**Operator**): what begins after that is none of its affair, and what was there before the move is known to
//! nobody then, whichever backend the user gets next. A kill has its 30 s from its kick on, which is with ipc at most
//! [`KICK_MICROS`] later.
//!
//! Once a second, users who *have* sessions on two backends are looked at: both backends have holders, and none of the two
//! sessions is excused to its end. If a holder of the one and a holder of the other are the same director or have not been
//! apart for [`REJOIN_MICROS`], they must have found the conflict, and kicked the loser's sessions [`RESOLVE_MICROS`]
//! after that. A kick that was asked for is the login process's affair.

pub mod cause;
pub mod claims;
pub mod handshakes;
pub mod reach;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use director_core::ConnectionId;
use director_core::wire::ring::Origin;

use crate::clients::Session;
use crate::invariants::ring::SETTLE_MAX_MICROS;
use crate::network::Passage;
use crate::plan::{Fault, Plan, SECOND};
pub use cause::Cause;
use claims::{Claims, Kill, Moved};
use handshakes::{Handshakes, Heard};
use reach::{Condition, Gap, Reach};

/// The name in reports.
pub const NAME: &str = "one backend";

/// After a partition or a standstill the ring may take so long to be one: then all that its members knew has been told.
pub const REJOIN_MICROS: u64 = SETTLE_MAX_MICROS;
/// A director that knows of two backends kicks at once; the kick goes round the ring, and ipc gets this long.
pub const RESOLVE_MICROS: u64 = 30 * SECOND;
/// A move may take this long (ring protocol, "Moves and kills").
pub const GIVE_UP_MICROS: u64 = 30 * SECOND;
/// An answer is with its login process after that, if it need not wait for others.
const ANSWER_MICROS: u64 = 100;
/// Few answers have more bytes.
const ANSWER_BYTES: usize = 100;
/// A kick is at ipc so long after its kill has begun: those of a drain, up to a hundred at once, wait for each other, for
/// the connection takes them in pieces of some dozen, each after 100 µs at most.
pub const KICK_MICROS: u64 = 2000;
/// What an order to forget users has reached after that.
const ORDER_MICROS: u64 = 2 * SECOND;
/// The first minor version in which USER has a timestamp.
const TIMESTAMPS: u32 = 9;
/// The first minor version in which USER-KILLED has a name.
const NAMES: u32 = 10;

/// The present, as the judge needs it.
#[derive(Debug)]
pub struct Moment<'a> {
    /// When, in microseconds.
    pub now: u64,
    /// What each director's clock says.
    pub clocks_secs: &'a [u64],
    /// Which directors' processes exist.
    pub alive: &'a [bool],
}

/// A move that lines told of.
#[derive(Clone, Debug)]
struct Move {
    backend: IpAddr,
    /// Whose it is, and the number it has there, of all who have moved him there at once: a copy of such a line may come late.
    origins: Vec<Origin>,
    started_micros: u64,
    /// When each director heard of it.
    heard: Vec<Option<u64>>,
}

impl Move {
    /// It had heard of it then.
    fn had_heard(&self, director: usize, then: u64) -> bool {
        self.heard[director].is_some_and(|at| at <= then)
    }
}

/// The judge.
#[derive(Debug)]
pub struct Backends {
    claims: Claims,
    handshakes: Handshakes,
    directors: usize,
    /// When a link of each director last broke.
    broken: Vec<Option<u64>>,
    /// When each director's processes ended, and when the next one started, if it has.
    ended: Vec<Vec<(u64, Option<u64>)>>,
    reach: Reach,
    moves: Vec<Option<Move>>,
    /// Until when orders to forget a backend's users may take effect.
    orders: BTreeMap<IpAddr, u64>,
    /// The same, for all backends.
    order_to_all: Option<u64>,
    on_its_way_micros: u64,
    answer_micros: u64,
    clocks_wrong: bool,
    lowest_minor: u32,
    reported: BTreeSet<(u64, u64)>,
}

impl Backends {
    /// Nobody was sent anywhere. `hashes` are those of the users.
    pub fn new(plan: &Plan, hashes: &[u32]) -> Self {
        Self {
            claims: Claims::new(plan.directors, hashes, plan.expire_secs).with_tags(plan.known_backends()),
            handshakes: Handshakes::new(plan.directors),
            directors: plan.directors,
            broken: vec![None; plan.directors],
            ended: vec![Vec::new(); plan.directors],
            reach: Reach::new(plan.directors),
            moves: vec![None; hashes.len()],
            orders: BTreeMap::new(),
            order_to_all: None,
            on_its_way_micros: on_its_way_micros(plan),
            answer_micros: answer_micros(plan),
            clocks_wrong: plan.faults.has(Fault::Clocks) || plan.faults.has(Fault::Steps),
            lowest_minor: plan.lowest_minor(),
            reported: BTreeSet::new(),
        }
    }

    /// Who lives, who moves, or who reaches whom may have changed.
    pub fn reach_changed(
        &mut self,
        now: u64,
        conditions: &[Condition],
        is_cut: impl Fn(usize, usize) -> bool,
        passages: &[Passage],
    ) {
        for (ended, condition) in self.ended.iter_mut().zip(conditions) {
            if !condition.alive && ended.last().is_none_or(|(_, started)| started.is_some()) {
                ended.push((now, None));
            }
        }
        self.reach.update(now, conditions, is_cut, passages);
    }

    /// The network has broken a link of these directors.
    pub fn link_broke(&mut self, ends: [usize; 2], now: u64) {
        for end in ends {
            self.broken[end] = Some(now);
        }
    }

    /// A director starts, knowing nothing but the backends of its configuration.
    pub fn starts(&mut self, director: usize, backends: BTreeSet<IpAddr>, now: u64) {
        if let Some((_, started)) = self.ended[director].last_mut() {
            *started = Some(now);
        }
        self.claims.forget(director, backends);
        self.handshakes.starts(director);
        for known in self.moves.iter_mut().flatten() {
            known.heard[director] = None;
        }
    }

    /// A director has been told of a backend by an operator.
    pub fn added(&mut self, director: usize, backend: IpAddr) {
        self.claims.add(director, backend);
    }

    /// A director has removed a backend, and forgotten its users.
    pub fn removed(&mut self, director: usize, backend: IpAddr) {
        self.claims.remove(director, backend);
    }

    /// A line of another director has reached one, by that connection.
    pub fn heard_on(&mut self, connection: ConnectionId, director: usize, line: &[u8], clock_secs: u64, now: u64) {
        match self.handshakes.hear(director, connection, line) {
            Heard::Ignored => return,
            Heard::Only(backends) => self.claims.keep_only(director, &backends),
            Heard::AsSaid => {}
        }
        self.heard(director, line, clock_secs, now);
    }

    /// A line of another director has reached one.
    pub fn heard(&mut self, director: usize, line: &[u8], clock_secs: u64, now: u64) {
        let moved = self.claims.hear(director, line, clock_secs, now);
        self.has_two_tags(now);
        match self.claims.kill(line) {
            Some(kill) => self.has_heard_of_kill(director, kill, now),
            None => self.has_moved(director, moved, line, now),
        }
    }

    /// A director has said something to another.
    pub fn said(&mut self, director: usize, line: &[u8], clock_secs: u64, now: u64) {
        let lines: [&[u8]; 4] = [b"USER-MOVE\t", b"USER-KILLED\t", b"HOST-REMOVE\t", b"HOST-FLUSH\t"];
        if lines.iter().any(|start| line.starts_with(start)) {
            self.heard(director, line, clock_secs, now);
        } else {
            self.claims.say(director, line, now);
            self.has_two_tags(now);
            self.handshakes.say(director, line);
        }
    }

    /// If a director has just seen a backend with another tag than before: its users are forgotten, by whoever hears of that.
    fn has_two_tags(&mut self, now: u64) {
        if let Some(backend) = self.claims.take_retagged() {
            let until = self.orders.entry(backend).or_default();
            *until = (*until).max(now + ORDER_MICROS.max(self.on_its_way_micros));
        }
    }

    fn has_heard_of_kill(&mut self, director: usize, kill: Kill, now: u64) {
        if let Some(known) = self.moves[kill.user].as_mut().filter(|known| kill.backend == known.backend) {
            known.heard[director].get_or_insert(now);
        }
    }

    fn has_moved(&mut self, director: usize, moved: Option<Moved>, line: &[u8], now: u64) {
        if let Some(Moved { user, backend, origin }) = moved {
            let directors = self.directors;
            let known = self.moves[user].get_or_insert_with(|| Move {
                backend,
                origins: Vec::new(),
                started_micros: now,
                heard: vec![None; directors],
            });
            let is_copy = known.origins.contains(&origin);
            let is_later = !is_copy && now >= known.started_micros + GIVE_UP_MICROS;
            if known.backend != backend || is_later {
                known.backend = backend;
                known.origins.clear();
                known.started_micros = now;
                known.heard.fill(None);
            }
            if !known.origins.contains(&origin) {
                known.origins.push(origin);
            }
            known.heard[director].get_or_insert(now);
        } else if line.starts_with(b"HOST-")
            && let Some(backend) = line.rsplit(|&byte| byte == b'\t').next()
            && let Some(backend) = std::str::from_utf8(backend).ok().and_then(|text| text.parse().ok())
            && (line.starts_with(b"HOST-REMOVE\t") || line.starts_with(b"HOST-FLUSH\t"))
        {
            self.ordered(Some(backend), now);
        }
    }

    /// A login process has told its director that a user is still here.
    pub fn mentioned(&mut self, director: usize, user: usize, clock_secs: u64, now: u64) {
        self.claims.mention(director, user, clock_secs, now);
    }

    /// A director asks for all of a user's sessions beside it to be ended, on whichever backend, or on all but one: it moves
    /// him, or, if it knows of him, has found him in conflict, or was told so.
    pub fn kicked_by(&mut self, director: usize, user: usize, except: Option<IpAddr>, clock_secs: u64, now: u64) {
        if except.is_some() && self.claims.knows(director, user, clock_secs) {
            return;
        }
        let told = self.moves[user].as_ref().filter(|known| now < known.started_micros.saturating_add(GIVE_UP_MICROS));
        self.claims.leave(director, user, except.or(told.map(|known| known.backend)), now);
    }

    /// An operator's order to forget the users of a backend, or of all, is at work, or has been until now.
    pub fn ordered(&mut self, backend: Option<IpAddr>, now: u64) {
        let until = now + ORDER_MICROS;
        match backend {
            Some(backend) => drop(self.orders.insert(backend, until)),
            None => self.order_to_all = Some(until),
        }
    }

    /// Somebody is let in, while these sessions of his live.
    ///
    /// # Errors
    /// Why he must not have been.
    pub fn let_in(&mut self, moment: &Moment<'_>, new: &Session, old: &[Session]) -> Result<Option<Cause>, String> {
        let mut result = Ok(None);
        for session in old.iter().filter(|session| session.backend != new.backend) {
            match self.excuse(moment, session, new) {
                Ok(cause) => {
                    if let Ok(known) = result {
                        result = Ok(Some(known.map_or(cause, |known: Cause| known.min(cause))));
                    }
                }
                Err(error) => result = Err(format!("{}: {error}", shown(session, new, moment.now))),
            }
        }
        let clock_secs = moment.clocks_secs[new.director];
        self.handshakes.serves(new.director);
        self.claims.note(new.director, new.user, new.backend, clock_secs, moment.now);
        result
    }

    fn excuse(&self, moment: &Moment<'_>, session: &Session, new: &Session) -> Result<Cause, String> {
        let now = moment.now;
        if session.unkicked {
            return Ok(Cause::Kick);
        }
        if let Some(cause) = self.move_excuse(moment, session, new)? {
            return Ok(cause);
        }
        if self.was_ordered(session.backend, session.start_micros) || self.move_was_ordered_away(session) {
            return Ok(Cause::Operator);
        }
        let holders: Vec<usize> = self.holders(moment, session.user, session.backend).collect();
        if holders.is_empty() {
            return self.forgotten(session);
        }
        let mut causes = Vec::new();
        for holder in holders {
            if self.came_too_late(holder, session, new) {
                causes.push(Cause::OnItsWay);
                continue;
            }
            if let Some(cause) = self.was_not_there(now, holder, session, new) {
                causes.push(cause);
                continue;
            }
            causes.push(if holder == new.director {
                self.knew_both(now, session, new)?
            } else if session.kick_asked {
                Cause::Kick
            } else {
                self.was_not_told(moment, holder, session, new)?
            });
        }
        Ok(causes.into_iter().min().expect("there is a holder"))
    }

    /// A director has let somebody in, and had been told of his other backend in the same moment only: what one round of
    /// input brings is taken line by line, and the line that made the ring synced may come first.
    fn came_too_late(&self, holder: usize, session: &Session, new: &Session) -> bool {
        holder == new.director
            && self.claims.told(holder, session.user, session.backend).is_some_and(|claim| {
                claim.again_micros.unwrap_or(claim.first_micros) + self.answer_micros >= new.start_micros
            })
    }

    /// `None`: the user was not moved to his new backend while the old session lived, or one of the two directors has not
    /// heard of it.
    fn move_excuse(&self, moment: &Moment<'_>, session: &Session, new: &Session) -> Result<Option<Cause>, String> {
        let Some(known) = self.moves[session.user].as_ref().filter(|known| known.backend == new.backend) else {
            return Ok(None);
        };
        if session.start_micros > known.started_micros + self.on_its_way_micros {
            return Ok(None);
        }
        let since = known.started_micros;
        if let Some(until) = self.ordered_until(new.backend).filter(|until| *until >= since) {
            return Ok((session.start_micros <= until).then_some(Cause::Operator));
        }
        let directors = [session.director, new.director];
        let gaps = directors.map(|director| self.reach.gap_of_since(director, since));
        Ok(Some(match gaps.into_iter().flatten().next() {
            _ if session.orphan => Cause::Death,
            Some(gap) => cause_of(gap),
            None if moment.now >= since + GIVE_UP_MICROS => Cause::GivenUp,
            None if self.lowest_minor < NAMES => Cause::Minor,
            // What was decided before the line came, also a moment before, was not decided by it.
            None if !known.had_heard(new.director, new.start_micros.saturating_sub(self.answer_micros)) => {
                return Ok(None);
            }
            None if known.heard[session.director].is_none() => return Ok(None),
            // The others go on without who is not in the ring, and do not wait for his kick.
            None if self.may_be_outside(session.director, moment.now) => return Ok(None),
            // And who begins there after it was heard is not there from before the move.
            None if known.had_heard(session.director, session.start_micros.saturating_sub(ANSWER_MICROS)) => {
                return Ok(None);
            }
            None if directors.iter().any(|&director| {
                self.kill_micros(known, director, session.user)
                    .is_some_and(|began| moment.now >= began + GIVE_UP_MICROS)
            }) =>
            {
                Cause::GivenUp
            }
            None => {
                let ago = (moment.now - since) / 1000;
                return Err(format!("he was moved there {ago} ms ago, and his old session has not been ended"));
            }
        }))
    }

    /// The ring may have closed without a director lately, and not have it again, or only since a move has begun: then it
    /// hears of that one from who lets it in, and a USER-KILLED may be past the place where it is now.
    fn may_be_outside(&self, director: usize, now: u64) -> bool {
        self.broken[director].is_some_and(|at| now < at + REJOIN_MICROS)
            || self.reach.gap_of_since(director, now.saturating_sub(REJOIN_MICROS)).is_some()
    }

    /// When the kill began that is running at a director that has heard of a move. Each begins with a kick; a director's
    /// own may begin long before the line is out.
    fn kill_micros(&self, known: &Move, director: usize, user: usize) -> Option<u64> {
        let heard = known.heard[director]?;
        let kicked = self.claims.moved_micros(director, user).filter(|at| heard < at + GIVE_UP_MICROS);
        // It is asked for in the same moment, but takes its way.
        Some(kicked.map_or(heard.saturating_sub(ANSWER_MICROS), |at| at.saturating_sub(KICK_MICROS)))
    }

    /// A user was moved away from a session's backend, and before that was done the backend that he moved to was
    /// forgotten: with it went all that was known of him.
    fn move_was_ordered_away(&self, session: &Session) -> bool {
        self.moves[session.user].as_ref().filter(|known| known.backend != session.backend).is_some_and(|known| {
            let until = self.ordered_until(known.backend);
            until.is_some_and(|until| {
                session.start_micros <= known.started_micros + self.on_its_way_micros
                    && known.started_micros <= until
                    && until <= known.started_micros + GIVE_UP_MICROS + ORDER_MICROS
            })
        })
    }

    /// Nobody knows of a session any more.
    fn forgotten(&self, session: &Session) -> Result<Cause, String> {
        let gap = self.reach.gap_of_since(session.director, session.start_micros);
        if session.orphan {
            return Ok(Cause::Death);
        }
        match gap {
            Some(gap) => Ok(cause_of(gap)),
            None if self.was_late_since(session.director, session.start_micros) => Ok(Cause::OnItsWay),
            None if session.kick_asked => Ok(Cause::Kick),
            None if self.clocks_wrong => Ok(Cause::Clocks),
            None if self.lowest_minor < TIMESTAMPS => Ok(Cause::Minor),
            None => Err("nobody knows of his old session, though nothing has happened to its director".to_owned()),
        }
    }

    /// A director has moved a user away from a backend since it was last told that he is there, and the director of his
    /// session there could not be told: it was apart, or its process did not run. Or that is the same director, it still
    /// waits for its kick, and who has come meanwhile can't be told that he moves.
    fn was_not_there(&self, now: u64, holder: usize, session: &Session, new: &Session) -> Option<Cause> {
        let left = self.claims.told(holder, session.user, session.backend)?.left_micros?;
        let is_its_own = holder == session.director && holder != new.director;
        if is_its_own && self.lowest_minor < NAMES && now < left + GIVE_UP_MICROS {
            return Some(Cause::Minor);
        }
        if let Some(gap) = self.gap_after(now, holder, session.director, left) {
            return Some(cause_of(gap));
        }
        let did_not_run = |(ended, started): &(u64, Option<u64>)| {
            *ended <= left && started.is_none_or(|at| left < at) && session.start_micros < *ended
        };
        self.ended[session.director].iter().any(did_not_run).then_some(Cause::Death)
    }

    /// What has kept two directors apart since then, now or at most [`REJOIN_MICROS`] ago.
    fn gap_after(&self, now: u64, a: usize, b: usize, since: u64) -> Option<Gap> {
        self.reach.gap_since(a, b, since.max(now.saturating_sub(REJOIN_MICROS)))
    }

    /// What a director has said since then may have come to another by late ways only, now or as long ago as a line may
    /// take that meets none.
    fn is_late(&self, now: u64, from: usize, to: usize, since: u64) -> bool {
        let last = self.reach.late_micros(from, to);
        last.is_some_and(|at| since <= at && now < at + self.on_its_way_micros)
    }

    /// What a director has said since then may have come to others by late ways only.
    fn was_late_since(&self, from: usize, since: u64) -> bool {
        (0..self.directors).any(|to| self.reach.late_micros(from, to).is_some_and(|at| since <= at))
    }

    /// The director that has let somebody in had been told of his other backend.
    fn knew_both(&self, now: u64, session: &Session, new: &Session) -> Result<Cause, String> {
        let told = |backend| self.claims.told(new.director, new.user, backend);
        let Some(old) = told(session.backend) else { return Ok(Cause::Conflict) };
        // Where it moved him, no line says if it had nobody to tell: then that it was told of the first later. That counts
        // also if it was told of both before: the move has settled that.
        let contradicted = || {
            let moved = self.claims.moved_micros(new.director, new.user)?;
            old.again_micros.or(Some(old.first_micros).filter(|first| *first > moved))
        };
        let both = told(new.backend).map(|claim| claim.first_micros.max(old.first_micros));
        // Nor if it has forgotten the second by order, and been told of it once more by a line that was older: orders are
        // known by their lines, and those may come out late.
        let ordered = || self.ordered_until(new.backend).filter(|until| now < until + RESOLVE_MICROS);
        // Nor if it had decided for a third one since, whose users it has forgotten by order.
        let third =
            || old.elsewhere_micros.filter(|since| self.was_ordered_elsewhere([session.backend, new.backend], *since));
        let known = both.max(contradicted()).or_else(|| ordered().map(|_| old.first_micros)).or_else(third);
        let known = known.map(|both| both.max(session.start_micros));
        match known {
            Some(since) if now < since + RESOLVE_MICROS => Ok(Cause::Conflict),
            // The kick that ends it comes to nobody who is apart from Z then.
            Some(since) if let Some(gap) = self.gap_after(now, new.director, session.director, since) => {
                Ok(cause_of(gap))
            }
            Some(since) if self.is_late(now, new.director, session.director, since) => Ok(Cause::OnItsWay),
            _ if session.kick_asked => Ok(Cause::Kick),
            _ if session.orphan => Ok(Cause::Death),
            _ if self.was_ordered(session.backend, old.first_micros) => Ok(Cause::Operator),
            _ if self.lowest_minor < TIMESTAMPS => Ok(Cause::Minor),
            _ if self.clocks_wrong => Ok(Cause::Clocks),
            Some(since) => {
                let secs = (now - since) / SECOND;
                Err(format!("d{} has known of both for {secs} s", new.director + 1))
            }
            None => Err(format!("d{} knew of the other", new.director + 1)),
        }
    }

    /// A director knew of a user's other backend, and the one that has let him in was not told of it.
    fn was_not_told(
        &self,
        moment: &Moment<'_>,
        holder: usize,
        session: &Session,
        new: &Session,
    ) -> Result<Cause, String> {
        let now = moment.now;
        let held = self.claims.told(holder, session.user, session.backend).expect("it is a holder");
        let told = self.claims.told(new.director, session.user, session.backend);
        let news_micros = if told.is_some() { held.last_micros } else { held.first_micros };
        if let Some(gap) = self.reach.gap_since(holder, new.director, now.saturating_sub(REJOIN_MICROS)) {
            return Ok(cause_of(gap));
        }
        if self.was_ordered(session.backend, held.first_micros) {
            return Ok(Cause::Operator);
        }
        // To who starts everything is news.
        let started = self.ended[new.director].last().and_then(|(_, started)| *started);
        let news_micros = news_micros.max(started.unwrap_or_default());
        let is_late = self.is_late(now, holder, new.director, news_micros);
        if is_late || now < news_micros + self.on_its_way_micros {
            return Ok(Cause::OnItsWay);
        }
        if self.is_resolved_by(moment, holder, session, new) {
            return Ok(Cause::Conflict);
        }
        // It was told a moment ago, or knows both by now: then that is what has to be resolved.
        let knew = |other: usize| other == new.director && !self.came_too_late(other, session, new);
        if self.holders(moment, session.user, session.backend).any(knew) {
            return Ok(Cause::Conflict);
        }
        if self.clocks_wrong {
            return Ok(Cause::Clocks);
        }
        if self.lowest_minor < TIMESTAMPS {
            return Ok(Cause::Minor);
        }
        Err(format!(
            "d{} has known of the other for {} ms, and nothing kept it from d{}",
            holder + 1,
            (now - news_micros) / 1000,
            new.director + 1
        ))
    }

    /// A director was told of a user's two backends a while ago, and tells the one that has him on the second of them already
    /// nothing of the other: that one loses. If he moves to the second, that is judged as a move.
    fn is_resolved_by(&self, moment: &Moment<'_>, holder: usize, session: &Session, new: &Session) -> bool {
        let told = |backend| self.claims.told(holder, session.user, backend).map(|claim| claim.first_micros);
        let had = self.claims.held(new.director, new.user, new.backend, moment.clocks_secs[new.director]);
        let both = told(session.backend).zip(told(new.backend)).map(|(one, other)| one.max(other));
        let moves = |then: u64| {
            let known = self.moves[session.user].as_ref().filter(|known| known.backend == new.backend);
            known.is_some_and(|known| then < known.started_micros + GIVE_UP_MICROS)
        };
        both.zip(had).is_some_and(|(since, had)| {
            let kick_comes =
                moment.now < since + RESOLVE_MICROS || self.is_late(moment.now, holder, session.director, since);
            had.first_micros <= since && kick_comes && !moves(since)
        })
    }

    /// A user has two sessions, as the second passes.
    ///
    /// # Errors
    /// Once: why he must not have both.
    pub fn look_at(&mut self, moment: &Moment<'_>, one: (u64, &Session), other: (u64, &Session)) -> Result<(), String> {
        let ((one_id, one), (other_id, other)) = (one, other);
        let excused = |session: &Session| session.orphan || session.unkicked || session.kick_asked;
        let ordered = |session: &Session| self.was_ordered(session.backend, session.start_micros);
        let weaker = self.clocks_wrong || self.lowest_minor < TIMESTAMPS;
        if excused(one) || excused(other) || ordered(one) || ordered(other) || weaker {
            return Ok(());
        }
        let now = moment.now;
        let long_ago = now.saturating_sub(REJOIN_MICROS);
        let due = RESOLVE_MICROS + self.on_its_way_micros;
        let holders =
            [one, other].map(|session| self.holders(moment, session.user, session.backend).collect::<Vec<usize>>());
        for &a in &holders[0] {
            for &b in &holders[1] {
                let known = [(a, one), (b, other)].map(|(director, session)| {
                    let claim = self.claims.told(director, session.user, session.backend);
                    claim.map_or(now, |claim| claim.first_micros.max(session.start_micros))
                });
                let since = known.into_iter().max().unwrap_or(now);
                let gaps = [(a, b), (a, one.director), (b, other.director)];
                let late = |x, y| self.is_late(now.saturating_sub(RESOLVE_MICROS), x, y, since);
                let apart = gaps
                    .iter()
                    .any(|&(x, y)| self.reach.gap_since(x, y, long_ago).is_some() || late(x, y) || late(y, x));
                if apart || now < since + due || !self.reported.insert((one_id, other_id)) {
                    continue;
                }
                let secs = (now - since) / SECOND;
                return Err(format!("{}: d{} and d{} have known for {secs} s", shown(one, other, now), a + 1, b + 1));
            }
        }
        Ok(())
    }

    /// The directors that hold that a user is on a backend.
    fn holders(&self, moment: &Moment<'_>, user: usize, backend: IpAddr) -> impl Iterator<Item = usize> {
        (0..moment.alive.len()).filter(move |&director| {
            moment.alive[director] && self.claims.held(director, user, backend, moment.clocks_secs[director]).is_some()
        })
    }

    fn was_ordered(&self, backend: IpAddr, since: u64) -> bool {
        self.ordered_until(backend).is_some_and(|until| until >= since)
    }

    /// The users of another backend than these were forgotten by order since then.
    fn was_ordered_elsewhere(&self, backends: [IpAddr; 2], since: u64) -> bool {
        let others = self.orders.iter().filter(|(backend, _)| !backends.contains(backend)).map(|(_, until)| *until);
        others.chain(self.order_to_all).any(|until| until >= since)
    }

    fn ordered_until(&self, backend: IpAddr) -> Option<u64> {
        self.orders.get(&backend).copied().max(self.order_to_all)
    }
}

fn cause_of(gap: Gap) -> Cause {
    match gap {
        Gap::Network => Cause::Partition,
        Gap::Pause => Cause::Pause,
        Gap::Removal => Cause::Operator,
    }
}

fn shown(session: &Session, new: &Session, now: u64) -> String {
    format!(
        "user {} was sent to {} by d{}, and has been on {} beside d{} for {} ms",
        new.user,
        new.backend,
        new.director + 1,
        session.backend,
        session.director + 1,
        now.saturating_sub(session.start_micros) / 1000
    )
}

/// How long a line may take to get round, if nothing breaks.
pub fn on_its_way_micros(plan: &Plan) -> u64 {
    let conditions = &plan.conditions;
    let mut hop = conditions.latency_max_micros + conditions.delay_max_micros;
    if plan.faults.has(Fault::Latency) {
        hop += 4 * SECOND;
    }
    if plan.faults.has(Fault::Slowness) {
        hop += 5 * SECOND;
    }
    // Bytes are cut and held up in several places on each hop.
    2 * hop * plan.directors as u64 + SECOND
}

/// How long an answer may take to its login process: those of lookups that have waited, of one for each user, come out at
/// once, and a connection takes what it holds in at most [`ANSWER_MICROS`].
fn answer_micros(plan: &Plan) -> u64 {
    let pieces = 1 + plan.users * ANSWER_BYTES / plan.conditions.window_bytes;
    ANSWER_MICROS * pieces as u64
}

#[cfg(test)]
mod tests;
