//! Who may append to a journal, and until when.

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

#[cfg(test)]
mod tests {
    use super::*;

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
