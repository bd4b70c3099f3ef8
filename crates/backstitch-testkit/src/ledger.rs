//! What really happened: each effect of a test's steps is a row, in a database that the engine knows nothing of.
//!
//! The ledger is a target as the design wants them: it takes the same key once, and a compensation leaves a tombstone
//! that refuses a run arriving later. Both can be switched off, to see that the oracle notices.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::ops::RangeInclusive;

use backstitch::{Attempt, WorkflowId};
use chrono::{DateTime, Utc};
use sqlx::{PgConnection, PgPool};
use uuid::Uuid;

use crate::judge::{self, CameTo, Effect, Key};
use crate::recorder::direction;

/// The ledger, and the marks and gates by which steps and tests talk to each other.
#[derive(Debug, Clone)]
pub struct Ledger {
    pool: PgPool,
}

/// One row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Whose.
    pub workflow: WorkflowId,
    /// Which step.
    pub position: u32,
    /// `run` or `compensate`.
    pub direction: String,
    /// Which attempt wrote it.
    pub attempt: u32,
    /// Under which claim.
    pub epoch: i32,
    /// Whether the target took it; a run after its compensation is refused.
    pub taken: bool,
}

const SCHEMA: &str = "
    create table if not exists effect (
        entry bigint generated always as identity primary key,
        workflow uuid not null,
        position int not null,
        direction text not null,
        key text not null,
        attempt int not null,
        epoch int not null,
        taken boolean not null
    );
    create index if not exists effect_of on effect (workflow, position);
    create table if not exists mark (name text primary key);
    create table if not exists gate (name text primary key);
    create table if not exists beat (name text primary key, at timestamptz not null, count int not null);
";

/// What an effect writes: in the ledger's own database, or inside a step's transaction.
const WRITE: &str = "
    insert into effect (workflow, position, direction, key, attempt, epoch, taken)
    select $1, $2, $3, $4, $5, $6,
        $3 <> 'run' or not exists (
            select from effect where workflow = $1 and position = $2 and direction = 'compensate'
        )
    returning taken
";

impl Ledger {
    /// The ledger in this database, made if it is not there.
    ///
    /// # Panics
    /// When the database does not answer, as everything here.
    pub async fn in_database(pool: PgPool) -> Self {
        sqlx::raw_sql(SCHEMA).execute(&pool).await.expect("the ledger's schema");
        Self { pool }
    }

    /// The ledger that is in this database already.
    #[must_use]
    pub fn there(pool: PgPool) -> Self {
        Self { pool }
    }

    /// Writes the effect of this attempt. False: refused by a tombstone.
    ///
    /// # Errors
    /// When the ledger's database does not answer.
    pub async fn write(&self, attempt: &Attempt) -> Result<bool, sqlx::Error> {
        let mut transaction = self.pool.begin().await?;
        // One at a time per step: a run and a compensation that race are one after the other.
        sqlx::query("select pg_advisory_xact_lock(hashtextextended($1, 0))")
            .bind(format!("{}/{}", attempt.workflow(), attempt.key().position))
            .execute(&mut *transaction)
            .await?;
        let taken = write_in(&mut transaction, attempt).await?;
        transaction.commit().await?;
        Ok(taken)
    }

    /// The same in one statement, which does not wait for another of its step.
    ///
    /// # Errors
    /// As [`write`](Self::write).
    pub async fn send(&self, attempt: &Attempt) -> Result<bool, sqlx::Error> {
        write_in(&mut *self.pool.acquire().await?, attempt).await
    }

    /// Every row of a workflow, in the order of writing.
    pub async fn entries(&self, workflow: WorkflowId) -> Vec<Entry> {
        let rows: Vec<(i32, String, i32, i32, bool)> = sqlx::query_as(
            "select position, direction, attempt, epoch, taken from effect where workflow = $1 order by entry",
        )
        .bind(workflow.0)
        .fetch_all(&self.pool)
        .await
        .expect("the ledger answers");
        rows.into_iter()
            .map(|(position, direction, attempt, epoch, taken)| Entry {
                workflow,
                position: position.unsigned_abs(),
                direction,
                attempt: attempt.unsigned_abs(),
                epoch,
                taken,
            })
            .collect()
    }

    /// Writes of one workflow what another left, as far as `kept` says so: as if its attempts had been the other's.
    pub async fn copy(&self, from: WorkflowId, to: WorkflowId, kept: impl Fn(&Entry) -> bool) {
        for entry in self.entries(from).await.into_iter().filter(kept) {
            sqlx::query(WRITE)
                .bind(to.0)
                .bind(i32::try_from(entry.position).expect("few"))
                .bind(&entry.direction)
                .bind(format!("{to}/{}/{}", entry.position, entry.direction))
                .bind(i32::try_from(entry.attempt).expect("few"))
                .bind(entry.epoch)
                .execute(&self.pool)
                .await
                .expect("the ledger answers");
        }
    }

    /// How many rows there are, of all workflows.
    pub async fn count(&self) -> u64 {
        let count: i64 = sqlx::query_scalar("select count(*) from effect")
            .fetch_one(&self.pool)
            .await
            .expect("the ledger answers");
        count.unsigned_abs()
    }

    /// How many times each step's effect stands.
    pub async fn standing(&self, workflow: WorkflowId) -> BTreeMap<u32, u32> {
        judge::standing(&effects(self.rows_of(workflow).await))
    }

    /// What a workflow's steps did, in order.
    pub(crate) async fn rows_of(&self, workflow: WorkflowId) -> Vec<LedgerRow> {
        let mut rows = self.rows(workflow.0..=workflow.0).await.expect("the ledger answers");
        rows.remove(&workflow.0).unwrap_or_default()
    }

    /// What the steps of each of these workflows did, in order.
    pub(crate) async fn rows(
        &self,
        workflows: RangeInclusive<Uuid>,
    ) -> sqlx::Result<HashMap<Uuid, Vec<LedgerRow>>> {
        let rows: Vec<(Uuid, String, i32, String, i32, i32, bool)> = sqlx::query_as(
            "select workflow, key, position, direction, attempt, epoch, taken from effect
            where workflow between $1 and $2 order by entry",
        )
        .bind(workflows.start())
        .bind(workflows.end())
        .fetch_all(&self.pool)
        .await?;
        let mut of: HashMap<_, Vec<_>> = HashMap::new();
        for (workflow, key, position, direction, attempt, epoch, taken) in rows {
            let attempt = (position.unsigned_abs(), direction, attempt.unsigned_abs());
            of.entry(workflow).or_default().push((key, attempt, epoch, taken));
        }
        Ok(of)
    }

    /// Leaves a mark for the test to wait for.
    ///
    /// # Errors
    /// When the ledger's database does not answer.
    pub async fn mark(&self, name: &str) -> Result<(), sqlx::Error> {
        sqlx::query("insert into mark values ($1) on conflict do nothing")
            .bind(name)
            .execute(&self.pool)
            .await
            .map(|_| ())
    }

    /// Whether somebody left this mark.
    pub async fn is_marked(&self, name: &str) -> bool {
        sqlx::query_scalar("select exists (select from mark where name = $1)")
            .bind(name)
            .fetch_one(&self.pool)
            .await
            .expect("the ledger answers")
    }

    /// Leaves a sign of life.
    ///
    /// # Errors
    /// When the ledger's database does not answer.
    pub async fn beat(&self, name: &str) -> Result<(), sqlx::Error> {
        sqlx::query(
            "insert into beat values ($1, clock_timestamp(), 1)
            on conflict (name) do update set at = excluded.at, count = beat.count + 1",
        )
        .bind(name)
        .execute(&self.pool)
        .await
        .map(|_| ())
    }

    /// When the last sign of life was left, and how many there were.
    pub async fn last_beat(&self, name: &str) -> Option<(DateTime<Utc>, i32)> {
        sqlx::query_as("select at, count from beat where name = $1")
            .bind(name)
            .fetch_optional(&self.pool)
            .await
            .expect("the ledger answers")
    }

    /// The clock of the ledger's server.
    ///
    /// # Errors
    /// When the ledger's database does not answer.
    pub async fn now(&self) -> Result<DateTime<Utc>, sqlx::Error> {
        sqlx::query_scalar("select clock_timestamp()").fetch_one(&self.pool).await
    }

    /// Opens a gate for every step that waits before it.
    pub async fn open(&self, gate: &str) {
        sqlx::query("insert into gate values ($1) on conflict do nothing")
            .bind(gate)
            .execute(&self.pool)
            .await
            .expect("the ledger answers");
    }

    /// Whether the gate is open.
    ///
    /// # Errors
    /// When the ledger's database does not answer.
    pub async fn is_open(&self, gate: &str) -> Result<bool, sqlx::Error> {
        sqlx::query_scalar("select exists (select from gate where name = $1)")
            .bind(gate)
            .fetch_one(&self.pool)
            .await
    }
}

/// Writes the effect of a transactional attempt, in its transaction.
///
/// # Errors
/// When the database does not answer.
pub async fn write_in(connection: &mut PgConnection, attempt: &Attempt) -> Result<bool, sqlx::Error> {
    let key = attempt.key();
    let direction = direction(key.direction);
    sqlx::query_scalar(WRITE)
        .bind(key.workflow.0)
        .bind(i32::try_from(key.position.0).expect("few"))
        .bind(direction)
        .bind(key.to_string())
        .bind(i32::try_from(attempt.number()).expect("few"))
        .bind(attempt.epoch().0)
        .fetch_one(connection)
        .await
}

/// A row of a ledger: idempotency key, attempt, epoch, and whether it was taken.
pub(crate) type LedgerRow = (String, Key, i32, bool);

/// The rows of a ledger outside as effects: it takes the same key once.
pub(crate) fn effects(rows: Vec<LedgerRow>) -> Vec<Effect> {
    let mut seen = HashSet::new();
    rows.into_iter()
        .map(|(idempotency_key, key, epoch, taken)| {
            let came_to = match (taken, taken && seen.insert(idempotency_key)) {
                (_, true) => CameTo::Applied,
                (true, false) => CameTo::Repeated,
                (false, false) => CameTo::Nothing,
            };
            Effect { key, epoch, came_to }
        })
        .collect()
}
