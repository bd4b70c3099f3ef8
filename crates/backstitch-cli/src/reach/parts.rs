//! How does what a daemon tells in parts become whole again, and what it leaves out as null?

use backstitch::{AttemptView, Json, Operator, Status, StepView, WorkerView, WorkflowView};
use chrono::{DateTime, Utc};
use serde::Deserialize;

use crate::seen::Seen;

/// A journal of which some parts have come.
#[derive(Debug, Default)]
pub struct Journal {
    steps: Vec<StepView>,
    attempts: Vec<AttemptView>,
    after: Option<String>,
}

/// A part of it, and how it stands when that is told.
#[derive(Debug, Deserialize)]
pub struct Part {
    steps: Vec<StepView>,
    attempts: Vec<AttemptView>,
    #[serde(default)]
    next: Option<String>,
    worker: Option<WorkerView>,
    kind_paused: Option<Operator>,
    now: DateTime<Utc>,
}

impl Journal {
    /// After what the next part is to be asked for. None: it is the first one.
    pub fn after(&self) -> Option<&str> {
        self.after.as_deref()
    }

    /// Takes in the next part. Some: it was the last one, and this is all there is to see of this workflow.
    pub fn add(&mut self, part: Part, workflow: &WorkflowView) -> Option<Seen> {
        self.steps.extend(part.steps);
        self.attempts.extend(part.attempts);
        self.after = part.next;
        if self.after.is_some() {
            return None;
        }
        let Self { mut steps, attempts, .. } = std::mem::take(self);
        for step in steps.iter_mut().filter(|step| step.output.is_none()) {
            let succeeded = |attempt: &AttemptView| {
                attempt.position == step.position
                    && attempt.direction == "run"
                    && attempt.outcome.as_deref() == Some("succeeded")
            };
            step.output = (step.status == "completed" || attempts.iter().any(succeeded)).then(null);
        }
        let workflow = workflow.clone();
        let Part { worker, kind_paused, now, .. } = part;
        Some(Seen { workflow, steps, attempts, worker, kind_paused, now })
    }
}

/// A member that is null may be none, or an output that is null: what has completed has one.
pub fn with_null(mut view: WorkflowView) -> WorkflowView {
    if view.status == Status::Completed {
        view.output.get_or_insert_with(null);
    }
    view
}

fn null() -> Json {
    Json::from_journal("null")
}
