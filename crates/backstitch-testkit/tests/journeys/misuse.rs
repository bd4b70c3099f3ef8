//! What a workflow's function must not do: each is an error of its own name, and what came before is taken back.

use std::time::Duration;

use backstitch::{
    Attempt, Backward, Compensate, Flow, Outcome, Recovery, Step, StepError, Steps, Workflow, WorkflowError,
};
use backstitch_testkit::script::Ground;
use backstitch_testkit::world::World;
use serde::{Deserialize, Serialize};

use crate::look::{compensated, effects, fates};

const MOMENT: Duration = Duration::from_millis(1);

#[derive(Debug, Serialize, Deserialize)]
struct Touch {}

impl Step<Ground> for Touch {
    const NAME: &'static str = "touch";
    const BACKWARD: Backward<Self, Ground> = Backward::after_all_later();
    type Output = ();

    async fn run(&self, ground: &Ground, attempt: &Attempt) -> Result<(), StepError> {
        // A timer that the function set before this one has fired once this one has.
        tokio::time::sleep(MOMENT).await;
        ground.ledger.write(attempt).await.map(|_| ()).map_err(|error| StepError::retry("ledger", error))
    }
}

impl Compensate<Ground> for Touch {
    async fn compensate(&self, ground: &Ground, attempt: &Attempt, _: Outcome<()>) -> Result<(), StepError> {
        self.run(ground, attempt).await
    }
}

#[derive(Debug, Serialize, Deserialize)]
struct Stranger {}

impl Step<Ground> for Stranger {
    const NAME: &'static str = "stranger";
    const BACKWARD: Backward<Self, Ground> = Backward::nothing_because("it is never run");
    type Output = ();

    async fn run(&self, _: &Ground, _: &Attempt) -> Result<(), StepError> {
        Err(StepError::fail("run", "nobody knows this step"))
    }
}

/// After its first step it does what it must not.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
enum Misusing {
    Sleep,
    Yield,
    Channel,
    Task,
    SleepBesideAStep,
    ChannelBesideAStep,
    ConcurrentSteps,
    DroppedStep,
    StepInATimeout,
    UnregisteredStep,
    Panic,
    UnencodableOutput,
}

use Misusing::*;

impl Workflow<Ground> for Misusing {
    const KIND: &'static str = "misuse";
    const RECOVERY: Recovery = Recovery::Resume;
    type Output = String;

    fn steps(steps: &mut Steps<Ground>) {
        steps.step::<Touch>();
    }

    async fn run(self, flow: &Flow<Ground>) -> Result<String, WorkflowError> {
        flow.step(Touch {}).await?;
        let (sender, channel) = tokio::sync::oneshot::channel::<()>();
        match self {
            Sleep => tokio::time::sleep(MOMENT).await,
            Yield => tokio::task::yield_now().await,
            Channel => {
                // Nobody sends: it is not even woken.
                let _ = channel.await;
                drop(sender);
            }
            Task => {
                let _ = tokio::spawn(std::future::ready(())).await;
            }
            SleepBesideAStep => {
                let (_, touched) = tokio::join!(tokio::time::sleep(MOMENT), flow.step(Touch {}));
                touched?;
            }
            ChannelBesideAStep => {
                let (_, touched) = tokio::join!(channel, flow.step(Touch {}));
                drop(sender);
                touched?;
            }
            ConcurrentSteps => {
                let (one, other) = tokio::join!(flow.step(Touch {}), flow.step(Touch {}));
                one.and(other)?;
            }
            DroppedStep => drop(flow.step(Touch {})),
            StepInATimeout => {
                let _ = tokio::time::timeout(Duration::ZERO, flow.step(Touch {})).await;
            }
            UnregisteredStep => flow.step(Stranger {}).await?,
            Panic => panic!("the workflow says so"),
            UnencodableOutput => return Ok("\0".to_owned()),
        }
        Ok("as if nothing had been".to_owned())
    }
}

#[tokio::test]
async fn a_foreign_await_is_a_named_error() {
    let world = World::new().await;
    let worker = world.worker().await.serve::<Misusing>().start().await.expect("it starts");
    // What it does, the error's name, and how many steps had begun.
    let cases = [
        (Sleep, "foreign_await", 1),
        (Yield, "foreign_await", 1),
        (Channel, "foreign_await", 1),
        (Task, "foreign_await", 1),
        (SleepBesideAStep, "foreign_await", 2),
        (ChannelBesideAStep, "foreign_await", 2),
        (ConcurrentSteps, "concurrent_steps", 1),
        (DroppedStep, "dropped_step", 1),
        (StepInATimeout, "foreign_await", 2),
        (UnregisteredStep, "unregistered_step", 1),
        (Panic, "panicked", 1),
        (UnencodableOutput, "invalid_output", 1),
    ];
    let mut hit = 0;
    for (misusing, code, begun) in cases {
        let handle = world.enqueue(misusing).await;
        let unfinished = world.compensates(&handle).await;
        assert_eq!(unfinished.error.failure.code, code, "{misusing:?}: {}", unfinished.error);
        assert_eq!(fates(&unfinished), vec![compensated(1); begun], "{misusing:?}");
        let effects = effects(&world, handle.workflow).await;
        assert_eq!(effects.len(), 2 * begun, "{misusing:?}: {effects:?}");
        hit += 1;
    }
    assert_eq!(hit, 12);
    worker.shut_down().await;
}
