//! Does the outside agree with the journal, and what is there that is nobody's, for whoever asks over HTTP?
//!
//! It only looks, and is for operators all the same: with the daemon's own keys, servers are asked that have other work, and
//! what they tell is more than any journal holds. A `read` token costs the database a query, and nobody else anything.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use backstitch::{Expected, Status, Verdict, Verified, VerifiedStep, WorkflowId};
use serde::Serialize;
use utoipa::ToSchema;

use super::Api;
use super::look::seen;
use super::params::Of;
use super::shape::status_schema;
use crate::access::{Allowed, Decide};
use crate::openapi::{Refused, RefusedWorkflow};
use crate::outside::Orphans;
use crate::places::ASK_AGAIN_SECONDS;
use crate::problem::{Problem, ProblemBody};
use crate::refusal::Refusal;

/// What a workflow's steps left outside, beside what its journal says.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Verified)]
pub struct VerifiedShape {
    /// Which workflow
    #[schema(value_type = Uuid)]
    workflow: WorkflowId,
    /// Its kind
    kind: String,
    /// How it stood when it was looked at
    #[schema(schema_with = status_schema)]
    status: Status,
    /// Its steps, in order
    steps: Vec<VerifiedStepShape>,
}

#[derive(Debug, Serialize, ToSchema)]
#[schema(as = VerifiedStep)]
struct VerifiedStepShape {
    /// Its place, from 0
    position: u32,
    /// Its name
    step: String,
    /// in_progress, waiting, completed, failed, rejected, compensating, compensated or skipped
    status: String,
    /// What should be outside by the journal: stands, gone or either
    #[schema(value_type = String)]
    expected: Expected,
    /// What was seen: stands, partly, gone or unknown. Null: nothing was
    sighting: Option<String>,
    /// What there is to say about it
    says: Option<String>,
    /// agrees, differs, undecided, not_probed or not_seen
    #[schema(value_type = String)]
    verdict: Verdict,
}

/// See whether the outside is as the journal of a workflow says
///
/// Each step is looked for where it should be, by a daemon that serves workflows. Nothing is changed. It takes as long as
/// those take that are asked.
#[utoipa::path(
    get,
    path = "/workflows/{id}/verify",
    tag = "look",
    params(("id" = Uuid, Path, description = "Which workflow")),
    responses(
        (status = 200, description = "So it is", body = VerifiedShape),
        (status = 409, description = "This daemon serves no workflows: not_served_here", body = ProblemBody, content_type = "application/problem+json"),
        Refused, RefusedWorkflow
    ),
)]
pub async fn verify(
    Allowed { caller, .. }: Allowed<Decide>,
    State(api): State<Api>,
    Of(workflow): Of,
) -> Result<Json<VerifiedShape>, Problem> {
    seen(&api.client, &caller, workflow).await?;
    let outside = api.looks.outside()?;
    let _place = api.looks.take()?;
    let verified = api.stopped.run_until_cancelled(outside.verify(workflow)).await;
    Ok(Json(verified.ok_or_else(stopping)??.into()))
}

/// See what stands outside that is nobody's
///
/// Of the kinds that this daemon serves: what belongs to no workflow that is under way, and to nothing that one of them left in
/// service. Nothing is changed.
#[utoipa::path(
    get,
    path = "/orphans",
    tag = "look",
    responses(
        (status = 200, description = "All of it", body = Orphans),
        (status = 409, description = "This daemon serves no workflows: not_served_here", body = ProblemBody, content_type = "application/problem+json"),
        Refused
    ),
)]
pub async fn orphans(
    Allowed { caller, .. }: Allowed<Decide>,
    State(api): State<Api>,
) -> Result<Json<Orphans>, Problem> {
    let outside = api.looks.outside()?;
    outside.kinds().iter().try_for_each(|kind| caller.must_see(kind))?;
    let _place = api.looks.take()?;
    let found = api.stopped.run_until_cancelled(outside.orphans()).await;
    Ok(Json(found.ok_or_else(stopping)?.map_err(Refusal::from)?))
}

fn stopping() -> Refusal {
    let why = "this daemon is stopping: ask the next";
    Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "stopping", why).retry_after(ASK_AGAIN_SECONDS)
}

impl From<Verified> for VerifiedShape {
    fn from(verified: Verified) -> Self {
        let Verified { workflow, kind, status, steps, .. } = verified;
        Self { workflow, kind, status, steps: steps.into_iter().map(VerifiedStepShape::from).collect() }
    }
}

impl From<VerifiedStep> for VerifiedStepShape {
    fn from(step: VerifiedStep) -> Self {
        let VerifiedStep { position, step, status, expected, sighting, says, verdict, .. } = step;
        Self { position, step, status, expected, sighting, says, verdict }
    }
}
