//! The way to PowerDNS or to nginx that a daemon takes: on it they are slow at times, or answer 500, or when nobody waits any more.
//!
//! For a control run it lies: of names that are to be removed it says that they are gone, and lets them stand.

use std::collections::BTreeSet;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::State;
use axum::http::header::{CONTENT_TYPE, HOST};
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use axum::{Json, Router};
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::disks::{MET_WITHIN, OUTAGE, PAUSE};

/// What PowerDNS is told who asks.
const KEY: &str = "x-api-key";

/// More than a request takes, and less than is waited for its answer; so is what an attempt asks in a row.
const SLOW: Duration = Duration::from_millis(600);

/// More than is waited for an answer.
const LATE: Duration = Duration::from_millis(2000);

/// How it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Manner {
    /// As if it were not there.
    Open,
    /// Each request gets there late.
    Slow,
    /// It answers 500, and does nothing.
    Failing,
    /// What is to be changed is, and the answer comes too late.
    AnswersLate,
}

impl Manner {
    /// For how long a request is held up, and then its answer.
    fn delays(self, method: &Method) -> (Duration, Duration) {
        match self {
            Self::Slow => (SLOW, Duration::ZERO),
            Self::AnswersLate if method == Method::PATCH => (Duration::ZERO, LATE),
            Self::Open | Self::Failing | Self::AnswersLate => (Duration::ZERO, Duration::ZERO),
        }
    }
}

/// A stand-in for the network between.
#[derive(Debug)]
pub struct Way {
    address: SocketAddr,
    manner: watch::Sender<Manner>,
    met: Arc<AtomicU64>,
    server: JoinHandle<()>,
}

#[derive(Clone)]
struct Before {
    /// The real one, without a path.
    root: String,
    http: reqwest::Client,
    manner: watch::Receiver<Manner>,
    /// How many have met how it is.
    met: Arc<AtomicU64>,
    /// Whether it keeps removals back.
    lies: bool,
    /// Of these it says that nothing stands there.
    said_gone: Arc<Mutex<BTreeSet<String>>>,
}

impl Way {
    /// To the one that listens there.
    pub async fn to(root: &str, lies: bool) -> io::Result<Self> {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        // A connection that is kept may lead to a worker of nginx that is on its way out.
        let http = reqwest::Client::builder()
            .no_proxy()
            .pool_max_idle_per_host(0)
            .build()
            .map_err(io::Error::other)?;
        let root = root.trim_end_matches('/').to_owned();
        let (manner, met) = (watch::Sender::new(Manner::Open), Arc::<AtomicU64>::default());
        let before = Before {
            root,
            http,
            manner: manner.subscribe(),
            met: Arc::clone(&met),
            lies,
            said_gone: Arc::default(),
        };
        let router = Router::new().fallback(answer).with_state(before);
        // Its end is that of this process, or of whoever holds it.
        let server = tokio::spawn(async move { _ = axum::serve(listener, router).await });
        Ok(Self { address, manner, met, server })
    }

    /// Where it begins.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The same, for whoever wants a URL.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Is so until somebody has met that, and a while longer. False: nobody has.
    pub async fn be(&self, manner: Manner) -> bool {
        let met = || self.met.load(Ordering::Relaxed);
        let before = met();
        self.manner.send_replace(manner);
        let began = Instant::now();
        while met() == before && began.elapsed() < MET_WITHIN {
            tokio::time::sleep(PAUSE).await;
        }
        let is_met = met() > before;
        tokio::time::sleep(OUTAGE).await;
        self.manner.send_replace(Manner::Open);
        is_met
    }
}

impl Drop for Way {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn answer(
    State(before): State<Before>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    if let Some(removed) = removal(&method, &body).filter(|_| before.lies) {
        before.said_gone.lock().unwrap_or_else(PoisonError::into_inner).extend(removed);
        return StatusCode::NO_CONTENT.into_response();
    }
    let asked = uri.query().and_then(|query| query.strip_prefix("rrset_name="));
    if asked
        .is_some_and(|name| before.said_gone.lock().unwrap_or_else(PoisonError::into_inner).contains(name))
    {
        return Json(json!({ "rrsets": [] })).into_response();
    }
    let manner = *before.manner.borrow();
    let (first, then) = manner.delays(&method);
    if manner == Manner::Failing || first + then > Duration::ZERO {
        before.met.fetch_add(1, Ordering::Relaxed);
    }
    if manner == Manner::Failing {
        return StatusCode::INTERNAL_SERVER_ERROR.into_response();
    }
    tokio::time::sleep(first).await;
    let Ok(answer) = before.pass_on(method, &uri, &headers, body).await else {
        // There is nobody, so nobody answers: whoever asked hangs up, and that is the end of this.
        return std::future::pending().await;
    };
    // Whoever asked may have hung up by now: what was asked is done.
    tokio::time::sleep(then).await;
    answer
}

/// The names that a change only removes. None: it is something else.
fn removal(method: &Method, body: &[u8]) -> Option<BTreeSet<String>> {
    let change: Value = (method == Method::PATCH).then(|| serde_json::from_slice(body).ok()).flatten()?;
    let sets = change["rrsets"].as_array()?;
    let name =
        |set: &Value| (set["changetype"] == "DELETE").then(|| set["name"].as_str().map(str::to_owned))?;
    sets.iter().map(name).collect()
}

impl Before {
    async fn pass_on(
        &self,
        method: Method,
        uri: &Uri,
        headers: &HeaderMap,
        body: Bytes,
    ) -> reqwest::Result<Response> {
        let path = uri.path_and_query().map_or("/", |path| path.as_str());
        let mut request = self.http.request(method, format!("{}{path}", self.root)).body(body);
        for name in [KEY, CONTENT_TYPE.as_str(), HOST.as_str()] {
            if let Some(value) = headers.get(name) {
                request = request.header(name, value);
            }
        }
        let answer = request.send().await?;
        let status = answer.status();
        Ok((status, [(CONTENT_TYPE, "application/json")], answer.bytes().await?).into_response())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_change_that_does_nothing_but_remove_is_kept_back() {
        let change = |kinds: &[&str]| {
            let sets = kinds.iter().map(|kind| json!({ "name": "org-a.collab.test.", "changetype": kind }));
            json!({ "rrsets": sets.collect::<Vec<_>>() }).to_string()
        };
        let removed = removal(&Method::PATCH, change(&["DELETE", "DELETE"]).as_bytes());
        assert_eq!(removed, Some(BTreeSet::from(["org-a.collab.test.".to_owned()])));
        assert_eq!(removal(&Method::PATCH, change(&["REPLACE", "DELETE"]).as_bytes()), None);
        assert_eq!(removal(&Method::GET, b""), None);
    }

    #[test]
    fn slow_is_waited_for_and_late_is_not() {
        use backstitch_gateway::nginx::PROBE_TIMEOUT;
        use backstitch_gateway::powerdns::REQUEST_TIMEOUT;
        for method in [Method::GET, Method::PATCH] {
            let (first, then) = Manner::Slow.delays(&method);
            assert!(first > Duration::ZERO && first + then < REQUEST_TIMEOUT);
            assert!(first + then < PROBE_TIMEOUT);
            assert_eq!(Manner::Open.delays(&method), (Duration::ZERO, Duration::ZERO));
        }
        let (first, then) = Manner::AnswersLate.delays(&Method::PATCH);
        assert!(first.is_zero() && then > REQUEST_TIMEOUT, "what is changed is changed at once");
        assert_eq!(Manner::AnswersLate.delays(&Method::GET), (Duration::ZERO, Duration::ZERO));
    }
}
