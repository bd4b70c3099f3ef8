//! What stands outside that no workflow has any more?
//!
//! Each thing of ours outside names the start that made it: a DNS record in its TXT, a vhost in its file, a route by its
//! marker, an allocation in its row. It is in order while that start is under way, and from then on for as long as its
//! allocation lasts. All else is an orphan. Nothing is touched, and nobody is held up.
//!
//! The outside is looked at first, then the workflows, then once more what seems to be an orphan: what ends meanwhile has
//! taken its things back before.

mod stray;

use std::collections::{BTreeSet, HashMap};
use std::path::PathBuf;

use backstitch::{Client, Known, WorkflowId};
use serde::{Deserialize, Serialize};

use crate::edge::Edge;
use crate::identifiers::{GatewayId, Hostname, OrganizationId, Owner};
use crate::nginx::NginxError;
use crate::pool::{self, Allocation, AllocationStatus, PoolError};
use crate::powerdns::PowerDnsError;
use stray::why_stray;

/// Of how many ended allocations the route is looked for, the last ones: a running nginx can't be asked which routes it has,
/// only for one by name. A thousand take some seconds.
const ENDED_MAX: u32 = 1_000;

/// What was looked at, and what of it is nobody's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Orphans {
    /// How much there is.
    pub looked_at: LookedAt,
    /// What of it is nobody's.
    pub orphans: Vec<Orphan>,
}

/// How much of ours there is outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct LookedAt {
    /// Names with an ownership record.
    pub dns_records: usize,
    /// Files in the sites directory.
    pub vhosts: usize,
    /// Routes that the running nginx serves, of those that were asked for.
    pub routes: usize,
    /// Names whose route was asked for.
    pub routes_asked: usize,
    /// Gateways that serve an organisation.
    pub allocations: usize,
}

/// Something outside that is nobody's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Orphan {
    /// What it is.
    #[serde(flatten)]
    pub thing: Thing,
    /// The start that made it.
    pub workflow: Owner,
    /// Why it is nobody's.
    pub why: String,
    /// What to do.
    pub mend: String,
}

/// Something of ours outside.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "thing", rename_all = "snake_case")]
pub enum Thing {
    /// A name in the zone.
    DnsRecord {
        /// Which.
        hostname: Hostname,
    },
    /// A file in the sites directory.
    Vhost {
        /// Where.
        path: PathBuf,
        /// Whose name it answers to.
        organization: OrganizationId,
    },
    /// A route in the running nginx.
    Route {
        /// Under which name.
        hostname: Hostname,
    },
    /// A gateway that serves an organisation.
    Allocation {
        /// Which gateway.
        gateway: GatewayId,
        /// Whom it serves.
        organization: OrganizationId,
    },
}

/// Why it can't be said what is nobody's.
#[derive(Debug, thiserror::Error)]
pub enum OrphansError {
    /// PowerDNS did not say.
    #[error(transparent)]
    PowerDns(#[from] PowerDnsError),
    /// nginx, or its directory, did not say.
    #[error(transparent)]
    Nginx(#[from] NginxError),
    /// The pool did not say.
    #[error(transparent)]
    Pool(#[from] PoolError),
    /// The engine did not say.
    #[error(transparent)]
    Engine(#[from] backstitch::Error),
}

/// Looks for everything of ours outside.
///
/// # Errors
/// When any of those that are asked does not answer: half a look would call half an edge clean.
pub async fn orphans(edge: &Edge, client: &Client) -> Result<Orphans, OrphansError> {
    let (things, looked_at) = things(edge).await?;
    let mut orphans = Vec::new();
    for (thing, owner, why) in strays(edge, client, things).await? {
        if still_stands(edge, &thing, owner).await? {
            orphans.push(Orphan { mend: mend(edge, &thing, owner), workflow: owner, thing, why });
        }
    }
    Ok(Orphans { looked_at, orphans })
}

async fn things(edge: &Edge) -> Result<(Vec<(Thing, Owner)>, LookedAt), OrphansError> {
    let names = edge.powerdns.signed().await?;
    let files = edge.nginx.vhosts()?;
    let allocations =
        edge.database.call(async |connection| pool::unended_and_last(connection, ENDED_MAX).await).await?;
    let mut asked: BTreeSet<Hostname> = names.iter().map(|(hostname, _)| hostname.clone()).collect();
    asked.extend(files.iter().map(|(_, organization, _)| edge.hostname(*organization)));
    asked.extend(allocations.iter().filter_map(|allocation| allocation.hostname.clone()));
    let mut routes = Vec::new();
    for hostname in &asked {
        routes.extend(edge.nginx.route(hostname).await?.map(|owner| (hostname.clone(), owner)));
    }
    // One that was made by hand has no name, and is for whoever made it to end.
    let unended: Vec<_> = allocations
        .into_iter()
        .filter(|allocation| allocation.status != AllocationStatus::Ended && allocation.hostname.is_some())
        .collect();
    let looked_at = LookedAt {
        dns_records: names.len(),
        vhosts: files.len(),
        routes: routes.len(),
        routes_asked: asked.len(),
        allocations: unended.len(),
    };
    let mut things = Vec::new();
    things.extend(names.into_iter().map(|(hostname, owner)| (Thing::DnsRecord { hostname }, owner)));
    things.extend(
        files.into_iter().map(|(path, organization, owner)| (Thing::Vhost { path, organization }, owner)),
    );
    things.extend(routes.into_iter().map(|(hostname, owner)| (Thing::Route { hostname }, owner)));
    things.extend(unended.into_iter().map(|Allocation { gateway, organization, owner, .. }| {
        (Thing::Allocation { gateway, organization }, owner)
    }));
    Ok((things, looked_at))
}

/// What seems to be nobody's, and why.
async fn strays(
    edge: &Edge,
    client: &Client,
    things: Vec<(Thing, Owner)>,
) -> Result<Vec<(Thing, Owner, String)>, OrphansError> {
    let owners: BTreeSet<Owner> = things.iter().map(|(_, owner)| *owner).collect();
    let owners: Vec<Owner> = owners.into_iter().collect();
    let made = edge.database.call(async |connection| pool::made_by(connection, &owners).await).await?;
    let made: HashMap<Owner, Allocation> =
        made.into_iter().map(|allocation| (allocation.owner, allocation)).collect();
    let stops = made.values().filter_map(|allocation| allocation.stopping);
    let asked: Vec<_> = owners.iter().copied().chain(stops).map(|owner| WorkflowId(owner.uuid())).collect();
    let known = client.known(&asked).await?;
    let known = |owner: Owner| known.get(&WorkflowId(owner.uuid())).copied().unwrap_or(Known::Never);
    let stray = |(thing, owner): (Thing, Owner)| {
        let why = why_stray(known(owner), made.get(&owner), known)?;
        Some((thing, owner, why))
    };
    Ok(things.into_iter().filter_map(stray).collect())
}

async fn still_stands(edge: &Edge, thing: &Thing, owner: Owner) -> Result<bool, OrphansError> {
    Ok(match thing {
        Thing::DnsRecord { hostname } => {
            edge.powerdns.registered(hostname, edge.address, owner).await? != crate::found::Found::Nothing
        }
        Thing::Vhost { organization, .. } => edge.nginx.is_on_disk(*organization, owner)?,
        Thing::Route { hostname } => edge.nginx.route(hostname).await? == Some(owner),
        Thing::Allocation { .. } => {
            let made =
                edge.database.call(async |connection| pool::made_by(connection, &[owner]).await).await?;
            made.iter().any(|allocation| allocation.status != AllocationStatus::Ended)
        }
    })
}

fn mend(edge: &Edge, thing: &Thing, owner: Owner) -> String {
    match thing {
        Thing::DnsRecord { hostname } => {
            let zone = &edge.domain;
            format!(
                "unless another backstitch serves this zone too: \
                 for type in A AAAA TXT; do pdnsutil delete-rrset {zone} {hostname} $type; done"
            )
        }
        Thing::Vhost { path, .. } => format!("rm {}, then reload nginx", path.display()),
        Thing::Route { .. } => "remove its vhost if there is one, then reload nginx".to_owned(),
        Thing::Allocation { gateway, .. } => format!(
            "when its record and its vhost are gone: backstitch gateway quarantine {gateway} --why 'it may know its organisation', \
             then select gateway.proc_organizations_gateways_stop({gateway}, '{owner}')"
        ),
    }
}
