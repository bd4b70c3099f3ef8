//! Which workflows are there, by any of the things that a person knows about them?
//!
//! One statement with three ways to look, of which one is taken:
//!
//! - a *key* leads to its workflow, through the table of keys: one look per kind;
//! - a status of the *living* is looked for among the living, however many have ended;
//! - *anything else* is met on a walk over the ids, from the newest on until enough are found. `since` and `until` bound
//!   the walk, as ids are ordered by time. Only a search for what is rare and has ended, without bounds, walks far: about a
//!   second for a million. There is no index for it, because every end of a workflow would pay for that.

use chrono::{DateTime, TimeDelta, Utc};
use uuid::Uuid;

use crate::client::Client;
use crate::error::Error;
use crate::view::{Filter, Status, WorkflowRow, WorkflowView};

/// An id is made a moment before or after its time is read; with this much room none is missed for that.
const ROOM: TimeDelta = TimeDelta::seconds(1);

impl Filter {
    /// The ids between which all that is wanted lies: from the first on, before the second.
    pub(crate) fn ids(&self) -> (Uuid, Uuid) {
        let from = self.since.map_or(Uuid::nil(), |at| first_id_of(at - ROOM));
        let to = self.until.map_or(Uuid::max(), |at| first_id_of(at + ROOM));
        (from, self.before.map_or(to, |before| to.min(before.0)))
    }
}

/// The least id that is made in this millisecond: the first 48 bits tell the time.
fn first_id_of(at: DateTime<Utc>) -> Uuid {
    let milliseconds = u64::try_from(at.timestamp_millis()).unwrap_or(0).min((1 << 48) - 1);
    Uuid::from_u128(u128::from(milliseconds) << 80)
}

impl Client {
    /// Workflows, the newest first.
    ///
    /// # Errors
    /// When the database does not answer, not in the time that a look may take, or too many look already.
    pub async fn workflows(&self, filter: Filter) -> Result<Vec<WorkflowView>, Error> {
        self.workflows_of(filter, None).await
    }

    /// The same, of these kinds, as for a [`Token`](crate::Token): nothing is told of any other. None: of every kind.
    ///
    /// # Errors
    /// As [`workflows`](Self::workflows).
    pub async fn workflows_of(
        &self,
        filter: Filter,
        kinds: Option<&[String]>,
    ) -> Result<Vec<WorkflowView>, Error> {
        let (from, to) = filter.ids();
        let kinds = kinds.map(<[String]>::to_vec);
        let rows = self
            .database
            .look("listing workflows", async |connection| {
                sqlx::query_as!(
                    WorkflowRow,
                    r#"
                    with recursive kinds as (
                        -- The kinds of keys, one look each.
                        (
                            select k.kind
                            from backstitch.key k
                            where $3::text is not null
                                and k.kind >= coalesce($1::text, '')
                            order by k.kind
                            limit 1
                        )
                        union all
                        select (
                            select k.kind
                            from backstitch.key k
                            where k.kind > o.kind
                                and $1::text is null
                            order by k.kind
                            limit 1
                        )
                        from kinds o
                        where o.kind is not null
                    ),
                    found as (
                        select k.workflow_id
                        from kinds o
                            join backstitch.key k on k.kind = o.kind and k.key = $3
                        union all
                        (
                            select r.workflow_id
                            from backstitch.ready r
                                -- Looked up for each, or a plan for all parameters reads every workflow beside them.
                                cross join lateral (
                                    select w.enqueued_at, w.error
                                    from backstitch.workflow w
                                    where w.workflow_id = r.workflow_id
                                    offset 0
                                ) w
                            where $3::text is null
                                and $2::text in ('pending', 'running', 'compensating', 'needs_attention')
                                and case when r.attention then 'needs_attention' else r.phase end = $2
                                and r.workflow_id >= $6
                                and r.workflow_id < $7
                                and ($1::text is null or r.kind = $1)
                                and ($11::text[] is null or r.kind = any ($11))
                                and ($4::text is null or r.queue = $4)
                                and ($5::text is null or w.error -> 'failure' ->> 'code' = $5)
                                and ($8::timestamptz is null or w.enqueued_at >= $8)
                                and ($9::timestamptz is null or w.enqueued_at < $9)
                            order by r.workflow_id desc
                            limit $10
                        )
                        union all
                        (
                            select w.workflow_id
                            from backstitch.workflow w
                            where $3::text is null
                                -- Apart from the next line: known before the walk, it spares the walk.
                                and ($2::text is null or $2 in ('completed', 'compensated', 'abandoned'))
                                and ($2::text is null or w.status = $2)
                                and w.workflow_id >= $6
                                and w.workflow_id < $7
                                and ($1::text is null or w.kind = $1)
                                and ($11::text[] is null or w.kind = any ($11))
                                and ($4::text is null or w.queue = $4)
                                and ($5::text is null or w.error -> 'failure' ->> 'code' = $5)
                                and ($8::timestamptz is null or w.enqueued_at >= $8)
                                and ($9::timestamptz is null or w.enqueued_at < $9)
                            order by w.workflow_id desc
                            limit $10
                        )
                    )
                    select w.workflow_id as "workflow_id!", w.kind as "kind!", w.version as "version!", w.key,
                        w.queue as "queue!", w.status as "status!",
                        -- Where they are long, they are apart, and are not read unless they are told.
                        case when $12 then w.input::text end as input, case when $12 then w.output::text end as output,
                        w.cause, w.cancel, w.paused, w.error, w.report, w.enqueued_at as "enqueued_at!", w.finished_at, w.deadline_at,
                        w.due_at, w.holder, w.unserved as "unserved!",
                        (
                            select a.message
                            from backstitch.attention a
                            where a.workflow_id = w.workflow_id
                            order by a.raised_at desc
                            limit 1
                        ) as attention
                    from found f
                        cross join lateral (
                            select * from backstitch.workflows v where v.workflow_id = f.workflow_id offset 0
                        ) w
                    -- Once more for what a key led to.
                    where ($1::text is null or w.kind = $1)
                        and ($11::text[] is null or w.kind = any ($11))
                        and ($2::text is null or w.status = $2)
                        and ($4::text is null or w.queue = $4)
                        and ($5::text is null or w.error -> 'failure' ->> 'code' = $5)
                        and ($8::timestamptz is null or w.enqueued_at >= $8)
                        and ($9::timestamptz is null or w.enqueued_at < $9)
                    order by w.workflow_id desc
                    limit $10
                    "#,
                    filter.kind,
                    filter.status.map(Status::as_str),
                    filter.key,
                    filter.queue,
                    filter.error_code,
                    from,
                    to,
                    filter.since,
                    filter.until,
                    i64::from(filter.limit),
                    kinds.as_deref(),
                    filter.whole
                )
                .fetch_all(connection)
                .await
            })
            .await?;
        rows.into_iter().map(WorkflowRow::view).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_bound_ids_with_room() {
        let at = DateTime::from_timestamp_millis(0x0193_b2f0_7c1e).expect("a time");
        let filter = Filter { since: Some(at), until: Some(at), ..Filter::default() };
        let (from, to) = filter.ids();
        let made_then = Uuid::from_u128(0x0193_b2f0_7c1e_7d55_a3f0_2a7f_5c1e_9b10);
        assert!(from < made_then && made_then < to);
        assert_eq!(from.as_u64_pair().0 >> 16, 0x0193_b2f0_7c1e - 1_000);
        assert_eq!(Filter::default().ids(), (Uuid::nil(), Uuid::max()));
    }
}
