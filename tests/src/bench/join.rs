//! A director joins a ring that has millions of users: what each of them costs, how long the newcomer takes, and what the
//! others notice of it.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::figures::rounds;
use super::neighbours::{Waiting, distinct};
use super::table::{Measure, Table, Unit};
use super::usage;
use super::{KINDS, NEEDS};
use crate::clients::ring::unix_now;
use crate::clients::{AuthReply, Reply};
use crate::director::{Director, Door, Kind};
use crate::lab::Lab;
use crate::ring::Ring;
use crate::wait::wait_for;

/// Longer than the original takes on a busy machine: this long…
const LIMIT: Duration = Duration::from_secs(60);
/// … and so much for each user.
const LIMIT_EACH: Duration = Duration::from_micros(25);
/// Whoever waits for users says at this interval how many there are.
const PROGRESS: Duration = Duration::from_secs(2);

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
    let distinct = distinct(load.users);
    let rounds = rounds(KINDS, load.rounds, |kind| measure(kind, load, distinct));
    let mut table = Table::of(&["original", "ours"]);
    table.measures(&rounds);
    table.note(format!(
        "Join: median of {} rounds (least-most). A director joins two that have {} users. Time: from when it greets its \
         first client to its first answer, which waits for the ring. Pauses: of lookups that ask the others for a known user, \
         one every millisecond. Waits: of lookups of users whom nobody knows, as often.",
        load.rounds, load.users,
    ));
    table
}

/// `known` is how many users they are to a director.
pub fn measure(kind: Kind, load: &Load, known: u64) -> Vec<Measure> {
    let users = load.users;
    let limit = LIMIT + LIMIT_EACH * u32::try_from(users).expect("fewer than 2^32");
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
    lab.say("filling the first member");
    let neighbours = waiting.join(ring.member(0), users, &hosts, unix_now());
    ring.lookup(0, "user0@example.org", "");
    assert_eq!(count(ring.member(0)), known, "the first member does not know all users");
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
    wait_filled(&lab, ring.member(2), known, limit);
    wait_for("a ring of two", limit, || ring.check_synced());

    let pingers = [0, 2].map(|member| Pinger::start(ring.member(member), |_| "user1@example.org".into()));
    let newcomers = [0, 2]
        .map(|member| Pinger::start(ring.member(member), move |number| format!("new{number}@{member}.example.org")));
    usage::forget_peak(pid);
    let before = usage::memory(pid).expect("a director").resident;
    let others = [0, 2].map(|member| ring.member(member).director_pid());
    let used_before = others.map(usage::process);
    lab.say("the second member joins");
    ring.member_mut(1).start();
    let (up, served) = wait_served(ring.member(1), limit);
    let joined = served - up;
    // What it has to know when it serves; the rest of what it hears comes late by nature.
    let at_joiner = count(ring.member(1));
    let newcomer = usage::process(ring.member(1).director_pid());
    let others: Vec<_> =
        others.iter().zip(used_before).map(|(&pid, before)| usage::process(pid).saturating_sub(before)).collect();
    let pauses = pingers.map(Pinger::stop);
    let waits = newcomers.map(Pinger::stop);
    let extra = usage::memory(pid).expect("a director").peak.saturating_sub(before);
    assert!(at_joiner >= known, "the newcomer serves and does not know all users: {at_joiner} of {known}");
    wait_for("one synced ring", limit, || ring.check_synced());
    lab.say(&format!("joined in {:.3} s", joined.as_secs_f64()));
    measures.push(Measure::new(format!("{name}: join"), Unit::Seconds, joined.as_secs_f64()));
    for (used, who) in [newcomer, others[0], others[1]].iter().zip(["the newcomer", "the sender", "the third member"]) {
        let name = format!("{name}: processor time of {who}");
        measures.push(Measure::new(name, Unit::Seconds, used.as_secs_f64()));
    }
    measures.push(Measure::new(format!("{name}: the sender's extra memory"), Unit::Megabytes, extra as f64 / 1e6));
    for (pause, who) in pauses.iter().zip(["the sender", "the third member"]) {
        let name = format!("{name}: longest pause of {who}");
        measures.push(Measure::new(name, Unit::Milliseconds, pause.as_secs_f64() * 1e3));
    }
    for (wait, who) in waits.iter().zip(["the sender", "the third member"]) {
        let name = format!("{name}: longest wait of new users on {who}");
        measures.push(Measure::new(name, Unit::Milliseconds, wait.as_secs_f64() * 1e3));
    }
    measures
}

/// When a director that is being started greets a client, and when it answers its first lookup.
fn wait_served(director: &Director, limit: Duration) -> (Instant, Instant) {
    let start = Instant::now();
    let door = director.door(Door::AuthReply);
    let mut client = loop {
        match AuthReply::connect(&door) {
            Ok(client) => break client,
            Err(error) => assert!(start.elapsed() < limit, "{}: {error}", door.display()),
        }
        std::thread::sleep(Duration::from_millis(1));
    };
    let up = Instant::now();
    client.lines().set_read_timeout(limit).expect("timeout");
    // A lookup fails after 30 s, and may be asked again.
    loop {
        match client.lookup("user0@example.org").expect("an answer") {
            Reply::Host(_) => return (up, Instant::now()),
            other => assert!(start.elapsed() < limit, "{other:?}"),
        }
    }
}

/// How many users a director knows.
fn count(director: &Director) -> u64 {
    director.admin().hosts().expect("hosts").iter().map(|host| host.users).sum()
}

/// Waits until a director knows so many users, and says how far it is.
fn wait_filled(lab: &Lab, director: &Director, expected: u64, limit: Duration) {
    let mut said = Instant::now();
    wait_for("all users on the third member", limit, || match count(director) {
        known if known == expected => Ok(()),
        known => {
            if said.elapsed() > PROGRESS {
                lab.say(&format!("{known} of {expected} users on the third member"));
                said = Instant::now();
            }
            Err(known)
        }
    });
}

/// Looks a user up every millisecond, and notes the longest time that this took.
#[derive(Debug)]
struct Pinger {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Duration>,
}

impl Pinger {
    /// `user` gives the name for each number of a lookup.
    fn start(director: &Director, user: impl Fn(u64) -> String + Send + 'static) -> Self {
        let mut client = director.authreply();
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            let mut longest = Duration::ZERO;
            let mut number = 0;
            while !stopped.load(Ordering::Relaxed) {
                number += 1;
                let user = user(number);
                let start = Instant::now();
                let reply = client.lookup(&user).expect("an answer");
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
