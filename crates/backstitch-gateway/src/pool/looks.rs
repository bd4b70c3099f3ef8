//! Which allocations are there, for whoever only looks?

use sqlx::PgConnection;
use uuid::Uuid;

use super::{Allocation, AllocationRow, PoolError};
use crate::identifiers::{GatewayId, Owner};

/// Who has a gateway.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Holder {
    /// It is not handed out again, whoever has it.
    pub is_quarantined: bool,
    /// On behalf of which start it serves. None: it is free.
    pub owner: Option<Owner>,
}

/// The allocations that these starts made, however far they are.
pub async fn made_by(connection: &mut PgConnection, starts: &[Owner]) -> Result<Vec<Allocation>, PoolError> {
    let starts: Vec<Uuid> = starts.iter().map(Owner::uuid).collect();
    let rows = sqlx::query_as!(
        AllocationRow,
        r#"
        select
            a.gateway_id as "gateway_id!",
            g.upstream as "upstream!",
            a.organization_id as "organization_id!",
            a.workflow_id as "workflow_id!",
            a.stopping_workflow_id,
            a.status as "status!",
            a.hostname
        from gateway.allocation as a
        join gateway.gateway as g on g.gateway_id = a.gateway_id
        where a.workflow_id = any ($1)
        "#,
        &starts,
    );
    parsed(rows.fetch_all(connection).await?)
}

/// The allocation that a stop took over, however far it is.
pub async fn taken_over_by(
    connection: &mut PgConnection,
    stop: Owner,
) -> Result<Option<Allocation>, PoolError> {
    let row = sqlx::query_as!(
        AllocationRow,
        r#"
        select
            a.gateway_id as "gateway_id!",
            g.upstream as "upstream!",
            a.organization_id as "organization_id!",
            a.workflow_id as "workflow_id!",
            a.stopping_workflow_id,
            a.status as "status!",
            a.hostname
        from gateway.allocation as a
        join gateway.gateway as g on g.gateway_id = a.gateway_id
        where a.stopping_workflow_id = $1
        "#,
        stop.uuid(),
    );
    row.fetch_optional(connection).await?.map(TryInto::try_into).transpose()
}

/// Every allocation that has not ended, and the last `ended_max` of those that have.
pub async fn unended_and_last(
    connection: &mut PgConnection,
    ended_max: u32,
) -> Result<Vec<Allocation>, PoolError> {
    let rows = sqlx::query_as!(
        AllocationRow,
        r#"
        with listed as (
            select a.allocation_id from gateway.allocation as a where a.status <> 'ended'
            union all
            (
                select a.allocation_id
                from gateway.allocation as a
                where a.status = 'ended'
                order by a.allocation_id desc
                limit $1
            )
        )
        select
            a.gateway_id as "gateway_id!",
            g.upstream as "upstream!",
            a.organization_id as "organization_id!",
            a.workflow_id as "workflow_id!",
            a.stopping_workflow_id,
            a.status as "status!",
            a.hostname
        from listed as l
        join gateway.allocation as a on a.allocation_id = l.allocation_id
        join gateway.gateway as g on g.gateway_id = a.gateway_id
        order by a.allocation_id
        "#,
        i64::from(ended_max),
    );
    parsed(rows.fetch_all(connection).await?)
}

/// Who has a gateway. None: there is no such gateway.
pub async fn holder(connection: &mut PgConnection, gateway: GatewayId) -> Result<Option<Holder>, PoolError> {
    let row = sqlx::query!(
        r#"
        select state = 'quarantined' as "is_quarantined!", workflow_id
        from gateway.gateways
        where gateway_id = $1
        "#,
        gateway.number(),
    );
    let row = row.fetch_optional(connection).await?;
    Ok(row.map(|row| Holder { is_quarantined: row.is_quarantined, owner: row.workflow_id.map(Owner::from) }))
}

fn parsed(rows: Vec<AllocationRow>) -> Result<Vec<Allocation>, PoolError> {
    rows.into_iter().map(TryInto::try_into).collect()
}
