//! Is the server of this data directory alive, by what it left in `postmaster.pid`?

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

use rustix::process::{Pid, test_kill_process};

use crate::error::Error;

/// No process can have it: above `PID_MAX_LIMIT` of Linux, and every other system's.
const NO_PROCESS: u32 = i32::MAX as u32;

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
    let Some(text) = read(data)? else {
        return Ok(None);
    };
    Ok(parse(&text).filter(|server| is_server_of(server.pid, data)))
}

/// Makes a pid file whose process is no longer a server name no process at all.
///
/// Postgres refuses to start while the process named there lives, and after a reboot, in a container or as a zombie
/// nobody reaps, it may be someone else or a corpse. The file itself has to stay: from its other lines Postgres learns
/// whether children of the dead server still use its shared memory.
pub(crate) fn forget_the_dead(data: &Path) -> Result<(), Error> {
    let Some(text) = read(data)? else {
        return Ok(());
    };
    let Some((first, rest)) = text.split_once('\n') else {
        return Ok(());
    };
    match first.trim().parse() {
        Ok(pid) if exists(pid) && !is_server_of(pid, data) => {}
        _ => return Ok(()),
    }
    let path = path(data);
    tracing::warn!(
        postgres.pid = first,
        "postmaster.pid names a process that is not its server; correcting it"
    );
    let nofollow = rustix::fs::OFlags::NOFOLLOW.bits() as i32;
    let mut file = OpenOptions::new()
        .write(true)
        .truncate(true)
        .custom_flags(nofollow)
        .open(&path)
        .map_err(Error::io("opening", &path))?;
    file.write_all(format!("{NO_PROCESS}\n{rest}").as_bytes())
        .map_err(Error::io("writing", &path))
}

fn path(data: &Path) -> PathBuf {
    data.join("postmaster.pid")
}

fn read(data: &Path) -> Result<Option<String>, Error> {
    match fs::read_to_string(path(data)) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Error::io("reading", path(data))(error)),
    }
}

/// Lines: pid, data directory, start time, port, socket directory, listen address, shared memory, state.
fn parse(text: &str) -> Option<PidFile> {
    let mut lines = text.lines();
    let pid = lines.next()?.trim().parse().ok()?;
    let started = lines
        .nth(1)
        .and_then(|line| line.trim().parse().ok())
        .unwrap_or(0);
    let socket_directory = lines.nth(1).filter(|line| !line.is_empty()).map(PathBuf::from);
    Some(PidFile {
        pid,
        started: Duration::from_secs(started),
        socket_directory,
    })
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
        (Ok(working), Ok(data)) => working == data,
        _ => name.ends_with("(postgres"),
    }
}

pub(crate) fn exists(pid: u32) -> bool {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
    // Without permission to signal it, it is there all the same.
    pid.is_some_and(|pid| !matches!(test_kill_process(pid), Err(rustix::io::Errno::SRCH)))
}
