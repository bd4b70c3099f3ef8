//! How does a workflow take a gateway from the pool, and give it back?
//!
//! In the transaction that journals it: allocated exactly once, released exactly once, by the workflow that the
//! allocation names.

use backstitch::{
    Attempt, CompensateTransactionally, Conduct, IdempotencyKey, Outcome, ProbeTransactionally, Sighting,
    StepError, TransactionalBackward, TransactionalProbed, TransactionalStep,
};
use serde::{Deserialize, Serialize};
use sqlx::PgConnection;

use super::{START, STOP, owner, stopped_since};
use crate::edge::Edge;
use crate::identifiers::{GatewayId, OrganizationId};
use crate::pool::{self, Allocation, AllocationStatus};
use crate::request;
use crate::verdict::step_error;

/// Takes the gateway that was free for longest. Its name is settled here, once, by the domain of this worker's edge.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AllocateGateway {
    /// For whom.
    pub organization: OrganizationId,
}

impl TransactionalStep<Edge> for AllocateGateway {
    const NAME: &'static str = "allocate-gateway";
    // After all later ones: a gateway whose route still stands must not serve the next organisation.
    const BACKWARD: TransactionalBackward<Self, Edge> = TransactionalBackward::after_all_later();
    const PROBED: TransactionalProbed<Self, Edge> = TransactionalProbed::to_verify();
    const CONDUCT: Conduct = START;
    type Output = Allocation;

    async fn run(
        &self,
        transaction: &mut PgConnection,
        edge: &Edge,
        attempt: &Attempt,
    ) -> Result<Allocation, StepError> {
        let hostname = edge.hostname(self.organization);
        pool::allocate(transaction, &hostname, owner(attempt.workflow())).await.map_err(step_error)
    }
}

impl CompensateTransactionally<Edge> for AllocateGateway {
    async fn compensate(
        &self,
        transaction: &mut PgConnection,
        _: &Edge,
        attempt: &Attempt,
        allocation: Allocation,
    ) -> Result<(), StepError> {
        pool::release(transaction, allocation.gateway, owner(attempt.workflow()))
            .await
            .map(drop)
            .map_err(step_error)
    }
}

impl ProbeTransactionally<Edge> for AllocateGateway {
    async fn probe(
        &self,
        transaction: &mut PgConnection,
        _: &Edge,
        key: IdempotencyKey,
        _: Outcome<Allocation>,
    ) -> Result<Sighting<Allocation>, StepError> {
        let made = pool::made_by(transaction, &[owner(key.workflow)]).await.map_err(step_error)?;
        Ok(match made.into_iter().next() {
            Some(Allocation { stopping: Some(stop), .. }) => stopped_since(stop),
            Some(allocation) if allocation.status != AllocationStatus::Ended => Sighting::Stands(allocation),
            _ => Sighting::Gone,
        })
    }
}

/// Takes the allocation of an organisation over. From here on there is no way back: it will be stopped.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BeginStop {
    /// Whose.
    pub organization: OrganizationId,
}

impl TransactionalStep<Edge> for BeginStop {
    const NAME: &'static str = "begin-stop";
    const BACKWARD: TransactionalBackward<Self, Edge> = TransactionalBackward::pivot();
    const PROBED: TransactionalProbed<Self, Edge> = TransactionalProbed::to_verify();
    const CONDUCT: Conduct = START;
    type Output = Allocation;

    async fn run(
        &self,
        transaction: &mut PgConnection,
        _: &Edge,
        attempt: &Attempt,
    ) -> Result<Allocation, StepError> {
        let allocation =
            pool::begin_stop(&mut *transaction, self.organization, owner(attempt.workflow())).await;
        let allocation = allocation.map_err(step_error)?;
        // `gateway.request_stop` sees to this; a stop that was asked for past it must not overtake a start either.
        if request::is_live(transaction, allocation.owner).await.map_err(step_error)? {
            let message = format!("workflow {} has not started the gateway yet", allocation.owner);
            return Err(StepError::rejected(request::START_UNDER_WAY, message));
        }
        Ok(allocation)
    }
}

impl ProbeTransactionally<Edge> for BeginStop {
    async fn probe(
        &self,
        transaction: &mut PgConnection,
        _: &Edge,
        key: IdempotencyKey,
        _: Outcome<Allocation>,
    ) -> Result<Sighting<Allocation>, StepError> {
        // What it took over is its own for good, also once that has ended.
        let taken = pool::taken_over_by(transaction, owner(key.workflow)).await.map_err(step_error)?;
        Ok(taken.map_or(Sighting::Gone, Sighting::Stands))
    }
}

/// Gives the gateway back to the pool, unless it is quarantined.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EndAllocation {
    /// Which gateway.
    pub gateway: GatewayId,
}

impl TransactionalStep<Edge> for EndAllocation {
    const NAME: &'static str = "end-allocation";
    const BACKWARD: TransactionalBackward<Self, Edge> =
        TransactionalBackward::nothing_because("it follows the pivot");
    const PROBED: TransactionalProbed<Self, Edge> = TransactionalProbed::to_verify();
    const CONDUCT: Conduct = STOP;
    type Output = ();

    async fn run(
        &self,
        transaction: &mut PgConnection,
        _: &Edge,
        attempt: &Attempt,
    ) -> Result<(), StepError> {
        pool::release(transaction, self.gateway, owner(attempt.workflow()))
            .await
            .map(drop)
            .map_err(step_error)
    }
}

impl ProbeTransactionally<Edge> for EndAllocation {
    async fn probe(
        &self,
        transaction: &mut PgConnection,
        _: &Edge,
        key: IdempotencyKey,
        _: Outcome<()>,
    ) -> Result<Sighting<()>, StepError> {
        let taken = pool::taken_over_by(transaction, owner(key.workflow)).await.map_err(step_error)?;
        Ok(match taken.map(|allocation| allocation.status) {
            Some(AllocationStatus::Ended) => Sighting::Stands(()),
            Some(AllocationStatus::Active | AllocationStatus::Stopping) => Sighting::Gone,
            None => Sighting::Unknown("no allocation names this workflow".to_owned()),
        })
    }
}
