//! What can be done to workers, and to the protocol, through the database? And what must never be found there afterwards?

use backstitch::WorkflowId;
use chrono::{DateTime, Utc};
use sqlx::{AssertSqlSafe, PgPool};
use uuid::Uuid;

/// Declares the worker in this process dead, though it lives. False: it holds no lease.
///
/// # Errors
/// When the database does not answer.
pub async fn bury_alive(pool: &PgPool, pid: i32) -> sqlx::Result<bool> {
    let buried: Option<Option<i32>> = sqlx::query_scalar(
        "select backstitch.bury(incarnation_id, beat, true) from backstitch.incarnation
        where pid = $1 and died_at is null",
    )
    .bind(pid)
    .fetch_optional(pool)
    .await?;
    Ok(buried.flatten().is_some())
}

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

/// How a session of somebody is disturbed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Disturb {
    /// It ends.
    Terminate,
    /// The statement that it is in fails.
    Cancel,
}

/// Disturbs one session of this database, but for those of whoever asks: the one that `choice` falls on. False: there is none.
///
/// # Errors
/// When the database does not answer.
pub async fn disturb(pool: &PgPool, how: Disturb, choice: usize) -> sqlx::Result<bool> {
    // The own pool is known by the connections that have this name.
    let sessions: Vec<i32> = sqlx::query_scalar(
        "select pid from pg_stat_activity
        where datname = current_database() and application_name <> $1 and backend_type = 'client backend'
            -- There is nothing to cancel where nothing runs.
            and ($2 or state = 'active')
        order by pid",
    )
    .bind(TORTURER)
    .bind(how == Disturb::Terminate)
    .fetch_all(pool)
    .await?;
    if sessions.is_empty() {
        return Ok(false);
    }
    let pid = sessions[choice % sessions.len()];
    let statement = match how {
        Disturb::Terminate => "select pg_terminate_backend($1)",
        Disturb::Cancel => "select pg_cancel_backend($1)",
    };
    sqlx::query_scalar(statement).bind(pid).fetch_one(pool).await
}

/// How sessions are named that are not to be disturbed.
pub const TORTURER: &str = "backstitch torturer";

/// Takes the fence out of the append: whoever was buried goes on writing. To see that it is noticed.
///
/// # Errors
/// When the database does not answer.
///
/// # Panics
/// When the append is not what this knows.
pub async fn take_the_fence_away(pool: &PgPool) -> sqlx::Result<()> {
    rewrite_append(pool, |text| {
        let unfenced =
            replaced(&text, "i.died_at is null, i.died_at is null and i.lease_until > v_now", "true, true");
        replaced(&unfenced, "and r.holder is not distinct from p_incarnation", "")
    })
    .await
}

/// Lets the append say that it is durable before it is. To see that it is noticed.
///
/// # Errors
/// When the database does not answer.
///
/// # Panics
/// When the append is not what this knows.
pub async fn lie_about_durability(pool: &PgPool) -> sqlx::Result<()> {
    rewrite_append(pool, |text| {
        replaced(
            &text,
            "perform backstitch.assert_read_committed();",
            "perform backstitch.assert_read_committed(); perform set_config('synchronous_commit', 'off', true);",
        )
    })
    .await?;
    for sql in ["alter system set wal_writer_delay = '10s'", "select pg_reload_conf()"] {
        sqlx::query(sql).execute(pool).await?;
    }
    Ok(())
}

async fn rewrite_append(pool: &PgPool, rewrite: impl FnOnce(String) -> String) -> sqlx::Result<()> {
    let text: String = sqlx::query_scalar(
        "select pg_get_functiondef('backstitch.append(integer, backstitch.journal_record[])'::regprocedure)",
    )
    .fetch_one(pool)
    .await?;
    sqlx::raw_sql(AssertSqlSafe(rewrite(text))).execute(pool).await.map(|_| ())
}

fn replaced(text: &str, from: &str, to: &str) -> String {
    assert!(text.contains(from), "the append does not say {from:?} any more: mend the control run");
    text.replace(from, to)
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
