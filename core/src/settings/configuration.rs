//! From settings to a configuration: addresses for names, and which member we are (ring protocol, "Members").

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use super::{
    Configuration, ConfiguredHost, HostSetting, MailServerSetting, Place, ServerSetting, Settings, SettingsError,
    Socket,
};
use crate::contract::Role;

type Resolve<'a> = &'a mut dyn FnMut(&str) -> Result<Vec<IpAddr>, String>;
type CanBind<'a> = &'a mut dyn FnMut(IpAddr) -> bool;

/// Self of a standalone director.
const STANDALONE: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

impl Configuration {
    /// Puts addresses for names and finds out which member we are: the one with the ring listener's own address and
    /// port, if it is bound to an address, else the one with its port whose address `can_bind`.
    ///
    /// `resolve` gives all addresses of a name, or the system's error.
    ///
    /// # Errors
    /// A name without addresses, a backend listed twice with different tags, a ring without us in it or with us in it
    /// twice (by IPv4 and IPv6, say), or members without a ring listener.
    pub fn new(
        settings: &Settings,
        resolve: &mut dyn FnMut(&str) -> Result<Vec<IpAddr>, String>,
        can_bind: &mut dyn FnMut(IpAddr) -> bool,
    ) -> Result<Self, SettingsError> {
        let (members, self_address) = members(settings, resolve, can_bind)?;
        let hosts = hosts(&settings.mail_servers, resolve)?;
        Ok(Self { self_address, members, hosts, tuning: settings.tuning.clone() })
    }
}

/// The TCP socket that other directors come to.
struct RingListener<'a> {
    addresses: &'a [IpAddr],
    port: u16,
}

impl RingListener<'_> {
    /// Several directors may run on one machine, each bound to an address of its own.
    fn is_bound(&self) -> bool {
        !self.addresses.is_empty() && !self.addresses.iter().any(IpAddr::is_unspecified)
    }

    /// Whether what connects to this address and our port may come to us; if not bound, the machine knows the rest.
    fn takes(&self, ip: IpAddr) -> bool {
        let covers = |address: &IpAddr| *address == ip || address.is_unspecified() && address.is_ipv4() == ip.is_ipv4();
        self.addresses.is_empty() || self.addresses.iter().any(covers)
    }
}

fn ring_listener(settings: &Settings) -> Option<RingListener<'_>> {
    settings.listeners.iter().find_map(|listener| match &listener.socket {
        Socket::Inet { addresses, port, .. } if listener.role == Role::Ring => {
            Some(RingListener { addresses, port: *port })
        }
        _ => None,
    })
}

/// A member and the entry of director_servers that it comes from.
struct Member<'a> {
    address: SocketAddr,
    from: &'a ServerSetting,
}

fn members(
    settings: &Settings,
    resolve: Resolve<'_>,
    can_bind: CanBind<'_>,
) -> Result<(Vec<SocketAddr>, SocketAddr), SettingsError> {
    let Some(first) = settings.servers.first() else { return Ok((Vec::new(), STANDALONE)) };
    let Some(listener) = ring_listener(settings) else {
        return Err(error(
            &first.place,
            "director_servers names a ring, but no socket is there for the other directors",
            "write 'service director {', 'inet_listener {', 'port = 9090', '}', '}', each on a line of its own",
        ));
    };
    let mut seen = BTreeSet::new();
    let mut members = Vec::new();
    for from in &settings.servers {
        let port = from.port.unwrap_or(listener.port);
        for ip in addresses_of(&from.host, "director_servers", &from.place, resolve)? {
            let address = SocketAddr::new(ip, port);
            if seen.insert(address) {
                members.push(Member { address, from });
            }
        }
    }
    let self_address = find_self(&members, &listener, can_bind)?;
    Ok((members.into_iter().map(|member| member.address).collect(), self_address))
}

fn find_self(
    members: &[Member<'_>],
    listener: &RingListener<'_>,
    can_bind: CanBind<'_>,
) -> Result<SocketAddr, SettingsError> {
    let bound = listener.is_bound();
    let mut ours: Option<&Member<'_>> = None;
    for member in members.iter().filter(|member| member.address.port() == listener.port) {
        let ip = member.address.ip();
        if !listener.takes(ip) || !(bound || can_bind(ip)) {
            continue;
        }
        match ours {
            None => ours = Some(member),
            Some(first) => return Err(twice(first, member)),
        }
    }
    let Some(ours) = ours else { return Err(not_listed(members, listener, can_bind)) };
    // A host's name often has an IPv4 and an IPv6 address. Bound to one of them, we would never be met at the other.
    let other_family = |member: &&Member<'_>| {
        std::ptr::eq(member.from, ours.from) && member.address.is_ipv4() != ours.address.is_ipv4()
    };
    match members.iter().filter(other_family).find(|member| can_bind(member.address.ip())) {
        Some(other) => Err(twice(ours, other)),
        None => Ok(ours.address),
    }
}

fn twice(first: &Member<'_>, second: &Member<'_>) -> SettingsError {
    let named = |member: &Member<'_>| match &member.from.host {
        HostSetting::Ip(_) => member.address.to_string(),
        HostSetting::Name(name) => format!("{} (of {name})", member.address),
    };
    error(
        &second.from.place,
        format!("director_servers lists this director twice: {} and {}", named(first), named(second)),
        "list each director once, by the one address that all use; to run several on one machine, give each its own \
         address in its inet_listener (address = …)",
    )
}

fn not_listed(members: &[Member<'_>], listener: &RingListener<'_>, can_bind: CanBind<'_>) -> SettingsError {
    let place = members.first().map_or_else(Place::default, |member| member.from.place.clone());
    let port = listener.port;
    let by_address = |member: &&Member<'_>| {
        let ip = member.address.ip();
        listener.takes(ip) && (listener.is_bound() || can_bind(ip))
    };
    if let Some(near) = members.iter().find(by_address) {
        let message =
            format!("director_servers lists this director as {}, but its ring listener has port {port}", near.address);
        return error(&place, message, "give both the same port");
    }
    let at = if listener.is_bound() {
        let addresses: Vec<_> = listener.addresses.iter().map(|ip| SocketAddr::new(*ip, port).to_string()).collect();
        addresses.join(" or ")
    } else {
        format!("any address of this machine, port {port}")
    };
    error(
        &place,
        format!("director_servers does not list this director: it would be {at}"),
        "add its address there, the same on all directors, or correct the address of the ring's inet_listener",
    )
}

fn hosts(mail_servers: &[MailServerSetting], resolve: Resolve<'_>) -> Result<Vec<ConfiguredHost>, SettingsError> {
    let mut hosts: Vec<ConfiguredHost> = Vec::new();
    let mut host_of_ip: BTreeMap<IpAddr, usize> = BTreeMap::new();
    for setting in mail_servers {
        let hostname = match &setting.host {
            HostSetting::Ip(_) => None,
            HostSetting::Name(name) => Some(Box::from(name.as_bytes())),
        };
        for ip in addresses_of(&setting.host, "director_mail_servers", &setting.place, resolve)? {
            let next = hosts.len();
            let known = *host_of_ip.entry(ip).or_insert(next);
            if known == next {
                hosts.push(ConfiguredHost { ip, hostname: hostname.clone(), tag: setting.tag.as_slice().into() });
            } else if *hosts[known].tag != *setting.tag {
                let (first, second) = (hosts[known].tag.escape_ascii(), setting.tag.escape_ascii());
                return Err(error(
                    &setting.place,
                    format!("director_mail_servers lists {ip} with two tags, '{first}' and '{second}'"),
                    "a backend has one tag: remove one of the two",
                ));
            }
        }
    }
    Ok(hosts)
}

fn addresses_of(
    host: &HostSetting,
    setting: &str,
    place: &Place,
    resolve: Resolve<'_>,
) -> Result<Vec<IpAddr>, SettingsError> {
    let name = match host {
        HostSetting::Ip(ip) => return Ok(vec![*ip]),
        HostSetting::Name(name) => name,
    };
    let reason = match resolve(name) {
        Ok(addresses) if !addresses.is_empty() => return Ok(addresses),
        Ok(_) => "it has no address".to_owned(),
        Err(reason) => reason,
    };
    let message = format!("{setting}: cannot find the address of '{name}': {reason}");
    Err(error(place, message, "mend the name or the DNS, or write addresses, which need no DNS"))
}

fn error(place: &Place, message: impl Into<String>, remedy: &str) -> SettingsError {
    SettingsError { place: place.clone(), message: message.into(), remedy: remedy.to_owned() }
}
