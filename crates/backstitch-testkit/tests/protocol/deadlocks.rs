//! That nothing the protocol does waits in a circle.

use backstitch_testkit::wait::until;
use serde_json::json;
use uuid::Uuid;

use crate::record::{Record, append, append_among_others, first, record};
use crate::stage::{Session, Stage, bury, cancel, claim, one};

const WORKFLOWS: usize = 24;
const ROUNDS: i32 = 25;

/// Two batches that overlap in opposite orders, held against each other by a third transaction.
#[tokio::test]
async fn two_overlapping_batches_take_their_places_in_one_order() {
    let stage = Stage::new().await;
    let worker = stage.worker().await;
    let mut workflows =
        [stage.held_by(worker).await, stage.held_by(worker).await, stage.held_by(worker).await];
    workflows.sort_unstable();
    let [low, middle, high] = workflows;
    let gate = stage.half_written(middle, 0).await;
    let begin = |order: [Uuid; 3]| order.map(|workflow| record(workflow, 1, 0).begins(0)).to_vec();
    let (up, down) = (stage.session().await, stage.session().await);
    let (up_pid, down_pid) = (up.pid, down.pid);
    let up = crate::record::appending(up, worker, begin([low, middle, high]));
    stage.waits(up_pid, "transactionid").await;
    let down = crate::record::appending(down, worker, begin([high, middle, low]));
    stage.waits(down_pid, "transactionid").await;
    gate.rollback().await.expect("a rollback");
    for batch in [up, down] {
        let answers = batch.await.expect("no panic").expect("no deadlock");
        assert!(answers.iter().all(|answer| answer.verdict == "written"), "{answers:?}");
    }
}

#[tokio::test]
async fn eight_sessions_that_append_cancel_claim_and_bury_do_not_deadlock() {
    let stage = Stage::new().await;
    let (dying, living) = (stage.worker().await, stage.worker().await);
    for _ in 0..WORKFLOWS {
        stage.enqueued().await;
    }
    let workflows = claim(&stage.pool, dying, i32::try_from(WORKFLOWS).expect("few")).await;
    // Begun, or a cancel would end them.
    let begun: Vec<_> = workflows.iter().map(|workflow| first(*workflow)).collect();
    append(&stage.pool, dying, &begun).await.expect("it answers");
    let mut tasks = tokio::task::JoinSet::new();
    for number in 0..4 {
        tasks.spawn(append_overlapping(stage.session().await, dying, workflows.clone(), number));
    }
    for number in 0..2 {
        tasks.spawn(cancel_all(stage.session().await, workflows.clone(), number));
    }
    tasks.spawn(take_over(stage.session().await, living));
    // In the thick of it.
    let written = format!("select count(*) > {} from backstitch.journal", WORKFLOWS + WORKFLOWS / 2);
    until("some of it is written", async || one::<bool>(&stage.pool, &written).await.then_some(())).await;
    assert!(bury(&stage.pool, dying).await.is_some(), "it lived");
    while let Some(task) = tasks.join_next().await {
        task.expect("no session fails: a deadlock would be an error");
    }
    let deadlocks = "select deadlocks from pg_stat_database where datname = current_database()";
    assert_eq!(one::<i64>(&stage.pool, deadlocks).await, 0);
}

/// Batches of the same workflows, each session in an order of its own. Whoever comes second is refused.
async fn append_overlapping(mut session: Session, worker: i32, workflows: Vec<Uuid>, number: usize) {
    for round in 1..=ROUNDS {
        let mut order = workflows.clone();
        order.rotate_left(number * 5);
        if number % 2 == 1 {
            order.reverse();
        }
        let records: Vec<Record> = order
            .into_iter()
            .enumerate()
            .map(|(index, workflow)| {
                let next = record(workflow, 1, round).turns("retry");
                // Some of them change their row in ready, others do not.
                if (index + number).is_multiple_of(3) { next.after(json!({"innocent": true})) } else { next }
            })
            .collect();
        append_among_others(&mut session.connection, worker, &records).await.expect("no deadlock");
    }
}

async fn cancel_all(mut session: Session, workflows: Vec<Uuid>, number: usize) {
    for round in 0..workflows.len() {
        let index = if number == 0 { round } else { workflows.len() - 1 - round };
        cancel(&mut session.connection, workflows[index]).await;
    }
}

async fn take_over(mut session: Session, worker: i32) {
    let mut taken = 0;
    while taken < WORKFLOWS {
        taken += claim(&mut session.connection, worker, 7).await.len();
    }
}
