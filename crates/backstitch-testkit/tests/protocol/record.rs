//! Records as a worker appends them.

use serde_json::Value;
use sqlx::postgres::PgRow;
use sqlx::{PgConnection, PgExecutor, Row};
use tokio::task::JoinHandle;
use uuid::Uuid;

use crate::stage::{Session, Stage};

/// Which attempt: position, direction, number.
type Key = (i32, &'static str, i32);

#[derive(Clone)]
pub struct Record {
    workflow: Uuid,
    epoch: i32,
    seq: i32,
    outcome: Option<(Key, &'static str)>,
    turn: Option<&'static str>,
    intent: Option<(Key, &'static str)>,
    after: Option<Value>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    pub verdict: String,
    pub leased: bool,
    pub cancel: Option<Value>,
}

/// A record of this claim at this place that says nothing yet.
pub fn record(workflow: Uuid, epoch: i32, seq: i32) -> Record {
    Record { workflow, epoch, seq, outcome: None, turn: None, intent: None, after: None }
}

/// The usual first record: step 0 begins.
pub fn first(workflow: Uuid) -> Record {
    record(workflow, 1, 0).begins(0)
}

impl Record {
    pub fn ends(self, position: i32, verdict: &'static str) -> Self {
        Self { outcome: Some(((position, "run", 1), verdict)), ..self }
    }

    pub fn begins(self, position: i32) -> Self {
        Self { intent: Some(((position, "run", 1), "after_all_later")), ..self }
    }

    pub fn begins_pivot(self, position: i32) -> Self {
        Self { intent: Some(((position, "run", 1), "pivot")), ..self }
    }

    pub fn begins_again(self, position: i32, attempt: i32) -> Self {
        Self { intent: Some(((position, "run", attempt), "after_all_later")), ..self }
    }

    pub fn ends_again(self, position: i32, attempt: i32, verdict: &'static str) -> Self {
        Self { outcome: Some(((position, "run", attempt), verdict)), ..self }
    }

    pub fn compensates(self, position: i32) -> Self {
        Self { intent: Some(((position, "compensate", 1), "after_all_later")), ..self }
    }

    pub fn compensated(self, position: i32) -> Self {
        Self { outcome: Some(((position, "compensate", 1), "succeeded")), ..self }
    }

    pub fn turns(self, turn: &'static str) -> Self {
        Self { turn: Some(turn), ..self }
    }

    pub fn after(self, after: Value) -> Self {
        Self { after: Some(after), ..self }
    }

    /// It completes, with an output.
    pub fn completes(self) -> Self {
        self.turns("completed").after(serde_json::json!({"output": 1}))
    }

    /// It has been taken back, with a report.
    pub fn ends_compensated(self) -> Self {
        self.turns("compensated").after(serde_json::json!({"cause": {}, "error": {}, "report": {}}))
    }
}

/// Appends these records of one worker.
pub async fn append(on: impl PgExecutor<'_>, worker: i32, records: &[Record]) -> sqlx::Result<Vec<Answer>> {
    call(on, worker, records, By::ThisVersion).await
}

/// The same, repeated as a worker repeats it while others write the same places.
pub async fn append_among_others(
    connection: &mut PgConnection,
    worker: i32,
    records: &[Record],
) -> sqlx::Result<Vec<Answer>> {
    loop {
        match append(&mut *connection, worker, records).await {
            Err(sqlx::Error::Database(error)) if error.constraint() == Some("journal_pkey") => {}
            answered => return answered,
        }
    }
}

/// Appends as workers of the version before the group commit do.
pub async fn append_as_before(
    on: impl PgExecutor<'_>,
    worker: i32,
    records: &[Record],
) -> sqlx::Result<Vec<Answer>> {
    call(on, worker, records, By::VersionBefore).await
}

enum By {
    ThisVersion,
    VersionBefore,
}

async fn call(on: impl PgExecutor<'_>, worker: i32, records: &[Record], by: By) -> sqlx::Result<Vec<Answer>> {
    fn column<'a, T>(records: &'a [Record], of: impl Fn(&'a Record) -> T) -> Vec<T> {
        records.iter().map(of).collect()
    }
    let input = |record: &Record| record.intent.map(|_| "{}");
    let value = |record: &Record| record.outcome.map(|_| "1");
    let sql = match by {
        By::ThisVersion => {
            "select ordinal, verdict, leased, cancel
            from backstitch.append($1, array(
                select row(
                    u.workflow_id, u.seq, u.epoch, u.outcome, u.outcome_position, u.outcome_direction,
                    u.outcome_attempt, u.outcome_value, u.turn, u.turn_value, u.intent_position, u.intent_direction,
                    u.intent_attempt, u.intent_step, u.intent_version, u.intent_backward, u.intent_input,
                    u.after::json ->> 'output', nullif(u.after::jsonb - 'output', '{}')
                )::backstitch.journal_record
                from unnest($2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19)
                    with ordinality u (
                        workflow_id, seq, epoch, outcome, outcome_position, outcome_direction, outcome_attempt,
                        outcome_value, turn, turn_value, intent_position, intent_direction, intent_attempt,
                        intent_step, intent_version, intent_backward, intent_input, after, ordinal
                    )
                order by u.ordinal
            ))
            order by ordinal"
        }
        By::VersionBefore => {
            "select ordinal, verdict, leased, cancel
            from backstitch.append($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19)
            order by ordinal"
        }
    };
    let rows = sqlx::query(sql)
        .bind(worker)
        .bind(column(records, |record| record.workflow))
        .bind(column(records, |record| record.seq))
        .bind(column(records, |record| record.epoch))
        .bind(column(records, |record| record.outcome.map(|(_, verdict)| verdict)))
        .bind(column(records, |record| record.outcome.map(|(key, _)| key.0)))
        .bind(column(records, |record| record.outcome.map(|(key, _)| key.1)))
        .bind(column(records, |record| record.outcome.map(|(key, _)| key.2)))
        .bind(column(records, value))
        .bind(column(records, |record| record.turn))
        .bind(column(records, |record| record.turn.map(|_| "{}")))
        .bind(column(records, |record| record.intent.map(|(key, _)| key.0)))
        .bind(column(records, |record| record.intent.map(|(key, _)| key.1)))
        .bind(column(records, |record| record.intent.map(|(key, _)| key.2)))
        .bind(column(records, |record| record.intent.map(|_| "step")))
        .bind(column(records, |record| record.intent.map(|_| 1)))
        .bind(column(records, |record| record.intent.map(|(_, backward)| backward)))
        .bind(column(records, input))
        .bind(column(records, |record| record.after.as_ref().map(Value::to_string)))
        .fetch_all(on)
        .await?;
    let answer = |row: &PgRow| Answer {
        verdict: row.get("verdict"),
        leased: row.get("leased"),
        cancel: row.get("cancel"),
    };
    Ok(match &rows[..] {
        [for_all] if for_all.get::<i32, _>("ordinal") == 0 => vec![answer(for_all); records.len()],
        one_each => one_each.iter().map(answer).collect(),
    })
}

/// What became of one record.
pub async fn verdict(on: impl PgExecutor<'_>, worker: i32, record: Record) -> String {
    append(on, worker, &[record]).await.expect("it answers").remove(0).verdict
}

/// Appends in a session of its own, so that the test may watch it wait.
pub fn appending(
    session: Session,
    worker: i32,
    records: Vec<Record>,
) -> JoinHandle<sqlx::Result<Vec<Answer>>> {
    let mut session = session;
    tokio::spawn(async move { append_among_others(&mut session.connection, worker, &records).await })
}

/// An append in the middle of its statement: it has looked who holds what, and can't go on to write about `workflow`
/// until `release`d, because the place of another record of its batch is half written.
pub struct InFlight {
    /// The workflow that it is about to write about.
    pub workflow: Uuid,
    other: sqlx::Transaction<'static, sqlx::Postgres>,
    appending: JoinHandle<sqlx::Result<Vec<Answer>>>,
}

impl InFlight {
    /// The first record of a new workflow of this worker, in flight.
    pub async fn first_record(stage: &Stage, worker: i32) -> Self {
        let mut workflows = [stage.held_by(worker).await, stage.held_by(worker).await];
        workflows.sort_unstable();
        let [before, workflow] = workflows;
        let other = stage.half_written(before, 0).await;
        let session = stage.session().await;
        let pid = session.pid;
        let appending = appending(session, worker, vec![first(before), first(workflow)]);
        stage.waits(pid, "transactionid").await;
        Self { workflow, other, appending }
    }

    /// Lets it go on. What it is answered about its workflow.
    pub async fn release(self) -> String {
        self.other.rollback().await.expect("a rollback");
        let answers = self.appending.await.expect("no panic").expect("it answers");
        answers[1].verdict.clone()
    }
}
