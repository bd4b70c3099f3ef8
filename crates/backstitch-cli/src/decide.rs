//! `backstitch skip-step`, `resolve`, `abandon`, `pause` and `resume`: what may an operator decide beside a cancel and a retry?

use backstitch::{Json, limits};
use serde_json::json;

use crate::arguments::{Decision, On, OnStep, OnWorkflow, OnWorkflowOrKind, Resolve};
use crate::cancel::tell;
use crate::exit::{Exit, Failed};
use crate::output::{say, say_json};
use crate::reach::{Verb, reach};
use crate::settings::Settings;

/// Has the way back go on without a step.
pub async fn skip_step(settings: &Settings, arguments: OnStep) -> Result<Exit, Failed> {
    let OnStep { on: OnWorkflow { workflow, token, decision }, position } = arguments;
    let answered =
        reach(settings).await?.decide(workflow, Verb::SkipStep(position), &decision, token).await?;
    tell(workflow, &decision, answered, &format!("is taken back without step {}", position.0))
}

/// Says what became of a step in doubt.
pub async fn resolve(settings: &Settings, arguments: Resolve) -> Result<Exit, Failed> {
    let Resolve {
        on: OnStep { on: OnWorkflow { workflow, token, decision }, position },
        happened,
        output,
        ..
    } = arguments;
    let found = match happened {
        true => {
            let parsed = Json::parse(&output, limits::OUTCOME_BYTES_MAX);
            Some(parsed.map_err(|error| Failed::usage(format!("--output: {error}")))?)
        }
        false => None,
    };
    let verb = Verb::Resolve(position, found);
    let answered = reach(settings).await?.decide(workflow, verb, &decision, token).await?;
    tell(workflow, &decision, answered, &format!("goes on from what became of step {}", position.0))
}

/// Ends a workflow as it is.
pub async fn abandon(settings: &Settings, arguments: OnWorkflow) -> Result<Exit, Failed> {
    let OnWorkflow { workflow, token, decision } = arguments;
    let answered = reach(settings).await?.decide(workflow, Verb::Abandon, &decision, token).await?;
    tell(workflow, &decision, answered, "has ended as it is; `backstitch explain` says what still stands")
}

/// Holds a workflow or a kind back.
pub async fn pause(settings: &Settings, arguments: OnWorkflowOrKind) -> Result<Exit, Failed> {
    let reach = reach(settings).await?;
    match arguments.split() {
        (On::Workflow(workflow), token, decision) => {
            let answered = reach.decide(workflow, Verb::Pause, &decision, token).await?;
            tell(workflow, &decision, answered, "waits until it is resumed")
        }
        (On::Kind(kind), _, decision) => {
            reach.pause_kind(&kind, &decision).await?;
            let told = "is not taken up until it is resumed; what is under way goes on";
            tell_of_kind(&kind, &decision, true, told)
        }
    }
}

/// Lets it go on.
pub async fn resume(settings: &Settings, arguments: OnWorkflowOrKind) -> Result<Exit, Failed> {
    let reach = reach(settings).await?;
    match arguments.split() {
        (On::Workflow(workflow), token, decision) => {
            let answered = reach.decide(workflow, Verb::Resume, &decision, token).await?;
            tell(workflow, &decision, answered, "goes on")
        }
        (On::Kind(kind), _, decision) => {
            let was_paused = reach.resume_kind(&kind, &decision).await?;
            let told = if was_paused { "is taken up again" } else { "is not paused" };
            tell_of_kind(&kind, &decision, was_paused, told)
        }
    }
}

fn tell_of_kind(kind: &str, decision: &Decision, accepted: bool, told: &str) -> Result<Exit, Failed> {
    if decision.json {
        let answer = if accepted { "accepted" } else { "is_not_paused" };
        say_json(&json!({ "kind": kind, "answer": answer }))?;
        return Ok(if accepted { Exit::Done } else { Exit::Refused });
    }
    match accepted {
        true => say(&format!("kind {kind} {told}")).map(|()| Exit::Done),
        false => Err(Failed::refused(format!("kind {kind} {told}"))),
    }
}
