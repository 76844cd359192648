//! Whole rings of directors on a virtual network, from one seed.
//!
//! A run puts real cores ([`director_core::Director`]) on virtual machines and plays their runtime: it gives them
//! connections, bytes in chunks of any size, and a clock, and does what they want done. Around them are model login
//! processes and operators. Connections break, machines lose power, the network parts: all that follows from the seed
//! ([`plan`]), and so does every run, to the byte. What must hold is in [`invariants`], which ask the directors what
//! an administrator could ask, and look at nothing inside them.
#![forbid(unsafe_code)]

pub mod clients;
pub mod invariants;
pub mod ipc;
pub mod many;
pub mod messages;
pub mod network;
pub mod operators;
pub mod plan;
pub mod random;
pub mod relays;
pub mod report;
pub mod scale;
pub mod scripts;
pub mod shrink;
pub mod timeline;
pub mod trace;
pub mod views;
pub mod world;

pub use plan::{Fault, Faults, Fixed, Plan, Strikes};
pub use report::Outcome;
pub use trace::Keep;
pub use world::run;
pub use world::scenario::{Guest, Scenario};
