//! When a process that can't keep its word ends itself: dead, it is buried and its work goes on; half alive, it could
//! still have effects that nobody accounts for.

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use backstitch_core::id::{IdempotencyKey, WorkflowId};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::error::Error;

/// How far an attempt may outlive its timeout: it is dropped at its next await, unless it blocks its thread. Longer than
/// any sane poll of a future, shorter than the default lease.
const ATTEMPT_OVERRUN: Duration = Duration::from_secs(5);

/// In one silence that is too long the runtime would have said so often that it runs, and the watchdog looks as often.
const TICKS_IN_A_SILENCE: u32 = 10;

/// Between two looks of the watchdog, so many of its own ticks mean that the whole process stood still.
const TICKS_STOOD_STILL: u32 = 4;

/// Watches from a thread of its own, which a blocked runtime can't hold up.
#[derive(Clone)]
pub(crate) struct Watchdog {
    watched: Arc<Watched>,
    _ends_with_the_last: Arc<DropGuard>,
}

struct Watched {
    began: Instant,
    ticked_ms: AtomicU64,
    under_way: Mutex<HashMap<u64, (Instant, What)>>,
    next: AtomicU64,
}

/// What may block its thread. Put into words only when it does.
#[derive(Debug, Clone, Copy)]
pub(crate) enum What {
    /// A step's code.
    Attempt(IdempotencyKey),
    /// A workflow's function.
    Function(WorkflowId),
}

impl fmt::Display for What {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Attempt(key) => write!(f, "attempt {key}"),
            Self::Function(workflow) => write!(f, "the function of workflow {workflow}"),
        }
    }
}

/// Something is under way, until this is dropped.
pub(crate) struct Watching<'a> {
    watched: &'a Watched,
    id: u64,
}

impl Watchdog {
    /// Watches until the last clone of it is dropped. `runtime_silence_max`: how long the runtime may not have ticked.
    pub(crate) fn start(runtime_silence_max: Duration) -> Result<Self, Error> {
        let watched = Arc::new(Watched {
            began: Instant::now(),
            ticked_ms: AtomicU64::new(0),
            under_way: Mutex::default(),
            next: AtomicU64::new(0),
        });
        let tick = runtime_silence_max / TICKS_IN_A_SILENCE;
        let end = CancellationToken::new();
        let (ticking, ended) = (Arc::clone(&watched), end.clone());
        tokio::spawn(async move {
            while !ended.is_cancelled() {
                ticking.tick();
                tokio::time::sleep(tick).await;
            }
        });
        let (seen, ended) = (Arc::clone(&watched), end.clone());
        thread::Builder::new()
            .name("backstitch-watchdog".to_owned())
            .spawn(move || {
                let mut looked = Instant::now();
                while !ended.is_cancelled() {
                    thread::sleep(tick);
                    // After a SIGSTOP, or on a machine that slept, everything was silent: judge from here on.
                    let stood_still = looked.elapsed() > tick * TICKS_STOOD_STILL;
                    looked = Instant::now();
                    if stood_still {
                        seen.tick();
                    } else if let Some(fault) = seen.fault(runtime_silence_max)
                        && !ended.is_cancelled()
                    {
                        tracing::error!(fault, "ending this process: its work is taken over");
                        eprintln!("backstitch: {fault}; ending this process, its work is taken over");
                        std::process::abort();
                    }
                }
            })
            .map_err(Error::Thread)?;
        Ok(Self { watched, _ends_with_the_last: Arc::new(end.drop_guard()) })
    }

    /// Something begins that must have ended after `timeout`.
    pub(crate) fn watch(&self, what: What, timeout: Duration) -> Watching<'_> {
        let id = self.watched.next.fetch_add(1, Ordering::Relaxed);
        let overdue_at = Instant::now() + timeout + ATTEMPT_OVERRUN;
        self.watched.lock().insert(id, (overdue_at, what));
        Watching { watched: &self.watched, id }
    }
}

impl Watched {
    fn tick(&self) {
        let elapsed = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.ticked_ms.store(elapsed, Ordering::Relaxed);
    }

    fn fault(&self, runtime_silence_max: Duration) -> Option<String> {
        let ticked = Duration::from_millis(self.ticked_ms.load(Ordering::Relaxed));
        let silence = self.began.elapsed().saturating_sub(ticked);
        if silence > runtime_silence_max {
            return Some(format!(
                "the runtime has not run for {:.1} s (a step blocks its threads)",
                silence.as_secs_f64()
            ));
        }
        let now = Instant::now();
        let under_way = self.lock();
        let overdue = under_way.values().find(|(overdue_at, _)| *overdue_at < now);
        overdue.map(|(_, what)| format!("{what} outlived its timeout (it blocks its thread)"))
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<u64, (Instant, What)>> {
        self.under_way.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Watching<'_> {
    fn drop(&mut self) {
        self.watched.lock().remove(&self.id);
    }
}
