//! The daemon as a process among others: its sockets, signals and start.

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::sync::Arc;

use director_tests::Kind::Ours;
use director_tests::clients::login::{login_processes, raise_open_files};
use director_tests::clients::{Imap, Notify, Reply};
use director_tests::director::{Door, IMAP_PORT, remove_socket};
use director_tests::process::{resident_bytes, run};
use director_tests::ring::users;
use director_tests::{Backend, Director, LIMIT, Lab, Logins, Need, Plan, Ring, wait_for};
use rustix::process::Signal;

/// One director without fellows.
fn alone(name: &str) -> Option<(Arc<Lab>, Ring)> {
    let lab = Lab::new(name, &[Need::OurDirector])?;
    let ring = Ring::start(&lab, &[Ours], &Ring::plan(&lab, 1));
    Some((lab, ring))
}

const DOORS: [Door; 5] = [Door::Login, Door::Userdb, Door::AuthReply, Door::Admin, Door::Notify];

/// Waits until every door of a director is there and leads to it.
fn wait_open(director: &Director) {
    for door in DOORS {
        let path = director.door(door);
        wait_for(&format!("{} to be open", path.display()), LIMIT, || match door {
            Door::Notify => Notify::open(&path).map(drop),
            _ => UnixStream::connect(&path).map(drop),
        });
    }
}

#[test]
fn second_instance_refuses() {
    let Some((_lab, ring)) = alone("daemon::second_instance_refuses") else { return };
    let director = ring.member(0);
    let inode = |door| fs::metadata(director.door(door)).expect("a socket").ino();
    wait_open(director);
    let before = DOORS.map(inode);
    let second = run(&mut director.daemon_command());
    assert_eq!(second.code, Some(69), "{second:?}");
    let said = second.stderr + &director.log_tail(10);
    assert!(said.contains("director-") || said.contains("login/"), "does not say which socket: {said}");
    assert_eq!(DOORS.map(inode), before);
    director.admin().hosts().expect("the first goes on");
}

#[test]
fn stale_sockets_are_replaced() {
    let Some((_lab, mut ring)) = alone("daemon::stale_sockets_are_replaced") else { return };
    wait_open(ring.member(0));
    ring.member_mut(0).kill();
    for door in DOORS {
        assert!(fs::metadata(ring.member(0).door(door)).is_ok(), "{door:?} was to be left behind");
    }
    ring.member_mut(0).start();
    ring.wait_until_up();
    wait_open(ring.member(0));
}

#[test]
fn vanished_sockets_come_back() {
    let Some((_lab, ring)) = alone("daemon::vanished_sockets_come_back") else { return };
    let director = ring.member(0);
    wait_open(director);
    let mut before = director.admin();
    for door in DOORS {
        remove_socket(&director.door(door));
    }
    wait_open(director);
    before.hosts().expect("a connection from before");
    let mode = |door| fs::metadata(director.door(door)).expect("a socket").permissions().mode() & 0o777;
    assert_eq!(mode(Door::Login), 0o666);
    assert_eq!(mode(Door::Admin), 0o600);
    assert_eq!(mode(Door::Notify), 0o600);
    assert!(fs::metadata(director.door(Door::Notify)).expect("a FIFO").file_type().is_fifo());
    // The new FIFO is the one that is read.
    assert_eq!(ring.lookup(0, "jane", ""), ring.lookup(0, "jane", ""));
    let first = director.admin().user("jane", "").expect("a user's state").expires;
    let mut fifo = Notify::open(&director.door(Door::Notify)).expect("the FIFO");
    wait_for("a refresh", LIMIT, || {
        fifo.send(b"jane\n");
        let now = director.admin().user("jane", "").expect("a user's state").expires;
        if now > first { Ok(()) } else { Err(now) }
    });
}

/// Orders, in which the two start at boot, should not matter; nor should one that comes much later.
#[test]
fn starts_before_dovecot() {
    let name = "daemon::starts_before_dovecot";
    let Some(lab) = Lab::new(name, &[Need::Dovecot, Need::OurDirector]) else { return };
    let backend = Backend::start(&lab, 2);
    let ip = backend.addresses();
    let plan =
        Plan { mail_servers: format!("{} {}", ip[0], ip[1]), logins: Some(Logins::default()), ..Ring::plan(&lab, 1) };
    let mut ring = Ring::prepare(&lab, &[Ours], &plan);
    let director = ring.member_mut(0);
    assert!(fs::metadata(director.base_dir()).is_err(), "Dovecot is to make base_dir");
    director.start_daemon();
    wait_for("the daemon to say what it waits for", LIMIT, || {
        let log = director.log();
        if log.contains("run/login") || log.contains("/run") { Ok(()) } else { Err(log) }
    });
    director.start_dovecot();
    director.wait_until_up();
    Imap::login(director.address(IMAP_PORT), "early").expect("login");
    // And the other way round, with Dovecot there all the time.
    director.daemon().stop();
    director.start_daemon();
    director.wait_until_up();
    wait_for("a login", LIMIT, || Imap::login(director.address(IMAP_PORT), "late"));
}

#[test]
fn hangup_keeps_the_map() {
    let Some((_lab, mut ring)) = alone("daemon::hangup_keeps_the_map") else { return };
    let names = users("user", 100);
    let homes = ring.lookup_many(0, &names);
    assert_eq!(ring.member(0).admin().command("HOST-UPDATE\t10.1.2.1\t0").expect("an answer"), "OK");
    let before = ring.member(0).admin().hosts().expect("hosts");
    let conf = ring.member(0).director_conf();
    let text = fs::read_to_string(&conf).expect("configuration");
    assert!(text.contains("director_user_expire = 600s"));
    fs::write(&conf, text.replace("director_user_expire = 600s", "director_user_expire = 1234s")).expect("writing");
    ring.member_mut(0).daemon().signal(Signal::HUP);
    let mut authreply = ring.member(0).authreply();
    wait_for("the new setting", LIMIT, || {
        authreply.lines().send("OK\t1\tuser=user0\tproxy").expect("sending");
        let line = authreply.lines().expect().expect("an answer");
        if line.contains("proxy_refresh=617\t") { Ok(()) } else { Err(line) }
    });
    assert_eq!(ring.lookup_many(0, &names), homes);
    assert_eq!(ring.member(0).admin().hosts().expect("hosts"), before);

    // A mistake in the file changes nothing, and is told.
    fs::write(&conf, "director_user_expire = never\n").expect("writing");
    ring.member_mut(0).daemon().signal(Signal::HUP);
    wait_for("a log line about the mistake", LIMIT, || {
        let log = ring.member(0).log();
        if log.contains("director.conf:1") { Ok(()) } else { Err(ring.member(0).log_tail(5)) }
    });
    assert_eq!(ring.lookup_many(0, &names), homes);
}

#[test]
fn hangup_opens_the_log_again() {
    let Some((_lab, mut ring)) = alone("daemon::hangup_opens_the_log_again") else { return };
    let log = ring.member(0).director_conf().with_file_name("director.log");
    let rotated = log.with_extension("log.1");
    fs::rename(&log, &rotated).expect("rotating");
    ring.member_mut(0).daemon().signal(Signal::HUP);
    wait_for("a new log", LIMIT, || fs::metadata(&log).map(drop));
    assert_eq!(ring.member(0).admin().command("HOST-UPDATE\t10.1.2.1\t777").expect("an answer"), "OK");
    wait_for("the new log to be written", LIMIT, || {
        let text = ring.member(0).log();
        if text.contains("vhost count") { Ok(()) } else { Err(text) }
    });
    let old = fs::read_to_string(rotated).expect("the old log");
    assert!(!old.contains("vhost count"), "{old}");
}

#[test]
fn terminates_cleanly() {
    let Some((_lab, mut ring)) = alone("daemon::terminates_cleanly") else { return };
    for signal in [Signal::TERM, Signal::INT] {
        wait_open(ring.member(0));
        // Who is connected does not hold it up.
        let _admin = ring.member(0).admin();
        ring.member_mut(0).daemon().signal(signal);
        let status = ring.member_mut(0).daemon().wait();
        assert_eq!(status.code(), Some(0), "{signal:?}");
        for door in DOORS {
            let path = ring.member(0).door(door);
            assert!(fs::symlink_metadata(&path).is_err(), "{} is left behind by {signal:?}", path.display());
        }
        ring.member_mut(0).start();
        ring.wait_until_up();
    }
}

#[test]
fn check_and_exit_codes() {
    let Some(lab) = Lab::new("daemon::check_and_exit_codes", &[Need::OurDirector]) else { return };
    let ring = Ring::prepare(&lab, &[Ours], &Ring::plan(&lab, 1));
    let director = ring.member(0);
    let check = || run(director.daemon_command().arg("--check"));
    let good = check();
    assert_eq!(good.code, Some(0), "{good:?}");
    assert!(good.stdout.contains("10.1.2.5"), "{good:?}");
    let conf = director.director_conf();
    let text = fs::read_to_string(&conf).expect("configuration");
    let servers = format!("director_servers = {}", lab.ip(1));
    for (right, wrong) in [
        ("director_user_expire = 600s", "director_user_expire = 5s"),
        ("director_mail_servers = 10.1.2.1-10.1.2.5", "director_mail_servers = 10.1.2.1-"),
        (servers.as_str(), "director_servers = 192.0.2.1"),
        ("mode = 0666", "mode = rw"),
        ("instance_name = ", "!include missing.conf\ninstance_name = "),
    ] {
        let line = text.lines().position(|line| line.trim_start().starts_with(right)).expect("a line") + 1;
        fs::write(&conf, text.replacen(right, wrong, 1)).expect("writing");
        let place = format!("director.conf:{line}: ");
        for outcome in [check(), run(&mut director.daemon_command())] {
            assert_eq!(outcome.code, Some(78), "{right}: {outcome:?}");
            assert!(outcome.stderr.contains(&place), "{right}: not {place} in {outcome:?}");
        }
    }
    fs::remove_file(&conf).expect("removing");
    let missing = check();
    assert_eq!(missing.code, Some(78), "{missing:?}");
    let usage = run(director.daemon_command().arg("--nonsense"));
    assert_eq!(usage.code, Some(64), "{usage:?}");
}

/// Login processes after a restart all come at once.
const LOGIN_CONNECTIONS: usize = 10_000;

#[test]
fn ten_thousand_login_connections() {
    let name = "daemon::ten_thousand_login_connections";
    let Some(lab) = Lab::new(name, &[Need::Dovecot, Need::OurDirector]) else { return };
    let count = raise_open_files(LOGIN_CONNECTIONS);
    if count < LOGIN_CONNECTIONS {
        lab.warn(&format!("only {count} connections: more open files are not allowed here"));
    }
    let plan = Plan { logins: Some(Logins::default()), ..Ring::plan(&lab, 1) };
    let ring = Ring::start(&lab, &[Ours], &plan);
    let director = ring.member(0);
    let before = resident_bytes(director.director_pid()).expect("memory");
    let door = director.door(Door::Login);
    let mut connections = login_processes(&door, count);
    let now = resident_bytes(director.director_pid()).expect("memory");
    lab.say(&format!("{} bytes for each login connection", now.saturating_sub(before) / count as u64));
    for (number, lines) in connections.iter_mut().enumerate() {
        // NUL user NUL password, in base64: the same for all, since only who asks differs.
        lines.send(&format!("AUTH\t{}\tPLAIN\tservice=imap\tresp=AGphbmUAcHc=", number + 1)).expect("sending");
    }
    let home = ring.lookup(0, "jane", "");
    for (number, lines) in connections.iter_mut().enumerate() {
        let answer = lines.expect().unwrap_or_else(|error| panic!("connection {number}: {error}"));
        assert!(answer.starts_with(&format!("OK\t{}\tuser=jane\t", number + 1)), "{answer}");
        assert!(answer.contains(&format!("\thost={home}")), "{answer}");
    }
    drop(connections);
    assert_eq!(director.authreply().lookup("jane").expect("a lookup"), Reply::Host(home));
}
