//! A change of one of very many backends: how long until the ring has it.

use std::time::{Duration, Instant};

use super::figures::rounds;
use super::table::{Measure, Table, Unit};
use super::{KINDS, NEEDS};
use crate::director::Kind;
use crate::lab::Lab;
use crate::ring::Ring;

/// What is changed.
#[derive(Clone, Debug)]
pub struct Load {
    /// How many backends there are, of the default weight: a multiple of 250.
    pub backends: u32,
    /// How large the rings are.
    pub members: Vec<u8>,
    /// How many changes are made in each ring, one after the other.
    pub changes: u32,
    /// How often it is done.
    pub rounds: u32,
}

/// Changes the weight of a backend in rings of one kind.
///
/// # Panics
/// If anything is not as it has to be for the figures to mean something.
pub fn run(load: &Load) -> Table {
    let rounds = rounds(KINDS, load.rounds, |kind| {
        load.members.iter().flat_map(|members| measure(kind, *members, load)).collect()
    });
    let mut table = Table::of(&["original", "ours"]);
    table.measures(&rounds);
    table.note(format!(
        "Backend changes: median of {} rounds (least-most), each the median of {} changes of one weight, with {} backends of \
         weight 100; until the administrator has his OK, which comes when the ring has it, and until a new user has been \
         looked up after it, for which the circle of backends must be right.",
        load.rounds, load.changes, load.backends,
    ));
    table
}

fn measure(kind: Kind, members: u8, load: &Load) -> Vec<Measure> {
    let lab = Lab::new(&format!("backends, ring of {members}, {kind:?}"), &NEEDS).expect("needs were met a moment ago");
    let mut plan = Ring::plan(&lab, members);
    plan.user_expire_secs = 3600;
    plan.mail_servers =
        (0..load.backends / 250).map(|block| format!("10.2.{block}.1-10.2.{block}.250 ")).collect::<String>();
    let ring = Ring::start(&lab, &vec![kind; members.into()], &plan);
    let hosts = ring.wait_same_hosts_but_times();
    assert_eq!(hosts.len(), load.backends as usize, "all backends are there");
    let (mut ok, mut looked_up) = (Vec::new(), Vec::new());
    // The circle is there before it is changed.
    ring.lookup(0, "first", "");
    for change in 0..load.changes {
        let host = &hosts[change as usize * 7 % hosts.len()];
        let weight = 50 + change;
        let start = Instant::now();
        let answer = ring.member(0).admin().command(&format!("HOST-UPDATE\t{}\t{weight}", host.ip)).expect("an answer");
        assert_eq!(answer, "OK");
        ok.push(start.elapsed());
        ring.lookup(0, &format!("user{change}"), "");
        looked_up.push(start.elapsed());
    }
    ring.wait_same_hosts_but_times();
    let name = format!("one of {} backends changed, ring of {members}", load.backends);
    lab.say(&format!("{name}: {:.4} s", median(&mut ok).as_secs_f64()));
    vec![
        Measure::new(format!("{name}: OK"), Unit::Milliseconds, median(&mut ok).as_secs_f64() * 1e3),
        Measure::new(format!("{name}: and a new user"), Unit::Milliseconds, median(&mut looked_up).as_secs_f64() * 1e3),
    ]
}

fn median(times: &mut [Duration]) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}
