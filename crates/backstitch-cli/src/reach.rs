//! Whom does a command ask: the database, or a daemon over HTTP?
//!
//! Decided here alone. What a command shows, and the number that it ends with, are the same either way; what is sealed is
//! shown by neither.

mod parts;
mod problem;
mod server;
mod stream;

use backstitch::{
    Answered, Client, Ending, Error, Event, Events, Failures, Filter, Handle, IncarnationId, Json, KindView,
    Operate, Position, StatusCount, StepView, WorkerView, WorkflowId, WorkflowView,
};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::arguments::Decision;
use crate::connect;
use crate::exit::Failed;
use crate::seen::Seen;
use crate::settings::Settings;
use server::Server;
use stream::Followed;

/// Whoever is asked.
pub enum Reach {
    /// The database, as the daemon does.
    Database(Client),
    /// A daemon, which lets its callers do what their tokens allow.
    Server(Box<Server>),
}

/// A workflow to be asked for.
#[derive(Debug, Clone, Serialize)]
pub struct Asked {
    pub kind: String,
    pub input: Json,
    pub key: Option<String>,
    pub queue: String,
    pub priority: u8,
    pub run_at: Option<DateTime<Utc>>,
    pub deadline_at: Option<DateTime<Utc>>,
}

/// What is decided about a workflow.
#[derive(Debug, Clone)]
pub enum Verb {
    Cancel,
    Retry,
    Abandon,
    Pause,
    Resume,
    SkipStep(Position),
    /// None: it did not happen. Some: it did, with this output.
    Resolve(Position, Option<Json>),
}

/// Workflows as they stood at one moment.
#[derive(Debug)]
pub struct Listing {
    pub workflows: Vec<WorkflowView>,
    /// By the database's clock.
    pub now: DateTime<Utc>,
}

/// What happens to a workflow, as it happens.
pub enum Follow<'r> {
    Database(Box<Events>),
    Server(Box<Followed<'r>>),
}

impl Follow<'_> {
    /// The next event, however often whoever is asked does not answer meanwhile. None: it has ended, and all is told.
    pub async fn next(&mut self) -> Result<Option<Event>, Failed> {
        match self {
            Self::Database(events) => Ok(events.next().await.transpose()?),
            Self::Server(followed) => followed.next().await,
        }
    }
}

/// Kinds as they stood at one moment.
#[derive(Debug, Deserialize)]
pub struct Kinds {
    pub kinds: Vec<KindView>,
    /// By the database's clock.
    pub now: DateTime<Utc>,
}

/// The daemon that was named, else the database.
pub async fn reach(settings: &Settings) -> Result<Reach, Failed> {
    match settings.server() {
        Some(url) => Server::new(url, settings.server_token()?).map(|server| Reach::Server(Box::new(server))),
        None => connect::client(settings).await.map(Reach::Database),
    }
}

impl Reach {
    /// Asks for a workflow.
    pub async fn enqueue(&self, asked: &Asked) -> Result<WorkflowId, Failed> {
        let client = match self {
            Self::Database(client) => client,
            Self::Server(server) => return server.enqueue(asked).await,
        };
        let Asked { kind, input, key, queue, priority, run_at, deadline_at } = asked.clone();
        let mut ask = client.enqueue_untyped(kind, &input).queue(queue).priority(priority);
        if let Some(key) = key {
            ask = ask.key(key);
        }
        if let Some(at) = deadline_at {
            ask = ask.deadline_at(at);
        }
        if let Some(at) = run_at {
            ask = ask.run_at(at);
        }
        Ok(ask.send().await?.workflow)
    }

    /// Whether a workflow that was given an id is there no more: it ended, and was removed.
    pub async fn is_removed(&self, workflow: WorkflowId) -> Result<bool, Failed> {
        match self {
            Self::Database(client) => Ok(client.workflow(workflow).await?.is_none()),
            Self::Server(server) => server.is_removed(workflow).await,
        }
    }

    /// Whether somebody serves the kind of this workflow.
    pub async fn is_served(&self, workflow: WorkflowId, kind: &str) -> Result<bool, Failed> {
        match self {
            Self::Database(client) => Ok(client.is_served(kind).await?),
            Self::Server(server) => Ok(!server.workflow(workflow).await?.unserved),
        }
    }

    /// Waits until it has ended, or needs attention.
    pub async fn wait(&self, workflow: WorkflowId) -> Result<Ending<Json>, Failed> {
        match self {
            Self::Database(client) => Ok(client.wait(&Handle::new(workflow)).await?),
            Self::Server(server) => server.wait(workflow).await,
        }
    }

    /// One workflow. One that is not there is refused.
    pub async fn workflow(&self, id: WorkflowId) -> Result<WorkflowView, Failed> {
        match self {
            Self::Database(client) => Ok(client.workflow(id).await?.ok_or(Error::NotFound(id))?.redacted()),
            Self::Server(server) => server.workflow(id).await,
        }
    }

    /// Follows one that is there, from its beginning on.
    pub fn follow(&self, workflow: WorkflowId) -> Follow<'_> {
        match self {
            Self::Database(client) => Follow::Database(Box::new(client.follow(workflow))),
            Self::Server(server) => Follow::Server(Box::new(Followed::of(server, workflow))),
        }
    }

    /// Workflows, the newest first.
    pub async fn workflows(&self, filter: Filter) -> Result<Listing, Failed> {
        match self {
            Self::Database(client) => {
                let workflows = client.workflows(filter).await?.into_iter().map(WorkflowView::redacted);
                Ok(Listing { workflows: workflows.collect(), now: client.now().await? })
            }
            Self::Server(server) => server.workflows(filter).await,
        }
    }

    /// Everything that is known of one. One that is not there is refused.
    pub async fn look(&self, id: WorkflowId) -> Result<Seen, Failed> {
        let client = match self {
            Self::Database(client) => client,
            Self::Server(server) => return server.look(id).await,
        };
        let workflow = client.workflow(id).await?.ok_or(Error::NotFound(id))?.redacted();
        let steps = client.steps(id).await?.into_iter().map(StepView::redacted).collect();
        let attempts = client.attempts(id).await?;
        let worker = match workflow.holder {
            Some(holder) => client.worker(IncarnationId(holder)).await?,
            None => None,
        };
        let kind_paused = client.pause_of_kind(&workflow.kind).await?;
        Ok(Seen { workflow, steps, attempts, worker, kind_paused, now: client.now().await? })
    }

    /// Who works, and so many of those that died last.
    pub async fn workers(&self, dead_max: u32) -> Result<Vec<WorkerView>, Failed> {
        match self {
            Self::Database(client) => Ok(client.workers(dead_max).await?),
            Self::Server(server) => server.workers(dead_max).await,
        }
    }

    /// Which kinds are served, or wait to be.
    pub async fn kinds(&self) -> Result<Kinds, Failed> {
        match self {
            Self::Database(client) => Ok(Kinds { kinds: client.kinds().await?, now: client.now().await? }),
            Self::Server(server) => server.kinds().await,
        }
    }

    /// How many workflows have each status.
    pub async fn stats(&self) -> Result<Vec<StatusCount>, Failed> {
        match self {
            Self::Database(client) => Ok(client.stats().await?),
            Self::Server(server) => server.stats().await,
        }
    }

    /// Which errors workflows failed with. Of the filter, those members count that [`Client::failures`] goes by.
    pub async fn failures(&self, filter: Filter) -> Result<Failures, Failed> {
        match self {
            Self::Database(client) => Ok(client.failures(filter, None).await?),
            Self::Server(server) => server.failures(filter).await,
        }
    }

    /// Decides something about a workflow. With a token: once, however often it is said.
    pub async fn decide(
        &self,
        workflow: WorkflowId,
        verb: Verb,
        decision: &Decision,
        token: Option<Uuid>,
    ) -> Result<Answered, Failed> {
        let client = match self {
            Self::Database(client) => client,
            Self::Server(server) => return server.decide(workflow, verb, decision, token).await,
        };
        let operate = operate(client, decision, token);
        Ok(match verb {
            Verb::Cancel => operate.cancel(workflow).await?,
            Verb::Retry => operate.retry(workflow).await?,
            Verb::Abandon => operate.abandon(workflow).await?,
            Verb::Pause => operate.pause(workflow).await?,
            Verb::Resume => operate.resume(workflow).await?,
            Verb::SkipStep(position) => operate.skip_step(workflow, position).await?,
            Verb::Resolve(position, happened) => operate.resolve(workflow, position, happened).await?,
        })
    }

    /// Nothing of this kind is taken up until it is resumed.
    pub async fn pause_kind(&self, kind: &str, decision: &Decision) -> Result<(), Failed> {
        match self {
            Self::Database(client) => Ok(operate(client, decision, None).pause_kind(kind).await?),
            Self::Server(server) => server.pause_kind(kind, decision).await,
        }
    }

    /// False: it was not paused.
    pub async fn resume_kind(&self, kind: &str, decision: &Decision) -> Result<bool, Failed> {
        match self {
            Self::Database(client) => Ok(operate(client, decision, None).resume_kind(kind).await?),
            Self::Server(server) => server.resume_kind(kind, decision).await,
        }
    }
}

fn operate<'c>(client: &'c Client, decision: &Decision, token: Option<Uuid>) -> Operate<'c> {
    let operate = client.operate(&decision.by, &decision.why);
    match token {
        Some(token) => operate.token(token),
        None => operate,
    }
}
