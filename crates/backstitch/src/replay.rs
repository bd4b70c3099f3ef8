//! How a journal, as a claim brings it along, becomes a history again.

use std::fmt;

use backstitch_core::failure::Failure;
use backstitch_core::history::History;
use backstitch_core::id::{Direction, Position, Seq};
use backstitch_core::json::Json;
use backstitch_core::record::{AttemptId, Backward, Intent, Outcome, Stitch, Turn, Verdict};
use chrono::{DateTime, Utc};
use serde::Deserialize;

/// What a journal says. Err: why it can't be understood.
pub(crate) fn history(journal: &str) -> Result<History, String> {
    let rows: Vec<Row> = serde_json::from_str(journal).map_err(|error| corrupt(None, error))?;
    let mut history = History::default();
    for row in rows {
        let seq = Seq(row.seq.cast_unsigned());
        let at = row.written_at;
        let stitch = row.stitch().map_err(|what| corrupt(Some(seq), what))?;
        history.apply(seq, &stitch, at).map_err(|corrupt| corrupt.to_string())?;
    }
    Ok(history)
}

fn corrupt(seq: Option<Seq>, what: impl fmt::Display) -> String {
    match seq {
        Some(seq) => format!("the journal is corrupt at seq {seq}: {what}"),
        None => format!("the journal is corrupt: {what}"),
    }
}

/// One row, in the order in which `backstitch.claim` puts its columns into an array.
#[derive(Deserialize)]
struct Row {
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

impl Row {
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
            Some("pause") => Some(Turn::Pause(decode(self.turn_value)?)),
            Some("resume") => Some(Turn::Resume(decode(self.turn_value)?)),
            Some("skip_step") => Some(Turn::SkipStep(decode(self.turn_value)?)),
            Some("resolve") => Some(Turn::Resolve(decode(self.turn_value)?)),
            Some("completed") => Some(Turn::Completed),
            Some("compensated") => Some(Turn::Compensated),
            Some("abandoned") => Some(Turn::Abandoned(decode(self.turn_value)?)),
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
