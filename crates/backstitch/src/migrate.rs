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

/// Whether this version can work with the database. With one that a newer version has migrated it can, unless a migration
/// says that it needs a version that knows another: so a deploy can be taken back, and a worker of the version before start
/// again in the middle of one.
///
/// # Errors
/// When the database was not migrated, or needs a newer version.
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
    let applied = database
        .run("reading the schema's version", |connection| {
            Box::pin(async {
                // Not checked at compile time: the table is the migrator's own.
                sqlx::query_as::<_, (i64, String)>(
                    "select version, description from backstitch._migrations where success order by version",
                )
                .fetch_all(connection)
                .await
            })
        })
        .await?;
    fits(&applied, needed)
}

/// Whether a version whose newest migration is `known` fits a database with these, the newest last.
fn fits(applied: &[(i64, String)], known: i64) -> Result<(), Error> {
    let found = applied.last().map_or(0, |(version, _)| *version);
    if found < known {
        return Err(Error::NotMigrated { found, needed: known });
    }
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
        fits(&applied.collect::<Vec<_>>(), 14)
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
            let error = fits(applied, 14).expect_err("it lacks 14");
            assert!(matches!(error, Error::NotMigrated { needed: 14, .. }), "{error}");
        }
    }
}
