//! What is there to watch over, as Prometheus reads it? `GET /metrics`.

use axum::Router;
use axum::extract::{FromRef, State};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use backstitch::{Census, Client};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::{encode_eof, encode_registry};
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};

use crate::access::{Allowed, Gate, Look};
use crate::metrics::Metrics;
use crate::problem::Problem;

/// The format of OpenMetrics, which Prometheus asks for first.
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

#[derive(Debug, Clone)]
struct Watched {
    client: Client,
    gate: Gate,
    metrics: Metrics,
}

impl AsRef<Gate> for Watched {
    fn as_ref(&self) -> &Gate {
        &self.gate
    }
}

impl FromRef<Watched> for Client {
    fn from_ref(watched: &Watched) -> Self {
        watched.client.clone()
    }
}

/// `GET /metrics`, for whoever may look at every kind.
pub fn routes(client: Client, gate: Gate, metrics: Metrics) -> Router {
    Router::new().route("/metrics", get(scrape)).with_state(Watched { client, gate, metrics })
}

async fn scrape(
    Allowed { caller, .. }: Allowed<Look>,
    State(watched): State<Watched>,
) -> Result<Response, Problem> {
    caller.must_see_every_kind()?;
    // While the database does not answer, what this process counted is what there is to know.
    let census = match watched.client.census().await {
        Ok(census) => Some(census),
        Err(error) => {
            tracing::warn!(%error, "the database was not counted for whoever watches");
            None
        }
    };
    let mut text = String::new();
    let told = encode_registry(&mut text, &counted(census.as_ref()))
        .and_then(|()| encode_registry(&mut text, watched.metrics.registry()))
        .and_then(|()| encode_eof(&mut text));
    told.expect("writing to a text does not fail");
    Ok(([(header::CONTENT_TYPE, OPEN_METRICS)], text).into_response())
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfKind {
    kind: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfKindAndStatus {
    kind: String,
    status: &'static str,
}

/// What the database says. None: it does not answer.
fn counted(census: Option<&Census>) -> Registry {
    let mut registry = Registry::with_prefix("backstitch");
    let up = Gauge::<i64>::default();
    up.set(census.is_some().into());
    registry.register("database_up", "Whether the database was counted for this answer", up);
    let Some(census) = census else {
        return registry;
    };
    let (workflows, due, served_by) = (
        Family::<OfKindAndStatus, Gauge>::default(),
        Family::<OfKind, Gauge>::default(),
        Family::<OfKind, Gauge>::default(),
    );
    for kind in &census.kinds {
        let statuses = [
            ("pending", kind.pending),
            ("running", kind.running),
            ("compensating", kind.compensating),
            ("needs_attention", kind.needs_attention),
        ];
        for (status, count) in statuses {
            workflows.get_or_create(&OfKindAndStatus { kind: kind.kind.clone(), status }).set(count);
        }
        let of_kind = OfKind { kind: kind.kind.clone() };
        due.get_or_create(&of_kind).set(kind.due);
        served_by.get_or_create(&of_kind).set(kind.served_by);
    }
    registry.register("workflows", "Workflows that have not ended", workflows);
    registry.register("due", "Workflows that could be taken up right now, and are not", due);
    registry.register("kind_workers", "Living workers that serve a kind", served_by);
    let age = census.oldest_enqueued_at.map_or(0.0, |oldest| (census.at - oldest).as_seconds_f64());
    let oldest = Gauge::<f64, std::sync::atomic::AtomicU64>::default();
    oldest.set(age.max(0.0));
    let help = "How long ago the oldest workflow that has not ended was asked for";
    registry.register_with_unit("oldest_unfinished", help, Unit::Seconds, oldest);
    for (name, help, count) in [
        ("workers", "Living workers", census.workers),
        (
            "unserved_kinds",
            "Kinds with workflows that have not ended and without a living worker",
            census.unserved_kinds,
        ),
        ("open_alerts", "Alerts that still need a person", census.open_alerts),
    ] {
        let gauge = Gauge::<i64>::default();
        gauge.set(count);
        registry.register(name, help, gauge);
    }
    registry
}
