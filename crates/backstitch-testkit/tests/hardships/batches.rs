//! What the records of many workflows share: a statement, a flush, and the death of their process or server in the middle.

use backstitch::{Ending, Handle};
use backstitch_postgres::test::private_cluster;
use backstitch_postgres::{Durability, Stop};
use backstitch_testkit::script::{Act, Compensating, Do, Resuming};
use backstitch_testkit::wait::until;
use backstitch_testkit::world::{WorkerProcess, World};
use rustix::process::Signal;
use serde::de::DeserializeOwned;

use crate::WORKER;
use crate::facts::effects;

/// Each is killed when the journal has grown by so many rows: at the first intents, in the thick of it, near the ends.
const KILLED_AFTER: [i64; 4] = [40, 150, 150, 150];

const WORKFLOWS: usize = 120;

async fn journal_rows(world: &World) -> i64 {
    sqlx::query_scalar("select count(*) from backstitch.journal")
        .fetch_one(&world.pool)
        .await
        .expect("it answers")
}

#[tokio::test]
async fn processes_killed_while_batches_are_in_flight_lose_nothing_and_repeat_nothing() {
    let world = World::new().await;
    // Also when it is tried again, after a death in its first attempt.
    let fails = || {
        (0..=KILLED_AFTER.len()).fold(Act::new(), |step, _| step.run([Do::Effect, Do::Fail("broken".into())]))
    };
    let five = || vec![Act::new(); 5];
    let (mut taken_back, mut resumed, mut failing) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..WORKFLOWS / 3 {
        taken_back.push(world.enqueue(Compensating::of(five())).await);
        resumed.push(world.enqueue(Resuming::of(five())).await);
        let steps = five().into_iter().take(4).chain([fails()]).collect::<Vec<_>>();
        failing.push(world.enqueue(Resuming::of(steps)).await);
    }
    for rows in KILLED_AFTER {
        let worker = world.spawn_worker_with_lock(WORKER).await;
        let before = journal_rows(&world).await;
        until("its batches are on their way", async || {
            (journal_rows(&world).await >= before + rows).then_some(())
        })
        .await;
        worker.kill().await;
    }
    let cut_short: i64 = sqlx::query_scalar(
        "select count(*) from backstitch.journal j where outcome is null and not exists (
            select from backstitch.journal o where o.workflow_id = j.workflow_id
                and (o.outcome_position, o.outcome_direction, o.outcome_attempt)
                    = (j.intent_position, j.intent_direction, j.intent_attempt))",
    )
    .fetch_one(&world.pool)
    .await
    .expect("it answers");
    println!("{cut_short} attempts were under way when their process died");
    assert!(cut_short > 40, "they died in the thick of it");
    let worker = world.spawn_worker_with_lock(WORKER).await;
    let completed = ends(&world, &taken_back).await;
    println!("{completed} of {} that are taken back after a crash came through", taken_back.len());
    assert_eq!(ends(&world, &resumed).await, resumed.len(), "what is resumed completes");
    assert_eq!(ends(&world, &failing).await, 0, "what fails is taken back");
    worker.kill().await;
}

/// Waits until all have ended, holds the oracle's word over each, and counts the completed.
async fn ends<T: DeserializeOwned>(world: &World, handles: &[Handle<T>]) -> usize {
    let mut completed = 0;
    for handle in handles {
        completed += usize::from(matches!(world.ending(handle).await, Ending::Completed(_)));
    }
    completed
}

/// A claim's commit is not flushed by itself: a crash of the server may take it back from a worker that was told of it.
#[tokio::test]
async fn a_claim_lost_in_a_crash_of_the_server_is_given_again_and_driven_once() {
    const ROUNDS: usize = 20;
    let private = private_cluster(Durability::Throwaway).await;
    let world = World::over(backstitch_postgres::test::database_in(&private.server).await).await;
    // Nothing but a commit that waits for it flushes the claim.
    for sql in ["alter system set wal_writer_delay = '10s'", "select pg_reload_conf()"] {
        sqlx::query(sql).execute(&world.pool).await.expect("the server is ours");
    }
    let worker = world.spawn_worker(WORKER).await;
    let mut lost = 0;
    for round in 0..ROUNDS {
        lost += usize::from(loses_a_claim(&private, &world, &worker).await);
        if lost == 2 {
            println!("two claims were lost in {} crashes", round + 1);
            break;
        }
    }
    assert_eq!(lost, 2, "in {ROUNDS} crashes the heartbeat always came first");
    worker.kill().await;
}

/// Whether the crash came before the flush. Either way the workflow completes, each step done once.
async fn loses_a_claim(
    private: &backstitch_postgres::test::PrivateCluster,
    world: &World,
    worker: &WorkerProcess,
) -> bool {
    // Claims pass, appends wait.
    let mut gate = world.pool.begin().await.expect("a transaction");
    sqlx::query("lock table backstitch.journal in share mode").execute(&mut *gate).await.expect("the lock");
    let handle = world.enqueue(Compensating::of([Act::new(), Act::new()])).await;
    let epoch = async || -> Option<i32> {
        sqlx::query_scalar("select epoch from backstitch.ready where workflow_id = $1")
            .bind(handle.workflow.0)
            .fetch_one(&world.pool)
            .await
            .ok()
    };
    until("it is claimed", async || (epoch().await == Some(1)).then_some(())).await;
    worker.signal(Signal::STOP);
    private.cluster.restart(Stop::Immediate).await.expect("it restarts");
    drop(gate);
    let lost = until("the server is there again", epoch).await == 0;
    worker.signal(Signal::CONT);
    let end = until("it ends", async || world.client.poll(&handle).await.ok().flatten()).await;
    assert_eq!(end, Ending::Completed(vec![Some(1), Some(1)]), "lost: {lost}");
    for position in 0..2 {
        assert_eq!(effects(world, handle.workflow, position).await, (1, 0), "lost: {lost}");
    }
    world.assert_sound(handle.workflow).await;
    lost
}
