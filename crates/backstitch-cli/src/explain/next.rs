//! What will become of a workflow by itself, and what can a person do about it?

use backstitch::{Status, StepView, Workflow};
use backstitch_gateway::{StartGateway, StopGateway};

use super::Advice;
use super::happened::is_under_way;
use crate::seen::Seen;
use crate::time::{distance, length, moment};

/// Without anybody doing anything.
pub fn told(seen: &Seen) -> Vec<String> {
    let view = &seen.workflow;
    if view.finished_at.is_some() {
        return vec!["Nothing: it has ended.".to_owned()];
    }
    if let Some(paused) = &view.paused {
        return vec![format!(
            "Nothing, until it is resumed, retried or cancelled: it was paused by {}: {}.",
            paused.by, paused.why
        )];
    }
    if let Some(paused) = seen.kind_paused.as_ref().filter(|_| view.holder.is_none()) {
        return vec![format!(
            "Nothing, until the kind {} is resumed: it was paused by {}: {}.",
            view.kind, paused.by, paused.why
        )];
    }
    if view.unserved && view.holder.is_none() {
        let until = format!("until a worker is started that serves the kind {}", view.kind);
        return vec![match view.due_at.filter(|due| *due > seen.now) {
            Some(due) => {
                format!("Nothing, {until}, and not before {} ({}).", moment(due), distance(seen.now, due))
            }
            None => format!("Nothing, {until}."),
        }];
    }
    let mut sentences = vec![when(seen), what(seen)];
    if let Some(at) = view.deadline_at.filter(|_| goes_forward(seen) && !is_past_pivot(&seen.steps)) {
        let at = format!("{}, at {}", distance(seen.now, at), moment(at));
        sentences.push(format!("Unless it has ended by its deadline ({at}), it is taken back."));
    }
    sentences
}

/// When a worker goes on with it.
fn when(seen: &Seen) -> String {
    let view = &seen.workflow;
    match (view.holder, view.due_at) {
        (Some(holder), _) => holder_told(seen, holder),
        (None, Some(due)) if due > seen.now => {
            format!("A worker takes it up {}, at {}.", distance(seen.now, due), moment(due))
        }
        (None, _) => "It is due: a worker takes it up as soon as one has room.".to_owned(),
    }
}

fn holder_told(seen: &Seen, holder: i32) -> String {
    match &seen.worker {
        None => format!("Worker {holder} is at it."),
        Some(worker) => match worker.lease_left_milliseconds {
            Some(left) if left < 0 => format!(
                "Worker {holder} ({}, process {}) has not been heard of: its lease is over for {}. It is buried \
                 within seconds if another worker lives, which then goes on.",
                worker.host,
                worker.pid,
                length(-left)
            ),
            _ => format!("Worker {holder} ({}, process {}) is at it.", worker.host, worker.pid),
        },
    }
}

/// What is done then.
fn what(seen: &Seen) -> String {
    if goes_forward(seen) {
        return forward(seen);
    }
    if let Some(step) = seen.settling() {
        return format!(
            "Step {} is compensated, tried until it succeeds; then the workflow hears of its error, and goes on or is taken back.",
            step.step
        );
    }
    let owed: Vec<_> = owed(&seen.steps).map(|step| step.step.as_str()).collect();
    match owed.as_slice() {
        [] => "Then it ends as compensated.".to_owned(),
        [one] => format!("Step {one} is compensated, tried until it succeeds; then it ends as compensated."),
        [first, rest @ ..] => format!(
            "Step {first} is compensated, then {}, each tried until it succeeds; then it ends as compensated.",
            rest.join(", ")
        ),
    }
}

fn forward(seen: &Seen) -> String {
    if seen.workflow.cancel.is_some() {
        return "Then it is taken back, from its last step to its first.".to_owned();
    }
    let unsettled = seen.steps.iter().rfind(|step| matches!(step.status.as_str(), "waiting" | "in_progress"));
    match unsettled {
        None if seen.steps.is_empty() => "Then its first step begins.".to_owned(),
        None => "Then it goes on after its last step.".to_owned(),
        Some(step)
            if seen
                .attempts
                .iter()
                .any(|attempt| attempt.position == step.position && is_under_way(seen, attempt)) =>
        {
            format!("When step {} has ended, it goes on.", step.step)
        }
        Some(step) if step.status == "waiting" => {
            format!("Step {} is tried again then, under the same key.", step.step)
        }
        Some(step) => format!(
            "Step {} is then run again under the same key, or all is taken back: its kind says which.",
            step.step
        ),
    }
}

/// The exact commands.
pub fn advice(seen: &Seen) -> Vec<Advice> {
    let view = &seen.workflow;
    let id = view.workflow;
    let advise = |command: String, effect: &str| Advice { command, effect: effect.to_owned() };
    let show = advise(format!("backstitch show {id}"), "each try, with its times, errors and keys");
    let verify = (is_looked_for(&view.kind) && !seen.steps.is_empty()).then(|| {
        advise(format!("backstitch verify {id}"), "looks whether the outside is as the journal says")
    });
    if view.finished_at.is_some() {
        let seen = std::iter::once(show).chain(verify);
        return match view.status {
            Status::Completed => seen.collect(),
            _ => seen
                .chain([advise(
                    format!("backstitch enqueue {} INPUT --key KEY", view.kind),
                    "asks for it anew; a key that was used names this one, so give another",
                )])
                .collect(),
        };
    }
    let mut can = Vec::new();
    if view.paused.is_some() {
        can.push(advise(format!("backstitch resume {id} --why 'WHY'"), "has it go on where it was"));
    }
    if seen.kind_paused.is_some() {
        let effect = "has all of this kind taken up again, this one among them";
        can.push(advise(format!("backstitch resume --kind {} --why 'WHY'", view.kind), effect));
    }
    if view.unserved {
        can.push(advise("backstitch serve".to_owned(), "a worker; it must be one that serves this kind"));
        can.push(advise("backstitch workers".to_owned(), "which workers there are, and what they serve"));
    }
    let waits = view.holder.is_none() && view.due_at.is_some_and(|due| due > seen.now);
    if waits && !view.unserved && seen.kind_paused.is_none() {
        let effect = match view.status {
            Status::NeedsAttention => "tries again now; first mend what its last error says",
            Status::Pending => "begins now instead of later",
            _ => "tries again now, without waiting",
        };
        can.push(advise(format!("backstitch retry {id} --why 'WHY'"), effect));
    }
    if goes_forward(seen) && view.cancel.is_none() && !is_past_pivot(&seen.steps) {
        let effect = if seen.steps.is_empty() {
            "has it end without beginning"
        } else {
            "has it taken back, from its last step to its first"
        };
        can.push(advise(format!("backstitch cancel {id} --why 'WHY'"), effect));
    }
    if view.status == Status::NeedsAttention {
        for step in seen.steps.iter().filter(|step| step.status == "compensating") {
            can.push(advise(
                format!("backstitch skip-step {id} {} --why 'WHY'", step.position),
                "goes on taking back the rest; what this step did may still stand",
            ));
        }
        can.push(advise(
            format!("backstitch abandon {id} --why 'WHY'"),
            "ends it as it is, with all that still stands",
        ));
    }
    can.extend(verify);
    can.push(advise(format!("backstitch show {id} --follow"), "each try, until it has ended"));
    can
}

/// Whether this program has the code that looks for the steps of a kind.
fn is_looked_for(kind: &str) -> bool {
    [StartGateway::KIND, StopGateway::KIND].contains(&kind)
}

/// It has not turned back. One that needs attention may go either way.
fn goes_forward(seen: &Seen) -> bool {
    let has_turned =
        seen.workflow.cause.is_some() || seen.steps.iter().any(|step| step.status == "compensating");
    seen.workflow.status != Status::Compensating && !has_turned
}

fn is_past_pivot(steps: &[StepView]) -> bool {
    steps.iter().any(|step| step.backward == "pivot" && step.status != "rejected")
}

/// What is still to be compensated, the next first.
fn owed(steps: &[StepView]) -> impl Iterator<Item = &StepView> {
    steps.iter().rev().filter(|step| {
        !matches!(step.status.as_str(), "compensated" | "rejected" | "skipped") && step.backward != "nothing"
    })
}
