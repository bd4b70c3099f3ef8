//! How is a gateway asked for and given up, so that starts and stops of one organisation never overlap?
//!
//! The SQL functions `gateway.request_start` and `gateway.request_stop` decide, behind the organisation's lock; here is
//! asked, waited and, when something else had to end first, asked again until the deadline.

mod ask;

use std::time::Duration;

use backstitch::{Cause, Client, Ending, Handle, Unfinished, WorkflowId};
use serde_json::Value;
use tokio::time::{Instant, timeout_at};

use crate::identifiers::{Hostname, OrganizationId};
use crate::pool::{Allocation, PoolError};
pub(crate) use ask::is_live;
use ask::{AskedStart, AskedStop};

/// Who cancels a start when a stop is asked for, as the journal names it.
const STOP_CANCELS: &str = "gateway.request_stop";
/// What a stop says that meets a start.
pub(crate) const START_UNDER_WAY: &str = "start_under_way";
/// One look at the database, even where the deadline has passed already.
const LOOK_TIMEOUT: Duration = Duration::from_secs(4);

/// What asking came to.
#[derive(Debug)]
pub enum Requested {
    /// The gateway serves the organisation now: started by this call, or by another that was under way.
    Started {
        /// Under which name.
        hostname: Hostname,
        /// By which gateway.
        allocation: Allocation,
    },
    /// It did so already.
    Active {
        /// Under which name.
        hostname: Hostname,
        /// By which gateway.
        allocation: Allocation,
    },
    /// No gateway serves the organisation any more.
    Stopped,
    /// None did: there was nothing to stop.
    NothingToStop,
    /// The pool has none to give; nothing was changed.
    NoGatewayAvailable(Box<Unfinished>),
    /// Something else is under way for the organisation, and did not end in time, or came in between.
    Conflict {
        /// Which workflow.
        workflow: WorkflowId,
        /// What it is, for people.
        message: String,
    },
    /// It failed, and everything was taken back.
    Failed(Box<Unfinished>),
    /// It failed, and something still stands, or a person must look.
    NeedsAttention(Box<Unfinished>),
    /// It has not ended by the deadline; it goes on. Asking again waits for it again.
    StillRunning(WorkflowId),
}

/// Why there is no answer. Nothing is known of what was asked; asking again joins it if it stands.
#[derive(Debug, thiserror::Error)]
pub enum RequestError {
    /// The pool said no.
    #[error(transparent)]
    Pool(#[from] PoolError),
    /// The engine did.
    #[error(transparent)]
    Engine(#[from] backstitch::Error),
    /// The database did not answer in time.
    #[error("the database did not answer within {} s", LOOK_TIMEOUT.as_secs())]
    Deadline,
}

/// Asks that the organisation be served, and waits until it is, at most until `deadline`.
///
/// # Errors
/// When the database does not answer, or the pool holds what can't be.
pub async fn start(
    client: &Client,
    organization: OrganizationId,
    deadline: Instant,
) -> Result<Requested, RequestError> {
    loop {
        let (workflow, message) = match ask::start(client, organization).await? {
            AskedStart::Active { hostname, allocation } => {
                return Ok(Requested::Active { hostname, allocation });
            }
            AskedStart::Starting(workflow) => {
                return Ok(match ending::<Allocation>(client, workflow, deadline).await? {
                    None => Requested::StillRunning(workflow),
                    Some(Ending::Completed(allocation)) => started(workflow, allocation),
                    Some(Ending::Compensated(unfinished)) if was_overtaken(&unfinished, deadline) => continue,
                    Some(Ending::Compensated(unfinished)) => taken_back(unfinished),
                    Some(Ending::NeedsAttention(unfinished) | Ending::Abandoned(unfinished)) => {
                        Requested::NeedsAttention(unfinished)
                    }
                });
            }
            AskedStart::Stopping(workflow) => (workflow, "the organisation's gateway is being stopped"),
            AskedStart::Compensating(workflow) => (workflow, "an earlier start is being taken back"),
        };
        if let Some(blocked) = wait_for_its_end(client, workflow, message, deadline).await? {
            return Ok(blocked);
        }
    }
}

/// Asks that the organisation be served no more, and waits until it is not, at most until `deadline`.
///
/// # Errors
/// As [`start`].
pub async fn stop(
    client: &Client,
    organization: OrganizationId,
    deadline: Instant,
) -> Result<Requested, RequestError> {
    let mut was_under_way = false;
    loop {
        let workflow = match ask::stop(client, organization).await? {
            AskedStop::Stopped if was_under_way => return Ok(Requested::Stopped),
            AskedStop::Stopped => return Ok(Requested::NothingToStop),
            AskedStop::Stopping(workflow) => {
                was_under_way = true;
                return Ok(match ending::<Value>(client, workflow, deadline).await? {
                    None => Requested::StillRunning(workflow),
                    Some(Ending::Completed(_)) => Requested::Stopped,
                    Some(Ending::Compensated(unfinished)) if was_overtaken(&unfinished, deadline) => continue,
                    Some(Ending::Compensated(unfinished)) => Requested::Failed(unfinished),
                    Some(Ending::NeedsAttention(unfinished) | Ending::Abandoned(unfinished)) => {
                        Requested::NeedsAttention(unfinished)
                    }
                });
            }
            AskedStop::Compensating(workflow) => workflow,
        };
        was_under_way = true;
        let message = "the organisation's start is being taken back";
        match wait_for_its_end(client, workflow, message, deadline).await? {
            // What was asked for is under way.
            Some(Requested::Conflict { workflow, .. }) => return Ok(Requested::StillRunning(workflow)),
            Some(blocked) => return Ok(blocked),
            None => {}
        }
    }
}

/// How a workflow ended, or that a person must see to it. None: neither by the deadline.
async fn ending<T: serde::de::DeserializeOwned>(
    client: &Client,
    workflow: WorkflowId,
    deadline: Instant,
) -> Result<Option<Ending<T>>, RequestError> {
    let handle = Handle::new(workflow);
    match timeout_at(deadline, client.wait(&handle)).await {
        Ok(ending) => Ok(Some(ending?)),
        // Once more: it may have ended between the last look and the deadline, or long before.
        Err(_) => match tokio::time::timeout(LOOK_TIMEOUT, client.poll(&handle)).await {
            Ok(looked) => Ok(looked?),
            Err(_) => Err(RequestError::Deadline),
        },
    }
}

/// None: it has ended, ask again. Some: it has not, and this is the answer.
async fn wait_for_its_end(
    client: &Client,
    workflow: WorkflowId,
    message: &str,
    deadline: Instant,
) -> Result<Option<Requested>, RequestError> {
    Ok(match ending::<Value>(client, workflow, deadline).await? {
        Some(Ending::Completed(_) | Ending::Compensated(_)) => None,
        // Let be, it may still stand in the way of what is asked: whoever abandoned it ends its allocation by hand.
        Some(Ending::NeedsAttention(unfinished) | Ending::Abandoned(unfinished)) => {
            Some(Requested::NeedsAttention(unfinished))
        }
        None => Some(Requested::Conflict { workflow, message: message.to_owned() }),
    })
}

/// Whether the pool had changed between the question and the first step, by a workflow that was asked for past the SQL
/// functions or by hand: then asking again gives another answer.
fn was_overtaken(unfinished: &Unfinished, deadline: Instant) -> bool {
    const BY_ANOTHER: [&str; 4] = [
        "organization_has_gateway",
        "organization_has_no_gateway",
        "organization_being_stopped",
        START_UNDER_WAY,
    ];
    BY_ANOTHER.contains(&&*unfinished.error.failure.code) && Instant::now() < deadline
}

fn started(workflow: WorkflowId, allocation: Allocation) -> Requested {
    match allocation.hostname.clone() {
        Some(hostname) => Requested::Started { hostname, allocation },
        None => Requested::Conflict { workflow, message: "the allocation has no hostname".to_owned() },
    }
}

fn taken_back(unfinished: Box<Unfinished>) -> Requested {
    let workflow = unfinished.workflow;
    match &unfinished.report.cause {
        Cause::Cancelled(operator) if operator.by == STOP_CANCELS => {
            Requested::Conflict { workflow, message: "a stop of the organisation came in between".to_owned() }
        }
        _ if unfinished.error.failure.code == "no_gateway_available" => {
            Requested::NoGatewayAvailable(unfinished)
        }
        _ => Requested::Failed(unfinished),
    }
}
