//! What does a private PowerDNS need?
//!
//! An SQLite file with its schema, a configuration of its own, two free ports, and a zone made through its API.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use backstitch::Plaintext;
use tokio::net::TcpStream;
use uuid::Uuid;

use super::error::SandboxError;
use super::process::Server;
use crate::identifiers::Domain;
use crate::powerdns::{PowerDnsConfig, REQUEST_TIMEOUT};

/// Debian's place first, then where other systems and older packages put it.
const SCHEMAS: [&str; 3] = [
    "/usr/share/pdns-backend-sqlite3/schema/schema.sqlite3.sql",
    "/usr/share/doc/pdns-backend-sqlite3/schema.sqlite3.sql",
    "/usr/share/doc/pdns/schema.sqlite3.sql",
];
/// A free port can be taken by someone else before the server has it.
const PORT_TRIES_MAX: usize = 5;
/// Above what services are assigned, below what Linux gives to outgoing connections.
const PORTS: std::ops::Range<u16> = 18_000..32_000;
const PACKAGES: &str = "pdns-server pdns-backend-sqlite3 sqlite3";

#[derive(Debug)]
pub(super) struct PowerDnsServer {
    pub(super) server: Server,
    pub(super) dns: SocketAddr,
    api: SocketAddr,
    key: Plaintext,
    zone: Domain,
}

impl PowerDnsServer {
    pub(super) async fn start(sandbox: &Path, zone: &Domain) -> Result<Self, SandboxError> {
        let directory = directory_of(sandbox);
        let mut tries = 0;
        loop {
            tries += 1;
            make_database(&directory)?;
            match Self::try_start(sandbox, &directory, zone).await {
                // Told no by a stranger, who was faster at the port.
                Err(SandboxError::DidNotStart { .. } | SandboxError::Http(_)) if tries < PORT_TRIES_MAX => {}
                started => return started,
            }
        }
    }

    async fn try_start(sandbox: &Path, directory: &Path, zone: &Domain) -> Result<Self, SandboxError> {
        let io = |source| SandboxError::Directory { directory: directory.to_owned(), source };
        let (dns, api) = (free_port().map_err(io)?, free_port().map_err(io)?);
        let key = Uuid::new_v4().simple().to_string();
        fs::write(directory.join("pdns.conf"), configuration(directory, dns, api, &key)).map_err(io)?;
        let server = spawn(sandbox, directory)?;
        let mut started = Self { server, dns, api, key: Plaintext::new(key), zone: zone.clone() };
        started.wait().await?;
        started.make_zone().await?;
        Ok(started)
    }

    /// Kills it, and starts it at the same addresses with the records that it had.
    pub(super) async fn restart(&mut self, sandbox: &Path) -> Result<(), SandboxError> {
        // It may have been killed already.
        let _ = self.server.kill();
        self.server = spawn(sandbox, &directory_of(sandbox))?;
        self.wait().await
    }

    async fn wait(&mut self) -> Result<(), SandboxError> {
        let api = self.api;
        self.server.wait_until(async || TcpStream::connect(api).await.is_ok()).await
    }

    pub(super) fn config(&self) -> PowerDnsConfig {
        PowerDnsConfig {
            url: format!("http://{}", self.api).parse().expect("a socket address makes a url"),
            api_key: self.key.clone(),
            zone: self.zone.clone(),
            request_timeout: REQUEST_TIMEOUT,
        }
    }

    async fn make_zone(&self) -> Result<(), SandboxError> {
        let zone = serde_json::json!({
            "name": format!("{}.", self.zone),
            "kind": "Native",
            "nameservers": [format!("ns.{}.", self.zone)],
        });
        let http = reqwest::Client::builder().no_proxy().build()?;
        let url = format!("http://{}/api/v1/servers/localhost/zones", self.api);
        let request = http.post(url).header("X-API-Key", self.key.expose()).json(&zone);
        request.send().await?.error_for_status()?;
        Ok(())
    }
}

fn directory_of(sandbox: &Path) -> PathBuf {
    sandbox.join("powerdns")
}

pub(super) fn database_of(sandbox: &Path) -> PathBuf {
    directory_of(sandbox).join("pdns.sqlite3")
}

fn spawn(sandbox: &Path, directory: &Path) -> Result<Server, SandboxError> {
    let mut command = Command::new("pdns_server");
    command.arg(format!("--config-dir={}", directory.display()));
    Server::spawn(sandbox, "powerdns", directory.join("log"), &mut command, PACKAGES)
}

fn make_database(directory: &Path) -> Result<(), SandboxError> {
    let io = |source| SandboxError::Directory { directory: directory.to_owned(), source };
    match fs::remove_dir_all(directory) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(io(e)),
        _ => fs::create_dir_all(directory).map_err(io)?,
    }
    let missing = |program: &str| SandboxError::Missing { program: program.to_owned(), package: PACKAGES };
    let schema = SCHEMAS.iter().map(PathBuf::from).find(|path| path.exists());
    let schema = fs::File::open(schema.ok_or_else(|| missing(SCHEMAS[0]))?).map_err(io)?;
    let made = Command::new("sqlite3")
        .arg(directory.join("pdns.sqlite3"))
        .stdin(schema)
        .stdout(Stdio::null())
        .output()
        .map_err(|_| missing("sqlite3"))?;
    if !made.status.success() {
        let log = String::from_utf8_lossy(&made.stderr).into_owned();
        return Err(SandboxError::DidNotStart { server: "sqlite3".to_owned(), log });
    }
    Ok(())
}

/// Caches are off, so that a query sees what the API has just written.
fn configuration(directory: &Path, dns: SocketAddr, api: SocketAddr, key: &str) -> String {
    let directory = directory.display();
    let (dns_port, api_port) = (dns.port(), api.port());
    format!(
        "launch=gsqlite3
gsqlite3-database={directory}/pdns.sqlite3
gsqlite3-pragma-synchronous=0
local-address=127.0.0.1
local-port={dns_port}
api=yes
api-key={key}
webserver=yes
webserver-address=127.0.0.1
webserver-port={api_port}
webserver-allow-from=127.0.0.0/8
socket-dir={directory}
daemon=no
guardian=no
write-pid=no
security-poll-suffix=
cache-ttl=0
query-cache-ttl=0
negquery-cache-ttl=0
zone-cache-refresh-interval=0
receiver-threads=1
distributor-threads=1
"
    )
}

/// A port that nobody has at this moment. Not one of those that the kernel gives to outgoing connections: of these the
/// next one may be taken between our look and the server's.
pub(super) fn free_port() -> std::io::Result<SocketAddr> {
    let mut tries = 0;
    loop {
        tries += 1;
        let port = PORTS.start + Uuid::new_v4().as_fields().1 % (PORTS.end - PORTS.start);
        match std::net::TcpListener::bind(("127.0.0.1", port)) {
            Err(e) if tries >= PORT_TRIES_MAX * 10 => return Err(e),
            Err(_) => {}
            Ok(listener) => return listener.local_addr(),
        }
    }
}
