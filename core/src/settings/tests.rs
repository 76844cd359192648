//! Whole files: what they become, and how the wrong ones are refused.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use quickcheck::quickcheck;

use super::configuration_tests::configure;
use super::*;

/// Files in memory; patterns may have one `*` in their last part.
#[derive(Default)]
pub(super) struct Memory {
    files: BTreeMap<PathBuf, Vec<u8>>,
    /// What was read, to see that nothing else was.
    read: Vec<PathBuf>,
}

impl Memory {
    pub(super) fn with(mut self, path: &str, content: impl AsRef<[u8]>) -> Self {
        self.files.insert(path.into(), content.as_ref().to_vec());
        self
    }

    /// A file that is there and cannot be read.
    fn with_locked(self, path: &str) -> Self {
        self.with(path, b"\0locked")
    }

    fn load(&mut self) -> Result<Settings, SettingsError> {
        Settings::load(Path::new(MAIN), self)
    }
}

impl Files for Memory {
    fn read(&mut self, path: &Path) -> Result<Vec<u8>, String> {
        self.read.push(path.to_owned());
        match self.files.get(path) {
            None => Err("No such file or directory".into()),
            Some(content) if content.starts_with(b"\0locked") => Err("Permission denied".into()),
            Some(content) => Ok(content.clone()),
        }
    }

    fn glob(&mut self, pattern: &Path) -> Vec<PathBuf> {
        let pattern = pattern.to_str().unwrap();
        let matches = |path: &str| match pattern.split_once('*') {
            None => path == pattern,
            Some((before, after)) => {
                let middle = path.strip_prefix(before).and_then(|rest| rest.strip_suffix(after));
                middle.is_some_and(|middle| !middle.contains('/'))
            }
        };
        self.files.keys().filter(|path| matches(path.to_str().unwrap())).cloned().collect()
    }
}

const MAIN: &str = "/etc/dovecot.conf";

pub(super) fn load(file: impl AsRef<[u8]>) -> Result<Settings, SettingsError> {
    Memory::default().with(MAIN, file).load()
}

pub(super) fn good(file: impl AsRef<[u8]>) -> Settings {
    load(file).unwrap()
}

/// The error's line and text.
fn wrong(file: impl AsRef<[u8]>) -> (u32, String) {
    let error = load(file).unwrap_err();
    assert_eq!(error.place.file, Path::new(MAIN));
    assert!(!error.remedy.is_empty(), "no remedy: {error}");
    (error.place.line, error.message)
}

fn warnings(settings: &Settings) -> Vec<(u32, &str)> {
    assert!(settings.warnings.iter().all(|warning| !warning.remedy.is_empty()));
    settings.warnings.iter().map(|warning| (warning.place.line, warning.message.as_str())).collect()
}

pub(super) fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// `[role, socket]` of each listener, short.
fn sockets(settings: &Settings) -> Vec<String> {
    let socket = |listener: &Listener| match &listener.socket {
        Socket::File { path, fifo, mode, user, group } => {
            format!("{:?} {} {fifo} {mode:o} {user}:{group}", listener.role, path.display())
        }
        Socket::Inet { name, addresses, port } => format!("{:?} {name} {addresses:?} {port}", listener.role),
    };
    settings.listeners.iter().map(socket).collect()
}

/// Lines of a listener in `service director`.
pub(super) fn listener(section: &str, lines: &str) -> String {
    format!("service director {{\n{section} {{\n{lines}\n}}\n}}\n")
}

#[test]
fn the_settings_of_the_current_documentation_load() {
    let mut files = Memory::default().with(MAIN, include_bytes!("testdata/current-settings.conf"));
    let settings = files.load().unwrap();
    assert_eq!(settings.names(), ["dovecot-directors.example.com", "dovecot-backends.example.com"]);
    assert_eq!(warnings(&settings), []);
    assert_eq!(
        sockets(&settings),
        [
            "Notify login/proxy-notify true 600 dovenull:",
            "Ring  [] 9090",
            "Userdb director-userdb false 600 :",
            "Login login/director false 666 :",
            "Admin director-admin false 600 :",
        ]
    );
    assert_eq!(settings.listeners[0].place, Place { file: MAIN.into(), line: 8 });
}

#[test]
fn the_wiki_s_example_loads() {
    let settings = good(include_bytes!("testdata/wiki.conf"));
    assert_eq!(settings.servers.len(), 3);
    assert_eq!(settings.mail_servers.len(), 20 + 11 + 1);
    assert_eq!(settings.mail_servers[31].host, HostSetting::Ip(ip("10.0.0.120")));
    assert_eq!(settings.mail_servers[31].tag, b"name2");
    assert_eq!(settings.tuning.user_expire_secs, 900);
    assert_eq!(warnings(&settings), [(51, "director_flush_script is an old setting and is not read")]);
    assert_eq!(settings.warnings[0].remedy, "write director_flush_socket = unix:user-flush");
    assert_eq!(
        sockets(&settings),
        [
            "Login login/director false 666 :",
            "Notify login/proxy-notify true 600 dovenull:",
            "Userdb director-userdb false 600 :",
            "Ring  [] 9090",
            "Admin director-doveadm [] 9091",
            "Admin director-admin false 600 :",
        ]
    );
}

#[test]
fn an_empty_file_means_the_defaults() {
    let settings = good("");
    assert_eq!(settings.base_dir, Path::new("/run/dovecot"));
    assert_eq!((settings.log_path, settings.info_log_path, settings.debug_log_path), (None, None, None));
    assert_eq!(settings.tuning.user_expire_secs, 900);
    assert_eq!(settings.tuning.user_kick_delay, Duration::from_secs(2));
    assert_eq!(settings.tuning.username_hash.template(), "%Lu");
    assert_eq!(settings.tuning.output_buffer_bytes, 10 << 20);
    let place = Place { file: MAIN.into(), line: 0 };
    assert_eq!(settings.listeners.len(), 1);
    assert_eq!(settings.listeners[0].place, place);
    assert_eq!(settings.warnings[0].place, place);
    assert_eq!(settings.warnings[0].message, "there is no backend: nobody can log in");
}

#[test]
fn every_setting_is_taken() {
    let settings = good(
        "director_servers = 10.0.0.1 d2:99\ndirector_mail_servers = 10.1.0.1-10.1.0.2@x\n\
         director_user_expire = 60s\ndirector_user_kick_delay = 500 msecs\ndirector_username_hash = %Ln\n\
         director_max_parallel_moves = 7\ndirector_max_parallel_kicks = 8\ndirector_ping_idle_timeout = 9s\n\
         director_ping_max_timeout = 1 min\ndirector_output_buffer_size = 1 M\ndirector_flush_socket = unix:flush\n\
         director_kick_via = anvil\ndirector_consistent_hashing = yes\ndirector_doveadm_port = 0\ndoveadm_proxy_port = 24245\n\
         auth_master_user_separator = *\nbase_dir = /srv\nlisten = 10.0.0.1\ninstance_name = me\n\
         default_internal_user = a\ndefault_login_user = b\nlog_path = /log\ninfo_log_path = /info\n",
    );
    assert_eq!(
        settings.tuning,
        Tuning {
            user_expire_secs: 60,
            user_kick_delay: Duration::from_millis(500),
            username_hash: UsernameHash::parse("%Ln").unwrap(),
            max_parallel_moves: 7,
            max_parallel_kicks: 8,
            ping_idle_timeout: Duration::from_secs(9),
            ping_max_timeout: Duration::from_secs(60),
            output_buffer_bytes: 1 << 20,
            flush_socket: "unix:flush".into(),
            master_user_separator: Some(b'*'),
            kick_via: KickVia::Anvil,
            ring_minor: MINOR,
        }
    );
    let place = |line| Place { file: MAIN.into(), line };
    assert_eq!(
        settings.servers,
        [
            ServerSetting { host: HostSetting::Ip(ip("10.0.0.1")), port: None, place: place(1) },
            ServerSetting { host: HostSetting::Name("d2".into()), port: Some(99), place: place(1) },
        ]
    );
    assert_eq!(
        settings.mail_servers[1],
        MailServerSetting { host: HostSetting::Ip(ip("10.1.0.2")), tag: b"x".to_vec(), place: place(2) }
    );
    assert_eq!((settings.base_dir.as_path(), settings.instance_name.as_str()), (Path::new("/srv"), "me"));
    assert_eq!((settings.internal_user.as_str(), settings.login_user.as_str()), ("a", "b"));
    assert_eq!(settings.log_path.as_deref(), Some(Path::new("/log")));
    assert_eq!(settings.info_log_path.as_deref(), Some(Path::new("/info")));
    assert_eq!(settings.debug_log_path, None);
    assert_eq!(warnings(&settings), []);
}

#[test]
fn wrong_values_are_refused_with_their_line() {
    let cases = [
        ("director_user_expire = 9 secs", "director_user_expire: '9 secs' is too short"),
        ("director_user_expire = 10500 msecs", "director_user_expire: '10500 msecs' is not a number of whole seconds"),
        ("director_user_expire = 15", "director_user_expire: the time '15' has no unit"),
        ("director_user_kick_delay = 2 months", "director_user_kick_delay: 'months' is no unit of time"),
        ("director_ping_idle_timeout = 0", "director_ping_idle_timeout: no time at all would drop every connection"),
        ("director_max_parallel_moves = 0", "director_max_parallel_moves: with 0 nothing would ever be done"),
        ("director_max_parallel_kicks = x", "director_max_parallel_kicks: 'x' is not a number"),
        ("director_output_buffer_size = 1000", "director_output_buffer_size: '1000' cannot hold the longest line"),
        (
            "director_consistent_hashing = no",
            "director_consistent_hashing: only consistent hashing is supported, as in Dovecot 2.3",
        ),
        ("director_consistent_hashing = off", "director_consistent_hashing: 'off' is neither yes nor no"),
        ("director_username_hash = %x", "director_username_hash: unknown variable or modifier %x"),
        ("director_username_hash =", "director_username_hash: with an empty template all users would be one"),
        ("director_servers = a:b", "director_servers: 'a:b' has no port after its last ':'"),
        (
            "director_mail_servers = 10.0.0.9-10.0.0.1",
            "director_mail_servers: the range 10.0.0.9-10.0.0.1 is backwards",
        ),
        (
            "director_mail_servers = 10.0.0.1,10.0.0.2",
            "director_mail_servers: '10.0.0.1,10.0.0.2' is neither an IP address nor a host name",
        ),
        ("director_flush_socket = flush", "director_flush_socket: 'flush' is not a flush socket"),
        ("base_dir = run", "base_dir: 'run' is not an absolute path"),
        ("base_dir = \"/caf\u{e9}\0\"", "a NUL byte in the line"),
        ("director_servers 10.0.0.1", "neither 'name = value' nor 'section name {'"),
        (
            "director_flush_socket = $nothing",
            "no setting named 'nothing' was set before this line, and it has no default here",
        ),
        ("director_flush_socket = <nowhere", "cannot read /etc/nowhere: No such file or directory"),
        ("!include nowhere.conf", "no file matches /etc/nowhere.conf"),
        ("}", "there is no section that this '}' could end"),
        ("protocol imap {", "this section has no '}'"),
    ];
    for (line, message) in cases {
        let file = format!("# a comment\n\n{line}\n# the end\n");
        assert_eq!(wrong(&file), (3, message.to_owned()));
    }
}

#[test]
fn an_error_reads_as_place_message_and_remedy() {
    let error = load("director_mail_servers = 10.0.0.1\ndirector_user_expire = 5s\n").unwrap_err();
    assert_eq!(
        error.to_string(),
        "/etc/dovecot.conf:2: director_user_expire: '5s' is too short (write at least 10 secs; 15 mins is usual)"
    );
}

#[test]
fn a_wrong_file_is_named_even_if_it_is_included() {
    let mut files = Memory::default()
        .with(MAIN, "!include conf.d/*.conf\n")
        .with("/etc/conf.d/a.conf", "\n!include ../b.ext\n")
        .with("/etc/conf.d/../b.ext", "\n\n\ndirector_user_expire = never\n");
    let error = files.load().unwrap_err();
    assert_eq!(error.place, Place { file: "/etc/conf.d/../b.ext".into(), line: 4 });
}

#[test]
fn a_missing_file_is_said_so() {
    let error = Memory::default().load().unwrap_err();
    assert_eq!(error.place, Place { file: MAIN.into(), line: 0 });
    assert_eq!(error.message, "cannot read /etc/dovecot.conf: No such file or directory");
}

#[test]
fn later_settings_win() {
    let settings = good("director_servers = a\ndirector_servers = b c\nlog_path = /x\nlog_path =\n");
    assert_eq!(settings.names(), ["b", "c"]);
    assert_eq!(settings.log_path, None);
}

#[test]
fn unknown_director_settings_are_warned_about_and_others_skipped() {
    let settings = good(
        "director_mail_servers = a\ndirector_max_user = 3\nmail_location = maildir:~\nsome thing {\nk = v\n}\n\
         passdb {\ndriver = pam\n}\nprotocol imap {\ndirector_servers = wrong:port\nplugin {\n}\n}\n",
    );
    assert_eq!(warnings(&settings), [(2, "there is no setting 'director_max_user': it is not read")]);
    assert_eq!(settings.servers, []);
}

#[test]
fn what_stands_in_filters_and_other_services_is_not_ours() {
    let settings = good(
        "service imap-login {\nunix_listener x-admin {\n}\n}\nlocal 127.0.0.1 {\nservice director {\n\
         unix_listener y-admin {\n}\n}\n}\nservice {\nunix_listener z-admin {\n}\n}\n",
    );
    assert_eq!(sockets(&settings), ["Admin director-admin false 600 :"]);
}

#[test]
fn sections_of_one_name_add_up_and_nameless_ones_are_new() {
    let settings = good(
        "service director {\nunix_listener a {\nmode = 0666\n}\ninet_listener {\nport = 1\n}\n}\n\
         service \"director\" {\nunix_listener \"a\" {\nuser = x\n}\ninet_listener {\nport = 2\n}\n\
         inet_listener b-admin {\nport = 3\n}\n}\nservice director {\ninet_listener b-admin {\naddress = ::1\n}\n}\n",
    );
    assert_eq!(
        sockets(&settings),
        [
            "Login a false 666 x:",
            "Ring  [] 1",
            "Ring  [] 2",
            "Admin b-admin [::1] 3",
            "Admin director-admin false 600 :"
        ]
    );
}

#[test]
fn listeners_with_mode_or_port_0_are_off() {
    let off = "service director {\nunix_listener director-admin {\nmode = 0\n}\nfifo_listener f {\nmode = 00\n}\n\
               inet_listener {\nport = 0\n}\ninet_listener {\naddress = 10.0.0.1\n}\n}\n";
    assert_eq!(sockets(&good(off)), Vec::<String>::new());
}

#[test]
fn a_default_socket_that_is_off_stays_off_without_a_mode() {
    let settings = good(format!("director_mail_servers = a\n{}", listener("unix_listener login/director", "user = x")));
    assert_eq!(sockets(&settings), ["Admin director-admin false 600 :"]);
    assert_eq!(
        warnings(&settings),
        [(3, "login/director has no mode, and Dovecot's default for this one is 0: it is off")]
    );
    let settings =
        good(format!("director_mail_servers = a\n{}", listener("unix_listener login/director", "#mode = 0666")));
    assert_eq!(warnings(&settings), [], "as in the configuration that comes with Dovecot");
    assert_eq!(sockets(&settings), ["Admin director-admin false 600 :"]);
    let settings = good(listener("unix_listener director-admin", "user = x"));
    assert_eq!(sockets(&settings), ["Admin director-admin false 600 x:"]);
}

#[test]
fn a_listener_may_say_its_path_or_name_inside() {
    let settings = good(
        "service director {\nunix_listener {\npath = x-userdb\nmode = 0600\n}\ninet_listener {\nname = x-admin\n\
         port = 7\n}\n}\n",
    );
    assert_eq!(
        sockets(&settings),
        ["Userdb x-userdb false 600 :", "Admin x-admin [] 7", "Admin director-admin false 600 :"]
    );
}

#[test]
fn listeners_listen_where_they_or_listen_say() {
    let on = |listen: &str, address: &str| {
        let file = format!("{listen}\n{}", listener("inet_listener", &format!("port = 1\n{address}")));
        let settings = good(file);
        match &settings.listeners[0].socket {
            Socket::Inet { addresses, .. } => addresses.clone(),
            Socket::File { .. } => panic!("a file"),
        }
    };
    assert_eq!(on("", ""), Vec::<IpAddr>::new());
    assert_eq!(on("listen = 10.0.0.1 ::1", ""), [ip("10.0.0.1"), ip("::1")]);
    assert_eq!(on("listen = *", ""), [ip("0.0.0.0")]);
    assert_eq!(on("listen = localhost", "address = 10.0.0.2"), [ip("10.0.0.2")]);
    // What the file says last is what counts, wherever it stands.
    let settings = good(format!("{}listen = ::1\n", listener("inet_listener", "port = 1")));
    assert!(sockets(&settings)[0].contains("[::1]"));
}

#[test]
fn wrong_listeners_are_refused() {
    let cases = [
        (
            listener("unix_listener a", "mode = 666"),
            3,
            "the mode '666' has no leading 0, so that Dovecot takes it for a decimal number",
        ),
        (listener("inet_listener", "port = 99999"), 3, "'99999' is not a port"),
        (listener("inet_listener", "port = 1\naddress = localhost"), 4, "'localhost' is not an IP address"),
        (listener("inet_listener", "port = 1\nssl = perhaps"), 4, "'perhaps' is neither yes nor no"),
        (listener("unix_listener", "mode = 0600"), 2, "this unix_listener has no path"),
        (format!("{}listen =\n", listener("inet_listener", "port = 1")), 6, "listen is empty"),
        (
            format!(
                "{}{}",
                listener("unix_listener a-b", "mode = 0600"),
                listener("fifo_listener /run/dovecot/a-b", "")
            ),
            7,
            "there are two listeners at /run/dovecot/a-b",
        ),
        (
            format!(
                "{}{}",
                listener("inet_listener a", "port = 1\naddress = ::"),
                listener("inet_listener b", "port = 1")
            ),
            8,
            "there are two listeners at port 1",
        ),
    ];
    for (file, line, message) in cases {
        assert_eq!(wrong(&file), (line, message.to_owned()), "{file}");
    }
}

#[test]
fn odd_things_in_service_director_are_warned_about() {
    let settings = good(
        "director_mail_servers = a\nservice director {\nexecutable = director -D\nclient_limit = 5\nuser = root\n\
         director_servers = b\nsocket x {\nk = v\n}\nunix_listener x-ring {\nmode = 0600\n}\ninet_listener {\n\
         port = 1\nssl = yes\nreuse_port = no\nhaproxy = no\nmode = 0600\n}\n}\n",
    );
    assert_eq!(
        warnings(&settings),
        [
            (6, "a service has no setting 'director_servers': it is not read"),
            (7, "service director has no section 'socket'"),
            (15, "ssl is not read: a director's sockets have neither TLS nor PROXY lines"),
            (18, "inet_listener has no setting 'mode': it is not read"),
            (10, "x-ring is left out: other directors come by TCP"),
        ]
    );
    assert_eq!(sockets(&settings), ["Ring  [] 1", "Admin director-admin false 600 :"]);
}

#[test]
fn variables_stand_for_what_was_set_before() {
    // Each observed with doveconf -x.
    let flush = |file: &str| good(file).tuning.flush_socket;
    assert_eq!(flush("director_flush_socket = unix:a $default_login_user $base_dir"), "unix:a dovenull /run/dovecot");
    assert_eq!(flush("instance_name = foo\ndirector_flush_socket = unix:a $instance_name x\n"), "unix:a foo x");
    assert_eq!(flush("instance_name = foo\ndirector_flush_socket = unix:$instance_name\n"), "unix:$instance_name");
    assert_eq!(flush("director_flush_socket = \"unix:a $base_dir\""), "unix:a $base_dir");
    assert_eq!(flush("instance_name = \"unix:a\ndirector_flush_socket = unix:x  $instance_name"), "unix:x \"unix:a");
    assert_eq!(flush("director_flush_socket = unix:a $instance_name\ninstance_name = b"), "unix:a dovecot");
    assert_eq!(flush("director_flush_socket = unix:a\ndirector_flush_socket = $director_flush_socket b"), "unix:a b");
    assert_eq!(
        flush("mail_plugins = a\nmail_plugins = $mail_plugins b\ndirector_flush_socket = unix: $mail_plugins"),
        "unix: a b"
    );
    assert_eq!(
        flush("protocol imap {\nbase_dir = /x\n}\ndirector_flush_socket = unix: $base_dir"),
        "unix: /run/dovecot"
    );
    assert_eq!(
        sockets(&good(
            "default_login_user = nobody\n".to_owned() + &listener("unix_listener a", "user = $default_login_user")
        ))[0],
        "Login a false 600 nobody:"
    );
}

#[test]
fn a_variable_that_cannot_be_known_is_an_error_only_where_it_matters() {
    let file = "mail_plugins = $mail_plugins quota\nssl_key = <key.pem\nmy_user = $mail_plugins\n";
    let mut files = Memory::default().with(MAIN, file);
    files.load().unwrap();
    assert_eq!(files.read, [Path::new(MAIN)], "a private key is none of our business");
    for variable in ["mail_plugins", "my_user", "ssl_key", "mail_plugins/x", ""] {
        let (line, message) = wrong(format!("{file}director_flush_socket = unix:a ${variable}\n"));
        assert_eq!(line, 4);
        assert!(message.starts_with(&format!("no setting named '{variable}' was set")), "{message}");
    }
}

#[test]
fn variables_cannot_grow_without_bound() {
    let mut file = "x = 0123456789\n".to_owned();
    file.push_str(&"x = $x $x\n".repeat(100));
    assert_eq!(wrong(&file).1, "the values of variables have become too long");
}

#[test]
fn values_come_from_files_beside_the_one_that_names_them() {
    let mut files = Memory::default()
        .with(MAIN, "!include d/a.conf\ndirector_flush_socket = </flush\n")
        .with("/etc/d/a.conf", "director_mail_servers = < hosts # all\n")
        .with("/etc/d/hosts", "10.0.0.1\n10.0.0.2\n")
        .with("/flush", "unix:x\n");
    let settings = files.load().unwrap();
    assert_eq!(settings.mail_servers.len(), 2);
    assert_eq!(settings.tuning.flush_socket, "unix:x");
}

#[test]
fn files_are_included_in_order_and_keep_their_section() {
    let mut files = Memory::default()
        .with(MAIN, "!include d/{b,a}.conf\n!include_try d/nothing*\nservice director {\n!include d/*.inc\n}\n")
        .with("/etc/d/a.conf", "instance_name = a\n")
        .with("/etc/d/b.conf", "instance_name = b\nbase_dir = /b\n")
        .with("/etc/d/x.inc", "unix_listener x {\n}\n");
    let settings = files.load().unwrap();
    assert_eq!((settings.instance_name.as_str(), settings.base_dir.as_path()), ("a", Path::new("/b")));
    assert_eq!(sockets(&settings)[0], "Login x false 600 :");
    assert_eq!(settings.listeners[0].place, Place { file: "/etc/d/x.inc".into(), line: 1 });
}

#[test]
fn a_section_may_begin_in_one_file_and_end_in_another() {
    let mut files = Memory::default()
        .with(MAIN, "!include a\nmode = 0644\n}\n}\n")
        .with("/etc/a", "service director {\nunix_listener a {\n");
    assert_eq!(sockets(&files.load().unwrap())[0], "Login a false 644 :");
}

#[test]
fn include_try_forgives_what_include_does_not() {
    let locked = |line: &str| Memory::default().with(MAIN, line).with_locked("/etc/locked").load();
    assert!(locked("!include_try locked\n").is_ok());
    let error = locked("!include locked\n").unwrap_err();
    assert_eq!(
        error.to_string(),
        "/etc/dovecot.conf:1: cannot read /etc/locked: Permission denied (does the file exist, and may we read it?)"
    );
    // But what is in a file that can be read must be right.
    let mut files = Memory::default().with(MAIN, "!include_try a\n").with("/etc/a", "}\n");
    assert!(files.load().is_err());
}

#[test]
fn include_cycles_end() {
    assert_eq!(wrong("\n!include dovecot.conf\n"), (2, "/etc/dovecot.conf includes itself".to_owned()));
    let mut files = Memory::default().with(MAIN, "!include a\n").with("/etc/a", "!include dovecot.conf\n");
    let error = files.load().unwrap_err();
    assert_eq!(error.place, Place { file: "/etc/a".into(), line: 1 });

    // By ever longer names of the same file, and by a tree of files that has no cycle but no end either.
    struct Endless;
    impl Files for Endless {
        fn read(&mut self, _: &Path) -> Result<Vec<u8>, String> {
            Ok(b"!include x/../f\n".to_vec())
        }
        fn glob(&mut self, pattern: &Path) -> Vec<PathBuf> {
            vec![pattern.to_owned()]
        }
    }
    let error = Settings::load(Path::new(MAIN), &mut Endless).unwrap_err();
    assert_eq!(error.message, "too many files include each other");
    let mut tree = Memory::default().with(MAIN, "!include 0\n").with("/etc/20", "");
    for level in 0..20 {
        let twice = format!("!include {}\n", level + 1).repeat(2);
        tree = tree.with(&format!("/etc/{level}"), twice);
    }
    assert_eq!(tree.load().unwrap_err().message, "too many files include each other");
    assert!(tree.read.len() < 20_000);
}

#[test]
fn a_setting_that_dovecot_would_forget_is_refused() {
    let message = "the line ends in '\\', but no line goes on with it: Dovecot forgets such a setting";
    assert_eq!(wrong("director_servers = a \\\n# b \\\n"), (1, message.to_owned()));
    assert_eq!(wrong(listener("unix_listener a", "mode = 0600 \\\n")), (3, message.to_owned()));
    assert!(load("mail_plugins = a \\\n\n").is_ok());
}

#[test]
fn a_comment_glued_to_a_value_is_warned_about() {
    let settings = good("director_mail_servers = 10.0.0.1#old\nfoo = a#b\n");
    assert_eq!(settings.mail_servers.len(), 1);
    assert_eq!(warnings(&settings), [(1, "the '#' begins a comment, though there is no space before it")]);
}

#[test]
fn other_encodings_matter_only_in_our_settings() {
    assert!(load(b"# caf\xe9\nlogin_greeting = caf\xe9\n").is_ok());
    assert_eq!(wrong(b"base_dir = /caf\xe9\n"), (1, "this line is not in UTF-8".to_owned()));
}

#[test]
fn the_log_goes_to_standard_error_unless_told_otherwise() {
    let logs = |file: &str| {
        let settings = good(file);
        [settings.log_path, settings.info_log_path, settings.debug_log_path]
            .map(|path| path.map(|path| path.to_str().unwrap().to_owned()))
    };
    let some = |path: &str| Some(path.to_owned());
    assert_eq!(logs("log_path = /dev/stderr"), [None, None, None]);
    assert_eq!(logs("log_path = syslog"), [some("syslog"), None, None]);
    assert_eq!(logs("log_path = /a\ninfo_log_path = /a"), [some("/a"), None, None]);
    assert_eq!(logs("log_path = /a\ninfo_log_path = /b\ndebug_log_path = /c"), [some("/a"), some("/b"), some("/c")]);
    assert_eq!(logs("log_path = /a\ninfo_log_path = /dev/stderr"), [some("/a"), some("/dev/stderr"), None]);
    assert_eq!(logs("log_path = /a\ninfo_log_path = /b\ndebug_log_path = /a"), [some("/a"), some("/b"), some("/a")]);
    assert_eq!(logs("info_log_path = /b\ndebug_log_path = /dev/stderr"), [None, some("/b"), some("/dev/stderr")]);
}

#[test]
fn deep_nesting_and_long_files_cost_what_they_are_long() {
    let depth = 300_000;
    assert!(load("a {\n".repeat(depth) + &"}\n".repeat(depth)).is_ok());
    assert_eq!(wrong("service director {\n".repeat(depth)).0, 300_000);
    assert!(load("k = v # c\n".repeat(depth)).is_ok());
    assert!(load("k = ".to_owned() + &"v \\\n".repeat(depth) + "w\n").is_ok());
    assert!(load("k = ".to_owned() + &"$a ".repeat(depth)).is_ok());
    let many: String = (0..depth).map(|number| format!("unix_listener x{number} {{\n}}\n")).collect();
    assert_eq!(good(format!("service director {{\n{many}}}\n")).listeners.len(), depth + 1);
}

#[test]
fn there_is_a_limit_to_backends() {
    let range = "2001:db8::-2001:db8::ffff";
    assert_eq!(good(format!("director_mail_servers = {range}\n")).mail_servers.len(), 65_536);
    let (_, message) = wrong(format!("director_mail_servers = {range} 10.0.0.1\n"));
    assert_eq!(message, "director_mail_servers: more than 65536 backends");
}

/// What files are made of, so that random ones get somewhere.
const SHREDS: &[&str] = &[
    "service director {\n",
    "unix_listener x-admin {\n",
    "fifo_listener \"a b\" {\n",
    "inet_listener {\n",
    "protocol imap {\n",
    "}\n",
    "}\n",
    "director_servers = ",
    "director_mail_servers = ",
    "director_user_expire = ",
    "base_dir = ",
    "mode = ",
    "port = ",
    "address = ",
    "x = ",
    "!include ",
    "!include_try ",
    "<",
    "$base_dir ",
    "$x ",
    "10.0.0.1",
    "-",
    "10.0.0.200",
    "::1",
    "dual",
    "@",
    ":",
    "9090",
    "0600",
    "15 min",
    "/",
    "f",
    "*",
    "{a,b}",
    "\"",
    "'",
    "\\",
    "\\\n",
    "#",
    " ",
    "\n",
    "\n",
];

/// A random file of those.
pub(super) fn shredded(shreds: &[u8]) -> String {
    shreds.iter().map(|&byte| SHREDS[usize::from(byte) % SHREDS.len()]).collect()
}

quickcheck! {
    fn any_bytes_load_or_are_refused(file: Vec<u8>) -> bool {
        load(&file).is_ok() || !load(&file).unwrap_err().message.is_empty()
    }

    fn any_settings_load_or_are_refused_with_place_and_remedy(shreds: Vec<u8>, included: Vec<u8>) -> bool {
        let mut files = Memory::default().with(MAIN, shredded(&shreds)).with("/etc/f", shredded(&included));
        match files.load() {
            Ok(settings) => match configure(&settings, &["10.0.0.1", "::1"]) {
                Ok(configuration) => {
                    let is_there = |address| configuration.members.contains(address);
                    settings.describe(&configuration).starts_with("Ring: ")
                        && (configuration.members.is_empty() || is_there(&configuration.self_address))
                }
                Err(error) => error.place.line > 0 && !error.remedy.is_empty(),
            },
            Err(error) => error.place.line > 0 && !error.remedy.is_empty(),
        }
    }

    fn what_was_loaded_does_not_hang_on_the_rest_of_the_file(names: Vec<u16>) -> bool {
        let noise = names.iter().map(|name| format!("foreign_{name} = $foreign_1 \"x\"\nfilter f{name} {{\nbase_dir = y\n}}\n"));
        let ours = "director_mail_servers = 10.0.0.1-10.0.0.9@x\n";
        good(noise.collect::<String>() + ours).mail_servers.len() == 9
    }
}
