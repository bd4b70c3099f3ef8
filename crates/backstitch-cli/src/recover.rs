//! `backstitch recover`: what did one run of recovery settle, and what is left?

use std::time::Duration;

use backstitch::{Client, Filter, Running, Status, Unsettled, WorkflowView};
use chrono::{DateTime, Utc};
use serde_json::json;
use tokio::time::Instant;

use crate::arguments::Recover;
use crate::connect;
use crate::exit::{Exit, Failed};
use crate::output::{note, say, say_json};
use crate::settings::Settings;
use crate::signals::Signals;
use crate::{crew, edge, gateway, list};

/// How often to look how far it is.
const LOOK: Duration = Duration::from_millis(200);

/// The most workflows a report names of each status; the counts are of all.
const NAMED_MAX: u32 = 10_000;

/// Recovers once.
pub async fn run(settings: &Settings, arguments: Box<Recover>) -> Result<Exit, Failed> {
    let worker = settings.worker(arguments.worker);
    let edge = match arguments.without_gateway {
        true => None,
        false => Some(settings.edge(arguments.edge, &worker)?),
    };
    let mut signals = Signals::listen()?;
    let client = connect::client(settings).await?;
    if let Some(edge) = &edge {
        gateway::check_migrated(&client).await?;
        edge::check(edge).await?;
    }
    let found = unfinished(&client).await?;
    let running = crew::start(&client, edge, &worker).await?;
    let deadline = Instant::now() + Duration::from_secs(arguments.wait);
    let left = tokio::select! {
        left = settle(&running, deadline) => left,
        signal = signals.next() => {
            note(&format!("{signal}: stopping"));
            running.unsettled().await.map_err(Failed::from)
        }
    };
    running.shut_down().await;
    let left = left?;
    let settled = ended(&client, found).await?;
    tell(&settled, &left, client.now().await?, arguments.json)?;
    Ok(exit_of(&left))
}

/// Waits as [`Running::settle`] does, and says how it goes.
async fn settle(running: &Running, deadline: Instant) -> Result<Unsettled, Failed> {
    let mut before = None;
    loop {
        let now = running.unsettled().await?;
        if now.is_settled() || Instant::now() >= deadline {
            return Ok(now);
        }
        if before.replace(now) != Some(now) {
            note(&format!("{} …", counted(&now)));
        }
        tokio::time::sleep(LOOK).await;
    }
}

async fn unfinished(client: &Client) -> Result<Vec<WorkflowView>, Failed> {
    let mut found = Vec::new();
    for status in [Status::Pending, Status::Running, Status::Compensating, Status::NeedsAttention] {
        let filter = Filter { status: Some(status), limit: NAMED_MAX, ..Filter::default() };
        found.extend(client.workflows(filter).await?);
    }
    Ok(found)
}

/// Those that have ended since.
async fn ended(client: &Client, found: Vec<WorkflowView>) -> Result<Vec<WorkflowView>, Failed> {
    let mut ended = Vec::new();
    for before in found {
        ended.extend(client.workflow(before.workflow).await?.filter(|now| now.finished_at.is_some()));
    }
    Ok(ended)
}

fn tell(settled: &[WorkflowView], left: &Unsettled, now: DateTime<Utc>, json: bool) -> Result<(), Failed> {
    if json {
        return say_json(&json!({ "settled": settled, "left": left }));
    }
    if settled.is_empty() {
        say("nothing was left to settle")?;
    } else {
        say(&list::told(settled, now))?;
    }
    say(&format!("left: {}", counted(left)))
}

fn counted(left: &Unsettled) -> String {
    let counts = [
        (left.due, "due"),
        (left.running, "running"),
        (left.orphaned_soon, "held by a worker whose lease is over"),
        (left.compensating, "between two attempts to take back"),
        (left.needs_attention, "need attention"),
        (left.waiting, "wait for a time to come"),
    ];
    let some: Vec<_> = counts
        .iter()
        .filter(|(count, _)| *count > 0)
        .map(|(count, what)| format!("{count} {what}"))
        .collect();
    if some.is_empty() { "nothing".to_owned() } else { some.join(", ") }
}

fn exit_of(left: &Unsettled) -> Exit {
    if !left.is_settled() {
        Exit::StillUnderWay
    } else if left.needs_attention > 0 {
        Exit::NeedsAttention
    } else {
        Exit::Done
    }
}
