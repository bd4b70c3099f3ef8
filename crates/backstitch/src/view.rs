//! How workflows, their steps and attempts look from outside.

use backstitch_core::failure::{Failure, WorkflowError};
use backstitch_core::id::WorkflowId;
use backstitch_core::json::Json;
use backstitch_core::record::{Cause, Operator};
use backstitch_core::report::RollbackReport;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::database::Database;
use crate::error::Error;
use crate::secret::redacted;

/// Where a workflow is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// Asked for, and never claimed.
    Pending,
    /// On its way.
    Running,
    /// On its way back.
    Compensating,
    /// Waiting for a person, and tried slowly.
    NeedsAttention,
    /// Everything done.
    Completed,
    /// Everything taken back.
    Compensated,
    /// An operator let it be, with whatever was still owed.
    Abandoned,
}

impl Status {
    /// Every status, in the order of a life.
    pub const ALL: [Self; 7] = [
        Self::Pending,
        Self::Running,
        Self::Compensating,
        Self::NeedsAttention,
        Self::Completed,
        Self::Compensated,
        Self::Abandoned,
    ];

    /// The word for it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Running => "running",
            Self::Compensating => "compensating",
            Self::NeedsAttention => "needs_attention",
            Self::Completed => "completed",
            Self::Compensated => "compensated",
            Self::Abandoned => "abandoned",
        }
    }
}

impl std::fmt::Display for Status {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.as_str())
    }
}

impl std::str::FromStr for Status {
    type Err = String;

    fn from_str(word: &str) -> Result<Self, Self::Err> {
        let known = || Self::ALL.map(Self::as_str).join(", ");
        Self::ALL
            .into_iter()
            .find(|status| status.as_str() == word)
            .ok_or_else(|| format!("{word:?} is no status; there are {}", known()))
    }
}

/// One workflow as it stands.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[non_exhaustive]
pub struct WorkflowView {
    /// Its id.
    #[serde(alias = "workflow_id")] // so it is called over HTTP
    pub workflow: WorkflowId,
    /// Its kind.
    pub kind: String,
    /// The version of the kind that was asked for.
    pub version: u32,
    /// The key it was asked for with. None: without.
    pub key: Option<String>,
    /// Its queue.
    pub queue: String,
    /// Where it is.
    pub status: Status,
    /// What was asked. None: in a list that was not asked for it.
    pub input: Option<Json>,
    /// What it ended with. None unless completed; in a list, unless asked for.
    pub output: Option<Json>,
    /// Why it is, or was, taken back. None unless that is known.
    pub cause: Option<Cause>,
    /// Who asked that it be taken back, and why, where that is yet to be heeded. None: nobody, or it has ended.
    pub cancel: Option<Operator>,
    /// Who holds it back, and why, until it is resumed, retried or cancelled. None: nobody.
    #[serde(default)]
    pub paused: Option<Operator>,
    /// The original error. None unless it failed.
    pub error: Option<WorkflowError>,
    /// What became of each step on the way back. None unless it ended that way, or is stuck on it.
    pub report: Option<RollbackReport>,
    /// What a person should look at. None: nothing.
    pub attention: Option<String>,
    /// When it was asked for.
    pub enqueued_at: DateTime<Utc>,
    /// When it ended. None: it has not.
    pub finished_at: Option<DateTime<Utc>>,
    /// When it must have ended. None: whenever.
    pub deadline_at: Option<DateTime<Utc>>,
    /// When it may be claimed. None: it is held, is paused, or has ended.
    pub due_at: Option<DateTime<Utc>>,
    /// The incarnation that holds it. None: none.
    pub holder: Option<i32>,
    /// No living worker serves its kind.
    pub unserved: bool,
}

impl WorkflowView {
    /// As it may be shown: without what is sealed in its input and output.
    #[must_use]
    pub fn redacted(self) -> Self {
        let (input, output) = (self.input.as_ref().map(redacted), self.output.as_ref().map(redacted));
        Self { input, output, ..self }
    }

    /// For a workflow that waits for a person without having turned back: what is known.
    pub(crate) fn unexplained(&self) -> WorkflowError {
        let message = self.attention.clone().unwrap_or_else(|| "a person should look".to_owned());
        WorkflowError::new("needs_attention", message)
    }
}

/// Which workflows to list.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// Only of this kind.
    pub kind: Option<String>,
    /// Only with this status.
    pub status: Option<Status>,
    /// Only with this key.
    pub key: Option<String>,
    /// Only those asked for before this one: where the last page ended. None: from the newest on.
    pub before: Option<WorkflowId>,
    /// Only of this queue.
    pub queue: Option<String>,
    /// Only those whose error has this code.
    pub error_code: Option<String>,
    /// Only those asked for at this time or later.
    pub since: Option<DateTime<Utc>>,
    /// Only those asked for before this time.
    pub until: Option<DateTime<Utc>>,
    /// At most so many, the newest first.
    pub limit: u32,
    /// With input and output, which may be 320 KiB each time.
    pub whole: bool,
}

/// One try of a step.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[non_exhaustive]
pub struct AttemptView {
    /// The step's place.
    pub position: u32,
    /// The step's name.
    pub step: String,
    /// `run` or `compensate`.
    pub direction: String,
    /// Which try, from 1.
    pub attempt: u32,
    /// Its idempotency key.
    pub key: String,
    /// The incarnation that made it.
    pub incarnation: Option<i32>,
    /// The row of the journal with its intent: what began later has a larger one, whatever the clock says.
    pub began_seq: u32,
    /// When that was written.
    pub began_at: DateTime<Utc>,
    /// The row of the journal with its outcome. None: it is under way, or in doubt.
    pub ended_seq: Option<u32>,
    /// When its outcome was written. None: it is under way, or in doubt.
    pub ended_at: Option<DateTime<Utc>>,
    /// How it ended, in the journal's words. None: as above.
    pub outcome: Option<String>,
    /// What went wrong. None: nothing, or it is not known.
    pub failure: Option<Failure>,
}

/// One step.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[non_exhaustive]
pub struct StepView {
    /// Its place.
    pub position: u32,
    /// Its name.
    pub step: String,
    /// in_progress, waiting, completed, failed, rejected, compensating, compensated or skipped.
    pub status: String,
    /// How it is taken back.
    pub backward: String,
    /// Its fields.
    pub input: Option<Json>,
    /// What it handed over. None unless it succeeded.
    pub output: Option<Json>,
}

impl StepView {
    /// As it may be shown: without what is sealed in its input and output.
    #[must_use]
    pub fn redacted(self) -> Self {
        let (input, output) = (self.input.as_ref().map(redacted), self.output.as_ref().map(redacted));
        Self { input, output, ..self }
    }
}

/// Something that needs a person.
#[derive(Debug, Clone, Serialize)]
#[non_exhaustive]
pub struct AlertView {
    /// Its number.
    pub alert: i64,
    /// Which workflow.
    pub workflow: WorkflowId,
    /// The workflow's kind.
    pub kind: String,
    /// The word for it.
    pub reason: String,
    /// What happened.
    pub message: String,
    /// When.
    pub raised_at: DateTime<Utc>,
}

pub(crate) async fn workflow(
    database: &Database,
    workflow: WorkflowId,
) -> Result<Option<WorkflowView>, Error> {
    let row = database
        .run("reading a workflow", async |connection| {
            sqlx::query_as!(
                WorkflowRow,
                r#"
                select workflow_id as "workflow_id!", kind as "kind!", version as "version!", key,
                    queue as "queue!", status as "status!", input::text, output::text, error,
                    -- On its way back only the journal knows why.
                    coalesce(
                        cause,
                        (
                            select j.turn_value::jsonb
                            from backstitch.journal j
                            where j.workflow_id = w.workflow_id
                                and j.turn = 'unwinding'
                            limit 1
                        )
                    ) as cause,
                    cancel, paused, report, enqueued_at as "enqueued_at!", finished_at, deadline_at, due_at, holder,
                    unserved as "unserved!",
                    (
                        select a.message
                        from backstitch.attention a
                        where a.workflow_id = w.workflow_id
                        order by a.raised_at desc
                        limit 1
                    ) as attention
                from backstitch.workflows w
                where workflow_id = $1
                "#,
                workflow.0
            )
            .fetch_optional(connection)
            .await
        })
        .await?;
    row.map(WorkflowRow::view).transpose()
}

pub(crate) struct WorkflowRow {
    pub(crate) workflow_id: uuid::Uuid,
    pub(crate) kind: String,
    pub(crate) version: i32,
    pub(crate) key: Option<String>,
    pub(crate) queue: String,
    pub(crate) status: String,
    pub(crate) input: Option<String>,
    pub(crate) output: Option<String>,
    pub(crate) cause: Option<serde_json::Value>,
    pub(crate) cancel: Option<serde_json::Value>,
    pub(crate) paused: Option<serde_json::Value>,
    pub(crate) error: Option<serde_json::Value>,
    pub(crate) report: Option<serde_json::Value>,
    pub(crate) attention: Option<String>,
    pub(crate) enqueued_at: DateTime<Utc>,
    pub(crate) finished_at: Option<DateTime<Utc>>,
    pub(crate) deadline_at: Option<DateTime<Utc>>,
    pub(crate) due_at: Option<DateTime<Utc>>,
    pub(crate) holder: Option<i32>,
    pub(crate) unserved: bool,
}

impl WorkflowRow {
    pub(crate) fn view(self) -> Result<WorkflowView, Error> {
        let workflow = WorkflowId(self.workflow_id);
        let unreadable = |message: String| Error::Unreadable { workflow, message };
        Ok(WorkflowView {
            workflow,
            kind: self.kind,
            version: self.version.unsigned_abs(),
            key: self.key,
            queue: self.queue,
            status: self.status.parse().map_err(unreadable)?,
            input: self.input.map(Json::from_journal),
            output: self.output.map(Json::from_journal),
            cause: read(self.cause).map_err(|error| unreadable(format!("cause: {error}")))?,
            cancel: read(self.cancel).map_err(|error| unreadable(format!("cancel: {error}")))?,
            paused: read(self.paused).map_err(|error| unreadable(format!("paused: {error}")))?,
            error: read(self.error).map_err(|error| unreadable(format!("error: {error}")))?,
            report: read(self.report).map_err(|error| unreadable(format!("report: {error}")))?,
            attention: self.attention,
            enqueued_at: self.enqueued_at,
            finished_at: self.finished_at,
            deadline_at: self.deadline_at,
            due_at: self.due_at,
            holder: self.holder,
            unserved: self.unserved,
        })
    }
}

fn read<T: serde::de::DeserializeOwned>(
    value: Option<serde_json::Value>,
) -> Result<Option<T>, serde_json::Error> {
    value.map(serde_json::from_value).transpose()
}
