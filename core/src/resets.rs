//! HOST-RESET-USERS: each user of a backend, or of all, goes to the backend of his hash (admin protocol, "Commands").

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use log::info;

use crate::contract::ConnectionId;
use crate::director::Director;
use crate::hosts::HostNumber;
use crate::kick::{Command as Kick, Purpose};
use crate::ring::commands::Except;
use crate::time::{Instant, Now};
use crate::timers::Timer;
use crate::users::{Cursor, User};
use crate::wire::ring::Line;

/// At most so many users are looked at in one call: about a millisecond.
const LOOKS_PER_CALL: usize = 4096;
/// The pause between calls: others get their turn.
const PAUSE: Duration = Duration::from_millis(1);

/// Tells one HOST-RESET-USERS from another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ResetNumber(u64);

/// A HOST-RESET-USERS at work.
#[derive(Debug)]
pub(crate) struct Reset {
    /// Who waits for the end; he may have left.
    admin: ConnectionId,
    /// `None`: all hosts.
    host: Option<HostNumber>,
    max_parallel: u32,
    /// Moves under way.
    running: u32,
    /// `None`: everybody has been looked at.
    cursor: Option<Cursor>,
    /// Hosts whose users have nowhere to go: they are forgotten at the end.
    stranded: Vec<IpAddr>,
    moved: u64,
    kicked: u64,
    started: Instant,
}

/// All that are at work.
#[derive(Debug, Default)]
pub(crate) struct Resets {
    by_number: BTreeMap<ResetNumber, Reset>,
    /// Those with room for more moves.
    awake: BTreeSet<ResetNumber>,
    next: u64,
}

impl Director {
    /// Begins to move the users of a host, or of all.
    pub(crate) fn start_reset(&mut self, admin: ConnectionId, host: Option<HostNumber>, max_parallel: u32, now: Now) {
        let number = ResetNumber(self.resets.next);
        self.resets.next += 1;
        let cursor = Some(self.users.cursor());
        let reset = Reset {
            admin,
            host,
            max_parallel: max_parallel.max(1),
            running: 0,
            cursor,
            stranded: Vec::new(),
            moved: 0,
            kicked: 0,
            started: now.instant,
        };
        self.resets.by_number.insert(number, reset);
        // Not from within the command: its connection must know first that it waits.
        self.resets.awake.insert(number);
    }

    /// A move of a reset has ended: there is room for another.
    pub(crate) fn reset_move_ended(&mut self, number: ResetNumber) {
        if let Some(reset) = self.resets.by_number.get_mut(&number) {
            reset.running = reset.running.saturating_sub(1);
            self.resets.awake.insert(number);
        }
    }

    /// Goes on with the resets for which there is room, at the end of a batch.
    pub(crate) fn wake_resets(&mut self, now: Now) {
        for number in std::mem::take(&mut self.resets.awake) {
            self.step_reset(number, now);
        }
    }

    /// Goes on with a reset, as far as one call may.
    pub(crate) fn step_reset(&mut self, number: ResetNumber, now: Now) {
        let mut looks = 0;
        loop {
            let Some(reset) = self.resets.by_number.get_mut(&number) else { return };
            if reset.running >= reset.max_parallel {
                // The end of a move brings us back.
                return;
            }
            let Some(cursor) = &mut reset.cursor else {
                if reset.running == 0 {
                    self.finish_reset(number, now);
                }
                return;
            };
            if looks >= LOOKS_PER_CALL {
                self.timers.set_earlier(Timer::Reset(number), now.instant + PAUSE);
                return;
            }
            looks += 1;
            match self.users.next(cursor) {
                None => {
                    if let Some(cursor) = reset.cursor.take() {
                        self.users.end(cursor);
                    }
                }
                Some(None) => looks = LOOKS_PER_CALL,
                Some(Some(user)) => self.reset_user(number, user, now),
            }
        }
    }

    fn reset_user(&mut self, number: ResetNumber, user: User, now: Now) {
        let Some(reset) = self.resets.by_number.get_mut(&number) else { return };
        if reset.host.is_some_and(|host| host != user.host) || user.killing {
            return;
        }
        match self.hosts.by_hash(user.hash, user.tag) {
            Some(host) if host == user.host => {}
            Some(host) => {
                reset.running += 1;
                reset.moved += 1;
                self.originate_move(user.hash, host, Some(number), now);
            }
            None => {
                let Some(ip) = self.hosts.get(user.host).map(|host| host.ip) else { return };
                if !reset.stranded.contains(&ip) {
                    reset.stranded.push(ip);
                }
                reset.kicked += 1;
                // Nobody is spared: no backend has the unspecified address.
                let except = IpAddr::from([0, 0, 0, 0]);
                let origin = self.new_origin();
                let line = Line::UserKickHash { origin, hash: user.hash, except };
                self.broadcast(&line, Except::Nobody);
                self.kick(&Kick::Hash { hash: user.hash, except: None }, Purpose::Other, now);
            }
        }
    }

    fn finish_reset(&mut self, number: ResetNumber, now: Now) {
        let Some(reset) = self.resets.by_number.remove(&number) else { return };
        let took = now.instant.saturating_since(reset.started).as_secs_f64();
        info!("admin: {} users were moved and {} kicked in {took:.3} secs", reset.moved, reset.kicked);
        for ip in reset.stranded {
            self.admin_flush_host(ip, now);
        }
        self.admin_reset_done(reset.admin, now);
    }
}
