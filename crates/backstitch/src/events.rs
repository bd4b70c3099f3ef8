//! What does a row of a journal tell whoever follows its workflow?

use std::collections::HashMap;

use backstitch_core::failure::Failure;
use backstitch_core::id::{Direction, WorkflowId};
use backstitch_core::record::{Cause, Operator};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::error::Error;

/// What was written down at once: how an attempt ended, whether the course turned, what begins next, in this order.
///
/// It says what happened. What a step was given and what it handed over is for whoever reads the journal itself
/// ([`Client::steps`](crate::Client::steps)).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Event {
    /// The workflow.
    pub workflow: WorkflowId,
    /// Which row of its journal, from 0 without gaps: where to go on from, when a stream broke.
    pub seq: u32,
    /// When it was written.
    pub at: DateTime<Utc>,
    /// The incarnation that wrote it. None: an operator did.
    pub incarnation: Option<i32>,
    /// How an attempt ended. None: none did.
    pub ended: Option<Ended>,
    /// How the course turned. None: it stays.
    pub turned: Option<Turned>,
    /// What began. None: nothing did.
    pub began: Option<Began>,
}

/// An attempt began. Where it is also what [ended](Event::ended), it was one transaction.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Began {
    /// The step's place.
    pub position: u32,
    /// The step's name.
    pub step: String,
    /// Forward or back.
    pub direction: Direction,
    /// Which try, from 1.
    pub attempt: u32,
}

/// An attempt ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Ended {
    /// The step's place.
    pub position: u32,
    /// The step's name.
    pub step: String,
    /// Forward or back.
    pub direction: Direction,
    /// Which try, from 1.
    pub attempt: u32,
    /// When it began.
    pub began_at: DateTime<Utc>,
    /// How it ended, in the journal's words: succeeded, retry, in_doubt, handed_back, failed, failed_in_doubt or rejected.
    pub outcome: String,
    /// What went wrong. None: nothing, or it is not known.
    pub failure: Option<Failure>,
}

/// The course turned, or a person decided something.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Turned {
    /// In the journal's words: unwinding, retry, pause, resume, skip_step or resolve; or an end: completed, compensated or
    /// abandoned.
    pub turn: String,
    /// Why it is taken back. None unless unwinding.
    pub cause: Option<Cause>,
    /// Who decided it, and why. None: nobody had to.
    pub operator: Option<Operator>,
    /// The step that was decided about. None: all of the workflow was.
    pub position: Option<u32>,
    /// Whether that step's effect is there. None unless resolved.
    pub happened: Option<bool>,
}

impl Event {
    /// Whether nothing follows.
    #[must_use]
    pub fn is_end(&self) -> bool {
        let ends = |turned: &Turned| matches!(&*turned.turn, "completed" | "compensated" | "abandoned");
        self.turned.as_ref().is_some_and(ends)
    }
}

/// What of a row is told.
#[derive(Debug, Clone)]
pub(crate) struct EventRow {
    pub(crate) seq: i32,
    pub(crate) written_at: DateTime<Utc>,
    pub(crate) incarnation: Option<i32>,
    pub(crate) outcome: Option<String>,
    pub(crate) outcome_position: Option<i32>,
    pub(crate) outcome_direction: Option<String>,
    pub(crate) outcome_attempt: Option<i32>,
    pub(crate) failure: Option<Value>,
    pub(crate) turn: Option<String>,
    pub(crate) turn_value: Option<Value>,
    pub(crate) intent_position: Option<i32>,
    pub(crate) intent_direction: Option<String>,
    pub(crate) intent_attempt: Option<i32>,
    pub(crate) intent_step: Option<String>,
}

/// What began so far: a row that tells of an end names only the place of what ended.
#[derive(Debug, Default)]
pub(crate) struct Begun {
    steps: HashMap<u32, String>,
    /// Those that have not ended.
    attempts: HashMap<(u32, Direction, u32), DateTime<Utc>>,
}

impl Begun {
    /// What the next row tells. Err: it can't be understood.
    pub(crate) fn tell(&mut self, workflow: WorkflowId, row: &EventRow) -> Result<Event, Error> {
        self.event(workflow, row).map_err(|what| Error::Unreadable {
            workflow,
            message: format!("its journal is corrupt at seq {}: {what}", row.seq),
        })
    }

    fn event(&mut self, workflow: WorkflowId, row: &EventRow) -> Result<Event, String> {
        let (at, seq) = (row.written_at, number(Some(row.seq))?);
        let began = match &row.intent_step {
            None => None,
            Some(step) => Some(Began {
                position: number(row.intent_position)?,
                step: step.clone(),
                direction: direction(row.intent_direction.as_deref())?,
                attempt: number(row.intent_attempt)?,
            }),
        };
        // First what begins: of a transaction it is what ended, too.
        if let Some(Began { position, step, direction, attempt }) = &began {
            self.steps.entry(*position).or_insert_with(|| step.clone());
            self.attempts.insert((*position, *direction, *attempt), at);
        }
        let ended = match &row.outcome {
            None => None,
            Some(outcome) => Some(self.ended(outcome, row)?),
        };
        let turned = match &row.turn {
            None => None,
            Some(turn) => Some(turned(turn, row.turn_value.as_ref())?),
        };
        Ok(Event { workflow, seq, at, incarnation: row.incarnation, ended, turned, began })
    }

    fn ended(&mut self, outcome: &str, row: &EventRow) -> Result<Ended, String> {
        let (position, attempt) = (number(row.outcome_position)?, number(row.outcome_attempt)?);
        let direction = direction(row.outcome_direction.as_deref())?;
        let began_at = self.attempts.remove(&(position, direction, attempt));
        let failure = row.failure.clone().map(serde_json::from_value).transpose();
        Ok(Ended {
            position,
            step: self.steps.get(&position).cloned().ok_or("an attempt ends that never began")?,
            direction,
            attempt,
            began_at: began_at.ok_or("an attempt ends that never began")?,
            outcome: outcome.to_owned(),
            failure: failure.map_err(|error| error.to_string())?,
        })
    }
}

fn turned(turn: &str, value: Option<&Value>) -> Result<Turned, String> {
    let member = |name: &str| value.and_then(|value| value.get(name));
    let cause = (turn == "unwinding").then(|| read(value)).transpose()?;
    // A cause may name who cancelled; that is the cause's.
    let decided = cause.is_none() && member("by").is_some();
    Ok(Turned {
        turn: turn.to_owned(),
        operator: decided.then(|| read(value)).transpose()?,
        cause,
        position: member("position").map(|position| read(Some(position))).transpose()?,
        happened: member("happened").and_then(Value::as_bool),
    })
}

fn read<T: serde::de::DeserializeOwned>(value: Option<&Value>) -> Result<T, String> {
    let value = value.ok_or("a value is missing")?;
    T::deserialize(value).map_err(|error| error.to_string())
}

fn direction(word: Option<&str>) -> Result<Direction, String> {
    match word {
        Some("run") => Ok(Direction::Run),
        Some("compensate") => Ok(Direction::Compensate),
        other => Err(format!("unknown direction {other:?}")),
    }
}

fn number(count: Option<i32>) -> Result<u32, String> {
    count
        .and_then(|count| u32::try_from(count).ok())
        .ok_or_else(|| "a number is missing or negative".to_owned())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn row(seq: i32) -> EventRow {
        EventRow {
            seq,
            written_at: DateTime::UNIX_EPOCH + chrono::TimeDelta::seconds(seq.into()),
            incarnation: Some(1),
            outcome: None,
            outcome_position: None,
            outcome_direction: None,
            outcome_attempt: None,
            failure: None,
            turn: None,
            turn_value: None,
            intent_position: None,
            intent_direction: None,
            intent_attempt: None,
            intent_step: None,
        }
    }

    fn begins(row: EventRow, position: i32, step: &str) -> EventRow {
        EventRow {
            intent_position: Some(position),
            intent_direction: Some("run".into()),
            intent_attempt: Some(1),
            intent_step: Some(step.into()),
            ..row
        }
    }

    fn ends(row: EventRow, position: i32, outcome: &str) -> EventRow {
        EventRow {
            outcome: Some(outcome.into()),
            outcome_position: Some(position),
            outcome_direction: Some("run".into()),
            outcome_attempt: Some(1),
            ..row
        }
    }

    fn turns(row: EventRow, turn: &str, value: Value) -> EventRow {
        EventRow { turn: Some(turn.into()), turn_value: Some(value), ..row }
    }

    fn told(rows: impl IntoIterator<Item = EventRow>) -> Result<Vec<Event>, Error> {
        let mut begun = Begun::default();
        rows.into_iter().map(|row| begun.tell(WorkflowId(uuid::Uuid::nil()), &row)).collect()
    }

    #[test]
    fn what_ends_has_the_name_and_the_time_of_what_began() {
        let rows = [begins(row(0), 0, "take"), begins(ends(row(1), 0, "succeeded"), 1, "use")];
        let events = told(rows).expect("they can be read");
        let ended = events[1].ended.as_ref().expect("one ended");
        assert_eq!((&*ended.step, ended.began_at), ("take", events[0].at));
        assert_eq!(events[1].began.as_ref().map(|began| &*began.step), Some("use"));
    }

    #[test]
    fn a_transaction_begins_and_ends_at_once() {
        let events = told([ends(begins(row(0), 0, "take"), 0, "succeeded")]).expect("it can be read");
        assert_eq!(events[0].ended.as_ref().map(|ended| ended.began_at), Some(events[0].at));
    }

    #[test]
    fn a_turn_tells_its_cause_or_who_decided() {
        let rows = [
            turns(row(0), "skip_step", json!({ "position": 3, "by": "ada", "why": "gone" })),
            turns(row(1), "unwinding", json!({ "cause": "cancelled", "by": "bob", "why": "unwanted" })),
            turns(row(2), "compensated", Value::Null),
        ];
        let events = told(rows).expect("they can be read");
        let [skip, unwinding, end] = &events[..] else { panic!("three rows") };
        let skipped = skip.turned.as_ref().expect("it turned");
        assert_eq!(skipped.operator, Some(Operator { by: "ada".into(), why: "gone".into() }));
        assert_eq!(skipped.position, Some(3));
        let why = unwinding.turned.as_ref().expect("it turned");
        assert!(matches!(&why.cause, Some(Cause::Cancelled(operator)) if operator.by == "bob"), "{why:?}");
        assert_eq!(why.operator, None);
        assert_eq!([skip, unwinding, end].map(Event::is_end), [false, false, true]);
    }

    #[test]
    fn a_row_that_makes_no_sense_is_named() {
        let error = told([ends(row(7), 0, "succeeded")]).expect_err("nothing began");
        assert!(error.to_string().contains("seq 7"), "{error}");
    }
}
