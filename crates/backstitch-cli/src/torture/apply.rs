//! How does a fault come about, and how is it known that it did?

use std::time::Duration;

use backstitch_postgres::Stop;
use backstitch_testkit::cut::Passage;
use backstitch_testkit::harm::{self, Disturb};
use backstitch_testkit::looks;
use rustix::process::{Pid, Resource, Rlimit, Signal, getrlimit, kill_process, prlimit};
use tokio::time::{Instant, timeout};

use super::crew::Slot;
use super::fault::{Fault, OnPostgres, OnProcess, Then};
use super::plan::{Aimed, WORKERS};
use super::stage::{Stage, because};
use crate::exit::Failed;

/// How long a fault waits for what it is aimed at before it is given up.
const AIM_PATIENCE: Duration = Duration::from_secs(15);

/// How long a statement is delayed: less than its deadline.
const DELAY: Duration = Duration::from_millis(400);

/// How long a line is silent: longer than a lease.
const SILENCE: Duration = Duration::from_millis(2500);

/// How long Postgres is frozen: longer than a statement's deadline, and than a lease.
const FROZEN: Duration = Duration::from_millis(2000);

/// How long a frozen worker may take to be buried.
const BURIAL_MAX: Duration = Duration::from_secs(20);

/// Standard input, output and error: always open.
const DESCRIPTORS_FEW: u64 = 3;

const LOOK: Duration = Duration::from_millis(20);

/// Lets it happen. False: what it was aimed at did not come.
pub async fn apply(stage: &Stage, aimed: Aimed, number: u64) -> Result<bool, Failed> {
    let worker = &stage.workers[aimed.worker];
    match aimed.fault {
        Fault::Process(how) => process(stage, worker, how).await,
        Fault::Statement { boundary, moment, then } => {
            let held = worker.line.hold(moment, boundary.statement(), 0);
            let Ok(Ok(held)) = timeout(AIM_PATIENCE, held).await else { return Ok(false) };
            match then {
                // Dropped after its worker is gone: nobody hears that the connection broke.
                Then::Killed => return Ok(worker.kill().await),
                Then::Cut => drop(held),
                Then::Delayed => {
                    tokio::time::sleep(DELAY).await;
                    held.pass();
                }
                Then::Buried => {
                    let buried = bury_alive(stage, worker).await;
                    held.pass();
                    return Ok(buried);
                }
            }
            Ok(true)
        }
        Fault::Line(passage) => {
            let _turn = worker.turn.lock().await;
            worker.line.let_through(passage);
            tokio::time::sleep(SILENCE).await;
            worker.line.let_through(Passage::Open);
            Ok(true)
        }
        Fault::Call(misbehave, direction) => {
            // The log says whether it was met. A recorder that is killed meanwhile forgets, and answers nobody.
            let met = async {
                // Whoever is to be killed is not the veteran.
                let spares =
                    aimed.fault.kills_a_worker().then(|| stage.workers[WORKERS - 1].pid_now()).flatten();
                stage.recorder.aim(number, misbehave, direction, spares).await?;
                while stage.recorder.waits(number).await? {
                    tokio::time::sleep(LOOK).await;
                }
                std::io::Result::Ok(())
            };
            let met = timeout(AIM_PATIENCE, met).await.is_ok_and(|met| met.is_ok());
            if !met {
                let _ = timeout(AIM_PATIENCE, stage.recorder.forget(number)).await;
            }
            Ok(met)
        }
        Fault::RecorderKilled => stage.restart_recorder().await.map(|()| true),
        Fault::Postgres(how) => postgres(stage, how, number as usize).await,
        Fault::Edge(how) => match &stage.edge {
            Some(edge) => edge.hurt(how, aimed.worker).await,
            None => Ok(false),
        },
    }
}

async fn process(stage: &Stage, worker: &Slot, how: OnProcess) -> Result<bool, Failed> {
    let _turn = worker.turn.lock().await;
    match how {
        OnProcess::Killed => Ok(worker.kill().await),
        OnProcess::ClockAhead => wrong_clock(stage, worker, "+1h").await,
        OnProcess::ClockBehind => wrong_clock(stage, worker, "-1h").await,
        OnProcess::Terminated => Ok(worker.signal(Signal::TERM)),
        OnProcess::BuriedAlive => Ok(bury_alive(stage, worker).await),
        OnProcess::OutOfDescriptors => {
            let Some(pid) = worker.pid_now().and_then(Pid::from_raw) else { return Ok(false) };
            // What is open stays open, and can't be opened again.
            // The hard limit stays as it is, or only root could raise it again.
            let none =
                Rlimit { current: Some(DESCRIPTORS_FEW), maximum: getrlimit(Resource::Nofile).maximum };
            let Ok(before) = prlimit(Some(pid), Resource::Nofile, none) else { return Ok(false) };
            tokio::time::sleep(SILENCE).await;
            // It may have ended itself, and its number be somebody else's.
            let lives = worker.pid_now() == Some(pid.as_raw_nonzero().get());
            Ok(lives && prlimit(Some(pid), Resource::Nofile, before).is_ok())
        }
        OnProcess::Frozen => frozen(stage, worker).await,
    }
}

/// Kills it, and waits until its next life is at work with that clock.
async fn wrong_clock(stage: &Stage, worker: &Slot, clock: &'static str) -> Result<bool, Failed> {
    worker.next_clock(clock);
    if !worker.kill().await {
        return Ok(false);
    }
    let next = worker.pid().await;
    let works = async || match next {
        Some(pid) => matches!(looks::living(&stage.pool, pid).await, Ok(Some(_))),
        None => false,
    };
    Ok(comes_true(AIM_PATIENCE, works).await)
}

/// A worker that has a lease is stopped until somebody else declares it dead, and goes on.
async fn frozen(stage: &Stage, worker: &Slot) -> Result<bool, Failed> {
    let Some(pid) = worker.pid().await else { return Ok(false) };
    let mut incarnation = None;
    comes_true(AIM_PATIENCE, async || {
        incarnation = looks::living(&stage.pool, pid).await.ok().flatten();
        incarnation.is_some()
    })
    .await;
    let (Some(incarnation), Some(process)) = (incarnation, Pid::from_raw(pid)) else { return Ok(false) };
    let _frozen = Frozen::of(vec![process]);
    let is_buried = async || looks::is_buried(&stage.pool, incarnation).await.unwrap_or(false);
    // One that another fault killed meanwhile was buried as it was dead: no zombie.
    Ok(comes_true(BURIAL_MAX, is_buried).await && worker.pid_now() == Some(pid))
}

/// Processes that are stopped (SIGSTOP) as long as this lives, whatever ends it.
struct Frozen(Vec<Pid>);

impl Frozen {
    fn of(processes: Vec<Pid>) -> Self {
        for process in &processes {
            // One of them may have ended.
            let _ = kill_process(*process, Signal::STOP);
        }
        Self(processes)
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        for process in &self.0 {
            let _ = kill_process(*process, Signal::CONT);
        }
    }
}

/// Whether it is so within this time.
async fn comes_true(within: Duration, mut so: impl AsyncFnMut() -> bool) -> bool {
    let began = Instant::now();
    while began.elapsed() < within {
        if so().await {
            return true;
        }
        tokio::time::sleep(LOOK).await;
    }
    false
}

/// False: nobody lives there, or Postgres is down, and nobody can be buried.
async fn bury_alive(stage: &Stage, worker: &Slot) -> bool {
    match worker.pid_now() {
        Some(pid) => harm::bury(&stage.pool, pid).await.unwrap_or(false),
        None => false,
    }
}

async fn postgres(stage: &Stage, how: OnPostgres, choice: usize) -> Result<bool, Failed> {
    let _turn = stage.postgres_turn.lock().await;
    let cluster = &stage.postgres.cluster;
    match how {
        OnPostgres::Stopped => {
            cluster.restart(Stop::Immediate).await.map_err(because)?;
            Ok(true)
        }
        OnPostgres::Killed => {
            let Some(pid) = postmaster(stage)? else { return Ok(false) };
            kill_process(pid, Signal::KILL).map_err(because)?;
            cluster.start().await.map_err(because)?;
            Ok(true)
        }
        OnPostgres::Frozen => {
            let Some(postmaster) = postmaster(stage)? else { return Ok(false) };
            let all: Vec<Pid> = children(postmaster).into_iter().chain([postmaster]).collect();
            // The postmaster last: one that was born meanwhile goes on, and is not much.
            let _frozen = Frozen::of(all);
            tokio::time::sleep(FROZEN).await;
            Ok(true)
        }
        OnPostgres::SessionTerminated => {
            Ok(harm::disturb(&stage.pool, Disturb::Terminate, choice).await.unwrap_or(false))
        }
        OnPostgres::StatementCancelled => {
            let cancelled =
                async || harm::disturb(&stage.pool, Disturb::Cancel, choice).await.unwrap_or(false);
            Ok(comes_true(AIM_PATIENCE, cancelled).await)
        }
    }
}

fn postmaster(stage: &Stage) -> Result<Option<Pid>, Failed> {
    let pid = stage.postgres.cluster.postmaster_pid().map_err(because)?;
    Ok(pid.and_then(|pid| Pid::from_raw(pid.cast_signed())))
}

/// The processes whose parent this is.
fn children(parent: Pid) -> Vec<Pid> {
    let parent = parent.as_raw_nonzero().to_string();
    let processes = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    processes
        .filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok())
        .filter(|pid| {
            let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            // After the name, which may hold anything: state, then parent.
            stat.rsplit_once(')').and_then(|(_, rest)| rest.split_whitespace().nth(1)) == Some(&parent)
        })
        .filter_map(Pid::from_raw)
        .collect()
}
