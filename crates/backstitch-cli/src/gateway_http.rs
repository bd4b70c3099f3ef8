//! What does the platform get when it asks for a gateway?

use std::time::Duration;

use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::routing::post;
use axum::{Json, Router};
use backstitch::{Client, Failure, Unfinished, Workflow};
use backstitch_gateway::identifiers::{Domain, Hostname, OrganizationId};
use backstitch_gateway::request::{self, RequestError, Requested};
use backstitch_gateway::verdict::Classified;
use backstitch_gateway::{StartGateway, StopGateway};
use backstitch_server::{DeclaredError, Refusal, read_json};
use serde::{Deserialize, Serialize};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// In how many seconds a caller that found no gateway should ask again: a stop frees one within seconds.
const ASK_AGAIN_SECONDS: u32 = 5;

/// The kinds that these routes ask for.
pub const KINDS: [&str; 2] = [StartGateway::KIND, StopGateway::KIND];

/// What the gateway routes stand on.
#[derive(Debug, Clone)]
pub struct GatewayRoutes {
    pub client: Client,
    pub domain: Domain,
    /// After this a caller is told that the workflow is still under way.
    pub answer_within: Duration,
    /// The worker has stopped: nothing here ends any more.
    pub stopped: CancellationToken,
}

/// What the platform sends.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Body {
    organization_id: OrganizationId,
}

/// What it gets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Answer {
    /// Under which name the organisation's gateway is, or was, served.
    pub gateway_hostname: String,
}

/// Which way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    Start,
    Stop,
}

/// `POST /gateway/start` and `POST /gateway/stop`.
pub fn routes(state: GatewayRoutes) -> Router {
    Router::new()
        .route("/gateway/start", post(|state, request| answer(Way::Start, state, request)))
        .route("/gateway/stop", post(|state, request| answer(Way::Stop, state, request)))
        .with_state(state)
}

/// What the errors of the gateway's kinds mean to whoever waits for their workflows over HTTP.
pub fn declared_errors() -> Vec<DeclaredError> {
    vec![DeclaredError {
        kind: StartGateway::KIND,
        code: "no_gateway_available",
        status: StatusCode::SERVICE_UNAVAILABLE,
        retry_after_seconds: Some(ASK_AGAIN_SECONDS),
    }]
}

async fn answer(
    way: Way,
    State(routes): State<GatewayRoutes>,
    request: Request,
) -> Result<Json<Answer>, Refusal> {
    let Body { organization_id } = read_json(request).await?;
    let deadline = Instant::now() + routes.answer_within;
    let asked = async {
        match way {
            Way::Start => request::start(&routes.client, organization_id, deadline).await,
            Way::Stop => request::stop(&routes.client, organization_id, deadline).await,
        }
    };
    let requested = tokio::select! {
        requested = asked => requested.map_err(|error| unanswered(&error))?,
        () = routes.stopped.cancelled() => return Err(stopping()),
    };
    let hostname = Hostname::new(organization_id, routes.domain);
    told(requested, &hostname, routes.answer_within).map(Json)
}

/// How what a request came to is told to the platform.
fn told(requested: Requested, hostname: &Hostname, answer_within: Duration) -> Result<Answer, Refusal> {
    match requested {
        Requested::Started { hostname, .. } | Requested::Active { hostname, .. } => {
            Ok(Answer { gateway_hostname: hostname.to_string() })
        }
        Requested::Stopped | Requested::NothingToStop => {
            Ok(Answer { gateway_hostname: hostname.to_string() })
        }
        Requested::NoGatewayAvailable(unfinished) => {
            Err(failed(StatusCode::SERVICE_UNAVAILABLE, *unfinished).retry_after(ASK_AGAIN_SECONDS))
        }
        Requested::Conflict { workflow, message } => {
            let details = format!("{message}; ask again when that has ended");
            Err(Refusal::new(StatusCode::CONFLICT, "conflict", details).about(workflow))
        }
        Requested::Failed(unfinished) | Requested::NeedsAttention(unfinished) => {
            Err(failed(StatusCode::INTERNAL_SERVER_ERROR, *unfinished))
        }
        Requested::StillRunning(workflow) => {
            let details = format!(
                "it is still under way after {} s, and goes on; ask again to wait for the same workflow",
                answer_within.as_secs()
            );
            Err(Refusal::new(StatusCode::GATEWAY_TIMEOUT, "still_under_way", details).about(workflow))
        }
    }
}

/// The original error, and what became of each step.
fn failed(status: StatusCode, unfinished: Unfinished) -> Refusal {
    let Unfinished { workflow, error, report } = unfinished;
    let refusal = Refusal::new(status, error.failure.code, error.failure.message).about(workflow);
    Refusal { report: Some(Box::new(report)), ..refusal }
}

fn unanswered(error: &RequestError) -> Refusal {
    let unavailable = match error {
        RequestError::Deadline => true,
        RequestError::Engine(error) => error.is_transient(),
        RequestError::Pool(error) => error.is_transient(),
    };
    let word = if unavailable { "database_unavailable" } else { "internal" };
    let details = Failure::from_error(word, error).message;
    Refusal::new(
        StatusCode::INTERNAL_SERVER_ERROR,
        word,
        format!("{details}; asking again joins what was begun"),
    )
}

fn stopping() -> Refusal {
    let details = "this daemon is stopping; what was begun goes on with the next: ask it for the same";
    Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "stopping", details).retry_after(ASK_AGAIN_SECONDS)
}

#[cfg(test)]
mod tests {
    use backstitch::{Cause, RollbackReport, WorkflowError, WorkflowId};

    use super::*;

    const ORGANIZATION: &str = "0193b2f0-7c1e-7d55-a3f0-2a7f5c1e9b10";

    fn hostname() -> Hostname {
        format!("org-{ORGANIZATION}.collab.test").parse().unwrap()
    }

    fn unfinished(code: &'static str, message: &str) -> Box<Unfinished> {
        let error = WorkflowError::new(code, message);
        let report = RollbackReport { cause: Cause::Failed(error.clone()), steps: Vec::new() };
        Box::new(Unfinished { workflow: WorkflowId(uuid::Uuid::nil()), error, report })
    }

    fn refused(requested: Requested) -> Refusal {
        told(requested, &hostname(), Duration::from_secs(7)).expect_err("it did not come about")
    }

    #[test]
    fn what_is_so_answers_with_the_hostname() {
        let answer = told(Requested::Stopped, &hostname(), Duration::ZERO).unwrap();
        let expected = format!(r#"{{"gateway_hostname":"org-{ORGANIZATION}.collab.test"}}"#);
        assert_eq!(serde_json::to_string(&answer).unwrap(), expected);
    }

    #[test]
    fn an_empty_pool_is_503_and_worth_asking_again() {
        let why = unfinished("no_gateway_available", "all 3 gateways are in use");
        let refusal = refused(Requested::NoGatewayAvailable(why));
        assert_eq!(refusal.status, StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(refusal.error, "no_gateway_available");
        assert_eq!(refusal.retry_after_seconds, Some(ASK_AGAIN_SECONDS));
    }

    #[test]
    fn a_failure_is_500_with_the_original_error_and_the_report() {
        let why = || unfinished("handshake_refused", "the gateway said no");
        for requested in [Requested::Failed(why()), Requested::NeedsAttention(why())] {
            let refusal = refused(requested);
            assert_eq!(refusal.status, StatusCode::INTERNAL_SERVER_ERROR);
            let body = serde_json::to_value(&refusal).unwrap();
            assert_eq!(body["error"], "handshake_refused");
            assert_eq!(body["details"], "the gateway said no");
            assert_eq!(body["report"]["cause"]["cause"], "failed");
            assert_eq!(body["workflow_id"], "00000000-0000-0000-0000-000000000000");
        }
    }

    #[test]
    fn a_start_and_a_stop_in_each_others_way_are_409() {
        let workflow = WorkflowId(uuid::Uuid::nil());
        let refusal = refused(Requested::Conflict { workflow, message: "a stop is under way".to_owned() });
        assert_eq!((refusal.status, refusal.error.as_str()), (StatusCode::CONFLICT, "conflict"));
        assert!(refusal.details.contains("a stop is under way"));
    }

    #[test]
    fn what_takes_too_long_is_504_and_names_its_workflow() {
        let refusal = refused(Requested::StillRunning(WorkflowId(uuid::Uuid::nil())));
        assert_eq!(
            (refusal.status, refusal.error.as_str()),
            (StatusCode::GATEWAY_TIMEOUT, "still_under_way")
        );
        assert!(refusal.workflow_id.is_some() && refusal.details.contains("after 7 s"));
    }

    #[test]
    fn a_database_that_does_not_answer_is_500() {
        let refusal = unanswered(&RequestError::Deadline);
        assert_eq!(refusal.status, StatusCode::INTERNAL_SERVER_ERROR);
        assert_eq!(refusal.error, "database_unavailable");
    }
}
