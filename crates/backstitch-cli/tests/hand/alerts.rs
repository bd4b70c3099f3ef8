//! Who is told of an alert: the log of a daemon, and a webhook, whatever becomes of the other?

use std::sync::{Arc, Mutex};

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::post;
use backstitch::Client;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use crate::daemon::{Daemon, serve};
use crate::toys::{self, Toy};
use crate::world::World;

const SAID: &str = "a person should look";

/// A stand-in for what takes alerts: it shows each to the test, and answers what the test decides.
struct Hook {
    url: String,
    heard: UnboundedReceiver<Value>,
}

type Answer = Arc<dyn Fn(&Value) -> Option<StatusCode> + Send + Sync>;

impl Hook {
    /// None: it hangs.
    async fn new(answer: impl Fn(&Value) -> Option<StatusCode> + Send + Sync + 'static) -> Self {
        let (told, heard) = unbounded_channel();
        let answer: Answer = Arc::new(answer);
        let hear = async |State((told, answer)): State<(UnboundedSender<Value>, Answer)>,
                          body: axum::Json<Value>| {
            let answered = answer(&body);
            // A test that is over listens no more.
            let _ = told.send(body.0);
            match answered {
                Some(status) => status,
                None => std::future::pending().await,
            }
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/alerts", listener.local_addr().unwrap());
        let router = Router::new().route("/alerts", post(hear)).with_state((told, answer));
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { url, heard }
    }

    async fn daemon(&self, world: &World) -> Daemon {
        let mut command = serve(world);
        command.env("BACKSTITCH_ALERT_WEBHOOK", &self.url);
        Daemon::start(command).await
    }
}

/// With so many open alerts of one workflow that needs attention. Their messages are their numbers but for the first, which
/// its worker raised.
async fn with_alerts(alerts: i32) -> (World, Client, Value) {
    let world = World::new().await;
    let worker = toys::worker(&world).await;
    let client = world.client().await;
    let handle = client.enqueue(Toy { fails: true, sticks: true }).send().await.unwrap();
    client.wait(&handle).await.unwrap();
    worker.shut_down().await;
    let more = "insert into backstitch.alert (workflow_id, reason, message, raised_at) \
        select a.workflow_id, a.reason, n::text, a.raised_at \
        from backstitch.alert a cross join generate_series(2, $1) n";
    sqlx::query(more).bind(alerts).execute(&world.database.pool().await).await.unwrap();
    (world, client, json!(handle.workflow))
}

async fn until_all_are_logged(client: &Client) {
    while !client.alerts_to_log().await.unwrap().is_empty() {
        tokio::task::yield_now().await;
    }
}

async fn until_all_are_delivered(client: &Client) {
    while !client.alerts_to_deliver(0).await.unwrap().is_empty() {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn an_alert_is_posted_until_the_webhook_takes_it() {
    let (world, client, workflow) = with_alerts(1).await;
    assert_eq!(client.alerts_to_deliver(0).await.unwrap().len(), 1);

    // The first answer is no; the second takes it.
    let is_first = Mutex::new(true);
    let mut hook = Hook::new(move |_| {
        let first = std::mem::take(&mut *is_first.lock().unwrap());
        Some(if first { StatusCode::INTERNAL_SERVER_ERROR } else { StatusCode::NO_CONTENT })
    })
    .await;
    let daemon = hook.daemon(&world).await;
    let heard = [hook.heard.recv().await.unwrap(), hook.heard.recv().await.unwrap()];
    until_all_are_delivered(&client).await;
    let (code, log) = daemon.stop().await;
    assert_eq!(code, 0);
    assert_eq!(heard[0], heard[1], "the same alert again");
    assert_eq!((&heard[0]["kind"], &heard[0]["workflow"]), (&json!("toy"), &workflow));
    assert!(log.contains("500 Internal Server Error"), "{log}");
    assert!(!log.contains("/alerts"), "the webhook's path is a secret: {log}");
}

#[tokio::test]
async fn what_a_daemon_without_a_webhook_logs_is_posted_by_one_that_has_one() {
    let (world, client, workflow) = with_alerts(1).await;
    let mut plain = Daemon::start(serve(&world)).await;
    plain.says(SAID).await;
    until_all_are_logged(&client).await;
    let mut hook = Hook::new(|_| Some(StatusCode::OK)).await;
    let daemon = hook.daemon(&world).await;
    assert_eq!(hook.heard.recv().await.unwrap()["workflow"], workflow);
    until_all_are_delivered(&client).await;
    let (_, log) = daemon.stop().await;
    assert!(!log.contains(SAID), "it is in one log already: {log}");
    plain.stop().await;
}

#[tokio::test]
async fn what_the_webhook_refuses_keeps_no_other_alert_waiting() {
    let (world, client, _) = with_alerts(120).await;
    let mut hook = Hook::new(|alert| {
        Some(if alert["message"] == "120" { StatusCode::OK } else { StatusCode::UNPROCESSABLE_ENTITY })
    })
    .await;
    let daemon = hook.daemon(&world).await;
    while hook.heard.recv().await.unwrap()["message"] != "120" {}
    until_all_are_logged(&client).await;
    daemon.stop().await;
    assert_eq!(client.alerts_to_deliver(0).await.unwrap().len(), 119, "the others are tried again");
}

#[tokio::test]
async fn one_that_the_webhook_hangs_at_keeps_nothing_from_the_log_and_comes_after_the_rest() {
    let (world, client, _) = with_alerts(3).await;
    let mut hook = Hook::new(|alert| match alert["message"].as_str() {
        Some("2" | "3") => Some(StatusCode::OK),
        _ => None,
    })
    .await;
    let mut daemon = hook.daemon(&world).await;
    for _ in 0..3 {
        daemon.says(SAID).await;
    }
    let first = hook.heard.recv().await.unwrap();
    assert!(hook.heard.try_recv().is_err(), "the log has them all while it hangs at the first");
    let second = hook.heard.recv().await.unwrap();
    assert_ne!(first["alert"], second["alert"], "it is not its turn again before the others were tried");
    while client.alerts_to_deliver(0).await.unwrap().len() > 1 {
        tokio::task::yield_now().await;
    }
    daemon.stop().await;
}

#[tokio::test]
async fn an_alert_that_needs_nobody_any_more_is_not_told() {
    let (world, client, _) = with_alerts(2).await;
    let resolved = "update backstitch.alert set resolved_at = backstitch.clock() where message <> '2'";
    sqlx::query(resolved).execute(&world.database.pool().await).await.unwrap();
    let mut hook = Hook::new(|_| Some(StatusCode::OK)).await;
    let daemon = hook.daemon(&world).await;
    assert_eq!(hook.heard.recv().await.unwrap()["message"], "2");
    until_all_are_logged(&client).await;
    let (_, log) = daemon.stop().await;
    assert_eq!(log.matches(SAID).count(), 1, "{log}");
}

#[tokio::test]
async fn a_webhook_that_is_not_plain_http_is_refused() {
    let world = World::new().await;
    for (url, said) in [("https://hooks.example.com/sesame", "only plain http"), ("sesame", "give a URL")] {
        let ran = world.run(&["serve", "--without-gateway", "--alert-webhook", url]).await;
        let ran = ran.complains(2, &["--alert-webhook", said]);
        assert!(!ran.err.contains("sesame"), "{ran:?}");
    }
}
