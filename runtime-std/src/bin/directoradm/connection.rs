//! A connection to a director's admin socket, or to another server of lines.

use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use director_core::doveadm::target::Target;
use director_core::doveadm::{Exit, Verdict, printable};
use director_core::wire::admin::{VERSION_LINE, is_version_line};

/// How long a director may take to say who it is (admin protocol, "The conversation").
const VERSION_PATIENCE: Duration = Duration::from_secs(5);
/// How long each address of a director may take to accept.
const CONNECT_PATIENCE: Duration = Duration::from_secs(10);
/// No line of a director is nearly as long.
const LINE_MAX_BYTES: usize = 1 << 20;

/// What to wait for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Patience {
    /// However long it takes: users are moved for hours.
    Endless,
    /// Not longer than until then.
    Until(Instant),
}

pub(crate) struct Connection {
    stream: Stream,
    /// Where it goes, for messages.
    name: String,
    buffer: Vec<u8>,
    /// Of `buffer`, what has been given out.
    start: usize,
    debug: bool,
}

enum Stream {
    Unix(UnixStream),
    Tcp(TcpStream),
}

impl Connection {
    /// Connects to a director, and makes sure that it is one. `origin` says where the target was named.
    pub(crate) fn admin(target: &Target, origin: &str, debug: bool) -> Result<Self, Verdict> {
        let mut connection = Self::open(target, debug).map_err(|error| {
            let text = format!("cannot connect to {target} ({origin}): {}: {}", reason(&error), remedy(target, &error));
            Verdict::fatal(Exit::TemporaryFailure, text)
        })?;
        connection.send(VERSION_LINE)?;
        let wrong = |said: &str| {
            let text = format!(
                "{target} not a compatible director-doveadm socket: {said} (is it the admin socket of a director, of \
                 Dovecot 2.2.16 or later? -a names another)"
            );
            Verdict::fatal(Exit::Protocol, text)
        };
        match connection.line(Patience::Until(Instant::now() + VERSION_PATIENCE))? {
            Some(line) if is_version_line(&line) => Ok(connection),
            Some(line) => Err(wrong(&format!("it says '{}'", printable(&line)))),
            None => Err(wrong(&format!("it has said nothing for {} s", VERSION_PATIENCE.as_secs()))),
        }
    }

    /// Connects to anything.
    pub(crate) fn open(target: &Target, debug: bool) -> io::Result<Self> {
        let stream = match target {
            Target::Path(path) => Stream::Unix(UnixStream::connect(path)?),
            Target::Tcp { host, port } => Stream::Tcp(connect_tcp(host, *port)?),
        };
        Ok(Self { stream, name: target.to_string(), buffer: Vec::new(), start: 0, debug })
    }

    /// Sends lines, with their LFs.
    pub(crate) fn send(&mut self, lines: &[u8]) -> Result<(), Verdict> {
        if self.debug {
            for line in lines.strip_suffix(b"\n").unwrap_or(lines).split(|&byte| byte == b'\n') {
                eprintln!("Debug: {}: > {}", self.name, printable(line));
            }
        }
        let result = match &mut self.stream {
            Stream::Unix(stream) => stream.write_all(lines),
            Stream::Tcp(stream) => stream.write_all(lines),
        };
        match result {
            // It may have said why before it closed: that is found by reading.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
            result => result.map_err(|error| self.broken(&reason(&error))),
        }
    }

    /// The next line, without its LF; `None` when patience has ended.
    pub(crate) fn line(&mut self, patience: Patience) -> Result<Option<Vec<u8>>, Verdict> {
        let mut searched = self.start;
        loop {
            if let Some(end) = self.buffer[searched..].iter().position(|&byte| byte == b'\n') {
                let end = searched + end;
                let line = self.buffer[self.start..end].to_vec();
                self.start = end + 1;
                if self.debug {
                    eprintln!("Debug: {}: < {}", self.name, printable(&line));
                }
                return Ok(Some(line));
            }
            self.buffer.drain(..self.start);
            self.start = 0;
            searched = self.buffer.len();
            if searched > LINE_MAX_BYTES {
                let text = format!("{}: a line of more than {LINE_MAX_BYTES} bytes", self.name);
                return Err(Verdict::error(Exit::Protocol, text));
            }
            if !self.fill(patience)? {
                return Ok(None);
            }
        }
    }

    /// The next line, however long it takes.
    pub(crate) fn answer(&mut self) -> Result<Vec<u8>, Verdict> {
        loop {
            if let Some(line) = self.line(Patience::Endless)? {
                return Ok(line);
            }
        }
    }

    /// Reads some more; `false` when patience has ended.
    fn fill(&mut self, patience: Patience) -> Result<bool, Verdict> {
        let mut piece = [0; 16 * 1024];
        loop {
            let timeout = match patience {
                Patience::Endless => None,
                Patience::Until(end) => match end.saturating_duration_since(Instant::now()) {
                    Duration::ZERO => return Ok(false),
                    left => Some(left),
                },
            };
            let result = match &mut self.stream {
                Stream::Unix(stream) => stream.set_read_timeout(timeout).and_then(|()| stream.read(&mut piece)),
                Stream::Tcp(stream) => stream.set_read_timeout(timeout).and_then(|()| stream.read(&mut piece)),
            };
            match result {
                Ok(0) => return Err(self.broken("unexpectedly disconnected")),
                Ok(count) => {
                    self.buffer.extend_from_slice(&piece[..count]);
                    return Ok(true);
                }
                Err(error)
                    if matches!(
                        error.kind(),
                        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut | io::ErrorKind::Interrupted
                    ) => {}
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset => {
                    return Err(self.broken("unexpectedly disconnected"));
                }
                Err(error) => return Err(self.broken(&reason(&error))),
            }
        }
    }

    fn broken(&self, what: &str) -> Verdict {
        Verdict::error(Exit::TemporaryFailure, format!("{} {what}", self.name))
    }
}

fn connect_tcp(host: &str, port: u16) -> io::Result<TcpStream> {
    let mut last = io::Error::other("the name has no address");
    for address in (host, port).to_socket_addrs()? {
        match TcpStream::connect_timeout(&address, CONNECT_PATIENCE) {
            Ok(stream) => {
                // Without it, a director that vanishes in the middle of an hour's flush would be waited for for ever.
                rustix::net::sockopt::set_socket_keepalive(&stream, true)?;
                return Ok(stream);
            }
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// The system's words alone: neither the number of the error, nor that it was a lookup that failed.
pub(crate) fn reason(error: &io::Error) -> String {
    let text = error.to_string();
    let text = text.rsplit_once(" (os error ").map_or(&*text, |(text, _)| text);
    text.rsplit(": ").next().unwrap_or(text).to_owned()
}

/// What to do about a failed connect.
fn remedy(target: &Target, error: &io::Error) -> &'static str {
    match (target, error.kind()) {
        (Target::Path(_), io::ErrorKind::NotFound) => {
            "is the director running? -c names its configuration, -a its socket"
        }
        (Target::Path(_), io::ErrorKind::ConnectionRefused) => "nobody listens there: is the director running?",
        (Target::Path(_), io::ErrorKind::PermissionDenied) => {
            "run this as root or as the socket's owner, or let the director's configuration give the socket another \
             user or mode"
        }
        (Target::Path(_), _) => "is it the director's admin socket?",
        (Target::Tcp { .. }, _) => "is there a director, with an inet_listener named …-admin on this port?",
    }
}
