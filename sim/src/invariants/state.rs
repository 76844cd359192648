//! Once nothing goes wrong any more, all directors have the same backends and the same users.

use std::collections::BTreeMap;

use crate::views::{HostLine, UserLine, View};

/// The name in reports.
pub const NAME: &str = "equal state";

/// Users who expire so soon may already be gone on one director and not yet on another.
const EXPIRING_SECS: u64 = 3;

/// Compares the backends and users that all directors have, at that Unix time. The same hash in two tags is two
/// users.
///
/// # Errors
/// The first difference.
pub fn check(views: &[Result<View, String>], unix_secs: u64) -> Result<(), String> {
    let mut first: Option<(usize, &View)> = None;
    for (n, view) in views.iter().enumerate() {
        let view = view.as_ref().map_err(|error| format!("d{} {error}", n + 1))?;
        let Some((reference, reference_view)) = first else {
            first = Some((n, view));
            continue;
        };
        let who = format!("d{} and d{}", reference + 1, n + 1);
        check_hosts(&reference_view.hosts, &view.hosts).map_err(|error| format!("{who} differ: {error}"))?;
        check_users(reference_view, view, unix_secs).map_err(|error| format!("{who} differ: {error}"))?;
    }
    Ok(())
}

fn check_hosts(one: &[HostLine], other: &[HostLine]) -> Result<(), String> {
    if one.len() != other.len() {
        return Err(format!("{} and {} backends", one.len(), other.len()));
    }
    match one.iter().zip(other).find(|(one, other)| one != other) {
        Some((one, other)) => Err(format!("{one:?}, {other:?}")),
        None => Ok(()),
    }
}

fn check_users(one: &View, other: &View, unix_secs: u64) -> Result<(), String> {
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
                None if user.expires_secs <= unix_secs + EXPIRING_SECS => {}
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
        check(&[Ok(one), Ok(other)], 100).unwrap();
    }

    #[test]
    fn different_states_do_not() {
        let one = view(&[user(1, "10.2.0.1", 150)]);
        let elsewhere = view(&[user(1, "10.2.0.2", 150)]);
        assert!(check(&[Ok(one.clone()), Ok(elsewhere)], 100).unwrap_err().starts_with("d1 and d2 differ: UserLine"));
        let absent = check(&[Ok(one.clone()), Ok(one.clone()), Ok(view(&[]))], 100).unwrap_err();
        assert!(absent.starts_with("d1 and d3 differ: only one has"), "{absent}");
        let mut down = one.clone();
        down.hosts[1].up = false;
        assert!(check(&[Ok(one.clone()), Ok(down)], 100).unwrap_err().contains("10.2.0.2"));
        let mut fewer = one.clone();
        fewer.hosts.pop();
        assert!(check(&[Ok(one), Ok(fewer)], 100).unwrap_err().contains("3 and 2 backends"));
    }
}
