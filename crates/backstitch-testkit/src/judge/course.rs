//! What does a journal say of each step, row by row, and what of it can't be?

use std::collections::BTreeMap;

use super::{ENDS, Key, Row};
use crate::violation::{Violated, Violation};

/// What stands so far.
#[derive(Debug, Default)]
pub(super) struct Course {
    rows: u32,
    epoch: i32,
    unwinding: bool,
    ended: bool,
    steps: BTreeMap<u32, Step>,
    faults: Vec<Violation>,
}

/// Everything that is told of a step.
#[derive(Debug)]
struct Step {
    backward: String,
    runs: Vec<Attempt>,
    compensations: Vec<Attempt>,
    skipped: bool,
}

#[derive(Debug)]
struct Attempt {
    /// Its intent and its outcome stand in one row: if there is none, it left nothing.
    in_one_row: bool,
    verdict: Option<String>,
}

impl Attempt {
    fn has(&self, verdicts: &[&str]) -> bool {
        self.verdict.as_deref().is_some_and(|verdict| verdicts.contains(&verdict))
    }

    /// Whether it may have left something outside.
    fn may_have_happened(&self) -> bool {
        self.has(&["succeeded"]) || !self.in_one_row && !self.has(&["rejected"])
    }
}

/// Outcomes after which an attempt is not repeated, and that are no success.
const FAILED_FOR_GOOD: [&str; 3] = ["failed", "failed_in_doubt", "rejected"];

impl Step {
    fn may_have_happened(&self) -> bool {
        self.runs.iter().any(Attempt::may_have_happened)
    }

    fn is_taken_back(&self) -> bool {
        self.compensations.iter().any(|attempt| attempt.has(&["succeeded"]))
    }

    fn owes(&self) -> bool {
        let has_a_way_back = !matches!(self.backward.as_str(), "nothing" | "pivot");
        has_a_way_back && self.may_have_happened() && !self.is_taken_back() && !self.skipped
    }

    fn has_failed(&self) -> bool {
        self.runs.iter().any(|attempt| attempt.has(&FAILED_FOR_GOOD))
    }

    fn is_settled(&self) -> bool {
        self.has_failed() || self.runs.iter().any(|attempt| attempt.has(&["succeeded"]))
    }

    /// Whether the workflow's function has heard how it ended, or may: what failed is taken back before.
    fn is_delivered(&self) -> bool {
        self.is_settled() && !(self.has_failed() && self.owes())
    }

    fn is_passed_pivot(&self) -> bool {
        self.backward == "pivot" && self.may_have_happened()
    }
}

impl Course {
    /// Takes in the next row.
    pub(super) fn add(&mut self, row: &Row) {
        let seq = row.seq;
        if seq != self.rows {
            self.fault(Violated::Dense, format!("seq {seq} stands at {}", self.rows));
        }
        self.rows += 1;
        if self.ended {
            self.fault(Violated::EndIsLast, format!("seq {seq} follows the end"));
        }
        if row.epoch < self.epoch {
            self.fault(
                Violated::EpochsGrow,
                format!("seq {seq} is of epoch {}, after {}", row.epoch, self.epoch),
            );
        }
        self.epoch = row.epoch;
        let in_one_row =
            row.intent.is_some() && row.intent.as_ref() == row.outcome.as_ref().map(|(key, _)| key);
        if in_one_row {
            self.intent(row, true);
        }
        if let Some((key, verdict)) = &row.outcome {
            self.outcome(seq, key, verdict);
        }
        self.turn(row);
        if !in_one_row {
            self.intent(row, false);
        }
    }

    /// What of it can't be. To be asked when every row was taken in.
    pub(super) fn faults(self) -> Vec<Violation> {
        self.faults
    }

    fn fault(&mut self, what: Violated, how: String) {
        self.faults.push(what.by(how));
    }

    fn intent(&mut self, row: &Row, in_one_row: bool) {
        let Some((position, direction, number)) = &row.intent else { return };
        let (seq, position) = (row.seq, *position);
        match direction.as_str() {
            "run" => self.may_run(seq, position),
            _ => self.may_take_back(seq, position),
        }
        let step = self.steps.entry(position).or_insert_with(|| Step {
            backward: row.backward.clone().unwrap_or_default(),
            runs: Vec::new(),
            compensations: Vec::new(),
            skipped: false,
        });
        let attempts = if direction == "run" { &mut step.runs } else { &mut step.compensations };
        attempts.push(Attempt { in_one_row, verdict: None });
        if attempts.len() != *number as usize {
            let how = format!(
                "seq {seq} is attempt {number} to {direction} position {position}, not {}",
                attempts.len()
            );
            self.fault(Violated::AttemptsCounted, how);
        }
    }

    fn may_run(&mut self, seq: u32, position: u32) {
        if self.unwinding {
            self.fault(Violated::NeverForwardAgain, format!("seq {seq} runs forward after unwinding"));
        }
        let begun = self.steps.len();
        if position as usize > begun {
            self.fault(
                Violated::InTheirTurn,
                format!("seq {seq} runs position {position}, the next is {begun}"),
            );
        }
        if let Some((earlier, _)) = self.steps.range(..position).find(|(_, step)| !step.is_delivered()) {
            let how = format!("seq {seq} runs position {position}, and {earlier} is under way");
            self.fault(Violated::InTheirTurn, how);
        }
        if self.steps.get(&position).is_some_and(Step::is_settled) {
            self.fault(Violated::OneOutcome, format!("seq {seq} runs position {position}, which is settled"));
        }
    }

    fn may_take_back(&mut self, seq: u32, position: u32) {
        let Some(step) = self.steps.get(&position) else {
            self.fault(
                Violated::OnlyWhatIsOwed,
                format!("seq {seq} takes back {position}, which never began"),
            );
            return;
        };
        let owes = step.owes();
        let may_go_on = !self.unwinding && !step.has_failed();
        let in_turn = step.backward == "after_all_later";
        if !owes || may_go_on {
            let why = if owes { "may go on" } else { "owes nothing" };
            self.fault(Violated::OnlyWhatIsOwed, format!("seq {seq} takes back {position}, which {why}"));
        }
        let later: Vec<u32> = self
            .steps
            .range(position + 1..)
            .filter(|(_, step)| step.owes())
            .map(|(later, _)| *later)
            .collect();
        if in_turn && !later.is_empty() {
            let how = format!("seq {seq} takes back {position}, and {later:?} is still owed");
            self.fault(Violated::Reverse, how);
        }
    }

    fn outcome(&mut self, seq: u32, (position, direction, number): &Key, verdict: &str) {
        let back = direction == "compensate";
        let past_pivot = self.is_past_pivot(*position, *number);
        let step = self.steps.get_mut(position);
        let taken_back = step.as_ref().is_some_and(|step| !step.compensations.is_empty());
        let attempt = step.and_then(|step| {
            let attempts = if back { &mut step.compensations } else { &mut step.runs };
            attempts.get_mut((*number as usize).checked_sub(1)?)
        });
        match attempt {
            Some(attempt @ Attempt { verdict: None, .. }) => attempt.verdict = Some(verdict.to_owned()),
            Some(_) => {
                let how =
                    format!("seq {seq} is a second outcome of attempt {number} to {direction} {position}");
                self.fault(Violated::OneOutcome, how);
            }
            None => {
                let how = format!(
                    "seq {seq} is an outcome of attempt {number} to {direction} {position}, which never began"
                );
                self.fault(Violated::OneOutcome, how);
            }
        }
        if !back && taken_back {
            let how = format!("seq {seq} ends a run of position {position}, which is being taken back");
            self.fault(Violated::OneOutcome, how);
        }
        if FAILED_FOR_GOOD.contains(&verdict) && (back || past_pivot) {
            let what = if back { "a compensation" } else { "a step past the pivot" };
            self.fault(
                Violated::NeverGivenUp,
                format!("seq {seq}: {what} has {verdict}, at position {position}"),
            );
        }
    }

    /// Whether there is no way back any more for this attempt to run: of the pivot itself, for what earlier ones may have done.
    fn is_past_pivot(&self, position: u32, number: u32) -> bool {
        let pivot = self.steps.get(&position).filter(|step| step.backward == "pivot");
        let earlier = (number as usize).saturating_sub(1);
        self.steps.range(..position).any(|(_, step)| step.is_passed_pivot())
            || pivot.is_some_and(|step| step.runs.iter().take(earlier).any(Attempt::may_have_happened))
    }

    fn turn(&mut self, row: &Row) {
        let seq = row.seq;
        match row.turn.as_deref() {
            Some("unwinding") => {
                if self.unwinding {
                    self.fault(Violated::TurnsOnce, format!("seq {seq} unwinds again"));
                }
                if let Some((pivot, _)) = self.steps.iter().find(|(_, step)| step.is_passed_pivot()) {
                    let how = format!("seq {seq} unwinds, and the pivot at {pivot} is past");
                    self.fault(Violated::PivotHolds, how);
                }
                self.unwinding = true;
            }
            Some("skip_step") => self.decided(row, row.skips),
            Some("resolve") => self.decided(row, row.resolves.map(|(position, _)| position)),
            Some("completed") if self.unwinding => {
                self.fault(Violated::NeverForwardAgain, format!("seq {seq} completes after unwinding"));
            }
            Some("completed") => {
                if let Some((open, _)) = self.steps.iter().find(|(_, step)| !step.is_delivered()) {
                    self.fault(
                        Violated::NothingOwed,
                        format!("seq {seq} completes, and {open} is under way"),
                    );
                }
            }
            Some("compensated") => {
                if !self.unwinding {
                    self.fault(Violated::TurnsOnce, format!("seq {seq} is compensated, and never unwound"));
                }
                if let Some((owed, _)) = self.steps.iter().find(|(_, step)| step.owes()) {
                    self.fault(
                        Violated::NothingOwed,
                        format!("seq {seq} is compensated, and {owed} is owed"),
                    );
                }
            }
            _ => {}
        }
        self.ended |= row.turn.as_deref().is_some_and(|turn| ENDS.contains(&turn));
    }

    /// What an operator took upon themselves, or saw.
    fn decided(&mut self, row: &Row, position: Option<u32>) {
        let unwinding = self.unwinding;
        let Some(step) = position.and_then(|position| self.steps.get_mut(&position)) else {
            let how = format!("seq {} decides about {position:?}, which never began", row.seq);
            self.fault(Violated::InTheirTurn, how);
            return;
        };
        match row.resolves {
            None => step.skipped = true,
            Some((_, true)) => {
                if let Some(last) = step.runs.last_mut() {
                    last.verdict = Some("succeeded".to_owned());
                }
            }
            // Forward it is simply tried once more.
            Some((_, false)) if unwinding || step.has_failed() => {
                for attempt in &mut step.runs {
                    attempt.verdict = Some("rejected".to_owned());
                }
            }
            Some((_, false)) => {}
        }
    }
}
