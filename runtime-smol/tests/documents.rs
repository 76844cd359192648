//! What the documents say about the programs is so: every message is explained, every setting listed.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use director_core::settings::{Settings, setting_default, setting_names};
use director_std::configuration::DiskFiles;

fn document(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(name);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The sources of both daemons, without tests.
fn sources() -> Vec<(PathBuf, String)> {
    fn collect(folder: &Path, found: &mut Vec<(PathBuf, String)>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            if path.is_dir() {
                // The administration tool talks to whoever runs it.
                if name != "tests" && name != "directoradm" {
                    collect(&path, found);
                }
            } else if name.ends_with(".rs") && !name.ends_with("tests.rs") && name != "testing.rs" {
                let text = fs::read_to_string(&path).unwrap();
                let end = text
                    .find("#[cfg(test)]\nmod tests {")
                    .or_else(|| text.find("#[cfg(test)]\npub(crate) mod tests {"));
                found.push((path, text[..end.unwrap_or(text.len())].to_owned()));
            }
        }
    }
    let mut found = Vec::new();
    for folder in ["../core/src", "../runtime-std/src", "src"] {
        collect(&Path::new(env!("CARGO_MANIFEST_DIR")).join(folder), &mut found);
    }
    assert!(found.len() > 50, "all the sources are there");
    found
}

/// Reads a string literal that begins after its quote, as a document shows it: `…` for each placeholder.
fn literal(text: &str) -> String {
    let mut shown = String::new();
    let mut chars = text.chars().peekable();
    while let Some(char) = chars.next() {
        match char {
            '"' => break,
            '\\' => match chars.next() {
                Some('\n') => while chars.next_if(|char| char.is_whitespace()).is_some() {},
                Some(escaped) => shown.push(escaped),
                None => break,
            },
            '{' if chars.next_if_eq(&'{').is_some() => shown.push('{'),
            '}' if chars.next_if_eq(&'}').is_some() => shown.push('}'),
            '{' => {
                chars.by_ref().find(|char| *char == '}');
                shown.push('…');
            }
            _ => shown.push(char),
        }
    }
    shown
}

/// The messages that are logged at these levels, with their files. Some have no words of their own: a failure's text, say.
fn logged() -> Vec<(PathBuf, String)> {
    let mut messages = Vec::new();
    for (path, text) in sources() {
        for name in ["warn!(", "error!("] {
            for (at, _) in text.match_indices(name) {
                let Some(message) = text[at + name.len()..].trim_start().strip_prefix('"') else { continue };
                let message = literal(message);
                if message.contains(char::is_alphabetic) {
                    messages.push((path.clone(), message));
                }
            }
        }
    }
    assert!(messages.len() > 60, "{messages:?}");
    messages
}

/// The first column of all tables after a heading.
fn explained(document: &str, heading: &str) -> Vec<String> {
    let (_, rest) = document.split_once(heading).expect("the heading");
    let rows = rest.lines().filter_map(|line| line.strip_prefix("| `"));
    rows.map(|row| row.split_once('`').expect("a closing backtick").0.to_owned()).collect()
}

#[test]
fn every_warning_and_error_is_explained() {
    let explained: BTreeSet<String> = explained(&document("docs/trouble.md"), "\n## Messages\n").into_iter().collect();
    let missing: Vec<_> = logged().into_iter().filter(|(_, message)| !explained.contains(message)).collect();
    assert!(missing.is_empty(), "add to docs/trouble.md, with meaning and remedy: {missing:#?}");
}

#[test]
fn no_message_is_explained_that_is_not_there() {
    let mut literals = BTreeSet::new();
    for (_, text) in sources() {
        literals.extend(text.match_indices('"').map(|(at, _)| literal(&text[at + 1..])));
    }
    for message in explained(&document("docs/trouble.md"), "\n## Messages\n") {
        // Some are the beginning of a longer one.
        assert!(literals.iter().any(|literal| literal.starts_with(&message)), "{message} is nowhere in the sources");
    }
}

#[test]
fn every_row_has_a_meaning() {
    let text = document("docs/trouble.md");
    for row in text.lines().filter(|line| line.starts_with("| `")) {
        let cells: Vec<_> = row.trim_matches('|').split('|').map(str::trim).collect();
        assert!(cells.len() == 3 && cells.iter().all(|cell| !cell.is_empty()), "{row}");
    }
}

#[test]
fn the_table_of_settings_is_that_of_the_program() {
    let text = document("docs/settings.md");
    let (table, _) = text.split_once("\n## In `service director`").expect("the heading");
    let rows: Vec<(String, String)> = table
        .lines()
        .filter_map(|line| line.strip_prefix("| `"))
        .map(|row| {
            let cells: Vec<_> = row.split('|').map(|cell| cell.trim().trim_matches('`').to_owned()).collect();
            (cells[0].clone(), cells[1].clone())
        })
        .collect();
    let listed: Vec<_> = rows.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(listed, setting_names().collect::<Vec<_>>());
    for (name, default) in &rows {
        // As a variable it has Dovecot's default; but without it the log is under systemd's eyes.
        let expected = if name == "log_path" { Some("/dev/stderr") } else { setting_default(name) };
        assert_eq!(Some(default.as_str()), expected, "{name}");
    }
}

#[test]
fn links_between_the_documents_lead_somewhere() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs");
    for entry in fs::read_dir(&folder).unwrap() {
        let path = entry.unwrap().path();
        let text = fs::read_to_string(&path).unwrap();
        for (at, _) in text.match_indices("](") {
            let target = text[at + 2..].split([')', '#']).next().unwrap();
            assert!(folder.join(target).exists(), "{target} in {}", path.display());
        }
    }
}

#[test]
fn the_example_is_good() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("debian/director.conf");
    let settings = Settings::load(&path, &mut DiskFiles).unwrap();
    assert_eq!(settings.warnings, []);
    assert_eq!(settings.listeners.len(), 5);
}
