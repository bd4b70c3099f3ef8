//! `backstitch skip-step`, `resolve`, `abandon`, `pause` and `resume`: what may an operator decide beside a cancel and a retry?

use backstitch::{Client, Json, Operate, limits};
use serde_json::json;
use uuid::Uuid;

use crate::arguments::{Decision, OnStep, OnWorkflow, OnWorkflowOrKind, Resolve};
use crate::cancel::tell;
use crate::connect;
use crate::exit::{Exit, Failed};
use crate::output::{say, say_json};
use crate::settings::Settings;

/// Has the way back go on without a step.
pub async fn skip_step(settings: &Settings, arguments: OnStep) -> Result<Exit, Failed> {
    let OnStep { on: OnWorkflow { workflow, token, decision }, position } = arguments;
    let client = connect::client(settings).await?;
    let answered = operate(&client, &decision, token).skip_step(workflow, position).await?;
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
    let client = connect::client(settings).await?;
    let answered = operate(&client, &decision, token).resolve(workflow, position, found).await?;
    tell(workflow, &decision, answered, &format!("goes on from what became of step {}", position.0))
}

/// Ends a workflow as it is.
pub async fn abandon(settings: &Settings, arguments: OnWorkflow) -> Result<Exit, Failed> {
    let OnWorkflow { workflow, token, decision } = arguments;
    let client = connect::client(settings).await?;
    let answered = operate(&client, &decision, token).abandon(workflow).await?;
    tell(workflow, &decision, answered, "has ended as it is; `backstitch explain` says what still stands")
}

/// Holds a workflow or a kind back.
pub async fn pause(settings: &Settings, arguments: OnWorkflowOrKind) -> Result<Exit, Failed> {
    let OnWorkflowOrKind { workflow, kind, token, decision } = arguments;
    let client = connect::client(settings).await?;
    let operate = operate(&client, &decision, token);
    if let Some(workflow) = workflow {
        return tell(workflow, &decision, operate.pause(workflow).await?, "waits until it is resumed");
    }
    let kind = kind.unwrap_or_default();
    operate.pause_kind(&kind).await?;
    tell_of_kind(&kind, &decision, true, "is not taken up until it is resumed; what is under way goes on")
}

/// Lets it go on.
pub async fn resume(settings: &Settings, arguments: OnWorkflowOrKind) -> Result<Exit, Failed> {
    let OnWorkflowOrKind { workflow, kind, token, decision } = arguments;
    let client = connect::client(settings).await?;
    let operate = operate(&client, &decision, token);
    if let Some(workflow) = workflow {
        return tell(workflow, &decision, operate.resume(workflow).await?, "goes on");
    }
    let kind = kind.unwrap_or_default();
    let was_paused = operate.resume_kind(&kind).await?;
    tell_of_kind(&kind, &decision, was_paused, if was_paused { "is taken up again" } else { "is not paused" })
}

fn operate<'c>(client: &'c Client, decision: &Decision, token: Option<Uuid>) -> Operate<'c> {
    let operate = client.operate(&decision.by, &decision.why);
    match token {
        Some(token) => operate.token(token),
        None => operate,
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
