//! Looks that take too long, and whoever asks for them again and again.

use std::time::Duration;

use backstitch::{Error, Filter};
use backstitch_testkit::script::{Act, Compensating};
use backstitch_testkit::wait::until;
use backstitch_testkit::world::World;
use tokio::task::JoinSet;
use tokio::time::timeout;

/// How many may look through much at once: half of the connections of a pool.
const AT_ONCE: i64 = 3;

/// Every look at the time takes for ever, so every look that needs the time does.
async fn time_stands_still(world: &World) {
    sqlx::query(
        "create or replace function backstitch.clock() returns timestamptz language sql volatile
        as $$ select clock_timestamp() from pg_sleep(3600) $$",
    )
    .execute(&world.pool)
    .await
    .expect("it is ours");
}

/// How many of the database's sessions take a census.
async fn under_way(world: &World) -> i64 {
    sqlx::query_scalar(
        "select count(*) from pg_stat_activity
        where datname = current_database() and state = 'active' and wait_event = 'PgSleep'",
    )
    .fetch_one(&world.pool)
    .await
    .expect("it answers")
}

#[tokio::test]
async fn a_look_that_takes_too_long_is_ended_in_the_server_and_says_what_to_do() {
    let world = World::new().await;
    time_stands_still(&world).await;
    let error = world.client.census().await.expect_err("it takes for ever");
    assert!(matches!(error, Error::LookTooSlow { .. }), "{error}");
    assert!(!error.is_transient(), "the same one would take as long");
    assert_eq!(
        error.to_string(),
        "taking a census: not done within 3.5 s, and given up: look through less, such as a shorter time (since, until)"
    );
    assert_eq!(under_way(&world).await, 0, "nor is anything left of it");
}

#[tokio::test]
async fn whoever_asks_for_slow_looks_and_hangs_up_has_three_sessions_and_keeps_nobody_out() {
    let world = World::new().await;
    let handle = world.enqueue(Compensating::of([Act::new()])).await;
    time_stands_still(&world).await;
    let mut callers = JoinSet::new();
    for _ in 0..40 {
        let client = world.client.clone();
        // Most hang up while they wait, some in the middle of a look.
        callers.spawn(async move { timeout(Duration::from_millis(200), client.census()).await.is_err() });
    }
    until("all places are taken", async || (under_way(&world).await == AT_ONCE).then_some(())).await;
    while let Some(hung_up) = callers.join_next().await {
        assert!(hung_up.expect("it does not panic"));
        assert!(under_way(&world).await <= AT_ONCE);
    }
    // Who is looked up meanwhile, is; who looks through much waits for a place, or is told that there is none.
    assert!(world.client.find_token([0; 32]).await.expect("it answers").is_none());
    let view = world.client.workflow(handle.workflow).await.expect("it answers");
    assert!(view.is_some(), "one is not much");
    let listing = world.client.workflows(Filter { limit: 1, ..Filter::default() });
    assert_eq!(listing.await.expect("there is a place when the server gave up").len(), 1);
}
