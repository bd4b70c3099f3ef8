//! Many claimers, wrong clocks, stuck threads: who holds a workflow, and for how long.

use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::time::{Duration, Instant};

use backstitch::{Client, Database, Handle, Timing, WorkflowId};
use backstitch_testkit::process::faketime;
use backstitch_testkit::script::{Act, Compensating, Do, Manner, Resuming};
use backstitch_testkit::wait::until;
use backstitch_testkit::world::{TIMING, World};
use rustix::process::Signal;
use sqlx::postgres::PgPoolOptions;

use crate::WORKER;
use crate::facts::{attempts, effects, first_dies, incarnations, told};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_workers_one_workflow() {
    const WORKERS: usize = 50;
    // Of its own: fifty workers are three hundred sessions.
    let private =
        backstitch_postgres::test::private_cluster(backstitch_postgres::Durability::Throwaway).await;
    let mut world = World::over(backstitch_postgres::test::database_in(&private.server).await).await;
    sqlx::query("alter system set max_connections = 400").execute(&world.pool).await.expect("it is ours");
    private.cluster.restart(backstitch_postgres::Stop::Fast).await.expect("it restarts");
    world.client = Client::new(Database::connect(&world.database.url).await.expect("it answers again"));
    let mut workers = Vec::new();
    for _ in 0..WORKERS {
        // One for all but the heartbeat, the listener, the claims and the appends.
        let pool = PgPoolOptions::new().max_connections(1).connect(&world.database.url).await;
        let database = Database::from_pool(pool.expect("it answers"));
        let worker = backstitch_testkit::world::worker(database, world.ledger.clone());
        // The design's own times: fifty that look as often as a test's one are all that a small machine does.
        workers.push(worker.timing(Timing::DEFAULT).start().await.expect("the worker starts"));
    }
    // Each step lets go of the workflow twice before it succeeds: then all may claim it.
    let step = || Act::new().run([Do::Retry("busy".into())]).run([Do::Retry("busy".into())]);
    let handle = world.enqueue(Compensating::of([step(), step(), step()])).await;
    assert_eq!(world.completes(&handle).await, [Some(3), Some(3), Some(3)]);
    let expected: Vec<_> = (0..3)
        .flat_map(|position| {
            told([
                (position, "run", 1, "retry"),
                (position, "run", 2, "retry"),
                (position, "run", 3, "succeeded"),
            ])
        })
        .collect();
    assert_eq!(attempts(&world.client, handle.workflow).await, expected);
    for position in 0..3 {
        assert_eq!(effects(&world, handle.workflow, position).await, (1, 0));
    }
    assert_eq!(incarnations(&world).await.len(), WORKERS);
    for worker in workers {
        worker.shut_down().await;
    }
}

#[tokio::test]
async fn worker_clock_an_hour_off_changes_nothing() {
    let library = faketime().expect(
        "libfaketime is not here: install it (Debian: apt-get install libfaketime), or run `cargo xtask setup`",
    );
    let (ahead, behind) = (("+1h", "the clock is ahead"), ("-1h", "the clock is behind"));
    tokio::join!(
        a_clock_changes_nothing(&library, ahead, behind),
        a_clock_changes_nothing(&library, behind, ahead),
    );
}

/// Of a worker that begins with one clock, which in the middle of its life jumps to another.
async fn a_clock_changes_nothing(library: &Path, (first, mark): (&str, &str), (then, jumped): (&str, &str)) {
    let world = World::new().await;
    let clock = world.directory.path().join("clock");
    let set = |offset| {
        // At once: half a word is no clock.
        let next = clock.with_extension("next");
        std::fs::write(&next, offset).and_then(|()| std::fs::rename(next, &clock)).expect("it is ours");
    };
    set(first);
    let off = world.process(WORKER).variable("LD_PRELOAD", library);
    let off = off.variable("FAKETIME_TIMESTAMP_FILE", &clock).variable("FAKETIME_NO_CACHE", "1");
    // What waits must not wait for an hour, nor be in a hurry.
    let off = off.variable("FAKETIME_DONT_FAKE_MONOTONIC", "1").spawn().await;
    let right = world.worker().await.timing(TIMING).start().await.expect("the worker starts");
    let long = Act::new().manner(Manner::Long).run([
        Do::MarkClock,
        Do::Effect,
        Do::Mark("held".into()),
        Do::Wait("two leases later".into()),
    ]);
    let retried = Act::new().run([Do::Retry("busy".into())]);
    let failing = Act::new().run([Do::MarkClock, Do::Effect, Do::Fail("broken".into())]);
    let in_an_hour = chrono::Utc::now() + chrono::TimeDelta::hours(1);
    let mut handles = Vec::new();
    // Until the one whose clock is off has claimed one: the other takes some as well.
    while !world.ledger.is_marked(mark).await {
        let script = Compensating::of([long.clone(), retried.clone()]);
        let asked = world.client.enqueue(script).deadline_at(in_an_hour).send().await;
        handles.push(asked.expect("it is enqueued"));
        until("it has begun", async || {
            let begun = attempts(&world.client, handles.last()?.workflow).await;
            (!begun.is_empty()).then_some(())
        })
        .await;
        world.marked("held").await;
    }
    set(then);
    let held = world.ledger.now().await.expect("it answers");
    until("two leases have passed", async || {
        let now = world.ledger.now().await.expect("it answers");
        (now > held + 2 * TIMING.lease).then_some(())
    })
    .await;
    assert_eq!(incarnations(&world).await.iter().filter(|life| life.died_at.is_some()).count(), 0);
    world.ledger.open("two leases later").await;
    for handle in &handles {
        assert_eq!(world.completes(handle).await, [Some(1), Some(2)]);
        assert_eq!(effects(&world, handle.workflow, 0).await, (1, 0));
    }
    right.shut_down().await;
    // Alone, it takes back what fails, and leaves alone what is not due.
    let failing = world.enqueue(Compensating::of([failing])).await;
    let later = world
        .client
        .enqueue(Compensating::of([Act::new()]))
        .run_at(in_an_hour - chrono::TimeDelta::minutes(1));
    let later = later.send().await.expect("it is enqueued");
    assert_eq!(world.compensates(&failing).await.error.failure.code, "broken");
    assert_eq!(attempts(&world.client, later.workflow).await, []);
    assert!(world.ledger.is_marked(jumped).await, "its clock has jumped");
    let its_lives = incarnations(&world).await.iter().filter(|life| life.pid == off.pid()).count();
    assert_eq!(its_lives, 1, "in the middle of its life");
    off.kill().await;
}

#[tokio::test]
async fn a_blocked_thread_ends_its_process() {
    tokio::join!(
        // The only thread: nothing else runs.
        a_blocking_step_ends_its_process("1", Do::Block, |_| "the runtime has not run for".to_owned()),
        // One of several: all else runs.
        a_blocking_step_ends_its_process("4", Do::BlockAlone, |it| format!(
            "attempt {it}/1/run outlived its timeout"
        )),
    );
}

async fn a_blocking_step_ends_its_process(threads: &str, block: Do, words: impl Fn(WorkflowId) -> String) {
    let world = World::new().await;
    let log = world.directory.path().join("log");
    let stuck = world.process(WORKER).variable("TOKIO_WORKER_THREADS", threads);
    let mut stuck = stuck.log_to(&log, "backstitch=error").spawn().await;
    let blocking = Act::new().run([Do::Effect, block]);
    let taken_back = world.enqueue(Compensating::of([Act::new(), blocking])).await;
    let status = stuck.ended().await;
    assert_eq!(status.signal(), Some(Signal::ABORT.as_raw()), "it ends itself: {status}");
    says(&log, &words(taken_back.workflow));
    is_taken_over(&world, &taken_back).await;
}

#[tokio::test]
async fn a_blocked_function_ends_its_process() {
    let world = World::new().await;
    let log = world.directory.path().join("log");
    let stuck = world.process(WORKER).variable("TOKIO_WORKER_THREADS", "4");
    let mut stuck = stuck.log_to(&log, "backstitch=error").spawn().await;
    let trapped = Act::new().trap(world.lay_fuse("trap"));
    let taken_back = world.enqueue(Compensating::of([Act::new(), trapped])).await;
    let status = stuck.ended().await;
    assert_eq!(status.signal(), Some(Signal::ABORT.as_raw()), "it ends itself: {status}");
    says(&log, &format!("the function of workflow {} outlived its timeout", taken_back.workflow));
    is_taken_over(&world, &taken_back).await;
}

#[tokio::test]
async fn a_step_that_blocks_every_thread_loses_no_lease() {
    let world = World::new().await;
    // The watchdog waits for half of that lease: some thirty beats.
    let worker = world.process(WORKER).variable("LEASE_SECONDS", "20");
    let worker = worker.variable("TOKIO_WORKER_THREADS", "1").spawn().await;
    let [blocked, released] = ["blocked", "released"].map(|name| world.directory.path().join(name));
    let blocking = [Do::Touch(blocked.clone()), Do::BlockUntil(released.clone())];
    let handle = world.enqueue(Resuming::of([Act::new().manner(Manner::Long).run(blocking)])).await;
    until("the step blocks the only thread", async || blocked.exists().then_some(())).await;
    let waiting = world.enqueue(Resuming::of([Act::new()])).await;
    let beat = async || {
        let beat = sqlx::query_scalar::<_, i64>("select beat from backstitch.incarnation");
        beat.fetch_one(&world.pool).await.expect("there is one")
    };
    let first = beat().await;
    // The next one may have been on its way when the thread was blocked.
    until("its heart goes on beating", async || (beat().await >= first + 2).then_some(())).await;
    assert_eq!(attempts(&world.client, waiting.workflow).await, [], "nothing else runs");
    std::fs::write(&released, "").expect("it can be written");
    assert_eq!(world.completes(&handle).await, [Some(1)]);
    assert_eq!(world.completes(&waiting).await, [Some(1)]);
    worker.kill().await;
}

/// A server that can't write stands in for whatever has the appender say something, to a log that takes nothing more of it.
#[tokio::test]
async fn an_appender_whose_thread_is_blocked_ends_its_process() {
    let world = World::new().await;
    let log = world.directory.path().join("log");
    let stuck = world.process(WORKER).variable("LOG_STUCK_FOR", "backstitch-appender");
    let mut stuck = stuck.log_to(&log, "backstitch=warn").spawn().await;
    let held = held_with_an_effect(&world).await;
    before_each(&world, "insert on backstitch.journal", BROKEN).await;
    world.ledger.open("go on").await;
    assert_eq!(stuck.ended().await.signal(), Some(Signal::ABORT.as_raw()), "it ends itself");
    says(&log, "the appender's thread has not run for");
    sqlx::query("drop trigger before_each on backstitch.journal").execute(&world.pool).await.expect("ours");
    is_taken_over(&world, &held).await;
}

#[tokio::test]
async fn a_heartbeat_whose_thread_is_blocked_ends_its_process() {
    let world = World::new().await;
    let log = world.directory.path().join("log");
    let stuck = world.process(WORKER).variable("LOG_STUCK_FOR", "backstitch-heartbeat");
    let mut stuck = stuck.log_to(&log, "backstitch=warn").spawn().await;
    let held = held_with_an_effect(&world).await;
    // The next beat fails, which it says.
    before_each(&world, "update of beat on backstitch.incarnation", BROKEN).await;
    assert_eq!(stuck.ended().await.signal(), Some(Signal::ABORT.as_raw()), "it ends itself");
    says(&log, "the heartbeat's thread has not run for");
    sqlx::query("drop trigger before_each on backstitch.incarnation")
        .execute(&world.pool)
        .await
        .expect("ours");
    world.ledger.open("go on").await;
    is_taken_over(&world, &held).await;
}

/// A record that is alone is written from its workflow's own task.
#[tokio::test]
async fn an_append_that_blocks_its_thread_ends_its_process() {
    let world = World::new().await;
    let log = world.directory.path().join("log");
    // Of four threads one is blocked: the runtime runs.
    let stuck = world.process(WORKER).variable("TOKIO_WORKER_THREADS", "4");
    let stuck = stuck.variable("LOG_STUCK_FOR", "tokio-rt-worker");
    let mut stuck = stuck.log_to(&log, "sqlx::postgres::notice=warn").spawn().await;
    let held = held_with_an_effect(&world).await;
    let warns = "raise warning 'a word of the server, which the client logs'; return new";
    before_each(&world, "insert on backstitch.journal", warns).await;
    world.ledger.open("go on").await;
    assert_eq!(stuck.ended().await.signal(), Some(Signal::ABORT.as_raw()), "it ends itself");
    says(&log, &format!("an append of workflow {} is unanswered past its deadline", held.workflow));
    is_taken_over(&world, &held).await;
}

#[tokio::test]
async fn a_log_that_takes_nothing_keeps_no_process_alive_that_must_end() {
    let world = World::new().await;
    let log = world.directory.path().join("log");
    let stuck = world.process(WORKER).variable("TOKIO_WORKER_THREADS", "1");
    let stuck = stuck.variable("LOG_STUCK_FOR", "backstitch-watchdog");
    let mut stuck = stuck.log_to(&log, "backstitch=error").spawn().await;
    world.enqueue(Compensating::of([Act::new().run([Do::Block])])).await;
    assert_eq!(stuck.ended().await.signal(), Some(Signal::ABORT.as_raw()), "it ends itself");
    says(&log, "the runtime has not run for");
}

/// A workflow that has made its effect, and waits to be told to go on to another step.
async fn held_with_an_effect(world: &World) -> Handle<Vec<Option<u32>>> {
    let held = Act::new().manner(Manner::Long);
    let held = held.run([Do::Effect, Do::Mark("held".into()), Do::Wait("go on".into())]);
    let handle = world.enqueue(Compensating::of([held, Act::new()])).await;
    world.marked("held").await;
    handle
}

/// What the server does that can't write.
const BROKEN: &str = "raise exception 'the disk is broken' using errcode = '58030'";

/// From now on the server does this before each such write.
async fn before_each(world: &World, write: &str, does: &str) {
    let sql = format!(
        "create function public.before_each() returns trigger language plpgsql as $$ begin {does}; end $$;
        create trigger before_each before {write} for each row execute function public.before_each()"
    );
    sqlx::raw_sql(sqlx::AssertSqlSafe(sql)).execute(&world.pool).await.expect("it is ours");
}

fn says(log: &Path, words: &str) {
    let log = std::fs::read_to_string(log).expect("it is there");
    assert!(log.contains(words), "it says {words:?}: {log}");
}

/// The only worker has ended itself, without a word to the database: the next one takes back what it held.
async fn is_taken_over(world: &World, held: &Handle<Vec<Option<u32>>>) {
    let worker = world.start_worker().await;
    assert_eq!(world.compensates(held).await.error.failure.code, "orphaned");
    assert_eq!(first_dies(world, "expired").await.id, 1);
    worker.shut_down().await;
}

#[tokio::test]
async fn a_daemon_restarted_on_its_host_recovers_without_waiting_for_the_lease() {
    let world = World::new().await;
    let daemon = world.spawn_worker_with_lock(WORKER).await;
    let killed = Act::new().manner(Manner::Long).run([Do::Effect, Do::Mark("running".into()), Do::Hang]);
    let handle = world.enqueue(Resuming::of([killed, Act::new()])).await;
    world.marked("running").await;
    daemon.kill().await;
    let restarted = world.start_worker_with_lock().await;
    assert_eq!(world.completes(&handle).await, [Some(2), Some(1)]);
    let dead = first_dies(&world, "gone").await;
    assert!(dead.died_at.expect("dead") < dead.lease_until, "its lease was not waited for: {dead:?}");
    restarted.shut_down().await;
    let files: Vec<_> = std::fs::read_dir(world.state_directory()).expect("it is there").collect();
    assert!(files.is_empty(), "no lock file stays: {files:?}");
}

#[tokio::test]
async fn a_claim_that_lands_long_after_it_was_given_up_is_found() {
    let world = World::new().await;
    let worker = world.start_worker().await;
    let in_an_hour = chrono::Utc::now() + chrono::TimeDelta::hours(1);
    let later = world.client.enqueue(Compensating::of([Act::new()])).run_at(in_an_hour);
    let handle = later.send().await.expect("it is enqueued");
    // In the worker's name, and without its knowing.
    let mut claim = world.pool.begin().await.expect("a transaction");
    sqlx::query("update backstitch.ready set due_at = now() where workflow_id = $1")
        .bind(handle.workflow.0)
        .execute(&mut *claim)
        .await
        .expect("it is ours");
    let claimed = sqlx::query(
        "select c.workflow_id from backstitch.workflow w,
            backstitch.claim($2, array['default'], array[w.kind], 1, 1) c where w.workflow_id = $1",
    )
    .bind(handle.workflow.0)
    .bind(incarnations(&world).await[0].id)
    .fetch_all(&mut *claim)
    .await
    .expect("it is ours");
    assert_eq!(claimed.len(), 1);
    claim.commit().await.expect("it is ours");
    assert_eq!(world.completes(&handle).await, [Some(1)]);
    assert_eq!(incarnations(&world).await.len(), 1, "in the same life");
    worker.shut_down().await;
}

/// A trigger stands in for a database that takes no registrations, and counts them.
#[tokio::test]
async fn a_life_that_can_not_begin_is_tried_again_as_the_same_and_leaves_no_lock_file() {
    let world = World::new().await;
    let worker = world.start_worker_with_lock().await;
    sqlx::raw_sql(
        "create sequence public.births;
        create function public.refuse_births() returns trigger language plpgsql as $$
        begin
            perform nextval('public.births');
            raise exception 'no births today' using errcode = '57014';
        end
        $$;
        create trigger refuses_births before insert on backstitch.incarnation
            for each row execute function public.refuse_births()",
    )
    .execute(&world.pool)
    .await
    .expect("it is ours");
    let files = || std::fs::read_dir(world.state_directory()).expect("it is there").count();
    let refused = world.worker().await.state_directory(world.state_directory()).start().await;
    assert!(refused.is_err() && files() == 1, "the living one's");
    let buried: Option<i32> = sqlx::query_scalar("select backstitch.bury($1, 0, true)")
        .bind(incarnations(&world).await[0].id)
        .fetch_one(&world.pool)
        .await
        .expect("it answers");
    assert_eq!(buried, Some(0));
    until("its next life was tried three times", async || {
        let births: i64 = sqlx::query_scalar("select last_value from public.births")
            .fetch_one(&world.pool)
            .await
            .expect("it answers");
        (births >= 4).then_some(())
    })
    .await;
    assert_eq!(files(), 1, "that of the next life");
    sqlx::query("drop trigger refuses_births on backstitch.incarnation")
        .execute(&world.pool)
        .await
        .expect("ours");
    world.completes(&world.enqueue(Compensating::of([Act::new()])).await).await;
    worker.shut_down().await;
    assert_eq!(files(), 0, "no lock file stays");
}

/// How much processor time a process has used, in ticks of a hundredth of a second: fields 14 and 15 of proc(5).
fn ticks(pid: i32) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).expect("it lives");
    let (_, after_its_name) = stat.rsplit_once(')').expect("its name is in brackets");
    let fields = after_its_name.split_whitespace().skip(11).take(2);
    fields.map(|field| field.parse::<u64>().expect("a number")).sum()
}

#[tokio::test]
async fn a_worker_that_has_nothing_to_do_sleeps() {
    let world = World::new().await;
    let line = world.line();
    let process = world.process(WORKER).variable("DATABASE_URL", line.url(&world.database.url));
    let worker = process.spawn().await;
    let has_looked = async |times| {
        let looks = line.begun("backstitch.claim") + times;
        until("it has looked", async || (line.begun("backstitch.claim") >= looks).then_some(())).await;
    };
    has_looked(3).await;
    let (began, used) = (Instant::now(), ticks(worker.pid()));
    has_looked(30).await;
    let (took, used) = (began.elapsed(), Duration::from_millis(10 * (ticks(worker.pid()) - used)));
    // A loop that spins uses all of it, on any machine that is not busy with other things; looks are some hundredths.
    assert!(used < took / 4, "{used:?} of {took:?}");
    worker.kill().await;
}
