//! What do `gateway.start` and `gateway.stop` do, in which order?

use backstitch::{Flow, Recovery, Steps, Workflow, WorkflowError};
use serde::{Deserialize, Serialize};

use crate::edge::Edge;
use crate::identifiers::OrganizationId;
use crate::pool::Allocation;
use crate::steps::allocation::{AllocateGateway, BeginStop, EndAllocation};
use crate::steps::dns::{RegisterDns, RemoveDns};
use crate::steps::handshake::{Handshake, ResetGateway};
use crate::steps::vhost::{ReloadNginx, RemoveVhost, WriteVhost};

/// Gives an organisation a gateway: allocated, named, routed and told whom it serves; or leaves nothing of it.
///
/// Ask for it with [`request::start`](crate::request::start) or `gateway.request_start`, which keep starts and stops of
/// one organisation apart.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StartGateway {
    /// For whom. Also taken by the name that it has in the body of `POST /gateway/start`.
    #[serde(alias = "organization_id")]
    pub organization: OrganizationId,
}

impl Workflow<Edge> for StartGateway {
    const KIND: &'static str = "gateway.start";
    // Whoever asked has long gone when a dead worker's start is found: what is half done is taken back.
    const RECOVERY: Recovery = Recovery::Compensate;
    type Output = Allocation;

    fn steps(steps: &mut Steps<Edge>) {
        steps
            .transactional::<AllocateGateway>()
            .step::<RegisterDns>()
            .step::<WriteVhost>()
            .step::<ReloadNginx>()
            .step::<Handshake>();
    }

    async fn run(self, flow: &Flow<Edge>) -> Result<Allocation, WorkflowError> {
        let allocation = flow.transactional(AllocateGateway { organization: self.organization }).await?;
        let Allocation { gateway, upstream, hostname: Some(hostname), .. } = allocation.clone() else {
            return Err(WorkflowError::new("no_hostname", "the allocation has no hostname"));
        };
        flow.step(RegisterDns { hostname: hostname.clone() }).await?;
        flow.step(WriteVhost { hostname: hostname.clone(), upstream }).await?;
        flow.step(ReloadNginx { hostname: hostname.clone() }).await?;
        flow.step(Handshake { gateway, upstream, hostname }).await?;
        Ok(allocation)
    }
}

/// Takes an organisation's gateway out of service and back into the pool. Once it has begun it only goes forward.
///
/// Ask for it with [`request::stop`](crate::request::stop) or `gateway.request_stop`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StopGateway {
    /// Whose. Also taken by the name that it has in the body of `POST /gateway/stop`.
    #[serde(alias = "organization_id")]
    pub organization: OrganizationId,
}

impl Workflow<Edge> for StopGateway {
    const KIND: &'static str = "gateway.stop";
    const RECOVERY: Recovery = Recovery::Resume;
    type Output = ();

    fn steps(steps: &mut Steps<Edge>) {
        steps
            .transactional::<BeginStop>()
            .step::<RemoveVhost>()
            .step::<RemoveDns>()
            .step::<ResetGateway>()
            .transactional::<EndAllocation>();
    }

    async fn run(self, flow: &Flow<Edge>) -> Result<(), WorkflowError> {
        let organization = self.organization;
        let Allocation { gateway, upstream, owner, hostname, .. } =
            flow.transactional(BeginStop { organization }).await?;
        // An allocation made by hand has no name, and so neither record nor route.
        if let Some(hostname) = hostname {
            flow.step(RemoveVhost { hostname: hostname.clone(), owner }).await?;
            flow.step(RemoveDns { hostname, owner }).await?;
        }
        flow.step(ResetGateway { gateway, upstream, organization }).await?;
        flow.transactional(EndAllocation { gateway }).await?;
        Ok(())
    }
}
