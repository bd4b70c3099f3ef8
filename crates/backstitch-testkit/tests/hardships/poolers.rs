//! A pooler between, which lends out a session for one transaction.

use std::str::FromStr;

use backstitch::{Client, Database, Ending};
use backstitch_testkit::cut::{Line, Moment, Statement};
use backstitch_testkit::pooler::Pooler;
use backstitch_testkit::script::{Act, Compensating, Do, Manner, Resuming};
use backstitch_testkit::world::World;
use rustix::process::Signal;
use sqlx::ConnectOptions;
use sqlx::postgres::PgConnectOptions;

use crate::WORKER;
use crate::facts::first_dies;

/// Fewer than two workers have connections.
const SESSIONS: u32 = 3;

fn through(pooler: &Pooler, world: &World) -> PgConnectOptions {
    PgConnectOptions::from_str(&pooler.url(&world.database.name)).expect("a url")
}

#[tokio::test]
async fn transaction_pooler_between() {
    const OF_EACH: usize = 12;
    let world = World::new().await;
    let pooler = Pooler::before(&world.database.server, SESSIONS).await;
    let worker = || {
        world
            .process(WORKER)
            .variable("DATABASE_URL", pooler.url(&world.database.name))
            .variable("TRANSACTION_POOLER", "1")
    };
    let killed = worker().with_lock(&world.state_directory()).spawn().await;
    let others = [worker().with_lock(&world.state_directory()).spawn().await, worker().spawn().await];
    let client = Client::new(Database::behind_transaction_pooler(through(&pooler, &world)));
    let send = async |script| client.enqueue(script).send().await.expect("it is enqueued");
    let transactional = || Act::new().manner(Manner::Transactional);
    let retries = || Act::new().run([Do::Effect, Do::Retry("busy".into())]);
    let fails = || Act::new().run([Do::Effect, Do::Fail("broken".into())]);
    let mut complete = Vec::new();
    let mut compensate = Vec::new();
    for _ in 0..OF_EACH {
        complete.push(send(Resuming::of([Act::new(), transactional(), retries()])).await);
        // Taken back even where it is in the worker that is killed.
        let fails = Compensating::of([transactional(), Act::new(), fails()]);
        compensate.push(client.enqueue(fails).send().await.expect("it is enqueued"));
    }
    let hears = Act::new().run([Do::Effect, Do::Mark("running".into()), Do::AwaitCancel]);
    let cancelled =
        client.enqueue(Compensating::of([transactional(), hears])).send().await.expect("it is enqueued");
    world.marked("running").await;
    client.cancel(cancelled.workflow, "ada", "not wanted").await.expect("it answers");
    let lending = pooler.lending().await.expect("it answers");
    assert!(
        lending.sessions <= i64::from(SESSIONS) && lending.clients > 2 * i64::from(SESSIONS),
        "{lending:?}"
    );
    killed.kill().await;
    first_dies(&world, "gone").await;
    for handle in &complete {
        // Through the pooler nothing is announced: whoever waits there polls.
        let ending = client.wait(handle).await.expect("it answers");
        assert!(matches!(ending, Ending::Completed(_)), "{ending:?}");
        world.assert_sound(handle.workflow).await;
    }
    for handle in compensate.iter().map(|handle| handle.workflow).chain([cancelled.workflow]) {
        world.reaches(handle, backstitch::Status::Compensated).await;
        world.assert_sound(handle).await;
    }
    for worker in others {
        worker.kill().await;
    }
}

#[tokio::test]
async fn a_worker_that_falls_silent_in_the_middle_of_a_call_through_a_pooler_is_buried() {
    let world = World::new().await;
    let pooler = Pooler::before(&world.database.server, SESSIONS).await;
    let line = Line::to_socket(pooler.socket());
    let url = PgConnectOptions::from_str(&pooler.url(&world.database.name)).expect("a url").port(5432);
    let silent = world
        .process(WORKER)
        .variable("DATABASE_URL", line.options(url).to_url_lossy().as_str())
        .variable("TRANSACTION_POOLER", "1")
        .spawn()
        .await;
    let append = Statement { texts: vec!["backstitch.append"], carries: None };
    let held = line.hold(Moment::BeforeAnswer, append, 0);
    let handle = world.enqueue(Resuming::of([Act::new(), Act::new()])).await;
    // It has written, and does not hear so: its transaction is open, and with it the fence held.
    let held = held.await.expect("it appends");
    silent.signal(Signal::STOP);
    let heir = world.start_worker().await;
    let dead = first_dies(&world, "expired").await;
    assert_eq!(dead.pid, silent.pid());
    assert_eq!(world.completes(&handle).await, [Some(1), Some(1)]);
    world.assert_sound(handle.workflow).await;
    drop(held);
    silent.kill().await;
    heir.shut_down().await;
}

#[tokio::test]
async fn a_pooler_that_is_not_told_of_is_an_error_that_says_so() {
    let world = World::new().await;
    let strict = Pooler::before(&world.database.server, 1).await;
    let said = Database::connect_with(through(&strict, &world)).await.expect_err("it knows no options");
    let said = said.to_string();
    assert!(said.contains("startup parameter") && said.contains("transaction_pooler"), "{said}");
    let pooler = Pooler::ignoring("extra_float_digits, options", &world.database.server, 1).await;
    let look = async || {
        let database =
            Database::connect_with(through(&pooler, &world)).await.expect("a ping prepares nothing");
        backstitch::check_migrated(&database).await
    };
    // Whoever comes first may be well: the session is new.
    let said = look().await.and(look().await).expect_err("the session is another's").to_string();
    assert!(said.contains("prepared statement") && said.contains("transaction_pooler"), "{said}");
    // Nor do migrations go through one that is told of.
    let pooled = Database::behind_transaction_pooler(through(&pooler, &world));
    let error = backstitch::migrate(&pooled).await.expect_err("it would lock for a session");
    assert!(error.to_string().contains("name the database itself"), "{error}");
}

#[tokio::test]
async fn nothing_is_left_behind_on_a_session_that_was_lent() {
    let world = World::new().await;
    let pooler = Pooler::before(&world.database.server, 1).await;
    let database = Database::behind_transaction_pooler(through(&pooler, &world));
    backstitch::check_migrated(&database).await.expect("it is migrated");
    // One that failed, too.
    let failed =
        database.call(async |connection| sqlx::query("select 1 / $1").bind(0).execute(connection).await);
    failed.await.expect_err("nothing can be divided by zero");
    let left = database.call(async |connection| {
        sqlx::query_scalar::<_, i64>("select count(*) from pg_prepared_statements")
            .fetch_one(connection)
            .await
    });
    assert_eq!(left.await.expect("it answers"), 1, "the question itself");
}

#[tokio::test]
async fn whether_a_workflow_is_new_is_told_through_a_pooler_too() {
    let world = World::new().await;
    let pooler = Pooler::before(&world.database.server, 1).await;
    let client = Client::new(Database::behind_transaction_pooler(through(&pooler, &world)));
    let ask = async || {
        let asked = client.enqueue(Resuming::of([Act::new()])).key("first").send_and_tell();
        let told = asked.await.expect("it is enqueued");
        (told.handle.workflow, told.is_new)
    };
    let (first, is_new) = ask().await;
    assert!(is_new);
    assert_eq!(ask().await, (first, false));
}
