//! What does a caller weigh that waits?

use std::time::Duration;

use backstitch::Client;
use tokio::task::JoinSet;

use super::error::Error;
use super::place::BenchDatabase;
use super::proc::resident_kib;
use super::sample::each;
use super::work::{Completing, Made};

/// How many wait: enough that what else moves in the process does not show.
const WAITING: u64 = 1_000;

/// Long enough for each to have looked once, and to be at rest.
const SETTLING: Duration = Duration::from_secs(2);

/// Resident memory of this process with all of them less that without, by how many they are. Each is a task of its own.
pub(super) async fn kib_each(database: &BenchDatabase) -> Result<f64, Error> {
    let engine = database.engine().await?;
    let client = Client::new(engine.clone());
    let handles = client.enqueue_many((0..WAITING).map(|_| Completing::make())).send().await?;
    let resident = || resident_kib(std::process::id()).map_err(Error::Run);
    let before = resident()?;
    let mut waiting = JoinSet::new();
    for handle in handles {
        let client = client.clone();
        // Nobody serves them.
        waiting.spawn(async move { client.wait(&handle).await.map(drop) });
    }
    tokio::time::sleep(SETTLING).await;
    let with_all = resident()?;
    if let Some(answered) = waiting.try_join_next() {
        return Err(Error::Run(format!("a workflow that nobody serves should not end: {answered:?}")));
    }
    waiting.shutdown().await;
    drop(client);
    engine.close().await;
    Ok((with_all - before) / each(WAITING))
}
