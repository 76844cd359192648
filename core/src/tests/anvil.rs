//! Kicks through Dovecot 2.4's anvil, and how it is found out what sessions are kicked through.

use std::collections::{BTreeMap, BTreeSet};

use quickcheck::{Gen, QuickCheck};

use super::*;
use crate::settings::{Configuration, KickVia};
use crate::testing::tuning;

const GREETING: &[u8] = b"VERSION\tanvil-server\t2\t0\n";

fn via(kick_via: KickVia) -> Configuration {
    let mut configuration = configuration(1, 1);
    configuration.members.clear();
    configuration.self_address = "127.0.0.1:0".parse().unwrap();
    configuration.tuning = crate::settings::Tuning { kick_via, ..tuning() };
    configuration
}

/// A standalone director beside this anvil.
fn beside_anvil(kick_via: KickVia) -> Net {
    let mut net = Net::start(0);
    net.anvil_greeting = Some(GREETING);
    net.start_node(1, via(kick_via));
    net.run();
    net
}

/// A reply with the host that an authreply client gets for `jane`.
fn reply_to_jane(net: &mut Net) -> String {
    let end = net.authreply(1);
    net.say(end, "OK\t1\tuser=jane\tproxy\n");
    net.hear(end)
}

const PLAIN: &str = "OK\t1\tuser=jane\tproxy\tproxy_refresh=30\thost=127.0.2.1\n";
const WITH_HASH: &str = "OK\t1\tuser=jane\tproxy\tuser_director_backend=1480892766/127.0.2.1\tproxy_refresh=30\t\
                         host=127.0.2.1\tuser_director_hash=1480892766\n";

#[test]
fn replies_carry_the_hash_only_beside_anvil() {
    for (kick_via, has_ipc, has_anvil, reply) in [
        (KickVia::Auto, false, false, PLAIN),
        (KickVia::Auto, true, false, PLAIN),
        // Dovecot 2.3 has an anvil, too.
        (KickVia::Auto, true, true, PLAIN),
        (KickVia::Auto, false, true, WITH_HASH),
        (KickVia::Ipc, false, true, PLAIN),
        (KickVia::Anvil, true, false, WITH_HASH),
    ] {
        let mut net = Net::start(0);
        net.ipc_answer = has_ipc.then_some(b"+1\n");
        net.anvil_greeting = has_anvil.then_some(GREETING);
        net.start_node(1, via(kick_via));
        net.run();
        assert_eq!(reply_to_jane(&mut net), reply, "{kick_via:?}, ipc {has_ipc}, anvil {has_anvil}");
    }
}

/// What an auth server says to the one client that a login process has.
fn relayed_reply(net: &mut Net) -> String {
    let client = net.connect(1, Role::Login);
    net.say_as_auth(1, "OK\t1\tuser=jane\tproxy\n");
    net.hear(client)
}

/// A session that began without the hash could never be found.
#[test]
fn a_login_process_gets_the_hash_as_long_as_it_is_not_known_that_ipc_is_there() {
    let mut net = Net::start(0);
    net.auth = true;
    // anvil is connected to, but has not said anything yet.
    net.anvil_greeting = Some(b"");
    net.start_node(1, via(KickVia::Auto));
    net.run();
    assert_eq!(relayed_reply(&mut net), WITH_HASH);
    assert_eq!(reply_to_jane(&mut net), PLAIN);
    net.answer_anvil(1, 0, "VERSION\tanvil-server\t2\t0\n");
    assert_eq!(reply_to_jane(&mut net), WITH_HASH);
    // Dovecot restarts: anvil is not there.
    net.anvil_greeting = None;
    assert_eq!(net.admin(1, "USER-KICK\tjane\n"), "OK\n");
    assert_eq!(relayed_reply(&mut net), WITH_HASH);
    // It is another version now, as the next kick finds out.
    net.ipc_answer = Some(b"+1\n");
    assert_eq!(net.admin(1, "USER-KICK\tjane\n"), "OK\n");
    assert_eq!(relayed_reply(&mut net), PLAIN);
}

/// A login process is there before anvil, and asks on its one connection for as long as it lives.
#[test]
fn a_login_process_that_came_before_anvil_gets_the_hash_from_the_first_login_on() {
    let mut net = Net::start(0);
    net.auth = true;
    net.start_node(1, via(KickVia::Auto));
    net.run();
    let client = net.connect(1, Role::Login);
    net.say_as_auth(1, "OK\t1\tuser=jane\tproxy\n");
    assert_eq!(net.hear(client), WITH_HASH, "nothing is known yet");
    net.anvil_greeting = Some(GREETING);
    net.pass(secs(1));
    net.say_as_auth(1, "OK\t1\tuser=jane\tproxy\n");
    assert_eq!(net.hear(client), WITH_HASH);
    net.pass(secs(1));
    // An authreply client gets it only from a director that has seen anvil.
    assert_eq!(reply_to_jane(&mut net), WITH_HASH);
}

#[test]
fn it_is_looked_for_again_when_clients_come_but_not_for_each() {
    let mut net = Net::start(0);
    net.start_node(1, via(KickVia::Auto));
    net.run();
    assert_eq!(reply_to_jane(&mut net), PLAIN);
    net.anvil_greeting = Some(GREETING);
    assert_eq!(reply_to_jane(&mut net), PLAIN, "within the same second nobody looks");
    net.pass(secs(1));
    assert_eq!(reply_to_jane(&mut net), WITH_HASH);
    // An anvil lives on as long as somebody is connected to it, also after its Dovecot.
    assert_eq!(net.anvils(1), 0);
    net.anvil_greeting = None;
    net.pass(secs(10));
    assert_eq!(reply_to_jane(&mut net), WITH_HASH);
}

/// anvil answers a kick that somebody has to do after one that nobody has to: on one connection, the answers to two
/// questions at once could not be told apart.
#[test]
fn a_connection_is_asked_one_thing_at_a_time() {
    let mut net = beside_anvil(KickVia::Auto);
    assert_eq!(net.admin(1, "USER-KICK\tjane\nUSER-KICK\tjoe\n"), "OK\nOK\n");
    assert_eq!((net.hear_anvil(1, 0), net.hear_anvil(1, 1)), ("KICK-USER\tjane\n".into(), "KICK-USER\tjoe\n".into()));
    assert_eq!(net.admin(1, "USER-KICK-ALT\tuser_team\tred\n"), "OK\n");
    assert_eq!(net.hear_anvil(1, 2), "KICK-ALT-USER\tuser_team\tred\n");
    let kicks: String = (0..10).map(|n| format!("USER-KICK\tu{n}\n")).collect();
    assert_eq!(net.admin(1, &kicks), "OK\n".repeat(10));
    assert_eq!(net.anvils(1), 4, "no more than a few");
    assert_eq!(net.hear_anvil(1, 3), "KICK-USER\tu0\n");
    net.answer_anvil(1, 1, "0\n");
    assert_eq!(net.hear_anvil(1, 1), "KICK-USER\tu1\n");
    for n in 2..10 {
        net.answer_anvil(1, 1, "1\n");
        assert_eq!(net.hear_anvil(1, 1), format!("KICK-USER\tu{n}\n"));
    }
    net.answer_anvil(1, 1, "1\n");
    for left in [3, 2, 1, 0] {
        assert_eq!(net.anvils(1), left);
        if left > 0 {
            net.answer_anvil(1, 0, "1\n");
        }
    }
    assert_eq!(net.admin(1, "USER-KICK\tlast\n"), "OK\n");
    assert_eq!(net.hear_anvil(1, 0), "KICK-USER\tlast\n");
}

fn move_jane(net: &mut Net) {
    net.lookup(1, "jane");
    net.pass(secs(10));
    assert_eq!(net.admin(1, "USER-MOVE\tjane\t127.0.2.4\n"), "OK\n");
    assert_eq!(net.hear_anvil(1, 0), "KICK-ALT-USER\tuser_director_hash\t1480892766\n");
    assert_eq!(net.lookup(1, "jane"), "", "nobody gets in while his sessions are being kicked");
}

/// Sessions that begin meanwhile cannot be found by hash later: the operator is to hear of it before it matters.
#[test]
fn it_is_said_once_that_there_is_nothing_to_kick_through() {
    let mut net = Net::start(0);
    net.start_node(1, via(KickVia::Auto));
    net.run();
    let count_warnings = |net: &mut Net| {
        let logged = secrets::logged_during(|| {
            for _ in 0..3 {
                reply_to_jane(net);
                net.pass(secs(5));
            }
        });
        logged.matches("There is nothing to kick sessions through: ").count()
    };
    assert_eq!(count_warnings(&mut net), 1);
    assert_eq!(count_warnings(&mut net), 0);
    net.anvil_greeting = Some(GREETING);
    assert_eq!(count_warnings(&mut net), 0);
}

/// Login processes of a Dovecot that starts come before its anvil, and perhaps no other client does for long.
#[test]
fn it_is_looked_for_again_without_anybody_asking() {
    let mut net = Net::start(0);
    net.start_node(1, via(KickVia::Auto));
    net.run();
    let logged = secrets::logged_during(|| {
        net.authreply(1);
        net.anvil_greeting = Some(GREETING);
        net.pass(secs(1));
    });
    assert!(logged.contains("Sessions are kicked through anvil"), "{logged}");
    assert!(!logged.contains("There is nothing to kick"), "{logged}");

    let mut net = Net::start(0);
    net.start_node(1, via(KickVia::Auto));
    net.run();
    let logged = secrets::logged_during(|| {
        net.authreply(1);
        net.pass(secs(600));
    });
    assert_eq!(logged.matches("There is nothing to kick").count(), 1, "{logged}");
    let looks = logged.matches("There is no ipc").count();
    assert!((12..=20).contains(&looks), "looked {looks} times in 10 min: {logged}");
    net.anvil_greeting = Some(GREETING);
    let logged = secrets::logged_during(|| net.pass(secs(60)));
    assert!(logged.contains("Sessions are kicked through anvil"), "{logged}");
}

#[test]
fn a_move_waits_for_anvil_and_goes_on_at_once_if_there_was_no_session() {
    let mut net = beside_anvil(KickVia::Auto);
    move_jane(&mut net);
    net.answer_anvil(1, 0, "0\n");
    assert_eq!(net.lookup(1, "jane"), "127.0.2.4");

    let mut net = beside_anvil(KickVia::Anvil);
    move_jane(&mut net);
    net.answer_anvil(1, 0, "2\n");
    // Login processes may say that they have kicked before they say that the sessions are gone.
    for left in ["1\n", "0\n"] {
        net.pass(Duration::from_millis(100));
        assert_eq!(net.hear_anvil(1, 0), "KICK-ALT-USER\tuser_director_hash\t1480892766\n");
        net.answer_anvil(1, 0, left);
    }
    net.pass(Duration::from_millis(1900));
    assert_eq!(net.lookup(1, "jane"), "", "the backend has time to notice");
    assert_eq!(net.anvils(1), 0);
    net.pass(Duration::from_millis(100));
    assert_eq!(net.lookup(1, "jane"), "127.0.2.4");
}

/// He is let in again then: a kick that is asked again would end the sessions that he has now.
#[test]
fn nobody_is_kicked_again_whose_move_was_forgotten() {
    let mut net = beside_anvil(KickVia::Auto);
    move_jane(&mut net);
    net.answer_anvil(1, 0, "2\n");
    assert_eq!(net.admin(1, "HOST-FLUSH\t127.0.2.4\n"), "OK\n");
    assert_ne!(net.lookup(1, "jane"), "");
    net.pass(secs(5));
    assert_eq!(net.anvils(1), 0);
}

/// anvil counts sessions whose login processes it does not reach.
#[test]
fn sessions_that_go_on_are_an_error_but_do_not_stop_a_move() {
    let mut net = beside_anvil(KickVia::Auto);
    let logged = secrets::logged_during(|| {
        move_jane(&mut net);
        net.answer_anvil(1, 0, "3\n");
        for asked in 1..=20 {
            net.pass(Duration::from_millis(100));
            assert_eq!(net.hear_anvil(1, 0).lines().count(), 1, "asked again {asked} times");
            net.answer_anvil(1, 0, "3\n");
        }
        assert_eq!((net.lookup(1, "jane"), net.anvils(1)), (String::new(), 0));
        net.pass(secs(2));
        assert_eq!((net.lookup(1, "jane"), net.anvils(1)), ("127.0.2.4".into(), 0));
    });
    let error =
        "Kicking the sessions of user hash 1480892766 failed: 3 of them go on although anvil was told to end them";
    assert_eq!(logged.matches(error).count(), 1, "{logged}");
}

/// An error never stops a move.
#[test]
fn a_move_goes_on_whatever_becomes_of_anvil() {
    for answer in ["no number\n", "-1\n", "\n", &"9".repeat(40_000)] {
        let mut net = beside_anvil(KickVia::Auto);
        move_jane(&mut net);
        net.answer_anvil(1, 0, answer);
        net.pass(secs(3));
        assert_eq!(net.lookup(1, "jane"), "127.0.2.4", "{answer:.20}");
    }
    let mut net = beside_anvil(KickVia::Auto);
    move_jane(&mut net);
    net.close_anvil(1, 0);
    net.pass(secs(3));
    assert_eq!(net.lookup(1, "jane"), "127.0.2.4");
    // It is connected to again.
    assert_eq!(net.admin(1, "USER-KICK\tjane\n"), "OK\n");
    assert_eq!(net.hear_anvil(1, 0), "KICK-USER\tjane\n");
}

/// A login process that hangs: others' kicks go past it, and its own are given up before their moves are.
#[test]
fn anvil_that_does_not_answer_is_given_up_in_time() {
    let mut net = beside_anvil(KickVia::Auto);
    move_jane(&mut net);
    assert_eq!(net.admin(1, "USER-KICK\tjoe\n"), "OK\n");
    assert_eq!(net.hear_anvil(1, 1), "KICK-USER\tjoe\n");
    net.answer_anvil(1, 1, "1\n");
    net.pass(secs(9));
    assert_eq!((net.lookup(1, "jane"), net.anvils(1)), (String::new(), 1));
    net.pass(secs(2));
    assert_eq!(net.hear_anvil(1, 0), "KICK-ALT-USER\tuser_director_hash\t1480892766\n", "it is asked once more");
    net.pass(secs(8));
    assert_eq!((net.lookup(1, "jane"), net.anvils(1)), (String::new(), 1));
    net.pass(secs(5));
    assert_eq!((net.lookup(1, "jane"), net.anvils(1)), ("127.0.2.4".into(), 0));
}

/// A kick that was lost may have ended sessions: what the second one says is not how many there were.
#[test]
fn the_answer_to_the_second_question_does_not_count() {
    let mut net = beside_anvil(KickVia::Auto);
    move_jane(&mut net);
    net.pass(secs(11));
    net.answer_anvil(1, 0, "0\n");
    assert_eq!(net.lookup(1, "jane"), "", "the backend has time to notice");
    net.pass(secs(2));
    assert_eq!((net.lookup(1, "jane"), net.anvils(1)), ("127.0.2.4".into(), 0));
}

/// However many kicks there are, what has been connected to for long may be the anvil of a Dovecot that is gone.
#[test]
fn a_busy_connection_is_made_anew_after_a_while() {
    let mut net = beside_anvil(KickVia::Auto);
    let kicks: String = (0..90).map(|n| format!("USER-KICK\tu{n}\n")).collect();
    assert_eq!(net.admin(1, &kicks), "OK\n".repeat(90));
    let first = net.anvil_ids(1);
    assert_eq!(first.len(), 4);
    for n in 4..20 {
        net.answer_anvil(1, 0, "1\n");
        assert!(net.hear_anvil(1, 0).ends_with(&format!("KICK-USER\tu{n}\n")));
    }
    assert_eq!(net.anvil_ids(1), first);
    net.pass(secs(5));
    for n in 20..24 {
        let old = net.anvil_ids(1)[0];
        net.answer_anvil(1, 0, "1\n");
        assert!(!net.anvil_ids(1).contains(&old));
        assert_eq!(net.hear_anvil(1, 3), format!("KICK-USER\tu{n}\n"));
    }
}

#[test]
fn anvil_that_does_not_greet_or_greets_as_another_is_no_use() {
    for (greeting, secs_until) in
        [(&b""[..], 10), (b"VERSION\tanvil\t1\t2\n", 0), (b"VERSION\tanvil-server\t3\t0\n", 0)]
    {
        let mut net = Net::start(0);
        net.anvil_greeting = Some(greeting);
        net.start_node(1, via(KickVia::Auto));
        net.run();
        net.lookup(1, "jane");
        net.pass(secs(20));
        assert_eq!(net.admin(1, "USER-MOVE\tjane\t127.0.2.4\n"), "OK\n");
        net.pass(Duration::from_millis(1900));
        assert_eq!(net.lookup(1, "jane"), "", "{}", greeting.escape_ascii());
        // One that does not greet may just be being tried, or is tried anew for this move.
        net.pass(secs(secs_until) + secs(1));
        assert_eq!(net.lookup(1, "jane"), "127.0.2.4", "{}", greeting.escape_ascii());
    }
}

/// A list as anvil gives it, of sessions with these values of `user_director_backend`.
fn list(sessions: &[&str]) -> String {
    let lines = sessions.iter().map(|value| {
        let hash = value.split('/').next().unwrap();
        format!("17\tjane\timap-login\t192.0.2.9\tg\t127.0.2.9\tred\t{hash}\t{value}\n")
    });
    format!("user_team\tuser_director_hash\tuser_director_backend\n{}\n", lines.collect::<String>())
}

/// The kick of a user on a backend.
fn kick_placed(value: &str) -> String {
    format!("KICK-ALT-USER\tuser_director_backend\t{value}")
}

/// All that anvil was asked since the last time, and by which connection.
fn asked(net: &mut Net) -> BTreeMap<String, usize> {
    let mut asked = BTreeMap::new();
    for index in 0..net.anvils(1) {
        asked.extend(net.hear_anvil(1, index).lines().map(|line| (line.to_owned(), index)));
    }
    asked
}

/// anvil is asked for nothing but this, and answers that.
fn expect(net: &mut Net, questions: &[&str], answer: &str) {
    let asked = asked(net);
    assert_eq!(asked.keys().map(String::as_str).collect::<BTreeSet<_>>(), questions.iter().copied().collect());
    // The last one first: a connection that has nothing more to do is closed, and those after it move up.
    let indexes: BTreeSet<_> = asked.into_values().collect();
    for index in indexes.into_iter().rev() {
        net.answer_anvil(1, index, answer);
    }
}

/// USER-KICK-HASH as the ring would say it.
fn kick_hash(net: &mut Net, hash: u32, except: &str) {
    let now = net.now;
    let except = Some(except.parse().unwrap());
    let director = net.nodes.get_mut(&1).unwrap();
    director.kick(&crate::kick::Command::Hash { hash, except }, crate::kick::Purpose::Other, now);
    net.run();
}

#[test]
fn user_kick_hash_spares_the_sessions_on_the_right_backend() {
    let mut net = beside_anvil(KickVia::Auto);
    kick_hash(&mut net, JANE, "127.0.2.2");
    assert_eq!(net.hear_anvil(1, 0), "CONNECT-DUMP\n");
    let answer = list(&[
        "1480892766/127.0.2.1",
        "1480892766/127.0.2.2",
        "1480892766/127.0.2.1",
        "1480892766/fd00::3",
        "7/127.0.2.1",
        "",
        "1480892766/",
        "1480892766x/127.0.2.1",
    ]);
    // However the list is cut into pieces.
    let (first, second) = answer.split_at(70);
    net.answer_anvil(1, 0, first);
    net.answer_anvil(1, 0, second);
    // Those that have ended by themselves meanwhile are none.
    expect(&mut net, &[&kick_placed("1480892766/127.0.2.1"), &kick_placed("1480892766/fd00::3")], "0\n");
    expect(&mut net, &[], "");
}

#[test]
fn one_list_serves_all_that_wait_for_one() {
    let mut net = beside_anvil(KickVia::Auto);
    kick_hash(&mut net, 7, "127.0.2.2");
    for hash in 8..1000 {
        kick_hash(&mut net, hash, "127.0.2.2");
    }
    kick_hash(&mut net, 8, "127.0.2.3");
    assert_eq!(net.admin(1, "USER-KICK\tjane\n"), "OK\n");
    assert_eq!((net.hear_anvil(1, 0), net.hear_anvil(1, 1)), ("CONNECT-DUMP\n".into(), "KICK-USER\tjane\n".into()));
    net.answer_anvil(1, 1, "1\n");
    net.answer_anvil(1, 0, &list(&["7/127.0.2.1", "8/127.0.2.1"]));
    // The others did not ask for the first list.
    let second = asked(&mut net);
    let of_first = kick_placed("7/127.0.2.1");
    assert_eq!(second.keys().collect::<Vec<_>>(), ["CONNECT-DUMP", of_first.as_str()]);
    // Spared by one of the two kicks is not spared.
    net.answer_anvil(1, second["CONNECT-DUMP"], &list(&["8/127.0.2.2", "999/127.0.2.2"]));
    let third = asked(&mut net);
    assert_eq!(third.keys().collect::<Vec<_>>(), [&kick_placed("8/127.0.2.2")]);
    for _ in 0..2 {
        net.answer_anvil(1, 0, "1\n");
    }
    assert_eq!(net.anvils(1), 0, "there is nothing more to do");
}

/// Many thousands of sessions: what is kept of a list is what is to be kicked.
#[test]
fn a_long_list_costs_no_memory_and_a_line_without_end_costs_the_connection() {
    let mut net = beside_anvil(KickVia::Auto);
    kick_hash(&mut net, 7, "127.0.2.2");
    let lines: String =
        (0..500).map(|n| format!("1\tu{n}\timap-login\t::1\tg{n}\t127.0.2.1\t\t{}/127.0.2.1\n", n + 8)).collect();
    net.answer_anvil(1, 0, "user_team\tuser_director_backend\n");
    for _ in 0..100 {
        net.answer_anvil(1, 0, &lines);
        net.pass(secs(1));
    }
    assert!(format!("{:?}", net.nodes[&1].kicks).len() < 1000, "{:?}", net.nodes[&1].kicks);
    assert_eq!(net.hear_anvil(1, 0), "CONNECT-DUMP\n");
    net.answer_anvil(1, 0, "1\tu\timap-login\t::1\tg\t127.0.2.1\t\t7/127.0.2.1\n\n");
    expect(&mut net, &[&kick_placed("7/127.0.2.1")], "1\n");

    kick_hash(&mut net, 7, "127.0.2.2");
    net.answer_anvil(1, 0, &"x".repeat(40_000));
    assert_eq!(net.anvils(1), 0);
    // Nothing hangs from it.
    kick_hash(&mut net, 7, "127.0.2.2");
    expect(&mut net, &["CONNECT-DUMP"], "\n\n");
}

#[test]
fn lists_that_break_off_or_are_none_end_the_connection_and_nothing_else() {
    let names = "user_director_backend\n";
    for line in ["17\tjane\n", "17\tjane\timap-login\t::1\tg\t127.0.2.1\t7/127.0.2.1\n"] {
        let answer = &format!("{names}{line}");
        let mut net = beside_anvil(KickVia::Auto);
        kick_hash(&mut net, 7, "127.0.2.2");
        net.answer_anvil(1, 0, answer);
        // It never ends.
        net.pass(secs(11));
        assert_eq!(net.admin(1, "USER-KICK\tjane\n"), "OK\n");
        let last = net.anvils(1) - 1;
        assert!(net.hear_anvil(1, last).contains("KICK-USER\tjane\n"), "{answer}");
        net.answer_anvil(1, last, "1\n");
    }
}

/// Dovecot restarts in the middle of it: what had been asked has failed, what waits is asked of the next.
#[test]
fn kicks_that_wait_outlive_a_restart_of_dovecot() {
    let mut net = beside_anvil(KickVia::Auto);
    let kicks: String = (0..6).map(|n| format!("USER-KICK\tu{n}\n")).collect();
    assert_eq!(net.admin(1, &kicks), "OK\n".repeat(6));
    assert_eq!(net.anvils(1), 4);
    for _ in 0..3 {
        net.close_anvil(1, 0);
    }
    net.close_anvil(1, 0);
    let heard: String = (0..net.anvils(1)).map(|index| net.hear_anvil(1, index)).collect();
    assert_eq!(heard, "KICK-USER\tu4\nKICK-USER\tu5\n");
}

#[test]
fn the_setting_can_change_while_kicks_are_under_way() {
    let mut net = beside_anvil(KickVia::Anvil);
    move_jane(&mut net);
    assert_eq!(net.admin(1, "USER-KICK\tjoe\n"), "OK\n");
    net.ipc_answer = Some(b"+0\n");
    net.handle(1, Event::Reload(Box::new(via(KickVia::Ipc))));
    net.run();
    assert_eq!(net.anvils(1), 0);
    net.pass(secs(3));
    assert_eq!(reply_to_jane(&mut net), PLAIN.replace("127.0.2.1", "127.0.2.4"));
    net.handle(1, Event::Reload(Box::new(via(KickVia::Anvil))));
    net.run();
    assert_eq!(net.admin(1, "USER-KICK\tjoe\n"), "OK\n");
    assert_eq!(net.hear_anvil(1, 0), "KICK-USER\tjoe\n");
}

#[test]
fn a_director_that_ends_does_not_look_for_anvil() {
    let mut net = beside_anvil(KickVia::Auto);
    let kicks: String = (0..6).map(|n| format!("USER-KICK\tu{n}\n")).collect();
    net.admin(1, &kicks);
    kick_hash(&mut net, 7, "127.0.2.2");
    net.handle(1, Event::Shutdown);
    net.run();
    assert!(net.nodes[&1].is_finished());
    assert_eq!(net.anvils(1), 0);
}

/// Whatever anvil says, nothing panics, and kicks go on as soon as it is itself again.
#[test]
fn no_answer_panics_or_holds_up_later_kicks() {
    const GOOD: [&str; 6] = [
        "1\n",
        "0\n",
        "\n",
        "user_director_backend\n",
        "17\tjane\timap-login\t::1\tg\t127.0.2.1\t1480892766/127.0.2.1\n",
        "VERSION\tanvil-server\t2\t0\n",
    ];
    fn survives(answers: Vec<(u8, String)>) -> bool {
        let mut net = beside_anvil(KickVia::Auto);
        for (choice, text) in answers {
            kick_hash(&mut net, JANE, "127.0.2.2");
            net.admin(1, "USER-KICK\tjoe\n");
            let answer = GOOD.get(usize::from(choice % 8)).map_or(text, |good| (*good).to_owned());
            for index in (0..net.anvils(1)).rev() {
                if index < net.anvils(1) {
                    net.answer_anvil(1, index, &answer);
                }
            }
        }
        // Those that were never answered are given up.
        net.pass(secs(120));
        net.admin(1, "USER-KICK\tlast\n") == "OK\n"
            && (0..net.anvils(1)).any(|index| net.hear_anvil(1, index).contains("KICK-USER\tlast\n"))
    }
    QuickCheck::new().rng(Gen::new(30)).tests(200).quickcheck(survives as fn(Vec<(u8, String)>) -> bool);
}
