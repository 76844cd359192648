//! What every runtime of the director needs from the machine, and nothing that decides.
//!
//! The core ([`director_core`]) has no sockets, files, clocks or names. This crate has them, and no thread or async
//! package, so that a daemon is only a way of waiting:
//!
//! | module | what it holds |
//! |---|---|
//! | [`command_line`] | the options of a daemon |
//! | [`configuration`] | settings from files, names to addresses, `--check` |
//! | [`logging`] | the log and its files |
//! | [`exit`] | exit codes |
//! | [`listeners`] | the sockets of `service director`, their files, and the watch over those |
//! | [`dialer`] | outgoing connections, and how long a missing peer is waited for |
//! | [`switchboard`] | the core and its connections, on non-blocking descriptors |
//! | [`signals`] | signals as a descriptor to wait for |
//! | [`process`] | clock, seed, and the limit of open files |
//! | [`daemon`] | how a daemon starts and reloads, up to the point where it waits |
//!
//! A runtime waits until a descriptor is ready, calls the [`Switchboard`], and carries out the [`Notice`]s that come
//! out of it. `director-std`, in this crate, does so with `poll(2)`; the crate `director-smol` does it with async-io.
//!
//! [`Switchboard`]: switchboard::Switchboard
//! [`Notice`]: switchboard::Notice
#![forbid(unsafe_code)]

pub mod command_line;
pub mod configuration;
pub mod daemon;
pub mod dialer;
pub mod exit;
pub mod listeners;
pub mod logging;
pub mod process;
pub mod script;
pub mod signals;
pub mod switchboard;
