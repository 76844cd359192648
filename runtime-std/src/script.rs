//! Flush scripts that are programs: a program looks to the core like Dovecot's script service.
//!
//! Each runs under a thread of its own, which waits for it; there are never more than moves under way. The thread and the
//! core talk over a pair of sockets.

use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Stdio};
use std::thread;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// How often a program that has closed its output is looked at.
const EXIT_GLANCE: Timespec = Timespec { tv_sec: 0, tv_nsec: 20_000_000 };

/// Starts a program. The descriptor, which is non-blocking, gives its output and then `+` or `-`; when it is closed, the
/// program is killed.
///
/// # Errors
/// There is no descriptor or no thread left. A program that can't be run says so on the descriptor.
pub fn start(path: &str, arguments: &[String]) -> io::Result<OwnedFd> {
    let (ours, theirs) = UnixStream::pair()?;
    ours.set_nonblocking(true)?;
    let mut command = Command::new(path);
    command.args(arguments).stdin(Stdio::null());
    thread::Builder::new().name("flush script".into()).spawn(move || {
        // If nobody listens any more, there is nobody to tell.
        let _ = supervise(command, theirs);
    })?;
    Ok(ours.into())
}

fn supervise(mut command: Command, mut listener: UnixStream) -> io::Result<()> {
    let (mut output, writer) = io::pipe()?;
    command.stdout(writer.try_clone()?).stderr(writer);
    let spawned = command.spawn();
    // The command holds the writing end as well: only without it does the output end.
    let name = command.get_program().to_owned();
    drop(command);
    let mut child = match spawned {
        Ok(child) => child,
        Err(error) => return listener.write_all(format!("{}: {error}\n-\n", name.display()).as_bytes()),
    };
    let result = relay(&mut child, &mut output, &mut listener);
    if result.is_err() {
        // Nobody listens any more: there is nothing left to do for it.
        let _ = child.kill();
        let _ = child.wait();
    }
    result
}

/// Passes a program's output on until it has ended.
fn relay(child: &mut Child, output: &mut io::PipeReader, listener: &mut UnixStream) -> io::Result<()> {
    let mut buffer = [0; 4096];
    let mut last = b'\n';
    loop {
        let (readable, gone) = wait(&*output, &*listener, None)?;
        if gone {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        if readable {
            let count = output.read(&mut buffer)?;
            if count == 0 {
                break;
            }
            listener.write_all(&buffer[..count])?;
            last = buffer[count - 1];
        }
    }
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break status;
        }
        let (_, gone) = wait(&*listener, &*listener, Some(&EXIT_GLANCE))?;
        if gone {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
    };
    if last != b'\n' {
        listener.write_all(b"\n")?;
    }
    if !status.success() {
        listener.write_all(format!("{status}\n").as_bytes())?;
    }
    listener.write_all(if status.success() { b"+\n" } else { b"-\n" })
}

/// Waits until there is output or the listener has gone, or for so long.
fn wait(output: impl AsFd, listener: impl AsFd, timeout: Option<&Timespec>) -> io::Result<(bool, bool)> {
    let mut ready = [PollFd::new(&output, PollFlags::IN), PollFd::new(&listener, PollFlags::RDHUP)];
    match poll(&mut ready, timeout) {
        Ok(_) | Err(rustix::io::Errno::INTR) => {}
        Err(error) => return Err(error.into()),
    }
    let gone = ready[1].revents().intersects(PollFlags::HUP | PollFlags::RDHUP | PollFlags::ERR);
    Ok((ready[0].revents().intersects(PollFlags::IN | PollFlags::HUP), gone))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(path: &str, arguments: &[&str]) -> String {
        let arguments: Vec<String> = arguments.iter().map(|&argument| argument.into()).collect();
        let mut stream = UnixStream::from(start(path, &arguments).unwrap());
        stream.set_nonblocking(false).unwrap();
        let mut said = String::new();
        stream.read_to_string(&mut said).unwrap();
        said
    }

    #[test]
    fn a_program_says_what_it_prints_and_how_it_ended() {
        assert_eq!(said("/bin/echo", &["one", "two"]), "one two\n+\n");
        assert_eq!(said("/bin/true", &[]), "+\n");
        assert_eq!(said("/bin/sh", &["-c", "printf half; echo err >&2; exit 3"]), "halferr\nexit status: 3\n-\n");
        let missing = said("/no/such/program", &[]);
        assert!(missing.starts_with("/no/such/program: ") && missing.ends_with("\n-\n"), "{missing}");
    }

    #[test]
    fn a_program_that_nobody_listens_to_is_killed() {
        let folder = tempfile::tempdir().unwrap();
        let alive = folder.path().join("fifo");
        // It holds a FIFO open: when it has gone, reading that ends.
        rustix::fs::mkfifoat(rustix::fs::CWD, &alive, 0o600.into()).unwrap();
        let script = format!("exec 3>{}; echo ready; exec sleep 1000", alive.display());
        let stream = UnixStream::from(start("/bin/sh", &["-c".into(), script]).unwrap());
        let mut fifo = std::fs::File::open(&alive).unwrap();
        drop(stream);
        let mut rest = Vec::new();
        fifo.read_to_end(&mut rest).unwrap();
    }
}
