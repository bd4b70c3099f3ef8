//! With which errors did workflows fail, and how often each, for whoever asks over HTTP?
#![expect(unused_qualifications, reason = "the code that utoipa generates")]

use axum::Json;
use axum::extract::State;
use backstitch::{Client, FailureGroup, Failures, Filter, WorkflowId};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::params::{Asked, Text, time};
use crate::access::{Allowed, Look};
use crate::openapi::Refused;
use crate::problem::Problem;
use crate::refusal::Refusal;

/// The most errors of one answer. Each is told in up to 4 KiB, so that is as much as a page of whole workflows.
const ERRORS_MAX: u32 = 10_000;

/// Where to look, and how many errors to tell.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct Grouped {
    /// Only of this kind
    #[param(value_type = Option<String>)]
    kind: Option<Text>,
    /// Only of this queue
    #[param(value_type = Option<String>)]
    queue: Option<Text>,
    /// Only of workflows asked for at this time or later
    #[serde(default, deserialize_with = "time")]
    since: Option<DateTime<Utc>>,
    /// Only of workflows asked for before this time
    #[serde(default, deserialize_with = "time")]
    until: Option<DateTime<Utc>>,
    /// At most so many, the most frequent first
    #[serde(default = "usual_limit")]
    #[param(minimum = 1, maximum = 10000)]
    limit: u32,
}

fn usual_limit() -> u32 {
    50
}

/// Failures by error, and how far back they were looked for.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Errors)]
pub struct ErrorsShape {
    /// So many workflows were looked at, the newest first, of the kinds that exist for the token
    looked_at: i64,
    /// The newest 100,000 of every kind were looked at: older ones may have failed too
    is_bounded: bool,
    /// When the oldest of them was asked for. Null: there was none
    oldest_at: Option<DateTime<Utc>>,
    /// The most frequent first
    errors: Vec<ErrorShape>,
}

/// Workflows of one kind that failed with the same code.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ErrorGroup)]
struct ErrorShape {
    /// The error's code
    code: String,
    /// The workflows' kind
    kind: String,
    /// How many
    workflows: i64,
    /// When the first of them ended; or, still on its way back, was asked for
    first_at: DateTime<Utc>,
    /// When the last did
    last_at: DateTime<Utc>,
    /// The newest of them
    #[schema(value_type = Uuid)]
    example: WorkflowId,
    /// What that one said
    message: String,
}

/// See which errors workflows failed with, and how often each
///
/// Of what was taken back, and of what is stuck on its way back.
#[utoipa::path(
    get,
    path = "/errors",
    tag = "look",
    params(Grouped),
    responses((status = 200, description = "Those of the kinds that exist for the token", body = ErrorsShape), Refused),
)]
pub async fn errors(
    Allowed { caller, .. }: Allowed<Look>,
    State(client): State<Client>,
    Asked(grouped): Asked<Grouped>,
) -> Result<Json<ErrorsShape>, Problem> {
    let Grouped { kind, queue, since, until, limit } = grouped;
    if !(1..=ERRORS_MAX).contains(&limit) {
        return Err(Refusal::invalid(format!("limit: give 1 to {ERRORS_MAX}")).into());
    }
    let (kind, queue) = (kind.map(Text::into_string), queue.map(Text::into_string));
    let filter = Filter { kind, queue, since, until, limit, ..Filter::default() };
    Ok(Json(client.failures(filter, caller.kinds()).await?.into()))
}

impl From<Failures> for ErrorsShape {
    fn from(failures: Failures) -> Self {
        let Failures { looked_at, is_bounded, oldest_at, errors, .. } = failures;
        Self { looked_at, is_bounded, oldest_at, errors: errors.into_iter().map(ErrorShape::from).collect() }
    }
}

impl From<FailureGroup> for ErrorShape {
    fn from(group: FailureGroup) -> Self {
        let FailureGroup { code, kind, workflows, first_at, last_at, example, message, .. } = group;
        Self { code, kind, workflows, first_at, last_at, example, message }
    }
}
