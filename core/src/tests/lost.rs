//! Moves while links break: what was on its way is lost, and the move has to end all the same, soon and not too early
//! (scenarios, 41).

use super::*;
use crate::users::Generation;
use crate::wire::ring::{KillToken, Origin};

/// A ring in which jane has a session on 127.0.2.1, and node 1 moves her to 127.0.2.4; the outputs named, each as (of,
/// to), are lost from the moment before until the links between those two break.
fn moving(count: usize, answer: &'static [u8], losing: &[(usize, usize)]) -> Net {
    let mut net = Net::synced(count);
    net.ipc_answer = Some(answer);
    net.lookup(1, "jane");
    net.pass(secs(10));
    for &(of, to) in losing {
        net.lose_output(of, to);
    }
    net.lines.clear();
    let end = net.connect(1, Role::Admin);
    net.say(end, "VERSION\tdirector-doveadm\t1\t0\nUSER-MOVE\tjane\t127.0.2.4\n");
    for &(of, to) in losing {
        net.break_links(of, to);
    }
    net
}

/// Nobody gets in at the new backend now.
fn assert_waits(net: &mut Net, nodes: impl IntoIterator<Item = usize>) {
    for node in nodes {
        assert_ne!(net.lookup(node, "jane"), "127.0.2.4", "node {node} lets jane in too early");
    }
}

/// In so many seconds from now everybody lets jane in at her new backend.
fn assert_moved_within(net: &mut Net, nodes: impl IntoIterator<Item = usize>, within_secs: u64) {
    net.pass(secs(within_secs));
    for node in nodes {
        assert_eq!(net.lookup(node, "jane"), "127.0.2.4", "node {node}");
    }
}

#[test]
fn a_lost_user_killed_is_sent_again_when_the_ring_is_back() {
    for count in 2..=5 {
        for from in 1..=count {
            let to = from % count + 1;
            let mut net = moving(count, b"+1\n", &[(from, to)]);
            assert_waits(&mut net, 1..=count);
            // A second until the link is tried again, and the kick delay.
            assert_moved_within(&mut net, 1..=count, 5);
        }
    }
}

#[test]
fn a_user_killed_that_is_sent_again_lets_nobody_in_before_the_slowest_kick_has_ended() {
    for slow in 1..=4 {
        for from in 1..=4 {
            let mut net = moving(4, b"", &[(from, from % 4 + 1)]);
            for node in (1..=4).filter(|&node| node != slow) {
                net.answer_ipc(node, b"+1\n");
            }
            for _ in 0..20 {
                net.pass(secs(1));
                assert_waits(&mut net, 1..=4);
            }
            net.answer_all_ipc(b"+1\n");
            net.pass(secs(1));
            net.answer_all_ipc(b"+0\n");
            assert_moved_within(&mut net, 1..=4, 5);
        }
    }
}

/// Who has not heard of the move hears of it when there is a link again, and ends his sessions first.
#[test]
fn a_lost_user_move_is_made_up_for() {
    for lost in 2..=4 {
        let neighbours = [lost - 1, lost % 4 + 1];
        // No kick ends there until we say so.
        let mut net = moving(4, b"", &[(neighbours[0], lost), (neighbours[1], lost)]);
        for node in (1..=4).filter(|&node| node != lost) {
            net.answer_ipc(node, b"+1\n");
        }
        net.pass(secs(6));
        assert_waits(&mut net, 1..=4);
        net.answer_all_ipc(b"+1\n");
        assert_moved_within(&mut net, 1..=4, 5);
    }
}

#[test]
fn a_lost_user_killed_everywhere_leaves_nobody_behind() {
    for lost in 2..=4 {
        // Node 1 hears last of all that node 1's own sessions are gone: so all others wait for everyone by then.
        let mut net = moving(4, b"", &[]);
        for node in 2..=4 {
            net.answer_ipc(node, b"+1\n");
        }
        let links = [lost - 1, lost % 4 + 1];
        let token = if lost == 2 { vec![links[1]] } else { links.to_vec() };
        // 2 gets USER-KILLED from 1 on the same link: there only the other way is lost.
        for neighbour in token {
            if neighbour % 4 + 1 != lost {
                net.lose_output(neighbour, lost);
            }
        }
        net.answer_ipc(1, b"+1\n");
        net.break_links(lost, lost % 4 + 1);
        net.break_links(lost - 1, lost);
        net.answer_all_ipc(b"+0\n");
        net.pass(secs(8));
        net.answer_all_ipc(b"+0\n");
        assert_moved_within(&mut net, 1..=4, 5);
    }
}

/// Who has missed the end of a move asks again, and may be slow about it: nobody who has heard of the end begins the move
/// anew, which would keep the user out, and hold him on a backend that the ring may have changed by then.
#[test]
fn a_late_user_killed_begins_no_move_that_has_ended() {
    for starter in [3, 9] {
        let mut net = moving(3, b"+1\n", &[]);
        assert_moved_within(&mut net, 1..=3, 5);
        let said = net.lines.iter().find_map(|line| line.strip_prefix("1>2 USER-MOVE\t")).expect("it has moved her");
        let seq = said.split('\t').nth(2).and_then(|seq| seq.parse().ok()).expect("it has a number");
        net.lines.clear();
        // No kick ends from now on.
        net.ipc_answer = Some(b"");
        let token = KillToken {
            kicked: None,
            of_move: Origin { address: address(1), seq },
            host: "127.0.2.4".parse().unwrap(),
            generation: Generation::new(1),
            starter: Origin { address: address(starter), seq: 5000 },
        };
        for _ in 0..2 {
            let now = net.now;
            net.nodes.get_mut(&1).unwrap().kill_token_received(JANE, token, now);
            net.run();
        }
        for node in 1..=3 {
            assert_eq!(net.lookup(node, "jane"), "127.0.2.4", "node {node} has begun it anew");
        }
        let count = |what: &str| net.lines.iter().filter(|line| line.contains(what)).count();
        assert_eq!(count("1>2 USER-KILLED\t"), 1, "{starter}: {:#?}", net.lines);
        assert_eq!(count("USER-KILLED-EVERYWHERE\t") > 0, starter == 3, "it has been all round: {:#?}", net.lines);
    }
}

/// Two administrators at once, and everybody hears them in another order: all end on the same backend, whatever is lost.
#[test]
fn two_moves_at_once_end_on_the_lower_backend_before_anybody_is_let_in() {
    for (one, other) in [(1, 2), (2, 1), (1, 3), (4, 2), (3, 4)] {
        for slow in 0..=4 {
            let mut net = Net::synced(4);
            net.lookup(1, "jane");
            net.pass(secs(10));
            net.ipc_answer = Some(b"");
            let ends = [one, other].map(|node| net.connect(node, Role::Admin));
            for (end, ip) in ends.into_iter().zip(["127.0.2.5", "127.0.2.4"]) {
                let text = format!("VERSION\tdirector-doveadm\t1\t0\nUSER-MOVE\tjane\t{ip}\n");
                net.handle(end.0, Event::Received { connection: end.1, bytes: text.as_bytes() });
            }
            net.run();
            for node in (1..=4).filter(|&node| node != slow) {
                net.answer_ipc(node, b"+0\n");
            }
            for round in 0..8 {
                for node in 1..=4 {
                    let host = net.lookup(node, "jane");
                    assert!(
                        host.is_empty() || host == "127.0.2.4",
                        "{one} {other} {slow} {round}: node {node}: {host}"
                    );
                }
                net.answer_all_ipc(b"+0\n");
                net.pass(secs(1));
            }
            for node in 1..=4 {
                assert_eq!(net.lookup(node, "jane"), "127.0.2.4", "{one} {other} {slow}: node {node}");
            }
        }
    }
}

#[test]
fn a_move_whose_originator_has_died_is_ended_by_another() {
    for from in 1..=4 {
        let mut net = moving(4, b"+1\n", &[(from, from % 4 + 1)]);
        net.kill(1);
        for node in 2..=4 {
            net.wait_synced(node);
        }
        assert_moved_within(&mut net, 2..=4, 12);
        assert!(net.lines.iter().filter(|line| line.contains(" USER-KILLED\t")).count() < 100, "it does not circle");
    }
}

/// To be without a right for a moment is not to be alone.
#[test]
fn a_move_does_not_end_early_on_a_director_that_has_just_lost_its_right() {
    let mut net = moving(3, b"", &[]);
    net.cut(1, 2);
    net.cut(1, 3);
    net.answer_ipc(1, b"+1\n");
    net.pass(secs(5));
    assert_waits(&mut net, [1]);
    net.cut.clear();
    net.pass(secs(5));
    assert_waits(&mut net, 1..=3);
    for node in 2..=3 {
        net.answer_ipc(node, b"+1\n");
    }
    assert_moved_within(&mut net, 1..=3, 5);
}

/// Who stays alone ends the moves that he knows of.
#[test]
fn a_move_ends_on_a_director_that_is_alone_now() {
    let mut net = moving(3, b"+1\n", &[(1, 2)]);
    net.kill(2);
    net.kill(3);
    assert_moved_within(&mut net, [1], 24);
}

#[test]
fn a_member_that_joins_during_a_move_takes_part() {
    let mut net = moving(3, b"", &[]);
    net.kill(3);
    net.start_node(3, configuration(3, 3));
    net.run();
    net.pass(secs(3));
    net.answer_all_ipc(b"+1\n");
    net.pass(secs(1));
    net.answer_all_ipc(b"+0\n");
    net.pass(secs(8));
    net.answer_all_ipc(b"+0\n");
    assert_moved_within(&mut net, 1..=3, 5);
}

/// In a ring with a member of 1.9 nobody can tell one USER-KILLED from another: it is as in the original.
#[test]
fn a_mixed_ring_gives_up_after_30_seconds() {
    let mut net = Net::synced(3);
    net.ipc_answer = Some(b"+1\n");
    net.lookup(1, "jane");
    for director in net.nodes.values_mut() {
        director.ring.min_minor = 9;
    }
    net.lose_output(2, 3);
    start_move_to_four(&mut net);
    net.break_links(2, 3);
    for director in net.nodes.values_mut() {
        director.ring.min_minor = 9;
    }
    net.pass(secs(25));
    assert_waits(&mut net, 1..=3);
    assert_moved_within(&mut net, 1..=3, 6);
}

fn start_move_to_four(net: &mut Net) {
    let end = net.connect(1, Role::Admin);
    net.say(end, "VERSION\tdirector-doveadm\t1\t0\nUSER-MOVE\tjane\t127.0.2.4\n");
}

/// Whoever waits asks again, and what he says reaches the one who takes nothing all at once when that one goes on: one
/// USER-KILLED of a move does as much as many, whoever has sent it on its way.
#[test]
fn a_neighbour_that_takes_nothing_is_told_once_of_each_move() {
    for stuck in 1..=4 {
        let from = if stuck == 1 { 4 } else { stuck - 1 };
        let mut net = moving(4, b"+1\n", &[]);
        net.pass(secs(10));
        net.lose_output(from, stuck);
        let links: Vec<_> = net.stuck.iter().copied().collect();
        net.lines.clear();
        let end = net.connect(1, Role::Admin);
        net.say(end, "VERSION\tdirector-doveadm\t1\t0\nUSER-MOVE\tjane\t127.0.2.5\n");
        net.pass(secs(20));
        assert_ne!(net.lookup(1, "jane"), "127.0.2.5", "{stuck}: not everybody has said that her sessions are gone");
        net.stuck.clear();
        for (node, link) in links {
            net.pull_again(node, link);
        }
        net.run();
        net.pass(secs(5));
        for node in 1..=4 {
            assert_eq!(net.lookup(node, "jane"), "127.0.2.5", "{stuck}: node {node}");
        }
        let link = format!("{from}>{stuck} USER-KILLED\t");
        let told = net.lines.iter().filter(|line| line.starts_with(&link)).count();
        assert_eq!(told, 1, "{stuck}: {:#?}", net.lines);
        let ends = net.lines.iter().filter(|line| line.contains(" USER-KILLED-EVERYWHERE\t")).count();
        assert!(ends <= 8, "{stuck}: it has been said once that it is over: {:#?}", net.lines);
    }
}

/// Users of these nodes expire after so long.
fn expire_after(net: &mut Net, nodes: usize, expire_secs: u32) {
    for node in 1..=nodes {
        let mut changed = configuration(node, nodes);
        changed.tuning.user_expire_secs = expire_secs;
        net.handle(node, Event::Reload(Box::new(changed)));
    }
}

/// A user who moves is kept although his time has run out, and whoever hears of the move then takes part in it.
#[test]
fn a_member_that_joins_during_a_move_longer_than_users_are_kept_takes_part() {
    let mut net = moving(3, b"", &[]);
    expire_after(&mut net, 3, 20);
    net.kill(3);
    net.pass(secs(22));
    let mut fresh = configuration(3, 3);
    fresh.tuning.user_expire_secs = 20;
    net.start_node(3, fresh);
    net.run();
    net.wait_synced(3);
    assert_eq!(net.lookup(3, "jane"), "", "she is let in during her move");
    net.answer_all_ipc(b"+1\n");
    net.pass(secs(1));
    net.answer_all_ipc(b"+0\n");
    net.pass(secs(5));
    for node in 1..=3 {
        assert_eq!(
            net.lookup(node, "jane"),
            "127.0.2.1",
            "node {node}: her time was over long ago, so the hash decides"
        );
    }
}

/// A move that takes longer than users are kept may end on one director before the others, and she is somewhere else then: they know
/// that when it ends for them.
#[test]
fn what_others_say_of_a_user_who_expires_during_his_move_counts_when_it_ends() {
    let mut net = moving(3, b"", &[]);
    expire_after(&mut net, 3, 20);
    net.pass(secs(25));
    let line = format!("USER\t{JANE}\t127.0.2.3\t{}\n", net.now.unix_secs);
    let link = net.nodes[&3].ring.left.unwrap();
    net.handle(3, Event::Received { connection: link, bytes: line.as_bytes() });
    net.run();
    assert!(net.admin(3, &format!("USER-LOOKUP\t{JANE}\n")).starts_with("127.0.2.4\t"), "the move stands");
    net.pass(secs(6));
    assert_eq!(net.lookup(3, "jane"), "127.0.2.3");
    assert_eq!(net.lookup(1, "jane"), "127.0.2.3");
}

/// Found by the simulator (seed 470 of 30 minutes): a director begins a move anew that all others have given up, and tells them so. They
/// do not begin it as well: those who do not know the user any more take what it says, and those who have put him elsewhere since keep him there.
#[test]
fn a_move_that_has_ended_is_not_begun_anew_because_another_tells_of_it() {
    for placed_since in [false, true] {
        let mut net = moving(3, b"+1\n", &[]);
        expire_after(&mut net, 3, 20);
        assert_moved_within(&mut net, 1..=3, 5);
        let said = net.lines.iter().find_map(|line| line.strip_prefix("1>2 USER-MOVE\t")).expect("it has moved her");
        let seq = said.split('\t').nth(2).expect("it has a number").to_owned();
        net.pass(secs(26));
        // No kick ends from now on.
        net.ipc_answer = Some(b"");
        if placed_since {
            assert_eq!(net.lookup(3, "jane"), "127.0.2.1");
        }
        net.lines.clear();
        let line = format!("USER\t{JANE}\t127.0.2.4\t{}\t1\t127.0.1.1\t9090\t{seq}\n", net.now.unix_secs);
        let link = net.nodes[&3].ring.left.unwrap();
        net.handle(3, Event::Received { connection: link, bytes: line.as_bytes() });
        net.run();
        let backend = if placed_since { "127.0.2.1" } else { "127.0.2.4" };
        assert_eq!(net.lookup(3, "jane"), backend);
        let answer = format!("3>2 USER\t{JANE}\t127.0.2.1\t{}\t2", net.now.unix_secs);
        assert_eq!(net.lines.contains(&answer), placed_since, "it says that its own is later: {:#?}", net.lines);
    }
}
