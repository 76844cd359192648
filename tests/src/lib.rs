//! The director among the real programs: the ground that the tests of this package stand on.
//!
//! A test claims a [`Lab`] (a folder and a network of loopback addresses that nobody else has), starts a [`Ring`] of
//! directors of any mixture of [`Kind`]s in it, perhaps a [`Backend`] behind it, and talks to them with the small
//! blocking [`clients`]. Everything it started ends with it, also when it fails; then the logs are printed and kept.
//!
//! Three rules keep the tests worth their time: wait for a state and never for a time ([`wait_for`]); what is measured
//! is printed and never asserted; what cannot run here says so and is counted ([`requirements`]).
//!
//! # Environment
//!
//! * `DIRECTOR_TESTS_DAEMON`: which of our daemons to test, `director` (if nothing is said) or `director-std`. Where a
//!   test says [`Kind::Ours`], it is that one.
//! * `DIRECTOR_BINARY`: the file of the daemon to test, instead of the one that cargo builds.
//! * `DIRECTOR_TESTS_CALIBRATE=1`: real directors take the place of ours, to see that a test asks for nothing that the
//!   original does not do. Tests of what only ours does are skipped then.
//! * `DIRECTOR_TESTS_DEBIAN13`: the folder of the [`debian13`] with Dovecot 2.4, made if it is not there; else
//!   `target/debian13`.
//! * `DIRECTOR_TESTS_KEEP=1`: keep the folders of tests that passed, too.
//! * `DIRECTOR_TESTS_SKIPPED`: a file that gets a line for each skipped test.
//! * `CI=true`: a missing program is a failure.
#![forbid(unsafe_code)]

pub mod backend;
pub mod bench;
pub mod clients;
pub mod debian13;
pub mod director;
pub mod dovecot24;
pub mod lab;
pub mod network;
pub mod predict;
pub mod process;
pub mod requirements;
pub mod ring;
pub mod wait;

pub use backend::Backend;
pub use director::{Director, Kind, Logins, Plan};
pub use lab::Lab;
pub use requirements::Need;
pub use ring::Ring;
pub use wait::{LIMIT, wait_for};
