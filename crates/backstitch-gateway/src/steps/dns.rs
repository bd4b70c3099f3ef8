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
        let (hostname, owner) = (&self.hostname, owner(attempt.workflow()));
        let registered = match what_came_before(attempt) {
            Before::Nothing => edge.powerdns.register(hostname, edge.address, owner).await,
            Before::MayBeLate => edge.powerdns.register_and_confirm(hostname, edge.address, owner).await,
        };
        registered.map_err(step_error)
    }
}

impl Compensate<Edge> for RegisterDns {
    async fn compensate(
        &self,
        edge: &Edge,
        attempt: &Attempt,
        outcome: Outcome<()>,
    ) -> Result<(), StepError> {
        let before = match outcome {
            Outcome::Succeeded(()) => what_came_before(attempt),
            Outcome::Unknown => Before::MayBeLate,
        };
        remove(edge, attempt, &self.hostname, owner(attempt.workflow()), before).await
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
        remove(edge, attempt, &self.hostname, self.owner, what_came_before(attempt)).await
    }
}

impl Probe<Edge> for RemoveDns {
    async fn probe(&self, edge: &Edge, _: IdempotencyKey, _: Outcome<()>) -> Result<Sighting<()>, StepError> {
        let found = edge.powerdns.registered(&self.hostname, edge.address, self.owner).await;
        Ok(found.map_err(step_error)?.removed())
    }
}

/// Whether a change of this name is in doubt, and may land after what is done now. PowerDNS can't refuse it: it must have
/// landed before the workflow goes on, and somebody else can have the name.
enum Before {
    Nothing,
    MayBeLate,
}

fn what_came_before(attempt: &Attempt) -> Before {
    if attempt.number() == 1 { Before::Nothing } else { Before::MayBeLate }
}

async fn remove(
    edge: &Edge,
    attempt: &Attempt,
    hostname: &Hostname,
    owner: Owner,
    before: Before,
) -> Result<(), StepError> {
    let removal = match before {
        Before::Nothing => edge.powerdns.remove(hostname, owner).await,
        Before::MayBeLate => edge.powerdns.remove_and_confirm(hostname, owner).await,
    };
    if let Removal::NotOurs { holder } = removal.map_err(step_error)? {
        tracing::warn!(
            workflow.id = %attempt.workflow(), %hostname, holder,
            "the name is someone else's and was left alone"
        );
    }
    Ok(())
}
