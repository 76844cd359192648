//! Users: lookups that wait, weak users, clocks, tags, and handshakes with many users.

use director_sim::Scenario;

/// Scenarios, 26.
#[test]
fn a_stream_of_changes_does_not_put_off_the_end_of_a_lookup() {
    let mut ring = Scenario::synced(3);
    // All backends but one are away, and that one too: nobody can be served.
    for host in 1..=5 {
        assert_eq!(ring.command(1, &format!("HOST-UPDATE\t10.2.0.{host}\t0")), "OK\n");
    }
    let lookup = ring.lookup(2, "newcomer");
    for n in 0..24 {
        ring.pass(1);
        assert_eq!(ring.backend(lookup), None, "after {n} s");
        let change = if n % 2 == 0 { "DOWN" } else { "UP" };
        assert_eq!(ring.command(3, &format!("HOST-{change}\t10.2.0.1")), "OK\n");
    }
    ring.wait("the lookup ends", 8, |ring| ring.backend(lookup).is_some());
    assert_eq!(ring.backend(lookup).as_deref(), Some(""), "with a temporary failure");
}

/// Scenarios, 29.
#[test]
fn wrong_clocks_move_nobody_and_start_no_storm() {
    for ahead_secs in [5, 300, 7200, -5, -300, -7200] {
        let mut ring = Scenario::new(4);
        ring.set_clock(2, ahead_secs);
        ring.start_all();
        ring.wait_whole(60);
        let users: Vec<String> = (0..10).map(|n| format!("user{n}")).collect();
        let backends: Vec<String> = users.iter().map(|user| ring.backend_of(1, user)).collect();
        // The hash gives others now; those who are here stay.
        assert_eq!(ring.command(3, "HOST-UPDATE\t10.2.0.1\t1"), "OK\n");
        let before = ring.ring_lines();
        for director in [2, 3, 4, 1] {
            for (user, backend) in users.iter().zip(&backends) {
                let now = ring.backend_of(director, user);
                // To a clock that is a minute ahead everybody has expired who came from another.
                assert!(now == *backend || ahead_secs.abs() >= 60, "{user} on {director}, clock {ahead_secs}");
            }
        }
        ring.pass(10);
        let lines = ring.ring_lines() - before;
        assert!(lines < 2000, "clock {ahead_secs}: {lines} lines for 40 lookups");
    }
}

/// Scenarios, 29: a clock that steps while all goes on.
#[test]
fn a_clock_that_steps_back_and_forth_breaks_nothing() {
    let mut ring = Scenario::synced(3);
    for ahead_secs in [3600, 0, -3600, 0, 86_400, 0] {
        ring.set_clock(2, ahead_secs);
        for n in 0..5 {
            assert!(!ring.backend_of(n % 3 + 1, &format!("user{n}")).is_empty());
        }
        ring.pass(20);
    }
    ring.wait_whole(60);
    // Who has a time of the future is kept for one more minute when that is noticed.
    ring.pass(130);
    ring.assert_equal();
}

/// Scenarios, 30.
#[test]
fn weak_users_on_many_directors_at_once_all_get_their_answer() {
    for directors in 2..=4 {
        let mut ring = Scenario::synced(directors);
        let users: Vec<String> = (0..20).map(|n| format!("user{n}")).collect();
        let backends: Vec<String> = users.iter().map(|user| ring.backend_of(1, user)).collect();
        ring.pass(5);
        // Their hashes give others now.
        for host in 1..=4 {
            assert_eq!(ring.command(1, &format!("HOST-UPDATE\t10.2.0.{host}\t0")), "OK\n");
        }
        // Until they are near expiry, within 6 s of the minute that they have.
        ring.pass(50);
        let lookups: Vec<_> = (0..users.len() * directors)
            .map(|n| (n / directors, ring.lookup(n % directors + 1, &users[n / directors])))
            .collect();
        ring.pass(2);
        for (user, lookup) in lookups {
            assert_eq!(ring.backend(lookup), Some(backends[user].clone()), "{} of {directors} directors", users[user]);
        }
        ring.pass(2);
        ring.assert_equal();
    }
}

/// Scenarios, 31.
#[test]
fn logins_go_on_while_a_joining_director_is_told_of_many_users() {
    // What a handshake says goes out in small pieces.
    let mut ring = Scenario::with(3, |plan| plan.conditions.window_bytes = 512);
    ring.start_all();
    ring.wait_whole(60);
    let first = ring.lookup(1, "user0");
    for n in 1..3000 {
        ring.lookup(1, &format!("user{n}"));
        ring.pass_millis(1);
    }
    ring.wait("all are in", 30, |ring| ring.view(1).users.len() == 3000);
    ring.kill(2);
    ring.pass(2);
    ring.start(2);
    for n in 0..20 {
        ring.pass_millis(10);
        let lookup = ring.lookup(3, &format!("user{n}"));
        ring.wait("an answer while the handshake goes on", 10, |ring| ring.backend(lookup).is_some());
        // Somebody whom nobody knows waits for nothing: the ring is synced.
        let [at_sender, at_right] = [1, 3].map(|member| ring.lookup(member, &format!("new{n} at {member}")));
        ring.pass_millis(5);
        assert!(ring.backend(at_sender).is_some() && ring.backend(at_right).is_some(), "new user {n}");
    }
    ring.wait_whole(60);
    ring.assert_equal();
    assert_eq!(ring.backend_of(2, "user0"), ring.backend(first).unwrap_or_default());
}

/// Scenarios, 31: nobody stays for ever of a handshake that breaks off.
#[test]
fn users_of_a_handshake_that_breaks_off_expire() {
    let mut ring = Scenario::with(2, |plan| plan.conditions.window_bytes = 512);
    ring.start_all();
    ring.wait_whole(60);
    for n in 0..1000 {
        ring.lookup(1, &format!("user{n}"));
        ring.pass_millis(1);
    }
    ring.wait("all are in", 30, |ring| ring.view(1).users.len() == 1000);
    ring.kill(2);
    ring.pass(1);
    ring.start(2);
    ring.pass_millis(30);
    ring.lose_power(1);
    ring.pass(150);
    assert_eq!(ring.view(2).users.len(), 0);
}

/// Scenarios, 34.
#[test]
fn one_name_in_two_pools_is_two_users() {
    let mut ring = Scenario::synced(3);
    for host in [1, 2] {
        assert_eq!(ring.command(1, &format!("HOST-SET\t10.2.1.{host}@blue")), "OK\n");
    }
    let plain = ring.backend_of(1, "jane");
    let blue = ring.lookup_tagged(2, "jane", "blue");
    ring.pass(1);
    let blue = ring.backend(blue).expect("an answer");
    assert!(plain.starts_with("10.2.0.") && blue.starts_with("10.2.1."), "{plain}, {blue}");
    assert_eq!(ring.view(3).users.len(), 2);
    // One is forgotten, the other stays.
    assert_eq!(ring.command(3, &format!("HOST-FLUSH\t{blue}")), "OK\n");
    let users = ring.view(1).users;
    assert!(users.len() == 1 && users[0].backend.to_string() == plain);
}
