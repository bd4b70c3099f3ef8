//! Which reload began when, and how did it end? Kept in a file, so that all processes of a host count the same.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::error::NginxError;
use super::private;

#[derive(Debug)]
pub(super) struct Ledger {
    path: PathBuf,
}

/// Reloads are numbered from 1 in the order in which they begin; at most one is under way.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Entry {
    /// The latest that began.
    pub(super) began: u64,
    /// The latest that ended with an answer. Behind `began` while one is under way, or when its process died.
    pub(super) answered: u64,
    /// How the latest answered one failed, if it did.
    pub(super) failure: Option<Failure>,
    /// How many really reloaded nginx.
    pub(super) done: u64,
}

/// A failure that answers everybody who waited for the same reload.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Failure {
    SomeoneElsesConfig {
        detail: String,
    },
    TestTimedOut,
    ReloadFailed {
        detail: String,
        #[serde(default)]
        is_refused: bool,
    },
}

impl Ledger {
    pub(super) fn new(state: &Path) -> Self {
        Self { path: state.join("reloads.json") }
    }

    /// Readable without a lock: the file is only ever replaced. One that can't be understood counts as none: numbers that
    /// start again at zero cost a reload too many, never one too few.
    pub(super) fn read(&self) -> Result<Entry, NginxError> {
        match fs::read(&self.path) {
            Ok(bytes) => Ok(serde_json::from_slice(&bytes).unwrap_or_default()),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(Entry::default()),
            Err(e) => Err(NginxError::disk(&self.path, e)),
        }
    }

    /// Under the lock only. Not synced: after a crash of the host nginx has read everything anew.
    pub(super) fn write(&self, entry: &Entry) -> Result<(), NginxError> {
        let temporary = self.path.with_extension("tmp");
        let bytes = serde_json::to_vec(entry).unwrap_or_default();
        private::open(&temporary, OpenOptions::new().write(true).truncate(true))
            .and_then(|mut file| file.write_all(&bytes))
            .and_then(|()| fs::rename(&temporary, &self.path))
            .map_err(|e| NginxError::disk(&self.path, e))
    }
}

impl From<Failure> for NginxError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::SomeoneElsesConfig { detail } => Self::SomeoneElsesConfig { detail },
            Failure::TestTimedOut => Self::TestTimedOut { changed: false },
            Failure::ReloadFailed { detail, is_refused } => Self::ReloadFailed { detail, is_refused },
        }
    }
}
