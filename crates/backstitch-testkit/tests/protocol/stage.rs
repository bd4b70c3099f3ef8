//! Where an interleaving takes place: a migrated database, sessions by their process, and the protocol's functions.

use backstitch::Database;
use backstitch_postgres::test::TestDatabase;
use backstitch_testkit::wait::until;
use serde_json::Value;
use sqlx::postgres::PgRow;
use sqlx::{AssertSqlSafe, Connection, PgConnection, PgExecutor, PgPool, Row};
use tokio::task::JoinHandle;
use uuid::Uuid;

pub struct Stage {
    pub database: TestDatabase,
    pub pool: PgPool,
}

/// A connection, and its process in the server.
pub struct Session {
    pub connection: PgConnection,
    pub pid: i32,
}

impl Stage {
    pub async fn new() -> Self {
        let database = backstitch_postgres::test::database().await;
        let engine = Database::connect(&database.url).await.expect("the test database answers");
        backstitch::migrate(&engine).await.expect("the migrations apply");
        engine.close().await;
        Self { pool: database.pool().await, database }
    }

    pub async fn session(&self) -> Session {
        let mut connection = PgConnection::connect(&self.database.url).await.expect("the server takes us");
        let pid = one(&mut connection, "select pg_backend_pid()").await;
        Session { connection, pid }
    }

    /// A worker that serves kind `k`, with a lease of an hour.
    pub async fn worker(&self) -> i32 {
        register(&self.pool, Uuid::new_v4(), "k").await
    }

    pub async fn enqueued(&self) -> Uuid {
        one(&self.pool, "select backstitch.enqueue('k', '{}')").await
    }

    /// A workflow that this worker holds, under epoch 1 if it is new.
    pub async fn held_by(&self, worker: i32) -> Uuid {
        let workflow = self.enqueued().await;
        assert!(claim(&self.pool, worker, 1).await.contains(&workflow), "it claims what is due");
        workflow
    }

    /// Runs a statement of the test's own.
    pub async fn run(&self, sql: &str) {
        execute(&self.pool, sql).await.expect("the test's own statement");
    }

    /// One column of a workflow in `ready`, as text.
    pub async fn ready(&self, workflow: Uuid, column: &str) -> Option<String> {
        let sql = format!("select ({column})::text from backstitch.ready where workflow_id = '{workflow}'");
        one(&self.pool, &sql).await
    }

    /// A workflow's journal, a line a row: `epoch outcome turn intent`, each `-` where there is none.
    pub async fn journal(&self, workflow: Uuid) -> Vec<String> {
        let sql = "
            select epoch || coalesce(' ' || outcome_direction || ' ' || outcome_position || ' ' || outcome, '')
                || coalesce(' ' || turn, '')
                || coalesce(' -> ' || intent_direction || ' ' || intent_position, '')
            from backstitch.journal where workflow_id = $1 order by seq";
        sqlx::query_scalar(sql).bind(workflow).fetch_all(&self.pool).await.expect("the journal")
    }

    /// Waits until this process waits for a lock of this sort: `advisory`, `transactionid`, `tuple`.
    pub async fn waits(&self, pid: i32, lock: &str) {
        until(&format!("process {pid} waits for a lock ({lock})"), async || {
            self.is_waiting(pid, lock).await.then_some(())
        })
        .await;
    }

    pub async fn is_waiting(&self, pid: i32, lock: &str) -> bool {
        let sql = "select exists (select from pg_stat_activity
            where pid = $1 and wait_event_type = 'Lock' and wait_event = $2)";
        sqlx::query_scalar(sql).bind(pid).bind(lock).fetch_one(&self.pool).await.expect("the activity")
    }

    /// Replaces a function of the protocol by a copy of it with one text changed: the stand-in that lacks a guard.
    pub async fn weaken(&self, function: &str, guard: &str, without: &str) {
        // The youngest of that name is the one that today's workers call.
        let sql = format!(
            "select pg_get_functiondef(oid) from pg_proc
            where pronamespace = 'backstitch'::regnamespace and proname = '{function}' order by oid desc limit 1"
        );
        let text: String = one(&self.pool, &sql).await;
        assert!(text.contains(guard), "{function} has {guard:?}");
        self.run(&text.replace(guard, without)).await;
    }

    /// A transaction that keeps a workflow's place `seq` half written, so that whoever writes there waits for it.
    pub async fn half_written(&self, workflow: Uuid, seq: i32) -> sqlx::Transaction<'static, sqlx::Postgres> {
        let mut transaction = self.pool.begin().await.expect("a transaction");
        let sql = format!(
            "insert into backstitch.journal (workflow_id, seq, epoch, written_at, turn)
            values ('{workflow}', {seq}, 0, now(), 'retry')"
        );
        execute(&mut *transaction, &sql).await.expect("half a row");
        transaction
    }
}

impl Session {
    pub async fn open(&mut self) {
        execute(&mut self.connection, "begin").await.expect("begin");
    }

    pub async fn commit(&mut self) -> sqlx::Result<()> {
        execute(&mut self.connection, "commit").await
    }
}

pub async fn execute(on: impl PgExecutor<'_>, sql: &str) -> sqlx::Result<()> {
    sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).execute(on).await.map(|_| ())
}

/// The one value of a test's own question.
pub async fn one<T>(on: impl PgExecutor<'_>, sql: &str) -> T
where
    T: for<'r> sqlx::Decode<'r, sqlx::Postgres> + sqlx::Type<sqlx::Postgres> + Send + Unpin,
{
    sqlx::query_scalar(AssertSqlSafe(sql.to_owned()))
        .fetch_one(on)
        .await
        .unwrap_or_else(|error| panic!("{sql}: {error}"))
}

pub async fn register(on: impl PgExecutor<'_>, token: Uuid, kind: &str) -> i32 {
    sqlx::query_scalar("select backstitch.register($1, 'host', 1, '0', array[$2], interval '1 hour')")
        .bind(token)
        .bind(kind)
        .fetch_one(on)
        .await
        .expect("it registers")
}

/// The workflows of kind `k` that a claim got, in its order.
pub async fn claim(on: impl PgExecutor<'_>, worker: i32, limit: i32) -> Vec<Uuid> {
    claim_of(on, worker, &["default"], &["k"], limit).await.iter().map(|row| row.get("workflow_id")).collect()
}

/// The most rows and bytes of a journal that a claim brings along, as today's workers ask.
pub const SHORT: (i32, i32) = (64, 64 * 1024);

pub async fn claim_of(
    on: impl PgExecutor<'_>,
    worker: i32,
    queues: &[&str],
    kinds: &[&str],
    limit: i32,
) -> Vec<PgRow> {
    sqlx::query("select * from backstitch.claim($1, $2, $3, $4, 1, $5, $6)")
        .bind(worker)
        .bind(queues)
        .bind(kinds)
        .bind(limit)
        .bind(SHORT.0)
        .bind(SHORT.1)
        .fetch_all(on)
        .await
        .expect("it claims")
}

/// Buries a worker whose process is known to be gone. How many workflows came free; None: it was not to be buried.
pub async fn bury(on: impl PgExecutor<'_>, worker: i32) -> Option<i32> {
    sqlx::query_scalar("select backstitch.bury($1, 0, true)")
        .bind(worker)
        .fetch_one(on)
        .await
        .expect("it answers")
}

/// Buries in a session of its own, so that the test may watch it wait.
pub fn burying(session: Session, worker: i32) -> JoinHandle<Option<i32>> {
    let mut session = session;
    tokio::spawn(async move { bury(&mut session.connection, worker).await })
}

pub async fn cancel(on: impl PgExecutor<'_>, workflow: Uuid) -> String {
    sqlx::query_scalar("select backstitch.cancel($1, 'somebody', 'because')")
        .bind(workflow)
        .fetch_one(on)
        .await
        .expect("it answers")
}

pub async fn park(on: impl PgExecutor<'_>, worker: i32, workflow: Uuid, epoch: i32, after: Value) -> bool {
    sqlx::query_scalar("select backstitch.park($1, $2, $3, interval '0', $4)")
        .bind(worker)
        .bind(workflow)
        .bind(epoch)
        .bind(after)
        .fetch_one(on)
        .await
        .expect("it answers")
}

/// The error's code, such as BSF02. Panics when there was none.
pub fn code<T: std::fmt::Debug>(result: sqlx::Result<T>) -> String {
    let error = result.expect_err("the database refuses it");
    error.as_database_error().and_then(|error| error.code()).expect("an error of the database").into_owned()
}
