//! What is to be said of a workflow and the database can't hold, or won't: it is said in other words, and its slot is free again.

use backstitch::{Flow, Recovery, Status, Steps, Workflow, WorkflowError};
use backstitch_testkit::script::{Act, Compensating, Ground};
use backstitch_testkit::wait::until;
use backstitch_testkit::world::World;
use serde::{Deserialize, Deserializer, Serialize};

use crate::facts::{alerts, epoch};

/// Its type decodes what is in it, and quotes that where it says no: a null character, of which the JSON itself has none.
#[derive(Debug, Serialize)]
struct Quoting {}

impl<'de> Deserialize<'de> for Quoting {
    fn deserialize<D: Deserializer<'de>>(_: D) -> Result<Self, D::Error> {
        Err(serde::de::Error::custom("decoded it is \"\0\", which names nothing"))
    }
}

impl Workflow<Ground> for Quoting {
    const KIND: &'static str = "quoting";
    const RECOVERY: Recovery = Recovery::Compensate;
    type Output = ();

    fn steps(_: &mut Steps<Ground>) {}

    async fn run(self, _: &Flow<Ground>) -> Result<(), WorkflowError> {
        Ok(())
    }
}

/// It says that its error is that of a step whose name nobody can write down.
#[derive(Debug, Serialize, Deserialize)]
struct Blaming {}

impl Workflow<Ground> for Blaming {
    const KIND: &'static str = "blaming";
    const RECOVERY: Recovery = Recovery::Compensate;
    type Output = ();

    fn steps(_: &mut Steps<Ground>) {}

    async fn run(self, _: &Flow<Ground>) -> Result<(), WorkflowError> {
        Err(WorkflowError {
            step: Some("register\0dns".to_owned()),
            ..WorkflowError::new("enough", "I give up")
        })
    }
}

/// Whether a worker with a single slot goes on to the next workflow.
async fn has_a_free_slot(world: &World) {
    let next = world.enqueue(Compensating::of([Act::new()])).await;
    assert_eq!(world.completes(&next).await, [Some(1)]);
}

async fn attention(world: &World, workflow: backstitch::WorkflowId) -> String {
    let view = world.client.workflow(workflow).await.expect("it answers").expect("it exists");
    view.attention.expect("a reason")
}

#[tokio::test]
async fn an_error_with_a_null_character_is_told_without_it() {
    let world = World::new().await;
    let worker = world.worker().await.serve::<Quoting>().concurrency(1).start().await.expect("it starts");
    let quoting = world.enqueue(Quoting {}).await;
    world.reaches(quoting.workflow, Status::NeedsAttention).await;
    assert_eq!(alerts(&world, quoting.workflow).await, ["undecodable_input"]);
    let message = attention(&world, quoting.workflow).await;
    assert!(message.contains("decoded it is \"\u{FFFD}\""), "{message}");
    has_a_free_slot(&world).await;
    worker.shut_down().await;
}

#[tokio::test]
async fn a_workflow_that_blames_a_step_with_a_null_character_is_taken_back() {
    let world = World::new().await;
    let worker = world.worker().await.serve::<Blaming>().start().await.expect("it starts");
    let blaming = world.enqueue(Blaming {}).await;
    let unfinished = world.compensates(&blaming).await;
    assert_eq!(unfinished.error.failure.code, "enough");
    assert_eq!(unfinished.error.step.as_deref(), Some("register\u{FFFD}dns"));
    worker.shut_down().await;
}

/// A trigger stands in for whatever makes a database refuse an alert for good.
async fn refuse_alerts(world: &World, condition: &str) {
    let refusing = format!(
        "create or replace function public.refuse_alerts() returns trigger language plpgsql as $$
        begin
            if {condition} then
                raise exception 'no more of this';
            end if;
            return new;
        end
        $$;
        create or replace trigger refuses_alerts before insert on backstitch.alert
            for each row execute function public.refuse_alerts()"
    );
    sqlx::raw_sql(sqlx::AssertSqlSafe(refusing)).execute(&world.pool).await.expect("it is ours");
}

#[tokio::test]
async fn what_is_refused_for_good_is_said_in_other_words() {
    let world = World::new().await;
    refuse_alerts(&world, "new.message like '%decoded it is%'").await;
    let worker = world.worker().await.serve::<Quoting>().concurrency(1).start().await.expect("it starts");
    let quoting = world.enqueue(Quoting {}).await;
    world.reaches(quoting.workflow, Status::NeedsAttention).await;
    assert_eq!(alerts(&world, quoting.workflow).await, ["undecodable_input"]);
    let message = attention(&world, quoting.workflow).await;
    assert!(message.contains("no more of this"), "{message}");
    has_a_free_slot(&world).await;
    worker.shut_down().await;
}

#[tokio::test]
async fn a_workflow_of_which_nothing_can_be_said_is_let_go_of_and_tried_again() {
    let world = World::new().await;
    refuse_alerts(&world, "true").await;
    let worker = world.worker().await.serve::<Quoting>().concurrency(1).start().await.expect("it starts");
    let quoting = world.enqueue(Quoting {}).await;
    until("it is claimed", async || (epoch(&world, quoting.workflow).await == 1).then_some(())).await;
    has_a_free_slot(&world).await;
    until("it is claimed again", async || (epoch(&world, quoting.workflow).await > 1).then_some(())).await;
    refuse_alerts(&world, "false").await;
    world.reaches(quoting.workflow, Status::NeedsAttention).await;
    assert_eq!(alerts(&world, quoting.workflow).await, ["undecodable_input"]);
    worker.shut_down().await;
}
