//! The whole relay of a login: client, director, auth server, director, client.

use std::time::Duration;

use super::auth_server::AuthServer;
use super::figures::rounds;
use super::load::{Clients, Dialogue, Until};
use super::table::{Measure, Table, Unit};
use super::usage;
use super::{KINDS, NEEDS};
use crate::clients::login::raise_open_files;
use crate::director::{Door, Kind};
use crate::lab::Lab;
use crate::ring::Ring;
use crate::wait::{LIMIT, wait_for};

/// Connections, and logins in flight on each: one login process with many clients, some, and one for every client.
const SHAPES: [(usize, u64); 3] = [(1, 256), (100, 4), (MOST_CONNECTIONS, 1)];
const MOST_CONNECTIONS: usize = 5000;

/// How much is logged in.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    /// How long each rate is measured.
    pub time: Duration,
    /// How many users log in, in turn.
    pub users: u64,
    /// How often each is done.
    pub rounds: u32,
}

/// Logs users in through one director that is alone.
///
/// # Panics
/// If anything is not as it has to be for the figures to mean something.
pub fn run(load: &Load) -> Table {
    let rounds = rounds(KINDS, load.rounds, |kind| measure(kind, load));
    let mut table = Table::of(&["original", "ours"]);
    table.measures(&rounds);
    table.note(format!(
        "Logins: median of {} rounds (least-most), over {} s each, by {} users in turn; a stand-in auth server lets \
         everybody in. It, load generator and director share the machine.",
        load.rounds,
        load.time.as_secs_f64(),
        load.users,
    ));
    table
}

fn measure(kind: Kind, load: &Load) -> Vec<Measure> {
    // By the clients, and at the auth server.
    assert!(raise_open_files(MOST_CONNECTIONS) >= MOST_CONNECTIONS, "too few files may be open");
    let lab = Lab::new(&format!("logins, {kind:?}"), &NEEDS).expect("needs were met a moment ago");
    let mut plan = Ring::plan(&lab, 1);
    plan.servers.clear();
    plan.user_expire_secs = 3600;
    // The stand-in has to have the place of Dovecot's own auth server, and each client needs two connections.
    plan.settings = "service auth {\n  unix_listener auth-login {\n    mode = 0\n  }\n}\n\
                     service director {\n  client_limit = 12000\n}"
        .into();
    let mut ring = Ring::prepare(&lab, &[kind], &plan);
    ring.member_mut(0).start();
    ring.wait_until_up();
    let director = ring.member(0);
    let server = AuthServer::listen(&director.base_dir().join("auth-login"), load.users);
    let pid = director.director_pid();
    let mut measures = Vec::new();
    for (connections, in_flight) in SHAPES {
        let name = format!("logins, {connections} × {in_flight}");
        // It may not have noticed yet that there is an auth server.
        let door = director.door(Door::Login);
        let mut clients =
            wait_for("login connections", LIMIT, || Clients::connect(&door, Dialogue::Login, connections, load.users));
        clients.run(in_flight, Until::Answers(load.users.max(connections as u64))).expect("logins");
        let before = (usage::process(pid), server.processor());
        let answered = clients.run(in_flight, Until::Time(load.time)).expect("logins");
        let used = (usage::process(pid).saturating_sub(before.0), server.processor() - before.1);
        lab.say(&format!("{name}: {:.0}/s", answered.rate()));
        measures.push(Measure::new(&name, Unit::PerSecond, answered.rate()));
        let each = usage::each_micros(used.0, answered.count);
        measures.push(Measure::new(format!("{name}: processor time each"), Unit::Microseconds, each));
        let mut share =
            |who: &str, percent| measures.push(Measure::new(format!("{name}: {who}"), Unit::Percent, percent));
        share("load generator", answered.generator_percent());
        share("auth server", usage::percent(used.1, answered.time));
    }
    measures
}
