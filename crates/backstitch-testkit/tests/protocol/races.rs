//! Cases 85 and 86: a cancel against the end, and against the pivot. One of two wins, in both orders.

use serde_json::json;
use uuid::Uuid;

use crate::record::{Record, append, appending, first, record, verdict};
use crate::stage::{Session, Stage, bury, cancel, one};

/// What a cancel and a record that race are answered. The first holds its transaction open until the second waits for it.
async fn race(
    stage: &Stage,
    worker: i32,
    workflow: Uuid,
    contended: Record,
    cancel_first: bool,
) -> (String, String) {
    let (mut first, second) = (stage.session().await, stage.session().await);
    let second_pid = second.pid;
    first.open().await;
    if cancel_first {
        let cancelled = cancel(&mut first.connection, workflow).await;
        let appending = appending(second, worker, vec![contended]);
        stage.waits(second_pid, "transactionid").await;
        first.commit().await.expect("the cancel");
        let answer = appending.await.expect("no panic").expect("it answers").remove(0);
        return (cancelled, answer.verdict);
    }
    let told = verdict(&mut first.connection, worker, contended).await;
    let cancelling = cancelling(second, workflow);
    stage.waits(second_pid, "transactionid").await;
    first.commit().await.expect("the append");
    (cancelling.await.expect("no panic"), told)
}

fn cancelling(session: Session, workflow: Uuid) -> tokio::task::JoinHandle<String> {
    let mut session = session;
    tokio::spawn(async move { cancel(&mut session.connection, workflow).await })
}

/// A workflow whose step 0 is under way.
async fn under_way(stage: &Stage, worker: i32) -> Uuid {
    let workflow = stage.held_by(worker).await;
    assert_eq!(verdict(&stage.pool, worker, first(workflow)).await, "written");
    workflow
}

fn pair(cancelled: &str, told: &str) -> (String, String) {
    (cancelled.to_owned(), told.to_owned())
}

#[tokio::test]
async fn cancel_racing_with_finish_has_one_winner() {
    let stage = Stage::new().await;
    let worker = stage.worker().await;
    let finish = |workflow| record(workflow, 1, 1).ends(0, "succeeded").completes();

    let workflow = under_way(&stage, worker).await;
    let raced = race(&stage, worker, workflow, finish(workflow), true).await;
    assert_eq!(raced, pair("accepted", "written_without_end"));
    assert_eq!(stage.journal(workflow).await[1], "1 run 0 succeeded");
    let status = format!("select status from backstitch.workflows where workflow_id = '{workflow}'");
    assert_eq!(one::<String>(&stage.pool, &status).await, "running");

    let workflow = under_way(&stage, worker).await;
    let raced = race(&stage, worker, workflow, finish(workflow), false).await;
    assert_eq!(raced, pair("has_ended", "written"));
    let status = format!("select status from backstitch.workflows where workflow_id = '{workflow}'");
    assert_eq!(one::<String>(&stage.pool, &status).await, "completed");

    // An end that travels alone, with no outcome to keep.
    let workflow = stage.held_by(worker).await;
    let raced = race(&stage, worker, workflow, record(workflow, 1, 0).completes(), true).await;
    assert_eq!(raced, pair("accepted", "refused"));
    assert!(stage.journal(workflow).await.is_empty());
}

#[tokio::test]
async fn cancel_racing_with_the_pivot_has_one_winner() {
    let stage = Stage::new().await;
    let worker = stage.worker().await;
    let pivot = |workflow| record(workflow, 1, 1).ends(0, "succeeded").begins_pivot(1);

    let workflow = under_way(&stage, worker).await;
    let raced = race(&stage, worker, workflow, pivot(workflow), true).await;
    assert_eq!(raced, pair("accepted", "written_without_intent"));
    assert_eq!(stage.journal(workflow).await[1], "1 run 0 succeeded");
    assert_eq!(stage.ready(workflow, "past_pivot").await.as_deref(), Some("false"), "there is a way back");

    let workflow = under_way(&stage, worker).await;
    let raced = race(&stage, worker, workflow, pivot(workflow), false).await;
    assert_eq!(raced, pair("past_the_pivot", "written"));
    assert_eq!(stage.ready(workflow, "cancel").await, None);

    // The pivot that travels alone.
    let workflow = stage.held_by(worker).await;
    let raced = race(&stage, worker, workflow, record(workflow, 1, 0).begins_pivot(0), true).await;
    assert_eq!(raced, pair("accepted", "refused"));
}

#[tokio::test]
async fn cancel_racing_with_a_transactional_pivot_has_one_winner() {
    let stage = Stage::new().await;
    let worker = stage.worker().await;
    let pivot = |workflow| record(workflow, 1, 0).begins_pivot(0).ends(0, "succeeded");

    let workflow = stage.held_by(worker).await;
    let raced = race(&stage, worker, workflow, pivot(workflow), true).await;
    assert_eq!(raced, pair("accepted", "refused"));
    assert!(stage.journal(workflow).await.is_empty(), "its transaction rolls back");
    assert_eq!(stage.ready(workflow, "past_pivot").await.as_deref(), Some("false"));

    let workflow = stage.held_by(worker).await;
    let raced = race(&stage, worker, workflow, pivot(workflow), false).await;
    assert_eq!(raced, pair("past_the_pivot", "written"));

    // One that did not succeed did not happen: the way back is open.
    let workflow = stage.held_by(worker).await;
    let failed = record(workflow, 1, 0).begins_pivot(0).ends(0, "retry");
    assert_eq!(race(&stage, worker, workflow, failed, false).await, pair("accepted", "written"));
}

#[tokio::test]
async fn a_pivot_whose_intent_was_dropped_leaves_the_way_back_open() {
    let stage = Stage::new().await;
    let worker = stage.worker().await;
    let workflow = under_way(&stage, worker).await;
    stage.run("update backstitch.incarnation set lease_until = backstitch.clock()").await;
    let pivot = record(workflow, 1, 1).ends(0, "succeeded").begins_pivot(1);
    assert_eq!(verdict(&stage.pool, worker, pivot).await, "written_without_intent");
    assert_eq!(stage.ready(workflow, "past_pivot").await.as_deref(), Some("false"));
    assert_eq!(cancel(&stage.pool, workflow).await, "accepted");
}

#[tokio::test]
async fn after_an_accepted_cancel_nothing_begins_forward_and_all_is_taken_back() {
    let stage = Stage::new().await;
    let worker = stage.worker().await;
    let workflow = under_way(&stage, worker).await;
    assert_eq!(cancel(&stage.pool, workflow).await, "accepted");
    let answer = append(&stage.pool, worker, &[record(workflow, 1, 1).ends(0, "succeeded").begins(1)])
        .await
        .expect("it answers")
        .remove(0);
    assert_eq!(answer.verdict, "written_without_intent");
    assert_eq!(answer.cancel, Some(json!({"by": "somebody", "why": "because"})), "it is told who cancelled");
    let beat = format!("select cancelled from backstitch.beat({worker}, interval '1 hour')");
    assert_eq!(one::<Vec<Uuid>>(&stage.pool, &beat).await, [workflow]);
    let back =
        record(workflow, 1, 2).turns("unwinding").compensates(0).after(json!({"phase": "compensating"}));
    assert_eq!(verdict(&stage.pool, worker, back).await, "written");
    let end = record(workflow, 1, 3).compensated(0).ends_compensated();
    assert_eq!(verdict(&stage.pool, worker, end).await, "written");
    assert_eq!(cancel(&stage.pool, workflow).await, "has_ended");
    assert_eq!(bury(&stage.pool, worker).await, Some(0));
}

#[tokio::test]
async fn a_pivot_that_did_not_happen_opens_the_way_back_again_as_its_record_says() {
    let stage = Stage::new().await;
    let worker = stage.worker().await;
    for (after, cancelled) in [(json!({"past_pivot": false}), "accepted"), (json!({}), "past_the_pivot")] {
        let workflow = stage.held_by(worker).await;
        let pivot = record(workflow, 1, 0).begins_pivot(0);
        assert_eq!(verdict(&stage.pool, worker, pivot).await, "written");
        assert_eq!(cancel(&stage.pool, workflow).await, "past_the_pivot");
        let goes_on = record(workflow, 1, 1).ends(0, "rejected").begins(1).after(after);
        assert_eq!(verdict(&stage.pool, worker, goes_on).await, "written");
        assert_eq!(cancel(&stage.pool, workflow).await, cancelled);
    }

    // The next one closes it, also in the same row.
    let workflow = stage.held_by(worker).await;
    assert_eq!(verdict(&stage.pool, worker, record(workflow, 1, 0).begins_pivot(0)).await, "written");
    let another =
        record(workflow, 1, 1).ends(0, "rejected").begins_pivot(1).after(json!({"past_pivot": false}));
    assert_eq!(verdict(&stage.pool, worker, another).await, "written");
    assert_eq!(cancel(&stage.pool, workflow).await, "past_the_pivot");
}

#[tokio::test]
async fn a_cancel_before_a_park_that_calls_a_person_is_acted_on_at_once_if_its_worker_says_that_it_can_be() {
    let stage = Stage::new().await;
    let worker = stage.worker().await;
    let attention = json!({"reason": "undecodable_input", "message": "m"});
    // Held before any is due again.
    let held = [stage.held_by(worker).await, stage.held_by(worker).await, stage.held_by(worker).await];
    let cases = [
        (json!({"attention": attention, "heeds_cancel": true}), true),
        // A journal that can't be understood can't be taken back, either. And so says a worker of the version before.
        (json!({"attention": attention}), false),
        (json!({}), true),
    ];
    for (workflow, (after, is_due)) in held.into_iter().zip(cases) {
        assert_eq!(cancel(&stage.pool, workflow).await, "accepted");
        let park = format!(
            "select backstitch.park({worker}, '{workflow}', 1, interval '5 minutes', '{after}'::jsonb)"
        );
        assert!(one::<bool>(&stage.pool, &park).await);
        let due = stage.ready(workflow, "due_at <= backstitch.clock()").await;
        assert_eq!(due.as_deref(), Some(if is_due { "true" } else { "false" }), "{after}");
    }
}
