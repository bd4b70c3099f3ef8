//! Compensations that keep failing: retried, told of, never given up.

use std::time::Duration;

use backstitch::{Ending, Fate, Status, WorkflowId};
use backstitch_testkit::script::{Act, CONDUCT, Compensating, Do, Manner};
use backstitch_testkit::wait::until;
use backstitch_testkit::world::World;

use crate::look::{alerts, broken, compensated, effects, fates, giving_up};

/// How long each attempt to compensate this step waited for after the one before it had failed.
async fn waits(world: &World, workflow: WorkflowId, position: u32) -> Vec<Duration> {
    let mut attempts = world.client.attempts(workflow).await.expect("it answers");
    attempts.retain(|attempt| attempt.position == position && attempt.direction == "compensate");
    let waited = |pair: &[backstitch::AttemptView]| {
        (pair[1].began_at - pair[0].ended_at.expect("it failed")).to_std().expect("later")
    };
    attempts.windows(2).map(waited).collect()
}

/// Waits until this compensation has been tried so often.
async fn tried(world: &World, workflow: WorkflowId, position: u32, times: u32) {
    until("it was tried often enough", async || {
        let attempts = world.client.attempts(workflow).await.expect("it answers");
        let ended = |attempt: &&backstitch::AttemptView| {
            attempt.position == position && attempt.direction == "compensate" && attempt.ended_at.is_some()
        };
        (attempts.iter().filter(ended).count() >= times as usize).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_compensation_that_fails_is_retried_with_backoff() {
    let world = World::new().await;
    let worker = world.start_worker().await;
    // However it says so: of a compensation, nothing is final.
    let failing = [Do::Fail("no".into()), Do::Reject("never".into())];
    let step = failing.into_iter().fold(Act::new(), |step, failure| step.compensate([failure]));
    for manner in [Manner::Dependent, Manner::Transactional] {
        let handle = world.enqueue(giving_up::<false>([Act::new(), step.clone().manner(manner)])).await;
        let unfinished = world.compensates(&handle).await;
        assert_eq!(unfinished.error.failure.code, "enough");
        assert_eq!(fates(&unfinished), [compensated(1), compensated(3)]);
        let waits = waits(&world, handle.workflow, 1).await;
        // Less up to a fifth.
        let at_least = [1, 2].map(|times| CONDUCT.retry.delay_first.mul_f64(0.8) * times);
        assert!(waits.iter().zip(at_least).all(|(waited, at_least)| *waited >= at_least), "{waits:?}");
        assert_eq!(alerts(&world, handle.workflow).await, 0, "within its patience nobody is called");
    }
    worker.shut_down().await;
}

#[tokio::test]
async fn independent_steps_are_compensated_when_one_fails_for_good() {
    let world = World::new().await;
    let worker = world.start_worker().await;
    let stuck = Act::new().compensates_once_open("healed");
    let steps = [Act::new(), Act::new().manner(Manner::Independent), stuck, Act::new()];
    let handle = world.enqueue(giving_up::<false>(steps)).await;
    let workflow = handle.workflow;
    world.reaches(workflow, Status::NeedsAttention).await;

    let view = world.client.workflow(workflow).await.expect("it answers").expect("it exists");
    let Ok(Some(Ending::NeedsAttention(unfinished))) = view.ending::<()>() else {
        panic!("a waiter is answered at needs_attention: {view:#?}");
    };
    assert_eq!(unfinished.error.failure.code, "enough", "the original error");
    let owed: Vec<_> = unfinished.report.owed().map(|step| step.position.0).collect();
    assert_eq!(owed, [0, 2], "the independent one passed, the dependent one waits: {}", unfinished.report);
    assert!(view.attention.is_some_and(|message| message.contains("target_broken")), "it says why");
    let in_one_transaction: i64 = sqlx::query_scalar(
        "select count(*) from backstitch.alert a join backstitch.journal j using (workflow_id)
        where workflow_id = $1 and a.xmin = j.xmin and j.outcome_direction = 'compensate'",
    )
    .bind(workflow.0)
    .fetch_one(&world.pool)
    .await
    .expect("it answers");
    assert_eq!(in_one_transaction, 1, "the alert came with the record that made it");

    tried(&world, workflow, 2, CONDUCT.patience.attempts + 2).await;
    assert_eq!(alerts(&world, workflow).await, 1, "told once");
    let slow = waits(&world, workflow, 2).await.split_off(CONDUCT.patience.attempts as usize - 1);
    assert!(slow.iter().all(|waited| *waited >= CONDUCT.patience.slow_retry), "{slow:?}");
    let back = effects(&world, workflow).await.split_off(4);
    assert_eq!(back, ["3 compensate 1", "1 compensate 1"]);

    world.ledger.open("healed").await;
    let unfinished = world.compensates(&handle).await;
    let fates = fates(&unfinished);
    assert_eq!((&fates[0], &fates[1], &fates[3]), (&compensated(1), &compensated(1), &compensated(1)));
    assert!(matches!(fates[2], Fate::Compensated { attempts } if attempts > CONDUCT.patience.attempts + 2));
    let open: bool = sqlx::query_scalar(
        "select exists (select from backstitch.alert where workflow_id = $1 and resolved_at is null)",
    )
    .bind(workflow.0)
    .fetch_one(&world.pool)
    .await
    .expect("it answers");
    assert!(!open, "nobody needs to look any more");
    worker.shut_down().await;
}

#[tokio::test]
async fn when_a_local_compensations_patience_ends_the_workflow_unwinds() {
    let world = World::new().await;
    let worker = world.start_worker().await;
    // The function would catch the error; it is never given it.
    let step = broken().caught().compensates_once_open("healed");
    let handle = world.enqueue(Compensating::of([Act::new(), step, Act::new()])).await;
    let workflow = handle.workflow;
    world.reaches(workflow, Status::NeedsAttention).await;
    let Some(Ending::NeedsAttention(unfinished)) = world.client.poll(&handle).await.expect("it answers")
    else {
        panic!("it needs attention");
    };
    assert_eq!(unfinished.error.failure.code, "broken");
    assert_eq!(unfinished.report.owed().count(), 2, "the step stays owed, and the one before it");
    assert_eq!(alerts(&world, workflow).await, 1);
    world.ledger.open("healed").await;
    let unfinished = world.compensates(&handle).await;
    assert_eq!(unfinished.error.failure.code, "broken");
    let effects = effects(&world, workflow).await;
    assert_eq!(effects[..2], ["0 run 1", "1 run 1"]);
    assert!(!effects.iter().any(|effect| effect.starts_with('2')), "the function never went on: {effects:?}");
    worker.shut_down().await;
}
