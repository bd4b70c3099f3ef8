//! What can be asked over HTTP about workflows of any kind? One table of routes.

mod ask;
mod decide;
mod errors;
mod events;
mod fleet;
mod kind;
mod look;
mod outcome;
mod params;
mod shape;
mod step;
mod verify;
mod wait;

use std::sync::Arc;

use axum::Router;
use axum::extract::FromRef;
use axum::http::StatusCode;
use axum::routing::any;
use backstitch::{Client, Inputs};
use tokio_util::sync::CancellationToken;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::access::{Access, Gate};
use crate::metrics::Metrics;
use crate::origins::{self, Origin};
use crate::outside::{Looks, Outside};
use crate::places::Places;
use crate::problem::Problem;
use crate::refusal::Refusal;
use crate::{openapi, scrape};

pub use self::outcome::DeclaredError;

/// What the routes under `/v1` stand on.
pub struct ApiSettings {
    /// Asks the engine. Best one of its own: callers then never take a connection that a worker needs.
    pub client: Client,
    /// Who may ask.
    pub gate: Gate,
    /// What the errors of kinds mean over HTTP, where the kinds say.
    pub errors: Vec<DeclaredError>,
    /// What the kinds take whose code this daemon has: what does not fit is refused at the door.
    pub inputs: Inputs,
    /// Looks at what workflows left. None: this daemon has none of their code.
    pub outside: Option<Arc<dyn Outside>>,
    /// Whose pages may ask, in somebody's browser.
    pub origins: Vec<Origin>,
    /// Where whoever waits or follows has a place.
    pub places: Places,
    /// Told at `/metrics`.
    pub metrics: Metrics,
    /// The worker has stopped: nothing here ends any more.
    pub stopped: CancellationToken,
}

/// What every handler can reach.
#[derive(Debug, Clone)]
pub(crate) struct Api {
    client: Client,
    gate: Gate,
    errors: Arc<[DeclaredError]>,
    inputs: Arc<Inputs>,
    looks: Looks,
    places: Places,
    stopped: CancellationToken,
}

impl AsRef<Gate> for Api {
    fn as_ref(&self) -> &Gate {
        &self.gate
    }
}

impl FromRef<Api> for Client {
    fn from_ref(api: &Api) -> Self {
        api.client.clone()
    }
}

/// The routes under `/v1`, `GET /openapi.json`, which describes them, `GET /docs`, where a person can try them, and
/// `GET /metrics`.
pub fn api(settings: ApiSettings) -> Router {
    let ApiSettings { client, gate, errors, inputs, outside, origins, places, metrics, stopped } = settings;
    let access = gate.access();
    let watched = scrape::routes(client.clone(), gate.clone(), metrics);
    let looks = Looks::new(outside);
    let state = Api { client, gate, errors: errors.into(), inputs: inputs.into(), looks, places, stopped };
    let (router, described) = described_routes(access).split_for_parts();
    let router = router.fallback(unknown_path).method_not_allowed_fallback(wrong_method);
    let router = origins::allowed(router.with_state(state), origins);
    // A nest has no place for its own end.
    openapi::routes(described).nest("/v1", router).route("/v1/", any(unknown_path)).merge(watched)
}

fn described_routes(access: Access) -> OpenApiRouter<Api> {
    let routes = OpenApiRouter::with_openapi(openapi::frame(access))
        .routes(routes!(ask::enqueue, look::list))
        .routes(routes!(ask::enqueue_many))
        .routes(routes!(look::workflow))
        .routes(routes!(look::journal))
        .routes(routes!(events::events))
        .routes(routes!(wait::wait))
        .routes(routes!(fleet::kinds))
        .routes(routes!(fleet::workers))
        .routes(routes!(fleet::stats))
        .routes(routes!(errors::errors))
        .routes(routes!(verify::verify))
        .routes(routes!(verify::orphans))
        .routes(routes!(kind::pause_kind))
        .routes(routes!(kind::resume_kind))
        .routes(routes!(step::skip_step))
        .routes(routes!(step::resolve));
    decide::VERBS.iter().fold(routes, decide::add)
}

async fn unknown_path() -> Problem {
    let why = "there is nothing here: see /openapi.json for what there is";
    Refusal::new(StatusCode::NOT_FOUND, "not_found", why).into()
}

async fn wrong_method() -> Problem {
    let why = "this method is not for this path: see /openapi.json for what is";
    Refusal::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", why).into()
}
