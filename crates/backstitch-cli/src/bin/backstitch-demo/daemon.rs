//! How does the demo run the daemon, and kill it?

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use tokio::process::{Child, Command};

/// How long the daemon may take until it answers.
const START_MAX: Duration = Duration::from_secs(30);

/// `backstitch serve`, as a process of its own.
pub struct Daemon {
    child: Child,
}

impl Daemon {
    /// Starts it, and waits until it is ready.
    pub async fn start(config: &Path, log: &Path, ready: &str, http: &reqwest::Client) -> Result<Self> {
        let log_file = std::fs::File::options().create(true).append(true).open(log)?;
        let mut child = Command::new(program("backstitch"))
            .arg("--config")
            .arg(config)
            .arg("serve")
            // The demo's own database, whatever the reader's environment says.
            .env_remove("DATABASE_URL")
            .stdin(Stdio::null())
            .stdout(log_file.try_clone()?)
            .stderr(log_file)
            .kill_on_drop(true)
            .spawn()
            .context("starting backstitch serve")?;
        let began = Instant::now();
        loop {
            if let Some(status) = child.try_wait()? {
                bail!("the daemon ended with {status}: {}", tail(log));
            }
            let answered = http.get(ready).timeout(Duration::from_secs(1)).send().await;
            if answered.is_ok_and(|answer| answer.status().is_success()) {
                return Ok(Self { child });
            }
            if began.elapsed() > START_MAX {
                bail!("the daemon is not ready after {} s: {}", START_MAX.as_secs(), tail(log));
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// SIGKILL, and waits until it is gone.
    pub async fn kill(&mut self) -> Result<()> {
        self.child.kill().await.context("killing the daemon")
    }
}

/// A program that was built beside this one.
pub fn program(name: &str) -> PathBuf {
    std::env::current_exe().map(|own| own.with_file_name(name)).unwrap_or_else(|_| PathBuf::from(name))
}

fn tail(log: &Path) -> String {
    let text = std::fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<_> = text.lines().rev().take(8).collect();
    lines.into_iter().rev().collect::<Vec<_>>().join("\n")
}
