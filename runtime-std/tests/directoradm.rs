//! `directoradm` as a process, against a server that says what it is told to say.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;

use tempfile::TempDir;

const VERSION: &str = "VERSION\tdirector-doveadm\t1\t0\n";

/// A server in a folder; every connection is greeted, and each of its lines is answered.
struct Server {
    folder: TempDir,
    heard: Arc<Mutex<Vec<String>>>,
}

/// Hang up instead of answering.
const CLOSE: &str = "CLOSE";

impl Server {
    fn start(greeting: &'static str, answer: impl Fn(&str) -> &'static str + Send + Sync + 'static) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(folder.path().join("director-admin")).unwrap();
        let heard = Arc::<Mutex<Vec<String>>>::default();
        let answer = Arc::new(answer);
        let said = Arc::clone(&heard);
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let (answer, heard) = (Arc::clone(&answer), Arc::clone(&said));
                thread::spawn(move || serve(stream.try_clone().unwrap(), stream, greeting, &*answer, &heard));
            }
        });
        Self { folder, heard }
    }

    fn run(&self, args: &str) -> Output {
        run(self.folder.path(), args)
    }
}

fn serve(
    reader: impl std::io::Read,
    mut writer: impl Write,
    greeting: &str,
    answer: &dyn Fn(&str) -> &'static str,
    heard: &Mutex<Vec<String>>,
) {
    let _ = writer.write_all(greeting.as_bytes());
    for line in BufReader::new(reader).lines().map_while(Result::ok) {
        if !line.starts_with("VERSION\t") {
            heard.lock().unwrap().push(line.clone());
            match answer(&line) {
                CLOSE => return,
                answer => {
                    let _ = writer.write_all(answer.as_bytes());
                }
            }
        }
    }
}

/// Runs it with base_dir (and all that it keeps) in `folder`.
fn run(folder: &Path, args: &str) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_directoradm"));
    let configuration = folder.join("director.conf");
    std::fs::write(&configuration, format!("base_dir = {}\n", folder.display())).unwrap();
    command.arg("-c").arg(configuration).args(args.split(' ').filter(|word| !word.is_empty()));
    command.env("XDG_STATE_HOME", folder.join("state")).env("TZ", "America/New_York");
    command.stdin(Stdio::null()).output().unwrap()
}

fn stdout(output: &Output) -> &str {
    std::str::from_utf8(&output.stdout).unwrap()
}

fn stderr(output: &Output) -> &str {
    std::str::from_utf8(&output.stderr).unwrap()
}

#[test]
fn errors_say_where_it_looked_and_what_to_do() {
    let empty = tempfile::tempdir().unwrap();
    let socket = empty.path().join("director-admin").display().to_string();
    let output = run(empty.path(), "status");
    assert_eq!(output.status.code(), Some(75));
    assert!(stderr(&output).starts_with(&format!("Fatal: cannot connect to {socket} (")), "{output:?}");
    assert!(stderr(&output).contains("No such file or directory: is the director running?"), "{output:?}");

    // Nobody listens there any more.
    drop(UnixListener::bind(&socket).unwrap());
    let output = run(empty.path(), "status");
    assert_eq!(output.status.code(), Some(75));
    assert!(stderr(&output).contains("Connection refused: nobody listens there"), "{output:?}");

    let output = run(empty.path(), "-o director_user_expire=nonsense status");
    assert_eq!(output.status.code(), Some(78), "{output:?}");
    assert!(run(empty.path(), "nonsense").status.code() == Some(64));
    assert!(run(empty.path(), "--help").status.success());
}

#[test]
fn other_servers_are_recognised() {
    for greeting in ["VERSION\tauth\t1\t0\n", "VERSION\tdirector-doveadm\t2\t0\n", "* OK ready\u{1b}[2J\n"] {
        let output = Server::start(greeting, |_| "").run("status");
        assert_eq!(output.status.code(), Some(76), "{output:?}");
        assert!(stderr(&output).contains("not a compatible director-doveadm socket: it says '"), "{output:?}");
        assert!(!stderr(&output).contains('\u{1b}'));
    }
}

#[test]
fn a_server_that_hangs_up_is_told_of() {
    let server = Server::start(VERSION, |_| CLOSE);
    for command in ["status", "dump", "status jane", "add 10.0.0.1", "flush 10.0.0.1", "drain 10.0.0.1", "ring status"]
    {
        let output = server.run(command);
        assert_eq!(output.status.code(), Some(75), "{command}: {output:?}");
        assert!(stderr(&output).contains("director-admin unexpectedly disconnected"), "{command}: {output:?}");
    }
}

/// A director of ours says why before it hangs up.
#[test]
fn the_reason_of_a_refusal_reaches_the_operator() {
    let server = Server::start("VERSION\tdirector-doveadm\t1\t0\nno such command\n", |_| CLOSE);
    let output = server.run("kick jane");
    assert_eq!(output.status.code(), Some(75));
    assert_eq!(stderr(&output), "Error: failed: no such command\n");
}

#[test]
fn lines_of_a_list_that_make_no_sense_are_left_out() {
    let server = Server::start(VERSION, |_| "nonsense\u{1b}\n10.0.0.1\t100\t5\t\tU\t0\n\n");
    let output = server.run("-f tab status");
    assert_eq!(output.status.code(), Some(76));
    assert_eq!(stdout(&output).lines().nth(1), Some("10.0.0.1\t\t100\tup\t-\t5"));
    assert_eq!(stderr(&output), "Error: Invalid HOST-LIST reply: nonsense\\u{1b}\n");
}

#[test]
fn times_are_the_operators() {
    let server = Server::start(VERSION, |_| "10.0.0.1\t1795309353\t10.0.0.2\t10.0.0.1\n");
    let output = server.run("-f tab status jane blue");
    assert_eq!(
        stdout(&output),
        "status\texpires\thashed\tinitial-config\n10.0.0.1\t2026-11-21 20:02:33\t10.0.0.2\t10.0.0.1\n"
    );
    assert_eq!(*server.heard.lock().unwrap(), ["USER-LOOKUP\t1480892766\tblue"]);
}

/// Silence, unless somebody asked to hear of it or something is wrong.
#[test]
fn changes_report_as_doveadm_does() {
    let server = Server::start(VERSION, |line| if line.contains("10.0.0.9") { "NOTFOUND\n" } else { "OK\n" });
    let output = server.run("director up 10.0.0.1");
    assert_eq!((output.status.code(), stdout(&output), stderr(&output)), (Some(0), "", ""));
    let output = server.run("-v director up 10.0.0.1");
    assert_eq!(stderr(&output), "Info: 10.0.0.1: up\n");
    let output = server.run("up 10.0.0.9");
    assert_eq!((output.status.code(), stderr(&output)), (Some(68), "Error: 10.0.0.9: doesn't exist\n"));
    server.run("flush --max-parallel 7 10.0.0.1");
    server.run("move 12345 10.0.0.1");
    assert!(
        server
            .heard
            .lock()
            .unwrap()
            .ends_with(&["HOST-RESET-USERS\t10.0.0.1\t7".to_owned(), "USER-MOVE\t2189216526\t10.0.0.1".to_owned()])
    );
}

/// Scripts that ran without a terminal got no output; the answer of a flush may take hours.
#[test]
fn a_long_flush_shows_progress_only_where_it_is_wanted() {
    let slow = |line: &str| {
        if line.starts_with("HOST-LIST") {
            return "10.0.0.1\t0\t5\t\tU\t0\n\n";
        }
        thread::sleep(std::time::Duration::from_millis(1500));
        "OK\n"
    };
    let server = Server::start(VERSION, slow);
    assert_eq!(stderr(&server.run("flush 10.0.0.1")), "");
    let verbose = server.run("-v flush 10.0.0.1");
    assert!(stderr(&verbose).starts_with("10.0.0.1: 5 of 5 users left, "), "{verbose:?}");
    assert!(stderr(&verbose).ends_with("\nInfo: 10.0.0.1: flushed\n"), "{verbose:?}");
}

#[test]
fn names_come_from_auth() {
    let server = Server::start(VERSION, |_| "1480892766\t1795309353\t10.0.0.1\n7\t0\t10.0.0.2\n\n");
    let auth = UnixListener::bind(server.folder.path().join("auth-userdb")).unwrap();
    let heard = Arc::<Mutex<Vec<String>>>::default();
    let asked = Arc::clone(&heard);
    thread::spawn(move || {
        let (stream, _) = auth.accept().unwrap();
        let list = "LIST\t1\tjane\nLIST\t1\ta\u{1}tb\nDONE\t1\n";
        serve(stream.try_clone().unwrap(), stream, "VERSION\t1\t2\nSPID\t77\n", &|_| list, &asked);
    });
    let output = server.run("-f tab map 10.0.0.1");
    let rows: Vec<&str> = stdout(&output).lines().skip(1).collect();
    assert_eq!(
        rows,
        ["jane\t1480892766\t10.0.0.1\t2026-11-21 20:02:33", "<unknown>\t7\t10.0.0.2\t1969-12-31 19:00:00"]
    );
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(*server.heard.lock().unwrap(), ["USER-LIST\t10.0.0.1"]);
    assert_eq!(*heard.lock().unwrap(), ["LIST\t1"]);
}

#[test]
fn tcp_is_spoken_too() {
    for address in ["127.0.0.1:0", "[::1]:0"] {
        // A machine may be without IPv6.
        let Ok(listener) = TcpListener::bind(address) else { continue };
        let target = listener.local_addr().unwrap();
        thread::spawn(move || {
            let (stream, _) = listener.accept().unwrap();
            let heard = Mutex::default();
            serve(stream.try_clone().unwrap(), stream, VERSION, &|_| "OK\n", &heard);
        });
        let folder = tempfile::tempdir().unwrap();
        let output = run(folder.path(), &format!("-v -a {target} down 10.0.0.1"));
        assert_eq!(stderr(&output), "Info: 10.0.0.1: down\n");
    }
}

#[test]
fn watch_goes_on_when_the_director_comes_back() {
    let listed = |line: &str| if line == "HOST-LIST" { "10.0.0.1\t100\t5\t\tU\t0\n\n" } else { CLOSE };
    let output = Server::start(VERSION, listed).run("watch --count 2");
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert_eq!(stdout(&output).matches("unexpectedly disconnected").count(), 2, "{output:?}");
    let answer = |line: &str| match line {
        "HOST-LIST" => "10.0.0.1\t100\t5\t\tU\t0\n\n",
        _ => "10.9.0.1\t9090\tself\t0\tring synced\t0\n\n",
    };
    let output = Server::start(VERSION, answer).run("watch --count 1");
    assert!(stdout(&output).starts_with("ring synced, 5 users, 1 of 1 backends in use "), "{output:?}");
    assert!(!stdout(&output).contains('\u{1b}'), "not a terminal");
}
