//! What is asked for, how often, in which transaction, and who hears of it.

use backstitch::{Error, Status};
use backstitch_testkit::script::{Act, Compensating, Do};
use backstitch_testkit::world::World;

use crate::facts::ended;

#[tokio::test]
async fn lost_notification_is_found_by_polling() {
    let world = World::new().await;
    let worker = world.start_worker().await;
    // Somebody else is on the way through the gate: nobody is told of what is asked for meanwhile.
    let mut gate = world.pool.begin().await.expect("it begins");
    let held: bool = sqlx::query_scalar("select pg_try_advisory_xact_lock(backstitch.fence_class() + 1, 0)")
        .fetch_one(&mut *gate)
        .await
        .expect("it answers");
    assert!(held);
    let mut listener = sqlx::postgres::PgListener::connect_with(&world.pool).await.expect("it connects");
    listener.listen("backstitch_ready").await.expect("it listens");
    let handle = world.enqueue(Compensating::of([Act::new()])).await;
    assert_eq!(world.completes(&handle).await, [Some(1)]);
    gate.rollback().await.expect("it ends");
    // The first that is heard of is the next request.
    world.enqueue(Compensating::of([])).await;
    listener.recv().await.expect("it hears");
    assert!(listener.next_buffered().is_none(), "one notification, and it was the second one's");
    worker.shut_down().await;
}

#[tokio::test]
async fn rolled_back_enqueue_runs_nothing() {
    let world = World::new().await;
    let worker = world.start_worker().await;
    let ask = |mark: &str| {
        let step = Act::new().run([Do::Effect, Do::Mark(mark.into())]);
        world.client.enqueue(Compensating::of([step])).key(mark)
    };
    let mut transaction = world.pool.begin().await.expect("it begins");
    let dropped = ask("rolled back").send_in(&mut transaction).await.expect("it is enqueued");
    transaction.rollback().await.expect("it rolls back");
    let mut transaction = world.pool.begin().await.expect("it begins");
    let kept = ask("committed").send_in(&mut transaction).await.expect("it is enqueued");
    transaction.commit().await.expect("it commits");
    assert_eq!(world.completes(&kept).await, [Some(1)]);
    assert!(world.client.workflow(dropped.workflow).await.expect("it answers").is_none());
    assert!(!world.ledger.is_marked("rolled back").await);
    let rows: i64 = sqlx::query_scalar(
        "select (select count(*) from backstitch.workflow) + (select count(*) from backstitch.key)
            + (select count(*) from backstitch.ready)",
    )
    .fetch_one(&world.pool)
    .await
    .expect("it answers");
    assert_eq!(rows, 2, "a workflow and its key: what was rolled back left nothing");
    worker.shut_down().await;
}

#[tokio::test]
async fn same_key_same_workflow() {
    let world = World::new().await;
    let script = || Compensating::of([Act::new()]);
    let ask = || world.client.enqueue(script()).key("one").send();
    let asked = tokio::join!(ask(), ask(), ask(), ask(), ask(), ask(), ask(), ask());
    let asked = [asked.0, asked.1, asked.2, asked.3, asked.4, asked.5, asked.6, asked.7];
    let first = asked[0].as_ref().expect("it is enqueued").workflow;
    for handle in &asked {
        assert_eq!(handle.as_ref().expect("it is enqueued").workflow, first);
    }
    let worker = world.start_worker().await;
    world.reaches(first, Status::Completed).await;
    // Also once it has ended.
    let handle = ask().await.expect("it is enqueued");
    assert_eq!(handle.workflow, first);
    assert_eq!(world.completes(&handle).await, [Some(1)]);
    assert_eq!(ended(&world, "completed").await, 1);
    let other = world.client.enqueue(script()).key("two").send().await.expect("it is enqueued");
    assert_ne!(other.workflow, first);
    world.completes(&other).await;
    worker.shut_down().await;
}

#[tokio::test]
async fn same_key_other_input_is_an_error_that_names_the_first() {
    let world = World::new().await;
    let worker = world.start_worker().await;
    let handle = world.client.enqueue(Compensating::of([Act::new()])).key("one").send().await;
    let handle = handle.expect("it is enqueued");
    let first = handle.workflow;
    let second = world.client.enqueue(Compensating::of([Act::new(), Act::new()])).key("one").send().await;
    match second {
        Err(Error::KeyTaken { first: named, message }) => {
            assert_eq!(named, first);
            assert!(message.contains(&first.to_string()) && message.contains("\"one\""), "{message}");
        }
        other => panic!("the key is taken: {other:?}"),
    }
    let workflows: i64 = sqlx::query_scalar("select count(*) from backstitch.workflow")
        .fetch_one(&world.pool)
        .await
        .expect("it answers");
    assert_eq!(workflows, 1);
    assert_eq!(world.completes(&handle).await, [Some(1)], "the first goes its way");
    worker.shut_down().await;
}

#[tokio::test]
async fn null_byte_and_deep_json_and_oversize_are_refused_at_the_door() {
    let world = World::new().await;
    let worker = world.start_worker().await;
    let asks =
        |mark: String| world.client.enqueue(Compensating::of([Act::new().run([Do::Effect, Do::Mark(mark)])]));
    // By the client.
    let oversize = "x".repeat(backstitch::limits::INPUT_BYTES_MAX);
    for bad in ["null \0 byte".to_owned(), oversize.clone()] {
        asks(bad).send().await.expect_err("the client refuses it");
    }
    // By whoever speaks SQL: jsonb itself has no null bytes.
    let deep = |levels: usize| format!("{}{}", "[".repeat(levels), "]".repeat(levels));
    let depth = backstitch::limits::DEPTH_MAX + 1;
    for bad in ["\"\\u0000\"".to_owned(), deep(depth), deep(100_000), format!("\"{oversize}\"")] {
        let asked: Result<uuid::Uuid, _> =
            sqlx::query_scalar("select backstitch.enqueue('script.compensate', $1::text::jsonb)")
                .bind(&bad)
                .fetch_one(&world.pool)
                .await;
        asked.expect_err("the database refuses it");
    }
    // One that a step would hand over or fail with is the step's own affair: the neighbours in its batch don't notice.
    let failing = Compensating::of([Act::new(), Act::new().run([Do::Fail("null \0 byte".into())])]);
    let (failing, good) = (world.client.enqueue(failing).send().await, asks("good".into()).send().await);
    failing.expect_err("the client refuses it, wherever it stands");
    assert_eq!(world.completes(&good.expect("it is enqueued")).await, [Some(1)]);
    let workflows: i64 = sqlx::query_scalar("select count(*) from backstitch.workflow")
        .fetch_one(&world.pool)
        .await
        .expect("it answers");
    assert_eq!(workflows, 1, "what was refused left nothing");
    worker.shut_down().await;
}
