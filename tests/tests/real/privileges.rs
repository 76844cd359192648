//! Started by root, a director is root no more, and does all the same; started by somebody else, it does what it may.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::Path;

use director_tests::Kind::{self, Smol, Std};
use director_tests::clients::authreply::Reply;
use director_tests::clients::{AuthReply, Imap};
use director_tests::director::{Director, Door, IMAP_PORT};
use director_tests::process::Process;
use director_tests::{Backend, LIMIT, Lab, Logins, Need, Plan, Ring, predict, wait_for};
use rustix::process::{Pid, Signal};

/// Debian's user of Dovecot's own processes.
const USER: &str = "dovecot";

/// User and group numbers of an account.
fn account(name: &str) -> (u32, u32) {
    let passwd = fs::read_to_string("/etc/passwd").expect("/etc/passwd");
    let line = passwd.lines().find(|line| line.split(':').next() == Some(name)).expect("an account");
    let number = |field| line.split(':').nth(field).and_then(|number| number.parse().ok()).expect("a number");
    (number(2), number(3))
}

/// What the system says about a thread: the words after a name.
fn status(task: &Path, field: &str) -> Vec<String> {
    let text = fs::read_to_string(task.join("status")).expect("a thread's status");
    let line = text.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':')).expect("a field");
    line.split_whitespace().map(Into::into).collect()
}

/// Fails unless every thread of a process is this user, in this group and no other, and has no capability.
fn assert_is_nobody_else(pid: Pid, (user, group): (u32, u32)) {
    let tasks = fs::read_dir(format!("/proc/{}/task", pid.as_raw_nonzero())).expect("threads");
    for task in tasks.map(|task| task.expect("a thread").path()) {
        assert_eq!(status(&task, "Uid"), vec![user.to_string(); 4]);
        assert_eq!(status(&task, "Gid"), vec![group.to_string(); 4]);
        let groups = status(&task, "Groups");
        assert!(groups.iter().all(|one| *one == group.to_string()), "{groups:?}");
        for set in ["CapInh", "CapPrm", "CapEff", "CapAmb"] {
            assert_eq!(status(&task, set), ["0000000000000000"], "{set}");
        }
    }
}

fn login(director: &Director, user: &str) -> Imap {
    wait_for("a login", LIMIT, || Imap::login(director.address(IMAP_PORT), user))
}

fn wait_ended(session: &mut Imap) {
    wait_for("the end of a session", LIMIT, || match session.command("NOOP") {
        Ok(_) => Err("alive"),
        Err(_) => Ok(()),
    });
}

/// A reload that adds and removes a socket, and finds the log rotated.
fn reload(director: &mut Director) {
    let pid = director.daemon().pid();
    let settings = director.director_conf();
    let text = fs::read_to_string(&settings).expect("settings");
    let more = "service director {\n  unix_listener login/ext/more-auth {\n    mode = 0640\n    user = $default_login_user\n  }\n}\n";
    fs::write(&settings, format!("{text}{more}")).expect("settings");
    // Nobody but root can read them from now on.
    fs::set_permissions(&settings, fs::Permissions::from_mode(0o600)).expect("permissions");
    let folder = settings.parent().expect("a folder").to_owned();
    fs::rename(folder.join("director.log"), folder.join("director.1.log")).expect("the log");
    director.daemon().signal(Signal::HUP);
    let socket = director.base_dir().join("login/ext/more-auth");
    let metadata = wait_for("the new socket", LIMIT, || fs::symlink_metadata(&socket));
    assert_eq!((metadata.uid(), metadata.mode() & 0o777), (account("dovenull").0, 0o640));
    // The other process makes the socket; the daemon logs it once it has been handed over.
    wait_for("the line in the new log", LIMIT, || {
        let log = director.log();
        if log.contains("more-auth is open") { Ok(()) } else { Err(log) }
    });
    fs::write(&settings, &text).expect("settings");
    director.daemon().signal(Signal::HUP);
    wait_for("the end of the new socket", LIMIT, || if socket.exists() { Err("there") } else { Ok(()) });
    // Signals also come while the daemon waits for the process that opens files.
    let reloads = || director.log().matches("were read again").count();
    let before = reloads();
    wait_for("twenty more reloads", LIMIT, || {
        rustix::process::kill_process(pid, Signal::HUP).expect("a signal");
        match reloads() - before {
            20.. => Ok(()),
            reloads => Err(reloads),
        }
    });
    assert!(!director.log().contains("Error"), "{}", director.log());
}

fn root_is_given_up(name: &str, kind: Kind) {
    let Some(lab) = Lab::new(name, &[Need::Dovecot, Need::BothOurDirectors]) else { return };
    let backend = Backend::start(&lab, 2);
    let ip = backend.addresses();
    let plan = Plan {
        mail_servers: format!("{} {}", ip[0], ip[1]),
        settings: "director_user_kick_delay = 1s".into(),
        logins: Some(Logins::default()),
        ..Ring::plan(&lab, 1)
    };
    let mut ring = Ring::start(&lab, &[kind], &plan);
    let director = ring.member_mut(0);
    let pid = director.daemon().pid();
    assert_is_nobody_else(pid, account(USER));

    let mut session = login(director, "jane");
    director.doveadm(&["kick", "jane"]).success();
    wait_ended(&mut session);
    let mut session = login(director, "jane");
    let home = predict::backend("jane", ip);
    let other = if ip[0] == home { ip[1] } else { ip[0] };
    director.doveadm(&["move", "jane", &other.to_string()]).success();
    wait_ended(&mut session);
    drop(login(director, "jane"));
    assert_eq!(backend.visited_by("jane"), [home, other].into());

    reload(director);
    // Names are read in a thread of its own: that one, too.
    assert_is_nobody_else(pid, account(USER));

    director.restart_dovecot();
    drop(login(director, "joe"));
    director.reload_dovecot();
    drop(login(director, "jill"));
    // As after the machine's start: the folders are gone, and Dovecot makes them anew, with other owners than us.
    director.restart_dovecot_in_new_folders();
    drop(login(director, "jack"));
    for door in [Door::Login, Door::Userdb, Door::Admin, Door::Notify] {
        let path = director.door(door);
        wait_for(&format!("{}", path.display()), LIMIT, || fs::symlink_metadata(&path));
    }
    assert_eq!(fs::metadata(director.door(Door::Notify)).expect("the FIFO").uid(), account("dovenull").0);

    assert_eq!(director.daemon().pid(), pid);
    assert_is_nobody_else(pid, account(USER));
    director.daemon().stop();
    for door in [Door::Login, Door::Userdb, Door::Admin, Door::Notify] {
        assert!(!director.door(door).exists(), "{door:?}");
    }
}

#[test]
fn director_gives_root_up() {
    root_is_given_up("privileges::director_gives_root_up", Smol);
}

#[test]
fn director_std_gives_root_up() {
    root_is_given_up("privileges::director_std_gives_root_up", Std);
}

/// The settings decide who it is; numbers are as good as names.
#[test]
fn another_user_may_be_named() {
    let Some(lab) = Lab::new("privileges::another_user_may_be_named", &[Need::Dovecot, Need::OurDirector]) else {
        return;
    };
    for (lines, expected) in
        [("user = 65534\n  group = 65533", (65534, 65533)), ("user = dovenull", account("dovenull"))]
    {
        let settings = format!("service director {{\n  {lines}\n}}");
        let mut ring = Ring::start(&lab, &[Kind::Ours], &Plan { settings, ..Ring::plan(&lab, 1) });
        assert_is_nobody_else(ring.member_mut(0).daemon().pid(), expected);
        ring.lookup(0, "jane", "");
        ring.member_mut(0).stop();
    }
}

#[test]
fn root_is_kept_only_if_the_settings_say_so() {
    let Some(lab) =
        Lab::new("privileges::root_is_kept_only_if_the_settings_say_so", &[Need::Dovecot, Need::OurDirector])
    else {
        return;
    };
    let settings = "service director {\n  user = root\n}".to_owned();
    let mut ring = Ring::start(&lab, &[Kind::Ours], &Plan { settings, ..Ring::plan(&lab, 1) });
    let pid = ring.member_mut(0).daemon().pid();
    assert_eq!(status(Path::new(&format!("/proc/{}", pid.as_raw_nonzero())), "Uid"), vec!["0"; 4]);
    ring.lookup(0, "jane", "");
    // No director runs as somebody who is not there.
    let settings = "service director {\n  user = nobody-of-this-name\n}".to_owned();
    let mut ring = Ring::prepare(&lab, &[Kind::Ours], &Plan { settings, ..Ring::plan(&lab, 1) });
    ring.member_mut(0).start_daemon();
    assert_eq!(ring.member_mut(0).daemon().wait().code(), Some(78));
}

fn without_root(name: &str, kind: Kind) {
    let Some(lab) = Lab::new(name, &[Need::Dovecot, Need::BothOurDirectors]) else { return };
    let mut ring = Ring::prepare(&lab, &[kind], &Ring::plan(&lab, 1));
    let director = ring.member_mut(0);
    let (user, group) = account("nobody");
    // Whose folders they are; and nobody can give a FIFO to somebody else.
    let text =
        fs::read_to_string(director.director_conf()).expect("settings").replace("user = $default_login_user", "");
    fs::write(director.director_conf(), text).expect("settings");
    let base_dir = director.base_dir();
    for folder in [base_dir.parent().expect("a folder"), &base_dir, &base_dir.join("login")] {
        chown(folder, Some(user), Some(group)).expect("chown");
    }
    let mut command = director.daemon_command();
    command.uid(user).gid(group);
    let mut process = Process::start("director", &mut command, &lab.folder().join("output.log"));
    wait_for("a lookup", LIMIT, || match AuthReply::connect(&director.door(Door::AuthReply))?.lookup("jane")? {
        Reply::Host(_) => Ok(()),
        other => Err(std::io::Error::other(format!("{other:?}"))),
    });
    assert_is_nobody_else(process.pid(), (user, group));
    process.signal(Signal::HUP);
    wait_for("the reload", LIMIT, || if director.log().contains("again") { Ok(()) } else { Err("not in the log") });
    assert!(process.stop().success());
    assert!(!director.door(Door::Admin).exists());
}

#[test]
fn director_needs_no_root() {
    without_root("privileges::director_needs_no_root", Smol);
}

#[test]
fn director_std_needs_no_root() {
    without_root("privileges::director_std_needs_no_root", Std);
}
