//! What is to be seen of workers and workflows in the database, and what must never be found there?

use std::time::Duration;

use backstitch::WorkflowId;
use chrono::{DateTime, Utc};
use sqlx::{AssertSqlSafe, PgPool};
use uuid::Uuid;

/// The incarnation of this process that lives. None: it is not at work, or was declared dead.
///
/// # Errors
/// When the database does not answer.
pub async fn living(pool: &PgPool, pid: i32) -> sqlx::Result<Option<i32>> {
    sqlx::query_scalar("select incarnation_id from backstitch.incarnation where pid = $1 and died_at is null")
        .bind(pid)
        .fetch_optional(pool)
        .await
}

/// Whether this incarnation was declared dead.
///
/// # Errors
/// When the database does not answer.
pub async fn is_buried(pool: &PgPool, incarnation: i32) -> sqlx::Result<bool> {
    sqlx::query_scalar(
        "select exists (select from backstitch.incarnation where incarnation_id = $1 and died_at is not null)",
    )
    .bind(incarnation)
    .fetch_one(pool)
    .await
}

/// The last workflow that was asked for. None: there was none yet.
///
/// # Errors
/// When the database does not answer.
pub async fn last_workflow(pool: &PgPool) -> sqlx::Result<Option<Uuid>> {
    sqlx::query_scalar("select workflow_id from backstitch.workflow order by workflow_id desc limit 1")
        .fetch_optional(pool)
        .await
}

/// What is there to look at when something did not hold: every table of the engine, of the gateway and of the test, and who waits
/// for whom; a name, and its rows as JSON, a line each.
///
/// # Errors
/// When the database does not answer.
pub async fn everything_there_is(pool: &PgPool) -> sqlx::Result<Vec<(String, String)>> {
    let mut wanted: Vec<(String, String)> = sqlx::query_as(
        "select tablename, format('select row_to_json(t)::text from %I.%I t', schemaname, tablename)
        from pg_tables where schemaname in ('backstitch', 'gateway', 'public')",
    )
    .fetch_all(pool)
    .await?;
    let views = [
        (
            "sessions",
            "select (to_jsonb(t) || jsonb_build_object('blocked_by', pg_blocking_pids(pid)))::text from pg_stat_activity t",
        ),
        ("locks", "select row_to_json(t)::text from pg_locks t"),
    ];
    wanted.extend(views.map(|(name, select)| (name.to_owned(), select.to_owned())));
    let mut tables = Vec::new();
    for (name, select) in wanted {
        let rows: Vec<String> = sqlx::query_scalar(AssertSqlSafe(select)).fetch_all(pool).await?;
        tables.push((name, rows.join("\n")));
    }
    Ok(tables)
}

/// Workflows with records committed in the name of an incarnation after it was declared dead. By the order of commits, which
/// no jump of the database's clock changes.
///
/// # Errors
/// When the database does not answer, or does not keep the times of commits (`track_commit_timestamp`).
pub async fn written_by_the_dead(pool: &PgPool) -> sqlx::Result<Vec<WorkflowId>> {
    let workflows: Vec<Uuid> = sqlx::query_scalar(
        "select distinct j.workflow_id from backstitch.journal j
            join backstitch.incarnation i on i.incarnation_id = j.incarnation
        -- The row of a dead one is not written any more: its last version is its burial.
        where i.died_at is not null and pg_xact_commit_timestamp(j.xmin) > pg_xact_commit_timestamp(i.xmin)",
    )
    .fetch_all(pool)
    .await?;
    Ok(workflows.into_iter().map(WorkflowId).collect())
}

/// Workflows with records appended under another claim than their last (I8), or by somebody who does not hold them: place, claim,
/// and the last one then. What is noted since [`harm::note_stale_claims`](crate::harm::note_stale_claims).
///
/// # Errors
/// When the database does not answer, or does not note it.
pub async fn written_under_a_stale_claim(pool: &PgPool) -> sqlx::Result<Vec<(WorkflowId, i32, i32, i32)>> {
    let rows: Vec<(Uuid, i32, i32, i32)> =
        sqlx::query_as("select workflow_id, seq, epoch, last_epoch from public.stale_append")
            .fetch_all(pool)
            .await?;
    Ok(rows
        .into_iter()
        .map(|(workflow, seq, epoch, last)| (WorkflowId(workflow), seq, epoch, last))
        .collect())
}

/// Unfinished workflows that nobody can come to: there is nothing to claim them by (I18), or their holder is dead.
///
/// # Errors
/// When the database does not answer.
pub async fn stranded(pool: &PgPool) -> sqlx::Result<Vec<WorkflowId>> {
    let workflows: Vec<Uuid> = sqlx::query_scalar(
        "select w.workflow_id from backstitch.workflow w
            left join backstitch.ready r using (workflow_id)
            left join backstitch.incarnation i on i.incarnation_id = r.holder
        where w.finished_at is null
            and (r.workflow_id is null or i.died_at is not null)",
    )
    .fetch_all(pool)
    .await?;
    Ok(workflows.into_iter().map(WorkflowId).collect())
}

/// Workflows that have not ended.
///
/// # Errors
/// When the database does not answer.
pub async fn unfinished(pool: &PgPool) -> sqlx::Result<Vec<WorkflowId>> {
    let workflows: Vec<Uuid> =
        sqlx::query_scalar("select workflow_id from backstitch.ready").fetch_all(pool).await?;
    Ok(workflows.into_iter().map(WorkflowId).collect())
}

/// When each life that was not ended in order was declared dead, whatever the database's clock said: its process, and the
/// time. None: it was not yet. Of those that changed since then.
///
/// # Errors
/// As [`written_by_the_dead`].
pub async fn burials(pool: &PgPool, since: DateTime<Utc>) -> sqlx::Result<Vec<(i32, Option<DateTime<Utc>>)>> {
    sqlx::query_as(
        "select pid, case when died_at is not null then pg_xact_commit_timestamp(xmin) end from backstitch.incarnation
        where death is distinct from 'shutdown' and pg_xact_commit_timestamp(xmin) >= $1",
    )
    .bind(since)
    .fetch_all(pool)
    .await
}

/// A workflow that a worker had in hand when it died.
#[derive(Debug, Clone, Copy, PartialEq, Eq, sqlx::FromRow)]
pub struct Takeover {
    /// The process of that worker.
    pub pid: i32,
    /// When another worker claimed it, or it was ended. None: nobody came to it yet.
    pub taken_at: Option<DateTime<Utc>>,
}

/// The workflows that the dead had in hand, of those from this id on, whatever the database's clock said. But for those that wait on
/// purpose: somebody was told that they kill. What is noted since
/// [`harm::note_takeovers`](crate::harm::note_takeovers).
///
/// # Errors
/// When the database does not answer, or does not note it.
pub async fn takeovers(pool: &PgPool, from: Uuid) -> sqlx::Result<Vec<Takeover>> {
    sqlx::query_as(
        "select i.pid, f.taken_at from public.freed f
            join backstitch.incarnation i on i.incarnation_id = f.incarnation
        where f.workflow_id >= $1 and f.by_burial",
    )
    .bind(from)
    .fetch_all(pool)
    .await
}

/// A workflow that a worker handed back as it shut down.
#[derive(Debug, Clone, Copy, PartialEq, Eq, sqlx::FromRow)]
pub struct Handover {
    /// When it was handed back.
    pub freed_at: DateTime<Utc>,
    /// When another worker claimed it, or it was ended. None: nobody came to it yet.
    pub taken_at: Option<DateTime<Utc>>,
}

/// The workflows that were due as workers that were told to stop handed them back, of those from this id on. What is noted since
/// [`harm::note_takeovers`](crate::harm::note_takeovers).
///
/// # Errors
/// When the database does not answer, or does not note it.
pub async fn handovers(pool: &PgPool, from: Uuid) -> sqlx::Result<Vec<Handover>> {
    sqlx::query_as(
        "select f.freed_at, f.taken_at from public.freed f
            join backstitch.incarnation i on i.incarnation_id = f.incarnation
        where f.workflow_id >= $1 and not f.by_burial and i.death = 'shutdown'",
    )
    .bind(from)
    .fetch_all(pool)
    .await
}

/// Whether this incarnation holds a workflow.
///
/// # Errors
/// When the database does not answer.
pub async fn holds_any(pool: &PgPool, incarnation: i32) -> sqlx::Result<bool> {
    sqlx::query_scalar("select exists (select from backstitch.ready where holder = $1)")
        .bind(incarnation)
        .fetch_one(pool)
        .await
}

/// Whether the burial of this incarnation freed a workflow. What is noted since
/// [`harm::note_takeovers`](crate::harm::note_takeovers).
///
/// # Errors
/// When the database does not answer, or does not note it.
pub async fn left_any(pool: &PgPool, incarnation: i32) -> sqlx::Result<bool> {
    sqlx::query_scalar("select exists (select from public.freed where incarnation = $1 and by_burial)")
        .bind(incarnation)
        .fetch_one(pool)
        .await
}

/// How many sessions there are, of whomever.
///
/// # Errors
/// When the database does not answer.
pub async fn sessions(pool: &PgPool) -> sqlx::Result<i64> {
    sqlx::query_scalar("select count(*) from pg_stat_activity where backend_type = 'client backend'")
        .fetch_one(pool)
        .await
}

/// How many of those that live hold a lease that no clock but one that is off can have given: it ends that far from now, in
/// the past or in the future.
///
/// # Errors
/// When the database does not answer.
pub async fn leases_off(pool: &PgPool, from_now: Duration) -> sqlx::Result<i64> {
    sqlx::query_scalar(
        "select count(*) from backstitch.incarnation
        where died_at is null and abs(extract(epoch from lease_until - clock_timestamp())) > $1",
    )
    .bind(from_now.as_secs_f64())
    .fetch_one(pool)
    .await
}

/// How many are not declared dead and have a lease that ends later than that from now.
///
/// # Errors
/// When the database does not answer.
pub async fn leases_beyond(pool: &PgPool, from_now: Duration) -> sqlx::Result<i64> {
    sqlx::query_scalar(
        "select count(*) from backstitch.incarnation
        where died_at is null and lease_until > backstitch.clock() + make_interval(secs => $1)",
    )
    .bind(from_now.as_secs_f64())
    .fetch_one(pool)
    .await
}

/// Workflows that nobody holds and that are due later than that from now.
///
/// # Errors
/// When the database does not answer.
pub async fn due_beyond(pool: &PgPool, from_now: Duration) -> sqlx::Result<Vec<WorkflowId>> {
    let workflows: Vec<Uuid> = sqlx::query_scalar(
        "select workflow_id from backstitch.ready
        where holder is null and due_at > backstitch.clock() + make_interval(secs => $1)",
    )
    .bind(from_now.as_secs_f64())
    .fetch_all(pool)
    .await?;
    Ok(workflows.into_iter().map(WorkflowId).collect())
}

/// The first id that a workflow can have which was asked for at this time or later: ids are ordered by time.
#[must_use]
pub fn first_id_at(time: DateTime<Utc>) -> Uuid {
    let milliseconds = u128::from(time.timestamp_millis().unsigned_abs());
    Uuid::from_u128(milliseconds << 80)
}

/// How many attempts of the workflows from this id on ended with this error.
///
/// # Errors
/// When the database does not answer.
pub async fn failed_with(pool: &PgPool, code: &str, from: Uuid) -> sqlx::Result<i64> {
    sqlx::query_scalar(
        "select count(*) from backstitch.journal where workflow_id >= $1 and outcome_value ->> 'code' = $2",
    )
    .bind(from)
    .bind(code)
    .fetch_one(pool)
    .await
}
