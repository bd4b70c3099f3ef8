//! `backstitch list`: which workflows are there?

use backstitch::{Filter, WorkflowView};
use chrono::Utc;

use crate::arguments::List;
use crate::connect;
use crate::exit::{Exit, Failed};
use crate::output::{cell, lines, note, say, say_json, status_cell, table};
use crate::settings::Settings;
use crate::time::{moment, span};

/// How much of an error fits beside a workflow; `show` has all of it.
const NOTE_CHARACTERS_MAX: usize = 80;

/// Lists, the newest first.
pub async fn run(settings: &Settings, arguments: List) -> Result<Exit, Failed> {
    let client = connect::client(settings).await?;
    let List { kind, status, key, limit, .. } = arguments;
    let filter = Filter { kind, status, key, limit, ..Filter::default() };
    let workflows = client.workflows(filter).await?;
    if arguments.json {
        say_json(&workflows)?;
    } else if workflows.is_empty() {
        note("no workflows");
    } else {
        say(&told(&workflows))?;
    }
    Ok(Exit::Done)
}

/// Workflows as a table.
pub fn told(workflows: &[WorkflowView]) -> String {
    let mut table = table(&["ID", "KIND", "STATUS", "KEY", "ASKED", "TOOK", "NOTE"]);
    for view in workflows {
        table.add_row([
            cell(view.workflow),
            cell(&view.kind),
            status_cell(view.status),
            cell(view.key.as_deref().unwrap_or("-")),
            cell(moment(view.enqueued_at)),
            cell(view.finished_at.map_or_else(|| "-".to_owned(), |at| span(view.enqueued_at, at))),
            cell(beside(view)),
        ]);
    }
    lines(table)
}

fn beside(view: &WorkflowView) -> String {
    if let Some(message) = &view.attention {
        return shortened(message);
    }
    if let Some(error) = &view.error {
        return shortened(&error.to_string());
    }
    let waits = view.due_at.filter(|due| *due > Utc::now());
    match waits {
        _ if view.unserved => "no worker serves this kind".to_owned(),
        Some(due) => format!("next try in {}", span(Utc::now(), due)),
        None => String::new(),
    }
}

fn shortened(message: &str) -> String {
    let line = message.lines().next().unwrap_or_default();
    let mut short: String = line.chars().take(NOTE_CHARACTERS_MAX).collect();
    if short.len() < message.len() {
        short.push('…');
    }
    short
}
