//! `director demo`.

use std::process::ExitCode;

use director_std::exit::Exit;

/// Runs the demonstration; with `keep` it stays until it is interrupted.
pub(crate) fn run(keep: bool) -> ExitCode {
    let _ = keep;
    eprintln!("director: this build has no demonstration");
    Exit::Unavailable.into()
}
