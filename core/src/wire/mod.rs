//! Wire formats: one file a protocol, parse and print side by side.

pub mod admin;
pub mod auth;
pub mod ipc;
pub mod line;
pub mod ring;
