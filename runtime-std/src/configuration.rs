//! The configuration: from files and names to what the core runs with, and `--check`.

use std::fs;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use director_core::settings::{Configuration, Files, Listener, Place, RunAs, Settings, SettingsError, Socket};
use rustix::fs::{Gid, Uid};
use rustix::net::{AddressFamily, SocketFlags, SocketType};

use crate::exit::{Exit, Failure};
use crate::opener::Opener;

/// Where the configuration is looked for when the command line names none, in this order: a file of the director's own
/// wins, and a dovecot.conf of 2.3 may have its settings in it.
pub const DEFAULT_FILES: [&str; 3] =
    ["/etc/dovecot/director.conf", "/etc/director/director.conf", "/etc/dovecot/dovecot.conf"];

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
pub fn load(file: &Path, patience: Duration, opener: &Opener) -> Result<Loaded, SettingsError> {
    let settings = read(file, &mut *opener.files(file)?)?;
    let configuration = resolve(&settings, patience)?;
    Ok(Loaded { file: file.to_owned(), settings, configuration })
}

/// Reads a configuration, and checks what only this machine knows: users, groups, lengths of paths.
fn read(file: &Path, files: &mut dyn Files) -> Result<Settings, SettingsError> {
    let mut settings = Settings::load(file, files)?;
    identity_of(&settings, file)?;
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
    let user = match user.as_str() {
        "" => None,
        name => Some(user_named(name).ok_or_else(|| unknown("user", name, &listener.place))?.0),
    };
    let group = match group.as_str() {
        "" => None,
        name => Some(group_named(name).ok_or_else(|| unknown("group", name, &listener.place))?),
    };
    Ok(Access { mode: *mode, user, group })
}

/// Who a daemon is that is root no more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The user.
    pub user: Uid,
    /// His main group.
    pub group: Gid,
    /// All other groups.
    pub extra_groups: Vec<Gid>,
}

/// Looks up `user`, `group` and `extra_groups` of `service director`. `None`: root, or whoever has started the daemon.
///
/// # Errors
/// There is no such user or group.
pub fn identity_of(settings: &Settings, file: &Path) -> Result<Option<Identity>, SettingsError> {
    let RunAs { user, group, extra_groups } = &settings.run_as;
    if settings.run_as.is_root() || !rustix::process::geteuid().is_root() {
        return Ok(None);
    }
    let place = Place { file: file.to_owned(), line: 0 };
    let (uid, own_group) = user_named(user).ok_or_else(|| {
        let what =
            SettingsError { message: format!("there is no user {user:?} for the director"), ..unknown("", "", &place) };
        SettingsError {
            remedy: "create it, or name another: user = … in service director; root stays root".into(),
            ..what
        }
    })?;
    if uid.is_root() {
        return Ok(None);
    }
    let group_of = |name: &str| group_named(name).ok_or_else(|| unknown("group", name, &place));
    let group = if group.is_empty() {
        own_group.ok_or_else(|| SettingsError {
            remedy: "set group in service director".into(),
            message: format!("user {user} is in no group that the system knows"),
            place: place.clone(),
        })?
    } else {
        group_of(group)?
    };
    let extra_groups = extra_groups.iter().map(|name| group_of(name)).collect::<Result<_, _>>()?;
    Ok(Some(Identity { user: uid, group, extra_groups }))
}

fn unknown(what: &str, name: &str, place: &Place) -> SettingsError {
    SettingsError {
        place: place.clone(),
        message: format!("there is no {what} {name:?} on this machine"),
        remedy: format!("create it, or name another {what}"),
    }
}

/// A user, by name or (as in Dovecot) number, and his main group as far as the system knows him.
fn user_named(name: &str) -> Option<(Uid, Option<Gid>)> {
    let found = match name.parse().map(nix::unistd::Uid::from_raw) {
        Ok(uid) => match nix::unistd::User::from_uid(uid) {
            Ok(Some(user)) => user,
            _ => return Some((Uid::from_raw(uid.as_raw()), None)),
        },
        Err(_) => nix::unistd::User::from_name(name).ok()??,
    };
    Some((Uid::from_raw(found.uid.as_raw()), Some(Gid::from_raw(found.gid.as_raw()))))
}

/// A group, by name or number.
fn group_named(name: &str) -> Option<Gid> {
    let raw = match name.parse() {
        Ok(id) => id,
        Err(_) => nix::unistd::Group::from_name(name).ok()??.gid.as_raw(),
    };
    Some(Gid::from_raw(raw))
}

/// What `--check` found.
#[derive(Clone, Debug, Default)]
pub struct Checked {
    /// What was understood, for people.
    pub text: String,
    /// What is odd.
    pub warnings: Vec<SettingsError>,
    /// What is wrong, if anything; then there is no text.
    pub error: Option<SettingsError>,
}

/// `--check`: reads a configuration, and describes what was understood.
pub fn check(file: &Path) -> Checked {
    let settings = match read(file, &mut DiskFiles) {
        Ok(settings) => settings,
        Err(error) => return Checked { error: Some(error), ..Checked::default() },
    };
    let warnings = settings.warnings.clone();
    match resolve(&settings, Duration::ZERO) {
        Ok(configuration) => Checked { text: settings.describe(&configuration), warnings, error: None },
        Err(error) => Checked { text: String::new(), warnings, error: Some(error) },
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use director_core::Role;

    use super::*;

    /// A file that is only in memory.
    struct Text(&'static str);

    impl Files for Text {
        fn read(&mut self, _: &Path) -> Result<Vec<u8>, String> {
            Ok(self.0.into())
        }

        fn glob(&mut self, _: &Path) -> Vec<PathBuf> {
            Vec::new()
        }
    }

    /// Settings of a standalone director without sockets.
    pub(crate) fn settings() -> Settings {
        let text = "base_dir = /nonexistent\nlog_path = /dev/stderr\n";
        Settings::load(Path::new("director.conf"), &mut Text(text)).unwrap()
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
    fn a_named_file_wins() {
        assert_eq!(find(Some(Path::new("x"))).unwrap(), Path::new("x"));
    }

    #[test]
    fn check_describes_or_names_file_and_line() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("director.conf");
        let listener = "service director {\n unix_listener login/director {\n mode = 0666\n user = USER\n }\n}\n";
        fs::write(&file, format!("director_mail_servers = 10.0.0.1\n{}", listener.replace("USER", "root"))).unwrap();
        let checked = check(&file);
        assert_eq!(checked.error, None);
        assert!(checked.text.contains("10.0.0.1"), "{}", checked.text);
        assert!(checked.warnings.iter().any(|warning| warning.remedy.contains("login/ext/director")));
        fs::write(&file, listener.replace("USER", "no-such-user")).unwrap();
        let checked = check(&file);
        let error = checked.error.unwrap().to_string();
        assert!(error.starts_with(&format!("{}:", file.display())), "{error}");
        assert_eq!(check(Path::new("/nonexistent/x")).text, "");
    }

    #[test]
    fn a_path_that_no_socket_can_have_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("director.conf");
        let name = "x".repeat(SOCKET_PATH_MAX_BYTES);
        fs::write(&file, format!("service director {{\n unix_listener {name}-admin {{\n }}\n}}\n")).unwrap();
        assert!(check(&file).error.unwrap().message.contains("longer than a socket's path"));
    }
}
