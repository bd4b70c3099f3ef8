//! Workers of two versions side by side, across a migration: each goes on with what the other began.

use std::collections::BTreeSet;
use std::path::Path;

use backstitch::{Status, Workflow, WorkflowId};
use backstitch_testkit::script::{Act, Compensating, Do, Ground, Manner, Resuming, Script};
use backstitch_testkit::wait::until_equal;
use backstitch_testkit::world::{Spawn, World};
use sqlx::migrate::Migrator;
use sqlx::{AssertSqlSafe, PgConnection};
use uuid::Uuid;

use crate::WORKER;
use crate::facts::incarnations;

/// The version before, as `cargo xtask setup` builds it.
const PREVIOUS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../target/previous");

/// As the version before would.
async fn migrate_as_before(world: &World) {
    let migrations = Path::new(PREVIOUS).join("source/migrations");
    let mut migrator =
        Migrator::new(migrations).await.expect("`cargo xtask setup` has built the version before");
    migrator.create_schema("backstitch");
    migrator.dangerous_set_table_name("backstitch._migrations");
    migrator.run(&world.pool).await.expect("its migrations apply");
}

/// A worker of the version before, not yet spawned.
fn worker_before(world: &World) -> Spawn {
    world.process(&format!("{PREVIOUS}/debug/script-worker")).with_lock(&world.state_directory())
}

/// As an application that was built with the version before, or asks in SQL.
async fn ask<const RESUME: bool>(world: &World, script: Script<RESUME>) -> WorkflowId
where
    Script<RESUME>: Workflow<Ground>,
{
    let kind = Script::<RESUME>::KIND;
    let input = serde_json::to_value(script).expect("a script is JSON");
    let asked = sqlx::query_scalar::<_, Uuid>("select backstitch.enqueue($1, $2)").bind(kind).bind(input);
    WorkflowId(asked.fetch_one(&world.pool).await.expect("it is enqueued"))
}

/// Three workflows that are in the middle of a step until the gate is open: one will be resumed where its worker dies,
/// one taken back, and one is on its way back already.
async fn three(world: &World, gate: &str) -> [(WorkflowId, Status); 3] {
    let held = |at: &str| {
        let mark = format!("{gate} {at}");
        Act::new().manner(Manner::Long).run([Do::Effect, Do::Mark(mark), Do::Wait(gate.to_owned())])
    };
    let transactional = || Act::new().manner(Manner::Transactional);
    let going_back = [
        Act::new(),
        Act::new().manner(Manner::Long).compensate([
            Do::Mark(format!("{gate} back")),
            Do::Wait(gate.to_owned()),
            Do::Effect,
        ]),
        Act::new().run([Do::Effect, Do::Fail("broken".to_owned())]),
    ];
    let resumes = ask(world, Resuming::of([Act::new(), held("resumes"), transactional()])).await;
    let compensates = ask(world, Compensating::of([transactional(), held("compensates"), Act::new()])).await;
    let back = ask(world, Compensating::of(going_back)).await;
    for at in ["resumes", "compensates", "back"] {
        world.marked(&format!("{gate} {at}")).await;
    }
    [(resumes, Status::Completed), (compensates, Status::Compensated), (back, Status::Compensated)]
}

/// Which lives wrote a workflow's journal.
async fn writers(world: &World, workflow: WorkflowId) -> BTreeSet<i32> {
    let writers = sqlx::query_scalar("select incarnation from backstitch.journal where workflow_id = $1");
    let writers: Vec<Option<i32>> =
        writers.bind(workflow.0).fetch_all(&world.pool).await.expect("it answers");
    writers.into_iter().flatten().collect()
}

#[tokio::test]
async fn two_versions_of_the_worker_side_by_side_across_a_migration() {
    let world = World::unmigrated(backstitch_postgres::test::database().await).await;
    migrate_as_before(&world).await;
    let version = "select max(version) from backstitch._migrations";
    let version =
        async || sqlx::query_scalar::<_, i64>(version).fetch_one(&world.pool).await.expect("it answers");
    let before = version().await;
    // Occupied with one workflow, so that whatever else is asked for is the others'.
    let stays = worker_before(&world).one_at_a_time().spawn().await;
    let occupies =
        Act::new().manner(Manner::Long).run([Do::Mark("occupied".into()), Do::Wait("free".into())]);
    let occupant = ask(&world, Resuming::of([occupies])).await;
    world.marked("occupied").await;
    let dies = worker_before(&world).spawn().await;
    let begun_before = three(&world, "first").await;

    world.migrate().await;
    assert!(version().await > before, "there is something to migrate: move the version before on");
    let newer = world.process(WORKER).with_lock(&world.state_directory()).spawn().await;
    until_equal("three lives", 3, async || incarnations(&world).await.len()).await;

    // What the version before began, this one ends.
    dies.kill().await;
    world.ledger.open("first").await;
    for (workflow, status) in begun_before {
        world.reaches(workflow, status).await;
        world.assert_sound(workflow).await;
        assert_eq!(writers(&world, workflow).await, BTreeSet::from([2, 3]));
    }

    // And the other way round.
    let begun_since = three(&world, "second").await;
    newer.kill().await;
    for gate in ["second", "free"] {
        world.ledger.open(gate).await;
    }
    for (workflow, status) in begun_since.into_iter().chain([(occupant, Status::Completed)]) {
        world.reaches(workflow, status).await;
        world.assert_sound(workflow).await;
    }
    for (workflow, _) in begun_since {
        assert_eq!(writers(&world, workflow).await, BTreeSet::from([1, 3]));
    }
    stays.kill().await;
}

/// Between a migration and the `grant_to` that grants what is new, workers go on.
#[tokio::test]
async fn a_role_that_may_claim_before_a_migration_may_claim_after_it() {
    let world = World::unmigrated(backstitch_postgres::test::database().await).await;
    migrate_as_before(&world).await;
    let role = format!("worker_{}", Uuid::new_v4().simple());
    let run = async |on: &mut PgConnection, sql: String| {
        sqlx::raw_sql(AssertSqlSafe(sql)).execute(on).await.map(|_| ())
    };
    let mut session = world.pool.acquire().await.expect("a session");
    let granted = format!("create role {role}; select backstitch.grant_to('{role}', 'worker')");
    run(&mut session, granted).await.expect("it is granted");
    let workflow = ask(&world, Resuming::of([])).await;

    world.migrate().await;
    let claims = async |session: &mut PgConnection| {
        run(session, format!("set role {role}")).await?;
        let registered =
            "select backstitch.register(gen_random_uuid(), 'host', 1, '0', '{k}', interval '1 hour')";
        let worker: i32 = sqlx::query_scalar(registered).fetch_one(&mut *session).await?;
        let mut claimed = Vec::new();
        let kind = Resuming::KIND;
        for bounds in ["", ", 64, 65536"] {
            let claim = format!(
                "select workflow_id from backstitch.claim({worker}, '{{default}}', '{{{kind}}}', 1, 1{bounds})"
            );
            let taken: Uuid = sqlx::query_scalar(AssertSqlSafe(claim)).fetch_one(&mut *session).await?;
            let epoch = i32::try_from(claimed.len()).expect("few") + 1;
            let park = format!("select backstitch.park({worker}, '{taken}', {epoch}, interval '0', '{{}}')");
            claimed.push(taken);
            run(session, park).await?;
        }
        run(session, format!("select backstitch.journal_page('{}', 0, 9, 9)", claimed[0])).await?;
        Ok::<_, sqlx::Error>(claimed)
    };
    let claimed = claims(&mut session).await;
    // It would outlive the database.
    run(&mut session, format!("reset role; drop owned by {role}; drop role {role}"))
        .await
        .expect("it is gone");
    assert_eq!(claimed.expect("nothing is refused"), [workflow.0; 2]);
}
