//! Where does the demo take place? Private servers in a directory of its own, gone afterwards.

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use backstitch::{Client, Database, Filter, Status, WorkflowId};
use backstitch_gateway::identifiers::OrganizationId;
use backstitch_gateway::sandbox::{Sandbox, SandboxOptions};
use backstitch_postgres::{Cluster, Stop};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::process::Command;
use tokio::task::JoinHandle;

use crate::daemon::{Daemon, program};
use crate::screen::Screen;

/// How long anything of the demo may take before it is called broken.
const PATIENCE: Duration = Duration::from_secs(120);

/// Everything that runs.
pub struct Stage {
    pub sandbox: Sandbox,
    pub daemon: Daemon,
    pub client: Client,
    pub pool: sqlx::PgPool,
    http: reqwest::Client,
    address: String,
    config: PathBuf,
    postgres: Postgres,
    directory: TempDir,
}

/// A Postgres that ends with this value, however the demo ends.
struct Postgres(Cluster);

impl Drop for Postgres {
    fn drop(&mut self) {
        let pid = self.0.postmaster_pid().ok().flatten().and_then(|pid| Pid::from_raw(pid.cast_signed()));
        if let Some(pid) = pid {
            // Its immediate shutdown: nobody needs these data any more.
            let _ = kill_process(pid, Signal::QUIT);
        }
    }
}

/// What the daemon answered.
pub struct Answered {
    pub status: u16,
    pub body: Value,
}

impl Stage {
    /// Starts everything.
    pub async fn set(screen: &Screen) -> Result<Self> {
        let directory = tempfile::Builder::new().prefix("backstitch-demo-").tempdir()?;
        // Postgres runs as another user where root starts it, and must be able to enter.
        std::fs::set_permissions(directory.path(), std::fs::Permissions::from_mode(0o755))?;
        let cluster = Cluster::at(directory.path().join("postgres"));
        let postgres = Postgres(cluster);
        let running = postgres.0.start().await?;
        running.ensure_database("backstitch").await?;
        let url = running.url("backstitch");
        screen.line("Postgres   on a socket of its own, fsync on");

        let mut options = SandboxOptions::new(directory.path().join("edge"));
        options.gateway_binary = program("collab-gateway");
        let sandbox = Sandbox::start(options).await?;
        screen.line(&format!("PowerDNS   zone {}", sandbox.domain));
        screen.line(&format!("nginx      http://{}", sandbox.edge()));
        for gateway in &sandbox.gateways {
            screen.line(&format!("gateway    {} at {}", gateway.name, gateway.upstream));
        }

        let address = format!("127.0.0.1:{}", free_port()?);
        let config = directory.path().join("backstitch.toml");
        std::fs::write(&config, configuration(&directory, &sandbox, &url, &address)?)?;
        let http = reqwest::Client::builder().no_proxy().build()?;
        let database = Database::connect(&url).await?;
        let pool = database.pool().clone();
        let log = directory.path().join("daemon.log");
        run(screen, &config, &["migrate"]).await?;
        for gateway in &sandbox.gateways {
            run(screen, &config, &["gateway", "add", &gateway.name, &gateway.upstream.to_string()]).await?;
        }
        screen.command("backstitch serve");
        let daemon = Daemon::start(&config, &log, &format!("http://{address}/health/ready"), &http).await?;
        screen.line(&format!("daemon     http://{address}"));
        Ok(Self {
            sandbox,
            daemon,
            client: Client::new(database),
            pool,
            http,
            address,
            config,
            postgres,
            directory,
        })
    }

    /// Starts a daemon where the last one was killed.
    pub async fn start_daemon(&mut self, screen: &Screen) -> Result<()> {
        screen.command("backstitch serve");
        let ready = format!("http://{}/health/ready", self.address);
        let log = self.directory.path().join("daemon.log");
        self.daemon = Daemon::start(&self.config, &log, &ready, &self.http).await?;
        Ok(())
    }

    /// Runs the operator's hand, and shows what it prints.
    pub async fn backstitch(&self, screen: &Screen, arguments: &[&str]) -> Result<()> {
        run(screen, &self.config, arguments).await
    }

    /// Asks the daemon, and shows what it answers.
    pub async fn post(&self, screen: &Screen, path: &str, organization: OrganizationId) -> Result<Answered> {
        let body = json!({ "organization_id": organization.to_string() });
        screen.command(&format!("curl http://{}{path} --json '{body}'", self.address));
        let answer = self.http.post(format!("http://{}{path}", self.address)).json(&body).send().await?;
        let answered = Answered { status: answer.status().as_u16(), body: answer.json().await? };
        screen.printed(&format!("{} {}", answered.status, serde_json::to_string_pretty(&answered.body)?));
        Ok(answered)
    }

    /// Asks the daemon, without waiting for its answer.
    pub fn post_and_forget(&self, path: &str, organization: OrganizationId) -> JoinHandle<()> {
        let body = json!({ "organization_id": organization.to_string() });
        let request = self.http.post(format!("http://{}{path}", self.address)).json(&body);
        tokio::spawn(async move {
            let _ = request.send().await;
        })
    }

    /// Restarts the gateways that serve nobody, with these faults.
    pub async fn restart_free_gateways(&mut self, faults: &[&str]) -> Result<()> {
        for gateway in &mut self.sandbox.gateways {
            let state = gateway.agent()?.state().await?;
            if state.organization_id.is_none() || faults.is_empty() && state.starts == 0 {
                gateway.restart(faults).await?;
            }
        }
        Ok(())
    }

    /// Waits until the organisation's workflow is in this step.
    pub async fn wait_for_step(&self, step: &str, organization: OrganizationId) -> Result<WorkflowId> {
        let began = Instant::now();
        while began.elapsed() < PATIENCE {
            let filter =
                Filter { status: Some(Status::Running), limit: 10, whole: true, ..Filter::default() };
            for workflow in self.client.workflows(filter).await? {
                let input = workflow.input.as_ref().map_or("", |input| input.as_str());
                let of_organization = input.contains(&organization.to_string());
                let steps = self.client.steps(workflow.workflow).await?;
                let in_step = steps.iter().any(|view| view.step == step && view.status == "in_progress");
                if of_organization && in_step {
                    return Ok(workflow.workflow);
                }
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        bail!("no workflow of {organization} came to its step {step}")
    }

    /// Waits until a workflow is taken back.
    pub async fn wait_until_compensated(&self, workflow: WorkflowId) -> Result<()> {
        let began = Instant::now();
        while began.elapsed() < PATIENCE {
            let view = self.client.workflow(workflow).await?.context("the workflow is there")?;
            ensure!(view.status != Status::Completed, "workflow {workflow} completed");
            if view.status == Status::Compensated {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        bail!("workflow {workflow} is not taken back")
    }

    /// For those who want to look around.
    pub fn say_where_it_is(&self, screen: &Screen) {
        screen.line(&format!("backstitch --config {} list", self.config.display()));
        screen.line(&format!("curl http://{}/health/ready", self.address));
    }

    /// Ends everything.
    pub async fn strike(mut self) -> Result<()> {
        self.daemon.kill().await?;
        self.pool.close().await;
        self.postgres.0.stop(Stop::Fast).await?;
        Ok(())
    }
}

async fn run(screen: &Screen, config: &std::path::Path, arguments: &[&str]) -> Result<()> {
    screen.command(&format!("backstitch {}", arguments.join(" ")));
    let ran = Command::new(program("backstitch"))
        .arg("--config")
        .arg(config)
        .args(arguments)
        .env_remove("DATABASE_URL")
        .stdin(Stdio::null())
        .output()
        .await
        .context("running backstitch")?;
    screen.printed(&String::from_utf8_lossy(&ran.stdout));
    ensure!(ran.status.success(), "it ended with {}: {}", ran.status, String::from_utf8_lossy(&ran.stderr));
    Ok(())
}

fn configuration(directory: &TempDir, sandbox: &Sandbox, url: &str, address: &str) -> Result<String> {
    let key_file = directory.path().join("powerdns.key");
    sandbox.write_api_key(&key_file)?;
    let configuration = json!({
        "database_url": url,
        "state_directory": directory.path().join("state"),
        "listen": address,
        "gateway": sandbox.daemon_configuration(&key_file),
    });
    Ok(toml::to_string(&configuration)?)
}

/// A port that was free a moment ago.
fn free_port() -> Result<u16> {
    Ok(std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}
