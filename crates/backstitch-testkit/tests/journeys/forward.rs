//! Crash points on the way forward.

use backstitch_testkit::script::{Act, Compensating, Do, Manner, Resuming, Script};
use backstitch_testkit::wait::until_equal;
use backstitch_testkit::world::World;
use rustix::process::Signal;

use crate::WORKER;
use crate::look::{attempts, compensated, died_of, effects, fates};

/// A step that kills its process before its effect, and one that kills it after.
fn kills_before() -> Act {
    Act::new().run([Do::Kill])
}

fn kills_after() -> Act {
    Act::new().run([Do::Effect, Do::Kill])
}

/// `step` between two that do nothing special.
fn in_the_middle<const RESUME: bool>(step: Act) -> Script<RESUME> {
    Script::of([Act::new(), step, Act::new()])
}

#[tokio::test]
async fn crash_before_first_claim() {
    let world = World::new().await;
    let first = world.spawn_worker_with_lock(WORKER).await;
    first.signal(Signal::STOP);
    // A claim that it sent before it was stopped may still be carried out: not of what is enqueued after that.
    until_equal("nothing of it is under way", 0_i64, async || {
        let busy = "select count(*) from pg_stat_activity where datname = current_database() and state = 'active' and pid <> pg_backend_pid()";
        sqlx::query_scalar(busy).fetch_one(&world.pool).await.expect("it answers")
    })
    .await;
    let handle = world.enqueue(Compensating::of([Act::new(), Act::new()])).await;
    first.kill().await;
    let worker = world.start_worker_with_lock().await;
    assert_eq!(world.completes(&handle).await, [Some(1), Some(1)]);
    let epochs: Vec<_> =
        world.ledger.entries(handle.workflow).await.iter().map(|entry| entry.epoch).collect();
    assert_eq!(epochs, [1, 1], "nobody claimed it before");
    worker.shut_down().await;
}

#[tokio::test]
async fn crash_after_claim_before_intent() {
    async fn case<const RESUME: bool>()
    where
        Script<RESUME>: backstitch::Workflow<backstitch_testkit::script::Ground, Output = Vec<Option<u32>>>,
    {
        let (world, handle) =
            died_of(|world| Script::<RESUME>::of([Act::new().fuse(world.lay_fuse("fuse")), Act::new()]))
                .await;
        assert!(effects(&world, handle.workflow).await.is_empty(), "the dead worker did nothing");
        let worker = world.start_worker_with_lock().await;
        assert_eq!(world.completes(&handle).await, [Some(1), Some(1)]);
        assert_eq!(effects(&world, handle.workflow).await, ["0 run 1", "1 run 1"]);
        worker.shut_down().await;
    }
    tokio::join!(case::<true>(), case::<false>());
}

// Here the deaths show by their leases alone.
#[tokio::test]
async fn crash_after_intent_before_effect() {
    let world = World::new().await;
    let resumed = world.enqueue::<Resuming>(in_the_middle(kills_before())).await;
    world.spawn_worker(WORKER).await.killed().await;
    let taken_back = world.enqueue::<Compensating>(in_the_middle(kills_before())).await;
    world.spawn_worker(WORKER).await.killed().await;
    let worker = world.start_worker().await;
    assert_eq!(world.completes(&resumed).await, [Some(1), Some(2), Some(1)]);
    assert_eq!(effects(&world, resumed.workflow).await, ["0 run 1", "1 run 2", "2 run 1"]);
    let unfinished = world.compensates(&taken_back).await;
    assert_eq!(unfinished.error.failure.code, "orphaned");
    let effects = effects(&world, taken_back.workflow).await;
    assert_eq!(
        effects,
        ["0 run 1", "1 compensate 1", "0 compensate 1"],
        "in doubt: taken back as if it had happened"
    );
    worker.shut_down().await;
}

#[tokio::test]
async fn crash_after_effect_before_outcome() {
    let resumed = async {
        let (world, handle) = died_of(|_| in_the_middle::<true>(kills_after())).await;
        let worker = world.start_worker_with_lock().await;
        assert_eq!(world.completes(&handle).await, [Some(1), Some(2), Some(1)]);
        // The same key again: the oracle sees that it stands once.
        assert_eq!(effects(&world, handle.workflow).await, ["0 run 1", "1 run 1", "1 run 2", "2 run 1"]);
        worker.shut_down().await;
    };
    let taken_back = async {
        let step = kills_after().compensate([Do::MarkOutcome("told".into()), Do::Effect]);
        let (world, handle) = died_of(|_| in_the_middle::<false>(step)).await;
        let worker = world.start_worker_with_lock().await;
        let unfinished = world.compensates(&handle).await;
        assert_eq!(unfinished.error.failure.code, "orphaned");
        assert_eq!(fates(&unfinished), [compensated(1), compensated(1)]);
        assert!(world.ledger.is_marked("told unknown").await, "nobody knows what became of it");
        worker.shut_down().await;
    };
    // An outcome travels with the next intent: dying in between is dying before the outcome.
    let between_steps = async {
        let script =
            |world: &World| Resuming::of([Act::new(), Act::new().fuse(world.lay_fuse("fuse")), Act::new()]);
        let (world, handle) = died_of(script).await;
        let worker = world.start_worker_with_lock().await;
        assert_eq!(world.completes(&handle).await, [Some(2), Some(1), Some(1)]);
        assert_eq!(effects(&world, handle.workflow).await, ["0 run 1", "0 run 2", "1 run 1", "2 run 1"]);
        worker.shut_down().await;
    };
    tokio::join!(resumed, taken_back, between_steps);
}

#[tokio::test]
async fn crash_after_outcome_before_next_step() {
    // Before a transactional step the outcome stands alone.
    let alone = async {
        let (world, handle) = died_of(|world| {
            let burn = Act::new().manner(Manner::Transactional).run([Do::Burn(world.lay_fuse("fuse"))]);
            in_the_middle::<true>(burn.clone())
        })
        .await;
        assert_eq!(attempts(&world, handle.workflow).await, ["0 run 1 succeeded"]);
        let worker = world.start_worker_with_lock().await;
        assert_eq!(world.completes(&handle).await, [Some(1), Some(1), Some(1)]);
        worker.shut_down().await;
    };
    let with_the_next_intent = async {
        let (world, handle) = died_of(|_| in_the_middle::<true>(kills_before())).await;
        assert_eq!(attempts(&world, handle.workflow).await, ["0 run 1 succeeded", "1 run 1 open"]);
        let worker = world.start_worker_with_lock().await;
        assert_eq!(world.completes(&handle).await, [Some(1), Some(2), Some(1)], "the first is not run again");
        worker.shut_down().await;
    };
    tokio::join!(alone, with_the_next_intent);
}

#[tokio::test]
async fn crash_after_last_outcome_before_completed() {
    fn ends_with<const RESUME: bool>(world: &World, last: Act) -> Script<RESUME> {
        Script { fuse_at_end: Some(world.lay_fuse("fuse")), ..Script::of([Act::new(), last]) }
    }
    // The last outcome travels with the end: without the end, the last step is in doubt.
    let resumed = async {
        let (world, handle) = died_of(|world| ends_with::<true>(world, Act::new())).await;
        let worker = world.start_worker_with_lock().await;
        assert_eq!(world.completes(&handle).await, [Some(1), Some(2)]);
        worker.shut_down().await;
    };
    let taken_back = async {
        let (world, handle) = died_of(|world| ends_with::<false>(world, Act::new())).await;
        let worker = world.start_worker_with_lock().await;
        assert_eq!(fates(&world.compensates(&handle).await), [compensated(1), compensated(1)]);
        worker.shut_down().await;
    };
    // A transactional one stands on its own.
    let transactional = async {
        let last = Act::new().manner(Manner::Transactional);
        let (world, handle) = died_of(|world| ends_with::<true>(world, last)).await;
        assert_eq!(attempts(&world, handle.workflow).await, ["0 run 1 succeeded", "1 run 1 succeeded"]);
        let worker = world.start_worker_with_lock().await;
        assert_eq!(world.completes(&handle).await, [Some(1), Some(1)]);
        worker.shut_down().await;
    };
    tokio::join!(resumed, taken_back, transactional);
}
