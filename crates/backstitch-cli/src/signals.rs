//! When is the program told to stop?

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::exit::Failed;

/// Listens for SIGTERM and SIGINT from its making on.
pub struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    /// Listens from now on.
    pub fn listen() -> Result<Self, Failed> {
        let on = |kind| signal(kind).map_err(|error| Failed::because(&error, ""));
        Ok(Self { terminate: on(SignalKind::terminate())?, interrupt: on(SignalKind::interrupt())? })
    }

    /// Waits for the next one, and says which.
    pub async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }

    /// From here on, the next one ends the process at once.
    pub fn exit_on_the_next(mut self) {
        tokio::spawn(async move {
            let signal = self.next().await;
            tracing::warn!(signal, "stopping at once: what is under way is recovered by the next worker");
            std::process::exit(1);
        });
    }
}
