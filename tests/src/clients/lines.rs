//! A connection that is read line by line.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use socket2::{Domain, Socket, Type};

/// How long a client waits for an answer: longer than any time that the protocols allow for one.
pub const ANSWER_LIMIT: Duration = Duration::from_secs(60);

/// A TCP or unix connection with lines on it.
#[derive(Debug)]
pub struct Lines {
    stream: Stream,
    buffer: Vec<u8>,
}

#[derive(Debug)]
enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Lines {
    /// Connects to a unix socket.
    ///
    /// # Errors
    /// The system's.
    pub fn unix(path: &Path) -> io::Result<Self> {
        let stream = UnixStream::connect(path)?;
        stream.set_read_timeout(Some(ANSWER_LIMIT))?;
        stream.set_write_timeout(Some(ANSWER_LIMIT))?;
        Ok(Self { stream: Stream::Unix(stream), buffer: Vec::new() })
    }

    /// Connects over TCP.
    ///
    /// # Errors
    /// The system's.
    pub fn tcp(to: SocketAddr) -> io::Result<Self> {
        Self::from_tcp(TcpStream::connect_timeout(&to, ANSWER_LIMIT)?)
    }

    /// Connects over TCP with a chosen source address.
    ///
    /// # Errors
    /// The system's.
    pub fn tcp_from(from: IpAddr, to: SocketAddr) -> io::Result<Self> {
        let socket = Socket::new(Domain::for_address(to), Type::STREAM, None)?;
        socket.bind(&SocketAddr::new(from, 0).into())?;
        socket.connect_timeout(&to.into(), ANSWER_LIMIT)?;
        Self::from_tcp(socket.into())
    }

    /// Uses a connection that is there already.
    ///
    /// # Errors
    /// The system's.
    pub fn from_tcp(stream: TcpStream) -> io::Result<Self> {
        stream.set_read_timeout(Some(ANSWER_LIMIT))?;
        stream.set_write_timeout(Some(ANSWER_LIMIT))?;
        stream.set_nodelay(true)?;
        Ok(Self { stream: Stream::Tcp(stream), buffer: Vec::new() })
    }

    /// Waits at most this long for a line, instead of [`ANSWER_LIMIT`].
    ///
    /// # Errors
    /// The system's.
    pub fn set_read_timeout(&mut self, limit: Duration) -> io::Result<()> {
        match &self.stream {
            Stream::Tcp(stream) => stream.set_read_timeout(Some(limit)),
            Stream::Unix(stream) => stream.set_read_timeout(Some(limit)),
        }
    }

    /// A second handle on the same connection, to read in one thread and write in another.
    ///
    /// # Errors
    /// The system's.
    pub fn try_clone(&self) -> io::Result<Self> {
        let stream = match &self.stream {
            Stream::Tcp(stream) => Stream::Tcp(stream.try_clone()?),
            Stream::Unix(stream) => Stream::Unix(stream.try_clone()?),
        };
        Ok(Self { stream, buffer: self.buffer.clone() })
    }

    /// Sends a line.
    ///
    /// # Errors
    /// The system's.
    pub fn send(&mut self, line: &str) -> io::Result<()> {
        self.send_bytes(format!("{line}\n").as_bytes())
    }

    /// Sends bytes, all in one write where the system takes them.
    ///
    /// # Errors
    /// The system's.
    pub fn send_bytes(&mut self, bytes: &[u8]) -> io::Result<()> {
        match &mut self.stream {
            Stream::Tcp(stream) => stream.write_all(bytes),
            Stream::Unix(stream) => stream.write_all(bytes),
        }
    }

    /// Says that nothing more will be sent.
    ///
    /// # Errors
    /// The system's.
    pub fn finish(&mut self) -> io::Result<()> {
        match &self.stream {
            Stream::Tcp(stream) => stream.shutdown(Shutdown::Write),
            Stream::Unix(stream) => stream.shutdown(Shutdown::Write),
        }
    }

    /// The next line without its end (LF or CR LF); `None` when the other side has closed, by reset or not.
    ///
    /// # Errors
    /// `WouldBlock` or `TimedOut` when none came in time.
    pub fn read(&mut self) -> io::Result<Option<String>> {
        let mut searched = 0;
        loop {
            if let Some(end) = self.buffer[searched..].iter().position(|byte| *byte == b'\n') {
                let rest = self.buffer.split_off(searched + end + 1);
                let line = std::mem::replace(&mut self.buffer, rest);
                let text = String::from_utf8_lossy(&line);
                return Ok(Some(text.trim_end_matches(['\r', '\n']).into()));
            }
            searched = self.buffer.len();
            let mut bytes = [0; 16384];
            let result = match &mut self.stream {
                Stream::Tcp(stream) => stream.read(&mut bytes),
                Stream::Unix(stream) => stream.read(&mut bytes),
            };
            match result {
                Ok(0) => return Ok(None),
                Ok(count) => self.buffer.extend_from_slice(&bytes[..count]),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if matches!(error.kind(), ErrorKind::ConnectionReset | ErrorKind::ConnectionAborted) => {
                    return Ok(None);
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// The next line, which must come.
    ///
    /// # Errors
    /// Also `UnexpectedEof` when the other side has closed.
    pub fn expect(&mut self) -> io::Result<String> {
        self.read()?.ok_or_else(|| io::Error::new(ErrorKind::UnexpectedEof, "the other side has closed"))
    }

    /// Reads until the other side closes, and gives back what it still said.
    ///
    /// # Errors
    /// `WouldBlock` or `TimedOut` when it does not.
    pub fn read_to_close(&mut self) -> io::Result<Vec<String>> {
        let mut lines = Vec::new();
        while let Some(line) = self.read()? {
            lines.push(line);
        }
        Ok(lines)
    }
}
