//! What a case looks at: what the journal says, what the ledger holds, and how a worker dies of a workflow.

use backstitch::{AttemptView, Fate, Handle, Unfinished, WorkflowId};
use backstitch_testkit::script::{Act, Do, Script};
use backstitch_testkit::world::World;

use crate::WORKER;

/// A world in which a worker process has died of this workflow, and nobody has gone on with it yet.
pub async fn died_of<const RESUME: bool>(
    script: impl FnOnce(&World) -> Script<RESUME>,
) -> (World, Handle<Vec<Option<u32>>>)
where
    Script<RESUME>: backstitch::Workflow<backstitch_testkit::script::Ground, Output = Vec<Option<u32>>>,
{
    let world = World::new().await;
    let handle = world.enqueue(script(&world)).await;
    world.spawn_worker_with_lock(WORKER).await.killed().await;
    (world, handle)
}

/// Every attempt in the order of its beginning, as `position direction attempt outcome`.
pub async fn attempts(world: &World, workflow: WorkflowId) -> Vec<String> {
    let described = |attempt: AttemptView| {
        let outcome = attempt.outcome.as_deref().unwrap_or("open");
        format!("{} {} {} {outcome}", attempt.position, attempt.direction, attempt.attempt)
    };
    world.client.attempts(workflow).await.expect("it answers").into_iter().map(described).collect()
}

/// Every effect in the order of its writing, as `position direction attempt`: outside first, then the transactional ones.
pub async fn effects(world: &World, workflow: WorkflowId) -> Vec<String> {
    let mut entries = world.ledger.entries(workflow).await;
    entries.extend(world.inner_ledger.entries(workflow).await);
    entries
        .into_iter()
        .map(|entry| format!("{} {} {}", entry.position, entry.direction, entry.attempt))
        .collect()
}

/// What became of each step.
pub fn fates(unfinished: &Unfinished) -> Vec<Fate> {
    unfinished.report.steps.iter().map(|step| step.fate.clone()).collect()
}

/// Taken back in so many attempts.
pub fn compensated(attempts: u32) -> Fate {
    Fate::Compensated { attempts }
}

/// A step whose first attempt makes its effect and fails for good.
pub fn broken() -> Act {
    Act::new().run([Do::Effect, Do::Fail("broken".into())])
}

/// A step whose first attempts say "try again", each in its own words.
pub fn retried(words: &[&str]) -> Act {
    words.iter().fold(Act::new(), |act, word| act.run([Do::Effect, Do::Retry((*word).into())]))
}

/// A workflow that gives up after its last step.
pub fn giving_up<const RESUME: bool>(steps: impl Into<Vec<Act>>) -> Script<RESUME> {
    Script { gives_up: Some("enough".into()), ..Script::of(steps) }
}

/// How many alerts were ever raised over a workflow.
pub async fn alerts(world: &World, workflow: WorkflowId) -> i64 {
    sqlx::query_scalar("select count(*) from backstitch.alert where workflow_id = $1")
        .bind(workflow.0)
        .fetch_one(&world.pool)
        .await
        .expect("it answers")
}
