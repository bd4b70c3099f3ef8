//! Somebody's transaction that keeps rows of ours and is left open, and statements that the server will not end.

use std::path::Path;

use backstitch::Handle;
use backstitch_testkit::script::{Act, Compensating, Do, Manner, Resuming};
use backstitch_testkit::wait::{until, until_equal};
use backstitch_testkit::world::World;
use sqlx::migrate::Migrator;
use sqlx::{PgConnection, Postgres, Transaction};

use crate::WORKER;
use crate::facts::{first_dies, incarnations};

/// How many of the database's sessions wait for a lock.
async fn waiting_for_locks(world: &World) -> usize {
    who_waits_for_a_lock(world).await.len()
}

/// Somebody's transaction that has cancelled these, and is neither committed nor rolled back.
async fn cancelled_and_left_open(
    world: &World,
    kept: &[Handle<Vec<Option<u32>>>],
) -> Transaction<'static, Postgres> {
    let mut left_open = world.pool.begin().await.expect("a transaction");
    for handle in kept {
        sqlx::query("select backstitch.cancel($1, 'ada', 'not sure yet')")
            .bind(handle.workflow.0)
            .execute(&mut *left_open)
            .await
            .expect("it is ours");
    }
    left_open
}

#[tokio::test]
async fn a_transaction_left_open_holds_up_only_the_workflows_that_it_keeps() {
    let world = World::new().await;
    let worker = world.start_worker().await;
    let mut kept = Vec::new();
    // More than there are statements under way at once.
    for mark in ["first", "second", "third"] {
        let held = Act::new().manner(Manner::Long).run([
            Do::Effect,
            Do::Mark(mark.into()),
            Do::Wait("go on".into()),
        ]);
        kept.push(world.enqueue(Compensating::of([held])).await);
        world.marked(mark).await;
    }
    let left_open = cancelled_and_left_open(&world, &kept).await;
    world.ledger.open("go on").await;
    until("a record waits for the lock", async || (waiting_for_locks(&world).await > 0).then_some(())).await;
    let mut others = Vec::new();
    for _ in 0..20 {
        others.push(world.enqueue(Compensating::of([Act::new(), Act::new()])).await);
    }
    for handle in &others {
        assert_eq!(world.completes(handle).await, [Some(1), Some(1)]);
    }
    // Those whose statement was given up by us alone would still be there, and more with each second.
    until("no more than one waits", async || (waiting_for_locks(&world).await <= 1).then_some(())).await;
    for handle in &kept {
        let ending = world.client.poll(handle).await.expect("it answers");
        assert!(ending.is_none(), "its last record waits: {ending:?}");
    }
    left_open.rollback().await.expect("it is ours");
    for handle in &kept {
        assert_eq!(world.completes(handle).await, [Some(1)]);
    }
    worker.shut_down().await;
}

/// The sessions that wait for a lock.
async fn who_waits_for_a_lock(world: &World) -> Vec<i32> {
    sqlx::query_scalar(
        "select pid from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'",
    )
    .fetch_all(&world.pool)
    .await
    .expect("it answers")
}

/// The session that has said last that it claims.
async fn who_claims(world: &World) -> Option<i32> {
    sqlx::query_scalar(
        "select pid from pg_stat_activity where datname = current_database()
            and query like '%backstitch.claim(%' and pid <> pg_backend_pid()
        order by query_start desc limit 1",
    )
    .fetch_optional(&world.pool)
    .await
    .expect("it answers")
}

#[tokio::test]
async fn what_somebody_keeps_is_waited_for_on_the_connection_of_the_claims_once_at_most() {
    // On a busy machine a claim may be under way just then.
    const TRIES: usize = 10;
    for _ in 0..TRIES {
        if it_keeps_no_claim_twice().await {
            return;
        }
    }
    panic!("in {TRIES} worlds what was kept never came to the connection of the claims");
}

/// False: that said something as the first record came, which waits elsewhere then.
async fn it_keeps_no_claim_twice() -> bool {
    let world = World::new().await;
    let worker = world.start_worker().await;
    let mut kept = Vec::new();
    for (mark, gate) in [("first", "go on"), ("second", "you too")] {
        let held =
            Act::new().manner(Manner::Long).run([Do::Effect, Do::Mark(mark.into()), Do::Wait(gate.into())]);
        kept.push(world.enqueue(Compensating::of([held])).await);
        world.marked(mark).await;
    }
    let left_open = cancelled_and_left_open(&world, &kept).await;
    let claims = until("it claims", async || who_claims(&world).await).await;
    let waits =
        async |is_it: &dyn Fn(&i32) -> bool| who_waits_for_a_lock(&world).await.into_iter().find(is_it);
    // The first is alone, and waits on the connection of the claims; then in a batch; then by itself, again and again.
    world.ledger.open("go on").await;
    let came_to_the_claims = until("it waits", async || waits(&|_| true).await).await == claims;
    if came_to_the_claims {
        let batch = until("it waits in a batch", async || waits(&|session| *session != claims).await).await;
        let by_itself = |session: &i32| ![claims, batch].contains(session);
        until("it waits by itself", async || waits(&by_itself).await).await;

        world.ledger.open("you too").await;
        let second = until("the second waits", async || waits(&|session| !by_itself(session)).await).await;
        assert_eq!(second, batch, "no claim waits behind it");
    } else {
        world.ledger.open("you too").await;
    }
    left_open.rollback().await.expect("it is ours");
    for handle in &kept {
        assert_eq!(world.completes(handle).await, [Some(1)]);
    }
    worker.shut_down().await;
    came_to_the_claims
}

#[tokio::test]
async fn how_long_a_transactional_step_waits_for_a_lock_is_its_own_to_say() {
    let world = World::new().await;
    // What holds for whoever writes there, told by the effect itself.
    sqlx::query("alter table effect add column lock_timeout text default current_setting('lock_timeout')")
        .execute(&world.pool)
        .await
        .expect("it is ours");
    let worker = world.start_worker().await;
    let step = Act::new().manner(Manner::Transactional);
    world.completes(&world.enqueue(Compensating::of([step])).await).await;
    let told: Vec<String> = sqlx::query_scalar("select lock_timeout from effect")
        .fetch_all(&world.pool)
        .await
        .expect("it answers");
    assert_eq!(told, ["0"], "its timeout bounds it");
    let show = async |on: &mut PgConnection| sqlx::query_scalar("show lock_timeout").fetch_one(on).await;
    let engine: sqlx::Result<String> = world.client.database().call(show).await;
    assert_eq!(engine.expect("it answers"), "3500ms", "a little less than the engine itself waits");
    let callers = sqlx::query_scalar("show lock_timeout").fetch_one(world.client.database().pool()).await;
    assert_eq!(callers.ok(), Some("0".to_owned()), "how long others wait is theirs to say");
    worker.shut_down().await;
}

/// A trigger stands in for a page of the journal that can't be read: the server says so of any record of these workflows.
#[tokio::test]
async fn what_the_server_can_not_write_holds_up_nobody_else() {
    let world = World::new().await;
    sqlx::raw_sql(
        "create table public.damaged (workflow_id uuid primary key);
        create function public.fail_if_damaged() returns trigger language plpgsql as $$
        begin
            if exists (select from public.damaged d where d.workflow_id = new.workflow_id) then
                raise exception 'invalid page in block 7' using errcode = 'XX001';
            end if;
            return new;
        end
        $$;
        create trigger fails_if_damaged before insert on backstitch.journal
            for each row execute function public.fail_if_damaged()",
    )
    .execute(&world.pool)
    .await
    .expect("it is ours");
    let worker = world.start_worker().await;
    let mut damaged = Vec::new();
    // More than there are statements under way at once.
    for mark in ["first", "second", "third"] {
        let held = Act::new().manner(Manner::Long).run([
            Do::Effect,
            Do::Mark(mark.into()),
            Do::Wait("go on".into()),
        ]);
        let handle = world.enqueue(Compensating::of([held])).await;
        world.marked(mark).await;
        sqlx::query("insert into public.damaged values ($1)")
            .bind(handle.workflow.0)
            .execute(&world.pool)
            .await
            .expect("it is ours");
        damaged.push(handle);
    }
    world.ledger.open("go on").await;
    let mut others = Vec::new();
    for _ in 0..20 {
        others.push(world.enqueue(Compensating::of([Act::new(), Act::new()])).await);
    }
    for handle in &others {
        assert_eq!(world.completes(handle).await, [Some(1), Some(1)]);
    }
    sqlx::query("truncate public.damaged").execute(&world.pool).await.expect("it is ours");
    for handle in &damaged {
        assert_eq!(world.completes(handle).await, [Some(1)], "nobody gave it up meanwhile");
    }
    worker.shut_down().await;
}

#[tokio::test]
async fn a_burial_that_has_to_wait_keeps_nobody_else_from_being_buried() {
    let world = World::new().await;
    let mut dead = Vec::new();
    for _ in 0..2 {
        let registered: i32 = sqlx::query_scalar(
            "select backstitch.register(gen_random_uuid(), 'host', 1, '0', array['k'], interval '1 ms')",
        )
        .fetch_one(&world.pool)
        .await
        .expect("it registers");
        dead.push(registered);
    }
    let mut left_open = world.pool.begin().await.expect("a transaction");
    sqlx::query("select from backstitch.incarnation where incarnation_id = $1 for update")
        .bind(dead[0])
        .execute(&mut *left_open)
        .await
        .expect("it is ours");
    let worker = world.start_worker().await;
    let is_buried = async |incarnation: i32| {
        let lives = incarnations(&world).await;
        lives.iter().any(|life| life.id == incarnation && life.died_at.is_some()).then_some(())
    };
    until("the second one is buried", async || is_buried(dead[1]).await).await;
    assert!(is_buried(dead[0]).await.is_none(), "its row is kept");
    left_open.rollback().await.expect("it is ours");
    until("the first one is buried", async || is_buried(dead[0]).await).await;
    worker.shut_down().await;
}

#[tokio::test]
async fn a_dead_workers_workflow_that_somebody_keeps_holds_up_no_other_of_it() {
    let world = World::new().await;
    let dead = world.spawn_worker_with_lock(WORKER).await;
    let mut held = Vec::new();
    for mark in ["kept", "other"] {
        let step = Act::new().manner(Manner::Long).run([Do::Effect, Do::Mark(mark.into()), Do::Hang]);
        held.push(world.enqueue(Resuming::of([step])).await);
        world.marked(mark).await;
    }
    let [kept, other] = held.try_into().expect("two");
    let mut left_open = world.pool.begin().await.expect("a transaction");
    sqlx::query("select backstitch.cancel($1, 'ada', 'not sure yet')")
        .bind(kept.workflow.0)
        .execute(&mut *left_open)
        .await
        .expect("it is ours");
    let heir = world.start_worker_with_lock().await;
    dead.kill().await;
    assert_eq!(world.completes(&other).await, [Some(2)]);
    assert_eq!(incarnations(&world).await[0].died_at, None, "it still holds one");
    left_open.rollback().await.expect("it is ours");
    assert_eq!(world.completes(&kept).await, [Some(2)]);
    first_dies(&world, "gone").await;
    heir.shut_down().await;
}

/// A directory of migrations, as an application's own, that makes a table and then adds a column.
fn migrations(directory: &Path, files: &[(&str, &str)]) {
    for (name, sql) in files {
        std::fs::write(directory.join(name), sql).expect("it is ours");
    }
}

async fn known(directory: &Path) -> Migrator {
    Migrator::new(directory).await.expect("they can be read")
}

#[tokio::test]
async fn a_migration_that_waits_lets_the_living_through_and_gets_there() {
    let world = World::new().await;
    let options = world.client.database().pool().connect_options();
    let directory = tempfile::tempdir().expect("a directory");
    migrations(directory.path(), &[("1_table.sql", "create table public.orders (id int)")]);
    backstitch::apply_migrations(known(directory.path()).await, &options).await.expect("nobody is there");
    migrations(directory.path(), &[("2_column.sql", "alter table public.orders add name text")]);
    // As a dump keeps it.
    let mut dump = world.pool.begin().await.expect("a transaction");
    sqlx::query("lock table public.orders in access share mode")
        .execute(&mut *dump)
        .await
        .expect("it is free");
    let migrating = tokio::spawn({
        let (migrator, options) = (known(directory.path()).await, (*options).clone());
        async move { backstitch::apply_migrations(migrator, &options).await }
    });
    until("the migration waits", async || (waiting_for_locks(&world).await > 0).then_some(())).await;
    // Behind it; no longer than any call of a worker may.
    sqlx::query("select from public.orders")
        .execute(world.client.database().pool())
        .await
        .expect("it gets through, for the migration gives up first");
    dump.rollback().await.expect("it is ours");
    migrating.await.expect("it does not panic").expect("it gets its lock in the end");
    sqlx::query("select name from public.orders").execute(&world.pool).await.expect("the column is there");
}

#[tokio::test]
async fn a_migration_that_fails_leaves_no_lock_for_the_next_one_to_wait_for() {
    let world = World::new().await;
    let options = world.client.database().pool().connect_options();
    let directory = tempfile::tempdir().expect("a directory");
    migrations(directory.path(), &[("1_wrong.sql", "select 1 / 0")]);
    let failed = backstitch::apply_migrations(known(directory.path()).await, &options).await;
    assert!(failed.is_err());
    // A session whose client has left lives on for a moment.
    until_equal("no lock is left", 0_i64, async || {
        let locks = "select count(*) from pg_locks l join pg_database d on d.oid = l.database
            where d.datname = current_database() and l.locktype = 'advisory'";
        sqlx::query_scalar(locks).fetch_one(&world.pool).await.expect("it answers")
    })
    .await;
    migrations(directory.path(), &[("1_wrong.sql", "select 1 / 1")]);
    backstitch::apply_migrations(known(directory.path()).await, &options).await.expect("it is mended");
}
