//! Waiting for a state.

use std::fmt::Display;
use std::thread::sleep;
use std::time::{Duration, Instant};

/// Long enough for anything that ever happens, also on a machine with other work to do.
pub const LIMIT: Duration = Duration::from_secs(90);

/// Calls `probe` until it finds what is waited for, and gives back what it found.
///
/// `probe` returns `Err` with the present state for as long as it is not the right one.
///
/// # Panics
/// After `limit`, with `what` and the last state.
pub fn wait_for<T, E: Display>(what: &str, limit: Duration, mut probe: impl FnMut() -> Result<T, E>) -> T {
    let start = Instant::now();
    let mut pause = Duration::from_millis(5);
    loop {
        match probe() {
            Ok(found) => return found,
            Err(state) if start.elapsed() > limit => {
                panic!("waited {:.1} s for: {what}; it is: {state}", start.elapsed().as_secs_f64())
            }
            Err(_) => sleep(pause),
        }
        pause = (pause * 2).min(Duration::from_millis(100));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gives_back_what_was_found() {
        let mut calls = 0;
        let found = wait_for("a third call", LIMIT, || {
            calls += 1;
            if calls == 3 { Ok(calls) } else { Err("not yet") }
        });
        assert_eq!(found, 3);
    }

    #[test]
    #[should_panic(expected = "for: never; it is: as it was")]
    fn says_what_it_waited_for_in_vain() {
        wait_for::<(), _>("never", Duration::ZERO, || Err("as it was"));
    }
}
