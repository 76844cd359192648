//! The model of Dovecot's ipc service: it has login processes end sessions (kick protocol, "The ipc socket").
//!
//! A kick takes some time until the sessions have really ended, and the answer may take longer still. Commands of one
//! connection are answered in order, whichever is done first.

use std::collections::{BTreeMap, VecDeque};

use director_core::wire::ipc::Answer;

use crate::network::LinkId;
use crate::plan::{Fault, Plan, SECOND};
use crate::random::Random;
use crate::trace::Assembler;

/// A connection of a director.
#[derive(Debug)]
struct Service {
    director: usize,
    lines: Assembler,
    /// In the order in which they were asked.
    kicks: VecDeque<Kick>,
    next_number: u64,
    /// No answer comes before the one before it.
    last_answer_micros: u64,
}

/// A kick that has been asked for.
#[derive(Debug)]
struct Kick {
    number: u64,
    line: Vec<u8>,
    act_micros: u64,
    answer_micros: u64,
    fate: Fate,
}

/// How a kick ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    /// Sessions will be ended.
    Waiting,
    /// So many sessions were ended.
    Done(u32),
    /// It will fail, and end nothing.
    Failing,
    /// The connection will break instead of an answer. The sessions end all the same.
    Breaking,
}

/// What the service does at a time.
#[derive(Debug, PartialEq, Eq)]
pub enum Step {
    /// It ends sessions: tell it with [`Ipc::kicked`] how many.
    Kick {
        /// Beside which director.
        director: usize,
        /// The command, without its LF.
        line: Vec<u8>,
        /// The kick's number on its connection.
        number: u64,
    },
    /// It answers.
    Say {
        /// What.
        answer: Vec<u8>,
        /// The command that has failed, if one has, and beside which director.
        failed: Option<(usize, Vec<u8>)>,
    },
    /// It breaks the connection; what had been asked and was not done yet will not be.
    Break {
        /// Beside which director.
        director: usize,
    },
}

/// The ipc services of all machines.
#[derive(Debug)]
pub struct Ipc {
    services: BTreeMap<LinkId, Service>,
    faulty: bool,
    random: Random,
}

impl Ipc {
    /// Services without connections.
    pub fn new(plan: &Plan, random: Random) -> Self {
        Self { services: BTreeMap::new(), faulty: plan.faults.has(Fault::Kicks), random }
    }

    /// From now on nothing goes wrong, save with what is under way.
    pub fn calm_down(&mut self) {
        self.faulty = false;
    }

    /// A director connects. False: nobody listens.
    pub fn accepts(&mut self) -> bool {
        !(self.faulty && self.random.percent(10))
    }

    /// A director has connected.
    pub fn connected(&mut self, director: usize, link: LinkId) {
        let service = Service {
            director,
            lines: Assembler::default(),
            kicks: VecDeque::new(),
            next_number: 0,
            last_answer_micros: 0,
        };
        self.services.insert(link, service);
    }

    /// Bytes came from a director. Returns the commands in them, and the times at which there will be something to do.
    pub fn received(&mut self, link: LinkId, bytes: &[u8], now: u64) -> (Vec<Vec<u8>>, Vec<u64>) {
        let Some(service) = self.services.get_mut(&link) else { return (Vec::new(), Vec::new()) };
        let mut times = Vec::new();
        let mut commands = Vec::new();
        for line in service.lines.feed(bytes) {
            commands.push(line.clone());
            let mut act_micros = now + usual_micros(&mut self.random);
            let mut answer_micros = act_micros;
            let mut fate = Fate::Waiting;
            if self.faulty {
                match self.random.below(100) {
                    0..15 => act_micros = now + self.random.between(SECOND, 10 * SECOND),
                    15..22 => act_micros = now + self.random.between(10 * SECOND, 60 * SECOND),
                    22..32 => answer_micros += self.random.between(SECOND, 60 * SECOND),
                    32..42 => fate = Fate::Failing,
                    42..46 => fate = Fate::Breaking,
                    _ => {}
                }
            }
            answer_micros = answer_micros.max(act_micros).max(service.last_answer_micros);
            service.last_answer_micros = answer_micros;
            let number = service.next_number;
            service.next_number += 1;
            service.kicks.push_back(Kick { number, line, act_micros, answer_micros, fate });
            times.extend([act_micros, answer_micros]);
        }
        times.dedup();
        (commands, times)
    }

    /// The next thing that a service does now, if there is one: ask until there is none.
    pub fn step(&mut self, link: LinkId, now: u64) -> Option<Step> {
        let service = self.services.get_mut(&link)?;
        let acts = |kick: &&mut Kick| {
            kick.act_micros <= now && matches!(kick.fate, Fate::Waiting | Fate::Breaking) && !kick.line.is_empty()
        };
        if let Some(kick) = service.kicks.iter_mut().find(acts) {
            let line = std::mem::take(&mut kick.line);
            return Some(Step::Kick { director: service.director, line, number: kick.number });
        }
        let kick = service.kicks.front()?;
        if kick.answer_micros > now {
            return None;
        }
        let mut answer = Vec::new();
        match kick.fate {
            Fate::Breaking => {
                let service = self.services.remove(&link)?;
                return Some(Step::Break { director: service.director });
            }
            // No login process is there: then it gives no number.
            Fate::Done(0) if self.random.percent(20) => Answer::Done(None).write(&mut answer),
            Fate::Done(count) => Answer::Done(Some(count)).write(&mut answer),
            Fate::Waiting | Fate::Failing => Answer::Failed(b"not now").write(&mut answer),
        }
        let director = service.director;
        let kick = service.kicks.pop_front()?;
        let failed = (kick.fate == Fate::Failing).then_some((director, kick.line));
        Some(Step::Say { answer, failed })
    }

    /// A kick has ended so many sessions.
    pub fn kicked(&mut self, link: LinkId, number: u64, count: u32) {
        let kicks = self.services.get_mut(&link).map(|service| &mut service.kicks);
        if let Some(kick) = kicks.and_then(|kicks| kicks.iter_mut().find(|kick| kick.number == number))
            && kick.fate == Fate::Waiting
        {
            kick.fate = Fate::Done(count);
        }
    }
}

/// How long ending sessions takes where nothing goes wrong: mostly milliseconds, seldom seconds.
fn usual_micros(random: &mut Random) -> u64 {
    match random.below(100) {
        0..75 => random.between(200, 20_000),
        75..95 => random.between(20_000, 500_000),
        _ => random.between(500_000, 3 * SECOND),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::Network;
    use crate::plan::{Faults, Fixed};

    fn ipc(faults: &[Fault]) -> (Ipc, LinkId) {
        let fixed = Fixed { faults: Some(Faults::new(faults)), ..Fixed::default() };
        let plan = Plan::draw(1, &fixed);
        let mut network = Network::new(plan.conditions.clone(), Random::new(1));
        let (link, _) = network.open(0, (0, ()), (0, ()));
        let mut ipc = Ipc::new(&plan, Random::new(1));
        ipc.connected(0, link);
        (ipc, link)
    }

    #[test]
    fn answers_keep_the_order_of_the_commands_whichever_is_done_first() {
        let (mut ipc, link) = ipc(&[]);
        let (_, mut times) = ipc.received(link, b"a\nb\nc\nd\ne\nf\ng\nh\n", 0);
        times.sort_unstable();
        let (mut kicked, mut answers) = (Vec::new(), Vec::new());
        for now in times {
            while let Some(step) = ipc.step(link, now) {
                match step {
                    Step::Kick { director: 0, line, number } => {
                        ipc.kicked(link, number, u32::from(line[0]));
                        kicked.extend(line);
                    }
                    Step::Say { answer, .. } => answers.push(String::from_utf8(answer).unwrap()),
                    other => panic!("{other:?}"),
                }
            }
        }
        assert_eq!(answers, ["+97\n", "+98\n", "+99\n", "+100\n", "+101\n", "+102\n", "+103\n", "+104\n"]);
        assert_ne!(kicked, b"abcdefgh", "the seed has one that overtakes another");
        kicked.sort_unstable();
        assert_eq!(kicked, b"abcdefgh");
    }

    #[test]
    fn every_kick_ends_in_one_of_all_ways() {
        let (mut ipc, link) = ipc(&[Fault::Kicks]);
        let (mut done, mut failed, mut broken) = (0, 0, 0);
        for round in 0..200 {
            ipc.connected(0, link);
            let (_, times) = ipc.received(link, b"x\n", round);
            assert!(times.iter().all(|&at| at <= round + 66 * SECOND));
            for at in times {
                while let Some(step) = ipc.step(link, at) {
                    match step {
                        Step::Kick { number, .. } => ipc.kicked(link, number, 1),
                        Step::Say { answer, .. } if answer == b"+1\n" => done += 1,
                        Step::Say { answer, .. } => {
                            assert_eq!(answer, b"-not now\n");
                            failed += 1;
                        }
                        Step::Break { .. } => broken += 1,
                    }
                }
            }
        }
        assert_eq!(done + failed + broken, 200);
        assert!(failed > 5 && broken > 2 && done > 100, "{done} {failed} {broken}");
    }
}
