//! With which errors did workflows fail, and how often each?

use backstitch_core::id::WorkflowId;
use chrono::{DateTime, Utc};
use serde::Serialize;

use crate::client::Client;
use crate::error::Error;
use crate::view::Filter;

/// How many workflows are looked at, the newest first. Nothing is indexed by its error, as every end would pay for that;
/// so many rows are read in some hundred milliseconds, well within a call's deadline.
const LOOKED_AT_MAX: i64 = 100_000;

/// Failures by error, and how far back they were looked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Failures {
    /// So many workflows were looked at, the newest first.
    pub looked_at: i64,
    /// That was the most that is looked at: older ones may have failed too.
    pub is_bounded: bool,
    /// When the oldest of them was asked for. None: there was none.
    pub oldest_at: Option<DateTime<Utc>>,
    /// The most frequent first.
    pub errors: Vec<FailureGroup>,
}

/// Workflows of one kind that failed with the same code.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
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
    /// Of the filter, `kind`, `queue`, `since` and `until` say where to look, and `limit` how many errors to tell.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn failures(&self, filter: Filter) -> Result<Failures, Error> {
        let (from, to) = filter.ids();
        let rows = self
            .database
            .run("grouping failures", move |connection| {
                Box::pin(async move {
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
                        failed as (
                            select n.error -> 'failure' ->> 'code' as code, n.kind, count(*) as workflows,
                                min(coalesce(n.finished_at, n.enqueued_at)) as first_at,
                                max(coalesce(n.finished_at, n.enqueued_at)) as last_at,
                                (array_agg(n.workflow_id order by n.workflow_id desc))[1] as example,
                                (array_agg(n.error -> 'failure' ->> 'message' order by n.workflow_id desc))[1] as message
                            from newest n
                            where n.error is not null
                                and ($4::text is null or n.kind = $4)
                                and ($5::text is null or n.queue = $5)
                                and ($6::timestamptz is null or n.enqueued_at >= $6)
                                and ($7::timestamptz is null or n.enqueued_at < $7)
                            group by 1, 2
                            order by workflows desc, code, kind
                            limit $8
                        )
                        select l.looked_at as "looked_at!", l.oldest_at, f.code as "code?", f.kind as "kind?",
                            f.workflows as "workflows?", f.first_at as "first_at?", f.last_at as "last_at?",
                            f.example as "example?", f.message as "message?"
                        from (select count(*) as looked_at, min(n.enqueued_at) as oldest_at from newest n) l
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
                        i64::from(filter.limit)
                    )
                    .fetch_all(connection)
                    .await
                })
            })
            .await?;
        let (looked_at, oldest_at) = rows.first().map_or((0, None), |row| (row.looked_at, row.oldest_at));
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
        Ok(Failures { looked_at, is_bounded: looked_at == LOOKED_AT_MAX, oldest_at, errors })
    }
}
