//! Moves, kicks and drains.

use super::*;

/// Starts a move of jane to 127.0.2.4, as an administrator of node 1 would.
fn start_move(net: &mut Net) {
    let now = net.now;
    let director = net.nodes.get_mut(&1).unwrap();
    let ip = "127.0.2.4".parse().unwrap();
    let host = director.hosts.find(ip).unwrap();
    director.originate_move(JANE, host, None, now);
    net.run();
}

#[test]
fn a_move_waits_for_everyone_and_a_lookup_for_the_move() {
    for count in 2..=4 {
        let mut net = Net::synced(count);
        assert_eq!(net.lookup(1, "jane"), "127.0.2.1");
        net.ipc_answer = Some(b"+1\n");
        net.lines.clear();
        start_move(&mut net);
        let ends: Vec<_> = (1..=count).map(|node| net.authreply(node)).collect();
        for &end in &ends {
            net.say(end, "OK\t1\tuser=jane\tproxy\n");
            assert_eq!(net.hear(end), "", "nobody gets in while a kill is running");
        }
        let position = |what: &str| net.lines.iter().position(|line| line.contains(what));
        let order = ["USER-MOVE\t127.0.1.1\t9090\t1\t1480892766", " USER-KILLED\t1480892766"].map(position);
        let everywhere = position("USER-KILLED-EVERYWHERE\t127.0.1.1\t9090\t2\t1480892766");
        assert!(order[0].is_some() && order[0] < order[1] && order[1] < everywhere, "{:#?}", net.lines);
        net.pass(Duration::from_millis(1900));
        for &end in &ends {
            assert_eq!(net.hear(end), "", "the backend has time to notice");
        }
        net.pass(Duration::from_millis(200));
        for &end in &ends {
            assert_eq!(net.hear(end), "OK\t1\tuser=jane\tproxy\tproxy_refresh=30\thost=127.0.2.4\n");
        }
    }
}

/// Scenarios, Moves, 11: who never knew the user takes part all the same.
#[test]
fn a_move_of_a_user_whom_nobody_knows_ends() {
    let mut net = Net::synced(3);
    net.ipc_answer = Some(b"+0\n");
    start_move(&mut net);
    assert_eq!(net.lookup(2, "jane"), "127.0.2.4", "nobody had a session of hers: there is nothing to wait for");
}

/// The extension of version 1.10: who had no session anywhere waits for nobody.
#[test]
fn a_move_waits_for_the_kick_delay_only_if_somebody_was_kicked_or_may_be_logging_in() {
    for (kicked, age_secs, waits) in
        [(&b"+0\n"[..], 10, false), (b"+\n", 10, false), (b"+1\n", 10, true), (b"+0\n", 1, true), (b"-no\n", 10, true)]
    {
        let mut net = Net::synced(3);
        net.ipc_answer = Some(kicked);
        net.lookup(1, "jane");
        net.pass(secs(age_secs));
        start_move(&mut net);
        for node in 1..=3 {
            let now = net.lookup(node, "jane");
            assert_eq!(now, if waits { "" } else { "127.0.2.4" }, "{} {age_secs}", kicked.escape_ascii());
        }
        net.pass(secs(3));
        assert_eq!(net.lookup(2, "jane"), "127.0.2.4");
    }
}

/// The same, with a member that speaks 1.9: its hop takes the count away, and everything is as it was.
#[test]
fn a_move_in_a_mixed_ring_waits_for_the_kick_delay() {
    let mut net = Net::synced(3);
    net.ipc_answer = Some(b"+0\n");
    net.lookup(1, "jane");
    net.pass(secs(10));
    // 2 takes 1's links for those of a member of 1.9, and the other way round.
    for (node, other) in [(1, 2), (2, 1), (2, 3), (3, 2)] {
        net.speak_minor(node, other, 9);
    }
    net.lines.clear();
    start_move(&mut net);
    assert_eq!(net.lookup(3, "jane"), "");
    assert!(net.lines.iter().any(|line| line == "1>2 USER-KILLED\t1480892766"), "{:#?}", net.lines);
    assert!(net.lines.iter().any(|line| line == "3>1 USER-KILLED\t1480892766"), "{:#?}", net.lines);
    net.pass(secs(3));
    assert_eq!(net.lookup(3, "jane"), "127.0.2.4");
}

#[test]
fn two_moves_of_one_user_at_once_end_on_one_backend() {
    for count in 2..=5 {
        let mut net = Net::synced(count);
        net.ipc_answer = Some(b"+1\n");
        net.lookup(1, "jane");
        for (node, ip) in [(1, "127.0.2.4"), (2, "127.0.2.5")] {
            let end = net.connect(node, Role::Admin);
            let text = format!("VERSION\tdirector-doveadm\t1\t0\nUSER-MOVE\tjane\t{ip}\n");
            net.handle(end.0, Event::Received { connection: end.1, bytes: text.as_bytes() });
        }
        net.run();
        for node in 1..=count {
            assert_eq!(net.lookup(node, "jane"), "", "ring of {count}, node {node}: nobody gets in early");
        }
        net.pass(secs(3));
        let hosts: Vec<_> = (1..=count).map(|node| net.lookup(node, "jane")).collect();
        assert!(hosts.iter().all(|host| *host == hosts[0] && !host.is_empty()), "ring of {count}: {hosts:?}");
    }
}

/// The extension of version 1.10: only a director's own USER-KILLED of the same move has been all round.
#[test]
fn a_foreign_user_killed_does_not_end_a_kill() {
    let mut net = Net::synced(2);
    net.ipc_answer = Some(b"+1\n");
    net.lookup(1, "jane");
    // Nothing that 1 says arrives, so that its move stays where it is: waiting for its own USER-KILLED.
    let links = net.nodes[&1].ring.links.clone();
    net.stuck.extend(links.iter().map(|&id| (1, id)));
    start_move(&mut net);
    let left = net.nodes[&1].ring.left.unwrap();
    let say = |net: &mut Net, of_move: &str, starter: &str| {
        let line = format!("USER-KILLED\t1480892766\t0\t{of_move}\t127.0.2.4\t{starter}\n");
        net.handle(1, Event::Received { connection: left, bytes: line.as_bytes() });
        net.run();
        net.lookup(1, "jane")
    };
    let (ours, theirs) = ("127.0.1.1\t9090\t1", "127.0.1.2\t9090\t1");
    for (of_move, starter) in [(theirs, theirs), (ours, theirs), ("127.0.1.1\t9090\t99", ours)] {
        assert_eq!(say(&mut net, of_move, starter), "", "{of_move} {starter}");
    }
    net.pass(Duration::from_millis(1900));
    assert_eq!(net.lookup(1, "jane"), "");
    assert_eq!(say(&mut net, ours, ours), "127.0.2.4");
}

#[test]
fn an_administrator_moves_a_user() {
    let mut net = Net::synced(3);
    net.ipc_answer = Some(b"+1\n");
    net.lookup(1, "jane");
    assert_eq!(net.admin(2, "USER-MOVE\tjane\t127.0.2.9\n"), "NOTFOUND\n");
    assert_eq!(net.admin(2, "USER-MOVE\tJANE\t127.0.2.4\n"), "OK\n");
    assert_eq!(net.admin(3, "USER-MOVE\t1480892766\t127.0.2.5\n"), "TRYAGAIN\n");
    net.pass(secs(3));
    assert_eq!(net.lookup(3, "jane"), "127.0.2.4");
    net.lines.clear();
    assert_eq!(net.admin(1, "USER-MOVE\tjane\t127.0.2.4\n"), "OK\n", "he is there: he is only refreshed");
    assert!(!net.lines.iter().any(|line| line.contains("USER-MOVE")), "{:#?}", net.lines);
}

/// Logs in so many users, `u0` and on.
fn log_in(net: &mut Net, count: usize) {
    let end = net.authreply(1);
    let text: String = (0..count).map(|n| format!("OK\t{n}\tuser=u{n}\tproxy\n")).collect();
    net.say(end, &text);
}

fn users_of(net: &mut Net, node: usize, ip: &str) -> usize {
    net.admin(node, &format!("USER-LIST\t{ip}\n")).lines().count() - 1
}

#[test]
fn a_flush_moves_all_users_of_a_backend_so_many_at_a_time() {
    let mut net = Net::synced(3);
    net.ipc_answer = Some(b"+1\n");
    log_in(&mut net, 300);
    let before = users_of(&mut net, 3, "127.0.2.3");
    assert!(before > 30, "{before}");
    assert_eq!(net.admin(1, "HOST-UPDATE\t127.0.2.3\t0\n"), "OK\n");
    let admin = net.connect(1, Role::Admin);
    net.say(admin, "VERSION\tdirector-doveadm\t1\t0\nHOST-RESET-USERS\t127.0.2.3\t10\nHOST-LIST-REMOVED\n");
    net.hear(admin);
    let moves = |net: &Net| net.lines.iter().filter(|line| line.starts_with("1>2 USER-MOVE")).count();
    for round in 1..=before.div_ceil(10) {
        assert_eq!(moves(&net), (round * 10).min(before), "round {round}");
        assert_eq!(net.hear(admin), "");
        net.pass(secs(2) + Duration::from_millis(10));
    }
    assert_eq!(net.hear(admin), "OK\n\n", "the next command runs after it");
    for node in 1..=3 {
        assert_eq!(users_of(&mut net, node, "127.0.2.3"), 0);
        net.assert_synced(node);
    }
}

/// Scenarios, Moves, 19: what took the original hours.
#[test]
fn a_flush_of_users_without_sessions_takes_no_time() {
    let mut net = Net::synced(3);
    net.ipc_answer = Some(b"+0\n");
    log_in(&mut net, 3000);
    net.pass(secs(10));
    assert_eq!(net.admin(1, "HOST-UPDATE\t127.0.2.3\t0\n"), "OK\n");
    assert_eq!(net.admin(1, "HOST-RESET-USERS\t127.0.2.3\n"), "OK\n");
    assert_eq!(users_of(&mut net, 2, "127.0.2.3"), 0);
}

/// Scenarios, Moves, 13.
#[test]
fn a_flush_with_no_backend_left_kicks_and_forgets_everybody() {
    let mut net = Net::synced(2);
    net.ipc_answer = Some(b"+1\n");
    log_in(&mut net, 300);
    for host in 1..=5 {
        assert_eq!(net.admin(1, &format!("HOST-UPDATE\t127.0.2.{host}\t0\n")), "OK\n");
    }
    assert_eq!(net.admin(1, "HOST-RESET-USERS\n"), "OK\n");
    assert_eq!(net.lines.iter().filter(|line| line.starts_with("1>2 USER-KICK-HASH")).count(), 600, "by both links");
    for node in 1..=2 {
        assert_eq!(net.admin(node, "USER-LIST\n"), "\n");
        net.wait_synced(node);
    }
    assert_eq!(net.admin(1, "HOST-RESET-USERS\t127.0.2.9\n"), "NOTFOUND\n");
}

/// Scenarios, Moves, 9: the second flush finds users whose moves are under way.
#[test]
fn two_flushes_at_once_from_two_directors_both_end() {
    let mut net = Net::synced(3);
    net.ipc_answer = Some(b"+1\n");
    log_in(&mut net, 100);
    assert_eq!(net.admin(1, "HOST-UPDATE\t127.0.2.3\t0\n"), "OK\n");
    let admins = [1, 2].map(|node| net.connect(node, Role::Admin));
    let mut heard = String::new();
    for admin in admins {
        net.say(admin, "VERSION\tdirector-doveadm\t1\t0\nHOST-RESET-USERS\t127.0.2.3\n");
        heard += &net.hear(admin);
    }
    net.pass(secs(5));
    for admin in admins {
        heard += &net.hear(admin);
    }
    assert_eq!(heard.matches("OK\n").count(), 2, "{heard}");
    assert_eq!(users_of(&mut net, 3, "127.0.2.3"), 0);
}

#[test]
fn kicks_go_everywhere_and_too_many_wait() {
    let mut net = Net::synced(3);
    net.ipc_answer = Some(b"");
    assert_eq!(net.admin(1, "USER-KICK\tjane\nUSER-KICK-ALT\tuser_alt\tx*y\n"), "OK\nOK\n");
    for line in ["1>2 USER-KICK\t127.0.1.1\t9090\t1\tjane", "1>3 USER-KICK-ALT\t127.0.1.1\t9090\t2\tuser_alt\tx*y"] {
        assert!(net.lines.iter().any(|said| said == line), "{:#?}", net.lines);
    }
    let kicks: String = (0..98).map(|n| format!("USER-KICK\tu{n}\n")).collect();
    assert_eq!(net.admin(1, &kicks).lines().count(), 98);
    assert_eq!(net.admin(1, "USER-KICK\tone-more\tnowait\n"), "TRYAGAIN\n");
    let admin = net.connect(1, Role::Admin);
    net.say(admin, "VERSION\tdirector-doveadm\t1\t0\nUSER-KICK\tone-more\nHOST-LIST-REMOVED\n");
    net.hear(admin);
    assert_eq!(net.hear(admin), "", "it waits");
    net.answer_ipc(1, b"+1\n");
    assert_eq!(net.hear(admin), "OK\n\n");
    net.answer_ipc(1, b"+1\n");
    let long = "x".repeat(1005);
    assert_eq!(net.admin(1, &format!("USER-KICK\t{long}\n")), "the name is too long\n");
}

#[test]
fn a_move_whose_kick_is_never_answered_is_given_up_after_30_seconds() {
    let mut net = Net::synced(2);
    net.lookup(1, "jane");
    net.ipc_answer = Some(b"");
    start_move(&mut net);
    assert_eq!(net.lookup(2, "jane"), "");
    net.pass(secs(29));
    assert_eq!(net.lookup(2, "jane"), "");
    net.pass(secs(2));
    assert_eq!(net.lookup(2, "jane"), "127.0.2.4");
}

/// Kick protocol: no ipc is as an error, and an error never stops a move.
#[test]
fn a_move_goes_on_where_kicking_is_not_possible() {
    for answer in [None, Some(&b"-no\n"[..]), Some(b"nonsense\n")] {
        let mut net = Net::synced(3);
        net.lookup(1, "jane");
        net.ipc_answer = answer;
        start_move(&mut net);
        net.pass(secs(3));
        assert_eq!(net.lookup(3, "jane"), "127.0.2.4");
    }
}

/// Scenarios, Moves, 10.
#[test]
fn a_host_removed_during_a_move_takes_the_move_with_it() {
    let mut net = Net::synced(3);
    net.lookup(1, "jane");
    net.ipc_answer = Some(b"");
    start_move(&mut net);
    let waiting = net.authreply(3);
    net.say(waiting, "OK\t1\tuser=jane\tproxy\n");
    assert_eq!(net.admin(2, "HOST-REMOVE\t127.0.2.4\n"), "OK\n");
    assert_eq!(net.hear(waiting), "OK\t1\tuser=jane\tproxy\tproxy_refresh=30\thost=127.0.2.1\n");
}

/// Starts a move of a user to a host, as an administrator of node 1 would.
fn move_to(net: &mut Net, user: &str, ip: &str) {
    assert_eq!(net.admin(1, &format!("USER-MOVE\t{user}\t{ip}\n")), "OK\n");
}

/// ipc says so to each of these nodes.
fn answer_ipc(net: &mut Net, nodes: impl IntoIterator<Item = usize>, answer: &[u8]) {
    for node in nodes {
        net.answer_ipc(node, answer);
    }
}

/// Scenarios, Admin, 8: on the wire a name of digits is a hash, so such a user is moved by the hash of his name.
#[test]
fn a_name_of_digits_is_taken_for_a_hash_and_its_user_is_reached_by_his_own() {
    let mut net = Net::synced(2);
    let hash = UsernameHash::parse("%Lu").unwrap().hash(b"1480892766");
    assert_ne!(hash, JANE);
    net.lookup(1, "jane");
    let home = net.lookup(1, "1480892766");
    move_to(&mut net, "1480892766", "127.0.2.4");
    net.pass(secs(3));
    assert_eq!(net.lookup(2, "jane"), "127.0.2.4", "jane has that hash");
    assert_eq!(net.lookup(2, "1480892766"), home, "he has not");
    let target = if home == "127.0.2.2" { "127.0.2.3" } else { "127.0.2.2" };
    move_to(&mut net, &hash.to_string(), target);
    net.pass(secs(3));
    assert_eq!(net.lookup(2, "1480892766"), target);
    assert_eq!(net.lookup(2, "jane"), "127.0.2.4");
    let looked_up = net.admin(2, &format!("USER-LOOKUP\t{hash}\n"));
    assert!(looked_up.starts_with(&format!("{target}\t")), "{looked_up}");
}

/// Scenarios, Moves, 10.
#[test]
fn the_late_answer_to_an_old_kill_does_not_finish_the_new_one() {
    let mut net = Net::synced(3);
    net.lookup(1, "jane");
    net.ipc_answer = Some(b"");
    move_to(&mut net, "jane", "127.0.2.4");
    // She goes with the host that she was to get, and logs in again.
    assert_eq!(net.admin(1, "HOST-REMOVE\t127.0.2.4\n"), "OK\n");
    assert_eq!(net.lookup(2, "jane"), "127.0.2.1");
    move_to(&mut net, "jane", "127.0.2.5");
    net.lines.clear();
    answer_ipc(&mut net, 1..=3, b"+1\n");
    net.pass(secs(10));
    assert_eq!(net.lookup(3, "jane"), "", "the second kick has not been answered");
    assert!(!net.lines.iter().any(|line| line.contains("USER-KILLED")), "{:#?}", net.lines);
    answer_ipc(&mut net, 1..=3, b"+1\n");
    net.pass(secs(3));
    for node in 1..=3 {
        assert_eq!(net.lookup(node, "jane"), "127.0.2.5");
    }
}

/// Scenarios, Moves, 10.
#[test]
fn a_user_who_expires_while_his_kill_runs_is_kept_until_it_ends() {
    let mut net = Net::synced(3);
    for node in 1..=3 {
        let mut changed = configuration(node, 3);
        changed.tuning.user_expire_secs = 10;
        net.handle(node, Event::Reload(Box::new(changed)));
    }
    net.run();
    net.lookup(1, "jane");
    net.lookup(1, "joe@example.com");
    net.ipc_answer = Some(b"");
    move_to(&mut net, "jane", "127.0.2.4");
    net.pass(secs(20));
    for node in 1..=3 {
        let users = net.admin(node, "USER-LIST\n");
        let only_jane = users.starts_with("1480892766\t") && users.ends_with("\t127.0.2.4\n\n");
        assert!(only_jane && users.lines().count() == 2, "node {node}: {users}");
        assert_eq!(net.lookup(node, "jane"), "", "node {node}");
    }
    let waiting = net.authreply(3);
    net.say(waiting, "OK\t1\tuser=jane\tproxy\n");
    answer_ipc(&mut net, 1..=3, b"+1\n");
    assert_eq!(net.hear(waiting), "");
    net.pass(secs(3));
    let heard = net.hear(waiting);
    assert!(heard.ends_with("\thost=127.0.2.1\n"), "his time was over long ago, so the hash decides: {heard}");
    for node in 1..=3 {
        assert_eq!(net.lookup(node, "jane"), "127.0.2.1", "node {node}");
    }
}

/// Scenarios, Moves, 10: what a flush counts never leaks, or it and all that come after it would wait for ever.
#[test]
fn users_who_are_forgotten_during_a_flush_do_not_hold_it_up_nor_the_next() {
    for forget in ["HOST-FLUSH\n", "HOST-REMOVE\t127.0.2.1\nHOST-REMOVE\t127.0.2.2\nHOST-REMOVE\t127.0.2.4\n"] {
        let mut net = Net::synced(3);
        log_in(&mut net, 300);
        net.ipc_answer = Some(b"");
        assert_eq!(net.admin(1, "HOST-UPDATE\t127.0.2.3\t0\n"), "OK\n");
        let admin = net.connect(1, Role::Admin);
        net.say(admin, "VERSION\tdirector-doveadm\t1\t0\nHOST-RESET-USERS\t127.0.2.3\t10\n");
        net.hear(admin);
        assert!(net.admin(2, forget).lines().all(|answer| answer == "OK"));
        // Those that are left are moved to the one host that there is; ipc is slow, but answers in the end.
        net.ipc_answer = Some(b"+1\n");
        net.pass(secs(60));
        assert_eq!(net.hear(admin), "OK\n");
        for node in 1..=3 {
            assert_eq!(users_of(&mut net, node, "127.0.2.3"), 0);
        }
        log_in(&mut net, 300);
        assert_eq!(net.admin(1, "HOST-UPDATE\t127.0.2.5\t0\nHOST-UPDATE\t127.0.2.3\t100\n"), "OK\nOK\n");
        net.say(admin, "HOST-RESET-USERS\t127.0.2.5\t10\n");
        net.pass(secs(600));
        assert_eq!(net.hear(admin), "OK\n", "the next flush, after {forget:?}");
        assert_eq!(users_of(&mut net, 2, "127.0.2.5"), 0);
    }
}

/// Scenarios, Moves, 12.
#[test]
fn a_move_ends_for_all_when_some_have_the_user_on_the_target_already() {
    for there in 1..8_u32 {
        let mut net = Net::synced(3);
        net.lookup(1, "jane");
        for node in (1..=3).filter(|node| there & (1 << (node - 1)) != 0) {
            let director = net.nodes.get_mut(&node).unwrap();
            let host = director.hosts.find("127.0.2.4".parse().unwrap()).unwrap();
            let tag = director.hosts.get(host).unwrap().tag;
            let slot = director.users.find(JANE, tag).unwrap();
            director.users.set_host(slot, host);
        }
        // Only those kick who had her elsewhere; the last of them answers late.
        net.ipc_answer = Some(b"");
        start_move(&mut net);
        for node in (1..=3).filter(|node| there & (1 << (node - 1)) == 0) {
            assert_eq!(net.lookup(node, "jane"), "", "{there:03b}: node {node} has not kicked her yet");
            net.answer_ipc(node, b"+1\n");
        }
        // The others have no session of hers elsewhere.
        net.answer_all_ipc(b"+0\n");
        net.pass(secs(3));
        for node in 1..=3 {
            assert_eq!(net.lookup(node, "jane"), "127.0.2.4", "{there:03b}: node {node}");
            net.assert_synced(node);
        }
    }
}

/// Scenarios, Moves, 14.
#[test]
fn a_kick_answered_after_its_move_was_given_up_touches_nothing() {
    let mut net = Net::synced(3);
    net.lookup(1, "jane");
    net.ipc_answer = Some(b"");
    move_to(&mut net, "jane", "127.0.2.4");
    net.pass(secs(31));
    net.lines.clear();
    answer_ipc(&mut net, 1..=2, b"+1\n");
    assert!(!net.lines.iter().any(|line| line.contains("USER-KILLED")), "{:#?}", net.lines);
    assert_eq!(net.lookup(2, "jane"), "127.0.2.4");
    // The third comes while the next kill runs.
    move_to(&mut net, "jane", "127.0.2.5");
    answer_ipc(&mut net, 1..=2, b"+1\n");
    net.answer_ipc(3, b"+1\n");
    net.pass(secs(5));
    assert_eq!(net.lookup(1, "jane"), "", "node 3 has not kicked for the second move yet");
    net.answer_ipc(3, b"+1\n");
    net.pass(secs(3));
    for node in 1..=3 {
        assert_eq!(net.lookup(node, "jane"), "127.0.2.5");
    }
}

/// A ring with a flush script in which jane is on her way to 127.0.2.4, all her sessions are gone, and the script runs.
fn at_the_flush_script() -> Net {
    let mut net = Net::synced(3);
    for director in net.nodes.values_mut() {
        director.tuning.flush_socket = "unix:flush".into();
        // Long enough to see whether it is waited for.
        director.tuning.user_kick_delay = secs(15);
    }
    net.ipc_answer = Some(b"+1\n");
    net.flush_script = true;
    net.lookup(1, "jane");
    move_to(&mut net, "jane", "127.0.2.4");
    net
}

/// Kick protocol, "The flush socket", and scenarios, Moves, 15: one director runs it, the others wait the delay.
#[test]
fn the_flush_script_is_run_by_the_originator_alone_and_its_success_spares_the_delay() {
    let mut net = at_the_flush_script();
    let flushes = net.flushes();
    let told: Vec<_> = flushes.iter().map(|(end, told)| (end.0, told.as_str())).collect();
    assert_eq!(told, [(1, "1480892766 127.0.2.1 127.0.2.4")]);
    net.pass(secs(5));
    assert_eq!(net.lookup(1, "jane"), "", "the script still runs");
    net.end_flush(flushes[0].0, "all is well\n+\n");
    assert_eq!(net.lookup(1, "jane"), "127.0.2.4");
    assert!(net.flushes().is_empty());
}

#[test]
fn a_flush_script_that_fails_costs_the_delay() {
    for output in ["what went wrong\n-\n", "", "+\nno: that was not the last line\n", "+"] {
        let mut net = at_the_flush_script();
        let (end, _) = net.flushes()[0];
        net.end_flush(end, output);
        net.pass(secs(14));
        assert_eq!(net.lookup(1, "jane"), "", "{output:?}");
        net.pass(secs(2));
        assert_eq!(net.lookup(1, "jane"), "127.0.2.4", "{output:?}");
    }
}

#[test]
fn a_flush_script_that_is_missing_costs_the_delay() {
    let mut net = Net::synced(2);
    for director in net.nodes.values_mut() {
        director.tuning.flush_socket = "exec:/nowhere".into();
    }
    net.lookup(1, "jane");
    move_to(&mut net, "jane", "127.0.2.4");
    assert_eq!(net.lookup(1, "jane"), "");
    net.pass(secs(3));
    assert_eq!(net.lookup(1, "jane"), "127.0.2.4");
}

/// Scenarios, Moves, 14.
#[test]
fn a_flush_script_slower_than_the_move_is_ended_with_it() {
    let mut net = at_the_flush_script();
    net.pass(secs(29));
    assert_eq!(net.lookup(1, "jane"), "");
    assert_eq!(net.flushes().len(), 1);
    net.pass(secs(2));
    assert_eq!(net.lookup(1, "jane"), "127.0.2.4");
    assert!(net.flushes().is_empty(), "nobody waits for it any more");
    // The next move has a script of its own.
    move_to(&mut net, "jane", "127.0.2.5");
    let (end, told) = net.flushes()[0].clone();
    assert_eq!(told, "1480892766 127.0.2.4 127.0.2.5");
    net.end_flush(end, "+\n");
    assert_eq!(net.lookup(1, "jane"), "127.0.2.5");
}

/// Scenarios, Moves, 14: late, but within the move's time.
#[test]
fn a_flush_script_that_answers_just_in_time_counts() {
    let mut net = at_the_flush_script();
    net.pass(secs(29));
    let (end, _) = net.flushes()[0];
    net.end_flush(end, "+\n");
    assert_eq!(net.lookup(1, "jane"), "127.0.2.4");
}

/// Scenarios, Moves, 10.
#[test]
fn a_flush_script_ends_with_a_user_who_is_forgotten() {
    let mut net = at_the_flush_script();
    assert_eq!(net.admin(2, "HOST-REMOVE\t127.0.2.4\n"), "OK\n");
    assert!(net.flushes().is_empty(), "a script that never ends must not be waited for without end");
    assert_eq!(net.lookup(1, "jane"), "127.0.2.1");
}

/// Scenarios, Moves, 15.
#[test]
fn a_flush_of_many_users_runs_the_script_once_for_each_and_so_many_at_a_time() {
    let mut net = Net::synced(3);
    for director in net.nodes.values_mut() {
        director.tuning.flush_socket = "unix:flush".into();
        director.tuning.user_kick_delay = secs(1);
    }
    net.ipc_answer = Some(b"+1\n");
    net.flush_script = true;
    log_in(&mut net, 300);
    let before = users_of(&mut net, 3, "127.0.2.3");
    assert_eq!(net.admin(2, "HOST-UPDATE\t127.0.2.3\t0\n"), "OK\n");
    let admin = net.connect(2, Role::Admin);
    net.say(admin, "VERSION\tdirector-doveadm\t1\t0\nHOST-RESET-USERS\t127.0.2.3\t10\n");
    net.hear(admin);
    let mut told = Vec::new();
    while told.len() < before {
        let flushes = net.flushes();
        assert_eq!(flushes.len(), (before - told.len()).min(10), "after {}", told.len());
        assert!(flushes.iter().all(|(end, _)| end.0 == 2), "{flushes:?}");
        assert_eq!(net.hear(admin), "");
        // In whatever order they end, and whether well or not, the next come.
        let batch = flushes.len();
        for (number, (end, text)) in flushes.into_iter().rev().enumerate() {
            told.push(text);
            if number + 1 == batch {
                net.end_flush(end, "-\n");
                net.pass(secs(2));
            } else {
                net.end_flush(end, "+\n");
                let now: Vec<_> = net.flushes().into_iter().filter(|(_, text)| !told.contains(text)).collect();
                assert!(now.len() <= 10, "{}", now.len());
            }
        }
    }
    assert_eq!(net.hear(admin), "OK\n");
    told.sort();
    told.dedup();
    assert_eq!(told.len(), before, "nobody twice, nobody left out");
    net.pass(secs(2));
    for node in 1..=3 {
        assert_eq!(users_of(&mut net, node, "127.0.2.3"), 0);
    }
}

/// Scenarios, Moves, 16: "redirected to two hosts" must not come of a move.
#[test]
fn a_move_is_not_undone_by_a_late_user_line() {
    // A director that has not heard of the move yet tells of her at the old host: while her kill runs, and while the
    // backend is given time.
    for kicked in [false, true] {
        for node in 1..=3 {
            let mut net = Net::synced(3);
            net.ipc_answer = Some(if kicked { b"+1\n" } else { b"" });
            net.lookup(1, "jane");
            move_to(&mut net, "jane", "127.0.2.4");
            net.pass(secs(1));
            net.lines.clear();
            let line = format!("USER\t1480892766\t127.0.2.1\t{}\n", net.now.unix_secs);
            let link = net.nodes[&node].ring.left.unwrap();
            net.handle(node, Event::Received { connection: link, bytes: line.as_bytes() });
            net.run();
            // Who has said it is told, and nobody else: and he knows what to make of it.
            let left = (node + 1) % 3 + 1;
            let answer = format!("{node}>{left} USER\t1480892766\t127.0.2.4\t");
            for line in net.lines.iter().filter(|line| line.contains(" USER\t")) {
                assert!(line.starts_with(&answer) && line.ends_with("\t1\t127.0.1.1\t9090\t1"), "{:#?}", net.lines);
            }
            assert!(net.lines.iter().any(|line| line.starts_with(&answer)), "{:#?}", net.lines);
            assert!(!net.lines.iter().any(|line| line.contains("USER-KICK-HASH")), "{:#?}", net.lines);
            if !kicked {
                answer_ipc(&mut net, 1..=3, b"+1\n");
            }
            net.pass(secs(3));
            for node in 1..=3 {
                assert_eq!(net.lookup(node, "jane"), "127.0.2.4");
            }
        }
    }
    // She logs in elsewhere in the same moment.
    for node in 2..=3 {
        let mut net = Net::synced(3);
        net.ipc_answer = Some(b"+1\n");
        net.lookup(1, "jane");
        net.pass(secs(20));
        let reply = net.authreply(node);
        let admin = net.connect(1, Role::Admin);
        net.lines.clear();
        let moves = b"VERSION\tdirector-doveadm\t1\t0\nUSER-MOVE\tjane\t127.0.2.4\n";
        net.handle(1, Event::Received { connection: admin.1, bytes: moves });
        net.handle(node, Event::Received { connection: reply.1, bytes: b"OK\t1\tuser=jane\tproxy\n" });
        net.run();
        assert!(net.hear(reply).ends_with("\thost=127.0.2.1\n"), "she was there before the move was heard of");
        net.pass(secs(3));
        for other in 1..=3 {
            assert_eq!(net.lookup(other, "jane"), "127.0.2.4");
        }
        assert!(!net.lines.iter().any(|line| line.contains("USER-KICK-HASH")), "{:#?}", net.lines);
    }
}

/// Scenarios, Moves, 17.
#[test]
fn kicks_are_forwarded_as_they_came() {
    let mut net = Net::synced(3);
    let end = net.connect(1, Role::Admin);
    let version = "VERSION\tdirector-doveadm\t1\t0\n";
    // A name that holds a tab.
    net.say(end, &format!("{version}USER-KICK\tja\u{1}tne@x\tnowait\nUSER-KICK-ALT\tuser_alt\tx\u{1}ty\n"));
    assert_eq!(net.hear(end), format!("{version}OK\nOK\n"));
    let mut lines = net.lines.clone();
    lines.sort();
    let kick = "USER-KICK\t127.0.1.1\t9090\t1\tja\u{1}tne@x";
    let alt = "USER-KICK-ALT\t127.0.1.1\t9090\t2\tuser_alt\tx\u{1}ty";
    let mut expected = Vec::new();
    for hop in ["1>2", "1>3", "2>3", "3>2"] {
        expected.extend([format!("{hop} {kick}"), format!("{hop} {alt}")]);
    }
    expected.sort();
    assert_eq!(lines, expected);
    // A member that is too old for one is not bothered with it.
    for (minor, hears_kick, hears_alt) in [(3, false, false), (4, true, false), (7, true, false), (8, true, true)] {
        let mut net = Net::synced(2);
        net.speak_minor(1, 2, minor);
        assert_eq!(net.admin(1, "USER-KICK\tjane\nUSER-KICK-ALT\tuser_alt\tx\n"), "OK\nOK\n");
        let heard = |line: &str| net.lines.iter().any(|said| said.starts_with(&format!("1>2 {line}\t")));
        assert_eq!((heard("USER-KICK"), heard("USER-KICK-ALT")), (hears_kick, hears_alt), "minor {minor}");
    }
}
