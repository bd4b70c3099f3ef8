//! Whether the database's sessions are set as the journal needs them.

use crate::database::Database;
use crate::error::Error;

/// Refuses sessions under which the fence does not hold or a commit is not durable.
pub(crate) async fn check(database: &Database) -> Result<(), Error> {
    let shown = database
        .run("reading the session's settings", async |connection| {
            sqlx::query!(
                r#"
                select current_setting('transaction_isolation') as "isolation!",
                    current_setting('synchronous_commit') as "commit!",
                    pg_is_in_recovery() as "standby!"
                "#
            )
            .fetch_one(connection)
            .await
        })
        .await?;
    let refuse = |setting, found, needed| Err(Error::Session { setting, found, needed });
    if shown.isolation != "read committed" {
        return refuse("default_transaction_isolation", shown.isolation, "read committed");
    }
    if !matches!(shown.commit.as_str(), "on" | "remote_apply") {
        return refuse("synchronous_commit", shown.commit, "on or remote_apply");
    }
    if shown.standby {
        return refuse("pg_is_in_recovery", "true".to_owned(), "the primary");
    }
    Ok(())
}
