//! What is announced to those who wait, how seldom, and that nothing is while nobody does: commits that notify take turns.

use serde_json::json;
use sqlx::postgres::PgListener;
use uuid::Uuid;

use crate::record::{Record, append, append_as_before, first, record};
use crate::stage::{Session, Stage, execute, one, park};

const CHANNEL: &str = "backstitch_settled";

/// A session that hears announcements. Whether it expects any is another matter.
async fn listening(stage: &Stage) -> PgListener {
    let mut listener = PgListener::connect(&stage.database.url).await.expect("the server takes us");
    listener.listen(CHANNEL).await.expect("it listens");
    listener
}

async fn expecting(stage: &Stage) -> PgListener {
    let mut listener = listening(stage).await;
    execute(&mut listener, "select backstitch.expect_announcements()").await.expect("it expects");
    listener
}

/// How many were announced up to now.
async fn announced(stage: &Stage, listener: &mut PgListener) -> usize {
    stage.run(&format!("select pg_notify('{CHANNEL}', 'up to here')")).await;
    let mut announced = 0;
    while listener.recv().await.expect("it listens").payload().is_empty() {
        announced += 1;
    }
    announced
}

/// The record with which a workflow of one step ends.
async fn end(stage: &Stage, worker: i32) -> Record {
    let workflow: Uuid = stage.held_by(worker).await;
    append(&stage.pool, worker, &[first(workflow)]).await.expect("it begins");
    record(workflow, 1, 1).ends(0, "succeeded").completes()
}

/// Two appends of which each ends a workflow before the other commits.
async fn two_end_at_a_time(stage: &Stage, worker: i32) {
    let mut sessions: [Session; 2] = [stage.session().await, stage.session().await];
    for session in &mut sessions {
        let end = end(stage, worker).await;
        session.open().await;
        append(&mut session.connection, worker, &[end]).await.expect("it ends");
    }
    for session in &mut sessions {
        session.commit().await.expect("all of it");
    }
}

#[tokio::test]
async fn while_nobody_waits_nothing_is_announced_and_appends_do_not_take_each_other_for_one_who_does() {
    let stage = Stage::new().await;
    let worker = stage.worker().await;
    let mut listener = listening(&stage).await;
    two_end_at_a_time(&stage, worker).await;
    assert_eq!(announced(&stage, &mut listener).await, 0);
}

#[tokio::test]
async fn of_appends_that_end_something_at_a_time_one_announces() {
    let stage = Stage::new().await;
    let worker = stage.worker().await;
    let mut listener = expecting(&stage).await;
    two_end_at_a_time(&stage, worker).await;
    assert_eq!(announced(&stage, &mut listener).await, 1);
    two_end_at_a_time(&stage, worker).await;
    assert_eq!(announced(&stage, &mut listener).await, 1, "and the gate is open again");
}

#[tokio::test]
async fn an_end_is_announced_once_a_batch_and_a_record_that_ends_nothing_is_not() {
    let stage = Stage::new().await;
    let worker = stage.worker().await;
    let mut listener = expecting(&stage).await;
    let ends = [end(&stage, worker).await, end(&stage, worker).await];
    assert_eq!(announced(&stage, &mut listener).await, 0, "both have begun");
    append(&stage.pool, worker, &ends).await.expect("they end");
    assert_eq!(announced(&stage, &mut listener).await, 1);
    let end = end(&stage, worker).await;
    append_as_before(&stage.pool, worker, &[end]).await.expect("it ends");
    assert_eq!(announced(&stage, &mut listener).await, 1, "by a worker of the version before too");
}

#[tokio::test]
async fn that_a_person_is_needed_is_announced() {
    let stage = Stage::new().await;
    let worker = stage.worker().await;
    let mut listener = expecting(&stage).await;
    let alarm = json!({"attention": {"reason": "r", "message": "m"}});
    let (parked, appended) = (stage.held_by(worker).await, stage.held_by(worker).await);
    assert!(park(&stage.pool, worker, parked, 1, alarm.clone()).await);
    assert_eq!(announced(&stage, &mut listener).await, 1);
    append(&stage.pool, worker, &[first(appended).after(alarm)]).await.expect("it begins");
    assert_eq!(announced(&stage, &mut listener).await, 1);

    let living = stage.enqueued().await;
    let sql = |workflows: &[Uuid]| {
        let workflows = workflows.iter().map(Uuid::to_string).collect::<Vec<_>>().join(",");
        format!("select array_agg(s order by s) from backstitch.settled('{{{workflows}}}') s")
    };
    let mut settled = vec![parked, appended, Uuid::nil()];
    settled.sort_unstable();
    let asked = one::<Vec<Uuid>>(&stage.pool, &sql(&[living, parked, appended, Uuid::nil()])).await;
    assert_eq!(asked, settled, "who is unknown is not waited for either");
}
