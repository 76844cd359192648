//! What shows and changes nothing: `status`, `ring status`, `map`, `dump`.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::{Duration, Instant};

use director_core::doveadm::answers::{DirectorRow, HostRow, UserRow};
use director_core::doveadm::change::line_of;
use director_core::doveadm::lists::{self, DumpEntry};
use director_core::doveadm::lookup;
use director_core::doveadm::names::{LIST_REQUEST, ListLine, Names};
use director_core::doveadm::{Exit, Severity, Verdict, printable};
use director_core::wire::admin::Command;

use crate::connection::{Connection, Patience, reason};
use crate::session::{Session, print};

/// Auth goes silent for so long only if it is stuck: between two names it has nothing to wait for.
const LIST_PATIENCE: Duration = Duration::from_secs(60);

/// `status`
pub(crate) fn status(session: &mut Session) -> Result<(), Verdict> {
    let mut connection = session.connect()?;
    let mut list = session.list(lists::HOST_COLUMNS);
    for host in hosts(session, &mut connection)? {
        list.row(lists::host_cells(&host, &|secs| session.time(secs)))?;
    }
    list.finish()
}

/// HOST-LIST. Lines that are none are reported, and left out.
pub(crate) fn hosts(session: &mut Session, connection: &mut Connection) -> Result<Vec<HostRow>, Verdict> {
    let mut hosts = Vec::new();
    Session::ask_list(connection, &Command::HostList, |line| {
        match HostRow::parse(line) {
            Some(host) => hosts.push(host),
            None => session.report(&invalid("HOST-LIST", line)),
        }
        Ok(())
    })?;
    Ok(hosts)
}

/// DIRECTOR-LIST.
pub(crate) fn directors(connection: &mut Connection) -> Result<Vec<DirectorRow>, Verdict> {
    let mut directors = Vec::new();
    Session::ask_list(connection, &Command::DirectorList, |line| {
        directors.push(DirectorRow::parse(line));
        Ok(())
    })?;
    Ok(directors)
}

fn invalid(command: &str, line: &[u8]) -> Verdict {
    Verdict::error(Exit::Protocol, format!("Invalid {command} reply: {}", printable(line)))
}

/// `status USER [TAG]`
pub(crate) fn user_status(session: &Session, user: &OsStr, is_hash: bool, tag: &OsStr) -> Result<(), Verdict> {
    let hash = user_hash(session, user, is_hash)?;
    let mut connection = session.connect()?;
    let user = hash.to_string().into_bytes();
    let command = Command::UserLookup { user: user.into(), tag: tag.as_bytes().into() };
    connection.send(&line_of(&command)?)?;
    let answer = lookup::read(&connection.answer()?)?;
    let time = |secs| session.time(secs);
    if session.format().is_none() {
        return print(&lookup::text(&answer, tag.as_bytes(), &time));
    }
    let mut list = session.list(lookup::LOOKUP_COLUMNS);
    list.row(lookup::cells(&answer, &time))?;
    list.finish()
}

/// The hash of a name, computed here: a director takes a name of digits only for a hash.
pub(crate) fn user_hash(session: &Session, user: &OsStr, is_hash: bool) -> Result<u32, Verdict> {
    if is_hash { parse_hash(user) } else { Ok(session.username_hash()?.hash(user.as_bytes())) }
}

fn parse_hash(text: &OsStr) -> Result<u32, Verdict> {
    let hash = text.to_str().and_then(|text| text.parse().ok()).filter(|&hash: &u32| hash > 0);
    hash.ok_or_else(|| {
        let text = format!("Invalid username hash: {}", printable(text.as_bytes()));
        Verdict::fatal(Exit::TemporaryFailure, text)
    })
}

/// `ring status`
pub(crate) fn ring_status(session: &Session) -> Result<(), Verdict> {
    let mut connection = session.connect()?;
    let mut list = session.list(lists::DIRECTOR_COLUMNS);
    for director in directors(&mut connection)? {
        list.row(lists::director_cells(&director, &|secs| session.time(secs)))?;
    }
    list.finish()
}

/// `dump`
pub(crate) fn dump(session: &mut Session) -> Result<(), Verdict> {
    let mut connection = session.connect()?;
    let mut entries: Vec<_> = hosts(session, &mut connection)?.iter().map(DumpEntry::add).collect();
    Session::ask_list(&mut connection, &Command::HostListRemoved, |line| {
        match std::str::from_utf8(line).ok().and_then(|text| text.parse().ok()) {
            Some(ip) => entries.push(DumpEntry::remove(ip)),
            None => session.report(&invalid("HOST-LIST-REMOVED", line)),
        }
        Ok(())
    })?;
    if session.format().is_none() {
        let program = if session.as_doveadm { "doveadm director" } else { "directoradm" };
        let socket = session.options.socket.as_ref().map(ToString::to_string);
        return entries.iter().try_for_each(|entry| print(&entry.shell_line(program, socket.as_deref())));
    }
    let socket = session.target()?.0.to_string();
    let mut list = session.list(lists::DUMP_COLUMNS);
    for entry in entries {
        list.row(entry.cells(&socket))?;
    }
    list.finish()
}

/// `map [HOST]`
pub(crate) fn map(session: &mut Session, file: Option<&Path>, host: Option<&OsStr>) -> Result<(), Verdict> {
    let filters = match host {
        None => vec![None],
        Some(host) => session.addresses(&host.to_string_lossy())?.into_iter().map(Some).collect(),
    };
    let mut connection = session.connect()?;
    let names = names(session, file)?;
    let mut list = session.list(lists::USER_COLUMNS);
    for ip in filters {
        Session::ask_list(&mut connection, &Command::UserList { ip }, |line| {
            let Some(user) = UserRow::parse(line) else {
                session.report(&invalid("USER-LIST", line));
                return Ok(());
            };
            let time = |secs| session.time(secs);
            let mut known = names.of(user.hash).peekable();
            if known.peek().is_none() {
                return list.row(lists::user_cells(&user, None, &time));
            }
            known.try_for_each(|name| list.row(lists::user_cells(&user, Some(name), &time)))
        })?;
    }
    list.finish()
}

/// `map -h HASH`
pub(crate) fn map_hash(session: &mut Session, file: Option<&Path>, hash: Option<&OsStr>) -> Result<(), Verdict> {
    let Some(hash) = hash else {
        return Err(Verdict::error(Exit::Usage, "map -h: which hash?"));
    };
    let hash = parse_hash(hash)?;
    let names = names(session, file)?;
    let mut list = session.list(lists::NAME_COLUMNS);
    names.of(hash).try_for_each(|name| list.row(vec![String::from_utf8_lossy(name).into_owned()]))?;
    list.finish()
}

/// `map -u USER`
pub(crate) fn map_user(session: &Session, user: &OsStr) -> Result<(), Verdict> {
    let hash = user_hash(session, user, false)?;
    let mut list = session.list(lists::HASH_COLUMNS);
    list.row(vec![hash.to_string()])?;
    list.finish()
}

/// The names that hashes may stand for, from a file or from auth. What auth could not list is reported, and the rest
/// goes on without it.
fn names(session: &mut Session, file: Option<&Path>) -> Result<Names, Verdict> {
    let mut names = Names::new(session.username_hash()?);
    match file {
        Some(file) => {
            let content = std::fs::read(file).map_err(|error| {
                Verdict::fatal(Exit::TemporaryFailure, format!("cannot read {}: {error}", file.display()))
            })?;
            names.add_lines(&content);
        }
        None => {
            if let Err(verdict) = names_of_auth(session, &mut names) {
                session.report(&Verdict { severity: Severity::Error, ..verdict });
                session.report(&Verdict::error(
                    Exit::TemporaryFailure,
                    "user listing failed (map -f FILE takes the names from a file, one a line)",
                ));
            }
        }
    }
    Ok(names)
}

fn names_of_auth(session: &Session, names: &mut Names) -> Result<(), Verdict> {
    let target = session.in_base_dir("auth-userdb")?;
    let failed = |text: &str| Verdict::error(Exit::TemporaryFailure, format!("auth-master: userdb list: {text}"));
    let mut connection = Connection::open(&target, session.options.debug)
        .map_err(|error| failed(&format!("connect({target}) failed: {} (is Dovecot running?)", reason(&error))))?;
    connection.send(LIST_REQUEST)?;
    loop {
        let line = connection.line(Patience::Until(Instant::now() + LIST_PATIENCE));
        let Some(line) = line.map_err(|_| failed("Disconnected unexpectedly"))? else {
            return Err(failed("auth has stopped in the middle"));
        };
        match ListLine::parse(&line) {
            ListLine::Name(name) => names.add(&name),
            ListLine::Done => return Ok(()),
            ListLine::Failed => return Err(failed("User listing returned failure")),
            ListLine::Incompatible => return Err(failed(&format!("{target} speaks another version of the protocol"))),
            ListLine::Other => {}
        }
    }
}
