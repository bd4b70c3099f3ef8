//! What is left to do, and what has been done of it since?

use backstitch_core::id::WorkflowId;
use uuid::Uuid;

use crate::client::Client;
use crate::database::Database;
use crate::error::Error;
use crate::view::{WorkflowRow, WorkflowView};

/// Ids that are read at once, and so remembered: 1.6 MB.
const UNFINISHED_MAX: i64 = 100_000;

/// Whole workflows that are read at once: an answer comes within the deadline of a call also where their outputs are long.
const ENDED_PAGE: usize = 500;

/// How many workflows are where.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[non_exhaustive]
pub struct Unsettled {
    /// Due, and held by nobody.
    pub due: u64,
    /// Held by a worker that lives.
    pub running: u64,
    /// Held by one whose lease is over.
    pub orphaned_soon: u64,
    /// On the way back, between two attempts.
    pub compensating: u64,
    /// Waiting for a person, and tried slowly.
    pub needs_attention: u64,
    /// Waiting for a time to come.
    pub waiting: u64,
}

impl Unsettled {
    /// Whether nothing is left but what waits for a person or a time to come.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        self.due + self.running + self.orphaned_soon + self.compensating == 0
    }
}

pub(crate) async fn unsettled(database: &Database, kinds: Vec<String>) -> Result<Unsettled, Error> {
    let row = database
        .run("counting what is left to do", async |connection| {
            sqlx::query!(
                r#"
                select count(*) filter (where r.holder is null and r.due_at <= backstitch.clock()) as "due!",
                    count(*) filter (where i.lease_until > backstitch.clock()) as "running!",
                    count(*) filter (where i.lease_until <= backstitch.clock()) as "orphaned_soon!",
                    count(*) filter (
                        where r.holder is null and r.due_at > backstitch.clock()
                            and r.phase = 'compensating' and not r.attention
                    ) as "compensating!",
                    count(*) filter (
                        where r.holder is null and r.due_at > backstitch.clock() and r.attention
                    ) as "needs_attention!",
                    count(*) filter (
                        where r.holder is null and r.due_at > backstitch.clock()
                            and r.phase <> 'compensating' and not r.attention
                    ) as "waiting!"
                from backstitch.ready r
                    left join backstitch.incarnation i on i.incarnation_id = r.holder
                where r.kind = any ($1)
                "#,
                &kinds
            )
            .fetch_one(connection)
            .await
        })
        .await?;
    Ok(Unsettled {
        due: row.due.unsigned_abs(),
        running: row.running.unsigned_abs(),
        orphaned_soon: row.orphaned_soon.unsigned_abs(),
        compensating: row.compensating.unsigned_abs(),
        needs_attention: row.needs_attention.unsigned_abs(),
        waiting: row.waiting.unsigned_abs(),
    })
}

impl Client {
    /// Workflows of these kinds that have not ended, the newest first: of more than 100,000 the newest.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn unfinished(&self, kinds: &[&str]) -> Result<Vec<WorkflowId>, Error> {
        let kinds: Vec<String> = kinds.iter().map(|kind| (*kind).to_owned()).collect();
        let found = self
            .database
            .run("looking for what has not ended", async |connection| {
                sqlx::query_scalar!(
                    r#"
                    select r.workflow_id
                    from backstitch.ready r
                    where r.kind = any ($1)
                    order by r.workflow_id desc
                    limit $2
                    "#,
                    &kinds,
                    UNFINISHED_MAX
                )
                .fetch_all(connection)
                .await
            })
            .await?;
        Ok(found.into_iter().map(WorkflowId).collect())
    }

    /// Those of these workflows that have ended and are still there, in the same order.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn ended(&self, workflows: &[WorkflowId]) -> Result<Vec<WorkflowView>, Error> {
        let asked: Vec<Uuid> = workflows.iter().map(|workflow| workflow.0).collect();
        let ended = self
            .database
            .run("looking for what has ended", async |connection| {
                sqlx::query_scalar!(
                    r#"
                    select asked.workflow_id as "workflow_id!"
                    from unnest($1::uuid[]) with ordinality asked (workflow_id, place)
                        join backstitch.workflow w on w.workflow_id = asked.workflow_id
                    where w.finished_at is not null
                    order by asked.place
                    "#,
                    &asked
                )
                .fetch_all(connection)
                .await
            })
            .await?;
        let mut views = Vec::new();
        for page in ended.chunks(ENDED_PAGE) {
            views.extend(self.whole(page).await?);
        }
        Ok(views)
    }

    async fn whole(&self, workflows: &[Uuid]) -> Result<Vec<WorkflowView>, Error> {
        let workflows = workflows.to_vec();
        let rows = self
            .database
            .run("reading what has ended", async |connection| {
                sqlx::query_as!(
                    WorkflowRow,
                    r#"
                    select w.workflow_id as "workflow_id!", w.kind as "kind!", w.version as "version!", w.key,
                        w.queue as "queue!", w.status as "status!", w.input::text as "input!", w.output::text,
                        w.cause, w.cancel, w.paused, w.error, w.report, w.enqueued_at as "enqueued_at!", w.finished_at, w.deadline_at,
                        w.due_at, w.holder, w.unserved as "unserved!",
                        -- What has ended needs nobody.
                        null::text as attention
                    from unnest($1::uuid[]) with ordinality asked (workflow_id, place)
                        -- Looked up for each, or a plan for all parameters reads every workflow beside them.
                        cross join lateral (
                            select * from backstitch.workflows v where v.workflow_id = asked.workflow_id offset 0
                        ) w
                    order by asked.place
                    "#,
                    &workflows
                )
                .fetch_all(connection)
                .await
            })
            .await?;
        rows.into_iter().map(WorkflowRow::view).collect()
    }
}
