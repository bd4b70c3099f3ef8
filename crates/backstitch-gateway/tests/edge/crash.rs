//! What becomes of a start whose worker process dies in the middle?

use std::path::Path;
use std::process::Stdio;
use std::time::Instant;

use backstitch::{Database, WorkflowId};
use backstitch_gateway::request::Requested;
use serde_json::{Value, json};
use tokio::process::{Child, Command};
use tokio::task::JoinHandle;

use crate::platform::{Platform, TIMING, described_worker, failed, organization, started};

/// Set in the processes that are to be killed: what their worker is built from.
const WORKER: &str = "GATEWAY_TEST_WORKER";

/// Not a test of its own: the other tests run this program again with only this, as a worker that can be killed.
#[tokio::test]
async fn worker_process() {
    let Ok(given) = std::env::var(WORKER) else {
        return;
    };
    let given: Value = serde_json::from_str(&given).unwrap();
    let text = |name: &str| given[name].as_str().unwrap();
    let database = Database::connect(text("database")).await.unwrap();
    let worker = described_worker(database, text("edge")).timing(TIMING);
    let _worker = worker.state_directory(text("state")).start().await.unwrap();
    std::future::pending::<()>().await;
}

fn spawn_worker(platform: &Platform, state: &Path) -> Child {
    let given = json!({ "edge": platform.description(), "database": platform.database.url, "state": state });
    Command::new(std::env::current_exe().unwrap())
        .args(["crash::worker_process", "--exact", "--nocapture"])
        .env(WORKER, given.to_string())
        .stdout(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .unwrap()
}

/// Starts an organisation, and kills the worker (SIGKILL) once this step is under way: the start, and the answer to come.
async fn killed_at(platform: &Platform, state: &Path, step: &str) -> (WorkflowId, JoinHandle<Requested>) {
    let mut victim = spawn_worker(platform, state);
    let (start, starting) = platform.begin(organization()).await;
    platform.step_is(start, step, "in_progress").await;
    victim.kill().await.unwrap();
    (start, starting)
}

#[tokio::test]
async fn a_start_whose_worker_is_killed_is_taken_back_by_the_next() {
    let mut platform = Platform::of(1).await;
    platform.edge.sandbox.gateways[0].restart(&["--hang-start", "60"]).await.unwrap();
    let state = tempfile::tempdir().unwrap();
    let (start, starting) = killed_at(&platform, state.path(), "handshake").await;
    let organization = platform.client.workflow(start).await.unwrap().unwrap().input.unwrap();
    let organization: Value = organization.decode().unwrap();
    let organization = organization["organization"].as_str().unwrap().parse().unwrap();
    assert!(platform.edge.sites().contains(&format!("org-{organization}.conf")), "half done");

    let began = Instant::now();
    let worker =
        platform.worker_over(platform.config()).await.state_directory(state.path()).start().await.unwrap();
    let unfinished = failed(starting.await.unwrap());
    println!("from the next worker's start to everything taken back: {:?}", began.elapsed());
    assert_eq!(unfinished.error.failure.code, "orphaned");
    assert_eq!(unfinished.report.owed().count(), 0, "{}", unfinished.report);
    platform.assert_nothing_left(organization).await;
    assert_eq!(platform.stats().await.ready, 1);

    // The start that the dead worker sent is refused if it comes again, and the gateway serves the next organisation.
    platform.edge.sandbox.gateways[0].restart(&[]).await.unwrap();
    started(platform.start(organization).await);
    worker.shut_down().await;
}
