//! What administrators' programs may rely on.

use std::fs;
use std::io::{Read, Write};
use std::net::{IpAddr, TcpListener};
use std::os::unix::fs::PermissionsExt;
use std::sync::{Arc, mpsc};

use director_tests::Kind::{self, Dovecot, Ours};
use director_tests::clients::HostLine;
use director_tests::{LIMIT, Lab, Need, Plan, Ring, wait_for};

fn host<'a>(hosts: &'a [HostLine], ip: &str) -> Option<&'a HostLine> {
    let ip: IpAddr = ip.parse().expect("an address");
    hosts.iter().find(|host| host.ip == ip)
}

/// Health monitors write HOST-DOWN and HOST-FLUSH at once. The first waits for the ring; the original loses what comes
/// after it (scenarios 1 and 37).
fn several_in_one_write(name: &str, kinds: &[Kind]) {
    let Some(lab) = Lab::new(name, &[Need::Dovecot, Need::OurDirector]) else { return };
    let ring = Ring::start(&lab, kinds, &Ring::plan(&lab, 3));
    let commanded = kinds.iter().position(|kind| *kind == Ours).expect("one of ours");
    let mut admin = ring.member(commanded).admin();
    for round in 0..10 {
        let text = format!(
            "HOST-DOWN\t10.1.2.1\nHOST-FLUSH\t10.1.2.1\nHOST-SET\t10.1.2.9\t{}\nHOST-DOWN\t10.9.9.9\nHOST-LIST\n",
            50 + round
        );
        admin.lines().send_bytes(text.as_bytes()).expect("sending");
        let mut answer = || admin.lines().expect().expect("an answer");
        assert_eq!([answer(), answer(), answer(), answer()], ["OK", "OK", "OK", "NOTFOUND"]);
        let listed: Vec<String> = std::iter::from_fn(|| Some(answer()).filter(|line| !line.is_empty())).collect();
        assert!(listed.iter().any(|line| line.starts_with(&format!("10.1.2.9\t{}\t", 50 + round))), "{listed:?}");
        // OK means everywhere.
        for member in ring.members() {
            let hosts = member.admin().hosts().expect("hosts");
            assert_eq!(host(&hosts, "10.1.2.1").map(|host| host.state.as_str()), Some("D"), "{}", member.ip());
            assert_eq!(host(&hosts, "10.1.2.9").map(|host| host.vhosts), Some(50 + round), "{}", member.ip());
        }
        admin.lines().send_bytes(b"HOST-UP\t10.1.2.1\nHOST-REMOVE\t10.1.2.9\n").expect("sending");
        let mut answer = || admin.lines().expect().expect("an answer");
        assert_eq!([answer(), answer()], ["OK", "OK"]);
    }
    ring.wait_synced();
    let hosts = ring.wait_same_hosts();
    assert_eq!(hosts.len(), 5);
    assert!(hosts.iter().all(|host| host.state == "U"), "{hosts:?}");
}

#[test]
fn several_in_one_write_among_ours() {
    several_in_one_write("admin_commands::several_in_one_write_among_ours", &[Ours, Ours, Ours]);
}

#[test]
fn several_in_one_write_among_theirs() {
    several_in_one_write("admin_commands::several_in_one_write_among_theirs", &[Dovecot, Ours, Dovecot]);
}

/// Scenario 2: who commands and leaves at once is obeyed all the same.
#[test]
fn obeyed_though_the_client_left() {
    let name = "admin_commands::obeyed_though_the_client_left";
    let Some(lab) = Lab::new(name, &[Need::Dovecot, Need::Director]) else { return };
    let ring = Ring::start(&lab, &[Ours, Dovecot, Ours], &Ring::plan(&lab, 3));
    for (number, member) in ring.members().iter().enumerate() {
        for vhosts in 10 * (number + 1)..10 * (number + 1) + 5 {
            let mut admin = member.admin();
            admin.lines().send(&format!("HOST-SET\t10.1.2.1\t{vhosts}")).expect("sending");
            drop(admin);
            wait_for("the command to be carried out everywhere", LIMIT, || {
                let hosts = ring.wait_same_hosts();
                let now = host(&hosts, "10.1.2.1").map_or(0, |host| host.vhosts as usize);
                if now == vhosts { Ok(()) } else { Err(now) }
            });
            ring.wait_synced();
        }
    }
}

/// Scenario 6: with all backends down, nothing makes administrators wait; users wait for a backend and get it.
#[test]
fn all_backends_down() {
    let Some(lab) = Lab::new("admin_commands::all_backends_down", &[Need::Dovecot, Need::Director]) else { return };
    let ring = Ring::start(&lab, &[Ours, Dovecot, Ours], &Ring::plan(&lab, 3));
    let mut admin = ring.member(0).admin();
    for last in 1..=5 {
        assert_eq!(admin.command(&format!("HOST-DOWN\t10.1.2.{last}")).expect("an answer"), "OK");
    }
    std::thread::scope(|scope| {
        let waiting = [0, 1, 2].map(|index| {
            let ring = &ring;
            scope.spawn(move || ring.lookup(index, &format!("waits-{index}"), ""))
        });
        // Each of these is answered, or the lookups would time out.
        assert_eq!(admin.command("HOST-SET\t10.1.2.9\t0").expect("an answer"), "OK");
        assert_eq!(admin.command("HOST-UP\t10.1.2.4").expect("an answer"), "OK");
        for (index, thread) in waiting.into_iter().enumerate() {
            let ip = thread.join().expect("a lookup");
            assert_eq!(ip, IpAddr::from([10, 1, 2, 4]));
            ring.wait_known(&format!("waits-{index}"), "", ip);
        }
    });
}

/// Moves a user by each director of a ring with this flush socket; `said` tells what the script has been told since it
/// was asked last.
fn flush_script_runs_once(lab: &Arc<Lab>, kinds: &[Kind], socket: &str, said: &dyn Fn() -> String) {
    let plan = Plan { settings: format!("director_flush_socket = {socket}"), ..Ring::plan(lab, 3) };
    let ring = Ring::start(lab, kinds, &plan);
    let old = ring.lookup(0, "jane", "");
    let new = IpAddr::from([10, 1, 2, if old == IpAddr::from([10, 1, 2, 5]) { 4 } else { 5 }]);
    ring.wait_known("jane", "", old);
    let hash = director_tests::predict::hash("jane");
    for (director, from, to) in [(0, old, new), (1, new, old), (2, old, new)] {
        wait_for("the end of the move before", LIMIT, || {
            let outcome = ring.member(director).doveadm(&["move", "jane", &to.to_string()]);
            if outcome.code == Some(75) { Err(outcome.stderr) } else { Ok(outcome.success()) }
        });
        // The user gets in again when the script is done.
        assert_eq!(ring.lookup(director, "jane", ""), to);
        assert_eq!(said(), format!("FLUSH {hash} {from} {to} up 100\n"), "moved on director {}", director + 1);
    }
}

/// The script that must end before a moved user gets in again is run once in the whole ring, and told what it needs to
/// know (kick and flush, "The flush socket").
#[test]
fn flush_socket_is_used_once() {
    let name = "admin_commands::flush_socket_is_used_once";
    let Some(lab) = Lab::new(name, &[Need::Dovecot, Need::Director]) else { return };
    let listener = TcpListener::bind((lab.ip(50), 0)).expect("a socket for the script");
    let address = listener.local_addr().expect("its address");
    let (tell, told) = mpsc::channel();
    // Ends with the process: there is no way to stop waiting for a connection that does not come.
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.expect("a connection");
            let mut text = String::new();
            stream.read_to_string(&mut text).expect("what the director says");
            tell.send(text).expect("the test");
            let _ = stream.write_all(b"+\n");
        }
    });
    let said = || {
        let mut lines = String::new();
        for text in told.try_iter() {
            // The original ends with the end of an empty mail, which its own scripts never look at.
            let text = text.strip_suffix("\r\n.\r\n").unwrap_or(&text);
            let arguments = text.strip_prefix("VERSION\tscript\t4\t0\n-\n").and_then(|text| text.strip_suffix("\n\n"));
            lines += &arguments.unwrap_or_else(|| panic!("{text:?}")).replace('\n', " ");
            lines += "\n";
        }
        lines
    };
    flush_script_runs_once(&lab, &[Ours, Dovecot, Ours], &format!("tcp:{address}"), &said);
}

/// The original is caged in base_dir, where no program is.
#[test]
fn flush_program_is_run_once() {
    let name = "admin_commands::flush_program_is_run_once";
    let Some(lab) = Lab::new(name, &[Need::OurDirector, Need::Dovecot]) else { return };
    let script = lab.folder().join("flush.sh");
    let calls = lab.shared_folder().join("flush-calls");
    fs::write(&script, format!("#!/bin/sh\necho \"$*\" >> {}\n", calls.display())).expect("script");
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).expect("permissions");
    let said = || {
        let text = fs::read_to_string(&calls).unwrap_or_default();
        let _ = fs::remove_file(&calls);
        text
    };
    flush_script_runs_once(&lab, &[Ours, Ours, Ours], &format!("exec:{}", script.display()), &said);
}
