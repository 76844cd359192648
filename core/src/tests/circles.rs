//! Lines that must not go round the ring for ever.

use std::collections::BTreeMap;

use super::secs;
use crate::contract::{Action, ConnectionId, Event, Role, Target};
use crate::director::Director;
use crate::testing::{Net, address, configuration};
use crate::time::{Instant, Now};

const NOW: Now = Now { instant: Instant::from_micros(1), unix_secs: 1_700_000_000 };

/// Does what a director wants. Connections to directors are made if `reach` says so; returns what was said on each.
fn serve(director: &mut Director, reach: &[usize]) -> Vec<(ConnectionId, String)> {
    let mut said = Vec::new();
    while let Some(action) = director.poll_action() {
        match action {
            Action::Connect { connection, target: Target::Ring { to, .. } }
                if reach.iter().any(|&node| address(node) == to) =>
            {
                director.handle(Event::Connected { connection }, NOW);
            }
            Action::Connect { connection, .. } => {
                director.handle(Event::ConnectFailed { connection, error: "Connection refused" }, NOW);
            }
            Action::Write { connection } => loop {
                let bytes = director.poll_output(connection, NOW).to_vec();
                if bytes.is_empty() {
                    break;
                }
                said.push((connection, String::from_utf8(bytes.clone()).unwrap()));
                director.handle(Event::Written { connection, bytes: bytes.len() }, NOW);
            },
            _ => {}
        }
    }
    said
}

/// Director 3 of six, which reaches no other than that one, and has its answer but not the end of its handshake; and whose left is 2,
/// which has no backends and says whether those are a ring's (1) or its own (0). Its left and its right.
fn between_two_and(reached: usize, handshaked: u8) -> (Director, ConnectionId, ConnectionId) {
    let mut director = Director::new(configuration(3, 6), 1, NOW);
    let said = serve(&mut director, &[reached]);
    let [(right, _), ..] = said[..] else { panic!("nobody was connected to") };
    let left = director.accept(Role::Ring, Some(address(2)), NOW);
    let hello = |node: usize| {
        let ip = address(node).ip();
        format!("VERSION\tdirector\t1\t9\nME\t{ip}\t9090\t1700000000\n")
    };
    let hosts = format!("HOST-HAND-START\t{handshaked}\nHOST-HAND-END\t{handshaked}\n");
    let done = "OPTIONS\tconsistent-hashing\nDONE\n";
    for (connection, lines) in [(right, hello(reached)), (left, hello(2) + &hosts + done)] {
        director.handle(Event::Received { connection, bytes: lines.as_bytes() }, NOW);
        serve(&mut director, &[reached]);
    }
    (director, left, right)
}

/// Found by the simulator: two links of a ring were in their handshakes with slow members for half a second, a third member was
/// not there, and the line that names it circled, thousands of times a second.
#[test]
fn a_director_line_ends_where_its_member_ought_to_be_the_right_also_before_there_is_a_right() {
    // 4 is dead; 5 is reached, and silent.
    let (mut director, left, right) = between_two_and(5, 1);
    let mut told = |node: usize| {
        let line = format!("DIRECTOR\t{}\t9090\n", address(node).ip());
        director.handle(Event::Received { connection: left, bytes: line.as_bytes() }, NOW);
        serve(&mut director, &[5]).iter().any(|(connection, text)| *connection == right && text.contains(&line))
    };
    assert!(!told(4), "between us and 5: we would be connected to it if it lived");
    assert!(told(6), "beyond 5: that is for 5 to know");
}

/// Found by the simulator (seed 5984 of 30 minutes): operators removed two directors at once, each of which heard that the other
/// goes, and none that it goes itself. Each made the other's lines its own, under another number each time they came round.
#[test]
fn a_line_of_a_removed_director_is_not_new_each_time_it_comes_round() {
    let mut net = Net::synced(4);
    let left = net.nodes[&2].ring.left.expect("a left");
    let say = |net: &mut Net, line: &str| net.handle(2, Event::Received { connection: left, bytes: line.as_bytes() });
    say(&mut net, "DIRECTOR-REMOVE\t127.0.1.4\t9090\n");
    net.lines.clear();
    for seq in [7, 8, 7, 8, 7, 8] {
        let seq = 2_147_000_000 + seq;
        say(&mut net, &format!("USER-KICK-HASH\t127.0.1.4\t9090\t{seq}\t2147\t127.0.2.1\n"));
    }
    net.run();
    let sent = |line: &&String| line.starts_with("2>") && line.contains("USER-KICK-HASH");
    let sent: Vec<_> = net.lines.iter().filter(sent).collect();
    assert!(sent.iter().all(|line| line.contains("\t127.0.1.4\t9090\t2147")), "{sent:?}");
    assert_eq!(sent.len(), 2, "{sent:?}");
}

/// Found by the simulator (seed 2631 of 30 minutes): a director had asked about three users and was gone. Its three lines circled in
/// turn, each time the last of another number, and each began to count anew.
#[test]
fn several_user_weak_whose_director_is_gone_end_and_do_not_renew_each_other() {
    let (mut director, left, right) = between_two_and(4, 0);
    let ip = address(6).ip();
    let mut sent = |seq: usize| {
        let line = format!("USER-WEAK\t{ip}\t9090\t{seq}\t{seq}\t127.0.2.1\n");
        director.handle(Event::Received { connection: left, bytes: line.as_bytes() }, NOW);
        serve(&mut director, &[4])
            .iter()
            .filter(|(connection, text)| *connection == right && text.contains(&line))
            .count()
    };
    let mut total = 0;
    for seq in [7, 8, 9].repeat(20) {
        total += sent(seq);
    }
    // Once when it is new, and so often again that it reaches its director if that is there.
    assert_eq!(total, 3 * 5);
    // Very many are under way: none comes back for good when its count is not known any more.
    for round in 0..20 {
        let total: usize = (10..5000).map(&mut sent).sum();
        assert_eq!(total == 0, round >= 5, "round {round}: {total}");
    }
}

/// Members 1 to 4 of a ring of five, of which 5 is dead and the others speak those versions. 2 starts last, and answers 1 slowly:
/// so 1, which connects to it, keeps its right, 3; and 2 has taken 3 for its right meanwhile. All three are linked with each
/// other then, until 1 gives 2 up, and none of them is next to 5.
fn triangle(minors: [u32; 4]) -> Net {
    let mut net = Net::start(0);
    let start = |net: &mut Net, node: usize| {
        let mut configuration = configuration(node, 5);
        configuration.tuning.ring_minor = minors[node - 1];
        net.start_node(node, configuration);
    };
    for node in [1, 3, 4] {
        start(&mut net, node);
        net.run();
    }
    net.pass(secs(25));
    net.lines.clear();
    net.mute.insert((2, 1));
    start(&mut net, 2);
    // As it does every 30 s.
    let now = net.now;
    net.nodes.get_mut(&1).unwrap().start_link(address(2), "It is our preferred right", now);
    net.run();
    net.pass(secs(5));
    assert!(net.peers_of(1).contains(&2) && net.peers_of(3).is_superset(&[1, 2].into()), "all three are linked");
    net
}

/// How often each node told each other of 5.
fn told_of_five(net: &Net) -> BTreeMap<&str, usize> {
    let mut told = BTreeMap::new();
    for line in &net.lines {
        if let Some(nodes) = line.strip_suffix(" DIRECTOR\t127.0.1.5\t9090").or_else(|| {
            let (nodes, rest) = line.split_once(" DIRECTOR\t")?;
            rest.starts_with("127.0.1.5\t").then_some(nodes)
        }) {
            *told.entry(nodes).or_default() += 1;
        }
    }
    told
}

#[test]
fn a_director_line_does_not_circle_where_three_are_linked_with_each_other() {
    let net = triangle([10; 4]);
    let told = told_of_five(&net);
    assert!(told.contains_key("1>2"), "there is a line to circle: {told:?}");
    // Two handshakes name it, each is passed on once.
    assert!(told.values().all(|&count| count <= 3), "{told:?}");
}

/// An older member passes it on without its name. In Dovecot's own directors nothing ends it then; ours pass on so many and no
/// more of those that tell them nothing.
#[test]
fn a_director_line_that_circles_through_older_members_ends() {
    for minors in [[9, 10, 10, 10], [10, 9, 10, 10], [10, 10, 9, 10], [9, 9, 10, 10], [9; 4]] {
        let net = triangle(minors);
        let told = told_of_five(&net);
        assert!(told.values().all(|&count| count <= 40), "{minors:?}: {told:?}");
    }
}

/// All that lines without names must still do: who comes back is heard, at once and by all.
#[test]
fn members_that_restart_often_are_heard_by_all() {
    for minor in [9, 10] {
        let mut net = Net::start(0);
        let start = |net: &mut Net, node: usize| {
            let mut configuration = configuration(node, 4);
            configuration.tuning.ring_minor = minor;
            net.start_node(node, configuration);
            net.run();
        };
        (1..=4).for_each(|node| start(&mut net, node));
        net.pass(secs(25));
        for round in 1..=20 {
            // A new life numbers its commands from 1 again.
            net.kill(3);
            start(&mut net, 3);
            net.wait_synced(3);
            let weight = 50 + round;
            assert_eq!(net.admin(3, &format!("HOST-UPDATE\t127.0.2.4\t{weight}\n")), "OK\n", "1.{minor}, {round}");
            for node in 1..=4 {
                let hosts = net.admin(node, "HOST-LIST\n");
                assert!(hosts.contains(&format!("127.0.2.4\t{weight}\t")), "1.{minor}, {round}, {node}: {hosts}");
            }
        }
    }
}

/// Found by the simulator (seed 1138 of 30 minutes): a director sent its SYNC again while a slow member held it up, and died. The
/// copies differ in their times, and each was taken for a new one after the other.
#[test]
fn copies_of_a_sync_whose_director_is_gone_end() {
    for ages_secs in [[9, 7, 3], [3, 7, 9], [7, 3, 9]] {
        let mut net = Net::synced(4);
        net.kill(4);
        (1..=3).for_each(|node| _ = net.wait_synced(node));
        let hosts_hash = net.nodes.get_mut(&2).unwrap().hosts.hosts_hash();
        let now_secs = net.now.unix_secs;
        let copy = |age| format!("SYNC\t127.0.1.4\t9090\t90\t10\t{}\t{hosts_hash}\n", now_secs - age);
        let lines: String = ages_secs.map(copy).concat();
        let left = net.nodes[&2].ring.left.expect("a left");
        net.lines.clear();
        net.handle(2, Event::Received { connection: left, bytes: lines.as_bytes() });
        net.run();
        let passed = net.lines.iter().filter(|line| line.contains(" SYNC\t127.0.1.4\t")).count();
        assert!((3..=3 * 3 * 5).contains(&passed), "{ages_secs:?}: {passed}");
    }
}
