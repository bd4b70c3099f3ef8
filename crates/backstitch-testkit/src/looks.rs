//! What is to be seen of workers and workflows in the database, and what must never be found there?

use backstitch::WorkflowId;
use chrono::{DateTime, Utc};
use sqlx::PgPool;
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

/// What is there to look at when something did not hold: a name, and its rows as JSON, a line each.
///
/// # Errors
/// When the database does not answer.
pub async fn everything_there_is(pool: &PgPool) -> sqlx::Result<Vec<(&'static str, String)>> {
    const TABLES: [(&str, &str); 6] = [
        ("workflow", "select row_to_json(t)::text from backstitch.workflow t order by workflow_id"),
        ("journal", "select row_to_json(t)::text from backstitch.journal t order by workflow_id, seq"),
        ("ready", "select row_to_json(t)::text from backstitch.ready t"),
        ("incarnation", "select row_to_json(t)::text from backstitch.incarnation t order by incarnation_id"),
        ("alert", "select row_to_json(t)::text from backstitch.alert t order by alert_id"),
        ("effect", "select row_to_json(t)::text from effect t order by entry"),
    ];
    let mut tables = Vec::new();
    for (name, select) in TABLES {
        let rows: Vec<String> = sqlx::query_scalar(select).fetch_all(pool).await?;
        tables.push((name, rows.join("\n")));
    }
    Ok(tables)
}

/// Workflows with records written in the name of an incarnation after it was declared dead.
///
/// # Errors
/// When the database does not answer.
pub async fn written_by_the_dead(pool: &PgPool) -> sqlx::Result<Vec<WorkflowId>> {
    let workflows: Vec<Uuid> = sqlx::query_scalar(
        "select distinct j.workflow_id from backstitch.journal j
            join backstitch.incarnation i on i.incarnation_id = j.incarnation
        where j.written_at > i.died_at",
    )
    .fetch_all(pool)
    .await?;
    Ok(workflows.into_iter().map(WorkflowId).collect())
}

/// Unfinished workflows that nobody holds and that are not due at any time (I18), or whose holder is dead.
///
/// # Errors
/// When the database does not answer.
pub async fn stranded(pool: &PgPool) -> sqlx::Result<Vec<WorkflowId>> {
    let workflows: Vec<Uuid> = sqlx::query_scalar(
        "select w.workflow_id from backstitch.workflow w
            left join backstitch.ready r using (workflow_id)
            left join backstitch.incarnation i on i.incarnation_id = r.holder
        where w.finished_at is null
            and (r.workflow_id is null or r.holder is null and r.due_at is null or i.died_at is not null)",
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

/// When each life since then was declared dead: its process, and the time.
///
/// # Errors
/// When the database does not answer.
pub async fn burials(pool: &PgPool, since: DateTime<Utc>) -> sqlx::Result<Vec<(i32, DateTime<Utc>)>> {
    sqlx::query_as(
        "select pid, died_at from backstitch.incarnation where died_at >= $1 and death <> 'shutdown'",
    )
    .bind(since)
    .fetch_all(pool)
    .await
}

/// When somebody else went on with a workflow that a life had in hand: the process of that life, and the time.
///
/// # Errors
/// When the database does not answer.
pub async fn takeovers(pool: &PgPool, since: DateTime<Utc>) -> sqlx::Result<Vec<(i32, DateTime<Utc>)>> {
    sqlx::query_as(
        "select i.pid, t.next_at from (
            select incarnation, written_at,
                lead(incarnation) over w as next_by, lead(written_at) over w as next_at
            from backstitch.journal
            window w as (partition by workflow_id order by seq)
        ) t join backstitch.incarnation i on i.incarnation_id = t.incarnation
        where t.next_by <> t.incarnation and t.written_at >= $1 and i.died_at is not null",
    )
    .bind(since)
    .fetch_all(pool)
    .await
}
