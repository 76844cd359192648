//! Requests on many connections, many at a time, from one thread.
//!
//! The director is to be the bottleneck, not this: requests are printed by hand, those that belong to one batch of replies
//! go out in one write, and replies are looked at and not taken apart. What it costs is measured
//! ([`Answered::processor`]).

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::event::epoll;
use rustix::fd::OwnedFd;

use super::usage;

/// The longest wait for a reply.
const PATIENCE: Duration = Duration::from_secs(60);
/// How many connections that can be read are asked for at a time.
const EVENTS_MAX: usize = 256;

/// What a request looks like. Requests are numbered, and the number tells the user.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialogue {
    /// A finished auth reply that wants a host.
    AuthReply,
    /// A login: the [stand-in auth server](super::auth_server) decides by the number who it is.
    Login,
}

/// How long a load runs.
#[derive(Clone, Copy, Debug)]
pub enum Until {
    /// Until so many requests are answered.
    Answers(u64),
    /// For about so long.
    Time(Duration),
}

/// What came of a load.
#[derive(Clone, Copy, Debug)]
pub struct Answered {
    /// How many requests were answered.
    pub count: u64,
    /// In which time.
    pub time: Duration,
    /// The processor time that making requests and reading replies took.
    pub processor: Duration,
}

impl Answered {
    /// So many a second.
    pub fn rate(&self) -> f64 {
        self.count as f64 / self.time.as_secs_f64()
    }

    /// The load generator's share of one core, in percent: near 100 it was the bottleneck.
    pub fn generator_percent(&self) -> f64 {
        usage::percent(self.processor, self.time)
    }
}

/// Connections with a steady number of requests in flight on each.
#[derive(Debug)]
pub struct Clients {
    dialogue: Dialogue,
    /// How many different users the requests are about, in turn.
    users: u64,
    connections: Vec<Connection>,
    /// Only asked where there are several connections.
    poll: OwnedFd,
    next_request: u64,
    input: Vec<u8>,
    output: Vec<u8>,
}

#[derive(Debug)]
struct Connection {
    stream: UnixStream,
    in_flight: u64,
    /// The last read has ended within a line.
    within_line: bool,
}

impl Clients {
    /// Connects and shakes hands.
    ///
    /// # Errors
    /// The system's, and those of a director that does not shake hands.
    pub fn connect(path: &Path, dialogue: Dialogue, connections: usize, users: u64) -> io::Result<Self> {
        let poll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let mut clients = Self {
            dialogue,
            users,
            connections: Vec::with_capacity(connections),
            poll,
            next_request: 1,
            input: vec![0; 256 * 1024],
            output: Vec::with_capacity(256 * 1024),
        };
        for number in 0..connections {
            let mut stream = UnixStream::connect(path)?;
            stream.set_read_timeout(Some(PATIENCE))?;
            shake_hands(&mut stream, dialogue, number)?;
            let data = epoll::EventData::new_u64(number as u64);
            epoll::add(&clients.poll, &stream, data, epoll::EventFlags::IN)?;
            clients.connections.push(Connection { stream, in_flight: 0, within_line: false });
        }
        Ok(clients)
    }

    /// The next request is about the first user again.
    pub fn rewind(&mut self) {
        self.next_request += self.users - self.next_request % self.users;
    }

    /// Keeps `in_flight` requests waiting for their replies on every connection. At the end none is left waiting.
    ///
    /// # Errors
    /// The system's, and those of a director that fails a request.
    pub fn run(&mut self, in_flight: u64, until: Until) -> io::Result<Answered> {
        let (limit, time_limit) = match until {
            Until::Answers(count) => (count, None),
            Until::Time(time) => (u64::MAX, Some(time)),
        };
        let (mut left, mut count) = (limit, 0);
        let processor = usage::own_thread();
        let start = Instant::now();
        for number in 0..self.connections.len() {
            let requests = in_flight.min(left);
            left -= requests;
            self.request(number, requests)?;
        }
        let mut events = Vec::with_capacity(EVENTS_MAX);
        let mut ended = None;
        while self.connections.iter().any(|connection| connection.in_flight > 0) {
            self.wait(&mut events)?;
            for event in events.drain(..) {
                let answers = self.read(event)?;
                if ended.is_none() {
                    count += answers;
                    let requests = answers.min(left);
                    left -= requests;
                    self.request(event, requests)?;
                }
            }
            if ended.is_none() && time_limit.is_some_and(|limit| start.elapsed() >= limit) {
                ended = Some((start.elapsed(), usage::own_thread() - processor));
            }
        }
        let (time, processor) = ended.unwrap_or_else(|| (start.elapsed(), usage::own_thread() - processor));
        Ok(Answered { count, time, processor })
    }

    /// One request at a time on the first connection; how long each took.
    ///
    /// # Errors
    /// As those of [`run`](Self::run).
    pub fn latencies(&mut self, time: Duration) -> io::Result<Vec<Duration>> {
        let mut latencies = Vec::with_capacity(1 << 20);
        let end = Instant::now() + time;
        let mut start = Instant::now();
        while start < end {
            self.request(0, 1)?;
            while self.read(0)? == 0 {}
            let now = Instant::now();
            latencies.push(now - start);
            start = now;
        }
        Ok(latencies)
    }

    /// The numbers of the connections that can be read.
    fn wait(&self, ready: &mut Vec<usize>) -> io::Result<()> {
        if self.connections.len() == 1 {
            // Reading waits as well, and costs less than asking first.
            ready.push(0);
            return Ok(());
        }
        let mut events = [const { std::mem::MaybeUninit::uninit() }; EVENTS_MAX];
        let timeout = PATIENCE.try_into().expect("a minute");
        let (events, _) = epoll::wait(&self.poll, &mut events, Some(&timeout))?;
        if events.is_empty() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        ready.extend(events.iter().map(|event| event.data.u64() as usize));
        Ok(())
    }

    fn request(&mut self, number: usize, requests: u64) -> io::Result<()> {
        if requests == 0 {
            return Ok(());
        }
        self.output.clear();
        for _ in 0..requests {
            self.dialogue.write_request(self.next_request, self.users, &mut self.output);
            self.next_request += 1;
        }
        let connection = &mut self.connections[number];
        connection.in_flight += requests;
        connection.stream.write_all(&self.output)
    }

    /// Reads once; how many replies have come to their end.
    fn read(&mut self, number: usize) -> io::Result<u64> {
        let connection = &mut self.connections[number];
        let size = connection.stream.read(&mut self.input)?;
        if size == 0 {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the director has closed a connection"));
        }
        let input = &self.input[..size];
        let mut answers = 0;
        let mut line = 0;
        let mut last = None;
        for end in memchr::memchr_iter(b'\n', input) {
            if !connection.within_line {
                check_positive(&input[line..end])?;
                last = Some(&input[line..end]);
            }
            connection.within_line = false;
            answers += 1;
            line = end + 1;
        }
        connection.within_line |= line < size;
        connection.in_flight -= answers;
        // All of them would cost more than the rest; the director has no way to know which one it is.
        if let Some(last) = last
            && memchr::memmem::find(last, b"\thost=").is_none()
        {
            return Err(io::Error::other(format!("a reply has no host: {}", last.escape_ascii())));
        }
        Ok(answers)
    }
}

/// OK is the only answer that counts.
fn check_positive(line: &[u8]) -> io::Result<()> {
    if line.starts_with(b"OK\t") {
        return Ok(());
    }
    Err(io::Error::other(format!("a request was not answered with OK: {}", line.escape_ascii())))
}

fn shake_hands(stream: &mut UnixStream, dialogue: Dialogue, number: usize) -> io::Result<()> {
    match dialogue {
        Dialogue::AuthReply => stream.write_all(b"VERSION\tdirector-authreply-client\t1\t0\n")?,
        // The process ids of login processes are their own; no two are alike.
        Dialogue::Login => stream.write_all(format!("VERSION\t1\t2\nCPID\t{}\n", 100_000 + number).as_bytes())?,
    }
    let last: &[u8] = match dialogue {
        Dialogue::AuthReply => b"VERSION\tdirector-authreply-server\t1\t0\n",
        Dialogue::Login => b"\nDONE\n",
    };
    let mut greeting = Vec::new();
    while !greeting.ends_with(last) {
        let mut bytes = [0; 1024];
        match stream.read(&mut bytes)? {
            0 => return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "no handshake")),
            count => greeting.extend_from_slice(&bytes[..count]),
        }
    }
    Ok(())
}

/// The name of a user by his number.
pub fn write_user(number: u64, out: &mut Vec<u8>) {
    out.extend_from_slice(b"user");
    write_number(number, out);
    out.extend_from_slice(b"@example.org");
}

/// Decimal.
pub fn write_number(number: u64, out: &mut Vec<u8>) {
    let mut digits = [0; 20];
    let mut start = digits.len();
    let mut rest = number;
    loop {
        start -= 1;
        digits[start] = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[start..]);
}

impl Dialogue {
    fn write_request(self, number: u64, users: u64, out: &mut Vec<u8>) {
        match self {
            Self::AuthReply => {
                out.extend_from_slice(b"OK\t");
                write_number(number, out);
                out.extend_from_slice(b"\tuser=");
                write_user(number % users, out);
                out.extend_from_slice(b"\tproxy\n");
            }
            Self::Login => {
                out.extend_from_slice(b"AUTH\t");
                write_number(number, out);
                // As an imap-login of 2.3 sends it.
                out.extend_from_slice(
                    b"\tPLAIN\tservice=imap\tsession=qGFhY2XKNNh/AAAB\tlip=127.0.1.1\trip=127.0.0.1\tlport=10143\t\
                      rport=58020\tresp=AGZvb0BleGFtcGxlLmNvbQBwdw==\n",
                );
            }
        }
    }
}

/// The value below which this share of the latencies lies.
///
/// # Panics
/// If there are none.
pub fn percentile(latencies: &mut [Duration], share: f64) -> Duration {
    latencies.sort_unstable();
    latencies[((latencies.len() - 1) as f64 * share) as usize]
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{BufRead, BufReader};
    use std::os::unix::net::UnixListener;

    /// Answers each line as the director would, in pieces that do not end where lines do.
    fn answer(stream: UnixStream) {
        let mut writer = stream.try_clone().expect("clone");
        let mut pending = Vec::new();
        for line in BufReader::new(stream).lines() {
            let line = line.expect("line");
            if line.starts_with("VERSION") {
                writer.write_all(b"VERSION\tdirector-authreply-server\t1\t0\n").expect("write");
            } else {
                pending.extend_from_slice(format!("{line}\tproxy_refresh=1\thost=10.0.0.1\n").as_bytes());
                let (now, later) = pending.split_at(pending.len() - 7);
                writer.write_all(now).expect("write");
                pending = later.to_vec();
                writer.write_all(&std::mem::take(&mut pending)).expect("write");
            }
        }
    }

    fn with_clients(connections: usize, test: impl FnOnce(&mut Clients)) {
        let folder = std::env::temp_dir().join(format!("director-load-{}-{connections}", std::process::id()));
        let _ = std::fs::remove_file(&folder);
        let listener = UnixListener::bind(&folder).expect("bind");
        std::thread::scope(|scope| {
            scope.spawn(move || {
                for _ in 0..connections {
                    let stream = listener.accept().expect("accept").0;
                    std::thread::spawn(|| answer(stream));
                }
            });
            test(&mut Clients::connect(&folder, Dialogue::AuthReply, connections, 10).expect("connect"));
        });
        std::fs::remove_file(&folder).expect("remove");
    }

    #[test]
    fn as_many_are_answered_as_were_asked_for() {
        for connections in [1, 3] {
            with_clients(connections, |clients| {
                let answered = clients.run(8, Until::Answers(1000)).expect("a run");
                assert_eq!(answered.count, 1000);
                assert!(clients.connections.iter().all(|connection| connection.in_flight == 0));
                let timed = clients.run(8, Until::Time(Duration::from_millis(20))).expect("a run");
                assert!(timed.count > 0 && timed.time >= Duration::from_millis(20));
                assert!(!clients.latencies(Duration::from_millis(5)).expect("latencies").is_empty());
            });
        }
    }

    #[test]
    fn requests_read_like_those_of_real_clients() {
        let mut out = Vec::new();
        Dialogue::AuthReply.write_request(17, 10, &mut out);
        assert_eq!(out, b"OK\t17\tuser=user7@example.org\tproxy\n");
        let mut latencies: Vec<_> = (1..=100).rev().map(Duration::from_micros).collect();
        assert_eq!(percentile(&mut latencies, 0.5), Duration::from_micros(50));
        assert_eq!(percentile(&mut latencies, 0.99), Duration::from_micros(99));
    }
}
