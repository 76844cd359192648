//! Where a user belongs, by the hashes alone.

use std::net::IpAddr;

use director_core::hash::{UsernameHash, vhost_point};

/// A user's hash with the default `director_username_hash`.
pub fn hash(user: &str) -> u32 {
    UsernameHash::parse("%Lu").expect("the default is valid").hash(user.as_bytes())
}

/// The backend of a user among these, all up and with the default weight.
pub fn backend(user: &str, backends: &[IpAddr]) -> IpAddr {
    let mut points: Vec<_> = backends.iter().flat_map(|ip| (0..100).map(|n| (vhost_point(*ip, n), *ip))).collect();
    points.sort_unstable();
    let hash = hash(user);
    points.iter().find(|(point, _)| *point >= hash).unwrap_or(&points[0]).1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_the_original_says() {
        let backends: Vec<IpAddr> = (1..=5).map(|last| IpAddr::from([127, 0, 2, last])).collect();
        assert_eq!(hash("jane"), 1_480_892_766);
        assert_eq!(backend("jane", &backends), backends[0]);
        assert_eq!(backend("user@", &backends), backends[4]);
        assert_eq!(backend("a@b@c", &backends), backends[3]);
    }
}
