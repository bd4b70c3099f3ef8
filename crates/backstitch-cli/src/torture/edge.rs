//! The part of torture that is real: gateways of organisations, on a private PowerDNS and nginx, served by real daemons.

mod disks;
mod hurt;
mod standing;
mod way;
mod withdrawal;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use backstitch::{Client, WorkflowId};
use backstitch_gateway::identifiers::OrganizationId;
use backstitch_gateway::pool;
use backstitch_gateway::request::{self, Requested};
use backstitch_gateway::sandbox::{Sandbox, SandboxOptions};
use backstitch_postgres::test::{PrivateCluster, SmallDisk};
use backstitch_testkit::violation::{Violated, Violation};
use serde_json::{Value, json};
use sqlx::PgPool;
use tokio::time::Instant;
use uuid::Uuid;

use self::standing::{Places, Served, Standing};
use self::way::Way;
use super::crew::Slot;
use super::launch::{Clocks, DATABASE, because, line_to, log_file, own_program};
use super::share::Share;
use crate::exit::{Exit, Failed};
use crate::output::note;

/// Two daemons reload one nginx.
const DAEMONS: usize = 2;

/// How many organisations are started and stopped at the same time: more than there are gateways, at times.
pub const ORGANIZATIONS: usize = 4;

/// How long somebody waits for a start or a stop before asking again.
const PATIENCE: Duration = Duration::from_secs(60);

/// How long a stop may take where nothing is wrong any more, and all that has to be retried is.
const ENDING_MAX: Duration = Duration::from_secs(120);

/// Some hundreds of vhosts.
const DISK_BYTES: u64 = 4 * 1024 * 1024;

/// Of how many organisations the route is asked for, the last ones: some rounds. One from before, without a file, would have had
/// to outlive hundreds of reloads; with one, it shows in the directory.
const ROUTES_ASKED_MAX: usize = 2_000;

/// How long a page is waited for that shows whether there is a route.
const PAGE_MAX: Duration = Duration::from_secs(2);

/// The edge, and what asks for gateways.
pub struct Edge {
    sandbox: tokio::sync::Mutex<Sandbox>,
    daemons: Vec<Slot>,
    /// Between PowerDNS and the first daemon; or all of them, where a removal that did nothing is to be noticed.
    way_to_powerdns: Way,
    /// Between nginx and the first daemon, where that asks whose route is live.
    way_to_nginx: Way,
    /// The disk of the vhosts; or why there is none that could be full. Goes after the nginx that it is for.
    pub vhost_disk: Result<SmallDisk, String>,
    pool: PgPool,
    places: Places,
    /// Where nginx serves the routes.
    routes: SocketAddr,
    http: reqwest::Client,
    /// Everybody who was ever asked for, of all rounds: what lands late is somebody's too.
    organizations: Mutex<Vec<OrganizationId>>,
    /// Those whose last start succeeded when it was time to stop, to be looked at.
    served: Mutex<Vec<(OrganizationId, Served)>>,
    /// Those whose start is said to have left nothing.
    taken_back: Mutex<Vec<OrganizationId>>,
    /// Starts whose withdrawal was accepted.
    withdrawn: Mutex<Vec<WorkflowId>>,
    /// Gateways that torture has restarted in this round: what they knew is gone, and calls to them failed.
    restarted: Mutex<BTreeSet<String>>,
    /// What did not stand as it should while everything went wrong.
    found: Mutex<Vec<Violation>>,
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
    /// It failed or was withdrawn, and was taken back.
    pub failed: AtomicU64,
    /// There was none.
    pub none_available: AtomicU64,
    /// Of the starts that were looked at as soon as they had ended: how many everywhere.
    pub looked_at: Mutex<Share>,
}

impl Edge {
    /// Sets it up below this directory. `lies`: the daemons are told of names that they are gone, and they stand.
    pub async fn set(
        directory: &Path,
        postgres: &PrivateCluster,
        pool: PgPool,
        gateways: usize,
        lies: bool,
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
        let way_to_powerdns = Way::to(sandbox.powerdns_config().url.as_str(), lies).await.map_err(because)?;
        let nginx = format!("http://{}", sandbox.nginx_config().probe);
        let way_to_nginx = Way::to(&nginx, false).await.map_err(because)?;
        let daemons = (0..DAEMONS)
            .map(|number| {
                let mut gateway = sandbox.daemon_configuration(&key);
                if lies || number == 0 {
                    gateway["powerdns"]["url"] = way_to_powerdns.url().into();
                }
                if number == 0 {
                    gateway["nginx"]["probe"] = way_to_nginx.address().to_string().into();
                }
                daemon(directory, postgres, &gateway, number)
            })
            .collect::<Result<_, _>>()?;
        let places = Places {
            pool: pool.clone(),
            zone_file: sandbox.powerdns_database(),
            domain: sandbox.domain.to_string(),
            address: sandbox.edge().ip(),
            sites: sandbox.nginx_config().sites,
        };
        let http = reqwest::Client::builder().no_proxy().pool_max_idle_per_host(0).timeout(PAGE_MAX).build();
        Ok(Self {
            routes: sandbox.edge(),
            sandbox: tokio::sync::Mutex::new(sandbox),
            daemons,
            way_to_powerdns,
            way_to_nginx,
            vhost_disk,
            pool,
            places,
            http: http.map_err(because)?,
            taken_back: Mutex::default(),
            withdrawn: Mutex::default(),
            restarted: Mutex::default(),
            found: Mutex::default(),
            organizations: Mutex::default(),
            served: Mutex::default(),
            stopped: AtomicBool::new(false),
            counts: Counts::default(),
        })
    }

    /// Starts and stops organisations, one after the other, until it is told to stop; withdraws two of three starts while they
    /// are under way; and looks at each as soon as its start has ended; what then serves is left to be looked at once more ([`end_the_served`](Self::end_the_served)).
    pub async fn ask(&self, client: &Client) {
        while !self.stopped.load(Ordering::Relaxed) {
            // A new one each time: nobody else starts or stops it.
            let organization: OrganizationId = Uuid::new_v4().into();
            lock(&self.organizations).push(organization);
            let asked = tokio::select! {
                asked = start(client, organization) => asked,
                never = withdrawal::withdraw(client, organization, &self.withdrawn) => match never {},
            };
            let (counted, serves) = match asked {
                Requested::Started { allocation, .. } | Requested::Active { allocation, .. } => {
                    let served = Served {
                        label: label(organization),
                        start: allocation.owner.to_string(),
                        upstream: allocation.upstream.to_string(),
                    };
                    self.look(organization, Some(&served)).await;
                    (&self.counts.started, Some(served))
                }
                Requested::NoGatewayAvailable(_) => {
                    self.nothing_is_left(organization).await;
                    (&self.counts.none_available, None)
                }
                Requested::Failed(_) => {
                    self.nothing_is_left(organization).await;
                    (&self.counts.failed, None)
                }
                // What is taken back still, or needs somebody: whoever stops it waits for that.
                _ => (&self.counts.failed, None),
            };
            counted.fetch_add(1, Ordering::Relaxed);
            let did_serve = u64::from(serves.is_some());
            if let Some(served) = serves.filter(|_| self.stopped.load(Ordering::Relaxed)) {
                lock(&self.served).push((organization, served));
                return;
            }
            // Also after a failure: it must be harmless.
            self.end(client, organization).await;
            self.counts.stopped.fetch_add(did_serve, Ordering::Relaxed);
        }
    }

    /// Before anybody stops it: that would take away what is to be found. That nothing had to be stopped shows in the end.
    async fn nothing_is_left(&self, organization: OrganizationId) {
        lock(&self.taken_back).push(organization);
        self.look(organization, None).await;
    }

    /// Whether all of one organisation stands that its start has made, and nothing where that was taken back.
    async fn look(&self, organization: OrganizationId, served: Option<&Served>) {
        let label = label(organization);
        let wanted = Standing::of(served.map(std::slice::from_ref).unwrap_or_default(), &self.places);
        let standing = Standing::read(&self.places).await.under(&label);
        let mut found = standing.compare(&wanted);
        let page = self.page(&label).await;
        match &page {
            // Faults are about: that nobody answers, or a gateway that was restarted says nothing, is none of its own.
            Err(_) => {}
            Ok((404, _)) if served.is_some() => {
                found.push(Violated::NothingLost.by(format!("nginx has no route for {label}")));
            }
            Ok((status, _)) if served.is_none() && *status != 404 => {
                found.push(Violated::NothingLeaked.by(format!("nginx has a route for {label}: {status}")));
            }
            Ok(_) => {}
        }
        let everywhere = standing.unseen().is_empty() && page.is_ok();
        lock(&self.counts.looked_at).add(everywhere);
        let when = match served {
            Some(served) => format!("as its start {} had completed", served.start),
            None => "as its start had been taken back".to_owned(),
        };
        lock(&self.found)
            .extend(found.into_iter().map(|Violation { what, how }| what.by(format!("{how}, {when}"))));
    }

    /// The page that members of an organisation get: 404 where nginx has no route for it.
    async fn page(&self, label: &str) -> reqwest::Result<(u16, Value)> {
        let host = format!("{label}.{}", self.places.domain);
        let answer = self.http.get(format!("http://{}/", self.routes)).header("Host", host).send().await?;
        let (status, body) = (answer.status().as_u16(), answer.bytes().await?);
        Ok((status, serde_json::from_slice(&body).unwrap_or_default()))
    }

    async fn end(&self, client: &Client, organization: OrganizationId) {
        while !matches!(
            request::stop(client, organization, Instant::now() + PATIENCE).await,
            Ok(Requested::Stopped | Requested::NothingToStop)
        ) {
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Says what did not stand as it should so far. Then looks whether what was left started serves, and nobody else is served,
    /// and stops it.
    pub async fn end_the_served(&self, client: &Client) -> Result<Vec<Violation>, Failed> {
        let mut differs = std::mem::take(&mut *lock(&self.found));
        let (organizations, served): (Vec<_>, Vec<_>) =
            std::mem::take(&mut *lock(&self.served)).into_iter().unzip();
        differs.extend(self.differs(&served).await?);
        for (organization, served) in organizations.into_iter().zip(served) {
            let (status, page) = self.page(&served.label).await.map_err(because)?;
            if status != 200 || page["organization_id"] != organization.to_string() {
                differs.push(Violated::NothingLost.by(format!(
                    "the start {} of {organization} completed; its page is {status} {page}",
                    served.start
                )));
            }
            match tokio::time::timeout(ENDING_MAX, self.end(client, organization)).await {
                Ok(()) => _ = self.counts.stopped.fetch_add(1, Ordering::Relaxed),
                Err(_) => {
                    let how = format!("the stop of {organization} does not end");
                    differs.push(Violated::NothingStranded.by(how));
                }
            }
        }
        Ok(differs)
    }

    /// What of everything that stands is not exactly what these need. Everything must be well.
    async fn differs(&self, served: &[Served]) -> Result<Vec<Violation>, Failed> {
        let found = Standing::read(&self.places).await;
        if let Some(why) = found.unseen().first() {
            return Err(Failed::new(Exit::Error, format!("what stands at the edge can't be seen: {why}")));
        }
        Ok(found.compare(&Standing::of(served, &self.places)))
    }

    /// No further organisation is started.
    pub fn stop(&self) {
        self.stopped.store(true, Ordering::Relaxed);
    }

    /// The next round may begin.
    pub fn go_on(&self) {
        self.stopped.store(false, Ordering::Relaxed);
    }

    /// Starts whose withdrawal was accepted since this was asked last: they must have been taken back.
    pub fn take_withdrawn(&self) -> Vec<WorkflowId> {
        std::mem::take(&mut lock(&self.withdrawn))
    }

    /// What became of it so far.
    pub fn counts(&self) -> &Counts {
        &self.counts
    }

    /// The daemons.
    pub fn daemons(&self) -> &[Slot] {
        &self.daemons
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
        lock(&self.restarted).clear();
        Ok(quarantined.len())
    }

    /// Once every organisation was stopped, and before an operator helps: whatever is left of one, anywhere, of all rounds.
    pub async fn left(&self) -> Result<Vec<Violation>, Failed> {
        let mut left = self.differs(&[]).await?;
        let mut leaked = |how: String| left.push(Violated::NothingLeaked.by(how));
        let taken_back: Vec<Uuid> =
            std::mem::take(&mut *lock(&self.taken_back)).iter().map(OrganizationId::uuid).collect();
        for organization in standing::begun_to_stop(&self.pool, &taken_back).await.map_err(because)? {
            leaked(format!("the start of {organization} was taken back, and there was something to stop"));
        }
        let not_free = standing::not_free(&self.pool).await.map_err(because)?;
        let restarted = lock(&self.restarted).clone();
        for gateway in &not_free {
            if !gateway.is_excused() || !restarted.contains(&gateway.name) {
                leaked(format!("nothing was done that it comes from, and nobody can be given {gateway}"));
            }
        }
        let sandbox = self.sandbox.lock().await;
        // One that could not be reset may know its organisation still: that is why nobody is given it.
        let knows_nobody = |name: &str| not_free.iter().all(|gateway| gateway.name != name);
        for gateway in sandbox.gateways.iter().filter(|gateway| knows_nobody(&gateway.name)) {
            let asked = self.http.get(format!("http://{}/collab/state", gateway.upstream)).send().await;
            let state: Value = asked.map_err(because)?.json().await.map_err(because)?;
            if !state["organization_id"].is_null() {
                leaked(format!("{} serves somebody still: {state}", gateway.name));
            }
        }
        // A running nginx can't be asked which routes it has, only for each by its name.
        let last: Vec<_> = lock(&self.organizations).iter().rev().take(ROUTES_ASKED_MAX).copied().collect();
        for label in last.into_iter().map(label) {
            let (status, page) = self.page(&label).await.map_err(because)?;
            if status != 404 {
                leaked(format!("the running nginx has a route for {label}: {status} {page}"));
            }
        }
        Ok(left)
    }
}

/// Asks until there is an answer.
async fn start(client: &Client, organization: OrganizationId) -> Requested {
    loop {
        match request::start(client, organization, Instant::now() + PATIENCE).await {
            Ok(Requested::StillRunning(_)) | Err(_) => tokio::time::sleep(PAUSE).await,
            Ok(asked) => return asked,
        }
    }
}

/// Under which label an organisation's name, record and vhost stand.
fn label(organization: OrganizationId) -> String {
    format!("org-{organization}")
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// After an answer that was none.
const PAUSE: Duration = Duration::from_millis(100);

fn daemon(
    directory: &Path,
    postgres: &PrivateCluster,
    gateway: &Value,
    number: usize,
) -> Result<Slot, Failed> {
    let line = line_to(postgres);
    let configuration = json!({
        "database_url": line.url(&postgres.server.url(DATABASE)),
        "state_directory": directory.join("daemons"),
        // Nobody asks over HTTP here: a port of its own choice.
        "listen": "127.0.0.1:0",
        "gateway": gateway,
    });
    let config = directory.join(format!("daemon-{number}.toml"));
    std::fs::write(&config, toml::to_string(&configuration).map_err(because)?).map_err(because)?;
    let log = directory.join(format!("daemon-{number}.log"));
    let (program, clocks) = (own_program()?, Clocks::find()?);
    Ok(Slot::open(line, move |launch| {
        let mut command = tokio::process::Command::new(&program);
        command.arg("--config").arg(&config).arg("serve").env_remove("DATABASE_URL");
        command.env("BACKSTITCH_LOG", "warn").stderr(log_file(&log));
        clocks.set(&mut command, launch);
        command
    }))
}
