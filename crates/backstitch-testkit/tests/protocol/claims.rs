//! Which workflows a claim takes, in which order, and how many claims at once.

use serde_json::json;
use sqlx::Row;
use uuid::Uuid;

use crate::record::{first, record, verdict};
use crate::stage::{Stage, bury, cancel, claim, claim_of, one, park};

#[tokio::test]
async fn a_claim_takes_by_priority_and_then_by_due_time() {
    let stage = Stage::new().await;
    let worker = stage.worker().await;
    let mut expected = Vec::new();
    for (priority, due) in [(0, "3 s"), (0, "1 s"), (1, "9 s"), (3, "9 s"), (2, "9 s")] {
        let sql = format!(
            "select backstitch.enqueue('k', '{{}}', null, 'default', {priority}, now() - interval '{due}')"
        );
        expected.push(one::<Uuid>(&stage.pool, &sql).await);
    }
    let (last, before) = (expected.pop().expect("five"), expected.len() - 1);
    expected.insert(before, last);
    assert_eq!(claim(&stage.pool, worker, 3).await, expected[..3]);
    assert_eq!(claim(&stage.pool, worker, 9).await, expected[3..]);
}

#[tokio::test]
async fn a_claim_takes_only_what_is_due_of_its_queues_and_kinds() {
    let stage = Stage::new().await;
    let worker = stage.worker().await;
    stage
        .run(
            "select backstitch.enqueue('k', '{}', 'due'),
                backstitch.enqueue('k', '{}', 'elsewhere', 'slow'),
                backstitch.enqueue('other', '{}', 'unserved'),
                backstitch.enqueue('k', '{}', 'later', p_run_at => now() + interval '1 hour')",
        )
        .await;
    let names = async |queues: &[&str], kinds: &[&str]| {
        let mut names = Vec::new();
        for row in claim_of(&stage.pool, worker, queues, kinds, 9).await {
            let sql = format!(
                "select key from backstitch.workflow where workflow_id = '{}'",
                row.get::<Uuid, _>("workflow_id")
            );
            names.push(one::<String>(&stage.pool, &sql).await);
        }
        names.sort_unstable();
        names
    };
    assert_eq!(names(&["default"], &["k"]).await, ["due"]);
    assert_eq!(names(&["slow", "default"], &["other", "k"]).await, ["elsewhere", "unserved"]);
    assert_eq!(names(&["default"], &[]).await, Vec::<String>::new());
    stage.run("update backstitch.ready set due_at = now() where holder is null").await;
    assert_eq!(names(&["default"], &["k"]).await, ["later"]);
}

#[tokio::test]
async fn two_claims_at_once_share_what_is_due() {
    let stage = Stage::new().await;
    let (one, two) = (stage.worker().await, stage.worker().await);
    for _ in 0..4 {
        stage.enqueued().await;
    }
    let mut first = stage.session().await;
    first.open().await;
    let mut taken = claim(&mut first.connection, one, 2).await;
    let others = claim(&stage.pool, two, 9).await;
    first.commit().await.expect("the first");
    assert_eq!(
        (taken.len(), others.len()),
        (2, 2),
        "the second passes by what the first holds, and does not wait"
    );
    taken.extend(others);
    taken.sort_unstable();
    taken.dedup();
    assert_eq!(taken.len(), 4);
}

#[tokio::test]
async fn a_claim_without_a_lease_takes_nothing() {
    let stage = Stage::new().await;
    let worker = stage.worker().await;
    stage.enqueued().await;
    stage.run("update backstitch.incarnation set lease_until = backstitch.clock()").await;
    assert_eq!(claim(&stage.pool, worker, 1).await, Vec::<Uuid>::new());
}

#[tokio::test]
async fn suspects_are_claimed_one_at_a_time() {
    let stage = Stage::new().await;
    let mut suspects = Vec::new();
    for _ in 0..2 {
        let dead = stage.worker().await;
        let workflow = stage.held_by(dead).await;
        assert_eq!(verdict(&stage.pool, dead, first(workflow)).await, "written");
        assert_eq!(bury(&stage.pool, dead).await, Some(1));
        stage
            .run("update backstitch.ready set crash_charges = 2, due_at = 'infinity' where holder is null")
            .await;
        suspects.push(workflow);
    }
    stage.run("update backstitch.ready set due_at = now()").await;
    let innocent = stage.enqueued().await;
    let worker = stage.worker().await;
    let taken = claim(&stage.pool, worker, 9).await;
    assert_eq!(taken.len(), 2, "{taken:?}");
    assert!(taken.contains(&innocent));
    assert_eq!(claim(&stage.pool, worker, 9).await.len(), 1, "the other, when asked again");

    assert_eq!(bury(&stage.pool, worker).await, Some(3));
    let careful = stage.worker().await;
    let rows = sqlx::query("select workflow_id from backstitch.claim($1, '{default}', '{k}', 9, 0, 1, 1)")
        .bind(careful)
        .fetch_all(&stage.pool)
        .await
        .expect("it claims");
    assert_eq!(rows.len(), 1, "none where none is wanted");
}

#[tokio::test]
async fn a_claim_tells_all_that_its_holder_needs() {
    let stage = Stage::new().await;
    let (dead, worker) = (stage.worker().await, stage.worker().await);
    let sql = r#"select backstitch.enqueue('k', '{"a": 1}', null, 'default', 1, null, '2100-01-01', 7)"#;
    let workflow: Uuid = one(&stage.pool, sql).await;
    assert_eq!(claim(&stage.pool, dead, 1).await, [workflow]);
    assert_eq!(verdict(&stage.pool, dead, first(workflow)).await, "written");
    assert_eq!(bury(&stage.pool, dead).await, Some(1));
    assert_eq!(cancel(&stage.pool, workflow).await, "accepted");
    let rows = claim_of(&stage.pool, worker, &["default"], &["k"], 1).await;
    let row = &rows[0];
    assert_eq!(row.get::<String, _>("input"), r#"{"a": 1}"#);
    assert_eq!((row.get::<i32, _>("epoch"), row.get::<i32, _>("crash_charges")), (2, 1));
    assert_eq!(row.get::<Option<String>, _>("orphaned").as_deref(), Some("gone"));
    assert_eq!(row.get::<serde_json::Value, _>("cancel"), json!({"by": "somebody", "why": "because"}));
    assert!(row.get::<Option<chrono::DateTime<chrono::Utc>>, _>("deadline_at").is_some());
    let journal: serde_json::Value = serde_json::from_str(row.get("journal")).expect("an array");
    assert_eq!(journal[0].as_array().map(Vec::len), Some(16), "{journal}");
    assert_eq!((&journal[0][12], &journal[0][15]), (&json!("step"), &json!("{}")), "{journal}");
}

#[tokio::test]
async fn a_cancel_makes_a_waiting_workflow_due_and_one_in_backoff_does_not_wait() {
    let stage = Stage::new().await;
    let worker = stage.worker().await;
    let workflow = stage.held_by(worker).await;
    assert_eq!(verdict(&stage.pool, worker, first(workflow)).await, "written");
    let backoff = record(workflow, 1, 1).ends(0, "retry").after(json!({"park_ms": 3_600_000}));
    assert_eq!(verdict(&stage.pool, worker, backoff).await, "written");
    assert_eq!(claim(&stage.pool, worker, 1).await, Vec::<Uuid>::new());
    assert_eq!(cancel(&stage.pool, workflow).await, "accepted");
    assert_eq!(claim(&stage.pool, worker, 1).await, [workflow]);
    assert!(park(&stage.pool, worker, workflow, 2, json!({})).await);
    assert_eq!(claim(&stage.pool, worker, 1).await, [workflow]);
    let backoff =
        record(workflow, 3, 2).begins_again(0, 2).turns("retry").after(json!({"park_ms": 3_600_000}));
    assert_eq!(verdict(&stage.pool, worker, backoff).await, "written_without_intent");
    assert_eq!(claim(&stage.pool, worker, 1).await, [workflow], "cancelled while it ran, it is due at once");
}
