//! Moving, kicking and draining users who have sessions, and the flush script: with real login processes in front, a
//! real Dovecot behind, and the original's doveadm to command.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::net::IpAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use director_tests::Kind::{self, Dovecot, Ours, Ours24};
use director_tests::backend::on_two_backends;
use director_tests::clients::Imap;
use director_tests::director::{IMAP_PORT, port_by_service};
use director_tests::ring::users;
use director_tests::{Backend, LIMIT, Lab, Logins, Need, Plan, Ring, predict, wait_for};

const NEEDS: [Need; 2] = [Need::Dovecot, Need::Director];

/// How many clients act at a time.
const THREADS: usize = 8;

/// Directors with login processes in front of three backends. A user's sessions have the field `user_team`: what is
/// behind the `@` of his name.
struct Cluster {
    lab: Arc<Lab>,
    backend: Backend,
    ring: Ring,
}

/// A session of a user, and where he logged in.
struct Client {
    user: String,
    imap: Imap,
}

impl Cluster {
    /// With these settings of the directors, and of the Dovecot around them.
    fn start(lab: &Arc<Lab>, kinds: &[Kind], settings: &str, dovecot: &str) -> Self {
        let backend = Backend::start(lab, 3);
        let ip = backend.addresses();
        let port = port_by_service();
        let passdb =
            format!("passdb {{\n  driver = static\n  args = proxy=y nopassword=y user_team=%d port={port}\n}}\n");
        let plan = Plan {
            mail_servers: format!("{} {} {}", ip[0], ip[1], ip[2]),
            logins: Some(Logins { passdb, settings: dovecot.into(), ..Logins::default() }),
            settings: settings.into(),
            ..Ring::plan(lab, u8::try_from(kinds.len()).expect("few members"))
        };
        let ring = Ring::start(lab, kinds, &plan);
        Self { lab: Arc::clone(lab), backend, ring }
    }

    fn home(&self, user: &str) -> IpAddr {
        predict::backend(user, self.backend.addresses())
    }

    /// The backend after the one that the hash gives.
    fn next(&self, user: &str) -> IpAddr {
        let ip = self.backend.addresses();
        let at = ip.iter().position(|ip| *ip == self.home(user)).expect("a backend");
        ip[(at + 1) % ip.len()]
    }

    fn login(&self, director: usize, user: &str) -> io::Result<Client> {
        let imap = Imap::login(self.ring.member(director).address(IMAP_PORT), user)?;
        Ok(Client { user: user.into(), imap })
    }

    /// Logs each in, so many times on each director.
    fn login_all(&self, users: &[String], times: usize) -> Vec<Client> {
        let members = self.ring.members().len();
        let each = in_parallel(users, |user| {
            let logins = (0..times * members).map(|n| self.login(n % members, user).expect("a login"));
            logins.collect::<Vec<_>>()
        });
        each.into_iter().flatten().collect()
    }

    fn doveadm(&self, director: usize, args: &[&str]) {
        self.ring.member(director).doveadm(args).success();
    }

    /// Moves a user who is perhaps still being moved.
    fn move_user(&self, director: usize, user: &str, to: IpAddr) {
        wait_for("the end of the move before", LIMIT, || {
            let outcome = self.ring.member(director).doveadm(&["move", user, &to.to_string()]);
            if outcome.code == Some(75) { Err(outcome.stderr) } else { Ok(outcome.success()) }
        });
    }

    /// How many users are on a backend.
    fn users_on(&self, ip: IpAddr) -> u64 {
        let hosts = self.ring.wait_same_hosts_but_times();
        hosts.iter().find(|host| host.ip == ip).expect("a backend").users
    }

    /// Waits until all backends' logs tell that no session is left.
    fn wait_no_sessions(&self) {
        wait_for("the end of all sessions", LIMIT, || {
            match self.backend.sessions().iter().filter(|session| session.end.is_none()).count() {
                0 => Ok(()),
                count => Err(count),
            }
        });
    }

    /// Fails if ever a user was on two backends at once. Gives back how many sessions there were.
    fn assert_never_on_two(&self) -> usize {
        let sessions = self.backend.sessions();
        let pairs = on_two_backends(&sessions);
        self.lab.say(&format!("{} sessions, {} overlaps", sessions.len(), pairs.len()));
        assert!(pairs.is_empty(), "{} of {}, the first: {:?}", pairs.len(), sessions.len(), pairs[0]);
        sessions.len()
    }
}

/// Does something for each item, a few at a time; what came of it is in the items' order.
fn in_parallel<I: Sync, T: Send>(items: &[I], act: impl Fn(&I) -> T + Sync) -> Vec<T> {
    std::thread::scope(|scope| {
        let act = &act;
        let parts = items.chunks(items.len().div_ceil(THREADS).max(1));
        let threads: Vec<_> = parts.map(|part| scope.spawn(move || part.iter().map(act).collect::<Vec<_>>())).collect();
        threads.into_iter().flat_map(|thread| thread.join().expect("a client")).collect()
    })
}

/// Waits until the server has ended these sessions.
fn wait_ended(clients: &mut [Client]) {
    for client in clients {
        wait_for(&format!("the end of a session of {}", client.user), LIMIT, || match client.imap.command("NOOP") {
            Ok(_) => Err("alive"),
            Err(_) => Ok(()),
        });
    }
}

fn assert_alive(clients: &mut [Client]) {
    for client in clients {
        client.imap.command("NOOP").unwrap_or_else(|error| panic!("{}: {error}", client.user));
    }
}

/// Enough for a backend to notice, on a machine with other work to do.
const DELAY: &str = "director_user_kick_delay = 2s";

/// Fifty users with two sessions on each director; each is moved, and his next login waits for the end of the move.
fn fifty_users_are_moved_and_kicked(name: &str, kinds: &[Kind]) {
    let Some(lab) = Lab::new(name, &[&NEEDS[..], &Need::of(kinds)].concat()) else { return };
    let cluster = Cluster::start(&lab, kinds, DELAY, "");
    let names: Vec<String> = (0..50).map(|n| format!("u{n}@{}", if n % 10 < 3 { "red" } else { "blue" })).collect();
    let mut old = cluster.login_all(&names, 2);
    assert_eq!(old.len(), 200);
    // Some log in on the director that has moved them, some on the other, as soon as that has heard of it.
    let numbers: Vec<usize> = (0..names.len()).collect();
    let mut new = in_parallel(&numbers, |&n| {
        let user = &names[n];
        cluster.move_user(n % 2, user, cluster.next(user));
        let director = n / 2 % 2;
        wait_for("the move to be heard of", LIMIT, || {
            let state = cluster.ring.member(director).admin().user(user, "").expect("a user's state");
            if state.current == Some(cluster.next(user)) { Ok(()) } else { Err(format!("{state:?}")) }
        });
        let client = cluster.login(director, user).expect("a login during the move");
        // He has waited for its end, however soon his old sessions were gone.
        cluster.doveadm(director, &["move", user, &cluster.next(user).to_string()]);
        client
    });
    wait_ended(&mut old);
    assert_alive(&mut new);
    for user in &names {
        cluster.ring.wait_known(user, "", cluster.next(user));
        let visited = BTreeSet::from([cluster.home(user), cluster.next(user)]);
        assert_eq!(cluster.backend.visited_by(user), visited, "{user}");
    }
    assert_eq!(cluster.assert_never_on_two(), 250);

    // By name: all sessions, on both directors, and nobody else's.
    drop(new);
    cluster.wait_no_sessions();
    let mut kicked = Vec::new();
    let mut spared = Vec::new();
    for client in cluster.login_all(&names, 2) {
        let list = if ["u0@red", "u5@blue"].contains(&client.user.as_str()) { &mut kicked } else { &mut spared };
        list.push(client);
    }
    cluster.doveadm(0, &["kick", "u0@red"]);
    cluster.doveadm(1, &["kick", "u5@blue"]);
    assert_eq!(kicked.len(), 8);
    wait_ended(&mut kicked);
    assert_alive(&mut spared);
    // By a field of the passdb.
    let (mut kicked, mut spared): (Vec<_>, Vec<_>) =
        spared.into_iter().partition(|client| client.user.ends_with("@red"));
    assert_eq!(kicked.len(), 56);
    cluster.doveadm(1, &["kick", "-f", "user_team", "red"]);
    wait_ended(&mut kicked);
    assert_alive(&mut spared);
    cluster.doveadm(0, &["kick", "-f", "user_team", "blue"]);
    wait_ended(&mut spared);
    cluster.assert_never_on_two();
}

#[test]
fn fifty_users_are_moved_and_kicked_among_ours() {
    fifty_users_are_moved_and_kicked("moves::fifty_users_are_moved_and_kicked_among_ours", &[Ours, Ours]);
}

#[test]
fn fifty_users_are_moved_and_kicked_with_both_kinds() {
    fifty_users_are_moved_and_kicked("moves::fifty_users_are_moved_and_kicked_with_both_kinds", &[Ours, Dovecot]);
}

#[test]
fn fifty_users_are_moved_and_kicked_beside_dovecot_24() {
    fifty_users_are_moved_and_kicked("moves::fifty_users_are_moved_and_kicked_beside_dovecot_24", &[Ours24, Ours]);
}

/// A backend with so many idle users in the map and 200 who have a session is emptied; then all is put in order again
/// with `flush all`, and at last forgotten with `flush -F`.
fn drained(lab: &Arc<Lab>, kinds: &[Kind], idle: usize, flush: &[&str]) {
    let cluster = Cluster::start(lab, kinds, DELAY, "");
    let ip = cluster.backend.addresses().to_vec();
    let text = ip.iter().map(ToString::to_string).collect::<Vec<_>>();
    cluster.doveadm(0, &["update", &text[1], "0"]);
    cluster.doveadm(1, &["update", &text[2], "0"]);
    let live: Vec<String> = (0..200).map(|n| format!("live{n}@x")).collect();
    let numbers: Vec<usize> = (0..live.len()).collect();
    let mut sessions = in_parallel(&numbers, |&n| cluster.login(n % 2, &live[n]).expect("a login"));
    cluster.ring.lookup_many(0, &users("idle", idle));
    let total = (live.len() + idle) as u64;
    wait_for("everybody on the first backend", LIMIT, || match cluster.users_on(ip[0]) {
        users if users == total => Ok(()),
        users => Err(users),
    });
    cluster.doveadm(0, &["update", &text[1], "100"]);
    cluster.doveadm(0, &["update", &text[2], "100"]);

    let start = Instant::now();
    cluster.doveadm(0, &["update", &text[0], "0"]);
    cluster.doveadm(0, &[&["flush"], flush, &[&text[0]]].concat());
    cluster.lab.say(&format!("{total} users, 200 of them live, drained in {:.1} s", start.elapsed().as_secs_f64()));
    wait_for("nobody on the first backend", LIMIT, || match cluster.users_on(ip[0]) {
        0 => Ok(()),
        users => Err(users),
    });
    assert_eq!(cluster.users_on(ip[1]) + cluster.users_on(ip[2]), total, "nobody is lost");
    wait_ended(&mut sessions);
    let mut sessions = in_parallel(&numbers, |&n| cluster.login(n / 2 % 2, &live[n]).expect("a login"));
    for user in &live {
        let now = predict::backend(user, &ip[1..]);
        assert_eq!(cluster.backend.visited_by(user), BTreeSet::from([ip[0], now]), "{user}");
    }
    assert_eq!(cluster.assert_never_on_two(), 400);

    // Whose hash gives another backend again is moved there, with his session; who stays keeps it.
    cluster.doveadm(1, &["update", &text[0], "100"]);
    cluster.doveadm(1, &[&["flush"], flush, &["all"]].concat());
    let (mut moved, mut stayed): (Vec<_>, Vec<_>) =
        sessions.drain(..).partition(|client| cluster.home(&client.user) != predict::backend(&client.user, &ip[1..]));
    assert!(!moved.is_empty() && !stayed.is_empty(), "{} {}", moved.len(), stayed.len());
    wait_ended(&mut moved);
    assert_alive(&mut stayed);
    let mut again = in_parallel(&numbers, |&n| cluster.login(n % 2, &live[n]).expect("a login"));
    for user in &live {
        cluster.ring.wait_known(user, "", cluster.home(user));
    }
    assert_eq!(cluster.assert_never_on_two(), 600);

    // Forgotten, and not kicked.
    cluster.doveadm(0, &["flush", "-F", &text[1]]);
    wait_for("nobody on the second backend", LIMIT, || match cluster.users_on(ip[1]) {
        0 => Ok(()),
        users => Err(users),
    });
    cluster.doveadm(1, &["flush", "-F", "all"]);
    for backend in &ip {
        wait_for("nobody in the map", LIMIT, || match cluster.users_on(*backend) {
            0 => Ok(()),
            users => Err(users),
        });
    }
    assert_alive(&mut again);
    assert_alive(&mut stayed);
}

/// The original waits the kick delay for every batch, whoever is in it: only ours gets so many done.
#[test]
fn drained_among_ours() {
    let Some(lab) = Lab::new("moves::drained_among_ours", &[Need::Dovecot, Need::OurDirector]) else { return };
    drained(&lab, &[Ours, Ours], 10_000, &[]);
}

#[test]
fn drained_with_both_kinds() {
    let Some(lab) = Lab::new("moves::drained_with_both_kinds", &NEEDS) else { return };
    drained(&lab, &[Ours, Dovecot], 2_000, &["--max-parallel", "1000"]);
}

#[test]
fn drained_beside_dovecot_24() {
    let needs = [Need::Dovecot, Need::OurDirector, Need::Dovecot24];
    let Some(lab) = Lab::new("moves::drained_beside_dovecot_24", &needs) else { return };
    drained(&lab, &[Ours24, Ours24], 2_000, &[]);
}

/// Moves go on while the login processes of a director end and start again, also where there is nobody to kick.
fn moves_go_on_while_login_processes_restart(name: &str, kind: Kind) {
    let needs = [&[Need::Dovecot, Need::OurDirector][..], &Need::of(&[kind])].concat();
    let Some(lab) = Lab::new(name, &needs) else { return };
    let mut cluster = Cluster::start(&lab, &[Ours, kind], DELAY, "");
    for round in 0..3 {
        let names: Vec<String> = (0..8).map(|n| format!("u{n}@round{round}")).collect();
        let old = cluster.login_all(&names, 1);
        // First they are told to read their configuration again, then they are gone and not there yet.
        if round == 0 {
            cluster.ring.member(1).reload_dovecot();
        } else {
            cluster.ring.member_mut(1).restart_dovecot();
        }
        in_parallel(&names, |user| cluster.move_user(0, user, cluster.next(user)));
        names.iter().for_each(|user| cluster.ring.wait_known(user, "", cluster.next(user)));
        let new = in_parallel(&names, |user| {
            [0, 1].map(|director| wait_for("a login", LIMIT, || cluster.login(director, user)))
        });
        for user in &names {
            let visited = BTreeSet::from([cluster.home(user), cluster.next(user)]);
            assert_eq!(cluster.backend.visited_by(user), visited, "{user}");
        }
        drop((old, new));
    }
    cluster.wait_no_sessions();
    cluster.assert_never_on_two();
}

#[test]
fn moves_go_on_while_login_processes_of_dovecot_23_restart() {
    moves_go_on_while_login_processes_restart("moves::moves_go_on_while_login_processes_of_dovecot_23_restart", Ours);
}

#[test]
fn moves_go_on_while_login_processes_of_dovecot_24_restart() {
    moves_go_on_while_login_processes_restart("moves::moves_go_on_while_login_processes_of_dovecot_24_restart", Ours24);
}

/// The flush script of a test: it does what the file `mode` beside it says, and writes down each call.
struct Script {
    path: PathBuf,
    calls: PathBuf,
    mode: PathBuf,
}

impl Script {
    fn new(lab: &Lab) -> Self {
        let file = |name: &str| lab.folder().join(name);
        let script = Self { path: file("flush.sh"), calls: lab.shared_folder().join("calls"), mode: file("mode") };
        let text = format!("#!/bin/sh\necho \"$*\" >> {}\n. {}\n", script.calls.display(), script.mode.display());
        fs::write(&script.path, text).expect("script");
        fs::set_permissions(&script.path, fs::Permissions::from_mode(0o755)).expect("permissions");
        script
    }

    /// What it is to do from now on.
    fn set(&self, text: &str) {
        fs::write(&self.mode, text).expect("mode");
    }

    /// Its calls since the last time.
    fn calls(&self) -> Vec<String> {
        let text = fs::read_to_string(&self.calls).unwrap_or_default();
        let _ = fs::remove_file(&self.calls);
        text.lines().map(Into::into).collect()
    }

    /// The service of Dovecot that runs it.
    fn service(&self) -> String {
        let path = self.path.display();
        format!(
            "service user-flush {{\n  executable = script {path}\n  unix_listener user-flush {{\n    user = dovecot\n  }}\n}}\n"
        )
    }
}

/// A delay so long that whoever waits for it is given up with an error.
const LONG_DELAY: &str = "director_user_kick_delay = 10 min";

/// Fails unless a director still moves a user.
fn assert_moving(cluster: &Ring, director: usize, user: &str, to: IpAddr) {
    let outcome = cluster.member(director).doveadm(&["move", user, &to.to_string()]);
    assert_eq!(outcome.code, Some(75), "{user}: {outcome:?}");
}

fn wait_logged(ring: &Ring, director: usize, text: &str) {
    wait_for(&format!("{text:?} in the log"), LIMIT, || {
        if ring.member(director).log().contains(text) { Ok(()) } else { Err("not there") }
    });
}

/// The script decides whether a user who is moved by its director waits for the delay.
fn flush_script(lab: &Arc<Lab>, socket: &str, script: &Script, service: &str) {
    script.set("exit 0\n");
    let settings = format!("{LONG_DELAY}\ndirector_flush_socket = {socket}");
    let cluster = Cluster::start(lab, &[Ours, Ours], &settings, service);
    let ring = &cluster.ring;
    for director in 0..2 {
        // Success: in at once, and nothing was given up.
        let user = format!("lucky{director}@x");
        script.set("echo all is well\nexit 0\n");
        let mut sessions = cluster.login_all(std::slice::from_ref(&user), 2);
        cluster.move_user(director, &user, cluster.next(&user));
        let mut session = cluster.login(director, &user).expect("a login after the script");
        cluster.doveadm(director, &["move", &user, &cluster.next(&user).to_string()]);
        let given_up = format!("user hash {} timed out in state", predict::hash(&user));
        assert!(!ring.member(director).log().contains(&given_up), "the script's success was not heard");
        wait_ended(&mut sessions);
        assert_alive(std::slice::from_mut(&mut session));
        let visited = BTreeSet::from([cluster.home(&user), cluster.next(&user)]);
        assert_eq!(cluster.backend.visited_by(&user), visited);
        let called = format!("FLUSH {} {} {} up 100", predict::hash(&user), cluster.home(&user), cluster.next(&user));
        assert_eq!(script.calls(), [called]);

        // Failure: what it printed is in the log, and the delay is waited for.
        let user = format!("unlucky{director}@x");
        script.set(&format!("echo it broke for {user}\nexit 1\n"));
        let mut sessions = cluster.login_all(std::slice::from_ref(&user), 2);
        cluster.move_user(director, &user, cluster.next(&user));
        wait_logged(ring, director, &format!("it broke for {user}"));
        assert_moving(ring, director, &user, cluster.home(&user));
        wait_ended(&mut sessions);
        assert_eq!(script.calls().len(), 1, "{user}");
    }
    cluster.assert_never_on_two();
}

#[test]
fn flush_script_of_dovecots_service() {
    let name = "moves::flush_script_of_dovecots_service";
    let Some(lab) = Lab::new(name, &[Need::Dovecot, Need::OurDirector]) else { return };
    let script = Script::new(&lab);
    flush_script(&lab, "unix:user-flush", &script, &script.service());
}

#[test]
fn flush_script_as_a_program() {
    let name = "moves::flush_script_as_a_program";
    let Some(lab) = Lab::new(name, &[Need::Dovecot, Need::OurDirector]) else { return };
    let script = Script::new(&lab);
    flush_script(&lab, &format!("exec:{}", script.path.display()), &script, "");
}

/// A ring of two with this flush socket, and jane on her way to a new backend, which is given back.
fn jane_is_moved(lab: &Arc<Lab>, socket: &str) -> (Ring, IpAddr) {
    let settings = format!("{LONG_DELAY}\ndirector_flush_socket = {socket}");
    let ring = Ring::start(lab, &[Ours, Ours], &Plan { settings, ..Ring::plan(lab, 2) });
    let old = ring.lookup(0, "jane", "");
    let new = IpAddr::from([10, 1, 2, if old == IpAddr::from([10, 1, 2, 5]) { 4 } else { 5 }]);
    ring.member(0).doveadm(&["move", "jane", &new.to_string()]).success();
    (ring, new)
}

#[test]
fn flush_script_that_is_missing() {
    for socket in ["unix:nothing-here", "exec:/nothing/here"] {
        let name = "moves::flush_script_that_is_missing";
        let Some(lab) = Lab::new(name, &[Need::Dovecot, Need::OurDirector]) else { return };
        let (ring, new) = jane_is_moved(&lab, socket);
        wait_logged(&ring, 0, "The flush script failed for user hash 1480892766");
        assert_moving(&ring, 0, "jane", new);
    }
}

/// A move is given up after 30 seconds, and its script with it.
#[test]
fn flush_script_that_takes_too_long() {
    let name = "moves::flush_script_that_takes_too_long";
    let Some(lab) = Lab::new(name, &[Need::Dovecot, Need::OurDirector]) else { return };
    let script = Script::new(&lab);
    let number = lab.shared_folder().join("number");
    script.set(&format!("echo $$ > {0}.new\nmv {0}.new {0}\nexec sleep 600\n", number.display()));
    let (ring, new) = jane_is_moved(&lab, &format!("exec:{}", script.path.display()));
    let number = wait_for("the script", LIMIT, || fs::read_to_string(&number));
    let process = Path::new("/proc").join(number.trim());
    assert!(process.exists());
    assert_moving(&ring, 0, "jane", new);
    wait_logged(&ring, 0, "timed out in state flushing");
    wait_for("the end of the script", LIMIT, || if process.exists() { Err("it runs") } else { Ok(()) });
    assert_eq!(ring.lookup(0, "jane", ""), new);
    assert_eq!(script.calls().len(), 1);
}
