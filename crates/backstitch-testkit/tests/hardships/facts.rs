//! What a case asks of the journal's database beside what the client shows.

use backstitch::{Client, WorkflowId};
use backstitch_testkit::cut::{Line, Moment, Passage, Statement};
use backstitch_testkit::wait::until;
use backstitch_testkit::world::World;
use chrono::{DateTime, Utc};

/// One attempt: position, direction, number, outcome.
pub type Told = (u32, String, u32, Option<String>);

/// Every attempt of a workflow, in the order of its beginning.
pub async fn attempts(client: &Client, workflow: WorkflowId) -> Vec<Told> {
    let attempts = client.attempts(workflow).await.expect("it answers");
    attempts.into_iter().map(|it| (it.position, it.direction, it.attempt, it.outcome)).collect()
}

/// The attempts that one must be.
pub fn told<const N: usize>(attempts: [(u32, &str, u32, &str); N]) -> Vec<Told> {
    attempts
        .into_iter()
        .map(|(position, direction, attempt, outcome)| {
            (position, direction.to_owned(), attempt, Some(outcome.to_owned()))
        })
        .collect()
}

/// One life of a worker.
#[derive(Debug, Clone, sqlx::FromRow)]
pub struct Incarnation {
    #[sqlx(rename = "incarnation_id")]
    pub id: i32,
    pub pid: i32,
    pub lease_until: DateTime<Utc>,
    pub died_at: Option<DateTime<Utc>>,
    pub death: Option<String>,
}

impl Incarnation {
    pub fn death(&self) -> &str {
        self.death.as_deref().unwrap_or("lives")
    }
}

/// Every life, the first one first.
pub async fn incarnations(world: &World) -> Vec<Incarnation> {
    sqlx::query_as(
        "select incarnation_id, pid, lease_until, died_at, death from backstitch.incarnation order by incarnation_id",
    )
    .fetch_all(&world.pool)
    .await
    .expect("it answers")
}

/// Waits until the first worker of a world has died so.
pub async fn first_dies(world: &World, death: &str) -> Incarnation {
    until(&format!("the first worker's death is {death}"), async || {
        let first = incarnations(world).await.swap_remove(0);
        (first.death() == death).then_some(first)
    })
    .await
}

/// Waits until the lease of every worker is over, by the database's clock.
pub async fn leases_end(world: &World) {
    until("every lease is over", async || {
        let held: bool = sqlx::query_scalar(
            "select exists (select from backstitch.incarnation where died_at is null and lease_until > clock_timestamp())",
        )
        .fetch_one(&world.pool)
        .await
        .expect("it answers");
        (!held).then_some(())
    })
    .await;
}

/// Which incarnation wrote each row of a journal, in the order of seq.
pub async fn writers(world: &World, workflow: WorkflowId) -> Vec<Option<i32>> {
    sqlx::query_scalar("select incarnation from backstitch.journal where workflow_id = $1 order by seq")
        .bind(workflow.0)
        .fetch_all(&world.pool)
        .await
        .expect("it answers")
}

/// How many deaths are charged to a live workflow.
pub async fn crash_charges(world: &World, workflow: WorkflowId) -> i32 {
    number(world, "select crash_charges::int from backstitch.ready where workflow_id = $1", workflow).await
}

/// How often a workflow was claimed.
pub async fn epoch(world: &World, workflow: WorkflowId) -> i32 {
    number(world, "select epoch from backstitch.ready where workflow_id = $1", workflow).await
}

async fn number(world: &World, query: &'static str, workflow: WorkflowId) -> i32 {
    let number = sqlx::query_scalar(query).bind(workflow.0).fetch_optional(&world.pool).await;
    number.expect("it answers").expect("the workflow is live")
}

/// How many workflows ended so.
pub async fn ended(world: &World, status: &str) -> i64 {
    sqlx::query_scalar("select count(*) from backstitch.workflow where status = $1")
        .bind(status)
        .fetch_one(&world.pool)
        .await
        .expect("it answers")
}

/// The reasons of a workflow's open alerts.
pub async fn alerts(world: &World, workflow: WorkflowId) -> Vec<String> {
    sqlx::query_scalar(
        "select reason from backstitch.alert where workflow_id = $1 and resolved_at is null order by alert_id",
    )
    .bind(workflow.0)
    .fetch_all(&world.pool)
    .await
    .expect("it answers")
}

/// How many effects each direction wrote, the refused ones too: run, compensate.
pub async fn effects(world: &World, workflow: WorkflowId, position: u32) -> (usize, usize) {
    let entries = world.ledger.entries(workflow).await;
    let of = |direction: &str| {
        entries.iter().filter(|entry| entry.position == position && entry.direction == direction).count()
    };
    (of("run"), of("compensate"))
}

/// Waits until the worker is about to say this; from then on Postgres hears the worker, and the worker does not hear Postgres.
pub async fn hold_answers_from(line: &Line, statement: Statement) {
    let held = line.hold(Moment::BeforeStatement, statement, 0);
    let held = held.await.expect("the line holds");
    line.let_through(Passage::AnswersHeld);
    held.pass();
}
