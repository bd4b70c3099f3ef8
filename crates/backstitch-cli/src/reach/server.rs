//! How is a daemon asked over HTTP, and by whose right?

use std::time::Duration;

use backstitch::{
    Answered, Ending, Failures, Filter, Json, StatusCount, Verified, WorkerView, WorkflowId, WorkflowView,
};
use backstitch_gateway::orphans::Orphans;
use backstitch_server::BearerToken;
use chrono::{DateTime, SecondsFormat, Utc};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue, RETRY_AFTER};
use hyper::{Method, Request, StatusCode};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use reqwest::Url;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::time::timeout;
use uuid::Uuid;

use super::parts::{Journal, with_null};
use super::problem::Problem;
use super::{Asked, Kinds, Listing, Verb};
use crate::arguments::Decision;
use crate::exit::{Exit, Failed};
use crate::seen::Seen;

/// A daemon that is well answers within milliseconds; it gives its own database some seconds.
const ANSWER_TIME: Duration = Duration::from_secs(30);
/// What looks at the outside asks everything that is there, by and by.
const LOOK_TIME: Duration = Duration::from_secs(120);
/// The longest wait that the daemon grants at once.
const WAIT: Duration = Duration::from_secs(60);
/// Before it is asked again after it was not there, or did not say when.
pub(super) const PAUSE: Duration = Duration::from_secs(1);
/// A daemon that is asked too often says when to ask again: in a second, for as long as we are all that asks.
const TRIES_MAX: u32 = 10;
const RETRY_AFTER_MAX: Duration = Duration::from_secs(10);
/// Workflows a page: with their inputs and outputs each may have 320 KiB.
const PAGE: u32 = 50;
/// Such a page, and room for reports.
const ANSWER_BYTES_MAX: usize = 64 * 1024 * 1024;

/// A daemon.
pub struct Server {
    http: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    url: Url,
    /// None: a daemon that answers everybody on its host.
    token: Option<BearerToken>,
}

/// What it said.
enum Said {
    Yes(StatusCode, Bytes),
    No(Box<Problem>),
}

/// How it begins to tell what happens to a workflow.
pub(super) enum Opened {
    Stream(Incoming),
    /// It has ended, and all was told before.
    NothingMore,
    No(Box<Problem>, HeaderMap),
}

impl Server {
    /// The daemon there. A token goes in the clear only where it does not leave the host.
    pub fn new(url: &str, token: Option<BearerToken>) -> Result<Self, Failed> {
        let refuse = |why: &str| Err(Failed::usage(format!("--server {url:?}: {why}")));
        let Ok(parsed) = url.parse::<Url>() else {
            return refuse("give a URL such as http://127.0.0.1:7410 or https://backstitch.example.com:7410");
        };
        if !parsed.username().is_empty() || parsed.password().is_some() || parsed.query().is_some() {
            // Not repeated: it may hold a password.
            return Err(Failed::usage(
                "--server: give the URL alone, and the token in BACKSTITCH_TOKEN or --server-token-file",
            ));
        }
        match (parsed.scheme(), parsed.host_str()) {
            ("https", Some(_)) => {}
            ("http", Some(host)) if is_here(host) => {}
            ("http", Some(_)) => return refuse("beyond loopback only https is spoken"),
            _ => return refuse("give one that begins with https://, or http:// for this host"),
        }
        let connector = HttpsConnectorBuilder::new().with_native_roots().map_err(|error| {
            Failed::because(&error, "install the certificates of the known authorities (ca-certificates)")
        })?;
        let connector = connector.https_or_http().enable_http1().build();
        Ok(Self { http: Client::builder(TokioExecutor::new()).build(connector), url: parsed, token })
    }

    pub async fn enqueue(&self, asked: &Asked) -> Result<WorkflowId, Failed> {
        #[derive(Deserialize)]
        struct Enqueued {
            workflow_id: WorkflowId,
        }
        let body = serde_json::to_vec(asked).map_err(|error| Failed::because(&error, ""))?;
        let said = self.ask(Method::POST, self.at(&["workflows"]), Some(body)).await?;
        Ok(said.read::<Enqueued>()?.workflow_id)
    }

    pub async fn workflow(&self, id: WorkflowId) -> Result<WorkflowView, Failed> {
        self.get(self.at(&["workflows", &id.to_string()])).await.map(with_null)
    }

    pub async fn is_removed(&self, id: WorkflowId) -> Result<bool, Failed> {
        match self.ask(Method::GET, self.at(&["workflows", &id.to_string()]), None).await? {
            Said::No(problem) if problem.is_not_found() => Ok(true),
            said => said.read::<WorkflowView>().map(|_| false),
        }
    }

    pub async fn look(&self, id: WorkflowId) -> Result<Seen, Failed> {
        let workflow = self.workflow(id).await?;
        let mut journal = Journal::default();
        loop {
            let mut url = self.at(&["workflows", &id.to_string(), "journal"]);
            if let Some(after) = journal.after() {
                url.query_pairs_mut().append_pair("after", after);
            }
            if let Some(seen) = journal.add(self.get(url).await?, &workflow) {
                return Ok(seen);
            }
        }
    }

    pub async fn workflows(&self, filter: Filter) -> Result<Listing, Failed> {
        #[derive(Deserialize)]
        struct Page {
            workflows: Vec<WorkflowView>,
            before: Option<WorkflowId>,
            now: DateTime<Utc>,
        }
        let (mut workflows, mut left, mut before) = (Vec::new(), filter.limit, filter.before);
        loop {
            let filter = Filter { before, limit: left.min(PAGE), ..filter.clone() };
            let mut url = filtered(self.at(&["workflows"]), &filter);
            url.query_pairs_mut().append_pair("whole", &filter.whole.to_string());
            let page: Page = self.get(url).await?;
            left = left.saturating_sub(u32::try_from(page.workflows.len()).unwrap_or(u32::MAX));
            workflows.extend(page.workflows.into_iter().map(with_null));
            if left == 0 || page.before.is_none() {
                return Ok(Listing { workflows, now: page.now });
            }
            before = page.before;
        }
    }

    /// However long it takes, and through restarts of the daemon.
    pub async fn wait(&self, workflow: WorkflowId) -> Result<Ending<Json>, Failed> {
        #[derive(Deserialize)]
        struct Completed {
            output: Json,
        }
        // Whoever waits for what is not there, or may not, is told at once.
        self.workflow(workflow).await?;
        let mut url = self.at(&["workflows", &workflow.to_string(), "wait"]);
        url.query_pairs_mut().append_pair("timeout", &format!("{}s", WAIT.as_secs()));
        loop {
            match self.once(Method::GET, &url, None, WAIT + ANSWER_TIME).await {
                Ok((Said::Yes(StatusCode::ACCEPTED, _), _)) => {}
                Ok((said @ Said::Yes(..), _)) => {
                    return Ok(Ending::Completed(said.read::<Completed>()?.output));
                }
                Ok((Said::No(problem), headers)) => match problem.ending() {
                    Ok(ending) => return Ok(ending),
                    Err(problem) if problem.is_transient() => {
                        tokio::time::sleep(spread(retry_after(&headers))).await;
                    }
                    Err(problem) => return Err((*problem).into()),
                },
                Err(failed) => {
                    tracing::debug!(%failed, "waiting on");
                    tokio::time::sleep(spread(PAUSE)).await;
                }
            }
        }
    }

    /// What happens after this row of the journal, or from the first on.
    pub(super) async fn open_events(
        &self,
        workflow: WorkflowId,
        last: Option<u32>,
    ) -> Result<Opened, Failed> {
        let url = self.at(&["workflows", &workflow.to_string(), "events"]);
        let mut request = self.request(Method::GET, &url, None)?;
        request.headers_mut().insert(ACCEPT, HeaderValue::from_static("text/event-stream"));
        if let Some(last) = last {
            request.headers_mut().insert("last-event-id", last.into());
        }
        self.within(ANSWER_TIME, async {
            let answer = self.http.request(request).await.map_err(|error| self.unreachable(&error))?;
            let (head, body) = answer.into_parts();
            match head.status {
                StatusCode::NO_CONTENT => Ok(Opened::NothingMore),
                status if status.is_success() => Ok(Opened::Stream(body)),
                status => Ok(Opened::No(problem(status, &self.whole(body).await?), head.headers)),
            }
        })
        .await
    }

    pub async fn workers(&self, dead_max: u32) -> Result<Vec<WorkerView>, Failed> {
        #[derive(Deserialize)]
        struct Workers {
            workers: Vec<WorkerView>,
        }
        let mut url = self.at(&["workers"]);
        url.query_pairs_mut().append_pair("dead", &dead_max.to_string());
        Ok(self.get::<Workers>(url).await?.workers)
    }

    pub async fn kinds(&self) -> Result<Kinds, Failed> {
        self.get(self.at(&["kinds"])).await
    }

    pub async fn stats(&self) -> Result<Vec<StatusCount>, Failed> {
        #[derive(Deserialize)]
        struct Stats {
            statuses: Vec<StatusCount>,
        }
        Ok(self.get::<Stats>(self.at(&["stats"])).await?.statuses)
    }

    pub async fn failures(&self, filter: Filter) -> Result<Failures, Failed> {
        self.get(filtered(self.at(&["errors"]), &filter)).await
    }

    pub async fn verify(&self, workflow: WorkflowId) -> Result<Verified, Failed> {
        self.have_looked(self.at(&["workflows", &workflow.to_string(), "verify"])).await
    }

    pub async fn orphans(&self) -> Result<Orphans, Failed> {
        self.have_looked(self.at(&["orphans"])).await
    }

    async fn have_looked<T: DeserializeOwned>(&self, url: Url) -> Result<T, Failed> {
        self.ask_within(Method::GET, url, None, LOOK_TIME).await?.read()
    }

    pub async fn decide(
        &self,
        workflow: WorkflowId,
        verb: Verb,
        decision: &Decision,
        token: Option<Uuid>,
    ) -> Result<Answered, Failed> {
        #[derive(Serialize)]
        struct Body<'a> {
            by: &'a str,
            why: &'a str,
            token: Option<Uuid>,
            #[serde(skip_serializing_if = "Option::is_none")]
            happened: Option<bool>,
            // As it was said, digit for digit: the daemon journals it so.
            #[serde(skip_serializing_if = "Option::is_none")]
            output: Option<&'a Json>,
        }
        let id = workflow.to_string();
        let Decision { by, why, .. } = decision;
        let mut body = Body { by, why, token, happened: None, output: None };
        let on = |verb: &str| self.at(&["workflows", &id, verb]);
        let on_step =
            |position: u32, verb: &str| self.at(&["workflows", &id, "steps", &position.to_string(), verb]);
        let url = match &verb {
            Verb::Cancel => on("cancel"),
            Verb::Retry => on("retry"),
            Verb::Abandon => on("abandon"),
            Verb::Pause => on("pause"),
            Verb::Resume => on("resume"),
            Verb::SkipStep(position) => on_step(position.0, "skip"),
            Verb::Resolve(position, happened) => {
                (body.happened, body.output) = (Some(happened.is_some()), happened.as_ref());
                on_step(position.0, "resolve")
            }
        };
        let body = serde_json::to_vec(&body).map_err(|error| Failed::because(&error, ""))?;
        match self.ask(Method::POST, url, Some(body)).await? {
            Said::Yes(..) => Ok(Answered::Accepted),
            Said::No(problem) => problem.answered().map_err(|problem| Failed::from(*problem)),
        }
    }

    pub async fn pause_kind(&self, kind: &str, decision: &Decision) -> Result<(), Failed> {
        match self.decide_about_kind(kind, "pause", decision).await? {
            Said::Yes(..) => Ok(()),
            Said::No(problem) => Err((*problem).into()),
        }
    }

    pub async fn resume_kind(&self, kind: &str, decision: &Decision) -> Result<bool, Failed> {
        match self.decide_about_kind(kind, "resume", decision).await? {
            Said::Yes(..) => Ok(true),
            Said::No(problem) => match problem.answered() {
                Ok(Answered::IsNotPaused) => Ok(false),
                Ok(other) => Err(Failed::refused(format!("kind {kind} {other}"))),
                Err(problem) => Err((*problem).into()),
            },
        }
    }

    async fn decide_about_kind(&self, kind: &str, verb: &str, decision: &Decision) -> Result<Said, Failed> {
        // What stands for a directory in a path can't stand for a kind.
        if ["", ".", ".."].contains(&kind) {
            return Err(Failed::usage(format!(
                "kind {kind:?} can't be named in a URL: name the database instead"
            )));
        }
        let body = json!({ "by": decision.by, "why": decision.why }).to_string();
        self.ask(Method::POST, self.at(&["kinds", kind, verb]), Some(body.into_bytes())).await
    }

    async fn get<T: DeserializeOwned>(&self, url: Url) -> Result<T, Failed> {
        self.ask(Method::GET, url, None).await?.read()
    }

    async fn ask(&self, method: Method, url: Url, body: Option<Vec<u8>>) -> Result<Said, Failed> {
        self.ask_within(method, url, body, ANSWER_TIME).await
    }

    /// Asks, and again where we were too quick. Each answer may take so long.
    async fn ask_within(
        &self,
        method: Method,
        url: Url,
        body: Option<Vec<u8>>,
        patience: Duration,
    ) -> Result<Said, Failed> {
        let mut tries = 1;
        loop {
            let (said, headers) = self.once(method.clone(), &url, body.clone(), patience).await?;
            match said {
                Said::No(problem) if problem.is_too_soon() && tries < TRIES_MAX => {
                    tokio::time::sleep(spread(retry_after(&headers))).await;
                }
                said => return Ok(said),
            }
            tries += 1;
        }
    }

    async fn once(
        &self,
        method: Method,
        url: &Url,
        body: Option<Vec<u8>>,
        patience: Duration,
    ) -> Result<(Said, HeaderMap), Failed> {
        let request = self.request(method, url, body)?;
        let asked = async {
            let answer = self.http.request(request).await.map_err(|error| self.unreachable(&error))?;
            let (head, body) = answer.into_parts();
            let body = self.whole(body).await?;
            let said = match head.status {
                status if status.is_success() => Said::Yes(status, body),
                status => Said::No(problem(status, &body)),
            };
            Ok((said, head.headers))
        };
        self.within(patience, asked).await
    }

    async fn whole(&self, body: Incoming) -> Result<Bytes, Failed> {
        let body = Limited::new(body, ANSWER_BYTES_MAX).collect().await;
        Ok(body.map_err(|error| self.unreachable(&*error))?.to_bytes())
    }

    async fn within<T>(
        &self,
        patience: Duration,
        asked: impl Future<Output = Result<T, Failed>>,
    ) -> Result<T, Failed> {
        timeout(patience, asked).await.unwrap_or_else(|_| {
            let message = format!(
                "the server {} does not answer within {} s; look whether it is well",
                self.url,
                patience.as_secs()
            );
            Err(Failed::new(Exit::Error, message))
        })
    }

    fn request(
        &self,
        method: Method,
        url: &Url,
        body: Option<Vec<u8>>,
    ) -> Result<Request<Full<Bytes>>, Failed> {
        let mut request =
            Request::builder().method(method).uri(url.as_str()).header(ACCEPT, "application/json");
        if body.is_some() {
            request = request.header(CONTENT_TYPE, "application/json");
        }
        if let Some(token) = &self.token {
            request = request.header(AUTHORIZATION, format!("Bearer {}", token.reveal()));
        }
        let body = Full::from(body.unwrap_or_default());
        request.body(body).map_err(|error| {
            Failed::because(&error, "correct --server, BACKSTITCH_SERVER or server in backstitch.toml")
        })
    }

    fn unreachable(&self, error: &(dyn std::error::Error + 'static)) -> Failed {
        let cause = Failed::because(
            error,
            "check that `backstitch serve` runs there, and --server, BACKSTITCH_SERVER or server in backstitch.toml",
        );
        Failed::new(Exit::Error, format!("the server {} can't be reached: {cause}", self.url))
    }

    fn at(&self, path: &[&str]) -> Url {
        let mut url = self.url.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().push("v1").extend(path);
        }
        url
    }
}

impl Said {
    fn read<T: DeserializeOwned>(self) -> Result<T, Failed> {
        match self {
            Self::Yes(_, body) => serde_json::from_slice(&body).map_err(|error| {
                Failed::because(&error, "the server's answer can't be read: use the version of the server")
            }),
            Self::No(problem) => Err((*problem).into()),
        }
    }
}

fn is_here(host: &str) -> bool {
    let address = host.trim_start_matches('[').trim_end_matches(']').parse::<std::net::IpAddr>();
    host == "localhost" || address.is_ok_and(|address| address.is_loopback())
}

fn problem(status: StatusCode, body: &[u8]) -> Box<Problem> {
    serde_json::from_slice(body).unwrap_or_else(|_| {
        Box::new(Problem::of_somebody_else(status.as_u16(), &String::from_utf8_lossy(body)))
    })
}

pub(super) fn retry_after(headers: &HeaderMap) -> Duration {
    let seconds = headers.get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
    seconds.map_or(PAUSE, Duration::from_secs).min(RETRY_AFTER_MAX)
}

/// As long, and up to a second more: those who were all told the same do not all come back at once.
pub(super) fn spread(pause: Duration) -> Duration {
    let (random, ..) = Uuid::new_v4().as_fields();
    pause + PAUSE.mul_f64(f64::from(random) / f64::from(u32::MAX))
}

fn filtered(mut url: Url, filter: &Filter) -> Url {
    let Filter { kind, status, key, before, queue, error_code, since, until, limit, whole: _ } = filter;
    let moment = |at: &DateTime<Utc>| at.to_rfc3339_opts(SecondsFormat::Micros, true);
    let said = [
        ("kind", kind.clone()),
        ("status", status.map(|status| status.to_string())),
        ("key", key.clone()),
        ("before", before.map(|before| before.to_string())),
        ("queue", queue.clone()),
        ("error_code", error_code.clone()),
        ("since", since.as_ref().map(moment)),
        ("until", until.as_ref().map(moment)),
        ("limit", Some(limit.to_string())),
    ];
    for (name, value) in said {
        if let Some(value) = value {
            url.query_pairs_mut().append_pair(name, &value);
        }
    }
    url
}
