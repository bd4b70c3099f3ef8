//! `backstitch torture`: does everything hold while everything goes wrong?
//!
//! A private Postgres, a target that remembers what was done to it, worker processes that are killed in the middle of every
//! sentence, and by choice a private edge with real daemons. The seed decides which fault comes when, and what work it may
//! hit. After each round everything is well again: then what is under way must end, and everything is looked through.
//!
//! - `plan` decides, `fault` names, `apply` does.
//! - `stage`, `crew` and `edge` are what can be hurt (`launch`: how their processes start), `load` is what is asked of it.
//! - `audit` looks through what is left, `recovery` at how soon the others came to it, `report` tells, and `bounds` says whether that was enough;
//!   `bundle` is what there is to look at where something did not hold.

mod apply;
mod audit;
mod bounds;
mod bundle;
mod control;
mod crew;
mod edge;
mod fault;
mod launch;
mod load;
mod plan;
mod recovery;
mod report;
mod share;
mod stage;

use std::path::Path;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use backstitch_testkit::looks;
use backstitch_testkit::process::work_until_terminated;
use backstitch_testkit::recorder::{self, Lacking};
use backstitch_testkit::violation::Violated;
use chrono::{DateTime, Utc};
use tokio::task::{JoinSet, LocalSet};
use tokio::time::Instant;

use self::crew::VETERAN;
use self::fault::Fault;
use self::launch::because;
use self::load::Load;
use self::plan::Aimed;
use self::report::{Gateways, Report, Weight, told};
use self::stage::Stage;
use crate::arguments::{Control, Torture, TortureCommand, TorturePart};
use crate::exit::{Exit, Failed};
use crate::output::{note, say, say_json};
use crate::signals::Signals;

/// How many faults a round has at most: their numbers are told apart across rounds.
const FAULTS_MAX: u64 = 100_000;

/// How long nothing may end, once all is well, before it is called stuck. Far beyond the slowest retry of a daemon.
const PROGRESS_MAX: Duration = Duration::from_secs(120);

/// How long whoever asks for gateways may wait for the last answer. A start may wait for a stop, each of them for minutes.
const ASKING_MAX: Duration = Duration::from_secs(300);

/// The same where a part of the protection is missing, and something may well be stuck for good.
const PROGRESS_MAX_UNPROTECTED: Duration = Duration::from_secs(10);

/// How often it is said how it goes.
const TELL: Duration = Duration::from_secs(10);

/// Tortures, and tells; or is one of the processes that are tortured.
pub async fn run(command: TortureCommand) -> Result<Exit, Failed> {
    match command.part {
        None => torture(command.torture).await,
        Some(TorturePart::Worker) => {
            end_with_the_torturer();
            work_until_terminated().await;
            Ok(Exit::Done)
        }
        Some(TorturePart::Recorder { socket, log, lacks_keys, lacks_tombstones, lacks_honesty }) => {
            let lacking = Lacking {
                keys: lacks_keys,
                tombstones: lacks_tombstones,
                // A stale caller would be refused where a late one is not.
                epochs: lacks_tombstones,
                honesty: lacks_honesty,
            };
            end_with_the_torturer();
            recorder::serve(&socket, &log, lacking).await.map_err(because)?;
            Ok(Exit::Done)
        }
    }
}

/// Whoever started this process holds the other end of its standard input: when that ends, so does everything here.
fn end_with_the_torturer() {
    std::thread::spawn(|| {
        // Nothing is ever said: this is the end, or an error of it.
        let _ = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
        std::process::exit(1);
    });
}

async fn torture(how: Torture) -> Result<Exit, Failed> {
    let mut signals = Signals::listen()?;
    let seed = how.seed.unwrap_or_else(|| Utc::now().timestamp_micros().unsigned_abs());
    let directory = tempfile::Builder::new().prefix("backstitch-torture-").tempdir().map_err(because)?;
    note(&format!("seed {seed}; everything is private, and below {}", directory.path().display()));
    let mut report = Report::of(seed);
    // Faults wait more than they work: one thread is enough for them.
    let local = LocalSet::new();
    let tortured = tokio::select! {
        tortured = local.run_until(all_rounds(&how, seed, directory.path(), &mut report)) => tortured,
        signal = signals.next() => Err(Failed::new(Exit::Error, format!("interrupted by {signal}"))),
    };
    let short_of = tortured.is_ok().then(|| bounds::short_of(&report));
    report.conclude(short_of);
    let broken = tortured.is_err() || !report.holds();
    if broken {
        bundle::keep(directory, &report, how.bundle.as_deref())?;
    }
    tortured?;
    if how.json {
        say_json(&report)?
    } else {
        say(&told(&report))?
    }
    match how.control {
        None if broken => Ok(Exit::NeedsAttention),
        None => Ok(Exit::Done),
        Some(control) => noticed(control, &report),
    }
}

/// What is missing in a control run must show, and as what it is.
fn noticed(control: Control, report: &Report) -> Result<Exit, Failed> {
    let wanted = control.shows_as();
    if report.every_violation.iter().any(|violation| wanted.contains(&violation.what)) {
        return Ok(Exit::NeedsAttention);
    }
    let words: Vec<&str> = wanted.iter().map(|what| what.words()).collect();
    let message = format!("what is missing was not noticed: no violation begins with {}", words.join(" or "));
    Err(Failed::new(Exit::Error, message))
}

async fn all_rounds(how: &Torture, seed: u64, directory: &Path, report: &mut Report) -> Result<(), Failed> {
    let stage = Arc::new(Stage::set(directory, how.control, how.gateways).await?);
    let tortured = rounds_on(&stage, how, seed, report).await;
    if tortured.is_err() || !report.every_violation.is_empty() {
        bundle::gather(&stage, directory).await?;
    }
    tortured
}

async fn rounds_on(stage: &Arc<Stage>, how: &Torture, seed: u64, report: &mut Report) -> Result<(), Failed> {
    let began = Instant::now();
    let until = how.rounds.is_none().then(|| began + Duration::from_secs_f64(how.minutes * 60.0));
    let is_over = |rounds: u64| match how.rounds {
        Some(wanted) => rounds >= wanted,
        None => until.is_some_and(|until| Instant::now() >= until),
    };
    let mut watching = JoinSet::new();
    watching.spawn({
        let stage = Arc::clone(stage);
        async move { stage.note_standstills().await }
    });
    let mut number = 0;
    // One round at least, and what is found broken does not get better.
    while number == 0 || !is_over(number) && report.every_violation.is_empty() {
        one_round(how, seed, number, until, stage, report).await?;
        number += 1;
        report.seconds = began.elapsed().as_secs();
        note(&format!(
            "round {number} is over after {} s: {} workflows, {} kills, {} violations",
            report.seconds,
            report.workflows,
            report.sigkills,
            report.every_violation.len()
        ));
        stage.turn_the_page(number).await?;
    }
    watching.shutdown().await;
    Ok(())
}

async fn one_round(
    how: &Torture,
    seed: u64,
    round: u64,
    until: Option<Instant>,
    stage: &Arc<Stage>,
    report: &mut Report,
) -> Result<(), Failed> {
    let began = Utc::now();
    let before = looks::last_workflow(&stage.pool).await.map_err(because)?;
    let dead_before = deaths_of(stage).len();
    let load = Arc::new(Load::default());
    let mut asking = JoinSet::new();
    {
        let (stage, load, every) = (Arc::clone(stage), Arc::clone(&load), how.every());
        asking.spawn(async move { load.ask(&stage.client, seed, round, every).await });
    }
    {
        let (stage, load) = (Arc::clone(stage), Arc::clone(&load));
        asking.spawn(async move { load.operate(&stage.client, &stage.pool).await });
    }
    if stage.edge.is_some() {
        for _ in 0..edge::ORGANIZATIONS {
            let stage = Arc::clone(stage);
            asking.spawn(async move {
                if let Some(edge) = &stage.edge {
                    edge.ask(&stage.client).await;
                }
            });
        }
    }
    let plan = match how.control {
        Some(control) => plan::cycle(seed, control.deck()),
        None => plan::round(seed, round, stage.edge.is_some()),
    };
    let numbers = round * FAULTS_MAX;
    let next_number = numbers + plan.len() as u64;
    let mut fired = hurt(how, numbers, plan, until, stage, &load, report).await?;
    if how.control.is_none() {
        // What others kept from coming about, with less going on.
        let missed = fired.iter().filter(|came| !came.fired).map(|came| came.aimed).collect();
        fired.extend(hurt(how, next_number, missed, until, stage, &load, report).await?);
    }
    load.stop();
    if let Some(edge) = &stage.edge {
        edge.stop();
    }
    let mut stuck = Vec::new();
    // What is asked for may wait for what is under way, and that for somebody who hurries it up.
    let progress_max = how.control.map_or(PROGRESS_MAX, |_| PROGRESS_MAX_UNPROTECTED);
    let asked = async { while asking.join_next().await.is_some() {} };
    tokio::select! {
        () = asked => {}
        () = tokio::time::sleep(ASKING_MAX) => {
            stuck.push(Violated::NothingStranded.by("somebody still waits for an answer"));
        }
    }
    asking.abort_all();
    stuck.extend(audit::settle(stage, progress_max).await?);
    if let Some(edge) = &stage.edge {
        stuck.extend(edge.end_the_served(&stage.client).await?);
        stuck.extend(audit::settle(stage, progress_max).await?);
    }
    let deaths = deaths_of(stage).split_off(dead_before);
    let audit = audit::audit(stage, round, before, began, &load.acknowledged(), &deaths, &fired).await?;
    if let Some(edge) = &stage.edge {
        // Only now: what was looked through is what nobody had helped.
        let quarantined = edge.return_the_quarantined().await?;
        let counts = edge.counts();
        let gateways = report.gateways.get_or_insert_default();
        *gateways = Gateways {
            started: counts.started.load(Ordering::Relaxed),
            stopped: counts.stopped.load(Ordering::Relaxed),
            failed: counts.failed.load(Ordering::Relaxed),
            none_available: counts.none_available.load(Ordering::Relaxed),
            looked_at: *counts.looked_at.lock().unwrap_or_else(PoisonError::into_inner),
            quarantined: gateways.quarantined + quarantined as u64,
            workflows: gateways.workflows,
        };
    }
    for Came { aimed: Aimed { fault, .. }, number, fired, .. } in fired {
        let count = report.faults.entry(fault.name()).or_default();
        count.aimed += 1;
        // What a call met stands in the log of whoever was called.
        let fired = if matches!(fault, Fault::Call(..)) { audit.met.contains(&number) } else { fired };
        count.fired += u64::from(fired);
    }
    report.count(&deaths);
    report.take(audit, stuck);
    report.veteran.extend(weight_of(stage));
    if let Some(edge) = &stage.edge {
        edge.go_on();
    }
    Ok(())
}

/// A fault that had its turn.
#[derive(Debug, Clone, Copy)]
struct Came {
    aimed: Aimed,
    number: u64,
    /// Whether it came about, as far as whoever let it come can tell.
    fired: bool,
    /// From when to when it had its turn: it happened within that time.
    from: DateTime<Utc>,
    to: DateTime<Utc>,
}

/// Lets each fault of the plan come in its turn, and waits until the last one is over.
async fn hurt(
    how: &Torture,
    numbers: u64,
    plan: Vec<Aimed>,
    until: Option<Instant>,
    stage: &Arc<Stage>,
    load: &Load,
    report: &mut Report,
) -> Result<Vec<Came>, Failed> {
    let (count, mut told_at) = (plan.len(), Instant::now());
    let mut under_way = JoinSet::new();
    for (index, aimed) in plan.into_iter().enumerate() {
        tokio::time::sleep(how.pace() * aimed.after_permille / 1000).await;
        if until.is_some_and(|until| Instant::now() > until) {
            break;
        }
        if let Some(why) = stage.impossible(aimed.fault) {
            report.not_possible.insert(aimed.fault.name(), why.to_owned());
            continue;
        }
        let (stage, number) = (Arc::clone(stage), numbers + index as u64);
        under_way.spawn_local(async move {
            let from = Utc::now();
            let fired = apply::apply(&stage, aimed, number).await?;
            Ok::<_, Failed>(Came { aimed, number, fired, from, to: Utc::now() })
        });
        if told_at.elapsed() > TELL {
            told_at = Instant::now();
            note(&format!(
                "round {}: {} of {count} faults, {} workflows asked for",
                numbers / FAULTS_MAX + 1,
                index + 1,
                load.acknowledged().len()
            ));
        }
    }
    under_way.join_all().await.into_iter().collect()
}

fn deaths_of(stage: &Stage) -> Vec<crew::Death> {
    let mut deaths: Vec<_> = stage.slots().flat_map(crew::Slot::deaths).collect();
    deaths.sort_by_key(|death| death.at);
    deaths
}

/// None: it is between two lives.
fn weight_of(stage: &Stage) -> Option<Weight> {
    let pid = stage.workers[VETERAN].pid_now()?;
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let resident_kib = resident.trim().trim_end_matches(" kB").parse().ok()?;
    let descriptors = std::fs::read_dir(format!("/proc/{pid}/fd")).ok()?.count() as u64;
    Some(Weight { pid, resident_kib, descriptors })
}
