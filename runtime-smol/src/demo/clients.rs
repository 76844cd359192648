//! Who talks to the directors: model proxies on authreply sockets, and an operator on admin sockets.

use std::io::{self, BufRead, BufReader, ErrorKind, Write};
use std::net::{IpAddr, SocketAddr};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use director_core::wire::admin::{self, Command};
use director_core::wire::auth::{AUTHREPLY_CLIENT_VERSION_LINE, AUTHREPLY_SERVER_VERSION_LINE};

use super::{Act, Trouble};

/// A director gives up a lookup after 30 s, and the wait of an operator's command after twice that: whoever waits a bit
/// longer hears why.
const ANSWER_PATIENCE: Duration = Duration::from_secs(65);

/// How often a waiting client looks whether it is still wanted.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);

/// Set when the demonstration is to end early: by a signal, or because a part of it has failed.
#[derive(Clone, Default)]
pub(super) struct Stop(pub(super) Arc<AtomicBool>);

impl Stop {
    pub(super) fn check(&self) -> Act<()> {
        if self.0.load(Ordering::SeqCst) { Err(Trouble::Interrupted) } else { Ok(()) }
    }

    /// Waits, unless it is time to stop.
    pub(super) fn pause(&self, time: Duration) -> Act<()> {
        let end = Instant::now() + time;
        loop {
            self.check()?;
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(());
            }
            thread::sleep(left.min(Duration::from_millis(50)));
        }
    }
}

/// A model user's name. Nobody types them, but they are in the logs.
pub(super) fn user_name(number: usize) -> String {
    format!("user{number:04}@example.com")
}

/// A connection whose lines are waited for with patience.
struct Lines {
    stream: BufReader<UnixStream>,
    line: Vec<u8>,
    stop: Stop,
}

impl Lines {
    /// Connects, and exchanges the first lines.
    fn open(path: &Path, ours: &[u8], theirs: &[u8], stop: &Stop) -> Act<Self> {
        let told = |error: io::Error| Trouble::lost(format!("cannot connect to {}: {error}", path.display()));
        let stream = UnixStream::connect(path).map_err(told)?;
        stream.set_read_timeout(Some(LOOK_INTERVAL)).map_err(told)?;
        stream.set_write_timeout(Some(ANSWER_PATIENCE)).map_err(told)?;
        let mut this = Self { stream: BufReader::new(stream), line: Vec::new(), stop: stop.clone() };
        this.send(ours)?;
        let first = this.receive()?;
        if first != theirs.trim_ascii_end() {
            let first = String::from_utf8_lossy(first).into_owned();
            return Err(Trouble::failed(format!("{} begins with '{first}'", path.display())));
        }
        Ok(this)
    }

    fn send(&mut self, bytes: &[u8]) -> Act<()> {
        send(self.stream.get_ref(), bytes)
    }

    /// The next line, without LF.
    fn receive(&mut self) -> Act<&[u8]> {
        self.line.clear();
        let deadline = Instant::now() + ANSWER_PATIENCE;
        loop {
            // After an error, `line` has what was read before it.
            match self.stream.read_until(b'\n', &mut self.line) {
                Ok(_) if self.line.ends_with(b"\n") => {
                    self.line.pop();
                    return Ok(&self.line);
                }
                Ok(_) => return Err(Trouble::lost("the director closed the connection")),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                    self.stop.check()?;
                    if Instant::now() >= deadline {
                        let waited = ANSWER_PATIENCE.as_secs();
                        return Err(Trouble::failed(format!("a director has not answered for {waited} s")));
                    }
                }
                Err(error) => return Err(Trouble::lost(format!("the connection to a director broke: {error}"))),
            }
        }
    }
}

fn send(mut stream: &UnixStream, bytes: &[u8]) -> Act<()> {
    stream.write_all(bytes).map_err(|error| Trouble::lost(format!("the connection to a director broke: {error}")))
}

/// A model proxy: it has checked its users' passwords, and asks where they belong.
pub(super) struct Proxy(Lines);

impl Proxy {
    pub(super) fn connect(director: &Path, stop: &Stop) -> Act<Self> {
        let path = director.join("director-authreply");
        Lines::open(&path, AUTHREPLY_CLIENT_VERSION_LINE, AUTHREPLY_SERVER_VERSION_LINE, stop).map(Self)
    }

    /// Asks for all users at once, without waiting for one answer before the next question; gives the backends in the
    /// order of the users.
    pub(super) fn look_up(&mut self, users: &[usize]) -> Act<Vec<IpAddr>> {
        let mut questions = Vec::new();
        for (id, &user) in users.iter().enumerate() {
            question(id, user, &mut questions);
        }
        let writer = self.0.stream.get_ref().try_clone();
        let writer = writer.map_err(|error| Trouble::failed(format!("no descriptor is left: {error}")))?;
        thread::scope(|scope| {
            // Questions and answers together are more than the sockets hold, so both ways have to go on at once.
            let written = scope.spawn(move || send(&writer, &questions));
            let answers = self.answers(users.len());
            if answers.is_err() {
                // Or the writer would wait for a director that nobody reads from.
                let _ = self.0.stream.get_ref().shutdown(std::net::Shutdown::Both);
            }
            let written = written.join().unwrap_or_else(|_| Err(Trouble::failed("this is a bug in the demonstration")));
            answers.and_then(|answers| written.map(|()| answers))
        })
    }

    /// Asks for one user.
    pub(super) fn look_up_one(&mut self, user: usize) -> Act<IpAddr> {
        let mut line = Vec::new();
        question(0, user, &mut line);
        self.0.send(&line)?;
        Ok(self.answers(1)?[0])
    }

    /// Answers may come in any order: a question that waits does not hold back the others.
    fn answers(&mut self, count: usize) -> Act<Vec<IpAddr>> {
        let mut backends = vec![None; count];
        for _ in 0..count {
            let line = self.0.receive()?;
            match answer(line) {
                Some((id, backend)) if backends.get(id) == Some(&None) => backends[id] = Some(backend),
                _ => {
                    let line = String::from_utf8_lossy(line).replace('\t', " ");
                    return Err(Trouble::failed(format!("a login got this answer instead of a backend: {line}")));
                }
            }
        }
        Ok(backends.into_iter().flatten().collect())
    }
}

/// What an auth server says of a user who is to be proxied.
fn question(id: usize, user: usize, out: &mut Vec<u8>) {
    out.extend_from_slice(format!("OK\t{id}\tuser={}\tproxy\n", user_name(user)).as_bytes());
}

/// The id and the backend in a director's answer.
fn answer(line: &[u8]) -> Option<(usize, IpAddr)> {
    let mut fields = std::str::from_utf8(line).ok()?.strip_prefix("OK\t")?.split('\t');
    let id = fields.next()?.parse().ok()?;
    let backend = fields.find_map(|field| field.strip_prefix("host="))?.parse().ok()?;
    Some((id, backend))
}

/// A model operator.
pub(super) struct Operator(Lines);

/// A backend, as a director sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Backend {
    pub(super) ip: IpAddr,
    /// Its vhost count.
    pub(super) weight: u32,
    pub(super) users: u64,
}

/// A line of `DIRECTOR-LIST`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Member {
    pub(super) address: SocketAddr,
    /// `self`, `left`, `right`, …; empty if there is no connection.
    pub(super) link: String,
    pub(super) status: String,
}

impl Operator {
    pub(super) fn connect(director: &Path, stop: &Stop) -> Act<Self> {
        let path = director.join("director-admin");
        Lines::open(&path, admin::VERSION_LINE, admin::VERSION_LINE, stop).map(Self)
    }

    pub(super) fn backends(&mut self) -> Act<Vec<Backend>> {
        self.list(&Command::HostList, |fields| {
            let [ip, weight, users, ..] = fields else { return None };
            Some(Backend { ip: ip.parse().ok()?, weight: weight.parse().ok()?, users: users.parse().ok()? })
        })
    }

    pub(super) fn members(&mut self) -> Act<Vec<Member>> {
        self.list(&Command::DirectorList, |fields| {
            let [ip, port, link, _failed, status, ..] = fields else { return None };
            let address = SocketAddr::new(ip.parse().ok()?, port.parse().ok()?);
            Some(Member { address, link: (*link).to_owned(), status: (*status).to_owned() })
        })
    }

    /// Changes a backend's weight; returns when the whole ring has it.
    pub(super) fn set_weight(&mut self, ip: IpAddr, weight: u32) -> Act<()> {
        let mut line = Vec::new();
        Command::HostUpdate { ip, vhosts: weight }.write(&mut line);
        self.0.send(&line)?;
        match self.0.receive()? {
            b"OK" => Ok(()),
            other => Err(Trouble::failed(format!("HOST-UPDATE was refused: {}", String::from_utf8_lossy(other)))),
        }
    }

    fn list<T>(&mut self, command: &Command<'_>, parse: impl Fn(&[&str]) -> Option<T>) -> Act<Vec<T>> {
        let mut line = Vec::new();
        command.write(&mut line);
        self.0.send(&line)?;
        let mut entries = Vec::new();
        loop {
            let line = String::from_utf8_lossy(self.0.receive()?);
            if line.is_empty() {
                return Ok(entries);
            }
            let fields: Vec<_> = line.split('\t').collect();
            match parse(&fields) {
                Some(entry) => entries.push(entry),
                // A connection that has not said yet who it is has other columns.
                None if matches!(command, Command::DirectorList) => {}
                None => return Err(Trouble::failed(format!("{command:?} was answered with '{line}'"))),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_has_an_id_and_a_backend() {
        let line = b"OK\t17\tuser=user0001@example.com\tproxy\tproxy_refresh=450\thost=192.0.2.11";
        assert_eq!(answer(line), Some((17, "192.0.2.11".parse().unwrap())));
        assert_eq!(answer(b"FAIL\t17\tcode=temp_fail"), None);
        assert_eq!(answer(b"OK\t17\tuser=user0001@example.com\tproxy"), None);
        let mut out = Vec::new();
        question(17, 1, &mut out);
        assert_eq!(out, b"OK\t17\tuser=user0001@example.com\tproxy\n");
    }

    #[test]
    fn a_stopped_pause_ends() {
        let stop = Stop::default();
        assert!(stop.pause(Duration::ZERO).is_ok());
        stop.0.store(true, Ordering::SeqCst);
        assert!(matches!(stop.pause(Duration::from_secs(3600)), Err(Trouble::Interrupted)));
    }
}
