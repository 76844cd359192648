#![expect(clippy::needless_pass_by_value, reason = "quickcheck hands its arguments over")]

use quickcheck::quickcheck;

use super::super::testing::Text;
use super::*;

/// Feeds `stream` in pieces of the given sizes (and the rest at once); gives the lines.
fn feed_in_pieces(buffer: &mut LineBuffer, stream: &[u8], sizes: &[usize]) -> Result<Vec<Vec<u8>>, LineTooLong> {
    let mut lines = Vec::new();
    let mut rest = stream;
    for &size in sizes {
        let (piece, after) = rest.split_at(size.min(rest.len()));
        rest = after;
        buffer.feed(piece, |line| {
            lines.push(line.to_vec());
            true
        })?;
    }
    buffer.feed(rest, |line| {
        lines.push(line.to_vec());
        true
    })?;
    Ok(lines)
}

#[test]
fn lines_do_not_depend_on_the_pieces_they_come_in() {
    fn holds(texts: Vec<Text>, sizes: Vec<u8>) -> bool {
        let stream = texts.iter().map(|text| text.0.as_slice()).collect::<Vec<_>>().join(&b'\n');
        let mut expected: Vec<&[u8]> = stream.split(|&byte| byte == b'\n').collect();
        let unfinished = expected.pop().unwrap_or_default();
        let sizes: Vec<usize> = sizes.into_iter().map(|size| usize::from(size % 8)).collect();
        let mut buffer = LineBuffer::new(64);
        let lines = feed_in_pieces(&mut buffer, &stream, &sizes);
        lines.is_ok_and(|lines| lines == expected) && buffer.pending() == unfinished.len()
    }
    quickcheck(holds as fn(Vec<Text>, Vec<u8>) -> bool);
}

#[test]
fn every_limit_holds_in_whatever_pieces() {
    fn holds(text: Text, sizes: Vec<u8>, limit: u8) -> bool {
        let limit = usize::from(limit % 12);
        let sizes: Vec<usize> = sizes.into_iter().map(|size| usize::from(size % 8)).collect();
        let mut stream = text.0;
        stream.push(b'\n');
        let longest = stream.split(|&byte| byte == b'\n').map(<[u8]>::len).max().unwrap_or(0);
        let mut buffer = LineBuffer::new(limit);
        let result = feed_in_pieces(&mut buffer, &stream, &sizes);
        buffer.pending() == 0
            && if longest > limit { result == Err(LineTooLong { max_bytes: limit }) } else { result.is_ok() }
    }
    quickcheck(holds as fn(Text, Vec<u8>, u8) -> bool);
}

#[test]
fn lines_before_one_that_is_too_long_are_given() {
    let mut buffer = LineBuffer::new(3);
    let mut lines = Vec::new();
    let result = buffer.feed(b"a\nabc\nabcd\nb\n", |line| {
        lines.push(line.to_vec());
        true
    });
    assert_eq!(result, Err(LineTooLong { max_bytes: 3 }));
    assert_eq!(lines, [&b"a"[..], b"abc"]);
}

#[test]
fn an_unfinished_line_is_refused_as_soon_as_it_is_too_long() {
    let mut buffer = LineBuffer::new(3);
    assert_eq!(buffer.feed(b"abc", |_| true), Ok(()));
    assert_eq!(buffer.pending(), 3);
    assert_eq!(buffer.feed(b"d", |_| true), Err(LineTooLong { max_bytes: 3 }));
    assert_eq!(buffer.pending(), 0);
}

#[test]
fn stopping_forgets_the_rest() {
    let mut buffer = LineBuffer::new(10);
    let mut count = 0;
    let mut stop = |_: &[u8]| {
        count += 1;
        false
    };
    assert_eq!(buffer.feed(b"one\ntwo\nthr", &mut stop), Ok(()));
    assert_eq!(buffer.feed(b"one", &mut stop), Ok(()));
    assert_eq!(buffer.feed(b"\ntwo\nthr", &mut stop), Ok(()));
    assert_eq!(count, 2);
    assert_eq!(buffer.pending(), 0);
}

#[test]
fn complete_lines_are_not_copied() {
    let bytes = b"one\ntwo\nthr".to_vec();
    let mut buffer = LineBuffer::new(10);
    buffer
        .feed(&bytes, |line| {
            assert!(bytes.as_ptr_range().contains(&line.as_ptr()));
            true
        })
        .expect("short lines");
    assert!(buffer.kept.capacity() < bytes.len(), "only the rest is kept");
}

#[test]
fn only_the_line_end_is_taken_off() {
    let mut lines = Vec::new();
    LineBuffer::new(10)
        .feed(b" a \r\n\n\0\n", |line| {
            lines.push(line.to_vec());
            true
        })
        .expect("short lines");
    assert_eq!(lines, [&b" a \r"[..], b"", b"\0"]);
}

/// With a search from the line's start for every piece this would take minutes.
#[test]
fn a_long_line_in_single_bytes_takes_linear_time() {
    let length = 4 << 20;
    let mut buffer = LineBuffer::new(length);
    for _ in 0..length {
        buffer.feed(b"x", |_| panic!("no line yet")).expect("within the limit");
    }
    let mut given = 0;
    buffer
        .feed(b"\n", |line| {
            given = line.len();
            true
        })
        .expect("within the limit");
    assert_eq!(given, length);
}

#[test]
fn debug_shows_no_content() {
    let mut buffer = LineBuffer::new(100);
    buffer.feed(b"OK\t1\tpass=geheim", |_| true).expect("short");
    assert_eq!(format!("{buffer:?}"), "LineBuffer { pending: 16, max_bytes: 100 }");
}

#[test]
fn escaping_round_trips_and_leaves_nothing_special() {
    fn holds(text: Text) -> bool {
        let mut escaped = Vec::new();
        escape(&text.0, &mut escaped);
        unescape(&escaped) == text.0 && !escaped.iter().any(|byte| b"\0\t\r\n".contains(byte))
    }
    quickcheck(holds as fn(Text) -> bool);
}

#[test]
fn escapes_are_those_of_the_protocol() {
    let mut out = b">".to_vec();
    escape(b"a\x01b\tc\rd\ne\0", &mut out);
    assert_eq!(out, b">a\x011b\x01tc\x01rd\x01ne\x010");
    assert_eq!(&*unescape(b"\x01x\x01\x01\x01t\x01"), b"x\x01\t");
    assert!(matches!(unescape(b"plain\xff"), Cow::Borrowed(b"plain\xff")));
}

#[test]
fn printable_text_has_no_control_bytes() {
    let show = |bytes, max_bytes| Printable { bytes, max_bytes }.to_string();
    assert_eq!(show(b"USER\t5 'x' \"y\"", 100), "USER\\t5 'x' \"y\"");
    assert_eq!(show(b"\x1b[31m\r\xff\xc3", 100), "\\u{1b}[31m\\r\\xff\\xc3");
    // A right-to-left override could turn a log line around.
    assert_eq!(show("é\u{202e}".as_bytes(), 100), "é\\u{202e}");
    assert_eq!(show("aé".as_bytes(), 2), "a…");
    assert_eq!(show(b"\x80\x80\x80\x80\x80", 4), "\\x80\\x80\\x80\\x80…");
    fn holds(text: Text, max_bytes: u8) -> bool {
        let shown = Printable { bytes: &text.0, max_bytes: usize::from(max_bytes % 16) }.to_string();
        !shown.chars().any(char::is_control)
    }
    quickcheck(holds as fn(Text, u8) -> bool);
}
