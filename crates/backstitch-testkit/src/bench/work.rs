//! What work is measured?

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use backstitch::{
    Attempt, Backward, Compensate, Conduct, Database, Flow, LateEffects, Outcome, Recovery, Step, StepError,
    Steps, Worker, Workflow, WorkflowError, WorkflowId,
};
use serde::{Deserialize, Serialize};
use tokio::sync::{Notify, mpsc, watch};
use uuid::Uuid;

use super::error::Error;

/// How many steps a workflow has.
const STEPS: u8 = 5;

/// At which of them one waits that is to be in flight: the journal has something in it by then.
const WAITS_AT: u8 = 2;

/// What a step answers with: 100 bytes as JSON, a handle and a name or two.
const OUTPUT_BYTES: usize = 98;

/// How long a worker may do nothing before it is said to be stuck: several leases.
const STUCK_AFTER: Duration = Duration::from_secs(60);

/// The steps count themselves here, so nobody has to ask the database while it is busy.
#[derive(Debug, Clone)]
pub(super) struct Tally(Arc<Counts>);

#[derive(Debug)]
struct Counts {
    waiting: AtomicU64,
    last_ones: AtomicU64,
    wanted: AtomicU64,
    last: Mutex<Option<WorkflowId>>,
    all: Notify,
    open: watch::Sender<bool>,
    begins: Option<mpsc::UnboundedSender<(WorkflowId, Instant)>>,
}

impl Tally {
    /// Counts. Steps that wait do so until [`open`](Self::open).
    pub(super) fn new() -> Self {
        Self::telling(None)
    }

    /// Tells of each first step that begins.
    pub(super) fn telling(begins: Option<mpsc::UnboundedSender<(WorkflowId, Instant)>>) -> Self {
        Self(Arc::new(Counts {
            waiting: AtomicU64::new(0),
            last_ones: AtomicU64::new(0),
            wanted: AtomicU64::new(u64::MAX),
            last: Mutex::new(None),
            all: Notify::new(),
            open: watch::Sender::new(false),
            begins,
        }))
    }

    /// Steps wait no longer.
    pub(super) fn open(&self) {
        self.0.open.send_replace(true);
    }

    /// How many steps wait, or have waited.
    pub(super) fn waiting(&self) -> u64 {
        self.0.waiting.load(Ordering::Relaxed)
    }

    /// How many workflows have run the last code that they need: the last step, or the first one's compensation.
    pub(super) fn last_ones(&self) -> u64 {
        self.0.last_ones.load(Ordering::SeqCst)
    }

    /// Waits until so many have, counted from when the tally was made, and says which was the last.
    pub(super) async fn all(&self, wanted: u64) -> Result<Option<WorkflowId>, Error> {
        self.0.wanted.store(wanted, Ordering::SeqCst);
        let mut before = self.last_ones();
        while self.last_ones() < wanted {
            // A permit is kept for whoever comes late.
            if tokio::time::timeout(STUCK_AFTER, self.0.all.notified()).await.is_ok() {
                continue;
            }
            let now = self.last_ones();
            if now == before {
                let after = STUCK_AFTER.as_secs();
                return Err(Error::Run(format!(
                    "{now} of {wanted} workflows ran, and no more for {after} s"
                )));
            }
            before = now;
        }
        Ok(*self.0.last.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn begins(&self, attempt: &Attempt) {
        if let Some(begins) = &self.0.begins {
            let _ = begins.send((attempt.workflow(), Instant::now()));
        }
    }

    fn ran_last(&self, attempt: &Attempt) {
        let now = self.0.last_ones.fetch_add(1, Ordering::SeqCst) + 1;
        if now >= self.0.wanted.load(Ordering::SeqCst) {
            *self.0.last.lock().unwrap_or_else(PoisonError::into_inner) = Some(attempt.workflow());
            self.0.all.notify_one();
        }
    }

    async fn waits(&self) {
        self.0.waiting.fetch_add(1, Ordering::Relaxed);
        // The sender lives as long as we do.
        let _ = self.0.open.subscribe().wait_for(|open| *open).await;
    }
}

/// A worker of all kinds of this file.
pub(super) fn worker(database: Database, tally: Tally) -> Worker<Tally> {
    Worker::new(database, tally)
        .serve::<Completing>()
        .serve::<Failing>()
        .serve::<TakenBack>()
        .serve::<Resumed>()
}

/// A worker that takes nothing, but knows whether all of these kinds is settled.
pub(super) fn looker(database: Database) -> Worker<Tally> {
    worker(database, Tally::new()).queues(["nobody"])
}

/// A worker of a kind that nobody asks for: it listens, and finds nothing.
pub(super) fn worker_of_nothing(database: Database) -> Worker<Tally> {
    Worker::new(database, Tally::new()).serve::<Never>()
}

/// What can be made many of.
pub(super) trait Made: Workflow<Tally> {
    /// One of its own input.
    fn make() -> Self;
}

macro_rules! kinds {
    ($($(#[$doc:meta])* $kind:ident, $name:literal, $recovery:ident, $run:expr;)*) => {$(
        $(#[$doc])*
        #[derive(Debug, Serialize, Deserialize)]
        pub(super) struct $kind {
            order: Uuid,
        }

        impl Made for $kind {
            fn make() -> Self {
                Self { order: Uuid::new_v4() }
            }
        }

        impl Workflow<Tally> for $kind {
            const KIND: &'static str = $name;
            const RECOVERY: Recovery = Recovery::$recovery;
            type Output = ();

            fn steps(steps: &mut Steps<Tally>) {
                steps.step::<Effect>().step::<LongEffect>();
            }

            async fn run(self, flow: &Flow<Tally>) -> Result<(), WorkflowError> {
                $run(self.order, flow).await
            }
        }
    )*};
}

kinds! {
    /// Completes.
    Completing, "bench.completing", Compensate, completes;
    /// Its last step fails, so all five are compensated.
    Failing, "bench.failing", Compensate, fails;
    /// Waits in a step; when its worker dies it is taken back.
    TakenBack, "bench.taken_back", Compensate, waits;
    /// Waits in a step; when its worker dies another goes on.
    Resumed, "bench.resumed", Resume, waits;
    /// Is never asked for.
    Never, "bench.never", Compensate, completes;
}

async fn completes(order: Uuid, flow: &Flow<Tally>) -> Result<(), WorkflowError> {
    for place in 0..STEPS {
        flow.step(Effect { order, place, fails: false }).await?;
    }
    Ok(())
}

async fn fails(order: Uuid, flow: &Flow<Tally>) -> Result<(), WorkflowError> {
    for place in 0..STEPS {
        flow.step(Effect { order, place, fails: place == STEPS - 1 }).await?;
    }
    Ok(())
}

async fn waits(order: Uuid, flow: &Flow<Tally>) -> Result<(), WorkflowError> {
    for place in 0..STEPS {
        if place == WAITS_AT {
            flow.step(LongEffect { order }).await?;
        } else {
            flow.step(Effect { order, place, fails: false }).await?;
        }
    }
    Ok(())
}

/// Does nothing, at once.
#[derive(Debug, Serialize, Deserialize)]
struct Effect {
    order: Uuid,
    place: u8,
    fails: bool,
}

impl Step<Tally> for Effect {
    const NAME: &'static str = "effect";
    const BACKWARD: Backward<Self, Tally> = Backward::after_all_later();
    const CONDUCT: Conduct = Conduct { late_effects: LateEffects::Refused, ..Conduct::DEFAULT };
    type Output = String;

    async fn run(&self, tally: &Tally, attempt: &Attempt) -> Result<String, StepError> {
        if self.place == 0 {
            tally.begins(attempt);
        }
        if self.fails {
            return Err(StepError::fail("out_of_stock", "the last step of this workflow always fails"));
        }
        if self.place == STEPS - 1 {
            tally.ran_last(attempt);
        }
        Ok("o".repeat(OUTPUT_BYTES))
    }
}

impl Compensate<Tally> for Effect {
    async fn compensate(
        &self,
        tally: &Tally,
        attempt: &Attempt,
        _: Outcome<String>,
    ) -> Result<(), StepError> {
        if self.place == 0 {
            tally.ran_last(attempt);
        }
        Ok(())
    }
}

/// Waits for something outside.
#[derive(Debug, Serialize, Deserialize)]
struct LongEffect {
    order: Uuid,
}

impl Step<Tally> for LongEffect {
    const NAME: &'static str = "long-effect";
    const BACKWARD: Backward<Self, Tally> = Backward::after_all_later();
    const CONDUCT: Conduct = Conduct {
        // Longer than any measurement.
        timeout: Duration::from_secs(60 * 60),
        late_effects: LateEffects::Refused,
        ..Conduct::DEFAULT
    };
    type Output = String;

    async fn run(&self, tally: &Tally, _: &Attempt) -> Result<String, StepError> {
        tally.waits().await;
        Ok("o".repeat(OUTPUT_BYTES))
    }
}

impl Compensate<Tally> for LongEffect {
    async fn compensate(&self, _: &Tally, _: &Attempt, _: Outcome<String>) -> Result<(), StepError> {
        Ok(())
    }
}
