//! How an engine drives a workflow, with nothing but the public functions of the core: a scripted world instead of
//! effects, a counted clock instead of a real one.

use std::time::Duration;

use backstitch_core::decide::{
    Circumstances, Conduct, Ended, Forward, LateEffects, Orphaned, Patience, Recovery, Unwind, forward,
    judge, must_unwind, unwind,
};
use backstitch_core::failure::{Failure, StepError, StepFailed};
use backstitch_core::history::History;
use backstitch_core::id::{Direction, Position, Seq, WorkflowId};
use backstitch_core::json::Json;
use backstitch_core::record::{AttemptId, Backward, Cause, Intent, Operator, Outcome, Stitch, Turn, Verdict};
use backstitch_core::report::RollbackReport;
use backstitch_core::retry::RetryPolicy;
use chrono::{DateTime, Utc};
use uuid::Uuid;

use crate::ledger::Ledger;

/// The workflow of every test.
pub const WORKFLOW: WorkflowId = WorkflowId(Uuid::from_u128(0x0198_0000_0000_7000_8000_0000_0000_0001));

/// More rounds than any script here can cause: beyond them a workflow runs in a circle.
const ROUNDS_MAX: usize = 2_000;

/// A workflow whose function runs these steps one after the other.
#[derive(Debug, Clone)]
pub struct Kind {
    pub steps: Vec<Plan>,
    pub recovery: Recovery,
    /// Whether the function goes on when a step fails. Otherwise it gives up.
    pub tolerant: bool,
}

/// One step.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    pub backward: Backward,
    pub transactional: bool,
    pub conduct: Conduct,
}

impl Plan {
    pub const fn new(backward: Backward) -> Self {
        Self { backward, transactional: false, conduct: BRIEF }
    }

    pub const fn transactional(self) -> Self {
        Self { transactional: true, ..self }
    }

    pub const fn late_effects(self, late_effects: LateEffects) -> Self {
        Self { conduct: Conduct { late_effects, ..self.conduct }, ..self }
    }
}

/// So brief that two faults use up every patience.
pub const BRIEF: Conduct = Conduct {
    timeout: Duration::from_secs(20),
    retry: RetryPolicy::DEFAULT.attempts(2),
    patience: Patience { attempts: 1, ..Patience::DEFAULT },
    late_effects: LateEffects::WaitOut,
};

/// What the world does to a workflow.
pub trait Script {
    /// How this attempt ends.
    fn ending(&mut self, attempt: AttemptId) -> Ending;
    /// What happens right after this row is durable.
    fn event(&mut self, seq: Seq) -> Event;
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    Succeeds,
    Retries,
    Fails,
    Rejects,
    TimesOut,
    IsCutShort,
    Panics,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    Nothing,
    /// The process dies: what it had in memory is lost, the open attempt has no outcome.
    Dies(Orphaned),
    /// Somebody cancels, if that is still possible.
    Cancelled,
    DeadlinePasses,
    OperatorRetries,
}

/// Nothing goes wrong (any more).
pub struct Smooth;

impl Script for Smooth {
    fn ending(&mut self, _: AttemptId) -> Ending {
        Ending::Succeeds
    }

    fn event(&mut self, _: Seq) -> Event {
        Event::Nothing
    }
}

/// A row as the database keeps it.
pub type Row = (Seq, Stitch, DateTime<Utc>);

/// Where a drive comes to rest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Rest {
    Ended(Turn),
    Waiting(DateTime<Utc>),
    Attention(DateTime<Utc>),
}

/// One workflow under way.
pub struct Drive<'a, S> {
    kind: &'a Kind,
    script: S,
    pub rows: Vec<Row>,
    pub history: History,
    pub around: Circumstances,
    ledger: Ledger,
    rounds: usize,
}

/// What the engine does next.
enum Next {
    /// Append the turn, if there is one, and this attempt's intent, and make it.
    Begin {
        turn: Option<Turn>,
        attempt: AttemptId,
    },
    /// Append the turn and look again.
    Turn(Turn),
    Rest(Rest),
}

impl<'a, S: Script> Drive<'a, S> {
    pub fn new(kind: &'a Kind, script: S) -> Self {
        let around = Circumstances {
            now: DateTime::UNIX_EPOCH + Duration::from_secs(1_000_000),
            recovery: kind.recovery,
            orphaned: None,
            cancel: None,
            deadline_at: None,
            crash_charges: 0,
        };
        Self {
            kind,
            script,
            rows: Vec::new(),
            history: History::default(),
            around,
            ledger: Ledger::default(),
            rounds: 0,
        }
    }

    /// Takes over a journal whose worker died.
    pub fn recover(kind: &'a Kind, script: S, rows: &[Row], orphaned: Option<Orphaned>) -> Self {
        let mut drive = Self::new(kind, script);
        drive.rows = rows.to_vec();
        drive.history = fold(rows).expect("a prefix of a valid journal is valid");
        if let Some((.., at)) = rows.last() {
            drive.around.now = *at + Duration::from_secs(10);
        }
        drive.around.orphaned = orphaned;
        for row in rows {
            drive.ledger.add(row, None).expect("a prefix of a valid journal keeps the invariants");
        }
        drive
    }

    /// Drives on until the end, over every wait.
    pub fn finish(&mut self) -> Turn {
        loop {
            match self.go_on() {
                Rest::Ended(end) => return end,
                Rest::Waiting(due) | Rest::Attention(due) => {
                    assert!(due > self.around.now, "a due time must lie ahead, or the workflow spins");
                    self.around.now = due;
                }
            }
        }
    }

    /// Drives on until it ends or has to wait.
    pub fn go_on(&mut self) -> Rest {
        let mut pending = None;
        loop {
            self.rounds += 1;
            assert!(self.rounds < ROUNDS_MAX, "the workflow never ends: {:#?}", self.rows);
            match self.next(&self.with(Stitch { outcome: pending.clone(), ..Stitch::default() })) {
                Next::Rest(rest) if pending.is_none() => return rest,
                Next::Rest(_) => {
                    self.append(Stitch { outcome: pending.take(), ..Stitch::default() });
                }
                Next::Turn(turn) => {
                    self.append(Stitch { outcome: pending.take(), turn: Some(turn), intent: None });
                }
                // A transactional step has no intent of its own: what came before is written first.
                Next::Begin { turn, attempt } if self.plan(attempt).transactional => {
                    if pending.is_some() || turn.is_some() {
                        self.append(Stitch { outcome: pending.take(), turn, intent: None });
                        continue;
                    }
                    let outcome = self.attempt(attempt);
                    self.append(Stitch {
                        outcome: Some(outcome),
                        turn: None,
                        intent: Some(self.intent(attempt)),
                    });
                }
                Next::Begin { turn, attempt } => {
                    let intent = Some(self.intent(attempt));
                    if self.append(Stitch { outcome: pending.take(), turn, intent }) {
                        pending = Some(self.attempt(attempt));
                    }
                }
            }
        }
    }

    fn next(&self, history: &History) -> Next {
        if let Some(end) = history.end() {
            return Next::Rest(Rest::Ended(end.clone()));
        }
        if history.unwinding().is_none() {
            return match must_unwind(history, &self.around) {
                Some(cause) => self.turn_back(history, cause),
                None => self.next_forward(history),
            };
        }
        match self.unwind(history) {
            Unwind::Compensate { position, attempt } => {
                Next::Begin { turn: None, attempt: back(position.0, attempt) }
            }
            Unwind::WaitUntil(due) => Next::Rest(Rest::Waiting(due)),
            Unwind::Attention { stuck, due } => {
                assert!(!stuck.is_empty(), "attention names what is stuck");
                Next::Rest(Rest::Attention(due))
            }
            Unwind::Done => Next::Turn(Turn::Compensated),
        }
    }

    fn next_forward(&self, history: &History) -> Next {
        for (position, plan) in (0..).zip(&self.kind.steps) {
            match forward(WORKFLOW, history, Position(position), &plan.conduct, &self.around) {
                Forward::Deliver(_) => {}
                Forward::DeliverFailure(_) if self.kind.tolerant => {}
                Forward::DeliverFailure(failure) | Forward::Unwind(failure) => {
                    let step = StepFailed { step: name(position), position: Position(position), failure };
                    return self.turn_back(history, Cause::Failed(step.into()));
                }
                Forward::Run { attempt } => {
                    return Next::Begin { turn: None, attempt: run(position, attempt) };
                }
                Forward::Compensate { attempt } => {
                    return Next::Begin { turn: None, attempt: back(position, attempt) };
                }
                Forward::WaitUntil(due) => return Next::Rest(Rest::Waiting(due)),
                Forward::Attention(due) => return Next::Rest(Rest::Attention(due)),
            }
        }
        Next::Turn(Turn::Completed)
    }

    /// Unwinding and the first compensation's intent travel in one row.
    fn turn_back(&self, history: &History, cause: Cause) -> Next {
        let turn = Turn::Unwinding(cause);
        let mut turned = history.clone();
        turned
            .apply(
                turned.seq_next(),
                &Stitch { turn: Some(turn.clone()), ..Stitch::default() },
                self.around.now,
            )
            .expect("who must unwind may unwind");
        match self.unwind(&turned) {
            Unwind::Compensate { position, attempt } => {
                Next::Begin { turn: Some(turn), attempt: back(position.0, attempt) }
            }
            _ => Next::Turn(turn),
        }
    }

    fn unwind(&self, history: &History) -> Unwind {
        let conduct_of = |step: &str| {
            let index = step.strip_prefix("step-")?.parse::<usize>().ok()?;
            self.kind.steps.get(index).map(|plan| plan.conduct)
        };
        unwind(WORKFLOW, history, |slot| conduct_of(&slot.step), &self.around)
    }

    /// Makes an attempt: time passes, and it ends as the script says.
    fn attempt(&mut self, attempt: AttemptId) -> Outcome {
        let AttemptId { position, direction, attempt: count } = attempt;
        let plan = *self.plan(attempt);
        if !plan.transactional {
            let side = self.history.slot(position).expect("its intent is durable (I2)").side(direction);
            assert!(side.open && side.begun == count, "its intent is durable (I2)");
        }
        let ending = self.script.ending(attempt);
        self.around.now +=
            if ending == Ending::TimesOut { plan.conduct.timeout } else { Duration::from_secs(1) };
        let verdict = judge(ended(ending), &self.history, position, direction, &plan.conduct.retry);
        Outcome { attempt, verdict }
    }

    /// Appends a row, checks all that must hold of it, and lets the script's event happen. False: the process died.
    fn append(&mut self, stitch: Stitch) -> bool {
        let row = (self.history.seq_next(), stitch, self.around.now);
        if let Err(corrupt) = self.history.apply(row.0, &row.1, row.2) {
            panic!("the core refuses what it decided: {corrupt}\n{row:#?}\nafter {:#?}", self.rows);
        }
        if let Err(broken) = self.ledger.add(&row, Some((self.kind, &self.around))) {
            panic!("{broken}\n{row:#?}\nafter {:#?}", self.rows);
        }
        self.ledger.agrees_with(&self.history);
        let (seq, open) = (row.0, row.1.intent.is_some());
        let verdict = row.1.outcome.as_ref().map(|outcome| &outcome.verdict);
        if verdict.is_some_and(|verdict| *verdict != Verdict::HandedBack) {
            (self.around.crash_charges, self.around.orphaned) = (0, None);
        }
        self.rows.push(row);
        if self.history.end().is_some() {
            return true;
        }
        match self.script.event(seq) {
            Event::Nothing => true,
            Event::Dies(orphaned) => {
                self.history = fold(&self.rows).expect("what was applied row by row folds");
                self.around.orphaned = Some(orphaned);
                self.around.crash_charges += u32::from(open);
                self.around.now += Duration::from_secs(if orphaned == Orphaned::Expired { 10 } else { 1 });
                false
            }
            Event::Cancelled => {
                if !self.history.past_pivot() && self.history.unwinding().is_none() {
                    self.around.cancel = Some(operator());
                }
                true
            }
            Event::DeadlinePasses => {
                self.around.deadline_at = Some(self.around.now);
                true
            }
            Event::OperatorRetries => {
                self.append(Stitch { turn: Some(Turn::Retry(operator())), ..Stitch::default() })
            }
        }
    }

    /// The history as it will be once this row is durable.
    fn with(&self, stitch: Stitch) -> History {
        let mut history = self.history.clone();
        if !stitch.is_empty() {
            let applied = history.apply(history.seq_next(), &stitch, self.around.now);
            applied.unwrap_or_else(|corrupt| panic!("{corrupt}: {stitch:#?}\nafter {:#?}", self.rows));
        }
        history
    }

    fn intent(&self, attempt: AttemptId) -> Intent {
        intent(attempt, self.plan(attempt).backward)
    }

    fn plan(&self, attempt: AttemptId) -> &Plan {
        &self.kind.steps[attempt.position.0 as usize]
    }

    pub fn report(&self) -> Option<RollbackReport> {
        RollbackReport::of(&self.history)
    }
}

pub fn fold(rows: &[Row]) -> Result<History, backstitch_core::history::Corrupt> {
    History::fold(rows.iter().map(|(seq, stitch, at)| (*seq, stitch, *at)))
}

pub fn run(position: u32, attempt: u32) -> AttemptId {
    AttemptId { position: Position(position), direction: Direction::Run, attempt }
}

pub fn back(position: u32, attempt: u32) -> AttemptId {
    AttemptId { position: Position(position), direction: Direction::Compensate, attempt }
}

pub fn intent(attempt: AttemptId, backward: Backward) -> Intent {
    let first = attempt.direction == Direction::Run && attempt.attempt == 1;
    Intent {
        attempt,
        step: name(attempt.position.0),
        version: 1,
        backward,
        input: first.then(|| Json::from_journal("{}")),
    }
}

pub fn name(position: u32) -> String {
    format!("step-{position}")
}

pub fn operator() -> Operator {
    Operator { by: "ada".into(), why: "the test says so".into() }
}

pub fn failure() -> Failure {
    Failure::new("out_of_order", "the lift is out of order")
}

pub fn ended(ending: Ending) -> Ended {
    match ending {
        Ending::Succeeds => Ended::Succeeded(Json::from_journal("null")),
        Ending::Retries => Ended::Error(StepError::Retry(failure())),
        Ending::Fails => Ended::Error(StepError::Fail(failure())),
        Ending::Rejects => Ended::Error(StepError::Rejected(failure())),
        Ending::TimesOut => Ended::TimedOut(BRIEF.timeout),
        Ending::IsCutShort => Ended::CutShort,
        Ending::Panics => Ended::Panicked("index out of bounds".into()),
    }
}

pub fn succeeded() -> Verdict {
    Verdict::Succeeded(Json::from_journal("null"))
}
