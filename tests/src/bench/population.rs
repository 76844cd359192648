//! Users that belong on one backend.

use std::collections::BTreeSet;
use std::net::IpAddr;

use director_core::hash::{UsernameHash, vhost_point};

/// The first `count` names whose hashes send them to `home`, one of these backends, all of the default weight. No two
/// have the same hash: they would be one user to a director.
///
/// # Panics
/// If `home` is not one of the backends.
pub fn users_of(home: IpAddr, backends: &[IpAddr], count: usize) -> Vec<String> {
    assert!(backends.contains(&home));
    let mut points: Vec<_> = backends.iter().flat_map(|ip| (0..100).map(|n| (vhost_point(*ip, n), *ip))).collect();
    points.sort_unstable();
    let username_hash = UsernameHash::parse("%Lu").expect("the default is valid");
    let mut seen = BTreeSet::new();
    (0..)
        .map(|number: u64| format!("user{number}@example.org"))
        .filter(|name| {
            let hash = username_hash.hash(name.as_bytes());
            let place = points.partition_point(|(point, _)| *point < hash);
            points[place % points.len()].1 == home && seen.insert(hash)
        })
        .take(count)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::predict;

    #[test]
    fn each_belongs_there_and_has_a_hash_of_his_own() {
        let backends: Vec<IpAddr> = (1..=5).map(|last| IpAddr::from([10, 1, 2, last])).collect();
        let users = users_of(backends[2], &backends, 40);
        assert_eq!(users.len(), 40);
        assert!(users.iter().all(|user| predict::backend(user, &backends) == backends[2]));
        let hashes: BTreeSet<_> = users.iter().map(|user| predict::hash(user)).collect();
        assert_eq!(hashes.len(), 40);
    }
}
