//! A worker may die after any row, and another takes over.

use std::collections::HashSet;

use backstitch_core::decide::{Orphaned, Recovery};
use backstitch_core::id::Seq;
use backstitch_core::limits::SLOW_RETRY;
use backstitch_core::record::{AttemptId, Turn};

use crate::drive::{Drive, Ending, Event, Kind, Plan, Rest, Row, Script, Smooth};
use crate::explore::{BACKWARDS, explore, kinds, plans};

#[test]
fn every_prefix_of_every_journal_recovers() {
    let plain = BACKWARDS.map(Plan::new);
    let kinds =
        [(kinds(1, &plans()), 2), (kinds(2, &plain), 2), (kinds(2, &plans()), 1), (kinds(3, &plain), 1)];
    let mut prefixes = 0;
    for (kinds, faults_max) in kinds {
        for kind in kinds {
            // Journals share their beginnings: each is looked at once.
            let mut seen = HashSet::new();
            explore(&kind, faults_max, |drive| {
                for length in 0..=drive.rows.len() {
                    let prefix = &drive.rows[..length];
                    if seen.insert(format!("{prefix:?}")) {
                        prefixes += 1;
                        recovers(&kind, prefix);
                    }
                }
            });
        }
    }
    println!("{prefixes} prefixes, each recovered in 12 ways");
}

fn recovers(kind: &Kind, prefix: &[Row]) {
    for recovery in [Recovery::Compensate, Recovery::Resume] {
        let kind = Kind { recovery, ..kind.clone() };
        for orphaned in [None, Some(Orphaned::Expired), Some(Orphaned::Gone)] {
            let mut drive = Drive::recover(&kind, Smooth, prefix, orphaned);
            let unwinding = drive.history.unwinding().is_some();
            let end = drive.finish();
            assert!(!unwinding || end == Turn::Compensated, "who has turned back is compensated");
            comes_to_rest(&mut Drive::recover(&kind, Hopeless, prefix, orphaned));
        }
    }
}

/// Nothing works: it ends, or somebody is told and it is tried again at a time that is known.
fn comes_to_rest(drive: &mut Drive<Hopeless>) {
    loop {
        match drive.go_on() {
            Rest::Ended(_) => return,
            Rest::Waiting(due) => drive.around.now = due,
            Rest::Attention(due) => {
                let wait = due - drive.around.now;
                assert!(wait > chrono::TimeDelta::zero(), "a due time lies ahead");
                assert!(wait.to_std().expect("ahead") <= SLOW_RETRY, "and not out of sight");
                return;
            }
        }
    }
}

struct Hopeless;

impl Script for Hopeless {
    fn ending(&mut self, _: AttemptId) -> Ending {
        Ending::Retries
    }

    fn event(&mut self, _: Seq) -> Event {
        Event::Nothing
    }
}
