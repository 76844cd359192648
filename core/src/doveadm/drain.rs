//! Taking a backend out of use, and putting it back.
//!
//! To drain a backend is to set its weight to 0, so that no hash leads there, and to flush it, so that the users who are
//! there move. The protocol keeps no former weight, and the other way to stop a backend, HOST-DOWN, which does keep
//! it, belongs to health monitors: they would set it up again in the middle of the work. So the client remembers the
//! weight, and tells it to the operator, who may undrain from another machine.

use std::net::IpAddr;

use super::answers::HostRow;
use super::{Exit, Verdict, printable};
use crate::hash::IpText;

/// What a ring gives to a backend that nobody weighed.
pub const VHOSTS_DEFAULT: u32 = 100;

/// What a drain has to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DrainPlan {
    /// The backend.
    pub ip: IpAddr,
    /// Its weight until now; 0 = it was drained before, and what is remembered of that stays.
    pub vhosts: u32,
    /// The users who are there.
    pub users: u64,
}

impl DrainPlan {
    /// Looks at the ring's backends. Without `force`, the last backend of a pool is not drained.
    ///
    /// # Errors
    /// No such backend, or its users would have nowhere to go.
    pub fn new(hosts: &[HostRow], ip: IpAddr, force: bool) -> Result<Self, Verdict> {
        let host = find(hosts, ip)?;
        let another = hosts.iter().any(|other| other.ip != ip && other.tag == host.tag && other.takes_users());
        if !another && !force {
            let pool = if host.tag.is_empty() { String::new() } else { format!(" with tag {}", printable(&host.tag)) };
            let text = format!(
                "{}: no other backend{pool} takes users, so that theirs could not log in any more (add one or set one \
                 up first, or drain with --force)",
                IpText(ip)
            );
            return Err(Verdict::error(Exit::TemporaryFailure, text));
        }
        Ok(Self { ip, vhosts: host.vhosts, users: host.users })
    }

    /// Said when the weight is 0 and the users begin to move.
    pub fn begun(&self) -> String {
        let Self { ip, vhosts, users } = *self;
        let ip = IpText(ip);
        if vhosts == 0 {
            return format!("{ip}: weight was 0 already, {users} users to move");
        }
        format!("{ip}: weight {vhosts} -> 0, {users} users to move (back: undrain {ip} {vhosts})")
    }
}

/// Where the weight of an undrain comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// The operator.
    Given,
    /// What a drain from this machine remembered.
    Remembered,
    /// Nowhere: it is [`VHOSTS_DEFAULT`].
    Default,
}

/// What an undrain has to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UndrainPlan {
    /// The backend.
    pub ip: IpAddr,
    /// The weight that it will have.
    pub vhosts: u32,
    /// The weight that it has.
    pub was: u32,
    /// Where the weight comes from.
    pub source: Source,
    /// It was set down as well.
    pub down: bool,
}

impl UndrainPlan {
    /// Chooses the weight: what the operator gave, else what was remembered, else the default.
    ///
    /// # Errors
    /// No such backend; or, as a success, it has a weight already and the operator gave no other.
    pub fn new(hosts: &[HostRow], ip: IpAddr, given: Option<u32>, remembered: Option<u32>) -> Result<Self, Verdict> {
        let host = find(hosts, ip)?;
        if host.vhosts > 0 && given.is_none() {
            let text = format!("{}: has weight {} already, nothing to undo", IpText(ip), host.vhosts);
            return Err(Verdict::warning(text));
        }
        let (vhosts, source) = match (given, remembered) {
            (Some(vhosts), _) => (vhosts, Source::Given),
            (None, Some(vhosts)) => (vhosts, Source::Remembered),
            (None, None) => (VHOSTS_DEFAULT, Source::Default),
        };
        Ok(Self { ip, vhosts, was: host.vhosts, source, down: host.down })
    }

    /// Said when it is done.
    pub fn done(&self) -> String {
        let Self { ip, vhosts, was, source, down } = *self;
        let ip = IpText(ip);
        let source = match source {
            Source::Given => "",
            Source::Remembered => " (as before it was drained)",
            Source::Default => " (the default: no drain from here is on record; for another, undrain HOST WEIGHT)",
        };
        let down = if down { "; it is down: 'up' it, too" } else { "" };
        format!("{ip}: weight {was} -> {vhosts}{source}{down}")
    }
}

/// What to keep of a drained backend's weight.
pub fn write_record(vhosts: u32) -> String {
    format!("{vhosts}\n")
}

/// Reads what [`write_record`] wrote. A weight of 0 would be no way back.
pub fn read_record(content: &[u8]) -> Option<u32> {
    std::str::from_utf8(content).ok()?.trim().parse().ok().filter(|&vhosts| vhosts > 0)
}

fn find(hosts: &[HostRow], ip: IpAddr) -> Result<&HostRow, Verdict> {
    hosts
        .iter()
        .find(|host| host.ip == ip)
        .ok_or_else(|| Verdict::error(Exit::NotFound, format!("{}: doesn't exist", IpText(ip))))
}
