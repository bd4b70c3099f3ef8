//! How a workflow is let go without a record, to be claimed again later.

use std::time::Duration;

use crate::claim::{Departure, Hold};
use crate::database::interval;
use crate::error::Error;
use crate::journal::{After, AttentionChange};
use crate::life::{Life, Shop};

/// How long to wait before an unanswered park is repeated.
const REPEAT: Duration = Duration::from_millis(250);

/// Lets go of a workflow for at least `wait`. Where a person is called, that is one transaction with it.
///
/// Repeated until it is answered: a repetition finds the workflow gone, which is as good.
pub(crate) async fn park<S>(
    shop: &Shop<S>,
    life: &Life,
    hold: &Hold,
    wait: Duration,
    after: After,
) -> Departure {
    log_attention(hold, &after, wait);
    loop {
        match park_once(shop, life, hold, wait, &after).await {
            Ok(departure) => return departure,
            Err(error) => tracing::warn!(workflow.id = %hold.workflow, %error, "parking again"),
        }
        tokio::select! {
            () = tokio::time::sleep(REPEAT) => {}
            () = life.lease.died() => return Departure::Fenced,
        }
    }
}

/// Asks once to let go of a workflow.
///
/// # Errors
/// When the database does not answer, or can't do it for now.
pub(crate) async fn park_once<S>(
    shop: &Shop<S>,
    life: &Life,
    hold: &Hold,
    wait: Duration,
    after: &After,
) -> Result<Departure, Error> {
    let (incarnation, workflow, epoch) = (life.lease.incarnation.0, hold.workflow.0, hold.epoch.0);
    let after = serde_json::to_value(after).expect("our own values serialize");
    let interval = interval(wait);
    let parked = shop
        .database
        .run("parking a workflow", async |connection| {
            sqlx::query_scalar!(
                r#"select backstitch.park($1, $2, $3, $4, $5) as "parked!""#,
                incarnation,
                workflow,
                epoch,
                interval,
                after
            )
            .fetch_one(connection)
            .await
        })
        .await?;
    Ok(if parked { Departure::Parked(wait) } else { Departure::Fenced })
}

/// Says that a person should look, where one should.
pub(crate) fn log_attention(hold: &Hold, after: &After, wait: Duration) {
    if let Some(AttentionChange::Raise(attention)) = &after.attention {
        tracing::error!(
            workflow.id = %hold.workflow, workflow.kind = hold.kind, reason = attention.reason,
            "{}; trying again in {} s", attention.message, wait.as_secs()
        );
    }
}
