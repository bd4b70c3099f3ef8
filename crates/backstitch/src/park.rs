//! How a workflow is let go without a record, to be claimed again later.

use std::sync::PoisonError;
use std::time::Duration;

use crate::claim::{Departure, Hold};
use crate::database::interval;
use crate::error::Error;
use crate::journal::{After, Attention, AttentionChange};
use crate::life::{Life, Shop};

/// How long to wait before an unanswered park is repeated.
const REPEAT: Duration = Duration::from_millis(250);

/// Lets go of a workflow for at least `wait`. Where a person is called, that is one transaction with it.
///
/// Repeated until it is answered: a repetition finds the workflow gone, which is as good. What is refused for good is not
/// repeated, for its slot would never be free again: it is said in plainer words, and where these are refused, too, the workflow
/// is left to whoever looks for strays.
pub(crate) async fn park<S>(
    shop: &Shop<S>,
    life: &Life,
    hold: &Hold,
    wait: Duration,
    mut after: After,
) -> Departure {
    log_attention(hold, &after, wait);
    let mut was_refused = false;
    loop {
        match park_once(shop, life, hold, wait, &after).await {
            Ok(departure) => return departure,
            Err(error) if error.is_transient() => {
                if life.parking.lock().unwrap_or_else(PoisonError::into_inner).is_news() {
                    tracing::warn!(workflow.id = %hold.workflow, %error, "a workflow can't be parked for now, trying on");
                }
            }
            Err(error) => {
                tracing::error!(
                    workflow.id = %hold.workflow, workflow.kind = hold.kind, %error,
                    "the database refuses to have a workflow parked"
                );
                match plainer(&after, &error).filter(|_| !was_refused) {
                    Some(plainer) => (after, was_refused) = (plainer, true),
                    None => return Departure::Fenced,
                }
                continue;
            }
        }
        tokio::select! {
            () = tokio::time::sleep(REPEAT) => {}
            () = life.lease.died() => return Departure::Fenced,
        }
    }
}

/// What is left to say where the database refuses what was to be said: why a person should look, and nothing that anybody else
/// has written. None: nothing was to be said.
fn plainer(after: &After, error: &Error) -> Option<After> {
    let Some(AttentionChange::Raise(attention)) = &after.attention else { return None };
    let message = format!("the database refuses to hold why ({error}); the worker's log says it");
    Some(After::raising(Attention::new(attention.reason(), message)))
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
            workflow.id = %hold.workflow, workflow.kind = hold.kind, reason = attention.reason(),
            "{}; trying again in {} s", attention.message(), wait.as_secs()
        );
    }
}
