//! Case 83: no record of a claim that is over is taken, however the two meet; and what each guard is there for.
//!
//! Every interleaving is played twice: against the protocol as it is, which must be sound, and against a stand-in without
//! the guard, which must show the fault that the guard prevents.

use backstitch::WorkflowId;
use backstitch_testkit::ledger::Ledger;
use backstitch_testkit::violation::{Violated, Violation};
use backstitch_testkit::wait::until;
use backstitch_testkit::{harm, looks, oracle};
use serde_json::json;
use uuid::Uuid;

use crate::record::{InFlight, appending, first, record, verdict};
use crate::stage::{Stage, bury, burying, claim, code, execute, park};

const LOCK: &str = "perform pg_advisory_xact_lock_shared(backstitch.fence_class(), p_incarnation);";
const ISOLATION: &str = "perform backstitch.assert_read_committed();";

/// Which guard is missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Without {
    Nothing,
    /// The append takes no lock.
    FenceOfAppend,
    /// The burial is a plain update.
    FenceOfBurial,
    /// The append reads the lease before it has the lock.
    LateLook,
    /// The append runs under any isolation.
    Isolation,
}

impl Without {
    async fn stage(self) -> Stage {
        let stage = Stage::new().await;
        match self {
            Self::Nothing => {}
            Self::FenceOfAppend => stage.weaken("append", LOCK, "").await,
            Self::FenceOfBurial => {
                let lock = "perform pg_advisory_xact_lock(backstitch.fence_class(), p_incarnation);";
                stage.weaken("bury", lock, "").await;
            }
            Self::LateLook => {
                stage.weaken("append", LOCK, "").await;
                stage.weaken("append", "v_touched := array(", &format!("{LOCK} v_touched := array(")).await;
            }
            Self::Isolation => stage.weaken("append", ISOLATION, "").await,
        }
        stage
    }
}

#[tokio::test]
async fn a_stale_append_is_refused_in_every_interleaving() {
    let interleavings: [(&str, Without, AsyncCase); 5] = [
        ("a burial during an append without its lock", Without::FenceOfAppend, |stage| {
            Box::pin(burial_during_an_append(stage))
        }),
        ("a plain update as burial", Without::FenceOfBurial, |stage| {
            Box::pin(burial_during_an_append(stage))
        }),
        ("the epoch raised under an append", Without::FenceOfAppend, |stage| Box::pin(epoch_raised(stage))),
        ("the lease ended while waiting for the lock", Without::LateLook, |stage| {
            Box::pin(lease_ended(stage))
        }),
        ("repeatable read", Without::Isolation, |stage| Box::pin(repeatable_read(stage))),
    ];
    for (name, without, case) in interleavings {
        let faults = case(Without::Nothing.stage().await).await;
        assert!(faults.is_empty(), "{name}: {faults:?}");
        let faults = case(without.stage().await).await;
        assert!(
            !faults.is_empty(),
            "{name}: the stand-in without {without:?} should show what the guard prevents"
        );
    }
}

type AsyncCase = fn(Stage) -> std::pin::Pin<Box<dyn Future<Output = Vec<String>>>>;

/// What is wrong once a workflow has been freed from `dead`, which was answered `told` about its first record.
async fn faults(stage: &Stage, workflow: Uuid, told: &str, freed_before: bool) -> Vec<String> {
    let mut faults = Vec::new();
    if told == "written" && freed_before {
        faults.push("a record was taken after its holder lost the workflow".to_owned());
    }
    let began = !stage.journal(workflow).await.is_empty();
    if began && stage.ready(workflow, "orphaned").await.is_none() {
        faults.push("a burial did not see what it buried".to_owned());
    }
    faults
}

async fn burial_during_an_append(stage: Stage) -> Vec<String> {
    let dead = stage.worker().await;
    let in_flight = InFlight::first_record(&stage, dead).await;
    let workflow = in_flight.workflow;
    let session = stage.session().await;
    let pid = session.pid;
    let burial = burying(session, dead);
    let buried_before = until("the burial is done, or waits", async || {
        let waits = stage.is_waiting(pid, "advisory").await;
        (waits || burial.is_finished()).then_some(!waits)
    })
    .await;
    let told = in_flight.release().await;
    assert_eq!(burial.await.expect("no panic"), Some(2));
    faults(&stage, workflow, &told, buried_before).await
}

/// An operator's verb takes the workflow from a living worker: it takes the lock as a burial does.
async fn epoch_raised(stage: Stage) -> Vec<String> {
    let (holder, other) = (stage.worker().await, stage.worker().await);
    let in_flight = InFlight::first_record(&stage, holder).await;
    let workflow = in_flight.workflow;
    let mut operator = stage.session().await;
    let pid = operator.pid;
    let taking = tokio::spawn(async move {
        let sql = format!(
            "begin;
            select pg_advisory_xact_lock(backstitch.fence_class(), {holder});
            update backstitch.ready set epoch = epoch + 1, holder = {other}, orphaned = case
                when exists (select from backstitch.journal j where j.workflow_id = ready.workflow_id) then 'gone'
            end
            where workflow_id = '{workflow}';
            commit"
        );
        execute(&mut operator.connection, &sql).await.expect("the verb");
    });
    let taken_before = until("the verb is done, or waits", async || {
        let waits = stage.is_waiting(pid, "advisory").await;
        (waits || taking.is_finished()).then_some(!waits)
    })
    .await;
    let told = in_flight.release().await;
    taking.await.expect("no panic");
    faults(&stage, workflow, &told, taken_before).await
}

async fn lease_ended(stage: Stage) -> Vec<String> {
    let worker = stage.worker().await;
    let workflow = stage.held_by(worker).await;
    assert_eq!(verdict(&stage.pool, worker, first(workflow)).await, "written");
    let mut burier = stage.session().await;
    burier.open().await;
    let lock = format!("select pg_advisory_xact_lock(backstitch.fence_class(), {worker})");
    execute(&mut burier.connection, &lock).await.expect("the lock");
    let session = stage.session().await;
    let pid = session.pid;
    let append = appending(session, worker, vec![record(workflow, 1, 1).ends(0, "succeeded").begins(1)]);
    stage.waits(pid, "advisory").await;
    stage.run("update backstitch.incarnation set lease_until = backstitch.clock()").await;
    burier.commit().await.expect("it lets go");
    let answer = append.await.expect("no panic").expect("it answers").remove(0);
    let journal = stage.journal(workflow).await;
    assert!(journal[1].starts_with("1 run 0 succeeded"), "the outcome is kept: {journal:?}");
    if answer.verdict == "written_without_intent" && !answer.leased && journal[1] == "1 run 0 succeeded" {
        return Vec::new();
    }
    vec![format!("an effect may begin without a lease: {answer:?}")]
}

async fn repeatable_read(stage: Stage) -> Vec<String> {
    let dead = stage.worker().await;
    let workflow = stage.held_by(dead).await;
    let mut burier = stage.session().await;
    burier.open().await;
    assert_eq!(bury(&mut burier.connection, dead).await, Some(1));
    let mut session = stage.session().await;
    let pid = session.pid;
    execute(&mut session.connection, "set default_transaction_isolation = 'repeatable read'")
        .await
        .expect("set");
    let append = appending(session, dead, vec![first(workflow)]);
    stage.waits(pid, "advisory").await;
    burier.commit().await.expect("the burial");
    match append.await.expect("no panic") {
        Ok(answers) => faults(&stage, workflow, &answers[0].verdict, true).await,
        refused => {
            assert_eq!(code(refused), "BSF02");
            Vec::new()
        }
    }
}

#[tokio::test]
async fn an_append_after_the_workflow_went_elsewhere_is_fenced() {
    let stage = Stage::new().await;
    let (holder, other) = (stage.worker().await, stage.worker().await);
    let workflow = stage.held_by(holder).await;
    assert_eq!(verdict(&stage.pool, holder, first(workflow)).await, "written");
    let next = || record(workflow, 1, 1).ends(0, "succeeded").begins(1);

    assert!(park(&stage.pool, holder, workflow, 1, json!({})).await);
    assert_eq!(verdict(&stage.pool, holder, next()).await, "fenced", "after it was let go");
    assert_eq!(claim(&stage.pool, other, 1).await, [workflow]);
    assert_eq!(verdict(&stage.pool, holder, next()).await, "fenced", "after another claimed it");
    assert!(!park(&stage.pool, holder, workflow, 1, json!({})).await, "nor can it be let go twice");
    assert!(park(&stage.pool, other, workflow, 2, json!({})).await);
    assert_eq!(claim(&stage.pool, holder, 1).await, [workflow]);
    assert_eq!(verdict(&stage.pool, holder, next()).await, "fenced", "its own claim of before");
    assert_eq!(bury(&stage.pool, holder).await, Some(1));
    assert_eq!(
        verdict(&stage.pool, holder, record(workflow, 3, 1).ends(0, "in_doubt")).await,
        "fenced",
        "buried"
    );
    assert_eq!(stage.journal(workflow).await, ["1 -> run 0"]);
}

/// What torture's witness is for: that nothing is appended below the row's epoch.
#[tokio::test]
async fn what_the_epoch_guards_from_is_noted_where_the_guard_is_missing() {
    for guarded in [true, false] {
        let stage = Stage::new().await;
        harm::note_stale_claims(&stage.pool).await.expect("it is ours");
        if !guarded {
            stage.weaken("append", "r.epoch = u.epoch", "true").await;
        }
        let worker = stage.worker().await;
        let workflow = stage.held_by(worker).await;
        assert_eq!(verdict(&stage.pool, worker, first(workflow)).await, "written");
        assert!(park(&stage.pool, worker, workflow, 1, json!({})).await);
        assert_eq!(claim(&stage.pool, worker, 1).await, [workflow], "its own claim of before is stale");
        let stale = record(workflow, 1, 1).ends(0, "succeeded");
        let expected = if guarded { "fenced" } else { "written" };
        assert_eq!(verdict(&stage.pool, worker, stale).await, expected);
        let noted = looks::written_under_a_stale_claim(&stage.pool).await.expect("it answers");
        let noted: Vec<_> = noted.into_iter().map(|(_, seq, epoch, last)| (seq, epoch, last)).collect();
        assert_eq!(noted, if guarded { vec![] } else { vec![(1, 1, 2)] });
    }
}

#[tokio::test]
async fn fence_off_makes_the_oracle_red() {
    let faults = late_effect_of_a_buried_worker(Without::FenceOfAppend.stage().await).await;
    assert!(faults.iter().any(|fault| fault.what == Violated::CompensatedLeavesNothing), "{faults:?}");
    let faults = late_effect_of_a_buried_worker(Without::Nothing.stage().await).await;
    assert!(faults.is_empty(), "{faults:?}");
}

/// A worker is buried while its first record is on its way; another takes the workflow back. The first obeys its answers:
/// told after its burial that its intent stands, it makes its effect, on a target that refuses nobody.
async fn late_effect_of_a_buried_worker(stage: Stage) -> Vec<Violation> {
    let ledger = Ledger::in_database(stage.pool.clone()).await;
    let (dead, heir) = (stage.worker().await, stage.worker().await);
    let in_flight = InFlight::first_record(&stage, dead).await;
    let workflow = in_flight.workflow;
    let session = stage.session().await;
    let pid = session.pid;
    let burial = burying(session, dead);
    let buried_before = until("the burial is done, or waits", async || {
        let waits = stage.is_waiting(pid, "advisory").await;
        (waits || burial.is_finished()).then_some(!waits)
    })
    .await;
    let told = in_flight.release().await;
    if told == "written" && !buried_before {
        effect(&stage, workflow, "run", 1).await;
    }
    assert_eq!(burial.await.expect("no panic"), Some(2));
    assert!(claim(&stage.pool, heir, 2).await.contains(&workflow));
    let unwinding =
        record(workflow, 2, 1).turns("unwinding").compensates(0).after(json!({"phase": "compensating"}));
    assert_eq!(verdict(&stage.pool, heir, unwinding).await, "written");
    effect(&stage, workflow, "compensate", 2).await;
    let end = record(workflow, 2, 2).compensated(0).ends_compensated();
    assert_eq!(verdict(&stage.pool, heir, end).await, "written");
    if told == "written" && buried_before {
        effect(&stage, workflow, "run", 1).await;
    }
    oracle::faults(&stage.pool, Some(&ledger), None, WorkflowId(workflow)).await
}

async fn effect(stage: &Stage, workflow: Uuid, direction: &str, epoch: i32) {
    let sql = format!(
        "insert into effect (workflow, position, direction, key, attempt, epoch, taken)
        values ('{workflow}', 0, '{direction}', '{workflow}/0/{direction}', 1, {epoch}, true)"
    );
    stage.run(&sql).await;
}
