//! How does a small gateway process begin, and begin again with faults?

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::error::SandboxError;
use super::process::Server;
use crate::agent::Agent;
use crate::networks::Upstream;

/// What the program says once it listens.
const LISTENING: &str = "listening on ";
const PACKAGE: &str = "none; `cargo build --package backstitch-gateway` builds it";

/// One gateway of a sandbox.
#[derive(Debug)]
pub struct GatewayProcess {
    /// Its name in the pool.
    pub name: String,
    /// Where it listens; the same after each restart.
    pub upstream: Upstream,
    server: Option<Server>,
    sandbox: PathBuf,
    binary: PathBuf,
}

impl GatewayProcess {
    pub(super) async fn start(sandbox: &Path, name: &str, binary: &Path) -> Result<Self, SandboxError> {
        let (server, upstream) = spawn(sandbox, name, binary, "127.0.0.1:0", &[]).await?;
        let (sandbox, binary) = (sandbox.to_owned(), binary.to_owned());
        Ok(Self { name: name.to_owned(), upstream, server: Some(server), sandbox, binary })
    }

    /// Kills it and starts it again at the same address, with these faults (see `collab-gateway`) or none.
    /// It remembers nothing.
    pub async fn restart(&mut self, faults: &[&str]) -> Result<(), SandboxError> {
        self.kill()?;
        let listen = self.upstream.to_string();
        let (server, _) = spawn(&self.sandbox, &self.name, &self.binary, &listen, faults).await?;
        self.server = Some(server);
        Ok(())
    }

    /// Kills it; nobody listens at its address until a restart.
    pub fn kill(&mut self) -> Result<(), SandboxError> {
        self.server.take().map_or(Ok(()), |mut server| server.kill())
    }

    /// Its process, to freeze it; none after [`GatewayProcess::kill`].
    pub fn server(&self) -> Option<&Server> {
        self.server.as_ref()
    }

    /// A client of it.
    pub fn agent(&self) -> Result<Agent, SandboxError> {
        Ok(Agent::new(Agent::http()?, self.upstream))
    }
}

async fn spawn(
    sandbox: &Path,
    name: &str,
    binary: &Path,
    listen: &str,
    faults: &[&str],
) -> Result<(Server, Upstream), SandboxError> {
    let directory = sandbox.join("gateways");
    fs::create_dir_all(&directory)
        .map_err(|source| SandboxError::Directory { directory: directory.clone(), source })?;
    let log = directory.join(format!("{name}.log"));
    let mut command = Command::new(binary);
    command.args(["--listen", listen]).args(faults);
    let mut server = Server::spawn(sandbox, name, log.clone(), &mut command, PACKAGE)?;
    let mut upstream = None;
    server
        .wait_until(async || {
            upstream = listening_at(&log);
            upstream.is_some()
        })
        .await?;
    let log = server.log_text();
    let upstream = upstream.ok_or(SandboxError::DidNotStart { server: name.to_owned(), log })?;
    Ok((server, upstream))
}

fn listening_at(log: &Path) -> Option<Upstream> {
    let text = fs::read_to_string(log).ok()?;
    // Only a whole line: half an address is an address too.
    let (first, _) = text.split_once('\n')?;
    first.strip_prefix(LISTENING)?.parse().ok()
}

/// Beside the running program; a test's program lies one directory deeper.
pub(super) fn beside_this_program() -> PathBuf {
    let program = std::env::current_exe().unwrap_or_default();
    let candidates = program.ancestors().skip(1).take(2).map(|directory| directory.join("collab-gateway"));
    let found = candidates.into_iter().find(|path| path.exists());
    found.unwrap_or_else(|| PathBuf::from("collab-gateway"))
}
