//! How much is there right now, for whoever watches over it? Counted in one statement.

use chrono::{DateTime, Utc};

use crate::client::Client;
use crate::error::Error;

/// How many kinds are told apart, those with the most live workflows first. Anybody who may ask for workflows may invent
/// kinds, and each is several series for whoever keeps them.
pub const CENSUS_KINDS_MAX: u32 = 1_000;

/// What there is right now. What has ended is not counted: that would take longer the more there is.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Census {
    /// When it was taken, by the database's clock.
    pub at: DateTime<Utc>,
    /// Every kind that is served, or waits to be.
    pub kinds: Vec<KindCensus>,
    /// How many living workers there are.
    pub workers: i64,
    /// How many alerts still need a person.
    pub open_alerts: i64,
    /// How many kinds have live workflows and nobody who serves them.
    pub unserved_kinds: i64,
    /// When the oldest of those that have not ended was asked for. None: all have.
    pub oldest_enqueued_at: Option<DateTime<Utc>>,
}

/// What there is of one kind.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct KindCensus {
    /// Its name.
    pub kind: String,
    /// By how many living workers it is served.
    pub served_by: i64,
    /// Never taken up.
    pub pending: i64,
    /// On their way.
    pub running: i64,
    /// On their way back.
    pub compensating: i64,
    /// Waiting for a person.
    pub needs_attention: i64,
    /// How many of all these could be taken up right now, and are not.
    pub due: i64,
}

impl Client {
    /// How much there is right now: one look at what is live, whatever has ended.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn census(&self) -> Result<Census, Error> {
        let rows = self
            .database
            .look("taking a census", async |connection| {
                sqlx::query!(
                    r#"
                    with clock as materialized (
                        select backstitch.clock() as at
                    ),
                    served as (
                        select u.kind, count(*) as workers
                        from backstitch.incarnation i
                            cross join lateral unnest(i.kinds) u (kind)
                        where i.died_at is null
                        group by u.kind
                    ),
                    live as (
                        select r.kind,
                            count(*) as workflows,
                            count(*) filter (where r.phase = 'pending' and not r.attention) as pending,
                            count(*) filter (where r.phase = 'running' and not r.attention) as running,
                            count(*) filter (where r.phase = 'compensating' and not r.attention) as compensating,
                            count(*) filter (where r.attention) as needs_attention,
                            count(*) filter (where r.holder is null and r.due_at <= (select c.at from clock c)) as due
                        from backstitch.ready r
                        group by r.kind
                    )
                    select c.at as "at!",
                        (select count(*) from backstitch.incarnation i where i.died_at is null) as "workers!",
                        (select count(*) from backstitch.alert a where a.resolved_at is null) as "open_alerts!",
                        (
                            select count(*)
                            from live l
                            where not exists (select from served s where s.kind = l.kind)
                        ) as "unserved_kinds!",
                        -- Ids are ordered by time.
                        (
                            select w.enqueued_at
                            from backstitch.workflow w
                            where w.workflow_id = (
                                select r.workflow_id from backstitch.ready r order by r.workflow_id limit 1
                            )
                        ) as oldest_enqueued_at,
                        k.kind as "kind?", k.served_by as "served_by?", k.pending as "pending?",
                        k.running as "running?", k.compensating as "compensating?",
                        k.needs_attention as "needs_attention?", k.due as "due?"
                    from clock c
                        left join (
                            select coalesce(l.kind, s.kind) as kind,
                                coalesce(s.workers, 0) as served_by,
                                coalesce(l.pending, 0) as pending,
                                coalesce(l.running, 0) as running,
                                coalesce(l.compensating, 0) as compensating,
                                coalesce(l.needs_attention, 0) as needs_attention,
                                coalesce(l.due, 0) as due
                            from live l
                                full join served s on s.kind = l.kind
                            order by l.workflows desc nulls last, 1
                            limit $1
                        ) k on true
                    "#,
                    i64::from(CENSUS_KINDS_MAX)
                )
                .fetch_all(connection)
                .await
            })
            .await?;
        let mut counted = None;
        for row in rows {
            let census = counted.get_or_insert(Census {
                at: row.at,
                kinds: Vec::new(),
                workers: row.workers,
                open_alerts: row.open_alerts,
                unserved_kinds: row.unserved_kinds,
                oldest_enqueued_at: row.oldest_enqueued_at,
            });
            census.kinds.extend(row.kind.map(|kind| KindCensus {
                kind,
                served_by: row.served_by.unwrap_or(0),
                pending: row.pending.unwrap_or(0),
                running: row.running.unwrap_or(0),
                compensating: row.compensating.unwrap_or(0),
                needs_attention: row.needs_attention.unwrap_or(0),
                due: row.due.unwrap_or(0),
            }));
        }
        // There is a row at least: the clock's.
        counted.ok_or(Error::Database { doing: "taking a census", source: sqlx::Error::RowNotFound })
    }
}
