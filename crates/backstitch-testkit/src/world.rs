//! Where a case takes place: a database for the journal, one for the ledger, workers here and in other processes.

use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::str::FromStr;
use std::time::Duration;

use backstitch::{Client, Database, Ending, Handle, Running, Status, Timing, Worker, Workflow, WorkflowId};
use backstitch_postgres::test::TestDatabase;
use rustix::process::{Pid, Signal, kill_process};
use sqlx::PgPool;
use sqlx::postgres::PgConnectOptions;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

use crate::cut::Line;
use crate::ledger::Ledger;
use crate::oracle;
use crate::script::{Compensating, Ground, Resuming};
use crate::wait::until;

/// Times of a tenth of a design's: a lease of a second and a half. Every relation between them is kept. Of workers that die, or
/// are cut off: what they hold is waited for.
pub const TIMING: Timing = Timing {
    lease: Duration::from_millis(1500),
    beat: Duration::from_millis(300),
    self_stop: Duration::from_millis(300),
    database_deadline: Duration::from_millis(1000),
    recovery_look: Duration::from_millis(100),
    poll: Duration::from_millis(50),
    shutdown_grace: Duration::from_millis(1500),
};

/// The same with a lease in which a busy machine can lose no time. Of workers in a test's own process: half of a lease in which its
/// runtime stands still would end that, and a panic takes a second of such a machine to tell its backtrace.
pub const UNHURRIED: Timing = Timing { lease: Duration::from_secs(4), ..TIMING };

/// A world of its own for each case.
#[derive(Debug)]
pub struct World {
    /// The journal's database.
    pub database: TestDatabase,
    ledger_database: TestDatabase,
    /// What really happened.
    pub ledger: Ledger,
    /// What happened in transactional steps: the ledger's twin in the journal's database.
    pub inner_ledger: Ledger,
    /// Asks for workflows.
    pub client: Client,
    /// The journal's database, for a test's own looks.
    pub pool: PgPool,
    /// For lock files and fuses.
    pub directory: tempfile::TempDir,
}

impl World {
    /// A world, migrated and empty.
    pub async fn new() -> Self {
        Self::over(backstitch_postgres::test::database().await).await
    }

    /// A world whose journal is in this database.
    pub async fn over(database: TestDatabase) -> Self {
        let world = Self::unmigrated(database).await;
        world.migrate().await;
        world
    }

    /// Brings the journal's database up to date.
    pub async fn migrate(&self) {
        backstitch::migrate(self.client.database()).await.expect("the migrations apply");
    }

    /// A world whose journal will be in this database, in which there is nothing yet.
    pub async fn unmigrated(database: TestDatabase) -> Self {
        let (ledger_database, _) = tokio::join!(backstitch_postgres::test::database(), log_to_stderr());
        let pool = database.pool().await;
        let engine = Database::connect(&database.url).await.expect("the test database answers");
        Self {
            ledger: Ledger::in_database(ledger_database.pool().await).await,
            inner_ledger: Ledger::in_database(pool.clone()).await,
            client: Client::new(engine),
            directory: tempfile::tempdir().expect("a temporary directory"),
            database,
            ledger_database,
            pool,
        }
    }

    /// The worker of this world, not yet started.
    pub async fn worker(&self) -> Worker<Ground> {
        let database = Database::connect(&self.database.url).await.expect("the test database answers");
        worker(database, self.ledger.clone()).timing(UNHURRIED)
    }

    /// A worker in this process.
    pub async fn start_worker(&self) -> Running {
        self.worker().await.start().await.expect("the worker starts")
    }

    /// A line to the journal's database.
    #[must_use]
    pub fn line(&self) -> Line {
        Line::to(&self.pool.connect_options())
    }

    /// A line to the ledger's database, and the URL that leads over it.
    #[must_use]
    pub fn line_to_the_ledger(&self) -> (Line, String) {
        let url = &self.ledger_database.url;
        let line = Line::to(&PgConnectOptions::from_str(url).expect("it is a URL"));
        let over_it = line.url(url);
        (line, over_it)
    }

    /// The journal's database, over this line.
    pub async fn database_over(&self, line: &Line) -> Database {
        let options = line.options((*self.pool.connect_options()).clone());
        Database::connect_with(options).await.expect("the database at the line's end answers")
    }

    /// The worker of this world that reaches the journal over this line, not yet started.
    pub async fn worker_over(&self, line: &Line) -> Worker<Ground> {
        worker(self.database_over(line).await, self.ledger.clone()).timing(UNHURRIED)
    }

    /// A worker in this process that soon loses its lease when this line is cut.
    pub async fn start_worker_over(&self, line: &Line) -> Running {
        self.worker_over(line).await.timing(TIMING).start().await.expect("the worker starts")
    }

    /// A worker in this process that shares the lock files: it sees at once when a process with one is gone.
    pub async fn start_worker_with_lock(&self) -> Running {
        let worker = self.worker().await.state_directory(self.state_directory());
        worker.start().await.expect("the worker starts")
    }

    /// A worker in a process of its own, without a lock file: its death shows only by its lease.
    pub async fn spawn_worker(&self, binary: &str) -> WorkerProcess {
        self.process(binary).spawn().await
    }

    /// A worker in a process of its own with a lock file: whoever shares its directory sees its death at once.
    pub async fn spawn_worker_with_lock(&self, binary: &str) -> WorkerProcess {
        self.process(binary).with_lock(&self.state_directory()).spawn().await
    }

    /// A worker in a process of its own, not yet spawned.
    #[must_use]
    pub fn process(&self, binary: &str) -> Spawn {
        let mut command = Command::new(binary);
        command
            .env("DATABASE_URL", &self.database.url)
            .env("LEDGER_URL", &self.ledger_database.url)
            .kill_on_drop(true)
            .stdout(Stdio::piped());
        Spawn { command }
    }

    /// Where lock files are.
    #[must_use]
    pub fn state_directory(&self) -> PathBuf {
        self.directory.path().join("state")
    }

    /// A fuse that is laid: the first function that reaches it dies.
    pub fn lay_fuse(&self, name: &str) -> PathBuf {
        let fuse = self.directory.path().join(name);
        std::fs::write(&fuse, "").expect("a fuse is laid");
        fuse
    }

    /// Asks for a scripted workflow.
    pub async fn enqueue<W: Workflow<Ground>>(&self, script: W) -> Handle<W::Output> {
        self.client.enqueue(script).send().await.expect("it is enqueued")
    }

    /// Waits until the workflow has ended, and holds the oracle's word over it.
    pub async fn ending<T: serde::de::DeserializeOwned>(&self, handle: &Handle<T>) -> Ending<T> {
        let ending =
            until("the workflow ends", async || self.client.poll(handle).await.expect("it answers")).await;
        self.assert_sound(handle.workflow).await;
        ending
    }

    /// Waits until the workflow completed.
    ///
    /// # Panics
    /// When it ends otherwise.
    pub async fn completes<T: serde::de::DeserializeOwned + std::fmt::Debug>(&self, handle: &Handle<T>) -> T {
        match self.ending(handle).await {
            Ending::Completed(output) => output,
            other => panic!("workflow {} should complete, it ends {other:?}", handle.workflow),
        }
    }

    /// Waits until the workflow is compensated, through needs_attention if need be.
    ///
    /// # Panics
    /// When it completes.
    pub async fn compensates<T>(&self, handle: &Handle<T>) -> backstitch::Unfinished {
        self.reaches(handle.workflow, Status::Compensated).await;
        self.assert_sound(handle.workflow).await;
        let view = self.client.workflow(handle.workflow).await.expect("it answers").expect("it exists");
        match view.ending::<serde_json::Value>().expect("readable") {
            Some(Ending::Compensated(unfinished)) => *unfinished,
            other => panic!("a compensated workflow ends {other:?}"),
        }
    }

    /// Waits until the workflow has this status.
    ///
    /// # Panics
    /// When it reaches another end.
    pub async fn reaches(&self, workflow: WorkflowId, status: Status) {
        until(&format!("workflow {workflow} is {status}"), async || {
            let view = self.client.workflow(workflow).await.expect("it answers").expect("it exists");
            let ended = matches!(view.status, Status::Completed | Status::Compensated);
            assert!(!ended || view.status == status, "workflow {workflow} should be {status}: {view:#?}");
            (view.status == status).then_some(())
        })
        .await;
    }

    /// Waits until a step left this mark.
    pub async fn marked(&self, mark: &str) {
        until(&format!("{mark:?} is marked"), async || self.ledger.is_marked(mark).await.then_some(())).await;
    }

    /// Holds the oracle's word over a workflow.
    ///
    /// # Panics
    /// When an invariant does not hold.
    pub async fn assert_sound(&self, workflow: WorkflowId) {
        let faults = oracle::faults(&self.pool, Some(&self.ledger), Some(&self.inner_ledger), workflow).await;
        assert!(faults.is_empty(), "workflow {workflow}: {faults:#?}");
    }
}

/// The worker of scripted workflows whose effects are rows of this ledger.
pub fn worker(database: Database, ledger: Ledger) -> Worker<Ground> {
    worker_on(database, Ground { ledger, recorder: None })
}

/// The worker of scripted workflows that make their effects on this ground.
pub fn worker_on(database: Database, ground: Ground) -> Worker<Ground> {
    Worker::new(database, ground).serve::<Compensating>().serve::<Resuming>().timing(TIMING)
}

/// A worker process about to be spawned.
#[derive(Debug)]
pub struct Spawn {
    command: Command,
}

impl Spawn {
    /// With its lock file in this directory.
    #[must_use]
    pub fn with_lock(mut self, state_directory: &Path) -> Self {
        self.command.env("STATE_DIRECTORY", state_directory);
        self
    }

    /// It drives one workflow at a time, so that its death is the death of one.
    #[must_use]
    pub fn one_at_a_time(mut self) -> Self {
        self.command.env("CONCURRENCY", "1");
        self
    }

    /// It logs what passes this filter to the end of this file.
    #[must_use]
    pub fn log_to(mut self, file: &Path, filter: &str) -> Self {
        let file = std::fs::OpenOptions::new().create(true).append(true).open(file);
        self.command.env("RUST_LOG", filter).env("NO_COLOR", "1").stderr(file.expect("a log file"));
        self
    }

    /// With this variable in its environment.
    #[must_use]
    pub fn variable(mut self, name: &str, value: impl AsRef<std::ffi::OsStr>) -> Self {
        self.command.env(name, value);
        self
    }

    /// Spawns it, and waits until it works.
    pub async fn spawn(mut self) -> WorkerProcess {
        let mut child = self.command.spawn().expect("the worker's binary runs");
        let stdout = child.stdout.take().expect("piped");
        let line = BufReader::new(stdout).lines().next_line().await.expect("it speaks");
        assert_eq!(line.as_deref(), Some("working"), "the worker process starts");
        WorkerProcess { child }
    }
}

/// A worker in a process of its own. Killed when it is dropped.
#[derive(Debug)]
pub struct WorkerProcess {
    child: Child,
}

impl WorkerProcess {
    /// Its process id.
    ///
    /// # Panics
    /// When it has been waited for.
    #[must_use]
    pub fn pid(&self) -> i32 {
        i32::try_from(self.child.id().expect("it has not been waited for")).expect("a pid")
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_raw(self.pid()).expect("not 0"), signal).expect("it can be signalled");
    }

    /// SIGKILL, and waits until it is gone.
    pub async fn kill(mut self) {
        self.signal(Signal::KILL);
        self.child.wait().await.expect("it can be waited for");
    }

    /// Waits until it is gone, and was killed: not by an abort of its own.
    ///
    /// # Panics
    /// When it ended otherwise.
    pub async fn killed(mut self) {
        let status = self.ended().await;
        assert_eq!(status.signal(), Some(Signal::KILL.as_raw()), "the worker process ends with {status}");
    }

    /// Waits until it is gone, and says whether by itself and in order.
    pub async fn gone(&mut self) -> bool {
        self.ended().await.success()
    }

    /// Waits until it is gone, and says how.
    pub async fn ended(&mut self) -> ExitStatus {
        until("the worker process is gone", async || self.child.try_wait().expect("it can be asked")).await
    }
}

async fn log_to_stderr() {
    // RUST_LOG=backstitch=debug shows a case's story; nothing is shown otherwise.
    let filter = tracing_subscriber::EnvFilter::from_default_env();
    let _ = tracing_subscriber::fmt().with_env_filter(filter).with_test_writer().try_init();
}
