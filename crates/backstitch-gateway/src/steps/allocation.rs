//! How does a workflow take a gateway from the pool, and give it back?
//!
//! In the transaction that journals it: allocated exactly once, released exactly once, by the workflow that the
//! allocation names.

use backstitch::{
    Attempt, CompensateTransactionally, Conduct, StepError, TransactionalBackward, TransactionalStep,
};
use serde::{Deserialize, Serialize};
use sqlx::PgConnection;

use super::{START, STOP, owner};
use crate::edge::Edge;
use crate::identifiers::{GatewayId, OrganizationId};
use crate::pool::{self, Allocation};
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
    const CONDUCT: Conduct = START;
    type Output = Allocation;

    async fn run(
        &self,
        transaction: &mut PgConnection,
        edge: &Edge,
        attempt: &Attempt,
    ) -> Result<Allocation, StepError> {
        let hostname = edge.hostname(self.organization);
        pool::allocate(transaction, &hostname, owner(attempt)).await.map_err(step_error)
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
        pool::release(transaction, allocation.gateway, owner(attempt)).await.map(drop).map_err(step_error)
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
    const CONDUCT: Conduct = START;
    type Output = Allocation;

    async fn run(
        &self,
        transaction: &mut PgConnection,
        _: &Edge,
        attempt: &Attempt,
    ) -> Result<Allocation, StepError> {
        let allocation = pool::begin_stop(&mut *transaction, self.organization, owner(attempt)).await;
        let allocation = allocation.map_err(step_error)?;
        // `gateway.request_stop` sees to this; a stop that was asked for past it must not overtake a start either.
        if request::is_live(transaction, allocation.owner).await.map_err(step_error)? {
            let message = format!("workflow {} has not started the gateway yet", allocation.owner);
            return Err(StepError::rejected(request::START_UNDER_WAY, message));
        }
        Ok(allocation)
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
    const CONDUCT: Conduct = STOP;
    type Output = ();

    async fn run(
        &self,
        transaction: &mut PgConnection,
        _: &Edge,
        attempt: &Attempt,
    ) -> Result<(), StepError> {
        pool::release(transaction, self.gateway, owner(attempt)).await.map(drop).map_err(step_error)
    }
}
