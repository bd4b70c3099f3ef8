//! When a person is told, and when that is over: in the transaction that changes the state, and once.

use serde_json::{Value, json};
use uuid::Uuid;

use crate::record::{append, first, record, verdict};
use crate::stage::{Stage, bury, claim, one, park};

fn raise() -> Value {
    json!({"park_ms": 0, "attention": {"reason": "stuck", "message": "it is stuck"}})
}

/// Open alerts, and all.
async fn alerts(stage: &Stage, workflow: Uuid) -> (i64, i64) {
    let count =
        |what: &str| format!("select count({what}) from backstitch.alert where workflow_id = '{workflow}'");
    let all = one::<i64>(&stage.pool, &count("*")).await;
    (all - one::<i64>(&stage.pool, &count("resolved_at")).await, all)
}

async fn attention(stage: &Stage, workflow: Uuid) -> bool {
    stage.ready(workflow, "attention").await.as_deref() == Some("true")
}

#[tokio::test]
async fn an_alert_is_written_in_the_transaction_that_raises_the_flag() {
    let stage = Stage::new().await;
    let worker = stage.worker().await;
    let workflow = stage.held_by(worker).await;
    let mut session = stage.session().await;
    session.open().await;
    assert_eq!(verdict(&mut session.connection, worker, first(workflow).after(raise())).await, "written");
    assert_eq!((alerts(&stage, workflow).await, attention(&stage, workflow).await), ((0, 0), false));
    session.commit().await.expect("the append");
    assert_eq!((alerts(&stage, workflow).await, attention(&stage, workflow).await), ((1, 1), true));
}

#[tokio::test]
async fn an_alert_is_raised_once_cleared_by_a_success_and_may_be_raised_again() {
    let stage = Stage::new().await;
    let worker = stage.worker().await;
    let workflow = stage.held_by(worker).await;
    assert_eq!(verdict(&stage.pool, worker, first(workflow).after(raise())).await, "written");
    assert_eq!(claim(&stage.pool, worker, 1).await, [workflow]);
    let still = record(workflow, 2, 1).ends(0, "retry").after(raise());
    assert_eq!(verdict(&stage.pool, worker, still).await, "written");
    assert_eq!(alerts(&stage, workflow).await, (1, 1), "it was told already");

    assert_eq!(claim(&stage.pool, worker, 1).await, [workflow]);
    let again = record(workflow, 3, 2).begins_again(0, 2);
    assert_eq!(verdict(&stage.pool, worker, again).await, "written");
    let success = record(workflow, 3, 3).ends_again(0, 2, "succeeded").after(json!({"attention": false}));
    assert_eq!(verdict(&stage.pool, worker, success).await, "written");
    assert_eq!((alerts(&stage, workflow).await, attention(&stage, workflow).await), ((0, 1), false));

    assert_eq!(
        verdict(&stage.pool, worker, record(workflow, 3, 4).begins(1).after(raise())).await,
        "written"
    );
    assert_eq!(alerts(&stage, workflow).await, (1, 2));
}

#[tokio::test]
async fn an_end_resolves_its_alerts() {
    let stage = Stage::new().await;
    let worker = stage.worker().await;
    let workflow = stage.held_by(worker).await;
    assert_eq!(verdict(&stage.pool, worker, first(workflow).after(raise())).await, "written");
    assert_eq!(claim(&stage.pool, worker, 1).await, [workflow]);
    let end = record(workflow, 2, 1).ends(0, "succeeded").completes();
    assert_eq!(verdict(&stage.pool, worker, end).await, "written");
    assert_eq!(alerts(&stage, workflow).await, (0, 1));
}

#[tokio::test]
async fn a_fenced_record_raises_nothing() {
    let stage = Stage::new().await;
    let worker = stage.worker().await;
    let workflow = stage.held_by(worker).await;
    assert_eq!(bury(&stage.pool, worker).await, Some(1));
    assert_eq!(verdict(&stage.pool, worker, first(workflow).after(raise())).await, "fenced");
    assert!(!park(&stage.pool, worker, workflow, 1, raise()).await);
    assert_eq!((alerts(&stage, workflow).await, attention(&stage, workflow).await), ((0, 0), false));
}

#[tokio::test]
async fn letting_go_with_a_call_for_a_person_keeps_the_report_that_stood() {
    let stage = Stage::new().await;
    let worker = stage.worker().await;
    let workflow = stage.held_by(worker).await;
    assert_eq!(verdict(&stage.pool, worker, first(workflow)).await, "written");
    let mut stuck = raise();
    stuck["phase"] = json!("compensating");
    for part in ["cause", "error", "report"] {
        stuck[part] = json!({"of": part});
    }
    let stuck = record(workflow, 1, 1).turns("unwinding").after(stuck);
    assert_eq!(append(&stage.pool, worker, &[stuck]).await.expect("it answers")[0].verdict, "written");
    assert_eq!(claim(&stage.pool, worker, 1).await, [workflow]);
    let call = json!({"attention": {"reason": "corrupt_journal", "message": "unreadable"}});
    assert!(park(&stage.pool, worker, workflow, 2, call).await);
    let report = format!("select report from backstitch.attention where workflow_id = '{workflow}'");
    assert_eq!(one::<Option<Value>>(&stage.pool, &report).await, Some(json!({"of": "report"})));
}

#[tokio::test]
async fn a_kind_that_nobody_serves_is_shown() {
    let stage = Stage::new().await;
    let worker = stage.worker().await;
    stage.run("select backstitch.enqueue('other', '{}'), backstitch.enqueue('other', '{}'), backstitch.enqueue('k', '{}')").await;
    let shown = "select string_agg(kind || ': ' || message, '; ') from backstitch.attention";
    let other = "other: 2 workflows wait for a worker that serves this kind";
    assert_eq!(one::<Option<String>>(&stage.pool, shown).await.as_deref(), Some(other));
    let unserved = "select string_agg(distinct kind, ',') from backstitch.workflows where unserved";
    assert_eq!(one::<Option<String>>(&stage.pool, unserved).await.as_deref(), Some("other"));
    assert_eq!(bury(&stage.pool, worker).await, Some(0));
    assert_eq!(one::<Option<String>>(&stage.pool, unserved).await.as_deref(), Some("k,other"));
}
