//! `backstitch show`: what became of each step, forward and back?

use backstitch::{AttemptView, Error, StepView, WorkflowView};
use serde_json::json;

use crate::arguments::Show;
use crate::connect;
use crate::exit::{Exit, Failed};
use crate::output::{Tint, clean, say, say_json, tinted};
use crate::settings::Settings;
use crate::time::{clock, moment, span};

/// Shows one workflow.
pub async fn run(settings: &Settings, arguments: Show) -> Result<Exit, Failed> {
    let client = connect::client(settings).await?;
    let id = arguments.workflow;
    let workflow = client.workflow(id).await?.ok_or(Error::NotFound(id))?;
    let (steps, attempts) = (client.steps(id).await?, client.attempts(id).await?);
    if arguments.json {
        say_json(&json!({ "workflow": workflow, "steps": steps, "attempts": attempts }))?;
    } else {
        say(&told(&workflow, &steps, &attempts))?;
    }
    Ok(Exit::Done)
}

fn told(workflow: &WorkflowView, steps: &[StepView], attempts: &[AttemptView]) -> String {
    let mut lines = about(workflow);
    if steps.is_empty() {
        lines.push(String::new());
        lines.push("no step has begun".to_owned());
    }
    for step in steps {
        lines.push(String::new());
        lines.push(format!(
            "{:>3}  {}  {}",
            step.position,
            clean(&step.step),
            tinted(&step.status, tint(&step.status))
        ));
        for (direction, arrow) in [("run", "↓"), ("compensate", "↑")] {
            lines.extend(rung(step, attempts, direction, arrow, workflow.holder.is_some()));
        }
    }
    lines.join("\n")
}

/// The head: what was asked, where it is, and why.
fn about(view: &WorkflowView) -> Vec<String> {
    let mut lines =
        vec![format!("{}  {}", view.workflow, tinted(view.status.as_str(), tint(view.status.as_str())))];
    let mut line = |name: &str, value: String| lines.push(format!("  {name:<9} {}", clean(&value)));
    line("kind", format!("{} (version {})", view.kind, view.version));
    if let Some(key) = &view.key {
        line("key", key.clone());
    }
    line("queue", view.queue.clone());
    line("input", view.input.as_str().to_owned());
    line("asked", moment(view.enqueued_at));
    if let Some(at) = view.deadline_at {
        line("deadline", moment(at));
    }
    match (view.finished_at, view.holder, view.due_at) {
        (Some(at), ..) => line("ended", format!("{}, after {}", moment(at), span(view.enqueued_at, at))),
        (None, Some(holder), _) => line("held by", format!("incarnation {holder}")),
        (None, None, Some(due)) => line("due", moment(due)),
        (None, None, None) => {}
    }
    if view.unserved {
        line("unserved", "no living worker serves this kind: start one".to_owned());
    }
    if let Some(cause) = &view.cause {
        line("cause", cause.as_str().to_owned());
    }
    if let Some(error) = &view.error {
        let step = error.step.as_ref().map(|step| format!(", in step {step}")).unwrap_or_default();
        line("error", format!("{error}{step}"));
    }
    if let Some(message) = &view.attention {
        line("attention", message.clone());
    }
    if let Some(output) = &view.output {
        line("output", output.as_str().to_owned());
    }
    if let Some(report) = &view.report {
        line("report", report.to_string());
    }
    lines
}

/// One step in one direction: how often, its key, and each try.
fn rung(step: &StepView, attempts: &[AttemptView], direction: &str, arrow: &str, held: bool) -> Vec<String> {
    let tries: Vec<_> = attempts
        .iter()
        .filter(|attempt| attempt.position == step.position && attempt.direction == direction)
        .collect();
    let Some(first) = tries.first() else {
        let why_not = match (direction, step.backward.as_str()) {
            ("compensate", "nothing") => "nothing to take back",
            ("compensate", "pivot") => "no way back from here",
            _ => return Vec::new(),
        };
        return vec![format!("     {arrow} {}", tinted(why_not, Tint::Quiet))];
    };
    let mut lines =
        vec![format!("     {arrow} {direction:<10}  {}", tinted(&format!("key {}", first.key), Tint::Quiet))];
    for attempt in tries {
        // Somebody is at it; or was, and nobody knows how far it came.
        let unknown = if held { "under way, or in doubt" } else { "in doubt" };
        let outcome = attempt.outcome.as_deref().unwrap_or(unknown);
        let took = attempt.ended_at.map_or_else(|| "-".to_owned(), |at| span(attempt.began_at, at));
        lines.push(format!(
            "         {:>2}  {}  {took:>8}  {}",
            attempt.attempt,
            clock(attempt.began_at),
            tinted(outcome, tint(outcome))
        ));
        if let Some(failure) = &attempt.failure {
            lines.extend(clean(&failure.to_string()).lines().map(|line| format!("             {line}")));
        }
    }
    lines
}

fn tint(word: &str) -> Tint {
    match word {
        "completed" | "succeeded" => Tint::Good,
        "compensated" | "compensating" | "retry" | "waiting" => Tint::Back,
        "failed" | "rejected" | "needs_attention" | "in_doubt" | "in doubt" => Tint::Bad,
        _ => Tint::Quiet,
    }
}
