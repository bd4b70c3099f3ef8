//! What the client can see of steps and attempts.

use backstitch_core::id::WorkflowId;
use backstitch_core::json::Json;

use crate::client::Client;
use crate::error::Error;
use crate::view::{AttemptView, StepView};

impl Client {
    /// The steps of a workflow, in order.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn steps(&self, workflow: WorkflowId) -> Result<Vec<StepView>, Error> {
        let rows = self
            .database
            .run("reading steps", async |connection| {
                sqlx::query!(
                    r#"
                    select position as "position!", step as "step!", status as "status!", backward as "backward!",
                        input::text, output::text
                    from backstitch.steps
                    where workflow_id = $1
                    order by position
                    "#,
                    workflow.0
                )
                .fetch_all(connection)
                .await
            })
            .await?;
        Ok(rows
            .into_iter()
            .map(|row| StepView {
                position: row.position.unsigned_abs(),
                step: row.step,
                status: row.status,
                backward: row.backward,
                input: row.input.map(Json::from_journal),
                output: row.output.map(Json::from_journal),
            })
            .collect())
    }

    /// Every try of every step of a workflow, in the order in which they began: that of the journal.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn attempts(&self, workflow: WorkflowId) -> Result<Vec<AttemptView>, Error> {
        let rows = self
            .database
            .run("reading attempts", async |connection| {
                sqlx::query!(
                    r#"
                    select position as "position!", step as "step!", direction as "direction!",
                        attempt as "attempt!", key as "key!", incarnation, began_seq as "began_seq!",
                        began_at as "began_at!", ended_seq, ended_at, outcome, value as "value: serde_json::Value"
                    from backstitch.attempts
                    where workflow_id = $1
                    order by began_seq
                    "#,
                    workflow.0
                )
                .fetch_all(connection)
                .await
            })
            .await?;
        Ok(rows
            .into_iter()
            .map(|row| AttemptView {
                position: row.position.unsigned_abs(),
                step: row.step,
                direction: row.direction,
                attempt: row.attempt.unsigned_abs(),
                key: row.key,
                incarnation: row.incarnation,
                began_seq: row.began_seq.unsigned_abs(),
                began_at: row.began_at,
                ended_seq: row.ended_seq.map(i32::unsigned_abs),
                ended_at: row.ended_at,
                failure: row
                    .value
                    .filter(|_| row.outcome.as_deref() != Some("succeeded"))
                    .and_then(|value| serde_json::from_value(value).ok()),
                outcome: row.outcome,
            })
            .collect())
    }

    /// Whether a living worker serves this kind.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn is_served(&self, kind: &str) -> Result<bool, Error> {
        let kind = kind.to_owned();
        self.database
            .run("looking for workers", async |connection| {
                sqlx::query_scalar!(
                    r#"
                    select exists (
                        select from backstitch.incarnation where died_at is null and $1 = any (kinds)
                    ) as "served!"
                    "#,
                    kind
                )
                .fetch_one(connection)
                .await
            })
            .await
    }
}
