//! The guide's way into a running cluster (`runtime-smol/docs/upgrade.md`), walked with the real programs.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use director_tests::Kind::Dovecot;
use director_tests::backend::on_two_backends;
use director_tests::clients::Imap;
use director_tests::director::IMAP_PORT;
use director_tests::ring::users;
use director_tests::{Backend, LIMIT, Lab, Logins, Need, Plan, Ring, predict, wait_for};

/// Fails unless everybody gets to his home from every proxy, and sessions on each proxy are ended by operators on each.
fn check(ring: &Ring, backend: &Backend, homes: &mut BTreeMap<String, IpAddr>, step: &str) {
    ring.wait_until_up();
    ring.wait_synced();
    let login = |index: usize, user: &str| {
        wait_for("a login", LIMIT, || Imap::login(ring.member(index).address(IMAP_PORT), user))
    };
    let wait_ended = |sessions: &mut [Imap]| {
        for imap in sessions {
            wait_for("the end of a session", LIMIT, || match imap.command("NOOP") {
                Ok(_) => Err("alive"),
                Err(_) => Ok(()),
            });
        }
    };
    for user in homes.keys() {
        for index in [0, 1] {
            login(index, user).command("LOGOUT").unwrap_or_else(|error| panic!("{step}, {user}: {error}"));
        }
    }
    for commanding in [0, 1] {
        let user = format!("user{commanding}");
        let mut sessions = [login(0, &user), login(1, &user)];
        ring.member(commanding).doveadm(&["kick", &user]).success();
        wait_ended(&mut sessions);
        let mut sessions = [login(0, &user), login(1, &user)];
        // To a backend that no hash gives any more, so that he would not come there by himself.
        let target = *backend.addresses()[2..].iter().find(|ip| **ip != homes[&user]).expect("another");
        ring.member(commanding).doveadm(&["move", &user, &target.to_string()]).success();
        wait_ended(&mut sessions);
        homes.insert(user.clone(), target);
        for index in [0, 1] {
            login(index, &user);
            ring.wait_known(&user, "", target);
        }
    }
}

#[test]
fn a_cluster_goes_from_dovecots_directors_to_dovecot_24_one_proxy_after_the_other() {
    let name = "upgrade::a_cluster_goes_from_dovecots_directors_to_dovecot_24_one_proxy_after_the_other";
    let Some(lab) = Lab::new(name, &[Need::Dovecot, Need::OurDirector, Need::Dovecot24]) else { return };
    let backend = Backend::start(&lab, 4);
    let ip = backend.addresses();
    let plan = Plan {
        mail_servers: ip.iter().map(|ip| format!("{ip} ")).collect(),
        user_expire_secs: 3600,
        settings: "director_user_kick_delay = 1s".into(),
        logins: Some(Logins::default()),
        ..Ring::plan(&lab, 2)
    };
    let mut ring = Ring::start(&lab, &[Dovecot, Dovecot], &plan);
    let mut homes: BTreeMap<String, IpAddr> =
        users("user", 20).into_iter().map(|user| (user.clone(), predict::backend(&user, ip))).collect();
    let mut visited: BTreeMap<String, BTreeSet<IpAddr>> = BTreeMap::new();
    for user in homes.keys() {
        Imap::login(ring.member(0).address(IMAP_PORT), user).expect("a login");
    }
    // From here on the hash gives others, so that a map that got lost would be noticed.
    for host in &ip[2..] {
        ring.member(0).doveadm(&["update", &host.to_string(), "0"]).success();
    }
    let mut step = |ring: &Ring, what: &str| {
        for (user, home) in &homes {
            visited.entry(user.clone()).or_default().insert(*home);
        }
        check(ring, &backend, &mut homes, what);
        for (user, home) in &homes {
            let known = visited.entry(user.clone()).or_default();
            known.insert(*home);
            assert_eq!(backend.visited_by(user), *known, "{user}, {what}");
        }
        lab.say(what);
    };
    step(&ring, "with Dovecot's directors");
    for index in [0, 1] {
        ring.member_mut(index).exchange_director();
        step(&ring, &format!("with ours on proxy {index}"));
    }
    for index in [0, 1] {
        let director = ring.member(index).director_pid();
        ring.member_mut(index).upgrade_dovecot();
        step(&ring, &format!("with Dovecot 2.4 on proxy {index}"));
        assert_eq!(ring.member(index).director_pid(), director, "it goes on running");
    }
    assert_eq!(on_two_backends(&backend.sessions()), []);
}
