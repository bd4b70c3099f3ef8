//! When a process that can't keep its word ends itself: dead, it is buried and its work goes on; half alive, it could
//! still have effects that nobody accounts for, or keep workflows that it does not drive.

use std::collections::HashMap;
use std::io::{self, Write as _};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use backstitch_core::id::{IdempotencyKey, WorkflowId};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::error::Error;

/// How far what has a timeout may outlive it: it is dropped at its next await, unless it blocks its thread. Longer than any
/// sane poll of a future, shorter than the default lease.
const OVERRUN: Duration = Duration::from_secs(5);

/// In one silence that is too long a runtime would have said so often that it runs, and the watchdog looks as often.
const TICKS_IN_A_SILENCE: u32 = 10;

/// Between two looks of the watchdog, so many of its own ticks mean that the whole process stood still.
const TICKS_STOOD_STILL: u32 = 4;

/// How long the last words may take. Whoever should hear them may be what blocks everything: a log that nobody reads.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// Watches from a thread of its own, which a blocked runtime can't hold up.
#[derive(Clone)]
pub(crate) struct Watchdog {
    watched: Arc<Watched>,
    silence_max: Duration,
    end: CancellationToken,
    _ends_with_the_last: Arc<DropGuard>,
}

/// What may block its thread. Put into words only when it does.
#[derive(Debug, Clone, Copy)]
pub(crate) enum What {
    /// The runtime on which steps run.
    Runtime,
    /// The appender's own runtime, of one thread.
    Appender,
    /// The heartbeat's, of one thread, too.
    Heartbeat,
    /// A step's code.
    Attempt(IdempotencyKey),
    /// A workflow's function.
    Function(WorkflowId),
    /// A workflow's record that is written without the appender's thread.
    Append(WorkflowId),
}

impl What {
    /// What is wrong when it has lasted for so long.
    fn fault(self, lasted: Duration) -> String {
        let lasted = lasted.as_secs_f64();
        match self {
            Self::Runtime => {
                format!(
                    "the runtime has not run for {lasted:.1} s (its threads are blocked, by a step or a log that nobody reads)"
                )
            }
            Self::Appender => format!(
                "the appender's thread has not run for {lasted:.1} s (something blocks it: no record is written)"
            ),
            Self::Heartbeat => format!(
                "the heartbeat's thread has not run for {lasted:.1} s (something blocks it: no lease is renewed)"
            ),
            Self::Attempt(key) => format!("attempt {key} outlived its timeout (it blocks its thread)"),
            Self::Function(workflow) => {
                format!("the function of workflow {workflow} outlived its timeout (it blocks its thread)")
            }
            Self::Append(workflow) => {
                format!(
                    "an append of workflow {workflow} is unanswered past its deadline (its thread is blocked)"
                )
            }
        }
    }
}

/// Something is under way, until this is dropped.
pub(crate) struct Watching {
    watched: Arc<Watched>,
    id: u64,
}

#[derive(Default)]
struct Watched {
    under_way: Mutex<HashMap<u64, UnderWay>>,
    next: AtomicU64,
}

struct UnderWay {
    what: What,
    since: Instant,
    lasts_max: Duration,
}

impl Watchdog {
    /// Watches until the last clone of it is dropped: this runtime, and what it is told of. `silence_max`: how long a runtime
    /// may not have ticked.
    pub(crate) fn start(silence_max: Duration) -> Result<Self, Error> {
        let (watched, end) = (Arc::<Watched>::default(), CancellationToken::new());
        let tick = silence_max / TICKS_IN_A_SILENCE;
        let (seen, ended) = (Arc::clone(&watched), end.clone());
        thread::Builder::new()
            .name("backstitch-watchdog".to_owned())
            .spawn(move || {
                let mut looked = Instant::now();
                while !ended.is_cancelled() {
                    thread::sleep(tick);
                    let (last, now) = (looked, Instant::now());
                    looked = now;
                    // After a SIGSTOP, or on a machine that slept, everything was silent: judge from here on.
                    if now - last > tick * TICKS_STOOD_STILL {
                        seen.stood_still(last, now);
                    } else if let Some(fault) = seen.fault(now)
                        && !ended.is_cancelled()
                    {
                        end_process(fault);
                    }
                }
            })
            .map_err(Error::Thread)?;
        let ends_with_the_last = Arc::new(end.clone().drop_guard());
        let watchdog = Self { watched, silence_max, end, _ends_with_the_last: ends_with_the_last };
        tokio::spawn(watchdog.ticking(What::Runtime));
        Ok(watchdog)
    }

    /// Something begins that must have ended after `timeout`.
    pub(crate) fn watch(&self, what: What, timeout: Duration) -> Watching {
        Watched::begin(&self.watched, what, timeout + OVERRUN)
    }

    /// To be spawned on a runtime that must not be silent, under this name: ticks until that ends, or the watchdog.
    pub(crate) fn ticking(&self, runtime: What) -> impl Future<Output = ()> + Send + use<> {
        let watching = Watched::begin(&self.watched, runtime, self.silence_max);
        let (tick, ended) = (self.silence_max / TICKS_IN_A_SILENCE, self.end.clone());
        async move {
            while !ended.is_cancelled() {
                watching.begin_again();
                tokio::time::sleep(tick).await;
            }
        }
    }
}

impl Watched {
    fn begin(watched: &Arc<Self>, what: What, lasts_max: Duration) -> Watching {
        let id = watched.next.fetch_add(1, Ordering::Relaxed);
        watched.lock().insert(id, UnderWay { what, since: Instant::now(), lasts_max });
        Watching { watched: Arc::clone(watched), id }
    }

    /// Between these two moments nothing ran: that time is nobody's fault.
    fn stood_still(&self, last: Instant, now: Instant) {
        for under_way in self.lock().values_mut() {
            under_way.since = now.min(under_way.since + (now - last));
        }
    }

    fn fault(&self, now: Instant) -> Option<String> {
        let overdue = |it: &UnderWay| now.saturating_duration_since(it.since).checked_sub(it.lasts_max);
        let under_way = self.lock();
        // What is overdue for longest has held up the others.
        let (_, worst) =
            under_way.values().filter_map(|it| Some((overdue(it)?, it))).max_by_key(|(by, _)| *by)?;
        Some(worst.what.fault(now - worst.since))
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<u64, UnderWay>> {
        self.under_way.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Watching {
    fn begin_again(&self) {
        if let Some(under_way) = self.watched.lock().get_mut(&self.id) {
            under_way.since = Instant::now();
        }
    }
}

impl Drop for Watching {
    fn drop(&mut self) {
        self.watched.lock().remove(&self.id);
    }
}

/// Says why, as far as anybody listens, and aborts.
fn end_process(fault: String) -> ! {
    let (said, heard) = mpsc::channel();
    // From another thread: saying it may block.
    let speaking = thread::Builder::new().name("backstitch-watchdog".to_owned()).spawn(move || {
        // Not `eprintln!`: in a test that is kept until the test has ended, which it never does.
        let words = format!("backstitch: {fault}; ending this process, its work is taken over\n");
        let _: io::Result<()> = io::stderr().write_all(words.as_bytes());
        tracing::error!(fault, "ending this process: its work is taken over");
        drop(said);
    });
    if speaking.is_ok() {
        // It never sends: this is over when it has spoken, or a subscriber has panicked.
        let _: Result<(), _> = heard.recv_timeout(LAST_WORDS);
    }
    std::process::abort()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn of_all_that_is_overdue_what_is_so_for_longest_is_told() {
        let watched = Arc::<Watched>::default();
        let _attempt = Watched::begin(&watched, What::Function(WorkflowId(uuid::Uuid::nil())), 15 * SECOND);
        let _runtime = Watched::begin(&watched, What::Runtime, 5 * SECOND);
        let now = Instant::now();
        assert_eq!(watched.fault(now + 4 * SECOND), None);
        let fault = watched.fault(now + 20 * SECOND).expect("both are overdue");
        assert!(fault.starts_with("the runtime has not run for 20.0 s"), "{fault}");
    }

    #[test]
    fn what_has_ended_or_begun_again_is_not_overdue() {
        let watched = Arc::<Watched>::default();
        let ended = Watched::begin(&watched, What::Runtime, SECOND);
        let again = Watched::begin(&watched, What::Appender, SECOND);
        let later = Instant::now() + SECOND / 2;
        drop(ended);
        again.begin_again();
        assert_eq!(watched.fault(later), None);
        let fault = watched.fault(later + SECOND).expect("the appender is overdue");
        assert!(fault.starts_with("the appender's thread has not run for"), "{fault}");
    }

    #[test]
    fn the_time_in_which_the_whole_process_stood_still_is_not_counted() {
        let watched = Arc::<Watched>::default();
        let _runtime = Watched::begin(&watched, What::Runtime, 5 * SECOND);
        let stopped = Instant::now() + 2 * SECOND;
        let continued = stopped + 3600 * SECOND;
        watched.stood_still(stopped, continued);
        // Two seconds of silence were before it.
        assert_eq!(watched.fault(continued + 2 * SECOND), None);
        assert!(watched.fault(continued + 4 * SECOND).is_some());
    }

    #[test]
    fn what_began_after_the_process_stood_still_has_no_more_time_for_it() {
        let watched = Arc::<Watched>::default();
        let stopped = Instant::now();
        let _late = Watched::begin(&watched, What::Appender, 5 * SECOND);
        let continued = Instant::now() + SECOND;
        watched.stood_still(stopped, continued);
        watched.stood_still(stopped, continued);
        assert!(watched.fault(continued + 6 * SECOND).is_some());
    }
}
