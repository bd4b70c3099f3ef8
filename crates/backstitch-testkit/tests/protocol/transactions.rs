//! A transactional step: its effect, its record and the fence commit together, or not at all.

use backstitch_testkit::wait::until;
use serde_json::json;
use sqlx::Row;
use uuid::Uuid;

use crate::record::{append, appending, first, record, verdict};
use crate::stage::{Session, Stage, bury, burying, claim, code, execute, one, park};

/// A transaction at the workflow's place 0, whose step has made its effect.
async fn entered(stage: &Stage, worker: i32, workflow: Uuid) -> Session {
    let mut session = stage.session().await;
    session.open().await;
    assert!(slot(&mut session, worker, workflow).await.is_none(), "its place is free");
    execute(&mut session.connection, "insert into effects values (1)").await.expect("the effect");
    session
}

/// What stands at the workflow's place 0.
async fn slot(session: &mut Session, worker: i32, workflow: Uuid) -> Option<(i32, i32)> {
    sqlx::query("select epoch, incarnation from backstitch.enter_slot($1, $2, 0, 0, 60000)")
        .bind(worker)
        .bind(workflow)
        .fetch_optional(&mut session.connection)
        .await
        .expect("it answers")
        .map(|row| (row.get("epoch"), row.get("incarnation")))
}

async fn staged() -> Stage {
    let stage = Stage::new().await;
    stage.run("create table effects (n int)").await;
    stage
}

async fn effects(stage: &Stage) -> i64 {
    one(&stage.pool, "select count(*) from effects").await
}

#[tokio::test]
async fn a_burial_ends_the_transactions_that_bear_the_dead_ones_name() {
    let stage = staged().await;
    let (dead, heir) = (stage.worker().await, stage.worker().await);
    let workflow = stage.held_by(dead).await;
    let mut step = entered(&stage, dead, workflow).await;
    let whole = record(workflow, 1, 0).begins(0).ends(0, "succeeded");
    assert_eq!(verdict(&mut step.connection, dead, whole).await, "written");
    assert_eq!(bury(&stage.pool, dead).await, Some(1), "it does not wait for a transaction that nobody ends");
    step.commit().await.expect_err("its session was ended");
    assert_eq!(effects(&stage).await, 0);
    assert_eq!(stage.ready(workflow, "orphaned").await, None, "nothing of it happened");
    assert_eq!(claim(&stage.pool, heir, 1).await, [workflow]);
}

#[tokio::test]
async fn a_burial_waits_for_a_transactional_commit_whose_name_a_pooler_hides() {
    for fenced in [true, false] {
        let stage = staged().await;
        if !fenced {
            let lock = "perform pg_advisory_xact_lock_shared(backstitch.fence_class(), p_incarnation);";
            stage.weaken("append", lock, "").await;
        }
        let dead = stage.worker().await;
        let workflow = stage.held_by(dead).await;
        let mut step = entered(&stage, dead, workflow).await;
        execute(&mut step.connection, "set local application_name = 'pooler'").await.expect("a name");
        let whole = record(workflow, 1, 0).begins(0).ends(0, "succeeded");
        assert_eq!(verdict(&mut step.connection, dead, whole).await, "written");
        let burier = stage.session().await;
        let pid = burier.pid;
        let burial = burying(burier, dead);
        if fenced {
            stage.waits(pid, "advisory").await;
        }
        let burial = if fenced {
            step.commit().await.expect("it was in time");
            burial.await
        } else {
            let burial = burial.await;
            step.commit().await.expect("nothing hinders it");
            burial
        };
        assert_eq!(burial.expect("no panic"), Some(1));
        assert_eq!(effects(&stage).await, 1);
        let orphaned = stage.ready(workflow, "orphaned").await;
        assert_eq!(orphaned.is_some(), fenced, "without the fence the burial misses an effect that stands");
        let charged = if fenced { "0" } else { "1" };
        assert_eq!(
            stage.ready(workflow, "crash_charges").await.as_deref(),
            Some(charged),
            "it has an outcome"
        );
    }
}

#[tokio::test]
async fn a_transactional_step_buried_before_its_record_commits_nothing() {
    let stage = staged().await;
    let dead = stage.worker().await;
    let workflow = stage.held_by(dead).await;
    let mut step = entered(&stage, dead, workflow).await;
    execute(&mut step.connection, "set local application_name = 'pooler'").await.expect("a name");
    assert_eq!(bury(&stage.pool, dead).await, Some(1));
    let whole = record(workflow, 1, 0).begins(0).ends(0, "succeeded");
    assert_eq!(verdict(&mut step.connection, dead, whole).await, "fenced");
}

#[tokio::test]
async fn the_second_at_a_place_waits_and_finds_it_taken() {
    let stage = staged().await;
    let worker = stage.worker().await;
    let workflow = stage.held_by(worker).await;
    let mut step = entered(&stage, worker, workflow).await;
    let mut again = stage.session().await;
    let pid = again.pid;
    again.open().await;
    let entering = tokio::spawn(async move { slot(&mut again, worker, workflow).await });
    stage.waits(pid, "advisory").await;
    let whole = record(workflow, 1, 0).begins(0).ends(0, "succeeded");
    assert_eq!(verdict(&mut step.connection, worker, whole).await, "written");
    step.commit().await.expect("the step");
    assert_eq!(entering.await.expect("no panic"), Some((1, worker)));
    assert_eq!(effects(&stage).await, 1);
}

#[tokio::test]
async fn a_commit_given_up_for_lost_is_not_taken_for_the_failure_written_in_its_place() {
    let stage = staged().await;
    let worker = stage.worker().await;
    let workflow = stage.held_by(worker).await;
    let mut step = entered(&stage, worker, workflow).await;
    let attempt = || record(workflow, 1, 0).begins(0);
    assert_eq!(verdict(&mut step.connection, worker, attempt().ends(0, "succeeded")).await, "written");
    // Its worker waited long enough for the commit, and writes that the attempt timed out.
    let session = stage.session().await;
    let pid = session.pid;
    let given_up = appending(session, worker, vec![attempt().ends(0, "retry")]);
    stage.waits(pid, "transactionid").await;
    step.commit().await.expect("the commit came through after all");
    let answer = given_up.await.expect("no panic").expect("it answers").remove(0);
    assert_eq!(answer.verdict, "refused", "or the step would be made once more");
    assert_eq!(stage.journal(workflow).await, ["1 run 0 succeeded -> run 0"]);
}

#[tokio::test]
async fn a_transaction_left_alone_ends_by_itself() {
    let stage = staged().await;
    let worker = stage.worker().await;
    let workflow = stage.held_by(worker).await;
    let mut step = stage.session().await;
    step.open().await;
    execute(&mut step.connection, &format!("select backstitch.enter_slot({worker}, '{workflow}', 0, 0, 1)"))
        .await
        .expect("it enters");
    let gone = format!("select not exists (select from pg_stat_activity where pid = {})", step.pid);
    until("the server ends it", async || one::<bool>(&stage.pool, &gone).await.then_some(())).await;
    step.commit().await.expect_err("it is over");
}

#[tokio::test]
async fn a_step_is_not_begun_in_a_session_that_can_only_read() {
    let stage = staged().await;
    let worker = stage.worker().await;
    let workflow = stage.held_by(worker).await;
    let mut session = stage.session().await;
    execute(&mut session.connection, "set default_transaction_read_only = on").await.expect("set");
    session.open().await;
    let enter = format!("select backstitch.enter_slot({worker}, '{workflow}', 0, 0, 60000)");
    assert_eq!(code(execute(&mut session.connection, &enter).await), "25006", "as Postgres says of a write");
}

#[tokio::test]
async fn a_transactional_effect_commits_without_a_lease_but_not_without_a_claim() {
    let stage = staged().await;
    let worker = stage.worker().await;
    let workflow = stage.held_by(worker).await;
    stage.run("update backstitch.incarnation set lease_until = backstitch.clock()").await;
    let whole = record(workflow, 1, 0).begins(0).ends(0, "succeeded");
    let answer = append(&stage.pool, worker, &[whole]).await.expect("it answers").remove(0);
    assert_eq!((answer.verdict.as_str(), answer.leased), ("written", false), "it happened: it is told");
    assert!(park(&stage.pool, worker, workflow, 1, json!({})).await);
    assert_eq!(verdict(&stage.pool, worker, first(workflow)).await, "fenced");
}
