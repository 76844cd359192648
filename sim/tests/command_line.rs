//! `director-sim` as its users meet it.

use std::process::{Command, Output};

fn director_sim(arguments: &str) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_director-sim"));
    command.args(arguments.split_whitespace()).output().expect("the program starts")
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).expect("UTF-8")
}

#[test]
fn a_clean_run_ends_with_0_and_a_table() {
    let output = director_sim("run --seed 3 --seeds 2 --directors 2 --users 5 --minutes 1 --faults resets --jobs 2");
    let text = stdout(&output);
    assert_eq!(output.status.code(), Some(0), "{text}");
    let cells: Vec<Vec<&str>> = text.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(cells[0], ["seeds", "2"]);
    assert_eq!(cells[1], ["broken", "0"]);
    for row in ["virtual", "events", "resets", "lookups", "USER", "longest"] {
        assert!(cells.iter().any(|cells| cells.first() == Some(&row)), "{row}: {text}");
    }
    assert!(output.stderr.is_empty(), "no progress bar without a terminal");
}

#[test]
fn digests_are_those_of_a_replay_whatever_the_number_of_jobs() {
    let ring = "--directors 3 --users 9 --minutes 1 --faults all";
    let digests = |jobs| {
        let text = stdout(&director_sim(&format!("run --seed 4 --seeds 3 --digests --jobs {jobs} {ring}")));
        text.lines().take(3).map(str::to_owned).collect::<Vec<_>>()
    };
    let once = digests(1);
    assert_eq!(once, digests(3));
    let replayed = stdout(&director_sim(&format!("replay --seed 4 {ring}")));
    let digest = once[0].strip_prefix("seed 4: ").expect(&once[0]);
    assert!(replayed.lines().any(|line| line == digest), "{digest}");
}

#[test]
fn a_replay_can_be_narrowed() {
    let replay = |narrow: &str| {
        let ring = "replay --seed 1 --directors 3 --users 3 --minutes 1 --faults none --no-operators";
        let output = director_sim(&format!("{ring} {narrow}"));
        assert_eq!(output.status.code(), Some(0));
        stdout(&output)
    };
    let all = replay("");
    assert!(all.contains("d3>d1") && all.contains("User0@example.com"));
    let early = replay("--until 3");
    assert!(early.len() < all.len() / 4 && all.contains("\n  10.") && !early.contains("\n  10."), "{early}");
    let one = replay("--director 2");
    assert!(one.contains("d1>d2") && !one.contains("d3>d1"));
    let user = replay("--user user1@example.com");
    assert!(user.contains("User1@example.com") && !user.contains("User0@example.com") && user.contains("-> USER"));
}

#[test]
fn a_wrong_command_line_ends_with_2() {
    for wrong in [
        "",
        "walk",
        "run --directors 1",
        "run --directors 41",
        "run --seeds 0",
        "run --jobs 0",
        "run --faults rain",
        "replay",
        "replay --seed 1 --strikes x",
        "shrink",
    ] {
        let output = director_sim(wrong);
        assert_eq!(output.status.code(), Some(2), "{wrong}");
        assert!(!output.stderr.is_empty(), "{wrong}");
    }
}

#[test]
fn there_is_nothing_to_shrink_where_everything_holds() {
    let output = director_sim("shrink --seed 1 --directors 2 --users 2 --minutes 1 --faults none");
    assert_eq!(output.status.code(), Some(0));
    assert!(stdout(&output).contains("everything holds"));
}
