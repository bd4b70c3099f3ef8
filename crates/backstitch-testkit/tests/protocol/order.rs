//! Is what happened told in the order in which it happened, whatever the clock did meanwhile?

use backstitch::{Client, Database, WorkflowId};

use crate::record::{first, record, verdict};
use crate::stage::Stage;

/// From now on the database's clock is off by so much.
async fn off_by(stage: &Stage, span: &str) {
    let clock = format!(
        "create or replace function backstitch.clock() returns timestamptz language sql volatile
        set search_path = pg_catalog return clock_timestamp() + interval '{span}'"
    );
    stage.run(&clock).await;
}

#[tokio::test]
async fn attempts_are_told_in_the_order_of_the_journal_after_a_clock_that_jumped_back() {
    let stage = Stage::new().await;
    let worker = stage.worker().await;
    let workflow = stage.held_by(worker).await;
    let on_its_way = record(workflow, 1, 1).ends(0, "succeeded").begins(1);
    let again = record(workflow, 1, 2).ends(1, "retry").begins_again(1, 2);
    let last = record(workflow, 1, 3).ends_again(1, 2, "succeeded").begins(2);
    for (clock, written) in
        [("0", first(workflow)), ("-20 minutes", on_its_way), ("-40 minutes", again), ("0", last)]
    {
        off_by(&stage, clock).await;
        assert_eq!(verdict(&stage.pool, worker, written).await, "written", "{clock}");
    }
    let client = Client::new(Database::connect(&stage.database.url).await.expect("it answers"));
    let attempts = client.attempts(WorkflowId(workflow)).await.expect("it answers");
    let told: Vec<_> = attempts
        .iter()
        .map(|attempt| (attempt.position, attempt.attempt, attempt.began_seq, attempt.ended_seq))
        .collect();
    assert_eq!(told, [(0, 1, 0, Some(1)), (1, 1, 1, Some(2)), (1, 2, 2, Some(3)), (2, 1, 3, None)]);
    assert!(attempts[1].began_at < attempts[0].began_at, "the clock did jump: {attempts:?}");
}
