//! Rings with members of older minor versions.

use std::time::Duration;

use super::secs;
use crate::testing::{Net, configuration};
use crate::wire::ring::{MINOR, minor};

/// Directors 1 to 3, of which the second speaks that minor version only.
fn net_with_an_older_member(ring_minor: u32) -> Net {
    let mut net = Net::start(0);
    for node in 1..=3 {
        let mut configuration = configuration(node, 3);
        if node == 2 {
            configuration.tuning.ring_minor = ring_minor;
        }
        net.start_node(node, configuration);
    }
    net.run();
    net.pass(secs(25));
    (1..=3).for_each(|node| net.assert_synced(node));
    net
}

#[test]
fn an_older_member_hears_and_says_only_what_its_version_knows() {
    for ring_minor in 5..MINOR {
        let mut net = net_with_an_older_member(ring_minor);
        net.ipc_answer = Some(b"+1\n");
        assert!(net.lines.iter().any(|line| *line == format!("2>3 VERSION\tdirector\t1\t{ring_minor}")));
        net.lookup(1, "jane");
        for command in
            ["HOST-SET\t127.0.2.5\t50", "HOST-DOWN\t127.0.2.5", "USER-KICK-ALT\tf\tv", "USER-MOVE\tjane\t127.0.2.4"]
        {
            net.admin(1, &format!("{command}\n"));
            net.pass(secs(5));
        }
        assert_eq!(net.lookup(2, "jane"), "127.0.2.4");
        let near_the_old = |line: &&String| ["1>2 ", "2>1 ", "3>2 ", "2>3 "].iter().any(|hop| line.starts_with(hop));
        for line in net.lines.iter().filter(near_the_old).map(|line| &line[4..]) {
            let words: Vec<&str> = line.split('\t').collect();
            let later = match words[0] {
                "QUIT" => true,
                "U" => ring_minor < minor::USER_TIMESTAMP,
                "USER-KICK-ALT" => ring_minor < minor::USER_KICK_ALT,
                "USER-KILLED" => words.len() > 2 && ring_minor < minor::KILL_NAMES,
                "SYNC" => words.len() > 4 && ring_minor < minor::UPDOWN,
                "HOST" => {
                    ring_minor < minor::UPDOWN
                        && words.iter().any(|word| word.starts_with('U') || word.starts_with('D'))
                }
                _ => false,
            };
            assert!(!later, "1.{ring_minor}: {line}");
        }
        let hosts = |net: &mut Net, node| net.admin(node, "HOST-LIST\n").contains("127.0.2.5\t50\t0\t\tD");
        assert!(hosts(&mut net, 1), "1.{ring_minor}");
        assert_eq!(hosts(&mut net, 2), ring_minor >= minor::UPDOWN, "1.{ring_minor}");
    }
}

#[test]
fn a_member_too_old_for_tags_is_refused_while_there_are_some() {
    let mut net = net_with_an_older_member(minor::TAGS - 1);
    net.admin(1, "HOST-SET\t127.0.2.9@blue\t100\n");
    assert!(!net.admin(1, "HOST-LIST\n").contains("blue"));
    net.kill(2);
    net.pass(secs(60));
    net.admin(1, "HOST-SET\t127.0.2.9@blue\t100\n");
    assert!(net.admin(3, "HOST-LIST\n").contains("blue"));
}

/// A backend without vhosts is a backend like others: a member that knows no tags would have another one, and the ring
/// would never be in one state, in which alone the backend could be removed.
#[test]
fn a_backend_with_a_tag_keeps_a_member_too_old_for_tags_out_though_it_has_no_vhosts() {
    let mut net = net_of_five_without_tags_in_the_third();
    net.kill(3);
    net.pass(secs(60));
    for _ in 0..2 {
        net.admin(1, "HOST-SET\t127.0.2.9@blue\t0\n");
    }
    assert!(net.admin(4, "HOST-LIST\n").contains("127.0.2.9\t0\t0\tblue\t"));
    let mut configuration = configuration(3, 5);
    configuration.tuning.ring_minor = minor::TAGS - 1;
    net.start_node(3, configuration);
    net.pass(secs(60));
    for node in [1, 2, 4, 5] {
        net.assert_synced(node);
        assert!(!net.peers_of(node).contains(&3), "node {node}");
    }
    assert_eq!(net.admin(1, "HOST-REMOVE\t127.0.2.9\n"), "OK\n");
    net.pass(secs(120));
    (1..=5).for_each(|node| net.assert_synced(node));
}

/// Its SYNC has no time, so of those with one number it sends on a few only; and they may all have been lost behind it.
#[test]
fn a_member_before_version_1_6_sends_a_sync_on_although_it_has_sent_as_many_into_a_link_that_lost_them() {
    for sender in [1, 2] {
        let mut net = net_of_five(|node| if node == 3 { minor::UPDOWN - 1 } else { MINOR });
        // All that 4 says to 5 is lost, whatever the two try.
        net.lose_output(4, 5);
        net.admin(sender, "HOST-SET\t127.0.2.9\t50\n");
        for _ in 0..900 {
            net.pass(Duration::from_millis(100));
            net.lose_output(4, 5);
        }
        net.break_links(4, 5);
        net.pass(secs(100));
        (1..=5).for_each(|node| net.assert_synced(node));
    }
}

/// A ring of five, the third of which knows no tags.
fn net_of_five_without_tags_in_the_third() -> Net {
    net_of_five(|node| if node == 3 { minor::TAGS - 1 } else { MINOR })
}

/// A ring of five, that speak these minor versions.
fn net_of_five(ring_minor: impl Fn(usize) -> u32) -> Net {
    let mut net = Net::start(0);
    for node in 1..=5 {
        let mut configuration = configuration(node, 5);
        configuration.tuning.ring_minor = ring_minor(node);
        net.start_node(node, configuration);
    }
    net.run();
    net.pass(secs(25));
    (1..=5).for_each(|node| net.assert_synced(node));
    net
}

/// Those who have the backend with a tag, of so many.
fn who_has_blue(net: &mut Net) -> Vec<usize> {
    let nodes: Vec<usize> = net.nodes.keys().copied().collect();
    nodes.into_iter().filter(|&node| net.admin(node, "HOST-LIST\n").contains("127.0.2.9\t100\t0\tblue\t")).collect()
}

/// Only its neighbours notice at once that it has gone; the others were synced with it last.
#[test]
fn a_backend_with_a_tag_comes_to_all_when_the_member_that_knows_none_has_gone() {
    for asked in [1, 2, 4, 5] {
        let mut net = net_of_five_without_tags_in_the_third();
        net.kill(3);
        net.pass(secs(60));
        let mut answer = String::new();
        for _ in 0..2 {
            if answer != "OK\n" {
                answer = net.admin(asked, "HOST-SET\t127.0.2.9@blue\t100\n");
            }
        }
        assert_eq!(answer, "OK\n", "asked {asked}");
        net.pass(secs(30));
        assert_eq!(who_has_blue(&mut net), [1, 2, 4, 5], "asked {asked}");
        for node in [1, 2, 4, 5] {
            net.assert_synced(node);
        }
    }
}

/// One half gets a backend with a tag, the other has the member that knows none. When they meet, the rest is one ring with
/// that backend; it comes back when the backend is gone, and has never heard of it.
#[test]
fn a_member_too_old_for_tags_is_left_out_by_those_who_hear_of_one() {
    for half in [&[1, 5][..], &[4, 5], &[1, 2], &[5], &[1, 4, 5]] {
        let mut net = net_of_five_without_tags_in_the_third();
        for &one in half {
            for other in (1..=5).filter(|other| !half.contains(other)) {
                net.cut(one, other);
            }
        }
        (1..=5).for_each(|node| _ = net.wait_synced(node));
        // The first time it may learn only that the other half has gone.
        for _ in 0..2 {
            net.admin(half[0], "HOST-SET\t127.0.2.9@blue\t100\n");
        }
        assert_eq!(who_has_blue(&mut net), half);
        net.cut.clear();
        net.pass(secs(120));
        assert_eq!(who_has_blue(&mut net), [1, 2, 4, 5], "{half:?}");
        for node in [1, 2, 4, 5] {
            net.assert_synced(node);
            assert!(!net.peers_of(node).contains(&3), "{half:?}: node {node}");
        }
        assert!(!net.admin(3, "HOST-LIST\n").contains("127.0.2.9"), "{half:?}");
        assert_eq!(net.admin(1, "HOST-REMOVE\t127.0.2.9\n"), "OK\n", "{half:?}");
        net.pass(secs(120));
        for node in 1..=5 {
            net.assert_synced(node);
            assert!(!net.admin(node, "HOST-LIST\n").contains("127.0.2.9"), "{half:?}: node {node}");
        }
        assert_eq!(net.peers_of(3).into_iter().collect::<Vec<_>>(), [2, 4], "{half:?}");
    }
}
