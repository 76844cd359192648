//! The real doveadm prints the same against our ring as against the original's, in the same state.

use std::fs;
use std::sync::Arc;

use director_tests::Kind::{Dovecot, Ours};
use director_tests::process::Outcome;
use director_tests::{Lab, Need, Ring, predict};

/// What is done to both rings, in this order: which director, and the arguments.
const COMMANDS: &[(usize, &[&str])] = &[
    (0, &["director", "status"]),
    (0, &["-f", "tab", "director", "ring", "status"]),
    (1, &["-f", "tab", "director", "ring", "status"]),
    (0, &["director", "dump"]),
    (0, &["director", "status", "jane"]),
    (0, &["director", "status", "jane", "nosuchtag"]),
    (0, &["director", "map", "-f", "USERS"]),
    // Lookups come between: see `LOOKUPS_AFTER`.
    (0, &["director", "status", "jane"]),
    (1, &["director", "status", "JANE"]),
    (2, &["director", "status", "unknown@example.org"]),
    (2, &["director", "status", "jane", "blue"]),
    (0, &["-f", "tab", "director", "status"]),
    (1, &["director", "map", "-f", "USERS"]),
    (2, &["director", "map", "-f", "USERS", "10.1.2.1"]),
    (0, &["director", "map", "-f", "USERS", "-h", "1480892766"]),
    (0, &["director", "map", "-f", "USERS", "-h", "1"]),
    (0, &["director", "map", "-u", "jane"]),
    (0, &["-v", "director", "add", "10.1.2.9"]),
    (1, &["-v", "director", "add", "10.1.2.9", "50"]),
    (2, &["-v", "director", "add", "-t", "green", "10.1.4.1"]),
    (0, &["-v", "director", "add", "10.1.4.2@green", "20"]),
    (0, &["-v", "director", "add", "-t", "other", "10.1.4.2"]),
    (0, &["-v", "director", "add", "2001:db8::9@v6"]),
    (0, &["director", "add", "10.1.2.10", "1001"]),
    (0, &["director", "add", "10.1.2.10", "1000"]),
    (0, &["director", "add", "10.1.2.11", "-1"]),
    (0, &["director", "add", "17"]),
    (0, &["director", "add"]),
    (0, &["-v", "director", "update", "10.1.2.9", "60"]),
    (0, &["director", "update", "10.1.2.9", "1001"]),
    (0, &["director", "update", "10.9.9.9", "1"]),
    (0, &["director", "update", "10.1.2.9"]),
    (1, &["-v", "director", "down", "10.1.2.9"]),
    (1, &["-v", "director", "down", "10.1.2.9"]),
    (2, &["director", "status"]),
    (2, &["director", "dump"]),
    (2, &["-v", "director", "up", "10.1.2.9"]),
    (2, &["-v", "director", "up", "10.1.2.9"]),
    (0, &["director", "up", "10.9.9.9"]),
    (0, &["director", "down", "10.9.9.9"]),
    (0, &["-f", "tab", "director", "status"]),
    (0, &["-v", "director", "remove", "10.1.2.9"]),
    (0, &["-v", "director", "remove", "10.1.2.9"]),
    (1, &["-v", "director", "remove", "10.1.2.2"]),
    (0, &["director", "dump"]),
    (1, &["-v", "director", "add", "10.1.2.2"]),
    (1, &["-v", "director", "update", "10.1.2.1", "0"]),
    (0, &["-v", "director", "flush", "10.1.2.1"]),
    (0, &["-v", "director", "flush", "10.9.9.9"]),
    (2, &["-v", "director", "flush", "-F", "10.1.4.1"]),
    (0, &["-v", "director", "flush", "--max-parallel", "2", "10.1.2.1"]),
    (2, &["-f", "tab", "director", "status"]),
    (0, &["-v", "director", "move", "mover", "10.1.2.3"]),
    (0, &["director", "status", "mover"]),
    (0, &["director", "move", "mover", "10.9.9.9"]),
    (0, &["-v", "director", "move", "12345", "10.1.2.3"]),
    (0, &["-v", "director", "kick", "mover"]),
    (0, &["-v", "director", "kick", "-f", "user_alt", "x*y"]),
    (0, &["-v", "director", "flush", "all"]),
    (2, &["-v", "director", "flush", "-F", "all"]),
    (1, &["-f", "tab", "director", "status"]),
    (1, &["director", "map", "-f", "USERS"]),
    (0, &["-v", "director", "ring", "add", "RING8"]),
    (0, &["-v", "director", "ring", "add", "RING8"]),
    (1, &["-v", "director", "ring", "add", "RING9", "9999"]),
    (0, &["-f", "tab", "director", "ring", "status"]),
    (2, &["-v", "director", "ring", "remove", "RING8"]),
    (2, &["-v", "director", "ring", "remove", "RING9", "9999"]),
    (2, &["-v", "director", "ring", "remove", "RING9"]),
    (2, &["-f", "tab", "director", "ring", "status"]),
    (0, &["director", "status", "-a", "TCP"]),
    (0, &["director", "ring", "nonsense"]),
];

/// After this many commands the users log in.
const LOOKUPS_AFTER: usize = 7;

#[test]
fn prints_the_same() {
    let needs = [Need::Dovecot, Need::Director];
    let Some(theirs) = Lab::new("doveadm::prints_the_same (theirs)", &needs) else { return };
    let Some(ours) = Lab::new("doveadm::prints_the_same (ours)", &needs) else { return };
    let rings = [(theirs, Dovecot), (ours, Ours)].map(|(lab, kind)| {
        let mut plan = Ring::plan(&lab, 3);
        plan.mail_servers += " 10.1.3.1@blue 2001:db8::1@v6";
        plan.settings = "director_user_kick_delay = 1s".into();
        plan.user_expire_secs = 3600;
        // One after the other from the last, so that who failed to reach whom is not a matter of luck.
        let mut ring = Ring::prepare(&lab, &[kind; 3], &plan);
        for index in [2, 1, 0] {
            ring.member_mut(index).start();
            ring.wait_until_up();
            ring.wait_synced();
        }
        fs::write(lab.folder().join("users"), "jane\nJoe@Example.com\nnobody\nmover\n").expect("users");
        (lab, ring)
    });
    let mut different = Vec::new();
    for (number, (director, args)) in COMMANDS.iter().enumerate() {
        if number == LOOKUPS_AFTER {
            for (_, ring) in &rings {
                for user in ["jane", "joe@example.com", "stranger", "mover"] {
                    ring.lookup(0, user, "");
                    ring.wait_known(user, "", predict::backend(user, &five()));
                }
                ring.lookup(1, "jane", "blue");
                ring.wait_same_users();
            }
        }
        let printed = rings.each_ref().map(|(lab, ring)| {
            let args: Vec<String> = args.iter().map(|arg| fill_in(arg, lab, ring)).collect();
            let args: Vec<&str> = args.iter().map(String::as_str).collect();
            let outcome = ring.member(*director).doveadm_plain(&args);
            ring.wait_same_users();
            comparable(&outcome, lab, args.contains(&"ring") && args.contains(&"status"))
        });
        if printed[0] != printed[1] {
            let [theirs, ours] = printed;
            different.push(format!("{args:?} on director {}\ntheirs: {theirs}\nours:   {ours}", director + 1));
        }
    }
    assert!(different.is_empty(), "{} commands differ:\n{}", different.len(), different.join("\n\n"));
}

fn five() -> Vec<std::net::IpAddr> {
    (1..=5).map(|last| std::net::IpAddr::from([10, 1, 2, last])).collect()
}

fn fill_in(arg: &str, lab: &Arc<Lab>, ring: &Ring) -> String {
    match arg {
        "USERS" => lab.folder().join("users").display().to_string(),
        "RING8" => lab.ip(8).to_string(),
        "RING9" => lab.ip(9).to_string(),
        "TCP" => ring.member(0).address(director_tests::director::ADMIN_PORT).to_string(),
        other => other.into(),
    }
}

/// An outcome without what depends on the time, the traffic or the lab.
fn comparable(outcome: &Outcome, lab: &Arc<Lab>, ring_status: bool) -> String {
    let network = lab.ip(0).to_string();
    let network = network.strip_suffix('0').expect("a network");
    let clean = |text: &str| {
        text.lines()
            .map(|line| {
                let line = line.replace(network, "127.0.0.").replace(&lab.folder().display().to_string(), "FOLDER");
                if ring_status {
                    // ping ms, input, output, buffered, buffered peak: what they are depends on the moment.
                    let mut cells: Vec<&str> = line.split('\t').collect();
                    for cell in cells.iter_mut().skip(5).filter(|cell| cell.parse::<u64>().is_ok()) {
                        *cell = "N";
                    }
                    return without_times(&cells.join("\t"));
                }
                // doveadm's tables are as wide as their widest cell, which may be a time or an address of the lab.
                let words: Vec<&str> = line.split_whitespace().collect();
                without_times(&words.join(" "))
            })
            .collect::<Vec<_>>()
            .join("\n        ")
    };
    format!("exit {:?}\n        {}\n        {}", outcome.code, clean(&outcome.stdout), clean(&outcome.stderr))
}

/// `2026-11-22 02:38:17` becomes `TIME`.
fn without_times(line: &str) -> String {
    const SHAPE: &[u8] = b"0000-00-00 00:00:00";
    let mut bytes = line.as_bytes().to_vec();
    let is_time = |window: &[u8]| {
        window.iter().zip(SHAPE).all(|(byte, shape)| if *shape == b'0' { byte.is_ascii_digit() } else { byte == shape })
    };
    while let Some(start) = bytes.windows(SHAPE.len()).position(is_time) {
        bytes.splice(start..start + SHAPE.len(), *b"TIME");
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
