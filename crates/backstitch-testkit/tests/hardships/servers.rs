//! A server that is shut down under load, or whose clock jumps.

use std::sync::atomic::{AtomicBool, Ordering};

use backstitch::{Answered, Client, Database, Handle};
use backstitch_postgres::test::private_cluster;
use backstitch_postgres::{Durability, Stop};
use backstitch_testkit::clock;
use backstitch_testkit::script::{Act, Compensating, Do, Manner, Resuming};
use backstitch_testkit::wait::{until, until_equal};
use backstitch_testkit::world::World;

use crate::WORKER;
use crate::facts::{attempts, effects, first_dies, incarnations, told};

#[tokio::test]
async fn immediate_shutdown_of_postgres_under_load() {
    const SHUTDOWNS: usize = 5;
    const ACKNOWLEDGED_MIN: usize = 100;
    // Only the server dies, never the machine: what it wrote is there again.
    let private = private_cluster(Durability::Throwaway).await;
    let mut world = World::over(backstitch_postgres::test::database_in(&private.server).await).await;
    let worker = world.spawn_worker(WORKER).await;
    let stops = AtomicBool::new(false);
    let load = async {
        let mut acknowledged: Vec<Handle<Vec<Option<u32>>>> = Vec::new();
        let mut number = 0;
        while !stops.load(Ordering::Relaxed) || acknowledged.len() < ACKNOWLEDGED_MIN {
            let key = number.to_string();
            number += 1;
            // Taken back or resumed: nobody dies but the server.
            let script = Resuming::of([Act::new(), Act::new().manner(Manner::Transactional), Act::new()]);
            match world.client.enqueue(script).key(&key).send().await {
                Ok(handle) => acknowledged.push(handle),
                // Nobody promised this one.
                Err(_) => tokio::task::yield_now().await,
            }
        }
        acknowledged
    };
    let shutdowns = async {
        for done in 0..SHUTDOWNS {
            until_equal("there is work under way", true, async || {
                let effects = world.ledger.count().await;
                effects >= 20 * (done as u64 + 1)
            })
            .await;
            private.cluster.restart(Stop::Immediate).await.expect("it restarts");
        }
        stops.store(true, Ordering::Relaxed);
    };
    let (acknowledged, ()) = tokio::join!(load, shutdowns);
    world.client = Client::new(Database::connect(&world.database.url).await.expect("it answers again"));
    for handle in &acknowledged {
        let ending = world.ending(handle).await;
        assert!(matches!(ending, backstitch::Ending::Completed(_)), "{ending:?}");
    }
    assert_eq!(incarnations(&world).await.len(), 1, "it is the same life");
    worker.kill().await;
}

#[tokio::test]
async fn database_clock_jumps() {
    let world = World::new().await;
    clock::take(&world.pool).await.expect("it is ours");
    let jump = async |by: &str| clock::set(&world.pool, by).await.expect("it is ours");
    let workers = [world.spawn_worker(WORKER).await, world.spawn_worker(WORKER).await];
    for by in ["1 hour", "0", "-1 hour", "0"] {
        let held =
            Act::new().manner(Manner::Long).run([Do::Effect, Do::Mark(by.into()), Do::Wait(by.into())]);
        let handle = world.enqueue(Compensating::of([Act::new(), held, Act::new()])).await;
        // By now it is held by one, and the other one looks after it.
        until("its step is under way", async || {
            (effects(&world, handle.workflow, 1).await == (1, 0)).then_some(())
        })
        .await;
        let beats = beats(&world).await;
        jump(by).await;
        // Both beat on, over more than a lease, under the clock that jumped.
        until("both beat for two leases", async || {
            let lease = backstitch_testkit::world::TIMING.lease;
            let two_leases = i64::try_from(2 * lease.as_millis() / 300).expect("few");
            let now = self::beats(&world).await;
            now.iter().zip(&beats).all(|(now, then)| now - then >= two_leases).then_some(())
        })
        .await;
        world.ledger.open(by).await;
        assert_eq!(world.completes(&handle).await, [Some(1), Some(1), Some(1)]);
        // In the order of their steps: that of their times is the clock's.
        let mut attempts = attempts(&world.client, handle.workflow).await;
        attempts.sort();
        assert_eq!(
            attempts,
            told([(0, "run", 1, "succeeded"), (1, "run", 1, "succeeded"), (2, "run", 1, "succeeded")])
        );
        for position in 0..3 {
            assert_eq!(
                effects(&world, handle.workflow, position).await,
                (1, 0),
                "once, whatever the clock says"
            );
        }
    }
    let lives = incarnations(&world).await;
    assert!(
        lives.len() == 2 && lives.iter().all(|life| life.died_at.is_none()),
        "nobody is buried: {lives:#?}"
    );
    for worker in workers {
        worker.kill().await;
    }
}

/// Nobody can tell a time that a wrong clock wrote from one that somebody chose: it takes a person.
#[tokio::test]
async fn what_waits_for_a_clock_that_was_set_back_is_hurried_up_by_an_operator() {
    let world = World::new().await;
    clock::take(&world.pool).await.expect("it is ours");
    clock::set(&world.pool, "1 hour").await.expect("it is ours");
    let waits = world.enqueue(Compensating::of([Act::new()])).await;
    clock::set(&world.pool, "0").await.expect("it is ours");
    let worker = world.start_worker().await;
    let answered = world.client.retry(waits.workflow, "ada", "the clock was set back").await;
    assert_eq!(answered.expect("it answers"), Answered::Accepted);
    assert_eq!(world.completes(&waits).await, [Some(1)]);
    worker.shut_down().await;
}

#[tokio::test]
async fn who_died_while_the_clock_was_ahead_is_buried_though_it_was_set_back() {
    let world = World::new().await;
    clock::take(&world.pool).await.expect("it is ours");
    clock::set(&world.pool, "1 hour").await.expect("it is ours");
    let (dies, lives) = (world.spawn_worker(WORKER).await, world.spawn_worker(WORKER).await);
    let in_hand = |mark: &str| {
        let in_hand = [Do::Effect, Do::Mark(mark.into()), Do::Wait("it was buried".into())];
        Resuming::of([Act::new(), Act::new().manner(Manner::Long).run(in_hand), Act::new()])
    };
    let mut held = Vec::new();
    // Until each of them has one in hand.
    while holders(&world).await < 2 {
        let mark = format!("held {}", held.len());
        held.push(world.enqueue(in_hand(&mark)).await);
        world.marked(&mark).await;
    }
    dies.kill().await;
    clock::set(&world.pool, "0").await.expect("it is ours");
    // The one that lives sees to it by itself, and is not taken for dead though its lease was as far ahead.
    assert_eq!(first_dies(&world, "expired").await.id, 1);
    world.ledger.open("it was buried").await;
    for handle in &held {
        let outputs = world.completes(handle).await;
        assert!(matches!(outputs[1], Some(1 | 2)) && outputs[2] == Some(1), "{outputs:?}");
    }
    assert_eq!(incarnations(&world).await[1].death(), "lives");
    lives.kill().await;
}

/// How many workers have a workflow in hand.
async fn holders(world: &World) -> i64 {
    sqlx::query_scalar("select count(distinct holder) from backstitch.ready")
        .fetch_one(&world.pool)
        .await
        .expect("it answers")
}

/// How often each worker has beaten.
async fn beats(world: &World) -> Vec<i64> {
    sqlx::query_scalar("select beat from backstitch.incarnation order by incarnation_id")
        .fetch_all(&world.pool)
        .await
        .expect("it answers")
}
