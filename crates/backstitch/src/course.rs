//! What comes next for a claimed workflow: the core's decisions over its journal, and its function polled to its next step.
//!
//! Nothing here waits, writes or has an effect. What is decided is noted in the history at once, so that the next
//! decision builds on it; `drive` makes it durable before anything follows from it.

use std::sync::Arc;

use backstitch_core::decide::{
    Circumstances, Conduct, Forward, Unwind, dies_of_what_is_not_journaled, forward, later, must_unwind,
    unwind,
};
use backstitch_core::failure::{StepFailed, WorkflowError};
use backstitch_core::history::{History, Slot};
use backstitch_core::id::{Direction, Position};
use backstitch_core::json::Json;
use backstitch_core::limits::SLOW_RETRY;
use backstitch_core::record::{Backward, Cause, Stitch, Turn, Verdict};
use chrono::{DateTime, Utc};

use crate::claim::Claimed;
use crate::flow::{Asked, Function, Misuse, Polled};
use crate::journal::Attention;
use crate::life::Shop;
use crate::step::{Effect, StepCode};
use crate::workflow::{Kind, OnMismatch};

/// What comes next.
pub(crate) enum Next {
    Attempt { position: Position, direction: Direction, number: u32, input: Option<Json>, step: String },
    Park(DateTime<Utc>),
    Attention(DateTime<Utc>, Attention),
    Complete(Json),
    Compensated,
}

/// Where a workflow stands, in this worker's eyes.
pub(crate) struct Course<S> {
    pub(crate) shop: Arc<Shop<S>>,
    pub(crate) kind: Arc<Kind<S>>,
    pub(crate) claimed: Claimed,
    pub(crate) history: History,
    /// The row in the making: noted in the history, not durable yet.
    pub(crate) row: Stitch,
    /// The phase that the workflow enters with that row. None: it stays in its own.
    pub(crate) phase: Option<&'static str>,
    function: Option<Function>,
    /// The step that the function awaits.
    asked: Option<Asked>,
}

impl<S: Send + Sync + 'static> Course<S> {
    pub(crate) fn new(shop: Arc<Shop<S>>, claimed: Claimed, history: History) -> Self {
        let kind = shop.kinds.get(claimed.kind.as_str()).expect("only served kinds are claimed");
        let kind = Arc::clone(kind);
        Self {
            shop,
            kind,
            claimed,
            history,
            row: Stitch::default(),
            phase: None,
            function: None,
            asked: None,
        }
    }

    /// Decides: asks the core, and lets the function run on to its next step. `draining`: nothing begins any more.
    pub(crate) fn next(&mut self, draining: bool) -> Next {
        let around = self.circumstances();
        if let Some(cause) = must_unwind(&self.history, &around) {
            self.turn_back(cause);
        }
        // Once told, it is tried: at the slow pace, or because somebody says so.
        if !self.claimed.attention && dies_of_what_is_not_journaled(&self.history, &around) {
            let message = format!(
                "{} processes died of it: of its function, or of a step whose attempts leave no intent",
                around.crash_charges
            );
            let due = later(around.now, SLOW_RETRY);
            return Next::Attention(due, Attention::new("crash_loop", message));
        }
        loop {
            let next = if self.history.unwinding().is_some() {
                Some(self.next_back(&around))
            } else {
                self.next_forward(&around)
            };
            match next {
                // Nothing begins in a worker that is about to stop.
                Some(Next::Attempt { .. }) if draining => {
                    return Next::Park(around.now);
                }
                Some(next) => return next,
                None => {}
            }
        }
    }

    fn next_back(&self, around: &Circumstances) -> Next {
        let kind = &*self.kind;
        match unwind(self.claimed.workflow, &self.history, |slot| conduct_back(kind, slot), around) {
            Unwind::Compensate { position, attempt } => self.again(position, Direction::Compensate, attempt),
            Unwind::WaitUntil(due) => Next::Park(due),
            Unwind::Done => Next::Compensated,
            Unwind::Attention { stuck, due } => {
                let stuck: Vec<_> = stuck
                    .into_iter()
                    .map(|stuck| {
                        let step = self.history.slot(stuck.position).map_or("", |slot| slot.step.as_str());
                        match stuck.failure {
                            Some(failure) => format!("{step} can't be compensated: {failure}"),
                            None => format!("{step}: this worker has no code that compensates it"),
                        }
                    })
                    .collect();
                Next::Attention(due, Attention::new("compensation_stuck", stuck.join("; ")))
            }
        }
    }

    /// None: the course has changed, or the function was answered; ask again.
    fn next_forward(&mut self, around: &Circumstances) -> Option<Next> {
        let asked = match self.poll_function() {
            Ok(Polled::Asks(asked)) => asked,
            Ok(Polled::Returned { end, steps }) => return self.returned(end, steps),
            Ok(Polled::Misuses(misuse)) => return self.give_up(Cause::Failed(misuse.into())),
            Err(message) => {
                let due = later(around.now, SLOW_RETRY);
                return Some(Next::Attention(due, Attention::new("undecodable_input", message)));
            }
        };
        let code = match self.fitting_code(&asked) {
            Ok(code) => code,
            Err(cause) => return self.give_up(cause),
        };
        let position = asked.position;
        match forward(self.claimed.workflow, &self.history, position, &code.conduct, around) {
            Forward::Deliver(output) => self.answer(Ok(output)),
            Forward::DeliverFailure(failure) => {
                self.answer(Err(StepFailed { step: asked.step.to_owned(), position, failure }));
            }
            Forward::Run { attempt: number } => {
                let input = asked.input.ok().filter(|_| self.history.slot(position).is_none());
                let step = asked.step.to_owned();
                return Some(Next::Attempt { position, direction: Direction::Run, number, input, step });
            }
            Forward::Compensate { attempt } => {
                return Some(self.again(position, Direction::Compensate, attempt));
            }
            Forward::WaitUntil(due) => {
                let deadline = self.claimed.deadline_at.filter(|_| !self.history.past_pivot());
                return Some(Next::Park(deadline.map_or(due, |deadline| deadline.min(due))));
            }
            Forward::Attention(due) => {
                let failure = self.history.slot(position).and_then(|slot| slot.run.failure.clone());
                let failure = failure.map_or_else(String::new, |failure| failure.to_string());
                let message = format!("{} keeps failing past the pivot: {failure}", asked.step);
                return Some(Next::Attention(due, Attention::new("forward_stuck", message)));
            }
            Forward::Unwind(failure) => {
                let error = WorkflowError { failure, step: Some(asked.step.to_owned()) };
                return self.give_up(Cause::Failed(error));
            }
        }
        None
    }

    fn answer(&mut self, answer: Result<Json, StepFailed>) {
        self.asked = None;
        self.function.as_mut().expect("a step is answered to the function that asked").answer(answer);
    }

    /// Lets the function run on, from its start if need be; while it awaits a step, it asks for that one. Err: its input
    /// does not fit its type.
    fn poll_function(&mut self) -> Result<Polled, String> {
        if let Some(asked) = &self.asked {
            return Ok(Polled::Asks(asked.clone()));
        }
        if self.function.is_none() {
            let (kind, input) = (&*self.kind, &self.claimed.input);
            let function = Function::start(|flow| kind.start(input, flow)).map_err(|error| {
                format!("the input of {} {error}; serve it with code that reads it, or cancel it", kind.name)
            })?;
            self.function = Some(function);
        }
        let polled = self.function.as_mut().expect("started above").poll();
        if let Polled::Asks(asked) = &polled {
            self.asked = Some(asked.clone());
        }
        Ok(polled)
    }

    fn returned(&mut self, end: Result<Json, WorkflowError>, steps: u32) -> Option<Next> {
        let begun = self.history.steps_begun();
        match end {
            _ if steps < begun => {
                let message = format!("the function returned after {steps} steps, its journal has {begun}");
                self.give_up(Cause::Mismatch { message })
            }
            Ok(output) => Some(Next::Complete(output)),
            Err(error) => self.give_up(Cause::Failed(error)),
        }
    }

    /// The workflow ends with the row in the making.
    pub(crate) fn end(&mut self, turn: Turn) {
        // Asked, not noted: a cancel that comes first takes the end back.
        if let Err(rule) = self.history.may_turn(&turn) {
            panic!("workflow {}: the engine breaks a rule of the journal: {rule}", self.claimed.workflow);
        }
        self.row.turn = Some(turn);
    }

    /// The code of the step that the function asks for, if it fits what the journal says of that position.
    fn fitting_code(&self, asked: &Asked) -> Result<&StepCode<S>, Cause> {
        let failed = |code: &'static str, message| Cause::Failed(WorkflowError::new(code, message));
        let step = asked.step;
        let input = match &asked.input {
            Ok(input) => input,
            Err(error) => return Err(failed("invalid_input", format!("the input of step {step} {error}"))),
        };
        let Some(code) = self.kind.steps.get(step) else {
            let message =
                format!("step {step} is not among the steps of {}: add it to `steps`", self.kind.name);
            return Err(failed("unregistered_step", message));
        };
        let Some(slot) = self.history.slot(asked.position) else {
            return Ok(code);
        };
        let position = asked.position;
        let message = if slot.step != step {
            format!("position {position} is step {} in the journal, the function asks for {step}", slot.step)
        } else if !is_same(code, &slot.input, input) {
            format!("step {step} at position {position} has another input than in the journal")
        } else if slot.owes_compensation() && conduct_back(&self.kind, slot).is_none() {
            format!(
                "step {step} at position {position} compensates in the journal, and has no code for it any more"
            )
        } else if slot.transactional != matches!(code.effect, Effect::InTransaction { .. }) {
            format!("step {step} at position {position} is transactional only in one of code and journal")
        } else {
            return Ok(code);
        };
        Err(Cause::Mismatch { message })
    }

    /// The way forward is closed: back, unless there is no way back or the kind wants to wait.
    fn give_up(&mut self, cause: Cause) -> Option<Next> {
        let waits = matches!(cause, Cause::Mismatch { .. }) && self.kind.on_mismatch == OnMismatch::Park;
        if !waits && !self.history.past_pivot() {
            self.turn_back(cause);
            return None;
        }
        let reason = if waits { "mismatch" } else { "failed_past_the_pivot" };
        let attention = Attention::new(reason, cause.error().failure.to_string());
        Some(Next::Attention(later(self.now(), SLOW_RETRY), attention))
    }

    fn turn_back(&mut self, cause: Cause) {
        let cause = cause.journaled();
        tracing::info!(
            workflow.id = %self.claimed.workflow, workflow.kind = self.claimed.kind,
            cause = cause.as_str(), error = %cause.error(), "taking the workflow back"
        );
        let turn = Turn::Unwinding(cause);
        self.note(&Stitch { turn: Some(turn.clone()), ..Stitch::default() });
        self.row.turn = Some(turn);
        self.phase = Some("compensating");
        (self.function, self.asked) = (None, None);
    }

    /// Whether this row, which is noted, tells of a pivot that did not happen: there is a way back again.
    pub(crate) fn reopens(&self, row: &Stitch) -> bool {
        row.outcome.as_ref().is_some_and(|outcome| {
            let slot = self.history.slot(outcome.attempt.position);
            matches!(outcome.verdict, Verdict::Rejected(_))
                && slot.is_some_and(|slot| slot.backward == Backward::Pivot)
                && !self.history.past_pivot()
        })
    }

    /// Another attempt of a step that the journal knows.
    fn again(&self, position: Position, direction: Direction, number: u32) -> Next {
        let step = self.history.slot(position).map(|slot| slot.step.clone()).unwrap_or_default();
        Next::Attempt { position, direction, number, input: None, step }
    }

    pub(crate) fn note(&mut self, part: &Stitch) {
        self.note_at(part, self.now());
    }

    pub(crate) fn note_at(&mut self, part: &Stitch, at: DateTime<Utc>) {
        if let Err(rule) = self.history.note(part, at) {
            // Decided by the core a moment ago: a defect of ours, and nothing was written yet.
            panic!("workflow {}: the engine breaks a rule of the journal: {rule}", self.claimed.workflow);
        }
    }

    pub(crate) fn now(&self) -> DateTime<Utc> {
        self.claimed.clock.now()
    }

    pub(crate) fn circumstances(&self) -> Circumstances {
        Circumstances {
            now: self.now(),
            recovery: self.kind.recovery,
            orphaned: self.claimed.orphaned,
            cancel: self.claimed.cancel.clone(),
            deadline_at: self.claimed.deadline_at,
            crash_charges: self.claimed.crash_charges,
        }
    }
}

/// Whether a step is asked for with the input that is journaled: as this version reads it, which may be newer than the one
/// that wrote it, and have fields of which that knew nothing.
fn is_same<S>(code: &StepCode<S>, journaled: &Json, asked: &Json) -> bool {
    journaled.same_value(asked) || (code.reread)(journaled).is_some_and(|reread| reread.same_value(asked))
}

/// How a step is compensated, if this worker has its code.
fn conduct_back<S: Send + Sync + 'static>(kind: &Kind<S>, slot: &Slot) -> Option<Conduct> {
    let code = kind.steps.get(&slot.step)?;
    let fits = match &code.effect {
        Effect::Outside { compensate, .. } => compensate.is_some() && !slot.transactional,
        Effect::InTransaction { compensate, .. } => compensate.is_some() && slot.transactional,
    };
    fits.then_some(code.conduct)
}

impl From<Misuse> for WorkflowError {
    fn from(misuse: Misuse) -> Self {
        Self::new(misuse.code(), misuse.to_string())
    }
}
