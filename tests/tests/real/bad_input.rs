//! Nothing that anybody sends does more than end his own connection.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use director_tests::Kind::{Dovecot, Ours};
use director_tests::clients::{Admin, AuthReply, Lines, Notify, Reply, RingPeer};
use director_tests::director::{ADMIN_PORT, Door, RING_PORT};
use director_tests::process::resident_bytes;
use director_tests::ring::users;
use director_tests::{LIMIT, Lab, Logins, Need, Plan, Ring, predict, wait_for};
use socket2::{Domain, Socket, Type};

const NEEDS: [Need; 2] = [Need::Dovecot, Need::Director];

/// Bytes that a director may use more than before, whatever is done to it.
const GROWTH_BYTES: u64 = 64 << 20;

/// A ring of three whose first director is treated badly. `.21` to `.60` are listed members that nobody has started,
/// so a test can be one of them.
struct Victim {
    lab: Arc<Lab>,
    ring: Ring,
    authreply: AuthReply,
    admin: Admin,
    resident_bytes: u64,
}

impl Victim {
    fn start(name: &str, needs: &[Need], logins: bool) -> Option<Self> {
        let lab = Lab::new(name, needs)?;
        let mut plan = Ring::plan(&lab, 3);
        plan.servers.extend((21..=60).map(|last| lab.ip(last)));
        plan.logins = logins.then(Logins::default);
        let ring = Ring::start(&lab, &[Ours, Dovecot, Ours], &plan);
        let victim = ring.member(0);
        let (authreply, admin) = (victim.authreply(), victim.admin());
        let resident_bytes = resident_bytes(victim.director_pid()).expect("memory of the director");
        Some(Self { lab, ring, authreply, admin, resident_bytes })
    }

    fn ring_address(&self) -> SocketAddr {
        self.ring.member(0).ring_address()
    }

    /// Connects to the victim as one of the listed members that do not run.
    fn peer(&self, last: u8) -> RingPeer {
        RingPeer::connect(self.lab.ip(last).into(), self.ring_address()).expect("a ring connection")
    }

    /// Those who were there before are served as before, and the ring is whole.
    fn assert_untouched(&mut self, after: &str) {
        let user = format!("after-{}", after.replace(' ', "-"));
        let five: Vec<IpAddr> = (1..=5).map(|last| IpAddr::from([10, 1, 2, last])).collect();
        let home = predict::backend(&user, &five);
        assert_eq!(self.authreply.lookup(&user).expect("a lookup"), Reply::Host(home), "after {after}");
        assert_eq!(self.admin.hosts().expect("hosts").len(), 5, "after {after}");
        self.ring.wait_known(&user, "", home);
        self.ring.wait_synced();
        let now = resident_bytes(self.ring.member(0).director_pid()).expect("the same director");
        let grown = now.saturating_sub(self.resident_bytes);
        assert!(grown < GROWTH_BYTES, "the director grew by {} MB after {after}", grown >> 20);
    }

    /// The other side must close, and the log must say something about whom.
    fn assert_refused(&mut self, what: &str, lines: &mut Lines, logged: &str) {
        lines.read_to_close().unwrap_or_else(|error| panic!("{what} is not refused: {error}"));
        wait_for(&format!("a log line with {logged:?} about {what}"), LIMIT, || {
            let log = self.ring.member(0).log();
            // The very line that a peer connects, or that one went away in peace, says nothing about what was wrong.
            let found =
                log.lines().any(|line| line.contains(logged) && (line.contains("rror") || line.contains("arn")));
            if found { Ok(()) } else { Err("not there") }
        });
        self.assert_untouched(what);
    }
}

/// A megabyte without a line's end.
fn endless_line() -> Vec<u8> {
    vec![b'x'; 1 << 20]
}

/// Bytes of every value, line ends among them, the same in every run.
fn binary() -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    })
    .take(32 * 1024)
    .flatten()
    .collect()
}

/// The sender may be cut off in the middle of it: that is what the test is after.
fn send_in_vain(lines: &mut Lines, bytes: &[u8]) {
    let _ = lines.send_bytes(bytes);
}

#[test]
fn from_ring_peers() {
    let Some(mut victim) = Victim::start("bad_input::from_ring_peers", &NEEDS, false) else { return };

    let stranger = victim.lab.ip(99);
    let mut peer = RingPeer::connect(stranger.into(), victim.ring_address()).expect("a ring connection");
    send_in_vain(peer.lines(), b"VERSION\tdirector\t1\t9\n");
    victim.assert_refused("an unlisted address", peer.lines(), &stranger.to_string());

    let own = |last: u8| victim.lab.ip(last).to_string();
    let me = |last: u8| format!("VERSION\tdirector\t1\t9\nME\t{}\t{RING_PORT}\t1700000000\n", own(last));
    let cases: Vec<(&str, Vec<u8>)> = vec![
        ("another protocol's name", b"VERSION\tdirectress\t1\t9\n".to_vec()),
        ("another major version", b"VERSION\tdirector\t2\t0\n".to_vec()),
        ("a version that is no number", b"VERSION\tdirector\tone\t9\n".to_vec()),
        ("something before VERSION", b"PING\n".to_vec()),
        ("something before ME", b"VERSION\tdirector\t1\t9\nDONE\n".to_vec()),
        ("ME without a port", b"VERSION\tdirector\t1\t9\nME\t127.0.0.1\n".to_vec()),
        ("an endless line", endless_line()),
        ("an endless line after ME", [me(28).into_bytes(), endless_line()].concat()),
        ("a binary stream", binary()),
        ("a binary stream after ME", [me(30).into_bytes(), binary()].concat()),
        ("an unknown command", [me(31).as_bytes(), b"NONSENSE\t1\n"].concat()),
        ("a user on an unknown backend", [me(32).as_bytes(), b"U\t17\t10.99.99.99\t1700000000\n"].concat()),
        ("a host that is no address", [me(33).as_bytes(), b"HOST-HAND-START\t0\nHOST\tnowhere\t100\n"].concat()),
        ("no consistent hashing", [me(34).as_bytes(), b"HOST-HAND-START\t0\nHOST-HAND-END\t0\nDONE\n"].concat()),
    ];
    for (number, (what, bytes)) in cases.iter().enumerate() {
        // A member of its own for each: one that broke the protocol is not let in again for a minute.
        let last = 21 + u8::try_from(number).expect("few cases");
        let mut peer = victim.peer(last);
        send_in_vain(peer.lines(), bytes);
        let logged = victim.lab.ip(last).to_string();
        victim.assert_refused(what, peer.lines(), &logged);
    }

    // Half a line and then nothing: the peer's own 10 s run out. Half a line and the end: nothing at all happens.
    let mut peer = victim.peer(50);
    send_in_vain(peer.lines(), b"VERSION\tdirector\t1\t9\nME\t127.");
    let logged = victim.lab.ip(50).to_string();
    victim.assert_refused("half a line", peer.lines(), &logged);
    let mut peer = victim.peer(51);
    send_in_vain(peer.lines(), b"VERSION\tdirector\t1\t9\nME\t127.");
    drop(peer);
    victim.assert_untouched("half a line and the end");

    // After a whole handshake, too.
    let mut peer = victim.peer(52);
    peer.handshake(RING_PORT).expect("a handshake");
    send_in_vain(peer.lines(), b"HOST\tnot\tenough\n");
    let logged = victim.lab.ip(52).to_string();
    victim.assert_refused("too few arguments after the handshake", peer.lines(), &logged);
}

#[test]
fn from_administrators() {
    let Some(mut victim) = Victim::start("bad_input::from_administrators", &NEEDS, false) else { return };
    let path = victim.ring.member(0).door(Door::Admin);
    let tcp = victim.ring.member(0).address(ADMIN_PORT);
    let version = b"VERSION\tdirector-doveadm\t1\t0\n";
    let cases: [(&str, Vec<u8>); 9] = [
        ("another name", b"VERSION\tdirector-authreply-client\t1\t0\n".to_vec()),
        ("another major version", b"VERSION\tdirector-doveadm\t2\t0\n".to_vec()),
        ("no version", b"HOST-LIST\n".to_vec()),
        ("an unknown command", [&version[..], b"NONSENSE\n"].concat()),
        ("a host that is no address", [&version[..], b"HOST-SET\tnowhere\t100\n"].concat()),
        ("vhosts that are no number", [&version[..], b"HOST-SET\t10.1.2.1\tmany\n"].concat()),
        ("too few arguments", [&version[..], b"USER-MOVE\t17\n"].concat()),
        ("an endless line", [&version[..], &endless_line()].concat()),
        ("a binary stream", binary()),
    ];
    for (what, bytes) in &cases {
        for over_tcp in [false, true] {
            let logged = victim.ring.member(0).log().len();
            let mut lines = if over_tcp { Lines::tcp(tcp) } else { Lines::unix(&path) }.expect("an admin connection");
            send_in_vain(&mut lines, bytes);
            lines.read_to_close().unwrap_or_else(|error| panic!("{what} is not refused: {error}"));
            wait_for(&format!("a log line about {what}"), LIMIT, || {
                let log = victim.ring.member(0).log();
                let new = &log[logged..];
                // The original says nothing about some of these.
                if victim.ring.member(0).kind() == Dovecot {
                    return Ok(());
                }
                if new.contains("rror") || new.contains("arn") { Ok(()) } else { Err(new.to_owned()) }
            });
            victim.assert_untouched(what);
        }
    }
    let mut lines = Lines::unix(&path).expect("an admin connection");
    send_in_vain(&mut lines, b"VERSION\tdirector-doveadm\t1\t0\nHOST-RESET-USE");
    drop(lines);
    victim.assert_untouched("half a line and the end");
}

#[test]
fn from_local_programs() {
    let Some(mut victim) = Victim::start("bad_input::from_local_programs", &NEEDS, true) else { return };
    let director = victim.ring.member(0);
    let [login, userdb, authreply] = [Door::Login, Door::Userdb, Door::AuthReply].map(|door| director.door(door));
    for (what, bytes) in [
        ("another name", b"VERSION\tdirector-doveadm\t1\t0\n".to_vec()),
        ("another major version", b"VERSION\tdirector-authreply-client\t2\t0\n".to_vec()),
        ("an endless line", endless_line()),
        ("a binary stream", binary()),
    ] {
        let mut lines = Lines::unix(&authreply).expect("a connection");
        send_in_vain(&mut lines, &bytes);
        lines.read_to_close().unwrap_or_else(|error| panic!("{what} is not refused by authreply: {error}"));
        victim.assert_untouched(what);
    }
    // What comes from here is auth's to judge; when it hangs up, so does the director.
    for path in [&login, &userdb] {
        for (what, bytes) in [("an endless line", endless_line()), ("a binary stream", binary())] {
            let mut lines = Lines::unix(path).expect("a connection");
            send_in_vain(&mut lines, &bytes);
            lines.read_to_close().unwrap_or_else(|error| panic!("{what} on {}: {error}", path.display()));
            victim.assert_untouched(what);
        }
        let mut lines = Lines::unix(path).expect("a connection");
        send_in_vain(&mut lines, b"VERSION\t1");
        drop(lines);
        victim.assert_untouched("half a line and the end");
    }
}

/// The FIFO cannot be closed by anybody, so after anything else the next good line must count.
#[test]
fn in_the_notify_fifo() {
    // The original reads no more after too long a line.
    let needs = [Need::Dovecot, Need::OurDirector];
    let Some(mut victim) = Victim::start("bad_input::in_the_notify_fifo", &needs, false) else { return };
    let five: Vec<IpAddr> = (1..=5).map(|last| IpAddr::from([10, 1, 2, last])).collect();
    let user = "notified";
    assert_eq!(victim.authreply.lookup(user).expect("a lookup"), Reply::Host(predict::backend(user, &five)));
    for bytes in [b"".to_vec(), binary(), endless_line(), b"half a li".to_vec()] {
        let mut fifo = Notify::open(&victim.ring.member(0).door(Door::Notify)).expect("the FIFO");
        fifo.send(&bytes);
        fifo.send(b"\n");
        let before = victim.admin.user(user, "").expect("a user's state").expires;
        wait_for("a notified user to be refreshed", LIMIT, || {
            // Timestamps count seconds, so it takes one until a refresh can be seen.
            fifo.send(b"notified\n");
            let now = victim.admin.user(user, "").expect("a user's state").expires;
            if now > before { Ok(()) } else { Err(now) }
        });
        victim.assert_untouched("bytes in the FIFO");
    }
}

/// A thousand who connect and say nothing, on every socket at once.
#[test]
fn a_thousand_silent_connections() {
    let Some(mut victim) = Victim::start("bad_input::a_thousand_silent_connections", &NEEDS, true) else { return };
    let director = victim.ring.member(0);
    let mut silent = Vec::new();
    let address = director.address(ADMIN_PORT);
    for number in 0..1000 {
        let lines = match number % 8 {
            0 => Lines::unix(&director.door(Door::Admin)),
            1 => Lines::tcp(address),
            2 => Lines::unix(&director.door(Door::AuthReply)),
            3 => Lines::unix(&director.door(Door::Userdb)),
            4 => Lines::unix(&director.door(Door::Login)),
            5 => Lines::tcp_from(victim.lab.ip(99).into(), victim.ring_address()),
            _ => Lines::tcp_from(victim.lab.ip(21 + (number / 8 % 40) as u8).into(), victim.ring_address()),
        };
        silent.push(lines.expect("a connection"));
    }
    victim.assert_untouched("a thousand silent connections");
    // Ring peers that never say who they are must go.
    for (number, lines) in silent.iter_mut().enumerate().filter(|(number, _)| number % 8 >= 5) {
        lines.read_to_close().unwrap_or_else(|error| panic!("silent ring connection {number} stays: {error}"));
    }
    victim.assert_untouched("the end of the silent ring connections");
    drop(silent);
    victim.assert_untouched("the end of all");
}

/// A member takes its place in a ring with a hundred thousand users and stops reading while it is told about them.
#[test]
fn a_peer_that_stops_reading() {
    let Some(lab) = Lab::new("bad_input::a_peer_that_stops_reading", &NEEDS) else { return };
    let plan = Plan { user_expire_secs: 3600, ..Ring::plan(&lab, 3) };
    // The second place is the test's own.
    let mut ring = Ring::prepare(&lab, &[Ours, Ours, Dovecot], &plan);
    for index in [0, 2] {
        ring.member_mut(index).start();
    }
    ring.wait_until_up();
    ring.wait_synced();
    let names = users("user", 100_000);
    let homes = ring.lookup_many(0, &names);
    let known: BTreeSet<u32> = names.iter().map(|name| predict::hash(name)).collect();
    assert_eq!(ring.wait_same_users().len(), known.len());
    let before = resident_bytes(ring.member(0).director_pid()).expect("memory of the director");

    let place: Ipv4Addr = lab.ip(2);
    // Small, so that most of the users have to wait in the director.
    let listener = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    listener.set_recv_buffer_size(4096).expect("a small buffer");
    listener.set_reuse_address(true).expect("an address that was in use");
    listener.bind(&SocketAddr::new(place.into(), RING_PORT).into()).expect("the second place");
    listener.listen(5).expect("listening");
    let listener = listener.into();
    // Who connects to the third is pointed out to the first, as the one between them.
    let mut left = RingPeer::connect(place.into(), ring.member(2).ring_address()).expect("a ring connection");
    left.handshake(RING_PORT).expect("a handshake");
    let mut stuck = RingPeer::accept(&listener).expect("a connection from the first");
    stuck.introduce(RING_PORT).expect("an introduction");
    drop(listener);

    // It has begun to tell, and nobody listens any more. Everybody else is served.
    for (name, home) in names.iter().zip(&homes).step_by(1000) {
        assert_eq!(ring.lookup(0, name, ""), *home);
        assert_eq!(ring.lookup(2, name, ""), *home);
    }
    let grown = resident_bytes(ring.member(0).director_pid()).expect("the same director").saturating_sub(before);
    lab.say(&format!("the director grew by {} KB for the one that stopped reading", grown >> 10));
    assert!(grown < GROWTH_BYTES, "{grown} bytes");
    drop(left);
    ring.wait_synced();
    drop(stuck);
    assert_eq!(ring.wait_same_users().len(), known.len());
}

/// A member that is not whom it says it is, where a director has connected to it.
#[test]
fn a_member_with_anothers_name() {
    let Some(lab) = Lab::new("bad_input::a_member_with_anothers_name", &NEEDS) else { return };
    let plan = Ring::plan(&lab, 3);
    let mut ring = Ring::prepare(&lab, &[Ours, Ours, Dovecot], &plan);
    let listener = std::net::TcpListener::bind((lab.ip(2), RING_PORT)).expect("the second place");
    ring.member_mut(0).start();
    ring.wait_until_up();
    let mut liar = RingPeer::accept(&listener).expect("a connection from the first");
    let lie = format!("VERSION\tdirector\t1\t9\nME\t{}\t{RING_PORT}\t1700000000\n", lab.ip(3));
    liar.lines().send_bytes(lie.as_bytes()).expect("sending");
    liar.lines().read_to_close().expect("the end of the liar's connection");
    drop(listener);
    wait_for("a log line about the liar", LIMIT, || {
        let log = ring.member(0).log();
        let liar = lab.ip(2).to_string();
        let found = log.lines().any(|line| line.contains(&liar) && (line.contains("rror") || line.contains("arn")));
        if found { Ok(()) } else { Err("not there") }
    });
    ring.member_mut(2).start();
    ring.wait_until_up();
    ring.wait_synced();
}
