//! The clock of a test: what time it is by the database, on whose clock alone the engine waits.
//!
//! Instead of waiting for an hour, as long as a retry may, a test lets the clock jump. It is the clock of one database.

use std::time::Duration;

use backstitch::WorkflowId;
use sqlx::PgPool;

/// Takes the database's clock in hand, if it is not: from now on [`set`] says what time it is.
///
/// # Errors
/// When the database does not answer, or is not this user's: nobody else may replace its clock.
pub async fn take(pool: &PgPool) -> sqlx::Result<()> {
    // Production has no such table.
    sqlx::raw_sql(
        "create table if not exists public.clock_is_off (by interval not null);
        insert into public.clock_is_off select '0' where not exists (select from public.clock_is_off);
        create or replace function backstitch.clock() returns timestamptz
            language sql volatile parallel safe
            return clock_timestamp() + (select by from public.clock_is_off)",
    )
    .execute(pool)
    .await
    .map(|_| ())
}

/// Lets a clock that was taken in hand jump: by how much it is off, as an interval, such as `-1 hour` or `0`.
///
/// # Errors
/// When the database does not answer, or that is no interval.
pub async fn set(pool: &PgPool, off_by: &str) -> sqlx::Result<()> {
    sqlx::query("update public.clock_is_off set by = $1::text::interval")
        .bind(off_by)
        .execute(pool)
        .await
        .map(|_| ())
}

/// Lets a clock that was taken in hand jump to when this workflow is due, less `but_for`, if it waits and nobody has it in hand.
/// The leases of the living go with it: for whoever works no time has passed.
///
/// # Errors
/// When the database does not answer, or its clock is not in hand.
pub async fn skip_wait(pool: &PgPool, workflow: WorkflowId, but_for: Duration) -> sqlx::Result<()> {
    sqlx::query(
        "with wait as (
            select due_at - backstitch.clock() - make_interval(secs => $2) as length
            from backstitch.ready
            where workflow_id = $1
                and holder is null
                -- A pause: that is waited for.
                and due_at < 'infinity'
        ),
        skipped as (
            select length from wait where length > '0'
        ),
        leases as (
            update backstitch.incarnation
            set lease_until = lease_until + skipped.length
            from skipped
            where died_at is null
        )
        update public.clock_is_off set by = by + skipped.length from skipped",
    )
    .bind(workflow.0)
    .bind(but_for.as_secs_f64())
    .execute(pool)
    .await
    .map(|_| ())
}
