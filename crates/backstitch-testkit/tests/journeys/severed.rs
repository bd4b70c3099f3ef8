//! The line to Postgres is cut in the middle of a word: what was asked may have happened, or not.

use backstitch::Running;
use backstitch_testkit::cut::{Line, Moment, Passage, Statement};
use backstitch_testkit::script::{Act, Compensating, Do, Manner};
use backstitch_testkit::wait::{until, until_equal};
use backstitch_testkit::world::World;
use sqlx::{ConnectOptions as _, Connection as _};

use crate::look::{attempts, effects, giving_up, retried};

/// A world whose worker reaches its database over a line that can be cut.
pub async fn over_a_line() -> (World, Line, Running) {
    let world = World::new().await;
    let line = world.line();
    let worker = world.worker_over(&line).await.start().await.expect("the worker starts");
    (world, line, worker)
}

/// Some two workflows need, with the looks and beats in between.
const STATEMENTS: u32 = 24;

const MOMENTS: [Moment; 2] = [Moment::BeforeStatement, Moment::BeforeAnswer];

/// Whichever record's write gets no answer, it stands once, and nothing is done twice.
#[tokio::test]
async fn ambiguous_commit_is_resolved_by_repeating_the_keyed_write() {
    let (world, line, worker) = over_a_line().await;
    let mut hit = 0;
    for moment in MOMENTS {
        // Three intents, the last outcome with the end.
        for record in 0..4 {
            line.cut(moment, "backstitch.append", record);
            let handle = world.enqueue(Compensating::of([Act::new(), Act::new(), Act::new()])).await;
            assert_eq!(world.completes(&handle).await, [Some(1); 3], "{moment:?} {record}");
            assert!(!line.disarm(), "{moment:?} {record}: it came to that");
            let expected = ["0 run 1", "1 run 1", "2 run 1"];
            assert_eq!(effects(&world, handle.workflow).await, expected, "{moment:?} {record}");
            hit += 1;
        }
        // Two intents forward, the turn with the first intent back, the second, the end.
        for record in 0..5 {
            line.cut(moment, "backstitch.append", record);
            let handle = world.enqueue(giving_up::<false>([Act::new(), Act::new()])).await;
            world.compensates(&handle).await;
            assert!(!line.disarm(), "{moment:?} {record}: it came to that");
            let expected = ["0 run 1", "1 run 1", "1 compensate 1", "0 compensate 1"];
            assert_eq!(effects(&world, handle.workflow).await, expected, "{moment:?} {record}");
            assert_eq!(attempts(&world, handle.workflow).await.len(), 4);
            hit += 1;
        }
    }
    assert_eq!((hit, line.cuts()), (18, 18));
    worker.shut_down().await;
}

/// A claim that was carried out and not answered leaves a workflow held by a worker that does not know it.
#[tokio::test]
async fn an_unanswered_claim_is_found_again() {
    for moment in MOMENTS {
        let world = World::new().await;
        let handle = world.enqueue(Compensating::of([Act::new(), Act::new()])).await;
        let line = world.line();
        line.cut(moment, "backstitch.claim", 0);
        let worker = world.worker_over(&line).await.start().await.expect("the worker starts");
        assert_eq!(world.completes(&handle).await, [Some(1); 2], "{moment:?}");
        assert_eq!(line.cuts(), 1);
        worker.shut_down().await;
    }
}

/// Whichever statement is cut, of whatever kind: the workflow ends as if nothing had been.
#[tokio::test]
async fn whatever_statement_is_cut_nothing_is_lost_and_nothing_is_doubled() {
    let (world, line, worker) = over_a_line().await;
    let mut ended = 0;
    for moment in MOMENTS {
        for statement in 0..STATEMENTS {
            line.cut(moment, "", statement);
            let transactional = Act::new().manner(Manner::Transactional);
            let steps = [Act::new(), transactional.clone(), retried(&["busy"]), transactional];
            let completed = world.enqueue(Compensating::of(steps.clone())).await;
            let taken_back = world.enqueue(giving_up::<false>(steps)).await;
            let outputs = world.completes(&completed).await;
            assert_eq!((outputs[0], outputs[2]), (Some(1), Some(2)), "{moment:?} {statement}");
            world.compensates(&taken_back).await;
            for (workflow, times) in [(completed.workflow, 2), (taken_back.workflow, 4)] {
                let inner = world.inner_ledger.entries(workflow).await;
                assert_eq!(inner.len(), times, "{moment:?} {statement}: {inner:?}");
            }
            ended += 2;
        }
    }
    assert!(line.cuts() >= 2 * STATEMENTS - 2, "{} cuts", line.cuts());
    assert_eq!(ended, 4 * STATEMENTS);
    worker.shut_down().await;
}

/// One side hears that the other says nothing more, and speaks on into what nobody answers.
#[tokio::test]
async fn a_line_shut_in_one_direction_loses_nothing_and_doubles_nothing() {
    const WORKFLOWS: usize = 20;
    let (world, line, worker) = over_a_line().await;
    for passage in [Passage::WorkerShut, Passage::PostgresShut] {
        let mut handles = Vec::new();
        for _ in 0..WORKFLOWS {
            handles.push(world.enqueue(Compensating::of([Act::new(), Act::new(), Act::new()])).await);
        }
        let before = line.half_shut();
        line.let_through(passage);
        until("a connection is shut", async || (line.half_shut() > before).then_some(())).await;
        line.let_through(Passage::Open);
        for handle in &handles {
            assert_eq!(world.completes(handle).await, [Some(1); 3], "{passage:?}");
        }
    }
    worker.shut_down().await;
}

/// The answer of a COMMIT is lost, and before anyone can look whether it stands the line is cut again: the attempt is given
/// up, though its effect and its outcome are there. They are its own, and nobody takes them for the next step's.
#[tokio::test]
async fn a_commit_given_up_for_lost_is_nobody_elses() {
    let (world, line, worker) = over_a_line().await;
    let step = || Act::new().manner(Manner::Transactional);
    // Its last attempt: one that is tried again finds out by itself.
    let last = step().run([Do::Retry("busy".into())]).run([Do::Retry("busy".into())]);
    line.cut(Moment::BeforeAnswer, "COMMIT", 1);
    line.then_cut(Moment::BeforeStatement, "backstitch.enter_slot");
    let handle = world.enqueue(giving_up::<true>([step(), last, step()])).await;
    let unfinished = world.compensates(&handle).await;
    assert_eq!((line.cuts(), unfinished.error.failure.code.as_ref()), (2, "enough"));
    let inner = world.inner_ledger.entries(handle.workflow).await;
    let mut made: Vec<_> = inner.iter().map(|entry| (entry.position, entry.direction.as_str())).collect();
    made.sort_unstable();
    let once = |position| [(position, "compensate"), (position, "run")];
    assert_eq!(made, [0, 1, 2].map(once).concat(), "each once, forward and back");
    worker.shut_down().await;
}

#[tokio::test]
async fn a_word_is_held_before_postgres_hears_it_and_again_before_its_answer_is_heard() {
    let (world, line, worker) = over_a_line().await;
    let append = Statement { texts: vec!["backstitch.append"], carries: None };
    let held = line.hold(Moment::BeforeStatement, append, 0);
    let handle = world.enqueue(Compensating::of([Act::new()])).await;
    let held = held.await.expect("the line holds");
    assert_eq!(attempts(&world, handle.workflow).await, [""; 0], "Postgres has not heard");
    let held = held.pass_to_its_answer().await.expect("the line holds");
    assert_eq!(attempts(&world, handle.workflow).await, ["0 run 1 open"], "Postgres has");
    assert_eq!(effects(&world, handle.workflow).await, [""; 0], "and the worker has not heard so");
    held.pass();
    assert_eq!(world.completes(&handle).await, [Some(1)]);
    worker.shut_down().await;
}

#[tokio::test]
async fn over_a_silent_line_nobody_hears_that_the_other_side_has_hung_up() {
    let world = World::new().await;
    let line = world.line();
    let mut session =
        line.options((*world.pool.connect_options()).clone()).connect().await.expect("it is open");
    let pid: i32 =
        sqlx::query_scalar("select pg_backend_pid()").fetch_one(&mut session).await.expect("it answers");
    line.let_through(Passage::Frozen);
    sqlx::query("select pg_terminate_backend($1)").bind(pid).execute(&world.pool).await.expect("it is ours");
    until_equal("Postgres has hung up", 0_i64, async || {
        let sessions = "select count(*) from pg_stat_activity where pid = $1";
        sqlx::query_scalar(sessions).bind(pid).fetch_one(&world.pool).await.expect("it answers")
    })
    .await;
    let asking = tokio::spawn(async move { session.ping().await });
    sqlx::query("select 1").execute(&world.pool).await.expect("others are answered meanwhile");
    assert!(!asking.is_finished());
    line.let_through(Passage::Open);
    assert!(asking.await.expect("it does not panic").is_err(), "now it hears");
}
