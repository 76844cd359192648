//! Rings whose clocks differ.

use super::secs;
use crate::contract::Event;
use crate::testing::{Net, START_SECS, address};

/// A ring of three that knows jane on a backend which is down by now, so that her hash gives another one, and which is
/// about to forget her.
fn net_near_expiry() -> Net {
    let mut net = Net::synced(3);
    assert_eq!(net.lookup(2, "jane"), "127.0.2.1");
    assert_eq!(net.admin(1, "HOST-DOWN\t127.0.2.1\n"), "OK\n");
    net.pass(secs(56));
    net.lines.clear();
    net
}

/// To a member whose clock was set back she has just been there. It answers so, with the time that everybody has: that
/// is no news, and to ask again would be answered in the same way, for ever.
#[test]
fn the_answer_about_a_weak_user_counts_whatever_time_it_has() {
    for skew_secs in [-50, -1000, -40_000] {
        let mut net = net_near_expiry();
        net.skews.insert(3, skew_secs);
        assert_eq!(net.lookup(1, "jane"), "127.0.2.1", "{skew_secs}");
        let asked = net.lines.iter().filter(|line| line.starts_with("1>") && line.contains("USER-WEAK")).count();
        assert_eq!(asked, 2, "{skew_secs}: once on each side: {:#?}", net.lines);
    }
}

/// The answer of a member whose clock is behind has expired for the others, who pass it over; but the question comes
/// round.
#[test]
fn a_weak_user_whose_answer_has_expired_is_weak_no_longer_than_the_question_takes() {
    for skew_secs in [-70, -1000, -40_000] {
        let mut net = Net::synced(2);
        net.skews.insert(2, skew_secs);
        assert_eq!(net.lookup(1, "jane"), "127.0.2.1");
        assert_eq!(net.admin(1, "HOST-DOWN\t127.0.2.1\n"), "OK\n");
        net.pass(secs(40));
        assert_eq!(net.lookup(2, "jane"), "127.0.2.1");
        net.pass(secs(16));
        assert_eq!(net.lookup(1, "jane"), "127.0.2.1", "{skew_secs}");
    }
}

/// Only who asks hears that the question has come round. For the others his answer is all there is, be it expired by their
/// clocks: nobody else asks while the user is weak, so lookups of his would fail until he is dropped.
#[test]
fn the_answer_of_a_member_whose_clock_is_behind_ends_the_question_for_all() {
    for skew_secs in [-70, -1000, -140_000] {
        let mut net = Net::synced(4);
        net.skews.insert(3, skew_secs);
        assert_eq!(net.lookup(2, "jane"), "127.0.2.1");
        assert_eq!(net.admin(1, "HOST-DOWN\t127.0.2.1\n"), "OK\n");
        net.pass(secs(56));
        net.lines.clear();
        assert_eq!(net.lookup(3, "jane"), "127.0.2.1", "{skew_secs}: it has come round");
        assert!(net.lines.iter().any(|line| line.contains(" USER-WEAK\t")), "{skew_secs}: {:#?}", net.lines);
        for node in [1, 2, 4] {
            assert_eq!(net.lookup(node, "jane"), "127.0.2.1", "{skew_secs}: node {node}: {:#?}", net.lines);
        }
        assert!(net.lines.len() < 60, "{skew_secs}: {:#?}", net.lines);
    }
}

#[test]
fn weak_users_come_to_an_end_with_a_member_whose_clock_is_ahead() {
    for skew_secs in [5, 50, 1000, 40_000] {
        let mut net = net_near_expiry();
        net.skews.insert(3, skew_secs);
        assert_eq!(net.lookup(1, "jane"), "127.0.2.1", "{skew_secs}");
        assert!(net.lines.len() < 40, "{skew_secs}: {:#?}", net.lines);
    }
}

/// A node hears a line from another.
fn hear(net: &mut Net, node: usize, from: usize, line: &str) {
    let director = &net.nodes[&node];
    let from = Some(address(from));
    let mut links = director.ring.links.iter().copied();
    let connection = links.find(|&id| director.link(id).unwrap().member == from).expect("a link");
    net.handle(node, Event::Received { connection, bytes: format!("{line}\n").as_bytes() });
    net.run();
}

/// A SYNC of an earlier life of the first member, whose clock was ahead by an hour.
fn orphan(seq: u32, hosts_hash: u32) -> String {
    format!("SYNC\t127.0.1.1\t9090\t{seq}\t10\t{}\t{hosts_hash}", START_SECS + 3600)
}

#[test]
fn a_sync_of_an_earlier_life_that_comes_round_is_outdone() {
    let mut net = Net::synced(3);
    let hosts_hash = net.nodes.get_mut(&1).unwrap().hosts.hosts_hash();
    hear(&mut net, 2, 1, &orphan(900, hosts_hash));
    net.assert_synced(1);
    assert_eq!(net.admin(1, "HOST-SET\t127.0.2.1\t50\n"), "OK\n");
    (1..=3).for_each(|node| net.assert_synced(node));
}

/// It is remembered although it does not come round, because it tells of other backends.
#[test]
fn a_sync_of_an_earlier_life_that_others_remember_is_outdone_after_a_while() {
    for seq in [200, 10_000, 1_000_000] {
        let mut net = Net::synced(3);
        hear(&mut net, 2, 1, &orphan(seq, 1));
        hear(&mut net, 3, 2, &orphan(seq, 1));
        net.admin(1, "HOST-SET\t127.0.2.1\t50\n");
        net.pass(secs(60));
        (1..=3).for_each(|node| net.assert_synced(node));
    }
}
