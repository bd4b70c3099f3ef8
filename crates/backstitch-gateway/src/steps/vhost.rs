//! How does a workflow bring a route into the running nginx, and see it gone again?

use backstitch::{
    Attempt, Backward, Compensate, Conduct, IdempotencyKey, LateEffects, Outcome, Probe, Probed, Sighting,
    Step, StepError, WorkflowId,
};
use serde::{Deserialize, Serialize};

use super::{START, STOP, gone_or_stopped, owner};
use crate::edge::Edge;
use crate::identifiers::{Hostname, Owner};
use crate::networks::Upstream;
use crate::nginx::{Removal, Vhost};
use crate::verdict::step_error;

/// Writes the organisation's vhost, marked with the workflow's id. The running nginx does not know of it yet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WriteVhost {
    /// The name that it answers to.
    pub hostname: Hostname,
    /// The gateway that it leads to.
    pub upstream: Upstream,
}

impl Step<Edge> for WriteVhost {
    const NAME: &'static str = "write-vhost";
    const BACKWARD: Backward<Self, Edge> = Backward::after_all_later();
    const PROBED: Probed<Self, Edge> = Probed::to_verify();
    // Files of this host: once the process is gone, nothing comes late.
    const CONDUCT: Conduct = Conduct { late_effects: LateEffects::Local, ..START };
    type Output = ();

    async fn run(&self, edge: &Edge, attempt: &Attempt) -> Result<(), StepError> {
        edge.nginx.write_vhost(&self.vhost(attempt.workflow())).await.map_err(step_error)
    }
}

impl WriteVhost {
    fn vhost(&self, workflow: WorkflowId) -> Vhost {
        Vhost { hostname: self.hostname.clone(), upstream: self.upstream, owner: owner(workflow) }
    }
}

impl Compensate<Edge> for WriteVhost {
    async fn compensate(
        &self,
        edge: &Edge,
        attempt: &Attempt,
        outcome: Outcome<()>,
    ) -> Result<(), StepError> {
        let written = match outcome {
            Outcome::Succeeded(()) => Written::ByNow,
            Outcome::Unknown => Written::MaybeLater,
        };
        remove_route(edge, attempt, &self.hostname, owner(attempt.workflow()), written).await
    }
}

impl Probe<Edge> for WriteVhost {
    async fn probe(
        &self,
        edge: &Edge,
        key: IdempotencyKey,
        _: Outcome<()>,
    ) -> Result<Sighting<()>, StepError> {
        match edge.nginx.written(&self.vhost(key.workflow)).map_err(step_error)?.made() {
            Sighting::Gone => gone_or_stopped(edge, key.workflow).await,
            seen => Ok(seen),
        }
    }
}

/// Makes nginx read what is on the disk, and sees that it serves this workflow's route.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReloadNginx {
    /// The name whose route must be live.
    pub hostname: Hostname,
}

impl Step<Edge> for ReloadNginx {
    const NAME: &'static str = "reload-nginx";
    const BACKWARD: Backward<Self, Edge> =
        Backward::nothing_because("the compensation of write-vhost reloads");
    const PROBED: Probed<Self, Edge> = Probed::to_verify();
    const CONDUCT: Conduct = START;
    type Output = ();

    async fn run(&self, edge: &Edge, attempt: &Attempt) -> Result<(), StepError> {
        edge.nginx.reload_until_live(&self.hostname, owner(attempt.workflow())).await.map_err(step_error)
    }
}

impl Probe<Edge> for ReloadNginx {
    async fn probe(
        &self,
        edge: &Edge,
        key: IdempotencyKey,
        _: Outcome<()>,
    ) -> Result<Sighting<()>, StepError> {
        match edge.nginx.route(&self.hostname).await.map_err(step_error)? {
            Some(live) if live == owner(key.workflow) => Ok(Sighting::Stands(())),
            _ => gone_or_stopped(edge, key.workflow).await,
        }
    }
}

/// Removes the vhost that a start wrote, and sees the route gone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RemoveVhost {
    /// The name that it answers to.
    pub hostname: Hostname,
    /// The start that wrote it.
    pub owner: Owner,
}

impl Step<Edge> for RemoveVhost {
    const NAME: &'static str = "remove-vhost";
    const BACKWARD: Backward<Self, Edge> = Backward::nothing_because("it follows the pivot");
    const PROBED: Probed<Self, Edge> = Probed::to_verify();
    const CONDUCT: Conduct = STOP;
    type Output = ();

    async fn run(&self, edge: &Edge, attempt: &Attempt) -> Result<(), StepError> {
        remove_route(edge, attempt, &self.hostname, self.owner, Written::ByNow).await
    }
}

impl Probe<Edge> for RemoveVhost {
    async fn probe(&self, edge: &Edge, _: IdempotencyKey, _: Outcome<()>) -> Result<Sighting<()>, StepError> {
        let is_live = edge.nginx.route(&self.hostname).await.map_err(step_error)? == Some(self.owner);
        let is_on_disk =
            edge.nginx.is_on_disk(self.hostname.organization(), self.owner).map_err(step_error)?;
        Ok(match (is_on_disk, is_live) {
            (false, false) => Sighting::Stands(()),
            (true, true) => Sighting::Gone,
            (true, false) => {
                Sighting::Partly("the file is there, and comes to life with the next reload".to_owned())
            }
            (false, true) => {
                Sighting::Partly("the file is gone, and the running nginx serves the route".to_owned())
            }
        })
    }
}

/// When the vhost was written that is to be removed.
enum Written {
    ByNow,
    /// The process that was to write it is not known to be gone, as far as a step knows.
    MaybeLater,
}

/// A removal that is repeated needs no second look: it takes only what is its owner's, whenever it comes.
async fn remove_route(
    edge: &Edge,
    attempt: &Attempt,
    hostname: &Hostname,
    owner: Owner,
    written: Written,
) -> Result<(), StepError> {
    let removal = match written {
        Written::ByNow => edge.nginx.withdraw(hostname, owner).await,
        Written::MaybeLater => edge.nginx.withdraw_and_confirm(hostname, owner).await,
    };
    if let Removal::NotOurs { holder } = removal.map_err(step_error)? {
        tracing::warn!(
            workflow.id = %attempt.workflow(), %hostname, holder,
            "the vhost is someone else's and was left alone"
        );
    }
    Ok(())
}
