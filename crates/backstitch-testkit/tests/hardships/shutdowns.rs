//! Workers that stop in order: what they hold goes on elsewhere, and nothing is charged or taken back.

use backstitch_testkit::cut::Passage;
use backstitch_testkit::script::{Act, Compensating, Do, Manner, Resuming};
use backstitch_testkit::wait::until;
use backstitch_testkit::world::World;
use rustix::process::Signal;

use crate::WORKER;
use crate::facts::{attempts, crash_charges, effects, ended, first_dies, incarnations, told};

#[tokio::test]
async fn sigterm_hands_back_at_once_and_charges_no_attempt() {
    let world = World::new().await;
    let mut stopped = world.spawn_worker(WORKER).await;
    let long = |run: [Do; 3]| Act::new().manner(Manner::Long).run(run);
    let graced = long([Do::Effect, Do::Mark("graced".into()), Do::Wait("within the grace".into())]);
    let hanging = long([Do::Effect, Do::Mark("hanging".into()), Do::Hang]);
    let graced = world.enqueue(Compensating::of([graced, Act::new()])).await;
    let hanging = world.enqueue(Compensating::of([hanging, Act::new()])).await;
    world.marked("graced").await;
    world.marked("hanging").await;
    stopped.signal(Signal::TERM);
    until("it takes nothing any more", async || {
        let late = world.enqueue(Resuming::of([])).await;
        tokio::time::timeout(std::time::Duration::from_millis(200), world.client.wait(&late)).await.err()
    })
    .await;
    world.ledger.open("within the grace").await;
    // The first is handed back at its next boundary, while the second one still has its grace.
    until("the first is handed back", async || {
        let told = attempts(&world.client, graced.workflow).await;
        (told.first()?.3.as_deref() == Some("succeeded")).then_some(())
    })
    .await;
    assert_eq!(attempts(&world.client, hanging.workflow).await.last().expect("begun").3, None);
    assert!(stopped.gone().await, "it ends in order");
    let first = first_dies(&world, "shutdown").await;
    assert_eq!(first.death(), "shutdown");
    for workflow in [graced.workflow, hanging.workflow] {
        assert_eq!(crash_charges(&world, workflow).await, 0);
    }
    let worker = world.start_worker().await;
    assert_eq!(world.completes(&graced).await, [Some(1), Some(1)]);
    assert_eq!(world.completes(&hanging).await, [Some(2), Some(1)]);
    let expected =
        told([(0, "run", 1, "handed_back"), (0, "run", 2, "succeeded"), (1, "run", 1, "succeeded")]);
    assert_eq!(attempts(&world.client, hanging.workflow).await, expected);
    assert_eq!(effects(&world, graced.workflow, 0).await, (1, 0));
    assert_eq!(effects(&world, hanging.workflow, 0).await, (2, 0));
    worker.shut_down().await;
}

#[tokio::test]
async fn a_shutdown_ends_though_the_database_does_not_answer() {
    let world = World::new().await;
    let line = world.line();
    let worker = world.start_worker_over(&line).await;
    let held =
        Act::new().manner(Manner::Long).run([Do::Effect, Do::Mark("held".into()), Do::Wait("never".into())]);
    world.enqueue(Resuming::of([held])).await;
    world.marked("held").await;
    // Waits to be alone.
    let in_an_hour = chrono::Utc::now() + chrono::TimeDelta::hours(1);
    let suspect = world.client.enqueue(Resuming::of([Act::new()])).run_at(in_an_hour);
    let suspect = suspect.send().await.expect("it is enqueued").workflow;
    sqlx::query("update backstitch.ready set crash_charges = 2, due_at = now() where workflow_id = $1")
        .bind(suspect.0)
        .execute(&world.pool)
        .await
        .expect("it is ours");
    until("it is claimed", async || {
        let holder: Option<i32> =
            sqlx::query_scalar("select holder from backstitch.ready where workflow_id = $1")
                .bind(suspect.0)
                .fetch_one(&world.pool)
                .await
                .expect("it answers");
        holder
    })
    .await;
    line.let_through(Passage::Frozen);
    let patience = std::time::Duration::from_secs(60);
    tokio::time::timeout(patience, worker.shut_down()).await.expect("it ends after its grace, and a lease");
    line.let_through(Passage::Open);
    let heir = world.start_worker().await;
    world.reaches(suspect, backstitch::Status::Completed).await;
    heir.shut_down().await;
}

#[tokio::test]
async fn a_rolling_deploy_compensates_nothing() {
    const WORKERS: usize = 3;
    const WORKFLOWS: usize = 30;
    let world = World::new().await;
    let mut fleet = Vec::new();
    for _ in 0..WORKERS {
        fleet.push(world.spawn_worker(WORKER).await);
    }
    // Some wait, some back off, some are between two steps, whenever a worker stops.
    let waiting =
        || Act::new().manner(Manner::Long).run([Do::Mark("waiting".into()), Do::Wait("deployed".into())]);
    let busy = || Act::new().run([Do::Retry("busy".into())]);
    let mut handles = Vec::new();
    for number in 0..WORKFLOWS {
        let steps = match number % 3 {
            0 => vec![Act::new(), waiting(), Act::new()],
            1 => vec![busy(), busy(), Act::new().manner(Manner::Transactional)],
            _ => vec![Act::new(); 6],
        };
        handles.push(world.enqueue(Compensating::of(steps)).await);
    }
    world.marked("waiting").await;
    for number in 0..WORKERS {
        let mut old = fleet.remove(0);
        old.signal(Signal::TERM);
        // The new one starts while the old one still hands back.
        fleet.push(world.spawn_worker(WORKER).await);
        if number + 1 == WORKERS {
            world.ledger.open("deployed").await;
        }
        assert!(old.gone().await, "it ends in order");
    }
    for handle in &handles {
        let outputs = world.completes(handle).await;
        assert!(outputs.iter().all(Option::is_some), "{outputs:?}");
    }
    assert_eq!(ended(&world, "completed").await, i64::try_from(WORKFLOWS).expect("few"));
    let deaths: Vec<_> = incarnations(&world).await.into_iter().map(|life| life.death().to_owned()).collect();
    assert_eq!(deaths.iter().filter(|death| *death == "shutdown").count(), WORKERS, "{deaths:?}");
    assert_eq!(deaths.iter().filter(|death| *death == "lives").count(), WORKERS, "{deaths:?}");
    for worker in fleet {
        worker.kill().await;
    }
}
