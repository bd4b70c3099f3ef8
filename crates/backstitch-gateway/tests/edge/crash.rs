//! What becomes of a start whose worker process dies in the middle?

use std::fs::{self, File};
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use backstitch::{AttemptView, Database, Fate, Unfinished, WorkflowId};
use backstitch_gateway::StartGateway;
use backstitch_gateway::identifiers::OrganizationId;
use backstitch_gateway::nginx::Vhost;
use backstitch_gateway::request::Requested;
use backstitch_testkit::clock;
use backstitch_testkit::cut::{Line, Moment, Statement};
use serde_json::{Value, json};
use tokio::process::{Child, Command};
use tokio::task::JoinHandle;

use crate::platform::{Platform, TIMING, described_worker, failed, organization, started, until};
use crate::wrong::Wrong::{self, *};

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

/// A worker process that reaches the database by this URL.
fn spawn_worker(platform: &Platform, database: &str, state: &Path) -> Child {
    let given = json!({ "edge": platform.description(), "database": database, "state": state });
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
    let mut victim = spawn_worker(platform, &platform.database.url, state);
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

#[tokio::test]
async fn a_vhost_that_is_written_after_it_was_taken_back_is_found_and_removed() {
    let platform = Platform::of(1).await;
    let (state, config) = (tempfile::tempdir().unwrap(), platform.config().nginx);
    // Its worker dies while it waits to write.
    let writing = File::options().create(true).append(true).open(config.state.join("writing.lock")).unwrap();
    writing.lock().unwrap();
    let (start, starting) = killed_at(&platform, state.path(), "write-vhost").await;
    drop(writing);
    let start_input = platform.client.workflow(start).await.unwrap().unwrap().input.unwrap();
    let StartGateway { organization } = start_input.decode().unwrap();
    let site = platform.edge.site(&format!("org-{organization}.conf"));
    assert!(!site.exists());

    // A stand-in for a worker that was not killed but stopped, and goes on when the running nginx was seen without the route.
    let nginx = platform.edge.sandbox.nginx().unwrap();
    let (hostname, upstream) = (platform.hostname(organization), platform.edge.sandbox.gateways[0].upstream);
    nginx.write_vhost(&Vhost { hostname, upstream, owner: start.0.into() }).await.unwrap();
    let late = fs::read(&site).unwrap();
    fs::remove_file(&site).unwrap();
    let reloads = nginx.reloads_done().unwrap();
    let worker = platform.worker_over(platform.config()).await.state_directory(state.path());
    let worker = worker.start().await.unwrap();
    until("it was taken back", async || (nginx.reloads_done().unwrap() > reloads).then_some(())).await;
    fs::write(&site, late).unwrap();

    let unfinished = failed(starting.await.unwrap());
    assert_eq!(unfinished.report.owed().count(), 0, "{}", unfinished.report);
    platform.assert_nothing_left(organization).await;
    assert_eq!(platform.stats().await.ready, 1);
    worker.shut_down().await;
}

/// A start that fails of this, whose worker is killed when the first of its compensations has had its effect and its outcome is
/// on the way to the journal; the next worker goes on. What may come late is not waited for, by a clock that was taken in hand:
/// whatever a worker sends here was answered before it is killed.
async fn taken_back_twice(
    platform: &mut Platform,
    wrong: Wrong,
    organization: OrganizationId,
) -> (WorkflowId, Unfinished) {
    wrong.begin(platform, organization).await;
    let state = tempfile::tempdir().unwrap();
    let line = Line::to(&platform.database.server.connect_options(&platform.database.name));
    let hold =
        |text, carries| line.hold(Moment::BeforeStatement, Statement { texts: vec![text], carries }, 0);
    let turns = hold("backstitch.append", Some("unwinding"));
    let mut victim = spawn_worker(platform, &line.url(&platform.database.url), state.path());
    let (start, starting) = platform.begin(organization).await;
    let skipping = async {
        loop {
            clock::skip_wait(&platform.db, start, Duration::ZERO).await.unwrap();
            tokio::time::sleep(TIMING.poll).await;
        }
    };
    let taking_back = async {
        let turns = turns.await.unwrap();
        let (outcome, commit) = (hold("backstitch.append", Some("succeeded")), hold("COMMIT", None));
        turns.pass();
        let held = tokio::select! { held = outcome => held, held = commit => held };
        victim.kill().await.unwrap();
        drop(held.unwrap());
        let worker = platform.worker_over(platform.config()).await.state_directory(state.path());
        let worker = worker.start().await.unwrap();
        let unfinished = failed(starting.await.unwrap());
        worker.shut_down().await;
        (start, unfinished)
    };
    tokio::select! {
        taken_back = taking_back => taken_back,
        () = skipping => unreachable!("it goes on for ever"),
    }
}

#[tokio::test]
async fn each_step_of_a_start_fails_and_the_compensation_before_it_runs_twice() {
    let mut platform = Platform::of(1).await;
    clock::take(&platform.db).await.unwrap();
    for (wrong, before) in [
        (NameIsTaken, "allocate-gateway"),
        (FileIsTaken, "register-dns"),
        (RouteIsTaken, "write-vhost"),
        (GatewayRefuses, "write-vhost"),
        (GatewayFails, "write-vhost"),
    ] {
        let organization = organization();
        let (start, unfinished) = taken_back_twice(&mut platform, wrong, organization).await;
        let (step, code) = wrong.error();
        assert_eq!(unfinished.error.step.as_deref(), Some(step), "{wrong:?}: the original error");
        assert_eq!(unfinished.error.failure.code, code, "{wrong:?}: the original error");

        // A transaction whose commit was lost left nothing, nor did its attempt; but it ran.
        let attempts_before = if before == "allocate-gateway" { 1 } else { 2 };
        for step in &unfinished.report.steps {
            let expected = if step.step == before { attempts_before } else { 1 };
            match &step.fate {
                Fate::Compensated { attempts } => assert_eq!(*attempts, expected, "{wrong:?}: {step:?}"),
                Fate::NothingToCompensate | Fate::DidNotHappen => assert_ne!(step.step, before, "{wrong:?}"),
                Fate::Owed { .. } | Fate::Skipped(_) => panic!("{wrong:?}: {}", unfinished.report),
            }
        }
        let attempts = platform.client.attempts(start).await.unwrap();
        let of_it: Vec<_> = attempts.iter().filter(|attempt| attempt.step == before).collect();
        let back: Vec<_> = of_it.iter().skip(1).map(|a| (a.attempt, a.outcome.as_deref())).collect();
        let lost = (attempts_before == 2).then_some((1, None));
        let kept = (attempts_before, Some("succeeded"));
        assert_eq!(back, lost.into_iter().chain([kept]).collect::<Vec<_>>(), "{wrong:?}");
        let by = |attempt: &AttemptView| attempt.incarnation.unwrap();
        assert_ne!(by(of_it[0]), by(of_it[of_it.len() - 1]), "{wrong:?}: taken back by the next worker");

        platform.assert_nothing_left(organization).await;
        assert_eq!(platform.stats().await.ready, 1, "{wrong:?}");
        wrong.mend(&mut platform).await;
    }
}
