//! How does a fault come about, and how is it known that it did?
//!
//! - `postgres` is what happens to the database, `clock` what happens to its clock.

mod clock;
mod postgres;

use std::time::Duration;

use backstitch_testkit::cut::Passage;
use backstitch_testkit::{harm, looks};
use rustix::process::{Pid, Resource, Rlimit, Signal, getrlimit, kill_process, prlimit};
use tokio::time::{Instant, timeout};

use super::crew::{Slot, VETERAN};
use super::fault::{Fault, OnPooler, OnProcess, Then, Whose};
use super::launch::because;
use super::plan::Aimed;
use super::stage::Stage;
use crate::exit::Failed;

/// How long a fault waits for what it is aimed at before it is given up.
const AIM_PATIENCE: Duration = Duration::from_secs(15);

/// How long a statement is delayed: less than its deadline.
const DELAY: Duration = Duration::from_millis(400);

/// How long a line is silent: longer than a lease.
const SILENCE: Duration = Duration::from_millis(2500);

/// How long who is frozen may take to be buried. A daemon has the lease of production: 10 s, and its silence is looked at for as
/// long. Twice that, for a busy machine.
fn burial_max(whose: Whose) -> Duration {
    match whose {
        Whose::Worker => Duration::from_secs(20),
        Whose::Daemon => Duration::from_secs(40),
    }
}

/// Standard input, output and error: always open.
const DESCRIPTORS_FEW: u64 = 3;

const LOOK: Duration = Duration::from_millis(20);

/// Lets it happen. False: what it was aimed at did not come.
pub async fn apply(stage: &Stage, aimed: Aimed, number: u64) -> Result<bool, Failed> {
    match aimed.fault {
        Fault::Process(whose, how) => match stage.slot(whose, aimed.worker) {
            Some(slot) => process(stage, slot, how, burial_max(whose)).await,
            None => Ok(false),
        },
        Fault::Statement { whose, boundary, moment, then } => {
            let Some(slot) = stage.slot(whose, aimed.worker) else { return Ok(false) };
            let held = slot.line.hold(moment, boundary.statement(), 0);
            let Ok(Ok(held)) = timeout(AIM_PATIENCE, held).await else { return Ok(false) };
            match then {
                // Dropped after its worker is gone: nobody hears that the connection broke.
                Then::Killed => return Ok(slot.kill().await),
                Then::Cut => drop(held),
                Then::Delayed => {
                    tokio::time::sleep(DELAY).await;
                    held.pass();
                }
                Then::Buried => {
                    let buried = bury(stage, slot).await;
                    held.pass();
                    return Ok(buried);
                }
            }
            Ok(true)
        }
        Fault::Line(whose, passage) => {
            let Some(slot) = stage.slot(whose, aimed.worker) else { return Ok(false) };
            let _turn = slot.turn.lock().await;
            let half_shut = slot.line.half_shut();
            slot.line.let_through(passage);
            tokio::time::sleep(SILENCE).await;
            slot.line.let_through(Passage::Open);
            let shuts = matches!(passage, Passage::WorkerShut | Passage::PostgresShut);
            Ok(!shuts || slot.line.half_shut() > half_shut)
        }
        Fault::Call(misbehave, direction) => {
            // The log says whether it was met. A recorder that is killed meanwhile forgets, and answers nobody.
            let met = async {
                // Whoever is to be killed is not the veteran.
                let spares = aimed.fault.kills_a_worker().then(|| stage.workers[VETERAN].pid_now()).flatten();
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
        Fault::Postgres(how) => postgres::hurt(stage, how, number as usize).await,
        Fault::Pooler(how) => pooler(stage, how).await,
        Fault::Edge(how) => match &stage.edge {
            Some(edge) => edge.hurt(how).await,
            None => Ok(false),
        },
    }
}

async fn pooler(stage: &Stage, how: OnPooler) -> Result<bool, Failed> {
    let Ok(pooler) = &stage.pooler else { return Ok(false) };
    let mut pooler = pooler.lock().await;
    match how {
        OnPooler::Killed => pooler.kill_and_start().await.map_err(because),
        OnPooler::Frozen => {
            let Some(pid) = pooler.pid().and_then(Pid::from_raw) else { return Ok(false) };
            let _frozen = Frozen::of(vec![pid]);
            tokio::time::sleep(SILENCE).await;
            Ok(true)
        }
    }
}

async fn process(stage: &Stage, slot: &Slot, how: OnProcess, burial_max: Duration) -> Result<bool, Failed> {
    let _turn = slot.turn.lock().await;
    match how {
        OnProcess::Killed => Ok(slot.kill().await),
        OnProcess::ClockAhead => wrong_clock(stage, slot, "+1h").await,
        OnProcess::ClockBehind => wrong_clock(stage, slot, "-1h").await,
        OnProcess::Terminated => Ok(slot.signal(Signal::TERM)),
        OnProcess::BuriedAlive => Ok(bury(stage, slot).await),
        OnProcess::OutOfDescriptors => {
            let Some(pid) = slot.pid_now().and_then(Pid::from_raw) else { return Ok(false) };
            // What is open stays open, and can't be opened again.
            // The hard limit stays as it is, or only root could raise it again.
            let none =
                Rlimit { current: Some(DESCRIPTORS_FEW), maximum: getrlimit(Resource::Nofile).maximum };
            let Ok(before) = prlimit(Some(pid), Resource::Nofile, none) else { return Ok(false) };
            tokio::time::sleep(SILENCE).await;
            // It may have ended itself, and its number be somebody else's.
            let lives = slot.pid_now() == Some(pid.as_raw_nonzero().get());
            Ok(lives && prlimit(Some(pid), Resource::Nofile, before).is_ok())
        }
        OnProcess::Frozen => frozen(stage, slot, burial_max).await,
    }
}

/// Kills it, and waits until its next life is at work with that clock.
async fn wrong_clock(stage: &Stage, slot: &Slot, clock: &'static str) -> Result<bool, Failed> {
    slot.next_clock(clock);
    if !slot.kill().await {
        return Ok(false);
    }
    let next = slot.pid().await;
    let works = async || match next {
        Some(pid) => matches!(looks::living(&stage.pool, pid).await, Ok(Some(_))),
        None => false,
    };
    Ok(comes_true(AIM_PATIENCE, works).await)
}

/// Who has work in hand is stopped until somebody else declares it dead, and goes on: a zombie. One that another fault killed
/// meanwhile was buried as it was dead, and one that had nothing to lose is no danger to anybody.
async fn frozen(stage: &Stage, slot: &Slot, burial_max: Duration) -> Result<bool, Failed> {
    let Some((pid, incarnation, _frozen)) = freeze_at_work(stage, slot).await else { return Ok(false) };
    let is_buried = async || looks::is_buried(&stage.pool, incarnation).await.unwrap_or(false);
    let left_any = async || looks::left_any(&stage.pool, incarnation).await.unwrap_or(false);
    Ok(comes_true(burial_max, is_buried).await && slot.pid_now() == Some(pid) && left_any().await)
}

/// The process, its life, and what keeps it frozen; once it is seen to hold a workflow.
async fn freeze_at_work(stage: &Stage, slot: &Slot) -> Option<(i32, i32, Frozen)> {
    let began = Instant::now();
    while began.elapsed() < AIM_PATIENCE {
        if let Some(pid) = slot.pid_now()
            && let Ok(Some(incarnation)) = looks::living(&stage.pool, pid).await
            && let Some(process) = Pid::from_raw(pid)
        {
            let frozen = Frozen::of(vec![process]);
            // What it had said already is carried out.
            tokio::time::sleep(LOOK).await;
            if looks::holds_any(&stage.pool, incarnation).await.unwrap_or(false) {
                return Some((pid, incarnation, frozen));
            }
        }
        tokio::time::sleep(LOOK).await;
    }
    None
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
async fn bury(stage: &Stage, slot: &Slot) -> bool {
    match slot.pid_now() {
        Some(pid) => harm::bury(&stage.pool, pid).await.unwrap_or(false),
        None => false,
    }
}
