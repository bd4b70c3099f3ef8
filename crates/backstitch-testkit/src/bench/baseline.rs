//! What does the same Postgres do for the same driver without an engine?

use std::time::{Duration, Instant};

use sqlx::{ConnectOptions, Connection, PgConnection};

use super::error::Error;
use super::place::BenchDatabase;

/// About as much as a step of the work writes.
const LINE_BYTES: usize = 100;

/// How many rows a commit of [`rows_per_second`] has.
const ROWS: i32 = 100;

/// How many single-row inserts commit in a second: each client on a connection of its own, with a prepared statement that
/// is a transaction of its own.
pub(super) async fn commits_per_second(
    database: &BenchDatabase,
    clients: usize,
    run: Duration,
) -> Result<f64, Error> {
    inserts_per_second(database, clients, run, 1).await.map_err(Error::database("measuring the baseline"))
}

/// How many rows a second one client inserts, 100 a commit.
pub(super) async fn rows_per_second(database: &BenchDatabase, run: Duration) -> Result<f64, Error> {
    let inserts = inserts_per_second(database, 1, run, ROWS).await;
    Ok(inserts.map_err(Error::database("measuring the baseline"))? * f64::from(ROWS))
}

/// How long a single-row insert takes to commit, in milliseconds, after each of these times of rest.
pub(super) async fn commits_after_rest(
    database: &BenchDatabase,
    rests: impl Iterator<Item = Duration>,
) -> Result<Vec<f64>, Error> {
    let measured = async {
        let mut connection = database.options.connect().await?;
        prepare(&mut connection).await?;
        insert(&mut connection, 1).await?;
        let mut took = Vec::new();
        for rest in rests {
            tokio::time::sleep(rest).await;
            let begun = Instant::now();
            insert(&mut connection, 1).await?;
            took.push(begun.elapsed().as_secs_f64() * 1e3);
        }
        connection.close().await?;
        sqlx::Result::Ok(took)
    };
    measured.await.map_err(Error::database("measuring the baseline"))
}

async fn inserts_per_second(
    database: &BenchDatabase,
    clients: usize,
    run: Duration,
    rows: i32,
) -> sqlx::Result<f64> {
    let mut connections = Vec::with_capacity(clients);
    for _ in 0..clients {
        connections.push(database.options.connect().await?);
    }
    prepare(&mut connections[0]).await?;
    for connection in &mut connections {
        // The first call of a session prepares the statement.
        insert(connection, rows).await?;
    }
    let begun = Instant::now();
    let running: Vec<_> = connections
        .into_iter()
        .map(|connection| tokio::spawn(insert_until(connection, begun + run, rows)))
        .collect();
    let mut commits = 0.0;
    for client in running {
        commits += client.await.map_err(|error| sqlx::Error::Io(std::io::Error::other(error)))??;
    }
    Ok(commits / begun.elapsed().as_secs_f64())
}

async fn prepare(connection: &mut PgConnection) -> sqlx::Result<()> {
    sqlx::raw_sql(
        "create table if not exists bench_line (line_id bigint generated always as identity primary key, body text not null);
        truncate bench_line;",
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// How many committed.
async fn insert_until(mut connection: PgConnection, end: Instant, rows: i32) -> sqlx::Result<f64> {
    let mut commits = 0.0;
    while Instant::now() < end {
        insert(&mut connection, rows).await?;
        commits += 1.0;
    }
    connection.close().await?;
    Ok(commits)
}

async fn insert(connection: &mut PgConnection, rows: i32) -> sqlx::Result<()> {
    let body = "b".repeat(LINE_BYTES);
    let insert = match rows {
        1 => sqlx::query("insert into bench_line (body) values ($1)").bind(body),
        _ => sqlx::query("insert into bench_line (body) select $1 from generate_series(1, $2)")
            .bind(body)
            .bind(rows),
    };
    insert.execute(connection).await?;
    Ok(())
}
