//! What an append answers: the same when it is repeated, for each record of a batch, and about a place that is taken.

use serde_json::json;
use sqlx::PgPool;
use uuid::Uuid;

use crate::record::{Answer, Record, append, append_as_before, appending, first, record, verdict};
use crate::stage::{Stage, bury, cancel, claim, code, one, park};

/// The answer to a record whose first answer was lost; it must be the same, and change nothing.
async fn told_twice(stage: &Stage, worker: i32, record: Record) -> Answer {
    let told =
        append(&stage.pool, worker, std::slice::from_ref(&record)).await.expect("it answers").remove(0);
    let before = everything(&stage.pool).await;
    let again = append(&stage.pool, worker, &[record]).await.expect("it answers").remove(0);
    assert_eq!(again.verdict, told.verdict);
    assert_eq!(everything(&stage.pool).await, before, "a repetition writes nothing");
    again
}

/// All that an append may change.
async fn everything(pool: &PgPool) -> String {
    let sql = "select concat(
        (select json_agg(j order by workflow_id, seq) from backstitch.journal j),
        (select json_agg(r order by workflow_id) from backstitch.ready r),
        (select json_agg(w order by workflow_id) from backstitch.workflow w),
        (select json_agg(a order by alert_id) from backstitch.alert a))";
    one(pool, sql).await
}

async fn workflow_with_step(stage: &Stage, worker: i32) -> Uuid {
    let workflow = stage.held_by(worker).await;
    assert_eq!(verdict(&stage.pool, worker, first(workflow)).await, "written");
    workflow
}

#[tokio::test]
async fn an_append_repeated_after_a_lost_answer_answers_the_same() {
    let stage = Stage::new().await;
    let worker = stage.worker().await;
    let next = |workflow| record(workflow, 1, 1).ends(0, "succeeded");

    let workflow = workflow_with_step(&stage, worker).await;
    assert_eq!(told_twice(&stage, worker, next(workflow).begins(1)).await.verdict, "written");

    let workflow = workflow_with_step(&stage, worker).await;
    let parks = record(workflow, 1, 1).ends(0, "retry").after(json!({"park_ms": 60_000}));
    assert_eq!(told_twice(&stage, worker, parks).await.verdict, "written");

    let workflow = workflow_with_step(&stage, worker).await;
    let alarms = json!({"park_ms": 60_000, "attention": {"reason": "r", "message": "m"}});
    assert_eq!(told_twice(&stage, worker, next(workflow).after(alarms)).await.verdict, "written");

    let workflow = workflow_with_step(&stage, worker).await;
    assert_eq!(told_twice(&stage, worker, next(workflow).completes()).await.verdict, "written");

    let workflow = workflow_with_step(&stage, worker).await;
    assert_eq!(cancel(&stage.pool, workflow).await, "accepted");
    assert_eq!(told_twice(&stage, worker, next(workflow).begins(1)).await.verdict, "written_without_intent");

    let workflow = workflow_with_step(&stage, worker).await;
    assert_eq!(cancel(&stage.pool, workflow).await, "accepted");
    assert_eq!(told_twice(&stage, worker, next(workflow).completes()).await.verdict, "written_without_end");

    let workflow = workflow_with_step(&stage, worker).await;
    assert_eq!(
        told_twice(&stage, worker, record(workflow, 1, 7).ends(0, "succeeded")).await.verdict,
        "refused"
    );

    let workflow = workflow_with_step(&stage, worker).await;
    assert_eq!(
        told_twice(&stage, worker, record(workflow, 9, 1).ends(0, "succeeded")).await.verdict,
        "fenced"
    );
}

#[tokio::test]
async fn a_record_written_before_the_burial_is_still_told_to_be_written() {
    let stage = Stage::new().await;
    let worker = stage.worker().await;
    let workflow = stage.held_by(worker).await;
    assert_eq!(verdict(&stage.pool, worker, first(workflow)).await, "written");
    assert_eq!(bury(&stage.pool, worker).await, Some(1));
    let answer = append(&stage.pool, worker, &[first(workflow)]).await.expect("it answers").remove(0);
    assert_eq!(
        (answer.verdict.as_str(), answer.leased),
        ("written", false),
        "it stands, and nothing may begin"
    );
}

#[tokio::test]
async fn what_the_lease_dropped_is_told_so_even_when_the_lease_is_renewed_before_the_repetition() {
    let stage = Stage::new().await;
    let worker = stage.worker().await;
    let workflow = workflow_with_step(&stage, worker).await;
    stage.run("update backstitch.incarnation set lease_until = backstitch.clock()").await;
    let next = record(workflow, 1, 1).ends(0, "succeeded").begins(1);
    assert_eq!(verdict(&stage.pool, worker, next.clone()).await, "written_without_intent");
    let beat = format!("select alive from backstitch.beat({worker}, interval '1 hour')");
    assert!(one::<bool>(&stage.pool, &beat).await);
    let answer = append(&stage.pool, worker, &[next]).await.expect("it answers").remove(0);
    assert_eq!((answer.verdict.as_str(), answer.leased), ("written_without_intent", false));
    let answer =
        append(&stage.pool, worker, &[record(workflow, 1, 2).begins(1)]).await.expect("it answers").remove(0);
    assert_eq!((answer.verdict.as_str(), answer.leased), ("written", true), "the next may begin");
}

#[tokio::test]
async fn a_batch_with_one_fenced_record_writes_the_others() {
    let stage = Stage::new().await;
    let (worker, other) = (stage.worker().await, stage.worker().await);
    let mut workflows = Vec::new();
    for holder in [worker, other, worker] {
        workflows.push(stage.held_by(holder).await);
    }
    let records: Vec<_> = workflows.iter().map(|workflow| first(*workflow)).collect();
    let answers = append(&stage.pool, worker, &records).await.expect("it answers");
    let verdicts: Vec<_> = answers.iter().map(|answer| answer.verdict.as_str()).collect();
    assert_eq!(verdicts, ["written", "fenced", "written"]);
}

#[tokio::test]
async fn a_refused_record_of_an_earlier_claim_changes_nothing_for_the_present_one() {
    let stage = Stage::new().await;
    let worker = stage.worker().await;
    let workflow = stage.held_by(worker).await;
    assert!(park(&stage.pool, worker, workflow, 1, json!({})).await);
    assert_eq!(claim(&stage.pool, worker, 1).await, [workflow]);
    let stale = record(workflow, 1, 0).begins(0).after(json!({"park_ms": 0, "phase": "compensating"}));
    let answers = append(
        &stage.pool,
        worker,
        &[stale, record(workflow, 2, 0).begins(0).after(json!({"innocent": true}))],
    )
    .await
    .expect("it answers");
    assert_eq!((answers[0].verdict.as_str(), answers[1].verdict.as_str()), ("fenced", "written"));
    assert_eq!(stage.ready(workflow, "holder").await, Some(worker.to_string()), "it was not let go");
    assert_eq!(stage.ready(workflow, "phase").await.as_deref(), Some("running"));
}

#[tokio::test]
async fn a_record_that_leaves_a_gap_is_refused() {
    let stage = Stage::new().await;
    let worker = stage.worker().await;
    let workflow = stage.held_by(worker).await;
    for seq in [1, 2, -1] {
        assert_eq!(
            verdict(&stage.pool, worker, record(workflow, 1, seq).begins(0)).await,
            "refused",
            "seq {seq}"
        );
    }
    assert_eq!(verdict(&stage.pool, worker, first(workflow)).await, "written");
    assert_eq!(verdict(&stage.pool, worker, record(workflow, 1, 2).ends(0, "succeeded")).await, "refused");
    assert_eq!(stage.journal(workflow).await.len(), 1);
}

#[tokio::test]
async fn a_place_that_another_claim_has_taken_is_refused() {
    let stage = Stage::new().await;
    let (dead, heir) = (stage.worker().await, stage.worker().await);
    let workflow = workflow_with_step(&stage, dead).await;
    assert_eq!(bury(&stage.pool, dead).await, Some(1));
    assert_eq!(claim(&stage.pool, heir, 1).await, [workflow]);
    assert_eq!(verdict(&stage.pool, heir, record(workflow, 2, 0).begins(0)).await, "refused");
    assert_eq!(stage.journal(workflow).await, ["1 -> run 0"]);
}

#[tokio::test]
async fn another_record_of_the_same_claim_at_a_taken_place_is_refused() {
    let stage = Stage::new().await;
    let worker = stage.worker().await;
    let workflow = workflow_with_step(&stage, worker).await;
    assert_eq!(
        verdict(&stage.pool, worker, record(workflow, 1, 1).ends(0, "succeeded").begins(1)).await,
        "written"
    );
    let others = [
        record(workflow, 1, 1).ends(0, "retry").begins(1),
        record(workflow, 1, 1).ends(0, "succeeded"),
        record(workflow, 1, 1).ends(0, "succeeded").begins(2),
        record(workflow, 1, 1).ends(0, "succeeded").begins_again(1, 2),
        record(workflow, 1, 1).turns("unwinding").compensates(0),
        record(workflow, 1, 1).ends(0, "succeeded").completes(),
    ];
    for other in others {
        assert_eq!(verdict(&stage.pool, worker, other).await, "refused");
    }
    assert_eq!(stage.ready(workflow, "phase").await.as_deref(), Some("running"), "nothing follows from them");
}

#[tokio::test]
async fn two_executions_of_one_append_write_it_once() {
    let stage = Stage::new().await;
    let worker = stage.worker().await;
    let workflow = stage.held_by(worker).await;
    let parks = first(workflow).turns("retry").after(json!({"park_ms": 0}));
    let mut one = stage.session().await;
    one.open().await;
    assert_eq!(verdict(&mut one.connection, worker, parks.clone()).await, "written");
    let two = stage.session().await;
    let pid = two.pid;
    let again = appending(two, worker, vec![parks]);
    stage.waits(pid, "transactionid").await;
    one.commit().await.expect("the first");
    assert_eq!(again.await.expect("no panic").expect("it answers")[0].verdict, "written");
    assert_eq!(stage.journal(workflow).await.len(), 1);
}

#[tokio::test]
async fn an_end_is_whole_or_refused() {
    let stage = Stage::new().await;
    let worker = stage.worker().await;
    for turn in ["completed", "compensated"] {
        let workflow = stage.held_by(worker).await;
        let bare = record(workflow, 1, 0).turns(turn);
        assert_eq!(
            code(append(&stage.pool, worker, &[bare]).await),
            "23514",
            "{turn} without what belongs to it"
        );
        assert!(stage.journal(workflow).await.is_empty());
        assert_eq!(stage.ready(workflow, "phase").await.as_deref(), Some("running"));
    }
}

#[tokio::test]
async fn an_ended_workflow_takes_no_record_and_has_left_ready() {
    let stage = Stage::new().await;
    let worker = stage.worker().await;
    let workflow = workflow_with_step(&stage, worker).await;
    let end = record(workflow, 1, 1).ends(0, "succeeded").completes();
    assert_eq!(verdict(&stage.pool, worker, end).await, "written");
    assert_eq!(verdict(&stage.pool, worker, record(workflow, 1, 2).begins(1)).await, "fenced");
    let live = format!("select count(*) from backstitch.ready where workflow_id = '{workflow}'");
    assert_eq!(one::<i64>(&stage.pool, &live).await, 0);
}

/// Each verdict that there is, once by either version's call: the older one asks for an answer to every record.
#[tokio::test]
async fn workers_of_the_version_before_get_the_same_answers() {
    for as_before in [false, true] {
        let stage = Stage::new().await;
        let (worker, other) = (stage.worker().await, stage.worker().await);
        let mut workflows = Vec::new();
        for _ in 0..4 {
            workflows.push(stage.held_by(worker).await);
        }
        let append = async |records: Vec<Record>| {
            let answers = match as_before {
                true => append_as_before(&stage.pool, worker, &records).await,
                false => append(&stage.pool, worker, &records).await,
            };
            answers.expect("it answers").into_iter().map(|answer| answer.verdict).collect::<Vec<_>>()
        };
        let begun: Vec<_> = workflows.iter().map(|workflow| first(*workflow)).collect();
        assert_eq!(append(begun.clone()).await, ["written"; 4], "all at once");
        assert_eq!(append(begun).await, ["written"; 4], "and repeated");
        assert_eq!(cancel(&stage.pool, workflows[1]).await, "accepted");
        assert!(park(&stage.pool, worker, workflows[2], 1, json!({})).await);
        assert_eq!(claim(&stage.pool, other, 1).await, [workflows[2]]);
        let next = |workflow: Uuid| record(workflow, 1, 1).ends(0, "succeeded");
        let mixed = vec![
            next(workflows[0]).completes(),
            next(workflows[1]).begins(1),
            next(workflows[2]).begins(1),
            record(workflows[3], 1, 5).ends(0, "succeeded"),
        ];
        let expected = ["written", "written_without_intent", "fenced", "refused"];
        assert_eq!(append(mixed).await, expected, "as before: {as_before}");
        let sql =
            format!("select output::text from backstitch.workflow where workflow_id = '{}'", workflows[0]);
        assert_eq!(one::<Option<String>>(&stage.pool, &sql).await.as_deref(), Some("1"));
    }
}
