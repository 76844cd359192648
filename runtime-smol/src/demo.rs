//! `director demo`: what a director is good for, on one machine in 20 seconds.
//!
//! It starts three directors, processes of this very program, as a ring on loopback addresses; plays proxies and an
//! operator; and checks what it shows. Here is the story; its parts are in the modules:
//!
//! | module | what it holds |
//! |---|---|
//! | `stage` | folder, addresses and processes of the directors |
//! | `clients` | model proxies (authreply sockets) and operators (admin sockets) |
//! | `crowd` | users who log in again all the time |
//! | `screen` | what is printed |

mod clients;
mod crowd;
mod screen;
mod stage;

use std::fmt::Write as _;
use std::io::IsTerminal as _;
use std::net::IpAddr;
use std::ops::Range;
use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use self::clients::{Proxy, Stop};
use self::crowd::{Crowd, LOGINS_PER_SEC};
use self::screen::{Screen, grouped, rate, spoken};
use self::stage::{BACKENDS, DIRECTORS, Stage};

/// Users at the start, those who come after the weight was changed, and those who come while a director is dead.
const FIRST_USERS: usize = 3000;
const SECOND_USERS: usize = 1000;
const THIRD_USERS: usize = 200;

/// Which backend gets another weight (by its place in [`BACKENDS`]), and which.
const LIGHTER: usize = 2;
const WEIGHT: u32 = 100;
const LIGHTER_WEIGHT: u32 = 20;

/// Which director is killed.
const VICTIM: usize = 2;

/// How long lookups are measured.
const MEASURED: Duration = Duration::from_secs(2);

/// A ring that is not together after this time is not coming together: directors try each other again every second or
/// so, and the slowest way to find a neighbour takes half a minute.
const RING_PATIENCE: Duration = Duration::from_secs(60);

/// A director listens at once.
const START_PATIENCE: Duration = Duration::from_secs(10);

/// Users go round the ring at once.
const USERS_PATIENCE: Duration = Duration::from_secs(10);

/// Exit code when something was not as it should be.
const EXIT_FAILED: u8 = 1;

/// The result of a step.
type Act<T> = Result<T, Trouble>;

/// Why the demonstration does not go on.
#[derive(Debug, PartialEq, Eq)]
enum Trouble {
    /// A signal, or nobody looks any more.
    Interrupted,
    /// A director is not there, or no longer.
    Lost(String),
    /// All else.
    Failed(String),
}

impl Trouble {
    fn lost(message: impl Into<String>) -> Self {
        Self::Lost(message.into())
    }

    fn failed(message: impl Into<String>) -> Self {
        Self::Failed(message.into())
    }
}

/// Runs the demonstration; with `keep` the ring then stays until a signal ends it.
pub(crate) fn run(keep: bool) -> ExitCode {
    let stop = Stop::default();
    for signal in [SIGHUP, SIGINT, SIGTERM] {
        if let Err(error) = signal_hook::flag::register(signal, stop.0.clone()) {
            eprintln!("director: cannot wait for signals: {error}");
            return EXIT_FAILED.into();
        }
    }
    let mut stage = match Stage::build(&stop) {
        Ok(stage) => stage,
        Err(trouble) => return give_up(trouble, None),
    };
    let result = Show::new(&mut stage, &stop).and_then(|show| show.perform(keep));
    let result = result.map_err(|trouble| match trouble {
        // Why it is not there says more than that it is not.
        Trouble::Lost(_) => stage.await_end().err().unwrap_or(trouble),
        trouble => trouble,
    });
    match result.and_then(|()| stage.end()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(trouble) => give_up(trouble, Some(&mut stage)),
    }
}

/// Says why the demonstration ends early, and ends what is still running.
fn give_up(trouble: Trouble, stage: Option<&mut Stage>) -> ExitCode {
    match (trouble, stage) {
        (Trouble::Interrupted, stage) => {
            if let Some(stage) = stage {
                // The folder goes, so there is nowhere left to look if a director is slow: it is killed then.
                let _ = stage.end();
            }
            eprintln!("director: the demonstration was interrupted; its directors have ended");
        }
        (Trouble::Lost(message) | Trouble::Failed(message), None) => eprintln!("director: {message}"),
        (Trouble::Lost(message) | Trouble::Failed(message), Some(stage)) => {
            stage.keep_folder();
            let _ = stage.end();
            eprintln!("director: {message}");
            eprintln!("director: the demonstration failed; what happened is in the logs of its directors, which stay:");
            for director in &stage.directors {
                eprintln!("  {}", director.log_file().display());
            }
        }
    }
    EXIT_FAILED.into()
}

/// The story, and what it has counted so far.
struct Show<'a> {
    stage: &'a mut Stage,
    stop: &'a Stop,
    screen: Screen,
    /// The backend of each user who has logged in.
    known: Vec<IpAddr>,
    lookups: u64,
}

/// What every director answered to the same questions.
struct Answers {
    /// For each director that was asked, the backends in the order of the users.
    by_director: Vec<Vec<IpAddr>>,
    time: Duration,
}

impl Answers {
    fn count(&self) -> u64 {
        self.by_director.iter().map(|answers| answers.len() as u64).sum()
    }

    /// How many answers are not what was expected.
    fn disagreements(&self, expected: &[IpAddr]) -> usize {
        self.by_director.iter().map(|answers| differences(answers, expected)).sum()
    }
}

impl<'a> Show<'a> {
    fn new(stage: &'a mut Stage, stop: &'a Stop) -> Act<Self> {
        Ok(Self { stage, stop, screen: Screen::new(), known: Vec::new(), lookups: 0 })
    }

    fn perform(mut self, keep: bool) -> Act<()> {
        self.introduce()?;
        self.join_the_ring()?;
        self.spread_users()?;
        self.measure()?;
        let folders: Vec<_> = self.stage.directors.iter().map(|director| director.folder.clone()).collect();
        let crowd = Crowd::start(&folders, self.known.clone());
        self.change_a_weight(&crowd)?;
        self.kill_a_director(&crowd)?;
        self.bring_it_back(&crowd)?;
        self.conclude(crowd, keep)?;
        if keep { self.stay() } else { Ok(()) }
    }

    fn introduce(&self) -> Act<()> {
        let (version, folder) = (env!("CARGO_PKG_VERSION"), self.stage.folder().display());
        self.screen.print(&format!(
            "\
director {version}, a demonstration: three directors in a ring, five backends,
{} users who log in, and what can happen to them. It takes about 20 seconds.

Real: the directors, three processes of this program, and their configurations,
logs and sockets, which are in
  {folder}
Models: the proxies, which ask over the directors' authreply sockets where a
user belongs; and the backends, mere addresses that nobody connects to.
Ctrl-C ends it early, directors and all.
",
            grouped(FIRST_USERS as u64),
        ))?;
        self.stop.pause(Duration::from_millis(1500))
    }

    fn join_the_ring(&mut self) -> Act<()> {
        self.screen.title("1. Three directors become a ring")?;
        let addresses: Vec<_> = self.stage.directors.iter().map(|director| director.address.to_string()).collect();
        self.screen.say(&format!("Starting directors 1, 2 and 3 one after the other, at {}.", addresses.join(", ")))?;
        let mut time = Duration::ZERO;
        for number in 1..=DIRECTORS {
            self.stage.start(number)?;
            time += self.stage.await_sockets(number, START_PATIENCE)?;
        }
        time += self.stage.await_ring(RING_PATIENCE)?;
        self.screen.say(&format!(
            "The ring is synced, {} after the first start: each director is linked with its left and its right neighbour.",
            spoken(time)
        ))?;
        self.stop.pause(Duration::from_millis(1000))
    }

    fn spread_users(&mut self) -> Act<()> {
        self.screen.title(&format!("2. {} users log in, each at all three directors", grouped(FIRST_USERS as u64)))?;
        self.screen.say("All three are asked at the same time, each in another order.")?;
        let answers = self.look_up(0..FIRST_USERS)?;
        self.screen.say(&format!("{} lookups of new users in {}.", grouped(answers.count()), spoken(answers.time)))?;
        self.learn(&answers)?;
        self.await_users()?;
        self.show_users_by_director()?;
        self.stop.pause(Duration::from_millis(2500))
    }

    /// How fast that is, on this machine.
    fn measure(&mut self) -> Act<()> {
        let seconds = MEASURED.as_secs();
        self.screen.say(&format!("How fast? The same users log in again and again, for {seconds} s."))?;
        let (mut count, mut time, mut disagreements) = (0, Duration::ZERO, 0);
        while time < MEASURED {
            self.stop.check()?;
            let answers = self.look_up(0..FIRST_USERS)?;
            disagreements += answers.disagreements(&self.known);
            count += answers.count();
            time += answers.time;
        }
        let mut proxy = Proxy::connect(&self.stage.directors[0].folder, self.stop)?;
        let mut times = Vec::new();
        for user in 0..1000 {
            let start = Instant::now();
            disagreements += usize::from(proxy.look_up_one(user)? != self.known[user]);
            times.push(start.elapsed());
        }
        self.lookups += times.len() as u64;
        times.sort_unstable();
        let processors = match thread::available_parallelism().map_or(1, usize::from) {
            1 => "on one processor, which they share with this program".to_owned(),
            processors => format!("on {processors} processors, which they share with this program"),
        };
        self.screen.say(&format!(
            "{} lookups/s by the three directors together, asked without waiting for answers over one connection each, and \
             telling each login to the ring; {processors}.",
            rate(count, time),
        ))?;
        let (median, count_alone) = (spoken(times[times.len() / 2]), grouped(times.len() as u64));
        self.screen.note(&format!("{median} for one lookup that is waited for (median of {count_alone})."))?;
        if cfg!(debug_assertions) {
            self.screen.note("This is a debug build: with --release it is several times as fast.")?;
        }
        self.check_agreement(count + times.len() as u64, disagreements)?;
        self.stop.pause(Duration::from_millis(2000))
    }

    fn change_a_weight(&mut self, crowd: &Crowd) -> Act<()> {
        let backend = BACKENDS[LIGHTER];
        self.screen.title(&format!("3. {backend} is to get less: weight {WEIGHT} -> {LIGHTER_WEIGHT}"))?;
        self.screen.note(&format!(
            "From here on users also log in all the time, up to {LOGINS_PER_SEC} a second, and each answer is compared \
             with the backend that the user had before."
        ))?;
        let start = Instant::now();
        self.stage.set_weight(1, backend, LIGHTER_WEIGHT)?;
        self.screen.say(&format!("Said to director 1; the whole ring has it {} later.", spoken(start.elapsed())))?;
        for number in 1..=DIRECTORS {
            let weights: Vec<_> = self.stage.backends(number)?.iter().map(|backend| backend.weight).collect();
            let expected: Vec<_> = (0..BACKENDS.len()).map(weight).collect();
            if weights != expected {
                return Err(Trouble::failed(format!("director {number} has the weights {weights:?}")));
            }
        }
        let old = self.look_up(0..self.known.len())?;
        let moved = old.disagreements(&self.known);
        self.screen.check(moved == 0, &format!("{moved} of {} known users moved", grouped(self.known.len() as u64)))?;

        let before = spread(&self.known);
        let new = self.look_up(self.known.len()..self.known.len() + SECOND_USERS)?;
        self.screen.say(&format!("{} new users log in:", grouped(SECOND_USERS as u64)))?;
        let after = spread(&new.by_director[0]);
        let total: u32 = (0..BACKENDS.len()).map(weight).sum();
        let rows = BACKENDS.iter().enumerate().map(|(index, ip)| {
            let fair = SECOND_USERS as f64 * f64::from(weight(index)) / f64::from(total);
            let (before, after) = (grouped(before[index]), grouped(after[index]));
            vec![ip.to_string(), weight(index).to_string(), before, after, format!("{fair:.0}")]
        });
        self.screen
            .table(&["backend", "weight", "users before", "new users", "by weight alone"], &rows.collect::<Vec<_>>())?;
        self.learn(&new)?;
        crowd.add(new.by_director.first().map_or(&[], Vec::as_slice));
        self.screen.note(
            "Known users stay where their sessions may be; only new ones follow the weight (hashing makes the shares \
             roughly, not exactly, equal).",
        )?;
        crowd.tally()?;
        self.stop.pause(Duration::from_millis(3500))
    }

    fn kill_a_director(&mut self, crowd: &Crowd) -> Act<()> {
        self.screen.title(&format!("4. Director {VICTIM} dies (kill -9)"))?;
        crowd.watch();
        let before = crowd.tally()?;
        self.stage.kill(VICTIM)?;
        self.screen.say("Killed, without a goodbye. Its users now come to the others.")?;
        let time = self.stage.await_ring(RING_PATIENCE)?;
        self.screen.say(&format!("Directors 1 and 3 are a synced ring of two, {} after the kill.", spoken(time)))?;

        let known = self.known.len();
        let old = self.look_up(0..known)?;
        let moved = old.disagreements(&self.known);
        let (count, users) = (grouped(old.count()), grouped(known as u64));
        self.screen.check(
            moved == 0,
            &format!("all {users} users log in at 1 and 3, {count} lookups: {moved} on another backend than before"),
        )?;
        let new = self.look_up(known..known + THIRD_USERS)?;
        self.screen.say(&format!("{THIRD_USERS} users log in for the first time."))?;
        self.learn(&new)?;
        crowd.add(new.by_director.first().map_or(&[], Vec::as_slice));
        self.stop.pause(Duration::from_millis(1500))?;
        let after = crowd.tally()?;
        let (logins, retried) = (after.lookups - before.lookups, after.retried - before.retried);
        self.screen.say(&format!(
            "Since the kill, {} of the users who come all the time have logged in; the slowest had to wait {}. Whoever \
             found director {VICTIM} dead went to another ({retried} with a question still open there).",
            grouped(logins),
            spoken(after.longest)
        ))?;
        self.stop.pause(Duration::from_millis(2000))
    }

    fn bring_it_back(&mut self, crowd: &Crowd) -> Act<()> {
        self.screen.title(&format!("5. Director {VICTIM} comes back"))?;
        crowd.watch();
        self.stage.start(VICTIM)?;
        self.screen.say("Started again. It remembers nothing: the map is in memory only.")?;
        let time = self.stage.await_ring(RING_PATIENCE)?;
        self.screen.say(&format!("The ring of three is synced, {} after the start.", spoken(time)))?;
        self.await_users()?;
        let theirs = self.stage.backends(VICTIM)?.iter().map(|backend| backend.users).sum::<u64>();
        let users = self.known.len() as u64;
        self.screen.check(
            theirs == users,
            &format!("director {VICTIM} has {} of {} users again", grouped(theirs), grouped(users)),
        )?;
        let answers = self.look_up(0..self.known.len())?;
        self.check_agreement(answers.count(), answers.disagreements(&self.known))?;
        self.show_users_by_director()?;
        self.stop.pause(Duration::from_millis(2000))?;
        let longest = crowd.tally()?.longest;
        self.screen.say(&format!("Since that start, the slowest login had to wait {}.", spoken(longest)))?;
        self.stop.pause(Duration::from_millis(1000))
    }

    fn conclude(&mut self, crowd: Crowd, keep: bool) -> Act<()> {
        let tally = crowd.end()?;
        self.stage.inspect()?;
        self.lookups += tally.lookups;
        self.screen.title("That was it")?;
        self.screen.say(&format!(
            "{} lookups, {} disagreements: every user was on one backend, also while a weight changed and a director \
             died and came back.",
            grouped(self.lookups),
            tally.disagreements
        ))?;
        let mut text = "\
How to go on:
  README.md                 how to put it beside Dovecot 2.3 or 2.4
  director --check -c FILE  reads a configuration; says what it understood, or
                            what is wrong and what to do about it
"
        .to_owned();
        if !keep {
            text.push_str("  director demo --keep      the same, and the ring stays to be tried\n");
        }
        self.screen.print(&format!("\n{text}"))
    }

    /// Leaves the ring to the spectator, until a signal.
    fn stay(&mut self) -> Act<()> {
        self.stage.keep_folder();
        let folder = self.stage.folder().display().to_string();
        let mut text = String::new();
        for director in &self.stage.directors {
            let (number, address, process) = (director.number, director.address, director.process().unwrap_or(0));
            let _ = writeln!(text, "\ndirector {number}: process {process}, ring {address}");
            for path in director.sockets().iter().chain([&director.log_file()]) {
                let _ = writeln!(text, "  {}", path.display());
            }
        }
        let admin = self.stage.directors[0].sockets()[1].display().to_string();
        self.screen.title("The ring stays (--keep)")?;
        self.screen.print(&format!(
            "\
{text}
Ask it, for instance with doveadm of Dovecot 2.3:
  doveadm director status -a {admin}
  doveadm director ring status -a {admin}
or without (HOST-LIST: address, weight, users, tag, up or down, since when):
  printf 'VERSION\\tdirector-doveadm\\t1\\t0\\nHOST-LIST\\n' |
    nc -NU {admin}

Ctrl-C{}ends the directors. The folder is yours then:
  rm -r {folder}
",
            if std::io::stdout().is_terminal() {
                " ".to_owned()
            } else {
                format!(" (or SIGTERM to process {}) ", std::process::id())
            },
        ))?;
        while self.stop.check().is_ok() {
            for index in 0..DIRECTORS {
                if let Some(status) = self.stage.directors[index].ended() {
                    let number = index + 1;
                    let command = self.stage.command_line(number);
                    self.screen.say(&format!("Director {number} has ended ({status}). To start it again:"))?;
                    self.screen.print(&format!("  {command}\n"))?;
                }
            }
            thread::sleep(Duration::from_millis(100));
        }
        self.screen.say("Ending the directors.")
    }

    /// Asks all running directors for the same users at once, each in another order.
    fn look_up(&mut self, users: Range<usize>) -> Act<Answers> {
        let folders = self.stage.running().into_iter().map(|number| &self.stage.directors[number - 1].folder);
        let proxies: Vec<_> = folders.map(|folder| Proxy::connect(folder, self.stop)).collect::<Act<_>>()?;
        let places = proxies.len();
        let users: Vec<_> = users.collect();
        let start = Instant::now();
        let by_director = thread::scope(|scope| {
            let users = &users;
            let asking: Vec<_> = proxies
                .into_iter()
                .enumerate()
                .map(|(place, mut proxy)| {
                    scope.spawn(move || {
                        let shift = users.len() * place / places;
                        let mut order = users.clone();
                        order.rotate_left(shift);
                        let mut backends = proxy.look_up(&order)?;
                        backends.rotate_right(shift);
                        Ok(backends)
                    })
                })
                .collect();
            let bug = |_| Err(Trouble::failed("this is a bug in the demonstration"));
            asking.into_iter().map(|thread| thread.join().unwrap_or_else(bug)).collect::<Act<Vec<_>>>()
        })?;
        let answers = Answers { by_director, time: start.elapsed() };
        self.lookups += answers.count();
        Ok(answers)
    }

    /// Checks that all directors gave new users the same backends, and remembers those.
    fn learn(&mut self, answers: &Answers) -> Act<()> {
        let first = answers.by_director.first().map_or(&[][..], Vec::as_slice);
        self.check_agreement(answers.count(), answers.disagreements(first))?;
        self.known.extend_from_slice(first);
        Ok(())
    }

    fn check_agreement(&self, count: u64, disagreements: usize) -> Act<()> {
        let text = format!("{} answers, {disagreements} disagreements", grouped(count));
        self.screen.check(disagreements == 0, &text)
    }

    /// Waits until every director knows everybody.
    fn await_users(&mut self) -> Act<()> {
        self.stage.await_users(self.known.len() as u64, USERS_PATIENCE).map(drop)
    }

    fn show_users_by_director(&mut self) -> Act<()> {
        let mut rows: Vec<Vec<String>> = BACKENDS.iter().map(|ip| vec![ip.to_string()]).collect();
        rows.push(vec!["all".to_owned()]);
        for number in 1..=DIRECTORS {
            let backends = self.stage.backends(number)?;
            if number == 1 {
                for (row, backend) in rows.iter_mut().zip(&backends) {
                    row.push(backend.weight.to_string());
                }
                rows[BACKENDS.len()].push(String::new());
            }
            let users = backends.iter().map(|backend| backend.users);
            let all = users.clone().sum();
            for (row, users) in rows.iter_mut().zip(users.chain([all])) {
                row.push(grouped(users));
            }
        }
        self.screen.table(&["backend", "weight", "users at 1", "users at 2", "users at 3"], &rows)
    }
}

/// The weight of a backend, by its place, once it was changed.
fn weight(index: usize) -> u32 {
    if index == LIGHTER { LIGHTER_WEIGHT } else { WEIGHT }
}

fn differences(one: &[IpAddr], other: &[IpAddr]) -> usize {
    one.iter().zip(other).filter(|(one, other)| one != other).count() + one.len().abs_diff(other.len())
}

/// How many users each of the backends has.
fn spread(users: &[IpAddr]) -> [u64; BACKENDS.len()] {
    BACKENDS.map(|backend| users.iter().filter(|&&ip| ip == backend).count() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use director_core::hash::UsernameHash;
    use std::collections::HashSet;

    fn ips(lasts: &[u8]) -> Vec<IpAddr> {
        lasts.iter().map(|&last| IpAddr::from([192, 0, 2, last])).collect()
    }

    #[test]
    fn users_are_counted_by_backend() {
        assert_eq!(spread(&ips(&[11, 15, 11, 12, 99])), [2, 1, 0, 0, 1]);
        assert_eq!(spread(&[]), [0; 5]);
    }

    #[test]
    fn every_other_answer_is_a_disagreement() {
        assert_eq!(differences(&ips(&[11, 12]), &ips(&[11, 12])), 0);
        assert_eq!(differences(&ips(&[11, 12]), &ips(&[12, 11])), 2);
        assert_eq!(differences(&ips(&[11]), &ips(&[11, 12])), 1, "a missing answer is one, too");
        let by_director = vec![ips(&[11, 12]), ips(&[11, 13])];
        let answers = Answers { by_director, time: Duration::ZERO };
        assert_eq!((answers.count(), answers.disagreements(&ips(&[11, 12]))), (4, 1));
    }

    /// Directors count hashes, the demonstration counts names.
    #[test]
    fn no_two_users_have_the_same_hash() {
        let template = UsernameHash::parse("%Lu").unwrap();
        let users = FIRST_USERS + SECOND_USERS + THIRD_USERS;
        let hashes: HashSet<_> = (0..users).map(|user| template.hash(clients::user_name(user).as_bytes())).collect();
        assert_eq!(hashes.len(), users);
    }
}
