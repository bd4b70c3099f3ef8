//! What does the daemon look with, for whoever asks over HTTP what workflows left outside?

use std::sync::Arc;

use backstitch::{Client, Error, Failure, Probes, Verified, WorkflowId};
use backstitch_gateway::orphans::{self, Orphan, OrphansError};
use backstitch_gateway::{Edge, EdgeConfig, probes};
use backstitch_server::{Looking, Orphans, Outside, Unseen};
use serde_json::{Value, json};

use crate::exit::Failed;
use crate::gateway_http::KINDS;

/// Why half a look is none.
pub const ALL_OR_NOTHING: &str = "nothing is said of the rest: half a look would call half an edge clean";

/// The edge, as far as it is looked at.
struct OfGateways {
    client: Client,
    probes: Probes<Edge>,
}

/// Looks at this edge.
pub fn of_gateways(client: Client, edge: EdgeConfig) -> Result<Arc<dyn Outside>, Failed> {
    let edge = Edge::new(edge, client.database().clone());
    let edge = edge.map_err(|error| Failed::because(&error, ""))?;
    Ok(Arc::new(OfGateways { probes: probes(client.clone(), edge), client }))
}

impl Outside for OfGateways {
    fn kinds(&self) -> &[&str] {
        &KINDS
    }

    fn verify(&self, workflow: WorkflowId) -> Looking<'_, Result<Verified, Error>> {
        Box::pin(self.probes.verify(workflow))
    }

    fn orphans(&self) -> Looking<'_, Result<Orphans, Unseen>> {
        Box::pin(async {
            let found = orphans::orphans(self.probes.services(), &self.client).await.map_err(unseen)?;
            Ok(Orphans {
                looked_at: json!(found.looked_at),
                orphans: found.orphans.iter().map(|orphan: &Orphan| json!(orphan)).collect::<Vec<Value>>(),
            })
        })
    }
}

fn unseen(error: OrphansError) -> Unseen {
    match error {
        OrphansError::Engine(error) => Unseen::Engine(error),
        error => Unseen::Outside(format!("{}; {ALL_OR_NOTHING}", Failure::from_error("", &error).message)),
    }
}
