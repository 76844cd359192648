//! The configuration: from files and names to what the core runs with, and `--check`.

use std::fmt::Write as _;
use std::fs;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use director_core::Role;
use director_core::settings::{Configuration, Files, Listener, Settings, SettingsError, Socket};
use rustix::fs::{Gid, Uid};
use rustix::net::{AddressFamily, SocketFlags, SocketType};

use crate::exit::{Exit, Failure};

/// Where the configuration is looked for when the command line names none, in this order.
pub const DEFAULT_FILES: [&str; 2] = ["/etc/dovecot/director.conf", "/etc/dovecot/dovecot.conf"];

/// How long a starting daemon goes on asking for names that do not resolve: a machine that boots may have its network
/// and name service a little later, and a wrong name should still be told of soon.
pub const RESOLVE_PATIENCE: Duration = Duration::from_secs(30);

/// The pause between two tries to resolve a name.
const RESOLVE_PAUSE: Duration = Duration::from_secs(2);

/// A configuration that was read and makes sense.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The file it came from.
    pub file: PathBuf,
    /// What the file says.
    pub settings: Settings,
    /// What the core runs with.
    pub configuration: Configuration,
}

/// The file to read.
///
/// # Errors
/// None was named, and none is at the usual places.
pub fn find(named: Option<&Path>) -> Result<PathBuf, Failure> {
    if let Some(file) = named {
        return Ok(file.to_owned());
    }
    DEFAULT_FILES.iter().map(PathBuf::from).find(|file| file.exists()).ok_or_else(|| {
        let message =
            format!("no configuration: neither {} is there (name a file with -c)", DEFAULT_FILES.join(" nor "));
        Failure::new(Exit::Configuration, message)
    })
}

/// Reads a configuration and resolves its names, for up to `patience` if they do not resolve at once. Blocks.
///
/// # Errors
/// What is wrong, where, and what to do.
pub fn load(file: &Path, patience: Duration) -> Result<Loaded, SettingsError> {
    let settings = read(file)?;
    let configuration = resolve(&settings, patience)?;
    Ok(Loaded { file: file.to_owned(), settings, configuration })
}

/// Reads a configuration, and checks what only this machine knows: users, groups, lengths of paths.
fn read(file: &Path) -> Result<Settings, SettingsError> {
    let mut settings = Settings::load(file, &mut DiskFiles)?;
    for listener in &settings.listeners {
        if let Socket::File { path, .. } = &listener.socket {
            access_of(listener)?;
            let path = settings.base_dir.join(path);
            if path.as_os_str().len() > SOCKET_PATH_MAX_BYTES {
                return Err(SettingsError {
                    place: listener.place.clone(),
                    message: format!("{} is longer than a socket's path may be", path.display()),
                    remedy: format!("choose one of at most {SOCKET_PATH_MAX_BYTES} bytes"),
                });
            }
        }
    }
    let advice =
        settings.listeners.iter().filter_map(|listener| in_dovecots_way(&settings, listener)).collect::<Vec<_>>();
    settings.warnings.extend(advice);
    Ok(settings)
}

/// The kernel's limit of a unix socket's path, without the final NUL.
const SOCKET_PATH_MAX_BYTES: usize = 107;

/// A socket directly in base_dir/login works until Dovecot starts or reloads: its master does not start beside it, and
/// removes it on a reload (overview, "Living beside a Dovecot master").
fn in_dovecots_way(settings: &Settings, listener: &Listener) -> Option<SettingsError> {
    let Socket::File { path, fifo: false, .. } = &listener.socket else { return None };
    let path = settings.base_dir.join(path);
    let folder = settings.base_dir.join("login");
    let name = path.file_name()?.to_string_lossy().into_owned();
    (path.parent() == Some(&folder)).then(|| SettingsError {
        place: listener.place.clone(),
        message: format!(
            "{} is in a folder that belongs to Dovecot, which does not start while a socket of somebody else's is \
             there, and removes it on every reload",
            path.display()
        ),
        remedy: format!("name it login/ext/{name}, and that in the login services: executable = imap-login ext/{name}"),
    })
}

fn resolve(settings: &Settings, patience: Duration) -> Result<Configuration, SettingsError> {
    let start = Instant::now();
    let mut warned = false;
    loop {
        let missing = settings.names().into_iter().find_map(|name| addresses(name).err().map(|error| (name, error)));
        match missing {
            Some((name, error)) if start.elapsed() < patience => {
                if !warned {
                    log::warn!("{name}: {error}; trying again for {} s", patience.as_secs());
                    warned = true;
                }
                thread::sleep(RESOLVE_PAUSE);
            }
            // If a name is missing still, this says so with its place.
            _ => return Configuration::new(settings, &mut addresses, &mut can_bind),
        }
    }
}

/// All addresses of a name, each once, in the system's order.
fn addresses(name: &str) -> Result<Vec<IpAddr>, String> {
    let found = (name, 0).to_socket_addrs().map_err(|error| error.to_string())?;
    let mut ips: Vec<IpAddr> = Vec::new();
    for ip in found.map(|address| address.ip()) {
        if !ips.contains(&ip) {
            ips.push(ip);
        }
    }
    if ips.is_empty() { Err("it has no address".into()) } else { Ok(ips) }
}

/// Whether an address is this machine's: only binding to it tells.
pub fn can_bind(ip: IpAddr) -> bool {
    let address = SocketAddr::new(ip, 0);
    let family = if ip.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    rustix::net::socket_with(family, SocketType::STREAM, SocketFlags::CLOEXEC, None)
        .and_then(|socket| rustix::net::bind(&socket, &address))
        .is_ok()
}

/// The files of this machine.
#[derive(Clone, Copy, Debug, Default)]
pub struct DiskFiles;

impl Files for DiskFiles {
    fn read(&mut self, path: &Path) -> Result<Vec<u8>, String> {
        fs::read(path).map_err(|error| error.to_string())
    }

    fn glob(&mut self, pattern: &Path) -> Vec<PathBuf> {
        let Some(pattern) = pattern.to_str() else { return Vec::new() };
        // An impossible pattern matches nothing. The glob package sorts.
        glob::glob(pattern).map(|paths| paths.flatten().collect()).unwrap_or_default()
    }
}

/// Who may use a socket file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Access {
    /// Permission bits.
    pub mode: u32,
    /// Owner; `None` = whoever runs the daemon.
    pub user: Option<Uid>,
    /// Group; `None` = as the daemon.
    pub group: Option<Gid>,
}

/// Looks up the owner and group that a listener names.
///
/// # Errors
/// There is no such user or group.
pub fn access_of(listener: &Listener) -> Result<Access, SettingsError> {
    let Socket::File { mode, user, group, .. } = &listener.socket else {
        return Ok(Access { mode: 0, user: None, group: None });
    };
    let unknown = |what: &str, name: &str| SettingsError {
        place: listener.place.clone(),
        message: format!("there is no {what} {name:?} on this machine"),
        remedy: format!("create it, or name another {what}"),
    };
    // As in Dovecot, a number is an id.
    let user = match user.as_str() {
        "" => None,
        name => Some(match name.parse() {
            Ok(id) => id,
            Err(_) => match nix::unistd::User::from_name(name) {
                Ok(Some(user)) => user.uid.as_raw(),
                _ => return Err(unknown("user", name)),
            },
        }),
    };
    let group = match group.as_str() {
        "" => None,
        name => Some(match name.parse() {
            Ok(id) => id,
            Err(_) => match nix::unistd::Group::from_name(name) {
                Ok(Some(group)) => group.gid.as_raw(),
                _ => return Err(unknown("group", name)),
            },
        }),
    };
    Ok(Access { mode: *mode, user: user.map(Uid::from_raw), group: group.map(Gid::from_raw) })
}

/// The word for a role, in messages.
pub fn role_name(role: Role) -> &'static str {
    match role {
        Role::Ring => "ring",
        Role::Login => "login",
        Role::Userdb => "userdb",
        Role::AuthReply => "authreply",
        Role::Admin => "admin",
        Role::Notify => "notify",
    }
}

/// What `--check` found.
#[derive(Clone, Debug, Default)]
pub struct Checked {
    /// What was understood, for people.
    pub text: String,
    /// What is odd.
    pub warnings: Vec<SettingsError>,
    /// What is wrong, if anything.
    pub error: Option<SettingsError>,
}

/// `--check`: reads a configuration, and describes as much of it as makes sense.
pub fn check(file: &Path) -> Checked {
    let mut settings = match read(file) {
        Ok(settings) => settings,
        Err(error) => return Checked { error: Some(error), ..Checked::default() },
    };
    let warnings = std::mem::take(&mut settings.warnings);
    let mut text = String::new();
    // Writing to a string cannot fail.
    let _ = describe_settings(&mut text, &settings);
    let error = match resolve(&settings, Duration::ZERO) {
        Ok(configuration) => {
            let _ = describe_configuration(&mut text, &configuration);
            None
        }
        Err(error) => Some(error),
    };
    Checked { text, warnings, error }
}

fn describe_settings(text: &mut String, settings: &Settings) -> std::fmt::Result {
    let stderr = Path::new("standard error");
    writeln!(text, "base_dir: {}", settings.base_dir.display())?;
    writeln!(text, "log: {}", settings.log_path.as_deref().unwrap_or(stderr).display())?;
    writeln!(text, "sockets:")?;
    if settings.listeners.is_empty() {
        writeln!(text, "  none: nobody can ask this director anything (service director has no listeners)")?;
    }
    for listener in &settings.listeners {
        write!(text, "  {:<9} ", role_name(listener.role))?;
        match &listener.socket {
            Socket::File { path, fifo, mode, user, group } => {
                let kind = if *fifo { "fifo" } else { "unix" };
                write!(text, "{kind} {} mode {mode:04o}", settings.base_dir.join(path).display())?;
                for (what, name) in [("user", user), ("group", group)] {
                    if !name.is_empty() {
                        write!(text, " {what} {name}")?;
                    }
                }
            }
            Socket::Inet { addresses, port, .. } => {
                write!(text, "tcp")?;
                for ip in addresses {
                    write!(text, " {}", SocketAddr::new(*ip, *port))?;
                }
                if addresses.is_empty() {
                    write!(text, " port {port} of every address")?;
                }
            }
        }
        writeln!(text)?;
    }
    let tuning = &settings.tuning;
    writeln!(
        text,
        "users: hashed by {}, remembered for {} s, let in again {} s after a kick",
        tuning.username_hash.template(),
        tuning.user_expire_secs,
        tuning.user_kick_delay.as_secs_f64()
    )?;
    writeln!(text, "at once: {} moves, {} kicks", tuning.max_parallel_moves, tuning.max_parallel_kicks)?;
    writeln!(
        text,
        "ring links: given up after {} s without input or {} s without a pong, or with {} bytes waiting",
        tuning.ping_idle_timeout.as_secs_f64(),
        tuning.ping_max_timeout.as_secs_f64(),
        tuning.output_buffer_bytes
    )?;
    if !tuning.flush_socket.is_empty() {
        writeln!(text, "flush: {}", tuning.flush_socket)?;
    }
    if let Some(separator) = tuning.master_user_separator {
        writeln!(text, "master user separator: {}", char::from(separator))?;
    }
    Ok(())
}

fn describe_configuration(text: &mut String, configuration: &Configuration) -> std::fmt::Result {
    if configuration.members.is_empty() {
        writeln!(text, "ring: none, this director stands alone (director_servers is empty)")?;
    } else {
        writeln!(text, "ring:")?;
        for member in &configuration.members {
            let this = if *member == configuration.self_address { " (this director)" } else { "" };
            writeln!(text, "  {member}{this}")?;
        }
    }
    writeln!(text, "backends:")?;
    for host in &configuration.hosts {
        write!(text, "  {}", host.ip)?;
        if let Some(name) = &host.hostname {
            write!(text, " {}", String::from_utf8_lossy(name))?;
        }
        if !host.tag.is_empty() {
            write!(text, " @{}", String::from_utf8_lossy(&host.tag))?;
        }
        writeln!(text)?;
    }
    if configuration.hosts.is_empty() {
        writeln!(
            text,
            "  none: users wait until the ring or an administrator adds one (director_mail_servers is empty)"
        )?;
    }
    Ok(())
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use director_core::hash::UsernameHash;
    use director_core::settings::{Place, Tuning};

    /// Settings of a standalone director without sockets.
    pub(crate) fn settings() -> Settings {
        Settings {
            servers: Vec::new(),
            mail_servers: Vec::new(),
            tuning: Tuning {
                user_expire_secs: 900,
                user_kick_delay: Duration::from_secs(2),
                username_hash: UsernameHash::parse("%Lu").unwrap(),
                max_parallel_moves: 100,
                max_parallel_kicks: 100,
                ping_idle_timeout: Duration::from_secs(30),
                ping_max_timeout: Duration::from_secs(60),
                output_buffer_bytes: 10 << 20,
                flush_socket: String::new(),
                master_user_separator: None,
            },
            base_dir: "/nonexistent".into(),
            log_path: None,
            info_log_path: None,
            debug_log_path: None,
            instance_name: "dovecot".into(),
            internal_user: "dovecot".into(),
            login_user: "dovenull".into(),
            listeners: Vec::new(),
            warnings: Vec::new(),
        }
    }

    fn listener(path: &str, fifo: bool, user: &str, group: &str) -> Listener {
        Listener {
            role: Role::Admin,
            socket: Socket::File { path: path.into(), fifo, mode: 0o600, user: user.into(), group: group.into() },
            place: Place { file: "director.conf".into(), line: 7 },
        }
    }

    #[test]
    fn files_are_read_and_globbed_in_order() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["b.conf", "a.conf", "c.txt"] {
            fs::write(folder.path().join(name), name).unwrap();
        }
        let found = DiskFiles.glob(&folder.path().join("*.conf"));
        assert_eq!(found, [folder.path().join("a.conf"), folder.path().join("b.conf")]);
        assert_eq!(DiskFiles.read(&found[0]), Ok(b"a.conf".to_vec()));
        assert!(DiskFiles.read(&folder.path().join("d")).unwrap_err().contains("No such file"));
        assert!(DiskFiles.glob(Path::new("[")).is_empty());
    }

    #[test]
    fn owners_are_looked_up_by_name_or_number() {
        let access = access_of(&listener("a", false, "root", "0")).unwrap();
        assert_eq!(access, Access { mode: 0o600, user: Some(Uid::ROOT), group: Some(Gid::ROOT) });
        assert_eq!(access_of(&listener("a", false, "", "")).unwrap().user, None);
        for (user, group, word) in [("no such", "", "user \"no such\""), ("", "no such", "group \"no such\"")] {
            let error = access_of(&listener("a", false, user, group)).unwrap_err();
            assert!(error.to_string().starts_with("director.conf:7: there is no ") && error.message.contains(word));
        }
    }

    #[test]
    fn only_sockets_right_in_dovecots_folder_are_warned_about() {
        let settings = settings();
        let warned = |path: &str, fifo| in_dovecots_way(&settings, &listener(path, fifo, "", "")).is_some();
        assert!(warned("login/director", false));
        assert!(warned("/nonexistent/login/director", false));
        assert!(!warned("login/ext/director", false));
        assert!(!warned("director-admin", false));
        assert!(!warned("login/proxy-notify", true), "Dovecot leaves FIFOs alone");
    }

    #[test]
    fn own_addresses_can_be_bound_and_others_not() {
        assert!(can_bind("127.0.0.1".parse().unwrap()));
        assert!(!can_bind("192.0.2.1".parse().unwrap()), "an address for documentation");
    }

    #[test]
    fn addresses_of_a_name_are_there_once() {
        assert_eq!(addresses("127.0.0.1").unwrap(), ["127.0.0.1".parse::<IpAddr>().unwrap()]);
        assert!(addresses("name.invalid").is_err());
    }

    #[test]
    fn without_a_file_the_usual_ones_are_named() {
        assert_eq!(find(Some(Path::new("x"))).unwrap(), Path::new("x"));
    }
}
