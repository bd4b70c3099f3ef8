//! Can a gateway refuse stale and repeated callers, and does its client tell what happened?

use std::time::{Duration, Instant};

use backstitch_gateway::agent::{Agent, AgentError, Caller, ResetRequest, StartRequest};
use backstitch_gateway::verdict::{Classified, Verdict};
use uuid::Uuid;

use crate::sandboxes::{Edge, sandbox, stand_in_that_goes_on};

/// The attempt of one position of a workflow, forward and back.
fn callers(epoch: i64) -> (Caller, Caller) {
    let position = format!("{}/4", Uuid::new_v4());
    let caller = |direction| Caller { key: format!("{position}/{direction}"), epoch };
    (caller("run"), caller("compensate"))
}

async fn gateway() -> (Edge, Agent, StartRequest, ResetRequest) {
    let edge = sandbox(1).await;
    let agent = edge.sandbox.gateways[0].agent().unwrap();
    let (start, reset) = requests(&edge);
    (edge, agent, start, reset)
}

fn requests(edge: &Edge) -> (StartRequest, ResetRequest) {
    let hostname = edge.hostname();
    let organization_id = hostname.organization();
    (StartRequest { organization_id, hostname }, ResetRequest { organization_id })
}

#[tokio::test]
async fn a_started_gateway_serves_its_organisation_until_it_is_reset() {
    let (_edge, agent, start, reset) = gateway().await;
    let (run, compensate) = callers(1);
    agent.wait_until_it_answers(Duration::from_secs(5)).await.unwrap();
    assert_eq!(agent.state().await.unwrap().organization_id, None);
    for _ in 0..2 {
        let state = agent.start(&start, &run).await.unwrap();
        assert_eq!((state.organization_id, state.starts), (Some(start.organization_id), 1));
    }
    for _ in 0..2 {
        assert_eq!(agent.reset(&reset, &compensate).await.unwrap().organization_id, None);
    }
}

#[tokio::test]
async fn a_start_that_arrives_after_its_reset_is_refused() {
    let (_edge, agent, start, reset) = gateway().await;
    let (run, compensate) = callers(1);
    agent.reset(&reset, &compensate).await.unwrap();
    let error = agent.start(&start, &run).await.unwrap_err();
    assert!(matches!(error, AgentError::AlreadyReset { .. }), "{error:?}");
    assert_eq!(error.verdict(), Verdict::Rejected);
    assert_eq!(agent.state().await.unwrap().organization_id, None);
}

#[tokio::test]
async fn a_start_whose_organisation_was_stopped_does_not_come_to_life_again() {
    let (_edge, agent, start, reset) = gateway().await;
    let (run, _) = callers(1);
    let (stop, _) = callers(1);
    agent.start(&start, &run).await.unwrap();
    agent.reset(&reset, &stop).await.unwrap();
    let error = agent.start(&start, &run).await.unwrap_err();
    assert!(matches!(error, AgentError::AlreadyReset { .. }), "{error:?}");
}

#[tokio::test]
async fn a_stale_epoch_is_refused() {
    let (_edge, agent, start, reset) = gateway().await;
    let (run, compensate) = callers(7);
    agent.start(&start, &run).await.unwrap();
    for stale in [Caller { epoch: 6, ..run.clone() }, Caller { epoch: 1, ..compensate.clone() }] {
        let error = agent.reset(&reset, &stale).await.unwrap_err();
        assert!(matches!(error, AgentError::Stale { .. }), "{error:?}");
        assert_eq!(error.verdict(), Verdict::Rejected);
    }
    let state = agent.state().await.unwrap();
    assert_eq!((state.organization_id, state.refusals), (Some(start.organization_id), 2));
    agent.reset(&reset, &Caller { epoch: 8, ..compensate }).await.unwrap();
}

#[tokio::test]
async fn a_late_reset_does_not_hit_the_next_organisation_or_the_next_start() {
    let (edge, agent, start, reset) = gateway().await;
    let (run, compensate) = callers(1);
    agent.start(&start, &run).await.unwrap();
    let (other_start, other_reset) = requests(&edge);

    let (other_run, other_compensate) = callers(1);
    let error = agent.start(&other_start, &other_run).await.unwrap_err();
    assert!(matches!(error, AgentError::ServesAnother { .. }), "{error:?}");
    let error = agent.reset(&other_reset, &other_compensate).await.unwrap_err();
    assert!(matches!(error, AgentError::ServesAnother { .. }), "another organisation's reset: {error:?}");
    assert!(error.to_string().contains(&start.organization_id.to_string()), "it says whom: {error}");
    assert_eq!(agent.state().await.unwrap().organization_id, Some(start.organization_id));

    agent.reset(&reset, &compensate).await.unwrap();
    agent.start(&start, &callers(1).0).await.unwrap();
    let error = agent.reset(&reset, &compensate).await.unwrap_err();
    assert!(
        matches!(error, AgentError::Failed { .. }),
        "a repeated reset answers with what it left: {error:?}"
    );
    assert_eq!(agent.state().await.unwrap().organization_id, Some(start.organization_id));
}

#[tokio::test]
async fn what_a_failing_gateway_may_have_done_is_known() {
    let (mut edge, agent, start, reset) = gateway().await;
    let (run, compensate) = callers(1);

    edge.sandbox.gateways[0].restart(&["--refuse-start"]).await.unwrap();
    let error = agent.start(&start, &run).await.unwrap_err();
    assert!(matches!(error, AgentError::Refused { status: 422, .. }), "{error:?}");
    assert_eq!(error.verdict(), Verdict::Rejected);

    edge.sandbox.gateways[0].restart(&["--fail-start"]).await.unwrap();
    let error = agent.start(&start, &run).await.unwrap_err();
    assert!(matches!(error, AgentError::Failed { status: 500, .. }), "{error:?}");
    assert!(error.may_have_happened() && error.is_transient());
    assert_eq!(agent.state().await.unwrap().organization_id, Some(start.organization_id), "and it has");

    edge.sandbox.gateways[0].restart(&["--refuse-reset"]).await.unwrap();
    agent.start(&start, &run).await.unwrap();
    let error = agent.reset(&reset, &compensate).await.unwrap_err();
    assert!(matches!(error, AgentError::Refused { .. }), "{error:?}");
    assert!(!error.is_transient(), "such a gateway is quarantined");

    edge.sandbox.gateways[0].kill().unwrap();
    let error = agent.start(&start, &run).await.unwrap_err();
    assert!(matches!(error, AgentError::Unreachable { .. }), "{error:?}");
    assert!(error.is_transient() && !error.may_have_happened());
}

#[tokio::test]
async fn a_start_that_hangs_is_in_doubt() {
    let (mut edge, agent, start, _) = gateway().await;
    edge.sandbox.gateways[0].restart(&["--hang-start", "60"]).await.unwrap();
    let began = Instant::now();
    let error = agent.start(&start, &callers(1).0).await.unwrap_err();
    assert!(matches!(error, AgentError::NoAnswer { .. }), "{error:?}");
    assert!(error.is_transient() && error.may_have_happened());
    assert!(began.elapsed() < Duration::from_secs(7), "{:?}", began.elapsed());
    assert_eq!(agent.state().await.unwrap().organization_id, Some(start.organization_id));
}

#[tokio::test]
async fn an_answer_without_measure_is_not_read_to_its_end() {
    let nobody = r#"{"organization_id":null,"hostname":null,"starts":0,"resets":0,"refusals":0}"#;
    let agent = async |spaces| {
        let upstream = stand_in_that_goes_on(nobody, spaces).await.to_string().parse().unwrap();
        Agent::new(Agent::http().unwrap(), upstream)
    };
    assert_eq!(agent(1024).await.state().await.unwrap().organization_id, None);
    let error = agent(1024 * 1024).await.state().await.unwrap_err();
    assert!(matches!(error, AgentError::Failed { status: 200, .. }), "{error:?}");
    assert!(error.to_string().contains("longer than 64 KiB"), "{error}");
}

#[tokio::test]
async fn a_gateway_that_never_answers_is_given_up_in_bounded_time() {
    let (mut edge, agent, ..) = gateway().await;
    edge.sandbox.gateways[0].server().unwrap().freeze().unwrap();
    let began = Instant::now();
    let error = agent.wait_until_it_answers(Duration::from_secs(1)).await.unwrap_err();
    assert!(matches!(error, AgentError::NeverAnswered { .. }), "{error:?}");
    assert!(error.to_string().contains("within 1.0 s: no answer"), "{error}");
    assert!(!error.may_have_happened());
    assert!(began.elapsed() < Duration::from_secs(3));

    edge.sandbox.gateways[0].kill().unwrap();
    let error = agent.wait_until_it_answers(Duration::from_millis(200)).await.unwrap_err();
    assert!(error.to_string().contains("no connection"), "{error}");
    edge.sandbox.gateways[0].restart(&[]).await.unwrap();
    agent.wait_until_it_answers(Duration::from_secs(5)).await.unwrap();
}
