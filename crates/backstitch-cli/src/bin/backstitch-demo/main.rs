//! What does it look like when a start succeeds, fails, dies and is taken back? On real servers, before your eyes.

mod audit;
mod daemon;
mod screen;
mod stage;

use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use backstitch::WorkflowId;
use backstitch_gateway::identifiers::{Hostname, OrganizationId};
use clap::Parser;
use screen::Screen;
use serde_json::{Value, json};
use stage::Stage;

/// Starts, fails, kills and stops a gateway on private Postgres, PowerDNS and nginx, then checks that all agree
#[derive(Parser)]
struct Choices {
    /// Keep everything up at the end, until Ctrl-C
    #[arg(long)]
    stay: bool,
}

#[tokio::main]
async fn main() -> ExitCode {
    let choices = Choices::parse();
    let mut screen = Screen::default();
    let shown = tokio::select! {
        shown = show(&choices, &mut screen) => shown,
        // What was started goes with what is dropped here.
        _ = tokio::signal::ctrl_c() => Err(anyhow::anyhow!("interrupted")),
    };
    screen.times();
    match shown {
        Ok(()) => {
            println!(
                "\nPool, DNS zone, vhost directory and the running nginx agree: nothing is left of what was taken back."
            );
            println!("Everything shown was real: Postgres, PowerDNS, nginx, gateways and SIGKILL.");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("\nThe demo did not hold: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn show(choices: &Choices, screen: &mut Screen) -> Result<()> {
    screen.act("Everything real, private, on loopback and high ports");
    let mut stage = Stage::set(screen).await?;
    let served = start(screen, &mut stage).await?;
    fail(screen, &mut stage).await?;
    die(screen, &mut stage).await?;
    stop(screen, &mut stage, &served).await?;
    screen.act("Do they all agree?");
    audit::nothing_is_left(screen, &stage).await?;
    if choices.stay {
        screen.act("Staying up until Ctrl-C");
        stage.say_where_it_is(screen);
        std::future::pending::<()>().await;
    }
    stage.strike().await
}

/// A start that succeeds.
async fn start(screen: &mut Screen, stage: &mut Stage) -> Result<Hostname> {
    screen.act("A start that succeeds");
    let organization = new_organization()?;
    let answer = stage.post(screen, "/gateway/start", organization).await?;
    ensure!(answer.status == 200, "the start should succeed: {}", answer.body);
    let hostname = hostname_of(stage, organization);
    ensure!(answer.body["gateway_hostname"] == json!(hostname.to_string()), "another name: {}", answer.body);

    let addresses = stage.sandbox.resolve(&hostname).await?;
    screen.line(&format!("PowerDNS resolves {hostname} to {addresses:?}"));
    ensure!(!addresses.is_empty(), "the name does not resolve");
    let fetched = stage.sandbox.fetch(&hostname, "/").await?;
    screen.line(&format!("nginx answers {}: {}", fetched.status, fetched.body.trim()));
    ensure!(fetched.status == 200, "nginx does not pass the request on");

    screen.line("Asking again answers with the allocation that exists:");
    let again = stage.post(screen, "/gateway/start", organization).await?;
    ensure!(again.body == answer.body, "a second gateway was started");
    Ok(hostname)
}

/// A start whose handshake fails.
async fn fail(screen: &mut Screen, stage: &mut Stage) -> Result<()> {
    screen.act("A start whose handshake fails: everything is taken back, the original error is shown");
    stage.restart_free_gateways(&["--refuse-start"]).await?;
    screen.line("The free gateways now refuse their handshake.");
    let organization = new_organization()?;
    let answer = stage.post(screen, "/gateway/start", organization).await?;
    ensure!(answer.status == 500, "the start should fail with 500: {} {}", answer.status, answer.body);
    let workflow = workflow_of(&answer.body)?;
    stage.backstitch(screen, &["show", &workflow.to_string()]).await?;
    audit::no_trace_of(screen, stage, organization).await?;
    stage.restart_free_gateways(&[]).await
}

/// A worker killed in the middle of a step, and another that takes it back.
async fn die(screen: &mut Screen, stage: &mut Stage) -> Result<()> {
    screen.act("A worker killed with SIGKILL in the middle of a step, and a new one that takes it back");
    stage.restart_free_gateways(&["--hang-start", "20"]).await?;
    screen.line("The free gateways now take their time over the handshake.");
    let organization = new_organization()?;
    let asking = stage.post_and_forget("/gateway/start", organization);
    let workflow = stage.wait_for_step("handshake", organization).await?;
    screen.line(&format!("Workflow {workflow} is in its handshake. The route is live:"));
    let hostname = hostname_of(stage, organization);
    let addresses = stage.sandbox.resolve(&hostname).await?;
    screen.line(&format!("PowerDNS resolves {hostname} to {addresses:?}"));
    ensure!(!addresses.is_empty(), "the name should be there before the kill");

    let killed_at = Instant::now();
    stage.daemon.kill().await?;
    screen.line("kill -9: the worker is gone.");
    asking.abort();
    stage.restart_free_gateways(&[]).await?;
    stage.start_daemon(screen).await?;
    stage.wait_until_compensated(workflow).await?;
    screen.line(&format!("Taken back {} after the kill.", seconds(killed_at.elapsed())));
    stage.backstitch(screen, &["show", &workflow.to_string()]).await?;
    audit::no_trace_of(screen, stage, organization).await
}

/// A stop.
async fn stop(screen: &mut Screen, stage: &mut Stage, served: &Hostname) -> Result<()> {
    screen.act("A stop");
    let organization = served.organization();
    let answer = stage.post(screen, "/gateway/stop", organization).await?;
    ensure!(answer.status == 200, "the stop should succeed: {} {}", answer.status, answer.body);
    audit::no_trace_of(screen, stage, organization).await
}

fn new_organization() -> Result<OrganizationId> {
    uuid::Uuid::new_v4().to_string().parse().context("a new organisation")
}

fn hostname_of(stage: &Stage, organization: OrganizationId) -> Hostname {
    Hostname::new(organization, stage.sandbox.domain.clone())
}

fn workflow_of(answer: &Value) -> Result<WorkflowId> {
    match answer["workflow_id"].as_str() {
        Some(text) => text.parse().context("the answer's workflow_id"),
        None => bail!("the answer names no workflow: {answer}"),
    }
}

fn seconds(duration: Duration) -> String {
    format!("{:.1} s", duration.as_secs_f64())
}
