//! How is what a gateway stands on hurt?

use super::disks::{self, OUTAGE};
use super::way::{Manner, Way};
use super::{Edge, lock};
use crate::exit::Failed;
use crate::torture::fault::OnEdge;
use crate::torture::launch::because;

impl Edge {
    /// Lets something happen to it. False: it did not come to that.
    pub async fn hurt(&self, how: OnEdge) -> Result<bool, Failed> {
        match how {
            OnEdge::NginxKilled => {
                let mut sandbox = self.sandbox.lock().await;
                sandbox.nginx_server().kill().map_err(because)?;
                tokio::time::sleep(OUTAGE).await;
                sandbox.restart_nginx().await
            }
            OnEdge::NginxFrozen => {
                let mut sandbox = self.sandbox.lock().await;
                sandbox.nginx_server().freeze().map_err(because)?;
                tokio::time::sleep(OUTAGE).await;
                sandbox.nginx_server().thaw()
            }
            OnEdge::PowerDnsKilled => {
                let mut sandbox = self.sandbox.lock().await;
                sandbox.powerdns_server().kill().map_err(because)?;
                tokio::time::sleep(OUTAGE).await;
                sandbox.restart_powerdns().await
            }
            OnEdge::PowerDnsFrozen => {
                let mut sandbox = self.sandbox.lock().await;
                sandbox.powerdns_server().freeze().map_err(because)?;
                tokio::time::sleep(OUTAGE).await;
                sandbox.powerdns_server().thaw()
            }
            OnEdge::PowerDnsFailing => {
                let sandbox = self.sandbox.lock().await;
                return disks::lock(&sandbox).await;
            }
            OnEdge::NginxSlow => return self.is(&self.way_to_nginx, Manner::Slow).await,
            OnEdge::NginxFailing => return self.is(&self.way_to_nginx, Manner::Failing).await,
            OnEdge::PowerDnsSlow => return self.is(&self.way_to_powerdns, Manner::Slow).await,
            OnEdge::PowerDnsAnswersLate => {
                return self.is(&self.way_to_powerdns, Manner::AnswersLate).await;
            }
            OnEdge::HandshakeRefused => return self.restart_free_gateways(&["--refuse-start"]).await,
            OnEdge::HandshakeHangs => return self.restart_free_gateways(&["--hang-start", "20"]).await,
            OnEdge::ForeignVhostBroken => {
                let sandbox = self.sandbox.lock().await;
                let broken = sandbox.nginx_config().sites.join("somebody-else.conf");
                std::fs::write(&broken, "server { nonsense").map_err(because)?;
                tokio::time::sleep(OUTAGE).await;
                std::fs::remove_file(&broken).map_err(because)?;
                return Ok(true);
            }
            OnEdge::VhostDiskFull => {
                let Ok(disk) = &self.vhost_disk else { return Ok(false) };
                // Nobody else writes there now.
                let _sandbox = self.sandbox.lock().await;
                return disks::fill(disk, &self.pool).await;
            }
        }
        .map_err(because)?;
        Ok(true)
    }

    /// Those that serve nobody misbehave for a while, and are well again. False: all of them serve somebody.
    async fn restart_free_gateways(&self, faults: &[&str]) -> Result<bool, Failed> {
        let mut sandbox = self.sandbox.lock().await;
        let mut hurt = Vec::new();
        for (index, gateway) in sandbox.gateways.iter_mut().enumerate() {
            // Of one that does not answer nobody knows whether it serves.
            let state = gateway.agent().map_err(because)?.state().await;
            if state.is_ok_and(|state| state.organization_id.is_none()) {
                lock(&self.restarted).insert(gateway.name.clone());
                gateway.restart(faults).await.map_err(because)?;
                hurt.push(index);
            }
        }
        tokio::time::sleep(OUTAGE).await;
        for index in &hurt {
            sandbox.gateways[*index].restart(&[]).await.map_err(because)?;
        }
        Ok(!hurt.is_empty())
    }

    /// One of the ways is so, and nothing else is wrong with what it leads to. False: nobody has met that.
    async fn is(&self, way: &Way, manner: Manner) -> Result<bool, Failed> {
        let _sandbox = self.sandbox.lock().await;
        Ok(way.be(manner).await)
    }
}
