//! How does a workflow tell a gateway whom to serve, and make sure that it forgets it, or is never handed out again?

use std::time::Duration;

use backstitch::{
    Attempt, Backward, Compensate, Conduct, Failure, IdempotencyKey, LateEffects, Outcome, Patience, Probe,
    Probed, RetryPolicy, Sighting, Step, StepError,
};
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::{PATIENCE, START_RETRY, STOP, STOP_RETRY, caller, gone_or_stopped, owner};
use crate::agent::{AgentError, CALL_TIMEOUT, ResetRequest, StartRequest};
use crate::edge::{Edge, RESETS_MAX};
use crate::identifiers::{GatewayId, Hostname, OrganizationId, Owner};
use crate::networks::Upstream;
use crate::pool::{self, Holder};
use crate::verdict::{Classified, step_error};

/// The longest pause between two tries to reset a gateway that is not there: whoever waits for it to be back waits no longer.
const RESET_PAUSE_MAX: Duration = Duration::from_secs(10);

/// Waiting for the gateway and the call together. Each attempt is patient in itself, so there are two; the way back is as
/// patient as [`RESETS_MAX`] says, and only then is there something to tell.
const HANDSHAKE: Conduct = Conduct {
    timeout: Duration::from_secs(15),
    retry: RetryPolicy { attempts_max: 2, delay_max: RESET_PAUSE_MAX, ..START_RETRY },
    patience: Patience { attempts: RESETS_MAX + PATIENCE.attempts, ..PATIENCE },
    // The gateway keeps a tombstone: a start that arrives after its reset is refused.
    late_effects: LateEffects::Refused,
};

/// What the quarantine that follows a reset without an answer still needs of the attempt's time.
const QUARANTINE_TIMEOUT: Duration = Duration::from_secs(2);

/// Waits until the gateway answers, and tells it whom to serve.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Handshake {
    /// Which gateway.
    pub gateway: GatewayId,
    /// Where it listens.
    pub upstream: Upstream,
    /// Under which name its organisation's members come.
    pub hostname: Hostname,
}

impl Step<Edge> for Handshake {
    const NAME: &'static str = "handshake";
    const BACKWARD: Backward<Self, Edge> = Backward::after_all_later();
    const PROBED: Probed<Self, Edge> = Probed::to_settle();
    const CONDUCT: Conduct = HANDSHAKE;
    type Output = ();

    async fn run(&self, edge: &Edge, attempt: &Attempt) -> Result<(), StepError> {
        let agent = edge.agent(self.upstream).map_err(step_error)?;
        let patience = edge.answer_patience.min(attempt.time_left().saturating_sub(CALL_TIMEOUT));
        let deadline = Instant::now() + patience;
        let request =
            StartRequest { organization_id: self.hostname.organization(), hostname: self.hostname.clone() };
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            tokio::select! {
                answered = agent.wait_until_it_answers(left) => answered.map_err(asked_nothing)?,
                // Whoever cancelled waits for this attempt.
                () = attempt.cancelled() => {
                    return Err(StepError::rejected("cancelled", "cancelled before the gateway was asked"));
                }
            }
            return match agent.start(&request, &caller(attempt)).await {
                Ok(_) => Ok(()),
                // It was there a moment ago.
                Err(AgentError::Unreachable { .. }) if Instant::now() < deadline => continue,
                Err(error @ AgentError::Unreachable { .. }) => Err(asked_nothing(error)),
                // It did not take the organisation, but is not to be handed out again either: the way back sees to it.
                Err(error @ AgentError::ServesAnother { .. }) => {
                    Err(StepError::Fail(Failure::from_error(error.code(), &error)))
                }
                Err(error) => Err(step_error(error)),
            };
        }
    }
}

/// It was waited for long enough, and does not know of the organisation: there is nothing to reset.
fn asked_nothing(error: AgentError) -> StepError {
    StepError::Rejected(Failure::from_error(error.code(), &error))
}

impl Compensate<Edge> for Handshake {
    async fn compensate(&self, edge: &Edge, attempt: &Attempt, _: Outcome<()>) -> Result<(), StepError> {
        reset_or_quarantine(edge, attempt, self.gateway, self.upstream, self.hostname.organization()).await
    }
}

impl Probe<Edge> for Handshake {
    async fn probe(
        &self,
        edge: &Edge,
        key: IdempotencyKey,
        _: Outcome<()>,
    ) -> Result<Sighting<()>, StepError> {
        let organization = self.hostname.organization();
        let known = known(edge, self.gateway, self.upstream, organization).await?;
        Ok(match known {
            Known::No => return gone_or_stopped(edge, key.workflow).await,
            Known::For(Some(other), _) if other != owner(key.workflow) => {
                return gone_or_stopped(edge, key.workflow).await;
            }
            Known::Quarantined => quarantined(self.gateway),
            // Also where nobody has the gateway: then it knows what it should have forgotten.
            Known::For(_, hostname) if hostname.as_ref() == Some(&self.hostname) => Sighting::Stands(()),
            Known::For(..) => {
                Sighting::Partly("the gateway serves the organisation under another name".to_owned())
            }
        })
    }
}

/// Makes the gateway forget its organisation, or never be handed out again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ResetGateway {
    /// Which gateway.
    pub gateway: GatewayId,
    /// Where it listens.
    pub upstream: Upstream,
    /// Whom it served.
    pub organization: OrganizationId,
}

impl Step<Edge> for ResetGateway {
    const NAME: &'static str = "reset-gateway";
    const BACKWARD: Backward<Self, Edge> = Backward::nothing_because("it follows the pivot");
    const PROBED: Probed<Self, Edge> = Probed::to_verify();
    const CONDUCT: Conduct = Conduct {
        timeout: HANDSHAKE.timeout,
        retry: RetryPolicy { attempts_max: HANDSHAKE.patience.attempts, ..STOP_RETRY },
        late_effects: HANDSHAKE.late_effects,
        ..STOP
    };
    type Output = ();

    async fn run(&self, edge: &Edge, attempt: &Attempt) -> Result<(), StepError> {
        reset_or_quarantine(edge, attempt, self.gateway, self.upstream, self.organization).await
    }
}

impl Probe<Edge> for ResetGateway {
    async fn probe(
        &self,
        edge: &Edge,
        key: IdempotencyKey,
        _: Outcome<()>,
    ) -> Result<Sighting<()>, StepError> {
        let known = known(edge, self.gateway, self.upstream, self.organization).await?;
        let stop = owner(key.workflow);
        let taken = edge.database.call(async |connection| pool::taken_over_by(connection, stop).await);
        let start = taken.await.map_err(step_error)?.map(|allocation| allocation.owner);
        Ok(match known {
            Known::No | Known::Quarantined => Sighting::Stands(()),
            Known::For(Some(other), _) if Some(other) != start => Sighting::Unknown(format!(
                "workflow {other} has started the gateway for the organisation again"
            )),
            Known::For(..) => Sighting::Gone,
        })
    }
}

/// Whether a gateway knows an organisation.
enum Known {
    /// It serves nobody, or another.
    No,
    /// Nobody needs to know: it is not handed out again until somebody has seen to it.
    Quarantined,
    /// It serves it: on behalf of which start by the pool, if any has it, and under which name.
    For(Option<Owner>, Option<Hostname>),
}

async fn known(
    edge: &Edge,
    gateway: GatewayId,
    upstream: Upstream,
    organization: OrganizationId,
) -> Result<Known, StepError> {
    let holder = edge.database.call(async |connection| pool::holder(connection, gateway).await);
    let holder = holder.await.map_err(step_error)?;
    if holder.is_some_and(|Holder { is_quarantined, .. }| is_quarantined) {
        return Ok(Known::Quarantined);
    }
    let state = edge.agent(upstream).map_err(step_error)?.state().await.map_err(step_error)?;
    Ok(match state.organization_id {
        Some(served) if served == organization => {
            Known::For(holder.and_then(|holder| holder.owner), state.hostname)
        }
        _ => Known::No,
    })
}

fn quarantined<T>(gateway: GatewayId) -> Sighting<T> {
    Sighting::Unknown(format!(
        "gateway {gateway} is quarantined, and may know the organisation until somebody has seen to it"
    ))
}

async fn reset_or_quarantine(
    edge: &Edge,
    attempt: &Attempt,
    gateway: GatewayId,
    upstream: Upstream,
    organization_id: OrganizationId,
) -> Result<(), StepError> {
    let reason = match edge.agent(upstream) {
        Err(not_allowed) => step_error(not_allowed),
        Ok(agent) => match agent.reset(&ResetRequest { organization_id }, &caller(attempt)).await {
            Ok(_) => return Ok(()),
            // Somebody else has this workflow by now, and decides what becomes of the gateway.
            Err(stale @ AgentError::Stale { .. }) => return Err(step_error(stale)),
            Err(error) if error.is_transient() && attempt.number() < edge.resets_max => {
                return Err(step_error(error));
            }
            Err(error) => step_error(error),
        },
    };
    quarantine(edge, attempt, gateway, &reason.failure().message).await
}

/// In a statement of its own, not in a step's transaction: it may be repeated, and the first reason stays. Whoever comes late,
/// when the gateway is another's already, changes nothing.
async fn quarantine(
    edge: &Edge,
    attempt: &Attempt,
    gateway: GatewayId,
    error: &str,
) -> Result<(), StepError> {
    let workflow = attempt.workflow();
    let reason = format!("workflow {workflow} could not reset it: {error}");
    let quarantined = edge
        .database
        .call(async |connection| pool::quarantine_held(connection, gateway, owner(workflow), &reason).await);
    let is_held = tokio::time::timeout(QUARANTINE_TIMEOUT, quarantined)
        .await
        .map_err(|_| StepError::retry("pool_no_answer", "the pool did not answer in time"))?
        .map_err(step_error)?;
    if is_held {
        tracing::warn!(workflow.id = %workflow, gateway.id = %gateway, reason, "the gateway is quarantined");
    } else {
        tracing::warn!(
            workflow.id = %workflow, gateway.id = %gateway, error,
            "the gateway could not be reset, and was left alone: it is not allocated by this workflow any more"
        );
    }
    Ok(())
}
