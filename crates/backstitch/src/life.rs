//! What every workflow in flight shares: the worker's code and services, and the life of its process.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use backstitch_core::id::{Epoch, WorkflowId};
use tokio::sync::{Semaphore, watch};
use tokio_util::sync::CancellationToken;

use crate::appender::Appender;
use crate::claim::Hold;
use crate::database::{Database, Kept};
use crate::lease::Lease;
use crate::outage::Outage;
use crate::secret::Secrets;
use crate::timing::Timing;
use crate::watchdog::Watchdog;
use crate::workflow::Kind;

/// What a worker was built with.
pub(crate) struct Shop<S> {
    pub(crate) services: S,
    pub(crate) kinds: HashMap<&'static str, Arc<Kind<S>>>,
    pub(crate) database: Database,
    pub(crate) timing: Timing,
    pub(crate) secrets: Arc<Secrets>,
    /// One permit per transactional step at a time.
    pub(crate) transactions: Arc<Semaphore>,
    /// One permit per page of a long journal that is read at a time.
    pub(crate) pages: Semaphore,
}

/// What a worker wants to do, life after life.
pub(crate) struct Plan {
    pub(crate) queues: Vec<String>,
    pub(crate) concurrency: usize,
    pub(crate) state_directory: Option<PathBuf>,
}

/// One life: from registering an incarnation to its end.
pub(crate) struct Life {
    pub(crate) lease: Arc<Lease>,
    pub(crate) appender: Appender,
    /// The connection on which workflows are claimed, and a record goes that is alone.
    pub(crate) claims: Arc<tokio::sync::Mutex<Kept>>,
    pub(crate) watchdog: Watchdog,
    /// No attempt begins any more; what is held is handed back at its next boundary.
    pub(crate) draining: CancellationToken,
    /// The grace of a shutdown is over: running attempts are cut short.
    pub(crate) abort: CancellationToken,
    /// A suspect waits to be alone: what is in flight is handed back at its next boundary.
    pub(crate) makes_room: AtomicBool,
    /// A suspect is driven alone: nothing else is begun until it has left, or an outcome has cleared it.
    pub(crate) alone: watch::Sender<bool>,
    pub(crate) in_flight: Arc<InFlight>,
    /// That workflows can't be parked for now: hundreds are at once where a worker stops beside a database that is away. It never
    /// ends, for while one can be parked another may be kept by somebody.
    pub(crate) parking: Mutex<Outage>,
}

impl Life {
    /// Whether nothing begins any more, and what is held is let go of at its next boundary.
    pub(crate) fn lets_go(&self) -> bool {
        self.draining.is_cancelled() || self.makes_room.load(Ordering::Relaxed)
    }
}

/// The workflows in flight, each with the token by which its running attempt hears of a cancel.
#[derive(Default)]
pub(crate) struct InFlight(Mutex<HashMap<WorkflowId, (Epoch, CancellationToken)>>);

impl InFlight {
    /// None: it is in flight under this very claim. The server lost that one in a crash, and gave it again.
    pub(crate) fn enter(&self, hold: &Hold) -> Option<CancellationToken> {
        let token = CancellationToken::new();
        let mut in_flight = self.lock();
        if in_flight.get(&hold.workflow).is_some_and(|(epoch, _)| *epoch == hold.epoch) {
            return None;
        }
        in_flight.insert(hold.workflow, (hold.epoch, token.clone()));
        Some(token)
    }

    pub(crate) fn leave(&self, hold: &Hold) {
        let mut in_flight = self.lock();
        // Parked, it may have been claimed again before this: that one stays.
        if in_flight.get(&hold.workflow).is_some_and(|(epoch, _)| *epoch == hold.epoch) {
            in_flight.remove(&hold.workflow);
        }
    }

    pub(crate) fn workflows(&self) -> Vec<WorkflowId> {
        self.lock().keys().copied().collect()
    }

    /// Tells the running attempt, if the workflow is here.
    pub(crate) fn cancel(&self, workflow: WorkflowId) {
        if let Some((_, token)) = self.lock().get(&workflow) {
            token.cancel();
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<WorkflowId, (Epoch, CancellationToken)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
