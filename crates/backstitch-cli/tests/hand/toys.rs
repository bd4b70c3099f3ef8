//! What do the workflows do that a worker of the test runs for the binary to look at?

use std::time::Duration;

use backstitch::{
    Attempt, Backward, Compensate, Conduct, Flow, Outcome, Patience, Recovery, RetryPolicy, Running, Step,
    StepError, Steps, Worker, Workflow, WorkflowError,
};
use serde::{Deserialize, Serialize};

use crate::world::World;

/// Two steps; the second fails if told to, and the first can't be taken back if told so.
#[derive(Serialize, Deserialize)]
pub struct Toy {
    pub fails: bool,
    pub sticks: bool,
}

#[derive(Serialize, Deserialize)]
struct Take {
    sticks: bool,
}

#[derive(Serialize, Deserialize)]
struct Use {
    fails: bool,
}

impl Workflow<()> for Toy {
    const KIND: &'static str = "toy";
    const RECOVERY: Recovery = Recovery::Compensate;
    type Output = String;

    fn steps(steps: &mut Steps<()>) {
        steps.step::<Take>().step::<Use>();
    }

    async fn run(self, flow: &Flow<()>) -> Result<String, WorkflowError> {
        let taken = flow.step(Take { sticks: self.sticks }).await?;
        flow.step(Use { fails: self.fails }).await?;
        Ok(taken)
    }
}

impl Step<()> for Take {
    const NAME: &'static str = "take";
    const BACKWARD: Backward<Self, ()> = Backward::after_all_later();
    // One failure is enough for a person to be told.
    const CONDUCT: Conduct = Conduct {
        patience: Patience {
            attempts: 1,
            time: Duration::from_secs(1),
            slow_retry: Duration::from_secs(600),
        },
        ..Conduct::DEFAULT
    };
    type Output = String;

    async fn run(&self, _: &(), _: &Attempt) -> Result<String, StepError> {
        Ok("taken".to_owned())
    }
}

impl Compensate<()> for Take {
    async fn compensate(&self, _: &(), _: &Attempt, _: Outcome<String>) -> Result<(), StepError> {
        if self.sticks { Err(StepError::retry("stuck", "it does not let go")) } else { Ok(()) }
    }
}

impl Step<()> for Use {
    const NAME: &'static str = "use";
    const BACKWARD: Backward<Self, ()> = Backward::nothing_because("using leaves nothing");
    const CONDUCT: Conduct = Conduct { retry: RetryPolicy::ONCE, ..Conduct::DEFAULT };
    type Output = ();

    async fn run(&self, _: &(), _: &Attempt) -> Result<(), StepError> {
        if self.fails { Err(StepError::fail("worn_out", "it broke \u{1b}[31min use")) } else { Ok(()) }
    }
}

/// A worker that serves them.
pub async fn worker(world: &World) -> Running {
    let database = world.client().await.database().clone();
    Worker::new(database, ()).serve::<Toy>().start().await.unwrap()
}
