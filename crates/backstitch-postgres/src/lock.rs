//! Who may make, start or stop the cluster now?

use std::fs::{File, OpenOptions, TryLockError};
use std::os::unix::fs::{OpenOptionsExt, fchown};
use std::time::{Duration, Instant};

use crate::error::Error;
use crate::layout::Layout;
use crate::owner::{Owner, is_root};

/// Longer than a start may take, which the holder is likely busy with.
const PATIENCE: Duration = Duration::from_secs(150);

/// Between two tries; `flock` can only wait by blocking a thread.
const PAUSE: Duration = Duration::from_millis(20);

/// The right to make, start or stop a cluster, across processes. Given back on drop, and by the kernel on
/// death.
pub(crate) struct Lock {
    _file: File,
}

/// Waits for the lock of a cluster whose directory exists.
pub(crate) async fn lock(layout: &Layout, owner: &Owner) -> Result<Lock, Error> {
    let path = layout.lock();
    let file = OpenOptions::new()
        .create(true)
        .write(true)
        .truncate(false)
        .mode(0o600)
        .custom_flags(rustix::fs::OFlags::NOFOLLOW.bits() as i32)
        .open(&path)
        .map_err(Error::io("opening", &path))?;
    if is_root() {
        fchown(&file, Some(owner.uid), Some(owner.gid)).map_err(Error::io("handing over", &path))?;
    }
    let since = Instant::now();
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(Lock { _file: file }),
            Err(TryLockError::WouldBlock) if since.elapsed() < PATIENCE => tokio::time::sleep(PAUSE).await,
            Err(TryLockError::WouldBlock) => {
                return Err(Error::Locked { lock: path, waited: PATIENCE });
            }
            Err(TryLockError::Error(error)) => return Err(Error::io("locking", &path)(error)),
        }
    }
}
