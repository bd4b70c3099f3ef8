//! What does a caller see of workflows?
#![expect(unused_qualifications, reason = "the code that utoipa generates")]

use std::fmt;

use axum::Json;
use axum::extract::State;
use backstitch::{
    AttemptView, Client, Filter, IncarnationId, Position, Status, StepView, WorkflowId, WorkflowView,
};
use chrono::{DateTime, Utc};
use serde::Deserialize;
use utoipa::IntoParams;

use super::params::{Asked, Of, Text, time};
use super::shape::{JournalShape, PageShape, WorkflowShape, status_schema};
use crate::access::{Allowed, Await, Caller, Look};
use crate::openapi::{Refused, RefusedWorkflow};
use crate::problem::Problem;
use crate::refusal::Refusal;

/// The longest page. With input and output each workflow may be 320 KiB long.
const PAGE_MAX: u32 = 100;

/// How many steps of a journal are told at once: each may be as long.
const STEPS_MAX: u32 = 100;

/// How many attempts are: with what went wrong each may be 5 KiB long.
const ATTEMPTS_MAX: u32 = 1_000;

/// Which workflows, and how many.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct Listed {
    /// Only of this kind
    #[param(value_type = Option<String>)]
    kind: Option<Text>,
    /// Only with this status
    #[param(schema_with = status_schema, required = false)]
    status: Option<Status>,
    /// Only with this key
    #[param(value_type = Option<String>)]
    key: Option<Text>,
    /// Only of this queue
    #[param(value_type = Option<String>)]
    queue: Option<Text>,
    /// Only those that failed with this code
    #[param(value_type = Option<String>)]
    error_code: Option<Text>,
    /// Only those asked for at this time or later
    #[serde(default, deserialize_with = "time")]
    since: Option<DateTime<Utc>>,
    /// Only those asked for before this time
    #[serde(default, deserialize_with = "time")]
    until: Option<DateTime<Utc>>,
    /// Only those asked for before this one: the `before` of the last page
    #[param(value_type = Option<Uuid>)]
    before: Option<WorkflowId>,
    /// At most so many
    #[serde(default = "whole_page")]
    #[param(minimum = 1, maximum = 100)]
    limit: u32,
    /// With input and output
    #[serde(default)]
    whole: bool,
}

fn whole_page() -> u32 {
    PAGE_MAX
}

/// List workflows, the newest first
#[utoipa::path(
    get,
    path = "/workflows",
    tag = "look",
    params(Listed),
    responses((status = 200, description = "A page of them", body = PageShape), Refused),
)]
pub async fn list(
    Allowed { caller, .. }: Allowed<Look>,
    State(client): State<Client>,
    Asked(listed): Asked<Listed>,
) -> Result<Json<PageShape>, Problem> {
    let Listed { kind, status, key, queue, error_code, since, until, before, limit, whole } = listed;
    if !(1..=PAGE_MAX).contains(&limit) {
        return Err(Refusal::invalid(format!("limit: give 1 to {PAGE_MAX}")).into());
    }
    let text = |text: Option<Text>| text.map(Text::into_string);
    let (kind, key, queue, error_code) = (text(kind), text(key), text(queue), text(error_code));
    let filter = Filter { kind, status, key, before, queue, error_code, since, until, limit, whole };
    let views = client.workflows_of(filter, caller.kinds()).await?;
    let is_full = views.len() >= usize::try_from(limit).unwrap_or(usize::MAX);
    let before = views.last().filter(|_| is_full).map(|view| view.workflow);
    let shape = if whole { WorkflowShape::whole } else { WorkflowShape::line };
    let now = client.now().await?;
    Ok(Json(PageShape { workflows: views.into_iter().map(shape).collect(), before, now }))
}

/// See a workflow as it stands
#[utoipa::path(
    get,
    path = "/workflows/{id}",
    tag = "look",
    params(("id" = Uuid, Path, description = "Which workflow")),
    responses((status = 200, description = "So it stands", body = WorkflowShape), Refused, RefusedWorkflow),
)]
pub async fn workflow(
    Allowed { caller, .. }: Allowed<Await>,
    State(client): State<Client>,
    Of(workflow): Of,
) -> Result<Json<WorkflowShape>, Problem> {
    Ok(Json(WorkflowShape::whole(seen(&client, &caller, workflow).await?)))
}

/// Which part of a journal.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct Further {
    /// What comes after this: the `next` of the last part
    #[serde(default)]
    #[param(value_type = Option<String>, pattern = "^[0-9]{1,9}-[0-9]{1,9}$")]
    after: Option<Next>,
}

/// See what a workflow did: its steps, and every try of each
///
/// Up to 100 steps and 1,000 tries at once; where there are more, `next` says how to go on.
#[utoipa::path(
    get,
    path = "/workflows/{id}/journal",
    tag = "look",
    params(("id" = Uuid, Path, description = "Which workflow"), Further),
    responses((status = 200, description = "So far", body = JournalShape), Refused, RefusedWorkflow),
)]
pub async fn journal(
    Allowed { caller, .. }: Allowed<Look>,
    State(client): State<Client>,
    Of(workflow): Of,
    Asked(Further { after }): Asked<Further>,
) -> Result<Json<JournalShape>, Problem> {
    let view = seen(&client, &caller, workflow).await?;
    let from = after.unwrap_or_default();
    let steps = client.steps_from(workflow, Position(from.position), STEPS_MAX).await?;
    let attempts = client.attempts_from(workflow, from.began_seq, ATTEMPTS_MAX).await?;
    let next = from.after(&steps, &attempts);
    let worker = match view.holder {
        Some(holder) => client.worker_of(IncarnationId(holder), caller.kinds()).await?,
        None => None,
    };
    let kind_paused = client.pause_of_kind(&view.kind).await?;
    let now = client.now().await?;
    let next = next.map(|next| next.to_string());
    Ok(Json(JournalShape::of(workflow, (steps, attempts), next, worker, kind_paused, now)))
}

/// From where on a journal is told: steps from a position, attempts from the row in which they began.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(try_from = "String")]
struct Next {
    position: u32,
    began_seq: u32,
}

impl Next {
    /// Where it goes on after these. None: there is no more.
    fn after(self, steps: &[StepView], attempts: &[AttemptView]) -> Option<Self> {
        let is_full = |told: usize, max: u32| told >= usize::try_from(max).unwrap_or(usize::MAX);
        (is_full(steps.len(), STEPS_MAX) || is_full(attempts.len(), ATTEMPTS_MAX)).then(|| Self {
            position: steps.last().map_or(self.position, |step| step.position + 1),
            began_seq: attempts.last().map_or(self.began_seq, |attempt| attempt.began_seq + 1),
        })
    }
}

impl fmt::Display for Next {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.position, self.began_seq)
    }
}

impl TryFrom<String> for Next {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, &'static str> {
        let read = |(position, began_seq): (&str, &str)| {
            Some(Self { position: position.parse().ok()?, began_seq: began_seq.parse().ok()? })
        };
        text.split_once('-').and_then(read).ok_or("give the next of the last part, such as 100-250")
    }
}

/// The workflow, if it exists for this caller.
pub async fn seen(client: &Client, caller: &Caller, workflow: WorkflowId) -> Result<WorkflowView, Problem> {
    let view = client.workflow(workflow).await?.filter(|view| caller.sees(&view.kind));
    view.ok_or_else(|| Refusal::no_workflow(workflow).into())
}
