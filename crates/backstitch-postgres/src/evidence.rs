//! How a test shows afterwards that it really did something: how many rows it left in which table.
//!
//! A list of cases is worth as much as the tests behind it, and a test that asserts nothing passes too. So whoever runs all
//! tests names a directory, and each database of a test, before it is dropped, is counted into a file there. Of what the
//! tables mean nothing is known here.

use std::env;
use std::io::Write;
use std::path::PathBuf;

use sqlx::Connection;

use crate::error::Error;
use crate::running::Running;

/// Names the directory. Unset: nobody wants to know.
const DIRECTORY: &str = "BACKSTITCH_EVIDENCE";

/// How many rows each table of the database holds. Exact, where the server's own statistics lag behind.
const COUNT: &str = "
    select format('%s.%s', n.nspname, c.relname),
        (xpath('/row/count/text()', query_to_xml(format('select count(*) from %I.%I', n.nspname, c.relname), false, true, '')))[1]
            ::text::bigint
    from pg_class c
        join pg_namespace n on n.oid = c.relnamespace
    where c.relkind = 'r'
        and n.nspname not in ('pg_catalog', 'information_schema')
";

/// Where evidence is wanted, and the test that leaves it: none outside of a run that wants it.
pub(crate) fn wanted() -> Option<Evidence> {
    let directory = env::var_os(DIRECTORY).filter(|directory| !directory.is_empty())?;
    // The harness names a test's thread after the test.
    let test = std::thread::current().name()?.to_owned();
    Some(Evidence { directory: directory.into(), test })
}

pub(crate) struct Evidence {
    directory: PathBuf,
    test: String,
}

impl Evidence {
    /// Counts what is in this database.
    pub(crate) async fn count(&self, server: &Running, database: &str) -> Result<(), Error> {
        let count = async {
            let mut connection = sqlx::PgConnection::connect_with(&server.connect_options(database)).await?;
            let rows: Vec<(String, i64)> = sqlx::query_as(COUNT).fetch_all(&mut connection).await?;
            connection.close().await?;
            Ok(rows)
        };
        let rows = count
            .await
            .map_err(|source| Error::Database { doing: "counting what a test left".into(), source })?;
        let lines: String =
            rows.iter().map(|(table, count)| format!("{}\t{table}\t{count}\n", self.test)).collect();
        let file = self.directory.join(std::process::id().to_string());
        std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(&file)
            .and_then(|mut open| open.write_all(lines.as_bytes()))
            .map_err(Error::io("writing", &file))
    }
}
