//! How many lookups a second, alone and in a ring, and how long one takes.

use std::io::{self, Read, Write};
use std::mem::MaybeUninit;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::event::epoll;

use super::figures::rounds;
use super::load::{Answered, Clients, Dialogue, Until, percentile};
use super::one_core;
use super::table::{Measure, Table, Unit};
use super::usage;
use super::{KINDS, NEEDS};
use crate::director::{Director, Door, Kind};
use crate::lab::Lab;
use crate::ring::Ring;
use crate::wait::{LIMIT, wait_for};

/// The loads that measure a rate: connections, and requests in flight on each.
const SHAPES: [(usize, u64); 3] = [(1, 256), (1, 1), (64, 4)];

/// How much is looked up.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    /// How long each rate is measured.
    pub time: Duration,
    /// How many users the lookups are about, in turn.
    pub users: u64,
    /// How many users are looked up once, and then again; 0: leave that out.
    pub distinct: u64,
    /// How often each is done.
    pub rounds: u32,
    /// How many directors the rings have; of 1, no ring is made.
    pub ring: u8,
}

/// Looks users up on one director, alone and in a ring.
///
/// # Panics
/// If anything is not as it has to be for the figures to mean something.
pub fn run(load: &Load) -> Table {
    let rounds = rounds(KINDS, load.rounds, |kind| {
        let mut measures = measure(kind, 1, load);
        if load.ring > 1 {
            measures.extend(measure(kind, load.ring, load));
        }
        measures
    });
    let mut table = Table::of(&["original", "ours"]);
    table.measures(&rounds);
    table.note(
        "Processor time each: what the director that is asked took for one, in the kernel and outside; less noisy than a rate.",
    );
    table.note(
        "An echo: a thread that waits, reads a request, and writes it back with a host; no director can be faster with one in \
         flight. All on one core: where the system puts two processes that wait for each other decides more than what they \
         do; so it is measured both as it comes and with both on the same core.",
    );
    table.note(format!(
        "Lookups: median of {} rounds (least-most); rates over {} s each, of {} users in turn, asked for on one director. \
         Load generator and directors share the machine.",
        load.rounds,
        load.time.as_secs_f64(),
        load.users,
    ));
    table
}

fn measure(kind: Kind, members: u8, load: &Load) -> Vec<Measure> {
    let place = if members == 1 { "alone".to_owned() } else { format!("ring of {members}") };
    let lab = Lab::new(&format!("lookups {place}, {kind:?}"), &NEEDS).expect("needs were met a moment ago");
    let mut plan = Ring::plan(&lab, members);
    plan.user_expire_secs = 3600;
    if members == 1 {
        plan.servers.clear();
    }
    let kinds = vec![kind; members.into()];
    let ring = if members == 1 {
        let mut ring = Ring::prepare(&lab, &kinds, &plan);
        ring.member_mut(0).start();
        ring.wait_until_up();
        ring.lookup(0, "first", "");
        ring
    } else {
        Ring::start(&lab, &kinds, &plan)
    };
    let director = ring.member(0);
    let ends_before: Vec<usize> = ring.members().iter().map(ends_of_links).collect();
    let mut measures = Vec::new();
    for (connections, in_flight) in SHAPES {
        let mut clients = connect(director, connections, load.users);
        let name = format!("lookups, {place}, {connections} × {in_flight}");
        if (connections, in_flight) == (1, 1) {
            one_at_a_time(&mut clients, &name, load.time, &mut measures);
            if members == 1 {
                let path = lab.folder().join("echo");
                measures.push(echo(&path, &name, load.time));
                let name = format!("{name}, all on one core");
                let (threads, own) = (one_core::threads_of(director.director_pid()), one_core::own_thread());
                one_core::pinned(&[threads, own].concat(), || {
                    one_at_a_time(&mut clients, &name, load.time, &mut measures);
                    measures.push(echo(&path, &name, load.time));
                });
            }
            continue;
        }
        // All users are known afterwards: what is measured is not how they are added.
        clients.run(in_flight, Until::Answers(load.users)).expect("lookups");
        let answered = rate(director, &mut clients, &name, &mut measures, |clients| {
            clients.run(in_flight, Until::Time(load.time)).expect("lookups")
        });
        lab.say(&format!("{name}: {:.0}/s", answered.rate()));
        wait_heard(&ring, &name, &mut measures);
    }
    if load.distinct > 0 {
        let mut clients = connect(director, 1, load.distinct);
        for time in ["first time", "again"] {
            clients.rewind();
            let name = format!("lookups, {place}, {} distinct users, {time}", load.distinct);
            let answered = rate(director, &mut clients, &name, &mut measures, |clients| {
                clients.run(SHAPES[0].1, Until::Answers(load.distinct)).expect("lookups")
            });
            lab.say(&format!("{name}: {:.0}/s", answered.rate()));
            wait_heard(&ring, &name, &mut measures);
        }
    }
    // A link that did not keep up would have been cut, and the figures would be those of something else.
    if members > 1 {
        wait_for("one synced ring, still", LIMIT, || ring.check_synced());
        for (member, before) in ring.members().iter().zip(ends_before) {
            assert_eq!(ends_of_links(member), before, "a link broke: {}", member.log_tail(20));
        }
    }
    measures
}

/// How many links a director has lost: while a ring forms, some go to those who belong there.
fn ends_of_links(director: &Director) -> usize {
    director.log().matches("isconnect").count()
}

/// Waits until the others have heard of all lookups, and notes how long that took: a rate that they cannot follow is
/// borrowed.
fn wait_heard(ring: &Ring, name: &str, measures: &mut Vec<Measure>) {
    if ring.members().len() == 1 {
        return;
    }
    let start = Instant::now();
    // Links keep the order of lines.
    let last = format!("last-of-{name}");
    let ip = ring.lookup(0, &last, "");
    ring.wait_known(&last, "", ip);
    measures.push(Measure::new(format!("{name}: until all have heard"), Unit::Seconds, start.elapsed().as_secs_f64()));
}

/// Asks for one user after the other, and notes how many a second that makes and how long one takes.
fn one_at_a_time(clients: &mut Clients, name: &str, time: Duration, measures: &mut Vec<Measure>) {
    let mut latencies = clients.latencies(time).expect("lookups");
    measures.push(Measure::new(name, Unit::PerSecond, latencies.len() as f64 / time.as_secs_f64()));
    for (share, word) in [(0.5, "p50"), (0.99, "p99")] {
        let micros = percentile(&mut latencies, share).as_secs_f64() * 1e6;
        measures.push(Measure::new(format!("{name}: {word}"), Unit::Microseconds, micros));
    }
}

/// The same with a server that has nothing to decide and does with three calls of the system what every server needs for
/// one request: wait, read, write. No director can be faster.
fn echo(path: &Path, name: &str, time: Duration) -> Measure {
    let _ = std::fs::remove_file(path);
    let listener = UnixListener::bind(path).expect("a socket");
    let mut latencies = std::thread::scope(|scope| {
        // On the cores of the thread that starts it.
        scope.spawn(|| {
            let (mut stream, _) = listener.accept().expect("a client");
            serve_echo(&mut stream).expect("the client of the echo");
        });
        let mut client = Clients::connect(path, Dialogue::AuthReply, 1, 1000).expect("the echo");
        client.latencies(time.min(Duration::from_secs(1))).expect("answers")
    });
    let micros = percentile(&mut latencies, 0.5).as_secs_f64() * 1e6;
    Measure::new(format!("{name}: p50 of an echo"), Unit::Microseconds, micros)
}

/// Answers requests, one at a time, until the client leaves.
fn serve_echo(stream: &mut UnixStream) -> io::Result<()> {
    stream.write_all(b"VERSION\tdirector-authreply-server\t1\t0\n")?;
    let poll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    epoll::add(&poll, &*stream, epoll::EventData::new_u64(0), epoll::EventFlags::IN)?;
    let mut input = [0; 4096];
    let mut answer = Vec::new();
    let mut greeted = false;
    loop {
        let mut events = [const { MaybeUninit::uninit() }; 1];
        epoll::wait(&poll, &mut events, None)?;
        let size = stream.read(&mut input)?;
        if size == 0 {
            return Ok(());
        }
        let mut request = &input[..size];
        if !greeted {
            // The first request may come with it.
            let end = memchr::memchr(b'\n', request).expect("a greeting in one piece");
            (greeted, request) = (true, &request[end + 1..]);
        }
        if let Some(request) = request.strip_suffix(b"\n") {
            answer.clear();
            answer.extend_from_slice(request);
            answer.extend_from_slice(b"\tproxy_refresh=1800\thost=10.1.2.3\n");
            stream.write_all(&answer)?;
        }
    }
}

fn connect(director: &Director, connections: usize, users: u64) -> Clients {
    Clients::connect(&director.door(Door::AuthReply), Dialogue::AuthReply, connections, users).expect("connections")
}

/// Runs a load, and notes its rate, and what it took of load generator and director.
fn rate(
    director: &Director,
    clients: &mut Clients,
    name: &str,
    measures: &mut Vec<Measure>,
    load: impl FnOnce(&mut Clients) -> Answered,
) -> Answered {
    let pid = director.director_pid();
    let before = usage::process(pid);
    let answered = load(clients);
    let used = usage::process(pid).saturating_sub(before);
    measures.push(Measure::new(name, Unit::PerSecond, answered.rate()));
    let each = usage::each_micros(used, answered.count);
    measures.push(Measure::new(format!("{name}: processor time each"), Unit::Microseconds, each));
    measures.push(Measure::new(format!("{name}: load generator"), Unit::Percent, answered.generator_percent()));
    answered
}
