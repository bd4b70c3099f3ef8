//! What an operator decides about a step, a workflow or a kind, in every phase, with and without a worker at it.

use serde_json::{Value, json};
use uuid::Uuid;

use crate::record::{append, first, record, verdict};
use crate::stage::{Stage, cancel, claim, code, execute, one, park};

/// Each verb on a workflow, with what else it is asked with.
const VERBS: [&str; 5] = [
    "skip_step('{}', 0, 'ada', 'seen')",
    "resolve('{}', 0, false, 'ada', 'seen')",
    "abandon('{}', 'ada', 'seen')",
    "pause('{}', 'ada', 'seen')",
    "resume('{}', 'ada', 'seen')",
];

async fn says(stage: &Stage, verb: &str, workflow: Uuid) -> String {
    one(&stage.pool, &format!("select backstitch.{}", verb.replace("{}", &workflow.to_string()))).await
}

/// On its way back, its only step begun and its compensation failed; parked for an hour, with attention.
async fn stuck(stage: &Stage, worker: i32) -> Uuid {
    let workflow = stage.held_by(worker).await;
    assert_eq!(verdict(&stage.pool, worker, first(workflow)).await, "written");
    let back =
        record(workflow, 1, 1).turns("unwinding").compensates(0).after(json!({"phase": "compensating"}));
    assert_eq!(verdict(&stage.pool, worker, back).await, "written");
    let after = json!({"park_ms": 3_600_000, "attention": {"reason": "stuck", "message": "it is stuck"}});
    assert!(park(&stage.pool, worker, workflow, 1, after).await);
    workflow
}

#[tokio::test]
async fn every_decision_is_answered_in_every_phase() {
    let stage = Stage::new().await;
    let worker = stage.worker().await;
    for verb in VERBS {
        assert_eq!(says(&stage, verb, Uuid::new_v4()).await, "not_found", "{verb}");
    }
    let pending = stage.enqueued().await;
    let answers = ["is_not_compensating", "no_such_step", "needs_no_attention", "accepted", "accepted"];
    for (verb, answer) in VERBS.into_iter().zip(answers) {
        assert_eq!(says(&stage, verb, pending).await, answer, "{verb}");
    }
    assert_eq!(says(&stage, VERBS[4], pending).await, "is_not_paused");
    assert_eq!(stage.journal(pending).await, ["0 pause", "1 resume"]);
    assert_eq!(claim(&stage.pool, worker, 1).await, [pending], "it is due again");
    for verb in VERBS {
        assert_eq!(says(&stage, verb, pending).await, "is_running", "{verb}");
    }
    let end = record(pending, 2, 2).turns("unwinding").after(json!({"phase": "compensating"}));
    assert_eq!(verdict(&stage.pool, worker, end).await, "written");
    assert_eq!(verdict(&stage.pool, worker, record(pending, 2, 3).ends_compensated()).await, "written");
    for verb in VERBS {
        assert_eq!(says(&stage, verb, pending).await, "has_ended", "{verb}");
    }
}

#[tokio::test]
async fn operator_skip_step_makes_the_way_back_due_and_says_who() {
    let stage = Stage::new().await;
    let worker = stage.worker().await;
    let workflow = stuck(&stage, worker).await;
    let token = Uuid::new_v4();
    let skip = format!("skip_step('{{}}', 0, 'ada', 'deleted by hand', '{token}')");
    assert_eq!(says(&stage, "skip_step('{}', 7, 'ada', 'seen')", workflow).await, "no_such_step");
    assert_eq!(says(&stage, &skip, workflow).await, "accepted");
    assert_eq!(says(&stage, VERBS[0], workflow).await, "accepted", "it is so already");
    assert_eq!(claim(&stage.pool, worker, 1).await, [workflow], "due now");
    assert_eq!(says(&stage, &skip, workflow).await, "accepted", "the same decision, its answer lost");
    let said = "select by || ': ' || why from backstitch.timeline where event = 'skip_step'";
    assert_eq!(one::<String>(&stage.pool, said).await, "ada: deleted by hand", "once");
    let end = record(workflow, 2, 3).ends_compensated();
    assert_eq!(verdict(&stage.pool, worker, end).await, "written");
    assert_eq!(says(&stage, &skip, workflow).await, "accepted", "also when it has ended since");
}

#[tokio::test]
async fn a_step_that_believably_did_nothing_is_not_skipped() {
    let stage = Stage::new().await;
    let worker = stage.worker().await;
    let workflow = stage.held_by(worker).await;
    assert_eq!(verdict(&stage.pool, worker, first(workflow)).await, "written");
    let back = record(workflow, 1, 1).ends(0, "rejected").turns("unwinding");
    let back = back.after(json!({"phase": "compensating", "park_ms": 3_600_000}));
    assert_eq!(verdict(&stage.pool, worker, back).await, "written");
    assert_eq!(says(&stage, VERBS[0], workflow).await, "owes_nothing");
}

#[tokio::test]
async fn operator_resolve_is_taken_once_and_only_of_what_is_in_doubt() {
    let stage = Stage::new().await;
    let worker = stage.worker().await;
    let workflow = stage.held_by(worker).await;
    assert_eq!(verdict(&stage.pool, worker, first(workflow)).await, "written");
    let doubt = record(workflow, 1, 1).ends(0, "in_doubt").after(json!({"park_ms": 3_600_000}));
    assert_eq!(verdict(&stage.pool, worker, doubt).await, "written");
    let bad = format!("select backstitch.resolve('{workflow}', 0, false, 'ada', 'seen', '1')");
    assert_eq!(code(execute(&stage.pool, &bad).await), "BSI01", "what did not happen has no output");
    let large = format!(
        "select backstitch.resolve('{workflow}', 0, true, 'ada', 'seen', to_jsonb(repeat('x', 65536)))"
    );
    assert_eq!(code(execute(&stage.pool, &large).await), "BSI01");
    let happened = "resolve('{}', 0, true, 'ada', 'it is there', '{\"id\": null}')";
    assert_eq!(says(&stage, happened, workflow).await, "accepted");
    assert_eq!(says(&stage, happened, workflow).await, "is_not_in_doubt");
    let detail = "select turn_value::jsonb from backstitch.journal where turn = 'resolve'";
    let expected =
        json!({"position": 0, "happened": true, "by": "ada", "why": "it is there", "output": {"id": null}});
    assert_eq!(one::<Value>(&stage.pool, detail).await, expected);
    assert_eq!(claim(&stage.pool, worker, 1).await, [workflow], "due now");
}

#[tokio::test]
async fn operator_abandon_ends_only_what_needs_attention_and_holds_nothing() {
    let stage = Stage::new().await;
    let worker = stage.worker().await;
    let workflow = stuck(&stage, worker).await;
    assert_eq!(says(&stage, VERBS[2], workflow).await, "accepted");
    let status = "select status || exists (select from backstitch.ready) from backstitch.workflows";
    assert_eq!(one::<String>(&stage.pool, status).await, "abandonedfalse", "and nothing is held for it");
    let open = "select count(*) from backstitch.alert where resolved_at is null";
    assert_eq!(one::<i64>(&stage.pool, open).await, 0);
    assert_eq!(cancel(&stage.pool, workflow).await, "has_ended");
}

#[tokio::test]
async fn a_decision_waits_for_the_holder_that_is_letting_go_and_comes_before_the_next_claim() {
    let stage = Stage::new().await;
    let worker = stage.worker().await;
    let workflow = stage.held_by(worker).await;
    let mut holder = stage.session().await;
    holder.open().await;
    let parks = first(workflow).after(json!({"park_ms": 0}));
    let written = append(&mut holder.connection, worker, &[parks]).await.expect("it answers");
    assert_eq!(written[0].verdict, "written");
    let mut operator = stage.session().await;
    let pid = operator.pid;
    operator.open().await;
    let sql = format!("select backstitch.pause('{workflow}', 'ada', 'seen')");
    let pausing = tokio::spawn(async move {
        let answer = one::<String>(&mut operator.connection, &sql).await;
        (answer, operator)
    });
    stage.waits(pid, "transactionid").await;
    holder.commit().await.expect("the append");
    let (answer, mut operator) = pausing.await.expect("no panic");
    assert_eq!(answer, "accepted");
    assert!(claim(&stage.pool, worker, 1).await.is_empty(), "a claim passes it by, for it is locked");
    operator.commit().await.expect("the pause");
    assert!(claim(&stage.pool, worker, 1).await.is_empty(), "and then it is paused");
    assert_eq!(stage.journal(workflow).await, ["1 -> run 0", "1 pause"]);
}

#[tokio::test]
async fn a_pause_shows_by_whom_and_is_ended_by_a_retry_or_a_cancel() {
    let stage = Stage::new().await;
    let worker = stage.worker().await;
    for (ends, claimed) in [("retry('{}', 'bob', 'on')", 1), ("cancel('{}', 'bob', 'off')", 0)] {
        let workflow = stage.enqueued().await;
        assert_eq!(says(&stage, VERBS[3], workflow).await, "accepted");
        assert_eq!(says(&stage, VERBS[3], workflow).await, "accepted", "again");
        let paused = format!(
            "select paused ->> 'by' || coalesce(due_at::text, '') from backstitch.workflows where workflow_id = '{workflow}'"
        );
        assert_eq!(one::<String>(&stage.pool, &paused).await, "ada", "and has no due time");
        assert!(claim(&stage.pool, worker, 1).await.is_empty());
        assert_eq!(says(&stage, ends, workflow).await, "accepted");
        assert_eq!(i64::try_from(claim(&stage.pool, worker, 1).await.len()).expect("few"), claimed, "{ends}");
        let live = format!("select count(*) from backstitch.ready where workflow_id = '{workflow}'");
        assert_eq!(one::<i64>(&stage.pool, &live).await, claimed, "what has not begun ends with its cancel");
    }
}

#[tokio::test]
async fn nothing_of_a_paused_kind_is_claimed_until_it_is_resumed() {
    let stage = Stage::new().await;
    let worker = stage.worker().await;
    let workflow = stage.enqueued().await;
    stage
        .run("select backstitch.pause_kind('k', 'ada', 'incident'), backstitch.pause_kind('k', 'bob', 'too')")
        .await;
    assert_eq!(
        one::<String>(&stage.pool, "select by from backstitch.paused_kind").await,
        "ada",
        "the first counts"
    );
    assert!(claim(&stage.pool, worker, 1).await.is_empty());
    let resume = "select backstitch.resume_kind('k', 'ada', 'over')";
    assert!(one::<bool>(&stage.pool, resume).await);
    assert!(!one::<bool>(&stage.pool, resume).await);
    assert_eq!(claim(&stage.pool, worker, 1).await, [workflow]);
}
