//! How many callers may keep a connection open at once, and who are they?

use std::sync::Arc;
use std::sync::atomic::AtomicI64;

use axum::http::StatusCode;
use prometheus_client::metrics::gauge::Gauge;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::metrics::Metrics;
use crate::refusal::Refusal;

/// How many callers wait or follow at once: nearly as many as there are connections, so that some are left to ask for
/// something else. All who wait share one connection to Postgres and one look; so do all who follow.
pub(crate) const OPEN_MAX: usize = 1_000;

/// In how many seconds it is worth asking again when too many wait, or the daemon stops.
pub(crate) const ASK_AGAIN_SECONDS: u32 = 1;

/// The places there are, of all who wait or follow through one daemon. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Places {
    free: Arc<Semaphore>,
    metrics: Metrics,
}

/// One of them. Free again when it is dropped.
#[derive(Debug)]
pub struct Taken {
    counted: Gauge<i64, AtomicI64>,
    _held: OwnedSemaphorePermit,
}

impl Places {
    /// All of them free, and counted there.
    #[must_use]
    pub fn new(metrics: Metrics) -> Self {
        Self { free: Arc::new(Semaphore::new(OPEN_MAX)), metrics }
    }

    /// For one who waits.
    ///
    /// # Errors
    /// The answer for the caller: all of them are taken.
    pub fn wait(&self) -> Result<Taken, Refusal> {
        self.take(self.metrics.open_waits())
    }

    /// For one who follows.
    pub(crate) fn follow(&self) -> Result<Taken, Refusal> {
        self.take(self.metrics.open_streams())
    }

    fn take(&self, counted: &Gauge<i64, AtomicI64>) -> Result<Taken, Refusal> {
        let held = Arc::clone(&self.free).try_acquire_owned().map_err(|_| {
            let why = format!("{OPEN_MAX} callers wait or follow already: ask again later");
            Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "too_many_waits", why)
                .retry_after(ASK_AGAIN_SECONDS)
        })?;
        counted.inc();
        Ok(Taken { counted: counted.clone(), _held: held })
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        self.counted.dec();
    }
}
