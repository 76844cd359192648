//! Our administration tool prints what doveadm prints, whoever's director it asks, and does what doveadm can't.

use std::process::Command;

use director_tests::Kind::{Dovecot, Ours};
use director_tests::process::{Outcome, run};
use director_tests::requirements::built;
use director_tests::{Director, Lab, Logins, Need, Ring};

/// Neither of the two changes anything that the other would then find changed.
const COMMANDS: &[&str] = &[
    "status",
    "-f table|status",
    "-f tab|status",
    "-f flow|status",
    "-f pager|status",
    "-f json|status",
    "ring status",
    "-f table|ring status",
    "-f tab|ring status",
    "-f flow|ring status",
    "-f pager|ring status",
    "-f json|ring status",
    "status jane",
    "status nobody",
    "status jane blue",
    "status jane nosuchtag",
    "-f table|status jane",
    "-f tab|status nobody",
    "-f flow|status jane",
    "-f pager|status jane",
    "-f json|status jane blue",
    "map",
    "map -h 1480892766",
    "map -f USERS",
    "-f table|map -f USERS",
    "-f tab|map -f USERS",
    "-f flow|map -f USERS",
    "-f pager|map -f USERS",
    "-f json|map -f USERS",
    "map -f USERS 10.1.2.1",
    "map -f USERS 10.9.9.9",
    "map -u jane",
    "map -u 12345",
    "-f tab|map -u jane",
    "-f flow|map -u jane",
    "-f pager|map -u jane",
    "-f json|map -u jane",
    "map -f USERS -h 1480892766",
    "-f tab|map -f USERS -h 1480892766",
    "-f json|map -f USERS -h 1",
    "map -f USERS -h nonsense",
    "dump",
    "dump -a SOCKET",
    "-f table|dump",
    "-f tab|dump",
    "-f flow|dump",
    "-f pager|dump",
    "-f json|dump",
    "-v|status",
    "-v|add 10.1.2.1",
    "add 10.1.2.1 100",
    "-v|add -t blue 10.1.3.1",
    "-v|add 10.1.3.1@blue 100",
    "-v|add -t red 10.1.3.1",
    "-v|add 10.1.2.1 1001",
    "-v|add nosuch.invalid",
    "-v|add 5",
    "add",
    "add 10.1.2.1 x",
    "-v|update 10.1.2.1 100",
    "-v|update 10.9.9.9 100",
    "update 10.1.2.1",
    "-v|up 10.1.2.1",
    "-v|up 10.9.9.9",
    "-v|down 10.9.9.9",
    "-v|remove 10.9.9.9",
    "-v|flush 10.1.2.1",
    "-v|flush --max-parallel 3 10.1.2.1",
    "-v|flush 10.9.9.9",
    "flush 10.1.2.1",
    "-v|flush -F 10.9.9.9",
    "-v|move jane 10.9.9.9",
    "move jane",
    "-v|kick jane",
    "-v|kick -f user_alt x*y",
    "kick jane",
    "-v|ring remove 10.9.9.9",
    "-v|ring remove 10.9.9.9 9090",
    "ring add nosuch",
    "ring nonsense",
    "nonsense",
    "status a b c",
    "status -a /nosuch/socket",
];

#[test]
fn prints_what_doveadm_prints() {
    let Some(lab) = Lab::new("directoradm::prints_what_doveadm_prints", &[Need::Dovecot, Need::OurDirector]) else {
        return;
    };
    let mut plan = Ring::plan(&lab, 2);
    plan.mail_servers += " 10.1.3.1@blue 2001:db8::1@v6";
    plan.settings = "director_user_kick_delay = 1s".into();
    plan.user_expire_secs = 3600;
    // Auth can list the users of this database, but not those of the lab's own.
    let passwd = lab.folder().join("passwd");
    std::fs::write(&passwd, "jane::1000:1000::/nonexistent\nstranger::1000:1000::/nonexistent\n").expect("passwd");
    let userdb = format!("userdb {{\n  driver = passwd-file\n  args = {}\n}}", passwd.display());
    plan.logins = Some(Logins { passdb: userdb, ..Logins::default() });
    let ring = Ring::start(&lab, &[Dovecot, Ours], &plan);
    for user in ["jane", "joe@example.com", "stranger", "12345"] {
        ring.lookup(0, user, "");
    }
    ring.lookup(1, "jane", "blue");
    ring.wait_same_users();
    let users = lab.folder().join("users");
    std::fs::write(&users, "jane\nJANE\r\n\nJoe@Example.com\n12345\nnobody").expect("users");

    let mut different = Vec::new();
    for director in ring.members() {
        for line in COMMANDS {
            let (before, command) = line.split_once('|').unwrap_or(("", line));
            let socket = director.base_dir().join("director-admin");
            let command = command.replace("USERS", &users.display().to_string());
            let command = command.replace("SOCKET", &socket.display().to_string());
            let words = |text: &str| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
            let args = [words(before), vec!["director".into()], words(&command)].concat();
            let args: Vec<&str> = args.iter().map(String::as_str).collect();
            // Between the two, a ping may pass that both would count.
            let mut tries = 0;
            let problem = loop {
                let theirs = director.doveadm_plain(&args);
                let ours = directoradm(director, &args);
                tries += 1;
                match compare(&theirs, &ours) {
                    Err(_) if tries < 3 && line.contains("ring status") => {}
                    result => break result.err(),
                }
            };
            if let Some(problem) = problem {
                different.push(format!("{line} on a director of kind {:?}: {problem}", director.kind()));
            }
        }
    }
    assert!(different.is_empty(), "{} commands differ:\n{}", different.len(), different.join("\n"));
}

/// The same exit code, the same standard output, and on standard error lines that begin the same: ours may go on with
/// what to do.
fn compare(theirs: &Outcome, ours: &Outcome) -> Result<(), String> {
    let report = || format!("\n  theirs: {theirs:?}\n  ours:   {ours:?}");
    // `status USER` has a line more; doveadm ends JSON without a line end.
    let printed: Vec<&str> = ours.stdout.lines().filter(|line| !line.starts_with("Why: ")).collect();
    if ours.code != theirs.code || printed != theirs.stdout.lines().collect::<Vec<_>>() {
        return Err(report());
    }
    // How to write a command, and where a socket was looked for, each says in its own words.
    let own_words = ours.code == Some(64) || theirs.stderr.starts_with("Fatal: ");
    let same = ours.stderr.lines().count() == theirs.stderr.lines().count()
        && ours.stderr.lines().zip(theirs.stderr.lines()).all(|(ours, theirs)| ours.starts_with(theirs));
    if own_words && !ours.stderr.is_empty() || same { Ok(()) } else { Err(report()) }
}

#[test]
fn drains_a_backend_and_puts_it_back() {
    let Some(lab) = Lab::new("directoradm::drains_a_backend_and_puts_it_back", &[Need::Dovecot, Need::OurDirector])
    else {
        return;
    };
    let mut plan = Ring::plan(&lab, 2);
    plan.mail_servers += " 10.1.3.1@blue";
    plan.settings = "director_user_kick_delay = 1s".into();
    let ring = Ring::start(&lab, &[Dovecot, Ours], &plan);
    let users: Vec<String> = (0..60).map(|number| format!("user{number}")).collect();
    ring.lookup_many(0, &users);
    ring.wait_same_users();

    for (director, ip, weight) in [(ring.member(0), "10.1.2.1", "150"), (ring.member(1), "10.1.2.2", "70")] {
        let adm = |args: &[&str]| directoradm(director, args);
        let row = || {
            let list = adm(&["-f", "tab", "status"]).success();
            let row = list.lines().find(|line| line.starts_with(&format!("{ip}\t"))).expect("the backend");
            let cells: Vec<&str> = row.split('\t').collect();
            (cells[2].to_owned(), cells[5].to_owned())
        };
        adm(&["update", ip, weight]).success();
        let users = row().1;
        assert_ne!(users, "0", "the test needs somebody to move");

        let printed = adm(&["drain", "--wait", ip]).success();
        let first = format!("{ip}: weight {weight} -> 0, {users} users to move (back: undrain {ip} {weight})\n");
        assert!(printed.starts_with(&first), "{printed}");
        assert!(printed.contains(&format!("{ip}: no user left, {users} moved in ")), "{printed}");
        assert_eq!(row(), ("0".to_owned(), "0".to_owned()));
        assert!(adm(&["drain", ip]).success().contains("weight was 0 already"), "and the weight is not forgotten");

        let printed = adm(&["undrain", ip]).success();
        assert_eq!(printed, format!("{ip}: weight 0 -> {weight} (as before it was drained)\n"));
        assert_eq!(row().0, weight);
        let again = adm(&["undrain", ip]);
        assert_eq!(again.stderr, format!("Warning: {ip}: has weight {weight} already, nothing to undo\n"));
        assert_eq!(again.code, Some(0));
    }

    let refused = directoradm(ring.member(1), &["drain", "10.1.3.1"]);
    assert_eq!(refused.code, Some(75));
    assert!(refused.stderr.contains("no other backend with tag blue"), "{refused:?}");
    assert_eq!(directoradm(ring.member(1), &["drain", "10.9.9.9"]).code, Some(68));
    ring.wait_same_hosts();
}

/// On the wire, a name of digits is a hash; doveadm sends it as it is.
#[test]
fn names_of_digits_are_names() {
    let Some(lab) = Lab::new("directoradm::names_of_digits_are_names", &[Need::Dovecot, Need::OurDirector]) else {
        return;
    };
    let plan = Ring::plan(&lab, 2);
    let ring = Ring::start(&lab, &[Dovecot, Ours], &plan);
    let ip = ring.lookup(0, "12345", "");
    ring.wait_same_users();
    for director in ring.members() {
        let current = format!("Current: {ip} ");
        assert!(directoradm(director, &["status", "12345"]).success().starts_with(&current));
        assert!(!director.doveadm(&["status", "12345"]).success().starts_with(&current));
        let hash = directoradm(director, &["-f", "flow", "map", "-u", "12345"]).success();
        assert!(directoradm(director, &["status", "--hash", hash.trim()]).success().starts_with(&current));
    }
}

/// Runs our tool with the configuration that doveadm has there.
fn directoradm(director: &Director, args: &[&str]) -> Outcome {
    let mut command = Command::new(built("directoradm").expect("directoradm"));
    command.arg("-c").arg(director.dovecot_conf()).args(args);
    command.env("XDG_STATE_HOME", director.lab().folder().join("state"));
    run(&mut command)
}
