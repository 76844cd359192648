//! From settings to a configuration: names, backends, and which member of the ring we are.

use std::net::IpAddr;

use super::tests::{good, ip, listener};
use super::*;

/// Settings with a ring listener (`address` = its own settings) and these members.
fn ring(servers: &str, address: &str) -> Settings {
    let listener = listener("inet_listener", &format!("port = 9090\n{address}"));
    good(format!("director_servers = {servers}\ndirector_mail_servers = 10.9.0.1\n{listener}"))
}

/// Resolves names that the tests use.
fn resolve(name: &str) -> Result<Vec<IpAddr>, String> {
    match name {
        "one" => Ok(vec![ip("10.0.0.1")]),
        "dual" => Ok(vec![ip("10.0.0.1"), ip("2001:db8::1")]),
        "both" => Ok(vec![ip("10.0.0.1"), ip("10.0.0.2"), ip("10.0.0.1")]),
        "none" => Ok(vec![]),
        _ => Err("Name or service not known".into()),
    }
}

/// A configuration on a machine with these addresses.
pub(super) fn configure(settings: &Settings, machine: &[&str]) -> Result<Configuration, SettingsError> {
    Configuration::new(settings, &mut resolve, &mut |address| machine.iter().any(|own| ip(own) == address))
}

fn self_of(settings: &Settings, machine: &[&str]) -> String {
    configure(settings, machine).unwrap().self_address.to_string()
}

fn refused(settings: &Settings, machine: &[&str]) -> String {
    let error = configure(settings, machine).unwrap_err();
    assert!(!error.remedy.is_empty(), "no remedy: {error}");
    assert!(error.place.line > 0, "no line: {error}");
    error.message
}

#[test]
fn without_members_a_director_stands_alone() {
    for settings in [good("director_mail_servers = 10.9.0.1"), ring("", "")] {
        let configuration = configure(&settings, &[]).unwrap();
        assert_eq!(configuration.self_address.to_string(), "127.0.0.1:0");
        assert_eq!(configuration.members, []);
        assert_eq!(configuration.hosts.len(), 1);
    }
}

#[test]
fn we_are_the_member_that_this_machine_can_be() {
    let machine = ["127.0.0.1", "10.0.0.2", "10.0.0.77"];
    assert_eq!(self_of(&ring("10.0.0.1 10.0.0.2 10.0.0.3", ""), &machine), "10.0.0.2:9090");
    assert_eq!(self_of(&ring("one both", ""), &machine), "10.0.0.2:9090");
    assert_eq!(self_of(&ring("10.0.0.1 10.0.0.2:99 10.0.0.77", ""), &machine), "10.0.0.77:9090");
}

#[test]
fn bound_to_an_address_we_are_the_member_with_that_address() {
    // All of them are this machine's: as in a test on loopback.
    let machine = ["127.0.1.1", "127.0.1.2", "127.0.1.3", "::1"];
    let servers = "127.0.1.1 127.0.1.2 127.0.1.3";
    assert_eq!(self_of(&ring(servers, "address = 127.0.1.2"), &machine), "127.0.1.2:9090");
    assert_eq!(
        self_of(&ring("127.0.1.1:9089 127.0.1.1 127.0.1.1:9091", "address = 127.0.1.1"), &machine),
        "127.0.1.1:9090"
    );
    assert_eq!(self_of(&ring("127.0.1.1:9089 127.0.1.1", ""), &machine), "127.0.1.1:9090");
    assert_eq!(self_of(&ring("127.0.1.1 [::1]:9091", "address = *"), &machine), "127.0.1.1:9090");
}

#[test]
fn members_are_each_there_once() {
    let configuration = configure(&ring("both one 10.0.0.2:9090 10.0.0.3:99", ""), &["10.0.0.2"]).unwrap();
    let members: Vec<_> = configuration.members.iter().map(ToString::to_string).collect();
    assert_eq!(members, ["10.0.0.1:9090", "10.0.0.2:9090", "10.0.0.3:99"]);
}

#[test]
fn the_same_member_by_two_addresses_is_refused() {
    let machine = ["10.0.0.1", "2001:db8::1"];
    let message = "director_servers lists this director twice: 10.0.0.1:9090 and [2001:db8::1]:9090";
    assert_eq!(refused(&ring("10.0.0.1 2001:db8::1 10.0.0.2", ""), &machine), message);
    assert_eq!(refused(&ring("10.0.0.1 2001:db8::1", "address = 10.0.0.1 2001:db8::1"), &machine), message);
    let by_name =
        "director_servers lists this director twice: 10.0.0.1:9090 (of dual) and [2001:db8::1]:9090 (of dual)";
    assert_eq!(refused(&ring("dual 10.0.0.2", ""), &machine), by_name);
    // Bound to one of them, nobody would ever be at the other.
    assert_eq!(refused(&ring("dual 10.0.0.2", "address = 10.0.0.1"), &machine), by_name);
    // Another host's name that we cannot be is fine, and so is a listener for one family.
    assert_eq!(self_of(&ring("dual 10.0.0.2", "address = 10.0.0.2"), &["10.0.0.2"]), "10.0.0.2:9090");
    assert_eq!(self_of(&ring("10.0.0.1 2001:db8::1", "address = *"), &machine), "10.0.0.1:9090");
}

#[test]
fn a_ring_without_us_is_refused() {
    assert_eq!(
        refused(&ring("10.0.0.1 10.0.0.2", ""), &["10.0.0.3"]),
        "director_servers does not list this director: it would be any address of this machine, port 9090"
    );
    assert_eq!(
        refused(&ring("10.0.0.1", "address = 10.0.0.3, ::1"), &["10.0.0.3"]),
        "director_servers does not list this director: it would be 10.0.0.3:9090 or [::1]:9090"
    );
    for address in ["", "address = 10.0.0.3"] {
        assert_eq!(
            refused(&ring("10.0.0.1 10.0.0.3:99", address), &["10.0.0.3"]),
            "director_servers lists this director as 10.0.0.3:99, but its ring listener has port 9090"
        );
    }
}

#[test]
fn a_ring_needs_a_listener() {
    let settings = good("director_servers = 10.0.0.1\n".to_owned() + &listener("inet_listener x-admin", "port = 9091"));
    assert_eq!(
        refused(&settings, &["10.0.0.1"]),
        "director_servers names a ring, but no socket is there for the other directors"
    );
}

#[test]
fn backends_get_their_addresses_and_keep_their_names() {
    let settings = good("director_mail_servers = 10.0.0.2@a both@a 10.0.0.1@a 10.0.0.7\n");
    let configuration = configure(&settings, &[]).unwrap();
    let host = |address, hostname: Option<&[u8]>, tag: &[u8]| ConfiguredHost {
        ip: ip(address),
        hostname: hostname.map(Box::from),
        tag: tag.into(),
    };
    // The first to name an address wins.
    assert_eq!(
        configuration.hosts,
        [host("10.0.0.2", None, b"a"), host("10.0.0.1", Some(b"both"), b"a"), host("10.0.0.7", None, b"")]
    );
}

#[test]
fn a_backend_with_two_tags_is_refused() {
    let settings = good("\ndirector_mail_servers = 10.0.0.1-10.0.0.3@a one\n");
    assert_eq!(refused(&settings, &[]), "director_mail_servers lists 10.0.0.1 with two tags, 'a' and ''");
}

#[test]
fn a_name_without_addresses_is_refused() {
    let message = "director_mail_servers: cannot find the address of 'none': it has no address";
    assert_eq!(refused(&good("director_mail_servers = none"), &[]), message);
    let message = "director_servers: cannot find the address of 'gone': Name or service not known";
    assert_eq!(refused(&ring("gone", ""), &[]), message);
}

#[test]
fn names_are_each_asked_for_once() {
    let settings = good("director_servers = a b 10.0.0.1\ndirector_mail_servers = c@x b a d@x d\n");
    assert_eq!(settings.names(), ["a", "b", "c", "d"]);
}

#[test]
fn a_description_says_all_that_was_understood() {
    let settings = good(
        "director_servers = 10.0.0.1 [2001:db8::1]:99\n\
         director_mail_servers = 10.1.0.1-10.1.0.9 10.1.0.10@x 10.1.0.11@x both@x\n\
         director_user_kick_delay = 1500 msecs\nlog_path = /log\ninfo_log_path = /dev/stderr\n\
         service director {\ninet_listener {\nport = 9090\naddress = 10.0.0.1 ::1\n}\ninet_listener x-admin {\n\
         port = 9091\n}\nfifo_listener n-notify {\nuser = dovenull\ngroup = mail\n}\n}\n",
    );
    let configuration = configure(&settings, &[]).unwrap();
    let expected = "\
Ring: 2 members
  10.0.0.1:9090  (this director)
  [2001:db8::1]:99
Backends: 13 (9 without a tag, 4 with tag x)
  10.1.0.1 - 10.1.0.9 (9)
  10.1.0.10 - 10.1.0.11 (2) tag x
  10.0.0.1 tag x (both)
  10.0.0.2 tag x (both)
Sockets:
  ring      TCP port 9090 on 10.0.0.1, ::1
  admin     TCP port 9091 on all addresses
  notify    FIFO /run/dovecot/n-notify, mode 0600, user dovenull, group mail
  admin     unix socket /run/dovecot/director-admin, mode 0600
Users expire 15 minutes after they were last seen
Users are told apart by %Lu
After a kick, logins wait 1500 ms
At most 100 moves and 100 kicks at a time
Sessions are kicked through ipc if it is there, else anvil
Pings: after 30 seconds without input, answered within 1 minute
Output waiting for a director: at most 10485760 bytes
Flush socket: none
Base directory: /run/dovecot
Log: /log
Info log: /dev/stderr
";
    assert_eq!(settings.describe(&configuration), expected);
}

#[test]
fn a_lone_director_is_described_too() {
    let settings =
        good("director_mail_servers = 10.0.0.1\n".to_owned() + &listener("inet_listener", "port = 1\naddress = *"));
    let text = settings.describe(&configure(&settings, &[]).unwrap());
    assert!(text.starts_with(
        "Ring: none, this director is alone (director_servers is empty)\nBackends: 1\n  10.0.0.1\nSockets:\n  \
         ring      TCP port 1 on all of IPv4\n"
    ));
    assert!(text.ends_with("Base directory: /run/dovecot\nLog: standard error\n"));
}
