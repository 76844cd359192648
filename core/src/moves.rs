//! Moving users to another backend: nobody gets in at the new one before all his sessions at the old one are gone,
//! everywhere (ring protocol, "Moving and killing").

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use log::{debug, error, info, warn};

use crate::contract::ConnectionId;
use crate::director::Director;
use crate::hosts::{HostNumber, TagNumber};
use crate::kick::{Command as Kick, ForKill};
use crate::ring::commands::Except;
use crate::ring::link::Label;
use crate::ring::users::clamp_secs;
use crate::time::{Instant, Now};
use crate::timers::Timer;
use crate::users::User;
use crate::wire::ring::{Line, Origin};

/// A move may take this long; then it is given up.
const KILL_TIMEOUT: Duration = Duration::from_secs(30);

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
            Self::Delay => "delay",
        })
    }
}

/// A user's kill.
#[derive(Debug)]
pub(crate) struct Kill {
    state: State,
    /// We have started the move.
    originated: bool,
    /// Tells this kill from an earlier one of the same user.
    number: u64,
    started: Instant,
}

/// The kills under way.
#[derive(Debug, Default)]
pub(crate) struct Kills {
    by_user: BTreeMap<(u32, TagNumber), Kill>,
    next_number: u64,
}

impl Kills {
    /// The tags in which a kill of this hash is under way.
    fn tags_of(&self, hash: u32) -> Vec<TagNumber> {
        self.by_user.range((hash, TagNumber(0))..=(hash, TagNumber(u16::MAX))).map(|(&(_, tag), _)| tag).collect()
    }
}

impl Director {
    /// USER-MOVE of the ring.
    pub(crate) fn user_move_received(&mut self, id: ConnectionId, origin: Origin, hash: u32, ip: IpAddr, now: Now) {
        let source = self.link(id).and_then(|link| link.member);
        let Some(host) = self.hosts.find(ip) else {
            warn!("{}: USER-MOVE of user hash {hash} to {ip}, which is not there: ignored", Label(self, id));
            return;
        };
        // The move goes on before anything that is said of its kill.
        self.broadcast(&Line::UserMove { origin, hash, host: ip }, Except::Member(source));
        self.move_user(hash, host, false, now);
    }

    /// Gives a user another backend, and starts his kill unless one is running.
    pub(crate) fn move_user(&mut self, hash: u32, host: HostNumber, originated: bool, now: Now) {
        let Some((tag, ip)) = self.hosts.get(host).map(|host| (host.tag, host.ip)) else { return };
        let timestamp_secs = clamp_secs(now.unix_secs);
        let mut old_host = None;
        let mut killing = false;
        match self.users.find(hash, tag) {
            None => {
                let user = User { hash, tag, host, timestamp_secs, weak: false, killing: false };
                self.add_user(user, now);
            }
            Some(slot) => {
                let user = self.users.get(slot);
                killing = user.killing;
                old_host = (user.host != host).then_some(user.host);
                self.users.set_host(slot, host);
                self.users.set_weak(slot, false);
                self.users.touch(slot, user.timestamp_secs.max(timestamp_secs), now);
            }
        }
        debug!("User hash {hash} is moved to {ip}");
        if killing {
            return;
        }
        if let Some(slot) = self.users.find(hash, tag) {
            self.users.set_killing(slot, true);
        }
        let number = self.kills.next_number;
        self.kills.next_number += 1;
        let kill = Kill { state: State::Killing, originated, number, started: now.instant };
        self.kills.by_user.insert((hash, tag), kill);
        self.timers.set(Timer::KillTimeout(hash, tag), now.instant + KILL_TIMEOUT);
        let for_kill = ForKill { hash, tag, number };
        if old_host.is_some() {
            self.kick(&Kick::Hash { hash, except: None }, Some(for_kill), now);
        } else {
            self.kill_kicked(for_kill, now);
        }
    }

    fn kill(&mut self, hash: u32, tag: TagNumber) -> Option<&mut Kill> {
        self.kills.by_user.get_mut(&(hash, tag))
    }

    /// A user's local sessions have been kicked, or that has failed.
    pub(crate) fn kill_kicked(&mut self, for_kill: ForKill, now: Now) {
        let ForKill { hash, tag, number } = for_kill;
        let alone = self.ring.right.is_none();
        let Some(kill) = self.kill(hash, tag) else { return };
        if kill.number != number {
            // Another kill's late answer.
            return;
        }
        match kill.state {
            State::Killing | State::NotifyReceived if alone => self.kill_everywhere(hash, tag, now),
            State::Killing if !kill.originated => kill.state = State::WaitingForNotify,
            State::Killing | State::NotifyReceived => {
                kill.state = State::WaitingForEveryone;
                self.send_killed(hash);
            }
            state => debug!("User hash {hash}: a kick ended in state {state}: ignored"),
        }
    }

    fn send_killed(&mut self, hash: u32) {
        if let Some(right) = self.ring.right {
            self.send(right, &Line::UserKilled { hash });
        }
    }

    /// USER-KILLED.
    pub(crate) fn user_killed_received(&mut self, hash: u32, now: Now) {
        for tag in self.kills.tags_of(hash) {
            let Some(kill) = self.kill(hash, tag) else { continue };
            match kill.state {
                State::Killing => {
                    kill.state = State::NotifyReceived;
                    return;
                }
                State::WaitingForNotify => {
                    kill.state = State::WaitingForEveryone;
                    self.send_killed(hash);
                    return;
                }
                State::WaitingForEveryone => {
                    self.originate_killed_everywhere(hash);
                    self.kill_everywhere(hash, tag, now);
                    return;
                }
                State::NotifyReceived => return,
                State::Delay => {}
            }
        }
        // Nothing to wait for here: the sender must not be left hanging.
        self.originate_killed_everywhere(hash);
    }

    fn originate_killed_everywhere(&mut self, hash: u32) {
        let origin = self.new_origin();
        self.broadcast(&Line::UserKilledEverywhere { origin, hash }, Except::Nobody);
    }

    /// USER-KILLED-EVERYWHERE.
    pub(crate) fn user_killed_everywhere(&mut self, hash: u32, now: Now) {
        for tag in self.kills.tags_of(hash) {
            if self.kill(hash, tag).is_some_and(|kill| kill.state == State::WaitingForEveryone) {
                self.kill_everywhere(hash, tag, now);
            }
        }
    }

    /// His sessions are gone everywhere: the old backend gets time to notice.
    fn kill_everywhere(&mut self, hash: u32, tag: TagNumber, now: Now) {
        let delay = self.tuning.user_kick_delay;
        if let Some(kill) = self.kill(hash, tag) {
            kill.state = State::Delay;
            self.timers.set(Timer::KillDelay(hash, tag), now.instant + delay);
        }
    }

    /// A kill's delay is over.
    pub(crate) fn kill_delay_over(&mut self, hash: u32, tag: TagNumber, now: Now) {
        if let Some(kill) = self.kills.by_user.get(&(hash, tag)) {
            let took = now.instant.saturating_since(kill.started).as_secs_f64();
            debug!("User hash {hash} has moved, after {took:.3} secs");
        }
        self.finish_kill(hash, tag, now);
    }

    /// A kill has taken too long.
    pub(crate) fn kill_timed_out(&mut self, hash: u32, tag: TagNumber, now: Now) {
        if let Some(kill) = self.kills.by_user.get(&(hash, tag)) {
            error!(
                "Finishing the move of user hash {hash} timed out in state {} - its state may now be inconsistent",
                kill.state
            );
        }
        self.finish_kill(hash, tag, now);
    }

    fn finish_kill(&mut self, hash: u32, tag: TagNumber, now: Now) {
        self.drop_kill(hash, tag);
        if let Some(slot) = self.users.find(hash, tag) {
            self.users.set_killing(slot, false);
        }
        self.retry_lookups_of(hash, now);
    }

    fn drop_kill(&mut self, hash: u32, tag: TagNumber) {
        if self.kills.by_user.remove(&(hash, tag)).is_some() {
            self.timers.clear(Timer::KillDelay(hash, tag));
            self.timers.clear(Timer::KillTimeout(hash, tag));
        }
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
            self.drop_kill(hash, tag);
        }
    }
}
