//! `director demo` as its user sees it. What time anything takes is nowhere asserted.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process, test_kill_process};
use tempfile::TempDir;

/// A demonstration with a temporary folder of its own, in which it makes its own.
struct Demo {
    process: Process,
    output: BufReader<ChildStdout>,
    place: TempDir,
}

/// A process that does not outlive a test that fails.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        if matches!(self.0.try_wait(), Ok(None)) {
            // SIGTERM, so that it ends its own.
            let _ = kill_process(Pid::from_child(&self.0), Signal::TERM);
            let _ = self.0.wait();
        }
    }
}

impl Demo {
    fn start(arguments: &[&str]) -> Self {
        let place = tempfile::tempdir().unwrap();
        let mut process = Command::new(env!("CARGO_BIN_EXE_director"))
            .arg("demo")
            .args(arguments)
            .env("TMPDIR", place.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let output = BufReader::new(process.stdout.take().unwrap());
        Self { process: Process(process), output, place }
    }

    /// Reads on, to the line that contains `text`.
    fn read_to(&mut self, text: &str) -> String {
        let mut all = String::new();
        while !all.lines().last().is_some_and(|line| line.contains(text)) {
            assert_ne!(self.output.read_line(&mut all).unwrap(), 0, "no '{text}' in:\n{all}\n{}", self.errors());
        }
        all
    }

    fn errors(&mut self) -> String {
        let mut errors = String::new();
        self.process.0.stderr.take().unwrap().read_to_string(&mut errors).unwrap();
        errors
    }

    /// The rest of the output, what was said on standard error, and the exit code.
    fn finish(mut self) -> (String, String, Option<i32>, TempDir) {
        let mut rest = String::new();
        self.output.read_to_string(&mut rest).unwrap();
        let errors = self.errors();
        (rest, errors, self.process.0.wait().unwrap().code(), self.place)
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.process.0), signal).unwrap();
    }

    /// The folder of the directors.
    fn folder(&self) -> PathBuf {
        fs::read_dir(self.place.path()).unwrap().next().unwrap().unwrap().path()
    }

    /// The processes of the directors, by the number of the director.
    fn directors(&self) -> Vec<Pid> {
        directors(&self.folder())
    }
}

/// The processes that have the configuration of a director in a folder on their command line.
fn directors(folder: &Path) -> Vec<Pid> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let Some(process) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        let words = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let mut words = words.split(|&byte| byte == 0).filter_map(|word| std::str::from_utf8(word).ok());
        if let Some(file) = words.find(|word| Path::new(word).starts_with(folder)) {
            found.push((file.to_owned(), Pid::from_raw(process).unwrap()));
        }
    }
    found.sort_by(|(one, _), (other, _)| one.cmp(other));
    found.into_iter().map(|(_, process)| process).collect()
}

fn assert_gone(directors: &[Pid]) {
    assert_eq!(directors.len(), 3);
    for &director in directors {
        assert!(test_kill_process(director).is_err(), "{director:?} still runs");
    }
}

fn is_empty(place: &TempDir) -> bool {
    fs::read_dir(place.path()).unwrap().next().is_none()
}

#[test]
fn demo_shows_a_ring_and_leaves_nothing_behind() {
    let demo = Demo::start(&[]);
    let (output, errors, code, place) = demo.finish();
    assert_eq!((code, &*errors), (Some(0), ""), "{output}");
    // Where lines are broken depends on numbers.
    let text = output.split_whitespace().collect::<Vec<_>>().join(" ");
    for expected in [
        "The ring is synced,",
        "ok 9,000 answers, 0 disagreements",
        "all 3,000 3,000 3,000",
        "lookups/s",
        "ok 0 of 3,000 known users moved",
        "192.0.2.13 20 ",
        "are a synced ring of two",
        "ok all 4,000 users log in at 1 and 3, 8,000 lookups: 0 on another backend than before",
        "ok director 2 has 4,200 of 4,200 users again",
        "ok 12,600 answers, 0 disagreements",
        "all 4,200 4,200 4,200",
        " lookups, 0 disagreements: every user was on one backend",
        "README.md",
        "director --check",
    ] {
        assert!(text.contains(expected), "no '{expected}' in:\n{output}");
    }
    for line in output.lines() {
        assert!(line.chars().count() <= 80 || line.starts_with("  /"), "a long line that is no path: {line}");
    }
    assert!(!output.contains('\x1b'), "colours are for terminals:\n{output}");
    assert!(!output.contains("FAILED"), "{output}");
    assert!(is_empty(&place), "the folder goes");
}

#[test]
fn demo_that_is_kept_serves_until_it_is_ended() {
    let mut demo = Demo::start(&["--keep"]);
    let shown = demo.read_to("ends the directors");
    let folder = demo.folder();
    assert_eq!(fs::metadata(&folder).unwrap().permissions().mode() & 0o777, 0o700);
    for number in 1..=3 {
        for name in ["director-authreply", "director-admin"] {
            let path = folder.join(format!("{number}/{name}"));
            assert!(shown.contains(path.to_str().unwrap()), "{shown}");
            UnixStream::connect(path).unwrap();
        }
        let fifo = folder.join(format!("{number}/login/proxy-notify"));
        assert!(shown.contains(fifo.to_str().unwrap()), "{shown}");
        assert!(fs::metadata(fifo).unwrap().file_type().is_fifo());
    }
    let directors = demo.directors();
    for director in &directors {
        assert!(shown.contains(&format!(": process {},", director.as_raw_nonzero())), "{shown}");
    }
    demo.signal(Signal::TERM);
    let (_, errors, code, _place) = demo.finish();
    assert_eq!((code, &*errors), (Some(0), ""));
    assert_gone(&directors);
    assert!(folder.join("1/log").exists(), "the folder stays");
    assert!(!folder.join("1/director-admin").exists(), "the directors had time to say goodbye");
}

#[test]
fn demo_that_is_interrupted_cleans_up() {
    let mut demo = Demo::start(&[]);
    demo.read_to("The ring is synced");
    let directors = demo.directors();
    demo.signal(Signal::INT);
    let (_, errors, code, place) = demo.finish();
    assert_eq!(code, Some(1), "it has not been shown to the end");
    assert!(errors.contains("interrupted"), "{errors}");
    assert_gone(&directors);
    assert!(is_empty(&place), "the folder goes");
}

#[test]
fn demo_whose_reader_goes_ends() {
    let mut demo = Demo::start(&[]);
    demo.read_to("The ring is synced");
    let Demo { mut process, output, place } = demo;
    drop(output);
    assert_eq!(process.0.wait().unwrap().code(), Some(1));
    assert!(is_empty(&place), "the folder goes");
}

#[test]
fn demo_in_which_a_director_dies_by_itself_says_so_and_keeps_the_logs() {
    let mut demo = Demo::start(&[]);
    demo.read_to("The ring is synced");
    let directors = demo.directors();
    let folder = demo.folder();
    kill_process(directors[2], Signal::KILL).unwrap();
    let (_, errors, code, _place) = demo.finish();
    assert_eq!(code, Some(1));
    assert!(errors.contains("director 3 has ended (signal: 9 (SIGKILL))"), "{errors}");
    let log = folder.join("3/log");
    assert!(errors.contains(log.to_str().unwrap()), "{errors}");
    assert!(log.exists());
    assert_gone(&directors);
}
