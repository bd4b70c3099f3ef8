//! On which Postgres is it measured, and in which database?

use std::sync::{Mutex, PoisonError};

use backstitch::Database;
use backstitch_postgres::test::{PrivateCluster, try_private_cluster};
use backstitch_postgres::{Durability, Running};
use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, Row};
use uuid::Uuid;

use super::error::Error;
use super::figure::Environment;

/// How the names of the benchmark's databases begin.
const DATABASE: &str = "backstitch_bench_";

/// The database that every server has.
const MAINTENANCE: &str = "postgres";

/// A Postgres to measure on. To be [left](Self::leave), whatever happened.
#[derive(Debug)]
pub struct Place {
    server: Running,
    made: Mutex<Vec<String>>,
    /// None: the server is somebody else's. Goes, with its data, when it is dropped.
    private: Option<PrivateCluster>,
}

/// A database of the benchmark's own.
#[derive(Debug)]
pub(super) struct BenchDatabase {
    pub(super) name: String,
    pub(super) url: String,
    pub(super) options: PgConnectOptions,
}

impl Place {
    /// On the server of this URL, in databases of its own; without one, on a fresh server in a temporary directory, as
    /// durable as Postgres is by default.
    ///
    /// # Errors
    /// When the URL can't be read or the server can't be started.
    pub async fn open(url: Option<&str>) -> Result<Self, Error> {
        let made = Mutex::default();
        if let Some(url) = url {
            return Ok(Self { server: Running::elsewhere(url)?, made, private: None });
        }
        let private = try_private_cluster(Durability::Full).await?;
        Ok(Self { server: private.server.clone(), made, private: Some(private) })
    }

    /// Drops every database that was made here, and the server if it is a private one.
    ///
    /// # Errors
    /// When a database can't be dropped; the others are dropped all the same.
    pub async fn leave(self) -> Result<(), Error> {
        let made = std::mem::take(&mut *self.made.lock().unwrap_or_else(PoisonError::into_inner));
        let mut left = Ok(());
        for name in made {
            if self.private.is_none() {
                left = left.and(self.server.drop_database(&name).await);
            }
        }
        // Stopping a server takes a while and blocks.
        let _ = tokio::task::spawn_blocking(move || drop(self.private)).await;
        Ok(left?)
    }

    /// What is measured on.
    ///
    /// # Errors
    /// When the server does not answer.
    pub async fn environment(&self) -> Result<Environment, Error> {
        let asking = Error::database("asking for the server's settings");
        let asked = async {
            let mut connection = self.connect().await?;
            let row = sqlx::query(
                "select current_setting('server_version'), current_setting('fsync'),
                    current_setting('synchronous_commit'), current_setting('shared_buffers')",
            )
            .fetch_one(&mut connection)
            .await?;
            connection.close().await?;
            Ok(row)
        };
        let row = asked.await.map_err(asking)?;
        Ok(Environment {
            postgres: row.get(0),
            private_server: self.private.is_some(),
            fsync: row.get(1),
            synchronous_commit: row.get(2),
            shared_buffers: row.get(3),
            processors: std::thread::available_parallelism().map_or(1, usize::from),
        })
    }

    /// A new database, migrated, with nobody connected.
    pub(super) async fn database(&self) -> Result<BenchDatabase, Error> {
        let mut random = Uuid::new_v4().simple().to_string();
        random.truncate(12);
        let name = format!("{DATABASE}{random}");
        // Noted before it is made: an interruption in between leaves nothing behind.
        self.made.lock().unwrap_or_else(PoisonError::into_inner).push(name.clone());
        self.server.ensure_database(&name).await?;
        let options = self.server.connect_options(&name).disable_statement_logging();
        let database = Database::connect_with(options.clone()).await?;
        backstitch::migrate(&database).await?;
        database.close().await;
        Ok(BenchDatabase { url: self.server.url(&name), name, options })
    }

    /// Drops a database that has served.
    pub(super) async fn forget(&self, database: BenchDatabase) -> Result<(), Error> {
        self.server.drop_database(&database.name).await?;
        self.made.lock().unwrap_or_else(PoisonError::into_inner).retain(|name| *name != database.name);
        Ok(())
    }

    /// A connection outside of every database that is measured.
    pub(super) async fn connect(&self) -> sqlx::Result<PgConnection> {
        self.server.connect_options(MAINTENANCE).disable_statement_logging().connect().await
    }

    /// Whether processes of the server are processes of this host.
    pub(super) fn is_on_this_host(&self) -> bool {
        let options = self.server.connect_options(MAINTENANCE);
        let host = options.get_host();
        options.get_socket().is_some()
            || host.starts_with('/')
            || ["localhost", "127.0.0.1", "::1"].contains(&host)
    }
}

impl BenchDatabase {
    /// From now on every flush of the log takes so much longer, for sessions of this database: a slow disk.
    pub(super) async fn slow_flushes(&self, microseconds: u32) -> sqlx::Result<()> {
        let mut connection = self.options.connect().await?;
        let name = &self.name;
        let statements = [
            format!("alter database {name} set commit_delay = {microseconds}"),
            format!("alter database {name} set commit_siblings = 0"),
        ];
        for statement in statements {
            sqlx::raw_sql(AssertSqlSafe(statement)).execute(&mut connection).await?;
        }
        connection.close().await
    }

    /// The engine's way to it.
    pub(super) async fn engine(&self) -> Result<Database, Error> {
        Ok(Database::connect_with(self.options.clone()).await?)
    }
}
