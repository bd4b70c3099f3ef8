//! Workflows that kill their worker, can't be read, or can't be understood: one of them stops nobody else.

use backstitch::{Answered, Cause, Ending, Handle, Status, limits};
use backstitch_testkit::script::{Act, Compensating, Do, Manner, Resuming};
use backstitch_testkit::world::{WorkerProcess, World};

use crate::WORKER;
use crate::facts::{alerts, attempts, ended, epoch, incarnations};

type Outputs = Vec<Option<u32>>;

/// A step whose every attempt kills its process.
fn poison() -> Act {
    (0..20).fold(Act::new(), |act, _| act.run([Do::Effect, Do::Kill]))
}

/// Starts a worker whenever the last one is dead, until the workflow has ended. Says how many died; one lives.
async fn workers_until_ended(world: &World, handle: &Handle<Outputs>) -> (u32, WorkerProcess) {
    let mut deaths = 0;
    loop {
        let mut worker = world.spawn_worker_with_lock(WORKER).await;
        let has_ended = tokio::select! {
            _ = worker.gone() => false,
            () = world.reaches(handle.workflow, Status::Compensated) => true,
        };
        if has_ended {
            return (deaths, worker);
        }
        deaths += 1;
        assert!(deaths < 20, "it dies on and on");
    }
}

fn has_looped(cause: &Cause) -> bool {
    matches!(cause, Cause::CrashLoop { deaths } if *deaths == limits::CRASH_BUDGET)
}

#[tokio::test]
async fn a_workflow_that_kills_its_worker_is_isolated_and_compensated() {
    let world = World::new().await;
    let killer = world.enqueue(Resuming::of([Act::new(), poison(), Act::new()])).await;
    let others = async {
        // Two at any time, as long as the killer is at it.
        let mut completed = 0;
        while ended(&world, "compensated").await == 0 {
            let script = || Resuming::of([Act::new(), Act::new()]);
            let [one, two] = [world.enqueue(script()).await, world.enqueue(script()).await];
            world.completes(&one).await;
            world.completes(&two).await;
            completed += 2;
        }
        completed
    };
    let ((deaths, worker), completed) = tokio::join!(workers_until_ended(&world, &killer), others);
    assert_eq!(deaths, limits::CRASH_BUDGET);
    let unfinished = world.compensates(&killer).await;
    assert_eq!(unfinished.error.failure.code, "crash_loop");
    assert!(has_looped(&unfinished.report.cause), "{:?}", unfinished.report.cause);
    assert_eq!(
        attempts(&world.client, killer.workflow).await.len(),
        1 + 5 + 2,
        "five deaths, two compensations"
    );
    assert!(completed > 0, "others go on");
    assert_eq!(incarnations(&world).await.iter().filter(|life| life.death() == "gone").count(), 5);
    worker.kill().await;
}

#[tokio::test]
async fn innocents_are_not_charged_for_a_poison_workflow() {
    const INNOCENTS: usize = 4;
    let world = World::new().await;
    let mut innocents = Vec::new();
    for number in 0..INNOCENTS {
        let mark = format!("innocent {number}");
        let open = || Act::new().manner(Manner::Long).run([Do::Mark(mark.clone()), Do::Wait("go".into())]);
        // Each attempt waits: it is open whenever its process dies.
        let open = (0..20).fold(open(), |act, _| act.run([Do::Effect, Do::Wait("go".into())]));
        innocents.push(world.enqueue(Resuming::of([open, Act::new()])).await);
    }
    let mut first = world.spawn_worker_with_lock(WORKER).await;
    for number in 0..INNOCENTS {
        world.marked(&format!("innocent {number}")).await;
    }
    let killer = world.enqueue(Resuming::of([poison()])).await;
    assert!(!first.gone().await);
    // The second death may be anyone's: from the third on each of them is driven alone.
    let mut second = world.spawn_worker_with_lock(WORKER).await;
    assert!(!second.gone().await);
    world.ledger.open("go").await;
    let (deaths, worker) = workers_until_ended(&world, &killer).await;
    assert_eq!(2 + deaths, limits::CRASH_BUDGET, "and all of them count for the killer");
    let unfinished = world.compensates(&killer).await;
    assert!(has_looped(&unfinished.report.cause), "{:?}", unfinished.report.cause);
    for innocent in &innocents {
        let outputs = world.completes(innocent).await;
        let attempts = outputs[0].expect("it succeeded");
        assert!(attempts <= 3, "at most two died with the killer, not {}", attempts - 1);
        assert_eq!(outputs[1], Some(1));
    }
    worker.kill().await;
}

#[tokio::test]
async fn a_suspect_that_an_outcome_has_cleared_keeps_its_worker_from_nothing() {
    let world = World::new().await;
    let kills_twice = Act::new().run([Do::Kill]).run([Do::Kill]);
    let waits = Act::new().manner(Manner::Long).run([Do::Mark("cleared".into()), Do::Wait("go".into())]);
    let suspect = world.enqueue(Resuming::of([kills_twice, waits])).await;
    for _ in 0..2 {
        world.spawn_worker_with_lock(WORKER).await.killed().await;
    }
    let worker = world.spawn_worker_with_lock(WORKER).await;
    world.marked("cleared").await;
    let other = world.enqueue(Resuming::of([Act::new()])).await;
    assert_eq!(world.completes(&other).await, [Some(1)], "beside it");
    world.ledger.open("go").await;
    assert_eq!(world.completes(&suspect).await, [Some(3), Some(1)]);
    worker.kill().await;
}

#[tokio::test]
async fn undecodable_input_parks_with_a_reason() {
    let world = World::new().await;
    let worker = world.start_worker().await;
    let input = serde_json::json!({ "steps": "none of them is a step" });
    let unreadable =
        world.client.enqueue_untyped("script.compensate", &input).send().await.expect("it is enqueued");
    let readable = world.enqueue(Compensating::of([Act::new()])).await;
    assert_eq!(world.completes(&readable).await, [Some(1)]);
    world.reaches(unreadable.workflow, Status::NeedsAttention).await;
    match world.client.wait(&unreadable).await.expect("it answers") {
        Ending::NeedsAttention(unfinished) => {
            let message = &unfinished.error.failure.message;
            assert!(message.contains("the input of script.compensate"), "{message}");
        }
        other => panic!("it waits for a person: {other:?}"),
    }
    assert_eq!(alerts(&world, unreadable.workflow).await, ["undecodable_input"]);
    assert_eq!(attempts(&world.client, unreadable.workflow).await, []);
    // It waits until somebody says what is to become of it.
    assert_eq!(epoch(&world, unreadable.workflow).await, 1);
    let answered = world.client.cancel(unreadable.workflow, "ada", "a typing error").await;
    assert_eq!(answered.expect("it answers"), Answered::Accepted);
    let unfinished = world.compensates(&unreadable).await;
    assert_eq!(unfinished.error.failure.code, "cancelled");
    assert_eq!(alerts(&world, unreadable.workflow).await, [""; 0]);
    worker.shut_down().await;
}

#[tokio::test]
async fn one_corrupt_row_parks_one_workflow() {
    const WORKFLOWS: usize = 5;
    let world = World::new().await;
    let first = world.spawn_worker(WORKER).await;
    let mut handles = Vec::new();
    for number in 0..WORKFLOWS {
        let mark = format!("begun {number}");
        let step = Act::new().manner(Manner::Long).run([Do::Effect, Do::Mark(mark.clone()), Do::Hang]);
        handles.push(world.enqueue(Resuming::of([Act::new(), step, Act::new()])).await);
        world.marked(&mark).await;
    }
    first.kill().await;
    let corrupt = handles.remove(2);
    let move_row = async |from: i32, to: i32| {
        sqlx::query("update backstitch.journal set seq = $3 where workflow_id = $1 and seq = $2")
            .bind(corrupt.workflow.0)
            .bind(from)
            .bind(to)
            .execute(&world.pool)
            .await
            .expect("the owner may");
    };
    move_row(1, 7).await;
    let worker = world.start_worker().await;
    for handle in &handles {
        assert_eq!(world.completes(handle).await, [Some(1), Some(2), Some(1)]);
    }
    world.reaches(corrupt.workflow, Status::NeedsAttention).await;
    assert_eq!(alerts(&world, corrupt.workflow).await, ["corrupt_journal"]);
    let view = world.client.workflow(corrupt.workflow).await.expect("it answers").expect("it exists");
    let attention = view.attention.expect("a reason");
    assert!(attention.contains("corrupt at seq 7") && attention.contains("(I1)"), "{attention}");
    // Whoever mends it says so, and it goes on.
    move_row(7, 1).await;
    let answered = world.client.retry(corrupt.workflow, "ada", "mended").await.expect("it answers");
    assert_eq!(answered, Answered::Accepted);
    world.reaches(corrupt.workflow, Status::Completed).await;
    assert_eq!(world.completes(&corrupt).await, [Some(1), Some(2), Some(1)]);
    worker.shut_down().await;
}
