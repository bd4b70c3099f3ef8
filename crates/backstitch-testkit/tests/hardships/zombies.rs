//! Workers that lost their lease and don't know it yet.

use backstitch_testkit::cut::{Passage, Statement};
use backstitch_testkit::script::{Act, Compensating, Do, Manner, Resuming};
use backstitch_testkit::wait::until;
use backstitch_testkit::world::World;
use rustix::process::Signal;

use crate::WORKER;
use crate::facts::{
    attempts, effects, epoch, first_dies, hold_answers_from, incarnations, leases_end, told, writers,
};

/// A step whose attempt ends at once when the file is there, in the very poll that finds it.
fn blocked(mark: &str, file: &std::path::Path) -> Act {
    let run = [Do::Effect, Do::Mark(mark.into()), Do::BlockUntil(file.to_owned())];
    Act::new().manner(Manner::Long).run(run)
}

#[tokio::test]
async fn zombie_outcome_after_takeover_is_refused() {
    let world = World::new().await;
    let file = world.directory.path().join("go");
    let zombie = world.spawn_worker(WORKER).await;
    let resumed =
        world.enqueue(Resuming::of([blocked("resumed", &file).run([Do::Effect]), Act::new()])).await;
    world.marked("resumed").await;
    zombie.signal(Signal::STOP);
    let worker = world.start_worker().await;
    // Its second attempt is made by another worker, and ends before the first one does.
    assert_eq!(world.completes(&resumed).await, [Some(2), Some(1)]);
    assert_eq!(first_dies(&world, "expired").await.pid, zombie.pid());
    let before = writers(&world, resumed.workflow).await;
    std::fs::write(&file, "").expect("written");
    zombie.signal(Signal::CONT);
    // A buried worker begins its next life when it has heard the answers to all it wrote in the first one.
    until("the zombie lives again", async || {
        incarnations(&world).await.iter().filter(|it| it.pid == zombie.pid()).nth(1).map(|_| ())
    })
    .await;
    assert_eq!(writers(&world, resumed.workflow).await, before, "nothing of the zombie's was taken");
    world.assert_sound(resumed.workflow).await;
    assert_eq!(effects(&world, resumed.workflow, 0).await, (2, 0));
    zombie.kill().await;
    worker.shut_down().await;
}

#[tokio::test]
async fn late_outcome_without_takeover_is_accepted() {
    let world = World::new().await;
    let file = world.directory.path().join("go");
    let late = world.spawn_worker(WORKER).await;
    let handle = world.enqueue(Compensating::of([blocked("begun", &file), Act::new()])).await;
    world.marked("begun").await;
    late.signal(Signal::STOP);
    leases_end(&world).await;
    let lease_ended_at = incarnations(&world).await[0].lease_until;
    std::fs::write(&file, "").expect("written");
    late.signal(Signal::CONT);
    assert_eq!(world.completes(&handle).await, [Some(1), Some(1)]);
    let first = &world.client.attempts(handle.workflow).await.expect("it answers")[0];
    assert!(first.ended_at.expect("ended") > lease_ended_at, "its outcome came late");
    assert_eq!(incarnations(&world).await.len(), 1, "it is the same life");
    late.kill().await;
}

#[tokio::test]
async fn zombie_cannot_begin_an_effect() {
    let world = World::new().await;
    let line = world.line();
    let zombie = world.start_worker_over(&line).await;
    let waiting = Act::new().manner(Manner::Long).run([Do::Mark("waiting".into()), Do::Wait("go".into())]);
    let begun = world.directory.path().join("begun");
    let second =
        Act::new().manner(Manner::Independent).run([Do::Touch(begun.clone()), Do::Effect]).run([Do::Effect]);
    let handle = world.enqueue(Resuming::of([waiting, second])).await;
    world.marked("waiting").await;
    // The intent of the second step is durable, and its writer does not hear so.
    let its_intent = Statement { texts: vec!["backstitch.append"], carries: Some("independent") };
    tokio::join!(hold_answers_from(&line, its_intent), world.ledger.open("go"));
    until("the second step's intent is durable", async || {
        (attempts(&world.client, handle.workflow).await.len() == 2).then_some(())
    })
    .await;
    let worker = world.start_worker().await;
    assert_eq!(world.completes(&handle).await, [Some(1), Some(2)]);
    assert_eq!(first_dies(&world, "expired").await.id, 1);
    line.let_through(Passage::Open);
    until("the zombie lives again", async || (incarnations(&world).await.len() == 3).then_some(())).await;
    assert!(!begun.exists(), "the zombie began the second step");
    assert_eq!(effects(&world, handle.workflow, 1).await, (1, 0));
    world.assert_sound(handle.workflow).await;
    tokio::join!(zombie.shut_down(), worker.shut_down());
}

#[tokio::test]
async fn a_worker_cut_off_stops_its_own_effects_before_the_lease_ends() {
    let world = World::new().await;
    let line = world.line();
    let worker = world.start_worker_over(&line).await;
    let beating = || Act::new().manner(Manner::Long).run([Do::Beat("effect".into())]);
    let handle = world.enqueue(Compensating::of([beating(), Act::new()])).await;
    until("its effect goes on", async || world.ledger.last_beat("effect").await).await;
    line.let_through(Passage::Frozen);
    leases_end(&world).await;
    let lease_until = incarnations(&world).await[0].lease_until;
    let (last, beats) = world.ledger.last_beat("effect").await.expect("it beat");
    assert!(last < lease_until, "its effect went on until {last}, the lease ended at {lease_until}");
    assert!(beats > 1, "the effect is seen going on");
    // Nobody took over: it goes on itself, uncharged.
    line.let_through(Passage::Open);
    assert_eq!(world.completes(&handle).await, [Some(2), Some(1)]);
    let expected =
        told([(0, "run", 1, "handed_back"), (0, "run", 2, "succeeded"), (1, "run", 1, "succeeded")]);
    assert_eq!(attempts(&world.client, handle.workflow).await, expected);
    worker.shut_down().await;
}

#[tokio::test]
async fn a_buried_worker_begins_a_new_life() {
    let world = World::new().await;
    let line = world.line();
    let first = world.start_worker_over(&line).await;
    line.let_through(Passage::Frozen);
    let second = world.start_worker().await;
    first_dies(&world, "expired").await;
    second.shut_down().await;
    line.let_through(Passage::Open);
    let handle = world.enqueue(Compensating::of([Act::new()])).await;
    assert_eq!(world.completes(&handle).await, [Some(1)]);
    let lives = incarnations(&world).await;
    let deaths: Vec<_> = lives.iter().map(|life| life.death()).collect();
    assert_eq!(deaths, ["expired", "shutdown", "lives"]);
    assert_eq!(writers(&world, handle.workflow).await, [Some(lives[2].id), Some(lives[2].id)]);
    first.shut_down().await;
}

#[tokio::test]
async fn a_long_step_keeps_its_lease() {
    let world = World::new().await;
    let holder = world.spawn_worker(WORKER).await;
    let long = Act::new().manner(Manner::Long).run([
        Do::Effect,
        Do::Mark("long".into()),
        Do::Wait("longer than its lease".into()),
    ]);
    let handle = world.enqueue(Compensating::of([long, Act::new()])).await;
    world.marked("long").await;
    let lease = incarnations(&world).await[0].lease_until;
    let watcher = world.start_worker().await;
    until("two leases have passed", async || {
        let now = world.ledger.now().await.expect("it answers");
        (now > lease + backstitch_testkit::world::TIMING.lease).then_some(())
    })
    .await;
    assert_eq!(epoch(&world, handle.workflow).await, 1, "nobody else claimed it");
    world.ledger.open("longer than its lease").await;
    assert_eq!(world.completes(&handle).await, [Some(1), Some(1)]);
    assert_eq!(incarnations(&world).await.iter().filter(|life| life.died_at.is_some()).count(), 0);
    assert_eq!(effects(&world, handle.workflow, 0).await, (1, 0));
    watcher.shut_down().await;
    holder.kill().await;
}

#[tokio::test]
async fn a_claim_whose_answer_was_lost_is_found_again() {
    let world = World::new().await;
    let handle = world.enqueue(Compensating::of([Act::new()])).await;
    let line = world.line();
    let claim = Statement { texts: vec!["backstitch.claim"], carries: None };
    let (worker, ()) = tokio::join!(world.start_worker_over(&line), hold_answers_from(&line, claim));
    until("it is claimed", async || (epoch(&world, handle.workflow).await == 1).then_some(())).await;
    leases_end(&world).await;
    line.let_through(Passage::Open);
    assert_eq!(world.completes(&handle).await, [Some(1)]);
    assert_eq!(incarnations(&world).await.len(), 1, "its holder lived all the time");
    worker.shut_down().await;
}
