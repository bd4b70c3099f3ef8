//! What an operator may decide about a workflow or a kind, and what the database says to it.

use std::fmt;

use backstitch_core::id::{Position, WorkflowId};
use backstitch_core::json::Json;
use backstitch_core::limits::NAME_BYTES_MAX;
use serde::Serialize;
use sqlx::types::Json as AsJsonb;
use uuid::Uuid;

use crate::client::Client;
use crate::error::Error;

/// Decisions of one operator for one reason. Each is journaled with both, and made only while no worker is at the workflow.
///
/// ```no_run
/// # async fn decide(client: backstitch::Client, workflow: backstitch::WorkflowId) -> Result<(), backstitch::Error> {
/// use backstitch::{Answered, Position};
///
/// let answered = client.operate("ada", "the record was deleted by hand").skip_step(workflow, Position(1)).await?;
/// assert_eq!(answered, Answered::Accepted);
/// # Ok(())
/// # }
/// ```
#[must_use = "nothing is decided before one of its verbs is awaited"]
#[derive(Debug, Clone)]
pub struct Operate<'c> {
    client: &'c Client,
    by: String,
    why: String,
    token: Option<Uuid>,
}

impl Client {
    /// Decides something: who, in 1 to 200 bytes, and why, in 1 to 2,000.
    pub fn operate(&self, by: impl Into<String>, why: impl Into<String>) -> Operate<'_> {
        Operate { client: self, by: by.into(), why: why.into(), token: None }
    }

    /// Asks that a workflow be taken back.
    ///
    /// # Errors
    /// As [`Operate::cancel`].
    pub async fn cancel(&self, workflow: WorkflowId, by: &str, why: &str) -> Result<Answered, Error> {
        self.operate(by, why).cancel(workflow).await
    }

    /// Makes a waiting workflow due now.
    ///
    /// # Errors
    /// As [`Operate::retry`].
    pub async fn retry(&self, workflow: WorkflowId, by: &str, why: &str) -> Result<Answered, Error> {
        self.operate(by, why).retry(workflow).await
    }
}

/// Asks one function of the contract, and decodes the one value that it answers with. A function can't: the query is checked
/// where its text stands.
macro_rules! ask {
    ($client:expr, $doing:literal, $sql:literal, $($argument:expr),+) => {
        $client
            .database
            .run($doing, async |connection| { sqlx::query_scalar!($sql, $($argument),+).fetch_one(connection).await })
            .await
            .map_err(Error::said_by_contract)
    };
}

impl Operate<'_> {
    /// Names the decision, so that it can be repeated when its answer was lost: it is made once. A cancel, a retry and
    /// decisions about kinds need none, they may be repeated as they are.
    pub fn token(self, token: Uuid) -> Self {
        Self { token: Some(token), ..self }
    }

    /// Asks that a workflow be taken back.
    ///
    /// # Errors
    /// When the database does not answer, or name or reason is empty or too long. So for every verb.
    pub async fn cancel(self, workflow: WorkflowId) -> Result<Answered, Error> {
        let Self { client, by, why, .. } = self;
        let answer = ask!(
            client,
            "cancelling a workflow",
            r#"select backstitch.cancel($1, $2, $3) as "answer!""#,
            workflow.0,
            by,
            why
        );
        Answered::from_word(workflow, &answer?)
    }

    /// Makes a waiting workflow due now.
    ///
    /// # Errors
    /// As [`cancel`](Self::cancel).
    pub async fn retry(self, workflow: WorkflowId) -> Result<Answered, Error> {
        let Self { client, by, why, .. } = self;
        let answer = ask!(
            client,
            "retrying a workflow",
            r#"select backstitch.retry($1, $2, $3) as "answer!""#,
            workflow.0,
            by,
            why
        );
        Answered::from_word(workflow, &answer?)
    }

    /// Says that a step need not be taken back any more: the way back goes on without it, and the report names the operator.
    ///
    /// # Errors
    /// As [`cancel`](Self::cancel).
    pub async fn skip_step(self, workflow: WorkflowId, position: Position) -> Result<Answered, Error> {
        let Self { client, by, why, token } = self;
        let answer = ask!(
            client,
            "skipping a step",
            r#"select backstitch.skip_step($1, $2, $3, $4, $5) as "answer!""#,
            workflow.0,
            number(position),
            by,
            why,
            token
        );
        Answered::from_word(workflow, &answer?)
    }

    /// Says what became of a step of which nobody knows: it happened, with what it would have handed over, or (`None`) it did
    /// not. Going forward, the one is handed to the function and the other is run again; on the way back only what happened
    /// is taken back.
    ///
    /// # Errors
    /// As [`cancel`](Self::cancel), or when the output is larger than a step's may be.
    pub async fn resolve(
        self,
        workflow: WorkflowId,
        position: Position,
        happened: Option<Json>,
    ) -> Result<Answered, Error> {
        let Self { client, by, why, token } = self;
        let answer = ask!(
            client,
            "resolving a step",
            r#"select backstitch.resolve($1, $2, $3, $4, $5, $6, $7) as "answer!""#,
            workflow.0,
            number(position),
            happened.is_some(),
            by,
            why,
            happened.map(AsJsonb) as _,
            token
        );
        Answered::from_word(workflow, &answer?)
    }

    /// Ends a workflow that needs attention as it is: what its report calls owed stays outside.
    ///
    /// # Errors
    /// As [`cancel`](Self::cancel).
    pub async fn abandon(self, workflow: WorkflowId) -> Result<Answered, Error> {
        let Self { client, by, why, token } = self;
        let answer = ask!(
            client,
            "abandoning a workflow",
            r#"select backstitch.abandon($1, $2, $3, $4) as "answer!""#,
            workflow.0,
            by,
            why,
            token
        );
        Answered::from_word(workflow, &answer?)
    }

    /// Holds a waiting workflow back until it is resumed, retried or cancelled.
    ///
    /// # Errors
    /// As [`cancel`](Self::cancel).
    pub async fn pause(self, workflow: WorkflowId) -> Result<Answered, Error> {
        let Self { client, by, why, token } = self;
        let answer = ask!(
            client,
            "pausing a workflow",
            r#"select backstitch.pause($1, $2, $3, $4) as "answer!""#,
            workflow.0,
            by,
            why,
            token
        );
        Answered::from_word(workflow, &answer?)
    }

    /// Ends a pause: the workflow is due again when it was due before.
    ///
    /// # Errors
    /// As [`cancel`](Self::cancel).
    pub async fn resume(self, workflow: WorkflowId) -> Result<Answered, Error> {
        let Self { client, by, why, token } = self;
        let answer = ask!(
            client,
            "resuming a workflow",
            r#"select backstitch.resume($1, $2, $3, $4) as "answer!""#,
            workflow.0,
            by,
            why,
            token
        );
        Answered::from_word(workflow, &answer?)
    }

    /// Nothing of this kind is claimed until it is resumed; what is under way goes on.
    ///
    /// # Errors
    /// As [`cancel`](Self::cancel), or when no kind can be called so.
    pub async fn pause_kind(self, kind: &str) -> Result<(), Error> {
        let Self { client, by, why, .. } = self;
        let kind = name_of_kind(kind)?;
        ask!(client, "pausing a kind", "select backstitch.pause_kind($1, $2, $3)", kind, by, why).map(drop)
    }

    /// Ends the pause of a kind. False: it was not paused.
    ///
    /// # Errors
    /// As [`pause_kind`](Self::pause_kind).
    pub async fn resume_kind(self, kind: &str) -> Result<bool, Error> {
        let Self { client, by, why, .. } = self;
        let kind = name_of_kind(kind)?;
        ask!(
            client,
            "resuming a kind",
            r#"select backstitch.resume_kind($1, $2, $3) as "resumed!""#,
            kind,
            by,
            why
        )
    }
}

/// What the database said to a decision.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Answered {
    /// It is so, or was so already.
    Accepted,
    /// There is no way back any more.
    PastThePivot,
    /// It is on its way back already.
    IsCompensating,
    /// It is not on its way back.
    IsNotCompensating,
    /// A worker is at it right now: ask again in a moment.
    IsRunning,
    /// No step of that position has begun.
    NoSuchStep,
    /// The step has nothing to take back, or it is taken back already.
    OwesNothing,
    /// What became of the step is known.
    IsNotInDoubt,
    /// Only a workflow that needs attention can be let be.
    NeedsNoAttention,
    /// It is not paused.
    IsNotPaused,
    /// It has ended.
    HasEnded,
    /// There is no such workflow.
    NotFound,
}

impl Answered {
    /// Every answer.
    pub const ALL: [Self; 12] = [
        Self::Accepted,
        Self::PastThePivot,
        Self::IsCompensating,
        Self::IsNotCompensating,
        Self::IsRunning,
        Self::NoSuchStep,
        Self::OwesNothing,
        Self::IsNotInDoubt,
        Self::NeedsNoAttention,
        Self::IsNotPaused,
        Self::HasEnded,
        Self::NotFound,
    ];

    /// The word for it, in SQL and in JSON.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::PastThePivot => "past_the_pivot",
            Self::IsCompensating => "is_compensating",
            Self::IsNotCompensating => "is_not_compensating",
            Self::IsRunning => "is_running",
            Self::NoSuchStep => "no_such_step",
            Self::OwesNothing => "owes_nothing",
            Self::IsNotInDoubt => "is_not_in_doubt",
            Self::NeedsNoAttention => "needs_no_attention",
            Self::IsNotPaused => "is_not_paused",
            Self::HasEnded => "has_ended",
            Self::NotFound => "not_found",
        }
    }

    fn from_word(workflow: WorkflowId, word: &str) -> Result<Self, Error> {
        let unknown = || Error::Unreadable { workflow, message: format!("unknown answer {word:?}") };
        Self::ALL.into_iter().find(|answered| answered.as_str() == word).ok_or_else(unknown)
    }
}

/// What is so, to follow the name of a workflow: `has ended`.
impl fmt::Display for Answered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Accepted => "is told so",
            Self::PastThePivot => "is past its pivot: there is no way back, only forward",
            Self::IsCompensating => "is being taken back already",
            Self::IsNotCompensating => "is not being taken back: there is nothing to skip",
            Self::IsRunning => "is being worked at right now: ask again in a moment",
            Self::NoSuchStep => "has begun no step of that position",
            Self::OwesNothing => "owes nothing for that step: it has nothing to take back, or is taken back",
            Self::IsNotInDoubt => "knows what became of that step",
            Self::NeedsNoAttention => "needs no attention: cancel it instead of abandoning it",
            Self::IsNotPaused => "is not paused",
            Self::HasEnded => "has ended",
            Self::NotFound => "is none: there is no workflow of that id",
        })
    }
}

fn name_of_kind(kind: &str) -> Result<String, Error> {
    if (1..=NAME_BYTES_MAX).contains(&kind.len()) {
        return Ok(kind.to_owned());
    }
    Err(Error::Refused(format!("the name of a kind has 1 to {NAME_BYTES_MAX} bytes, not {}", kind.len())))
}

fn number(position: Position) -> i32 {
    // No journal has that many: the answer is that there is no such step.
    i32::try_from(position.0).unwrap_or(i32::MAX)
}
