//! Somebody cancels: before it began, while it runs, too late, and for nothing.

use backstitch::{Answered, Cause, Ending, Status};
use backstitch_testkit::cut::{Moment, Statement};
use backstitch_testkit::script::{Act, Compensating, Do, Manner, Resuming};
use backstitch_testkit::wait::until;
use backstitch_testkit::world::World;

use crate::WORKER;
use crate::facts::{attempts, effects, told};

#[tokio::test]
async fn cancel_pending() {
    let world = World::new().await;
    let due = Compensating::of([Act::new()]);
    let now = world.enqueue(due.clone()).await;
    let in_an_hour = chrono::Utc::now() + chrono::TimeDelta::hours(1);
    let later = world.client.enqueue(due).run_at(in_an_hour).send().await.expect("it is enqueued");
    for handle in [&now, &later] {
        let answered = world.client.cancel(handle.workflow, "ada", "not wanted").await.expect("it answers");
        assert_eq!(answered, Answered::Accepted);
    }
    let worker = world.start_worker().await;
    for handle in [&now, &later] {
        let unfinished = world.compensates(handle).await;
        assert_eq!(unfinished.error.failure.message, "cancelled by ada: not wanted");
        assert_eq!(effects(&world, handle.workflow, 0).await, (0, 0), "nothing ever ran");
    }
    worker.shut_down().await;
}

#[tokio::test]
async fn cancel_running() {
    let world = World::new().await;
    let worker = world.spawn_worker(WORKER).await;
    let hears = Act::new().run([Do::Effect, Do::Mark("running".into()), Do::AwaitCancel]);
    let handle = world.enqueue(Resuming::of([Act::new(), hears, Act::new()])).await;
    world.marked("running").await;
    let cancel = || world.client.cancel(handle.workflow, "ada", "not wanted");
    assert_eq!(cancel().await.expect("it answers"), Answered::Accepted);
    let unfinished = world.compensates(&handle).await;
    assert!(matches!(unfinished.report.cause, Cause::Cancelled(_)), "{:?}", unfinished.report);
    // The running attempt was told, its outcome awaited; the step after it never began.
    let expected = told([
        (0, "run", 1, "succeeded"),
        (1, "run", 1, "succeeded"),
        (1, "compensate", 1, "succeeded"),
        (0, "compensate", 1, "succeeded"),
    ]);
    assert_eq!(attempts(&world.client, handle.workflow).await, expected);
    assert_eq!(cancel().await.expect("it answers"), Answered::HasEnded);
    worker.kill().await;
}

#[tokio::test]
async fn an_attempt_that_gives_up_because_it_was_cancelled_is_not_why_the_workflow_turns_back() {
    let world = World::new().await;
    let worker = world.start_worker().await;
    let gives_up = Act::new().run([
        Do::Mark("running".into()),
        Do::AwaitCancel,
        Do::Reject("stopped before anything was sent".into()),
    ]);
    let handle = world.enqueue(Resuming::of([Act::new(), gives_up])).await;
    world.marked("running").await;
    let cancel = world.client.cancel(handle.workflow, "ada", "not wanted");
    assert_eq!(cancel.await.expect("it answers"), Answered::Accepted);
    let unfinished = world.compensates(&handle).await;
    assert!(matches!(unfinished.report.cause, Cause::Cancelled(_)), "{:?}", unfinished.report);
    let expected =
        told([(0, "run", 1, "succeeded"), (1, "run", 1, "rejected"), (0, "compensate", 1, "succeeded")]);
    assert_eq!(attempts(&world.client, handle.workflow).await, expected);
    world.assert_sound(handle.workflow).await;
    worker.shut_down().await;
}

#[tokio::test]
async fn cancel_while_compensating_changes_nothing() {
    let world = World::new().await;
    let worker = world.start_worker().await;
    let held = Act::new().manner(Manner::Long).compensate([
        Do::Mark("compensating".into()),
        Do::Wait("go".into()),
        Do::Effect,
    ]);
    let failing = Act::new().run([Do::Reject("broken".into())]);
    let handle = world.enqueue(Compensating::of([held, failing])).await;
    world.marked("compensating").await;
    let answered = world.client.cancel(handle.workflow, "ada", "not wanted").await.expect("it answers");
    assert_eq!(answered, Answered::IsCompensating);
    world.ledger.open("go").await;
    let unfinished = world.compensates(&handle).await;
    assert_eq!(unfinished.error.failure.code, "broken", "the original error stays");
    assert_eq!(effects(&world, handle.workflow, 0).await, (1, 1));
    worker.shut_down().await;
}

#[tokio::test]
async fn cancel_after_pivot_is_refused() {
    let world = World::new().await;
    let worker = world.start_worker().await;
    for (mark, manner) in [("outside", Manner::Pivot), ("inside", Manner::TransactionalPivot)] {
        let after = Act::new().run([Do::Effect, Do::Mark(mark.into()), Do::Wait(mark.into())]);
        let script = Compensating::of([Act::new(), Act::new().manner(manner), after.manner(Manner::Long)]);
        let handle = world.enqueue(script).await;
        world.marked(mark).await;
        let answered = world.client.cancel(handle.workflow, "ada", "not wanted").await.expect("it answers");
        assert_eq!(answered, Answered::PastThePivot);
        world.ledger.open(mark).await;
        assert_eq!(world.completes(&handle).await.len(), 3);
    }
    worker.shut_down().await;
}

#[tokio::test]
async fn terminal_is_terminal() {
    let world = World::new().await;
    let worker = world.start_worker().await;
    let completed = world.enqueue(Compensating::of([Act::new()])).await;
    let failing = Act::new().run([Do::Effect, Do::Fail("broken".into())]);
    let compensated = world.enqueue(Compensating::of([failing])).await;
    world.completes(&completed).await;
    world.compensates(&compensated).await;
    for workflow in [completed.workflow, compensated.workflow] {
        let before = attempts(&world.client, workflow).await;
        let rows = crate::facts::writers(&world, workflow).await.len();
        assert_eq!(
            world.client.cancel(workflow, "ada", "late").await.expect("it answers"),
            Answered::HasEnded
        );
        assert_eq!(
            world.client.retry(workflow, "ada", "late").await.expect("it answers"),
            Answered::HasEnded
        );
        // By the very worker that held it, with the next seq, under any epoch.
        for epoch in 0..3 {
            let verdict: String = sqlx::query_scalar(
                "select verdict from backstitch.append(
                    1, array[$1], array[$2], array[$3], array[null], array[null::int], array[null], array[null::int],
                    array[null], array['retry'], array['{}'], array[null::int], array[null], array[null::int],
                    array[null], array[null::int], array[null], array[null], array[null]
                )",
            )
            .bind(workflow.0)
            .bind(i32::try_from(rows).expect("few"))
            .bind(epoch)
            .fetch_one(&world.pool)
            .await
            .expect("it answers");
            assert_eq!(verdict, "fenced");
        }
        assert_eq!(crate::facts::writers(&world, workflow).await.len(), rows, "nothing was appended");
        assert_eq!(attempts(&world.client, workflow).await, before);
        world.assert_sound(workflow).await;
    }
    worker.shut_down().await;
}

#[tokio::test]
async fn a_retry_makes_a_pending_workflow_due_now() {
    let world = World::new().await;
    let worker = world.start_worker().await;
    let in_an_hour = chrono::Utc::now() + chrono::TimeDelta::hours(1);
    let script = Compensating::of([Act::new()]);
    let handle = world.client.enqueue(script).run_at(in_an_hour).send().await.expect("it is enqueued");
    let answered = world.client.retry(handle.workflow, "ada", "do it now").await.expect("it answers");
    assert_eq!(answered, Answered::Accepted);
    let ending = until("it has ended", async || world.client.poll(&handle).await.expect("it answers")).await;
    assert_eq!(ending, Ending::Completed(vec![Some(1)]));
    world.reaches(handle.workflow, Status::Completed).await;
    world.assert_sound(handle.workflow).await;
    worker.shut_down().await;
}

#[tokio::test]
async fn a_cancel_that_comes_just_before_a_person_is_called_is_acted_on_at_once() {
    let world = World::new().await;
    let line = world.line();
    let worker = world.start_worker_over(&line).await;
    let park = Statement { texts: vec!["backstitch.park"], carries: None };
    let parking = line.hold(Moment::BeforeStatement, park, 0);
    let unreadable = serde_json::json!({"steps": "none"});
    let handle =
        world.client.enqueue_untyped("script.compensate", &unreadable).send().await.expect("it is enqueued");
    let parking = parking.await.expect("the line holds");
    let cancel = world.client.cancel(handle.workflow, "ada", "not wanted");
    assert_eq!(cancel.await.expect("it answers"), Answered::Accepted);
    parking.pass();
    // Else in five minutes.
    world.reaches(handle.workflow, Status::Compensated).await;
    worker.shut_down().await;
}

#[tokio::test]
async fn a_workflow_that_goes_on_after_a_pivot_that_did_nothing_can_be_cancelled() {
    let world = World::new().await;
    let worker = world.start_worker().await;
    let pivot = Act::new().manner(Manner::Pivot).run([Do::Reject("closed".into())]).caught();
    let hears = Act::new().run([Do::Effect, Do::Mark("running".into()), Do::AwaitCancel]);
    let handle = world.enqueue(Resuming::of([Act::new(), pivot, hears])).await;
    world.marked("running").await;
    let cancel = world.client.cancel(handle.workflow, "ada", "not wanted");
    assert_eq!(cancel.await.expect("it answers"), Answered::Accepted);
    let unfinished = world.compensates(&handle).await;
    assert!(matches!(unfinished.report.cause, Cause::Cancelled(_)), "{:?}", unfinished.report);
    worker.shut_down().await;
}
