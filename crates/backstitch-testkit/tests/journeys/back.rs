//! Crash points on the way back.

use backstitch_testkit::script::{Act, Do, Manner, Script};
use backstitch_testkit::world::World;

use crate::WORKER;
use crate::look::{attempts, compensated, died_of, effects, fates, giving_up};

/// Three steps and a giving up; the compensation of `position` does this, attempt by attempt.
fn three_with<const RESUME: bool>(position: usize, compensate: &[&[Do]]) -> Script<RESUME> {
    let mut steps = vec![Act::new(), Act::new(), Act::new()];
    steps[position].compensate = compensate.iter().map(|attempt| attempt.to_vec()).collect();
    giving_up(steps)
}

const ALL_FORWARD: [&str; 3] = ["0 run 1", "1 run 1", "2 run 1"];

fn after_all_forward<'a>(back: &[&'a str]) -> Vec<&'a str> {
    ALL_FORWARD.iter().chain(back).copied().collect()
}

#[tokio::test]
async fn crash_after_unwinding_began() {
    let outside = async {
        let (world, handle) = died_of(|_| three_with::<true>(2, &[&[Do::Kill]])).await;
        let worker = world.start_worker_with_lock().await;
        let unfinished = world.compensates(&handle).await;
        assert_eq!(unfinished.error.failure.code, "enough", "the original error, not the death");
        let back = after_all_forward(&["2 compensate 2", "1 compensate 1", "0 compensate 1"]);
        assert_eq!(effects(&world, handle.workflow).await, back, "never forward again");
        worker.shut_down().await;
    };
    // Here the turn stands alone: the compensation is a transaction.
    let transactional = async {
        let (world, handle) = died_of(|world| {
            let burn = Do::Burn(world.lay_fuse("fuse"));
            giving_up::<true>([
                Act::new(),
                Act::new().manner(Manner::Transactional).compensate([burn, Do::Effect]),
            ])
        })
        .await;
        assert_eq!(attempts(&world, handle.workflow).await, ["0 run 1 succeeded", "1 run 1 succeeded"]);
        let worker = world.start_worker_with_lock().await;
        let unfinished = world.compensates(&handle).await;
        assert_eq!(unfinished.error.failure.code, "enough");
        let expected = ["0 run 1", "0 compensate 1", "1 run 1", "1 compensate 1"];
        assert_eq!(effects(&world, handle.workflow).await, expected);
        worker.shut_down().await;
    };
    tokio::join!(outside, transactional);
}

#[tokio::test]
async fn crash_mid_compensation() {
    let (world, handle) = died_of(|_| three_with::<false>(1, &[&[Do::Kill]])).await;
    let worker = world.start_worker_with_lock().await;
    let unfinished = world.compensates(&handle).await;
    assert_eq!(unfinished.error.failure.code, "enough");
    assert_eq!(fates(&unfinished), [compensated(1), compensated(2), compensated(1)]);
    let back = after_all_forward(&["2 compensate 1", "1 compensate 2", "0 compensate 1"]);
    assert_eq!(effects(&world, handle.workflow).await, back, "what was taken back is not taken back again");
    worker.shut_down().await;
}

#[tokio::test]
async fn crash_after_compensating_effect_before_record() {
    let (world, handle) = died_of(|_| three_with::<false>(1, &[&[Do::Effect, Do::Kill]])).await;
    let worker = world.start_worker_with_lock().await;
    let unfinished = world.compensates(&handle).await;
    assert_eq!(fates(&unfinished), [compensated(1), compensated(2), compensated(1)]);
    let back = after_all_forward(&["2 compensate 1", "1 compensate 1", "1 compensate 2", "0 compensate 1"]);
    assert_eq!(effects(&world, handle.workflow).await, back);
    worker.shut_down().await;
}

#[tokio::test]
async fn two_workers_die_in_the_same_compensation() {
    let world = World::new().await;
    let script = three_with::<false>(1, &[&[Do::Kill], &[Do::Effect, Do::Kill]]);
    let handle = world.enqueue(script).await;
    for _ in 0..2 {
        world.spawn_worker_with_lock(WORKER).await.killed().await;
    }
    let worker = world.start_worker_with_lock().await;
    let unfinished = world.compensates(&handle).await;
    assert_eq!(unfinished.error.failure.code, "enough");
    assert_eq!(fates(&unfinished), [compensated(1), compensated(3), compensated(1)]);
    let back = after_all_forward(&["2 compensate 1", "1 compensate 2", "1 compensate 3", "0 compensate 1"]);
    assert_eq!(effects(&world, handle.workflow).await, back);
    worker.shut_down().await;
}
