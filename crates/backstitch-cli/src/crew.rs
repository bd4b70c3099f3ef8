//! Which workflows does this process serve?

use backstitch::{Client, Running, Worker};
use backstitch_gateway::{Edge, EdgeConfig};

use crate::exit::Failed;
use crate::settings::WorkerSettings;

/// Starts a worker: of every kind there is, or without an edge of none, and then it only recovers.
pub async fn start(
    client: &Client,
    edge: Option<EdgeConfig>,
    settings: &WorkerSettings,
) -> Result<Running, Failed> {
    let database = client.database().clone();
    let Some(config) = edge else {
        return Ok(equip(Worker::new(database, ()), settings).start().await?);
    };
    let edge = Edge::new(config, database.clone()).map_err(|error| Failed::because(&error, ""))?;
    Ok(equip(backstitch_gateway::worker(database, edge), settings).start().await?)
}

fn equip<S: Send + Sync + 'static>(worker: Worker<S>, settings: &WorkerSettings) -> Worker<S> {
    worker
        .concurrency(settings.concurrency)
        .queues(settings.queues.iter().cloned())
        .state_directory(&settings.state_directory)
}
