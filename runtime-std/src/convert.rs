//! `convert`: from a configuration of Dovecot 2.3 to a director.conf and lines for Dovecot 2.4.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use director_core::settings::Conversion;

use crate::configuration::{DEFAULT_FILES, DiskFiles};
use crate::exit::{Exit, Failure};

/// The options of `convert`.
#[derive(Args, Clone, Debug)]
pub struct Convert {
    /// The dovecot.conf of Dovecot 2.3; what it includes is read too
    #[arg(value_name = "DOVECOT.CONF")]
    pub from: PathBuf,
    /// The director.conf to write; '-' prints it, too
    #[arg(short, long, value_name = "FILE", default_value = DEFAULT_FILES[0])]
    pub output: PathBuf,
    /// Write the file even if it is there
    #[arg(long)]
    pub force: bool,
}

/// Writes the director.conf and prints the lines for Dovecot 2.4.
pub fn run(options: &Convert) -> ExitCode {
    match convert(options, &mut io::stdout().lock()) {
        Ok(warnings) => {
            for warning in warnings {
                eprintln!("director: {warning}");
            }
            Exit::Success.into()
        }
        Err(failure) => {
            eprintln!("director: {failure}");
            failure.exit.into()
        }
    }
}

/// What is worth a warning comes back.
fn convert(options: &Convert, out: &mut impl Write) -> Result<Vec<String>, Failure> {
    let conversion = Conversion::of(&options.from, &mut DiskFiles)?;
    let printed = if options.output == Path::new("-") {
        write!(out, "{}\n{}", conversion.director_conf, conversion.dovecot_conf)
    } else {
        write(options, &conversion.director_conf)?;
        write!(out, "{}", conversion.dovecot_conf)
    };
    printed.map_err(|error| Failure::new(Exit::CannotCreate, format!("standard output: {error}")))?;
    Ok(conversion.warnings.iter().map(ToString::to_string).collect())
}

fn write(options: &Convert, text: &str) -> Result<(), Failure> {
    let path = &options.output;
    let mut open = OpenOptions::new();
    // There are no secrets in it, and doveadm's users may want to look.
    open.write(true).mode(0o644);
    if options.force {
        open.create(true).truncate(true);
    } else {
        open.create_new(true);
    }
    let failed = |error: io::Error| {
        let exit = match error.kind() {
            io::ErrorKind::PermissionDenied => Exit::NoPermission,
            _ => Exit::CannotCreate,
        };
        let hint = match error.kind() {
            io::ErrorKind::AlreadyExists => " (--force replaces it, -o names another)",
            _ => "",
        };
        Failure::new(exit, format!("cannot write {}: {error}{hint}", path.display()))
    };
    open.open(path).and_then(|mut file| file.write_all(text.as_bytes())).map_err(failed)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_file_is_written_once_and_the_rest_printed() {
        let folder = tempfile::tempdir().unwrap();
        let from = folder.path().join("dovecot.conf");
        fs::write(&from, "!include conf.d/*.conf\ndirector_mail_servers = 10.0.0.1\n").unwrap();
        fs::create_dir(folder.path().join("conf.d")).unwrap();
        let service = "service director {\n  unix_listener login/director {\n    mode = 0666\n  }\n}\n";
        fs::write(folder.path().join("conf.d/10.conf"), service).unwrap();
        let output = folder.path().join("director.conf");
        let mut options = Convert { from, output: output.clone(), force: false };
        let mut printed = Vec::new();
        let warnings = convert(&options, &mut printed).unwrap();
        assert!(warnings[0].contains("conf.d/10.conf:2: login/director becomes login/ext/director"), "{warnings:?}");
        let printed = String::from_utf8(printed).unwrap();
        assert!(printed.contains("executable = imap-login ext/director"), "{printed}");
        let written = fs::read_to_string(&output).unwrap();
        assert!(written.contains("director_mail_servers = 10.0.0.1\n"), "{written}");

        let failure = convert(&options, &mut Vec::new()).unwrap_err();
        assert!(failure.exit == Exit::CannotCreate && failure.message.contains("--force"), "{failure}");
        options.force = true;
        convert(&options, &mut Vec::new()).unwrap();
        assert_eq!(fs::read_to_string(&output).unwrap(), written);

        options.output = "-".into();
        let mut printed_all = Vec::new();
        convert(&options, &mut printed_all).unwrap();
        assert_eq!(String::from_utf8(printed_all).unwrap(), format!("{written}\n{printed}"));

        options.from = "/nonexistent/dovecot.conf".into();
        assert_eq!(convert(&options, &mut Vec::new()).unwrap_err().exit, Exit::Configuration);
    }
}
