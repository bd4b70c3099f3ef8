//! A Postgres whose disk is full: what is not acknowledged did not happen, what is goes on when there is room again.

use backstitch::{Client, Database, Ending, Error, Handle};
use backstitch_postgres::test::{PrivateCluster, SmallDisk, private_cluster_on_small_disk};
use backstitch_postgres::{Durability, Status};
use backstitch_testkit::cut::Line;
use backstitch_testkit::script::{Act, Do, Manner, Resuming};
use backstitch_testkit::wait::until;
use backstitch_testkit::world::{WorkerProcess, World};

use crate::WORKER;
use crate::facts::{effects, incarnations};

/// The server with its databases, and as much again.
const DISK_BYTES: u64 = 256 * 1024 * 1024;

/// What Postgres says where there is no room (SQLSTATE).
const DISK_FULL: &str = "53100";

/// So many enqueues are refused before there is room again.
const REFUSED_MIN: usize = 50;

/// A world whose disk is full, whose worker has heard so, and what was acknowledged before and meanwhile. Dropped in this order.
struct Full {
    worker: WorkerProcess,
    _line: Line,
    acknowledged: Vec<Handle<Vec<Option<u32>>>>,
    /// Also acknowledged, and with a step whose own statement is refused where there is no room: as often as its attempts last.
    transacting: Vec<Handle<Vec<Option<u32>>>>,
    world: World,
    private: PrivateCluster,
    disk: SmallDisk,
}

async fn full() -> Full {
    // Only the server dies, never the machine: what it wrote is there again.
    let (disk, private) = private_cluster_on_small_disk(Durability::Throwaway, DISK_BYTES).await;
    let world = World::over(backstitch_postgres::test::database_in(&private.server).await).await;
    let line = world.line();
    let url = line.url(&world.database.url);
    let worker = world.process(WORKER).variable("DATABASE_URL", url).spawn().await;
    let (mut acknowledged, mut transacting) = (Vec::new(), Vec::new());
    // Under way when the disk is full: their outcomes are to be written then.
    for number in 0..20 {
        let mark = number.to_string();
        let held = Act::new().run([Do::Effect, Do::Mark(mark.clone()), Do::Wait("full".to_owned())]);
        acknowledged
            .push(world.enqueue(Resuming::of([Act::new(), held.manner(Manner::Long), Act::new()])).await);
        world.marked(&mark).await;
    }
    disk.fill().expect("it can be filled");
    world.ledger.open("full").await;
    let mut refused = 0;
    until("enqueues and the worker's writes are refused", async || {
        for (manner, acknowledged) in
            [(Manner::Dependent, &mut acknowledged), (Manner::Transactional, &mut transacting)]
        {
            let script = Resuming::of([Act::new(), Act::new().manner(manner), Act::new()]);
            match world.client.enqueue(script).send().await {
                Ok(handle) => acknowledged.push(handle),
                Err(error) => {
                    assert!(error.is_transient(), "it may be gone by itself later: {error}");
                    refused += usize::from(says(&error, DISK_FULL));
                }
            }
        }
        (refused >= REFUSED_MIN && line.refused(DISK_FULL) > 0).then_some(())
    })
    .await;
    Full { worker, _line: line, acknowledged, transacting, world, private, disk }
}

fn says(error: &Error, code: &str) -> bool {
    let Error::Database { source: sqlx::Error::Database(said), .. } = error else { return false };
    said.code().as_deref() == Some(code)
}

/// Everything acknowledged completes, each effect once, by the same life of the worker, or is taken back for its own
/// statement's sake; whatever else there is ends too.
async fn ends_cleanly(mut full: Full) {
    let world = &mut full.world;
    world.client = Client::new(Database::connect(&world.database.url).await.expect("it answers again"));
    for handle in &full.acknowledged {
        let steps = world.completes(handle).await.len();
        for position in 0..u32::try_from(steps).expect("few") {
            assert_eq!(effects(world, handle.workflow, position).await.1, 0, "nothing is taken back");
        }
    }
    for handle in &full.transacting {
        let ending = world.ending(handle).await;
        assert!(matches!(ending, Ending::Completed(_) | Ending::Compensated(_)), "{ending:?}");
    }
    until("what nobody promised has ended too", async || {
        let live: i64 =
            sqlx::query_scalar("select count(*) from backstitch.ready").fetch_one(&world.pool).await.ok()?;
        (live == 0).then_some(())
    })
    .await;
    assert_eq!(incarnations(world).await.len(), 1, "it is the same life");
    full.worker.kill().await;
}

#[tokio::test]
async fn disk_full_is_an_error_not_a_loss() {
    let full = full().await;
    let before = full.private.cluster.postmaster_pid().expect("it can be asked");
    full.disk.make_room().expect("there is room");
    assert_eq!(full.private.cluster.postmaster_pid().expect("it can be asked"), before, "Postgres lives");
    ends_cleanly(full).await;
}

/// Where Postgres can't write its log of changes it ends itself, and can't come back before there is room.
#[tokio::test]
async fn no_room_for_the_log_of_changes_is_an_outage_not_a_loss() {
    let full = full().await;
    until("Postgres is down", async || {
        let begin_a_file = "select pg_switch_wal() from (select pg_logical_emit_message(true, '', 'x')) _";
        let _ = sqlx::query(begin_a_file).execute(&full.world.pool).await;
        let status = full.private.cluster.status().await.expect("it can be asked");
        matches!(status, Status::Stopped { .. }).then_some(())
    })
    .await;
    full.private.cluster.start().await.expect_err("there is no room to recover in");
    full.disk.make_room().expect("there is room");
    full.private.cluster.start().await.expect("it starts");
    ends_cleanly(full).await;
}
