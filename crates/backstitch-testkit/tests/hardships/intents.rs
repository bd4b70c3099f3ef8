//! Intents whose answer comes late: the attempt's time counts from the row, as the wait for its late effects does.

use std::time::Duration;

use backstitch::{
    Attempt, Backward, Compensate, Conduct, Ending, Flow, Outcome, Recovery, Step, StepError, Steps, Worker,
    Workflow, WorkflowError,
};
use backstitch_testkit::cut::{Moment, Statement};
use backstitch_testkit::world::{TIMING, World};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use sqlx::PgPool;

use crate::facts::{Told, attempts, told};

/// Says when its time is over, by the database's clock: at least then.
async fn time_is_over_at(database: &PgPool, attempt: &Attempt) -> Result<DateTime<Utc>, StepError> {
    let now: Result<DateTime<Utc>, _> =
        sqlx::query_scalar("select clock_timestamp()").fetch_one(database).await;
    let now = now.map_err(|error| StepError::retry("unreachable", error))?;
    Ok(now + attempt.time_left())
}

/// Has time for more than one answer that is lost.
#[derive(Serialize, Deserialize)]
struct Patient {}

/// Has none.
#[derive(Serialize, Deserialize)]
struct Hasty {}

macro_rules! step {
    ($step:ident, $name:literal, $timeout:expr) => {
        impl Step<PgPool> for $step {
            const NAME: &'static str = $name;
            const BACKWARD: Backward<Self, PgPool> = Backward::after_all_later();
            const CONDUCT: Conduct = Conduct { timeout: $timeout, ..Conduct::DEFAULT };
            type Output = DateTime<Utc>;

            async fn run(&self, database: &PgPool, attempt: &Attempt) -> Result<DateTime<Utc>, StepError> {
                time_is_over_at(database, attempt).await
            }
        }

        impl Compensate<PgPool> for $step {
            async fn compensate(
                &self,
                _: &PgPool,
                _: &Attempt,
                _: Outcome<DateTime<Utc>>,
            ) -> Result<(), StepError> {
                Ok(())
            }
        }
    };
}

step!(Patient, "patient", Duration::from_secs(60));
// As long as a call to the database may take: whoever has waited for one that got no answer has nothing left.
step!(Hasty, "hasty", TIMING.database_deadline);

/// One step of either sort.
#[derive(Serialize, Deserialize)]
struct Errand {
    hasty: bool,
}

impl Workflow<PgPool> for Errand {
    const KIND: &'static str = "errand";
    const RECOVERY: Recovery = Recovery::Compensate;
    type Output = DateTime<Utc>;

    fn steps(steps: &mut Steps<PgPool>) {
        steps.step::<Patient>().step::<Hasty>();
    }

    async fn run(self, flow: &Flow<PgPool>) -> Result<DateTime<Utc>, WorkflowError> {
        Ok(if self.hasty { flow.step(Hasty {}).await? } else { flow.step(Patient {}).await? })
    }
}

/// Runs the errand by a worker that never hears the first answer to its intent, which stands. Says when the time of the attempt that
/// succeeded was over, and holds that against its row.
async fn run_with_its_first_answer_lost(world: &World, errand: Errand, timeout: Duration) -> Vec<Told> {
    let line = world.line();
    let worker = Worker::new(world.database_over(&line).await, world.pool.clone())
        .serve::<Errand>()
        .timing(TIMING)
        .start()
        .await
        .expect("the worker starts");
    let carries = Some(if errand.hasty { "hasty" } else { "patient" });
    let intent = Statement { texts: vec!["backstitch.append"], carries };
    let answer = line.hold(Moment::BeforeAnswer, intent, 0);
    let handle = world.client.enqueue(errand).send().await.expect("it is enqueued");
    let held = answer.await.expect("the line holds");
    let ending = backstitch_testkit::wait::until("the workflow ends", async || {
        world.client.poll(&handle).await.expect("it answers")
    })
    .await;
    drop(held);
    let Ending::Completed(over_at) = ending else { panic!("it should complete, it ends {ending:?}") };
    let made = world.client.attempts(handle.workflow).await.expect("it answers");
    let begun_at = made.last().expect("an attempt").began_at;
    assert!(over_at <= begun_at + timeout, "its time is over at {over_at}, its row is of {begun_at}");
    worker.shut_down().await;
    attempts(&world.client, handle.workflow).await
}

#[tokio::test]
async fn an_attempts_time_counts_from_its_row_however_late_that_is_answered() {
    let world = World::new().await;
    let timeout = Duration::from_secs(60);
    let made = run_with_its_first_answer_lost(&world, Errand { hasty: false }, timeout).await;
    assert_eq!(made, told([(0, "run", 1, "succeeded")]));
}

#[tokio::test]
async fn an_attempt_whose_time_is_over_when_its_intent_is_answered_is_begun_again() {
    let world = World::new().await;
    let made = run_with_its_first_answer_lost(&world, Errand { hasty: true }, TIMING.database_deadline).await;
    assert_eq!(made, told([(0, "run", 1, "handed_back"), (0, "run", 2, "succeeded")]));
}
