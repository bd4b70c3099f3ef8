//! How records become rows of the journal, many in one statement.

use std::borrow::Cow;
use std::time::Duration;

use backstitch_core::failure::{WorkflowError, journaled};
use backstitch_core::id::{Epoch, IncarnationId, Seq, WorkflowId};
use backstitch_core::json::Json;
use backstitch_core::record::{AttemptId, Cause, Operator, Stitch, Turn, Verdict};
use backstitch_core::report::RollbackReport;
use chrono::{DateTime, Utc};
use serde::Serialize;
use sqlx::postgres::{PgHasArrayType, PgTypeInfo};
use sqlx::{PgConnection, Postgres};
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
    /// False: there is a way back again, for its pivot did not happen. None: that stays as it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) past_pivot: Option<bool>,
    /// A cancel can be acted on although a person is called: it does not wait as long as that.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(crate) heeds_cancel: bool,
    /// Nobody holds it until then.
    #[serde(rename = "park_ms", serialize_with = "milliseconds", skip_serializing_if = "Option::is_none")]
    pub(crate) park: Option<Duration>,
    /// The output of a completed workflow: as it is, not as a part of other JSON.
    #[serde(skip)]
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
        // It may have been journaled, as text that holds anything, by the version before.
        let cause = report.cause.journaled();
        Self { cause: cause.clone(), error: cause.error(), report: RollbackReport { cause, ..report } }
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
    reason: &'static str,
    message: String,
}

impl Attention {
    /// Whatever the message quotes, it is one that the database can hold.
    pub(crate) fn new(reason: &'static str, message: impl Into<String>) -> Self {
        Self { reason, message: journaled(message.into()) }
    }

    pub(crate) fn reason(&self) -> &'static str {
        self.reason
    }

    pub(crate) fn message(&self) -> &str {
        &self.message
    }
}

impl After {
    /// A person should look, and nothing else.
    pub(crate) fn raising(attention: Attention) -> Self {
        Self { attention: Some(AttentionChange::Raise(attention)), ..Self::default() }
    }

    /// Apart from the output.
    fn is_nothing(&self) -> bool {
        self.phase.is_none()
            && self.attention.is_none()
            && !self.innocent
            && self.past_pivot.is_none()
            && !self.heeds_cancel
            && self.park.is_none()
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
    let rows: Vec<_> = records.iter().map(Row::of).collect();
    let answers = sqlx::query!(
        r#"
        select ordinal as "ordinal!", verdict as "verdict!", leased as "leased!", cancel, written_at as "written_at!"
        from backstitch.append($1, $2)
        "#,
        incarnation.0,
        &rows as &[Row<'_>],
    )
    .fetch_all(connection)
    .await?
    .into_iter()
    .map(|row| {
        let verdict = match row.verdict.as_str() {
            "written" => Written::Whole,
            "written_without_intent" => Written::WithoutIntent,
            "written_without_end" => Written::WithoutEnd,
            "refused" => Written::Nothing,
            "fenced" => Written::Fenced,
            other => return Err(sqlx::Error::Protocol(format!("append answers {other:?}"))),
        };
        let cancel = row.cancel.and_then(operator);
        Ok((row.ordinal, Answer { verdict, leased: row.leased, cancel, at: row.written_at }))
    })
    .collect::<sqlx::Result<Vec<_>>>()?;
    match &answers[..] {
        [(0, for_all)] => Ok(vec![for_all.clone(); records.len()]),
        one_each if one_each.len() == records.len() => {
            Ok(answers.into_iter().map(|(_, answer)| answer).collect())
        }
        other => {
            Err(sqlx::Error::Protocol(format!("append answers {} of {} records", other.len(), records.len())))
        }
    }
}

/// Who cancelled, as `ready.cancel` tells it.
pub(crate) fn operator(cancel: serde_json::Value) -> Option<Operator> {
    serde_json::from_value(cancel).ok()
}

/// A record as `backstitch.journal_record` has it.
#[derive(sqlx::Encode)]
struct Row<'a> {
    workflow_id: Uuid,
    seq: i32,
    epoch: i32,
    outcome: Option<&'static str>,
    outcome_position: Option<i32>,
    outcome_direction: Option<&'static str>,
    outcome_attempt: Option<i32>,
    outcome_value: Option<Cow<'a, str>>,
    turn: Option<&'static str>,
    turn_value: Option<String>,
    intent_position: Option<i32>,
    intent_direction: Option<&'static str>,
    intent_attempt: Option<i32>,
    intent_step: Option<&'a str>,
    intent_version: Option<i32>,
    intent_backward: Option<&'static str>,
    intent_input: Option<&'a str>,
    output: Option<&'a str>,
    after: Option<String>,
}

impl sqlx::Type<Postgres> for Row<'_> {
    fn type_info() -> PgTypeInfo {
        PgTypeInfo::with_name("backstitch.journal_record")
    }
}

impl PgHasArrayType for Row<'_> {
    fn array_type_info() -> PgTypeInfo {
        PgTypeInfo::array_of("backstitch.journal_record")
    }
}

impl<'a> Row<'a> {
    fn of(record: &'a Record) -> Self {
        let Stitch { outcome, turn, intent } = &record.stitch;
        let (outcome_position, outcome_direction, outcome_attempt) =
            split(outcome.as_ref().map(|outcome| outcome.attempt));
        let (intent_position, intent_direction, intent_attempt) =
            split(intent.as_ref().map(|intent| intent.attempt));
        Self {
            workflow_id: record.workflow.0,
            seq: signed(record.seq.0),
            epoch: record.epoch.0,
            outcome: outcome.as_ref().map(|outcome| outcome.verdict.as_str()),
            outcome_position,
            outcome_direction,
            outcome_attempt,
            outcome_value: outcome.as_ref().and_then(|outcome| match &outcome.verdict {
                Verdict::Succeeded(output) => Some(Cow::Borrowed(output.as_str())),
                other => other.failure().map(text).map(Cow::Owned),
            }),
            turn: turn.as_ref().map(Turn::as_str),
            turn_value: turn.as_ref().and_then(|turn| match turn {
                Turn::Unwinding(cause) => Some(text(cause)),
                Turn::Retry(operator)
                | Turn::Pause(operator)
                | Turn::Resume(operator)
                | Turn::Abandoned(operator) => Some(text(operator)),
                Turn::SkipStep(skip) => Some(text(skip)),
                Turn::Resolve(found) => Some(text(found)),
                Turn::Completed | Turn::Compensated => None,
            }),
            intent_position,
            intent_direction,
            intent_attempt,
            intent_step: intent.as_ref().map(|intent| intent.step.as_str()),
            intent_version: intent.as_ref().map(|intent| signed(intent.version)),
            intent_backward: intent.as_ref().map(|intent| intent.backward.as_str()),
            intent_input: intent.as_ref().and_then(|intent| intent.input.as_ref()).map(Json::as_str),
            output: record.after.output.as_ref().map(Json::as_str),
            after: (!record.after.is_nothing()).then(|| text(&record.after)),
        }
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
