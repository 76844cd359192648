//! Rings that were split, or whose members stood still, and what they know afterwards (scenarios, 42 and 43).

use super::*;
use crate::director::Director;

const LOWER: &str = "127.0.2.1";
const HIGHER: &str = "127.0.2.4";

/// A ring of four whose members 1 and 2 can't reach 3 and 4.
fn split() -> Net {
    let mut net = Net::synced(4);
    net.ipc_answer = Some(b"+1\n");
    for node in 1..=4 {
        let mut changed = configuration(node, 4);
        changed.tuning.user_expire_secs = 600;
        changed.tuning.output_buffer_bytes = 100_000;
        net.handle(node, Event::Reload(Box::new(changed)));
    }
    for (a, b) in [(1, 3), (1, 4), (2, 3), (2, 4)] {
        net.cut(a, b);
    }
    for node in 1..=4 {
        net.wait_synced(node);
    }
    net
}

fn join(net: &mut Net) {
    net.cut.clear();
    net.pass(secs(60));
    for node in 1..=4 {
        net.wait_synced(node);
    }
}

fn move_to(net: &mut Net, node: usize, ip: &str) {
    assert_eq!(net.admin(node, &format!("USER-MOVE\tjane\t{ip}\n")), "OK\n");
    net.pass(secs(3));
}

/// What nodes say of jane, without asking for her.
fn backends(net: &mut Net) -> Vec<String> {
    let answers = (1..=4).map(|node| net.admin(node, &format!("USER-LOOKUP\t{JANE}\n")));
    answers.map(|answer| answer.split('\t').next().unwrap_or_default().to_owned()).collect()
}

#[test]
fn after_a_split_everybody_knows_the_users_of_both_halves() {
    for node in 1..=4 {
        let mut net = split();
        move_to(&mut net, node, HIGHER);
        join(&mut net);
        assert_eq!(backends(&mut net), [HIGHER; 4], "moved on {node}");
    }
}

/// The other half may have given her another backend: then the lower one is hers.
#[test]
fn after_a_split_a_user_of_both_halves_is_on_the_lower_backend_and_kicked_elsewhere() {
    for (lower, higher) in [(1, 3), (3, 1), (2, 4), (4, 2)] {
        let mut net = split();
        move_to(&mut net, lower, LOWER);
        move_to(&mut net, higher, HIGHER);
        net.lines.clear();
        join(&mut net);
        assert_eq!(backends(&mut net), [LOWER; 4], "{lower} {higher}");
        let kick = format!("{JANE}\t{LOWER}");
        assert!(net.lines.iter().any(|line| line.contains("USER-KICK-HASH") && line.ends_with(&kick)));
    }
}

/// A director that starts comes between two that have served apart, and hears of the backends of both before it has synced with either:
/// it must not take the one's for the other's, and forget the users on what that one has not.
#[test]
fn a_director_that_starts_between_two_rings_joins_both_with_their_backends_and_users() {
    let mut net = Net::start(0);
    net.cut.insert((1, 2));
    net.start_node(2, configuration(2, 3));
    net.run();
    net.pass(secs(30));
    assert_eq!(net.lookup(2, "joe@example.com"), "127.0.2.3", "it serves alone");
    net.start_node(1, configuration(1, 3));
    net.run();
    // The third, of another ring, connects, but does not pass on any SYNC.
    let link = net.connect_from(1, Role::Ring, Some(address(3)));
    let stamp = net.now.unix_secs;
    net.say(
        link,
        &format!(
            "VERSION\tdirector\t1\t10\nME\t127.0.1.3\t9090\t{stamp}\nHOST-HAND-START\t1\n\
             HOST\t127.0.2.2\t100\t\tU0\t\nHOST\t127.0.2.9\t100\t\tU0\t\nHOST-HAND-END\t1\n\
             U\t{JANE}\t127.0.2.9\t{stamp}\nOPTIONS\tconsistent-hashing\nDONE\n"
        ),
    );
    let hosts = net.admin(1, "HOST-LIST\n");
    assert_eq!(hosts, "127.0.2.2\t100\t0\t\tU\t0\n127.0.2.9\t100\t1\t\tU\t0\n\n", "it has taken over that ring's");
    net.cut.clear();
    net.pass(secs(10));
    for node in 1..=2 {
        let hosts = net.admin(node, "HOST-LIST\n");
        assert_eq!(hosts.lines().filter(|line| !line.is_empty()).count(), 6, "node {node} has those of both: {hosts}");
        for (hash, backend) in [(JANE, "127.0.2.9"), (4_122_540_896, "127.0.2.3")] {
            let user = net.admin(node, &format!("USER-LOOKUP\t{hash}\n"));
            assert!(user.starts_with(&format!("{backend}\t")), "node {node} says {user}");
        }
    }
}

/// What comes with a handshake goes on only if it is news: a link that breaks and comes back costs what it did.
#[test]
fn a_handshake_without_news_is_told_to_nobody() {
    let mut net = Net::synced(4);
    let end = net.authreply(1);
    let text: String = (0..300).map(|n| format!("OK\t{n}\tuser=u{n}\tproxy\n")).collect();
    net.say(end, &text);
    net.lines.clear();
    net.break_links(2, 3);
    net.pass(secs(5));
    assert!(net.lines.iter().filter(|line| line.starts_with("2>3 U\t")).count() >= 300);
    assert!(!net.lines.iter().any(|line| line.contains(" USER\t")));
}

/// So many users that they don't fit into the output of the link on which they go on: the handshake waits for it.
#[test]
fn a_handshake_full_of_news_does_not_overflow_the_next_link() {
    let mut net = split();
    let end = net.authreply(1);
    let text: String = (0..5000).map(|n| format!("OK\t{n}\tuser=u{n}\tproxy\n")).collect();
    net.say(end, &text);
    // 2 connects to 3, which tells 4: but 4 takes nothing for a while.
    let right = net.nodes[&3].ring.right;
    net.lose_output(3, 4);
    net.cut.clear();
    net.pass(secs(10));
    assert_eq!(net.nodes[&3].ring.right, right, "the link has held");
    net.stuck.clear();
    net.pull_again(3, right.unwrap());
    join(&mut net);
    for node in 1..=4 {
        assert_eq!(net.nodes[&node].user_count(), 5000, "node {node}");
    }
}

/// Stops a node for so long: what is said to it, and what it would have to do, waits.
fn stand_still(net: &mut Net, node: usize, time_secs: u64) -> Director {
    let director = net.nodes.remove(&node).unwrap();
    net.pass(secs(time_secs));
    director
}

/// Who stood still has missed what the others did meanwhile: he asks before he says where anybody is.
#[test]
fn a_director_that_stood_still_serves_nobody_before_the_ring_has_answered() {
    let mut net = Net::synced(3);
    net.lookup(2, "jane");
    let director = stand_still(&mut net, 2, 10);
    net.nodes.insert(2, director);
    let links = net.nodes[&2].ring.links.clone();
    net.stuck.extend(links.iter().map(|&id| (2, id)));
    assert_eq!(net.lookup(2, "jane"), "", "somebody she may know of");
    assert_eq!(net.lookup(2, "joe"), "", "nor somebody new");
    net.stuck.clear();
    for &id in &links {
        net.pull_again(2, id);
    }
    net.run();
    assert_eq!(net.lookup(2, "jane"), "127.0.2.1");
    assert_ne!(net.lookup(2, "joe"), "");
}

#[test]
fn a_director_that_stood_still_alone_serves_at_once() {
    let mut net = Net::start(1);
    net.pass(secs(25));
    let director = stand_still(&mut net, 1, 10);
    net.nodes.insert(1, director);
    assert_eq!(net.lookup(1, "jane"), "127.0.2.1");
}

/// Scenarios, 43: links that break before their handshake is done show that the other is there, and serves as well. Who calls
/// himself alone then splits the ring. But one whose links never last is no neighbour.
#[test]
fn whose_links_break_in_their_handshake_is_there_and_nobody_beside_him_is_alone_for_two_minutes() {
    for (speaks, served_after_secs) in [(true, 120..150), (false, 20..50)] {
        let mut net = Net::synced(2);
        net.kill(2);
        let mut secs_waited = 0;
        while net.lookup(1, "jane").is_empty() {
            let link = net.connect_from(1, Role::Ring, Some(address(2)));
            if speaks {
                let unix_secs = net.now.unix_secs;
                net.say(link, &format!("VERSION\tdirector\t1\t10\nME\t127.0.1.2\t9090\t{unix_secs}\n"));
            }
            net.handle(1, Event::Closed { connection: link.1, error: Some("Connection reset by peer") });
            net.pass(secs(3));
            secs_waited += 3;
            assert!(secs_waited < 200, "it serves nobody");
        }
        assert!(served_after_secs.contains(&secs_waited), "{speaks}: after {secs_waited} s");
    }
}
