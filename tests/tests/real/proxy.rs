//! Real login processes and an LMTP proxy that ask the director, and a real Dovecot on several addresses behind them.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Barrier};
use std::thread::Scope;
use std::time::Duration;

use director_tests::Kind::{self, Dovecot, Ours, Ours24};
use director_tests::clients::mail::is_temporary;
use director_tests::clients::{Imap, Lmtp, Pop3};
use director_tests::director::{Director, IMAP_PORT, LMTP_PORT, POP3_PORT, port_by_service};
use director_tests::ring::users;
use director_tests::{Backend, LIMIT, Lab, Logins, Need, Plan, Ring, dovecot24, predict, wait_for};

const NEEDS: [Need; 2] = [Need::Dovecot, Need::Director];

/// Backends 0 to 4 are untagged, 5 and 6 are `blue`. Users `tagged-…` get the tag from the passdb, users `fixed-…` get
/// backend 6 from it.
struct Cluster {
    lab: Arc<Lab>,
    backend: Backend,
    ring: Ring,
}

impl Cluster {
    fn start(name: &str, kinds: &[Kind]) -> Option<Self> {
        let lab = Lab::new(name, &[&NEEDS[..], &Need::of(kinds)].concat())?;
        let backend = Backend::start(&lab, 7);
        let ip = backend.addresses();
        let port = port_by_service();
        let passdb = format!(
            "passdb {{\n  driver = static\n  username_filter = tagged-*\n  \
             args = proxy=y nopassword=y director_tag=blue port={port}\n}}\n\
             passdb {{\n  driver = static\n  username_filter = fixed-*\n  \
             args = proxy=y nopassword=y host={} port={port}\n}}\n",
            ip[6]
        );
        let settings24 = dovecot24::passdb("tagged", "tagged-*", &["director_tag = blue"])
            + &dovecot24::passdb("fixed", "fixed-*", &[&format!("host = {}", ip[6])]);
        let plan = Plan {
            mail_servers: format!("{}-{} {}@blue {}@blue", ip[0], ip[4], ip[5], ip[6]),
            logins: Some(Logins { passdb, settings24, ..Logins::default() }),
            settings: "director_user_kick_delay = 1s".into(),
            ..Ring::plan(&lab, u8::try_from(kinds.len()).expect("few members"))
        };
        let ring = Ring::start(&lab, kinds, &plan);
        Some(Self { lab, backend, ring })
    }

    /// Where the hash puts a user.
    fn home(&self, user: &str) -> IpAddr {
        let ip = self.backend.addresses();
        match user.split('-').next() {
            Some("tagged") => predict::backend(user, &ip[5..7]),
            Some("fixed") => ip[6],
            _ => predict::backend(user, &ip[..5]),
        }
    }

    /// Fails unless a user's mail has been touched on his home and nowhere else.
    fn assert_at_home(&self, user: &str) {
        assert_eq!(self.backend.visited_by(user), BTreeSet::from([self.home(user)]), "{user}");
    }
}

/// One user by all three protocols; the IMAP session stays while the others come.
fn visit(director: &Director, user: &str) -> std::io::Result<()> {
    let mut imap = Imap::login(director.address(IMAP_PORT), user)?;
    let mut pop3 = Pop3::login(director.address(POP3_PORT), user)?;
    pop3.command("STAT")?;
    Lmtp::connect(director.address(LMTP_PORT))?.deliver(user)?;
    imap.command("NOOP")?;
    Ok(())
}

fn everybody_is_at_home(name: &str, kinds: &[Kind]) {
    let Some(cluster) = Cluster::start(name, kinds) else { return };
    let mut names = users("user", 200);
    names.extend(users("tagged-", 10));
    names.extend(users("fixed-", 5));
    std::thread::scope(|scope| {
        for part in names.chunks(names.len().div_ceil(8)) {
            let cluster = &cluster;
            scope.spawn(move || {
                for (number, user) in part.iter().enumerate() {
                    let members = cluster.ring.members();
                    for director in [&members[number % members.len()], &members[(number + 1) % members.len()]] {
                        visit(director, user).unwrap_or_else(|error| panic!("{user}: {error}"));
                    }
                }
            });
        }
    });
    for user in &names {
        cluster.assert_at_home(user);
        assert_eq!(cluster.backend.mails(user, cluster.home(user)), 2, "mails of {user}");
    }
    let hosts = cluster.ring.wait_same_hosts();
    // A fixed host is none of the director's business: those users are not in its map.
    assert_eq!(hosts.iter().map(|host| host.users).sum::<u64>(), 210, "{hosts:?}");

    // Five sessions of one user at once.
    let barrier = Barrier::new(5);
    let sessions: Vec<Imap> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..5)
            .map(|number| {
                let (cluster, barrier) = (&cluster, &barrier);
                let director = &cluster.ring.members()[number % cluster.ring.members().len()];
                scope.spawn(move || {
                    barrier.wait();
                    Imap::login(director.address(IMAP_PORT), "five-at-once").expect("login")
                })
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().expect("login")).collect()
    });
    assert_eq!(sessions.len(), 5);
    cluster.assert_at_home("five-at-once");
}

#[test]
fn everybody_is_at_home_behind_one() {
    everybody_is_at_home("proxy::everybody_is_at_home_behind_one", &[Ours]);
}

#[test]
fn everybody_is_at_home_behind_two_of_both_kinds() {
    everybody_is_at_home("proxy::everybody_is_at_home_behind_two_of_both_kinds", &[Ours, Dovecot]);
}

#[test]
fn everybody_is_at_home_behind_dovecot_24() {
    everybody_is_at_home("proxy::everybody_is_at_home_behind_dovecot_24", &[Ours24]);
}

/// Operators end sessions, wherever in the ring these are.
fn kicked_and_moved(name: &str, kinds: &[Kind]) {
    let Some(cluster) = Cluster::start(name, kinds) else { return };
    let ring = &cluster.ring;
    let all = 0..kinds.len();
    for (commanding, serving) in
        all.clone().flat_map(|commanding| all.clone().map(move |serving| (commanding, serving)))
    {
        let user = format!("user-{commanding}-{serving}");
        let login = || wait_for("a login", LIMIT, || Imap::login(ring.member(serving).address(IMAP_PORT), &user));
        let mut session = login();
        let mut bystander = Imap::login(ring.member(serving).address(IMAP_PORT), "bystander").expect("login");
        ring.member(commanding).doveadm(&["kick", &user]).success();
        wait_for("the end of the kicked session", LIMIT, || match session.command("NOOP") {
            Ok(_) => Err("alive"),
            Err(_) => Ok(()),
        });
        bystander.command("NOOP").expect("a session that nobody kicked");

        let mut session = login();
        cluster.assert_at_home(&user);
        let target = *cluster.backend.addresses()[..5].iter().find(|ip| **ip != cluster.home(&user)).expect("another");
        ring.member(commanding).doveadm(&["move", &user, &target.to_string()]).success();
        wait_for("the end of the moved user's session", LIMIT, || match session.command("NOOP") {
            Ok(_) => Err("alive"),
            Err(_) => Ok(()),
        });
        bystander.command("NOOP").expect("a session that nobody moved");
        login();
        assert_eq!(cluster.backend.visited_by(&user), BTreeSet::from([cluster.home(&user), target]));
        ring.wait_known(&user, "", target);
    }
}

#[test]
fn kicked_and_moved_among_ours() {
    kicked_and_moved("proxy::kicked_and_moved_among_ours", &[Ours, Ours]);
}

#[test]
fn kicked_and_moved_with_both_kinds() {
    kicked_and_moved("proxy::kicked_and_moved_with_both_kinds", &[Ours, Dovecot]);
}

/// One beside each Dovecot, and the original.
#[test]
fn kicked_and_moved_with_dovecot_24() {
    kicked_and_moved("proxy::kicked_and_moved_with_dovecot_24", &[Ours, Ours24, Dovecot]);
}

/// A session that lasts keeps its user in the map: the login process says every so often that he is still here.
fn a_session_keeps_its_user(name: &str, kind: Kind) {
    let Some(lab) = Lab::new(name, &[&NEEDS[..], &Need::of(&[kind])].concat()) else { return };
    let backend = Backend::start(&lab, 2);
    let ip = backend.addresses();
    let plan = Plan {
        mail_servers: format!("{} {}", ip[0], ip[1]),
        user_expire_secs: 10,
        logins: Some(Logins::default()),
        ..Ring::plan(&lab, 1)
    };
    let ring = Ring::start(&lab, &[kind], &plan);
    let mut session = Imap::login(ring.member(0).address(IMAP_PORT), "stays").expect("login");
    Imap::login(ring.member(0).address(IMAP_PORT), "goes").expect("login").command("LOGOUT").expect("logout");
    let expires = |user: &str| ring.member(0).admin().user(user, "").expect("a user's state").expires;
    let first = expires("stays");
    wait_for("the end of the one who went", LIMIT, || match expires("goes") {
        0 => Ok(()),
        at => Err(at),
    });
    assert!(expires("stays") > first);
    session.command("NOOP").expect("the session");
}

#[test]
fn a_session_keeps_its_user_behind_dovecot_23() {
    a_session_keeps_its_user("proxy::a_session_keeps_its_user_behind_dovecot_23", Ours);
}

#[test]
fn a_session_keeps_its_user_behind_dovecot_24() {
    a_session_keeps_its_user("proxy::a_session_keeps_its_user_behind_dovecot_24", Ours24);
}

/// Logins that go on whatever happens: each ends, well or with a temporary failure, and none hangs. New clients keep
/// coming also while others wait, as in life: a login process that has lost auth looks for it again when one comes.
struct Traffic {
    addresses: [SocketAddr; 3],
    done: AtomicBool,
    /// Clients that have not ended.
    present: [AtomicU64; 3],
    successes: [AtomicU64; 3],
    failures: AtomicU64,
}

/// At most so many clients of a protocol at a time: fewer than the system lets wait for a server that is away. One more
/// would take itself for connected and wait for a greeting that never comes, whatever anybody does.
const CLIENTS_MAX: u64 = 80;

/// Users of the traffic.
const TRAFFIC_USERS: usize = 40;

/// How often a new client of each protocol comes.
const CLIENT_INTERVAL: Duration = Duration::from_millis(50);

impl Traffic {
    fn run<'scope>(&'scope self, scope: &'scope Scope<'scope, '_>) {
        for number in 0.. {
            if self.done.load(Ordering::Relaxed) {
                break;
            }
            for protocol in 0..3 {
                if self.present[protocol].load(Ordering::Relaxed) >= CLIENTS_MAX {
                    continue;
                }
                self.present[protocol].fetch_add(1, Ordering::Relaxed);
                scope.spawn(move || self.client(protocol, &format!("user{}", number % TRAFFIC_USERS)));
            }
            std::thread::sleep(CLIENT_INTERVAL);
        }
    }

    fn client(&self, protocol: usize, user: &str) {
        let to = self.addresses[protocol];
        let result = match protocol {
            0 => Imap::login(to, user).and_then(|mut imap| imap.command("LOGOUT").map(drop)),
            1 => Pop3::login(to, user).and_then(|mut pop3| pop3.command("QUIT").map(drop)),
            _ => Lmtp::connect(to).and_then(|mut lmtp| lmtp.deliver(user)),
        };
        self.present[protocol].fetch_sub(1, Ordering::Relaxed);
        match result {
            Ok(()) => self.successes[protocol].fetch_add(1, Ordering::Relaxed),
            Err(error) => {
                assert!(
                    is_temporary(&error),
                    "{user} hung for a minute in {}: {error}",
                    ["IMAP", "POP3", "LMTP"][protocol]
                );
                self.failures.fetch_add(1, Ordering::Relaxed)
            }
        };
    }

    /// Waits until everybody has been served by every protocol once more.
    fn wait_served(&self, lab: &Lab, what: &str) {
        let count = || self.successes.each_ref().map(|count| count.load(Ordering::Relaxed));
        let before = count();
        let failures = self.failures.load(Ordering::Relaxed);
        wait_for(&format!("logins after {what}"), LIMIT, || {
            let now = count();
            let served = now.iter().zip(before).all(|(now, before)| now - before >= TRAFFIC_USERS as u64);
            if served { Ok(()) } else { Err(format!("{before:?} before, {now:?} now")) }
        });
        let failures = self.failures.load(Ordering::Relaxed) - failures;
        lab.say(&format!("{what}: served again, {failures} temporary failures since"));
    }
}

/// Ends the traffic also when the test fails in the middle of it.
struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn logins_go_on_through_restarts(name: &str, kind: Kind) {
    let Some(mut cluster) = Cluster::start(name, &[kind]) else { return };
    let lab = Arc::clone(&cluster.lab);
    let director = cluster.ring.member_mut(0);
    let traffic = Traffic {
        addresses: [IMAP_PORT, POP3_PORT, LMTP_PORT].map(|port| director.address(port)),
        done: false.into(),
        present: Default::default(),
        successes: Default::default(),
        failures: 0.into(),
    };
    std::thread::scope(|scope| {
        let _stop = Stop(&traffic.done);
        scope.spawn(|| traffic.run(scope));
        traffic.wait_served(&lab, "nothing at all");
        director.reload_dovecot();
        traffic.wait_served(&lab, "doveadm reload");
        director.restart_dovecot();
        traffic.wait_served(&lab, "a restart of Dovecot");
        director.restart_director();
        traffic.wait_served(&lab, "a restart of the director");
        director.reload_dovecot();
        traffic.wait_served(&lab, "another reload");
    });
    for user in users("user", TRAFFIC_USERS) {
        cluster.assert_at_home(&user);
    }
}

#[test]
fn logins_go_on_through_restarts_of_dovecot_23() {
    logins_go_on_through_restarts("proxy::logins_go_on_through_restarts_of_dovecot_23", Ours);
}

#[test]
fn logins_go_on_through_restarts_of_dovecot_24() {
    logins_go_on_through_restarts("proxy::logins_go_on_through_restarts_of_dovecot_24", Ours24);
}
