//! How due workflows are taken, with the journals of those that have a short one.

use std::time::Duration;

use backstitch_core::decide::Orphaned;
use backstitch_core::history::History;
use backstitch_core::id::{Epoch, IncarnationId, WorkflowId};
use backstitch_core::json::Json;
use backstitch_core::limits::SUSPECT_CHARGES;
use backstitch_core::record::{Operator, Verdict};
use chrono::{DateTime, Utc};
use sqlx::PgConnection;
use tokio::time::Instant;

use crate::clock::Clock;
use crate::database::Kept;
use crate::error::Error;
use crate::journal::{After, AttentionChange, operator};
use crate::replay;

/// The most rows of a journal that a claim brings along: those of most workflows, such as twenty steps and the way back, or five
/// steps with five retries each. Beside the bytes, or a claim would look at thousands of small rows to add them up.
const JOURNAL_ROWS_MAX: i32 = 64;

/// The most bytes of a journal that a claim brings along. Of as many workflows as one claim takes, 128, that is 8 MiB: a network
/// of 20 Mbit/s carries those within the deadline of a call.
const JOURNAL_BYTES_MAX: i32 = 64 * 1024;

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
    /// The database's, by the claim and the answers since.
    pub(crate) clock: Clock,
    /// What its journal says; or why it can't be understood. None: it is too long to come along, and yet to be read.
    pub(crate) history: Option<Result<History, String>>,
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

    /// Whether it may kill its process, so that it is driven alone.
    pub(crate) fn is_suspect(&self) -> bool {
        self.crash_charges >= SUSPECT_CHARGES
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

/// Takes due workflows, with the journals of those that have a short one, in one round trip.
pub(crate) async fn claim(
    journal: &mut Kept,
    incarnation: IncarnationId,
    want: Want,
) -> Result<Vec<Claimed>, Error> {
    journal.run("claiming workflows", async |connection| take(connection, incarnation, &want).await).await
}

async fn take(
    connection: &mut PgConnection,
    incarnation: IncarnationId,
    want: &Want,
) -> sqlx::Result<Vec<Claimed>> {
    let asked_at = Instant::now();
    let rows = sqlx::query!(
        r#"
        select workflow_id as "workflow_id!", kind as "kind!", input as "input!", epoch as "epoch!",
            attention as "attention!", orphaned, cancel, crash_charges as "crash_charges!", deadline_at, now as "now!",
            journal
        from backstitch.claim($1, $2, $3, $4, $5, $6, $7)
        "#,
        incarnation.0,
        &want.queues,
        &want.kinds,
        i32::try_from(want.limit).unwrap_or(i32::MAX),
        i32::from(want.suspect),
        JOURNAL_ROWS_MAX,
        JOURNAL_BYTES_MAX
    )
    .fetch_all(connection)
    .await?;
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
            clock: Clock::showed(row.now, asked_at),
            history: row.journal.map(|journal| replay::history(&journal)),
        })
        .collect())
}
