//! Can steps work with this edge, and if not, what is wrong with which server?

use uuid::Uuid;

use crate::edge::{EdgeConfig, EdgeError};
use crate::identifiers::{Hostname, OrganizationId};
use crate::nginx::{Nginx, NginxError};
use crate::powerdns::{PowerDns, PowerDnsError};

/// What each server said. An error that is transient may be gone by itself later; no other is.
#[derive(Debug)]
pub struct Checkup {
    /// PowerDNS takes the key and has the zone.
    pub powerdns: Result<(), PowerDnsError>,
    /// nginx has a configuration that is whole, has room for the names of organisations, and lets go of old sockets.
    pub nginx_configuration: Result<(), NginxError>,
    /// It answers where the routes are served.
    pub nginx_running: Result<(), NginxError>,
}

impl Checkup {
    /// The first thing that is wrong.
    ///
    /// # Errors
    /// That thing, and what to do.
    pub fn first(self) -> Result<(), EdgeError> {
        self.powerdns?;
        self.nginx_configuration?;
        Ok(self.nginx_running?)
    }
}

/// Asks PowerDNS and nginx what steps will ask of them, and changes nothing there; the state directory of nginx is made if it
/// is not there.
pub async fn check(config: &EdgeConfig) -> Checkup {
    // Nobody has this name; being told so takes the key, the zone and a server that answers.
    let nobody = Hostname::new(OrganizationId::from(Uuid::nil()), config.powerdns.zone.clone());
    let powerdns = async { PowerDns::new(config.powerdns.clone())?.lookup(&nobody).await.map(drop) }.await;
    let configuration = async { Nginx::new(config.nginx.clone())?.check(&nobody).await };
    let running = async { Nginx::new(config.nginx.clone())?.route(&nobody).await.map(drop) };
    Checkup { powerdns, nginx_configuration: configuration.await, nginx_running: running.await }
}
