//! What administrators ask to see (admin protocol).

use std::io::Write as _;
use std::net::IpAddr;

use crate::connections::{Connection, Kind};
use crate::contract::ConnectionId;
use crate::director::Director;
use crate::hash::IpText;
use crate::time::Now;

use super::{Listing, Outcome};

/// A list of users is produced when less than this waits to be written…
const PRODUCE_BELOW_BYTES: usize = 16 * 1024;
/// … and until this much waits.
const PRODUCE_UNTIL_BYTES: usize = 64 * 1024;

impl Director {
    pub(super) fn list_hosts(&mut self, id: ConnectionId) -> Outcome {
        let mut out = Vec::new();
        for (number, host) in self.hosts.iter() {
            let _ = write!(out, "{}\t{}\t{}\t", IpText(host.ip), host.vhosts, self.users.count(number));
            crate::wire::line::escape(self.hosts.tag_name(host.tag), &mut out);
            let _ = writeln!(out, "\t{}\t{}", if host.down { 'D' } else { 'U' }, host.updown_changed_secs);
        }
        out.push(b'\n');
        self.connections.write(id, &out);
        Outcome::Done
    }

    pub(super) fn list_removed_hosts(&mut self, id: ConnectionId) -> Outcome {
        let mut out = Vec::new();
        for (_, host) in self.initial.iter() {
            if self.hosts.find(host.ip).is_none() {
                let _ = writeln!(out, "{}", IpText(host.ip));
            }
        }
        out.push(b'\n');
        self.connections.write(id, &out);
        Outcome::Done
    }

    pub(super) fn list_directors(&mut self, id: ConnectionId, now: Now) -> Outcome {
        let mut out = Vec::new();
        for &link_id in &self.ring.links {
            if self.link(link_id).is_some_and(|link| link.member.is_none()) {
                self.write_link_status(link_id, &mut out);
                out.push(b'\n');
            }
        }
        for (address, member) in self.ring.members.iter() {
            let failed = member.last_failed_secs();
            let _ = write!(out, "{}\t{}\t", IpText(address.ip()), address.port());
            if address == self.ring.members.self_address() {
                let status = if !self.ring.handshaked {
                    "ring handshaking".to_owned()
                } else if self.ring.synced {
                    "ring synced".to_owned()
                } else {
                    let secs = now.unix_secs.saturating_sub(self.ring.last_synced_unix_secs);
                    format!("ring syncing - last sync {secs} secs ago")
                };
                let _ = writeln!(out, "self\t{failed}\t{status}\t{}", self.ring.last_sync_millis);
                continue;
            }
            let links = self.ring.links.iter().copied();
            let links: Vec<_> =
                links.filter(|&id| self.link(id).is_some_and(|link| link.member == Some(address))).collect();
            if links.is_empty() {
                let _ = writeln!(out, "{}\t{failed}\t", if member.removed { "removed" } else { "" });
            }
            for (index, &link_id) in links.iter().enumerate() {
                if index > 0 {
                    let _ = write!(out, "{}\t{}\t", IpText(address.ip()), address.port());
                }
                let kind = if member.removed { "removed" } else { self.link_type(link_id) };
                let _ = write!(out, "{kind}\t{failed}\t");
                self.write_link_status(link_id, &mut out);
                out.push(b'\n');
            }
        }
        out.push(b'\n');
        self.connections.write(id, &out);
        Outcome::Done
    }

    /// The columns of a link, from its status on.
    fn write_link_status(&self, id: ConnectionId, out: &mut Vec<u8>) {
        let (Some(link), Some(connection)) = (self.link(id), self.connections.get(id)) else { return };
        let _ = if !link.done && link.outgoing {
            write!(out, "handshaking - {} USERs sent", link.users_sent)
        } else if !link.done {
            write!(out, "handshaking - {} USERs received", link.users_received)
        } else if self.ring.synced {
            write!(out, "synced")
        } else {
            write!(out, "syncing")
        };
        let _ = write!(
            out,
            "\t{}\t{}\t{}\t{}\t{}\t{}\t{}",
            link.ping_millis,
            link.bytes_in,
            link.bytes_out,
            connection.buffered(),
            link.peak_buffered,
            link.last_input_unix_secs,
            link.last_output_unix_secs
        );
    }

    pub(super) fn start_user_list(&mut self, id: ConnectionId, ip: Option<IpAddr>) -> Outcome {
        let host = match ip {
            Some(ip) => match self.hosts.find(ip) {
                Some(host) => Some(host),
                None => return Outcome::Answer(String::new()),
            },
            None => None,
        };
        let cursor = self.users.cursor();
        match self.session(id) {
            Some(session) => {
                session.listing = Some(Listing { cursor, host });
                self.connections.announce(id);
            }
            None => self.users.end(cursor),
        }
        Outcome::Done
    }

    /// Adds users to the output of a list when little of it is left, and its end when there are no more. Returns false
    /// when it has looked at enough for one call without finding anybody.
    pub(crate) fn produce_user_list(&mut self, id: ConnectionId, now: Now) -> bool {
        self.connections.lend_buffer(id);
        let Some(connection) = self.connections.get_mut(id) else { return true };
        let buffered = connection.buffered();
        let Kind::Admin(session) = &mut connection.kind else { return true };
        if buffered >= PRODUCE_BELOW_BYTES {
            return true;
        }
        let Some(mut listing) = session.listing.take() else { return true };
        let out = connection.output_mut();
        let start = out.len();
        let limit = start + PRODUCE_UNTIL_BYTES - buffered;
        let mut looks = 0;
        let finished = loop {
            if out.len() >= limit || looks >= PRODUCE_UNTIL_BYTES {
                break false;
            }
            looks += 1;
            match self.users.next(&mut listing.cursor) {
                None => break true,
                // Only retired users in sight: that look was a long one.
                Some(None) => looks += 4096,
                Some(Some(user)) => {
                    if listing.host.is_some_and(|host| host != user.host) {
                        continue;
                    }
                    let Some(host) = self.hosts.get(user.host) else { continue };
                    let expires = u64::from(user.timestamp_secs) + u64::from(self.tuning.user_expire_secs);
                    let _ = writeln!(out, "{}\t{expires}\t{}", user.hash, IpText(host.ip));
                }
            }
        };
        if finished {
            out.push(b'\n');
        }
        let produced = out.len() > start;
        if finished {
            self.users.end(listing.cursor);
            self.admin_goes_on(id, now);
        } else if let Some(Connection { kind: Kind::Admin(session), .. }) = self.connections.get_mut(id) {
            session.listing = Some(listing);
        }
        produced || buffered > 0
    }
}
