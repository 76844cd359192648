//! How long it takes to move all users of a backend away from it.

use std::net::IpAddr;
use std::thread::sleep;
use std::time::{Duration, Instant};

use super::figures::{Figures, rounds};
use super::ipc::ModelLogins;
use super::population::users_of;
use super::table::Table;
use crate::director::{Director, Kind};
use crate::lab::Lab;
use crate::requirements::Need;
use crate::ring::Ring;
use crate::wait::{LIMIT, wait_for};

/// What a drain needs of the machine.
pub const NEEDS: [Need; 2] = [Need::Dovecot, Need::OurDirector];

const KINDS: [Kind; 2] = [Kind::Dovecot, Kind::Ours];

/// director_user_kick_delay, as it is when nobody sets it.
const KICK_DELAY: Duration = Duration::from_secs(2);
/// Ours takes a user whose lookup is younger than the kick delay and 1 s for one who may be logging in just now, and
/// gives his backend time to notice; both clocks count whole seconds, so one more.
const AGE: Duration = Duration::from_millis(4500);
/// How many moves at a time where nobody has a session: the default of director_max_parallel_moves. The users of a load
/// are a multiple of the moves at a time, because the original says OK when the last move has *begun*: with one user
/// fewer, its last batch would not be in the figures. (Ours says it when the last has ended.)
pub const IDLE_PARALLEL: usize = 100;

/// How much is drained. Users without sessions come in multiples of [`IDLE_PARALLEL`].
#[derive(Clone, Copy, Debug)]
pub struct Load {
    /// Users without sessions, on ours.
    pub users: usize,
    /// Users without sessions, on the original, which needs the kick delay for each hundred.
    pub original_users: usize,
    /// Users with sessions, on both; all are moved at once.
    pub with_sessions: usize,
    /// How often each is done.
    pub rounds: u32,
}

/// How long one drain took, from the first command.
#[derive(Clone, Copy, Debug)]
struct Drained {
    users: usize,
    /// Until the administrator had his OK.
    ok: Duration,
    /// Until nobody was on the backend, on any member.
    gone: Duration,
}

/// Drains a backend of a ring of three, of one kind at a time.
///
/// # Panics
/// If anything is not as it has to be for the figures to mean something.
pub fn run(load: &Load) -> Table {
    assert!(load.users.is_multiple_of(IDLE_PARALLEL) && load.original_users.is_multiple_of(IDLE_PARALLEL));
    let mut table = Table::of(&["original", "ours"]);
    if load.users > 0 && load.original_users > 0 {
        let [original, ours] = rounds(KINDS, load.rounds, |kind| {
            let users = if kind == Kind::Ours { load.users } else { load.original_users };
            drain(kind, users, false)
        });
        let name = format!("drain {} users without sessions, {IDLE_PARALLEL} at a time", load.users);
        seconds(&mut table, &name, (load.users == load.original_users).then_some(&original), &ours);
        let rate = |drains: &[Drained]| {
            let rate = |drained: &Drained| drained.users as f64 / drained.gone.as_secs_f64();
            Figures::of(drains.iter().map(rate))
        };
        let counts = if load.users == load.original_users {
            String::new()
        } else {
            format!(" (original: {} users, ours: {})", load.original_users, load.users)
        };
        let load = format!("the same as a rate{counts}, 1/s");
        table.more(&load, &[Some(&rate(&original)), Some(&rate(&ours))]);
    }
    if load.with_sessions > 0 {
        let [original, ours] = rounds(KINDS, load.rounds, |kind| drain(kind, load.with_sessions, true));
        let name = format!("drain {0} users with sessions, {0} at a time", load.with_sessions);
        seconds(&mut table, &name, Some(&original), &ours);
    }
    table.note(format!(
        "Rings of three; median of {} rounds (least-most). The kick delay is {} s. All users had been looked up {} s before: \
         ours takes those of the last {} s for users who may be logging in.",
        load.rounds,
        KICK_DELAY.as_secs(),
        AGE.as_secs_f64(),
        KICK_DELAY.as_secs() + 1,
    ));
    table
}

fn seconds(table: &mut Table, name: &str, original: Option<&Vec<Drained>>, ours: &[Drained]) {
    let ok = |drains: &[Drained]| Figures::of(drains.iter().map(|drained| drained.ok.as_secs_f64()));
    let gone = |drains: &[Drained]| Figures::of(drains.iter().map(|drained| drained.gone.as_secs_f64()));
    let original_ok = original.map(|drains| ok(drains));
    let original_gone = original.map(|drains| gone(drains));
    table.less(&format!("{name}: OK, s"), &[original_ok.as_ref(), Some(&ok(ours))]);
    table.less(&format!("{name}: gone on all three, s"), &[original_gone.as_ref(), Some(&gone(ours))]);
}

fn drain(kind: Kind, users: usize, sessions: bool) -> Drained {
    let what = if sessions { "with sessions" } else { "without sessions" };
    let lab = Lab::new(&format!("drain {what}, {kind:?}"), &NEEDS).expect("needs were met a moment ago");
    let mut plan = Ring::plan(&lab, 3);
    // Longer than the original takes for 10,000.
    plan.user_expire_secs = 3600;
    if sessions && kind == Kind::Dovecot {
        plan.settings = "service ipc {\n  unix_listener ipc {\n    mode = 0\n  }\n}".into();
    }
    let mut ring = Ring::start(&lab, &[kind; 3], &plan);
    let logins: Vec<_> = if sessions {
        ring.members().iter().map(|member| ModelLogins::listen(&member.base_dir())).collect()
    } else {
        if kind == Kind::Ours {
            ring.members_mut().iter_mut().for_each(Director::start_dovecot);
        }
        ring.members().iter().for_each(wait_for_ipc);
        Vec::new()
    };

    let backends: Vec<IpAddr> = (1..=5).map(|last| IpAddr::from([10, 1, 2, last])).collect();
    let home = backends[0];
    let names = users_of(home, &backends, users);
    let placed = ring.lookup_many(0, &names);
    assert!(placed.iter().all(|ip| *ip == home), "a user is not where his hash sends him");
    wait_for("all users on all members", LIMIT, || check_count(&ring, home, users));
    sleep(AGE);

    // The last member: what it does has to reach the one that the users came from.
    let mut admin = ring.member(2).admin();
    let limit = LIMIT * 2 + Duration::from_millis(u64::try_from(users).expect("a count") * 40);
    admin.lines().set_read_timeout(limit).expect("timeout");
    let parallel = if sessions { users } else { IDLE_PARALLEL };
    let start = Instant::now();
    assert_eq!(admin.command(&format!("HOST-UPDATE\t{home}\t0")).expect("an answer"), "OK");
    assert_eq!(admin.command(&format!("HOST-RESET-USERS\t{home}\t{parallel}")).expect("an answer"), "OK");
    let ok = start.elapsed();
    wait_for("nobody on the backend", LIMIT, || check_count(&ring, home, 0));
    let gone = start.elapsed();
    assert_eq!(ring.wait_same_users().len(), users, "all are on other backends, none is forgotten");

    for (member, logins) in ring.members().iter().zip(&logins) {
        let kicked = wait_for(&format!("all kicks on {}", member.ip()), LIMIT, || {
            let kicked = logins.kicked();
            if kicked >= users as u64 { Ok(kicked) } else { Err(kicked) }
        });
        assert_eq!(kicked, users as u64, "{} kicked each once", member.ip());
    }
    if kind == Kind::Ours {
        // It would have gone on, but as after a kick of it is not known how many.
        let failed = |member: &Director| member.log().contains("Kicking the sessions");
        assert!(!ring.members().iter().any(failed), "kicks failed");
    }
    let drained = Drained { users, ok, gone };
    lab.say(&format!("{users} users, OK after {:.3} s, gone after {:.3} s", ok.as_secs_f64(), gone.as_secs_f64()));
    drained
}

/// Whether all members count so many users on a backend.
fn check_count(ring: &Ring, home: IpAddr, count: usize) -> Result<(), String> {
    for member in ring.members() {
        let hosts = member.admin().hosts().map_err(|error| error.to_string())?;
        let users = hosts.iter().find(|host| host.ip == home).map(|host| host.users);
        if users != Some(count as u64) {
            return Err(format!("{users:?} on {}", member.ip()));
        }
    }
    Ok(())
}

fn wait_for_ipc(member: &Director) {
    let path = member.base_dir().join("ipc");
    wait_for(&format!("{}", path.display()), LIMIT, || std::os::unix::net::UnixStream::connect(&path).map(drop));
}
