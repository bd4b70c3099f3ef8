//! What a worker is built from, and how it is started, waited for and stopped.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use backstitch_core::limits::NAME_BYTES_MAX;
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::database::Database;
use crate::error::Error;
use crate::life::{Plan, Shop};
use crate::lives::{self, Pulse};
use crate::migrate::check_migrated;
use crate::pages;
use crate::secret::{Secrets, keep_out_of_panics};
use crate::session;
use crate::settle::{self, Unsettled};
use crate::timing::Timing;
use crate::workflow::{Kind, Workflow};

/// How many workflows a worker drives at once, where nothing else is said. They wait on the network most of the time.
const CONCURRENCY: usize = 512;

/// How often [`Running::settle`] asks.
const SETTLE_LOOK: Duration = Duration::from_millis(100);

/// A worker in the making.
///
/// ```no_run
/// # use backstitch::*;
/// # #[derive(serde::Serialize, serde::Deserialize)] struct StartGateway;
/// # impl Workflow<Edge> for StartGateway {
/// #     const KIND: &'static str = "gateway.start";
/// #     const RECOVERY: Recovery = Recovery::Compensate;
/// #     type Output = ();
/// #     fn steps(_: &mut Steps<Edge>) {}
/// #     async fn run(self, _: &Flow<Edge>) -> Result<(), WorkflowError> { Ok(()) }
/// # }
/// # struct Edge;
/// # async fn start() -> Result<(), Error> {
/// let database = Database::connect("postgres://localhost/platform").await?;
/// migrate(&database).await?;
/// let worker = Worker::new(database, Edge).serve::<StartGateway>().concurrency(64).start().await?;
/// tokio::signal::ctrl_c().await.expect("signals can be listened for");
/// worker.shut_down().await;
/// # Ok(())
/// # }
/// ```
#[must_use = "a worker works only once it is started"]
pub struct Worker<S> {
    database: Database,
    services: S,
    kinds: HashMap<&'static str, Arc<Kind<S>>>,
    queues: Vec<String>,
    concurrency: usize,
    state_directory: Option<PathBuf>,
    timing: Timing,
    secrets: Secrets,
}

impl<S: Send + Sync + 'static> Worker<S> {
    /// A worker on this database that gives its steps these services.
    pub fn new(database: Database, services: S) -> Self {
        Self {
            database,
            services,
            kinds: HashMap::new(),
            queues: vec!["default".to_owned()],
            concurrency: CONCURRENCY,
            state_directory: None,
            timing: Timing::DEFAULT,
            secrets: Secrets::new(),
        }
    }

    /// Serves this kind of workflow.
    ///
    /// # Panics
    /// When the kind is served already, or its name or that of a step can't be one.
    pub fn serve<W: Workflow<S>>(mut self) -> Self {
        assert!(
            self.kinds.insert(W::KIND, Arc::new(Kind::of::<W>())).is_none(),
            "two workflows are called {:?}",
            W::KIND
        );
        self
    }

    /// Drives at most so many workflows at once. At least 1; 512 unless said.
    pub fn concurrency(self, workflows: usize) -> Self {
        Self { concurrency: workflows.max(1), ..self }
    }

    /// Takes from these queues. `default` unless said.
    pub fn queues(self, queues: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self { queues: queues.into_iter().map(Into::into).collect(), ..self }
    }

    /// Shows by a lock file in this directory that the process lives, so that whatever starts on this host after its
    /// death recovers at once instead of waiting for its lease. None unless said.
    pub fn state_directory(self, directory: impl Into<PathBuf>) -> Self {
        Self { state_directory: Some(directory.into()), ..self }
    }

    /// Uses these times instead of the default ones.
    pub fn timing(self, timing: Timing) -> Self {
        Self { timing, ..self }
    }

    /// Lets its attempts reveal secrets, by these keys and from these sources. None unless said.
    ///
    /// Once started, it also takes what is revealed out of what panics print: by a hook in front of the process's own. A hook
    /// that the program sets itself must be set before.
    pub fn secrets(self, secrets: Secrets) -> Self {
        Self { secrets, ..self }
    }

    /// Begins to work.
    ///
    /// # Errors
    /// When the database can't be reached, is not migrated to this version, or its sessions are set in a way that the
    /// journal does not survive; when the state directory can't be used; when a queue has no name, or the times can't be kept.
    pub async fn start(self) -> Result<Running, Error> {
        let Self { database, services, kinds, queues, concurrency, state_directory, timing, secrets } = self;
        let too_long = queues.iter().find(|queue| !(1..=NAME_BYTES_MAX).contains(&queue.len()));
        if let Some(queue) = too_long {
            return Err(Error::Refused(format!("a queue has 1 to {NAME_BYTES_MAX} bytes: {queue:?}")));
        }
        if let Some(fault) = timing.fault() {
            return Err(Error::Refused(format!("a worker can't keep these times: {fault}")));
        }
        let database = database.with_deadline(timing.database_deadline);
        check_migrated(&database).await?;
        session::check(&database).await?;
        let plan = Plan { queues, concurrency, state_directory };
        let mut names: Vec<_> = kinds.keys().map(|name| (*name).to_owned()).collect();
        names.sort_unstable();
        let transactions = Arc::new(Semaphore::new(database.transactions_max()));
        if !secrets.is_empty() {
            keep_out_of_panics();
        }
        let secrets = Arc::new(secrets);
        let pages = Semaphore::new(pages::AT_ONCE);
        let shop = Shop { services, kinds, database: database.clone(), timing, secrets, transactions, pages };
        let shop = Arc::new(shop);
        let (stop, pulse) = (CancellationToken::new(), Pulse::new());
        let birth = lives::begin(&shop, &plan).await?;
        let living = tokio::spawn(lives::live(shop, plan, birth, pulse.clone(), stop.clone()));
        Ok(Running { database, kinds: names, stop, pulse, living })
    }
}

/// A worker at work. Dropped, it goes on; see [`shut_down`](Self::shut_down).
#[derive(Debug)]
pub struct Running {
    database: Database,
    kinds: Vec<String>,
    stop: CancellationToken,
    pulse: Pulse,
    living: JoinHandle<()>,
}

impl Running {
    /// Stops in order: claims nothing more, gives running attempts their grace, hands everything back, and is gone.
    /// Nothing is charged, and others go on at once.
    pub async fn shut_down(self) {
        self.stop.cancel();
        if let Err(error) = self.living.await {
            tracing::error!(%error, "the worker ended with a panic");
        }
    }

    /// Whether it may begin effects, to be asked from elsewhere.
    #[must_use]
    pub fn pulse(&self) -> Pulse {
        self.pulse.clone()
    }

    /// What is left to do for workflows of the served kinds.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn unsettled(&self) -> Result<Unsettled, Error> {
        settle::unsettled(&self.database, self.kinds.clone()).await
    }

    /// Waits until nothing is due, running, or on its way back, but what waits for a person or a time to come.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn settle(&self) -> Result<Unsettled, Error> {
        loop {
            let unsettled = self.unsettled().await?;
            if unsettled.is_settled() {
                return Ok(unsettled);
            }
            tokio::time::sleep(SETTLE_LOOK).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn times_that_can_not_be_kept_are_refused_before_anything_begins() {
        let timing = Timing { recovery_look: Duration::ZERO, ..Timing::DEFAULT };
        let nowhere =
            Database::connect_lazily(sqlx::postgres::PgConnectOptions::new().host("nowhere.invalid"));
        let error = Worker::new(nowhere, ()).timing(timing).start().await.expect_err("it can't be kept");
        assert!(matches!(&error, Error::Refused(why) if why.contains("recovery_look")), "{error}");
    }
}
