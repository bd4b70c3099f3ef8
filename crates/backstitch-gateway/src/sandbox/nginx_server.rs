//! What does a private nginx need?
//!
//! A prefix directory with a configuration that includes `sites/*.conf`, and a free port. It runs under whoever starts it.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use tokio::net::TcpStream;

use super::error::SandboxError;
use super::powerdns_server::free_port;
use super::process::Server;
use crate::networks::AllowedNetworks;
use crate::nginx::{NAMES_BUCKET, NginxConfig, SHUTDOWN_TIMEOUT};

/// Where Debian puts it, which is not in every user's path; then the path.
const BINARIES: [&str; 3] = ["/usr/sbin/nginx", "/usr/local/sbin/nginx", "nginx"];
/// A free port can be taken by someone else before the server has it.
const PORT_TRIES_MAX: usize = 5;
const PACKAGES: &str = "nginx";

#[derive(Debug)]
pub(super) struct NginxServer {
    pub(super) server: Server,
    pub(super) edge: SocketAddr,
    prefix: PathBuf,
}

impl NginxServer {
    pub(super) async fn start(sandbox: &Path) -> Result<Self, SandboxError> {
        let mut tries = 0;
        loop {
            tries += 1;
            match Self::try_start(sandbox).await {
                Err(SandboxError::DidNotStart { .. }) if tries < PORT_TRIES_MAX => {}
                started => return started,
            }
        }
    }

    async fn try_start(sandbox: &Path) -> Result<Self, SandboxError> {
        let prefix = sandbox.join("nginx");
        let io = |source| SandboxError::Directory { directory: prefix.clone(), source };
        for directory in ["conf", "logs", "sites", "temp", "state"] {
            fs::create_dir_all(prefix.join(directory)).map_err(io)?;
        }
        let edge = free_port().map_err(io)?;
        fs::write(prefix.join("conf/nginx.conf"), configuration(edge)).map_err(io)?;
        let server = spawn(sandbox, &prefix)?;
        let mut started = Self { server, edge, prefix };
        started.wait().await?;
        Ok(started)
    }

    /// Kills it, and starts it at the same address with what its directory holds by then.
    pub(super) async fn restart(&mut self, sandbox: &Path) -> Result<(), SandboxError> {
        // It may have been killed already.
        let _ = self.server.kill();
        self.server = spawn(sandbox, &self.prefix)?;
        self.wait().await
    }

    async fn wait(&mut self) -> Result<(), SandboxError> {
        let (pid, pid_file, edge) = (self.server.pid().to_string(), self.config().pid_file, self.edge);
        let is_ours = || fs::read_to_string(&pid_file).is_ok_and(|text| text.trim() == pid);
        self.server.wait_until(async || is_ours() && TcpStream::connect(edge).await.is_ok()).await
    }

    pub(super) fn config(&self) -> NginxConfig {
        NginxConfig {
            binary: binary(),
            prefix: self.prefix.clone(),
            conf: "conf/nginx.conf".into(),
            error_log: "logs/error.log".into(),
            pid_file: self.prefix.join("logs/nginx.pid"),
            sites: self.prefix.join("sites"),
            state: self.prefix.join("state"),
            listen: self.edge,
            probe: self.edge,
            allowed_networks: AllowedNetworks::default(),
        }
    }
}

fn spawn(sandbox: &Path, prefix: &Path) -> Result<Server, SandboxError> {
    let mut command = Command::new(binary());
    command.arg("-p").arg(prefix).args([
        "-c",
        "conf/nginx.conf",
        "-e",
        "logs/error.log",
        "-g",
        "daemon off;",
    ]);
    Server::spawn(sandbox, "nginx", prefix.join("logs/output.log"), &mut command, PACKAGES)
}

fn binary() -> PathBuf {
    let found = BINARIES.iter().map(PathBuf::from).find(|path| path.exists());
    found.unwrap_or_else(|| PathBuf::from("nginx"))
}

/// Paths are relative to the prefix, so that none is written into the file.
fn configuration(edge: SocketAddr) -> String {
    // As root the workers would become `nobody`, who may not enter a private directory; as anyone else it is a warning.
    let user = if rustix::process::geteuid().is_root() { "user root;" } else { "" };
    format!(
        "{user}
worker_processes 2;
worker_shutdown_timeout {SHUTDOWN_TIMEOUT};
pid logs/nginx.pid;
events {{ worker_connections 512; }}
http {{
    # org-{{uuid}}.{{domain}} is longer than the 64 of the default.
    server_names_hash_bucket_size {NAMES_BUCKET};
    access_log off;
    client_body_temp_path temp/body;
    proxy_temp_path temp/proxy;
    fastcgi_temp_path temp/fastcgi;
    uwsgi_temp_path temp/uwsgi;
    scgi_temp_path temp/scgi;

    # Names that nobody has must not fall to the first organisation in the alphabet.
    server {{
        listen {edge} default_server;
        server_name _;
        return 404;
    }}

    include ../sites/*.conf;
}}
"
    )
}
