//! `directoradm`: administers a ring of directors, as `doveadm director` of Dovecot 2.3 does.
//!
//! What to send, what answers mean and how they are printed is decided in [`director_core::doveadm`]; here are the
//! command line, sockets, files, the terminal and the clock.
#![forbid(unsafe_code)]

mod change;
mod command_line;
mod connection;
mod drain;
mod generate;
mod memory;
mod session;
mod show;
mod watch;

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::process::ExitCode;

use clap::Parser;
use clap::error::ErrorKind;
use director_core::doveadm::change::Change;
use director_core::doveadm::{Exit, Severity, Verdict};

use crate::change::{add, change, change_each};
use crate::command_line::{Command, Line, Ring, without_director};
use crate::session::Session;

fn main() -> ExitCode {
    let (arguments, as_doveadm) = without_director(std::env::args_os().collect());
    let line = match Line::try_parse_from(arguments) {
        Ok(line) => line,
        Err(error) => {
            // Nothing can be done if even the terminal is gone.
            let _ = error.print();
            let exit = match error.kind() {
                ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => Exit::Success,
                _ => Exit::Usage,
            };
            return ExitCode::from(exit as u8);
        }
    };
    let mut session = Session::new(line.options, as_doveadm);
    if let Err(verdict) = run(&mut session, line.command) {
        session.report(&verdict);
    }
    ExitCode::from(session.exit() as u8)
}

fn run(session: &mut Session, command: Command) -> Result<(), Verdict> {
    match command {
        Command::Add { tag, host, vhosts } => add(session, tag.as_deref(), &host, vhosts),
        Command::Update { host, vhosts } => change_each(session, &host, |ip| Change::Update { ip, vhosts }),
        Command::Up { host } => change_each(session, &host, |ip| Change::Up { ip }),
        Command::Down { host } => change_each(session, &host, |ip| Change::Down { ip }),
        Command::Remove { host } => change_each(session, &host, |ip| Change::Remove { ip }),
        Command::Flush { forget: true, host, parallel } => {
            if parallel.max_parallel.is_some() {
                session.say(Severity::Warning, "--max-parallel means nothing with -F: nobody is moved");
            }
            match &*host {
                "all" => change(session, &Change::Forget { ip: None }),
                host => change_each(session, host, |ip| Change::Forget { ip: Some(ip) }),
            }
        }
        Command::Flush { forget: false, host, parallel } => {
            drain::flush(session, Some(&*host).filter(|host| *host != "all"), parallel.max_parallel)
        }
        Command::Drain { wait, force, parallel, host } => {
            drain::drain(session, &host, parallel.max_parallel, wait, force)
        }
        Command::Undrain { host, vhosts } => drain::undrain(session, &host, vhosts),
        Command::Move { hash, user, host } => {
            let hash = show::user_hash(session, &user, hash)?;
            let ips = session.addresses(&host)?;
            // A user has one backend: of a name with several addresses, the first.
            match ips.first() {
                Some(&ip) => change(session, &Change::Move { hash, ip }),
                None => Err(Verdict::error(Exit::TemporaryFailure, format!("{host} has no address"))),
            }
        }
        Command::Kick { field, user } => {
            let field = field.as_deref().map(OsStrExt::as_bytes);
            change(session, &Change::Kick { field, user: user.as_bytes() })
        }
        Command::Map { file, hash: true, argument, .. } => {
            show::map_hash(session, file.as_deref(), argument.as_deref())
        }
        Command::Map { user: true, argument, .. } => {
            show::map_user(session, argument.as_deref().unwrap_or_else(|| OsStr::new("")))
        }
        Command::Map { file, argument, .. } => show::map(session, file.as_deref(), argument.as_deref()),
        Command::Status { user: None, .. } => show::status(session),
        Command::Status { hash, user: Some(user), tag } => {
            show::user_status(session, &user, hash, tag.as_deref().unwrap_or_else(|| OsStr::new("")))
        }
        Command::Dump => show::dump(session),
        Command::Ring { command: Ring::Status } => show::ring_status(session),
        Command::Ring { command: Ring::Add { member } } => {
            change(session, &Change::RingAdd { ip: member.ip, port: member.port })
        }
        Command::Ring { command: Ring::Remove { member } } => {
            change(session, &Change::RingRemove { ip: member.ip, port: member.port })
        }
        Command::Watch { count } => watch::watch(session, count),
        Command::Generate { dir } => generate::generate(&dir),
    }
}
