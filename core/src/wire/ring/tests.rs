#![expect(clippy::needless_pass_by_value, reason = "quickcheck hands its arguments over")]

use quickcheck::{Arbitrary, Gen, QuickCheck};

use super::super::testing::{Damage, Text, address, assert_printable, big_number, hash, number, text};
use super::*;

fn origin(g: &mut Gen) -> Origin {
    Origin { address: address(g), seq: number(g) }
}

fn host_line(g: &mut Gen) -> HostLine<'static> {
    HostLine {
        ip: IpAddr::arbitrary(g),
        vhosts: number(g),
        tag: text(g),
        updown: bool::arbitrary(g).then(|| UpDown { down: bool::arbitrary(g), changed_secs: big_number(g) }),
        hostname: bool::arbitrary(g).then(|| text(g)).filter(|name| !name.is_empty()),
    }
}

fn generation(g: &mut Gen) -> Option<Generation> {
    Generation::new(u32::from(u8::arbitrary(g)) % 40)
}

fn moved(g: &mut Gen) -> Moved {
    Moved { generation: generation(g), of_move: bool::arbitrary(g).then(|| origin(g)) }
}

/// Who has no timestamp comes from an older version, which knows nothing of moves.
fn live_user(g: &mut Gen) -> Line<'static> {
    let timestamp_secs = bool::arbitrary(g).then(|| big_number(g));
    let moved = if timestamp_secs.is_some() { moved(g) } else { Moved::UNKNOWN };
    Line::User { hash: hash(g), host: IpAddr::arbitrary(g), timestamp_secs, moved }
}

/// One line of each kind, in the order of [`kind`].
fn all_kinds(g: &mut Gen) -> Vec<Line<'static>> {
    let ip = IpAddr::arbitrary(g);
    let handshaked = bool::arbitrary(g);
    let ping = bool::arbitrary(g).then(|| PingInfo { timestamp_secs: big_number(g), buffered_bytes: big_number(g) });
    let sync =
        bool::arbitrary(g).then(|| SyncInfo { minor: number(g), timestamp_secs: big_number(g), hosts_hash: number(g) });
    vec![
        Line::Version { name: text(g), major: number(g), minor: number(g) },
        Line::Me { address: SocketAddr::new(ip, u16::arbitrary(g)), unix_secs: big_number(g) },
        Line::Director { address: address(g), name: bool::arbitrary(g).then(|| origin(g)) },
        Line::DirectorRemove { address: address(g) },
        Line::HandshakeHostsStart { handshaked },
        Line::HandshakeHost { host: host_line(g) },
        Line::HandshakeHostsEnd { handshaked },
        Line::HandshakeUser {
            hash: hash(g),
            host: ip,
            timestamp_secs: big_number(g),
            weak: bool::arbitrary(g),
            moved: moved(g),
        },
        Line::KnownTo { address: address(g) },
        Line::Options { options: (0..u8::arbitrary(g) % 4).map(|_| text(g)).collect() },
        Line::Done,
        live_user(g),
        Line::UserWeak { origin: origin(g), hash: hash(g), host: ip },
        Line::Host { origin: origin(g), host: host_line(g) },
        Line::HostRemove { origin: origin(g), ip },
        Line::HostFlush { origin: origin(g), ip },
        Line::UserMove { origin: origin(g), hash: hash(g), host: ip, generation: generation(g) },
        Line::UserKilled {
            hash: hash(g),
            token: bool::arbitrary(g).then(|| KillToken {
                kicked: bool::arbitrary(g).then(|| number(g)),
                of_move: origin(g),
                host: ip,
                generation: generation(g),
                starter: origin(g),
            }),
        },
        Line::UserKilledEverywhere {
            origin: origin(g),
            hash: hash(g),
            of: bool::arbitrary(g)
                .then(|| KilledMove { kicked: bool::arbitrary(g).then(|| number(g)), of_move: origin(g) }),
        },
        Line::UserKick { origin: origin(g), username: text(g) },
        Line::UserKickAlt { origin: origin(g), field: text(g), value: text(g) },
        Line::UserKickHash { origin: origin(g), hash: hash(g), except: ip },
        Line::Sync { origin: origin(g), info: sync },
        Line::Ping { info: ping },
        Line::Pong { info: ping },
        Line::Connect { address: address(g) },
        Line::Quit { reason: text(g) },
    ]
}

/// A number for each kind of line. A new kind does not compile until it is here, and not pass until it is above.
fn kind(line: &Line<'_>) -> usize {
    match line {
        Line::Version { .. } => 0,
        Line::Me { .. } => 1,
        Line::Director { .. } => 2,
        Line::DirectorRemove { .. } => 3,
        Line::HandshakeHostsStart { .. } => 4,
        Line::HandshakeHost { .. } => 5,
        Line::HandshakeHostsEnd { .. } => 6,
        Line::HandshakeUser { .. } => 7,
        Line::KnownTo { .. } => 8,
        Line::Options { .. } => 9,
        Line::Done => 10,
        Line::User { .. } => 11,
        Line::UserWeak { .. } => 12,
        Line::Host { .. } => 13,
        Line::HostRemove { .. } => 14,
        Line::HostFlush { .. } => 15,
        Line::UserMove { .. } => 16,
        Line::UserKilled { .. } => 17,
        Line::UserKilledEverywhere { .. } => 18,
        Line::UserKick { .. } => 19,
        Line::UserKickAlt { .. } => 20,
        Line::UserKickHash { .. } => 21,
        Line::Sync { .. } => 22,
        Line::Ping { .. } => 23,
        Line::Pong { .. } => 24,
        Line::Connect { .. } => 25,
        Line::Quit { .. } => 26,
    }
}

#[derive(Clone, Debug)]
struct AnyLine(Line<'static>);

impl Arbitrary for AnyLine {
    fn arbitrary(g: &mut Gen) -> Self {
        let all = all_kinds(g);
        Self(g.choose(&all).expect("not empty").clone())
    }
}

/// What a host line loses on its way to a peer of that minor version.
fn host_as_read(mut host: HostLine<'_>, minor: u32) -> HostLine<'_> {
    if minor < 6 {
        host.updown = None;
        host.hostname = None;
    } else {
        host.updown.get_or_insert(UpDown { down: false, changed_secs: 0 });
    }
    host
}

/// What a peer of that minor version makes of a line; `None` if it never sees it.
fn as_read(line: Line<'_>, minor: u32) -> Option<Line<'_>> {
    match line {
        Line::UserWeak { .. } if minor < 1 => None,
        Line::DirectorRemove { .. } if minor < 2 => None,
        Line::UserKick { .. } | Line::UserKickHash { .. } if minor < 4 => None,
        Line::Options { .. } if minor < 5 => None,
        Line::UserKickAlt { .. } if minor < 8 => None,
        Line::KnownTo { .. } if minor < 10 => None,
        Line::Director { address, .. } if minor < 10 => Some(Line::Director { address, name: None }),
        Line::UserKilled { hash, .. } if minor < 10 => Some(Line::UserKilled { hash, token: None }),
        Line::UserKilledEverywhere { origin, hash, .. } if minor < 10 => {
            Some(Line::UserKilledEverywhere { origin, hash, of: None })
        }
        Line::Quit { .. } if minor < 3 => Some(Line::Quit { reason: Cow::Borrowed(b"") }),
        Line::Sync { origin, .. } if minor < 6 => Some(Line::Sync { origin, info: None }),
        Line::User { hash, host, .. } if minor < 9 => {
            Some(Line::User { hash, host, timestamp_secs: None, moved: Moved::UNKNOWN })
        }
        Line::User { hash, host, timestamp_secs, .. } if minor < 10 => {
            Some(Line::User { hash, host, timestamp_secs, moved: Moved::UNKNOWN })
        }
        Line::HandshakeUser { hash, host, timestamp_secs, weak, .. } if minor < 10 => {
            Some(Line::HandshakeUser { hash, host, timestamp_secs, weak, moved: Moved::UNKNOWN })
        }
        Line::UserMove { origin, hash, host, .. } if minor < 10 => {
            Some(Line::UserMove { origin, hash, host, generation: None })
        }
        Line::HandshakeHost { host } => Some(Line::HandshakeHost { host: host_as_read(host, minor) }),
        Line::Host { origin, host } => Some(Line::Host { origin, host: host_as_read(host, minor) }),
        line => Some(line),
    }
}

fn printed(line: &Line<'_>, minor: u32) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    line.write(minor, &mut out);
    let end = out.pop()?;
    assert!(end == b'\n' && !out.contains(&b'\n'), "one line, one end");
    Some(out)
}

#[test]
fn lines_round_trip_at_every_minor_version() {
    let mut g = Gen::new(100);
    for _ in 0..100 {
        let lines = all_kinds(&mut g);
        assert!(lines.iter().map(kind).eq(0..lines.len()));
        for line in lines {
            for minor in 0..=MINOR {
                let printed = printed(&line, minor);
                let read = printed.as_deref().map(|bytes| Line::parse(bytes, minor).expect("our own line"));
                assert_eq!(read, as_read(line.clone(), minor), "minor {minor}");
            }
        }
    }
}

/// Lines of real directors, in the order of a ring's life.
const REAL_LINES: &[&str] = &[
    "VERSION\tdirector\t1\t9",
    "ME\t127.0.1.1\t9090\t1795309353",
    "DIRECTOR\t127.0.1.2\t9090",
    "HOST-HAND-START\t0",
    "HOST-HAND-START\t1",
    "HOST\t127.0.2.1\t100\t\tU0\t",
    "HOST-HAND-END\t0",
    "U\t1480892766\t127.0.2.1\t1795309870",
    "OPTIONS\tconsistent-hashing",
    "DONE",
    "SYNC\t127.0.1.1\t9090\t1\t9\t1795309353\t2539557247",
    "PING\t1795309353\t46",
    "PONG\t1795309353\t0",
    "CONNECT\t127.0.1.3\t9090",
    "QUIT\tCONNECT requested",
    "HOST\t127.0.1.3\t9090\t1\t127.0.2.1\t100\t\tU0\t",
    "HOST\t127.0.1.1\t9090\t2\t127.0.2.2\t100\t\tD1795309412\t",
    "HOST-REMOVE\t127.0.1.1\t9090\t9\t127.0.2.6",
    "USER\t1480892766\t127.0.2.1\t1795309356",
    "USER-WEAK\t127.0.1.2\t9090\t1\t1480892766\t127.0.2.1",
    "USER-MOVE\t127.0.1.1\t9090\t3\t1480892766\t127.0.2.4",
    "USER-KILLED\t1480892766",
    "USER-KILLED-EVERYWHERE\t127.0.1.1\t9090\t4\t1480892766",
    "USER-KICK\t127.0.1.1\t9090\t7\tjane",
    "USER-KICK-ALT\t127.0.1.2\t9090\t2\tuser_alt\tx*y",
];

#[test]
fn lines_of_our_extension_print_as_they_came() {
    for line in [
        "USER-KILLED\t1480892766\t-\t127.0.1.1\t9090\t3\t127.0.2.4\t127.0.1.2\t9090\t7",
        "USER-KILLED-EVERYWHERE\t127.0.1.1\t9090\t4\t1480892766\t0\t127.0.1.1\t9090\t3",
        "DIRECTOR\t127.0.1.2\t9090\t127.0.1.1\t9090\t3",
        "KNOWN-TO\t127.0.1.3\t9090",
    ] {
        let parsed = Line::parse(line.as_bytes(), MINOR).unwrap();
        assert_eq!(printed(&parsed, MINOR).as_deref(), Some(line.as_bytes()));
    }
    assert!(Line::parse(b"USER-KILLED\t1\t5\t127.0.1.1\t9090\t3", MINOR).is_err(), "half a name is none");
    assert!(Line::parse(b"DIRECTOR\t127.0.1.2\t9090\t127.0.1.1", MINOR).is_err());
}

#[test]
fn real_lines_print_as_they_came() {
    for text in REAL_LINES {
        let line = Line::parse(text.as_bytes(), 9).expect(text);
        assert_eq!(printed(&line, 9).as_deref(), Some(text.as_bytes()));
    }
}

/// What is read the short way means what it means the long way.
#[test]
fn plain_users_are_read_as_others_are() {
    let long_way = |line: &[u8], peer_minor| match Line::parse(line, peer_minor) {
        Ok(Line::User { hash, host: IpAddr::V4(host), timestamp_secs: Some(timestamp_secs), moved })
            if moved == PlainUser::moved(peer_minor) =>
        {
            Some(PlainUser { handshake: false, hash, host, timestamp_secs })
        }
        Ok(Line::HandshakeUser { hash, host: IpAddr::V4(host), timestamp_secs, weak: false, moved })
            if moved == PlainUser::moved(peer_minor) =>
        {
            Some(PlainUser { handshake: true, hash, host, timestamp_secs })
        }
        _ => None,
    };
    let mut g = Gen::new(100);
    for _ in 0..2000 {
        let host = Ipv4Addr::arbitrary(&mut g);
        let command = *g.choose(&["U", "USER", "UX", "USE", ""]).expect("some");
        let text = format!("{command}\t{}\t{host}\t{}", hash(&mut g), big_number(&mut g) >> 1);
        let damaged = Damage::arbitrary(&mut g).done_to(text.clone().into_bytes());
        for line in [text.as_bytes(), &damaged] {
            for peer_minor in [9, 10] {
                if let Some(user) = PlainUser::read(line) {
                    assert_eq!(Some(user), long_way(line, peer_minor), "{}", line.escape_ascii());
                }
            }
        }
        let read = PlainUser::read(text.as_bytes());
        assert_eq!(read.is_some(), matches!(command, "U" | "USER") && long_way(text.as_bytes(), 9).is_some(), "{text}");
    }
    for odd in [
        "U\t0\t10.0.0.1\t5",
        "U\t4294967296\t10.0.0.1\t5",
        "U\t5\t10.0.0.01\t5",
        "U\t5\t10.0.0.256\t5",
        "U\t5\t10.0.0\t5",
        "U\t5\t10.0.0.1.1\t5",
        "U\t5\t10.0.0.1000\t5",
        "U\t5\t10.0.0.1",
        "U\t5\t10.0.0.1\t5\tw",
        "U\t5\t10.0.0.1\t5\t",
        "U\t5\t10.0.0.1\t",
        "U",
    ] {
        assert_eq!(PlainUser::read(odd.as_bytes()), None, "{odd}");
    }
}

#[test]
fn the_two_forms_of_host_are_told_apart() {
    let ip = IpAddr::from([127, 0, 2, 1]);
    let host = HostLine { ip, vhosts: 100, tag: Cow::Borrowed(b""), updown: None, hostname: None };
    let up = Some(UpDown { down: false, changed_secs: 0 });
    let origin = Origin { address: ([127, 0, 1, 3], 9090).into(), seq: 1 };
    let named = HostLine { tag: Cow::Borrowed(b"7"), updown: up, hostname: Some(Cow::Borrowed(b"b1")), ..host.clone() };
    for (text, expected) in [
        ("HOST\t127.0.2.1\t100", Line::HandshakeHost { host: host.clone() }),
        ("HOST\t127.0.2.1\t100\t\tU0\t", Line::HandshakeHost { host: HostLine { updown: up, ..host.clone() } }),
        ("HOST\t127.0.2.1\t100\t\tU0", Line::HandshakeHost { host: HostLine { updown: up, ..host.clone() } }),
        ("HOST\t127.0.2.1\t100\t7\tU0\tb1", Line::HandshakeHost { host: named.clone() }),
        ("HOST\t127.0.2.1\t100\t7\tU0\tb1\tmore\tand more", Line::HandshakeHost { host: named.clone() }),
        ("HOST\t127.0.1.3\t9090\t1\t127.0.2.1\t100", Line::Host { origin, host: host.clone() }),
        ("HOST\t127.0.1.3\t9090\t1\t127.0.2.1\t100\t7\tU0\tb1\tmore", Line::Host { origin, host: named }),
    ] {
        assert_eq!(Line::parse(text.as_bytes(), 9), Ok(expected), "{text}");
    }
}

#[test]
fn hosts_are_written_for_the_peers_version() {
    let host = HostLine {
        ip: [127, 0, 2, 1].into(),
        vhosts: 100,
        tag: Cow::Borrowed(b"tag"),
        updown: Some(UpDown { down: true, changed_secs: 5 }),
        hostname: Some(Cow::Borrowed(b"b1")),
    };
    let origin = Origin { address: ([127, 0, 1, 3], 9090).into(), seq: 1 };
    let show = |host: HostLine<'_>, minor| {
        let texts = [Line::HandshakeHost { host: host.clone() }, Line::Host { origin, host }]
            .map(|line| String::from_utf8(printed(&line, minor).expect("known")).expect("ASCII"));
        assert_eq!(texts[1], texts[0].replace("HOST\t", "HOST\t127.0.1.3\t9090\t1\t"));
        texts[0].clone()
    };
    assert_eq!(show(host.clone(), 9), "HOST\t127.0.2.1\t100\ttag\tD5\tb1");
    assert_eq!(show(host.clone(), 6), "HOST\t127.0.2.1\t100\ttag\tD5\tb1");
    assert_eq!(show(host.clone(), 5), "HOST\t127.0.2.1\t100\ttag");
    let plain = HostLine { tag: Cow::Borrowed(b""), updown: None, hostname: None, ..host };
    assert_eq!(show(plain.clone(), 6), "HOST\t127.0.2.1\t100\t\tU0\t");
    assert_eq!(show(plain, 5), "HOST\t127.0.2.1\t100");
}

#[test]
fn what_user_means_depends_on_the_peers_version() {
    let (hash, host, timestamp_secs) = (5, IpAddr::from([127, 0, 2, 1]), 1795309356);
    let moved = Moved::UNKNOWN;
    let live = |timestamp_secs| Line::User { hash, host, timestamp_secs, moved };
    let handshake = |weak| Line::HandshakeUser { hash, host, timestamp_secs, weak, moved };
    for (text, minor, expected) in [
        ("USER\t5\t127.0.2.1", 9, live(None)),
        ("USER\t5\t127.0.2.1", 8, live(None)),
        ("USER\t5\t127.0.2.1\t1795309356", 9, live(Some(timestamp_secs))),
        ("USER\t5\t127.0.2.1\t1795309356\tw", 9, live(Some(timestamp_secs))),
        ("USER\t5\t127.0.2.1\t1795309356", 8, handshake(false)),
        ("USER\t5\t127.0.2.1\t1795309356\tw", 0, handshake(true)),
        ("U\t5\t127.0.2.1\t1795309356", 9, handshake(false)),
        ("U\t5\t127.0.2.1\t1795309356\tw\tmore", 9, handshake(true)),
    ] {
        assert_eq!(Line::parse(text.as_bytes(), minor), Ok(expected), "{text} at {minor}");
    }
    assert_eq!(printed(&handshake(true), 8).as_deref(), Some(&b"USER\t5\t127.0.2.1\t1795309356\tw"[..]));
    assert_eq!(printed(&handshake(true), 9).as_deref(), Some(&b"U\t5\t127.0.2.1\t1795309356\tw"[..]));
    assert_eq!(printed(&live(Some(timestamp_secs)), 8).as_deref(), Some(&b"USER\t5\t127.0.2.1"[..]));
}

/// What a member of a version understands depends on that version, and not on what we know.
#[test]
fn lines_mean_what_they_mean_to_the_lower_version() {
    let unknown = |text: &str, minor| {
        let error = Line::parse(text.as_bytes(), minor).expect_err(text).to_string();
        assert!(error.starts_with("unknown command"), "{text} at {minor}: {error}");
    };
    for (text, since) in [
        ("U\t5\t127.0.2.1\t1795309356", minor::USER_TIMESTAMP),
        ("USER-KICK-ALT\t127.0.1.1\t9090\t1\tf\tv", minor::USER_KICK_ALT),
        ("OPTIONS\tconsistent-hashing", minor::OPTIONS),
        ("KNOWN-TO\t127.0.1.3\t9090", minor::KNOWN_TO),
        ("USER-KICK\t127.0.1.1\t9090\t1\tjane", minor::USER_KICK),
        ("USER-KICK-HASH\t127.0.1.1\t9090\t1\t5\t127.0.2.1", minor::USER_KICK),
        ("DIRECTOR-REMOVE\t127.0.1.1\t9090", minor::DIRECTOR_REMOVE),
        ("USER-WEAK\t127.0.1.1\t9090\t1\t5\t127.0.2.1", minor::WEAK),
    ] {
        unknown(text, since - 1);
        Line::parse(text.as_bytes(), since).expect(text);
    }
    for (text, since, older) in [
        ("HOST\t127.0.2.1\t100\t\tD77\th", minor::UPDOWN, "HOST\t127.0.2.1\t100\t"),
        ("SYNC\t127.0.1.1\t9090\t1\t9\t77\t5", minor::UPDOWN, "SYNC\t127.0.1.1\t9090\t1"),
        ("USER-KILLED\t5\t1\t127.0.1.1\t9090\t1\t127.0.2.4\t127.0.1.1\t9090\t1", minor::KILL_NAMES, "USER-KILLED\t5"),
        ("DIRECTOR\t127.0.1.2\t9090\t127.0.1.1\t9090\t1", minor::DIRECTOR_NAMES, "DIRECTOR\t127.0.1.2\t9090"),
        (
            "USER-KILLED-EVERYWHERE\t127.0.1.1\t9090\t1\t5\t0\t127.0.1.1\t9090\t1",
            minor::KILL_NAMES,
            "USER-KILLED-EVERYWHERE\t127.0.1.1\t9090\t1\t5",
        ),
    ] {
        assert_eq!(Line::parse(text.as_bytes(), since - 1), Line::parse(older.as_bytes(), since - 1), "{text}");
        assert_ne!(Line::parse(text.as_bytes(), since), Line::parse(older.as_bytes(), since), "{text}");
    }
}

/// The original takes all of these.
#[test]
fn older_and_later_shapes_are_understood() {
    let origin = Origin { address: ([127, 0, 1, 1], 9090).into(), seq: 1 };
    let sync = |minor, timestamp_secs, hosts_hash| Line::Sync {
        origin,
        info: Some(SyncInfo { minor, timestamp_secs, hosts_hash }),
    };
    for (text, expected) in [
        ("SYNC\t127.0.1.1\t9090\t1", Line::Sync { origin, info: None }),
        ("SYNC\t127.0.1.1\t9090\t1\t9", sync(9, 0, 0)),
        ("SYNC\t127.0.1.1\t9090\t1\t9\t77", sync(9, 77, 0)),
        ("SYNC\t127.0.1.1\t9090\t1\t9\t77\t5\tmore", sync(9, 77, 5)),
        ("PING", Line::Ping { info: None }),
        ("PING\t77", Line::Ping { info: None }),
        ("PONG\tx\ty", Line::Pong { info: None }),
        ("PONG\t77\t5\tmore", Line::Pong { info: Some(PingInfo { timestamp_secs: 77, buffered_bytes: 5 }) }),
        ("DIRECTOR\t127.0.1.1\t9090\tmore", Line::Director { address: origin.address, name: None }),
        ("ME\t127.0.0.1\t0\t77", Line::Me { address: ([127, 0, 0, 1], 0).into(), unix_secs: 77 }),
        ("QUIT", Line::Quit { reason: Cow::Borrowed(b"") }),
        ("OPTIONS", Line::Options { options: Vec::new() }),
    ] {
        assert_eq!(Line::parse(text.as_bytes(), 9), Ok(expected), "{text}");
    }
}

#[test]
fn bad_lines_say_what_is_wrong() {
    for (text, message) in [
        ("", "unknown command \"\""),
        ("NONSENSE\tx", "unknown command \"NONSENSE\""),
        ("user\t5\t127.0.2.1", "unknown command \"user\""),
        ("USER", "USER: missing hash"),
        ("USER\t", "USER: invalid hash \"\""),
        ("USER\t0\t127.0.2.1", "USER: invalid hash \"0\""),
        ("USER\t4294967296\t127.0.2.1", "USER: invalid hash \"4294967296\""),
        ("USER\t5", "USER: missing host"),
        ("USER\t5\t[::1]", "USER: invalid host \"[::1]\""),
        ("USER\t5\tfe80::1%lo", "USER: invalid host \"fe80::1%lo\""),
        ("USER\t5\t127.0.2.1\t", "USER: invalid timestamp \"\""),
        ("USER\t5\t127.0.2.1\t-5", "USER: invalid timestamp \"-5\""),
        ("U\t5\t127.0.2.1", "U: missing timestamp"),
        ("U\t5\t127.0.2.1\t77\tx", "U: invalid weak flag \"x\""),
        ("USER-WEAK\t127.0.1.1\t0\t1\t5\t127.0.2.1", "USER-WEAK: invalid port \"0\""),
        ("USER-MOVE\t127.0.1.1\t9090\tx\t5\t127.0.2.1", "USER-MOVE: invalid seq \"x\""),
        ("USER-KILLED\t0", "USER-KILLED: invalid hash \"0\""),
        ("USER-KICK\t127.0.1.1\t9090\t1", "USER-KICK: missing username"),
        ("USER-KICK-ALT\t127.0.1.1\t9090\t1\tfield", "USER-KICK-ALT: missing value"),
        ("USER-KICK-HASH\t127.0.1.1\t9090\t1\t5\t", "USER-KICK-HASH: invalid except-ip \"\""),
        ("HOST\t127.0.2.1", "HOST: missing vhosts"),
        ("HOST\t127.0.2.1\t100\t\t", "HOST: invalid state \"\""),
        ("HOST\t127.0.2.1\t100\t\tD", "HOST: invalid state \"D\""),
        ("HOST\t127.0.1.1\t9090\t1\t127.0.2.1", "HOST: missing vhosts"),
        ("HOST\t127.0.1.1\t9090\t1\t127.0.2.1\t50\t\tX5", "HOST: invalid state \"X5\""),
        ("HOST\t127.0.1.1\t9090\tx\t127.0.2.1\t50", "HOST: invalid seq \"x\""),
        ("HOST-HAND-START\t2", "HOST-HAND-START: invalid handshaked \"2\""),
        ("HOST-HAND-END", "HOST-HAND-END: missing handshaked"),
        ("SYNC\t127.0.1.1\t9090\t1\t", "SYNC: invalid minor \"\""),
        ("SYNC\t127.0.1.1\t9090\t1\t9\t77\tx", "SYNC: invalid hosts-hash \"x\""),
        ("DIRECTOR\t127.0.1.1\t0", "DIRECTOR: invalid port \"0\""),
        ("CONNECT\t127.0.1.1\t65536", "CONNECT: invalid port \"65536\""),
        ("ME\t127.0.1.1\t65536\t5", "ME: invalid port \"65536\""),
        ("VERSION\tdirector\t1", "VERSION: missing minor"),
    ] {
        let error = Line::parse(text.as_bytes(), 9).expect_err(text);
        assert_eq!(error.to_string(), message);
    }
}

#[test]
fn hostile_lines_never_panic_and_mean_one_thing() {
    fn holds(line: AnyLine, damage: Damage, noise: Text, minor: u8) -> bool {
        let minor = u32::from(minor) % (MINOR + 1);
        let damaged = damage.done_to(printed(&line.0, MINOR).expect("we know all commands"));
        [damaged, noise.0].iter().all(|bytes| match Line::parse(bytes, minor) {
            // What we understood, we say so that another understands the same.
            Ok(line) => {
                let printed = printed(&line, MINOR).expect("we know all commands");
                Line::parse(&printed, MINOR).ok() == as_read(line, MINOR)
            }
            Err(error) => {
                assert_printable(&error);
                true
            }
        })
    }
    QuickCheck::new().tests(2000).quickcheck(holds as fn(AnyLine, Damage, Text, u8) -> bool);
}

#[test]
fn errors_fit_into_a_quit() {
    let long = [0xff; LINE_MAX_BYTES];
    let lines = [long.to_vec(), [b"USER\t", &long[5..]].concat(), [&long[..500], b"\t", &long[501..]].concat()];
    for line in lines {
        let error = Line::parse(&line, 9).expect_err("no line");
        assert_printable(&error);
        let mut out = Vec::new();
        Line::Quit { reason: error.to_string().into_bytes().into() }.write(9, &mut out);
        assert!(out.len() <= LINE_MAX_BYTES);
    }
}

#[test]
fn texts_without_escapes_are_not_copied() {
    let line = Line::parse(b"USER-KICK\t127.0.1.1\t9090\t7\tjane", 9);
    assert!(matches!(line, Ok(Line::UserKick { username: Cow::Borrowed(b"jane"), .. })));
}

#[test]
fn escapes_travel() {
    let line = Line::Quit { reason: Cow::Borrowed(b"a\tb\nc") };
    let bytes = printed(&line, 9).expect("known");
    assert_eq!(bytes, b"QUIT\ta\x01tb\x01nc");
    assert_eq!(Line::parse(&bytes, 9), Ok(line));
}

/// Nothing is left of an escape that is cut off, and a host name of nothing is none: printed again, it would be none.
#[test]
fn a_hostname_of_half_an_escape_is_none() {
    let [half, none] = ["HOST\t127.0.2.1\t100\t\tU0\t\u{1}", "HOST\t127.0.2.1\t100\t\tU0\t"].map(str::as_bytes);
    assert_eq!(Line::parse(half, MINOR), Line::parse(none, MINOR));
}
