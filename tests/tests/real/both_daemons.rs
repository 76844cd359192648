//! Rings of all there is: our two daemons and the original, in every order, with login processes and sessions.

use std::net::IpAddr;

use director_tests::Kind::{self, Dovecot, Smol, Std};
use director_tests::clients::Imap;
use director_tests::director::IMAP_PORT;
use director_tests::ring::users;
use director_tests::{Backend, LIMIT, Lab, Logins, Need, Plan, Ring, predict, wait_for};

/// The same answer to every lookup on every member, and the same map.
fn assert_same_lookups(ring: &Ring, names: &[String], homes: &[IpAddr]) {
    for index in 0..3 {
        assert_eq!(ring.lookup_many(index, names), homes, "on director {}", index + 1);
    }
    ring.wait_same_users();
    ring.wait_same_hosts();
}

fn login(ring: &Ring, index: usize, user: &str) -> Imap {
    Imap::login(ring.member(index).address(IMAP_PORT), user).expect("a login")
}

/// Waits until the server has ended a session.
fn wait_ended(imap: &mut Imap) {
    wait_for("the end of a session", LIMIT, || match imap.command("NOOP") {
        Ok(_) => Err("alive"),
        Err(_) => Ok(()),
    });
}

fn lives_together(name: &str, kinds: &[Kind; 3]) {
    let Some(lab) = Lab::new(name, &Need::of(kinds)) else { return };
    let backend = Backend::start(&lab, 3);
    let ip = backend.addresses();
    let plan = Plan {
        mail_servers: format!("{} {} {}", ip[0], ip[1], ip[2]),
        settings: "director_user_kick_delay = 2s".into(),
        logins: Some(Logins::default()),
        ..Ring::plan(&lab, 3)
    };
    let mut ring = Ring::start(&lab, kinds, &plan);

    // Each is looked up on one member first; then all members say the same.
    let names = users("user", 60);
    let mut homes = Vec::new();
    for (index, part) in names.chunks(20).enumerate() {
        homes.extend(ring.lookup_many(index, part));
    }
    ring.wait_same_users();
    for (name, home) in names.iter().zip(&homes) {
        assert_eq!(*home, predict::backend(name, ip), "{name}");
    }
    assert_same_lookups(&ring, &names, &homes);

    // A user with a session on every member is moved, and later kicked, by each of them in turn.
    for mover in 0..3 {
        let user = format!("moved-by-{mover}");
        let home = predict::backend(&user, ip);
        let place = ip.iter().position(|ip| *ip == home).expect("a backend");
        let next = ip[(place + 1) % 3];
        let mut sessions: Vec<_> = (0..3).map(|index| login(&ring, index, &user)).collect();
        ring.wait_known(&user, "", home);
        ring.member(mover).doveadm(&["move", &user, &next.to_string()]).success();
        ring.wait_known(&user, "", next);
        sessions.iter_mut().for_each(wait_ended);
        let mut sessions: Vec<_> = (0..3).map(|index| login(&ring, index, &user)).collect();
        assert_eq!(backend.visited_by(&user), [home, next].into(), "{user}");
        ring.member(mover).doveadm(&["kick", &user]).success();
        sessions.iter_mut().for_each(wait_ended);
    }

    // Each is restarted: it gets back what it knew, and nobody's session ends.
    let mut sessions: Vec<_> = (0..3).map(|index| login(&ring, index, &names[index])).collect();
    for (index, kind) in kinds.iter().enumerate() {
        ring.member_mut(index).restart_director();
        ring.wait_until_up();
        let took = ring.wait_synced();
        lab.say(&format!("{kind:?} restarted, synced after {:.2} s", took.as_secs_f64()));
        assert_same_lookups(&ring, &names, &homes);
        for session in &mut sessions {
            session.command("NOOP").expect("a session that goes on");
        }
        let new = format!("after-{index}");
        let home = ring.lookup(index, &new, "");
        ring.wait_known(&new, "", home);
    }
}

#[test]
fn smol_std_dovecot() {
    lives_together("both_daemons::smol_std_dovecot", &[Smol, Std, Dovecot]);
}

#[test]
fn smol_dovecot_std() {
    lives_together("both_daemons::smol_dovecot_std", &[Smol, Dovecot, Std]);
}

#[test]
fn std_smol_dovecot() {
    lives_together("both_daemons::std_smol_dovecot", &[Std, Smol, Dovecot]);
}

#[test]
fn std_dovecot_smol() {
    lives_together("both_daemons::std_dovecot_smol", &[Std, Dovecot, Smol]);
}

#[test]
fn dovecot_smol_std() {
    lives_together("both_daemons::dovecot_smol_std", &[Dovecot, Smol, Std]);
}

#[test]
fn dovecot_std_smol() {
    lives_together("both_daemons::dovecot_std_smol", &[Dovecot, Std, Smol]);
}
