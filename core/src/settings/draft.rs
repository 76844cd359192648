//! What each setting means: its default, its limits, and what a listener becomes (settings and hashes, "Settings").

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::values::{self, Wrong};
use super::{
    KickVia, Listener, MailServerSetting, Place, RunAs, ServerSetting, Settings, SettingsError, Socket, Tuning,
};
use crate::contract::Role;
use crate::hash::UsernameHash;

/// What a `$name` stands for that the file did not set: the defaults of those settings that we look at, as
/// `doveconf -d` of Dovecot 2.3.19.1 shows them, and that of the one which is our own. (Of the others we know none, not even that they exist.)
const DEFAULTS: &[(&str, &str)] = &[
    ("auth_master_user_separator", ""),
    ("base_dir", "/run/dovecot"),
    ("debug_log_path", ""),
    ("default_internal_group", "dovecot"),
    ("default_internal_user", "dovecot"),
    ("default_login_user", "dovenull"),
    ("director_flush_socket", ""),
    ("director_kick_via", "auto"),
    ("director_mail_servers", ""),
    ("director_max_parallel_kicks", "100"),
    ("director_max_parallel_moves", "100"),
    ("director_output_buffer_size", "10 M"),
    ("director_ping_idle_timeout", "30 secs"),
    ("director_ping_max_timeout", "1 mins"),
    ("director_servers", ""),
    ("director_user_expire", "15 mins"),
    ("director_user_kick_delay", "2 secs"),
    ("director_username_hash", "%Lu"),
    ("info_log_path", ""),
    ("instance_name", "dovecot"),
    ("listen", "*, ::"),
    ("log_path", "syslog"),
];

/// The names of [`DEFAULTS`].
pub(super) fn setting_names() -> impl Iterator<Item = &'static str> {
    DEFAULTS.iter().map(|(name, _)| *name)
}

/// The settings of a Dovecot service that say nothing to a director of ours.
const SERVICE_SETTINGS: &[&str] = &[
    "chroot",
    "client_limit",
    "drop_priv_before_exec",
    "executable",
    "idle_kill",
    "name",
    "privileged_group",
    "process_limit",
    "process_min_avail",
    "protocol",
    "service_count",
    "type",
    "vsz_limit",
];

/// The sockets that `service director` has in Dovecot before the file says anything: of these only the first is on.
const DEFAULT_LISTENERS: &[(ListenerKind, &str, u32)] = &[
    (ListenerKind::Unix, OFF_BY_FILE_ONLY, 0o600),
    (ListenerKind::Unix, "login/director", 0),
    (ListenerKind::Fifo, "login/proxy-notify", 0),
];

/// The socket that is on unless a file turns it off.
pub(super) const OFF_BY_FILE_ONLY: &str = "director-admin";

/// The permission bits of all other sockets.
const MODE_DEFAULT: u32 = 0o600;

/// Below this, a user could expire between two steps of one login (ring protocol, "Users").
const USER_EXPIRE_MIN: Duration = Duration::from_secs(10);

/// The longest line of the ring protocol: less than that could not hold anything.
const OUTPUT_BUFFER_MIN_BYTES: usize = 1024;

/// More backends than any site has; a few full ranges of IPv6 are written quickly.
const MAIL_SERVERS_MAX: usize = 65_536;

/// Settings while the file is being read.
pub(super) struct Draft {
    /// The file as a whole: where defaults come from.
    whole: Place,
    settings: Settings,
    log_path: String,
    info_log_path: String,
    debug_log_path: String,
    /// `user` of the service; `None` = default_internal_user, whatever that is at the end.
    user: Option<String>,
    /// Looked at only if a listener needs it: names in it are no concern of ours otherwise.
    listen: (String, Place),
    listeners: Vec<DraftListener>,
    /// Where the listeners with names are in the list.
    listener_of_name: BTreeMap<(ListenerKind, String), usize>,
}

/// The sections that make a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum ListenerKind {
    Unix,
    Fifo,
    Inet,
}

impl ListenerKind {
    pub(super) fn of(section: &[u8]) -> Option<Self> {
        match section {
            b"unix_listener" => Some(Self::Unix),
            b"fifo_listener" => Some(Self::Fifo),
            b"inet_listener" => Some(Self::Inet),
            _ => None,
        }
    }

    fn section(self) -> &'static str {
        match self {
            Self::Unix => "unix_listener",
            Self::Fifo => "fifo_listener",
            Self::Inet => "inet_listener",
        }
    }
}

/// A listener while its sections are being read.
struct DraftListener {
    kind: ListenerKind,
    /// The section's name, by which later sections find it.
    section_name: String,
    /// The path, or the name of an inet_listener: the section's name, unless a setting says otherwise.
    name: String,
    place: Place,
    mode: Option<u32>,
    user: String,
    group: String,
    /// Empty = those of `listen`.
    addresses: String,
    addresses_place: Place,
    port: u16,
}

impl DraftListener {
    fn new(kind: ListenerKind, name: &str, place: &Place) -> Self {
        Self {
            kind,
            section_name: name.to_owned(),
            name: name.to_owned(),
            place: place.clone(),
            mode: None,
            user: String::new(),
            group: String::new(),
            addresses: String::new(),
            addresses_place: place.clone(),
            port: 0,
        }
    }

    fn default_mode(&self) -> u32 {
        let listed = DEFAULT_LISTENERS.iter().find(|(kind, name, _)| *kind == self.kind && *name == self.section_name);
        listed.map_or(MODE_DEFAULT, |(_, _, mode)| *mode)
    }
}

impl Draft {
    /// Dovecot's defaults, but for the log, which goes to standard error.
    pub(super) fn new(whole: &Place) -> Self {
        let settings = Settings {
            servers: Vec::new(),
            mail_servers: Vec::new(),
            tuning: Tuning::default(),
            base_dir: PathBuf::from("/run/dovecot"),
            log_path: None,
            info_log_path: None,
            debug_log_path: None,
            instance_name: "dovecot".into(),
            internal_user: "dovecot".into(),
            login_user: "dovenull".into(),
            run_as: RunAs { user: String::new(), group: String::new(), extra_groups: Vec::new() },
            listeners: Vec::new(),
            warnings: Vec::new(),
        };
        Self {
            whole: whole.clone(),
            settings,
            log_path: String::new(),
            info_log_path: String::new(),
            debug_log_path: String::new(),
            user: None,
            listen: ("*, ::".into(), whole.clone()),
            listeners: Vec::new(),
            listener_of_name: BTreeMap::new(),
        }
    }

    /// Whether a setting outside of all sections is for a director.
    pub(super) fn knows(key: &[u8]) -> bool {
        key.starts_with(b"director_")
            || key == b"doveadm_proxy_port"
            || key == b"dovecot_config_version"
            || DEFAULTS.iter().any(|(name, _)| name.as_bytes() == key)
    }

    /// What a setting is when the file does not set it.
    pub(super) fn default_of(key: &[u8]) -> Option<&'static str> {
        DEFAULTS.iter().find(|(name, _)| name.as_bytes() == key).map(|(_, value)| *value)
    }

    /// Notes something that is odd but does no harm.
    pub(super) fn warn(&mut self, place: &Place, message: impl Into<String>, remedy: impl Into<String>) {
        self.settings.warnings.push(Wrong::new(message, remedy).at(place));
    }

    /// Takes a setting that stood outside of all sections.
    pub(super) fn set(&mut self, key: &str, value: &str, place: &Place) -> Result<(), SettingsError> {
        self.set_unplaced(key, value, place)
            .map_err(|wrong| Wrong { message: format!("{key}: {}", wrong.message), ..wrong }.at(place))
    }

    fn set_unplaced(&mut self, key: &str, value: &str, place: &Place) -> Result<(), Wrong> {
        let settings = &mut self.settings;
        let tuning = &mut settings.tuning;
        match key {
            "director_servers" => settings.servers = servers(value, place)?,
            "director_mail_servers" => settings.mail_servers = mail_servers(value, place)?,
            "director_user_expire" => tuning.user_expire_secs = user_expire_secs(value)?,
            "director_user_kick_delay" => tuning.user_kick_delay = values::time(value)?,
            "director_username_hash" => tuning.username_hash = username_hash(value)?,
            "director_max_parallel_moves" => tuning.max_parallel_moves = at_least_one(value)?,
            "director_max_parallel_kicks" => tuning.max_parallel_kicks = at_least_one(value)?,
            "director_ping_idle_timeout" => tuning.ping_idle_timeout = some_time(value)?,
            "director_ping_max_timeout" => tuning.ping_max_timeout = some_time(value)?,
            "director_output_buffer_size" => tuning.output_buffer_bytes = output_buffer_bytes(value)?,
            "director_flush_socket" => tuning.flush_socket = values::flush_socket(value)?,
            "director_kick_via" => tuning.kick_via = kick_via(value)?,
            "director_consistent_hashing" => consistent_hashing(value)?,
            "auth_master_user_separator" => {
                tuning.master_user_separator = value.bytes().next();
                if value.len() > 1 {
                    let message = format!("only the first character of auth_master_user_separator = {value} counts");
                    self.warn(place, message, "write one character");
                }
            }
            "base_dir" => settings.base_dir = base_dir(value)?,
            "listen" => self.listen = (value.to_owned(), place.clone()),
            "log_path" => value.clone_into(&mut self.log_path),
            "info_log_path" => value.clone_into(&mut self.info_log_path),
            "debug_log_path" => value.clone_into(&mut self.debug_log_path),
            "instance_name" => value.clone_into(&mut settings.instance_name),
            "default_internal_user" => value.clone_into(&mut settings.internal_user),
            "default_login_user" => value.clone_into(&mut settings.login_user),
            // For doveadm, which asks a director for a user's backend and then talks to that one. The group is
            // nothing but a variable to us.
            "director_doveadm_port" | "doveadm_proxy_port" | "default_internal_group" => {}
            "dovecot_config_version" => {
                return Err(Wrong::new(
                    "this is a configuration of Dovecot 2.4, which has no settings of a director",
                    "write the director's settings, in Dovecot 2.3's syntax, into a director.conf of their own",
                ));
            }
            "director_flush_script" => {
                let remedy = format!("write director_flush_socket = unix:{value}");
                self.warn(place, "director_flush_script is an old setting and is not read", remedy);
            }
            _ => {
                self.warn(place, format!("there is no setting '{key}': it is not read"), "remove it, or mend its name");
            }
        }
        Ok(())
    }

    /// Takes a setting of `service director` itself.
    pub(super) fn set_service(&mut self, key: &str, value: &str, place: &Place) {
        match key {
            "user" => self.user = Some(value.to_owned()),
            "group" => value.clone_into(&mut self.settings.run_as.group),
            "extra_groups" => {
                let words = value.split([' ', ',']).filter(|word| !word.is_empty());
                self.settings.run_as.extra_groups = words.map(str::to_owned).collect();
            }
            _ => self.other_service_setting(key, place),
        }
    }

    fn other_service_setting(&mut self, key: &str, place: &Place) {
        if !SERVICE_SETTINGS.contains(&key) {
            let remedy = if Self::knows(key.as_bytes()) { "move it out of the section" } else { "remove it" };
            self.warn(place, format!("a service has no setting '{key}': it is not read"), remedy);
        }
    }

    /// Begins a listener's section. One with a name goes on with what earlier sections of that name said; one without
    /// is always a new one.
    pub(super) fn open_listener(&mut self, kind: ListenerKind, name: &str, place: &Place) -> usize {
        let next = self.listeners.len();
        if !name.is_empty() {
            let known = *self.listener_of_name.entry((kind, name.to_owned())).or_insert(next);
            if known < next {
                return known;
            }
        }
        self.listeners.push(DraftListener::new(kind, name, place));
        next
    }

    /// Takes a setting of a listener.
    pub(super) fn set_listener(
        &mut self,
        listener: usize,
        key: &str,
        value: &str,
        place: &Place,
    ) -> Result<(), SettingsError> {
        let Some(draft) = self.listeners.get_mut(listener) else { return Ok(()) };
        let placed = |wrong: Wrong| wrong.at(place);
        match (draft.kind, key) {
            (ListenerKind::Unix | ListenerKind::Fifo, "path") | (ListenerKind::Inet, "name") => {
                value.clone_into(&mut draft.name);
            }
            (ListenerKind::Unix | ListenerKind::Fifo, "mode") => {
                draft.mode = Some(values::mode(value).map_err(placed)?);
            }
            (ListenerKind::Unix | ListenerKind::Fifo, "user") => value.clone_into(&mut draft.user),
            (ListenerKind::Unix | ListenerKind::Fifo, "group") => value.clone_into(&mut draft.group),
            (ListenerKind::Inet, "port") => draft.port = values::port(value).map_err(placed)?,
            (ListenerKind::Inet, "address") => {
                value.clone_into(&mut draft.addresses);
                draft.addresses_place = place.clone();
            }
            (ListenerKind::Inet, "ssl" | "haproxy") => {
                if values::boolean(value).map_err(placed)? {
                    let message = format!("{key} is not read: a director's sockets have neither TLS nor PROXY lines");
                    self.warn(place, message, "remove it");
                }
            }
            (ListenerKind::Inet, "reuse_port") => {}
            (kind, _) => {
                let message = format!("{} has no setting '{key}': it is not read", kind.section());
                self.warn(place, message, "remove it, or mend its name");
            }
        }
        Ok(())
    }

    /// All was read.
    pub(super) fn finish(mut self) -> Result<Settings, SettingsError> {
        self.finish_logs();
        self.settings.run_as.user = self.user.take().unwrap_or_else(|| self.settings.internal_user.clone());
        self.finish_listeners()?;
        if self.settings.mail_servers.is_empty() {
            let remedy = "set director_mail_servers, unless the ring that this director joins has them";
            self.warn(&self.whole.clone(), "there is no backend: nobody can log in", remedy);
        }
        Ok(self.settings)
    }

    /// Each log defaults to the one before: debug to info, info to log_path, that to standard error.
    fn finish_logs(&mut self) {
        const STANDARD_ERROR: &str = "/dev/stderr";
        let or = |path: &str, default: &str| if path.is_empty() { default.to_owned() } else { path.to_owned() };
        let log = or(&self.log_path, STANDARD_ERROR);
        let info = or(&self.info_log_path, &log);
        let debug = or(&self.debug_log_path, &info);
        let if_not = |path: String, same: &str| (path != same).then(|| PathBuf::from(path));
        self.settings.debug_log_path = if_not(debug, &info);
        self.settings.info_log_path = if_not(info, &log);
        self.settings.log_path = if_not(log, STANDARD_ERROR);
    }

    fn finish_listeners(&mut self) -> Result<(), SettingsError> {
        for (kind, name, _) in DEFAULT_LISTENERS {
            if !self.listener_of_name.contains_key(&(*kind, (*name).to_owned())) {
                let default = DraftListener { mode: None, ..DraftListener::new(*kind, name, &self.whole) };
                self.listeners.push(default);
            }
        }
        let mut paths = BTreeSet::new();
        let mut ports = BTreeSet::new();
        for draft in std::mem::take(&mut self.listeners) {
            let listener = match draft.kind {
                ListenerKind::Inet => self.inet_listener(draft, &mut ports)?,
                ListenerKind::Unix | ListenerKind::Fifo => self.file_listener(draft, &mut paths)?,
            };
            self.settings.listeners.extend(listener);
        }
        Ok(())
    }

    fn file_listener(
        &mut self,
        draft: DraftListener,
        paths: &mut BTreeSet<PathBuf>,
    ) -> Result<Option<Listener>, SettingsError> {
        let mode = draft.mode.unwrap_or_else(|| draft.default_mode());
        if mode == 0 {
            // The configuration that comes with Dovecot has these sections with nothing in them; somebody who sets an
            // owner means the socket to be there.
            if draft.mode.is_none() && !(draft.user.is_empty() && draft.group.is_empty()) {
                let message = format!("{} has no mode, and Dovecot's default for this one is 0: it is off", draft.name);
                self.warn(&draft.place, message, "write mode = 0666 or 0600 in the section, or mode = 0");
            }
            return Ok(None);
        }
        if draft.name.is_empty() {
            let message = format!("this {} has no path", draft.kind.section());
            return Err(Wrong::new(message, format!("write '{} PATH {{'", draft.kind.section())).at(&draft.place));
        }
        let fifo = draft.kind == ListenerKind::Fifo;
        let path = PathBuf::from(&draft.name);
        if !paths.insert(self.settings.base_dir.join(&path)) {
            let message = format!("there are two listeners at {}", path.display());
            return Err(Wrong::new(message, "remove one of them, or give it another path").at(&draft.place));
        }
        let role = values::file_role(&path, fifo);
        if role == Role::Ring {
            let message = format!("{} is left out: other directors come by TCP", path.display());
            self.warn(&draft.place, message, "write an inet_listener for the ring");
            return Ok(None);
        }
        let socket = Socket::File { path, fifo, mode, user: draft.user, group: draft.group };
        Ok(Some(Listener { role, socket, place: draft.place }))
    }

    fn inet_listener(
        &self,
        draft: DraftListener,
        ports: &mut BTreeSet<(u16, IpAddr)>,
    ) -> Result<Option<Listener>, SettingsError> {
        if draft.port == 0 {
            return Ok(None);
        }
        let (text, place) = match draft.addresses.trim() {
            "" => (self.listen.0.as_str(), &self.listen.1),
            own => (own, &draft.addresses_place),
        };
        if text.trim().is_empty() {
            return Err(Wrong::new("listen is empty", "write the addresses to listen on, or '*, ::' for all").at(place));
        }
        let addresses = values::addresses(text).map_err(|wrong| wrong.at(place))?;
        let all = [IpAddr::V4(Ipv4Addr::UNSPECIFIED), IpAddr::V6(Ipv6Addr::UNSPECIFIED)];
        let taken = if addresses.is_empty() { &all[..] } else { &addresses };
        for address in taken {
            if !ports.insert((draft.port, *address)) {
                let message = format!("there are two listeners at port {}", draft.port);
                return Err(Wrong::new(message, "remove one of them, or give it another port").at(&draft.place));
            }
        }
        let role = values::inet_role(&draft.name);
        let socket = Socket::Inet { name: draft.name, addresses, port: draft.port };
        Ok(Some(Listener { role, socket, place: draft.place }))
    }
}

fn servers(text: &str, place: &Place) -> Result<Vec<ServerSetting>, Wrong> {
    let server = |word| values::server(word).map(|(host, port)| ServerSetting { host, port, place: place.clone() });
    text.split_whitespace().map(server).collect()
}

fn mail_servers(text: &str, place: &Place) -> Result<Vec<MailServerSetting>, Wrong> {
    let mut all = Vec::new();
    for word in text.split_whitespace() {
        let (hosts, tag) = values::mail_server(word)?;
        if all.len() + hosts.len() > MAIL_SERVERS_MAX {
            return Err(Wrong::new(format!("more than {MAIL_SERVERS_MAX} backends"), "write smaller ranges"));
        }
        let backend = |host| MailServerSetting { host, tag: tag.as_bytes().to_vec(), place: place.clone() };
        all.extend(hosts.into_iter().map(backend));
    }
    Ok(all)
}

fn user_expire_secs(text: &str) -> Result<u32, Wrong> {
    let time = values::time(text)?;
    if time < USER_EXPIRE_MIN {
        return Err(Wrong::new(format!("'{text}' is too short"), "write at least 10 secs; 15 mins is usual"));
    }
    if time.subsec_nanos() > 0 {
        return Err(Wrong::new(format!("'{text}' is not a number of whole seconds"), "write whole seconds"));
    }
    u32::try_from(time.as_secs()).map_err(|_| Wrong::new(format!("'{text}' is too long"), "write less"))
}

fn some_time(text: &str) -> Result<Duration, Wrong> {
    let time = values::time(text)?;
    if time.is_zero() {
        return Err(Wrong::new("no time at all would drop every connection", "write at least 1 secs"));
    }
    Ok(time)
}

fn at_least_one(text: &str) -> Result<u32, Wrong> {
    let number = values::number(text)?;
    if number == 0 {
        return Err(Wrong::new("with 0 nothing would ever be done", "write at least 1; 100 is usual"));
    }
    Ok(number)
}

fn output_buffer_bytes(text: &str) -> Result<usize, Wrong> {
    let bytes = values::size(text)?;
    let bytes = usize::try_from(bytes)
        .map_err(|_| Wrong::new(format!("'{text}' is more than this machine can address"), "write less"))?;
    if bytes < OUTPUT_BUFFER_MIN_BYTES {
        return Err(Wrong::new(format!("'{text}' cannot hold the longest line"), "write at least 1 k; 10 M is usual"));
    }
    Ok(bytes)
}

fn username_hash(text: &str) -> Result<UsernameHash, Wrong> {
    if text.is_empty() {
        return Err(Wrong::new("with an empty template all users would be one", "write %Lu, or leave it out"));
    }
    UsernameHash::parse(text).map_err(|reason| {
        let remedy = "write %u, %n or %d, with L or U after the % for lower or upper case, as on the other directors";
        Wrong::new(reason.to_string(), remedy)
    })
}

fn consistent_hashing(text: &str) -> Result<(), Wrong> {
    if values::boolean(text)? {
        return Ok(());
    }
    Err(Wrong::new(
        "only consistent hashing is supported, as in Dovecot 2.3",
        "write yes, or leave it out; in a ring that hashes the old way, change it on all directors at once",
    ))
}

fn kick_via(text: &str) -> Result<KickVia, Wrong> {
    [KickVia::Auto, KickVia::Ipc, KickVia::Anvil].into_iter().find(|via| via.name() == text).ok_or_else(|| {
        Wrong::new(
            format!("sessions can't be kicked through '{text}'"),
            "write auto, or ipc for Dovecot 2.3, or anvil for Dovecot 2.4",
        )
    })
}

fn base_dir(text: &str) -> Result<PathBuf, Wrong> {
    if Path::new(text).has_root() {
        return Ok(PathBuf::from(text));
    }
    Err(Wrong::new(format!("'{text}' is not an absolute path"), "write a path that begins with '/'"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_of_variables_are_the_defaults_of_settings() {
        let whole = Place::default();
        let mut draft = Draft::new(&whole);
        for (key, value) in DEFAULTS {
            draft.set(key, value, &whole).unwrap();
        }
        // The one that is not as in Dovecot.
        draft.set("log_path", "", &whole).unwrap();
        assert_eq!(draft.finish(), Draft::new(&whole).finish());
    }
}
