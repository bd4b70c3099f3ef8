//! A Postgres that restarts, is gone for long, or ends sessions as it likes.

use backstitch::{Client, Database};
use backstitch_postgres::test::{PrivateCluster, private_cluster};
use backstitch_postgres::{Durability, Stop};
use backstitch_testkit::cut::{Moment, Passage, Statement};
use backstitch_testkit::script::{Act, Compensating, Do, Manner, Resuming};
use backstitch_testkit::wait::{until, until_equal};
use backstitch_testkit::world::World;
use sqlx::postgres::PgPoolOptions;

use crate::WORKER;
use crate::facts::{attempts, effects, ended, incarnations};

/// A world whose journal is in a server of its own; the ledger stays with the others. Only the server dies here, never the
/// machine: what it wrote is there again.
async fn private_world() -> (PrivateCluster, World) {
    let private = private_cluster(Durability::Throwaway).await;
    let world = World::over(backstitch_postgres::test::database_in(&private.server).await).await;
    (private, world)
}

/// A client without the sessions that broke.
async fn client(world: &World) -> Client {
    Client::new(Database::connect(&world.database.url).await.expect("it answers again"))
}

fn held(mark: &str) -> Act {
    Act::new().manner(Manner::Long).run([Do::Effect, Do::Mark(mark.into()), Do::Wait(mark.into())])
}

#[tokio::test]
async fn postgres_restart_mid_step() {
    let (private, mut world) = private_world().await;
    let worker = world.spawn_worker(WORKER).await;
    for (mark, how) in [("fast", Stop::Fast), ("immediate", Stop::Immediate)] {
        let handle = world.enqueue(Compensating::of([Act::new(), held(mark), Act::new()])).await;
        world.marked(mark).await;
        private.cluster.restart(how).await.expect("it restarts");
        world.client = client(&world).await;
        world.ledger.open(mark).await;
        assert_eq!(world.completes(&handle).await.len(), 3);
    }
    assert_eq!(incarnations(&world).await.len(), 1, "it is the same life");
    worker.kill().await;
}

#[tokio::test]
async fn postgres_down_for_long() {
    const WORKFLOWS: i64 = 20;
    let (private, mut world) = private_world().await;
    let worker = world.spawn_worker(WORKER).await;
    let first = world.enqueue(Compensating::of([held("first"), Act::new()])).await;
    world.marked("first").await;
    let beating = Act::new().manner(Manner::Long).run([Do::Beat("beat".into())]);
    let beats = world.enqueue(Resuming::of([beating])).await;
    until("it beats", async || world.ledger.last_beat("beat").await).await;
    let in_a_while = chrono::Utc::now() + chrono::TimeDelta::seconds(1);
    for _ in 0..WORKFLOWS {
        let script = Compensating::of([Act::new(), Act::new()]);
        world.client.enqueue(script).run_at(in_a_while).send().await.expect("it is enqueued");
    }
    let lease_until = incarnations(&world).await[0].lease_until;
    private.cluster.stop(Stop::Fast).await.expect("it stops");
    let stopped_at = world.ledger.now().await.expect("the ledger answers");
    // The step in flight ends while nobody can say so; nothing begins after it.
    world.ledger.open("first").await;
    until("two leases have passed", async || {
        let now = world.ledger.now().await.expect("the ledger answers");
        (now > stopped_at + 2 * backstitch_testkit::world::TIMING.lease).then_some(())
    })
    .await;
    let (last, _) = world.ledger.last_beat("beat").await.expect("it beat");
    let stop_by = lease_until.max(stopped_at + backstitch_testkit::world::TIMING.lease);
    assert!(last < stop_by, "its effect went on until {last}, the lease ended before {stop_by}");
    assert_eq!(effects(&world, first.workflow, 1).await, (0, 0), "no effect begins meanwhile");
    private.cluster.start().await.expect("it starts");
    world.client = client(&world).await;
    until("the backlog drains", async || {
        let drained: i64 =
            sqlx::query_scalar("select count(*) from backstitch.workflow where status = 'completed'")
                .fetch_one(&world.pool)
                .await
                .ok()?;
        (drained == WORKFLOWS + 2).then_some(())
    })
    .await;
    assert_eq!(world.completes(&first).await, [Some(1), Some(1)]);
    assert_eq!(world.completes(&beats).await, [Some(2)]);
    assert_eq!(incarnations(&world).await.len(), 1, "it is the same life");
    let workflows: Vec<uuid::Uuid> = sqlx::query_scalar("select workflow_id from backstitch.workflow")
        .fetch_all(&world.pool)
        .await
        .expect("it answers");
    for workflow in workflows {
        world.assert_sound(backstitch::WorkflowId(workflow)).await;
    }
    worker.kill().await;
}

#[tokio::test]
async fn a_postgres_outage_longer_than_the_lease_compensates_nothing() {
    let (private, mut world) = private_world().await;
    let line = world.line();
    // One hears that nothing answers, the other one hears nothing: both bury others, and both would be buried.
    let [first, second] = [world.spawn_worker(WORKER).await, world.spawn_worker(WORKER).await];
    let third = world.start_worker_over(&line).await;
    let mut handles = Vec::new();
    for mark in ["a", "b", "c", "d", "e", "f"] {
        handles.push(world.enqueue(Compensating::of([Act::new(), held(mark), Act::new()])).await);
        world.marked(mark).await;
    }
    line.let_through(Passage::Frozen);
    private.cluster.stop(Stop::Immediate).await.expect("it stops");
    let stopped_at = world.ledger.now().await.expect("the ledger answers");
    until("two leases have passed", async || {
        let now = world.ledger.now().await.expect("the ledger answers");
        (now > stopped_at + 2 * backstitch_testkit::world::TIMING.lease).then_some(())
    })
    .await;
    for mark in ["a", "b", "c", "d", "e", "f"] {
        world.ledger.open(mark).await;
    }
    private.cluster.start().await.expect("it starts");
    world.client = client(&world).await;
    line.let_through(Passage::Open);
    until("every workflow has ended", async || {
        let live: i64 =
            sqlx::query_scalar("select count(*) from backstitch.ready").fetch_one(&world.pool).await.ok()?;
        (live == 0).then_some(())
    })
    .await;
    for handle in &handles {
        assert_eq!(world.completes(handle).await.len(), 3);
        for position in 0..3 {
            assert_eq!(effects(&world, handle.workflow, position).await.1, 0, "nothing is compensated");
        }
    }
    let lives = incarnations(&world).await;
    assert!(
        lives.len() == 3 && lives.iter().all(|life| life.died_at.is_none()),
        "nobody is buried: {lives:#?}"
    );
    third.shut_down().await;
    first.kill().await;
    second.kill().await;
}

#[tokio::test]
async fn backend_terminated_at_random() {
    const WORKFLOWS: usize = 40;
    const TERMINATIONS: u32 = 150;
    let world = World::new().await;
    let url = format!("{}&application_name=worker", world.database.url);
    let worker = world.process(WORKER).variable("DATABASE_URL", url).spawn().await;
    let seed = u64::from(std::process::id()) ^ u64::from(chrono::Utc::now().timestamp_subsec_nanos());
    println!("seed {seed}");
    let mut random = seed;
    let mut handles = Vec::new();
    for number in 0..WORKFLOWS {
        let manner = if number % 2 == 0 { Manner::Transactional } else { Manner::Dependent };
        let step = || Act::new().manner(manner).run([Do::Retry("busy".into())]);
        handles.push(world.enqueue(Compensating::of([Act::new(), step(), step(), Act::new()])).await);
    }
    let mut terminated = 0;
    while terminated < TERMINATIONS {
        // xorshift: any order will do, if it is the same for the same seed.
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        let sessions: Vec<i32> = sqlx::query_scalar(
            "select pid from pg_stat_activity
            where datname = current_database()
                and (application_name = 'worker' or application_name like 'backstitch incarnation %')
            order by pid",
        )
        .fetch_all(&world.pool)
        .await
        .expect("it answers");
        if !sessions.is_empty() {
            let chosen = usize::try_from(random % 1_000).expect("small") % sessions.len();
            let hit: bool = sqlx::query_scalar("select pg_terminate_backend($1)")
                .bind(sessions[chosen])
                .fetch_one(&world.pool)
                .await
                .expect("it answers");
            terminated += u32::from(hit);
        }
        tokio::task::yield_now().await;
    }
    until_equal("everything has ended", 0, async || {
        let live: Result<i64, _> =
            sqlx::query_scalar("select count(*) from backstitch.ready").fetch_one(&world.pool).await;
        live.expect("it answers")
    })
    .await;
    for handle in &handles {
        world.assert_sound(handle.workflow).await;
        assert_ne!(attempts(&world.client, handle.workflow).await, []);
    }
    let (completed, compensated) = (ended(&world, "completed").await, ended(&world, "compensated").await);
    println!("{completed} completed, {compensated} compensated");
    // Attempts of transactional steps that lost their session count as failed ones; nothing else may turn back.
    assert_eq!(completed + compensated, i64::try_from(WORKFLOWS).expect("few"));
    assert!(completed >= i64::try_from(WORKFLOWS / 2).expect("few"), "only {completed} completed");
    worker.kill().await;
}

/// So a session looks that began on a primary which became a standby since, or behind a proxy that has moved on; and so here.
#[tokio::test]
async fn sessions_that_can_only_read_are_replaced_once_others_can_write() {
    let world = World::new().await;
    let url = format!("{}&application_name=worker", world.database.url);
    let worker = world.process(WORKER).variable("DATABASE_URL", url).spawn().await;
    let first = world.enqueue(Compensating::of([Act::new()])).await;
    assert_eq!(world.completes(&first).await, [Some(1)]);
    // One that can write, whatever new ones can.
    let mut owner = world.pool.acquire().await.expect("it answers");
    let run = async |owner: &mut sqlx::PgConnection, sql: &'static str| {
        sqlx::raw_sql(sql).execute(owner).await.expect("it is ours");
    };
    run(
        &mut owner,
        "do $$ begin execute format('alter database %I set default_transaction_read_only = on', current_database()); end $$;
        select pg_terminate_backend(pid) from pg_stat_activity
        where datname = current_database() and application_name = 'worker'",
    )
    .await;
    let lease_is_over = "select lease_until <= clock_timestamp() from backstitch.incarnation";
    until("no beat has got through for a lease", async || {
        let over: bool = sqlx::query_scalar(lease_is_over).fetch_one(&mut *owner).await.expect("it answers");
        over.then_some(())
    })
    .await;
    run(
        &mut owner,
        "do $$ begin execute format('alter database %I reset default_transaction_read_only', current_database()); end $$",
    )
    .await;
    let steps = [Act::new(), Act::new().manner(Manner::Transactional)];
    let handle = world.enqueue(Compensating::of(steps)).await;
    assert_eq!(world.completes(&handle).await, [Some(1), Some(1)]);
    worker.kill().await;
}

/// An application's own calls share the engine's connections.
#[tokio::test]
async fn a_call_of_an_applications_own_leaves_no_session_behind_that_can_only_read() {
    let world = World::new().await;
    let options = (*world.pool.connect_options()).clone();
    // Of one session: whoever calls gets what the call before has left.
    let database = Database::from_pool(PgPoolOptions::new().max_connections(1).connect_lazy_with(options));
    let write = async |on: &mut sqlx::PgConnection| {
        sqlx::query("create table if not exists public.orders (id int)").execute(on).await.map(|_| ())
    };
    let turn = async |on: &mut sqlx::PgConnection| {
        sqlx::query("set default_transaction_read_only = on").execute(on).await.map(|_| ())
    };
    database.call::<_, sqlx::Error>(turn).await.expect("it is ours");
    let refused = database.call::<_, sqlx::Error>(write).await.expect_err("its session only reads");
    assert_eq!(refused.as_database_error().and_then(|error| error.code()).as_deref(), Some("25006"));
    database.call::<_, sqlx::Error>(write).await.expect("the next one has another session");
}

/// sqlx counts no transaction whose BEGIN it was not answered, and so rolls none back.
#[tokio::test]
async fn a_begin_dropped_halfway_leaves_no_transaction_to_the_next_borrower() {
    let world = World::new().await;
    let line = world.line();
    let database = world.database_over(&line).await;
    let callers = database.pool();
    drop(callers.acquire().await.expect("it answers"));
    until("its connection is at rest", async || (callers.num_idle() == 1).then_some(())).await;
    let begin = Statement { texts: vec!["BEGIN"], carries: None };
    let answer = line.hold(Moment::BeforeAnswer, begin, 0);
    let begun = tokio::time::timeout(std::time::Duration::from_millis(200), callers.begin()).await;
    assert!(begun.is_err(), "its answer is held back");
    answer.await.expect("Postgres has answered").pass();
    until("its connection is given back", async || (callers.num_idle() == 1).then_some(())).await;
    let client = Client::new(database);
    let handle = client.enqueue(Compensating::of([Act::new()])).send().await.expect("it is acknowledged");
    let seen = world.client.workflow(handle.workflow).await.expect("it answers");
    assert!(seen.is_some(), "what was acknowledged is there");
}
