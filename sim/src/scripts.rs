//! Model flush scripts: told by a director that a user has left a backend (kick protocol, "The flush socket").

use std::collections::BTreeMap;
use std::net::IpAddr;

use director_core::FlushTarget;

use crate::network::LinkId;
use crate::plan::{Fault, Plan, SECOND};
use crate::random::Random;

/// A run of the script.
#[derive(Debug)]
struct Script {
    /// What has come in on a socket.
    input: Vec<u8>,
    /// It knows what to do.
    told: bool,
}

/// What a script was told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request {
    /// Which user.
    pub hash: u32,
    /// Where he was.
    pub old_ip: IpAddr,
    /// Where he goes.
    pub new_ip: IpAddr,
}

/// How a script ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ending {
    /// It says this, and closes.
    Says(&'static [u8]),
    /// Its connection breaks.
    Breaks,
}

impl Ending {
    /// Whether it says that it has succeeded.
    pub fn succeeds(&self) -> bool {
        *self == Self::Says(SUCCESS)
    }
}

const SUCCESS: &[u8] = b"flushing\ndone\n+\n";
const FAILURE: &[u8] = b"no such user\n-\n";
/// A script that dies without a word about it.
const SILENCE: &[u8] = b"";

/// All scripts that run.
#[derive(Debug)]
pub struct Scripts {
    running: BTreeMap<LinkId, Script>,
    faulty: bool,
    random: Random,
}

impl Scripts {
    /// None runs.
    pub fn new(plan: &Plan, random: Random) -> Self {
        Self { running: BTreeMap::new(), faulty: plan.faults.has(Fault::Scripts), random }
    }

    /// From now on nothing goes wrong, save with what is under way.
    pub fn calm_down(&mut self) {
        self.faulty = false;
    }

    /// A director wants to run one. False: it can't be run.
    pub fn accepts(&mut self) -> bool {
        !(self.faulty && self.random.percent(10))
    }

    /// A script starts: a program, which has its arguments, or one that reads a socket.
    pub fn started(&mut self, link: LinkId, program: bool) {
        self.running.insert(link, Script { input: Vec::new(), told: program });
    }

    /// Its socket brings this.
    pub fn received(&mut self, link: LinkId, bytes: &[u8]) {
        if let Some(script) = self.running.get_mut(&link) {
            script.input.extend_from_slice(bytes);
        }
    }

    /// Its input has come to its end: what it is told. `None`: it knew already, so the director waits no more.
    pub fn input_ended(&mut self, link: LinkId) -> Option<Result<Request, String>> {
        let script = self.running.get_mut(&link).filter(|script| !script.told)?;
        script.told = true;
        let text = String::from_utf8_lossy(&script.input).into_owned();
        let lines: Vec<&str> = text.split('\n').collect();
        match lines[..] {
            ["VERSION\tscript\t4\t0", "-", ref arguments @ .., "", ""] => Some(read(arguments).ok_or(text)),
            _ => Some(Err(text)),
        }
    }

    /// What a program is told by its arguments.
    ///
    /// # Errors
    /// What it was told instead.
    pub fn program_request(target: &FlushTarget) -> Result<Request, String> {
        let FlushTarget::Program { path, arguments } = target else { return Err(format!("{target:?}")) };
        let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
        match words[..] {
            [variable, ref arguments @ ..] if path == "/usr/bin/flush" => read(arguments)
                .filter(|request| request.new_ip.to_string() == variable)
                .ok_or_else(|| format!("{words:?}")),
            _ => Err(format!("{path} {words:?}")),
        }
    }

    /// When a script that starts now ends.
    pub fn end_micros(&mut self, now: u64) -> u64 {
        let usual = match self.random.below(100) {
            0..80 => self.random.between(1000, 300_000),
            _ => self.random.between(300_000, 3 * SECOND),
        };
        let slow = self.random.between(3 * SECOND, 90 * SECOND);
        now + if self.faulty && self.random.percent(20) { slow } else { usual }
    }

    /// A script ends, unless it has been ended before.
    pub fn end(&mut self, link: LinkId) -> Option<Ending> {
        self.running.remove(&link)?;
        let draw = self.random.below(100);
        Some(match draw {
            0..10 => Ending::Says(FAILURE),
            10..13 => Ending::Says(SILENCE),
            13..25 if self.faulty => Ending::Breaks,
            _ => Ending::Says(SUCCESS),
        })
    }

    /// The director waits for it no more.
    pub fn abandoned(&mut self, link: LinkId) -> bool {
        self.running.remove(&link).is_some()
    }
}

/// `FLUSH hash old-ip new-ip up|down old-vhosts`
fn read(arguments: &[&str]) -> Option<Request> {
    let &["FLUSH", hash, old_ip, new_ip, "up" | "down", vhosts] = arguments else { return None };
    vhosts.parse::<u32>().ok()?;
    Some(Request { hash: hash.parse().ok()?, old_ip: old_ip.parse().ok()?, new_ip: new_ip.parse().ok()? })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::Network;
    use crate::plan::Fixed;

    #[test]
    fn requests_are_read_as_sockets_and_programs_get_them() {
        let plan = Plan::draw(1, &Fixed::default());
        let mut network = Network::new(plan.conditions.clone(), Random::new(1));
        let (link, _) = network.open(0, (0, ()), (0, ()));
        let mut scripts = Scripts::new(&plan, Random::new(1));
        scripts.started(link, false);
        scripts.received(link, b"VERSION\tscript\t4\t0\n-\nFLUSH\n42\n10.2.0.1\n10.");
        scripts.received(link, b"2.0.2\ndown\n7\n\n");
        let request = Request { hash: 42, old_ip: "10.2.0.1".parse().unwrap(), new_ip: "10.2.0.2".parse().unwrap() };
        assert_eq!(scripts.input_ended(link), Some(Ok(request)));
        assert_eq!(scripts.input_ended(link), None);
        let program = |arguments: &[&str]| FlushTarget::Program {
            path: "/usr/bin/flush".into(),
            arguments: arguments.iter().map(|argument| (*argument).to_owned()).collect(),
        };
        let told = program(&["10.2.0.2", "FLUSH", "42", "10.2.0.1", "10.2.0.2", "up", "7"]);
        assert_eq!(Scripts::program_request(&told), Ok(request));
        let other = program(&["10.2.0.1", "FLUSH", "42", "10.2.0.1", "10.2.0.2", "up", "7"]);
        assert!(Scripts::program_request(&other).is_err());
        assert!(scripts.end(link).is_some());
        scripts.started(link, false);
        scripts.received(link, b"VERSION\tscript\t4\t0\n-\nFLUSH\n42\n");
        assert!(scripts.input_ended(link).unwrap().is_err());
        assert!(scripts.abandoned(link));
        assert_eq!(scripts.end(link), None);
    }
}
