//! A user is not sent to a second backend while his time on the first has not run out.
//!
//! This form of it is exact and therefore holds only where nothing goes wrong: halves of a broken ring must both serve.

use std::collections::BTreeMap;
use std::net::IpAddr;

use crate::plan::SECOND;

/// The name in reports.
pub const NAME: &str = "one backend";

/// How long after a command that forgets users answers on the way may still name their old backend.
const SETTLE_MICROS: u64 = 2 * SECOND;

/// Where users were last sent.
#[derive(Debug)]
pub struct Backends {
    last: BTreeMap<usize, (IpAddr, u64)>,
    expire_micros: u64,
    excused_until_micros: u64,
}

impl Backends {
    /// Nobody was sent anywhere.
    pub fn new(expire_secs: u32) -> Self {
        // Users' times are whole seconds, rounded down where they are set.
        let expire_micros = u64::from(expire_secs - 1) * SECOND;
        Self { last: BTreeMap::new(), expire_micros, excused_until_micros: 0 }
    }

    /// An operator has just made directors forget users: what was, does not count.
    pub fn excuse(&mut self, now: u64) {
        self.excused_until_micros = now + SETTLE_MICROS;
        self.last.clear();
    }

    /// A user was sent to a backend. An error says why he must not have been.
    ///
    /// # Errors
    /// The two backends, and the time between.
    pub fn answered(&mut self, user: usize, backend: IpAddr, now: u64) -> Result<(), String> {
        if now < self.excused_until_micros {
            return Ok(());
        }
        let Some((before, at)) = self.last.insert(user, (backend, now)) else { return Ok(()) };
        let since = now - at;
        if before == backend || since >= self.expire_micros {
            return Ok(());
        }
        Err(format!("user {user} was sent to {backend}, {} ms after he was sent to {before}", since / 1000))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_backend_is_noticed_unless_time_or_an_operator_explains_it() {
        let [a, b] = ["10.2.0.1", "10.2.0.2"].map(|ip| ip.parse().unwrap());
        let mut backends = Backends::new(20);
        assert!(backends.answered(1, a, 0).is_ok());
        assert!(backends.answered(1, a, 18 * SECOND).is_ok());
        assert!(backends.answered(2, b, 18 * SECOND).is_ok(), "somebody else");
        assert!(backends.answered(1, b, 36 * SECOND).unwrap_err().contains("18000 ms"));
        assert!(backends.answered(1, a, 56 * SECOND).is_ok(), "expired");
        backends.excuse(56 * SECOND);
        assert!(backends.answered(1, b, 57 * SECOND).is_ok());
        assert!(backends.answered(1, a, 59 * SECOND).is_ok());
        assert!(backends.answered(1, b, 60 * SECOND).is_err());
    }
}
