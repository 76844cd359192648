//! `director` as a process: the cases that are every daemon's.

#[path = "../../runtime-std/tests/daemon/cases.rs"]
mod cases;

cases::tests!(env!("CARGO_BIN_EXE_director"));
