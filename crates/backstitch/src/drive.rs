//! How one claimed workflow goes on: ask what comes next, write it down, do it, until it ends or leaves this worker.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use backstitch_core::decide::{
    Circumstances, Conduct, Ended, Forward, Orphaned, Unwind, forward, judge, must_unwind, unwind,
};
use backstitch_core::failure::{StepFailed, WorkflowError};
use backstitch_core::history::{History, Slot};
use backstitch_core::id::{Direction, Epoch, IdempotencyKey, Position, WorkflowId};
use backstitch_core::json::Json;
use backstitch_core::limits::SLOW_RETRY;
use backstitch_core::record::{AttemptId, Cause, Intent, Operator, Outcome, Stitch, Turn, Verdict};
use backstitch_core::report::RollbackReport;
use chrono::{DateTime, TimeDelta, Utc};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::attempt::Attempt;
use crate::effect;
use crate::flow::{Asked, Function, Misuse, Polled};
use crate::journal::{After, Answer, Attention, AttentionChange, Record, Unwinding, Written};
use crate::life::{Life, Shop};
use crate::park;
use crate::step::{Call, Effect, StepCode};
use crate::transaction::{self, Place, Transacted};
use crate::workflow::{Kind, OnMismatch};

/// How long to wait where the database says that the lease is over and this process does not know it yet: its clock
/// jumped, and the next beat mends it.
const LEASE_LOOK: Duration = Duration::from_millis(100);

/// A workflow that this incarnation has claimed.
#[derive(Debug)]
pub(crate) struct Claimed {
    pub(crate) workflow: WorkflowId,
    pub(crate) kind: String,
    pub(crate) input: Json,
    pub(crate) epoch: Epoch,
    pub(crate) attention: bool,
    pub(crate) orphaned: Option<Orphaned>,
    pub(crate) cancel: Option<Operator>,
    pub(crate) crash_charges: u32,
    pub(crate) deadline_at: Option<DateTime<Utc>>,
    /// The database's clock at the claim, and when the claim was answered.
    pub(crate) now: (DateTime<Utc>, Instant),
    /// What its journal says; or why it can't be understood.
    pub(crate) history: Result<History, String>,
}

/// By what right this worker works on a workflow.
#[derive(Debug, Clone)]
pub(crate) struct Hold {
    pub(crate) workflow: WorkflowId,
    pub(crate) kind: String,
    pub(crate) epoch: Epoch,
}

impl Claimed {
    pub(crate) fn hold(&self) -> Hold {
        Hold { workflow: self.workflow, kind: self.kind.clone(), epoch: self.epoch }
    }
}

/// How a workflow left this worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Departure {
    /// It reached its end.
    Ended,
    /// Nobody holds it until this much time has passed.
    Parked(Duration),
    /// It belongs to somebody else now.
    Fenced,
}

/// What comes next.
enum Next {
    Attempt { position: Position, direction: Direction, number: u32, input: Option<Json>, step: String },
    Park(DateTime<Utc>),
    Attention(DateTime<Utc>, Attention),
    Complete(Json),
    Compensated,
}

/// One workflow in flight.
struct Drive<S> {
    shop: Arc<Shop<S>>,
    life: Arc<Life>,
    claimed: Claimed,
    history: History,
    cancelled: CancellationToken,
    /// The row in the making: noted in the history, not durable yet.
    row: Stitch,
    phase: Option<&'static str>,
    function: Option<Function>,
    /// The step that the function awaits.
    asked: Option<Asked>,
}

/// Drives a claimed workflow until it leaves this worker.
pub(crate) async fn drive<S: Send + Sync + 'static>(
    shop: Arc<Shop<S>>,
    life: Arc<Life>,
    mut claimed: Claimed,
    cancelled: CancellationToken,
) -> Departure {
    let history = match std::mem::replace(&mut claimed.history, Ok(History::default())) {
        Ok(history) => history,
        Err(message) => {
            let after = After { attention: raise("corrupt_journal", message), ..After::default() };
            return park::park(&shop, &life, &claimed.hold(), SLOW_RETRY, after).await;
        }
    };
    let mut drive = Drive {
        shop,
        life,
        claimed,
        history,
        cancelled,
        row: Stitch::default(),
        phase: None,
        function: None,
        asked: None,
    };
    loop {
        let next = drive.next();
        let step = match next {
            Next::Attempt { .. } if !drive.life.lease.is_usable() => drive.wait_for_lease().await,
            Next::Attempt { position, direction, number, input, step } => {
                drive.attempt(position, direction, number, input, step).await
            }
            Next::Park(due) => ControlFlow::Break(drive.park(due, None).await),
            Next::Attention(due, attention) => ControlFlow::Break(drive.park(due, Some(attention)).await),
            Next::Complete(output) => drive.complete(output).await,
            Next::Compensated => drive.compensated().await,
        };
        if let ControlFlow::Break(departure) = step {
            return departure;
        }
    }
}

impl<S: Send + Sync + 'static> Drive<S> {
    /// Decides, without doing: asks the core, and lets the function run on to its next step.
    fn next(&mut self) -> Next {
        let around = self.circumstances();
        if let Some(cause) = must_unwind(&self.history, &around) {
            self.turn_back(cause);
        }
        loop {
            let next = if self.history.unwinding().is_some() {
                Some(self.next_back(&around))
            } else {
                self.next_forward(&around)
            };
            match next {
                // Nothing begins in a worker that is about to stop.
                Some(Next::Attempt { .. }) if self.life.draining.is_cancelled() => {
                    return Next::Park(around.now);
                }
                Some(next) => return next,
                None => {}
            }
        }
    }

    fn next_back(&self, around: &Circumstances) -> Next {
        let kind = self.kind();
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
                Next::Attention(due, Attention { reason: "compensation_stuck", message: stuck.join("; ") })
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
                return Some(Next::Attention(due, Attention { reason: "undecodable_input", message }));
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
                return Some(Next::Attention(due, Attention { reason: "forward_stuck", message }));
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
            let (kind, input) = (self.kind(), &self.claimed.input);
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

    /// The code of the step that the function asks for, if it fits what the journal says of that position.
    fn fitting_code(&self, asked: &Asked) -> Result<&StepCode<S>, Cause> {
        let failed = |code: &'static str, message| Cause::Failed(WorkflowError::new(code, message));
        let step = asked.step;
        let input = match &asked.input {
            Ok(input) => input,
            Err(error) => return Err(failed("invalid_input", format!("the input of step {step} {error}"))),
        };
        let Some(code) = self.kind().steps.get(step) else {
            let message =
                format!("step {step} is not among the steps of {}: add it to `steps`", self.kind().name);
            return Err(failed("unregistered_step", message));
        };
        let Some(slot) = self.history.slot(asked.position) else {
            return Ok(code);
        };
        let position = asked.position;
        let message = if slot.step != step {
            format!("position {position} is step {} in the journal, the function asks for {step}", slot.step)
        } else if !slot.input.same_value(input) {
            format!("step {step} at position {position} has another input than in the journal")
        } else if slot.transactional != matches!(code.effect, Effect::InTransaction { .. }) {
            format!("step {step} at position {position} is transactional only in one of code and journal")
        } else {
            return Ok(code);
        };
        Err(Cause::Mismatch { message })
    }

    /// The way forward is closed: back, unless there is no way back or the kind wants to wait.
    fn give_up(&mut self, cause: Cause) -> Option<Next> {
        let waits = matches!(cause, Cause::Mismatch { .. }) && self.kind().on_mismatch == OnMismatch::Park;
        if !waits && !self.history.past_pivot() {
            self.turn_back(cause);
            return None;
        }
        let reason = if waits { "mismatch" } else { "failed_past_the_pivot" };
        let message = cause.error().failure.to_string();
        Some(Next::Attention(later(self.now(), SLOW_RETRY), Attention { reason, message }))
    }

    fn turn_back(&mut self, cause: Cause) {
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

    /// Another attempt of a step that the journal knows.
    fn again(&self, position: Position, direction: Direction, number: u32) -> Next {
        let step = self.history.slot(position).map(|slot| slot.step.clone()).unwrap_or_default();
        Next::Attempt { position, direction, number, input: None, step }
    }

    async fn attempt(
        &mut self,
        position: Position,
        direction: Direction,
        number: u32,
        input: Option<Json>,
        step: String,
    ) -> ControlFlow<Departure> {
        let shop = Arc::clone(&self.shop);
        let code = shop.kinds.get(self.claimed.kind.as_str()).and_then(|kind| kind.steps.get(&step));
        let code = code.expect("the decision found the step's code");
        let id = AttemptId { position, direction, attempt: number };
        let backward = self.history.slot(position).map_or(code.backward, |slot| slot.backward);
        let intent = Intent { attempt: id, step, version: code.version, backward, input };
        match &code.effect {
            Effect::Outside { run, compensate } => {
                self.row.intent = Some(intent);
                if !self.write_intent().await? {
                    return ControlFlow::Continue(());
                }
                let slot = self.history.slot(position).expect("the intent made the slot");
                let attempt = self.describe(id, &code.conduct);
                let call = Call { services: &shop.services, input: &slot.input, attempt: &attempt };
                let output = slot.output();
                let ended = effect::perform(&self.life, call, code.conduct.timeout, |call| match direction {
                    Direction::Run => run(call),
                    Direction::Compensate => compensate.expect("the decision found the code")(call, output),
                })
                .await;
                self.end_attempt(id, ended, code);
            }
            Effect::InTransaction { .. } => self.transact(intent, code.conduct).await?,
        }
        ControlFlow::Continue(())
    }

    /// Makes what was noted durable, and waits until effects may begin again. What comes next is to be decided again.
    async fn wait_for_lease(&mut self) -> ControlFlow<Departure> {
        if !self.row.is_empty() {
            self.write(After::default()).await?;
        }
        if self.life.lease.regained().await {
            ControlFlow::Continue(())
        } else {
            ControlFlow::Break(Departure::Fenced)
        }
    }

    /// Writes the row in the making, whose intent is about to become an effect. False: the intent does not stand, and
    /// what comes next is to be decided again.
    async fn write_intent(&mut self) -> ControlFlow<Departure, bool> {
        let answer = self.write(After::default()).await?;
        match answer.verdict {
            Written::Whole => ControlFlow::Continue(true),
            // The cancel is known by now, and decides.
            _ if answer.cancel.is_some() => ControlFlow::Continue(false),
            _ if !answer.leased => {
                tokio::time::sleep(LEASE_LOOK).await;
                ControlFlow::Continue(false)
            }
            _ => {
                let message =
                    "the journal refuses the next record, though its holder lives: it was changed by hand";
                let after =
                    After { attention: raise("journal_refused", message.to_owned()), ..After::default() };
                ControlFlow::Break(
                    park::park(&self.shop, &self.life, &self.claimed.hold(), SLOW_RETRY, after).await,
                )
            }
        }
    }

    /// Makes one attempt of a transactional step, in a task of its own: a transaction must not be dropped halfway.
    async fn transact(&mut self, intent: Intent, conduct: Conduct) -> ControlFlow<Departure> {
        // What was noted before stands before the transaction does.
        if !self.row.is_empty() {
            self.write(After::default()).await?;
            if must_unwind(&self.history, &self.circumstances()).is_some() {
                return ControlFlow::Continue(());
            }
        }
        let id = intent.attempt;
        let slot = self.history.slot(id.position);
        let input = intent.input.clone().or_else(|| slot.map(|slot| slot.input.clone()));
        let input = input.expect("the first attempt brings its input");
        let place = Place {
            incarnation: self.life.lease.incarnation,
            seq: self.history.seq_next(),
            after: After { innocent: self.claimed.crash_charges > 0, ..After::default() },
            attempt: self.describe(id, &conduct),
            timeout: conduct.timeout,
            input,
            output: slot.and_then(|slot| slot.output().cloned()),
            intent: intent.clone(),
        };
        let (shop, life, kind, step) =
            (Arc::clone(&self.shop), Arc::clone(&self.life), self.claimed.kind.clone(), intent.step.clone());
        let transacting = {
            let place = place.clone();
            tokio::spawn(async move {
                let code = shop.kinds.get(kind.as_str()).and_then(|kind| kind.steps.get(&step));
                let Some(StepCode { effect: Effect::InTransaction { run, compensate }, .. }) = code else {
                    unreachable!("the decision found a transactional step");
                };
                transaction::perform(
                    &shop.database,
                    &life,
                    &shop.services,
                    place,
                    |call, transaction, output| match id.direction {
                        Direction::Run => run(call, transaction),
                        Direction::Compensate => {
                            compensate.expect("the decision found the code")(call, transaction, output)
                        }
                    },
                )
                .await
            })
        };
        let transacted = match transacting.await {
            Ok(transacted) => transacted,
            Err(error) => Transacted::RolledBack(Ended::Panicked(error.to_string())),
        };
        match transacted {
            Transacted::Committed { stitch, answer } => {
                self.note_at(&stitch, answer.at);
                self.history.row_written();
                self.learn(&answer);
                self.claimed.crash_charges = 0;
                self.log_outcome(id, &stitch.outcome.expect("it has one").verdict);
            }
            Transacted::Refused(answer) if answer.verdict == Written::Fenced => {
                return ControlFlow::Break(Departure::Fenced);
            }
            Transacted::Refused(answer) => self.learn(&answer),
            Transacted::RolledBack(ended) => {
                let verdict = judge(ended, &self.history, id.position, id.direction, &conduct.retry);
                self.log_outcome(id, &verdict);
                let stitch = place.stitch(verdict);
                self.note(&stitch);
                self.row = stitch;
                // Its row tells of intent and outcome of one attempt: it has no room for what comes next.
                self.write(After::default()).await?;
            }
        }
        ControlFlow::Continue(())
    }

    /// Notes how an attempt ended. It becomes durable with what comes next.
    fn end_attempt(&mut self, id: AttemptId, ended: Ended, code: &StepCode<S>) {
        let verdict = judge(ended, &self.history, id.position, id.direction, &code.conduct.retry);
        self.log_outcome(id, &verdict);
        let outcome = Outcome { attempt: id, verdict };
        self.note(&Stitch { outcome: Some(outcome.clone()), ..Stitch::default() });
        self.row.outcome = Some(outcome);
    }

    async fn complete(&mut self, output: Json) -> ControlFlow<Departure> {
        self.row.turn = Some(Turn::Completed);
        let answer = self.write(After { output: Some(output), ..After::default() }).await?;
        if answer.verdict != Written::Whole {
            // A cancel came first, and now decides.
            return ControlFlow::Continue(());
        }
        tracing::info!(workflow.id = %self.claimed.workflow, workflow.kind = self.claimed.kind, "completed");
        ControlFlow::Break(Departure::Ended)
    }

    async fn compensated(&mut self) -> ControlFlow<Departure> {
        self.row.turn = Some(Turn::Compensated);
        let report = RollbackReport::of(&self.history).expect("only what unwinds is compensated");
        let unwinding = Some(Unwinding::of(report.clone()));
        let answer = self.write(After { unwinding, ..After::default() }).await?;
        if answer.verdict != Written::Whole {
            return ControlFlow::Continue(());
        }
        tracing::warn!(
            workflow.id = %self.claimed.workflow, workflow.kind = self.claimed.kind,
            cause = report.cause.as_str(), error = %report.cause.error(), report = %report,
            "compensated: everything is taken back"
        );
        ControlFlow::Break(Departure::Ended)
    }

    /// Lets go of the workflow until `due`, or sooner if somebody cancels it.
    async fn park(&mut self, due: DateTime<Utc>, attention: Option<Attention>) -> Departure {
        let wait = (due - self.now()).to_std().unwrap_or_default();
        let unwinding = attention.as_ref().and_then(|_| RollbackReport::of(&self.history)).map(Unwinding::of);
        let after = After { attention: attention.map(AttentionChange::Raise), unwinding, ..After::default() };
        if self.row.is_empty() {
            return park::park(&self.shop, &self.life, &self.claimed.hold(), wait, after).await;
        }
        park::log_attention(&self.claimed.hold(), &after, wait);
        match self.write(After { park: Some(wait), ..after }).await {
            ControlFlow::Continue(_) => Departure::Parked(wait),
            ControlFlow::Break(departure) => departure,
        }
    }

    /// Writes the row in the making, and takes its intent into the history if that stands.
    async fn write(&mut self, after: After) -> ControlFlow<Departure, Answer> {
        let stitch = std::mem::take(&mut self.row);
        let got_outcome =
            stitch.outcome.as_ref().is_some_and(|outcome| !matches!(outcome.verdict, Verdict::HandedBack));
        let innocent = got_outcome && self.claimed.crash_charges > 0;
        // Forward, a success is the end of what a person was called for; on the way back only the end is.
        let recovered = self.claimed.attention
            && self.history.unwinding().is_none()
            && matches!(&stitch.outcome, Some(Outcome { verdict: Verdict::Succeeded(_), .. }));
        let attention = after.attention.or(recovered.then_some(AttentionChange::Clear(false)));
        self.claimed.attention &= !recovered;
        if innocent {
            self.claimed.crash_charges = 0;
        }
        let record = Record {
            workflow: self.claimed.workflow,
            seq: self.history.seq_next(),
            epoch: self.claimed.epoch,
            stitch,
            after: After { phase: self.phase.take(), innocent, attention, ..after },
        };
        let (intent, transactional) = (record.stitch.intent.clone(), record.stitch.is_transactional());
        let answer = match self.life.appender.append(record).await {
            Ok(answer) => answer,
            Err(error) => {
                let message = format!("the database refuses the workflow's record: {error}");
                tracing::error!(workflow.id = %self.claimed.workflow, workflow.kind = self.claimed.kind, "{message}");
                let after = After { attention: raise("record_refused", message), ..After::default() };
                return ControlFlow::Break(
                    park::park(&self.shop, &self.life, &self.claimed.hold(), SLOW_RETRY, after).await,
                );
            }
        };
        if answer.verdict == Written::Fenced {
            return ControlFlow::Break(Departure::Fenced);
        }
        if answer.verdict != Written::Nothing {
            self.history.row_written();
        }
        self.learn(&answer);
        if answer.verdict == Written::Whole && !transactional {
            self.note_at(&Stitch { intent, ..Stitch::default() }, answer.at);
        }
        ControlFlow::Continue(answer)
    }

    /// What an answer of the database tells beside its verdict.
    fn learn(&mut self, answer: &Answer) {
        self.claimed.now = (answer.at, Instant::now());
        if let Some(cancel) = &answer.cancel {
            self.claimed.cancel = Some(cancel.clone());
            self.cancelled.cancel();
        }
    }

    fn note(&mut self, part: &Stitch) {
        self.note_at(part, self.now());
    }

    fn note_at(&mut self, part: &Stitch, at: DateTime<Utc>) {
        if let Err(rule) = self.history.note(part, at) {
            // Decided by the core a moment ago: a defect of ours, and nothing was written yet.
            panic!("workflow {}: the engine breaks a rule of the journal: {rule}", self.claimed.workflow);
        }
    }

    fn kind(&self) -> &Kind<S> {
        self.shop.kinds.get(self.claimed.kind.as_str()).expect("only served kinds are claimed")
    }

    /// The database's clock: read at the last answer, and counted on from there.
    fn now(&self) -> DateTime<Utc> {
        let (at, read) = self.claimed.now;
        later(at, read.elapsed())
    }

    fn circumstances(&self) -> Circumstances {
        Circumstances {
            now: self.now(),
            recovery: self.kind().recovery,
            orphaned: self.claimed.orphaned,
            cancel: self.claimed.cancel.clone(),
            deadline_at: self.claimed.deadline_at,
            crash_charges: self.claimed.crash_charges,
        }
    }

    fn describe(&self, id: AttemptId, conduct: &Conduct) -> Attempt {
        Attempt {
            key: IdempotencyKey {
                workflow: self.claimed.workflow,
                position: id.position,
                direction: id.direction,
            },
            number: id.attempt,
            epoch: self.claimed.epoch,
            deadline: Instant::now() + conduct.timeout,
            cancelled: self.cancelled.clone(),
        }
    }

    fn log_outcome(&self, id: AttemptId, verdict: &Verdict) {
        let step = self.history.slot(id.position).map_or("", |slot| slot.step.as_str());
        let (workflow, kind) = (self.claimed.workflow, self.claimed.kind.as_str());
        let (direction, attempt, outcome) = (id.direction.as_str(), id.attempt, verdict.as_str());
        match verdict.failure() {
            Some(failure) => tracing::warn!(
                workflow.id = %workflow, workflow.kind = kind, step.name = step, direction, attempt, outcome,
                error = %failure, "an attempt did not succeed"
            ),
            None => tracing::info!(
                workflow.id = %workflow, workflow.kind = kind, step.name = step, direction, attempt, outcome,
                "an attempt ended"
            ),
        }
    }
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

fn raise(reason: &'static str, message: String) -> Option<AttentionChange> {
    Some(AttentionChange::Raise(Attention { reason, message }))
}

fn later(at: DateTime<Utc>, by: Duration) -> DateTime<Utc> {
    TimeDelta::from_std(by).ok().and_then(|by| at.checked_add_signed(by)).unwrap_or(DateTime::<Utc>::MAX_UTC)
}
