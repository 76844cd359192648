//! The words and options of the command line: those of `doveadm director`, and some more.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use director_core::doveadm::format::Format;
use director_core::doveadm::target::Target;

/// The table of exit codes, for `--help` and the manual.
const EXIT_CODES: &str = "\
Exit codes:
   0  done
  64  wrong command line
  68  the backend or director that was named is not there
  75  not done for any other reason (no connection, a refusal, the ring not synced): it may work later
  76  the other side does not speak as it should
  78  configuration error: the message names file, line and remedy";

/// Administer a ring of mail directors
///
/// Commands, options, output and exit codes are those of Dovecot 2.3's `doveadm director`: old scripts need no more than
/// `alias doveadm=directoradm`, since the word `director` before a command is accepted and means nothing.
#[derive(Debug, Parser)]
#[command(name = "directoradm", version, after_help = EXIT_CODES, subcommand_required = true, arg_required_else_help = true)]
pub(crate) struct Line {
    #[command(flatten)]
    pub(crate) options: Options,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What goes for every command.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct Options {
    /// Configuration file, which says where the director's socket is and how names are hashed
    /// [default: the first of /etc/dovecot/director.conf, /etc/director/director.conf, /etc/dovecot/dovecot.conf]
    #[arg(short = 'c', long = "config", value_name = "FILE", global = true)]
    pub(crate) config: Option<PathBuf>,
    /// Override a setting of the configuration
    #[arg(short = 'o', long = "option", value_name = "SETTING=VALUE", value_parser = setting, global = true)]
    pub(crate) overrides: Vec<String>,
    /// The director: the path of its admin socket, or host:port
    #[arg(short = 'a', long = "socket", value_name = "SOCKET", global = true)]
    pub(crate) socket: Option<Target>,
    /// How to print lists: table, tab, pager, flow or json
    #[arg(short = 'f', long = "format", value_name = "FORMAT", value_parser = str::parse::<Format>)]
    pub(crate) format: Option<Format>,
    /// Say on standard error what was done
    #[arg(short = 'v', long = "verbose", global = true)]
    pub(crate) verbose: bool,
    /// Also show what is sent and received
    #[arg(short = 'D', long = "debug", global = true)]
    pub(crate) debug: bool,
}

fn setting(text: &str) -> Result<String, String> {
    match text.split_once('=') {
        Some((name, _)) if !name.trim().is_empty() && !text.contains(['\n', '{', '}']) => Ok(text.to_owned()),
        _ => Err("write it as setting=value".to_owned()),
    }
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Add a backend, or change its weight
    Add {
        /// Put it into this pool (also: HOST@TAG)
        #[arg(short = 't', long)]
        tag: Option<String>,
        /// Address or name of the backend
        host: String,
        /// Its weight relative to others [default: 100]
        vhosts: Option<u32>,
    },
    /// Change a backend's weight
    Update {
        /// Address or name of the backend
        host: String,
        /// Its weight; with 0 it gets no more users
        vhosts: u32,
    },
    /// Let a backend have users again
    Up {
        /// Address or name of the backend
        host: String,
    },
    /// Let a backend have no more users; its weight is kept
    Down {
        /// Address or name of the backend
        host: String,
    },
    /// Remove a backend
    Remove {
        /// Address or name of the backend
        host: String,
    },
    /// Move users to the backends of their names' hashes
    Flush {
        /// Forget the users instead, and let their sessions be
        #[arg(short = 'F')]
        forget: bool,
        #[command(flatten)]
        parallel: Parallel,
        /// Address or name of the backend, or 'all'
        host: String,
    },
    /// Take a backend out of use: set its weight to 0, and move its users away
    ///
    /// The weight is remembered on this machine for 'undrain', and printed. The users go on being moved if this
    /// command is interrupted.
    Drain {
        /// Do not end before no user is left there
        #[arg(long)]
        wait: bool,
        /// Also if it is the last backend of its pool, so that its users can't log in any more
        #[arg(long)]
        force: bool,
        #[command(flatten)]
        parallel: Parallel,
        /// Address or name of the backend
        host: String,
    },
    /// Take a backend into use again, with the weight that it had
    ///
    /// Without WEIGHT it is the one that 'drain' found, if that was run on this machine by the same user, else 100.
    Undrain {
        /// Address or name of the backend
        host: String,
        /// The weight
        #[arg(value_name = "WEIGHT")]
        vhosts: Option<u32>,
    },
    /// Move a user to a backend
    Move {
        /// The user's name is given as its hash
        #[arg(long)]
        hash: bool,
        /// The user
        user: OsString,
        /// Address or name of the backend
        host: String,
    },
    /// End a user's sessions everywhere
    Kick {
        /// Compare this passdb field, instead of the user name
        #[arg(short = 'f', value_name = "PASSDB_FIELD")]
        field: Option<OsString>,
        /// The user
        user: OsString,
    },
    /// List users and their backends
    #[command(disable_help_flag = true)]
    Map {
        /// Take the users' names from this file, one a line, instead of asking Dovecot's auth
        #[arg(short = 'f', value_name = "USERS_FILE")]
        file: Option<PathBuf>,
        /// Print the names with the hash ARGUMENT
        #[arg(short = 'h', conflicts_with = "user")]
        hash: bool,
        /// Print the hash of the name ARGUMENT
        #[arg(short = 'u', requires = "argument")]
        user: bool,
        /// Address or name of a backend, to list only its users
        argument: Option<OsString>,
        /// Print help
        #[arg(long, action = clap::ArgAction::Help)]
        help: Option<bool>,
    },
    /// Show the backends, or where a user is, and why
    Status {
        /// The user's name is given as its hash
        #[arg(long, requires = "user")]
        hash: bool,
        /// The user
        user: Option<OsString>,
        /// The pool to look for the user in
        tag: Option<OsString>,
    },
    /// Print commands that make the backends what they are now
    Dump,
    /// Show or change the ring of directors
    Ring {
        #[command(subcommand)]
        command: Ring,
    },
    /// Show backends and ring, refreshed every second, with marks (*) at what has changed; Ctrl-C ends it
    Watch {
        /// End after so many times
        #[arg(long, value_name = "TIMES")]
        count: Option<u64>,
    },
    /// Write shell completions and manual pages into a folder
    Generate {
        /// The folder; it is made if it is not there
        dir: PathBuf,
    },
}

/// How many users are moved at once.
#[derive(Args, Clone, Copy, Debug, Default)]
pub(crate) struct Parallel {
    /// So many users are moved at a time [default: director_max_parallel_moves]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) max_parallel: Option<u32>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Ring {
    /// Add a director
    Add {
        #[command(flatten)]
        member: Member,
    },
    /// Remove a director
    Remove {
        #[command(flatten)]
        member: Member,
    },
    /// Show the directors and their connections
    Status,
}

/// A director of the ring.
#[derive(Args, Clone, Copy, Debug)]
pub(crate) struct Member {
    /// Its address
    pub(crate) ip: std::net::IpAddr,
    /// Its port in the ring [default: the same as that of the director that is asked]
    #[arg(value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) port: Option<u16>,
}

/// Takes out the word `director` before the command, as it stands there in old scripts; says whether it was there.
pub(crate) fn without_director(mut arguments: Vec<OsString>) -> (Vec<OsString>, bool) {
    let mut index = 1;
    while let Some(argument) = arguments.get(index) {
        let Some(text) = argument.to_str() else { break };
        if text == "director" {
            arguments.remove(index);
            return (arguments, true);
        }
        if !text.starts_with('-') || text == "--" {
            break;
        }
        // The last letter of a cluster may take the next word: -vf tab.
        let takes_next = match text.strip_prefix("--") {
            Some(long) => ["config", "option", "socket", "format"].contains(&long),
            None => {
                let letters = &text[1..];
                letters.find(['c', 'o', 'a', 'f']).is_some_and(|at| at + 1 == letters.len())
            }
        };
        index += if takes_next { 2 } else { 1 };
    }
    (arguments, false)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    fn parse(line: &str) -> Result<Line, clap::Error> {
        let words = std::iter::once("directoradm").chain(line.split_whitespace()).map(OsString::from).collect();
        Line::try_parse_from(without_director(words).0)
    }

    #[test]
    fn definitions_are_consistent() {
        Line::command().debug_assert();
    }

    /// Taken from real scripts and from doveadm's own usage texts.
    #[test]
    fn doveadms_command_lines_are_taken() {
        for line in [
            "director status",
            "director -v status",
            "-f tab director status -a /run/dovecot/director-admin",
            "-Dv -f flow director status jane blue",
            "-vf tab director status",
            "-f json ring status",
            "director ring status -a 10.0.0.1:9091",
            "-v director add -a /run/a -t blue 10.0.0.1 150",
            "director add 10.0.0.1@blue",
            "update 10.0.0.1 0",
            "up -a [::1]:9091 10.0.0.1",
            "down 10.0.0.1 -v",
            "remove ::1",
            "flush -F all",
            "flush --max-parallel 5 10.0.0.1",
            "flush --max-parallel=5 -a/run/a 10.0.0.1",
            "move jane 10.0.0.1",
            "kick -f user_alt x*y",
            "map",
            "map -f users.txt 10.0.0.1",
            "map -u jane",
            "map -f users.txt -h 1480892766",
            "map -h 5 -f users.txt",
            "dump -a /run/a",
            "ring add 10.0.0.1",
            "ring remove 10.0.0.1 9090",
            "-o base_dir=/x -c /etc/a.conf director status",
            "drain --wait 10.0.0.1",
            "undrain 10.0.0.1 50",
            "status director",
        ] {
            if let Err(error) = parse(line) {
                panic!("{line}: {error}");
            }
        }
    }

    #[test]
    fn wrong_command_lines_are_refused() {
        for line in [
            "",
            "foo",
            "ring",
            "add",
            "add 10.0.0.1 x",
            "add 10.0.0.1 100 5",
            "update 10.0.0.1",
            "update 10.0.0.1 -1",
            "status a b c",
            "status -x",
            "status -a nowhere",
            "map -u",
            "map -h -u 5",
            "map a b",
            "flush",
            "flush --max-parallel x 10.0.0.1",
            "ring add nosuch",
            "ring add 5",
            "ring add 10.0.0.1 0",
            "kick",
            "-f bogus status",
            "-o base_dir status",
            "director director status",
        ] {
            assert!(parse(line).is_err(), "{line}");
        }
    }

    #[test]
    fn the_word_director_is_taken_out_only_where_a_command_stands() {
        let strip = |line: &str| {
            let (words, found) = without_director(line.split(' ').map(OsString::from).collect());
            (words.into_iter().map(|word| word.into_string().unwrap()).collect::<Vec<_>>().join(" "), found)
        };
        assert_eq!(strip("doveadm -v -f tab director status"), ("doveadm -v -f tab status".to_owned(), true));
        assert_eq!(strip("d -f director director dump"), ("d -f director dump".to_owned(), true));
        assert_eq!(strip("d -ftab director dump"), ("d -ftab dump".to_owned(), true));
        assert_eq!(strip("d status director"), ("d status director".to_owned(), false));
        assert_eq!(strip("d -f"), ("d -f".to_owned(), false));
    }
}
