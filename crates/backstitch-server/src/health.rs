//! Is the daemon alive, and can it do its work?

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use backstitch::Pulse;
use serde_json::json;

use crate::refusal::Refusal;

/// After how many seconds a daemon that is not ready is worth asking again: recovery looks that often.
const ASK_AGAIN_SECONDS: u32 = 1;

/// `GET /health/live`: the process answers. `GET /health/ready`, and `/health`: the worker of this process holds its lease,
/// so the database answers and workflows move.
pub fn health(pulse: Pulse) -> Router {
    Router::new()
        .route("/health/live", get(|| async { well("live") }))
        .route("/health/ready", get(ready))
        .route("/health", get(ready))
        .with_state(pulse)
}

async fn ready(State(pulse): State<Pulse>) -> Response {
    if pulse.holds_lease() {
        return well("ready");
    }
    let details =
        "the worker of this process holds no lease: it takes up no work until its heartbeat gets through";
    Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "no_lease", details)
        .retry_after(ASK_AGAIN_SECONDS)
        .into_response()
}

fn well(status: &str) -> Response {
    Json(json!({ "status": status })).into_response()
}
