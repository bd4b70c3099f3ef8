//! How is a refusal told under `/v1`? As `application/problem+json` (RFC 9457).
//!
//! What went wrong is a [`Refusal`] everywhere; only its shape differs. The routes that are older keep theirs.

use axum::Json;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use backstitch::{Error, RollbackReport, WorkflowError, WorkflowId};
use serde::Serialize;
use utoipa::ToSchema;

use crate::refusal::Refusal;

/// The media type of RFC 9457.
pub const PROBLEM_JSON: &str = "application/problem+json";

/// Before every code: a name, not a page to open.
const TYPE: &str = "urn:backstitch:problem:";

/// A refusal under `/v1`.
#[derive(Debug)]
pub struct Problem(Box<Told>);

#[derive(Debug)]
struct Told {
    refusal: Refusal,
    /// None: no workflow failed.
    failed: Option<Failed>,
}

#[derive(Debug)]
struct Failed {
    /// How it ended, which is what kind of problem this is.
    ending: &'static str,
    error: WorkflowError,
}

/// What a refusal says under `/v1`.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Problem)]
pub struct ProblemBody {
    /// Which kind of problem: `urn:backstitch:problem:` and a code, or how a workflow that failed ended: `compensated`, `needs_attention` or `abandoned`
    r#type: String,
    /// The same for people, in few words
    title: String,
    /// The HTTP status
    status: u16,
    /// What happened, where, and what to do
    detail: String,
    /// A stable word for programs; where a workflow failed, the code of its original error
    code: String,
    /// Which workflow
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<uuid::Uuid>)]
    workflow_id: Option<WorkflowId>,
    /// The original error of a workflow that failed: `failure.code`, `failure.message`, and its `step`
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    error: Option<WorkflowError>,
    /// What became of each of its steps: `cause` and `steps`
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    report: Option<Box<RollbackReport>>,
}

impl Problem {
    /// A workflow failed; the refusal has its original message, its id and the report.
    pub fn failed(refusal: Refusal, ending: &'static str, error: WorkflowError) -> Self {
        Self(Box::new(Told { refusal, failed: Some(Failed { ending, error }) }))
    }

    /// What it says.
    pub fn into_body(self) -> ProblemBody {
        self.told().2
    }

    /// The status, in how many seconds it is worth asking again, and what it says.
    fn told(self) -> (StatusCode, Option<u32>, ProblemBody) {
        let Told { refusal, failed } = *self.0;
        let Refusal { status, error: code, details: detail, workflow_id, report, retry_after_seconds } =
            refusal;
        let class = failed.as_ref().map_or(code.as_str(), |failed| failed.ending);
        let body = ProblemBody {
            r#type: format!("{TYPE}{class}"),
            title: title(class),
            status: status.as_u16(),
            workflow_id,
            error: failed.map(|failed| failed.error),
            report,
            detail,
            code,
        };
        (status, retry_after_seconds, body)
    }
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Self {
        Self(Box::new(Told { refusal, failed: None }))
    }
}

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        Refusal::of_engine(&error).into()
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let (status, retry_after_seconds, body) = self.told();
        let media_type = [(header::CONTENT_TYPE, PROBLEM_JSON)];
        Refusal::answer(status, retry_after_seconds, (media_type, Json(body)))
    }
}

/// A code is a title with underscores.
fn title(class: &str) -> String {
    let mut words = class.replace('_', " ");
    if let Some(first) = words.get_mut(..1) {
        first.make_ascii_uppercase();
    }
    words
}
