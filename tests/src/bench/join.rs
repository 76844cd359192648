//! A director joins a ring that has millions of users: what each of them costs, how long the newcomer takes, and what the
//! others notice of it.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::figures::rounds;
use super::neighbours::Waiting;
use super::table::{Measure, Table, Unit};
use super::usage;
use super::{KINDS, NEEDS};
use crate::clients::ring::unix_now;
use crate::clients::{AuthReply, Reply};
use crate::director::{Director, Door, Kind};
use crate::lab::Lab;
use crate::ring::Ring;
use crate::wait::wait_for;

/// Longer than the original takes for ten million on a busy machine.
const LIMIT: Duration = Duration::from_secs(300);

/// What is joined.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    /// How many users the ring has.
    pub users: u64,
    /// How often it is done.
    pub rounds: u32,
}

/// Lets a director join two that have all users.
///
/// # Panics
/// If anything is not as it has to be for the figures to mean something.
pub fn run(load: &Load) -> Table {
    let rounds = rounds(KINDS, load.rounds, |kind| measure(kind, load));
    let mut table = Table::of(&["original", "ours"]);
    table.measures(&rounds);
    table.note(format!(
        "Join: median of {} rounds (least-most). A director joins two that have {} users. Time: from when it greets its \
         first client to its first answer, which waits for the ring. Pauses: of lookups that ask the others for a known user, \
         one every millisecond.",
        load.rounds, load.users,
    ));
    table
}

fn measure(kind: Kind, load: &Load) -> Vec<Measure> {
    let users = load.users;
    let lab = Lab::new(&format!("join {users}, {kind:?}"), &NEEDS).expect("needs were met a moment ago");
    let mut plan = Ring::plan(&lab, 3);
    plan.user_expire_secs = 3600;
    // The original may take 256 MB by default.
    plan.settings = "default_vsz_limit = 8 G".into();
    let waiting = Waiting::listen(&lab);
    let mut ring = Ring::prepare(&lab, &[kind; 3], &plan);
    ring.member_mut(0).start();
    ring.member(0).wait_until_up();
    let pid = ring.member(0).director_pid();
    let idle = usage::memory(pid).expect("a director").resident;
    let hosts: Vec<IpAddr> = (1..=5).map(|last| IpAddr::from([10, 1, 2, last])).collect();
    let neighbours = waiting.join(ring.member(0), users, &hosts, unix_now());
    ring.lookup(0, "user0@example.org", "");
    let known = count(ring.member(0));
    let resident = usage::memory(pid).expect("a director").resident;
    let name = format!("{users} users");
    let mut measures = Vec::new();
    let per_user = (resident - idle) as f64 / known as f64;
    lab.say(&format!("{known} users, {per_user:.1} B each"));
    measures.push(Measure::new(format!("{name}: resident, each"), Unit::Bytes, per_user));
    neighbours.leave();

    // The third member; how it joins is not measured, since the first has just lost its neighbours.
    ring.member_mut(2).start();
    ring.member(2).wait_until_up();
    wait_for("all users on the third member", LIMIT, || check_count(ring.member(2), known));
    wait_for("a ring of two", LIMIT, || ring.check_synced());

    let pingers = [0, 2].map(|member| Pinger::start(ring.member(member)));
    usage::forget_peak(pid);
    let before = usage::memory(pid).expect("a director").resident;
    ring.member_mut(1).start();
    let (up, served) = wait_served(ring.member(1));
    let joined = served - up;
    // What it has to know when it serves; the rest of what it hears comes late by nature.
    let at_joiner = count(ring.member(1));
    let used = usage::process(ring.member(1).director_pid()).as_secs_f64();
    let pauses = pingers.map(Pinger::stop);
    let extra = usage::memory(pid).expect("a director").peak.saturating_sub(before);
    assert_eq!(at_joiner, known, "the newcomer serves and does not know all users");
    wait_for("one synced ring", LIMIT, || ring.check_synced());
    lab.say(&format!("joined in {:.3} s", joined.as_secs_f64()));
    measures.push(Measure::new(format!("{name}: join"), Unit::Seconds, joined.as_secs_f64()));
    measures.push(Measure::new(format!("{name}: processor time of the newcomer"), Unit::Seconds, used));
    measures.push(Measure::new(format!("{name}: the sender's extra memory"), Unit::Megabytes, extra as f64 / 1e6));
    for (pause, who) in pauses.iter().zip(["the sender", "the third member"]) {
        let name = format!("{name}: longest pause of {who}");
        measures.push(Measure::new(name, Unit::Milliseconds, pause.as_secs_f64() * 1e3));
    }
    measures
}

/// When a director that is being started greets a client, and when it answers its first lookup.
fn wait_served(director: &Director) -> (Instant, Instant) {
    let start = Instant::now();
    let door = director.door(Door::AuthReply);
    let mut client = loop {
        match AuthReply::connect(&door) {
            Ok(client) => break client,
            Err(error) => assert!(start.elapsed() < LIMIT, "{}: {error}", door.display()),
        }
        std::thread::sleep(Duration::from_millis(1));
    };
    let up = Instant::now();
    client.lines().set_read_timeout(LIMIT).expect("timeout");
    // A lookup fails after 30 s, and may be asked again.
    loop {
        match client.lookup("user0@example.org").expect("an answer") {
            Reply::Host(_) => return (up, Instant::now()),
            other => assert!(start.elapsed() < LIMIT, "{other:?}"),
        }
    }
}

/// How many users a director knows.
fn count(director: &Director) -> u64 {
    director.admin().hosts().expect("hosts").iter().map(|host| host.users).sum()
}

fn check_count(director: &Director, expected: u64) -> Result<(), u64> {
    match count(director) {
        known if known == expected => Ok(()),
        known => Err(known),
    }
}

/// Looks a known user up every millisecond, and notes the longest time that this took.
#[derive(Debug)]
struct Pinger {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Duration>,
}

impl Pinger {
    fn start(director: &Director) -> Self {
        let mut client = director.authreply();
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            let mut longest = Duration::ZERO;
            while !stopped.load(Ordering::Relaxed) {
                let start = Instant::now();
                let reply = client.lookup("user1@example.org").expect("an answer");
                assert!(matches!(reply, Reply::Host(_)), "{reply:?}");
                longest = longest.max(start.elapsed());
                std::thread::sleep(Duration::from_millis(1));
            }
            longest
        });
        Self { stop, thread }
    }

    fn stop(self) -> Duration {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().expect("lookups all along")
    }
}
