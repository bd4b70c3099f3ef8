//! How is a workflow asked for over HTTP?

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use backstitch::{Handle, Inputs, Json as Encoded, WorkflowId, limits};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use utoipa::ToSchema;

use super::Api;
use super::params::{Named, Sent, Text, time};
use crate::access::{Allowed, Ask};
use crate::openapi::{Refused, RefusedInput, RefusedKey};
use crate::problem::Problem;
use crate::refusal::Refusal;

/// How many workflows are asked for at once: what one statement writes in some ten milliseconds.
const BATCH_MAX: usize = 1_000;

/// What is asked for.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Enqueue {
    /// Which kind of workflow. 1 to 100 bytes
    #[schema(value_type = String, min_length = 1, max_length = 100)]
    kind: Text,
    /// Its input
    #[schema(value_type = serde_json::Value)]
    input: Box<RawValue>,
    /// The same key and input give the same workflow, however often it is asked for. 1 to 500 bytes
    #[schema(value_type = Option<String>, min_length = 1, max_length = 500)]
    key: Option<Text>,
    /// The queue to wait in
    #[serde(default = "usual_queue")]
    #[schema(value_type = String, min_length = 1, max_length = 100)]
    queue: Text,
    /// 0 is taken up first, 3 last
    #[serde(default = "usual_priority")]
    #[schema(maximum = 3)]
    priority: u8,
    /// Not to be begun before
    #[serde(default, deserialize_with = "time")]
    run_at: Option<DateTime<Utc>>,
    /// To be taken back unless it has ended by then
    #[serde(default, deserialize_with = "time")]
    deadline_at: Option<DateTime<Utc>>,
}

/// Workflows of one kind.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct EnqueueMany {
    /// Which kind of workflow. 1 to 100 bytes
    #[schema(value_type = String, min_length = 1, max_length = 100)]
    kind: Text,
    /// 1 to 1,000 of them
    #[schema(value_type = Vec<Input>, min_items = 1, max_items = 1000)]
    workflows: Vec<Named<Input>>,
    /// The queue to wait in
    #[serde(default = "usual_queue")]
    #[schema(value_type = String, min_length = 1, max_length = 100)]
    queue: Text,
    /// 0 is taken up first, 3 last
    #[serde(default = "usual_priority")]
    #[schema(maximum = 3)]
    priority: u8,
    /// Not to be begun before
    #[serde(default, deserialize_with = "time")]
    run_at: Option<DateTime<Utc>>,
    /// To be taken back unless it has ended by then
    #[serde(default, deserialize_with = "time")]
    deadline_at: Option<DateTime<Utc>>,
}

/// One of many.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Input {
    /// Its input
    #[schema(value_type = serde_json::Value)]
    input: Box<RawValue>,
    /// Its key; either all of them have one, or none
    #[schema(value_type = Option<String>, min_length = 1, max_length = 500)]
    key: Option<Text>,
}

/// Which workflow it is.
#[derive(Debug, Serialize, ToSchema)]
pub struct Enqueued {
    #[schema(value_type = Uuid)]
    workflow_id: WorkflowId,
}

/// Which workflows they are, in the order in which they were asked for.
#[derive(Debug, Serialize, ToSchema)]
pub struct EnqueuedMany {
    #[schema(value_type = Vec<Uuid>)]
    workflow_ids: Vec<WorkflowId>,
}

fn usual_queue() -> Text {
    Text::from_static("default")
}

fn usual_priority() -> u8 {
    1
}

/// Ask for a workflow
///
/// `Idempotency-Key` is the same as `key` in the body: asked again with the same key and input, it is the same workflow.
#[utoipa::path(
    post,
    path = "/workflows",
    tag = "ask",
    params(("Idempotency-Key" = Option<String>, Header, description = "Its key")),
    request_body = Enqueue,
    responses(
        (status = 201, description = "It is asked for", body = Enqueued, headers(("Location" = String, description = "Where it is seen"))),
        (status = 200, description = "It was asked for before, with this key and input", body = Enqueued),
        Refused, RefusedKey, RefusedInput
    ),
)]
pub async fn enqueue(
    Allowed { caller, .. }: Allowed<Ask>,
    State(api): State<Api>,
    headers: HeaderMap,
    Sent(asked): Sent<Enqueue>,
) -> Result<Response, Problem> {
    let Enqueue { kind, input, key, queue, priority, run_at, deadline_at } = asked;
    caller.must_see(kind.as_str())?;
    taken(&api.inputs, kind.as_str(), &input, "the input")?;
    let mut enqueue =
        api.client.enqueue_untyped(kind.into_string(), &input).queue(queue.into_string()).priority(priority);
    if let Some(key) = one_key(key, &headers)? {
        enqueue = enqueue.key(key.into_string());
    }
    if let Some(run_at) = run_at {
        enqueue = enqueue.run_at(run_at);
    }
    if let Some(deadline_at) = deadline_at {
        enqueue = enqueue.deadline_at(deadline_at);
    }
    let told = enqueue.send_and_tell().await?;
    let workflow_id = told.handle.workflow;
    let status = if told.is_new { StatusCode::CREATED } else { StatusCode::OK };
    let location = [(header::LOCATION, format!("/v1/workflows/{workflow_id}"))];
    Ok((status, location, Json(Enqueued { workflow_id })).into_response())
}

/// Ask for many workflows of one kind: all of them, or on any refusal none
#[utoipa::path(
    post,
    path = "/workflows/batch",
    tag = "ask",
    request_body = EnqueueMany,
    responses((status = 200, description = "These they are", body = EnqueuedMany), Refused, RefusedKey, RefusedInput),
)]
pub async fn enqueue_many(
    Allowed { caller, .. }: Allowed<Ask>,
    State(api): State<Api>,
    Sent(asked): Sent<EnqueueMany>,
) -> Result<Json<EnqueuedMany>, Problem> {
    let EnqueueMany { kind, workflows, queue, priority, run_at, deadline_at } = asked;
    caller.must_see(kind.as_str())?;
    if workflows.is_empty() || workflows.len() > BATCH_MAX {
        return Err(Refusal::invalid(format!("workflows: give 1 to {BATCH_MAX} of them at once")).into());
    }
    let (inputs, keys): (Vec<_>, Vec<_>) =
        workflows.into_iter().map(|Named(one)| (one.input, one.key)).unzip();
    for (at, input) in inputs.iter().enumerate() {
        taken(&api.inputs, kind.as_str(), input, &format!("the input of workflow {at}"))?;
    }
    let given: Vec<_> = keys.iter().flatten().map(|key| key.as_str().to_owned()).collect();
    let mut enqueue = api
        .client
        .enqueue_many_untyped(kind.into_string(), inputs)
        .queue(queue.into_string())
        .priority(priority);
    match given.len() {
        0 => {}
        all if all == keys.len() => enqueue = enqueue.keys(given),
        _ => return Err(Refusal::invalid("workflows: give each a key, or none").into()),
    }
    if let Some(run_at) = run_at {
        enqueue = enqueue.run_at(run_at);
    }
    if let Some(deadline_at) = deadline_at {
        enqueue = enqueue.deadline_at(deadline_at);
    }
    let handles = enqueue.send().await?;
    Ok(Json(EnqueuedMany {
        workflow_ids: handles.iter().map(|handle: &Handle<_>| handle.workflow).collect(),
    }))
}

/// Refuses what the kind does not take, where that is known. What can't be taken of any kind the engine refuses.
fn taken(inputs: &Inputs, kind: &str, input: &RawValue, which: &str) -> Result<(), Problem> {
    if !inputs.knows(kind) {
        return Ok(());
    }
    let Ok(input) = Encoded::parse(input.get(), limits::INPUT_BYTES_MAX) else {
        return Ok(());
    };
    inputs.check(kind, &input).map_err(|problem| {
        let why = format!("kind {kind}: {which} {problem}: correct it and ask again");
        Refusal::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid_input", why).into()
    })
}

/// The key, from wherever it was given. None: nowhere.
fn one_key(in_body: Option<Text>, headers: &HeaderMap) -> Result<Option<Text>, Problem> {
    let mut given = headers.get_all("idempotency-key").iter();
    let (first, second) = (given.next(), given.next());
    let in_header = match first.map(|value| String::from_utf8(value.as_bytes().to_vec())) {
        None => None,
        Some(Ok(text)) if second.is_none() => Some(Text::try_from(text).map_err(Refusal::invalid)?),
        Some(_) => return Err(Refusal::invalid("Idempotency-Key: give one, as text").into()),
    };
    match (in_body, in_header) {
        (Some(in_body), Some(in_header)) if in_body != in_header => {
            Err(Refusal::invalid("Idempotency-Key and key in the body differ: give one of them").into())
        }
        (in_body, in_header) => Ok(in_body.or(in_header)),
    }
}
