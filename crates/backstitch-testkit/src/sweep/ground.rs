//! How does a workflow fare that is hurt at one point, or nowhere?

use std::convert::Infallible;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use backstitch::{Answered, Client, Database, Status, Workflow, WorkflowId};
use sqlx::PgPool;
use tempfile::TempDir;
use tokio::sync::oneshot;

use super::point::{Hurt, Point, Way};
use super::process::{Failed, Launch, SweptWorker};
use super::world::World;
use crate::clock;
use crate::cut::{Held, Moment};
use crate::oracle;
use crate::violation::{Violated, Violation};
use crate::wait::PATIENCE;

/// A worker that has ended its workflow says nothing but that it lives: it has come to a boundary by then, or never does.
const HELD_WITHIN: Duration = Duration::from_secs(30);

/// Between two looks whether a workflow has ended, or waits.
const PAUSE: Duration = Duration::from_millis(5);

/// What a world that was hurt does late, it has done by then. Longer than the gateway's longest wait, 17 s, for its handshake.
const LATE_MAX: Duration = Duration::from_secs(20);

/// What was asked for, and how the world looked before.
struct Asked<W, L> {
    workflow: WorkflowId,
    input: W,
    before: L,
}

/// How a workflow ended, and how the world looked.
pub(super) struct Ended<L> {
    pub status: Status,
    pub before: L,
    pub after: L,
    /// How many boundaries the last worker came to.
    pub boundaries: u32,
    /// How many attempts did not succeed.
    pub failures: u32,
    /// What its journal is guilty of; and that it was not taken back, though somebody was told that it is cancelled.
    pub faults: Vec<Violation>,
}

/// Where a sweep takes place.
pub(super) struct Ground {
    launch: Launch,
    client: Client,
    pool: PgPool,
    state: TempDir,
    /// Whose cancel was accepted.
    cancelled: Mutex<Vec<WorkflowId>>,
}

impl Ground {
    /// In this database, whose clock is taken in hand.
    pub(super) async fn of(launch: Launch) -> Self {
        let engine = Database::connect_with(launch.server.clone()).await.expect("the test database answers");
        backstitch::migrate(&engine).await.expect("the migrations apply");
        let pool = engine.pool().clone();
        clock::take(&pool).await.expect("a sweep's database is its user's");
        let state = tempfile::tempdir().expect("a temporary directory");
        Self { launch, client: Client::new(engine), pool, state, cancelled: Mutex::default() }
    }

    /// A new workflow goes this way, and nothing hurts it.
    pub(super) async fn untouched<S, W: Workflow<S> + Clone, P: World<S, W>>(
        &self,
        world: &mut P,
        way: Way,
    ) -> Result<Ended<P::Look>, Failed> {
        let mut worker = self.spawn();
        let at_its_end = (way == Way::Back).then(|| worker.hold_its_end());
        let asked = self.ask::<S, W, P>(world).await;
        if let Some(at_its_end) = at_its_end {
            self.cancelled_at_its_end(&mut worker, asked.workflow, at_its_end).await?.pass();
        }
        self.ended(world, worker, asked, Duration::ZERO).await
    }

    /// A new workflow is hurt at this point.
    pub(super) async fn hurt_at<S, W: Workflow<S> + Clone, P: World<S, W>>(
        &self,
        world: &mut P,
        point: Point,
    ) -> Result<Ended<P::Look>, Failed> {
        let mut worker = self.spawn();
        let first = match point.way {
            Way::Forward => worker.hold(point.moment, point.boundary),
            Way::Back => worker.hold_its_end(),
        };
        let asked = self.ask::<S, W, P>(world).await;
        let workflow = asked.workflow;
        let held = match (point.way, point.boundary, point.moment) {
            (Way::Forward, ..) => self.held(&mut worker, workflow, first).await?,
            (Way::Back, 0, Moment::BeforeStatement) => {
                self.cancelled_at_its_end(&mut worker, workflow, first).await?
            }
            (Way::Back, 0, Moment::BeforeAnswer) => {
                let held = self.cancelled_at_its_end(&mut worker, workflow, first).await?;
                self.held(&mut worker, workflow, held.pass_to_its_answer()).await?
            }
            (Way::Back, boundary, moment) => {
                let held = self.cancelled_at_its_end(&mut worker, workflow, first).await?;
                let next = worker.hold(moment, boundary - 1);
                held.pass();
                self.held(&mut worker, workflow, next).await?
            }
        };
        let worker = self.hurt::<S, W, P>(world, worker, held, workflow, point.hurt).await?;
        let late = if matches!(point.hurt, Hurt::World(_)) { LATE_MAX } else { Duration::ZERO };
        self.ended(world, worker, asked, late).await
    }

    /// Does it, and says which worker goes on.
    async fn hurt<S, W: Workflow<S>, P: World<S, W>>(
        &self,
        world: &mut P,
        mut worker: SweptWorker,
        held: Held,
        workflow: WorkflowId,
        hurt: Hurt,
    ) -> Result<SweptWorker, Failed> {
        match hurt {
            Hurt::Cut => drop(held),
            Hurt::Cancelled => {
                self.cancel(workflow).await;
                held.pass();
            }
            Hurt::Killed => {
                worker.kill().await;
                drop(held);
                worker = self.spawn();
            }
            Hurt::KilledTwice => {
                worker.kill().await;
                drop(held);
                worker = self.spawn();
                let first = worker.hold(Moment::BeforeAnswer, 0);
                if let Some(held) = self.says_or_ends(&mut worker, workflow, Duration::ZERO, first).await? {
                    worker.kill().await;
                    drop(held);
                    worker = self.spawn();
                }
            }
            Hurt::World(fault) => {
                world.hurt(fault).await;
                // What begins here has ended when something is said again.
                let next = worker.hold(Moment::BeforeStatement, 0);
                held.pass();
                let said = self.says_or_ends(&mut worker, workflow, LATE_MAX, next).await;
                // Also where that was in vain: it is the same world.
                world.mend(fault).await;
                if let Some(held) = said? {
                    held.pass();
                }
            }
        }
        Ok(worker)
    }

    /// The workflow has ended, and this is how.
    async fn ended<S, W: Workflow<S>, P: World<S, W>>(
        &self,
        world: &mut P,
        mut worker: SweptWorker,
        asked: Asked<W, P::Look>,
        late: Duration,
    ) -> Result<Ended<P::Look>, Failed> {
        let Asked { workflow, input, before } = asked;
        let skipping = self.skip_waits(workflow, late);
        worker.until("the workflow ends", PATIENCE, self.ends(workflow), skipping).await?;
        let boundaries = worker.boundaries();
        let after = world.look(&input).await;
        // It may be the one that makes room.
        world.tidy(&input).await;
        worker.kill().await;
        let view = self.client.workflow(workflow).await.expect("it answers").expect("it is there");
        let attempts = self.client.attempts(workflow).await.expect("it answers");
        let failed = attempts.iter().filter(|attempt| attempt.outcome.as_deref() != Some("succeeded"));
        let mut faults = oracle::faults(&self.pool, None, None, workflow).await;
        if view.status != Status::Compensated && self.cancelled().contains(&workflow) {
            faults.push(Violated::CancelHolds.by(format!("it is {}", view.status)));
        }
        Ok(Ended {
            status: view.status,
            before,
            after,
            boundaries,
            failures: u32::try_from(failed.count()).expect("few"),
            faults,
        })
    }

    /// Somebody asks for a new workflow.
    async fn ask<S, W: Workflow<S> + Clone, P: World<S, W>>(&self, world: &mut P) -> Asked<W, P::Look> {
        let input = world.input().await;
        let before = world.look(&input).await;
        let handle = self.client.enqueue(input.clone()).send().await.expect("it is enqueued");
        Asked { workflow: handle.workflow, input, before }
    }

    /// Its last step has succeeded, it is about to say that it completes, and is cancelled.
    async fn cancelled_at_its_end(
        &self,
        worker: &mut SweptWorker,
        workflow: WorkflowId,
        at_its_end: oneshot::Receiver<Held>,
    ) -> Result<Held, Failed> {
        let held = self.held(worker, workflow, at_its_end).await?;
        self.cancel(workflow).await;
        Ok(held)
    }

    /// Refused once it has ended, or past its pivot: then it completes.
    async fn cancel(&self, workflow: WorkflowId) {
        let answered = self.client.cancel(workflow, "sweep", "to see it taken back").await;
        if answered.is_ok_and(|answered| answered == Answered::Accepted) {
            self.cancelled().push(workflow);
        }
    }

    fn cancelled(&self) -> MutexGuard<'_, Vec<WorkflowId>> {
        self.cancelled.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// It has come to that.
    async fn held(
        &self,
        worker: &mut SweptWorker,
        workflow: WorkflowId,
        held: oneshot::Receiver<Held>,
    ) -> Result<Held, Failed> {
        let skipping = self.skip_waits(workflow, Duration::ZERO);
        let held = worker.until("it comes to that", HELD_WITHIN, held, skipping).await?;
        Ok(held.expect("the line holds"))
    }

    /// What it says next, if it has not ended.
    async fn says_or_ends(
        &self,
        worker: &mut SweptWorker,
        workflow: WorkflowId,
        late: Duration,
        next: oneshot::Receiver<Held>,
    ) -> Result<Option<Held>, Failed> {
        let said = async {
            tokio::select! {
                Ok(held) = next => Some(held),
                // Nothing was left to say.
                () = self.ends(workflow) => None,
            }
        };
        worker.until("it says something, or ends", PATIENCE, said, self.skip_waits(workflow, late)).await
    }

    async fn ends(&self, workflow: WorkflowId) {
        loop {
            let view = self.client.workflow(workflow).await.expect("it answers").expect("it is there");
            if matches!(view.status, Status::Completed | Status::Compensated | Status::Abandoned) {
                return;
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Lets nobody wait for this workflow longer than that.
    async fn skip_waits(&self, workflow: WorkflowId, but_for: Duration) -> Infallible {
        loop {
            clock::skip_wait(&self.pool, workflow, but_for).await.expect("it answers");
            tokio::time::sleep(PAUSE).await;
        }
    }

    fn spawn(&self) -> SweptWorker {
        SweptWorker::spawn(&self.launch, self.state.path())
    }
}
