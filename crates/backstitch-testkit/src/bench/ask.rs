//! How are many workflows asked for at once?

use backstitch::Client;
use chrono::{DateTime, Utc};

use super::error::Error;
use super::place::BenchDatabase;
use super::work::Made;

/// How many travel in one statement: well within the deadline of a call.
pub(super) const AT_ONCE: u64 = 10_000;

/// Asks for so many workflows of a kind, to be begun now or at a time, and leaves.
pub(super) async fn many<W: Made>(
    database: &BenchDatabase,
    workflows: u64,
    run_at: Option<DateTime<Utc>>,
) -> Result<(), Error> {
    let engine = database.engine().await?;
    let client = Client::new(engine.clone());
    let mut left = workflows;
    while left > 0 {
        let now = left.min(AT_ONCE);
        let asked = client.enqueue_many((0..now).map(|_| W::make()));
        match run_at {
            Some(run_at) => asked.run_at(run_at).send().await?,
            None => asked.send().await?,
        };
        left -= now;
    }
    engine.close().await;
    Ok(())
}
