//! Everything that is known of one workflow, at one moment.

use backstitch::{AttemptView, Operator, Status, StepView, WorkerView, WorkflowView};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

/// A workflow with its steps, their attempts, and who is at it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Seen {
    pub workflow: WorkflowView,
    pub steps: Vec<StepView>,
    pub attempts: Vec<AttemptView>,
    /// Who holds it. None: nobody.
    pub worker: Option<WorkerView>,
    /// Who has paused its kind, and why. None: nobody.
    #[serde(default)]
    pub kind_paused: Option<Operator>,
    /// When it was looked at, by the database's clock.
    pub now: DateTime<Utc>,
}

impl Seen {
    /// The step that failed and is being taken back before its error reaches the workflow, which is under way still. None: none is.
    pub fn settling(&self) -> Option<&StepView> {
        let has_turned = self.workflow.cause.is_some() || self.workflow.status == Status::Compensating;
        self.steps.iter().rfind(|step| step.status == "compensating").filter(|_| !has_turned)
    }
}
