//! Who works, at what, and how much is there, for whoever asks over HTTP?
#![expect(unused_qualifications, reason = "the code that utoipa generates")]

use axum::Json;
use axum::extract::State;
use backstitch::{Client, KindView, Operator, Status, StatusCount, WorkerView};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::params::Asked;
use super::shape::status_schema;
use crate::access::{Allowed, Look};
use crate::openapi::Refused;
use crate::problem::Problem;
use crate::refusal::Refusal;

/// How many of the dead are told of at most, as on the command line: a few megabytes.
const DEAD_MAX: u32 = 10_000;

/// Which of the dead.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct OfTheDead {
    /// Also so many of those that died last
    #[serde(default)]
    #[param(maximum = 10000)]
    dead: u32,
}

/// Workers, the living first.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Workers)]
pub struct WorkersShape {
    workers: Vec<WorkerShape>,
}

/// One life of a worker process.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Worker)]
struct WorkerShape {
    /// Its number
    incarnation: i32,
    /// The host it runs on
    host: String,
    /// Its process there
    pid: i32,
    /// Its version
    version: String,
    /// The kinds that it serves
    kinds: Vec<String>,
    /// Nobody has buried it. Its lease may be over all the same
    alive: bool,
    /// When it began
    began_at: DateTime<Utc>,
    /// How long ago its last heartbeat came. Null: it is dead
    beat_age_milliseconds: Option<i64>,
    /// How long it may still begin effects; negative once that is over. Null: it is dead
    lease_left_milliseconds: Option<i64>,
    /// How many workflows it works on right now
    held: i64,
    /// When it died
    died_at: Option<DateTime<Utc>>,
    /// shutdown, expired or gone
    death: Option<String>,
}

/// See who works
///
/// Workers serve kinds of every scope, so a token of some kinds does not see them.
#[utoipa::path(
    get,
    path = "/workers",
    tag = "look",
    params(OfTheDead),
    responses((status = 200, description = "The living first", body = WorkersShape), Refused),
)]
pub async fn workers(
    Allowed { caller, .. }: Allowed<Look>,
    State(client): State<Client>,
    Asked(OfTheDead { dead }): Asked<OfTheDead>,
) -> Result<Json<WorkersShape>, Problem> {
    caller.must_see_every_kind()?;
    if dead > DEAD_MAX {
        return Err(Refusal::invalid(format!("dead: give 0 to {DEAD_MAX}")).into());
    }
    let workers = client.workers(dead).await?.into_iter().map(WorkerShape::from).collect();
    Ok(Json(WorkersShape { workers }))
}

/// Kinds, by name.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Kinds)]
pub struct KindsShape {
    kinds: Vec<KindShape>,
    /// When that was so, by the database's clock
    now: DateTime<Utc>,
}

/// One kind of workflow.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Kind)]
struct KindShape {
    /// Its name
    kind: String,
    /// By how many living workers
    served_by: i64,
    /// Never taken up
    pending: i64,
    /// On their way
    running: i64,
    /// On their way back
    compensating: i64,
    /// Waiting for a person
    needs_attention: i64,
    /// How many of all these a worker works on right now
    held: i64,
    /// Since when the longest waiting one could have been taken up. Null: nothing that is due waits
    oldest_due_at: Option<DateTime<Utc>>,
    /// Who has paused it, and why: `by` and `why`. Null: nobody
    #[schema(value_type = Option<Object>)]
    paused: Option<Operator>,
}

/// See which kinds are served, or wait to be
#[utoipa::path(
    get,
    path = "/kinds",
    tag = "look",
    responses((status = 200, description = "Those that exist for the token", body = KindsShape), Refused),
)]
pub async fn kinds(
    Allowed { caller, .. }: Allowed<Look>,
    State(client): State<Client>,
) -> Result<Json<KindsShape>, Problem> {
    let kinds = client.kinds().await?.into_iter().filter(|view| caller.sees(&view.kind));
    Ok(Json(KindsShape { kinds: kinds.map(KindShape::from).collect(), now: client.now().await? }))
}

/// Workflows, counted.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Stats)]
pub struct StatsShape {
    /// In the order of a life
    statuses: Vec<StatusShape>,
}

#[derive(Debug, Serialize, ToSchema)]
#[schema(as = StatusCount)]
struct StatusShape {
    /// Which
    #[schema(schema_with = status_schema)]
    status: &'static str,
    /// How many have it
    workflows: i64,
    /// Counted. False: estimated from a part of them
    is_exact: bool,
}

/// See how many workflows have each status
///
/// A token of some kinds sees how many of these have not ended: what has ended is not counted by kind.
#[utoipa::path(
    get,
    path = "/stats",
    tag = "look",
    responses((status = 200, description = "So many", body = StatsShape), Refused),
)]
pub async fn stats(
    Allowed { caller, .. }: Allowed<Look>,
    State(client): State<Client>,
) -> Result<Json<StatsShape>, Problem> {
    let statuses = match caller.kinds() {
        None => client.stats().await?.into_iter().map(StatusShape::from).collect(),
        Some(_) => live(client.kinds().await?.iter().filter(|view| caller.sees(&view.kind))).into(),
    };
    Ok(Json(StatsShape { statuses }))
}

/// What of these kinds has not ended.
fn live<'a>(kinds: impl Iterator<Item = &'a KindView>) -> [StatusShape; 4] {
    let counted = |status: Status| StatusShape { status: status.as_str(), workflows: 0, is_exact: true };
    let statuses = [Status::Pending, Status::Running, Status::Compensating, Status::NeedsAttention];
    let mut live = statuses.map(counted);
    for kind in kinds {
        let of_kind = [kind.pending, kind.running, kind.compensating, kind.needs_attention];
        for (shape, workflows) in live.iter_mut().zip(of_kind) {
            shape.workflows += workflows;
        }
    }
    live
}

impl From<StatusCount> for StatusShape {
    fn from(count: StatusCount) -> Self {
        let StatusCount { status, workflows, is_exact, .. } = count;
        Self { status: status.as_str(), workflows, is_exact }
    }
}

impl From<KindView> for KindShape {
    fn from(view: KindView) -> Self {
        let KindView {
            kind,
            served_by,
            pending,
            running,
            compensating,
            needs_attention,
            held,
            oldest_due_at,
            paused,
            ..
        } = view;
        Self { kind, served_by, pending, running, compensating, needs_attention, held, oldest_due_at, paused }
    }
}

impl From<WorkerView> for WorkerShape {
    fn from(view: WorkerView) -> Self {
        let WorkerView {
            incarnation,
            host,
            pid,
            version,
            kinds,
            alive,
            began_at,
            beat_age_milliseconds,
            lease_left_milliseconds,
            held,
            died_at,
            death,
            ..
        } = view;
        Self {
            incarnation,
            host,
            pid,
            version,
            kinds,
            alive,
            began_at,
            beat_age_milliseconds,
            lease_left_milliseconds,
            held,
            died_at,
            death,
        }
    }
}
