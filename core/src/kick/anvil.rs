//! Dovecot 2.4's anvil (kick protocol, "The anvil socket").
//!
//! anvil answers a kick when the login processes concerned have done it, and meanwhile whatever else it is asked on the
//! same connection; its answers carry no numbers. So a connection is asked one thing at a time, and there are a few
//! connections, that one login process which hangs does not hold up the kicks of all others' sessions.
//!
//! No connection is kept when there is nothing to ask. An anvil ends with its last client, not with its Dovecot: after a
//! restart, one that we hold on to would still answer, and know of no session.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::IpAddr;
use std::time::Duration;

use log::{debug, error, warn};

use super::{Check, Purpose, Socket, Via};
use crate::connections::{Kind, Phase};
use crate::contract::{Action, ConnectionId, Target};
use crate::director::Director;
use crate::time::{Instant, Now};
use crate::timers::Timer;
use crate::wire::anvil::{
    BACKEND_FIELD, CLIENT_VERSION_LINES, Command, LINE_MAX_BYTES, Placed, Session, field_position,
    is_server_version_line, read_kicked,
};
use crate::wire::ipc::Command as IpcCommand;
use crate::wire::line::Printable;

/// At most so many connections.
const LANES_MAX: usize = 4;
/// anvil has this long to connect and greet, to answer a kick, or to go on with a list. A login process does a kick at
/// once; one that does not hangs. Twice this is less than a move has.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// A connection is used for so long, for the same reason: kicks may come without a pause.
const LANE_AGE_MAX: Duration = Duration::from_secs(5);
/// At most so many that were found in a list wait for their kicks; the rest are left out with an error.
const FOUND_MAX: usize = 100_000;

/// The connections to anvil, and what waits for them.
#[derive(Debug)]
pub(super) struct Anvil {
    lanes: Vec<Lane>,
    /// It has greeted: it is one of Dovecot 2.4.
    established: bool,
    /// A further connection could not be made: no more are tried.
    full: bool,
    /// Why there was no ipc.
    ipc_error: Option<String>,
    /// What the next list is for.
    sweeps: Sweeps,
    /// What it did not answer, to be asked once more: of a kick of many users at a time, one answer is lost at times, with
    /// some of their sessions left.
    again: VecDeque<(IpcCommand<'static>, Purpose)>,
    /// Who was found in lists on a wrong backend, to be kicked there.
    found: VecDeque<Placed>,
}

/// One connection.
#[derive(Debug)]
struct Lane {
    id: ConnectionId,
    since: Instant,
    greeted: bool,
    work: Work,
}

/// What a connection has been asked for.
#[derive(Debug)]
enum Work {
    Nothing,
    Kick {
        command: IpcCommand<'static>,
        purpose: Purpose,
        again: bool,
    },
    /// What a list has shown.
    Found,
    List(List),
}

/// The hashes whose sessions are to be kicked that are not on one backend, and what for. One list serves any number.
type Sweeps = BTreeMap<u32, Vec<(IpAddr, Purpose)>>;

/// A list that is being read.
#[derive(Debug)]
struct List {
    sweeps: Sweeps,
    /// Once its first line has come: which of the alternative fields is [`BACKEND_FIELD`], if any session has it.
    header: Option<Option<usize>>,
    /// Who was found so far.
    found: BTreeSet<Placed>,
}

impl Lane {
    fn is_idle(&self) -> bool {
        self.greeted && matches!(self.work, Work::Nothing)
    }
}

impl Anvil {
    /// How many kicks are under way or wait here.
    pub(super) fn len(&self) -> usize {
        self.sweeps.len() + self.again.len() + self.found.len() + self.lanes.len()
    }

    pub(super) fn is_established(&self) -> bool {
        self.established
    }

    fn lane(&mut self, id: ConnectionId) -> Option<&mut Lane> {
        self.lanes.iter_mut().find(|lane| lane.id == id)
    }
}

impl Director {
    /// Connects to anvil, after ipc could not be connected to if `ipc_error` says so.
    pub(super) fn connect_to_anvil(&mut self, ipc_error: Option<String>, now: Now) {
        let lane = self.open_lane(now);
        self.kicks.via = Via::Anvil(Anvil {
            lanes: vec![lane],
            established: false,
            full: false,
            ipc_error,
            sweeps: Sweeps::new(),
            again: VecDeque::new(),
            found: VecDeque::new(),
        });
    }

    fn open_lane(&mut self, now: Now) -> Lane {
        let id = self.connections.add(Kind::Anvil, Phase::Connecting, LINE_MAX_BYTES);
        self.connections.act(Action::Connect { connection: id, target: Target::Anvil });
        self.connections.write(id, CLIENT_VERSION_LINES);
        self.timers.set(Timer::Anvil(id), now.instant + ANSWER_TIMEOUT);
        Lane { id, since: now.instant, greeted: false, work: Work::Nothing }
    }

    /// Gives what waits to the connections that have nothing to do, and closes those that are not needed.
    pub(super) fn ask_anvil(&mut self, now: Now) {
        loop {
            let Via::Anvil(anvil) = &mut self.kicks.via else { return };
            if !anvil.established || self.finishing {
                return;
            }
            let old = |lane: &Lane| lane.is_idle() && now.instant.saturating_since(lane.since) >= LANE_AGE_MAX;
            if let Some(index) = anvil.lanes.iter().position(old) {
                let lane = anvil.lanes.remove(index);
                self.close_connection(lane.id, now);
                continue;
            }
            // What has to be looked for in a list waits for the next one.
            while let Some((IpcCommand::Hash { hash, except: Some(except) }, purpose)) = self.kicks.waiting.front() {
                anvil.sweeps.entry(*hash).or_default().push((*except, *purpose));
                self.kicks.waiting.pop_front();
            }
            let listing = anvil.lanes.iter().any(|lane| matches!(lane.work, Work::List(_)));
            let wants_list = !listing && !anvil.sweeps.is_empty();
            if anvil.found.is_empty() && !wants_list && anvil.again.is_empty() && self.kicks.waiting.is_empty() {
                anvil.full = false;
                let idle: Vec<_> = anvil.lanes.extract_if(.., |lane| lane.is_idle()).collect();
                for lane in idle {
                    self.close_connection(lane.id, now);
                }
                return;
            }
            let Some(lane) = anvil.lanes.iter_mut().find(|lane| lane.is_idle()) else {
                let opening = anvil.lanes.iter().any(|lane| !lane.greeted);
                if !opening && !anvil.full && anvil.lanes.len() < LANES_MAX {
                    let lane = self.open_lane(now);
                    if let Via::Anvil(anvil) = &mut self.kicks.via {
                        anvil.lanes.push(lane);
                    }
                }
                return;
            };
            let mut line = Vec::with_capacity(64);
            if let Some(placed) = anvil.found.pop_front() {
                Command::kick_placed(placed).write(&mut line);
                lane.work = Work::Found;
            } else if wants_list {
                Command::ConnectDump.write(&mut line);
                lane.work = Work::List(List {
                    sweeps: std::mem::take(&mut anvil.sweeps),
                    header: None,
                    found: BTreeSet::new(),
                });
            } else {
                let again = anvil.again.pop_front();
                let is_again = again.is_some();
                let Some((command, purpose)) = again.or_else(|| self.kicks.waiting.pop_front()) else { return };
                match command.clone() {
                    IpcCommand::User { username } => Command::KickUser { username },
                    IpcCommand::Alt { field, value } => Command::KickAltUser { field, value },
                    IpcCommand::Hash { hash, .. } => Command::kick_hash(hash),
                }
                .write(&mut line);
                lane.work = Work::Kick { command, purpose, again: is_again };
            }
            let id = lane.id;
            self.connections.write(id, &line);
            self.timers.set(Timer::Anvil(id), now.instant + ANSWER_TIMEOUT);
        }
    }

    /// A line from anvil. Returns whether to go on reading.
    pub(crate) fn anvil_line(&mut self, id: ConnectionId, line: &[u8], now: Now) -> bool {
        let Via::Anvil(anvil) = &mut self.kicks.via else { return false };
        let Some(lane) = anvil.lane(id) else { return false };
        if !lane.greeted {
            if !is_server_version_line(line) {
                let said = Printable { bytes: line, max_bytes: 100 };
                let reason = format!("anvil said {said}: it is not that of Dovecot 2.4");
                return self.give_up_lane(id, &reason, now);
            }
            lane.greeted = true;
            anvil.established = true;
            self.timers.clear(Timer::Anvil(id));
            self.found_kick_socket(Socket::Anvil);
            self.ask_anvil(now);
            return true;
        }
        match &mut lane.work {
            Work::Nothing => {
                warn!("anvil: an answer came that nobody had asked for");
                self.give_up_lane(id, "protocol error", now)
            }
            Work::Kick { .. } | Work::Found => {
                let Some(count) = read_kicked(line) else {
                    warn!("anvil: answered {}: not its protocol", Printable { bytes: line, max_bytes: 100 });
                    return self.give_up_lane(id, "protocol error", now);
                };
                debug!("anvil: {count} sessions were kicked");
                self.timers.clear(Timer::Anvil(id));
                if let Work::Kick { command, purpose, again } = std::mem::replace(&mut lane.work, Work::Nothing) {
                    // How many the first time, nobody knows.
                    let kicked = Some(count).filter(|_| !again);
                    match (purpose, command) {
                        (Purpose::Kill(for_kill), IpcCommand::Hash { except: None, .. }) => {
                            self.check_kick(Check { for_kill, kicked, asked: 0 }, count, now);
                        }
                        (Purpose::Check(check), _) => self.check_kick(check, count, now),
                        _ => self.kick_ended(purpose, kicked, now),
                    }
                }
                self.ask_anvil(now);
                true
            }
            Work::List(List { header: header @ None, .. }) => {
                *header = Some(field_position(line, BACKEND_FIELD));
                true
            }
            Work::List(List { sweeps, header: Some(position), found }) => {
                if line.is_empty() {
                    self.timers.clear(Timer::Anvil(id));
                    if let Work::List(list) = std::mem::replace(&mut lane.work, Work::Nothing) {
                        for purpose in purposes(list.sweeps) {
                            // Those that were found are still being kicked.
                            self.kick_ended(purpose, None, now);
                        }
                    }
                    self.ask_anvil(now);
                    return true;
                }
                let Some(session) = Session::parse(line) else {
                    warn!("anvil: listed {}: not its protocol", Printable { bytes: line, max_bytes: 100 });
                    return self.give_up_lane(id, "protocol error", now);
                };
                let placed = position.and_then(|position| session.placed(position));
                let spared = placed.and_then(|placed| sweeps.get(&placed.hash));
                if let (Some(placed), Some(spared)) = (placed, spared)
                    && spared.iter().any(|(except, _)| placed.ip != *except)
                    && found.insert(placed)
                {
                    if anvil.found.len() < FOUND_MAX {
                        anvil.found.push_back(placed);
                    } else {
                        error!("Kicking sessions failed: more than {FOUND_MAX} of them wait");
                    }
                    self.ask_anvil(now);
                }
                self.timers.set(Timer::Anvil(id), now.instant + ANSWER_TIMEOUT);
                true
            }
        }
    }

    /// anvil has not answered in time.
    pub(crate) fn anvil_timed_out(&mut self, id: ConnectionId, now: Now) {
        let reason = format!("anvil did not answer within {} secs", ANSWER_TIMEOUT.as_secs());
        let Via::Anvil(anvil) = &mut self.kicks.via else { return };
        let is_new = |lane: &Lane| lane.id == id && matches!(lane.work, Work::Kick { again: false, .. });
        if let Some(index) = anvil.lanes.iter().position(is_new)
            && let Work::Kick { command, purpose, .. } = anvil.lanes.remove(index).work
        {
            warn!("anvil did not answer within {} secs: asking again", ANSWER_TIMEOUT.as_secs());
            anvil.again.push_back((command, purpose));
            self.connections.abort(id);
            self.ask_anvil(now);
        } else {
            self.give_up_lane(id, &reason, now);
        }
    }

    /// Ends a connection that is no use. Returns that there is nothing more to read.
    fn give_up_lane(&mut self, id: ConnectionId, reason: &str, now: Now) -> bool {
        self.connections.abort(id);
        self.anvil_closed(id, reason, now);
        false
    }

    /// A connection to anvil is gone, or could not be made: what it was asked for has failed.
    pub(super) fn anvil_closed(&mut self, id: ConnectionId, reason: &str, now: Now) {
        let Via::Anvil(anvil) = &mut self.kicks.via else { return };
        let Some(index) = anvil.lanes.iter().position(|lane| lane.id == id) else { return };
        let lane = anvil.lanes.remove(index);
        self.timers.clear(Timer::Anvil(id));
        if !anvil.lanes.is_empty() {
            anvil.full |= !lane.greeted;
            self.work_fails(lane.work, reason, now);
            self.hand_over_kicks(now);
            return;
        }
        let Via::Anvil(mut anvil) = std::mem::take(&mut self.kicks.via) else { return };
        if anvil.established {
            // What it was not asked for yet may still be asked for, of the next.
            for (hash, spared) in std::mem::take(&mut anvil.sweeps) {
                for (except, purpose) in spared {
                    self.kicks.waiting.push_back((IpcCommand::Hash { hash, except: Some(except) }, purpose));
                }
            }
            self.kicks.waiting.append(&mut anvil.again);
            self.work_fails(lane.work, reason, now);
            self.end_anvil(anvil, reason, now);
        } else {
            let reason = match &anvil.ipc_error {
                Some(ipc_error) => format!("{ipc_error}; {reason}"),
                None => reason.to_owned(),
            };
            self.waiting_kicks_fail(&reason, now);
        }
        self.hand_over_kicks(now);
    }

    /// anvil is given up as a whole: all that was asked has failed.
    pub(super) fn end_anvil(&mut self, anvil: Anvil, reason: &str, now: Now) {
        for lane in anvil.lanes {
            self.connections.abort(lane.id);
            self.timers.clear(Timer::Anvil(lane.id));
            self.work_fails(lane.work, reason, now);
        }
        for purpose in purposes(anvil.sweeps) {
            self.kick_failed(purpose, reason, now);
        }
        for (_, purpose) in anvil.again {
            self.kick_failed(purpose, reason, now);
        }
        for _ in anvil.found {
            self.kick_failed(Purpose::Other, reason, now);
        }
    }

    fn work_fails(&mut self, work: Work, reason: &str, now: Now) {
        match work {
            Work::Nothing => {}
            Work::Kick { purpose, .. } => self.kick_failed(purpose, reason, now),
            Work::Found => self.kick_failed(Purpose::Other, reason, now),
            Work::List(list) => {
                for purpose in purposes(list.sweeps) {
                    self.kick_failed(purpose, reason, now);
                }
            }
        }
    }
}

fn purposes(sweeps: Sweeps) -> impl Iterator<Item = Purpose> {
    sweeps.into_values().flatten().map(|(_, purpose)| purpose)
}
