//! Walks through a configuration file and all that it includes: sections, variables, files.
//!
//! What the settings mean is [`Draft`]'s business. What is bounded here is what a file could blow up: includes (depth
//! and number) and variables (which could double their length with every line). Nesting costs a few bytes a level.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::draft::{Draft, ListenerKind};
use super::surroundings::Surroundings;
use super::syntax::{self, LogicalLine, LogicalLines, Piece, Statement, Value};
use super::{Files, Place, Settings, SettingsError};

/// Includes within includes. Dovecot's own examples have three levels.
const INCLUDE_DEPTH_MAX: usize = 32;

/// Includes in all: a few files that include each other's neighbours twice would otherwise be read 2^32 times.
const INCLUDES_MAX: usize = 10_000;

/// What all variables together may put in. A real configuration stays under some kilobytes.
const EXPANDED_BYTES_MAX: usize = 16 << 20;

/// Reads a configuration file and all that it includes.
pub(super) fn read(path: &Path, files: &mut dyn Files) -> Result<(Settings, Surroundings), SettingsError> {
    let whole = Place { file: path.to_owned(), line: 0 };
    let mut reader = Reader {
        files,
        reading: Vec::new(),
        includes: 0,
        sections: Vec::new(),
        variables: BTreeMap::new(),
        expanded_bytes: 0,
        draft: Draft::new(&whole),
        around: Surroundings::default(),
    };
    let bytes = reader.files.read(path).map_err(|reason| unreadable(path, &reason, &whole))?;
    reader.file(path, &bytes)?;
    if let Some(section) = reader.sections.last() {
        return Err(error(&section.place, "this section has no '}'", "write '}' on a line of its own where it ends"));
    }
    Ok((reader.draft.finish()?, reader.around))
}

struct Reader<'f> {
    files: &'f mut dyn Files,
    /// The file that is being read, after those that include it.
    reading: Vec<PathBuf>,
    includes: usize,
    sections: Vec<Section>,
    /// What each setting outside of all sections was last set to; `None` = to something that is none of our business
    /// and that we could not find out.
    variables: BTreeMap<Vec<u8>, Option<Vec<u8>>>,
    expanded_bytes: usize,
    draft: Draft,
    around: Surroundings,
}

/// A section that is open.
struct Section {
    scope: Scope,
    kind: Vec<u8>,
    name: Vec<u8>,
    place: Place,
}

/// What settings at this point are about.
#[derive(Clone, Copy)]
enum Scope {
    /// Outside of all sections.
    Top,
    /// In `service director`.
    Service,
    /// In one of its listeners.
    Listener(usize),
    /// In a section that does not concern us: another service, or a filter such as `protocol imap`, which never
    /// applies to a director.
    Elsewhere,
}

impl Reader<'_> {
    fn file(&mut self, path: &Path, bytes: &[u8]) -> Result<(), SettingsError> {
        self.reading.push(path.to_owned());
        let mut place = Place { file: path.to_owned(), line: 0 };
        for line in LogicalLines::new(bytes) {
            place.line = line.number;
            self.line(&line, &place)?;
        }
        self.reading.pop();
        Ok(())
    }

    fn line(&mut self, line: &LogicalLine, place: &Place) -> Result<(), SettingsError> {
        let scope = self.scope();
        if line.forgotten {
            let end = line.text.iter().position(|byte| matches!(byte, b' ' | b'\t' | b'='));
            if concerns_us(scope, &line.text[..end.unwrap_or(line.text.len())]) {
                let message = "the line ends in '\\', but no line goes on with it: Dovecot forgets such a setting";
                return Err(error(place, message, "remove the '\\', or the empty line or comment after it"));
            }
            return Ok(());
        }
        let statement = syntax::statement(&line.text).map_err(|wrong| error(place, wrong.message, wrong.remedy))?;
        match statement {
            Statement::Setting { key, value } => {
                if line.glued_comment && concerns_us(scope, key) {
                    let message = "the '#' begins a comment, though there is no space before it";
                    self.draft.warn(place, message, "put a space before the '#', or the value between quotes");
                }
                self.setting(scope, key, value, place)
            }
            Statement::Open { kind, name } => self.open(scope, kind, name, place),
            Statement::Close => match self.sections.pop() {
                Some(_) => Ok(()),
                None => Err(error(place, "there is no section that this '}' could end", "remove it")),
            },
            Statement::Include { pattern, optional } => self.include(pattern, optional, place),
        }
    }

    fn scope(&self) -> Scope {
        self.sections.last().map_or(Scope::Top, |section| section.scope)
    }

    fn open(&mut self, outer: Scope, kind: &[u8], name: &[u8], place: &Place) -> Result<(), SettingsError> {
        let scope = match (outer, kind) {
            (Scope::Top, b"service") if name == b"director" => Scope::Service,
            (Scope::Service, _) => match ListenerKind::of(kind) {
                Some(kind) => Scope::Listener(self.draft.open_listener(kind, utf8(name, place)?, place)),
                None => {
                    let message = format!("service director has no section '{}'", kind.escape_ascii());
                    self.draft.warn(place, message, "it is not read; listeners are unix_, fifo_ and inet_listener");
                    Scope::Elsewhere
                }
            },
            _ => Scope::Elsewhere,
        };
        self.sections.push(Section { scope, kind: kind.to_vec(), name: name.to_vec(), place: place.clone() });
        Ok(())
    }

    fn setting(&mut self, scope: Scope, key: &[u8], value: Value<'_>, place: &Place) -> Result<(), SettingsError> {
        self.look_around(key, &value, place)?;
        if !concerns_us(scope, key) {
            if let Scope::Top = scope {
                // Perhaps one of ours refers to it.
                let value = self.foreign_value(value, place)?;
                self.variables.insert(key.to_vec(), value);
            }
            return Ok(());
        }
        let key = utf8(key, place)?;
        let value = self.value(value, place)?;
        let text = utf8(&value, place)?;
        match scope {
            Scope::Top => {
                self.draft.set(key, text, place)?;
                self.variables.insert(key.as_bytes().to_vec(), Some(value));
                Ok(())
            }
            Scope::Service => {
                self.draft.set_service(key, text, place);
                Ok(())
            }
            Scope::Listener(listener) => self.draft.set_listener(listener, key, text, place),
            Scope::Elsewhere => Ok(()),
        }
    }

    /// Notes what the file says about the Dovecot around the director.
    fn look_around(&mut self, key: &[u8], value: &Value<'_>, place: &Place) -> Result<(), SettingsError> {
        // Nothing of interest stands deeper.
        let wanted = match self.sections.as_slice() {
            [] => Surroundings::wants(None, key),
            [section] => Surroundings::wants(Some(section.kind.as_slice()), key),
            _ => false,
        };
        if wanted && let Some(value) = self.foreign_value(value.clone(), place)? {
            let name = self.sections.first().map_or(&[][..], |section| section.name.as_slice());
            self.around.note(name, key, &value);
        }
        Ok(())
    }

    /// The value of a setting that concerns us: all that it refers to must be there.
    fn value(&mut self, value: Value<'_>, place: &Place) -> Result<Vec<u8>, SettingsError> {
        match value {
            Value::Literal(text) => Ok(text.into_owned()),
            Value::Plain(text) => self.expand(text, place)?.map_err(|name| {
                let name = name.escape_ascii();
                let message = format!("no setting named '{name}' was set before this line, and it has no default here");
                error(place, message, "write the value itself, or the whole value between quotes if the '$' is meant")
            }),
            Value::File(name) => {
                let path = self.relative(utf8(name, place)?);
                let content = self.files.read(&path).map_err(|reason| unreadable(&path, &reason, place))?;
                // Unlike Dovecot: no value of ours can have a line end in it, and editors put one there.
                let end = content.iter().rposition(|byte| !byte.is_ascii_whitespace()).map_or(0, |last| last + 1);
                Ok(content[..end].to_vec())
            }
        }
    }

    /// The value of a setting that does not concern us: not worth an error, nor worth reading a file (which may hold
    /// a private key).
    fn foreign_value(&mut self, value: Value<'_>, place: &Place) -> Result<Option<Vec<u8>>, SettingsError> {
        match value {
            Value::Literal(text) => Ok(Some(text.into_owned())),
            Value::Plain(text) => Ok(self.expand(text, place)?.ok()),
            Value::File(_) => Ok(None),
        }
    }

    /// Puts values for variables: those of this moment, not those at the end of the file. The inner error is the name
    /// of a variable that is not known.
    fn expand<'a>(&mut self, text: &'a [u8], place: &Place) -> Result<Result<Vec<u8>, &'a [u8]>, SettingsError> {
        let mut value = Vec::new();
        for piece in syntax::pieces(text) {
            match piece {
                Piece::Text(text) => value.extend_from_slice(text),
                Piece::Variable(name) => {
                    let inserted = match self.variables.get(name) {
                        Some(known) => known.as_deref(),
                        None => Draft::default_of(name).map(str::as_bytes),
                    };
                    let Some(inserted) = inserted else { return Ok(Err(name)) };
                    self.expanded_bytes += value.len() + inserted.len();
                    if self.expanded_bytes > EXPANDED_BYTES_MAX {
                        let message = "the values of variables have become too long";
                        return Err(error(place, message, "does a setting refer to itself again and again?"));
                    }
                    value.extend_from_slice(inserted);
                }
            }
        }
        Ok(Ok(value))
    }

    fn include(&mut self, pattern: &[u8], optional: bool, place: &Place) -> Result<(), SettingsError> {
        if pattern.is_empty() {
            return Ok(());
        }
        let pattern = utf8(pattern, place)?;
        let mut found = Vec::new();
        for pattern in syntax::expand_braces(pattern) {
            found.extend(self.files.glob(&self.relative(&pattern)));
        }
        if found.is_empty() && !optional {
            let message = format!("no file matches {}", self.relative(pattern).display());
            return Err(error(place, message, "write !include_try if the file need not be there"));
        }
        for path in found {
            if self.reading.contains(&path) {
                let message = format!("{} includes itself", path.display());
                return Err(error(place, message, "remove one of the !include lines"));
            }
            self.includes += 1;
            if self.reading.len() > INCLUDE_DEPTH_MAX || self.includes > INCLUDES_MAX {
                let message = "too many files include each other";
                return Err(error(place, message, "do they include themselves, by other names?"));
            }
            match self.files.read(&path) {
                Ok(bytes) => self.file(&path, &bytes)?,
                Err(_) if optional => {}
                Err(reason) => return Err(unreadable(&path, &reason, place)),
            }
        }
        Ok(())
    }

    /// A path as the file that is being read means it.
    fn relative(&self, path: &str) -> PathBuf {
        let folder = self.reading.last().and_then(|file| file.parent());
        folder.map_or_else(|| path.into(), |folder| folder.join(path))
    }
}

/// Whether a setting is one that a director looks at.
fn concerns_us(scope: Scope, key: &[u8]) -> bool {
    match scope {
        Scope::Top => Draft::knows(key),
        Scope::Service | Scope::Listener(_) => true,
        Scope::Elsewhere => false,
    }
}

fn utf8<'a>(bytes: &'a [u8], place: &Place) -> Result<&'a str, SettingsError> {
    std::str::from_utf8(bytes)
        .map_err(|_| error(place, "this line is not in UTF-8", "save the file in UTF-8, or write ASCII letters only"))
}

fn unreadable(path: &Path, reason: &str, place: &Place) -> SettingsError {
    error(place, format!("cannot read {}: {reason}", path.display()), "does the file exist, and may we read it?")
}

fn error(place: &Place, message: impl Into<String>, remedy: &str) -> SettingsError {
    SettingsError { place: place.clone(), message: message.into(), remedy: remedy.to_owned() }
}
