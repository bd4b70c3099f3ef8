//! How a journal becomes a history again: one that a claim brought along whole, or one that is read page by page.

use std::fmt;

use backstitch_core::failure::Failure;
use backstitch_core::history::History;
use backstitch_core::id::{Direction, Position, Seq};
use backstitch_core::json::Json;
use backstitch_core::record::{AttemptId, Backward, Intent, Outcome, Stitch, Turn, Verdict};
use chrono::{DateTime, Utc};
use serde::Deserialize;

/// What a whole journal says. Err: why it can't be understood.
pub(crate) fn history(journal: &str) -> Result<History, String> {
    let rows: Vec<Row> = serde_json::from_str(journal).map_err(|error| corrupt(None, error))?;
    let mut history = History::default();
    for row in rows {
        take_in(&mut history, row)?;
    }
    Ok(history)
}

/// Takes the next page of a journal in. Err: why it can't be understood, and then the history is of no further use.
pub(crate) fn take_in_page(history: &mut History, stitches: &[String]) -> Result<(), String> {
    for stitch in stitches {
        let row = serde_json::from_str(stitch).map_err(|error| corrupt(Some(history.seq_next()), error))?;
        take_in(history, row)?;
    }
    Ok(())
}

fn take_in(history: &mut History, row: Row) -> Result<(), String> {
    let seq = Seq(row.seq.cast_unsigned());
    let at = row.written_at;
    let stitch = row.stitch().map_err(|what| corrupt(Some(seq), what))?;
    history.apply(seq, &stitch, at).map_err(|corrupt| corrupt.to_string())
}

fn corrupt(seq: Option<Seq>, what: impl fmt::Display) -> String {
    match seq {
        Some(seq) => format!("the journal is corrupt at seq {seq}: {what}"),
        None => format!("the journal is corrupt: {what}"),
    }
}

/// One row, in the order in which `backstitch.stitch` puts its columns into an array.
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

#[cfg(test)]
mod tests {
    use super::*;

    /// A failed attempt, a step that came through, and the way back, as `backstitch.stitch` tells them.
    const JOURNAL: [&str; 7] = [
        r#"[0,"2026-11-01T10:00:00+00:00",null,null,null,null,null,null,null,0,"run",1,"book",1,"independent","{\"seat\":\"12A\"}"]"#,
        r#"[1,"2026-11-01T10:00:01+00:00","retry",0,"run",1,"{\"code\":\"busy\",\"message\":\"later\"}",null,null,null,null,null,null,null,null,null]"#,
        r#"[2,"2026-11-01T10:00:02+00:00",null,null,null,null,null,null,null,0,"run",2,"book",1,"independent",null]"#,
        r#"[3,"2026-11-01T10:00:03+00:00","succeeded",0,"run",2,"\"ticket\"",null,null,1,"run",1,"pay",1,"nothing","{}"]"#,
        r#"[4,"2026-11-01T10:00:02+00:00","failed",1,"run",1,"{\"code\":\"broke\",\"message\":\"\"}",null,null,null,null,null,null,null,null,null]"#,
        r#"[5,"2026-11-01T10:00:05+00:00",null,null,null,null,null,"unwinding","{\"cause\":\"cancelled\",\"by\":\"me\",\"why\":\"so\"}",0,"compensate",1,"book",1,"independent",null]"#,
        r#"[6,"2026-11-01T10:00:06+00:00","succeeded",0,"compensate",1,"null","compensated",null,null,null,null,null,null,null,null]"#,
    ];

    fn rows(of: &[&str]) -> Vec<String> {
        of.iter().map(|row| (*row).to_owned()).collect()
    }

    #[test]
    fn pages_amount_to_the_same_history_as_the_whole_wherever_they_end() {
        let whole = history(&format!("[{}]", JOURNAL.join(","))).expect("it is in order");
        assert!(whole.end().is_some() && whole.steps_begun() == 2, "{whole:?}");
        // Each bit says whether a page ends behind its row.
        for ends in 0..1_u32 << (JOURNAL.len() - 1) {
            let mut history = History::default();
            let mut page = Vec::new();
            for (number, row) in JOURNAL.iter().enumerate() {
                page.push((*row).to_owned());
                if ends & (1 << number) != 0 {
                    take_in_page(&mut history, &std::mem::take(&mut page)).expect("it is in order");
                    assert_eq!(history.seq_next(), Seq(u32::try_from(number).expect("few") + 1));
                }
            }
            take_in_page(&mut history, &page).expect("it is in order");
            assert_eq!(history, whole, "pages that end at {ends:b}");
        }
    }

    #[test]
    fn a_page_that_can_not_follow_or_be_understood_says_where() {
        let mut history = History::default();
        take_in_page(&mut history, &rows(&JOURNAL[..2])).expect("it is in order");
        let gap = take_in_page(&mut history.clone(), &rows(&JOURNAL[3..])).expect_err("seq 2 is missing");
        assert!(gap.contains("corrupt at seq 3"), "{gap}");
        let torn = take_in_page(&mut history, &rows(&["[2,"])).expect_err("it is no JSON");
        assert!(torn.contains("corrupt at seq 2"), "{torn}");
    }
}
