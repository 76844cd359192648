//! USER-KILLED on its way round the ring, and again when it may be lost (ring protocol, "Moves and kills" and "Version
//! 1.10").
//!
//! Each director passes it on only when its own sessions of the user are gone. So whoever sends one on its way and gets
//! it back knows that they are gone everywhere, whoever it is, and however many are on their way at the same time: what
//! it takes is that nobody mistakes another's for his own, and that nobody takes one on twice.

use std::net::IpAddr;
use std::time::Duration;

use log::debug;

use crate::director::Director;
use crate::hosts::TagNumber;
use crate::moves::{Kill, Mover, Place, State};
use crate::ring::commands::Except;
use crate::ring::users::clamp_secs;
use crate::time::Now;
use crate::timers::Timer;
use crate::users::Generation;
use crate::wire::ring::{KillToken, KilledMove, Line, Origin, minor};

/// Who has sent USER-KILLED on its way sends it again after this time. A round of the ring takes milliseconds, a slow
/// kick longer: then another USER-KILLED ends where the first one waits.
const RETRY_PAUSE: Duration = Duration::from_secs(2);
/// Who has heard of no USER-KILLED for so long sends one: whoever should may be gone.
const TAKEOVER_PAUSE: Duration = Duration::from_secs(5);
/// While the ring is not whole nothing comes round.
const UNSYNCED_PAUSE: Duration = Duration::from_secs(1);
/// When the ring is whole again it is time, but for those that were sent just now.
const SYNCED_PAUSE: Duration = Duration::from_millis(500);

impl Kill {
    /// Our own sessions of the user are gone, and we wait for the others.
    fn is_waiting(&self) -> bool {
        matches!(self.state, State::WaitingForNotify | State::WaitingForEveryone)
    }

    /// Remembers a USER-KILLED. Returns false if it has been here before.
    fn see(&mut self, starter: Origin) -> bool {
        see(&mut self.passed, starter)
    }
}

/// Remembers a USER-KILLED among those that were here. Returns false if it has been here before.
fn see(passed: &mut Vec<Origin>, starter: Origin) -> bool {
    match passed.iter_mut().find(|passed| passed.address == starter.address) {
        Some(passed) if starter.seq <= passed.seq => return false,
        Some(passed) => passed.seq = starter.seq,
        None => passed.push(starter),
    }
    true
}

impl Director {
    /// Sends USER-KILLED of a kill on its way: our own sessions are gone.
    pub(crate) fn start_token(&mut self, hash: u32, tag: TagNumber, now: Now) {
        let Some((host, generation)) = self.moved_to(hash, tag) else { return };
        let own = self.ring.members.self_address();
        let Some(of_move) = self.kill(hash, tag).and_then(|kill| kill.of_move) else { return };
        let Some(kill) = self.kill(hash, tag) else { return };
        // The count is for the first one: of a later one nobody knows who has been counted.
        let first = kill.is_ours && !kill.passed.iter().any(|passed| passed.address == own);
        let (kicked, starter) = if first { (Some(0), of_move) } else { (None, self.new_origin()) };
        let Some(kill) = self.kill(hash, tag) else { return };
        kill.see(starter);
        let token = KillToken { kicked, of_move, host, generation, starter };
        self.pass_killed(hash, tag, Some(token), now);
    }

    /// The backend that a user is on his way to: of two moves that met, the one that won. And its generation.
    fn moved_to(&self, hash: u32, tag: TagNumber) -> Option<(IpAddr, Option<Generation>)> {
        let user = self.users.get(self.users.find(hash, tag)?);
        self.hosts.get(user.host).map(|host| (host.ip, self.believed(Some(user.generation))))
    }

    /// Our sessions of a user are gone: says so to the right, with the count of those before us and our own.
    pub(crate) fn pass_killed(&mut self, hash: u32, tag: TagNumber, token: Option<KillToken>, now: Now) {
        let right = self.ring.right;
        let moved_to = self.moved_to(hash, tag);
        let position = right.and_then(|right| Some((right, self.link(right)?.bytes_out)));
        let Some(kill) = self.kill(hash, tag) else { return };
        kill.state = State::WaitingForEveryone;
        let unsent = kill.said.zip(position).is_some_and(|(said, (right, taken))| said.0 == right && said.1 > taken);
        match right {
            // Another of this kill still waits to be sent: whoever has started it ends the move as well as any. More would
            // pile up for a right that takes nothing, and each would be answered when it goes on.
            Some(_) if unsent && token.is_some() => {}
            Some(right) => {
                let own = kill.kicked;
                let token = token.map(|token| {
                    let kicked = token.kicked.zip(own).map(|(kicked, own)| kicked.saturating_add(own));
                    let (host, generation) = moved_to.unwrap_or((token.host, token.generation));
                    KillToken { kicked, host, generation, ..token }
                });
                self.send(right, &Line::UserKilled { hash, token });
                if token.is_some() {
                    let said = self.output_end(right).map(|end| (right, end));
                    if let Some(kill) = self.kill(hash, tag) {
                        kill.said = said;
                    }
                }
            }
            None => kill.held = Some(token),
        }
        self.arm_kill_retry(hash, tag, now);
    }

    /// USER-KILLED of a member before 1.10: it has no name.
    pub(crate) fn user_killed_received(&mut self, hash: u32, now: Now) {
        for tag in self.kills.tags_of(hash) {
            let Some(kill) = self.kill(hash, tag) else { continue };
            match kill.state {
                State::Killing => {
                    kill.state = State::NotifyReceived;
                    kill.held = Some(None);
                    return;
                }
                State::WaitingForNotify => {
                    self.pass_killed(hash, tag, None, now);
                    return;
                }
                State::WaitingForEveryone => {
                    self.originate_killed_everywhere(hash, None);
                    self.kill_everywhere(hash, tag, now);
                    return;
                }
                State::NotifyReceived => return,
                State::Flushing | State::Delay => {}
            }
        }
        // Nothing to wait for here: the sender must not be left hanging.
        self.originate_killed_everywhere(hash, None);
    }

    /// USER-KILLED that says to which move it belongs.
    pub(crate) fn kill_token_received(&mut self, hash: u32, token: KillToken, now: Now) {
        let is_own = token.starter.address == self.ring.members.self_address();
        let Some(host) = self.hosts.find(token.host) else {
            if is_own {
                self.own_token_received(hash, token, now);
            } else {
                debug!("USER-KILLED of user hash {hash} names host {}, which was removed: ignored", token.host);
            }
            return;
        };
        let Some(tag) = self.hosts.get(host).map(|host| host.tag) else { return };
        let mover = Mover::other(Some(token.of_move));
        let timestamp_secs = clamp_secs(now.unix_secs);
        let known = self.users.find(hash, tag).map(|slot| self.users.get(slot));
        if let Some(user) = known
            && user.killing
            && let Some(generation) = self.believed(token.generation)
            && self.compare_places(host, generation, &user).is_gt()
        {
            // We have missed a later move.
            if user.host == host {
                self.take_generation(hash, tag, generation);
            } else {
                self.begin_kill(hash, tag, Place { host, generation, timestamp_secs }, mover, now);
            }
        }
        if is_own {
            self.own_token_received(hash, token, now);
            return;
        }
        if self.kill(hash, tag).is_none() {
            if let Some(passed) = self.kills.passed_of_ended(hash, tag, token.of_move) {
                // Somebody else has missed the end of it. To begin again would be to keep the user out, and to hold on to a
                // backend that the ring may have changed meanwhile.
                if see(passed, token.starter) {
                    self.send_killed_on(hash, tag, token);
                }
                return;
            }
            // We have missed the move: so we begin, and the one who sent this will end it. If we know of a later one, then
            // only that his sessions are gone is of interest.
            let place = match (known, self.believed(token.generation)) {
                (Some(user), Some(generation)) if self.compare_places(host, generation, &user).is_lt() => {
                    Place { host: user.host, generation: user.generation, timestamp_secs }
                }
                (_, Some(generation)) => Place { host, generation, timestamp_secs },
                (known, None) => {
                    let generation = known.map_or(Generation::NEVER, |user| user.generation).next();
                    Place { host, generation, timestamp_secs }
                }
            };
            self.begin_kill(hash, tag, place, mover, now);
        }
        let Some(kill) = self.kill(hash, tag) else { return };
        if !kill.see(token.starter) {
            return;
        }
        match kill.state {
            State::Killing | State::NotifyReceived => {
                kill.state = State::NotifyReceived;
                kill.held.get_or_insert(Some(token));
            }
            State::WaitingForNotify | State::WaitingForEveryone => self.pass_killed(hash, tag, Some(token), now),
            State::Flushing | State::Delay => self.send_killed_on(hash, tag, token),
        }
    }

    /// Our sessions of the user were gone before this USER-KILLED came.
    pub(crate) fn send_killed_on(&mut self, hash: u32, tag: TagNumber, token: KillToken) {
        let (host, generation) = self.moved_to(hash, tag).unwrap_or((token.host, token.generation));
        if let Some(right) = self.ring.right {
            let token = KillToken { kicked: None, host, generation, ..token };
            self.send(right, &Line::UserKilled { hash, token: Some(token) });
        }
    }

    /// A USER-KILLED that we have sent on its way has been all round.
    fn own_token_received(&mut self, hash: u32, token: KillToken, now: Now) {
        let of = KilledMove { kicked: token.kicked, of_move: token.of_move };
        // Also if we know that already: those who have begun with this one do not.
        self.originate_killed_everywhere(hash, Some(of));
        self.user_killed_everywhere(hash, Some(of), now);
    }

    pub(crate) fn originate_killed_everywhere(&mut self, hash: u32, of: Option<KilledMove>) {
        let origin = self.new_origin();
        self.broadcast(&Line::UserKilledEverywhere { origin, hash, of }, Except::Nobody);
    }

    /// USER-KILLED-EVERYWHERE.
    pub(crate) fn user_killed_everywhere(&mut self, hash: u32, of: Option<KilledMove>, now: Now) {
        for tag in self.kills.tags_of(hash) {
            let Some(kill) = self.kill(hash, tag) else { continue };
            match (kill.state, of) {
                (_, Some(of)) if Some(of.of_move) != kill.of_move => {}
                (State::Killing | State::NotifyReceived, Some(_)) => kill.everywhere_else = true,
                (State::WaitingForEveryone, of) => {
                    kill.idle = of.is_some_and(|of| of.kicked == Some(0));
                    self.kill_everywhere(hash, tag, now);
                }
                (State::WaitingForNotify, Some(_)) => self.kill_everywhere(hash, tag, now),
                _ => {}
            }
        }
    }

    // What may be lost

    /// A kill has begun to wait for the others, or has heard of them.
    pub(crate) fn arm_kill_retry(&mut self, hash: u32, tag: TagNumber, now: Now) {
        let own = self.ring.members.self_address();
        let Some(kill) = self.kill(hash, tag) else { return };
        let is_starter = kill.is_ours || kill.passed.last().is_some_and(|passed| passed.address == own);
        let pause = if is_starter { RETRY_PAUSE } else { TAKEOVER_PAUSE };
        self.timers.set(Timer::KillRetry(hash, tag), now.instant + pause);
    }

    /// A kill has waited for a while.
    pub(crate) fn retry_kill(&mut self, hash: u32, tag: TagNumber, now: Now) {
        let whole = self.ring.synced && self.ring.right.is_some();
        let named = self.ring.min_minor >= minor::KILL_NAMES;
        let Some(kill) = self.kill(hash, tag).filter(|kill| kill.is_waiting()) else { return };
        if whole && named {
            debug!("User hash {hash}: nothing was heard of his move in state {}: asking the ring again", kill.state);
            self.start_token(hash, tag, now);
        } else if !whole {
            self.timers.set(Timer::KillRetry(hash, tag), now.instant + UNSYNCED_PAUSE);
        }
    }

    /// The ring is whole again: what was lost with a link is sent again now.
    pub(crate) fn hasten_kills(&mut self, now: Now) {
        let waiting: Vec<_> =
            self.kills.by_user.iter().filter(|(_, kill)| kill.is_waiting()).map(|(&key, _)| key).collect();
        for (hash, tag) in waiting {
            let ours = self.kill(hash, tag).is_some_and(|kill| kill.is_ours);
            let pause = if ours { SYNCED_PAUSE } else { TAKEOVER_PAUSE };
            self.timers.set_earlier(Timer::KillRetry(hash, tag), now.instant + pause);
        }
    }

    /// There is a right again: it hears what it should have.
    pub(crate) fn send_held_kills(&mut self, now: Now) {
        let held: Vec<_> = self
            .kills
            .by_user
            .iter_mut()
            .filter(|(_, kill)| kill.is_waiting())
            .filter_map(|(&key, kill)| Some((key, kill.held.take()?)))
            .collect();
        for ((hash, tag), token) in held {
            self.pass_killed(hash, tag, token, now);
        }
    }

    /// There is nobody but us: kills that wait for others wait for nobody.
    pub(crate) fn end_kills_alone(&mut self, now: Now) {
        let waiting: Vec<_> =
            self.kills.by_user.iter().filter(|(_, kill)| kill.is_waiting()).map(|(&key, _)| key).collect();
        for (hash, tag) in waiting {
            self.kill_everywhere(hash, tag, now);
        }
    }
}
