//! Who is asking, and may they?
//!
//! A handler that needs a right takes [`Allowed`] of it; there is no other way to learn who asks, so none is forgotten.

use std::marker::PhantomData;
use std::net::IpAddr;
use std::sync::Arc;

use axum::Router;
use axum::extract::{FromRequestParts, Request};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::middleware::{self, Next};
use backstitch::{Client, Role, Token, TokenHash};
use tokio::time::Instant;

use crate::problem::Problem;
use crate::rate::Rate;
use crate::refusal::Refusal;
use crate::strangers::{Peer, Strangers};
use crate::token::BearerToken;

/// Whom the daemon believes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Whoever shows a token, as far as the token goes.
    Tokens,
    /// Whoever reaches it: every program on this host. Only for loopback, and only if asked for.
    EverybodyHere,
}

/// Where rights are looked up.
#[derive(Debug, Clone)]
pub struct Gate {
    access: Access,
    client: Client,
    rate: Arc<Rate>,
    strangers: Arc<Strangers>,
}

/// Whoever asks.
#[derive(Debug, Clone)]
pub struct Caller {
    /// None: everybody on this host, who may do everything.
    token: Option<Token>,
}

/// A right, and who has it.
pub trait Right {
    /// The roles that do.
    const ROLES: &'static [Role];
}

/// To see any workflow, and its journal.
#[derive(Debug)]
pub enum Look {}

/// To ask for workflows.
#[derive(Debug)]
pub enum Ask {}

/// To see a workflow whose id one has, and to wait for it.
#[derive(Debug)]
pub enum Await {}

/// To decide about a workflow, and to have the outside looked at.
#[derive(Debug)]
pub enum Decide {}

impl Right for Look {
    const ROLES: &'static [Role] = &[Role::Read, Role::Operate];
}

impl Right for Ask {
    const ROLES: &'static [Role] = &[Role::Produce];
}

impl Right for Await {
    const ROLES: &'static [Role] = &[Role::Read, Role::Produce, Role::Operate];
}

impl Right for Decide {
    const ROLES: &'static [Role] = &[Role::Operate];
}

/// A caller that has this right.
#[derive(Debug)]
pub struct Allowed<R> {
    /// Who.
    pub caller: Caller,
    right: PhantomData<fn() -> R>,
}

impl<S, R> FromRequestParts<S> for Allowed<R>
where
    S: AsRef<Gate> + Sync,
    R: Right,
{
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let peer = Peer::of(&parts.extensions);
        let caller = state.as_ref().caller(peer, &parts.headers, R::ROLES).await?;
        Ok(Self { caller, right: PhantomData })
    }
}

impl Gate {
    /// Looks tokens up through this client.
    #[must_use]
    pub fn new(access: Access, client: Client) -> Self {
        Self { access, client, rate: Arc::default(), strangers: Arc::new(Strangers::new(Instant::now())) }
    }

    /// Whom it believes.
    pub(crate) fn access(&self) -> Access {
        self.access
    }

    /// Whoever shows a token with which these kinds can be asked for may pass; all of `router` is behind it.
    pub fn before(&self, router: Router, kinds: &'static [&'static str]) -> Router {
        let gate = self.clone();
        router.layer(middleware::from_fn(move |request: Request, next: Next| {
            let gate = gate.clone();
            async move {
                let peer = Peer::of(request.extensions());
                let caller = gate.caller(peer, request.headers(), Ask::ROLES).await?;
                kinds.iter().try_for_each(|kind| caller.must_see(kind))?;
                Ok::<_, Refusal>(next.run(request).await)
            }
        }))
    }

    async fn caller(&self, peer: Peer, headers: &HeaderMap, roles: &[Role]) -> Result<Caller, Refusal> {
        if self.access == Access::EverybodyHere {
            return somebody_here(headers);
        }
        let token = match bearer(headers)? {
            Some(token) => self.find(peer, token.hash()).await?,
            None => None,
        };
        let token = token.ok_or_else(|| {
            unauthorized("token_unknown", "the token is unknown or was revoked: ask whoever runs the daemon")
        })?;
        let caller = Caller { token: Some(token) };
        caller.must_have(roles)?;
        Ok(caller)
    }

    async fn find(&self, peer: Peer, token: TokenHash) -> Result<Option<Token>, Refusal> {
        let shown = self.strangers.show(peer, token, Instant::now()).map_err(|seconds| {
            let why = "from this address too many tokens were shown that nobody knows: correct the token, or ask again later";
            Refusal::new(StatusCode::TOO_MANY_REQUESTS, "too_many_unknown_tokens", why).retry_after(seconds)
        })?;
        // One that is known asks too often without asking the database; of others that would be a bucket for whatever is shown.
        let is_counted = shown.was_good_before();
        if is_counted {
            self.count(token)?;
        }
        let found = self.client.find_token(token).await;
        match &found {
            Ok(Some(_)) => shown.was_good(Instant::now()),
            Ok(None) => shown.was_unknown(),
            Err(_) => shown.was_unanswered(Instant::now()),
        }
        if !is_counted && matches!(found, Ok(Some(_))) {
            self.count(token)?;
        }
        found.map_err(|error| Refusal::of_engine(&error))
    }

    /// Counts a request of this token's.
    fn count(&self, token: TokenHash) -> Result<(), Refusal> {
        self.rate.take(token, Instant::now()).map_err(|seconds| {
            let why = "this token asked too often: ask again later, and less often";
            Refusal::new(StatusCode::TOO_MANY_REQUESTS, "too_many_requests", why).retry_after(seconds)
        })
    }
}

impl Caller {
    /// Whose token it is, for people. None: it needed none.
    pub fn name(&self) -> Option<&str> {
        self.token.as_ref().map(|token| token.name.as_str())
    }

    /// Whether workflows of this kind exist for it.
    pub fn sees(&self, kind: &str) -> bool {
        self.kinds().is_none_or(|kinds| kinds.iter().any(|known| known == kind))
    }

    /// The kinds that exist for it. None: every kind.
    pub fn kinds(&self) -> Option<&[String]> {
        self.token.as_ref()?.kinds.as_deref()
    }

    /// Kinds are named by whoever asks, so a refusal tells nothing of what there is.
    pub fn must_see(&self, kind: &str) -> Result<(), Refusal> {
        if self.sees(kind) {
            return Ok(());
        }
        let why = format!("this token is not for the kind {kind:?}: use one that is");
        Err(Refusal::new(StatusCode::FORBIDDEN, "kind_out_of_scope", why))
    }

    /// For what is of all kinds together.
    pub fn must_see_every_kind(&self) -> Result<(), Refusal> {
        if self.kinds().is_none() {
            return Ok(());
        }
        let why = "this token is for some kinds, and this is about all of them: use one without --kind";
        Err(Refusal::new(StatusCode::FORBIDDEN, "kind_out_of_scope", why))
    }

    fn must_have(&self, roles: &[Role]) -> Result<(), Refusal> {
        let has_none = |token: &&Token| token.roles.iter().all(|role| !roles.contains(role));
        let Some(token) = self.token.as_ref().filter(has_none) else {
            return Ok(());
        };
        let words = |roles: &[Role], between| {
            roles.iter().map(|role| role.as_str()).collect::<Vec<_>>().join(between)
        };
        let (has, needed) = (words(&token.roles, " and "), words(roles, " or "));
        let why = format!("a token of role {has} can't do that: use one of role {needed}");
        Err(Refusal::new(StatusCode::FORBIDDEN, "role_insufficient", why))
    }
}

/// Everybody on this host is trusted; a page in a browser on this host is not from this host.
fn somebody_here(headers: &HeaderMap) -> Result<Caller, Refusal> {
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    let is_ours = |origin: &HeaderValue| {
        ["http://", "https://"]
            .iter()
            .any(|scheme| origin.as_bytes().strip_prefix(scheme.as_bytes()) == Some(host.as_bytes()))
    };
    // A foreign name that resolves to loopback is how a page would make itself one of ours.
    if names_loopback(host) && headers.get(header::ORIGIN).is_none_or(is_ours) {
        return Ok(Caller { token: None });
    }
    let why = "without tokens only programs on this host are answered: call 127.0.0.1 or localhost, not from a page";
    Err(Refusal::new(StatusCode::FORBIDDEN, "origin_refused", why))
}

/// None: no token of ours looks like what was shown.
fn bearer(headers: &HeaderMap) -> Result<Option<BearerToken>, Refusal> {
    let missing = || unauthorized("token_missing", "show a token: Authorization: Bearer bst_…");
    let mut shown = headers.get_all(header::AUTHORIZATION).iter();
    let (Some(only), None) = (shown.next(), shown.next()) else {
        return Err(missing());
    };
    let (scheme, token) = only.to_str().ok().and_then(|text| text.split_once(' ')).ok_or_else(missing)?;
    if !scheme.eq_ignore_ascii_case("bearer") {
        return Err(missing());
    }
    Ok(BearerToken::shown(token.trim()))
}

fn unauthorized(code: &str, why: &str) -> Refusal {
    Refusal::new(StatusCode::UNAUTHORIZED, code, why)
}

/// Whether the authority of a URL names this host, with or without a port.
fn names_loopback(authority: &str) -> bool {
    let is_port = |port: &str| !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
    let host = match authority.rsplit_once(':') {
        Some((host, port)) if is_port(port) => host,
        _ => authority,
    };
    let address = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    host == "localhost" || address.is_ok_and(|address| address.to_canonical().is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_this_host_is_here() {
        for ours in ["127.0.0.1:7410", "localhost:7410", "localhost", "[::1]:7410", "127.9.9.9"] {
            assert!(names_loopback(ours), "{ours}");
        }
        for foreign in
            ["", "evil.example:7410", "localhost.evil.example", "192.0.2.1:80", "127.0.0.1.evil:1", ":80"]
        {
            assert!(!names_loopback(foreign), "{foreign}");
        }
    }

    #[tokio::test]
    async fn a_known_token_that_asks_too_often_is_refused_without_asking_the_database() {
        let database = backstitch_postgres::test::database().await;
        let client = Client::new(backstitch::Database::connect(&database.url).await.expect("it is there"));
        let gate = Gate::new(Access::Tokens, client.clone());
        let token = BearerToken::mint().expect("there is randomness");
        let shown = HeaderValue::from_str(&format!("Bearer {}", token.reveal())).expect("it is one");
        let headers = HeaderMap::from_iter([(header::AUTHORIZATION, shown)]);
        let peer = Peer(IpAddr::from([192, 0, 2, 1]));
        gate.strangers.show(peer, token.hash(), Instant::now()).expect("it may").was_good(Instant::now());
        client.database().close().await;
        let mut refused = Vec::new();
        for _ in 0..1_000 {
            refused.push(gate.caller(peer, &headers, Look::ROLES).await.expect_err("nobody can say").error);
        }
        let asked = refused.iter().filter(|code| *code == "database_unavailable").count();
        let told = refused.iter().filter(|code| *code == "too_many_requests").count();
        assert_eq!(asked + told, 1_000);
        assert!((400..1_000).contains(&asked), "as many as it may: {asked}");
    }
}
