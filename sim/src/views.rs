//! What directors say of themselves, asked as an administrator would: no look inside.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use director_core::wire::admin::VERSION_LINE;

use crate::network::LinkId;
use crate::trace::Assembler;

/// A line of DIRECTOR-LIST (admin protocol, "DIRECTOR-LIST").
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberLine {
    /// Whom it is about.
    pub address: SocketAddr,
    /// `self`, `left`, `right`, `in`, `out`, `removed` or empty.
    pub kind: String,
    /// The status.
    pub status: String,
}

/// A line of HOST-LIST, without the count of users and the time of the last change, which may differ.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostLine {
    /// The backend.
    pub ip: IpAddr,
    /// Its weight.
    pub vhosts: u32,
    /// Its pool.
    pub tag: String,
    /// Whether it is up.
    pub up: bool,
}

/// A line of USER-LIST.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct UserLine {
    /// The user.
    pub hash: u32,
    /// Unix time at which he expires.
    pub expires_secs: u64,
    /// Where he is.
    pub backend: IpAddr,
}

/// What one director said.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct View {
    /// DIRECTOR-LIST.
    pub members: Vec<MemberLine>,
    /// HOST-LIST.
    pub hosts: Vec<HostLine>,
    /// USER-LIST.
    pub users: Vec<UserLine>,
}

/// The connections on which directors are being asked.
#[derive(Debug, Default)]
pub struct Probes {
    asking: BTreeMap<LinkId, Probe>,
    views: BTreeMap<usize, Result<View, String>>,
}

#[derive(Debug)]
struct Probe {
    director: usize,
    assembler: Assembler,
    lines: Vec<Vec<u8>>,
}

/// How many lists are asked for.
const LISTS: usize = 3;

impl Probes {
    /// Asks a director. Returns what to say.
    pub fn ask(&mut self, director: usize, link: LinkId) -> Vec<u8> {
        self.asking.insert(link, Probe { director, assembler: Assembler::default(), lines: Vec::new() });
        let mut line = VERSION_LINE.to_vec();
        line.extend_from_slice(b"DIRECTOR-LIST\nHOST-LIST\nUSER-LIST\n");
        line
    }

    /// Bytes came. True: that was all, and the connection is of no more use.
    pub fn received(&mut self, link: LinkId, bytes: &[u8]) -> bool {
        let Some(probe) = self.asking.get_mut(&link) else { return false };
        let lines = probe.assembler.feed(bytes);
        probe.lines.extend(lines);
        if probe.lines.iter().filter(|line| line.is_empty()).count() < LISTS {
            return false;
        }
        let director = probe.director;
        self.views.insert(director, parse(&probe.lines));
        self.asking.remove(&link);
        true
    }

    /// The connection is gone.
    pub fn closed(&mut self, link: LinkId) {
        if let Some(probe) = self.asking.remove(&link) {
            self.views.insert(probe.director, Err("closed the connection instead of answering".into()));
        }
    }

    /// The views of directors 0 to `count`; whoever has not answered did not answer.
    pub fn take(&mut self, count: usize) -> Vec<Result<View, String>> {
        self.asking.clear();
        let mut views = std::mem::take(&mut self.views);
        (0..count).map(|n| views.remove(&n).unwrap_or_else(|| Err("did not answer".into()))).collect()
    }
}

fn parse(lines: &[Vec<u8>]) -> Result<View, String> {
    let text: Vec<String> = lines.iter().map(|line| String::from_utf8_lossy(line).into_owned()).collect();
    let (version, rest) = text.split_first().ok_or("said nothing")?;
    if version.as_bytes() != VERSION_LINE.trim_ascii_end() {
        return Err(format!("greeted with '{version}'"));
    }
    let lists: Vec<&[String]> = rest.split(String::is_empty).collect();
    let [members, hosts, users, end] = lists[..] else {
        return Err(format!("answered {} lists", lists.len().saturating_sub(1)));
    };
    if !end.is_empty() {
        return Err(format!("said '{}' after the last list", end[0]));
    }
    fn each<T>(list: &[String], parse: impl Fn(&[&str]) -> Option<T>) -> Result<Vec<T>, String> {
        list.iter()
            .map(|line| parse(&line.split('\t').collect::<Vec<_>>()).ok_or_else(|| format!("said '{line}'")))
            .collect()
    }
    Ok(View {
        members: each(members, |words| match words {
            // Connections that have not said who they are lack the first four columns, and do not belong to a ring at
            // rest.
            [ip, port, kind, _, status, ..] => Some(MemberLine {
                address: SocketAddr::new(ip.parse().ok()?, port.parse().ok()?),
                kind: (*kind).to_owned(),
                status: (*status).to_owned(),
            }),
            _ => None,
        })?,
        hosts: each(hosts, |words| match words {
            [ip, vhosts, _, tag, updown, _] => Some(HostLine {
                ip: ip.parse().ok()?,
                vhosts: vhosts.parse().ok()?,
                tag: (*tag).to_owned(),
                up: match *updown {
                    "U" => true,
                    "D" => false,
                    _ => return None,
                },
            }),
            _ => None,
        })?,
        users: each(users, |words| match words {
            [hash, expires, ip] => Some(UserLine {
                hash: hash.parse().ok()?,
                expires_secs: expires.parse().ok()?,
                backend: ip.parse().ok()?,
            }),
            _ => None,
        })?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn view(text: &str) -> Result<View, String> {
        let lines: Vec<Vec<u8>> = text.lines().map(|line| line.as_bytes().to_vec()).collect();
        parse(&lines)
    }

    #[test]
    fn lists_of_a_real_director_are_understood() {
        let view = view(
            "VERSION\tdirector-doveadm\t1\t0\n\
             127.0.1.1\t9090\tself\t0\tring synced\t0\n\
             127.0.1.2\t9090\tright\t0\tsynced\t0\t163\t864\t0\t207\t1795309353\t1795309353\n\n\
             127.0.2.1\t100\t0\t\tU\t0\n127.0.2.2\t50\t7\tblue\tD\t99\n\n\
             4122540896\t1795309416\t127.0.2.3\n\n",
        )
        .unwrap();
        assert_eq!(view.members.len(), 2);
        assert_eq!((view.members[0].kind.as_str(), view.members[0].status.as_str()), ("self", "ring synced"));
        assert_eq!(view.hosts[1].tag, "blue");
        assert!(view.hosts[0].up && !view.hosts[1].up);
        assert_eq!(view.users[0].hash, 4_122_540_896);
    }

    #[test]
    fn anything_else_is_not() {
        assert!(view("VERSION\tdirector-doveadm\t2\t0\n\n\n\n").is_err());
        assert!(view("VERSION\tdirector-doveadm\t1\t0\n\n1\t2\t3\n\n\n").unwrap_err().contains("1\t2\t3"));
        assert!(view("VERSION\tdirector-doveadm\t1\t0\n\n\n\nmore").is_err());
    }
}
