//! What does each test of a workflow begin with, and what must hold when everything was taken back?

use std::path::PathBuf;
use std::time::Duration;

use backstitch::{Client, Database, Plaintext, Running, StepView, Timing, Unfinished, Worker, WorkflowId};
use backstitch_gateway::identifiers::{GatewayId, Hostname, OrganizationId};
use backstitch_gateway::networks::AllowedNetworks;
use backstitch_gateway::nginx::NginxConfig;
use backstitch_gateway::pool::{self, Stats};
use backstitch_gateway::powerdns::{PowerDnsConfig, REQUEST_TIMEOUT};
use backstitch_gateway::request::{self, Requested};
use backstitch_gateway::{ANSWER_PATIENCE, Edge, EdgeConfig, RESETS_MAX};
use backstitch_postgres::test::{TestDatabase, database};
use serde_json::{Value, json};
use sqlx::PgPool;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use uuid::Uuid;

use crate::sandboxes::{self, sandbox};

/// A lease is never over here; only looks are more frequent than in production.
pub const TIMING: Timing = Timing { poll: Duration::from_millis(20), ..Timing::DEFAULT };
/// How long a caller waits for anything that works.
const PATIENCE: Duration = Duration::from_secs(60);

/// An edge, a database, and the pool of its gateways.
pub struct Platform {
    pub edge: sandboxes::Edge,
    pub db: PgPool,
    pub client: Client,
    pub gateways: Vec<GatewayId>,
    pub database: TestDatabase,
}

impl Platform {
    /// With as many ready gateways, all of them real processes, and no worker yet.
    pub async fn of(gateways: usize) -> Self {
        let (edge, database) = tokio::join!(sandbox(gateways), database());
        let db = database.pool().await;
        let engine = Database::connect(&database.url).await.unwrap();
        backstitch::migrate(&engine).await.unwrap();
        pool::migrate(&db).await.unwrap();
        let mut connection = db.acquire().await.unwrap();
        let mut ids = Vec::new();
        for gateway in &edge.sandbox.gateways {
            let id = pool::add(&mut connection, &gateway.name, gateway.upstream).await.unwrap();
            pool::set_ready(&mut connection, id).await.unwrap();
            ids.push(id);
        }
        drop(connection);
        Self { edge, db, client: Client::new(engine), gateways: ids, database }
    }

    pub fn config(&self) -> EdgeConfig {
        EdgeConfig {
            powerdns: self.edge.sandbox.powerdns_config(),
            nginx: self.edge.sandbox.nginx_config(),
            address: self.edge.sandbox.edge().ip(),
            answer_patience: ANSWER_PATIENCE,
            resets_max: RESETS_MAX,
        }
    }

    /// Where this edge is, for a worker in a process of its own.
    pub fn description(&self) -> String {
        let EdgeConfig { powerdns, nginx, .. } = self.config();
        json!({
            "powerdns": powerdns.url.as_str(), "key": self.edge.powerdns_key(), "zone": powerdns.zone,
            "binary": nginx.binary, "prefix": nginx.prefix, "conf": nginx.conf, "error_log": nginx.error_log,
            "pid_file": nginx.pid_file, "sites": nginx.sites, "state": nginx.state, "listen": nginx.listen,
        })
        .to_string()
    }

    /// A worker over this edge, not yet started.
    pub async fn worker_over(&self, config: EdgeConfig) -> Worker<Edge> {
        let database = Database::connect(&self.database.url).await.unwrap();
        let edge = Edge::new(config, database.clone()).unwrap();
        backstitch_gateway::worker(database, edge).timing(TIMING)
    }

    pub async fn start_worker(&self) -> Running {
        self.worker_over(self.config()).await.start().await.unwrap()
    }

    pub fn hostname(&self, organization: OrganizationId) -> Hostname {
        Hostname::new(organization, self.edge.sandbox.domain.clone())
    }

    pub async fn start(&self, organization: OrganizationId) -> Requested {
        request::start(&self.client, organization, soon()).await.unwrap()
    }

    /// Asks for a start and goes on: its workflow, once it is there, and the answer that is to come.
    pub async fn begin(&self, organization: OrganizationId) -> (WorkflowId, JoinHandle<Requested>) {
        let client = self.client.clone();
        let starting =
            tokio::spawn(async move { request::start(&client, organization, soon()).await.unwrap() });
        (self.live("gateway.start").await, starting)
    }

    pub async fn stop(&self, organization: OrganizationId) -> Requested {
        request::stop(&self.client, organization, soon()).await.unwrap()
    }

    pub async fn stats(&self) -> Stats {
        pool::stats(&mut self.db.acquire().await.unwrap()).await.unwrap()
    }

    /// The live workflow of a kind, once there is one.
    pub async fn live(&self, kind: &str) -> WorkflowId {
        let sql = "select workflow_id from backstitch.workflows \
            where kind = $1 and status not in ('completed', 'compensated')";
        let live = until("a workflow is live", async || {
            sqlx::query_scalar::<_, Uuid>(sql).bind(kind).fetch_optional(&self.db).await.unwrap()
        })
        .await;
        WorkflowId(live)
    }

    pub async fn step(&self, workflow: WorkflowId, name: &str) -> Option<StepView> {
        self.client.steps(workflow).await.unwrap().into_iter().find(|step| step.step == name)
    }

    /// Waits until a step has this status.
    pub async fn step_is(&self, workflow: WorkflowId, name: &str, status: &str) {
        until(&format!("{name} is {status}"), async || {
            self.step(workflow, name).await.filter(|step| step.status == status)
        })
        .await;
    }

    /// Holds that an organisation is served: pool, zone, resolver, directory, and a page through nginx.
    pub async fn assert_served(&self, organization: OrganizationId, gateway: GatewayId) {
        let hostname = self.hostname(organization);
        let active =
            pool::active(&mut self.db.acquire().await.unwrap(), organization).await.unwrap().unwrap();
        assert_eq!((active.gateway, active.hostname.as_ref()), (gateway, Some(&hostname)));
        let records = self.edge.sandbox.powerdns().unwrap().lookup(&hostname).await.unwrap();
        assert_eq!(records.len(), 2, "{records:?}");
        let resolved = self.edge.sandbox.resolve(&hostname).await.unwrap();
        assert_eq!(resolved, [self.edge.sandbox.edge().ip()]);
        assert!(self.edge.sites().contains(&format!("org-{organization}.conf")));
        let page = self.edge.sandbox.fetch(&hostname, "/").await.unwrap();
        assert_eq!(page.status, 200, "{page:?}");
        assert!(page.body.contains(&format!("\"organization_id\":\"{organization}\"")), "{page:?}");
    }

    /// Holds that nothing of an organisation is left: pool, zone, resolver, directory, running nginx, gateways.
    pub async fn assert_nothing_left(&self, organization: OrganizationId) {
        let hostname = self.hostname(organization);
        let active = pool::active(&mut self.db.acquire().await.unwrap(), organization).await.unwrap();
        assert_eq!(active, None);
        let ours = |content: &str| content.contains("heritage=backstitch");
        let records = self.edge.sandbox.powerdns().unwrap().lookup(&hostname).await.unwrap();
        assert!(!records.iter().any(|record| ours(&record.content)), "{records:?}");
        if records.is_empty() {
            let resolved = self.edge.sandbox.resolve(&hostname).await.unwrap();
            assert_eq!(resolved, [] as [std::net::Ipv4Addr; 0]);
        }
        let name = format!("org-{organization}");
        for site in self.edge.sites().into_iter().filter(|site| site.contains(&name)) {
            let text = std::fs::read_to_string(self.edge.site(&site)).unwrap();
            assert!(!text.contains("backstitch"), "{site}: {text}");
        }
        assert_eq!(self.edge.sandbox.nginx().unwrap().route(&hostname).await.unwrap(), None);
        let page = self.edge.sandbox.fetch(&hostname, "/").await.unwrap();
        assert_ne!(page.status, 200, "{page:?}");
        for gateway in &self.edge.sandbox.gateways {
            // One that is not there knows nobody.
            let state = gateway.agent().unwrap().state().await.ok();
            assert_ne!(state.and_then(|state| state.organization_id), Some(organization));
        }
    }
}

/// The worker over an edge that was [described](Platform::description).
pub fn described_worker(database: Database, description: &str) -> Worker<Edge> {
    let described: Value = serde_json::from_str(description).unwrap();
    let text = |name: &str| described[name].as_str().unwrap().to_owned();
    let path = |name: &str| PathBuf::from(text(name));
    let listen = text("listen").parse().unwrap();
    let config = EdgeConfig {
        powerdns: PowerDnsConfig {
            url: text("powerdns").parse().unwrap(),
            api_key: Plaintext::new(text("key")),
            zone: text("zone").parse().unwrap(),
            request_timeout: REQUEST_TIMEOUT,
        },
        nginx: NginxConfig {
            binary: path("binary"),
            prefix: path("prefix"),
            conf: path("conf"),
            error_log: path("error_log"),
            pid_file: path("pid_file"),
            sites: path("sites"),
            state: path("state"),
            listen,
            probe: listen,
            allowed_networks: AllowedNetworks::default(),
        },
        address: listen.ip(),
        answer_patience: ANSWER_PATIENCE,
        resets_max: RESETS_MAX,
    };
    let edge = Edge::new(config, database.clone()).unwrap();
    backstitch_gateway::worker(database, edge)
}

pub fn organization() -> OrganizationId {
    Uuid::new_v4().into()
}

pub fn soon() -> Instant {
    Instant::now() + PATIENCE
}

/// The original error and the report of a start that failed and was taken back.
pub fn failed(requested: Requested) -> Unfinished {
    match requested {
        Requested::Failed(unfinished) => *unfinished,
        other => panic!("it should fail and be taken back: {other:?}"),
    }
}

/// The gateway that serves now.
pub fn started(requested: Requested) -> GatewayId {
    match requested {
        Requested::Started { allocation, .. } => allocation.gateway,
        other => panic!("it should start: {other:?}"),
    }
}

/// Asks until there is an answer.
pub async fn until<T>(what: &str, mut question: impl AsyncFnMut() -> Option<T>) -> T {
    let began = Instant::now();
    loop {
        if let Some(answer) = question().await {
            return answer;
        }
        assert!(began.elapsed() < PATIENCE, "waited in vain until {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
