//! What happened to a workflow so far, a line each, in the order in which it was written down?
//!
//! Lines are only ever added at the end: whoever follows prints those that are new.

use backstitch::AttemptView;
use chrono::{DateTime, Utc};

use crate::output::clean;
use crate::seen::Seen;
use crate::time::{clock, moment, span};

/// Asked for, attempts begun and ended, and the end.
pub fn of(seen: &Seen) -> Vec<String> {
    let view = &seen.workflow;
    let mut events =
        vec![(view.enqueued_at, 0, format!("asked for {}, on {}", view.kind, moment(view.enqueued_at)))];
    for attempt in &seen.attempts {
        let what = format!(
            "{} {} {}, attempt {}",
            attempt.position, attempt.step, attempt.direction, attempt.attempt
        );
        events.push((attempt.began_at, 2, format!("{what}: begun")));
        if let Some((at, told)) = end(attempt) {
            // An outcome stands before the intent that travels in its row, unless that is its own: a transactional step.
            let order = if at == attempt.began_at { 3 } else { 1 };
            events.push((at, order, format!("{what}: {told}")));
        }
    }
    if let Some(at) = view.finished_at {
        let error = view.error.as_ref().map(|error| format!(": {error}")).unwrap_or_default();
        events.push((at, 4, format!("{}, after {}{error}", view.status, span(view.enqueued_at, at))));
    }
    events.sort_by_key(|(at, order, _)| (*at, *order));
    events
        .into_iter()
        .map(|(at, _, told)| format!("{}  {}", clock(at), clean(&told).replace('\n', " ")))
        .collect()
}

fn end(attempt: &AttemptView) -> Option<(DateTime<Utc>, String)> {
    let (at, outcome) = (attempt.ended_at?, attempt.outcome.as_deref()?);
    let failure = attempt.failure.as_ref().map(|failure| format!(": {failure}")).unwrap_or_default();
    Some((at, format!("{outcome}, after {}{failure}", span(attempt.began_at, at))))
}
