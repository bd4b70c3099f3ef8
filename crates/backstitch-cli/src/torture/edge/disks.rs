//! What is hurt where the edge keeps its files: a disk without room, a database that another writes to?

use std::time::Duration;

use backstitch_gateway::identifiers::{Hostname, Owner};
use backstitch_gateway::sandbox::Sandbox;
use backstitch_postgres::test::SmallDisk;
use backstitch_testkit::looks;
use chrono::{TimeDelta, Utc};
use sqlx::PgPool;
use tokio::time::Instant;
use uuid::Uuid;

use super::super::launch::because;
use crate::exit::Failed;

/// How long a server is gone, or silent, or broken: longer than one request to it may take.
pub const OUTAGE: Duration = Duration::from_millis(2500);

/// What a step says that can't write its vhost.
const NO_ROOM: &str = "nginx_directory_failed";

/// For how long somebody is waited for who meets what is wrong.
pub const MET_WITHIN: Duration = Duration::from_secs(15);

/// A gateway that is being started or stopped was asked for within this time.
const ASKED_FOR_WITHIN: TimeDelta = TimeDelta::minutes(10);

/// Between two looks.
pub const PAUSE: Duration = Duration::from_millis(100);

/// Leaves no room for vhosts until a daemon's step has met that, and a while longer. False: none has.
pub async fn fill(disk: &SmallDisk, pool: &PgPool) -> Result<bool, Failed> {
    let from = looks::first_id_at(Utc::now() - ASKED_FOR_WITHIN);
    let failed = async || looks::failed_with(pool, NO_ROOM, from).await;
    // Postgres may be down: then it is not known.
    let Ok(before) = failed().await else { return Ok(false) };
    disk.fill().map_err(because)?;
    let began = Instant::now();
    let mut is_met = false;
    while !is_met && began.elapsed() < MET_WITHIN {
        tokio::time::sleep(PAUSE).await;
        is_met = failed().await.is_ok_and(|now| now > before);
    }
    tokio::time::sleep(OUTAGE).await;
    disk.make_room().map_err(because)?;
    Ok(is_met)
}

/// Holds the lock of PowerDNS' database, as another writer would. False: its API answers all the same.
pub async fn lock(sandbox: &Sandbox) -> Result<bool, Failed> {
    use tokio::io::AsyncWriteExt;
    let mut sqlite = tokio::process::Command::new("sqlite3")
        .arg(sandbox.powerdns_database())
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .map_err(because)?;
    if let Some(input) = &mut sqlite.stdin {
        input.write_all(b".timeout 5000\nbegin exclusive;\n").await.map_err(because)?;
        input.flush().await.map_err(because)?;
    }
    tokio::time::sleep(OUTAGE).await;
    let asked = Hostname::new(Uuid::new_v4().into(), sandbox.domain.clone());
    let (powerdns, owner) = (sandbox.powerdns().map_err(because)?, Owner::from(Uuid::new_v4()));
    // It may read all the same, but not write.
    let fails = powerdns.register(&asked, sandbox.edge().ip(), owner).await.is_err();
    drop(sqlite.stdin.take());
    sqlite.wait().await.map_err(because)?;
    // Also after an error that came too late to keep it from being written.
    while powerdns.remove(&asked, owner).await.is_err() {
        tokio::time::sleep(PAUSE).await;
    }
    Ok(fails)
}
