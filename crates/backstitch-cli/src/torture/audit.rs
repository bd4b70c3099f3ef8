//! When everything is over: is everything as it must be?

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use backstitch_testkit::judge::{self, ENDS, Told};
use backstitch_testkit::recorder::{Line, read_log};
use backstitch_testkit::violation::{Violated, Violation};
use backstitch_testkit::{looks, oracle};
use chrono::{DateTime, Utc};
use tokio::time::Instant;
use uuid::Uuid;

use super::Came;
use super::crew::{Death, Slot};
use super::edge::Edge;
use super::launch::because;
use super::load::{Acknowledged, NEVER};
use super::recovery::{self, Recovery};
use super::share::Share;
use super::stage::Stage;
use crate::exit::Failed;

/// How long things are left to themselves before an operator hurries up what waits for a late retry.
const UNHURRIED: Duration = Duration::from_secs(5);

/// Nothing is ever parked for longer: what needs attention waits five minutes for a retry after a burial, and the scripts
/// retry within seconds. Beyond it nobody may be counted on to come, however soon an operator hurries it up here.
const DUE_WITHIN: Duration = Duration::from_secs(6 * 60);

/// One that failed once more goes back to its slow pace, of minutes: it is hurried up again.
const HURRY_AGAIN: Duration = Duration::from_secs(20);

/// How the kinds of scripted workflows begin.
const SCRIPTS: &str = "script.";

/// How the kinds of gateways' workflows begin.
const GATEWAYS: &str = "gateway.";

const LOOK: Duration = Duration::from_millis(200);

/// What a round came to.
#[derive(Debug, Default)]
pub struct Audit {
    /// What must never be.
    pub violations: Vec<Violation>,
    /// How many ended in each way.
    pub ended: HashMap<String, u64>,
    /// Of those that would complete where nothing goes wrong: how many did.
    pub completed_of_meant: Share,
    /// How many were starts and stops of gateways.
    pub gateway_workflows: u64,
    /// How many attempts took effect at the target.
    pub effects: u64,
    /// By which numbers of faults calls were met.
    pub met: Vec<u64>,
    /// How many sessions Postgres has in the end.
    pub sessions: u64,
    /// How soon the others came to what the dead had left.
    pub recovery: Recovery,
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
                let for_an_operator = looks::due_beyond(&stage.pool, NEVER).await.map_err(because)?;
                let mut parked = looks::due_beyond(&stage.pool, DUE_WITHIN).await.map_err(because)?;
                parked.retain(|workflow| !for_an_operator.contains(workflow));
                let for_long = |workflow| {
                    let minutes = DUE_WITHIN.as_secs() / 60;
                    Violated::NothingStranded
                        .by(format!("{workflow} is parked for more than {minutes} minutes"))
                };
                found.extend(parked.into_iter().map(for_long));
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
    faults: &[Came],
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
            Some(status) if it.is_meant_to_complete => audit.completed_of_meant.add(status == "completed"),
            Some(_) => {}
        }
    }
    for (workflow, told) in &told {
        *audit.ended.entry(told.status.clone()).or_default() += 1;
        audit.gateway_workflows += u64::from(told.kind.starts_with(GATEWAYS));
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
    let withdrawn = stage.edge.as_ref().map(Edge::take_withdrawn).unwrap_or_default();
    let cancelled = acknowledged.iter().filter(|it| it.is_cancelled).map(|it| it.workflow);
    for workflow in cancelled.chain(withdrawn) {
        if let Some(Told { status, .. }) = told.get(&workflow.0).filter(|told| told.status != "compensated") {
            audit.violations.push(Violated::CancelHolds.by(format!("{workflow} is {status}")));
        }
    }
    let acknowledged: BTreeSet<Uuid> = acknowledged.iter().map(|it| it.workflow.0).collect();
    for (workflow, told) in told.iter().filter(|(_, told)| told.kind.starts_with(SCRIPTS)) {
        if !acknowledged.contains(workflow) {
            let how =
                format!("{workflow} is {}, and is not the one that its key was answered with", told.status);
            audit.violations.push(Violated::EnqueuedOnce.by(how));
        }
    }
    audit.effects = log.len() as u64;
    let dead = looks::written_by_the_dead(&stage.pool).await.map_err(because)?;
    let by_the_dead = |workflow| Violated::DeadAreSilent.by(format!("workflow {workflow}"));
    audit.violations.extend(dead.into_iter().map(by_the_dead));
    let stale = looks::written_under_a_stale_claim(&stage.pool).await.map_err(because)?;
    audit.violations.extend(stale.into_iter().map(|(workflow, seq, epoch, last)| {
        Violated::EpochIsTheLast
            .by(format!("seq {seq} is of epoch {epoch}, and {last} was the last; workflow {workflow}"))
    }));
    if let Some(edge) = &stage.edge {
        audit.violations.extend(edge.left().await?);
    }
    let burials = looks::burials(&stage.pool, began).await.map_err(because)?;
    let takeovers = looks::takeovers(&stage.pool, from).await.map_err(because)?;
    let takeovers: Vec<_> = takeovers.into_iter().map(|it| (it.pid, it.taken_at)).collect();
    let killed_workers: Vec<Death> =
        stage.workers.iter().flat_map(Slot::deaths).filter(Death::is_a_kill).collect();
    let everybody: Vec<Death> = stage.slots().flat_map(Slot::deaths).collect();
    let round = recovery::Round {
        deaths,
        everybody: &everybody,
        killed_workers: &killed_workers,
        living: &stage.slots().filter_map(Slot::living).collect::<Vec<_>>(),
        outages: &stage.outages(),
        faults,
        now: Utc::now(),
    };
    let handovers = looks::handovers(&stage.pool, from).await.map_err(because)?;
    audit.recovery = round.recovery(&burials, &takeovers, &handovers);
    audit.sessions = looks::sessions(&stage.pool).await.map_err(because)?.unsigned_abs();
    Ok(audit)
}
