//! Who serves `gateway.start` and `gateway.stop`, who looks at what they left, and what do they take?

use backstitch::{Client, Database, Inputs, Probes, Worker};

use crate::edge::Edge;
use crate::workflows::{StartGateway, StopGateway};

/// A worker that serves both kinds, not yet started.
pub fn worker(database: Database, edge: Edge) -> Worker<Edge> {
    Worker::new(database, edge).serve::<StartGateway>().serve::<StopGateway>()
}

/// What both kinds take.
#[must_use]
pub fn inputs() -> Inputs {
    Inputs::new().of::<Edge, StartGateway>().of::<Edge, StopGateway>()
}

/// What looks whether the steps of both kinds left what their journals say.
pub fn probes(client: Client, edge: Edge) -> Probes<Edge> {
    Probes::new(client, edge).of::<StartGateway>().of::<StopGateway>()
}
