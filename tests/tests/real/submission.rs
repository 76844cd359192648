//! Submission and ManageSieve: their login processes ask the director as those of IMAP do.

use std::collections::BTreeSet;
use std::io::{self, BufRead, BufReader, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};

use director_tests::Kind::{self, Ours, Ours24};
use director_tests::backend::{
    IMAP_PORT as BACKEND_IMAP, SIEVE_PORT as BACKEND_SIEVE, SUBMISSION_PORT as BACKEND_SUBMISSION,
};
use director_tests::clients::{Imap, ManageSieve, Submission};
use director_tests::director::{Director, IMAP_PORT, SIEVE_PORT, SUBMISSION_PORT};
use director_tests::ring::users;
use director_tests::{Backend, LIMIT, Lab, Logins, Need, Plan, Ring, predict, wait_for};

/// A server that backends' Submission hands mail to: each session connects to it first. Gives back its port. It ends
/// with the tests.
fn relay(ip: IpAddr) -> io::Result<u16> {
    let listener = TcpListener::bind((ip, 0))?;
    let port = listener.local_addr()?.port();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            std::thread::spawn(move || answer(&stream));
        }
    });
    Ok(port)
}

fn answer(mut stream: &TcpStream) -> io::Result<()> {
    stream.write_all(b"220 localhost ESMTP\r\n")?;
    for line in BufReader::new(stream).lines() {
        line?;
        stream.write_all(b"250 localhost\r\n")?;
    }
    Ok(())
}

/// The two services, whoever has them: their ports, and what their login processes are started with.
fn services(submission_port: u16, sieve_port: u16, director: &str) -> String {
    format!(
        r"protocols = imap pop3 lmtp submission sieve
service submission-login {{
  executable = submission-login {director}
  inet_listener submission {{
    port = {submission_port}
  }}
  inet_listener submissions {{
    port = 0
  }}
}}
service managesieve-login {{
  executable = managesieve-login {director}
  inet_listener sieve {{
    port = {sieve_port}
  }}
}}
"
    )
}

fn submission_and_managesieve(name: &str, kind: Kind) {
    let needs = [&[Need::Dovecot, Need::OurDirector, Need::SubmissionAndSieve][..], &Need::of(&[kind])].concat();
    let Some(lab) = Lab::new(name, &needs) else { return };
    let relay_ip = lab.ip(200);
    let relay_port = relay(relay_ip.into()).expect("a relay");
    let backend_settings = services(BACKEND_SUBMISSION, BACKEND_SIEVE, "")
        + &format!("submission_relay_host = {relay_ip}\nsubmission_relay_port = {relay_port}\n");
    let backend = match kind {
        Ours24 => Backend::start_24_also(&lab, 4, &backend_settings),
        _ => Backend::start_also(&lab, 4, &backend_settings),
    };
    let ip = backend.addresses();
    let proxies = services(SUBMISSION_PORT, SIEVE_PORT, "ext/director");
    let unlimited = ["submission", "managesieve"]
        .map(|protocol| format!("service {protocol}-login {{\n  restart_request_count = unlimited\n}}\n"));
    let proxies24 = proxies.clone() + &unlimited.concat();
    let port =
        format!("%{{if;%s;eq;imap;{BACKEND_IMAP};%{{if;%s;eq;submission;{BACKEND_SUBMISSION};{BACKEND_SIEVE}}}}}");
    let passdb = format!("passdb {{\n  driver = static\n  args = proxy=y nopassword=y port={port}\n}}\n");
    let plan = Plan {
        mail_servers: ip.iter().map(|ip| format!("{ip} ")).collect(),
        logins: Some(Logins { passdb, settings: proxies, settings24: proxies24 }),
        settings: "director_user_kick_delay = 1s".into(),
        ..Ring::plan(&lab, 1)
    };
    let ring = Ring::start(&lab, &[kind], &plan);
    let director = ring.member(0);
    for port in [SUBMISSION_PORT, SIEVE_PORT] {
        wait_for("the login processes", LIMIT, || TcpStream::connect(director.address(port)).map(drop));
    }
    for (host, port) in ip.iter().flat_map(|ip| [(ip, BACKEND_SUBMISSION), (ip, BACKEND_SIEVE)]) {
        wait_for("the backends", LIMIT, || TcpStream::connect(SocketAddr::new(*host, port)).map(drop));
    }
    for user in users("user", 20) {
        assert_eq!(Sessions::begin(director, &user).alive(), [true; 3], "{user}");
        assert_visited(&backend, &user, &[predict::backend(&user, ip)]);
    }
    // Kicks and moves end all of a user's sessions, and nobody else's.
    let home = predict::backend("jane", ip);
    let target = *ip.iter().find(|ip| **ip != home).expect("another");
    let mut bystander = Sessions::begin(director, "joe");
    let mut sessions = Sessions::begin(director, "jane");
    director.doveadm(&["kick", "jane"]).success();
    sessions.wait_ended();
    let mut sessions = Sessions::begin(director, "jane");
    assert_visited(&backend, "jane", &[home]);
    director.doveadm(&["move", "jane", &target.to_string()]).success();
    sessions.wait_ended();
    assert_eq!(Sessions::begin(director, "jane").alive(), [true; 3]);
    assert_visited(&backend, "jane", &[home, target]);
    assert_eq!(bystander.alive(), [true; 3]);
}

/// A session of one user by each protocol.
struct Sessions {
    imap: Imap,
    submission: Submission,
    sieve: ManageSieve,
}

impl Sessions {
    fn begin(director: &Director, user: &str) -> Self {
        Self {
            imap: Imap::login(director.address(IMAP_PORT), user).expect("IMAP"),
            submission: Submission::login(director.address(SUBMISSION_PORT), user).expect("Submission"),
            sieve: ManageSieve::login(director.address(SIEVE_PORT), user).expect("ManageSieve"),
        }
    }

    fn alive(&mut self) -> [bool; 3] {
        [
            self.imap.command("NOOP").is_ok(),
            self.submission.command("NOOP").is_ok(),
            self.sieve.command("LISTSCRIPTS").is_ok(),
        ]
    }

    fn wait_ended(&mut self) {
        wait_for("the end of the sessions", LIMIT, || match self.alive() {
            [false, false, false] => Ok(()),
            alive => Err(format!("{alive:?}")),
        });
    }
}

/// Fails unless a user has been on these backends by each protocol, and on no other.
fn assert_visited(backend: &Backend, user: &str, expected: &[IpAddr]) {
    let expected = expected.iter().copied().collect();
    for service in ["imap", "submission", "managesieve"] {
        wait_for(&format!("{service} logins of {user} on {expected:?}"), LIMIT, || {
            let visited: BTreeSet<IpAddr> = backend.logins(service, user);
            if visited == expected { Ok(()) } else { Err(format!("{visited:?}")) }
        });
    }
}

#[test]
fn submission_and_managesieve_ask_it_behind_dovecot_23() {
    submission_and_managesieve("submission::submission_and_managesieve_ask_it_behind_dovecot_23", Ours);
}

#[test]
fn submission_and_managesieve_ask_it_behind_dovecot_24() {
    submission_and_managesieve("submission::submission_and_managesieve_ask_it_behind_dovecot_24", Ours24);
}
