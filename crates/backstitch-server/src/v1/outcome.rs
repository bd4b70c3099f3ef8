//! What is whoever waited for a workflow told? How a workflow's end is mapped to HTTP is decided here alone.

use axum::http::StatusCode;
use backstitch::{Ending, Json, Unfinished, WorkflowId, redacted};
use serde::Serialize;
use utoipa::ToSchema;

use crate::problem::Problem;
use crate::refusal::Refusal;

/// What an error of a kind means over HTTP.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeclaredError {
    /// The kind.
    pub kind: &'static str,
    /// The code of its original error, such as `no_gateway_available`.
    pub code: &'static str,
    /// The status that it is told with.
    pub status: StatusCode,
    /// In how many seconds it is worth asking for another workflow. None: that is not a matter of time.
    pub retry_after_seconds: Option<u32>,
}

/// A workflow that completed.
#[derive(Debug, Serialize, ToSchema)]
pub struct Completed {
    #[schema(value_type = Uuid)]
    workflow_id: WorkflowId,
    /// Always `completed`
    status: &'static str,
    /// What it ended with
    #[schema(value_type = Value)]
    output: Json,
}

/// What the end of a workflow of this kind is told as.
pub fn told(
    kind: &str,
    workflow_id: WorkflowId,
    ending: Ending<Json>,
    declared: &[DeclaredError],
) -> Result<Completed, Problem> {
    match ending {
        Ending::Completed(output) => {
            Ok(Completed { workflow_id, status: "completed", output: redacted(&output) })
        }
        Ending::Compensated(unfinished) => Err(compensated(kind, *unfinished, declared)),
        Ending::NeedsAttention(unfinished) => {
            Err(failed(StatusCode::INTERNAL_SERVER_ERROR, None, "needs_attention", *unfinished))
        }
        Ending::Abandoned(unfinished) => {
            Err(failed(StatusCode::INTERNAL_SERVER_ERROR, None, "abandoned", *unfinished))
        }
    }
}

fn compensated(kind: &str, unfinished: Unfinished, declared: &[DeclaredError]) -> Problem {
    let code = &*unfinished.error.failure.code;
    let known = declared.iter().find(|error| error.kind == kind && error.code == code);
    let (status, again) = known
        .map_or((StatusCode::UNPROCESSABLE_ENTITY, None), |known| (known.status, known.retry_after_seconds));
    failed(status, again, "compensated", unfinished)
}

fn failed(status: StatusCode, again: Option<u32>, ending: &'static str, unfinished: Unfinished) -> Problem {
    let Unfinished { workflow, error, report } = unfinished;
    let failure = &error.failure;
    let refusal = Refusal::new(status, failure.code.clone(), failure.message.clone()).about(workflow);
    let refusal = Refusal { report: Some(Box::new(report)), retry_after_seconds: again, ..refusal };
    Problem::failed(refusal, ending, error)
}

#[cfg(test)]
mod tests {
    use axum::http::header;
    use axum::response::IntoResponse;
    use backstitch::{Cause, RollbackReport, WorkflowError};

    use super::*;

    /// The status, and when to ask again.
    fn told_as(
        kind: &str,
        code: &'static str,
        ending: fn(Box<Unfinished>) -> Ending<Json>,
    ) -> (u16, Option<String>) {
        let declared = [DeclaredError {
            kind: "gateway.start",
            code: "no_gateway_available",
            status: StatusCode::SERVICE_UNAVAILABLE,
            retry_after_seconds: Some(5),
        }];
        let error = WorkflowError::new(code, "all 3 gateways are in use");
        let report = RollbackReport { cause: Cause::Failed(error.clone()), steps: Vec::new() };
        let workflow = WorkflowId(uuid::Uuid::nil());
        let unfinished = Box::new(Unfinished { workflow, error, report });
        let problem = told(kind, workflow, ending(unfinished), &declared).expect_err("it did not complete");
        let response = problem.into_response();
        let again =
            response.headers().get(header::RETRY_AFTER).map(|value| value.to_str().unwrap().to_owned());
        (response.status().as_u16(), again)
    }

    #[test]
    fn an_error_has_the_status_that_its_kind_declares() {
        let code = "no_gateway_available";
        assert_eq!(told_as("gateway.start", code, Ending::Compensated), (503, Some("5".to_owned())));
        assert_eq!(told_as("gateway.start", "handshake_refused", Ending::Compensated), (422, None));
        assert_eq!(told_as("report.build", code, Ending::Compensated), (422, None), "another kind's word");
        assert_eq!(told_as("gateway.start", code, Ending::NeedsAttention), (500, None), "somebody must look");
    }
}
