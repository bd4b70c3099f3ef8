//! How due workflows are taken, with the journals of those that have one.

use std::collections::HashMap;
use std::time::Duration;

use backstitch_core::decide::Orphaned;
use backstitch_core::history::History;
use backstitch_core::id::{Epoch, IncarnationId, WorkflowId};
use backstitch_core::json::Json;
use backstitch_core::record::{Operator, Verdict};
use chrono::{DateTime, Utc};
use sqlx::PgConnection;
use tokio::time::Instant;
use uuid::Uuid;

use crate::database::Database;
use crate::error::Error;
use crate::journal::{self, After, AttentionChange, Row, operator};

/// A workflow that this incarnation has claimed.
#[derive(Debug)]
pub(crate) struct Claimed {
    pub(crate) workflow: WorkflowId,
    pub(crate) kind: String,
    pub(crate) input: Json,
    pub(crate) epoch: Epoch,
    pub(crate) attention: bool,
    pub(crate) orphaned: Option<Orphaned>,
    pub(crate) cancel: Option<Operator>,
    pub(crate) crash_charges: u32,
    pub(crate) deadline_at: Option<DateTime<Utc>>,
    /// The database's clock at the claim, and when the claim was answered.
    pub(crate) now: (DateTime<Utc>, Instant),
    /// What its journal says; or why it can't be understood.
    pub(crate) history: Result<History, String>,
}

/// By what right this worker works on a workflow.
#[derive(Debug, Clone)]
pub(crate) struct Hold {
    pub(crate) workflow: WorkflowId,
    pub(crate) kind: String,
    pub(crate) epoch: Epoch,
}

impl Claimed {
    /// What an outcome changes beside the journal: the deaths of its process are not its fault, and what a person was
    /// called for is over. `forward`: on the way back only the end is that.
    pub(crate) fn after_outcome(&self, verdict: &Verdict, forward: bool) -> After {
        let recovered = self.attention && forward && matches!(verdict, Verdict::Succeeded(_));
        After {
            innocent: !matches!(verdict, Verdict::HandedBack)
                && (self.crash_charges > 0 || self.orphaned.is_some()),
            attention: recovered.then_some(AttentionChange::Clear(false)),
            ..After::default()
        }
    }

    /// The same here as in the database.
    pub(crate) fn has_outcome(&mut self, after: &After) {
        if after.innocent {
            (self.crash_charges, self.orphaned) = (0, None);
        }
        self.attention &= after.attention.is_none();
    }

    pub(crate) fn hold(&self) -> Hold {
        Hold { workflow: self.workflow, kind: self.kind.clone(), epoch: self.epoch }
    }
}

/// How a workflow left this worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Departure {
    /// It reached its end.
    Ended,
    /// Nobody holds it until this much time has passed.
    Parked(Duration),
    /// It belongs to somebody else now.
    Fenced,
}

/// Which workflows to take.
#[derive(Debug, Clone)]
pub(crate) struct Want {
    pub(crate) queues: Vec<String>,
    pub(crate) kinds: Vec<String>,
    pub(crate) limit: u32,
    /// Whether one that may kill its process may be among them.
    pub(crate) suspect: bool,
}

/// Takes due workflows. One that was never claimed costs no further round trip; the journals of the others come in one.
pub(crate) async fn claim(
    database: &Database,
    incarnation: IncarnationId,
    want: Want,
) -> Result<Vec<Claimed>, Error> {
    let mut claimed = database
        .run("claiming workflows", move |connection| {
            Box::pin(async move { take(connection, incarnation, &want).await })
        })
        .await?;
    let journaled: Vec<Uuid> =
        claimed.iter().filter(|claimed| claimed.epoch > Epoch(1)).map(|claimed| claimed.workflow.0).collect();
    if !journaled.is_empty() {
        let rows = database
            .run("reading journals", move |connection| {
                Box::pin(async move { journal::read(connection, &journaled).await })
            })
            .await?;
        let mut histories = fold(rows);
        for claimed in &mut claimed {
            claimed.history = histories.remove(&claimed.workflow).unwrap_or_else(|| Ok(History::default()));
        }
    }
    Ok(claimed)
}

async fn take(
    connection: &mut PgConnection,
    incarnation: IncarnationId,
    want: &Want,
) -> sqlx::Result<Vec<Claimed>> {
    let rows = sqlx::query!(
        r#"
        select workflow_id as "workflow_id!", kind as "kind!", input as "input!", epoch as "epoch!",
            attention as "attention!", orphaned, cancel, crash_charges as "crash_charges!", deadline_at, now as "now!"
        from backstitch.claim($1, $2, $3, $4, $5)
        "#,
        incarnation.0,
        &want.queues,
        &want.kinds,
        i32::try_from(want.limit).unwrap_or(i32::MAX),
        want.suspect
    )
    .fetch_all(connection)
    .await?;
    let answered = Instant::now();
    Ok(rows
        .into_iter()
        .map(|row| Claimed {
            workflow: WorkflowId(row.workflow_id),
            kind: row.kind,
            input: Json::from_journal(row.input),
            epoch: Epoch(row.epoch),
            attention: row.attention,
            orphaned: match row.orphaned.as_deref() {
                Some("gone") => Some(Orphaned::Gone),
                Some(_) => Some(Orphaned::Expired),
                None => None,
            },
            cancel: row.cancel.and_then(operator),
            crash_charges: row.crash_charges.unsigned_abs(),
            deadline_at: row.deadline_at,
            now: (row.now, answered),
            history: Ok(History::default()),
        })
        .collect())
}

fn fold(rows: Vec<Row>) -> HashMap<WorkflowId, Result<History, String>> {
    let mut histories: HashMap<WorkflowId, Result<History, String>> = HashMap::new();
    for Row { workflow, seq, at, stitch } in rows {
        let history = histories.entry(workflow).or_insert_with(|| Ok(History::default()));
        // One corrupt row parks one workflow, and its later rows don't matter any more.
        if let Ok(folded) = history {
            let applied = stitch
                .map_err(|what| format!("the journal is corrupt at seq {seq}: {what}"))
                .and_then(|stitch| folded.apply(seq, &stitch, at).map_err(|corrupt| corrupt.to_string()));
            if let Err(message) = applied {
                *history = Err(message);
            }
        }
    }
    histories
}
