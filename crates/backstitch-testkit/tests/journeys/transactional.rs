//! Transactional steps: their effect and their outcome are one commit, wherever the worker dies or the line is cut.

use std::collections::BTreeSet;
use std::time::Duration;

use backstitch::limits::CRASH_BUDGET;
use backstitch::{
    Attempt, Conduct, Flow, Recovery, Status, StepError, Steps, TransactionalBackward, TransactionalStep,
    Workflow, WorkflowError,
};
use backstitch_testkit::cut::Moment::{self, BeforeAnswer, BeforeStatement};
use backstitch_testkit::script::{Act, CONDUCT, Do, Ground, Manner, Resuming, Script};
use backstitch_testkit::wait::until;
use backstitch_testkit::world::World;
use serde::{Deserialize, Serialize};
use sqlx::PgConnection;

use crate::WORKER;
use crate::look::{compensated, died_of, effects, fates, giving_up};
use crate::severed::over_a_line;

/// Where the worker dies in the transaction of one attempt.
#[derive(Debug, Clone, Copy)]
enum Dies {
    BeforeItsSql,
    AfterItsSql,
    AfterTheCommit,
}

fn inside(world: &World, dies: Dies) -> Vec<Do> {
    let burn = Do::Burn(world.lay_fuse("fuse"));
    match dies {
        Dies::BeforeItsSql => vec![burn, Do::Effect],
        Dies::AfterItsSql => vec![Do::Effect, burn],
        Dies::AfterTheCommit => vec![Do::Effect],
    }
}

/// The middle one of three steps is a transaction, in which the worker dies.
async fn dies_in_run<const RESUME: bool>(dies: Dies)
where
    Script<RESUME>: Workflow<Ground, Output = Vec<Option<u32>>>,
{
    let (world, handle) = died_of(|world| {
        let last = match dies {
            Dies::AfterTheCommit => Act::new().fuse(world.lay_fuse("fuse")),
            _ => Act::new(),
        };
        let middle = Act::new().manner(Manner::Transactional).run(inside(world, dies));
        Script::<RESUME>::of([Act::new(), middle, last])
    })
    .await;
    let worker = world.start_worker_with_lock().await;
    let committed = matches!(dies, Dies::AfterTheCommit);
    let in_transactions = if RESUME {
        assert_eq!(world.completes(&handle).await, [Some(1), Some(1), Some(1)], "{dies:?}");
        1
    } else {
        let unfinished = world.compensates(&handle).await;
        assert_eq!(unfinished.error.failure.code, "orphaned", "{dies:?}");
        2 * usize::from(committed)
    };
    let inner = world.inner_ledger.entries(handle.workflow).await;
    assert_eq!(inner.len(), in_transactions, "{dies:?}: {inner:?}");
    worker.shut_down().await;
}

async fn dies_in_compensation(dies: Dies) {
    let (world, handle) = died_of(|world| {
        let first = match dies {
            Dies::AfterTheCommit => Act::new().compensate([Do::Kill]),
            _ => Act::new(),
        };
        let middle = Act::new().manner(Manner::Transactional).compensate(inside(world, dies));
        giving_up::<true>([first, middle, Act::new()])
    })
    .await;
    let worker = world.start_worker_with_lock().await;
    let unfinished = world.compensates(&handle).await;
    assert_eq!(unfinished.error.failure.code, "enough", "{dies:?}");
    assert_eq!(fates(&unfinished)[1], compensated(1), "{dies:?}");
    let inner = world.inner_ledger.entries(handle.workflow).await;
    assert_eq!(inner.len(), 2, "{dies:?}: {inner:?}");
    worker.shut_down().await;
}

/// Neither a death nor a cut line makes it happen twice, or be lost.
#[tokio::test]
async fn transactional_step_is_exactly_once() {
    let deaths = async {
        let mut hit = 0;
        for dies in [Dies::BeforeItsSql, Dies::AfterItsSql, Dies::AfterTheCommit] {
            tokio::join!(dies_in_run::<true>(dies), dies_in_run::<false>(dies), dies_in_compensation(dies));
            hit += 3;
        }
        hit
    };
    let cuts = async {
        let (world, line, worker) = over_a_line().await;
        let mut hit = 0;
        let places: [(Moment, &str); 6] = [
            (BeforeStatement, "backstitch.enter_slot"),
            (BeforeAnswer, "backstitch.enter_slot"),
            (BeforeStatement, "backstitch.append"),
            (BeforeAnswer, "backstitch.append"),
            (BeforeStatement, "COMMIT"),
            (BeforeAnswer, "COMMIT"),
        ];
        for (moment, statement) in places {
            for (nth, direction) in ["run", "compensate"].into_iter().enumerate() {
                let step = Act::new().manner(Manner::Transactional);
                // A workflow of one such step: its run is the first of these statements, its compensation the second,
                // but the record that says so of the turn is an append as well.
                let pass = match (statement, direction) {
                    ("backstitch.append", "compensate") => 2,
                    _ => u32::try_from(nth).expect("few"),
                };
                line.cut(moment, statement, pass);
                let handle = world.enqueue(giving_up::<false>([step])).await;
                let unfinished = world.compensates(&handle).await;
                assert!(!line.disarm(), "{moment:?} {statement} {direction}: it came to that");
                assert_eq!(unfinished.error.failure.code, "enough", "{moment:?} {statement} {direction}");
                let made = effects(&world, handle.workflow).await;
                // In whichever attempt: cut before the COMMIT, the first has failed.
                let once =
                    made.len() == 2 && made[0].starts_with("0 run ") && made[1].starts_with("0 compensate ");
                assert!(once, "{moment:?} {statement} {direction}: {made:?}");
                hit += 1;
            }
        }
        assert_eq!(line.cuts(), hit);
        worker.shut_down().await;
        hit
    };
    assert_eq!(tokio::join!(deaths, cuts), (9, 12));
}

/// No intent tells of its attempts: its deaths must be counted all the same.
#[tokio::test]
async fn a_transactional_step_that_kills_its_worker_is_not_tried_forever() {
    let world = World::new().await;
    let killing = Act::new().manner(Manner::Transactional).run([Do::Kill]);
    let handle = world.enqueue(Resuming::of([killing])).await;
    let mut deaths = 0;
    let unfinished = loop {
        let process = world.process(WORKER).with_lock(&world.state_directory()).one_at_a_time();
        let mut process = process.spawn().await;
        tokio::select! {
            unfinished = world.compensates(&handle) => break unfinished,
            _ = process.ended() => deaths += 1,
        }
        assert!(deaths <= CRASH_BUDGET, "{deaths} deaths, and nobody counts them");
    };
    assert_eq!((deaths, unfinished.error.failure.code.as_ref()), (CRASH_BUDGET, "crash_loop"));
}

/// Nor of those that take it back; and it can't be turned back again.
#[tokio::test]
async fn a_transactional_compensation_that_kills_its_worker_is_told_of_and_tried_slowly() {
    let world = World::new().await;
    let fuse = world.lay_fuse("deadly");
    let deadly = (0..2 * CRASH_BUDGET).fold(Act::new().manner(Manner::Transactional), |act, _| {
        act.compensate([Do::Burn(fuse.clone()), Do::Effect])
    });
    let handle = world.enqueue(giving_up::<true>([deadly])).await;
    let mut deaths = 0;
    loop {
        // Whoever compensates it dies.
        world.lay_fuse("deadly");
        let process = world.process(WORKER).with_lock(&world.state_directory()).one_at_a_time();
        let mut process = process.spawn().await;
        tokio::select! {
            () = world.reaches(handle.workflow, Status::NeedsAttention) => break process.kill().await,
            _ = process.ended() => deaths += 1,
        }
        assert!(deaths <= CRASH_BUDGET + 1, "{deaths} deaths, and nobody is told");
    }
    // The first one is not charged: its claim had come to something.
    assert_eq!(deaths, CRASH_BUDGET + 1);
    let view = world.client.workflow(handle.workflow).await.expect("it answers").expect("it exists");
    let attention = view.attention.expect("a reason");
    assert!(attention.contains("processes died of it"), "{attention}");
    // Mended, and somebody says so.
    std::fs::remove_file(&fuse).expect("it lies there");
    world.client.retry(handle.workflow, "ada", "mended").await.expect("it answers");
    let worker = world.start_worker_with_lock().await;
    assert_eq!(world.compensates(&handle).await.error.failure.code, "enough");
    worker.shut_down().await;
}

/// A transactional step that is slow, and may be.
#[derive(Debug, Serialize, Deserialize)]
struct Slow {}

impl TransactionalStep<Ground> for Slow {
    const NAME: &'static str = "slow";
    const BACKWARD: TransactionalBackward<Self, Ground> =
        TransactionalBackward::nothing_because("it only waits");
    type Output = u32;

    async fn run(&self, _: &mut PgConnection, ground: &Ground, attempt: &Attempt) -> Result<u32, StepError> {
        let unreachable = |error| StepError::retry("ledger_unreachable", error);
        ground.ledger.mark(&attempt.workflow().to_string()).await.map_err(unreachable)?;
        while !ground.ledger.is_open("gate").await.map_err(unreachable)? {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        Ok(attempt.number())
    }
}

impl Workflow<Ground> for Slow {
    const KIND: &'static str = "slow";
    const RECOVERY: Recovery = Recovery::Resume;
    type Output = u32;

    fn steps(steps: &mut Steps<Ground>) {
        steps.transactional::<Slow>();
    }

    async fn run(self, flow: &Flow<Ground>) -> Result<u32, WorkflowError> {
        Ok(flow.transactional(Slow {}).await?)
    }
}

/// A transaction keeps its connection for as long as its step is slow; the journal must not wait for it.
#[tokio::test]
async fn many_transactional_steps_at_once_starve_nobody() {
    let world = World::new().await;
    let worker = world.worker().await.serve::<Slow>().start().await.expect("it starts");
    let mut slow = Vec::new();
    for _ in 0..20 {
        slow.push(world.enqueue(Slow {}).await);
    }
    until("as many have begun as there are connections for", async || {
        let mut begun = 0;
        for handle in &slow {
            begun += u32::from(world.ledger.is_marked(&handle.workflow.to_string()).await);
        }
        (begun >= 5).then_some(())
    })
    .await;
    // No slow one ends before this has.
    let other = world.enqueue(Resuming::of([Act::new(), Act::new()])).await;
    assert_eq!(world.completes(&other).await, [Some(1), Some(1)]);
    world.ledger.open("gate").await;
    for handle in slow {
        assert_eq!(world.completes(&handle).await, 1, "waiting for a connection is no failure");
    }
    worker.shut_down().await;
}

/// A transactional step whose COMMIT is refused: a constraint is looked at only then.
#[derive(Debug, Serialize, Deserialize)]
struct Owing {}

impl TransactionalStep<Ground> for Owing {
    const NAME: &'static str = "owing";
    const BACKWARD: TransactionalBackward<Self, Ground> =
        TransactionalBackward::nothing_because("it never commits");
    const CONDUCT: Conduct = CONDUCT;
    type Output = u32;

    async fn run(
        &self,
        sql: &mut PgConnection,
        ground: &Ground,
        attempt: &Attempt,
    ) -> Result<u32, StepError> {
        let unreachable = |error| StepError::retry("ledger_unreachable", error);
        ground.ledger.mark(&format!("attempt {}", attempt.number())).await.map_err(unreachable)?;
        sqlx::query("insert into public.owed values (1, 2)").execute(sql).await.map_err(unreachable)?;
        Ok(attempt.number())
    }
}

impl Workflow<Ground> for Owing {
    const KIND: &'static str = "owing";
    const RECOVERY: Recovery = Recovery::Resume;
    type Output = u32;

    fn steps(steps: &mut Steps<Ground>) {
        steps.transactional::<Owing>();
    }

    async fn run(self, flow: &Flow<Ground>) -> Result<u32, WorkflowError> {
        Ok(flow.transactional(Owing {}).await?)
    }
}

#[tokio::test]
async fn a_commit_that_is_refused_is_one_attempt_and_says_why() {
    let world = World::new().await;
    sqlx::raw_sql(
        "create table public.owed (
            id integer primary key,
            of integer references public.owed (id) deferrable initially deferred
        )",
    )
    .execute(&world.pool)
    .await
    .expect("it is ours");
    let worker = world.worker().await.serve::<Owing>().start().await.expect("it starts");
    let handle = world.enqueue(Owing {}).await;
    let unfinished = world.compensates(&handle).await;
    let failure = &unfinished.error.failure;
    assert_eq!(failure.code, "commit_refused");
    assert!(failure.message.contains("owed_of_fkey"), "{failure:?}");
    let attempts = world.client.attempts(handle.workflow).await.expect("it answers").len();
    let mut marks = 0;
    while world.ledger.is_marked(&format!("attempt {}", marks + 1)).await {
        marks += 1;
    }
    assert_eq!(attempts, marks, "each attempt ran once");
    worker.shut_down().await;
}

#[tokio::test]
async fn a_transactional_step_that_says_no_keeps_its_connection() {
    const REJECTIONS: usize = 30;
    // Those of a worker and of a client, all there can be at once.
    const CONNECTIONS_MAX: usize = 18;
    let world = World::new().await;
    let worker = world.start_worker().await;
    let mut sessions = BTreeSet::new();
    for _ in 0..REJECTIONS {
        let rejects = Act::new().manner(Manner::Transactional).run([Do::Effect, Do::Reject("no".into())]);
        world.compensates(&world.enqueue(Resuming::of([rejects])).await).await;
        let now = "select pid from pg_stat_activity
            where datname = current_database() and application_name like 'backstitch%'";
        sessions.extend(sqlx::query_scalar::<_, i32>(now).fetch_all(&world.pool).await.expect("it answers"));
    }
    assert!(sessions.len() <= CONNECTIONS_MAX, "{} sessions for {REJECTIONS} steps", sessions.len());
    worker.shut_down().await;
}

/// Every connection of its worker is broken, as after a restart of Postgres.
#[tokio::test]
async fn a_broken_connection_costs_a_transactional_step_no_attempt() {
    let world = World::new().await;
    let and = if world.database.url.contains('?') { '&' } else { '?' };
    let url = format!("{}{and}application_name=victim", world.database.url);
    let worker = world.process(WORKER).variable("DATABASE_URL", url).spawn().await;
    let transactional = || Act::new().manner(Manner::Transactional);
    let waits = Act::new().manner(Manner::Long).run([Do::Mark("waiting".into()), Do::Wait("go".into())]);
    let handle = world.enqueue(Resuming::of([transactional(), waits, transactional()])).await;
    world.marked("waiting").await;
    let broken = sqlx::query_scalar::<_, bool>(
        "select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'victim'",
    );
    assert!(broken.fetch_all(&world.pool).await.expect("it answers").len() > 1);
    world.ledger.open("go").await;
    assert_eq!(world.completes(&handle).await, [Some(1), Some(1), Some(1)], "each by its first attempt");
    world.assert_sound(handle.workflow).await;
    worker.kill().await;
}
