//! That the oracle notices an idempotency key that is not stable.

use backstitch::WorkflowId;
use backstitch_testkit::ledger::Ledger;
use backstitch_testkit::oracle;
use backstitch_testkit::violation::{Violated, Violation};
use uuid::Uuid;

use crate::record::{first, record, verdict};
use crate::stage::{Stage, bury, claim};

/// A worker that dies after its effect, and a second that runs the step again and completes. Each takes the key of its
/// effect from `key`.
async fn run_twice(key: impl Fn(Uuid) -> String) -> Vec<Violation> {
    let stage = Stage::new().await;
    let ledger = Ledger::in_database(stage.pool.clone()).await;
    let (dead, heir) = (stage.worker().await, stage.worker().await);
    let workflow = stage.held_by(dead).await;
    let effect = async |attempt: i32| {
        let key = key(workflow);
        let sql = format!(
            "insert into effect (workflow, position, direction, key, attempt, epoch, taken)
            values ('{workflow}', 0, 'run', '{key}', {attempt}, {attempt}, true)"
        );
        stage.run(&sql).await;
    };
    assert_eq!(verdict(&stage.pool, dead, first(workflow)).await, "written");
    effect(1).await;
    assert_eq!(bury(&stage.pool, dead).await, Some(1));
    assert_eq!(claim(&stage.pool, heir, 1).await, [workflow]);
    let again = record(workflow, 2, 1).ends(0, "in_doubt").begins_again(0, 2);
    assert_eq!(verdict(&stage.pool, heir, again).await, "written");
    effect(2).await;
    let end = record(workflow, 2, 2).ends_again(0, 2, "succeeded").completes();
    assert_eq!(verdict(&stage.pool, heir, end).await, "written");
    oracle::faults(&stage.pool, Some(&ledger), None, WorkflowId(workflow)).await
}

#[tokio::test]
async fn key_off_makes_the_oracle_red() {
    let faults = run_twice(|_| Uuid::new_v4().to_string()).await;
    assert!(faults.iter().any(|fault| fault.what == Violated::AppliedOnce), "{faults:?}");
    let faults = run_twice(|workflow| format!("{workflow}/0/run")).await;
    assert!(faults.is_empty(), "{faults:?}");
}
