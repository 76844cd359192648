//! Moving users to another backend: nobody gets in at the new one before all his sessions at the old one are gone,
//! everywhere (ring protocol, "Moves and kills").

use std::collections::BTreeMap;
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
use crate::users::User;
use crate::wire::ring::{KickCount, Line, Origin};

/// A move may take this long; then it is given up.
const KILL_TIMEOUT: Duration = Duration::from_secs(30);
/// A user who was looked up so recently, beyond the kick delay, may be on his way to his backend, where no kick finds
/// him yet: he counts as having a session.
const LOGIN_MARGIN_SECS: u64 = 1;

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

/// A user's kill.
#[derive(Debug)]
pub(crate) struct Kill {
    state: State,
    /// We have started the move: this was its USER-MOVE.
    mover: Option<Origin>,
    /// Tells this kill from an earlier one of the same user.
    number: u64,
    started: Instant,
    old_host: Option<OldHost>,
    /// How many sessions were kicked here. `None`: we can't tell.
    kicked: Option<u32>,
    /// The count of a USER-KILLED that came while we were not ready to send it on.
    count: Option<KickCount>,
    /// He had no session anywhere.
    idle: bool,
    /// The drain that it is part of.
    reset: Option<ResetNumber>,
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
        self.move_user(hash, host, None, None, now);
    }

    /// Moves a user for an administrator.
    pub(crate) fn originate_move(&mut self, hash: u32, host: HostNumber, reset: Option<ResetNumber>, now: Now) {
        let Some(ip) = self.hosts.get(host).map(|host| host.ip) else { return };
        let origin = self.new_origin();
        self.broadcast(&Line::UserMove { origin, hash, host: ip }, Except::Nobody);
        self.move_user(hash, host, Some(origin), reset, now);
    }

    /// Gives a user another backend, and starts his kill unless one is running.
    fn move_user(&mut self, hash: u32, host: HostNumber, mover: Option<Origin>, reset: Option<ResetNumber>, now: Now) {
        let Some((tag, ip)) = self.hosts.get(host).map(|host| (host.tag, host.ip)) else { return };
        let timestamp_secs = clamp_secs(now.unix_secs);
        let mut old_host = None;
        let mut recent = false;
        let mut killing = false;
        match self.users.find(hash, tag) {
            None => {
                let user = User { hash, tag, host, timestamp_secs, weak: false, killing: false };
                self.add_user(user, now);
            }
            Some(slot) => {
                let user = self.users.get(slot);
                killing = user.killing;
                if user.host != host {
                    old_host = self.hosts.get(user.host).map(|host| OldHost {
                        ip: host.ip,
                        down: host.down,
                        vhosts: host.vhosts,
                    });
                }
                let margin = self.tuning.user_kick_delay.as_secs() + LOGIN_MARGIN_SECS;
                recent = u64::from(user.timestamp_secs) + margin >= now.unix_secs;
                self.users.set_host(slot, host);
                self.users.set_weak(slot, false);
                self.users.touch(slot, user.timestamp_secs.max(timestamp_secs), now);
            }
        }
        debug!("User hash {hash} is moved to {ip}");
        if killing {
            if let Some(reset) = reset {
                self.reset_move_ended(reset);
            }
            return;
        }
        if let Some(slot) = self.users.find(hash, tag) {
            self.users.set_killing(slot, true);
        }
        let number = self.kills.next_number;
        self.kills.next_number += 1;
        let kicked = if recent { None } else { Some(0) };
        let kill = Kill {
            state: State::Killing,
            mover,
            number,
            started: now.instant,
            old_host,
            kicked,
            count: None,
            idle: false,
            reset,
        };
        self.kills.by_user.insert((hash, tag), kill);
        self.timers.set(Timer::KillTimeout(hash, tag), now.instant + KILL_TIMEOUT);
        let for_kill = ForKill { hash, tag, number };
        if old_host.is_some() {
            self.kick(&Kick::Hash { hash, except: None }, Purpose::Kill(for_kill), now);
        } else {
            self.kill_kicked(for_kill, Some(0), now);
        }
    }

    fn kill(&mut self, hash: u32, tag: TagNumber) -> Option<&mut Kill> {
        self.kills.by_user.get_mut(&(hash, tag))
    }

    /// A user's local sessions have been kicked: so many, or it is not known.
    pub(crate) fn kill_kicked(&mut self, for_kill: ForKill, kicked: Option<u32>, now: Now) {
        let ForKill { hash, tag, number } = for_kill;
        let alone = self.ring.right.is_none();
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
        match kill.state {
            _ if alone => {
                kill.idle = kill.kicked == Some(0);
                self.kill_everywhere(hash, tag, now);
            }
            State::NotifyReceived => {
                let count = kill.count;
                self.pass_killed(hash, tag, count);
            }
            _ => match kill.mover {
                Some(mover) => {
                    let count = Some(KickCount { kicked: 0, mover });
                    self.pass_killed(hash, tag, count);
                }
                None => kill.state = State::WaitingForNotify,
            },
        }
    }

    /// Our sessions of a user are gone: says so to the right, with the count of those before us and our own.
    fn pass_killed(&mut self, hash: u32, tag: TagNumber, count: Option<KickCount>) {
        let Some(kill) = self.kill(hash, tag) else { return };
        kill.state = State::WaitingForEveryone;
        let count = count
            .zip(kill.kicked)
            .map(|(count, kicked)| KickCount { kicked: count.kicked.saturating_add(kicked), ..count });
        if let Some(right) = self.ring.right {
            self.send(right, &Line::UserKilled { hash, count });
        }
    }

    /// USER-KILLED.
    pub(crate) fn user_killed_received(&mut self, hash: u32, count: Option<KickCount>, now: Now) {
        for tag in self.kills.tags_of(hash) {
            let Some(kill) = self.kill(hash, tag) else { continue };
            match kill.state {
                State::Killing => {
                    kill.state = State::NotifyReceived;
                    kill.count = count;
                    return;
                }
                State::WaitingForNotify => {
                    self.pass_killed(hash, tag, count);
                    return;
                }
                State::WaitingForEveryone => {
                    // Only if it is the one that we began with has everybody added his count.
                    let own = count.filter(|count| kill.mover == Some(count.mover));
                    kill.idle = own.is_some_and(|count| count.kicked == 0);
                    self.originate_killed_everywhere(hash, own.map(|count| count.kicked));
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

    fn originate_killed_everywhere(&mut self, hash: u32, kicked: Option<u32>) {
        let origin = self.new_origin();
        self.broadcast(&Line::UserKilledEverywhere { origin, hash, kicked }, Except::Nobody);
    }

    /// USER-KILLED-EVERYWHERE.
    pub(crate) fn user_killed_everywhere(&mut self, hash: u32, kicked: Option<u32>, now: Now) {
        for tag in self.kills.tags_of(hash) {
            let Some(kill) = self.kill(hash, tag) else { continue };
            if kill.state == State::WaitingForEveryone {
                kill.idle = kicked == Some(0);
                self.kill_everywhere(hash, tag, now);
            }
        }
    }

    /// His sessions are gone everywhere: the flush script is told, or the old backend gets time to notice.
    fn kill_everywhere(&mut self, hash: u32, tag: TagNumber, now: Now) {
        let Some(kill) = self.kills.by_user.get(&(hash, tag)) else { return };
        let for_kill = ForKill { hash, tag, number: kill.number };
        if kill.mover.is_some()
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
        let reset = self.drop_kill(hash, tag);
        if let Some(slot) = self.users.find(hash, tag) {
            self.users.set_killing(slot, false);
        }
        self.retry_lookups_of(hash, now);
        if let Some(reset) = reset {
            self.reset_move_ended(reset);
        }
    }

    /// Forgets a kill. Returns the drain that it was part of.
    fn drop_kill(&mut self, hash: u32, tag: TagNumber) -> Option<ResetNumber> {
        let kill = self.kills.by_user.remove(&(hash, tag))?;
        if kill.state == State::Flushing {
            // Nothing else bounds how long it runs.
            self.abort_flush(ForKill { hash, tag, number: kill.number });
        }
        self.timers.clear(Timer::KillDelay(hash, tag));
        self.timers.clear(Timer::KillTimeout(hash, tag));
        kill.reset
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
            if let Some(reset) = self.drop_kill(hash, tag) {
                self.reset_move_ended(reset);
            }
        }
    }
}
