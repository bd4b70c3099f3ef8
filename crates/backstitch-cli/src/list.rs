//! `backstitch list`: which workflows are there?

use backstitch::{Client, Filter, WorkflowView};
use chrono::{DateTime, Utc};

use crate::arguments::List;
use crate::connect;
use crate::exit::{Exit, Failed};
use crate::output::{cell, lines, note, say, say_json, shortened, status_cell, table};
use crate::redraw::{Picture, redraw};
use crate::settings::Settings;
use crate::time::{distance, moment, span};

/// Lists, the newest first: once, or until told to stop.
pub async fn run(settings: &Settings, arguments: List) -> Result<Exit, Failed> {
    let client = connect::client(settings).await?;
    let filter = arguments.chosen.filter(arguments.limit);
    if arguments.watched.watch {
        redraw(arguments.watched.every, async || picture(&client, &filter).await).await?;
        return Ok(Exit::Done);
    }
    let workflows = client.workflows(filter).await?;
    if arguments.json {
        say_json(&workflows.into_iter().map(WorkflowView::redacted).collect::<Vec<_>>())?;
    } else if workflows.is_empty() {
        note("no workflows");
    } else {
        say(&told(&workflows, client.now().await?))?;
    }
    Ok(Exit::Done)
}

async fn picture(client: &Client, filter: &Filter) -> Result<Picture, Failed> {
    let workflows = client.workflows(filter.clone()).await?;
    let text = match workflows.is_empty() {
        true => "no workflows".to_owned(),
        false => told(&workflows, client.now().await?),
    };
    Ok(Picture { text, is_last: false })
}

/// Workflows as a table.
pub fn told(workflows: &[WorkflowView], now: DateTime<Utc>) -> String {
    let mut table = table(&["ID", "KIND", "STATUS", "KEY", "ASKED", "TOOK", "NOTE"]);
    for view in workflows {
        table.add_row([
            cell(view.workflow),
            cell(&view.kind),
            status_cell(view.status),
            cell(view.key.as_deref().unwrap_or("-")),
            cell(moment(view.enqueued_at)),
            cell(view.finished_at.map_or_else(|| "-".to_owned(), |at| span(view.enqueued_at, at))),
            cell(beside(view, now)),
        ]);
    }
    lines(table)
}

fn beside(view: &WorkflowView, now: DateTime<Utc>) -> String {
    if let Some(message) = &view.attention {
        return shortened(message);
    }
    if let Some(error) = &view.error {
        return shortened(&error.to_string());
    }
    if let Some(paused) = &view.paused {
        return shortened(&format!("paused by {}: {}", paused.by, paused.why));
    }
    match view.due_at.filter(|due| *due > now) {
        _ if view.unserved => "no worker serves this kind".to_owned(),
        Some(due) => format!("next try {}", distance(now, due)),
        None => String::new(),
    }
}
