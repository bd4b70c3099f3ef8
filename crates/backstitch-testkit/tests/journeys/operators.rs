//! What an operator decides, and what a worker makes of it.

use backstitch::{Answered, Client, Database, Ending, Fate, Json, Operator, Position, Status};
use backstitch_testkit::script::{Act, Compensating, Do, Manner};
use backstitch_testkit::wait::until;
use backstitch_testkit::world::{UNHURRIED, World};
use sqlx::AssertSqlSafe;
use uuid::Uuid;

use crate::look::{alerts, compensated, effects, fates, giving_up};

/// A decision is taken while nobody is at the workflow: asked again until that is so.
async fn decided(decide: impl AsyncFn() -> Result<Answered, backstitch::Error>) {
    until("the decision is taken", async || match decide().await.expect("it answers") {
        Answered::Accepted => Some(()),
        Answered::IsRunning => None,
        other => panic!("{other:?}"),
    })
    .await;
}

/// Its second step can't be taken back until the gate opens.
async fn stuck(world: &World) -> backstitch::Handle<Vec<Option<u32>>> {
    let steps = [Act::new(), Act::new().compensates_once_open("never")];
    let handle = world.enqueue(giving_up::<false>(steps)).await;
    world.reaches(handle.workflow, Status::NeedsAttention).await;
    handle
}

fn ada(why: &str) -> Operator {
    Operator { by: "ada".to_owned(), why: why.to_owned() }
}

#[tokio::test]
async fn operator_skip_step_is_journaled_and_the_rest_is_taken_back() {
    let world = World::new().await;
    let worker = world.start_worker().await;
    let handle = stuck(&world).await;
    decided(async || {
        world.client.operate("ada", "deleted by hand").skip_step(handle.workflow, Position(1)).await
    })
    .await;
    let unfinished = world.compensates(&handle).await;
    assert_eq!(unfinished.error.failure.code, "enough", "the original error");
    assert_eq!(fates(&unfinished), [compensated(1), Fate::Skipped(ada("deleted by hand"))]);
    assert_eq!(alerts(&world, handle.workflow).await, 1);
    let steps = world.client.steps(handle.workflow).await.expect("it answers");
    assert_eq!(steps.iter().map(|step| step.status.as_str()).collect::<Vec<_>>(), ["compensated", "skipped"]);
    worker.shut_down().await;
}

#[tokio::test]
async fn halt_policy_waits_for_an_operator() {
    let world = World::new().await;
    let worker = world.start_worker().await;
    let halts = Act::new().manner(Manner::Halting).compensates_once_open("healed");
    let handle = world.enqueue(giving_up::<false>([Act::new(), halts])).await;
    let workflow = handle.workflow;
    world.reaches(workflow, Status::NeedsAttention).await;
    let due_in_days: i32 = sqlx::query_scalar(
        "select extract(day from due_at - now())::integer from backstitch.ready where workflow_id = $1",
    )
    .bind(workflow.0)
    .fetch_one(&world.pool)
    .await
    .expect("it waits");
    assert!(due_in_days > 36_000, "it is not tried again by itself: {due_in_days} days");
    let tried = world.client.attempts(workflow).await.expect("it answers").len();
    world.ledger.open("healed").await;
    decided(async || world.client.operate("ada", "healed").retry(workflow).await).await;
    let unfinished = world.compensates(&handle).await;
    assert_eq!(unfinished.report.owed().count(), 0, "{}", unfinished.report);
    // The one that the operator asked for, and the step before it.
    assert_eq!(world.client.attempts(workflow).await.expect("it answers").len(), tried + 2);
    worker.shut_down().await;
}

#[tokio::test]
async fn operator_retry_is_journaled_with_who_and_why() {
    let world = World::new().await;
    let worker = world.start_worker().await;
    let halts = Act::new().manner(Manner::Halting).compensates_once_open("healed");
    let handle = world.enqueue(giving_up::<false>([Act::new(), halts])).await;
    world.reaches(handle.workflow, Status::NeedsAttention).await;
    world.ledger.open("healed").await;
    decided(async || world.client.operate("ada", "it is healed").retry(handle.workflow).await).await;
    world.compensates(&handle).await;
    let told: Vec<(String, String)> = sqlx::query_as(
        "select turn_value ->> 'by', turn_value ->> 'why' from backstitch.journal
        where workflow_id = $1 and turn = 'retry'",
    )
    .bind(handle.workflow.0)
    .fetch_all(&world.pool)
    .await
    .expect("it answers");
    assert_eq!(told, [("ada".to_owned(), "it is healed".to_owned())]);
    worker.shut_down().await;
}

#[tokio::test]
async fn operator_abandon_answers_the_waiter_with_what_is_owed() {
    let world = World::new().await;
    let worker = world.start_worker().await;
    let handle = stuck(&world).await;
    decided(async || world.client.operate("ada", "the target is gone").abandon(handle.workflow).await).await;
    let Ending::Abandoned(unfinished) = world.client.wait(&handle).await.expect("it answers") else {
        panic!("it was abandoned");
    };
    assert_eq!(unfinished.error.failure.code, "enough", "the original error");
    assert_eq!(unfinished.report.owed().count(), 2, "{}", unfinished.report);
    worker.shut_down().await;
}

#[tokio::test]
async fn operator_abandon_past_the_pivot_is_told_as_the_error() {
    let world = World::new().await;
    let worker = world.start_worker().await;
    let pivot = Act::new().manner(Manner::Pivot);
    let hopeless = (0..100).fold(Act::new(), |act, _| act.run([Do::Panic]));
    let handle = world.enqueue(Compensating::of([pivot, hopeless])).await;
    world.reaches(handle.workflow, Status::NeedsAttention).await;
    decided(async || world.client.operate("ada", "hopeless").abandon(handle.workflow).await).await;
    let Ending::Abandoned(unfinished) = world.client.wait(&handle).await.expect("it answers") else {
        panic!("it was abandoned");
    };
    assert_eq!(unfinished.error.failure.code, "abandoned");
    assert!(unfinished.error.failure.message.contains("by ada: hopeless"), "{}", unfinished.error);
    worker.shut_down().await;
}

#[tokio::test]
async fn operator_resolve_settles_a_step_in_doubt_with_its_output() {
    let world = World::new().await;
    let worker = world.start_worker().await;
    // Past the pivot it is tried on, slowly; each try panics, so nobody knows what it did.
    let pivot = Act::new().manner(Manner::Pivot);
    let doubtful = (0..100).fold(Act::new(), |act, _| act.run([Do::Panic]));
    let handle = world.enqueue(Compensating::of([pivot, doubtful, Act::new()])).await;
    world.reaches(handle.workflow, Status::NeedsAttention).await;
    decided(async || {
        let seven = Json::parse("7", 10).expect("JSON");
        world.client.operate("ada", "it is there").resolve(handle.workflow, Position(1), Some(seven)).await
    })
    .await;
    world.reaches(handle.workflow, Status::Completed).await;
    let Some(Ending::Completed(outputs)) = world.client.poll(&handle).await.expect("it answers") else {
        panic!("it completes");
    };
    assert_eq!(outputs[1], Some(7), "what the operator said");
    assert_eq!(effects(&world, handle.workflow).await, ["0 run 1", "2 run 1"]);
    let steps = world.client.steps(handle.workflow).await.expect("it answers");
    assert_eq!(
        (steps[1].status.as_str(), steps[1].output.as_ref().map(Json::as_str)),
        ("completed", Some("7"))
    );
    worker.shut_down().await;
}

/// The journal's database, as somebody who may do only this.
async fn as_a(world: &World, role: &str) -> (Database, String) {
    let name = format!("{role}_{}", Uuid::new_v4().simple());
    let sql = format!("create role {name} login; select backstitch.grant_to('{name}', '{role}')");
    sqlx::raw_sql(AssertSqlSafe(sql)).execute(&world.pool).await.expect("the owner may");
    let options = world.pool.connect_options().as_ref().clone().username(&name);
    (Database::connect_with(options).await.expect("it connects"), name)
}

#[tokio::test]
async fn a_producer_a_worker_and_an_operator_do_their_work_with_no_other_rights() {
    let world = World::new().await;
    let ((asks, producer), (works, worker), (decides, operator)) =
        (as_a(&world, "producer").await, as_a(&world, "worker").await, as_a(&world, "operator").await);
    let running = backstitch_testkit::world::worker(works.clone(), world.ledger.clone());
    let running = running.timing(UNHURRIED).start().await.expect("it starts");
    let (asks, decides) = (Client::new(asks), Client::new(decides));
    let steps = [Act::new(), Act::new().compensates_once_open("never")];
    let asked = asks.enqueue(giving_up::<false>(steps)).send().await.expect("it may");
    assert!(asks.workflow(asked.workflow).await.is_err(), "a producer sees nothing");
    world.reaches(asked.workflow, Status::NeedsAttention).await;
    let view = decides.workflow(asked.workflow).await.expect("it may").expect("it exists");
    assert!(view.attention.is_some_and(|message| message.contains("target_broken")), "an operator sees why");
    decided(async || decides.operate("ada", "seen").skip_step(asked.workflow, Position(1)).await).await;
    world.compensates(&asked).await;
    assert!(matches!(decides.wait(&asked).await, Ok(Ending::Compensated(_))), "and may wait");
    running.shut_down().await;
    for database in [asks.database(), decides.database(), &works] {
        database.close().await;
    }
    for name in [producer, worker, operator] {
        let sql = format!("drop owned by {name}; drop role {name}");
        sqlx::raw_sql(AssertSqlSafe(sql)).execute(&world.pool).await.expect("the owner may");
    }
}

#[tokio::test]
async fn a_paused_kind_waits_and_goes_on_when_it_is_resumed() {
    let world = World::new().await;
    let worker = world.start_worker().await;
    let decide = || world.client.operate("ada", "incident");
    let first = world.enqueue(Compensating::of([Act::new()])).await;
    world.client.wait(&first).await.expect("it completes");
    let kind = world.client.workflow(first.workflow).await.expect("it answers").expect("it exists").kind;
    decide().pause_kind(&kind).await.expect("it answers");
    let second = world.enqueue(Compensating::of([Act::new()])).await;
    let third = world.enqueue(giving_up::<true>([Act::new()])).await;
    world.compensates(&third).await;
    let view = world.client.workflow(second.workflow).await.expect("it answers").expect("it exists");
    assert_eq!(view.status, Status::Pending, "another kind passed it by");
    assert!(decide().resume_kind(&kind).await.expect("it answers"));
    assert!(matches!(world.client.wait(&second).await.expect("it answers"), Ending::Completed(_)));
    worker.shut_down().await;
}
