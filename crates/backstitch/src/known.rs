//! What is known of the workflows whose ids something outside carries?

use std::collections::HashMap;
use std::time::Duration;

use backstitch_core::id::WorkflowId;

use crate::client::Client;
use crate::error::Error;
use crate::view::Status;

/// What is known of a workflow by its id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Known {
    /// It is there.
    Is(Status),
    /// It was there: a key still names it, but after its end it was removed.
    Was,
    /// This database knows no such workflow, nor a key that names it.
    Never,
}

impl Known {
    /// It has not ended.
    #[must_use]
    pub fn is_live(self) -> bool {
        match self {
            Self::Is(status) => {
                !matches!(status, Status::Completed | Status::Compensated | Status::Abandoned)
            }
            Self::Was | Self::Never => false,
        }
    }
}

/// How long a walk through all keys may take: they are never removed, and nobody waits who is in a hurry.
const WALK_DEADLINE: Duration = Duration::from_secs(60);

impl Client {
    /// What is known of each of these.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn known(&self, workflows: &[WorkflowId]) -> Result<HashMap<WorkflowId, Known>, Error> {
        let ids: Vec<_> = workflows.iter().map(|workflow| workflow.0).collect();
        let rows = self
            .database
            .clone()
            .with_deadline(WALK_DEADLINE)
            .run("looking workflows up", async |connection| {
                sqlx::query!(
                    r#"
                    with looked_up as materialized (
                        select i.workflow_id, w.status
                        from unnest($1::uuid[]) as i(workflow_id)
                            left join backstitch.workflows w on w.workflow_id = i.workflow_id
                    ),
                    named as (
                        -- One walk for all that are gone, and none where none is: keys are found by kind and key alone.
                        select distinct k.workflow_id
                        from backstitch.key k
                        where exists (select from looked_up l where l.status is null)
                            and k.workflow_id in (select l.workflow_id from looked_up l where l.status is null)
                    )
                    select l.workflow_id as "workflow_id!", l.status as "status?",
                        n.workflow_id is not null as "is_named!"
                    from looked_up l
                        left join named n on n.workflow_id = l.workflow_id
                    "#,
                    &ids
                )
                .fetch_all(connection)
                .await
            })
            .await?;
        rows.into_iter()
            .map(|row| {
                let workflow = WorkflowId(row.workflow_id);
                let unreadable = |message| Error::Unreadable { workflow, message };
                let known = match row.status {
                    Some(status) => Known::Is(status.parse().map_err(unreadable)?),
                    None if row.is_named => Known::Was,
                    None => Known::Never,
                };
                Ok((workflow, known))
            })
            .collect()
    }
}
