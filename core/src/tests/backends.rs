//! Backends that are changed in two places at once, or in two halves: all members end with the same (ring protocol,
//! "Hosts").

use super::*;
use crate::wire::ring::MINOR;

/// A ring of so many, of which those named speak that minor version only.
fn ring(count: usize, older: &[usize], ring_minor: u32) -> Net {
    let mut net = Net::start(0);
    for node in 1..=count {
        let mut configuration = configuration(node, count);
        if older.contains(&node) {
            configuration.tuning.ring_minor = ring_minor;
        }
        net.start_node(node, configuration);
    }
    net.run();
    net.pass(secs(25));
    (1..=count).for_each(|node| net.assert_synced(node));
    net
}

/// Says one admin line to each of two nodes before either has heard of the other's.
fn at_once(net: &mut Net, lines: [(usize, &str); 2]) {
    let ends = lines.map(|(node, _)| net.connect(node, Role::Admin));
    for (end, (_, line)) in ends.into_iter().zip(lines) {
        let text = format!("VERSION\tdirector-doveadm\t1\t0\n{line}\n");
        net.handle(end.0, Event::Received { connection: end.1, bytes: text.as_bytes() });
    }
    net.run();
}

/// What the nodes say of a backend: weight, tag, up or down.
fn assert_all_say(net: &mut Net, count: usize, ip: &str, expected: &str, what: &str) {
    for node in 1..=count {
        net.wait_synced(node);
        let hosts = net.admin(node, "HOST-LIST\n");
        let line = hosts.lines().find(|line| line.starts_with(&format!("{ip}\t"))).unwrap_or_default();
        let cells: Vec<&str> = line.split('\t').collect();
        let said = if line.is_empty() { String::new() } else { [cells[1], cells[3], cells[4]].join(" ") };
        assert_eq!(said, expected, "{what}: node {node}");
    }
}

#[test]
fn two_tags_at_once_end_as_the_lower_one() {
    for count in 2..=6 {
        for (one, other) in [(1, 2), (2, 1), (1, count), (count, 2)].into_iter().filter(|(one, other)| one != other) {
            for (tags, winner) in [(["@blue", ""], ""), (["@green", "@blue"], "blue"), (["@blue", "@blues"], "blue")] {
                let mut net = Net::synced(count);
                let lines = tags.map(|tag| format!("HOST-SET\t127.0.2.9{tag}\t50"));
                at_once(&mut net, [(one, &lines[0]), (other, &lines[1])]);
                let what = format!("{count} {one} {other} {tags:?}");
                assert_all_say(&mut net, count, "127.0.2.9", &format!("50 {winner} U"), &what);
            }
        }
    }
}

/// Two directors were alone, and one was changed meanwhile. Each tells the other in the handshake of its own link, and
/// in a ring with a member below 1.6 no SYNC tells whether they differ.
#[test]
fn two_halves_do_not_swap_their_backends_when_they_meet() {
    for ring_minor in [5, MINOR] {
        for (changed, other) in [(1, 2), (2, 1)] {
            let mut net = ring(2, &[2], ring_minor);
            net.cut(1, 2);
            (1..=2).for_each(|node| _ = net.wait_synced(node));
            assert_eq!(net.admin(changed, "HOST-UPDATE\t127.0.2.4\t50\n"), "OK\n");
            assert_eq!(net.admin(other, "HOST-UPDATE\t127.0.2.5\t70\n"), "OK\n");
            net.cut.clear();
            net.pass(secs(60));
            let what = format!("1.{ring_minor}, changed on {changed}");
            assert_all_say(&mut net, 2, "127.0.2.4", "50  U", &what);
            assert_all_say(&mut net, 2, "127.0.2.5", "70  U", &what);
        }
    }
}

/// Found by the simulator (seed 172657218186722): in a ring with a member below 1.6, which hides who has which backends, some
/// heard of a change first and some of the removal, and so some had the backend for good and some had not.
#[test]
fn a_change_and_a_removal_of_a_backend_at_once_end_the_same_everywhere() {
    for count in 2..=6 {
        for older in [&[][..], &[2], &[count], &[1, 2]] {
            for (changed, removed) in [(1, 2), (2, 1), (1, count), (count, 2), (2, count)] {
                if changed == removed {
                    continue;
                }
                for change in ["HOST-UPDATE\t127.0.2.4\t7", "HOST-SET\t127.0.2.4\t7"] {
                    let mut net = ring(count, older, 5);
                    net.lines.clear();
                    at_once(&mut net, [(changed, change), (removed, "HOST-REMOVE\t127.0.2.4")]);
                    let lines = net.lines.iter().filter(|line| line.contains(" HOST\t")).count();
                    assert!(lines <= 20 * count * count, "no storm: {lines}");
                    net.pass(secs(60));
                    let hosts: Vec<String> = (1..=count)
                        .map(|node| {
                            net.wait_synced(node);
                            net.admin(node, "HOST-LIST\n").replace("\tD\t", "\tU\t")
                        })
                        .collect();
                    let what = format!("{change} on {changed} of {count}, removed on {removed}, older: {older:?}");
                    assert!(hosts.iter().all(|other| *other == hosts[0]), "{what}: {hosts:#?}");
                }
            }
        }
    }
}

/// A backend that is removed and added again, as fast as an operator can: the ring has it, once.
#[test]
fn a_backend_that_is_removed_may_be_added_again_at_once_anywhere() {
    for older in [&[][..], &[3]] {
        for other in 1..=4 {
            let mut net = ring(4, older, 5);
            assert_eq!(net.admin(1, "HOST-REMOVE\t127.0.2.4\n"), "OK\n");
            assert_eq!(net.admin(other, "HOST-SET\t127.0.2.4\t7\n"), "OK\n");
            assert_eq!(net.admin(1, "HOST-REMOVE\t127.0.2.5\n"), "OK\n");
            net.pass(secs(30));
            assert_all_say(&mut net, 4, "127.0.2.4", "7  U", &format!("added on {other}, older: {older:?}"));
            assert_all_say(&mut net, 4, "127.0.2.5", "", &format!("removed after {other}, older: {older:?}"));
        }
    }
}

/// Found by the simulator: two members start at once beside each other, so neither takes over what the other has; the one tells its
/// own backends to a ring that does not want them, and no SYNC says that it still has them.
#[test]
fn a_member_that_joins_with_backends_of_its_own_ends_with_the_rings_also_where_the_hosts_hash_is_hidden() {
    for older in [&[][..], &[2], &[3], &[1], &[2, 3]] {
        let mut net = ring(4, older, 5);
        assert_eq!(net.admin(1, "HOST-UPDATE\t127.0.2.4\t7\n"), "OK\n");
        net.kill(2);
        net.kill(3);
        net.wait_synced(1);
        // So that who is in the ring comes to 2 first.
        net.cut(1, 3);
        for node in [3, 2] {
            let mut configuration = configuration(node, 4);
            if older.contains(&node) {
                configuration.tuning.ring_minor = 5;
            }
            if node == 3 {
                configuration.hosts[4].ip = "127.0.2.9".parse().unwrap();
            }
            net.start_node(node, configuration);
        }
        net.run();
        net.pass(secs(60));
        let hosts: Vec<String> = (1..=4).map(|node| net.admin(node, "HOST-LIST\n")).collect();
        assert!(hosts.iter().all(|other| *other == hosts[0]), "older: {older:?}: {hosts:#?}");
        assert!(hosts[0].contains("127.0.2.4\t7\t"), "older: {older:?}: {hosts:#?}");
    }
}

/// A member that has a backend which no other has hears it from the hosts-hash of the others' SYNC. If that does not
/// come that far, its own SYNC, which the others do not pass on, must tell it.
#[test]
fn a_backend_that_one_has_alone_is_told_to_a_ring_that_hides_the_hosts_hash() {
    for older in [&[][..], &[2], &[4], &[2, 4], &[2, 3, 4]] {
        let mut net = ring(5, older, 5);
        let director = net.nodes.get_mut(&5).unwrap();
        let four = director.hosts.find("127.0.2.4".parse().unwrap()).unwrap();
        let host = crate::hosts::Host { ip: "127.0.2.9".parse().unwrap(), ..director.hosts.get(four).unwrap().clone() };
        director.hosts.add(host).unwrap();
        // It does not know that it is the only one.
        net.break_links(4, 5);
        net.pass(secs(60));
        assert_all_say(&mut net, 5, "127.0.2.9", "100  U", &format!("older: {older:?}"));
    }
}

/// Numbers are remembered by the highest: what is not sent on everywhere is overtaken by what comes after it, and dropped as seen
/// where it comes another way. So a change goes on also from where it is no news, and to whoever has told of it in a handshake.
#[test]
fn a_change_of_a_backend_goes_everywhere_before_what_comes_after_it() {
    let mut net = Net::synced(3);
    let link = net.nodes[&1].ring.right.unwrap();
    net.lines.clear();
    let known = "HOST\t127.0.1.2\t9090\t900\t127.0.2.1\t100\t\tU0\t\n";
    let kick = "USER-KICK\t127.0.1.2\t9090\t901\tjane\n";
    net.handle(1, Event::Received { connection: link, bytes: format!("{known}{kick}").as_bytes() });
    net.run();
    let place = |net: &Net, what: &str| net.lines.iter().position(|line| line == what.trim_end_matches('\n'));
    let [first, second] = [known, kick].map(|line| place(&net, &format!("1>3 {line}")));
    assert!(first.is_some() && first < second, "{:#?}", net.lines);
    assert_eq!(net.lines.iter().filter(|line| line.contains(" HOST\t")).count(), 2, "once: {:#?}", net.lines);

    let mut net = Net::start(0);
    net.start_node(1, configuration(1, 2));
    net.run();
    net.pass(secs(25));
    let end = net.connect_from(1, Role::Ring, Some(address(2)));
    let stamp = net.now.unix_secs;
    let handshake = "HOST-HAND-START\t1\nHOST\t127.0.2.9\t100\t\tU0\t\nHOST-HAND-END\t1\n";
    net.say(end, &format!("VERSION\tdirector\t1\t10\nME\t127.0.1.2\t9090\t{stamp}\n{handshake}"));
    let heard = net.hear(end);
    let told =
        heard.lines().filter(|line| line.starts_with("HOST\t127.0.1.1\t9090\t") && line.contains("\t127.0.2.9\t"));
    assert_eq!(told.count(), 1, "{heard}");
}
