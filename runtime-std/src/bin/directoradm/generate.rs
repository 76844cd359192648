//! `generate`: completions and manual pages, from the definitions that the command line is parsed with.

use std::path::Path;

use clap::CommandFactory;
use director_core::doveadm::{Exit, Verdict};
use director_std::generate::write;

use crate::command_line::Line;
use crate::session::print;

/// Writes them into `dir`, and prints the names of the files.
pub(crate) fn generate(dir: &Path) -> Result<(), Verdict> {
    let files = write(dir, Line::command(), "1").map_err(|error| {
        Verdict::fatal(Exit::TemporaryFailure, format!("cannot write into {}: {error}", dir.display()))
    })?;
    print(&files.iter().map(|name| format!("{name}\n")).collect::<String>())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn every_command_has_a_page_and_every_shell_a_completion() {
        let dir = tempfile::tempdir().unwrap();
        let names = write(&dir.path().join("new"), Line::command(), "1").unwrap();
        for name in
            ["_directoradm", "directoradm.bash", "directoradm.fish", "directoradm.1", "directoradm-ring-status.1"]
        {
            assert!(names.iter().any(|file| file == name), "{name} of {names:?}");
        }
        assert!(!names.iter().any(|name| name.contains("help")), "{names:?}");
        for command in Line::command().get_subcommands() {
            let name = format!("directoradm-{}.1", command.get_name());
            let page = fs::read_to_string(dir.path().join("new").join(&name)).unwrap();
            assert!(page.contains(".SH SYNOPSIS"), "{name}");
        }
    }
}
