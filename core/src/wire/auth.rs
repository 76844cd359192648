//! Auth replies, as far as a director looks into them (login protocol).

use std::borrow::Cow;
use std::net::IpAddr;

/// The longest line from an auth server, in bytes.
pub const LINE_MAX_BYTES: usize = 16384;
/// The first line of an authreply client, with its LF.
pub const AUTHREPLY_CLIENT_VERSION_LINE: &[u8] = b"VERSION\tdirector-authreply-client\t1\t0\n";
/// The first line of an authreply server, with its LF.
pub const AUTHREPLY_SERVER_VERSION_LINE: &[u8] = b"VERSION\tdirector-authreply-server\t1\t0\n";

/// What a director needs to know of a positive auth reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply<'a> {
    /// The request's id as it stands in the line.
    pub id: &'a [u8],
    /// `destuser`, else `user`: whom to look up, before the master separator is taken off. Unescaped.
    pub username: Option<Cow<'a, [u8]>>,
    /// `proxy` or `proxy=…` is there.
    pub proxy: bool,
    /// `host=…` is there: somebody has decided already.
    pub has_host: bool,
    /// `director_tag=…`, empty if absent. Unescaped.
    pub tag: Cow<'a, [u8]>,
    /// `director_proxy_maybe` or `director_proxy_maybe=…` is there.
    pub proxy_maybe: bool,
    /// `lip=…`, the login process's own address. `Some(Err(text))` when it is no address (logged, then ignored).
    pub local_ip: Option<Result<IpAddr, String>>,
    /// `lport=…`
    pub local_port: Option<Result<u16, String>>,
    /// `port=…`
    pub port: Option<Result<u16, String>>,
}

impl<'a> Reply<'a> {
    /// Reads `COMMAND TAB id [TAB field]…` (without LF), where `command` is `OK` or `PASS`; `None` for any other line.
    pub fn parse(command: &[u8], line: &'a [u8]) -> Option<Self> {
        let _ = (command, line);
        unimplemented!()
    }
}

/// Appends `line` (without LF) with the backend added, and LF:
/// `… TAB proxy_refresh=<secs> TAB host=<ip>`, or for a host with a name `… TAB host=<name> TAB hostip=<ip>`.
pub fn write_with_host(line: &[u8], refresh_secs: u32, ip: IpAddr, hostname: Option<&[u8]>, out: &mut Vec<u8>) {
    let _ = (line, refresh_secs, ip, hostname, out);
    unimplemented!()
}

/// Appends `FAIL TAB id TAB code=temp_fail` and LF.
pub fn write_temporary_failure(id: &[u8], out: &mut Vec<u8>) {
    let _ = (id, out);
    unimplemented!()
}

/// Whether `line` (without LF) is an acceptable first line of an authreply client: this name and major version 1.
pub fn is_authreply_client_version_line(line: &[u8]) -> bool {
    let _ = line;
    unimplemented!()
}

/// The line for a log: every field that can hold a password or another secret (`pass`, `resp`, `final-resp-ok`, any
/// name that contains `pass` or `secret`, the base64 data of CONT) has its value replaced by `<hidden>`; control and
/// non-UTF-8 bytes are escaped.
pub fn printable(line: &[u8]) -> String {
    let _ = line;
    unimplemented!()
}
