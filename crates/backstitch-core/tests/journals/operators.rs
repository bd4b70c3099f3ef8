//! What follows from what an operator decides.

use backstitch_core::decide::{Conduct, Forward, Unwind, forward, unwind};
use backstitch_core::id::{Direction, Position};
use backstitch_core::json::Json;
use backstitch_core::record::{Backward, Stitch, Turn, Verdict};

use crate::drive::{WORKFLOW, back, failure, operator, run, succeeded};
use crate::stitches::{
    around, begins, commits, ends, failed, history, resolved, retry, skipped, turns, unwinds,
};

const LATER: Backward = Backward::AfterAllLater;

fn asked(rows: &[Stitch]) -> Forward {
    forward(WORKFLOW, &history(rows), Position(0), &Conduct::DEFAULT, &around(1))
}

fn back_from(rows: &[Stitch]) -> Unwind {
    unwind(WORKFLOW, &history(rows), |_| Some(Conduct::DEFAULT), &around(1000))
}

#[test]
fn operator_skip_step_lets_the_steps_before_it_take_their_turn() {
    let done = |position| commits(run(position, 1), LATER, succeeded());
    let stuck = vec![done(0), done(1), unwinds(), begins(back(1, 1), LATER), ends(back(1, 1), retry())];
    assert_eq!(back_from(&stuck), Unwind::Compensate { position: Position(1), attempt: 2 });
    let mut rows = [&stuck[..], &[skipped(1)]].concat();
    assert_eq!(back_from(&rows), Unwind::Compensate { position: Position(0), attempt: 1 });
    rows.push(commits(back(0, 1), LATER, succeeded()));
    assert_eq!(back_from(&rows), Unwind::Done);
    rows.push(turns(Turn::Compensated));
    assert!(history(&rows).end().is_some(), "a skipped step is not owed (I5)");
}

#[test]
fn operator_skip_step_may_come_before_the_first_try_and_over_an_open_one() {
    let begun = [begins(run(0, 1), LATER), unwinds()];
    assert_eq!(back_from(&[&begun[..], &[skipped(0)]].concat()), Unwind::Done);
    let open = [&begun[..], &[begins(back(0, 1), LATER), skipped(0), skipped(0)]].concat();
    assert_eq!(back_from(&open), Unwind::Done, "also when it is said twice");
}

#[test]
fn operator_resolve_of_what_happened_hands_its_output_over() {
    for doubt in [vec![], vec![ends(run(0, 1), Verdict::InDoubt(failure()))]] {
        let rows = [&[begins(run(0, 1), LATER)][..], &doubt, &[resolved(0, true)]].concat();
        assert_eq!(asked(&rows), Forward::Deliver(Json::from_journal("7")));
    }
}

#[test]
fn operator_resolve_of_what_did_not_happen_is_run_again_at_once() {
    let waits = [begins(run(0, 1), LATER), ends(run(0, 1), Verdict::InDoubt(failure()))];
    assert!(matches!(asked(&waits), Forward::WaitUntil(_)));
    assert_eq!(asked(&[&waits[..], &[resolved(0, false)]].concat()), Forward::Run { attempt: 2 });
}

#[test]
fn operator_resolve_of_a_failure_in_doubt_takes_its_residue_away() {
    let rows =
        [begins(run(0, 1), LATER), ends(run(0, 1), Verdict::FailedInDoubt(failure())), resolved(0, false)];
    assert_eq!(asked(&rows), Forward::DeliverFailure(failure()));
    assert!(!history(&rows).slots().any(|(_, slot)| slot.owes_compensation()));
}

#[test]
fn operator_resolve_on_the_way_back_decides_what_is_owed() {
    let begun = [begins(run(0, 1), LATER), unwinds()];
    assert_eq!(back_from(&[&begun[..], &[resolved(0, false)]].concat()), Unwind::Done);
    let happened = [&begun[..], &[resolved(0, true)]].concat();
    assert_eq!(back_from(&happened), Unwind::Compensate { position: Position(0), attempt: 1 });
    let history = history(&happened);
    let slot = history.slot(Position(0)).expect("it began");
    assert_eq!(
        slot.output(),
        Some(&Json::from_journal("7")),
        "its compensation is given what it handed over"
    );
    assert!(!slot.side(Direction::Run).open);
}

#[test]
fn operator_abandon_ends_it_whatever_is_owed() {
    let rows = [
        begins(run(0, 1), LATER),
        ends(run(0, 1), failed()),
        unwinds(),
        turns(Turn::Pause(operator())),
        turns(Turn::Resume(operator())),
        turns(Turn::Abandoned(operator())),
    ];
    assert!(history(&rows).end().is_some_and(Turn::is_terminal));
}
