//! How does one reach a server that runs?

use std::path::Path;
use std::str::FromStr;
use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgConnection, PgSslMode};
use sqlx::{AssertSqlSafe, ConnectOptions, Connection};

use crate::error::Error;

/// The superuser of every cluster made here.
pub const SUPERUSER: &str = "backstitch";

/// The database every server has, to speak to it before there is another.
const MAINTENANCE: &str = "postgres";

/// A server that answers does so within milliseconds; one that is frozen never will.
const ANSWER_PATIENCE: Duration = Duration::from_secs(10);

/// Making a database copies one, and dropping one waits for a checkpoint.
const STATEMENT_PATIENCE: Duration = Duration::from_secs(60);

/// What Postgres keeps of a name (`NAMEDATALEN` less the closing zero).
const NAME_BYTES_MAX: usize = 63;

/// A server that answered when it was last asked. Dropping it stops nothing.
#[derive(Debug, Clone)]
pub struct Running {
    /// A URL up to the name of the database, and after it.
    url: (String, String),
    options: PgConnectOptions,
}

impl Running {
    /// A server somebody else runs, reached by a URL whose database is replaced by the one asked for.
    ///
    /// # Errors
    /// [`Error::Url`]
    ///
    /// ```
    /// # fn main() -> Result<(), backstitch_postgres::Error> {
    /// let server = backstitch_postgres::Running::elsewhere("postgres://me@localhost/mine?sslmode=disable")?;
    /// assert_eq!(server.url("other"), "postgres://me@localhost/other?sslmode=disable");
    /// # Ok(())
    /// # }
    /// ```
    pub fn elsewhere(url: &str) -> Result<Running, Error> {
        let options = PgConnectOptions::from_str(url).map_err(|source| Error::Url { source })?;
        let (address, query) = match url.find('?') {
            Some(at) => url.split_at(at),
            None => (url, ""),
        };
        let authority = address.find("://").map_or(0, |at| at + 3);
        let end = address[authority..].find('/').map_or(address.len(), |at| authority + at);
        Ok(Running { url: (format!("{}/", &address[..end]), query.to_owned()), options })
    }

    /// A server behind a socket in `directory`.
    pub(crate) fn behind(directory: &Path) -> Result<Running, Error> {
        let host = percent_encode(&directory.to_string_lossy());
        // Understood by sqlx and by libpq alike.
        let mut server = Running::elsewhere(&format!(
            "postgres:///{MAINTENANCE}?host={host}&port=5432&user={SUPERUSER}&sslmode=disable"
        ))?;
        server.options = server.options.ssl_mode(PgSslMode::Disable);
        Ok(server)
    }

    /// The URL of a database, whether there is one of that name or not. sqlx, psql and libpq understand it.
    #[must_use]
    pub fn url(&self, database: &str) -> String {
        format!("{}{}{}", self.url.0, percent_encode(database), self.url.1)
    }

    /// What sqlx connects to a database with.
    #[must_use]
    pub fn connect_options(&self, database: &str) -> PgConnectOptions {
        self.options.clone().database(database)
    }

    /// Makes the database unless there is one of that name. Several may ask at the same time.
    ///
    /// # Errors
    /// [`Error::DatabaseName`], or [`Error::Database`] when the server does not answer or says no.
    pub async fn ensure_database(&self, name: &str) -> Result<(), Error> {
        let quoted = quote(name)?;
        let make = async {
            let mut connection = self.connect().await?;
            let found: bool =
                sqlx::query_scalar("select exists (select from pg_database where datname = $1)")
                    .bind(name)
                    .fetch_one(&mut connection)
                    .await?;
            if !found {
                let statement = AssertSqlSafe(format!("create database {quoted}"));
                match sqlx::raw_sql(statement).execute(&mut connection).await {
                    Err(error) if !is_taken(&error) => return Err(error),
                    _ => {}
                }
            }
            connection.close().await
        };
        within(STATEMENT_PATIENCE, make)
            .await
            .map_err(|source| Error::Database { doing: format!("making database {name}"), source })
    }

    /// Drops the database if there is one, and throws out whoever uses it.
    ///
    /// # Errors
    /// [`Error::DatabaseName`], or [`Error::Database`] when the server does not answer or says no.
    pub async fn drop_database(&self, name: &str) -> Result<(), Error> {
        let quoted = quote(name)?;
        let drop = async {
            let mut connection = self.connect().await?;
            let statement = AssertSqlSafe(format!("drop database if exists {quoted} with (force)"));
            sqlx::raw_sql(statement).execute(&mut connection).await?;
            connection.close().await
        };
        within(STATEMENT_PATIENCE, drop)
            .await
            .map_err(|source| Error::Database { doing: format!("dropping database {name}"), source })
    }

    /// A setting as the server has it now; asking is also how one learns that it answers.
    pub(crate) async fn setting(&self, name: &str) -> Result<String, sqlx::Error> {
        let ask = async {
            let mut connection = self.connect().await?;
            let setting = sqlx::query_scalar("select current_setting($1)")
                .bind(name)
                .fetch_one(&mut connection)
                .await?;
            connection.close().await?;
            Ok(setting)
        };
        within(ANSWER_PATIENCE, ask).await
    }

    /// The names of databases that start with a prefix.
    pub(crate) async fn databases(&self, prefix: &str) -> Result<Vec<String>, Error> {
        let list = async {
            let mut connection = self.connect().await?;
            let names = sqlx::query_scalar("select datname from pg_database where starts_with(datname, $1)")
                .bind(prefix)
                .fetch_all(&mut connection)
                .await?;
            connection.close().await?;
            Ok(names)
        };
        within(ANSWER_PATIENCE, list)
            .await
            .map_err(|source| Error::Database { doing: format!("listing databases {prefix}*"), source })
    }

    async fn connect(&self) -> Result<PgConnection, sqlx::Error> {
        // Making and dropping databases takes its time, and has a deadline of its own.
        self.connect_options(MAINTENANCE).disable_statement_logging().connect().await
    }
}

/// What is done here holds no transaction, so it may be dropped in the middle.
async fn within<T>(
    patience: Duration,
    work: impl Future<Output = Result<T, sqlx::Error>>,
) -> Result<T, sqlx::Error> {
    let in_time = tokio::time::timeout(patience, work).await;
    in_time.unwrap_or_else(|_| Err(sqlx::Error::Io(std::io::ErrorKind::TimedOut.into())))
}

/// Someone made the same database meanwhile: seen before (42P04) or after (23505) both looked.
fn is_taken(error: &sqlx::Error) -> bool {
    let code = error.as_database_error().and_then(|error| error.code());
    matches!(code.as_deref(), Some("42P04" | "23505"))
}

fn quote(name: &str) -> Result<String, Error> {
    if name.is_empty() || name.len() > NAME_BYTES_MAX || name.contains('\0') {
        return Err(Error::DatabaseName { name: name.to_owned() });
    }
    Ok(format!("\"{}\"", name.replace('"', "\"\"")))
}

fn percent_encode(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
                encoded.push(char::from(byte))
            }
            _ => encoded.push_str(&format!("%{byte:02X}")),
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_leads_to_the_socket_and_the_database() {
        let server = Running::behind(Path::new("/tmp/a b/socket")).unwrap();
        let options = PgConnectOptions::from_str(&server.url("odd name")).unwrap();
        assert_eq!(options.get_socket().unwrap(), Path::new("/tmp/a b/socket"));
        assert_eq!(options.get_database(), Some("odd name"));
        assert_eq!(options.get_username(), SUPERUSER);
    }

    #[test]
    fn a_name_postgres_would_cut_is_refused() {
        assert!(quote(&"x".repeat(64)).is_err());
        assert_eq!(quote("a\"b").unwrap(), "\"a\"\"b\"");
    }
}
