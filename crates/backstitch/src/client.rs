//! What anyone may ask: enqueue, wait, cancel, retry, and see.

use std::marker::PhantomData;
use std::time::Duration;

use backstitch_core::failure::WorkflowError;
use backstitch_core::id::WorkflowId;
use backstitch_core::json::{Json, JsonError};
use backstitch_core::limits::INPUT_BYTES_MAX;
use backstitch_core::report::RollbackReport;
use chrono::{DateTime, Utc};
use serde::Serialize;
use serde::de::DeserializeOwned;
use sqlx::PgConnection;

use crate::database::Database;
use crate::error::Error;
use crate::view::{self, Status, WorkflowView};
use crate::workflow::Workflow;

/// How long a waiter waits between two looks: at first, and at most.
const WAIT_FIRST: Duration = Duration::from_millis(2);
const WAIT_MAX: Duration = Duration::from_millis(100);

/// Asks for workflows, and asks about them. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Client {
    pub(crate) database: Database,
}

impl Client {
    /// Asks this database.
    #[must_use]
    pub fn new(database: Database) -> Self {
        Self { database }
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
    ///     Ending::NeedsAttention(unfinished) => println!("{} still owed", unfinished.report.owed().count()),
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn enqueue<S, W: Workflow<S>>(&self, workflow: W) -> Enqueue<'_, W::Output> {
        let input = Json::encode(&workflow, INPUT_BYTES_MAX);
        Enqueue::new(self, W::KIND.to_owned(), input).version(W::VERSION)
    }

    /// A workflow of a kind that this program has no code of.
    pub fn enqueue_untyped(
        &self,
        kind: impl Into<String>,
        input: &impl Serialize,
    ) -> Enqueue<'_, serde_json::Value> {
        Enqueue::new(self, kind.into(), Json::encode(input, INPUT_BYTES_MAX))
    }

    /// Waits until the workflow has ended, or needs attention.
    ///
    /// # Errors
    /// When the database does not answer, there is no such workflow, or its output does not fit its type.
    pub async fn wait<T: DeserializeOwned>(&self, handle: &Handle<T>) -> Result<Ending<T>, Error> {
        let mut pause = WAIT_FIRST;
        loop {
            match self.poll(handle).await {
                Ok(Some(ending)) => return Ok(ending),
                Ok(None) => {}
                Err(error) if error.is_transient() => tracing::debug!(%error, "waiting on"),
                Err(error) => return Err(error),
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(WAIT_MAX);
        }
    }

    /// How the workflow ended. None: it has not.
    ///
    /// # Errors
    /// As [`wait`](Self::wait).
    pub async fn poll<T: DeserializeOwned>(&self, handle: &Handle<T>) -> Result<Option<Ending<T>>, Error> {
        let view = self.workflow(handle.workflow).await?.ok_or(Error::NotFound(handle.workflow))?;
        view.ending()
    }

    /// Asks that a workflow be taken back.
    ///
    /// # Errors
    /// When the database does not answer, or `by` or `why` is empty.
    pub async fn cancel(&self, workflow: WorkflowId, by: &str, why: &str) -> Result<Answered, Error> {
        let (by, why) = (by.to_owned(), why.to_owned());
        let answered = self
            .database
            .run("cancelling a workflow", move |connection| {
                Box::pin(async move {
                    sqlx::query_scalar!(
                        r#"select backstitch.cancel($1, $2, $3) as "answer!""#,
                        workflow.0,
                        by,
                        why
                    )
                    .fetch_one(connection)
                    .await
                })
            })
            .await
            .map_err(refused)?;
        Answered::from_word(workflow, &answered)
    }

    /// Makes a waiting workflow due now.
    ///
    /// # Errors
    /// When the database does not answer, or `by` or `why` is empty.
    pub async fn retry(&self, workflow: WorkflowId, by: &str, why: &str) -> Result<Answered, Error> {
        let (by, why) = (by.to_owned(), why.to_owned());
        let answered = self
            .database
            .run("retrying a workflow", move |connection| {
                Box::pin(async move {
                    sqlx::query_scalar!(
                        r#"select backstitch.retry($1, $2, $3) as "answer!""#,
                        workflow.0,
                        by,
                        why
                    )
                    .fetch_one(connection)
                    .await
                })
            })
            .await
            .map_err(refused)?;
        Answered::from_word(workflow, &answered)
    }

    /// One workflow as it stands. None: there is none of this id.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn workflow(&self, workflow: WorkflowId) -> Result<Option<WorkflowView>, Error> {
        view::workflow(&self.database, workflow).await
    }
}

/// What the database said to a cancel or a retry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Answered {
    /// It is so, or was so already.
    Accepted,
    /// There is no way back any more.
    PastThePivot,
    /// It is on its way back already.
    IsCompensating,
    /// A worker is at it right now.
    IsRunning,
    /// It has ended.
    HasEnded,
    /// There is no such workflow.
    NotFound,
}

impl Answered {
    fn from_word(workflow: WorkflowId, word: &str) -> Result<Self, Error> {
        Ok(match word {
            "accepted" => Self::Accepted,
            "past_the_pivot" => Self::PastThePivot,
            "is_compensating" => Self::IsCompensating,
            "is_running" => Self::IsRunning,
            "has_ended" => Self::HasEnded,
            "not_found" => Self::NotFound,
            other => {
                return Err(Error::Unreadable { workflow, message: format!("unknown answer {other:?}") });
            }
        })
    }
}

/// A workflow about to be asked for.
#[must_use = "nothing is asked before `send` or `send_in`"]
#[derive(Debug)]
pub struct Enqueue<'c, T> {
    client: &'c Client,
    kind: String,
    input: Result<Json, JsonError>,
    key: Option<String>,
    queue: String,
    priority: u8,
    run_at: Option<DateTime<Utc>>,
    deadline_at: Option<DateTime<Utc>>,
    version: u32,
    output: PhantomData<fn() -> T>,
}

impl<'c, T> Enqueue<'c, T> {
    fn new(client: &'c Client, kind: String, input: Result<Json, JsonError>) -> Self {
        Self {
            client,
            kind,
            input,
            key: None,
            queue: "default".to_owned(),
            priority: 1,
            run_at: None,
            deadline_at: None,
            version: 1,
            output: PhantomData,
        }
    }

    /// The same key and input give the same workflow, however often it is asked for. 1 to 500 bytes.
    pub fn key(self, key: impl Into<String>) -> Self {
        Self { key: Some(key.into()), ..self }
    }

    /// Waits in this queue. `default` unless said.
    pub fn queue(self, queue: impl Into<String>) -> Self {
        Self { queue: queue.into(), ..self }
    }

    /// 0 is claimed first, 3 last; 1 unless said.
    pub fn priority(self, priority: u8) -> Self {
        Self { priority, ..self }
    }

    /// Not to be begun before.
    pub fn run_at(self, run_at: DateTime<Utc>) -> Self {
        Self { run_at: Some(run_at), ..self }
    }

    /// To be taken back unless it has ended by then.
    pub fn deadline_at(self, deadline_at: DateTime<Utc>) -> Self {
        Self { deadline_at: Some(deadline_at), ..self }
    }

    fn version(self, version: u32) -> Self {
        Self { version, ..self }
    }

    /// Asks, in a transaction of its own. Repeat it with the same key after an error that says nothing.
    ///
    /// # Errors
    /// When the input or an option can't be taken, the key names a workflow with another input, or the database does not
    /// answer.
    pub async fn send(self) -> Result<Handle<T>, Error> {
        let database = self.client.database.clone();
        let ask = self.ask()?;
        let workflow = database
            .run("enqueueing a workflow", move |connection| {
                Box::pin(async move { ask.send(connection).await })
            })
            .await
            .map_err(refused)?;
        Ok(Handle::new(workflow))
    }

    /// Asks, in the caller's transaction: there is a workflow if and only if that commits.
    ///
    /// # Errors
    /// As [`send`](Self::send). The transaction is then of no further use.
    pub async fn send_in(self, transaction: &mut PgConnection) -> Result<Handle<T>, Error> {
        let ask = self.ask()?;
        let doing = "enqueueing a workflow";
        let workflow =
            ask.send(transaction).await.map_err(|source| refused(Error::Database { doing, source }))?;
        Ok(Handle::new(workflow))
    }

    fn ask(self) -> Result<Ask, Error> {
        let input = self.input.map_err(|source| Error::InvalidInput { kind: self.kind.clone(), source })?;
        Ok(Ask {
            input: input
                .decode()
                .map_err(|source| Error::InvalidInput { kind: self.kind.clone(), source })?,
            kind: self.kind,
            key: self.key,
            queue: self.queue,
            priority: i32::from(self.priority),
            run_at: self.run_at,
            deadline_at: self.deadline_at,
            version: i32::try_from(self.version).unwrap_or(i32::MAX),
        })
    }
}

/// The arguments of `backstitch.enqueue`.
struct Ask {
    kind: String,
    input: serde_json::Value,
    key: Option<String>,
    queue: String,
    priority: i32,
    run_at: Option<DateTime<Utc>>,
    deadline_at: Option<DateTime<Utc>>,
    version: i32,
}

impl Ask {
    async fn send(self, connection: &mut PgConnection) -> sqlx::Result<WorkflowId> {
        sqlx::query_scalar!(
            r#"select backstitch.enqueue($1, $2, $3, $4, $5, $6, $7, $8) as "workflow!""#,
            self.kind,
            self.input,
            self.key,
            self.queue,
            self.priority,
            self.run_at,
            self.deadline_at,
            self.version
        )
        .fetch_one(connection)
        .await
        .map(WorkflowId)
    }
}

/// The errors that the contract raises have codes of their own, class BS.
fn refused(error: Error) -> Error {
    let Error::Database { source: sqlx::Error::Database(said), .. } = &error else {
        return error;
    };
    match said.code().as_deref() {
        Some("BSK01") => {
            let said = said.downcast_ref::<sqlx::postgres::PgDatabaseError>();
            match said.detail().and_then(|detail| detail.parse().ok()) {
                Some(first) => Error::KeyTaken { first, message: said.message().to_owned() },
                None => Error::Refused(said.message().to_owned()),
            }
        }
        Some(code) if code.starts_with("BS") => Error::Refused(said.message().to_owned()),
        _ => error,
    }
}

/// A workflow that was asked for, and the type that it ends with.
#[derive(Debug)]
pub struct Handle<T> {
    /// Its id.
    pub workflow: WorkflowId,
    output: PhantomData<fn() -> T>,
}

impl<T> Handle<T> {
    /// A workflow known by its id.
    #[must_use]
    pub fn new(workflow: WorkflowId) -> Self {
        Self { workflow, output: PhantomData }
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
            Status::Compensated | Status::NeedsAttention => {
                let (error, report) =
                    self.error.clone().zip(self.report.clone()).unwrap_or_else(|| self.unexplained());
                let unfinished = Box::new(Unfinished { workflow: self.workflow, error, report });
                Ok(Some(match self.status {
                    Status::Compensated => Ending::Compensated(unfinished),
                    _ => Ending::NeedsAttention(unfinished),
                }))
            }
        }
    }
}
