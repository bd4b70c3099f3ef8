//! How is somebody who waits told how it goes?

use std::time::Duration;

use tokio::time::Instant;

use crate::output::note;

/// Whoever gets an answer sooner needs no word that it is waited for.
const QUIET: Duration = Duration::from_secs(1);

/// Awaits work; when that takes a while, says so once on the standard error.
pub async fn waiting<T>(message: &str, work: impl Future<Output = T>) -> T {
    tokio::pin!(work);
    tokio::select! {
        done = &mut work => return done,
        () = tokio::time::sleep_until(Instant::now() + QUIET) => note(message),
    }
    work.await
}
