//! Rings of three that start, in every order and with ours in every place.

use director_tests::Kind::{self, Dovecot, Ours};
use director_tests::ring::users;
use director_tests::{Lab, Need, Ring};

const ORDERS: [[usize; 3]; 6] = [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]];

fn starts_in_every_order(name: &str, kinds: &[Kind]) {
    let Some(lab) = Lab::new(name, &Need::of(kinds)) else { return };
    let plan = Ring::plan(&lab, 3);
    for order in ORDERS {
        let mut ring = Ring::prepare(&lab, kinds, &plan);
        for index in order {
            ring.member_mut(index).start();
            ring.member(index).wait_until_up();
        }
        let took = ring.wait_synced();
        lab.say(&format!("started in the order {order:?}, synced after {:.2} s", took.as_secs_f64()));
        for (index, user) in users("user", 3).iter().enumerate() {
            let ip = ring.lookup(index, user, "");
            ring.wait_known(user, "", ip);
        }
        let hosts = ring.wait_same_hosts();
        assert_eq!(hosts.iter().map(|host| host.users).sum::<u64>(), 3, "{hosts:?}");
    }
}

#[test]
fn with_ours_first() {
    starts_in_every_order("ring_start::with_ours_first", &[Ours, Dovecot, Dovecot]);
}

#[test]
fn with_ours_second() {
    starts_in_every_order("ring_start::with_ours_second", &[Dovecot, Ours, Dovecot]);
}

#[test]
fn with_ours_third() {
    starts_in_every_order("ring_start::with_ours_third", &[Dovecot, Dovecot, Ours]);
}

#[test]
fn with_theirs_first() {
    starts_in_every_order("ring_start::with_theirs_first", &[Dovecot, Ours, Ours]);
}

#[test]
fn with_theirs_second() {
    starts_in_every_order("ring_start::with_theirs_second", &[Ours, Dovecot, Ours]);
}

#[test]
fn with_theirs_third() {
    starts_in_every_order("ring_start::with_theirs_third", &[Ours, Ours, Dovecot]);
}

#[test]
fn all_ours() {
    starts_in_every_order("ring_start::all_ours", &[Ours, Ours, Ours]);
}

/// A director whose fellows never come serves alone after 20 s of looking for them, and takes them in later.
#[test]
fn alone_first() {
    let Some(lab) = Lab::new("ring_start::alone_first", &[Need::Dovecot, Need::Director]) else { return };
    let plan = Ring::plan(&lab, 3);
    let mut ring = Ring::prepare(&lab, &[Ours, Dovecot, Ours], &plan);
    ring.member_mut(0).start();
    ring.wait_until_up();
    let took = ring.wait_synced();
    lab.say(&format!("alone after {:.1} s", took.as_secs_f64()));
    let ip = ring.lookup(0, "jane", "");
    for index in [1, 2] {
        ring.member_mut(index).start();
    }
    ring.wait_until_up();
    ring.wait_synced();
    ring.wait_known("jane", "", ip);
}
