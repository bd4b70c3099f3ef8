//! When everything is over: is everything as it must be?

use std::collections::HashMap;
use std::time::Duration;

use backstitch::WorkflowId;
use backstitch_testkit::judge::{self, ENDS};
use backstitch_testkit::recorder::{Line, read_log};
use backstitch_testkit::{harm, oracle};
use chrono::{DateTime, Utc};
use tokio::time::Instant;
use uuid::Uuid;

use super::crew::Death;
use super::load::Acknowledged;
use super::stage::{Stage, because};
use crate::exit::Failed;

/// How long things are left to themselves before an operator hurries up what waits for a late retry.
const UNHURRIED: Duration = Duration::from_secs(5);

const LOOK: Duration = Duration::from_millis(200);

/// What a round came to.
#[derive(Debug, Default)]
pub struct Audit {
    /// What must never be, each in words.
    pub violations: Vec<String>,
    /// How many ended in each way.
    pub ended: HashMap<String, u64>,
    /// Of those that would complete where nothing goes wrong: how many there were, and how many did.
    pub meant_to_complete: (u64, u64),
    /// How many attempts took effect at the target.
    pub effects: u64,
    /// By which numbers of faults calls were met.
    pub met: Vec<u64>,
    /// How long after its death a killed worker was buried, in milliseconds.
    pub buried_after_ms: Vec<u64>,
    /// How long after its death others went on with each workflow that a killed worker had in hand, in milliseconds.
    pub taken_over_after_ms: Vec<u64>,
}

/// Waits until nothing is under way any more, as long as things end, each within `progress_max` of the one before. Says
/// what is stuck.
pub async fn settle(stage: &Stage, progress_max: Duration) -> Result<Vec<String>, Failed> {
    let began = Instant::now();
    let (mut fewest, mut since) = (usize::MAX, Instant::now());
    loop {
        let unfinished = harm::unfinished(&stage.pool).await.map_err(because)?;
        if unfinished.is_empty() {
            return Ok(Vec::new());
        }
        if unfinished.len() < fewest {
            (fewest, since) = (unfinished.len(), Instant::now());
        }
        if since.elapsed() > progress_max {
            let stuck = |workflow: &WorkflowId| {
                format!(
                    "stranded: {workflow} has not ended {} s after the last fault",
                    began.elapsed().as_secs()
                )
            };
            return Ok(unfinished.iter().map(stuck).collect());
        }
        if began.elapsed() > UNHURRIED {
            for workflow in unfinished {
                // Refused where it does not wait: then there is nothing to hurry up.
                let _ = stage.client.retry(workflow, "torture", "everything is well again").await;
            }
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// Looks at everything that this round left.
pub async fn audit(
    stage: &Stage,
    round: u64,
    began: DateTime<Utc>,
    acknowledged: &[Acknowledged],
    deaths: &[Death],
) -> Result<Audit, Failed> {
    let mut audit = Audit::default();
    let log = read_log(&stage.log(round)).map_err(because)?;
    let first = acknowledged.iter().map(|it| it.workflow.0).min().unwrap_or(Uuid::max());
    let told = oracle::everything(&stage.pool, &stage.inner_ledger, &log, first).await.map_err(because)?;
    for it in acknowledged {
        match told.get(&it.workflow.0).map(|told| told.status.as_str()) {
            None => audit.violations.push(format!("lost: {} was acknowledged and is not there", it.workflow)),
            Some(status) if !ENDS.contains(&status) => {
                audit.violations.push(format!("stranded: {} is {status}", it.workflow));
            }
            Some(status) if it.is_meant_to_complete => {
                audit.meant_to_complete.0 += 1;
                audit.meant_to_complete.1 += u64::from(status == "completed");
            }
            Some(_) => {}
        }
    }
    for (workflow, told) in &told {
        *audit.ended.entry(told.status.clone()).or_default() += 1;
        let faults = judge::faults(told);
        audit.violations.extend(faults.into_iter().map(|fault| format!("{fault}; workflow {workflow}")));
    }
    for Line { call, aim, .. } in &log {
        audit.met.extend(aim);
        if !told.contains_key(&call.workflow) {
            audit.violations.push(format!("lost: {} had an effect and is not there", call.workflow));
        }
    }
    audit.effects = log.len() as u64;
    let dead = harm::written_by_the_dead(&stage.pool).await.map_err(because)?;
    audit.violations.extend(dead.iter().map(|workflow| format!("written by the dead: workflow {workflow}")));
    let stranded = harm::stranded(&stage.pool).await.map_err(because)?;
    audit.violations.extend(stranded.iter().map(|workflow| format!("stranded: {workflow}, by nobody")));
    if let Some(edge) = &stage.edge {
        audit.violations.extend(edge.left().await?.into_iter().map(|left| format!("leaked: {left}")));
    }
    let died: HashMap<i32, DateTime<Utc>> = deaths.iter().map(|death| (death.pid, death.at)).collect();
    let after = |rows: Vec<(i32, DateTime<Utc>)>| {
        let lags = rows
            .into_iter()
            .filter_map(|(pid, at)| u64::try_from((at - *died.get(&pid)?).num_milliseconds()).ok());
        lags.collect()
    };
    audit.buried_after_ms = after(harm::burials(&stage.pool, began).await.map_err(because)?);
    audit.taken_over_after_ms = after(harm::takeovers(&stage.pool, began).await.map_err(because)?);
    Ok(audit)
}
