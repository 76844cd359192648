//! Benches: the same load on the original and on ours, in the same run, on the same machine.
//!
//! A figure of one alone says more about the machine than about the program; only the ratio travels. So every load
//! runs on both, in turns ([`rounds`](figures::rounds)), and the [`Table`] says where that was. What a bench prints is
//! never asserted; what would make its figures wrong is (a kick that failed, a user on the wrong backend).

pub mod auth_server;
pub mod backends;
pub mod drain;
pub mod figures;
pub mod footprint;
pub mod ipc;
pub mod join;
pub mod load;
pub mod logins;
pub mod lookups;
pub mod neighbours;
pub mod one_core;
pub mod place;
pub mod population;
pub mod table;
pub mod updates;
pub mod usage;

pub use figures::Figures;
pub use table::Table;

use crate::director::Kind;
use crate::requirements::Need;

/// The original and ours.
pub const KINDS: [Kind; 2] = [Kind::Dovecot, Kind::Ours];

/// What a bench of both needs of the machine.
pub const NEEDS: [Need; 2] = [Need::Dovecot, Need::OurDirector];
