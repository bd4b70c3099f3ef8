//! How a thread is blocked for ever while the rest of its process goes on.

use std::io::{Stderr, stderr};
use std::thread;

use tokio::runtime::{Handle, RuntimeFlavor};

/// The variable that names the threads from which [`log`] takes nothing.
const LOG_STUCK_FOR: &str = "LOG_STUCK_FOR";

/// Standard error. It stands in for a pipe that nobody empties, too: a thread of the name that the environment says as
/// `LOG_STUCK_FOR` is blocked with the first line that it writes.
#[must_use]
pub fn log() -> Stderr {
    let stuck = std::env::var(LOG_STUCK_FOR).ok();
    if stuck.is_some() && stuck.as_deref() == thread::current().name() {
        block();
    }
    stderr()
}

/// Blocks this thread. Where it is one of several of a runtime, the others are told to go on: by themselves they do so only if
/// it was not this one that listened to timers and sockets for all.
pub fn block() -> ! {
    match Handle::try_current().map(|runtime| runtime.runtime_flavor()) {
        Ok(RuntimeFlavor::MultiThread) => tokio::task::block_in_place(|| park()),
        _ => park(),
    }
}

fn park() -> ! {
    loop {
        thread::park();
    }
}
