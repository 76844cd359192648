//! What a director daemon does as a process, whichever runtime it has. Each crate with a daemon runs these on its own.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

/// More than anything here takes, even on a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);

const VERSION: &str = "VERSION\tdirector-doveadm\t1\t0";

/// A folder with a configuration, and daemons in it, which end with it.
struct Site {
    folder: tempfile::TempDir,
    binary: PathBuf,
    daemons: Vec<Child>,
}

impl Site {
    /// `Dovecot` has been there if `login` says so.
    fn new(binary: &str, login: bool) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let site = Self { folder, binary: binary.into(), daemons: Vec::new() };
        if login {
            fs::create_dir_all(site.path("run/login")).unwrap();
        }
        site.configure("");
        site
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The folder is for its owner alone, so the daemon is whoever runs the test.
    fn configure(&self, more: &str) {
        let folder = self.folder.path().display();
        let text = format!(
            "base_dir = {folder}/run\n\
             log_path = {folder}/log\n\
             director_mail_servers = 10.0.0.1-10.0.0.5\n\
             service director {{\n\
             user = root\n\
             unix_listener login/ext/director {{\n  mode = 0666\n}}\n\
             unix_listener director-admin {{\n  mode = 0600\n}}\n\
             fifo_listener login/proxy-notify {{\n  mode = 0600\n}}\n\
             }}\n\
             {more}\n"
        );
        fs::write(self.path("director.conf"), text).unwrap();
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.binary);
        command.arg("-c").arg(self.path("director.conf")).args(arguments);
        command
    }

    fn start(&mut self) {
        let daemon = self.command(&["-D"]).stderr(Stdio::null()).spawn().unwrap();
        self.daemons.push(daemon);
    }

    fn start_and_wait(&mut self) {
        let admin = self.path("run/director-admin");
        let _ = fs::remove_file(&admin);
        self.start();
        self.wait("the sockets", |_| admin.exists());
    }

    fn signal(&self, signal: Signal) {
        let daemon = self.daemons.last().unwrap();
        kill_process(Pid::from_child(daemon), signal).unwrap();
    }

    /// The exit code of the last daemon.
    fn exit_code(&mut self) -> i32 {
        let start = Instant::now();
        loop {
            if let Some(status) = self.daemons.last_mut().unwrap().try_wait().unwrap() {
                return status.code().expect("it was not killed");
            }
            assert!(start.elapsed() < PATIENCE, "it does not end; its log:\n{}", self.log());
            thread::sleep(Duration::from_millis(5));
        }
    }

    fn log(&self) -> String {
        fs::read_to_string(self.path("log")).unwrap_or_default()
    }

    fn wait(&self, what: &str, condition: impl Fn(&Self) -> bool) {
        let start = Instant::now();
        while !condition(self) {
            assert!(start.elapsed() < PATIENCE, "waited in vain for {what}; the log:\n{}", self.log());
            thread::sleep(Duration::from_millis(5));
        }
    }

    fn admin(&self) -> Admin {
        let start = Instant::now();
        loop {
            match UnixStream::connect(self.path("run/director-admin")) {
                Ok(stream) => return Admin::new(stream),
                Err(error) => assert!(start.elapsed() < PATIENCE, "{error}"),
            }
        }
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        for daemon in &mut self.daemons {
            // Most have ended already.
            let _ = daemon.kill();
            let _ = daemon.wait();
        }
    }
}

struct Admin(BufReader<UnixStream>);

impl Admin {
    fn new(stream: UnixStream) -> Self {
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut this = Self(BufReader::new(stream));
        assert_eq!(this.line(), VERSION);
        this.say(VERSION);
        this
    }

    fn say(&mut self, line: &str) {
        writeln!(self.0.get_mut(), "{line}").unwrap();
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.0.read_line(&mut line).unwrap();
        line.trim_end_matches('\n').to_owned()
    }

    /// A command with an answer of many lines.
    fn list(&mut self, command: &str) -> Vec<String> {
        self.say(command);
        let mut lines = Vec::new();
        loop {
            match self.line() {
                line if line.is_empty() => return lines,
                line => lines.push(line),
            }
        }
    }
}

fn output(command: &mut Command) -> (i32, String, String) {
    let Output { status, stdout, stderr } = command.output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (status.code().expect("it was not killed"), text(stdout), text(stderr))
}

fn exists(site: &Site, name: &str) -> bool {
    site.path("run").join(name).symlink_metadata().is_ok()
}

const FILES: [&str; 3] = ["director-admin", "login/ext/director", "login/proxy-notify"];

pub(crate) fn serves_and_ends_when_asked(binary: &str) {
    for signal in [Signal::TERM, Signal::INT] {
        let mut site = Site::new(binary, true);
        site.start_and_wait();
        let mut admin = site.admin();
        assert_eq!(admin.list("HOST-LIST").len(), 5);
        assert!(FILES.iter().all(|file| exists(&site, file)));
        let mode = fs::metadata(site.path("run/login/ext")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o755);
        site.signal(signal);
        assert_eq!(site.exit_code(), 0);
        assert!(!FILES.iter().any(|file| exists(&site, file)));
        assert_eq!(admin.line(), "", "the administrator's connection has ended");
    }
}

pub(crate) fn waits_for_dovecot_and_its_auth(binary: &str) {
    let mut site = Site::new(binary, false);
    site.start();
    site.wait("a warning", |site| site.log().contains("Warning: waiting for") && site.log().contains("auth-login"));
    thread::sleep(Duration::from_millis(1200));
    assert_eq!(site.log().matches("run, which Dovecot makes").count(), 1, "{}", site.log());
    fs::create_dir_all(site.path("run/login")).unwrap();
    site.wait("the sockets", |site| FILES.iter().all(|file| exists(site, file)));
    // A login process that comes before auth is there only has to wait.
    let mut login = UnixStream::connect(site.path("run/login/ext/director")).unwrap();
    login.set_read_timeout(Some(PATIENCE)).unwrap();
    login.write_all(b"CPID\t1\n").unwrap();
    thread::sleep(Duration::from_millis(300));
    let auth = UnixListener::bind(site.path("run/auth-login")).unwrap();
    let (mut auth, _) = auth.accept().unwrap();
    auth.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut request = [0; 7];
    auth.read_exact(&mut request).unwrap();
    assert_eq!(&request, b"CPID\t1\n");
    auth.write_all(b"OK\t1\tuser=a\tproxy\n").unwrap();
    let mut answer = String::new();
    BufReader::new(&login).read_line(&mut answer).unwrap();
    assert!(answer.contains("\thost=10.0.0."), "{answer}");
    assert_eq!(
        site.log().matches("Warning: waiting for").count(),
        2,
        "one for the folder and one for auth: {}",
        site.log()
    );
}

pub(crate) fn makes_vanished_sockets_again_within_a_second(binary: &str) {
    let mut site = Site::new(binary, true);
    site.start_and_wait();
    site.wait("all", |site| FILES.iter().all(|file| exists(site, file)));
    for file in FILES {
        fs::remove_file(site.path("run").join(file)).unwrap();
    }
    let start = Instant::now();
    site.wait("the sockets", |site| FILES.iter().all(|file| exists(site, file)));
    // With an allowance for a busy machine.
    assert!(start.elapsed() < Duration::from_secs(3), "{:?}", start.elapsed());
    assert_eq!(site.admin().list("HOST-LIST").len(), 5);
}

/// What `Type=notify` of systemd rests on.
pub(crate) fn tells_its_supervisor_how_it_is(binary: &str) {
    let mut site = Site::new(binary, true);
    let supervisor = UnixDatagram::bind(site.path("notify")).unwrap();
    supervisor.set_read_timeout(Some(PATIENCE)).unwrap();
    let told = || {
        let mut message = [0; 100];
        let count = supervisor.recv(&mut message).unwrap();
        String::from_utf8(message[..count].to_vec()).unwrap()
    };
    let daemon = site.command(&[]).env("NOTIFY_SOCKET", site.path("notify")).stderr(Stdio::null()).spawn().unwrap();
    site.daemons.push(daemon);
    assert_eq!(told(), "READY=1\n");
    // Whoever waited for that can connect.
    assert_eq!(site.admin().list("HOST-LIST").len(), 5);
    site.signal(Signal::HUP);
    assert_eq!([told(), told()], ["RELOADING=1\n", "READY=1\n"]);
    site.signal(Signal::TERM);
    assert_eq!(told(), "STOPPING=1\n");
    assert_eq!(site.exit_code(), 0);
}

pub(crate) fn second_instance_says_so(binary: &str) {
    let mut site = Site::new(binary, true);
    site.start_and_wait();
    let (code, _, stderr) = output(&mut site.command(&[]));
    assert_eq!(code, 69);
    assert!(stderr.contains("director.conf:") && stderr.contains("is a director running already?"), "{stderr}");
    assert_eq!(site.admin().list("HOST-LIST").len(), 5, "the first one is as before");
}

pub(crate) fn sockets_of_a_killed_daemon_are_replaced(binary: &str) {
    let mut site = Site::new(binary, true);
    site.start_and_wait();
    site.wait("all", |site| FILES.iter().all(|file| exists(site, file)));
    site.daemons[0].kill().unwrap();
    site.daemons[0].wait().unwrap();
    assert!(FILES.iter().all(|file| exists(&site, file)), "it had no time to remove them");
    site.start();
    assert_eq!(site.admin().list("HOST-LIST").len(), 5);
    site.signal(Signal::TERM);
    assert_eq!(site.exit_code(), 0);
}

pub(crate) fn reload_keeps_the_map_and_reopens_the_log(binary: &str) {
    let mut site = Site::new(binary, true);
    site.start_and_wait();
    let mut admin = site.admin();
    admin.say("USER-LOOKUP\tsomebody");
    admin.line();
    admin.say("HOST-SET\t10.0.0.9");
    assert_eq!(admin.line(), "OK");
    fs::rename(site.path("log"), site.path("log.1")).unwrap();
    site.configure("service director {\n  unix_listener director-authreply {\n    mode = 0660\n  }\n}\n");
    site.signal(Signal::HUP);
    site.wait("the new socket", |site| exists(site, "director-authreply"));
    let mode = fs::metadata(site.path("run/director-authreply")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o660);
    assert_eq!(admin.list("HOST-LIST").len(), 6, "the connection and what it changed are still there");
    site.wait("the new log", |site| site.log().contains("read again"));
    // What cannot be read changes nothing.
    fs::write(site.path("director.conf"), "director_user_expire = soon\n").unwrap();
    site.signal(Signal::HUP);
    site.wait("an error", |site| site.log().contains("director.conf:1: "));
    assert!(exists(&site, "director-authreply"));
    assert_eq!(admin.list("HOST-LIST").len(), 6);
}

pub(crate) fn wrong_settings_are_told_with_file_and_line(binary: &str) {
    let site = Site::new(binary, true);
    site.configure("director_user_expire = soon");
    for arguments in [&["--check"][..], &[]] {
        let (code, _, stderr) = output(&mut site.command(arguments));
        assert_eq!(code, 78, "{stderr}");
        assert!(stderr.contains("director.conf:16: "), "{stderr}");
    }
    let (code, _, stderr) = output(Command::new(binary).args(["-c", "/nonexistent/director.conf"]));
    assert_eq!((code, stderr.contains("/nonexistent/director.conf")), (78, true), "{stderr}");
    let (code, _, _) = output(Command::new(binary).arg("--nonsense"));
    assert_eq!(code, 64);
}

pub(crate) fn check_prints_what_was_understood(binary: &str) {
    let site = Site::new(binary, true);
    let (code, stdout, stderr) = output(&mut site.command(&["--check"]));
    assert_eq!((code, stderr.as_str()), (0, ""));
    for part in ["10.0.0.1", "login/ext/director", "0666"] {
        assert!(stdout.contains(part), "{part} in {stdout}");
    }
    assert!(!FILES.iter().any(|file| exists(&site, file)), "nothing is opened");
}

pub(crate) fn two_make_a_ring(binary: &str) {
    // Whoever wants the same port between here and there has bad luck; the system gives them out in turn.
    let port = TcpListener::bind("127.0.41.1:0").unwrap().local_addr().unwrap().port();
    let mut sites = Vec::new();
    for own in ["127.0.41.1", "127.0.41.2"] {
        let mut site = Site::new(binary, true);
        site.configure(&format!(
            "director_servers = 127.0.41.1 127.0.41.2\n\
             service director {{\n  inet_listener {{\n    address = {own}\n    port = {port}\n  }}\n}}\n"
        ));
        site.start_and_wait();
        sites.push(site);
    }
    let synced = |site: &Site| {
        let list = site.admin().list("DIRECTOR-LIST");
        list.iter().any(|line| line.contains("\tring synced\t"))
            && list.iter().filter(|line| line.contains("\tsynced\t")).count() == 2
    };
    for site in &sites {
        site.wait("the ring", synced);
    }
    let mut first = sites[0].admin();
    first.say("HOST-DOWN\t10.0.0.3");
    assert_eq!(first.line(), "OK");
    let state = |site: &Site| {
        let hosts = site.admin().list("HOST-LIST");
        hosts.iter().find(|host| host.starts_with("10.0.0.3\t")).unwrap().split('\t').nth(4).unwrap().to_owned()
    };
    assert_eq!(state(&sites[1]), "D", "OK means everywhere");
    sites[0].signal(Signal::TERM);
    assert_eq!(sites[0].exit_code(), 0);
    sites[1].wait("the other's QUIT", |site| site.log().contains("input: QUIT"));
    assert_eq!(state(&sites[1]), "D");
}

pub(crate) fn no_line_in_the_log_has_a_password(binary: &str) {
    let mut site = Site::new(binary, true);
    let auth = UnixListener::bind(site.path("run/auth-login")).unwrap();
    site.start_and_wait();
    site.wait("all", |site| FILES.iter().all(|file| exists(site, file)));
    let mut login = UnixStream::connect(site.path("run/login/ext/director")).unwrap();
    login.write_all(b"AUTH\t1\tPLAIN\tresp=sesame1\n").unwrap();
    let (mut auth, _) = auth.accept().unwrap();
    auth.write_all(b"OK\t1\tuser=a\tproxy\tpass=sesame2\n").unwrap();
    let mut answer = String::new();
    BufReader::new(&login).read_line(&mut answer).unwrap();
    assert!(answer.contains("pass=sesame2\t"), "{answer}");
    site.signal(Signal::TERM);
    assert_eq!(site.exit_code(), 0);
    let log = site.log();
    assert!(log.contains("user=a") && !log.contains("sesame"), "{log}");
}

/// The tests of a daemon: one for each of the functions above.
macro_rules! tests {
    ($binary:expr) => {
        cases::tests! { $binary;
            serves_and_ends_when_asked
            waits_for_dovecot_and_its_auth
            makes_vanished_sockets_again_within_a_second
            tells_its_supervisor_how_it_is
            second_instance_says_so
            sockets_of_a_killed_daemon_are_replaced
            reload_keeps_the_map_and_reopens_the_log
            wrong_settings_are_told_with_file_and_line
            check_prints_what_was_understood
            two_make_a_ring
            no_line_in_the_log_has_a_password
        }
    };
    ($binary:expr; $($case:ident)*) => {
        $(#[test]
        fn $case() {
            cases::$case($binary);
        })*
    };
}
pub(crate) use tests;
