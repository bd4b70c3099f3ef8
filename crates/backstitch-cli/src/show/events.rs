//! What happened to a workflow so far, a line each, in the order in which it was written down?
//!
//! Lines are only ever added at the end: whoever follows prints those that are new.

use backstitch::AttemptView;
use chrono::{DateTime, Utc};

use crate::output::clean;
use crate::seen::Seen;
use crate::time::{clock, moment, span};

/// Asked for, attempts begun and ended, and the end. In the order of the journal: a clock that jumped back is not asked.
pub fn of(seen: &Seen) -> Vec<String> {
    let view = &seen.workflow;
    let mut events = Vec::new();
    for attempt in &seen.attempts {
        let what = format!(
            "{} {} {}, attempt {}",
            attempt.position, attempt.step, attempt.direction, attempt.attempt
        );
        events.push((attempt.began_seq, 1, attempt.began_at, format!("{what}: begun")));
        if let Some(Ended { seq, at, told }) = ended(attempt) {
            // An outcome stands before the intent that travels in its row, unless that is its own: a transactional step.
            let order = if seq == attempt.began_seq { 2 } else { 0 };
            events.push((seq, order, at, format!("{what}: {told}")));
        }
    }
    events.sort_by_key(|(seq, order, ..)| (*seq, *order));
    let asked = format!("asked for {}, on {}", view.kind, moment(view.enqueued_at));
    let end = view.finished_at.map(|at| {
        let error = view.error.as_ref().map(|error| format!(": {error}")).unwrap_or_default();
        (at, format!("{}, after {}{error}", view.status, span(view.enqueued_at, at)))
    });
    let between = events.into_iter().map(|(_, _, at, told)| (at, told));
    let lines = std::iter::once((view.enqueued_at, asked)).chain(between).chain(end);
    lines.map(|(at, told)| format!("{}  {}", clock(at), clean(&told).replace('\n', " "))).collect()
}

/// How an attempt ended.
struct Ended {
    /// The row of the journal that says so.
    seq: u32,
    at: DateTime<Utc>,
    told: String,
}

fn ended(attempt: &AttemptView) -> Option<Ended> {
    let (seq, at, outcome) = (attempt.ended_seq?, attempt.ended_at?, attempt.outcome.as_deref()?);
    let failure = attempt.failure.as_ref().map(|failure| format!(": {failure}")).unwrap_or_default();
    Some(Ended { seq, at, told: format!("{outcome}, after {}{failure}", span(attempt.began_at, at)) })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// A try of step 0 that began in this row of the journal at this minute, and ended in that.
    fn attempt(attempt: u32, began: (u32, &str), ended: Option<(u32, &str)>) -> serde_json::Value {
        let at = |minute: &str| format!("2027-01-31T12:{minute}:00Z");
        json!({
            "position": 0, "step": "render", "direction": "run", "attempt": attempt, "key": "k", "incarnation": 3,
            "began_seq": began.0, "began_at": at(began.1),
            "ended_seq": ended.map(|ended| ended.0), "ended_at": ended.map(|ended| at(ended.1)),
            "outcome": ended.map(|_| "retry"), "failure": null,
        })
    }

    #[test]
    fn a_clock_that_jumped_back_turns_nothing_around() {
        let seen = json!({
            "workflow": {
                "workflow": "0193b2f0-7c1e-7d55-a3f0-2a7f5c1e9b10", "kind": "report.build", "version": 1, "key": null,
                "queue": "default", "status": "compensated", "input": {}, "output": null, "cause": null, "cancel": null,
                "error": null, "report": null, "attention": null, "enqueued_at": "2027-01-31T12:30:00Z",
                "finished_at": "2027-01-31T12:20:00Z", "deadline_at": null, "due_at": null, "holder": null,
                "unserved": false,
            },
            "steps": [],
            "attempts": [attempt(1, (0, "40"), Some((1, "10"))), attempt(2, (1, "10"), Some((2, "05")))],
            "worker": null,
            "now": "2027-01-31T12:50:00Z",
        });
        let told = of(&serde_json::from_value(seen).expect("a state that there is"));
        let minutes: Vec<_> = told.iter().map(|line| &line[3..5]).collect();
        assert_eq!(minutes, ["30", "40", "10", "10", "05", "20"], "{told:#?}");
        let ends = |line: &str, end: &str| assert!(line.contains(end), "{line}");
        ends(&told[2], "attempt 1: retry");
        ends(&told[3], "attempt 2: begun");
    }
}
