//! Wire formats: one file a protocol, parse and print side by side.

pub mod admin;
mod arguments;
pub mod auth;
pub mod ipc;
pub mod line;
pub mod notify;
pub mod ring;

#[cfg(test)]
mod testing;
