//! How does a caller follow a workflow? As server-sent events, one for each row of its journal.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::extract::{FromRequestParts, State};
use axum::http::request::Parts;
use axum::http::{HeaderName, HeaderValue, StatusCode};
use axum::response::sse::{self, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use backstitch::{
    Began, Cause, Direction, Ended, Error, Event, Events, Failure, Operator, Turned, WorkflowId,
};
use chrono::{DateTime, Utc};
use futures_core::Stream;
use serde::Serialize;
use tokio_util::sync::WaitForCancellationFutureOwned;
use utoipa::ToSchema;

use super::Api;
use super::look::seen;
use super::params::Of;
use super::wait::stopping;
use crate::access::{Allowed, Look};
use crate::openapi::{Refused, RefusedWorkflow};
use crate::places::Taken;
use crate::problem::Problem;
use crate::refusal::Refusal;

/// How often something is said when nothing happens: what lies between the caller and us often hangs up after half a minute
/// of silence, and a caller that is gone is noticed when it is spoken to.
const HEARTBEAT: Duration = Duration::from_secs(15);

/// Proxies such as nginx keep an answer until a buffer of theirs is full, unless it says otherwise.
const UNBUFFERED: [(HeaderName, HeaderValue); 1] =
    [(HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no"))];

/// With which header one whose connection broke says what it heard last.
const LAST_EVENT_ID: &str = "last-event-id";

/// Follow a workflow, as server-sent events
///
/// One for each row of its journal, which is its `id`; it ends with the workflow. Whoever asks again with `Last-Event-ID`, as
/// browsers do, is told what came after it; 204 tells them that nothing will.
#[utoipa::path(
    get,
    path = "/workflows/{id}/events",
    tag = "look",
    params(
        ("id" = Uuid, Path, description = "Which workflow"),
        ("Last-Event-ID" = Option<u32>, Header, description = "The id of the last event that was heard")
    ),
    responses(
        (
            status = 200,
            description = "What happens, until it has ended: `data` is one of these",
            body = EventShape,
            content_type = "text/event-stream"
        ),
        (status = 204, description = "It has ended, and the last event was its end: do not ask again"),
        Refused, RefusedWorkflow
    ),
)]
pub async fn events(
    Allowed { caller, .. }: Allowed<Look>,
    State(api): State<Api>,
    Of(workflow): Of,
    LastHeard(last): LastHeard,
) -> Result<Response, Problem> {
    let view = seen(&api.client, &caller, workflow).await?;
    let place = api.places.follow()?;
    let mut events = api.client.follow(workflow);
    if let Some(last) = last {
        events = events.after(last);
    }
    // What has ended is told without waiting for anything.
    let first = match view.finished_at {
        // In an outage of the database that waits for its end, however long it takes.
        Some(_) => match api.stopped.run_until_cancelled(events.next()).await {
            None => return Err(stopping(workflow)),
            Some(None) => return Ok(StatusCode::NO_CONTENT.into_response()),
            Some(first) => first,
        },
        None => None,
    };
    let told = Told {
        first,
        events,
        stopped: Box::pin(api.stopped.cancelled_owned()),
        is_over: false,
        _place: place,
    };
    let told = Sse::new(told).keep_alive(KeepAlive::new().interval(HEARTBEAT));
    Ok((UNBUFFERED, told).into_response())
}

/// The last event that was heard. None: this is the first time that it is asked.
#[derive(Debug)]
pub struct LastHeard(Option<u32>);

impl<S: Send + Sync> FromRequestParts<S> for LastHeard {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let wrong =
            || Refusal::invalid("Last-Event-ID: give the id of an event of this workflow, such as 7, once");
        let mut said = parts.headers.get_all(LAST_EVENT_ID).iter();
        let last = match (said.next(), said.next()) {
            (None, _) => None,
            (Some(last), None) => {
                Some(last.to_str().ok().and_then(|last| last.parse().ok()).ok_or_else(wrong)?)
            }
            (Some(_), Some(_)) => return Err(wrong().into()),
        };
        Ok(Self(last))
    }
}

/// What one who follows is told, while it does.
struct Told {
    /// Read already. None: it is told, or was not read.
    first: Option<Result<Event, Error>>,
    events: Events,
    /// The daemon stops: whoever follows asks the next one.
    stopped: Pin<Box<WaitForCancellationFutureOwned>>,
    is_over: bool,
    _place: Taken,
}

impl Stream for Told {
    type Item = Result<sse::Event, Infallible>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        if this.is_over || this.stopped.as_mut().poll(context).is_ready() {
            return Poll::Ready(None);
        }
        let event = match this.first.take() {
            Some(first) => Poll::Ready(Some(first)),
            None => Pin::new(&mut this.events).poll_next(context),
        };
        event.map(|event| {
            this.is_over = !matches!(event, Some(Ok(_)));
            event.map(|event| Ok(told(event)))
        })
    }
}

fn told(event: Result<Event, Error>) -> sse::Event {
    let told = match event {
        Ok(event) => sse::Event::default().id(event.seq.to_string()).json_data(EventShape::from(event)),
        // The head of the answer is sent long ago.
        Err(error) => sse::Event::default().event("problem").json_data(Problem::from(error).into_body()),
    };
    told.expect("what we tell is JSON")
}

/// What was written down at once: how an attempt ended, whether the course turned, what began, in this order.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Event)]
struct EventShape {
    #[schema(value_type = Uuid)]
    workflow_id: WorkflowId,
    /// Which row of its journal, from 0 without gaps
    seq: u32,
    /// When it was written
    at: DateTime<Utc>,
    /// The incarnation of a worker that wrote it. Null: an operator did
    incarnation: Option<i32>,
    /// How an attempt ended
    ended: Option<EndedShape>,
    /// How the course turned
    turned: Option<TurnedShape>,
    /// What began. An attempt that also ended here was one transaction
    began: Option<BeganShape>,
}

#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Ended)]
struct EndedShape {
    position: u32,
    step: String,
    /// run or compensate
    #[schema(value_type = String)]
    direction: Direction,
    attempt: u32,
    began_at: DateTime<Utc>,
    /// succeeded, retry, in_doubt, handed_back, failed, failed_in_doubt or rejected
    outcome: String,
    /// What went wrong: `code` and `message`
    #[schema(value_type = Option<Object>)]
    failure: Option<Failure>,
}

#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Began)]
struct BeganShape {
    position: u32,
    step: String,
    /// run or compensate
    #[schema(value_type = String)]
    direction: Direction,
    attempt: u32,
}

#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Turned)]
struct TurnedShape {
    /// unwinding, retry, pause, resume, skip_step or resolve; or an end: completed, compensated or abandoned
    turn: String,
    /// Why it is taken back
    #[schema(value_type = Option<Object>)]
    cause: Option<Cause>,
    /// Who decided it: `by` and `why`
    #[schema(value_type = Option<Object>)]
    operator: Option<Operator>,
    /// The step that was decided about
    position: Option<u32>,
    /// Whether that step's effect is there
    happened: Option<bool>,
}

impl From<Event> for EventShape {
    fn from(event: Event) -> Self {
        let Event { workflow, seq, at, incarnation, ended, turned, began, .. } = event;
        Self {
            workflow_id: workflow,
            seq,
            at,
            incarnation,
            ended: ended.map(|ended| {
                let Ended { position, step, direction, attempt, began_at, outcome, failure, .. } = ended;
                EndedShape { position, step, direction, attempt, began_at, outcome, failure }
            }),
            turned: turned.map(|turned| {
                let Turned { turn, cause, operator, position, happened, .. } = turned;
                TurnedShape { turn, cause, operator, position, happened }
            }),
            began: began.map(|began| {
                let Began { position, step, direction, attempt, .. } = began;
                BeganShape { position, step, direction, attempt }
            }),
        }
    }
}
