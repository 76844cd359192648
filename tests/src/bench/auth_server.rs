//! A stand-in for Dovecot's auth service: every login is right, and is to be proxied.

use std::collections::BTreeMap;
use std::fs::{self, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::event::epoll;
use rustix::fd::OwnedFd;

use super::load::{write_number, write_user};
use super::usage;

/// How often the server looks whether it is to end.
const GLANCE: rustix::time::Timespec = rustix::time::Timespec { tv_sec: 0, tv_nsec: 50_000_000 };
/// The listener among the numbers of connections.
const LISTENER: u64 = u64::MAX;

/// An auth server at a socket (auth client protocol 1.2), in a thread of its own that serves all connections.
#[derive(Debug)]
pub struct AuthServer {
    stop: Arc<AtomicBool>,
    /// The thread's processor time, in microseconds.
    processor: Arc<AtomicU64>,
    thread: Option<JoinHandle<()>>,
}

impl AuthServer {
    /// Listens at a path. A login whose number is `n` is one of user `n` modulo `users`.
    ///
    /// # Panics
    /// If that is not possible.
    pub fn listen(path: &Path, users: u64) -> Self {
        let listener = UnixListener::bind(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        fs::set_permissions(path, Permissions::from_mode(0o666)).expect("mode");
        listener.set_nonblocking(true).expect("non-blocking");
        let stop = Arc::new(AtomicBool::new(false));
        let processor = Arc::new(AtomicU64::new(0));
        let (stopped, used) = (Arc::clone(&stop), Arc::clone(&processor));
        let thread = std::thread::spawn(move || {
            let poll = epoll::create(epoll::CreateFlags::CLOEXEC).expect("epoll");
            epoll::add(&poll, &listener, epoll::EventData::new_u64(LISTENER), epoll::EventFlags::IN).expect("epoll");
            let mut server = Server {
                listener,
                poll,
                users,
                connections: BTreeMap::new(),
                next: 0,
                input: vec![0; 256 * 1024],
                output: Vec::new(),
            };
            while !stopped.load(Ordering::Relaxed) {
                server.step().expect("auth server");
                used.store(u64::try_from(usage::own_thread().as_micros()).unwrap_or(0), Ordering::Relaxed);
            }
        });
        Self { stop, processor, thread: Some(thread) }
    }

    /// The processor time that it has used so far.
    pub fn processor(&self) -> Duration {
        Duration::from_micros(self.processor.load(Ordering::Relaxed))
    }
}

impl Drop for AuthServer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let ended = thread.join();
            assert!(ended.is_ok() || std::thread::panicking(), "the auth server has failed");
        }
    }
}

struct Server {
    listener: UnixListener,
    poll: OwnedFd,
    users: u64,
    connections: BTreeMap<u64, Connection>,
    next: u64,
    input: Vec<u8>,
    output: Vec<u8>,
}

struct Connection {
    stream: UnixStream,
    /// The beginning of a line whose end has not come yet.
    rest: Vec<u8>,
}

impl Server {
    fn step(&mut self) -> io::Result<()> {
        let mut events = [const { std::mem::MaybeUninit::uninit() }; 256];
        let (events, _) = epoll::wait(&self.poll, &mut events, Some(&GLANCE))?;
        for event in events.iter() {
            match event.data.u64() {
                LISTENER => self.accept()?,
                number => self.serve(number)?,
            }
        }
        Ok(())
    }

    fn accept(&mut self) -> io::Result<()> {
        loop {
            let mut stream = match self.listener.accept() {
                Ok((stream, _)) => stream,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            };
            let number = self.next;
            self.next += 1;
            let greeting = format!(
                "VERSION\t1\t2\nMECH\tPLAIN\tplaintext\nSPID\t{}\nCUID\t{}\nCOOKIE\t{number:032x}\nDONE\n",
                std::process::id(),
                number + 1
            );
            stream.write_all(greeting.as_bytes())?;
            epoll::add(&self.poll, &stream, epoll::EventData::new_u64(number), epoll::EventFlags::IN)?;
            self.connections.insert(number, Connection { stream, rest: Vec::new() });
        }
    }

    fn serve(&mut self, number: u64) -> io::Result<()> {
        let Some(connection) = self.connections.get_mut(&number) else { return Ok(()) };
        let size = match connection.stream.read(&mut self.input) {
            Ok(0) => 0,
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => 0,
            result => result?,
        };
        if size == 0 {
            self.connections.remove(&number);
            return Ok(());
        }
        self.output.clear();
        let mut start = 0;
        for end in memchr::memchr_iter(b'\n', &self.input[..size]) {
            let line = &self.input[start..end];
            start = end + 1;
            if connection.rest.is_empty() {
                answer(line, self.users, &mut self.output);
            } else {
                connection.rest.extend_from_slice(line);
                answer(&connection.rest, self.users, &mut self.output);
                connection.rest.clear();
            }
        }
        connection.rest.extend_from_slice(&self.input[start..size]);
        connection.stream.write_all(&self.output)
    }
}

/// Answers AUTH; all else needs no answer.
fn answer(line: &[u8], users: u64, out: &mut Vec<u8>) {
    let Some(arguments) = line.strip_prefix(b"AUTH\t") else { return };
    let id = &arguments[..memchr::memchr(b'\t', arguments).unwrap_or(arguments.len())];
    let number = id.iter().fold(0_u64, |number, digit| number * 10 + u64::from(digit.wrapping_sub(b'0')));
    out.extend_from_slice(b"OK\t");
    write_number(number, out);
    out.extend_from_slice(b"\tuser=");
    write_user(number % users, out);
    out.extend_from_slice(b"\tproxy\tport=14300\tlip=127.0.1.1\tlport=10143\tpass=pw\n");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::load::{Clients, Dialogue, Until};

    #[test]
    fn a_login_gets_a_reply_that_asks_for_a_host() {
        let mut out = Vec::new();
        answer(b"AUTH\t17\tPLAIN\tservice=imap\tresp=AGE=", 10, &mut out);
        let expected = "OK\t17\tuser=user7@example.org\tproxy\tport=14300\tlip=127.0.1.1\tlport=10143\tpass=pw\n";
        assert_eq!(String::from_utf8(out).as_deref(), Ok(expected));
    }

    #[test]
    fn it_shakes_hands_and_answers_many() {
        let path = std::env::temp_dir().join(format!("director-auth-{}", std::process::id()));
        let _ = fs::remove_file(&path);
        let server = AuthServer::listen(&path, 10);
        let mut clients = Clients::connect(&path, Dialogue::Login, 3, 10).expect("clients");
        // Nobody has added a host: the load generator must notice.
        let error = clients.run(1, Until::Answers(5)).expect_err("no host");
        assert!(error.to_string().contains("no host"), "{error}");
        drop(server);
        fs::remove_file(&path).expect("remove");
    }
}
