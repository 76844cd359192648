//! The grammar of a configuration file (settings and hashes, "Syntax").
//!
//! Two steps, as in Dovecot: physical lines become logical ones (comments cut off, continued lines joined), and each
//! logical line is one [`Statement`]. Sections are not a tree here: nesting is a matter of the reader's own stack, so
//! that hostile nesting cannot use up ours, and a section may begin in one file and end in another.
//!
//! Every odd rule here was observed with `doveconf` of Dovecot 2.3.19.1; the tests say which.

use std::borrow::Cow;
use std::ops::Range;

use nom::branch::alt;
use nom::bytes::complete::{tag, take_while, take_while1};
use nom::character::complete::char;
use nom::combinator::{all_consuming, eof, map, rest, value, verify};
use nom::sequence::{delimited, preceded, terminated};
use nom::{AsChar, IResult, Parser};

/// One logical line of a configuration file: never empty, never a comment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct LogicalLine {
    /// The number of its first physical line, from 1.
    pub(super) number: u32,
    /// Without the comment and the white space around it.
    pub(super) text: Vec<u8>,
    /// A `#` without a space before it began a comment. Perhaps it was meant to be part of the value.
    pub(super) glued_comment: bool,
    /// It ended in a `\`, but what follows is an empty line, a comment or the end: Dovecot forgets such a line.
    pub(super) forgotten: bool,
}

/// Cuts a file into logical lines, in one pass.
pub(super) struct LogicalLines<'a> {
    rest: &'a [u8],
    number: u32,
}

impl<'a> LogicalLines<'a> {
    pub(super) fn new(file: &'a [u8]) -> Self {
        // Editors put a byte order mark there; as part of the first name it would hide that setting.
        Self { rest: file.strip_prefix(b"\xef\xbb\xbf").unwrap_or(file), number: 0 }
    }

    fn physical_line(&mut self) -> Option<&'a [u8]> {
        if self.rest.is_empty() {
            return None;
        }
        self.number = self.number.saturating_add(1);
        let end = self.rest.iter().position(|&byte| byte == b'\n');
        let (line, rest) = match end {
            Some(end) => (&self.rest[..end], &self.rest[end + 1..]),
            None => (self.rest, &[][..]),
        };
        self.rest = rest;
        Some(trim(line))
    }
}

impl Iterator for LogicalLines<'_> {
    type Item = LogicalLine;

    fn next(&mut self) -> Option<LogicalLine> {
        let mut pending: Option<LogicalLine> = None;
        loop {
            let line = self.physical_line().unwrap_or_default();
            if line.is_empty() || line[0] == b'#' {
                // Nothing but a `\` is nothing at all.
                if let Some(pending) = pending.take().filter(|pending| !pending.text.is_empty()) {
                    return Some(LogicalLine { forgotten: true, ..pending });
                }
                if self.rest.is_empty() {
                    return None;
                }
                continue;
            }
            let (text, glued_comment) = without_comment(line);
            let (text, continues) = match text.strip_suffix(b"\\") {
                Some(text) => (trim(text), true),
                None => (text, false),
            };
            let logical = pending.get_or_insert_with(|| LogicalLine {
                number: self.number,
                text: Vec::new(),
                glued_comment: false,
                forgotten: false,
            });
            if !logical.text.is_empty() && !text.is_empty() {
                logical.text.push(b' ');
            }
            logical.text.extend_from_slice(text);
            logical.glued_comment |= glued_comment;
            if !continues {
                return pending;
            }
        }
    }
}

/// Cuts off the comment, and tells whether a `#` without a space before it began it. A `#` between quotes is text; a
/// quote that is never closed (as in `it's`) makes text of the rest of the line.
fn without_comment(line: &[u8]) -> (&[u8], bool) {
    let mut quote = None;
    let mut bytes = line.iter().enumerate();
    while let Some((at, &byte)) = bytes.next() {
        match (quote, byte) {
            (Some(_), b'\\') => {
                bytes.next();
            }
            (Some(open), _) if open == byte => quote = None,
            (None, b'"' | b'\'') => quote = Some(byte),
            (None, b'#') => {
                let glued = at > 0 && !is_blank(line[at - 1]);
                return (trim(&line[..at]), glued);
            }
            _ => {}
        }
    }
    (line, false)
}

/// What a logical line says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Statement<'a> {
    /// `key = value`
    Setting { key: &'a [u8], value: Value<'a> },
    /// `kind name {`; the name may be empty.
    Open { kind: &'a [u8], name: &'a [u8] },
    /// `}`
    Close,
    /// `!include pattern` or `!include_try pattern`
    Include { pattern: &'a [u8], optional: bool },
}

/// The part after the `=`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Value<'a> {
    /// It was quoted: to be taken as it is.
    Literal(Cow<'a, [u8]>),
    /// Words that begin with `$` stand for other settings' values, see [`pieces`].
    Plain(&'a [u8]),
    /// The value is what this file contains.
    File(&'a [u8]),
}

/// Why a line is no statement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SyntaxError {
    pub(super) message: &'static str,
    pub(super) remedy: &'static str,
}

/// Reads a logical line.
pub(super) fn statement(line: &[u8]) -> Result<Statement<'_>, SyntaxError> {
    if line.contains(&0) {
        return Err(SyntaxError { message: "a NUL byte in the line", remedy: "is this a text file?" });
    }
    let parsed: IResult<_, _> = all_consuming(alt((close, include, setting, open))).parse(line);
    match parsed {
        Ok((_, statement)) => Ok(statement),
        Err(_) => Err(diagnose(line)),
    }
}

fn close(input: &[u8]) -> IResult<&[u8], Statement<'_>> {
    value(Statement::Close, all_consuming(char('}'))).parse(input)
}

fn include(input: &[u8]) -> IResult<&[u8], Statement<'_>> {
    let keyword = alt((value(true, tag("!include_try")), value(false, tag("!include"))));
    let separated = alt((blank1, eof));
    map((keyword, separated, rest), |(optional, _, pattern)| Statement::Include { pattern, optional }).parse(input)
}

fn setting(input: &[u8]) -> IResult<&[u8], Statement<'_>> {
    let key = take_while1(|byte: u8| !is_blank(byte) && byte != b'=');
    let equals = (blank0, char('='), blank0);
    map((terminated(key, equals), rest), |(key, text)| Statement::Setting { key, value: read_value(text) }).parse(input)
}

fn open(input: &[u8]) -> IResult<&[u8], Statement<'_>> {
    let unnamed = (terminated(word, blank1), value(&b""[..], char('{')));
    let quoted = delimited(char('"'), take_while(|byte| byte != b'"'), (char('"'), blank0));
    let plain = terminated(verify(word, |name: &[u8]| name[0] != b'{'), blank1);
    let named = (terminated(word, blank1), terminated(alt((quoted, plain)), char('{')));
    map(alt((all_consuming(unnamed), named)), |(kind, name)| Statement::Open { kind, name }).parse(input)
}

fn word(input: &[u8]) -> IResult<&[u8], &[u8]> {
    take_while1(|byte| !is_blank(byte))(input)
}

fn blank0(input: &[u8]) -> IResult<&[u8], &[u8]> {
    take_while(is_blank)(input)
}

fn blank1(input: &[u8]) -> IResult<&[u8], &[u8]> {
    take_while1(is_blank)(input)
}

/// Dovecot looks at the first and the last byte only: `"a" "b"` is quoted, and so is a lone `"`. A quote that is not
/// closed at the end stays, but turns variables off.
fn read_value(text: &[u8]) -> Value<'_> {
    match (text.first(), text.last()) {
        (Some(b'<'), _) => Value::File(trim(&text[1..])),
        (Some(open @ (b'"' | b'\'')), Some(close)) if open == close => {
            Value::Literal(unescape(text.get(1..text.len() - 1).unwrap_or_default()))
        }
        (Some(b'"' | b'\''), _) => Value::Literal(Cow::Borrowed(text)),
        _ => Value::Plain(text),
    }
}

/// `\x` is x, whatever x is.
fn unescape(text: &[u8]) -> Cow<'_, [u8]> {
    if !text.contains(&b'\\') {
        return Cow::Borrowed(text);
    }
    let mut plain = Vec::with_capacity(text.len());
    let mut bytes = text.iter();
    while let Some(&byte) = bytes.next() {
        if byte != b'\\' {
            plain.push(byte);
        } else if let Some(&escaped) = bytes.next() {
            plain.push(escaped);
        }
    }
    Cow::Owned(plain)
}

/// A part of a plain value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Piece<'a> {
    /// Text.
    Text(&'a [u8]),
    /// The name of another setting, without the `$`.
    Variable(&'a [u8]),
}

/// Finds the variables of a plain value: its words that begin with `$`. So `/run/$x` has none, and `$x/y` is one
/// called `x/y` (which nobody has). In a value with a `$` Dovecot makes one space of the white space between words.
pub(super) fn pieces(value: &[u8]) -> impl Iterator<Item = Piece<'_>> {
    let mut rest = value;
    let has_variables = value.contains(&b'$');
    std::iter::from_fn(move || {
        if !has_variables {
            let text = std::mem::take(&mut rest);
            return (!text.is_empty()).then_some(Piece::Text(text));
        }
        // One of the three takes at least a byte of whatever is there.
        let parsed: IResult<_, _> = alt((space, variable, word_of_text)).parse(rest);
        let (left, piece) = parsed.ok()?;
        rest = left;
        Some(piece)
    })
}

/// Words end at a space, not at a tab.
fn space(input: &[u8]) -> IResult<&[u8], Piece<'_>> {
    value(Piece::Text(b" "), (char(' '), blank0)).parse(input)
}

fn variable(input: &[u8]) -> IResult<&[u8], Piece<'_>> {
    map(preceded(char('$'), take_while(|byte| byte != b' ')), Piece::Variable).parse(input)
}

fn word_of_text(input: &[u8]) -> IResult<&[u8], Piece<'_>> {
    map(take_while1(|byte| byte != b' '), Piece::Text).parse(input)
}

/// Explains a line that is no statement.
fn diagnose(line: &[u8]) -> SyntaxError {
    let own_line = "'{' ends its line and '}' has a line of its own";
    match line[0] {
        b'=' => SyntaxError { message: "no setting's name before the '='", remedy: "write 'name = value'" },
        b'}' => SyntaxError { message: "something after the '}'", remedy: own_line },
        b'!' => SyntaxError {
            message: "neither '!include' nor '!include_try'",
            remedy: "write '!include FILE' or '!include_try FILE'",
        },
        _ => match line.iter().position(|&byte| byte == b'{') {
            Some(at) if at + 1 < line.len() => SyntaxError { message: "something after the '{'", remedy: own_line },
            Some(at) if at > 0 && !is_blank(line[at - 1]) => {
                SyntaxError { message: "no space before the '{'", remedy: "write 'section name {'" }
            }
            Some(_) => SyntaxError {
                message: "not a section's kind and one name before the '{'",
                remedy: "write 'section {' or 'section name {'; a name with spaces goes between double quotes",
            },
            None => SyntaxError {
                message: "neither 'name = value' nor 'section name {'",
                remedy: "is an '=' missing, or a '\\' at the end of the line before, or a '#' before a comment?",
            },
        },
    }
}

/// Spreads `a{b,c}d` out into `abd` and `acd`, as the shell does, at most [`PATTERNS_MAX`] of them. Patterns of
/// `!include` may have braces, and the usual glob libraries know none. Unbalanced braces stay as they are.
pub(super) fn expand_braces(pattern: &str) -> Vec<String> {
    let mut done = Vec::new();
    let mut waiting = vec![pattern.to_owned()];
    while let Some(pattern) = waiting.pop() {
        match Braces::first(&pattern) {
            Some(braces) if done.len() + waiting.len() + braces.parts.len() <= PATTERNS_MAX => {
                let (before, after) = (&pattern[..braces.whole.start], &pattern[braces.whole.end..]);
                // The last one in is the first one out, and files are read in the order written.
                waiting.extend(braces.parts.into_iter().rev().map(|part| [before, &pattern[part], after].concat()));
            }
            _ => done.push(pattern),
        }
    }
    done
}

/// More alternatives in one `!include` than anybody writes; braces multiply.
const PATTERNS_MAX: usize = 64;

/// Where in a pattern balanced braces are.
struct Braces {
    whole: Range<usize>,
    /// What stands between the commas.
    parts: Vec<Range<usize>>,
}

impl Braces {
    fn first(pattern: &str) -> Option<Self> {
        let open = pattern.find('{')?;
        let mut depth = 0_usize;
        let mut parts = Vec::new();
        let mut start = open + 1;
        for (at, byte) in pattern.bytes().enumerate().skip(open) {
            match byte {
                b'{' => depth += 1,
                b',' | b'}' if depth == 1 => {
                    parts.push(start..at);
                    start = at + 1;
                    if byte == b'}' {
                        return Some(Self { whole: open..at + 1, parts });
                    }
                }
                b'}' => depth -= 1,
                _ => {}
            }
        }
        None
    }
}

fn is_blank(byte: u8) -> bool {
    byte.is_space()
}

fn trim(line: &[u8]) -> &[u8] {
    // The carriage return of a file from Windows.
    let is_white = |byte: &u8| is_blank(*byte) || *byte == b'\r';
    let start = line.iter().position(|byte| !is_white(byte)).unwrap_or(line.len());
    let end = line.iter().rposition(|byte| !is_white(byte)).map_or(start, |last| last + 1);
    &line[start..end]
}

#[cfg(test)]
mod tests {
    use quickcheck::{TestResult, quickcheck};

    use super::*;

    fn lines(file: &[u8]) -> Vec<LogicalLine> {
        LogicalLines::new(file).collect()
    }

    /// The value of the only line, as Dovecot would take it with no variables set.
    fn value_of(file: &[u8]) -> Vec<u8> {
        let lines = lines(file);
        assert_eq!(lines.len(), 1, "{}", file.escape_ascii());
        assert!(!lines[0].forgotten);
        match statement(&lines[0].text) {
            Ok(Statement::Setting { value: Value::Literal(value), .. }) => value.into_owned(),
            Ok(Statement::Setting { value: Value::Plain(value), .. }) => value.to_vec(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn values_read_as_in_dovecot() {
        // Each pair is what doveconf of Dovecot 2.3.19.1 made of it.
        let observed: &[(&[u8], &[u8])] = &[
            (b"k=a b   # c\n", b"a b"),
            (b"k = a#b\n", b"a"),
            (b"k = #b\n", b""),
            (b"k =\n", b""),
            (b"k = \"a # b\"\n", b"a # b"),
            (b"k = \"a # b\" # c\n", b"a # b"),
            (b"k = \"a \\\"q\\\" \\\\ \\n b\"\n", b"a \"q\" \\ n b"),
            (b"k = 'a \\' b'\n", b"a ' b"),
            (b"k = \"a\" b\n", b"\"a\" b"),
            (b"k = \"a\n", b"\"a"),
            (b"k = \"\n", b""),
            (b"k = \"\"\n", b""),
            (b"k = \"a  b  \"  \n", b"a  b  "),
            (b"k = \"a\"\"b\"\n", b"a\"\"b"),
            (b"k = \"x\\\"\n", b"x"),
            (b"k = a\"b c\"\n", b"a\"b c\""),
            (b"k = a\\tb\\\\c\n", b"a\\tb\\\\c"),
            (b"k = a\r\n", b"a"),
            (b"  k\t=\ta\tb\n", b"a\tb"),
            (b"k = a=b\n", b"a=b"),
            (b"k == b\n", b"= b"),
            (b"k = a", b"a"),
            (b"k = a \\\n   b\n", b"a b"),
            (b"k = a\\\nb\n", b"a b"),
            (b"k = a\\  \n\tb\n", b"a b"),
            (b"k = a \\\nb \\\nc\n", b"a b c"),
            (b"k = x \\\n  \\\nc \n", b"x c"),
            (b"k \\\n= a \n", b"a"),
            (b"\\\nk = a\n", b"a"),
            (b"k = \\\nx\n", b"x"),
            (b"k = \"a\\tb \\\n  c\"\n", b"atb c"),
            (b"k = \"a   \\\n   b\"\n", b"a b"),
            (b"k = a \\\nb\"#\"c # \"x\"\n", b"a b\"#\"c"),
            (b"k = \"a \\\nb # c\"\n", b"\"a b"),
            (b"k = \"a \\\nb\" # c\" \n", b"a b\" # c"),
            (b"k = a \"b # c\" d\n", b"a \"b # c\" d"),
            (b"k = \"b # c' d\n", b"\"b # c' d"),
            (b"k = \"a \\\" # b\" c # d\n", b"\"a \\\" # b\" c"),
            (b"k = a \\\" # b\" c # d\n", b"a \\\" # b\" c"),
            (b"k = a \"x\" # b\" c # d\n", b"a \"x\""),
            (b"k = \"a ' # b\" # d\n", b"a ' # b"),
            (b"k = it's # d\n", b"it's # d"),
            (b"k = a \"b\\\\\" # c\n", b"a \"b\\\\\""),
        ];
        for (file, expected) in observed {
            assert_eq!(value_of(file).escape_ascii().to_string(), expected.escape_ascii().to_string());
        }
    }

    #[test]
    fn comments_and_empty_lines_say_nothing_and_count() {
        let lines = lines(b"\n# c \\\n\xef\xbb\xbf \n \t\r\nx = 1 \\\n  2\n\ny = 3\n");
        let numbers: Vec<_> = lines.iter().map(|line| line.number).collect();
        assert_eq!(numbers, [3, 5, 8]);
        assert_eq!(lines[1].text, b"x = 1 2");
    }

    #[test]
    fn a_byte_order_mark_does_not_hide_the_first_setting() {
        assert_eq!(lines(b"\xef\xbb\xbfk = v\n")[0].text, b"k = v");
    }

    #[test]
    fn a_line_continued_into_nothing_is_told() {
        assert_eq!(lines(b"\\\n\n\\\n"), []);
        for file in [&b"k = a \\\n\nj = b\n"[..], b"k = a \\\n# c\nj = b\n", b"k = a \\\n", b"k = a\\"] {
            let lines = lines(file);
            assert!(lines[0].forgotten, "{}", file.escape_ascii());
            assert_eq!(lines[0].text, b"k = a");
            assert!(lines[1..].iter().all(|line| !line.forgotten));
        }
    }

    #[test]
    fn a_glued_comment_is_told() {
        assert!(lines(b"k = a#b\n")[0].glued_comment);
        assert!(!lines(b"k = a #b\n")[0].glued_comment);
        assert!(!lines(b"k = 'a#b'\n")[0].glued_comment);
    }

    #[test]
    fn sections_read_as_in_dovecot() {
        let open = |kind, name| Ok(Statement::Open { kind, name });
        assert_eq!(statement(b"service director {"), open(b"service", b"director"));
        assert_eq!(statement(b"service \"director\" {"), open(b"service", b"director"));
        assert_eq!(statement(b"service \"director\"{"), open(b"service", b"director"));
        assert_eq!(statement(b"unix_listener \"a # b\" {"), open(b"unix_listener", b"a # b"));
        assert_eq!(statement(b"inet_listener  {"), open(b"inet_listener", b""));
        assert_eq!(statement(b"inet_listener \"\" {"), open(b"inet_listener", b""));
        assert_eq!(statement(b"service a\" {"), open(b"service", b"a\""));
        assert_eq!(statement(b"}"), Ok(Statement::Close));
        let refused: &[&[u8]] = &[
            b"service director{",
            b"service director",
            b"service director { mode = 0600 }",
            b"service 'a b' {",
            b"service director x {",
            b"service \"dir\\\"ector\" {",
            b"service \"a b {",
            b"service director {x",
            b"{",
            b"} }",
            b"} x",
            b"= x",
            b"k v",
            b"k : v",
            b"k x = v",
        ];
        for line in refused {
            assert!(statement(line).is_err(), "{}", line.escape_ascii());
        }
    }

    #[test]
    fn includes_read_as_in_dovecot() {
        let include = |pattern, optional| Ok(Statement::Include { pattern, optional });
        assert_eq!(statement(b"!include a.conf"), include(b"a.conf", false));
        assert_eq!(statement(b"!include\ta b.conf"), include(b"a b.conf", false));
        assert_eq!(statement(b"!include_try a.conf"), include(b"a.conf", true));
        assert_eq!(statement(b"!include = a.conf"), include(b"= a.conf", false));
        assert_eq!(statement(b"!include"), include(b"", false));
        for line in [&b"!included/x"[..], b"!include_tryd/x", b"!foo x", b"!!include x"] {
            assert!(statement(line).is_err(), "{}", line.escape_ascii());
        }
    }

    #[test]
    fn a_wrong_line_is_explained() {
        let message = |line| statement(line).unwrap_err().message;
        assert_eq!(message(b"service director{"), "no space before the '{'");
        assert_eq!(message(b"a { b = c }"), "something after the '{'");
        assert_eq!(message(b"} x"), "something after the '}'");
        assert_eq!(message(b"k v"), "neither 'name = value' nor 'section name {'");
        assert_eq!(message(b"a b c {"), "not a section's kind and one name before the '{'");
        assert_eq!(message(b"!x"), "neither '!include' nor '!include_try'");
        assert_eq!(message(b"=x"), "no setting's name before the '='");
        assert_eq!(message(b"k = \0"), "a NUL byte in the line");
    }

    #[test]
    fn variables_are_words_that_begin_with_a_dollar() {
        let all = |value| pieces(value).collect::<Vec<_>>();
        assert_eq!(all(b"$x"), [Piece::Variable(b"x")]);
        let (text, variable) = (|text| Piece::Text(text), |name| Piece::Variable(name));
        let space = || Piece::Text(b" ");
        assert_eq!(
            all(b"a $x  $y-$z b"),
            [text(b"a"), space(), variable(b"x"), space(), variable(b"y-$z"), space(), text(b"b")]
        );
        assert_eq!(all(b"a$x /$x"), [text(b"a$x"), space(), text(b"/$x")]);
        assert_eq!(all(b"a\t$x \t$y"), [text(b"a\t$x"), space(), variable(b"y")]);
        assert_eq!(all(b"$ $$"), [variable(b""), space(), variable(b"$")]);
        assert_eq!(all(b"a  \tb"), [text(b"a  \tb")]);
        assert_eq!(all(b""), []);
    }

    #[test]
    fn braces_are_spread_out_in_order() {
        assert_eq!(expand_braces("d/{x,y}.conf"), ["d/x.conf", "d/y.conf"]);
        assert_eq!(expand_braces("{a,b{c,d}}{1,2}"), ["a1", "a2", "bc1", "bc2", "bd1", "bd2"]);
        assert_eq!(expand_braces("a{b"), ["a{b"]);
        assert_eq!(expand_braces("a}b"), ["a}b"]);
        assert_eq!(expand_braces("{}"), [""]);
        assert!(expand_braces(&"{a,b}".repeat(100)).len() <= PATTERNS_MAX);
    }

    /// Writes a value so that it reads back: the other half of the grammar, for these tests.
    fn quote(value: &[u8]) -> Vec<u8> {
        let mut quoted = vec![b'"'];
        for &byte in value {
            if matches!(byte, b'"' | b'\\') {
                quoted.push(b'\\');
            }
            quoted.push(byte);
        }
        quoted.push(b'"');
        quoted
    }

    quickcheck! {
        fn quoted_values_survive_printing(value: Vec<u8>, comment: String) -> TestResult {
            if value.iter().any(|byte| matches!(byte, 0 | b'\n')) || comment.contains(['\n', '\0']) {
                return TestResult::discard();
            }
            let mut file = b"some_key = ".to_vec();
            file.extend(quote(&value));
            file.extend(b" # ");
            file.extend(comment.bytes().filter(|byte| *byte != b'\\'));
            file.push(b'\n');
            TestResult::from_bool(value_of(&file) == value)
        }

        fn section_names_survive_printing(name: Vec<u8>) -> TestResult {
            if name.iter().any(|byte| matches!(byte, 0 | b'\n' | b'"' | b'\\')) {
                return TestResult::discard();
            }
            let file = [b"unix_listener \"", &name[..], b"\" {\n"].concat();
            let lines = lines(&file);
            let expected = Ok(Statement::Open { kind: b"unix_listener", name: &name });
            TestResult::from_bool(statement(&lines[0].text) == expected)
        }

        fn pieces_lose_nothing_but_white_space(value: Vec<u8>) -> bool {
            let mut whole = Vec::new();
            for piece in pieces(&value) {
                match piece {
                    Piece::Text(text) => whole.extend_from_slice(text),
                    Piece::Variable(name) => {
                        whole.push(b'$');
                        whole.extend_from_slice(name);
                    }
                }
            }
            let black = |bytes: &[u8]| bytes.iter().copied().filter(|byte| !is_blank(*byte)).collect::<Vec<_>>();
            black(&whole) == black(&value)
        }

        fn any_bytes_are_read_or_refused(file: Vec<u8>) -> bool {
            lines(&file).iter().all(|line| {
                let _ = statement(&line.text);
                !line.text.contains(&b'\n') && line.number > 0
            })
        }
    }
}
