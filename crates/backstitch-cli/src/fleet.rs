//! `backstitch workers`, `kinds` and `stats`: who works, at what, and how much is there?

use backstitch::{KindView, StatusCount, WorkerView};
use chrono::{DateTime, Utc};
use comfy_table::{CellAlignment, Color};

use crate::arguments::{Counted, Workers};
use crate::exit::{Exit, Failed};
use crate::output::{cell, lines, note, say, say_json, shortened, status_cell, table};
use crate::reach::{Kinds, reach};
use crate::settings::Settings;
use crate::time::{length, moment};

/// Who works.
pub async fn workers(settings: &Settings, arguments: Workers) -> Result<Exit, Failed> {
    let workers = reach(settings).await?.workers(arguments.dead).await?;
    if arguments.json {
        say_json(&workers)?;
    } else if workers.is_empty() {
        note("no workers; start one with `backstitch serve`");
    } else {
        say(&workers_told(&workers))?;
    }
    Ok(Exit::Done)
}

/// At what.
pub async fn kinds(settings: &Settings, arguments: Counted) -> Result<Exit, Failed> {
    let Kinds { kinds, now } = reach(settings).await?.kinds().await?;
    if arguments.json {
        say_json(&kinds)?;
    } else if kinds.is_empty() {
        note("no kinds: nothing is live, no worker serves any, and none is paused");
    } else {
        say(&kinds_told(&kinds, now))?;
    }
    Ok(Exit::Done)
}

/// How much.
pub async fn stats(settings: &Settings, arguments: Counted) -> Result<Exit, Failed> {
    let counts = reach(settings).await?.stats().await?;
    match arguments.json {
        true => say_json(&counts)?,
        false => say(&stats_told(&counts))?,
    }
    Ok(Exit::Done)
}

fn workers_told(workers: &[WorkerView]) -> String {
    let headers = ["WORKER", "HOST", "PID", "VERSION", "STATE", "LAST BEAT", "LEASE", "HOLDS", "KINDS"];
    let mut table = table(&headers);
    for worker in workers {
        let lease = worker.lease_left_milliseconds;
        let (state, color) = match (&worker.death, lease) {
            (Some(death), _) => (format!("dead ({death})"), Color::DarkGrey),
            (None, Some(left)) if left < 0 => ("lease over".to_owned(), Color::Red),
            (None, _) => ("alive".to_owned(), Color::Green),
        };
        let beat = match (worker.died_at, worker.beat_age_milliseconds) {
            (Some(died_at), _) => format!("died {}", moment(died_at)),
            (None, age) => age.map_or_else(|| "-".to_owned(), |age| format!("{} ago", length(age))),
        };
        let lease = match lease {
            None => "-".to_owned(),
            Some(left) if left < 0 => format!("over for {}", length(-left)),
            Some(left) => format!("{} left", length(left)),
        };
        table.add_row([
            cell(worker.incarnation),
            cell(&worker.host),
            cell(worker.pid),
            cell(&worker.version),
            cell(state).fg(color),
            cell(beat),
            cell(lease),
            cell(worker.held),
            cell(worker.kinds.join(", ")),
        ]);
    }
    lines(table)
}

fn kinds_told(kinds: &[KindView], now: DateTime<Utc>) -> String {
    let headers = [
        "KIND",
        "SERVED BY",
        "PENDING",
        "RUNNING",
        "COMPENSATING",
        "NEEDS ATTENTION",
        "HELD",
        "OLDEST DUE",
        "PAUSED",
    ];
    let mut table = table(&headers);
    for kind in kinds {
        let served_by = match kind.served_by {
            0 => cell("nobody").fg(Color::Red),
            workers => cell(workers),
        };
        let attention = cell(kind.needs_attention);
        let waits = kind.oldest_due_at.map(|at| format!("for {}", length((now - at).num_milliseconds())));
        table.add_row([
            cell(&kind.kind),
            served_by,
            cell(kind.pending),
            cell(kind.running),
            cell(kind.compensating),
            if kind.needs_attention > 0 { attention.fg(Color::Red) } else { attention },
            cell(kind.held),
            cell(waits.as_deref().unwrap_or("-")),
            match &kind.paused {
                Some(paused) => {
                    cell(shortened(&format!("by {}: {}", paused.by, paused.why))).fg(Color::Yellow)
                }
                None => cell("-"),
            },
        ]);
    }
    lines(table)
}

fn stats_told(counts: &[StatusCount]) -> String {
    let mut table = table(&["STATUS", "WORKFLOWS", ""]);
    for count in counts {
        table.add_row([
            status_cell(count.status),
            cell(count.workflows).set_alignment(CellAlignment::Right),
            cell(if count.is_exact { "" } else { "estimated" }),
        ]);
    }
    lines(table)
}
