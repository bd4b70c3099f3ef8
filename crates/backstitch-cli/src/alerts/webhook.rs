//! How does the webhook hear of each alert, whatever it makes of the others?
//!
//! An alert that it refuses has a pause of its own, and keeps no other waiting. One that it does not answer to ends the
//! round: it would hang at the next, too. A round begins with what was never tried, so one that it always hangs at comes last.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use backstitch::{AlertView, Client};
use reqwest::Url;
use tokio::time::Instant;

use super::{LOOK, PAUSE_FIRST, doubled};
use crate::exit::Failed;

/// How long the webhook may take. Nothing waits for it but the next alert.
const POST_TIME: Duration = Duration::from_secs(10);

/// Posts each alert until it has answered 2xx. Goes on for ever.
pub async fn post(client: &Client, url: Url) {
    let http =
        reqwest::Client::builder().timeout(POST_TIME).redirect(reqwest::redirect::Policy::none()).build();
    let webhook = match http {
        Ok(http) => Webhook { http, url },
        Err(error) => {
            tracing::error!(%error, "alerts go to the log only: the webhook's client can't be made");
            return;
        }
    };
    let (mut tried, mut pause) = (Tried::default(), PAUSE_FIRST);
    loop {
        match round(client, &webhook, &mut tried).await {
            Ok(()) => {
                pause = PAUSE_FIRST;
                tokio::time::sleep(LOOK).await;
            }
            Err(problem) => {
                tracing::warn!(problem, retry_seconds = pause.as_secs(), "alerts could not be delivered");
                tokio::time::sleep(pause).await;
                pause = doubled(pause);
            }
        }
    }
}

/// Posts what was never tried, then what may be tried again. Err: nobody is there to ask for more.
async fn round(client: &Client, webhook: &Webhook, tried: &mut Tried) -> Result<(), String> {
    let (mut seen, mut again, mut last) = (HashSet::new(), Vec::new(), 0);
    loop {
        let page = client.alerts_to_deliver(last).await.map_err(|error| error.to_string())?;
        let Some(end) = page.last() else { break };
        last = end.alert;
        for alert in page {
            seen.insert(alert.alert);
            match tried.may_be_tried_again(alert.alert) {
                None => deliver(client, webhook, tried, &alert).await?,
                Some(true) => again.push(alert),
                Some(false) => {}
            }
        }
    }
    tried.keep(&seen);
    for alert in again {
        deliver(client, webhook, tried, &alert).await?;
    }
    Ok(())
}

async fn deliver(
    client: &Client,
    webhook: &Webhook,
    tried: &mut Tried,
    alert: &AlertView,
) -> Result<(), String> {
    match webhook.ask(alert).await {
        Ok(()) => client.alert_delivered(alert.alert).await.map_err(|error| error.to_string()),
        Err(NotTaken::Refused(problem)) => {
            let pause = tried.not_taken(alert.alert);
            tracing::warn!(problem, retry_seconds = pause.as_secs(), "an alert could not be delivered");
            Ok(())
        }
        Err(NotTaken::NoAnswer(problem)) => {
            tried.not_taken(alert.alert);
            Err(problem)
        }
    }
}

/// Whoever is asked to take alerts.
struct Webhook {
    http: reqwest::Client,
    url: Url,
}

/// Why it did not take one.
enum NotTaken {
    /// It said no to this one.
    Refused(String),
    /// It said nothing.
    NoAnswer(String),
}

impl Webhook {
    async fn ask(&self, alert: &AlertView) -> Result<(), NotTaken> {
        // The URL is left out of errors: the paths of webhooks are secrets.
        let answer = self.http.post(self.url.clone()).json(alert).send().await.map_err(|error| {
            let cause = Failed::because(&error.without_url(), "");
            NotTaken::NoAnswer(format!("the webhook can't be reached: {cause}"))
        })?;
        match answer.status() {
            status if status.is_success() => Ok(()),
            status => {
                Err(NotTaken::Refused(format!("the webhook answered {status} to alert {}", alert.alert)))
            }
        }
    }
}

/// The alerts that were not taken, and when each may be tried again.
#[derive(Default)]
struct Tried(HashMap<i64, Try>);

struct Try {
    pause: Duration,
    again_at: Instant,
}

impl Tried {
    /// None: it was never tried.
    fn may_be_tried_again(&self, alert: i64) -> Option<bool> {
        self.0.get(&alert).map(|tried| tried.again_at <= Instant::now())
    }

    /// For how long it is left alone now.
    fn not_taken(&mut self, alert: i64) -> Duration {
        let pause = self.0.get(&alert).map_or(PAUSE_FIRST, |tried| doubled(tried.pause));
        self.0.insert(alert, Try { pause, again_at: Instant::now() + pause });
        pause
    }

    /// Forgets those that are delivered or resolved.
    fn keep(&mut self, waiting: &HashSet<i64>) {
        self.0.retain(|alert, _| waiting.contains(alert));
    }
}
