//! Who works, at what, and how much there is: workers, kinds, and counts by status.

use backstitch_core::id::IncarnationId;
use backstitch_core::record::Operator;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use sqlx::types::Json as AsJsonb;

use crate::client::Client;
use crate::error::Error;
use crate::view::Status;

/// One life of a worker process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct WorkerView {
    /// Its number.
    pub incarnation: i32,
    /// The host it runs on.
    pub host: String,
    /// Its process there.
    pub pid: i32,
    /// Its version.
    pub version: String,
    /// The kinds that it serves.
    pub kinds: Vec<String>,
    /// Nobody has buried it. Its lease may be over all the same.
    pub alive: bool,
    /// When it began.
    pub began_at: DateTime<Utc>,
    /// How long ago its last heartbeat came. None: it is dead.
    pub beat_age_milliseconds: Option<i64>,
    /// How long it may still begin effects; negative once that is over. None: it is dead.
    pub lease_left_milliseconds: Option<i64>,
    /// How many workflows it works on right now.
    pub held: i64,
    /// When it died. None: it lives.
    pub died_at: Option<DateTime<Utc>>,
    /// shutdown, expired or gone. None: it lives.
    pub death: Option<String>,
}

/// One kind of workflow.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct KindView {
    /// Its name.
    pub kind: String,
    /// By how many living workers.
    pub served_by: i64,
    /// Never taken up.
    pub pending: i64,
    /// On their way.
    pub running: i64,
    /// On their way back.
    pub compensating: i64,
    /// Waiting for a person.
    pub needs_attention: i64,
    /// How many of all these a worker works on right now.
    pub held: i64,
    /// Since when the longest waiting one could have been taken up. None: nothing that is due waits.
    pub oldest_due_at: Option<DateTime<Utc>>,
    /// Who has paused it, and why. None: nobody.
    pub paused: Option<Operator>,
}

/// How many workflows have a status.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct StatusCount {
    /// Which.
    pub status: Status,
    /// So many.
    pub workflows: i64,
    /// Counted. False: estimated from a part of them.
    pub is_exact: bool,
}

impl Client {
    /// The living workers, and after them up to `dead_max` of those that died last.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn workers(&self, dead_max: u32) -> Result<Vec<WorkerView>, Error> {
        self.read_workers(None, dead_max, None).await
    }

    /// One worker. None: there is none of this number.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn worker(&self, incarnation: IncarnationId) -> Result<Option<WorkerView>, Error> {
        self.worker_of(incarnation, None).await
    }

    /// The same, as far as these kinds go, as for a [`Token`](crate::Token): it serves no other, and holds nothing of any
    /// other. None: of every kind.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn worker_of(
        &self,
        incarnation: IncarnationId,
        kinds: Option<&[String]>,
    ) -> Result<Option<WorkerView>, Error> {
        Ok(self.read_workers(Some(incarnation), 0, kinds).await?.pop())
    }

    /// One of them, or all that live and some that died.
    async fn read_workers(
        &self,
        one: Option<IncarnationId>,
        dead_max: u32,
        of_kinds: Option<&[String]>,
    ) -> Result<Vec<WorkerView>, Error> {
        let of_kinds = of_kinds.map(<[String]>::to_vec);
        self.database
            .run("reading the workers", async |connection| {
                sqlx::query_as!(
                    WorkerView,
                    r#"
                    with listed as (
                        select i.incarnation_id from backstitch.incarnation i where i.incarnation_id = $1
                        union all
                        select i.incarnation_id
                        from backstitch.incarnation i
                        where $1::integer is null
                            and i.died_at is null
                        union all
                        (
                            select i.incarnation_id
                            from backstitch.incarnation i
                            where $1::integer is null
                                and i.died_at is not null
                            order by i.incarnation_id desc
                            limit $2
                        )
                    )
                    select incarnation as "incarnation!", host as "host!", pid as "pid!", version as "version!",
                        case
                            when $3::text[] is null then kinds
                            else array(select k.kind from unnest(kinds) k (kind) where k.kind = any ($3))
                        end as "kinds!",
                        alive as "alive!", began_at as "began_at!",
                        (extract(epoch from beat_age) * 1000)::bigint as beat_age_milliseconds,
                        (extract(epoch from lease_left) * 1000)::bigint as lease_left_milliseconds,
                        case
                            when $3::text[] is null then held
                            else (
                                select count(*)
                                from backstitch.ready r
                                where r.holder = incarnation
                                    and r.kind = any ($3)
                            )
                        end as "held!",
                        died_at, death
                    from backstitch.workers
                    where incarnation in (select l.incarnation_id from listed l)
                    order by alive desc, incarnation desc
                    "#,
                    one.map(|incarnation| incarnation.0),
                    i64::from(dead_max),
                    of_kinds.as_deref()
                )
                .fetch_all(connection)
                .await
            })
            .await
    }

    /// Every kind that is served, waits to be, or is paused.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn kinds(&self) -> Result<Vec<KindView>, Error> {
        self.read_kinds(None).await
    }

    /// Who has paused a kind, and why. None: nobody.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn pause_of_kind(&self, kind: &str) -> Result<Option<Operator>, Error> {
        Ok(self.read_kinds(Some(kind.to_owned())).await?.pop().and_then(|kind| kind.paused))
    }

    /// One of them, or all.
    async fn read_kinds(&self, one: Option<String>) -> Result<Vec<KindView>, Error> {
        let rows = self.database.look("reading the kinds", async |connection| {
            sqlx::query!(
                r#"
                select kind as "kind!", served_by as "served_by!", pending as "pending!", running as "running!",
                    compensating as "compensating!", needs_attention as "needs_attention!", held as "held!",
                    oldest_due_at, paused as "paused: AsJsonb<Operator>"
                from backstitch.kinds
                where $1::text is null or kind = $1
                order by kind
                "#,
                one
            )
            .fetch_all(connection)
            .await
        });
        let views = rows.await?.into_iter().map(|row| KindView {
            kind: row.kind,
            served_by: row.served_by,
            pending: row.pending,
            running: row.running,
            compensating: row.compensating,
            needs_attention: row.needs_attention,
            held: row.held,
            oldest_due_at: row.oldest_due_at,
            paused: row.paused.map(|paused| paused.0),
        });
        Ok(views.collect())
    }

    /// How many workflows have each status, in the order of a life.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn stats(&self) -> Result<Vec<StatusCount>, Error> {
        let rows = self
            .database
            .look("counting workflows", async |connection| {
                sqlx::query!(
                    r#"
                    select status as "status!", workflows as "workflows!", is_exact as "is_exact!"
                    from backstitch.stats
                    "#
                )
                .fetch_all(connection)
                .await
            })
            .await?;
        let counted = |status: Status| {
            let row = rows.iter().find(|row| row.status == status.as_str())?;
            Some(StatusCount { status, workflows: row.workflows, is_exact: row.is_exact })
        };
        Ok(Status::ALL.into_iter().filter_map(counted).collect())
    }

    /// The time by which everything is decided: the database's.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn now(&self) -> Result<DateTime<Utc>, Error> {
        self.database
            .run("asking for the time", async |connection| {
                sqlx::query_scalar!(r#"select backstitch.clock() as "now!""#).fetch_one(connection).await
            })
            .await
    }
}
