//! What does a token of some kinds learn of the worker that is at its workflow, and at others?

use backstitch::{
    Attempt, Backward, Flow, Recovery, Step, StepError, Steps, Worker, Workflow, WorkflowError,
};
use backstitch_testkit::wait::until;
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::sync::Semaphore;

use crate::daemon::{Daemon, serve};
use crate::http::Caller;
use crate::world::World;

/// Until it is opened both workflows are held.
static GATE: Semaphore = Semaphore::const_new(0);

#[derive(Serialize, Deserialize)]
struct Ours {}

#[derive(Serialize, Deserialize)]
struct Theirs {}

#[derive(Serialize, Deserialize)]
struct Pass {}

impl Workflow<()> for Ours {
    const KIND: &'static str = "toy";
    const RECOVERY: Recovery = Recovery::Resume;
    type Output = ();

    fn steps(steps: &mut Steps<()>) {
        steps.step::<Pass>();
    }

    async fn run(self, flow: &Flow<()>) -> Result<(), WorkflowError> {
        Ok(flow.step(Pass {}).await?)
    }
}

impl Workflow<()> for Theirs {
    const KIND: &'static str = "payroll";
    const RECOVERY: Recovery = Recovery::Resume;
    type Output = ();

    fn steps(steps: &mut Steps<()>) {
        steps.step::<Pass>();
    }

    async fn run(self, flow: &Flow<()>) -> Result<(), WorkflowError> {
        Ok(flow.step(Pass {}).await?)
    }
}

impl Step<()> for Pass {
    const NAME: &'static str = "pass";
    const BACKWARD: Backward<Self, ()> = Backward::nothing_because("passing leaves nothing");
    type Output = ();

    async fn run(&self, (): &(), _: &Attempt) -> Result<(), StepError> {
        drop(GATE.acquire().await);
        Ok(())
    }
}

#[tokio::test]
async fn the_kinds_that_a_worker_serves_beside_it_are_told_to_whoever_may_see_them() {
    let world = World::new().await;
    let daemon = Daemon::start(serve(&world)).await;
    let client = world.client().await;
    let ours = client.enqueue(Ours {}).send().await.unwrap();
    client.enqueue(Theirs {}).send().await.unwrap();
    let worker = Worker::new(client.database().clone(), ()).serve::<Ours>().serve::<Theirs>();
    let worker = worker.start().await.unwrap();
    let everything = Caller::of_role(&world, &daemon, "read", "").await;
    let some = Caller::of_role(&world, &daemon, "read", "toy").await;
    let path = format!("/v1/workflows/{}/journal", ours.workflow);
    let seen = until("both are held", async || {
        let seen = everything.get(&path).await.expect(200).body["worker"].clone();
        (seen["held"] == json!(2)).then_some(seen)
    })
    .await;
    assert_eq!(seen["kinds"], json!(["payroll", "toy"]));
    let scoped = some.get(&path).await.expect(200).body["worker"].clone();
    assert_eq!((&scoped["kinds"], &scoped["held"]), (&json!(["toy"]), &json!(1)), "{scoped}");
    assert_eq!((&scoped["incarnation"], &scoped["host"]), (&seen["incarnation"], &seen["host"]));
    GATE.add_permits(2);
    worker.shut_down().await;
    daemon.stop().await;
}
