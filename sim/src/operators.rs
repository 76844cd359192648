//! Model operators: they change backends, each command on a connection of its own, as `doveadm director` does.

use std::collections::BTreeMap;

use director_core::wire::admin::VERSION_LINE;

use crate::network::LinkId;
use crate::plan::Plan;
use crate::random::Random;
use crate::trace::Assembler;

/// A command that waits for its answer.
#[derive(Debug)]
pub struct Errand {
    /// Which director was asked.
    pub director: usize,
    /// The command line, without its LF.
    pub command: String,
    /// When it was asked, in microseconds.
    pub asked_micros: u64,
    /// How long the director's process had stood still until then: such time does not count.
    pub paused_micros: u64,
    lines: Assembler,
    greeted: bool,
}

impl Errand {
    /// Whether this command may send a user elsewhere although his time has not run out.
    pub fn forgets_users(&self) -> bool {
        self.command.starts_with("HOST-FLUSH") || self.command.starts_with("HOST-REMOVE")
    }
}

/// All operators.
#[derive(Debug)]
pub struct Operators {
    commands: Vec<String>,
    errands: BTreeMap<LinkId, Errand>,
    random: Random,
}

/// The answers that an operator may get.
const ANSWERS: &[&str] =
    &["OK", "NOTFOUND", "host is already being updated - try again later", "Ring sync timed out", "TRYAGAIN"];

impl Operators {
    /// Operators who know these backends.
    pub fn new(plan: &Plan, random: Random) -> Self {
        let mut commands = Vec::new();
        let known = plan.known_backends();
        for (n, (ip, tag)) in known.iter().enumerate() {
            // One backend of each pool is never taken away, or most of a run may be spent waiting for another.
            let first = n == 0 || known[n - 1].1 != *tag;
            let host = if tag.is_empty() { ip.to_string() } else { format!("{ip}@{tag}") };
            for vhosts in [1, 50, 100, 200] {
                commands.push(format!("HOST-SET\t{host}\t{vhosts}"));
                commands.push(format!("HOST-UPDATE\t{ip}\t{vhosts}"));
            }
            commands.push(format!("HOST-FLUSH\t{ip}"));
            for _ in 0..3 {
                commands.push(format!("HOST-UP\t{ip}"));
                if !first {
                    commands.push(format!("HOST-DOWN\t{ip}"));
                }
            }
            if !first {
                commands.push(format!("HOST-REMOVE\t{ip}"));
                commands.push(format!("HOST-UPDATE\t{ip}\t0"));
            }
        }
        Self { commands, errands: BTreeMap::new(), random }
    }

    /// Somebody has a command for that director. Returns what to say.
    pub fn ask(&mut self, director: usize, link: LinkId, now: u64, paused_micros: u64) -> Vec<u8> {
        let command = self.commands[self.random.index(self.commands.len())].clone();
        let mut line = VERSION_LINE.to_vec();
        line.extend_from_slice(command.as_bytes());
        line.push(b'\n');
        let errand =
            Errand { director, command, asked_micros: now, paused_micros, lines: Assembler::default(), greeted: false };
        self.errands.insert(link, errand);
        line
    }

    /// Bytes came from the director. Once the answer is there: the errand, and what is wrong with the answer, if
    /// anything is.
    pub fn received(&mut self, link: LinkId, bytes: &[u8]) -> Option<(Errand, Option<String>)> {
        let errand = self.errands.get_mut(&link)?;
        for line in errand.lines.feed(bytes) {
            let line = String::from_utf8_lossy(&line).into_owned();
            if !errand.greeted && line.as_bytes() == VERSION_LINE.trim_ascii_end() {
                errand.greeted = true;
                continue;
            }
            let wrong = !errand.greeted || !ANSWERS.contains(&line.as_str());
            let errand = self.errands.remove(&link)?;
            return Some((errand, wrong.then_some(line)));
        }
        None
    }

    /// The connection is gone, or nobody waits for the answer any more.
    pub fn give_up(&mut self, link: LinkId) -> Option<Errand> {
        self.errands.remove(&link)
    }

    /// Commands without an answer.
    pub fn waiting(&self) -> impl Iterator<Item = (LinkId, &Errand)> {
        self.errands.iter().map(|(link, errand)| (*link, errand))
    }

    /// Whether a command may be at work that can send a user elsewhere although his time has not run out.
    pub fn forgetting(&self) -> bool {
        self.errands.values().any(Errand::forgets_users)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::Fixed;

    #[test]
    fn no_command_takes_away_the_first_backend_of_a_pool() {
        let mut plan = Plan::draw(1, &Fixed::default());
        plan.tags = true;
        let operators = Operators::new(&plan, Random::new(1));
        let firsts = ["10.2.0.1", "10.2.1.1"];
        for command in &operators.commands {
            let words: Vec<&str> = command.split('\t').collect();
            let takes_away = ["HOST-DOWN", "HOST-REMOVE"].contains(&words[0]) || words.get(2) == Some(&"0");
            assert!(!takes_away || !firsts.contains(&words[1]), "{command}");
            director_core::wire::admin::Command::parse(command.as_bytes()).expect(command);
        }
    }
}
