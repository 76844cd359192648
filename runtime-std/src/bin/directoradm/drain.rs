//! `flush`, `drain` and `undrain`, with their progress.

use std::io::{self, IsTerminal, Write};
use std::net::IpAddr;
use std::thread;
use std::time::{Duration, Instant};

use director_core::doveadm::answers::HostRow;
use director_core::doveadm::change::Change;
use director_core::doveadm::drain::{DrainPlan, UndrainPlan};
use director_core::doveadm::progress::Progress;
use director_core::doveadm::{Exit, Severity, Verdict};
use director_core::hash::IpText;

use crate::change::{ask, change, change_each};
use crate::connection::{Connection, Patience};
use crate::memory;
use crate::session::{Session, print, terminal_size};
use crate::show::hosts;

/// How often users are counted.
const COUNT_INTERVAL: Duration = Duration::from_secs(1);
/// How often a plain line tells of it.
const LINE_INTERVAL: Duration = Duration::from_secs(10);
/// With `--wait`, users who came or stayed after the flush are flushed again after so many counts.
const COUNTS_UNTIL_AGAIN: u32 = 10;

/// `flush HOST`; `None` = all.
pub(crate) fn flush(session: &mut Session, host: Option<&str>, max_parallel: Option<u32>) -> Result<(), Verdict> {
    // The users of all together do not become fewer: there is nothing to show.
    let Some(host) = host else { return change(session, &Change::Flush { ip: None, max_parallel }) };
    // Old scripts expect silence where nobody looks on.
    let style = if io::stderr().is_terminal() {
        Style::Bar
    } else if session.is_verbose() {
        Style::Lines
    } else {
        return change_each(session, host, |ip| Change::Flush { ip: Some(ip), max_parallel });
    };
    let ips = session.addresses(host)?;
    let mut connection = session.connect()?;
    for ip in ips {
        let verdict = flush_one(session, &mut connection, ip, max_parallel, style)?.0;
        session.report(&verdict);
    }
    Ok(())
}

/// `drain HOST`
pub(crate) fn drain(
    session: &mut Session,
    host: &str,
    max_parallel: Option<u32>,
    wait: bool,
    force: bool,
) -> Result<(), Verdict> {
    let ips = session.addresses(host)?;
    let mut connection = session.connect()?;
    for ip in ips {
        if let Err(verdict) = drain_one(session, &mut connection, ip, max_parallel, wait, force) {
            session.report(&verdict);
        }
    }
    Ok(())
}

fn drain_one(
    session: &mut Session,
    connection: &mut Connection,
    ip: IpAddr,
    max_parallel: Option<u32>,
    wait: bool,
    force: bool,
) -> Result<(), Verdict> {
    let plan = DrainPlan::new(&hosts(session, connection)?, ip, force)?;
    if plan.vhosts > 0 {
        // First, so that nothing can happen in between; a record that turns out not to be needed does no harm.
        if let Err(error) = memory::remember(ip, plan.vhosts) {
            let text = format!("cannot remember the weight {} for undrain: {error} (name it there)", plan.vhosts);
            session.say(Severity::Warning, &text);
        }
        let verdict = ask(session, connection, &Change::Update { ip, vhosts: 0 })?;
        if !verdict.is_success() {
            return Err(verdict);
        }
    }
    print(&format!("{}\n", plan.begun()))?;
    let style = if io::stderr().is_terminal() { Style::Bar } else { Style::Lines };
    loop {
        let (verdict, progress) = flush_one(session, connection, ip, max_parallel, style)?;
        if !verdict.is_success() {
            return Err(verdict);
        }
        let Some(mut progress) = progress else { return Ok(()) };
        if !wait || wait_until_empty(session, connection, ip, &mut progress, style)? {
            return print(&format!("{}\n", progress.summary(session.now().instant)));
        }
        session.say(Severity::Info, &format!("{}: {} users left, flushing again", IpText(ip), progress.left()));
    }
}

/// Whether nobody is left after a while.
fn wait_until_empty(
    session: &mut Session,
    connection: &mut Connection,
    ip: IpAddr,
    progress: &mut Progress,
    style: Style,
) -> Result<bool, Verdict> {
    let mut shown = Shown::new(style);
    for count in 0..=COUNTS_UNTIL_AGAIN {
        if count > 0 {
            thread::sleep(COUNT_INTERVAL);
        }
        // Removed meanwhile: then nobody is left there, either.
        let users = find(&hosts(session, connection)?, ip).map_or(0, |host| host.users);
        progress.observe(users, session.now().instant);
        if users == 0 {
            return Ok(true);
        }
        shown.show(session, progress);
    }
    Ok(false)
}

/// `undrain HOST [WEIGHT]`
pub(crate) fn undrain(session: &mut Session, host: &str, vhosts: Option<u32>) -> Result<(), Verdict> {
    let ips = session.addresses(host)?;
    let mut connection = session.connect()?;
    for ip in ips {
        let hosts = hosts(session, &mut connection)?;
        let plan = match UndrainPlan::new(&hosts, ip, vhosts, memory::recall(ip)) {
            Ok(plan) => plan,
            Err(verdict) => {
                session.report(&verdict);
                continue;
            }
        };
        let verdict = ask(session, &mut connection, &Change::Update { ip, vhosts: plan.vhosts })?;
        if verdict.is_success() {
            memory::forget(ip);
            print(&format!("{}\n", plan.done()))?;
        } else {
            session.report(&verdict);
        }
    }
    Ok(())
}

/// How progress is shown on standard error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Style {
    /// A line now and then.
    Lines,
    /// One line that changes.
    Bar,
}

/// Flushes a backend, and shows how it is getting on. The answer comes at the end only, so users are counted on a
/// second connection meanwhile.
fn flush_one(
    session: &mut Session,
    connection: &mut Connection,
    ip: IpAddr,
    max_parallel: Option<u32>,
    style: Style,
) -> Result<(Verdict, Option<Progress>), Verdict> {
    let before = find(&hosts(session, connection)?, ip);
    let change = Change::Flush { ip: Some(ip), max_parallel };
    let begun = session.now().instant;
    connection.send(&change.line()?)?;
    let Some(before) = before else {
        return Ok((change.verdict(&connection.answer()?), None));
    };
    let mut progress = Progress::new(IpText(ip).to_string(), before.users, !before.takes_users(), begun);
    let mut counter = None;
    let mut shown = Shown::new(style);
    let answer = loop {
        if let Some(answer) = connection.line(Patience::Until(Instant::now() + COUNT_INTERVAL))? {
            break answer;
        }
        // Progress is worth no failure: without a second connection there is none.
        let Ok(counter) = (match &mut counter {
            Some(counter) => Ok(counter),
            None => session.connect().map(|connection| counter.insert(connection)),
        }) else {
            continue;
        };
        if let Some(host) = hosts(session, counter).ok().and_then(|hosts| find(&hosts, ip)) {
            progress.observe(host.users, session.now().instant);
            shown.show(session, &progress);
        }
    };
    drop(shown);
    let after = hosts(session, connection)?;
    progress.observe(find(&after, ip).map_or(0, |host| host.users), session.now().instant);
    let mut verdict = change.verdict(&answer);
    if verdict.exit == Exit::Success && style == Style::Bar && !verdict.text.is_empty() {
        verdict.text = format!("{} ({})", verdict.text, progress.line(session.now().instant));
    }
    Ok((verdict, Some(progress)))
}

fn find(hosts: &[HostRow], ip: IpAddr) -> Option<HostRow> {
    hosts.iter().find(|host| host.ip == ip).cloned()
}

/// What of a progress is on the terminal; cleaned up when it goes.
struct Shown {
    style: Style,
    next_line: Option<Instant>,
    bar: bool,
}

impl Shown {
    fn new(style: Style) -> Self {
        Self { style, next_line: None, bar: false }
    }

    fn show(&mut self, session: &Session, progress: &Progress) {
        let now = session.now().instant;
        let mut stderr = io::stderr().lock();
        // Nothing can be done if the terminal is gone.
        let _ = match self.style {
            Style::Lines if self.next_line.is_some_and(|next| Instant::now() < next) => Ok(()),
            Style::Lines => {
                self.next_line = Some(Instant::now() + LINE_INTERVAL);
                writeln!(stderr, "{}", progress.line(now))
            }
            Style::Bar => {
                self.bar = true;
                // One column less than there are: some terminals go to the next line after the last.
                let width = terminal_size(io::stderr()).0.saturating_sub(1);
                write!(stderr, "\r{}\x1b[K", progress.bar(now, width))
            }
        };
    }
}

impl Drop for Shown {
    fn drop(&mut self) {
        if self.bar {
            let _ = write!(io::stderr(), "\r\x1b[K");
        }
    }
}
