//! Single decisions, each in a sentence.

use std::time::Duration;

use backstitch_core::decide::{
    Circumstances, Conduct, Ended, Forward, LateEffects, Orphaned, Patience, Recovery, Stuck, Unwind,
    forward, judge, must_unwind, unwind,
};
use backstitch_core::history::History;
use backstitch_core::id::{Direction, Position};
use backstitch_core::limits::CRASH_BUDGET;
use backstitch_core::record::{Backward, Cause, Stitch, Turn, Verdict};
use backstitch_core::retry::RetryPolicy;

use crate::drive::{Ending, WORKFLOW, back, ended, failure, operator, run, succeeded};
use crate::stitches::{around, at, begins, commits, ends, failed, history, rejected, retry, turns, unwinds};

pub const LATER: Backward = Backward::AfterAllLater;
pub const SLOW: u64 = 300;

/// Waits of a round number of seconds, no jitter to speak of, one attempt of patience.
pub const CONDUCT: Conduct = Conduct {
    timeout: Duration::from_secs(60),
    retry: RetryPolicy::DEFAULT.attempts(2),
    patience: Patience { attempts: 1, time: Duration::from_secs(600), slow_retry: Duration::from_secs(SLOW) },
    late_effects: LateEffects::Refused,
};

fn judged(rows: &[Stitch], position: u32, direction: Direction, ending: Ending) -> Verdict {
    judge(ended(ending), &history(rows), Position(position), direction, &CONDUCT.retry)
}

pub fn asked(rows: &[Stitch], position: u32, around: &Circumstances) -> Forward {
    forward(WORKFLOW, &history(rows), Position(position), &CONDUCT, around)
}

pub fn back_from(rows: &[Stitch], conduct: Conduct, around: &Circumstances) -> Unwind {
    unwind(WORKFLOW, &history(rows), |_| Some(conduct), around)
}

pub fn compensate(position: u32, attempt: u32) -> Unwind {
    Unwind::Compensate { position: Position(position), attempt }
}

pub fn done(position: u32, backward: Backward) -> Stitch {
    commits(run(position, 1), backward, succeeded())
}

pub fn begun(position: u32, backward: Backward) -> Stitch {
    begins(run(position, 1), backward)
}

#[test]
fn a_rejected_of_the_only_attempt_is_believed() {
    assert_eq!(judged(&[begun(0, LATER)], 0, Direction::Run, Ending::Rejects), rejected());
    assert_eq!(
        judged(&[], 0, Direction::Run, Ending::Rejects),
        rejected(),
        "transactional, without an intent"
    );
}

#[test]
fn a_rejected_after_an_unknown_attempt_counts_as_failed() {
    let unknown = [
        vec![],
        vec![ends(run(0, 1), retry())],
        vec![ends(run(0, 1), Verdict::InDoubt(failure()))],
        vec![ends(run(0, 1), Verdict::HandedBack)],
    ];
    for end in unknown {
        let rows = [vec![begun(0, LATER)], end.clone(), vec![begins(run(0, 2), LATER)]].concat();
        assert_eq!(judged(&rows, 0, Direction::Run, Ending::Rejects), failed(), "{end:?}");
        // And where somebody journaled it all the same, the fold does not believe it either.
        let slot = history(&[rows, vec![ends(run(0, 2), rejected())]].concat()).slot(Position(0)).cloned();
        let slot = slot.expect("it began");
        assert_eq!(slot.run.settled, Some(failed()));
        assert!(slot.owes_compensation() && slot.has_failed());
    }
}

#[test]
fn a_rejected_of_a_transaction_is_believed_after_any_number_of_others() {
    let rows = [commits(run(0, 1), LATER, retry())];
    assert_eq!(judged(&rows, 0, Direction::Run, Ending::Rejects), rejected());
}

#[test]
fn a_rejected_of_a_transaction_is_not_believed_after_an_attempt_that_was_none() {
    let rows = [begun(0, LATER), ends(run(0, 1), retry())];
    assert_eq!(judged(&rows, 0, Direction::Run, Ending::Rejects), failed());
}

#[test]
fn a_transactional_step_that_newer_code_runs_without_a_transaction_may_have_happened() {
    let slot =
        history(&[commits(run(0, 1), LATER, retry()), begins(run(0, 2), LATER)]).slot(Position(0)).cloned();
    assert!(slot.expect("it began").owes_compensation());
}

#[test]
fn attempts_exhausted_is_failed_not_retry() {
    for (ending, before) in [
        (Ending::Retries, retry()),
        (
            Ending::TimesOut,
            judge(ended(Ending::TimesOut), &History::default(), Position(0), Direction::Run, &CONDUCT.retry),
        ),
        (
            Ending::Panics,
            judge(ended(Ending::Panics), &History::default(), Position(0), Direction::Run, &CONDUCT.retry),
        ),
    ] {
        assert_eq!(judged(&[begun(0, LATER)], 0, Direction::Run, ending), before);
        assert!(!matches!(before, Verdict::Failed(_)));
        let rows = [begun(0, LATER), ends(run(0, 1), before.clone()), begins(run(0, 2), LATER)];
        let last = judged(&rows, 0, Direction::Run, ending);
        let in_doubt = matches!(before, Verdict::InDoubt(_));
        assert_eq!(matches!(last, Verdict::FailedInDoubt(_)), in_doubt, "{ending:?}: {last:?}");
        assert_eq!(matches!(last, Verdict::Failed(_)), !in_doubt, "{ending:?}: {last:?}");
    }
}

#[test]
fn handed_back_charges_nothing() {
    let mut rows = Vec::new();
    for attempt in 1..=20 {
        rows.push(begins(run(0, attempt), LATER));
        assert_eq!(judged(&rows, 0, Direction::Run, Ending::IsCutShort), Verdict::HandedBack);
        rows.push(ends(run(0, attempt), Verdict::HandedBack));
    }
    assert_eq!(asked(&rows, 0, &around(100)), Forward::Run { attempt: 21 }, "at once, and not given up");
}

#[test]
fn a_pivot_in_doubt_is_never_compensated() {
    let all_reasons = Circumstances {
        cancel: Some(operator()),
        orphaned: Some(Orphaned::Gone),
        recovery: Recovery::Compensate,
        deadline_at: Some(at(0)),
        ..around(100)
    };
    let rows = [done(0, LATER), begun(1, Backward::Pivot)];
    assert_eq!(must_unwind(&history(&rows), &all_reasons), None);
    assert_eq!(asked(&rows, 1, &all_reasons), Forward::Run { attempt: 2 });
    for ending in [Ending::Fails, Ending::Retries, Ending::TimesOut, Ending::Panics] {
        let rows = [&rows[..], &[ends(run(1, 1), retry()), begins(run(1, 2), Backward::Pivot)]].concat();
        let verdict = judged(&rows, 1, Direction::Run, ending);
        assert!(matches!(verdict, Verdict::Retry(_) | Verdict::InDoubt(_)), "{ending:?}: {verdict:?}");
    }
}

#[test]
fn a_pivot_that_believably_did_nothing_leaves_the_way_back_open() {
    let mut rows = vec![done(0, LATER), begun(1, Backward::Pivot)];
    assert_eq!(judged(&rows, 1, Direction::Run, Ending::Rejects), rejected());
    rows.push(ends(run(1, 1), rejected()));
    assert_eq!(asked(&rows, 1, &around(100)), Forward::DeliverFailure(failure()));
    rows.push(unwinds());
    assert_eq!(back_from(&rows, CONDUCT, &around(100)), compensate(0, 1));
}

#[test]
fn failure_after_the_pivot_goes_forward() {
    let mut rows = vec![done(0, Backward::Pivot), begun(1, LATER)];
    for ending in [Ending::Fails, Ending::Rejects, Ending::Retries] {
        assert_eq!(judged(&rows, 1, Direction::Run, ending), retry(), "{ending:?}");
    }
    rows.push(ends(run(1, 1), retry()));
    assert!(matches!(asked(&rows, 1, &around(2)), Forward::WaitUntil(_)));
    rows.extend([begins(run(1, 2), LATER), ends(run(1, 2), retry())]);
    assert_eq!(asked(&rows, 1, &around(5)), Forward::Attention(at(4 + SLOW)), "patience is over");
    assert_eq!(asked(&rows, 1, &around(4 + SLOW)), Forward::Run { attempt: 3 }, "and it is tried again");
}

#[test]
fn an_independent_step_passes_a_stuck_later_one_and_a_dependent_one_waits() {
    let rows = |earlier| {
        let stuck = commits(back(1, 1), LATER, retry());
        [done(0, earlier), done(1, LATER), unwinds(), stuck]
    };
    assert_eq!(back_from(&rows(Backward::Independent), CONDUCT, &around(4)), compensate(0, 1));
    let stuck = vec![Stuck { position: Position(1), failure: Some(failure()) }];
    let attention = Unwind::Attention { stuck, due: at(3 + SLOW) };
    assert_eq!(back_from(&rows(LATER), CONDUCT, &around(4)), attention);
    assert_eq!(back_from(&rows(LATER), CONDUCT, &around(3 + SLOW)), compensate(1, 2));
}

#[test]
fn an_independent_step_does_not_pass_a_later_one_that_only_waits() {
    let patient = Conduct { patience: Patience { attempts: 5, ..CONDUCT.patience }, ..CONDUCT };
    let waiting = commits(back(1, 1), LATER, retry());
    let rows = [done(0, Backward::Independent), done(1, LATER), unwinds(), waiting];
    assert!(matches!(back_from(&rows, patient, &around(3)), Unwind::WaitUntil(due) if due <= at(4)));
}

#[test]
fn attention_is_due_when_the_first_of_the_stuck_is() {
    let stuck = |position| commits(back(position, 1), Backward::Independent, retry());
    let begun = [done(0, Backward::Independent), done(1, LATER), unwinds(), stuck(1), stuck(0)];
    let both = [1, 0].map(|position| Stuck { position: Position(position), failure: Some(failure()) });
    let attention = Unwind::Attention { stuck: both.to_vec(), due: at(3 + SLOW) };
    assert_eq!(back_from(&begun, CONDUCT, &around(5)), attention);
}

#[test]
fn a_step_without_code_is_stuck_and_passed_by_an_independent_one() {
    let rows = [done(0, LATER), done(1, Backward::Independent), done(2, LATER), unwinds()];
    let code = |slot: &backstitch_core::history::Slot| (slot.step != "step-2").then_some(CONDUCT);
    let folded = history(&rows);
    assert_eq!(unwind(WORKFLOW, &folded, code, &around(5)), compensate(1, 1));
    let rows = [&rows[..], &[commits(back(1, 1), LATER, succeeded())]].concat();
    let stuck = vec![Stuck { position: Position(2), failure: None }];
    let attention = Unwind::Attention { stuck, due: at(5 + SLOW) };
    assert_eq!(unwind(WORKFLOW, &history(&rows), code, &around(5)), attention);
}

#[test]
fn patience_ends_after_its_time_however_few_attempts_that_were() {
    let slow = Conduct { patience: Patience { attempts: 99, ..CONDUCT.patience }, ..CONDUCT };
    let rows = [done(0, LATER), unwinds(), begins(back(0, 1), LATER), ends(back(0, 1), retry())];
    assert!(matches!(back_from(&rows, slow, &around(3)), Unwind::WaitUntil(_)));
    let late = [&rows[..], &[begins(back(0, 2), LATER)]].concat();
    let folded = {
        let mut folded = history(&late);
        let row = ends(back(0, 2), retry());
        folded.apply(folded.seq_next(), &row, at(700)).expect("valid");
        folded
    };
    let next = unwind(WORKFLOW, &folded, |_| Some(slow), &around(700));
    assert!(matches!(next, Unwind::Attention { due, .. } if due == at(700 + SLOW)), "{next:?}");
}

#[test]
fn patience_of_no_attempts_still_tries_once() {
    let impatient = Conduct {
        patience: Patience { attempts: 0, time: Duration::ZERO, ..CONDUCT.patience },
        late_effects: LateEffects::WaitOut,
        ..CONDUCT
    };
    let rows = [begun(0, LATER), unwinds()];
    assert_eq!(back_from(&rows, impatient, &around(1)), Unwind::WaitUntil(at(62)));
    assert_eq!(back_from(&rows, impatient, &around(62)), compensate(0, 1));
}

#[test]
fn operator_retry_makes_due_now() {
    let said = || turns(Turn::Retry(operator()));
    let stuck = [done(0, LATER), unwinds(), begins(back(0, 1), LATER), ends(back(0, 1), retry())];
    assert!(matches!(back_from(&stuck, CONDUCT, &around(5)), Unwind::Attention { .. }));
    let next = back_from(&[&stuck[..], &[said()]].concat(), CONDUCT, &around(5));
    assert_eq!(next, compensate(0, 2));

    let waiting = [begun(0, LATER), ends(run(0, 1), retry())];
    assert!(matches!(asked(&waiting, 0, &around(1)), Forward::WaitUntil(_)));
    assert_eq!(asked(&[&waiting[..], &[said()]].concat(), 0, &around(1)), Forward::Run { attempt: 2 });

    let deadly = Circumstances { crash_charges: CRASH_BUDGET, ..around(5) };
    let killed = [done(0, Backward::Pivot), begun(1, LATER)];
    assert!(matches!(asked(&killed, 1, &deadly), Forward::Attention(_)));
    assert_eq!(asked(&[&killed[..], &[said()]].concat(), 1, &deadly), Forward::Run { attempt: 2 });
}

#[test]
fn a_failed_step_is_compensated_before_its_error_is_delivered() {
    let mut rows = vec![begun(0, LATER), ends(run(0, 1), failed())];
    assert_eq!(asked(&rows, 0, &around(2)), Forward::Compensate { attempt: 1 });
    rows.push(begins(back(0, 1), LATER));
    assert_eq!(asked(&rows, 0, &around(3)), Forward::Compensate { attempt: 2 }, "its process died");
    rows.push(ends(back(0, 1), succeeded()));
    assert_eq!(asked(&rows, 0, &around(4)), Forward::DeliverFailure(failure()));
}

#[test]
fn a_failed_step_that_has_no_residue_is_delivered_at_once() {
    for rows in [
        [begun(0, LATER), ends(run(0, 1), rejected())].to_vec(),
        [begun(0, Backward::Nothing), ends(run(0, 1), failed())].to_vec(),
        [commits(run(0, 1), LATER, failed())].to_vec(),
    ] {
        assert_eq!(asked(&rows, 0, &around(2)), Forward::DeliverFailure(failure()), "{rows:?}");
    }
}

#[test]
fn when_that_compensations_patience_ends_the_workflow_unwinds() {
    let mut rows = vec![begun(0, LATER), ends(run(0, 1), failed())];
    rows.extend([begins(back(0, 1), LATER), ends(back(0, 1), retry())]);
    assert_eq!(asked(&rows, 0, &around(4)), Forward::Unwind(failure()));
    rows.push(unwinds());
    assert!(
        matches!(back_from(&rows, CONDUCT, &around(5)), Unwind::Attention { .. }),
        "and it is still owed"
    );
}

#[test]
fn the_original_error_survives_a_death_in_the_middle_of_that_compensation() {
    let orphan =
        Circumstances { orphaned: Some(Orphaned::Gone), recovery: Recovery::Compensate, ..around(4) };
    let mut rows = vec![begun(0, LATER), ends(run(0, 1), failed()), begins(back(0, 1), LATER)];
    let cause = must_unwind(&history(&rows), &orphan).expect("an orphan is taken back");
    assert_eq!(cause.error().failure, failure());
    assert_eq!(cause.error().step.as_deref(), Some("step-0"));
    rows.push(ends(back(0, 1), succeeded()));
    assert_eq!(must_unwind(&history(&rows), &orphan), Some(Cause::Orphaned), "it may have been heard");
}

#[test]
fn a_workflow_turns_back_for_the_first_of_its_reasons() {
    let begun = history(&[begun(0, LATER)]);
    let mut all = Circumstances {
        cancel: Some(operator()),
        crash_charges: CRASH_BUDGET,
        orphaned: Some(Orphaned::Expired),
        recovery: Recovery::Compensate,
        deadline_at: Some(at(1)),
        ..around(1)
    };
    assert_eq!(must_unwind(&begun, &all), Some(Cause::Cancelled(operator())));
    all.cancel = None;
    assert_eq!(must_unwind(&begun, &all), Some(Cause::CrashLoop { deaths: CRASH_BUDGET }));
    all.crash_charges = CRASH_BUDGET - 1;
    assert_eq!(must_unwind(&begun, &all), Some(Cause::Orphaned));
    all.recovery = Recovery::Resume;
    assert_eq!(must_unwind(&begun, &all), Some(Cause::DeadlinePassed));
    all.deadline_at = Some(at(2));
    assert_eq!(must_unwind(&begun, &all), None);
}

#[test]
fn an_orphan_that_has_not_begun_anything_just_begins() {
    let orphan =
        Circumstances { orphaned: Some(Orphaned::Gone), recovery: Recovery::Compensate, ..around(1) };
    assert_eq!(must_unwind(&History::default(), &orphan), None);
}

#[test]
fn what_has_turned_or_ended_does_not_turn_again() {
    let cancelled = Circumstances { cancel: Some(operator()), ..around(9) };
    for rows in [
        vec![done(0, LATER), unwinds()],
        vec![done(0, LATER), turns(Turn::Completed)],
        vec![unwinds(), turns(Turn::Compensated)],
    ] {
        assert_eq!(must_unwind(&history(&rows), &cancelled), None, "{rows:?}");
    }
}

#[test]
fn the_deaths_that_turned_a_workflow_back_are_not_held_against_its_way_back() {
    let turn = turns(Turn::Unwinding(Cause::CrashLoop { deaths: CRASH_BUDGET }));
    let rows = [begun(0, LATER), turn, begins(back(0, 1), LATER)];
    let charged = |crash_charges| Circumstances { crash_charges, ..around(4) };
    assert_eq!(back_from(&rows, CONDUCT, &charged(2 * CRASH_BUDGET - 1)), compensate(0, 2));
    assert!(matches!(back_from(&rows, CONDUCT, &charged(2 * CRASH_BUDGET)), Unwind::Attention { .. }));
}

#[test]
fn once_an_outcome_cleared_the_deaths_that_turned_a_workflow_back_the_next_are_counted_from_none() {
    let turn = || turns(Turn::Unwinding(Cause::CrashLoop { deaths: CRASH_BUDGET }));
    let after =
        |answered: Stitch| vec![done(0, LATER), begun(1, LATER), turn(), begins(back(1, 1), LATER), answered];
    let charged = |crash_charges| Circumstances { crash_charges, ..around(6) };
    let mut settled = after(ends(back(1, 1), succeeded()));
    settled.push(begins(back(0, 1), LATER));
    assert_eq!(back_from(&settled, CONDUCT, &charged(CRASH_BUDGET - 1)), compensate(0, 2));
    assert!(matches!(back_from(&settled, CONDUCT, &charged(CRASH_BUDGET)), Unwind::Attention { .. }));
    // What is handed back clears nothing, neither here nor in the database.
    let mut handed_back = after(ends(back(1, 1), Verdict::HandedBack));
    handed_back.push(begins(back(1, 2), LATER));
    assert_eq!(back_from(&handed_back, CONDUCT, &charged(2 * CRASH_BUDGET - 1)), compensate(1, 3));
}

#[test]
fn a_compensation_never_fails_for_good() {
    let rows = [done(0, LATER), unwinds(), begins(back(0, 1), LATER)];
    for ending in [Ending::Fails, Ending::Rejects, Ending::Retries] {
        assert_eq!(judged(&rows, 0, Direction::Compensate, ending), retry(), "{ending:?}");
    }
}

#[test]
fn an_outcome_says_how_long_it_waited() {
    let verdict = judge(
        Ended::TimedOut(Duration::from_millis(1_500)),
        &History::default(),
        Position(0),
        Direction::Run,
        &CONDUCT.retry,
    );
    assert_eq!(verdict.failure().expect("a failure").message, "no answer within 1.5 s");
}
