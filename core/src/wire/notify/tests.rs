#![expect(clippy::needless_pass_by_value, reason = "quickcheck hands its arguments over")]

use quickcheck::quickcheck;

use super::super::testing::Text;
use super::*;

#[test]
fn names_round_trip() {
    fn holds(name: Text) -> bool {
        let mut out = Vec::new();
        write(&name.0, &mut out);
        out.pop() == Some(b'\n') && parse(&out).unwrap_or_default() == name.0
    }
    quickcheck(holds as fn(Text) -> bool);
    assert_eq!(parse(b"joe@example.com").as_deref(), Some(&b"joe@example.com"[..]));
    assert_eq!(parse(b""), None);
}
