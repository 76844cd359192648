//! Once nothing goes wrong any more, all directors have the same backends and the same users.
//!
//! A ring with older members keeps less (ring protocol, "Older members"): below 1.9 the times of users differ by what a
//! member does not refresh, below 1.6 nobody can rely on being told that a backend is down.

use std::collections::BTreeMap;

use director_core::wire::ring::minor;

use crate::views::{HostLine, UserLine, View};

/// The name in reports.
pub const NAME: &str = "equal state";

/// Users who expire so soon may already be gone on one director and not yet on another.
const EXPIRING_SECS: u64 = 3;

/// A member below 1.9 may leave out so much of a refresh, for those behind it too.
const REFRESH_LEFT_OUT_SECS: u64 = 15;

/// Compares the backends and users that all directors have, at that Unix time; `minors` are the versions that they
/// speak. The same hash in two tags is two users.
///
/// # Errors
/// The first difference.
pub fn check(views: &[Result<View, String>], unix_secs: u64, minors: &[u32]) -> Result<(), String> {
    let updown = minors.iter().all(|&minor| minor >= minor::UPDOWN);
    let untimed = minors.iter().filter(|&&minor| minor < minor::USER_TIMESTAMP).count() as u64;
    let expiring_until_secs = unix_secs + EXPIRING_SECS + untimed * REFRESH_LEFT_OUT_SECS;
    let mut first: Option<(usize, &View)> = None;
    for (n, view) in views.iter().enumerate() {
        let view = view.as_ref().map_err(|error| format!("d{} {error}", n + 1))?;
        let Some((reference, reference_view)) = first else {
            first = Some((n, view));
            continue;
        };
        let who = format!("d{} and d{}", reference + 1, n + 1);
        check_hosts(&reference_view.hosts, &view.hosts, updown).map_err(|error| format!("{who} differ: {error}"))?;
        check_users(reference_view, view, expiring_until_secs).map_err(|error| format!("{who} differ: {error}"))?;
    }
    Ok(())
}

fn check_hosts(one: &[HostLine], other: &[HostLine], updown: bool) -> Result<(), String> {
    if one.len() != other.len() {
        return Err(format!("{} and {} backends", one.len(), other.len()));
    }
    let same = |one: &HostLine, other: &HostLine| {
        *one == HostLine { up: if updown { other.up } else { one.up }, ..other.clone() }
    };
    match one.iter().zip(other).find(|(one, other)| !same(one, other)) {
        Some((one, other)) => Err(format!("{one:?}, {other:?}")),
        None => Ok(()),
    }
}

fn check_users(one: &View, other: &View, expiring_until_secs: u64) -> Result<(), String> {
    // The two have the same backends by now, so one's tags are the other's.
    let tag = |user: &UserLine| {
        one.hosts.iter().find(|host| host.ip == user.backend).map_or(String::new(), |host| host.tag.clone())
    };
    let index = |view: &View| -> BTreeMap<(u32, String), UserLine> {
        view.users.iter().map(|user| ((user.hash, tag(user)), *user)).collect()
    };
    let (one, other) = (index(one), index(other));
    for (have, lack) in [(&one, &other), (&other, &one)] {
        for (key, user) in have {
            match lack.get(key) {
                Some(same) if same.backend == user.backend => {}
                Some(different) => return Err(format!("{user:?}, {different:?}")),
                None if user.expires_secs <= expiring_until_secs => {}
                None => return Err(format!("only one has {user:?}")),
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(ip: &str, tag: &str) -> HostLine {
        HostLine { ip: ip.parse().unwrap(), vhosts: 100, tag: tag.to_owned(), up: true }
    }

    fn user(hash: u32, backend: &str, expires_secs: u64) -> UserLine {
        UserLine { hash, expires_secs, backend: backend.parse().unwrap() }
    }

    fn view(users: &[UserLine]) -> View {
        let hosts = vec![host("10.2.0.1", ""), host("10.2.0.2", ""), host("10.2.1.1", "blue")];
        View { hosts, users: users.to_vec(), ..View::default() }
    }

    #[test]
    fn equal_states_pass() {
        let one = view(&[user(1, "10.2.0.1", 150), user(1, "10.2.1.1", 150), user(2, "10.2.0.1", 102)]);
        // Another order, another time of expiry, and a user who has just gone.
        let other = view(&[user(1, "10.2.1.1", 150), user(1, "10.2.0.1", 149)]);
        check(&[Ok(one), Ok(other)], 100, &[9, 9]).unwrap();
    }

    #[test]
    fn rings_with_older_members_may_differ_in_what_those_do_not_hear() {
        let one = view(&[user(1, "10.2.0.1", 112)]);
        assert!(check(&[Ok(one.clone()), Ok(view(&[]))], 100, &[9, 9]).is_err());
        check(&[Ok(one.clone()), Ok(view(&[]))], 100, &[9, 8]).unwrap();
        let mut down = one.clone();
        down.hosts[1].up = false;
        assert!(check(&[Ok(one.clone()), Ok(down.clone())], 100, &[6, 9]).is_err());
        check(&[Ok(one.clone()), Ok(down.clone())], 100, &[5, 9]).unwrap();
        down.hosts[1].vhosts = 1;
        assert!(check(&[Ok(one), Ok(down)], 100, &[5, 9]).is_err());
    }

    #[test]
    fn different_states_do_not() {
        let one = view(&[user(1, "10.2.0.1", 150)]);
        let elsewhere = view(&[user(1, "10.2.0.2", 150)]);
        assert!(
            check(&[Ok(one.clone()), Ok(elsewhere)], 100, &[9, 9])
                .unwrap_err()
                .starts_with("d1 and d2 differ: UserLine")
        );
        let absent = check(&[Ok(one.clone()), Ok(one.clone()), Ok(view(&[]))], 100, &[9; 3]).unwrap_err();
        assert!(absent.starts_with("d1 and d3 differ: only one has"), "{absent}");
        let mut down = one.clone();
        down.hosts[1].up = false;
        assert!(check(&[Ok(one.clone()), Ok(down)], 100, &[9, 9]).unwrap_err().contains("10.2.0.2"));
        let mut fewer = one.clone();
        fewer.hosts.pop();
        assert!(check(&[Ok(one), Ok(fewer)], 100, &[9, 9]).unwrap_err().contains("3 and 2 backends"));
    }
}
