//! What two directors said, side by side, and the differences that are allowed.
//!
//! 1. *Times.* A Unix time may differ by [`TIME_DIFFERENCE_MAX_SECS`]: the recordings show no clock, only what was said of it.
//! 2. *Counters.* The numbers of a director's own commands and of its own SYNCs are its own affair; what must be the
//!    same is the order of the commands. (Numbers of others that are passed on are compared.)
//! 3. *Order between connections.* What is said on one connection is compared with what was said on that one.
//! 4. *PING and PONG.* When a director wants to know whether its neighbours live is its own affair, and so are the
//!    numbers of bytes in them. Each PING that was read has to be answered: their numbers are compared.
//! 5. *How often the same SYNC is said.* What was read in one piece is not known. Who reads two changes at once says
//!    one SYNC, who reads them one after the other says two; and while the ring is not synced either may say its SYNC
//!    again. Compared is, for each connection, which SYNCs went out at all: originator, number, hosts-hash.
//! 6. *The last words.* QUIT was not recorded where it was said, because the connection was closed at once.
//! 7. *The order of users in a handshake.* It is by age, and users of one second have none.
//! 8. *The backends of a living ring.* Whoever joins takes them over. The original then tells all of them to the others as
//!    changes of its own, and has lost when they last went up or down; ours tells those that it did not know already.
//! 9. *USER said twice.* A user who is looked up again within a second is nothing new to anybody. The original tells of
//!    him each time, ours once.
//! 10. *A handshake's news.* What somebody learns of users in a handshake the original keeps to itself, and ours tells the
//!     others as USER.

use std::collections::{BTreeMap, BTreeSet};

use crate::player::Conduct;
use crate::recording::{Entry, Peer, What};

const TIME_DIFFERENCE_MAX_SECS: u64 = 2;

/// The Unix time in a line that tells what time it was when it was written, if it is of that kind.
pub(crate) fn time_of(line: &str) -> Option<u64> {
    let words: Vec<&str> = line.split('\t').collect();
    let at = match words[0] {
        "PING" | "PONG" => 1,
        "USER" | "ME" => 3,
        "SYNC" => 5,
        _ => return None,
    };
    words.get(at)?.parse().ok()
}

/// What was said on one connection, ready to be compared.
#[derive(Debug, Default, PartialEq, Eq)]
struct Said {
    /// The lines whose order counts, without their times.
    lines: Vec<String>,
    times: Vec<Option<u64>>,
    users: BTreeSet<String>,
    syncs: BTreeSet<String>,
    /// Backends told as changes of its own by one that has just joined.
    taken_over: BTreeSet<String>,
    pongs: usize,
}

fn prepare(director: u8, joins: bool, lines: &[String]) -> Said {
    let own = format!("127.0.1.{director}");
    let mut said = Said::default();
    let mut told = BTreeSet::new();
    for line in lines {
        if line.starts_with("USER\t") && !told.insert(line) {
            continue;
        }
        let mut words: Vec<&str> = line.split('\t').collect();
        let numbered =
            words.len() > 3 && words[1] == own && words[2] == "9090" && !matches!(words[0], "ME" | "DIRECTOR");
        if numbered {
            words[3] = "own";
        }
        match words[0] {
            "PING" | "QUIT" => {}
            "PONG" => said.pongs += 1,
            "SYNC" => {
                // Not the time, which says nothing that the number does not.
                words.remove(5);
                said.syncs.insert(words.join("\t"));
            }
            "HOST" if joins && numbered => {
                said.taken_over.insert(words[4..=6].join("\t"));
            }
            "U" => {
                said.users.insert(words.join("\t"));
            }
            _ => {
                let time = time_of(line);
                if time.is_some() {
                    words[3] = "time";
                }
                said.lines.push(words.join("\t"));
                said.times.push(time);
            }
        }
    }
    said
}

/// What is different between a recorded director and a core in its place; `joins`: it started within the recording.
pub(crate) fn differences(director: u8, joins: bool, entries: &[Entry], conduct: &Conduct) -> Vec<String> {
    let mut recorded: BTreeMap<Peer, Vec<String>> = BTreeMap::new();
    let mut connected_to = Vec::new();
    let mut handed_over = BTreeSet::new();
    for entry in entries.iter().filter(|entry| entry.director == director) {
        match &entry.what {
            What::Said(peer, line) => recorded.entry(*peer).or_default().push(line.clone()),
            What::Connecting(to) => connected_to.push(*to),
            What::Heard(_, line) if line.starts_with("U\t") => {
                handed_over.extend(user_of(line));
            }
            _ => {}
        }
    }
    let mut differences = Vec::new();
    if connected_to != conduct.connected_to {
        differences.push(format!("connects to {:?} instead of {connected_to:?}", conduct.connected_to));
    }
    let peers: BTreeSet<Peer> = recorded.keys().chain(conduct.said.keys()).copied().collect();
    for peer in peers {
        let [theirs, ours] =
            [recorded.get(&peer), conduct.said.get(&peer)].map(|lines| lines.map_or(&[][..], Vec::as_slice));
        let told: BTreeSet<_> = theirs.iter().filter_map(|line| live_user_of(line)).collect();
        let is_news =
            |line: &String| live_user_of(line).is_some_and(|user| handed_over.contains(&user) && !told.contains(&user));
        let ours: Vec<String> = ours.iter().filter(|line| !is_news(line)).cloned().collect();
        let [theirs, ours] = [theirs, &ours].map(|lines| prepare(director, joins, lines));
        compare(&theirs, &ours, |what| differences.push(format!("to {peer:?}: {what}")));
    }
    differences
}

/// The hash and the backend in a line about a user.
fn user_of(line: &str) -> Option<(&str, &str)> {
    let mut words = line.split('\t').skip(1);
    words.next().zip(words.next())
}

/// The same of a live USER.
fn live_user_of(line: &str) -> Option<(&str, &str)> {
    line.strip_prefix("USER\t").and_then(|_| user_of(line))
}

fn compare(theirs: &Said, ours: &Said, mut differ: impl FnMut(String)) {
    if theirs.lines != ours.lines {
        let at = theirs.lines.iter().zip(&ours.lines).take_while(|(theirs, ours)| theirs == ours).count();
        let from =
            |lines: &[String]| lines.iter().skip(at).take(6).map(|line| format!("\n      {line}")).collect::<String>();
        differ(format!("line {}:{}\n    instead of{}", at + 1, from(&ours.lines), from(&theirs.lines)));
    } else {
        let apart = |(theirs, ours): (&Option<u64>, &Option<u64>)| {
            theirs.zip(*ours).is_some_and(|(theirs, ours)| theirs.abs_diff(ours) > TIME_DIFFERENCE_MAX_SECS)
        };
        if let Some(at) = theirs.times.iter().zip(&ours.times).position(apart) {
            differ(format!("{}: time {:?} instead of {:?}", theirs.lines[at], ours.times[at], theirs.times[at]));
        }
    }
    if theirs.users != ours.users {
        differ(format!("users {:?} instead of {:?}", ours.users, theirs.users));
    }
    if !ours.taken_over.is_subset(&theirs.taken_over) {
        differ(format!("takes over {:?}, which is not among {:?}", ours.taken_over, theirs.taken_over));
    }
    for sync in theirs.syncs.difference(&ours.syncs) {
        differ(format!("not said: {sync}"));
    }
    for sync in ours.syncs.difference(&theirs.syncs) {
        differ(format!("said in vain: {sync}"));
    }
    if theirs.pongs != ours.pongs {
        differ(format!("{} PONGs instead of {}", ours.pongs, theirs.pongs));
    }
}
