//! USER updates that come from the ring: taken in, and sent on.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use super::figures::rounds;
use super::load::{Clients, Dialogue, Until};
use super::neighbours::Waiting;
use super::table::{Measure, Table, Unit};
use super::usage;
use super::{KINDS, NEEDS};
use crate::clients::ring::unix_now;
use crate::director::{Door, Kind};
use crate::lab::Lab;
use crate::ring::Ring;

/// So many users are looked up again and again: few, so that each comes many times within a second, and many.
const OFTEN_USERS: [u64; 2] = [1_000, 100_000];
/// How long.
const LOOKUPS_TIME: Duration = Duration::from_secs(1);
/// How many lookups at a time.
const IN_FLIGHT: u64 = 256;

/// How much comes.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    /// Users, each of whom is updated once and then once again.
    pub users: u64,
    /// How often each is done.
    pub rounds: u32,
}

/// Sends updates to one director between two stand-ins.
///
/// # Panics
/// If anything is not as it has to be for the figures to mean something.
pub fn run(load: &Load) -> Table {
    let rounds = rounds(KINDS, load.rounds, |kind| measure(kind, load));
    let mut table = Table::of(&["original", "ours"]);
    table.measures(&rounds);
    table.note(format!(
        "Updates: median of {} rounds (least-most); the director is between two stand-ins, which tell it of {} users and \
         count what comes out on the other side.",
        load.rounds, load.users,
    ));
    table.note(
        "USER told, each: lines to the right neighbour for each lookup; of a user who was looked up in the same second \
         before, ours has told already.",
    );
    table
}

fn measure(kind: Kind, load: &Load) -> Vec<Measure> {
    let lab = Lab::new(&format!("updates, {kind:?}"), &NEEDS).expect("needs were met a moment ago");
    let mut plan = Ring::plan(&lab, 3);
    plan.user_expire_secs = 3600;
    let waiting = Waiting::listen(&lab);
    let mut ring = Ring::prepare(&lab, &[kind], &plan);
    ring.member_mut(0).start();
    ring.wait_until_up();
    let hosts: Vec<IpAddr> = (1..=5).map(|last| IpAddr::from([10, 1, 2, last])).collect();
    // Not news when it has been sent a second time.
    let timestamp_secs = unix_now();
    let director = ring.member(0);
    let neighbours = waiting.join(director, load.users, &hosts, timestamp_secs - 300);
    ring.lookup(0, "first", "");
    neighbours.wait_read();
    let pid = director.director_pid();
    let mut measures = Vec::new();
    let mut timed = |name: &str, work: &dyn Fn()| {
        let before = usage::process(pid);
        let start = Instant::now();
        work();
        let time = start.elapsed();
        let rate = load.users as f64 / time.as_secs_f64();
        lab.say(&format!("{name}: {rate:.0}/s"));
        measures.push(Measure::new(name, Unit::PerSecond, rate));
        let each = usage::each_micros(usage::process(pid).saturating_sub(before), load.users);
        measures.push(Measure::new(format!("{name}: processor time each"), Unit::Microseconds, each));
    };
    let before = neighbours.users_seen();
    timed("USER from the ring, sent on", &|| {
        neighbours.send_users(b"USER", load.users, &hosts, timestamp_secs);
        // Some names share a hash, and are one user to a director: the second of them is no news.
        neighbours.wait_read();
    });
    // What is news for the first time goes on.
    let seen_at_least = load.users - load.users.pow(2) / (1 << 32) - 10;
    neighbours.wait_users_seen(before + seen_at_least);
    let before = neighbours.users_seen();
    timed("USER from the ring, no news", &|| {
        neighbours.send_users(b"USER", load.users, &hosts, timestamp_secs);
        neighbours.wait_read();
    });
    assert!(neighbours.users_seen() - before < 100, "no news goes on");
    for users in OFTEN_USERS {
        let mut clients =
            Clients::connect(&director.door(Door::AuthReply), Dialogue::AuthReply, 1, users).expect("a connection");
        let before = neighbours.users_seen();
        let answered = clients.run(IN_FLIGHT, Until::Time(LOOKUPS_TIME)).expect("lookups");
        neighbours.wait_told();
        let lines = (neighbours.users_seen() - before) as f64 / answered.count as f64;
        measures.push(Measure::new(format!("lookups of {users} users in turn: USER told, each"), Unit::Lines, lines));
    }
    neighbours.leave();
    measures
}
