//! The production director.

fn main() {}
