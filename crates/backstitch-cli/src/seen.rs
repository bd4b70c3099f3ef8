//! Everything that is known of one workflow, at one moment.

use backstitch::{AttemptView, Client, Error, IncarnationId, StepView, WorkerView, WorkflowId, WorkflowView};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::exit::Failed;

/// A workflow with its steps, their attempts, and who is at it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Seen {
    pub workflow: WorkflowView,
    pub steps: Vec<StepView>,
    pub attempts: Vec<AttemptView>,
    /// Who holds it. None: nobody.
    pub worker: Option<WorkerView>,
    /// When it was looked at, by the database's clock.
    pub now: DateTime<Utc>,
}

/// Looks. One that is not there is refused.
pub async fn look(client: &Client, id: WorkflowId) -> Result<Seen, Failed> {
    let workflow = client.workflow(id).await?.ok_or(Error::NotFound(id))?.redacted();
    let steps = client.steps(id).await?.into_iter().map(StepView::redacted).collect();
    let attempts = client.attempts(id).await?;
    let worker = match workflow.holder {
        Some(holder) => client.worker(IncarnationId(holder)).await?,
        None => None,
    };
    Ok(Seen { workflow, steps, attempts, worker, now: client.now().await? })
}
