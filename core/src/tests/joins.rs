//! Directors that join a ring of many users.

use super::*;
use crate::contract::ConnectionId;
use crate::settings::{Configuration, Tuning};
use crate::testing::tuning;

const USERS: usize = 3000;

/// A ring of 1 and 3 that knows many users. Director 2, which belongs between them, has connected to both and hears nothing
/// of 1 yet, which is to hand over its users.
fn joining() -> Net {
    let mut net = Net::synced(3);
    net.kill(2);
    net.pass(secs(5));
    net.wait_synced(1);
    let end = net.authreply(1);
    let text: String = (0..USERS).map(|n| format!("OK\t{n}\tuser=u{n}\tproxy\n")).collect();
    net.say(end, &text);
    net.lines.clear();
    net.mute.insert((1, 2));
    net.start_node(2, configuration(2, 3));
    net.run();
    net
}

/// The link on which director 1 hands over its users to 2.
fn handover(net: &Net) -> ConnectionId {
    let director = &net.nodes[&1];
    let mut links = director.ring.links.iter().copied();
    links.rfind(|&id| director.link(id).is_some_and(|link| link.outgoing && link.peer == address(2))).expect("a link")
}

/// Director 2 hears what it has not heard.
fn hand_over(net: &mut Net) {
    let link = handover(net);
    net.mute.clear();
    net.pull_again(1, link);
    net.run();
}

fn said(net: &Net, start: &str) -> usize {
    net.lines.iter().filter(|line| line.starts_with(start)).count()
}

/// Ring protocol, "Handshake": who was told to connect to a newcomer keeps its right until the newcomer has all users.
#[test]
fn a_ring_stays_synced_while_its_users_are_handed_over() {
    let mut net = joining();
    for node in [1, 3] {
        net.assert_synced(node);
        assert_ne!(net.lookup(node, &format!("new at {node}")), "", "a user whom nobody knows");
    }
    hand_over(&mut net);
    net.pass(secs(5));
    for node in 1..=3 {
        net.wait_synced(node);
        assert_eq!(net.nodes[&node].user_count(), USERS + 2, "node {node}");
        assert_eq!(net.peers_of(node).len(), 2);
    }
}

/// Else the ring could stay as it is for ever, though its members see it in another order.
#[test]
fn a_right_that_has_said_connect_is_left_if_the_newcomer_is_not_reached() {
    let mut net = Net::synced(3);
    net.kill(2);
    net.pass(secs(5));
    net.wait_synced(1);
    net.lines.clear();
    net.cut.insert((1, 2));
    net.start_node(2, configuration(2, 3));
    net.run();
    let quits = said(&net, "1>3 QUIT\tCONNECT requested");
    assert!((1..5).contains(&quits), "{quits}");
}

/// The original reads no more of a link on which it has said CONNECT.
#[test]
fn a_right_of_the_original_is_left_as_soon_as_it_says_connect() {
    let mut net = Net::synced(3);
    net.kill(2);
    net.pass(secs(5));
    net.wait_synced(1);
    net.speak_minor(1, 3, 9);
    net.mute.insert((1, 2));
    net.start_node(2, configuration(2, 3));
    net.run();
    assert_eq!(said(&net, "1>3 QUIT\tCONNECT requested"), 1);
}

/// Chapter 2.14: what the right of a newcomer knows already need not be told to it once more.
#[test]
fn users_whom_the_right_of_a_newcomer_knows_are_not_told_to_it() {
    let mut net = joining();
    hand_over(&mut net);
    net.pass(secs(5));
    assert_eq!(said(&net, "1>2 KNOWN-TO\t127.0.1.3\t9090"), 1);
    assert_eq!(said(&net, "1>2 U\t"), USERS);
    assert_eq!(said(&net, "2>3 USER\t"), 0);
    assert_eq!(net.nodes[&2].user_count(), USERS);
}

/// It may have been an earlier life of that director who knew them.
#[test]
fn a_right_that_was_connected_to_later_is_told_of_all_users() {
    for later in [false, true] {
        let mut net = Net::start(0);
        net.start_node(3, configuration(3, 3));
        net.start_node(2, configuration(2, 3));
        net.cut.insert((2, 3));
        net.run();
        let stamp = net.now.unix_secs;
        let connect = |net: &mut Net| {
            let end = net.connect_from(2, Role::Ring, Some(address(1)));
            net.say(end, &format!("VERSION\tdirector\t1\t10\nME\t127.0.1.1\t9090\t{stamp}\n"));
            end
        };
        let early = later.then(|| connect(&mut net));
        net.pass(secs(1));
        net.cut.clear();
        net.pass(secs(3));
        assert!(net.peers_of(2).contains(&3));
        let left = early.unwrap_or_else(|| connect(&mut net));
        net.say(left, &format!("HOST-HAND-START\t0\nHOST-HAND-END\t0\nU\t5\t127.0.2.1\t{stamp}\n"));
        net.say(left, &format!("KNOWN-TO\t127.0.1.3\t9090\nU\t6\t127.0.2.1\t{stamp}\n"));
        // Live lines are for everybody.
        net.say(left, &format!("USER\t8\t127.0.2.1\t{stamp}\n"));
        // There may be a second link, from 3, which may belong to another life than the first.
        let [before, behind, live] = [5, 6, 8].map(|hash| said(&net, &format!("2>3 USER\t{hash}\t")));
        assert!(before > 0 && before == live);
        assert_eq!(before - behind, usize::from(!later), "connected later: {later}");
    }
}

/// Nobody is said to know anything before he has answered a PING that came behind it.
#[test]
fn nothing_is_said_of_a_right_that_does_not_answer() {
    let mut net = joining();
    net.kill(2);
    net.pass(secs(5));
    net.lines.clear();
    net.mute.insert((3, 1));
    net.start_node(2, configuration(2, 3));
    net.run();
    // 3 can't say CONNECT to 1 either: an administrator's list of members does.
    net.nodes.get_mut(&1).unwrap().connect_preferred(net.now);
    net.run();
    net.mute.remove(&(1, 2));
    let link = handover(&net);
    net.pull_again(1, link);
    net.run();
    assert_eq!((said(&net, "1>2 KNOWN-TO"), said(&net, "1>2 U\t")), (0, USERS));
    assert_eq!(said(&net, "2>3 USER\t"), USERS);
}

/// A newcomer of the original's version knows no such line.
#[test]
fn an_older_newcomer_is_told_nothing_of_who_knows_what() {
    let mut net = Net::synced(3);
    net.kill(2);
    net.pass(secs(5));
    net.lookup(1, "jane");
    let older = Configuration { tuning: Tuning { ring_minor: 9, ..tuning() }, ..configuration(2, 3) };
    net.mute.insert((1, 2));
    net.start_node(2, older);
    net.run();
    hand_over(&mut net);
    net.pass(secs(5));
    assert_eq!((said(&net, "1>2 KNOWN-TO"), said(&net, "1>2 U\t")), (0, 1));
    assert_eq!(said(&net, "2>3 USER\t"), 1);
}
