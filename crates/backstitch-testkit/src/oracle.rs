//! What must hold over a workflow's journal and the ledger, whatever happened.

use std::collections::BTreeMap;

use backstitch::WorkflowId;
use sqlx::{PgPool, Row};

use crate::ledger::Ledger;

/// Every invariant that does not hold. Computed from the raw rows, not by the engine's own fold.
pub async fn faults(pool: &PgPool, ledgers: &[&Ledger], workflow: WorkflowId) -> Vec<String> {
    let journal = read(pool, workflow).await;
    let status: String = sqlx::query_scalar("select status from backstitch.workflows where workflow_id = $1")
        .bind(workflow.0)
        .fetch_one(pool)
        .await
        .expect("the workflow is there");
    let mut faults = journal_faults(&journal);
    for ledger in ledgers {
        for entry in ledger.entries(workflow).await {
            let intended = journal.iter().any(|row| {
                row.intent == Some((entry.position, entry.direction.clone(), entry.attempt))
                    && row.epoch == entry.epoch
            });
            if !intended {
                faults.push(format!("I2: an effect without its durable intent: {entry:?}"));
            }
        }
    }
    let mut standing = BTreeMap::new();
    for ledger in ledgers {
        for (position, times) in ledger.standing(workflow).await {
            *standing.entry(position).or_insert(0) += times;
        }
    }
    for (position, times) in &standing {
        if *times > 1 {
            faults.push(format!("I9: the effect of position {position} stands {times} times"));
        }
    }
    let ended = journal.iter().find_map(|row| row.turn.clone().filter(|turn| ENDS.contains(&turn.as_str())));
    // What an operator took upon themselves may stand.
    for row in &journal {
        if let Some(position) = row.skips {
            standing.remove(&position);
        }
    }
    match status.as_str() {
        "compensated" if !standing.is_empty() => {
            faults.push(format!("I5: compensated, and these positions stand: {standing:?}"));
        }
        "completed" => {
            for position in succeeded(&journal) {
                let wrote = standing.get(&position).copied().unwrap_or(0);
                if wrote != 1 && wrote_ever(ledgers, workflow, position).await {
                    faults.push(format!(
                        "completed, and the effect of position {position} stands {wrote} times"
                    ));
                }
            }
        }
        _ => {}
    }
    if ENDS.contains(&status.as_str()) {
        if ended.as_deref() != Some(status.as_str()) {
            faults.push(format!("I3: it is {status}, its journal says {ended:?}"));
        }
        let live: bool =
            sqlx::query_scalar("select exists (select from backstitch.ready where workflow_id = $1)")
                .bind(workflow.0)
                .fetch_one(pool)
                .await
                .expect("it answers");
        if live {
            faults.push("I16: ended, and still in ready".to_owned());
        }
    } else if ended.is_some() {
        faults.push(format!("I7: its journal says {ended:?}, its status {status}"));
    }
    faults
}

/// The turns after which nothing follows.
const ENDS: [&str; 3] = ["completed", "compensated", "abandoned"];

type Key = (u32, String, u32);

struct JournalRow {
    seq: u32,
    epoch: i32,
    outcome: Option<(Key, String)>,
    turn: Option<String>,
    /// The step that an operator said need not be taken back.
    skips: Option<u32>,
    intent: Option<Key>,
}

async fn read(pool: &PgPool, workflow: WorkflowId) -> Vec<JournalRow> {
    let rows = sqlx::query("select *, (turn_value ->> 'position')::integer as about from backstitch.journal where workflow_id = $1 order by seq")
        .bind(workflow.0)
        .fetch_all(pool)
        .await
        .expect("the journal answers");
    let key = |row: &sqlx::postgres::PgRow, of: &str| -> Option<Key> {
        let position: Option<i32> = row.get(format!("{of}_position").as_str());
        let direction: Option<String> = row.get(format!("{of}_direction").as_str());
        let attempt: Option<i32> = row.get(format!("{of}_attempt").as_str());
        Some((position?.unsigned_abs(), direction?, attempt?.unsigned_abs()))
    };
    rows.iter()
        .map(|row| JournalRow {
            seq: row.get::<i32, _>("seq").unsigned_abs(),
            epoch: row.get("epoch"),
            outcome: key(row, "outcome").zip(row.get("outcome")),
            turn: row.get("turn"),
            skips: row
                .get::<Option<i32>, _>("about")
                .filter(|_| row.get::<Option<&str>, _>("turn") == Some("skip_step"))
                .map(i32::unsigned_abs),
            intent: key(row, "intent"),
        })
        .collect()
}

fn journal_faults(journal: &[JournalRow]) -> Vec<String> {
    let mut faults = Vec::new();
    let mut fault = |text: String| faults.push(text);
    let (mut unwinding, mut ended, mut epoch) = (false, false, 0);
    let mut open: Vec<Key> = Vec::new();
    let mut done: BTreeMap<(u32, String), u32> = BTreeMap::new();
    for (index, row) in journal.iter().enumerate() {
        if row.seq as usize != index {
            fault(format!("I1: seq {} stands at {index}", row.seq));
        }
        if ended {
            fault(format!("I7: seq {} follows the end", row.seq));
        }
        if row.epoch < epoch {
            fault(format!("I8: seq {} is of epoch {}, after {epoch}", row.seq, row.epoch));
        }
        epoch = row.epoch;
        let transactional =
            row.intent.is_some() && row.intent == row.outcome.as_ref().map(|(key, _)| key.clone());
        if transactional {
            open.extend(row.intent.clone());
        }
        if let Some((key, verdict)) = &row.outcome {
            let count = open.len();
            open.retain(|intent| intent != key);
            if open.len() == count {
                fault(format!(
                    "I3: seq {} is an outcome without its intent, or a second one: {key:?}",
                    row.seq
                ));
            }
            if verdict == "succeeded" {
                *done.entry((key.0, key.1.clone())).or_default() += 1;
            }
        }
        match row.turn.as_deref() {
            Some("unwinding") if unwinding => fault(format!("seq {} unwinds again", row.seq)),
            Some("unwinding") => unwinding = true,
            Some(turn) if ENDS.contains(&turn) => ended = true,
            _ => {}
        }
        if let Some(intent) = row.intent.as_ref().filter(|_| !transactional) {
            if unwinding && intent.1 == "run" {
                fault(format!("I4: seq {} runs forward after unwinding", row.seq));
            }
            open.push(intent.clone());
        }
    }
    for ((position, direction), times) in done {
        if times > 1 {
            fault(format!("I3: {direction} of position {position} succeeded {times} times"));
        }
    }
    faults
}

/// Positions whose run succeeded and that were not compensated.
fn succeeded(journal: &[JournalRow]) -> Vec<u32> {
    let has = |direction: &str| -> Vec<u32> {
        let outcomes = journal.iter().filter_map(|row| row.outcome.as_ref());
        outcomes
            .filter(|((_, of, _), verdict)| of == direction && verdict == "succeeded")
            .map(|((position, _, _), _)| *position)
            .collect()
    };
    let compensated = has("compensate");
    has("run").into_iter().filter(|position| !compensated.contains(position)).collect()
}

async fn wrote_ever(ledgers: &[&Ledger], workflow: WorkflowId, position: u32) -> bool {
    for ledger in ledgers {
        if ledger.entries(workflow).await.iter().any(|entry| entry.position == position) {
            return true;
        }
    }
    false
}
