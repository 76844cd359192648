//! Settings as a file of their own: what reads back as the same settings.

use std::collections::BTreeSet;
use std::fmt::{self, Display, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use super::draft::OFF_BY_FILE_ONLY;
use super::{HostSetting, Listener, MailServerSetting, ServerSetting, Settings, Socket, Tuning};

impl Settings {
    /// A director.conf with these settings: read again, it gives the same, but for places and warnings. What is as by
    /// default is left out, except for what an operator will want to find there.
    pub fn to_text(&self) -> String {
        let mut text = String::new();
        // Writing to a String cannot fail.
        let _ = write!(text, "{}", Printed(self));
        text
    }
}

struct Printed<'a>(&'a Settings);

impl Display for Printed<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let settings = self.0;
        let servers: Vec<_> = settings.servers.iter().map(server).collect();
        setting(out, "director_servers", &servers.join(" "))?;
        setting(out, "director_mail_servers", &mail_servers(&settings.mail_servers))?;
        tuning(out, &settings.tuning)?;
        writeln!(out)?;
        setting(out, "base_dir", &settings.base_dir.to_string_lossy())?;
        let log = settings.log_path.as_deref().map(|path| path.to_string_lossy());
        let info = settings.info_log_path.as_deref().map(|path| path.to_string_lossy());
        let debug = settings.debug_log_path.as_deref().map(|path| path.to_string_lossy());
        for (key, path) in [("log_path", log), ("info_log_path", info), ("debug_log_path", debug)] {
            if let Some(path) = path {
                setting(out, key, &path)?;
            }
        }
        for (key, value, default) in [
            ("instance_name", &settings.instance_name, "dovecot"),
            ("default_internal_user", &settings.internal_user, "dovecot"),
            ("default_login_user", &settings.login_user, "dovenull"),
        ] {
            if value != default {
                setting(out, key, value)?;
            }
        }
        writeln!(out, "\nservice director {{")?;
        let run_as = &settings.run_as;
        if run_as.user != settings.internal_user {
            write!(out, "  ")?;
            setting(out, "user", &run_as.user)?;
        }
        for (key, value) in [("group", &run_as.group), ("extra_groups", &run_as.extra_groups.join(" "))] {
            if !value.is_empty() {
                write!(out, "  ")?;
                setting(out, key, value)?;
            }
        }
        let mut sections = SectionNames::default();
        for one in &settings.listeners {
            listener(out, one, &mut sections)?;
        }
        // The one that is on unless a file says otherwise.
        let there = |path: &str| {
            settings.listeners.iter().any(
                |listener| matches!(&listener.socket, Socket::File { path: at, fifo: false, .. } if at.as_os_str() == path),
            )
        };
        if !there(OFF_BY_FILE_ONLY) {
            writeln!(out, "  unix_listener {OFF_BY_FILE_ONLY} {{\n    mode = 0\n  }}")?;
        }
        writeln!(out, "}}")
    }
}

fn tuning(out: &mut fmt::Formatter<'_>, tuning: &Tuning) -> fmt::Result {
    let default = Tuning::default();
    setting(out, "director_user_expire", &time(Duration::from_secs(tuning.user_expire_secs.into())))?;
    // The other directors and Dovecot's login processes must agree on it: nobody should have to guess.
    setting(out, "director_username_hash", tuning.username_hash.template())?;
    for (key, value, usual) in [
        ("director_user_kick_delay", tuning.user_kick_delay, default.user_kick_delay),
        ("director_ping_idle_timeout", tuning.ping_idle_timeout, default.ping_idle_timeout),
        ("director_ping_max_timeout", tuning.ping_max_timeout, default.ping_max_timeout),
    ] {
        if value != usual {
            setting(out, key, &time(value))?;
        }
    }
    for (key, value, usual) in [
        ("director_max_parallel_moves", tuning.max_parallel_moves, default.max_parallel_moves),
        ("director_max_parallel_kicks", tuning.max_parallel_kicks, default.max_parallel_kicks),
    ] {
        if value != usual {
            writeln!(out, "{key} = {value}")?;
        }
    }
    if tuning.output_buffer_bytes != default.output_buffer_bytes {
        writeln!(out, "director_output_buffer_size = {}", size(tuning.output_buffer_bytes))?;
    }
    if tuning.kick_via != default.kick_via {
        setting(out, "director_kick_via", tuning.kick_via.name())?;
    }
    if tuning.flush_socket != default.flush_socket {
        setting(out, "director_flush_socket", &tuning.flush_socket)?;
    }
    if let Some(separator) = tuning.master_user_separator {
        setting(out, "auth_master_user_separator", &char::from(separator).to_string())?;
    }
    Ok(())
}

fn setting(out: &mut fmt::Formatter<'_>, key: &str, value: &str) -> fmt::Result {
    let separator = if value.is_empty() { "" } else { " " };
    writeln!(out, "{key} ={separator}{}", quoted_if_needed(value))
}

/// A value as it must be written to be read as it is.
pub(super) fn quoted_if_needed(value: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/_.-:@%*,[]{};+= ".contains(&byte);
    if value.bytes().all(plain) && value.trim() == value {
        return value.to_owned();
    }
    let mut quoted = String::from("\"");
    for char in value.chars() {
        // Only a value out of a file can have one, and no value of ours means anything by it.
        let char = if char == '\n' { ' ' } else { char };
        if matches!(char, '"' | '\\') {
            quoted.push('\\');
        }
        quoted.push(char);
    }
    quoted.push('"');
    quoted
}

fn server(server: &ServerSetting) -> String {
    let host = match (&server.host, server.port) {
        (HostSetting::Ip(IpAddr::V6(ip)), Some(_)) => format!("[{ip}]"),
        (HostSetting::Ip(ip), _) => ip.to_string(),
        (HostSetting::Name(name), _) => name.clone(),
    };
    server.port.map_or(host.clone(), |port| format!("{host}:{port}"))
}

/// Consecutive addresses become ranges again: a file of hundreds of backends is to be read by people.
fn mail_servers(servers: &[MailServerSetting]) -> String {
    let runs = servers.chunk_by(|left, right| {
        left.tag == right.tag
            && match (&left.host, &right.host) {
                (HostSetting::Ip(left), HostSetting::Ip(right)) => follows(*left, *right),
                _ => false,
            }
    });
    let words = runs.filter_map(|run| {
        let host = match (&run.first()?.host, &run.last()?.host) {
            (HostSetting::Name(name), _) => name.clone(),
            (HostSetting::Ip(first), HostSetting::Ip(last)) if first != last => format!("{first}-{last}"),
            (HostSetting::Ip(first), _) => first.to_string(),
        };
        let tag = String::from_utf8_lossy(&run[0].tag);
        Some(if tag.is_empty() { host } else { format!("{host}@{tag}") })
    });
    words.collect::<Vec<_>>().join(" ")
}

/// Whether two addresses follow each other and may stand in one range (`values::mail_server`).
fn follows(left: IpAddr, right: IpAddr) -> bool {
    match (left, right) {
        (IpAddr::V4(left), IpAddr::V4(right)) => {
            let (left, right) = (left.to_bits(), right.to_bits());
            left.checked_add(1) == Some(right) && left >> 8 == right >> 8
        }
        (IpAddr::V6(left), IpAddr::V6(right)) => {
            let (left, right) = (left.to_bits(), right.to_bits());
            left.checked_add(1) == Some(right) && left >> 16 == right >> 16
        }
        _ => false,
    }
}

fn listener(out: &mut fmt::Formatter<'_>, listener: &Listener, sections: &mut SectionNames) -> fmt::Result {
    match &listener.socket {
        Socket::File { path, fifo, mode, user, group } => {
            let kind = if *fifo { "fifo_listener" } else { "unix_listener" };
            let path = path.to_string_lossy();
            let name = sections.name(&path);
            writeln!(out, "  {kind} {name} {{")?;
            if name != path {
                write!(out, "    ")?;
                setting(out, "path", &path)?;
            }
            writeln!(out, "    mode = {mode:04o}")?;
            for (key, value) in [("user", user), ("group", group)] {
                if !value.is_empty() {
                    write!(out, "    ")?;
                    setting(out, key, value)?;
                }
            }
        }
        Socket::Inet { name, addresses, port } => {
            let section = if name.is_empty() { String::new() } else { sections.name(name) };
            let space = if name.is_empty() { "" } else { " " };
            writeln!(out, "  inet_listener{space}{section} {{")?;
            if section != *name {
                write!(out, "    ")?;
                setting(out, "name", name)?;
            }
            if !addresses.is_empty() {
                let addresses: Vec<_> = addresses.iter().map(address).collect();
                write!(out, "    ")?;
                setting(out, "address", &addresses.join(", "))?;
            }
            writeln!(out, "    port = {port}")?;
        }
    }
    writeln!(out, "  }}")
}

fn address(ip: &IpAddr) -> String {
    match ip {
        IpAddr::V4(Ipv4Addr::UNSPECIFIED) => "*".to_owned(),
        IpAddr::V6(Ipv6Addr::UNSPECIFIED) => "::".to_owned(),
        _ => ip.to_string(),
    }
}

/// The names of the sections of listeners so far: two of one name would be one listener.
#[derive(Default)]
struct SectionNames(BTreeSet<String>);

impl SectionNames {
    /// The path or name itself, if it can stand in front of a `{`; else one that nobody else has.
    fn name(&mut self, wanted: &str) -> String {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/_.-".contains(&byte);
        let mut name = wanted.to_owned();
        if name.is_empty() || !name.bytes().all(plain) {
            name = "listener".to_owned();
        }
        while !self.0.insert(name.clone()) {
            name.push('-');
        }
        name
    }
}

/// In the largest unit that has no fraction.
fn time(time: Duration) -> String {
    let msecs = time.as_millis();
    let units = [("weeks", 604_800_000), ("days", 86_400_000), ("hours", 3_600_000), ("mins", 60_000), ("secs", 1_000)];
    let unit = units.into_iter().find(|(_, scale)| msecs > 0 && msecs.is_multiple_of(*scale));
    unit.map_or_else(|| format!("{msecs} msecs"), |(unit, scale)| format!("{} {unit}", msecs / scale))
}

fn size(bytes: usize) -> String {
    let units = [("G", 1 << 30), ("M", 1 << 20), ("k", 1 << 10)];
    let unit = units.into_iter().find(|(_, scale)| bytes.is_multiple_of(*scale));
    unit.map_or_else(|| format!("{bytes} B"), |(unit, scale)| format!("{} {unit}", bytes / scale))
}
