//! Code and journal of different ages: kinds nobody serves, functions that changed, steps whose code is gone.

use std::time::Duration;

use backstitch::{
    Answered, Attempt, Backward, Compensate, Conduct, Flow, LateEffects, Outcome, Recovery, RetryPolicy,
    Status, Step, StepError, Steps, Workflow, WorkflowError,
};
use backstitch_testkit::script::{Act, Compensating, Ground};
use backstitch_testkit::wait::until;
use backstitch_testkit::world::World;
use serde::{Deserialize, Serialize};

use crate::facts::{alerts, attempts, effects, told};

/// Books something, and gives it back.
#[derive(Serialize, Deserialize)]
struct Book {
    what: String,
}

impl Step<Ground> for Book {
    const NAME: &'static str = "book";
    const BACKWARD: Backward<Self, Ground> = Backward::after_all_later();
    const CONDUCT: Conduct = CONDUCT;
    type Output = String;

    async fn run(&self, ground: &Ground, attempt: &Attempt) -> Result<String, StepError> {
        ground.ledger.write(attempt).await.map_err(|error| StepError::retry("unreachable", error))?;
        Ok(format!("ticket for a {}", self.what))
    }
}

impl Compensate<Ground> for Book {
    async fn compensate(
        &self,
        ground: &Ground,
        attempt: &Attempt,
        out: Outcome<String>,
    ) -> Result<(), StepError> {
        ground.ledger.write(attempt).await.map_err(|error| StepError::retry("unreachable", error))?;
        let Outcome::Succeeded(ticket) = out else { return Ok(()) };
        let mark = format!("gave back the {}, {ticket}", self.what);
        ground.ledger.mark(&mark).await.map_err(|error| StepError::retry("unreachable", error))
    }
}

/// The same, in a version that also knows a class.
#[derive(Serialize, Deserialize)]
struct BookInAClass {
    what: String,
    #[serde(default = "second")]
    class: u32,
}

fn second() -> u32 {
    2
}

impl Step<Ground> for BookInAClass {
    const NAME: &'static str = "book";
    const BACKWARD: Backward<Self, Ground> = Backward::after_all_later();
    const CONDUCT: Conduct = CONDUCT;
    type Output = String;

    async fn run(&self, ground: &Ground, attempt: &Attempt) -> Result<String, StepError> {
        ground.ledger.write(attempt).await.map_err(|error| StepError::retry("unreachable", error))?;
        Ok(format!("ticket for a {} in class {}", self.what, self.class))
    }
}

impl Compensate<Ground> for BookInAClass {
    async fn compensate(
        &self,
        ground: &Ground,
        attempt: &Attempt,
        _: Outcome<String>,
    ) -> Result<(), StepError> {
        ground.ledger.write(attempt).await.map_err(|error| StepError::retry("unreachable", error))?;
        Ok(())
    }
}

/// Is busy until somebody says "retry": meanwhile its workflow rests.
#[derive(Serialize, Deserialize)]
struct Rest {}

impl Step<Ground> for Rest {
    const NAME: &'static str = "rest";
    const BACKWARD: Backward<Self, Ground> = Backward::nothing_because("it has no effect");
    const CONDUCT: Conduct = CONDUCT;
    type Output = ();

    async fn run(&self, _: &Ground, attempt: &Attempt) -> Result<(), StepError> {
        match attempt.number() {
            1 => Err(StepError::retry("resting", "until somebody says so")),
            _ => Ok(()),
        }
    }
}

const AN_HOUR: Duration = Duration::from_secs(3600);
const CONDUCT: Conduct = Conduct {
    retry: RetryPolicy { attempts_max: 3, delay_first: AN_HOUR, delay_max: AN_HOUR },
    late_effects: LateEffects::Refused,
    ..Conduct::DEFAULT
};

/// A kind of workflow named so, of these steps, whose function is this.
macro_rules! version {
    ($name:ident, $kind:literal, [$($step:ty),*], |$flow:ident| $body:block) => {
        #[derive(Serialize, Deserialize)]
        struct $name {}

        impl Workflow<Ground> for $name {
            const KIND: &'static str = $kind;
            const RECOVERY: Recovery = Recovery::Resume;
            type Output = String;

            fn steps(steps: &mut Steps<Ground>) {
                $(steps.step::<$step>();)*
                let _ = steps;
            }

            async fn run(self, $flow: &Flow<Ground>) -> Result<String, WorkflowError> {
                $body
            }
        }
    };
}

version!(Journey, "hardship.journey", [Book, Rest], |flow| {
    let ticket = flow.step(Book { what: "seat".into() }).await?;
    flow.step(Rest {}).await?;
    Ok(ticket)
});

version!(JourneyByNight, "hardship.journey", [Book, Rest], |flow| {
    let ticket = flow.step(Book { what: "berth".into() }).await?;
    flow.step(Rest {}).await?;
    Ok(ticket)
});

version!(JourneyInSecondClass, "hardship.journey", [BookInAClass, Rest], |flow| {
    let ticket = flow.step(BookInAClass { what: "seat".into(), class: 2 }).await?;
    flow.step(Rest {}).await?;
    Ok(ticket)
});

version!(JourneyInFirstClass, "hardship.journey", [BookInAClass, Rest], |flow| {
    let ticket = flow.step(BookInAClass { what: "seat".into(), class: 1 }).await?;
    flow.step(Rest {}).await?;
    Ok(ticket)
});

version!(JourneyOnFoot, "hardship.journey", [Rest], |flow| {
    flow.step(Rest {}).await?;
    Ok("no ticket".into())
});

version!(Newcomer, "hardship.newcomer", [Book], |flow| {
    Ok(flow.step(Book { what: "seat".into() }).await?)
});

/// A journey whose seat is booked, and whose worker has shut down.
async fn resting(world: &World) -> backstitch::Handle<String> {
    let worker = world.worker().await.serve::<Journey>().start().await.expect("the worker starts");
    let handle = world.enqueue(Journey {}).await;
    let rests = told([(0, "run", 1, "succeeded"), (1, "run", 1, "retry")]);
    until("it rests", async || (attempts(&world.client, handle.workflow).await == rests).then_some(())).await;
    worker.shut_down().await;
    handle
}

async fn wake(world: &World, handle: &backstitch::Handle<String>) {
    let answered = world.client.retry(handle.workflow, "ada", "deployed").await.expect("it answers");
    assert_eq!(answered, Answered::Accepted);
}

#[tokio::test]
async fn code_changed_under_a_running_workflow_is_compensated_from_the_journal() {
    let world = World::new().await;
    let handle = resting(&world).await;
    let worker = world.worker().await.serve::<JourneyByNight>().start().await.expect("the worker starts");
    wake(&world, &handle).await;
    let unfinished = world.compensates(&handle).await;
    assert_eq!(unfinished.error.failure.code, "mismatch");
    let message = &unfinished.error.failure.message;
    assert!(message.contains("step book at position 0 has another input than in the journal"), "{message}");
    // By the journal's word: what was booked is given back, not what the new code would have booked.
    assert!(world.ledger.is_marked("gave back the seat, ticket for a seat").await);
    assert_eq!(effects(&world, handle.workflow, 0).await, (1, 1));
    worker.shut_down().await;
}

#[tokio::test]
async fn a_field_that_a_newer_version_added_is_no_change_where_it_has_its_default() {
    let world = World::new().await;
    let [as_before, otherwise] = [resting(&world).await, resting(&world).await];
    let worker = world.worker().await.serve::<JourneyInSecondClass>().start().await.expect("it starts");
    wake(&world, &as_before).await;
    assert_eq!(world.completes(&as_before).await, "ticket for a seat", "it was booked by the version before");
    worker.shut_down().await;
    let worker = world.worker().await.serve::<JourneyInFirstClass>().start().await.expect("it starts");
    wake(&world, &otherwise).await;
    let unfinished = world.compensates(&otherwise).await;
    assert_eq!(unfinished.error.failure.code, "mismatch", "by default it was the second");
    worker.shut_down().await;
}

#[tokio::test]
async fn missing_step_code_needs_attention_not_silence() {
    let world = World::new().await;
    let handle = resting(&world).await;
    let on_foot = world.worker().await.serve::<JourneyOnFoot>().start().await.expect("the worker starts");
    wake(&world, &handle).await;
    world.reaches(handle.workflow, Status::NeedsAttention).await;
    assert_eq!(alerts(&world, handle.workflow).await, ["compensation_stuck"]);
    let view = world.client.workflow(handle.workflow).await.expect("it answers").expect("it exists");
    let attention = view.attention.expect("a reason");
    assert!(attention.contains("book: this worker has no code that compensates it"), "{attention}");
    assert_eq!(view.report.expect("it says what is owed").owed().count(), 1);
    // Others of the same worker go on meanwhile.
    let other = world.enqueue(Compensating::of([Act::new()])).await;
    assert_eq!(world.completes(&other).await, [Some(1)]);
    on_foot.shut_down().await;
    let with_code = world.worker().await.serve::<JourneyByNight>().start().await.expect("the worker starts");
    wake(&world, &handle).await;
    let unfinished = world.compensates(&handle).await;
    assert_eq!(unfinished.error.failure.code, "mismatch", "the original error stays");
    assert!(world.ledger.is_marked("gave back the seat, ticket for a seat").await);
    assert_eq!(alerts(&world, handle.workflow).await, [""; 0]);
    with_code.shut_down().await;
}

#[tokio::test]
async fn unknown_kind_is_not_claimed_and_is_reported() {
    let world = World::new().await;
    let others = world.start_worker().await;
    let handle = world.client.enqueue_untyped("hardship.newcomer", &serde_json::json!({})).send().await;
    let handle = handle.expect("it is accepted");
    let served = world.enqueue(Compensating::of([Act::new()])).await;
    assert_eq!(world.completes(&served).await, [Some(1)]);
    let view = async || world.client.workflow(handle.workflow).await.expect("it answers").expect("it exists");
    let before = view().await;
    assert!(before.unserved && before.status == Status::Pending && before.holder.is_none(), "{before:#?}");
    assert!(!world.client.is_served("hardship.newcomer").await.expect("it answers"));
    let reported: (String, String) =
        sqlx::query_as("select reason, message from backstitch.attention where kind = 'hardship.newcomer'")
            .fetch_one(&world.pool)
            .await
            .expect("it is reported");
    assert_eq!(reported.0, "kind_not_served");
    assert!(reported.1.starts_with("1 workflow"), "{}", reported.1);
    let newcomer = world.worker().await.serve::<Newcomer>().start().await.expect("the worker starts");
    assert_eq!(world.completes(&handle).await, "ticket for a seat");
    assert!(!view().await.unserved);
    tokio::join!(others.shut_down(), newcomer.shut_down());
}
