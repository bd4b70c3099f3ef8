//! A worker may die after any row of any journal: what was really journaled is cut off there, and another takes over.

use backstitch::{Ending, Handle, Workflow, WorkflowId};
use backstitch_testkit::script::{Act, Compensating, Do, Ground, Manner, Resuming};
use backstitch_testkit::world::World;

use crate::look::giving_up;

type Outputs = Vec<Option<u32>>;

#[tokio::test]
async fn every_prefix_of_every_journal_recovers() {
    let world = World::new().await;
    let fails = || Act::new().run([Do::Effect, Do::Fail("no".into())]);
    let retries = || Act::new().run([Do::Retry("busy".into())]).compensate([Do::Fail("not yet".into())]);
    let (independent, pivot) = (Act::new().manner(Manner::Independent), Act::new().manner(Manner::Pivot));
    let mut prefixes = 0;
    for steps in [
        vec![Act::new(), retries(), Act::new()],
        vec![retries(), independent.clone(), fails()],
        vec![Act::new(), fails().caught(), independent],
        vec![Act::new(), pivot, retries()],
    ] {
        prefixes += recovers(&world, Compensating::of(steps.clone())).await;
        prefixes += recovers(&world, Resuming::of(steps)).await;
    }
    for steps in [[Act::new(), retries()], [retries(), Act::new().manner(Manner::Nothing).run([]).run([])]] {
        prefixes += recovers(&world, giving_up::<false>(steps.clone())).await;
        prefixes += recovers(&world, giving_up::<true>(steps)).await;
    }
    println!("{prefixes} prefixes");
    assert!(prefixes >= 100, "only {prefixes} prefixes were tried");
}

/// Drives it to its end, and then each beginning of its journal. Answers how many there were.
async fn recovers<W: Workflow<Ground, Output = Outputs> + Clone>(world: &World, script: W) -> usize {
    let worker = world.start_worker().await;
    let whole = world.enqueue(script.clone()).await;
    world.ending(&whole).await;
    worker.shut_down().await;
    each_prefix_recovers(world, whole.workflow, script).await
}

/// Drives each beginning of the journal of a workflow that has ended, whose open attempt may have had its effect or not. Answers
/// how many there were.
pub async fn each_prefix_recovers<W: Workflow<Ground, Output = Outputs> + Clone>(
    world: &World,
    whole: WorkflowId,
    script: W,
) -> usize {
    let rows: i64 = sqlx::query_scalar("select count(*) from backstitch.journal where workflow_id = $1")
        .bind(whole.0)
        .fetch_one(&world.pool)
        .await
        .expect("it answers");
    let mut orphans = Vec::new();
    for length in 1..i32::try_from(rows).expect("few") {
        for landed in [false, true] {
            let orphan = world.enqueue(script.clone()).await;
            cut_off(world, whole, orphan.workflow, length, landed).await;
            orphans.push(orphan);
        }
    }
    let worker = world.start_worker().await;
    for orphan in &orphans {
        ends(world, orphan).await;
    }
    worker.shut_down().await;
    orphans.len()
}

async fn ends(world: &World, orphan: &Handle<Outputs>) {
    let workflow = orphan.workflow;
    match world.ending(orphan).await {
        Ending::Completed(_) | Ending::Compensated(_) => {}
        other => panic!("workflow {workflow} should end, it is {other:?}"),
    }
}

/// Gives a workflow the first rows of another one's journal, and what its attempts had done by then; and leaves it as a burial
/// does.
async fn cut_off(world: &World, from: WorkflowId, to: WorkflowId, length: i32, landed: bool) {
    let copy = "
        insert into backstitch.journal
        select (jsonb_populate_record(j, jsonb_build_object('workflow_id', $2::uuid))).*
        from backstitch.journal j
        where j.workflow_id = $1 and j.seq < $3";
    sqlx::query(copy).bind(from.0).bind(to.0).bind(length).execute(&world.pool).await.expect("rows fit");
    let orphan = "
        update backstitch.ready r
        set orphaned = 'gone',
            epoch = (select max(j.epoch) from backstitch.journal j where j.workflow_id = $1),
            phase = case
                when exists (select from backstitch.journal j where j.workflow_id = $1 and j.turn = 'unwinding')
                    then 'compensating'
                else 'running'
            end,
            past_pivot = exists (
                select from backstitch.journal j where j.workflow_id = $1 and j.intent_backward = 'pivot'
            )
        where r.workflow_id = $1";
    sqlx::query(orphan).bind(to.0).execute(&world.pool).await.expect("it is ours");
    let begun: Vec<(i32, String, i32, bool)> = sqlx::query_as(
        "select i.intent_position, i.intent_direction, i.intent_attempt, exists (
            select from backstitch.journal o
            where o.workflow_id = i.workflow_id
                and (o.outcome_position, o.outcome_direction, o.outcome_attempt)
                    = (i.intent_position, i.intent_direction, i.intent_attempt)
        )
        from backstitch.journal i
        where i.workflow_id = $1 and i.intent_position is not null
        -- What was done in a transaction was never announced.
        union
        select outcome_position, outcome_direction, outcome_attempt, true
        from backstitch.journal
        where workflow_id = $1 and outcome_position is not null",
    )
    .bind(to.0)
    .fetch_all(&world.pool)
    .await
    .expect("it answers");
    let kept = |entry: &backstitch_testkit::ledger::Entry| {
        begun.iter().any(|(position, direction, attempt, answered)| {
            (position.unsigned_abs(), direction, attempt.unsigned_abs())
                == (entry.position, &entry.direction, entry.attempt)
                && (*answered || landed)
        })
    };
    world.ledger.copy(from, to, kept).await;
    world.inner_ledger.copy(from, to, kept).await;
}
