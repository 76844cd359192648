#![expect(clippy::needless_pass_by_value, reason = "quickcheck hands its arguments over")]

use quickcheck::{Arbitrary, Gen, QuickCheck};

use super::super::testing::{self, Damage, Text, assert_printable};
use super::*;

#[derive(Clone, Debug)]
struct AnyCommand(Command<'static>);

/// One command of each kind.
fn all_kinds(g: &mut Gen) -> Vec<Command<'static>> {
    let ip = IpAddr::arbitrary(g);
    let port = Option::<u16>::arbitrary(g).map(|port| port.max(1));
    let nowait = bool::arbitrary(g);
    let text = testing::text;
    vec![
        Command::HostList,
        Command::HostListRemoved,
        Command::DirectorList,
        Command::DirectorAdd { ip, port },
        Command::DirectorRemove { ip, port },
        Command::HostSet { ip, tag: bool::arbitrary(g).then(|| text(g)), vhosts: Option::arbitrary(g) },
        Command::HostUpdate { ip, vhosts: testing::number(g) },
        Command::HostUp { ip },
        Command::HostDown { ip },
        Command::HostRemove { ip },
        Command::HostFlush { ip: Option::arbitrary(g) },
        Command::HostResetUsers { ip: Option::arbitrary(g), max_parallel: Option::arbitrary(g) },
        Command::UserLookup { user: text(g), tag: text(g) },
        Command::UserList { ip: Option::arbitrary(g) },
        Command::UserMove { user: text(g), ip },
        Command::UserKick { username: text(g), nowait },
        Command::UserKickAlt { field: text(g), value: text(g), nowait },
    ]
}

impl Arbitrary for AnyCommand {
    fn arbitrary(g: &mut Gen) -> Self {
        let all = all_kinds(g);
        Self(g.choose(&all).expect("not empty").clone())
    }
}

fn printed(command: &Command<'_>) -> Vec<u8> {
    let mut out = Vec::new();
    command.write(&mut out);
    assert_eq!(out.pop(), Some(b'\n'));
    assert!(!out.contains(&b'\n'));
    out
}

#[test]
fn commands_round_trip() {
    let mut g = Gen::new(100);
    for _ in 0..200 {
        for command in all_kinds(&mut g) {
            assert_eq!(Command::parse(&printed(&command)).as_ref(), Ok(&command));
        }
    }
}

/// Every command as `doveadm` 2.3 sends it.
#[test]
fn commands_of_the_original_client() {
    let ip = IpAddr::from([127, 0, 2, 9]);
    let director = IpAddr::from([127, 0, 1, 9]);
    let text = |text: &'static str| Cow::Borrowed(text.as_bytes());
    for (line, expected) in [
        ("HOST-LIST", Command::HostList),
        ("HOST-LIST-REMOVED", Command::HostListRemoved),
        ("DIRECTOR-LIST", Command::DirectorList),
        ("DIRECTOR-ADD\t127.0.1.9", Command::DirectorAdd { ip: director, port: None }),
        ("DIRECTOR-ADD\t127.0.1.9\t77", Command::DirectorAdd { ip: director, port: Some(77) }),
        ("DIRECTOR-REMOVE\t127.0.1.9", Command::DirectorRemove { ip: director, port: None }),
        ("HOST-SET\t127.0.2.9", Command::HostSet { ip, tag: None, vhosts: None }),
        ("HOST-SET\t127.0.2.9\t50", Command::HostSet { ip, tag: None, vhosts: Some(50) }),
        ("HOST-SET\t127.0.2.9@tg", Command::HostSet { ip, tag: Some(text("tg")), vhosts: None }),
        ("HOST-SET\t127.0.2.9@tg\t50", Command::HostSet { ip, tag: Some(text("tg")), vhosts: Some(50) }),
        ("HOST-UPDATE\t127.0.2.9\t5", Command::HostUpdate { ip, vhosts: 5 }),
        ("HOST-UP\t127.0.2.9", Command::HostUp { ip }),
        ("HOST-DOWN\t127.0.2.9", Command::HostDown { ip }),
        ("HOST-REMOVE\t127.0.2.9", Command::HostRemove { ip }),
        ("HOST-FLUSH", Command::HostFlush { ip: None }),
        ("HOST-FLUSH\t127.0.2.9", Command::HostFlush { ip: Some(ip) }),
        ("HOST-RESET-USERS", Command::HostResetUsers { ip: None, max_parallel: None }),
        ("HOST-RESET-USERS\t\t7", Command::HostResetUsers { ip: None, max_parallel: Some(7) }),
        ("HOST-RESET-USERS\t127.0.2.9", Command::HostResetUsers { ip: Some(ip), max_parallel: None }),
        ("HOST-RESET-USERS\t127.0.2.9\t7", Command::HostResetUsers { ip: Some(ip), max_parallel: Some(7) }),
        ("USER-LOOKUP\tjane", Command::UserLookup { user: text("jane"), tag: text("") }),
        ("USER-LOOKUP\tjane\ttg", Command::UserLookup { user: text("jane"), tag: text("tg") }),
        ("USER-LIST", Command::UserList { ip: None }),
        ("USER-LIST\t127.0.2.9", Command::UserList { ip: Some(ip) }),
        ("USER-MOVE\t1480892766\t127.0.2.9", Command::UserMove { user: text("1480892766"), ip }),
        ("USER-KICK\tjane", Command::UserKick { username: text("jane"), nowait: false }),
        ("USER-KICK\tjane\tnowait", Command::UserKick { username: text("jane"), nowait: true }),
        (
            "USER-KICK-ALT\tuser_x\tjane",
            Command::UserKickAlt { field: text("user_x"), value: text("jane"), nowait: false },
        ),
    ] {
        assert_eq!(Command::parse(line.as_bytes()).as_ref(), Ok(&expected), "{line}");
        assert_eq!(printed(&expected), line.as_bytes());
    }
}

#[test]
fn other_spellings_of_a_command() {
    let nobody = Command::UserLookup { user: Cow::Borrowed(b""), tag: Cow::Borrowed(b"") };
    assert_eq!(Command::parse(b"USER-LOOKUP"), Ok(nobody.clone()));
    assert_eq!(Command::parse(b"USER-LOOKUP\t\t"), Ok(nobody));
    assert_eq!(Command::parse(b"USER-LIST\t"), Ok(Command::UserList { ip: None }));
    assert_eq!(Command::parse(b"HOST-LIST\tof the future"), Ok(Command::HostList));
    assert_eq!(
        Command::parse(b"HOST-SET\tfd00::1@a@b"),
        Ok(Command::HostSet {
            ip: [0xfd00, 0, 0, 0, 0, 0, 0, 1].into(),
            tag: Some(Cow::Borrowed(b"a@b")),
            vhosts: None
        })
    );
}

#[test]
fn bad_commands_say_what_is_wrong() {
    for (line, message) in [
        ("", "unknown command \"\""),
        ("FOO\tx", "unknown command \"FOO\""),
        ("host-list", "unknown command \"host-list\""),
        ("HOST-SET", "HOST-SET: missing ip"),
        ("HOST-SET\t127.0.2.1\t", "HOST-SET: invalid vhosts \"\""),
        ("HOST-SET\t127.0.2.1\t+5", "HOST-SET: invalid vhosts \"+5\""),
        ("HOST-SET\t@tag", "HOST-SET: invalid ip \"@tag\""),
        ("HOST-UPDATE\t127.0.2.1", "HOST-UPDATE: missing vhosts"),
        ("HOST-UPDATE\t127.0.2.1\t4294967296", "HOST-UPDATE: invalid vhosts \"4294967296\""),
        ("HOST-FLUSH\t", "HOST-FLUSH: invalid ip \"\""),
        ("HOST-UP\t[::1]", "HOST-UP: invalid ip \"[::1]\""),
        ("DIRECTOR-ADD\t127.0.1.1\t0", "DIRECTOR-ADD: invalid port \"0\""),
        ("DIRECTOR-ADD\t127.0.1.1\t", "DIRECTOR-ADD: invalid port \"\""),
        ("USER-MOVE\tjane", "USER-MOVE: missing ip"),
        ("USER-MOVE\tja\tne\t127.0.2.1", "USER-MOVE: invalid ip \"ne\""),
        ("USER-KICK", "USER-KICK: missing name"),
        ("USER-KICK\tja\tne", "USER-KICK: invalid nowait \"ne\""),
        ("USER-KICK-ALT\tuser_x", "USER-KICK-ALT: missing value"),
    ] {
        let error = Command::parse(line.as_bytes()).expect_err(line);
        assert_eq!(error.to_string(), message);
    }
}

#[test]
fn hostile_lines_never_panic_and_mean_one_thing() {
    fn holds(command: AnyCommand, damage: Damage, noise: Text) -> bool {
        [damage.done_to(printed(&command.0)), noise.0].iter().all(|line| match Command::parse(line) {
            Ok(command) => Command::parse(&printed(&command)) == Ok(command),
            Err(error) => {
                assert_printable(&error);
                true
            }
        })
    }
    QuickCheck::new().tests(1000).quickcheck(holds as fn(AnyCommand, Damage, Text) -> bool);
    assert_printable(&Command::parse(&[0x1b; 5000]).expect_err("no command"));
}

#[test]
fn our_version_line_is_acceptable() {
    assert!(is_version_line(&VERSION_LINE[..VERSION_LINE.len() - 1]));
    assert!(!is_version_line(b"VERSION\tdirector-authreply-client\t1\t0"));
    assert!(!is_version_line(b"VERSION\tdirector-doveadm\t2\t0"));
}
