//! Who serves `gateway.start` and `gateway.stop`?

use backstitch::{Database, Worker};

use crate::edge::Edge;
use crate::workflows::{StartGateway, StopGateway};

/// A worker that serves both kinds, not yet started.
pub fn worker(database: Database, edge: Edge) -> Worker<Edge> {
    Worker::new(database, edge).serve::<StartGateway>().serve::<StopGateway>()
}
