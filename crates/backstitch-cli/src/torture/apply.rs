//! How does a fault come about, and how is it known that it did?

use std::time::Duration;

use backstitch_postgres::Stop;
use backstitch_testkit::cut::Passage;
use backstitch_testkit::harm::{self, Disturb};
use rustix::process::{Pid, Resource, Rlimit, Signal, getrlimit, kill_process, prlimit};
use tokio::time::{Instant, timeout};

use super::crew::Slot;
use super::fault::{Fault, OnPostgres, OnProcess, Then};
use super::plan::Aimed;
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
                stage.recorder.aim(number, misbehave, direction).await?;
                while stage.recorder.waits(number).await? {
                    tokio::time::sleep(LOOK).await;
                }
                std::io::Result::Ok(())
            };
            let met = timeout(AIM_PATIENCE, met).await.is_ok_and(|met| met.is_ok());
            if !met {
                let _ = timeout(LOOK, stage.recorder.forget(number)).await;
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
        OnProcess::ClockAhead => {
            worker.next_clock("+1h");
            Ok(worker.kill().await)
        }
        OnProcess::ClockBehind => {
            worker.next_clock("-1h");
            Ok(worker.kill().await)
        }
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
            // It may have ended itself.
            let _ = prlimit(Some(pid), Resource::Nofile, before);
            Ok(true)
        }
        OnProcess::Frozen => {
            let Some(pid) = worker.pid().await else { return Ok(false) };
            if !worker.signal(Signal::STOP) {
                return Ok(false);
            }
            let began = Instant::now();
            let mut buried = false;
            while !buried && began.elapsed() < BURIAL_MAX {
                tokio::time::sleep(LOOK).await;
                buried = harm::is_buried(&stage.pool, pid).await.unwrap_or(false);
            }
            worker.signal(Signal::CONT);
            Ok(buried)
        }
    }
}

/// False: nobody lives there, or Postgres is down, and nobody can be buried.
async fn bury_alive(stage: &Stage, worker: &Slot) -> bool {
    match worker.pid_now() {
        Some(pid) => harm::bury_alive(&stage.pool, pid).await.unwrap_or(false),
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
            for pid in &all {
                let _ = kill_process(*pid, Signal::STOP);
            }
            tokio::time::sleep(FROZEN).await;
            for pid in &all {
                let _ = kill_process(*pid, Signal::CONT);
            }
            Ok(true)
        }
        OnPostgres::SessionTerminated => {
            Ok(harm::disturb(&stage.pool, Disturb::Terminate, choice).await.unwrap_or(false))
        }
        OnPostgres::StatementCancelled => {
            Ok(harm::disturb(&stage.pool, Disturb::Cancel, choice).await.unwrap_or(false))
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
