//! How a lease is renewed, whatever the rest of the process does: from a thread of its own, on a connection of its own.

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::database::{Database, Kept};
use crate::error::Error;
use crate::incarnation::{self, Beat};
use crate::lease::{EndsWithPanic, Lease};
use crate::life::InFlight;
use crate::outage::Outage;
use crate::timing::Timing;
use crate::watchdog::{Watchdog, What};

/// How long to wait before a beat that failed is tried again.
const AGAIN: Duration = Duration::from_millis(250);

/// Beats until `end`, or until the database says that this incarnation is buried.
pub(crate) fn start(
    database: Database,
    lease: Arc<Lease>,
    in_flight: Arc<InFlight>,
    timing: Timing,
    watchdog: &Watchdog,
    end: CancellationToken,
) -> Result<(), Error> {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(Error::Thread)?;
    // Without a beat nobody here would hear that this life was buried, and none would follow it.
    runtime.spawn(watchdog.ticking(What::Heartbeat));
    thread::Builder::new()
        .name("backstitch-heartbeat".to_owned())
        .spawn(move || {
            let _ends_with_panic = EndsWithPanic(Arc::clone(&lease));
            runtime.block_on(async {
                tokio::select! {
                    () = beat_on(database, &lease, &in_flight, timing) => {}
                    () = end.cancelled() => {}
                }
            });
        })
        .map_err(Error::Thread)?;
    Ok(())
}

async fn beat_on(database: Database, lease: &Lease, in_flight: &InFlight, timing: Timing) {
    let (mut kept, mut outage) = (Kept::of(database), Outage::default());
    let (incarnation, lasts) = (lease.incarnation, timing.lease);
    loop {
        let asked_at = Instant::now();
        let beat = kept
            .run("renewing the lease", async |connection| {
                incarnation::beat(connection, incarnation, lasts).await
            })
            .await;
        match beat {
            Ok(Beat { alive: false, .. }) => {
                tracing::error!(%incarnation, "this worker was buried: it begins a new life");
                lease.die();
                return;
            }
            Ok(Beat { cancelled, .. }) => {
                outage.ends();
                lease.renew(asked_at, timing.lease - timing.self_stop);
                for workflow in cancelled {
                    in_flight.cancel(workflow);
                }
                tokio::time::sleep_until(asked_at + timing.beat).await;
            }
            Err(error) => {
                if outage.is_news() {
                    tracing::warn!(%incarnation, %error, "a heartbeat failed, trying on");
                }
                tokio::time::sleep(AGAIN).await;
            }
        }
    }
}
