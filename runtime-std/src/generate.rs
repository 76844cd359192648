//! `generate`: completions and manual pages, from the definitions that a command line is parsed with.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Command};
use clap_complete::Shell;
use clap_mangen::Man;

use crate::exit::Exit;

/// The options of `generate`.
#[derive(Args, Clone, Debug)]
pub struct Generate {
    /// The folder to write them into; it is made
    #[arg(value_name = "FOLDER")]
    pub dir: PathBuf,
}

/// `generate` of a daemon: writes the files and prints their names.
pub fn run(options: &Generate, command: Command) -> ExitCode {
    match write(&options.dir, command, "8") {
        Ok(names) => {
            names.iter().for_each(|name| println!("{name}"));
            Exit::Success.into()
        }
        Err(error) => {
            eprintln!("director: cannot write into {}: {error}", options.dir.display());
            Exit::CannotCreate.into()
        }
    }
}

/// Writes the completions of a program, and a page in this section of the manual for it and each of its commands. Gives
/// back the names of the files, sorted.
///
/// # Errors
/// The system's.
pub fn write(dir: &Path, mut command: Command, section: &str) -> io::Result<Vec<String>> {
    fs::create_dir_all(dir)?;
    let mut names = Vec::new();
    let program = command.get_name().to_owned();
    // The pages of the word "help" would say nothing that the others do not. To be said before anything builds it.
    let mut for_pages = without_help(command.clone());
    for_pages.build();
    for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
        let path = clap_complete::generate_to(shell, &mut command, &program, dir)?;
        names.extend(path.file_name().map(|name| name.to_string_lossy().into_owned()));
    }
    pages(dir, &for_pages, section, &mut names)?;
    names.sort();
    Ok(names)
}

fn without_help(command: Command) -> Command {
    command.disable_help_subcommand(true).mut_subcommands(without_help)
}

fn pages(dir: &Path, command: &Command, section: &str, names: &mut Vec<String>) -> io::Result<()> {
    let title = command.get_display_name().unwrap_or_else(|| command.get_name()).to_owned();
    let name = format!("{title}.{section}");
    let mut page = Vec::new();
    Man::new(command.clone()).title(title).section(section).render(&mut page)?;
    fs::write(dir.join(&name), page)?;
    names.push(name);
    let commands = command.get_subcommands().filter(|command| !command.is_hide_set());
    for command in commands {
        pages(dir, command, section, names)?;
    }
    Ok(())
}
