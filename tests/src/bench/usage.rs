//! What a process or a thread has used of the machine.

use std::fs;
use std::time::Duration;

use rustix::process::Pid;
use rustix::time::{ClockId, Timespec, clock_gettime};

use crate::process::activity;

/// The processor time that the calling thread has used so far.
pub fn own_thread() -> Duration {
    duration(clock_gettime(ClockId::ThreadCPUTime))
}

fn duration(time: Timespec) -> Duration {
    Duration::new(time.tv_sec.try_into().unwrap_or(0), time.tv_nsec.try_into().unwrap_or(0))
}

/// The processor time that the threads of a process have used so far; zero if it is gone.
pub fn process(pid: Pid) -> Duration {
    Duration::from_nanos(activity(pid).map_or(0, |activity| activity.cpu_nanos))
}

/// How much of it each of so many took, in microseconds.
pub fn each_micros(used: Duration, count: u64) -> f64 {
    used.as_secs_f64() * 1e6 / count as f64
}

/// How much of one core that is, in percent.
pub fn percent(used: Duration, of: Duration) -> f64 {
    100.0 * used.as_secs_f64() / of.as_secs_f64()
}

/// The memory of a process, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Memory {
    /// What it uses now.
    pub resident: u64,
    /// The most that it has used since its start, or since [`forget_peak`].
    pub peak: u64,
}

/// The memory that a process really uses; `None` if it is gone.
pub fn memory(pid: Pid) -> Option<Memory> {
    let status = fs::read_to_string(format!("/proc/{}/status", pid.as_raw_nonzero())).ok()?;
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok().map(|kib| kib * 1024)
    };
    Some(Memory { resident: field("VmRSS:")?, peak: field("VmHWM:")? })
}

/// The peak of a process's memory counts from now on.
///
/// # Panics
/// If the system refuses: it takes root for a process of somebody else.
pub fn forget_peak(pid: Pid) {
    fs::write(format!("/proc/{}/clear_refs", pid.as_raw_nonzero()), "5").expect("clear_refs");
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::process::getpid;

    #[test]
    fn work_and_memory_are_seen() {
        let before = own_thread();
        while own_thread() < before + Duration::from_millis(5) {
            std::hint::black_box((0..10_000_u64).sum::<u64>());
        }
        assert!(process(getpid()) > Duration::ZERO);
        let block = vec![1_u8; 40_000_000];
        let with = memory(getpid()).expect("there");
        assert!(with.peak >= with.resident && with.resident > 40_000_000);
        drop(block);
        assert_eq!(percent(Duration::from_secs(1), Duration::from_secs(4)), 25.0);
    }
}
