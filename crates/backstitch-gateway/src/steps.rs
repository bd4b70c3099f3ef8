//! How patiently are the steps tried, and on whose behalf?
//!
//! A synchronous caller waits: a start gives up after seconds. What must succeed in the end, a stop or a compensation,
//! is told to a person when its patience is over, and tried on.
//!
//! Each step can be looked for. What a start made is called gone only where no stop has taken it away since: to whoever
//! verifies a start that has long been stopped, nothing is wrong.

pub mod allocation;
pub mod dns;
pub mod handshake;
pub mod vhost;

use std::time::Duration;

use backstitch::{Attempt, Conduct, LateEffects, Patience, RetryPolicy, Sighting, StepError, WorkflowId};

use crate::agent::Caller;
use crate::edge::Edge;
use crate::identifiers::Owner;
use crate::pool;
use crate::verdict::step_error;

/// Bounds an attempt, and so how long a late effect of it is waited for.
const ATTEMPT: Duration = Duration::from_secs(5);

/// Four attempts within some 2 s: rides out a server that restarts its worker, not one that is down.
const START_RETRY: RetryPolicy = RetryPolicy {
    attempts_max: 4,
    delay_first: Duration::from_millis(250),
    delay_max: Duration::from_secs(2),
};

/// A stop has no way back, only a person to tell: eight attempts within half a minute ride out a restart.
const STOP_RETRY: RetryPolicy = RetryPolicy {
    attempts_max: 8,
    delay_first: Duration::from_millis(250),
    delay_max: Duration::from_secs(10),
};

/// Before a person is told of a compensation that fails: ten attempts over some 17 s ride out a server's restart.
const PATIENCE: Patience = Patience { attempts: 10, ..Patience::DEFAULT };

/// A step of `gateway.start`.
pub(crate) const START: Conduct =
    Conduct { timeout: ATTEMPT, retry: START_RETRY, patience: PATIENCE, late_effects: LateEffects::WaitOut };

/// A step of `gateway.stop`.
pub(crate) const STOP: Conduct = Conduct { retry: STOP_RETRY, ..START };

/// The name under which a workflow owns things outside.
pub(crate) fn owner(workflow: WorkflowId) -> Owner {
    workflow.0.into()
}

/// How a gateway is told which attempt calls.
pub(crate) fn caller(attempt: &Attempt) -> Caller {
    Caller { key: attempt.key().to_string(), epoch: attempt.epoch().0.into() }
}

/// Nothing of what a start made is there. Because it was taken back, or because it was stopped since?
pub(crate) async fn gone_or_stopped<T>(edge: &Edge, start: WorkflowId) -> Result<Sighting<T>, StepError> {
    let made = edge.database.call(async |connection| pool::made_by(connection, &[owner(start)]).await);
    let made = made.await.map_err(step_error)?;
    Ok(match made.first().and_then(|allocation| allocation.stopping) {
        Some(stop) => stopped_since(stop),
        None => Sighting::Gone,
    })
}

pub(crate) fn stopped_since<T>(stop: Owner) -> Sighting<T> {
    Sighting::Unknown(format!("workflow {stop} has stopped the gateway since"))
}
