//! What may an operator decide about a whole kind over HTTP?

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use backstitch::{Answered, Client};
use serde::Serialize;
use utoipa::ToSchema;

use super::decide::Decision;
use super::params::{OfKind, Sent};
use crate::access::{Allowed, Caller, Decide};
use crate::openapi::Refused;
use crate::problem::{Problem, ProblemBody};
use crate::refusal::Refusal;

/// It is so, or was so already.
#[derive(Debug, Serialize, ToSchema)]
pub struct KindAccepted {
    /// Which kind
    kind: String,
    /// Always `accepted`
    #[schema(value_type = String)]
    answer: Answered,
}

/// Pause a kind
///
/// Nothing of it is taken up until it is resumed, what is asked for later neither; what is under way goes on. The first pause
/// counts, so it may be sent again.
#[utoipa::path(
    post,
    path = "/kinds/{kind}/pause",
    tag = "decide",
    params(("kind" = String, Path, description = "Which kind", min_length = 1, max_length = 100)),
    request_body = Decision,
    responses((status = 200, description = "It is so, or was so already", body = KindAccepted), Refused),
)]
pub async fn pause_kind(
    Allowed { caller, .. }: Allowed<Decide>,
    State(client): State<Client>,
    OfKind(kind): OfKind,
    Sent(decision): Sent<Decision>,
) -> Result<Json<KindAccepted>, Problem> {
    let (operate, kind) = (decision.operate(&client)?, kind.as_str());
    caller.must_see(kind)?;
    operate.pause_kind(kind).await?;
    Ok(accepted(&caller, kind))
}

/// Resume a kind
///
/// What waits of it is taken up again. Sent again, it answers that the kind is not paused.
#[utoipa::path(
    post,
    path = "/kinds/{kind}/resume",
    tag = "decide",
    params(("kind" = String, Path, description = "Which kind", min_length = 1, max_length = 100)),
    request_body = Decision,
    responses(
        (status = 200, description = "It is so", body = KindAccepted),
        (status = 409, description = "It is not paused: is_not_paused", body = ProblemBody, content_type = "application/problem+json"),
        Refused
    ),
)]
pub async fn resume_kind(
    Allowed { caller, .. }: Allowed<Decide>,
    State(client): State<Client>,
    OfKind(kind): OfKind,
    Sent(decision): Sent<Decision>,
) -> Result<Json<KindAccepted>, Problem> {
    let (operate, kind) = (decision.operate(&client)?, kind.as_str());
    caller.must_see(kind)?;
    if operate.resume_kind(kind).await? {
        return Ok(accepted(&caller, kind));
    }
    let why_not = Answered::IsNotPaused;
    let why = format!("the kind {kind:?} {why_not}");
    Err(Refusal::new(StatusCode::CONFLICT, why_not.as_str(), why).into())
}

fn accepted(caller: &Caller, kind: &str) -> Json<KindAccepted> {
    tracing::info!(workflow.kind = kind, token.name = caller.name(), "an operator decided about a kind");
    Json(KindAccepted { kind: kind.to_owned(), answer: Answered::Accepted })
}
