//! Which finished workflows are removed, what stays of them, and what it costs.

use std::time::Duration;

use backstitch::{Client, Database, Error, Handle, Removed, WorkflowId};
use serde_json::{Value, json};
use sqlx::{PgExecutor, Row};
use uuid::Uuid;

use crate::plans::{Cost, FACTOR, cost};
use crate::record::{first, record, verdict};
use crate::stage::{Session, Stage, claim, code, execute, one};

/// What one batch said: its verdict, how many it removed, how many it walked over.
type Batch = (String, i32, i32);

const DAY: Duration = Duration::from_secs(86_400);

/// One batch of a run, of what ended longer ago than `age`.
async fn batch(
    on: impl PgExecutor<'_>,
    run: Uuid,
    age: &str,
    workflows: i32,
    records: i32,
) -> sqlx::Result<Batch> {
    sqlx::query("select * from backstitch.remove_finished($1, $2::text::interval, $3, $4)")
        .bind(run)
        .bind(age)
        .bind(workflows)
        .bind(records)
        .fetch_one(on)
        .await
        .map(|row| (row.get("verdict"), row.get("removed"), row.get("walked")))
}

/// One batch of at most so many workflows that have ended by now.
async fn batch_of(on: impl PgExecutor<'_>, run: Uuid, workflows: i32) -> Batch {
    batch(on, run, "0", workflows, 10_000).await.expect("it answers")
}

fn said(verdict: &str, removed: i32, walked: i32) -> Batch {
    (verdict.to_owned(), removed, walked)
}

/// A workflow of one step that has ended: a journal of two rows.
async fn finished(stage: &Stage, worker: i32) -> Uuid {
    let workflow = stage.held_by(worker).await;
    assert_eq!(verdict(&stage.pool, worker, first(workflow)).await, "written");
    complete(stage, worker, workflow).await;
    workflow
}

async fn complete(stage: &Stage, worker: i32, workflow: Uuid) {
    let end = record(workflow, 1, 1).ends(0, "succeeded").completes();
    assert_eq!(verdict(&stage.pool, worker, end).await, "written");
}

/// From now on it is so much later.
async fn later(stage: &Stage, span: &str) {
    stage
        .run(&format!(
            "create or replace function backstitch.clock() returns timestamptz language sql volatile
            set search_path = pg_catalog return clock_timestamp() + interval '{span}'"
        ))
        .await;
}

/// How many rows of a workflow there are: in `workflow`, `ready`, `journal`, `alert`, `key`.
async fn rows(stage: &Stage, workflow: Uuid) -> Vec<i64> {
    let mut rows = Vec::new();
    for table in ["workflow", "ready", "journal", "alert", "key"] {
        let sql = format!("select count(*) from backstitch.{table} where workflow_id = '{workflow}'");
        rows.push(one(&stage.pool, &sql).await);
    }
    rows
}

async fn client(stage: &Stage) -> Client {
    Client::new(Database::connect(&stage.database.url).await.expect("it answers"))
}

#[tokio::test]
async fn only_what_ended_long_enough_ago_is_removed_and_all_of_it() {
    let stage = Stage::new().await;
    let worker = stage.worker().await;
    let live = stage.held_by(worker).await;
    assert_eq!(verdict(&stage.pool, worker, first(live)).await, "written");
    let late = stage.held_by(worker).await;
    assert_eq!(verdict(&stage.pool, worker, first(late)).await, "written");
    let old = finished(&stage, worker).await;
    let alarmed = stage.held_by(worker).await;
    let alarm = json!({"attention": {"reason": "r", "message": "m"}, "report": {}});
    let alarm = record(alarmed, 1, 0).turns("retry").after(alarm);
    assert_eq!(verdict(&stage.pool, worker, alarm).await, "written");
    let end = record(alarmed, 1, 1).turns("compensated").ends_compensated();
    assert_eq!(verdict(&stage.pool, worker, end).await, "written");
    assert_eq!(rows(&stage, alarmed).await, [1, 0, 2, 1, 0]);

    later(&stage, "31 days").await;
    complete(&stage, worker, late).await;
    let young = finished(&stage, stage.worker().await).await;
    let removed = client(&stage).await.remove_finished(30 * DAY).await.expect("it answers");

    assert_eq!((removed.removed, removed.stayed, removed.left_to_another), (2, 3, false));
    assert_eq!(rows(&stage, old).await, [0, 0, 0, 0, 0]);
    assert_eq!(rows(&stage, alarmed).await, [0, 0, 0, 0, 0]);
    assert_eq!(rows(&stage, live).await, [1, 1, 1, 0, 0]);
    assert_eq!(rows(&stage, late).await, [1, 0, 2, 0, 0]);
    assert_eq!(rows(&stage, young).await, [1, 0, 2, 0, 0]);
    complete(&stage, worker, live).await;
}

#[tokio::test]
async fn the_key_outlives_its_workflow() {
    let stage = Stage::new().await;
    let worker = stage.worker().await;
    let ask = |input: &str| format!("select backstitch.enqueue('k', '{input}', 'once')");
    let workflow: Uuid = one(&stage.pool, &ask(r#"{"a": 1}"#)).await;
    assert_eq!(claim(&stage.pool, worker, 1).await, [workflow]);
    assert_eq!(verdict(&stage.pool, worker, first(workflow)).await, "written");
    complete(&stage, worker, workflow).await;
    assert_eq!(batch_of(&stage.pool, Uuid::new_v4(), 500).await, said("ended", 1, 1));
    assert_eq!(rows(&stage, workflow).await, [0, 0, 0, 0, 1]);

    assert_eq!(one::<Uuid>(&stage.pool, &ask(r#"{"a": 1}"#)).await, workflow);
    let other =
        sqlx::query("select backstitch.enqueue('k', '{\"a\": 2}', 'once')").execute(&stage.pool).await;
    assert_eq!(code(other), "BSK01");
    assert_eq!(rows(&stage, workflow).await, [0, 0, 0, 0, 1], "and nothing is done again");
}

#[tokio::test]
async fn whoever_waits_for_a_removed_workflow_is_told_that_it_is_not_there() {
    let stage = Stage::new().await;
    let worker = stage.worker().await;
    let workflow = stage.held_by(worker).await;
    let client = client(&stage).await;
    let handle = Handle::<Value>::new(WorkflowId(workflow));
    assert_eq!(client.poll(&handle).await.expect("it is there"), None);
    let waiting = tokio::spawn(async move { client.wait(&handle).await });
    // In one transaction, or the waiter may see its end.
    let mut session = stage.session().await;
    session.open().await;
    let end = record(workflow, 1, 0).completes();
    assert_eq!(verdict(&mut session.connection, worker, end).await, "written");
    assert_eq!(batch_of(&mut session.connection, Uuid::new_v4(), 500).await, said("ended", 1, 1));
    session.commit().await.expect("both");
    let answer = waiting.await.expect("no panic");
    assert!(matches!(answer, Err(Error::NotFound(WorkflowId(id))) if id == workflow), "{answer:?}");
}

#[tokio::test]
async fn of_two_batches_at_once_one_works_and_the_other_says_so() {
    let stage = Stage::new().await;
    let worker = stage.worker().await;
    let (one, other) = (finished(&stage, worker).await, finished(&stage, worker).await);
    let mut session = stage.session().await;
    session.open().await;
    assert_eq!(batch_of(&mut session.connection, Uuid::new_v4(), 500).await, said("ended", 2, 2));
    let mut second = stage.session().await;
    // It does not wait; if it did, this test would.
    execute(&mut second.connection, "set lock_timeout = '5s'").await.expect("set");
    let answer = batch_of(&mut second.connection, Uuid::new_v4(), 500).await;
    assert_eq!(answer, said("left_to_another", 0, 0));
    session.commit().await.expect("it removes them");
    assert_eq!((rows(&stage, one).await[0], rows(&stage, other).await[0]), (0, 0));
}

#[tokio::test]
async fn a_run_is_not_joined_by_another_between_its_batches_unless_it_is_dead() {
    let stage = Stage::new().await;
    let worker = stage.worker().await;
    for _ in 0..4 {
        finished(&stage, worker).await;
    }
    let (dead, heir) = (Uuid::new_v4(), Uuid::new_v4());
    assert_eq!(batch_of(&stage.pool, dead, 1).await, said("goes_on", 1, 1));
    assert_eq!(batch_of(&stage.pool, heir, 1).await, said("left_to_another", 0, 0));
    let by_hand = client(&stage).await.remove_finished(Duration::ZERO).await.expect("it answers");
    assert!(by_hand.left_to_another && by_hand.removed == 0, "{by_hand:?}");
    assert_eq!(batch_of(&stage.pool, dead, 1).await, said("goes_on", 1, 1));

    stage.run("update backstitch.retention set batch_at = batch_at - interval '30 seconds'").await;
    assert_eq!(batch_of(&stage.pool, heir, 1).await, said("goes_on", 1, 1));
    assert_eq!(batch_of(&stage.pool, dead, 1).await, said("left_to_another", 0, 0), "should it come back");
    assert_eq!(batch_of(&stage.pool, heir, 2).await, said("ended", 1, 1));
}

#[tokio::test]
async fn cut_off_anywhere_a_run_leaves_whole_workflows() {
    let stage = Stage::new().await;
    let worker = stage.worker().await;
    for _ in 0..5 {
        finished(&stage, worker).await;
    }
    // Workflows, and those whose journal is whole.
    let whole = "select array[count(*), count(*) filter (where 2 = (
            select count(*) from backstitch.journal j where j.workflow_id = w.workflow_id)),
        (select count(*) from backstitch.journal) / 2] from backstitch.workflow w";
    let mut left = 5;
    while left > 0 {
        let run = Uuid::new_v4();
        let mut session = stage.session().await;
        session.open().await;
        assert_eq!(batch_of(&mut session.connection, run, 2).await.1, left.min(2));
        let killed: bool = one(&stage.pool, &format!("select pg_terminate_backend({})", session.pid)).await;
        assert!(killed && session.commit().await.is_err(), "its transaction is gone");
        let removed = backstitch_testkit::wait::until("the next run begins", async || {
            let (verdict, removed, _) = batch_of(&stage.pool, run, 2).await;
            (verdict != "left_to_another").then_some(removed)
        })
        .await;
        assert_eq!(removed, left.min(2), "all that was cut off is there");
        left -= removed;
        let left = i64::from(left);
        assert_eq!(one::<Vec<i64>>(&stage.pool, whole).await, [left, left, left]);
        // The process of this run dies here; the next one need not wait until that is known.
        stage.run("update backstitch.retention set batch_at = batch_at - interval '1 minute'").await;
    }
}

#[tokio::test]
async fn a_batch_is_bounded_by_workflows_and_by_records_of_journals() {
    let stage = Stage::new().await;
    let worker = stage.worker().await;
    for _ in 0..6 {
        finished(&stage, worker).await;
    }
    let run = Uuid::new_v4();
    let next = async |workflows, records| {
        batch(&stage.pool, run, "0", workflows, records).await.expect("it answers")
    };
    assert_eq!(next(1, 10_000).await, said("goes_on", 1, 1));
    assert_eq!(next(500, 3).await, said("goes_on", 2, 2), "the second one makes it more than three");
    assert_eq!(next(500, 1).await, said("goes_on", 1, 1), "one that is longer than a batch goes alone");
    assert_eq!(next(500, 4).await, said("ended", 2, 2));
}

#[tokio::test]
async fn what_stays_at_the_old_end_is_walked_over_once_a_run() {
    let stage = Stage::new().await;
    let worker = stage.worker().await;
    for _ in 0..3 {
        stage.held_by(worker).await;
    }
    for _ in 0..3 {
        finished(&stage, worker).await;
    }
    let run = Uuid::new_v4();
    let mut batches = Vec::new();
    loop {
        batches.push(batch_of(&stage.pool, run, 2).await);
        if batches.last().is_some_and(|batch| batch.0 != "goes_on") {
            break;
        }
    }
    assert_eq!(
        batches,
        [said("goes_on", 0, 2), said("goes_on", 1, 2), said("goes_on", 2, 2), said("ended", 0, 0)]
    );
}

#[tokio::test]
async fn an_age_that_makes_no_sense_is_refused_and_one_beyond_all_time_removes_nothing() {
    let stage = Stage::new().await;
    finished(&stage, stage.worker().await).await;
    for (age, workflows, records) in [("-1 second", 500, 500), ("1 day", 0, 500), ("1 day", 500, 0)] {
        assert_eq!(code(batch(&stage.pool, Uuid::new_v4(), age, workflows, records).await), "BSI01");
    }
    let removed = client(&stage).await.remove_finished(Duration::MAX).await.expect("it answers");
    assert_eq!(removed, Removed::default());
}

/// So many that ended 40 days ago, with a journal of two rows each.
async fn fill(stage: &Stage, workflows: u32) {
    stage
        .run(&format!(
            "with made as (
                insert into backstitch.workflow
                    (workflow_id, kind, version, queue, input, enqueued_at, status, output, finished_at)
                select (lpad(to_hex((extract(epoch from clock_timestamp() - interval '40 days') * 1000)::bigint), 12, '0')
                        || right(replace(backstitch.uuid_v7()::text, '-', ''), 20))::uuid,
                    'k', 1, 'default', '{{}}', now(), 'completed', '1', now() - interval '40 days'
                from generate_series(1, {workflows})
                returning workflow_id
            )
            insert into backstitch.journal (workflow_id, seq, epoch, written_at, turn)
            select m.workflow_id, s, 1, now(), 'retry' from made m, generate_series(0, 1) s"
        ))
        .await;
}

/// A batch of a hundred, in one transaction: statistics stay.
async fn cost_of_a_batch(session: &mut Session, run: Uuid) -> Cost {
    session.open().await;
    let call = format!("select * from backstitch.remove_finished('{run}', '30 days', 100, 10000)");
    let cost = cost(session, &call).await;
    session.commit().await.expect("a batch");
    cost
}

#[tokio::test]
async fn a_batch_costs_the_same_on_large_tables_and_reads_none_in_sequence() {
    let stage = Stage::new().await;
    // No analysis comes to help in the middle; and a vacuum has seen the tables empty.
    for table in ["ready", "journal", "workflow", "alert"] {
        stage.run(&format!("alter table backstitch.{table} set (autovacuum_enabled = off)")).await;
        stage.run(&format!("vacuum analyze backstitch.{table}")).await;
    }
    let run = Uuid::new_v4();
    let mut session = stage.session().await;
    fill(&stage, 300).await;
    // The session's plans are made now, and kept.
    cost_of_a_batch(&mut session, run).await;
    let small = cost_of_a_batch(&mut session, run).await;

    fill(&stage, 100_000).await;
    stage
        .run(
            "insert into backstitch.workflow (workflow_id, kind, version, queue, input, enqueued_at)
                select backstitch.uuid_v7(), 'k', 1, 'default', '{}', now() from generate_series(1, 100000);
            insert into backstitch.alert (workflow_id, reason, message, raised_at)
                select backstitch.uuid_v7(), 'r', 'm', now() from generate_series(1, 10000)",
        )
        .await;
    let burst = cost_of_a_batch(&mut session, run).await;
    let mut new = stage.session().await;
    cost_of_a_batch(&mut new, run).await;
    let stale = cost_of_a_batch(&mut new, run).await;
    stage.run("analyze backstitch.journal; analyze backstitch.workflow; analyze backstitch.alert").await;
    let mut fresh = stage.session().await;
    cost_of_a_batch(&mut fresh, run).await;
    let analyzed = cost_of_a_batch(&mut fresh, run).await;

    for (name, large) in [("kept plans", &burst), ("new plans", &stale), ("analyzed", &analyzed)] {
        assert!(large.buffers <= small.buffers * FACTOR, "{name}: {large:?}, on small tables {small:?}");
        assert_eq!(large.sequential_scans, 0, "{name}");
    }
    assert_eq!(
        one::<i64>(&stage.pool, "select count(*) from backstitch.workflow where status = 'live'").await,
        100_000
    );
}
