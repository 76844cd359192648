//! The state machine of a mail director.
//!
//! A director answers one question for the proxies of a mail cluster: *which backend serves this user now?* The
//! directors of a cluster form a ring and share one temporary map of users to backends. This crate is all of a
//! director that decides; it has no sockets, files, threads or clocks. `PROTOCOL.md` beside this crate describes the
//! protocols; doc comments refer to its chapters.
#![forbid(unsafe_code)]

mod admin;
mod connections;
pub mod contract;
pub mod director;
pub mod hash;
pub mod hosts;
mod kick;
mod login;
mod lookup;
mod moves;
mod ring;
pub mod settings;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
pub mod time;
mod timers;
pub mod users;
pub mod wire;

pub use contract::{Action, ConnectionId, Event, RECEIVE_MAX_BYTES, Role, Target};
pub use director::{Director, Reason};
pub use settings::Configuration;
pub use time::{Instant, Now};
