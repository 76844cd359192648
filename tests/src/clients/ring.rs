//! A member of the ring that says what a test wants it to say.

use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::time::{SystemTime, UNIX_EPOCH};

use super::lines::{ANSWER_LIMIT, Lines};
use crate::wait::wait_for;

/// One ring connection, made by hand.
#[derive(Debug)]
pub struct RingPeer {
    lines: Lines,
    ip: IpAddr,
}

/// The present Unix time in seconds.
pub fn unix_now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

impl RingPeer {
    /// Connects as the member of this address and says nothing yet.
    ///
    /// # Errors
    /// The system's.
    pub fn connect(ip: IpAddr, to: SocketAddr) -> io::Result<Self> {
        Ok(Self { lines: Lines::tcp_from(ip, to)?, ip })
    }

    /// Waits for a director to connect to the member of this address, and says nothing yet.
    ///
    /// # Errors
    /// The system's.
    ///
    /// # Panics
    /// If none connects.
    pub fn accept(listener: &TcpListener) -> io::Result<Self> {
        let ip = listener.local_addr()?.ip();
        listener.set_nonblocking(true)?;
        let (stream, _) = wait_for("a director to connect", ANSWER_LIMIT, || listener.accept());
        stream.set_nonblocking(false)?;
        Ok(Self { lines: Lines::from_tcp(stream)?, ip })
    }

    /// The connection itself.
    pub fn lines(&mut self) -> &mut Lines {
        &mut self.lines
    }

    /// Sends VERSION and ME, as both sides do at once.
    ///
    /// # Errors
    /// The system's.
    pub fn introduce(&mut self, port: u16) -> io::Result<()> {
        self.lines.send("VERSION\tdirector\t1\t9")?;
        self.lines.send(&format!("ME\t{}\t{port}\t{}", self.ip, unix_now()))
    }

    /// Does the connecting side's whole handshake, without hosts, members or users of its own, and waits for DONE.
    ///
    /// # Errors
    /// The system's; `UnexpectedEof` when the director closes instead.
    pub fn handshake(&mut self, port: u16) -> io::Result<()> {
        self.introduce(port)?;
        let ip = self.ip;
        self.lines.send(&format!("DIRECTOR\t{ip}\t{port}"))?;
        self.lines.send("HOST-HAND-START\t0\nHOST-HAND-END\t0\nOPTIONS\tconsistent-hashing\nDONE")?;
        while self.lines.expect()? != "DONE" {}
        Ok(())
    }
}
