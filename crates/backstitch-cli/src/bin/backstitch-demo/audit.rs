//! Do pool, DNS zone, vhost directory and the running nginx agree?

use anyhow::{Result, ensure};
use backstitch_gateway::identifiers::{Hostname, OrganizationId};
use backstitch_gateway::pool;

use crate::screen::Screen;
use crate::stage::Stage;

/// Nothing of this organisation is left anywhere.
pub async fn no_trace_of(screen: &Screen, stage: &Stage, organization: OrganizationId) -> Result<()> {
    let hostname = Hostname::new(organization, stage.sandbox.domain.clone());
    let active = pool::active(&mut *stage.pool.acquire().await?, organization).await?;
    ensure!(active.is_none(), "the pool still has a gateway for it: {active:?}");
    let records = stage.sandbox.powerdns()?.lookup(&hostname).await?;
    ensure!(records.is_empty(), "PowerDNS still holds {records:?}");
    let addresses = stage.sandbox.resolve(&hostname).await?;
    ensure!(addresses.is_empty(), "the name still resolves to {addresses:?}");
    let files = sites(stage, &organization.to_string())?;
    ensure!(files.is_empty(), "a vhost is left on the disk: {files:?}");
    let fetched = stage.sandbox.fetch(&hostname, "/").await?;
    ensure!(fetched.status == 404, "the running nginx still answers {}", fetched.status);
    screen.line("Left of it: no allocation, no DNS record, no vhost on disk, no route in the running nginx.");
    Ok(())
}

/// Nothing of anybody is left.
pub async fn nothing_is_left(screen: &Screen, stage: &Stage) -> Result<()> {
    let stats = pool::stats(&mut *stage.pool.acquire().await?).await?;
    screen.line(&format!("pool               {stats:?}"));
    let free = pool::list(&mut *stage.pool.acquire().await?).await?;
    let busy: Vec<_> = free.iter().filter(|listed| listed.organization.is_some()).collect();
    ensure!(busy.is_empty(), "these gateways are not free: {busy:?}");
    let files = sites(stage, "org-")?;
    screen.line(&format!("vhost directory    {} files", files.len()));
    ensure!(files.is_empty(), "vhosts are left: {files:?}");
    for gateway in &stage.sandbox.gateways {
        let state = gateway.agent()?.state().await?;
        screen.line(&format!("{}          serves {:?}", gateway.name, state.organization_id));
        ensure!(state.organization_id.is_none(), "{} still serves somebody", gateway.name);
    }
    stage.backstitch(screen, &["list"]).await?;
    stage.backstitch(screen, &["gateway", "stats"]).await
}

fn sites(stage: &Stage, part: &str) -> Result<Vec<String>> {
    let entries = std::fs::read_dir(&stage.sandbox.nginx_config().sites)?;
    let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    Ok(names.filter(|name| name.contains(part)).collect())
}
