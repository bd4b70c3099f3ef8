//! How steps fail, are tried again, and are taken back.

use backstitch::{Ending, Fate};
use backstitch_testkit::oracle;
use backstitch_testkit::recorder::{self, Lacking, Line, Recorder, Verdict, read_log};
use backstitch_testkit::script::{Act, Compensating, Do, Ground, Manner, Resuming};
use backstitch_testkit::world::{World, worker_on};

use crate::WORKER;
use crate::look::{attempts, broken, compensated, died_of, effects, fates, giving_up, retried};

const EVERY_MANNER: [Manner; 5] =
    [Manner::Dependent, Manner::Independent, Manner::Transactional, Manner::Dependent, Manner::Transactional];

fn count(all: &[String], what: &str) -> usize {
    all.iter().filter(|one| one.contains(what)).count()
}

#[tokio::test]
async fn a_step_that_failed_is_compensated_too() {
    let world = World::new().await;
    let worker = world.start_worker().await;
    let told = |mark: &str| [Do::MarkOutcome(mark.into()), Do::Effect];
    let steps = [Act::new().compensate(told("first")), broken().compensate(told("second")), Act::new()];
    let handle = world.enqueue(Compensating::of(steps)).await;
    let unfinished = world.compensates(&handle).await;
    assert_eq!(unfinished.error.failure.code, "broken");
    assert_eq!(fates(&unfinished), [compensated(1), compensated(1)]);
    assert_eq!(
        effects(&world, handle.workflow).await,
        ["0 run 1", "1 run 1", "1 compensate 1", "0 compensate 1"]
    );
    assert!(world.ledger.is_marked("second unknown").await, "without an output");
    assert!(world.ledger.is_marked("first 1").await, "with its output");
    worker.shut_down().await;
}

#[tokio::test]
async fn rejected_step_is_not_compensated_but_earlier_ones_are() {
    let world = World::new().await;
    let worker = world.start_worker().await;
    for manner in [Manner::Dependent, Manner::Transactional] {
        let rejected = Act::new().manner(manner).run([Do::Reject("taken".into())]);
        let handle = world.enqueue(Compensating::of([Act::new(), Act::new(), rejected])).await;
        let unfinished = world.compensates(&handle).await;
        assert_eq!(unfinished.error.failure.code, "taken");
        assert_eq!(fates(&unfinished), [compensated(1), compensated(1), Fate::DidNotHappen], "{manner:?}");
        let expected = ["0 run 1", "1 run 1", "1 compensate 1", "0 compensate 1"];
        assert_eq!(effects(&world, handle.workflow).await, expected, "{manner:?}");
    }
    worker.shut_down().await;
}

#[tokio::test]
async fn steps_never_started_are_untouched() {
    let world = World::new().await;
    let worker = world.start_worker().await;
    let handle = world.enqueue(Compensating::of([Act::new(), broken(), Act::new(), Act::new()])).await;
    let unfinished = world.compensates(&handle).await;
    assert_eq!(unfinished.report.steps.len(), 2, "{}", unfinished.report);
    let touched =
        attempts(&world, handle.workflow).await.into_iter().chain(effects(&world, handle.workflow).await);
    assert_eq!(touched.filter(|what| what.starts_with(['2', '3'])).count(), 0);
    worker.shut_down().await;
}

#[tokio::test]
async fn a_retried_step_succeeds() {
    let world = World::new().await;
    let worker = world.start_worker().await;
    let failures = [Do::Retry("busy".into()), Do::Panic, Do::Hang];
    let mut hit = 0;
    for manner in [Manner::Dependent, Manner::Transactional] {
        for failed in 0..3_u32 {
            for failure in &failures[..if failed == 0 { 1 } else { 3 }] {
                let step = (0..failed).fold(Act::new().manner(manner), |step, _| step.run([failure.clone()]));
                let handle = world.enqueue(Compensating::of([step, Act::new()])).await;
                assert_eq!(
                    world.completes(&handle).await,
                    [Some(failed + 1), Some(1)],
                    "{manner:?} {failure:?}"
                );
                let attempts = attempts(&world, handle.workflow).await;
                assert_eq!(count(&attempts, "0 run"), failed as usize + 1, "{attempts:?}");
                assert_eq!(count(&attempts, "compensate"), 0, "{attempts:?}");
                hit += 1;
            }
        }
    }
    assert_eq!(hit, 14);
    worker.shut_down().await;
}

#[tokio::test]
async fn attempts_exhausted_compensates() {
    let world = World::new().await;
    let worker = world.start_worker().await;
    for (manner, own) in [(Manner::Dependent, compensated(1)), (Manner::Transactional, Fate::DidNotHappen)] {
        let step = retried(&["first", "second", "third"]).manner(manner);
        let handle = world.enqueue(Compensating::of([Act::new(), step])).await;
        let unfinished = world.compensates(&handle).await;
        assert_eq!(unfinished.error.failure.code, "third", "the last error of the step itself");
        assert_eq!(fates(&unfinished), [compensated(1), own]);
        let attempts = attempts(&world, handle.workflow).await;
        assert_eq!(attempts[1..4], ["1 run 1 retry", "1 run 2 retry", "1 run 3 failed"], "{attempts:?}");
    }
    worker.shut_down().await;
}

#[tokio::test]
async fn in_doubt_is_compensated_without_running_again() {
    let after_a_death = async {
        let killing = Act::new().run([Do::Effect, Do::Kill]);
        let (world, handle) = died_of(|_| Compensating::of([Act::new(), killing])).await;
        let worker = world.start_worker_with_lock().await;
        world.compensates(&handle).await;
        let expected = ["0 run 1", "1 run 1", "1 compensate 1", "0 compensate 1"];
        assert_eq!(effects(&world, handle.workflow).await, expected);
        worker.shut_down().await;
    };
    // Even where the kind resumes: somebody cancelled it, so it goes back.
    let after_a_timeout = async {
        let world = World::new().await;
        let worker = world.start_worker().await;
        let hanging = Act::new().run([Do::Effect, Do::Mark("begun".into()), Do::Hang]);
        let handle = world.enqueue(Resuming::of([Act::new(), hanging])).await;
        world.marked("begun").await;
        world.client.cancel(handle.workflow, "the test", "to see it go back").await.expect("it answers");
        let unfinished = world.compensates(&handle).await;
        assert_eq!(unfinished.error.failure.code, "cancelled");
        let expected = ["0 run 1", "1 run 1", "1 compensate 1", "0 compensate 1"];
        assert_eq!(effects(&world, handle.workflow).await, expected);
        worker.shut_down().await;
    };
    tokio::join!(after_a_death, after_a_timeout);
}

#[tokio::test]
async fn every_step_twice_leaves_what_once_leaves() {
    let world = World::new().await;
    let worker = world.start_worker().await;
    let steps = EVERY_MANNER.map(|manner| retried(&["again"]).manner(manner));
    let handle = world.enqueue(Compensating::of(steps)).await;
    assert_eq!(world.completes(&handle).await, [Some(2); 5]);
    let effects = effects(&world, handle.workflow).await;
    assert_eq!(
        (count(&effects, "run 1"), count(&effects, "run 2")),
        (3, 5),
        "a rolled back one left nothing"
    );
    let mut standing = world.ledger.standing(handle.workflow).await;
    standing.extend(world.inner_ledger.standing(handle.workflow).await);
    assert_eq!(standing.into_values().collect::<Vec<_>>(), [1; 5]);
    worker.shut_down().await;
}

#[tokio::test]
async fn every_compensation_twice_leaves_nothing() {
    let world = World::new().await;
    let worker = world.start_worker().await;
    let again = [Do::Effect, Do::Retry("again".into())];
    let steps = EVERY_MANNER.map(|manner| Act::new().manner(manner).compensate(again.clone()));
    let handle = world.enqueue(giving_up::<false>(steps)).await;
    let unfinished = world.compensates(&handle).await;
    assert_eq!(fates(&unfinished), [const { Fate::Compensated { attempts: 2 } }; 5]);
    let effects = effects(&world, handle.workflow).await;
    assert_eq!((count(&effects, "compensate 1"), count(&effects, "compensate 2")), (3, 5));
    worker.shut_down().await;
}

#[tokio::test]
async fn each_step_fails_and_the_compensation_before_it_runs_twice() {
    const STEPS: u32 = 5;
    let world = World::new().await;
    let (socket, log) = (world.directory.path().join("recorder"), world.directory.path().join("log"));
    let serving = tokio::spawn({
        let (socket, log) = (socket.clone(), log.clone());
        async move { recorder::serve(&socket, &log, Lacking::default()).await }
    });
    for failing in 1..STEPS {
        let twice = failing - 1;
        let mut steps = vec![Act::new(); STEPS as usize];
        steps[failing as usize] = broken();
        // It has its effect, and its outcome dies with its process.
        steps[twice as usize] = Act::new().compensate([Do::Effect, Do::Kill]);
        let handle = world.enqueue(Compensating::of(steps)).await;
        let process = world.process(WORKER).with_lock(&world.state_directory()).variable("RECORDER", &socket);
        process.spawn().await.killed().await;
        let ground = Ground { ledger: world.ledger.clone(), recorder: Some(Recorder::at(&socket)) };
        let worker =
            worker_on(world.client.database().clone(), ground).state_directory(world.state_directory());
        let worker = worker.start().await.expect("the worker starts");
        let ending = world.client.wait(&handle).await.expect("it answers");
        worker.shut_down().await;

        let Ending::Compensated(unfinished) = ending else { panic!("step {failing} failed: {ending:?}") };
        assert_eq!(unfinished.error.failure.code, "broken", "step {failing}: the original error");
        let tries = |step| 1 + u32::from(step == twice);
        assert_eq!(
            fates(&unfinished),
            (0..=failing).map(|step| compensated(tries(step))).collect::<Vec<_>>()
        );
        let attempts = attempts(&world, handle.workflow).await;
        let of_the_one = format!("{twice} compensate");
        let of_the_one: Vec<_> = attempts.iter().filter(|what| what.starts_with(&of_the_one)).collect();
        assert_eq!(*of_the_one[0], format!("{twice} compensate 1 open"), "{attempts:?}");
        assert_eq!(of_the_one[1..], [&format!("{twice} compensate 2 succeeded")], "{attempts:?}");

        let lines = read_log(&log).expect("it has a log");
        let verdicts = |step, direction| -> Vec<Verdict> {
            let of_it = |line: &&Line| {
                let call = &line.call;
                (call.workflow, call.position, call.direction.as_str())
                    == (handle.workflow.0, step, direction)
            };
            lines.iter().filter(of_it).map(|line| line.verdict).collect()
        };
        for step in 0..STEPS {
            let (run, back) = (verdicts(step, "run"), verdicts(step, "compensate"));
            let once: &[_] = if step > failing { &[] } else { &[Verdict::Applied] };
            let expected = if step == twice { &[Verdict::Applied, Verdict::Repeated] } else { once };
            assert_eq!((&run[..], &back[..]), (once, expected), "step {step}, where step {failing} failed");
        }
        let faults = oracle::faults(&world.pool, None, None, handle.workflow).await;
        assert!(faults.is_empty(), "step {failing} failed: {faults:#?}");
    }
    serving.abort();
}

#[tokio::test]
async fn a_caught_failure_leaves_no_residue() {
    let world = World::new().await;
    let worker = world.start_worker().await;
    let ways: [(&str, Act); 4] = [
        ("failed", broken()),
        ("exhausted", retried(&["busy", "busy", "busy"])),
        ("rejected", Act::new().run([Do::Reject("taken".into())])),
        ("rolled back", broken().manner(Manner::Transactional)),
    ];
    for (way, step) in ways {
        let handle = world.enqueue(Compensating::of([Act::new(), step.caught(), Act::new()])).await;
        assert_eq!(world.completes(&handle).await, [Some(1), None, Some(1)], "{way}");
        let standing: Vec<_> = world.ledger.standing(handle.workflow).await.into_keys().collect();
        assert_eq!(standing, [0, 2], "{way}");
        assert!(world.inner_ledger.standing(handle.workflow).await.is_empty(), "{way}");
        let effects = effects(&world, handle.workflow).await;
        assert_eq!(
            effects.last().map(String::as_str),
            Some("2 run 1"),
            "{way}: gone before the function goes on"
        );
    }
    worker.shut_down().await;
}

#[tokio::test]
async fn a_panic_in_run_or_compensate_is_a_failed_attempt() {
    let world = World::new().await;
    let worker = world.start_worker().await;
    let mut hit = 0;
    for manner in [Manner::Dependent, Manner::Transactional] {
        let panicking =
            || Act::new().manner(manner).run([Do::Effect, Do::Panic]).compensate([Do::Effect, Do::Panic]);
        let completed = world.enqueue(Compensating::of([panicking()])).await;
        assert_eq!(world.completes(&completed).await, [Some(2)], "{manner:?}");
        let taken_back = world.enqueue(giving_up::<false>([panicking()])).await;
        assert_eq!(fates(&world.compensates(&taken_back).await), [compensated(2)], "{manner:?}");
        let attempts = attempts(&world, taken_back.workflow).await;
        assert_eq!(count(&attempts, "1 in_doubt"), 2, "{manner:?}: {attempts:?}");
        hit += 2;
    }
    assert_eq!(hit, 4);
    let (lives, dead): (i64, i64) =
        sqlx::query_as("select count(*), count(died_at) from backstitch.incarnation")
            .fetch_one(&world.pool)
            .await
            .unwrap();
    assert_eq!((lives, dead), (1, 0), "the worker lives");
    worker.shut_down().await;
}

#[tokio::test]
async fn rejected_after_an_unknown_attempt_is_compensated() {
    let rejected = |first: Do| Act::new().run([Do::Effect, first]).run([Do::Reject("taken".into())]);
    let alive = async {
        let world = World::new().await;
        let worker = world.start_worker().await;
        for first in [Do::Retry("busy".into()), Do::Panic, Do::Hang] {
            let handle = world.enqueue(Compensating::of([Act::new(), rejected(first.clone())])).await;
            let unfinished = world.compensates(&handle).await;
            assert_eq!(unfinished.error.failure.code, "taken", "{first:?}");
            assert_eq!(fates(&unfinished), [compensated(1), compensated(1)], "{first:?}");
        }
        // A transaction that failed left nothing: there the word is believed.
        let step = rejected(Do::Retry("busy".into())).manner(Manner::Transactional);
        let handle = world.enqueue(Compensating::of([Act::new(), step])).await;
        assert_eq!(fates(&world.compensates(&handle).await), [compensated(1), Fate::DidNotHappen]);
        worker.shut_down().await;
    };
    let after_a_death = async {
        let (world, handle) = died_of(|_| Resuming::of([Act::new(), rejected(Do::Kill)])).await;
        let worker = world.start_worker_with_lock().await;
        let unfinished = world.compensates(&handle).await;
        assert_eq!(unfinished.error.failure.code, "taken");
        assert_eq!(fates(&unfinished), [compensated(1), compensated(1)]);
        worker.shut_down().await;
    };
    tokio::join!(alive, after_a_death);
}
