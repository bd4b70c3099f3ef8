//! Past the pivot there is only forward; and attempts that end late, or never.

use std::time::Duration;

use backstitch::{Cause, Status};
use backstitch_testkit::script::{Act, Compensating, Do, Manner};
use backstitch_testkit::wait::until;
use backstitch_testkit::world::World;

use crate::WORKER;
use crate::facts::{alerts, attempts, effects, told};

#[tokio::test]
async fn failure_after_the_pivot_goes_forward() {
    let world = World::new().await;
    let worker = world.start_worker().await;
    let pivot = Act::new().manner(Manner::Pivot);
    // A permanent error, an untruth, and transient ones beyond every patience: none of them turns it back.
    let failing = Act::new()
        .run([Do::Fail("broken".into())])
        .run([Do::Reject("nothing_happened".into())])
        .run([Do::Retry("busy".into())])
        .run([Do::Retry("busy".into())]);
    let handle = world.enqueue(Compensating::of([Act::new(), pivot, failing])).await;
    world.reaches(handle.workflow, Status::NeedsAttention).await;
    assert_eq!(alerts(&world, handle.workflow).await, ["forward_stuck"]);
    world.reaches(handle.workflow, Status::Completed).await;
    assert_eq!(world.completes(&handle).await, [Some(1), Some(1), Some(5)]);
    assert_eq!(alerts(&world, handle.workflow).await, [""; 0], "nobody is needed any more");
    for position in 0..3 {
        assert_eq!(effects(&world, handle.workflow, position).await, (1, 0));
    }
    worker.shut_down().await;
}

#[tokio::test]
async fn pivot_in_doubt_is_never_compensated() {
    let world = World::new().await;
    let mut doomed = world.spawn_worker_with_lock(WORKER).await;
    // It dies in the pivot, and is taken over; the next attempt never answers.
    let pivot = Act::new().manner(Manner::Pivot).run([Do::Effect, Do::Kill]).run([Do::Effect, Do::Hang]);
    let handle = world.enqueue(Compensating::of([Act::new(), pivot, Act::new()])).await;
    assert!(!doomed.gone().await);
    let worker = world.start_worker_with_lock().await;
    assert_eq!(world.completes(&handle).await, [Some(1), Some(3), Some(1)]);
    assert_eq!(effects(&world, handle.workflow, 0).await, (1, 0));
    assert_eq!(effects(&world, handle.workflow, 1).await, (3, 0));
    worker.shut_down().await;
}

#[tokio::test]
async fn step_timeout_is_in_doubt() {
    let world = World::new().await;
    let worker = world.start_worker().await;
    let slow = Act::new().run([Do::Effect, Do::Hang]);
    let again = world.enqueue(Compensating::of([slow.clone()])).await;
    // What may have happened can't be denied by a later attempt.
    let denied = world.enqueue(Compensating::of([slow.run([Do::Reject("never_happened".into())])])).await;
    assert_eq!(world.completes(&again).await, [Some(2)]);
    let expected = told([(0, "run", 1, "in_doubt"), (0, "run", 2, "succeeded")]);
    assert_eq!(attempts(&world.client, again.workflow).await, expected);
    let unfinished = world.compensates(&denied).await;
    assert_eq!(unfinished.error.failure.code, "never_happened");
    let expected =
        told([(0, "run", 1, "in_doubt"), (0, "run", 2, "failed"), (0, "compensate", 1, "succeeded")]);
    assert_eq!(attempts(&world.client, denied.workflow).await, expected);
    worker.shut_down().await;
}

#[tokio::test]
async fn workflow_deadline_compensates() {
    let world = World::new().await;
    let passed = world.client.enqueue(Compensating::of([Act::new()])).deadline_at(chrono::Utc::now());
    let passed = passed.send().await.expect("it is enqueued");
    let worker = world.start_worker().await;
    // In the middle of an attempt; and past the pivot, where it says nothing any more.
    let wait = Act::new().manner(Manner::Long).run([Do::Effect, Do::Wait("long after".into())]);
    let running = Compensating::of([Act::new(), wait.clone(), Act::new()]);
    let forward = Compensating::of([Act::new().manner(Manner::Pivot), wait, Act::new()]);
    let deadline_at = chrono::Utc::now() + chrono::TimeDelta::milliseconds(300);
    let running =
        world.client.enqueue(running).deadline_at(deadline_at).send().await.expect("it is enqueued");
    let forward =
        world.client.enqueue(forward).deadline_at(deadline_at).send().await.expect("it is enqueued");
    until("it is long after the deadline", async || {
        let now = world.ledger.now().await.expect("it answers");
        (now > deadline_at + chrono::TimeDelta::milliseconds(300)).then_some(())
    })
    .await;
    world.ledger.open("long after").await;
    assert_eq!(world.completes(&forward).await, [Some(1), Some(1), Some(1)]);
    for (handle, steps_begun) in [(&passed, 0), (&running, 2)] {
        let unfinished = world.compensates(handle).await;
        assert_eq!(unfinished.error.failure.code, "deadline_passed");
        assert_eq!(unfinished.report.cause, Cause::DeadlinePassed);
        assert_eq!(unfinished.report.steps.len(), steps_begun);
    }
    worker.shut_down().await;
}

#[tokio::test]
async fn hanging_compensation_is_timed_out_and_retried() {
    let world = World::new().await;
    let worker = world.start_worker().await;
    let hanging = Act::new().compensate([Do::Hang]).compensate([Do::Effect, Do::Hang]);
    let failing = Act::new().run([Do::Reject("broken".into())]);
    let handle = world.enqueue(Compensating::of([Act::new(), hanging, failing])).await;
    let unfinished = world.compensates(&handle).await;
    assert_eq!(unfinished.error.failure.code, "broken");
    let expected = told([
        (0, "run", 1, "succeeded"),
        (1, "run", 1, "succeeded"),
        (2, "run", 1, "rejected"),
        (1, "compensate", 1, "in_doubt"),
        (1, "compensate", 2, "in_doubt"),
        (1, "compensate", 3, "succeeded"),
        (0, "compensate", 1, "succeeded"),
    ]);
    assert_eq!(attempts(&world.client, handle.workflow).await, expected);
    let attempts = world.client.attempts(handle.workflow).await.expect("it answers");
    let took = attempts[3].ended_at.expect("ended") - attempts[3].began_at;
    assert!(
        took.to_std().expect("forward") >= Duration::from_millis(800),
        "its timeout was waited out: {took}"
    );
    worker.shut_down().await;
}

#[tokio::test]
async fn a_late_effect_after_its_compensation_leaves_nothing() {
    let world = World::new().await;
    let worker = world.start_worker().await;
    let late = Act::new().run([Do::EffectAfterCompensation, Do::Fail("no_answer".into())]);
    let handle = world.enqueue(Compensating::of([Act::new(), late])).await;
    let unfinished = world.compensates(&handle).await;
    assert_eq!(unfinished.error.failure.code, "no_answer");
    let refused = until("the late effect arrives", async || {
        let entries = world.ledger.entries(handle.workflow).await;
        entries.into_iter().find(|entry| entry.position == 1 && entry.direction == "run")
    })
    .await;
    assert!(!refused.taken, "the tombstone refuses it");
    assert!(world.ledger.standing(handle.workflow).await.is_empty());
    world.assert_sound(handle.workflow).await;
    worker.shut_down().await;
}
