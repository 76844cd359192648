//! `director-std` as a process.

mod cases;

cases::tests!(env!("CARGO_BIN_EXE_director-std"));
