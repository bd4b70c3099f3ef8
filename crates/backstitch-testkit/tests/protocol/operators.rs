//! What an operator may ask: a cancel and a retry, in every phase of a workflow's life.

use backstitch::{Cause, Operator, RollbackReport};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::record::{append, first, record, verdict};
use crate::stage::{Stage, cancel, claim, claim_of, code, execute, one, park};

async fn retry(stage: &Stage, workflow: Uuid) -> String {
    let sql = format!("select backstitch.retry('{workflow}', 'ada', 'mended')");
    one(&stage.pool, &sql).await
}

#[tokio::test]
async fn a_cancel_is_answered_in_every_phase() {
    let stage = Stage::new().await;
    let worker = stage.worker().await;
    assert_eq!(cancel(&stage.pool, Uuid::new_v4()).await, "not_found");

    let pending = stage.enqueued().await;
    assert_eq!(cancel(&stage.pool, pending).await, "accepted");
    assert_eq!(cancel(&stage.pool, pending).await, "accepted", "again: its answer may have been lost");
    let other = format!("select backstitch.cancel('{pending}', 'ada', 'too late')");
    assert_eq!(one::<String>(&stage.pool, &other).await, "has_ended", "with the first: it had not begun");

    let running = stage.held_by(worker).await;
    assert_eq!(cancel(&stage.pool, running).await, "accepted");
    assert_eq!(cancel(&stage.pool, running).await, "accepted", "again");

    let compensating = stage.held_by(worker).await;
    assert_eq!(verdict(&stage.pool, worker, first(compensating)).await, "written");
    let back = record(compensating, 1, 1).turns("unwinding").after(json!({"phase": "compensating"}));
    assert_eq!(verdict(&stage.pool, worker, back).await, "written");
    assert_eq!(cancel(&stage.pool, compensating).await, "is_compensating");
    let end = record(compensating, 1, 2).ends_compensated();
    assert_eq!(verdict(&stage.pool, worker, end).await, "written");
    assert_eq!(cancel(&stage.pool, compensating).await, "has_ended");

    let past = stage.held_by(worker).await;
    assert_eq!(verdict(&stage.pool, worker, record(past, 1, 0).begins_pivot(0)).await, "written");
    assert_eq!(cancel(&stage.pool, past).await, "past_the_pivot");
}

#[tokio::test]
async fn a_cancel_of_what_has_not_begun_ends_it_in_the_words_of_a_worker() {
    let stage = Stage::new().await;
    let worker = stage.worker().await;
    // Nor has one begun whose input nobody could read.
    let unreadable = stage.held_by(worker).await;
    let alarms = json!({"park_ms": 60_000, "attention": {"reason": "undecodable_input", "message": "m"}});
    assert!(park(&stage.pool, worker, unreadable, 1, alarms).await);
    let untouched = stage.enqueued().await;
    let cause = Cause::Cancelled(Operator { by: "somebody".into(), why: "because".into() });
    for workflow in [untouched, unreadable] {
        assert_eq!(cancel(&stage.pool, workflow).await, "accepted");
        let ended = format!(
            "select jsonb_build_array(status, cause, error, report, finished_at is not null)
            from backstitch.workflow where workflow_id = '{workflow}'"
        );
        let report = RollbackReport { cause: cause.clone(), steps: Vec::new() };
        let expected = json!(["compensated", cause, cause.error(), report, true]);
        assert_eq!(one::<Value>(&stage.pool, &ended).await, expected);
        let turned = format!(
            "select turn_value::jsonb from backstitch.journal where workflow_id = '{workflow}' and turn = 'unwinding'"
        );
        assert_eq!(one::<Value>(&stage.pool, &turned).await, json!(cause));
        assert_eq!(stage.journal(workflow).await.len(), 2);
    }
    assert_eq!(one::<i64>(&stage.pool, "select count(*) from backstitch.ready").await, 0);
    let open = "select count(*) from backstitch.alert where resolved_at is null";
    assert_eq!(one::<i64>(&stage.pool, open).await, 0);
}

#[tokio::test]
async fn a_cancel_that_waited_for_a_claim_tells_its_holder() {
    let stage = Stage::new().await;
    let worker = stage.worker().await;
    let workflow = stage.enqueued().await;
    let mut claiming = stage.session().await;
    claiming.open().await;
    assert_eq!(claim(&mut claiming.connection, worker, 1).await, [workflow]);
    let mut session = stage.session().await;
    let pid = session.pid;
    let cancelling = tokio::spawn(async move { cancel(&mut session.connection, workflow).await });
    stage.waits(pid, "transactionid").await;
    claiming.commit().await.expect("the claim");
    assert_eq!(cancelling.await.expect("no panic"), "accepted");
    assert!(stage.ready(workflow, "cancel").await.is_some(), "it is its holder's to end");
}

#[tokio::test]
async fn a_retry_is_journaled_with_who_and_why_and_is_due_at_once() {
    let stage = Stage::new().await;
    let worker = stage.worker().await;
    assert_eq!(retry(&stage, Uuid::new_v4()).await, "not_found");
    let workflow = stage.held_by(worker).await;
    assert_eq!(verdict(&stage.pool, worker, first(workflow)).await, "written");
    assert_eq!(retry(&stage, workflow).await, "is_running");
    let waits = record(workflow, 1, 1).ends(0, "retry").after(json!({"park_ms": 3_600_000}));
    assert_eq!(verdict(&stage.pool, worker, waits).await, "written");
    assert_eq!(retry(&stage, workflow).await, "accepted");
    assert_eq!(stage.journal(workflow).await[2], "1 retry");
    let who = format!(
        "select turn_value::jsonb from backstitch.journal where workflow_id = '{workflow}' and seq = 2"
    );
    assert_eq!(one::<Value>(&stage.pool, &who).await, json!({"by": "ada", "why": "mended"}));
    assert_eq!(claim(&stage.pool, worker, 1).await, [workflow]);
    let end = record(workflow, 2, 3).begins_again(0, 2);
    assert_eq!(verdict(&stage.pool, worker, end).await, "written");
    let end = record(workflow, 2, 4).ends_again(0, 2, "succeeded").completes();
    assert_eq!(verdict(&stage.pool, worker, end).await, "written");
    assert_eq!(retry(&stage, workflow).await, "has_ended");
}

#[tokio::test]
async fn a_claim_after_a_retry_tells_that_there_is_a_journal() {
    let stage = Stage::new().await;
    let worker = stage.worker().await;
    let sql = "select backstitch.enqueue('k', '{}', p_run_at => now() + interval '1 hour')";
    let workflow: Uuid = one(&stage.pool, sql).await;
    assert_eq!(retry(&stage, workflow).await, "accepted");
    // A holder under epoch 1 looks for no journal.
    let row = claim_of(&stage.pool, worker, &["default"], &["k"], 1).await.remove(0);
    let epoch: i32 = sqlx::Row::get(&row, "epoch");
    assert_eq!((epoch, stage.journal(workflow).await), (2, vec!["0 retry".to_owned()]));
    assert_eq!(verdict(&stage.pool, worker, record(workflow, 2, 1).begins(0)).await, "written");
}

#[tokio::test]
async fn a_retry_waits_for_the_holder_that_is_letting_go() {
    let stage = Stage::new().await;
    let worker = stage.worker().await;
    let workflow = stage.held_by(worker).await;
    let mut holder = stage.session().await;
    holder.open().await;
    let parks = first(workflow).after(json!({"park_ms": 3_600_000}));
    assert_eq!(
        append(&mut holder.connection, worker, &[parks]).await.expect("it answers")[0].verdict,
        "written"
    );
    let mut operator = stage.session().await;
    let pid = operator.pid;
    let sql = format!("select backstitch.retry('{workflow}', 'ada', 'mended')");
    let retrying = tokio::spawn(async move { one::<String>(&mut operator.connection, &sql).await });
    stage.waits(pid, "transactionid").await;
    holder.commit().await.expect("the append");
    assert_eq!(retrying.await.expect("no panic"), "accepted");
    assert_eq!(stage.journal(workflow).await, ["1 -> run 0", "1 retry"]);
}

#[tokio::test]
async fn an_operator_says_who_and_why() {
    let stage = Stage::new().await;
    let worker = stage.worker().await;
    let workflow = stage.held_by(worker).await;
    assert!(park(&stage.pool, worker, workflow, 1, json!({})).await);
    for verb in ["cancel(", "retry(", "skip_step(0, ", "resolve(0, true, ", "abandon(", "pause(", "resume("] {
        for arguments in ["'', 'why'", "'who', ''", "null, 'why'", "'who', null"] {
            let verb = verb.replace('(', &format!("('{workflow}', "));
            let sql = format!("select backstitch.{verb}{arguments})");
            assert_eq!(code(execute(&stage.pool, &sql).await), "BSI01", "{sql}");
        }
    }
    assert_eq!((stage.ready(workflow, "cancel").await, stage.journal(workflow).await.len()), (None, 0));
}
