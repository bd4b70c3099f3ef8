//! `backstitch errors`: which errors did workflows fail with?

use backstitch::{Failures, Filter};

use crate::arguments::Errors;
use crate::exit::{Exit, Failed};
use crate::output::{cell, lines, note, say, say_json, shortened, table};
use crate::reach::reach;
use crate::settings::Settings;
use crate::time::moment;

/// Groups, and tells.
pub async fn run(settings: &Settings, arguments: Errors) -> Result<Exit, Failed> {
    let Errors { kind, queue, since, until, limit, json } = arguments;
    let filter = Filter { kind, queue, since, until, limit, ..Filter::default() };
    let failures = reach(settings).await?.failures(filter).await?;
    if json {
        say_json(&failures)?;
        return Ok(Exit::Done);
    }
    if !failures.errors.is_empty() {
        say(&told(&failures))?;
    }
    note(&looked(&failures));
    Ok(Exit::Done)
}

fn told(failures: &Failures) -> String {
    let mut table = table(&["CODE", "KIND", "WORKFLOWS", "FIRST", "LAST", "EXAMPLE", "MESSAGE"]);
    for group in &failures.errors {
        table.add_row([
            cell(&group.code),
            cell(&group.kind),
            cell(group.workflows),
            cell(moment(group.first_at)),
            cell(moment(group.last_at)),
            cell(group.example),
            cell(shortened(&group.message)),
        ]);
    }
    lines(table)
}

/// How far it was looked.
fn looked(failures: &Failures) -> String {
    let found = if failures.errors.is_empty() { "no failures: " } else { "" };
    let workflows = match failures.looked_at {
        1 => "1 workflow was".to_owned(),
        many => format!("{many} workflows were"),
    };
    match failures.oldest_at {
        Some(oldest) if failures.is_bounded => format!(
            "{found}only the newest {workflows} looked at, asked for since {}; say --until to look further back",
            moment(oldest)
        ),
        _ => format!("{found}{workflows} looked at"),
    }
}
