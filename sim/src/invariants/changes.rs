//! A change of a backend that an administrator was told is done stands at the end, or a later one has replaced it.
//!
//! "OK" comes when the whole ring has the change (admin protocol, "Answers"), so whoever gives the next order, at
//! whatever director, gives it to a ring that knows. Of what overlaps in time, either may win, and with all that its
//! director knew of the backend, for HOST tells all of it: a weight that was being changed when the backend was set down
//! elsewhere may be as it was. A change without an OK may win at any time: it may have been done, and be on its way for
//! long.
//!
//! Without this, a change that is lost everywhere would leave all directors equal, and nobody would notice.
//!
//! It holds while the ring is the same. A director that was outside of it brings back its own weights, and whether a
//! backend is there, and may win with them, because these have no time in any version of the protocol (7.24 in its
//! document). So a change counts only if it was asked for after the last director had started, the last two had been
//! linked and had told each other what they had, and that had gone round.

use std::collections::BTreeMap;
use std::net::IpAddr;

use director_core::wire::admin::Command;

use crate::network::LinkId;
use crate::operators::TIMED_OUT;
use crate::views::HostLine;

/// The name in reports.
pub const NAME: &str = "changes stand";

/// What an order makes of a backend's existence, weight, and of its being up. A removal leaves nothing to be weighed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Value {
    /// It is there, or not.
    There(bool),
    Vhosts(Option<u32>),
    Up(Option<bool>),
}

impl Value {
    fn is_of(self, other: Self) -> bool {
        std::mem::discriminant(&self) == std::mem::discriminant(&other)
    }
}

#[derive(Clone, Debug)]
struct Order {
    /// What it makes so, and what only if the backend was not there before: else it says nothing of this.
    values: Vec<(Value, IfNew)>,
    asked_micros: u64,
    came: Came,
}

type IfNew = bool;

impl Order {
    /// What it says of such a value.
    fn value(&self, like: Value) -> Option<(Value, IfNew)> {
        self.values.iter().find(|(value, _)| value.is_of(like)).copied()
    }

    /// Whether it was done before that time, or refused.
    fn is_over(&self, time: u64) -> bool {
        self.came == Came::Nothing || matches!(self.came, Came::Done(at) if at < time)
    }
}

/// What came of an order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Came {
    /// Nobody knows.
    Unknown,
    /// It was done by then.
    Done(u64),
    /// It was refused.
    Nothing,
}

/// All orders that have been given.
#[derive(Debug)]
pub struct Changes {
    orders: BTreeMap<IpAddr, Vec<Order>>,
    /// Those without an answer, by connection and place there: of which backend, and which of its orders.
    asked: BTreeMap<(LinkId, usize), (IpAddr, usize)>,
    /// When the ring was last made anew.
    joined_micros: u64,
    /// How long a line may take to go round.
    round_micros: u64,
}

impl Changes {
    /// Nothing has been ordered yet, in a ring where a line takes no longer than that to go round.
    pub fn new(round_micros: u64) -> Self {
        Self { orders: BTreeMap::new(), asked: BTreeMap::new(), joined_micros: 0, round_micros }
    }

    /// A director starts, or two are linked, or one has been told what another has.
    pub fn joined(&mut self, now: u64) {
        self.joined_micros = now;
    }

    /// An operator asks for these, on a connection.
    pub fn asked(&mut self, link: LinkId, commands: &[Command<'_>], now: u64) {
        for (n, command) in commands.iter().enumerate() {
            let (ip, values) = match command {
                Command::HostSet { ip, vhosts, .. } => {
                    let vhosts = (Value::Vhosts(Some(vhosts.unwrap_or(100))), vhosts.is_none());
                    (*ip, vec![(Value::There(true), false), vhosts, (Value::Up(Some(true)), true)])
                }
                Command::HostUpdate { ip, vhosts } => (*ip, vec![(Value::Vhosts(Some(*vhosts)), false)]),
                Command::HostUp { ip } => (*ip, vec![(Value::Up(Some(true)), false)]),
                Command::HostDown { ip } => (*ip, vec![(Value::Up(Some(false)), false)]),
                Command::HostRemove { ip } => {
                    let gone = [Value::There(false), Value::Vhosts(None), Value::Up(None)];
                    (*ip, gone.map(|value| (value, false)).to_vec())
                }
                _ => continue,
            };
            let orders = self.orders.entry(ip).or_default();
            self.asked.insert((link, n), (ip, orders.len()));
            orders.push(Order { values, asked_micros: now, came: Came::Unknown });
        }
    }

    /// A command on that connection, by its place, has been answered.
    pub fn answered(&mut self, link: LinkId, place: usize, answer: &str, now: u64) {
        let Some((ip, number)) = self.asked.remove(&(link, place)) else { return };
        let came = match answer {
            "OK" => Came::Done(now),
            // It may have been done, and wait for the ring to hear of it.
            TIMED_OUT => Came::Unknown,
            _ => Came::Nothing,
        };
        if let Some(order) = self.orders.get_mut(&ip).and_then(|orders| orders.get_mut(number)) {
            order.came = came;
        }
    }

    /// Compares the backends of a director in a ring that has settled. Returns how many of the orders had to stand.
    ///
    /// # Errors
    /// The first backend that is as no order can have left it.
    pub fn check(&self, hosts: &[HostLine]) -> Result<u64, String> {
        let mut count = 0;
        for (ip, orders) in &self.orders {
            let host = hosts.iter().find(|host| host.ip == *ip);
            let there = [Value::There(host.is_some())];
            let more = host.map(|host| [Value::Vhosts(Some(host.vhosts)), Value::Up(Some(host.up))]);
            for found in there.into_iter().chain(more.into_iter().flatten()) {
                count += self.check_value(orders, found).map_err(|error| format!("{ip} {error}"))?;
            }
        }
        Ok(count)
    }

    /// Whether these can have left that value, and how many had to stand until another one was done.
    fn check_value(&self, orders: &[Order], found: Value) -> Result<u64, String> {
        let done = || orders.iter().filter(|order| self.is_done(order, found));
        let Some(last) = done().max_by_key(|order| order.asked_micros) else { return Ok(0) };
        if self.may_be(orders, found, u64::MAX) {
            return Ok(done().count() as u64);
        }
        Err(format!("has {found:?}, but {last:?} was done, and nothing since has made it so"))
    }

    /// Whether such a value was made so, whatever it was before.
    fn is_done(&self, order: &Order, like: Value) -> bool {
        let done = matches!(order.came, Came::Done(_)) && order.asked_micros > self.joined_micros + self.round_micros;
        done && order.value(like).is_some_and(|(_, if_new)| !if_new)
    }

    /// Whether a director may have that value at that time.
    fn may_be(&self, orders: &[Order], found: Value, now: u64) -> bool {
        let done = orders.iter().filter(|order| self.is_done(order, found) && order.is_over(now));
        let Some(last) = done.max_by_key(|order| order.asked_micros) else { return true };
        // Nothing that was done before the last of them was asked for can be what is there.
        let mut since = orders.iter().filter(|order| order.asked_micros < now && !order.is_over(last.asked_micros));
        since.any(|order| match order.value(found) {
            Some((value, if_new)) if value == found || !if_new => value == found,
            // HOST says how all of the backend is, with what its director had then.
            _ => self.may_be(orders, found, order.asked_micros),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::Network;
    use crate::plan::{Fixed, Plan};
    use crate::random::Random;

    const IP: &str = "10.2.0.1";

    /// Orders, each with when it was asked for, the answer and when it came; and whether that leaves this, if the ring is
    /// as it was at `joined`.
    fn holds(orders: &[(&str, u64, &str, u64)], joined: u64, vhosts: Option<u32>, up: bool) -> Result<u64, String> {
        let mut network = Network::new(Plan::draw(1, &Fixed::default()).conditions, Random::new(1));
        let mut changes = Changes::new(1);
        for (order, asked, answer, answered) in orders {
            let (link, _) = network.open(0, (0, ()), (0, ()));
            let command = Command::parse(order.as_bytes()).unwrap();
            changes.asked(link, &[Command::HostList, command], *asked);
            if !answer.is_empty() {
                changes.answered(link, 0, "", *answered);
                changes.answered(link, 1, answer, *answered);
            }
        }
        changes.joined(joined);
        let host = |vhosts| HostLine { ip: IP.parse().unwrap(), vhosts, tag: String::new(), up };
        changes.check(&vhosts.map(host).into_iter().collect::<Vec<_>>())
    }

    #[test]
    fn what_was_done_stands_until_something_later_is_done() {
        let orders = [("HOST-UPDATE\t10.2.0.1\t50", 10, "OK", 12), ("HOST-UPDATE\t10.2.0.1\t70", 20, "OK", 22)];
        assert_eq!(holds(&orders, 5, Some(70), true), Ok(2));
        let error = holds(&orders, 5, Some(50), true).unwrap_err();
        assert!(error.starts_with("10.2.0.1 has Vhosts(Some(50)), but Order"), "{error}");
        holds(&orders, 5, Some(100), true).unwrap_err();
        // Only the first is older than the ring; and then both.
        holds(&orders, 15, Some(50), true).unwrap_err();
        assert_eq!(holds(&orders, 25, Some(100), true), Ok(0));
    }

    #[test]
    fn of_what_overlaps_either_may_win_and_without_an_ok_anything_may() {
        let down = ("HOST-DOWN\t10.2.0.1", 10, "OK", 20);
        for (asked, answer, up_holds, down_holds) in [
            (19, "OK", true, true),
            (1, "OK", true, true),
            (21, "OK", true, false),
            (1, TIMED_OUT, true, true),
            (1, "", true, true),
            (15, "NOTFOUND", false, true),
        ] {
            let orders = [down, ("HOST-UP\t10.2.0.1", asked, answer, asked + 10)];
            assert_eq!(holds(&orders, 0, Some(100), true).is_ok(), up_holds, "{asked} {answer}");
            assert_eq!(holds(&orders, 0, Some(100), false).is_ok(), down_holds, "{asked} {answer}");
        }
        holds(&[down, ("HOST-UP\t10.2.0.1", 1, "OK", 9)], 0, Some(100), true).unwrap_err();
    }

    #[test]
    fn what_was_removed_is_gone_and_what_is_added_again_is_new() {
        let removed = [("HOST-DOWN\t10.2.0.1", 1, "OK", 2), ("HOST-REMOVE\t10.2.0.1", 10, "OK", 12)];
        holds(&removed, 0, None, true).unwrap();
        holds(&removed, 0, Some(100), true).unwrap_err();
        let again = [removed[0], removed[1], ("HOST-SET\t10.2.0.1\t50", 20, "OK", 22)];
        holds(&again, 0, Some(50), true).unwrap();
        holds(&again, 0, Some(50), false).unwrap_err();
        holds(&again, 0, None, true).unwrap_err();
    }
}
