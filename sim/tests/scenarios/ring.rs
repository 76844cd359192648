//! The ring: members that come, go, die, stand still and come back.

use director_sim::Scenario;

/// Scenarios, 4.
#[test]
fn a_removed_director_is_gone_for_all_and_may_be_added_again_at_once() {
    let mut ring = Scenario::synced(4);
    // Left and right of it lose a neighbour each.
    ring.kill(3);
    assert_eq!(ring.command(1, "DIRECTOR-REMOVE\t10.1.0.3\t9090"), "OK\n");
    assert_eq!(ring.command(2, "DIRECTOR-REMOVE\t10.1.0.3\t9090"), "NOTFOUND\n", "the ring had it before the OK");
    assert_eq!(ring.command(2, "DIRECTOR-REMOVE\t10.1.0.99\t9090"), "NOTFOUND\n", "nobody knows that one");
    assert_eq!(ring.command(4, "DIRECTOR-ADD\t10.1.0.3\t9090"), "OK\n");
    ring.start(3);
    ring.wait_whole(90);
    ring.assert_equal();
}

/// Scenarios, 4.
#[test]
fn a_director_that_both_others_are_linked_to_can_be_removed() {
    let mut ring = Scenario::synced(3);
    assert_eq!(ring.command(1, "DIRECTOR-REMOVE\t10.1.0.2\t9090"), "OK\n");
    ring.wait("director 2 is gone", 20, |ring| {
        let views = ring.views();
        [0, 2].iter().all(|&n| {
            let view = views[n].as_ref().expect("it answers");
            !view.members.iter().any(|line| {
                ["left", "right"].contains(&line.kind.as_str()) && line.address.ip().to_string() == "10.1.0.2"
            })
        })
    });
    assert_eq!(ring.command(3, "HOST-UPDATE\t10.2.0.1\t50"), "OK\n", "the two go on");
}

/// Scenarios, 20 and 35.
#[test]
fn a_director_that_stands_still_is_left_out_and_holds_nobody_up() {
    let mut ring = Scenario::synced(4);
    ring.pause(2, 150);
    // PINGs find out within 30 s idle and 30 s without an answer; then the others close the gap.
    ring.wait("the others are synced without it", 120, |ring| {
        let views = ring.views();
        [0, 2, 3].iter().all(|&n| {
            views[n].as_ref().is_ok_and(|view| {
                let of = |kind: &str| {
                    view.members.iter().find(|line| line.kind == kind).map(|line| line.address.ip().to_string())
                };
                let synced = view.members.iter().any(|line| line.kind == "self" && line.status == "ring synced");
                synced
                    && of("left").is_some_and(|ip| ip != "10.1.0.2")
                    && of("right").is_some_and(|ip| ip != "10.1.0.2")
            })
        })
    });
    assert!(!ring.backend_of(1, "somebody").is_empty());
    ring.pass(150);
    ring.wait_whole(120);
    ring.assert_equal();
}

/// Scenarios, 21. That nobody spins is watched all along, as the contract between core and runtime.
#[test]
fn a_director_whose_connects_all_fail_at_once_serves_alone_and_does_not_spin() {
    let mut ring = Scenario::new(3);
    ring.start(2);
    let took = ring.wait("it serves alone", 40, |ring| {
        let lookup = ring.lookup(2, "somebody");
        ring.pass_millis(50);
        ring.backend(lookup).is_some_and(|backend| !backend.is_empty())
    });
    assert!(took >= 19_000, "not before 20 s of trying: {took} ms");
    ring.pass(120);
    ring.start(1);
    ring.start(3);
    ring.wait_whole(120);
}

/// Scenarios, 22: each CONNECT on the way to the right order is heeded, or told again.
#[test]
fn directors_that_come_one_after_the_other_in_any_order_end_in_one_ring() {
    for order in [[1, 2, 3, 4, 5], [5, 4, 3, 2, 1], [3, 1, 5, 2, 4], [2, 4, 1, 5, 3]] {
        let mut ring = Scenario::new(5);
        for director in order {
            ring.start(director);
            ring.pass_millis(300);
        }
        ring.wait_whole(60);
        ring.assert_equal();
    }
}

/// Scenarios, 22: what CONNECT named is gone by the time it arrives.
#[test]
fn a_director_that_dies_while_others_are_sent_to_it_leaves_a_whole_ring() {
    let mut ring = Scenario::synced(4);
    ring.kill(3);
    ring.pass(5);
    ring.start(3);
    // Its left has said CONNECT, or is about to.
    ring.pass_millis(4);
    ring.lose_power(3);
    ring.pass(90);
    ring.start(3);
    ring.wait_whole(180);
}

/// Scenarios, 23 and 24: what the dead one had said, and what is said of it, comes to an end.
#[test]
fn lines_about_a_dead_director_do_not_circle() {
    let mut ring = Scenario::synced(5);
    ring.command(3, "HOST-UPDATE\t10.2.0.1\t50");
    // Its SYNC is on the way when it dies.
    let update = ring.admin(3, "HOST-UPDATE\t10.2.0.1\t60\n");
    ring.pass_millis(2);
    ring.kill(3);
    ring.pass(5);
    ring.leave(update);
    ring.pass(60);
    let before = ring.ring_lines();
    ring.pass(60);
    // Four links with a PING and its PONG every 15 s in both directions; tries to reach the dead one cost no lines.
    let lines = ring.ring_lines() - before;
    assert!(lines < 200, "{lines} lines in a minute of rest");
}

/// Scenarios, 24: its numbers begin at 1 again.
#[test]
fn a_director_that_restarts_is_heard_again() {
    let mut ring = Scenario::synced(4);
    for vhosts in 1..=20 {
        assert_eq!(ring.command(2, &format!("HOST-UPDATE\t10.2.0.1\t{vhosts}")), "OK\n");
    }
    ring.kill(2);
    ring.start(2);
    ring.wait_whole(60);
    assert_eq!(ring.command(2, "HOST-UPDATE\t10.2.0.1\t77"), "OK\n");
    for director in 1..=4 {
        assert_eq!(ring.view(director).hosts[0].vhosts, 77, "director {director}");
    }
}

/// Scenarios, 25.
#[test]
fn a_change_during_a_handshake_reaches_everybody() {
    let mut ring = Scenario::synced(4);
    ring.kill(2);
    ring.pass(3);
    ring.start(2);
    for n in 0..20 {
        // At every stage of the handshakes.
        ring.admin(4, &format!("HOST-UPDATE\t10.2.0.2\t{}\n", 30 + n));
        ring.pass_millis(2);
    }
    ring.wait_whole(60);
    ring.pass(5);
    ring.assert_equal();
}

/// Scenarios, 27: the old process of the same address is not seen to die.
#[test]
fn a_director_that_restarts_unnoticed_takes_its_own_place_again() {
    let mut ring = Scenario::synced(4);
    for _ in 0..3 {
        ring.lose_power(3);
        // Its own programs notice.
        ring.pass_millis(5);
        ring.start(3);
        ring.wait_whole(90);
    }
    let before = ring.ring_lines();
    ring.pass(60);
    assert!(ring.ring_lines() - before < 200, "nobody evicts anybody any more");
}

/// Scenarios, 43: cut links, and no partition. Nobody is alone for a moment, so nobody is sent to a second backend.
#[test]
fn a_flapping_network_splits_nothing() {
    let mut ring = Scenario::synced(3);
    let backends: Vec<String> = (0..10).map(|n| ring.backend_of(1, &format!("user{n}"))).collect();
    for round in 0..30 {
        let pair = [(1, 2), (2, 3), (3, 1)][round % 3];
        ring.break_links(pair.0, pair.1);
        ring.pass(2);
        let user = round % 10;
        let lookup = ring.lookup(round % 3 + 1, &format!("user{user}"));
        ring.pass_millis(100);
        // An answer may have to wait; a wrong one may not come.
        assert!(ring.backend(lookup).is_none_or(|backend| backend == backends[user]), "round {round}");
    }
    ring.wait_whole(20);
    for (n, backend) in backends.iter().enumerate() {
        assert_eq!(ring.backend_of(n % 3 + 1, &format!("user{n}")), *backend);
    }
}

/// Scenarios, 42: what is inherent, and how it ends.
#[test]
fn both_halves_of_a_split_ring_serve_and_agree_once_it_is_whole() {
    let mut ring = Scenario::synced(4);
    for (one, other) in [(1, 3), (1, 4), (2, 3), (2, 4)] {
        ring.cut(one, other);
    }
    // A half may only find out after a minute, and is alone 20 s later.
    ring.pass(150);
    assert_eq!(ring.command(1, "HOST-UPDATE\t10.2.0.1\t0"), "OK\n");
    for n in 0..20 {
        ring.lookup(1, &format!("split{n}"));
        ring.lookup(3, &format!("split{n}"));
    }
    ring.pass(2);
    ring.heal();
    ring.wait_whole(120);
    ring.pass(5);
    ring.assert_equal();
}
