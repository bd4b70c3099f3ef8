//! Processes that are there to die: each in a slot that fills itself again.

use std::os::unix::process::ExitStatusExt;
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use backstitch_testkit::cut::Line;
use chrono::{DateTime, Utc};
use rustix::process::{Pid, Signal, kill_process};
use tokio::process::Command;
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// How many workers drive scripted workflows.
pub const WORKERS: usize = 4;

/// The one that reaches Postgres through a pooler.
pub const POOLED: usize = 1;

/// The one whose process is never killed, so that what leaks shows.
pub const VETERAN: usize = WORKERS - 1;

/// Between a death and the next life: what can't start, as Postgres is down, does not try a thousand times a second.
const PAUSE: Duration = Duration::from_millis(50);

/// What the next life of a slot begins with.
#[derive(Debug, Clone, Copy, Default)]
pub struct Launch {
    /// By how much its clock is off, as faketime says it.
    pub clock: Option<&'static str>,
}

/// A process that ended.
#[derive(Debug, Clone, Copy)]
pub struct Death {
    /// Which.
    pub pid: i32,
    /// When it had begun: numbers of processes come again.
    pub born_at: DateTime<Utc>,
    /// When.
    pub at: DateTime<Utc>,
    /// Of which signal. None: by itself.
    pub signal: Option<i32>,
}

impl Death {
    /// Whether it was killed with SIGKILL.
    pub fn is_a_kill(&self) -> bool {
        self.signal == Some(Signal::KILL.as_raw())
    }
}

/// A process that lives.
#[derive(Debug, Clone, Copy)]
pub struct Living {
    /// Which.
    pub pid: i32,
    /// When it began.
    pub born_at: DateTime<Utc>,
}

/// A place where a process lives, and after its death the next.
#[derive(Debug)]
pub struct Slot {
    /// Its line to Postgres.
    pub line: Line,
    /// Only one fault at a time has to do with its process.
    pub turn: tokio::sync::Mutex<()>,
    launch: Arc<Mutex<Launch>>,
    living: watch::Receiver<Option<Living>>,
    deaths: Arc<Mutex<Vec<Death>>>,
    supervisor: JoinHandle<()>,
}

impl Slot {
    /// A slot whose lives begin with this command.
    pub fn open(line: Line, command: impl Fn(Launch) -> Command + Send + 'static) -> Self {
        let (tell, living) = watch::channel(None);
        let launch = Arc::new(Mutex::new(Launch::default()));
        let deaths = Arc::new(Mutex::new(Vec::new()));
        let supervisor = tokio::spawn(supervise(command, Arc::clone(&launch), tell, Arc::clone(&deaths)));
        Self { line, turn: tokio::sync::Mutex::default(), launch, living, deaths, supervisor }
    }

    /// The process that lives now, once there is one.
    pub async fn pid(&self) -> Option<i32> {
        let mut living = self.living.clone();
        living.wait_for(Option::is_some).await.ok().and_then(|living| *living).map(|living| living.pid)
    }

    /// The process that lives at this moment.
    pub fn pid_now(&self) -> Option<i32> {
        self.living().map(|living| living.pid)
    }

    /// The same, and since when.
    pub fn living(&self) -> Option<Living> {
        *self.living.borrow()
    }

    /// Sends a signal to the process that lives now. False: none does.
    pub fn signal(&self, signal: Signal) -> bool {
        let pid = self.pid_now().and_then(Pid::from_raw);
        pid.is_some_and(|pid| kill_process(pid, signal).is_ok())
    }

    /// SIGKILL, and waits until it is gone. False: none lived.
    pub async fn kill(&self) -> bool {
        let mut living = self.living.clone();
        let victim = living.borrow_and_update().map(|living| living.born_at);
        let killed = victim.is_some() && self.signal(Signal::KILL);
        killed && living.wait_for(|now| now.map(|living| living.born_at) != victim).await.is_ok()
    }

    /// With which clock the next life begins; those after it have the right one again.
    pub fn next_clock(&self, clock: &'static str) {
        lock(&self.launch).clock = Some(clock);
    }

    /// Who has died here, the first one first.
    pub fn deaths(&self) -> Vec<Death> {
        lock(&self.deaths).clone()
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        // With the supervisor its child is killed.
        self.supervisor.abort();
    }
}

async fn supervise(
    command: impl Fn(Launch) -> Command,
    launch: Arc<Mutex<Launch>>,
    tell: watch::Sender<Option<Living>>,
    deaths: Arc<Mutex<Vec<Death>>>,
) {
    loop {
        let next = std::mem::take(&mut *lock(&launch));
        let spawned = command(next).stdin(Stdio::piped()).stdout(Stdio::null()).kill_on_drop(true).spawn();
        if let Ok(mut child) = spawned
            && let Some(pid) = child.id().and_then(|pid| i32::try_from(pid).ok())
        {
            let born_at = Utc::now();
            tell.send_replace(Some(Living { pid, born_at }));
            // Waiting would close it, and that would be the end of the process.
            let held = child.stdin.take();
            let status = child.wait().await;
            drop(held);
            let signal = status.ok().and_then(|status| status.signal());
            lock(&deaths).push(Death { pid, born_at, at: Utc::now(), signal });
            tell.send_replace(None);
        }
        tokio::time::sleep(PAUSE).await;
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
