//! Who may touch this nginx now, among all processes of this host?

use std::fs::{File, OpenOptions, TryLockError};
use std::path::PathBuf;
use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::Instant;

use super::error::NginxError;
use super::private;

/// The kernel has no queue that an async task could wait in; a try costs a microsecond.
const LOCK_POLL: Duration = Duration::from_millis(5);

/// A file lock, which the kernel takes back when its holder dies, behind a mutex that queues this process's own tasks.
#[derive(Debug)]
pub(super) struct HostLock {
    path: PathBuf,
    here: std::sync::Arc<Mutex<()>>,
}

/// Holds the lock until dropped.
#[derive(Debug)]
pub(super) struct HostLockGuard {
    // In this order: others on the host may have it before others in this process wake up.
    _file: File,
    _here: tokio::sync::OwnedMutexGuard<()>,
}

impl HostLock {
    pub(super) fn new(path: PathBuf) -> Self {
        Self { path, here: std::sync::Arc::default() }
    }

    pub(super) async fn acquire(&self, timeout: Duration) -> Result<HostLockGuard, NginxError> {
        let busy = || NginxError::Busy { path: self.path.clone() };
        let deadline = Instant::now() + timeout;
        let here =
            tokio::time::timeout_at(deadline, self.here.clone().lock_owned()).await.map_err(|_| busy())?;
        let disk = |e| NginxError::disk(&self.path, e);
        let file = private::open(&self.path, OpenOptions::new().append(true)).map_err(disk)?;
        loop {
            match file.try_lock() {
                Err(TryLockError::Error(e)) => return Err(disk(e)),
                // Also when it is free by now: who was stopped meanwhile comes too late, and may be taken back already.
                _ if Instant::now() >= deadline => return Err(busy()),
                Ok(()) => return Ok(HostLockGuard { _file: file, _here: here }),
                Err(TryLockError::WouldBlock) => tokio::time::sleep(LOCK_POLL).await,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn who_was_stopped_while_waiting_does_not_get_it_when_the_time_is_over() {
        let directory = tempfile::tempdir().unwrap();
        let lock = HostLock::new(directory.path().join("a.lock"));
        let held = lock.acquire(LOCK_POLL).await.unwrap();
        let other = HostLock::new(directory.path().join("a.lock"));
        let patience = 4 * LOCK_POLL;
        let stopped = async {
            tokio::task::yield_now().await;
            drop(held);
            std::thread::sleep(2 * patience);
        };
        let (got, ()) = tokio::join!(other.acquire(patience), stopped);
        assert!(matches!(got, Err(NginxError::Busy { .. })), "{got:?}");
        lock.acquire(patience).await.unwrap();
    }
}
