//! `status USER`: where a user is, where he would be, and why.

use super::answers::LookupAnswer;
use super::format::Column;
use super::lists::LocalTime;
use super::{Exit, Verdict};
use crate::hash::IpText;

/// `status USER` in a format
pub const LOOKUP_COLUMNS: &[Column] =
    &[Column::new("status"), Column::new("expires"), Column::new("hashed"), Column::new("initial-config").expanding()];

/// Reads the answer to USER-LOOKUP.
///
/// # Errors
/// It is no such answer.
pub fn read(line: &[u8]) -> Result<LookupAnswer, Verdict> {
    LookupAnswer::parse(line).ok_or_else(|| Verdict::error(Exit::Protocol, "Invalid reply from director"))
}

/// The cells of the answer.
pub fn cells(answer: &LookupAnswer, time: LocalTime<'_>) -> Vec<String> {
    let (current, expires) = match answer.current {
        Some((ip, expires_secs)) => (IpText(ip).to_string(), time(expires_secs)),
        None => ("n/a".to_owned(), "-1".to_owned()),
    };
    let backend = |ip: Option<_>| ip.map(|ip| IpText(ip).to_string()).unwrap_or_default();
    vec![current, expires, backend(answer.hashed), backend(answer.initial)]
}

/// The answer in words: three lines as doveadm prints them, and one that says why.
pub fn text(answer: &LookupAnswer, tag: &[u8], time: LocalTime<'_>) -> String {
    let [current, expires, hashed, initial] =
        <[String; 4]>::try_from(cells(answer, time)).expect("there are four columns");
    let why = why(answer, tag, time);
    format!("Current: {current} (expires {expires})\nHashed: {hashed}\nInitial config: {initial}\nWhy: {why}\n")
}

fn why(answer: &LookupAnswer, tag: &[u8], time: LocalTime<'_>) -> String {
    let pool = if tag.is_empty() { String::new() } else { format!(" with tag {}", super::printable(tag)) };
    let hashed = answer.hashed.map(IpText);
    match (answer.current, hashed) {
        (None, Some(hashed)) => {
            format!("no session known: the next login goes to {hashed}, the backend of the name's hash{pool}")
        }
        (None, None) => format!("no backend{pool} takes users: logins fail"),
        (Some((ip, _)), Some(hashed)) if ip == hashed.0 => {
            format!("{} is the backend of the name's hash{pool}", IpText(ip))
        }
        (Some((ip, expires_secs)), hashed) => {
            let then = match hashed {
                Some(hashed) => format!("then by hash to {hashed}"),
                None => format!("then nowhere: no backend{pool} takes users"),
            };
            // The protocol tells a move by hand and a change of backends no further apart than this.
            format!(
                "moved by hand, or at {} since before the backends changed; until {} (later if still in use), {then}",
                IpText(ip),
                time(expires_secs)
            )
        }
    }
}
