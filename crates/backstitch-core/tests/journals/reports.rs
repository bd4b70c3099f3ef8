//! What the caller is told of a workflow that was taken back.

use backstitch_core::record::{Backward, Stitch};
use backstitch_core::report::{Fate, RollbackReport};

use crate::drive::{back, failure, operator, run, succeeded};
use crate::stitches::{begins, commits, ends, failed, history, rejected, resolved, retry, skipped, unwinds};

const LATER: Backward = Backward::AfterAllLater;

/// Every fate of a single step, and the rows that lead to it.
fn fates() -> Vec<(&'static str, Vec<Stitch>, Fate)> {
    let begin = |backward| begins(run(0, 1), backward);
    let done = |backward| commits(run(0, 1), backward, succeeded());
    let compensated = |attempt| commits(back(0, attempt), LATER, succeeded());
    let owed = |attempts, error| Fate::Owed { attempts, error };
    vec![
        ("compensated", vec![done(LATER), unwinds(), compensated(1)], Fate::Compensated { attempts: 1 }),
        (
            "compensated in 2 attempts",
            vec![done(LATER), unwinds(), commits(back(0, 1), LATER, retry()), compensated(2)],
            Fate::Compensated { attempts: 2 },
        ),
        (
            "compensated",
            vec![begin(LATER), ends(run(0, 1), failed()), compensated(1), unwinds()],
            Fate::Compensated { attempts: 1 },
        ),
        ("had nothing to compensate", vec![begin(Backward::Nothing), unwinds()], Fate::NothingToCompensate),
        ("did not happen", vec![begin(LATER), ends(run(0, 1), rejected()), unwinds()], Fate::DidNotHappen),
        (
            "did not happen",
            vec![begin(Backward::Nothing), ends(run(0, 1), rejected()), unwinds()],
            Fate::DidNotHappen,
        ),
        (
            "did not happen",
            vec![begin(Backward::Pivot), ends(run(0, 1), rejected()), unwinds()],
            Fate::DidNotHappen,
        ),
        ("did not happen", vec![commits(run(0, 1), LATER, failed()), unwinds()], Fate::DidNotHappen),
        ("did not happen", vec![begin(LATER), unwinds(), resolved(0, false)], Fate::DidNotHappen),
        (
            "skipped by ada: the test says so",
            vec![done(LATER), unwinds(), skipped(0)],
            Fate::Skipped(operator()),
        ),
        ("still owed after 0 attempts", vec![begin(LATER), unwinds()], owed(0, None)),
        (
            "still owed after 1 attempts",
            vec![done(LATER), unwinds(), begins(back(0, 1), LATER)],
            owed(1, None),
        ),
        (
            "still owed after 1 attempts: the lift is out of order (out_of_order)",
            vec![done(LATER), unwinds(), commits(back(0, 1), LATER, retry())],
            owed(1, Some(failure())),
        ),
    ]
}

#[test]
fn every_step_that_began_has_its_fate() {
    for (text, rows, fate) in fates() {
        let report = RollbackReport::of(&history(&rows)).expect("it unwinds");
        assert_eq!(report.to_string(), format!("step-0 {text}"));
        assert_eq!(report.owed().count(), usize::from(matches!(fate, Fate::Owed { .. })), "{text}");
        assert_eq!(report.steps[0].fate, fate, "{text}");
    }
}

#[test]
fn there_is_no_report_while_a_workflow_goes_forward() {
    assert_eq!(RollbackReport::of(&history(&[begins(run(0, 1), LATER)])), None);
}

#[test]
fn a_workflow_without_steps_says_so() {
    let report = RollbackReport::of(&history(&[unwinds()])).expect("it unwinds");
    assert_eq!(report.to_string(), "no step had begun");
}

#[test]
fn a_report_comes_back_from_its_json_unchanged() {
    for (_, rows, _) in fates() {
        let report = RollbackReport::of(&history(&rows)).expect("it unwinds");
        let json = serde_json::to_string(&report).expect("serializes");
        assert_eq!(serde_json::from_str::<RollbackReport>(&json).expect("deserializes"), report, "{json}");
    }
}
