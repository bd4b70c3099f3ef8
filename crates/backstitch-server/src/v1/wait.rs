//! How does a caller wait for a workflow's end?
#![expect(unused_qualifications, reason = "the code that utoipa generates")]

use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use backstitch::{Ending, Handle, Json as Encoded, WorkflowId, WorkflowView};
use serde::{Deserialize, Serialize};
use tokio::time::timeout;
use utoipa::{IntoParams, ToSchema};

use super::Api;
use super::look::seen;
use super::outcome::{self, Completed};
use super::params::{Asked, Of, span};
use crate::access::{Allowed, Await};
use crate::openapi::{Refused, RefusedWorkflow};
use crate::places::ASK_AGAIN_SECONDS;
use crate::problem::Problem;
use crate::refusal::Refusal;

/// The longest wait: what lies between the caller and us often hangs up after a minute of silence.
const WAIT_MAX: Duration = Duration::from_secs(60);

/// How long unless said.
const WAIT_USUAL: &str = "30s";

/// For how long.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ForHowLong {
    /// 0s to 60s: a number and ms, s or m [default: 30s]
    #[param(pattern = "^([0-9]{1,4}ms|[1-5]?[0-9]s|60s|[01]m)$")]
    timeout: Option<String>,
}

/// A workflow that has not ended yet.
#[derive(Debug, Serialize, ToSchema)]
pub struct UnderWay {
    #[schema(value_type = Uuid)]
    workflow_id: WorkflowId,
    /// pending, running or compensating
    status: &'static str,
}

/// Wait until a workflow has ended, or needs attention
///
/// A workflow that failed answers as a problem, with its original error and what became of each step: 422, or what its
/// kind declares for that error.
#[utoipa::path(
    get,
    path = "/workflows/{id}/wait",
    tag = "look",
    params(("id" = Uuid, Path, description = "Which workflow"), ForHowLong),
    responses(
        (status = 200, description = "It completed", body = Completed),
        (status = 202, description = "It is still under way: ask again", body = UnderWay),
        (status = 422, description = "It failed, and everything was taken back", body = crate::problem::ProblemBody, content_type = "application/problem+json"),
        Refused, RefusedWorkflow
    ),
)]
pub async fn wait(
    Allowed { caller, .. }: Allowed<Await>,
    State(api): State<Api>,
    Of(workflow_id): Of,
    Asked(asked): Asked<ForHowLong>,
) -> Result<Response, Problem> {
    let patience = patience(asked.timeout.as_deref().unwrap_or(WAIT_USUAL))?;
    let view = seen(&api.client, &caller, workflow_id).await?;
    if patience.is_zero() || view.ending::<Encoded>()?.is_some() {
        return answer(view, &api);
    }
    let place = api.places.wait()?;
    let handle = Handle::<Encoded>::new(workflow_id);
    let ended = tokio::select! {
        ended = timeout(patience, api.client.wait(&handle)) => ended,
        () = api.stopped.cancelled() => return Err(stopping(workflow_id)),
    };
    drop(place);
    match ended {
        Ok(ending) => told(&view.kind, workflow_id, ending?, &api),
        // As it stands now, which may be later than the last look.
        Err(_) => answer(seen(&api.client, &caller, workflow_id).await?, &api),
    }
}

fn answer(view: WorkflowView, api: &Api) -> Result<Response, Problem> {
    if let Some(ending) = view.ending()? {
        return told(&view.kind, view.workflow, ending, api);
    }
    let under_way = UnderWay { workflow_id: view.workflow, status: view.status.as_str() };
    Ok((StatusCode::ACCEPTED, Json(under_way)).into_response())
}

fn told(kind: &str, workflow: WorkflowId, ending: Ending<Encoded>, api: &Api) -> Result<Response, Problem> {
    Ok(Json(outcome::told(kind, workflow, ending, &api.errors)?).into_response())
}

fn patience(text: &str) -> Result<Duration, Problem> {
    span(text)
        .filter(|patience| *patience <= WAIT_MAX)
        .ok_or_else(|| Refusal::invalid("timeout: give 0s to 60s, as a number and ms, s or m").into())
}

/// Whoever waits or follows asks the next daemon.
pub fn stopping(workflow: WorkflowId) -> Problem {
    let why = "this daemon is stopping; the workflow goes on with the next: ask there";
    let refusal = Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "stopping", why);
    refusal.about(workflow).retry_after(ASK_AGAIN_SECONDS).into()
}
