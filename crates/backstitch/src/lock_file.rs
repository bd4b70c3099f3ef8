//! How a process shows its own host that it is alive, without a lease to wait for: it holds a lock on a file.
//!
//! The kernel lets go of the lock when the process is gone, however it went. Whoever can take it knows, and buries at
//! once; so a daemon restarted on its host recovers without waiting. The file is named by a random token that the
//! incarnation's row carries, so files of other databases in the same directory mean nothing here.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use uuid::Uuid;

use crate::error::Error;

const SUFFIX: &str = "lock";

/// A lock held for the life of this value.
#[derive(Debug)]
pub(crate) struct LockFile {
    path: PathBuf,
    _held: File,
}

impl LockFile {
    /// Makes and locks the file of this token.
    pub(crate) fn hold(directory: &Path, token: Uuid) -> Result<Self, Error> {
        let wrong = |source| Error::StateDirectory { directory: directory.display().to_string(), source };
        fs::DirBuilder::new().recursive(true).mode(0o700).create(directory).map_err(wrong)?;
        let path = path(directory, token);
        let file = File::options().write(true).create_new(true).mode(0o600).open(&path).map_err(wrong)?;
        flock(&file, FlockOperation::NonBlockingLockExclusive).map_err(|error| wrong(error.into()))?;
        Ok(Self { path, _held: file })
    }

    /// Its incarnation has ended in order: nobody needs to ask any more.
    pub(crate) fn remove(self) {
        // One that can't be removed is an empty file that nobody asks for any more.
        let _ = fs::remove_file(&self.path);
    }
}

/// A file whose holder is gone. Keeps the lock, so that nobody else finds it meanwhile.
#[derive(Debug)]
pub(crate) struct Abandoned {
    pub(crate) token: Uuid,
    lock: LockFile,
}

impl Abandoned {
    /// Its incarnation is buried.
    pub(crate) fn remove(self) {
        self.lock.remove();
    }
}

/// Those of these tokens whose file is here and held by nobody.
pub(crate) fn abandoned(directory: &Path, tokens: impl Iterator<Item = Uuid>) -> Vec<Abandoned> {
    tokens.filter_map(|token| take(directory, token).ok().flatten()).collect()
}

fn take(directory: &Path, token: Uuid) -> io::Result<Option<Abandoned>> {
    let path = path(directory, token);
    let file = match File::options().write(true).open(&path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(Some(Abandoned { token, lock: LockFile { path, _held: file } })),
        Err(rustix::io::Errno::WOULDBLOCK) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn path(directory: &Path, token: Uuid) -> PathBuf {
    directory.join(format!("{token}.{SUFFIX}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_abandoned_only_when_its_holder_is_gone() {
        let directory = tempfile::tempdir().expect("a directory");
        let token = Uuid::from_u128(7);
        let found = || abandoned(directory.path(), std::iter::once(token)).len();
        assert_eq!(found(), 0, "no file says nothing");
        let held = LockFile::hold(directory.path(), token).expect("free");
        assert_eq!(found(), 0, "held by the living");
        drop(held);
        assert_eq!(found(), 1, "its holder is gone");
        for abandoned in abandoned(directory.path(), std::iter::once(token)) {
            abandoned.remove();
        }
        assert_eq!(found(), 0, "removed with the burial");
    }
}
