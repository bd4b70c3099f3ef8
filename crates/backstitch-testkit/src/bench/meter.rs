//! What has Postgres counted?

use std::time::{Duration, Instant};

use sqlx::{ConnectOptions, Connection, PgConnection, Row};

use super::error::Error;
use super::place::{BenchDatabase, Place};
use super::proc;

/// How long sessions that were told to go may take.
const LEAVE_PATIENCE: Duration = Duration::from_secs(30);

/// Reads Postgres's counters, on a connection outside of the database that is measured.
pub(super) struct Meter {
    connection: PgConnection,
    /// The process whose children serve the sessions. An error: it can't be seen from here.
    postmaster: Result<u32, String>,
}

/// How many rows were written.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rows {
    pub(super) inserted: f64,
    pub(super) updated: f64,
    pub(super) deleted: f64,
}

impl Meter {
    pub(super) async fn at(place: &Place) -> Result<Self, Error> {
        let asked = async {
            let mut connection = place.connect().await?;
            let pid: i32 = sqlx::query_scalar("select pg_backend_pid()").fetch_one(&mut connection).await?;
            Ok((connection, pid))
        };
        let (connection, pid) = asked.await.map_err(Error::database("connecting to the server"))?;
        let postmaster = match place.is_on_this_host() {
            true => proc::parent_of(pid.unsigned_abs(), "postgres"),
            false => Err("the server is not on this host".to_owned()),
        };
        Ok(Self { connection, postmaster })
    }

    /// Where the log of the whole server ends, in bytes.
    pub(super) async fn log_end(&mut self) -> Result<f64, Error> {
        sqlx::query_scalar("select pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0')::float8")
            .fetch_one(&mut self.connection)
            .await
            .map_err(Error::database("asking where the log ends"))
    }

    /// How many transactions were committed in this database. Sessions tell what they counted at their leisure, and for
    /// certain when they end: so this waits until nobody is connected.
    pub(super) async fn commits(&mut self, database: &BenchDatabase) -> Result<f64, Error> {
        self.all_left(database).await?;
        sqlx::query_scalar("select xact_commit::float8 from pg_stat_database where datname = $1")
            .bind(&database.name)
            .fetch_one(&mut self.connection)
            .await
            .map_err(Error::database("asking how many transactions were committed"))
    }

    /// How many clients are connected to this database.
    pub(super) async fn sessions(&mut self, database: &BenchDatabase) -> Result<i64, Error> {
        sqlx::query_scalar(
            "select count(*) from pg_stat_activity
            where datname = $1 and backend_type is distinct from 'autovacuum worker'",
        )
        .bind(&database.name)
        .fetch_one(&mut self.connection)
        .await
        .map_err(Error::database("asking who is connected"))
    }

    /// The processor time of the whole server, in microseconds. Err: why it can't be seen.
    pub(super) fn server_microseconds(&self) -> Result<f64, String> {
        self.postmaster.clone().and_then(proc::family_microseconds)
    }

    async fn all_left(&mut self, database: &BenchDatabase) -> Result<(), Error> {
        let patience_ends = Instant::now() + LEAVE_PATIENCE;
        while self.sessions(database).await? > 0 {
            if Instant::now() > patience_ends {
                return Err(Error::Run(format!(
                    "somebody else is connected to {}: leave it to the benchmark alone",
                    database.name
                )));
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        Ok(())
    }
}

/// The bytes of all tables of the engine, with their indexes, after a vacuum: what autovacuum leaves sooner or later.
pub(super) async fn engine_bytes(database: &BenchDatabase) -> Result<f64, Error> {
    let asked = async {
        let mut connection = database.options.connect().await?;
        sqlx::query("vacuum").execute(&mut connection).await?;
        let bytes = sqlx::query_scalar(
            "select coalesce(sum(pg_total_relation_size(oid)), 0)::float8 from pg_class
            where relnamespace = 'backstitch'::regnamespace and relkind = 'r'",
        )
        .fetch_one(&mut connection)
        .await?;
        connection.close().await?;
        Ok(bytes)
    };
    asked.await.map_err(Error::database("asking how large the tables are"))
}

/// The rows that were written to all tables of the engine. Whoever wrote them has left.
pub(super) async fn engine_rows(database: &BenchDatabase) -> Result<Rows, Error> {
    let asked = async {
        let mut connection = database.options.connect().await?;
        let row = sqlx::query(
            "select sum(n_tup_ins)::float8, sum(n_tup_upd)::float8, sum(n_tup_del)::float8
            from pg_stat_all_tables where schemaname = 'backstitch'",
        )
        .fetch_one(&mut connection)
        .await?;
        connection.close().await?;
        Ok(Rows { inserted: row.get(0), updated: row.get(1), deleted: row.get(2) })
    };
    asked.await.map_err(Error::database("asking how many rows were written"))
}

/// How many workflows have ended in this way.
pub(super) async fn ended(database: &BenchDatabase, status: &str) -> Result<i64, Error> {
    let asked = async {
        let mut connection = database.options.connect().await?;
        let ended = sqlx::query_scalar("select count(*) from backstitch.workflows where status = $1")
            .bind(status)
            .fetch_one(&mut connection)
            .await?;
        connection.close().await?;
        Ok(ended)
    };
    asked.await.map_err(Error::database("counting what has ended"))
}
