//! The invariants of the design, read off the raw rows: what the fold should have noticed, worked out another way.

use backstitch_core::decide::{Circumstances, LateEffects, Orphaned};
use backstitch_core::history::History;
use backstitch_core::id::{Direction, Position};
use backstitch_core::json::Json;
use backstitch_core::limits::{CRASH_BUDGET, LATE_EFFECT_GRACE};
use backstitch_core::record::{Backward, Cause, Intent, Outcome, Turn, Verdict};
use chrono::{DateTime, Utc};

use crate::drive::{Kind, Row, failure};

/// All attempts that the rows speak of.
#[derive(Default)]
pub struct Ledger {
    rows: u32,
    steps: Vec<Told>,
    unwinding: bool,
    /// The deaths that turned it back, for as long as they stand among the charges.
    deaths_before: u32,
    ended: bool,
}

struct Told {
    name: String,
    backward: Backward,
    runs: Vec<Try>,
    compensations: Vec<Try>,
    skipped: bool,
}

struct Try {
    began_at: DateTime<Utc>,
    in_one_row: bool,
    ended: Option<Verdict>,
}

impl Try {
    /// Whether it may have left something outside.
    fn may_have_happened(&self) -> bool {
        match self.ended {
            Some(Verdict::Succeeded(_)) => true,
            Some(Verdict::Rejected(_)) => false,
            _ => !self.in_one_row,
        }
    }

    /// Whether an effect of it may still be on its way.
    fn may_arrive_late(&self) -> bool {
        let unanswered = matches!(
            self.ended,
            None | Some(Verdict::InDoubt(_) | Verdict::FailedInDoubt(_) | Verdict::HandedBack)
        );
        unanswered && !self.in_one_row
    }

    fn failed(&self) -> bool {
        self.ended.as_ref().is_some_and(|verdict| verdict.failure().is_some())
    }
}

impl Told {
    fn may_have_happened(&self) -> bool {
        self.runs.iter().any(Try::may_have_happened)
    }

    fn owes(&self) -> bool {
        let compensates = matches!(self.backward, Backward::AfterAllLater | Backward::Independent);
        let compensated =
            self.compensations.iter().any(|attempt| matches!(attempt.ended, Some(Verdict::Succeeded(_))));
        compensates && self.may_have_happened() && !compensated && !self.skipped
    }

    fn settled(&self) -> Option<&Verdict> {
        let verdicts = self.runs.iter().filter_map(|attempt| attempt.ended.as_ref());
        verdicts.into_iter().find(|verdict| {
            matches!(
                verdict,
                Verdict::Succeeded(_) | Verdict::Failed(_) | Verdict::FailedInDoubt(_) | Verdict::Rejected(_)
            )
        })
    }

    fn has_failed(&self) -> bool {
        self.settled().is_some_and(|verdict| verdict.failure().is_some())
    }

    fn is_delivered(&self) -> bool {
        self.settled().is_some() && !(self.has_failed() && self.owes())
    }
}

impl Ledger {
    /// Checks the next row. With the circumstances, also what a journal alone can't tell: that only stuck steps are
    /// passed, and that late effects were waited out.
    pub fn add(&mut self, row: &Row, around: Option<(&Kind, &Circumstances)>) -> Result<(), String> {
        let (seq, stitch, at) = row;
        demand(seq.0 == self.rows, "I1: seq without gaps")?;
        demand(!self.ended, "I7: nothing after a terminal record")?;
        self.rows += 1;
        if let (Some(outcome), Some(intent)) = (&stitch.outcome, &stitch.intent)
            && outcome.attempt == intent.attempt
        {
            self.intent(intent, *at, true, around)?;
            return self.outcome(outcome);
        }
        if let Some(outcome) = &stitch.outcome {
            self.outcome(outcome)?;
        }
        if let Some(turn) = &stitch.turn {
            self.turn(turn)?;
        }
        if let Some(intent) = &stitch.intent {
            demand(!self.ended, "I7: nothing after a terminal record")?;
            self.intent(intent, *at, false, around)?;
        }
        Ok(())
    }

    fn intent(
        &mut self,
        intent: &Intent,
        at: DateTime<Utc>,
        in_one_row: bool,
        around: Option<(&Kind, &Circumstances)>,
    ) -> Result<(), String> {
        let index = intent.attempt.position.0 as usize;
        let began = Try { began_at: at, in_one_row, ended: None };
        match intent.attempt.direction {
            Direction::Run => {
                demand(!self.unwinding, "I4: nothing runs forward after unwinding")?;
                demand(index <= self.steps.len(), "positions without gaps")?;
                demand(
                    self.steps[..index].iter().all(Told::is_delivered),
                    "no step runs before the earlier is done",
                )?;
                if index == self.steps.len() {
                    let (name, backward) = (intent.step.clone(), intent.backward);
                    self.steps.push(Told {
                        name,
                        backward,
                        runs: Vec::new(),
                        compensations: Vec::new(),
                        skipped: false,
                    });
                }
                let told = &mut self.steps[index];
                demand(told.settled().is_none(), "I3: at most one final outcome")?;
                demand(told.name == intent.step, "one step per position")?;
                told.runs.push(began);
                demand(told.runs.len() == intent.attempt.attempt as usize, "attempts are counted")
            }
            Direction::Compensate => {
                let told = self.steps.get(index).ok_or("a step that never began is compensated")?;
                demand(told.owes(), "I3: only what is owed is compensated")?;
                demand(
                    self.unwinding || told.has_failed(),
                    "no compensation of a step that may still go on",
                )?;
                demand(told.name == intent.step, "one step per position")?;
                self.in_its_turn(index, at, around)?;
                if let Some((kind, around)) = around {
                    self.waited_out(index, at, kind, around)?;
                }
                let told = &mut self.steps[index];
                told.compensations.push(began);
                demand(told.compensations.len() == intent.attempt.attempt as usize, "attempts are counted")
            }
        }
    }

    /// I6.
    fn in_its_turn(
        &self,
        index: usize,
        at: DateTime<Utc>,
        around: Option<(&Kind, &Circumstances)>,
    ) -> Result<(), String> {
        let owing: Vec<usize> =
            (index + 1..self.steps.len()).filter(|&later| self.steps[later].owes()).collect();
        let Some(&last) = owing.last() else { return Ok(()) };
        demand(
            self.unwinding && self.steps[index].backward == Backward::Independent,
            "I6: every later step is settled before",
        )?;
        let Some((kind, around)) = around else {
            return Ok(());
        };
        let patience = kind.steps[last].conduct.patience;
        let tries = &self.steps[last].compensations;
        let failed = tries.iter().filter(|attempt| attempt.failed()).count();
        let first = tries.first().map_or(at, |attempt| attempt.began_at);
        let impatient = failed >= patience.attempts as usize || failed > 0 && first + patience.time <= at;
        let deadly = tries.last().is_some_and(|attempt| attempt.ended.is_none())
            && around.crash_charges >= self.deaths_before + CRASH_BUDGET;
        demand(impatient || deadly, "I6: an independent step passes only a stuck one")
    }

    fn waited_out(
        &self,
        index: usize,
        at: DateTime<Utc>,
        kind: &Kind,
        around: &Circumstances,
    ) -> Result<(), String> {
        let conduct = kind.steps[index].conduct;
        let told = &self.steps[index];
        if conduct.late_effects == LateEffects::Refused || !told.compensations.is_empty() {
            return Ok(());
        }
        // Of the process that is gone is only what was under way at last.
        let gone = conduct.late_effects == LateEffects::Local && around.orphaned == Some(Orphaned::Gone);
        let last_is_gone = gone && told.runs.last().is_some_and(|last| last.ended.is_none());
        let runs = &told.runs[..told.runs.len() - usize::from(last_is_gone)];
        let late = runs.iter().filter(|attempt| attempt.may_arrive_late());
        let gone_at = late.map(|attempt| attempt.began_at + conduct.timeout + LATE_EFFECT_GRACE).max();
        demand(gone_at.is_none_or(|gone_at| gone_at <= at), "late effects are waited out")?;
        Ok(())
    }

    fn outcome(&mut self, outcome: &Outcome) -> Result<(), String> {
        let told = self
            .steps
            .get_mut(outcome.attempt.position.0 as usize)
            .ok_or("I2: no effect before its intent")?;
        let back = outcome.attempt.direction == Direction::Compensate;
        demand(back || told.compensations.is_empty(), "no run ends after its compensation began")?;
        let attempts = if back { &mut told.compensations } else { &mut told.runs };
        let count = attempts.len();
        let attempt = attempts.last_mut().ok_or("I2: no effect before its intent")?;
        demand(count == outcome.attempt.attempt as usize, "I2: no effect before its intent")?;
        demand(attempt.ended.is_none(), "I3: at most one outcome")?;
        demand(
            !back
                || !matches!(
                    outcome.verdict,
                    Verdict::Failed(_) | Verdict::FailedInDoubt(_) | Verdict::Rejected(_)
                ),
            "I12: a compensation never gives up",
        )?;
        attempt.ended = Some(outcome.verdict.clone());
        if outcome.verdict != Verdict::HandedBack {
            self.deaths_before = 0;
        }
        let position = outcome.attempt.position.0 as usize;
        let pivot_before = self.steps[..position].iter().any(Told::is_passed_pivot);
        let is_final =
            matches!(outcome.verdict, Verdict::Failed(_) | Verdict::FailedInDoubt(_) | Verdict::Rejected(_));
        demand(
            !is_final || !pivot_before && !self.steps[position].is_passed_pivot(),
            "past the pivot nothing fails for good",
        )
    }

    fn turn(&mut self, turn: &Turn) -> Result<(), String> {
        match turn {
            Turn::Unwinding(cause) => {
                demand(!self.unwinding, "unwinding once")?;
                demand(!self.past_pivot(), "no way back past the pivot")?;
                self.unwinding = true;
                if let Cause::CrashLoop { deaths } = cause {
                    self.deaths_before = *deaths;
                }
            }
            Turn::Completed => {
                demand(!self.unwinding, "I4: nothing completes after unwinding")?;
                demand(self.steps.iter().all(Told::is_delivered), "completed means every step is done")?;
                self.ended = true;
            }
            Turn::Compensated => {
                demand(self.unwinding, "compensated follows unwinding")?;
                demand(!self.steps.iter().any(Told::owes), "I5: compensated means nothing is owed")?;
                self.ended = true;
            }
            Turn::Abandoned(_) => self.ended = true,
            Turn::SkipStep(skip) => {
                demand(self.unwinding, "only on the way back is a step skipped")?;
                let step = self.steps.get_mut(skip.position.0 as usize);
                step.ok_or("a step that never began is skipped")?.skipped = true;
            }
            Turn::Resolve(found) => {
                let step = self.steps.get_mut(found.position.0 as usize);
                step.ok_or("a step that never began is resolved")?.resolve(found.happened, self.unwinding)?;
            }
            Turn::Retry(_) | Turn::Pause(_) | Turn::Resume(_) => {}
        }
        Ok(())
    }

    fn past_pivot(&self) -> bool {
        self.steps.iter().any(Told::is_passed_pivot)
    }

    /// The fold came to the same conclusions.
    pub fn agrees_with(&self, history: &History) {
        assert_eq!(history.seq_next().0, self.rows);
        assert_eq!(history.steps_begun() as usize, self.steps.len());
        assert_eq!(history.unwinding().is_some(), self.unwinding);
        assert_eq!(history.end().is_some(), self.ended);
        assert_eq!(history.past_pivot(), self.past_pivot(), "past the pivot");
        for (position, told) in (0..).zip(&self.steps) {
            let slot = history.slot(Position(position)).expect("a slot per step");
            assert_eq!(slot.owes_compensation(), told.owes(), "owed at {position}");
            assert_eq!(slot.may_have_happened(), told.may_have_happened(), "happened at {position}");
            assert_eq!(slot.has_failed(), told.has_failed(), "failed at {position}");
        }
    }
}

impl Told {
    /// What somebody saw stands for the tries themselves.
    fn resolve(&mut self, happened: bool, unwinding: bool) -> Result<(), String> {
        let final_in_doubt = matches!(self.settled(), Some(Verdict::FailedInDoubt(_)));
        demand(self.settled().is_none() || final_in_doubt, "only what is in doubt is resolved")?;
        if happened {
            let last = self.runs.last_mut().ok_or("a step that never began is resolved")?;
            last.ended = Some(Verdict::Succeeded(Json::from_journal("null")));
        } else if unwinding || final_in_doubt {
            for attempt in &mut self.runs {
                attempt.ended = Some(Verdict::Rejected(failure()));
            }
        }
        Ok(())
    }

    fn is_passed_pivot(&self) -> bool {
        self.backward == Backward::Pivot && self.may_have_happened()
    }
}

fn demand(holds: bool, rule: &str) -> Result<(), String> {
    if holds { Ok(()) } else { Err(format!("broken: {rule}")) }
}
