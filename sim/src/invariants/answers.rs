//! Every question gets an answer in time, and lookups fail only where they must.
//!
//! A director may end a lookup with a temporary failure while it waits for the ring, or for a user's move: while
//! something goes wrong, or did so a short while ago ([`may_fail`]). And it must do so while no backend of the user's
//! pool takes users ([`Pools`]): nothing then brings one back but an operator.

use std::collections::BTreeSet;
use std::net::IpAddr;

use director_core::wire::admin::Command;

use crate::plan::{Fault, Plan, SECOND};
use crate::views::HostLine;

/// The name in reports.
pub const NAME: &str = "answers";

/// A lookup waits 30 s at most (ring protocol, "Lookups"); then there is the way to it and back.
pub const LOOKUP_MAX_MICROS: u64 = 31 * SECOND;

/// How long after the ring has become whole for good lookups may still fail: a move that was under way is given up after
/// 30 s, and a command that was given before may take [`COMMAND_MAX_MICROS`].
pub const RECOVER_MAX_MICROS: u64 = COMMAND_MAX_MICROS + LOOKUP_MAX_MICROS;

/// How long a ring of directors that all start at about the same time may take until it serves.
pub const START_MAX_MICROS: u64 = 60 * SECOND;

/// A command waits for the ring before and after it does its work, 30 s each time (admin protocol, "Waiting for the
/// ring").
pub const COMMAND_MAX_MICROS: u64 = 62 * SECOND;

/// A move is given up after 30 s (ring protocol, "Moves and kills").
pub const MOVE_MAX_MICROS: u64 = 31 * SECOND;

/// Whether something that was asked then has waited for too long by now, given how long the director's process has
/// stood still since.
pub fn is_late(asked_micros: u64, now: u64, paused_micros: u64, max_micros: u64) -> bool {
    now.saturating_sub(asked_micros).saturating_sub(paused_micros) > max_micros
}

/// Whether a lookup that was asked then may end with a temporary failure although there is a backend for the user.
///
/// * `faults`: whether the run has any.
/// * `whole_since`: since when the ring has been whole, once faults have stopped.
pub fn may_fail(asked_micros: u64, faults: bool, whole_since: Option<u64>) -> bool {
    let recovered = whole_since.is_some_and(|since| asked_micros > since + RECOVER_MAX_MICROS);
    asked_micros < START_MAX_MICROS || (faults && !recovered)
}

/// Which pools may have no backend that takes users.
///
/// Two things must be true of an empty pool, and neither is what a lookup is answered from. Operators must have ordered
/// every backend away that all directors have in their configurations: a director that loses one on its own has no
/// excuse. And once the ring has recovered, when no order is at work any more, the director must list none that takes
/// users.
#[derive(Debug)]
pub struct Pools {
    /// The backends that are in every configuration, with their tags.
    configured: Vec<(IpAddr, String)>,
    /// Those that have been ordered down, to no vhosts, out, or into another pool.
    ordered_away: BTreeSet<IpAddr>,
    /// Each director's last HOST-LIST since the ring has recovered.
    lists: Vec<Option<Vec<HostLine>>>,
}

impl Pools {
    /// Nothing has been ordered.
    pub fn new(plan: &Plan) -> Self {
        let all = plan.configuration(0, 1).hosts;
        let mut configured: Vec<(IpAddr, String)> =
            all.into_iter().map(|host| (host.ip, String::from_utf8_lossy(&host.tag).into_owned())).collect();
        if plan.faults.has(Fault::Configurations) {
            // An old configuration has but the first backend of each pool for sure.
            configured.dedup_by(|next, first| next.1 == first.1);
        }
        Self { configured, ordered_away: BTreeSet::new(), lists: vec![None; plan.directors] }
    }

    /// An operator has given that command; whether it is obeyed, and when, is open.
    pub fn ordered(&mut self, command: &Command<'_>) {
        match command {
            Command::HostDown { ip }
            | Command::HostRemove { ip }
            | Command::HostUpdate { ip, vhosts: 0 }
            | Command::HostSet { ip, vhosts: Some(0), .. } => {
                self.ordered_away.insert(*ip);
            }
            Command::HostSet { ip, tag: Some(tag), .. }
                if self.configured.iter().any(|(other, old)| other == ip && old.as_bytes() != &**tag) =>
            {
                self.ordered_away.insert(*ip);
            }
            _ => {}
        }
    }

    /// A director has said which backends there are, while no order was at work any more.
    pub fn listed(&mut self, director: usize, hosts: &[HostLine]) {
        self.lists[director] = Some(hosts.to_vec());
    }

    /// Whether that director may say that there is no backend for users with that tag.
    pub fn may_be_empty(&self, director: usize, tag: &str) -> bool {
        let mut pool = self.configured.iter().filter(|(_, other)| other == tag);
        let takes_users = |host: &HostLine| host.up && host.vhosts > 0 && host.tag == tag;
        pool.all(|(ip, _)| self.ordered_away.contains(ip))
            && self.lists[director].as_ref().is_none_or(|hosts| !hosts.iter().any(takes_users))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::{Faults, Fixed};

    #[test]
    fn a_pool_is_empty_only_by_order_and_if_no_backend_is_listed() {
        let fixed = Fixed { faults: Some(Faults::NONE), ..Fixed::default() };
        let mut plan = Plan::draw(1, &fixed);
        (plan.tags, plan.backends, plan.directors) = (true, 2, 2);
        let mut pools = Pools::new(&plan);
        let order = |pools: &mut Pools, line: &str| pools.ordered(&Command::parse(line.as_bytes()).unwrap());
        assert!(!pools.may_be_empty(0, ""));
        order(&mut pools, "HOST-DOWN\t10.2.0.1");
        order(&mut pools, "HOST-SET\t10.2.0.2@\t50");
        order(&mut pools, "HOST-UPDATE\t10.2.0.2\t1");
        assert!(!pools.may_be_empty(0, ""), "the second is there");
        order(&mut pools, "HOST-UPDATE\t10.2.0.2\t0");
        assert!(pools.may_be_empty(0, ""));
        assert!(!pools.may_be_empty(0, crate::plan::TAG), "another pool");

        let line =
            |up, vhosts, tag: &str| HostLine { ip: "10.2.0.3".parse().unwrap(), vhosts, tag: tag.to_owned(), up };
        pools.listed(0, &[line(false, 100, ""), line(true, 0, ""), line(true, 100, crate::plan::TAG)]);
        assert!(pools.may_be_empty(0, ""));
        pools.listed(0, &[line(true, 1, "")]);
        assert!(!pools.may_be_empty(0, ""), "one has come");
        assert!(pools.may_be_empty(1, ""), "as far as the other knows, none");
    }

    #[test]
    fn only_backends_of_every_configuration_count() {
        let fixed = Fixed { faults: Some(Faults::new(&[Fault::Configurations])), ..Fixed::default() };
        let mut plan = Plan::draw(1, &fixed);
        (plan.tags, plan.backends) = (true, 2);
        let mut pools = Pools::new(&plan);
        pools.ordered(&Command::parse(b"HOST-REMOVE\t10.2.0.2").unwrap());
        assert!(!pools.may_be_empty(0, ""));
        pools.ordered(&Command::parse(b"HOST-SET\t10.2.0.1@blue\t100").unwrap());
        assert!(pools.may_be_empty(0, ""), "a restarted director may not know the second");
    }

    #[test]
    fn time_in_which_the_director_stood_still_does_not_count() {
        assert!(!is_late(0, LOOKUP_MAX_MICROS, 0, LOOKUP_MAX_MICROS));
        assert!(is_late(0, LOOKUP_MAX_MICROS + 1, 0, LOOKUP_MAX_MICROS));
        assert!(!is_late(0, LOOKUP_MAX_MICROS + 1, 1, LOOKUP_MAX_MICROS));
    }

    #[test]
    fn lookups_fail_only_where_something_goes_wrong() {
        let late = START_MAX_MICROS + RECOVER_MAX_MICROS;
        assert!(may_fail(SECOND, false, None), "the ring may not have come together yet");
        assert!(!may_fail(late, false, None));
        assert!(may_fail(late, true, None));
        assert!(may_fail(late, true, Some(START_MAX_MICROS)));
        assert!(!may_fail(late + 1, true, Some(START_MAX_MICROS)));
    }
}
