use super::*;
use crate::network::LinkId;
use crate::plan::{Faults, Fixed};

const WELL: Condition = Condition { alive: true, moves: true, removed: false };
const START: u64 = 1000 * SECOND;

/// A ring of two, the second of which has known for a while that the user is on `a`, where he has a session.
fn scene() -> (Backends, Session, Session) {
    let fixed = Fixed { directors: Some(2), users: Some(1), faults: Some(Faults::NONE), ..Fixed::default() };
    let plan = Plan { expire_secs: 60, ..Plan::draw(1, &fixed) };
    let mut backends = Backends::new(&plan, &[7]);
    let [a, b] = ["10.2.0.1", "10.2.0.2"].map(|ip| ip.parse().unwrap());
    let old = Session { end_micros: START + 100 * SECOND, ..Session::new(0, 1, a, START) };
    assert_eq!(let_in(&mut backends, &old, &[], START), Ok(None));
    (backends, old, Session::new(0, 0, b, START + 20 * SECOND))
}

/// When somebody is let in.
fn moment_of(new: &Session) -> Moment<'static> {
    const CLOCKS: [u64; 2] = [START / SECOND + 20; 2];
    Moment { now: new.start_micros, clocks_secs: &CLOCKS, alive: &[true; 2] }
}

/// What a director has in its configuration.
fn known() -> BTreeSet<IpAddr> {
    ["10.2.0.1", "10.2.0.2"].map(|ip| ip.parse().unwrap()).into()
}

fn let_in(backends: &mut Backends, new: &Session, old: &[Session], now: u64) -> Result<Option<Cause>, String> {
    let secs = now / SECOND;
    backends.let_in(&Moment { now, clocks_secs: &[secs, secs], alive: &[true, true] }, new, old)
}

/// Fails unless a login was judged so: with that excuse, or with an error that has these words.
fn assert_judged(result: &Result<Option<Cause>, String>, expected: Result<Option<Cause>, &str>) {
    match (result, expected) {
        (Ok(cause), Ok(expected)) => assert_eq!(*cause, expected),
        (Err(error), Err(expected)) => assert!(error.contains(expected), "{error}"),
        (_, expected) => panic!("{result:?} instead of {expected:?}"),
    }
}

#[test]
fn a_second_backend_is_noticed_unless_something_kept_the_directors_apart() {
    let (mut backends, old, new) = scene();
    // Its director has asked for its end, and waits for that.
    let asked = Session { kick_asked: true, ..old.clone() };
    assert_eq!(scene().0.excuse(&moment_of(&new), &asked, &new), Ok(Cause::Kick));
    let error = let_in(&mut backends, &new, &[old], new.start_micros).unwrap_err();
    assert!(error.contains("d2 has known of the other for 20000 ms, and nothing kept it from d1"), "{error}");
    for (conditions, cut, cause) in
        [([WELL; 2], true, Cause::Partition), ([WELL, Condition { moves: false, ..WELL }], false, Cause::Pause)]
    {
        let (mut backends, old, new) = scene();
        backends.reach_changed(START, &conditions, |_, _| cut, &[]);
        backends.reach_changed(START + SECOND, &[WELL; 2], |_, _| false, &[]);
        assert_eq!(let_in(&mut backends, &new, std::slice::from_ref(&old), new.start_micros), Ok(Some(cause)));
        // Known to both by now, it has to be resolved.
        let later = Session { end_micros: u64::MAX, ..new.clone() };
        let old = Session { end_micros: u64::MAX, ..old };
        backends.heard(1, b"USER\t7\t10.2.0.2\t1020", 1020, START + 21 * SECOND);
        let mut look = |now: u64| {
            let secs = START / SECOND + 30;
            let moment = Moment { now, clocks_secs: &[secs, secs], alive: &[true, true] };
            backends.look_at(&moment, (1, &old), (2, &later))
        };
        assert_eq!(look(START + REJOIN_MICROS), Ok(()));
        assert!(look(START + REJOIN_MICROS + 2 * SECOND).is_err());
        assert_eq!(look(START + REJOIN_MICROS + 3 * SECOND), Ok(()), "told once");
    }
}

#[test]
fn who_could_be_told_by_a_late_way_only_did_not_know() {
    let way = scene().0.on_its_way_micros;
    // Which end has had something waiting for 10 s, and how long ago that was so.
    for (late_end, ago_micros, expected) in [
        (Some(0), 0, Ok(Some(Cause::OnItsWay))),
        (Some(0), way - 1, Ok(Some(Cause::OnItsWay))),
        (Some(0), way, Err("nothing kept it from d1")),
        (Some(1), 0, Err("nothing kept it from d1")),
        (None, 0, Err("nothing kept it from d1")),
    ] {
        let (mut backends, old, new) = scene();
        let now = new.start_micros;
        let late = now - ago_micros;
        let mut waiting_since_micros = [None; 2];
        if let Some(end) = late_end {
            waiting_since_micros[end] = Some(late - 10 * SECOND);
        }
        let passage = Passage { link: LinkId::numbered(1), ends: [0, 1], swallows: false, waiting_since_micros };
        backends.reach_changed(late, &[WELL; 2], |_, _| false, &[passage]);
        let result = let_in(&mut backends, &new, &[old], now);
        assert_judged(&result, expected);
    }
}

#[test]
fn to_who_starts_everything_is_news() {
    let way = scene().0.on_its_way_micros;
    for (ago_micros, expected) in [
        (way - 1, Ok(Some(Cause::OnItsWay))),
        (way, Err("d2 has known of the other for")),
        (0, Ok(Some(Cause::OnItsWay))),
    ] {
        let (mut backends, old, new) = scene();
        let dead = Condition { alive: false, ..WELL };
        backends.reach_changed(START, &[dead, WELL], |_, _| false, &[]);
        backends.starts(0, known(), new.start_micros - ago_micros);
        let result = let_in(&mut backends, &new, &[old], new.start_micros);
        assert_judged(&result, expected);
    }
}

#[test]
fn what_comes_in_the_moment_of_an_answer_excuses_who_gave_it_and_nobody_else() {
    for (cut, before_micros, expected) in [
        (true, 50, Ok(Cause::Partition)),
        (false, 50, Err("d2 has known of the other for 20000 ms, and nothing kept it from d1")),
        (true, 1000, Err("d1 knew of the other")),
    ] {
        let (mut backends, old, new) = scene();
        backends.reach_changed(START, &[WELL; 2], |_, _| cut, &[]);
        backends.heard(0, b"USER\t7\t10.2.0.1\t1000", 1019, new.start_micros - before_micros);
        let result = let_in(&mut backends, &new, &[old], new.start_micros);
        assert_judged(&result, expected.map(Some));
    }
}

#[test]
fn an_answer_waits_for_those_that_come_out_with_it_and_for_no_more() {
    // 64 answers of 100 bytes are 7 pieces of 1 kB at most.
    for (users, window_bytes, before_micros, expected) in [
        (64, 1024, 700, Ok(Some(Cause::Partition))),
        (64, 1024, 701, Err("d1 knew of the other")),
        (64, 8192, 100, Ok(Some(Cause::Partition))),
        (64, 8192, 101, Err("d1 knew of the other")),
        (1, 1024, 101, Err("d1 knew of the other")),
    ] {
        let (mut backends, old, new) = scene();
        let mut plan = Plan::draw(1, &Fixed { users: Some(users), ..Fixed::default() });
        plan.conditions.window_bytes = window_bytes;
        backends.answer_micros = answer_micros(&plan);
        backends.reach_changed(START, &[WELL; 2], |_, _| true, &[]);
        backends.heard(0, b"USER\t7\t10.2.0.1\t1000", 1019, new.start_micros - before_micros);
        let result = let_in(&mut backends, &new, &[old], new.start_micros);
        assert_judged(&result, expected);
    }
}

#[test]
fn a_move_that_nobody_could_be_told_of_explains_a_session_where_it_was_not_heard_and_no_other() {
    // The last is told again that he is where it has moved him away from: that has to be resolved, in a while.
    for (moved, cut, told_again, after_secs, expected) in [
        (true, true, false, 20, Ok(Some(Cause::Partition))),
        (false, true, false, 20, Err("d1 knew of the other")),
        (true, false, false, 20, Err("d1 knew of the other")),
        (true, true, true, 20, Ok(Some(Cause::Conflict))),
        (true, true, true, 42, Err("d1 has known of both for 31 s")),
    ] {
        let (mut backends, old, new) = scene();
        let secs = START / SECOND;
        backends.heard(0, b"USER\t7\t10.2.0.1\t1001", secs + 1, START + SECOND);
        backends.reach_changed(START + 2 * SECOND, &[WELL; 2], |_, _| cut, &[]);
        if moved {
            backends.kicked_by(0, 0, None, START / SECOND, START + 10 * SECOND);
        }
        if told_again {
            // By one who can reach both; what it tells d1 to end, d1 can end.
            backends.reach_changed(START + 10 * SECOND + SECOND / 2, &[WELL; 2], |_, _| false, &[]);
            backends.heard(0, b"USER\t7\t10.2.0.1\t1011", secs + 11, START + 11 * SECOND);
        }
        // As if nobody else had been told.
        backends.starts(1, known(), START - SECOND);
        let new = Session { start_micros: START + after_secs * SECOND, ..new };
        let result = let_in(&mut backends, &new, &[old], new.start_micros);
        assert_judged(&result, expected);
    }
}

#[test]
fn a_move_settles_what_was_known_of_both_before_until_the_first_is_told_again() {
    // Told of both after 5 s.
    for (moved_secs, again_secs, after_secs, expected) in [
        (Some(10), Some(12), 41, Ok(Some(Cause::Conflict))),
        (Some(10), Some(12), 42, Err("d1 has known of both for 30 s")),
        (Some(10), None, 41, Err("d1 has known of both for 36 s")),
        (None, Some(12), 41, Err("d1 has known of both for 36 s")),
        (None, Some(12), 34, Ok(Some(Cause::Conflict))),
    ] {
        let (mut backends, old, new) = scene();
        for line in [&b"USER\t7\t10.2.0.1\t1005"[..], b"USER\t7\t10.2.0.2\t1005"] {
            backends.heard(0, line, 1005, START + 5 * SECOND);
        }
        if let Some(secs) = moved_secs {
            backends.kicked_by(0, 0, None, START / SECOND + secs, START + secs * SECOND);
        }
        if let Some(secs) = again_secs {
            backends.heard(0, b"USER\t7\t10.2.0.1\t1012", 1012, START + secs * SECOND);
        }
        // As if nobody else had been told.
        backends.starts(1, known(), START - SECOND);
        let new = Session { start_micros: START + after_secs * SECOND, ..new };
        let result = let_in(&mut backends, &new, &[old], new.start_micros);
        assert_judged(&result, expected);
    }
}

#[test]
fn a_move_of_somebody_who_is_not_known_spares_where_he_moves_to_and_is_one_all_the_same() {
    for (told_secs, expected) in [(15, Ok(Some(Cause::Conflict))), (5, Err("d1 knew of the other"))] {
        let (mut backends, old, new) = scene();
        let secs = START / SECOND;
        let kick = |backends: &mut Backends| {
            backends.kicked_by(0, 0, Some(new.backend), secs + 10, START + 10 * SECOND);
        };
        if told_secs > 10 {
            kick(&mut backends);
        }
        backends.heard(0, b"USER\t7\t10.2.0.1\t1001", secs + told_secs, START + told_secs * SECOND);
        if told_secs < 10 {
            // That is the kick of a conflict.
            kick(&mut backends);
        }
        backends.starts(1, known(), START - SECOND);
        let result = let_in(&mut backends, &new, &[old], new.start_micros);
        assert_judged(&result, expected);
    }
}

#[test]
fn a_move_while_the_other_directors_process_does_not_run_explains_the_sessions_that_were_there() {
    for (moved_secs, expected) in [
        (Some(10), Ok(Some(Cause::Death))),
        (Some(4), Err("d1 has known of the other for 5000 ms")),
        (Some(16), Err("d1 has known of the other for 5000 ms")),
        (None, Err("d1 has known of the other for 5000 ms")),
    ] {
        let (mut backends, old, new) = scene();
        backends.heard(0, b"USER\t7\t10.2.0.1\t1001", 1001, START + SECOND);
        if let Some(secs) = moved_secs {
            backends.kicked_by(0, 0, None, START / SECOND, START + secs * SECOND);
        }
        backends.reach_changed(START + 5 * SECOND, &[WELL, Condition { alive: false, ..WELL }], |_, _| false, &[]);
        backends.starts(1, known(), START + 15 * SECOND);
        let new = Session { director: 1, ..new };
        let result = let_in(&mut backends, &new, &[old], new.start_micros);
        assert_judged(&result, expected);
    }
}

#[test]
fn a_conflict_that_is_found_while_the_other_director_is_apart_does_not_end_the_session_there() {
    let told_secs = 30;
    let known_both = format!("d1 has known of both for {told_secs} s");
    for (apart_secs, after_secs, expected) in [
        (Some(10..20), 60, Err(&known_both[..])),
        (None, 60, Err(&known_both[..])),
        (Some(10..40), 60, Ok(Some(Cause::Pause))),
        (Some(40..45), 60, Ok(Some(Cause::Pause))),
        (Some(10..40), 41 + REJOIN_MICROS / SECOND, Err("d1 has known of both")),
    ] {
        let (mut backends, old, new) = scene();
        let at = |secs: u64| START + secs * SECOND;
        if let Some(apart) = apart_secs {
            backends.reach_changed(at(apart.start), &[WELL, Condition { moves: false, ..WELL }], |_, _| false, &[]);
            backends.reach_changed(at(apart.end), &[WELL; 2], |_, _| false, &[]);
        }
        // As if only the first held it.
        backends.starts(1, known(), START - SECOND);
        for secs in (told_secs..after_secs).step_by(20) {
            for backend in ["10.2.0.1", "10.2.0.2"] {
                let line = format!("USER\t7\t{backend}\t{}", 1000 + secs);
                backends.heard(0, line.as_bytes(), 1000 + secs, at(secs));
            }
        }
        let old = Session { end_micros: u64::MAX, ..old };
        let new = Session { start_micros: at(after_secs), ..new };
        let result = let_in(&mut backends, &new, &[old], new.start_micros);
        assert_judged(&result, expected);
    }
}

#[test]
fn what_is_forgotten_by_order_or_with_a_director_or_on_its_way_is_excused() {
    let (mut backends, old, new) = scene();
    backends.ordered(Some(old.backend), START);
    assert_eq!(let_in(&mut backends, &new, &[old], new.start_micros), Ok(Some(Cause::Operator)));

    let (mut backends, old, new) = scene();
    backends.starts(1, known(), START - SECOND);
    let orphan = Session { orphan: true, ..old.clone() };
    assert_eq!(let_in(&mut backends, &new, &[orphan], new.start_micros), Ok(Some(Cause::Death)));
    let (mut backends, _, _) = scene();
    backends.starts(1, known(), START - SECOND);
    assert!(let_in(&mut backends, &new, &[old], new.start_micros).unwrap_err().contains("nobody knows"));

    let (mut backends, old, new) = scene();
    assert_eq!(let_in(&mut backends, &new, &[old], START + SECOND), Ok(Some(Cause::OnItsWay)));
}

#[test]
fn after_a_move_nobody_is_let_in_while_an_old_session_lives_and_was_not_given_up() {
    let (mut backends, old, new) = moving(&[1]);
    let error = let_in(&mut backends, &new, std::slice::from_ref(&old), new.start_micros).unwrap_err();
    assert!(error.contains("he was moved there 10000 ms ago"), "{error}");
    assert_eq!(let_in(&mut backends, &new, std::slice::from_ref(&old), START + 40 * SECOND), Ok(Some(Cause::GivenUp)));
    let unkicked = Session { unkicked: true, ..old };
    assert_eq!(let_in(&mut backends, &new, &[unkicked], new.start_micros), Ok(Some(Cause::Kick)));
}

const MOVE: &[u8] = b"USER-MOVE\t10.1.0.1\t9090\t1\t7\t10.2.0.2";
const OTHER_MOVE: &[u8] = b"USER-MOVE\t10.1.0.1\t9090\t2\t7\t10.2.0.2";

/// The same scene, with a move to `b` that the first has said after ten seconds, and that has reached these.
fn moving(heard: &[usize]) -> (Backends, Session, Session) {
    let (mut backends, old, new) = scene();
    backends.said(0, MOVE, 1010, START + 10 * SECOND);
    for &director in heard {
        backends.heard(director, MOVE, 1010, START + 10 * SECOND);
    }
    (backends, old, new)
}

#[test]
fn a_move_that_was_lost_with_a_link_is_judged_like_others_until_one_of_its_kill_comes() {
    let (mut backends, old, new) = moving(&[]);
    let error = let_in(&mut backends, &new, std::slice::from_ref(&old), new.start_micros).unwrap_err();
    assert!(error.contains("d2 has known of the other"), "not its move, but that it was not told: {error}");

    let killed = b"USER-KILLED\t7\t-\t10.1.0.1\t9090\t1\t10.2.0.2\t10.1.0.1\t9090\t2";
    for (restarted, expected) in [(false, "he was moved there"), (true, "nobody knows of his old session")] {
        let (mut backends, old, new) = moving(&[]);
        backends.heard(1, killed, 1011, START + 11 * SECOND);
        if restarted {
            backends.starts(1, known(), START - SECOND);
        }
        let error = let_in(&mut backends, &new, &[old], new.start_micros).unwrap_err();
        assert!(error.contains(expected), "{error}");
    }
}

#[test]
fn an_order_to_forget_the_new_backend_ends_a_move_for_the_sessions_that_were_there() {
    let (mut backends, old, new) = moving(&[1]);
    backends.ordered(Some(new.backend), START + 12 * SECOND);
    assert_eq!(let_in(&mut backends, &new, std::slice::from_ref(&old), new.start_micros), Ok(Some(Cause::Operator)));
    let (mut backends, old, new) = moving(&[1]);
    backends.ordered(Some(new.backend), START + 10 * SECOND);
    let later = Session { start_micros: START + 13 * SECOND, ..old };
    let error = let_in(&mut backends, &new, &[later], new.start_micros).unwrap_err();
    assert!(error.contains("d2 has known of the other"), "what begins later is none of the move's affair: {error}");
}

#[test]
fn an_order_to_forget_the_backend_of_a_move_that_has_not_ended_leaves_nothing_that_is_known_of_the_user() {
    for (ordered, after_secs, is_excused) in
        [("10.2.0.2", 12, true), ("10.2.0.2", 50, false), ("10.2.0.2", 5, false), ("10.2.0.3", 12, false)]
    {
        let (mut backends, old, new) = moving(&[1]);
        backends.ordered(Some(ordered.parse().unwrap()), START + after_secs * SECOND);
        let new = Session { backend: "10.2.0.4".parse().unwrap(), ..new };
        let result = let_in(&mut backends, &new, std::slice::from_ref(&old), START + 55 * SECOND);
        assert_eq!(result == Ok(Some(Cause::Operator)), is_excused, "{ordered} {after_secs}: {result:?}");
    }
}

#[test]
fn who_forgets_a_backend_by_order_and_is_told_of_it_once_more_has_a_conflict_to_resolve() {
    for (ordered, told_secs, expected) in [
        (true, 15, Ok(Some(Cause::Conflict))),
        (false, 15, Err("d1 knew of the other")),
        (true, -11, Err("d1 has known of both for 31 s")),
    ] {
        let (mut backends, old, new) = scene();
        let old = Session { start_micros: START - 20 * SECOND, ..old };
        let told = START.saturating_add_signed(told_secs * 1_000_000);
        backends.heard(0, b"USER\t7\t10.2.0.1\t1000", told / SECOND, told);
        if ordered {
            // The line about the second backend that it answers from came before this one was out.
            backends.said(0, b"HOST-FLUSH\t10.1.0.1\t9090\t5\t10.2.0.2", START / SECOND + 19, START + 19 * SECOND);
        }
        backends.starts(1, known(), START - SECOND);
        let result = let_in(&mut backends, &new, &[old], new.start_micros);
        assert_judged(&result, expected);
    }
}

#[test]
fn a_copy_of_a_move_that_comes_late_is_no_other_move() {
    for (origin, expected) in [(MOVE, Some(Cause::GivenUp)), (OTHER_MOVE, None)] {
        let (mut backends, old, new) = moving(&[1]);
        backends.heard(1, origin, 1045, START + 45 * SECOND);
        let old = Session { end_micros: u64::MAX, ..old };
        let result = let_in(&mut backends, &new, &[old], START + 50 * SECOND);
        assert_eq!(result.clone().ok().flatten(), expected, "{result:?}");
    }
}

#[test]
fn a_copy_of_one_of_two_moves_that_were_made_at_once_is_no_other_move_either() {
    for (heard_at_once, expected) in [(true, Some(Cause::GivenUp)), (false, None)] {
        let (mut backends, old, new) = moving(&[1]);
        if heard_at_once {
            backends.heard(0, OTHER_MOVE, 1011, START + 11 * SECOND);
        }
        backends.heard(1, OTHER_MOVE, 1045, START + 45 * SECOND);
        let old = Session { end_micros: u64::MAX, ..old };
        let result = let_in(&mut backends, &new, &[old], START + 50 * SECOND);
        assert_eq!(result.clone().ok().flatten(), expected, "{result:?}");
    }
}

#[test]
fn who_has_decided_for_a_third_backend_and_forgets_that_by_order_has_a_conflict_to_resolve_still() {
    for (third_secs, ordered_secs, after_secs, expected) in [
        (Some(5), Some(10), 34, Ok(Some(Cause::Conflict))),
        (Some(5), Some(10), 36, Err("d1 has known of both for 31 s")),
        (Some(5), None, 34, Err("d1 knew of the other")),
        (None, Some(10), 34, Err("d1 knew of the other")),
        (Some(12), Some(5), 34, Err("d1 knew of the other")),
    ] {
        let (mut backends, old, new) = scene();
        let at = |secs: u64| (START / SECOND + secs, START + secs * SECOND);
        backends.heard(0, b"USER\t7\t10.2.0.1\t1001", at(1).0, at(1).1);
        for (secs, line) in
            [(third_secs, &b"USER\t7\t10.2.0.3\t1005"[..]), (ordered_secs, b"HOST-FLUSH\t10.1.0.1\t9090\t5\t10.2.0.3")]
        {
            if let Some(secs) = secs {
                backends.heard(0, line, at(secs).0, at(secs).1);
            }
        }
        backends.starts(1, known(), START - SECOND);
        let new = Session { start_micros: at(after_secs).1, ..new };
        let result = let_in(&mut backends, &new, &[old], new.start_micros);
        assert_judged(&result, expected);
    }
}

#[test]
fn a_session_that_begins_after_its_director_has_heard_of_a_move_is_not_the_moves() {
    let (mut backends, old, new) = moving(&[1]);
    let later = Session { start_micros: START + 11 * SECOND, ..old };
    let error = let_in(&mut backends, &new, &[later], new.start_micros).unwrap_err();
    assert!(error.contains("d2 has known of the other"), "{error}");
}

#[test]
fn a_move_does_not_wait_for_a_director_without_which_the_ring_has_closed() {
    let settled = REJOIN_MICROS + SECOND;
    for (broke, was_apart, before_micros, expected) in [
        (true, false, 0, Err("d2 has known")),
        (true, false, 15 * SECOND, Err("d2 has known")),
        (true, false, settled, Err("he was moved there")),
        (false, true, 15 * SECOND, Ok(Some(Cause::Partition))),
        (false, true, settled, Err("he was moved there")),
        (false, false, 0, Err("he was moved there")),
    ] {
        let (mut backends, old, new) = moving(&[1]);
        let at = new.start_micros - before_micros;
        if broke {
            backends.link_broke([0, 1], at);
        }
        if was_apart {
            backends.reach_changed(at - SECOND / 2, &[WELL; 2], |_, _| true, &[]);
            backends.reach_changed(at, &[WELL; 2], |_, _| false, &[]);
        }
        let result = let_in(&mut backends, &new, &[old], new.start_micros);
        assert_judged(&result, expected);
    }
}

#[test]
fn a_move_is_given_up_thirty_seconds_after_its_kick_was_asked_for() {
    for (kicked_secs, expected) in [(1, Some(Cause::GivenUp)), (9, None)] {
        let (mut backends, old, new) = scene();
        for director in 0..2 {
            backends.kicked_by(director, 0, None, START / SECOND, START + kicked_secs * SECOND);
            backends.heard(director, MOVE, 1029, START + 29 * SECOND);
        }
        let new = Session { start_micros: START + 32 * SECOND, ..new };
        let result = let_in(&mut backends, &new, &[old], new.start_micros);
        assert_eq!(result.clone().ok().flatten(), expected, "{result:?}");
    }
}

#[test]
fn a_move_is_not_given_up_before_its_kick_was_with_ipc_for_thirty_seconds_but_for_its_way() {
    for (late_micros, expected) in [(KICK_MICROS, Some(Cause::GivenUp)), (KICK_MICROS + 1, None)] {
        let (mut backends, old, new) = scene();
        for director in 0..2 {
            backends.kicked_by(director, 0, None, START / SECOND, START + SECOND + late_micros);
            backends.heard(director, MOVE, 1029, START + 29 * SECOND);
        }
        let new = Session { start_micros: START + SECOND + GIVE_UP_MICROS, ..new };
        let result = let_in(&mut backends, &new, std::slice::from_ref(&old), new.start_micros);
        assert_eq!(result.clone().ok().flatten(), expected, "{result:?}");
    }
}

#[test]
fn who_has_the_winner_of_a_conflict_is_not_told_of_the_loser() {
    // The third director has heard of the user's first backend by none, or had the second before the conflict or since.
    for (had_secs, told_secs, after_secs, expected) in [
        (Some(1), Some(10), 20, Ok(Some(Cause::Conflict))),
        (Some(1), Some(10), 41, Err("d2 has known of the other for")),
        (Some(1), None, 20, Err("d2 has known of the other for")),
        (None, Some(10), 20, Err("d2 has known of the other for")),
        (Some(15), Some(10), 20, Err("d2 has known of the other for")),
    ] {
        let (mut backends, old, new) = scene();
        let at = |secs: u64| (START / SECOND + secs, START + secs * SECOND);
        for (director, secs) in [(0, had_secs), (1, told_secs)] {
            if let Some(secs) = secs {
                let (clock_secs, now) = at(secs);
                backends.heard(director, format!("USER\t7\t10.2.0.2\t{clock_secs}").as_bytes(), clock_secs, now);
            }
        }
        let new = Session { start_micros: at(after_secs).1, ..new };
        let result = let_in(&mut backends, &new, &[old], new.start_micros);
        assert_judged(&result, expected);
    }
}

#[test]
fn a_member_before_version_1_10_cant_be_told_by_a_handshake_that_a_user_moves() {
    for (minor, moved_secs, expected) in [
        (NAMES - 1, Some(10), Ok(Some(Cause::Minor))),
        (NAMES - 1, None, Err("d2 has known of the other")),
        (NAMES, Some(10), Err("d2 has known of the other")),
    ] {
        let (mut backends, old, new) = scene();
        backends.lowest_minor = minor;
        if let Some(secs) = moved_secs {
            backends.kicked_by(1, 0, None, START / SECOND, START + secs * SECOND);
        }
        for (after_secs, expected) in [(20, expected), (41, Err("d2 has known of the other"))] {
            let new = Session { start_micros: START + after_secs * SECOND, ..new.clone() };
            let result = let_in(&mut backends, &new, std::slice::from_ref(&old), new.start_micros);
            assert_judged(&result, expected);
        }
    }
}
