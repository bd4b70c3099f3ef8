//! A step in doubt that says how it is looked for is not run again where its effect stands.

use backstitch_testkit::script::{Act, Do, Eye, Manner, Script};

use crate::look::{attempts, died_of, effects};

/// The worker dies of its first attempt, before or after the effect; another one goes on.
async fn settles(manner: Manner, first: impl Into<Vec<Do>>, eye: Eye) -> (u32, Vec<String>, Vec<String>) {
    let act = Act::new().manner(manner).run(first).eye(eye);
    let (world, handle) = died_of(|_| Script::<true>::of([act])).await;
    let worker = world.start_worker_with_lock().await;
    let outputs = world.completes(&handle).await;
    worker.shut_down().await;
    let [Some(output)] = outputs[..] else { panic!("one step, and it succeeds: {outputs:?}") };
    (output, effects(&world, handle.workflow).await, attempts(&world, handle.workflow).await)
}

const TWO_ATTEMPTS: [&str; 2] = ["0 run 1 open", "0 run 2 succeeded"];

#[tokio::test]
async fn an_effect_that_stands_is_not_made_again() {
    for manner in [Manner::Probed, Manner::ProbedPivot] {
        let (output, effects, attempts) = settles(manner, [Do::Effect, Do::Kill], Eye::Looks).await;
        assert_eq!(output, 1, "{manner:?}: what the first attempt would have handed over");
        assert_eq!(effects, ["0 run 1"], "{manner:?}");
        assert_eq!(attempts, TWO_ATTEMPTS, "{manner:?}");
    }
}

#[tokio::test]
async fn an_effect_that_does_not_stand_is_made() {
    for manner in [Manner::Probed, Manner::ProbedPivot] {
        let (output, effects, attempts) = settles(manner, [Do::Kill], Eye::Looks).await;
        assert_eq!((output, effects), (2, vec!["0 run 2".to_owned()]), "{manner:?}");
        assert_eq!(attempts, TWO_ATTEMPTS, "{manner:?}");
    }
}

#[tokio::test]
async fn a_look_that_comes_to_nothing_changes_nothing() {
    for eye in [Eye::Fails, Eye::Panics, Eye::Hangs] {
        let (output, effects, attempts) = settles(Manner::Probed, [Do::Effect, Do::Kill], eye).await;
        assert_eq!(output, 2, "{eye:?}");
        assert_eq!(effects, ["0 run 1", "0 run 2"], "{eye:?}: under the same key");
        assert_eq!(attempts, TWO_ATTEMPTS, "{eye:?}");
    }
}

#[tokio::test]
async fn an_effect_that_is_seen_in_part_or_not_for_certain_is_made_again() {
    for eye in [Eye::Wonders, Eye::SeesPart] {
        for manner in [Manner::Probed, Manner::ProbedPivot] {
            let (output, effects, attempts) = settles(manner, [Do::Effect, Do::Kill], eye).await;
            assert_eq!(output, 2, "{manner:?}, {eye:?}");
            assert_eq!(effects, ["0 run 1", "0 run 2"], "{manner:?}, {eye:?}: under the same key");
            assert_eq!(attempts, TWO_ATTEMPTS, "{manner:?}, {eye:?}");
        }
    }
}

#[tokio::test]
async fn an_effect_that_is_seen_in_part_or_not_for_certain_stays_in_doubt() {
    for eye in [Eye::Wonders, Eye::SeesPart] {
        // The next attempt says that nothing happened. Of itself that is true; the first one made its effect.
        let act =
            Act::new().manner(Manner::Probed).run([Do::Effect, Do::Kill]).run([Do::Reject("never".into())]);
        let act = act.compensate([Do::MarkOutcome("told".into()), Do::Effect]).eye(eye);
        let (world, handle) = died_of(|_| Script::<true>::of([act])).await;
        let worker = world.start_worker_with_lock().await;
        assert_eq!(world.compensates(&handle).await.error.failure.code, "never", "{eye:?}");
        worker.shut_down().await;
        let made = effects(&world, handle.workflow).await;
        assert_eq!(made, ["0 run 1", "0 compensate 1"], "{eye:?}: it is not believed");
        assert!(world.ledger.is_marked("told unknown").await, "{eye:?}");
        let made = attempts(&world, handle.workflow).await;
        assert_eq!(made, ["0 run 1 open", "0 run 2 failed", "0 compensate 1 succeeded"], "{eye:?}");
    }
}

#[tokio::test]
async fn what_was_answered_is_not_looked_for() {
    // The effect stands, and a look would see it.
    let act = Act::new().manner(Manner::Probed).run([Do::Effect, Do::Retry("busy".into())]).eye(Eye::Looks);
    let world = backstitch_testkit::world::World::new().await;
    let worker = world.start_worker().await;
    let handle = world.enqueue(Script::<true>::of([act])).await;
    assert_eq!(world.completes(&handle).await, [Some(2)]);
    assert_eq!(effects(&world, handle.workflow).await, ["0 run 1", "0 run 2"]);
    worker.shut_down().await;
}

#[tokio::test]
async fn what_is_to_be_taken_back_is_not_looked_for() {
    let act = Act::new().manner(Manner::Probed).run([Do::Effect, Do::Kill]);
    let (world, handle) = died_of(|_| Script::<false>::of([act])).await;
    let worker = world.start_worker_with_lock().await;
    world.compensates(&handle).await;
    worker.shut_down().await;
    assert_eq!(effects(&world, handle.workflow).await, ["0 run 1", "0 compensate 1"]);
    assert_eq!(attempts(&world, handle.workflow).await, ["0 run 1 open", "0 compensate 1 succeeded"]);
}
