//! Bringing the schema `backstitch` up to date, and saying whether it is.

use std::time::Duration;

use sqlx::migrate::{Migrate, MigrateError, Migrator};
use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{AssertSqlSafe, Connection};

use crate::database::Database;
use crate::error::Error;
use crate::future::BoxFuture;

/// How long a migration waits for a lock. Whoever comes after it waits behind it, readers too: shorter than what any call of a
/// worker is given, which is 4 s.
const LOCK_WAIT: Duration = Duration::from_secs(1);

/// How often it is tried, and how long those behind it are let through in between: it gets past whatever ends within half a
/// minute. What lasts for longer, such as a dump, is for a person to end, or to wait for.
const TRIES_MAX: u32 = 10;
const AGAIN: Duration = Duration::from_secs(2);

/// Every migration that this version knows. Its bookkeeping lives in the schema itself, so that it shares a database with
/// an application's own migrations.
fn migrator() -> Migrator {
    let mut migrator = sqlx::migrate!("../../migrations");
    migrator.create_schema("backstitch");
    migrator.dangerous_set_table_name("backstitch._migrations");
    // An older version that migrates after a newer one has nothing to do; whether it may work is `check_migrated`'s.
    migrator.set_ignore_missing(true);
    migrator
}

/// Brings the schema up to date. Safe while workers of the previous version run, and when run by several at once.
///
/// # Errors
/// When the database can't be reached, or only through a transaction pooler, or a migration fails; what was applied before
/// stays applied.
pub async fn migrate(database: &Database) -> Result<(), Error> {
    if !database.has_sessions() {
        return Err(Error::MigratesThroughPooler);
    }
    Ok(apply_migrations(migrator(), &database.connect_options()).await?)
}

/// Applies migrations as [`migrate`] does, beside workers: on a connection of its own, so that nothing of it is left on one of a
/// pool, waiting for a lock no longer than the workers behind it can bear, and again a few times. For an application's own.
///
/// # Errors
/// When the database can't be reached, a lock was not to be had, or a migration fails; what was applied before stays applied.
pub async fn apply_migrations(
    mut migrator: Migrator,
    options: &PgConnectOptions,
) -> Result<(), MigrateError> {
    // Ours is waited for before there is a limit to waiting: who has it migrates, and others wait for nobody meanwhile.
    migrator.set_locking(false);
    let mut connection = PgConnection::connect_with(options).await?;
    let applied = apply(&migrator, &mut connection).await;
    // The lock is the session's: it goes with it, also after an error.
    connection.close().await?;
    applied
}

async fn apply(migrator: &Migrator, connection: &mut PgConnection) -> Result<(), MigrateError> {
    sqlx::raw_sql("set lock_timeout = 0").execute(&mut *connection).await?;
    connection.lock().await?;
    let limit = format!("set lock_timeout = {}", LOCK_WAIT.as_millis());
    sqlx::raw_sql(AssertSqlSafe(limit)).execute(&mut *connection).await?;
    for _ in 1..TRIES_MAX {
        match run(migrator, connection).await {
            Err(error) if is_lock_missed(&error) => {
                tracing::warn!(%error, "a migration waits for a lock that somebody keeps, trying again");
                tokio::time::sleep(AGAIN).await;
            }
            applied => return applied,
        }
    }
    run(migrator, connection).await
}

/// By sqlx' hidden door: what its `run` gives can't be awaited in a task.
fn run<'a>(
    migrator: &'a Migrator,
    connection: &'a mut PgConnection,
) -> BoxFuture<'a, Result<(), MigrateError>> {
    Box::pin(migrator.run_direct(None, connection, false))
}

fn is_lock_missed(error: &MigrateError) -> bool {
    let (MigrateError::Execute(source) | MigrateError::ExecuteMigration(source, _)) = error else {
        return false;
    };
    source.as_database_error().and_then(|error| error.code()).as_deref() == Some("55P03")
}

/// Whether this version can work with the database. With one that a newer version has migrated it can, unless a migration
/// says that it needs a version that knows another: so a deploy can be taken back, and a worker of the version before start
/// again in the middle of one.
///
/// # Errors
/// When the database was not migrated, or needs a newer version.
pub async fn check_migrated(database: &Database) -> Result<(), Error> {
    let known: Vec<_> = migrator().iter().map(|migration| migration.version).collect();
    let exists = database
        .run("looking for the schema", async |connection| {
            sqlx::query_scalar!(r#"select to_regclass('backstitch._migrations') is not null as "exists!""#)
                .fetch_one(connection)
                .await
        })
        .await?;
    if !exists {
        return fits(&[], &known);
    }
    let applied = database
        .run("reading the schema's version", async |connection| {
            // Not checked at compile time: the table is the migrator's own.
            sqlx::query_as::<_, (i64, String)>(
                "select version, description from backstitch._migrations where success order by version",
            )
            .fetch_all(connection)
            .await
        })
        .await?;
    fits(&applied, &known)
}

/// Whether a version that knows these migrations fits a database with those, the newest last.
fn fits(applied: &[(i64, String)], known: &[i64]) -> Result<(), Error> {
    let found = applied.last().map_or(0, |(version, _)| *version);
    let is_applied = |known: &i64| applied.iter().any(|(version, _)| version == known);
    // Each: a newer version may have been there first that lacked one of them, added beside it.
    if let Some(needed) = known.iter().copied().filter(|known| !is_applied(known)).max() {
        return Err(Error::NotMigrated { found, needed });
    }
    let known = known.last().copied().unwrap_or(0);
    let newer = applied.iter().filter(|(version, _)| *version > known);
    match newer.filter_map(|(_, description)| needs(description)).max() {
        Some(needed) if needed > known => Err(Error::MigratedAhead { found, needed, known }),
        _ => Ok(()),
    }
}

/// What the file `0020_needs_0017_….sql` says: versions that don't know 0017 can't work with what it leaves.
fn needs(description: &str) -> Option<i64> {
    description.strip_prefix("needs ")?.split(' ').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at_14(newer: &[(i64, &str)]) -> Result<(), Error> {
        let known = [(12, "known status"), (14, "needs 0012 something")];
        let applied = known.iter().chain(newer).map(|(version, text)| (*version, (*text).to_owned()));
        fits(&applied.collect::<Vec<_>>(), &[12, 14])
    }

    #[test]
    fn a_newer_schema_is_worked_with_unless_it_needs_a_newer_version() {
        at_14(&[]).expect("its own");
        at_14(&[(15, "a column more"), (16, "needs 0014 less of it")]).expect("it knows 14");
        let error = at_14(&[(15, "a column more"), (16, "needs 0015 less of it"), (17, "more")]);
        let error = error.expect_err("it does not know 15").to_string();
        assert!(error.contains("at migration 17") && error.contains("that knows 15"), "{error}");
    }

    #[test]
    fn an_older_schema_or_none_is_to_be_migrated() {
        for applied in [&[][..], &[(12, "known status".to_owned())]] {
            let error = fits(applied, &[12, 14]).expect_err("it lacks 14");
            assert!(matches!(error, Error::NotMigrated { needed: 14, .. }), "{error}");
        }
    }

    #[test]
    fn one_that_is_missing_between_others_is_to_be_migrated() {
        let applied = [(12, "known status".to_owned()), (14, "more".to_owned())];
        let error = fits(&applied, &[12, 13, 14]).expect_err("it lacks 13").to_string();
        assert!(error.contains("needs 13") && error.contains("backstitch migrate"), "{error}");
    }
}
