//! Settings printed and read again, and whole configurations converted.

use std::path::Path;

use quickcheck::quickcheck;

use super::tests::{Memory, good, listener};
use super::*;

/// Settings without what printing is not meant to keep.
fn bare(mut settings: Settings) -> Settings {
    settings.warnings.clear();
    settings.servers.iter_mut().for_each(|server| server.place = Place::default());
    settings.mail_servers.iter_mut().for_each(|server| server.place = Place::default());
    settings.listeners.iter_mut().for_each(|listener| listener.place = Place::default());
    settings
}

#[track_caller]
fn survives(settings: Settings) {
    let text = settings.to_text();
    let again = good(&text);
    assert!(again.warnings.iter().all(|warning| warning.message.starts_with("there is no backend")), "{again:?}");
    assert_eq!(bare(again), bare(settings), "{text}");
}

fn convert(file: &str) -> Conversion {
    Conversion::of(Path::new("/etc/dovecot.conf"), &mut Memory::default().with("/etc/dovecot.conf", file)).unwrap()
}

const CURRENT: &str = include_str!("testdata/current-settings.conf");
const WIKI: &str = include_str!("testdata/wiki.conf");

#[test]
fn printed_settings_read_back() {
    for file in ["", CURRENT, WIKI] {
        survives(good(file));
    }
    survives(good(
        "director_servers = 10.0.0.1:9091 [2001:db8::1]:9092 2001:db8::2 one.example two.example:7\n\
         director_mail_servers = 10.1.0.250-10.1.0.255 10.1.1.0-10.1.1.3@a 10.1.1.4@b name@c name 2001:db8::fffe-2001:db8::ffff\n\
         listen = 127.0.0.1, ::1\nlog_path = \"/var/log/a b\"\ninfo_log_path = /dev/stderr\ndebug_log_path = syslog\n\
         default_internal_user = other\ndefault_login_user = login\ninstance_name = \"#1 \\\" \\\\ $x\"\n\
         service director {\n user = somebody\n group = some\n extra_groups = one, two three\n\
         inet_listener {\n port = 9090\n }\n inet_listener {\n port = 9091\n address = *\n }\n\
         inet_listener a {\n name = x-admin\n port = 1\n }\n inet_listener b {\n name = x-admin\n port = 2\n address = ::\n }\n\
         unix_listener \"with space-admin\" {\n mode = 0660\n group = g\n }\n unix_listener director-admin {\n mode = 0\n }\n\
         fifo_listener director-admin {\n user = u\n }\n}\n",
    ));
    survives(good("default_internal_user = other\nservice director {\n user =\n}\n"));
}

/// A value of each setting that is not its default.
const OTHER_VALUES: &[(&str, &str)] = &[
    ("auth_master_user_separator", "*"),
    ("base_dir", "/run/other"),
    ("debug_log_path", "/d"),
    ("default_internal_group", "g"),
    ("default_internal_user", "u"),
    ("default_login_user", "l"),
    ("director_flush_socket", "unix:flush"),
    ("director_kick_via", "anvil"),
    ("director_mail_servers", "10.0.0.1"),
    ("director_max_parallel_kicks", "7"),
    ("director_max_parallel_moves", "8"),
    ("director_output_buffer_size", "3 M"),
    ("director_ping_idle_timeout", "31 secs"),
    ("director_ping_max_timeout", "1500 msecs"),
    ("director_servers", "10.0.0.2"),
    ("director_user_expire", "20 mins"),
    ("director_user_kick_delay", "3 secs"),
    ("director_username_hash", "%Ln"),
    ("info_log_path", "/i"),
    ("instance_name", "other"),
    ("listen", "10.0.0.3"),
    ("log_path", "/l"),
];

#[test]
fn no_setting_is_lost() {
    let listed: Vec<_> = OTHER_VALUES.iter().map(|(key, _)| *key).collect();
    let all: Vec<_> = setting_names().collect();
    assert_eq!(listed, all, "each setting with a value that is not its default");
    // One with a TCP listener, for which alone `listen` matters.
    let with = |line: &str| good(format!("{line}\n{}", listener("inet_listener", "port = 9090")));
    for (key, value) in OTHER_VALUES {
        let settings = with(&format!("{key} = {value}"));
        // For $default_internal_group in other values; those are in place when it is printed.
        if *key != "default_internal_group" {
            assert_ne!(bare(settings.clone()), bare(with("")), "{key}");
        }
        survives(settings);
    }
}

#[test]
fn a_conversion_keeps_the_settings_and_moves_login_sockets() {
    for file in [CURRENT, WIKI] {
        let conversion = convert(file);
        let mut settings = bare(good(file));
        for listener in &mut settings.listeners {
            if let Socket::File { path, .. } = &mut listener.socket
                && path == Path::new("login/director")
            {
                *path = "login/ext/director".into();
            }
        }
        assert_eq!(bare(good(&conversion.director_conf)), settings);
        assert!(conversion.warnings.iter().any(|warning| warning.message.ends_with("becomes login/ext/director")));
        // The result is converted already.
        let again = convert(&conversion.director_conf);
        assert_eq!(again.director_conf, conversion.director_conf);
        assert_eq!(again.warnings, []);
    }
}

#[test]
fn dovecot_2_4_is_told_what_2_3_was() {
    let expected = "\
service imap-login {
  executable = imap-login ext/director
  restart_request_count = unlimited
}
service pop3-login {
  executable = pop3-login ext/director
  restart_request_count = unlimited
}
service managesieve-login {
  executable = managesieve-login ext/director
  restart_request_count = unlimited
}
protocol lmtp {
  auth_socket_path = director-userdb
}
protocol doveadm {
  auth_socket_path = director-userdb
}
# The director ends sessions through this one.
service anvil {
  unix_listener anvil {
    mode = 0600
    user = dovecot
  }
}
";
    let text = convert(CURRENT).dovecot_conf;
    assert!(text.ends_with(&format!("proxy=yes.\n{expected}")), "{text}");
    let text = convert(WIKI).dovecot_conf;
    assert!(text.contains("lmtp_proxy = yes\nprotocol lmtp {\n  auth_socket_path = director-userdb\n}\n"), "{text}");
    assert!(text.contains("\ndoveadm_port = 24245\n"), "{text}");
    // It has none: the first one is shown.
    assert!(
        text.contains(
            "service imap-login {\n  executable = imap-login ext/director\n  restart_request_count = unlimited\n}\n"
        ),
        "{text}"
    );
}

#[test]
fn only_what_asks_the_director_is_told_of() {
    let around = "protocols = imap\nlmtp_proxy = no\n\
                  service imap-login {\n executable = /usr/lib/dovecot/imap-login -D director\n}\n\
                  service pop3-login {\n executable = pop3-login\n}\n\
                  service director {\n unix_listener login/director {\n mode = 0666\n }\n user = root\n}\n\
                  protocol lmtp {\n auth_socket_path = auth-userdb\n}\n";
    let text = convert(around).dovecot_conf;
    let lines: Vec<_> = text.lines().filter(|line| !line.starts_with('#')).collect();
    let expected = [
        "service imap-login {",
        "  executable = /usr/lib/dovecot/imap-login -D ext/director",
        "  restart_request_count = unlimited",
        "}",
    ];
    assert_eq!(lines, expected, "no pop3, no lmtp; a director that stays root needs no owner of anvil");
}

#[test]
fn a_director_s_own_file_gets_all_lines() {
    let file =
        "service director {\n unix_listener login/ext/director {\n mode = 0666\n }\n unix_listener x-userdb {\n }\n}\n";
    let text = convert(file).dovecot_conf;
    for line in
        ["executable = imap-login ext/director", "protocol lmtp {", "auth_socket_path = x-userdb", "protocol doveadm {"]
    {
        assert!(text.contains(line), "{line} in {text}");
    }
}

#[test]
fn a_configuration_of_2_4_is_told_from_one_of_2_3() {
    let file = "dovecot_config_version = 2.4.1\nprotocols {\n imap = yes\n}\n";
    let error = Settings::load(Path::new("/d"), &mut Memory::default().with("/d", file)).unwrap_err();
    assert!(
        error.to_string().starts_with("/d:1: dovecot_config_version: this is a configuration of Dovecot 2.4"),
        "{error}"
    );
}

#[test]
fn the_daemon_s_user_is_dovecot_s_unless_set() {
    let run_as = |file: &str| good(file).run_as;
    assert_eq!(run_as("").user, "dovecot");
    assert_eq!(run_as("default_internal_user = x\n").user, "x");
    let set =
        run_as("service director {\n user = y\n group = g\n extra_groups = a b,c\n}\ndefault_internal_user = x\n");
    assert_eq!(
        set,
        RunAs { user: "y".into(), group: "g".into(), extra_groups: ["a", "b", "c"].map(Into::into).into() }
    );
    for root in ["", "root", "0"] {
        assert!(run_as(&format!("service director {{\n user = {root}\n}}\n")).is_root());
    }
    assert!(!run_as("").is_root());
}

quickcheck! {
    fn whatever_loads_reads_back(shreds: Vec<u8>) -> bool {
        // Most do not load, and so many could not be discarded.
        tests::load(tests::shredded(&shreds))
            .map_or(true, |settings| bare(good(settings.to_text())) == bare(settings))
    }
}
