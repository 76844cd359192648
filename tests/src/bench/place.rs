//! Where a bench has run.

use std::fs;
use std::process::Command;

/// A line about the machine: processors, what else it has to do, and which Dovecot it was.
pub fn describe() -> String {
    let cores = std::thread::available_parallelism().map_or_else(|_| "?".into(), |count| count.to_string());
    let processors = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = processors
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(": "))
        .map_or("of unknown make", |(_, model)| model);
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load = load.split(' ').next().unwrap_or("?");
    let version = Command::new("dovecot").arg("--version").output().map(|output| output.stdout).unwrap_or_default();
    let version = String::from_utf8_lossy(&version);
    let version = version.split(' ').next().unwrap_or_default().trim();
    format!("{cores} cores ({model}), all on loopback; load average before: {load}; Dovecot {version}")
}
