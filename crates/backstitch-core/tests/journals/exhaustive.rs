//! Every short workflow, with every few things going wrong at every place.
//!
//! The claims stand in [`crate::drive`], which checks every row it writes, and in [`crate::ledger`].

use backstitch_core::record::Turn;

use crate::drive::{Drive, Kind, Plan};
use crate::explore::{BACKWARDS, Trail, explore, kinds, plans};

#[test]
fn every_workflow_of_one_step_ends_well_whatever_four_things_go_wrong() {
    all(kinds(1, &plans()), 4);
}

#[test]
fn every_workflow_of_two_steps_ends_well_whatever_three_things_go_wrong() {
    all(kinds(2, &BACKWARDS.map(Plan::new)), 3);
}

#[test]
fn every_mixture_of_two_plain_and_transactional_steps_ends_well_whatever_two_things_go_wrong() {
    all(kinds(2, &plans()), 2);
}

#[test]
fn every_workflow_of_three_steps_ends_well_whatever_two_things_go_wrong() {
    all(kinds(3, &BACKWARDS.map(Plan::new)), 2);
}

#[test]
fn every_mixture_of_three_plain_and_transactional_steps_ends_well_whatever_goes_wrong() {
    all(kinds(3, &plans()), 1);
}

#[test]
fn a_function_that_goes_on_after_a_failed_step_ends_well_too() {
    let tolerant = |kind: Kind| Kind { tolerant: true, ..kind };
    all(kinds(2, &BACKWARDS.map(Plan::new)).into_iter().map(tolerant).collect(), 2);
}

fn all(kinds: Vec<Kind>, faults_max: usize) {
    let (mut journals, mut rows) = (0, 0);
    for kind in &kinds {
        journals += explore(kind, faults_max, |drive| {
            rows += drive.rows.len();
            ends_as_told(drive);
        });
    }
    println!("{} workflows, {journals} journals, {rows} rows", kinds.len());
}

/// What holds of every end.
fn ends_as_told(drive: &Drive<&mut Trail>) {
    let end = drive.history.end().expect("driven to its end");
    let report = drive.report();
    if drive.around.cancel.is_some() {
        assert_eq!(end, &Turn::Compensated, "an accepted cancel always ends compensated");
    }
    match end {
        Turn::Completed => assert_eq!(report, None),
        _ => {
            let report = report.expect("who turned back has a report");
            assert_eq!(report.owed().count(), 0, "nothing is owed at the end: {report}");
            assert_eq!(report.steps.len(), drive.history.slots().count());
        }
    }
}
