//! Who is told that something needs a person?

use std::collections::HashSet;
use std::time::Duration;

use backstitch::{AlertView, Client};
use reqwest::Url;
use tokio_util::sync::CancellationToken;

/// How often to look for new alerts. They are rare, and a person takes longer than this to read one.
const LOOK: Duration = Duration::from_secs(1);

/// How long to wait after the webhook did not take one: at first, and at most.
const PAUSE_FIRST: Duration = Duration::from_secs(1);
const PAUSE_MAX: Duration = Duration::from_secs(60);

/// How long the webhook may take. Nothing waits for it but the next alert.
const POST_TIME: Duration = Duration::from_secs(10);

/// Tells of alerts until `stop`: the log at once, and the webhook until it has answered 2xx. Without a webhook the log is
/// the one who is told. At least once each; the number in `alert` tells a repetition.
pub async fn tell(client: Client, webhook: Option<Url>, stop: CancellationToken) {
    let post = match reqwest::Client::builder()
        .timeout(POST_TIME)
        .redirect(reqwest::redirect::Policy::none())
        .build()
    {
        Ok(http) => webhook.map(|url| (http, url)),
        Err(error) => {
            tracing::error!(%error, "alerts go to the log only: the webhook's client can't be made");
            None
        }
    };
    let mut logged = HashSet::new();
    let mut pause = PAUSE_FIRST;
    loop {
        let round = stop.run_until_cancelled(round(&client, post.as_ref(), &mut logged)).await;
        let wait = match round {
            None => return,
            Some(Ok(())) => {
                pause = PAUSE_FIRST;
                LOOK
            }
            Some(Err(problem)) => {
                tracing::warn!(problem, retry_seconds = pause.as_secs(), "alerts could not be delivered");
                let wait = pause;
                pause = (pause * 2).min(PAUSE_MAX);
                wait
            }
        };
        if stop.run_until_cancelled(tokio::time::sleep(wait)).await.is_none() {
            return;
        }
    }
}

async fn round(
    client: &Client,
    post: Option<&(reqwest::Client, Url)>,
    logged: &mut HashSet<i64>,
) -> Result<(), String> {
    let alerts = client.alerts_to_deliver().await.map_err(|error| error.to_string())?;
    logged.retain(|number| alerts.iter().any(|alert| alert.alert == *number));
    let mut problem = Ok(());
    for alert in alerts {
        if logged.insert(alert.alert) {
            log(&alert);
        }
        let told = match post {
            Some((http, url)) => deliver(http, url, &alert).await,
            None => Ok(()),
        };
        // One that the webhook does not take keeps nobody from hearing of the next.
        match told {
            Ok(()) => client.alert_delivered(alert.alert).await.map_err(|error| error.to_string())?,
            Err(error) => problem = Err(error),
        }
    }
    problem
}

fn log(alert: &AlertView) {
    tracing::error!(
        alert = alert.alert,
        workflow.id = %alert.workflow,
        workflow.kind = alert.kind,
        reason = alert.reason,
        message = alert.message,
        "a person should look"
    );
}

async fn deliver(http: &reqwest::Client, url: &Url, alert: &AlertView) -> Result<(), String> {
    // The URL is left out of errors: the paths of webhooks are secrets.
    let answer = http.post(url.clone()).json(alert).send().await.map_err(|error| {
        format!("the webhook can't be reached: {}", crate::exit::Failed::because(&error.without_url(), ""))
    })?;
    match answer.status() {
        status if status.is_success() => Ok(()),
        status => Err(format!("the webhook answered {status} to alert {}", alert.alert)),
    }
}
