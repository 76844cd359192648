//! Loopback addresses that no other test uses.

use std::net::{Ipv4Addr, SocketAddrV4, UdpSocket};
use std::sync::atomic::{AtomicU32, Ordering};

/// A /24 of loopback addresses: `127.a.b.0/24` with `a` from 64 to 127.
///
/// What holds the claim is a UDP socket on the last address: the system gives it to one process only, and takes it back
/// whatever becomes of that process, so tests can run beside each other in any number of processes.
#[derive(Debug)]
pub struct Network {
    number: u32,
    _claim: UdpSocket,
}

const NETWORKS: u32 = 64 * 256;
const CLAIM_PORT: u16 = 9999;

impl Network {
    /// Claims a network that is free.
    ///
    /// # Panics
    /// If all are taken.
    pub fn claim() -> Self {
        // Begins where an earlier run did not, so that its connections in TIME_WAIT are not in the way.
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let first = std::process::id().wrapping_mul(31);
        for _ in 0..NETWORKS {
            let number = first.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed)) % NETWORKS;
            if let Ok(claim) = UdpSocket::bind(SocketAddrV4::new(address(number, 255), CLAIM_PORT)) {
                return Self { number, _claim: claim };
            }
        }
        panic!("all {NETWORKS} test networks are in use");
    }

    /// The address that ends in `last`.
    pub fn ip(&self, last: u8) -> Ipv4Addr {
        address(self.number, last)
    }
}

fn address(number: u32, last: u8) -> Ipv4Addr {
    Ipv4Addr::from(0x7f40_0000 + (number << 8) + u32::from(last))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_claims_overlap() {
        let networks: Vec<_> = (0..20).map(|_| Network::claim()).collect();
        let mut addresses: Vec<_> = networks.iter().map(|network| network.ip(1)).collect();
        addresses.sort();
        addresses.dedup();
        assert_eq!(addresses.len(), 20);
        assert!(addresses.iter().all(|ip| ip.is_loopback() && (64..128).contains(&ip.octets()[1])));
    }
}
