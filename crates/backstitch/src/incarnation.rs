//! How one life of a worker process begins, goes on and ends, in the database.

use std::time::Duration;

use backstitch_core::id::{IncarnationId, WorkflowId};
use sqlx::PgConnection;
use uuid::Uuid;

use crate::database::{Database, interval};
use crate::error::Error;

/// A life begins. `token` names its lock file; registering it again is the same life.
pub(crate) async fn register(
    database: &Database,
    token: Uuid,
    kinds: Vec<String>,
    lease: Duration,
) -> Result<IncarnationId, Error> {
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let pid = i32::try_from(std::process::id()).unwrap_or(0);
    database
        .run("registering this worker", async |connection| {
            sqlx::query_scalar!(
                r#"select backstitch.register($1, $2, $3, $4, $5, $6) as "incarnation!""#,
                token,
                host,
                pid,
                env!("CARGO_PKG_VERSION"),
                &kinds,
                interval(lease)
            )
            .fetch_one(connection)
            .await
            .map(IncarnationId)
        })
        .await
}

/// What a heartbeat learns.
pub(crate) struct Beat {
    /// False: this incarnation is buried.
    pub(crate) alive: bool,
    /// Which of its workflows were cancelled.
    pub(crate) cancelled: Vec<WorkflowId>,
}

/// Renews the lease.
pub(crate) async fn beat(
    connection: &mut PgConnection,
    incarnation: IncarnationId,
    lease: Duration,
) -> sqlx::Result<Beat> {
    let row = sqlx::query!(
        r#"select alive as "alive!", cancelled as "cancelled!" from backstitch.beat($1, $2)"#,
        incarnation.0,
        interval(lease)
    )
    .fetch_one(connection)
    .await?;
    Ok(Beat { alive: row.alive, cancelled: row.cancelled.into_iter().map(WorkflowId).collect() })
}

/// A life ends in order, holding nothing. False: it still holds something, or was buried.
pub(crate) async fn retire(database: &Database, incarnation: IncarnationId) -> Result<bool, Error> {
    database
        .run("retiring this worker", async |connection| {
            sqlx::query_scalar!(r#"select backstitch.retire($1) as "retired!""#, incarnation.0)
                .fetch_one(connection)
                .await
        })
        .await
}

/// An incarnation that has not died, as a look of the recovery sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) incarnation: IncarnationId,
    pub(crate) token: Uuid,
    pub(crate) beat: i64,
    /// Its lease is over, by the database's clock.
    pub(crate) expired: bool,
}

/// Every incarnation that has not died.
pub(crate) async fn living(database: &Database) -> Result<Vec<Seen>, Error> {
    database
        .run("looking for expired workers", async |connection| {
            let rows = sqlx::query!(
                r#"
                select incarnation_id, token, beat, lease_until <= backstitch.clock() as "expired!"
                from backstitch.incarnation
                where died_at is null
                "#
            )
            .fetch_all(connection)
            .await?;
            Ok(rows
                .into_iter()
                .map(|row| Seen {
                    incarnation: IncarnationId(row.incarnation_id),
                    token: row.token,
                    beat: row.beat,
                    expired: row.expired,
                })
                .collect())
        })
        .await
}

/// Declares an incarnation dead and frees its workflows. None: it was not to be buried after all.
pub(crate) async fn bury(database: &Database, dead: Seen, gone: bool) -> Result<Option<u32>, Error> {
    database
        .run("burying a dead worker", async |connection| {
            let orphans = sqlx::query_scalar!(
                "select backstitch.bury($1, $2, $3)",
                dead.incarnation.0,
                dead.beat,
                gone
            )
            .fetch_one(connection)
            .await?;
            Ok(orphans.map(|orphans| orphans.unsigned_abs()))
        })
        .await
}
