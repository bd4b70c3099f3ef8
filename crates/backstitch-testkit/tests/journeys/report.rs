//! What the caller and the log are told of a rollback.

use backstitch::{Cause, Ending, Fate, Position, Status};
use backstitch_testkit::script::{Act, Compensating, Do, Manner};
use backstitch_testkit::world::World;
use rustix::process::Signal;

use crate::WORKER;
use crate::look::{broken, compensated, fates, giving_up};

#[tokio::test]
async fn original_error_reaches_the_caller_with_the_rollback_report() {
    let world = World::new().await;
    let worker = world.start_worker().await;
    let busy = Act::new().compensate([Do::Retry("busy".into())]);
    let steps = [
        Act::new().manner(Manner::Nothing),
        Act::new().manner(Manner::Transactional),
        busy.manner(Manner::Independent),
        Act::new().run([Do::Reject("refused".into())]).caught(),
        broken(),
        Act::new(),
    ];
    let handle = world.enqueue(Compensating::of(steps)).await;
    let ending = world.client.wait(&handle).await.expect("it answers");
    // What has nothing to take back stands: not for the oracle.
    let Ending::Compensated(unfinished) = ending else { panic!("it ends {ending:?}") };
    assert_eq!(unfinished.error.failure.code, "broken");
    assert_eq!(unfinished.error.failure.message, "the script says so");
    assert_eq!(unfinished.error.step.as_deref(), Some("dependent"));
    assert_eq!(unfinished.report.cause, Cause::Failed(unfinished.error.clone()));
    let expected =
        [Fate::NothingToCompensate, compensated(1), compensated(2), Fate::DidNotHappen, compensated(1)];
    assert_eq!(fates(&unfinished), expected);
    let places: Vec<_> = unfinished.report.steps.iter().map(|step| step.position).collect();
    assert_eq!(places, [0, 1, 2, 3, 4].map(Position));
    assert_eq!(
        unfinished.report.to_string(),
        "nothing had nothing to compensate, transactional compensated, independent compensated in 2 attempts, \
         dependent did not happen, dependent compensated"
    );
    worker.shut_down().await;
}

#[tokio::test]
async fn the_rollback_report_is_logged_once_at_its_end() {
    let world = World::new().await;
    let log = world.directory.path().join("log");
    let process =
        || world.process(WORKER).with_lock(&world.state_directory()).log_to(&log, "backstitch=info");
    // Through failures, a time when it is stuck, and a death: one report each.
    let stuck =
        world.enqueue(giving_up::<false>([Act::new(), Act::new().compensates_once_open("healed")])).await;
    let first = process().spawn().await;
    world.reaches(stuck.workflow, Status::NeedsAttention).await;
    world.ledger.open("healed").await;
    let stuck_report = world.compensates(&stuck).await.report;
    let killing = Act::new().compensate([Do::Retry("busy".into())]).compensate([Do::Kill]);
    let killing = world.enqueue(giving_up::<false>([killing])).await;
    first.killed().await;
    let mut second = process().spawn().await;
    let killing_report = world.compensates(&killing).await.report;
    second.signal(Signal::TERM);
    assert!(second.gone().await);

    let log = std::fs::read_to_string(&log).expect("a log");
    for (workflow, report) in [(stuck.workflow, stuck_report), (killing.workflow, killing_report)] {
        let tells =
            |line: &&str| line.contains("everything is taken back") && line.contains(&workflow.to_string());
        let lines: Vec<_> = log.lines().filter(tells).collect();
        assert_eq!(lines.len(), 1, "{log}");
        assert!(
            lines[0].contains(" WARN ") && lines[0].contains("the script says so (enough)"),
            "{}",
            lines[0]
        );
        assert!(lines[0].contains(&report.to_string()), "{}: {report}", lines[0]);
    }
}
