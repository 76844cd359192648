//! What every runtime of the director needs from the machine, and nothing that decides.
//!
//! The core ([`director_core`]) has no sockets, files, clocks or names. This crate has them, and no thread or async
//! package, so that a daemon is only a way of waiting:
//!
//! | module | what it holds |
//! |---|---|
//! | [`command_line`] | the options of a daemon |
//! | [`configuration`] | settings from files, names to addresses, `--check` |
//! | [`convert`] | from a configuration of Dovecot 2.3 to a director.conf |
//! | [`generate`] | completions and manual pages |
//! | [`logging`] | the log and its files |
//! | [`exit`] | exit codes |
//! | [`listeners`] | the sockets of `service director`, their files, and the watch over those |
//! | [`opener`] | how files are opened by a daemon that is root no more |
//! | [`privileges`] | how it stops being root |
//! | [`dialer`] | outgoing connections, and how long a missing peer is waited for |
//! | [`script`] | flush scripts that are programs |
//! | [`switchboard`] | the core and its connections, on non-blocking descriptors |
//! | [`signals`] | signals as a descriptor to wait for |
//! | [`work`] | what blocks, on threads of its own |
//! | [`process`] | clock, seed, and the limit of open files |
//! | [`daemon`] | all of it together: a daemon but for the waiting |
//! | [`rounds`] | what it does with all that is ready |
//!
//! A runtime waits until one of the descriptors of [`Rounds`] is ready or the next timeout has come, and begins the next
//! round. `director-std`, in this crate, does so with `epoll(7)` on one thread; the crate `director-smol` does it with smol's
//! reactor and timers.
//!
//! [`Rounds`]: rounds::Rounds
// One call, in `memory`.
#![deny(unsafe_code)]

pub mod command_line;
pub mod configuration;
pub mod convert;
pub mod daemon;
pub mod dialer;
pub mod exit;
pub mod generate;
pub mod listeners;
pub mod logging;
mod memory;
pub mod opener;
mod poller;
pub mod privileges;
pub mod process;
pub mod rounds;
pub mod script;
pub mod signals;
pub mod switchboard;
pub mod work;

const _: () = assert!(!director_core::IS_CANARY, "a daemon must not be built with a deliberate bug in its core");
