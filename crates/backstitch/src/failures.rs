//! With which errors did workflows fail, and how often each?

use backstitch_core::id::WorkflowId;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::client::Client;
use crate::error::Error;
use crate::view::Filter;

/// How many workflows are looked at, the newest first. Nothing is indexed by its error, as every end would pay for that;
/// so many rows are read in some hundred milliseconds, well within a call's deadline.
const LOOKED_AT_MAX: i64 = 100_000;

/// Failures by error, and how far back they were looked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Failures {
    /// So many workflows were looked at, the newest first; of some kinds, so many of those were among them.
    pub looked_at: i64,
    /// With those of other kinds that was the most that is looked at: older ones may have failed too.
    pub is_bounded: bool,
    /// When the oldest of them was asked for. None: there was none.
    pub oldest_at: Option<DateTime<Utc>>,
    /// The most frequent first.
    pub errors: Vec<FailureGroup>,
}

/// Workflows of one kind that failed with the same code.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct FailureGroup {
    /// The error's code.
    pub code: String,
    /// The workflows' kind.
    pub kind: String,
    /// How many.
    pub workflows: i64,
    /// When the first and the last of them ended; or, still on its way back, was asked for.
    pub first_at: DateTime<Utc>,
    /// See `first_at`.
    pub last_at: DateTime<Utc>,
    /// The newest of them.
    pub example: WorkflowId,
    /// What that one said.
    pub message: String,
}

impl Client {
    /// Failures by error: of what was taken back, and of what is stuck on its way back.
    ///
    /// Of the filter, `kind`, `queue`, `since` and `until` say where to look, and `limit` how many errors to tell. `kinds`: as
    /// for a [`Token`](crate::Token), nothing is told of workflows of any other, not even how many there are. None: of every
    /// kind.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn failures(&self, filter: Filter, kinds: Option<&[String]>) -> Result<Failures, Error> {
        let (from, to) = filter.ids();
        let kinds = kinds.map(<[String]>::to_vec);
        let rows = self
            .database
            .look("grouping failures", async |connection| {
                sqlx::query!(
                    r#"
                    with newest as materialized (
                        select w.workflow_id, w.kind, w.queue, w.enqueued_at, w.finished_at, w.error
                        from backstitch.workflow w
                        where w.workflow_id >= $1
                            and w.workflow_id < $2
                        order by w.workflow_id desc
                        limit $3
                    ),
                    visible as not materialized (
                        select n.workflow_id, n.kind, n.queue, n.enqueued_at, n.finished_at, n.error
                        from newest n
                        where $9::text[] is null or n.kind = any ($9)
                    ),
                    failed as (
                        select v.error -> 'failure' ->> 'code' as code, v.kind, count(*) as workflows,
                            min(coalesce(v.finished_at, v.enqueued_at)) as first_at,
                            max(coalesce(v.finished_at, v.enqueued_at)) as last_at,
                            (array_agg(v.workflow_id order by v.workflow_id desc))[1] as example,
                            (array_agg(v.error -> 'failure' ->> 'message' order by v.workflow_id desc))[1] as message
                        from visible v
                        where v.error is not null
                            and ($4::text is null or v.kind = $4)
                            and ($5::text is null or v.queue = $5)
                            and ($6::timestamptz is null or v.enqueued_at >= $6)
                            and ($7::timestamptz is null or v.enqueued_at < $7)
                        group by 1, 2
                        order by workflows desc, code, kind
                        limit $8
                    )
                    select l.looked_at as "looked_at!", b.is_bounded as "is_bounded!", l.oldest_at,
                        f.code as "code?", f.kind as "kind?",
                        f.workflows as "workflows?", f.first_at as "first_at?", f.last_at as "last_at?",
                        f.example as "example?", f.message as "message?"
                    from (select count(*) as looked_at, min(v.enqueued_at) as oldest_at from visible v) l
                        cross join (select count(*) = $3 as is_bounded from newest) b
                        left join failed f on true
                    order by f.workflows desc, f.code, f.kind
                    "#,
                    from,
                    to,
                    LOOKED_AT_MAX,
                    filter.kind,
                    filter.queue,
                    filter.since,
                    filter.until,
                    i64::from(filter.limit),
                    kinds.as_deref()
                )
                .fetch_all(connection)
                .await
            })
            .await?;
        let (looked_at, is_bounded, oldest_at) =
            rows.first().map_or((0, false, None), |row| (row.looked_at, row.is_bounded, row.oldest_at));
        let errors = rows
            .into_iter()
            .filter_map(|row| {
                Some(FailureGroup {
                    code: row.code?,
                    kind: row.kind?,
                    workflows: row.workflows?,
                    first_at: row.first_at?,
                    last_at: row.last_at?,
                    example: WorkflowId(row.example?),
                    message: row.message.unwrap_or_default(),
                })
            })
            .collect();
        Ok(Failures { looked_at, is_bounded, oldest_at, errors })
    }
}
