//! What does a gateway do that serves one organisation at a time, and can refuse stale and repeated callers?
//!
//! A small real one: the demo and the tests route to it, and it shows what the platform's own gateways must do so that
//! a late start is harmless, and that nobody is connected any more when a reset is answered. It remembers for as long as it
//! lives.

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get, post};
use axum::{Json, Router};
use backstitch_gateway::agent::{
    EPOCH_HEADER, GatewayState, KEY_HEADER, Refusal, ResetRequest, StartRequest, refusals,
};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::io::AsyncReadExt;
use tokio::sync::watch;
use uuid::Uuid;

const USAGE: &str = "usage: collab-gateway --listen ADDRESS:PORT [faults]

  --listen ADDRESS:PORT   where to listen; port 0 takes a free one, and prints it

faults, for tests and the demo:
  --fail-start            take the organisation, then answer 500
  --refuse-start          answer 422, take nothing
  --hang-start SECONDS    take the organisation, answer so much later
  --refuse-reset          answer 422, keep the organisation";

#[derive(Debug, Default, Clone)]
struct Faults {
    fail_start: bool,
    refuse_start: bool,
    hang_start: Option<Duration>,
    refuse_reset: bool,
}

/// What this gateway remembers.
#[derive(Default)]
struct Memory {
    serving: Option<(String, StartRequest)>,
    /// Tells the members' sockets to close, and knows how many there are.
    members: watch::Sender<()>,
    /// The highest epoch that each workflow has called with.
    epochs: HashMap<Uuid, i64>,
    /// Keys of starts that may never come to life again.
    tombstones: HashSet<String>,
    /// Keys of resets that were carried out: a late repetition must not hit the next organisation.
    resets_done: HashSet<String>,
    starts: u64,
    resets: u64,
    refusals: u64,
}

type Reset = (GatewayState, Option<watch::Sender<()>>);

#[derive(Clone)]
struct Gateway {
    memory: Arc<Mutex<Memory>>,
    faults: Faults,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let (listen, faults) = match arguments(std::env::args().skip(1)) {
        Ok(arguments) => arguments,
        Err(problem) => {
            eprintln!("{problem}\n\n{USAGE}");
            std::process::exit(2);
        }
    };
    let listener = tokio::net::TcpListener::bind(listen).await?;
    println!("listening on {}", listener.local_addr()?);
    let gateway = Gateway { memory: Arc::default(), faults };
    let router = Router::new()
        .route("/collab/ping", get(async || "pong"))
        .route("/collab/start", post(start))
        .route("/collab/reset", post(reset))
        .route("/collab/state", get(async |State(gateway): State<Gateway>| Json(gateway.remember().state())))
        .fallback(any(page))
        .with_state(gateway);
    axum::serve(listener, router).await?;
    Ok(())
}

fn arguments(mut given: impl Iterator<Item = String>) -> Result<(SocketAddr, Faults), String> {
    let mut listen = None;
    let mut faults = Faults::default();
    while let Some(flag) = given.next() {
        let mut value = || given.next().ok_or(format!("{flag} needs a value"));
        match flag.as_str() {
            "--listen" => listen = Some(value()?.parse().map_err(|e| format!("--listen: {e}"))?),
            "--fail-start" => faults.fail_start = true,
            "--refuse-start" => faults.refuse_start = true,
            "--refuse-reset" => faults.refuse_reset = true,
            "--hang-start" => {
                let seconds: f64 = value()?.parse().map_err(|e| format!("--hang-start: {e}"))?;
                let hang = Duration::try_from_secs_f64(seconds).map_err(|e| format!("--hang-start: {e}"))?;
                faults.hang_start = Some(hang);
            }
            other => return Err(format!("unknown argument {other}")),
        }
    }
    Ok((listen.ok_or("--listen is missing")?, faults))
}

async fn start(
    State(gateway): State<Gateway>,
    headers: HeaderMap,
    Json(request): Json<StartRequest>,
) -> Response {
    if gateway.faults.refuse_start {
        return refuse(StatusCode::UNPROCESSABLE_ENTITY, "fault", "told to refuse each start");
    }
    let state = match gateway.remember().start(&headers, request) {
        Ok(state) => state,
        Err(refusal) => return *refusal,
    };
    if let Some(hang) = gateway.faults.hang_start {
        tokio::time::sleep(hang).await;
    }
    if gateway.faults.fail_start {
        return refuse(StatusCode::INTERNAL_SERVER_ERROR, "fault", "told to fail each start");
    }
    Json(state).into_response()
}

async fn reset(
    State(gateway): State<Gateway>,
    headers: HeaderMap,
    Json(request): Json<ResetRequest>,
) -> Response {
    if gateway.faults.refuse_reset {
        return refuse(StatusCode::UNPROCESSABLE_ENTITY, "fault", "told to refuse each reset");
    }
    let (state, members) = match gateway.remember().reset(&headers, &request) {
        Ok(reset) => reset,
        Err(refusal) => return *refusal,
    };
    // Answered only when all of them are gone: the gateway may be handed to the next organisation then.
    if let Some(members) = members {
        members.send_replace(());
        members.closed().await;
    }
    Json(state).into_response()
}

/// Anything else: a member's socket; or whom this gateway serves, and what of the request reached it through the proxy.
async fn page(State(gateway): State<Gateway>, request: Request) -> Response {
    let header =
        |name: &str| request.headers().get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
    if header("upgrade").is_some_and(|to| to.eq_ignore_ascii_case("websocket")) {
        return socket(&gateway, request);
    }
    let memory = gateway.remember();
    let page = serde_json::json!({
        "organization_id": memory.state().organization_id,
        "host": header("host"),
        "upgrade": header("upgrade"),
        "connection": header("connection"),
        "forwarded_for": header("x-forwarded-for"),
        "sockets": memory.members.receiver_count(),
    });
    Json(page).into_response()
}

/// A socket is opened only under the name that is served: one that was asked for before a reset and arrives after it comes
/// under another.
fn socket(gateway: &Gateway, request: Request) -> Response {
    let host = request.headers().get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    let asked = host.split(':').next().unwrap_or_default().to_owned();
    let members = {
        let memory = gateway.remember();
        let served = memory.serving.as_ref().map(|(_, served)| served.hostname.to_string());
        if served.is_none_or(|served| served != asked) {
            return refuse(
                StatusCode::MISDIRECTED_REQUEST,
                "another_name",
                "nobody of that name is served here",
            );
        }
        memory.members.subscribe()
    };
    tokio::spawn(hold(hyper::upgrade::on(request), members));
    let switched = [(header::UPGRADE, "websocket"), (header::CONNECTION, "upgrade")];
    (StatusCode::SWITCHING_PROTOCOLS, switched).into_response()
}

/// Holds a socket until the member leaves or is told to.
async fn hold(upgrade: OnUpgrade, mut members: watch::Receiver<()>) {
    let socket = tokio::select! {
        _ = members.changed() => return,
        socket = upgrade => socket,
    };
    let Ok(socket) = socket else { return };
    let (mut socket, mut bytes) = (TokioIo::new(socket), [0; 1024]);
    loop {
        tokio::select! {
            _ = members.changed() => return,
            read = socket.read(&mut bytes) => if !matches!(read, Ok(1..)) { return },
        }
    }
}

impl Gateway {
    fn remember(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Memory {
    fn start(&mut self, headers: &HeaderMap, request: StartRequest) -> Result<GatewayState, Box<Response>> {
        let key = self.admit(headers)?;
        if self.tombstones.contains(&key) {
            return Err(self.conflict(refusals::ALREADY_RESET, "this start was reset before it arrived"));
        }
        match &self.serving {
            Some((served, _)) if *served == key => {}
            Some((_, other)) => {
                let details = format!("it serves organisation {}", other.organization_id);
                return Err(self.conflict(refusals::SERVES_ANOTHER, &details));
            }
            None => {
                self.serving = Some((key, request));
                self.starts += 1;
            }
        }
        Ok(self.state())
    }

    /// What it says afterwards, and the sockets to be closed if it served the organisation until now.
    fn reset(&mut self, headers: &HeaderMap, request: &ResetRequest) -> Result<Reset, Box<Response>> {
        let key = self.admit(headers)?;
        if let Some(position) = key.strip_suffix("/compensate") {
            self.tombstones.insert(format!("{position}/run"));
        }
        let first = self.resets_done.insert(key);
        let ours =
            |(_, served): &mut (String, StartRequest)| served.organization_id == request.organization_id;
        let ended = first.then(|| self.serving.take_if(ours)).flatten();
        let members = ended.map(|(started, _)| {
            self.tombstones.insert(started);
            std::mem::take(&mut self.members)
        });
        self.resets += 1;
        Ok((self.state(), members))
    }

    /// Reads who calls, and refuses callers that have lost their workflow to a later claim.
    fn admit(&mut self, headers: &HeaderMap) -> Result<String, Box<Response>> {
        let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
        let bad = |details| Err(Box::new(refuse(StatusCode::BAD_REQUEST, "bad_request", details)));
        let Some(epoch) = text(EPOCH_HEADER).and_then(|epoch| epoch.parse::<i64>().ok()) else {
            return bad("the header backstitch-epoch must hold a number");
        };
        let key = text(KEY_HEADER).unwrap_or_default();
        let Some(workflow) = key.split_once('/').and_then(|(workflow, _)| workflow.parse::<Uuid>().ok())
        else {
            return bad("the header idempotency-key must hold {workflow}/{position}/run or …/compensate");
        };
        let seen = self.epochs.entry(workflow).or_insert(epoch);
        if epoch < *seen {
            let details = format!("epoch {epoch} is over, {seen} has called");
            return Err(self.conflict(refusals::STALE_EPOCH, &details));
        }
        *seen = epoch;
        Ok(key.to_owned())
    }

    fn conflict(&mut self, error: &str, details: &str) -> Box<Response> {
        self.refusals += 1;
        Box::new(refuse(StatusCode::CONFLICT, error, details))
    }

    fn state(&self) -> GatewayState {
        let serving = self.serving.as_ref().map(|(_, request)| request);
        GatewayState {
            organization_id: serving.map(|request| request.organization_id),
            hostname: serving.map(|request| request.hostname.clone()),
            starts: self.starts,
            resets: self.resets,
            refusals: self.refusals,
        }
    }
}

fn refuse(status: StatusCode, error: &str, details: &str) -> Response {
    (status, Json(Refusal { error: error.to_owned(), details: details.to_owned() })).into_response()
}
