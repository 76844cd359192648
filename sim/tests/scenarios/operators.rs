//! Operators: changes at once, changes that wait, and what a restart must not undo.

use director_sim::Scenario;

/// Scenarios, 3: what is asked of a ring that is not synced is done after it is, and nobody's older state undoes it.
#[test]
fn a_change_that_waits_for_the_ring_stands_when_the_ring_is_whole() {
    let mut ring = Scenario::synced(4);
    ring.kill(3);
    ring.pass_millis(2);
    let down = ring.admin(1, "HOST-DOWN\t10.2.0.2\n");
    ring.start(3);
    ring.wait("OK", 60, |ring| ring.heard(down) == "OK\n");
    ring.wait_whole(60);
    for director in 1..=4 {
        let view = ring.view(director);
        let host = view.hosts.iter().find(|host| host.ip.to_string() == "10.2.0.2").expect("the backend");
        assert!(!host.up, "director {director}");
    }
}

/// Scenarios, 2.
#[test]
fn a_command_is_done_although_its_client_leaves_while_it_waits() {
    let mut ring = Scenario::synced(3);
    ring.kill(2);
    ring.pass_millis(2);
    let update = ring.admin(1, "HOST-UPDATE\t10.2.0.3\t33\n");
    ring.pass_millis(1);
    ring.leave(update);
    ring.start(2);
    ring.wait_whole(60);
    ring.wait("the change is everywhere", 10, |ring| {
        ring.views().iter().all(|view| view.as_ref().is_ok_and(|view| view.hosts[2].vhosts == 33))
    });
}

/// Scenarios, 32.
#[test]
fn one_backend_changed_by_two_at_once_ends_equal_everywhere() {
    for distance in 1..=3 {
        let mut ring = Scenario::synced(4);
        ring.admin(1, "HOST-UPDATE\t10.2.0.1\t50\n");
        ring.admin(1 + distance, "HOST-UPDATE\t10.2.0.1\t70\n");
        ring.pass(5);
        ring.wait_whole(30);
        ring.assert_equal();
        let before = ring.ring_lines();
        ring.pass(30);
        assert!(ring.ring_lines() - before < 150, "and stays so");
    }
}

/// Scenarios, 32.
#[test]
fn backends_added_in_different_orders_are_the_same_backends() {
    let mut ring = Scenario::synced(3);
    for (director, host) in [(1, 201), (2, 202), (3, 203), (1, 203), (2, 201), (3, 202)] {
        ring.admin(director, &format!("HOST-SET\t10.2.0.{host}\n"));
    }
    ring.pass(5);
    ring.wait_whole(30);
    ring.assert_equal();
    assert_eq!(ring.view(1).hosts.len(), 8);
}

/// Scenarios, 40.
#[test]
fn up_and_down_within_one_second_end_in_one_state_without_a_storm() {
    let mut ring = Scenario::synced(4);
    assert_eq!(ring.command(1, "HOST-DOWN\t10.2.0.1"), "OK\n");
    ring.pass(2);
    let before = ring.ring_lines();
    ring.admin(1, "HOST-UP\t10.2.0.1\n");
    ring.admin(3, "HOST-UPDATE\t10.2.0.1\t40\n");
    ring.pass(10);
    assert!(ring.ring_lines() - before < 500, "{} lines", ring.ring_lines() - before);
    ring.wait_whole(10);
    ring.assert_equal();
}

/// Scenarios, 28, 33 and 39.
#[test]
fn a_director_that_restarts_with_its_old_configuration_takes_over_the_rings_backends() {
    let mut ring = Scenario::synced(3);
    assert_eq!(ring.command(1, "HOST-DOWN\t10.2.0.1"), "OK\n");
    assert_eq!(ring.command(1, "HOST-REMOVE\t10.2.0.2"), "OK\n");
    assert_eq!(ring.command(1, "HOST-SET\t10.2.0.200\t30"), "OK\n");
    for director in [3, 1, 2] {
        ring.kill(director);
        ring.pass(1);
        ring.start(director);
        ring.wait_whole(60);
    }
    ring.assert_equal();
    let hosts = ring.view(2).hosts;
    let host = |ip: &str| hosts.iter().find(|host| host.ip.to_string() == ip);
    assert!(!host("10.2.0.1").expect("it is there").up);
    assert!(host("10.2.0.2").is_none(), "a dead backend came back");
    assert_eq!(host("10.2.0.200").expect("it was added").vhosts, 30);
}

/// Scenarios, 39: what an operator's script says again changes nothing.
#[test]
fn adding_and_removing_again_is_harmless() {
    let mut ring = Scenario::synced(3);
    for director in [1, 2, 3] {
        assert_eq!(ring.command(director, "HOST-SET\t10.2.0.201\t30"), "OK\n");
    }
    assert_eq!(ring.command(2, "HOST-REMOVE\t10.2.0.201"), "OK\n");
    assert_eq!(ring.command(3, "HOST-REMOVE\t10.2.0.201"), "NOTFOUND\n");
    ring.assert_equal();
}

/// Scenarios, 41.
#[test]
fn moves_under_way_when_a_link_breaks_end_soon_after_it_is_back() {
    let mut ring = Scenario::synced(4);
    for n in 0..30 {
        ring.backend_of(n % 4 + 1, &format!("user{n}"));
    }
    ring.pass(10);
    let flush = {
        assert_eq!(ring.command(1, "HOST-UPDATE\t10.2.0.1\t0"), "OK\n");
        ring.admin(1, "HOST-RESET-USERS\t10.2.0.1\n")
    };
    // At several moments of the moves, on every link.
    for (one, other) in [(1, 2), (2, 3), (3, 4), (4, 1)] {
        ring.pass_millis(1);
        ring.break_links(one, other);
    }
    ring.wait("all are moved", 20, |ring| !ring.heard(flush).is_empty());
    assert_eq!(ring.heard(flush), "OK\n");
    ring.wait_whole(30);
    let left = ring.view(2).users.iter().filter(|user| user.backend.to_string() == "10.2.0.1").count();
    assert_eq!(left, 0);
    ring.assert_equal();
}
