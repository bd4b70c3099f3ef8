//! Bringing the schema `backstitch` up to date, and saying whether it is.

use sqlx::migrate::Migrator;

use crate::database::Database;
use crate::error::Error;

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
    Ok(migrator().run(database.pool()).await?)
}

/// Whether this version can work with the database.
///
/// # Errors
/// When the database was not migrated, or by a newer version.
pub async fn check_migrated(database: &Database) -> Result<(), Error> {
    let needed = migrator().iter().map(|migration| migration.version).max().unwrap_or(0);
    let exists = database
        .run("looking for the schema", |connection| {
            Box::pin(
                sqlx::query_scalar!(
                    r#"select to_regclass('backstitch._migrations') is not null as "exists!""#
                )
                .fetch_one(connection),
            )
        })
        .await?;
    if !exists {
        return Err(Error::NotMigrated { found: 0, needed });
    }
    let found = database
        .run("reading the schema's version", |connection| {
            Box::pin(async {
                // Not checked at compile time: the table is the migrator's own.
                sqlx::query_scalar::<_, i64>(
                    "select coalesce(max(version), 0) from backstitch._migrations where success",
                )
                .fetch_one(connection)
                .await
            })
        })
        .await?;
    match found {
        found if found < needed => Err(Error::NotMigrated { found, needed }),
        found if found > needed => Err(Error::MigratedAhead { found, known: needed }),
        _ => Ok(()),
    }
}
