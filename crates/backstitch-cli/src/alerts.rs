//! Who is told that something needs a person?
//!
//! The log of one of the daemons at once, and the webhook of one that has one. Neither waits for the other, and each is
//! marked by itself: a daemon without a webhook takes no alert from one that has one.

mod webhook;

use std::collections::HashSet;
use std::time::Duration;

use backstitch::{AlertView, Client, Error};
use reqwest::Url;
use tokio_util::sync::CancellationToken;

/// How often to look for new alerts. They are rare, and a person takes longer than this to read one.
const LOOK: Duration = Duration::from_secs(1);

/// How long to wait after the database did not answer, or the webhook did not: at first, and at most.
const PAUSE_FIRST: Duration = Duration::from_secs(1);
const PAUSE_MAX: Duration = Duration::from_secs(60);

/// Tells of alerts until `stop`. At least once each; the number in `alert` tells a repetition.
pub async fn tell(client: Client, webhook: Option<Url>, stop: CancellationToken) {
    let post = async {
        if let Some(url) = webhook {
            webhook::post(&client, url).await;
        }
    };
    stop.run_until_cancelled(async { tokio::join!(log(&client), post) }).await;
}

async fn log(client: &Client) {
    let (mut logged, mut pause) = (HashSet::new(), PAUSE_FIRST);
    loop {
        match log_new(client, &mut logged).await {
            Ok(()) => {
                pause = PAUSE_FIRST;
                tokio::time::sleep(LOOK).await;
            }
            Err(error) => {
                tracing::warn!(%error, retry_seconds = pause.as_secs(), "alerts could not be looked for");
                tokio::time::sleep(pause).await;
                pause = doubled(pause);
            }
        }
    }
}

/// Logs what is new. What is in `logged` could not be marked, and is not logged once more for that.
async fn log_new(client: &Client, logged: &mut HashSet<i64>) -> Result<(), Error> {
    loop {
        let alerts = client.alerts_to_log().await?;
        if alerts.is_empty() {
            logged.clear();
            return Ok(());
        }
        for alert in alerts.iter().filter(|alert| logged.insert(alert.alert)) {
            say(alert);
        }
        let numbers: Vec<_> = alerts.iter().map(|alert| alert.alert).collect();
        client.alerts_logged(&numbers).await?;
    }
}

fn say(alert: &AlertView) {
    tracing::error!(
        alert = alert.alert,
        workflow.id = %alert.workflow,
        workflow.kind = alert.kind,
        reason = alert.reason,
        message = alert.message,
        "a person should look"
    );
}

fn doubled(pause: Duration) -> Duration {
    (pause * 2).min(PAUSE_MAX)
}
