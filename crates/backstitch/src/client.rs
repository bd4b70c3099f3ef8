//! What anyone may ask of workflows: wait, follow, and see. How they are asked for is in `enqueue`, what an operator decides in
//! `operate`.

use std::sync::Arc;

use backstitch_core::failure::WorkflowError;
use backstitch_core::id::WorkflowId;
use backstitch_core::json::Json;
use backstitch_core::limits::INPUT_BYTES_MAX;
use backstitch_core::record::Cause;
use backstitch_core::report::RollbackReport;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::database::Database;
use crate::enqueue::{Enqueue, EnqueueMany, Handle};
use crate::error::Error;
use crate::follows::{Events, Follows};
use crate::timing::Timing;
use crate::view::{self, Status, WorkflowView};
use crate::waits::Waits;
use crate::workflow::Workflow;

/// Asks for workflows, and asks about them. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Client {
    pub(crate) database: Database,
    waits: Arc<Waits>,
    follows: Arc<Follows>,
}

impl Client {
    /// Asks this database.
    #[must_use]
    pub fn new(database: Database) -> Self {
        let waits = Arc::new(Waits::new(database.clone(), Timing::DEFAULT.poll));
        let follows = Arc::new(Follows::new(database.clone(), Timing::DEFAULT.poll));
        Self { database, waits, follows }
    }

    /// Uses these times instead of the default ones. Of them a client goes by its poll alone.
    #[must_use]
    pub fn timing(self, timing: Timing) -> Self {
        let waits = Arc::new(Waits::new(self.database.clone(), timing.poll));
        let follows = Arc::new(Follows::new(self.database.clone(), timing.poll));
        Self { waits, follows, ..self }
    }

    /// The database that it asks.
    #[must_use]
    pub fn database(&self) -> &Database {
        &self.database
    }

    /// A workflow to be asked for.
    ///
    /// ```no_run
    /// # use backstitch::*;
    /// # #[derive(serde::Serialize, serde::Deserialize)] struct StartGateway { organization: u32 }
    /// # impl Workflow<()> for StartGateway {
    /// #     const KIND: &'static str = "gateway.start";
    /// #     const RECOVERY: Recovery = Recovery::Compensate;
    /// #     type Output = String;
    /// #     fn steps(_: &mut Steps<()>) {}
    /// #     async fn run(self, _: &Flow<()>) -> Result<String, WorkflowError> { Ok(String::new()) }
    /// # }
    /// # async fn ask(client: Client) -> Result<(), Error> {
    /// let handle = client.enqueue(StartGateway { organization: 7 }).key("7/1").send().await?;
    /// match client.wait(&handle).await? {
    ///     Ending::Completed(hostname) => println!("{hostname} answers"),
    ///     Ending::Compensated(unfinished) => println!("{}, and {}", unfinished.error, unfinished.report),
    ///     Ending::NeedsAttention(unfinished) | Ending::Abandoned(unfinished) => {
    ///         println!("{} still owed", unfinished.report.owed().count());
    ///     }
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn enqueue<S, W: Workflow<S>>(&self, workflow: W) -> Enqueue<'_, W::Output> {
        let input = Json::encode(&workflow, INPUT_BYTES_MAX);
        Enqueue::new(&self.database, W::KIND.to_owned(), W::VERSION, input)
    }

    /// Workflows of one kind to be asked for in one statement: thousands at the price of a few.
    ///
    /// ```no_run
    /// # use backstitch::*;
    /// # #[derive(serde::Serialize, serde::Deserialize)] struct StartGateway { organization: u32 }
    /// # impl Workflow<()> for StartGateway {
    /// #     const KIND: &'static str = "gateway.start";
    /// #     const RECOVERY: Recovery = Recovery::Compensate;
    /// #     type Output = String;
    /// #     fn steps(_: &mut Steps<()>) {}
    /// #     async fn run(self, _: &Flow<()>) -> Result<String, WorkflowError> { Ok(String::new()) }
    /// # }
    /// # async fn ask(client: Client) -> Result<(), Error> {
    /// let organizations = 1..=1000;
    /// let handles = client
    ///     .enqueue_many(organizations.clone().map(|organization| StartGateway { organization }))
    ///     .keys(organizations.map(|organization| format!("{organization}/1")))
    ///     .send()
    ///     .await?;
    /// assert_eq!(handles.len(), 1000);
    /// # Ok(())
    /// # }
    /// ```
    pub fn enqueue_many<S, W: Workflow<S>>(
        &self,
        workflows: impl IntoIterator<Item = W>,
    ) -> EnqueueMany<'_, W::Output> {
        let inputs = workflows.into_iter().map(|workflow| Json::encode(&workflow, INPUT_BYTES_MAX)).collect();
        EnqueueMany::new(&self.database, W::KIND.to_owned(), W::VERSION, inputs)
    }

    /// A workflow of a kind that this program has no code of.
    pub fn enqueue_untyped(
        &self,
        kind: impl Into<String>,
        input: &impl Serialize,
    ) -> Enqueue<'_, serde_json::Value> {
        Enqueue::new(&self.database, kind.into(), 1, Json::encode(input, INPUT_BYTES_MAX))
    }

    /// Workflows of one kind that this program has no code of.
    pub fn enqueue_many_untyped(
        &self,
        kind: impl Into<String>,
        inputs: impl IntoIterator<Item = impl Serialize>,
    ) -> EnqueueMany<'_, serde_json::Value> {
        let inputs = inputs.into_iter().map(|input| Json::encode(&input, INPUT_BYTES_MAX)).collect();
        EnqueueMany::new(&self.database, kind.into(), 1, inputs)
    }

    /// Waits until the workflow has ended, or needs attention.
    ///
    /// However many wait through a client and its clones, they share one connection beside the pool, on which the database
    /// tells that something has ended, and one look for all of them a poll.
    ///
    /// # Errors
    /// When the database does not answer, there is no such workflow, or its output does not fit its type.
    pub async fn wait<T: DeserializeOwned>(&self, handle: &Handle<T>) -> Result<Ending<T>, Error> {
        loop {
            // Register before looking, or an end in between is told to nobody.
            let waiter = self.waits.register(handle.workflow);
            match self.poll(handle).await {
                Ok(Some(ending)) => return Ok(ending),
                Ok(None) => {}
                Err(error) if error.is_transient() => tracing::debug!(%error, "waiting on"),
                Err(error) => return Err(error),
            }
            waiter.told().await;
        }
    }

    /// What happens to a workflow, as it is journaled: from its beginning on, through every try and every decision, to its end.
    ///
    /// It ends with the workflow and not before. One that needs attention is tried on, and a person may decide about it: what
    /// comes of that is told, too. Whoever wants to know only that a person is needed [waits](Self::wait).
    ///
    /// However many follow through a client and its clones, they share one look a poll for all of them, on a connection of the
    /// pool. An outage of the database is waited out. An error is the last item: there is no such workflow, or what stands in
    /// its journal can't be read.
    ///
    /// ```no_run
    /// # use backstitch::*;
    /// # async fn follow(client: Client, workflow: WorkflowId) -> Result<(), Error> {
    /// let mut events = client.follow(workflow);
    /// while let Some(event) = events.next().await {
    ///     let event = event?;
    ///     if let Some(ended) = event.ended {
    ///         println!("{}: {} {}", event.at, ended.step, ended.outcome);
    ///     }
    /// }
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn follow(&self, workflow: WorkflowId) -> Events {
        Events::of(Arc::clone(&self.follows), workflow)
    }

    /// How the workflow ended. None: it has not.
    ///
    /// # Errors
    /// As [`wait`](Self::wait).
    pub async fn poll<T: DeserializeOwned>(&self, handle: &Handle<T>) -> Result<Option<Ending<T>>, Error> {
        let view = self.workflow(handle.workflow).await?.ok_or(Error::NotFound(handle.workflow))?;
        view.ending()
    }

    /// One workflow as it stands. None: there is none of this id.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn workflow(&self, workflow: WorkflowId) -> Result<Option<WorkflowView>, Error> {
        view::workflow(&self.database, workflow).await
    }
}

/// How a workflow ended, or stands when its waiter is answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ending<T> {
    /// Everything done.
    Completed(T),
    /// Everything taken back.
    Compensated(Box<Unfinished>),
    /// Something still stands outside, or a person must look. It is tried on, slowly.
    NeedsAttention(Box<Unfinished>),
    /// An operator let it be, with what the report still calls owed.
    Abandoned(Box<Unfinished>),
}

/// The original error, and what became of each step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Unfinished {
    /// The workflow.
    pub workflow: WorkflowId,
    /// The original error.
    pub error: WorkflowError,
    /// What became of each step.
    pub report: RollbackReport,
}

impl WorkflowView {
    /// How it ended. None: it has not.
    ///
    /// # Errors
    /// When what stands there does not fit its type.
    pub fn ending<T: DeserializeOwned>(&self) -> Result<Option<Ending<T>>, Error> {
        let unreadable = |what: &str, error: &dyn std::fmt::Display| Error::Unreadable {
            workflow: self.workflow,
            message: format!("its {what} can't be read: {error}"),
        };
        match self.status {
            Status::Pending | Status::Running | Status::Compensating => Ok(None),
            Status::Completed => {
                let output = self.output.as_ref().ok_or_else(|| unreadable("output", &"it is missing"))?;
                output
                    .decode()
                    .map(|output| Some(Ending::Completed(output)))
                    .map_err(|error| unreadable("output", &error))
            }
            Status::Compensated | Status::NeedsAttention | Status::Abandoned => {
                let error = self.error.clone().unwrap_or_else(|| self.unexplained());
                // None of a workflow that needs a person without having turned back.
                let report = self.report.clone().unwrap_or_else(|| RollbackReport {
                    cause: Cause::Failed(error.clone()),
                    steps: Vec::new(),
                });
                let unfinished = Box::new(Unfinished { workflow: self.workflow, error, report });
                Ok(Some(match self.status {
                    Status::Compensated => Ending::Compensated(unfinished),
                    Status::Abandoned => Ending::Abandoned(unfinished),
                    _ => Ending::NeedsAttention(unfinished),
                }))
            }
        }
    }
}
