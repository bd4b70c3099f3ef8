//! When everything is over: is everything as it must be?

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use backstitch_testkit::judge::{self, ENDS};
use backstitch_testkit::recorder::{Line, read_log};
use backstitch_testkit::violation::{Violated, Violation};
use backstitch_testkit::{looks, oracle};
use chrono::{DateTime, Utc};
use tokio::time::Instant;
use uuid::Uuid;

use super::crew::Death;
use super::load::Acknowledged;
use super::stage::{Stage, because};
use crate::exit::Failed;

/// How long things are left to themselves before an operator hurries up what waits for a late retry.
const UNHURRIED: Duration = Duration::from_secs(5);

/// One that failed once more goes back to its slow pace, of minutes: it is hurried up again.
const HURRY_AGAIN: Duration = Duration::from_secs(20);

const LOOK: Duration = Duration::from_millis(200);

/// What a round came to.
#[derive(Debug, Default)]
pub struct Audit {
    /// What must never be.
    pub violations: Vec<Violation>,
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
/// what is stranded or stuck.
pub async fn settle(stage: &Stage, progress_max: Duration) -> Result<Vec<Violation>, Failed> {
    let began = Instant::now();
    let (mut fewest, mut since) = (usize::MAX, Instant::now());
    let (mut hurried, mut found) = (BTreeMap::new(), Vec::new());
    loop {
        let unfinished = looks::unfinished(&stage.pool).await.map_err(because)?;
        // A call whose caller is gone may still be done.
        let under_way = stage.recorder.under_way().await.map_err(because)?;
        if unfinished.is_empty() && under_way == 0 {
            return Ok(found);
        }
        if unfinished.len() < fewest {
            (fewest, since) = (unfinished.len(), Instant::now());
        }
        if since.elapsed() > progress_max {
            found.extend(unfinished.iter().map(|workflow| {
                let seconds = began.elapsed().as_secs();
                Violated::NothingStranded
                    .by(format!("{workflow} has not ended {seconds} s after the last fault"))
            }));
            return Ok(found);
        }
        if began.elapsed() > UNHURRIED {
            if hurried.is_empty() {
                // Before anything is hurried up: that would bring back what nobody would have come to.
                let stranded = looks::stranded(&stage.pool).await.map_err(because)?;
                let by_nobody = |workflow| Violated::NothingStranded.by(format!("{workflow}, by nobody"));
                found.extend(stranded.into_iter().map(by_nobody));
            }
            for workflow in unfinished {
                let was_hurried =
                    hurried.get(&workflow.0).is_some_and(|at: &Instant| at.elapsed() < HURRY_AGAIN);
                if !was_hurried {
                    hurried.insert(workflow.0, Instant::now());
                    // Refused where it does not wait.
                    let _ = stage.client.retry(workflow, "torture", "everything is well again").await;
                }
            }
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// Looks at everything that this round left.
pub async fn audit(
    stage: &Stage,
    round: u64,
    after: Option<Uuid>,
    began: DateTime<Utc>,
    acknowledged: &[Acknowledged],
    deaths: &[Death],
) -> Result<Audit, Failed> {
    let mut audit = Audit::default();
    let log = read_log(&stage.log(round)).map_err(because)?;
    let from = after.map_or(Uuid::nil(), |last| Uuid::from_u128(last.as_u128() + 1));
    let told = oracle::everything(&stage.pool, &stage.inner_ledger, &log, from).await.map_err(because)?;
    let mut unknown = BTreeSet::new();
    for it in acknowledged {
        match told.get(&it.workflow.0).map(|told| told.status.as_str()) {
            None => {
                let how = format!("{} was acknowledged and is not there", it.workflow);
                audit.violations.push(Violated::NothingLost.by(how));
            }
            Some(status) if !ENDS.contains(&status) => {
                audit.violations.push(Violated::NothingStranded.by(format!("{} is {status}", it.workflow)));
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
        let faults = judge::faults(told).into_iter();
        audit
            .violations
            .extend(faults.map(|Violation { what, how }| what.by(format!("{how}; workflow {workflow}"))));
    }
    for Line { call, aim, .. } in &log {
        audit.met.extend(aim);
        if !told.contains_key(&call.workflow) && unknown.insert(call.workflow) {
            let how = format!("{} had an effect and is not there", call.workflow);
            audit.violations.push(Violated::NothingLost.by(how));
        }
    }
    audit.effects = log.len() as u64;
    let dead = looks::written_by_the_dead(&stage.pool).await.map_err(because)?;
    let by_the_dead = |workflow| Violated::DeadAreSilent.by(format!("workflow {workflow}"));
    audit.violations.extend(dead.into_iter().map(by_the_dead));
    if let Some(edge) = &stage.edge {
        audit.violations.extend(edge.left().await?.into_iter().map(|left| Violated::NothingLeaked.by(left)));
    }
    let died: HashMap<i32, DateTime<Utc>> = deaths.iter().map(|death| (death.pid, death.at)).collect();
    let after = |rows: Vec<(i32, DateTime<Utc>)>| {
        let lags = rows
            .into_iter()
            .filter_map(|(pid, at)| u64::try_from((at - *died.get(&pid)?).num_milliseconds()).ok());
        lags.collect()
    };
    audit.buried_after_ms = after(looks::burials(&stage.pool, began).await.map_err(because)?);
    audit.taken_over_after_ms = after(looks::takeovers(&stage.pool, from).await.map_err(because)?);
    Ok(audit)
}
