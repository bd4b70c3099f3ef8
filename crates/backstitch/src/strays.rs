//! Which workflows this worker holds without knowing it, and how it lets go of them.
//!
//! A claim that was carried out and whose answer was lost makes this worker the holder of workflows that it does not
//! drive. No burial comes for them while it lives, so it looks for them itself.

use std::time::Duration;

use backstitch_core::id::{Epoch, WorkflowId};
use uuid::Uuid;

use crate::claim::Hold;
use crate::error::Error;
use crate::journal::After;
use crate::life::{Life, Shop};
use crate::park;

/// Lets go of every workflow that this incarnation holds and that is not among the `known`.
///
/// In no order: one that somebody keeps, at which this ends, must not keep the same others from it look after look.
///
/// Not to be called while a claim of this incarnation is under way that will yet be answered.
pub(crate) async fn let_go<S>(shop: &Shop<S>, life: &Life, known: Vec<Uuid>) -> Result<(), Error> {
    let incarnation = life.lease.incarnation.0;
    let strays = shop
        .database
        .run("looking for workflows held without knowing", async |connection| {
            sqlx::query!(
                r#"
                select workflow_id, kind, epoch
                from backstitch.ready
                where holder = $1
                    and workflow_id <> all ($2)
                order by random()
                "#,
                incarnation,
                &known
            )
            .fetch_all(connection)
            .await
        })
        .await?;
    for stray in strays {
        let hold =
            Hold { workflow: WorkflowId(stray.workflow_id), kind: stray.kind, epoch: Epoch(stray.epoch) };
        tracing::warn!(
            workflow.id = %hold.workflow, workflow.kind = hold.kind, "held after a claim without an answer, letting it go"
        );
        // Once: whoever looks for strays has more to do than to wait for one, and finds it again.
        park::park_once(shop, life, &hold, Duration::ZERO, &After::default()).await?;
    }
    Ok(())
}
