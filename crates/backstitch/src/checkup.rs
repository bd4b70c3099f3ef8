//! Is the database fit to be trusted with workflows?

use chrono::{DateTime, Utc};
use serde::Serialize;

use crate::client::Client;
use crate::error::Error;

/// What the database says of itself, and of what this role may do there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Checkup {
    /// `server_version`, such as 17.2.
    pub version: String,
    /// The same as a number, such as 170002.
    pub version_number: i32,
    /// A commit reaches the disk.
    pub fsync: bool,
    /// on, remote_apply, …: when a commit is acknowledged.
    pub synchronous_commit: String,
    /// A torn page is mended after a crash.
    pub full_page_writes: bool,
    /// The isolation that sessions begin with.
    pub isolation: String,
    /// It is a standby, which takes no writes.
    pub is_standby: bool,
    /// The time by its own clock.
    pub now: DateTime<Utc>,
    /// As whom it was asked.
    pub role: String,
    /// The functions, tables and views of the schema that this role may not use; empty also if there is no schema.
    pub forbidden: Vec<String>,
    /// How many connections may be made, but for those kept for superusers.
    pub connections_max: i32,
    /// How many there are, as far as this role can see.
    pub connections: i64,
}

impl Client {
    /// What the database says of itself. Needs no schema.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn checkup(&self) -> Result<Checkup, Error> {
        self.database
            .run("examining the database", async |connection| {
                sqlx::query_as!(
                    Checkup,
                    r#"
                    select current_setting('server_version') as "version!",
                        current_setting('server_version_num')::integer as "version_number!",
                        current_setting('fsync')::boolean as "fsync!",
                        current_setting('synchronous_commit') as "synchronous_commit!",
                        current_setting('full_page_writes')::boolean as "full_page_writes!",
                        current_setting('default_transaction_isolation') as "isolation!",
                        pg_is_in_recovery() as "is_standby!",
                        clock_timestamp() as "now!",
                        current_user::text as "role!",
                        array(
                            select p.proname::text
                            from pg_proc p
                            where p.pronamespace = to_regnamespace('backstitch')
                                and not has_function_privilege(p.oid, 'execute')
                            union
                            select c.relname::text
                            from pg_class c
                            where c.relnamespace = to_regnamespace('backstitch')
                                and c.relkind in ('r', 'v')
                                and not has_table_privilege(c.oid, 'select')
                            order by 1
                        ) as "forbidden!",
                        current_setting('max_connections')::integer
                            - current_setting('superuser_reserved_connections')::integer as "connections_max!",
                        (select count(*) from pg_stat_activity a where a.backend_type = 'client backend')
                            as "connections!"
                    "#
                )
                .fetch_one(connection)
                .await
            })
            .await
    }
}
