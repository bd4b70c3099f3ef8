//! What a workflow costs: the statements and rows that the documentation names, counted by Postgres itself.

use backstitch_testkit::script::{Act, Compensating, Do};
use backstitch_testkit::wait::{until, until_equal};
use backstitch_testkit::world::World;
use sqlx::PgPool;

/// How often each function of the protocol was called in this database.
async fn calls(pool: &PgPool, function: &str) -> i64 {
    // What the workers' sessions counted is told at their leisure, at most a second later.
    sqlx::query_scalar(
        "select coalesce(sum(calls), 0)::bigint from pg_stat_user_functions where schemaname = 'backstitch' and funcname = $1",
    )
    .bind(function)
    .fetch_one(pool)
    .await
    .expect("it answers")
}

async fn journal_rows(pool: &PgPool) -> i64 {
    number(pool, "select count(*) from backstitch.journal").await
}

/// A world that counts, as the owner of its database may ask.
async fn counting() -> World {
    let world = World::new().await;
    sqlx::query(sqlx::AssertSqlSafe(format!(
        "alter database {} set track_functions = 'pl'",
        world.database.name
    )))
    .execute(&world.pool)
    .await
    .expect("the owner may");
    world
}

#[tokio::test]
async fn five_steps_cost_six_rows_and_six_appends() {
    let world = counting().await;
    let worker = world.start_worker().await;
    let handle = world.enqueue(Compensating::of(vec![Act::new(); 5])).await;
    world.completes(&handle).await;
    worker.shut_down().await;
    assert_eq!(
        journal_rows(&world.pool).await,
        6,
        "five intents, of which four carry an outcome, and the end"
    );
    until_equal("the appends are counted", 6, async || calls(&world.pool, "append").await).await;
}

#[tokio::test]
async fn five_steps_whose_last_fails_cost_eleven_rows() {
    let world = World::new().await;
    let worker = world.start_worker().await;
    let mut steps = vec![Act::new(); 4];
    steps.push(Act::new().run([Do::Effect, Do::Fail("broken".into())]));
    let handle = world.enqueue(Compensating::of(steps)).await;
    world.compensates(&handle).await;
    worker.shut_down().await;
    // Five intents forward; the failed outcome with the first compensation, four more of those, and the end.
    assert_eq!(journal_rows(&world.pool).await, 11);
}

#[tokio::test]
async fn records_that_come_while_an_append_is_under_way_share_the_next() {
    const WORKFLOWS: i64 = 100;
    let world = World::new().await;
    // Claims pass, appends wait.
    let mut gate = world.pool.begin().await.expect("a transaction");
    sqlx::query("lock table backstitch.journal in share mode").execute(&mut *gate).await.expect("the lock");
    let script = || Compensating::of(vec![Act::new(); 5]);
    world.client.enqueue_many((0..WORKFLOWS).map(|_| script())).send().await.expect("they are enqueued");
    let worker = world.start_worker().await;
    let asks = "select count(*) from backstitch.ready where holder is not null";
    until_equal("all are claimed", WORKFLOWS, async || number(&world.pool, asks).await).await;
    let asks = "select count(*) from pg_stat_activity
        where datname = current_database() and wait_event_type = 'Lock' and query like '%backstitch.append%'";
    until("an append waits", async || (number(&world.pool, asks).await > 0).then_some(())).await;
    gate.rollback().await.expect("a rollback");
    worker.settle().await.expect("it answers");
    worker.shut_down().await;
    assert_eq!(journal_rows(&world.pool).await, 6 * WORKFLOWS);
    let first = "select count(distinct xmin::text) from backstitch.journal where seq = 0";
    let appends = number(&world.pool, first).await;
    println!("{WORKFLOWS} first records in {appends} appends");
    assert!(appends <= WORKFLOWS / 10, "{WORKFLOWS} first records took {appends} appends");
}

async fn number(pool: &PgPool, sql: &'static str) -> i64 {
    sqlx::query_scalar(sql).fetch_one(pool).await.expect("it answers")
}
