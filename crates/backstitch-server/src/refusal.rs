//! What does an answer look like when it is not the one that was hoped for?

use axum::Json;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use backstitch::{RollbackReport, WorkflowId};
use serde::Serialize;

/// A status, and a body that says what, where and what to do: `error` is a word for programs, `details` are for people.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Refusal {
    /// The HTTP status.
    #[serde(skip)]
    pub status: StatusCode,
    /// A short stable word, such as `no_gateway_available`.
    pub error: String,
    /// What happened: the original message, where a workflow failed.
    pub details: String,
    /// Which workflow. None: there was none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub workflow_id: Option<WorkflowId>,
    /// What became of each of its steps. None: nothing was taken back.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub report: Option<Box<RollbackReport>>,
    /// In how many seconds it is worth asking again. None: that is not a matter of time.
    #[serde(skip)]
    pub retry_after_seconds: Option<u32>,
}

impl Refusal {
    /// An answer without a workflow behind it.
    #[must_use]
    pub fn new(status: StatusCode, error: impl Into<String>, details: impl Into<String>) -> Self {
        Self {
            status,
            error: error.into(),
            details: details.into(),
            workflow_id: None,
            report: None,
            retry_after_seconds: None,
        }
    }

    /// The caller's request can't be understood.
    #[must_use]
    pub fn invalid(details: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "invalid_request", details)
    }

    /// The same, about this workflow.
    #[must_use]
    pub fn about(self, workflow: WorkflowId) -> Self {
        Self { workflow_id: Some(workflow), ..self }
    }

    /// The same, worth asking again in so many seconds.
    #[must_use]
    pub fn retry_after(self, seconds: u32) -> Self {
        Self { retry_after_seconds: Some(seconds), ..self }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let retry_after = self.retry_after_seconds;
        let mut response = (self.status, Json(self)).into_response();
        if let Some(seconds) = retry_after {
            response.headers_mut().insert(header::RETRY_AFTER, seconds.into());
        }
        response
    }
}
