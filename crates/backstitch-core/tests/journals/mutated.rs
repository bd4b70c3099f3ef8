//! Journals that somebody tampered with: refused, or understood to mean no more than they say. Never a panic.

use backstitch_core::decide::{forward, must_unwind, unwind};
use backstitch_core::history::History;
use backstitch_core::id::{Direction, Position, Seq};
use backstitch_core::json::Json;
use backstitch_core::record::{Backward, Cause, Skip, Stitch, Turn, Verdict};
use backstitch_core::report::RollbackReport;

use crate::drive::{BRIEF, Ending, Plan, Row, WORKFLOW, ended, failure, fold, operator};
use crate::explore::{BACKWARDS, explore, kinds, plans};
use crate::ledger::Ledger;
use crate::stitches::around;

#[test]
fn a_row_dropped_doubled_or_swapped_is_refused() {
    let mut mutants = 0;
    every_journal(1, |rows| {
        for index in 0..rows.len() {
            let mut dropped = rows.to_vec();
            dropped.remove(index);
            // Without its last row a journal is the same story, told a row earlier.
            assert_eq!(fold(&dropped).is_ok(), index + 1 == rows.len(), "{dropped:#?}");

            let mut doubled = rows.to_vec();
            doubled.insert(index, rows[index].clone());
            fold(&doubled).expect_err("doubled");
            mutants += 2;
            for other in index + 1..rows.len() {
                let mut swapped = rows.to_vec();
                swapped.swap(index, other);
                fold(&swapped).expect_err("swapped");
                mutants += 1;
            }
        }
    });
    println!("{mutants} mutants");
}

#[test]
fn rows_that_were_renumbered_too_are_refused_or_still_keep_the_invariants() {
    let (mut mutants, mut accepted) = (0, 0);
    every_journal(1, |rows| {
        for index in 0..rows.len() {
            let mut dropped = rows.to_vec();
            dropped.remove(index);
            let mut doubled = rows.to_vec();
            doubled.insert(index, rows[index].clone());
            let swaps = (index + 1..rows.len()).map(|other| {
                let mut swapped = rows.to_vec();
                swapped.swap(index, other);
                swapped
            });
            for mutant in [dropped, doubled].into_iter().chain(swaps) {
                mutants += 1;
                accepted += usize::from(is_sound(&renumbered(mutant)));
            }
        }
    });
    println!("{mutants} mutants, {accepted} accepted");
}

#[test]
fn an_altered_row_is_refused_or_still_keeps_the_invariants() {
    let (mut mutants, mut accepted) = (0, 0);
    every_journal(1, |rows| {
        for index in 0..rows.len() {
            for altered in alterations(&rows[index].1) {
                let mut mutant = rows.to_vec();
                mutant[index].1 = altered;
                mutants += 1;
                accepted += usize::from(is_sound(&mutant));
            }
        }
    });
    println!("{mutants} mutants, {accepted} accepted");
}

#[test]
fn what_later_attempts_repeat_of_the_first_is_not_believed_again() {
    every_journal(2, |rows| {
        let honest = fold(rows).expect("valid");
        for index in 0..rows.len() {
            let mut mutant = rows.to_vec();
            if let Some(intent) = &mut mutant[index].1.intent
                && (intent.attempt.attempt > 1 || intent.attempt.direction == Direction::Compensate)
            {
                intent.backward = Backward::Nothing;
                intent.version += 1;
                intent.input = Some(Json::from_journal("[1]"));
                assert_eq!(fold(&mutant).expect("means the same"), honest);
            }
        }
    });
}

/// Whether the fold takes it. If so, the raw rows keep the invariants, and every question about it has an answer.
fn is_sound(rows: &[Row]) -> bool {
    let mut history = History::default();
    let mut ledger = Ledger::default();
    for row in rows {
        if history.apply(row.0, &row.1, row.2).is_err() {
            return false;
        }
        ledger.add(row, None).unwrap_or_else(|broken| panic!("{broken}: {row:#?}\nof {rows:#?}"));
        ledger.agrees_with(&history);
        answers(&history);
    }
    true
}

fn answers(history: &History) {
    let around = around(2_000_000);
    let _ = must_unwind(history, &around);
    let _ = unwind(WORKFLOW, history, |_| Some(BRIEF), &around);
    let _ = unwind(WORKFLOW, history, |_| None, &around);
    let _ = RollbackReport::of(history).map(|report| report.to_string());
    for position in (0..=history.steps_begun()).chain([u32::MAX]).map(Position) {
        let _ = forward(WORKFLOW, history, position, &BRIEF, &around);
        for direction in [Direction::Run, Direction::Compensate] {
            let _ = backstitch_core::decide::judge(
                ended(Ending::Rejects),
                history,
                position,
                direction,
                &BRIEF.retry,
            );
        }
    }
}

/// Every single thing that can be changed in a row.
fn alterations(row: &Stitch) -> Vec<Stitch> {
    let mut all = Vec::new();
    let mut add = |change: &dyn Fn(&mut Stitch)| {
        let mut altered = row.clone();
        change(&mut altered);
        if altered != *row {
            all.push(altered);
        }
    };
    add(&|row| row.outcome = None);
    add(&|row| row.intent = None);
    let turns = [
        None,
        Some(Turn::Unwinding(Cause::DeadlinePassed)),
        Some(Turn::Retry(operator())),
        Some(Turn::Pause(operator())),
        Some(Turn::SkipStep(Skip { position: Position(0), operator: operator() })),
        Some(Turn::Completed),
        Some(Turn::Compensated),
        Some(Turn::Abandoned(operator())),
    ];
    for turn in turns {
        add(&|row| row.turn = turn.clone());
    }
    let verdicts = [
        Verdict::Succeeded(Json::from_journal("1")),
        Verdict::Retry(failure()),
        Verdict::InDoubt(failure()),
        Verdict::HandedBack,
        Verdict::Failed(failure()),
        Verdict::FailedInDoubt(failure()),
        Verdict::Rejected(failure()),
    ];
    for verdict in verdicts {
        add(&|row| row.outcome.iter_mut().for_each(|outcome| outcome.verdict = verdict.clone()));
    }
    for other in [0, 1, 2, 3, u32::MAX] {
        add(&|row| row.outcome.iter_mut().for_each(|outcome| outcome.attempt.position = Position(other)));
        add(&|row| row.outcome.iter_mut().for_each(|outcome| outcome.attempt.attempt = other));
        add(&|row| row.intent.iter_mut().for_each(|intent| intent.attempt.position = Position(other)));
        add(&|row| row.intent.iter_mut().for_each(|intent| intent.attempt.attempt = other));
    }
    for direction in [Direction::Run, Direction::Compensate] {
        add(&|row| row.outcome.iter_mut().for_each(|outcome| outcome.attempt.direction = direction));
        add(&|row| row.intent.iter_mut().for_each(|intent| intent.attempt.direction = direction));
    }
    for backward in BACKWARDS {
        add(&|row| row.intent.iter_mut().for_each(|intent| intent.backward = backward));
    }
    add(&|row| row.intent.iter_mut().for_each(|intent| intent.input = None));
    add(&|row| row.intent.iter_mut().for_each(|intent| intent.step.push('x')));
    // Intent and outcome of two attempts become one transaction, and the other way round.
    add(&|row| {
        if let (Some(outcome), Some(intent)) = (&row.outcome, &mut row.intent) {
            intent.attempt = outcome.attempt;
        }
    });
    all
}

fn renumbered(rows: Vec<Row>) -> Vec<Row> {
    (0..).zip(rows).map(|(seq, (_, stitch, at))| (Seq(seq), stitch, at)).collect()
}

fn every_journal(faults_max: usize, mut see: impl FnMut(&[Row])) {
    for kind in kinds(1, &plans()).iter().chain(&kinds(2, &plans())) {
        explore(kind, faults_max, |drive| see(&drive.rows));
    }
    for kind in &kinds(3, &[Plan::new(Backward::AfterAllLater), Plan::new(Backward::Independent)]) {
        explore(kind, faults_max, |drive| see(&drive.rows));
    }
}
