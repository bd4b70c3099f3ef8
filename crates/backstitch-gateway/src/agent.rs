//! How is a gateway told whom to serve, and to forget it again?
//!
//! The gateway process can say no to a repeated or a stale caller, so each call carries the key and the epoch of its
//! attempt. It keeps a tombstone: a start that arrives after its reset is refused.

mod error;

use std::time::Duration;

use reqwest::{RequestBuilder, Response, Url};
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use crate::answer::{self, ANSWER_BYTES_MAX};
use crate::identifiers::{Hostname, OrganizationId};
use crate::networks::Upstream;
pub use error::AgentError;

/// Carries the key of the attempt: the same on every try, `{workflow}/{position}/run` or `…/compensate`.
pub const KEY_HEADER: &str = "idempotency-key";
/// Carries the epoch of the attempt; a gateway refuses one lower than it has seen of the same workflow.
pub const EPOCH_HEADER: &str = "backstitch-epoch";

/// A start or a reset is bounded so that the wait before it and the call itself fit into the 15 s of a handshake.
pub const CALL_TIMEOUT: Duration = Duration::from_secs(5);
/// A live gateway answers a ping in a millisecond; one that was just started is asked again soon.
const PING_TIMEOUT: Duration = Duration::from_millis(500);
const PING_PAUSE: Duration = Duration::from_millis(50);
/// How much of an error page is repeated in an error.
const DETAIL_LENGTH_MAX: usize = 300;

/// Who calls: the key and the epoch of an attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// The idempotency key.
    pub key: String,
    /// Counts the claims of the workflow.
    pub epoch: i64,
}

/// Body of `POST /collab/start`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StartRequest {
    /// Whom to serve.
    pub organization_id: OrganizationId,
    /// The name under which its members come.
    pub hostname: Hostname,
}

/// Body of `POST /collab/reset`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResetRequest {
    /// Whom to forget; a gateway that serves another organisation goes on.
    pub organization_id: OrganizationId,
}

/// What a gateway says of itself: the answer of `GET /collab/state`, of a start and of a reset.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GatewayState {
    /// Whom it serves, if anybody.
    pub organization_id: Option<OrganizationId>,
    /// Under which name.
    pub hostname: Option<Hostname>,
    /// How many starts took effect.
    pub starts: u64,
    /// How many resets took effect or found nothing to do.
    pub resets: u64,
    /// How many calls were refused as stale, repeated after their reset, or for another organisation.
    pub refusals: u64,
}

/// Body of every refusal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    /// One of the words in [`refusals`].
    pub error: String,
    /// For people.
    pub details: String,
}

/// The words a gateway refuses with (409).
pub mod refusals {
    /// A later claim of the same workflow has called already.
    pub const STALE_EPOCH: &str = "stale_epoch";
    /// This start was reset before it arrived.
    pub const ALREADY_RESET: &str = "already_reset";
    /// The gateway serves someone else.
    pub const SERVES_ANOTHER: &str = "serves_another";
}

/// A client of one gateway process.
#[derive(Debug, Clone)]
pub struct Agent {
    http: reqwest::Client,
    upstream: Upstream,
}

impl Agent {
    /// A client of the gateway at this address; `http` is shared by all of them, see [`Agent::http`].
    pub fn new(http: reqwest::Client, upstream: Upstream) -> Self {
        Self { http, upstream }
    }

    /// The HTTP client that all agents of a worker share.
    pub fn http() -> Result<reqwest::Client, reqwest::Error> {
        reqwest::Client::builder()
            // Neither a redirect nor a proxy of the environment may take a call to someone else.
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            // A kept connection to a gateway that was restarted would look like an answer that got lost.
            .pool_max_idle_per_host(0)
            .build()
    }

    /// Waits until the gateway answers `GET /collab/ping`.
    pub async fn wait_until_it_answers(&self, patience: Duration) -> Result<(), AgentError> {
        let deadline = Instant::now() + patience;
        loop {
            let last = match self.http.get(self.url("ping")).timeout(PING_TIMEOUT).send().await {
                Ok(answer) if answer.status().is_success() => return Ok(()),
                Ok(answer) => format!("status {}", answer.status().as_u16()),
                Err(e) if e.is_connect() => "no connection".to_owned(),
                Err(_) => "no answer".to_owned(),
            };
            if Instant::now() + PING_PAUSE >= deadline {
                return Err(AgentError::NeverAnswered { upstream: self.upstream, waited: patience, last });
            }
            tokio::time::sleep(PING_PAUSE).await;
        }
    }

    /// Tells the gateway whom to serve. The same caller may ask again.
    pub async fn start(&self, request: &StartRequest, caller: &Caller) -> Result<GatewayState, AgentError> {
        let state = self.call(self.http.post(self.url("start")).json(request), caller).await?;
        if state.organization_id != Some(request.organization_id) {
            return Err(self.failed(200, "it says that it serves someone else".to_owned()));
        }
        Ok(state)
    }

    /// Tells the gateway to forget an organisation, and to refuse the start with this caller's key from now on. Well when it
    /// serves nobody; one that serves another is no more to be handed out than one that has not forgotten.
    pub async fn reset(&self, request: &ResetRequest, caller: &Caller) -> Result<GatewayState, AgentError> {
        let state = self.call(self.http.post(self.url("reset")).json(request), caller).await?;
        match state.organization_id {
            None => Ok(state),
            Some(same) if same == request.organization_id => {
                Err(self.failed(200, "it says that it still serves the organisation".to_owned()))
            }
            Some(other) => Err(AgentError::ServesAnother {
                upstream: self.upstream,
                details: format!("it serves organisation {other}"),
            }),
        }
    }

    /// Whom the gateway serves now.
    pub async fn state(&self) -> Result<GatewayState, AgentError> {
        self.read(self.http.get(self.url("state"))).await
    }

    async fn call(&self, request: RequestBuilder, caller: &Caller) -> Result<GatewayState, AgentError> {
        self.read(request.header(KEY_HEADER, &caller.key).header(EPOCH_HEADER, caller.epoch)).await
    }

    async fn read(&self, request: RequestBuilder) -> Result<GatewayState, AgentError> {
        let upstream = self.upstream;
        let answer = request.timeout(CALL_TIMEOUT).send().await.map_err(|source| {
            if source.is_connect() {
                AgentError::Unreachable { upstream, source }
            } else {
                AgentError::NoAnswer { upstream, source }
            }
        })?;
        let status = answer.status();
        if status.is_success() {
            let no_state = |e: answer::Unreadable| self.failed(status.as_u16(), e.to_string());
            return answer::json(answer, ANSWER_BYTES_MAX).await.map_err(no_state);
        }
        let Refusal { error, details } = refusal(answer).await;
        Err(match error.as_str() {
            refusals::STALE_EPOCH => AgentError::Stale { upstream, details },
            refusals::ALREADY_RESET => AgentError::AlreadyReset { upstream, details },
            refusals::SERVES_ANOTHER => AgentError::ServesAnother { upstream, details },
            _ if status.is_client_error() => {
                AgentError::Refused { upstream, status: status.as_u16(), details }
            }
            _ => self.failed(status.as_u16(), details),
        })
    }

    fn failed(&self, status: u16, details: String) -> AgentError {
        AgentError::Failed { upstream: self.upstream, status, details }
    }

    /// Built from parsed parts; there is nothing in it that could be refused.
    fn url(&self, call: &str) -> Url {
        format!("http://{}/collab/{call}", self.upstream)
            .parse()
            .expect("an address and a fixed path make a url")
    }
}

async fn refusal(answer: Response) -> Refusal {
    let text = answer::text(answer).await;
    let mut refusal = serde_json::from_str(&text).unwrap_or(Refusal { error: String::new(), details: text });
    refusal.details = refusal.details.chars().take(DETAIL_LENGTH_MAX).collect();
    refusal
}
