//! What the tests of the wire formats share.

use std::borrow::Cow;
use std::net::{IpAddr, SocketAddr};

use quickcheck::{Arbitrary, Gen};

/// Bytes such as arguments hold, rich in those that mean something to a protocol.
#[derive(Clone, Debug)]
pub(super) struct Text(pub(super) Vec<u8>);

impl Arbitrary for Text {
    fn arbitrary(g: &mut Gen) -> Self {
        let special = b"\x00\x01\t\r\n01trn=@+- Uw\x7f\xc3\xa9\xe2\xff";
        let length = usize::arbitrary(g) % 12;
        Self(
            (0..length)
                .map(|_| if bool::arbitrary(g) { *g.choose(special).expect("not empty") } else { u8::arbitrary(g) })
                .collect(),
        )
    }

    fn shrink(&self) -> Box<dyn Iterator<Item = Self>> {
        Box::new(self.0.shrink().map(Self))
    }
}

pub(super) fn text(g: &mut Gen) -> Cow<'static, [u8]> {
    Cow::Owned(Text::arbitrary(g).0)
}

/// Ends of the range too, where overflows hide.
pub(super) fn number(g: &mut Gen) -> u32 {
    let any = u32::arbitrary(g);
    *g.choose(&[0, 1, any, u32::MAX]).expect("not empty")
}

pub(super) fn big_number(g: &mut Gen) -> u64 {
    let any = u64::arbitrary(g);
    *g.choose(&[0, 1, any, u64::MAX]).expect("not empty")
}

pub(super) fn hash(g: &mut Gen) -> u32 {
    number(g).max(1)
}

pub(super) fn address(g: &mut Gen) -> SocketAddr {
    SocketAddr::new(IpAddr::arbitrary(g), u16::arbitrary(g).max(1))
}

/// What noise, a bug or an attacker does to a line.
#[derive(Clone, Debug)]
pub(super) struct Damage(Vec<(u8, usize, u8)>);

impl Damage {
    /// The line afterwards: anything, but without LF.
    pub(super) fn done_to(&self, mut line: Vec<u8>) -> Vec<u8> {
        for &(what, at, byte) in &self.0 {
            let at = at % (line.len() + 1);
            match what % 5 {
                0 => line.truncate(at),
                1 => line.insert(at, byte),
                2 if at < line.len() => line[at] = byte,
                3 if at < line.len() => drop(line.remove(at)),
                _ => line.extend_from_within(at..),
            }
        }
        line.retain(|&byte| byte != b'\n');
        line
    }
}

impl Arbitrary for Damage {
    fn arbitrary(g: &mut Gen) -> Self {
        let likely = *g.choose(b"\t\x010UDw-").expect("not empty");
        let count = 1 + usize::arbitrary(g) % 3;
        Self(
            (0..count)
                .map(|_| {
                    let byte = if bool::arbitrary(g) { likely } else { u8::arbitrary(g) };
                    (u8::arbitrary(g), usize::arbitrary(g), byte)
                })
                .collect(),
        )
    }

    fn shrink(&self) -> Box<dyn Iterator<Item = Self>> {
        Box::new(self.0.shrink().map(Self))
    }
}

/// That an error may stand in a log and in a QUIT.
pub(super) fn assert_printable(error: &impl std::fmt::Display) {
    let shown = error.to_string();
    assert!(!shown.chars().any(char::is_control), "{shown:?}");
    assert!(shown.len() < 1000, "{} bytes", shown.len());
}
