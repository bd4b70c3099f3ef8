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
    pub(crate) lease: LeaseSeen,
}

/// What the database's clock says of a lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LeaseSeen {
    /// It holds.
    Holds,
    /// It is over.
    Over,
    /// It ends later than one of this length can that was given by now: the clock was set back since. Of a worker whose last
    /// beat tells no length, that of the version before, this is not seen.
    Ahead(Duration),
}

/// Every incarnation that has not died.
pub(crate) async fn living(database: &Database) -> Result<Vec<Seen>, Error> {
    database
        .run("looking for expired workers", async |connection| {
            let rows = sqlx::query!(
                r#"
                select incarnation_id, token, beat, lease_until <= backstitch.clock() as "over!",
                    case
                        when lease_until > backstitch.clock() + lease
                            then extract(epoch from lease)::double precision
                    end as ahead_seconds
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
                    lease: match row.ahead_seconds {
                        _ if row.over => LeaseSeen::Over,
                        Some(seconds) => {
                            LeaseSeen::Ahead(Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX))
                        }
                        None => LeaseSeen::Holds,
                    },
                })
                .collect())
        })
        .await
}

/// What became of the workflows of one that is buried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Burial {
    /// How many came free.
    pub(crate) freed: u32,
    /// How many somebody's transaction keeps: until they come free, too, it is not buried.
    pub(crate) kept: u32,
}

/// Declares an incarnation dead and frees its workflows. None: it was not to be buried after all.
pub(crate) async fn bury(database: &Database, dead: Seen, gone: bool) -> Result<Option<Burial>, Error> {
    database
        .run("burying a dead worker", async |connection| {
            let freed = sqlx::query_scalar!(
                "select backstitch.bury($1, $2, $3)",
                dead.incarnation.0,
                dead.beat,
                gone
            )
            .fetch_one(&mut *connection)
            .await?;
            let Some(freed) = freed else { return Ok(None) };
            let kept = sqlx::query_scalar!(
                r#"select count(*)::integer as "kept!" from backstitch.ready where holder = $1"#,
                dead.incarnation.0
            )
            .fetch_one(connection)
            .await?;
            Ok(Some(Burial { freed: freed.unsigned_abs(), kept: kept.unsigned_abs() }))
        })
        .await
}
