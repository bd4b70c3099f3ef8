//! What does an answer look like when it is not the one that was hoped for?

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use backstitch::{Error, Failure, RollbackReport, WorkflowId};
use serde::Serialize;

/// In how many seconds a database that did not answer is worth another try: recovery looks that often.
const DATABASE_AGAIN_SECONDS: u32 = 1;

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

    /// What the engine said, for whoever asked. What is nobody's business but ours is logged instead.
    #[must_use]
    pub fn of_engine(error: &Error) -> Self {
        let details = Failure::from_error("", error).message;
        match error {
            Error::InvalidInput { .. } | Error::Refused(_) => Self::invalid(details),
            Error::KeyTaken { first, .. } => {
                Self::new(StatusCode::CONFLICT, "key_taken", details).about(*first)
            }
            Error::NotFound(workflow) => Self::no_workflow(*workflow),
            // Not 5xx: what lies between would ask again, and it is the same each time.
            Error::LookTooSlow { .. } => Self::new(StatusCode::BAD_REQUEST, "look_too_slow", details),
            Error::TooManyLooks { .. } => {
                Self::new(StatusCode::SERVICE_UNAVAILABLE, "too_many_looks", details)
                    .retry_after(DATABASE_AGAIN_SECONDS)
            }
            error if error.is_transient() => Self::without_database(error),
            error => {
                tracing::error!(%error, "a request could not be answered");
                let why = "this is a fault of the daemon or its database; its log says more";
                Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", why)
            }
        }
    }

    /// The database did not answer. What it said instead is logged.
    #[must_use]
    pub fn without_database(error: &dyn std::error::Error) -> Self {
        tracing::warn!(%error, "a request could not be answered");
        let why = "the database does not answer: ask again, with the same key where there is one";
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "database_unavailable", why)
            .retry_after(DATABASE_AGAIN_SECONDS)
    }

    /// There is none, or none that the caller may know of: the two can't be told apart.
    #[must_use]
    pub fn no_workflow(workflow: WorkflowId) -> Self {
        let why = format!("there is no workflow {workflow}");
        Self::new(StatusCode::NOT_FOUND, "workflow_not_found", why).about(workflow)
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

impl Refusal {
    /// Says in headers what belongs there.
    pub(crate) fn answer(
        status: StatusCode,
        retry_after_seconds: Option<u32>,
        body: impl IntoResponse,
    ) -> Response {
        let mut response = (status, body).into_response();
        if let Some(seconds) = retry_after_seconds {
            response.headers_mut().insert(header::RETRY_AFTER, seconds.into());
        }
        if status == StatusCode::UNAUTHORIZED {
            response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        Self::answer(self.status, self.retry_after_seconds, Json(self))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_look_that_is_too_slow_is_not_asked_for_again_and_one_too_many_is() {
        let (doing, after) = ("listing workflows", Duration::from_millis(3500));
        let slow = Refusal::of_engine(&Error::LookTooSlow { doing, after });
        assert_eq!((slow.status, slow.error.as_str()), (StatusCode::BAD_REQUEST, "look_too_slow"));
        assert_eq!(slow.retry_after_seconds, None);
        assert!(slow.details.contains("since"), "it says what to bound: {}", slow.details);
        let many = Refusal::of_engine(&Error::TooManyLooks { doing, at_once: 3, after });
        assert_eq!((many.status, many.error.as_str()), (StatusCode::SERVICE_UNAVAILABLE, "too_many_looks"));
        assert_eq!(many.retry_after_seconds, Some(1));
    }
}
