//! What a workflow costs: the statements and rows that the documentation names, counted by Postgres itself.

use backstitch_testkit::script::{Act, Compensating, Do};
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
    sqlx::query_scalar("select count(*) from backstitch.journal").fetch_one(pool).await.expect("it answers")
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
    backstitch_testkit::wait::until_equal("the appends are counted", 6, async || {
        calls(&world.pool, "append").await
    })
    .await;
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
async fn workflows_in_flight_share_their_appends() {
    let world = counting().await;
    for _ in 0..100 {
        world.enqueue(Compensating::of(vec![Act::new(); 5])).await;
    }
    let worker = world.start_worker().await;
    worker.settle().await.expect("it answers");
    worker.shut_down().await;
    assert_eq!(journal_rows(&world.pool).await, 600);
    let appends = backstitch_testkit::wait::until("the appends are counted", async || {
        let appends = calls(&world.pool, "append").await;
        (appends > 0).then_some(appends)
    })
    .await;
    println!("600 records in {appends} appends");
    assert!(appends < 300, "600 records took {appends} appends");
}
