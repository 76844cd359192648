//! The state machine of a mail director.
//!
//! A director answers one question for the proxies of a mail cluster: *which backend serves this user now?* The
//! directors of a cluster form a ring and share one temporary map of users to backends. This crate is all of a
//! director that decides; it has no sockets, files, threads, clocks or randomness. `PROTOCOL.md` beside this crate
//! describes the protocols; doc comments refer to its chapters.
//!
//! # The contract with a runtime
//!
//! A runtime owns the sockets and the clocks. It tells a [`Director`] what has happened and does what it asks for:
//!
//! * **Events go in** by [`Director::accept`] and [`Director::handle`], each with the time, [`Now`]. Bytes go in as they
//!   come from a socket, at most [`RECEIVE_MAX_BYTES`] at once: the core finds the lines.
//! * **Actions come out** by [`Director::poll_action`], until it gives `None`. Ask after every call that may have caused
//!   some: `new`, `accept` and `handle`.
//! * **Output is pulled.** [`Action::Write`] says that a connection has something to say; from then on the runtime calls
//!   [`Director::poll_output`] whenever the socket can take bytes, reports with [`Event::Written`] how many it took, and
//!   goes on until there is nothing left. A slow peer costs its own backlog and nothing else, and a hand-over of
//!   millions of users is produced as the socket drains.
//! * **One deadline.** [`Director::next_timeout`] says when to call `handle` with [`Event::Tick`], and why. It may have
//!   moved after any call. A deadline is disarmed before it fires: after a tick the next one lies in the future.
//! * **Every connection ends once**: with [`Event::Closed`], or with [`Event::ConnectFailed`] if it was never made.
//!   [`Action::Close`] and [`Action::Abort`] are answered with `Closed` as well.
//! * **Work per call is bounded**: by the bytes of one event, or by a batch size, after which the deadline is near.
//! * **It is deterministic**: the same seed and the same calls give the same actions and the same bytes.
//!
//! Neither clock is trusted: differences saturate, and clocks that go backwards are survived. Whatever bytes come in,
//! the worst is a log line and a closed connection.
//!
//! The smallest runtime has one director, no sockets, and a client that asks once:
//!
//! ```
//! use director_core::settings::{Configuration, ConfiguredHost, Tuning};
//! use director_core::{Action, Director, Event, Instant, Now, Role};
//!
//! let configuration = Configuration {
//!     self_address: "127.0.0.1:0".parse().unwrap(), // standalone: a ring of its own
//!     members: Vec::new(),
//!     hosts: vec![ConfiguredHost { ip: "192.0.2.1".parse().unwrap(), hostname: None, tag: Box::default() }],
//!     tuning: Tuning::default(),
//! };
//! let now = Now { instant: Instant::from_micros(0), unix_secs: 1_700_000_000 };
//! let mut director = Director::new(configuration, 42, now);
//!
//! // A socket of the authreply role has accepted somebody, who says this:
//! let client = director.accept(Role::AuthReply, None, now);
//! let bytes = b"VERSION\tdirector-authreply-client\t1\t0\nOK\t1\tuser=jane\tproxy\n";
//! director.handle(Event::Received { connection: client, bytes }, now);
//!
//! // The loop of a runtime: do what is asked, pull what is to be written.
//! let mut written = Vec::new();
//! while let Some(action) = director.poll_action() {
//!     match action {
//!         Action::Write { connection } => loop {
//!             let output = director.poll_output(connection, now);
//!             if output.is_empty() {
//!                 break;
//!             }
//!             let taken = output.len(); // what the socket took; less if it is full
//!             written.extend_from_slice(&output[..taken]);
//!             director.handle(Event::Written { connection, bytes: taken }, now);
//!         },
//!         // It looks for what it can end sessions through; here is no Dovecot.
//!         Action::Connect { connection, .. } => {
//!             director.handle(Event::ConnectFailed { connection, error: "No such file or directory" }, now);
//!         }
//!         other => panic!("a standalone director asks for nothing else here: {other:?}"),
//!     }
//! }
//! assert_eq!(
//!     written,
//!     b"VERSION\tdirector-authreply-server\t1\t0\nOK\t1\tuser=jane\tproxy\tproxy_refresh=450\thost=192.0.2.1\n"
//! );
//! // Then it sleeps until a socket is ready or this has come:
//! let (deadline, _why) = director.next_timeout().expect("the user will expire");
//! assert!(deadline > now.instant);
//! ```
//!
//! # Logging
//!
//! By the `log` crate. *error*: an operator must act. *warn*: looks wrong, but was handled. *info*: changes of members and
//! state. *debug*: every line in and out, without passwords; user names appear only here.
#![forbid(unsafe_code)]

mod admin;
mod connections;
pub mod contract;
pub mod director;
pub mod doveadm;
mod flush;
pub mod hash;
pub mod hosts;
mod kick;
mod kill_tokens;
mod login;
mod lookup;
mod moves;
mod resets;
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

pub use contract::{Action, ConnectionId, Event, FlushTarget, RECEIVE_MAX_BYTES, Role, Target};
pub use director::{Director, Reason};
pub use settings::Configuration;
pub use time::{Instant, Now};

/// Whether this core was built with one of the deliberate bugs that the simulator must find: no daemon may have it.
pub const IS_CANARY: bool = cfg!(feature = "canary");
