//! How one claimed workflow goes on: ask what comes next, write it down, do it, until it ends or leaves this worker.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use backstitch_core::decide::{Conduct, Ended, judge, must_unwind};
use backstitch_core::id::{Direction, IdempotencyKey, Position};
use backstitch_core::json::Json;
use backstitch_core::limits::SLOW_RETRY;
use backstitch_core::record::{AttemptId, Intent, Outcome, Stitch, Turn, Verdict};
use backstitch_core::report::RollbackReport;
use chrono::{DateTime, Utc};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::attempt::Attempt;
use crate::claim::{Claimed, Departure};
use crate::course::{Course, Next};
use crate::effect;
use crate::journal::{After, Answer, Attention, AttentionChange, Record, Unwinding, Written};
use crate::life::{Life, Shop};
use crate::pages;
use crate::park;
use crate::secret::Revealed;
use crate::step::{Call, Effect, StepCode};
use crate::transaction::{self, Place, Transacted};
use crate::watchdog::What;

/// How long to wait where the database says that the lease is over and this process does not know it yet: its clock
/// jumped, and the next beat mends it.
const LEASE_LOOK: Duration = Duration::from_millis(100);

/// How long to wait before a journal is read again that holds what its holder does not know.
const READ_AGAIN: Duration = Duration::from_secs(1);

/// An attempt begins while at least one of so many parts of its time is left: whoever chose a timeout left himself twice as much as
/// he needs.
const TIME_PARTS: u32 = 2;

/// How long a workflow's function may run from one step to the next, without an await: it decides, steps do the work.
const FUNCTION_TIMEOUT: Duration = Duration::from_secs(10);

/// One workflow in flight.
struct Drive<S> {
    course: Course<S>,
    life: Arc<Life>,
    cancelled: CancellationToken,
    /// Whether the last intent was answered when too little of its attempt's time was left.
    was_late: bool,
}

/// Drives a claimed workflow until it leaves this worker.
pub(crate) async fn drive<S: Send + Sync + 'static>(
    shop: Arc<Shop<S>>,
    life: Arc<Life>,
    mut claimed: Claimed,
    cancelled: CancellationToken,
) -> Departure {
    let read = match claimed.history.take() {
        Some(brought_along) => brought_along,
        None => match Box::pin(pages::read(&shop, &life, &claimed.hold())).await {
            ControlFlow::Continue(read) => read,
            ControlFlow::Break(departure) => return departure,
        },
    };
    let history = match read {
        Ok(history) => history,
        Err(message) => {
            let after = After::raising(Attention::new("corrupt_journal", message));
            return Box::pin(park::park(&shop, &life, &claimed.hold(), SLOW_RETRY, after)).await;
        }
    };
    let mut drive = Drive { course: Course::new(shop, claimed, history), life, cancelled, was_late: false };
    loop {
        if drive.was_told_of_a_cancel()
            && let ControlFlow::Break(departure) = Box::pin(drive.write(After::default())).await
        {
            return departure;
        }
        let draining = drive.life.lets_go();
        let next = {
            let function = What::Function(drive.course.claimed.workflow);
            let _watching = drive.life.watchdog.watch(function, FUNCTION_TIMEOUT);
            drive.course.next(draining)
        };
        let step = match next {
            Next::Attempt { .. } if !drive.life.lease.is_usable() => Box::pin(drive.wait_for_lease()).await,
            Next::Attempt { position, direction, number, input, step } => {
                drive.attempt(position, direction, number, input, step).await
            }
            Next::Park(due) => ControlFlow::Break(Box::pin(drive.park(due, None)).await),
            Next::Attention(due, attention) => {
                ControlFlow::Break(Box::pin(drive.park(due, Some(attention))).await)
            }
            Next::Complete(output) => Box::pin(drive.complete(output)).await,
            Next::Compensated => Box::pin(drive.compensated()).await,
        };
        if let ControlFlow::Break(departure) = step {
            return departure;
        }
    }
}

impl<S: Send + Sync + 'static> Drive<S> {
    async fn attempt(
        &mut self,
        position: Position,
        direction: Direction,
        number: u32,
        input: Option<Json>,
        step: String,
    ) -> ControlFlow<Departure> {
        let shop = Arc::clone(&self.course.shop);
        let kind = Arc::clone(&self.course.kind);
        let code = kind.steps.get(&step).expect("the decision found the step's code");
        let id = AttemptId { position, direction, attempt: number };
        let backward = self.course.history.slot(position).map_or(code.backward, |slot| slot.backward);
        let intent = Intent { attempt: id, step, version: code.version, backward, input };
        match &code.effect {
            Effect::Outside { run, compensate, probe, settles } => {
                // Before the intent makes this attempt one of which nobody knows.
                let doubted =
                    self.course.history.slot(position).is_some_and(|slot| slot.run.unknown_since.is_some());
                let probe = probe.filter(|_| *settles && doubted);
                self.course.row.intent = Some(intent);
                if !self.write_intent().await? {
                    return ControlFlow::Continue(());
                }
                let begun_at =
                    self.course.history.slot(position).and_then(|slot| slot.side(direction).last_begun_at);
                // Its time counts from its row, as the wait for its late effects does. That may have been written long before the
                // answer that came: an earlier one was lost.
                let spent = self.course.claimed.clock.since(begun_at.expect("the intent began it"));
                let attempt = self.describe(id, &code.conduct, spent);
                if self.is_too_late(&attempt, code.conduct.timeout) {
                    self.end_attempt(id, Ended::CutShort, code);
                    return ControlFlow::Continue(());
                }
                let slot = self.course.history.slot(position).expect("the intent made the slot");
                let call = Call { services: &shop.services, input: &slot.input, attempt: &attempt };
                let output = slot.output();
                let ended = effect::perform(&self.life, call, code.conduct.timeout, |call| match direction {
                    Direction::Run => match probe {
                        Some(probe) => effect::look_or_run(probe, *run, call),
                        None => run(call),
                    },
                    Direction::Compensate => compensate.expect("the decision found the code")(call, output),
                })
                .await;
                self.end_attempt(id, ended, code);
            }
            Effect::InTransaction { .. } => Box::pin(self.transact(intent, code.conduct)).await?,
        }
        ControlFlow::Continue(())
    }

    /// Whether so little is left of an attempt's time that it is handed back unmade, and made under a fresh intent. Once: where the
    /// database is always so slow, an attempt has what is left, and its retry policy ends that.
    fn is_too_late(&mut self, attempt: &Attempt, timeout: Duration) -> bool {
        let is_late = attempt.time_left() < timeout / TIME_PARTS;
        let was_late = std::mem::replace(&mut self.was_late, is_late);
        is_late && !was_late
    }

    /// Makes what was noted durable, and waits until effects may begin again. What comes next is to be decided again.
    async fn wait_for_lease(&mut self) -> ControlFlow<Departure> {
        if !self.course.row.is_empty() {
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
            _ if !answer.leased => {
                tokio::time::sleep(LEASE_LOOK).await;
                ControlFlow::Continue(false)
            }
            // The cancel is known by now, and decides.
            _ if self.must_unwind() => ControlFlow::Continue(false),
            _ => ControlFlow::Break(Box::pin(self.read_again()).await),
        }
    }

    /// Whether an attempt that was told to stop, for the workflow is cancelled, has an outcome that waits to be written. Written
    /// now, its answer says who cancelled, and that decides before the function hears how the attempt took it.
    fn was_told_of_a_cancel(&self) -> bool {
        let is_known = self.course.claimed.cancel.is_some();
        self.cancelled.is_cancelled() && !is_known && self.course.row.outcome.is_some()
    }

    fn must_unwind(&self) -> bool {
        must_unwind(&self.course.history, &self.course.circumstances()).is_some()
    }

    /// Something stands in the journal that this worker does not know of, such as a commit that was given up for lost:
    /// whoever claims the workflow next reads it.
    async fn read_again(&mut self) -> Departure {
        tracing::warn!(
            workflow.id = %self.course.claimed.workflow, workflow.kind = self.course.claimed.kind,
            "the journal refuses the next record, though its holder lives: reading it again"
        );
        let hold = self.course.claimed.hold();
        park::park(&self.course.shop, &self.life, &hold, READ_AGAIN, After::default()).await
    }

    /// Makes one attempt of a transactional step, in a task of its own: a transaction must not be dropped halfway.
    async fn transact(&mut self, intent: Intent, conduct: Conduct) -> ControlFlow<Departure> {
        // What was noted before stands before the transaction does.
        if !self.course.row.is_empty() {
            self.write(After::default()).await?;
            if self.must_unwind() {
                return ControlFlow::Continue(());
            }
        }
        // Waiting for a connection is not the attempt's time, and nothing is held meanwhile.
        let turn = tokio::select! {
            biased;
            () = self.life.draining.cancelled() => return ControlFlow::Continue(()),
            () = self.life.lease.lost() => return ControlFlow::Continue(()),
            turn = Arc::clone(&self.course.shop.transactions).acquire_owned() => turn.expect("it is never closed"),
        };
        let id = intent.attempt;
        let slot = self.course.history.slot(id.position);
        let input = intent.input.clone().or_else(|| slot.map(|slot| slot.input.clone()));
        let input = input.expect("the first attempt brings its input");
        let forward = self.course.history.unwinding().is_none();
        let asked_at = Instant::now();
        let place = Place {
            incarnation: self.life.lease.incarnation,
            seq: self.course.history.seq_next(),
            after: self
                .course
                .claimed
                .after_outcome(&Verdict::Succeeded(Json::from_journal("null")), forward),
            attempt: self.describe(id, &conduct, Duration::ZERO),
            timeout: conduct.timeout,
            input,
            output: slot.and_then(|slot| slot.output().cloned()),
            intent: intent.clone(),
        };
        let (shop, life, kind, step) = (
            Arc::clone(&self.course.shop),
            Arc::clone(&self.life),
            Arc::clone(&self.course.kind),
            intent.step.clone(),
        );
        let transacting = {
            let place = place.clone();
            tokio::spawn(async move {
                // Until its transaction has ended, also if nobody waits for it any more.
                let _turn = turn;
                let code = kind.steps.get(&step);
                let Some(StepCode { effect: Effect::InTransaction { run, compensate, .. }, .. }) = code
                else {
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
                self.course.note_at(&stitch, answer.at);
                self.course.history.row_written(answer.at);
                self.learn(&answer, asked_at);
                let was_suspect = self.course.claimed.is_suspect();
                self.course.claimed.has_outcome(&place.after);
                self.end_isolation(was_suspect);
                self.log_outcome(id, &stitch.outcome.expect("it has one").verdict);
            }
            Transacted::Refused(answer) if answer.verdict == Written::Fenced => {
                return ControlFlow::Break(Departure::Fenced);
            }
            Transacted::Refused(answer) => {
                self.learn(&answer, asked_at);
                if !self.must_unwind() {
                    return ControlFlow::Break(Box::pin(self.read_again()).await);
                }
            }
            Transacted::RolledBack(ended) => {
                // Also of what came after the step's own end: what the database says of its commit, a panic around it.
                let ended = effect::concealed(ended, &place.attempt);
                let verdict = judge(ended, &self.course.history, id.position, id.direction, &conduct.retry);
                self.log_outcome(id, &verdict);
                let stitch = place.stitch(verdict);
                self.course.note(&stitch);
                self.course.row = stitch;
                // Its row tells of intent and outcome of one attempt: it has no room for what comes next.
                self.write(After::default()).await?;
            }
        }
        ControlFlow::Continue(())
    }

    /// Notes how an attempt ended. It becomes durable with what comes next.
    fn end_attempt(&mut self, id: AttemptId, ended: Ended, code: &StepCode<S>) {
        let verdict = judge(ended, &self.course.history, id.position, id.direction, &code.conduct.retry);
        self.log_outcome(id, &verdict);
        let outcome = Outcome { attempt: id, verdict };
        self.course.note(&Stitch { outcome: Some(outcome.clone()), ..Stitch::default() });
        self.course.row.outcome = Some(outcome);
    }

    async fn complete(&mut self, output: Json) -> ControlFlow<Departure> {
        self.course.end(Turn::Completed);
        let answer = self.write(After { output: Some(output), ..After::default() }).await?;
        match answer.verdict {
            Written::Whole => {}
            // A cancel came first, and now decides.
            _ if self.must_unwind() => return ControlFlow::Continue(()),
            _ => return ControlFlow::Break(Box::pin(self.read_again()).await),
        }
        tracing::info!(workflow.id = %self.course.claimed.workflow, workflow.kind = self.course.claimed.kind, "completed");
        ControlFlow::Break(Departure::Ended)
    }

    async fn compensated(&mut self) -> ControlFlow<Departure> {
        // Nothing was owed: the turn back stands in a row of its own, before the end.
        if self.course.row.turn.is_some() {
            self.write(After::default()).await?;
        }
        self.course.end(Turn::Compensated);
        let report = RollbackReport::of(&self.course.history).expect("only what unwinds is compensated");
        let unwinding = Some(Unwinding::of(report.clone()));
        let answer = self.write(After { unwinding, ..After::default() }).await?;
        if answer.verdict != Written::Whole {
            return ControlFlow::Break(Box::pin(self.read_again()).await);
        }
        tracing::warn!(
            workflow.id = %self.course.claimed.workflow, workflow.kind = self.course.claimed.kind,
            cause = report.cause.as_str(), error = %report.cause.error(), report = %report,
            "compensated: everything is taken back"
        );
        ControlFlow::Break(Departure::Ended)
    }

    /// Lets go of the workflow until `due`, or sooner if somebody cancels it.
    async fn park(&mut self, due: DateTime<Utc>, attention: Option<Attention>) -> Departure {
        let wait = (due - self.course.now()).to_std().unwrap_or_default();
        let unwinding =
            attention.as_ref().and_then(|_| RollbackReport::of(&self.course.history)).map(Unwinding::of);
        let after = After {
            // It was decided upon a journal that is understood, and a cancel comes before all such decisions.
            heeds_cancel: attention.is_some(),
            attention: attention.map(AttentionChange::Raise),
            unwinding,
            ..After::default()
        };
        if self.course.row.is_empty() {
            return park::park(&self.course.shop, &self.life, &self.course.claimed.hold(), wait, after).await;
        }
        park::log_attention(&self.course.claimed.hold(), &after, wait);
        match self.write(After { park: Some(wait), ..after }).await {
            ControlFlow::Continue(_) => Departure::Parked(wait),
            ControlFlow::Break(departure) => departure,
        }
    }

    /// Writes the row in the making, and takes its intent into the history if that stands.
    async fn write(&mut self, after: After) -> ControlFlow<Departure, Answer> {
        let stitch = std::mem::take(&mut self.course.row);
        let forward = self.course.history.unwinding().is_none();
        let gained = match &stitch.outcome {
            Some(outcome) => self.course.claimed.after_outcome(&outcome.verdict, forward),
            None => After::default(),
        };
        let was_suspect = self.course.claimed.is_suspect();
        self.course.claimed.has_outcome(&gained);
        let attention = after.attention.or(gained.attention);
        let innocent = gained.innocent;
        let past_pivot = self.course.reopens(&stitch).then_some(false);
        // An outcome and the turn back are kept whatever comes between; so if nothing was, something else stands there.
        let is_kept = stitch.outcome.is_some() || matches!(stitch.turn, Some(Turn::Unwinding(_)));
        let record = Record {
            workflow: self.course.claimed.workflow,
            seq: self.course.history.seq_next(),
            epoch: self.course.claimed.epoch,
            stitch,
            after: After { phase: self.course.phase.take(), innocent, attention, past_pivot, ..after },
        };
        let (intent, transactional) = (record.stitch.intent.clone(), record.stitch.is_transactional());
        let asked_at = Instant::now();
        let answer = match self.life.appender.append(record).await {
            Ok(answer) => answer,
            Err(error) => {
                let message = format!("the database refuses the workflow's record: {error}");
                tracing::error!(workflow.id = %self.course.claimed.workflow, workflow.kind = self.course.claimed.kind, "{message}");
                let after = After::raising(Attention::new("record_refused", message));
                let hold = self.course.claimed.hold();
                let parked = Box::pin(park::park(&self.course.shop, &self.life, &hold, SLOW_RETRY, after));
                return ControlFlow::Break(parked.await);
            }
        };
        if answer.verdict == Written::Fenced {
            return ControlFlow::Break(Departure::Fenced);
        }
        self.learn(&answer, asked_at);
        if answer.verdict != Written::Nothing {
            self.course.history.row_written(answer.at);
            self.end_isolation(was_suspect);
        } else if is_kept {
            return ControlFlow::Break(Box::pin(self.read_again()).await);
        }
        if answer.verdict == Written::Whole && !transactional {
            self.course.note_at(&Stitch { intent, ..Stitch::default() }, answer.at);
        }
        ControlFlow::Continue(answer)
    }

    /// An outcome that is durable by now has cleared it.
    fn end_isolation(&self, was_suspect: bool) {
        if was_suspect && !self.course.claimed.is_suspect() {
            self.life.alone.send_replace(false);
        }
    }

    /// What an answer of the database tells beside its verdict.
    fn learn(&mut self, answer: &Answer, asked_at: Instant) {
        self.course.claimed.clock.learn(answer.at, asked_at);
        if let Some(cancel) = &answer.cancel {
            self.course.claimed.cancel = Some(cancel.clone());
            self.cancelled.cancel();
        }
    }

    /// `spent`: how much of its time has passed.
    fn describe(&self, id: AttemptId, conduct: &Conduct, spent: Duration) -> Attempt {
        Attempt {
            key: IdempotencyKey {
                workflow: self.course.claimed.workflow,
                position: id.position,
                direction: id.direction,
            },
            number: id.attempt,
            epoch: self.course.claimed.epoch,
            deadline: Instant::now() + conduct.timeout.saturating_sub(spent),
            // Taking back is not what was cancelled.
            cancelled: match id.direction {
                Direction::Run => self.cancelled.clone(),
                Direction::Compensate => CancellationToken::new(),
            },
            kind: self.course.kind.name,
            secrets: Arc::clone(&self.course.shop.secrets),
            revealed: Revealed::default(),
        }
    }

    fn log_outcome(&self, id: AttemptId, verdict: &Verdict) {
        let step = self.course.history.slot(id.position).map_or("", |slot| slot.step.as_str());
        let (workflow, kind) = (self.course.claimed.workflow, self.course.claimed.kind.as_str());
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
