//! Rings of fixed seeds, with and without faults.

use director_sim::report::replay_command;
use director_sim::{Fault, Faults, Fixed, Keep, Plan, run};

/// How much of a broken run's timeline to show.
const TIMELINE_LINES: usize = 400;

fn fixed(directors: usize, faults: &[Fault]) -> Fixed {
    Fixed { directors: Some(directors), minutes: Some(1), faults: Some(Faults::new(faults)), ..Fixed::default() }
}

/// Runs seeds; if anything does not hold, shows what led to it and how to see all of it.
fn check(seeds: std::ops::RangeInclusive<u64>, directors: usize, faults: &[Fault]) {
    let fixed = fixed(directors, faults);
    for seed in seeds {
        let outcome = run(&Plan::draw(seed, &fixed), Keep::Last(TIMELINE_LINES));
        assert!(
            outcome.is_clean(),
            "{}\n\n{}\n\nall of it: {}\n",
            outcome.timeline.join("\n"),
            outcome.violations.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"),
            replay_command(seed, &fixed).replacen("director-sim", "cargo run --release -p director-sim --", 1),
        );
        assert!(outcome.statistics.lookups > 0, "a run without lookups shows nothing");
        let strikes = !outcome.faults.striking().is_empty();
        assert_eq!(outcome.strikes() > 0, strikes, "faults strike if there are any to strike");
    }
}

#[test]
fn a_lone_director_serves() {
    check(1..=2, 1, &[]);
}

#[test]
fn two_directors_are_one_ring() {
    check(1..=3, 2, &[]);
}

#[test]
fn three_directors_are_one_ring() {
    check(1..=3, 3, &[]);
}

#[test]
fn five_directors_are_one_ring() {
    check(1..=3, 5, &[]);
}

#[test]
fn rings_survive_slow_networks_and_wrong_clocks() {
    check(1..=2, 3, &[Fault::Delays]);
    check(1..=2, 3, &[Fault::Clocks]);
}

#[test]
fn rings_survive_broken_connections() {
    check(1..=2, 2, &[Fault::Resets]);
    check(1..=2, 3, &[Fault::Resets]);
    check(1..=2, 5, &[Fault::Resets]);
}

#[test]
fn rings_survive_crashes() {
    check(1..=2, 2, &[Fault::Crashes]);
    check(1..=2, 3, &[Fault::Crashes, Fault::Blackouts]);
    check(1..=2, 5, &[Fault::Crashes]);
}

#[test]
fn rings_survive_partitions() {
    check(1..=2, 2, &[Fault::Partitions]);
    check(1..=2, 3, &[Fault::Partitions]);
    check(1..=2, 5, &[Fault::Partitions]);
}

#[test]
fn rings_survive_processes_that_stand_still() {
    check(1..=2, 3, &[Fault::Pauses]);
}

#[test]
fn rings_survive_everything_at_once() {
    check(1..=2, 2, &Fault::ALL);
    check(1..=2, 3, &Fault::ALL);
    check(1..=2, 5, &Fault::ALL);
}

#[test]
fn the_same_seed_is_the_same_run() {
    let fixed = fixed(3, &Fault::ALL);
    let statistics = |seed| run(&Plan::draw(seed, &fixed), Keep::Nothing).statistics;
    let once = statistics(11);
    assert_eq!(once, statistics(11));
    assert_ne!(once.digest, statistics(12).digest);
}

/// (What clocks that were set back have broken is in the core's own tests of clocks.)
#[test]
fn rings_survive_clocks_that_are_set() {
    check(1..=3, 5, &[Fault::Steps]);
    check(1..=2, 3, &[Fault::Steps, Fault::Crashes]);
}

#[test]
fn rings_survive_flapping_links() {
    check(1..=2, 3, &[Fault::Flapping]);
    check(1..=2, 5, &[Fault::Flapping]);
}

#[test]
fn rings_survive_seconds_of_latency_and_slow_readers() {
    check(1..=2, 5, &[Fault::Latency, Fault::Slowness]);
}

#[test]
fn rings_live_with_older_members() {
    check(1..=4, 3, &[Fault::Minors]);
    check(1..=2, 5, &[Fault::Minors, Fault::Resets]);
}

#[test]
fn rings_keep_their_backends_when_members_come_back_with_old_configurations() {
    check(1..=2, 5, &[Fault::Configurations, Fault::Crashes]);
}
