//! What is known of the workflows whose ids something outside carries?

use std::collections::HashMap;

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

impl Client {
    /// What is known of each of these.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn known(&self, workflows: &[WorkflowId]) -> Result<HashMap<WorkflowId, Known>, Error> {
        let ids: Vec<_> = workflows.iter().map(|workflow| workflow.0).collect();
        let rows = self
            .database
            .run("looking workflows up", move |connection| {
                Box::pin(async move {
                    sqlx::query!(
                        r#"
                        with named as (
                            -- One walk for all of them: keys are found by kind and key alone.
                            select distinct k.workflow_id
                            from backstitch.key k
                            where k.workflow_id = any ($1)
                        )
                        select i.workflow_id as "workflow_id!", w.status as "status?",
                            n.workflow_id is not null as "is_named!"
                        from unnest($1::uuid[]) as i(workflow_id)
                            left join backstitch.workflows w on w.workflow_id = i.workflow_id
                            left join named n on n.workflow_id = i.workflow_id
                        "#,
                        &ids
                    )
                    .fetch_all(connection)
                    .await
                })
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
