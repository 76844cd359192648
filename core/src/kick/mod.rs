//! Ending the sessions of local login processes (kick protocol): through Dovecot 2.3's ipc or Dovecot 2.4's anvil,
//! whichever is there.
//!
//! With `director_kick_via = auto`, what is there is found out by connecting: to ipc, and if that cannot be done, to
//! anvil. That a file exists says too little: Dovecot 2.3 leaves its ipc behind when it ends, and has an anvil of its
//! own, with another protocol. It is done before the first reply needs it, because a session that begins without its
//! user's hash cannot be found through anvil later.

mod anvil;
mod ipc;

use std::borrow::Cow;
use std::collections::VecDeque;
use std::time::Duration;

use log::{debug, error, info, warn};

use self::anvil::Anvil;
use self::ipc::Ipc;
use crate::connections::{Kind, Phase};
use crate::contract::{Action, ConnectionId, Target};
use crate::director::Director;
use crate::hosts::TagNumber;
use crate::settings::KickVia;
use crate::time::{Instant, Now};
use crate::timers::Timer;
use crate::wire::ipc::Command as IpcCommand;

/// What to kick.
pub(crate) type Command = IpcCommand<'static>;

/// At most so many kicks wait; more fail at once, because an answer after minutes helps nobody.
const QUEUE_MAX: usize = 100_000;
/// Errors are logged so often at most.
const ERRORS_PER_SECOND: u32 = 100;
/// Whether a moved user's sessions are gone is asked again after this time: login processes end them at once, but may tell
/// anvil of the kick before they tell it of the end.
const CHECK_INTERVAL: Duration = Duration::from_millis(100);
/// And so often at most, so for two seconds: those that are left then do not end.
const CHECKS_MAX: u32 = 20;
/// Where there was nothing to kick through, clients that come make us look again so often at most, and we look by ourselves
/// after this time first, then after twice of it, and so on.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);
/// We look by ourselves at least so often: who starts Dovecot in the meantime does not wait for long.
const LOOK_PAUSE_MAX: Duration = Duration::from_secs(60);

/// A user's kill that waits for the answer: its number keeps an old answer from ending a new kill.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ForKill {
    pub(crate) hash: u32,
    pub(crate) tag: TagNumber,
    pub(crate) number: u64,
}

/// What a kick is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// A move: it goes on when the kick is done or has failed.
    Kill(ForKill),
    /// The same, asked again to see whether the sessions are gone.
    Check(Check),
    /// An administrator's kick: so many at once, no more.
    Admin,
    /// The ring's, or a conflict's.
    Other,
}

/// A kick for a move that was answered, but may not have been obeyed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Check {
    for_kill: ForKill,
    /// What the first answer was, if that is known.
    kicked: Option<u32>,
    /// How often it has been asked again.
    asked: u32,
}

/// One of Dovecot's sockets for kicking.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Socket {
    Ipc,
    Anvil,
}

/// What sessions are kicked through.
#[derive(Debug, Default)]
enum Via {
    /// Nobody has asked for a while, or there was nothing.
    #[default]
    Nothing,
    /// ipc is being connected to.
    TryingIpc(ConnectionId),
    Ipc(Ipc),
    /// anvil, perhaps still being connected to.
    Anvil(Anvil),
}

/// The kicks under way, and what they go through.
#[derive(Debug, Default)]
pub(crate) struct Kicks {
    via: Via,
    /// What `via` was when it last was anything.
    last: Option<Socket>,
    looked: Option<Instant>,
    /// How often in a row there was nothing.
    missed: u32,
    /// Not handed over yet.
    waiting: VecDeque<(Command, Purpose)>,
    /// To be asked again, and when.
    checks: VecDeque<(Instant, Check)>,
    /// How many are an administrator's, of all that have not ended.
    admin_kicks: u32,
    errors_since: Instant,
    errors: u32,
}

impl Kicks {
    /// How many kicks ipc has not answered.
    #[cfg(test)]
    pub(crate) fn unanswered_by_ipc(&self) -> usize {
        if let Via::Ipc(ipc) = &self.via { ipc.len() } else { 0 }
    }
}

impl Director {
    /// Whether an administrator's kick has to wait for others.
    pub(crate) fn kicks_are_full(&self) -> bool {
        self.kicks.admin_kicks >= self.tuning.max_parallel_kicks
    }

    /// Kicks local sessions; a kill goes on when that is done or has failed.
    pub(crate) fn kick(&mut self, command: &Command, purpose: Purpose, now: Now) {
        self.kicks.admin_kicks += u32::from(purpose == Purpose::Admin);
        let under_way = match &self.kicks.via {
            Via::Ipc(ipc) => ipc.len(),
            Via::Anvil(anvil) => anvil.len(),
            Via::Nothing | Via::TryingIpc(_) => 0,
        };
        if self.kicks.waiting.len() + under_way >= QUEUE_MAX {
            self.kick_failed(purpose, "too many kicks are waiting", now);
            return;
        }
        match command {
            IpcCommand::Hash { hash, .. } => debug!("Kicking sessions of user hash {hash}"),
            IpcCommand::User { username } => debug!("Kicking sessions of {}", printable(username)),
            IpcCommand::Alt { field, .. } => debug!("Kicking sessions by {}", printable(field)),
        }
        self.kicks.waiting.push_back((command.clone(), purpose));
        self.hand_over_kicks(now);
    }

    /// A client has come, or asks, whose replies depend on what sessions are kicked through: finds that out, unless it is known.
    pub(crate) fn look_for_kick_socket(&mut self, now: Now) {
        let long_ago = |looked: Instant| now.instant.saturating_since(looked) >= LOOK_INTERVAL;
        let is_due = matches!(self.kicks.via, Via::Nothing) && self.kicks.looked.is_none_or(long_ago);
        if is_due && self.tuning.kick_via == KickVia::Auto && !self.finishing {
            self.kicks.looked = Some(now.instant);
            self.find_kick_socket(now);
        }
    }

    /// Whether replies get the hash that sessions are found by in anvil. `relayed`: they are for a login process, LMTP or
    /// doveadm of Dovecot.
    ///
    /// As long as it is not known, those get it: it is no use to Dovecot 2.3, but does no harm.
    pub(crate) fn replies_need_hash(&self, relayed: bool) -> bool {
        match (self.tuning.kick_via, &self.kicks.via) {
            (KickVia::Ipc, _) | (KickVia::Auto, Via::Ipc(_)) => false,
            (KickVia::Anvil, _) => true,
            (KickVia::Auto, Via::TryingIpc(_)) => relayed || self.kicks.last == Some(Socket::Anvil),
            (KickVia::Auto, Via::Anvil(anvil)) => relayed || anvil.is_established(),
            (KickVia::Auto, Via::Nothing) => self.kicks.last.map_or(relayed, |last| last == Socket::Anvil),
        }
    }

    /// There was nothing to kick through, and somebody will ask: looks again.
    pub(crate) fn look_again_for_kick_socket(&mut self, now: Now) {
        self.kicks.looked = None;
        self.look_for_kick_socket(now);
    }

    /// The setting has changed: what is under way through the old socket has failed.
    pub(crate) fn kick_via_changed(&mut self, now: Now) {
        let reason = "director_kick_via has changed";
        match std::mem::take(&mut self.kicks.via) {
            Via::Nothing => {}
            Via::TryingIpc(id) => {
                self.connections.abort(id);
            }
            Via::Ipc(ipc) => {
                self.connections.abort(ipc.id());
                self.end_ipc(ipc, reason, now);
            }
            Via::Anvil(anvil) => self.end_anvil(anvil, reason, now),
        }
        self.kicks.last = None;
        self.hand_over_kicks(now);
    }

    /// A connection for kicking has been made.
    pub(crate) fn kick_connected(&mut self, id: ConnectionId, now: Now) {
        if matches!(self.kicks.via, Via::TryingIpc(trying) if trying == id) {
            self.kicks.via = Via::Ipc(Ipc::new(id));
            self.found_kick_socket(Socket::Ipc);
            self.hand_over_kicks(now);
        }
    }

    /// A connection for kicking is gone, or could not be made.
    pub(crate) fn kick_connection_closed(&mut self, id: ConnectionId, reason: &str, now: Now) {
        match &self.kicks.via {
            Via::TryingIpc(trying) if *trying == id => {
                if self.tuning.kick_via == KickVia::Auto && !self.finishing {
                    debug!("There is no ipc: {reason}; trying anvil");
                    self.connect_to_anvil(Some(reason.to_owned()), now);
                } else {
                    self.kicks.via = Via::Nothing;
                    self.waiting_kicks_fail(reason, now);
                }
            }
            Via::Ipc(ipc) if ipc.id() == id => {
                if let Via::Ipc(ipc) = std::mem::take(&mut self.kicks.via) {
                    self.end_ipc(ipc, reason, now);
                    self.hand_over_kicks(now);
                }
            }
            Via::Anvil(_) => self.anvil_closed(id, reason, now),
            Via::Nothing | Via::TryingIpc(_) | Via::Ipc(_) => {}
        }
    }

    /// Gives what waits to what sessions are kicked through, or looks for that.
    fn hand_over_kicks(&mut self, now: Now) {
        if self.kicks.waiting.is_empty() && !matches!(self.kicks.via, Via::Anvil(_)) {
            return;
        }
        if self.finishing {
            self.waiting_kicks_fail("Shutting down", now);
            return;
        }
        match &self.kicks.via {
            Via::Nothing => self.find_kick_socket(now),
            Via::TryingIpc(_) => {}
            Via::Ipc(_) => self.ask_ipc(),
            Via::Anvil(_) => self.ask_anvil(now),
        }
    }

    fn find_kick_socket(&mut self, now: Now) {
        match self.tuning.kick_via {
            KickVia::Auto | KickVia::Ipc => {
                let id = self.connections.add(Kind::Ipc, Phase::Connecting, ipc::LINE_MAX_BYTES);
                self.connections.act(Action::Connect { connection: id, target: Target::Ipc });
                self.kicks.via = Via::TryingIpc(id);
            }
            KickVia::Anvil => self.connect_to_anvil(None, now),
        }
    }

    fn found_kick_socket(&mut self, socket: Socket) {
        self.kicks.missed = 0;
        self.timers.clear(Timer::KickSocket);
        if self.kicks.last.replace(socket) != Some(socket) {
            let name = match socket {
                Socket::Ipc => "ipc (Dovecot 2.3)",
                Socket::Anvil => "anvil (Dovecot 2.4)",
            };
            info!("Sessions are kicked through {name}");
        }
    }

    fn waiting_kicks_fail(&mut self, reason: &str, now: Now) {
        if self.tuning.kick_via == KickVia::Auto && !self.finishing {
            let pause = LOOK_INTERVAL.saturating_mul(1 << self.kicks.missed.min(16)).min(LOOK_PAUSE_MAX);
            self.timers.set(Timer::KickSocket, now.instant + pause);
        }
        self.kicks.missed = self.kicks.missed.saturating_add(1);
        // The first time, Dovecot may just be starting: its socket comes after those of the login processes.
        if self.kicks.missed == 2 {
            warn!("There is nothing to kick sessions through: {reason}");
        }
        // A kill that goes on may ask again: that is for the next connection.
        for (_, purpose) in std::mem::take(&mut self.kicks.waiting) {
            self.kick_failed(purpose, reason, now);
        }
    }

    fn kick_ended(&mut self, purpose: Purpose, kicked: Option<u32>, now: Now) {
        match purpose {
            Purpose::Kill(for_kill) => self.kill_kicked(for_kill, kicked, now),
            Purpose::Check(check) => self.kill_kicked(check.for_kill, check.kicked, now),
            Purpose::Admin => {
                self.kicks.admin_kicks = self.kicks.admin_kicks.saturating_sub(1);
                self.kicks_wake = true;
            }
            Purpose::Other => {}
        }
    }

    /// anvil has told login processes to end a moved user's sessions, and they have answered. The move goes on when there
    /// are none left: a login process that has served as many clients as it may (`restart_request_count`) does not hear anvil
    /// any more, which counts its sessions all the same.
    fn check_kick(&mut self, check: Check, left: u32, now: Now) {
        let Check { for_kill, kicked, asked } = check;
        if left == 0 {
            self.kill_kicked(for_kill, kicked, now);
        } else if asked < CHECKS_MAX {
            let at = now.instant + CHECK_INTERVAL;
            self.kicks.checks.push_back((at, Check { for_kill, kicked, asked: asked + 1 }));
            self.timers.set_earlier(Timer::KickCheck, at);
        } else {
            self.kick_failed(
                Purpose::Check(check),
                &format!("{left} of them go on although anvil was told to end them"),
                now,
            );
        }
    }

    /// Asks again for what is due.
    pub(crate) fn check_kicks(&mut self, now: Now) {
        while let Some(&(at, check)) = self.kicks.checks.front() {
            if at > now.instant {
                self.timers.set(Timer::KickCheck, at);
                break;
            }
            self.kicks.checks.pop_front();
            if !self.kill_waits_for_kick(check.for_kill) {
                // His move is forgotten, or is another one now: he may have been let in again.
                continue;
            }
            let command = Command::Hash { hash: check.for_kill.hash, except: None };
            self.kicks.waiting.push_back((command, Purpose::Check(check)));
        }
        self.hand_over_kicks(now);
    }

    fn kick_failed(&mut self, purpose: Purpose, reason: &str, now: Now) {
        if now.instant.saturating_since(self.kicks.errors_since).as_secs() >= 1 {
            self.kicks.errors_since = now.instant;
            self.kicks.errors = 0;
        }
        self.kicks.errors += 1;
        if self.kicks.errors <= ERRORS_PER_SECOND {
            match purpose {
                Purpose::Kill(ForKill { hash, .. }) | Purpose::Check(Check { for_kill: ForKill { hash, .. }, .. }) => {
                    error!("Kicking the sessions of user hash {hash} failed: {reason}");
                }
                Purpose::Admin | Purpose::Other => error!("Kicking sessions failed: {reason}"),
            }
        }
        self.kick_ended(purpose, None, now);
    }
}

fn printable(bytes: &[u8]) -> Cow<'_, str> {
    Cow::Owned(bytes.escape_ascii().to_string())
}
