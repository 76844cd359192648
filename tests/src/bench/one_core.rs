//! Threads that are kept on one core while something is measured.

use std::fs;

use rustix::process::Pid;
use rustix::thread::{CpuSet, gettid, sched_getaffinity, sched_setaffinity};

/// The threads of a process.
///
/// # Panics
/// If it is gone.
pub fn threads_of(pid: Pid) -> Vec<Pid> {
    let tasks = fs::read_dir(format!("/proc/{}/task", pid.as_raw_nonzero())).expect("a process");
    let names = tasks.filter_map(|task| task.ok()?.file_name().to_str()?.parse().ok());
    names.filter_map(Pid::from_raw).collect()
}

/// The calling thread.
pub fn own_thread() -> Vec<Pid> {
    vec![gettid()]
}

/// Keeps these threads, and those that they start, on one core while `work` runs.
///
/// # Panics
/// If the system refuses: it takes root for a process of somebody else.
pub fn pinned<T>(threads: &[Pid], work: impl FnOnce() -> T) -> T {
    let before = sched_getaffinity(None).expect("affinity");
    let core = (0..CpuSet::MAX_CPU).find(|&core| before.is_set(core)).expect("a core to run on");
    let mut one = CpuSet::new();
    one.set(core);
    let set =
        |cores: &CpuSet| threads.iter().for_each(|&thread| sched_setaffinity(Some(thread), cores).expect("affinity"));
    set(&one);
    let result = work();
    set(&before);
    result
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::process::getpid;

    #[test]
    fn threads_come_back_to_all_their_cores() {
        assert!(threads_of(getpid()).contains(&own_thread()[0]));
        let cores = || sched_getaffinity(None).expect("affinity").count();
        let before = cores();
        assert_eq!(pinned(&own_thread(), || (cores(), std::thread::spawn(cores).join().expect("no panic"))), (1, 1));
        assert_eq!(cores(), before);
    }
}
