//! What a director costs the machine: memory, threads, changes of context, and time for lookups.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use rustix::fs::Advice;
use rustix::process::Pid;

use super::figures::{Figures, rounds};
use super::load::{Clients, Dialogue, Until};
use super::table::Table;
use crate::clients::Lines;
use crate::clients::login::{login_processes, raise_open_files};
use crate::director::{Door, Kind, Logins, Plan};
use crate::lab::Lab;
use crate::process::{Activity, activity, resident_bytes, run as run_program};
use crate::requirements::{Need, daemon_binary};
use crate::ring::Ring;

/// What it needs of the machine.
pub const NEEDS: [Need; 2] = [Need::Dovecot, Need::BothOurDirectors];

/// Where the original lies.
const ORIGINAL: &str = "/usr/lib/dovecot/director";
const KINDS: [Kind; 3] = [Kind::Dovecot, Kind::Smol, Kind::Std];
const FEW_CONNECTIONS: usize = 1000;
/// How long a director has been left alone when it counts as idle.
const IDLE: Duration = Duration::from_secs(3);
/// How many users are looked up in turn.
const USERS: u64 = 1000;

/// How much is measured.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    /// The most idle login connections.
    pub connections: usize,
    /// Lookups for each figure, one at a time.
    pub lookups_alone: u64,
    /// Lookups for each figure, many at a time.
    pub lookups_together: u64,
    /// How many at a time.
    pub in_flight: u64,
    /// How often each is measured.
    pub rounds: u32,
}

/// What one run of one director has cost.
#[derive(Clone, Copy, Debug)]
struct Cost {
    /// Idle, with some login connections, with all.
    resident_bytes: [u64; 3],
    threads: u64,
    /// Alone and together; without other connections, and with all of them.
    lookups: [[Lookup; 2]; 2],
}

/// What a lookup has cost.
#[derive(Clone, Copy, Debug)]
struct Lookup {
    per_second: f64,
    context_switches: f64,
    cpu_micros: f64,
}

/// Measures the original and both our daemons, in turns.
///
/// # Panics
/// If anything is not as it has to be for the figures to mean something.
pub fn run(load: &Load) -> Table {
    let connections = raise_open_files(load.connections);
    let costs = rounds(KINDS, load.rounds, |kind| measure(kind, load, connections));
    let mut table = Table::of(&["original", "director", "director-std"]);
    let each = |cost: &dyn Fn(&Cost) -> f64| costs.each_ref().map(|costs| Figures::of(costs.iter().map(cost)));
    let mib = |bytes: u64| bytes as f64 / 1024.0 / 1024.0;

    let sizes = KINDS.map(|kind| Figures::of([mib(stripped_bytes(kind))]));
    table.less("binary, stripped, MiB", &sizes.each_ref().map(Some));
    let few = FEW_CONNECTIONS.min(connections);
    let memory = |place: usize| each(&|cost| mib(cost.resident_bytes[place]));
    table.less("resident memory, idle, MiB", &memory(0).each_ref().map(Some));
    for (place, count) in [(1, few), (2, connections)] {
        table.less(&format!("resident memory, {count} login connections, MiB"), &memory(place).each_ref().map(Some));
    }
    table.less("threads", &each(&|cost| cost.threads as f64).each_ref().map(Some));
    for (others, beside) in ["", ", beside those"].into_iter().enumerate() {
        for (number, at_a_time) in [1, load.in_flight].into_iter().enumerate() {
            let name = format!("{at_a_time} at a time{beside}");
            let lookups = |cost: &Cost| cost.lookups[others][number];
            let figures = each(&|cost| lookups(cost).per_second);
            table.more(&format!("lookups, {name}, 1/s"), &figures.each_ref().map(Some));
            let figures = each(&|cost| lookups(cost).cpu_micros);
            table.less(&format!("  processor time of one, {name}, µs"), &figures.each_ref().map(Some));
            let figures = each(&|cost| lookups(cost).context_switches);
            table.less(&format!("  context switches for one, {name}"), &figures.each_ref().map(Some));
        }
    }
    table.note(format!(
        "Median of {} rounds (least-most). A director alone, beside a Dovecot with login processes and auth. Lookups of {USERS} \
         users over one authreply connection.",
        load.rounds
    ));
    if connections < load.connections {
        table.note(format!("Open files are limited: {connections} login connections instead of {}.", load.connections));
    }
    table.note("The original's binary leaves most of its code to libdovecot, which all of Dovecot's processes share.");
    table
}

fn measure(kind: Kind, load: &Load, connections: usize) -> Cost {
    forget(&program(kind));
    let lab = Lab::new(&format!("footprint of {kind:?}"), &NEEDS).expect("needs were met a moment ago");
    // The original counts login processes as its clients, of which it takes 1000 if nothing is said.
    let settings = match kind {
        Kind::Dovecot => "service director {\n  client_limit = 25000\n}\n".into(),
        _ => String::new(),
    };
    let plan = Plan { settings, logins: Some(Logins::default()), ..Ring::plan(&lab, 1) };
    let ring = Ring::start(&lab, &[kind], &plan);
    let director = ring.member(0);
    let pid = director.director_pid();
    let resident = || resident_bytes(pid).expect("memory");
    let door = director.door(Door::Login);

    // Everybody's start is over then, and what it has led to.
    std::thread::sleep(IDLE);
    let idle = resident();
    let mut held: Vec<Lines> = login_processes(&door, FEW_CONNECTIONS.min(connections));
    let few = resident();
    held.extend(login_processes(&door, connections - held.len()));
    let many = resident();
    let mut lookups =
        Clients::connect(&director.door(Door::AuthReply), Dialogue::AuthReply, 1, USERS).expect("authreply");
    let mut each = |in_flight: u64| {
        let count = if in_flight == 1 { load.lookups_alone } else { load.lookups_together };
        // Until all is in caches that will be.
        lookups.run(in_flight, Until::Answers(count / 10)).expect("lookups");
        let before = activity(pid).expect("a process");
        let took = lookups.run(in_flight, Until::Answers(count)).expect("lookups").time;
        let after = activity(pid).expect("a process");
        Lookup::of(count, took.as_secs_f64(), before, after)
    };
    let beside = [each(1), each(load.in_flight)];
    drop(held);
    wait_until_quiet(pid);
    let alone = [each(1), each(load.in_flight)];
    let threads = activity(pid).expect("a process").threads;
    let cost = Cost { resident_bytes: [idle, few, many], threads, lookups: [alone, beside] };
    lab.say(&format!("{cost:?}"));
    cost
}

impl Lookup {
    fn of(count: u64, seconds: f64, before: Activity, after: Activity) -> Self {
        let each = |before: u64, after: u64| (after - before) as f64 / count as f64;
        Self {
            per_second: count as f64 / seconds,
            context_switches: each(before.context_switches, after.context_switches),
            cpu_micros: each(before.cpu_nanos, after.cpu_nanos) / 1000.0,
        }
    }
}

/// Waits until a process has nothing to do, such as after thousands of connections have been closed.
fn wait_until_quiet(pid: Pid) {
    let mut before = activity(pid).expect("a process").cpu_nanos;
    crate::wait_for("a quiet process", crate::LIMIT, || {
        std::thread::sleep(Duration::from_millis(100));
        let now = activity(pid).expect("a process").cpu_nanos;
        let used = now - std::mem::replace(&mut before, now);
        if used < 1_000_000 { Ok(()) } else { Err(format!("{used} ns in 100 ms")) }
    });
}

fn program(kind: Kind) -> PathBuf {
    match kind {
        Kind::Dovecot => ORIGINAL.into(),
        _ => daemon_binary(kind).expect("needs were met a moment ago"),
    }
}

/// Makes the system read a program from the disk when it starts next, as after a boot. One that has just been written is in
/// the system's cache in large pieces, and newer systems map a piece whole, however little of it runs.
fn forget(program: &Path) {
    let file = File::open(program).expect("a program");
    file.sync_all().expect("writing it to the disk");
    rustix::fs::fadvise(&file, 0, None, Advice::DontNeed).expect("forgetting it");
}

/// The size of a program without symbols, as packages have it.
fn stripped_bytes(kind: Kind) -> u64 {
    let program = program(kind);
    let stripped = std::env::temp_dir().join(format!("director-stripped-{}", std::process::id()));
    let strip = |to: &Path| run_program(Command::new("strip").arg("-o").arg(to).arg(&program)).success();
    strip(&stripped);
    let size = fs::metadata(&stripped).expect("a stripped program").len();
    fs::remove_file(&stripped).expect("removing a file");
    size
}
