//! What are the steps given to work with?

use std::net::IpAddr;
use std::time::Duration;

use backstitch::Database;

use crate::agent::Agent;
use crate::identifiers::{Domain, Hostname, OrganizationId};
use crate::networks::{AllowedNetworks, Upstream};
use crate::nginx::{Nginx, NginxConfig, NginxError};
use crate::powerdns::{PowerDns, PowerDnsConfig, PowerDnsError};
use crate::verdict::Classified;

/// A gateway that was just started needs a moment until it listens. With the call that follows, within the 15 s of a
/// handshake.
pub const ANSWER_PATIENCE: Duration = Duration::from_secs(9);

/// With pauses that double up to 10 s, four minutes of a gateway that is not there, six of one that does not answer: a switch, a
/// host or a deploy is back by then. Nobody else can have the gateway meanwhile.
pub const RESETS_MAX: u32 = 30;

/// Where the edge is, and what may be done there.
#[derive(Debug, Clone)]
pub struct EdgeConfig {
    /// Where names are registered; its zone is the domain of all organisations.
    pub powerdns: PowerDnsConfig,
    /// Where routes are served; its networks are those in which gateways may live.
    pub nginx: NginxConfig,
    /// The address that names are registered with: that of nginx, as members reach it.
    pub address: IpAddr,
    /// How long a gateway may take until it answers; [`ANSWER_PATIENCE`] unless told otherwise, and never more.
    pub answer_patience: Duration,
    /// How often a gateway is asked to forget before it is quarantined instead; [`RESETS_MAX`] unless told otherwise.
    pub resets_max: u32,
}

/// The services of the steps.
#[derive(Debug)]
pub struct Edge {
    pub(crate) powerdns: PowerDns,
    pub(crate) nginx: Nginx,
    pub(crate) domain: Domain,
    pub(crate) address: IpAddr,
    pub(crate) answer_patience: Duration,
    pub(crate) resets_max: u32,
    /// For the one word about a gateway that no step's transaction carries: quarantine.
    pub(crate) database: Database,
    networks: AllowedNetworks,
    http: reqwest::Client,
}

/// Why steps can't work with this edge.
#[derive(Debug, thiserror::Error)]
pub enum EdgeError {
    /// PowerDNS: its url, its key, its zone, or the way to it.
    #[error(transparent)]
    PowerDns(#[from] PowerDnsError),
    /// nginx: the program, its configuration, the master, or where it listens.
    #[error(transparent)]
    Nginx(#[from] NginxError),
    /// No HTTP client can be made.
    #[error("no http client can be made: {0}")]
    Http(#[from] reqwest::Error),
}

impl EdgeError {
    /// Whether it may be gone by itself later: then a worker may start, and its steps try again.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        match self {
            Self::PowerDns(error) => error.is_transient(),
            Self::Nginx(error) => error.is_transient(),
            Self::Http(_) => false,
        }
    }
}

impl Edge {
    /// The services of this configuration; nothing is asked yet. `database`: where the gateways are listed.
    ///
    /// # Errors
    /// When the url of PowerDNS is none, or the state directory of nginx can't be made.
    pub fn new(config: EdgeConfig, database: Database) -> Result<Self, EdgeError> {
        Ok(Self {
            domain: config.powerdns.zone.clone(),
            powerdns: PowerDns::new(config.powerdns)?,
            networks: config.nginx.allowed_networks.clone(),
            nginx: Nginx::new(config.nginx)?,
            address: config.address,
            answer_patience: config.answer_patience.min(ANSWER_PATIENCE),
            resets_max: config.resets_max,
            http: Agent::http()?,
            database,
        })
    }

    /// The name of an organisation at this edge.
    #[must_use]
    pub fn hostname(&self, organization: OrganizationId) -> Hostname {
        Hostname::new(organization, self.domain.clone())
    }

    /// A client of the gateway there, if gateways may live there.
    pub(crate) fn agent(&self, upstream: Upstream) -> Result<Agent, NginxError> {
        let upstream = self.networks.admit(upstream).map_err(NginxError::UpstreamRefused)?;
        Ok(Agent::new(self.http.clone(), upstream))
    }
}
