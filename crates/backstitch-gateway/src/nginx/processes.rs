//! Which processes are this nginx, and which of them still take requests?

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use rustix::io::Errno;
use rustix::process::{Pid, Signal, kill_process};

use super::error::NginxError;

/// The master, known to be an nginx and not a stranger who got its old process id.
#[derive(Debug, Clone, Copy)]
pub(super) struct Master(i32);

impl Master {
    pub(super) fn find(pid_file: &Path) -> Result<Self, NginxError> {
        let not_running = |what: String| NginxError::NotRunning { detail: what };
        let text = fs::read_to_string(pid_file)
            .map_err(|e| not_running(format!("no process id in {}: {e}", pid_file.display())))?;
        let pid: i32 = text
            .trim()
            .parse()
            .map_err(|_| not_running(format!("{} holds no process id", pid_file.display())))?;
        if !title(pid).is_some_and(|title| title.starts_with("nginx: master process")) {
            let what = format!(
                "process {pid}, named by {}, is no nginx master that can be seen from here",
                pid_file.display()
            );
            return Err(not_running(what));
        }
        Ok(Self(pid))
    }

    pub(super) fn pid(self) -> i32 {
        self.0
    }

    /// Tells it to read its configuration again. That it was told says nothing of what it did.
    pub(super) fn hang_up(self) -> Result<(), NginxError> {
        let gone = || NginxError::NotRunning { detail: format!("its master, process {}, is gone", self.0) };
        let pid = Pid::from_raw(self.0).ok_or_else(gone)?;
        kill_process(pid, Signal::HUP).map_err(|e| match e {
            Errno::PERM => NginxError::NotAllowed { pid: self.0 },
            _ => gone(),
        })
    }

    /// The workers that take new requests.
    pub(super) fn serving(self) -> BTreeSet<i32> {
        let Ok(entries) = fs::read_dir("/proc") else {
            return BTreeSet::new();
        };
        let pids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
        pids.filter(|pid| self.is_serving(*pid)).collect()
    }

    /// Whether this process is a worker of ours and still takes new requests.
    pub(super) fn is_serving(self, pid: i32) -> bool {
        parent(pid) == Some(self.0)
            && title(pid)
                .is_some_and(|t| t.starts_with("nginx: worker process") && !t.contains("is shutting down"))
    }
}

/// What a process calls itself; none if it is gone, empty if it is a zombie.
fn title(pid: i32) -> Option<String> {
    let bytes = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    Some(String::from_utf8_lossy(&bytes).replace('\0', " "))
}

/// The parent, from the fields behind the name, which is in parentheses and may contain anything.
fn parent(pid: i32) -> Option<i32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()
}
