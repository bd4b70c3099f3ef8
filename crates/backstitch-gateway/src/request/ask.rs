//! What do the SQL functions answer to one question?

use backstitch::{Client, WorkflowId};
use sqlx::PgConnection;
use tokio::time::timeout;

use super::{LOOK_TIMEOUT, RequestError};
use crate::identifiers::{Hostname, InvalidIdentifier, OrganizationId, Owner};
use crate::pool::{Allocation, AllocationStatus, PoolError};

/// What `gateway.request_start` says.
pub(super) enum AskedStart {
    /// It is served already.
    Active { hostname: Hostname, allocation: Allocation },
    /// This workflow starts it, new or joined; or would, and a person must see to it.
    Starting(WorkflowId),
    /// This one takes an earlier start back, and must end first.
    Compensating(WorkflowId),
    /// This one stops it, and must end first.
    Stopping(WorkflowId),
}

/// What `gateway.request_stop` says.
pub(super) enum AskedStop {
    /// It is not served.
    Stopped,
    /// This workflow stops it, new or joined.
    Stopping(WorkflowId),
    /// This start is taken back, and must end first.
    Compensating(WorkflowId),
}

pub(super) async fn start(client: &Client, organization: OrganizationId) -> Result<AskedStart, RequestError> {
    let question = sqlx::query!(
        r#"
        select answer as "answer!", workflow_id as "workflow_id!", gateway_id, upstream, hostname
        from gateway.request_start($1)
        "#,
        organization.uuid()
    );
    let row =
        within_time(client.database().call(async |connection| question.fetch_one(connection).await)).await?;
    let workflow = WorkflowId(row.workflow_id);
    Ok(match row.answer.as_str() {
        "active" => {
            let allocation = Allocation {
                gateway: row.gateway_id.unwrap_or_default().try_into().map_err(PoolError::from)?,
                upstream: row.upstream.unwrap_or_default().parse().map_err(PoolError::from)?,
                organization,
                owner: Owner::from(row.workflow_id),
                stopping: None,
                status: AllocationStatus::Active,
                hostname: row
                    .hostname
                    .map(|hostname| hostname.parse())
                    .transpose()
                    .map_err(PoolError::from)?,
            };
            let by_hand = || {
                let why = "it was allocated by hand, without a name; release it by hand, too";
                PoolError::from(InvalidIdentifier::new("the hostname of an organisation", "", why))
            };
            let hostname = allocation.hostname.clone().ok_or_else(by_hand)?;
            AskedStart::Active { hostname, allocation }
        }
        "started" | "starting" => AskedStart::Starting(workflow),
        "stopping" => AskedStart::Stopping(workflow),
        // Waiting for one that needs attention says so at once.
        "compensating" | "needs_attention" => AskedStart::Compensating(workflow),
        _ => return Err(PoolError::UnknownStatus { status: row.answer }.into()),
    })
}

pub(super) async fn stop(client: &Client, organization: OrganizationId) -> Result<AskedStop, RequestError> {
    let question = sqlx::query!(
        r#"select answer as "answer!", workflow_id from gateway.request_stop($1)"#,
        organization.uuid()
    );
    let row =
        within_time(client.database().call(async |connection| question.fetch_one(connection).await)).await?;
    Ok(match (row.answer.as_str(), row.workflow_id.map(WorkflowId)) {
        ("stopped", _) => AskedStop::Stopped,
        ("stopping", Some(workflow)) => AskedStop::Stopping(workflow),
        ("compensating" | "needs_attention", Some(workflow)) => AskedStop::Compensating(workflow),
        _ => return Err(PoolError::UnknownStatus { status: row.answer }.into()),
    })
}

/// Whether a workflow exists and has not ended.
pub(crate) async fn is_live(connection: &mut PgConnection, workflow: Owner) -> Result<bool, PoolError> {
    let live = sqlx::query_scalar!(r#"select gateway.workflow_is_live($1) as "live!""#, workflow.uuid());
    Ok(live.fetch_one(connection).await?)
}

async fn within_time<T>(question: impl Future<Output = sqlx::Result<T>>) -> Result<T, RequestError> {
    match timeout(LOOK_TIMEOUT, question).await {
        Ok(answer) => Ok(answer.map_err(PoolError::from)?),
        Err(_) => Err(RequestError::Deadline),
    }
}
