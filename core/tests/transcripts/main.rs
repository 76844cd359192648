//! Recorded rings of Dovecot's directors, with a core of ours in the place of each of them: given what that one read, it
//! must say what that one said. `README.md` beside this file tells what the recordings are, [`compare`] which differences
//! are allowed.

mod compare;
mod player;
mod recording;

use player::{Before, Local, Player};

const HOSTS: &[&str] = &[
    "HOST\t127.0.2.1\t100\t\tU0\t",
    "HOST\t127.0.2.2\t100\t\tU0\t",
    "HOST\t127.0.2.3\t100\t\tU0\t",
    "HOST\t127.0.2.4\t100\t\tU0\t",
    "HOST\t127.0.2.5\t100\t\tU0\t",
];

/// What happened beside the directors of a recording: to whom, after how many milliseconds, what.
type Event<'a> = (u8, f64, Local<'a>);

fn looked_up<'a>(director: u8, millis: f64, asked: &'a str, answer: &'a str) -> Event<'a> {
    (director, millis, Local::Lookup(asked, answer))
}

fn ordered<'a>(director: u8, millis: f64, command: &'a str, answer: &'a str) -> Event<'a> {
    (director, millis, Local::Admin(command, answer))
}

/// Plays a recording for each of its directors. `before`: the ring that they were in, or `None` if it began with them;
/// director 3 of the ring that loses it starts within the recording.
fn replay(text: &str, before: &Before<'_>, fresh: &[u8], beside: &[Event<'_>], end_millis: u64) {
    let entries = recording::parse(text);
    let mut failures = Vec::new();
    for director in 1..=3 {
        let mut player = Player::new(director, before);
        if !fresh.contains(&director) {
            player.join(before);
        }
        let locals: Vec<(f64, Local<'_>)> =
            beside.iter().filter(|(whose, ..)| *whose == director).map(|&(_, millis, local)| (millis, local)).collect();
        assert!(entries.iter().any(|entry| entry.director == director), "director {director} is not in the recording");
        let (conduct, wrong) = player.play(&entries, &locals, end_millis);
        let differences = compare::differences(director, fresh.contains(&director), &entries, &conduct);
        failures.extend(wrong.into_iter().chain(differences).map(|what| format!("director {director}: {what}")));
    }
    assert!(failures.is_empty(), "\n{}", failures.join("\n"));
}

macro_rules! recording {
    ($name:literal) => {
        include_str!(concat!("recordings/", $name, ".txt"))
    };
}

#[test]
fn a_ring_starts() {
    let before = Before { start_secs: 1_795_309_353, expire_secs: 60, hosts: &[], users: &[] };
    replay(recording!("01-ring-start"), &before, &[1, 2, 3], &[], 100);
}

#[test]
fn users_are_looked_up() {
    const JANE: &str = "OK\t1\tuser=jane\tproxy";
    const JANE_ANSWER: &str = "OK\t1\tuser=jane\tproxy\tproxy_refresh=30\thost=127.0.2.1";
    let before = Before { start_secs: 1_795_309_356, expire_secs: 60, hosts: HOSTS, users: &[] };
    let beside = [
        looked_up(1, 0.0, JANE, JANE_ANSWER),
        looked_up(
            1,
            0.2,
            "OK\t2\tuser=joe@example.com\tproxy",
            "OK\t2\tuser=joe@example.com\tproxy\tproxy_refresh=30\thost=127.0.2.3",
        ),
        looked_up(2, 0.7, JANE, JANE_ANSWER),
        looked_up(2, 1101.5, JANE, JANE_ANSWER),
    ];
    replay(recording!("03-lookups"), &before, &[], &beside, 3000);
}

#[test]
fn replies_are_answered_by_their_fields() {
    let before = Before { start_secs: 1_795_309_870, expire_secs: 15, hosts: HOSTS, users: &[] };
    // Questions and answers stand in the recording, one after the other.
    let text = recording!("04-authreply");
    let dialogue = text.lines().skip_while(|line| !line.starts_with("-> ")).take_while(|line| !line.is_empty());
    let dialogue: Vec<String> = dialogue.map(|line| line[3..].replace("\\t", "\t")).collect();
    assert_eq!(dialogue.len(), 30);
    let beside: Vec<Event<'_>> = dialogue.chunks(2).map(|pair| looked_up(1, 0.0, &pair[0], &pair[1])).collect();
    replay(recording!("04-authreply"), &before, &[], &beside, 3000);
}

#[test]
fn a_backend_gets_another_weight() {
    let before = Before {
        start_secs: 1_795_309_360,
        expire_secs: 60,
        hosts: HOSTS,
        users: &["U\t1480892766\t127.0.2.1\t1795309358", "U\t4122540896\t127.0.2.3\t1795309356"],
    };
    let beside = [ordered(2, 0.0, "HOST-UPDATE\t127.0.2.2\t50", "OK")];
    replay(recording!("06-host-update"), &before, &[], &beside, 3000);
}

#[test]
fn a_backend_is_added_with_a_tag() {
    let before = Before {
        start_secs: 1_795_309_361,
        expire_secs: 60,
        hosts: &[HOSTS[0], "HOST\t127.0.2.2\t50\t\tU0\t", HOSTS[2], HOSTS[3], HOSTS[4]],
        users: &["U\t1480892766\t127.0.2.1\t1795309358", "U\t4122540896\t127.0.2.3\t1795309356"],
    };
    let beside = [
        ordered(1, 0.0, "HOST-SET\t127.0.2.77@blue\t150", "OK"),
        looked_up(
            2,
            21.4,
            "OK\t1\tuser=jane\tproxy\tdirector_tag=blue",
            "OK\t1\tuser=jane\tproxy\tdirector_tag=blue\tproxy_refresh=30\thost=127.0.2.77",
        ),
        ordered(1, 50.0, "HOST-SET\t127.0.2.77@red", "host tag can't be changed"),
    ];
    replay(recording!("07-host-add"), &before, &[], &beside, 3000);
}

/// The backends after those changes.
const TAGGED_HOSTS: &[&str] = &[
    HOSTS[0],
    "HOST\t127.0.2.2\t50\t\tU1795309363\t",
    HOSTS[2],
    HOSTS[3],
    HOSTS[4],
    "HOST\t127.0.2.77\t150\tblue\tU0\t",
];
const JANE_IS_BLUE_TOO: &str = "U\t1480892766\t127.0.2.77\t1795309361";

#[test]
fn a_user_is_moved() {
    let before = Before {
        start_secs: 1_795_309_363,
        expire_secs: 60,
        hosts: TAGGED_HOSTS,
        users: &["U\t1480892766\t127.0.2.1\t1795309358", JANE_IS_BLUE_TOO],
    };
    let beside = [
        ordered(1, 0.0, "USER-MOVE\t1480892766\t127.0.2.4", "OK"),
        ordered(1, 20.0, "USER-MOVE\t1480892766\t127.0.2.5", "TRYAGAIN"),
        ordered(2, 20.0, "USER-LOOKUP\tjane", "127.0.2.4\t1795309423\t127.0.2.1\t127.0.2.1"),
    ];
    replay(recording!("09-move"), &before, &[], &beside, 3000);
}

#[test]
fn a_lookup_waits_for_a_move() {
    let before = Before {
        start_secs: 1_795_309_367,
        expire_secs: 60,
        hosts: TAGGED_HOSTS,
        users: &["U\t1480892766\t127.0.2.4\t1795309363", JANE_IS_BLUE_TOO],
    };
    let beside = [
        ordered(1, 0.0, "USER-MOVE\t1480892766\t127.0.2.1", "OK"),
        looked_up(2, 1.5, "OK\t1\tuser=jane\tproxy", "OK\t1\tuser=jane\tproxy\tproxy_refresh=30\thost=127.0.2.1"),
    ];
    replay(recording!("10-move-pending-lookup"), &before, &[], &beside, 3000);
}

#[test]
fn sessions_are_kicked() {
    let before = Before { start_secs: 1_795_309_370, expire_secs: 60, hosts: TAGGED_HOSTS, users: &[] };
    let beside = [ordered(1, 0.0, "USER-KICK\tjane", "OK"), ordered(2, 13.5, "USER-KICK-ALT\tuser_alt\tx*y", "OK")];
    replay(recording!("11-kick"), &before, &[], &beside, 3000);
}

#[test]
fn the_users_of_a_backend_are_moved() {
    let before = Before {
        start_secs: 1_795_309_373,
        expire_secs: 60,
        hosts: TAGGED_HOSTS,
        users: &[
            "U\t4122540896\t127.0.2.3\t1795309356",
            "U\t116422158\t127.0.2.5\t1795309358",
            "U\t1480892766\t127.0.2.1\t1795309369",
            JANE_IS_BLUE_TOO,
        ],
    };
    // When each logged in, and to which backend.
    let logins = [
        (0.0, 3),
        (0.1, 3),
        (0.1, 5),
        (0.2, 4),
        (0.2, 2),
        (0.3, 2),
        (0.6, 4),
        (0.6, 2),
        (0.8, 5),
        (0.9, 5),
        (1.1, 1),
        (1.2, 4),
        (1.2, 3),
        (1.3, 3),
        (1.3, 1),
        (1.5, 1),
        (1.6, 3),
        (1.6, 1),
        (1.7, 2),
        (1.7, 3),
    ];
    let lines: Vec<(f64, String, String)> = logins
        .iter()
        .enumerate()
        .map(|(n, (millis, host))| {
            let asked = format!("OK\t{n}\tuser=u{n}\tproxy");
            let answer = format!("{asked}\tproxy_refresh=30\thost=127.0.2.{host}");
            (*millis, asked, answer)
        })
        .collect();
    let mut beside: Vec<Event<'_>> =
        lines.iter().map(|(millis, asked, answer)| looked_up(1, *millis, asked, answer)).collect();
    beside.push(ordered(1, 20.1, "HOST-UPDATE\t127.0.2.3\t0", "OK"));
    beside.push(ordered(1, 37.2, "HOST-RESET-USERS\t127.0.2.3", "OK"));
    replay(recording!("12-flush-move"), &before, &[], &beside, 4000);
}

#[test]
fn a_backend_is_removed() {
    let before = Before {
        start_secs: 1_795_309_378,
        expire_secs: 60,
        hosts: &[TAGGED_HOSTS[0], TAGGED_HOSTS[1], "HOST\t127.0.2.3\t0\t\tU0\t", HOSTS[3], HOSTS[4], TAGGED_HOSTS[5]],
        users: &["U\t116422158\t127.0.2.5\t1795309358", JANE_IS_BLUE_TOO],
    };
    let beside =
        [ordered(3, 0.0, "HOST-REMOVE\t127.0.2.3", "OK"), ordered(1, 50.0, "HOST-REMOVE\t127.0.2.3", "NOTFOUND")];
    replay(recording!("14-host-remove"), &before, &[], &beside, 3000);
}

#[test]
fn a_director_dies_and_comes_back() {
    let before = Before {
        start_secs: 1_795_309_381,
        expire_secs: 60,
        hosts: &[TAGGED_HOSTS[0], TAGGED_HOSTS[1], HOSTS[3], HOSTS[4], TAGGED_HOSTS[5]],
        users: &[
            "U\t4122540896\t127.0.2.5\t1795309373",
            "U\t116422158\t127.0.2.5\t1795309358",
            "U\t1043549829\t127.0.2.5\t1795309373",
            "U\t3833023709\t127.0.2.4\t1795309373",
            "U\t655104776\t127.0.2.5\t1795309373",
            "U\t1395293070\t127.0.2.4\t1795309373",
            "U\t2072863485\t127.0.2.2\t1795309373",
            "U\t1292535734\t127.0.2.2\t1795309373",
            "U\t2795518514\t127.0.2.4\t1795309373",
            "U\t1808664031\t127.0.2.2\t1795309373",
            "U\t125014917\t127.0.2.5\t1795309373",
            "U\t1418077599\t127.0.2.5\t1795309373",
            "U\t2764791024\t127.0.2.4\t1795309373",
            "U\t3730416769\t127.0.2.5\t1795309373",
            "U\t850270774\t127.0.2.2\t1795309373",
            JANE_IS_BLUE_TOO,
        ],
    };
    let beside = [looked_up(
        1,
        3022.9,
        "OK\t1\tuser=new-user\tproxy",
        "OK\t1\tuser=new-user\tproxy\tproxy_refresh=30\thost=127.0.2.4",
    )];
    replay(recording!("16-director-dies"), &before, &[3], &beside, 4000);
}

#[test]
fn a_user_near_expiry_is_asked_about() {
    const JANE: &str = "OK\t1\tuser=jane\tproxy";
    const JANE_ANSWER: &str = "OK\t1\tuser=jane\tproxy\tproxy_refresh=7\thost=127.0.2.1";
    let before = Before {
        start_secs: 1_795_309_871,
        expire_secs: 15,
        hosts: HOSTS,
        users: &["U\t1480892766\t127.0.2.1\t1795309870"],
    };
    let beside = [
        looked_up(1, 0.0, JANE, JANE_ANSWER),
        ordered(1, 27.1, "HOST-UPDATE\t127.0.2.1\t0", "OK"),
        looked_up(2, 13230.4, JANE, JANE_ANSWER),
    ];
    replay(recording!("17-weak-user"), &before, &[], &beside, 14000);
}

#[test]
fn a_notification_refreshes_a_user() {
    let before = Before {
        start_secs: 1_795_309_884,
        expire_secs: 15,
        hosts: &["HOST\t127.0.2.1\t0\t\tU0\t", HOSTS[1], HOSTS[2], HOSTS[3], HOSTS[4]],
        users: &[],
    };
    let beside = [
        looked_up(
            1,
            0.0,
            "OK\t1\tuser=joe@example.com\tproxy",
            "OK\t1\tuser=joe@example.com\tproxy\tproxy_refresh=7\thost=127.0.2.3",
        ),
        (2, 2000.9, Local::Notify("joe@example.com")),
        (2, 2000.9, Local::Notify("nobody")),
    ];
    replay(recording!("18-notify"), &before, &[], &beside, 3000);
}

#[test]
fn a_lookup_without_a_backend_fails() {
    let before = Before {
        start_secs: 1_795_309_887,
        expire_secs: 15,
        hosts: &["HOST\t127.0.2.1\t0\t\tU0\t", HOSTS[1], HOSTS[2], HOSTS[3], HOSTS[4]],
        users: &[],
    };
    let beside = [
        ordered(1, 0.0, "HOST-UPDATE\t127.0.2.1\t0", "OK"),
        ordered(1, 16.5, "HOST-UPDATE\t127.0.2.2\t0", "OK"),
        ordered(1, 32.9, "HOST-UPDATE\t127.0.2.3\t0", "OK"),
        ordered(1, 48.8, "HOST-UPDATE\t127.0.2.4\t0", "OK"),
        ordered(1, 64.9, "HOST-UPDATE\t127.0.2.5\t0", "OK"),
        looked_up(1, 66.0, "OK\t1\tuser=brand-new\tproxy", "FAIL\t1\tcode=temp_fail"),
    ];
    replay(recording!("19-no-hosts"), &before, &[], &beside, 31_000);
}
