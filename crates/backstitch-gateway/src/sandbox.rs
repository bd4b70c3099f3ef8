//! Where do tests and the demo get a real edge? Not for production: nothing here is kept.
//!
//! A [`Sandbox`] is a directory in which a private PowerDNS, a private nginx and a few small gateways run, on loopback and
//! on high ports, under whoever starts them. Dropped, it kills them; what a killed process leaves running is cleared
//! away by the next sandbox in the same directory. A server that is not installed is an error, never a stand-in.

mod dns;
mod error;
mod gateways;
mod nginx_server;
mod powerdns_server;
mod process;

use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use crate::identifiers::{Domain, Hostname};
use crate::nginx::{Nginx, NginxConfig};
use crate::powerdns::{PowerDns, PowerDnsConfig};
pub use error::SandboxError;
pub use gateways::GatewayProcess;
use nginx_server::NginxServer;
use powerdns_server::PowerDnsServer;
pub use process::Server;

/// Below which names stand in a sandbox; `.test` is nobody's (RFC 6761).
const DOMAIN: &str = "collab.test";

/// What a sandbox should hold.
#[derive(Debug, Clone)]
pub struct SandboxOptions {
    /// Where; made if it is not there. What an earlier sandbox left in it is removed.
    pub directory: PathBuf,
    /// The zone.
    pub domain: Domain,
    /// How many gateway processes.
    pub gateways: usize,
    /// The program `collab-gateway`.
    pub gateway_binary: PathBuf,
}

impl SandboxOptions {
    /// Three gateways below `collab.test`; the gateway program is looked for beside the running one.
    pub fn new(directory: impl Into<PathBuf>) -> Self {
        Self {
            directory: directory.into(),
            domain: DOMAIN.parse().expect("the sandbox's own domain is one"),
            gateways: 3,
            gateway_binary: gateways::beside_this_program(),
        }
    }
}

/// A real edge, private and thrown away after use.
#[derive(Debug)]
pub struct Sandbox {
    /// The zone of this sandbox's PowerDNS.
    pub domain: Domain,
    /// The gateway processes.
    pub gateways: Vec<GatewayProcess>,
    powerdns: PowerDnsServer,
    nginx: NginxServer,
    http: reqwest::Client,
    directory: PathBuf,
}

/// An answer that came through nginx.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fetched {
    /// Its HTTP status.
    pub status: u16,
    /// Its body.
    pub body: String,
}

impl Sandbox {
    /// Starts everything and waits until it answers.
    pub async fn start(options: SandboxOptions) -> Result<Self, SandboxError> {
        let directory = absolute(&options.directory)?;
        process::clear_away(&directory)?;
        let powerdns = PowerDnsServer::start(&directory, &options.domain).await?;
        let nginx = NginxServer::start(&directory).await?;
        let mut gateways = Vec::new();
        for number in 1..=options.gateways {
            let name = format!("gateway-{number}");
            gateways.push(GatewayProcess::start(&directory, &name, &options.gateway_binary).await?);
        }
        let http = reqwest::Client::builder().no_proxy().pool_max_idle_per_host(0).build()?;
        Ok(Self { domain: options.domain, gateways, powerdns, nginx, http, directory })
    }

    /// How a client or a daemon is told of this PowerDNS.
    pub fn powerdns_config(&self) -> PowerDnsConfig {
        self.powerdns.config()
    }

    /// Leaves the API key of this PowerDNS in a file that only its owner can read, for a daemon's configuration.
    pub fn write_api_key(&self, file: &Path) -> Result<(), SandboxError> {
        let wrong = |source| SandboxError::Directory { directory: file.to_owned(), source };
        let options = std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).clone();
        let mut file = options.open(file).map_err(wrong)?;
        file.write_all(self.powerdns_config().api_key.expose().as_bytes()).map_err(wrong)
    }

    /// The table `gateway` of a daemon's configuration that leads here. The API key is in this file.
    pub fn daemon_configuration(&self, api_key_file: &Path) -> serde_json::Value {
        let (powerdns, nginx) = (self.powerdns_config(), self.nginx_config());
        serde_json::json!({
            "domain": self.domain.to_string(),
            "edge_address": self.edge().ip(),
            "powerdns": { "url": powerdns.url.to_string(), "api_key_file": api_key_file },
            "nginx": {
                "binary": nginx.binary,
                "prefix": nginx.prefix,
                "conf": nginx.conf,
                "error_log": nginx.error_log,
                "pid_file": nginx.pid_file,
                "sites": nginx.sites,
                "listen": nginx.listen,
                "probe": nginx.probe,
            },
        })
    }

    /// A new client of this PowerDNS.
    pub fn powerdns(&self) -> Result<PowerDns, SandboxError> {
        Ok(PowerDns::new(self.powerdns_config())?)
    }

    /// The PowerDNS process, to freeze or kill it.
    pub fn powerdns_server(&mut self) -> &mut Server {
        &mut self.powerdns.server
    }

    /// Kills PowerDNS (SIGKILL) unless it is gone, and starts it again with its records.
    pub async fn restart_powerdns(&mut self) -> Result<(), SandboxError> {
        self.powerdns.restart(&self.directory).await
    }

    /// Where PowerDNS keeps its records: an SQLite database.
    pub fn powerdns_database(&self) -> PathBuf {
        powerdns_server::database_of(&self.directory)
    }

    /// How a client or a daemon is told of this nginx.
    pub fn nginx_config(&self) -> NginxConfig {
        self.nginx.config()
    }

    /// A new client of this nginx.
    pub fn nginx(&self) -> Result<Nginx, SandboxError> {
        Ok(Nginx::new(self.nginx_config())?)
    }

    /// The nginx master process, to freeze or kill it.
    pub fn nginx_server(&mut self) -> &mut Server {
        &mut self.nginx.server
    }

    /// Kills nginx (SIGKILL) unless it is gone, and starts it again with the vhosts that there are.
    pub async fn restart_nginx(&mut self) -> Result<(), SandboxError> {
        self.nginx.restart(&self.directory).await
    }

    /// Where the vhosts are served.
    pub fn edge(&self) -> SocketAddr {
        self.nginx.edge
    }

    /// Asks PowerDNS as any resolver would, over UDP.
    pub async fn resolve(&self, hostname: &Hostname) -> Result<Vec<Ipv4Addr>, SandboxError> {
        dns::addresses(self.powerdns.dns, hostname)
            .await
            .map_err(|source| SandboxError::Dns { hostname: hostname.clone(), source })
    }

    /// Fetches a page through nginx, as a member of the organisation would.
    pub async fn fetch(&self, hostname: &Hostname, path: &str) -> Result<Fetched, SandboxError> {
        let url = format!("http://{}/{}", self.edge(), path.trim_start_matches('/'));
        let answer = self.http.get(url).header("Host", hostname.to_string()).send().await?;
        Ok(Fetched { status: answer.status().as_u16(), body: answer.text().await? })
    }
}

fn absolute(directory: &Path) -> Result<PathBuf, SandboxError> {
    std::fs::create_dir_all(directory)
        .and_then(|()| directory.canonicalize())
        .map_err(|source| SandboxError::Directory { directory: directory.to_owned(), source })
}
