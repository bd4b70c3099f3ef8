//! What becomes of a start whose worker process dies in the middle?
#![allow(clippy::unwrap_used, reason = "a test that fails has nothing better to do")]

mod edge;

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Instant;

use backstitch::{Client, Database, Plaintext, WorkflowId};
use backstitch_gateway::networks::AllowedNetworks;
use backstitch_gateway::nginx::NginxConfig;
use backstitch_gateway::powerdns::{PowerDnsConfig, REQUEST_TIMEOUT};
use backstitch_gateway::request::{self, Requested};
use backstitch_gateway::{ANSWER_PATIENCE, Edge, EdgeConfig};
use edge::platform::{Platform, TIMING, failed, organization, soon, started};
use serde_json::{Value, json};
use tokio::process::{Child, Command};

/// Set in the processes that are to be killed: what their worker is built from.
const WORKER: &str = "GATEWAY_TEST_WORKER";

/// Not a test of its own: the other tests run this program again with only this, as a worker that can be killed.
#[tokio::test]
async fn worker_process() {
    let Ok(given) = std::env::var(WORKER) else {
        return;
    };
    let given: Value = serde_json::from_str(&given).unwrap();
    let text = |name: &str| given[name].as_str().unwrap().to_owned();
    let path = |name: &str| PathBuf::from(text(name));
    let listen = text("edge").parse().unwrap();
    let config = EdgeConfig {
        powerdns: PowerDnsConfig {
            url: text("powerdns").parse().unwrap(),
            api_key: Plaintext::new(text("key")),
            zone: text("zone").parse().unwrap(),
            request_timeout: REQUEST_TIMEOUT,
        },
        nginx: NginxConfig {
            binary: path("binary"),
            prefix: path("prefix"),
            conf: path("conf"),
            error_log: path("error_log"),
            pid_file: path("pid_file"),
            sites: path("sites"),
            state: path("nginx_state"),
            listen,
            probe: listen,
            allowed_networks: AllowedNetworks::default(),
        },
        address: listen.ip(),
        answer_patience: ANSWER_PATIENCE,
    };
    let database = Database::connect(&text("database")).await.unwrap();
    let edge = Edge::new(config, database.pool().clone()).unwrap();
    let worker = backstitch_gateway::worker(database, edge).timing(TIMING);
    let _worker = worker.state_directory(path("state")).start().await.unwrap();
    std::future::pending::<()>().await;
}

fn spawn_worker(platform: &Platform, state: &Path) -> Child {
    let EdgeConfig { powerdns, nginx, .. } = platform.config();
    let given = json!({
        "powerdns": powerdns.url.as_str(), "key": platform.edge.powerdns_key(), "zone": powerdns.zone,
        "binary": nginx.binary, "prefix": nginx.prefix, "conf": nginx.conf, "error_log": nginx.error_log,
        "pid_file": nginx.pid_file, "sites": nginx.sites, "nginx_state": nginx.state, "edge": nginx.listen,
        "database": platform.database.url, "state": state,
    });
    Command::new(std::env::current_exe().unwrap())
        .args(["worker_process", "--exact", "--nocapture"])
        .env(WORKER, given.to_string())
        .stdout(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .unwrap()
}

/// Starts an organisation, and kills the worker (SIGKILL) once this step is under way; for how long, and whose start?
async fn killed_at(
    platform: &Platform,
    state: &Path,
    step: &str,
) -> (WorkflowId, tokio::task::JoinHandle<Requested>) {
    let mut victim = spawn_worker(platform, state);
    let (client, organization): (Client, _) = (platform.client.clone(), organization());
    let starting = tokio::spawn(async move { request::start(&client, organization, soon()).await.unwrap() });
    let start = platform.live("gateway.start").await;
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
    let organization = platform.client.workflow(start).await.unwrap().unwrap().input;
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
