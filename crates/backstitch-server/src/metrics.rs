//! What has this process answered, how fast, and who waits for it right now?
//!
//! Nothing that a caller chose becomes a label: a route is its pattern, an unknown method is `other`.

use std::fmt;
use std::sync::Arc;
use std::time::Instant;

use axum::Router;
use axum::extract::{MatchedPath, Request};
use axum::http::{Method, StatusCode};
use axum::middleware::{self, Next};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

/// From an enqueue beside an idle database to a wait for as long as may be waited.
const SECONDS: [f64; 12] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0, 30.0, 60.0];

/// The route of a request that none is for.
const NO_ROUTE: &str = "none";

/// Counts, since the process began. Cheap to clone.
#[derive(Clone)]
pub struct Metrics(Arc<Counts>);

struct Counts {
    registry: Registry,
    requests: Family<Asked, Counter>,
    durations: Family<OnRoute, Histogram, fn() -> Histogram>,
    rate_limited: Counter,
    open_waits: Gauge,
    open_streams: Gauge,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Asked {
    method: &'static str,
    route: String,
    status: u16,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OnRoute {
    route: String,
}

impl Metrics {
    /// Nothing was asked yet.
    #[must_use]
    pub fn new() -> Self {
        let requests = Family::default();
        let durations =
            Family::<OnRoute, Histogram, fn() -> Histogram>::new_with_constructor(|| Histogram::new(SECONDS));
        let (rate_limited, open_waits, open_streams) =
            (Counter::default(), Gauge::default(), Gauge::default());
        let mut registry = Registry::with_prefix("backstitch_http");
        registry.register("requests", "Requests that were answered", requests.clone());
        registry.register_with_unit(
            "request_duration",
            "How long it took until the head of an answer was there",
            Unit::Seconds,
            durations.clone(),
        );
        registry.register(
            "rate_limited",
            "Requests that were refused because their token asked too often, or nobody knew it",
            rate_limited.clone(),
        );
        registry.register("open_waits", "Callers who wait for an end", open_waits.clone());
        registry.register("open_streams", "Callers who follow a workflow", open_streams.clone());
        Self(Arc::new(Counts { registry, requests, durations, rate_limited, open_waits, open_streams }))
    }

    /// Counts what this router answers.
    pub(crate) fn around(&self, router: Router) -> Router {
        let metrics = self.clone();
        router.layer(middleware::from_fn(move |request: Request, next: Next| {
            let metrics = metrics.clone();
            async move {
                let method = method(request.method());
                let route = request.extensions().get::<MatchedPath>();
                let route = route.map_or(NO_ROUTE, MatchedPath::as_str).to_owned();
                let began = Instant::now();
                let response = next.run(request).await;
                metrics.count(method, route, response.status(), began);
                response
            }
        }))
    }

    /// Who waits.
    pub(crate) fn open_waits(&self) -> &Gauge {
        &self.0.open_waits
    }

    /// Who follows.
    pub(crate) fn open_streams(&self) -> &Gauge {
        &self.0.open_streams
    }

    /// What is counted.
    pub(crate) fn registry(&self) -> &Registry {
        &self.0.registry
    }

    fn count(&self, method: &'static str, route: String, status: StatusCode, began: Instant) {
        let counts = &self.0;
        let on_route = OnRoute { route: route.clone() };
        counts.durations.get_or_create(&on_route).observe(began.elapsed().as_secs_f64());
        counts.requests.get_or_create(&Asked { method, route, status: status.as_u16() }).inc();
        // Nothing else is answered with it.
        if status == StatusCode::TOO_MANY_REQUESTS {
            counts.rate_limited.inc();
        }
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Metrics(…)")
    }
}

/// Anybody may invent one.
fn method(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::POST => "POST",
        Method::OPTIONS => "OPTIONS",
        _ => "other",
    }
}
