//! Is the server of this data directory alive, by what it left in `postmaster.pid`?

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, fchown};
use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

use rustix::process::{Pid, test_kill_process};

use crate::error::Error;

/// No process can have it: above `PID_MAX_LIMIT` of Linux, and every other system's.
const NO_PROCESS: u32 = i32::MAX as u32;

/// Beside the socket, in the same format.
const SOCKET_LOCK: &str = ".s.PGSQL.5432.lock";

/// What a server wrote of itself. It may be dead; [`live`] gives only living ones.
#[derive(Debug, Clone)]
pub(crate) struct PidFile {
    pub pid: u32,
    /// Since when it runs, after the epoch.
    pub started: Duration,
    /// None while it has only begun to write.
    pub socket_directory: Option<PathBuf>,
}

impl PidFile {
    /// How long it has been running; nothing if the clock was set back.
    pub fn uptime(&self) -> Duration {
        let now = UNIX_EPOCH.elapsed().unwrap_or_default();
        now.saturating_sub(self.started)
    }
}

/// The living server of a data directory, or none.
pub(crate) fn live(data: &Path) -> Result<Option<PidFile>, Error> {
    let Some(text) = read(&path(data))? else {
        return Ok(None);
    };
    Ok(parse(&text).filter(|server| is_server_of(server.pid, data)))
}

/// Makes the lock files of a server that is gone name no process at all: its pid file and that of its socket.
///
/// Postgres refuses to start while the process named there exists, and it may exist as a corpse nobody has
/// reaped yet, or, after a reboot or in a container, be someone else. The files themselves have to stay: from
/// the other lines Postgres learns whether children of the dead server still use its shared memory. The lock
/// of the cluster is held.
pub(crate) fn forget_the_dead(data: &Path, socket_directory: &Path) -> Result<(), Error> {
    for path in [path(data), socket_directory.join(SOCKET_LOCK)] {
        let Some(text) = read(&path)? else {
            continue;
        };
        let Some((first, rest)) = text.split_once('\n') else {
            continue;
        };
        let exists_as_other = |pid| exists(pid) && !is_server_of(pid, data);
        if first.trim().parse().is_ok_and(exists_as_other) {
            tracing::info!(postgres.pid = first, file = %path.display(), "forgetting a server that is gone");
            replace(&path, &format!("{NO_PROCESS}\n{rest}"))?;
        }
    }
    Ok(())
}

/// Whole or not at all: Postgres would not start over an empty one. It stays the property of its owner.
fn replace(path: &Path, text: &str) -> Result<(), Error> {
    let owner = fs::metadata(path).map_err(Error::io("looking at", path))?;
    let making = path.with_extension("making");
    fs::remove_file(&making).ok(); // of one who was killed here
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&making)
        .map_err(Error::io("making", &making))?;
    file.write_all(text.as_bytes()).map_err(Error::io("writing", &making))?;
    fchown(&file, Some(owner.uid()), Some(owner.gid())).map_err(Error::io("handing over", &making))?;
    file.sync_all().map_err(Error::io("syncing", &making))?;
    fs::rename(&making, path).map_err(Error::io("replacing", path))
}

fn path(data: &Path) -> PathBuf {
    data.join("postmaster.pid")
}

fn read(path: &Path) -> Result<Option<String>, Error> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Error::io("reading", path)(error)),
    }
}

/// Lines: pid, data directory, start time, port, socket directory, listen address, shared memory, state.
fn parse(text: &str) -> Option<PidFile> {
    let mut lines = text.lines();
    let pid = lines.next()?.trim().parse().ok()?;
    let started = lines.nth(1).and_then(|line| line.trim().parse().ok()).unwrap_or(0);
    let socket_directory = lines.nth(1).filter(|line| !line.is_empty()).map(PathBuf::from);
    Some(PidFile { pid, started: Duration::from_secs(started), socket_directory })
}

/// Whether the process lives and is the server of this data, as far as this system lets us see.
fn is_server_of(pid: u32, data: &Path) -> bool {
    if !exists(pid) {
        return false;
    }
    // Linux only; elsewhere a living process is believed, as pg_ctl does.
    let process = PathBuf::from(format!("/proc/{pid}"));
    let Ok(stat) = fs::read_to_string(process.join("stat")) else {
        return !Path::new("/proc/self/stat").exists();
    };
    // `pid (name) state ...`, where the name may hold anything.
    let Some((name, rest)) = stat.rsplit_once(')') else {
        return true;
    };
    if rest.trim_start().starts_with(['Z', 'X']) {
        return false;
    }
    // A server works in its data directory; only root and its own user may see that.
    match (fs::read_link(process.join("cwd")), data.canonicalize()) {
        // If the data was removed under it, it still holds the socket, for the minute until it notices.
        (Ok(working), Ok(data)) => working == data || working == deleted(&data),
        _ => name.ends_with("(postgres"),
    }
}

/// As Linux names a working directory that is gone.
fn deleted(data: &Path) -> PathBuf {
    PathBuf::from(format!("{} (deleted)", data.display()))
}

/// Whether there is such a process, be it a corpse.
pub(crate) fn exists(pid: u32) -> bool {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
    // Without permission to signal it, it is there all the same.
    pid.is_some_and(|pid| !matches!(test_kill_process(pid), Err(rustix::io::Errno::SRCH)))
}
