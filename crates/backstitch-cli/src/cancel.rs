//! `backstitch cancel` and `backstitch retry`: what may an operator decide?

use backstitch::{Answered, WorkflowId};
use serde_json::json;

use crate::arguments::OnWorkflow;
use crate::connect;
use crate::exit::{Exit, Failed};
use crate::output::{say, say_json};
use crate::settings::Settings;

/// Has a workflow taken back.
pub async fn cancel(settings: &Settings, arguments: OnWorkflow) -> Result<Exit, Failed> {
    let client = connect::client(settings).await?;
    let answered = client.cancel(arguments.workflow, &arguments.by, &arguments.why).await?;
    tell(&arguments, answered, "is to be taken back")
}

/// Makes a waiting workflow due now.
pub async fn retry(settings: &Settings, arguments: OnWorkflow) -> Result<Exit, Failed> {
    let client = connect::client(settings).await?;
    let answered = client.retry(arguments.workflow, &arguments.by, &arguments.why).await?;
    tell(&arguments, answered, "is tried again now")
}

fn tell(arguments: &OnWorkflow, answered: Answered, accepted: &str) -> Result<Exit, Failed> {
    let workflow = arguments.workflow;
    if arguments.json {
        say_json(&json!({ "workflow": workflow, "answer": answered }))?;
        return Ok(if answered == Answered::Accepted { Exit::Done } else { Exit::Refused });
    }
    match why_not(workflow, answered) {
        None => say(&format!("workflow {workflow} {accepted}")).map(|()| Exit::Done),
        Some(why_not) => Err(Failed::refused(why_not)),
    }
}

/// None: it was accepted.
fn why_not(workflow: WorkflowId, answered: Answered) -> Option<String> {
    match answered {
        Answered::Accepted => None,
        Answered::NotFound => {
            Some(format!("there is no workflow {workflow}; `backstitch list` shows those there are"))
        }
        why_not => Some(format!("workflow {workflow} {why_not}; see `backstitch show {workflow}`")),
    }
}
