//! Where does a test get its database?
//!
//! From one server that all tests of a user share and that stays when they are done ([`database`]); or, for a
//! test that kills and restarts Postgres, from a server of its own ([`private_cluster`]). Neither keeps
//! anything through a crash of the machine unless asked to. Most of it panics when it fails: a test has nothing
//! better to do. For what a full disk does there is [`SmallDisk`], also for others than Postgres.

mod small_disk;

use std::env;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use sqlx::PgPool;
use sqlx::postgres::PgPoolOptions;
use tokio::sync::OnceCell;

use crate::cluster::Cluster;
use crate::error::Error;
use crate::evidence;
use crate::modes::{Durability, Stop};
use crate::owner::{self, Owner};
use crate::pid_file;
use crate::running::Running;

pub use small_disk::SmallDisk;

/// Names a server to use in place of the shared one; its user must be allowed to make databases.
const OVERRIDE: &str = "BACKSTITCH_TEST_DATABASE_URL";

/// How the names of test databases start, before `<process>_<number>_<random>`.
const DATABASE: &str = "backstitch_test_";

/// How the names of private clusters' directories start, before `<process>-<random>`.
const PRIVATE: &str = "backstitch-private-postgres-";

/// What the directory of a private cluster is called over which a small disk is mounted.
const SMALL_DISK: &str = "small-disk";

/// Enough for a worker and for what a test looks at; many tests share the 200 of the server.
const POOL_CONNECTIONS_MAX: u32 = 10;

/// A database of one test, dropped with it.
#[derive(Debug)]
pub struct TestDatabase {
    /// How to connect to it.
    pub url: String,
    /// What it is called.
    pub name: String,
    /// The server it is in.
    pub server: Running,
}

/// A new, empty database in [`shared_cluster`]. What a killed test leaves behind, a later one drops.
///
/// ```no_run
/// # async fn example() {
/// let database = backstitch_postgres::test::database().await;
/// let pool = database.pool().await;
/// sqlx::query("select 1").execute(&pool).await.unwrap();
/// # }
/// ```
///
/// # Panics
/// If there is no server to be had, with the reason.
pub async fn database() -> TestDatabase {
    database_in(&shared_cluster().await).await
}

/// A new, empty database in a server of the test's choice.
///
/// # Panics
/// If the server does not make one, with the reason.
pub async fn database_in(server: &Running) -> TestDatabase {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let name =
        format!("{DATABASE}{}_{}_{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed), random());
    or_panic(server.ensure_database(&name).await);
    TestDatabase { url: server.url(&name), server: server.clone(), name }
}

impl TestDatabase {
    /// A new pool of up to 10 connections to it.
    ///
    /// # Panics
    /// If the server does not answer.
    pub async fn pool(&self) -> PgPool {
        let options = self.server.connect_options(&self.name);
        let pool = PgPoolOptions::new().max_connections(POOL_CONNECTIONS_MAX).connect_with(options).await;
        pool.unwrap_or_else(|error| panic!("connecting to {}: {error}", self.url))
    }
}

impl Drop for TestDatabase {
    /// Also with connections open. What cannot be dropped now is dropped by a later run.
    fn drop(&mut self) {
        let (server, name) = (self.server.clone(), self.name.clone());
        let evidence = evidence::wanted();
        on_a_thread(async move {
            if let Some(evidence) = evidence {
                evidence.count(&server, &name).await?;
            }
            server.drop_database(&name).await
        });
    }
}

/// The throwaway server all tests of this user share, started if need be; it stays.
///
/// It lies in `backstitch-test-postgres-<uid>` in the directory for temporary files, or, for root, in `/tmp`
/// if the user Postgres runs as cannot enter that one. `BACKSTITCH_TEST_DATABASE_URL` names another server to
/// use instead.
///
/// # Panics
/// If it cannot be started, with the reason.
pub async fn shared_cluster() -> Running {
    static SHARED: OnceCell<Running> = OnceCell::const_new();
    let started = SHARED.get_or_try_init(|| async {
        if let Some(url) = env::var(OVERRIDE).ok().filter(|url| !url.is_empty()) {
            return Running::elsewhere(&url);
        }
        let server = shared_directory_cluster().start().await?;
        sweep_databases(&server).await?;
        Ok(server)
    });
    or_panic(started.await).clone()
}

/// The cluster behind [`shared_cluster`], to look at it or to stop it.
#[must_use]
pub fn shared_directory_cluster() -> Cluster {
    let uid = rustix::process::geteuid().as_raw();
    Cluster::at(temporary().join(format!("backstitch-test-postgres-{uid}"))).durability(Durability::Throwaway)
}

/// A server of one test, to kill and to restart; it and its data go with it.
#[derive(Debug)]
pub struct PrivateCluster {
    /// What to start, stop and kill it by.
    pub cluster: Cluster,
    /// How to reach it; holds through restarts.
    pub server: Running,
}

/// A new server, running. Takes about a second.
///
/// # Panics
/// If it cannot be started, with the reason.
pub async fn private_cluster(durability: Durability) -> PrivateCluster {
    or_panic(try_private_cluster(durability).await)
}

/// As [`private_cluster`], for whoever has something better to do than to panic.
///
/// # Errors
/// As [`Cluster::start`].
pub async fn try_private_cluster(durability: Durability) -> Result<PrivateCluster, Error> {
    sweep_clusters().await;
    start_private(private_directory(), durability).await
}

/// As [`private_cluster`], all of it on a disk of `bytes` that may be full. Made, it takes some 60 MB.
///
/// # Panics
/// If it cannot be started, or this user may not mount, with the reason.
pub async fn private_cluster_on_small_disk(
    durability: Durability,
    bytes: u64,
) -> (SmallDisk, PrivateCluster) {
    sweep_clusters().await;
    let directory = private_directory();
    let mounted = std::fs::create_dir(&directory).and_then(|()| SmallDisk::mount(&directory, bytes));
    let disk = or_panic(mounted.map_err(Error::io("mounting a small disk over", &directory)));
    (disk, or_panic(start_private(directory, durability).await))
}

fn private_directory() -> PathBuf {
    temporary().join(format!("{PRIVATE}{}-{}", std::process::id(), random()))
}

async fn start_private(directory: PathBuf, durability: Durability) -> Result<PrivateCluster, Error> {
    let cluster = Cluster::at(directory).durability(durability);
    let server = cluster.start().await?;
    Ok(PrivateCluster { cluster, server })
}

impl PrivateCluster {
    /// A disk of `bytes` that may be full, for a part of what the server keeps, as a tablespace: where it is, and what
    /// it is. Goes at the latest with the server.
    ///
    /// # Errors
    /// When this user may not mount.
    pub fn small_disk(&self, bytes: u64) -> io::Result<(PathBuf, SmallDisk)> {
        let directory = self.cluster.directory().join(SMALL_DISK);
        let made = Owner::of(self.cluster.directory()).and_then(|owner| owner.make_directory(&directory));
        made.map_err(io::Error::other)?;
        let disk = SmallDisk::mount(&directory, bytes)?;
        Ok((directory, disk))
    }
}

impl Drop for PrivateCluster {
    fn drop(&mut self) {
        let cluster = self.cluster.clone();
        on_a_thread(async move { remove(&cluster).await });
    }
}

async fn remove(cluster: &Cluster) -> Result<(), Error> {
    cluster.stop(Stop::Immediate).await?;
    small_disk::unmount_below(cluster.directory());
    std::fs::remove_dir_all(cluster.directory()).map_err(Error::io("removing", cluster.directory()))
}

/// Drops the databases of tests that died. Several may do so at once.
async fn sweep_databases(server: &Running) -> Result<(), Error> {
    for name in server.databases(DATABASE).await? {
        if is_left_over(&name, DATABASE, '_') {
            server.drop_database(&name).await.ok(); // another may be at it
        }
    }
    Ok(())
}

/// Stops and removes the private clusters of tests that died.
async fn sweep_clusters() {
    for entry in std::fs::read_dir(temporary()).into_iter().flatten().flatten() {
        if is_left_over(&entry.file_name().to_string_lossy(), PRIVATE, '-') {
            remove(&Cluster::at(entry.path())).await.ok(); // may be someone else's
        }
    }
}

/// Whether a name carries the id of a process that is gone.
fn is_left_over(name: &str, prefix: &str, separator: char) -> bool {
    let process = name.strip_prefix(prefix).and_then(|rest| rest.split(separator).next());
    process.and_then(|process| process.parse().ok()).is_some_and(|process| !pid_file::exists(process))
}

/// Where temporary files may lie that the server has to get at.
fn temporary() -> PathBuf {
    let chosen = env::temp_dir();
    if owner::can_reach(&chosen) { chosen } else { Path::new("/tmp").to_owned() }
}

fn random() -> String {
    let mut random = uuid::Uuid::new_v4().simple().to_string();
    random.truncate(8);
    random
}

/// Runs it to its end wherever we are, also while a runtime of ours is being dropped or a test unwinds.
fn on_a_thread(work: impl Future<Output = Result<(), Error>> + Send + 'static) {
    let thread = std::thread::Builder::new().spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.map(|runtime| runtime.block_on(work))
    });
    // A test that fails has other threads that must not be held up: its databases are swept later.
    if let Some(thread) = thread.ok().filter(|_| !std::thread::panicking()) {
        match thread.join() {
            Ok(Ok(Ok(()))) => {}
            failed => tracing::warn!(?failed, "a test could not clean up; a later one will"),
        }
    }
}

/// With the whole chain of causes, which `unwrap` shows as a tree of braces.
fn or_panic<T>(result: Result<T, Error>) -> T {
    result.unwrap_or_else(|error| {
        let mut text = error.to_string();
        let mut source = std::error::Error::source(&error);
        while let Some(cause) = source {
            text.push_str(&format!(": {cause}"));
            source = cause.source();
        }
        panic!("{text}")
    })
}
