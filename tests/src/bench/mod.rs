//! Benches: the same load on the original and on ours, in the same run, on the same machine.
//!
//! A figure of one alone says more about the machine than about the program; only the ratio travels. So every load
//! runs on both, in turns ([`rounds`](figures::rounds)), and the [`Table`] says where that was. What a bench prints is
//! never asserted; what would make its figures wrong is (a kick that failed, a user on the wrong backend).

pub mod drain;
pub mod figures;
pub mod ipc;
pub mod place;
pub mod population;
pub mod table;

pub use figures::Figures;
pub use table::Table;
