//! How are many workflows asked for at once?

use chrono::{DateTime, Utc};
use sqlx::{ConnectOptions, Connection};

use super::error::Error;
use super::place::BenchDatabase;
use super::work::Made;

/// How many travel in one statement.
pub(super) const AT_ONCE: u64 = 10_000;

/// Asks for so many workflows of a kind, to be begun now or at a time.
pub(super) async fn many<W: Made>(
    database: &BenchDatabase,
    workflows: u64,
    run_at: Option<DateTime<Utc>>,
) -> Result<(), Error> {
    let mut left = workflows;
    while left > 0 {
        let now = left.min(AT_ONCE);
        send_many((0..now).map(|_| W::make()), database, run_at).await?;
        left -= now;
    }
    Ok(())
}

/// A stopgap, to be removed once the client has `enqueue_many`: one statement for all.
async fn send_many<W: Made>(
    workflows: impl Iterator<Item = W>,
    database: &BenchDatabase,
    run_at: Option<DateTime<Utc>>,
) -> Result<(), Error> {
    let inputs: Vec<serde_json::Value> = workflows
        .map(|workflow| serde_json::to_value(&workflow))
        .collect::<Result<_, _>>()
        .map_err(|error| Error::Run(format!("an input is no JSON: {error}")))?;
    let asked = async {
        let mut connection = database.options.connect().await?;
        sqlx::query(
            "select backstitch.enqueue($1, asked.input, p_run_at => $3) from unnest($2::jsonb[]) as asked (input)",
        )
        .bind(W::KIND)
        .bind(inputs)
        .bind(run_at)
        .execute(&mut connection)
        .await?;
        connection.close().await
    };
    asked.await.map_err(Error::database("enqueueing many workflows"))
}
