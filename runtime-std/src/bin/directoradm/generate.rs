//! `generate`: completions and manual pages, from the definitions that the command line is parsed with.

use std::fs;
use std::io;
use std::path::Path;

use clap::CommandFactory;
use clap_complete::Shell;
use director_core::doveadm::{Exit, Verdict};

use crate::command_line::Line;
use crate::session::print;

/// Writes them into `dir`, and prints the names of the files.
pub(crate) fn generate(dir: &Path) -> Result<(), Verdict> {
    let files = write(dir).map_err(|error| {
        Verdict::fatal(Exit::TemporaryFailure, format!("cannot write into {}: {error}", dir.display()))
    })?;
    print(&files.iter().map(|name| format!("{name}\n")).collect::<String>())
}

fn write(dir: &Path) -> io::Result<Vec<String>> {
    fs::create_dir_all(dir)?;
    let mut command = Line::command();
    for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
        clap_complete::generate_to(shell, &mut command, "directoradm", dir)?;
    }
    // The pages of the word "help" would say nothing that the others do not.
    let command =
        Line::command().disable_help_subcommand(true).mut_subcommand("ring", |ring| ring.disable_help_subcommand(true));
    clap_mangen::generate_to(command, dir)?;
    let mut names = Vec::new();
    for entry in fs::read_dir(dir)? {
        names.push(entry?.file_name().to_string_lossy().into_owned());
    }
    names.sort();
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_has_a_page_and_every_shell_a_completion() {
        let dir = tempfile::tempdir().unwrap();
        let names = write(&dir.path().join("new")).unwrap();
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
