//! What must hold over a workflow's journal and the ledger, whatever happened: reads both, and lets [`judge`] judge.

use std::collections::HashMap;
use std::ops::RangeInclusive;

use backstitch::WorkflowId;
use serde_json::Value;
use sqlx::postgres::PgRow;
use sqlx::types::Json;
use sqlx::{PgPool, Row as _};
use uuid::Uuid;

use crate::judge::{self, CameTo, Effect, Key, Row, Script, Told};
use crate::ledger::{Ledger, LedgerRow, effects};
use crate::recorder::{Line, Verdict};
use crate::violation::Violation;

/// Every invariant that does not hold of this workflow. Its effects are in a ledger outside, or in one in the journal's own
/// database, whose transactional steps write each effect once.
///
/// # Panics
/// When the workflow is not there, or a database does not answer.
pub async fn faults(
    pool: &PgPool,
    outer: Option<&Ledger>,
    inner: Option<&Ledger>,
    workflow: WorkflowId,
) -> Vec<Violation> {
    let mut told = tell(pool, workflow.0..=workflow.0).await.expect("the journal answers");
    let mut told = told.remove(&workflow.0).expect("the workflow is there");
    if let Some(outer) = outer {
        told.effects.extend(effects(outer.rows_of(workflow).await));
    }
    if let Some(inner) = inner {
        told.effects.extend(each_applied(inner.rows_of(workflow).await));
    }
    judge::faults(&told)
}

/// What the journals say of every workflow from this id on (they are ordered by time), and what a recorder's log and the
/// ledger in that database say of their effects. Scripted workflows are held to an effect for each of their steps.
///
/// # Errors
/// When the database does not answer.
pub async fn everything(
    pool: &PgPool,
    inner_ledger: &Ledger,
    log: &[Line],
    from: Uuid,
) -> sqlx::Result<HashMap<Uuid, Told>> {
    let mut told = tell(pool, from..=Uuid::max()).await?;
    for told in told.values_mut() {
        told.every_step_acts = told.kind.starts_with("script.");
    }
    for line in log {
        let call = &line.call;
        let key = (call.position, call.direction.clone(), call.attempt);
        let came_to = match line.verdict {
            Verdict::Applied => CameTo::Applied,
            Verdict::Repeated => CameTo::Repeated,
            Verdict::Tombstone | Verdict::StaleEpoch | Verdict::Nothing => CameTo::Nothing,
        };
        // Of nobody: that is another question.
        if let Some(of) = told.get_mut(&call.workflow) {
            of.effects.push(Effect { key, epoch: call.epoch, came_to });
        }
    }
    for (workflow, rows) in inner_ledger.rows(from..=Uuid::max()).await? {
        if let Some(of) = told.get_mut(&workflow) {
            of.effects.extend(each_applied(rows));
        }
    }
    Ok(told)
}

async fn tell(pool: &PgPool, workflows: RangeInclusive<Uuid>) -> sqlx::Result<HashMap<Uuid, Told>> {
    let rows = sqlx::query(
        "select w.workflow_id, w.kind, w.status, r.workflow_id is not null as is_live,
            case when jsonb_typeof(w.input -> 'steps') = 'array' and w.kind like 'script.%'
                then jsonb_array_length(w.input -> 'steps')
            end as steps,
            case when w.kind like 'script.%' then w.output end as said
        from backstitch.workflows w left join backstitch.ready r using (workflow_id)
        where w.workflow_id between $1 and $2",
    )
    .bind(workflows.start())
    .bind(workflows.end())
    .fetch_all(pool)
    .await?;
    let mut told: HashMap<Uuid, Told> = rows
        .iter()
        .map(|row| {
            let told = Told {
                kind: row.get("kind"),
                status: row.get("status"),
                is_live: row.get("is_live"),
                every_step_acts: false,
                script: row.get::<Option<i32>, _>("steps").map(|steps| Script {
                    steps: steps.unsigned_abs() as usize,
                    said: row.get::<Option<Json<Vec<Value>>>, _>("said").map(|said| said.0),
                }),
                journal: Vec::new(),
                effects: Vec::new(),
            };
            (row.get("workflow_id"), told)
        })
        .collect();
    let rows = sqlx::query(
        "select *, (turn_value ->> 'position')::integer as about, (turn_value ->> 'happened')::boolean as happened
        from backstitch.journal
        where workflow_id between $1 and $2 order by workflow_id, seq",
    )
    .bind(workflows.start())
    .bind(workflows.end())
    .fetch_all(pool)
    .await?;
    for row in &rows {
        let told = told.get_mut(&row.get::<Uuid, _>("workflow_id"));
        told.expect("a journal is of a workflow").journal.push(journal_row(row));
    }
    Ok(told)
}

fn journal_row(row: &PgRow) -> Row {
    let key = |of: &str| -> Option<Key> {
        let position: Option<i32> = row.get(format!("{of}_position").as_str());
        let direction: Option<String> = row.get(format!("{of}_direction").as_str());
        let attempt: Option<i32> = row.get(format!("{of}_attempt").as_str());
        Some((position?.unsigned_abs(), direction?, attempt?.unsigned_abs()))
    };
    let about = |turn: &str| {
        let about =
            row.get::<Option<i32>, _>("about").filter(|_| row.get::<Option<&str>, _>("turn") == Some(turn));
        about.map(i32::unsigned_abs)
    };
    Row {
        seq: row.get::<i32, _>("seq").unsigned_abs(),
        epoch: row.get("epoch"),
        outcome: key("outcome").zip(row.get("outcome")),
        value: row.get("outcome_value"),
        turn: row.get("turn"),
        skips: about("skip_step"),
        resolves: about("resolve").zip(row.get("happened")),
        intent: key("intent"),
        backward: row.get("intent_backward"),
    }
}

/// The rows of the ledger in the journal's database as effects: whatever was committed there stands, nobody looks at its key.
fn each_applied(rows: Vec<LedgerRow>) -> Vec<Effect> {
    let applied = |(_, key, epoch, _)| Effect { key, epoch, came_to: CameTo::Applied };
    rows.into_iter().map(applied).collect()
}
