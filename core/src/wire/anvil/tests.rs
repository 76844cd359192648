#![expect(clippy::needless_pass_by_value, reason = "quickcheck hands its arguments over")]

use quickcheck::{Arbitrary, Gen, quickcheck};

use super::super::testing::{self, Damage, Text};
use super::*;

#[derive(Clone, Debug)]
struct AnyCommand(Command<'static>);

impl Arbitrary for AnyCommand {
    fn arbitrary(g: &mut Gen) -> Self {
        Self(match u8::arbitrary(g) % 3 {
            0 => Command::KickUser { username: testing::text(g) },
            1 => Command::KickAltUser { field: testing::text(g), value: testing::text(g) },
            _ => Command::ConnectDump,
        })
    }
}

fn line(write: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut out = Vec::new();
    write(&mut out);
    assert_eq!(out.pop(), Some(b'\n'));
    assert!(!out.contains(&b'\n'));
    out
}

#[test]
fn commands_round_trip() {
    fn holds(command: AnyCommand) -> bool {
        Command::parse(&line(|out| command.0.write(out))) == Some(command.0)
    }
    quickcheck(holds as fn(AnyCommand) -> bool);
}

#[test]
fn commands_look_as_anvil_wants_them() {
    let line = |command: Command<'_>| String::from_utf8(line(|out| command.write(out))).expect("ASCII");
    assert_eq!(line(Command::KickUser { username: b"j\tane"[..].into() }), "KICK-USER\tj\x01tane");
    let (field, value) = (b"user_team"[..].into(), b"red"[..].into());
    assert_eq!(line(Command::KickAltUser { field, value }), "KICK-ALT-USER\tuser_team\tred");
    assert_eq!(line(Command::kick_hash(7)), "KICK-ALT-USER\tuser_director_hash\t7");
    let placed = Placed { hash: 7, ip: "192.0.2.1".parse().expect("an address") };
    assert_eq!(line(Command::kick_placed(placed)), "KICK-ALT-USER\tuser_director_backend\t7/192.0.2.1");
    assert_eq!(line(Command::ConnectDump), "CONNECT-DUMP");
}

#[test]
fn other_commands_are_none() {
    for line in ["", "KICK", "KICK-USER", "KICK-USER\tjane\tguid", "KICK-ALT-USER\tfield", "CONNECT-DUMP\tx"] {
        assert_eq!(Command::parse(line.as_bytes()), None, "{line}");
    }
}

#[test]
fn damaged_commands_never_panic_and_mean_one_thing() {
    fn holds(command: AnyCommand, damage: Damage) -> bool {
        let damaged = damage.done_to(line(|out| command.0.write(out)));
        match Command::parse(&damaged) {
            Some(command) => Command::parse(&line(|out| command.write(out))) == Some(command),
            None => true,
        }
    }
    quickcheck(holds as fn(AnyCommand, Damage) -> bool);
}

/// As Dovecot 2.4.1 says it.
#[test]
fn lists_read_as_anvil_writes_them() {
    assert!(is_server_version_line(b"VERSION\tanvil-server\t2\t0"));
    assert!(is_server_version_line(&SERVER_VERSION_LINE[..SERVER_VERSION_LINE.len() - 1]));
    for other in
        [&b"VERSION\tanvil-server\t1\t2"[..], b"VERSION\tanvil-server\t3\t0", b"VERSION\tanvil\t2\t0", b"2", b""]
    {
        assert!(!is_server_version_line(other), "{}", other.escape_ascii());
    }
    assert_eq!(field_position(b"", BACKEND_FIELD), None);
    assert_eq!(field_position(b"user_x\tuser_team", BACKEND_FIELD), None);
    let position = field_position(b"user_x\tuser_team\tuser_director_backend", BACKEND_FIELD).expect("it is there");
    let line =
        b"10636\tbob@red\timap-login\t127.0.0.1\t48e963017a7f026b8c29000083ecc375\t127.9.9.11\t\tred\t4711/127.9.9.11";
    let session = Session::parse(line).expect("a session");
    assert_eq!((&*session.username, &*session.service), (&b"bob@red"[..], &b"imap-login"[..]));
    assert_eq!(&*session.guid, b"48e963017a7f026b8c29000083ecc375");
    assert_eq!(session.client, "127.0.0.1".parse().ok());
    assert_eq!(session.backend, "127.9.9.11".parse().ok());
    assert_eq!(session.placed(position), Some(Placed { hash: 4711, ip: [127, 9, 9, 11].into() }));
    // Values at the end of the line are left out where a session has none.
    let session = Session::parse(b"10636\tann\timap-login\t::1\ted1a633b\tfd00::1\ta b").expect("a session");
    assert_eq!((session.backend, session.placed(position)), ("fd00::1".parse().ok(), None));
    assert_eq!(session.placed(0), None, "another value");
    // One that is not proxied.
    let session = Session::parse(b"1\tann\timap\t\ted1a633b\t").expect("a session");
    assert_eq!((session.client, session.backend, session.placed(0)), (None, None, None));
    assert_eq!(Session::parse(b"1\tann\timap\t127.0.0.1\ted1a633b").expect("a session").placed(0), None);
    for line in ["", "1", "1\tann\timap\t127.0.0.1"] {
        assert_eq!(Session::parse(line.as_bytes()), None, "{line}");
    }
}

#[derive(Clone, Debug)]
struct AnySession {
    texts: [Text; 3],
    addresses: [Option<IpAddr>; 2],
    values: Vec<Text>,
    placed: Placed,
}

impl AnySession {
    fn line(&self) -> Vec<u8> {
        let [username, service, guid] = self.texts.each_ref().map(|text| Cow::Borrowed(&text.0[..]));
        let [client, backend] = self.addresses;
        let session = Session { pid: b"17", username, service, client, guid, backend, values: b"" };
        let mut placed = Vec::new();
        self.placed.write(&mut placed);
        let values: Vec<_> = self.values.iter().map(|value| &value.0[..]).chain([&placed[..]]).collect();
        line(|out| session.write(&values, out))
    }
}

impl Arbitrary for AnySession {
    fn arbitrary(g: &mut Gen) -> Self {
        Self {
            texts: [Text::arbitrary(g), Text::arbitrary(g), Text::arbitrary(g)],
            addresses: [Option::arbitrary(g), Option::arbitrary(g)],
            values: (0..usize::arbitrary(g) % 4).map(|_| Text::arbitrary(g)).collect(),
            placed: Placed { hash: testing::hash(g), ip: IpAddr::arbitrary(g) },
        }
    }
}

#[test]
fn sessions_round_trip() {
    fn holds(any: AnySession) -> bool {
        let line = any.line();
        let Some(session) = Session::parse(&line) else { return false };
        let [username, service, guid] = any.texts.each_ref().map(|text| &text.0[..]);
        let texts = (&*session.username, &*session.service, &*session.guid) == (username, service, guid);
        let position = any.values.len();
        texts
            && [session.client, session.backend] == any.addresses
            && session.pid == b"17"
            && session.placed(position) == Some(any.placed)
            && session.placed(position + 1).is_none()
    }
    quickcheck(holds as fn(AnySession) -> bool);
}

#[test]
fn field_names_round_trip() {
    fn holds(before: Vec<Text>) -> bool {
        // A field's name is what it begins with, so none of these is the hash's.
        let names: Vec<_> = before.iter().map(|name| &name.0[..]).chain([BACKEND_FIELD]).collect();
        field_position(&line(|out| write_field_names(&names, out)), BACKEND_FIELD) == Some(before.len())
    }
    quickcheck(holds as fn(Vec<Text>) -> bool);
}

#[test]
fn damaged_sessions_never_panic() {
    fn holds(any: AnySession, damage: Damage, position: u8) -> bool {
        let line = damage.done_to(any.line());
        if let Some(session) = Session::parse(&line) {
            assert_ne!(session.placed(position.into()).map(|placed| placed.hash), Some(0));
        }
        field_position(&line, BACKEND_FIELD).is_none()
    }
    quickcheck(holds as fn(AnySession, Damage, u8) -> bool);
}

#[test]
fn values_that_place_nobody_are_none() {
    for value in ["", "/", "7", "7/", "/192.0.2.1", "0/192.0.2.1", "7/192.0.2", "7/192.0.2.1/", "-7/192.0.2.1"] {
        assert_eq!(Placed::parse(value.as_bytes()), None, "{value}");
    }
}

#[test]
fn counts_round_trip() {
    for count in [0, 1, 17, u32::MAX] {
        assert_eq!(read_kicked(&line(|out| write_kicked(count, out))), Some(count));
    }
    for other in ["", "-", "-1", "+1", "1\t", "4294967296", "no"] {
        assert_eq!(read_kicked(other.as_bytes()), None, "{other}");
    }
}
