//! How records become rows of the journal, and rows become records again.

use std::time::Duration;

use backstitch_core::failure::{Failure, WorkflowError};
use backstitch_core::id::{Direction, Epoch, IncarnationId, Position, Seq, WorkflowId};
use backstitch_core::json::Json;
use backstitch_core::record::{AttemptId, Backward, Cause, Intent, Operator, Outcome, Stitch, Turn, Verdict};
use backstitch_core::report::RollbackReport;
use chrono::{DateTime, Utc};
use serde::Serialize;
use sqlx::PgConnection;
use uuid::Uuid;

/// One record, and what follows from it for its workflow.
#[derive(Debug, Clone)]
pub(crate) struct Record {
    pub(crate) workflow: WorkflowId,
    pub(crate) seq: Seq,
    pub(crate) epoch: Epoch,
    pub(crate) stitch: Stitch,
    pub(crate) after: After,
}

/// What changes beside the journal, in the same transaction. Nothing of it is set on the way from step to step.
#[derive(Debug, Clone, Default, Serialize)]
pub(crate) struct After {
    /// Compensating from now on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) phase: Option<&'static str>,
    /// A person should look; or (`false`) need not any more.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) attention: Option<AttentionChange>,
    /// It got an outcome: the deaths of its process are not its fault.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(crate) innocent: bool,
    /// Nobody holds it until then.
    #[serde(rename = "park_ms", serialize_with = "milliseconds", skip_serializing_if = "Option::is_none")]
    pub(crate) park: Option<Duration>,
    /// The output of a completed workflow.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) output: Option<Json>,
    /// How a rollback stands, or ended.
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    pub(crate) unwinding: Option<Unwinding>,
}

/// How a rollback stands.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Unwinding {
    pub(crate) cause: Cause,
    pub(crate) error: WorkflowError,
    pub(crate) report: RollbackReport,
}

impl Unwinding {
    pub(crate) fn of(report: RollbackReport) -> Self {
        Self { cause: report.cause.clone(), error: report.cause.error(), report }
    }
}

/// The flag is raised, or taken down.
#[derive(Debug, Clone, Serialize)]
#[serde(untagged)]
pub(crate) enum AttentionChange {
    Raise(Attention),
    Clear(bool),
}

/// Why a person should look.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Attention {
    pub(crate) reason: &'static str,
    pub(crate) message: String,
}

impl After {
    fn is_nothing(&self) -> bool {
        self.phase.is_none()
            && self.attention.is_none()
            && !self.innocent
            && self.park.is_none()
            && self.output.is_none()
            && self.unwinding.is_none()
    }
}

/// What became of a record.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    pub(crate) verdict: Written,
    /// Whether the incarnation may begin effects.
    pub(crate) leased: bool,
    /// Who cancelled the workflow, if somebody did.
    pub(crate) cancel: Option<Operator>,
    /// The database's clock when it was written.
    pub(crate) at: DateTime<Utc>,
}

/// What became of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Written {
    /// All of it stands.
    Whole,
    /// Its intent does not stand: the lease is over, or a cancel came first.
    WithoutIntent,
    /// Its end does not stand: a cancel came first.
    WithoutEnd,
    /// Nothing of it stands, for one of these reasons, and its seq is still free.
    Nothing,
    /// The workflow is not this incarnation's any more.
    Fenced,
}

/// Writes these records for this incarnation, in one statement. Repeating it is harmless and gives the same answers.
///
/// The answers come in the order of the records.
pub(crate) async fn append(
    connection: &mut PgConnection,
    incarnation: IncarnationId,
    records: &[Record],
) -> sqlx::Result<Vec<Answer>> {
    let columns = Columns::of(records);
    let rows = sqlx::query!(
        r#"
        select verdict as "verdict!", leased as "leased!", cancel, written_at as "written_at!"
        from backstitch.append($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19)
        order by ordinal
        "#,
        incarnation.0,
        &columns.workflow,
        &columns.seq,
        &columns.epoch,
        &columns.outcome as &[Option<&str>],
        &columns.outcome_position as &[Option<i32>],
        &columns.outcome_direction as &[Option<&str>],
        &columns.outcome_attempt as &[Option<i32>],
        &columns.outcome_value as &[Option<String>],
        &columns.turn as &[Option<&str>],
        &columns.turn_value as &[Option<String>],
        &columns.intent_position as &[Option<i32>],
        &columns.intent_direction as &[Option<&str>],
        &columns.intent_attempt as &[Option<i32>],
        &columns.intent_step as &[Option<&str>],
        &columns.intent_version as &[Option<i32>],
        &columns.intent_backward as &[Option<&str>],
        &columns.intent_input as &[Option<&str>],
        &columns.after as &[Option<String>],
    )
    .fetch_all(connection)
    .await?;
    rows.into_iter()
        .map(|row| {
            let verdict = match row.verdict.as_str() {
                "written" => Written::Whole,
                "written_without_intent" => Written::WithoutIntent,
                "written_without_end" => Written::WithoutEnd,
                "refused" => Written::Nothing,
                "fenced" => Written::Fenced,
                other => return Err(sqlx::Error::Protocol(format!("append answers {other:?}"))),
            };
            Ok(Answer {
                verdict,
                leased: row.leased,
                cancel: row.cancel.and_then(operator),
                at: row.written_at,
            })
        })
        .collect()
}

/// Who cancelled, as `ready.cancel` tells it.
pub(crate) fn operator(cancel: serde_json::Value) -> Option<Operator> {
    serde_json::from_value(cancel).ok()
}

/// The records turned on their side: one array per column.
#[derive(Default)]
struct Columns<'a> {
    workflow: Vec<Uuid>,
    seq: Vec<i32>,
    epoch: Vec<i32>,
    outcome: Vec<Option<&'a str>>,
    outcome_position: Vec<Option<i32>>,
    outcome_direction: Vec<Option<&'a str>>,
    outcome_attempt: Vec<Option<i32>>,
    outcome_value: Vec<Option<String>>,
    turn: Vec<Option<&'a str>>,
    turn_value: Vec<Option<String>>,
    intent_position: Vec<Option<i32>>,
    intent_direction: Vec<Option<&'a str>>,
    intent_attempt: Vec<Option<i32>>,
    intent_step: Vec<Option<&'a str>>,
    intent_version: Vec<Option<i32>>,
    intent_backward: Vec<Option<&'a str>>,
    intent_input: Vec<Option<&'a str>>,
    after: Vec<Option<String>>,
}

impl<'a> Columns<'a> {
    fn of(records: &'a [Record]) -> Self {
        let mut columns = Self::default();
        for record in records {
            let Stitch { outcome, turn, intent } = &record.stitch;
            columns.workflow.push(record.workflow.0);
            columns.seq.push(signed(record.seq.0));
            columns.epoch.push(record.epoch.0);
            columns.outcome.push(outcome.as_ref().map(|outcome| outcome.verdict.as_str()));
            let (position, direction, attempt) = split(outcome.as_ref().map(|outcome| outcome.attempt));
            columns.outcome_position.push(position);
            columns.outcome_direction.push(direction);
            columns.outcome_attempt.push(attempt);
            columns.outcome_value.push(outcome.as_ref().and_then(|outcome| match &outcome.verdict {
                Verdict::Succeeded(output) => Some(output.as_str().to_owned()),
                other => other.failure().map(text),
            }));
            columns.turn.push(turn.as_ref().map(Turn::as_str));
            columns.turn_value.push(turn.as_ref().and_then(|turn| match turn {
                Turn::Unwinding(cause) => Some(text(cause)),
                Turn::Retry(operator) => Some(text(operator)),
                Turn::Completed | Turn::Compensated => None,
            }));
            let (position, direction, attempt) = split(intent.as_ref().map(|intent| intent.attempt));
            columns.intent_position.push(position);
            columns.intent_direction.push(direction);
            columns.intent_attempt.push(attempt);
            columns.intent_step.push(intent.as_ref().map(|intent| intent.step.as_str()));
            columns.intent_version.push(intent.as_ref().map(|intent| signed(intent.version)));
            columns.intent_backward.push(intent.as_ref().map(|intent| intent.backward.as_str()));
            columns
                .intent_input
                .push(intent.as_ref().and_then(|intent| intent.input.as_ref()).map(Json::as_str));
            columns.after.push((!record.after.is_nothing()).then(|| text(&record.after)));
        }
        columns
    }
}

fn split(attempt: Option<AttemptId>) -> (Option<i32>, Option<&'static str>, Option<i32>) {
    match attempt {
        Some(AttemptId { position, direction, attempt }) => {
            (Some(signed(position.0)), Some(direction.as_str()), Some(signed(attempt)))
        }
        None => (None, None, None),
    }
}

fn text(value: &impl Serialize) -> String {
    serde_json::to_string(value).expect("our own records have string keys and no failing Serialize")
}

fn signed(count: u32) -> i32 {
    i32::try_from(count).expect("a journal counts below 2^31")
}

fn milliseconds<S: serde::Serializer>(duration: &Option<Duration>, serializer: S) -> Result<S::Ok, S::Error> {
    let milliseconds = duration.map(|duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX));
    milliseconds.serialize(serializer)
}

/// One row as it was read, or why it can't be understood.
pub(crate) struct Row {
    pub(crate) workflow: WorkflowId,
    pub(crate) seq: Seq,
    pub(crate) at: DateTime<Utc>,
    pub(crate) stitch: Result<Stitch, String>,
}

/// The journals of these workflows, each in the order of its seq.
pub(crate) async fn read(connection: &mut PgConnection, workflows: &[Uuid]) -> sqlx::Result<Vec<Row>> {
    let rows = sqlx::query_as!(
        Raw,
        r#"
        select workflow_id, seq, written_at, outcome, outcome_position, outcome_direction, outcome_attempt,
            outcome_value::text, turn, turn_value::text, intent_position, intent_direction, intent_attempt, intent_step,
            intent_version, intent_backward, intent_input::text
        from backstitch.journal
        where workflow_id = any ($1)
        order by workflow_id, seq
        "#,
        workflows,
    )
    .fetch_all(connection)
    .await?;
    Ok(rows
        .into_iter()
        .map(|raw| Row {
            workflow: WorkflowId(raw.workflow_id),
            seq: Seq(raw.seq.cast_unsigned()),
            at: raw.written_at,
            stitch: raw.stitch(),
        })
        .collect())
}

struct Raw {
    workflow_id: Uuid,
    seq: i32,
    written_at: DateTime<Utc>,
    outcome: Option<String>,
    outcome_position: Option<i32>,
    outcome_direction: Option<String>,
    outcome_attempt: Option<i32>,
    outcome_value: Option<String>,
    turn: Option<String>,
    turn_value: Option<String>,
    intent_position: Option<i32>,
    intent_direction: Option<String>,
    intent_attempt: Option<i32>,
    intent_step: Option<String>,
    intent_version: Option<i32>,
    intent_backward: Option<String>,
    intent_input: Option<String>,
}

impl Raw {
    fn stitch(self) -> Result<Stitch, String> {
        let outcome = match self.outcome {
            None => None,
            Some(word) => Some(Outcome {
                attempt: attempt(self.outcome_position, self.outcome_direction, self.outcome_attempt)?,
                verdict: verdict(&word, self.outcome_value)?,
            }),
        };
        let turn = match self.turn.as_deref() {
            None => None,
            Some("unwinding") => Some(Turn::Unwinding(decode(self.turn_value)?)),
            Some("retry") => Some(Turn::Retry(decode(self.turn_value)?)),
            Some("completed") => Some(Turn::Completed),
            Some("compensated") => Some(Turn::Compensated),
            Some(other) => return Err(format!("unknown turn {other:?}")),
        };
        let intent = match self.intent_step {
            None => None,
            Some(step) => Some(Intent {
                attempt: attempt(self.intent_position, self.intent_direction, self.intent_attempt)?,
                step,
                version: unsigned(self.intent_version)?,
                backward: backward(self.intent_backward.as_deref())?,
                input: self.intent_input.map(Json::from_journal),
            }),
        };
        Ok(Stitch { outcome, turn, intent })
    }
}

fn attempt(
    position: Option<i32>,
    direction: Option<String>,
    attempt: Option<i32>,
) -> Result<AttemptId, String> {
    let direction = match direction.as_deref() {
        Some("run") => Direction::Run,
        Some("compensate") => Direction::Compensate,
        other => return Err(format!("unknown direction {other:?}")),
    };
    Ok(AttemptId { position: Position(unsigned(position)?), direction, attempt: unsigned(attempt)? })
}

fn verdict(word: &str, value: Option<String>) -> Result<Verdict, String> {
    let failure = |value| decode::<Failure>(value);
    Ok(match word {
        "succeeded" => Verdict::Succeeded(Json::from_journal(value.ok_or("an output is missing")?)),
        "retry" => Verdict::Retry(failure(value)?),
        "in_doubt" => Verdict::InDoubt(failure(value)?),
        "handed_back" => Verdict::HandedBack,
        "failed" => Verdict::Failed(failure(value)?),
        "failed_in_doubt" => Verdict::FailedInDoubt(failure(value)?),
        "rejected" => Verdict::Rejected(failure(value)?),
        other => return Err(format!("unknown outcome {other:?}")),
    })
}

fn backward(word: Option<&str>) -> Result<Backward, String> {
    Ok(match word {
        Some("after_all_later") => Backward::AfterAllLater,
        Some("independent") => Backward::Independent,
        Some("nothing") => Backward::Nothing,
        Some("pivot") => Backward::Pivot,
        other => return Err(format!("unknown backward {other:?}")),
    })
}

fn decode<T: serde::de::DeserializeOwned>(value: Option<String>) -> Result<T, String> {
    let value = value.ok_or("a value is missing")?;
    serde_json::from_str(&value).map_err(|error| error.to_string())
}

fn unsigned(count: Option<i32>) -> Result<u32, String> {
    count
        .and_then(|count| u32::try_from(count).ok())
        .ok_or_else(|| "a number is missing or negative".to_owned())
}
