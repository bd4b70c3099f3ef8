//! What does a caller see of workflows?
#![expect(unused_qualifications, reason = "the code that utoipa generates")]

use axum::Json;
use axum::extract::State;
use backstitch::{Client, Filter, IncarnationId, Status, WorkflowId, WorkflowView};
use chrono::{DateTime, Utc};
use serde::Deserialize;
use utoipa::IntoParams;

use super::params::{Asked, Of, Text, time};
use super::shape::{JournalShape, PageShape, WorkflowShape, status_schema};
use crate::access::{Allowed, Await, Caller, Look};
use crate::openapi::{Refused, RefusedWorkflow};
use crate::problem::Problem;
use crate::refusal::Refusal;

/// The longest page. Each workflow may be some hundred kilobytes long where the database reads it.
const PAGE_MAX: u32 = 100;

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
    let filter = Filter { kind, status, key, before, queue, error_code, since, until, limit };
    let views = visible(&client, &caller, filter).await?;
    let is_full = views.len() >= usize::try_from(limit).unwrap_or(usize::MAX);
    let before = views.last().filter(|_| is_full).map(|view| view.workflow);
    let shape = if whole { WorkflowShape::whole } else { WorkflowShape::line };
    let now = client.now().await?;
    Ok(Json(PageShape { workflows: views.into_iter().map(shape).collect(), before, now }))
}

/// What of a list exists for the caller.
async fn visible(client: &Client, caller: &Caller, filter: Filter) -> Result<Vec<WorkflowView>, Problem> {
    let kinds = match (&filter.kind, caller.kinds()) {
        (_, None) => return Ok(client.workflows(filter).await?),
        (Some(kind), Some(_)) if caller.sees(kind) => return Ok(client.workflows(filter).await?),
        (Some(_), Some(_)) => return Ok(Vec::new()),
        (None, Some(kinds)) => kinds,
    };
    let limit = usize::try_from(filter.limit).unwrap_or(usize::MAX);
    let mut views = Vec::new();
    for kind in kinds {
        views.extend(client.workflows(Filter { kind: Some(kind.clone()), ..filter.clone() }).await?);
    }
    views.sort_by_key(|view| std::cmp::Reverse(view.workflow));
    // A token may name a kind twice.
    views.dedup_by_key(|view| view.workflow);
    views.truncate(limit);
    Ok(views)
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

/// See what a workflow did: its steps, and every try of each
#[utoipa::path(
    get,
    path = "/workflows/{id}/journal",
    tag = "look",
    params(("id" = Uuid, Path, description = "Which workflow")),
    responses((status = 200, description = "So far", body = JournalShape), Refused, RefusedWorkflow),
)]
pub async fn journal(
    Allowed { caller, .. }: Allowed<Look>,
    State(client): State<Client>,
    Of(workflow): Of,
) -> Result<Json<JournalShape>, Problem> {
    let view = seen(&client, &caller, workflow).await?;
    let done = (client.steps(workflow).await?, client.attempts(workflow).await?);
    let worker = match view.holder {
        Some(holder) => client.worker(IncarnationId(holder)).await?,
        None => None,
    };
    let kind_paused = client.pause_of_kind(&view.kind).await?;
    Ok(Json(JournalShape::of(workflow, done, worker, kind_paused, client.now().await?)))
}

/// The workflow, if it exists for this caller.
pub async fn seen(client: &Client, caller: &Caller, workflow: WorkflowId) -> Result<WorkflowView, Problem> {
    let view = client.workflow(workflow).await?.filter(|view| caller.sees(&view.kind));
    view.ok_or_else(|| Refusal::no_workflow(workflow).into())
}
