//! How long a compensation waits for what attempts may still have under way.

use std::time::Duration;

use backstitch_core::decide::{Circumstances, Conduct, LateEffects, Orphaned, Unwind, unwind};
use backstitch_core::history::History;
use backstitch_core::record::{Stitch, Turn, Verdict};
use chrono::{DateTime, Utc};

use crate::decisions::{CONDUCT, LATER, back_from, begun, compensate, done};
use crate::drive::{WORKFLOW, back, failure, operator, run, succeeded};
use crate::stitches::{around, at, begins, commits, ends, retry, turns, unwinds};

#[test]
fn late_effects_are_waited_out_unless_refused_or_local_and_gone() {
    let rows = [begun(0, LATER), unwinds()];
    let waits = Unwind::WaitUntil(at(62));
    let now = compensate(0, 1);
    use LateEffects::{Local, Refused, WaitOut};
    for (late_effects, orphaned, expected) in [
        (WaitOut, None, &waits),
        (WaitOut, Some(Orphaned::Expired), &waits),
        (WaitOut, Some(Orphaned::Gone), &waits),
        (Local, None, &waits),
        (Local, Some(Orphaned::Expired), &waits),
        (Local, Some(Orphaned::Gone), &now),
        (Refused, None, &now),
        (Refused, Some(Orphaned::Expired), &now),
    ] {
        let around = Circumstances { orphaned, ..around(2) };
        let next = back_from(&rows, Conduct { late_effects, ..CONDUCT }, &around);
        assert_eq!(&next, expected, "{late_effects:?} {orphaned:?}");
    }
}

#[test]
fn only_the_open_attempt_of_a_process_that_is_gone_needs_no_wait() {
    let local = Conduct { late_effects: LateEffects::Local, ..CONDUCT };
    let around = Circumstances { orphaned: Some(Orphaned::Gone), ..around(10) };
    let begin = |attempt| begins(run(0, attempt), LATER);
    let end = |attempt, verdict| ends(run(0, attempt), verdict);
    let in_doubt = || Verdict::InDoubt(failure());
    let table = [
        ("open", vec![begin(1)], compensate(0, 1)),
        ("open, after one that was answered", vec![begin(1), end(1, retry()), begin(2)], compensate(0, 1)),
        // Whoever began these may live: a write that was given up goes on in its process.
        ("timed out", vec![begin(1), end(1, in_doubt())], Unwind::WaitUntil(at(62))),
        ("handed back", vec![begin(1), end(1, Verdict::HandedBack)], Unwind::WaitUntil(at(62))),
        (
            "open, after one that timed out",
            vec![begin(1), end(1, in_doubt()), begin(2)],
            Unwind::WaitUntil(at(62)),
        ),
        ("open, after one of another process", vec![begin(1), begin(2)], Unwind::WaitUntil(at(62))),
    ];
    for (what, mut rows, expected) in table {
        rows.push(unwinds());
        assert_eq!(back_from(&rows, local, &around), expected, "{what}");
    }
}

#[test]
fn late_effects_are_those_of_attempts_whose_end_nobody_knows() {
    let conduct = Conduct { late_effects: LateEffects::WaitOut, ..CONDUCT };
    let begin = |attempt| begins(run(0, attempt), LATER);
    let end = |attempt, verdict| ends(run(0, attempt), verdict);
    let table = [
        ("succeeded at once", vec![begin(1), end(1, succeeded())], compensate(0, 1)),
        ("one transaction", vec![done(0, LATER)], compensate(0, 1)),
        (
            "the first unknown, the second known",
            vec![begin(1), begin(2), end(2, succeeded())],
            Unwind::WaitUntil(at(62)),
        ),
        ("both unknown", vec![begin(1), begin(2)], Unwind::WaitUntil(at(63))),
        ("handed back", vec![begin(1), end(1, Verdict::HandedBack)], Unwind::WaitUntil(at(62))),
        (
            "unknown, then a transaction of newer code",
            vec![begin(1), commits(run(0, 2), LATER, succeeded())],
            Unwind::WaitUntil(at(62)),
        ),
    ];
    for (what, mut rows, expected) in table {
        rows.push(unwinds());
        assert_eq!(back_from(&rows, conduct, &around(10)), expected, "{what}");
    }
}

#[test]
fn late_effects_are_waited_out_once_not_before_every_attempt() {
    // The first was begun while the process was known to be gone; whoever died of it is only expired.
    let local = Conduct { late_effects: LateEffects::Local, ..CONDUCT };
    let rows = [begun(0, LATER), unwinds(), begins(back(0, 1), LATER)];
    let around = Circumstances { orphaned: Some(Orphaned::Expired), ..around(3) };
    assert_eq!(back_from(&rows, local, &around), compensate(0, 2));
}

#[test]
fn no_duration_is_too_long_to_wait_for() {
    let endless = Conduct { timeout: Duration::MAX, late_effects: LateEffects::WaitOut, ..CONDUCT };
    let next = back_from(&[begun(0, LATER), unwinds()], endless, &around(2));
    assert_eq!(next, Unwind::WaitUntil(DateTime::<Utc>::MAX_UTC));
}

#[test]
fn operator_retry_does_not_shorten_the_wait_for_late_effects() {
    let careful = Conduct { late_effects: LateEffects::WaitOut, ..CONDUCT };
    let rows = [begun(0, LATER), unwinds(), turns(Turn::Retry(operator()))];
    assert_eq!(back_from(&rows, careful, &around(5)), Unwind::WaitUntil(at(62)));
}

#[test]
fn a_clock_set_back_is_waited_for_from_the_next_row_on_and_no_longer() {
    let careful = Conduct { late_effects: LateEffects::WaitOut, ..CONDUCT };
    let an_hour_ahead = |row: Stitch, folded: &mut History| {
        folded.apply(folded.seq_next(), &row, at(3600)).expect("valid");
    };
    let mut folded = History::default();
    an_hour_ahead(begun(0, LATER), &mut folded);
    an_hour_ahead(unwinds(), &mut folded);
    let next = |folded: &History| unwind(WORKFLOW, folded, |_| Some(careful), &around(5));
    assert_eq!(next(&folded), Unwind::WaitUntil(at(3662)), "nothing tells that the clock was set back");
    folded.apply(folded.seq_next(), &turns(Turn::Retry(operator())), at(4)).expect("valid");
    assert_eq!(next(&folded), Unwind::WaitUntil(at(66)), "the effect may be late as counted from here");
}
