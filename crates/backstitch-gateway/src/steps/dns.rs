//! How does a workflow register a name, and take back only what is its own?

use backstitch::{
    Attempt, Backward, Compensate, Conduct, IdempotencyKey, Outcome, Probe, Probed, Sighting, Step, StepError,
};
use serde::{Deserialize, Serialize};

use super::{START, STOP, gone_or_stopped, owner};
use crate::edge::Edge;
use crate::identifiers::{Hostname, Owner};
use crate::powerdns::Removal;
use crate::verdict::step_error;

/// Points the organisation's name to this edge, signed with the workflow's id.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RegisterDns {
    /// The name.
    pub hostname: Hostname,
}

impl Step<Edge> for RegisterDns {
    const NAME: &'static str = "register-dns";
    // A name without a route harms nobody, and can go while a route is stuck.
    const BACKWARD: Backward<Self, Edge> = Backward::independent();
    const PROBED: Probed<Self, Edge> = Probed::to_settle();
    // PowerDNS can't refuse a late change: it is waited out, see `START`.
    const CONDUCT: Conduct = START;
    type Output = ();

    async fn run(&self, edge: &Edge, attempt: &Attempt) -> Result<(), StepError> {
        edge.powerdns
            .register(&self.hostname, edge.address, owner(attempt.workflow()))
            .await
            .map_err(step_error)
    }
}

impl Compensate<Edge> for RegisterDns {
    async fn compensate(
        &self,
        edge: &Edge,
        attempt: &Attempt,
        outcome: Outcome<()>,
    ) -> Result<(), StepError> {
        let removed = match outcome {
            Outcome::Succeeded(()) => edge.powerdns.remove(&self.hostname, owner(attempt.workflow())).await,
            Outcome::Unknown => {
                edge.powerdns.remove_and_confirm(&self.hostname, owner(attempt.workflow())).await
            }
        };
        removed.map(|removal| tell(attempt, &self.hostname, &removal)).map_err(step_error)
    }
}

impl Probe<Edge> for RegisterDns {
    async fn probe(
        &self,
        edge: &Edge,
        key: IdempotencyKey,
        _: Outcome<()>,
    ) -> Result<Sighting<()>, StepError> {
        let found = edge.powerdns.registered(&self.hostname, edge.address, owner(key.workflow)).await;
        match found.map_err(step_error)?.made() {
            Sighting::Gone => gone_or_stopped(edge, key.workflow).await,
            seen => Ok(seen),
        }
    }
}

/// Removes the name that a start registered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RemoveDns {
    /// The name.
    pub hostname: Hostname,
    /// The start that registered it.
    pub owner: Owner,
}

impl Step<Edge> for RemoveDns {
    const NAME: &'static str = "remove-dns";
    const BACKWARD: Backward<Self, Edge> = Backward::nothing_because("it follows the pivot");
    const PROBED: Probed<Self, Edge> = Probed::to_verify();
    const CONDUCT: Conduct = STOP;
    type Output = ();

    async fn run(&self, edge: &Edge, attempt: &Attempt) -> Result<(), StepError> {
        let removed = edge.powerdns.remove(&self.hostname, self.owner).await;
        removed.map(|removal| tell(attempt, &self.hostname, &removal)).map_err(step_error)
    }
}

impl Probe<Edge> for RemoveDns {
    async fn probe(&self, edge: &Edge, _: IdempotencyKey, _: Outcome<()>) -> Result<Sighting<()>, StepError> {
        let found = edge.powerdns.registered(&self.hostname, edge.address, self.owner).await;
        Ok(found.map_err(step_error)?.removed())
    }
}

fn tell(attempt: &Attempt, hostname: &Hostname, removal: &Removal) {
    if let Removal::NotOurs { holder } = removal {
        tracing::warn!(
            workflow.id = %attempt.workflow(), %hostname, holder,
            "the name is someone else's and was left alone"
        );
    }
}
