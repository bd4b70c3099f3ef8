//! Is the daemon alive, and can it do its work?

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use backstitch::Client;
use serde_json::json;

use crate::refusal::Refusal;

/// After how many seconds a daemon that is not ready is worth asking again: recovery looks that often.
const ASK_AGAIN_SECONDS: u32 = 1;

/// `GET /health/live`: the process answers. `GET /health/ready`, and `/health`: the database answers and the worker of
/// this process holds its lease, so workflows move.
pub fn health(client: Client) -> Router {
    Router::new()
        .route("/health/live", get(|| async { well("live") }))
        .route("/health/ready", get(ready))
        .route("/health", get(ready))
        .with_state(client)
}

async fn ready(State(client): State<Client>) -> Response {
    match client.holds_lease().await {
        Ok(true) => well("ready"),
        Ok(false) => unwell(
            "no_lease",
            "the worker of this process holds no lease: it takes up no work until its heartbeat gets through",
        ),
        Err(error) => unwell("database_unavailable", &error.to_string()),
    }
}

fn well(status: &str) -> Response {
    Json(json!({ "status": status })).into_response()
}

fn unwell(error: &str, details: &str) -> Response {
    Refusal::new(StatusCode::SERVICE_UNAVAILABLE, error, details)
        .retry_after(ASK_AGAIN_SECONDS)
        .into_response()
}
