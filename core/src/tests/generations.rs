//! Moves of which some have not heard: what stands is the later one, wherever directors meet, and nobody is let in there
//! before his old sessions are gone (ring protocol, "Version 1.10").

use super::*;

const FIRST: &str = "127.0.2.1";
const LOWER: &str = "127.0.2.4";
const HIGHER: &str = "127.0.2.5";

/// A ring of four in which jane, who was on `from`, is moved to `to` while 4 is out of it; the kicks of the others have
/// ended, or have not. 4 has heard nothing, and is back.
fn moved_without_four(from: &str, to: &str, ended: bool) -> Net {
    let mut net = Net::synced(4);
    net.ipc_answer = Some(b"+1\n");
    assert_eq!(net.lookup(1, "jane"), FIRST);
    if from != FIRST {
        assert_eq!(net.admin(1, &format!("USER-MOVE\tjane\t{from}\n")), "OK\n");
        net.pass(secs(3));
    }
    for node in 1..=3 {
        net.cut(4, node);
    }
    for node in 1..=4 {
        net.wait_synced(node);
    }
    net.ipc_answer = Some(b"");
    assert_eq!(net.admin(1, &format!("USER-MOVE\tjane\t{to}\n")), "OK\n");
    if ended {
        net.answer_all_ipc(b"+1\n");
        net.pass(secs(3));
        for node in 1..=3 {
            assert_eq!(net.lookup(node, "jane"), to);
        }
    }
    assert_eq!(net.lookup(4, "jane"), from, "it has heard of nothing");
    net.lines.clear();
    net.cut.clear();
    let is_back = |net: &Net| {
        let ring = &net.nodes[&4].ring;
        ring.left.is_some() && ring.right.is_some() && net.nodes.values().all(|director| director.ring.synced)
    };
    for _ in 0..100 {
        if is_back(&net) {
            break;
        }
        net.pass(Duration::from_millis(100));
    }
    assert!(is_back(&net));
    net
}

fn assert_all(net: &mut Net, host: &str) {
    for node in 1..=4 {
        assert_eq!(net.lookup(node, "jane"), host, "node {node}");
    }
}

#[test]
fn who_was_elsewhere_during_a_move_does_not_undo_it_and_ends_his_sessions_first() {
    for (from, to) in [(FIRST, LOWER), (FIRST, HIGHER), (HIGHER, LOWER), (LOWER, FIRST)] {
        let mut net = moved_without_four(from, to, true);
        assert_eq!(net.lookup(4, "jane"), "", "{from} {to}: no kick has ended there");
        assert!(!net.lines.iter().any(|line| line.contains("USER-KICK-HASH")), "it is no conflict: {:#?}", net.lines);
        net.answer_all_ipc(b"+1\n");
        net.pass(secs(3));
        assert_all(&mut net, to);
    }
}

#[test]
fn who_comes_back_during_a_move_takes_part_in_it_whatever_he_says_of_the_user() {
    for (from, to) in [(FIRST, LOWER), (HIGHER, LOWER), (LOWER, FIRST)] {
        let mut net = moved_without_four(from, to, false);
        for node in 1..=3 {
            net.answer_ipc(node, b"+1\n");
        }
        net.pass(secs(5));
        for node in 1..=4 {
            assert_eq!(net.lookup(node, "jane"), "", "{from} {to}: node {node} does not wait for the kick beside 4");
        }
        net.answer_all_ipc(b"+1\n");
        net.pass(secs(8));
        net.answer_all_ipc(b"+1\n");
        net.pass(secs(3));
        assert_all(&mut net, to);
    }
}

/// A line from the left of a node.
fn from_left(net: &mut Net, node: usize, line: &str) {
    let link = net.nodes[&node].ring.left.unwrap();
    net.handle(node, Event::Received { connection: link, bytes: line.as_bytes() });
    net.run();
}

/// Others may have let her in between: where the delay of the first is running still, the second has a kick of its own.
#[test]
fn a_second_move_has_its_own_kick_and_its_own_time() {
    for ended in [false, true] {
        let mut net = Net::synced(3);
        net.ipc_answer = Some(if ended { b"+1\n" } else { b"" });
        net.lookup(1, "jane");
        net.pass(secs(10));
        assert_eq!(net.admin(1, &format!("USER-MOVE\tjane\t{LOWER}\n")), "OK\n");
        net.pass(if ended { secs(1) } else { secs(25) });
        net.ipc_answer = Some(b"");
        from_left(&mut net, 1, &format!("USER-MOVE\t127.0.1.9\t9090\t77\t{JANE}\t{HIGHER}\t2\n"));
        for _ in 0..3 {
            net.pass(secs(5));
            for node in 1..=3 {
                assert_eq!(net.lookup(node, "jane"), "", "ended {ended}: no kick of the second has ended on {node}");
            }
        }
        net.answer_all_ipc(b"+1\n");
        // Nobody's move it is: somebody has to notice that.
        net.pass(secs(10));
        for node in 1..=3 {
            assert_eq!(net.lookup(node, "jane"), HIGHER);
        }
    }
}

/// Whose director has lost its knowledge of the user is obeyed all the same.
#[test]
fn a_move_by_who_knows_less_is_done() {
    let mut net = Net::synced(3);
    net.ipc_answer = Some(b"+0\n");
    net.lookup(1, "jane");
    for host in [LOWER, HIGHER, LOWER] {
        net.pass(secs(10));
        assert_eq!(net.admin(2, &format!("USER-MOVE\tjane\t{host}\n")), "OK\n");
    }
    net.pass(secs(10));
    from_left(&mut net, 1, &format!("USER-MOVE\t127.0.1.9\t9090\t77\t{JANE}\t{HIGHER}\t1\n"));
    net.pass(secs(10));
    for node in 1..=3 {
        assert_eq!(net.lookup(node, "jane"), HIGHER);
    }
}

/// In a ring with a member that can't be told of generations, all decide without.
#[test]
fn beside_an_older_member_generations_are_not_believed_and_who_contradicts_is_answered_at_the_end() {
    let mut net = Net::start(0);
    for node in 1..=3 {
        let mut configuration = configuration(node, 3);
        if node == 2 {
            configuration.tuning.ring_minor = 9;
        }
        net.start_node(node, configuration);
    }
    net.run();
    net.pass(secs(25));
    net.ipc_answer = Some(b"");
    net.lookup(1, "jane");
    net.lines.clear();
    assert_eq!(net.admin(1, &format!("USER-MOVE\tjane\t{LOWER}\n")), "OK\n");
    let said = |net: &Net, line: &str| net.lines.iter().any(|said| said == line);
    assert!(said(&net, &format!("1>3 USER-MOVE\t127.0.1.1\t9090\t1\t{JANE}\t{LOWER}\t-")), "{:#?}", net.lines);
    assert!(said(&net, &format!("1>2 USER-MOVE\t127.0.1.1\t9090\t1\t{JANE}\t{LOWER}")), "{:#?}", net.lines);
    net.pass(secs(1));
    net.lines.clear();
    let secs_now = net.now.unix_secs;
    from_left(&mut net, 1, &format!("USER\t{JANE}\t{FIRST}\t{secs_now}\t31\n"));
    assert!(!net.lines.iter().any(|line| line.contains("USER\t")), "{:#?}", net.lines);
    net.answer_all_ipc(b"+1\n");
    net.pass(secs(4));
    let answer = format!("1>3 USER\t{JANE}\t{LOWER}\t");
    assert!(net.lines.iter().any(|line| line.starts_with(&answer) && line.ends_with("\t-")), "{:#?}", net.lines);
    for node in 1..=3 {
        assert_eq!(net.lookup(node, "jane"), LOWER);
    }
}

/// Whose SYNC came round before an older member was there believes in generations, and others do not: they would never agree.
#[test]
fn who_hears_a_decision_without_generations_decides_without_them() {
    for (host, winner) in [(FIRST, FIRST), (HIGHER, LOWER)] {
        let mut net = Net::synced(3);
        net.ipc_answer = Some(b"+0\n");
        net.lookup(1, "jane");
        net.pass(secs(10));
        assert_eq!(net.admin(1, &format!("USER-MOVE\tjane\t{LOWER}\n")), "OK\n");
        net.pass(secs(5));
        net.lines.clear();
        let secs_now = net.now.unix_secs;
        from_left(&mut net, 1, &format!("USER\t{JANE}\t{host}\t{secs_now}\t-\n"));
        assert!(net.lines.len() < 40, "{:#?}", net.lines);
        for node in 1..=3 {
            assert_eq!(net.lookup(node, "jane"), winner, "{host}: node {node}");
            net.wait_synced(node);
        }
        // All are of one kind after all: they believe in them again.
        net.pass(secs(10));
        net.lines.clear();
        assert_eq!(net.admin(1, &format!("USER-MOVE\tjane\t{HIGHER}\n")), "OK\n");
        net.pass(secs(5));
        assert!(net.lines.iter().any(|line| line.starts_with("1>2 USER-MOVE") && !line.ends_with("\t-")));
        for node in 1..=3 {
            assert_eq!(net.lookup(node, "jane"), HIGHER);
        }
    }
}

/// What goes on because a backend is gone is told after that: who hears it before takes it for a contradiction, and forgets
/// it with the backend.
#[test]
fn a_backend_is_gone_for_all_before_its_users_are_told_of_elsewhere() {
    for command in ["HOST-REMOVE", "HOST-FLUSH"] {
        let mut net = Net::synced(3);
        net.ipc_answer = Some(b"");
        net.lookup(1, "jane");
        assert_eq!(net.admin(1, &format!("USER-MOVE\tjane\t{LOWER}\n")), "OK\n");
        let waiting = [1, 2].map(|node| net.authreply(node));
        for end in waiting {
            net.say(end, "OK\t1\tuser=jane\tproxy\n");
            assert_eq!(net.hear(end), "");
        }
        net.lines.clear();
        net.admin(1, &format!("{command}\t{LOWER}\n"));
        let first =
            |from: &str, line: &str| net.lines.iter().position(|said| said.starts_with(&format!("{from} {line}\t")));
        for hop in ["1>2", "1>3", "2>3"] {
            let (gone, told) = (first(hop, command), first(hop, "USER"));
            assert!(gone.is_some() && (told.is_none() || gone < told), "{hop}: {:#?}", net.lines);
        }
        for end in waiting {
            assert!(net.hear(end).ends_with(&format!("\thost={FIRST}\n")));
        }
        for node in 1..=3 {
            let known = net.admin(node, &format!("USER-LOOKUP\t{JANE}\n"));
            assert!(known.starts_with(FIRST), "{command}, node {node}: {known}");
        }
    }
}
