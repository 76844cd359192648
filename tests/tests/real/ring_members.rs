//! Members that die, come back, join, leave, and are replaced.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use director_tests::Kind::{self, Dovecot, Ours};
use director_tests::clients::Reply;
use director_tests::ring::users;
use director_tests::{LIMIT, Lab, Need, Plan, Ring, predict, wait_for};

const NEEDS: [Need; 2] = [Need::Dovecot, Need::Director];

fn dies_and_returns(name: &str, kinds: &[Kind]) {
    let Some(lab) = Lab::new(name, &NEEDS) else { return };
    let plan = Ring::plan(&lab, 3);
    let mut ring = Ring::start(&lab, kinds, &plan);
    let names = users("user", 50);
    let homes = ring.lookup_many(0, &names);
    // The hash alone would not find them again.
    for host in ["10.1.2.1", "10.1.2.2", "10.1.2.3"] {
        ring.member(0).doveadm(&["update", host, "0"]).success();
    }
    for dead in 0..3 {
        ring.member_mut(dead).kill();
        let took = ring.wait_synced();
        lab.say(&format!("director {} killed, the others synced after {:.2} s", dead + 1, took.as_secs_f64()));
        let alive = (dead + 1) % 3;
        assert_eq!(ring.lookup_many(alive, &names), homes);
        let new = format!("while-{dead}-is-dead");
        let home = ring.lookup(alive, &new, "");
        ring.member(alive).doveadm(&["update", "10.1.2.4", &(100 + dead).to_string()]).success();

        ring.member_mut(dead).start();
        ring.wait_until_up();
        let took = ring.wait_synced();
        lab.say(&format!("director {} returned, synced after {:.2} s", dead + 1, took.as_secs_f64()));
        ring.wait_known(&new, "", home);
        ring.wait_same_hosts();
        assert_eq!(ring.lookup_many(dead, &names), homes);
    }
    ring.wait_same_users();
}

#[test]
fn die_and_return_with_ours_first() {
    dies_and_returns("ring_members::die_and_return_with_ours_first", &[Ours, Dovecot, Dovecot]);
}

#[test]
fn die_and_return_with_ours_second() {
    dies_and_returns("ring_members::die_and_return_with_ours_second", &[Dovecot, Ours, Dovecot]);
}

#[test]
fn die_and_return_with_ours_third() {
    dies_and_returns("ring_members::die_and_return_with_ours_third", &[Dovecot, Dovecot, Ours]);
}

#[test]
fn die_and_return_with_two_of_ours() {
    dies_and_returns("ring_members::die_and_return_with_two_of_ours", &[Ours, Dovecot, Ours]);
}

#[test]
fn die_and_return_all_ours() {
    dies_and_returns("ring_members::die_and_return_all_ours", &[Ours, Ours, Ours]);
}

/// Users that a ring has when a member joins it.
const MANY_USERS: usize = 100_000;

fn joins_many_users(name: &str, kinds: &[Kind]) {
    let Some(lab) = Lab::new(name, &Need::of(kinds)) else { return };
    let plan = Plan { user_expire_secs: 3600, ..Ring::plan(&lab, 3) };
    let mut ring = Ring::prepare(&lab, kinds, &plan);
    for index in 0..2 {
        ring.member_mut(index).start();
    }
    ring.wait_until_up();
    ring.wait_synced();
    let names = users("user", MANY_USERS);
    ring.lookup_many(0, &names);
    ring.member_mut(2).start();
    ring.wait_until_up();
    let took = ring.wait_synced();
    lab.say(&format!("synced with {MANY_USERS} users after {:.2} s", took.as_secs_f64()));
    let all = ring.wait_same_users();
    // A few names share a hash, and a hash is all that a director knows.
    let hashes: std::collections::BTreeSet<_> = names.iter().map(|name| predict::hash(name)).collect();
    assert_eq!(all.len(), hashes.len());
    let hosts = ring.wait_same_hosts();
    assert_eq!(hosts.iter().map(|host| host.users).sum::<u64>(), all.len() as u64);
}

#[test]
fn ours_joins_many_users_of_theirs() {
    joins_many_users("ring_members::ours_joins_many_users_of_theirs", &[Dovecot, Dovecot, Ours]);
}

#[test]
fn theirs_joins_many_users_of_ours() {
    joins_many_users("ring_members::theirs_joins_many_users_of_ours", &[Ours, Ours, Dovecot]);
}

#[test]
fn ours_joins_many_users_of_ours() {
    joins_many_users("ring_members::ours_joins_many_users_of_ours", &[Ours, Ours, Ours]);
}

/// A ring of two gets a third by `ring add`, loses it by `ring remove`, and gets it again.
fn added_and_removed(name: &str, kinds: &[Kind; 3]) {
    let Some(lab) = Lab::new(name, &NEEDS) else { return };
    let mut ring = Ring::start(&lab, &kinds[..2], &Ring::plan(&lab, 2));
    let home = ring.lookup(0, "jane", "");
    let newcomer = lab.ip(3).to_string();
    ring.set_plan(&Ring::plan(&lab, 3));
    let third = ring.add(kinds[2]);

    for (adder, remover) in [(0, 1), (1, 0)] {
        ring.member(adder).doveadm(&["ring", "add", &newcomer]).success();
        wait_for("the newcomer in every list", LIMIT, || ring.check_listed(lab.ip(3).into(), true));
        ring.member_mut(third).start();
        ring.wait_until_up();
        ring.wait_synced();
        ring.wait_known("jane", "", home);
        ring.wait_same_hosts();

        ring.member_mut(third).stop();
        ring.member(remover).doveadm(&["ring", "remove", &newcomer]).success();
        wait_for("the newcomer in no list", LIMIT, || ring.check_listed(lab.ip(3).into(), false));
        ring.wait_synced();
        let unknown = ring.member(remover).doveadm(&["ring", "remove", &lab.ip(9).to_string()]);
        assert_eq!(unknown.code, Some(68), "{unknown:?}");
    }
}

#[test]
fn ring_add_and_remove_ours() {
    added_and_removed("ring_members::ring_add_and_remove_ours", &[Dovecot, Ours, Ours]);
}

#[test]
fn ring_add_and_remove_theirs() {
    added_and_removed("ring_members::ring_add_and_remove_theirs", &[Ours, Dovecot, Dovecot]);
}

#[test]
fn ring_add_and_remove_all_ours() {
    added_and_removed("ring_members::ring_add_and_remove_all_ours", &[Ours, Ours, Ours]);
}

/// A ring of three real directors becomes one of ours, one at a time, while users go on logging in on the others.
#[test]
fn replaced_one_by_one() {
    let Some(lab) = Lab::new("ring_members::replaced_one_by_one", &NEEDS) else { return };
    let plan = Plan { user_expire_secs: 3600, ..Ring::plan(&lab, 3) };
    let mut ring = Ring::start(&lab, &[Dovecot, Dovecot, Dovecot], &plan);
    let names = users("user", 2000);
    let homes: BTreeMap<&str, IpAddr> = names.iter().map(String::as_str).zip(ring.lookup_many(0, &names)).collect();
    // From here on the hash gives others, so a map that got lost would be noticed.
    for host in ["10.1.2.1", "10.1.2.2", "10.1.2.3"] {
        ring.member(1).doveadm(&["update", host, "0"]).success();
    }
    let before = ring.wait_same_hosts();
    for replaced in 0..3 {
        let others: Vec<usize> = (0..3).filter(|index| *index != replaced).collect();
        let doors: Vec<_> =
            others.iter().map(|index| ring.member(*index).door(director_tests::director::Door::AuthReply)).collect();
        let (done, lookups) = (AtomicBool::new(false), AtomicU64::new(0));
        std::thread::scope(|scope| {
            let guard = SetOnDrop(&done);
            for door in &doors {
                let (done, lookups, names, homes) = (&done, &lookups, &names, &homes);
                scope.spawn(move || {
                    let mut authreply = director_tests::clients::AuthReply::connect(door).expect("authreply");
                    for name in names.iter().cycle() {
                        if done.load(Ordering::Relaxed) {
                            break;
                        }
                        let reply = authreply.lookup(name).unwrap_or_else(|error| panic!("{name}: {error}"));
                        assert_eq!(reply, Reply::Host(homes[name.as_str()]), "{name}");
                        lookups.fetch_add(1, Ordering::Relaxed);
                    }
                });
            }
            ring.member_mut(replaced).stop();
            ring.wait_synced();
            ring.replace(replaced, Ours);
            ring.member_mut(replaced).start();
            ring.wait_until_up();
            let took = ring.wait_synced();
            lab.say(&format!("director {} is ours, synced after {:.2} s", replaced + 1, took.as_secs_f64()));
            drop(guard);
        });
        lab.say(&format!("{} lookups meanwhile", lookups.load(Ordering::Relaxed)));
        assert!(lookups.load(Ordering::Relaxed) > 0);
        let found = ring.lookup_many(replaced, &names);
        assert!(names.iter().zip(found).all(|(name, ip)| homes[name.as_str()] == ip));
    }
    assert_eq!(ring.wait_same_hosts(), before);
}

/// Ends the threads of a scope also when the test fails in it, or it would never end.
struct SetOnDrop<'a>(&'a AtomicBool);

impl Drop for SetOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
