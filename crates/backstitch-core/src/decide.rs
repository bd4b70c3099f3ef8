//! What comes next, given a journal and the circumstances.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};

use crate::failure::{Failure, StepError, StepFailed, WorkflowError};
use crate::history::{History, Side, Slot};
use crate::id::{Direction, IdempotencyKey, Position, WorkflowId};
use crate::json::Json;
use crate::limits::{
    ATTEMPT_TIMEOUT, COMPENSATION_ATTEMPTS_UNTIL_ALERT, COMPENSATION_TIME_UNTIL_ALERT, CRASH_BUDGET, HALT,
    LATE_EFFECT_GRACE, SLOW_RETRY,
};
use crate::record::{Backward, Cause, Operator, Verdict};
use crate::retry::RetryPolicy;

/// What a kind wants done with a workflow whose worker died in the middle.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Recovery {
    /// Take it back: for allocations, where a caller has long gone.
    Compensate,
    /// Run the step in doubt again with the same key, and go on.
    Resume,
}

/// How a workflow lost its holder.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Orphaned {
    /// The lease ended and was not renewed: the process may be frozen, and come back.
    Expired,
    /// The process is known to be gone: its host's kernel released its file lock.
    Gone,
}

/// How a step is tried, in both directions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Conduct {
    /// How long one attempt may take, from when its intent stands in the journal.
    pub timeout: Duration,
    /// How often it is run.
    pub retry: RetryPolicy,
    /// How long its compensation is tried before somebody is told.
    pub patience: Patience,
    /// What may still arrive after an attempt was given up.
    pub late_effects: LateEffects,
}

impl Conduct {
    /// The numbers of the design.
    pub const DEFAULT: Self = Self {
        timeout: ATTEMPT_TIMEOUT,
        retry: RetryPolicy::DEFAULT,
        patience: Patience::DEFAULT,
        late_effects: LateEffects::WaitOut,
    };
}

/// How long a compensation is tried before somebody is told, and how slowly afterwards. It is never given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patience {
    /// How many failed attempts raise the alert.
    pub attempts: u32,
    /// How much time since the first attempt raises it.
    pub time: Duration,
    /// How often it is tried from then on.
    pub slow_retry: Duration,
}

impl Patience {
    /// The numbers of the design.
    pub const DEFAULT: Self = Self {
        attempts: COMPENSATION_ATTEMPTS_UNTIL_ALERT,
        time: COMPENSATION_TIME_UNTIL_ALERT,
        slow_retry: SLOW_RETRY,
    };

    /// The same, but not tried again by itself once somebody was told: for a target that a repeated try would harm. It waits
    /// for an operator's `retry`, `skip_step`, `resolve` or `abandon`.
    #[must_use]
    pub const fn halt(self) -> Self {
        Self { slow_retry: HALT, ..self }
    }
}

/// What may still arrive at a target after the attempt that sent it was given up.
///
/// It is what a compensation must not come too soon for. A step that is repeated, and then succeeds, is not held up: where a late
/// effect would harm whoever comes *after* the workflow, such as a deletion that takes what somebody else has made since, a
/// repeated attempt must itself see to it that the earlier one's has landed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LateEffects {
    /// The target refuses a repeated key or a stale epoch, or keeps a tombstone: nothing to wait for.
    Refused,
    /// The effect is made by this process itself, on local files: once the process is known to be gone, nothing comes of the attempt
    /// that it was making. Any other attempt in doubt is waited out, for its process may live.
    Local,
    /// The target takes whatever arrives: before an attempt in doubt is compensated, its timeout and
    /// [`LATE_EFFECT_GRACE`] are waited out.
    WaitOut,
}

/// What is known about a workflow beside its journal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Circumstances {
    /// The database's clock.
    pub now: DateTime<Utc>,
    /// What its kind wants after a crash.
    pub recovery: Recovery,
    /// Whether it lost its holder in the middle of its work. None: it did not.
    pub orphaned: Option<Orphaned>,
    /// Who cancelled it, if somebody did.
    pub cancel: Option<Operator>,
    /// When it must have ended. None: whenever.
    pub deadline_at: Option<DateTime<Utc>>,
    /// How many deaths of its process are charged to it.
    pub crash_charges: u32,
}

/// Whether the workflow must turn back now, and why. None: it need not, or it can't, because it is past the pivot, has
/// turned already or has ended.
///
/// Of several reasons the first of these counts: cancelled, crash budget used up, orphaned, deadline passed. An orphan
/// whose step had failed for good, and was being compensated before its error could be delivered, turns back with that
/// error: the caller gets the original one.
#[must_use]
pub fn must_unwind(history: &History, around: &Circumstances) -> Option<Cause> {
    if history.unwinding().is_some() || history.past_pivot() || history.end().is_some() {
        return None;
    }
    if let Some(operator) = &around.cancel {
        return Some(Cause::Cancelled(operator.clone()));
    }
    if around.crash_charges >= CRASH_BUDGET {
        return Some(Cause::CrashLoop { deaths: around.crash_charges });
    }
    if around.orphaned.is_some() && around.recovery == Recovery::Compensate && history.steps_begun() > 0 {
        return Some(undelivered_failure(history).map_or(Cause::Orphaned, Cause::Failed));
    }
    if around.deadline_at.is_some_and(|deadline| deadline <= around.now) {
        return Some(Cause::DeadlinePassed);
    }
    None
}

/// The error of a step that failed for good and is still to be compensated: nobody has heard of it yet.
fn undelivered_failure(history: &History) -> Option<WorkflowError> {
    let (position, slot) = history.slots().next_back()?;
    let failure = slot.run.settled.as_ref()?.failure()?.clone();
    let failed = StepFailed { step: slot.step.clone(), position, failure };
    slot.owes_compensation().then(|| failed.into())
}

/// What to do when the function asks for a step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Forward {
    /// Begin this attempt.
    Run {
        /// Counted from 1.
        attempt: u32,
    },
    /// It is not due before this time.
    WaitUntil(DateTime<Utc>),
    /// It is forward only, and has failed or killed its process too often: tell somebody, and try again at this time.
    Attention(DateTime<Utc>),
    /// It succeeded: hand this over.
    Deliver(Json),
    /// It failed and left no residue: hand this over.
    DeliverFailure(Failure),
    /// It failed: begin this attempt to compensate it, before the function hears of it.
    Compensate {
        /// Counted from 1.
        attempt: u32,
    },
    /// It failed, and compensating it fails too: the function never hears of it, the workflow unwinds.
    Unwind(Failure),
}

/// What to do when the function asks for the step at `position`, which the journal may know.
///
/// Ask [`must_unwind`] first, and not while an attempt of this position is under way: one without an outcome counts as
/// lost here, and is tried again.
#[must_use]
pub fn forward(
    workflow: WorkflowId,
    history: &History,
    position: Position,
    conduct: &Conduct,
    around: &Circumstances,
) -> Forward {
    let Some(slot) = history.slot(position) else {
        return Forward::Run { attempt: 1 };
    };
    match &slot.run.settled {
        Some(Verdict::Succeeded(output)) => Forward::Deliver(output.clone()),
        Some(Verdict::Failed(failure) | Verdict::FailedInDoubt(failure) | Verdict::Rejected(failure)) => {
            match compensation(workflow, history, position, slot, conduct, around) {
                Compensation::Settled => Forward::DeliverFailure(failure.clone()),
                Compensation::Attempt { attempt } => Forward::Compensate { attempt },
                Compensation::WaitUntil(due) => Forward::WaitUntil(due),
                Compensation::Stuck(_) => Forward::Unwind(failure.clone()),
            }
        }
        _ => {
            let key = IdempotencyKey { workflow, position, direction: Direction::Run };
            let forward_only = history.past_pivot();
            let deadly = forward_only && is_deadly(history, &slot.run, around);
            let patience_over = deadly || forward_only && slot.run.failed >= conduct.retry.attempts_max;
            let delay = if patience_over {
                conduct.patience.slow_retry
            } else {
                conduct.retry.delay(&key, slot.run.failed)
            };
            match due_after_failure(&slot.run, deadly, delay) {
                Some(due) if due > around.now && patience_over => Forward::Attention(due),
                Some(due) if due > around.now => Forward::WaitUntil(due),
                _ => Forward::Run { attempt: slot.run.begun + 1 },
            }
        }
    }
}

/// What to do next on the way back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unwind {
    /// Begin this attempt to compensate.
    Compensate {
        /// The step.
        position: Position,
        /// Counted from 1.
        attempt: u32,
    },
    /// Nothing may be tried before this time.
    WaitUntil(DateTime<Utc>),
    /// These steps are stuck: tell somebody, and try again at this time.
    Attention {
        /// What is stuck, and why.
        stuck: Vec<Stuck>,
        /// When to try again.
        due: DateTime<Utc>,
    },
    /// Everything is taken back.
    Done,
}

/// A step that can't be taken back for now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stuck {
    /// Where it stands.
    pub position: Position,
    /// The last error of its compensation. None: it had none, because this worker has no code of that name, or because
    /// its process died each time.
    pub failure: Option<Failure>,
}

/// What to do next on the way back. `conduct_of` finds a step's code by its name; none: this worker has none.
///
/// From the end to the beginning; a step waits until every later one is settled, unless it is independent and what is
/// later is stuck. A later one that only waits for its next attempt, or for late effects, is not stuck yet.
///
/// Not to be asked before the turn, nor while a compensation is under way: one without an outcome counts as lost here.
#[must_use]
pub fn unwind<'a>(
    workflow: WorkflowId,
    history: &'a History,
    conduct_of: impl Fn(&'a Slot) -> Option<Conduct>,
    around: &Circumstances,
) -> Unwind {
    let mut stuck = Vec::new();
    let mut due = None;
    for (position, slot) in history.slots().rev().filter(|(_, slot)| slot.owes_compensation()) {
        if !stuck.is_empty() && slot.backward != Backward::Independent {
            continue;
        }
        let wait_until = match conduct_of(slot)
            .map(|conduct| compensation(workflow, history, position, slot, &conduct, around))
        {
            Some(Compensation::Settled) => continue,
            Some(Compensation::Attempt { attempt }) => return Unwind::Compensate { position, attempt },
            Some(Compensation::WaitUntil(until)) if stuck.is_empty() => return Unwind::WaitUntil(until),
            // Behind a stuck step it only waits its own short while: the flag is raised, and this is tried before it.
            Some(Compensation::WaitUntil(until)) => until,
            Some(Compensation::Stuck(until)) => {
                stuck.push(Stuck { position, failure: slot.compensate.failure.clone() });
                until
            }
            None => {
                stuck.push(Stuck { position, failure: None });
                later(around.now, SLOW_RETRY)
            }
        };
        due = Some(due.map_or(wait_until, |due: DateTime<Utc>| due.min(wait_until)));
    }
    match due {
        Some(due) => Unwind::Attention { stuck, due },
        None => Unwind::Done,
    }
}

/// Where the compensation of one step stands.
enum Compensation {
    /// Nothing is owed.
    Settled,
    /// Try now.
    Attempt { attempt: u32 },
    /// Try then.
    WaitUntil(DateTime<Utc>),
    /// Its patience is over; try then.
    Stuck(DateTime<Utc>),
}

fn compensation(
    workflow: WorkflowId,
    history: &History,
    position: Position,
    slot: &Slot,
    conduct: &Conduct,
    around: &Circumstances,
) -> Compensation {
    if !slot.owes_compensation() {
        return Compensation::Settled;
    }
    let key = IdempotencyKey { workflow, position, direction: Direction::Compensate };
    let side = &slot.compensate;
    let time_over =
        side.first_begun_at.is_some_and(|first| later(first, conduct.patience.time) <= around.now);
    let deadly = is_deadly(history, side, around);
    let patience_over = deadly || side.failed > 0 && (side.failed >= conduct.patience.attempts || time_over);
    let delay =
        if patience_over { conduct.patience.slow_retry } else { conduct.retry.delay(&key, side.failed) };
    // Once it has begun, late effects had been waited out.
    let quiet = if side.begun == 0 { late_effects_gone(&slot.run, conduct, around) } else { None };
    match due_after_failure(side, deadly, delay).max(quiet) {
        Some(due) if due > around.now && patience_over => Compensation::Stuck(due),
        Some(due) if due > around.now => Compensation::WaitUntil(due),
        _ => Compensation::Attempt { attempt: side.begun + 1 },
    }
}

/// Whether this side's attempts kill their process, and there is no budget left to turn back with (I11). Then it is
/// tried slowly, and somebody is told.
fn is_deadly(history: &History, side: &Side, around: &Circumstances) -> bool {
    side.open && has_no_lives_left(history, around)
}

/// Whether a workflow kills its process, and no attempt is open that would say of what: its function does, or a
/// transactional step. Where there is a way back, it turns back for that ([`must_unwind`]); this is past the pivot, or on
/// the way back already. Then it is tried slowly, and somebody is told.
#[must_use]
pub fn dies_of_what_is_not_journaled(history: &History, around: &Circumstances) -> bool {
    // The journal last: it may be long, and this is asked before each step.
    has_no_lives_left(history, around)
        && must_unwind(history, around).is_none()
        && !history.slots().any(|(_, slot)| slot.run.open || slot.compensate.open)
}

/// The deaths that made the workflow turn back are not held against the way back. They stand among the charges only until an
/// outcome clears those: from then on nothing is to be taken off.
fn has_no_lives_left(history: &History, around: &Circumstances) -> bool {
    let deaths_before = match history.unwinding() {
        Some(Cause::CrashLoop { deaths }) if !history.answered_since_turn => *deaths,
        _ => 0,
    };
    around.crash_charges >= deaths_before.saturating_add(CRASH_BUDGET)
}

/// When a side that failed, or died of its attempt, may be tried again. None: now.
fn due_after_failure(side: &Side, deadly: bool, delay: Duration) -> Option<DateTime<Utc>> {
    let since = if deadly { side.failed_at.max(side.last_begun_at) } else { side.failed_at };
    since.map(|since| later(since, delay))
}

/// When no late effect of an attempt with an unknown outcome can arrive any more. None: now.
fn late_effects_gone(run: &Side, conduct: &Conduct, around: &Circumstances) -> Option<DateTime<Utc>> {
    let unknown_since = match conduct.late_effects {
        LateEffects::Refused => None,
        // It is the last holder that is gone, and an attempt without an outcome was its last word. One that was given up, or begun
        // before, may be another process's, which lives, and has a thread that is not done with it.
        LateEffects::Local if run.open && around.orphaned == Some(Orphaned::Gone) => run.unknown_before,
        LateEffects::Local | LateEffects::WaitOut => run.unknown_since,
    };
    unknown_since.map(|since| later(since, conduct.timeout.saturating_add(LATE_EFFECT_GRACE)))
}

/// How an attempt ended, before anyone judged it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ended {
    /// With an output.
    Succeeded(Json),
    /// With an error of its own.
    Error(StepError),
    /// Not in time.
    TimedOut(Duration),
    /// With a panic.
    Panicked(String),
    /// Cut short by a shutdown or the end of a lease.
    CutShort,
}

/// What the end of an attempt means: whether it is final, and whether a `Rejected` may be believed.
///
/// Past the pivot there is no final failure, and in the pivot itself only a believable `Rejected`; a compensation never
/// fails for good.
///
/// Asked before the outcome is journaled: `history` ends with this attempt's intent, or, for a transactional step, which
/// has none of its own, with what came before it.
#[must_use]
pub fn judge(
    ended: Ended,
    history: &History,
    position: Position,
    direction: Direction,
    retry: &RetryPolicy,
) -> Verdict {
    let slot = history.slot(position);
    let failed = slot.map_or(0, |slot| slot.side(direction).failed);
    let compensating = direction == Direction::Compensate;
    let forward_only = compensating || history.past_pivot();
    let exhausted = !forward_only && failed + 1 >= retry.attempts_max;
    let in_doubt =
        |failure| if exhausted { Verdict::FailedInDoubt(failure) } else { Verdict::InDoubt(failure) };
    match ended {
        Ended::Succeeded(output) => Verdict::Succeeded(output),
        Ended::CutShort => Verdict::HandedBack,
        Ended::TimedOut(after) => {
            in_doubt(Failure::new("timed_out", format!("no answer within {} s", after.as_secs_f64())))
        }
        Ended::Panicked(message) => in_doubt(Failure::new("panicked", message)),
        Ended::Error(StepError::InDoubt(failure)) => in_doubt(failure),
        Ended::Error(StepError::Retry(failure)) if exhausted => Verdict::Failed(failure),
        Ended::Error(StepError::Retry(failure)) => Verdict::Retry(failure),
        // Nothing of *this* attempt happened; of an earlier one that was not a transaction, nobody knows.
        Ended::Error(StepError::Rejected(failure))
            if !compensating
                && !history.past_pivot_before(position)
                && slot
                    .is_none_or(|slot| slot.transactional || slot.run.begun == u32::from(slot.run.open)) =>
        {
            Verdict::Rejected(failure)
        }
        Ended::Error(StepError::Fail(failure) | StepError::Rejected(failure)) => {
            if forward_only {
                Verdict::Retry(failure)
            } else {
                Verdict::Failed(failure)
            }
        }
    }
}

/// A time so much later, or the end of time.
#[must_use]
pub fn later(at: DateTime<Utc>, by: Duration) -> DateTime<Utc> {
    TimeDelta::from_std(by).ok().and_then(|by| at.checked_add_signed(by)).unwrap_or(DateTime::<Utc>::MAX_UTC)
}
