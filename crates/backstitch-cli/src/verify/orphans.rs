//! What stands outside that belongs to no workflow, and how is it mended?

use backstitch::Client;
use backstitch_gateway::Edge;
use backstitch_gateway::orphans::{LookedAt, Orphan, Orphans, Thing, orphans};

use crate::exit::{Exit, Failed};
use crate::output::{Tint, clean, say, say_json, tinted};
use crate::outside::ALL_OR_NOTHING;

/// Looks for it.
pub async fn look(client: &Client, edge: &Edge) -> Result<Orphans, Failed> {
    orphans(edge, client).await.map_err(|error| Failed::because(&error, ALL_OR_NOTHING))
}

/// Tells it.
pub fn tell(found: &Orphans, json: bool) -> Result<Exit, Failed> {
    match json {
        true => say_json(found)?,
        false => say(&told(found))?,
    }
    Ok(if found.orphans.is_empty() { Exit::Done } else { Exit::NeedsAttention })
}

fn told(found: &Orphans) -> String {
    let LookedAt { dns_records, vhosts, routes, routes_asked, allocations } = found.looked_at;
    let looked_at = format!(
        "looked at {dns_records} DNS records, {vhosts} vhosts, {allocations} allocations, and {routes} live routes of the \
         {routes_asked} names asked for"
    );
    let mut lines = Vec::new();
    for Orphan { thing, workflow, why, mend } in &found.orphans {
        let (what, which) = match thing {
            Thing::DnsRecord { hostname } => ("dns record", hostname.to_string()),
            Thing::Vhost { path, .. } => ("vhost", path.display().to_string()),
            Thing::Route { hostname } => ("route", hostname.to_string()),
            Thing::Allocation { gateway, organization } => {
                ("allocation", format!("gateway {gateway} serves organisation {organization}"))
            }
        };
        lines.push(format!("{}  {}", tinted(&format!("{what:<10}"), Tint::Bad), clean(&which)));
        lines.push(format!("            of workflow {workflow}: {}", clean(why)));
        lines.push(format!("            → {}", clean(mend)));
    }
    lines.push(match found.orphans.len() {
        0 => format!("everything belongs to a workflow: {looked_at}"),
        1 => format!("1 thing belongs to no workflow: {looked_at}"),
        many => format!("{many} things belong to no workflow: {looked_at}"),
    });
    lines.join("\n")
}
