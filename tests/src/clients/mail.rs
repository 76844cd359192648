//! IMAP, POP3, LMTP, Submission and ManageSieve, as far as logging in and handing mail over goes.

use std::io::{self, ErrorKind};
use std::net::SocketAddr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

use super::lines::Lines;

/// A refusal is an error of this kind; a connection that ends is `UnexpectedEof`, silence `WouldBlock`.
fn refused(answer: String) -> io::Error {
    io::Error::new(ErrorKind::PermissionDenied, answer)
}

/// Whether an error is a refusal or a lost connection, which a restart may cause, and not silence, which nothing may.
pub fn is_temporary(error: &io::Error) -> bool {
    !matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut)
}

/// A login process that cannot reach auth says so after 10 s, and greets when it can.
fn greeting(lines: &mut Lines) -> io::Result<String> {
    loop {
        let line = lines.expect()?;
        if !line.contains("Waiting for authentication process") {
            return Ok(line);
        }
    }
}

/// A user's name and password, as the mechanism PLAIN has them.
fn plain(user: &str) -> String {
    BASE64.encode(format!("\0{user}\0password"))
}

/// A logged-in IMAP session.
#[derive(Debug)]
pub struct Imap {
    lines: Lines,
}

impl Imap {
    /// Connects, logs in, and opens the INBOX, so that the backend has touched the user's mail.
    ///
    /// # Errors
    /// The system's, or `PermissionDenied` with the answer that was not OK.
    pub fn login(to: SocketAddr, user: &str) -> io::Result<Self> {
        let mut imap = Self { lines: Lines::tcp(to)? };
        let greeting = greeting(&mut imap.lines)?;
        if !greeting.starts_with("* OK") {
            return Err(refused(greeting));
        }
        imap.command(&format!("LOGIN {user} password"))?;
        imap.command("SELECT INBOX")?;
        Ok(imap)
    }

    /// Does a command; gives back the untagged answers.
    ///
    /// # Errors
    /// As [`login`](Self::login).
    pub fn command(&mut self, command: &str) -> io::Result<Vec<String>> {
        self.lines.send_bytes(format!("a {command}\r\n").as_bytes())?;
        let mut answers = Vec::new();
        loop {
            let line = self.lines.expect()?;
            match line.strip_prefix("a ") {
                Some(result) if result.starts_with("OK") => return Ok(answers),
                Some(_) => return Err(refused(line)),
                None => answers.push(line),
            }
        }
    }
}

/// A logged-in POP3 session.
#[derive(Debug)]
pub struct Pop3 {
    lines: Lines,
}

impl Pop3 {
    /// Connects and logs in.
    ///
    /// # Errors
    /// The system's, or `PermissionDenied` with the answer that was not OK.
    pub fn login(to: SocketAddr, user: &str) -> io::Result<Self> {
        let mut pop3 = Self { lines: Lines::tcp(to)? };
        let greeting = greeting(&mut pop3.lines)?;
        if !greeting.starts_with("+OK") {
            return Err(refused(greeting));
        }
        pop3.command(&format!("USER {user}"))?;
        pop3.command("PASS password")?;
        Ok(pop3)
    }

    /// Does a command with a one-line answer.
    ///
    /// # Errors
    /// As [`login`](Self::login).
    pub fn command(&mut self, command: &str) -> io::Result<String> {
        self.lines.send_bytes(format!("{command}\r\n").as_bytes())?;
        self.answer()
    }

    fn answer(&mut self) -> io::Result<String> {
        let answer = self.lines.expect()?;
        if answer.starts_with("+OK") { Ok(answer) } else { Err(refused(answer)) }
    }
}

/// An LMTP connection.
#[derive(Debug)]
pub struct Lmtp {
    lines: Lines,
}

impl Lmtp {
    /// Connects and greets.
    ///
    /// # Errors
    /// The system's, or `PermissionDenied` with an answer that was not 2xx.
    pub fn connect(to: SocketAddr) -> io::Result<Self> {
        let mut lmtp = Self { lines: Lines::tcp(to)? };
        lmtp.answer()?;
        lmtp.command("LHLO localhost")?;
        Ok(lmtp)
    }

    /// Hands a short mail over for one user.
    ///
    /// # Errors
    /// As [`connect`](Self::connect).
    pub fn deliver(&mut self, user: &str) -> io::Result<()> {
        self.command("MAIL FROM:<>")?;
        self.command(&format!("RCPT TO:<{user}>"))?;
        self.command("DATA")?;
        self.command(&format!("Subject: for {user}\r\n\r\nhello\r\n."))?;
        Ok(())
    }

    fn command(&mut self, command: &str) -> io::Result<String> {
        self.lines.send_bytes(format!("{command}\r\n").as_bytes())?;
        self.answer()
    }

    fn answer(&mut self) -> io::Result<String> {
        smtp_answer(&mut self.lines)
    }
}

/// The last line of an answer of SMTP or LMTP.
fn smtp_answer(lines: &mut Lines) -> io::Result<String> {
    loop {
        let answer = lines.expect()?;
        match answer.as_bytes() {
            [_, _, _, b'-', ..] => {}
            [b'2' | b'3', ..] => return Ok(answer),
            _ => return Err(refused(answer)),
        }
    }
}

/// A logged-in Submission session.
#[derive(Debug)]
pub struct Submission {
    lines: Lines,
}

impl Submission {
    /// Connects and logs in.
    ///
    /// # Errors
    /// The system's, or `PermissionDenied` with an answer that was not 2xx.
    pub fn login(to: SocketAddr, user: &str) -> io::Result<Self> {
        let mut submission = Self { lines: Lines::tcp(to)? };
        smtp_answer(&mut submission.lines)?;
        submission.command("EHLO localhost")?;
        submission.command(&format!("AUTH PLAIN {}", plain(user)))?;
        Ok(submission)
    }

    /// Does a command; gives back the last line of its answer.
    ///
    /// # Errors
    /// As [`login`](Self::login).
    pub fn command(&mut self, command: &str) -> io::Result<String> {
        self.lines.send_bytes(format!("{command}\r\n").as_bytes())?;
        smtp_answer(&mut self.lines)
    }
}

/// A logged-in ManageSieve session.
#[derive(Debug)]
pub struct ManageSieve {
    lines: Lines,
}

impl ManageSieve {
    /// Connects and logs in.
    ///
    /// # Errors
    /// The system's, or `PermissionDenied` with the answer that was not OK.
    pub fn login(to: SocketAddr, user: &str) -> io::Result<Self> {
        let mut sieve = Self { lines: Lines::tcp(to)? };
        sieve.answer()?;
        sieve.command(&format!("AUTHENTICATE \"PLAIN\" \"{}\"", plain(user)))?;
        Ok(sieve)
    }

    /// Does a command; gives back the lines before the OK.
    ///
    /// # Errors
    /// As [`login`](Self::login).
    pub fn command(&mut self, command: &str) -> io::Result<Vec<String>> {
        self.lines.send_bytes(format!("{command}\r\n").as_bytes())?;
        self.answer()
    }

    fn answer(&mut self) -> io::Result<Vec<String>> {
        let mut lines = Vec::new();
        loop {
            let line = self.lines.expect()?;
            match line.split(' ').next() {
                Some("OK") => return Ok(lines),
                Some("NO" | "BYE") => return Err(refused(line)),
                _ => lines.push(line),
            }
        }
    }
}
