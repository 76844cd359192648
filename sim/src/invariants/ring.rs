//! Once nothing goes wrong any more, all directors are in one ring, and it is synced.

use std::net::SocketAddr;

use crate::plan::SECOND;
use crate::views::View;

/// The name in reports.
pub const NAME: &str = "one ring";

/// How long after the last fault the ring may take to be whole. A link may need 60 s to be found dead, a member may
/// be tried again 60 s after it failed, and a right that is not the preferred one is left 30 s after a sync.
pub const SETTLE_MAX_MICROS: u64 = 180 * SECOND;

/// Compares what all directors say of the ring; `addresses` are theirs, in the same order.
///
/// # Errors
/// What is wrong with it.
pub fn check(addresses: &[SocketAddr], views: &[Result<View, String>]) -> Result<(), String> {
    for (n, view) in views.iter().enumerate() {
        let view = view.as_ref().map_err(|error| format!("d{} {error}", n + 1))?;
        check_one(addresses, n, view).map_err(|error| format!("d{}: {error}", n + 1))?;
    }
    Ok(())
}

fn check_one(addresses: &[SocketAddr], n: usize, view: &View) -> Result<(), String> {
    let count = addresses.len();
    let mut expected = vec![(addresses[n], "self", "ring synced")];
    if count > 1 {
        expected.push((addresses[(n + 1) % count], "right", "synced"));
        expected.push((addresses[(n + count - 1) % count], "left", "synced"));
    }
    for (address, kind, status) in &expected {
        let lines: Vec<_> = view.members.iter().filter(|line| line.kind == *kind).collect();
        let [line] = lines[..] else { return Err(format!("{} lines of type '{kind}' instead of one", lines.len())) };
        if line.address != *address {
            return Err(format!("{kind} is {}, but should be {address}", line.address));
        }
        if line.status != *status {
            return Err(format!("{kind} is '{}'", line.status));
        }
    }
    for address in addresses {
        if !view.members.iter().any(|line| line.address == *address) {
            return Err(format!("{address} is not a member"));
        }
    }
    let known = ["self", "left", "right", ""];
    match view.members.iter().find(|line| !known.contains(&line.kind.as_str()) || !addresses.contains(&line.address)) {
        Some(line) => Err(format!("there is also {} of type '{}'", line.address, line.kind)),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::views::MemberLine;

    fn addresses(count: u8) -> Vec<SocketAddr> {
        (1..=count).map(|n| SocketAddr::from(([10, 1, 0, n], 9090))).collect()
    }

    /// What each director of a healthy ring says.
    fn healthy(addresses: &[SocketAddr]) -> Vec<Result<View, String>> {
        let count = addresses.len();
        let line = |n: usize, kind: &str, status: &str| MemberLine {
            address: addresses[n % count],
            kind: kind.to_owned(),
            status: status.to_owned(),
        };
        (0..count)
            .map(|n| {
                let mut members = vec![line(n, "self", "ring synced")];
                members.extend((2..count.saturating_sub(1)).map(|step| line(n + step, "", "")));
                if count > 1 {
                    members.push(line(n + 1, "right", "synced"));
                    members.push(line(n + count - 1, "left", "synced"));
                }
                Ok(View { members, ..View::default() })
            })
            .collect()
    }

    #[test]
    fn healthy_rings_of_every_size_pass() {
        for count in 1..7 {
            let addresses = addresses(count);
            check(&addresses, &healthy(&addresses)).unwrap();
        }
    }

    #[test]
    fn broken_rings_do_not() {
        let addresses = addresses(4);
        let broken = |change: fn(&mut Vec<MemberLine>)| {
            let mut views = healthy(&addresses);
            change(&mut views[2].as_mut().unwrap().members);
            check(&addresses, &views).unwrap_err()
        };
        assert_eq!(broken(|members| members[0].status = "ring handshaking".into()), "d3: self is 'ring handshaking'");
        assert_eq!(broken(|members| members[2].status = "syncing".into()), "d3: right is 'syncing'");
        assert!(broken(|members| members[2].kind = "out".into()).contains("0 lines of type 'right'"));
        assert!(broken(|members| members[2].address = members[1].address).contains("right is"));
        assert!(broken(|members| drop(members.remove(1))).contains("is not a member"));
        assert!(broken(|members| members[1].kind = "in".into()).contains("there is also"));
        assert!(broken(|members| members.push(members[2].clone())).contains("2 lines"));
        let mut silent = healthy(&addresses);
        silent[0] = Err("did not answer".into());
        assert_eq!(check(&addresses, &silent).unwrap_err(), "d1 did not answer");
    }
}
