//! `backstitch cancel` and `backstitch retry`: what may an operator decide, and what is said to it?

use backstitch::{Answered, Status, WorkflowId};
use serde_json::json;

use crate::arguments::{Decision, OnWorkflows};
use crate::bulk::{self, Many};
use crate::exit::{Exit, Failed};
use crate::output::{say, say_json};
use crate::reach::{Verb, reach};
use crate::settings::Settings;

/// Has workflows taken back.
pub async fn cancel(settings: &Settings, arguments: OnWorkflows) -> Result<Exit, Failed> {
    let reach = reach(settings).await?;
    let Some(workflow) = arguments.workflow else {
        let many = Many { name: "cancel", verb: Verb::Cancel, usual: &[Status::Pending, Status::Running] };
        return bulk::decide(&reach, many, arguments).await;
    };
    let answered = reach.decide(workflow, Verb::Cancel, &arguments.decision, None).await?;
    tell(workflow, &arguments.decision, answered, "is to be taken back")
}

/// Makes waiting workflows due now.
pub async fn retry(settings: &Settings, arguments: OnWorkflows) -> Result<Exit, Failed> {
    let reach = reach(settings).await?;
    let Some(workflow) = arguments.workflow else {
        let many = Many { name: "retry", verb: Verb::Retry, usual: &[Status::NeedsAttention] };
        return bulk::decide(&reach, many, arguments).await;
    };
    let answered = reach.decide(workflow, Verb::Retry, &arguments.decision, None).await?;
    tell(workflow, &arguments.decision, answered, "is tried again now")
}

/// Says what became of a decision.
pub fn tell(
    workflow: WorkflowId,
    decision: &Decision,
    answered: Answered,
    accepted: &str,
) -> Result<Exit, Failed> {
    if decision.json {
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
