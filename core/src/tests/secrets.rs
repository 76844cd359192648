//! What the log says of logins at level debug, and what it never says.

use std::cell::RefCell;
use std::sync::Once;

use crate::contract::{Action, Target};
use crate::director::Director;

use super::*;

thread_local! {
    /// What was logged on this thread; `None`: nothing is wanted.
    static LOGGED: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Logs for the thread that asks for it: the other tests of this process stay quiet.
struct Capture;

impl log::Log for Capture {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        LOGGED.with_borrow(Option::is_some)
    }

    fn log(&self, record: &log::Record<'_>) {
        LOGGED.with_borrow_mut(|logged| {
            if let Some(logged) = logged {
                logged.push_str(&format!("{}\n", record.args()));
            }
        });
    }

    fn flush(&self) {}
}

fn capture() {
    static INSTALL: Once = Once::new();
    INSTALL.call_once(|| {
        log::set_logger(&Capture).expect("no other logger in this process");
        log::set_max_level(log::LevelFilter::Debug);
    });
    LOGGED.set(Some(String::new()));
}

/// What is logged meanwhile.
pub(super) fn logged_during(work: impl FnOnce()) -> String {
    capture();
    work();
    LOGGED.take().expect("captured")
}

/// A login in pieces of so many bytes, with a director that runs alone. Returns what was logged.
fn logged_of_a_login(piece_bytes: usize, client_says: &str, auth_says: &str) -> String {
    let mut alone = configuration(1, 1);
    alone.members.clear();
    alone.self_address = "127.0.0.1:0".parse().unwrap();
    let now = crate::time::Now { unix_secs: crate::testing::START_SECS, ..Default::default() };
    let mut director = Director::new(alone, 1, now);
    capture();
    let client = director.accept(Role::Login, None, now);
    let mut auth = None;
    while let Some(action) = director.poll_action() {
        if let Action::Connect { connection, target: Target::AuthLogin } = action {
            auth = Some(connection);
        }
    }
    let auth = auth.expect("each client gets a connection to auth");
    director.handle(Event::Connected { connection: auth }, now);
    for (connection, text) in [(client, client_says), (auth, auth_says)] {
        for bytes in text.as_bytes().chunks(piece_bytes) {
            director.handle(Event::Received { connection, bytes }, now);
        }
    }
    assert_eq!(director.poll_output(auth, now), client_says.as_bytes(), "what a client says passes as it is");
    LOGGED.take().expect("captured")
}

#[test]
fn every_line_of_a_login_is_logged_and_no_password() {
    let client = "VERSION\t1\t2\nAUTH\t1\tPLAIN\tservice=imap\tresp=AGphbmUAaHVudGVyMg==\nCONT\t1\taHVudGVyMg==\n";
    let auth = "OK\t1\tuser=jane\tproxy\tpass=hunter2\n";
    for piece_bytes in [1, 7, 1000] {
        let logged = logged_of_a_login(piece_bytes, client, auth);
        for said in ["input: VERSION", "input: AUTH", "service=imap", "input: CONT", "from auth: OK", "host=127.0.2.1"]
        {
            assert!(logged.contains(said), "{said} is not in:\n{logged}");
        }
        for secret in ["hunter2", "aHVudGVyMg", "AGphbmUA"] {
            assert!(!logged.contains(secret), "{secret} is in:\n{logged}");
        }
    }
}

#[test]
fn no_half_of_a_line_that_is_too_long_is_logged() {
    let client = format!("AUTH\t1\tPLAIN\tresp={}hunter2\nVERSION\t1\t2\n", "x".repeat(20_000));
    for piece_bytes in [100, 16_000, 60_000] {
        let logged = logged_of_a_login(piece_bytes, &client, "OK\t1\tuser=jane\n");
        assert!(!logged.contains("hunter2") && !logged.contains("xxx"), "{logged}");
    }
}
