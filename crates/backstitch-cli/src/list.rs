//! `backstitch list`: which workflows are there?

use backstitch::{Fate, Filter, KindView, Operator, WorkflowView};
use chrono::{DateTime, Utc};

use crate::arguments::List;
use crate::exit::{Exit, Failed};
use crate::output::{cell, lines, note, say, say_json, shortened, status_cell, table};
use crate::reach::{Listing, Reach, reach};
use crate::redraw::{Picture, redraw};
use crate::settings::Settings;
use crate::time::{distance, moment, span};

/// Lists, the newest first: once, or until told to stop.
pub async fn run(settings: &Settings, arguments: List) -> Result<Exit, Failed> {
    let reach = reach(settings).await?;
    // Only programs read inputs and outputs, which may be long.
    let filter = Filter { whole: arguments.json, ..arguments.chosen.filter(arguments.limit) };
    if arguments.watched.watch {
        redraw(arguments.watched.every, async || picture(&reach, &filter).await).await?;
        return Ok(Exit::Done);
    }
    let Listing { workflows, now } = reach.workflows(filter).await?;
    if arguments.json {
        say_json(&workflows)?;
    } else if workflows.is_empty() {
        note("no workflows");
    } else {
        let paused = paused_kinds(&reach, &workflows).await?;
        say(&told(&workflows, &paused, now))?;
    }
    Ok(Exit::Done)
}

/// The kinds of which nothing is taken up now, of those that wait to be.
async fn paused_kinds(reach: &Reach, workflows: &[WorkflowView]) -> Result<Vec<KindView>, Failed> {
    if !workflows.iter().any(waits) {
        return Ok(Vec::new());
    }
    Ok(reach.kinds().await?.kinds.into_iter().filter(|kind| kind.paused.is_some()).collect())
}

/// Nobody is at it, and it has not ended.
fn waits(view: &WorkflowView) -> bool {
    view.finished_at.is_none() && view.holder.is_none()
}

async fn picture(reach: &Reach, filter: &Filter) -> Result<Picture, Failed> {
    let Listing { workflows, now } = reach.workflows(filter.clone()).await?;
    let text = match workflows.is_empty() {
        true => "no workflows".to_owned(),
        false => told(&workflows, &paused_kinds(reach, &workflows).await?, now),
    };
    Ok(Picture { text, is_last: false })
}

/// Workflows as a table.
pub fn told(workflows: &[WorkflowView], paused: &[KindView], now: DateTime<Utc>) -> String {
    let mut table = table(&["ID", "KIND", "STATUS", "KEY", "ASKED", "TOOK", "NOTE"]);
    for view in workflows {
        table.add_row([
            cell(view.workflow),
            cell(&view.kind),
            status_cell(view.status),
            cell(view.key.as_deref().unwrap_or("-")),
            cell(moment(view.enqueued_at)),
            cell(view.finished_at.map_or_else(|| "-".to_owned(), |at| span(view.enqueued_at, at))),
            cell(beside(view, paused, now)),
        ]);
    }
    lines(table)
}

/// What a person wants to know first.
fn beside(view: &WorkflowView, paused: &[KindView], now: DateTime<Utc>) -> String {
    let mut notes = Vec::new();
    let skipped = view.report.iter().flat_map(|report| &report.steps);
    let skipped: Vec<_> =
        skipped.filter(|step| matches!(step.fate, Fate::Skipped(_))).map(|step| &*step.step).collect();
    if !skipped.is_empty() {
        notes.push(format!("skipped, may still stand: {}", skipped.join(", ")));
    }
    if let Some(Operator { by, why }) = &view.paused {
        notes.push(format!("paused by {by}: {why}"));
    }
    let of_its_kind = paused.iter().find(|kind| kind.kind == view.kind).and_then(|kind| kind.paused.as_ref());
    if let Some(Operator { by, why }) = of_its_kind.filter(|_| waits(view)) {
        notes.push(format!("kind paused by {by}: {why}"));
    }
    if let Some(Operator { by, why }) = &view.cancel {
        notes.push(format!("cancelled by {by}: {why}"));
    }
    if let Some(message) = &view.attention {
        notes.push(message.clone());
    } else if let Some(error) = &view.error {
        notes.push(error.to_string());
    }
    if view.unserved {
        notes.push("no worker serves this kind".to_owned());
    }
    if notes.is_empty() {
        let due = view.due_at.filter(|due| *due > now);
        return due.map(|due| format!("next try {}", distance(now, due))).unwrap_or_default();
    }
    shortened(&notes.join("; "))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn note(status: &str, differently: &Value) -> String {
        let mut view = json!({
            "workflow": "0193b2f0-7c1e-7d55-a3f0-2a7f5c1e9b10", "kind": "trip", "version": 1, "key": null, "queue": "default",
            "status": status, "input": {}, "output": null, "cause": null, "cancel": null, "error": null, "report": null,
            "attention": null, "enqueued_at": "2027-01-31T12:00:00Z", "finished_at": null, "deadline_at": null,
            "due_at": "2027-01-31T12:00:00Z", "holder": null, "unserved": false,
        });
        for (name, value) in differently.as_object().into_iter().flatten() {
            view[name] = value.clone();
        }
        let paused = json!([{
            "kind": "toy", "served_by": 1, "pending": 1, "running": 0, "compensating": 0, "needs_attention": 0, "held": 0,
            "oldest_due_at": null, "paused": { "by": "bob", "why": "a fire" },
        }]);
        let paused: Vec<KindView> = serde_json::from_value(paused).expect("a kind that there is");
        let view = serde_json::from_value(view).expect("a workflow that there is");
        beside(&view, &paused, "2027-01-31T12:01:00Z".parse().expect("a time"))
    }

    #[test]
    fn what_was_decided_and_what_is_owed_is_noted() {
        let ada = json!({ "by": "ada", "why": "a mistake" });
        let skipped = json!({
            "error": { "failure": { "code": "full", "message": "no room" } },
            "report": {
                "cause": { "cause": "cancelled", "by": "ada", "why": "a mistake" },
                "steps": [{ "position": 0, "step": "book-car", "fate": "skipped", "by": "ada", "why": "lost" }],
            },
            "finished_at": "2027-01-31T12:00:30Z", "due_at": null,
        });
        for (status, differently, expected) in [
            ("pending", json!({}), ""),
            ("pending", json!({ "due_at": "2027-01-31T12:01:12Z" }), "next try in 12 s"),
            ("pending", json!({ "cancel": ada }), "cancelled by ada: a mistake"),
            ("pending", json!({ "paused": ada, "due_at": null }), "paused by ada: a mistake"),
            ("pending", json!({ "kind": "toy" }), "kind paused by bob: a fire"),
            ("running", json!({ "kind": "toy", "holder": 3, "due_at": null }), ""),
            (
                "pending",
                json!({ "unserved": true, "cancel": ada }),
                "cancelled by ada: a mistake; no worker serves this kind",
            ),
            ("compensated", skipped, "skipped, may still stand: book-car; no room (full)"),
        ] {
            assert_eq!(note(status, &differently), expected, "{differently}");
        }
    }
}
