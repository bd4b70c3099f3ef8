//! What happens to Postgres, and how is it known that it did?

use std::time::Duration;

use backstitch_postgres::Stop;
use backstitch_testkit::harm::{self, Disturb};
use chrono::Utc;
use rustix::process::{Pid, Signal, kill_process};

use super::super::fault::OnPostgres;
use super::super::launch::because;
use super::super::stage::Stage;
use super::{AIM_PATIENCE, Frozen, SILENCE, clock, comes_true};
use crate::exit::Failed;

/// How long Postgres is frozen: longer than a statement's deadline, and than a lease.
const FROZEN: Duration = Duration::from_millis(2000);

/// What Postgres says where there is no room, and of a statement that was cancelled (SQLSTATE).
const DISK_FULL: &str = "53100";
const CANCELLED: &str = "57014";

/// Lets it happen. False: it did not come to that. `choice`: which session it falls on, where it is one's.
pub async fn hurt(stage: &Stage, how: OnPostgres, choice: usize) -> Result<bool, Failed> {
    let _turn = match how {
        // It works on meanwhile, and whatever else happens to it may.
        OnPostgres::ClockAhead | OnPostgres::ClockBehind => stage.clock_turn.lock().await,
        _ => stage.postgres_turn.lock().await,
    };
    let began = Utc::now();
    let came_about = happen(stage, how, choice).await;
    if how.is_an_outage() {
        stage.note_outage(began, Utc::now());
    }
    came_about
}

async fn happen(stage: &Stage, how: OnPostgres, choice: usize) -> Result<bool, Failed> {
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
            // Whoever has nothing under way by then takes no notice: until somebody hears that it was.
            let before = stage.refused(CANCELLED);
            let is_heard = async || {
                let _ = harm::disturb(&stage.pool, Disturb::Cancel, choice).await;
                stage.refused(CANCELLED) > before
            };
            Ok(comes_true(AIM_PATIENCE, is_heard).await)
        }
        OnPostgres::DiskFull => disk_full(stage).await,
        OnPostgres::ClockAhead => clock::jump(stage, "1 hour").await,
        OnPostgres::ClockBehind => clock::jump(stage, "-1 hour").await,
    }
}

/// Full until somebody who works has heard so, and a while longer.
async fn disk_full(stage: &Stage) -> Result<bool, Failed> {
    let Ok(disk) = &stage.postgres_disk else { return Ok(false) };
    let before = stage.refused(DISK_FULL);
    if disk.fill().is_err() {
        // It was taking up more all the time.
        return Ok(false);
    }
    let is_heard = comes_true(AIM_PATIENCE, async || stage.refused(DISK_FULL) > before).await;
    tokio::time::sleep(SILENCE).await;
    disk.make_room().map_err(because)?;
    Ok(is_heard)
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
