//! How does a server of the sandbox begin, and end for certain?
//!
//! Each runs in a process group of its own, so that its workers end with it. Its process id and the time it began are
//! kept in a file: a sandbox whose process was killed is cleared away by the next one, and a stranger who got the same
//! process id is left alone.

use std::fs::{self, File};
use std::io;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group};

use super::error::SandboxError;

/// All of them start in well under a second; a busy machine gets much more.
const START_TIMEOUT: Duration = Duration::from_secs(15);
const START_POLL: Duration = Duration::from_millis(10);
/// A killed process group is gone as soon as the kernel gets to it.
const KILL_TIMEOUT: Duration = Duration::from_secs(5);
/// How much of a log an error repeats.
const LOG_LENGTH_MAX: usize = 2000;
/// Where process ids are kept, below the sandbox's directory.
const PROCESSES: &str = "processes";
/// What else earlier sandboxes left.
const REMAINS: [&str; 3] = ["powerdns", "nginx", "gateways"];

/// One server process of a sandbox; killed when dropped.
#[derive(Debug)]
pub struct Server {
    name: String,
    child: Child,
    log: PathBuf,
    pid_file: PathBuf,
}

impl Server {
    pub(super) fn spawn(
        sandbox: &Path,
        name: &str,
        log: PathBuf,
        command: &mut Command,
        package: &'static str,
    ) -> Result<Self, SandboxError> {
        let io = |source| SandboxError::Directory { directory: sandbox.to_owned(), source };
        let output = File::create(&log).map_err(io)?;
        let errors = output.try_clone().map_err(io)?;
        command.process_group(0).stdin(Stdio::null()).stdout(output).stderr(errors);
        let child = command.spawn().map_err(|source| match source.kind() {
            io::ErrorKind::NotFound => SandboxError::Missing {
                program: command.get_program().to_string_lossy().into_owned(),
                package,
            },
            _ => io(source),
        })?;
        let processes = sandbox.join(PROCESSES);
        let pid_file = processes.join(name);
        let server = Self { name: name.to_owned(), child, log, pid_file };
        let pid = server.pid();
        let line = format!("{pid} {}", began(pid).unwrap_or_default());
        fs::create_dir_all(&processes).and_then(|()| fs::write(&server.pid_file, line)).map_err(io)?;
        Ok(server)
    }

    /// Its process id.
    pub fn pid(&self) -> i32 {
        i32::try_from(self.child.id()).expect("process ids fit into an i32 on Linux")
    }

    /// Waits until it answers; an end or silence is an error with the end of its log.
    pub(super) async fn wait_until(
        &mut self,
        mut ready: impl AsyncFnMut() -> bool,
    ) -> Result<(), SandboxError> {
        let deadline = Instant::now() + START_TIMEOUT;
        loop {
            let ended = !matches!(self.child.try_wait(), Ok(None));
            if ended || Instant::now() >= deadline {
                return Err(SandboxError::DidNotStart { server: self.name.clone(), log: self.log_end() });
            }
            if ready().await {
                return Ok(());
            }
            tokio::time::sleep(START_POLL).await;
        }
    }

    pub(super) fn log_text(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Stops it in its tracks (SIGSTOP): connections stay open and nobody answers.
    pub fn freeze(&self) -> Result<(), SandboxError> {
        self.signal(Signal::STOP)
    }

    /// Lets it go on (SIGCONT).
    pub fn thaw(&self) -> Result<(), SandboxError> {
        self.signal(Signal::CONT)
    }

    /// Kills it and its workers (SIGKILL), and waits until they are gone.
    pub fn kill(&mut self) -> Result<(), SandboxError> {
        // Reaped already: its process id, and so its group, may be someone else's by now.
        if !matches!(self.child.try_wait(), Ok(None)) {
            return Ok(());
        }
        let killed = self.signal(Signal::KILL);
        let _ = self.child.wait();
        let _ = fs::remove_file(&self.pid_file);
        killed
    }

    fn signal(&self, signal: Signal) -> Result<(), SandboxError> {
        let group = Pid::from_raw(self.pid()).ok_or(io::Error::from(io::ErrorKind::NotFound));
        group
            .and_then(|group| Ok(kill_process_group(group, signal)?))
            .map_err(|source| SandboxError::Signal { server: self.name.clone(), source })
    }

    fn log_end(&self) -> String {
        let text = self.log_text();
        let characters: Vec<char> = text.chars().collect();
        characters[characters.len().saturating_sub(LOG_LENGTH_MAX)..].iter().collect()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.kill();
    }
}

/// Kills what an earlier sandbox in this directory left running, and removes its files.
pub(super) fn clear_away(sandbox: &Path) -> Result<(), SandboxError> {
    let io = |source| SandboxError::Directory { directory: sandbox.to_owned(), source };
    let processes = sandbox.join(PROCESSES);
    for entry in fs::read_dir(&processes).into_iter().flatten() {
        let file = entry.map_err(io)?.path();
        kill_left_over(&fs::read_to_string(&file).map_err(io)?);
        fs::remove_file(&file).map_err(io)?;
    }
    for remains in REMAINS {
        match fs::remove_dir_all(sandbox.join(remains)) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(io(e)),
            _ => {}
        }
    }
    Ok(())
}

fn kill_left_over(line: &str) {
    let mut words = line.split_whitespace();
    let pid: Option<i32> = words.next().and_then(|word| word.parse().ok());
    let (Some(pid), Some(then)) = (pid, words.next()) else {
        return;
    };
    let is_the_same = || began(pid).is_some_and(|now| now == then);
    let deadline = Instant::now() + KILL_TIMEOUT;
    while is_the_same() && Instant::now() < deadline {
        if let Some(group) = Pid::from_raw(pid) {
            let _ = kill_process_group(group, Signal::KILL);
        }
        std::thread::sleep(START_POLL);
    }
}

/// When a process that lives began, in ticks since the machine did; with its id this names it for certain.
fn began(pid: i32) -> Option<String> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
    // State is the first field after the name, the starting time the twentieth.
    if matches!(fields.next()?, "Z" | "X") {
        return None;
    }
    fields.nth(18).map(str::to_owned)
}
