//! Our directors and the original's, with real login processes, doveadm and backends. One program, so that all its
//! tests, which mostly wait, run beside each other.

mod admin_commands;
mod bad_input;
mod both_daemons;
mod daemon;
mod directoradm;
mod disturbances;
mod doveadm;
mod dovecot24;
mod moves;
mod privileges;
mod proxy;
mod ring_members;
mod ring_operations;
mod ring_start;
mod submission;
mod upgrade;
