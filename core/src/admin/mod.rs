//! Administrators' connections: commands one after another, each waiting for the ring where it must (admin protocol).

mod lists;

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use log::{debug, error, info, warn};

use crate::connections::{Connection, Kind, Phase};
use crate::contract::ConnectionId;
use crate::director::Director;
use crate::hash::IpText;
use crate::kick::{Command as Kick, Purpose};
use crate::ring::users::clamp_secs;
use crate::time::Now;
use crate::timers::Timer;
use crate::users::Cursor;
use crate::wire::admin::{Command, LINE_MAX_BYTES, VERSION_LINE, is_version_line};
use crate::wire::ring::{HostLine, LINE_MAX_BYTES as RING_LINE_MAX_BYTES, Line, MINOR, Origin, UpDown};

use crate::ring::commands::{Except, VHOSTS_DEFAULT, tell_of_refused_tag};

/// A command waits for the ring for so long, before it runs and again before its answer.
const SYNC_TIMEOUT: Duration = Duration::from_secs(30);
/// The answer when it has waited in vain.
const SYNC_TIMED_OUT: &str = "Ring sync timed out";
/// The largest weight that an administrator may give.
const VHOSTS_MAX: u32 = 1000;
/// So many commands may wait behind one that waits for the ring; more are left unread.
const QUEUE_MAX: usize = 64;
/// The answer to a command for a host that is changing just now.
const DESYNCED: &str = "host is already being updated - try again later";
/// The answer about a director that somebody removes while it is added.
const BEING_REMOVED: &str = "director is being removed - try again later";
/// The answer about a backend that this ring can't have.
const HOST_REFUSED: &str = "host can't be added - see the director's log";

/// What an administrator's connection is doing.
#[derive(Debug, Default)]
pub(crate) struct Session {
    greeted: bool,
    /// Commands that wait for the one before them, and their numbers.
    queue: VecDeque<(u64, Vec<u8>)>,
    waiting: Option<Waiting>,
    /// The number of the command that runs or waits.
    number: u64,
    /// A USER-LIST that is being produced.
    listing: Option<Listing>,
    /// The client has closed: what it asked for is still done.
    pub(crate) gone: bool,
}

#[derive(Debug)]
enum Waiting {
    /// For the ring to be synced, to run this.
    ToRun(Vec<u8>),
    /// For the ring to be synced, to say this.
    ToAnswer(Answer),
    /// For other kicks to end, to run this.
    ForKicks(Vec<u8>),
    /// For the end of a HOST-RESET-USERS.
    ForReset,
}

/// What is said when the ring is synced.
#[derive(Debug)]
enum Answer {
    /// OK.
    Done,
    /// OK, if this director is in the ring then.
    Added(SocketAddr),
}

#[derive(Debug)]
struct Listing {
    cursor: Cursor,
    host: Option<crate::hosts::HostNumber>,
}

impl Session {
    /// Whether more commands may be read.
    pub(crate) fn takes_more(&self) -> bool {
        self.queue.len() < QUEUE_MAX
    }

    fn is_busy(&self) -> bool {
        self.waiting.is_some() || self.listing.is_some()
    }
}

/// How a command ends.
enum Outcome {
    /// This is the answer.
    Answer(String),
    /// This is the answer when the ring has it.
    AnswerWhenSynced(Answer),
    /// The answer has been written, or is being produced.
    Done,
}

impl Outcome {
    fn ok() -> Self {
        Self::Answer("OK".into())
    }

    fn ok_when_synced() -> Self {
        Self::AnswerWhenSynced(Answer::Done)
    }

    fn not_found() -> Self {
        Self::Answer("NOTFOUND".into())
    }
}

impl Director {
    /// An administrator has connected.
    pub(crate) fn accept_admin(&mut self) -> ConnectionId {
        let id = self.connections.add(Kind::Admin(Box::default()), Phase::Open, LINE_MAX_BYTES);
        self.connections.write(id, VERSION_LINE);
        id
    }

    fn session(&mut self, id: ConnectionId) -> Option<&mut Session> {
        match self.connections.get_mut(id) {
            Some(Connection { kind: Kind::Admin(session), .. }) => Some(session),
            _ => None,
        }
    }

    /// One line of an administrator. Returns whether to go on reading.
    pub(crate) fn admin_line(&mut self, id: ConnectionId, line: &[u8], now: Now) -> bool {
        debug!("admin({id}): input: {}", line.escape_ascii());
        let Some(session) = self.session(id) else { return false };
        if !session.greeted {
            if !is_version_line(line) {
                error!("admin({id}): the client does not speak director-doveadm 1: {}", shortened(line));
                self.connections.write(id, b"This is director-doveadm 1: say VERSION first\n");
                self.close_connection(id, now);
                return false;
            }
            session.greeted = true;
            return true;
        }
        let is_busy = session.is_busy();
        self.admin_commands += 1;
        let number = self.admin_commands;
        let Some(session) = self.session(id) else { return false };
        if is_busy {
            session.queue.push_back((number, line.to_vec()));
            self.update_reading(id);
            return true;
        }
        session.number = number;
        self.run_admin_line(id, line, now)
    }

    /// Runs a command, or waits for the ring to run it. Returns whether the connection goes on.
    fn run_admin_line(&mut self, id: ConnectionId, line: &[u8], now: Now) -> bool {
        let command = match Command::parse(line) {
            Ok(command) => command,
            Err(error) => {
                error!("admin({id}): {error}");
                self.connections.write(id, format!("{error}\n").as_bytes());
                self.close_connection(id, now);
                return false;
            }
        };
        if needs_sync(&command) && (!self.ring.synced || self.is_behind_others(id)) {
            self.admin_waits(id, Waiting::ToRun(line.to_vec()), now);
            return true;
        }
        self.run_admin_command(id, &command, now);
        true
    }

    fn run_admin_command(&mut self, id: ConnectionId, command: &Command<'_>, now: Now) {
        match self.admin_command(id, command, now) {
            Outcome::Answer(text) => self.admin_answer(id, &text),
            Outcome::AnswerWhenSynced(answer) => {
                // The batch's SYNC goes out when it has been read; it is this one that is waited for.
                self.sync_if_wanted(now);
                if self.ring.synced {
                    self.admin_answer_synced(id, &answer);
                } else {
                    self.admin_waits(id, Waiting::ToAnswer(answer), now);
                }
            }
            Outcome::Done => {}
        }
    }

    fn admin_answer(&mut self, id: ConnectionId, text: &str) {
        debug!("admin({id}): output: {text}");
        self.connections.write(id, text.as_bytes());
        self.connections.write(id, b"\n");
    }

    /// The ring is synced: answers a command that has waited for that.
    fn admin_answer_synced(&mut self, id: ConnectionId, answer: &Answer) {
        let text = match answer {
            // Somebody has removed it at the same time, and the ring has heard of that as well.
            Answer::Added(address) if !self.ring.members.is_listed(*address) => BEING_REMOVED,
            Answer::Done | Answer::Added(_) => "OK",
        };
        self.admin_answer(id, text);
    }

    /// Whether a command that came before that of this connection still waits to be run: what came first runs first.
    fn is_behind_others(&mut self, id: ConnectionId) -> bool {
        let Some(number) = self.session(id).map(|session| session.number) else { return false };
        self.next_admin_to_run().is_some_and(|(first, _)| first < number)
    }

    /// The first command that waits for the ring to be run.
    fn next_admin_to_run(&self) -> Option<(u64, ConnectionId)> {
        let connections = &self.connections;
        let waits_to_run = |id: ConnectionId| {
            matches!(connections.get(id), Some(Connection { kind: Kind::Admin(session), .. })
                if matches!(session.waiting, Some(Waiting::ToRun(_))))
        };
        self.admins_waiting.iter().map(|(&number, &id)| (number, id)).find(|&(_, id)| waits_to_run(id))
    }

    fn admin_waits(&mut self, id: ConnectionId, waiting: Waiting, now: Now) {
        if let Some(session) = self.session(id) {
            session.waiting = Some(waiting);
            let number = session.number;
            self.admins_waiting.insert(number, id);
            self.timers.set(Timer::AdminSync(id), now.instant + SYNC_TIMEOUT);
        }
    }

    /// What a connection waits for has come, or never will.
    fn admin_wait_ends(&mut self, id: ConnectionId) -> Option<Waiting> {
        let session = self.session(id)?;
        let waiting = session.waiting.take();
        self.admin_waits_no_more(id);
        waiting
    }

    /// A connection does not wait for the ring any more.
    pub(crate) fn admin_waits_no_more(&mut self, id: ConnectionId) {
        self.timers.clear(Timer::AdminSync(id));
        if let Some(number) = self.session(id).map(|session| session.number) {
            self.admins_waiting.remove(&number);
        }
    }

    /// The ring is synced: what waited for that goes on, at the end of the batch.
    pub(crate) fn admin_ring_synced(&mut self) {
        self.admins_wake = true;
    }

    /// Goes on with the commands that have waited for the ring, in the order in which they came. What changes something
    /// makes the rest wait for that as well, but no longer than they would have.
    pub(crate) fn wake_admins(&mut self, now: Now) {
        if !std::mem::take(&mut self.admins_wake) || !self.ring.synced {
            return;
        }
        let mut answered = Vec::new();
        for id in self.admins_waiting.values().copied().collect::<Vec<_>>() {
            let Some(session) = self.session(id) else { continue };
            if let Some(Waiting::ToAnswer(answer)) =
                session.waiting.take_if(|waiting| matches!(waiting, Waiting::ToAnswer(_)))
            {
                self.admin_waits_no_more(id);
                self.admin_answer_synced(id, &answer);
                answered.push(id);
            }
        }
        // What comes next on those connections may have come before what others wait with.
        for id in answered {
            self.admin_goes_on(id, now);
        }
        while self.ring.synced
            && let Some((_, id)) = self.next_admin_to_run()
            && let Some(Waiting::ToRun(line)) = self.admin_wait_ends(id)
        {
            self.run_admin_line(id, &line, now);
            self.admin_goes_on(id, now);
        }
    }

    /// Runs the commands that came while another waited, up to the next one that has to wait.
    fn admin_goes_on(&mut self, id: ConnectionId, now: Now) {
        loop {
            let Some(session) = self.session(id) else { return };
            if session.is_busy() {
                return;
            }
            let Some((number, line)) = session.queue.pop_front() else { break };
            session.number = number;
            if !self.run_admin_line(id, &line, now) {
                break;
            }
        }
        self.update_reading(id);
        if self.session(id).is_some_and(|session| session.gone) {
            self.connections.remove(id);
        }
    }

    /// A command has waited long enough.
    pub(crate) fn admin_sync_timed_out(&mut self, id: ConnectionId, now: Now) {
        let Some(waiting) = self.admin_wait_ends(id) else { return };
        if let Waiting::ToRun(line) = waiting {
            warn!("admin({id}): {SYNC_TIMED_OUT}, so this was not done: {}", shortened(&line));
        }
        self.admin_answer(id, SYNC_TIMED_OUT);
        self.admin_goes_on(id, now);
    }

    /// An administrator's connection is gone. What was asked for is still done (admin protocol): then the session stays
    /// until it is.
    pub(crate) fn admin_closed(&mut self, id: ConnectionId) -> bool {
        let Some(session) = self.session(id) else { return true };
        let listing = session.listing.take();
        session.gone = true;
        let keep = session.waiting.is_some();
        if let Some(listing) = listing {
            self.users.end(listing.cursor);
        }
        !keep
    }

    fn admin_command(&mut self, id: ConnectionId, command: &Command<'_>, now: Now) -> Outcome {
        match command {
            Command::HostList => self.list_hosts(id),
            Command::HostListRemoved => self.list_removed_hosts(id),
            Command::DirectorList => self.list_directors(id, now),
            Command::DirectorAdd { ip, port } => self.admin_add_director(*ip, *port, now),
            Command::DirectorRemove { ip, port } => self.admin_remove_director(*ip, *port, now),
            Command::HostSet { ip, tag, vhosts } => self.admin_set_host(*ip, tag.as_deref(), *vhosts, now),
            Command::HostUpdate { ip, vhosts } => self.admin_update_host(*ip, *vhosts, now),
            Command::HostUp { ip } => self.admin_set_down(*ip, false, now),
            Command::HostDown { ip } => self.admin_set_down(*ip, true, now),
            Command::HostRemove { ip } => {
                if self.hosts.find(*ip).is_none() {
                    return Outcome::not_found();
                }
                let origin = self.new_origin();
                // Lookups that go on with it tell of users who are elsewhere now: after this.
                self.broadcast(&Line::HostRemove { origin, ip: *ip }, Except::Nobody);
                self.remove_host(*ip, now);
                Outcome::ok_when_synced()
            }
            Command::HostFlush { ip: Some(ip) } => {
                if self.admin_flush_host(*ip, now) {
                    Outcome::ok_when_synced()
                } else {
                    Outcome::not_found()
                }
            }
            Command::HostFlush { ip: None } => {
                warn!("admin: the users of all hosts are forgotten; their sessions go on");
                let ips: Vec<IpAddr> = self.hosts.iter().map(|(_, host)| host.ip).collect();
                for ip in ips {
                    self.admin_flush_host(ip, now);
                }
                Outcome::ok()
            }
            Command::UserLookup { user, tag } => self.admin_lookup(user, tag),
            Command::UserList { ip } => self.start_user_list(id, *ip),
            Command::HostResetUsers { ip, max_parallel } => self.admin_reset_users(id, *ip, *max_parallel, now),
            Command::UserMove { user, ip } => self.admin_move_user(user, *ip, now),
            Command::UserKick { username, nowait } => {
                let username = username.to_vec();
                let line = |origin| Line::UserKick { origin, username: (&*username).into() };
                self.admin_kick(id, command, line, &Kick::User { username: username.clone().into() }, *nowait, now)
            }
            Command::UserKickAlt { field, value, nowait } => {
                let (field, value) = (field.to_vec(), value.to_vec());
                let line = |origin| Line::UserKickAlt { origin, field: (&*field).into(), value: (&*value).into() };
                let kick = Kick::Alt { field: field.clone().into(), value: value.clone().into() };
                self.admin_kick(id, command, line, &kick, *nowait, now)
            }
        }
    }

    pub(crate) fn admin_flush_host(&mut self, ip: IpAddr, now: Now) -> bool {
        if self.hosts.find(ip).is_none() {
            return false;
        }
        let origin = self.new_origin();
        self.broadcast(&Line::HostFlush { origin, ip }, Except::Nobody);
        self.flush_host(ip, now);
        true
    }

    fn admin_add_director(&mut self, ip: IpAddr, port: Option<u16>, now: Now) -> Outcome {
        let own = self.ring.members.self_address();
        let address = SocketAddr::new(ip, port.unwrap_or(own.port()));
        // Who is known already may have been removed elsewhere a moment ago: then that comes before our SYNC does.
        self.want_sync();
        if !self.ring.members.is_listed(address) {
            info!("admin: adding director {address} to the ring");
            self.ring.members.add(address);
            self.timers.clear(Timer::ForgetMember(address));
            self.forward_director(address, None, None, now);
            self.connect_right("A director was added to the ring", now);
        }
        Outcome::AnswerWhenSynced(Answer::Added(address))
    }

    fn admin_remove_director(&mut self, ip: IpAddr, port: Option<u16>, now: Now) -> Outcome {
        let address = match port {
            Some(port) => Some(SocketAddr::new(ip, port)),
            None => self.ring.members.find_ip(ip),
        };
        match address {
            Some(address) if address == self.ring.members.self_address() => {
                info!("admin: telling the others that we leave the ring");
                self.broadcast(&Line::DirectorRemove { address }, Except::Nobody);
                Outcome::ok()
            }
            Some(address) if self.remove_member(address, None, now) => Outcome::ok_when_synced(),
            _ => Outcome::not_found(),
        }
    }

    fn admin_set_host(&mut self, ip: IpAddr, tag: Option<&[u8]>, vhosts: Option<u32>, now: Now) -> Outcome {
        if vhosts.is_some_and(|vhosts| vhosts > VHOSTS_MAX) {
            return Outcome::Answer("vhost count too large".into());
        }
        let Some(number) = self.hosts.find(ip) else {
            let vhosts = vhosts.unwrap_or(VHOSTS_DEFAULT);
            let line = HostLine {
                ip,
                vhosts,
                tag: tag.unwrap_or_default().to_vec().into(),
                updown: Some(UpDown { down: false, changed_secs: 0 }),
                hostname: None,
            };
            if !line.tag.is_empty() && !self.may_have_tags() {
                tell_of_refused_tag(ip);
                return Outcome::Answer(HOST_REFUSED.into());
            }
            let Some(number) = self.add_host(&line) else {
                return Outcome::Answer(HOST_REFUSED.into());
            };
            info!("admin: Host {ip} added with {vhosts} vhosts");
            self.originate_host(number);
            self.host_changed(number, now);
            return Outcome::ok_when_synced();
        };
        let Some(host) = self.hosts.get(number) else { return Outcome::not_found() };
        if tag.is_some_and(|tag| tag != self.hosts.tag_name(host.tag)) {
            return Outcome::Answer("host tag can't be changed".into());
        }
        if host.desynced {
            return Outcome::Answer(DESYNCED.into());
        }
        let vhosts = vhosts.unwrap_or(host.vhosts);
        self.admin_change_vhosts(ip, vhosts, now)
    }

    fn admin_update_host(&mut self, ip: IpAddr, vhosts: u32, now: Now) -> Outcome {
        if vhosts > VHOSTS_MAX {
            return Outcome::Answer("vhost count too large".into());
        }
        match self.hosts.find(ip).and_then(|number| self.hosts.get(number)) {
            None => Outcome::not_found(),
            Some(host) if host.desynced => Outcome::Answer(DESYNCED.into()),
            Some(_) => self.admin_change_vhosts(ip, vhosts, now),
        }
    }

    fn admin_change_vhosts(&mut self, ip: IpAddr, vhosts: u32, now: Now) -> Outcome {
        let Some(number) = self.hosts.find(ip) else { return Outcome::not_found() };
        let before = self.hosts.get(number).map_or(0, |host| host.vhosts);
        if cfg!(feature = "canary-down-host-not-changed") && self.hosts.get(number).is_some_and(|host| host.down) {
            return Outcome::ok_when_synced();
        }
        info!("admin: Host {ip} vhost count changed from {before} to {vhosts}");
        self.hosts.update(number, |host| host.vhosts = vhosts);
        self.originate_host(number);
        self.host_changed(number, now);
        Outcome::ok_when_synced()
    }

    fn admin_set_down(&mut self, ip: IpAddr, down: bool, now: Now) -> Outcome {
        let Some(number) = self.hosts.find(ip) else { return Outcome::not_found() };
        let Some(host) = self.hosts.get(number) else { return Outcome::not_found() };
        if host.down == down {
            return Outcome::ok();
        }
        if host.desynced {
            return Outcome::Answer(DESYNCED.into());
        }
        info!("admin: Host {ip} is {}", if down { "down" } else { "up" });
        // The time of a change never shrinks, whatever the clock does: the newer change wins.
        let changed_secs = now.unix_secs.max(host.updown_changed_secs.saturating_add(1));
        self.hosts.update(number, |host| {
            host.down = down;
            host.updown_changed_secs = changed_secs;
        });
        self.originate_host(number);
        self.host_changed(number, now);
        Outcome::ok_when_synced()
    }

    fn admin_lookup(&mut self, user: &[u8], tag: &[u8]) -> Outcome {
        let hash = self.hash_or_name(user);
        let expire_secs = u64::from(self.tuning.user_expire_secs);
        let ip = |host: Option<&crate::hosts::Host>| host.map_or(String::new(), |host| IpText(host.ip).to_string());
        let mut current = (String::new(), 0);
        let mut hashed = String::new();
        if let Some(tag) = self.hosts.tag_number(tag) {
            if let Some(user) = self.users.find(hash, tag).map(|slot| self.users.get(slot)) {
                current = (ip(self.hosts.get(user.host)), u64::from(user.timestamp_secs) + expire_secs);
            }
            let number = self.hosts.by_hash(hash, tag);
            hashed = ip(number.and_then(|number| self.hosts.get(number)));
        }
        let mut initial = String::new();
        if let Some(tag) = self.initial.tag_number(tag) {
            let number = self.initial.by_hash(hash, tag);
            initial = ip(number.and_then(|number| self.initial.get(number)));
        }
        Outcome::Answer(format!("{}\t{}\t{hashed}\t{initial}", current.0, current.1))
    }

    fn admin_reset_users(
        &mut self,
        id: ConnectionId,
        ip: Option<IpAddr>,
        max_parallel: Option<u32>,
        now: Now,
    ) -> Outcome {
        let host = match ip {
            Some(ip) => match self.hosts.find(ip) {
                Some(host) => Some(host),
                None => return Outcome::not_found(),
            },
            None => None,
        };
        let max_parallel = max_parallel.filter(|&max| max > 0).unwrap_or(self.tuning.max_parallel_moves);
        let Some(session) = self.session(id) else { return Outcome::Done };
        session.waiting = Some(Waiting::ForReset);
        self.start_reset(id, host, max_parallel, now);
        Outcome::Done
    }

    /// A HOST-RESET-USERS has ended.
    pub(crate) fn admin_reset_done(&mut self, id: ConnectionId, now: Now) {
        let Some(session) = self.session(id) else { return };
        if matches!(session.waiting, Some(Waiting::ForReset)) {
            session.waiting = None;
            self.admin_answer(id, "OK");
            self.admin_goes_on(id, now);
        }
    }

    fn admin_move_user(&mut self, user: &[u8], ip: IpAddr, now: Now) -> Outcome {
        let hash = self.hash_or_name(user);
        let Some(host) = self.hosts.find(ip) else { return Outcome::not_found() };
        let Some(tag) = self.hosts.get(host).map(|host| host.tag) else { return Outcome::not_found() };
        let known = self.users.find(hash, tag).map(|slot| (slot, self.users.get(slot)));
        match known {
            Some((_, user)) if user.killing => Outcome::Answer("TRYAGAIN".into()),
            Some((slot, user)) if user.host == host && !user.weak => {
                self.users.touch(slot, user.timestamp_secs.max(clamp_secs(now.unix_secs)), now);
                let user = self.users.get(slot);
                self.send_user(user, Except::Nobody);
                Outcome::ok()
            }
            _ => {
                info!("admin: user hash {hash} is moved to {ip}");
                self.originate_move(hash, host, None, now);
                Outcome::ok()
            }
        }
    }

    /// Kicks everywhere, when not too many kicks are under way.
    fn admin_kick<'k>(
        &mut self,
        id: ConnectionId,
        command: &Command<'_>,
        line: impl FnOnce(Origin) -> Line<'k>,
        kick: &Kick,
        nowait: bool,
        now: Now,
    ) -> Outcome {
        if self.kicks_are_full() {
            if nowait {
                return Outcome::Answer("TRYAGAIN".into());
            }
            let mut text = Vec::new();
            command.write(&mut text);
            text.pop();
            let Some(session) = self.session(id) else { return Outcome::Done };
            session.waiting = Some(Waiting::ForKicks(text));
            self.kicks_waiting.push_back(id);
            return Outcome::Done;
        }
        let line = line(Origin { address: self.ring.members.self_address(), seq: u32::MAX });
        let mut printed = Vec::new();
        line.write(MINOR, &mut printed);
        if printed.len() > RING_LINE_MAX_BYTES {
            // Every other director would drop its link to us for it.
            return Outcome::Answer("the name is too long".into());
        }
        let origin = self.new_origin();
        let line = match line {
            Line::UserKick { username, .. } => Line::UserKick { origin, username },
            Line::UserKickAlt { field, value, .. } => Line::UserKickAlt { origin, field, value },
            other => other,
        };
        self.broadcast(&line, Except::Nobody);
        self.kick(kick, Purpose::Admin, now);
        Outcome::ok()
    }

    /// Goes on with the kicks that have waited for others.
    pub(crate) fn wake_kicks(&mut self, now: Now) {
        if !std::mem::take(&mut self.kicks_wake) {
            return;
        }
        while !self.kicks_are_full() {
            let Some(id) = self.kicks_waiting.pop_front() else { return };
            let Some(session) = self.session(id) else { continue };
            match session.waiting.take() {
                Some(Waiting::ForKicks(line)) => {
                    self.run_admin_line(id, &line, now);
                    self.admin_goes_on(id, now);
                }
                other => session.waiting = other,
            }
        }
    }

    /// A name's hash; a name of digits only *is* a hash.
    fn hash_or_name(&self, user: &[u8]) -> u32 {
        let digits = !user.is_empty() && user.iter().all(u8::is_ascii_digit);
        let number = std::str::from_utf8(user).ok().filter(|_| digits).and_then(|text| text.parse().ok());
        number.unwrap_or_else(|| self.tuning.username_hash.hash(user))
    }
}

fn needs_sync(command: &Command<'_>) -> bool {
    match command {
        Command::DirectorAdd { .. }
        | Command::DirectorRemove { .. }
        | Command::HostSet { .. }
        | Command::HostUpdate { .. }
        | Command::HostUp { .. }
        | Command::HostDown { .. }
        | Command::HostRemove { .. }
        | Command::HostFlush { ip: Some(_) } => true,
        Command::HostList
        | Command::HostListRemoved
        | Command::DirectorList
        | Command::HostFlush { ip: None }
        | Command::HostResetUsers { .. }
        | Command::UserLookup { .. }
        | Command::UserList { .. }
        | Command::UserMove { .. }
        | Command::UserKick { .. }
        | Command::UserKickAlt { .. } => false,
    }
}

/// A line for the log, not too long.
fn shortened(line: &[u8]) -> String {
    const MAX: usize = 100;
    let text = line[..line.len().min(MAX)].escape_ascii().to_string();
    if line.len() > MAX { format!("{text}…") } else { text }
}
