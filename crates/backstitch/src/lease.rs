//! Who may append to a journal, and until when.

use std::sync::Arc;
use std::time::Duration;

use backstitch_core::id::IncarnationId;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

/// The right of one incarnation to begin effects, renewed by its heartbeat.
///
/// It is counted on this process's monotonic clock from *before* the beat was asked for, so it always ends earlier here
/// than in the database.
#[derive(Debug)]
pub(crate) struct Lease {
    pub(crate) incarnation: IncarnationId,
    stop_at: watch::Sender<Instant>,
    dead: CancellationToken,
}

impl Lease {
    /// A lease first asked for at `asked_at`, under which effects must stop after `usable`.
    pub(crate) fn new(incarnation: IncarnationId, asked_at: Instant, usable: Duration) -> Self {
        Self { incarnation, stop_at: watch::Sender::new(asked_at + usable), dead: CancellationToken::new() }
    }

    /// The database renewed it, asked at this time.
    pub(crate) fn renew(&self, asked_at: Instant, usable: Duration) {
        self.stop_at.send_replace(asked_at + usable);
    }

    /// The database says that this incarnation is buried: it never comes back.
    pub(crate) fn die(&self) {
        self.dead.cancel();
    }

    /// Whether an effect may begin now.
    pub(crate) fn is_usable(&self) -> bool {
        !self.is_dead() && Instant::now() < *self.stop_at.borrow()
    }

    pub(crate) fn is_dead(&self) -> bool {
        self.dead.is_cancelled()
    }

    /// Waits until effects must stop.
    pub(crate) async fn lost(&self) {
        loop {
            let stop_at = *self.stop_at.borrow();
            tokio::select! {
                () = sleep_until(stop_at) => if *self.stop_at.borrow() <= Instant::now() { return },
                () = self.dead.cancelled() => return,
            }
        }
    }

    /// Waits until effects may begin again. False: never, it is dead.
    pub(crate) async fn regained(&self) -> bool {
        let mut renewed = self.stop_at.subscribe();
        loop {
            if self.is_usable() {
                return true;
            }
            tokio::select! {
                _ = renewed.changed() => {}
                () = self.dead.cancelled() => return false,
            }
        }
    }

    /// Waits until it is dead.
    pub(crate) async fn died(&self) {
        self.dead.cancelled().await;
    }
}

/// Ends a life with the thread that holds this, where that thread panics: nobody would write any more, or beat, and each
/// workflow would take it for a defect of its own.
///
/// The life, not the process as the watchdog does: nothing is blocked here, so all attempts can be dropped, and the next life
/// begins in their place. What this one held is found by recovery, as after any death.
pub(crate) struct EndsWithPanic(pub(crate) Arc<Lease>);

impl Drop for EndsWithPanic {
    fn drop(&mut self) {
        if std::thread::panicking() {
            tracing::error!(
                incarnation = %self.0.incarnation,
                "a thread of this worker ended with a defect of the engine: it begins a new life"
            );
            self.0.die();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_life_ends_with_the_thread_that_panics_and_not_with_one_that_ends() {
        let lease = Arc::new(Lease::new(IncarnationId(1), Instant::now(), Duration::from_secs(8)));
        let ends = |panics: bool| {
            let ends_with_panic = EndsWithPanic(Arc::clone(&lease));
            std::thread::spawn(move || {
                let _ends_with_panic = ends_with_panic;
                assert!(!panics, "a defect");
            })
            .join()
        };
        ends(false).expect("it ends");
        assert!(!lease.is_dead());
        ends(true).expect_err("it panics");
        assert!(lease.is_dead());
    }

    #[tokio::test(start_paused = true)]
    async fn a_lease_is_lost_when_it_is_not_renewed_and_regained_when_it_is() {
        let lease = Lease::new(IncarnationId(1), Instant::now(), Duration::from_secs(8));
        tokio::time::advance(Duration::from_secs(5)).await;
        lease.renew(Instant::now(), Duration::from_secs(8));
        tokio::time::advance(Duration::from_secs(7)).await;
        assert!(lease.is_usable());
        lease.lost().await;
        assert!(!lease.is_usable());
        lease.renew(Instant::now(), Duration::from_secs(8));
        assert!(lease.regained().await);
        lease.die();
        assert!(!lease.is_usable() && !lease.regained().await);
        lease.lost().await;
    }
}
