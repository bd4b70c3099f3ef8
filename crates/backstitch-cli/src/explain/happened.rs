//! What happened to a workflow so far?

use backstitch::{AttemptView, Cause, StepView};

use crate::seen::Seen;
use crate::time::{moment, span};

/// In the order of its life.
pub fn told(seen: &Seen) -> Vec<String> {
    let mut sentences = vec![asked(seen)];
    if seen.steps.is_empty() {
        sentences.push("No step has begun.".to_owned());
    }
    sentences.extend(done(&seen.steps));
    sentences.extend(seen.steps.iter().filter_map(|step| trouble(seen, step)));
    sentences.extend(turned(seen));
    sentences.extend(taken_back(&seen.steps));
    if let Some(message) = &seen.workflow.attention {
        sentences.push(format!("An alert was raised: {message}."));
    }
    if let Some(at) = seen.workflow.finished_at {
        let took = span(seen.workflow.enqueued_at, at);
        sentences.push(format!("It ended as {} at {}, after {took}.", seen.workflow.status, moment(at)));
    }
    sentences
}

fn asked(seen: &Seen) -> String {
    let view = &seen.workflow;
    let key = view.key.as_ref().map(|key| format!(" under the key {key:?}")).unwrap_or_default();
    format!("It was asked for{key} at {}.", moment(view.enqueued_at))
}

/// The steps whose way forward went well.
fn done(steps: &[StepView]) -> Option<String> {
    let done: Vec<_> =
        steps.iter().filter(|step| step.output.is_some()).map(|step| step.step.as_str()).collect();
    match done.as_slice() {
        [] => None,
        [one] => Some(format!("Step {one} was done.")),
        many => Some(format!("{} steps were done: {}.", many.len(), many.join(", "))),
    }
}

/// A step that did not go well, or not yet.
fn trouble(seen: &Seen, step: &StepView) -> Option<String> {
    let (tries, last) = last_try(seen, step, "run")?;
    let name = &step.step;
    let error = last.failure.as_ref().map(|failure| format!(": {failure}")).unwrap_or_default();
    let times = times(tries);
    match last.outcome.as_deref() {
        Some("succeeded") => None,
        Some("retry") => Some(format!("Step {name} was tried {times} and is to be tried again{error}.")),
        Some("in_doubt") => {
            Some(format!("Step {name} was tried {times}; nobody knows how the last try ended{error}."))
        }
        Some("handed_back") => {
            Some(format!("Step {name} was tried {times}; the last try was cut short by a shutdown."))
        }
        Some("rejected") => Some(format!("Step {name} was refused, and did nothing{error}.")),
        Some(_) if seen.settling().is_some_and(|settling| settling.position == step.position) => {
            Some(format!(
                "Step {name} failed for good after {}{error}; it is being taken back.",
                tries_told(tries)
            ))
        }
        Some(_) => Some(format!("Step {name} failed for good after {}{error}.", tries_told(tries))),
        None if is_under_way(seen, last) => {
            Some(format!("Step {name} is under way since {}, try {tries}.", moment(last.began_at)))
        }
        None => Some(format!(
            "Step {name} was begun at {}, try {tries}, and its worker went away: it may have happened.",
            moment(last.began_at)
        )),
    }
}

/// Why it goes back.
fn turned(seen: &Seen) -> Option<String> {
    let view = &seen.workflow;
    let back = if view.finished_at.is_some() { "was taken back" } else { "is taken back" };
    Some(match (&view.cause, &view.cancel) {
        (Some(Cause::Failed(error)), _) => match &error.step {
            Some(step) => format!("So it {back}: step {step} failed with {:?}.", error.failure.code),
            None => format!("So it {back}: it gave up, {error}."),
        },
        (Some(Cause::Cancelled(operator)), _) => {
            format!("{} had it taken back: {}.", operator.by, operator.why)
        }
        (Some(Cause::DeadlinePassed), _) => format!("Its deadline passed, so it {back}."),
        (Some(Cause::Orphaned), _) => {
            "Its worker died in the middle of a step, and this kind is taken back then.".to_owned()
        }
        (Some(Cause::CrashLoop { deaths }), _) => {
            format!("Its worker died {} while at it, so it {back}.", times(*deaths))
        }
        (Some(Cause::Mismatch { message }), _) => {
            format!("Its code no longer fits what it had done, so it {back}: {message}.")
        }
        (None, Some(cancel)) => format!("{} asked that it be taken back: {}.", cancel.by, cancel.why),
        (None, None) => return None,
    })
}

fn taken_back(steps: &[StepView]) -> Option<String> {
    let back: Vec<_> = steps
        .iter()
        .rev()
        .filter(|step| step.status == "compensated")
        .map(|step| step.step.as_str())
        .collect();
    match back.as_slice() {
        [] => None,
        [one] => Some(format!("Step {one} was compensated.")),
        many => Some(format!("{} steps were compensated: {}.", many.len(), many.join(", "))),
    }
}

/// How many tries there were in this direction, and the last of them.
pub fn last_try<'s>(seen: &'s Seen, step: &StepView, direction: &str) -> Option<(u32, &'s AttemptView)> {
    let tries = seen
        .attempts
        .iter()
        .filter(|attempt| attempt.position == step.position && attempt.direction == direction);
    let last = tries.max_by_key(|attempt| attempt.attempt)?;
    Some((last.attempt, last))
}

/// Whoever began it still holds the workflow.
pub fn is_under_way(seen: &Seen, attempt: &AttemptView) -> bool {
    attempt.outcome.is_none() && seen.workflow.holder.is_some() && seen.workflow.holder == attempt.incarnation
}

/// How often, in words.
pub fn times(count: u32) -> String {
    match count {
        1 => "once".to_owned(),
        2 => "twice".to_owned(),
        more => format!("{more} times"),
    }
}

fn tries_told(count: u32) -> String {
    if count == 1 { "1 try".to_owned() } else { format!("{count} tries") }
}
