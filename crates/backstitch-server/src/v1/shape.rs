//! How do workflows, their steps and attempts look over HTTP?

use backstitch::{
    AttemptView, Cause, Failure, Json, Operator, RollbackReport, Status, StepView, WorkerView, WorkflowError,
    WorkflowId, WorkflowView,
};
use chrono::{DateTime, Utc};
use serde::Serialize;
use utoipa::ToSchema;
use utoipa::openapi::schema::{Object, ObjectBuilder, Type};

/// Every status, in the order of a life.
pub fn status_schema() -> Object {
    ObjectBuilder::new().schema_type(Type::String).enum_values(Some(Status::ALL.map(Status::as_str))).build()
}

/// One workflow as it stands.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Workflow)]
pub struct WorkflowShape {
    /// Its id
    #[schema(value_type = Uuid)]
    workflow_id: WorkflowId,
    /// Its kind
    kind: String,
    /// The version of the kind that was asked for
    version: u32,
    /// The key it was asked for with
    key: Option<String>,
    /// Its queue
    queue: String,
    /// Where it is in its life
    #[schema(schema_with = status_schema)]
    status: &'static str,
    /// What was asked. In a list only if asked for
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Value>)]
    input: Option<Json>,
    /// What it ended with. In a list only if asked for
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Value>)]
    output: Option<Json>,
    /// Why it is, or was, taken back
    #[schema(value_type = Option<Object>)]
    cause: Option<Cause>,
    /// Who asked that it be taken back, and why, where that is yet to be heeded: `by` and `why`
    #[schema(value_type = Option<Object>)]
    cancel: Option<Operator>,
    /// Who holds it back, and why: `by` and `why`
    #[schema(value_type = Option<Object>)]
    paused: Option<Operator>,
    /// The original error
    #[schema(value_type = Option<Object>)]
    error: Option<WorkflowError>,
    /// What became of each step on the way back
    #[schema(value_type = Option<Object>)]
    report: Option<RollbackReport>,
    /// What a person should look at. Not in a list
    #[serde(skip_serializing_if = "Option::is_none")]
    attention: Option<String>,
    /// When it was asked for
    enqueued_at: DateTime<Utc>,
    /// When it ended
    finished_at: Option<DateTime<Utc>>,
    /// When it must have ended
    deadline_at: Option<DateTime<Utc>>,
    /// When it is next taken up, unless a worker is at it
    due_at: Option<DateTime<Utc>>,
    /// The number of the worker that is at it
    holder: Option<i32>,
    /// No living worker serves its kind
    unserved: bool,
}

impl WorkflowShape {
    /// All of it.
    pub fn whole(view: WorkflowView) -> Self {
        let mut view = view.redacted();
        let (input, output) = (view.input.take(), view.output.take());
        Self { input, output, ..Self::line(view) }
    }

    /// Without what may be long.
    pub fn line(view: WorkflowView) -> Self {
        Self {
            workflow_id: view.workflow,
            kind: view.kind,
            version: view.version,
            key: view.key,
            queue: view.queue,
            status: view.status.as_str(),
            input: None,
            output: None,
            cause: view.cause,
            cancel: view.cancel,
            paused: view.paused,
            error: view.error,
            report: view.report,
            attention: view.attention,
            enqueued_at: view.enqueued_at,
            finished_at: view.finished_at,
            deadline_at: view.deadline_at,
            due_at: view.due_at,
            holder: view.holder,
            unserved: view.unserved,
        }
    }
}

/// Workflows, the newest first.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Page)]
pub struct PageShape {
    /// Without input and output, unless asked for
    pub workflows: Vec<WorkflowShape>,
    /// Give it as `before` for the next page. Null: this is the last one
    #[schema(value_type = Option<Uuid>)]
    pub before: Option<WorkflowId>,
    /// When that was so, by the database's clock
    pub now: DateTime<Utc>,
}

/// What a workflow did.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Journal)]
pub struct JournalShape {
    /// The workflow
    #[schema(value_type = Uuid)]
    workflow_id: WorkflowId,
    /// Its steps, in order
    steps: Vec<StepShape>,
    /// Every try of every step, in the order in which they began
    attempts: Vec<AttemptShape>,
    /// Give it as `after` for what comes after these. Null: that is all, so far
    next: Option<String>,
    /// Who is at it: `incarnation`, `host`, `pid`, `lease_left_milliseconds` and more; as far as the token's kinds go
    #[schema(value_type = Option<Object>)]
    worker: Option<WorkerView>,
    /// Who has paused its kind, and why: `by` and `why`
    #[schema(value_type = Option<Object>)]
    kind_paused: Option<Operator>,
    /// When that was so, by the database's clock
    now: DateTime<Utc>,
}

impl JournalShape {
    pub fn of(
        workflow_id: WorkflowId,
        (steps, attempts): (Vec<StepView>, Vec<AttemptView>),
        next: Option<String>,
        worker: Option<WorkerView>,
        kind_paused: Option<Operator>,
        now: DateTime<Utc>,
    ) -> Self {
        let steps = steps.into_iter().map(StepShape::from).collect();
        let attempts = attempts.into_iter().map(AttemptShape::from).collect();
        Self { workflow_id, steps, attempts, next, worker, kind_paused, now }
    }
}

#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Step)]
struct StepShape {
    /// Its place, from 0
    position: u32,
    /// Its name
    step: String,
    /// in_progress, waiting, completed, failed, rejected, compensating or compensated
    status: String,
    /// How it is taken back
    backward: String,
    /// Its fields
    #[schema(value_type = Option<Value>)]
    input: Option<Json>,
    /// What it handed over
    #[schema(value_type = Option<Value>)]
    output: Option<Json>,
}

impl From<StepView> for StepShape {
    fn from(view: StepView) -> Self {
        let StepView { position, step, status, backward, input, output, .. } = view.redacted();
        Self { position, step, status, backward, input, output }
    }
}

#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Attempt)]
struct AttemptShape {
    /// The step's place
    position: u32,
    /// The step's name
    step: String,
    /// run or compensate
    direction: String,
    /// Which try, from 1
    attempt: u32,
    /// Its idempotency key
    key: String,
    /// The number of the worker that made it
    incarnation: Option<i32>,
    /// The row of the journal with its intent: what began later has a larger one
    began_seq: u32,
    /// When that was written
    began_at: DateTime<Utc>,
    /// The row of the journal with its outcome. Null: it is under way, or in doubt
    ended_seq: Option<u32>,
    /// When its outcome was written. Null: it is under way, or in doubt
    ended_at: Option<DateTime<Utc>>,
    /// How it ended, in the journal's words
    outcome: Option<String>,
    /// What went wrong: `code` and `message`
    #[schema(value_type = Option<Object>)]
    failure: Option<Failure>,
}

impl From<AttemptView> for AttemptShape {
    fn from(view: AttemptView) -> Self {
        let AttemptView {
            position,
            step,
            direction,
            attempt,
            key,
            incarnation,
            began_seq,
            began_at,
            ended_seq,
            ended_at,
            outcome,
            failure,
            ..
        } = view;
        Self {
            position,
            step,
            direction,
            attempt,
            key,
            incarnation,
            began_seq,
            began_at,
            ended_seq,
            ended_at,
            outcome,
            failure,
        }
    }
}
