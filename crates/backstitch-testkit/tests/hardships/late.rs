//! Effects that land when whoever asked for them is gone, at a target that takes whatever arrives.

use backstitch::limits::LATE_EFFECT_GRACE;
use backstitch_testkit::cut::{Moment, Statement};
use backstitch_testkit::script::{Act, Compensating, Do, Manner, WAITED_OUT_CONDUCT};
use backstitch_testkit::wait::until;
use backstitch_testkit::world::World;

use crate::WORKER;
use crate::facts::{attempts, epoch};

#[tokio::test]
async fn what_lands_after_its_process_died_is_waited_for_and_then_compensated() {
    let world = World::new().await;
    let (line, ledger_url) = world.line_to_the_ledger();
    let state = world.state_directory();
    let worker = world.process(WORKER).variable("LEDGER_URL", ledger_url).with_lock(&state).spawn().await;
    let its_call = Statement { texts: vec!["insert into effect"], carries: None };
    let held = line.hold(Moment::BeforeStatement, its_call, 0);
    let act = Act::new().manner(Manner::WaitedOut).run([Do::Send]);
    let handle = world.enqueue(Compensating::of([act])).await;
    let held = held.await.expect("its call is on its way");
    worker.kill().await;
    let heir = world.start_worker_with_lock().await;
    until("its heir has it", async || (epoch(&world, handle.workflow).await == 2).then_some(())).await;
    assert_eq!(attempts(&world.client, handle.workflow).await.len(), 1, "nothing is compensated yet");
    held.pass();
    world.compensates(&handle).await;
    let entries = world.ledger.entries(handle.workflow).await;
    let entries: Vec<_> = entries.iter().map(|entry| (entry.direction.as_str(), entry.taken)).collect();
    assert_eq!(entries, [("run", true), ("compensate", true)], "taken back once it had landed");
    let attempts = world.client.attempts(handle.workflow).await.expect("it answers");
    let waited = attempts[1].began_at - attempts[0].began_at;
    let wanted = WAITED_OUT_CONDUCT.timeout + LATE_EFFECT_GRACE;
    assert!(waited.to_std().expect("later") >= wanted, "{waited} after its intent, not {wanted:?}");
    heir.shut_down().await;
}
