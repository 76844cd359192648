//! Reading a recording.

use std::net::IpAddr;

/// A connection between two directors, as one of them sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Peer {
    /// The other one.
    pub(crate) director: u8,
    /// Whether we connected.
    pub(crate) outgoing: bool,
}

/// What one director did or met.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum What {
    /// It wrote a line.
    Said(Peer, String),
    /// It read a line.
    Heard(Peer, String),
    /// It began to connect to another.
    Connecting(u8),
    /// That failed.
    ConnectFailed(u8),
    /// Another has connected to it.
    Accepted(u8),
    /// A connection has ended.
    Closed(Peer),
}

/// An event of a recording.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    /// When, since the first.
    pub(crate) micros: u64,
    /// To whom it happened.
    pub(crate) director: u8,
    /// What it was.
    pub(crate) what: What,
}

/// The events of a recording, in order. What was only logged is left out.
pub(crate) fn parse(text: &str) -> Vec<Entry> {
    let events = text.lines().skip_while(|line| !line.starts_with("# ms "));
    // In the first recording this line is the second; in the others it follows the commands.
    events.skip(1).filter(|line| !line.trim().is_empty()).filter_map(entry).collect()
}

fn entry(line: &str) -> Option<Entry> {
    let (millis, rest) = word(line);
    let (director, rest) = word(rest);
    let micros = (millis.parse::<f64>().unwrap_or_else(|_| panic!("no time: {line}")) * 1000.0) as u64;
    let director = director.parse().unwrap_or_else(|_| panic!("no director: {line}"));
    let (connection, rest) = word(rest);
    let what = if connection == "log" {
        logged(rest)?
    } else {
        let (direction, rest) = word(rest);
        let text = rest.replace("\\t", "\t");
        match direction {
            "->" => What::Said(peer(connection), text),
            "<-" => What::Heard(peer(connection), text),
            _ => panic!("no direction: {line}"),
        }
    };
    Some(Entry { micros, director, what })
}

fn logged(text: &str) -> Option<What> {
    let message = text.trim_start().strip_prefix("director: ")?.split_once(": ")?.1;
    if let Some(rest) = message.strip_prefix("Connecting to ") {
        return Some(What::Connecting(number(rest)));
    }
    let (name, message) = message.strip_prefix("director(")?.split_once("): ")?;
    if message.starts_with("connect() failed") {
        Some(What::ConnectFailed(number(name)))
    } else if message.starts_with("Incoming connection") {
        Some(What::Accepted(number(name)))
    } else if message.contains("disconnected: Connection closed") {
        Some(What::Closed(peer(name)))
    } else {
        None
    }
}

/// A name such as `127.0.1.2:9090/right` or `127.0.1.3/in`.
fn peer(name: &str) -> Peer {
    let kind = name.rsplit_once('/').unwrap_or_else(|| panic!("no connection: {name}")).1;
    Peer { director: number(name), outgoing: matches!(kind, "out" | "right") }
}

/// The director whose address the text begins with.
fn number(text: &str) -> u8 {
    let ip: IpAddr = text.split([':', '/', ' ']).next().unwrap().parse().unwrap_or_else(|_| panic!("no IP: {text}"));
    match ip {
        IpAddr::V4(ip) => ip.octets()[3],
        IpAddr::V6(_) => panic!("not a director of the recordings: {text}"),
    }
}

fn word(text: &str) -> (&str, &str) {
    let text = text.trim_start();
    text.split_once(' ').map_or((text, ""), |(word, rest)| (word, rest.trim_start()))
}
