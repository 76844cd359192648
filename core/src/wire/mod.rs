//! Wire formats: one file a protocol, parse and print side by side.

pub mod admin;
pub mod anvil;
mod arguments;
pub mod auth;
pub mod ipc;
pub mod line;
pub mod notify;
pub mod ring;

pub(crate) use arguments::Text;

#[cfg(test)]
mod testing;
