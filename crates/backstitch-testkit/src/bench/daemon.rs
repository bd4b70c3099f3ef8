//! How is a daemon run that is asked over HTTP?

use std::process::Stdio;
use std::time::Duration;

use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::time::timeout;

use super::Bench;
use super::error::Error;
use super::place::BenchDatabase;

/// How long a daemon may take to listen, or to stop.
const PATIENCE: Duration = Duration::from_secs(30);

/// `serve`, without gateways and without tokens, on a port of loopback that is free. Killed when it is dropped.
pub(super) struct Daemon {
    /// Where it answers: `http://127.0.0.1:` and a port.
    pub(super) url: String,
    child: Child,
    _state: TempDir,
}

impl Daemon {
    /// One that listens.
    pub(super) async fn spawn(bench: &Bench, database: &BenchDatabase) -> Result<Self, Error> {
        let starting = || Error::process("starting a daemon");
        let state = tempfile::tempdir().map_err(starting())?;
        let mut child = Command::new(&bench.program)
            // Not as the file of whoever measures says.
            .args(["serve", "--config", "/dev/null", "--without-gateway", "--without-tokens"])
            .args(["--listen", "127.0.0.1:0", "--log-format", "text", "--state-directory"])
            .arg(state.path())
            // Not as an argument: it may hold a password.
            .env("DATABASE_URL", &database.url)
            .env("BACKSTITCH_LOG", "info")
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(starting())?;
        let gone = || std::io::Error::from(std::io::ErrorKind::BrokenPipe);
        let mut log = BufReader::new(child.stderr.take().ok_or_else(gone).map_err(starting())?).lines();
        let listening = async {
            let mut last = String::new();
            while let Some(line) = log.next_line().await? {
                if let Some((_, address)) = line.split_once("http.address=") {
                    return Ok(Ok(format!("http://{}", address.trim())));
                }
                last = line;
            }
            Ok(Err(last))
        };
        let url = timeout(PATIENCE, listening)
            .await
            .map_err(|_| Error::Run(format!("a daemon does not listen after {} s", PATIENCE.as_secs())))?
            .map_err(starting())?
            .map_err(|last| Error::Run(format!("a daemon ended before it listened: {last}")))?;
        // What is not read would stop it once the pipe is full.
        tokio::spawn(async move { while let Ok(Some(_)) = log.next_line().await {} });
        Ok(Self { url, child, _state: state })
    }

    /// Its process id. Err: it is gone.
    pub(super) fn pid(&self) -> Result<u32, Error> {
        self.child.id().ok_or_else(|| Error::Run("the daemon has gone".to_owned()))
    }

    /// Ends it at once, and waits until it is gone: there is nothing that it would hand back.
    pub(super) async fn end(mut self) -> Result<(), Error> {
        self.child.kill().await.map_err(Error::process("ending a daemon"))
    }
}
