//! Every rule of the journal, each broken once.

use std::collections::BTreeSet;

use backstitch_core::history::History;
use backstitch_core::id::Seq;
use backstitch_core::record::{Backward, Intent, Stitch, Turn};

use crate::drive::{back, intent, operator, run, succeeded};
use crate::stitches::{at, begins, commits, ends, failed, fold, rejected, resolved, skipped, turns, unwinds};

const LATER: Backward = Backward::AfterAllLater;

/// Each rule, and a journal whose last row breaks it.
fn broken() -> Vec<(&'static str, Vec<Stitch>)> {
    let begin = |position| begins(run(position, 1), LATER);
    let done = |position| commits(run(position, 1), LATER, succeeded());
    let completed = || turns(Turn::Completed);
    vec![
        ("a row follows the end (I7)", vec![done(0), completed(), turns(Turn::Retry(operator()))]),
        ("a row follows the end (I7)", vec![done(0), completed(), completed()]),
        ("the row says nothing", vec![Stitch::default()]),
        ("a transactional row turns", vec![Stitch { turn: Some(Turn::Retry(operator())), ..done(0) }]),
        ("an intent follows the end (I7)", vec![done(0), Stitch { turn: Some(Turn::Completed), ..begin(1) }]),
        ("a step runs after unwinding began (I4)", vec![unwinds(), begin(0)]),
        ("a step runs after unwinding began (I4)", vec![begin(0), unwinds(), begins(run(0, 2), LATER)]),
        ("an earlier step is open", vec![begin(0), begin(1)]),
        ("an earlier step is open", vec![begin(0), ends(run(0, 1), failed()), begin(1)]),
        (
            "the first attempt carries no input",
            vec![Stitch {
                intent: Some(Intent { input: None, ..intent(run(0, 1), LATER) }),
                ..Stitch::default()
            }],
        ),
        ("a step that never began is compensated", vec![unwinds(), begins(back(0, 1), LATER)]),
        (
            "a step is compensated before a later one (I6)",
            vec![done(0), done(1), unwinds(), begins(back(0, 1), LATER)],
        ),
        ("a position is left out", vec![begin(1)]),
        (
            "an attempt names another step than the first one did",
            vec![
                begin(0),
                Stitch {
                    intent: Some(Intent { step: "other".into(), ..intent(run(0, 2), LATER) }),
                    ..Stitch::default()
                },
            ],
        ),
        (
            "a step that owes nothing is compensated",
            vec![begins(run(0, 1), Backward::Nothing), unwinds(), begins(back(0, 1), LATER)],
        ),
        (
            "a step that owes nothing is compensated",
            vec![begin(0), ends(run(0, 1), rejected()), unwinds(), begins(back(0, 1), LATER)],
        ),
        (
            "a step that owes nothing is compensated",
            vec![done(0), unwinds(), commits(back(0, 1), LATER, succeeded()), begins(back(0, 2), LATER)],
        ),
        (
            "a step that did not fail is compensated before unwinding",
            vec![begin(0), begins(back(0, 1), LATER)],
        ),
        ("a settled step is tried again (I3)", vec![done(0), begins(run(0, 2), LATER)]),
        ("attempts are not counted one by one", vec![begin(0), begins(run(0, 3), LATER)]),
        ("attempts are not counted one by one", vec![begin(0), begins(run(0, 1), LATER)]),
        ("an outcome of a step that never began", vec![ends(run(0, 1), succeeded())]),
        ("an outcome without its intent, or a second one (I3)", vec![done(0), ends(run(0, 1), succeeded())]),
        ("an outcome without its intent, or a second one (I3)", vec![begin(0), ends(run(0, 2), succeeded())]),
        (
            "an outcome without its intent, or a second one (I3)",
            vec![begin(0), ends(back(0, 1), succeeded())],
        ),
        (
            "a run ends after its compensation began",
            vec![begin(0), unwinds(), begins(back(0, 1), LATER), ends(run(0, 1), succeeded())],
        ),
        (
            "a compensation gives up (I12)",
            vec![done(0), unwinds(), begins(back(0, 1), LATER), ends(back(0, 1), failed())],
        ),
        ("a compensation gives up (I12)", vec![done(0), unwinds(), commits(back(0, 1), LATER, rejected())]),
        (
            "a step fails for good past the pivot",
            vec![commits(run(0, 1), Backward::Pivot, succeeded()), begin(1), ends(run(1, 1), failed())],
        ),
        (
            "a step fails for good past the pivot",
            vec![begins(run(0, 1), Backward::Pivot), ends(run(0, 1), failed())],
        ),
        (
            "a step fails for good past the pivot",
            vec![
                begins(run(0, 1), Backward::Pivot),
                begins(run(0, 2), Backward::Pivot),
                ends(run(0, 2), rejected()),
            ],
        ),
        ("unwinding began twice", vec![unwinds(), unwinds()]),
        ("unwinding began past the pivot", vec![begins(run(0, 1), Backward::Pivot), unwinds()]),
        ("a workflow completes after unwinding began (I4)", vec![unwinds(), completed()]),
        ("a workflow completes with an open step", vec![begin(0), completed()]),
        ("a workflow completes with an open step", vec![begin(0), ends(run(0, 1), failed()), completed()]),
        ("a step is skipped before unwinding began", vec![done(0), skipped(0)]),
        ("a step that never began is skipped", vec![unwinds(), skipped(0)]),
        ("a step that never began is resolved", vec![resolved(0, true)]),
        ("a step is resolved that is not in doubt", vec![done(0), resolved(0, false)]),
        ("compensated without unwinding", vec![turns(Turn::Compensated)]),
        ("compensated with a step still owed (I5)", vec![begin(0), unwinds(), turns(Turn::Compensated)]),
    ]
}

const GAP: &str = "seq has a gap or a repetition (I1)";

#[test]
fn a_broken_rule_is_named_with_its_row() {
    for (rule, rows) in broken() {
        fold(&rows[..rows.len() - 1]).expect("only the last row breaks a rule");
        let corrupt = fold(&rows).expect_err(rule);
        assert_eq!((corrupt.what, corrupt.seq.0 as usize), (rule, rows.len() - 1));
    }
}

#[test]
fn a_gap_and_a_repetition_of_seq_are_refused() {
    for seqs in [&[1][..], &[0, 0], &[0, 2]] {
        let rows = [turns(Turn::Retry(operator())), turns(Turn::Retry(operator()))];
        let corrupt =
            History::fold(seqs.iter().zip(&rows).map(|(&seq, row)| (Seq(seq), row, at(0)))).expect_err(GAP);
        assert_eq!(corrupt.what, GAP);
    }
}

#[test]
fn no_rule_of_the_fold_goes_untested() {
    let tested: BTreeSet<&str> = broken().iter().map(|(rule, _)| *rule).chain([GAP]).collect();
    let source = include_str!("../../src/history.rs");
    let (_, fold) = source.split_once("fn add(").expect("the fold begins");
    let (fold, _) = fold.split_once("\nimpl Slot").expect("the fold ends");
    let rules: BTreeSet<&str> = fold.split('"').skip(1).step_by(2).collect();
    assert_eq!(rules, tested);
}
