#![expect(clippy::needless_pass_by_value, reason = "quickcheck hands its arguments over")]

use quickcheck::{QuickCheck, quickcheck};

use super::super::testing::{Damage, Text};
use super::*;

fn parse(line: &str) -> Reply<'_> {
    Reply::parse(b"OK", line.as_bytes()).expect("a positive reply")
}

#[test]
fn all_fields_are_read() {
    assert_eq!(
        parse("OK\t1\tuser=jane\tproxy=yes\tport=14300\tlip=127.0.1.1\tlport=10143\tpass=pw\tdirector_tag=t\x01tg"),
        Reply {
            id: b"1",
            username: Some(Cow::Borrowed(b"jane")),
            proxy: true,
            has_host: false,
            tag: Cow::Borrowed(b"t\tg"),
            proxy_maybe: false,
            local_ip: Some(Ok([127, 0, 1, 1].into())),
            local_port: Some(Ok(10143)),
            port: Some(Ok(14300)),
        }
    );
    let bare = parse("OK\t1");
    assert_eq!((bare.id, bare.username, bare.tag), (&b"1"[..], None, Cow::Borrowed(&b""[..])));
    assert!(!bare.proxy && !bare.has_host && !bare.proxy_maybe);
    assert_eq!((bare.local_ip, bare.local_port, bare.port), (None, None, None));
}

#[test]
fn only_the_command_asked_for_is_a_reply() {
    assert!(Reply::parse(b"PASS", b"PASS\t8\tuser=jane\tproxy").is_some());
    for line in
        ["FAIL\t7\tuser=jane", "PASS\t8\tuser=jane\tproxy", "CONT\t9\tabc", "anything at all", "OK", "OK \t1", ""]
    {
        assert_eq!(Reply::parse(b"OK", line.as_bytes()), None, "{line}");
    }
    assert_eq!(parse("OK\t\tuser=jane").id, b"");
}

#[test]
fn fields_that_only_look_alike_do_not_count() {
    let reply =
        parse("OK\t6\tproxyish=1\tproxy_maybe=y\thost\thostip=1.2.3.4\tuser\tdestuser\tlip\tlport\tport\tXuser=x");
    assert_eq!(reply, Reply { id: b"6", ..parse("OK\t1") }, "neither proxy nor a host, nor a user, nor any address");
    assert!(parse("OK\t1\tproxy").proxy && parse("OK\t1\tproxy=").proxy && parse("OK\t1\tproxy=n").proxy);
    assert!(parse("OK\t1\thost=").has_host);
    assert!(parse("OK\t1\tdirector_proxy_maybe").proxy_maybe && parse("OK\t1\tdirector_proxy_maybe=y").proxy_maybe);
}

/// Found by asking the original.
#[test]
fn which_name_counts_of_several() {
    for (fields, expected) in [
        ("user=a\tuser=b", "a"),
        ("user=a\tdestuser=b", "b"),
        ("destuser=b\tuser=a", "b"),
        ("destuser=a\tdestuser=b", "b"),
        ("user=a\tdestuser=", ""),
        ("user=a\tdestuser", "a"),
        ("user=", ""),
        ("user=j\x01ane", "jane"),
        ("user=j\x01tane", "j\tane"),
    ] {
        let line = format!("OK\t1\t{fields}");
        assert_eq!(parse(&line).username.as_deref(), Some(expected.as_bytes()), "{fields}");
    }
    assert_eq!(&*parse("OK\t1\tdirector_tag=a\tdirector_tag=b").tag, b"b");
}

#[test]
fn bad_addresses_are_told() {
    let reply = parse("OK\t14\tuser=jane\tproxy\tlip=not\u{1b}ip\tlport=0\tport=99999");
    assert_eq!(reply.local_ip, Some(Err("not\\u{1b}ip".to_owned())));
    assert_eq!(reply.local_port, Some(Err("0".to_owned())));
    assert_eq!(reply.port, Some(Err("99999".to_owned())));
    assert_eq!(parse("OK\t1\tlip=").local_ip, Some(Err(String::new())));
}

#[test]
fn names_without_escapes_are_not_copied() {
    let reply = parse("OK\t1\tuser=jane\tdirector_tag=tag\tproxy");
    assert!(matches!(reply.username, Some(Cow::Borrowed(_))));
    assert!(matches!(reply.tag, Cow::Borrowed(_)));
}

#[test]
fn hosts_are_added_as_the_original_adds_them() {
    let with_host = |hostname: Option<&[u8]>, ip: &str, hash: Option<u32>| {
        let mut out = b"before\n".to_vec();
        let ip = ip.parse().expect("an address");
        Decision { refresh_secs: 7, ip, hostname, hash }.write(b"OK\t2\tuser=jane\tproxy", &mut out);
        String::from_utf8(out).expect("ASCII")
    };
    assert_eq!(
        with_host(None, "127.0.2.1", None),
        "before\nOK\t2\tuser=jane\tproxy\tproxy_refresh=7\thost=127.0.2.1\n"
    );
    assert_eq!(
        with_host(Some(b"b1.example.com"), "fd00::1", None),
        "before\nOK\t2\tuser=jane\tproxy\tproxy_refresh=7\thost=b1.example.com\thostip=fd00::1\n"
    );
    assert_eq!(
        with_host(None, "127.0.2.1", Some(1_480_892_766)),
        "before\nOK\t2\tuser=jane\tproxy\tuser_director_backend=1480892766/127.0.2.1\tproxy_refresh=7\thost=127.0.2.1\t\
         user_director_hash=1480892766\n"
    );
}

#[test]
fn failures_are_temporary() {
    let mut out = Vec::new();
    write_temporary_failure(b"17", &mut out);
    assert_eq!(out, b"FAIL\t17\tcode=temp_fail\n");
}

#[test]
fn version_lines() {
    let client = AUTHREPLY_CLIENT_VERSION_LINE;
    assert!(is_authreply_client_version_line(&client[..client.len() - 1]));
    let server = AUTHREPLY_SERVER_VERSION_LINE;
    assert!(!is_authreply_client_version_line(&server[..server.len() - 1]));
}

#[test]
fn logs_show_all_but_secrets() {
    for (line, expected) in [
        (&b"OK\t1\tuser=jane\tproxy\tpass=pw"[..], "OK\\t1\\tuser=jane\\tproxy\\tpass=<hidden>"),
        (b"AUTH\t1\tPLAIN\tservice=imap\tresp=AGEAYg==", "AUTH\\t1\\tPLAIN\\tservice=imap\\tresp=<hidden>"),
        (b"AUTH\t1\tPLAIN\tfinal-resp-ok\tresp=a=b", "AUTH\\t1\\tPLAIN\\tfinal-resp-ok\\tresp=<hidden>"),
        (
            b"OK\t1\tmaster_PASS=x\tuserdb_secret_y=z\ttoken=t",
            "OK\\t1\\tmaster_PASS=<hidden>\\tuserdb_secret_y=<hidden>\\ttoken=<hidden>",
        ),
        // As a reader of the line would unescape it.
        (b"OK\t1\tpa\x01ss=x", "OK\\t1\\tpa\\u{1}ss=<hidden>"),
        (b"CONT\t9\tabc=\tdef", "CONT\\t9\\t<hidden>\\t<hidden>"),
        (b"CONT\t9", "CONT\\t9"),
        (b"COOKIE\t0123456789", "COOKIE\\t<hidden>"),
        (b"REQUEST\t1\t20040\t1\t0123", "REQUEST\\t1\\t20040\\t1\\t<hidden>"),
        (b"PASS\t8\tuser=j\x1b\xff", "PASS\\t8\\tuser=j\\u{1b}\\xff"),
        (b"", ""),
    ] {
        assert_eq!(printable(line), expected);
    }
}

#[test]
fn no_secret_survives_in_a_log() {
    fn holds(before: Text, after: Text, kind: u8) -> bool {
        let secret = b"GeHeIm";
        let name: &[u8] = match kind % 6 {
            0 => b"\tpass=",
            1 => b"\tresp=",
            2 => b"\tfinal-resp-ok=",
            3 => b"\tuserdb_pass=",
            4 => b"\tclient_SECRET=",
            _ => b"\tX\x01pass=",
        };
        let line = [b"OK\t1\t", &before.0[..], name, secret, &after.0].concat();
        let shown = printable(&line);
        !shown.contains("GeHeIm") && !shown.chars().any(char::is_control)
    }
    quickcheck(holds as fn(Text, Text, u8) -> bool);
}

#[test]
fn hostile_lines_never_panic() {
    fn holds(damage: Damage, noise: Text) -> bool {
        let reply = b"OK\t1\tuser=jane\tproxy\tlip=::1\tlport=143\tport=993\tdirector_tag=x";
        let mut line = damage.done_to(reply.to_vec());
        line.extend(&noise.0);
        if let Some(reply) = Reply::parse(b"OK", &line) {
            for text in [reply.local_ip.and_then(Result::err), reply.port.and_then(Result::err)].into_iter().flatten() {
                assert!(!text.chars().any(char::is_control));
            }
        }
        !printable(&line).chars().any(char::is_control)
    }
    QuickCheck::new().tests(1000).quickcheck(holds as fn(Damage, Text) -> bool);
}
