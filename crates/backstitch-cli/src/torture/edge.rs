//! The part of torture that is real: gateways of organisations, on a private PowerDNS and nginx, served by real daemons.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use backstitch::Client;
use backstitch_gateway::identifiers::{Hostname, OrganizationId, Owner};
use backstitch_gateway::pool;
use backstitch_gateway::request::{self, Requested};
use backstitch_gateway::sandbox::{Sandbox, SandboxOptions};
use backstitch_postgres::test::{PrivateCluster, SmallDisk};
use backstitch_testkit::looks;
use backstitch_testkit::violation::{Violated, Violation};
use chrono::{TimeDelta, Utc};
use serde_json::json;
use sqlx::PgPool;
use tokio::time::Instant;
use uuid::Uuid;

use super::crew::Slot;
use super::fault::OnEdge;
use super::launch::{DATABASE, because, line_to, log_file, own_program, through};
use crate::exit::Failed;
use crate::output::note;

/// Two daemons reload one nginx.
const DAEMONS: usize = 2;

/// How many organisations are started and stopped at the same time: more than there are gateways, at times.
pub const ORGANIZATIONS: usize = 4;

/// How long somebody waits for a start or a stop before asking again.
const PATIENCE: Duration = Duration::from_secs(60);

/// How long a stop may take where nothing is wrong any more, and all that has to be retried is.
const ENDING_MAX: Duration = Duration::from_secs(120);

/// How long a server is gone, or silent, or broken: longer than one request to it may take.
const OUTAGE: Duration = Duration::from_millis(2500);

/// Some hundreds of vhosts.
const DISK_BYTES: u64 = 4 * 1024 * 1024;

/// What a step says that can't write its vhost.
const NO_ROOM: &str = "nginx_directory_failed";

/// For how long a step is waited for that finds no room.
const MET_WITHIN: Duration = Duration::from_secs(15);

/// A gateway that is being started or stopped was asked for within this time.
const ASKED_FOR_WITHIN: TimeDelta = TimeDelta::minutes(10);

/// The edge, and what asks for gateways.
pub struct Edge {
    sandbox: tokio::sync::Mutex<Sandbox>,
    daemons: Vec<Slot>,
    /// The disk of the vhosts; or why there is none that could be full. Goes after the nginx that it is for.
    pub vhost_disk: Result<SmallDisk, String>,
    pool: PgPool,
    organizations: Mutex<BTreeSet<OrganizationId>>,
    /// Those whose last start succeeded when it was time to stop, to be looked at.
    served: Mutex<Vec<OrganizationId>>,
    stopped: AtomicBool,
    counts: Counts,
}

/// What became of what was asked for.
#[derive(Debug, Default)]
pub struct Counts {
    /// A gateway served.
    pub started: AtomicU64,
    /// It did, and does no more.
    pub stopped: AtomicU64,
    /// It failed and was taken back.
    pub failed: AtomicU64,
    /// There was none.
    pub none_available: AtomicU64,
}

impl Edge {
    /// Sets it up below this directory.
    pub async fn set(
        directory: &Path,
        postgres: &PrivateCluster,
        pool: PgPool,
        gateways: usize,
    ) -> Result<Self, Failed> {
        let mut options = SandboxOptions::new(directory.join("edge"));
        options.gateways = gateways;
        let sandbox = Sandbox::start(options).await.map_err(because)?;
        let vhost_disk = SmallDisk::mount(&sandbox.nginx_config().sites, DISK_BYTES).map_err(|error| {
            note(&format!("the disk of the vhosts will never be full: {error}"));
            error.to_string()
        });
        pool::migrate(&pool).await.map_err(because)?;
        let mut connection = pool.acquire().await.map_err(because)?;
        for gateway in &sandbox.gateways {
            let id = pool::add(&mut connection, &gateway.name, gateway.upstream).await.map_err(because)?;
            pool::set_ready(&mut connection, id).await.map_err(because)?;
        }
        drop(connection);
        let key = directory.join("powerdns.key");
        sandbox.write_api_key(&key).map_err(because)?;
        let daemons = (0..DAEMONS)
            .map(|number| daemon(directory, postgres, &sandbox, &key, number))
            .collect::<Result<_, _>>()?;
        Ok(Self {
            sandbox: tokio::sync::Mutex::new(sandbox),
            daemons,
            vhost_disk,
            pool,
            organizations: Mutex::default(),
            served: Mutex::default(),
            stopped: AtomicBool::new(false),
            counts: Counts::default(),
        })
    }

    /// Starts and stops organisations, one after the other, until it is told to stop; what then serves is left to be looked at
    /// ([`end_the_served`](Self::end_the_served)).
    pub async fn ask(&self, client: &Client) {
        while !self.stopped.load(Ordering::Relaxed) {
            let organization: OrganizationId = Uuid::new_v4().into();
            self.organizations.lock().unwrap_or_else(PoisonError::into_inner).insert(organization);
            let asked = loop {
                match request::start(client, organization, Instant::now() + PATIENCE).await {
                    Ok(Requested::StillRunning(_)) | Err(_) => tokio::time::sleep(PAUSE).await,
                    Ok(asked) => break asked,
                }
            };
            let (counted, serves) = match asked {
                Requested::NoGatewayAvailable(_) => (&self.counts.none_available, false),
                Requested::Started { .. } | Requested::Active { .. } => (&self.counts.started, true),
                _ => (&self.counts.failed, false),
            };
            counted.fetch_add(1, Ordering::Relaxed);
            if serves && self.stopped.load(Ordering::Relaxed) {
                self.served.lock().unwrap_or_else(PoisonError::into_inner).push(organization);
                return;
            }
            // Also after a failure: it must be harmless, and one that nobody heard the end of is ended.
            self.end(client, organization).await;
            self.counts.stopped.fetch_add(u64::from(serves), Ordering::Relaxed);
        }
    }

    async fn end(&self, client: &Client, organization: OrganizationId) {
        while !matches!(
            request::stop(client, organization, Instant::now() + PATIENCE).await,
            Ok(Requested::Stopped | Requested::NothingToStop)
        ) {
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Looks whether what was left started serves, and stops it. Says what does not stand as it should.
    pub async fn end_the_served(&self, client: &Client) -> Result<Vec<Violation>, Failed> {
        let served = std::mem::take(&mut *self.served.lock().unwrap_or_else(PoisonError::into_inner));
        let mut missing = Vec::new();
        for organization in served {
            let sandbox = self.sandbox.lock().await;
            let hostname = Hostname::new(organization, sandbox.domain.clone());
            let mut connection = self.pool.acquire().await.map_err(because)?;
            let allocation = pool::active(&mut connection, organization).await.map_err(because)?;
            let records = sandbox.powerdns().map_err(because)?.lookup(&hostname).await.map_err(because)?;
            let page = sandbox.fetch(&hostname, "/").await.map_err(because)?;
            let is_served = page.status == 200 && page.body.contains(&organization.to_string());
            if allocation.is_none() || records.len() != 2 || !is_served {
                missing.push(Violated::NothingLost.by(format!(
                    "the start of {organization} completed; allocation {allocation:?}, records {records:?}, page {page:?}"
                )));
            }
            drop(sandbox);
            match tokio::time::timeout(ENDING_MAX, self.end(client, organization)).await {
                Ok(()) => _ = self.counts.stopped.fetch_add(1, Ordering::Relaxed),
                Err(_) => {
                    let how = format!("the stop of {organization} does not end");
                    missing.push(Violated::NothingStranded.by(how));
                }
            }
        }
        Ok(missing)
    }

    /// No further organisation is started.
    pub fn stop(&self) {
        self.stopped.store(true, Ordering::Relaxed);
    }

    /// The next round may begin.
    pub fn go_on(&self) {
        self.stopped.store(false, Ordering::Relaxed);
        self.organizations.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// What became of it so far.
    pub fn counts(&self) -> &Counts {
        &self.counts
    }

    /// The daemons.
    pub fn daemons(&self) -> &[Slot] {
        &self.daemons
    }

    /// Lets something happen to it. False: it did not come to that.
    pub async fn hurt(&self, how: OnEdge, choice: usize) -> Result<bool, Failed> {
        match how {
            OnEdge::DaemonKilled => return Ok(self.daemons[choice % DAEMONS].kill().await),
            OnEdge::NginxKilled => {
                let mut sandbox = self.sandbox.lock().await;
                sandbox.nginx_server().kill().map_err(because)?;
                tokio::time::sleep(OUTAGE).await;
                sandbox.restart_nginx().await
            }
            OnEdge::NginxFrozen => {
                let mut sandbox = self.sandbox.lock().await;
                sandbox.nginx_server().freeze().map_err(because)?;
                tokio::time::sleep(OUTAGE).await;
                sandbox.nginx_server().thaw()
            }
            OnEdge::PowerDnsKilled => {
                let mut sandbox = self.sandbox.lock().await;
                sandbox.powerdns_server().kill().map_err(because)?;
                tokio::time::sleep(OUTAGE).await;
                sandbox.restart_powerdns().await
            }
            OnEdge::PowerDnsFrozen => {
                let mut sandbox = self.sandbox.lock().await;
                sandbox.powerdns_server().freeze().map_err(because)?;
                tokio::time::sleep(OUTAGE).await;
                sandbox.powerdns_server().thaw()
            }
            OnEdge::PowerDnsFailing => {
                let sandbox = self.sandbox.lock().await;
                return lock_database(&sandbox).await;
            }
            OnEdge::HandshakeRefused => return self.restart_free_gateways(&["--refuse-start"]).await,
            OnEdge::HandshakeHangs => return self.restart_free_gateways(&["--hang-start", "20"]).await,
            OnEdge::ForeignVhostBroken => {
                let sandbox = self.sandbox.lock().await;
                let broken = sandbox.nginx_config().sites.join("somebody-else.conf");
                std::fs::write(&broken, "server { nonsense").map_err(because)?;
                tokio::time::sleep(OUTAGE).await;
                std::fs::remove_file(&broken).map_err(because)?;
                return Ok(true);
            }
            OnEdge::VhostDiskFull => return self.vhost_disk_full().await,
        }
        .map_err(because)?;
        Ok(true)
    }

    /// Full until a daemon's step has met it, and a while longer.
    async fn vhost_disk_full(&self) -> Result<bool, Failed> {
        let Ok(disk) = &self.vhost_disk else { return Ok(false) };
        // Nobody else writes there now.
        let _sandbox = self.sandbox.lock().await;
        let from = looks::first_id_at(Utc::now() - ASKED_FOR_WITHIN);
        let failed = async || looks::failed_with(&self.pool, NO_ROOM, from).await;
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

    /// Those that serve nobody misbehave for a while, and are well again. False: all of them serve somebody.
    async fn restart_free_gateways(&self, faults: &[&str]) -> Result<bool, Failed> {
        let mut sandbox = self.sandbox.lock().await;
        let mut hurt = Vec::new();
        for (index, gateway) in sandbox.gateways.iter_mut().enumerate() {
            // Of one that does not answer nobody knows whether it serves.
            let state = gateway.agent().map_err(because)?.state().await;
            if state.is_ok_and(|state| state.organization_id.is_none()) {
                gateway.restart(faults).await.map_err(because)?;
                hurt.push(index);
            }
        }
        tokio::time::sleep(OUTAGE).await;
        for index in &hurt {
            sandbox.gateways[*index].restart(&[]).await.map_err(because)?;
        }
        Ok(!hurt.is_empty())
    }

    /// What an operator does when everything is over: gateways that could not be reset are restarted, and lent again.
    pub async fn return_the_quarantined(&self) -> Result<usize, Failed> {
        let mut connection = self.pool.acquire().await.map_err(because)?;
        let listed = pool::list(&mut connection).await.map_err(because)?;
        let quarantined: Vec<_> = listed.into_iter().filter(|listed| listed.state == "quarantined").collect();
        let mut sandbox = self.sandbox.lock().await;
        for listed in &quarantined {
            if let Some(gateway) = sandbox.gateways.iter_mut().find(|gateway| gateway.name == listed.name) {
                gateway.restart(&[]).await.map_err(because)?;
            }
            pool::release_quarantine(&mut connection, listed.gateway).await.map_err(because)?;
        }
        Ok(quarantined.len())
    }

    /// Once every organisation was stopped: whatever is left of one, anywhere.
    pub async fn left(&self) -> Result<Vec<String>, Failed> {
        let mut left = Vec::new();
        let mut connection = self.pool.acquire().await.map_err(because)?;
        for listed in pool::list(&mut connection).await.map_err(because)? {
            if listed.state != "ready" || listed.organization.is_some() {
                left.push(format!(
                    "pool: {} is {} and serves {:?}",
                    listed.name, listed.state, listed.organization
                ));
            }
        }
        let sandbox = self.sandbox.lock().await;
        let sites = std::fs::read_dir(sandbox.nginx_config().sites).map_err(because)?;
        left.extend(sites.flatten().map(|site| format!("vhost directory: {}", site.path().display())));
        for gateway in &sandbox.gateways {
            let state = gateway.agent().map_err(because)?.state().await.map_err(because)?;
            if let Some(organization) = state.organization_id {
                left.push(format!("gateway {} serves {organization}", gateway.name));
            }
        }
        let (powerdns, nginx) = (sandbox.powerdns().map_err(because)?, sandbox.nginx().map_err(because)?);
        let organizations = self.organizations.lock().unwrap_or_else(PoisonError::into_inner).clone();
        for organization in organizations {
            let hostname = Hostname::new(organization, sandbox.domain.clone());
            let records = powerdns.lookup(&hostname).await.map_err(because)?;
            left.extend(records.iter().map(|record| format!("DNS: {hostname} has {record:?}")));
            if let Some(route) = nginx.route(&hostname).await.map_err(because)? {
                left.push(format!("the running nginx has {hostname} for {route:?}"));
            }
        }
        Ok(left)
    }
}

/// After an answer that was none.
const PAUSE: Duration = Duration::from_millis(100);

fn daemon(
    directory: &Path,
    postgres: &PrivateCluster,
    sandbox: &Sandbox,
    key: &Path,
    number: usize,
) -> Result<Slot, Failed> {
    let line = line_to(postgres)?;
    let configuration = json!({
        "database_url": through(&postgres.server.url(DATABASE), &line),
        "state_directory": directory.join("daemons"),
        // Nobody asks over HTTP here: a port of its own choice.
        "listen": "127.0.0.1:0",
        "gateway": sandbox.daemon_configuration(key),
    });
    let config = directory.join(format!("daemon-{number}.toml"));
    std::fs::write(&config, toml::to_string(&configuration).map_err(because)?).map_err(because)?;
    let log = directory.join(format!("daemon-{number}.log"));
    let program = own_program()?;
    Ok(Slot::open(line, move |_| {
        let mut command = tokio::process::Command::new(&program);
        command.arg("--config").arg(&config).arg("serve").env_remove("DATABASE_URL");
        command.env("BACKSTITCH_LOG", "warn").stderr(log_file(&log));
        command
    }))
}

/// Holds the lock of PowerDNS' database, as another writer would. False: its API answers all the same.
async fn lock_database(sandbox: &Sandbox) -> Result<bool, Failed> {
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
