//! What happened to a workflow, a line for each thing?

use backstitch::{Event, Turned, WorkflowView};
use chrono::{DateTime, Utc};

use crate::output::clean;
use crate::time::{clock, moment, span};

/// That it was asked for.
pub fn asked(view: &WorkflowView) -> String {
    line(view.enqueued_at, &format!("asked for {}, on {}", view.kind, moment(view.enqueued_at)))
}

/// How it ended. None: it has not.
pub fn end(view: &WorkflowView) -> Option<String> {
    let at = view.finished_at?;
    let error = view.error.as_ref().map(|error| format!(": {error}")).unwrap_or_default();
    Some(line(at, &format!("{}, after {}{error}", view.status, span(view.enqueued_at, at))))
}

/// What a row of the journal tells: how an attempt ended, what was decided, what began. Not the end, which the workflow tells.
pub fn of(event: &Event) -> Vec<String> {
    let ended = event.ended.as_ref().map(|ended| {
        let failure = ended.failure.as_ref().map(|failure| format!(": {failure}")).unwrap_or_default();
        let after = span(ended.began_at, event.at);
        let what = attempt(ended.position, &ended.step, ended.direction.as_str(), ended.attempt);
        format!("{what}: {}, after {after}{failure}", ended.outcome)
    });
    let turned = event.turned.as_ref().filter(|_| !event.is_end()).map(turn);
    let began = event.began.as_ref().map(|began| {
        format!("{}: begun", attempt(began.position, &began.step, began.direction.as_str(), began.attempt))
    });
    // In one row an outcome stands before what begins next, unless that is its own: one transaction.
    let told = if is_transaction(event) { [began, ended, turned] } else { [ended, turned, began] };
    told.into_iter().flatten().map(|told| line(event.at, &told)).collect()
}

fn is_transaction(event: &Event) -> bool {
    let (Some(began), Some(ended)) = (&event.began, &event.ended) else { return false };
    (began.position, began.direction, began.attempt) == (ended.position, ended.direction, ended.attempt)
}

fn attempt(position: u32, step: &str, direction: &str, attempt: u32) -> String {
    format!("{position} {step} {direction}, attempt {attempt}")
}

fn turn(turned: &Turned) -> String {
    let mut told = turned.turn.replace('_', " ");
    if let Some(position) = turned.position {
        told.push_str(&format!(" {position}"));
    }
    if let Some(happened) = turned.happened {
        told.push_str(if happened { ": it happened" } else { ": it did not happen" });
    }
    if let Some(cause) = &turned.cause {
        told.push_str(&format!(": {}", cause.as_str().replace('_', " ")));
    }
    if let Some(operator) = &turned.operator {
        told.push_str(&format!(", by {}: {}", operator.by, operator.why));
    }
    told
}

fn line(at: DateTime<Utc>, told: &str) -> String {
    format!("{}  {}", clock(at), clean(told).replace('\n', " "))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn told(what: Value) -> Vec<String> {
        let mut event = json!({
            "workflow": "0193b2f0-7c1e-7d55-a3f0-2a7f5c1e9b10", "seq": 1, "at": "2027-01-31T12:10:00Z", "incarnation": 3,
            "ended": null, "turned": null, "began": null,
        });
        let members = what.as_object().expect("members").clone();
        event.as_object_mut().expect("an event").extend(members);
        of(&serde_json::from_value(event).expect("an event that there is"))
    }

    fn began(position: u32) -> Value {
        json!({ "position": position, "step": "render", "direction": "run", "attempt": 1 })
    }

    fn ended(position: u32) -> Value {
        json!({
            "position": position, "step": "render", "direction": "run", "attempt": 1, "began_at": "2027-01-31T12:09:58Z",
            "outcome": "succeeded", "failure": null,
        })
    }

    #[test]
    fn an_outcome_stands_before_what_begins_next_and_after_its_own_beginning() {
        assert_eq!(
            told(json!({ "ended": ended(0), "began": began(1) })),
            [
                "12:10:00.000  0 render run, attempt 1: succeeded, after 2.0 s",
                "12:10:00.000  1 render run, attempt 1: begun"
            ]
        );
        let transaction = told(json!({ "ended": ended(0), "began": began(0) }));
        assert!(transaction[0].ends_with("begun") && transaction[1].contains("succeeded"), "{transaction:?}");
    }

    #[test]
    fn what_was_decided_is_told_with_who_and_why() {
        let turned = |turn: &str, more: Value| {
            let mut turned =
                json!({ "turn": turn, "cause": null, "operator": null, "position": null, "happened": null });
            turned.as_object_mut().expect("a turn").extend(more.as_object().expect("members").clone());
            told(json!({ "turned": turned }))
        };
        let ada = json!({ "by": "ada", "why": "seen" });
        for (turn, more, expected) in [
            ("pause", json!({ "operator": ada }), "pause, by ada: seen"),
            ("skip_step", json!({ "operator": ada, "position": 2 }), "skip step 2, by ada: seen"),
            (
                "resolve",
                json!({ "operator": ada, "position": 2, "happened": false }),
                "resolve 2: it did not happen, by ada: seen",
            ),
            ("unwinding", json!({ "cause": { "cause": "orphaned" } }), "unwinding: orphaned"),
        ] {
            assert_eq!(turned(turn, more), [format!("12:10:00.000  {expected}")], "{turn}");
        }
        assert!(turned("compensated", json!({})).is_empty(), "the workflow tells it");
    }
}
