//! What one row of a journal says: at most one outcome, at most one turn, at most one intent, in that order.
//!
//! A row is one *stitch*. The outcome of step *k* and the intent of step *k+1* travel in one row, and so do the last
//! outcome and the end. A transactional step writes intent and outcome of the *same* attempt in one row, in the
//! transaction that holds its effect: such a row says that nothing was ever in doubt.

use serde::{Deserialize, Serialize};

use crate::failure::{self, Failure, WorkflowError};
use crate::id::{Direction, Position};
use crate::json::Json;

/// One row.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Stitch {
    /// How an attempt ended.
    pub outcome: Option<Outcome>,
    /// The workflow changes course.
    pub turn: Option<Turn>,
    /// The next attempt is about to begin.
    pub intent: Option<Intent>,
}

impl Stitch {
    /// Whether intent and outcome are one attempt: a transactional step.
    #[must_use]
    pub fn is_transactional(&self) -> bool {
        matches!((&self.outcome, &self.intent), (Some(outcome), Some(intent)) if outcome.attempt == intent.attempt)
    }

    /// Whether the row says nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.outcome.is_none() && self.turn.is_none() && self.intent.is_none()
    }
}

/// Which try of which step, in which direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AttemptId {
    /// The step.
    pub position: Position,
    /// Forward or back.
    pub direction: Direction,
    /// Counted from 1.
    pub attempt: u32,
}

/// An attempt is about to begin: written before any effect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Intent {
    /// Which.
    pub attempt: AttemptId,
    /// The step's name, by which its code is found.
    pub step: String,
    /// The step's version when it began.
    pub version: u32,
    /// How the step is taken back, as its code declared when it began.
    pub backward: Backward,
    /// The step's fields. Only the first attempt of a position carries them.
    pub input: Option<Json>,
}

/// How a step is taken back. Declared by its code, journaled with its first intent, and from then on the journal's word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Backward {
    /// Compensated once every later step is settled.
    AfterAllLater,
    /// Compensated in its turn, but it may pass a later step that is stuck.
    Independent,
    /// Nothing to take back.
    Nothing,
    /// No way back once this has begun, only forward.
    Pivot,
}

impl Backward {
    /// The word for it in the journal.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::AfterAllLater => "after_all_later",
            Self::Independent => "independent",
            Self::Nothing => "nothing",
            Self::Pivot => "pivot",
        }
    }
}

/// How an attempt ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// Which.
    pub attempt: AttemptId,
    /// How.
    pub verdict: Verdict,
}

/// How an attempt ended, as the engine judged it (see [`crate::decide::judge`]): `Failed`, `FailedInDoubt` and `Rejected` are final,
/// the step is not run again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It did what it is for. A compensation's output is `null`.
    Succeeded(Json),
    /// It said: transient or unknown. It will be tried again.
    Retry(Failure),
    /// Timed out, panicked, or got no answer: nobody knows, and it may still arrive. It will be tried again.
    InDoubt(Failure),
    /// Cut short by a shutdown or the end of a lease: nobody knows, nobody is charged, it will be tried again.
    HandedBack,
    /// For good, and something may have happened.
    Failed(Failure),
    /// For good, and the last attempt had no answer: its effect may still arrive.
    FailedInDoubt(Failure),
    /// For good, and nothing happened. Counts as `Failed` where an earlier attempt may have happened.
    Rejected(Failure),
}

impl Verdict {
    /// The word for it in the journal.
    #[must_use]
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Succeeded(_) => "succeeded",
            Self::Retry(_) => "retry",
            Self::InDoubt(_) => "in_doubt",
            Self::HandedBack => "handed_back",
            Self::Failed(_) => "failed",
            Self::FailedInDoubt(_) => "failed_in_doubt",
            Self::Rejected(_) => "rejected",
        }
    }

    /// What went wrong; none where nothing did, or nobody can say.
    #[must_use]
    pub fn failure(&self) -> Option<&Failure> {
        match self {
            Self::Retry(failure)
            | Self::InDoubt(failure)
            | Self::Failed(failure)
            | Self::FailedInDoubt(failure)
            | Self::Rejected(failure) => Some(failure),
            Self::Succeeded(_) | Self::HandedBack => None,
        }
    }
}

/// The workflow changes course.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Turn {
    /// From here on back. Happens once.
    Unwinding(Cause),
    /// An operator said: try again now.
    Retry(Operator),
    /// An operator said: not before I say so. Whether it is held back is the database's to know, not the journal's.
    Pause(Operator),
    /// An operator said: go on.
    Resume(Operator),
    /// An operator said: this step need not be taken back any more.
    SkipStep(Skip),
    /// An operator looked, and says what became of a step in doubt.
    Resolve(Resolution),
    /// The end: everything done.
    Completed,
    /// The end: everything taken back.
    Compensated,
    /// The end: an operator let it be, with whatever is still owed.
    Abandoned(Operator),
}

impl Turn {
    /// The word for it in the journal.
    #[must_use]
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Unwinding(_) => "unwinding",
            Self::Retry(_) => "retry",
            Self::Pause(_) => "pause",
            Self::Resume(_) => "resume",
            Self::SkipStep(_) => "skip_step",
            Self::Resolve(_) => "resolve",
            Self::Completed => "completed",
            Self::Compensated => "compensated",
            Self::Abandoned(_) => "abandoned",
        }
    }

    /// Whether nothing may follow.
    #[must_use]
    pub fn is_terminal(&self) -> bool {
        matches!(self, Self::Completed | Self::Compensated | Self::Abandoned(_))
    }
}

/// Why a workflow is taken back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "cause", rename_all = "snake_case")]
pub enum Cause {
    /// A step failed, or the function gave up.
    Failed(WorkflowError),
    /// Somebody cancelled it.
    Cancelled(Operator),
    /// Its deadline passed.
    DeadlinePassed,
    /// Its worker died, and its kind says that what is in the air then is taken back.
    Orphaned,
    /// It killed its process too often.
    CrashLoop {
        /// How often.
        deaths: u32,
    },
    /// The code no longer fits the journal.
    Mismatch {
        /// What does not fit, and what to do.
        message: String,
    },
}

impl Cause {
    /// The word for it in the journal.
    #[must_use]
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Failed(_) => "failed",
            Self::Cancelled(_) => "cancelled",
            Self::DeadlinePassed => "deadline_passed",
            Self::Orphaned => "orphaned",
            Self::CrashLoop { .. } => "crash_loop",
            Self::Mismatch { .. } => "mismatch",
        }
    }

    /// This cause as it can be journaled: what a function says of its error may be anything.
    #[must_use]
    pub fn journaled(self) -> Self {
        match self {
            Self::Failed(error) => Self::Failed(error.journaled()),
            Self::Mismatch { message } => Self::Mismatch { message: failure::journaled(message) },
            other => other,
        }
    }

    /// The error that the caller gets: the original one where there is one.
    #[must_use]
    pub fn error(&self) -> WorkflowError {
        match self {
            Self::Failed(error) => error.clone(),
            Self::Cancelled(operator) => {
                WorkflowError::new("cancelled", format!("cancelled by {}: {}", operator.by, operator.why))
            }
            Self::DeadlinePassed => WorkflowError::new("deadline_passed", "the workflow's deadline passed"),
            Self::Orphaned => WorkflowError::new("orphaned", "the worker died while a step was under way"),
            Self::CrashLoop { deaths } => WorkflowError::new(
                "crash_loop",
                format!("the workflow killed its worker process {deaths} times"),
            ),
            Self::Mismatch { message } => WorkflowError::new("mismatch", message.clone()),
        }
    }
}

/// Who decided, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Operator {
    /// Who.
    pub by: String,
    /// Why.
    pub why: String,
}

/// Which step need not be taken back, who says so, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Skip {
    /// The step.
    pub position: Position,
    /// Who decided, and why.
    #[serde(flatten)]
    pub operator: Operator,
}

/// What became of a step in doubt, says who looked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resolution {
    /// The step.
    pub position: Position,
    /// Whether its effect is there.
    pub happened: bool,
    /// What it would have handed over. None: `null`, or it did not happen.
    #[serde(default)]
    pub output: Option<Json>,
    /// Who looked.
    pub by: String,
    /// What was seen.
    pub why: String,
}
