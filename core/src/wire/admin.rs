//! The admin protocol, "director-doveadm" 1.0 (admin protocol).

use std::borrow::Cow;
use std::net::IpAddr;

/// The line that both sides send first, with its LF.
pub const VERSION_LINE: &[u8] = b"VERSION\tdirector-doveadm\t1\t0\n";
/// The longest line a client may send, in bytes. The original takes 1024.
pub const LINE_MAX_BYTES: usize = 1024;

/// What an administrator may ask.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the fields are the arguments in the variant's grammar")]
pub enum Command<'a> {
    /// `HOST-LIST`
    HostList,
    /// `HOST-LIST-REMOVED`
    HostListRemoved,
    /// `DIRECTOR-LIST`
    DirectorList,
    /// `DIRECTOR-ADD ip [port]`
    DirectorAdd { ip: IpAddr, port: Option<u16> },
    /// `DIRECTOR-REMOVE ip [port]`
    DirectorRemove { ip: IpAddr, port: Option<u16> },
    /// `HOST-SET ip[@tag] [vhosts]`
    HostSet { ip: IpAddr, tag: Option<Cow<'a, [u8]>>, vhosts: Option<u32> },
    /// `HOST-UPDATE ip vhosts`
    HostUpdate { ip: IpAddr, vhosts: u32 },
    /// `HOST-UP ip`
    HostUp { ip: IpAddr },
    /// `HOST-DOWN ip`
    HostDown { ip: IpAddr },
    /// `HOST-REMOVE ip`
    HostRemove { ip: IpAddr },
    /// `HOST-FLUSH [ip]`
    HostFlush { ip: Option<IpAddr> },
    /// `HOST-RESET-USERS [ip [max-parallel]]`
    HostResetUsers { ip: Option<IpAddr>, max_parallel: Option<u32> },
    /// `USER-LOOKUP name-or-hash [tag]`; no argument reads as the empty name
    UserLookup { user: Cow<'a, [u8]>, tag: Cow<'a, [u8]> },
    /// `USER-LIST [ip]`
    UserList { ip: Option<IpAddr> },
    /// `USER-MOVE name-or-hash ip`
    UserMove { user: Cow<'a, [u8]>, ip: IpAddr },
    /// `USER-KICK name [nowait]`
    UserKick { username: Cow<'a, [u8]>, nowait: bool },
    /// `USER-KICK-ALT field value [nowait]`
    UserKickAlt { field: Cow<'a, [u8]>, value: Cow<'a, [u8]>, nowait: bool },
}

/// Why a line is not a command. `Display` is for the log and the client; it never holds raw control bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommandError {/* H1: command name, what is wrong */}

impl std::fmt::Display for CommandError {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let _ = formatter;
        unimplemented!()
    }
}

impl std::error::Error for CommandError {}

impl<'a> Command<'a> {
    /// Reads one command line, without its LF.
    ///
    /// # Errors
    /// [`CommandError`] for an unknown command or invalid parameters.
    pub fn parse(line: &'a [u8]) -> Result<Self, CommandError> {
        let _ = line;
        unimplemented!()
    }

    /// Appends the command with its LF, as a client sends it.
    pub fn write(&self, out: &mut Vec<u8>) {
        let _ = out;
        unimplemented!()
    }
}

/// Whether `line` (without LF) is an acceptable first line: this name and major version 1.
pub fn is_version_line(line: &[u8]) -> bool {
    let _ = line;
    unimplemented!()
}
