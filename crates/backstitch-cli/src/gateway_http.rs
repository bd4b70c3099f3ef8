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
use backstitch_server::{DeclaredError, Places, Refusal, read_json};
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
    /// That of the API: callers then never take a connection that the worker needs.
    pub client: Client,
    /// Whoever waits here has one of the places of all who wait.
    pub places: Places,
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
    let _place = routes.places.wait()?;
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
    let refusal = match error {
        RequestError::Engine(error) => Refusal::of_engine(error),
        RequestError::Pool(why_not) if !why_not.is_transient() => {
            let details = Failure::from_error("", why_not).message;
            Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", details)
        }
        RequestError::Pool(_) | RequestError::Deadline => Refusal::without_database(error),
    };
    Refusal { details: format!("{}; asking again joins what was begun", refusal.details), ..refusal }
}

fn stopping() -> Refusal {
    let details = "this daemon is stopping; what was begun goes on with the next: ask it for the same";
    Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "stopping", details).retry_after(ASK_AGAIN_SECONDS)
}

#[cfg(test)]
mod tests {
    use backstitch::{Cause, Database, Error, RollbackReport, WorkflowError, WorkflowId};
    use backstitch_server::Metrics;

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
    fn a_database_that_does_not_answer_is_503_and_what_it_said_is_nobodys_business() {
        let said = || sqlx::Error::Configuration("role postgres of 10.0.0.7".into());
        let gone = || sqlx::Error::Io(std::io::Error::other("10.0.0.7 is gone"));
        for (error, status, code) in [
            (RequestError::Deadline, 503, "database_unavailable"),
            (RequestError::Pool(gone().into()), 503, "database_unavailable"),
            (Error::Database { doing: "asking", source: gone() }.into(), 503, "database_unavailable"),
            (Error::Database { doing: "asking", source: said() }.into(), 500, "internal"),
        ] {
            let refusal = unanswered(&error);
            assert_eq!((refusal.status.as_u16(), refusal.error.as_str()), (status, code), "{error}");
            assert_eq!(refusal.retry_after_seconds.is_some(), status == 503);
            assert!(refusal.details.ends_with("; asking again joins what was begun"));
            assert!(!refusal.details.contains("10.0.0.7"), "{}", refusal.details);
        }
    }

    #[tokio::test]
    async fn whoever_waits_for_a_gateway_has_one_of_the_places_of_all_who_wait() {
        let places = Places::new(Metrics::new());
        let taken: Vec<_> = std::iter::from_fn(|| places.wait().ok()).collect();
        let nowhere = Database::connect_lazily(sqlx::postgres::PgConnectOptions::new().socket("/nowhere"));
        let routes = GatewayRoutes {
            client: Client::new(nowhere),
            places,
            domain: "collab.test".parse().expect("a domain"),
            answer_within: Duration::ZERO,
            stopped: CancellationToken::new(),
        };
        let ask = async || {
            let request = Request::new(format!(r#"{{"organization_id":"{ORGANIZATION}"}}"#).into());
            answer(Way::Start, State(routes.clone()), request).await.expect_err("it can't").error
        };
        assert_eq!(ask().await, "too_many_waits");
        drop(taken);
        assert_eq!(ask().await, "database_unavailable", "it is asked for");
    }
}
