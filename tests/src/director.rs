//! One director, a real one or ours, with the Dovecot around it.

use std::fmt::Write as _;
use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use rustix::process::{Pid, Signal};

use crate::backend::{
    DOVEADM_PASSWORD, DOVEADM_PORT as BACKEND_DOVEADM, IMAP_PORT as BACKEND_IMAP, LMTP_PORT as BACKEND_LMTP,
    POP3_PORT as BACKEND_POP3,
};
use crate::clients::{Admin, AuthReply};
use crate::debian13;
use crate::dovecot24;
use crate::lab::Lab;
use crate::process::{Outcome, Process, run, tail};
use crate::requirements::{calibrating, daemon_binary};
use crate::wait::{LIMIT, wait_for};

/// Where directors listen for each other.
pub const RING_PORT: u16 = 9090;
/// Where directors listen for administrators, beside the unix socket.
pub const ADMIN_PORT: u16 = 9091;
/// Where the login processes answer IMAP.
pub const IMAP_PORT: u16 = 10143;
/// Where the login processes answer POP3.
pub const POP3_PORT: u16 = 10110;
/// Where the login processes answer Submission, in a test that makes them.
pub const SUBMISSION_PORT: u16 = 10587;
/// Where the login processes answer ManageSieve, in a test that makes them.
pub const SIEVE_PORT: u16 = 10419;
/// Where the LMTP proxy answers.
pub const LMTP_PORT: u16 = 10024;

/// Whose program a director is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The `director` service of Dovecot 2.3.
    Dovecot,
    /// The daemon of this project that is to be tested, beside a Dovecot where there are logins.
    Ours,
    /// The same, beside a Dovecot 2.4.
    Ours24,
    /// Our `director`, whatever is to be tested.
    Smol,
    /// Our `director-std`, whatever is to be tested.
    Std,
}

impl Kind {
    /// Whether it is this project's.
    pub fn is_ours(self) -> bool {
        self != Self::Dovecot
    }

    /// What really runs: for the one to be tested, when calibrating, a real director.
    fn effective(self) -> Self {
        if self == Self::Ours && calibrating() { Self::Dovecot } else { self }
    }
}

/// What the directors of a ring have in common.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The listed members, running or not.
    pub servers: Vec<Ipv4Addr>,
    /// director_mail_servers.
    pub mail_servers: String,
    /// director_user_expire, in seconds.
    pub user_expire_secs: u32,
    /// More settings of the director, a line each.
    pub settings: String,
    /// Login processes and LMTP that ask the director; `None` = just the director.
    pub logins: Option<Logins>,
}

/// The Dovecot that logs users in and sends them to backends.
#[derive(Clone, Debug, Default)]
pub struct Logins {
    /// `passdb` blocks that are asked before the one that lets everybody in and proxies him.
    pub passdb: String,
    /// More of dovecot.conf.
    pub settings: String,
    /// The same where it is that of a Dovecot 2.4: what stands before the passdb of [`dovecot24::proxy`].
    pub settings24: String,
}

/// A listening socket of a director.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Door {
    /// Where login processes ask.
    Login,
    /// Where LMTP and doveadm ask.
    Userdb,
    /// Where finished replies get their host.
    AuthReply,
    /// Where administrators command.
    Admin,
    /// The FIFO for "this user is still here".
    Notify,
}

/// A director in a lab, running or not.
#[derive(Debug)]
pub struct Director {
    lab: Arc<Lab>,
    kind: Kind,
    ip: Ipv4Addr,
    plan: Plan,
    folder: PathBuf,
    /// Our daemon, or the Dovecot that the director is a service of.
    daemon: Option<Process>,
    /// The Dovecot beside our daemon.
    dovecot: Option<Process>,
}

impl Director {
    /// Prepares a director in a folder of its own below the lab's; nothing runs yet.
    ///
    /// # Panics
    /// If the folder can't be made.
    pub fn prepare(lab: &Arc<Lab>, folder: &str, kind: Kind, ip: Ipv4Addr, plan: &Plan) -> Self {
        let director = Self {
            lab: Arc::clone(lab),
            kind: kind.effective(),
            ip,
            plan: plan.clone(),
            folder: lab.folder().join(folder),
            daemon: None,
            dovecot: None,
        };
        // Where there is a Dovecot, it makes them.
        if director.kind.is_ours() && plan.logins.is_none() {
            fs::create_dir_all(director.base_dir().join("login")).expect("base_dir");
        } else {
            fs::create_dir_all(&director.folder).expect("folder");
        }
        fs::write(director.dovecot_conf(), director.dovecot_configuration()).expect("dovecot.conf");
        if director.kind == Kind::Ours24 {
            fs::write(director.doveadm_conf(), director.doveadm_configuration()).expect("doveadm.conf");
        }
        if director.kind.is_ours() {
            fs::write(director.director_conf(), director.director_configuration()).expect("director.conf");
        }
        director
    }

    /// What really runs here.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Its address in the ring.
    pub fn ip(&self) -> IpAddr {
        self.ip.into()
    }

    /// Where other directors reach it.
    pub fn ring_address(&self) -> SocketAddr {
        (self.ip, RING_PORT).into()
    }

    /// Where one of its other TCP ports is.
    pub fn address(&self, port: u16) -> SocketAddr {
        (self.ip, port).into()
    }

    /// The configuration file of our daemon.
    pub fn director_conf(&self) -> PathBuf {
        self.folder.join("director.conf")
    }

    /// The configuration file of the Dovecot around it, which doveadm reads, too.
    pub fn dovecot_conf(&self) -> PathBuf {
        self.folder.join("dovecot.conf")
    }

    /// base_dir.
    pub fn base_dir(&self) -> PathBuf {
        self.folder.join("run")
    }

    /// Its socket or FIFO for a purpose.
    pub fn door(&self, door: Door) -> PathBuf {
        self.base_dir().join(match door {
            Door::Login => self.login_socket(),
            Door::Userdb => "director-userdb",
            Door::AuthReply => "director-authreply",
            Door::Admin => "director-admin",
            Door::Notify => "login/proxy-notify",
        })
    }

    /// Dovecot itself clears `login` of what is not its own, but leaves folders in it alone.
    fn login_socket(&self) -> &'static str {
        match self.kind {
            Kind::Dovecot => "login/director",
            Kind::Ours | Kind::Ours24 | Kind::Smol | Kind::Std => "login/ext/director",
        }
    }

    /// Whether it has been started and not stopped.
    pub fn is_running(&self) -> bool {
        self.daemon.is_some()
    }

    /// Starts it, with what is around it, without waiting for anything.
    ///
    /// # Panics
    /// If it does not start.
    pub fn start(&mut self) {
        match self.kind {
            Kind::Dovecot => self.daemon = Some(self.spawn_dovecot()),
            Kind::Ours | Kind::Ours24 | Kind::Smol | Kind::Std => {
                self.start_daemon();
                if self.plan.logins.is_some() {
                    self.start_dovecot();
                }
            }
        }
    }

    /// Starts our daemon alone.
    ///
    /// # Panics
    /// If it is not ours.
    pub fn start_daemon(&mut self) {
        assert!(self.kind.is_ours());
        let mut command = self.daemon_command();
        self.daemon = Some(Process::start("director", &mut command, &self.folder.join("director-output.log")));
    }

    /// The command that starts our daemon.
    ///
    /// # Panics
    /// If there is no daemon.
    pub fn daemon_command(&self) -> Command {
        let mut command = Command::new(daemon_binary(self.kind).expect("the daemon"));
        command.arg("-c").arg(self.director_conf());
        if debugging() {
            command.arg("-D");
        }
        command
    }

    /// Starts the Dovecot beside our daemon.
    ///
    /// # Panics
    /// If it is not ours.
    pub fn start_dovecot(&mut self) {
        assert!(self.kind.is_ours());
        self.dovecot = Some(self.spawn_dovecot());
    }

    fn spawn_dovecot(&self) -> Process {
        let mut command = self.dovecot_program("dovecot");
        command.arg("-F");
        Process::start("dovecot", &mut command, &self.folder.join("dovecot-output.log"))
    }

    /// A program of the Dovecot around it, which reads its configuration.
    fn dovecot_program(&self, program: &str) -> Command {
        if self.kind == Kind::Ours24 {
            let mut command = debian13::command(&self.folder, program);
            command.arg("-c").arg(Path::new(debian13::MOUNTED).join("dovecot.conf"));
            return command;
        }
        let mut command = Command::new(program);
        command.arg("-c").arg(self.dovecot_conf());
        command
    }

    /// Waits until it answers administrators.
    ///
    /// # Panics
    /// If it never does.
    pub fn wait_until_up(&self) {
        wait_for(&format!("director {} to answer", self.ip), LIMIT, || {
            self.try_admin().and_then(|mut admin| admin.members())
        });
        if self.plan.logins.is_some() {
            // A login process that finds no socket looks again only when its next client comes, and lets the first wait.
            let login = self.door(Door::Login);
            wait_for(&format!("{}", login.display()), LIMIT, || {
                std::os::unix::net::UnixStream::connect(&login).map(drop)
            });
            wait_for(&format!("the login processes of {} to answer", self.ip), LIMIT, || {
                [IMAP_PORT, POP3_PORT, LMTP_PORT]
                    .iter()
                    .try_for_each(|port| std::net::TcpStream::connect(self.address(*port)).map(drop))
            });
        }
    }

    /// Ends it and what is around it in an orderly way.
    ///
    /// # Panics
    /// If they do not end.
    pub fn stop(&mut self) {
        for mut process in [self.daemon.take(), self.dovecot.take()].into_iter().flatten() {
            process.stop();
        }
    }

    /// Kills it and what is around it.
    pub fn kill(&mut self) {
        for mut process in [self.daemon.take(), self.dovecot.take()].into_iter().flatten() {
            process.kill();
        }
    }

    /// Ends the director alone in an orderly way, and starts it again.
    ///
    /// # Panics
    /// If it does not end.
    pub fn restart_director(&mut self) {
        match self.kind {
            Kind::Ours | Kind::Ours24 | Kind::Smol | Kind::Std => {
                self.daemon.take().expect("running").stop();
                self.start_daemon();
            }
            Kind::Dovecot => {
                let pid = self.director_pid();
                rustix::process::kill_process(pid, Signal::TERM).expect("signalling the director");
                wait_for("another director process", LIMIT, || match self.find_director() {
                    Some(now) if now != pid => Ok(()),
                    now => Err(format!("{now:?}")),
                });
            }
        }
    }

    /// Ends Dovecot in an orderly way and starts it again; our daemon stays as it is.
    ///
    /// # Panics
    /// If it does not end.
    pub fn restart_dovecot(&mut self) {
        let dovecot = match self.kind {
            Kind::Dovecot => &mut self.daemon,
            Kind::Ours | Kind::Ours24 | Kind::Smol | Kind::Std => &mut self.dovecot,
        };
        dovecot.take().expect("running").stop();
        let started = self.spawn_dovecot();
        match self.kind {
            Kind::Dovecot => self.daemon = Some(started),
            Kind::Ours | Kind::Ours24 | Kind::Smol | Kind::Std => self.dovecot = Some(started),
        }
    }

    /// Ends the Dovecot beside our daemon in an orderly way, removes its base_dir, as a restart of the machine would, and
    /// starts it again.
    ///
    /// # Panics
    /// If it is not ours, or does not end.
    pub fn restart_dovecot_in_new_folders(&mut self) {
        assert!(self.kind.is_ours());
        self.dovecot.take().expect("running").stop();
        // Our daemon may be making a socket there at the moment.
        wait_for("the end of base_dir", LIMIT, || fs::remove_dir_all(self.base_dir()));
        self.start_dovecot();
    }

    /// Exchanges Dovecot's director for ours, as the guide tells operators to: with the configuration that `convert` makes
    /// of Dovecot's.
    ///
    /// # Panics
    /// If it is not Dovecot's, or something fails.
    pub fn exchange_director(&mut self) {
        assert_eq!(self.kind, Kind::Dovecot);
        let mut convert = Command::new(daemon_binary(Kind::Ours).expect("the daemon"));
        convert.arg("convert").arg(self.dovecot_conf()).arg("--output").arg(self.director_conf());
        run(&mut convert).success();
        let mut converted = fs::read_to_string(self.director_conf()).expect("director.conf");
        // Where the other tests' directors log.
        let _ = writeln!(converted, "log_path = {}/director.log", self.folder.display());
        fs::write(self.director_conf(), converted).expect("director.conf");
        self.stop();
        self.kind = Kind::Ours;
        fs::write(self.dovecot_conf(), self.dovecot_configuration()).expect("dovecot.conf");
        self.start();
    }

    /// Exchanges the Dovecot 2.3 beside our daemon for a 2.4; the daemon goes on running.
    ///
    /// # Panics
    /// If there is none, or it does not end.
    pub fn upgrade_dovecot(&mut self) {
        assert_eq!(self.kind, Kind::Ours);
        self.dovecot.take().expect("running").stop();
        self.kind = Kind::Ours24;
        fs::write(self.dovecot_conf(), self.dovecot_configuration()).expect("dovecot.conf");
        fs::write(self.doveadm_conf(), self.doveadm_configuration()).expect("doveadm.conf");
        self.start_dovecot();
    }

    /// Makes Dovecot read its configuration again.
    ///
    /// # Panics
    /// If doveadm fails.
    pub fn reload_dovecot(&self) {
        self.doveadm_plain(&["reload"]).success();
    }

    /// Our daemon's process, or that of the Dovecot that the director is a service of.
    ///
    /// # Panics
    /// If it does not run.
    pub fn daemon(&mut self) -> &mut Process {
        self.daemon.as_mut().expect("running")
    }

    /// The process that is the director itself.
    ///
    /// # Panics
    /// If there is none.
    pub fn director_pid(&self) -> Pid {
        wait_for("a director process", LIMIT, || self.find_director().ok_or("none"))
    }

    fn find_director(&self) -> Option<Pid> {
        let daemon = self.daemon.as_ref()?;
        match self.kind {
            Kind::Ours | Kind::Ours24 | Kind::Smol | Kind::Std => Some(daemon.pid()),
            Kind::Dovecot => daemon.descendant("director"),
        }
    }

    /// Connects as an administrator.
    ///
    /// # Errors
    /// The system's.
    pub fn try_admin(&self) -> io::Result<Admin> {
        Admin::unix(&self.door(Door::Admin))
    }

    /// Connects as an administrator.
    ///
    /// # Panics
    /// If that fails.
    pub fn admin(&self) -> Admin {
        self.try_admin().unwrap_or_else(|error| panic!("admin of {}: {error}", self.ip))
    }

    /// Connects to look users up.
    ///
    /// # Panics
    /// If that fails.
    pub fn authreply(&self) -> AuthReply {
        AuthReply::connect(&self.door(Door::AuthReply)).unwrap_or_else(|error| panic!("authreply: {error}"))
    }

    /// Runs `doveadm ARGS…` of this director's Dovecot.
    pub fn doveadm_plain(&self, args: &[&str]) -> Outcome {
        run(self.dovecot_program("doveadm").args(args))
    }

    /// Runs `doveadm director ARGS…` against this director. That of Dovecot 2.4 can't, but one of 2.3 can.
    pub fn doveadm(&self, args: &[&str]) -> Outcome {
        if self.kind == Kind::Ours24 {
            return run(Command::new("doveadm").arg("-c").arg(self.doveadm_conf()).arg("director").args(args));
        }
        self.doveadm_plain(&[&["director"], args].concat())
    }

    /// Where doveadm of Dovecot 2.3 finds our sockets beside a Dovecot 2.4.
    fn doveadm_conf(&self) -> PathBuf {
        self.folder.join("doveadm.conf")
    }

    fn doveadm_configuration(&self) -> String {
        format!("base_dir = {}\nssl = no\n", self.base_dir().display())
    }

    /// All that the director has logged so far.
    pub fn log(&self) -> String {
        let bytes = fs::read(self.log_path()).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// The last lines of its log.
    pub fn log_tail(&self, lines: usize) -> String {
        tail(&self.log_path(), lines)
    }

    fn log_path(&self) -> PathBuf {
        self.folder.join(match self.kind {
            Kind::Dovecot => "dovecot.log",
            Kind::Ours | Kind::Ours24 | Kind::Smol | Kind::Std => "director.log",
        })
    }

    /// The lab it is in.
    pub fn lab(&self) -> &Arc<Lab> {
        &self.lab
    }

    /// The configuration that our daemon reads.
    pub fn director_configuration(&self) -> String {
        let ip = self.ip;
        let folder = self.folder.display();
        let mut text = format!(
            "listen = {ip}\nbase_dir = {folder}/run\nlog_path = {folder}/director.log\ninstance_name = {}\n",
            self.instance_name()
        );
        self.write_settings(&mut text);
        self.write_service(&mut text);
        text
    }

    fn instance_name(&self) -> String {
        format!("director{}", self.ip.octets()[3])
    }

    fn write_settings(&self, text: &mut String) {
        let servers: String = self.plan.servers.iter().map(|ip| format!("{ip} ")).collect();
        let Plan { mail_servers, user_expire_secs, settings, .. } = &self.plan;
        let _ = write!(
            text,
            "director_servers = {servers}\ndirector_mail_servers = {mail_servers}\n\
             director_user_expire = {user_expire_secs}s\n{settings}\n"
        );
    }

    fn write_service(&self, text: &mut String) {
        let login_socket = self.login_socket();
        // Only root can give a file to somebody else; nobody else starts login processes either.
        let owner = if rustix::process::geteuid().is_root() { "user = $default_login_user" } else { "" };
        let _ = write!(
            text,
            r"service director {{
  unix_listener {login_socket} {{
    mode = 0666
  }}
  unix_listener director-userdb {{
    mode = 0600
  }}
  unix_listener director-authreply {{
    mode = 0600
  }}
  unix_listener director-admin {{
    mode = 0600
  }}
  fifo_listener login/proxy-notify {{
    mode = 0600
    {owner}
  }}
  inet_listener {{
    port = {RING_PORT}
  }}
  inet_listener director-doveadm {{
    port = {ADMIN_PORT}
  }}
}}
"
        );
        if self.kind == Kind::Dovecot && debugging() {
            text.push_str("service director {\n  executable = director -D\n}\n");
        }
    }

    /// The dovecot.conf around it: with the director in it, or beside ours.
    fn dovecot_configuration(&self) -> String {
        let ip = self.ip;
        if self.kind == Kind::Ours24 {
            let settings = self.plan.logins.as_ref().map_or("", |logins| &logins.settings24);
            return dovecot24::proxy(ip, &self.instance_name(), settings);
        }
        let folder = self.folder.display();
        let protocols = if self.plan.logins.is_some() { "imap pop3 lmtp" } else { "none" };
        let mut text = format!(
            r#"listen = {ip}
base_dir = {folder}/run
state_dir = {folder}/state
log_path = {folder}/dovecot.log
log_timestamp = "%Y-%m-%d %H:%M:%S.%{{usecs}} "
instance_name = {}
protocols = {protocols}
ssl = no
disable_plaintext_auth = no
lmtp_proxy = yes
service ipc {{
  unix_listener ipc {{
    user = dovecot
  }}
}}
"#,
            self.instance_name()
        );
        match self.kind {
            Kind::Dovecot => {
                self.write_settings(&mut text);
                self.write_service(&mut text);
            }
            // Only doveadm and the login processes read these here: names are hashed by them as well.
            Kind::Ours | Kind::Ours24 | Kind::Smol | Kind::Std => {
                text.push_str("service director {\n  unix_listener director-admin {\n    mode = 0\n  }\n}\n");
                for line in self.plan.settings.lines().filter(|line| line.contains("director_username_hash")) {
                    let _ = writeln!(text, "{line}");
                }
            }
        }
        if let Some(logins) = &self.plan.logins {
            self.write_logins(&mut text, logins);
        }
        text
    }

    fn write_logins(&self, text: &mut String, logins: &Logins) {
        let socket = self.login_socket().trim_start_matches("login/");
        let Logins { passdb, settings, .. } = logins;
        let port = port_by_service();
        let _ = write!(
            text,
            r"service imap-login {{
  executable = imap-login {socket}
  service_count = 0
  process_min_avail = 1
  client_limit = 5000
  inet_listener imap {{
    port = {IMAP_PORT}
  }}
  inet_listener imaps {{
    port = 0
  }}
}}
service pop3-login {{
  executable = pop3-login {socket}
  service_count = 0
  process_min_avail = 1
  inet_listener pop3 {{
    port = {POP3_PORT}
  }}
  inet_listener pop3s {{
    port = 0
  }}
}}
service lmtp {{
  inet_listener lmtp {{
    port = {LMTP_PORT}
  }}
}}
service auth {{
  client_limit = 14000
}}
protocol lmtp {{
  auth_socket_path = director-userdb
}}
doveadm_port = {BACKEND_DOVEADM}
doveadm_password = {DOVEADM_PASSWORD}
protocol doveadm {{
  auth_socket_path = director-userdb
}}
{passdb}
passdb {{
  driver = static
  args = proxy=y nopassword=y port={port}
}}
userdb {{
  driver = static
  args = uid=dovecot gid=dovecot home=/nonexistent
}}
{settings}
"
        );
    }
}

/// A value for the passdb field `port` that is the backend's port for whatever protocol asks.
pub fn port_by_service() -> String {
    let others = format!("%{{if;%s;eq;lmtp;{BACKEND_LMTP};{BACKEND_DOVEADM}}}");
    format!("%{{if;%s;eq;imap;{BACKEND_IMAP};%{{if;%s;eq;pop3;{BACKEND_POP3};{others}}}}}")
}

/// Whether directors are to log every line (`DIRECTOR_TESTS_DEBUG=1`).
fn debugging() -> bool {
    std::env::var_os("DIRECTOR_TESTS_DEBUG").is_some_and(|value| !value.is_empty())
}

/// Removes a socket file by hand, as a clumsy operator would.
///
/// # Panics
/// If it is not there.
pub fn remove_socket(path: &Path) {
    fs::remove_file(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
}
