//! What can be done to workers, and to the protocol, through the database?

use sqlx::{AssertSqlSafe, PgPool};

/// Declares the worker in this process dead, whether it lives or not. False: it holds no lease.
///
/// # Errors
/// When the database does not answer.
pub async fn bury(pool: &PgPool, pid: i32) -> sqlx::Result<bool> {
    let buried: Option<Option<i32>> = sqlx::query_scalar(
        "select backstitch.bury(incarnation_id, beat, true) from backstitch.incarnation
        where pid = $1 and died_at is null",
    )
    .bind(pid)
    .fetch_optional(pool)
    .await?;
    Ok(buried.flatten().is_some())
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

/// Has the database note each row of a journal that is appended under another claim than its workflow's last, or by somebody who
/// does not hold it (any more):
/// [`looks::written_under_a_stale_claim`](crate::looks::written_under_a_stale_claim) tells them.
///
/// # Errors
/// When the database does not answer, or the journal is not this user's.
pub async fn note_stale_claims(pool: &PgPool) -> sqlx::Result<()> {
    sqlx::raw_sql(
        "create table public.stale_append (workflow_id uuid, seq integer, epoch integer, last_epoch integer);
        create function public.note_stale_append() returns trigger
            language plpgsql security definer set search_path = pg_catalog
        as $$
        begin
            insert into public.stale_append
            select new.workflow_id, new.seq, new.epoch, r.epoch from backstitch.ready r
            where r.workflow_id = new.workflow_id
                and (r.epoch <> new.epoch or r.holder is distinct from new.incarnation);
            return null;
        end
        $$;
        create trigger note_stale_append after insert on backstitch.journal
            for each row execute function public.note_stale_append()",
    )
    .execute(pool)
    .await
    .map(|_| ())
}

/// Has the database note each workflow that is due and that its holder lets go of, or loses by its burial; and when somebody came
/// to it. [`looks::takeovers`](crate::looks::takeovers) and [`looks::handovers`](crate::looks::handovers) tell them.
///
/// # Errors
/// When the database does not answer, or its tables are not this user's.
pub async fn note_takeovers(pool: &PgPool) -> sqlx::Result<()> {
    sqlx::raw_sql(
        "create table public.freed (
            workflow_id uuid, epoch integer, incarnation integer, by_burial boolean,
            -- By the clock of whoever watches, not the one that torture sets.
            freed_at timestamptz default clock_timestamp(), taken_at timestamptz,
            primary key (workflow_id, epoch)
        );
        create function public.note_takeover() returns trigger
            language plpgsql security definer set search_path = pg_catalog
        as $$
        begin
            if tg_op = 'UPDATE' and new.holder is null then
                -- Somebody else's burial, part of one too, or the holder's own word.
                insert into public.freed (workflow_id, epoch, incarnation, by_burial)
                select new.workflow_id, new.epoch, old.holder, current_query() like '%backstitch.bury(%'
                where new.due_at <= backstitch.clock();
            else
                update public.freed f set taken_at = clock_timestamp()
                where f.workflow_id = old.workflow_id and f.epoch = old.epoch and f.taken_at is null;
            end if;
            return null;
        end
        $$;
        create trigger note_takeover after update of holder on backstitch.ready
            for each row when (old.holder is distinct from new.holder) execute function public.note_takeover();
        create trigger note_end after delete on backstitch.ready
            for each row execute function public.note_takeover()",
    )
    .execute(pool)
    .await
    .map(|_| ())
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
        let anybody_s = replaced(&unfenced, "and r.holder is not distinct from p_incarnation", "");
        replaced(&anybody_s, "and r.epoch = u.epoch", "")
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
