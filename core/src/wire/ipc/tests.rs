#![expect(clippy::needless_pass_by_value, reason = "quickcheck hands its arguments over")]

use quickcheck::{Arbitrary, Gen, quickcheck};

use super::super::testing::{self, Damage, Text};
use super::*;

#[derive(Clone, Debug)]
struct AnyCommand(Command<'static>);

impl Arbitrary for AnyCommand {
    fn arbitrary(g: &mut Gen) -> Self {
        Self(match u8::arbitrary(g) % 3 {
            0 => Command::User { username: testing::text(g) },
            1 => Command::Alt { field: testing::text(g), value: testing::text(g) },
            _ => Command::Hash { hash: testing::hash(g), except: Option::arbitrary(g) },
        })
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
    fn holds(command: AnyCommand) -> bool {
        Command::parse(&printed(&command.0)) == Some(command.0)
    }
    quickcheck(holds as fn(AnyCommand) -> bool);
}

#[test]
fn commands_look_as_the_ipc_socket_wants_them() {
    let line = |command: Command<'_>| String::from_utf8(printed(&command)).expect("ASCII");
    assert_eq!(line(Command::User { username: b"j\tane"[..].into() }), "proxy\t*\tKICK\tj\x01tane");
    assert_eq!(
        line(Command::Alt { field: b"user_alt"[..].into(), value: b"x*y"[..].into() }),
        "proxy\t*\tKICK-ALT\tuser_alt\tx*y"
    );
    assert_eq!(line(Command::Hash { hash: 7, except: None }), "proxy\t*\tKICK-DIRECTOR-HASH\t7");
    assert_eq!(
        line(Command::Hash { hash: 7, except: Some([127, 0, 2, 1].into()) }),
        "proxy\t*\tKICK-DIRECTOR-HASH\t7\t127.0.2.1"
    );
}

#[test]
fn other_commands_are_none() {
    for line in [
        "",
        "proxy",
        "proxy\t*",
        "proxy\t*\tKICK",
        "proxy\t*\tKICK\tjane\tjoe",
        "proxy\t*\tLIST",
        "proxy\t5\tKICK\tjane",
        "imap\t*\tKICK\tjane",
        "proxy\t*\tKICK-ALT\tfield",
        "proxy\t*\tKICK-DIRECTOR-HASH\t0",
        "proxy\t*\tKICK-DIRECTOR-HASH\t7\t",
    ] {
        assert_eq!(Command::parse(line.as_bytes()), None, "{line}");
    }
}

#[test]
fn damaged_commands_never_panic_and_mean_one_thing() {
    fn holds(command: AnyCommand, damage: Damage) -> bool {
        let line = damage.done_to(printed(&command.0));
        match Command::parse(&line) {
            Some(command) => Command::parse(&printed(&command)) == Some(command),
            None => true,
        }
    }
    quickcheck(holds as fn(AnyCommand, Damage) -> bool);
}

#[test]
fn answers_round_trip() {
    fn holds(text: Text, kicked: Option<u32>) -> bool {
        let text: Vec<u8> = text.0.into_iter().filter(|&byte| byte != b'\n').collect();
        [Answer::Intermediate(&text), Answer::Done(kicked), Answer::Failed(&text)].into_iter().all(|answer| {
            let mut out = Vec::new();
            answer.write(&mut out);
            out.pop() == Some(b'\n') && Answer::parse(&out) == Some(answer)
        })
    }
    quickcheck(holds as fn(Text, Option<u32>) -> bool);
}

#[test]
fn answers_read_as_documented() {
    assert_eq!(Answer::parse(b"+3"), Some(Answer::Done(Some(3))));
    assert_eq!(Answer::parse(b"+"), Some(Answer::Done(None)));
    assert_eq!(Answer::parse(b"+no login processes"), Some(Answer::Done(None)));
    assert_eq!(Answer::parse(b"+4294967296"), Some(Answer::Done(None)));
    assert_eq!(Answer::parse(b"-oops"), Some(Answer::Failed(b"oops")));
    assert_eq!(Answer::parse(b":more"), Some(Answer::Intermediate(b"more")));
    assert_eq!(Answer::parse(b"3"), None);
    assert_eq!(Answer::parse(b""), None);
}
