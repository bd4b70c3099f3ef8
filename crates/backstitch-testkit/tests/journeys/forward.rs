//! Crash points on the way forward.

use backstitch_testkit::script::{Act, Compensating, Do, Resuming};
use backstitch_testkit::world::World;

use crate::WORKER;

#[tokio::test]
async fn three_steps_complete() {
    let world = World::new().await;
    let worker = world.start_worker().await;
    let handle = world.enqueue(Compensating::of([Act::new(), Act::new(), Act::new()])).await;
    assert_eq!(world.completes(&handle).await, [Some(1), Some(1), Some(1)]);
    worker.shut_down().await;
}

#[tokio::test]
async fn crash_after_intent_before_effect() {
    let world = World::new().await;
    let first = world.spawn_worker(WORKER).await;
    let killed = || Act::new().run([Do::Kill]);
    let resumed = world.enqueue(Resuming::of([Act::new(), killed(), Act::new()])).await;
    let mut first = first;
    assert!(!first.gone().await);
    let compensated = world.enqueue(Compensating::of([Act::new(), killed(), Act::new()])).await;
    let mut second = world.spawn_worker(WORKER).await;
    assert!(!second.gone().await);
    let worker = world.start_worker().await;
    assert_eq!(world.completes(&resumed).await, [Some(1), Some(2), Some(1)]);
    let unfinished = world.compensates(&compensated).await;
    assert_eq!(unfinished.error.failure.code, "orphaned");
    worker.shut_down().await;
}

#[tokio::test]
async fn a_failing_step_is_taken_back() {
    let world = World::new().await;
    let worker = world.start_worker().await;
    let failing = Act::new().run([Do::Effect, Do::Fail("broken".into())]);
    let handle = world.enqueue(Compensating::of([Act::new(), failing, Act::new()])).await;
    let unfinished = world.compensates(&handle).await;
    assert_eq!(unfinished.error.failure.code, "broken");
    worker.shut_down().await;
}
