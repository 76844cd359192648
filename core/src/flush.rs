//! The flush script: told when a user has left a backend, before he gets in at the next (kick protocol, "The flush
//! socket").

use std::net::IpAddr;

use log::{debug, error, warn};

use crate::connections::{Connection, Kind, Phase};
use crate::contract::{Action, ConnectionId, FlushTarget, Target};
use crate::director::Director;
use crate::hash::IpText;
use crate::kick::ForKill;
use crate::time::Now;
use crate::wire::line::{Printable, escape};

/// The longest line of a script's output, in bytes.
pub(crate) const LINE_MAX_BYTES: usize = 8192;
/// Of a script's output, so many lines are kept for the log.
const OUTPUT_LINES_MAX: usize = 20;

/// A run of the flush script.
#[derive(Debug)]
pub(crate) struct Run {
    for_kill: ForKill,
    /// What it has printed.
    output: Vec<String>,
    /// The last line was `+`: success, if it stays the last.
    succeeded: bool,
    /// Its result has been told.
    done: bool,
}

/// What the script is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Request {
    pub(crate) hash: u32,
    pub(crate) old_ip: IpAddr,
    pub(crate) old_down: bool,
    pub(crate) old_vhosts: u32,
    pub(crate) new_ip: IpAddr,
    pub(crate) new_hostname: Option<Box<[u8]>>,
}

impl Request {
    /// The six arguments.
    fn arguments(&self) -> [String; 6] {
        [
            "FLUSH".into(),
            self.hash.to_string(),
            IpText(self.old_ip).to_string(),
            IpText(self.new_ip).to_string(),
            if self.old_down { "down" } else { "up" }.into(),
            self.old_vhosts.to_string(),
        ]
    }

    /// Puts the new host in the place of `%i`, `%{ip}`, `%h` and `%{host}`.
    fn expand(&self, text: &str) -> String {
        let ip = IpText(self.new_ip).to_string();
        let host = match &self.new_hostname {
            Some(name) => String::from_utf8_lossy(name).into_owned(),
            None => ip.clone(),
        };
        let mut out = String::new();
        let mut rest = text;
        while let Some(at) = rest.find('%') {
            out.push_str(&rest[..at]);
            rest = &rest[at..];
            let known = [("%i", &*ip), ("%{ip}", &*ip), ("%h", &*host), ("%{host}", &*host), ("%%", "%")];
            match known.iter().find(|(variable, _)| rest.starts_with(variable)) {
                Some((variable, value)) => {
                    out.push_str(value);
                    rest = &rest[variable.len()..];
                }
                None => {
                    out.push('%');
                    rest = &rest[1..];
                }
            }
        }
        out + rest
    }

    /// Where director_flush_socket points for this request; `None` if it points nowhere.
    fn target(&self, setting: &str) -> Option<FlushTarget> {
        let (kind, rest) = setting.split_once(':')?;
        match kind {
            "unix" => Some(FlushTarget::Unix { path: self.expand(rest) }),
            "tcp" => {
                let (host, port) =
                    self.expand(rest).rsplit_once(':').map(|(host, port)| (host.to_owned(), port.parse()))?;
                let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
                Some(FlushTarget::Tcp { host, port: port.ok()? })
            }
            "exec" => {
                let mut words = rest.split_ascii_whitespace().map(|word| self.expand(word));
                let path = words.next()?;
                Some(FlushTarget::Program { path, arguments: words.chain(self.arguments()).collect() })
            }
            _ => None,
        }
    }

    /// The script protocol's request.
    fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"VERSION\tscript\t4\t0\n-\n");
        for argument in self.arguments() {
            escape(argument.as_bytes(), out);
            out.push(b'\n');
        }
        out.push(b'\n');
    }
}

impl Director {
    /// Runs the flush script for a kill. Returns false if there is none to run.
    pub(crate) fn start_flush(&mut self, for_kill: ForKill, request: &Request) -> bool {
        if self.tuning.flush_socket.is_empty() {
            return false;
        }
        let Some(target) = request.target(&self.tuning.flush_socket) else {
            error!("director_flush_socket = {} can't be used: no such thing", self.tuning.flush_socket);
            return false;
        };
        let program = matches!(target, FlushTarget::Program { .. });
        let run = Run { for_kill, output: Vec::new(), succeeded: false, done: false };
        let id = self.connections.add(Kind::Flush(Box::new(run)), Phase::Connecting, LINE_MAX_BYTES);
        self.connections.act(Action::Connect { connection: id, target: Target::Flush(target) });
        if !program {
            let mut bytes = Vec::with_capacity(128);
            request.write(&mut bytes);
            self.connections.write(id, &bytes);
            self.connections.act(Action::Finish { connection: id });
        }
        debug!("User hash {}: running the flush script", for_kill.hash);
        true
    }

    fn run(&mut self, id: ConnectionId) -> Option<&mut Run> {
        match self.connections.get_mut(id) {
            Some(Connection { kind: Kind::Flush(run), .. }) => Some(run),
            _ => None,
        }
    }

    /// A line of a script's output.
    pub(crate) fn flush_line(&mut self, id: ConnectionId, line: &[u8]) -> bool {
        let Some(run) = self.run(id) else { return false };
        run.succeeded = line == b"+";
        if line != b"+" && line != b"-" {
            if run.output.len() == OUTPUT_LINES_MAX {
                run.output.remove(0);
            }
            run.output.push(Printable { bytes: line, max_bytes: 1000 }.to_string());
        }
        true
    }

    /// A script has ended, or could not be run.
    pub(crate) fn flush_ended(&mut self, id: ConnectionId, failure: Option<&str>, now: Now) {
        let Some(run) = self.run(id) else { return };
        if std::mem::replace(&mut run.done, true) {
            return;
        }
        let for_kill = run.for_kill;
        let succeeded = failure.is_none() && run.succeeded;
        let output = std::mem::take(&mut run.output);
        if !succeeded {
            error!(
                "The flush script failed for user hash {}: {}",
                for_kill.hash,
                failure.unwrap_or("it did not say that it had succeeded")
            );
            for line in output {
                warn!("The flush script for user hash {} printed: {line}", for_kill.hash);
            }
        }
        self.flush_finished(for_kill, succeeded, now);
    }

    /// The scripts of a kill that has ended otherwise are not waited for.
    pub(crate) fn abort_flush(&mut self, for_kill: ForKill) {
        for id in self.connections.ids() {
            if self.run(id).is_some_and(|run| run.for_kill == for_kill && !run.done) {
                if let Some(run) = self.run(id) {
                    run.done = true;
                }
                self.connections.abort(id);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request() -> Request {
        Request {
            hash: 42,
            old_ip: "192.0.2.1".parse().unwrap(),
            old_down: true,
            old_vhosts: 7,
            new_ip: "2001:db8::2".parse().unwrap(),
            new_hostname: Some(b"b2.example".to_vec().into()),
        }
    }

    #[test]
    fn settings_point_where_they_say() {
        let target = |setting| request().target(setting);
        assert_eq!(target("unix:flush-%i"), Some(FlushTarget::Unix { path: "flush-2001:db8::2".into() }));
        let tcp = |host: &str| Some(FlushTarget::Tcp { host: host.into(), port: 99 });
        assert_eq!(target("tcp:%h:99"), tcp("b2.example"));
        assert_eq!(target("tcp:[%{ip}]:99"), tcp("2001:db8::2"));
        let arguments = ["100%", "b2.example", "FLUSH", "42", "192.0.2.1", "2001:db8::2", "down", "7"];
        let arguments = arguments.map(String::from).to_vec();
        assert_eq!(
            target("exec:/bin/flush 100%% %{host}"),
            Some(FlushTarget::Program { path: "/bin/flush".into(), arguments })
        );
        for nowhere in ["", "x", "tcp:host", "tcp:host:port", "exec:", "http://x"] {
            assert_eq!(target(nowhere), None, "{nowhere}");
        }
    }

    #[test]
    fn a_request_is_what_the_script_service_reads() {
        let mut out = Vec::new();
        request().write(&mut out);
        assert_eq!(out, b"VERSION\tscript\t4\t0\n-\nFLUSH\n42\n192.0.2.1\n2001:db8::2\ndown\n7\n\n");
    }
}
