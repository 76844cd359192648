//! Processes that end with the test that started them.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::wait::{LIMIT, wait_for};

/// A process that a test started, with all that it started in turn.
///
/// Dropping it kills exactly these: by number, never by name.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
}

impl Process {
    /// Starts a program whose output goes to the end of a file.
    ///
    /// # Panics
    /// If it does not start.
    pub fn start(name: &str, command: &mut Command, output: &Path) -> Self {
        let open = || File::options().create(true).append(true).open(output).expect("output file");
        let child = command
            .stdin(Stdio::null())
            .stdout(open())
            .stderr(open())
            .spawn()
            .unwrap_or_else(|error| panic!("{name} does not start: {error}"));
        Self { name: name.into(), child }
    }

    /// Its number.
    pub fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    /// How it ended, if it has.
    pub fn exit_status(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("waiting for a child")
    }

    /// Sends it a signal, if it is still there.
    pub fn signal(&mut self, signal: Signal) {
        if self.exit_status().is_none() {
            kill_process(self.pid(), signal).expect("signalling a child");
        }
    }

    /// Waits until it has ended by itself.
    ///
    /// # Panics
    /// If it does not.
    pub fn wait(&mut self) -> ExitStatus {
        let name = self.name.clone();
        wait_for(&format!("the end of {name}"), LIMIT, || self.exit_status().ok_or("running"))
    }

    /// Asks it to end (SIGTERM) and waits until it has.
    ///
    /// # Panics
    /// If it does not.
    pub fn stop(&mut self) -> ExitStatus {
        self.signal(Signal::TERM);
        self.wait()
    }

    /// Kills it and all its descendants at once (SIGKILL), and waits until they are gone, and with them their sockets.
    pub fn kill(&mut self) {
        let mut killed = Vec::new();
        if self.exit_status().is_none() {
            // Stopped, it neither starts more nor reaps, so the numbers stay those of its children.
            let _ = kill_process(self.pid(), Signal::STOP);
            killed = descendants(self.pid());
            for pid in &killed {
                let _ = kill_process(*pid, Signal::KILL);
            }
            let _ = kill_process(self.pid(), Signal::KILL);
        }
        let _ = self.child.wait();
        // This is also called where a test fails, so it never fails itself.
        let start = Instant::now();
        while !killed.iter().all(|pid| has_ended(*pid)) && start.elapsed() < LIMIT {
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// The descendant with this name, as the system shows it (at most 15 bytes).
    pub fn descendant(&self, name: &str) -> Option<Pid> {
        descendants(self.pid()).into_iter().find(|pid| process_name(*pid).as_deref() == Some(name))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// The memory that a process really uses, in bytes; `None` if it is gone.
pub fn resident_bytes(pid: Pid) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{}/status", pid.as_raw_nonzero())).ok()?;
    let kib = status_field(&status, "VmRSS:")?;
    Some(kib * 1024)
}

/// What the threads of a process have done so far, all together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Activity {
    /// How many threads there are.
    pub threads: u64,
    /// How often one gave its processor to another, by itself or not.
    pub context_switches: u64,
    /// The time on processors, in nanoseconds.
    pub cpu_nanos: u64,
}

/// What the threads of a process have done so far; `None` if it is gone.
pub fn activity(pid: Pid) -> Option<Activity> {
    let mut activity = Activity::default();
    for thread in fs::read_dir(format!("/proc/{}/task", pid.as_raw_nonzero())).ok()?.flatten() {
        // One may have ended meanwhile.
        let Ok(status) = fs::read_to_string(thread.path().join("status")) else { continue };
        let Ok(schedule) = fs::read_to_string(thread.path().join("schedstat")) else { continue };
        activity.threads += 1;
        for field in ["voluntary_ctxt_switches:", "nonvoluntary_ctxt_switches:"] {
            activity.context_switches += status_field(&status, field)?;
        }
        activity.cpu_nanos += schedule.split_whitespace().next()?.parse::<u64>().ok()?;
    }
    Some(activity)
}

/// The number in a field of `/proc/PID/status`.
fn status_field(status: &str, name: &str) -> Option<u64> {
    status.lines().find_map(|line| line.strip_prefix(name))?.split_whitespace().next()?.parse().ok()
}

/// Whether all is over with a process: it is gone, or only its number is left, for its parent to take notice (`Z`).
fn has_ended(pid: Pid) -> bool {
    let stat = fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero())).unwrap_or_default();
    let state = stat.rsplit_once(')').map(|(_, fields)| fields.trim_start());
    state.is_none_or(|state| state.starts_with(['Z', 'X']))
}

fn process_name(pid: Pid) -> Option<String> {
    let name = fs::read_to_string(format!("/proc/{}/comm", pid.as_raw_nonzero())).ok()?;
    Some(name.trim_end().into())
}

fn descendants(root: Pid) -> Vec<Pid> {
    let mut parents = Vec::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<i32>().ok()).and_then(Pid::from_raw)
        else {
            continue;
        };
        // The fields after the name, which may hold anything, blanks and brackets included: state, parent, …
        let Ok(stat) = fs::read_to_string(entry.path().join("stat")) else { continue };
        let Some((_, fields)) = stat.rsplit_once(')') else { continue };
        let parent = fields.split_whitespace().nth(1).and_then(|parent| parent.parse().ok()).and_then(Pid::from_raw);
        parents.push((pid, parent));
    }
    let mut found = vec![root];
    let mut next = 0;
    while next < found.len() {
        let parent_of_next = Some(found[next]);
        found.extend(parents.iter().filter(|(_, parent)| *parent == parent_of_next).map(|(pid, _)| *pid));
        next += 1;
    }
    found.split_off(1)
}

/// How a program that was run to its end came out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// Its exit code; `None` after a signal.
    pub code: Option<i32>,
    /// What it wrote to standard output.
    pub stdout: String,
    /// What it wrote to standard error.
    pub stderr: String,
}

impl Outcome {
    /// The standard output of a run that must not fail.
    ///
    /// # Panics
    /// If it did, with all that it said.
    #[track_caller]
    pub fn success(self) -> String {
        assert_eq!(self.code, Some(0), "{self:?}");
        self.stdout
    }
}

/// Runs a program to its end.
///
/// # Panics
/// If it takes longer than [`LIMIT`].
pub fn run(command: &mut Command) -> Outcome {
    let what = format!("{command:?}");
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{what} does not start: {error}"));
    // Read beside waiting, or a full pipe would stop the program for good.
    let stdout = read_all(child.stdout.take().expect("piped"));
    let stderr = read_all(child.stderr.take().expect("piped"));
    let start = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait().expect("waiting for a child") {
            break status;
        }
        if start.elapsed() > LIMIT {
            let _ = child.kill();
            panic!("{what} runs for over {LIMIT:?}");
        }
        std::thread::sleep(Duration::from_millis(2));
    };
    let text = |reader: std::thread::JoinHandle<String>| reader.join().expect("reader");
    Outcome { code: status.code(), stdout: text(stdout), stderr: text(stderr) }
}

fn read_all(mut pipe: impl std::io::Read + Send + 'static) -> std::thread::JoinHandle<String> {
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        let _ = pipe.read_to_end(&mut bytes);
        String::from_utf8_lossy(&bytes).into_owned()
    })
}

/// The last lines of a file, for a report.
pub fn tail(path: &PathBuf, lines: usize) -> String {
    let bytes = fs::read(path).unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes);
    let all: Vec<_> = text.lines().collect();
    all[all.len().saturating_sub(lines)..].join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn what_a_process_started_ends_with_it() {
        let mut process = Process::start("sh", &mut shell("sleep 100 & sleep 101"), Path::new("/dev/null"));
        let children = wait_for("two children", LIMIT, || {
            let children = descendants(process.pid());
            let asleep = children.iter().filter(|pid| process_name(**pid).as_deref() == Some("sleep")).count();
            if asleep == 2 { Ok(children) } else { Err(asleep) }
        });
        process.kill();
        assert!(children.iter().all(|pid| has_ended(*pid)), "one lives on");
    }

    #[test]
    fn the_activity_of_a_busy_process_grows() {
        // Not this process: what its threads have done is gone with them, and other tests have threads that end.
        let busy = Process::start("sh", &mut shell("while :; do sleep 0.001; done"), Path::new("/dev/null"));
        let before = activity(busy.pid()).unwrap();
        assert_eq!(before.threads, 1);
        wait_for("more activity", LIMIT, || {
            let after = activity(busy.pid()).unwrap();
            let more = after.context_switches > before.context_switches && after.cpu_nanos > before.cpu_nanos;
            if more { Ok(()) } else { Err(format!("{before:?}, {after:?}")) }
        });
    }

    #[test]
    fn an_outcome_has_code_and_both_outputs() {
        let outcome = run(&mut shell("echo out; echo err >&2; exit 3"));
        assert_eq!(outcome, Outcome { code: Some(3), stdout: "out\n".into(), stderr: "err\n".into() });
    }
}
