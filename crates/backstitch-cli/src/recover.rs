//! `backstitch recover`: what did one run of recovery settle, and what is left?

use std::time::Duration;

use backstitch::{Client, Running, Unsettled, WorkflowView};
use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::json;
use tokio::time::Instant;

use crate::arguments::Recover;
use crate::connect;
use crate::exit::{Exit, Failed};
use crate::output::{clean, note, say, say_json};
use crate::settings::Settings;
use crate::signals::Signals;
use crate::{crew, edge, gateway, gateway_http, list};

/// How often to look how far it is.
const LOOK: Duration = Duration::from_millis(200);

/// Recovers once.
pub async fn run(settings: &Settings, arguments: Box<Recover>) -> Result<Exit, Failed> {
    let worker = settings.worker(arguments.worker);
    let serves: &[&str] = if arguments.without_gateway { &[] } else { &gateway_http::KINDS };
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
    let found = client.unfinished(serves).await?;
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
    let settled = client.ended(&found).await?;
    let passed_over = passed_over(&client, serves).await?;
    tell(&settled, &left, &passed_over, client.now().await?, arguments.json)?;
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

/// What is due of kinds that this program has no code of, and so was not looked at.
#[derive(Debug, Default, Serialize)]
struct PassedOver {
    due: i64,
    kinds: Vec<String>,
}

async fn passed_over(client: &Client, serves: &[&str]) -> Result<PassedOver, Failed> {
    let mut passed_over = PassedOver::default();
    for kind in client.census().await?.kinds {
        if kind.due > 0 && !serves.contains(&kind.kind.as_str()) {
            passed_over.due += kind.due;
            passed_over.kinds.push(kind.kind);
        }
    }
    Ok(passed_over)
}

fn tell(
    settled: &[WorkflowView],
    left: &Unsettled,
    passed_over: &PassedOver,
    now: DateTime<Utc>,
    json: bool,
) -> Result<(), Failed> {
    if json {
        return say_json(&json!({ "settled": settled, "left": left, "passed_over": passed_over }));
    }
    let left = counted(left);
    match settled {
        [] if left == NOTHING && passed_over.due == 0 => say("nothing was left to settle")?,
        [] => say("nothing was settled")?,
        settled => say(&list::told(settled, &[], now))?,
    }
    say(&format!("left: {left}"))?;
    if passed_over.due == 0 {
        return Ok(());
    }
    let kinds = passed_over.kinds.join(", ");
    let (count, them) =
        if passed_over.due == 1 { ("1 is", "it") } else { (&*format!("{} are", passed_over.due), "them") };
    say(&clean(&format!(
        "not looked at: {count} due of kinds that this program does not serve ({kinds}); their own workers settle {them}"
    )))
}

const NOTHING: &str = "nothing";

fn counted(left: &Unsettled) -> String {
    let counts = [
        (left.due, "due", "due"),
        (left.running, "running", "running"),
        (left.orphaned_soon, "held by a worker whose lease is over", "held by workers whose lease is over"),
        (left.compensating, "between two attempts to take back", "between two attempts to take back"),
        (left.needs_attention, "needs attention", "need attention"),
        (left.waiting, "waits for a time to come", "wait for a time to come"),
    ];
    let some: Vec<_> = counts
        .iter()
        .filter(|(count, ..)| *count > 0)
        .map(|(count, one, many)| format!("{count} {}", if *count == 1 { one } else { many }))
        .collect();
    if some.is_empty() { NOTHING.to_owned() } else { some.join(", ") }
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
