//! What becomes of a workflow that kills its process, where it can't turn back for it.

use backstitch_core::decide::{
    Circumstances, Conduct, Forward, Patience, Stuck, Unwind, dies_of_what_is_not_journaled,
};
use backstitch_core::id::Position;
use backstitch_core::limits::CRASH_BUDGET;
use backstitch_core::record::{Backward, Cause, Stitch, Turn};

use crate::decisions::{CONDUCT, LATER, SLOW, asked, back_from, begun, compensate, done};
use crate::drive::{back, succeeded};
use crate::stitches::{around, at, begins, commits, history, retry, turns, unwinds};

#[test]
fn a_step_that_kills_its_process_past_the_pivot_is_tried_slowly_and_somebody_is_told() {
    let rows = [done(0, Backward::Pivot), begun(1, LATER)];
    let charged = |crash_charges, seconds| Circumstances { crash_charges, ..around(seconds) };
    assert_eq!(asked(&rows, 1, &charged(CRASH_BUDGET - 1, 2)), Forward::Run { attempt: 2 });
    assert_eq!(asked(&rows, 1, &charged(CRASH_BUDGET, 2)), Forward::Attention(at(1 + SLOW)));
    assert_eq!(asked(&rows, 1, &charged(CRASH_BUDGET, 1 + SLOW)), Forward::Run { attempt: 2 });
}

#[test]
fn a_compensation_that_kills_its_process_is_stuck_like_one_that_fails() {
    let rows = [done(0, Backward::Independent), done(1, LATER), unwinds(), begins(back(1, 1), LATER)];
    let charged = |crash_charges| Circumstances { crash_charges, ..around(4) };
    assert_eq!(back_from(&rows, CONDUCT, &charged(CRASH_BUDGET - 1)), compensate(1, 2));
    assert_eq!(
        back_from(&rows, CONDUCT, &charged(CRASH_BUDGET)),
        compensate(0, 1),
        "the independent one passes"
    );
    let stuck = vec![Stuck { position: Position(1), failure: None }];
    let dependent = [&rows[..], &[commits(back(0, 1), LATER, succeeded())]].concat();
    let attention = Unwind::Attention { stuck, due: at(3 + SLOW) };
    assert_eq!(back_from(&dependent, CONDUCT, &charged(CRASH_BUDGET)), attention);
}

#[test]
fn what_kills_its_process_without_an_intent_is_told_of_where_there_is_no_way_back() {
    let charged = |crash_charges| Circumstances { crash_charges, ..around(4) };
    let dies = |rows: &[Stitch], charges| dies_of_what_is_not_journaled(&history(rows), &charged(charges));
    let past_the_pivot = [done(0, Backward::Pivot)];
    let on_the_way_back = [done(0, LATER), unwinds()];
    let turned_for_it = [done(0, LATER), turns(Turn::Unwinding(Cause::CrashLoop { deaths: CRASH_BUDGET }))];
    for rows in [&past_the_pivot[..], &on_the_way_back] {
        assert!(!dies(rows, CRASH_BUDGET - 1) && dies(rows, CRASH_BUDGET), "{rows:?}");
    }
    assert!(!dies(&turned_for_it, 2 * CRASH_BUDGET - 1) && dies(&turned_for_it, 2 * CRASH_BUDGET));
    // Where it can turn back it does; and an open attempt is told of by itself.
    assert!(!dies(&[done(0, LATER)], CRASH_BUDGET));
    assert!(!dies(&[done(0, Backward::Pivot), begun(1, LATER)], CRASH_BUDGET));
    assert!(!dies(&[done(0, LATER), unwinds(), begins(back(0, 1), LATER)], CRASH_BUDGET));
}

#[test]
fn a_compensation_whose_last_attempt_was_answered_killed_nobody() {
    let patient = Conduct { patience: Patience { attempts: 5, ..CONDUCT.patience }, ..CONDUCT };
    let rows = [done(0, LATER), unwinds(), commits(back(0, 1), LATER, retry())];
    let charged = Circumstances { crash_charges: CRASH_BUDGET, ..around(2) };
    assert!(matches!(back_from(&rows, patient, &charged), Unwind::WaitUntil(due) if due <= at(3)));
}
