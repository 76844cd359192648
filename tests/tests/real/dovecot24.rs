//! Beside Dovecot 2.4, and what has no place among the tests that run beside both.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::os::unix::fs::MetadataExt;

use director_tests::Kind::{self, Ours, Ours24};
use director_tests::backend::on_two_backends;
use director_tests::clients::ring::RingPeer;
use director_tests::clients::{Imap, Lmtp, Pop3};
use director_tests::director::{Door, IMAP_PORT, LMTP_PORT, POP3_PORT, RING_PORT};
use director_tests::ring::users;
use director_tests::{Backend, LIMIT, Lab, Logins, Need, Plan, Ring, predict, wait_for};

const NEEDS: [Need; 3] = [Need::Dovecot, Need::OurDirector, Need::Dovecot24];

/// Waits until the server has ended a session.
fn wait_ended(imap: &mut Imap) {
    wait_for("the end of a session", LIMIT, || match imap.command("NOOP") {
        Ok(_) => Err("alive"),
        Err(_) => Ok(()),
    });
}

/// A cluster in the middle of its upgrade: proxies and backends of both versions.
#[test]
fn backends_of_both_versions_serve_behind_proxies_of_both() {
    let name = "dovecot24::backends_of_both_versions_serve_behind_proxies_of_both";
    let Some(lab) = Lab::new(name, &NEEDS) else { return };
    let backends = [Backend::start(&lab, 2), Backend::start_24(&lab, 2)];
    let ip: Vec<IpAddr> = backends.iter().flat_map(Backend::addresses).copied().collect();
    let plan = Plan {
        mail_servers: ip.iter().map(|ip| format!("{ip} ")).collect(),
        settings: "director_user_kick_delay = 1s".into(),
        logins: Some(Logins::default()),
        ..Ring::plan(&lab, 2)
    };
    let ring = Ring::start(&lab, &[Ours, Ours24], &plan);
    let visited = |user: &str| -> BTreeSet<IpAddr> { backends.iter().flat_map(|all| all.visited_by(user)).collect() };
    let names = users("user", 40);
    for (number, user) in names.iter().enumerate() {
        for director in [ring.member(number % 2), ring.member((number + 1) % 2)] {
            let mut imap = Imap::login(director.address(IMAP_PORT), user).expect("IMAP");
            Pop3::login(director.address(POP3_PORT), user).expect("POP3").command("STAT").expect("STAT");
            Lmtp::connect(director.address(LMTP_PORT)).expect("LMTP").deliver(user).expect("a mail");
            imap.command("NOOP").expect("NOOP");
        }
        assert_eq!(visited(user), BTreeSet::from([predict::backend(user, &ip)]), "{user}");
    }
    // From one version's backend to the other's.
    for user in &names[..8] {
        let home = ip.iter().position(|ip| *ip == predict::backend(user, &ip_of(&backends))).expect("a backend");
        let target = ip[(home + 2) % 4];
        let mut sessions = [0, 1].map(|index| Imap::login(ring.member(index).address(IMAP_PORT), user).expect("IMAP"));
        ring.member(1).doveadm(&["move", user, &target.to_string()]).success();
        sessions.iter_mut().for_each(wait_ended);
        for index in [0, 1] {
            Imap::login(ring.member(index).address(IMAP_PORT), user).expect("IMAP").command("NOOP").expect("NOOP");
        }
        assert_eq!(visited(user), BTreeSet::from([ip[home], target]), "{user}");
    }
    let sessions: Vec<_> = backends.iter().flat_map(Backend::sessions).collect();
    assert_eq!(sessions.len(), 40 * 2 + 8 * 4);
    assert_eq!(on_two_backends(&sessions), []);
}

fn ip_of(backends: &[Backend]) -> Vec<IpAddr> {
    backends.iter().flat_map(Backend::addresses).copied().collect()
}

/// What a director says when two of them have put a user on two backends: his sessions end, but not those on the right one.
fn user_kick_hash_spares(name: &str, kind: Kind) {
    let Some(lab) = Lab::new(name, &[&[Need::Dovecot][..], &Need::of(&[kind])].concat()) else { return };
    let backend = Backend::start(&lab, 2);
    let ip = backend.addresses();
    let plan =
        Plan { mail_servers: format!("{} {}", ip[0], ip[1]), logins: Some(Logins::default()), ..Ring::plan(&lab, 2) };
    let mut ring = Ring::start(&lab, &[kind, Ours], &plan);
    let login = |ring: &Ring, user| Imap::login(ring.member(0).address(IMAP_PORT), user).expect("a login");
    let home = predict::backend("jane", ip);
    let other = if home == ip[0] { ip[1] } else { ip[0] };
    let mut wrong = [(); 3].map(|()| login(&ring, "jane"));
    let mut bystander = login(&ring, "joe");
    // An operator's mistake, which `flush -F` allows.
    ring.member(0).doveadm(&["update", &home.to_string(), "0"]).success();
    ring.member(0).doveadm(&["flush", "-F", "all"]).success();
    let mut right = [(); 3].map(|()| login(&ring, "jane"));
    assert_eq!(backend.visited_by("jane"), BTreeSet::from([home, other]));
    for session in wrong.iter_mut().chain(&mut right) {
        session.command("NOOP").expect("a session that nobody has kicked yet");
    }
    // The other director says it; here, a stand-in does.
    ring.member_mut(1).stop();
    let mut peer = RingPeer::connect(ring.member(1).ip(), ring.member(0).ring_address()).expect("a ring link");
    peer.handshake(RING_PORT).expect("a handshake");
    let (from, hash) = (ring.member(1).ip(), predict::hash("jane"));
    let line = format!("USER-KICK-HASH\t{from}\t{RING_PORT}\t1\t{hash}\t{other}");
    peer.lines().send(&line).expect("the ring link");
    wrong.iter_mut().for_each(wait_ended);
    for session in right.iter_mut().chain([&mut bystander]) {
        session.command("NOOP").expect("a session on the right backend");
    }
    // A kick without an exception ends those, too: they could have been found.
    ring.member(0).doveadm(&["move", "jane", &home.to_string()]).success();
    right.iter_mut().for_each(wait_ended);
    bystander.command("NOOP").expect("somebody else's session");
}

#[test]
fn user_kick_hash_spares_the_right_backend_on_dovecot_23() {
    user_kick_hash_spares("dovecot24::user_kick_hash_spares_the_right_backend_on_dovecot_23", Ours);
}

#[test]
fn user_kick_hash_spares_the_right_backend_on_dovecot_24() {
    user_kick_hash_spares("dovecot24::user_kick_hash_spares_the_right_backend_on_dovecot_24", Ours24);
}

/// Sessions that began before a reload of Dovecot 2.4 can be ended after it; and its restart does not take the director's
/// knowledge of it away.
#[test]
fn sessions_are_ended_that_began_before_a_reload() {
    let name = "dovecot24::sessions_are_ended_that_began_before_a_reload";
    let Some(lab) = Lab::new(name, &NEEDS) else { return };
    let backend = Backend::start(&lab, 2);
    let ip = backend.addresses();
    let plan = Plan {
        mail_servers: format!("{} {}", ip[0], ip[1]),
        settings: "director_user_kick_delay = 1s".into(),
        logins: Some(Logins::default()),
        ..Ring::plan(&lab, 1)
    };
    let mut ring = Ring::start(&lab, &[Ours24], &plan);
    let login =
        |ring: &Ring, user: &str| wait_for("a login", LIMIT, || Imap::login(ring.member(0).address(IMAP_PORT), user));
    for round in 0..3 {
        let names = users(&format!("round{round}-"), 10);
        let mut old: Vec<_> = names.iter().map(|user| login(&ring, user)).collect();
        match round {
            // The director is new, and has not kicked anybody yet.
            0 => ring.member(0).reload_dovecot(),
            1 => ring.member_mut(0).restart_director(),
            _ => {
                drop(std::mem::take(&mut old));
                ring.member_mut(0).restart_dovecot();
            }
        }
        ring.wait_until_up();
        old.extend(names.iter().map(|user| login(&ring, user)));
        for (number, user) in names.iter().enumerate() {
            match number % 2 {
                0 => ring.member(0).doveadm(&["kick", user]).success(),
                _ => {
                    let home = predict::backend(user, ip);
                    let target = if home == ip[0] { ip[1] } else { ip[0] };
                    wait_for("a move", LIMIT, || {
                        let outcome = ring.member(0).doveadm(&["move", user, &target.to_string()]);
                        if outcome.code == Some(0) { Ok(outcome.stdout) } else { Err(outcome.stderr) }
                    })
                }
            };
        }
        old.iter_mut().for_each(wait_ended);
    }
    assert_eq!(on_two_backends(&backend.sessions()), []);
}

/// `doveadm -u user …` on a proxy asks the director and runs on the user's backend.
fn doveadm_runs_on_the_users_backend(name: &str, kind: Kind) {
    let Some(lab) = Lab::new(name, &[&[Need::Dovecot, Need::Dovecot24][..], &Need::of(&[kind])].concat()) else {
        return;
    };
    let backends = [Backend::start(&lab, 2), Backend::start_24(&lab, 2)];
    let ip = ip_of(&backends);
    let plan = Plan {
        mail_servers: ip.iter().map(|ip| format!("{ip} ")).collect(),
        logins: Some(Logins::default()),
        ..Ring::plan(&lab, 1)
    };
    let ring = Ring::start(&lab, &[kind], &plan);
    let director = ring.member(0);
    for user in users("user", 12) {
        let home = predict::backend(&user, &ip);
        director.doveadm_plain(&["mailbox", "create", "-u", &user, "Box"]).success();
        let visited: BTreeSet<IpAddr> = backends.iter().flat_map(|all| all.visited_by(&user)).collect();
        assert_eq!(visited, BTreeSet::from([home]), "{user}");
        let list = director.doveadm_plain(&["mailbox", "list", "-u", &user]).success();
        assert!(list.lines().any(|line| line == "Box"), "{list}");
        // He is in the map now, where a move finds him.
        ring.wait_known(&user, "", home);
    }
    // It follows a move.
    let user = "user0";
    let home = predict::backend(user, &ip);
    let target = *ip.iter().find(|ip| **ip != home).expect("another");
    director.doveadm(&["move", user, &target.to_string()]).success();
    let list = director.doveadm_plain(&["mailbox", "list", "-u", user]).success();
    assert!(!list.lines().any(|line| line == "Box"), "{list}");
    assert!(backends.iter().any(|all| all.visited_by(user).contains(&target)));
}

#[test]
fn doveadm_of_dovecot_23_runs_on_the_users_backend() {
    doveadm_runs_on_the_users_backend("dovecot24::doveadm_of_dovecot_23_runs_on_the_users_backend", Ours);
}

#[test]
fn doveadm_of_dovecot_24_runs_on_the_users_backend() {
    doveadm_runs_on_the_users_backend("dovecot24::doveadm_of_dovecot_24_runs_on_the_users_backend", Ours24);
}

/// What Dovecot 2.4.1 does by default: a login process that has served its one client is not reached by kicks, which count its
/// session all the same. The operator is told, with what to set; the move goes on.
#[test]
fn sessions_that_dovecot_counts_but_does_not_end_are_an_error() {
    let name = "dovecot24::sessions_that_dovecot_counts_but_does_not_end_are_an_error";
    let Some(lab) = Lab::new(name, &NEEDS) else { return };
    let backend = Backend::start(&lab, 2);
    let ip = backend.addresses();
    let settings24 = "service pop3-login {\n  restart_request_count = 1\n}\n".into();
    let plan = Plan {
        mail_servers: format!("{} {}", ip[0], ip[1]),
        settings: "director_user_kick_delay = 1s".into(),
        logins: Some(Logins { settings24, ..Logins::default() }),
        ..Ring::plan(&lab, 1)
    };
    let ring = Ring::start(&lab, &[Ours24], &plan);
    let director = ring.member(0);
    let mut session = Pop3::login(director.address(POP3_PORT), "jane").expect("POP3");
    let home = predict::backend("jane", ip);
    let target = if home == ip[0] { ip[1] } else { ip[0] };
    director.doveadm(&["move", "jane", &target.to_string()]).success();
    let error = format!(
        "Error: Kicking the sessions of user hash {} failed: 1 of them go on although anvil was told to end them",
        predict::hash("jane")
    );
    wait_for("an error", LIMIT, || {
        let log = director.log();
        if log.contains(&error) { Ok(()) } else { Err(log) }
    });
    Imap::login(director.address(IMAP_PORT), "jane").expect("IMAP");
    assert!(backend.visited_by("jane").contains(&target));
    // A Dovecot that ends it is a better one, and this warning and its remedy can go.
    session.command("NOOP").expect("the session that should have ended");
}

/// The tests would prove less if the daemon was root, or if anvil was open to all.
#[test]
fn the_director_reaches_anvil_without_being_root() {
    let name = "dovecot24::the_director_reaches_anvil_without_being_root";
    let Some(lab) = Lab::new(name, &NEEDS) else { return };
    let plan = Plan { logins: Some(Logins::default()), ..Ring::plan(&lab, 1) };
    let ring = Ring::start(&lab, &[Ours24], &plan);
    let director = ring.member(0);
    let path = director.base_dir().join("anvil");
    // Dovecot makes it as root, and gives it away a moment later.
    let anvil = wait_for("anvil's owner", LIMIT, || {
        let anvil = std::fs::metadata(&path).map_err(|error| error.to_string())?;
        if anvil.uid() == 0 { Err("root".to_owned()) } else { Ok(anvil) }
    });
    assert_eq!(anvil.mode() & 0o777, 0o600);
    let own = std::fs::metadata(director.door(Door::Admin)).expect("our admin socket");
    let pid = director.director_pid().as_raw_nonzero();
    let process = std::fs::metadata(format!("/proc/{pid}")).expect("the director's process");
    assert_eq!(process.uid(), anvil.uid(), "our sockets belong to {}", own.uid());
    wait_for("the director to say what it found", LIMIT, || {
        let log = director.log();
        if log.contains("Sessions are kicked through anvil (Dovecot 2.4)") { Ok(()) } else { Err(log) }
    });
}
