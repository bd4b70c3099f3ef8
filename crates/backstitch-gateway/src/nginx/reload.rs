//! When does the running nginx serve what is on the disk, and for whom is it told to?
//!
//! An asker notes the number of the latest reload that began. Any later one read the disk after the asker's change, so
//! if it was answered meanwhile there is nothing left to do. Otherwise the asker, under the lock, does it for
//! everybody who asked before it began.

use std::fs;
use std::time::Duration;

use tokio::time::Instant;

use super::NginxConfig;
use super::binary::{Binary, TestResult};
use super::error::NginxError;
use super::ledger::{Failure, Ledger};
use super::lock::HostLock;
use super::processes::Master;

/// Old workers leave within some 100 ms of the signal; a reload that is refused leaves them for ever.
const SWITCH_TIMEOUT: Duration = Duration::from_secs(2);
/// A master that finds an address taken tries five times itself, half a second apart. Until it has given up it answers no
/// other signal, and its complaint would be taken for that of the next reload.
const BIND_TIMEOUT: Duration = Duration::from_secs(3);
const BIND_FAILED: &str = "bind() to ";
const BIND_GIVEN_UP: &str = "still could not bind()";
/// A fiftieth of the usual wait.
const SWITCH_POLL: Duration = Duration::from_millis(2);
/// One reload of someone else, its test included. Ours fits into what is left of an attempt's 5 s where nginx is well; where it
/// is not, the attempt is in doubt, and the next one asks anew.
const LOCK_TIMEOUT: Duration = Duration::from_secs(4);

/// Who did the reload that was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reload {
    /// This call.
    Done,
    /// Another one, which began after this call asked.
    Shared,
}

pub(super) async fn coalesced(
    config: &NginxConfig,
    binary: &Binary,
    ledger: &Ledger,
    reloading: &HostLock,
) -> Result<Reload, NginxError> {
    let asked_after = ledger.read()?.began;
    let _lock = reloading.acquire(LOCK_TIMEOUT).await?;
    let mut entry = ledger.read()?;
    if entry.answered > asked_after {
        return entry.failure.map_or(Ok(Reload::Shared), |failure| Err(failure.into()));
    }
    entry.began += 1;
    // Told before it begins. If it can't be told (a full disk) nobody may be answered by it, but it is done.
    let told = ledger.write(&entry);
    let done = now(config, binary).await;
    entry.answered = entry.began;
    entry.failure = match &done {
        Ok(()) => None,
        Err(NginxError::SomeoneElsesConfig { detail }) => {
            Some(Failure::SomeoneElsesConfig { detail: detail.clone() })
        }
        Err(NginxError::TestTimedOut { .. }) => Some(Failure::TestTimedOut),
        Err(NginxError::ReloadFailed { detail, is_refused }) => {
            Some(Failure::ReloadFailed { detail: detail.clone(), is_refused: *is_refused })
        }
        // What went wrong with this call alone is no answer to the others.
        Err(_) => return done.map(|()| Reload::Done),
    };
    entry.done += u64::from(done.is_ok());
    if let Err(e) = told.and_then(|()| ledger.write(&entry)) {
        tracing::warn!(
            error = &e as &dyn std::error::Error,
            "a reload could not be counted and answers one caller only"
        );
    }
    done.map(|()| Reload::Done)
}

/// Test, note the workers, signal, wait until none of them takes new requests.
async fn now(config: &NginxConfig, binary: &Binary) -> Result<(), NginxError> {
    if let TestResult::Broken { detail } = binary.test().await? {
        return Err(NginxError::SomeoneElsesConfig { detail });
    }
    let master = Master::find(&config.pid_file)?;
    let mut old = master.serving();
    let log = Log::at_its_end(config);
    master.hang_up()?;
    let began = Instant::now();
    loop {
        old.retain(|pid| master.is_serving(*pid));
        if old.is_empty() && !master.serving().is_empty() {
            return Ok(());
        }
        // Only the log says that the master refused, for example because a port is taken: `-t` can't know.
        let complaints = log.complaints_of(master);
        if let Some(first) = complaints.first() {
            let given_up = complaints.iter().any(|complaint| complaint == BIND_GIVEN_UP);
            if given_up || !first.starts_with(BIND_FAILED) || began.elapsed() >= BIND_TIMEOUT {
                return Err(NginxError::ReloadFailed { detail: first.clone(), is_refused: true });
            }
        } else if began.elapsed() >= SWITCH_TIMEOUT {
            let detail = "its old workers still take requests".to_owned();
            return Err(NginxError::ReloadFailed { detail, is_refused: false });
        }
        tokio::time::sleep(SWITCH_POLL).await;
    }
}

/// The error log from a point in time on.
struct Log {
    path: std::path::PathBuf,
    offset: u64,
}

impl Log {
    fn at_its_end(config: &NginxConfig) -> Self {
        let path = config.prefix.join(&config.error_log);
        let offset = fs::metadata(&path).map_or(0, |found| found.len());
        Self { path, offset }
    }

    /// What the master, and not some `nginx -t`, has found fatal since.
    fn complaints_of(&self, master: Master) -> Vec<String> {
        let by_master = format!("[emerg] {0}#{0}: ", master.pid());
        let text = self.since().unwrap_or_default();
        text.lines().filter_map(|line| Some(line.split_once(&by_master)?.1.to_owned())).collect()
    }

    fn since(&self) -> Option<String> {
        use std::io::{Read, Seek, SeekFrom};
        let mut file = fs::File::open(&self.path).ok()?;
        if file.metadata().ok()?.len() <= self.offset {
            return None;
        }
        file.seek(SeekFrom::Start(self.offset)).ok()?;
        let mut bytes = Vec::new();
        file.take(64 * 1024).read_to_end(&mut bytes).ok()?;
        Some(String::from_utf8_lossy(&bytes).into_owned())
    }
}
