//! Which gateway serves whom, and how is one taken and given back?
//!
//! Each function here owns one statement, on a connection of the caller's choice: a transactional step passes its own
//! transaction. What must never be is guarded by the schema (`migrations/`): one gateway for one organisation, one
//! allocation per workflow, an end only by the workflow that the allocation names.

mod error;
mod looks;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use sqlx::{PgConnection, PgPool};
use uuid::Uuid;

use crate::identifiers::{GatewayId, Hostname, OrganizationId, Owner};
use crate::networks::Upstream;
pub use error::PoolError;
pub use looks::{Holder, holder, made_by, taken_over_by, unended_and_last};

/// A gateway serves an organisation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Allocation {
    /// Which gateway.
    pub gateway: GatewayId,
    /// Where it listens.
    pub upstream: Upstream,
    /// Whom it serves.
    pub organization: OrganizationId,
    /// The start that allocated it; DNS record and vhost carry this id.
    pub owner: Owner,
    /// The stop that took it over, if one has.
    pub stopping: Option<Owner>,
    /// How far it is.
    pub status: AllocationStatus,
    /// Under which name it is served, where the start said so.
    pub hostname: Option<Hostname>,
}

/// How far an allocation is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AllocationStatus {
    /// A start has it.
    Active,
    /// A stop has taken it over.
    Stopping,
    /// It is history.
    Ended,
}

/// How many gateways are in each state; the states sum up to the total.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stats {
    /// All of them.
    pub total: i64,
    /// Added, not yet set ready.
    pub new: i64,
    /// Free to be handed out.
    pub ready: i64,
    /// In use.
    pub allocated: i64,
    /// Being taken back by a stop.
    pub stopping: i64,
    /// Not handed out until an operator releases them; in use or not.
    pub quarantined: i64,
}

/// A gateway as an operator sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listed {
    /// Its number.
    pub gateway: GatewayId,
    /// Its name.
    pub name: String,
    /// Where it listens.
    pub upstream: Upstream,
    /// `new`, `ready`, `allocated`, `stopping` or `quarantined`.
    pub state: String,
    /// Why it is quarantined, if it is.
    pub reason: Option<String>,
    /// Whom it serves, if anybody.
    pub organization: Option<OrganizationId>,
    /// On behalf of which start, if any.
    pub owner: Option<Owner>,
    /// Since when it serves, if it does.
    pub allocated_at: Option<DateTime<Utc>>,
    /// Since when it is free, if it is.
    pub free_since: Option<DateTime<Utc>>,
}

/// Brings the schema `gateway` up to date. Its bookkeeping lies in that schema, apart from the engine's.
pub async fn migrate(pool: &PgPool) -> Result<(), PoolError> {
    let mut migrator = sqlx::migrate!();
    migrator.create_schema("gateway");
    migrator.dangerous_set_table_name("gateway._migrations");
    Ok(backstitch::apply_migrations(migrator, &pool.connect_options()).await?)
}

/// Adds a gateway, which is handed out only once it is [`set_ready`].
pub async fn add(
    connection: &mut PgConnection,
    name: &str,
    upstream: Upstream,
) -> Result<GatewayId, PoolError> {
    let id = sqlx::query_scalar!(
        r#"select gateway.proc_gateway_new($1, $2) as "id!""#,
        name,
        upstream.to_string()
    );
    Ok(id.fetch_one(connection).await?.try_into()?)
}

/// Has a new gateway handed out from now on.
pub async fn set_ready(connection: &mut PgConnection, gateway: GatewayId) -> Result<(), PoolError> {
    sqlx::query!("select gateway.proc_gateways_set_ready($1)", gateway.number())
        .fetch_one(connection)
        .await?;
    Ok(())
}

/// Takes the gateway that was free for longest. Asked again by the same workflow: the same allocation.
pub async fn allocate(
    connection: &mut PgConnection,
    hostname: &Hostname,
    workflow: Owner,
) -> Result<Allocation, PoolError> {
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
        from gateway.proc_organizations_start_gateway($1, $2, $3) as a
        join gateway.gateway as g on g.gateway_id = a.gateway_id
        "#,
        hostname.organization().uuid(),
        workflow.uuid(),
        hostname.to_string(),
    );
    row.fetch_one(connection).await?.try_into()
}

/// Takes the allocation of an organisation over, for a stop: this workflow is then the only one that may release it.
pub async fn begin_stop(
    connection: &mut PgConnection,
    organization: OrganizationId,
    workflow: Owner,
) -> Result<Allocation, PoolError> {
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
        from gateway.proc_allocation_begin_stop($1, $2) as a
        join gateway.gateway as g on g.gateway_id = a.gateway_id
        "#,
        organization.uuid(),
        workflow.uuid(),
    );
    row.fetch_one(connection).await?.try_into()
}

/// Ends the allocation that names this workflow, now or before; false if this gateway has none and had none of it.
pub async fn release(
    connection: &mut PgConnection,
    gateway: GatewayId,
    workflow: Owner,
) -> Result<bool, PoolError> {
    let ended = sqlx::query_scalar!(
        r#"select gateway.proc_organizations_gateways_stop($1, $2) as "ended!""#,
        gateway.number(),
        workflow.uuid(),
    );
    Ok(ended.fetch_one(connection).await?)
}

/// The allocation of an organisation, active or stopping, if it has one.
pub async fn active(
    connection: &mut PgConnection,
    organization: OrganizationId,
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
        from gateway.func_organizations_get_active_gateway($1) as a
        join gateway.gateway as g on g.gateway_id = a.gateway_id
        "#,
        organization.uuid(),
    );
    row.fetch_optional(connection).await?.map(TryInto::try_into).transpose()
}

/// Keeps a gateway from being handed out again; the first reason stays.
pub async fn quarantine(
    connection: &mut PgConnection,
    gateway: GatewayId,
    reason: &str,
) -> Result<(), PoolError> {
    sqlx::query!("select gateway.proc_gateway_quarantine($1, $2)", gateway.number(), reason)
        .fetch_one(connection)
        .await?;
    Ok(())
}

/// Keeps the gateway that this workflow has from being handed out again; the first reason stays. False: it has it no more, and
/// nothing was changed.
pub async fn quarantine_held(
    connection: &mut PgConnection,
    gateway: GatewayId,
    workflow: Owner,
    reason: &str,
) -> Result<bool, PoolError> {
    let held = sqlx::query_scalar!(
        r#"select gateway.proc_gateway_quarantine_held($1, $2, $3) as "held!""#,
        gateway.number(),
        workflow.uuid(),
        reason,
    );
    Ok(held.fetch_one(connection).await?)
}

/// Takes a gateway out of quarantine; refused while it is allocated.
pub async fn release_quarantine(connection: &mut PgConnection, gateway: GatewayId) -> Result<(), PoolError> {
    sqlx::query!("select gateway.proc_gateway_release($1)", gateway.number()).fetch_one(connection).await?;
    Ok(())
}

/// How many gateways are in each state.
pub async fn stats(connection: &mut PgConnection) -> Result<Stats, PoolError> {
    let stats = sqlx::query_as!(
        Stats,
        r#"
        select
            total as "total!",
            fresh as "new!",
            ready as "ready!",
            allocated as "allocated!",
            stopping as "stopping!",
            quarantined as "quarantined!"
        from gateway.func_gateway_stats()
        "#
    );
    Ok(stats.fetch_one(connection).await?)
}

/// Every gateway, in the order in which they were added.
pub async fn list(connection: &mut PgConnection) -> Result<Vec<Listed>, PoolError> {
    let rows = sqlx::query!(
        r#"
        select
            gateway_id as "gateway_id!",
            name as "name!",
            upstream as "upstream!",
            state as "state!",
            reason,
            organization_id,
            workflow_id,
            allocated_at,
            free_since
        from gateway.gateways
        order by gateway_id
        "#
    );
    let rows = rows.fetch_all(connection).await?;
    let listed = rows.into_iter().map(|row| {
        Ok(Listed {
            gateway: row.gateway_id.try_into()?,
            name: row.name,
            upstream: row.upstream.parse()?,
            state: row.state,
            reason: row.reason,
            organization: row.organization_id.map(OrganizationId::from),
            owner: row.workflow_id.map(Owner::from),
            allocated_at: row.allocated_at,
            free_since: row.free_since,
        })
    });
    listed.collect()
}

/// An allocation as the database gives it, before it is parsed.
struct AllocationRow {
    gateway_id: i64,
    upstream: String,
    organization_id: Uuid,
    workflow_id: Uuid,
    stopping_workflow_id: Option<Uuid>,
    status: String,
    hostname: Option<String>,
}

impl TryFrom<AllocationRow> for Allocation {
    type Error = PoolError;

    fn try_from(row: AllocationRow) -> Result<Self, PoolError> {
        Ok(Self {
            gateway: row.gateway_id.try_into()?,
            upstream: row.upstream.parse()?,
            organization: row.organization_id.into(),
            owner: row.workflow_id.into(),
            stopping: row.stopping_workflow_id.map(Owner::from),
            status: match row.status.as_str() {
                "active" => AllocationStatus::Active,
                "stopping" => AllocationStatus::Stopping,
                "ended" => AllocationStatus::Ended,
                _ => return Err(PoolError::UnknownStatus { status: row.status }),
            },
            hostname: row.hostname.map(|hostname| hostname.parse()).transpose()?,
        })
    }
}
