//! How callers wait for workflows, a thousand at the price of one: who waits, and when one look is taken for all.
//!
//! While anybody waits, one task of the client keeps a connection that hears when something has ended or needs a person.
//! It then asks once, for all who wait. Announcements are only hints: whoever misses one is told after the next poll.

use std::collections::HashMap;
use std::future::pending;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use backstitch_core::id::WorkflowId;
use sqlx::PgExecutor;
use sqlx::postgres::PgListener;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::{CancellationToken, DropGuard};
use uuid::Uuid;

use crate::database::Database;
use crate::error::Error;
use crate::outage::Outage;
use crate::timing::{LOOKS_SHARE, jittered};

/// Said when something has settled, while a session expects it.
const SETTLED: &str = "backstitch_settled";

/// The pauses after which it looks again, once listening began or something was announced: what ends just before the one,
/// or along with the other, is not announced, and its commit may be a few milliseconds away.
const PAUSES_SOON: [Duration; 3] =
    [Duration::from_millis(5), Duration::from_millis(20), Duration::from_millis(80)];

/// How long the connection is kept for the next who waits: to connect anew takes longer than many a workflow.
const LINGER: Duration = Duration::from_secs(2);

/// At most so often is listening tried. Between, polls go through the pool.
const LISTEN_AGAIN: Duration = Duration::from_secs(5);

/// Those who wait through one client and its clones. When it is dropped, nothing of it goes on.
#[derive(Debug)]
pub(crate) struct Waits {
    database: Database,
    poll: Duration,
    waiting: Arc<Waiting>,
    gone: DropGuard,
}

impl Waits {
    /// Of nobody yet.
    pub(crate) fn new(database: Database, poll: Duration) -> Self {
        let gone = CancellationToken::new().drop_guard();
        Self { database, poll, waiting: Arc::default(), gone }
    }

    /// Registers one who waits. To be followed by a look: what ended before is told to nobody.
    pub(crate) fn register(&self, workflow: WorkflowId) -> Waiter<'_> {
        let told = self.waiting.lock().of.entry(workflow).or_default().subscribe();
        Waiter { waits: self, workflow, told }
    }

    fn see_that_somebody_attends(&self) {
        if std::mem::replace(&mut self.waiting.lock().attended, true) {
            return;
        }
        let attendant = Attendant {
            database: self.database.clone(),
            poll: self.poll,
            waiting: Arc::clone(&self.waiting),
            listener: None,
            listen_at: Instant::now(),
            pauses_soon: PAUSES_SOON.into_iter(),
            outage: Outage::default(),
        };
        let gone = self.gone.token().clone();
        tokio::spawn(async move { gone.run_until_cancelled(attendant.attend()).await });
    }
}

/// One who waits, until it is dropped.
#[derive(Debug)]
pub(crate) struct Waiter<'a> {
    waits: &'a Waits,
    workflow: WorkflowId,
    /// Nothing is ever sent: it is told by the sender's being gone.
    told: watch::Receiver<()>,
}

impl Waiter<'_> {
    /// Until its workflow may have settled. Whoever is told looks for itself.
    pub(crate) async fn told(mut self) {
        self.waits.see_that_somebody_attends();
        let _ = self.told.changed().await;
    }
}

impl Drop for Waiter<'_> {
    fn drop(&mut self) {
        let mut waiting = self.waits.waiting.lock();
        // Once told, others may wait for the same workflow anew: those are not ours to remove.
        let told = self.told.has_changed().is_err();
        if !told && waiting.of.get(&self.workflow).is_some_and(|others| others.receiver_count() == 1) {
            waiting.of.remove(&self.workflow);
        }
    }
}

#[derive(Debug, Default)]
struct Waiting(Mutex<Registered>);

#[derive(Debug, Default)]
struct Registered {
    of: HashMap<WorkflowId, watch::Sender<()>>,
    /// A task looks for them.
    attended: bool,
}

impl Waiting {
    fn lock(&self) -> MutexGuard<'_, Registered> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn workflows(&self) -> Vec<Uuid> {
        self.lock().of.keys().map(|workflow| workflow.0).collect()
    }

    fn tell(&self, settled: Vec<Uuid>) {
        // Whoever wakes up does so when the lock is free.
        let told: Vec<_> = {
            let mut waiting = self.lock();
            settled.into_iter().filter_map(|workflow| waiting.of.remove(&WorkflowId(workflow))).collect()
        };
        drop(told);
    }

    fn tell_all(&self) {
        let told = std::mem::take(&mut self.lock().of);
        drop(told);
    }
}

/// Looks for all who wait.
struct Attendant {
    database: Database,
    poll: Duration,
    waiting: Arc<Waiting>,
    /// None: it could not be had, or was lost.
    listener: Option<PgListener>,
    listen_at: Instant,
    /// Until it may be looked for more rarely.
    pauses_soon: std::array::IntoIter<Duration, { PAUSES_SOON.len() }>,
    outage: Outage,
}

impl Attendant {
    /// Until nobody has waited for a while.
    async fn attend(mut self) {
        let mut wanted_at = Instant::now();
        while wanted_at.elapsed() < LINGER {
            let may_listen = self.listener.is_none() && self.database.has_sessions();
            if may_listen && Instant::now() >= self.listen_at {
                self.listen().await;
            }
            let began = Instant::now();
            let workflows = self.waiting.workflows();
            if !workflows.is_empty() {
                self.look(workflows).await;
                wanted_at = Instant::now();
            }
            let took = began.elapsed();
            let pause = self.pauses_soon.next().unwrap_or_else(|| jittered(self.poll));
            self.rest(took * (LOOKS_SHARE - 1), pause).await;
        }
    }

    async fn listen(&mut self) {
        self.listen_at = Instant::now() + LISTEN_AGAIN;
        match expecting(&self.database).await {
            Ok(listener) => {
                self.listener = Some(listener);
                self.pauses_soon = PAUSES_SOON.into_iter();
            }
            Err(error) => tracing::debug!(%error, "listening for ends failed, polling goes on"),
        }
    }

    async fn look(&mut self, workflows: Vec<Uuid>) {
        let doing = "looking for what has settled";
        let settled = match &mut self.listener {
            // Its own connection does not wait for those of whoever was told a moment ago.
            Some(listener) => self.database.within(doing, settled(listener, &workflows)).await,
            None => self.database.run(doing, async |connection| settled(connection, &workflows).await).await,
        };
        match settled {
            Ok(settled) => {
                self.outage.ends();
                self.waiting.tell(settled);
            }
            Err(error) => {
                let by_pool = self.listener.take().is_none();
                if self.outage.is_news() {
                    tracing::warn!(%error, "looking for ends failed, looking on");
                }
                // Nor can any of them look for itself: each asks, and is given the error.
                if by_pool && !error.is_transient() {
                    self.waiting.tell_all();
                }
            }
        }
    }

    /// Until something is announced, but for `least`; without that, for `pause`.
    async fn rest(&mut self, least: Duration, pause: Duration) {
        let earliest = Instant::now() + least;
        let mut next_look = Instant::now() + pause.max(least);
        loop {
            tokio::select! {
                () = sleep_until(next_look) => return,
                heard = heard(&mut self.listener) => {
                    next_look = next_look.min(earliest);
                    self.pauses_soon = PAUSES_SOON.into_iter();
                    if !heard {
                        self.listener = None;
                    }
                }
            }
        }
    }
}

impl Drop for Attendant {
    /// Also when its runtime ends, and some who wait are on another: they begin anew.
    fn drop(&mut self) {
        self.waiting.lock().attended = false;
        self.waiting.tell_all();
    }
}

/// Listens first, then expects announcements; whoever looks after that misses nothing.
async fn expecting(database: &Database) -> Result<PgListener, Error> {
    let mut listener = database.listener(&[SETTLED]).await?;
    let expected = sqlx::query!("select backstitch.expect_announcements()").execute(&mut listener);
    database.within("expecting announcements", expected).await?;
    Ok(listener)
}

/// False: the connection is lost, and the lock that it held with it.
async fn heard(listener: &mut Option<PgListener>) -> bool {
    match listener {
        Some(listener) => matches!(listener.try_recv().await, Ok(Some(_))),
        None => pending().await,
    }
}

async fn settled(executor: impl PgExecutor<'_>, workflows: &[Uuid]) -> sqlx::Result<Vec<Uuid>> {
    sqlx::query_scalar!(r#"select backstitch.settled($1) as "workflow!""#, workflows)
        .fetch_all(executor)
        .await
}

#[cfg(test)]
mod tests {
    use super::*;

    fn waits() -> Waits {
        Waits::new(Database::connect_lazily(sqlx::postgres::PgConnectOptions::new()), Duration::MAX)
    }

    fn workflow(number: u128) -> WorkflowId {
        WorkflowId(Uuid::from_u128(number))
    }

    #[tokio::test]
    async fn one_that_is_dropped_leaves_nothing_behind() {
        let waits = waits();
        let (first, second) = (waits.register(workflow(1)), waits.register(workflow(1)));
        drop(first);
        assert_eq!(waits.waiting.workflows(), [workflow(1).0], "another still waits");
        drop(second);
        assert_eq!(waits.waiting.workflows(), Vec::<Uuid>::new());
    }

    #[tokio::test]
    async fn one_that_was_told_leaves_alone_who_came_after() {
        let waits = waits();
        let told = waits.register(workflow(1));
        waits.waiting.tell(vec![workflow(1).0]);
        let after = waits.register(workflow(1));
        drop(told);
        assert_eq!(after.told.has_changed().ok(), Some(false), "it has not been told");
        assert_eq!(waits.waiting.workflows(), [workflow(1).0]);
    }

    #[tokio::test]
    async fn all_who_wait_for_the_same_are_told_and_no_other() {
        let waits = waits();
        let same = [waits.register(workflow(1)), waits.register(workflow(1))];
        let other = waits.register(workflow(2));
        waits.waiting.tell(vec![workflow(1).0]);
        assert!(same.iter().all(|waiter| waiter.told.has_changed().is_err()));
        assert!(other.told.has_changed().is_ok());
    }
}
