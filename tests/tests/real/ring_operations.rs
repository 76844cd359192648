//! What operators and users do in a ring of three, with ours in every place.

use std::net::IpAddr;
use std::time::Duration;

use director_tests::Kind::{self, Dovecot, Ours};
use director_tests::clients::ring::unix_now;
use director_tests::clients::{HostLine, Reply};
use director_tests::predict;
use director_tests::ring::users;
use director_tests::{LIMIT, Lab, Need, Plan, Ring, wait_for};

const NEEDS: [Need; 2] = [Need::Dovecot, Need::Director];

fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

/// The five untagged backends of every plan.
fn untagged() -> Vec<IpAddr> {
    (1..=5).map(|last| IpAddr::from([10, 1, 2, last])).collect()
}

/// Every way to have both kinds in a ring of three, and all ours.
macro_rules! in_every_ring {
    ($scenario:ident) => {
        mod $scenario {
            use super::*;

            fn run(ring: &str, kinds: &[Kind]) {
                let name = concat!("ring_operations::", stringify!($scenario), "::");
                super::$scenario(&format!("{name}{ring}"), kinds);
            }

            #[test]
            fn ours_first() {
                run("ours_first", &[Ours, Dovecot, Dovecot]);
            }

            #[test]
            fn ours_second() {
                run("ours_second", &[Dovecot, Ours, Dovecot]);
            }

            #[test]
            fn ours_third() {
                run("ours_third", &[Dovecot, Dovecot, Ours]);
            }

            #[test]
            fn theirs_first() {
                run("theirs_first", &[Dovecot, Ours, Ours]);
            }

            #[test]
            fn theirs_second() {
                run("theirs_second", &[Ours, Dovecot, Ours]);
            }

            #[test]
            fn theirs_third() {
                run("theirs_third", &[Ours, Ours, Dovecot]);
            }

            #[test]
            fn all_ours() {
                run("all_ours", &[Ours, Ours, Ours]);
            }
        }
    };
}

in_every_ring!(operators_and_lookups);
in_every_ring!(weak_users);

/// Runs doveadm on one member; when it is done, all members have the same hosts and are synced.
fn doveadm(ring: &Ring, index: usize, args: &[&str]) -> Vec<HostLine> {
    ring.member(index).doveadm(args).success();
    ring.wait_synced();
    ring.wait_same_hosts()
}

fn find<'a>(hosts: &'a [HostLine], ip: &str) -> Option<&'a HostLine> {
    let ip: IpAddr = ip.parse().expect("an address");
    hosts.iter().find(|host| host.ip == ip)
}

fn operators_and_lookups(name: &str, kinds: &[Kind]) {
    let Some(lab) = Lab::new(name, &NEEDS) else { return };
    let plan = Plan {
        mail_servers: "10.1.2.1-10.1.2.5 10.1.3.1@blue 10.1.3.2@blue 2001:db8::1@v6 2001:db8::2@v6".into(),
        settings: "director_user_kick_delay = 1s".into(),
        ..Ring::plan(&lab, 3)
    };
    let ring = Ring::start(&lab, kinds, &plan);

    // A lookup on any is known on all, and is what the hash says; in each pool for itself.
    for index in 0..3 {
        for user in users(&format!("on{index}-"), 5) {
            let found = ring.lookup(index, &user, "");
            assert_eq!(found, predict::backend(&user, &untagged()), "{user}");
            ring.wait_known(&user, "", found);
            let blue = ring.lookup((index + 1) % 3, &user, "blue");
            assert_eq!(blue, predict::backend(&user, &[ip("10.1.3.1"), ip("10.1.3.2")]), "{user}");
            ring.wait_known(&user, "blue", blue);
            let v6 = ring.lookup((index + 2) % 3, &user, "v6");
            assert_eq!(v6, predict::backend(&user, &[ip("2001:db8::1"), ip("2001:db8::2")]), "{user}");
            ring.wait_known(&user, "v6", v6);
            assert_eq!(ring.lookup((index + 1) % 3, &user, ""), found, "{user}, again elsewhere");
        }
    }

    for index in 0..3 {
        let added = format!("10.1.2.{}", 20 + index);
        let hosts = doveadm(&ring, index, &["add", &added, "50"]);
        assert_eq!(find(&hosts, &added).map(|host| host.vhosts), Some(50));

        let vhosts = (70 + index).to_string();
        let hosts = doveadm(&ring, index, &["update", &added, &vhosts]);
        assert_eq!(find(&hosts, &added).map(|host| host.vhosts.to_string()), Some(vhosts));

        let hosts = doveadm(&ring, index, &["down", &added]);
        let down = find(&hosts, &added).expect("a host that is down");
        assert_eq!(down.state, "D");
        assert!(down.changed.abs_diff(unix_now()) < 600, "{down:?}");
        let hosts = doveadm(&ring, index, &["up", &added]);
        assert_eq!(find(&hosts, &added).map(|host| host.state.as_str()), Some("U"));

        let tagged = format!("10.1.4.{}", 1 + index);
        let hosts = doveadm(&ring, index, &["add", "-t", "green", &tagged]);
        assert_eq!(find(&hosts, &tagged).map(|host| host.tag.as_str()), Some("green"));
        let green = ring.lookup(index, "green-user", "green");
        ring.wait_known("green-user", "green", green);

        let v6 = format!("2001:db8::a{index}");
        let hosts = doveadm(&ring, index, &["add", &format!("{v6}@v6"), "30"]);
        assert_eq!(find(&hosts, &v6).map(|host| (host.vhosts, host.tag.as_str())), Some((30, "v6")));

        let hosts = doveadm(&ring, index, &["remove", &added]);
        assert_eq!(find(&hosts, &added), None);
        let unknown = ring.member(index).doveadm(&["remove", "10.9.9.9"]);
        assert_eq!(unknown.code, Some(68), "{unknown:?}");
    }

    // Users of a backend are moved away from it, and one is moved by hand.
    for index in 0..3 {
        let drained = format!("10.1.2.{}", 1 + index);
        doveadm(&ring, index, &["update", &drained, "0"]);
        ring.member(index).doveadm(&["flush", &drained]).success();
        wait_for("no users on the drained backend", LIMIT, || {
            let left: u64 = ring.wait_same_hosts().iter().find(|host| host.ip == ip(&drained)).map_or(0, |h| h.users);
            if left == 0 { Ok(()) } else { Err(format!("{left} users")) }
        });
        let user = format!("on{index}-0");
        wait_for("the end of the flush's own move", LIMIT, || {
            let outcome = ring.member(index).doveadm(&["move", &user, "10.1.2.5"]);
            if outcome.code == Some(75) { Err(outcome.stderr) } else { Ok(outcome.success()) }
        });
        ring.wait_known(&user, "", ip("10.1.2.5"));
        wait_for("a lookup of the moved user", LIMIT, || {
            let found = ring.lookup((index + 1) % 3, &user, "");
            if found == ip("10.1.2.5") { Ok(()) } else { Err(found) }
        });
        ring.member(index).doveadm(&["kick", &user]).success();
    }
    ring.wait_synced();
    ring.wait_same_users();
}

/// A user who is near expiry, and whose hash has come to give another backend, stays where he is, whoever asks and how
/// many at once: the ring is asked first (recorded rings, 17).
fn weak_users(name: &str, kinds: &[Kind]) {
    let Some(lab) = Lab::new(name, &Need::of(kinds)) else { return };
    let plan = Plan { user_expire_secs: 16, ..Ring::plan(&lab, 3) };
    let ring = Ring::start(&lab, kinds, &plan);
    let names = users("weak", 12);
    let homes = ring.lookup_many(0, &names);
    for home in untagged().iter().take(4) {
        let answer = ring.member(1).admin().command(&format!("HOST-UPDATE\t{home}\t0"));
        assert_eq!(answer.expect("an answer"), "OK");
    }
    ring.wait_same_hosts();
    let start = unix_now();
    let expires = names
        .iter()
        .map(|name| ring.member(0).admin().user(name, "").expect("a user's state").expires)
        .collect::<Vec<_>>();
    // The time comes by itself; what counts is that it has come and that the users are not gone yet.
    let (first, last) = (*expires.iter().min().expect("users"), *expires.iter().max().expect("users"));
    assert!(first > start && last - first <= 1, "{expires:?} at {start}");
    wait_for("the users to be near expiry", LIMIT, || {
        if unix_now() + 2 >= last { Ok(()) } else { Err(format!("{} s before it", last - unix_now())) }
    });
    let replies: Vec<Vec<Reply>> = std::thread::scope(|scope| {
        let asked: Vec<_> = (0..3)
            .map(|index| {
                let (ring, names) = (&ring, &names);
                scope.spawn(move || ring.member(index).authreply().lookup_all(names).expect("lookups"))
            })
            .collect();
        asked.into_iter().map(|thread| thread.join().expect("lookups")).collect()
    });
    for replies in &replies {
        let expected: Vec<_> = homes.iter().map(|home| Reply::Host(*home)).collect();
        assert_eq!(replies, &expected);
    }
    for (name, home) in names.iter().zip(&homes) {
        ring.wait_known(name, "", *home);
    }
    // None stays weak: each is found at once where he was, on every member, and has been refreshed.
    for index in 0..3 {
        let mut authreply = ring.member(index).authreply();
        authreply.lines().set_read_timeout(Duration::from_secs(20)).expect("timeout");
        for (name, home) in names.iter().zip(&homes) {
            assert_eq!(authreply.lookup(name).expect("an answer before a weak mark runs out"), Reply::Host(*home));
            let state = ring.member(index).admin().user(name, "").expect("a user's state");
            assert!(state.expires > last, "{name}: {state:?}, not refreshed since {last}");
        }
    }
}
