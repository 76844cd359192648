//! What changes something, one command and one answer at a time.

use std::io::{self, IsTerminal};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use director_core::doveadm::change::Change;
use director_core::doveadm::target::split_tag;
use director_core::doveadm::{Exit, Severity, Verdict};

use crate::connection::{Connection, Patience};
use crate::session::Session;

/// A change that takes longer waits for the ring: worth a word to somebody who looks on.
const SILENCE: Duration = Duration::from_secs(3);

/// Does one change, and reports what came of it.
pub(crate) fn change(session: &mut Session, change: &Change<'_>) -> Result<(), Verdict> {
    let mut connection = session.connect()?;
    let verdict = ask(session, &mut connection, change)?;
    session.report(&verdict);
    Ok(())
}

/// Does the same to each address of a host.
pub(crate) fn change_each<'a>(
    session: &mut Session,
    host: &str,
    make: impl Fn(IpAddr) -> Change<'a>,
) -> Result<(), Verdict> {
    let ips = session.addresses(host)?;
    let mut connection = session.connect()?;
    for ip in ips {
        let verdict = ask(session, &mut connection, &make(ip))?;
        session.report(&verdict);
    }
    Ok(())
}

/// `add`: the tag stands in the option or behind the host.
pub(crate) fn add(session: &mut Session, tag: Option<&str>, host: &str, vhosts: Option<u32>) -> Result<(), Verdict> {
    // An empty option is none; `HOST@` says that the tag is empty.
    let option = tag.filter(|tag| !tag.is_empty());
    let (host, suffix) = split_tag(host);
    if option.is_some() && suffix.is_some() {
        return Err(Verdict::error(Exit::Usage, "name the tag once: with -t, or as HOST@TAG"));
    }
    let tag = option.or(suffix).map(str::as_bytes);
    change_each(session, host, |ip| Change::Add { ip, tag, vhosts })
}

/// Sends a change and waits for what comes of it.
pub(crate) fn ask(session: &Session, connection: &mut Connection, change: &Change<'_>) -> Result<Verdict, Verdict> {
    connection.send(&change.line()?)?;
    let answer = match connection.line(Patience::Until(Instant::now() + SILENCE))? {
        Some(answer) => answer,
        None => {
            if session.is_verbose() || io::stderr().is_terminal() {
                let text = match change {
                    Change::Flush { .. } => "users are being moved; they go on being moved if this is interrupted",
                    Change::Kick { .. } => "waiting for other kicks to end",
                    _ => "waiting for the ring to be synced, a minute at most ('ring status' shows it)",
                };
                eprintln!("{}: {text}", Severity::Info.word());
            }
            connection.answer()?
        }
    };
    Ok(change.verdict(&answer))
}
