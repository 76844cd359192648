//! What doveadm 2.3.19.1 printed, and what no server may do to us.

#![expect(clippy::needless_pass_by_value, reason = "quickcheck hands its arguments over")]

use std::net::IpAddr;
use std::time::Duration;

use quickcheck::{QuickCheck, quickcheck};

use super::answers::{DirectorRow, HostRow, LookupAnswer, UserRow};
use super::change::Change;
use super::drain::{DrainPlan, UndrainPlan, read_record, write_record};
use super::format::{Column, DEFAULT_WIDTH, Format, Printer};
use super::lists::{self, DumpEntry};
use super::names::{ListLine, Names};
use super::progress::{Progress, duration};
use super::target::{Host, Target, split_tag};
use super::watch::{Screen, Snapshot, Watch};
use super::{Exit, Severity, lookup};
use crate::hash::UsernameHash;
use crate::time::Instant;

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// A zone in which only the time of the transcripts is known.
fn time(secs: u64) -> String {
    match secs {
        1795309353 => "2026-11-22 01:02:33".to_owned(),
        9 => "1970-01-01 00:00:09".to_owned(),
        other => format!("@{other}"),
    }
}

fn printed(format: Format, columns: &'static [Column], rows: Vec<Vec<String>>, width: usize) -> String {
    let mut out = String::new();
    let mut printer = Printer::new(format, columns, width);
    for row in rows {
        printer.row(row, &mut out);
    }
    printer.finish(&mut out);
    out
}

fn hosts(lines: &[&str]) -> Vec<Vec<String>> {
    lines.iter().map(|line| lists::host_cells(&HostRow::parse(line.as_bytes()).unwrap(), &time)).collect()
}

fn directors(lines: &[&str]) -> Vec<Vec<String>> {
    lines.iter().map(|line| lists::director_cells(&DirectorRow::parse(line.as_bytes()), &time)).collect()
}

const TWO_HOSTS: [&str; 2] = ["127.71.2.1\t100\t2\t\tU\t0", "127.71.2.2\t50\t10\tblue\tD\t1795309353"];

/// Each as doveadm printed it; it has no line end after JSON.
#[test]
fn status_is_printed_in_every_format() {
    let print = |format| printed(format, lists::HOST_COLUMNS, hosts(&TWO_HOSTS), DEFAULT_WIDTH);
    assert_eq!(
        print(Format::Table),
        "mail server ip tag  vhosts state state changed       users           \n\
         127.71.2.1          100    up    -                   2               \n\
         127.71.2.2     blue 50     down  2026-11-22 01:02:33 10              \n"
    );
    assert_eq!(
        print(Format::Tab),
        "mail server ip\ttag\tvhosts\tstate\tstate changed\tusers\n\
         127.71.2.1\t\t100\tup\t-\t2\n\
         127.71.2.2\tblue\t50\tdown\t2026-11-22 01:02:33\t10\n"
    );
    assert_eq!(
        print(Format::Flow),
        "mail server ip=127.71.2.1 tag= vhosts=100 state=up state changed=- users=2\n\
         mail server ip=127.71.2.2 tag=blue vhosts=50 state=down state changed=2026-11-22 01:02:33 users=10\n"
    );
    assert_eq!(
        print(Format::Pager),
        "mail server ip: 127.71.2.1\ntag: \nvhosts: 100\nstate: up\nstate changed: -\nusers: 2\n\u{c}\n\
         mail server ip: 127.71.2.2\ntag: blue\nvhosts: 50\nstate: down\nstate changed: 2026-11-22 01:02:33\nusers: 10\n"
    );
    assert_eq!(
        print(Format::Json),
        "[{\"mail server ip\":\"127.71.2.1\",\"tag\":\"\",\"vhosts\":\"100\",\"state\":\"up\",\"state-changed\":\"-\",\
         \"users\":\"2\"},{\"mail server ip\":\"127.71.2.2\",\"tag\":\"blue\",\"vhosts\":\"50\",\"state\":\"down\",\
         \"state-changed\":\"2026-11-22 01:02:33\",\"users\":\"10\"}]\n"
    );
}

#[test]
fn empty_lists_still_have_their_headers() {
    let print = |format| printed(format, lists::HOST_COLUMNS, Vec::new(), DEFAULT_WIDTH);
    assert_eq!(print(Format::Table), "mail server ip tag vhosts state state changed users              \n");
    assert_eq!(print(Format::Tab), "mail server ip\ttag\tvhosts\tstate\tstate changed\tusers\n");
    assert_eq!(print(Format::Json), "[]\n");
    assert_eq!(print(Format::Flow), "");
    assert_eq!(print(Format::Pager), "");
    let dump = printed(Format::Table, lists::DUMP_COLUMNS, Vec::new(), DEFAULT_WIDTH);
    assert_eq!(dump, "command socket-path host vhost_count                      \n");
}

/// Tags from comfortable to far too long, against what doveadm made of them: the last column's half of what is over,
/// columns that give way from the right, and lines that are too long at last.
#[test]
fn tables_are_as_wide_as_doveadms() {
    for (tag, header, line) in [
        (
            3,
            "mail server ip tag vhosts state state changed users              ",
            " 100    up    -             5                  ",
        ),
        (
            20,
            "mail server ip tag                  vhosts state state changed users      ",
            " 100    up    -             5          ",
        ),
        (
            28,
            "mail server ip tag                          vhosts state state changed users  ",
            " 100    up    -             5      ",
        ),
        (
            29,
            "mail server ip tag                           vhosts state state changed users ",
            " 100    up    -             5     ",
        ),
        (
            32,
            "mail server ip tag                              vhosts state state changed users",
            " 100    up    -             5    ",
        ),
        (
            33,
            "mail server ip tag                               vhosts state state changed users",
            " 100    up    -             5   ",
        ),
        (
            36,
            "mail server ip tag                                  vhosts state state changed users",
            " 100    up    -             5",
        ),
        (
            37,
            "mail server ip tag                                   vhosts state state changed users",
            " 100    up    -        5  ",
        ),
        (
            40,
            "mail server ip tag                                      vhosts state state changed users",
            " 100    up    -     5  ",
        ),
        (
            60,
            "mail server ip tag                              vhosts state state changed users",
            " 100   up   -       5  ",
        ),
    ] {
        let tag = "T".repeat(tag);
        let rows = hosts(&[&format!("127.0.0.1\t100\t5\t{tag}\tU\t0")]);
        let expected = format!("{header}\n127.0.0.1      {tag}{line}\n");
        assert_eq!(printed(Format::Table, lists::HOST_COLUMNS, rows, 80), expected);
    }
}

#[test]
fn tables_fit_other_terminals() {
    let print = |width| printed(Format::Table, lists::HOST_COLUMNS, hosts(&["10.0.0.2\t50\t5\tx\tD\t9"]), width);
    assert_eq!(
        print(120),
        "mail server ip tag vhosts state state changed       users                               \n\
         10.0.0.2       x   50     down  1970-01-01 00:00:09 5                                   \n"
    );
    assert_eq!(
        print(50),
        "mail server ip tag vhosts state state changed    users\n\
         10.0.0.2    x  50   down 1970-01-01 00:00:09 5  \n"
    );
    // It must only not panic.
    assert!(print(0).contains("10.0.0.2"));
}

/// Characters count, not bytes; what could break a line or steer a terminal is shown escaped.
#[test]
fn cells_stay_in_their_columns() {
    let rows = hosts(&["127.0.0.1\t100\t5\t0123456789abcd\tU\t0", "127.0.0.2\t100\t5\tÄÖ\tU\t0"]);
    let table = printed(Format::Table, lists::HOST_COLUMNS, rows, 80);
    assert!(table.contains("\n127.0.0.2      ÄÖ             100 "), "{table}");
    for format in [Format::Table, Format::Tab, Format::Flow, Format::Pager] {
        let rows = hosts(&["127.0.0.1\t100\t5\ta\u{1}tb\u{1}n\u{1b}[2J\tU\t0"]);
        let text = printed(format, lists::HOST_COLUMNS, rows, 80);
        assert!(text.contains("a\\tb\\n\\u{1b}[2J"), "{text}");
    }
    let rows = hosts(&["127.0.0.1\t100\t5\ta\u{1}tb\u{1}n\u{1b}\"\\\tU\t0"]);
    assert!(printed(Format::Json, lists::HOST_COLUMNS, rows, 80).contains(r#""tag":"a\tb\n\u001b\"\\""#));
}

#[test]
fn widths_come_from_the_first_hundred_rows() {
    let header = |long: usize| {
        let line = |index| if index == long { "10.0.0.1\t100\t5\tLONGLONG\tU\t0" } else { "10.0.0.1\t100\t5\t\tU\t0" };
        let rows = hosts(&(0..150).map(line).collect::<Vec<_>>());
        let table = printed(Format::Table, lists::HOST_COLUMNS, rows, 80);
        assert_eq!(table.lines().count(), 151);
        table.lines().next().unwrap().to_owned()
    };
    assert!(header(99).starts_with("mail server ip tag      vhosts"));
    assert!(header(100).starts_with("mail server ip tag vhosts"));
}

#[test]
fn ring_status_is_as_doveadms() {
    let rows = directors(&[
        "127.71.1.1\t9090\tself\t0\tring synced\t0",
        "127.71.1.2\t9090\tleft\t0\tsynced\t0\t442\t110\t0\t18\t1795309353\t1795309353",
        "127.71.1.2\t9090\tright\t0\tsynced\t0\t92\t425\t0\t191\t1795309353\t1795309353",
    ]);
    assert_eq!(
        printed(Format::Table, lists::DIRECTOR_COLUMNS, rows, 80),
        "director ip port type last failed status    ping ms input output buffered buffered peak last read  last write\n\
         127.71.1.1 9090 self never    ring synced 0    -   -    -     -       -          -         \n\
         127.71.1.2 9090 left never    synced    0    442 110  0     18      2026-11-22 01:02:33 2026-11-22 01:02:33\n\
         127.71.1.2 9090 right never    synced    0    92  425  0     191     2026-11-22 01:02:33 2026-11-22 01:02:33\n"
    );
    let rows = directors(&[
        "10.0.0.2\t9090\t\t1795309353\t",
        "10.0.0.3\t9091",
        "handshaking - 0 USERs received\t-1\t10\t20\t0\t5\t1795309353\t1795309353",
    ]);
    assert_eq!(
        printed(Format::Tab, lists::DIRECTOR_COLUMNS, rows, 80).lines().skip(1).collect::<Vec<_>>(),
        [
            "10.0.0.2\t9090\t\t2026-11-22 01:02:33\t\t-\t-\t-\t-\t-\t-\t-",
            "10.0.0.3\t9091\t-\t-\t-\t-\t-\t-\t-\t-\t-\t-",
            // doveadm puts these under the first columns' headers.
            "-\t-\t-\t-\thandshaking - 0 USERs received\t-1\t10\t20\t0\t5\t2026-11-22 01:02:33\t2026-11-22 01:02:33",
        ]
    );
}

#[test]
fn map_lists_each_name_of_a_hash() {
    let mut names = Names::new(UsernameHash::default());
    names.add_lines(b"Jane\r\njane\n\nnoeol");
    let user = UserRow::parse(b"1480892766\t1795309353\t10.0.0.1").unwrap();
    let mut rows: Vec<_> = names.of(user.hash).map(|name| lists::user_cells(&user, Some(name), &time)).collect();
    let stranger = UserRow { hash: 7, ..user };
    assert_eq!(names.of(stranger.hash).count(), 0);
    rows.push(lists::user_cells(&stranger, None, &time));
    assert_eq!(
        printed(Format::Table, lists::USER_COLUMNS, rows, 80),
        "user                  hash       mail server ip expire time        \n\
         jane                  1480892766 10.0.0.1       2026-11-22 01:02:33\n\
         Jane                  1480892766 10.0.0.1       2026-11-22 01:02:33\n\
         <unknown>             7          10.0.0.1       2026-11-22 01:02:33\n"
    );
    assert_eq!(names.of(158876287).collect::<Vec<_>>(), [b"noeol"], "no line end at the end of the file");
}

#[test]
fn single_values_have_no_title() {
    let print = |format| printed(format, lists::HASH_COLUMNS, vec![vec!["1480892766".to_owned()]], 80);
    assert_eq!(print(Format::Table), format!("1480892766{}\n", " ".repeat(35)));
    assert_eq!(print(Format::Tab), "hash\n1480892766\n");
    assert_eq!(print(Format::Flow), "1480892766\n");
    assert_eq!(print(Format::Pager), "1480892766\n");
    assert_eq!(print(Format::Json), "[{\"hash\":\"1480892766\"}]\n");
    assert_eq!(printed(Format::Table, lists::NAME_COLUMNS, Vec::new(), 80), "", "nobody has that hash");
}

#[test]
fn dump_can_be_given_to_a_shell() {
    let host = |line: &str| HostRow::parse(line.as_bytes()).unwrap();
    let plain = DumpEntry::add(&host("10.0.0.2\t50\t5\t\tD\t9"));
    assert_eq!(plain.shell_line("doveadm director", None), "doveadm director add 10.0.0.2 50\n");
    let odd = DumpEntry::add(&host("10.0.0.1\t100\t5\ta b'c;\tU\t0"));
    assert_eq!(odd.shell_line("directoradm", Some("/a b")), "directoradm add -a '/a b' '10.0.0.1@a b'\\''c;' 100\n");
    let removed = DumpEntry::remove(ip("10.0.0.9"));
    assert_eq!(removed.shell_line("doveadm director", Some("h:5")), "doveadm director remove -a h:5 10.0.0.9\n");
    assert_eq!(removed.cells("/run/dovecot/director-admin"), ["remove", "/run/dovecot/director-admin", "10.0.0.9", ""]);
}

#[test]
fn lookups_read_as_doveadms_and_say_why() {
    let text = |line: &str, tag: &str| lookup::text(&lookup::read(line.as_bytes()).unwrap(), tag.as_bytes(), &time);
    assert_eq!(
        text("10.0.0.1\t1795309353\t10.0.0.1\t10.0.0.1", ""),
        "Current: 10.0.0.1 (expires 2026-11-22 01:02:33)\nHashed: 10.0.0.1\nInitial config: 10.0.0.1\n\
         Why: 10.0.0.1 is the backend of the name's hash\n"
    );
    assert_eq!(
        text("\t0\t10.0.0.1\t10.0.0.2", "blue"),
        "Current: n/a (expires -1)\nHashed: 10.0.0.1\nInitial config: 10.0.0.2\n\
         Why: no session known: the next login goes to 10.0.0.1, the backend of the name's hash with tag blue\n"
    );
    assert_eq!(
        text("\t0\t\t", "blue"),
        "Current: n/a (expires -1)\nHashed: \nInitial config: \nWhy: no backend with tag blue takes users: logins fail\n"
    );
    assert_eq!(
        text("10.0.0.1\t1795309353\t10.0.0.2\t10.0.0.1", "").lines().last().unwrap(),
        "Why: moved by hand, or at 10.0.0.1 since before the backends changed; until 2026-11-22 01:02:33 (later if \
         still in use), then by hash to 10.0.0.2"
    );
    let answer = lookup::read(b"\t0\t\t").unwrap();
    assert_eq!(lookup::cells(&answer, &time), ["n/a", "-1", "", ""]);
    for wrong in ["", "OK", "10.0.0.1\t17", "a\tb\tc\td", "\t0\t\t\t", "\t-1\t\t", "\t+1\t\t"] {
        let verdict = lookup::read(wrong.as_bytes()).unwrap_err();
        assert_eq!((verdict.exit, &*verdict.text), (Exit::Protocol, "Invalid reply from director"), "{wrong}");
    }
}

const IP: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(1, 1, 1, 1));

/// What doveadm sent for each command, as a server saw it.
#[test]
fn lines_are_those_that_doveadm_sends() {
    let some_ip = Some(IP);
    let cases: &[(Change<'_>, &str)] = &[
        (Change::Add { ip: IP, tag: None, vhosts: None }, "HOST-SET\t1.1.1.1"),
        (Change::Add { ip: IP, tag: Some(b"q"), vhosts: Some(5) }, "HOST-SET\t1.1.1.1@q\t5"),
        (Change::Add { ip: IP, tag: Some(b""), vhosts: Some(0) }, "HOST-SET\t1.1.1.1@\t0"),
        (Change::Update { ip: IP, vhosts: 5 }, "HOST-UPDATE\t1.1.1.1\t5"),
        (Change::Up { ip: IP }, "HOST-UP\t1.1.1.1"),
        (Change::Down { ip: IP }, "HOST-DOWN\t1.1.1.1"),
        (Change::Remove { ip: IP }, "HOST-REMOVE\t1.1.1.1"),
        (Change::Flush { ip: some_ip, max_parallel: None }, "HOST-RESET-USERS\t1.1.1.1"),
        (Change::Flush { ip: some_ip, max_parallel: Some(7) }, "HOST-RESET-USERS\t1.1.1.1\t7"),
        (Change::Flush { ip: None, max_parallel: None }, "HOST-RESET-USERS"),
        (Change::Flush { ip: None, max_parallel: Some(7) }, "HOST-RESET-USERS\t\t7"),
        (Change::Forget { ip: some_ip }, "HOST-FLUSH\t1.1.1.1"),
        (Change::Forget { ip: None }, "HOST-FLUSH"),
        (Change::Move { hash: 909840940, ip: IP }, "USER-MOVE\t909840940\t1.1.1.1"),
        (Change::Kick { field: None, user: b"j" }, "USER-KICK\tj"),
        (Change::Kick { field: None, user: b"a\tb" }, "USER-KICK\ta\x01tb"),
        (Change::Kick { field: Some(b"x"), user: b"j" }, "USER-KICK-ALT\tx\tj"),
        (Change::RingAdd { ip: IP, port: None }, "DIRECTOR-ADD\t1.1.1.1"),
        (Change::RingAdd { ip: IP, port: Some(5) }, "DIRECTOR-ADD\t1.1.1.1\t5"),
        (Change::RingRemove { ip: IP, port: None }, "DIRECTOR-REMOVE\t1.1.1.1"),
    ];
    for (change, line) in cases {
        assert_eq!(String::from_utf8(change.line().unwrap()).unwrap(), format!("{line}\n"));
    }
    let long = vec![b'x'; 2000];
    assert_eq!(Change::Kick { field: None, user: &long }.line().unwrap_err().exit, Exit::Usage);
}

/// Message and exit code for OK, NOTFOUND, TRYAGAIN and any other answer, as doveadm had them.
#[test]
fn answers_mean_what_they_mean_to_doveadm() {
    use Severity::{Error, Info, Warning};
    let some_ip = Some(IP);
    let flush = Change::Flush { ip: some_ip, max_parallel: None };
    let flush_all = Change::Flush { ip: None, max_parallel: None };
    let moving = Change::Move { hash: 909840940, ip: IP };
    let kick = Change::Kick { field: None, user: b"j" };
    let ring = Change::RingRemove { ip: IP, port: None };
    let update = Change::Update { ip: IP, vhosts: 5 };
    let cases: &[(Change<'_>, &str, u8, Severity, &str)] = &[
        (Change::Add { ip: IP, tag: None, vhosts: None }, "OK", 0, Info, "1.1.1.1: OK"),
        (Change::Add { ip: IP, tag: None, vhosts: None }, "NOTFOUND", 75, Error, "1.1.1.1: doesn't exist"),
        (update, "OK", 0, Info, "1.1.1.1: OK"),
        (update, "NOTFOUND", 75, Error, "1.1.1.1: doesn't exist"),
        (update, "some error text", 75, Error, "1.1.1.1: some error text"),
        (Change::Up { ip: IP }, "OK", 0, Info, "1.1.1.1: up"),
        (Change::Up { ip: IP }, "NOTFOUND", 68, Error, "1.1.1.1: doesn't exist"),
        (Change::Up { ip: IP }, "TRYAGAIN", 75, Error, "1.1.1.1: TRYAGAIN"),
        (Change::Down { ip: IP }, "OK", 0, Info, "1.1.1.1: down"),
        (Change::Down { ip: IP }, "NOTFOUND", 68, Error, "1.1.1.1: doesn't exist"),
        (Change::Remove { ip: IP }, "OK", 0, Info, "1.1.1.1: removed"),
        (Change::Remove { ip: IP }, "NOTFOUND", 68, Error, "1.1.1.1: doesn't exist"),
        (flush, "OK", 0, Info, "1.1.1.1: flushed"),
        (flush, "NOTFOUND", 68, Warning, "1.1.1.1: doesn't exist"),
        (flush, "TRYAGAIN", 75, Warning, "1.1.1.1: TRYAGAIN"),
        (Change::Forget { ip: some_ip }, "NOTFOUND", 68, Warning, "1.1.1.1: doesn't exist"),
        (flush_all, "OK", 0, Info, "flushed"),
        (flush_all, "NOTFOUND", 75, Error, "failed: NOTFOUND"),
        (moving, "OK", 0, Info, "User hash 909840940 moved to 1.1.1.1"),
        (moving, "NOTFOUND", 68, Error, "Host '1.1.1.1' doesn't exist"),
        (moving, "TRYAGAIN", 75, Error, "User is already being moved, wait a while for it to be finished"),
        (moving, "some error text", 75, Error, "failed: some error text"),
        (kick, "OK", 0, Info, "User j kicked"),
        (kick, "TRYAGAIN", 75, Error, "failed: TRYAGAIN"),
        (ring, "OK", 0, Info, ""),
        (ring, "NOTFOUND", 68, Error, "Not found"),
        (ring, "TRYAGAIN", 75, Error, "Failed: TRYAGAIN"),
    ];
    for (change, answer, exit, severity, text) in cases {
        let verdict = change.verdict(answer.as_bytes());
        assert_eq!((verdict.exit as u8, verdict.severity, &*verdict.text), (*exit, *severity, *text), "{change:?}");
        assert_eq!(verdict.is_success(), *exit == 0);
    }
}

/// The director's words come first, as scripts know them.
#[test]
fn refusals_say_what_to_do() {
    for answer in ["Ring sync timed out", "vhost count too large", "host tag can't be changed"] {
        let text = Change::Update { ip: IP, vhosts: 5 }.verdict(answer.as_bytes()).text;
        assert!(text.starts_with(&format!("1.1.1.1: {answer} (")), "{text}");
    }
}

#[test]
fn drain_keeps_what_undrain_needs() {
    let row = |line: &str| HostRow::parse(line.as_bytes()).unwrap();
    let list = [row("1.1.1.1\t150\t20\t\tU\t0"), row("1.1.1.2\t100\t5\t\tU\t0"), row("1.1.1.3\t100\t5\tblue\tU\t0")];
    let plan = DrainPlan::new(&list, IP, false).unwrap();
    assert_eq!((plan.vhosts, plan.users), (150, 20));
    assert_eq!(plan.begun(), "1.1.1.1: weight 150 -> 0, 20 users to move (back: undrain 1.1.1.1 150)");
    assert_eq!(read_record(write_record(plan.vhosts).as_bytes()), Some(150));

    let drained = [row("1.1.1.1\t0\t0\t\tD\t0"), row("1.1.1.2\t100\t5\t\tU\t0")];
    assert_eq!(DrainPlan::new(&drained, IP, false).unwrap().begun(), "1.1.1.1: weight was 0 already, 0 users to move");
    let undrained = |given, remembered| UndrainPlan::new(&drained, IP, given, remembered).unwrap();
    assert_eq!((undrained(None, Some(150)).vhosts, undrained(Some(70), Some(150)).vhosts), (150, 70));
    assert_eq!(
        undrained(None, Some(150)).done(),
        "1.1.1.1: weight 0 -> 150 (as before it was drained); it is down: 'up' it, too"
    );
    assert!(undrained(None, None).done().starts_with("1.1.1.1: weight 0 -> 100 (the default: no drain from here"));

    // One that has a weight is left alone, unless the operator says which one he wants.
    let verdict = UndrainPlan::new(&list, IP, None, Some(7)).unwrap_err();
    assert_eq!((verdict.exit, verdict.severity), (Exit::Success, Severity::Warning));
    assert_eq!(UndrainPlan::new(&list, IP, Some(9), None).unwrap().done(), "1.1.1.1: weight 150 -> 9");

    assert_eq!(DrainPlan::new(&list, ip("9.9.9.9"), true).unwrap_err().exit, Exit::NotFound);
    assert_eq!(UndrainPlan::new(&list, ip("9.9.9.9"), None, None).unwrap_err().exit, Exit::NotFound);
    for record in ["", "0\n", "-5\n", "x\n", "99999999999\n"] {
        assert_eq!(read_record(record.as_bytes()), None, "{record}");
    }
}

/// The users of a pool's last backend would be locked out; one of another pool does not help them.
#[test]
fn the_last_backend_of_a_pool_is_drained_only_by_force() {
    let row = |line: &str| HostRow::parse(line.as_bytes()).unwrap();
    let list = [
        row("1.1.1.1\t100\t20\tblue\tU\t0"),
        row("1.1.1.2\t0\t5\tblue\tU\t0"),
        row("1.1.1.3\t100\t5\tblue\tD\t0"),
        row("1.1.1.4\t100\t5\t\tU\t0"),
    ];
    let verdict = DrainPlan::new(&list, IP, false).unwrap_err();
    assert_eq!(verdict.exit, Exit::TemporaryFailure);
    assert!(verdict.text.contains("no other backend with tag blue") && verdict.text.contains("--force"));
    assert!(DrainPlan::new(&list, IP, true).is_ok());
}

fn at(secs: u64) -> Instant {
    Instant::from_micros(secs * 1_000_000)
}

#[test]
fn progress_tells_speed_and_time_left() {
    let mut progress = Progress::new("10.0.0.1", 500, true, at(100));
    assert_eq!(progress.line(at(100)), "10.0.0.1: 500 of 500 users left, 0 s so far");
    for secs in 1..=5 {
        progress.observe(500 - 20 * secs, at(100 + secs));
    }
    assert_eq!(progress.line(at(105)), "10.0.0.1: 400 of 500 users left, 20 moved a second, about 20 s to go");
    assert_eq!(
        progress.bar(at(105), 80),
        "10.0.0.1 [#######...............................] 400/500 left, 20/s, 20 s to go"
    );
    // The speed is that of late.
    for secs in 6..=60 {
        progress.observe(400, at(100 + secs));
    }
    assert_eq!(progress.per_second(), Some(0.0));
    assert_eq!(progress.time_left(), None);
    assert_eq!(progress.line(at(160)), "10.0.0.1: 400 of 500 users left, 0 moved a second, 1:00 min so far");
    progress.observe(0, at(161));
    assert_eq!(progress.summary(at(161)), "10.0.0.1: no user left, 500 moved in 1:01 min");
    assert_eq!(progress.time_left(), Some(Duration::ZERO));
}

#[test]
fn progress_of_a_backend_that_keeps_users_promises_no_end() {
    let mut progress = Progress::new("10.0.0.1", 500, false, at(0));
    progress.observe(400, at(10));
    assert_eq!(progress.time_left(), None);
    assert_eq!(progress.line(at(10)), "10.0.0.1: 400 users, 500 at first, 10 moved a second, 10 s so far");
    assert!(!progress.bar(at(10), 80).contains('['));
    assert_eq!(progress.summary(at(10)), "10.0.0.1: 100 users moved in 10 s, 400 there");
}

#[test]
fn durations_are_for_people() {
    let texts = [0, 59, 60, 245, 3600, 12000].map(|secs| duration(Duration::from_secs(secs)));
    assert_eq!(texts, ["0 s", "59 s", "1:00 min", "4:05 min", "1:00 h", "3:20 h"]);
}

#[test]
fn bars_fit_whatever_is_counted() {
    fn holds(users: Vec<u64>, steps: Vec<u32>, width: u8, to_zero: bool) -> bool {
        let width = usize::from(width);
        let mut now = at(5);
        let mut progress = Progress::new("::1", users.first().copied().unwrap_or(0), to_zero, now);
        for (users, step) in users.iter().zip(steps) {
            now = Instant::from_micros(now.as_micros().wrapping_add(u64::from(step) * 1000));
            progress.observe(*users, now);
            assert!(progress.bar(now, width).chars().count() <= width);
            assert!(!progress.line(now).is_empty() && !progress.summary(now).is_empty());
        }
        true
    }
    QuickCheck::new().quickcheck(holds as fn(Vec<u64>, Vec<u32>, u8, bool) -> bool);
}

const WIDE: Screen = Screen { columns: 80, rows: None, bold: false };

fn snapshot(hosts: &[&str], directors: &[&str]) -> Snapshot {
    Snapshot {
        hosts: hosts.iter().map(|line| HostRow::parse(line.as_bytes()).unwrap()).collect(),
        directors: directors.iter().map(|line| DirectorRow::parse(line.as_bytes())).collect(),
    }
}

#[test]
fn watch_marks_what_has_changed_for_a_while() {
    let ring = ["10.9.0.1\t9090\tself\t0\tring synced\t3", "10.9.0.2\t9090\tright\t0\tsynced\t1\t2\t3\t4\t5\t6\t7"];
    let before = snapshot(&["10.0.0.1\t100\t5\t\tU\t0", "10.0.0.2\t50\t7\tblue\tD\t1795309353"], &ring);
    let mut watch = Watch::default();
    let first = watch.frame(&before, WIDE, &time, 1795309353);
    assert_eq!(
        first,
        "ring synced, 12 users, 1 of 2 backends in use                2026-11-22 01:02:33\n\
         \n\
         director       type   status       ping ms\n\
         10.9.0.1:9090  self   ring synced        3\n\
         10.9.0.2:9090  right  synced             1\n\
         \n\
         mail server ip  tag   vhosts  state  state changed        users\n\
         10.0.0.1                 100  up     -                        5\n\
         10.0.0.2        blue      50  down   2026-11-22 01:02:33      7\n"
    );
    let after = snapshot(&["10.0.0.1\t100\t12\t\tU\t0", "10.0.0.3\t50\t0\t\tU\t0"], &[ring[0]]);
    let second = watch.frame(&after, WIDE, &time, 9);
    assert_eq!(
        second,
        "ring synced, 12 users, 2 of 2 backends in use                1970-01-01 00:00:09\n\
         \n\
         director       type  status       ping ms\n\
         10.9.0.1:9090  self  ring synced        3\n\
         \n\
         mail server ip  tag  vhosts  state  state changed  users\n\
         10.0.0.1                100  up     -                 12*\n\
         10.0.0.3*                50  up     -                  0\n\
         \n\
         gone: director 10.9.0.2:9090 right, host 10.0.0.2\n"
    );
    for _ in 0..3 {
        assert_eq!(watch.frame(&after, WIDE, &time, 9), second, "still marked");
    }
    watch.frame(&after, WIDE, &time, 9);
    let settled = watch.frame(&after, WIDE, &time, 9);
    assert!(!settled.contains('*') && !settled.contains("gone"), "{settled}");
    // A mark is visible without bold, and bold costs no width.
    let bold = Screen { bold: true, ..WIDE };
    assert!(watch.frame(&before, bold, &time, 9).contains("\u{1b}[1m"));
}

#[test]
fn watch_fits_its_screen() {
    let ip = "2001:db8:1111:2222:3333:4444:5555:6666";
    let host = format!("{ip}\t1000\t1234567\t{}\tD\t1795309353", "long-tag-".repeat(9));
    let status = "ring syncing - last sync 123456789 secs ago, and more and more and more";
    let director = format!("{ip}\t65535\tself\t5\t{status}\t12345678");
    for columns in [80, 79, 60, 20, 3, 1, 0] {
        let screen = Screen { columns, rows: Some(5), bold: false };
        let frame = Watch::default().frame(&snapshot(&[host.as_str(); 9], &[director.as_str()]), screen, &time, 9);
        assert_eq!(frame.lines().count(), 5);
        for line in frame.lines() {
            assert!(line.chars().count() <= columns, "{line:?}");
        }
    }
    let frame = Watch::default().frame(&snapshot(&[host.as_str()], &[director.as_str()]), WIDE, &time, 9);
    assert!(frame.contains("down") && frame.contains("1234567"), "what matters most is left: {frame}");
}

#[test]
fn sockets_are_written_as_for_doveadm() {
    let tcp = |host: &str, port| Ok(Target::Tcp { host: host.to_owned(), port });
    assert_eq!("/run/a".parse(), Ok(Target::Path("/run/a".into())));
    assert_eq!("./a:5".parse(), Ok(Target::Path("./a:5".into())));
    assert_eq!("localhost:9091".parse(), tcp("localhost", 9091));
    assert_eq!("[::1]:9091".parse(), tcp("::1", 9091));
    assert_eq!(tcp("::1", 9091).map(|target: Target| target.to_string()), Ok::<_, String>("[::1]:9091".to_owned()));
    for wrong in ["", "relative", "host:", "host:0", "host:x", "host:65536", ":5", "::1:5", "[::1]"] {
        assert!(wrong.parse::<Target>().is_err(), "{wrong}");
    }
}

#[test]
fn hosts_are_addresses_or_names_but_no_bare_numbers() {
    assert_eq!("10.0.0.1".parse(), Ok(Host::Ip(ip("10.0.0.1"))));
    assert_eq!("[::1]".parse(), Ok(Host::Ip(ip("::1"))));
    assert_eq!("mail1.example".parse(), Ok(Host::Name("mail1.example".to_owned())));
    assert_eq!("5".parse::<Host>(), Err("Invalid host '5'".to_owned()));
    assert!("".parse::<Host>().is_err());
    assert_eq!(split_tag("10.0.0.1@blue"), ("10.0.0.1", Some("blue")));
    assert_eq!(split_tag("10.0.0.1@"), ("10.0.0.1", Some("")));
    assert_eq!(split_tag("::1"), ("::1", None));
}

#[test]
fn formats_have_doveadms_names() {
    for name in Format::NAMES {
        assert!(name.parse::<Format>().is_ok());
    }
    assert!("bogus".parse::<Format>().unwrap_err().starts_with("Unknown print formatter: bogus"));
}

/// The lines of auth 2.3.19.1: a list, and a user database that has none.
#[test]
fn lists_of_auth_are_read() {
    let parse = |line: &str| ListLine::parse(line.as_bytes());
    assert_eq!(parse("VERSION\t1\t2"), ListLine::Other);
    assert_eq!(parse("SPID\t77"), ListLine::Other);
    assert_eq!(parse("LIST\t1\ta\u{1}tb"), ListLine::Name(b"a\tb".to_vec()));
    assert_eq!(parse("LIST\t2\tjane"), ListLine::Other);
    assert_eq!(parse("DONE\t1"), ListLine::Done);
    assert_eq!(parse("DONE\t1\t"), ListLine::Done);
    assert_eq!(parse("DONE\t1\tfail"), ListLine::Failed);
    assert_eq!(parse("FAIL\t1"), ListLine::Failed);
    assert_eq!(parse("VERSION\t2\t0"), ListLine::Incompatible);
}

#[test]
fn wrong_lines_are_refused() {
    for line in ["", "x\t1\t2\t\tU\t0", "10.0.0.1\t1\t2\t\tU", "10.0.0.1\t-1\t2\t\tU\t0", "10.0.0.1\t1\t\t\tU\t0"] {
        assert_eq!(HostRow::parse(line.as_bytes()), None, "{line}");
    }
    assert!(HostRow::parse(b"10.0.0.1\t1\t2\t\tU\t0\tnew").is_some(), "a newer server may say more");
    for line in ["", "bad", "1\t5\tx", "99999999999\t1\t1.1.1.1", "1\t\t1.1.1.1"] {
        assert_eq!(UserRow::parse(line.as_bytes()), None, "{line}");
    }
}

quickcheck! {
    /// Whatever a server sends: no panic, and nothing that could steer a terminal.
    fn hostile_answers_do_no_harm(line: Vec<u8>, columns: u8, rows: Option<u8>) -> bool {
        let line: Vec<u8> = line.into_iter().filter(|&byte| byte != b'\n').collect();
        let mut text = String::new();
        for change in [
            Change::Add { ip: IP, tag: None, vhosts: None },
            Change::Flush { ip: None, max_parallel: None },
            Change::Move { hash: 1, ip: IP },
            Change::Kick { field: None, user: &line },
            Change::RingAdd { ip: IP, port: None },
        ] {
            text += &change.verdict(&line).text;
        }
        let _ = LookupAnswer::parse(&line);
        let _ = ListLine::parse(&line);
        let _ = read_record(&line);
        let director = DirectorRow::parse(&line);
        let host = HostRow { ip: IP, vhosts: 1, users: u64::MAX, tag: line.clone(), down: false, changed_secs: 1 };
        let user = UserRow { hash: 1, expires_secs: u64::MAX, ip: IP };
        for format in Format::NAMES {
            let format = format.parse().unwrap();
            let width = usize::from(columns);
            text += &printed(format, lists::DIRECTOR_COLUMNS, vec![lists::director_cells(&director, &time); 2], width);
            text += &printed(format, lists::HOST_COLUMNS, vec![lists::host_cells(&host, &time)], width);
            text += &printed(format, lists::USER_COLUMNS, vec![lists::user_cells(&user, Some(&line), &time)], width);
        }
        // Made for a shell, which has to get the tag as it is.
        assert!(DumpEntry::add(&host).shell_line("directoradm", None).starts_with("directoradm add "));
        let snapshot = Snapshot { hosts: vec![host.clone(), host], directors: vec![director] };
        let screen = Screen { columns: columns.into(), rows: rows.map(Into::into), bold: false };
        text += &Watch::default().frame(&snapshot, screen, &time, 9);
        !text.chars().any(|character| character.is_control() && !"\n\t\u{c}".contains(character))
    }
}

/// The same with lines that are nearly right.
#[test]
fn lines_that_are_nearly_right_do_no_harm() {
    fn holds(fields: Vec<u8>, cut: u8) -> bool {
        let words =
            ["10.0.0.1", "::1", "", "0", "18446744073709551615", "-1", "U", "D", "self", "\u{1}", "é", "synced"];
        let line: Vec<_> = fields.iter().map(|&field| words[usize::from(field) % words.len()]).collect();
        let line = line.join("\t").into_bytes();
        let line = &line[..line.len() - usize::from(cut).min(line.len())];
        let director = DirectorRow::parse(line);
        assert_eq!(lists::director_cells(&director, &time).len(), lists::DIRECTOR_COLUMNS.len());
        if let Some(host) = HostRow::parse(line) {
            let snapshot = Snapshot { hosts: vec![host.clone(), host], directors: vec![director] };
            let _ = Watch::default().frame(&snapshot, WIDE, &time, u64::MAX);
        }
        if let Some(answer) = LookupAnswer::parse(line) {
            assert_eq!(lookup::text(&answer, b"", &time).lines().count(), 4);
        }
        true
    }
    QuickCheck::new().tests(2000).quickcheck(holds as fn(Vec<u8>, u8) -> bool);
}
