//! What is the process that a sweep kills: how is it started, and what does it do?

use std::convert::Infallible;
use std::env;
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use backstitch::{Database, Worker};
use sqlx::postgres::PgConnectOptions;
use tokio::process::{Child, Command};
use tokio::sync::oneshot;

use crate::cut::{Held, Line, Moment, Statement};
use crate::wait::until;
use crate::world::TIMING;

/// Says to a test program that it is the worker of a sweep: in which database.
const DATABASE: &str = "BACKSTITCH_SWEEP_DATABASE";
/// Where its lock file is: its death shows at once.
const STATE: &str = "BACKSTITCH_SWEEP_STATE";
/// What else it was given.
const GIVEN: &str = "BACKSTITCH_SWEEP_GIVEN";

/// Every write of a record and every commit of a step.
const BOUNDARY: [&str; 2] = ["backstitch.append", "COMMIT"];

/// What each worker of a sweep is started with.
#[derive(Debug)]
pub(super) struct Launch {
    pub url: String,
    pub server: PgConnectOptions,
    /// The test that is nothing but a worker.
    pub worker_test: &'static str,
    pub given: String,
}

/// Why it did not come to what was waited for.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failed {
    #[error(
        "the worker test {worker_test:?} ended by itself ({status}): is that its full name, module and all, and what does it say?"
    )]
    WorkerEnded { worker_test: &'static str, status: ExitStatus },
    #[error("waited {} s in vain until {what}", patience.as_secs())]
    InVain { what: &'static str, patience: Duration },
}

/// A worker process, and its line to Postgres. Killed when it is dropped.
pub(super) struct SweptWorker {
    child: Child,
    line: Line,
    worker_test: &'static str,
}

impl SweptWorker {
    pub(super) fn spawn(launch: &Launch, state: &Path) -> Self {
        let line = Line::to(&launch.server);
        let child = Command::new(env::current_exe().expect("a test program knows itself"))
            .args([launch.worker_test, "--exact", "--nocapture"])
            .env(DATABASE, line.url(&launch.url))
            .env(STATE, state)
            .env(GIVEN, &launch.given)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .expect("a test program can be started again");
        Self { child, line, worker_test: launch.worker_test }
    }

    /// Holds what it says at a boundary, whichever kind it is of: records and commits come one after the other.
    pub(super) fn hold(&self, moment: Moment, pass: u32) -> oneshot::Receiver<Held> {
        self.line.hold(moment, Statement { texts: BOUNDARY.to_vec(), carries: None }, pass)
    }

    /// Holds what it says when a workflow would complete.
    pub(super) fn hold_its_end(&self) -> oneshot::Receiver<Held> {
        let end = Statement { texts: vec!["backstitch.append"], carries: Some("completed") };
        self.line.hold(Moment::BeforeStatement, end, 0)
    }

    /// How many boundaries it came to.
    pub(super) fn boundaries(&self) -> u32 {
        let begun = BOUNDARY.iter().map(|text| self.line.begun(text)).sum::<u64>();
        u32::try_from(begun).expect("few")
    }

    /// Waits for a fact, as long as this worker lives; `meanwhile` is done beside it.
    pub(super) async fn until<T>(
        &mut self,
        what: &'static str,
        patience: Duration,
        fact: impl Future<Output = T>,
        meanwhile: impl Future<Output = Infallible>,
    ) -> Result<T, Failed> {
        tokio::select! {
            fact = fact => Ok(fact),
            status = self.child.wait() => {
                let status = status.expect("it can be waited for");
                Err(Failed::WorkerEnded { worker_test: self.worker_test, status })
            }
            () = tokio::time::sleep(patience) => Err(Failed::InVain { what, patience }),
            never = meanwhile => match never {},
        }
    }

    pub(super) async fn kill(mut self) {
        self.child.kill().await.expect("it can be killed");
    }
}

/// Does what a worker process of a sweep does, if this is one: for a test that is nothing else, and passes at once where it
/// is run with the others. `build` gets the database and what the sweep was [given](crate::sweep::Sweep::given), and says what
/// the worker is built of; its times are the sweep's.
///
/// # Panics
/// When the worker can't start.
pub async fn worker<S: Send + Sync + 'static>(build: impl AsyncFn(Database, String) -> Worker<S>) {
    let Ok(url) = env::var(DATABASE) else { return };
    let state = env::var_os(STATE).expect("a sweep says where lock files are");
    let _working = until("the worker starts", async || {
        let database = Database::connect(&url).await.expect("the database answers");
        let worker = build(database, env::var(GIVEN).unwrap_or_default()).await;
        match worker.timing(TIMING).state_directory(&state).start().await {
            // A Postgres that is busy with other tests.
            Err(error) if error.is_transient() => None,
            started => Some(started.expect("the worker starts")),
        }
    })
    .await;
    std::future::pending::<()>().await;
}
