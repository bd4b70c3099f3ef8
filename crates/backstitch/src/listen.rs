//! How a worker hears that something changed. Only a hint: whoever misses one finds it with the next look.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;

use crate::database::Database;
use crate::error::Error;
use crate::life::InFlight;

const READY: &str = "backstitch_ready";
const CANCEL: &str = "backstitch_cancel";

/// How long to wait before listening is tried again.
const AGAIN: Duration = Duration::from_secs(5);

/// Passes on what is announced, until it is dropped.
///
/// Behind a transaction pooler nothing is heard, and polling does.
pub(crate) async fn listen(database: Database, in_flight: Arc<InFlight>, wake: Arc<Notify>) {
    if !database.has_sessions() {
        return;
    }
    loop {
        if let Err(error) = pass_on(&database, &in_flight, &wake).await {
            tracing::debug!(%error, "listening failed, polling goes on");
        }
        tokio::time::sleep(AGAIN).await;
    }
}

async fn pass_on(database: &Database, in_flight: &InFlight, wake: &Notify) -> Result<(), Error> {
    let mut listener = database.listener(&[READY, CANCEL]).await?;
    // What was announced before this may have been missed.
    wake.notify_one();
    loop {
        let notification =
            listener.recv().await.map_err(|source| Error::Database { doing: "listening", source })?;
        if notification.channel() == CANCEL
            && let Ok(workflow) = notification.payload().parse()
        {
            in_flight.cancel(workflow);
        }
        // A cancelled workflow that nobody holds is due now.
        wake.notify_one();
    }
}
