//! How workflows are asked for: one, or many of one kind, in a transaction of their own or in the caller's.

use std::marker::PhantomData;

use backstitch_core::id::WorkflowId;
use backstitch_core::json::{Json, JsonError};
use chrono::{DateTime, Utc};
use sqlx::types::Json as AsJsonb;
use sqlx::{Connection, PgConnection};

use crate::database::Database;
use crate::error::Error;

/// What can be said of one workflow as of many.
#[derive(Debug)]
struct Order {
    kind: String,
    version: i32,
    queue: String,
    priority: i32,
    run_at: Option<DateTime<Utc>>,
    deadline_at: Option<DateTime<Utc>>,
}

impl Order {
    fn new(kind: String, version: u32) -> Self {
        let version = i32::try_from(version).unwrap_or(i32::MAX);
        Self { kind, version, queue: "default".to_owned(), priority: 1, run_at: None, deadline_at: None }
    }

    fn invalid(&self, source: JsonError) -> Error {
        Error::InvalidInput { kind: self.kind.clone(), source }
    }
}

macro_rules! order {
    () => {
        /// Waits in this queue. `default` unless said.
        pub fn queue(mut self, queue: impl Into<String>) -> Self {
            self.order.queue = queue.into();
            self
        }

        /// 0 is claimed first, 3 last; 1 unless said.
        pub fn priority(mut self, priority: u8) -> Self {
            self.order.priority = i32::from(priority);
            self
        }

        /// Not to be begun before.
        pub fn run_at(mut self, run_at: DateTime<Utc>) -> Self {
            self.order.run_at = Some(run_at);
            self
        }

        /// To be taken back unless it has ended by then.
        pub fn deadline_at(mut self, deadline_at: DateTime<Utc>) -> Self {
            self.order.deadline_at = Some(deadline_at);
            self
        }
    };
}

/// A workflow about to be asked for.
#[must_use = "nothing is asked before `send` or `send_in`"]
#[derive(Debug)]
pub struct Enqueue<'c, T> {
    database: &'c Database,
    order: Order,
    input: Result<Json, JsonError>,
    key: Option<String>,
    output: PhantomData<fn() -> T>,
}

impl<'c, T> Enqueue<'c, T> {
    pub(crate) fn new(
        database: &'c Database,
        kind: String,
        version: u32,
        input: Result<Json, JsonError>,
    ) -> Self {
        Self { database, order: Order::new(kind, version), input, key: None, output: PhantomData }
    }

    order!();

    /// The same key and input give the same workflow, however often it is asked for. 1 to 500 bytes.
    pub fn key(self, key: impl Into<String>) -> Self {
        Self { key: Some(key.into()), ..self }
    }

    /// Asks, in a transaction of its own. Repeat it with the same key after an error that says nothing.
    ///
    /// # Errors
    /// When the input or an option can't be taken, the key names a workflow with another input, or the database does not
    /// answer.
    pub async fn send(self) -> Result<Handle<T>, Error> {
        let database = self.database;
        let ask = self.ask()?;
        let workflow = database.run(DOING, async |connection| ask.send(connection).await).await;
        Ok(Handle::new(workflow.map_err(Error::said_by_contract)?))
    }

    /// As [`send`](Self::send), and tells whether the workflow is new: with a key, at the price of a transaction around.
    ///
    /// # Errors
    /// As [`send`](Self::send).
    pub async fn send_and_tell(self) -> Result<Told<T>, Error> {
        let database = self.database;
        let ask = self.ask()?;
        let told = database.run(DOING, async |connection| {
            if ask.key.is_none() {
                return Ok((ask.send(connection).await?, true));
            }
            // Behind a transaction pooler there is one already, and another inside would be of another number.
            if connection.is_in_transaction() {
                return ask.send_and_look(connection).await;
            }
            let mut transaction = connection.begin().await?;
            let told = ask.send_and_look(&mut transaction).await?;
            transaction.commit().await?;
            Ok(told)
        });
        let (workflow, is_new) = told.await.map_err(Error::said_by_contract)?;
        Ok(Told { handle: Handle::new(workflow), is_new })
    }

    /// Asks, in the caller's transaction: there is a workflow if and only if that commits.
    ///
    /// # Errors
    /// As [`send`](Self::send). The transaction is then of no further use.
    pub async fn send_in(self, transaction: &mut PgConnection) -> Result<Handle<T>, Error> {
        let workflow = self.ask()?.send(transaction).await;
        Ok(Handle::new(workflow.map_err(failed)?))
    }

    fn ask(self) -> Result<Ask, Error> {
        let input = self.input.map_err(|source| self.order.invalid(source))?;
        Ok(Ask { order: self.order, input, key: self.key })
    }
}

/// Workflows of one kind about to be asked for in one statement.
#[must_use = "nothing is asked before `send` or `send_in`"]
#[derive(Debug)]
pub struct EnqueueMany<'c, T> {
    database: &'c Database,
    order: Order,
    inputs: Result<Vec<Json>, JsonError>,
    keys: Option<Vec<String>>,
    output: PhantomData<fn() -> T>,
}

impl<'c, T> EnqueueMany<'c, T> {
    pub(crate) fn new(
        database: &'c Database,
        kind: String,
        version: u32,
        inputs: Result<Vec<Json>, JsonError>,
    ) -> Self {
        Self { database, order: Order::new(kind, version), inputs, keys: None, output: PhantomData }
    }

    order!();

    /// A key for each, in the same order; see [`Enqueue::key`].
    pub fn keys(self, keys: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self { keys: Some(keys.into_iter().map(Into::into).collect()), ..self }
    }

    /// Asks, in a transaction of its own: all of them, or on any error none. Their handles in the same order.
    ///
    /// # Errors
    /// As [`Enqueue::send`], and when there are not as many keys as workflows.
    pub async fn send(self) -> Result<Vec<Handle<T>>, Error> {
        let database = self.database;
        let ask = self.ask()?;
        let workflows = database.run(DOING, async |connection| ask.send(connection).await).await;
        Ok(workflows.map_err(Error::said_by_contract)?.into_iter().map(Handle::new).collect())
    }

    /// Asks, in the caller's transaction: there are workflows if and only if that commits.
    ///
    /// # Errors
    /// As [`send`](Self::send). The transaction is then of no further use.
    pub async fn send_in(self, transaction: &mut PgConnection) -> Result<Vec<Handle<T>>, Error> {
        let workflows = self.ask()?.send(transaction).await;
        Ok(workflows.map_err(failed)?.into_iter().map(Handle::new).collect())
    }

    fn ask(self) -> Result<AskMany, Error> {
        let inputs = self.inputs.map_err(|source| self.order.invalid(source))?;
        Ok(AskMany { order: self.order, inputs, keys: self.keys })
    }
}

const DOING: &str = "enqueueing a workflow";

fn failed(source: sqlx::Error) -> Error {
    Error::Database { doing: DOING, source }.said_by_contract()
}

/// The arguments of `backstitch.enqueue`.
struct Ask {
    order: Order,
    input: Json,
    key: Option<String>,
}

impl Ask {
    async fn send(self, connection: &mut PgConnection) -> sqlx::Result<WorkflowId> {
        let Self { order, input, key } = self;
        sqlx::query_scalar!(
            r#"select backstitch.enqueue($1, $2, $3, $4, $5, $6, $7, $8) as "workflow!""#,
            order.kind,
            AsJsonb(&input) as _,
            key,
            order.queue,
            order.priority,
            order.run_at,
            order.deadline_at,
            order.version
        )
        .fetch_one(connection)
        .await
        .map(WorkflowId)
    }

    /// Asks, and whether the workflow is new: within a transaction.
    async fn send_and_look(self, transaction: &mut PgConnection) -> sqlx::Result<(WorkflowId, bool)> {
        let workflow = self.send(transaction).await?;
        Ok((workflow, is_of_this_transaction(transaction, workflow).await?))
    }
}

/// Whether a workflow was written by this transaction. A look before it would not tell: two may ask at once.
async fn is_of_this_transaction(connection: &mut PgConnection, workflow: WorkflowId) -> sqlx::Result<bool> {
    sqlx::query_scalar!(
        r#"
        select exists (
            select from backstitch.workflow where workflow_id = $1 and xmin = pg_current_xact_id()::xid
        ) as "is_new!"
        "#,
        workflow.0
    )
    .fetch_one(connection)
    .await
}

/// The arguments of `backstitch.enqueue_many`.
struct AskMany {
    order: Order,
    inputs: Vec<Json>,
    keys: Option<Vec<String>>,
}

impl AskMany {
    async fn send(self, connection: &mut PgConnection) -> sqlx::Result<Vec<WorkflowId>> {
        let Self { order, inputs, keys } = self;
        let inputs: Vec<_> = inputs.iter().map(AsJsonb).collect();
        let workflows = sqlx::query_scalar!(
            r#"select backstitch.enqueue_many($1, $2, $3, $4, $5, $6, $7, $8) as "workflows!""#,
            order.kind,
            &inputs as _,
            keys.as_deref(),
            order.queue,
            order.priority,
            order.run_at,
            order.deadline_at,
            order.version
        )
        .fetch_one(connection)
        .await?;
        Ok(workflows.into_iter().map(WorkflowId).collect())
    }
}

/// A workflow that was asked for, and whether that made it.
#[derive(Debug)]
pub struct Told<T> {
    /// The workflow.
    pub handle: Handle<T>,
    /// False: its key named it already, with the same input.
    pub is_new: bool,
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
