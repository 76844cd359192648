//! Settings in words, for an operator who asks whether they were understood as meant.

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use super::{Configuration, ConfiguredHost, KickVia, Settings, Socket};

impl Settings {
    /// What `--check` prints: the ring with ourselves marked, the backends, the sockets, the times.
    ///
    /// The text is for people; it changes between versions.
    pub fn describe(&self, configuration: &Configuration) -> String {
        let mut text = String::new();
        // Writing to a String cannot fail.
        let _ = write!(text, "{}", Description { settings: self, configuration });
        text
    }
}

struct Description<'a> {
    settings: &'a Settings,
    configuration: &'a Configuration,
}

impl fmt::Display for Description<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.ring(out)?;
        self.backends(out)?;
        self.sockets(out)?;
        self.tuning(out)?;
        self.files(out)
    }
}

impl Description<'_> {
    fn ring(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let members = &self.configuration.members;
        if members.is_empty() {
            return writeln!(out, "Ring: none, this director is alone (director_servers is empty)");
        }
        writeln!(out, "Ring: {}", counted(members.len(), "member"))?;
        for member in members {
            let mark = if *member == self.configuration.self_address { "  (this director)" } else { "" };
            writeln!(out, "  {member}{mark}")?;
        }
        Ok(())
    }

    fn backends(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hosts = &self.configuration.hosts;
        let mut of_tag: BTreeMap<&[u8], usize> = BTreeMap::new();
        for host in hosts {
            *of_tag.entry(&host.tag).or_default() += 1;
        }
        write!(out, "Backends: {}", hosts.len())?;
        let mut separator = " (";
        for (tag, count) in of_tag.iter().filter(|_| of_tag.keys().any(|tag| !tag.is_empty())) {
            match tag.is_empty() {
                true => write!(out, "{separator}{count} without a tag")?,
                false => write!(out, "{separator}{count} with tag {}", tag.escape_ascii())?,
            }
            separator = ", ";
        }
        writeln!(out, "{}", if separator == ", " { ")" } else { "" })?;
        // As ranges again: there may be thousands.
        for run in hosts.chunk_by(follows) {
            if let [first, .., last] = run {
                write!(out, "  {} - {} ({})", first.ip, last.ip, run.len())?;
            } else if let [host] = run {
                write!(out, "  {}", host.ip)?;
            }
            let tag = &run[0].tag;
            if !tag.is_empty() {
                write!(out, " tag {}", tag.escape_ascii())?;
            }
            match &run[0].hostname {
                Some(name) => writeln!(out, " ({})", name.escape_ascii())?,
                None => writeln!(out)?,
            }
        }
        Ok(())
    }

    fn sockets(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(out, "Sockets:")?;
        for listener in &self.settings.listeners {
            write!(out, "  {:<9} ", listener.role.name())?;
            match &listener.socket {
                Socket::File { path, fifo, mode, user, group } => {
                    let kind = if *fifo { "FIFO" } else { "unix socket" };
                    write!(out, "{kind} {}, mode {mode:04o}", self.settings.base_dir.join(path).display())?;
                    if !user.is_empty() {
                        write!(out, ", user {user}")?;
                    }
                    if !group.is_empty() {
                        write!(out, ", group {group}")?;
                    }
                    writeln!(out)?;
                }
                Socket::Inet { addresses, port, .. } => {
                    write!(out, "TCP port {port} on ")?;
                    let mut separator = "";
                    for address in addresses {
                        match address {
                            IpAddr::V4(Ipv4Addr::UNSPECIFIED) => write!(out, "{separator}all of IPv4")?,
                            IpAddr::V6(Ipv6Addr::UNSPECIFIED) => write!(out, "{separator}all of IPv6")?,
                            _ => write!(out, "{separator}{address}")?,
                        }
                        separator = ", ";
                    }
                    writeln!(out, "{}", if addresses.is_empty() { "all addresses" } else { "" })?;
                }
            }
        }
        Ok(())
    }

    fn tuning(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tuning = &self.configuration.tuning;
        let expire = Duration::from_secs(tuning.user_expire_secs.into());
        writeln!(out, "Users expire {} after they were last seen", in_words(expire))?;
        writeln!(out, "Users are told apart by {}", tuning.username_hash.template())?;
        writeln!(out, "After a kick, logins wait {}", in_words(tuning.user_kick_delay))?;
        writeln!(out, "At most {} moves and {} kicks at a time", tuning.max_parallel_moves, tuning.max_parallel_kicks)?;
        writeln!(
            out,
            "Sessions are kicked through {}",
            match tuning.kick_via {
                KickVia::Auto => "ipc if it is there, else anvil",
                KickVia::Ipc => "ipc (Dovecot 2.3)",
                KickVia::Anvil => "anvil (Dovecot 2.4)",
            }
        )?;
        writeln!(
            out,
            "Pings: after {} without input, answered within {}",
            in_words(tuning.ping_idle_timeout),
            in_words(tuning.ping_max_timeout)
        )?;
        writeln!(out, "Output waiting for a director: at most {} bytes", tuning.output_buffer_bytes)?;
        match tuning.flush_socket.as_str() {
            "" => writeln!(out, "Flush socket: none"),
            flush_socket => writeln!(out, "Flush socket: {flush_socket}"),
        }
    }

    fn files(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let settings = self.settings;
        writeln!(out, "Base directory: {}", settings.base_dir.display())?;
        match &settings.log_path {
            Some(path) => writeln!(out, "Log: {}", path.display())?,
            None => writeln!(out, "Log: standard error")?,
        }
        for (name, path) in [("Info", &settings.info_log_path), ("Debug", &settings.debug_log_path)] {
            if let Some(path) = path {
                writeln!(out, "{name} log: {}", path.display())?;
            }
        }
        Ok(())
    }
}

/// Whether two backends can be shown as one range.
fn follows(left: &ConfiguredHost, right: &ConfiguredHost) -> bool {
    let next = match (left.ip, right.ip) {
        (IpAddr::V4(left), IpAddr::V4(right)) => left.to_bits().checked_add(1) == Some(right.to_bits()),
        (IpAddr::V6(left), IpAddr::V6(right)) => left.to_bits().checked_add(1) == Some(right.to_bits()),
        _ => false,
    };
    next && left.tag == right.tag && left.hostname.is_none() && right.hostname.is_none()
}

fn counted(count: usize, noun: &str) -> String {
    format!("{count} {noun}{}", if count == 1 { "" } else { "s" })
}

/// In the largest unit that has no fraction.
fn in_words(time: Duration) -> String {
    let msecs = time.as_millis();
    for (unit, scale) in
        [("week", 604_800_000), ("day", 86_400_000), ("hour", 3_600_000), ("minute", 60_000), ("second", 1_000)]
    {
        if msecs > 0 && msecs.is_multiple_of(scale) {
            let count = msecs / scale;
            return format!("{count} {unit}{}", if count == 1 { "" } else { "s" });
        }
    }
    format!("{msecs} ms")
}
