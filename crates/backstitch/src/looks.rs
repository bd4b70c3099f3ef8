//! What the client can see of steps and attempts.

use backstitch_core::id::{Position, WorkflowId};
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
        self.read_steps(workflow, 0, None).await
    }

    /// So many of them at most, from a position on.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn steps_from(
        &self,
        workflow: WorkflowId,
        position: Position,
        limit: u32,
    ) -> Result<Vec<StepView>, Error> {
        self.read_steps(workflow, position.0, Some(limit)).await
    }

    async fn read_steps(
        &self,
        workflow: WorkflowId,
        from: u32,
        limit: Option<u32>,
    ) -> Result<Vec<StepView>, Error> {
        let rows = self
            .database
            .run("reading steps", async |connection| {
                sqlx::query!(
                    r#"
                    select position as "position!", step as "step!", status as "status!", backward as "backward!",
                        input::text, output::text
                    from backstitch.steps
                    where workflow_id = $1
                        and position >= $2
                    order by position
                    limit $3
                    "#,
                    workflow.0,
                    whole(from),
                    limit.map(i64::from)
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
        self.read_attempts(workflow, 0, None).await
    }

    /// So many of them at most, from the row of the journal on in which the first of them began.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn attempts_from(
        &self,
        workflow: WorkflowId,
        began_seq: u32,
        limit: u32,
    ) -> Result<Vec<AttemptView>, Error> {
        self.read_attempts(workflow, began_seq, Some(limit)).await
    }

    async fn read_attempts(
        &self,
        workflow: WorkflowId,
        from: u32,
        limit: Option<u32>,
    ) -> Result<Vec<AttemptView>, Error> {
        let rows = self
            .database
            .run("reading attempts", async |connection| {
                sqlx::query!(
                    r#"
                    select a.position as "position!", a.step as "step!", a.direction as "direction!",
                        a.attempt as "attempt!", a.key as "key!", a.incarnation, a.began_seq as "began_seq!",
                        a.began_at as "began_at!", a.ended_seq, a.ended_at, a.outcome,
                        -- An output is told of its step. From the row itself: the view gathers those of all attempts.
                        case
                            when a.outcome <> 'succeeded' then (
                                select j.outcome_value
                                from backstitch.journal j
                                where j.workflow_id = $1
                                    and j.seq = a.ended_seq
                            )
                        end as "failure: serde_json::Value"
                    from backstitch.attempts a
                    where a.workflow_id = $1
                        and a.began_seq >= $2
                    order by a.began_seq
                    limit $3
                    "#,
                    workflow.0,
                    whole(from),
                    limit.map(i64::from)
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
                failure: row.failure.and_then(|failure| serde_json::from_value(failure).ok()),
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

/// As Postgres counts. Beyond what it can count there is nothing.
fn whole(number: u32) -> i32 {
    i32::try_from(number).unwrap_or(i32::MAX)
}
